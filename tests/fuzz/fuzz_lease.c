// SPDX-License-Identifier: MIT
/*
 * A lease segment that says anything: bytes of the input are stored into it, and in between the daemon reads it: grants, recalls,
 * sweeps, counts, checks, frees, restarts. Its own books hold at each step.
 *
 * Input: steps of four bytes: what, two bytes of where, a value.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pool/pool_internal.h"
#include "tests/fuzz/fuzz.h"

#define REQUIRE(condition) ((condition) ? (void)0 : abort())
#define N_MEMBERS	   2

struct scene {
	struct quota quota;
	struct budget budget;
	struct pool_env env;
	struct pool *pool;
	struct pool_member *members[N_MEMBERS];
	uint64_t sessions[N_MEMBERS];
	uint32_t heaps[N_MEMBERS];
	uint64_t n_sessions;
};

static void join(struct scene *scene, int i)
{
	struct pool_identity who = {.session = ++scene->n_sessions, .uid = 1000, .pid = 1};

	REQUIRE(!pool_join(scene->pool, &who, &scene->members[i]));
	scene->sessions[i] = who.session;
	scene->heaps[i] = 0;
	if (pool_open_heap(scene->members[i], true, &scene->heaps[i]))
		scene->heaps[i] = 0;
}

static void leave(struct scene *scene, int i)
{
	struct pool_warning report = {0};

	while (pool_leave_step(scene->members[i], &report))
		;
}

static void lease(struct scene *scene, int i, uint32_t size_class)
{
	uint32_t ids[POOL_SLABS_MAX], n;
	int r = pool_lease_slabs(scene->members[i], scene->heaps[i], size_class, 1, POOL_MAY_BLOCK, ids, &n);

	(void)r; /* any answer is right */
}

static void begin(struct scene *scene)
{
	const uint64_t limit[QUOTA_KIND_N] = {UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX};
	const struct pool_options options = {
		.name = "p", .n_name_bytes = 1, .size = 2u << 20, .uid = 1000, .mode = 0600};
	static char instance[32];

	*scene = (struct scene){0};
	snprintf(instance, sizeof(instance), "fuzz-%d", (int)getpid());
	REQUIRE(!quota_init(&scene->quota, 1, limit) && !budget_init(&scene->budget, UINT64_MAX));
	scene->env = (struct pool_env){
		.instance = instance, .quota = &scene->quota, .budget = &scene->budget, .decay_ms = UINT64_MAX};
	REQUIRE(!pool_new(&scene->pool, &scene->env, 1, &options));
	for (int i = 0; i < N_MEMBERS; i++)
		join(scene, i);
	lease(scene, 0, 0);
	lease(scene, 1, 3);
	lease(scene, 0, 20);
}

static void check(struct scene *scene)
{
	struct pool_stats stats;

	pool_lock(scene->pool);
	REQUIRE(!extent_map_check(&scene->pool->map, stderr));
	pool_unlock(scene->pool);
	pool_stats(scene->pool, &stats);
	REQUIRE(stats.used + stats.free + stats.leased_idle == stats.total);
}

static void restart(struct scene *scene)
{
	char name[SEGMENT_NAME_BYTES], why[200];

	snprintf(name, sizeof(name), "%s", pool_books_name(scene->pool));
	pool_keep(scene->pool);
	REQUIRE(!pool_recover(&scene->pool, &scene->env, name, why, sizeof(why)));
	for (int i = 0; i < N_MEMBERS; i++)
		REQUIRE((scene->members[i] = pool_member_of(scene->pool, scene->sessions[i])));
}

static void end(struct scene *scene)
{
	struct pool_warning warning;

	for (int i = 0; i < N_MEMBERS; i++)
		leave(scene, i);
	REQUIRE(!pool_destroy(scene->pool, false, &warning));
	pool_unref(scene->pool);
	quota_deinit(&scene->quota);
	budget_deinit(&scene->budget);
}

/* What a client may reach, packed: the parts that are used come first. */
static void store(struct scene *scene, unsigned part, uint32_t at, uint8_t value)
{
	const struct lease_header *layout = &scene->pool->lease.layout;
	const uint64_t parts[4] = {layout->words_at, layout->slabs_at, layout->pages_at, layout->heaps_at};
	static const uint16_t words[] = {0, 0x8000, 0x8001, 0x8002, 1, 2, 0x7ff1, 0x7ff2, 0x7ff0, 0xffff};
	uint64_t where = (part == 4 ? 0 : parts[part % 4]) + (at & ~1u) % 16384;
	uint16_t word = value < N_ELEMENTS(words) ? words[value] : (uint16_t)(value * 0x0101u);

	REQUIRE(pwrite(pool_lease_fd(scene->pool), &word, sizeof(word), (off_t)where) == (ssize_t)sizeof(word));
}

static void step(struct scene *scene, const uint8_t *input)
{
	uint32_t at = input[1] | (uint32_t)input[2] << 8, ids[2] = {input[3], input[1]};
	struct pool_member *member = scene->members[input[3] % N_MEMBERS];
	uint64_t offset = POOL_FIRST + (uint64_t)at * EXTENT_GRANULE, hint = 0, next;
	struct pool_extent extents[8];
	struct pool_fault faults[4];
	struct pool_block block;
	int r = 0;

	switch (input[0] % 18) {
	case 0 ... 4:
		store(scene, input[0] % 18, at, input[3]);
		return;
	case 5:
		r = pool_free(member, offset);
		break;
	case 6:
		r = pool_retain(member, offset);
		break;
	case 7:
		r = pool_publish(member, offset, NULL, 0);
		break;
	case 8:
		r = pool_inspect(member, offset, &block);
		break;
	case 9:
		r = pool_realloc(member, offset, 1u + at, POOL_MAY_BLOCK, &block);
		break;
	case 10:
		lease(scene, input[3] % N_MEMBERS, input[1]);
		break;
	case 11:
		pool_return_slabs(member, 2, ids);
		break;
	case 12:
		r = pool_alloc(member, at ? at * 64u : 1, 0, POOL_MAY_BLOCK, &block);
		break;
	case 13:
		pool_check(scene->pool, faults, N_ELEMENTS(faults));
		break;
	case 14:
		pool_extents(scene->pool, 0, &hint, extents, N_ELEMENTS(extents), &next);
		break;
	case 15:
		leave(scene, input[3] % N_MEMBERS);
		join(scene, input[3] % N_MEMBERS);
		break;
	case 16:
		restart(scene);
		break;
	case 17:
		scene->pool->lease.is_damaged = false; /* as if it had not been noticed */
		break;
	}
	(void)r; /* any answer is right */
	check(scene);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct scene scene;

	begin(&scene);
	for (size_t i = 0; i + 4 <= n && i < 4 * 200; i += 4)
		step(&scene, data + i);
	end(&scene);
	return 0;
}
