/*
 * bench: what the programs of the benchmark share. They are clients of the fleet, on librdkafka
 * directly, so that what they measure does not pass through the code that is measured. A program
 * that cannot go on says why and ends with 1; each prints one line of JSON, for tests/bench/run.
 */
#ifndef DARKROOM_TESTS_BENCH_BENCH_H
#define DARKROOM_TESTS_BENCH_BENCH_H

#include "lib/base/bytes.h"

#include <librdkafka/rdkafka.h>

_Noreturn void die(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void must(rd_kafka_error_t *error); /* NULL is success */

double seconds_now(void);  /* CLOCK_MONOTONIC, the same in every process of the machine */
double seconds_used(void); /* processor time of this process, all threads */

/* Properties are pairs of name and value that end with NULL; they win over the defaults here: short
   back-offs, no Nagle, big queues. */
rd_kafka_t *bench_consumer(const char *brokers, const char *group, ...);
rd_kafka_t *bench_producer(const char *brokers, ...);

/* Partitions first, first + step, … of a topic from its beginning (RD_KAFKA_OFFSET_BEGINNING) or
   from its end as it is now. Returns how many partitions the topic has. */
int bench_assign(rd_kafka_t *consumer, const char *topic, int first, int step, int64_t from);

/* Headers of an output: as many, of as many bytes together, as `headers` and `bytes` say. Made anew
 * for each. */
rd_kafka_headers_t *bench_headers(int headers, int bytes);

/* PNG files anywhere below a folder, in memory: at most `most`, taken evenly from all of them. */
struct files {
    struct bytes *list;
    char **label; /* the name of the file's folder */
    size_t count;
};
struct files files_load(const char *folder, size_t most);

#endif
