// SPDX-License-Identifier: MIT
/*
 * The kinds of operation. Each scene has answers of earlier requests in it, which must still be there afterwards, and no two
 * gaps of one size that the operation could choose between: after a restart it may choose the other.
 */
#include "step.h"

#include "must.h"
#include "tests/lib/rnd.h"

#define POOL(bytes) .options = {.name = "p", .n_name_bytes = 1, .size = (bytes), .uid = WORLD_UID, .mode = 0600}
#define POOL_WITH(bytes, ...) \
	.options = {.name = "p", .n_name_bytes = 1, .size = (bytes), .uid = WORLD_UID, .mode = 0600, __VA_ARGS__}

enum {
	A,
	B,
	C
}; /* members */

/* ---- what prepares ---- */

static uint64_t last_request; /* of preparation */

static struct pool_member *asks(struct scene *scene, int who)
{
	last_request++;
	scene->members[who]->call = (struct pool_call){.id = last_request, .acked = last_request - 1};
	return scene->members[who];
}

static void allocs(struct scene *scene, int who, unsigned at, uint64_t size)
{
	struct pool_block block;

	must(!pool_alloc(asks(scene, who), size, 0, POOL_MAY_BLOCK, &block), "alloc");
	scene->offsets[at] = block.offset;
}

static void frees(struct scene *scene, int who, unsigned at)
{
	must(!pool_free(asks(scene, who), scene->offsets[at]), "free");
}

static void retains(struct scene *scene, int who, unsigned at)
{
	must(!pool_retain(asks(scene, who), scene->offsets[at]), "retain");
}

static void publishes(struct scene *scene, int who, unsigned at, const char *name)
{
	must(!pool_publish(asks(scene, who), scene->offsets[at], name, strlen(name)), "publish");
}

/* Five in a row, of different sizes, and something behind them. */
static void row(struct scene *scene)
{
	for (unsigned i = 0; i < 6; i++)
		allocs(scene, A, i, 100 + 50 * i);
}

static void row_free_left(struct scene *scene)
{
	row(scene);
	frees(scene, A, 1);
}

static void row_free_right(struct scene *scene)
{
	row(scene);
	frees(scene, A, 3);
}

static void row_free_both(struct scene *scene)
{
	row(scene);
	frees(scene, A, 1);
	frees(scene, A, 3);
}

static void row_guests(struct scene *scene) /* block 2 is published and retained by two */
{
	row(scene);
	publishes(scene, A, 2, "guest");
	retains(scene, B, 2);
	retains(scene, C, 2);
	retains(scene, C, 2);
}

static void row_named(struct scene *scene)
{
	row(scene);
	publishes(scene, A, 2, "two");
	publishes(scene, A, 3, "three");
}

static void row_only_held(struct scene *scene) /* block 2 is nobody's, B retains it */
{
	row(scene);
	publishes(scene, A, 2, "");
	retains(scene, B, 2);
	frees(scene, A, 2);
}

static void row_owned_held(struct scene *scene) /* block 2 is A's, who retains it too */
{
	row(scene);
	retains(scene, A, 2);
}

static void full(struct scene *scene)
{
	allocs(scene, A, 0, 30000);
	allocs(scene, B, 1, 30000);
}

static void nearly_full(struct scene *scene)
{
	full(scene);
	allocs(scene, A, 2, 3000);
}

static void forty(struct scene *scene)
{
	for (unsigned i = 0; i < 41; i++)
		allocs(scene, A, i, 16 + 16 * (i % 7));
	scene->offsets[5] += 16; /* where no block starts */
}

/* The slot of the operation's answer holds that of a batch. */
static void old_batch(struct scene *scene)
{
	uint64_t sizes[30], offsets[30];

	row(scene);
	for (unsigned i = 0; i < N_ELEMENTS(sizes); i++)
		sizes[i] = 32;
	scene->members[A]->call = (struct pool_call){.id = SCENE_REQUEST - POOL_RESULTS_N};
	must(!pool_alloc_batch(scene->members[A], N_ELEMENTS(sizes), sizes, POOL_MAY_BLOCK, offsets), "batch");
}

static void end_of_session(struct scene *scene)
{
	row_named(scene);
	retains(scene, B, 2);
	allocs(scene, B, 10, 500);
	allocs(scene, B, 11, 600);
	retains(scene, B, 11);
	allocs(scene, B, 12, 700);
	must(!pool_publish(asks(scene, B), scene->offsets[12], "b", 1), "publish");
	allocs(scene, B, 13, 800);
	retains(scene, B, 13);
	must(!pool_retain(asks(scene, A), scene->offsets[12]), "retain");
}

static void large_gap(struct scene *scene)
{
	allocs(scene, A, 0, 300000);
	allocs(scene, A, 1, 64);
	frees(scene, A, 0);
}

/* ---- what is stepped ---- */

static struct pool_member *calls(struct scene *scene, int who)
{
	scene->members[who]->call = (struct pool_call){.id = SCENE_REQUEST, .acked = SCENE_REQUEST - 1};
	return scene->members[who];
}

static void answered(struct scene *scene, int r, const struct pool_block *block)
{
	scene->answer.r = r;
	if (r || !block)
		return;
	scene->answer.offset = block->offset;
	scene->answer.size = block->size;
	scene->answer.old_size = block->old_size;
	scene->answer.moved = block->moved;
}

static void alloc_of(struct scene *scene, uint64_t size, uint64_t alignment)
{
	struct pool_block block;

	answered(scene, pool_alloc(calls(scene, B), size, alignment, POOL_MAY_BLOCK, &block), &block);
}

static void alloc_small(struct scene *scene)
{
	alloc_of(scene, 64, 0);
}

static void alloc_pages(struct scene *scene)
{
	alloc_of(scene, 20000, 0);
}

static void alloc_aligned(struct scene *scene)
{
	alloc_of(scene, 200, 2048);
}

static void alloc_fails(struct scene *scene)
{
	alloc_of(scene, 5000, 0);
}

static void free_2(struct scene *scene, int who)
{
	answered(scene, pool_free(calls(scene, who), scene->offsets[2]), NULL);
}

static void free_by_a(struct scene *scene)
{
	free_2(scene, A);
}

static void free_by_b(struct scene *scene)
{
	free_2(scene, B);
}

static void free_by_c(struct scene *scene)
{
	free_2(scene, C);
}

static void realloc_of(struct scene *scene, uint64_t size)
{
	struct pool_block block;

	answered(scene, pool_realloc(calls(scene, A), scene->offsets[2], size, POOL_MAY_BLOCK, &block), &block);
}

static void realloc_grows(struct scene *scene)
{
	realloc_of(scene, 300);
}

static void realloc_shrinks(struct scene *scene)
{
	realloc_of(scene, 40);
}

static void realloc_moves(struct scene *scene)
{
	realloc_of(scene, 9000);
}

static void publish_plain(struct scene *scene)
{
	answered(scene, pool_publish(calls(scene, A), scene->offsets[2], NULL, 0), NULL);
}

static void publish_named(struct scene *scene)
{
	answered(scene, pool_publish(calls(scene, A), scene->offsets[4], "four", 4), NULL);
}

static void retain_own(struct scene *scene)
{
	answered(scene, pool_retain(calls(scene, A), scene->offsets[2]), NULL);
}

static void retain_by_c(struct scene *scene)
{
	answered(scene, pool_retain(calls(scene, C), scene->offsets[2]), NULL);
}

static void take_by_b(struct scene *scene)
{
	answered(scene, pool_take(calls(scene, B), scene->offsets[2], scene->sessions[A]), NULL);
}

static void acquire(struct scene *scene)
{
	struct pool_block block;

	answered(scene, pool_find(calls(scene, B), "two", 3, true, &block), &block);
}

static void alloc_batch(struct scene *scene)
{
	uint64_t sizes[30];

	for (unsigned i = 0; i < N_ELEMENTS(sizes); i++)
		sizes[i] = 16 + 16 * i;
	answered(scene,
		 pool_alloc_batch(calls(scene, A), N_ELEMENTS(sizes), sizes, POOL_MAY_BLOCK, scene->answer.offsets),
		 NULL);
}

static void free_batch(struct scene *scene)
{
	uint64_t failed[SCENE_N_OFFSETS];
	size_t n_failed;

	answered(scene, pool_free_batch(calls(scene, A), 40, scene->offsets, failed, &n_failed), NULL);
	scene->answer.offset = n_failed ? failed[0] : 0;
}

static void join(struct scene *scene)
{
	const struct pool_identity who = {
		.session = 77, .uid = WORLD_UID + 1, .gid = WORLD_UID, .pid = 77, .command = "late"};
	struct pool_member *member;

	if (!pool_member_of(scene->pool, 77))
		answered(scene, pool_join(scene->pool, &who, &member), NULL);
}

static void leave(struct scene *scene)
{
	if (scene->members[B])
		world_leave(scene->members[B]);
}

static void grow(struct scene *scene)
{
	answered(scene, pool_resize(scene->pool, calls(scene, A), 200000, POOL_MAY_BLOCK), NULL);
}

static void create(struct scene *scene)
{
	const struct pool_options options = {
		.name = "new", .n_name_bytes = 3, .size = 40000, .max_size = 80000, .uid = WORLD_UID, .mode = 0640};

	scene->pool = world_pool_with(scene->world, &options);
}

static void create_reserve(struct scene *scene)
{
	const struct pool_options options = {
		.name = "new", .n_name_bytes = 3, .size = 20000, .uid = WORLD_UID, .reserve = true, .guard = true};

	scene->pool = world_pool_with(scene->world, &options);
}

static void destroy(struct scene *scene)
{
	struct pool_warning warning;

	answered(scene, pool_destroy(scene->pool, false, &warning), NULL);
}

static void decay(struct scene *scene)
{
	scene->world->env.decay_ms = 0;
	scene->pool->decay_pending = true;
	scene->pool->decay_at_ms = 0;
	while (!pool_decay_step(scene->pool))
		;
}

/* ---- by chance ---- */

static uint64_t *any(struct scene *scene, struct rnd *rnd)
{
	return &scene->offsets[rnd_below(rnd, 16)];
}

static void random_alloc(struct scene *scene, struct pool_member *member, struct rnd *rnd)
{
	uint64_t *offset = any(scene, rnd);
	struct pool_block block = {0};
	int r = pool_alloc(member, 1 + rnd_below(rnd, 3000), UINT64_C(16) << rnd_below(rnd, 6), POOL_MAY_BLOCK, &block);

	answered(scene, r, &block);
	if (!r)
		*offset = block.offset;
}

static void random_realloc(struct scene *scene, struct pool_member *member, struct rnd *rnd)
{
	uint64_t offset = *any(scene, rnd);
	struct pool_block block = {0};

	answered(scene, pool_realloc(member, offset, 1 + rnd_below(rnd, 4000), POOL_MAY_BLOCK, &block), &block);
}

static void random_operation(struct scene *scene, struct pool_member *member, struct rnd *rnd)
{
	static const char names[] = "abcd";
	uint32_t name = rnd_below(rnd, 4);
	uint64_t offset = *any(scene, rnd);
	struct pool_block block = {0};

	switch (rnd_below(rnd, 9)) {
	case 0:
	case 1:
		random_alloc(scene, member, rnd);
		break;
	case 2:
		random_realloc(scene, member, rnd);
		break;
	case 3:
		answered(scene, pool_publish(member, offset, names + name, rnd_below(rnd, 2)), NULL);
		break;
	case 4:
		answered(scene, pool_retain(member, offset), NULL);
		break;
	case 5:
		answered(scene, pool_take(member, offset, scene->sessions[rnd_below(rnd, SCENE_N_MEMBERS)]), NULL);
		break;
	case 6:
		answered(scene, pool_find(member, names + name, 1, true, &block), &block);
		break;
	default:
		answered(scene, pool_free(member, offset), NULL);
	}
}

static void random_history(struct scene *scene)
{
	struct rnd rnd;

	rnd_init(&rnd, scene->seed);
	for (unsigned i = 0; i < 60; i++)
		random_operation(scene, asks(scene, (int)rnd_below(&rnd, SCENE_N_MEMBERS)), &rnd);
	scene->answer = (struct answer){0};
}

static void random_last(struct scene *scene)
{
	struct rnd rnd;

	rnd_init(&rnd, ~scene->seed);
	random_operation(scene, calls(scene, (int)rnd_below(&rnd, SCENE_N_MEMBERS)), &rnd);
}

/* ---- all of them ---- */

#define KB64 (64u << 10)

/* n_states_least: half or less of what was seen */
const struct kind kinds[] = {
	{"alloc", 0, 10, POOL(KB64), row, alloc_small},
	{"alloc that backs pages", 0, 10, POOL(KB64), row, alloc_pages},
	{"alloc aligned, splits twice", 0, 10, POOL(KB64), row, alloc_aligned},
	{"alloc guarded", 0, 10, POOL_WITH(KB64, .guard = true), row, alloc_small},
	{"alloc refused", 0, 4, POOL(KB64), nearly_full, alloc_fails},
	{"free, its answer over a batch's", 0, 10, POOL(KB64), old_batch, free_by_a},
	{"alloc batch", 0, 100, POOL(KB64), row, alloc_batch},
	{"free between blocks", 0, 10, POOL(KB64), row, free_by_a},
	{"free, merges left", 0, 10, POOL(KB64), row_free_left, free_by_a},
	{"free, merges right", 0, 10, POOL(KB64), row_free_right, free_by_a},
	{"free, merges both", 0, 10, POOL(KB64), row_free_both, free_by_a},
	{"free of the owner's hold, others retain", 0, 10, POOL(KB64), row_guests, free_by_a},
	{"free of a name's block", 0, 10, POOL(KB64), row_named, free_by_a},
	{"free refused", 0, 4, POOL(KB64), row_only_held, free_by_c},
	{"free batch", KIND_IN_STEPS, 100, POOL(KB64), forty, free_batch},
	{"release, not the last of the session", 0, 4, POOL(KB64), row_guests, free_by_c},
	{"release, the last of the session", 0, 10, POOL(KB64), row_guests, free_by_b},
	{"release, the last of all", 0, 10, POOL(KB64), row_only_held, free_by_b},
	{"release of an own block", 0, 10, POOL(KB64), row_owned_held, free_by_a},
	{"retain, the first", 0, 10, POOL(KB64), row, retain_own},
	{"retain, once more", 0, 4, POOL(KB64), row_guests, retain_by_c},
	{"realloc, grows in place", 0, 10, POOL(KB64), row_free_right, realloc_grows},
	{"realloc, shrinks", 0, 10, POOL(KB64), row, realloc_shrinks},
	{"realloc, moves", 0, 10, POOL(KB64), row, realloc_moves},
	{"publish", 0, 6, POOL(KB64), row, publish_plain},
	{"publish under a name", 0, 10, POOL(KB64), row_named, publish_named},
	{"take", 0, 6, POOL(KB64), row, take_by_b},
	{"acquire", 0, 10, POOL(KB64), row_named, acquire},
	{"join", KIND_NO_REPEAT, 4, POOL(KB64), row, join},
	{"end of a session", KIND_IN_STEPS, 60, POOL(KB64), end_of_session, leave},
	{"end of a session, blocks stay", KIND_IN_STEPS, 60, POOL_WITH(KB64, .lifetime = 1), end_of_session, leave},
	{"resize", 0, 6, POOL_WITH(100000, .max_size = 300000), row, grow},
	{"resize, reserved", 0, 6, POOL_WITH(100000, .max_size = 300000, .reserve = true), row, grow},
	{"create", KIND_CREATES | KIND_NO_REPEAT, 20, POOL(0), NULL, create},
	{"create, reserved and guarded", KIND_CREATES | KIND_NO_REPEAT, 20, POOL(0), NULL, create_reserve},
	{"destroy", KIND_DESTROYS, 2, POOL(KB64), end_of_session, destroy},
	{"pages given back", 0, 4, POOL(400000), large_gap, decay},
	{"by chance", 0, 1, POOL(KB64), random_history, random_last},
};
const unsigned n_kinds = N_ELEMENTS(kinds);
