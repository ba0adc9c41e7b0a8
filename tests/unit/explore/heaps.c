// SPDX-License-Identifier: MIT
#include "client/heap.h"

#include <stdlib.h>

#include "explore.h"

/* In the memory that is put back. */
static struct heap *heaps[N_CLIENTS];

void heaps_init(int client, uint32_t number)
{
	struct lease_map map;
	size_t n_bytes;
	uint8_t *base = daemon_segment(&n_bytes);

	if (lease_map_attach(&map, base, n_bytes))
		abort();
	if (!heaps[client])
		heaps[client] = malloc(sizeof(*heaps[client]));
	heap_init(heaps[client], &map, number, UINT64_C(1) << 30);
	for (uint32_t i = 0; i < SIZE_CLASS_N; i++)
		heaps[client]->shelves[i].capacity = 4;
	heaps[client]->large_limit = 2 * size_class_bytes(LARGE);
	heaps[client]->colour = (uint32_t)client; /* the library counts on: no schedule would run the same way again */
}

void heaps_forget(void)
{
	for (int i = 0; i < N_CLIENTS; i++)
		heaps[i] = NULL;
}

/* As a thread of the library does it: what the common path cannot, the other does. */
int heaps_alloc(int client, uint32_t size_class, uint64_t *offsetp)
{
	*offsetp = size_class < SIZE_CLASS_CUT_N ? heap_pop(heaps[client], size_class) : 0;
	return *offsetp ? 0 : heap_alloc(heaps[client], size_class, offsetp);
}

int heaps_free(int client, uint64_t offset)
{
	_Atomic uint16_t *word;
	uint32_t size_class;
	enum heap_pushed pushed = heap_push(heaps[client], offset, &word, &size_class);
	int r = pushed == HEAP_PUSHED	   ? 0
		: pushed == HEAP_PUSH_MORE ? heap_push_more(heaps[client], offset, size_class, word)
					   : HEAP_E_LOOK;

	return r == HEAP_E_LOOK ? heap_free(heaps[client], offset) : r;
}

int heaps_take(int client, uint64_t offset, uint64_t session)
{
	return heap_take(heaps[client], offset, session);
}

void heaps_flush(int client)
{
	heap_flush(heaps[client]);
}

void heaps_grant(int client, uint32_t size_class, uint32_t n, const uint32_t ids[])
{
	if (n)
		heap_grant(heaps[client], size_class, n, ids);
	else
		heap_refused(heaps[client], size_class);
}

/* Of all that is in it but the classes that no scenario uses. */
uint64_t heaps_hash(int client)
{
	const uint32_t classes[] = {SMALL, OTHER, LARGE};
	const struct heap *heap = heaps[client];
	uint64_t hash = mix_bytes(1, heap, offsetof(struct heap, magazines));

	hash = mix_bytes(hash, &heap->map, offsetof(struct heap, shelves) - offsetof(struct heap, map));
	for (uint32_t i = 0; i < N_ELEMENTS(classes); i++) {
		const struct magazine *magazine = &heap->magazines[classes[i]];
		const struct shelf *shelf = &heap->shelves[classes[i]];

		hash = mix_bytes(mix_bytes(hash, magazine, sizeof(*magazine)), shelf, sizeof(*shelf));
		hash = mix_bytes(hash, magazine->bottom,
				 magazine->bottom == heap_no_storage + 1 ? 0 : 4 * sizeof(*magazine->bottom));
		hash = mix_bytes(hash, shelf->slabs, shelf->n_slabs * sizeof(*shelf->slabs));
	}
	return hash;
}

/* Large ones the daemon may have taken. */
void heaps_check(int client)
{
	const struct heap *heap = heaps[client];
	struct place place;

	for (uint32_t i = 0; i < SIZE_CLASS_CUT_N; i++)
		for (const struct heap_slot *slot = heap->magazines[i].bottom; slot != heap->magazines[i].top; slot++) {
			if (!daemon_find(slot->offset, size_class_bytes(i), &place) ||
			    slot->word != heap->words + place.word)
				search_found("a magazine has a slot that is none");
			else if (daemon_word(place.word) != heap->cached)
				search_found("a slot in a magazine is not its heap's");
		}
}
