// A command that runs: what command.c (its process and pipes) and command_files.c (its folder and files)
// share.
#ifndef DRAY_WORKER_CHILD_COMMAND_STATE_H
#define DRAY_WORKER_CHILD_COMMAND_STATE_H

#include <sys/stat.h>

#include "worker/child/capture.h"
#include "worker/child/children_state.h"

// One command.
struct job {
    struct children *children;
    const Dray__Command *command;
    struct child_task *task;
    const char *directory; // in which it runs
    bool scratch;          // that is its own
    char *output;          // path; NULL: standard output
    struct stat before;    // of it
    bool was_there;
    const char *program; // as in argv, for people
    int out, err, in;    // our ends of its pipes; -1: none, or closed
    struct capture capture;
    struct tail tail;
    // standard input
    const uint8_t *in_text; // unless it is partitions
    size_t in_size;
    size_t in_at, in_count;
    size_t in_done; // bytes of the current piece
    // its end
    bool exited;
    struct channel_word exit;
    int ending; // errno value why it was ended
    struct error why;
    uint64_t kill_ns; // when asking turns into ending; 0: not asked
    bool killed;
};

// A text with the task's index and parameters put in; place: of the input's partition, for {i}, or NULL.
int command_expand(struct job *job, const uint32_t *place, const void *text, size_t text_size, char **out,
                   size_t *size, struct error *err);
int command_check_bytes(const struct partition *p, uint32_t input, struct error *err);
int command_check_list(const struct job *job, uint32_t input, struct error *err);
// Where it runs: as it says, or a scratch folder of its own.
int command_choose_directory(struct job *job, struct error *err);
// Its inputs' files; *written counts those of command->file that are there.
int command_prepare_files(struct job *job, size_t *written, struct error *err);
// Those that were put into a folder which is not its own.
void command_remove_files(struct job *job, const Dray__CommandFile *file);
// What it wrote to its output file, counted against the budget.
int command_read_output(struct job *job, struct buffer **out, struct error *err);

#endif
