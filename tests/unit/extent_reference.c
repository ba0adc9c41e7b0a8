// SPDX-License-Identifier: MIT
#include "extent_reference.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WHAT_BYTES 160

static void insert(struct reference *reference, uint32_t at, struct reference_extent extent)
{
	if (reference->n == reference->n_room) {
		reference->n_room = reference->n_room ? 2 * reference->n_room : 64;
		reference->extents = realloc(reference->extents, reference->n_room * sizeof(struct reference_extent));
		assert(reference->extents);
	}
	memmove(reference->extents + at + 1, reference->extents + at,
		(reference->n - at) * sizeof(struct reference_extent));
	reference->extents[at] = extent;
	reference->n++;
}

static void insert_gap(struct reference *reference, uint32_t at, uint64_t offset, uint64_t size, uint32_t since_s)
{
	insert(reference, at,
	       (struct reference_extent){.offset = offset,
					 .size = size,
					 .state = EXTENT_GAP,
					 .owner = EXTENT_OWNER_NONE,
					 .since_s = since_s,
					 .index = EXTENT_NONE});
}

static void delete (struct reference *reference, uint32_t at)
{
	reference->n--;
	memmove(reference->extents + at, reference->extents + at + 1,
		(reference->n - at) * sizeof(struct reference_extent));
}

static bool is_gap(const struct reference *reference, uint32_t at)
{
	return at < reference->n && reference->extents[at].state == EXTENT_GAP;
}

void reference_init(struct reference *reference, uint64_t first_offset, uint64_t total_bytes)
{
	*reference = (struct reference){.first_offset = first_offset, .total_bytes = total_bytes};
	insert_gap(reference, 0, first_offset, total_bytes, 0);
}

void reference_deinit(struct reference *reference)
{
	free(reference->extents);
	*reference = (struct reference){0};
}

uint32_t reference_at(const struct reference *reference, uint64_t offset)
{
	uint32_t low = 0,
		 high = reference->n; /* extents below low begin at or below offset, those from high on above */

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (reference->extents[middle].offset <= offset)
			low = middle + 1;
		else
			high = middle;
	}
	return low && offset - reference->extents[low - 1].offset < reference->extents[low - 1].size ? low - 1
												     : reference->n;
}

bool reference_fits_gap(const struct reference_extent *gap, uint64_t size, uint64_t alignment, uint64_t bias)
{
	uint64_t skip = (alignment - (gap->offset + bias) % alignment) % alignment;

	return skip + size <= gap->size;
}

bool reference_fits(const struct reference *reference, uint64_t size, uint64_t alignment, uint64_t bias)
{
	for (uint32_t i = 0; i < reference->n; i++)
		if (is_gap(reference, i) && reference_fits_gap(&reference->extents[i], size, alignment, bias))
			return true;
	return false;
}

uint64_t reference_best(const struct reference *reference, uint64_t size)
{
	uint64_t best = 0;

	for (uint32_t i = 0; i < reference->n; i++) {
		const struct reference_extent *gap = &reference->extents[i];

		if (is_gap(reference, i) && gap->size >= size && (!best || gap->size < best))
			best = gap->size;
	}
	return best;
}

uint32_t reference_largest(const struct reference *reference, uint64_t sizes[], uint32_t n_max)
{
	uint32_t n = 0, to;

	for (uint32_t i = 0; i < reference->n; i++) {
		uint64_t size = reference->extents[i].size;

		if (!is_gap(reference, i) || (n == n_max && size <= sizes[n - 1]))
			continue;
		to = n < n_max ? n++ : n - 1;
		for (; to && sizes[to - 1] < size; to--)
			sizes[to] = sizes[to - 1];
		sizes[to] = size;
	}
	return n;
}

uint32_t reference_take(struct reference *reference, uint64_t offset, uint64_t size, uint32_t now_s)
{
	uint32_t at = reference_at(reference, offset);
	struct reference_extent gap;

	if (!is_gap(reference, at) ||
	    !range_fits(offset - reference->extents[at].offset, size, reference->extents[at].size))
		return reference->n;
	gap = reference->extents[at];
	delete (reference, at);
	if (offset > gap.offset)
		insert_gap(reference, at++, gap.offset, offset - gap.offset, gap.since_s);
	if (offset + size < gap.offset + gap.size)
		insert_gap(reference, at, offset + size, gap.offset + gap.size - offset - size, gap.since_s);
	insert(reference, at,
	       (struct reference_extent){.offset = offset,
					 .size = size,
					 .state = EXTENT_TAKEN,
					 .owner = EXTENT_OWNER_NONE,
					 .since_s = now_s});
	return at;
}

uint32_t reference_give(struct reference *reference, uint32_t at, uint32_t now_s, unsigned *mergedp)
{
	struct reference_extent old = reference->extents[at];
	unsigned merged = 0;

	delete (reference, at);
	if (is_gap(reference, at)) {
		old.size += reference->extents[at].size;
		delete (reference, at);
		merged |= MERGED_RIGHT;
	}
	if (at && is_gap(reference, at - 1)) {
		old.offset = reference->extents[--at].offset;
		old.size += reference->extents[at].size;
		delete (reference, at);
		merged |= MERGED_LEFT;
	}
	insert_gap(reference, at, old.offset, old.size, now_s);
	*mergedp = merged;
	return at;
}

bool reference_resize(struct reference *reference, uint32_t at, uint64_t size, uint32_t now_s)
{
	struct reference_extent *block = &reference->extents[at];
	uint64_t old_end = block->offset + block->size, end = block->offset + size, gap_end = old_end;
	uint32_t since_s = now_s;

	if (is_gap(reference, at + 1))
		gap_end = old_end + block[1].size;
	if (end > gap_end)
		return false;
	if (end == old_end)
		return true;
	block->size = size;
	if (gap_end > old_end) {
		if (end > old_end) /* a gap that only got smaller is as old as before */
			since_s = block[1].since_s;
		delete (reference, at + 1);
	}
	if (gap_end > end)
		insert_gap(reference, at + 1, end, gap_end - end, since_s);
	return true;
}

void reference_grow(struct reference *reference, uint64_t n_bytes, uint32_t now_s)
{
	uint64_t offset = reference->first_offset + reference->total_bytes;

	reference->total_bytes += n_bytes;
	if (is_gap(reference, reference->n - 1)) {
		reference->n--;
		offset = reference->extents[reference->n].offset;
	}
	insert_gap(reference, reference->n, offset, reference->first_offset + reference->total_bytes - offset, now_s);
}

/* ---- comparison ---- */

static bool differs(char what[static WHAT_BYTES], uint64_t offset, const char *name, uint64_t is, uint64_t should)
{
	if (is == should)
		return false;
	snprintf(what, WHAT_BYTES, "0x%" PRIx64 ": %s is %" PRIu64 ", should be %" PRIu64, offset, name, is, should);
	return true;
}

static bool compare_one(const struct reference_extent *e, const struct extent_map *map, uint32_t extent,
			char what[static WHAT_BYTES])
{
	if (differs(what, e->offset, "offset", extent_offset(map, extent), e->offset) ||
	    differs(what, e->offset, "size", extent_size(map, extent), e->size) ||
	    differs(what, e->offset, "state", extent_state(map, extent), e->state) ||
	    differs(what, e->offset, "since", extent_since(map, extent), e->since_s) ||
	    differs(what, e->offset, "owner", extent_owner(map, extent), e->owner))
		return true;
	return e->state != EXTENT_GAP && (differs(what, e->offset, "index", extent, e->index) ||
					  differs(what, e->offset, "flags", extent_flags(map, extent), e->flags) ||
					  differs(what, e->offset, "slack", extent_slack(map, extent), e->slack) ||
					  differs(what, e->offset, "origin", extent_origin(map, extent), e->origin));
}

bool reference_compare(const struct reference *reference, const struct extent_map *map, char what[static WHAT_BYTES])
{
	uint64_t n_gaps = 0, n_live = 0, n_taken = 0, free_bytes = 0, requested_bytes = 0;
	uint32_t extent = map->head, n = 0;

	for (; extent != EXTENT_NONE && n < reference->n; extent = extent_map_next(map, extent)) {
		const struct reference_extent *e = &reference->extents[n++];

		if (compare_one(e, map, extent, what))
			return true;
		n_gaps += e->state == EXTENT_GAP;
		n_live += e->state == EXTENT_LIVE;
		n_taken += e->state == EXTENT_TAKEN;
		free_bytes += e->state == EXTENT_GAP ? e->size : 0;
		requested_bytes += e->state == EXTENT_GAP ? 0 : e->size - e->slack;
	}
	return differs(what, 0, "end reached", extent == EXTENT_NONE, true) ||
	       differs(what, 0, "n_extents", n, reference->n) || differs(what, 0, "n_gaps", map->n_gaps, n_gaps) ||
	       differs(what, 0, "n_live", map->n_live, n_live) || differs(what, 0, "n_taken", map->n_taken, n_taken) ||
	       differs(what, 0, "free_bytes", map->free_bytes, free_bytes) ||
	       differs(what, 0, "requested_bytes", map->requested_bytes, requested_bytes) ||
	       differs(what, 0, "total_bytes", map->total_bytes, reference->total_bytes);
}

bool reference_compare_owner(const struct reference *reference, const struct extent_map *map, uint32_t owner,
			     const struct extent_owner *list, char what[static WHAT_BYTES])
{
	uint64_t n_blocks = 0, n_bytes = 0, n_listed = 0, last_hung = UINT64_MAX;

	for (uint32_t i = 0; i < reference->n; i++)
		if (reference->extents[i].state == EXTENT_LIVE && reference->extents[i].owner == owner) {
			n_blocks++;
			n_bytes += reference->extents[i].size;
		}
	for (uint32_t extent = list->head; extent != EXTENT_NONE && n_listed <= n_blocks; n_listed++) {
		uint64_t offset = extent_offset(map, extent);
		uint32_t at = reference_at(reference, offset);

		if (differs(what, offset, "listed block there", at < reference->n, true) ||
		    differs(what, offset, "index of a listed block", extent, reference->extents[at].index) ||
		    differs(what, offset, "owner of a listed block", reference->extents[at].owner, owner) ||
		    differs(what, offset, "newest first", reference->extents[at].hung < last_hung, true))
			return true;
		last_hung = reference->extents[at].hung;
		extent = extent_links(map, extent)->owner_next;
	}
	return differs(what, owner, "owner's blocks listed", n_listed, n_blocks) ||
	       differs(what, owner, "owner's n_blocks", list->n_blocks, n_blocks) ||
	       differs(what, owner, "owner's n_bytes", list->n_bytes, n_bytes);
}
