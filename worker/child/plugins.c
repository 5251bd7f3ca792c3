#include "worker/child/plugins.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { START_SECONDS = 60, FINISH_MS = 1000, FUNCTIONS_MAX = 1000, NAMES_MAX = 8 };

int plugins_hello(const struct process *process, const struct channel_word *word, struct error *err)
{
    if (word->kind != WORD_HELLO || word->number != CHANNEL_VERSION || word->size > CHANNEL_OUT) {
        return error_set(err, EPROTO,
                         "dray-child speaks another version: is it from the same build as this worker?");
    }
    if (word->code != 0) {
        return error_set(err, word->code > 0 ? word->code : EPROTO, "%.*s", (int)word->size,
                         (const char *)process->channel->out);
    }
    return 0;
}

// ---- what a plugin says -------------------------------------------------------------------

// The next string; NULL: there is none.
static const char *next_string(const char **at, const char *end)
{
    const char *text = *at;
    const char *zero = text < end ? memchr(text, '\0', (size_t)(end - text)) : NULL;

    *at = zero != NULL ? zero + 1 : end;
    return zero != NULL ? text : NULL;
}

static int read_description(struct plugin *plugin, const struct process *process, size_t size,
                            struct error *err)
{
    const char *at, *end, *name, *flags;

    plugin->said = malloc(size + 1);
    plugin->function = calloc(FUNCTIONS_MAX, sizeof(*plugin->function));
    if (plugin->said == NULL || plugin->function == NULL) {
        return error_no_memory(err);
    }
    memcpy(plugin->said, process->channel->out, size);
    at = plugin->said;
    end = at + size;
    plugin->name = next_string(&at, end);
    plugin->version = next_string(&at, end);
    while (plugin->functions < FUNCTIONS_MAX && (name = next_string(&at, end)) != NULL &&
           (flags = next_string(&at, end)) != NULL) {
        plugin->function[plugin->functions++] =
            (struct plugin_function){.name = name, .flags = (uint32_t)strtoul(flags, NULL, 10)};
    }
    if (plugin->name == NULL || plugin->version == NULL || plugin->functions == 0) {
        return error_set(err, EPROTO, "it does not say what it is");
    }
    return 0;
}

static int ask(struct plugin *plugin, const struct plugins *plugins, struct error *err)
{
    const struct process_options options = {
        .helper = plugins->helper, .mode = "plugin", .path = plugin->path, .memory = plugins->memory};
    struct process process;
    struct channel_word word;
    enum process_event event;
    char how[200];
    int status, rc = process_start(&process, &options, err);

    if (rc != 0) {
        return rc;
    }
    event = process_wait(&process, -1, process_now_ns() + UINT64_C(1000000000) * START_SECONDS, &word);
    if (event == PROCESS_WORD) {
        rc = plugins_hello(&process, &word, err);
        rc = rc == 0 ? read_description(plugin, &process, word.size, err) : rc;
        process_end(&process, FINISH_MS);
    } else {
        status = process_end(&process, 0);
        process_describe(status, how, sizeof(how));
        rc = event == PROCESS_TIMEOUT
                 ? error_set(err, ETIMEDOUT, "it is not ready after %d seconds", START_SECONDS)
                 : error_set(err, EOWNERDEAD, "its process %s while it was loaded", how);
    }
    if (rc != 0) {
        tail_append(&process.tail, err);
    }
    return rc;
}

// ---- the set ------------------------------------------------------------------------------

static int add(struct plugins *plugins, const char *path, struct error *err)
{
    struct plugin *plugin = &plugins->plugin[plugins->count];
    int rc = 0;

    plugins->count++;
    plugin->path = realpath(path, NULL);
    if (plugin->path == NULL) {
        rc = error_set(err, errno, "%s", strerror(errno));
    }
    if (rc == 0) {
        rc = ask(plugin, plugins, err);
    }
    for (size_t i = 0; i + 1 < plugins->count && rc == 0; i++) {
        if (strcmp(plugins->plugin[i].name, plugin->name) == 0) {
            rc = error_set(err, EEXIST, "it is called '%s', as %.300s is", plugin->name,
                           plugins->plugin[i].path);
        }
    }
    if (rc != 0) {
        error_prefix(err, "plugin %.300s: ", path);
    }
    return rc;
}

int plugins_create(const struct plugins_options *options, struct plugins **out, struct error *err)
{
    struct plugins *plugins = calloc(1, sizeof(*plugins));
    size_t count = 0;
    int rc = 0;

    while (options->path[count] != NULL) {
        count++;
    }
    if (plugins != NULL) {
        plugins->plugin = calloc(count + 1, sizeof(*plugins->plugin));
        plugins->helper = options->helper;
        plugins->memory = options->memory;
    }
    if (plugins == NULL || plugins->plugin == NULL) {
        plugins_destroy(plugins);
        return error_no_memory(err);
    }
    for (size_t i = 0; i < count && rc == 0; i++) {
        rc = add(plugins, options->path[i], err);
    }
    if (rc != 0) {
        plugins_destroy(plugins);
        return rc;
    }
    *out = plugins;
    return 0;
}

void plugins_destroy(struct plugins *plugins)
{
    if (plugins != NULL) {
        for (size_t i = 0; i < plugins->count; i++) {
            free(plugins->plugin[i].path);
            free(plugins->plugin[i].said);
            free(plugins->plugin[i].function);
        }
        free(plugins->plugin);
        free(plugins);
    }
}

// ---- find ---------------------------------------------------------------------------------

// "a, b, c, ..."
static void list_add(char *to, size_t size, size_t at, const char *name)
{
    size_t used = strlen(to);

    if (at < NAMES_MAX) {
        snprintf(to + used, size - used, "%s%s", at > 0 ? ", " : "", name);
    } else if (at == NAMES_MAX) {
        snprintf(to + used, size - used, ", ...");
    }
}

int plugins_find(const struct plugins *plugins, const char *name, const char *function, size_t *plugin_at,
                 size_t *function_at, struct error *err)
{
    char have[300] = "";
    const struct plugin *plugin = NULL;

    for (size_t i = 0; plugins != NULL && i < plugins->count && plugin == NULL; i++) {
        list_add(have, sizeof(have), i, plugins->plugin[i].name);
        if (strcmp(plugins->plugin[i].name, name) == 0) {
            plugin = &plugins->plugin[i];
            *plugin_at = i;
        }
    }
    if (plugin == NULL) {
        return error_set(err, ENOENT, "this worker has no plugin '%.200s' (%s%s): start it with --plugin",
                         name, have[0] != '\0' ? "it has " : "none at all", have);
    }
    have[0] = '\0';
    for (size_t i = 0; i < plugin->functions; i++) {
        list_add(have, sizeof(have), i, plugin->function[i].name);
        if (strcmp(plugin->function[i].name, function) == 0) {
            *function_at = i;
            return 0;
        }
    }
    return error_set(err, ENOENT, "plugin '%s' %.100s has no function '%.200s'; it has %s", plugin->name,
                     plugin->version, function, have);
}
