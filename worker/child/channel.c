#include "worker/child/channel.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

union control {
    char bytes[CMSG_SPACE(sizeof(int) * CHANNEL_FDS_MAX)];
    struct cmsghdr align;
};

int channel_send(int fd, const struct channel_word *word, const int *fds, size_t count)
{
    struct iovec piece = {.iov_base = (void *)(uintptr_t)word, .iov_len = sizeof(*word)};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    union control control;
    ssize_t n;

    if (count > 0) {
        memset(&control, 0, sizeof(control));
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * count);

        struct cmsghdr *header = CMSG_FIRSTHDR(&message);

        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int) * count);
        memcpy(CMSG_DATA(header), fds, sizeof(int) * count);
    }
    do {
        n = sendmsg(fd, &message, MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : 0;
}

// Into fds, or closed.
static void take_descriptors(struct msghdr *message, int *fds)
{
    size_t found = 0;

    for (struct cmsghdr *h = CMSG_FIRSTHDR(message); h != NULL; h = CMSG_NXTHDR(message, h)) {
        if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        for (size_t at = 0; at + sizeof(int) <= h->cmsg_len - CMSG_LEN(0); at += sizeof(int)) {
            int fd;

            memcpy(&fd, CMSG_DATA(h) + at, sizeof(fd));
            if (fds != NULL && found < CHANNEL_FDS_MAX) {
                fds[found++] = fd;
            } else {
                close(fd);
            }
        }
    }
}

int channel_receive(int fd, struct channel_word *word, int *fds, bool wait)
{
    struct channel_word got;
    struct iovec piece = {.iov_base = &got, .iov_len = sizeof(got)};
    union control control;
    struct msghdr message = {.msg_iov = &piece,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
    ssize_t n;

    for (size_t i = 0; fds != NULL && i < CHANNEL_FDS_MAX; i++) {
        fds[i] = -1;
    }
    do {
        n = recvmsg(fd, &message, MSG_CMSG_CLOEXEC | (wait ? 0 : MSG_DONTWAIT));
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        return errno == ECONNRESET ? 0 : -errno;
    }
    take_descriptors(&message, fds);
    if (n == 0) {
        return 0;
    }
    if (n != (ssize_t)sizeof(got) || (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
        for (size_t i = 0; fds != NULL && i < CHANNEL_FDS_MAX; i++) {
            if (fds[i] >= 0) {
                close(fds[i]);
                fds[i] = -1;
            }
        }
        return -EBADMSG;
    }
    *word = got;
    return 1;
}
