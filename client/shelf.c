// SPDX-License-Identifier: MIT
/*
 * A magazine is filled in custody of a slab, C(0) to C(k) word by word; what a kill leaves of that, the head of heap.c says. First
 * come slabs that a flush has just put slots into, then all that the heap was granted, round and round, as far as their hints
 * say that they have some. A shelf is private memory and only says where to look: a slab that it names may have been recalled, its
 * id be another's or of another shape, so all that counts is read again in custody. Custody that another has is passed over.
 */
#include "client/shelf.h"

#include <stdlib.h>

#define REFILL_SLABS 16u /* slabs that one refill takes from */

/* ---- storage ---- */

struct heap_slot heap_no_storage[2] = {{.offset = HEAP_FLOOR}, {.offset = HEAP_ROOF}};

bool shelf_find_storage(struct heap *heap, uint32_t size_class)
{
	struct magazine *magazine = &heap->magazines[size_class];
	uint32_t capacity = heap->shelves[size_class].capacity;
	struct heap_slot *storage;

	if (magazine_has_storage(magazine))
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

/* ---- refill ---- */

void shelf_note_hot(struct shelf *shelf, uint32_t id)
{
	if (shelf->n_hot && shelf->hot[(shelf->n_hot - 1) % HEAP_HOT] == id + 1)
		return;
	shelf->hot[shelf->n_hot++ % HEAP_HOT] = id + 1;
}

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
	if (heap_is_large(size_class))
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
	if (heap_is_large(size_class))
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

bool shelf_refill(struct heap *heap, uint32_t size_class)
{
	struct shelf *shelf = &heap->shelves[size_class];
	uint32_t n_wanted = shelf->capacity / 2, returned = lease_hint_get(&heap->shared->n_returned), n;

	if (heap_is_large(size_class))
		n_wanted = 1;
	if (returned != heap->seen_returned) {
		heap->seen_returned = returned;
		for (uint32_t i = 0; i < SIZE_CLASS_N; i++)
			heap->shelves[i].is_dry = false;
	}
	if (shelf->is_dry || !shelf_find_storage(heap, size_class))
		return false;
	shelf->has_busy = false;
	n = refill_hot(heap, size_class, n_wanted);
	if (n < n_wanted)
		n += refill_granted(heap, size_class, n_wanted - n, true);
	shelf->is_dry = !n && !shelf->has_busy;
	return n;
}

/* ---- what is granted ---- */

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

void shelf_add(struct heap *heap, uint32_t size_class, uint32_t n, const uint32_t ids[])
{
	struct shelf *shelf = &heap->shelves[size_class];

	if (!find_room(heap, size_class, n))
		return;
	for (uint32_t i = n; i-- > 0;)
		if (ids[i] < heap->n_slabs)
			shelf->slabs[shelf->n_slabs++] = ids[i];
	shelf->cursor = shelf->n_slabs - 1;
	shelf->is_dry = false;
}

void shelf_refuse(struct heap *heap, uint32_t size_class)
{
	struct shelf *shelf = &heap->shelves[size_class];

	if (shelf_find_storage(heap, size_class) && !magazine_n(&heap->magazines[size_class]))
		shelf->is_dry =
			!refill_granted(heap, size_class, heap_is_large(size_class) ? 1 : shelf->capacity / 2, false);
}
