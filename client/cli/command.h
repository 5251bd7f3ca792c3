// The subcommands of dray and what they share.
#ifndef DRAY_CLIENT_CLI_COMMAND_H
#define DRAY_CLIENT_CLI_COMMAND_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/error.h"

// Exit statuses, as `dray help` and dray(1) list them.
enum {
    STATUS_OK = 0,
    STATUS_JOB = 1,    // a task failed
    STATUS_USAGE = 2,  // bad option, or an error in the script
    STATUS_BROKER = 3, // not reachable, lost, or it takes nothing more
    STATUS_NO_WORKERS = 4,
    STATUS_OUTPUT = 5,   // the result could not be written
    STATUS_SIGNAL = 128, // + the signal's number: 130 after Ctrl-C
};
#define STATUS_HELP                                                                                          \
    "Exit status: 0 done; 1 the job failed; 2 wrong usage or an error in the script; 3 the "                 \
    "broker could not be reached, was lost, or takes no more jobs (its disk is full); 4 no "                 \
    "workers were connected; 5 the result could not be written; 130 interrupted (128 + the number of any "   \
    "signal)."

// argv[0] is "dray NAME".  Returns the exit status.
typedef int command_main(int argc, char **argv);
command_main run_main, submit_main, result_main, wait_main, cancel_main, jobs_main, job_main, keep_main,
    unkeep_main, kept_main, workers_main, retire_main;

// "dray: ..." on standard error; several lines as they are.
void complain(const struct error *err);
void complain_text(const char *format, ...) __attribute__((format(printf, 1, 2)));

// tcp://HOST:PORT or ipc://PATH.
int endpoint_check(const char *text, struct error *err);
// A whole number from 1 to max.
int count_parse(const char *text, uint32_t max, uint32_t *out, struct error *err);
// A number of seconds, 0 or more, as milliseconds.
int seconds_parse(const char *text, uint32_t *ms, struct error *err);

// What is opened later must not become standard input, output or error by accident: opens
// /dev/null where the program was started without one.
int standard_streams_keep(void);
// True when it was started without a standard output.
bool stdout_was_closed(void);

#endif
