#include "client/lang/spell.h"

#include <ctype.h>
#include <string.h>

enum { WORD_MAX = 64 };

static unsigned least(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

static int fold(char c)
{
    return tolower((unsigned char)c);
}

// Optimal string alignment distance, three rows at a time.
unsigned spell_distance(const char *a, const char *b)
{
    unsigned row[3][WORD_MAX + 1];
    size_t n = strnlen(a, WORD_MAX);
    size_t m = strnlen(b, WORD_MAX);

    for (size_t j = 0; j <= m; j++) {
        row[0][j] = (unsigned)j;
    }
    for (size_t i = 1; i <= n; i++) {
        unsigned *now = row[i % 3];
        const unsigned *above = row[(i + 2) % 3];
        const unsigned *above2 = row[(i + 1) % 3];

        now[0] = (unsigned)i;
        for (size_t j = 1; j <= m; j++) {
            bool same = fold(a[i - 1]) == fold(b[j - 1]);
            unsigned best = least(least(above[j], now[j - 1]) + 1, above[j - 1] + !same);

            if (i > 1 && j > 1 && fold(a[i - 1]) == fold(b[j - 2]) && fold(a[i - 2]) == fold(b[j - 1])) {
                best = least(best, above2[j - 2] + 1);
            }
            now[j] = best;
        }
    }
    return row[n % 3][m];
}

void spell_try(struct spell *spell, const char *candidate)
{
    unsigned distance = spell_distance(spell->word, candidate);

    if (spell->best == NULL || distance < spell->distance) {
        spell->best = candidate;
        spell->distance = distance;
    }
}

bool spell_is_near(const struct spell *spell)
{
    size_t size = strlen(spell->word);

    return spell->best != NULL &&
           spell->distance <= (size < 3   ? 1
                               : size < 6 ? 2
                                          : 3) &&
           spell->distance < size;
}
