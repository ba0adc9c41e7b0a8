// SPDX-License-Identifier: MIT
/* The map looks at itself: every invariant, each fault a line. Trusts no link: walks are bounded by the number of indexes. */
#include <inttypes.h>
#include <stdarg.h>

#include "alloc/extent_internal.h"

struct census {
	const struct extent_map *map;
	FILE *report;
	unsigned n_faults;
	uint64_t n_live, n_taken, n_gaps, free_bytes, requested_bytes;
	uint64_t n_in_classes;
};

PRINTF(2, 3) static void fault(struct census *census, const char *format, ...)
{
	va_list args;

	census->n_faults++;
	if (!census->report)
		return;
	va_start(args, format);
	vfprintf(census->report, format, args);
	va_end(args);
	fputc('\n', census->report);
}

static void check_one(struct census *census, uint32_t extent)
{
	const struct extent_map *map = census->map;
	uint64_t offset = extent_offset(map, extent), size = extent_size(map, extent);

	if (!size || size % EXTENT_GRANULE || offset % EXTENT_GRANULE)
		fault(census, "0x%" PRIx64 " extent of %" PRIu64 " bytes is not in granules", offset, size);
	switch (extent_state(map, extent)) {
	case EXTENT_GAP:
		census->n_gaps++;
		census->free_bytes += size;
		if (extent_is_gap(map, extent_links(map, extent)->next))
			fault(census, "0x%" PRIx64 " two gaps side by side", offset);
		return;
	case EXTENT_TAKEN:
		census->n_taken++;
		break;
	case EXTENT_LIVE:
		census->n_live++;
		if (hash_find(map, offset) != extent)
			fault(census, "0x%" PRIx64 " block is not found by its offset", offset);
		break;
	case EXTENT_LEASED:
		break;
	case EXTENT_UNUSED:
	case EXTENT_STATE_N:
	default: /* shared memory: any number can stand there */
		fault(census, "0x%" PRIx64 " extent in no known state", offset);
		return;
	}
	if (extent_slack(map, extent) >= size)
		fault(census, "0x%" PRIx64 " block of no bytes", offset);
	census->requested_bytes += size - extent_slack(map, extent);
}

/* address order tiles the pool */
static uint32_t check_tiles(struct census *census)
{
	const struct extent_map *map = census->map;
	uint64_t at = map->first_offset;
	uint32_t extent = map->head, before = EXTENT_NONE, n = 0;

	for (; extent != EXTENT_NONE && n <= map->n_high; n++) {
		if (extent >= map->n_high) {
			fault(census, "0x%" PRIx64 " link to an index that never was", at);
			return n;
		}
		if (extent_offset(map, extent) != at)
			fault(census, "0x%" PRIx64 " extent begins where 0x%" PRIx64 " was expected",
			      extent_offset(map, extent), at);
		if (extent_links(map, extent)->prev != before)
			fault(census, "0x%" PRIx64 " extent has a wrong link back", at);
		check_one(census, extent);
		at = extent_offset(map, extent) + extent_size(map, extent);
		before = extent;
		extent = extent_links(map, extent)->next;
	}
	if (extent != EXTENT_NONE)
		fault(census, "0x%" PRIx64 " extents run in a circle", at);
	if (before != map->tail)
		fault(census, "0x%" PRIx64 " the last extent is not the tail", at);
	if (at != map->first_offset + map->total_bytes)
		fault(census, "0x%" PRIx64 " extents end here, the pool does not", at);
	return n;
}

/* one node of a trie, and its ring */
static void check_node(struct census *census, uint32_t extent, struct size_class class)
{
	const struct extent_map *map = census->map;
	uint64_t offset = extent_offset(map, extent), size = extent_size(map, extent);
	struct size_class own = size_class_of(size / EXTENT_GRANULE);
	uint32_t ring = extent, n = 0;

	if (own.fl != class.fl || own.sl != class.sl)
		fault(census, "0x%" PRIx64 " gap is in another class's trie", offset);
	do {
		const struct extent_links *links = extent_links(map, ring);

		census->n_in_classes++;
		if (extent_state(map, ring) != EXTENT_GAP || extent_size(map, ring) != size)
			fault(census, "0x%" PRIx64 " ring of gaps holds what does not belong there", offset);
		if (ring != extent && links->parent != PARENT_RING)
			fault(census, "0x%" PRIx64 " gap is in a ring and in a trie", offset);
		if (extent_links(map, links->same_next)->same_prev != ring)
			fault(census, "0x%" PRIx64 " ring of gaps is torn", offset);
		ring = links->same_next;
	} while (ring != extent && n++ <= map->n_high);
}

/* depth first without recursion: the trie's own parent links lead back up */
static void check_trie(struct census *census, uint32_t fl, uint32_t sl)
{
	const struct extent_map *map = census->map;
	struct size_class class = {.fl = fl, .sl = sl};
	uint32_t node = map->class_root[fl][sl], from = PARENT_ROOT, next, n = 0;

	while (node != PARENT_ROOT && n++ <= 4 * map->n_high) {
		const struct extent_links *links = extent_links(map, node);

		if (from == links->parent)
			check_node(census, node, class);
		if (from == links->parent && links->child[0] != EXTENT_NONE)
			next = links->child[0];
		else if ((from == links->parent || from == links->child[0]) && links->child[1] != EXTENT_NONE &&
			 from != links->child[1])
			next = links->child[1];
		else
			next = links->parent;
		if (next != links->parent && extent_links(map, next)->parent != node) {
			fault(census, "0x%" PRIx64 " gap has a wrong parent", extent_offset(map, next));
			return;
		}
		from = node;
		node = next;
	}
}

static void check_classes(struct census *census)
{
	const struct extent_map *map = census->map;

	for (uint32_t fl = 0; fl < EXTENT_FL_N; fl++) {
		if ((map->fl_bits >> fl & 1) != !!map->sl_bits[fl])
			fault(census, "0x0 first-level bit %u is wrong", fl);
		for (uint32_t sl = 0; sl < EXTENT_SL_N; sl++) {
			bool is_empty = map->class_root[fl][sl] == EXTENT_NONE;

			if ((map->sl_bits[fl] >> sl & 1) != !is_empty)
				fault(census, "0x0 class bit %u/%u is wrong", fl, sl);
			if (!is_empty)
				check_trie(census, fl, sl);
		}
	}
	if (census->n_in_classes != census->n_gaps)
		fault(census, "0x0 %" PRIu64 " gaps, but %" PRIu64 " in classes", census->n_gaps, census->n_in_classes);
}

static void check_hash(struct census *census)
{
	const struct extent_map *map = census->map;
	uint64_t n = 0;

	for (uint32_t i = 0; i < map->n_buckets && n <= map->n_high; i++) {
		uint32_t extent = *(const uint32_t *)ledger_at(map->ledger, LEDGER_BUCKETS, i);

		for (; extent != EXTENT_NONE && n <= map->n_high; n++) {
			if (extent >= map->n_high || extent_state(map, extent) != EXTENT_LIVE) {
				fault(census, "0x0 bucket %u holds what is no block", i);
				return;
			}
			extent = extent_links(map, extent)->hash_next;
		}
	}
	if (n != map->n_hashed)
		fault(census, "0x0 %" PRIu64 " blocks in buckets, counted %u", n, map->n_hashed);
}

static void check_unused(struct census *census, uint32_t n_tiles)
{
	const struct extent_map *map = census->map;
	uint32_t n = 0;

	for (uint32_t i = map->unused; i != EXTENT_NONE && n <= map->n_high; i = extent_links(map, i)->unused_next) {
		if (i >= map->n_high || extent_state(map, i) != EXTENT_UNUSED) {
			fault(census, "0x0 chain of unused indexes holds %u, which is used", i);
			return;
		}
		n++;
	}
	if (n != map->n_unused || n + n_tiles != map->n_high)
		fault(census, "0x0 %u indexes used and %u unused of %u", n_tiles, n, map->n_high);
}

static void check_count(struct census *census, const char *what, uint64_t counted, uint64_t found)
{
	if (counted != found)
		fault(census, "0x0 %s: counted %" PRIu64 ", found %" PRIu64, what, counted, found);
}

unsigned extent_map_check(const struct extent_map *map, FILE *report)
{
	struct census census = {.map = map, .report = report};
	uint32_t n_tiles = check_tiles(&census);

	if (!census.n_faults) { /* the rest follows links that a torn map would lead astray */
		check_classes(&census);
		check_hash(&census);
		check_unused(&census, n_tiles);
	}
	check_count(&census, "blocks", map->n_live, census.n_live);
	check_count(&census, "blocks by offset", map->n_hashed, census.n_live);
	check_count(&census, "extents taken", map->n_taken, census.n_taken);
	check_count(&census, "gaps", map->n_gaps, census.n_gaps);
	check_count(&census, "free bytes", map->free_bytes, census.free_bytes);
	check_count(&census, "requested bytes", map->requested_bytes, census.requested_bytes);
	return census.n_faults;
}

void extent_map_dump(const struct extent_map *map, FILE *out)
{
	static const char *const names[EXTENT_STATE_N] = {"unused", "gap", "taken", "live", "leased"};

	for (uint32_t extent = map->head; extent != EXTENT_NONE; extent = extent_links(map, extent)->next)
		fprintf(out, "%10u 0x%012" PRIx64 " %14" PRIu64 " %-6s owner %d origin %" PRIu64 " flags %u slack %u\n",
			extent, extent_offset(map, extent), extent_size(map, extent), names[extent_state(map, extent)],
			(int)extent_owner(map, extent), extent_origin(map, extent), extent_flags(map, extent),
			extent_slack(map, extent));
}
