/* events.c: each event is built on the stack, packed, and framed as a record. */
#include "lib/format/events.h"

#include "lib/format/record.h"

#include <math.h>
#include <stdlib.h>
#include <tensorboard.pb-c.h>

typedef Darkroom__Tensorboard__Event Event;
typedef Darkroom__Tensorboard__Summary Summary;
typedef Darkroom__Tensorboard__Summary__Value Value;

/* protobuf-c's structs hold what they borrow without const, and only read it. */
static char *text(const char *s) {
    return (char *)(uintptr_t)s;
}
static ProtobufCBinaryData data_of(struct bytes b) {
    return (ProtobufCBinaryData){.len = b.len, .data = (uint8_t *)(uintptr_t)b.data};
}

static void add_event(struct buf *file, const Event *event) {
    size_t n = darkroom__tensorboard__event__get_packed_size(event);
    uint8_t *packed = mem_alloc(n);
    darkroom__tensorboard__event__pack(event, packed);
    record_add(file, (struct bytes){packed, n});
    free(packed);
}

static void add_values(struct buf *file, const struct event_at *at, Value **values, size_t n) {
    Summary summary = DARKROOM__TENSORBOARD__SUMMARY__INIT;
    Event event = DARKROOM__TENSORBOARD__EVENT__INIT;
    summary.n_value = n;
    summary.value = values;
    event.wall_time = (double)at->time_ms / 1000;
    event.step = at->step;
    event.what_case = DARKROOM__TENSORBOARD__EVENT__WHAT_SUMMARY;
    event.summary = &summary;
    add_event(file, &event);
}

void events_begin(struct buf *file, int64_t time_ms) {
    Event event = DARKROOM__TENSORBOARD__EVENT__INIT;
    event.wall_time = (double)time_ms / 1000;
    event.what_case = DARKROOM__TENSORBOARD__EVENT__WHAT_FILE_VERSION;
    event.file_version = text("brain.Event:2");
    add_event(file, &event);
}

void events_scalars(struct buf *file, const struct event_at *at, const struct event_scalar *list,
                    size_t n) {
    Value *values = mem_alloc(n * sizeof *values), **each = mem_alloc(n * sizeof *each);
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        if (isnan(list[i].value)) continue;
        Value *v = each[count] = &values[count];
        count++;
        *v = (Value)DARKROOM__TENSORBOARD__SUMMARY__VALUE__INIT;
        v->tag = text(list[i].tag);
        v->value_case = DARKROOM__TENSORBOARD__SUMMARY__VALUE__VALUE_SIMPLE_VALUE;
        v->simple_value = (float)list[i].value;
    }
    if (count) add_values(file, at, each, count);
    free(values);
    free(each);
}

void events_picture(struct buf *file, const struct event_at *at, const char *tag, int width,
                    int height, int channels, struct bytes png) {
    Darkroom__Tensorboard__Summary__Image image = DARKROOM__TENSORBOARD__SUMMARY__IMAGE__INIT;
    Value value = DARKROOM__TENSORBOARD__SUMMARY__VALUE__INIT, *values = &value;
    image.width = width, image.height = height, image.colorspace = channels;
    image.encoded_image_string = data_of(png);
    value.tag = text(tag);
    value.value_case = DARKROOM__TENSORBOARD__SUMMARY__VALUE__VALUE_IMAGE;
    value.image = &image;
    add_values(file, at, &values, 1);
}

void events_curve(struct buf *file, const struct event_at *at, const char *tag, const char *title,
                  const char *description, const float *table, int thresholds) {
    Darkroom__Tensorboard__PrCurvePluginData plugin =
        DARKROOM__TENSORBOARD__PR_CURVE_PLUGIN_DATA__INIT;
    Darkroom__Tensorboard__SummaryMetadata__PluginData named =
        DARKROOM__TENSORBOARD__SUMMARY_METADATA__PLUGIN_DATA__INIT;
    Darkroom__Tensorboard__SummaryMetadata metadata = DARKROOM__TENSORBOARD__SUMMARY_METADATA__INIT;
    Darkroom__Tensorboard__Tensor__Shape__Dim rows =
                                                  DARKROOM__TENSORBOARD__TENSOR__SHAPE__DIM__INIT,
                                              columns = rows, *dims[2] = {&rows, &columns};
    Darkroom__Tensorboard__Tensor__Shape shape = DARKROOM__TENSORBOARD__TENSOR__SHAPE__INIT;
    Darkroom__Tensorboard__Tensor tensor = DARKROOM__TENSORBOARD__TENSOR__INIT;
    Value value = DARKROOM__TENSORBOARD__SUMMARY__VALUE__INIT, *values = &value;
    uint8_t packed[32]; /* two small numbers */

    plugin.num_thresholds = (uint32_t)thresholds;
    named.plugin_name = text("pr_curves");
    named.content = data_of(
        (struct bytes){packed, darkroom__tensorboard__pr_curve_plugin_data__pack(&plugin, packed)});
    metadata.plugin_data = &named;
    metadata.display_name = text(title);
    metadata.summary_description = text(description);
    metadata.data_class = 2;
    rows.size = CURVE_ROWS, columns.size = thresholds;
    shape.n_dim = 2, shape.dim = dims;
    tensor.dtype = 1, tensor.tensor_shape = &shape;
    tensor.n_float_val = (size_t)CURVE_ROWS * (size_t)thresholds;
    tensor.float_val = (float *)(uintptr_t)table;
    value.tag = text(tag);
    value.metadata = &metadata;
    value.value_case = DARKROOM__TENSORBOARD__SUMMARY__VALUE__VALUE_TENSOR;
    value.tensor = &tensor;
    add_values(file, at, &values, 1);
}
