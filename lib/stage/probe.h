/*
 * probe: what orchestrators and Prometheus ask over HTTP, on a thread of its own.
 *
 *     /metrics  the figures
 *     /healthz  200 while the loop gives signs of life; the broker's health is not the worker's
 *     /readyz   200 when it works, else 503 and one line that says why not
 */
#ifndef DARKROOM_STAGE_PROBE_H
#define DARKROOM_STAGE_PROBE_H

#include "lib/stage/metrics.h"

struct probe;

/* The usual port; it is listened on only where the setting says so. */
enum { PROBE_PORT = 9401, PROBE_ADDRESS_LEN = 64, PROBE_BEAT_MS = 60000 };

/* "9401" is the loopback's port, ":9401" every address's, "10.0.0.1:9401" and "[::1]:9401" one
   address's. False: it is none of these. Port 0 takes a free one. */
bool probe_address_is_valid(const char *address);
/* NULL and ERR_FATAL when the address cannot be listened on. */
struct probe *probe_start(const char *address, const struct stage *s, struct stage_metrics *m,
                          struct err *e);
int probe_port(const struct probe *p);
void probe_stop(struct probe *p); /* NULL is fine */

#endif
