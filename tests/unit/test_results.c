// What a turn says to a client of results: each task once, with the right bytes, in few messages, and payload
// frames passed on untouched where they can be.
#include "broker/results.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/peer.h"
#include "proto/frame_check.h"
#include "proto/payload.h"

enum { TASKS = 3000, WORKERS = 3, LAYER = 4, JOB = 9 };

// What the client has heard.
struct client {
    struct arena arena;
    struct parcels *parcels;
    unsigned messages, frames, passed, batches, failed, damaged;
    size_t largest; // frame 0
    uint8_t told[TASKS]; // 1 inline, 2 at a worker, 3 failed
    uint32_t at_worker[TASKS];
};

static uint32_t encoding_size(uint32_t index)
{
    return 16 + index % 5;
}

static void hear_batch(struct client *client, const Dray__ResultBatch *batch, struct buffer *frame)
{
    struct buffer *raw = NULL;
    size_t n = 0, at = 0;

    assert_int_equal(batch->job, JOB);
    assert_int_equal(batch->layer, LAYER);
    if (frame != NULL) {
        assert_int_equal(payload_decode(frame->data, frame->size, &raw, NULL), 0);
        for (size_t i = 0; i < client->parcels->count; i++) {
            client->passed += client->parcels->parcel[i].frame == frame;
        }
    }
    for (size_t i = 0; i < batch->n_first; i++) {
        for (uint32_t index = batch->first[i]; index < batch->first[i] + batch->count[i]; index++, n++) {
            assert_int_equal(client->told[index], 0);
            if (batch->why != NULL) {
                client->told[index] = 3;
                continue;
            }
            assert_int_equal(batch->bytes[n], 1000 + index);
            client->told[index] = raw != NULL ? 1 : 2;
            client->at_worker[index] = batch->has_worker ? batch->worker : 0;
            if (raw != NULL) {
                assert_int_equal(batch->inline_bytes[n], encoding_size(index));
                for (uint32_t b = 0; b < batch->inline_bytes[n]; b++) {
                    assert_int_equal(raw->data[at++], (uint8_t)(index * 7));
                }
            }
        }
    }
    if (raw != NULL) {
        assert_int_equal(at, raw->size);
    }
    buffer_unref(raw);
}

static void hear(void *arg, Dray__Results *message, struct buffer *const *frames, size_t count)
{
    struct client *client = arg;
    size_t frame = 0;
    struct error err = {0};

    assert_int_equal(frame_check(FRAME_RESULTS, &message->base, &client->arena, &err), 0);
    assert_true(count + 2 <= FRAME_COUNT_MAX);
    client->messages++;
    if (frame_size(&message->base) > client->largest) {
        client->largest = frame_size(&message->base);
    }
    client->frames += (unsigned)count;
    for (size_t i = 0; i < message->n_batch; i++) {
        const Dray__ResultBatch *batch = message->batch[i];

        client->batches++;
        hear_batch(client, batch, batch->n_inline_bytes > 0 ? frames[frame++] : NULL);
    }
    assert_int_equal(frame, count);
}

static const struct peer *find_worker(void *arg, uint32_t number)
{
    static struct peer workers[WORKERS + 1];

    (void)arg;
    workers[number].number = number;
    return &workers[number];
}

static void note_damaged(void *arg, uint32_t worker, const struct error *why)
{
    struct client *client = arg;

    (void)worker;
    assert_int_not_equal(why->code, 0);
    client->damaged++;
}

// Tasks of a worker as they come with one DONE: a frame for several ranges.
static void complete(struct parcels *parcels, struct arena *arena, uint32_t worker, size_t n,
                     const uint32_t (*range)[2])
{
    static uint8_t data[TASKS * 24];
    uint32_t tasks = 0;
    uint32_t *sizes = arena_array(arena, TASKS, sizeof(*sizes));
    struct buffer *frame = NULL;
    size_t used = 0;

    for (size_t i = 0; i < n; i++) {
        for (uint32_t index = range[i][0]; index < range[i][0] + range[i][1]; index++) {
            sizes[tasks] = encoding_size(index);
            memset(data + used, (uint8_t)(index * 7), sizes[tasks]);
            used += sizes[tasks++];
        }
    }
    assert_int_equal(payload_encode(data, used, PAYLOAD_RAW, &frame, NULL), 0);
    assert_int_equal(parcels_add(parcels, worker, frame, tasks, sizes, NULL), 0);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(parcels_name(parcels, &(struct task_range){JOB, LAYER, range[i][0], range[i][1]}), 0);
    }
}

struct fixture {
    struct results *results;
    struct parcels parcels;
    struct arena arena;
    struct client client;
    struct sched_action action[TASKS];
    size_t actions;
    uint64_t sizes[TASKS];
};

static struct fixture fixture;

static int set_up(void **state)
{
    (void)state;
    memset(&fixture, 0, sizeof(fixture));
    arena_init(&fixture.arena, 0);
    arena_init(&fixture.client.arena, 0);
    fixture.client.parcels = &fixture.parcels;
    fixture.results = results_create();
    for (uint32_t i = 0; i < TASKS; i++) {
        fixture.sizes[i] = 1000 + i;
    }
    return fixture.results == NULL;
}

static int tear_down(void **state)
{
    (void)state;
    results_destroy(fixture.results);
    parcels_fini(&fixture.parcels);
    arena_fini(&fixture.arena);
    arena_fini(&fixture.client.arena);
    return 0;
}

static void add(uint32_t worker, uint32_t first, uint32_t count)
{
    struct sched_action *action = &fixture.action[fixture.actions++];

    action->type = worker == 0 ? ACTION_RESULT_FAILED : ACTION_RESULT;
    action->range = (struct task_range){JOB, LAYER, first, count};
    action->worker = worker;
    action->sizes = &fixture.sizes[first];
    action->code = 5;
    action->text = "it broke";
    assert_int_equal(results_add(fixture.results, action), 0);
}

static void emit(void)
{
    const struct results_handler handler = {&fixture.client, hear, find_worker, note_damaged};

    assert_int_equal(results_emit(fixture.results, &fixture.parcels, &fixture.arena, &handler), 0);
}

static void test_passed_on_untouched(void **state)
{
    (void)state;
    // Two DONE of one worker: the scheduler tells them as one range.
    complete(&fixture.parcels, &fixture.arena, 1, 1, (const uint32_t[][2]){{0, 1000}});
    complete(&fixture.parcels, &fixture.arena, 1, 1, (const uint32_t[][2]){{1000, 500}});
    // One frame whose ranges the scheduler tells apart.
    complete(&fixture.parcels, &fixture.arena, 2, 2, (const uint32_t[][2]){{1500, 100}, {2000, 100}});
    add(1, 0, 1500);
    add(2, 1500, 100);
    add(2, 2000, 100);
    emit();
    assert_int_equal(fixture.client.messages, 1);
    assert_int_equal(fixture.client.frames, 3);
    assert_int_equal(fixture.client.passed, 3);
    for (uint32_t i = 0; i < 2100; i++) {
        assert_int_equal(fixture.client.told[i], i < 1600 || i >= 2000 ? 1 : 0);
    }
    assert_int_equal(fixture.client.at_worker[0], 1);
}

static void test_parts_are_copied_out(void **state)
{
    (void)state;
    complete(&fixture.parcels, &fixture.arena, 1, 1, (const uint32_t[][2]){{0, 1000}});
    add(1, 100, 50);
    add(1, 300, 100);
    emit();
    assert_int_equal(fixture.client.messages, 1);
    assert_int_equal(fixture.client.frames, 1);
    assert_int_equal(fixture.client.passed, 0);
    for (uint32_t i = 0; i < 1000; i++) {
        assert_int_equal(fixture.client.told[i], (i >= 100 && i < 150) || (i >= 300 && i < 400));
    }
}

static void test_many_small_frames_become_one_a_worker(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 2000; i++) {
        complete(&fixture.parcels, &fixture.arena, 1 + i % 3, 1, (const uint32_t[][2]){{i, 1}});
        add(1 + i % 3, i, 1);
    }
    emit();
    assert_int_equal(fixture.client.messages, 1);
    assert_int_equal(fixture.client.frames, 3);
    for (uint32_t i = 0; i < 2000; i++) {
        assert_int_equal(fixture.client.told[i], 1);
        assert_int_equal(fixture.client.at_worker[i], 1 + i % 3);
    }
}

static void test_there_and_failed(void **state)
{
    (void)state;
    complete(&fixture.parcels, &fixture.arena, 1, 1, (const uint32_t[][2]){{10, 10}});
    add(1, 0, 30); // ten are here
    add(2, 30, 10);
    add(0, 40, 5);
    add(0, 50, 5);
    add(1, 60, 10);
    emit();
    assert_int_equal(fixture.client.messages, 1);
    assert_int_equal(fixture.client.batches, 4);
    for (uint32_t i = 0; i < 70; i++) {
        uint8_t expected = i >= 10 && i < 20 ? 1 : i < 40 || i >= 60 ? 2 : i < 45 || (i >= 50 && i < 55) ? 3 : 0;

        assert_int_equal(fixture.client.told[i], expected);
        if (expected == 2) {
            assert_int_equal(fixture.client.at_worker[i], i < 30 || i >= 60 ? 1 : 2);
        }
    }
    // And nothing is left for the next turn.
    emit();
    assert_int_equal(fixture.client.messages, 1);
}

// Each task failed in other words, as many as there can be: no message is larger than a client takes.
static void test_many_words(void **state)
{
    char *words = arena_zalloc(&fixture.arena, (size_t)TASKS * FRAME_NAME_MAX);

    (void)state;
    assert_non_null(words);
    memset(words, 'w', (size_t)TASKS * FRAME_NAME_MAX);
    for (uint32_t i = 0; i < TASKS; i++) {
        char *text = words + (size_t)i * FRAME_NAME_MAX;

        snprintf(text + FRAME_NAME_MAX - 8, 8, "%u", i);
        add(0, i, 1);
        fixture.action[fixture.actions - 1].text = text;
    }
    emit();
    assert_int_equal(fixture.client.messages, 2);
    assert_true(fixture.client.largest < 9 << 20);
    for (uint32_t i = 0; i < TASKS; i++) {
        assert_int_equal(fixture.client.told[i], 3);
    }
}

static void test_another_workers_word_does_not_count(void **state)
{
    (void)state;
    complete(&fixture.parcels, &fixture.arena, 2, 1, (const uint32_t[][2]){{0, 10}});
    add(1, 0, 10);
    emit();
    assert_int_equal(fixture.client.frames, 0);
    assert_int_equal(fixture.client.told[0], 2);
}

static void test_damaged_payload(void **state)
{
    struct parcel *parcel;
    uint8_t *copy;
    struct buffer *damaged;

    (void)state;
    complete(&fixture.parcels, &fixture.arena, 1, 1, (const uint32_t[][2]){{0, 10}});
    parcel = &fixture.parcels.parcel[0];
    damaged = buffer_create(parcel->frame->size, &copy);
    memcpy(copy, parcel->frame->data, parcel->frame->size);
    copy[parcel->frame->size - 1] ^= 1;
    buffer_unref(parcel->frame);
    parcel->frame = damaged;
    add(1, 0, 5); // so that somebody has to look inside
    emit();
    assert_true(fixture.client.damaged > 0);
    assert_int_equal(fixture.client.told[0], 2);
}

// Any ranges of any workers, with and without their bytes, in any order.
static void test_random(void **state)
{
    unsigned seed = 1;

    (void)state;
    for (int round = 0; round < 300; round++) {
        uint8_t expected[TASKS] = {0};
        uint32_t at = 0;

        while (at + 400 < TASKS) {
            uint32_t range[8][2];
            uint32_t worker = 1 + (uint32_t)(rand_r(&seed) % WORKERS);
            size_t n = 1 + (size_t)(rand_r(&seed) % 8);
            bool here = rand_r(&seed) % 3 != 0, failed = rand_r(&seed) % 8 == 0;

            for (size_t i = 0; i < n; i++) {
                range[i][0] = at + (uint32_t)(rand_r(&seed) % 3);
                range[i][1] = 1 + (uint32_t)(rand_r(&seed) % (round % 2 == 0 ? 2 : 40));
                at = range[i][0] + range[i][1];
            }
            if (here && !failed) {
                complete(&fixture.parcels, &fixture.arena, worker, n, (const uint32_t(*)[2])range);
            }
            for (size_t i = 0; i < n; i++) {
                uint32_t skip = rand_r(&seed) % 5 == 0 ? (uint32_t)rand_r(&seed) % range[i][1] : 0;

                add(failed ? 0 : worker, range[i][0] + skip, range[i][1] - skip);
                memset(expected + range[i][0] + skip, failed ? 3 : here ? 1 : 2, range[i][1] - skip);
            }
        }
        emit();
        assert_int_equal(fixture.client.messages, 1);
        assert_memory_equal(fixture.client.told, expected, sizeof(expected));
        memset(fixture.client.told, 0, sizeof(fixture.client.told));
        memset(fixture.action, 0, sizeof(fixture.action));
        fixture.client.messages = 0;
        fixture.actions = 0;
        parcels_reset(&fixture.parcels);
        arena_reset(&fixture.arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_passed_on_untouched, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_parts_are_copied_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_many_small_frames_become_one_a_worker, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_there_and_failed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_many_words, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_another_workers_word_does_not_count, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_damaged_payload, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_random, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
