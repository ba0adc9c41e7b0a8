// SPDX-License-Identifier: MIT
/*
 * Several threads with members of their own on one pool, which is drawn, listed, punched, resized and checked meanwhile, until
 * one destroys it under all of them. Threads record what went wrong; the main thread asserts.
 */
#include <errno.h>
#include <pthread.h>

#include "pool_world.h"
#include "tests/lib/rnd.h"

enum {
	N_THREADS = 4,
	N_ROUNDS = 6000,
	N_MINE = 64,
	N_MAPS = 60
};

struct shared {
	struct world world;
	struct pool *pool;
	struct pool_member *members[N_THREADS];
	bool until_destroyed; /* as long as the pool is there, however late it is destroyed; else N_ROUNDS */
	atomic_bool is_done, is_destroyed_soon;
	_Atomic uint64_t n_unforeseen, n_destroyed;
};

struct worker {
	struct shared *shared;
	struct pool_member *member;
	uint64_t mine[N_MINE];
	struct rnd rnd;
};

static void foresee(struct worker *worker, bool holds)
{
	atomic_fetch_add(&worker->shared->n_unforeseen, !holds);
}

/* Return: false when the pool is destroyed */
static bool is_there(struct worker *worker, int r)
{
	if (r == POOL_E_DESTROYED) {
		atomic_fetch_add(&worker->shared->n_destroyed, 1);
		foresee(worker, atomic_load(&worker->shared->is_destroyed_soon));
	}
	return r != POOL_E_DESTROYED;
}

/* A block is freed by others too, now and then: that it is gone is foreseen. */
static bool drop(struct worker *worker, uint64_t *offset)
{
	int r = *offset ? pool_free(worker->member, *offset) : 0;

	foresee(worker, r == 0 || r == POOL_E_FREED || r == POOL_E_NO_BLOCK || r == POOL_E_DESTROYED);
	*offset = 0;
	return is_there(worker, r);
}

static bool make(struct worker *worker, uint64_t *offset)
{
	uint64_t size = 1 + rnd_below(&worker->rnd, rnd_below(&worker->rnd, 50) ? 2000 : 3 << 20);
	struct pool_block block = {0};
	int r = pool_alloc(worker->member, size, 0, 0, &block);

	if (r == POOL_E_SLOW)
		r = pool_alloc(worker->member, size, 0, POOL_MAY_BLOCK, &block);
	foresee(worker, r == 0 || r == POOL_E_FULL || r == POOL_E_UNBACKED || r == POOL_E_DESTROYED);
	*offset = block.offset;
	return is_there(worker, r);
}

static bool change(struct worker *worker, uint64_t *offset)
{
	struct pool_block block;
	uint64_t old = *offset;
	int r = pool_realloc(worker->member, old, 1 + rnd_below(&worker->rnd, 3000), POOL_MAY_BLOCK, &block);

	if (!r && block.moved && old)
		r = drop(worker, offset) ? 0 : POOL_E_DESTROYED;
	if (!r)
		*offset = block.offset;
	return is_there(worker, r);
}

static bool share(struct worker *worker, uint64_t *offset)
{
	char name[2] = {(char)('a' + rnd_below(&worker->rnd, 8)), 0};
	struct pool_block block;
	int r = pool_publish(worker->member, *offset, name, rnd_below(&worker->rnd, 2));

	*offset = r ? *offset : 0; /* the pool's now */
	if (!r && !pool_find(worker->member, name, 1, true, &block))
		r = pool_free(worker->member, block.offset);
	return is_there(worker, r);
}

static bool step(struct worker *worker)
{
	uint64_t *offset = worker->mine + rnd_below(&worker->rnd, N_MINE);
	struct shared *shared = worker->shared;

	switch (rnd_below(&worker->rnd, 12)) {
	case 0:
		return !*offset || share(worker, offset);
	case 1:
		return change(worker, offset);
	case 2: /* anybody may free anything */
		return is_there(worker, pool_free(worker->member, POOL_FIRST + 16 * rnd_below(&worker->rnd, 4096)));
	case 3:
		return !*offset || is_there(worker, pool_retain(worker->member, *offset));
	case 4:
		return is_there(worker, pool_take(worker->member, POOL_FIRST + 16 * rnd_below(&worker->rnd, 4096),
						  1 + rnd_below(&worker->rnd, shared->world.n_sessions)));
	default:
		return drop(worker, offset) && make(worker, offset);
	}
}

static void *work(void *arg)
{
	struct worker *worker = arg;
	struct pool_warning report = {0};

	for (int i = 0; (i < N_ROUNDS || worker->shared->until_destroyed) && step(worker); i += i < N_ROUNDS)
		;
	while (pool_leave_step(worker->member, &report))
		;
	return NULL;
}

static void *look(void *arg)
{
	struct shared *shared = arg;
	static struct pool_extent page[256];
	static uint64_t used[300];
	static uint32_t holder[300];
	struct pool_holder holders[4];
	struct pool_gap gaps[16];
	struct pool_fault faults[2];
	uint64_t size = 12 << 20;
	int r;

	for (int i = 0; !atomic_load(&shared->is_done); i++) {
		struct pool_cells cells = {.n = 300, .used = used, .holder = holder, .holders = holders};
		struct pool_stats stats = world_stats(shared->pool);
		uint64_t next = 0, hint = 0, at = POOL_FIRST;

		cells.n_holders = pool_holders(shared->pool, holders, 4);
		pool_draw(shared->pool, &cells);
		pool_gaps(shared->pool, gaps, 16);
		do { /* no seam, whatever happens in between */
			for (uint32_t k = 0, n = pool_extents(shared->pool, next, &hint, page, 256, &next); k < n;
			     k++) {
				atomic_fetch_add(&shared->n_unforeseen, page[k].offset != at);
				at += page[k].size;
			}
		} while (next);
		atomic_fetch_add(&shared->n_unforeseen, stats.used + stats.free != stats.total);
		atomic_fetch_add(&shared->n_unforeseen, pool_check(shared->pool, faults, 2));
		pool_decay_step(shared->pool);
		if (i % 8 == 0) {
			size += 40000;
			r = pool_resize(shared->pool, NULL, size, i % 16 ? POOL_MAY_BLOCK : 0);
			atomic_fetch_add(&shared->n_unforeseen,
					 r != 0 && r != POOL_E_SLOW && r != POOL_E_ABOVE_MAX && r != POOL_E_DESTROYED);
		}
	}
	return NULL;
}

static void play(bool destroy_early)
{
	struct pool_options options = world_options(12 << 20);
	static struct worker workers[N_THREADS];
	pthread_t threads[N_THREADS], looker;
	struct pool_warning warning;
	struct shared shared;

	world_init(&shared.world);
	shared.world.env.decay_ms = 0;
	shared.world.env.decay_wanted = NULL;
	options.max_size = 64 << 20;
	shared.until_destroyed = destroy_early;
	shared.pool = world_pool_with(&shared.world, &options);
	atomic_init(&shared.is_done, false);
	atomic_init(&shared.is_destroyed_soon, false);
	atomic_init(&shared.n_unforeseen, 0);
	atomic_init(&shared.n_destroyed, 0);
	for (uint32_t i = 0; i < N_THREADS; i++)
		shared.members[i] = world_join_as(&shared.world, shared.pool, WORLD_UID + i);
	assert_int_equal(pthread_create(&looker, NULL, look, &shared), 0);
	for (uint32_t i = 0; i < N_THREADS; i++) {
		workers[i] = (struct worker){.shared = &shared, .member = shared.members[i]};
		rnd_init(&workers[i].rnd, i + 1);
		assert_int_equal(pthread_create(threads + i, NULL, work, workers + i), 0);
	}
	while (destroy_early && world_stats(shared.pool).alloc_total < N_ROUNDS)
		;
	if (destroy_early) {
		atomic_store(&shared.is_destroyed_soon, true);
		assert_int_equal(pool_destroy(shared.pool, false, &warning), 0);
	}
	for (int i = 0; i < N_THREADS; i++)
		pthread_join(threads[i], NULL);
	atomic_store(&shared.is_done, true);
	pthread_join(looker, NULL);
	assert_int_equal(atomic_load(&shared.n_unforeseen), 0);
	if (destroy_early)
		assert_true(atomic_load(&shared.n_destroyed) >= N_THREADS); /* each was told, some in two calls */
	else
		assert_int_equal(atomic_load(&shared.n_destroyed), 0);
	if (!destroy_early) {
		world_check(shared.pool);
		assert_int_equal(world_stats(shared.pool).backed, atomic_load(&shared.pool->backing.backed_bytes));
		assert_int_equal(pool_destroy(shared.pool, false, &warning), 0);
	}
	pool_unref(shared.pool);
	world_deinit(&shared.world);
}

static void test_pool_threads_end_with_sound_books(void **state)
{
	(void)state;
	play(false);
}

static void test_pool_destroyed_under_its_threads_charges_nobody(void **state)
{
	(void)state;
	play(true);
}

/* Who waits for the mutex of a pool that a long end keeps busy gets it between two steps. */
static void *end_member(void *arg)
{
	struct pool_warning report = {0};

	while (pool_leave_step(arg, &report))
		;
	return NULL;
}

/* Return: how many pairs were served meanwhile */
static uint64_t serve_while_a_session_ends(void)
{
	struct pool_member *ending, *other;
	uint64_t n_during = 0, start_ns, ns, longest_ns = 0;
	struct world world;
	struct pool *pool;
	pthread_t thread;

	world_init(&world);
	pool = world_pool(&world, 64 << 20);
	ending = world_join(&world, pool);
	other = world_join(&world, pool);
	for (int i = 0; i < 500000; i++)
		world_alloc(ending, 16);
	assert_int_equal(pthread_create(&thread, NULL, end_member, ending), 0);
	while (world_stats(pool).sessions == 2) {
		start_ns = clock_ns(CLOCK_MONOTONIC);
		assert_int_equal(pool_free(other, world_alloc(other, 100)), 0);
		ns = clock_ns(CLOCK_MONOTONIC) - start_ns;
		longest_ns = ns > longest_ns ? ns : longest_ns;
		n_during++;
	}
	pthread_join(thread, NULL);
	printf("%llu pairs while 500000 blocks ended, the slowest %llu us\n", (unsigned long long)n_during,
	       (unsigned long long)longest_ns / 1000);
	world_leave(other);
	world_destroy(pool);
	world_deinit(&world);
	return n_during;
}

/* On a busy machine this thread may sleep while all of it happens; but not each time. */
static void test_pool_requests_go_on_while_a_session_ends(void **state)
{
	uint64_t n_during = 0;

	(void)state;
	for (int i = 0; i < 20 && n_during <= 20; i++)
		n_during = serve_while_a_session_ends();
	assert_true(n_during > 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pool_threads_end_with_sound_books),
		cmocka_unit_test(test_pool_destroyed_under_its_threads_charges_nobody),
		cmocka_unit_test(test_pool_requests_go_on_while_a_session_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
