/* verdict: first what cannot be compared, then the test, the best so far, the floor, and the pin. */
#include "lib/learn/verdict.h"

#include <math.h>

/* The sum of the binomial's upper tail. Beyond the middle its terms fall, so the first one carries
   it; before, it is what the other tail leaves. */
double sign_test(size_t heads, size_t tails) {
    if (heads <= tails) return heads ? 1 - sign_test(tails + 1, heads - 1) : 1;
    double n = (double)(heads + tails), k = (double)heads, sum = 0;
    double term = exp(lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) - n * log(2));
    for (; k <= n && term > sum * 1e-17; k++) {
        sum += term;
        term *= (n - k) / (k + 1);
    }
    return sum < 1 ? sum : 1;
}

/* Why it is promoted uncompared; NULL when the two can be compared. */
static const char *uncompared(const struct contest *c, struct arena *a) {
    long long n = c->challenger, was = c->champion;
    if (!was) return arena_printf(a, "version %lld is the first", n);
    if (c->champion_gone)
        return arena_printf(a, "the weights of version %lld, which served, are gone", was);
    if (c->other_input)
        return arena_printf(
            a, "version %lld takes images of another size than version %lld: the spec has changed",
            n, was);
    if (!c->images)
        return arena_printf(
            a, "version %lld is the newest; no image is held out to judge it on yet", n);
    return NULL;
}

/* Whether it is more than the margin below; the hair is for what is exactly that much. */
static bool is_below(const struct spec *spec, const struct contest *c, double most) {
    return c->accuracy < most - spec->deploy_margin / 100 - 1e-9;
}

static const char *compare(const struct spec *spec, const struct contest *c, struct arena *a,
                           bool *promoted) {
    bool fresh = spec->deploy_rule == DEPLOY_FRESH;
    double p = fresh ? sign_test(c->duel.b, c->duel.a) : sign_test(c->duel.a, c->duel.b);
    bool beyond = p <= spec->deploy_error, best_is_more = c->best_accuracy > c->champion_accuracy;
    double most = best_is_more ? c->best_accuracy : c->champion_accuracy;
    const char *duel = c->duel.a + c->duel.b
                           ? arena_printf(a, "of %zu that only one of them gets right it gets %zu",
                                          c->duel.a + c->duel.b, c->duel.a)
                           : "both get the same ones right";
    const char *figures = arena_printf(
        a,
        "version %lld answers %.2f %% of %lld held-out images rightly, version %lld %.2f %%; %s: "
        "%s%s beyond chance (p = %.3g, the limit is %g)",
        (long long)c->challenger, 100 * c->accuracy, (long long)c->images, (long long)c->champion,
        100 * c->champion_accuracy, duel, beyond ? "" : "not ", fresh ? "worse" : "better", p,
        spec->deploy_error);
    *promoted = fresh != beyond;
    if (!fresh || beyond || !is_below(spec, c, most)) return figures;
    *promoted = false;
    return arena_printf(a, "%s; but it is more than %g points below version %lld%s with %.2f %%",
                        figures, spec->deploy_margin,
                        (long long)(best_is_more ? c->best : c->champion),
                        best_is_more ? ", the best so far," : "", 100 * most);
}

static enum best best_of(const struct spec *spec, const struct contest *c, bool promoted) {
    bool unmeasured = isnan(c->best_accuracy);
    if (promoted && (unmeasured || sign_test(c->best_duel.a, c->best_duel.b) <= spec->deploy_error))
        return BEST_CHALLENGER;
    return c->best != c->champion ? BEST_STAYS : BEST_CHAMPION;
}

void verdict_of(const struct spec *spec, const struct contest *c, struct arena *a,
                struct verdict *out) {
    *out = (struct verdict){.promoted = true};
    if (!c->learned) {
        out->promoted = false;
        out->why = arena_printf(
            a, "version %lld has seen no image: those of its batches are gone, or corrected since",
            (long long)c->challenger);
        out->best = best_of(spec, c, false);
        return;
    }
    out->why = uncompared(c, a);
    if (!out->why) out->why = compare(spec, c, a, &out->promoted);
    if (out->promoted && c->images && c->accuracy < spec->deploy_floor) {
        out->promoted = false;
        out->why = arena_printf(
            a, "%s; but %.2f %% of %lld held-out images is below the floor of %.2f %%", out->why,
            100 * c->accuracy, (long long)c->images, 100 * spec->deploy_floor);
    }
    if (out->promoted && c->pinned) {
        out->promoted = false;
        out->why =
            arena_printf(a, "%s; but version %lld is pinned", out->why, (long long)c->champion);
    }
    out->best = best_of(spec, c, out->promoted);
}
