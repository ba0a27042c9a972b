/* artifacts: get, decode, give the bytes back. */
#include "lib/learn/artifacts.h"

enum err_kind artifact_model(struct registry *g, struct bytes name, struct model *m,
                             struct err *e) {
    struct buf file = {0};
    *m = (struct model){0};
    if (!registry_get_artifact(g, name, &file, e)) (void)!model_load(buf_bytes(&file), m, e);
    buf_free(&file);
    return e->kind;
}

enum err_kind artifact_lineage(struct registry *g, struct bytes name, struct lineage *l,
                               struct err *e) {
    struct buf file = {0};
    *l = (struct lineage){0};
    if (!registry_get_artifact(g, name, &file, e)) (void)!lineage_decode(buf_bytes(&file), l, e);
    buf_free(&file);
    return e->kind;
}

enum err_kind artifact_rows(struct registry *g, struct bytes name, struct rows *r, struct err *e) {
    struct buf file = {0};
    if (!registry_get_artifact(g, name, &file, e)) (void)!rows_unpack(r, buf_bytes(&file), e);
    buf_free(&file);
    return e->kind;
}

enum err_kind artifact_held_out(struct registry *g, const struct trained *m, struct rows *r,
                                struct err *e) {
    struct lineage l;
    if (artifact_lineage(g, m->lineage, &l, e) || artifact_rows(g, bytes_of(l.evaluation), r, e))
        err_in(e, "version %lld", (long long)m->version);
    lineage_free(&l);
    return e->kind;
}
