// Where the exchange's thread, which fetches partitions, and the loop's, which has the session with the
// broker, meet when workers cannot reach one another: what the broker is to be asked, and what it answers.
#ifndef DRAY_WORKER_DETOUR_H
#define DRAY_WORKER_DETOUR_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/buffer.h"
#include "proto/error.h"
#include "proto/frame.h"

struct detour_link {
    struct detour_link *next;
};

// For the loop's thread.
struct detour_order {
    struct detour_link link; // first
    char *text;              // for people; NULL: ask the broker
    Dray__Fetch message;     // its array lies behind
    uint32_t also[];
};

// For the exchange's thread.
struct detour_answer {
    struct detour_link link; // first
    bool is_session;         // it has begun (up) or ended; otherwise PIECE
    bool up;
    Dray__Piece message; // what it points to lies here
    struct buffer *payload;
    Dray__Failure failure;
    char text[ERROR_TEXT_MAX];
    uint32_t size[];
};

struct detour;

struct detour *detour_create(void); // NULL: no memory
void detour_destroy(struct detour *detour);

// Of the exchange's thread.  -ENOMEM.
int detour_ask(struct detour *detour, const Dray__Fetch *message);
int detour_tell(struct detour *detour, const char *text);
// In the order in which they were given; NULL: none.
struct detour_answer *detour_take_answer(struct detour *detour);
void detour_answer_free(struct detour_answer *answer);

// Of the loop's.  -ENOMEM.  `payload` NULL: there is none.
int detour_piece(struct detour *detour, const Dray__Piece *message, struct buffer *payload);
int detour_session(struct detour *detour, bool up);
struct detour_order *detour_take_order(struct detour *detour);
void detour_order_free(struct detour_order *order);

#endif
