// dray-child: the process in which dray-worker runs code that is not Dray's.  Started by the worker alone.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "worker/child/channel.h"
#include "worker/host/caller.h"
#include "worker/host/spawner.h"

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        puts("dray-child " DRAY_VERSION);
        return 0;
    }
    if (argc != 4 || fcntl(CHANNEL_FD_SOCKET, F_SETFD, FD_CLOEXEC) != 0 ||
        fcntl(CHANNEL_FD_MEMORY, F_SETFD, FD_CLOEXEC) != 0 ||
        fcntl(CHANNEL_FD_INPUT, F_SETFD, FD_CLOEXEC) != 0) {
        fputs("dray-child is started by dray-worker, for plugins and commands\n", stderr);
        return 2;
    }
    if (strcmp(argv[1], "spawn") == 0) {
        return spawner_main(argv[2]);
    }
    // What a plugin does in an endless loop ends with the worker as well.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    return caller_main(argv[2], strtoull(argv[3], NULL, 10));
}
