// Files of tasks: job_file.h and all that it consists of (job_task, job_text, job_params, job_inputs,
// job_state, schema), job_describe.h, document.h, numbers.h.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "client/submit/job_describe.h"
#include "client/submit/job_file.h"
#include "proto/graph.h"
#include "proto/op.h"
#include "proto/template.h"

// ---- reading ---------------------------------------------------------------------------------

static int fake_lines(void *context, const char *path, struct arena *arena, struct lines *out,
                      struct error *err)
{
    (void)context;
    if (strcmp(path, "three") != 0) {
        return error_set(err, ENOENT, "cannot read %s: No such file or directory", path);
    }
    out->line = arena_array(arena, 3, sizeof(*out->line));
    out->line[0] = "one";
    out->line[1] = "two words";
    out->line[2] = "{index}";
    out->count = 3;
    return 0;
}

static const struct job_file_host HOST = {.directory = "/home/{me}", .lines = fake_lines, .glob = fake_lines};

struct read {
    struct arena arena;
    struct job_file job;
    struct error err;
    int rc;
};

static void read_text_as(struct read *read, const char *name, const char *text, size_t size)
{
    memset(read, 0, sizeof(*read));
    arena_init(&read->arena, 0);
    read->rc = job_file_read(name, text, size, document_format_of(name, text, size), &HOST, &read->arena,
                             &read->job, &read->err);
}

// The graph of this text, as `dray submit --dry-run` says it.
static void expect_as(const char *name, const char *text, const char *expected)
{
    struct read read;
    char *out = NULL;
    size_t size;
    FILE *stream = open_memstream(&out, &size);

    read_text_as(&read, name, text, strlen(text));
    if (read.rc != 0) {
        fail_msg("%s\n%s", read.err.text, text);
    }
    assert_int_equal(job_describe(&read.job, stream, NULL), 0);
    fclose(stream);
    assert_string_equal(out, expected);
    assert_int_equal(graph_check(read.job.graph, &read.err), 0);
    free(out);
    arena_fini(&read.arena);
}

static void expect(const char *text, const char *expected)
{
    expect_as("t.yaml", text, expected);
}

static void expect_error_as(const char *name, const char *text, size_t size, const char *place,
                            const char *words)
{
    struct read read;

    read_text_as(&read, name, text, size);
    if (read.rc != -EINVAL || strncmp(read.err.text, place, strlen(place)) != 0 ||
        strstr(read.err.text, words) == NULL) {
        fail_msg("rc %d, \"%s\" instead of %s ... %s\n%.300s", read.rc, read.err.text, place, words, text);
    }
    arena_fini(&read.arena);
}

static void expect_error(const char *text, const char *place, const char *words)
{
    char where[64];

    snprintf(where, sizeof(where), "t.yaml:%s: ", place);
    expect_error_as("t.yaml", text, strlen(text), where, words);
}

// Text `word` of the command of a layer, for a task.
static void expect_word(const struct read *read, uint32_t layer, uint32_t task, size_t word,
                        const char *expected)
{
    struct arena arena;
    const Dray__Op *op;
    const Dray__Command *command;
    char *out;
    size_t size;

    arena_init(&arena, 0);
    assert_int_equal(op_decode(read->job.graph->layer[layer]->op.data, read->job.graph->layer[layer]->op.len,
                               &arena, &op, NULL),
                     0);
    command = op->step[0]->command;
    assert_true(word < command->n_argv);
    assert_int_equal(template_expand(command, task, NULL, command->argv[word].data, command->argv[word].len,
                                     &arena, &out, &size, NULL),
                     0);
    assert_string_equal(out, expected);
    arena_fini(&arena);
}

// ---- what is taken -------------------------------------------------------------------------------

static void test_small(void **state)
{
    (void)state;
    expect("tasks: {hello: {command: [echo, hello]}}",
           "1 task in 1 layer\nhello (result)  1 task  echo hello\n");
    expect("name: many\ntasks:\n- name: a\n  count:\n  array: 0..999999\n",
           "many: 1000000 tasks in 1 layer\na (result)  1000000 tasks 0..999999  count\n");
    expect("tasks: {a: {array: 0..1, shell: \"awk '{print {index}}'\"}}",
           "2 tasks in 1 layer\na (result)  2 tasks 0..1  sh: awk '{print {index}}'\n");
    expect_as("t.json", "{\"tasks\": {\"a\": {\"busy\": {\"time\": \"2ms\", \"output\": \"1k\"}}}}",
              "1 task in 1 layer\na (result)  1 task  busy for 2 ms\n");
    expect_as("-", " {\"tasks\": {\"a\": {\"data\": \"\\ud83d\\ude00\"}}}",
              "1 task in 1 layer\na (result)  1 task  data of 4 bytes\n");
    expect("\xef\xbb\xbftasks: {b: {call: {plugin: p, function: f}}}",
           "1 task in 1 layer\nb (result)  1 task  call f of plugin p\n");
}

// A task may stand before what it needs.
static void test_order(void **state)
{
    (void)state;
    expect("tasks:\n"
           "  merge: {shell: cat parts/*, inputs: {task: work, file: 'parts/{i}'}}\n"
           "  work: {array: 0..9, command: [work, '{index}'], inputs: split, after: [setup]}\n"
           "  split: {shell: split}\n"
           "  setup: {command: [mkdir, x]}\n",
           "13 tasks in 4 layers\n"
           "split  1 task  sh: split\n"
           "setup (result)  1 task  mkdir x\n"
           "work  10 tasks 0..9  work {index}  needs split (all as split), setup (all)\n"
           "merge (result)  1 task  sh: cat parts/*  needs work (all as parts/{i})\n");
}

static void test_elements(void **state)
{
    (void)state;
    expect("tasks:\n"
           "  a: {array: 0..99, count: }\n"
           "  same: {array: 0..99, count: , inputs: a}\n"
           "  other: {array: 10..19, count: , inputs: {task: a, elements: same}}\n"
           "  all: {array: 0..4, count: , inputs: {task: a, elements: all}}\n"
           "  groups: {array: 0..9, count: , inputs: {task: a, elements: {groups: 10}}}\n"
           "  window: {array: 0..99, count: , inputs: {task: a, elements: {neighbours: 2}}}\n"
           "  chain: {array: 1..50, count: , inputs: {task: chain, elements: previous}}\n"
           "  some: {count: , inputs: {task: a, elements: '3,5..7'}}\n"
           "  every: {count: , inputs: {task: a, elements: 0..99}}\n"
           "  own: {array: [7, 8], count: , inputs: {task: a, elements: [[1, 2], [99]]}}\n"
           "  dag: {array: 0..3, count: , inputs: {task: dag, elements: [[], [0], [0, 1], [2]]}}\n",
           "383 tasks in 11 layers\n"
           "a  100 tasks 0..99  count\n"
           "same (result)  100 tasks 0..99  count  needs a (same)\n"
           "other (result)  10 tasks 10..19  count  needs a (10 edges)\n"
           "all (result)  5 tasks 0..4  count  needs a (all)\n"
           "groups (result)  10 tasks 0..9  count  needs a (groups of 10)\n"
           "window (result)  100 tasks 0..99  count  needs a (2 neighbours)\n"
           "chain (result)  50 tasks 1..50  count  needs chain (1 before)\n"
           "some (result)  1 task  count  needs a (4 edges)\n"
           "every (result)  1 task  count  needs a (all)\n"
           "own (result)  2 tasks 7,8  count  needs a (3 edges)\n"
           "dag (result)  4 tasks 0..3  count  needs dag (4 edges)\n");
}

static void test_explicit_places(void **state)
{
    const char *text = "tasks:\n"
                       "  a: {array: 10..20..2, count: }\n"
                       "  b: {array: '14,10', count: , inputs: {task: a, elements: same}}\n";
    struct read read;
    const Dray__Input *input;

    (void)state;
    read_text_as(&read, "t.yaml", text, strlen(text));
    assert_int_equal(read.rc, 0);
    input = read.job.graph->layer[1]->input[0];
    assert_int_equal(input->pattern, DRAY__PATTERN__EXPLICIT);
    assert_int_equal(input->target[0], 2);
    assert_int_equal(input->target[1], 0);
    arena_fini(&read.arena);
}

static void test_params(void **state)
{
    const char *text = "tasks:\n"
                       "  product:\n"
                       "    params: {x: [a, b], n: 10..30..10}\n"
                       "    command: [run, '{x}-{n}', '{{x}} {y} ${x', '{', '{index}']\n"
                       "  zip:\n"
                       "    params: {x: [a, b], y: [007, no]}\n"
                       "    combine: zip\n"
                       "    command: [run, '{x}{y}']\n"
                       "  list: {params: [p q, r], command: ['{param}']}\n"
                       "  file: {params: {line: {lines: three}}, command: ['{line}']}\n"
                       "  sparse: {array: [5, 3], command: ['{index}']}\n"
                       "  here: {shell: 'awk ''{print $1}''', directory: sub}\n";
    struct read read;

    (void)state;
    read_text_as(&read, "t.yaml", text, strlen(text));
    assert_int_equal(read.rc, 0);
    assert_int_equal(read.job.graph->layer[0]->tasks, 6);
    expect_word(&read, 0, 0, 1, "a-10");
    expect_word(&read, 0, 2, 1, "a-30");
    expect_word(&read, 0, 3, 1, "b-10");
    expect_word(&read, 0, 5, 1, "b-30");
    expect_word(&read, 0, 5, 2, "{x} {y} ${x");
    expect_word(&read, 0, 5, 3, "{");
    expect_word(&read, 0, 5, 4, "5");
    expect_word(&read, 1, 0, 1, "a007");
    expect_word(&read, 1, 1, 1, "bno");
    expect_word(&read, 2, 0, 0, "p q");
    expect_word(&read, 3, 1, 0, "two words");
    expect_word(&read, 3, 2, 0, "{index}");
    expect_word(&read, 4, 0, 0, "5");
    expect_word(&read, 4, 1, 0, "3");
    expect_word(&read, 5, 0, 0, "awk '{print $1}'");
    arena_fini(&read.arena);
}

static void test_commands(void **state)
{
    const char *text = "priority: -2\n"
                       "allow_failures: all\n"
                       "defaults:\n"
                       "  env: {A: one, B: two}\n"
                       "  retries: 3\n"
                       "  directory: .\n"
                       "tasks:\n"
                       "  a:\n"
                       "    command: [work]\n"
                       "    env: {B: 2, C: 'x={index}'}\n"
                       "    stdin: |\n"
                       "      line {index}\n"
                       "    output: out/{index}.bin\n"
                       "    memory: 1G\n"
                       "    timeout: 90s\n"
                       "    retry_delay: 1.5\n"
                       "    resources: {gpu: 1}\n"
                       "    workers: [big, plugin:x]\n"
                       "    priority: 7\n"
                       "    clear_env: true\n"
                       "    array: 0..1\n"
                       "  b:\n"
                       "    count:\n"
                       "    retries: 0\n"
                       "    after: a\n";
    static const char *const env[] = {"A=one", "B=2", "C=x={index}"};
    struct read read;
    const Dray__Layer *layer;
    const Dray__Command *command;
    const Dray__Op *op;

    (void)state;
    read_text_as(&read, "t.yaml", text, strlen(text));
    if (read.rc != 0) {
        fail_msg("%s", read.err.text);
    }
    assert_int_equal(read.job.priority, -2);
    assert_true(read.job.failures_max == UINT32_MAX);
    layer = read.job.graph->layer[0];
    assert_int_equal(op_decode(layer->op.data, layer->op.len, &read.arena, &op, NULL), 0);
    command = op->step[0]->command;
    assert_int_equal(command->n_env, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(command->env[i].len, strlen(env[i]));
        assert_memory_equal(command->env[i].data, env[i], strlen(env[i]));
    }
    assert_true(command->clear_env && command->stdin_template);
    assert_string_equal(command->directory, "/home/{{me}");
    assert_string_equal(command->output, "out/{index}.bin");
    assert_int_equal(command->memory, 1 << 30);
    assert_int_equal(layer->timeout_ms, 90000);
    assert_int_equal(layer->retry_delay_ms, 1500);
    assert_int_equal(layer->retries, 3);
    assert_int_equal(layer->priority, 7);
    assert_int_equal(layer->n_worker, 2);
    assert_string_equal(layer->resource[0]->name, "gpu");
    assert_true(layer->wanted); // `after` takes nothing from it
    assert_int_equal(read.job.graph->layer[1]->retries, 0);
    arena_fini(&read.arena);
}

static void test_calls(void **state)
{
    const char *text = "tasks:\n"
                       "  one: {array: 0..9, call: {plugin: p, function: f, argument: same}}\n"
                       "  each: {params: {x: [a, b]}, call: {plugin: p, function: f, argument: '{\"x\": "
                       "\"{x}\", \"i\": {index}}'}}\n";
    struct read read;
    const Dray__Op *op;

    (void)state;
    read_text_as(&read, "t.yaml", text, strlen(text));
    assert_int_equal(read.rc, 0);
    assert_int_equal(op_decode(read.job.graph->layer[0]->op.data, read.job.graph->layer[0]->op.len,
                               &read.arena, &op, NULL),
                     0);
    assert_int_equal(op->step[0]->call->n_argument, 1);
    assert_int_equal(op_decode(read.job.graph->layer[1]->op.data, read.job.graph->layer[1]->op.len,
                               &read.arena, &op, NULL),
                     0);
    assert_int_equal(op->step[0]->call->n_argument, 2);
    assert_int_equal(op->step[0]->call->argument[1].len, strlen("{\"x\": \"b\", \"i\": 1}"));
    assert_memory_equal(op->step[0]->call->argument[1].data, "{\"x\": \"b\", \"i\": 1}",
                        strlen("{\"x\": \"b\", \"i\": 1}"));
    arena_fini(&read.arena);
}

static void test_merge_keys(void **state)
{
    (void)state;
    expect("tasks:\n"
           "  a: &a {count: , retries: 1, priority: 5}\n"
           "  b: {<<: *a, retries: 2}\n",
           "2 tasks in 2 layers\n"
           "a (result)  1 task  count  priority 5  1 retry\n"
           "b (result)  1 task  count  priority 5  2 retries\n");
}

// ---- what is refused -------------------------------------------------------------------------------

static void test_errors(void **state)
{
    (void)state;
    expect_error("tasks:\n  a:\n    comand: [x]\n", "3:5",
                 "did you mean 'command'?\n      comand: [x]\n      ^^^^^^");
    expect_error("tasks: {a: {array: 0..2, count: }, a.1: {count: }}", "1:36",
                 "the task 'a.1' could be taken for an element of 'a'");
    expect_error("tasks: {a: {command: [x], depends_on: b}}", "1:27", "here it is called 'after'");
    expect_error("tsaks: {}", "1:1", "did you mean 'tasks'");
    expect_error("name: x", "1:1", "a job has 'tasks'");
    expect_error("[a]", "1:1", "this is a list");
    expect_error("tasks: {}", "1:8", "a map of names");
    expect_error("tasks: {a: {}}", "1:9", "does nothing");
    expect_error("tasks: {a: }", "1:12", "this is nothing");
    expect_error("tasks: {a: {command: x}}", "1:22", "'shell'");
    expect_error("tasks: {a: {command: [x], shell: y}}", "1:34", "both 'command' and 'shell'");
    expect_error("tasks: {a: {count: , stdin: y}}", "1:29", "is for 'command' and 'shell'");
    expect_error("tasks: {'a b': {count: }}", "1:9", "cannot be the name");
    expect_error("tasks: {a: {count: }, a: {count: }}", "1:23", "twice");
    expect_error("tasks:\n- {name: a, count: }\n- {name: a, count: }", "3:10", "second task");
    expect_error("tasks: {a: {count: , array: 10}}", "1:29", "write 0..9, or [10]");
    expect_error("tasks: {a: {count: , array: 0...9}}", "1:29", "0..999");
    expect_error("tasks: {a: {count: , array: '1,2,1'}}", "1:29", "1 is there twice");
    expect_error("tasks: {a: {count: , array: 0..9999999999}}", "1:29", "more than");
    expect_error("tasks: {a: {count: , array: 0..2000000000}, b: {count: , array: 0..2000000000}}", "1:45",
                 "more than");
    expect_error("tasks: {a: {count: , array: 0..9, params: [x]}}", "1:43", "one more parameter");
    expect_error("tasks: {a: {count: , params: {x: [a], y: [b, c]}, combine: zip}}", "1:30", "of one length");
    expect_error("tasks: {a: {count: , params: {index: [a]}}}", "1:31", "parameter's name");
    expect_error("tasks: {a: {shell: '{indx}', array: 0..9}}", "1:20", "did you mean {index}");
    expect_error("tasks: {a: {shell: 'x {samlpe}', params: {sample: [1]}}}", "1:20", "did you mean {sample}");
    expect_error("tasks: {a: {count: , params: {l: {lines: nofile}}}}", "1:42", "cannot read nofile");
    expect_error("tasks: {a: {count: , timeout: soon}}", "1:31", "not a time");
    expect_error("tasks: {a: {count: , retries: -1}}", "1:31", "from 0");
    expect_error("tasks: {a: {count: , resources: {gpu: 0}}}", "1:39", "from 1");
    expect_error("tasks: {a: {shell: x, output: /etc/passwd}}", "1:31", "below the working directory");
    expect_error("tasks: {a: {shell: x, output: a/../../b}}", "1:31", "leaves");
    expect_error("tasks: {a: {shell: x, env: [novalue]}}", "1:29", "NAME=value");
    expect_error("allow_failures: some\ntasks: {a: {count: }}", "1:17", "'all'");
    expect_error("tasks: {a: {busy: {time: 10h}}}", "1:9", "ns");
    expect_error("tasks: {a: {command: [x, null]}}", "1:26", "this is nothing");
    expect_error("tasks: {a: {command: [x, [y]]}}", "1:26", "this is a list");
    expect_error("# gr\xc3\xb6\xc3\x9f"
                 "e\ntasks: {\xc3\xa4: {coutn: }}",
                 "2:13", "did you mean 'count'");
}

static void test_dependencies(void **state)
{
    (void)state;
    expect_error("tasks: {resize: {count: }, b: {count: , inputs: rezise}}", "1:49", "did you mean 'resize'");
    expect_error("tasks:\n  a: {count: , after: c}\n  b: {count: , after: a}\n  c: {count: , after: [b]}\n",
                 "3:23", "a -> c -> b -> a");
    expect_error("tasks: {a: {count: , after: a}}", "1:29", "itself");
    expect_error("tasks: {a: {count: , array: 0..9}, b: {count: , array: 0..4, inputs: a}}", "1:70",
                 "which of the 10 elements of 'a' do the 5 of 'b' need");
    expect_error(
        "tasks: {a: {count: , array: 0..9}, b: {count: , array: 5..12, inputs: {task: a, elements: same}}}",
        "1:91", "has no element 10: its indices go from 0 to 9");
    expect_error("tasks: {a: {count: , array: 0..9}, b: {count: , inputs: {task: a, elements: [3, 10]}}}",
                 "1:77", "no element 10");
    expect_error("tasks: {a: {count: , array: 0..9}, b: {count: , array: 0..9, inputs: {task: a, elements: "
                 "{groups: 2}}}}",
                 "1:90", "are 5 groups");
    expect_error("tasks: {a: {count: , array: 0..2, inputs: {task: a, elements: [[], [2], [0]]}}}", "1:69",
                 "does not come before it");
    expect_error("tasks: {a: {count: }, b: {count: , inputs: {task: a, file: x}}}", "1:51", "for inputs of");
    expect_error("tasks: {a: {count: }, b: {shell: x, stdin: y, inputs: {task: a, stdin: true}}}", "1:62",
                 "two standard inputs");
    expect_error("tasks: {a: {count: }, b: {shell: x, inputs: {task: a, file: /x}}}", "1:61",
                 "below the working directory");
    expect_error("tasks: {a: {count: , array: 0..999999}, b: {count: , array: 0..999, inputs: {task: a, "
                 "elements: 1..99999}}}",
                 "1:97", "one by one");
}

// A long circle is not printed whole, and is found without recursion.
static void test_long_cycle(void **state)
{
    size_t size = 0, room = (size_t)4 << 20;
    char *text = malloc(room);

    (void)state;
    size += (size_t)snprintf(text + size, room - size, "tasks:\n");
    for (int i = 0; i < 60000; i++) {
        size +=
            (size_t)snprintf(text + size, room - size, "  t%d: {count: , after: t%d}\n", i, (i + 1) % 60000);
    }
    expect_error_as("t.yaml", text, size, "t.yaml:60001:", "t0 -> t1 -> t2");
    free(text);
}

// ---- hostile files -----------------------------------------------------------------------------------

static void test_hostile(void **state)
{
    static const char bomb[] = "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
                               "b: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\n"
                               "c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
                               "d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\n"
                               "e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\n"
                               "f: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e,*e]\n"
                               "g: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f,*f]\n";
    static const char *const broken[] = {"",
                                         "# nothing",
                                         "a: b: c",
                                         "a: [",
                                         "{",
                                         "\t- x",
                                         "a: *b",
                                         "a: &a [*a]",
                                         "%YAML 9.9",
                                         "---\na: b\n---\nc: d",
                                         "a: !!binary x",
                                         "? [a]\n: b",
                                         "{}",
                                         "[]",
                                         "a: \"\\x00\"",
                                         "<<: x",
                                         "a: \x01"};
    static const char *const broken_json[] = {"",
                                              "{}",
                                              "[]",
                                              "{}}",
                                              "{",
                                              "{\"a\"}",
                                              "{\"a\": }",
                                              "{\"a\": 01}",
                                              "{\"a\": 1,}",
                                              "[1 2]",
                                              "{\"a\": \"\\ud800\"}",
                                              "{\"a\": \"\\u0000\"}",
                                              "{\"a\": \"x\n\"}",
                                              "{\"a\": tru}",
                                              "{a: 1}",
                                              "{\"a\": 1} x",
                                              "\"",
                                              "{\"a\": 1.}",
                                              "{\"a\": 1e}",
                                              "{\"a\": -}",
                                              "{\"a\":1,\"a\":2}"};
    char *deep;

    (void)state;
    expect_error_as("t.yaml", bomb, strlen(bomb), "t.yaml:7:4: ", "more than");
    expect_error_as("t.yaml", "a: x\0y", 6, "t.yaml:1:5: ", "zero byte");
    expect_error_as("t.yaml", "a: \xff", 4, "t.yaml:1:4: ", "UTF-8");
    expect_error_as("t.json", "{\"a\": \"\xc3\"}", 10, "t.json:1:8: ", "UTF-8");
    for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
        expect_error_as("t.yaml", broken[i], strlen(broken[i]), "t.yaml:", "");
    }
    for (size_t i = 0; i < sizeof(broken_json) / sizeof(broken_json[0]); i++) {
        expect_error_as("t.json", broken_json[i], strlen(broken_json[i]), "t.json:", "");
    }
    deep = malloc((size_t)10 << 20);
    memset(deep, '[', (size_t)10 << 20);
    expect_error_as("t.yaml", deep, (size_t)10 << 20, "t.yaml:1:33: ", "deep");
    expect_error_as("t.json", deep, (size_t)10 << 20, "t.json:1:32: ", "deep");
    memset(deep, '-', (size_t)10 << 20);
    expect_error_as("t.yaml", deep, (size_t)10 << 20, "t.yaml:", "");
    for (size_t i = 0; i + 2 <= (size_t)10 << 20; i += 2) {
        memcpy(deep + i, "- ", 2);
    }
    expect_error_as("t.yaml", deep, (size_t)10 << 20, "t.yaml:1:", "deep");
    for (size_t i = 0; i + 2 <= (size_t)10 << 20; i += 2) {
        memcpy(deep + i, "1,", 2);
    }
    deep[0] = '[';
    deep[1] = ' ';
    expect_error_as("t.json", deep, (size_t)10 << 20, "t.json:1:", "more than");
    free(deep);
    expect_error_as("t.yaml", bomb, DOCUMENT_BYTES_MAX + 1, "t.yaml is longer than 64 MB", "");
}

// Many maps that merge much would be slow without a limit.
static void test_merge_bomb(void **state)
{
    size_t size = 0, room = (size_t)1 << 20;
    char *text = malloc(room);

    (void)state;
    size += (size_t)snprintf(text, room, "a: &a {");
    for (int i = 0; i < 5000; i++) {
        size += (size_t)snprintf(text + size, room - size, "k%d: x,", i);
    }
    size += (size_t)snprintf(text + size, room - size, "}\n");
    for (int i = 0; i < 5000; i++) {
        size += (size_t)snprintf(text + size, room - size, "b%d: {<<: *a}\n", i);
    }
    expect_error_as("t.yaml", text, size, "t.yaml:", "merges too much");
    free(text);
}

// ---- size -------------------------------------------------------------------------------------------

// A million tasks are a few bytes.
static void test_million(void **state)
{
    const char *text = "tasks:\n"
                       "  work: {array: 5..1000004, command: [work, '{index}', '{index}.out']}\n"
                       "  grid: {params: {x: 0..999, y: 0..999}, command: [plot, '{x}', '{y}'], inputs: "
                       "{task: work, elements: {groups: 1000}}}\n"
                       "  sum: {array: 0..999, count: , inputs: {task: work, elements: {groups: 1000}}}\n";
    const char *good = strstr(text, "  sum:");
    struct read read;

    (void)state;
    read_text_as(&read, "t.yaml", text, strlen(text));
    assert_int_equal(read.rc, -EINVAL); // a million tasks are not a thousand groups
    assert_non_null(strstr(read.err.text, "are 1000 groups, and 'grid' has 1000000 tasks"));
    arena_fini(&read.arena);

    char *fixed = malloc(strlen(text) + 1);
    size_t before = (size_t)(strstr(text, ", inputs: {task: work, elements: {groups: 1000}}}\n") - text);

    memcpy(fixed, text, before);
    snprintf(fixed + before, strlen(text) + 1 - before, "}\n%s", good);
    read_text_as(&read, "t.yaml", fixed, strlen(fixed));
    assert_int_equal(read.rc, 0);
    assert_true(dray__graph__get_packed_size(read.job.graph) < 500);
    expect_word(&read, 0, 999999, 1, "1000004");
    expect_word(&read, 1, 999998, 1, "999");
    expect_word(&read, 1, 999998, 2, "998");
    free(fixed);
    arena_fini(&read.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small),      cmocka_unit_test(test_order),
        cmocka_unit_test(test_elements),   cmocka_unit_test(test_explicit_places),
        cmocka_unit_test(test_params),     cmocka_unit_test(test_commands),
        cmocka_unit_test(test_calls),      cmocka_unit_test(test_merge_keys),
        cmocka_unit_test(test_errors),     cmocka_unit_test(test_dependencies),
        cmocka_unit_test(test_long_cycle), cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_merge_bomb), cmocka_unit_test(test_million),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
