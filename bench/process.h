// What a process of this machine has used, from /proc.
#ifndef DRAY_BENCH_PROCESS_H
#define DRAY_BENCH_PROCESS_H

#include <stdint.h>
#include <sys/types.h>

uint64_t monotonic_ns(void);
// Processor time of its live threads in ns; 0: it is gone.
uint64_t process_cpu_ns(pid_t pid);
// Resident bytes now, and the most there ever were; 0: it is gone.
uint64_t process_rss(pid_t pid);
uint64_t process_peak_rss(pid_t pid);
// Bytes that it has written to files of disks, as pages; 0: it is gone, or may not be asked.
uint64_t process_written(pid_t pid);

#endif
