// SPDX-License-Identifier: MIT
/*
 * Leases, each outcome of each call. The client is simulated by what it may do: words and custody, through a mapping of its own
 * of the lease segment.
 */
#include <sys/mman.h>

#include "lease_world.h"

static void test_lease_open_heap_small_pool_refuses(void **state)
{
	struct world world;
	struct pool *pool;
	struct pool_member *member;
	uint32_t heap;

	(void)state;
	world_init(&world);
	pool = world_pool(&world, LEASE_TOTAL_MIN - 16);
	member = world_join(&world, pool);
	assert_int_equal(pool_open_heap(member, true, &heap), POOL_E_NO_LEASES);
	assert_int_equal(pool_lease_fd(pool), -1);
	world_leave(member);
	world_destroy(pool);
	world_deinit(&world);
}

static void test_lease_off_refuses(void **state)
{
	struct pool_options options = world_options(8u << 20);
	struct pool_member *member;
	struct world world;
	struct pool *pool;
	uint32_t heap;

	(void)state;
	options.lease = 1;
	world_init(&world);
	pool = world_pool_with(&world, &options);
	member = world_join(&world, pool);
	assert_int_equal(pool_open_heap(member, true, &heap), POOL_E_NO_LEASES);
	world_leave(member);
	world_destroy(pool);
	world_deinit(&world);
}

/* Blocks lie between guards in their slots, and are called by their own offsets. */
static void test_lease_of_a_guarded_pool(void **state)
{
	struct pool_options options = world_options(8u << 20);
	struct lease_world t;
	struct pool_block block;
	uint64_t slot;
	uint32_t ids[POOL_SLABS_MAX], n;

	(void)state;
	options.guard = true;
	lease_world_init_with(&t, &options);
	assert_int_equal(pool_lease_slabs(t.members[0], t.heaps[0], size_class_of(32), 1, 0, ids, &n), POOL_E_INVALID);
	slot = client_alloc(&t, 0, 144);
	assert_int_equal(pool_inspect(t.members[1], slot, &block), POOL_E_NO_BLOCK);
	assert_int_equal(pool_inspect(t.members[1], slot + 16, &block), 0);
	assert_true(block.offset == slot + 16 && block.size == 144 - 32 && block.owner == t.sessions[0]);
	assert_int_equal(pool_retain(t.members[0], slot + 16), 0);
	assert_int_equal(client_word_at(&t, slot), LEASE_PINNED);
	lease_world_restart(&t);
	assert_int_equal(pool_inspect(t.members[1], slot + 16, &block), 0);
	assert_true(block.offset == slot + 16 && block.size == 144 - 32 && block.owner == t.sessions[0]);
	assert_int_equal(pool_realloc(t.members[0], slot + 16, 100, 0, &block), 0);
	assert_true(block.offset == slot + 16 && !block.moved);
	assert_int_equal(pool_realloc(t.members[0], slot + 16, 113, 0, &block), POOL_E_PINNED); /* into its guard */
	world_check(t.pool);
	assert_int_equal(pool_free(t.members[0], slot + 16), 0);
	assert_int_equal(pool_free(t.members[0], slot + 16), 0);
	assert_int_equal(client_word_at(&t, slot), LEASE_FREE);
	assert_int_equal(pool_free(t.members[0], slot + 16), POOL_E_FREED);
	lease_world_deinit(&t);
}

static void test_slab_shapes_waste_little(void **state)
{
	struct slab_shape shape;

	(void)state;
	for (uint32_t c = 0; c < SIZE_CLASS_N; c++) {
		uint64_t slot_bytes = size_class_bytes(c);

		assert_true(slab_shape_of(c, UINT64_MAX / 2, &shape));
		assert_true(shape.n_slots && shape.n_slots <= SLAB_SLOTS_MAX && shape.n_bytes % 4096 == 0);
		assert_true(shape.n_slots * slot_bytes <= shape.n_bytes);
		assert_true((shape.n_bytes - shape.n_slots * slot_bytes) * 50 <= shape.n_bytes); /* 2 % */
		assert_int_equal(shape.n_slots == 1, slot_bytes > SIZE_CLASS_CUT_MAX);
		assert_false(slab_shape_of(c, 0, &shape));
		if (slab_shape_of(c, 4096, &shape))
			assert_int_equal(shape.n_bytes, 4096);
		else
			assert_true(slot_bytes > 4096);
	}
}

static void test_lease_grant_describes_the_slab(void **state)
{
	struct lease_world t;
	struct lease_slab *slab;
	uint32_t ids[POOL_SLABS_MAX], n;

	(void)state;
	lease_world_init(&t, 64u << 20, 0);
	assert_int_equal(pool_lease_slabs(t.members[0], t.heaps[0], size_class_of(64), 3, 0, ids, &n), 0);
	assert_int_equal(n, 3);
	for (uint32_t i = 0; i < n; i++) {
		slab = client_slab(&t, ids[i]);
		assert_int_equal(slab->slot_bytes, 64);
		assert_int_equal(slab->grantee, t.heaps[0]);
		assert_int_equal(slab->custody, LEASE_IDLE);
		assert_int_equal(client_slab_of(&t, slab->base), ids[i]);
		assert_int_equal(client_slab_of(&t, slab->base + 64u * slab->n_slots - 1), ids[i]);
		for (uint32_t k = 0; k < slab->n_slots; k++)
			assert_int_equal(*client_word(&t, ids[i], k), LEASE_FREE);
	}
	assert_int_equal(world_stats(t.pool).used, 0);
	assert_int_equal(world_stats(t.pool).leased_idle, 3 * (64u << 10));
	world_check(t.pool);
	lease_world_deinit(&t);
}

static void test_lease_foreign_heap_is_refused(void **state)
{
	struct lease_world t;
	uint32_t ids[POOL_SLABS_MAX], n;

	(void)state;
	lease_world_init(&t, 64u << 20, 0);
	assert_int_equal(pool_lease_slabs(t.members[0], t.heaps[1], 3, 1, 0, ids, &n), POOL_E_INVALID);
	assert_int_equal(pool_lease_slabs(t.members[0], 0, 3, 1, 0, ids, &n), POOL_E_INVALID);
	assert_int_equal(pool_lease_slabs(t.members[0], UINT32_MAX, 3, 1, 0, ids, &n), POOL_E_INVALID);
	assert_int_equal(pool_lease_slabs(t.members[0], t.heaps[0], SIZE_CLASS_N, 1, 0, ids, &n), POOL_E_INVALID);
	lease_world_deinit(&t);
}

static void test_lease_same_request_has_the_same_answer(void **state)
{
	struct lease_world t;
	uint32_t first[POOL_SLABS_MAX], again[POOL_SLABS_MAX], n, m, heap, heap_again;

	(void)state;
	lease_world_init(&t, 64u << 20, 0);
	t.members[0]->call.id = 7;
	assert_int_equal(pool_lease_slabs(t.members[0], t.heaps[0], 9, 4, 0, first, &n), 0);
	assert_int_equal(pool_lease_slabs(t.members[0], t.heaps[0], 9, 4, 0, again, &m), 0);
	assert_int_equal(n, m);
	assert_memory_equal(first, again, n * sizeof(first[0]));
	t.members[0]->call.id = 8;
	assert_int_equal(pool_open_heap(t.members[0], true, &heap), 0);
	assert_int_equal(pool_open_heap(t.members[0], true, &heap_again), 0);
	assert_int_equal(heap, heap_again);
	lease_world_restart(&t);
	t.members[0]->call.id = 7;
	assert_int_equal(pool_lease_slabs(t.members[0], t.heaps[0], 9, 4, 0, again, &m), 0);
	assert_int_equal(n, m);
	assert_memory_equal(first, again, n * sizeof(first[0]));
	t.members[0]->call.id = 8;
	assert_int_equal(pool_open_heap(t.members[0], true, &heap_again), 0);
	assert_int_equal(heap, heap_again);
	t.members[0]->call.id = 0;
	lease_world_deinit(&t);
}

static void test_lease_death_frees_live_and_cached(void **state)
{
	struct lease_world t;
	struct pool_warning report;
	uint64_t a, b;

	(void)state;
	lease_world_init(&t, 64u << 20, 0);
	a = client_alloc(&t, 0, 100);
	b = client_alloc(&t, 0, 100);
	client_free(&t, 1, b); /* heap 1 keeps the slot */
	assert_int_equal(client_word_at(&t, a), lease_live_of(t.heaps[0]));
	assert_int_equal(client_word_at(&t, b), lease_cached_by(t.heaps[1]));
	assert_int_equal(world_stats(t.pool).allocations, 1);
	report = world_leave(t.members[0]);
	t.members[0] = NULL;
	assert_int_equal(report.n_blocks, 1);
	assert_int_equal(report.n_bytes, 112);
	assert_int_equal(client_word_at(&t, a), LEASE_FREE);
	assert_int_equal(client_word_at(&t, b), lease_cached_by(t.heaps[1]));
	world_check(t.pool);
	lease_world_deinit(&t);
}

static void test_lease_death_with_lifetime_pool_leaves_blocks(void **state)
{
	struct lease_world t;
	uint64_t a;
	struct pool_block block;

	(void)state;
	lease_world_init(&t, 64u << 20, 1);
	a = client_alloc(&t, 0, 100);
	world_leave(t.members[0]);
	t.members[0] = NULL;
	assert_int_equal(client_word_at(&t, a), LEASE_POOLS);
	assert_int_equal(pool_inspect(t.members[1], a, &block), 0);
	assert_int_equal(block.owner, 0);
	assert_int_equal(block.size, 112);
	assert_int_equal(pool_retain(t.members[1], a), 0);
	assert_int_equal(client_word_at(&t, a), LEASE_PINNED);
	assert_int_equal(pool_free(t.members[1], a), 0); /* its own retain */
	assert_int_equal(client_word_at(&t, a), LEASE_PINNED);
	assert_int_equal(pool_free(t.members[1], a), 0); /* the pool's */
	assert_int_equal(client_word_at(&t, a), LEASE_FREE);
	assert_int_equal(pool_free(t.members[1], a), POOL_E_FREED);
	world_check(t.pool);
	lease_world_deinit(&t);
}

static void test_lease_pins_hold_names_and_frees_by_request(void **state)
{
	struct lease_world t;
	struct pool_block block;
	uint64_t a, b;

	(void)state;
	lease_world_init(&t, 64u << 20, 0);
	a = client_alloc(&t, 0, 64);
	b = client_alloc(&t, 0, 64);
	assert_int_equal(pool_retain(t.members[1], a), POOL_E_NOT_OWNER);
	assert_int_equal(client_word_at(&t, a), lease_live_of(t.heaps[0])); /* not pinned for nothing */
	assert_int_equal(pool_publish(t.members[1], a, "x", 1), POOL_E_NOT_OWNER);
	assert_int_equal(pool_publish(t.members[0], a, "x", 1), 0);
	assert_int_equal(client_word_at(&t, a), LEASE_PINNED);
	assert_int_equal(pool_find(t.members[1], "x", 1, true, &block), 0);
	assert_int_equal(block.offset, a);
	assert_int_equal(block.size, 64);
	world_check(t.pool);
	world_leave(t.members[0]);
	t.members[0] = NULL;
	assert_int_equal(client_word_at(&t, a), LEASE_PINNED);
	assert_int_equal(client_word_at(&t, b), LEASE_FREE);
	assert_int_equal(pool_free(t.members[1], a), 0);
	assert_int_equal(pool_free(t.members[1], a), 0);
	assert_int_equal(client_word_at(&t, a), LEASE_FREE);
	assert_int_equal(pool_free(t.members[1], b), POOL_E_FREED);
	assert_int_equal(pool_free(t.members[1], b + 16), POOL_E_NO_BLOCK);
	world_check(t.pool);
	lease_world_deinit(&t);
}

static void test_lease_take_and_free_by_request(void **state)
{
	struct lease_world t;
	uint64_t a, failed[4], batch[4];
	size_t n_failed;

	(void)state;
	lease_world_init(&t, 64u << 20, 0);
	a = client_alloc(&t, 0, 64);
	assert_int_equal(pool_take(t.members[1], a, 12345), POOL_E_STALE);
	assert_int_equal(pool_take(t.members[1], a, t.members[0]->session), 0);
	assert_int_equal(pool_take(t.members[1], a, t.members[0]->session), POOL_E_STALE);
	assert_int_equal(pool_free(t.members[1], a), 0);
	for (int i = 0; i < 4; i++)
		batch[i] = i == 2 ? world_alloc(t.members[0], 48) : client_alloc(&t, 0, 64);
	t.members[1]->call.id = 3;
	assert_int_equal(pool_free_batch(t.members[1], 4, batch, failed, &n_failed), 0);
	assert_int_equal(n_failed, 0);
	t.members[1]->call.id = 0;
	assert_int_equal(world_stats(t.pool).allocations, 0);
	world_check(t.pool);
	lease_world_deinit(&t);
}

static void test_lease_realloc_by_request(void **state)
{
	struct lease_world t;
	struct pool_block block;
	uint64_t a;

	(void)state;
	lease_world_init(&t, 64u << 20, 0);
	a = client_alloc(&t, 0, 100);
	assert_int_equal(pool_realloc(t.members[0], a, 112, 0, &block), 0);
	assert_int_equal(block.offset, a);
	assert_false(block.moved);
	assert_int_equal(pool_realloc(t.members[1], a, 50, 0, &block), POOL_E_NOT_OWNER);
	assert_int_equal(pool_realloc(t.members[0], a, 113, 0, &block), 0);
	assert_true(block.moved);
	assert_int_equal(block.old_size, 112);
	assert_int_equal(client_word_at(&t, a), lease_live_of(t.heaps[0]));
	client_free(&t, 0, a);
	a = client_alloc(&t, 0, 100);
	assert_int_equal(pool_publish(t.members[0], a, NULL, 0), 0);
	assert_int_equal(pool_retain(t.members[0], a), 0);
	assert_int_equal(pool_realloc(t.members[0], a, 112, 0, &block), 0);
	assert_int_equal(pool_realloc(t.members[0], a, 113, 0, &block), POOL_E_PINNED);
	world_check(t.pool);
	lease_world_deinit(&t);
}

/* Client 0 ends and comes again. Return: the number that it gets */
static uint32_t begin_again(struct lease_world *t, bool marks)
{
	uint32_t heap = 0;

	world_leave(t->members[0]);
	t->members[0] = world_join(&t->world, t->pool);
	t->sessions[0] = t->members[0]->session;
	assert_int_equal(pool_open_heap(t->members[0], marks, &heap), 0);
	return heap;
}

/* Heaps that are idle keep no number back; one that has it in hand does, over a restart, too. */
static void test_lease_numbers_wait_while_they_are_in_hand(void **state)
{
	struct lease_world t;
	uint32_t first, second, heap;

	(void)state;
	lease_world_init(&t, 64u << 20, 0);
	first = t.heaps[0];
	client_heap(&t, 1)->is_foreign = 1;
	second = begin_again(&t, true);
	assert_int_not_equal(second, first);
	lease_world_restart(&t);
	assert_int_equal(pool_open_heap(t.members[0], true, &heap), 0);
	assert_true(heap != first && heap != second);
	client_heap(&t, 1)->is_foreign = 0;
	assert_int_equal(pool_open_heap(t.members[0], true, &heap), 0);
	assert_int_equal(heap, first);
	world_check(t.pool);
	lease_world_deinit(&t);
}

/* A request that its thread has given up, or another thread of the same heap waits for, may come while it is in a free. */
static void test_lease_requests_of_heaps_that_tell_free_no_number(void **state)
{
	uint32_t first, ids[POOL_SLABS_MAX], n, heap;
	struct lease_world t;

	(void)state;
	lease_world_init(&t, 64u << 20, 0);
	first = t.heaps[0];
	client_heap(&t, 1)->is_foreign = 1;
	assert_int_not_equal(begin_again(&t, true), first);
	assert_int_equal(pool_lease_slabs(t.members[1], t.heaps[1], 0, 1, 0, ids, &n), 0);
	assert_int_equal(pool_open_heap(t.members[0], true, &heap), 0);
	assert_int_not_equal(heap, first);
	client_heap(&t, 1)->is_foreign = 0;
	assert_int_equal(pool_open_heap(t.members[0], true, &heap), 0);
	assert_int_equal(heap, first);
	lease_world_deinit(&t);
}

/* Of a client that does not say what it has in hand, only a request tells. */
static void test_lease_numbers_wait_for_heaps_that_do_not_tell(void **state)
{
	struct lease_world t;
	uint32_t first, silent, heap, ids[POOL_SLABS_MAX], n;

	(void)state;
	lease_world_init(&t, 64u << 20, 0);
	first = t.heaps[0];
	assert_int_equal(pool_open_heap(t.members[1], false, &silent), 0);
	assert_int_not_equal(begin_again(&t, true), first);
	assert_int_equal(pool_lease_slabs(t.members[1], silent, 0, 1, 0, ids, &n), 0);
	assert_int_equal(pool_open_heap(t.members[0], true, &heap), 0);
	assert_int_equal(heap, first);
	world_check(t.pool);
	lease_world_deinit(&t);
}

/* All of them given out: others go by request until some come back, whoever is idle meanwhile. */
static void test_lease_numbers_run_out(void **state)
{
	struct lease_world t;
	uint32_t heap, n = 0;
	int r;

	(void)state;
	lease_world_init(&t, 64u << 20, 0);
	while (!(r = pool_open_heap(t.members[0], true, &heap)))
		n++;
	assert_int_equal(r, POOL_E_NO_HEAP);
	assert_int_equal(n, LEASE_HEAPS_MAX - 1 - N_CLIENTS);
	assert_int_equal(pool_open_heap(t.members[1], true, &heap), POOL_E_NO_HEAP);
	assert_int_equal(begin_again(&t, true), heap); /* its last, which was first in quarantine */
	assert_int_equal(pool_open_heap(t.members[1], true, &heap), 0);
	world_check(t.pool);
	lease_world_deinit(&t);
}

static void commit_nothing(void *arg)
{
	(void)arg;
}

/* What the survey has counted is told; whether a slot is live is looked at again, and what is only cached is nobody's. */
static void test_lease_destroy_counts_slots(void **state)
{
	struct pool_warning warning;
	struct lease_world t;
	uint64_t slots[100];

	(void)state;
	for (int is_empty = 0; is_empty < 2; is_empty++) {
		lease_world_init(&t, 64u << 20, 0);
		for (unsigned i = 0; i < N_ELEMENTS(slots); i++)
			slots[i] = client_alloc(&t, 0, 64);
		assert_int_equal(pool_destroy(t.pool, true, &warning), POOL_E_NOT_EMPTY);
		for (unsigned i = 0; i < N_ELEMENTS(slots) - 1; i++)
			client_free(&t, 0, slots[i]);
		pool_survey(t.pool, true);
		assert_int_equal(pool_destroy_with(t.pool, true, &warning, NULL, NULL), POOL_E_NOT_EMPTY);
		if (is_empty)
			client_free(&t, 0, slots[N_ELEMENTS(slots) - 1]);
		assert_int_equal(pool_destroy(t.pool, is_empty, &warning), 0);
		assert_int_equal(warning.n_blocks, !is_empty);
		assert_int_equal(warning.n_bytes, is_empty ? 0 : 64);
		assert_int_equal(warning.n_holders, !is_empty);
		for (int i = 0; i < N_CLIENTS; i++)
			world_leave(t.members[i]);
		munmap(t.map, t.map_bytes);
		pool_unref(t.pool);
		world_deinit(&t.world);
	}
}

/* Nobody else may open any pool while this one is destroyed: words of a hundred thousand slots are not read then. */
static void test_lease_destroy_of_a_large_pool_reads_no_words(void **state)
{
	struct pool_warning warning;
	_Atomic uint16_t *word = NULL;
	uint32_t ids[POOL_SLABS_MAX], n;
	struct lease_world t;

	(void)state;
	lease_world_init(&t, 64u << 20, 0);
	while (!lease_is_large(t.pool)) {
		assert_int_equal(pool_lease_slabs(t.members[0], t.heaps[0], 0, POOL_SLABS_MAX, POOL_MAY_BLOCK, ids, &n),
				 0);
		for (uint32_t i = 0; i < n; i++) /* so that they cannot be taken back */
			assert_true(lease_custody_take(&client_slab(&t, ids[i])->custody, t.heaps[0]));
		word = client_word(&t, ids[0], 0);
	}
	lease_word_keep(word, lease_live_of(t.heaps[0]));
	pool_survey(t.pool, true);
	assert_int_equal(pool_destroy_with(t.pool, true, &warning, NULL, NULL), POOL_E_NOT_EMPTY);
	lease_word_keep(word, LEASE_FREE);
	pool_survey(t.pool, true);
	lease_count(&client_heap(&t, 0)->n_free); /* a slot was live where the survey had been, or was not yet */
	assert_int_equal(pool_destroy_with(t.pool, true, &warning, NULL, NULL), POOL_E_NOT_EMPTY);
	pool_survey(t.pool, true);
	lease_word_keep(word, 0); /* whoever reads that has found damage */
	assert_int_equal(pool_destroy_with(t.pool, true, &warning, commit_nothing, NULL), 0);
	assert_false(t.pool->lease.is_damaged);
	for (int i = 0; i < N_CLIENTS; i++)
		world_leave(t.members[i]);
	munmap(t.map, t.map_bytes);
	pool_unref(t.pool);
	world_deinit(&t.world);
}

/* Of many who are refused, most are told figures of a moment ago. */
static void test_lease_words_of_a_large_pool_are_not_read_for_each_sentence(void **state)
{
	uint32_t ids[POOL_SLABS_MAX], n;
	struct lease_world t;
	char sentence[640];

	(void)state;
	lease_world_init(&t, 64u << 20, 0);
	while (!lease_is_large(t.pool))
		assert_int_equal(pool_lease_slabs(t.members[0], t.heaps[0], 0, POOL_SLABS_MAX, POOL_MAY_BLOCK, ids, &n),
				 0);
	pool_explain_full(t.pool, POOL_E_FULL, 1, 0, sentence, sizeof(sentence));
	assert_non_null(strstr(sentence, "idle in slabs"));
	lease_word_keep(client_word(&t, ids[0], 0), 0); /* whoever reads that has found damage */
	t.pool->lease.count_ns =
		t.pool->lease.count_end_ns; /* as if it had taken so long that it is not due for days */
	pool_explain_full(t.pool, POOL_E_FULL, 1, 0, sentence, sizeof(sentence));
	assert_non_null(strstr(sentence, "idle in slabs"));
	assert_false(t.pool->lease.is_damaged);
	t.pool->lease.count_ns = 0;
	pool_explain_full(t.pool, POOL_E_FULL, 1, 0, sentence, sizeof(sentence));
	assert_true(t.pool->lease.is_damaged);
	lease_world_deinit(&t);
}

static void test_lease_restart_keeps_words(void **state)
{
	struct lease_world t;
	uint64_t a, b, c;
	uint32_t id;

	(void)state;
	lease_world_init(&t, 64u << 20, 0);
	a = client_alloc(&t, 0, 64);
	b = client_alloc(&t, 1, 64);
	c = client_alloc(&t, 0, 3000);
	assert_int_equal(pool_retain(t.members[0], c), 0);
	id = client_slab_of(&t, a);
	lease_custody_hold(&client_slab(&t, id)->custody); /* a daemon was in there */
	lease_world_restart(&t);
	assert_int_equal(client_slab(&t, id)->custody, LEASE_IDLE);
	assert_int_equal(client_word_at(&t, a), lease_live_of(t.heaps[0]));
	assert_int_equal(client_word_at(&t, b), lease_live_of(t.heaps[1]));
	assert_int_equal(client_word_at(&t, c), LEASE_PINNED);
	assert_int_equal(world_stats(t.pool).allocations, 3);
	assert_int_equal(pool_free(t.members[0], c), 0);
	assert_int_equal(pool_free(t.members[0], c), 0);
	assert_int_equal(client_word_at(&t, c), LEASE_FREE);
	lease_world_deinit(&t);
}

static void test_lease_stats_add_up(void **state)
{
	struct lease_world t;
	struct pool_stats stats;
	struct pool_holder holders[4];

	(void)state;
	lease_world_init(&t, 64u << 20, 0);
	for (int i = 0; i < 100; i++)
		client_alloc(&t, 0, 64);
	world_alloc(t.members[1], 1000);
	stats = world_stats(t.pool);
	assert_int_equal(stats.used + stats.free + stats.leased_idle, stats.total);
	assert_int_equal(stats.used, 100 * 64 + 1008);
	assert_int_equal(stats.requested, 100 * 64 + 1000);
	assert_int_equal(stats.allocations, 101);
	assert_int_equal(stats.alloc_total, 101);
	assert_int_equal(pool_holders(t.pool, holders, 4), 2);
	assert_int_equal(holders[0].session, t.members[0]->session);
	assert_int_equal(holders[0].n_blocks, 100);
	assert_int_equal(holders[0].n_bytes, 6400);
	lease_world_deinit(&t);
}

static void test_lease_cells_tell_live_slots_from_idle_ones_and_gaps(void **state)
{
	enum {
		N_CELLS = 100
	};
	uint64_t used[N_CELLS], idle[N_CELLS], n_used = 0, n_idle = 0;
	uint32_t holder[N_CELLS];
	struct pool_holder holders[N_CLIENTS];
	struct pool_cells cells = {.n = N_CELLS, .used = used, .idle = idle, .holder = holder, .holders = holders};
	struct pool_stats stats;
	struct lease_world t;

	(void)state;
	lease_world_init(&t, 4u << 20, 0);
	for (int i = 0; i < 100; i++)
		client_alloc(&t, 0, 1000);
	client_alloc(&t, 1, 64);
	world_alloc(t.members[2], 300000);
	cells.n_holders = pool_holders(t.pool, holders, N_CLIENTS);
	memset(idle, 0xff, sizeof(idle));
	pool_draw(t.pool, &cells);
	for (uint32_t i = 0; i < cells.n; i++) {
		assert_true(used[i] + idle[i] <= cells.cell_bytes);
		assert_int_equal(holder[i] != 0, used[i] != 0);
		n_used += used[i];
		n_idle += idle[i];
	}
	stats = world_stats(t.pool);
	assert_true(stats.leased_idle != 0);
	assert_int_equal(n_used, stats.used);
	assert_int_equal(n_idle, stats.leased_idle);
	lease_world_deinit(&t);
}

static void test_lease_quota_counts_slabs(void **state)
{
	struct lease_world t;

	(void)state;
	lease_world_init(&t, 64u << 20, 0);
	client_alloc(&t, 0, 64);
	assert_int_equal(world_used(&t.world, WORLD_UID, QUOTA_BYTES), 64u << 10);
	lease_world_deinit(&t);
}

static void test_lease_truncated_segment_is_damage_not_death(void **state)
{
	struct lease_world t;
	struct pool_fault faults[4];
	uint32_t ids[POOL_SLABS_MAX], n;
	uint64_t a;

	(void)state;
	lease_world_init(&t, 64u << 20, 0);
	a = client_alloc(&t, 0, 64);
	assert_int_equal(ftruncate(pool_lease_fd(t.pool), 4096), 0);
	assert_int_equal(pool_free(t.members[1], a), POOL_E_NO_BLOCK);
	world_stats(t.pool);
	assert_int_equal(pool_lease_slabs(t.members[1], t.heaps[1], 0, 1, 0, ids, &n), POOL_E_FULL);
	assert_true(pool_check(t.pool, faults, 4) >= 1);
	assert_non_null(strstr(faults[0].what, "damaged"));
	world_alloc(t.members[1], 1000); /* by request, as ever */
	world_leave(t.members[0]);
	t.members[0] = NULL;
	lease_world_deinit(&t);
}

static void test_lease_punched_words_are_damage(void **state)
{
	struct lease_world t;
	struct pool_fault faults[4];
	uint64_t a;

	(void)state;
	lease_world_init(&t, 4u << 20, 0);
	a = client_alloc(&t, 0, 64);
	*client_word(&t, client_slab_of(&t, a), 5) = 0;
	client_flush(&t, 0);
	assert_true(pool_check(t.pool, faults, 4) >= 1);
	assert_non_null(strstr(faults[0].what, "damaged"));
	assert_true(client_header(&t)->flags & LEASE_DAMAGED);
	lease_world_deinit(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lease_open_heap_small_pool_refuses),
		cmocka_unit_test(test_lease_off_refuses),
		cmocka_unit_test(test_lease_of_a_guarded_pool),
		cmocka_unit_test(test_slab_shapes_waste_little),
		cmocka_unit_test(test_lease_grant_describes_the_slab),
		cmocka_unit_test(test_lease_foreign_heap_is_refused),
		cmocka_unit_test(test_lease_same_request_has_the_same_answer),
		cmocka_unit_test(test_lease_death_frees_live_and_cached),
		cmocka_unit_test(test_lease_death_with_lifetime_pool_leaves_blocks),
		cmocka_unit_test(test_lease_pins_hold_names_and_frees_by_request),
		cmocka_unit_test(test_lease_take_and_free_by_request),
		cmocka_unit_test(test_lease_realloc_by_request),
		cmocka_unit_test(test_lease_numbers_wait_while_they_are_in_hand),
		cmocka_unit_test(test_lease_requests_of_heaps_that_tell_free_no_number),
		cmocka_unit_test(test_lease_numbers_wait_for_heaps_that_do_not_tell),
		cmocka_unit_test(test_lease_numbers_run_out),
		cmocka_unit_test(test_lease_destroy_counts_slots),
		cmocka_unit_test(test_lease_destroy_of_a_large_pool_reads_no_words),
		cmocka_unit_test(test_lease_words_of_a_large_pool_are_not_read_for_each_sentence),
		cmocka_unit_test(test_lease_restart_keeps_words),
		cmocka_unit_test(test_lease_stats_add_up),
		cmocka_unit_test(test_lease_cells_tell_live_slots_from_idle_ones_and_gaps),
		cmocka_unit_test(test_lease_quota_counts_slabs),
		cmocka_unit_test(test_lease_truncated_segment_is_damage_not_death),
		cmocka_unit_test(test_lease_punched_words_are_damage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
