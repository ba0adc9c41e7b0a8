// SPDX-License-Identifier: MIT
/*
 * The map looks at itself: every invariant, each fault a line, "0x…: what" if it has a place.
 *
 * Trusts no index: each is compared with the number of indexes before it is followed, and each walk is bounded by it, so
 * that a damaged map is reported and neither crashes nor holds up the daemon. Hash chains come first, because a look-up
 * trusts them; classes and the unused chain last, because they count what the walk in address order has seen.
 */
#include <inttypes.h>
#include <stdarg.h>

#include "alloc/extent_internal.h"

#define NOWHERE UINT64_MAX /* a fault without a place */

struct census {
	const struct extent_map *map;
	FILE *report;
	unsigned n_faults;
	bool hash_is_sound;
	uint64_t n_extents, n_live, n_taken, n_leased, n_pinned, n_gaps, free_bytes, leased_bytes, requested_bytes;
	uint64_t n_in_classes;
};

PRINTF(3, 4) static void fault(struct census *census, uint64_t offset, const char *format, ...)
{
	va_list args;

	census->n_faults++;
	if (!census->report)
		return;
	if (offset != NOWHERE)
		fprintf(census->report, "0x%" PRIx64 ": ", offset);
	va_start(args, format);
	vfprintf(census->report, format, args);
	va_end(args);
	fputc('\n', census->report);
}

static bool exists(const struct extent_map *map, uint32_t extent)
{
	return extent < map->n_high;
}

static bool exists_or_none(const struct extent_map *map, uint32_t extent)
{
	return extent == EXTENT_NONE || exists(map, extent);
}

/* ---- owners' lists ---- */

static void check_list(struct census *census, uint32_t extent)
{
	const struct extent_map *map = census->map;
	const struct extent_links *links = extent_links(map, extent);
	bool is_slab = extent_state(map, extent) == EXTENT_LEASED; /* slabs have lists of their own */
	uint32_t next = links->owner_next, prev = links->owner_prev;

	if (!exists_or_none(map, next) || !exists_or_none(map, prev))
		fault(census, extent_offset(map, extent), "owner's list goes to an index that never was");
	else if ((next != EXTENT_NONE &&
		  (!state_is_truth(extent_state(map, next)) || (extent_state(map, next) == EXTENT_LEASED) != is_slab ||
		   extent_links(map, next)->owner_prev != extent ||
		   extent_owner(map, next) != extent_owner(map, extent))) ||
		 (prev != EXTENT_NONE && extent_links(map, prev)->owner_next != extent))
		fault(census, extent_offset(map, extent), "owner's list is torn");
}

static void check_pinned(struct census *census, uint32_t extent)
{
	uint64_t offset = extent_offset(census->map, extent), size = extent_size(census->map, extent);

	census->n_pinned++;
	if (!size || size % EXTENT_GRANULE || offset % EXTENT_GRANULE || extent_slack(census->map, extent))
		fault(census, offset, "pinned slot of %" PRIu64 " bytes is not in granules", size);
	check_list(census, extent);
}

/* ---- offset -> block ---- */

static void check_bucket(struct census *census, uint32_t index, uint64_t *n_chainedp)
{
	const struct extent_map *map = census->map;
	uint32_t extent = *(const uint32_t *)ledger_at(map->ledger, LEDGER_BUCKETS, index);

	for (; extent != EXTENT_NONE; extent = extent_links(map, extent)->hash_next) {
		if (!exists(map, extent) || !extent_is_block(map, extent)) {
			fault(census, NOWHERE, "bucket %u holds index %u, which is no block", index, extent);
			return;
		}
		if (hash_bucket(map, extent_offset(map, extent)) != index)
			fault(census, extent_offset(map, extent), "block is in another's bucket %u", index);
		if (++*n_chainedp > map->n_hashed) /* too many, or a circle */
			return;
		if (extent_state(map, extent) == EXTENT_PINNED)
			check_pinned(census, extent);
	}
}

static void check_hash(struct census *census)
{
	const struct extent_map *map = census->map;
	uint64_t n_chained = 0;
	unsigned n_before = census->n_faults;

	if (!map->n_buckets || map->n_buckets > map->ledger->tables[LEDGER_BUCKETS].n_backed) {
		fault(census, NOWHERE, "%u buckets, but room for %u", map->n_buckets,
		      map->ledger->tables[LEDGER_BUCKETS].n_backed);
		return;
	}
	for (uint32_t i = 0; i < map->n_buckets && n_chained <= map->n_hashed; i++)
		check_bucket(census, i, &n_chained);
	if (n_chained != map->n_hashed)
		fault(census, NOWHERE, "%u blocks counted by offset, %s in buckets", map->n_hashed,
		      n_chained > map->n_hashed ? "more" : "fewer");
	census->hash_is_sound = census->n_faults == n_before;
}

/* ---- extents in address order ---- */

static void check_live(struct census *census, uint32_t extent)
{
	uint64_t offset = extent_offset(census->map, extent);

	census->n_live++;
	if (census->hash_is_sound && hash_find(census->map, offset) != extent)
		fault(census, offset, "block is not found by its offset");
	check_list(census, extent);
}

static void check_one(struct census *census, uint32_t extent)
{
	const struct extent_map *map = census->map;
	uint64_t offset = extent_offset(map, extent), size = extent_size(map, extent);
	uint32_t next = extent_links(map, extent)->next;

	if (!size || size % EXTENT_GRANULE || offset % EXTENT_GRANULE)
		fault(census, offset, "extent of %" PRIu64 " bytes is not in granules", size);
	switch (extent_state(map, extent)) {
	case EXTENT_GAP:
		census->n_gaps++;
		census->free_bytes += size;
		if (exists(map, next) && extent_is_gap(map, next))
			fault(census, offset, "two gaps side by side");
		return;
	case EXTENT_TAKEN:
		census->n_taken++;
		break;
	case EXTENT_LIVE:
		check_live(census, extent);
		break;
	case EXTENT_LEASED:
		census->n_leased++;
		census->leased_bytes += size;
		check_list(census, extent);
		if (extent_slack(map, extent))
			fault(census, offset, "slab with slack");
		return;
	case EXTENT_PINNED: /* in no address order */
	case EXTENT_UNUSED:
	case EXTENT_STATE_N:
	default: /* shared memory: any number can stand there */
		fault(census, offset, "extent in no known state");
		return;
	}
	if (extent_slack(map, extent) >= size)
		fault(census, offset, "block of no bytes");
	census->requested_bytes += size - extent_slack(map, extent);
}

static void check_tiles(struct census *census)
{
	const struct extent_map *map = census->map;
	uint64_t at = map->first_offset;
	uint32_t extent = map->head, before = EXTENT_NONE;

	while (extent != EXTENT_NONE && census->n_extents <= map->n_high) {
		if (!exists(map, extent)) {
			fault(census, at, "link to index %u, which never was", extent);
			return;
		}
		if (extent_offset(map, extent) != at)
			fault(census, extent_offset(map, extent), "extent begins here, 0x%" PRIx64 " was expected", at);
		if (extent_links(map, extent)->prev != before)
			fault(census, at, "extent has a wrong link back");
		check_one(census, extent);
		census->n_extents++;
		at = extent_end(map, extent);
		before = extent;
		extent = extent_links(map, extent)->next;
	}
	if (extent != EXTENT_NONE)
		fault(census, at, "extents run in a circle");
	if (before != map->tail)
		fault(census, at, "the last extent is not the tail");
	if (at != map->first_offset + map->total_bytes)
		fault(census, at, "extents end here, the pool does not");
}

/* ---- gaps by size ---- */

/* the ring of one node. Return: false if it leads astray */
static bool check_ring(struct census *census, uint32_t node)
{
	const struct extent_map *map = census->map;
	uint64_t offset = extent_offset(map, node), size = extent_size(map, node);
	uint32_t gap = node, next;

	do {
		const struct extent_links *links = extent_links(map, gap);

		if (++census->n_in_classes > map->n_gaps)
			return false; /* too many, or a circle; the sum will be reported */
		if (!extent_is_gap(map, gap) || extent_size(map, gap) != size)
			fault(census, offset, "ring of gaps holds what does not belong there");
		if (gap != node && links->parent != PARENT_RING)
			fault(census, extent_offset(map, gap), "gap is in a ring and in a trie");
		next = links->same_next;
		if (!exists(map, next) || extent_links(map, next)->same_prev != gap) {
			fault(census, extent_offset(map, gap), "ring of gaps is torn");
			return false;
		}
		gap = next;
	} while (gap != node);
	return true;
}

/*
 * A node and what is below it. The sizes here, in granules, differ in @n_bits low bits; the others are @path. So the
 * recursion is at most as deep as a class has varying bits, 38.
 */
static void check_trie(struct census *census, uint32_t node, uint32_t parent, uint64_t path, unsigned n_bits)
{
	const struct extent_map *map = census->map;
	const struct extent_links *links = extent_links(map, node);

	if (!exists(map, node)) {
		fault(census, NOWHERE, "trie of gaps holds index %u, which never was", node);
		return;
	}
	if (links->parent != parent)
		fault(census, extent_offset(map, node), "gap has a wrong parent");
	if (extent_size(map, node) / EXTENT_GRANULE >> n_bits != path)
		fault(census, extent_offset(map, node), "gap of %" PRIu64 " bytes is in a wrong place of the trie",
		      extent_size(map, node));
	if (!check_ring(census, node))
		return;
	for (uint32_t i = 0; i < 2; i++) {
		if (links->child[i] == EXTENT_NONE)
			continue;
		if (!n_bits) {
			fault(census, extent_offset(map, node), "trie of gaps is too deep");
			return;
		}
		check_trie(census, links->child[i], node, 2 * path + i, n_bits - 1);
	}
}

static void check_class(struct census *census, uint32_t fl, uint32_t sl)
{
	const struct extent_map *map = census->map;
	uint32_t root = map->class_root[fl][sl];

	if ((map->sl_bits[fl] >> sl & 1) != (root != EXTENT_NONE))
		fault(census, NOWHERE, "bit of size class %u/%u is wrong", fl, sl);
	if (root != EXTENT_NONE)
		check_trie(census, root, PARENT_ROOT, fl ? EXTENT_SL_N + sl : sl, fl ? fl - 1 : 0);
}

static void check_classes(struct census *census)
{
	const struct extent_map *map = census->map;

	for (uint32_t fl = 0; fl < EXTENT_FL_N; fl++) {
		if ((map->fl_bits >> fl & 1) != !!map->sl_bits[fl])
			fault(census, NOWHERE, "first-level bit %u is wrong", fl);
		for (uint32_t sl = 0; sl < EXTENT_SL_N; sl++)
			check_class(census, fl, sl);
	}
	if (census->n_in_classes != census->n_gaps)
		fault(census, NOWHERE, "%" PRIu64 " gaps, but %" PRIu64 " in classes", census->n_gaps,
		      census->n_in_classes);
}

/* ---- the rest ---- */

static void check_unused(struct census *census)
{
	const struct extent_map *map = census->map;
	uint32_t n = 0;

	for (uint32_t i = map->unused; i != EXTENT_NONE && n <= map->n_high; i = extent_links(map, i)->unused_next) {
		if (!exists(map, i) || extent_state(map, i) != EXTENT_UNUSED) {
			fault(census, NOWHERE, "chain of unused indexes holds %u, which is used or never was", i);
			return;
		}
		n++;
	}
	if (n != map->n_unused || n + census->n_extents + census->n_pinned != map->n_high)
		fault(census, NOWHERE, "%" PRIu64 " indexes used and %u unused of %u, %u counted",
		      census->n_extents + census->n_pinned, n, map->n_high, map->n_unused);
}

static void check_count(struct census *census, const char *what, uint64_t counted, uint64_t found)
{
	if (counted != found)
		fault(census, NOWHERE, "%s: counted %" PRIu64 ", found %" PRIu64, what, counted, found);
}

unsigned extent_map_check(const struct extent_map *map, FILE *report)
{
	struct census census = {.map = map, .report = report};

	check_hash(&census);
	check_tiles(&census);
	check_classes(&census);
	check_unused(&census);
	check_count(&census, "blocks", map->n_live, census.n_live);
	check_count(&census, "slabs", map->n_leased, census.n_leased);
	check_count(&census, "pinned slots", map->n_pinned, census.n_pinned);
	check_count(&census, "blocks by offset", map->n_hashed, census.n_live + census.n_pinned);
	check_count(&census, "leased bytes", map->leased_bytes, census.leased_bytes);
	check_count(&census, "extents taken", map->n_taken, census.n_taken);
	check_count(&census, "gaps", map->n_gaps, census.n_gaps);
	check_count(&census, "free bytes", map->free_bytes, census.free_bytes);
	check_count(&census, "requested bytes", map->requested_bytes, census.requested_bytes);
	return census.n_faults;
}

void extent_map_dump(const struct extent_map *map, FILE *out)
{
	static const char *const names[EXTENT_STATE_N] = {"unused", "gap", "taken", "live", "leased", "pinned"};
	uint32_t n = 0;

	for (uint32_t extent = map->head; exists(map, extent) && n++ < map->n_high;
	     extent = extent_links(map, extent)->next) {
		unsigned state = extent_state(map, extent);

		fprintf(out, "%10u 0x%012" PRIx64 " %14" PRIu64 " %-6s", extent, extent_offset(map, extent),
			extent_size(map, extent), state < EXTENT_STATE_N ? names[state] : "?");
		if (state == EXTENT_GAP)
			fprintf(out, " since %u\n", extent_since(map, extent));
		else
			fprintf(out, " owner %d origin %" PRIu64 " flags %u slack %u since %u\n",
				(int)extent_owner(map, extent), extent_origin(map, extent), extent_flags(map, extent),
				extent_slack(map, extent), extent_since(map, extent));
	}
}
