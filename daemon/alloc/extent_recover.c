// SPDX-License-Identifier: MIT
/*
 * From records to a map. The records that are truth are gathered, sorted by age for the owners' lists, then by offset for the
 * map, in which pinned slots have no place of their own; what lies between two of the others is a gap, and every index that is neither is unused.
 *
 * Trusts no record: each is judged alone, then against its neighbour. Gaps get indexes that had no extent; there are enough
 * in books that were ever right, for no map has more gaps than it had before the kill.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "alloc/extent_internal.h"

#define DIGIT_BITS 11u
#define N_DIGITS   (1u << DIGIT_BITS)
#define N_AHEAD	   16u /* blocks that are being fetched; measured: 8 to 32 are alike */
#define HUGE_BYTES (UINT64_C(2) << 20)
#define FEW	   64u /* items that are sorted by insertion; simply picked */

struct item {
	uint64_t key;
	uint32_t extent;
};

struct roll {			    /* of all records that are truth */
	struct item *items, *spare; /* [n] each, in @memory */
	uint32_t n;
	uint64_t first, varying; /* a key, and the bits in which others differ from it */
	struct item *memory;
	void *map; /* [map_bytes] around it; NULL: it is malloc()ed */
	size_t map_bytes;
};

struct recovery {
	struct extent_map *map;
	struct roll roll;
	uint32_t n_records; /* indexes from here on were never used */
	char *why;
	size_t n_why;
};

/* ---- the roll ---- */

static int damaged(const struct recovery *recovery, uint32_t extent, const char *what)
{
	snprintf(recovery->why, recovery->n_why, "extent record %u, offset 0x%" PRIx64 ", size %" PRIu64 ": %s", extent,
		 extent_offset(recovery->map, extent), extent_size(recovery->map, extent), what);
	return EXTENT_E_DAMAGED;
}

static int judge(const struct recovery *recovery, uint32_t extent)
{
	const struct extent_map *map = recovery->map;
	uint64_t offset = extent_offset(map, extent), size = extent_size(map, extent);

	if (!size || size % EXTENT_GRANULE || offset % EXTENT_GRANULE)
		return damaged(recovery, extent, "not in whole granules");
	if (offset < map->first_offset || !range_fits(offset - map->first_offset, size, map->total_bytes))
		return damaged(recovery, extent, "outside the pool");
	if (extent_slack(map, extent) >= size)
		return damaged(recovery, extent, "more slack than size");
	return 0;
}

/*
 * Of a million items these are 32 MiB, which are touched once: in small pages, that alone would take as long as all else together.
 * Where the kernel has no large ones, it gives small ones.
 */
static int roll_map(struct roll *roll, size_t n_bytes)
{
	roll->map_bytes = n_bytes + HUGE_BYTES;
	roll->map = mmap(NULL, roll->map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (roll->map == MAP_FAILED) {
		roll->map = NULL;
		return -ENOMEM;
	}
	(void)madvise(roll->map, roll->map_bytes, MADV_HUGEPAGE);
	roll->memory = (struct item *)round_up((uint64_t)(uintptr_t)roll->map, HUGE_BYTES);
	return 0;
}

static int roll_init(struct roll *roll, uint32_t n)
{
	size_t n_bytes = 2 * ((size_t)n + 1) * sizeof(*roll->items);
	int r = 0;

	if (n_bytes >= HUGE_BYTES)
		r = roll_map(roll, n_bytes);
	else if (!(roll->memory = malloc(n_bytes)))
		r = -ENOMEM;
	roll->items = roll->memory;
	roll->spare = r ? NULL : roll->memory + n + 1;
	return r;
}

static void roll_deinit(struct roll *roll)
{
	if (roll->map)
		munmap(roll->map, roll->map_bytes);
	else
		free(roll->memory);
}

static void roll_set(struct roll *roll, uint32_t i, uint64_t key, uint32_t extent)
{
	if (!i) {
		roll->first = key;
		roll->varying = 0;
	}
	roll->varying |= key ^ roll->first;
	roll->items[i] = (struct item){.key = key, .extent = extent};
}

/* The same whenever it is done again, so no note is needed. */
static void clear_flags(struct extent_map *map, uint32_t extent)
{
	if (extent_flags(map, extent))
		intent_store(&extent_record(map, extent)->what,
			     pack_what(extent_size(map, extent), extent_state(map, extent), 0));
}

static int roll_call(struct recovery *recovery)
{
	struct extent_map *map = recovery->map;
	struct roll *roll = &recovery->roll;
	uint32_t n_records = map->ledger->tables[LEDGER_EXTENTS].n_backed, n = 0;
	enum extent_state state;
	int r = 0;

	for (uint32_t i = 0; i < n_records && !r; i++) {
		state = extent_state(map, i);
		if (state != EXTENT_UNUSED)
			recovery->n_records = i + 1;
		if (state >= EXTENT_STATE_N)
			r = damaged(recovery, i, "of a kind that this version does not know");
		n += state_is_truth(state);
	}
	if (!r)
		r = roll_init(roll, n);
	for (uint32_t i = 0; i < recovery->n_records && !r; i++) {
		if (!state_is_truth(extent_state(map, i)))
			continue;
		r = judge(recovery, i);
		clear_flags(map, i);
		roll_set(roll, roll->n++, extent_since(map, i), i);
	}
	return r;
}

/* Stable. Of a small pool the digits alone, 2,048 for each pass, would take longer than everything else of its recovery. */
static void sort_few(struct roll *roll)
{
	for (uint32_t i = 1; i < roll->n; i++) {
		struct item item = roll->items[i];
		uint32_t at = i;

		for (; at && roll->items[at - 1].key > item.key; at--)
			roll->items[at] = roll->items[at - 1];
		roll->items[at] = item;
	}
}

/* Stable, least significant digit first, of the bits that differ at all. */
static void sort_many(struct roll *roll)
{
	unsigned shift = (unsigned)__builtin_ctzll(roll->varying);

	for (; shift < 64 && roll->varying >> shift; shift += DIGIT_BITS) {
		uint32_t at[N_DIGITS] = {0}, sum = 0;
		struct item *swap = roll->items;

		for (uint32_t i = 0; i < roll->n; i++)
			at[roll->items[i].key >> shift & (N_DIGITS - 1)]++;
		for (uint32_t digit = 0; digit < N_DIGITS; digit++) {
			uint32_t n = at[digit];

			at[digit] = sum;
			sum += n;
		}
		for (uint32_t i = 0; i < roll->n; i++)
			roll->spare[at[roll->items[i].key >> shift & (N_DIGITS - 1)]++] = roll->items[i];
		roll->items = roll->spare;
		roll->spare = swap;
	}
}

static void sort(struct roll *roll)
{
	if (!roll->n || !roll->varying)
		return;
	if (roll->n <= FEW)
		sort_few(roll);
	else
		sort_many(roll);
}

/* ---- the map ---- */

/* Every index below n_records that is no block and no slab is unused; the lowest are used again first. */
static void gather_unused(struct recovery *recovery)
{
	struct extent_map *map = recovery->map;

	map->n_high = recovery->n_records;
	for (uint32_t i = recovery->n_records; i-- > 0;)
		if (!state_is_truth(extent_state(map, i)))
			map_forget_index(map, i);
}

static bool has_index(const struct extent_map *map)
{
	return map->n_unused || (map->n_high < map->ledger->tables[LEDGER_EXTENTS].n_backed &&
				 map->n_high < map->ledger->tables[LEDGER_LINKS].n_backed);
}

static int append_gap(struct recovery *recovery, uint64_t offset, uint64_t end, uint32_t since_s)
{
	if (offset == end)
		return 0;
	if (!has_index(recovery->map)) {
		snprintf(recovery->why, recovery->n_why, "there is no record left for the gap at 0x%" PRIx64, offset);
		return EXTENT_E_DAMAGED;
	}
	map_append_gap(recovery->map, offset, end - offset, since_s);
	return 0;
}

/* Blocks in address order are in no order of their records: without this each would wait for three cache misses. */
static void prefetch(const struct recovery *recovery, uint32_t i)
{
	const struct item *item = &recovery->roll.items[i];

	if (i >= recovery->roll.n)
		return;
	__builtin_prefetch(extent_record(recovery->map, item->extent));
	__builtin_prefetch(extent_links(recovery->map, item->extent), 1);
}

static int append_all(struct recovery *recovery, uint32_t since_s)
{
	struct extent_map *map = recovery->map;
	uint64_t end = map->first_offset;
	int r = 0;

	for (uint32_t i = 0; i < recovery->roll.n && !r; i++) {
		uint32_t extent = recovery->roll.items[i].extent;

		prefetch(recovery, i + N_AHEAD);
		if (i + N_AHEAD < recovery->roll.n)
			hash_prefetch(map, recovery->roll.items[i + N_AHEAD].key * EXTENT_GRANULE);
		if (extent_state(map, extent) == EXTENT_PINNED) {
			map_add_pinned(map, extent); /* whoever knows slabs judges it */
			continue;
		}
		if (extent_offset(map, extent) < end)
			return damaged(recovery, extent, "overlaps the one before it");
		r = append_gap(recovery, end, extent_offset(map, extent), since_s);
		map_append_truth(map, extent);
		end = extent_end(map, extent);
	}
	return r ? r : append_gap(recovery, end, map->first_offset + map->total_bytes, since_s);
}

static int visit_all(struct recovery *recovery, int (*visit)(void *arg, uint32_t extent), void *arg)
{
	struct extent_map *map = recovery->map;
	struct roll *roll = &recovery->roll;
	int r = 0;

	for (uint32_t i = 0; i < roll->n && !r; i++) {
		uint32_t extent = roll->items[i].extent;

		prefetch(recovery, i + N_AHEAD);
		extent_map_hang(map, extent, NULL);
		r = visit(arg, extent);
		roll_set(roll, i, extent_offset(map, extent) / EXTENT_GRANULE, extent);
	}
	return r;
}

static int recover(struct recovery *recovery, uint32_t since_s, int (*visit)(void *arg, uint32_t extent), void *arg)
{
	struct extent_map *map = recovery->map;
	int r;

	r = roll_call(recovery);
	if (r)
		return r;
	if (recovery->n_records > map->ledger->tables[LEDGER_LINKS].n_backed) {
		snprintf(recovery->why, recovery->n_why, "there are more extent records than links");
		return EXTENT_E_DAMAGED;
	}
	r = hash_init(map, recovery->roll.n);
	if (r)
		return r;
	gather_unused(recovery);
	sort(&recovery->roll);
	r = visit_all(recovery, visit, arg);
	if (r)
		return r;
	sort(&recovery->roll);
	return append_all(recovery, since_s);
}

int extent_map_recover(struct extent_map *map, struct ledger *ledger, uint64_t first_offset, uint64_t total_bytes,
		       uint32_t since_s, int (*visit)(void *arg, uint32_t extent), void *arg, char *why, size_t n_why)
{
	struct recovery recovery = {.map = map, .why = why, .n_why = n_why};
	int r;

	r = map_init_empty(map, ledger, first_offset, total_bytes);
	if (!r)
		r = recover(&recovery, since_s, visit, arg);
	roll_deinit(&recovery.roll);
	return r;
}
