// SPDX-License-Identifier: MIT
/* registry_suggest - the name that was meant */
#include <string.h>

#include "pool/registry_internal.h"

#define SUGGEST_MOST 2u /* edits between what was typed and what was meant */

/* Edits (insert, delete, replace) that make @b of @a (Wagner, Fischer 1974); two rows of the table. */
static uint32_t edit_distance(const uint8_t *a, uint32_t n_a, const uint8_t *b, uint32_t n_b)
{
	uint32_t rows[2][NAME_BYTES_MAX + 1], best;

	for (uint32_t j = 0; j <= n_b; j++)
		rows[0][j] = j;
	for (uint32_t i = 1; i <= n_a; i++) {
		const uint32_t *above = rows[(i - 1) % 2];
		uint32_t *row = rows[i % 2];

		row[0] = i;
		for (uint32_t j = 1; j <= n_b; j++) {
			best = above[j - 1] + (a[i - 1] != b[j - 1]);
			best = above[j] + 1 < best ? above[j] + 1 : best;
			row[j] = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
		}
	}
	return rows[n_a % 2][n_b];
}

void registry_suggest(struct registry *registry, const void *name, size_t n_name_bytes,
		      char out[static NAME_BYTES_MAX + 1])
{
	uint32_t nearest = SUGGEST_MOST + 1, distance;

	out[0] = '\0';
	if (n_name_bytes > NAME_BYTES_MAX)
		return;
	pthread_mutex_lock(&registry->mutex);
	for (uint32_t i = 0; i < registry->n_entries; i++) {
		const struct registry_entry *entry = registry->entries[i];

		if (!entry->n_name_bytes || !entry->pool)
			continue;
		distance = edit_distance(name, (uint32_t)n_name_bytes, entry->name, entry->n_name_bytes);
		if (distance >= nearest)
			continue;
		nearest = distance;
		memcpy(out, entry->name, entry->n_name_bytes);
		out[entry->n_name_bytes] = '\0';
	}
	pthread_mutex_unlock(&registry->mutex);
}
