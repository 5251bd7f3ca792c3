#include "worker/neighbour.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void neighbour_destroy(struct neighbour *neighbour)
{
    for (size_t i = 0; neighbour != NULL && i < neighbour->endpoints; i++) {
        free(neighbour->endpoint[i]);
    }
    if (neighbour != NULL) {
        free(neighbour->endpoint);
        free(neighbour);
    }
}

void neighbours_fini(struct neighbours *neighbours)
{
    struct neighbour *neighbour;

    for (size_t at = 0; (neighbour = map_next(&neighbours->map, &at, NULL)) != NULL;) {
        neighbour_destroy(neighbour);
    }
    map_fini(&neighbours->map);
    *neighbours = (struct neighbours){0};
}

int neighbours_add(struct neighbours *neighbours, const Dray__Peer *peer)
{
    struct map_key key = {0, peer->worker};
    struct neighbour *before = map_get(&neighbours->map, key);
    struct neighbour *neighbour = calloc(1, sizeof(*neighbour));

    if (neighbour == NULL) {
        return -ENOMEM;
    }
    neighbour->incarnation = peer->incarnation;
    neighbour->endpoint = calloc(peer->n_endpoint + 1, sizeof(char *));
    for (size_t i = 0; neighbour->endpoint != NULL && i < peer->n_endpoint; i++) {
        neighbour->endpoint[i] = strdup(peer->endpoint[i]);
        if (neighbour->endpoint[i] == NULL) {
            break;
        }
        neighbour->endpoints++;
    }
    if (neighbour->endpoints < peer->n_endpoint || neighbour->endpoint == NULL ||
        map_put(&neighbours->map, key, neighbour) != 0) {
        neighbour_destroy(neighbour);
        return -ENOMEM;
    }
    neighbour_destroy(before);
    return 0;
}

const struct neighbour *neighbours_find(const struct neighbours *neighbours, uint32_t worker)
{
    return map_get(&neighbours->map, (struct map_key){0, worker});
}
