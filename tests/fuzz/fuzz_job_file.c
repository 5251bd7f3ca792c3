#include <stdint.h>
#include <stdlib.h>

#include "client/submit/job_file.h"
#include "proto/graph.h"
#include "proto/op.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// Files of tasks, the first byte says of which format: what is taken is a graph that the broker and the
// workers take.
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct job_file_host host = {.directory = "/home/{me}"};
    const Dray__Graph *graph;
    struct job_file job;
    struct error err = {0};
    struct arena arena;
    size_t packed;
    uint8_t *bytes;

    if (size == 0) {
        return 0;
    }
    arena_init(&arena, (size_t)256 << 20);
    if (job_file_read("f", (const char *)data + 1, size - 1,
                      (data[0] & 1) != 0 ? DOCUMENT_JSON : DOCUMENT_YAML, &host, &arena, &job, &err) == 0) {
        packed = dray__graph__get_packed_size(job.graph);
        bytes = malloc(packed);
        if (bytes == NULL) {
            abort();
        }
        dray__graph__pack(job.graph, bytes);
        if (graph_decode(bytes, packed, &arena, &graph, &err) != 0) {
            abort();
        }
        for (size_t i = 0; i < graph->n_layer; i++) {
            const Dray__Op *op;

            if (op_decode(graph->layer[i]->op.data, graph->layer[i]->op.len, &arena, &op, &err) != 0 ||
                op_check_tasks(op, graph->layer[i]->tasks, &err) != 0) {
                abort();
            }
        }
        free(bytes);
    } else if (err.code == 0 || err.text[0] == '\0') {
        abort();
    }
    arena_fini(&arena);
    return 0;
}
