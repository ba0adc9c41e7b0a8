// SPDX-License-Identifier: MIT
/*
 * Slabs. A grant is one operation on the ledger, and its order is
 *
 *   take       an extent, TAKEN; its data pages are backed, then the pages of its words, its descriptor and its part of the map
 *   fill       words C(0), the descriptor; custody is the daemon's: no heap looks at the words, and free sees no slot
 *   record     the extent LEASED, the slab record, the answer; commit
 *   publish    page map, then custody LEASE_IDLE, release
 *
 * A kill before the commit leaves a gap in the ledger, and a descriptor that recovery makes none; a kill after it leaves a slab,
 * whose descriptor, page map and custody recovery writes again, and whose words are C(0) but for what clients did since.
 * An end (slab_end) is the other way around: custody is had, page map and descriptor are cleared, then the record goes.
 *
 * A slab's words are a run of whole steps, its descriptor is at its id; both are free again when its record is, since nobody
 * looks at words without having seen a descriptor, and whoever has custody reads that again.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pool/pool_internal.h"

#define IDLE_PART 8u /* of the pool, that may be idle when more than half of it is leased; simply picked */
#define PAGE	  LEASE_PAGE_BYTES

/* ---- shapes ---- */

/* Of slots that are small, as many pages as waste least, half of SLAB_BYTES at least; larger ones eight at once, or sixteen. */
static uint64_t shape_bytes(uint64_t slot_bytes, uint64_t most_bytes)
{
	uint64_t best = 0, best_waste = 0, least, most;

	if (slot_bytes > SIZE_CLASS_CUT_MAX)
		return round_up(slot_bytes, PAGE);
	least = slot_bytes <= PAGE ? SLAB_BYTES / 2 : round_up(8 * slot_bytes, PAGE);
	most = slot_bytes <= PAGE ? SLAB_BYTES : round_up(12 * slot_bytes, PAGE);
	most = most < most_bytes ? most : round_down(most_bytes, PAGE);
	least = least < most ? least : most;
	for (uint64_t n_bytes = most; n_bytes >= least && n_bytes >= slot_bytes; n_bytes -= PAGE) {
		uint64_t waste = n_bytes % slot_bytes;

		if (!best || waste * best < best_waste * n_bytes) { /* as parts of the whole */
			best = n_bytes;
			best_waste = waste;
		}
	}
	return best;
}

bool slab_shape_of(uint32_t size_class, uint64_t most_bytes, struct slab_shape *shapep)
{
	uint64_t slot_bytes = size_class_bytes(size_class), n_bytes = shape_bytes(slot_bytes, most_bytes);

	if (!n_bytes || n_bytes > most_bytes)
		return false;
	*shapep = (struct slab_shape){.n_slots = (uint32_t)(n_bytes / slot_bytes), .n_bytes = n_bytes};
	return true;
}

/* ---- records ---- */

struct slab_record *slab_record(const struct pool *pool, uint32_t id)
{
	return ledger_at(&pool->ledger, LEDGER_SLABS, id);
}

static uint64_t record_what(const struct pool *pool, uint32_t id)
{
	return atomic_load_explicit(&slab_record(pool, id)->what, memory_order_relaxed);
}

bool slab_exists(const struct pool *pool, uint32_t id)
{
	return id < pool->slab_records.n_high && record_what(pool, id);
}

uint32_t slab_extent(const struct pool *pool, uint32_t id)
{
	return (uint32_t)record_what(pool, id) - 1;
}

uint32_t slab_grantee(const struct pool *pool, uint32_t id)
{
	return (uint32_t)(record_what(pool, id) >> 32);
}

uint64_t slab_base(const struct pool *pool, uint32_t id)
{
	return extent_offset(&pool->map, slab_extent(pool, id));
}

uint32_t slab_slot_bytes(const struct pool *pool, uint32_t id)
{
	return (uint32_t)size_class_bytes(slab_record(pool, id)->size_class);
}

struct extent_owner *slab_holding(struct pool *pool, uint32_t owner)
{
	return owner < POOL_OWNER ? &pool->members[owner]->slabs : &pool->orphan_slabs;
}

/* ---- words ---- */

static bool step_is_taken(const struct lease *lease, uint64_t step)
{
	return lease->is_word_taken[step / 64] >> step % 64 & 1;
}

static void mark_steps(struct lease *lease, uint64_t step, uint64_t n, bool is_taken)
{
	for (uint64_t i = step; i < step + n; i++) {
		uint64_t bit = UINT64_C(1) << i % 64;

		if (is_taken)
			lease->is_word_taken[i / 64] |= bit;
		else
			lease->is_word_taken[i / 64] &= ~bit;
	}
	if (!is_taken && step < lease->word_hint)
		lease->word_hint = step;
}

static uint64_t n_steps_of(uint32_t n_slots)
{
	return (n_slots + LEASE_WORDS_STEP - 1) / LEASE_WORDS_STEP;
}

/* Bits for at least @n steps. */
static int grow_steps(struct lease *lease, uint64_t n)
{
	uint64_t n_max = lease->layout.n_words / LEASE_WORDS_STEP, n_words;
	uint64_t *bits;

	if (n <= lease->n_step_words * 64)
		return 0;
	if (n > n_max)
		return -ENOSPC;
	n_words = round_up(n + n / 2, 64) / 64;
	bits = realloc(lease->is_word_taken, n_words * sizeof(*bits));
	if (!bits)
		return -ENOMEM;
	memset(bits + lease->n_step_words, 0, (n_words - lease->n_step_words) * sizeof(*bits));
	lease->is_word_taken = bits;
	lease->n_step_words = n_words;
	return 0;
}

/* First fit. Whole words of taken bits are passed at once. */
static int find_steps(struct lease *lease, uint64_t n, uint64_t *stepp)
{
	uint64_t step = lease->word_hint, end = lease->n_step_words * 64, run = 0;
	bool is_first = true;

	while (step < end && run < n) {
		if (step % 64 == 0 && lease->is_word_taken[step / 64] == UINT64_MAX) {
			run = 0;
			step += 64;
			continue;
		}
		if (step_is_taken(lease, step)) {
			run = 0;
		} else {
			if (is_first)
				lease->word_hint = step;
			is_first = false;
			run++;
		}
		step++;
	}
	*stepp = step - run;
	return grow_steps(lease, *stepp + n);
}

static void give_words(struct pool *pool, uint32_t first_word, uint32_t n_slots)
{
	mark_steps(&pool->lease, first_word / LEASE_WORDS_STEP, n_steps_of(n_slots), false);
	pool->lease.n_slots -= n_slots;
}

/* ---- the copy for clients ---- */

void slab_describe(struct pool *pool, uint32_t id)
{
	const struct slab_record *record = slab_record(pool, id);
	struct lease_slab *slab = lease_slab_at(&pool->lease, id);
	uint32_t slot_bytes = slab_slot_bytes(pool, id);

	slab->base = slab_base(pool, id);
	slab->slot_bytes = slot_bytes;
	slab->reciprocal = lease_reciprocal_of(slot_bytes);
	slab->first_word = record->first_word;
	slab->n_slots = (uint16_t)record->n_slots;
	slab->size_class = (uint16_t)record->size_class;
	slab->grantee = slab_grantee(pool, id);
}

static void set_pages(struct pool *pool, uint32_t id, uint32_t value)
{
	uint64_t page = (slab_base(pool, id) - POOL_FIRST) / PAGE;
	uint64_t n = extent_size(&pool->map, slab_extent(pool, id)) / PAGE;

	for (; n; n--, page++)
		atomic_store_explicit(lease_page_at(&pool->lease, page), value, memory_order_release);
}

void slab_publish(struct pool *pool, uint32_t id)
{
	struct lease_slab *slab = lease_slab_at(&pool->lease, id);

	set_pages(pool, id, id + 1);
	lease_hint_set(&slab->has_free, 1);
	lease_custody_give(&slab->custody);
}

/* ---- ends ---- */

void slab_end(struct pool *pool, uint32_t id)
{
	struct lease_slab *copy = lease_slab_at(&pool->lease, id);
	const struct slab_record *record = slab_record(pool, id);
	uint32_t extent = slab_extent(pool, id), owner = extent_owner(&pool->map, extent);

	set_pages(pool, id, 0);
	copy->slot_bytes = 0;
	copy->n_slots = 0;
	slab_unlist_orphan(pool, id);
	give_words(pool, record->first_word, record->n_slots);
	intent_set(&pool->ledger, &slab_record(pool, id)->what, 0);
	record_give(pool, &pool->slab_records, id);
	uncharge_blocks(pool, account_of(pool, owner), 1, extent_size(&pool->map, extent));
	extent_give_slab(pool, extent, slab_holding(pool, owner));
	pool_commit(pool); /* so that its record and its extent are not used again by what may yet be taken back */
}

/* ---- after a restart ---- */

static int know_id(struct pool *pool, uint32_t id)
{
	struct lease *lease = &pool->lease;
	struct slab *slabs;
	uint32_t n = lease->n_slabs_alloced ? 2 * lease->n_slabs_alloced : 16;

	if (id < lease->n_slabs_alloced)
		return 0;
	n = n > id ? n : id + 1;
	slabs = realloc(lease->slabs, n * sizeof(*slabs));
	if (!slabs)
		return -ENOMEM;
	memset(slabs + lease->n_slabs_alloced, 0, (n - lease->n_slabs_alloced) * sizeof(*slabs));
	lease->slabs = slabs;
	lease->n_slabs_alloced = n;
	return 0;
}

int slab_know(struct pool *pool, uint32_t id)
{
	const struct slab_record *record = slab_record(pool, id);
	uint64_t step = record->first_word / LEASE_WORDS_STEP, n = n_steps_of(record->n_slots);
	int r = know_id(pool, id);

	if (!r)
		r = grow_steps(&pool->lease, step + n);
	if (r)
		return r == -ENOSPC ? POOL_E_DAMAGED : r;
	for (uint64_t i = step; i < step + n; i++)
		if (step_is_taken(&pool->lease, i))
			return POOL_E_DAMAGED; /* two slabs on the same words */
	mark_steps(&pool->lease, step, n, true);
	pool->lease.n_slots += record->n_slots;
	return 0;
}

/* ---- grants ---- */

struct grant {
	struct pool *pool;
	struct pool_member *member;
	uint32_t heap, size_class;
	unsigned flags;
	uint64_t most_bytes; /* that it may still take */
};

static int back_copy(struct pool *pool, uint32_t id, uint64_t step, uint32_t n_slots, uint64_t end)
{
	const struct lease_header *layout = &pool->lease.layout;
	int r;

	r = lease_back(pool, layout->slabs_at + id * sizeof(struct lease_slab), sizeof(struct lease_slab));
	if (!r)
		r = lease_back(pool, layout->words_at + step * LEASE_WORDS_STEP * sizeof(uint16_t),
			       n_steps_of(n_slots) * LEASE_WORDS_STEP * sizeof(uint16_t));
	return r ? r : lease_back_pages(pool, end);
}

/* An id and words for the TAKEN @extent, everything backed. On failure nothing has changed. */
static int prepare_copy(struct pool *pool, uint32_t extent, uint32_t n_slots, uint32_t *idp, uint64_t *stepp)
{
	uint32_t id = pool->slab_records.unused != POOL_NONE ? pool->slab_records.unused : pool->slab_records.n_high;
	int r;

	if (id >= pool->lease.layout.n_slabs)
		return -ENOSPC;
	r = record_reserve(pool, &pool->slab_records);
	if (!r)
		r = know_id(pool, id);
	if (!r)
		r = find_steps(&pool->lease, n_steps_of(n_slots), stepp);
	if (!r)
		r = back_copy(pool, id, *stepp, n_slots,
			      extent_offset(&pool->map, extent) + extent_size(&pool->map, extent));
	*idp = id;
	return r;
}

static void fill_words(struct pool *pool, uint32_t first_word, uint32_t n_slots)
{
	for (uint32_t i = 0; i < n_slots; i++)
		lease_word_give(lease_word_at(&pool->lease, first_word + i));
}

static void record_slab(const struct grant *grant, uint32_t id, uint32_t extent, uint64_t step, uint32_t n_slots)
{
	struct pool *pool = grant->pool;
	struct slab_record *record = slab_record(pool, id);

	record->size_class = grant->size_class;
	record->n_slots = n_slots;
	record->first_word = (uint32_t)(step * LEASE_WORDS_STEP);
	intent_set(&pool->ledger, &record->what, (extent + 1) | (uint64_t)grant->heap << 32);
	extent_map_lease(&pool->map, extent, grant->member->index, &grant->member->slabs);
	extent_links(&pool->map, extent)->slab = id;
	pool->lease.slabs[id] = (struct slab){0};
}

static int make_slab(const struct grant *grant, uint32_t extent, uint32_t n_slots, uint32_t *idp)
{
	struct pool *pool = grant->pool;
	uint64_t offset = extent_offset(&pool->map, extent), size = extent_size(&pool->map, extent), step;
	uint32_t id, taken;
	int r;

	if (backing_missing(&pool->backing, offset, size, POOL_SLOW_BYTES + 1) > POOL_SLOW_BYTES &&
	    !(grant->flags & POOL_MAY_BLOCK))
		return POOL_E_SLOW;
	r = backing_ensure(&pool->backing, offset, size); /* at most 4 MiB: half a step */
	if (r)
		return r == BACKING_E_EXHAUSTED ? POOL_E_UNBACKED : r;
	r = prepare_copy(pool, extent, n_slots, &id, &step);
	if (r)
		return r;
	taken = record_take(pool, &pool->slab_records);
	assert(taken == id);
	(void)taken;
	mark_steps(&pool->lease, step, n_steps_of(n_slots), true);
	pool->lease.n_slots += n_slots;
	lease_custody_hold(&lease_slab_at(&pool->lease, id)->custody);
	fill_words(pool, (uint32_t)(step * LEASE_WORDS_STEP), n_slots);
	record_slab(grant, id, extent, step, n_slots);
	slab_describe(pool, id);
	*idp = id;
	return 0;
}

static int grant_new(struct grant *grant, uint32_t *idp)
{
	struct pool *pool = grant->pool;
	struct slab_shape shape;
	uint32_t extent;
	int r;

	if (!slab_shape_of(grant->size_class, grant->most_bytes, &shape))
		return POOL_E_FULL;
	r = charge_blocks(pool, grant->member->account, 1, shape.n_bytes);
	if (r)
		return r;
	r = extent_map_take_low(&pool->map, shape.n_bytes, PAGE, grant->member->session, now_s(), &extent);
	if (!r) {
		r = make_slab(grant, extent, shape.n_slots, idp);
		if (r)
			extent_drop(pool, extent);
	}
	if (r) {
		uncharge_blocks(pool, grant->member->account, 1, shape.n_bytes);
		return r == EXTENT_E_EXHAUSTED ? POOL_E_FULL : r;
	}
	grant->most_bytes -= shape.n_bytes;
	return 0;
}

/* Whether a new slab of it may be idle: see judge_use(). */
static bool is_used_well(const struct pool *pool)
{
	uint64_t leased = pool->map.leased_bytes, live = pool->lease.live_bytes, total = pool->map.total_bytes;

	return leased <= total / 2 || leased - (live < leased ? live : leased) <= total / IDLE_PART;
}

/*
 * Beyond half of the pool, new slabs are granted only while most of the slots there are live. Free slots in magazines of threads
 * that want other sizes now can be had by nobody else: many threads with many sizes would hold a small pool full of nothing.
 * Words are read for this at most a tenth of the time. Return: 0; POOL_E_FULL; POOL_E_SLOW; POOL_E_DESTROYED
 */
static int judge_use(const struct grant *grant)
{
	struct pool *pool = grant->pool;

	if (pool->map.leased_bytes > pool->map.total_bytes / 2 && lease_count_is_due(pool)) {
		if (lease_is_large(pool) && !(grant->flags & POOL_MAY_BLOCK))
			return POOL_E_SLOW;
		lease_count_lately(pool, grant->flags & POOL_MAY_BLOCK);
		if (pool->is_destroyed)
			return POOL_E_DESTROYED;
	}
	return is_used_well(pool) ? 0 : POOL_E_FULL;
}

/* Only the first of an answer may let go of the mutex: what was granted before it would be committed without the answer. */
static int grant_one(struct grant *grant, bool is_first, uint32_t *idp, bool *is_newp)
{
	int r = slab_adopt(grant->member, grant->heap, grant->size_class, idp);

	*is_newp = false;
	if (r != POOL_E_FULL)
		return r;
	r = is_first ? judge_use(grant) : is_used_well(grant->pool) ? 0 : POOL_E_FULL;
	if (!r) {
		r = grant_new(grant, idp);
		*is_newp = !r;
	}
	if (r == POOL_E_FULL && is_first)
		r = slab_adopt_any(grant->member, grant->heap, grant->size_class, grant->flags, idp);
	return r;
}

static int grant_all(struct grant *grant, uint32_t n_wanted, uint32_t ids[], bool is_new[], uint32_t *np)
{
	int r = intent_reserve(&grant->pool->ledger, LEASE_GRANTS_MAX * POOL_NOTES);

	for (*np = 0; !r && *np < n_wanted; ++*np) {
		r = grant_one(grant, !*np, &ids[*np], &is_new[*np]);
		if (r)
			break;
	}
	return *np ? 0 : r;
}

static int grant_locked(struct grant *grant, uint32_t n_wanted, uint32_t ids[], bool is_new[], uint32_t *np)
{
	struct pool *pool = grant->pool;

	if (pool->is_destroyed)
		return POOL_E_DESTROYED;
	if (!pool->lease.is_on)
		return POOL_E_NO_LEASES;
	if (grant->size_class >= SIZE_CLASS_N || size_class_bytes(grant->size_class) <= 2 * pool->guard_bytes ||
	    heap_member(pool, grant->heap) != grant->member)
		return POOL_E_INVALID;
	heap_note_request(pool, grant->heap);
	if (!lease_is_sound(pool))
		return POOL_E_FULL;
	grant->most_bytes = pool->map.free_bytes / SLAB_PART;
	return grant_all(grant, n_wanted, ids, is_new, np);
}

int pool_lease_slabs(struct pool_member *member, uint32_t heap, uint32_t size_class, uint32_t n_wanted, unsigned flags,
		     uint32_t ids[], uint32_t *np)
{
	struct grant grant = {
		.pool = member->pool, .member = member, .heap = heap, .size_class = size_class, .flags = flags};
	uint64_t kept[LEASE_GRANTS_MAX] = {0}; /* ids + 1: as many as were wanted, so that the answer is found again */
	struct pool *pool = member->pool;
	bool is_new[LEASE_GRANTS_MAX];
	uint32_t n = 0, batch = POOL_NONE;
	int r;

	n_wanted = n_wanted && n_wanted < LEASE_GRANTS_MAX ? n_wanted : n_wanted ? LEASE_GRANTS_MAX : 1;
	pool_lock(pool);
	if (!result_find_batch(member, RECENT_LEASE, &r, kept, n_wanted)) {
		r = result_take_batch(member, n_wanted, &batch);
		if (!r)
			r = grant_locked(&grant, n_wanted, ids, is_new, &n);
		for (uint32_t i = 0; !r && i < n; i++)
			kept[i] = ids[i] + UINT64_C(1);
		result_put_batch(member, RECENT_LEASE, r, batch, n_wanted, kept, NULL);
		pool_commit(pool);
		for (uint32_t i = 0; !r && i < n; i++)
			if (is_new[i])
				slab_publish(pool, ids[i]);
	}
	pool_unlock(pool);
	for (*np = 0; !r && *np < n_wanted && kept[*np]; ++*np)
		ids[*np] = (uint32_t)(kept[*np] - 1);
	return r;
}

/* ---- by offset ---- */

/* The page map is a hint that a client may have changed; the ledger says whether it is right. */
bool slab_at(struct pool *pool, uint64_t offset, uint32_t *idp)
{
	const struct lease *lease = &pool->lease;
	uint64_t page = (offset - POOL_FIRST) / PAGE;
	uint32_t entry = 0;

	if (!lease->is_on || offset < POOL_FIRST || page >= lease->n_pages)
		return false;
	if (pread(lease->object.fd, &entry, sizeof(entry), (off_t)(lease->layout.pages_at + page * sizeof(entry))) !=
	    (ssize_t)sizeof(entry)) {
		lease_damage(pool, "a client cut the lease segment short");
		return false;
	}
	if (!entry || !slab_exists(pool, entry - 1) ||
	    offset - slab_base(pool, entry - 1) >= extent_size(&pool->map, slab_extent(pool, entry - 1)))
		return false;
	*idp = entry - 1;
	return true;
}
