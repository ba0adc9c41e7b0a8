#pragma once
// SPDX-License-Identifier: MIT
/*
 * extent_reference - what an extent map should be, as a sorted array: so naive that it is right by reading
 *
 * Knows what is where and whose; not where a new block should go: it is told, and says whether that was allowed.
 */
#include "alloc/extent.h"

struct reference_extent {
	uint64_t offset, size;
	uint64_t origin;
	uint64_t hung; /* a number that rises with every block put on an owner's list */
	enum extent_state state;
	unsigned flags;
	uint32_t slack, owner, since_s;
	uint32_t index; /* the map's name of it, unless it is a gap */
};

struct reference {
	struct reference_extent *extents; /* [n], by offset; no two gaps side by side */
	uint32_t n, n_room;
	uint64_t first_offset, total_bytes;
	uint64_t n_hung;
};

void reference_init(struct reference *reference, uint64_t first_offset, uint64_t total_bytes);
void reference_deinit(struct reference *reference);

/** reference_at() - position of the extent that contains @offset; n if none */
uint32_t reference_at(const struct reference *reference, uint64_t offset);
/** reference_fits() - whether some gap has room for @size bytes with (start + bias) a multiple of @alignment */
bool reference_fits(const struct reference *reference, uint64_t size, uint64_t alignment, uint64_t bias);
bool reference_fits_gap(const struct reference_extent *gap, uint64_t size, uint64_t alignment, uint64_t bias);
/** reference_best() - size of the smallest gap of at least @size bytes; 0 = none */
uint64_t reference_best(const struct reference *reference, uint64_t size);
/** reference_largest() - sizes of the largest gaps, largest first. Return: how many were stored */
uint32_t reference_largest(const struct reference *reference, uint64_t sizes[], uint32_t n_max);

/** reference_take() - the part [offset, offset + size) of one gap is TAKEN. Return: its position; n if that is no gap's part */
uint32_t reference_take(struct reference *reference, uint64_t offset, uint64_t size, uint32_t now_s);

enum {
	MERGED_LEFT = 1,
	MERGED_RIGHT = 2
};
/** reference_give() - @at becomes a gap. @mergedp: MERGED_*. Return: the position of the gap it is part of now */
uint32_t reference_give(struct reference *reference, uint32_t at, uint32_t now_s, unsigned *mergedp);
/** reference_resize() - Return: false if there is no room behind for it */
bool reference_resize(struct reference *reference, uint32_t at, uint64_t size, uint32_t now_s);
void reference_grow(struct reference *reference, uint64_t n_bytes, uint32_t now_s);

/** reference_compare() - the first difference between @map and @reference, into @what. Return: whether there is one */
bool reference_compare(const struct reference *reference, const struct extent_map *map, char what[static 160]);
/** reference_compare_owner() - the same of one owner's list */
bool reference_compare_owner(const struct reference *reference, const struct extent_map *map, uint32_t owner,
			     const struct extent_owner *list, char what[static 160]);
