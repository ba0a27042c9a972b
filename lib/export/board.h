/*
 * board: a version of a model as TensorBoard shows it, in the bytes of an event file. Every event
 * has the version's time, and the images that it has seen (presentations) as its step.
 *
 *     accuracy auc loss precision recall              on a sample of what it was trained on
 *     eval/accuracy eval/auc … eval/ece               on the images held out
 *     global_step                                     presentations, as a number of its own
 *     eval/confusion eval/mistakes                    pictures
 *     eval/pr_curves eval/<label>/pr_curves           precision against recall
 */
#ifndef DARKROOM_EXPORT_BOARD_H
#define DARKROOM_EXPORT_BOARD_H

#include "lib/base/alive.h"
#include "lib/learn/images.h"
#include "lib/learn/registry.h"

enum {
    BOARD_CURVES_MOST = 32
}; /* classes that have a curve each; with more only the micro-average */

/* Appends a file with the figures, those that are defined. */
void board_figures(const struct trained *version, struct buf *file);
/* Appends the pictures and curves to it, from answering the images that the version holds out.
   ERR_BAD, with nothing appended, when its artifacts are gone (pruned) or damaged. */
enum err_kind board_pictures(struct registry *g, struct images *im, const struct trained *version,
                             const struct alive *alive, struct buf *file, struct err *e) MUST_CHECK;

#endif
