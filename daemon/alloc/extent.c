// SPDX-License-Identifier: MIT
/*
 * Who may write: the holder of the pool's mutex, and of the records only this file (and extent_recover.c, before anybody is served).
 *
 * The truth is the records in state LIVE, LEASED or PINNED; gaps, links, classes, buckets and the unused chain are rebuilt from
 * them. A store to such a record is noted first (intent.h), so that a kill leaves all or nothing of what the operation did to
 * the truth. A record that stops being truth has its four words noted at that moment, and one that becomes truth has the other
 * three before `what`: so stores to a record that is not truth need no note. Everything else here may be half done.
 */
#include <errno.h>

#include "alloc/extent_internal.h"

/* Blocks from here on are cut from the high end of a gap, smaller ones from the low end, so that the two kinds do not break
 * each other's gaps up. Measured with bench_frag. */
#define LARGE_BYTES (32u << 10)

/* ---- records ---- */

static bool is_truth(const struct extent_map *map, uint32_t extent)
{
	return state_is_truth(extent_state(map, extent));
}

static void note_word(struct extent_map *map, _Atomic uint64_t *word)
{
	intent_note(map->ledger, word, extent_word(word));
}

static void set_place(struct extent_map *map, uint32_t extent, uint64_t offset, uint32_t slack)
{
	struct extent_record *record = extent_record(map, extent);

	if (is_truth(map, extent))
		note_word(map, &record->where);
	intent_store(&record->where, offset | (uint64_t)slack << 48);
}

static void set_what(struct extent_map *map, uint32_t extent, uint64_t size, enum extent_state state, unsigned flags)
{
	struct extent_record *record = extent_record(map, extent);

	if (is_truth(map, extent) && !state_is_truth(state)) {
		note_word(map, &record->where);
		note_word(map, &record->origin);
		note_word(map, &record->whose);
	}
	if (is_truth(map, extent) || state_is_truth(state))
		note_word(map, &record->what);
	intent_store(&record->what, pack_what(size, state, flags));
}

static void set_whose(struct extent_map *map, uint32_t extent, uint32_t owner, uint32_t since_s)
{
	struct extent_record *record = extent_record(map, extent);

	if (is_truth(map, extent))
		note_word(map, &record->whose);
	intent_store(&record->whose, owner | (uint64_t)since_s << 32);
}

static void make_gap(struct extent_map *map, uint32_t extent, uint64_t offset, uint64_t size, uint32_t now_s)
{
	set_what(map, extent, size, EXTENT_GAP, 0);
	set_place(map, extent, offset, 0);
	set_whose(map, extent, EXTENT_OWNER_NONE, now_s);
}

/* ---- indexes ---- */

static int reserve_indexes(struct extent_map *map, uint32_t n)
{
	uint32_t n_more = n > map->n_unused ? n - map->n_unused : 0;
	int r;

	if (!n_more)
		return 0;
	if (n_more > EXTENT_NONE - 2 - map->n_high)
		return -ENOSPC;
	r = ledger_reserve(map->ledger, LEDGER_EXTENTS, map->n_high + n_more);
	return r ? r : ledger_reserve(map->ledger, LEDGER_LINKS, map->n_high + n_more);
}

static uint32_t index_take(struct extent_map *map)
{
	uint32_t extent = map->unused;

	if (extent == EXTENT_NONE)
		return map->n_high++;
	map->unused = extent_links(map, extent)->unused_next;
	map->n_unused--;
	return extent;
}

static void index_give(struct extent_map *map, uint32_t extent)
{
	set_what(map, extent, 0, EXTENT_UNUSED, 0);
	extent_links(map, extent)->unused_next = map->unused;
	map->unused = extent;
	map->n_unused++;
}

/* ---- address order ---- */

static void link_after(struct extent_map *map, uint32_t extent, uint32_t before)
{
	struct extent_links *links = extent_links(map, extent);
	uint32_t *after = before == EXTENT_NONE ? &map->head : &extent_links(map, before)->next;

	links->prev = before;
	links->next = *after;
	*(links->next == EXTENT_NONE ? &map->tail : &extent_links(map, links->next)->prev) = extent;
	*after = extent;
}

static void unlink_extent(struct extent_map *map, uint32_t extent)
{
	const struct extent_links *links = extent_links(map, extent);

	*(links->prev == EXTENT_NONE ? &map->head : &extent_links(map, links->prev)->next) = links->next;
	*(links->next == EXTENT_NONE ? &map->tail : &extent_links(map, links->next)->prev) = links->prev;
}

/* ---- owners' lists ---- */

static void hang(struct extent_map *map, uint32_t extent, struct extent_owner *ownerp)
{
	struct extent_links *links = extent_links(map, extent);

	links->owner_prev = links->owner_next = EXTENT_NONE;
	if (!ownerp)
		return;
	links->owner_next = ownerp->head;
	if (ownerp->head != EXTENT_NONE)
		extent_links(map, ownerp->head)->owner_prev = extent;
	ownerp->head = extent;
	ownerp->n_blocks++;
	ownerp->n_bytes += extent_size(map, extent);
}

static void unhang(struct extent_map *map, uint32_t extent, struct extent_owner *ownerp)
{
	const struct extent_links *links = extent_links(map, extent);

	if (!ownerp)
		return;
	*(links->owner_prev == EXTENT_NONE ? &ownerp->head : &extent_links(map, links->owner_prev)->owner_next) =
		links->owner_next;
	if (links->owner_next != EXTENT_NONE)
		extent_links(map, links->owner_next)->owner_prev = links->owner_prev;
	ownerp->n_blocks--;
	ownerp->n_bytes -= extent_size(map, extent);
}

/* ---- gaps ---- */

static void insert_gap(struct extent_map *map, uint64_t offset, uint64_t size, uint32_t before, uint32_t since_s)
{
	uint32_t gap = index_take(map);

	make_gap(map, gap, offset, size, since_s);
	link_after(map, gap, before);
	gap_insert(map, gap);
}

void map_append_gap(struct extent_map *map, uint64_t offset, uint64_t size, uint32_t since_s)
{
	insert_gap(map, offset, size, map->tail, since_s);
}

static void count_leased(struct extent_map *map, uint32_t extent)
{
	map->n_leased++;
	map->leased_bytes += extent_size(map, extent);
}

void map_append_truth(struct extent_map *map, uint32_t extent)
{
	link_after(map, extent, map->tail);
	if (extent_state(map, extent) == EXTENT_LEASED) {
		count_leased(map, extent);
		return;
	}
	hash_insert(map, extent);
	map->n_live++;
	map->requested_bytes += extent_size(map, extent) - extent_slack(map, extent);
}

void map_add_pinned(struct extent_map *map, uint32_t extent)
{
	struct extent_links *links = extent_links(map, extent);

	links->prev = links->next = EXTENT_NONE;
	hash_insert(map, extent);
	map->n_pinned++;
}

void map_forget_index(struct extent_map *map, uint32_t extent)
{
	index_give(map, extent);
}

void extent_map_hang(struct extent_map *map, uint32_t extent, struct extent_owner *ownerp)
{
	hang(map, extent, ownerp);
}

/* ---- life ---- */

void extent_map_shape(struct ledger_shape *shape, uint64_t max_bytes)
{
	/* Every granule a block, and never two gaps side by side; a spare for the pieces of a split. */
	uint64_t n = max_bytes / EXTENT_GRANULE + 3;

	if (n > EXTENT_N_MAX)
		n = EXTENT_N_MAX;
	shape->elem_bytes[LEDGER_EXTENTS] = sizeof(struct extent_record);
	shape->elem_bytes[LEDGER_LINKS] = sizeof(struct extent_links);
	shape->elem_bytes[LEDGER_BUCKETS] = sizeof(uint32_t);
	shape->elem_bytes[LEDGER_INTENT] = sizeof(struct intent_entry);
	shape->n_max[LEDGER_INTENT] = INTENT_N_MAX;
	shape->n_max[LEDGER_EXTENTS] = shape->n_max[LEDGER_LINKS] = (uint32_t)n;
	shape->n_max[LEDGER_BUCKETS] = (uint32_t)(n > 64 ? n : 64);
}

int map_init_empty(struct extent_map *map, struct ledger *ledger, uint64_t first_offset, uint64_t total_bytes)
{
	int r;

	*map = (struct extent_map){
		.ledger = ledger,
		.first_offset = first_offset,
		.total_bytes = total_bytes,
		.head = EXTENT_NONE,
		.tail = EXTENT_NONE,
		.unused = EXTENT_NONE,
	};
	for (unsigned fl = 0; fl < EXTENT_FL_N; fl++)
		for (unsigned sl = 0; sl < EXTENT_SL_N; sl++)
			map->class_root[fl][sl] = EXTENT_NONE;
	r = hash_init(map);
	return r ? r : intent_reserve(ledger, INTENT_N_LEAST);
}

int extent_map_init(struct extent_map *map, struct ledger *ledger, uint64_t first_offset, uint64_t total_bytes)
{
	int r;

	r = map_init_empty(map, ledger, first_offset, total_bytes);
	if (!r)
		r = reserve_indexes(map, 1);
	if (r)
		return r;
	map_append_gap(map, first_offset, total_bytes, 0);
	return 0;
}

/* ---- take ---- */

struct want {
	uint64_t size, alignment, bias;
	bool is_high; /* at the high end of a gap */
};

/* where in @gap the wanted range would begin. Return: false if it does not fit */
static bool place(const struct extent_map *map, uint32_t gap, const struct want *want, uint64_t *startp)
{
	uint64_t begin = extent_offset(map, gap), end = extent_end(map, gap), start;

	if (want->size > end - begin)
		return false;
	if (want->is_high)
		start = round_down(end - want->size + want->bias, want->alignment) - want->bias;
	else
		start = round_up(begin + want->bias, want->alignment) - want->bias;
	/* A high start may have wrapped below a bias or the gap; a low one may reach beyond the end. */
	if (start < begin || start > end - want->size)
		return false;
	*startp = start;
	return true;
}

static uint32_t find_one_by_one(const struct extent_map *map, const struct want *want, uint64_t *startp)
{
	uint64_t size = want->size;
	unsigned n_tries = 0;
	uint32_t head;

	while ((head = gap_best_fit(map, size)) != EXTENT_NONE) {
		uint32_t gap = head;

		do {
			if (place(map, gap, want, startp))
				return gap;
			if (++n_tries == EXTENT_N_ALIGNED_TRIES)
				return EXTENT_NONE;
			gap = extent_links(map, gap)->same_next;
		} while (gap != head);
		size = extent_size(map, head) + EXTENT_GRANULE;
	}
	return EXTENT_NONE;
}

static uint32_t find_place(const struct extent_map *map, const struct want *want, uint64_t *startp)
{
	uint32_t gap = gap_best_fit(map, want->size);

	if (gap == EXTENT_NONE || place(map, gap, want, startp))
		return gap;
	/* large enough wherever it starts */
	gap = gap_best_fit(map, want->size + want->alignment - EXTENT_GRANULE);
	if (gap != EXTENT_NONE && place(map, gap, want, startp))
		return gap;
	return find_one_by_one(map, want, startp);
}

static int take(struct extent_map *map, const struct want *want, uint32_t slack, uint64_t origin, uint32_t now_s,
		uint32_t *extentp)
{
	uint64_t size = want->size, start, begin, end;
	uint32_t extent, since_s;
	int r;

	assert(size && size % EXTENT_GRANULE == 0 && is_power_of_two(want->alignment) &&
	       want->alignment >= EXTENT_GRANULE);
	if (size > map->free_bytes)
		return EXTENT_E_EXHAUSTED;
	extent = find_place(map, want, &start);
	if (extent == EXTENT_NONE)
		return EXTENT_E_EXHAUSTED;
	r = reserve_indexes(map, 2);
	if (!r)
		r = hash_reserve(map, (uint64_t)map->n_taken + 1);
	if (r)
		return r;
	begin = extent_offset(map, extent);
	end = extent_end(map, extent);
	since_s = extent_since(map, extent);
	gap_remove(map, extent);
	set_what(map, extent, size, EXTENT_TAKEN, 0);
	set_place(map, extent, start, slack);
	intent_store(&extent_record(map, extent)->origin, origin);
	set_whose(map, extent, EXTENT_OWNER_NONE, now_s);
	if (start > begin)
		insert_gap(map, begin, start - begin, extent_links(map, extent)->prev, since_s);
	if (end - start > size)
		insert_gap(map, start + size, end - start - size, extent, since_s);
	map->n_taken++;
	map->requested_bytes += size - slack;
	*extentp = extent;
	return 0;
}

int extent_map_take(struct extent_map *map, uint64_t size, uint64_t alignment, uint64_t bias, uint32_t slack,
		    uint64_t origin, uint32_t now_s, uint32_t *extentp)
{
	const struct want want = {.size = size, .alignment = alignment, .bias = bias, .is_high = size >= LARGE_BYTES};

	return take(map, &want, slack, origin, now_s, extentp);
}

int extent_map_take_low(struct extent_map *map, uint64_t size, uint64_t alignment, uint64_t origin, uint32_t now_s,
			uint32_t *extentp)
{
	const struct want want = {.size = size, .alignment = alignment};

	return take(map, &want, 0, origin, now_s, extentp);
}

void extent_map_lease(struct extent_map *map, uint32_t extent, uint32_t owner, struct extent_owner *ownerp)
{
	assert(extent_state(map, extent) == EXTENT_TAKEN && !extent_slack(map, extent));
	set_whose(map, extent, owner, extent_since(map, extent));
	set_what(map, extent, extent_size(map, extent), EXTENT_LEASED, 0);
	map->n_taken--;
	map->requested_bytes -= extent_size(map, extent);
	count_leased(map, extent);
	hang(map, extent, ownerp);
}

int extent_map_pin(struct extent_map *map, uint64_t offset, uint64_t size, uint64_t origin, uint32_t owner,
		   struct extent_owner *ownerp, uint32_t now_s, uint32_t *extentp)
{
	uint32_t extent;
	int r = reserve_indexes(map, 1);

	if (!r)
		r = hash_reserve(map, (uint64_t)map->n_taken + 1);
	if (r)
		return r;
	extent = index_take(map);
	set_place(map, extent, offset, 0);
	intent_store(&extent_record(map, extent)->origin, origin);
	set_whose(map, extent, owner, now_s);
	set_what(map, extent, size, EXTENT_PINNED, 0);
	map_add_pinned(map, extent);
	hang(map, extent, ownerp);
	*extentp = extent;
	return 0;
}

void extent_map_publish(struct extent_map *map, uint32_t extent, uint32_t owner, struct extent_owner *ownerp)
{
	assert(extent_state(map, extent) == EXTENT_TAKEN);
	set_whose(map, extent, owner, extent_since(map, extent));
	set_what(map, extent, extent_size(map, extent), EXTENT_LIVE, 0);
	map->n_taken--;
	map->n_live++;
	hash_insert(map, extent);
	hang(map, extent, ownerp);
}

void extent_map_own(struct extent_map *map, uint32_t extent, struct extent_owner *fromp, uint32_t owner,
		    struct extent_owner *top)
{
	assert(is_truth(map, extent));
	unhang(map, extent, fromp);
	set_whose(map, extent, owner, extent_since(map, extent));
	hang(map, extent, top);
}

/* ---- give ---- */

/* @extent, not in any class, swallows its neighbour @gap, which is */
static void swallow(struct extent_map *map, uint32_t extent, uint32_t gap, uint32_t now_s)
{
	uint64_t offset = extent_offset(map, extent), other = extent_offset(map, gap);
	uint64_t size = extent_size(map, extent) + extent_size(map, gap);

	gap_remove(map, gap);
	unlink_extent(map, gap);
	index_give(map, gap);
	make_gap(map, extent, offset < other ? offset : other, size, now_s);
}

/* @extent is a gap already, but in no class */
static uint32_t settle_gap(struct extent_map *map, uint32_t extent, uint32_t now_s)
{
	const struct extent_links *links = extent_links(map, extent);

	if (extent_is_gap(map, links->prev))
		swallow(map, extent, links->prev, now_s);
	if (extent_is_gap(map, links->next))
		swallow(map, extent, links->next, now_s);
	gap_insert(map, extent);
	return extent;
}

static void unpin(struct extent_map *map, uint32_t extent, struct extent_owner *ownerp)
{
	hash_remove(map, extent);
	unhang(map, extent, ownerp);
	map->n_pinned--;
	index_give(map, extent);
}

uint32_t extent_map_give(struct extent_map *map, uint32_t extent, struct extent_owner *ownerp, uint32_t now_s)
{
	uint64_t size = extent_size(map, extent);

	switch (extent_state(map, extent)) {
	case EXTENT_PINNED:
		unpin(map, extent, ownerp);
		return EXTENT_NONE;
	case EXTENT_LEASED:
		unhang(map, extent, ownerp);
		map->n_leased--;
		map->leased_bytes -= size;
		break;
	case EXTENT_LIVE:
		hash_remove(map, extent);
		unhang(map, extent, ownerp);
		map->n_live--;
		map->requested_bytes -= size - extent_slack(map, extent);
		break;
	case EXTENT_TAKEN:
		map->n_taken--;
		map->requested_bytes -= size - extent_slack(map, extent);
		break;
	case EXTENT_UNUSED:
	case EXTENT_GAP:
	case EXTENT_STATE_N:
		assert(!"an extent that can be given back");
	}
	make_gap(map, extent, extent_offset(map, extent), extent_size(map, extent), now_s);
	return settle_gap(map, extent, now_s);
}

/* ---- in place ---- */

int extent_map_find(const struct extent_map *map, uint64_t offset, uint32_t *extentp)
{
	uint32_t extent = hash_find(map, offset);

	if (extent == EXTENT_NONE)
		return EXTENT_E_NONE;
	*extentp = extent;
	return 0;
}

uint64_t extent_map_room_behind(const struct extent_map *map, uint32_t extent)
{
	uint32_t next = extent_links(map, extent)->next;

	return extent_is_gap(map, next) ? extent_size(map, next) : 0;
}

/* the end of @extent moves from @old_end to @new_end, into or out of the gap behind it; there is one, or an index for one */
static void move_end(struct extent_map *map, uint32_t extent, uint64_t old_end, uint64_t new_end, uint32_t now_s)
{
	uint32_t gap = extent_links(map, extent)->next;
	uint64_t gap_end = old_end;

	if (extent_is_gap(map, gap)) {
		gap_end = extent_end(map, gap);
		if (new_end > old_end) /* it only gets smaller: as old as before */
			now_s = extent_since(map, gap);
		gap_remove(map, gap);
		unlink_extent(map, gap);
		index_give(map, gap);
	}
	if (gap_end > new_end)
		insert_gap(map, new_end, gap_end - new_end, extent, now_s);
}

int extent_map_resize(struct extent_map *map, uint32_t extent, uint64_t size, uint32_t slack,
		      struct extent_owner *ownerp, uint32_t now_s)
{
	uint64_t old = extent_size(map, extent), offset = extent_offset(map, extent);
	int r;

	assert(extent_state(map, extent) == EXTENT_LIVE && size && size % EXTENT_GRANULE == 0);
	if (size > old && size - old > extent_map_room_behind(map, extent))
		return EXTENT_E_NO_ROOM;
	if (size < old) {
		r = reserve_indexes(map, 1);
		if (r)
			return r;
	}
	map->requested_bytes += size - slack - (old - extent_slack(map, extent));
	if (ownerp)
		ownerp->n_bytes += size - old;
	if (size < old) /* the slack is below the size at every moment */
		set_place(map, extent, offset, slack);
	set_what(map, extent, size, EXTENT_LIVE, extent_flags(map, extent));
	if (size >= old)
		set_place(map, extent, offset, slack);
	if (size != old)
		move_end(map, extent, offset + old, offset + size, now_s);
	return 0;
}

int extent_map_grow(struct extent_map *map, uint64_t n_bytes, uint32_t now_s)
{
	int r = reserve_indexes(map, 1);
	uint32_t gap;

	if (r)
		return r;
	gap = index_take(map);
	make_gap(map, gap, map->first_offset + map->total_bytes, n_bytes, now_s);
	link_after(map, gap, map->tail);
	map->total_bytes += n_bytes;
	settle_gap(map, gap, now_s);
	return 0;
}

void extent_map_set_flags(struct extent_map *map, uint32_t extent, unsigned flags)
{
	assert(extent_is_block(map, extent));
	set_what(map, extent, extent_size(map, extent), extent_state(map, extent), flags);
}

/* ---- by any offset ---- */

static bool contains(const struct extent_map *map, uint32_t extent, uint64_t offset)
{
	return extent < map->n_high && extent_state(map, extent) != EXTENT_UNUSED &&
	       offset - extent_offset(map, extent) < extent_size(map, extent); /* wraps to huge below its start */
}

uint32_t extent_map_at(const struct extent_map *map, uint64_t offset, uint32_t hint)
{
	uint64_t at = offset - map->first_offset;
	uint32_t extent;

	if (at >= map->total_bytes)
		return EXTENT_NONE;
	if (contains(map, hint, offset))
		return hint;
	extent = at < map->total_bytes / 2 ? map->head : map->tail;
	while (!contains(map, extent, offset))
		extent = extent_offset(map, extent) > offset ? extent_links(map, extent)->prev
							     : extent_links(map, extent)->next;
	return extent;
}
