#pragma once
// SPDX-License-Identifier: MIT
/*
 * lease_world - a lease segment in memory, and a grantor in this process that plays the daemon's part by the book
 *
 * Its ledger is its own memory: what lies in the segment is never read back but for words and custody.
 */
#include "client/heap.h"

#define WORLD_SLABS 4096u
#define WORLD_HEAPS 64u

struct world_slab { /* the ledger's */
	bool is_slab;
	uint64_t base;
	uint32_t n_slots, first_word, size_class, grantee;
};

struct lease_world {
	uint8_t *base; /* the segment */
	uint64_t n_bytes;
	struct lease_map map;
	uint64_t data_bytes;
	uint8_t *page_taken; /* [n_pages] */
	uint8_t *word_taken; /* [n_words / LEASE_WORDS_STEP] */
	uint64_t n_pages, n_words;
	uint32_t n_slabs;
	struct world_slab slabs[WORLD_SLABS];
};

/** lease_world_init() - @n_slabs: ids, at most WORLD_SLABS; asserts instead of failing */
void lease_world_init(struct lease_world *world, uint64_t data_bytes, uint32_t n_slabs);
void lease_world_deinit(struct lease_world *world);
/** lease_world_open() - number @heap begins for @session */
void lease_world_open(struct lease_world *world, uint32_t heap, uint64_t session);
/** lease_world_grant() - a slab of @n_slots, an orphan first. Return: its id; UINT32_MAX: no room */
uint32_t lease_world_grant(struct lease_world *world, uint32_t heap, uint32_t size_class, uint32_t n_slots);
/** lease_world_recall() - Return: whether it was empty and is a gap again */
bool lease_world_recall(struct lease_world *world, uint32_t id);
/** lease_world_sweep() - @heap is dead */
void lease_world_sweep(struct lease_world *world, uint32_t heap);
/** lease_world_swap() - word from @from to @to, as the daemon does for pins and frees by request */
bool lease_world_swap(struct lease_world *world, uint64_t offset, uint16_t from, uint16_t to);
/** lease_world_word() - of the slot at @offset, by the ledger. Return: NULL: no slot */
_Atomic uint16_t *lease_world_word(struct lease_world *world, uint64_t offset, uint32_t *idp);

/** lease_world_alloc() - heap_alloc() with slabs from here. Return: 0 no room */
static inline uint64_t lease_world_alloc(struct lease_world *world, struct heap *heap, uint32_t size_class,
					 uint32_t n_slots)
{
	uint64_t offset = size_class < SIZE_CLASS_CUT_N ? heap_pop(heap, size_class) : 0;
	uint32_t n_wanted, n = 0, ids[16];
	int r;

	if (offset)
		return offset;
	r = heap_alloc(heap, size_class, &offset);
	if (r != HEAP_E_EMPTY)
		return r ? 0 : offset;
	n_wanted = heap_wants(heap, size_class);
	while (n < n_wanted && (ids[n] = lease_world_grant(world, heap->number, size_class, n_slots)) != UINT32_MAX)
		n++;
	if (n)
		heap_grant(heap, size_class, n, ids);
	else if (n_wanted)
		heap_refused(heap, size_class);
	return heap_alloc(heap, size_class, &offset) ? 0 : offset;
}

static inline int lease_world_free(struct heap *heap, uint64_t offset)
{
	_Atomic uint16_t *word;
	uint32_t size_class;
	enum heap_pushed pushed = heap_push(heap, offset, &word, &size_class);
	int r = pushed == HEAP_PUSHED	   ? 0
		: pushed == HEAP_PUSH_MORE ? heap_push_more(heap, offset, size_class, word)
					   : HEAP_E_LOOK;

	return r == HEAP_E_LOOK ? heap_free(heap, offset) : r;
}
