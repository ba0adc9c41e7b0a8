#pragma once
// SPDX-License-Identifier: MIT
/*
 * viz_map - a pool's map, summarised while it is read, for pictures
 *
 * Extents come in by address, as many as there are; what is kept is bounded: all of them while they are few, else cells of equal
 * length, and always the owners, the largest gaps and the sums. Knows nothing of daemons, JSON or pictures.
 */
#include <stddef.h>
#include <stdint.h>

#include "proto/util.h"

#define VIZ_CELLS  3072 /* even; a picture of so many has some 600 KB */
#define VIZ_PIECES 2000 /* beyond that cells are drawn */
#define VIZ_GAPS   10
#define VIZ_POOL   0 /* as an owner: no session, the pool itself */

/** A range of a pool: an extent, or what lies next to each other and looks alike. used + idle + free = size. */
struct viz_piece {
	uint64_t offset, size; /* bytes */
	uint64_t used;	       /* of them live blocks */
	uint64_t idle;	       /* of them in leased slabs, without being live */
	uint64_t n_blocks;
	uint64_t owner; /* session of most of used and idle; VIZ_POOL. Of a gap: meaningless */
};

struct viz_owner {
	uint64_t session;	  /* or VIZ_POOL */
	uint64_t bytes, n_blocks; /* bytes: used and idle */
	uint64_t idle;
};

struct viz_gap {
	uint64_t offset, size;
};

#define VIZ_CANDIDATES 4 /* owners of one cell that are told apart; a fifth takes the place of the smallest */

struct viz_cell {
	uint64_t used, idle, n_blocks;
	uint64_t owners[VIZ_CANDIDATES], bytes[VIZ_CANDIDATES];
};

struct viz_map {	     /* {0} to begin with */
	uint64_t first, end; /* what came in */
	uint64_t used, idle, n_blocks, n_gaps;
	struct viz_owner *owners; /* [n_owners], by session until viz_map_settle(), then the pool, then by bytes */
	size_t n_owners, n_owners_room;
	struct viz_gap gaps[VIZ_GAPS]; /* the largest, the largest first */
	size_t n_gaps_kept;
	struct viz_piece *pieces; /* [n_pieces]: extents; after viz_map_settle() what is to be drawn */
	size_t n_pieces, n_pieces_room;
	uint64_t n_extents;
	struct viz_cell *cells; /* [VIZ_CELLS]; NULL while there was no extent */
	uint64_t cell_bytes;	/* a power of two, as small as lets all cells cover what came in */
};

/** viz_map_add() - the next extent by address, without a gap to the one before. Return: 0, -ENOMEM, -EINVAL: not next to it */
int viz_map_add(struct viz_map *map, const struct viz_piece *extent) MUST_CHECK;

/** viz_map_settle() - all came in: choose the pieces, sort the owners. Return: 0, -ENOMEM */
int viz_map_settle(struct viz_map *map) MUST_CHECK;

/** viz_map_rank() - place of @owner among the owners; n_owners: none */
size_t viz_map_rank(const struct viz_map *map, uint64_t owner);

void viz_map_deinit(struct viz_map *map);
