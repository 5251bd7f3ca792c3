// The subcommands of dray-bench: one row each in main.c.
#ifndef DRAY_BENCH_BENCH_H
#define DRAY_BENCH_BENCH_H

// argv[0] is the subcommand's name; the return value is the exit code.
int bench_aggregate(int argc, char **argv);
int bench_broker(int argc, char **argv);
int bench_children(int argc, char **argv);
int bench_core(int argc, char **argv);
int bench_gen_sales(int argc, char **argv);
int bench_hops(int argc, char **argv);
int bench_metg(int argc, char **argv);
int bench_pool(int argc, char **argv);
int bench_read_floor(int argc, char **argv);
int bench_scan(int argc, char **argv);

#endif
