// SPDX-License-Identifier: MIT
/*
 * A slot is in one of three places: in its slab, word C(0); in a heap's magazine, C(k); with the program, L(k). Each way between
 * them is one store, or one CAS, of the word; what a heap remembers of it lies in private memory, written so that a kill between
 * any two stores leaves a word that says enough:
 *
 *   alloc     pop, then C(k) -> L(k)         killed between: C(k), swept at k's death. After the store: the one block in flight
 *   free      L(k) -> C(k), then push        killed between: C(k), swept
 *   foreign   L(j) -> C(k) by CAS, then push likewise
 *   refill    custody; each C(0) -> C(k), then push; custody let go
 *                                            killed between: C(k), swept; custody of k, broken by the daemon when k is dead
 *   flush     each C(k) -> C(0), then hints  killed between: slots in the slab that no hint tells of; found when the daemon
 *                                            refuses a lease, and by recall, which believes no hint
 *
 * Who may write: the word, who the table in proto/lease.h says; has_free and n_returned, anybody, for they only make a refill look
 * sooner. The refill is shelf.c's.
 *
 * In classes above SIZE_CLASS_CUT_MAX each of these stores is a CAS: the daemon may take what a stopped process caches, so a slot
 * in such a magazine is not the heap's until its CAS to L(k) has succeeded. That a word says C(k) is not enough: what the magazine
 * remembers may have been taken, the word have become another slab's, and that slab this heap's. So before the CAS the slot is looked
 * for again, by its offset: only this heap makes a word C(k), hence it cannot become so between the look and the CAS.
 *
 * A session that the daemon has ended may not know it yet. Its numbers are taken from it in the table of heaps before a word of
 * theirs is swept, and given to others much later; so whoever takes the slow way looks there first, and then touches no word.
 */
#include "client/heap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/shelf.h"

#define MAGAZINE_MAX   64u	    /* slots */
#define MAGAZINE_MIN   4u	    /* a refill is half of it */
#define MAGAZINE_BYTES (128u << 10) /* a magazine holds that much of a class; measured with the mixed working set */
#define LARGE_BYTES    (UINT64_C(16) << 20) /* all magazines of large classes together */
#define POOL_SHARE     128u		    /* part of its pool that a magazine may hold */
#define IDLE_BYTES \
	(UINT64_C(64) << 20) /* in slabs that look empty, before the daemon is told; at most an eighth of the pool */
#define LEASE_MAX    16u     /* slabs in one request */
#define LEASE_AHEAD  32u     /* part of its slabs that a class leases at once: nobody has asked for half of that yet */
#define REFUSED_WAIT 64u     /* allocations of the class until the daemon is asked again */
#define COLOUR_STEP  17u     /* slots: so far apart do heaps begin, for slabs begin at pages and share cache sets */

#define UPTO(exponent, eighth) (((1u << (exponent)) + ((eighth) << ((exponent)-3))) / 16)
#define CLASS(exponent, eighth) \
	[UPTO(exponent, (eighth))... UPTO(exponent, (eighth) + 1) - 1] = 8 + ((exponent)-7) * 8 + (eighth)
#define CLASSES(exponent)                                                                                   \
	CLASS(exponent, 0), CLASS(exponent, 1), CLASS(exponent, 2), CLASS(exponent, 3), CLASS(exponent, 4), \
		CLASS(exponent, 5), CLASS(exponent, 6), CLASS(exponent, 7)

/* clang-format off */
const uint8_t heap_classes[] = {
	0, 1, 2, 3, 4, 5, 6, 7, /* up to 128 */
	CLASSES(7), CLASSES(8), CLASSES(9), CLASSES(10), CLASSES(11), CLASSES(12), CLASSES(13), CLASSES(14),
};
/* clang-format on */

static_assert(N_ELEMENTS(heap_classes) == SIZE_CLASS_CUT_MAX / 16, "one for each granule");

static _Atomic uint16_t no_word; /* 0: never live */
static struct heap_slot no_slot = {.word = &no_word};

static _Atomic uint32_t n_heaps;

static void forget_last(struct heap *heap)
{
	heap->last = heap_last_of(&no_slot, 0);
}

/* ---- life ---- */

static const struct magazine no_magazine = {.top = heap_no_storage + 1, .bottom = heap_no_storage + 1};

void heap_init(struct heap *heap, const struct lease_map *map, uint32_t number, uint64_t pool_bytes)
{
	uint64_t share = pool_bytes / POOL_SHARE < MAGAZINE_BYTES ? pool_bytes / POOL_SHARE : MAGAZINE_BYTES;

	memset(heap, 0, sizeof(*heap));
	forget_last(heap);
	heap->map = *map;
	heap->number = number;
	heap->colour = atomic_fetch_add_explicit(&n_heaps, COLOUR_STEP, memory_order_relaxed);
	heap->live = lease_live_of(number);
	heap->cached = lease_cached_by(number);
	heap->n_pages = lease_map_pages(map);
	heap->n_slabs = map->n_slabs;
	heap->n_words = map->n_words;
	heap->pages = map->pages;
	heap->slabs = map->slabs;
	heap->words = map->words;
	heap->shared = &map->heaps[number];
	heap->session = atomic_load_explicit(&heap->shared->session, memory_order_acquire);
	heap->pool_bytes = pool_bytes;
	heap->large_limit = pool_bytes / 16 < LARGE_BYTES ? pool_bytes / 16 : LARGE_BYTES;
	heap->idle_limit = pool_bytes / 8 < IDLE_BYTES ? pool_bytes / 8 : IDLE_BYTES;
	heap->seen_pressure = lease_hint_get(&map->header->pressure);
	heap->seen_returned = lease_hint_get(&heap->shared->n_returned);
	for (uint32_t i = 0; i < SIZE_CLASS_N; i++) {
		uint64_t n = (heap_is_large(i) ? LARGE_BYTES / 8 : share) / size_class_bytes(i);

		heap->shelves[i].capacity = (uint32_t)(n < MAGAZINE_MIN	  ? MAGAZINE_MIN
						       : n > MAGAZINE_MAX ? MAGAZINE_MAX
									  : n);
		heap->magazines[i] = no_magazine;
	}
}

void heap_deinit(struct heap *heap)
{
	for (uint32_t i = 0; i < SIZE_CLASS_N; i++) {
		if (magazine_has_storage(&heap->magazines[i]))
			free(heap->magazines[i].bottom - 1);
		free(heap->shelves[i].slabs);
		heap->magazines[i] = no_magazine;
		heap->shelves[i] = (struct shelf){.capacity = heap->shelves[i].capacity};
	}
}

/* ---- flush ---- */

static bool looks_empty(const struct lease_slab *slab)
{
	return lease_hint_get(&slab->has_free) >= LEASE_FIELD(slab->n_slots);
}

static uint64_t slab_bytes(const struct lease_slab *slab)
{
	return (uint64_t)LEASE_FIELD(slab->n_slots) * LEASE_FIELD(slab->slot_bytes);
}

static void note_idle(struct heap *heap, uint32_t id, uint64_t n_bytes)
{
	uint32_t *at = &heap->idle[id % HEAP_IDLE];

	if (*at == id + 1)
		return;
	heap->n_idle += !*at;
	heap->idle_bytes += n_bytes;
	*at = id + 1;
}

/* @n slots were given back to slab @id: whoever refills from it should know. */
static void hint(struct heap *heap, uint32_t id, uint32_t n)
{
	struct lease_slab *slab = &heap->map.slabs[id];
	uint32_t size_class = LEASE_FIELD(slab->size_class), grantee = LEASE_FIELD(slab->grantee);
	uint32_t has_free = lease_hint_get(&slab->has_free) + n;

	lease_hint_set(&slab->has_free, has_free);
	if (size_class >= SIZE_CLASS_N)
		return;
	if (grantee == heap->number) {
		heap->shelves[size_class].is_dry = false;
		shelf_note_hot(&heap->shelves[size_class], id);
	} else if (grantee && grantee < heap->map.n_heaps) {
		lease_hint_raise(&heap->map.heaps[grantee].n_returned);
	}
	if (looks_empty(slab))
		note_idle(heap, id, slab_bytes(slab));
}

/* A large slot of a magazine from C(k) to @to. Return: false: the daemon had taken it already */
static bool swap_cached(const struct heap *heap, uint32_t size_class, const struct heap_slot *slot, uint16_t to)
{
	struct lease_place place;

	if (LEASE_RULE(LARGE_BY_PLACE) && (lease_map_find(&heap->map, slot->offset, &place) ||
					   place.word != slot->word || place.size_class != size_class))
		return false;
	return lease_word_swap(slot->word, heap->cached, to);
}

/* One slot back to its slab. Return: false: the daemon had taken it already */
static bool give(struct heap *heap, uint32_t size_class, const struct heap_slot *slot)
{
	if (heap_is_large(size_class))
		return swap_cached(heap, size_class, slot, LEASE_FREE);
	lease_word_give(slot->word);
	return true;
}

static void flush_slots(struct heap *heap, uint32_t size_class, const struct heap_slot *slots, uint32_t n)
{
	uint32_t id = UINT32_MAX, n_of_id = 0;

	for (uint32_t i = 0; i < n; i++) {
		struct lease_place place;

		if (!give(heap, size_class, &slots[i]) || lease_map_find(&heap->map, slots[i].offset, &place))
			continue;
		if (place.slab != id && n_of_id) {
			hint(heap, id, n_of_id);
			n_of_id = 0;
		}
		id = place.slab;
		n_of_id++;
	}
	if (n_of_id)
		hint(heap, id, n_of_id);
}

/* The @n oldest of a magazine; those above are the warm ones. */
static void flush_oldest(struct heap *heap, uint32_t size_class, uint32_t n)
{
	struct magazine *magazine = &heap->magazines[size_class];
	uint32_t n_left = magazine_n(magazine) - n;

	flush_slots(heap, size_class, magazine->bottom, n);
	memmove(magazine->bottom, magazine->bottom + n, n_left * sizeof(*magazine->bottom));
	magazine->top = magazine->bottom + n_left;
	if (heap_is_large(size_class))
		heap->large_bytes -= n * size_class_bytes(size_class);
}

static void forget_cached(struct heap *heap)
{
	for (uint32_t i = 0; i < SIZE_CLASS_N; i++)
		heap->magazines[i].top = heap->magazines[i].bottom;
	heap->large_bytes = 0;
}

void heap_flush(struct heap *heap)
{
	forget_last(heap);
	if (heap_is_disowned(heap))
		forget_cached(heap);
	for (uint32_t i = 0; i < SIZE_CLASS_N; i++)
		if (magazine_n(&heap->magazines[i]))
			flush_oldest(heap, i, magazine_n(&heap->magazines[i]));
}

/* On each slow path: memory is short somewhere, or the segment has grown. Return: false: the heap is over */
static bool look_around(struct heap *heap)
{
	uint32_t pressure = lease_hint_get(&heap->map.header->pressure);

	forget_last(heap);
	if (heap_is_disowned(heap)) {
		forget_cached(heap);
		return false;
	}
	if (pressure != heap->seen_pressure) {
		heap->seen_pressure = pressure;
		heap_flush(heap);
	}
	heap->n_pages = lease_map_pages(&heap->map);
	return true;
}

static bool is_destroyed(const struct heap *heap)
{
	return atomic_load_explicit(&heap->map.header->flags, memory_order_relaxed) & LEASE_DESTROYED;
}

/* ---- alloc ---- */

uint64_t heap_pop_large(struct heap *heap, uint32_t size_class)
{
	struct magazine *magazine = &heap->magazines[size_class];

	while (magazine->top != magazine->bottom) {
		struct heap_slot *slot = --magazine->top;

		heap->large_bytes -= size_class_bytes(size_class);
		if (!LEASE_RULE(LARGE_BY_CAS))
			lease_word_keep(slot->word, heap->live);
		else if (!swap_cached(heap, size_class, slot, heap->live))
			continue; /* the daemon has taken it meanwhile */
		return slot->offset;
	}
	return 0;
}

static uint64_t pop(struct heap *heap, uint32_t size_class)
{
	return heap_is_large(size_class) ? heap_pop_large(heap, size_class) : heap_pop(heap, size_class);
}

int heap_alloc(struct heap *heap, uint32_t size_class, uint64_t *offsetp)
{
	uint64_t offset = heap_is_large(size_class) ? heap_pop_large(heap, size_class) : 0;

	if (!offset) {
		if (is_destroyed(heap))
			return -ESTALE;
		if (!look_around(heap))
			return HEAP_E_REQUEST;
		offset = pop(heap, size_class);
	}
	for (bool more = true; !offset && more; offset = pop(heap, size_class))
		more = shelf_refill(heap, size_class);
	if (!offset)
		return HEAP_E_EMPTY;
	*offsetp = offset;
	return 0;
}

int heap_fill(struct heap *heap, uint32_t size_class, uint64_t *offsetp)
{
	struct magazine *magazine = &heap->magazines[size_class];

	if (magazine->top == magazine->bottom) {
		if (is_destroyed(heap))
			return -ESTALE;
		if (!look_around(heap))
			return HEAP_E_REQUEST;
		if (!shelf_refill(heap, size_class))
			return HEAP_E_EMPTY;
	}
	*offsetp = magazine->top[-1].offset;
	return 0;
}

uint32_t heap_wants(struct heap *heap, uint32_t size_class)
{
	struct shelf *shelf = &heap->shelves[size_class];

	if (shelf->wait) {
		shelf->wait--;
		return 0;
	}
	if (heap_is_large(size_class))
		return 1;
	return shelf->n_slabs < LEASE_AHEAD		  ? 1
	       : shelf->n_slabs / LEASE_AHEAD < LEASE_MAX ? shelf->n_slabs / LEASE_AHEAD
							  : LEASE_MAX;
}

void heap_grant(struct heap *heap, uint32_t size_class, uint32_t n, const uint32_t ids[])
{
	if (look_around(heap))
		shelf_add(heap, size_class, n, ids);
}

void heap_refused(struct heap *heap, uint32_t size_class)
{
	heap->shelves[size_class].wait = REFUSED_WAIT;
	if (!heap_is_disowned(heap))
		shelf_refuse(heap, size_class);
}

static void forget_refilled(struct heap *heap)
{
	heap->n_idle = 0;
	heap->idle_bytes = 0;
	for (uint32_t i = 0; i < HEAP_IDLE; i++) {
		const struct lease_slab *slab = &heap->map.slabs[heap->idle[i] ? heap->idle[i] - 1 : 0];

		if (!heap->idle[i] || !looks_empty(slab)) {
			heap->idle[i] = 0;
			continue;
		}
		heap->n_idle++;
		heap->idle_bytes += slab_bytes(slab);
	}
}

static bool has_idle(const struct heap *heap, uint32_t quarters)
{
	return heap->n_idle >= HEAP_IDLE / 4 * quarters || heap->idle_bytes > heap->idle_limit / 4 * quarters;
}

/* Some only, and not soon again: a working set that comes and goes needs its slabs. */
uint32_t heap_returns(struct heap *heap, uint32_t ids[HEAP_RETURNS])
{
	uint64_t n_bytes;
	uint32_t n = 0;

	if (!has_idle(heap, 4))
		return 0;
	forget_refilled(heap);
	for (uint32_t i = 0; i < HEAP_IDLE && n < HEAP_RETURNS && has_idle(heap, 3); i++) {
		if (!heap->idle[i])
			continue;
		ids[n++] = heap->idle[i] - 1;
		heap->n_idle--;
		n_bytes = slab_bytes(&heap->map.slabs[ids[n - 1]]); /* anybody may have changed it meanwhile */
		heap->idle_bytes -= n_bytes < heap->idle_bytes ? n_bytes : heap->idle_bytes;
		heap->idle[i] = 0;
	}
	return n;
}

/* ---- free ---- */

/* A slot that has become C(k). Without memory for a magazine it goes on to its slab: free never fails. */
static void keep(struct heap *heap, uint64_t offset, const struct lease_place *place)
{
	struct magazine *magazine = &heap->magazines[place->size_class];
	struct heap_slot slot = {offset, place->word};
	uint64_t bytes = heap_is_large(place->size_class) ? size_class_bytes(place->size_class) : 0;

	lease_count(&heap->shared->n_free);
	if (heap->large_bytes + bytes > heap->large_limit && bytes) {
		for (uint32_t i = SIZE_CLASS_CUT_N; i < SIZE_CLASS_N && heap->large_bytes + bytes > heap->large_limit;
		     i++)
			if (magazine_n(&heap->magazines[i]))
				flush_oldest(heap, i, (magazine_n(&heap->magazines[i]) + 1) / 2);
	}
	if (bytes > heap->large_limit || !shelf_find_storage(heap, place->size_class)) {
		flush_slots(heap, place->size_class, &slot, 1);
		return;
	}
	if (magazine_is_full(magazine))
		flush_oldest(heap, place->size_class, magazine_n(magazine) / 2);
	*magazine->top++ = slot;
	heap->large_bytes += bytes;
}

/* Whether @word may be changed by this heap at all. Return: 0 it is some L; as heap_free() */
static int judge(uint16_t word)
{
	if (lease_is_cached(word))
		return -EALREADY;
	return lease_heap_of(word) ? 0 : HEAP_E_REQUEST; /* P, Q; damage is the daemon's to tell */
}

static int find(struct heap *heap, uint64_t offset, struct lease_place *placep)
{
	int r = lease_map_find(&heap->map, offset, placep);

	return r == LEASE_MAP_E_INSIDE ? -EFAULT : r ? HEAP_E_REQUEST : 0;
}

int heap_lost(_Atomic uint16_t *word, uint16_t to)
{
	if (!LEASE_RULE(ONE_CAS)) {
		uint16_t again = lease_word_peek(word);

		if (!judge(again))
			return lease_word_swap(word, again, to) ? 0 : -EALREADY;
	}
	if (LEASE_RULE(PINNED_TO_DAEMON) && judge(lease_word_peek(word)) == HEAP_E_REQUEST)
		return HEAP_E_REQUEST;
	return -EALREADY;
}

/* L(j) of anybody to @to. */
static int replace(_Atomic uint16_t *word, uint16_t seen, uint16_t to)
{
	return lease_word_swap(word, seen, to) ? 0 : heap_lost(word, to);
}

int heap_push_large(struct heap *heap, uint64_t offset, uint32_t size_class, _Atomic uint16_t *word)
{
	struct magazine *magazine;
	uint64_t bytes;

	if (size_class >= SIZE_CLASS_N)
		return HEAP_E_LOOK;
	magazine = &heap->magazines[size_class];
	bytes = size_class_bytes(size_class);
	if (magazine_is_full(magazine) || heap->large_bytes + bytes > heap->large_limit ||
	    !lease_word_swap(word, heap->live, heap->cached))
		return HEAP_E_LOOK;
	*magazine->top++ = (struct heap_slot){offset, word};
	heap->large_bytes += bytes;
	lease_count(&heap->shared->n_free);
	return 0;
}

/* What its word says, whosever it is: from here to the CAS the heap has another's number in hand, and says so. */
static int swap_found(struct heap *heap, const struct lease_place *place)
{
	uint16_t word = lease_word_peek(place->word);
	int r = judge(word);

	if (r)
		return r;
	if (word != heap->live || heap_is_large(place->size_class))
		return replace(place->word, word, heap->cached);
	lease_word_keep(place->word, heap->cached);
	return 0;
}

int heap_free(struct heap *heap, uint64_t offset)
{
	struct lease_place place;
	int r;

	if (!look_around(heap))
		return HEAP_E_REQUEST;
	r = find(heap, offset, &place);
	if (r)
		return r;
	heap_foreign_begin(heap);
	r = swap_found(heap, &place);
	heap_foreign_end(heap);
	if (!r)
		keep(heap, offset, &place);
	return r;
}

static int take_found(struct heap *heap, const struct lease_place *place, uint64_t session)
{
	uint16_t word = lease_word_peek(place->word);
	uint32_t from = lease_heap_of(word);
	int r = judge(word);

	if (r)
		return r;
	if (from >= heap->map.n_heaps ||
	    (LEASE_RULE(TAKE_SESSION) &&
	     atomic_load_explicit(&heap->map.heaps[from].session, memory_order_acquire) != session))
		return -ESTALE;
	if (from == heap->number)
		return 0;
	r = replace(place->word, word, heap->live);
	return r == -EALREADY ? -ESTALE : r;
}

int heap_take(struct heap *heap, uint64_t offset, uint64_t session)
{
	struct lease_place place;
	int r;

	if (!look_around(heap))
		return HEAP_E_REQUEST;
	r = find(heap, offset, &place);
	if (r)
		return r;
	heap_foreign_begin(heap);
	r = take_found(heap, &place, session);
	heap_foreign_end(heap);
	return r;
}

int heap_look(struct heap *heap, uint64_t offset, uint64_t *bytesp, uint64_t *sessionp)
{
	struct lease_place place;
	uint16_t word;
	int r = find(heap, offset, &place);

	if (r)
		return r;
	word = lease_word_peek(place.word);
	r = judge(word);
	if (r)
		return r;
	*bytesp = place.slot_bytes;
	*sessionp = lease_heap_of(word) < heap->map.n_heaps
			    ? atomic_load_explicit(&heap->map.heaps[lease_heap_of(word)].session, memory_order_acquire)
			    : 0;
	return 0;
}
