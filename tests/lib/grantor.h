#pragma once
// SPDX-License-Identifier: MIT
/*
 * grantor - a lease segment in memory, and a grantor in this process that plays the daemon's part by the book
 *
 * Its ledger is its own memory: what lies in the segment is never read back but for words and custody.
 */
#include "client/heap.h"

#define GRANTOR_SLABS 4096u
#define GRANTOR_HEAPS 64u

struct grantor_slab { /* the ledger's */
	bool is_slab;
	uint64_t base;
	uint32_t n_slots, first_word, size_class, grantee;
};

struct grantor {
	uint8_t *base; /* the segment */
	uint64_t n_bytes;
	struct lease_map map;
	uint64_t data_bytes;
	uint8_t *page_taken; /* [n_pages] */
	uint8_t *word_taken; /* [n_words / LEASE_WORDS_STEP] */
	uint64_t n_pages, n_words;
	uint32_t n_slabs;
	struct grantor_slab slabs[GRANTOR_SLABS];
};

/** grantor_init() - @n_slabs: ids, at most GRANTOR_SLABS; asserts instead of failing */
void grantor_init(struct grantor *grantor, uint64_t data_bytes, uint32_t n_slabs);
void grantor_deinit(struct grantor *grantor);
/** grantor_open() - number @heap begins for @session */
void grantor_open(struct grantor *grantor, uint32_t heap, uint64_t session);
/** grantor_grant() - a slab of @n_slots, an orphan first. Return: its id; UINT32_MAX: no room */
uint32_t grantor_grant(struct grantor *grantor, uint32_t heap, uint32_t size_class, uint32_t n_slots);
/** grantor_recall() - Return: whether it was empty and is a gap again */
bool grantor_recall(struct grantor *grantor, uint32_t id);
/** grantor_sweep() - @heap is dead */
void grantor_sweep(struct grantor *grantor, uint32_t heap);
/** grantor_swap() - word from @from to @to, as the daemon does for pins and frees by request */
bool grantor_swap(struct grantor *grantor, uint64_t offset, uint16_t from, uint16_t to);
/** grantor_word() - of the slot at @offset, by the ledger. Return: NULL: no slot */
_Atomic uint16_t *grantor_word(struct grantor *grantor, uint64_t offset, uint32_t *idp);

/** grantor_alloc() - heap_alloc() with slabs from here. Return: 0 no room */
static inline uint64_t grantor_alloc(struct grantor *grantor, struct heap *heap, uint32_t size_class, uint32_t n_slots)
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
	while (n < n_wanted && (ids[n] = grantor_grant(grantor, heap->number, size_class, n_slots)) != UINT32_MAX)
		n++;
	if (n)
		heap_grant(heap, size_class, n, ids);
	else if (n_wanted)
		heap_refused(heap, size_class);
	return heap_alloc(heap, size_class, &offset) ? 0 : offset;
}

static inline int grantor_free(struct heap *heap, uint64_t offset)
{
	_Atomic uint16_t *word;
	uint32_t size_class;
	enum heap_pushed pushed = heap_push(heap, offset, &word, &size_class);
	int r = pushed == HEAP_PUSHED	   ? 0
		: pushed == HEAP_PUSH_MORE ? heap_push_more(heap, offset, size_class, word)
					   : HEAP_E_LOOK;

	return r == HEAP_E_LOOK ? heap_free(heap, offset) : r;
}
