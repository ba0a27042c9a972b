/*
 * orders: what people want to serve, carried out by deploy between two judgements, and what a
 * judgement leaves as it was: the pin, what served before, the answers to orders.
 *
 * Everything that an order changes is in models.deployed, which has the answer too, in the same
 * record: an order that comes again is known by its id and passed over, so it is carried out once.
 * What is in Redis is only looked at, and weights that are removed are removed again.
 *
 *     rollback V   V serves; what served after it is forgotten as something to roll back to
 *     promote V    V serves; what served until now is what a rollback leads back to
 *     pin V        V serves, and no new version takes its place; they are judged all the same
 *     unpin        the next version that is not worse takes its place again
 *     remove V     the weights of V are removed, as those are that the spec does not keep
 *
 * What an order makes serve is the best version so far from then on (lib/learn/verdict.h), whatever the
 * figures say: who gives an order knows more than they do. Would the one before stay the measure, then
 * behind a rollback from it, or the promotion of a version that was refused for being far below it, all
 * that follows would be turned away until it is as good as what nobody wants, however it compares with
 * what serves. The best is never made to serve, so nothing here undoes an order. Where the best's weights
 * are removed by an order, what serves takes its place.
 */
#ifndef DARKROOM_LEARN_ORDERS_H
#define DARKROOM_LEARN_ORDERS_H

#include "lib/base/record.h"
#include "lib/learn/registry.h"

/* The order in a record. ERR_BAD (bad-message): it cannot be read, or its key is not the model: in
   another partition than the model's versions it would have no place among them. */
enum err_kind orders_read(const struct record *r, struct arena *a, struct order *o,
                          struct err *e) MUST_CHECK;

/* The answer that the message has to an order of this id; NULL: none. */
const struct order_answer *orders_find(const struct deployed *d, struct bytes id);

/*
 * Carries the order of record r out. was: what serves, all zero when nothing ever did; committed:
 * the same as others can see it, before the records in hand. Fills *out, texts in the arena, with
 * the answer in front of out->orders, also when the order is refused: for a version that is not
 * there, whose weights are gone, that has seen no image; for removing what serves, what others grow
 * from, or what is not judged yet. ERR_BAD (no-model): there is no such model. ERR_AGAIN: Redis.
 */
enum err_kind orders_carry_out(struct registry *g, const struct order *o, const struct record *r,
                               const struct deployed *was, const struct deployed *committed,
                               int64_t now_ms, struct arena *a, struct deployed *out,
                               struct err *e) MUST_CHECK;

/*
 * Removes what the spec does not keep any more, behind the judgement of record r and before its
 * commit: neither what others still see serve, or be the best, nor what will, nor what a rollback
 * leads to. The next best is one of these, and what is pinned serves.
 */
enum err_kind orders_prune(struct registry *g, const struct record *r, int64_t keep_versions,
                           const struct deployed *was, const struct deployed *committed,
                           const struct deployed *now, struct err *e) MUST_CHECK;

/* Gives a judgement what it leaves as it was. A pinned version whose place was taken all the same,
   because its weights are gone, is pinned no more. */
void orders_keep(const struct deployed *was, struct deployed *now, struct arena *a);

#endif
