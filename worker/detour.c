#include "worker/detour.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct detour {
    pthread_mutex_t lock;
    struct detour_order *order, **last_order;
    struct detour_answer *answer, **last_answer;
};

struct detour *detour_create(void)
{
    struct detour *detour = calloc(1, sizeof(*detour));

    if (detour != NULL) {
        pthread_mutex_init(&detour->lock, NULL);
        detour->last_order = &detour->order;
        detour->last_answer = &detour->answer;
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

static void put_order(struct detour *detour, struct detour_order *order)
{
    order->next = NULL;
    pthread_mutex_lock(&detour->lock);
    *detour->last_order = order;
    detour->last_order = &order->next;
    pthread_mutex_unlock(&detour->lock);
}

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
    put_order(detour, order);
    return 0;
}

int detour_tell(struct detour *detour, const char *text)
{
    struct detour_order *order = calloc(1, sizeof(*order));

    if (order == NULL || (order->text = strdup(text)) == NULL) {
        free(order);
        return -ENOMEM;
    }
    put_order(detour, order);
    return 0;
}

struct detour_order *detour_take_order(struct detour *detour)
{
    struct detour_order *order;

    pthread_mutex_lock(&detour->lock);
    order = detour->order;
    if (order != NULL) {
        detour->order = order->next;
    }
    if (detour->order == NULL) {
        detour->last_order = &detour->order;
    }
    pthread_mutex_unlock(&detour->lock);
    return order;
}

void detour_order_free(struct detour_order *order)
{
    if (order != NULL) {
        free(order->text);
        free(order);
    }
}

// ---- answers ----------------------------------------------------------------------

static void put_answer(struct detour *detour, struct detour_answer *answer)
{
    answer->next = NULL;
    pthread_mutex_lock(&detour->lock);
    *detour->last_answer = answer;
    detour->last_answer = &answer->next;
    pthread_mutex_unlock(&detour->lock);
}

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
    put_answer(detour, answer);
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
    put_answer(detour, answer);
    return 0;
}

struct detour_answer *detour_take_answer(struct detour *detour)
{
    struct detour_answer *answer;

    pthread_mutex_lock(&detour->lock);
    answer = detour->answer;
    if (answer != NULL) {
        detour->answer = answer->next;
    }
    if (detour->answer == NULL) {
        detour->last_answer = &detour->answer;
    }
    pthread_mutex_unlock(&detour->lock);
    return answer;
}

void detour_answer_free(struct detour_answer *answer)
{
    if (answer != NULL) {
        buffer_unref(answer->payload);
        free(answer);
    }
}
