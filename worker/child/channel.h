// What a worker and a helper process (dray-child) of it share: memory, and a socket for the few words that
// wake the other side.  A batch of calls costs two words, whatever its length.
//
// Memory, made by the worker, three descriptors in the helper:
//   CHANNEL_FD_SOCKET  struct channel_word, SOCK_SEQPACKET
//   CHANNEL_FD_MEMORY  struct channel
//   CHANNEL_FD_INPUT   arguments and inputs of a batch, or a command; the worker makes it larger and smaller
//   between batches
//
// Words: worker -> helper  RUN (slots; their outcomes are in the slots), ROOM, GRANT, SPAWN, SIGNAL
//        helper -> worker  HELLO (first), DONE (a batch), FULL (`out` has no room: take what is done, say
//        ROOM), WANT (memory for a large
//                          result: GRANT with a descriptor, or without), EXIT (a command)
//
// The helper runs foreign code, so the worker takes nothing in the shared memory for granted: it copies, then
// checks.  Memory for a large result has its size sealed before the helper sees it, and its content sealed
// before the worker reads it.
#ifndef DRAY_WORKER_CHILD_CHANNEL_H
#define DRAY_WORKER_CHILD_CHANNEL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CHANNEL_VERSION = 1,
    CHANNEL_FD_SOCKET = 3,
    CHANNEL_FD_MEMORY = 4,
    CHANNEL_FD_INPUT = 5,
    CHANNEL_SLOTS = 1024,
    CHANNEL_OUT = 1 << 20,
    CHANNEL_INPUT = 1 << 20,  // the least size of the input memory
    CHANNEL_SMALL = 64 << 10, // results up to this go through `out`
    CHANNEL_ALIGN = 64,
    CHANNEL_FDS_MAX = 3,
};

enum channel_state {
    SLOT_QUEUED = 1,
    SLOT_RUNNING,
    SLOT_DONE,
    SLOT_SKIPPED, // by the worker, before it ran
};

// `at` of a result that is in memory of its own.
#define CHANNEL_OWN UINT64_MAX

// One call.  Offsets are into the input memory, those of results into `out`.
struct channel_slot {
    // by the worker
    uint32_t function;
    uint32_t index;
    uint64_t argument_at, argument_size;
    uint64_t inputs_at; // u64 partitions[lists], then struct channel_value of each
    uint32_t lists;
    // by both: QUEUED -> RUNNING -> DONE by the helper, QUEUED -> SKIPPED by the worker
    _Atomic uint32_t state;
    _Atomic uint64_t started_ns; // CLOCK_MONOTONIC, when it runs and the batch is TIMED
    // by the helper
    int32_t code;  // 0, or an errno value: then the bytes are a text
    uint32_t kind; // enum partition_kind
    uint64_t at, size;
};

struct channel_value {
    uint64_t kind; // enum partition_kind
    uint64_t at, size;
};

struct channel {
    _Atomic uint32_t cancelled; // ticket of the call that shall stop; tickets are slot + 1
    uint32_t zero;
    struct channel_slot slot[CHANNEL_SLOTS];
    _Alignas(CHANNEL_ALIGN) uint8_t out[CHANNEL_OUT];
};

enum channel_word_kind {
    WORD_RUN = 1, // number: slots; size: of the input memory; code: 1 when TIMED
    WORD_ROOM,
    WORD_GRANT,  // code 0: with a descriptor of `size` bytes
    WORD_SPAWN,  // size: of the input memory, which begins with a struct channel_command; descriptors: its
                 // stdin, stdout, stderr
    WORD_SIGNAL, // number: the signal, for the command's process group
    WORD_HELLO,  // code 0: ready, or an errno value; `out` has `size` bytes: what the plugin is, or a text
    WORD_DONE,   // number: slots; code 1: the helper asks to be replaced
    WORD_FULL,   // number: slot that waits
    WORD_WANT,   // number: slot; size: bytes
    WORD_EXIT,   // code: 0 or an errno value with number: enum channel_step that failed; status, use
};

struct channel_word {
    uint32_t kind;
    int32_t code;
    uint64_t number;
    uint64_t size;
    int64_t status; // of wait4
    uint64_t wall_us, cpu_us, peak_bytes;
};

// Where starting a command went wrong.
enum channel_step {
    STEP_REQUEST = 1,
    STEP_CLONE,
    STEP_DIRECTORY,
    STEP_LIMIT,
    STEP_EXEC,
    STEP_DESCRIPTORS,
};

// Strings follow one another, each with its zero: directory, words, environment entries.
struct channel_command {
    uint64_t memory; // RLIMIT_AS; 0: none
    uint32_t words, entries;
    uint32_t clear_env;
    uint32_t zero;
    uint64_t size; // of the strings
};

// 0 or a negative errno.  fds: `count` descriptors that go along.  Never raises SIGPIPE.
int channel_send(int fd, const struct channel_word *word, const int *fds, size_t count);
// 1: a word; 0: the other side is gone; -EAGAIN with `wait` false.  fds[CHANNEL_FDS_MAX], -1 where none came.
// NULL: those that come are closed.  -EBADMSG: not a word.
int channel_receive(int fd, struct channel_word *word, int *fds, bool wait);

static inline uint64_t channel_pad(uint64_t size)
{
    return (size + CHANNEL_ALIGN - 1) & ~(uint64_t)(CHANNEL_ALIGN - 1);
}

#endif
