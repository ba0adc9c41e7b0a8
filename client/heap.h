#pragma once
// SPDX-License-Identifier: MIT
/*
 * heap - one thread's free slots in one pool: a magazine of each size class, and the slabs that they come from
 *
 * Knows words, custody and descriptors; not how slabs are asked for, nor threads. A heap is used by one thread at a time.
 */
#include "client/lease_map.h"
#include "proto/size_class.h"

struct heap_slot {
	uint64_t offset;
	_Atomic uint16_t *word;
};

#define HEAP_FLOOR 0u /* no slot's offset: what lies below the first slot of a magazine … */
#define HEAP_ROOF  1u /* … and above the last that there is room for */

/*
 * Of one class. Its storage, which it has none of before its first slot, lies between a floor and a roof: the common path sees in
 * what it loads or stores next whether the magazine is empty or full.
 */
struct magazine {
	struct heap_slot *top;	  /* one above the last in */
	struct heap_slot *bottom; /* first in */
};

extern struct heap_slot heap_no_storage[2]; /* a floor and a roof */

#define HEAP_HOT 8u /* slabs that a flush has just put slots into: simply picked */

struct shelf {		 /* where a class's magazine is filled from */
	uint32_t *slabs; /* ids that the heap was granted, some of them lost since */
	uint32_t n_slabs, room;
	uint32_t cursor;
	uint32_t filled, filled_to; /* slab that slots were last looked for in, id + 1, and where that ended */
	uint32_t capacity;	    /* slots in the magazine, once it has storage */
	uint32_t hot[HEAP_HOT];	    /* id + 1 */
	uint32_t n_hot;		    /* ever put in; the place of the next is n_hot % HEAP_HOT */
	uint32_t wait;		    /* allocations by request before the daemon is asked again */
	bool is_dry;		    /* the last walk found nothing, and nothing came back since */
	bool has_busy;		    /* the last walk passed one over */
};

#define HEAP_IDLE    512u /* slabs that look empty and stay leased, for they will be wanted again: simply picked */
#define HEAP_RETURNS 64u  /* of which the daemon is told at once */

struct heap {
	/* read by each alloc and free */
	union {
		struct {
			uint16_t live, cached; /* its two words */
			uint32_t n_slabs;
		};
		uint64_t head; /* these three by one load: what free costs is its loads */
	};
	uint64_t n_pages, n_words;
	const _Atomic uint32_t *pages;
	const struct lease_slab *slabs;
	_Atomic uint16_t *words;
	struct lease_heap *shared;
	/*
	 * What was popped last, and of which class: both in one word, for what alloc costs is its stores. It still lies there, right above
	 * the top, or a slot that was pushed since does, whose word is C(k) until it is popped and so the last itself. The slot cannot
	 * have become this heap's again in another shape: that takes a refill or a take, and those forget it, as all does that is
	 * not a plain pop or push.
	 */
	uint64_t last; /* see heap_last_of() */
	struct magazine magazines[SIZE_CLASS_N];
	/* the rest */
	struct lease_map map;
	uint32_t number;
	uint64_t session; /* that the number was given to */
	uint32_t colour;  /* where in a slab it begins to look */
	uint32_t seen_pressure, seen_returned;
	uint32_t n_idle;
	uint32_t idle[HEAP_IDLE]; /* id + 1 at id % HEAP_IDLE, some of them refilled since; of two there the later */
	uint64_t idle_bytes, idle_limit;
	uint64_t pool_bytes;
	uint64_t large_bytes, large_limit; /* cached in classes above SIZE_CLASS_CUT_MAX */
	struct shelf shelves[SIZE_CLASS_N];
};

enum {
	HEAP_E_EMPTY = 1, /* no slot of the class: lease slabs, or ask for the block */
	HEAP_E_REQUEST,	  /* the daemon's business: no slot, or one with a record */
	HEAP_E_LOOK,	  /* nothing has been done: heap_free() is to do it */
};

/** heap_init() - @number: from the daemon; @map is copied; @pool_bytes: of the data segment, all offsets are below */
void heap_init(struct heap *heap, const struct lease_map *map, uint32_t number, uint64_t pool_bytes);
/** heap_deinit() - frees memory; what is cached has been flushed, or is for the daemon to sweep */
void heap_deinit(struct heap *heap);

/** heap_alloc() - Return: 0; HEAP_E_EMPTY; HEAP_E_REQUEST the number is the session's no more; -ESTALE the pool is destroyed */
int heap_alloc(struct heap *heap, uint32_t size_class, uint64_t *offsetp) MUST_CHECK;
/** heap_fill() - up to SIZE_CLASS_CUT_MAX: see that heap_pop() has one. @offsetp: which it will be. Return: as heap_alloc() */
int heap_fill(struct heap *heap, uint32_t size_class, uint64_t *offsetp) MUST_CHECK;
/** heap_wants() - slabs of the class to lease now; 0: none, it was refused a while ago */
uint32_t heap_wants(struct heap *heap, uint32_t size_class);
/** heap_grant() - @ids: of the class, in this heap's name. Without memory to remember them they are the daemon's to recall */
void heap_grant(struct heap *heap, uint32_t size_class, uint32_t n, const uint32_t ids[]);
/** heap_refused() - not asked again for a while; every slab that it knows is looked at once, whatever the hints say */
void heap_refused(struct heap *heap, uint32_t size_class);

/**
 * heap_free() - @offset: any number
 * Return: 0; HEAP_E_REQUEST; -EALREADY free already; -EFAULT inside a slab, and no slot starts there
 */
int heap_free(struct heap *heap, uint64_t offset) MUST_CHECK;
/** heap_take() - make another session's slot this heap's. Return: 0; HEAP_E_REQUEST; -ESTALE not @session's; -EALREADY; -EFAULT */
int heap_take(struct heap *heap, uint64_t offset, uint64_t session) MUST_CHECK;
/** heap_look() - size of the live slot at @offset that has no record, and whose it is. Return: 0; as heap_free() */
int heap_look(struct heap *heap, uint64_t offset, uint64_t *bytesp, uint64_t *sessionp) MUST_CHECK;
/** heap_flush() - all that is cached goes back to its slabs; of a number that is its session's no more, it is forgotten */
void heap_flush(struct heap *heap);
/** heap_returns() - take the ids of slabs that look empty, when enough of them have gathered. Return: how many */
uint32_t heap_returns(struct heap *heap, uint32_t ids[HEAP_RETURNS]);

/* ---- the common path ---- */

/* Class of a size up to SIZE_CLASS_CUT_MAX, by granules: no branch that sizes at random would mispredict. */
extern const uint8_t heap_classes[SIZE_CLASS_CUT_MAX / 16];

static inline uint32_t heap_class_of(uint64_t size)
{
	return heap_classes[(size - 1) / 16];
}

#define HEAP_LAST_BITS 48 /* of an address; storage beyond is not taken */

static inline uint64_t heap_last_of(const struct heap_slot *slot, uint32_t size_class)
{
	return (uint64_t)(uintptr_t)slot | (uint64_t)size_class << HEAP_LAST_BITS;
}

/** heap_pop() - one of @size_class, below SIZE_CLASS_CUT_N. Return: its offset; 0: heap_alloc() must look */
static inline uint64_t heap_pop(struct heap *heap, uint32_t size_class)
{
	struct magazine *magazine = &heap->magazines[size_class];
	struct heap_slot *top = magazine->top - 1;
	uint64_t offset = top->offset;

	if (__builtin_expect(offset == HEAP_FLOOR, 0))
		return 0;
	magazine->top = top;
	heap->last = heap_last_of(top, size_class);
	lease_word_keep(top->word, heap->live);
	return offset;
}

/* The block that was allocated last, freed before another was: all is at hand. */
static inline bool heap_unpop(struct heap *heap, struct heap_slot *slot, uint32_t size_class)
{
	if (lease_word_peek(slot->word) != heap->live)
		return false;
	lease_word_keep(slot->word, heap->cached);
	heap->magazines[size_class].top = slot + 1;
	lease_count(&heap->shared->n_free);
	return true;
}

/** heap_pop_large() - one of @size_class, SIZE_CLASS_CUT_N and above. Return: its offset; 0: heap_alloc() must look */
uint64_t heap_pop_large(struct heap *heap, uint32_t size_class);
enum heap_pushed {
	HEAP_PUSHED,
	HEAP_PUSH_MORE, /* heap_push_more() is the second half */
	HEAP_PUSH_LOOK, /* heap_free() must look */
};

/** heap_push_large() - the second half for a class of SIZE_CLASS_CUT_N and above. Return: 0; HEAP_E_LOOK */
int heap_push_large(struct heap *heap, uint64_t offset, uint32_t size_class, _Atomic uint16_t *word) MUST_CHECK;
/** heap_lost() - a CAS to @to has failed: an L that is seen now is a stranger's. Return: HEAP_E_REQUEST, -EALREADY */
int heap_lost(_Atomic uint16_t *word, uint16_t to) MUST_CHECK;

/* Whether the daemon has ended the session: what is cached may be another's by now. */
static inline bool heap_is_disowned(const struct heap *heap)
{
	return atomic_load_explicit(&heap->shared->session, memory_order_acquire) != heap->session;
}

/* Around a look at a word that may be another's and the CAS that follows from it. */
static inline void heap_foreign_begin(struct heap *heap)
{
	if (LEASE_RULE(MARK_FIRST))
		lease_foreign_begin(&heap->shared->is_foreign);
}

static inline void heap_foreign_end(struct heap *heap)
{
	if (LEASE_RULE(MARK_FIRST))
		lease_foreign_end(&heap->shared->is_foreign);
}

static inline int heap_swap_foreign(struct heap *heap, _Atomic uint16_t *word)
{
	uint16_t seen = lease_word_peek(word); /* not what was seen before the heap said that it looks */

	if (__builtin_expect(lease_is_cached(seen) || !lease_heap_of(seen), 0))
		return HEAP_E_LOOK;
	if (!LEASE_RULE(FOREIGN_BY_CAS)) {
		lease_word_keep(word, heap->cached);
		return 0;
	}
	return __builtin_expect(lease_word_swap(word, seen, heap->cached), 1) ? 0 : heap_lost(word, heap->cached);
}

/** heap_push_more() - another heap's block, or a large one. Return: 0; HEAP_E_LOOK; or final, as heap_free() */
static inline int heap_push_more(struct heap *heap, uint64_t offset, uint32_t size_class, _Atomic uint16_t *word)
{
	struct magazine *magazine;
	struct heap_slot *top;
	int r;

	if (__builtin_expect(size_class >= SIZE_CLASS_CUT_N, 0))
		return heap_push_large(heap, offset, size_class, word);
	magazine = &heap->magazines[size_class];
	top = magazine->top;
	if (__builtin_expect(top->offset == HEAP_ROOF || heap_is_disowned(heap), 0))
		return HEAP_E_LOOK;
	heap_foreign_begin(heap);
	r = heap_swap_foreign(heap, word);
	heap_foreign_end(heap);
	if (__builtin_expect(r, 0))
		return r;
	top->offset = offset;
	top->word = word;
	magazine->top = top + 1;
	lease_count(&heap->shared->n_free);
	return 0;
}

/** heap_push() - free the heap's own block. @wordp, @size_classp: set with HEAP_PUSH_MORE */
static inline enum heap_pushed heap_push(struct heap *heap, uint64_t offset, _Atomic uint16_t **wordp,
					 uint32_t *size_classp)
{
	uint64_t page = (offset - LEASE_FIRST) / LEASE_PAGE_BYTES, head, shape, index; /* huge if below first */
	const struct lease_slab *slab;
	_Atomic uint16_t *word;
	struct magazine *magazine;
	uint64_t last = heap->last;
	struct heap_slot *slot_of_last = (struct heap_slot *)(uintptr_t)(last & ((UINT64_C(1) << HEAP_LAST_BITS) - 1)),
			 *top;
	uint32_t id, slot, size_class;
	uint16_t live;

	if (slot_of_last->offset == offset && heap_unpop(heap, slot_of_last, (uint32_t)(last >> HEAP_LAST_BITS)))
		return HEAP_PUSHED;
	if (__builtin_expect(page >= heap->n_pages, 0))
		return HEAP_PUSH_LOOK;
	head = heap->head;
	id = atomic_load_explicit(&heap->pages[page], memory_order_relaxed) - 1;
	if (__builtin_expect(id >= head >> 32, 0))
		return HEAP_PUSH_LOOK;
	slab = &heap->slabs[id];
	shape = LEASE_FIELD(slab->shape);
	if (__builtin_expect(!lease_slot_at(offset - LEASE_FIELD(slab->base), LEASE_FIELD(slab->reciprocal),
					    lease_shape_slots(shape), &slot),
			     0))
		return HEAP_PUSH_LOOK;
	index = (uint64_t)lease_shape_word(shape) + slot;
	size_class = lease_shape_class(shape);
	if (__builtin_expect(index >= heap->n_words, 0))
		return HEAP_PUSH_LOOK;
	word = &heap->words[index];
	lease_word_want(word);
	*wordp = word;
	*size_classp = size_class;
	if (__builtin_expect(size_class >= SIZE_CLASS_CUT_N, 0))
		return HEAP_PUSH_MORE;
	magazine = &heap->magazines[size_class];
	top = magazine->top;
	live = (uint16_t)head;
	if (__builtin_expect(lease_word_peek(word) != live || top->offset == HEAP_ROOF, 0))
		return HEAP_PUSH_MORE;
	lease_word_keep(word, live | LEASE_CACHED); /* not loaded: what this path costs is its loads */
	top->offset = offset;
	top->word = word;
	magazine->top = top + 1;
	lease_count(&heap->shared->n_free);
	return HEAP_PUSHED;
}
