// Threads of the worker: no signals reach them (the loop reads those), and their stacks are small.
#ifndef DRAY_WORKER_THREAD_H
#define DRAY_WORKER_THREAD_H

#include <pthread.h>
#include <stddef.h>

// 0 or a negative errno.  The caller joins it.
int thread_start(pthread_t *thread, size_t stack_bytes, void *(*run)(void *), void *arg);

#endif
