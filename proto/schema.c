#include "proto/schema.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

// What a packed message of `size` bytes may take when unpacked: short messages may
// grow much (a sub-message of two bytes becomes a struct), long ones are packed arrays.
static size_t memory_limit(size_t size)
{
    size_t few = 64 * size;
    size_t many = ((size_t)32 << 20) + 4 * size;

    return ((size_t)64 << 10) + (few < many ? few : many);
}

static int check_enum(const ProtobufCFieldDescriptor *field, const void *value, struct error *err)
{
    int number;

    memcpy(&number, value, sizeof(number));
    if (protobuf_c_enum_descriptor_get_value(field->descriptor, number) == NULL) {
        return error_set(err, EBADMSG, "%s has the unknown value %d", field->name, number);
    }
    return 0;
}

static int check_message(const ProtobufCMessage *message, struct error *err);

static int check_value(const ProtobufCFieldDescriptor *field, const void *value, struct error *err)
{
    if (field->type == PROTOBUF_C_TYPE_ENUM) {
        return check_enum(field, value, err);
    }
    const void *pointer;

    memcpy(&pointer, value, sizeof(pointer));
    if (pointer == NULL) { // an optional one that is absent
        return 0;
    }
    if (field->type == PROTOBUF_C_TYPE_STRING) {
        if (strnlen(pointer, SCHEMA_STRING_MAX + 1) > SCHEMA_STRING_MAX) {
            return error_set(err, EBADMSG, "%s is longer than %zu bytes", field->name, SCHEMA_STRING_MAX);
        }
        return 0;
    }
    int rc = check_message(pointer, err);

    if (rc < 0) {
        error_prefix(err, "%s.", field->name);
    }
    return rc;
}

static int check_field(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field,
                       struct error *err)
{
    const uint8_t *base = (const uint8_t *)message;
    const uint8_t *value = base + field->offset;
    size_t count = 1;
    size_t width = field->type == PROTOBUF_C_TYPE_ENUM ? sizeof(int) : sizeof(void *);

    if (field->type != PROTOBUF_C_TYPE_ENUM && field->type != PROTOBUF_C_TYPE_STRING &&
        field->type != PROTOBUF_C_TYPE_MESSAGE) {
        return 0;
    }
    if (field->label == PROTOBUF_C_LABEL_REPEATED) {
        memcpy(&count, base + field->quantifier_offset, sizeof(count));
        memcpy(&value, base + field->offset, sizeof(value));
    } else if (field->label == PROTOBUF_C_LABEL_OPTIONAL && field->type == PROTOBUF_C_TYPE_ENUM) {
        protobuf_c_boolean has;

        memcpy(&has, base + field->quantifier_offset, sizeof(has));
        count = has ? 1 : 0;
    }
    for (size_t i = 0; i < count; i++) {
        int rc = check_value(field, value + i * width, err);

        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}

// The schema has no recursive messages, so this goes only as deep as it does.
static int check_message(const ProtobufCMessage *message, struct error *err)
{
    const ProtobufCMessageDescriptor *descriptor = message->descriptor;
    int rc = 0;

    // Both sides speak the same version of the protocol, or the handshake fails.
    if (message->n_unknown_fields > 0) {
        return error_set(err, EBADMSG, "there is no field %u in a %s", message->unknown_fields[0].tag,
                         descriptor->short_name);
    }
    for (unsigned i = 0; i < descriptor->n_fields && rc == 0; i++) {
        rc = check_field(message, &descriptor->fields[i], err);
    }
    return rc;
}

int schema_unpack(const ProtobufCMessageDescriptor *descriptor, const void *data, size_t size,
                  struct arena *arena, ProtobufCMessage **out, struct error *err)
{
    if (size > SCHEMA_BYTES_MAX) {
        return error_set(err, EBADMSG, "a %s of %zu bytes is too long", descriptor->short_name, size);
    }
    size_t limit = arena->limit;
    size_t own = arena->used + memory_limit(size);

    arena->limit = limit == 0 || own < limit ? own : limit;
    arena->starved = false;

    ProtobufCMessage *message = protobuf_c_message_unpack(descriptor, &arena->protobuf, size, data);

    arena->limit = limit;
    if (message == NULL && arena->starved) {
        return error_no_memory(err); // its sender is not to blame
    }
    if (message == NULL) {
        return error_set(err, EBADMSG, "the bytes are not a %s", descriptor->short_name);
    }
    int rc = check_message(message, err);

    if (rc < 0) {
        error_prefix(err, "a %s is malformed: ", descriptor->short_name);
        return rc;
    }
    *out = message;
    return 0;
}
