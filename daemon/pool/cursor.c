// SPDX-License-Identifier: MIT
/*
 * A walk over a map that changes under it. The mutex is let go of between steps; what keeps the place is the offset, and
 * beside it an index that is corrected whenever that index is about to vanish. So going on takes as many steps as there
 * were changes near by, not a walk from the beginning; and the search itself is done in steps, for whoever comes with
 * a hint that is no good.
 *
 *   taking   keeps the index of the gap: nothing to correct
 *   giving   keeps the index of the extent and swallows the gaps beside it
 *   resizing replaces the gap behind
 *   growing  may swallow the last gap
 */
#include "pool/pool_internal.h"

static uint64_t distance(const struct pool *pool, uint32_t extent, uint64_t offset)
{
	uint64_t at = extent_offset(&pool->map, extent);

	return at > offset ? at - offset : offset - at;
}

static bool is_used(const struct pool *pool, uint32_t extent)
{
	return extent < pool->map.n_high && extent_state(&pool->map, extent) != EXTENT_UNUSED;
}

void cursor_begin(struct pool *pool, struct cursor *cursor, uint64_t offset, uint32_t hint)
{
	uint32_t nearest = pool->map.head;

	if (distance(pool, pool->map.tail, offset) < distance(pool, nearest, offset))
		nearest = pool->map.tail;
	if (is_used(pool, hint) && distance(pool, hint, offset) < distance(pool, nearest, offset))
		nearest = hint;
	*cursor = (struct cursor){.offset = offset, .extent = nearest, .next = pool->cursors};
	pool->cursors = cursor;
}

void cursor_end(struct pool *pool, struct cursor *cursor)
{
	struct cursor **place = &pool->cursors;

	while (*place != cursor)
		place = &(*place)->next;
	*place = cursor->next;
}

bool cursor_seek(struct pool *pool, struct cursor *cursor, struct step *step)
{
	const struct extent_map *map = &pool->map;
	uint64_t begin;

	assert(cursor->offset >= map->first_offset && cursor->offset < map_end(pool));
	for (;;) {
		begin = extent_offset(map, cursor->extent);
		if (cursor->offset < begin)
			cursor->extent = extent_links(map, cursor->extent)->prev;
		else if (cursor->offset - begin >= extent_size(map, cursor->extent))
			cursor->extent = extent_map_next(map, cursor->extent);
		else
			return true;
		if (step_is_over(step))
			return false;
	}
}

void cursor_move(struct pool *pool, uint32_t from, uint32_t to)
{
	for (struct cursor *cursor = pool->cursors; cursor; cursor = cursor->next)
		if (cursor->extent == from)
			cursor->extent = to;
}
