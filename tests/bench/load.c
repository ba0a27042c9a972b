/*
 * load: requests at the times of a Poisson process, and how long each waited for its result. The
 * time counts from when a request was meant to be sent, so a slow sender cannot make the answers
 * look quick. Results are matched by key. The first WARM_UP seconds do not count.
 *
 *   load BROKERS IN OUT FOLDER RATE SECONDS WARM_UP
 *
 * Prints {"p50_ms", "p99_ms", "mean_ms", "max_ms", "requests", "missing", "errors", "late_ms"};
 * late_ms is by how much the sender itself was late, at its 99th percentile.
 */
#define _GNU_SOURCE
#include "tests/bench/bench.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum { GIVE_UP_MS = 10000 };

struct load {
    rd_kafka_t *consumer, *producer;
    const char *in;
    struct files files;
    int count, warm;           /* requests; those that do not count */
    char run[32];              /* begins the keys of this run */
    double *due, *took, *late; /* s; took < 0: no result yet */
    int errors;
};

static void *sender(void *arg) {
    struct load *l = arg;
    prctl(PR_SET_TIMERSLACK, 1000UL);
    for (int i = 0; i < l->count; i++) {
        char key[64];
        const struct bytes *file = &l->files.list[(size_t)i % l->files.count];
        struct timespec at = {.tv_sec = (time_t)l->due[i],
                              .tv_nsec = (long)(fmod(l->due[i], 1) * 1e9)};
        int len = snprintf(key, sizeof key, "%s%d", l->run, i);
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL)) continue;
        rd_kafka_resp_err_t code = rd_kafka_producev(
            l->producer, RD_KAFKA_V_TOPIC(l->in), RD_KAFKA_V_KEY(key, (size_t)len),
            RD_KAFKA_V_VALUE((void *)file->data, file->len),
            RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END);
        if (code) die("%s: %s", l->in, rd_kafka_err2str(code));
        l->late[i] = seconds_now() - l->due[i];
        rd_kafka_poll(l->producer, 0);
    }
    return NULL;
}

/* True when it is the result of a request of ours that had none. */
static bool match(struct load *l, const rd_kafka_message_t *m) {
    size_t run = strlen(l->run);
    char number[16] = "";
    if (m->err || m->key_len <= run || m->key_len - run >= sizeof number ||
        memcmp(m->key, l->run, run) != 0)
        return false;
    memcpy(number, (const char *)m->key + run, m->key_len - run);
    int i = atoi(number);
    if (i < 0 || i >= l->count || l->took[i] >= 0) return false;
    l->took[i] = seconds_now() - l->due[i];
    l->errors += memmem(m->payload, m->len, "\"reason\"", 8) != NULL;
    return true;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    if (argc != 8) die("BROKERS IN OUT FOLDER RATE SECONDS WARM_UP");
    double rate = atof(argv[5]), seconds = atof(argv[6]), warm = atof(argv[7]);
    struct load l = {
        .in = argv[2], .files = files_load(argv[4], 2000), .count = (int)(rate * (seconds + warm))};
    l.consumer = bench_consumer(argv[1], "bench.load", NULL);
    l.producer = bench_producer(argv[1], "linger.ms", "0", NULL);
    bench_assign(l.consumer, argv[3], 0, 1, RD_KAFKA_OFFSET_END);
    snprintf(l.run, sizeof l.run, "%d.%lx-", (int)getpid(), (unsigned long)(seconds_now() * 1e3));
    l.due = mem_zeroed((size_t)l.count, sizeof *l.due);
    l.took = mem_zeroed((size_t)l.count, sizeof *l.took);
    l.late = mem_zeroed((size_t)l.count, sizeof *l.late);
    double start = seconds_now() + 0.5,
           at = start; /* the consumer has its first fetch out by then */
    srand48(1);
    for (int i = 0; i < l.count; i++) {
        l.due[i] = at += -log(1 - drand48()) / rate;
        l.took[i] = -1;
        if (at < start + warm) l.warm = i + 1;
    }

    pthread_t thread;
    pthread_create(&thread, NULL, sender, &l);
    int answered = 0;
    double give_up = l.due[l.count - 1] + GIVE_UP_MS / 1e3;
    while (answered < l.count && seconds_now() < give_up) {
        rd_kafka_message_t *m = rd_kafka_consumer_poll(l.consumer, 100);
        if (!m) continue;
        answered += match(&l, m);
        rd_kafka_message_destroy(m);
    }
    pthread_join(thread, NULL);

    int n = 0, missing = 0;
    double sum = 0;
    for (int i = l.warm; i < l.count; i++) {
        if (l.took[i] < 0)
            missing++;
        else
            sum += l.took[n++] = l.took[i];
    }
    if (!n) die("no result of %d requests came on %s", l.count, argv[3]);
    qsort(l.took, (size_t)n, sizeof *l.took, by_value);
    qsort(l.late + l.warm, (size_t)(l.count - l.warm), sizeof *l.late, by_value);
    printf("{\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"mean_ms\":%.3f,\"max_ms\":%.3f,\"requests\":%d,"
           "\"missing\":%d,\"errors\":%d,\"late_ms\":%.3f}\n",
           l.took[n / 2] * 1e3, l.took[(int)(n * 0.99)] * 1e3, sum / n * 1e3, l.took[n - 1] * 1e3,
           n + missing, missing, l.errors, l.late[l.warm + (int)((l.count - l.warm) * 0.99)] * 1e3);
    return 0;
}
