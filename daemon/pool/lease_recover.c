// SPDX-License-Identifier: MIT
/*
 * Leases after a restart. The ledger says what a slab is and whose a number is; from it the copy for clients is written again:
 * descriptors, page map, the table of heaps. Clients go on meanwhile, so that only what differs is stored, and words of slabs are
 * never made new.
 *
 *   descriptor    of an id that is no slab: none, custody ours, if it was ever written; else as the record says, custody of a daemon or of nobody: idle
 *   P             without a record: C(0): its end was committed, and this was left to do (slot.c)
 *   a record      whose word is not P, retained and named by nobody: dropped: a pin that went no further. Else damage
 *
 * Done again after a kill in the middle, it does the same.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "pool/pool_internal.h"

#define PAGE LEASE_PAGE_BYTES

/* ---- heaps ---- */

static int recover_heap(struct pool *pool, uint32_t i)
{
	struct lease *lease = &pool->lease;
	uint64_t what = heap_record(pool, i)->what;
	uint32_t high = (uint32_t)(what >> 32);
	struct pool_member *member = NULL;
	int r;

	if (heap_state(pool, i) > HEAP_QUARANTINED || (heap_state(pool, i) != HEAP_UNUSED && !i))
		return POOL_E_DAMAGED;
	r = heap_know(pool, i);
	if (!r)
		r = lease_back(pool, lease->layout.heaps_at + i * sizeof(struct lease_heap), sizeof(struct lease_heap));
	if (r)
		return r;
	if (heap_state(pool, i) == HEAP_OPEN) {
		if (high >= pool->n_members_alloced || !pool->members[high])
			return POOL_E_DAMAGED;
		member = pool->members[high];
		lease->heaps[i] = (struct heap){.member = member, .next = member->first_heap};
		member->first_heap = i;
		lease->n_heaps_open++;
	} else if (heap_state(pool, i) == HEAP_QUARANTINED) {
		lease->n_quarantined++;
		lease->quarantine_clock = high > lease->quarantine_clock ? high : lease->quarantine_clock;
	}
	atomic_store_explicit(&lease_heap_at(lease, i)->session, member ? member->session : 0, memory_order_release);
	return 0;
}

static int recover_heaps(struct pool *pool)
{
	uint32_t n = pool->ledger.tables[LEDGER_HEAPS].n_backed;
	int r = 0;

	if (n > LEASE_HEAPS_MAX)
		return POOL_E_DAMAGED;
	while (n && heap_record(pool, n - 1)->what == HEAP_UNUSED)
		n--;
	pool->lease.n_heaps_high = n;
	for (uint32_t i = 0; !r && i < n; i++)
		r = recover_heap(pool, i);
	return r;
}

/* ---- slabs ---- */

static bool slab_is_sound(struct pool *pool, uint32_t id)
{
	const struct extent_map *map = &pool->map;
	const struct slab_record *record = slab_record(pool, id);
	uint32_t extent = slab_extent(pool, id), grantee = slab_grantee(pool, id);
	const struct pool_member *member = heap_member(pool, grantee);

	return id < pool->lease.layout.n_slabs && extent < map->n_high && extent_state(map, extent) == EXTENT_LEASED &&
	       extent_offset(map, extent) % PAGE == 0 && extent_size(map, extent) % PAGE == 0 &&
	       record->size_class < SIZE_CLASS_N && size_class_bytes(record->size_class) > 2 * pool->guard_bytes &&
	       record->n_slots && record->n_slots <= SLAB_SLOTS_MAX && record->first_word % LEASE_WORDS_STEP == 0 &&
	       record->n_slots * size_class_bytes(record->size_class) <= extent_size(map, extent) &&
	       (grantee ? member && extent_owner(map, extent) == member->index
			: extent_owner(map, extent) == POOL_OWNER);
}

/* Where the page map leads, for the slabs that are. */
static bool draw_slab(struct pool *pool, uint32_t id, uint32_t pages[])
{
	uint64_t page = (slab_base(pool, id) - POOL_FIRST) / PAGE;
	uint64_t n = extent_size(&pool->map, slab_extent(pool, id)) / PAGE;

	for (; n; n--, page++) {
		if (page >= pool->lease.n_pages || pages[page])
			return false;
		pages[page] = id + 1;
	}
	return true;
}

/* Each record of a slot is led to its slab. */
static bool find_slabs_of_pinned(struct pool *pool, const uint32_t pages[])
{
	struct extent_map *map = &pool->map;

	for (uint32_t e = 0; map->n_pinned && e < map->n_high; e++) {
		uint64_t page = (extent_offset(map, e) - POOL_FIRST) / PAGE;
		uint32_t id, slot;

		if (extent_state(map, e) != EXTENT_PINNED)
			continue;
		if (page >= pool->lease.n_pages || !pages[page])
			return false;
		extent_links(map, e)->prev = slab_extent(pool, pages[page] - 1);
		if (!slot_of_pinned(pool, e, &id, &slot))
			return false;
	}
	return true;
}

/* By a read that makes no page, for there may be no memory for one. */
static bool was_described(const struct pool *pool, uint32_t id)
{
	struct lease_slab copy;
	off_t at = (off_t)(pool->lease.layout.slabs_at + id * sizeof(copy));

	return pread(pool->lease.object.fd, &copy, sizeof(copy), at) == (ssize_t)sizeof(copy) &&
	       (copy.slot_bytes || copy.n_slots);
}

static void rewrite_descriptor(struct pool *pool, uint32_t id)
{
	struct lease_slab *copy = lease_slab_at(&pool->lease, id);
	uint32_t who;

	if (!slab_exists(pool, id)) {
		if (was_described(pool, id)) {
			lease_custody_hold(&copy->custody);
			copy->slot_bytes = copy->n_slots = 0;
		}
		return;
	}
	slab_describe(pool, id);
	who = lease_custody_peek(&copy->custody);
	if (who != LEASE_IDLE && !heap_member(pool, who) && (LEASE_RULE(CUSTODY_BACK) || who != LEASE_DAEMON))
		lease_custody_give(&copy->custody);
}

static int recover_slab(struct pool *pool, uint32_t id)
{
	const struct lease_header *layout = &pool->lease.layout;
	const struct slab_record *record = slab_record(pool, id);
	uint32_t extent = slab_extent(pool, id);
	int r;

	if (!slab_is_sound(pool, id))
		return POOL_E_DAMAGED;
	extent_links(&pool->map, extent)->slab = id;
	r = slab_know(pool, id);
	if (!r)
		r = lease_back(pool, layout->words_at + record->first_word * sizeof(uint16_t),
			       round_up(record->n_slots, LEASE_WORDS_STEP) * sizeof(uint16_t));
	if (!r)
		r = lease_back(pool, layout->slabs_at + id * sizeof(struct lease_slab), sizeof(struct lease_slab));
	if (!r)
		r = lease_back_pages(pool, extent_offset(&pool->map, extent) + extent_size(&pool->map, extent));
	if (!r && !slab_grantee(pool, id))
		slab_list_orphan(pool, id);
	return r;
}

static int recover_records(struct pool *pool)
{
	uint32_t n = pool->ledger.tables[LEDGER_SLABS].n_backed;
	int r = 0;

	while (n && !slab_record(pool, n - 1)->what)
		n--;
	pool->slab_records.n_high = pool->slab_records.n = n;
	for (uint32_t id = n; !r && id-- > 0;) {
		if (slab_record(pool, id)->what)
			r = recover_slab(pool, id);
		else
			record_give(pool, &pool->slab_records, id);
	}
	return r || pool->slab_records.n == pool->map.n_leased ? r : POOL_E_DAMAGED;
}

static int rewrite_copy(struct pool *pool)
{
	struct lease *lease = &pool->lease;
	uint32_t *pages = calloc(lease->n_pages + 1, sizeof(*pages)), n = pool->ledger.tables[LEDGER_SLABS].n_backed;
	int r = 0;

	if (!pages)
		return -ENOMEM;
	n = n < lease->layout.n_slabs ? n : lease->layout.n_slabs;
	for (uint32_t id = 0; !r && id < pool->slab_records.n_high; id++)
		if (slab_exists(pool, id) && !draw_slab(pool, id, pages))
			r = POOL_E_DAMAGED;
	if (!r && !find_slabs_of_pinned(pool, pages))
		r = POOL_E_DAMAGED;
	for (uint64_t page = 0; !r && page < lease->n_pages; page++)
		if (atomic_load_explicit(lease_page_at(lease, page), memory_order_relaxed) != pages[page])
			atomic_store_explicit(lease_page_at(lease, page), pages[page], memory_order_release);
	for (uint32_t id = 0; !r && id < n; id++)
		rewrite_descriptor(pool, id);
	free(pages);
	return r;
}

/* ---- slots ---- */

static void recover_pinned(struct pool *pool)
{
	uint32_t id, slot;

	for (uint32_t e = 0; pool->map.n_pinned && e < pool->map.n_high; e++) {
		if (extent_state(&pool->map, e) != EXTENT_PINNED)
			continue;
		if (slot_of_pinned(pool, e, &id, &slot) && lease_word_read(slot_word(pool, id, slot)) == LEASE_PINNED)
			continue;
		if (extent_flags(&pool->map, e) || extent_owner(&pool->map, e) == EXTENT_OWNER_NONE) {
			lease_damage(pool, "a held slot's word says otherwise");
			continue;
		}
		block_cancel_slot(pool, e);
		pool_commit(pool);
	}
}

static void recover_words(struct pool *pool, uint32_t id)
{
	uint16_t words[SLAB_SLOTS_MAX];
	uint64_t base = slab_base(pool, id);
	uint32_t n_slots = slab_record(pool, id)->n_slots, slot_bytes = slab_slot_bytes(pool, id), extent;
	struct slab_count count;

	if (!slab_read(pool, id, words, &count) || !count.n_pinned)
		return;
	for (uint32_t i = 0; i < n_slots; i++)
		if (words[i] == LEASE_PINNED && extent_map_find(&pool->map, base + (uint64_t)i * slot_bytes, &extent))
			lease_word_swap(lease_word_at(&pool->lease, slab_record(pool, id)->first_word + i),
					LEASE_PINNED, LEASE_FREE);
}

int lease_recover(struct pool *pool)
{
	int r;

	if (!pool->lease.is_on)
		return pool->map.n_leased || pool->map.n_pinned ? POOL_E_DAMAGED : 0;
	r = recover_heaps(pool);
	if (!r)
		r = recover_records(pool);
	if (!r)
		r = rewrite_copy(pool);
	pool->lease.is_taking_over = false;
	return r;
}

void lease_recover_slots(struct pool *pool)
{
	if (!pool->lease.is_on)
		return;
	recover_pinned(pool);
	for (uint32_t id = 0; !pool->lease.is_damaged && id < pool->slab_records.n_high; id++)
		if (slab_exists(pool, id))
			recover_words(pool, id);
}
