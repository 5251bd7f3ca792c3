#include "client/plan/query_note.h"

#include <errno.h>
#include <string.h>

#include "proto/payload.h"
#include "proto/schema.h"

enum { NOTE_BYTES_MAX = 1000 << 10 }; // of a job's 1 MiB

// ---- out ------------------------------------------------------------------------------------------------

static Dray__ScriptSource *pack_source(Dray__CsvProbeResult *const *result, uint32_t paths,
                                       struct arena *arena)
{
    Dray__ScriptSource *source = arena_alloc(arena, sizeof(*source));

    if (source == NULL) {
        return NULL;
    }
    dray__script_source__init(source);
    source->result = arena_array(arena, paths + 1, sizeof(*source->result));
    for (uint32_t i = 0; source->result != NULL && i < paths; i++) {
        ProtobufCBinaryData *packed = &source->result[source->n_result++];

        packed->len = result[i] != NULL ? dray__csv_probe_result__get_packed_size(result[i]) : 0;
        packed->data = arena_alloc(arena, packed->len + 1);
        if (packed->data == NULL) {
            return NULL;
        }
        if (result[i] != NULL) {
            dray__csv_probe_result__pack(result[i], packed->data);
        }
    }
    return source->result != NULL ? source : NULL;
}

static int fill(Dray__ScriptNote *note, const struct learnt *learnt, struct arena *arena)
{
    Dray__ScriptType *type = arena_array(arena, learnt->types + 1, sizeof(*type));

    note->source = arena_array(arena, learnt->probes + 1, sizeof(*note->source));
    note->learnt = arena_array(arena, learnt->types + 1, sizeof(*note->learnt));
    if (type == NULL || note->source == NULL || note->learnt == NULL) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < learnt->probes; i++) {
        note->source[note->n_source] = pack_source(learnt->probe[i], learnt->paths[i], arena);
        if (note->source[note->n_source++] == NULL) {
            return -ENOMEM;
        }
    }
    for (uint32_t i = 0; i < learnt->types; i++) {
        dray__script_type__init(&type[i]);
        type[i].ordinal = learnt->type[i].ordinal;
        type[i].column = (char *)(uintptr_t)learnt->type[i].column; // only read
        type[i].type = (uint32_t)learnt->type[i].type;
        note->learnt[note->n_learnt++] = &type[i];
    }
    return 0;
}

// As the script of a JobNote.
static int pack_job(struct buffer *frame, struct arena *arena, void **out, size_t *size, struct error *err)
{
    Dray__JobNote job = DRAY__JOB_NOTE__INIT;
    void *packed;

    job.has_script = true;
    job.script.data = (uint8_t *)(uintptr_t)frame->data; // only read
    job.script.len = frame->size;
    packed = arena_alloc(arena, dray__job_note__get_packed_size(&job));
    if (packed == NULL) {
        return error_no_memory(err);
    }
    *size = dray__job_note__pack(&job, packed);
    *out = packed;
    return 0;
}

int query_note_pack(const struct script *script, const char *directory, const struct learnt *learnt,
                    const struct rounds *rounds, struct arena *arena, void **out, size_t *size,
                    struct error *err)
{
    Dray__ScriptNote note = DRAY__SCRIPT_NOTE__INIT;
    struct buffer *frame = NULL;
    uint8_t *packed;
    size_t bytes;
    int rc;

    note.text.data = (uint8_t *)(uintptr_t)script->text; // only read
    note.text.len = script->size;
    note.name = (char *)(uintptr_t)script->name;
    note.directory = (char *)(uintptr_t)(directory != NULL ? directory : "");
    if (fill(&note, learnt, arena) != 0 || rounds_save(rounds, arena, &note) != 0) {
        return error_no_memory(err);
    }
    bytes = dray__script_note__get_packed_size(&note);
    packed = bytes <= FRAME_PAYLOAD_MAX ? arena_alloc(arena, bytes) : NULL;
    if (packed == NULL && bytes <= FRAME_PAYLOAD_MAX) {
        return error_no_memory(err);
    }
    if (packed != NULL) {
        dray__script_note__pack(&note, packed);
        rc = payload_encode(packed, bytes, PAYLOAD_AUTO, &frame, err);
        if (rc != 0) {
            return rc;
        }
    }
    rc = frame == NULL || frame->size > NOTE_BYTES_MAX
             ? error_set(err, E2BIG,
                         "what is known of the script's files takes %zu bytes: too much to be left "
                         "with a job",
                         frame == NULL ? bytes : frame->size)
             : pack_job(frame, arena, out, size, err);
    buffer_unref(frame);
    return rc;
}

// ---- in -------------------------------------------------------------------------------------------------

int query_note_unpack(const void *data, size_t size, struct arena *arena, const Dray__ScriptNote **out,
                      struct error *err)
{
    struct buffer *raw = NULL;
    ProtobufCMessage *message = NULL;
    const Dray__JobNote *job;
    int rc;

    if (size == 0 || schema_unpack(&dray__job_note__descriptor, data, size, arena, &message, NULL) != 0 ||
        !((const Dray__JobNote *)message)->has_script) {
        return error_set(err, ENOMSG, "its note tells of no script");
    }
    job = (const Dray__JobNote *)message;
    rc = payload_decode(job->script.data, job->script.len, &raw, err);
    if (rc == 0) {
        rc = schema_unpack(&dray__script_note__descriptor, raw->data, raw->size, arena, &message, err);
    }
    buffer_unref(raw);
    if (rc != 0) {
        error_prefix(err, "the note with its script: ");
        return rc;
    }
    *out = (const Dray__ScriptNote *)message;
    return 0;
}

static int unpack_result(const ProtobufCBinaryData *packed, struct arena *arena, Dray__CsvProbeResult **out,
                         struct error *err)
{
    ProtobufCMessage *message;
    int rc;

    *out = NULL;
    if (packed->len == 0) {
        return 0;
    }
    rc = schema_unpack(&dray__csv_probe_result__descriptor, packed->data, packed->len, arena, &message, err);
    if (rc != 0) {
        return rc;
    }
    *out = (Dray__CsvProbeResult *)message;
    for (size_t i = 0; i < (*out)->n_file; i++) {
        if ((*out)->file[i]->n_column != (*out)->file[i]->n_type) {
            return error_set(err, EBADMSG, "a file with %zu columns and %zu types", (*out)->file[i]->n_column,
                             (*out)->file[i]->n_type);
        }
    }
    return 0;
}

static int learn_sources(const Dray__ScriptNote *note, struct learnt *learnt, struct error *err)
{
    learnt->probe = arena_array(learnt->arena, note->n_source + 1, sizeof(*learnt->probe));
    learnt->paths = arena_array(learnt->arena, note->n_source + 1, sizeof(*learnt->paths));
    if (learnt->probe == NULL || learnt->paths == NULL) {
        return error_no_memory(err);
    }
    for (size_t i = 0; i < note->n_source; i++) {
        const Dray__ScriptSource *source = note->source[i];
        Dray__CsvProbeResult **result =
            arena_array(learnt->arena, source->n_result + 1, sizeof(Dray__CsvProbeResult *));

        if (result == NULL) {
            return error_no_memory(err);
        }
        for (size_t k = 0; k < source->n_result; k++) {
            int rc = unpack_result(&source->result[k], learnt->arena, &result[k], err);

            if (rc != 0) {
                return rc;
            }
        }
        learnt->probe[i] = result;
        learnt->paths[i] = (uint32_t)source->n_result;
        learnt->probes++;
    }
    return 0;
}

int query_note_learnt(const Dray__ScriptNote *note, struct learnt *learnt, struct error *err)
{
    int rc = learn_sources(note, learnt, err);

    if (rc != 0) {
        return rc;
    }
    learnt->type = arena_array(learnt->arena, note->n_learnt + 1, sizeof(*learnt->type));
    if (learnt->type == NULL) {
        return error_no_memory(err);
    }
    for (size_t i = 0; i < note->n_learnt; i++) {
        const Dray__ScriptType *from = note->learnt[i];

        if (from->type < TYPE_BOOL || from->type > TYPE_STRING) {
            return error_set(err, EBADMSG, "a column of type %u", from->type);
        }
        learnt->type[learnt->types++] = (struct learnt_type){
            from->ordinal, arena_strdup(learnt->arena, from->column), (enum type)from->type};
        if (learnt->type[i].column == NULL) {
            return error_no_memory(err);
        }
    }
    return 0;
}
