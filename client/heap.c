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
 * sooner. A slab whose custody another has is passed over.
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
#define REFILL_SLABS 16u     /* slabs that one refill takes from */

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
struct heap_slot heap_no_storage[2] = {{.offset = HEAP_FLOOR}, {.offset = HEAP_ROOF}};

static _Atomic uint32_t n_heaps;

static void forget_last(struct heap *heap)
{
	heap->last = heap_last_of(&no_slot, 0);
}

static bool is_large(uint32_t size_class)
{
	return size_class >= SIZE_CLASS_CUT_N;
}

/* ---- life ---- */

static const struct magazine no_magazine = {.top = heap_no_storage + 1, .bottom = heap_no_storage + 1};

static bool has_storage(const struct magazine *magazine)
{
	return magazine->bottom != no_magazine.bottom;
}

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
		uint64_t n = (is_large(i) ? LARGE_BYTES / 8 : share) / size_class_bytes(i);

		heap->shelves[i].capacity = (uint32_t)(n < MAGAZINE_MIN	  ? MAGAZINE_MIN
						       : n > MAGAZINE_MAX ? MAGAZINE_MAX
									  : n);
		heap->magazines[i] = no_magazine;
	}
}

void heap_deinit(struct heap *heap)
{
	for (uint32_t i = 0; i < SIZE_CLASS_N; i++) {
		if (has_storage(&heap->magazines[i]))
			free(heap->magazines[i].bottom - 1);
		free(heap->shelves[i].slabs);
		heap->magazines[i] = no_magazine;
		heap->shelves[i] = (struct shelf){.capacity = heap->shelves[i].capacity};
	}
}

static bool find_storage(struct heap *heap, uint32_t size_class)
{
	struct magazine *magazine = &heap->magazines[size_class];
	uint32_t capacity = heap->shelves[size_class].capacity;
	struct heap_slot *storage;

	if (has_storage(magazine))
		return true;
	storage = calloc(capacity + 2, sizeof(*storage));
	if (!storage || (uintptr_t)(storage + capacity + 2) >> HEAP_LAST_BITS) {
		free(storage);
		return false;
	}
	storage[0].offset = HEAP_FLOOR;
	storage[capacity + 1].offset = HEAP_ROOF;
	magazine->top = magazine->bottom = storage + 1;
	return true;
}

static bool is_full(const struct magazine *magazine) /* or has no storage */
{
	return magazine->top->offset == HEAP_ROOF;
}

static uint32_t magazine_n(const struct magazine *magazine)
{
	return (uint32_t)(magazine->top - magazine->bottom);
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

static void note_hot(struct shelf *shelf, uint32_t id)
{
	if (shelf->n_hot && shelf->hot[(shelf->n_hot - 1) % HEAP_HOT] == id + 1)
		return;
	shelf->hot[shelf->n_hot++ % HEAP_HOT] = id + 1;
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
		note_hot(&heap->shelves[size_class], id);
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
	if (is_large(size_class))
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
	if (is_large(size_class))
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

/* ---- refill ---- */

enum fill {
	FILL_BUSY,
	FILL_LOST,
	FILL_DONE
};

/* A slab's geometry, read in custody: the daemon changes it only in its own. */
struct shape {
	uint64_t base;
	uint32_t n_slots, first_word;
};

static bool read_shape(const struct heap *heap, const struct lease_slab *slab, uint32_t size_class,
		       struct shape *shapep)
{
	uint64_t slot_bytes = size_class_bytes(size_class);

	*shapep = (struct shape){LEASE_FIELD(slab->base), LEASE_FIELD(slab->n_slots), LEASE_FIELD(slab->first_word)};
	if (LEASE_RULE(LOOK_AGAIN) &&
	    (LEASE_FIELD(slab->size_class) != size_class || LEASE_FIELD(slab->slot_bytes) != slot_bytes))
		return false; /* the id has come back with another shape */
	return shapep->n_slots && range_fits(shapep->first_word, shapep->n_slots, heap->n_words) &&
	       range_fits(shapep->base, shapep->n_slots * slot_bytes, heap->pool_bytes) && shapep->base >= LEASE_FIRST;
}

static bool claim(const struct heap *heap, uint32_t size_class, _Atomic uint16_t *word)
{
	if (is_large(size_class))
		return lease_word_swap(word, LEASE_FREE, heap->cached);
	lease_word_keep(word, heap->cached);
	return true;
}

static bool is_free_word(uint16_t word)
{
	return word == LEASE_FREE || (!LEASE_RULE(ZERO_IS_DAMAGE) && !word);
}

/*
 * In custody: up to @n_wanted free slots into the magazine, from where the last look into the same slab ended: what others have freed since
 * lies behind it, and words that they are about to store to are not read over and over. Return: how many
 */
static uint32_t collect(struct heap *heap, uint32_t size_class, uint32_t id, const struct shape *shape,
			uint32_t n_wanted)
{
	struct shelf *shelf = &heap->shelves[size_class];
	struct magazine *magazine = &heap->magazines[size_class];
	_Atomic uint16_t *words = heap->words + shape->first_word;
	uint64_t slot_bytes = size_class_bytes(size_class);
	uint32_t n = 0, i = (shelf->filled == id + 1 ? shelf->filled_to : heap->colour) % shape->n_slots;

	for (uint32_t left = shape->n_slots; left && n < n_wanted; left--, i = i + 1 < shape->n_slots ? i + 1 : 0) {
		if (!is_free_word(lease_word_read(&words[i])) || !claim(heap, size_class, &words[i]))
			continue;
		*magazine->top++ = (struct heap_slot){shape->base + i * slot_bytes, &words[i]};
		n++;
	}
	shelf->filled = id + 1;
	shelf->filled_to = i;
	if (is_large(size_class))
		heap->large_bytes += n * slot_bytes;
	return n;
}

static enum fill fill_from(struct heap *heap, uint32_t size_class, uint32_t id, uint32_t n_wanted, uint32_t *np)
{
	struct lease_slab *slab = &heap->map.slabs[id];
	bool in_custody = LEASE_RULE(FILL_IN_CUSTODY);
	struct shape shape;
	uint32_t n_hinted;

	*np = 0;
	if (in_custody && !lease_custody_take(&slab->custody, heap->number))
		return FILL_BUSY;
	if (!read_shape(heap, slab, size_class, &shape)) {
		if (in_custody)
			lease_custody_give(&slab->custody);
		return FILL_LOST;
	}
	n_hinted = lease_hint_get(&slab->has_free);
	lease_hint_set(&slab->has_free, 0); /* before the words are read: who flushes later says so again */
	*np = collect(heap, size_class, id, &shape, n_wanted);
	if (*np == n_wanted && *np < shape.n_slots)
		lease_hint_set(&slab->has_free, n_hinted > *np ? n_hinted - *np : 1);
	if (in_custody)
		lease_custody_give(&slab->custody);
	return FILL_DONE;
}

/* Slabs that a flush of this heap has just put slots into: warm, and known to have some. */
static uint32_t refill_hot(struct heap *heap, uint32_t size_class, uint32_t n_wanted)
{
	struct shelf *shelf = &heap->shelves[size_class];
	uint32_t n = 0;

	for (uint32_t i = 0; i < HEAP_HOT && n < n_wanted; i++) {
		uint32_t *hot = &shelf->hot[(shelf->n_hot - 1 - i) % HEAP_HOT], got;

		if (!*hot || !lease_hint_get(&heap->map.slabs[*hot - 1].has_free))
			continue;
		if (fill_from(heap, size_class, *hot - 1, n_wanted - n, &got) == FILL_LOST || !got)
			*hot = 0;
		n += got;
	}
	return n;
}

static void forget(struct shelf *shelf, uint32_t i)
{
	shelf->slabs[i] = shelf->slabs[--shelf->n_slabs];
}

/* From the newest granted on, round and round: @believes: only slabs that are said to have free slots. */
static uint32_t refill_granted(struct heap *heap, uint32_t size_class, uint32_t n_wanted, bool believes)
{
	struct shelf *shelf = &heap->shelves[size_class];
	uint32_t n = 0, n_tried = 0;

	for (uint32_t left = shelf->n_slabs; left && n < n_wanted && n_tried < REFILL_SLABS; left--) {
		uint32_t i = shelf->cursor < shelf->n_slabs ? shelf->cursor : shelf->n_slabs - 1, got = 0;
		enum fill fill;

		if (believes && !lease_hint_get(&heap->map.slabs[shelf->slabs[i]].has_free)) {
			shelf->cursor = i - 1; /* wraps to the end */
			continue;
		}
		if (!LEASE_FIELD(heap->map.slabs[shelf->slabs[i]].slot_bytes)) {
			forget(shelf, i); /* recalled: it is in the daemon's custody, and would look busy for ever */
			shelf->cursor = i - 1;
			continue;
		}
		fill = fill_from(heap, size_class, shelf->slabs[i], n_wanted - n, &got);
		shelf->has_busy |= fill == FILL_BUSY;
		n_tried += got != 0;
		n += got;
		if (fill == FILL_LOST)
			forget(shelf, i);
		if (!got)
			shelf->cursor = i - 1;
	}
	return n;
}

/* Return: whether the magazine has a slot now */
static bool refill(struct heap *heap, uint32_t size_class)
{
	struct shelf *shelf = &heap->shelves[size_class];
	uint32_t n_wanted = shelf->capacity / 2, returned = lease_hint_get(&heap->shared->n_returned), n;

	if (is_large(size_class))
		n_wanted = 1;
	if (returned != heap->seen_returned) {
		heap->seen_returned = returned;
		for (uint32_t i = 0; i < SIZE_CLASS_N; i++)
			heap->shelves[i].is_dry = false;
	}
	if (shelf->is_dry || !find_storage(heap, size_class))
		return false;
	shelf->has_busy = false;
	n = refill_hot(heap, size_class, n_wanted);
	if (n < n_wanted)
		n += refill_granted(heap, size_class, n_wanted - n, true);
	shelf->is_dry = !n && !shelf->has_busy;
	return n;
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
	return is_large(size_class) ? heap_pop_large(heap, size_class) : heap_pop(heap, size_class);
}

int heap_alloc(struct heap *heap, uint32_t size_class, uint64_t *offsetp)
{
	uint64_t offset = is_large(size_class) ? heap_pop_large(heap, size_class) : 0;

	if (!offset) {
		if (is_destroyed(heap))
			return -ESTALE;
		if (!look_around(heap))
			return HEAP_E_REQUEST;
		offset = pop(heap, size_class);
	}
	for (bool more = true; !offset && more; offset = pop(heap, size_class))
		more = refill(heap, size_class);
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
		if (!refill(heap, size_class))
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
	if (is_large(size_class))
		return 1;
	return shelf->n_slabs < LEASE_AHEAD		  ? 1
	       : shelf->n_slabs / LEASE_AHEAD < LEASE_MAX ? shelf->n_slabs / LEASE_AHEAD
							  : LEASE_MAX;
}

static int compare_ids(const void *a, const void *b)
{
	uint32_t one = *(const uint32_t *)a, other = *(const uint32_t *)b;

	return (one > other) - (one < other);
}

/* Slabs that are the class's and this heap's no more, and second entries of those that were recalled and granted again. */
static void tidy(struct heap *heap, uint32_t size_class)
{
	struct shelf *shelf = &heap->shelves[size_class];
	uint32_t n = 0;

	qsort(shelf->slabs, shelf->n_slabs, sizeof(*shelf->slabs), compare_ids);
	for (uint32_t i = 0; i < shelf->n_slabs; i++) {
		const struct lease_slab *slab = &heap->map.slabs[shelf->slabs[i]];

		if (LEASE_FIELD(slab->slot_bytes) == size_class_bytes(size_class) &&
		    LEASE_FIELD(slab->grantee) == heap->number && (!n || shelf->slabs[n - 1] != shelf->slabs[i]))
			shelf->slabs[n++] = shelf->slabs[i];
	}
	shelf->n_slabs = n;
}

/* Only what is tidy makes a shelf longer: so it is no more than twice as long as what it is for. */
static bool find_room(struct heap *heap, uint32_t size_class, uint32_t n)
{
	struct shelf *shelf = &heap->shelves[size_class];
	uint32_t room, *slabs;

	if (shelf->n_slabs + n <= shelf->room)
		return true;
	if (shelf->n_slabs)
		tidy(heap, size_class);
	if (shelf->n_slabs + n <= shelf->room / 2)
		return true;
	room = 2 * (shelf->n_slabs + n);
	slabs = realloc(shelf->slabs, room * sizeof(*slabs));
	if (!slabs)
		return shelf->n_slabs + n <= shelf->room;
	shelf->slabs = slabs;
	shelf->room = room;
	return true;
}

void heap_grant(struct heap *heap, uint32_t size_class, uint32_t n, const uint32_t ids[])
{
	struct shelf *shelf = &heap->shelves[size_class];

	if (!look_around(heap) || !find_room(heap, size_class, n))
		return;
	for (uint32_t i = n; i-- > 0;)
		if (ids[i] < heap->n_slabs)
			shelf->slabs[shelf->n_slabs++] = ids[i];
	shelf->cursor = shelf->n_slabs - 1;
	shelf->is_dry = false;
}

void heap_refused(struct heap *heap, uint32_t size_class)
{
	struct shelf *shelf = &heap->shelves[size_class];

	shelf->wait = REFUSED_WAIT;
	if (!heap_is_disowned(heap) && find_storage(heap, size_class) && !magazine_n(&heap->magazines[size_class]))
		shelf->is_dry =
			!refill_granted(heap, size_class, is_large(size_class) ? 1 : shelf->capacity / 2, false);
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
	uint64_t bytes = is_large(place->size_class) ? size_class_bytes(place->size_class) : 0;

	lease_count(&heap->shared->n_free);
	if (heap->large_bytes + bytes > heap->large_limit && bytes) {
		for (uint32_t i = SIZE_CLASS_CUT_N; i < SIZE_CLASS_N && heap->large_bytes + bytes > heap->large_limit;
		     i++)
			if (magazine_n(&heap->magazines[i]))
				flush_oldest(heap, i, (magazine_n(&heap->magazines[i]) + 1) / 2);
	}
	if (bytes > heap->large_limit || !find_storage(heap, place->size_class)) {
		flush_slots(heap, place->size_class, &slot, 1);
		return;
	}
	if (is_full(magazine))
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
	if (is_full(magazine) || heap->large_bytes + bytes > heap->large_limit ||
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
	if (word != heap->live || is_large(place->size_class))
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
