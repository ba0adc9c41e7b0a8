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

static struct result_record *slot_of(const struct pool_member *member)
{
	return &result_ring(member->pool, member->index)->records[member->call.id % POOL_RESULTS_N];
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

static uint32_t batch_of(const struct result_record *record)
{
	return load(&record->id) ? (uint32_t)(load(&record->what) >> 32) : POOL_NONE;
}

/* ---- forgetting ---- */

/* For good, whether or not the operation comes to its commit: whoever forgets an answer knows that it has arrived. */
static void forget(struct pool *pool, struct result_record *record)
{
	uint32_t batch = batch_of(record), next;

	intent_note(&pool->ledger, &record->id, 0);
	intent_store(&record->id, 0);
	for (; batch != POOL_NONE; batch = next) {
		next = batch_record(pool, batch)->next;
		record_give(pool, &pool->batches, batch);
	}
}

void result_forget_all(struct pool_member *member)
{
	struct result_ring *ring = result_ring(member->pool, member->index);

	for (uint32_t i = 0; i < POOL_RESULTS_N; i++) {
		forget(member->pool, &ring->records[i]);
		pool_commit(member->pool);
	}
}

/* ---- one answer ---- */

/* Fills the slot; what is beside the id counts only with it. */
static void put(struct pool_member *member, int outcome, uint32_t batch, const struct pool_block *block)
{
	struct result_record *record = slot_of(member);

	forget(member->pool, record);
	intent_store(&record->what, pack_what(outcome, batch));
	intent_store(&record->offset, block ? block->offset : 0);
	intent_store(&record->size, block ? block->size : 0);
	intent_store(&record->old_size, block ? block->old_size : 0);
	intent_store(&record->flags, block && block->moved ? RESULT_MOVED : 0);
	intent_store(&record->id, member->call.id); /* noted by forget() */
}

int result_put(struct pool_member *member, enum recent_what what, int r, const struct pool_block *block)
{
	if (r == POOL_E_SLOW || r == POOL_E_DESTROYED)
		return r;
	recent_add(member->pool, member, what, r, block ? block->offset : 0, block ? block->size : 0);
	if (member->call.id)
		put(member, r, POOL_NONE, r ? NULL : block);
	return r;
}

bool result_find(struct pool_member *member, int *rp, struct pool_block *blockp)
{
	const struct result_record *record = slot_of(member);

	if (!member->call.id || load(&record->id) != member->call.id)
		return false;
	*rp = outcome_of(record);
	if (blockp)
		*blockp = (struct pool_block){
			.offset = load(&record->offset),
			.size = load(&record->size),
			.old_size = load(&record->old_size),
			.moved = load(&record->flags) & RESULT_MOVED,
		};
	return true;
}

/* ---- batches of allocations ---- */

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

int result_reserve_batch(struct pool_member *member, size_t n)
{
	if (!member->call.id)
		return 0;
	forget_acked(member);
	return record_reserve_n(member->pool, &member->pool->batches, (uint32_t)(n / N_OFFSETS) + 1);
}

int result_put_batch(struct pool_member *member, enum recent_what what, int r, const uint64_t offsets[], size_t n)
{
	struct pool *pool = member->pool;
	uint32_t batch = POOL_NONE, index;

	if (r == POOL_E_SLOW || r == POOL_E_DESTROYED)
		return r;
	for (size_t i = 0; !r && i < n && offsets[i]; i++)
		recent_add(pool, member, what, 0, offsets[i], 0);
	if (r)
		recent_add(pool, member, what, r, 0, 0);
	if (!member->call.id)
		return r;
	for (size_t i = 0; !r && i < n; i++) {
		if (i % N_OFFSETS == 0) {
			index = record_take(pool, &pool->batches); /* reserved */
			batch_record(pool, index)->next = batch;
			batch_record(pool, index)->n = 0;
			batch = index;
		}
		batch_record(pool, batch)->offsets[batch_record(pool, batch)->n++] = offsets[i];
	}
	put(member, r, batch, NULL);
	return r;
}

bool result_find_batch(struct pool_member *member, int *rp, uint64_t offsets[], size_t n)
{
	const struct result_record *record = slot_of(member);
	uint32_t batch;

	if (!result_find(member, rp, NULL))
		return false;
	batch = *rp ? POOL_NONE : batch_of(record);
	for (; batch != POOL_NONE; batch = batch_record(member->pool, batch)->next) /* the last record first */
		for (uint32_t i = batch_record(member->pool, batch)->n; i-- > 0 && n;)
			offsets[--n] = batch_record(member->pool, batch)->offsets[i];
	if (!*rp && n) /* the same id with another request: a client that breaks the rules */
		*rp = POOL_E_INVALID;
	return true;
}

/* ---- batches of frees ---- */

bool result_find_progress(struct pool_member *member, struct free_progress *progress)
{
	const struct result_record *record = slot_of(member);
	uint64_t id = load(&record->id);

	*progress = (struct free_progress){0};
	if (!member->call.id || (id & ~RESULT_UNDER_WAY) != member->call.id)
		return false;
	*progress = (struct free_progress){
		.n_done = load(&record->size),
		.first_outcome = outcome_of(record),
		.first_failed = load(&record->offset),
		.n_failed = load(&record->flags),
	};
	return !(id & RESULT_UNDER_WAY);
}

void result_put_progress(struct pool_member *member, const struct free_progress *progress, bool is_done)
{
	struct result_record *record = slot_of(member);
	struct ledger *ledger = &member->pool->ledger;

	if (!member->call.id)
		return;
	if ((load(&record->id) & ~RESULT_UNDER_WAY) != member->call.id)
		forget(member->pool, record);
	/* noted each: there may be a progress before this one to go back to */
	intent_set(ledger, &record->what, pack_what(progress->first_outcome, POOL_NONE));
	intent_set(ledger, &record->offset, progress->first_failed);
	intent_set(ledger, &record->size, progress->n_done);
	intent_set(ledger, &record->flags, progress->n_failed);
	intent_set(ledger, &record->id, member->call.id | (is_done ? 0 : RESULT_UNDER_WAY));
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

static bool mark_all(const struct pool *pool, uint8_t *is_marked)
{
	for (const struct pool_member *m = pool->first; m; m = m->next)
		for (uint32_t i = 0; i < POOL_RESULTS_N; i++)
			if (!mark_chain(pool, batch_of(&result_ring(pool, m->index)->records[i]), is_marked))
				return false;
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
