// SPDX-License-Identifier: MIT
/*
 * Gaps by size: 32 classes for each power of two, and in each class a bitwise trie on the low bits of the size.
 *
 * A node of the trie at depth d shares the d highest of its class's varying bits with everything below it; its own size is
 * any with those bits. So a class of sizes that differ in n bits is at most n deep, sizes in child[1] are above sizes in
 * child[0], and the smallest size that fits lies on the path of the wanted size or on the left edge of the deepest right
 * branch that the path passed by. Gaps of one size form a ring, of which one is in the trie.
 */
#include "alloc/extent_internal.h"

static uint64_t granules(const struct extent_map *map, uint32_t extent)
{
	return extent_size(map, extent) / EXTENT_GRANULE;
}

struct size_class size_class_of(uint64_t n)
{
	unsigned msb;

	if (n < EXTENT_SL_N)
		return (struct size_class){.fl = 0, .sl = (uint32_t)n, .n_bits = 0};
	msb = 63u - (unsigned)__builtin_clzll(n);
	return (struct size_class){
		.fl = msb - 4, .sl = (uint32_t)(n >> (msb - 5)) & (EXTENT_SL_N - 1), .n_bits = msb - 5};
}

/* ---- rings and the trie ---- */

static void ring_insert(struct extent_map *map, uint32_t at, uint32_t extent)
{
	struct extent_links *links = extent_links(map, extent), *head = extent_links(map, at);

	links->same_prev = at;
	links->same_next = head->same_next;
	extent_links(map, head->same_next)->same_prev = extent;
	head->same_next = extent;
}

static void ring_remove(struct extent_map *map, uint32_t extent)
{
	struct extent_links *links = extent_links(map, extent);

	extent_links(map, links->same_prev)->same_next = links->same_next;
	extent_links(map, links->same_next)->same_prev = links->same_prev;
}

/* where the trie points to @extent from */
static uint32_t *slot_of(struct extent_map *map, uint32_t extent)
{
	uint32_t parent = extent_links(map, extent)->parent;
	struct size_class class;
	uint32_t *child;

	if (parent == PARENT_ROOT) {
		class = size_class_of(granules(map, extent));
		return &map->class_root[class.fl][class.sl];
	}
	child = extent_links(map, parent)->child;
	return child[0] == extent ? &child[0] : &child[1];
}

static void class_mark(struct extent_map *map, struct size_class class)
{
	map->sl_bits[class.fl] |= 1u << class.sl;
	map->fl_bits |= UINT64_C(1) << class.fl;
}

static void class_unmark(struct extent_map *map, struct size_class class)
{
	map->sl_bits[class.fl] &= ~(1u << class.sl);
	if (!map->sl_bits[class.fl])
		map->fl_bits &= ~(UINT64_C(1) << class.fl);
}

void gap_insert(struct extent_map *map, uint32_t extent)
{
	struct extent_links *links = extent_links(map, extent);
	uint64_t n = granules(map, extent);
	struct size_class class = size_class_of(n);
	uint32_t *slot = &map->class_root[class.fl][class.sl];
	uint32_t parent = PARENT_ROOT, bit = class.n_bits;

	map->n_gaps++;
	map->free_bytes += n * EXTENT_GRANULE;
	links->child[0] = links->child[1] = EXTENT_NONE;
	links->same_prev = links->same_next = extent;
	while (*slot != EXTENT_NONE) {
		if (granules(map, *slot) == n) {
			ring_insert(map, *slot, extent);
			links->parent = PARENT_RING;
			return;
		}
		parent = *slot;
		slot = &extent_links(map, parent)->child[n >> --bit & 1];
	}
	*slot = extent;
	links->parent = parent;
	if (parent == PARENT_ROOT)
		class_mark(map, class);
}

/* any leaf at or below @extent */
static uint32_t leaf_below(const struct extent_map *map, uint32_t extent)
{
	for (;;) {
		const struct extent_links *links = extent_links(map, extent);

		if (links->child[1] != EXTENT_NONE)
			extent = links->child[1];
		else if (links->child[0] != EXTENT_NONE)
			extent = links->child[0];
		else
			return extent;
	}
}

/* @heir takes the place of @extent in the trie; it is in no other place */
static void trie_replace(struct extent_map *map, uint32_t extent, uint32_t heir)
{
	struct extent_links *links = extent_links(map, extent), *to = extent_links(map, heir);

	*slot_of(map, extent) = heir;
	to->parent = links->parent;
	for (int i = 0; i < 2; i++) {
		to->child[i] = links->child[i];
		if (to->child[i] != EXTENT_NONE)
			extent_links(map, to->child[i])->parent = heir;
	}
}

void gap_remove(struct extent_map *map, uint32_t extent)
{
	struct extent_links *links = extent_links(map, extent);
	uint32_t heir;

	map->n_gaps--;
	map->free_bytes -= extent_size(map, extent);
	if (links->parent == PARENT_RING) {
		ring_remove(map, extent);
		return;
	}
	if (links->same_next != extent) {
		heir = links->same_next;
		ring_remove(map, extent);
		trie_replace(map, extent, heir);
		return;
	}
	heir = leaf_below(map, extent);
	*slot_of(map, heir) = EXTENT_NONE;
	if (heir != extent)
		trie_replace(map, extent, heir);
	else if (links->parent == PARENT_ROOT)
		class_unmark(map, size_class_of(granules(map, extent)));
}

/* ---- search ---- */

static uint32_t edge_below(const struct extent_map *map, uint32_t node, uint32_t side)
{
	const struct extent_links *links = extent_links(map, node);

	return links->child[side] != EXTENT_NONE ? links->child[side] : links->child[!side];
}

/*
 * The size of a class nearest to @n granules: side 0: the smallest >= n; side 1: the largest <= n. The two are mirror images.
 * A node fits if it is on the right side of n, and is better if nearer.
 */
static uint32_t class_nearest(const struct extent_map *map, struct size_class class, uint64_t n, uint32_t side)
{
	uint32_t node = map->class_root[class.fl][class.sl], best = EXTENT_NONE, passed = EXTENT_NONE;
	uint64_t best_distance = UINT64_MAX;
	uint32_t bit = class.n_bits;
	bool on_path = true;

	while (node != EXTENT_NONE) {
		uint64_t have = granules(map, node);
		uint64_t distance = side ? n - have : have - n; /* wraps to huge where it does not fit */

		if (distance < best_distance && (side ? have <= n : have >= n)) {
			best = node;
			best_distance = distance;
			if (!distance)
				break;
		}
		if (on_path) {
			const uint32_t *child = extent_links(map, node)->child;
			uint32_t turn = bit ? (uint32_t)(n >> --bit & 1) : 0;

			if (turn == side && child[!side] != EXTENT_NONE)
				passed = child[!side];
			node = child[turn];
			if (node == EXTENT_NONE) {
				node = passed;
				on_path = false;
			}
		} else {
			node = edge_below(map, node, side);
		}
	}
	return best;
}

/* the end of a non-empty class: side 0 its smallest, side 1 its largest */
static uint32_t class_edge(const struct extent_map *map, uint32_t fl, uint32_t sl, uint32_t side)
{
	uint32_t node = map->class_root[fl][sl], best = node;

	for (node = edge_below(map, node, side); node != EXTENT_NONE; node = edge_below(map, node, side))
		if (side ? extent_size(map, node) > extent_size(map, best)
			 : extent_size(map, node) < extent_size(map, best))
			best = node;
	return best;
}

uint32_t gap_best_fit(const struct extent_map *map, uint64_t size)
{
	uint64_t n = size / EXTENT_GRANULE, fl_bits;
	struct size_class class = size_class_of(n);
	uint32_t found, sl_bits, fl = class.fl;

	if (fl >= EXTENT_FL_N)
		return EXTENT_NONE;
	if (map->sl_bits[fl] >> class.sl & 1) {
		found = class_nearest(map, class, n, 0);
		if (found != EXTENT_NONE)
			return found;
	}
	sl_bits = class.sl == EXTENT_SL_N - 1 ? 0 : map->sl_bits[fl] & (UINT32_MAX << (class.sl + 1));
	if (!sl_bits) {
		fl_bits = map->fl_bits & (UINT64_MAX << (fl + 1));
		if (!fl_bits)
			return EXTENT_NONE;
		fl = (uint32_t)__builtin_ctzll(fl_bits);
		sl_bits = map->sl_bits[fl];
	}
	return class_edge(map, fl, (uint32_t)__builtin_ctz(sl_bits), 0);
}

uint64_t extent_map_largest_gap(const struct extent_map *map)
{
	uint32_t fl;

	if (!map->fl_bits)
		return 0;
	fl = 63u - (uint32_t)__builtin_clzll(map->fl_bits);
	return extent_size(map, class_edge(map, fl, 31u - (uint32_t)__builtin_clz(map->sl_bits[fl]), 1));
}

/* the largest gap of at most @n granules */
static uint32_t gap_at_most(const struct extent_map *map, uint64_t n)
{
	struct size_class class = size_class_of(n);
	uint32_t fl = class.fl, sl_bits, found;
	uint64_t fl_bits;

	if (map->sl_bits[fl] >> class.sl & 1) {
		found = class_nearest(map, class, n, 1);
		if (found != EXTENT_NONE)
			return found;
	}
	sl_bits = map->sl_bits[fl] & ((1u << class.sl) - 1);
	if (!sl_bits) {
		fl_bits = map->fl_bits & ((UINT64_C(1) << fl) - 1);
		if (!fl_bits)
			return EXTENT_NONE;
		fl = 63u - (uint32_t)__builtin_clzll(fl_bits);
		sl_bits = map->sl_bits[fl];
	}
	return class_edge(map, fl, 31u - (uint32_t)__builtin_clz(sl_bits), 1);
}

uint32_t extent_map_largest_gaps(const struct extent_map *map, uint32_t extents[], uint32_t n_max)
{
	uint64_t n = extent_map_largest_gap(map) / EXTENT_GRANULE;
	uint32_t n_found = 0;

	while (n && n_found < n_max) {
		uint32_t head = gap_at_most(map, n), gap = head;

		if (head == EXTENT_NONE)
			break;
		do {
			extents[n_found++] = gap;
			gap = extent_links(map, gap)->same_next;
		} while (gap != head && n_found < n_max);
		n = granules(map, head) - 1;
	}
	return n_found;
}
