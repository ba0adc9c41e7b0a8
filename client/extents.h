#pragma once
// SPDX-License-Identifier: MIT
/* extents - a walk over a pool's map, page by page */
#include "client/pool.h"

struct extents {
	struct mempool_pool *pool;
	bool with_slots;  /* list live slots too */
	struct call call; /* the present page */
	const Mempool__Wire__ListExtentsReply *page;
	uint64_t from, hint;
};

/** extents_page() - the next page; the one before is gone. Return: 1 there is one, 0 that was all, or a negative errno */
int extents_page(struct extents *extents, const char *asked);
void extents_deinit(struct extents *extents);
/** extents_write_json() - the whole map as one JSON document; @with_slots: with each live slot */
int extents_write_json(struct mempool_pool *pool, FILE *stream, bool with_slots);
/** extents_write_blocks() - each live block, one a line, for people */
int extents_write_blocks(struct mempool_pool *pool, FILE *stream);
