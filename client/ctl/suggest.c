// SPDX-License-Identifier: MIT
/*
 * Optimal string alignment distance, row by row (Damerau 1964, without moving a pair twice): a swap of two neighbours is
 * what fingers do most, so it counts as one.
 */
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "ctl/suggest.h"

#define WORD_MAX 64 /* as a pool's name */

static unsigned least(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

unsigned edit_distance(const char *a, const char *b)
{
	unsigned rows[3][WORD_MAX + 1];
	unsigned *before = rows[0], *above = rows[1], *row = rows[2];
	size_t n_a = strlen(a), n_b = strlen(b);

	if (n_a > WORD_MAX || n_b > WORD_MAX)
		return UINT_MAX;
	for (unsigned j = 0; j <= n_b; j++)
		row[j] = j;
	for (unsigned i = 1; i <= n_a; i++) {
		unsigned *recycled = before;

		before = above;
		above = row;
		row = recycled;
		row[0] = i;
		for (unsigned j = 1; j <= n_b; j++) {
			row[j] = least(least(above[j] + 1, row[j - 1] + 1), above[j - 1] + (a[i - 1] != b[j - 1]));
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				row[j] = least(row[j], before[j - 2] + 1);
		}
	}
	return row[n_b];
}

/* A third of the letters may be wrong, or one of a short word's: "stast" is near "stats", "a" is near nothing. */
static unsigned tolerance(const char *word)
{
	size_t n = strlen(word);

	return n < 2 ? 0 : n < 6 ? 1 + (n > 3) : (unsigned)n / 3;
}

void suggestion_offer(struct suggestion *suggestion, const char *candidate)
{
	unsigned distance = strcasecmp(suggestion->word, candidate) ? edit_distance(suggestion->word, candidate) : 0;

	if (distance > tolerance(suggestion->word) || (suggestion->best[0] && distance >= suggestion->distance))
		return;
	snprintf(suggestion->best, sizeof(suggestion->best), "%s", candidate);
	suggestion->distance = distance;
}
