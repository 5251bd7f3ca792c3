// sim: many small worlds, each made from its seed.  See README.md.
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/sim/golden.h"
#include "tests/sim/memory.h"
#include "tests/sim/world.h"

enum {
    WIDE_SEEDS = 1000000,
    LEAVING_SEEDS = 1500000,
    MORTAL_SEEDS = 2000000,
    ROT_SEEDS = 2500000,
    IMMORTAL_SEEDS = 3000000, // again
    SLOW_SEEDS = 4000000,
    SLOW_MORTAL_SEEDS = 4500000,
    TIGHT_SEEDS = 6000000,
    TIGHT_MORTAL_SEEDS = 6500000,
    ALL_SEEDS = 7000000,    // but tight
    APART_SEEDS = 10000000, // what they are without these
};

static int usage(FILE *out, int code)
{
    fputs("usage: sim --seeds A..B     run these worlds; every fourth one is without faults, those from\n"
          "                            1000000 on have more in them, and again from 1500000, 2000000, "
          "2500000,\n"
          "                            3000000, 4000000, 4500000, 6000000 and 6500000 on (README.md);\n"
          "                            with 10000000 more, some workers do not reach one another\n"
          "       sim --trace SEED     run one and tell what happens\n"
          "       sim --golden NAME    tell a story of the scheduler alone; without a name: which there are\n"
          "       sim --memory         every allocation in the cores fails once\n",
          out);
    return code;
}

static uint64_t running; // the seed
static struct world_counts counts;

// The checks of the cores abort without knowing in which world they are.
static void say_seed(int number)
{
    char text[64];
    int n = snprintf(text, sizeof(text), "this was seed %" PRIu64 "\n", running);

    (void)number;
    (void)!write(STDERR_FILENO, text, (size_t)n);
}

static void run(uint64_t number, FILE *trace)
{
    bool apart = number >= APART_SEEDS;
    uint64_t seed = apart ? number - APART_SEEDS : number;
    bool leaving = seed >= LEAVING_SEEDS && seed < MORTAL_SEEDS;
    bool tight = seed >= TIGHT_SEEDS && seed < ALL_SEEDS;
    struct world_options options = {.seed = number,
                                    .faults = seed % 4 != 0 && !leaving,
                                    .wide = seed >= WIDE_SEEDS,
                                    .mortal = (seed >= MORTAL_SEEDS && seed < IMMORTAL_SEEDS) ||
                                              (seed >= SLOW_MORTAL_SEEDS && seed < TIGHT_SEEDS) ||
                                              seed >= TIGHT_MORTAL_SEEDS,
                                    .leaving = leaving,
                                    .rot = seed >= ROT_SEEDS,
                                    .slow = seed >= SLOW_SEEDS && !tight,
                                    .tight = tight,
                                    .apart = apart,
                                    .trace = trace,
                                    .counts = &counts};

    running = number;
    world_run(&options);
}

int main(int argc, char **argv)
{
    uint64_t first = 0;
    uint64_t last = 0;

    sigaction(SIGABRT, &(struct sigaction){.sa_handler = say_seed}, NULL);
    if (argc == 3 && strcmp(argv[1], "--trace") == 0 && sscanf(argv[2], "%" SCNu64, &first) == 1) {
        setvbuf(stdout, NULL, _IOLBF, 0);
        run(first, stdout);
        return 0;
    }
    if (argc == 3 && strcmp(argv[1], "--seeds") == 0 &&
        sscanf(argv[2], "%" SCNu64 "..%" SCNu64, &first, &last) == 2 && first <= last) {
        for (uint64_t seed = first; seed <= last; seed++) {
            run(seed, NULL);
        }
        printf("%" PRIu64 " worlds, all well\n", last - first + 1);
        if (counts.second_runs > 0) {
            printf("%" PRIu64 " tasks were run a second time while they ran\n", counts.second_runs);
        }
        if (counts.relayed > 0) {
            printf("%" PRIu64 " partitions came by way of the broker, %" PRIu64 " did not\n", counts.relayed,
                   counts.not_relayed);
        }
        if (counts.deaths > 0) {
            printf("%" PRIu64 " deaths of brokers, which lost %" PRIu64
                   " entries of their ledgers; of %" PRIu64 " tasks that were begun, %" PRIu64
                   " had been before\n",
                   counts.deaths, counts.lost, counts.runs, counts.more);
        }
        return 0;
    }
    if (argc == 2 && strcmp(argv[1], "--golden") == 0) {
        golden_list(stdout);
        return 0;
    }
    if (argc == 2 && strcmp(argv[1], "--memory") == 0) {
        printf("%u allocations have failed, one a run, all well\n", memory_all());
        return 0;
    }
    if (argc == 3 && strcmp(argv[1], "--golden") == 0) {
        return golden_tell(argv[2], stdout) ? 0 : usage(stderr, 2);
    }
    return usage(stderr, 2);
}
