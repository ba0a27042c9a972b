/*
 * metrics.c: figures of the loop, and their page for Prometheus.
 */
#define _GNU_SOURCE
#include "lib/stage/metrics.h"

#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/base/version.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Upper bounds in seconds: a commit takes milliseconds, a training run minutes. */
static const double bounds[METRICS_BUCKETS - 1] = {
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800};

void metrics_init(struct stage_metrics *m) {
    pthread_mutex_init(&m->lock, NULL);
    m->began_ms = clock_now_ms();
    m->event_age_ms = -1;
    m->lag = -1;
    metrics_beat(m);
    metrics_ready(m, "starting");
}

void metrics_observe(struct histogram *h, int64_t us) {
    int i = 0;
    while (i < METRICS_BUCKETS - 1 && (double)us > bounds[i] * 1e6) i++;
    h->count[i]++;
    h->sum_us += (uint64_t)(us > 0 ? us : 0);
}

void metrics_beat(struct stage_metrics *m) {
    m->beat_us = clock_monotonic_us();
}

void metrics_ready(struct stage_metrics *m, const char *why_not) {
    pthread_mutex_lock(&m->lock);
    snprintf(m->not_ready, sizeof m->not_ready, "%s", why_not ? why_not : "");
    pthread_mutex_unlock(&m->lock);
}

void metrics_count_model(struct stage_metrics *m, const struct model_count *c) {
    struct model_count *to = NULL;
    pthread_mutex_lock(&m->lock);
    for (size_t i = 0; i < m->by_model_count && !to; i++)
        if (m->by_model[i].version == c->version && !strcmp(m->by_model[i].model, c->model))
            to = &m->by_model[i];
    if (!to) {
        to = &m->by_model[0];
        if (m->by_model_count < METRICS_MODELS)
            to = &m->by_model[m->by_model_count++];
        else
            for (size_t i = 1; i < METRICS_MODELS; i++)
                if (m->by_model[i].turn < to->turn) to = &m->by_model[i];
        *to = *c;
        to->n = 0;
    }
    to->n += c->n;
    to->turn = ++m->turn;
    pthread_mutex_unlock(&m->lock);
}

void metrics_show(struct stage_metrics *m, const struct stage *s, const void *state) {
    if (!s->show) return;
    m->showing.count = m->showing.left_out = 0;
    s->show(state, &m->showing);
    if (m->showing.left_out && !m->said_too_many)
        log_warn("metrics show %d models; %zu more have no gauges", METRICS_MODELS,
                 m->showing.left_out);
    m->said_too_many = m->said_too_many || m->showing.left_out;
    pthread_mutex_lock(&m->lock);
    m->shown = m->showing;
    pthread_mutex_unlock(&m->lock);
}

void stage_show(struct shown *to, struct bytes model, const double values[STAGE_GAUGES]) {
    if (!event_model_is_valid(model)) return;
    if (to->count == METRICS_MODELS) {
        to->left_out++;
        return;
    }
    snprintf(to->rows[to->count].model, sizeof to->rows->model, "%.*s", (int)model.len,
             (const char *)model.data);
    memcpy(to->rows[to->count++].values, values, sizeof to->rows->values);
}

static void head(struct buf *out, const char *name, const char *type, const char *help) {
    buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void whole(struct buf *out, const char *stage, const char *name, const char *type,
                  const char *help, uint64_t value) {
    head(out, name, type, help);
    buf_printf(out, "%s{stage=\"%s\"} %" PRIu64 "\n", name, stage, value);
}

/* NAN: not known, so there is no series. */
static void real(struct buf *out, const char *stage, const char *name, const char *type,
                 const char *help, double value) {
    head(out, name, type, help);
    if (!isnan(value)) buf_printf(out, "%s{stage=\"%s\"} %.15g\n", name, stage, value);
}

static void durations(struct buf *out, const char *stage, const char *name, const char *help,
                      struct histogram *h) {
    uint64_t sum = 0;
    head(out, name, "histogram", help);
    for (int i = 0; i < METRICS_BUCKETS; i++) {
        sum += h->count[i];
        if (i < METRICS_BUCKETS - 1)
            buf_printf(out, "%s_bucket{stage=\"%s\",le=\"%g\"} %" PRIu64 "\n", name, stage,
                       bounds[i], sum);
    }
    buf_printf(out, "%s_bucket{stage=\"%s\",le=\"+Inf\"} %" PRIu64 "\n", name, stage, sum);
    buf_printf(out, "%s_sum{stage=\"%s\"} %.6f\n%s_count{stage=\"%s\"} %" PRIu64 "\n", name, stage,
               (double)h->sum_us / 1e6, name, stage, sum);
}

static void write_outputs(struct stage_metrics *m, const struct stage *s, struct buf *out) {
    head(out, "darkroom_outputs_total", "counter", "Records sent, by topic.");
    for (int i = 0; i < STAGE_OUTPUTS; i++)
        if (s->out[i] != TOPIC_NONE)
            buf_printf(out, "darkroom_outputs_total{stage=\"%s\",topic=\"%s\"} %" PRIu64 "\n",
                       s->name, topic_info(s->out[i])->name, (uint64_t)m->outputs[i]);
    if (s->replies)
        buf_printf(out, "darkroom_outputs_total{stage=\"%s\",topic=\"reply\"} %" PRIu64 "\n",
                   s->name, (uint64_t)m->replies);

    bool letters = topic_dead_letters(s->in) != TOPIC_NONE;
    const char *refused = letters ? "darkroom_dead_letters_total" : "darkroom_error_results_total";
    head(out, refused, "counter",
         letters ? "Records refused, by reason." : "Requests answered with an error, by reason.");
    for (int i = REASON_NONE + 1; i < REASON_COUNT; i++)
        buf_printf(out, "%s{stage=\"%s\",reason=\"%s\"} %" PRIu64 "\n", refused, s->name,
                   reason_code((enum reason)i), (uint64_t)m->refused[i]);

    for (int i = 0; i < STAGE_COUNTERS && s->counters[i]; i++) {
        char name[96];
        snprintf(name, sizeof name, "darkroom_%s_total", s->counters[i]);
        whole(out, s->name, name, "counter", "Counted by the stage itself.", m->counters[i]);
    }
}

/* Names of models need no escape (proto/event.h). */
static void write_models(struct stage_metrics *m, const struct stage *s, struct buf *out) {
    char name[96];
    pthread_mutex_lock(&m->lock);
    snprintf(name, sizeof name, "darkroom_%s_total", s->by_model ? s->by_model : "");
    if (s->by_model) head(out, name, "counter", "Counted by the stage itself, by model.");
    for (size_t i = 0; i < m->by_model_count; i++) {
        const struct model_count *c = &m->by_model[i];
        buf_printf(out, "%s{stage=\"%s\",model=\"%s\"", name, s->name, c->model);
        if (c->version) buf_printf(out, ",version=\"%" PRId64 "\"", c->version);
        buf_printf(out, "} %" PRIu64 "\n", c->n);
    }
    for (int i = 0; s->gauges && i < STAGE_GAUGES && s->gauges[i].name; i++) {
        snprintf(name, sizeof name, "darkroom_%s", s->gauges[i].name);
        head(out, name, "gauge", s->gauges[i].help);
        for (size_t k = 0; k < m->shown.count; k++)
            if (!isnan(m->shown.rows[k].values[i]))
                buf_printf(out, "%s{stage=\"%s\",model=\"%s\"} %.15g\n", name, s->name,
                           m->shown.rows[k].model, m->shown.rows[k].values[i]);
    }
    pthread_mutex_unlock(&m->lock);
}

/* Fields 14, 15 and 24 of /proc/self/stat: user and system ticks, pages. The beginning is noted once:
   reckoned anew from field 22 and the uptime it would tremble, and look like a restart. */
static void write_process(struct stage_metrics *m, const char *stage, struct buf *out) {
    char text[1024] = "";
    FILE *f = fopen("/proc/self/stat", "re");
    if (!f) return;
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = 0;
    const char *p = strrchr(text, ')'); /* a program's name may have blanks */
    uint64_t user, system, pages;
    if (!p || sscanf(p + 1,
                     " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %" SCNu64 " %" SCNu64
                     " %*d %*d %*d %*d %*d %*d %*u %*u %" SCNu64,
                     &user, &system, &pages) != 3)
        return;
    whole(out, stage, "process_resident_memory_bytes", "gauge", "Memory in use.",
          pages * (uint64_t)sysconf(_SC_PAGESIZE));
    real(out, stage, "process_cpu_seconds_total", "counter", "Processor time used.",
         (double)(user + system) / (double)sysconf(_SC_CLK_TCK));
    real(out, stage, "process_start_time_seconds", "gauge",
         "When the process began, seconds since 1970.", (double)m->began_ms / 1000);
}

void metrics_write(struct stage_metrics *m, const struct stage *s, struct buf *out) {
    const char *name = s->name;
    whole(out, name, "darkroom_records_total", "counter",
          "Records taken from the input and committed.", m->records);
    whole(out, name, "darkroom_bytes_total", "counter", "Bytes of their keys and values.",
          m->bytes);
    write_outputs(m, s, out);
    write_models(m, s, out);
    real(out, name, "darkroom_event_age_seconds", "gauge",
         "Age of the oldest record of the last hand-over when it was committed.",
         m->event_age_ms < 0 ? NAN : (double)m->event_age_ms / 1000);
    real(out, name, "darkroom_lag_records", "gauge",
         "Records behind the end of the assigned partitions.", m->lag < 0 ? NAN : (double)m->lag);
    whole(out, name, "darkroom_assigned_partitions", "gauge",
          "Partitions of the input that this process has.", (uint64_t)m->partitions);
    durations(out, name, "darkroom_commit_seconds", "Time of one commit.", &m->commit);
    durations(out, name, "darkroom_handle_seconds", "Time of one call of the stage's handler.",
              &m->handle);
    durations(out, name, "darkroom_latency_seconds",
              "From a record's time to the commit of what became of it, each record.", &m->latency);
    whole(out, name, "darkroom_rewinds_total", "counter",
          "Times that the stage went back to the last commit.", m->rewinds);
    real(out, name, "darkroom_backoff_seconds_total", "counter",
         "Time spent waiting before repeating.", (double)m->backoff_ms / 1000);
    whole(out, name, "darkroom_retention_gap_records_total", "counter",
          "Records that retention took before they were read.", m->gaps);
    whole(out, name, "darkroom_restarts_total", "counter",
          "Deaths of the working process that its parent saw.", m->restarts);
    pthread_mutex_lock(&m->lock);
    bool ready = !*m->not_ready;
    pthread_mutex_unlock(&m->lock);
    whole(out, name, "darkroom_ready", "gauge", "1 when /readyz says so, else 0.", ready);
    real(out, name, "darkroom_heartbeat_age_seconds", "gauge",
         "Time since the loop's last sign of life.",
         (double)(clock_monotonic_us() - m->beat_us) / 1e6);
    write_process(m, name, out);
    head(out, "darkroom_build_info", "gauge", "Always 1; the version is its label.");
    buf_printf(out, "darkroom_build_info{stage=\"%s\",version=\"%s\"} 1\n", name, DARKROOM_VERSION);
}
