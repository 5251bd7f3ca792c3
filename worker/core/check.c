// The invariants of state.h, computed anew.
#include "worker/core/agent.h"

#include <stdio.h>
#include <stdlib.h>

#include "worker/core/state.h"

#define MUST(truth)                                                                                          \
    do {                                                                                                     \
        if (!(truth)) {                                                                                      \
            fprintf(stderr, "agent_check line %d: not (%s)\n", __LINE__, #truth);                            \
            abort();                                                                                         \
        }                                                                                                    \
    } while (0)

struct sums {
    uint32_t queued, ready, running, fetching, copying, lines, checks;
    uint64_t held;
};

static uint64_t held_bit(const struct agent_layer *layer, uint32_t index)
{
    const struct block *block = block_find(layer, index);

    return block != NULL ? block->held >> index % BLOCK_CELLS & 1 : 0;
}

// A queued task lacks this one.
static void check_lack(const struct agent *agent, const struct agent_layer *source, uint32_t index)
{
    const struct block *block = block_find(source, index);
    uint64_t one = bit(index % BLOCK_CELLS);

    if (agent->checks != NULL) {
        return; // the step ran out of memory: the rest is not settled
    }
    MUST(block != NULL);
    MUST(((block_expected(block) | block->fetching | block->line) & one) != 0);
}

static uint32_t count_missing(const struct agent *agent, const struct agent_layer *layer, uint32_t index)
{
    uint32_t missing = 0;

    for (size_t k = 0; k < layer->inputs; k++) {
        const struct link *link = &layer->input[k];
        struct span span = input_needs(link->input, layer->tasks, link->source->tasks, index);

        for (uint32_t s = 0; s < span.count; s++) {
            if (held_bit(link->source, span_at(&span, s)) == 0) {
                check_lack(agent, link->source, span_at(&span, s));
                missing++;
            }
        }
    }
    return missing;
}

static void check_tasks(const struct agent *agent, const struct block *block)
{
    uint64_t tasks = block->queued | block->ready | block->running;

    MUST((block->queued & block->ready) == 0 && ((block->queued | block->ready) & block->running) == 0);
    MUST(((block->stopping | block->wanted | block->asked | block->rotten) & ~block->running) == 0);
    MUST(block->inner == 0);
    MUST(tasks == 0 || (block->layer->told && block->assignment != NULL));
    for (; tasks != 0; tasks &= tasks - 1) {
        uint32_t cell = lowest(tasks);
        const struct assignment *assignment = &agent->assignment[block->assignment[cell]];
        uint32_t index = block->first + cell;

        MUST(block->assignment[cell] < agent->assignments && assignment->layer == block->layer);
        MUST(index >= assignment->first && index < assignment->end);
        if ((block->ready & bit(cell)) != 0) {
            MUST(count_missing(agent, block->layer, index) == 0);
            MUST(assignment->cursor <= index);
            MUST(assignment->parked || agent->heap[assignment->heap_at] == block->assignment[cell]);
        } else if ((block->queued & bit(cell)) != 0) {
            MUST(block->missing[cell] > 0 && block->soon[cell] == 0);
            MUST(count_missing(agent, block->layer, index) == block->missing[cell]);
        }
    }
}

static void check_parts(const struct agent *agent, const struct block *block)
{
    MUST((block->own & ~block->held) == 0);
    MUST((block->own & block->sticky) == 0);
    MUST((block->copying & (block->held | block->queued | block->ready | block->running)) == 0);
    MUST((block->copying & ~(block->line | block->fetching)) == 0 || agent->checks != NULL);
    MUST((block->line & (block->held | block->fetching)) == 0);
    MUST((block->line & ~block->located) == 0);
    MUST((block->held & (block->queued | block->ready)) == 0 || agent->checks != NULL ||
         (block->held & block->own & (block->queued | block->ready)) == 0);
    MUST(block->in_line == (block->line != 0));
    MUST((block->located | block->fetching) == 0 || block->place != NULL);
    if (agent->checks == NULL) {
        MUST(block->check == 0 && !block->in_checks);
        MUST(!block_is_empty(block));
    }
}

static void check_layer(const struct agent *agent, const struct agent_layer *layer, struct sums *sums)
{
    struct sums mine = {0};

    for (uint32_t b = 0; b < layer->blocks; b++) {
        const struct block *block = layer->block[b];

        if (block == NULL) {
            continue;
        }
        MUST(block->layer == layer && block->first == b * BLOCK_CELLS);
        check_tasks(agent, block);
        check_parts(agent, block);
        mine.queued += popcount(block->queued);
        mine.ready += popcount(block->ready);
        mine.running += popcount(block->running);
        mine.fetching += popcount(block->fetching);
        mine.held += popcount(block->held);
        mine.copying += popcount(block->copying);
        mine.lines += block->in_line ? 1 : 0;
        mine.checks += block->in_checks ? 1 : 0;
    }
    MUST(mine.queued == layer->queued && mine.ready == layer->ready && mine.running == layer->running);
    MUST(layer->told || layer->inputs == 0);
    for (size_t k = 0; k < layer->inputs; k++) {
        const struct link *link = &layer->input[k];
        const struct link *found = link->source->users;

        while (found != NULL && found != link) {
            found = found->next;
        }
        MUST(found == link && link->layer == layer);
    }
    sums->queued += mine.queued;
    sums->ready += mine.ready;
    sums->running += mine.running;
    sums->fetching += mine.fetching;
    sums->held += mine.held;
    sums->copying += mine.copying;
    sums->lines += mine.lines;
    sums->checks += mine.checks;
}

static void check_order(const struct agent *agent)
{
    uint32_t tasks = 0;
    uint32_t ready = 0;
    uint32_t in_heap = 0;
    uint32_t parked = 0;

    for (uint32_t a = 0; a < agent->assignments; a++) {
        const struct assignment *assignment = &agent->assignment[a];

        if (assignment->layer == NULL) {
            continue;
        }
        MUST(assignment->tasks > 0 && assignment->ready <= assignment->tasks);
        tasks += assignment->tasks;
        ready += assignment->ready;
        in_heap += assignment->ready > 0 && !assignment->parked ? 1 : 0;
        parked += assignment->parked ? 1 : 0;
        MUST(!assignment->parked || assignment->ready > 0);
    }
    MUST(tasks == agent->waiting + agent->running);
    MUST(ready == agent->ready && in_heap == agent->heap_count);
    for (uint32_t a = agent->parked; a != NOBODY; a = agent->assignment[a].next) {
        MUST(agent->assignment[a].parked && parked-- > 0);
    }
    MUST(parked == 0);
    for (uint32_t h = 1; h < agent->heap_count; h++) {
        MUST(agent->assignment[agent->heap[(h - 1) / 2]].sequence <
             agent->assignment[agent->heap[h]].sequence);
    }
}

// What is not left is taken by what runs.
static void check_stocks(const struct agent *agent)
{
    for (size_t k = 0; k < agent->options.resources; k++) {
        uint64_t taken = 0;

        for (uint32_t s = 0; s < agent->options.threads; s++) {
            uint32_t some = agent->slot_takes[s * agent->options.resources + k];

            MUST(some == 0 || agent->slot[s].bundle != 0);
            taken += some;
        }
        MUST(taken + agent->stock[k].left == agent->stock[k].amount);
    }
}

void agent_check(const struct agent *agent)
{
    struct sums sums = {0};
    uint32_t bundles = 0;
    uint32_t lines = 0;
    uint32_t checks = 0;

    for (size_t b = 0; b <= agent->layers.mask; b++) {
        for (struct hash_node *node = agent->layers.bucket[b]; node != NULL; node = node->next) {
            check_layer(agent, hash_entry(node, struct agent_layer, node), &sums);
        }
    }
    check_order(agent);
    check_stocks(agent);
    for (const struct block *block = agent->line_head; block != NULL; block = block->line_next) {
        lines++;
    }
    for (const struct block *block = agent->checks; block != NULL; block = block->check_next) {
        checks++;
    }
    for (uint32_t s = 0; s < agent->options.threads; s++) {
        bundles += agent->slot[s].bundle != 0 ? 1 : 0;
    }
    MUST(lines == sums.lines && checks == sums.checks);
    MUST(sums.queued + sums.ready == agent->waiting && sums.ready == agent->ready);
    MUST(sums.running == agent->running && sums.held == agent->held);
    MUST(sums.fetching + agent->orphans == agent->fetching && sums.copying == agent->copying);
    MUST(agent->fetching <= agent->options.fetches_max);
    MUST(bundles == agent->bundles && bundles <= agent->options.threads);
}
