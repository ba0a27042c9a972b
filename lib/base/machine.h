/* machine: what this process may use of it. */
#ifndef DARKROOM_BASE_MACHINE_H
#define DARKROOM_BASE_MACHINE_H

/* Processors: those we may run on, no more than the control group's quota rounded up; at least 1.
 */
int machine_processors(void);

#endif
