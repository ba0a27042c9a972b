/*
 * net_spec: which layers a net has, as JSON and by name. The one JSON form of layers, in a model's
 * file and in a user's spec:
 *
 *   [{"type":"conv","units":16,"kernel":3,"padding":1},{"type":"norm","groups":2},{"type":"relu"},
 *    {"type":"conv","units":16,"kernel":3,"padding":1},{"type":"add","from":3},
 *    {"type":"globalpool"}]
 *
 *   type         fields (lib/nn/net.h says what they mean)
 *   dense        units
 *   conv         units, kernel, stride (1 when it is not there), padding (0)
 *   maxpool      kernel
 *   relu, globalpool
 *   norm         groups
 *   add, concat  from
 *   all          from: the number of a layer before it, counted from 1, or "input"
 */
#ifndef DARKROOM_NN_NET_SPEC_H
#define DARKROOM_NN_NET_SPEC_H

#include "lib/base/bytes.h"
#include "lib/base/err.h"
#include "lib/base/json.h"
#include "lib/nn/net.h"

#define NET_READY_NAMES "auto, mlp, cnn, wide-and-deep or resnet-small"

/* A network by its name; "auto" is the one that net_spec_auto says for the input. ERR_BAD
   (bad-shape) when there is none of that name. */
enum err_kind net_spec_ready(const char *name, int height, int width, int channels,
                             struct net_spec *out, struct err *e) MUST_CHECK;
const char *net_spec_auto(int height, int width, int channels); /* "cnn" */

/*
 * What a user wrote: a name ("cnn"), a list of layers, or an object {"network": either}. ERR_BAD
 * (bad-shape) in one line that names the layer and the field, also when the layers do not fit the
 * input or each other.
 */
enum err_kind net_spec_from_json(const struct json *v, int height, int width, int channels,
                                 struct net_spec *out, struct err *e) MUST_CHECK;

/* With the input, as a model's file has it: {"height":28,"width":28,"channels":1,"layers":[...]}.
   What net_spec_read takes still has to fit together: net_make sees to that. */
void net_spec_write(const struct net_spec *spec, struct buf *to);
enum err_kind net_spec_read(const struct json *v, struct net_spec *out, struct err *e) MUST_CHECK;

bool net_spec_equal(const struct net_spec *a, const struct net_spec *b);

#endif
