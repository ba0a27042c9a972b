/*
 * Deploy's rules on challengers that are drawn: each version answers each image rightly by a seeded
 * chance, all sit the same exam, and the verdict is asked as deploy asks it. What the rules promise
 * is counted: how often equals are promoted, how far what serves may fall, that the better come in.
 */
#include "lib/learn/verdict.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct arena arena;

static int clear(void **state) {
    (void)state;
    arena_reset(&arena);
    return 0;
}

static struct spec rules(int rule) {
    return (struct spec){
        .deploy_rule = rule, .deploy_error = 0.05, .deploy_margin = 1, .deploy_floor = 0};
}

/* ---- the test ---- */

/* By adding up Pascal's triangle. */
static double by_counting(size_t heads, size_t tails) {
    double row[64] = {1};
    size_t n = heads + tails;
    for (size_t i = 1; i <= n; i++)
        for (size_t k = i; k > 0; k--) row[k] += row[k - 1];
    double sum = 0, all = pow(2, (double)n);
    for (size_t k = heads; k <= n; k++) sum += row[k];
    return sum / all;
}

static void the_sign_test_is_the_binomial(void **state) {
    (void)state;
    for (size_t heads = 0; heads <= 30; heads++)
        for (size_t tails = 0; tails <= 30; tails++)
            if (fabs(sign_test(heads, tails) / by_counting(heads, tails) - 1) > 1e-9)
                fail_msg("%zu to %zu: %.12g is not %.12g", heads, tails, sign_test(heads, tails),
                         by_counting(heads, tails));
    assert_true(sign_test(0, 0) == 1);
    assert_true(fabs(sign_test(5, 0) - 1.0 / 32) < 1e-12);
    /* Large counts, against the normal distribution with the correction for continuity. */
    double n = 1e6, z = (1000 - 0.5) / sqrt(n / 4);
    assert_true(fabs(sign_test(501000, 499000) - 0.5 * erfc(z / sqrt(2))) < 1e-5);
    assert_true(fabs(sign_test(499000, 501000) + sign_test(501001, 498999) - 1) < 1e-9);
    assert_true(sign_test(1000000, 0) == 0 && sign_test(0, 1000000) == 1);
}

/* ---- versions that are drawn ---- */

enum { MOST_IMAGES = 4000 };

/* splitmix64 (Steele, Lea, Flood 2014) of a seed, a version and an image, as 0..1 */
static double chance(uint64_t seed, uint64_t version, uint64_t image) {
    uint64_t z = (seed * 1000003 + version) * 0x9e3779b97f4a7c15u + image * 0xd1342543de82ef95u;
    for (int i = 0; i < 2; i++) {
        z += 0x9e3779b97f4a7c15u;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        z ^= z >> 31;
    }
    return (double)(z >> 11) * 0x1p-53;
}

struct version {
    int64_t number;
    double quality; /* of all images, the share that it gets right */
};

static bool right(uint64_t seed, const struct version *v, size_t image) {
    return chance(seed, (uint64_t)v->number, image) < v->quality;
}

static double accuracy(uint64_t seed, const struct version *v, size_t images) {
    size_t n = 0;
    for (size_t i = 0; i < images; i++) n += right(seed, v, i);
    return (double)n / (double)images;
}

struct line {
    struct version serves, best;
};

/* One challenger, as judge_challenger does it. */
static bool challenge(struct line *l, const struct spec *spec, uint64_t seed,
                      const struct version *by, size_t images) {
    struct contest c = {.challenger = by->number,
                        .champion = l->serves.number,
                        .best = l->best.number,
                        .learned = 1,
                        .images = (int64_t)images,
                        .accuracy = accuracy(seed, by, images),
                        .champion_accuracy = accuracy(seed, &l->serves, images),
                        .best_accuracy = accuracy(seed, &l->best, images)};
    for (size_t i = 0; i < images; i++) {
        bool a = right(seed, by, i), b = right(seed, &l->serves, i),
             best = right(seed, &l->best, i);
        c.duel.a += a && !b;
        c.duel.b += b && !a;
        c.best_duel.a += a && !best;
        c.best_duel.b += best && !a;
    }
    struct verdict v;
    struct version was = l->serves;
    verdict_of(spec, &c, &arena, &v);
    if (v.promoted) l->serves = *by;
    if (v.best != BEST_STAYS) l->best = v.best == BEST_CHALLENGER ? *by : was;
    assert_true(v.best != BEST_CHALLENGER || v.promoted);
    return v.promoted;
}

/* 200 equals of one champion: each share of promotions is a draw of at most error * 200. */
static void equals_are_promoted_no_more_than_the_error_rate_allows(void **state) {
    (void)state;
    enum { CHALLENGERS = 200, ROUNDS = 5 };
    struct spec better = rules(DEPLOY_BETTER), fresh = rules(DEPLOY_FRESH);
    double mean = CHALLENGERS * better.deploy_error,
           most = mean + 3 * sqrt(mean * (1 - better.deploy_error));
    for (uint64_t seed = 1; seed <= ROUNDS; seed++) {
        int promoted = 0, turned_away = 0;
        fresh.deploy_margin = 100; /* the test alone */
        for (int i = 0; i < CHALLENGERS; i++) {
            /* A champion of its own each time, so that the draws are independent. */
            struct version champion = {2 * i + 1, 0.95}, equal = {2 * i + 2, 0.95};
            struct line l = {champion, champion}, m = l;
            promoted += challenge(&l, &better, seed, &equal, 1000);
            turned_away += !challenge(&m, &fresh, seed, &equal, 1000);
        }
        printf("of %d equals better promotes %d, fresh turns %d away; at most %.1f\n", CHALLENGERS,
               promoted, turned_away, most);
        assert_true(promoted <= most && turned_away <= most);
        assert_true(promoted > 0 && turned_away > 0); /* the test is no wall */
    }
}

/* Hundreds of challengers, each a little worse than what serves, on images that grow in number. */
static void small_losses_do_not_add_up(void **state) {
    (void)state;
    enum { CHALLENGERS = 400, FROM = 500 };
    struct spec fresh = rules(DEPLOY_FRESH), blind = fresh;
    blind.deploy_margin = 100;
    double lowest = 1, lowest_blind = 1;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        struct version first = {1, 0.95};
        struct line l = {first, first}, b = l;
        int promoted = 0;
        for (int i = 0; i < CHALLENGERS; i++) {
            size_t images = FROM + (size_t)i * (MOST_IMAGES - FROM) / CHALLENGERS;
            struct version worse = {2 * i + 2, l.serves.quality - 0.003},
                           worse_too = {2 * i + 2, b.serves.quality - 0.003};
            arena_reset(&arena);
            struct line was = l;
            bool taken = challenge(&l, &fresh, seed, &worse, images);
            promoted += taken;
            challenge(&b, &blind, seed, &worse_too, images);
            /* What was promised, on the images of the day that it was judged. */
            double now = accuracy(seed, &l.serves, images);
            if (taken)
                assert_true(now >= accuracy(seed, &was.best, images) - 0.01 - 1e-9 &&
                            now >= accuracy(seed, &was.serves, images) - 0.01 - 1e-9);
        }
        printf("%d of %d promoted; from 0.950 to %.3f, the best is of %.3f; without the margin to "
               "%.3f\n",
               promoted, CHALLENGERS, l.serves.quality, l.best.quality, b.serves.quality);
        assert_true(l.best.quality >= 0.95 - 0.01); /* the measure itself holds */
        assert_true(promoted > 0);
        if (l.serves.quality < lowest) lowest = l.serves.quality;
        if (b.serves.quality < lowest_blind) lowest_blind = b.serves.quality;
    }
    /* The first may have had luck, and the last: 3 standard deviations of a difference of two
       accuracies of 0.95 on the fewest images. */
    assert_true(lowest >= 0.95 - 0.01 - 3 * sqrt(2 * 0.95 * 0.05 / FROM));
    assert_true(lowest_blind < lowest - 0.05); /* and there is something to be held up */
}

static void what_is_better_is_promoted_by_both(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        for (int rule = DEPLOY_FRESH; rule <= DEPLOY_BETTER; rule++) {
            struct spec spec = rules(rule);
            struct version champion = {1, 0.93}, better = {2, 0.97};
            struct line l = {champion, champion};
            assert_true(challenge(&l, &spec, seed, &better, 1000));
            assert_int_equal(l.best.number, 2);
            assert_false(challenge(&l, &spec, seed, &champion, 1000)); /* and not back again */
            assert_int_equal(l.serves.number, 2);
        }
    }
}

/* ---- by hand ---- */

static struct contest even(void) {
    return (struct contest){.challenger = 5,
                            .champion = 4,
                            .best = 2,
                            .learned = 100,
                            .images = 1000,
                            .accuracy = 0.95,
                            .champion_accuracy = 0.95,
                            .best_accuracy = 0.955,
                            .duel = {7, 7},
                            .best_duel = {5, 10}};
}

static struct verdict ask(const struct spec *spec, const struct contest *c, const char *why) {
    struct verdict v;
    verdict_of(spec, c, &arena, &v);
    const char *said = v.why ? v.why : "";
    if (!strstr(said, why)) fail_msg("\"%s\" is not in: %s", why, said);
    return v;
}

static void the_reasons_can_be_read(void **state) {
    (void)state;
    struct spec fresh = rules(DEPLOY_FRESH), better = rules(DEPLOY_BETTER);
    struct contest c = even();
    struct verdict v = ask(&fresh, &c,
                           "version 5 answers 95.00 % of 1000 held-out images rightly, version 4 "
                           "95.00 %; of 14 that only one of them gets right it gets 7: not worse "
                           "beyond chance (p = 0.605, the limit is 0.05)");
    assert_true(v.promoted && v.best == BEST_STAYS);
    assert_false(ask(&better, &c, ": not better beyond chance (p = 0.605,").promoted);

    c.best_accuracy = 0.9601;
    v = ask(&fresh, &c,
            "; but it is more than 1 points below version 2, the best so far, with 96.01 %");
    assert_true(!v.promoted && v.best == BEST_STAYS);
    c.best_accuracy = 0.96; /* exactly the margin is within it */
    assert_true(ask(&fresh, &c, "not worse").promoted);
    c.champion_accuracy = 0.9601;
    c.duel = (struct duel){7, 15};
    v = ask(&fresh, &c, "but it is more than 1 points below version 4 with 96.01 %");
    assert_true(!v.promoted && v.best == BEST_STAYS);

    c = even();
    c.duel = (struct duel){0, 0};
    assert_true(
        ask(&fresh, &c, "both get the same ones right: not worse beyond chance (p = 1,").promoted);
    c.duel = (struct duel){2, 12};
    v = ask(&fresh, &c, ": worse beyond chance (p = 0.00647, the limit is 0.05)");
    assert_false(v.promoted);
    c.duel = (struct duel){12, 2};
    v = ask(&better, &c, ": better beyond chance (p = 0.00647, the limit is 0.05)");
    assert_true(v.promoted && v.best == BEST_STAYS);
    c.best_duel = (struct duel){9, 3}; /* more, and it may be chance */
    assert_true(ask(&better, &c, "").best == BEST_STAYS);
    c.best_duel = (struct duel){10, 1};
    assert_true(ask(&better, &c, "").best == BEST_CHALLENGER);
    c.best = c.champion;
    c.best_duel = c.duel = (struct duel){5, 5};
    assert_true(ask(&fresh, &c, "").best == BEST_CHAMPION);
}

static void what_cannot_be_compared_is_promoted(void **state) {
    (void)state;
    for (int rule = DEPLOY_FRESH; rule <= DEPLOY_BETTER; rule++) {
        struct spec spec = rules(rule), strict = spec;
        strict.deploy_floor = 0.96;
        struct contest first = even(), gone = first, other = first, none = first, unseen = first;
        first.champion = first.best = 0;
        first.champion_accuracy = first.best_accuracy = NAN;
        gone.champion_gone = true;
        gone.champion_accuracy = NAN;
        other.other_input = true;
        other.champion_accuracy = other.best_accuracy = NAN;
        none.images = 0;
        none.accuracy = none.champion_accuracy = none.best_accuracy = NAN;
        unseen.learned = 0;
        const struct {
            const struct contest *c;
            const char *why;
            enum best best;
        } all[] = {{&first, "version 5 is the first", BEST_CHALLENGER},
                   {&gone, "the weights of version 4, which served, are gone", BEST_STAYS},
                   {&other, "images of another size than version 4", BEST_CHALLENGER},
                   {&none, "no image is held out", BEST_CHALLENGER}};
        for (size_t i = 0; i < 4; i++) {
            struct verdict v = ask(&spec, all[i].c, all[i].why);
            assert_true(v.promoted && v.best == all[i].best);
            v = ask(&strict, all[i].c, all[i].why); /* the floor, where it can be measured */
            assert_true(v.promoted == (all[i].c == &none));
            if (!v.promoted)
                ask(&strict, all[i].c,
                    "; but 95.00 % of 1000 held-out images is below the floor of 96.00 %");
        }
        assert_false(ask(&spec, &unseen, "version 5 has seen no image").promoted);
        struct contest won = even();
        won.duel = (struct duel){12, 2};
        assert_false(ask(&strict, &won, "below the floor").promoted);
    }
}

/* Whatever the figures are, and what is held back is not the best either. */
static void nothing_takes_the_place_of_what_is_pinned(void **state) {
    (void)state;
    struct contest won = even(), other = won, alone = won, worse = won;
    won.duel = won.best_duel = (struct duel){12, 2};
    other.other_input = true;
    other.champion_accuracy = other.best_accuracy = NAN;
    alone.best = alone.champion;
    alone.best_duel = (struct duel){12, 2};
    worse.duel = (struct duel){2, 12};
    for (int rule = DEPLOY_FRESH; rule <= DEPLOY_BETTER; rule++) {
        struct spec spec = rules(rule);
        assert_true(ask(&spec, &won, "").best == BEST_CHALLENGER);
        won.pinned = other.pinned = alone.pinned = worse.pinned = true;
        struct verdict v = ask(&spec, &won, "; but version 4 is pinned");
        assert_true(!v.promoted && v.best == BEST_STAYS);
        v = ask(&spec, &other,
                "of another size than version 4: the spec has changed; but version "
                "4 is pinned");
        assert_true(!v.promoted && v.best == BEST_STAYS);
        v = ask(&spec, &alone, "");
        assert_true(!v.promoted && v.best == BEST_CHAMPION);
        v = ask(&spec, &worse, ""); /* refused by its figures: the pin is not the reason */
        assert_true(!v.promoted && !strstr(v.why, "pinned"));
        won.pinned = other.pinned = alone.pinned = worse.pinned = false;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(the_sign_test_is_the_binomial, clear),
        cmocka_unit_test_setup(equals_are_promoted_no_more_than_the_error_rate_allows, clear),
        cmocka_unit_test_setup(small_losses_do_not_add_up, clear),
        cmocka_unit_test_setup(what_is_better_is_promoted_by_both, clear),
        cmocka_unit_test_setup(the_reasons_can_be_read, clear),
        cmocka_unit_test_setup(what_cannot_be_compared_is_promoted, clear),
        cmocka_unit_test_setup(nothing_takes_the_place_of_what_is_pinned, clear),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    arena_free(&arena);
    return failed;
}
