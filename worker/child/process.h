// A helper process (dray-child), seen from the worker: start, words, what it writes, its end.  Not
// thread-safe: one thread uses it.
#ifndef DRAY_WORKER_CHILD_PROCESS_H
#define DRAY_WORKER_CHILD_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "proto/error.h"
#include "worker/child/channel.h"
#include "worker/child/tail.h"

struct process_options {
    const char *helper; // path of dray-child; NULL: found beside this executable
    const char *mode;   // "plugin" or "spawn"
    const char *path;   // of the plugin, or of a folder that is removed should this process die
    uint64_t memory;    // limit of its private memory; 0: none
};

// All zero: there is none.
struct process {
    pid_t pid;                 // and its group; 0: none
    int pidfd, socket, output; // output: what it writes on standard output and standard error
    int input_fd;
    struct channel *channel;
    uint8_t *input;
    size_t input_size;
    size_t input_used; // since it was last trimmed
    struct tail tail;
    uint64_t peak_bytes; // resident, once it has ended
};

// Does not wait for its HELLO.
int process_start(struct process *process, const struct process_options *options, struct error *err);

enum process_event {
    PROCESS_TIMEOUT,
    PROCESS_WORD,
    PROCESS_WOKEN,
    PROCESS_ENDED, // or does not speak our language: process_end it
};
// Waits for what comes first.  wake: an eventfd, which is read; -1: none.  deadline_ns: of CLOCK_MONOTONIC;
// 0: none.
enum process_event process_wait(struct process *process, int wake, uint64_t deadline_ns,
                                struct channel_word *word);

// Makes the input memory `size` bytes at least; it may move.
int process_reserve(struct process *process, size_t size, struct error *err);
// Gives back what a large batch took of it.
void process_trim(struct process *process);

// It sees that nobody speaks to it any more, and may end by itself until process_end.
void process_say_goodbye(struct process *process);
unsigned process_ms_left(uint64_t deadline_ns); // of CLOCK_MONOTONIC
// Kills it and its group (if `wait_ms` is 0; otherwise it may end by itself for so long once it sees that
// nobody speaks to it) and frees everything but the tail and peak_bytes.  The wait status.  Nothing happens
// when there is none.
int process_end(struct process *process, unsigned wait_ms);
// "was ended by signal 11 (SIGSEGV, Segmentation fault)", "ended with exit code 3"
void process_describe(int status, char *to, size_t size);

uint64_t process_now_ns(void); // CLOCK_MONOTONIC
// Where dray-child is: beside this executable, in ../libexec/dray, or in PATH.
int process_find_helper(char *to, size_t size, struct error *err);

#endif
