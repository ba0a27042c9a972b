/* figure: what a figure of a model is called in /metrics. */
#ifndef DARKROOM_BASE_FIGURE_H
#define DARKROOM_BASE_FIGURE_H

struct figure {       /* in a table that ends with {0} */
    const char *name; /* of darkroom_<name>{model="…"} */
    const char *help;
};

#endif
