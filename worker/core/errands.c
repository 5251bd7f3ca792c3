#include "worker/core/errands.h"

#include <assert.h>
#include <stddef.h>

bool errands_full(const struct errands *errands)
{
    return errands->count == ERRANDS_MAX;
}

void errands_add(struct errands *errands, uint32_t tag, void *whose, uint64_t now_us)
{
    assert(!errands_full(errands));
    errands->errand[errands->count++] = (struct errand){tag, whose, now_us};
}

static struct errand take(struct errands *errands, unsigned at)
{
    struct errand one = errands->errand[at];

    errands->errand[at] = errands->errand[--errands->count];
    return one;
}

bool errands_take(struct errands *errands, uint32_t tag, struct errand *out)
{
    for (unsigned at = 0; at < errands->count; at++) {
        if (errands->errand[at].tag == tag) {
            *out = take(errands, at);
            return true;
        }
    }
    return false;
}

bool errands_take_late(struct errands *errands, uint64_t now_us, struct errand *out)
{
    for (unsigned at = 0; at < errands->count; at++) {
        uint64_t since_us = errands->errand[at].since_us;

        if (now_us > since_us && now_us - since_us > ERRAND_US) {
            *out = take(errands, at);
            return true;
        }
    }
    return false;
}

void errands_disown(struct errands *errands, const void *whose)
{
    for (unsigned at = 0; at < errands->count; at++) {
        if (errands->errand[at].whose == whose) {
            errands->errand[at].whose = NULL;
        }
    }
}

void errands_clear(struct errands *errands)
{
    errands->count = 0;
}
