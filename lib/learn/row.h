/*
 * row: one image as Redis has it, and what a record is, given the row that is there. Little-endian:
 *
 *   u32  magic "DRI1"
 *   u32  revision          the newest
 *   u32  origin count      1..ORIGINS
 *   origins                { u64 log, i64 offset, i64 record time, u32 partition, u32 revision }
 *                          of each revision, oldest first: which records wrote this row
 *   i64  time              of the event, ms
 *   u32  height, width
 *   u24  channels
 *   u8   split             1 + enum split, for as long as the row is there; 0 in rows of long ago
 *   u8   pixel hash [32]   SHA-256
 *   u16  lengths           of id, source, label, file name; ABSENT for a label or file name that
 *                          is not there
 *   texts, then the pixels
 *
 * An origin is kept for every revision, so that a replay of an older one still finds itself and is
 * answered as the first time. After ORIGINS corrections of one image the oldest is forgotten; a
 * crash that repeats a record from before as many corrections of one image as that would take it
 * for a new one.
 */
#ifndef DARKROOM_LEARN_ROW_H
#define DARKROOM_LEARN_ROW_H

#include "lib/learn/images.h"

enum { ORIGINS = 64 };

struct origin {
    uint64_t log; /* of cluster and topic */
    int64_t offset, record_ms;
    uint32_t partition, revision;
};

struct row {
    uint32_t revision, origin_count;
    struct origin origins[ORIGINS];
    struct image_row image; /* its model is not in the row */
    struct hash pixels;
    uint8_t split; /* as it is written */
};

void row_encode(const struct row *r, struct buf *out); /* overwritten */
/* What is parsed borrows from data. False: not a row, or one of a newer Darkroom. */
bool row_parse(struct bytes data, struct row *r) MUST_CHECK;
/* Of a row's bytes those that every revision changes. */
struct bytes row_head(struct bytes data, const struct row *r);
bool row_same_text(struct bytes a, struct bytes b); /* absent is not the empty text */

/* The record's origin; p->log is filled. */
struct origin row_origin(const struct image_put *p);
/* Fills p's answers but its name, log and hash, given the row that was there. */
void row_judge(const struct row *was, const struct origin *o, struct image_put *p);
/* The row that the record asks for: the first one, with p->split, or after a revision of `was`, with the
   origins of before and this one. */
void row_first(const struct image_put *p, const struct origin *o, struct buf *out);
void row_next(const struct row *was, const struct image_put *p, const struct origin *o,
              struct buf *out);

#endif
