// SPDX-License-Identifier: MIT
/*
 * Cells: there are always VIZ_CELLS of them, from the first extent on. One that reaches behind the last cell folds them: each pair
 * becomes one, of twice the length. So nobody has to know the pool's size beforehand, and a pool that grows while it is read
 * is no special case.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/viz_map.h"

#define CELL_BYTES_MIN 16 /* a pool's granule */
#define SHADES	       8  /* cells whose share of used bytes differs by less than an eighth look alike */

/* room_for() - Return: @array with room for one more after @n; NULL without memory, and nothing changed */
static void *room_for(void *array, size_t n, size_t *n_roomp, size_t element_bytes)
{
	size_t n_room = *n_roomp ? 2 * *n_roomp : 64;

	if (n < *n_roomp)
		return array;
	array = reallocarray(array, n_room, element_bytes);
	if (array)
		*n_roomp = n_room;
	return array;
}

/* ---- owners ---- */

/* owner_find() - the place of @session, or where it would stand */
static size_t owner_find(const struct viz_map *map, uint64_t session)
{
	size_t low = 0, high = map->n_owners;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (map->owners[middle].session < session)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static int owner_add(struct viz_map *map, const struct viz_piece *extent)
{
	size_t at = owner_find(map, extent->owner);
	struct viz_owner *owners;

	if (at == map->n_owners || map->owners[at].session != extent->owner) {
		owners = room_for(map->owners, map->n_owners, &map->n_owners_room, sizeof(*owners));
		if (!owners)
			return -ENOMEM;
		map->owners = owners;
		memmove(owners + at + 1, owners + at, (map->n_owners - at) * sizeof(*owners));
		owners[at] = (struct viz_owner){.session = extent->owner};
		map->n_owners++;
	}
	map->owners[at].bytes += extent->used + extent->idle;
	map->owners[at].idle += extent->idle;
	map->owners[at].n_blocks += extent->n_blocks;
	return 0;
}

static int by_bytes(const void *a, const void *b)
{
	const struct viz_owner *x = a, *y = b;

	if (x->session == VIZ_POOL || y->session == VIZ_POOL)
		return x->session == VIZ_POOL ? -1 : 1; /* never among those that a legend leaves out */
	if (x->bytes != y->bytes)
		return x->bytes > y->bytes ? -1 : 1;
	return x->session < y->session ? -1 : x->session > y->session;
}

size_t viz_map_rank(const struct viz_map *map, uint64_t owner)
{
	size_t rank = 0;

	while (rank < map->n_owners && map->owners[rank].session != owner)
		rank++;
	return rank;
}

/* ---- gaps ---- */

static void gap_add(struct viz_map *map, uint64_t offset, uint64_t size)
{
	size_t at = map->n_gaps_kept;

	map->n_gaps++;
	while (at && map->gaps[at - 1].size < size)
		at--;
	if (at == VIZ_GAPS)
		return;
	if (map->n_gaps_kept < VIZ_GAPS)
		map->n_gaps_kept++;
	memmove(map->gaps + at + 1, map->gaps + at, (map->n_gaps_kept - 1 - at) * sizeof(map->gaps[0]));
	map->gaps[at] = (struct viz_gap){offset, size};
}

/* ---- cells ---- */

static void cell_charge(struct viz_cell *cell, uint64_t owner, uint64_t bytes)
{
	unsigned least = 0;

	for (unsigned i = 0; i < VIZ_CANDIDATES; i++) {
		if (cell->bytes[i] && cell->owners[i] == owner) {
			cell->bytes[i] += bytes;
			return;
		}
		if (cell->bytes[i] < cell->bytes[least])
			least = i;
	}
	if (cell->bytes[least] >= bytes)
		return;
	cell->owners[least] = owner;
	cell->bytes[least] = bytes;
}

static void cell_merge(struct viz_cell *to, const struct viz_cell *from)
{
	to->used += from->used;
	to->idle += from->idle;
	to->n_blocks += from->n_blocks;
	for (unsigned i = 0; i < VIZ_CANDIDATES; i++) {
		if (from->bytes[i])
			cell_charge(to, from->owners[i], from->bytes[i]);
	}
}

static void fold(struct viz_map *map)
{
	for (size_t i = 0; i < VIZ_CELLS / 2; i++) {
		struct viz_cell pair = map->cells[2 * i];

		cell_merge(&pair, &map->cells[2 * i + 1]);
		map->cells[i] = pair;
	}
	memset(map->cells + VIZ_CELLS / 2, 0, VIZ_CELLS / 2 * sizeof(map->cells[0]));
	map->cell_bytes *= 2;
}

/* part_of() - the part of @whole that @part of @all stands for; rounded down */
static uint64_t part_of(uint64_t whole, uint64_t part, uint64_t all)
{
	return (uint64_t)((unsigned __int128)whole * part / all);
}

/* cells_add() - spread the extent over the cells that it reaches, by length; a single block counts where it ends */
static void cells_add(struct viz_map *map, const struct viz_piece *extent)
{
	uint64_t at = extent->offset - map->first, end = at + extent->size, used = 0, idle = 0, n_blocks = 0, done = 0;

	while (end > VIZ_CELLS * map->cell_bytes)
		fold(map);
	while (at < end) {
		struct viz_cell *cell = &map->cells[at / map->cell_bytes];
		uint64_t next = round_down(at, map->cell_bytes) + map->cell_bytes;

		if (next > end)
			next = end;
		done += next - at; /* sums are cut, not parts: so nothing is lost in rounding */
		cell->used += part_of(extent->used, done, extent->size) - used;
		cell->idle += part_of(extent->idle, done, extent->size) - idle;
		cell->n_blocks += part_of(extent->n_blocks, done, extent->size) - n_blocks;
		used = part_of(extent->used, done, extent->size);
		idle = part_of(extent->idle, done, extent->size);
		n_blocks = part_of(extent->n_blocks, done, extent->size);
		if (extent->used + extent->idle)
			cell_charge(cell, extent->owner, next - at);
		at = next;
	}
}

/* ---- in and out ---- */

int viz_map_add(struct viz_map *map, const struct viz_piece *extent)
{
	struct viz_piece *pieces;

	if (!map->cells) {
		map->cells = calloc(VIZ_CELLS, sizeof(map->cells[0]));
		if (!map->cells)
			return -ENOMEM;
		map->cell_bytes = CELL_BYTES_MIN;
		map->first = map->end = extent->offset;
	}
	if (extent->offset != map->end || !extent->size || extent->size > UINT64_MAX / 4 - map->end ||
	    extent->used > extent->size || extent->idle > extent->size - extent->used)
		return -EINVAL;
	if (extent->used + extent->idle && owner_add(map, extent))
		return -ENOMEM;
	if (map->n_extents < VIZ_PIECES) {
		pieces = room_for(map->pieces, map->n_pieces, &map->n_pieces_room, sizeof(*pieces));
		if (!pieces)
			return -ENOMEM;
		map->pieces = pieces;
		pieces[map->n_pieces++] = *extent;
	}
	if (!(extent->used + extent->idle))
		gap_add(map, extent->offset, extent->size);
	cells_add(map, extent);
	map->n_extents++;
	map->end += extent->size;
	map->used += extent->used;
	map->idle += extent->idle;
	map->n_blocks += extent->n_blocks;
	return 0;
}

static struct viz_piece piece_of_cell(const struct viz_map *map, size_t index)
{
	const struct viz_cell *cell = &map->cells[index];
	uint64_t offset = map->first + index * map->cell_bytes, left = map->end - offset, most = 0;
	struct viz_piece piece = {
		.offset = offset,
		.size = left < map->cell_bytes ? left : map->cell_bytes,
		.used = cell->used,
		.idle = cell->idle,
		.n_blocks = cell->n_blocks,
	};

	for (unsigned i = 0; i < VIZ_CANDIDATES; i++) {
		if (cell->bytes[i] > most) {
			most = cell->bytes[i];
			piece.owner = cell->owners[i];
		}
	}
	return piece;
}

static unsigned shade_of(uint64_t part, uint64_t size)
{
	return !part ? 0 : part == size ? SHADES + 1 : 1 + (unsigned)part_of(SHADES - 1, part, size);
}

static bool looks_alike(const struct viz_piece *a, const struct viz_piece *b)
{
	return a->owner == b->owner && shade_of(a->used, a->size) == shade_of(b->used, b->size) &&
	       shade_of(a->idle, a->size) == shade_of(b->idle, b->size);
}

static int settle_cells(struct viz_map *map)
{
	size_t n_cells = (size_t)((map->end - map->first + map->cell_bytes - 1) / map->cell_bytes), n = 0;
	struct viz_piece *pieces = malloc(n_cells * sizeof(*pieces));

	if (!pieces)
		return -ENOMEM;
	for (size_t i = 0; i < n_cells; i++) {
		struct viz_piece piece = piece_of_cell(map, i);

		if (n && looks_alike(&pieces[n - 1], &piece)) {
			pieces[n - 1].size += piece.size;
			pieces[n - 1].used += piece.used;
			pieces[n - 1].idle += piece.idle;
			pieces[n - 1].n_blocks += piece.n_blocks;
		} else {
			pieces[n++] = piece;
		}
	}
	free(map->pieces);
	map->pieces = pieces;
	map->n_pieces = map->n_pieces_room = n;
	return 0;
}

int viz_map_settle(struct viz_map *map)
{
	if (map->n_owners)
		qsort(map->owners, map->n_owners, sizeof(map->owners[0]), by_bytes);
	return map->n_extents > VIZ_PIECES ? settle_cells(map) : 0;
}

void viz_map_deinit(struct viz_map *map)
{
	free(map->owners);
	free(map->pieces);
	free(map->cells);
	*map = (struct viz_map){0};
}
