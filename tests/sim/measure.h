// What the scheduler alone costs: no sockets, no agents, workers that are done at once.
#ifndef DRAY_TESTS_SIM_MEASURE_H
#define DRAY_TESTS_SIM_MEASURE_H

#include <stdint.h>

// Prints a line for each pattern at about this many tasks.
void measure_all(uint32_t tasks);

#endif
