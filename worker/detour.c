#include "worker/detour.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

// First in, first out.
struct line {
    struct detour_link *first, **last;
};

struct detour {
    pthread_mutex_t lock;
    struct line orders, answers;
};

static void put(struct detour *detour, struct line *line, struct detour_link *link)
{
    link->next = NULL;
    pthread_mutex_lock(&detour->lock);
    *line->last = link;
    line->last = &link->next;
    pthread_mutex_unlock(&detour->lock);
}

static struct detour_link *take(struct detour *detour, struct line *line)
{
    struct detour_link *link;

    pthread_mutex_lock(&detour->lock);
    link = line->first;
    line->first = link != NULL ? link->next : NULL;
    line->last = line->first != NULL ? line->last : &line->first;
    pthread_mutex_unlock(&detour->lock);
    return link;
}

struct detour *detour_create(void)
{
    struct detour *detour = calloc(1, sizeof(*detour));

    if (detour != NULL) {
        pthread_mutex_init(&detour->lock, NULL);
        detour->orders.last = &detour->orders.first;
        detour->answers.last = &detour->answers.first;
    }
    return detour;
}

void detour_destroy(struct detour *detour)
{
    struct detour_order *order;
    struct detour_answer *answer;

    if (detour == NULL) {
        return;
    }
    while ((order = detour_take_order(detour)) != NULL) {
        detour_order_free(order);
    }
    while ((answer = detour_take_answer(detour)) != NULL) {
        detour_answer_free(answer);
    }
    pthread_mutex_destroy(&detour->lock);
    free(detour);
}

// ---- orders -----------------------------------------------------------------------

int detour_ask(struct detour *detour, const Dray__Fetch *message)
{
    struct detour_order *order = calloc(1, sizeof(*order) + message->n_also * sizeof(order->also[0]));

    if (order == NULL) {
        return -ENOMEM;
    }
    order->message = *message;
    if (message->n_also > 0) {
        memcpy(order->also, message->also, message->n_also * sizeof(order->also[0]));
    }
    order->message.also = order->also;
    put(detour, &detour->orders, &order->link);
    return 0;
}

int detour_tell(struct detour *detour, const char *text)
{
    struct detour_order *order = calloc(1, sizeof(*order));

    if (order == NULL || (order->text = strdup(text)) == NULL) {
        free(order);
        return -ENOMEM;
    }
    put(detour, &detour->orders, &order->link);
    return 0;
}

struct detour_order *detour_take_order(struct detour *detour)
{
    return (struct detour_order *)take(detour, &detour->orders);
}

void detour_order_free(struct detour_order *order)
{
    if (order != NULL) {
        free(order->text);
        free(order);
    }
}

// ---- answers ----------------------------------------------------------------------

int detour_piece(struct detour *detour, const Dray__Piece *message, struct buffer *payload)
{
    struct detour_answer *answer = calloc(1, sizeof(*answer) + message->n_size * sizeof(answer->size[0]));

    if (answer == NULL) {
        return -ENOMEM;
    }
    answer->message = *message;
    if (message->n_size > 0) {
        memcpy(answer->size, message->size, message->n_size * sizeof(answer->size[0]));
    }
    answer->message.size = answer->size;
    if (message->why != NULL) {
        dray__failure__init(&answer->failure);
        answer->failure.code = message->why->code;
        strncpy(answer->text, message->why->text, sizeof(answer->text) - 1);
        answer->failure.text = answer->text;
        answer->message.why = &answer->failure;
    }
    answer->payload = buffer_ref(payload);
    put(detour, &detour->answers, &answer->link);
    return 0;
}

int detour_session(struct detour *detour, bool up)
{
    struct detour_answer *answer = calloc(1, sizeof(*answer));

    if (answer == NULL) {
        return -ENOMEM;
    }
    answer->is_session = true;
    answer->up = up;
    put(detour, &detour->answers, &answer->link);
    return 0;
}

struct detour_answer *detour_take_answer(struct detour *detour)
{
    return (struct detour_answer *)take(detour, &detour->answers);
}

void detour_answer_free(struct detour_answer *answer)
{
    if (answer != NULL) {
        buffer_unref(answer->payload);
        free(answer);
    }
}
