// SPDX-License-Identifier: MIT
/*
 * Empty slabs taken back. The daemon takes custody, so that no heap refills from the slab, then reads the words: all C(0), and no
 * heap has a slot of it, none will get one, and it is a gap again. Else custody is let go of, and nothing has happened. No client
 * is asked, and none can hold this up: custody that cannot be had is passed over.
 */
#include <errno.h>

#include "pool/pool_internal.h"

#define REST_FACTOR 10u	    /* after reading all words, so many times as long passes before they are all read again; */
#define REST_MIN_NS 100000u /* less than this is not worth it, */
#define REST_MAX_NS 100000000u /* and more would keep a request waiting that could be served. Simply picked */

/* Custody of a living heap stays its own. */
static bool take_custody(struct pool *pool, uint32_t id)
{
	_Atomic uint32_t *custody = &lease_slab_at(&pool->lease, id)->custody;
	uint32_t who = lease_custody_peek(custody);

	if (who == LEASE_IDLE)
		return lease_custody_take(custody, LEASE_DAEMON);
	if (who == LEASE_DAEMON || heap_member(pool, who) ||
	    !LEASE_RULE(BREAK_DEAD)) /* ours it is nowhere but here: a client wrote that */
		return false;
	return lease_custody_break(custody, who, LEASE_DAEMON);
}

/* A block above SIZE_CLASS_CUT_MAX that a heap has freed and keeps for later: its word changes by CAS only. */
static bool take_cached(struct pool *pool, uint32_t id, uint16_t word)
{
	return lease_is_cached(word) && word != LEASE_FREE &&
	       lease_word_swap(lease_word_at(&pool->lease, slab_record(pool, id)->first_word), word, LEASE_FREE);
}

uint64_t slab_recall(struct pool *pool, uint32_t id, bool takes_cached)
{
	uint64_t n_bytes = extent_size(&pool->map, slab_extent(pool, id));
	uint16_t words[SLAB_SLOTS_MAX];
	struct slab_count count;
	bool is_empty, is_read = false;

	if (!LEASE_RULE(RECALL_READS))
		is_read = slab_read(pool, id, words, &count);
	if (!lease_is_sound(pool) || !take_custody(pool, id))
		return 0;
	is_empty =
		(is_read || slab_read(pool, id, words, &count)) &&
		(count.n_free == slab_record(pool, id)->n_slots ||
		 (takes_cached && slab_slot_bytes(pool, id) > SIZE_CLASS_CUT_MAX && take_cached(pool, id, words[0])));
	if (is_empty && lease_is_sound(pool)) {
		slab_end(pool, id);
		return n_bytes;
	}
	lease_custody_give(&lease_slab_at(&pool->lease, id)->custody);
	return 0;
}

/* One at least. Return: bytes that are gaps again */
static uint64_t recall_from(struct pool *pool, uint32_t *idp, struct step *step)
{
	uint64_t n_bytes = 0;

	do {
		if (slab_exists(pool, *idp))
			n_bytes += slab_recall(pool, *idp, true);
	} while (++*idp < pool->slab_records.n_high && !step_is_over_now(step));
	return n_bytes;
}

static uint64_t due_at(const struct lease *lease)
{
	uint64_t rest = lease->scan_ns * REST_FACTOR;

	if (rest < REST_MIN_NS)
		return 0;
	return lease->scan_end_ns + (rest < REST_MAX_NS ? rest : REST_MAX_NS);
}

static void sleep_until(struct pool *pool, uint64_t due_ns)
{
	struct timespec until = {.tv_sec = (time_t)(due_ns / 1000000000u), .tv_nsec = (long)(due_ns % 1000000000u)};

	pool_unlock(pool);
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
		;
	pool_lock_after_others(pool);
}

/* Return: bytes that are gaps again */
static uint64_t scan(struct pool *pool, unsigned flags)
{
	struct lease *lease = &pool->lease;
	uint64_t begin, n_bytes = 0, ns = 0;
	uint32_t id = 0;
	struct step step;

	lease->is_scanning = true;
	lease->n_begun++;
	while (!pool->is_destroyed && id < pool->slab_records.n_high) {
		begin = clock_ns(CLOCK_MONOTONIC);
		step = step_begin();
		n_bytes += recall_from(pool, &id, &step);
		ns += clock_ns(CLOCK_MONOTONIC) - begin;
		if (id < pool->slab_records.n_high && flags & POOL_MAY_BLOCK)
			pool_hand_over(pool);
	}
	lease->scan_end_ns = clock_ns(CLOCK_MONOTONIC);
	lease->scan_ns = ns;
	lease->is_scanning = false;
	lease->n_ended++;
	pthread_cond_broadcast(&pool->scan_ended);
	return n_bytes;
}

/* The scan that @asker waits for: the next one, or that which was the next when it was sent to stand in line for a worker. */
static uint64_t scan_for(struct pool_member *asker, uint64_t next)
{
	uint64_t scan = asker ? asker->call.scan : 0;

	if (asker)
		asker->call.scan = 0;
	return scan ? scan : next;
}

/*
 * One scan at a time, and a rest after each. Whoever comes meanwhile has what the next one brings, whoever's it is: one that had
 * begun before may have passed what is empty since. So however many ask at once, a scan or two answer all of them.
 */
int slab_recall_all(struct pool *pool, struct pool_member *asker, unsigned flags, bool *changedp)
{
	struct lease *lease = &pool->lease;
	uint64_t next = lease->n_begun + 1, mine;

	*changedp = false;
	if (!lease->is_on || !pool->slab_records.n || !lease_is_sound(pool))
		return 0;
	if (!(flags & POOL_MAY_BLOCK) &&
	    (lease_is_large(pool) || lease->is_scanning || clock_ns(CLOCK_MONOTONIC) < due_at(lease))) {
		if (asker)
			asker->call.scan = next;
		return POOL_E_SLOW;
	}
	mine = scan_for(asker, next);
	lease_raise_pressure(pool);
	while (!pool->is_destroyed && lease->n_ended < mine) {
		if (lease->is_scanning) {
			pool_wait(pool, &pool->scan_ended);
		} else if (clock_ns(CLOCK_MONOTONIC) < due_at(lease)) {
			sleep_until(pool, due_at(lease));
		} else {
			*changedp = scan(pool, flags) > 0;
			return 0;
		}
	}
	*changedp = true; /* maybe */
	return 0;
}

void slab_recall_empty(struct pool *pool)
{
	struct lease *lease = &pool->lease;
	struct step step = step_begin();
	uint32_t id;

	if (!lease->is_on || lease->decay_at >= pool->slab_records.n_high)
		lease->decay_at = 0;
	while (lease->is_on && lease->decay_at < pool->slab_records.n_high) {
		id = lease->decay_at++;
		if (slab_exists(pool, id) && !slab_grantee(pool, id))
			slab_recall(pool, id, false);
		if (step_is_over_now(&step))
			break;
	}
}

/* A hint: for what one step does not come to, memory is tried again when it is short, or in passing. */
void pool_return_slabs(struct pool_member *member, size_t n, const uint32_t ids[])
{
	struct pool *pool = member->pool;
	struct step step;

	pool_lock(pool);
	step = step_begin();
	for (size_t i = 0; i < n && !pool->is_destroyed; i++) {
		if (i && ids[i] == ids[i - 1])
			continue;
		if (pool->lease.is_on && slab_exists(pool, ids[i]))
			slab_recall(pool, ids[i], false);
		if (step_is_over_now(&step))
			break;
	}
	pool_unlock(pool);
}
