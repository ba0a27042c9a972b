/* clock: the system's clocks, or one that tests move by hand. */
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

/* n digits of v that end before `end`. Every record that leaves has a time in it: strftime costs
 * too much. */
static void put_digits(char *end, int64_t v, int n) {
    for (; n--; v /= 10) *--end = (char)('0' + v % 10);
}

/* Days since 1970 to a date: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms",
 * civil_from_days. */
static void date_of(int64_t days, int64_t *year, int64_t *month, int64_t *day) {
    int64_t z = days + 719468, era = (z >= 0 ? z : z - 146096) / 146097, doe = z - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
    *day = doy - (153 * mp + 2) / 5 + 1;
    *month = mp < 10 ? mp + 3 : mp - 9;
    *year = yoe + era * 400 + (*month <= 2);
}

void clock_format(int64_t ms, char out[CLOCK_RFC3339_LEN + 1]) {
    enum { DAY_MS = 86400000 };
    const int64_t first = -62167219200000, last = 253402300799999; /* of the years 0 and 9999 */
    ms = ms < first ? first : ms > last ? last : ms;
    int64_t days = (ms - (ms < 0 ? DAY_MS - 1 : 0)) / DAY_MS, year, month, day;
    ms -= days * DAY_MS;
    date_of(days, &year, &month, &day);
    memcpy(out, "0000-00-00T00:00:00.000Z", CLOCK_RFC3339_LEN + 1);
    put_digits(out + 4, year, 4);
    put_digits(out + 7, month, 2);
    put_digits(out + 10, day, 2);
    put_digits(out + 13, ms / 3600000, 2);
    put_digits(out + 16, ms / 60000 % 60, 2);
    put_digits(out + 19, ms / 1000 % 60, 2);
    put_digits(out + 23, ms % 1000, 3);
}

/* `n` digits at *p, which moves behind them; -1 when they are not there. */
static int digits(const char **p, int n) {
    int v = 0;
    for (; n--; (*p)++) {
        if (**p < '0' || **p > '9') return -1;
        v = v * 10 + (**p - '0');
    }
    return v;
}

/* The same, from least to most, and the mark behind them (NULL: none) out of `marks`. */
static bool field(const char **p, int n, int least, int most, const char *marks, int *out) {
    *out = digits(p, n);
    if (*out < least || *out > most) return false;
    if (!marks) return true;
    return **p && strchr(marks, *(*p)++);
}

enum err_kind clock_parse(struct bytes text, int64_t *ms, struct err *e) {
    static const int month_days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    char s[48];
    struct tm t = {0};
    int year, zh = 0, zm = 0;
    if (!text.data || text.len >= sizeof s) goto bad;
    memcpy(s, text.data, text.len);
    s[text.len] = 0;
    const char *p = s;
    if (!field(&p, 4, 0, 9999, "-", &year) || !field(&p, 2, 1, 12, "-", &t.tm_mon) ||
        !field(&p, 2, 1, 31, "Tt ", &t.tm_mday) || !field(&p, 2, 0, 23, ":", &t.tm_hour) ||
        !field(&p, 2, 0, 59, ":", &t.tm_min) || !field(&p, 2, 0, 60, NULL, &t.tm_sec))
        goto bad;
    t.tm_year = year - 1900;
    t.tm_mon--;
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    if (t.tm_mday > month_days[t.tm_mon] + (leap && t.tm_mon == 1)) goto bad;
    int64_t fraction = 0, unit = 100;
    if (*p == '.') {
        if (p[1] < '0' || p[1] > '9') goto bad;
        for (p++; *p >= '0' && *p <= '9'; p++, unit /= 10) fraction += (*p - '0') * unit;
    }
    char zone = *p++;
    if (zone == '+' || zone == '-') {
        if (!field(&p, 2, 0, 23, ":", &zh) || !field(&p, 2, 0, 59, NULL, &zm)) goto bad;
    } else if (zone != 'Z' && zone != 'z') {
        goto bad;
    }
    if (p != s + text.len) goto bad;
    int64_t offset = (int64_t)(zh * 60 + zm) * 60;
    *ms = ((int64_t)timegm(&t) - (zone == '-' ? -offset : offset)) * 1000 + fraction;
    return ERR_NONE;
bad:
    return err_bad(e, REASON_BAD_EVENT, "a time must be RFC 3339, like 2026-01-31T12:00:00Z");
}
