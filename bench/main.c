// dray-bench: makes data and measures.
#include "bench/bench.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
} commands[] = {
    {"aggregate", bench_aggregate, "the groupby kernel alone, in cache: aggregate [ROWS]"},
    {"broker", bench_broker, "what dray-broker costs by itself: broker [--tasks N] [--workers N] [--each]"},
    {"children", bench_children,
     "commands and a plugin's calls a second, beside posix_spawn alone: children [PLUGIN [FUNCTION]]"},
    {"core", bench_core, "the scheduler alone, without sockets: core [--tasks N] [--makespan]; core --help"},
    {"gen-sales", bench_gen_sales, "write the demo's CSV: gen-sales [--size 3G] [--seed 42] FILE"},
    {"hops", bench_hops,
     "what messages alone take: client, relay, echo, relay, client over tcp: hops [ROUNDS]"},
    {"metg", bench_metg,
     "the shortest tasks that keep half of the peak, by pattern of Task Bench; metg --help"},
    {"pool", bench_pool, "many small tasks on a cluster: pool --pattern trivial|chain|tree|... [--tasks N]"},
    {"read-floor", bench_read_floor, "how fast the bytes of FILE arrive: read-floor FILE [THREADS]"},
    {"scan", bench_scan, "what the CSV scanner costs, by stage and instruction set: scan FILE [COLUMN...]"},
};

static void usage(FILE *out)
{
    fputs("usage: dray-bench COMMAND [OPTION...]\n\n", out);
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        fprintf(out, "  %-12s %s\n", commands[i].name, commands[i].help);
    }
    fputs("\n  --help       this text\n  --version    print the version\n", out);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        usage(stderr);
        return 2;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0) {
        usage(stdout);
        return 0;
    }
    if (strcmp(argv[1], "--version") == 0) {
        puts("dray-bench " DRAY_VERSION);
        return 0;
    }
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(argv[1], commands[i].name) == 0) {
            return commands[i].run(argc - 1, argv + 1);
        }
    }
    fprintf(stderr, "dray-bench: no command '%s'; see dray-bench --help\n", argv[1]);
    return 2;
}
