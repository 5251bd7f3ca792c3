// Stories of the scheduler alone, told as prose and compared to the byte with golden/NAME.txt.
#ifndef DRAY_TESTS_SIM_GOLDEN_H
#define DRAY_TESTS_SIM_GOLDEN_H

#include <stdbool.h>
#include <stdio.h>

// False: there is no such story.
bool golden_tell(const char *name, FILE *out);
void golden_list(FILE *out);

#endif
