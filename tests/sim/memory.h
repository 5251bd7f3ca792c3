// Every allocation inside the cores fails once, in turn; the job must end well all the same.
#ifndef DRAY_TESTS_SIM_MEMORY_H
#define DRAY_TESTS_SIM_MEMORY_H

// Aborts when something is wrong; otherwise how many allocations have been failed.
unsigned memory_all(void);

#endif
