/* machine: processors, by affinity and by the control group's quota. */
#define _GNU_SOURCE
#include "lib/base/machine.h"

#include <sched.h>
#include <stdio.h>

int machine_processors(void) {
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "r"); /* "max 100000" or "150000 100000" */
    if (f) {
        double quota, period;
        if (fscanf(f, "%lf %lf", &quota, &period) == 2 && period > 0) {
            int most = (int)(quota / period + 0.999);
            if (most < n) n = most;
        }
        fclose(f);
    }
    return n > 0 ? n : 1;
}
