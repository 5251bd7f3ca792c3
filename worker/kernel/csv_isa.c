#include "worker/kernel/csv_isa.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static bool always(void)
{
    return true;
}

#if defined(__x86_64__)
static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
           __builtin_cpu_supports("popcnt") && __builtin_cpu_supports("lzcnt") && __builtin_cpu_supports("pclmul") &&
           __builtin_cpu_supports("fma") && __builtin_cpu_supports("aes");
}

static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512vbmi") &&
           __builtin_cpu_supports("avx512vbmi2") && __builtin_cpu_supports("avx512ifma");
}
#endif

// Best first.
static const struct {
    struct csv_isa isa;
    bool (*works)(void);
} table[] = {
#if defined(__x86_64__)
    {{"avx512", csv_index_avx512, csv_cells_int64_avx512, csv_cells_float64_avx512, csv_cells_encode_avx512}, has_avx512},
    {{"avx2", csv_index_avx2, csv_cells_int64_avx2, csv_cells_float64_avx2, csv_cells_encode_avx2}, has_avx2},
#endif
    {{"baseline", csv_index_baseline, csv_cells_int64, csv_cells_float64, csv_cells_encode}, always},
};

enum { ROWS = sizeof(table) / sizeof(table[0]) };

const struct csv_isa *csv_isa_choose(void)
{
    const char *wanted = getenv("DRAY_ISA");
    int i = 0;

    for (int k = 0; wanted != NULL && k < ROWS; k++) {
        if (strcmp(table[k].isa.name, wanted) == 0) {
            i = k;
        }
    }
    while (!table[i].works()) {
        i++;
    }
    return &table[i].isa;
}
