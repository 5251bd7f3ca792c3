#include "proto/frame.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#include "proto/frame_check.h"
#include "proto/schema.h"

enum { PROTOCOL_AT = 4, TYPE_AT = 5, ZERO_AT = 6, SESSION_AT = 8, SEQ_AT = 16, TYPES_MAX = 64 };

static const uint8_t magic[4] = {'D', 'R', 'A', 'Y'};

static const struct frame_info infos[TYPES_MAX] = {
#define X(NAME, number, Message, lower, who)                                                                 \
    [FRAME_##NAME] = {                                                                                       \
        .type = FRAME_##NAME,                                                                                \
        .name = #NAME,                                                                                       \
        .descriptor = &dray__##lower##__descriptor,                                                          \
        .senders = (who),                                                                                    \
    },
    FRAME_TYPES(X)
#undef X
};

const struct frame_info *frame_info(unsigned type)
{
    return type < TYPES_MAX && infos[type].name != NULL ? &infos[type] : NULL;
}

size_t frame_size(const ProtobufCMessage *message)
{
    return FRAME_HEADER + protobuf_c_message_get_packed_size(message);
}

void frame_encode(enum frame_type type, uint64_t session, uint64_t seq, const ProtobufCMessage *message,
                  uint8_t *out)
{
    uint64_t session_le = htole64(session);
    uint64_t seq_le = htole64(seq);

    memset(out, 0, FRAME_HEADER);
    memcpy(out, magic, sizeof(magic));
    out[PROTOCOL_AT] = FRAME_PROTOCOL;
    out[TYPE_AT] = (uint8_t)type;
    memcpy(out + SESSION_AT, &session_le, sizeof(session_le));
    memcpy(out + SEQ_AT, &seq_le, sizeof(seq_le));
    protobuf_c_message_pack(message, out + FRAME_HEADER);
}

int frame_decode(const void *data, size_t size, enum frame_sender sender, struct arena *arena,
                 struct frame *out, struct error *err)
{
    const uint8_t *from = data;
    struct frame frame = {0};
    int rc;

    if (size < FRAME_HEADER || memcmp(from, magic, sizeof(magic)) != 0) {
        return error_set(err, EBADMSG, "a message of %zu bytes is not one of Dray's", size);
    }
    memcpy(&frame.session, from + SESSION_AT, sizeof(frame.session));
    memcpy(&frame.seq, from + SEQ_AT, sizeof(frame.seq));
    frame.session = le64toh(frame.session);
    frame.seq = le64toh(frame.seq);
    frame.info = frame_info(from[TYPE_AT]);
    if (from[PROTOCOL_AT] != FRAME_PROTOCOL) {
        *out = frame;
        return error_set(err, EPROTO,
                         "the other side speaks version %u of Dray's protocol, this one version %u",
                         from[PROTOCOL_AT], FRAME_PROTOCOL);
    }
    if (frame.info == NULL || from[ZERO_AT] != 0 || from[ZERO_AT + 1] != 0) {
        return error_set(err, EBADMSG, "a message has the unknown type %u", from[TYPE_AT]);
    }
    if ((frame.info->senders & (unsigned)sender) == 0) {
        return error_set(err, EBADMSG, "a %s came from a peer that may not send it", frame.info->name);
    }
    if (size - FRAME_HEADER > frame_body_max(frame.info->type)) {
        return error_set(err, EBADMSG, "a %s of %zu bytes is too long", frame.info->name, size);
    }
    rc = schema_unpack(frame.info->descriptor, from + FRAME_HEADER, size - FRAME_HEADER, arena,
                       &frame.message, err);
    if (rc < 0) {
        return rc;
    }
    rc = frame_check(frame.info->type, frame.message, arena, err);
    if (rc < 0) {
        error_prefix(err, "a %s makes no sense: ", frame.info->name);
        return rc;
    }
    *out = frame;
    return 0;
}
