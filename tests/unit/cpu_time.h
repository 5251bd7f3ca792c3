// Bounds on what grows with the square of something: far above what is needed, and not of the clock on the wall,
// as others use the machine as well.
#ifndef DRAY_TESTS_UNIT_CPU_TIME_H
#define DRAY_TESTS_UNIT_CPU_TIME_H

#include <stdint.h>
#include <time.h>

// Sanitizers make everything slower; bounds are multiplied by this.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { CPU_SLOW = 5 };
#else
enum { CPU_SLOW = 1 };
#endif

// Processor time of this thread.
static inline uint64_t cpu_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

#endif
