// Random jobs that grow and read one another, and workers that die.
#include "broker/core/growth.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/sim/random.h"
#include "tests/unit/growth_play.h"

enum { RANDOM_LAYERS = 12, RANDOM_TASKS = 9, RANDOM_WORKERS = 3, RANGES = 4096 };

struct game {
    struct play play;
    struct random random;
    struct task_range given[RANDOM_WORKERS + 1][RANGES]; // to each worker, in order
    size_t gives[RANDOM_WORKERS + 1];
    uint32_t tasks[2][RANDOM_LAYERS]; // of each job's layers
    uint32_t layers[2];
    bool ended[2];
    bool here[RANDOM_WORKERS + 1];
};

static void listen(struct game *game)
{
    for (size_t k = 0; k < game->play.actions.count; k++) {
        const struct sched_action *action = &game->play.actions.action[k];

        if (action->type == ACTION_RUN) {
            assert_true(game->gives[action->peer] < RANGES);
            game->given[action->peer][game->gives[action->peer]++] = action->range;
        } else if (action->type == ACTION_JOB_ENDED) {
            assert_int_equal(action->state, JOB_DONE);
            game->ended[action->range.job - 1] = true;
        } else {
            assert_int_not_equal(action->type, ACTION_REJECTED);
        }
    }
}

static void add_input(struct game *game, struct build *build, uint32_t job, uint32_t first, uint32_t l,
                      uint32_t tasks)
{
    uint32_t number = first + l;
    bool foreign = job == 1 && game->layers[0] > 0 && random_percent(&game->random, 30);
    uint32_t source = foreign       ? random_below(&game->random, game->layers[0])
                      : number == 0 ? 0
                                    : random_below(&game->random, number + 1);
    bool own = !foreign && source == number;
    uint32_t have = foreign ? game->tasks[0][source] : own ? tasks : game->tasks[job][source];
    Dray__Input *input;

    if (own && random_percent(&game->random, 50)) {
        build_input(build, l, source, DRAY__PATTERN__LAG, 1 + random_below(&game->random, 3));
        return;
    }
    if (!own && random_percent(&game->random, 30)) {
        input = build_input(build, l, source, DRAY__PATTERN__ALL, 0);
    } else {
        bool sparse = random_percent(&game->random, 50);

        input = build_input(build, l, source, DRAY__PATTERN__EXPLICIT, 0);
        input->n_offset = tasks + 1;
        input->offset = build_alloc(build, tasks + 1, sizeof(uint32_t));
        input->target = build_alloc(build, (size_t)tasks * 3, sizeof(uint32_t));
        input->offset[0] = 0;
        for (uint32_t i = 0; i < tasks; i++) {
            uint32_t n = sparse && random_below(&game->random, 4) > 0 ? 0 : random_below(&game->random, 4);
            uint32_t most = own ? i : have;

            for (uint32_t e = 0; most > 0 && e < n; e++) {
                input->target[input->n_target++] = random_below(&game->random, most);
            }
            input->offset[i + 1] = (uint32_t)input->n_target;
        }
        input_list_rows(input, tasks, build_alloc(build, 2 * input->n_target + 1, sizeof(uint32_t)));
        if (random_percent(&game->random, 50)) {
            input_trim_rows(input);
        }
    }
    if (foreign) {
        input->has_job = input->has_job_tasks = true;
        input->job = 1;
        input->job_tasks = have;
    }
}

// One to three more layers, all of which the client wants.
static void grow(struct game *game, uint32_t job)
{
    struct build build;
    uint32_t first = game->layers[job];
    uint32_t more = 1 + random_below(&game->random, 3);

    build_init(&build);
    for (uint32_t l = 0; l < more; l++) {
        uint32_t tasks = 1 + random_below(&game->random, RANDOM_TASKS);

        build_layer(&build, tasks);
        game->tasks[job][first + l] = tasks;
        for (uint32_t k = random_below(&game->random, 6); k > 0; k--) {
            add_input(game, &build, job, first, l, tasks);
        }
        build_wanted(&build, l);
    }
    extend(&game->play, job + 1, first, &build, false);
    game->layers[job] += more;
    listen(game);
    build_fini(&build);
}

static void work(struct game *game, uint32_t worker)
{
    struct task_range range;

    if (game->gives[worker] == 0) {
        return;
    }
    range = game->given[worker][0];
    memmove(game->given[worker], game->given[worker] + 1, --game->gives[worker] * sizeof(range));
    done(&game->play, worker, range.job, range.layer, range.first, range.count);
    listen(game);
}

static void die(struct game *game, uint32_t worker)
{
    leave(&game->play, worker);
    listen(game);
    game->gives[worker] = 0;
    join(&game->play, worker, 1, true);
    listen(game);
}

static void play_game(uint64_t seed, bool ahead)
{
    struct game *game = calloc(1, sizeof(*game));
    struct sched_options options;
    int rounds = 0;

    assert_non_null(game);
    game->random.state = seed;
    sched_options_default(&options);
    options.ahead = ahead;
    options.attempts_max = UINT32_MAX;
    game->play.sched = sched_create(&options);
    sched_actions_init(&game->play.actions);
    client_event(&game->play, EVENT_CLIENT_JOINED, CLIENT);
    for (uint32_t w = 1; w <= RANDOM_WORKERS; w++) {
        join(&game->play, w, 1, true);
    }
    assert_int_equal(submit_open(&game->play, NULL, 1, true), 1);
    assert_int_equal(submit_open(&game->play, NULL, 2, true), 2);
    while (!game->ended[0] || !game->ended[1]) {
        uint32_t dice = random_below(&game->random, 100);
        uint32_t worker = 1 + random_below(&game->random, RANDOM_WORKERS);
        uint32_t job = random_below(&game->random, 2);

        assert_true(rounds++ < 100000);
        if (dice < 10 && game->layers[job] + 3 <= RANDOM_LAYERS) {
            grow(game, job);
        } else if (dice < 12 && game->layers[job] + 3 > RANDOM_LAYERS) {
            extend(&game->play, job + 1, game->layers[job], NULL, true);
            listen(game);
        } else if (dice < 14) {
            die(game, worker);
        } else {
            work(game, worker);
        }
    }
    play_end(&game->play);
    free(game);
}

static void test_random_growth(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 600; seed++) {
        play_game(seed, seed % 2 == 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_growth),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
