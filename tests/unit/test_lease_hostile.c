// SPDX-License-Identifier: MIT
/*
 * A client that stores what it likes into its pool's lease segment, at any moment: random bytes, words of others, holes, a
 * length of nothing. The daemon does not crash, its own books hold, and the pool beside does not notice.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>

#include "lease_world.h"
#include "tests/lib/rnd.h"

#define N_STEPS 4000

struct vandal {
	struct lease_world *t;
	uint64_t seed;
	bool cuts; /* it shortens and punches the object too */
	_Atomic bool stop;
};

/* Somewhere that matters: a word, a descriptor, an entry of the page map, a heap. */
static uint64_t place(const struct lease_header *layout, struct rnd *rnd)
{
	switch (rnd_below(rnd, 5)) {
	case 0:
		return layout->heaps_at + rnd_below(rnd, 16 * sizeof(struct lease_heap));
	case 1:
		return layout->pages_at + rnd_below(rnd, 4096);
	case 2:
		return layout->slabs_at + rnd_below(rnd, 32 * sizeof(struct lease_slab));
	case 3:
		return rnd_below(rnd, sizeof(struct lease_header));
	}
	return layout->words_at + rnd_below(rnd, 32768);
}

static uint16_t value(struct rnd *rnd)
{
	static const uint16_t values[] = {0,	  0x8000, 0x8001, 0x8002, 1,	  2,	 3,
					  0x7ff1, 0x7ff2, 0x7fef, 0x7ff0, 0xffff, 0xfff0};

	return rnd_below(rnd, 4) ? values[rnd_below(rnd, N_ELEMENTS(values))] : (uint16_t)rnd_next(rnd);
}

static void cut(const struct vandal *vandal, const struct lease_header *layout, struct rnd *rnd)
{
	int fd = pool_lease_fd(vandal->t->pool);
	int r;

	if (rnd_below(rnd, 2))
		r = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			      (off_t)(place(layout, rnd) & ~UINT64_C(4095)), 4096);
	else
		r = ftruncate(fd, (off_t)(rnd_below(rnd, layout->file_bytes)));
	(void)r;
}

static void *vandalise(void *arg)
{
	struct vandal *vandal = arg;
	struct lease_world *t = vandal->t;
	const struct lease_header layout = t->pool->lease.layout;
	struct rnd rnd;

	rnd_init(&rnd, vandal->seed);
	while (!atomic_load(&vandal->stop)) {
		if (vandal->cuts && !rnd_below(&rnd, 2000)) {
			cut(vandal, &layout, &rnd);
			continue;
		}
		if (vandal->cuts) { /* by a call: our own mapping would kill us */
			uint16_t word = value(&rnd);

			if (pwrite(pool_lease_fd(t->pool), &word, 2, (off_t)(place(&layout, &rnd) & ~UINT64_C(1))) < 0)
				continue;
		} else {
			atomic_store_explicit(
				(_Atomic uint16_t *)(void *)(t->map + (place(&layout, &rnd) & ~UINT64_C(1))),
				value(&rnd), memory_order_relaxed);
		}
	}
	return NULL;
}

/* Faults in what a client may write are said; in the daemon's own books there are none. */
static void check_books(struct pool *pool)
{
	pool_lock(pool);
	assert_int_equal(extent_map_check(&pool->map, stderr), 0);
	pool_unlock(pool);
}

static void check_stats(struct pool *pool)
{
	struct pool_stats stats = world_stats(pool);

	assert_int_equal(stats.used + stats.free + stats.leased_idle, stats.total);
}

struct owned { /* blocks by request: nobody else may get these bytes */
	uint64_t offset, size;
};

static void assert_apart(const struct owned owned[], uint32_t n, uint64_t offset, uint64_t size)
{
	for (uint32_t i = 0; i < n; i++)
		assert_true(offset + size <= owned[i].offset || offset >= owned[i].offset + owned[i].size);
}

static void honest_step(struct lease_world *t, struct rnd *rnd, struct owned owned[], uint32_t *np)
{
	uint32_t ids[POOL_SLABS_MAX], n, who = (uint32_t)rnd_below(rnd, N_CLIENTS), heap;
	uint64_t offset = POOL_FIRST + rnd_below(rnd, 4u << 20) / 16 * 16, size = rnd_log(rnd, 16, 100000);
	struct pool_member *member = t->members[who];
	static struct pool_extent page[64];
	struct pool_fault faults[4];
	struct pool_block block;
	uint64_t hint = 0, next = 0;
	int r = 0;

	switch (rnd_below(rnd, 14)) {
	case 0:
	case 1:
		if (!pool_lease_slabs(member, t->heaps[who], size_class_of(size), 4, POOL_MAY_BLOCK, ids, &n))
			for (uint32_t i = 0; i < n; i++)
				assert_apart(owned, *np, slab_base(t->pool, ids[i]),
					     extent_size(&t->pool->map, slab_extent(t->pool, ids[i])));
		return;
	case 2:
	case 3:
		if (*np == 64 || pool_alloc(member, size, 0, POOL_MAY_BLOCK, &block))
			return;
		assert_apart(owned, *np, block.offset, block.size);
		owned[(*np)++] = (struct owned){block.offset, block.size};
		return;
	case 4:
		if (!*np)
			return;
		n = (uint32_t)rnd_below(rnd, *np);
		assert_int_equal(pool_free(member, owned[n].offset), 0);
		owned[n] = owned[--*np];
		return;
	case 5: /* of slots, whatever they are */
		for (uint32_t i = 0; i < *np; i++)
			if (owned[i].offset == offset)
				return;
		r = pool_free(member, offset);
		break;
	case 6:
		for (uint32_t i = 0; i < *np; i++)
			if (owned[i].offset == offset)
				return;
		r = rnd_below(rnd, 2) ? pool_retain(member, offset) : pool_publish(member, offset, NULL, 0);
		break;
	case 7:
		r = pool_inspect(member, offset, &block);
		break;
	case 8:
		check_stats(t->pool);
		return;
	case 9:
		pool_check(t->pool, faults, N_ELEMENTS(faults));
		return;
	case 10:
		pool_extents(t->pool, 0, &hint, page, N_ELEMENTS(page), &next);
		return;
	case 11:
		for (uint32_t i = 0; i < POOL_SLABS_MAX; i++)
			ids[i] = (uint32_t)rnd_below(rnd, 40);
		pool_return_slabs(member, POOL_SLABS_MAX, ids);
		return;
	case 12:
		r = pool_alloc(member, 16u << 20, 0, POOL_MAY_BLOCK, &block);
		if (!r)
			assert_int_equal(pool_free(member, block.offset), 0);
		break;
	case 13:
		if (rnd_below(rnd, 10))
			return;
		for (; *np; --*np)
			assert_int_equal(pool_free(t->members[0], owned[*np - 1].offset), 0);
		world_leave(member);
		t->members[who] = world_join(&t->world, t->pool);
		t->sessions[who] = t->members[who]->session;
		if (!pool_open_heap(t->members[who], true, &heap))
			t->heaps[who] = heap;
		return;
	}
	(void)r; /* any answer is right */
}

static void play(uint64_t seed, bool cuts)
{
	struct lease_world t;
	struct vandal vandal = {.t = &t, .seed = seed + 1, .cuts = cuts};
	struct owned owned[64];
	struct pool *beside;
	struct pool_member *neighbour;
	uint32_t n = 0;
	pthread_t thread;
	struct rnd rnd;

	lease_world_init(&t, 16u << 20, 0);
	beside = world_pool(&t.world, 4u << 20);
	neighbour = world_join(&t.world, beside);
	rnd_init(&rnd, seed);
	assert_int_equal(pthread_create(&thread, NULL, vandalise, &vandal), 0);
	for (int i = 0; i < N_STEPS; i++) {
		t.pool->lease.is_damaged &=
			i % 4 == 0; /* as if it had not been noticed: what comes next must stand too */
		honest_step(&t, &rnd, owned, &n);
		check_books(t.pool);
	}
	atomic_store(&vandal.stop, true);
	pthread_join(thread, NULL);
	world_alloc(neighbour, 100);
	world_check(beside);
	world_leave(neighbour);
	world_destroy(beside);
	lease_world_deinit(&t);
}

static void test_lease_random_words_are_survived(void **state)
{
	for (uint64_t i = 0; i < 4; i++)
		play(*(uint64_t *)*state + i, false);
}

static void test_lease_cut_and_punched_object_is_survived(void **state)
{
	for (uint64_t i = 0; i < 4; i++)
		play(*(uint64_t *)*state + 100 + i, true);
}

/* What was stored while the daemon was down, it finds at its start. */
static void test_lease_recovery_from_random_words(void **state)
{
	struct rnd rnd;

	rnd_init(&rnd, *(uint64_t *)*state);
	for (int i = 0; i < 200; i++) {
		struct lease_world t;
		char name[SEGMENT_NAME_BYTES], why[200] = "";
		struct lease_header layout;
		int r;

		lease_world_init(&t, 16u << 20, i & 1);
		for (int k = 0; k < 20; k++)
			client_alloc(&t, k % N_CLIENTS, rnd_log(&rnd, 16, 3000));
		layout = t.pool->lease.layout;
		snprintf(name, sizeof(name), "%s", pool_books_name(t.pool));
		pool_keep(t.pool);
		world_forget_charges(&t.world);
		for (uint64_t n = rnd_log(&rnd, 1, 5000); n; n--)
			*(_Atomic uint16_t *)(void *)(t.map + (place(&layout, &rnd) & ~UINT64_C(1))) = value(&rnd);
		r = pool_recover(&t.pool, &t.world.env, name, why, sizeof(why));
		if (r)
			fail_msg("not recovered: %s", why);
		check_books(t.pool);
		check_stats(t.pool);
		for (int k = 0; k < N_CLIENTS; k++)
			t.members[k] = pool_member_of(t.pool, t.sessions[k]);
		lease_world_deinit(&t);
	}
}

int main(void)
{
	static uint64_t seed;
	struct CMUnitTest tests[] = {
		cmocka_unit_test_prestate(test_lease_random_words_are_survived, &seed),
		cmocka_unit_test_prestate(test_lease_cut_and_punched_object_is_survived, &seed),
		cmocka_unit_test_prestate(test_lease_recovery_from_random_words, &seed),
	};

	seed = rnd_seed_from_env_or_time();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
