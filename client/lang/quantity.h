// Amounts as people write them.
#ifndef DRAY_CLIENT_LANG_QUANTITY_H
#define DRAY_CLIENT_LANG_QUANTITY_H

#include <stdint.h>

#include "proto/error.h"

// 256M, 1G, 64MB, 16MiB, 1.5GiB, 1000: K, M, G, T are powers of 1024 and so are KiB..., KB... are powers of
// 1000.
int size_parse(const char *text, uint64_t *out, struct error *err);
// 30 (seconds), 1.5s, 200ms, 10us, 50ns, 5m, 2h, 1d, 1h30m, as nanoseconds.  0 is fine.
int duration_parse(const char *text, uint64_t *ns, struct error *err);

#endif
