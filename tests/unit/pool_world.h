#pragma once
// SPDX-License-Identifier: MIT
/*
 * pool_world - what a test of the engine needs around a pool: quota, budget, sessions, and a look at what is left behind
 *
 * The objects are named by this process, so that tests can run beside each other and beside a daemon.
 */
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pool/pool.h"
#include "pool/pool_internal.h"

#include "tests/lib/test.h"

#define WORLD_UID 1000u /* not root's: limits count */

struct world {
	char instance[64];
	struct quota quota;
	struct budget budget;
	struct pool_env env;
	uint64_t n_sessions, n_pools;
	unsigned n_decays_wanted;
	unsigned n_fds, n_objects; /* before */
};

static inline unsigned world_count(const char *folder, const char *prefix)
{
	DIR *dir = opendir(folder);
	const struct dirent *entry;
	unsigned n = 0;

	assert_non_null(dir);
	while ((entry = readdir(dir)))
		n += !strncmp(entry->d_name, prefix, strlen(prefix));
	closedir(dir);
	return n;
}

static inline unsigned world_objects(const struct world *world)
{
	char prefix[96];

	snprintf(prefix, sizeof(prefix), "mempool.%s", world->instance);
	return world_count("/dev/shm", prefix);
}

static inline void world_wants_decay(void *arg)
{
	((struct world *)arg)->n_decays_wanted++;
}

static inline void world_init_limits(struct world *world, uint64_t bytes, uint64_t blocks)
{
	const uint64_t limit[QUOTA_KIND_N] = {[QUOTA_BYTES] = bytes,
					      [QUOTA_POOLS] = UINT64_MAX,
					      [QUOTA_SESSIONS] = UINT64_MAX,
					      [QUOTA_BLOCKS] = blocks,
					      [QUOTA_CONNECTIONS] = UINT64_MAX};

	memset(world, 0xff, sizeof(*world));
	world->n_sessions = world->n_pools = world->n_decays_wanted = 0;
	snprintf(world->instance, sizeof(world->instance), "unit-%d", (int)getpid());
	world->n_fds = world_count("/proc/self/fd", "");
	world->n_objects = world_objects(world);
	assert_int_equal(quota_init(&world->quota, geteuid(), limit), 0);
	assert_int_equal(budget_init(&world->budget, UINT64_MAX), 0);
	world->env = (struct pool_env){
		.instance = world->instance,
		.quota = &world->quota,
		.budget = &world->budget,
		.decay_ms = UINT64_MAX,
		.decay_wanted = world_wants_decay,
		.decay_arg = world,
	};
}

static inline void world_init(struct world *world)
{
	world_init_limits(world, UINT64_MAX, UINT64_MAX);
}

static inline uint64_t world_used(struct world *world, uint32_t uid, enum quota_kind kind)
{
	return atomic_load(&quota_account_of(&world->quota, uid)->used[kind]);
}

static inline void world_check(struct pool *pool);

/* As a daemon's death forgets them. */
static inline void world_forget_charges(struct world *world)
{
	for (size_t i = 0; i < N_ELEMENTS(world->quota.buckets); i++)
		for (struct quota_account *a = world->quota.buckets[i]; a; a = a->next)
			for (int kind = 0; kind < QUOTA_KIND_N; kind++)
				atomic_store(&a->used[kind], 0);
}

/** world_restart() - the pool's daemon ends without a word, and another recovers it. Return: the pool */
static inline struct pool *world_restart(struct world *world, struct pool *pool)
{
	char name[SEGMENT_NAME_BYTES], why[200] = "";

	snprintf(name, sizeof(name), "%s", pool_books_name(pool));
	pool_keep(pool);
	world_forget_charges(world);
	if (pool_recover(&pool, &world->env, name, why, sizeof(why)))
		fail_msg("not recovered: %s", why);
	world_check(pool);
	return pool;
}

/* Everything that was charged, spent, opened and made is gone. */
static inline void world_deinit(struct world *world)
{
	for (size_t i = 0; i < N_ELEMENTS(world->quota.buckets); i++)
		for (struct quota_account *a = world->quota.buckets[i]; a; a = a->next)
			for (int kind = 0; kind < QUOTA_KIND_N; kind++)
				assert_int_equal(atomic_load(&a->used[kind]), 0);
	assert_int_equal(budget_spent(&world->budget), 0);
	assert_int_equal(world_objects(world), world->n_objects);
	assert_int_equal(world_count("/proc/self/fd", ""), world->n_fds);
	quota_deinit(&world->quota);
	budget_deinit(&world->budget);
}

static inline struct pool_options world_options(uint64_t size)
{
	return (struct pool_options){
		.name = "p", .n_name_bytes = 1, .size = size, .uid = WORLD_UID, .gid = WORLD_UID, .mode = 0600};
}

static inline struct pool *world_pool_with(struct world *world, const struct pool_options *options)
{
	struct pool *pool;

	assert_int_equal(pool_new(&pool, &world->env, ++world->n_pools, options), 0);
	return pool;
}

static inline struct pool *world_pool(struct world *world, uint64_t size)
{
	const struct pool_options options = world_options(size);

	return world_pool_with(world, &options);
}

static inline struct pool_identity world_identity(struct world *world, uint32_t uid)
{
	return (struct pool_identity){
		.session = ++world->n_sessions, .uid = uid, .gid = uid, .pid = 4711, .command = "test"};
}

static inline struct pool_member *world_join_as(struct world *world, struct pool *pool, uint32_t uid)
{
	const struct pool_identity who = world_identity(world, uid);
	struct pool_member *member;

	assert_int_equal(pool_join(pool, &who, &member), 0);
	return member;
}

static inline struct pool_member *world_join(struct world *world, struct pool *pool)
{
	return world_join_as(world, pool, WORLD_UID);
}

static inline struct pool_warning world_leave(struct pool_member *member)
{
	struct pool_warning report = {0};

	while (pool_leave_step(member, &report))
		;
	return report;
}

static inline uint64_t world_alloc(struct pool_member *member, uint64_t size)
{
	struct pool_block block;

	assert_int_equal(pool_alloc(member, size, 0, POOL_MAY_BLOCK, &block), 0);
	return block.offset;
}

static inline void world_check(struct pool *pool)
{
	struct pool_fault faults[4];
	uint32_t n = pool_check(pool, faults, N_ELEMENTS(faults));

	if (!n)
		return;
	for (uint32_t i = 0; i < n && i < N_ELEMENTS(faults); i++)
		fprintf(stderr, "0x%llx: %s\n", (unsigned long long)faults[i].offset, faults[i].what);
	pool_dump(pool, stderr);
	fail_msg("%u faults", n);
}

static inline struct pool_stats world_stats(struct pool *pool)
{
	struct pool_stats stats;

	pool_stats(pool, &stats);
	return stats;
}

static inline void world_destroy(struct pool *pool)
{
	struct pool_warning warning;

	assert_int_equal(pool_destroy(pool, false, &warning), 0);
	pool_unref(pool);
}
