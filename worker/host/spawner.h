// The helper process for commands: starts one after another, waits for each and says what it took.  It is
// small, so that the peak of memory that the system reports for a command is the command's own (the system
// counts what the process had from which it was started); and it outlives the worker for the moment that it
// takes to end what runs.
#ifndef DRAY_WORKER_HOST_SPAWNER_H
#define DRAY_WORKER_HOST_SPAWNER_H

// scratch: a folder that is removed should the worker go without a word; "": none.  The exit code.
int spawner_main(const char *scratch);

#endif
