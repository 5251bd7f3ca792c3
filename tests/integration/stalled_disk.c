// Preloaded: what a program wants to have on the disk is not there before the file $STALLED_DISK is gone.
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int fdatasync(int fd);
int fsync(int fd);

static void wait_for_disk(void)
{
    const char *path = getenv("STALLED_DISK");

    while (path != NULL && access(path, F_OK) == 0) {
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
}

__attribute__((visibility("default"))) int fdatasync(int fd)
{
    wait_for_disk();
    return (int)syscall(SYS_fdatasync, fd);
}

__attribute__((visibility("default"))) int fsync(int fd)
{
    wait_for_disk();
    return (int)syscall(SYS_fsync, fd);
}
