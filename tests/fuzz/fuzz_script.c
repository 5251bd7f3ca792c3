#include <stdint.h>
#include <stdlib.h>

#include "proto/graph.h"
#include "proto/op.h"
#include "tests/unit/plan_fixture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// Scripts: whatever is planned is a graph that the broker and the workers take.
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fake_files files = {.size = 5000, .count = 2};
    const struct query_host host = {&files, fake_probe, "/data"};
    const Dray__Graph *graph;
    struct query *query = NULL;
    struct error err = {0};
    struct arena arena;
    size_t bytes;
    void *packed;

    arena_init(&arena, 0);
    if (query_create((const char *)data, size, "s", &host, &query, &err) == 0 && query_needs_graph(query)) {
        if (query_graph(query, &arena, &packed, &bytes, &err) < 0 ||
            graph_decode(packed, bytes, &arena, &graph, &err) < 0) {
            abort();
        }
        for (size_t i = 0; i < graph->n_layer; i++) {
            const Dray__Op *op;

            if (op_decode(graph->layer[i]->op.data, graph->layer[i]->op.len, &arena, &op, &err) < 0) {
                abort();
            }
        }
    }
    query_destroy(query);
    arena_fini(&arena);
    return 0;
}
