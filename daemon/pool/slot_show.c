// SPDX-License-Identifier: MIT
/* The slots of a slab, for people: each live one and whose it is, and what lies between them. */
#include "pool/pool_internal.h"

static uint32_t owner_of(const struct pool *pool, uint16_t word, uint64_t offset, uint32_t *extentp)
{
	const struct pool_member *member;

	*extentp = EXTENT_NONE;
	if (word == LEASE_PINNED && !extent_map_find(&pool->map, offset, extentp))
		return extent_owner(&pool->map, *extentp);
	member = heap_member(pool, lease_heap_of(word));
	return member ? member->index : POOL_OWNER;
}

uint32_t slots_visit(struct pool *pool, uint32_t extent, void (*visit)(void *arg, const struct slot_run *run),
		     void *arg)
{
	uint32_t id = extent_links(&pool->map, extent)->slab, n_slots = slab_record(pool, id)->n_slots;
	uint64_t base = extent_offset(&pool->map, extent), slot_bytes = slab_slot_bytes(pool, id);
	uint64_t end = base + extent_size(&pool->map, extent);
	struct slot_run idle = {.offset = base, .end = base, .owner = EXTENT_OWNER_NONE, .extent = EXTENT_NONE};
	uint16_t words[SLAB_SLOTS_MAX];
	struct slab_count count = {0};

	if (!slab_read(pool, id, words, &count))
		n_slots = 0;
	for (uint32_t i = 0; i < n_slots; i++) {
		struct slot_run live = {.offset = base + i * slot_bytes, .is_live = true};

		if (!lease_is_live(words[i]))
			continue;
		live.end = live.offset + slot_bytes;
		live.owner = owner_of(pool, words[i], live.offset, &live.extent);
		idle.end = live.offset;
		if (idle.end > idle.offset)
			visit(arg, &idle);
		visit(arg, &live);
		idle.offset = live.end;
	}
	idle.end = end;
	if (idle.end > idle.offset)
		visit(arg, &idle);
	return n_slots ? count.n_live : 0;
}
