#include "worker/store/budget.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

struct budget {
    uint64_t limit;
    _Atomic uint64_t used;
    _Atomic uint64_t peak;
};

struct budget *budget_create(uint64_t limit)
{
    struct budget *budget = malloc(sizeof(*budget));

    if (budget != NULL) {
        budget->limit = limit;
        atomic_init(&budget->used, 0);
        atomic_init(&budget->peak, 0);
    }
    return budget;
}

void budget_destroy(struct budget *budget)
{
    free(budget);
}

static double mib(uint64_t bytes)
{
    return (double)bytes / (1024.0 * 1024.0);
}

int budget_take(struct budget *budget, uint64_t bytes, const char *what, struct error *err)
{
    uint64_t used = atomic_load_explicit(&budget->used, memory_order_relaxed);
    uint64_t sum;

    // Nobody orders other memory by these counters: relaxed throughout.
    do {
        if (__builtin_add_overflow(used, bytes, &sum) || (budget->limit != 0 && sum > budget->limit)) {
            return error_set(err, ENOMEM,
                             "%s needs %.1f MiB more than --memory allows: %.1f of %.1f MiB are in use", what,
                             mib(bytes), mib(used), mib(budget->limit));
        }
    } while (!atomic_compare_exchange_weak_explicit(&budget->used, &used, sum, memory_order_relaxed,
                                                    memory_order_relaxed));

    uint64_t peak = atomic_load_explicit(&budget->peak, memory_order_relaxed);

    while (peak < sum && !atomic_compare_exchange_weak_explicit(&budget->peak, &peak, sum,
                                                                memory_order_relaxed, memory_order_relaxed)) {
    }
    return 0;
}

void budget_give(struct budget *budget, uint64_t bytes)
{
    atomic_fetch_sub_explicit(&budget->used, bytes, memory_order_relaxed);
}

uint64_t budget_used(const struct budget *budget)
{
    return atomic_load_explicit(&budget->used, memory_order_relaxed);
}

uint64_t budget_peak(const struct budget *budget)
{
    return atomic_load_explicit(&budget->peak, memory_order_relaxed);
}

uint64_t budget_limit(const struct budget *budget)
{
    return budget->limit;
}
