// SPDX-License-Identifier: MIT
/* Slabs whose heap has ended, with blocks in them: leased again before new ones are made. */
#include "lease_world.h"

static void test_orphans_are_leased_again_first(void **state)
{
	struct lease_world t;
	uint32_t ids[POOL_SLABS_MAX], n, id;
	uint64_t a, b;

	(void)state;
	lease_world_init(&t, 64u << 20, 0);
	a = client_alloc(&t, 0, 64);
	b = client_alloc(&t, 0, 64);
	id = client_slab_of(&t, a);
	assert_true(client_take(&t, 1, b, 0)); /* keeps the slab from being empty */
	world_leave(t.members[0]);
	t.members[0] = NULL;
	assert_int_equal(client_slab(&t, id)->grantee, 0);
	assert_int_equal(pool_lease_slabs(t.members[1], t.heaps[1], size_class_of(64), 1, 0, ids, &n), 0);
	assert_int_equal(n, 1);
	assert_int_equal(ids[0], id);
	assert_int_equal(client_slab(&t, id)->grantee, t.heaps[1]);
	assert_int_equal(client_word_at(&t, b), lease_live_of(t.heaps[1]));
	world_check(t.pool);
	lease_world_deinit(&t);
}

/* Of a pool of lifetime pool, full of slots of a page each: client 0 ends, and of its slabs have free slots what @frees says. */
static uint32_t leave_orphans(struct lease_world *t, bool (*frees)(uint32_t id, uint32_t slot))
{
	static uint64_t blocks[16384];
	uint32_t n = 0, n_freed = 0, i;

	lease_world_init(t, 32u << 20, 1);
	while (n < N_ELEMENTS(blocks) && (blocks[n] = client_try_alloc(t, 0, 4096))) {
		n++;
		t->pool->lease.count_ns = 0; /* on a busy machine the figures of a moment ago would refuse a slab */
	}
	for (i = 0; i < n; i++) {
		uint32_t id = client_slab_of(t, blocks[i]);

		if (frees(id, (uint32_t)((blocks[i] - client_slab(t, id)->base) / 4096))) {
			client_free(t, 0, blocks[i]);
			n_freed++;
		}
	}
	world_leave(t->members[0]);
	t->members[0] = NULL;
	return n_freed;
}

/* Every free slot is had by a lease, and no slab twice. */
static void lease_all_of(struct lease_world *t, uint32_t n_free)
{
	static bool is_seen[4096];
	uint32_t ids[POOL_SLABS_MAX], n, n_had = 0;
	int r;

	memset(is_seen, 0, sizeof(is_seen));
	while (!(r = pool_lease_slabs(t->members[1], t->heaps[1], size_class_of(4096), 4, POOL_MAY_BLOCK, ids, &n)))
		for (uint32_t i = 0; i < n; i++) {
			const struct lease_slab *slab = client_slab(t, ids[i]);

			assert_true(ids[i] < N_ELEMENTS(is_seen) && !is_seen[ids[i]]);
			is_seen[ids[i]] = true;
			for (uint32_t k = 0; k < slab->n_slots; k++)
				if (lease_word_peek(client_word(t, ids[i], k)) == LEASE_FREE) {
					lease_word_keep(client_word(t, ids[i], k), lease_live_of(t->heaps[1]));
					n_had++;
				}
		}
	assert_int_equal(r, POOL_E_FULL);
	assert_true(n_had >= n_free);
	world_check(t->pool);
}

static bool frees_of_one(uint32_t id, uint32_t slot)
{
	return id == 40 && slot % 2;
}

static bool frees_most(uint32_t id, uint32_t slot)
{
	(void)id;
	return slot % 16 != 0;
}

/* Most of them are full, whichever way they are listed. */
static void test_orphans_that_are_full_hide_no_other(void **state)
{
	uint32_t ids[POOL_SLABS_MAX], n, n_free;
	struct lease_world t;

	(void)state;
	n_free = leave_orphans(&t, frees_of_one);
	assert_true(n_free > 0);
	assert_int_equal(pool_lease_slabs(t.members[1], t.heaps[1], size_class_of(4096), 4, 0, ids, &n), POOL_E_SLOW);
	lease_all_of(&t, n_free);
	lease_world_deinit(&t);
}

/* A pool that is full of free slots grants no new slab; orphans take no new room. */
static void test_orphans_are_leased_in_a_pool_that_is_used_ill(void **state)
{
	struct lease_world t;
	uint32_t n_free;

	(void)state;
	n_free = leave_orphans(&t, frees_most);
	assert_true((uint64_t)n_free * 4096 > world_stats(t.pool).total / 2);
	lease_all_of(&t, n_free);
	lease_world_deinit(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_orphans_are_leased_again_first),
		cmocka_unit_test(test_orphans_that_are_full_hide_no_other),
		cmocka_unit_test(test_orphans_are_leased_in_a_pool_that_is_used_ill),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
