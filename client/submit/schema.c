#include "client/submit/job_state.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "client/lang/quantity.h"
#include "client/lang/spell.h"

// ---- keys -----------------------------------------------------------------------------------

static const struct key TASK_KEYS[] = {
    {"name", FIELD_NAME},
    {"command", FIELD_COMMAND},
    {"shell", FIELD_SHELL},
    {"call", FIELD_CALL},
    {"count", FIELD_COUNT},
    {"busy", FIELD_BUSY},
    {"data", FIELD_DATA},
    {"stdin", FIELD_STDIN},
    {"env", FIELD_ENV},
    {"clear_env", FIELD_CLEAR_ENV},
    {"directory", FIELD_DIRECTORY},
    {"output", FIELD_OUTPUT},
    {"memory", FIELD_MEMORY},
    {"inputs", FIELD_INPUTS},
    {"after", FIELD_AFTER},
    {"array", FIELD_ARRAY},
    {"params", FIELD_PARAMS},
    {"combine", FIELD_COMBINE},
    {"resources", FIELD_RESOURCES},
    {"workers", FIELD_WORKERS},
    {"priority", FIELD_PRIORITY},
    {"retries", FIELD_RETRIES},
    {"retry_delay", FIELD_RETRY_DELAY},
    {"timeout", FIELD_TIMEOUT},
    {"speculate", FIELD_SPECULATE},
    {"result", FIELD_RESULT},
};

static const struct key DEFAULT_KEYS[] = {
    {"env", FIELD_ENV},           {"clear_env", FIELD_CLEAR_ENV}, {"directory", FIELD_DIRECTORY},
    {"memory", FIELD_MEMORY},     {"resources", FIELD_RESOURCES}, {"workers", FIELD_WORKERS},
    {"priority", FIELD_PRIORITY}, {"retries", FIELD_RETRIES},     {"retry_delay", FIELD_RETRY_DELAY},
    {"timeout", FIELD_TIMEOUT},   {"speculate", FIELD_SPECULATE},
};

// What others call it: Compose, HyperQueue, Snakemake, Nextflow, the CI services.
static const struct {
    const char *theirs, *ours;
} SYNONYMS[] = {
    {"depends_on", "after"},
    {"deps", "after"},
    {"needs", "after"},
    {"dependencies", "after"},
    {"cwd", "directory"},
    {"working_dir", "directory"},
    {"workdir", "directory"},
    {"chdir", "directory"},
    {"environment", "env"},
    {"cmd", "command"},
    {"argv", "command"},
    {"run", "shell"},
    {"script", "shell"},
    {"time_limit", "timeout"},
    {"walltime", "timeout"},
    {"mem_limit", "memory"},
    {"mem", "memory"},
    {"matrix", "params"},
    {"parameters", "params"},
    {"input", "inputs"},
    {"outputs", "output"},
    {"stdout", "output"},
    {"max_retries", "retries"},
    {"function", "call"},
    {"resource", "resources"},
    {"worker", "workers"},
    {"labels", "workers"},
    {"max_fails", "allow_failures"},
    {"keep_going", "allow_failures"},
    {"jobs", "tasks"},
    {"rules", "tasks"},
    {"services", "tasks"},
    {"steps", "tasks"},
    {"task", "tasks"},
    {"from", "task"},
    {"ids", "array"},
};

static int find_key(const struct key *keys, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(keys[i].name, name) == 0) {
            return keys[i].field;
        }
    }
    return -1;
}

static int unknown_key(const struct job_state *state, const struct node *key, const char *what,
                       const struct key *keys, size_t count, struct error *err)
{
    struct spell spell = {.word = key->text};

    for (size_t i = 0; i < sizeof(SYNONYMS) / sizeof(SYNONYMS[0]); i++) {
        if (strcmp(SYNONYMS[i].theirs, key->text) == 0 && find_key(keys, count, SYNONYMS[i].ours) >= 0) {
            return STATE_ERROR(state, key, err, "%s has no key '%s': here it is called '%s'", what, key->text,
                               SYNONYMS[i].ours);
        }
    }
    for (size_t i = 0; i < count; i++) {
        spell_try(&spell, keys[i].name);
    }
    if (spell_is_near(&spell)) {
        return STATE_ERROR(state, key, err, "%s has no key '%.100s': did you mean '%s'?", what, key->text,
                           spell.best);
    }
    return STATE_ERROR(state, key, err, "%s has no key '%.100s' (nearest: '%s')", what, key->text,
                       spell.best);
}

int schema_read(const struct job_state *state, const struct node *map, const char *what,
                const struct key *keys, size_t count, const struct node **field, struct error *err)
{
    if (map->kind != NODE_MAP) {
        return STATE_ERROR(state, map, err, "%s is a map of keys and values, and this is %s", what,
                           node_kind_name(map));
    }
    for (uint32_t i = 0; i < map->count; i++) {
        const struct node *key = map_key(map, i);
        int found = find_key(keys, count, key->text);

        if (found < 0) {
            return unknown_key(state, key, what, keys, count, err);
        }
        if (!node_is_null(map_value(map, i))) {
            field[found] = map_value(map, i);
        } else if (found == FIELD_COUNT && keys == TASK_KEYS) {
            field[found] = key; // `count:` needs no value
        } else {
            return STATE_ERROR(state, key, err, "'%s' has no value", key->text);
        }
    }
    return 0;
}

int schema_task(const struct job_state *state, const struct node *map, const struct node **field,
                struct error *err)
{
    return schema_read(state, map, "a task", TASK_KEYS, sizeof(TASK_KEYS) / sizeof(TASK_KEYS[0]), field, err);
}

int schema_defaults(const struct job_state *state, const struct node *map, const struct node **field,
                    struct error *err)
{
    return schema_read(state, map, "'defaults'", DEFAULT_KEYS, sizeof(DEFAULT_KEYS) / sizeof(DEFAULT_KEYS[0]),
                       field, err);
}

// ---- values -----------------------------------------------------------------------------------

int read_text(const struct job_state *state, const struct node *node, const char *name, const char **out,
              struct error *err)
{
    if (node->kind != NODE_SCALAR || node_is_null(node)) {
        return STATE_ERROR(state, node, err, "'%s' is text, and this is %s", name, node_kind_name(node));
    }
    *out = node->text;
    return 0;
}

int read_bool(const struct job_state *state, const struct node *node, const char *name, bool *out,
              struct error *err)
{
    if (node->kind == NODE_SCALAR && (strcmp(node->text, "true") == 0 || strcmp(node->text, "yes") == 0)) {
        *out = true;
        return 0;
    }
    if (node->kind == NODE_SCALAR && (strcmp(node->text, "false") == 0 || strcmp(node->text, "no") == 0)) {
        *out = false;
        return 0;
    }
    return STATE_ERROR(state, node, err, "'%s' is true or false", name);
}

int read_integer(const struct job_state *state, const struct node *node, const char *name, int64_t least,
                 int64_t most, int64_t *out, struct error *err)
{
    bool negative = node->kind == NODE_SCALAR && node->text[0] == '-';
    int64_t number = 0;

    if (node->kind != NODE_SCALAR || number_parse(node->text + negative, &number, NULL) != 0) {
        return STATE_ERROR(state, node, err, "'%s' is a whole number", name);
    }
    number = negative ? -number : number;
    if (number < least || number > most) {
        return STATE_ERROR(state, node, err, "'%s' is a number from %" PRId64 " to %" PRId64, name, least,
                           most);
    }
    *out = number;
    return 0;
}

int read_duration_ms(const struct job_state *state, const struct node *node, const char *name, uint32_t *out,
                     struct error *err)
{
    struct error why = {0};
    const char *text = NULL;
    uint64_t ns;
    int rc = read_text(state, node, name, &text, err);

    if (rc != 0) {
        return rc;
    }
    if (duration_parse(text, &ns, &why) != 0) {
        return STATE_ERROR(state, node, err, "'%s': %s", name, why.text);
    }
    if (ns / 1000000 > UINT32_MAX) {
        return STATE_ERROR(state, node, err, "'%s' is 49 days at most", name);
    }
    // A time that is there is not to become none.
    *out = ns > 0 && ns < 1000000 ? 1 : (uint32_t)(ns / 1000000);
    return 0;
}

int read_size(const struct job_state *state, const struct node *node, const char *name, uint64_t *out,
              struct error *err)
{
    struct error why = {0};
    const char *text = NULL;
    int rc = read_text(state, node, name, &text, err);

    if (rc == 0 && size_parse(text, out, &why) != 0) {
        rc = STATE_ERROR(state, node, err, "'%s': %s", name, why.text);
    }
    return rc;
}

int read_items(const struct job_state *state, const struct node *node, const char *name, struct items *out,
               struct error *err)
{
    if (node->kind == NODE_SCALAR && !node_is_null(node)) {
        *out = (struct items){.single = node, .count = 1};
        return 0;
    }
    if (node->kind != NODE_LIST) {
        return STATE_ERROR(state, node, err, "'%s' is a list of texts, and this is %s", name,
                           node_kind_name(node));
    }
    for (uint32_t i = 0; i < node->count; i++) {
        if (node->item[i]->kind != NODE_SCALAR || node_is_null(node->item[i])) {
            return STATE_ERROR(state, node->item[i], err, "'%s' is a list of texts, and this entry is %s",
                               name, node_kind_name(node->item[i]));
        }
    }
    *out = (struct items){.item = node->item, .count = node->count};
    return 0;
}

const struct node *items_at(const struct items *items, uint32_t i)
{
    return items->single != NULL ? items->single : items->item[i];
}
