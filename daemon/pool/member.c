// SPDX-License-Identifier: MIT
/*
 * A session's membership of a pool: its record in the ledger, and its end.
 *
 * An end is a state and steps: ENDING, then one retain or block after the other, each a whole operation on the books, then
 * the record. Retains go first: a block that its owner also retains then ends as what it is, a block that nobody else held.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pool/pool_internal.h"

#define MEMBERS_SPARE 2u /* simply picked: 12 KiB */

/* ---- join ---- */

/*
 * A record and a ring of results, same index. With room for some more: where /dev/shm is full, whoever comes to free must
 * find a place.
 */
static int reserve_record(struct pool *pool)
{
	uint32_t n = pool->member_records.n_high + (pool->member_records.unused == POOL_NONE ? 1 : 0);
	int r = ledger_reserve_spare(&pool->ledger, LEDGER_MEMBERS, n, MEMBERS_SPARE);

	return r ? r : ledger_reserve_spare(&pool->ledger, LEDGER_RESULTS, n, MEMBERS_SPARE);
}

static int reserve_slot(struct pool *pool)
{
	struct pool_member **members;
	uint32_t n = pool->n_members_alloced ? 2 * pool->n_members_alloced : 8;

	if (pool->member_records.unused != POOL_NONE || pool->member_records.n_high < pool->n_members_alloced)
		return 0;
	members = realloc(pool->members, n * sizeof(*members));
	if (!members)
		return -ENOMEM;
	for (uint32_t i = pool->n_members_alloced; i < n; i++)
		members[i] = NULL;
	pool->members = members;
	pool->n_members_alloced = n;
	return 0;
}

static void write_record(struct pool *pool, const struct pool_member *member, const struct pool_identity *who)
{
	struct member_record *record = member_record(pool, member->index);

	record->session = who->session;
	record->since_s = member->since_s;
	record->uid = who->uid;
	record->pid = who->pid;
	memcpy(record->command, who->command, sizeof(record->command));
	intent_set(&pool->ledger, &record->state, MEMBER_ACTIVE);
}

/* Ids rise, so that a new session belongs at the end or near it. */
static void link_member(struct pool *pool, struct pool_member *member)
{
	struct pool_member *before = pool->last;

	while (before && before->session > member->session)
		before = before->prev;
	member->prev = before;
	member->next = before ? before->next : pool->first;
	*(member->prev ? &member->prev->next : &pool->first) = member;
	*(member->next ? &member->next->prev : &pool->last) = member;
}

static void unlink_member(struct pool *pool, struct pool_member *member)
{
	*(member->prev ? &member->prev->next : &pool->first) = member->next;
	*(member->next ? &member->next->prev : &pool->last) = member->prev;
}

/* Where /dev/shm is full, the last place is for those who may destroy the pool: nobody else who keeps coming can take it. */
static bool may_enter(const struct pool *pool, const struct pool_identity *who)
{
	const struct ledger_table *tables = pool->ledger.tables;
	uint32_t n_members = tables[LEDGER_MEMBERS].n_backed, n_results = tables[LEDGER_RESULTS].n_backed;

	return pool_may_manage(pool, who) ||
	       (n_members < n_results ? n_members : n_results) - pool->member_records.n > 1;
}

static int join_locked(struct pool *pool, const struct pool_identity *who, struct pool_member *member)
{
	int r;

	if (pool->is_destroyed)
		return POOL_E_DESTROYED;
	r = reserve_record(pool);
	if (!r && !may_enter(pool, who))
		r = -ENOSPC;
	if (!r)
		r = reserve_slot(pool);
	if (r)
		return r;
	member->index = record_take(pool, &pool->member_records);
	pool->members[member->index] = member;
	result_begin(pool, member->index);
	write_record(pool, member, who);
	link_member(pool, member);
	recent_add(pool, member, RECENT_JOIN, 0, 0, 0);
	return 0;
}

int pool_join(struct pool *pool, const struct pool_identity *who, struct pool_member **memberp)
{
	struct pool_member *member = malloc(sizeof(*member));
	int r;

	if (!member)
		return -ENOMEM;
	*member = (struct pool_member){
		.session = who->session,
		.account = quota_account_of(pool->env->quota, who->uid),
		.blocks = {.list.head = EXTENT_NONE, .oldest = EXTENT_NONE},
		.first_hold = POOL_NONE,
		.slabs = {.head = EXTENT_NONE},
		.since_s = (uint64_t)time(NULL),
	};
	pool_lock(pool);
	r = member->account ? join_locked(pool, who, member) : -ENOMEM;
	pool_unlock(pool);
	if (r) {
		free(member);
		return r;
	}
	member->pool = pool_ref(pool);
	*memberp = member;
	return 0;
}

/* ---- after a restart ---- */

static int member_of_record(struct pool *pool, uint32_t index)
{
	const struct member_record *record = member_record(pool, index);
	struct pool_member *member;

	if (record->state > MEMBER_ENDING || !record->session || pool_member_of(pool, record->session))
		return POOL_E_DAMAGED;
	member = malloc(sizeof(*member));
	if (!member)
		return -ENOMEM;
	*member = (struct pool_member){
		.session = record->session,
		.index = index,
		.account = quota_account_of(pool->env->quota, record->uid),
		.blocks = {.list.head = EXTENT_NONE, .oldest = EXTENT_NONE},
		.first_hold = POOL_NONE,
		.slabs = {.head = EXTENT_NONE},
		.since_s = record->since_s,
	};
	if (!member->account) {
		free(member);
		return -ENOMEM;
	}
	pool->members[index] = member;
	link_member(pool, member);
	member->pool = pool_ref(pool);
	return 0;
}

int member_recover(struct pool *pool)
{
	uint32_t n = pool->ledger.tables[LEDGER_MEMBERS].n_backed;
	int r = 0;

	while (n && member_record(pool, n - 1)->state == MEMBER_UNUSED)
		n--;
	if (n > pool->ledger.tables[LEDGER_RESULTS].n_backed)
		return POOL_E_DAMAGED;
	pool->members = calloc(n + 1, sizeof(struct pool_member *));
	if (!pool->members)
		return -ENOMEM;
	pool->n_members_alloced = n + 1;
	pool->member_records.n_high = pool->member_records.n = n;
	for (uint32_t i = n; i-- > 0;)
		if (member_record(pool, i)->state == MEMBER_UNUSED)
			record_give(pool, &pool->member_records, i);
	for (uint32_t i = 0; !r && i < n; i++) /* ids rise with the index, mostly */
		if (member_record(pool, i)->state != MEMBER_UNUSED)
			r = member_of_record(pool, i);
	return r;
}

struct pool_member *pool_member_of(struct pool *pool, uint64_t session)
{
	struct pool_member *member = pool->last;

	while (member && member->session > session)
		member = member->prev;
	return member && member->session == session ? member : NULL;
}

/* ---- leave ---- */

struct leaving {
	struct pool *pool;
	struct pool_member *member;
	struct pool_warning *report;
};

static void report_blocks(const struct leaving *leaving, uint64_t n_blocks, uint64_t n_bytes, uint32_t since_s)
{
	const struct member_record *record = member_record(leaving->pool, leaving->member->index);
	struct pool_warning *report = leaving->report;
	struct pool_holder *holder = &report->holders[0];

	if (!report->n_holders) {
		*holder = (struct pool_holder){.session = record->session, .pid = record->pid, .uid = record->uid};
		memcpy(holder->command, record->command, sizeof(holder->command));
		report->n_holders = 1;
	}
	report->n_blocks += n_blocks;
	report->n_bytes += n_bytes;
	holder->n_blocks += n_blocks;
	holder->n_bytes += n_bytes;
	if (!holder->oldest_s || since_s < holder->oldest_s)
		holder->oldest_s = since_s;
}

static void leave_hold(const struct leaving *leaving)
{
	struct pool *pool = leaving->pool;
	uint32_t hold = leaving->member->first_hold, extent = hold_record(pool, hold)->extent;
	uint64_t n_bytes = extent_size(&pool->map, extent);
	uint32_t since_s = extent_since(&pool->map, extent);

	if (hold_drop(pool, hold, hold_record(pool, hold)->n))
		report_blocks(leaving, 1, n_bytes, since_s);
}

static void leave_block(const struct leaving *leaving)
{
	struct pool *pool = leaving->pool;
	uint32_t extent = leaving->member->blocks.list.head;
	uint64_t n_bytes = extent_size(&pool->map, extent);
	uint32_t since_s = extent_since(&pool->map, extent);

	if (pool->options.lifetime) { /* MEMPOOL_LIFETIME_POOL */
		charge_blocks_always(pool, pool->account, 1, n_bytes);
		uncharge_blocks(pool, leaving->member->account, 1, n_bytes);
		block_pass(pool, extent, POOL_OWNER);
	} else if (block_drop_owner(pool, extent)) {
		report_blocks(leaving, 1, n_bytes, since_s);
	}
}

static void report_slots(void *arg, uint64_t n_blocks, uint64_t n_bytes)
{
	const struct leaving *leaving = arg;

	report_blocks(leaving, n_blocks, n_bytes, now_s());
}

/* One thing. Somebody may give a slot of the session's a record meanwhile: its lists are looked at each time. */
static bool leave_one(struct leaving *leaving)
{
	struct pool_member *member = leaving->member;

	if (member->first_hold != POOL_NONE)
		leave_hold(leaving);
	else if (member->blocks.list.head != EXTENT_NONE)
		leave_block(leaving);
	else
		return heap_sweep_one(member, report_slots, leaving) || result_forget_one(member);
	return true;
}

/* Slabs, or answers with batches: each may take as long as many blocks. */
static bool has_large_things(const struct pool_member *member)
{
	return member->is_sweeping || member->forget_at;
}

/* Return: true if something is left to do */
static bool leave_some(struct leaving *leaving)
{
	struct step step = step_begin();

	while (leave_one(leaving)) {
		pool_commit(leaving->pool); /* each is an operation of its own */
		if (has_large_things(leaving->member) ? step_is_over_now(&step) : step_is_over(&step))
			return true;
	}
	return false;
}

static void set_state(struct pool *pool, const struct pool_member *member, enum member_state state)
{
	_Atomic uint64_t *word = &member_record(pool, member->index)->state;

	if (*word != state)
		intent_set(&pool->ledger, word, state);
}

bool pool_leave_step(struct pool_member *member, struct pool_warning *report)
{
	struct pool *pool = member->pool;
	struct leaving leaving = {.pool = pool, .member = member, .report = report};
	bool more;

	pool_lock_after_others(pool);
	set_state(pool, member, MEMBER_ENDING);
	pool_commit(pool);
	more = !pool->is_destroyed && leave_some(&leaving); /* of a destroyed pool, nothing is left to be dropped */
	if (!more) {
		if (pool->is_destroyed) /* its numbers go with the pool; nobody may be led to it by them */
			heap_forget_member(member);
		if (!pool->is_destroyed)
			recent_add(pool, member, RECENT_LEAVE, 0, 0, report->n_bytes);
		unlink_member(pool, member);
		pool->members[member->index] = NULL;
		set_state(pool, member, MEMBER_UNUSED);
		record_give(pool, &pool->member_records, member->index);
	}
	pool_unlock(pool);
	if (more)
		return true;
	free(member);
	pool_unref(pool);
	return false;
}
