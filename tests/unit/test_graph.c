#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/graph.h"
#include "tests/unit/generate.h"

static const Dray__Pattern patterns[] = {DRAY__PATTERN__ONE_TO_ONE, DRAY__PATTERN__FAN_IN,
                                         DRAY__PATTERN__ALL,        DRAY__PATTERN__BROADCAST,
                                         DRAY__PATTERN__WINDOW,     DRAY__PATTERN__EXPLICIT};

// A sound input of a layer of *tasks tasks (chosen here) that names one of source_tasks.
static const uint32_t *full_offset; // of the last random input, before rows were left out

static Dray__Input *random_input(uint64_t *r, struct arena *a, uint32_t *source_tasks, uint32_t *tasks)
{
    Dray__Input *in = arena_zalloc(a, sizeof(*in));

    dray__input__init(in);
    in->pattern = patterns[random_below(r, 6)];
    *tasks = 1 + random_below(r, 40);
    switch (in->pattern) {
    case DRAY__PATTERN__FAN_IN:
        in->has_width = true;
        in->width = 2 + (random_below(r, 9) == 0 ? UINT32_MAX - 2 : random_below(r, 10));
        *tasks = (uint32_t)(((uint64_t)*source_tasks + in->width - 1) / in->width);
        break;
    case DRAY__PATTERN__BROADCAST:
        *source_tasks = 1;
        break;
    case DRAY__PATTERN__WINDOW:
        in->has_width = true;
        in->width = 1 + (random_below(r, 9) == 0 ? UINT32_MAX - 1 : random_below(r, 5));
        *tasks = *source_tasks;
        break;
    case DRAY__PATTERN__ONE_TO_ONE:
        *tasks = *source_tasks;
        break;
    case DRAY__PATTERN__EXPLICIT:
        in->n_offset = *tasks + 1;
        in->offset = arena_array(a, in->n_offset, sizeof(uint32_t));
        in->target = arena_array(a, *tasks * 5 + 1, sizeof(uint32_t));
        in->offset[0] = 0;
        uint32_t ragged = random_below(r, *tasks + 1); // rows from here on are of one length
        uint32_t row = random_below(r, 6);

        for (uint32_t t = 0; t < *tasks; t++) {
            row = t < ragged ? random_below(r, 6) : row;
            for (uint32_t n = 0; n < row; n++) {
                in->target[in->n_target++] = random_below(r, *source_tasks);
            }
            in->offset[t + 1] = (uint32_t)in->n_target;
        }
        // The offsets stay where they were, for edges_between.
        if (*tasks > 3 && random_below(r, 2) == 0) {
            // Most of them empty: those alone that are not are listed.
            in->offset = arena_copy(a, in->offset, in->n_offset * sizeof(uint32_t));
            in->n_target = 0;
            for (uint32_t t = 0; t < *tasks; t++) {
                for (uint32_t n = random_below(r, 4) == 0 ? random_below(r, 3) : 0; n > 0; n--) {
                    in->target[in->n_target++] = random_below(r, *source_tasks);
                }
                in->offset[t + 1] = (uint32_t)in->n_target;
            }
            full_offset = in->offset;
            input_list_rows(in, *tasks, arena_array(a, 2 * in->n_target + 1, sizeof(uint32_t)));
            ragged = in->n_task > 0 ? (uint32_t)in->n_task : *tasks;
        } else {
            full_offset = in->offset;
        }
        if (random_below(r, 2) == 0) {
            input_trim_rows(in);
            assert_true(in->n_offset <= ragged + 1);
        }
        break;
    default:
        break;
    }
    return in;
}

// The definitions in graph.proto, taken at their word.
static uint32_t edges_between(const Dray__Input *in, uint32_t source_tasks, int64_t i, int64_t p)
{
    int64_t k = in->width;
    uint32_t n = 0;

    switch (in->pattern) {
    case DRAY__PATTERN__ONE_TO_ONE:
        return p == i;
    case DRAY__PATTERN__FAN_IN:
        return p >= i * k && p < (i + 1) * k && p < source_tasks;
    case DRAY__PATTERN__ALL:
        return 1;
    case DRAY__PATTERN__BROADCAST:
        return p == 0;
    case DRAY__PATTERN__WINDOW:
        return p >= i - k && p <= i + k;
    default:
        for (uint32_t e = full_offset[i]; e < full_offset[i + 1]; e++) {
            n += in->target[e] == p;
        }
        return n;
    }
}

static void test_edges(void **state)
{
    (void)state;
    struct arena a;

    arena_init(&a, 0);
    for (uint64_t seed = 0; seed < 2000; seed++) {
        uint64_t r = seed;
        uint32_t source_tasks = 1 + random_below(&r, 40);
        uint32_t tasks;
        struct error err = {0};

        arena_reset(&a);

        Dray__Input *in = random_input(&r, &a, &source_tasks, &tasks);
        struct edge_index *index =
            in->pattern == DRAY__PATTERN__EXPLICIT ? edge_index_create(in, tasks, source_tasks) : NULL;

        if (input_check(in, tasks, source_tasks, &err) != 0) {
            fail_msg("seed %d: %s", (int)seed, err.text);
        }
        for (uint32_t i = 0; i < tasks; i++) {
            uint32_t found[41] = {0};
            struct span needs = input_needs(in, tasks, source_tasks, i);

            for (uint32_t k = 0; k < needs.count; k++) {
                assert_true(span_at(&needs, k) < source_tasks);
                found[span_at(&needs, k)]++;
            }
            for (uint32_t p = 0; p < source_tasks; p++) {
                assert_int_equal(found[p], edges_between(in, source_tasks, i, p));
            }
        }
        for (uint32_t p = 0; p < source_tasks; p++) {
            uint32_t found[41] = {0};
            struct span dependents = input_dependents(in, tasks, source_tasks, index, p);

            for (uint32_t k = 0; k < dependents.count; k++) {
                assert_true(span_at(&dependents, k) < tasks);
                assert_true(k == 0 || span_at(&dependents, k) >= span_at(&dependents, k - 1));
                found[span_at(&dependents, k)]++;
            }
            for (uint32_t i = 0; i < tasks; i++) {
                assert_int_equal(found[i], edges_between(in, source_tasks, i, p));
            }
        }
        edge_index_destroy(index);
    }
    edge_index_destroy(NULL);
    arena_fini(&a);
}

static Dray__Graph *random_graph(uint64_t *r, struct arena *a)
{
    Dray__Graph *g = arena_zalloc(a, sizeof(*g));

    dray__graph__init(g);
    g->n_layer = 1 + random_below(r, 6);
    g->layer = arena_array(a, g->n_layer, sizeof(*g->layer));
    for (size_t i = 0; i < g->n_layer; i++) {
        Dray__Layer *l = g->layer[i] = arena_zalloc(a, sizeof(*l));

        dray__layer__init(l);
        l->tasks = 1 + random_below(r, 40);
        l->op.len = 3;
        l->op.data = (uint8_t *)arena_strdup(a, "op?");
        l->name = arena_printf(a, "layer%zu", i);
        if (i > 0) {
            uint32_t from = random_below(r, (uint32_t)i);
            uint32_t source_tasks = g->layer[from]->tasks;
            Dray__Input *in;

            do { // broadcast fits layers of one task only
                source_tasks = g->layer[from]->tasks;
                in = random_input(r, a, &source_tasks, &l->tasks);
            } while (source_tasks != g->layer[from]->tasks);
            in->layer = from;
            l->n_input = 1;
            l->input = arena_copy(a, &in, sizeof(in));
        } else {
            l->n_source = 1 + (l->tasks > 1);
            l->source = arena_array(a, 2, sizeof(*l->source));
            for (uint32_t k = 0; k < l->n_source; k++) {
                Dray__Source *s = l->source[k] = arena_zalloc(a, sizeof(*s));

                dray__source__init(s);
                s->name = arena_printf(a, "file%u", k);
                s->first = k == 0 ? 0 : l->tasks / 2;
                s->count = l->n_source == 1 ? 1 : k == 0 ? l->tasks / 2 : l->tasks - l->tasks / 2;
            }
        }
    }
    return g;
}

static void test_round_trip(void **state)
{
    (void)state;
    struct arena a;

    arena_init(&a, 0);
    for (uint64_t seed = 0; seed < 500; seed++) {
        uint64_t r = seed;
        struct error err = {0};
        const Dray__Graph *back = NULL;

        arena_reset(&a);

        Dray__Graph *g = random_graph(&r, &a);
        uint8_t *packed = arena_alloc(&a, dray__graph__get_packed_size(g));
        size_t size = dray__graph__pack(g, packed);

        if (graph_decode(packed, size, &a, &back, &err) != 0) {
            fail_msg("seed %d: %s", (int)seed, err.text);
        }
        assert_int_equal(back->n_layer, g->n_layer);

        uint8_t *again = arena_alloc(&a, size);

        assert_int_equal(dray__graph__pack(back, again), size);
        assert_memory_equal(packed, again, size);
    }
    arena_fini(&a);
}

static Dray__Input *input(struct arena *a, Dray__Pattern pattern, uint32_t layer, uint32_t width)
{
    Dray__Input *in = arena_zalloc(a, sizeof(*in));

    dray__input__init(in);
    in->layer = layer;
    in->pattern = pattern;
    in->has_width = width > 0;
    in->width = width;
    return in;
}

// Two layers of these many tasks with one input between them.
static Dray__Graph *two_layers(struct arena *a, uint32_t source_tasks, uint32_t tasks, Dray__Input *in)
{
    Dray__Graph *g = arena_zalloc(a, sizeof(*g));

    dray__graph__init(g);
    g->n_layer = 2;
    g->layer = arena_array(a, 2, sizeof(*g->layer));
    for (int i = 0; i < 2; i++) {
        Dray__Layer *l = g->layer[i] = arena_zalloc(a, sizeof(*l));

        dray__layer__init(l);
        l->tasks = i == 0 ? source_tasks : tasks;
        l->op.len = 1;
        l->op.data = (uint8_t *)arena_strdup(a, "x");
        l->name = arena_printf(a, "layer%d", i);
    }
    g->layer[1]->n_input = 1;
    g->layer[1]->input = arena_copy(a, &in, sizeof(in));
    return g;
}

// One layer of three tasks whose last but one and last need these partitions of it.
static Dray__Graph *own_edges(struct arena *a, uint32_t of_1, uint32_t of_2)
{
    Dray__Input *in = input(a, DRAY__PATTERN__EXPLICIT, 1, 0);
    Dray__Graph *g = two_layers(a, 1, 3, in);

    in->n_offset = 4;
    in->offset = arena_copy(a, (uint32_t[]){0, 0, 1, 2}, 16);
    in->n_target = 2;
    in->target = arena_copy(a, (uint32_t[]){of_1, of_2}, 8);
    return g;
}

static Dray__Source *source(struct arena *a, const char *name, uint32_t first, uint32_t count)
{
    Dray__Source *s = arena_zalloc(a, sizeof(*s));

    dray__source__init(s);
    s->name = arena_strdup(a, name);
    s->first = first;
    s->count = count;
    return s;
}

static void refused(const Dray__Graph *g, const char *why)
{
    struct error err = {0};

    assert_int_equal(graph_check(g, &err), -EBADMSG);
    if (strstr(err.text, why) == NULL) {
        fail_msg("'%s' does not say '%s'", err.text, why);
    }
}

static void taken(const Dray__Graph *g)
{
    struct error err = {0};

    if (graph_check(g, &err) != 0) {
        fail_msg("graph_check: %s", err.text);
    }
}

static void test_check(void **state)
{
    (void)state;
    struct arena a;
    Dray__Graph *g;

    arena_init(&a, 0);
#define ONE(p, width) input(&a, DRAY__PATTERN__##p, 0, width)
    taken(two_layers(&a, 5, 5, ONE(ONE_TO_ONE, 0)));
    refused(two_layers(&a, 5, 4, ONE(ONE_TO_ONE, 0)),
            "layer 1 ('layer1') of a graph: input 0 (layer 0): one-to-one");
    taken(two_layers(&a, 5, 3, ONE(FAN_IN, 2)));
    refused(two_layers(&a, 5, 2, ONE(FAN_IN, 2)), "fan-in of width 2 from 5 to 2");
    refused(two_layers(&a, 5, 5, ONE(FAN_IN, 1)), "fan-in of width 1");
    refused(two_layers(&a, 5, 5, ONE(BROADCAST, 0)), "broadcast of a layer of 5");
    taken(two_layers(&a, 1, 5, ONE(BROADCAST, 0)));
    refused(two_layers(&a, 5, 5, ONE(WINDOW, 0)), "window of width 0");
    refused(two_layers(&a, 5, 4, ONE(WINDOW, 1)), "window of width 1 from 5 to 4");
    taken(two_layers(&a, 5, 5, ONE(WINDOW, UINT32_MAX)));
    taken(two_layers(&a, 100000, 100000, ONE(ALL, 0)));
    refused(two_layers(&a, 1000000, 1000000, ONE(ALL, 0)), "too many");
    refused(two_layers(&a, 0, 5, ONE(ALL, 0)), "layer 0 ('layer0') of a graph: it has 0 tasks");
    refused(two_layers(&a, 0x7ffffffe, 2, ONE(ALL, 0)), "2 tasks, there can be 1 to 1");
    refused(two_layers(&a, 0x80000000, 1, ONE(ALL, 0)), "2147483648 tasks");
    refused(two_layers(&a, 1, 5, input(&a, DRAY__PATTERN__ALL, 1, 0)),
            "reads its own layer by a pattern that is not LAG or EXPLICIT: a cycle");
    refused(two_layers(&a, 1, 5, input(&a, DRAY__PATTERN__ALL, 9, 0)),
            "layer 9, which does not come before layer 1");
    refused(two_layers(&a, 5, 5, ONE(LAG, 1)), "LAG is for a layer's own partitions");
    refused(two_layers(&a, 5, 5, input(&a, DRAY__PATTERN__LAG, 1, 0)), "lag of width 0");
    taken(two_layers(&a, 5, 5, input(&a, DRAY__PATTERN__LAG, 1, UINT32_MAX)));
    taken(own_edges(&a, 0, 1));
    refused(own_edges(&a, 0, 2), "task 2 needs partition 2 of its own layer");
    refused(own_edges(&a, 1, 1), "task 1 needs partition 1 of its own layer");
    g = two_layers(&a, 1, 1, ONE(ALL, 0));
    g->layer[1]->op.len = 0;
    refused(g, "no operation");
    g->n_layer = 0;
    refused(g, "0 layers");
#undef ONE
    arena_fini(&a);
}

static void test_check_explicit(void **state)
{
    (void)state;
    struct arena a;
    Dray__Graph *g;
    Dray__Input *in;

    arena_init(&a, 0);
#define EXPLICIT                                                                                             \
    (in = input(&a, DRAY__PATTERN__EXPLICIT, 0, 0), in->n_offset = 4, in->n_target = 3,                      \
     in->offset = arena_copy(&a, (uint32_t[]){0, 1, 1, 3}, 16),                                              \
     in->target = arena_copy(&a, (uint32_t[]){4, 0, 4}, 12), g = two_layers(&a, 5, 3, in), in)
    (void)EXPLICIT;
    taken(g);
    EXPLICIT->n_offset = 3;
    refused(g, "need 4 offsets, or fewer and a width, there are 3");
    EXPLICIT->n_offset = 0;
    refused(g, "need 4 offsets, or fewer and a width, there are 0");
    EXPLICIT->n_offset = 5;
    in->has_width = true;
    refused(g, "there are 5");
    EXPLICIT->offset[0] = 1;
    refused(g, "begin at 1");
    EXPLICIT->offset[3] = 2;
    refused(g, "rows go to 2 with 3 targets");
    // {4}, {} and two more by their width; all by their width.
    EXPLICIT->n_offset = 3;
    in->has_width = true;
    in->width = 2;
    taken(g);
    in->width = UINT32_MAX;
    refused(g, "rows go to 4294967296 with 3 targets");
    EXPLICIT->n_offset = 0;
    in->has_width = true;
    in->width = 1;
    taken(g);
    in->target[1] = 5;
    refused(g, "task 1 needs partition 5 of a layer of 5");
    // Tasks 0 and 2 have the rows.
    EXPLICIT->n_offset = 3;
    in->offset[2] = 3;
    in->n_task = 2;
    in->task = arena_copy(&a, (uint32_t[]){0, 2}, 8);
    taken(g);
    in->target[2] = 5;
    refused(g, "task 2 needs partition 5 of a layer of 5");
    in->target[2] = 4;
    in->task[1] = 3;
    refused(g, "do not ascend below 3 at place 1");
    in->task[1] = 0;
    refused(g, "do not ascend below 3 at place 1");
    in->task[1] = 2;
    in->n_task = 3;
    in->task = arena_copy(&a, (uint32_t[]){0, 1, 2}, 12);
    refused(g, "for 3 tasks need 4 offsets, or fewer and a width, there are 3");
    in->n_task = 4;
    refused(g, "for 4 of 3 tasks");
    EXPLICIT->n_offset = 0;
    in->has_width = true;
    in->width = 0;
    refused(g, "rows go to 0 with 3 targets");
    EXPLICIT->offset[1] = 2;
    refused(g, "descend at task 1");
    EXPLICIT->offset[1] = UINT32_MAX;
    refused(g, "descend at task 1");
    EXPLICIT->target[2] = 5;
    refused(g, "task 2 needs partition 5 of a layer of 5");
    EXPLICIT->pattern = DRAY__PATTERN__ALL;
    refused(g, "a pattern that computes them");
#undef EXPLICIT
    arena_fini(&a);
}

static void test_check_sources(void **state)
{
    (void)state;
    struct arena a;
    Dray__Graph *g;

    arena_init(&a, 0);

    const struct {
        uint32_t first[2];
        uint32_t count[2];
        const char *why;
    } cases[] = {
        {{0, 2}, {2, 3}, NULL},
        {{0, 2}, {2, 2}, "end at task 4 of 5"},
        {{0, 2}, {2, 4}, "end at task 6 of 5"},
        {{0, 3}, {2, 2}, "from task 3 on, expected from 2"},
        {{0, 1}, {2, 4}, "from task 1 on, expected from 2"},
        {{1, 2}, {1, 3}, "from task 1 on, expected from 0"},
        {{0, 0}, {0, 5}, "has 0 tasks"},
        {{0, 2}, {2, UINT32_MAX}, "do not cover"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        Dray__Source *list[2] = {source(&a, "a.csv", cases[i].first[0], cases[i].count[0]),
                                 source(&a, "b.csv", cases[i].first[1], cases[i].count[1])};

        g = two_layers(&a, 5, 1, input(&a, DRAY__PATTERN__ALL, 0, 0));
        g->layer[0]->n_source = 2;
        g->layer[0]->source = arena_copy(&a, list, sizeof(list));
        if (cases[i].why == NULL) {
            taken(g);
            list[0]->name[0] = '\0';
            refused(g, "empty");
        } else {
            refused(g, cases[i].why);
        }
    }
    arena_fini(&a);
}

// Damaged graphs are refused; those that are taken have no edge that leads outside.
static void test_damage(void **state)
{
    (void)state;
    struct arena a;
    int accepted = 0;

    arena_init(&a, 0);
    for (uint64_t seed = 0; seed < 50000; seed++) {
        uint64_t r = seed;
        struct error err = {0};
        const Dray__Graph *g = NULL;

        arena_reset(&a);

        Dray__Graph *sound = random_graph(&r, &a);
        uint8_t *packed = arena_alloc(&a, dray__graph__get_packed_size(sound));
        size_t size = random_damage(&r, packed, dray__graph__pack(sound, packed));
        uint8_t *exact = malloc(size);

        memcpy(exact, packed, size);
        if (graph_decode(exact, size, &a, &g, &err) != 0) {
            assert_true(err.text[0] != '\0');
            free(exact);
            continue;
        }
        accepted++;
        for (size_t l = 0; l < g->n_layer; l++) {
            for (size_t i = 0; i < g->layer[l]->n_input; i++) {
                const Dray__Input *in = g->layer[l]->input[i];
                uint32_t tasks = g->layer[l]->tasks;
                uint32_t source_tasks = g->layer[in->layer]->tasks;

                for (uint32_t k = 0; k < 3; k++) {
                    struct span s = input_needs(in, tasks, source_tasks, k == 0 ? 0 : tasks - 1);

                    assert_true(s.count <= GRAPH_NEEDS_MAX);
                    for (uint32_t e = 0; e < s.count; e += 1 + s.count / 100) {
                        assert_true(span_at(&s, e) < source_tasks);
                    }
                }
            }
        }
        free(exact);
    }
    assert_true(accepted > 1000);
    arena_fini(&a);
}

// A few bytes name two thousand million tasks that read nothing of their own layer: rows that are not there
// take no time.
static void test_empty_rows_are_free(void **state)
{
    (void)state;
    struct arena a;
    Dray__Graph *g;

    arena_init(&a, 0);
    g = two_layers(&a, 1, GRAPH_TASKS_MAX - 1, input(&a, DRAY__PATTERN__ALL, 0, 0));
    g->layer[1]->n_input = GRAPH_INPUTS_MAX;
    g->layer[1]->input = arena_array(&a, GRAPH_INPUTS_MAX, sizeof(Dray__Input *));
    for (size_t k = 0; k < GRAPH_INPUTS_MAX; k++) {
        g->layer[1]->input[k] = input(&a, DRAY__PATTERN__EXPLICIT, 1, 0);
        g->layer[1]->input[k]->has_width = true;
    }
    taken(g);
    arena_fini(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_edges),         cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_check),         cmocka_unit_test(test_check_explicit),
        cmocka_unit_test(test_check_sources), cmocka_unit_test(test_damage),
        cmocka_unit_test(test_empty_rows_are_free),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
