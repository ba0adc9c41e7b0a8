// SPDX-License-Identifier: MIT
/*
 * Exactly once. What a request was answered is stored in the same intent as what it did, so that after a kill either both are
 * there or neither is: a client that asks again after a restart gets the answer, or has it done now, once.
 *
 * A member has POOL_RESULTS_N slots; request @id uses slot @id % POOL_RESULTS_N. A client has no more requests unanswered
 * than that, and their ids rise, so whoever overwrites an answer has had it. Failures are kept too: a free that failed must not
 * succeed when it is asked for again, with somebody else's block at its offset by then.
 *
 * A batch of allocations is one operation; its offsets are in a chain of records, which count because the result leads to
 * them. A batch of frees is many: its result says how far it is, and is stored with each group of them.
 */
#include <errno.h>

#include "pool/pool_internal.h"

#define N_OFFSETS N_ELEMENTS(((struct batch_record *)0)->offsets)

/* A client chooses its ids; what would look like a batch under way is not kept. */
static uint64_t id_of(const struct pool_member *member)
{
	return member->call.id < RESULT_UNDER_WAY ? member->call.id : 0;
}

static struct result_record *slot_of(const struct pool_member *member)
{
	return &result_ring(member->pool, member->index)->records[id_of(member) % POOL_RESULTS_N];
}

static struct batch_record *batch_record(const struct pool *pool, uint32_t index)
{
	return ledger_at(&pool->ledger, LEDGER_BATCHES, index);
}

static uint64_t load(const _Atomic uint64_t *word)
{
	return atomic_load_explicit(word, memory_order_relaxed);
}

static int outcome_of(const struct result_record *record)
{
	return (int)(uint32_t)load(&record->what);
}

static uint64_t pack_what(int outcome, uint32_t batch)
{
	return (uint32_t)outcome | (uint64_t)batch << 32;
}

static unsigned asked_of(const struct result_record *record)
{
	return (unsigned)(load(&record->flags) >> 32 & 0xff);
}

static uint64_t pack_flags(unsigned asked, uint32_t value)
{
	return value | (uint64_t)asked << 32;
}

static uint32_t batch_of(const struct result_record *record)
{
	return load(&record->id) ? (uint32_t)(load(&record->what) >> 32) : POOL_NONE;
}

/* ---- forgetting ---- */

static void give_batch(struct pool *pool, uint32_t batch)
{
	uint32_t next;

	for (; batch != POOL_NONE; batch = next) {
		next = batch_record(pool, batch)->next;
		record_give(pool, &pool->batches, batch);
	}
}

/* For good, whether or not the operation comes to its commit: whoever forgets an answer knows that it has arrived. */
static void forget(struct pool *pool, struct result_record *record)
{
	uint32_t batch = batch_of(record);

	intent_note(&pool->ledger, &record->id, 0);
	intent_store(&record->id, 0);
	give_batch(pool, batch);
}

void result_begin(struct pool *pool, uint32_t index)
{
	struct result_ring *ring = result_ring(pool, index);

	for (uint32_t i = 0; i < POOL_RESULTS_N; i++)
		if (load(&ring->records[i].id))
			intent_store(&ring->records[i].id, 0); /* no truth before the member counts */
}

bool result_forget_one(struct pool_member *member)
{
	struct result_ring *ring = result_ring(member->pool, member->index);

	while (member->forget_at < POOL_RESULTS_N) {
		struct result_record *record = &ring->records[member->forget_at++];

		if (!load(&record->id))
			continue;
		forget(member->pool, record);
		return true;
	}
	return false;
}

/* ---- one answer ---- */

/* Fills the slot; what is beside the id counts only with it. */
static void put(struct pool_member *member, unsigned asked, int outcome, uint32_t batch, const struct pool_block *block)
{
	struct result_record *record = slot_of(member);

	forget(member->pool, record);
	intent_store(&record->what, pack_what(outcome, batch));
	intent_store(&record->offset, block ? block->offset : 0);
	intent_store(&record->size, block ? block->size : 0);
	intent_store(&record->old_size, block ? block->old_size : 0);
	intent_store(&record->flags, pack_flags(asked, block && block->moved ? RESULT_MOVED : 0));
	intent_store(&record->id, id_of(member)); /* noted by forget() */
}

static int result_put_as(struct pool_member *member, enum recent_what what, unsigned asked, int r,
			 const struct pool_block *block)
{
	if (r == POOL_E_SLOW || r == POOL_E_DESTROYED)
		return r;
	recent_add(member->pool, member, what, r, block ? block->offset : 0, block ? block->size : 0);
	if (id_of(member))
		put(member, asked, r, POOL_NONE, r ? NULL : block);
	return r;
}

int result_put(struct pool_member *member, enum recent_what what, int r, const struct pool_block *block)
{
	return result_put_as(member, what, what, r, block);
}

static bool find(const struct pool_member *member, unsigned asked, int *rp)
{
	const struct result_record *record = slot_of(member);

	if (!id_of(member) || load(&record->id) != id_of(member))
		return false;
	*rp = asked_of(record) == asked ? outcome_of(record) : POOL_E_INVALID;
	return true;
}

bool result_find(struct pool_member *member, enum recent_what what, int *rp, struct pool_block *blockp)
{
	const struct result_record *record = slot_of(member);

	if (!find(member, what, rp))
		return false;
	if (blockp)
		*blockp = (struct pool_block){
			.offset = load(&record->offset),
			.size = load(&record->size),
			.old_size = load(&record->old_size),
			.moved = load(&record->flags) & RESULT_MOVED,
		};
	return true;
}

/* ---- batches: of allocations; of slabs, ids + 1 and zeros behind them ---- */

/* Answers that have arrived are not asked for again: their offsets make room for these. */
static void forget_acked(struct pool_member *member)
{
	struct result_ring *ring = result_ring(member->pool, member->index);

	for (uint32_t i = 0; i < POOL_RESULTS_N; i++) {
		struct result_record *record = &ring->records[i];

		if (batch_of(record) != POOL_NONE && load(&record->id) <= member->call.acked) {
			forget(member->pool, record);
			pool_commit(member->pool);
		}
	}
}

/*
 * Taken before the blocks, not only reserved: on the way to pages the mutex may be let go of, and others take records too. They
 * count when a result leads to them.
 */
int result_take_batch(struct pool_member *member, size_t n, uint32_t *batchp)
{
	struct pool *pool = member->pool;
	uint32_t n_records = (uint32_t)((n + N_OFFSETS - 1) / N_OFFSETS), index;
	int r;

	*batchp = POOL_NONE;
	if (!id_of(member))
		return 0;
	forget_acked(member);
	r = record_reserve_n(pool, &pool->batches, n_records);
	for (uint32_t i = 0; !r && i < n_records; i++) {
		index = record_take(pool, &pool->batches);
		batch_record(pool, index)->next = *batchp;
		*batchp = index;
	}
	return r;
}

/* The first record has the first offsets. */
static void fill_batch(const struct pool *pool, uint32_t batch, const uint64_t offsets[], size_t n)
{
	for (; batch != POOL_NONE; batch = batch_record(pool, batch)->next) {
		struct batch_record *record = batch_record(pool, batch);

		record->n = (uint32_t)(n < N_OFFSETS ? n : N_OFFSETS);
		for (uint32_t i = 0; i < record->n; i++)
			record->offsets[i] = *offsets++;
		n -= record->n;
	}
}

int result_put_batch(struct pool_member *member, enum recent_what what, int r, uint32_t batch, size_t n,
		     const uint64_t offsets[], const uint64_t sizes[])
{
	struct pool *pool = member->pool;

	if (r) {
		give_batch(pool, batch);
		return result_put_as(member, what, what | RESULT_BATCH, r, NULL);
	}
	for (size_t i = 0; i < n && offsets[i]; i++)
		recent_add(pool, member, what, 0, offsets[i], sizes ? round_up(sizes[i], EXTENT_GRANULE) : 0);
	if (!id_of(member))
		return 0;
	fill_batch(pool, batch, offsets, n);
	put(member, what | RESULT_BATCH, 0, batch, NULL);
	return 0;
}

bool result_find_batch(struct pool_member *member, enum recent_what what, int *rp, uint64_t offsets[], size_t n)
{
	uint32_t batch;
	size_t n_found = 0;

	if (!find(member, what | RESULT_BATCH, rp))
		return false;
	batch = *rp ? POOL_NONE : batch_of(slot_of(member));
	for (; batch != POOL_NONE; batch = batch_record(member->pool, batch)->next)
		for (uint32_t i = 0; i < batch_record(member->pool, batch)->n; i++, n_found++)
			if (n_found < n)
				offsets[n_found] = batch_record(member->pool, batch)->offsets[i];
	if (!*rp && n_found != n)
		*rp = POOL_E_INVALID;
	return true;
}

/* ---- batches of frees ---- */

int result_find_progress(struct pool_member *member, size_t n, struct free_progress *progress)
{
	const struct result_record *record = slot_of(member);

	*progress = (struct free_progress){0};
	if (!id_of(member) || (load(&record->id) & ~RESULT_UNDER_WAY) != id_of(member))
		return 0;
	if (asked_of(record) != (RECENT_FREE | RESULT_BATCH) || load(&record->size) > n)
		return POOL_E_INVALID;
	*progress = (struct free_progress){
		.n_done = load(&record->size),
		.first_outcome = outcome_of(record),
		.first_failed = load(&record->offset),
		.n_failed = (uint32_t)load(&record->flags),
	};
	return 0;
}

void result_put_progress(struct pool_member *member, const struct free_progress *progress, bool is_done)
{
	struct result_record *record = slot_of(member);
	struct ledger *ledger = &member->pool->ledger;

	if (!id_of(member))
		return;
	if ((load(&record->id) & ~RESULT_UNDER_WAY) != id_of(member))
		forget(member->pool, record);
	/* noted each: there may be a progress before this one to go back to */
	intent_set(ledger, &record->what, pack_what(progress->first_outcome, POOL_NONE));
	intent_set(ledger, &record->offset, progress->first_failed);
	intent_set(ledger, &record->size, progress->n_done);
	intent_set(ledger, &record->flags, pack_flags(RECENT_FREE | RESULT_BATCH, (uint32_t)progress->n_failed));
	intent_set(ledger, &record->id, id_of(member) | (is_done ? 0 : RESULT_UNDER_WAY));
}

/* ---- after a restart ---- */

/* A chain is at most as long as the table: who walks further walks in a circle. */
static bool mark_chain(const struct pool *pool, uint32_t batch, uint8_t *is_marked)
{
	uint32_t n_records = pool->ledger.tables[LEDGER_BATCHES].n_backed;

	for (; batch != POOL_NONE; batch = batch_record(pool, batch)->next) {
		if (batch >= n_records || is_marked[batch] || batch_record(pool, batch)->n > N_OFFSETS)
			return false;
		is_marked[batch] = 1;
	}
	return true;
}

static bool outcome_is_sound(int outcome)
{
	return outcome >= 0 ? outcome < POOL_OUTCOME_N : outcome > -4096; /* the kernel's errno */
}

static bool result_is_sound(const struct result_record *record)
{
	uint64_t id = load(&record->id), n_failed = (uint32_t)load(&record->flags);
	unsigned asked = asked_of(record);

	if (!id)
		return true;
	if (!(id & ~RESULT_UNDER_WAY) || !outcome_is_sound(outcome_of(record)) || !(asked & ~RESULT_BATCH) ||
	    (asked & ~RESULT_BATCH) >= RECENT_WHAT_N)
		return false;
	if (asked == (RECENT_FREE | RESULT_BATCH)) /* a failure was one of those that are done */
		return batch_of(record) == POOL_NONE && n_failed <= load(&record->size);
	return !(id & RESULT_UNDER_WAY) &&
	       (batch_of(record) == POOL_NONE ||
		((asked == (RECENT_ALLOC | RESULT_BATCH) || asked == (RECENT_LEASE | RESULT_BATCH)) &&
		 !outcome_of(record)));
}

static bool mark_all(const struct pool *pool, uint8_t *is_marked)
{
	for (const struct pool_member *m = pool->first; m; m = m->next)
		for (uint32_t i = 0; i < POOL_RESULTS_N; i++) {
			const struct result_record *record = &result_ring(pool, m->index)->records[i];

			if (!result_is_sound(record) || !mark_chain(pool, batch_of(record), is_marked))
				return false;
		}
	return true;
}

bool result_recover(struct pool *pool)
{
	uint32_t n_records = pool->ledger.tables[LEDGER_BATCHES].n_backed;
	uint8_t *is_marked = calloc(n_records + 1, 1);
	bool is_sound = is_marked && mark_all(pool, is_marked);

	pool->batches.n_high = pool->batches.n = is_sound ? n_records : 0;
	for (uint32_t i = n_records; is_sound && i-- > 0;)
		if (!is_marked[i])
			record_give(pool, &pool->batches, i);
	free(is_marked);
	return is_sound;
}
