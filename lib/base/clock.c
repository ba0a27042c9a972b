#define _GNU_SOURCE
#include "lib/base/clock.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static bool simulated;
static int64_t simulated_us;

static int64_t read_us(clockid_t which) {
    struct timespec t;
    clock_gettime(which, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int64_t clock_now_ms(void) {
    return (simulated ? simulated_us : read_us(CLOCK_REALTIME)) / 1000;
}

int64_t clock_monotonic_us(void) {
    return simulated ? simulated_us : read_us(CLOCK_MONOTONIC);
}

void clock_sleep_ms(int64_t ms) {
    if (ms <= 0) return;
    if (simulated) {
        simulated_us += ms * 1000;
        return;
    }
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&t, NULL); /* a signal cuts it short: callers look at their stop flag */
}

void clock_simulate(int64_t wall_ms) {
    simulated = wall_ms >= 0;
    simulated_us = wall_ms * 1000;
}

void clock_format(int64_t ms, char out[CLOCK_RFC3339_LEN + 1]) {
    time_t s = (time_t)(ms / 1000);
    int rest = (int)(ms % 1000);
    if (rest < 0) rest += 1000, s--;
    struct tm t;
    gmtime_r(&s, &t);
    char text[80];
    snprintf(text, sizeof text, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", t.tm_year + 1900,
             t.tm_mon + 1, t.tm_mday, t.tm_hour, t.tm_min, t.tm_sec, rest);
    memcpy(out, text, CLOCK_RFC3339_LEN);
    out[CLOCK_RFC3339_LEN] = 0;
}

enum err_kind clock_parse(struct bytes text, int64_t *ms, struct err *e) {
    char s[48], zone = 0;
    int y, mo, d, h, mi, sec, used = 0, zh = 0, zm = 0;
    if (!text.data || text.len >= sizeof s) goto bad;
    memcpy(s, text.data, text.len);
    s[text.len] = 0;
    if (sscanf(s, "%4d-%2d-%2d%*1[Tt ]%2d:%2d:%2d%n", &y, &mo, &d, &h, &mi, &sec, &used) != 6 || !used)
        goto bad;
    if (mo < 1 || mo > 12 || d < 1 || d > 31 || h > 23 || mi > 59 || sec > 60) goto bad;
    if (h < 0 || mi < 0 || sec < 0 || y < 0) goto bad;
    const char *p = s + used;
    int64_t fraction = 0, unit = 100;
    if (*p == '.') {
        if (p[1] < '0' || p[1] > '9') goto bad;
        for (p++; *p >= '0' && *p <= '9'; p++, unit /= 10) fraction += (*p - '0') * unit;
    }
    zone = *p++;
    if (zone == 'Z' || zone == 'z') {
        if (*p) goto bad;
    } else if (zone == '+' || zone == '-') {
        int n = 0;
        if (sscanf(p, "%2d:%2d%n", &zh, &zm, &n) != 2 || p[n] || zh > 23 || zm > 59) goto bad;
        if (zh < 0 || zm < 0) goto bad;
    } else {
        goto bad;
    }
    struct tm t = {.tm_year = y - 1900, .tm_mon = mo - 1, .tm_mday = d, .tm_hour = h, .tm_min = mi, .tm_sec = sec};
    int64_t offset = (int64_t)(zh * 60 + zm) * 60;
    *ms = ((int64_t)timegm(&t) - (zone == '-' ? -offset : offset)) * 1000 + fraction;
    return ERR_NONE;
bad:
    return err_bad(e, REASON_BAD_EVENT, "a time must be RFC 3339, like 2026-01-31T12:00:00Z");
}
