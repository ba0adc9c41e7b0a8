// SPDX-License-Identifier: MIT
/*
 * Each operation, with the 1st, 2nd, 3rd … of its calls failing, once and from then on: it fails or it succeeds, but what fails
 * has changed nothing, and nothing is left behind: no descriptor, no object, no charge.
 */
#include <errno.h>

#include "pool/registry.h"

#include "pool_world.h"
#include "tests/lib/fault.h"

struct scene { /* a pool with something in it */
	struct world world;
	struct pool *pool;
	struct pool_member *member, *other;
	uint64_t plain, retained, named, held_elsewhere;
	uint32_t heap;
	uint64_t slot; /* live, of that heap */
};

/* As if the books were just full: whatever needs a record more needs pages for it, which may fail. */
static void fill_books(struct pool *pool)
{
	struct ledger_table *tables = pool->ledger.tables;

	tables[LEDGER_EXTENTS].n_backed = tables[LEDGER_LINKS].n_backed = pool->map.n_high;
	tables[LEDGER_BUCKETS].n_backed = pool->map.n_buckets;
	tables[LEDGER_MEMBERS].n_backed = pool->member_records.n_high;
	tables[LEDGER_HOLDS].n_backed = pool->holds.n_high;
	tables[LEDGER_NAMES].n_backed = pool->names.n_high;
	tables[LEDGER_SLABS].n_backed = pool->slab_records.n_high;
	tables[LEDGER_HEAPS].n_backed = pool->lease.n_heaps_high;
}

/* A slab, and what its heap does to get a slot of it. */
static void set_up_slot(struct scene *scene)
{
	struct lease *lease = &scene->pool->lease;
	uint32_t ids[POOL_SLABS_MAX], n;

	assert_int_equal(pool_open_heap(scene->member, true, &scene->heap), 0);
	assert_int_equal(pool_lease_slabs(scene->member, scene->heap, 3, 1, POOL_MAY_BLOCK, ids, &n), 0);
	lease_word_keep(lease_word_at(lease, lease_slab_at(lease, ids[0])->first_word + 1), lease_live_of(scene->heap));
	scene->slot = lease_slab_at(lease, ids[0])->base + lease_slab_at(lease, ids[0])->slot_bytes;
}

static void set_up(struct scene *scene, bool reserve)
{
	struct pool_options options = world_options(8 << 20);

	world_init(&scene->world);
	options.max_size = 32 << 20;
	options.reserve = reserve;
	scene->pool = world_pool_with(&scene->world, &options);
	scene->member = world_join_as(&scene->world, scene->pool, WORLD_UID + 1);
	scene->other = world_join_as(&scene->world, scene->pool, WORLD_UID + 2);
	scene->plain = world_alloc(scene->member, 100);
	scene->retained = world_alloc(scene->member, 200);
	scene->named = world_alloc(scene->member, 300);
	scene->held_elsewhere = world_alloc(scene->member, 400);
	assert_int_equal(pool_retain(scene->member, scene->retained), 0);
	assert_int_equal(pool_publish(scene->member, scene->named, "name", 4), 0);
	assert_int_equal(pool_retain(scene->other, scene->named), 0);
	set_up_slot(scene);
	fill_books(scene->pool);
}

static void tear_down(struct scene *scene)
{
	world_leave(scene->member);
	world_leave(scene->other);
	world_check(scene->pool);
	world_destroy(scene->pool);
	world_deinit(&scene->world);
}

/* ---- operations: 0, or why not ---- */

static int run_alloc_small(struct scene *scene)
{
	return pool_alloc(scene->member, 100, 0, POOL_MAY_BLOCK, &(struct pool_block){0});
}

static int run_alloc_large(struct scene *scene)
{
	return pool_alloc(scene->member, 5 << 20, 0, POOL_MAY_BLOCK, &(struct pool_block){0});
}

static int run_alloc_batch(struct scene *scene)
{
	uint64_t sizes[200], offsets[200];

	for (int i = 0; i < 200; i++)
		sizes[i] = 20000;
	return pool_alloc_batch(scene->member, 200, sizes, POOL_MAY_BLOCK, offsets);
}

static int run_realloc_in_place(struct scene *scene)
{
	return pool_realloc(scene->member, scene->held_elsewhere, 4 << 20, POOL_MAY_BLOCK, &(struct pool_block){0});
}

static int run_realloc_moving(struct scene *scene)
{
	return pool_realloc(scene->member, scene->plain, 3 << 20, POOL_MAY_BLOCK, &(struct pool_block){0});
}

static int run_shrink(struct scene *scene)
{
	return pool_realloc(scene->member, scene->plain, 10, POOL_MAY_BLOCK, &(struct pool_block){0});
}

static int run_publish(struct scene *scene)
{
	return pool_publish(scene->member, scene->plain, "other", 5);
}

static int run_retain(struct scene *scene)
{
	return pool_retain(scene->other, scene->retained);
}

static int run_find_and_retain(struct scene *scene)
{
	return pool_find(scene->member, "name", 4, true, &(struct pool_block){0});
}

static int run_take(struct scene *scene)
{
	return pool_take(scene->other, scene->plain, scene->member->session);
}

static int run_free(struct scene *scene)
{
	return pool_free(scene->member, scene->plain);
}

static int run_join(struct scene *scene)
{
	const struct pool_identity who = {.session = 77, .uid = WORLD_UID + 3};
	struct pool_member *member;
	int r = pool_join(scene->pool, &who, &member);

	if (!r)
		world_leave(member);
	return r;
}

static int run_resize(struct scene *scene)
{
	return pool_resize(scene->pool, NULL, 16 << 20, POOL_MAY_BLOCK);
}

static int run_open_heap(struct scene *scene)
{
	return pool_open_heap(scene->other, true, &(uint32_t){0});
}

static int run_lease(struct scene *scene)
{
	uint32_t ids[POOL_SLABS_MAX], n;

	return pool_lease_slabs(scene->member, scene->heap, 20, 1, POOL_MAY_BLOCK, ids, &n);
}

static int run_lease_large(struct scene *scene)
{
	uint32_t ids[POOL_SLABS_MAX], n;

	return pool_lease_slabs(scene->member, scene->heap, size_class_of(300000), 1, POOL_MAY_BLOCK, ids, &n);
}

static int run_pin(struct scene *scene)
{
	return pool_retain(scene->member, scene->slot);
}

static int run_free_slot(struct scene *scene)
{
	return pool_free(scene->other, scene->slot);
}

static const struct operation {
	const char *name;
	int (*run)(struct scene *scene);
	bool never_fails; /* for lack of anything */
} operations[] = {
	{"alloc of little", run_alloc_small, false},
	{"alloc of much", run_alloc_large, false},
	{"batch", run_alloc_batch, false},
	{"realloc in place", run_realloc_in_place, false},
	{"realloc moving", run_realloc_moving, false},
	{"shrink", run_shrink, false},
	{"publish", run_publish, false},
	{"retain", run_retain, false},
	{"find and retain", run_find_and_retain, false},
	{"take", run_take, true},
	{"free", run_free, true},
	{"join", run_join, false},
	{"resize", run_resize, false},
	{"open heap", run_open_heap, false},
	{"lease", run_lease, false},
	{"lease of a large one", run_lease_large, false},
	{"retain of a slot", run_pin, false},
	{"free of a slot", run_free_slot, true},
};

static struct pool_stats comparable(struct pool *pool)
{
	struct pool_stats stats = world_stats(pool);

	stats.backed = stats.failed_total = 0; /* what was backed on the way may stay so */
	return stats;
}

static uint64_t charges(struct scene *scene)
{
	uint64_t sum = 0;

	for (uint32_t uid = WORLD_UID; uid < WORLD_UID + 4; uid++)
		sum += world_used(&scene->world, uid, QUOTA_BYTES) * 1000 +
		       world_used(&scene->world, uid, QUOTA_BLOCKS);
	return sum;
}

/* Return: how many calls failed */
static unsigned run_one(const struct operation *operation, bool reserve, unsigned nth, bool persistent)
{
	struct pool_stats before, after;
	struct scene scene;
	uint64_t charged;
	unsigned n_failed;
	int r;

	set_up(&scene, reserve);
	before = comparable(scene.pool);
	charged = charges(&scene);
	fault_arm(FAULT_ALL, nth, persistent);
	r = operation->run(&scene);
	n_failed = fault_disarm();
	if (!n_failed || operation->never_fails)
		assert_int_equal(r, 0);
	after = comparable(scene.pool);
	if (r) {
		assert_memory_equal(&before, &after, sizeof(before));
		assert_int_equal(charges(&scene), charged);
		world_check(scene.pool);
		assert_int_equal(operation->run(&scene), 0); /* and nothing is broken */
	}
	world_check(scene.pool);
	tear_down(&scene);
	return n_failed;
}

#define N_CALLS_MAX 500u /* of one operation: far more than any makes */

static void test_pool_operations_fail_without_a_trace(void **state)
{
	(void)state;
	for (size_t i = 0; i < N_ELEMENTS(operations); i++) {
		for (int variant = 0; variant < 4; variant++) {
			unsigned nth = 1;

			while (run_one(operations + i, variant & 1, nth, variant & 2) && nth < N_CALLS_MAX)
				nth++;
			assert_true(nth < N_CALLS_MAX);
			if (!variant)
				printf("%-18s %u calls that can fail\n", operations[i].name, nth - 1);
		}
	}
}

static unsigned create_one(bool reserve, unsigned nth, bool persistent)
{
	struct pool_options options = world_options(8 << 20);
	struct world world;
	struct pool *pool;
	unsigned n_failed;
	int r;

	world_init(&world);
	options.reserve = reserve;
	fault_arm(FAULT_ALL, nth, persistent);
	r = pool_new(&pool, &world.env, 1, &options);
	n_failed = fault_disarm();
	if (!n_failed)
		assert_int_equal(r, 0);
	if (!r)
		world_destroy(pool);
	world_deinit(&world);
	return n_failed;
}

static void test_pool_new_fails_without_a_trace(void **state)
{
	(void)state;
	for (int variant = 0; variant < 4; variant++) {
		unsigned nth = 1;

		while (create_one(variant & 1, nth, variant & 2) && nth < N_CALLS_MAX)
			nth++;
		assert_in_range(nth, 8, N_CALLS_MAX - 1);
		printf("pool_new%s: %u calls that can fail\n", variant & 1 ? " with reserve" : "", nth - 1);
	}
}

static unsigned open_one(unsigned nth, bool persistent)
{
	struct registry_config config = {.budget_bytes = UINT64_MAX, .decay_ms = UINT64_MAX};
	struct pool_options options = world_options(1 << 20);
	unsigned n_failed, n_fds, n_objects;
	struct registry *registry = NULL;
	struct world world;
	struct pool *pool;
	int n_swept, r;

	world_init(&world); /* for its instance name */
	config.instance = world.instance;
	for (int kind = 0; kind < QUOTA_KIND_N; kind++)
		config.quota_limit[kind] = UINT64_MAX;
	n_fds = world.n_fds;
	n_objects = world.n_objects;
	fault_arm(FAULT_ALL, nth, persistent);
	r = registry_open(&registry, &config, &n_swept);
	if (!r && !registry_create(registry, &options, NULL, &pool))
		pool_unref(pool);
	n_failed = fault_disarm();
	if (!n_failed)
		assert_int_equal(r, 0);
	if (!r)
		registry_close(registry);
	assert_int_equal(world_count("/proc/self/fd", ""), n_fds);
	assert_int_equal(world_objects(&world), n_objects);
	world_deinit(&world);
	return n_failed;
}

static void test_registry_fails_without_a_trace(void **state)
{
	(void)state;
	for (int persistent = 0; persistent < 2; persistent++) {
		unsigned nth = 1;

		while (open_one(nth, persistent) && nth < N_CALLS_MAX)
			nth++;
		assert_in_range(nth, 10, N_CALLS_MAX - 1);
		printf("registry: %u calls that can fail\n", nth - 1);
	}
}

#define N_PLACES_MAX 10000u /* far more than room is kept for */

/* However many strangers come when memory is full: there is a place for who can make room. */
static void test_pool_keeps_a_place_for_who_makes_room(void **state)
{
	struct pool_member *strangers[64], *creator, *member;
	struct pool_identity who;
	struct world world;
	struct pool *pool;
	unsigned n = 0;

	(void)state;
	world_init(&world);
	pool = world_pool(&world, 1 << 20);
	creator = world_join(&world, pool);
	fault_arm(FAULT_FALLOCATE, 1, true);
	do {
		assert_true(n < N_ELEMENTS(strangers));
		who = world_identity(&world, WORLD_UID + 1);
	} while (!pool_join(pool, &who, &strangers[n]) && ++n);
	assert_true(n > 0);
	for (int i = 0; i < 2; i++) {
		world_leave(world_join_as(&world, pool, i ? 0 : WORLD_UID));
		who = world_identity(&world, WORLD_UID + 1);
		assert_int_equal(pool_join(pool, &who, &member), -ENOSPC); /* nor when it is free again */
	}
	fault_disarm();
	world_leave(world_join_as(&world, pool, WORLD_UID + 1));
	while (n)
		world_leave(strangers[--n]);
	world_leave(creator);
	world_destroy(pool);
	world_deinit(&world);
}

static void test_registry_keeps_a_place_for_who_makes_room(void **state)
{
	struct registry_config config = {.budget_bytes = UINT64_MAX, .decay_ms = UINT64_MAX};
	struct directory_session stranger = {.uid = WORLD_UID + 1}, root = {.uid = 0};
	struct registry *registry;
	struct world world;
	uint32_t first, slot;
	unsigned n = 1;
	int n_swept;

	(void)state;
	world_init(&world); /* for its instance name */
	config.instance = world.instance;
	for (int kind = 0; kind < QUOTA_KIND_N; kind++)
		config.quota_limit[kind] = UINT64_MAX;
	assert_int_equal(registry_open(&registry, &config, &n_swept), 0);
	fault_arm(FAULT_FALLOCATE, 1, true);
	assert_int_equal(registry_add_session(registry, &stranger, &first), 0);
	while (!registry_add_session(registry, &stranger, &slot))
		assert_true(n++ < N_PLACES_MAX);
	assert_int_equal(registry_add_session(registry, &root, &slot), 0);
	assert_int_equal(registry_add_session(registry, &stranger, &slot), -ENOSPC);
	registry_remove_session(registry, first);
	assert_int_equal(registry_add_session(registry, &stranger, &first), -ENOSPC); /* it is the only place */
	assert_int_equal(registry_add_session(registry, &root, &slot), 0);
	fault_disarm();
	assert_int_equal(registry_add_session(registry, &stranger, &slot), 0);
	registry_close(registry);
	world_deinit(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pool_operations_fail_without_a_trace),
		cmocka_unit_test(test_pool_new_fails_without_a_trace),
		cmocka_unit_test(test_registry_fails_without_a_trace),
		cmocka_unit_test(test_pool_keeps_a_place_for_who_makes_room),
		cmocka_unit_test(test_registry_keeps_a_place_for_who_makes_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
