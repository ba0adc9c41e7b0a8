// SPDX-License-Identifier: MIT
/*
 * One slot, by request. Whatever a request does to a slot, it first *pins* it: the slot gets a record of its own and its word
 * becomes P, which only the daemon changes. From then on it is a block as any other: owner, retains, name, free. A pin alone
 * says nothing new: whose the block is, the record says as the word did.
 *
 *   pin      record, owned by whom the word named; commit      a kill here: a record whose word is not P, held by nobody else,
 *                                                               is dropped at recovery
 *            one CAS, L(k) or Q to P                            a kill here: pinned, and nothing else happened
 *            if it failed: the record goes; commit
 *   unpin    the record goes, with the answer; commit          a kill here: P without a record becomes C(0) at recovery
 *            one CAS, P to C(0)
 *
 * So a word that a request changes is changed either before anything else of the request is done, to something that says the
 * same; or after all of it is done and answered. A request that is asked again after a kill finds its answer, or a block that is
 * still its block: never a slot that is a stranger's by now.
 */
#include <errno.h>

#include "pool/pool_internal.h"

static int judge(struct pool *pool, struct slot *slot)
{
	const struct pool_member *member;

	if (!lease_is_sound(pool))
		return POOL_E_NO_BLOCK;
	if (lease_is_cached(slot->word))
		return POOL_E_FREED;
	if (slot->word == LEASE_POOLS) {
		slot->owner = POOL_OWNER;
		return 0;
	}
	member = heap_member(pool, lease_heap_of(slot->word));
	if (member && lease_is_live(slot->word)) {
		slot->owner = member->index;
		return 0;
	}
	if (slot->word != LEASE_PINNED && !lease_is_live(slot->word))
		lease_damage(pool, "a slot's word says what no word can");
	return POOL_E_NO_BLOCK;
}

int slot_look(struct pool *pool, uint64_t offset, int otherwise, struct slot *slotp)
{
	struct slot slot = {.offset = offset};
	uint64_t distance;

	if (offset < pool->guard_bytes || !slab_at(pool, offset - pool->guard_bytes, &slot.id))
		return otherwise ? otherwise : POOL_E_NO_BLOCK;
	slot.size = slab_slot_bytes(pool, slot.id);
	distance = offset - pool->guard_bytes - slab_base(pool, slot.id);
	if (distance % slot.size || distance / slot.size >= slab_record(pool, slot.id)->n_slots)
		return POOL_E_NO_BLOCK;
	slot.slot = (uint32_t)(distance / slot.size);
	slot.word = lease_word_read(lease_word_at(&pool->lease, slab_record(pool, slot.id)->first_word + slot.slot));
	*slotp = slot;
	return judge(pool, slotp);
}

_Atomic uint16_t *slot_word(const struct pool *pool, uint32_t id, uint32_t slot)
{
	return lease_word_at(&pool->lease, slab_record(pool, id)->first_word + slot);
}

int slot_pin(struct pool *pool, uint64_t offset, int otherwise, uint32_t *extentp)
{
	struct slot slot;
	uint32_t extent;
	int r = slot_look(pool, offset, otherwise, &slot);

	if (r)
		return r;
	assert(!pool->ledger.n_noted);
	if (!LEASE_RULE(RECORD_FIRST) &&
	    lease_word_swap(slot_word(pool, slot.id, slot.slot), slot.word, LEASE_PINNED)) {
		slot.word = LEASE_PINNED;
		LEASE_STEP("pinned", NULL);
	}
	r = block_begin_slot(pool, offset - pool->guard_bytes, slot.size, slot.owner, &extent);
	if (r)
		return r;
	extent_links(&pool->map, extent)->prev = slab_extent(pool, slot.id);
	pool_commit(pool);
	if (lease_word_swap(slot_word(pool, slot.id, slot.slot), slot.word, LEASE_PINNED)) {
		*extentp = extent;
		return 0;
	}
	block_cancel_slot(pool, extent);
	pool_commit(pool);
	return POOL_E_FREED; /* by its owner, just now; or taken: then it is not who asks that it is */
}

int slot_free_at_once(struct pool *pool, uint64_t offset)
{
	struct slot slot;
	int r = slot_look(pool, offset, 0, &slot);

	if (r)
		return r;
	if (!lease_word_swap(slot_word(pool, slot.id, slot.slot), slot.word, LEASE_FREE))
		return POOL_E_FREED;
	lease_hint_set(&lease_slab_at(&pool->lease, slot.id)->has_free, 1);
	pool->lease.free_total++;
	return 0;
}

bool slot_of_pinned(const struct pool *pool, uint32_t extent, uint32_t *idp, uint32_t *slotp)
{
	const struct extent_map *map = &pool->map;
	uint32_t slab = extent_links(map, extent)->prev;
	uint64_t distance, slot_bytes;

	if (slab >= map->n_high || extent_state(map, slab) != EXTENT_LEASED ||
	    !slab_exists(pool, extent_links(map, slab)->slab))
		return false;
	*idp = extent_links(map, slab)->slab;
	slot_bytes = slab_slot_bytes(pool, *idp);
	distance = extent_offset(map, extent) - extent_offset(map, slab); /* below its begin: huge */
	if (extent_size(map, extent) != slot_bytes || distance % slot_bytes ||
	    distance / slot_bytes >= slab_record(pool, *idp)->n_slots)
		return false;
	*slotp = (uint32_t)(distance / slot_bytes);
	return true;
}

void slot_release(struct pool *pool, uint32_t extent)
{
	struct lease *lease = &pool->lease;
	bool is_slot;

	assert(lease->n_released < N_ELEMENTS(lease->released));
	is_slot = slot_of_pinned(pool, extent, &lease->released[lease->n_released].id,
				 &lease->released[lease->n_released].slot);
	assert(is_slot);
	lease->n_released += is_slot;
	lease->free_total++;
	if (!LEASE_RULE(WORD_LAST))
		slot_release_now(pool);
}

void slot_release_now(struct pool *pool)
{
	struct lease *lease = &pool->lease;

	while (lease->n_released) {
		uint32_t id = lease->released[--lease->n_released].id, slot = lease->released[lease->n_released].slot;

		lease_word_swap(slot_word(pool, id, slot), LEASE_PINNED, LEASE_FREE);
		lease_hint_set(&lease_slab_at(lease, id)->has_free, 1);
	}
}

void slot_describe(const struct pool *pool, const struct slot *slot, struct pool_block *blockp)
{
	*blockp = (struct pool_block){
		.offset = slot->offset,
		.size = slot->size - 2 * pool->guard_bytes,
		.owner = session_of(pool, slot->owner),
		.origin = session_of(pool, slot->owner),
	};
}
