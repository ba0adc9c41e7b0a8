// SPDX-License-Identifier: MIT
/*
 * The pool against a naive model of it: an array of blocks in address order, each with its owner, its retains and its name.
 * The model says what each call must answer, full pools and quotas included; the only thing it takes from the pool is
 * where a block was put, and that it checks.
 */
#include <time.h>

#include "pool_world.h"
#include "tests/lib/rnd.h"

enum {
	N_SLOTS = 6,
	N_BLOCKS_MAX = 2048,
	N_UIDS = 3,
	N_NAMES = 12
};
enum {
	OWNED_BY_POOL = -1,
	OWNED_BY_NOBODY = -2
};

struct model_block {
	uint64_t offset, size; /* of the extent */
	uint64_t requested;
	int owner; /* slot, or OWNED_BY_… */
	uint32_t holds[N_SLOTS];
	int name; /* -1: none */
};

struct model {
	struct world world;
	struct pool *pool;
	struct pool_options options;
	struct pool_member *members[N_SLOTS];
	uint64_t sessions[N_SLOTS];
	struct model_block blocks[N_BLOCKS_MAX]; /* by rising offset */
	uint32_t n;
	uint64_t total, limit_bytes, limit_blocks;
	uint64_t n_alloced, n_freed, n_failed;
	uint64_t counts[16][POOL_OUTCOME_N]; /* operation, outcome */
	struct rnd rnd;
};

enum operation {
	ALLOC,
	BATCH,
	FREE,
	REALLOC,
	PUBLISH,
	FIND,
	RETAIN,
	TAKE,
	INSPECT,
	END,
	RESIZE,
	WILD_FREE,
	N_OPERATIONS
};
static const char *const operation_names[] = {"alloc",	"batch", "free",    "realloc", "publish", "find",
					      "retain", "take",	 "inspect", "end",     "resize",  "wild free"};

static uint32_t uid_of_slot(int slot)
{
	return WORLD_UID + (uint32_t)slot % N_UIDS;
}

static uint32_t payer_of(const struct model *model, const struct model_block *block)
{
	return block->owner >= 0 ? uid_of_slot(block->owner) : model->options.uid;
}

static uint64_t guard(const struct model *model)
{
	return model->options.guard ? 16 : 0;
}

static uint64_t extent_size_for(const struct model *model, uint64_t size)
{
	return (size + 15) / 16 * 16 + 2 * guard(model);
}

static uint64_t usable(const struct model *model, const struct model_block *block)
{
	return model->options.guard ? block->requested : block->size;
}

static uint64_t model_used(const struct model *model)
{
	uint64_t used = 0;

	for (uint32_t i = 0; i < model->n; i++)
		used += model->blocks[i].size;
	return used;
}

static void charged(const struct model *model, uint32_t uid, uint64_t *bytesp, uint64_t *blocksp)
{
	*bytesp = *blocksp = 0;
	for (uint32_t i = 0; i < model->n; i++) {
		if (payer_of(model, &model->blocks[i]) != uid)
			continue;
		*bytesp += model->options.reserve ? 0 : model->blocks[i].size;
		*blocksp += 1;
	}
	if (model->options.reserve && uid == model->options.uid)
		*bytesp += model->total;
}

static bool over_quota(const struct model *model, uint32_t uid, uint64_t n_blocks, uint64_t n_bytes)
{
	uint64_t bytes, blocks;

	charged(model, uid, &bytes, &blocks);
	if (model->options.reserve)
		n_bytes = 0;
	return (n_bytes && bytes + n_bytes > model->limit_bytes) ||
	       (n_blocks && blocks + n_blocks > model->limit_blocks);
}

/* the gap before block @i; that of @n is the last */
static void gap_before(const struct model *model, uint32_t i, uint64_t *beginp, uint64_t *endp)
{
	*beginp = i ? model->blocks[i - 1].offset + model->blocks[i - 1].size : POOL_FIRST;
	*endp = i < model->n ? model->blocks[i].offset : POOL_FIRST + model->total;
}

static bool fits(const struct model *model, uint64_t size, uint64_t alignment)
{
	uint64_t begin, end, at;

	for (uint32_t i = 0; i <= model->n; i++) {
		gap_before(model, i, &begin, &end);
		at = (begin + guard(model) + alignment - 1) / alignment * alignment - guard(model);
		if (at >= begin && at <= end && end - at >= size)
			return true;
	}
	return false;
}

static uint64_t largest_gap(const struct model *model)
{
	uint64_t largest = 0, begin, end;

	for (uint32_t i = 0; i <= model->n; i++) {
		gap_before(model, i, &begin, &end);
		largest = end - begin > largest ? end - begin : largest;
	}
	return largest;
}

/* The new block lies in a gap. */
static struct model_block *insert(struct model *model, uint64_t offset, uint64_t requested, int owner)
{
	uint64_t size = extent_size_for(model, requested), begin, end;
	uint32_t i = 0;

	offset -= guard(model);
	while (i < model->n && model->blocks[i].offset < offset)
		i++;
	gap_before(model, i, &begin, &end);
	assert_true(offset >= begin && size <= end - begin && offset <= end - size);
	assert_true(model->n < N_BLOCKS_MAX);
	memmove(model->blocks + i + 1, model->blocks + i, (model->n - i) * sizeof(*model->blocks));
	model->n++;
	model->n_alloced++;
	model->blocks[i] = (struct model_block){
		.offset = offset, .size = size, .requested = requested, .owner = owner, .name = -1};
	return model->blocks + i;
}

static void erase(struct model *model, struct model_block *block)
{
	uint32_t i = (uint32_t)(block - model->blocks);

	model->n--;
	model->n_freed++;
	memmove(block, block + 1, (model->n - i) * sizeof(*block));
}

static uint32_t holds_of(const struct model_block *block)
{
	uint32_t n = 0;

	for (int i = 0; i < N_SLOTS; i++)
		n += block->holds[i];
	return n;
}

static bool end_if_unheld(struct model *model, struct model_block *block)
{
	if (block->owner != OWNED_BY_NOBODY || holds_of(block))
		return false;
	erase(model, block);
	return true;
}

static void note(struct model *model, enum operation operation, int got, int expected)
{
	if (got != expected)
		fprintf(stderr, "%s: got %d, expected %d\n", operation_names[operation], got, expected);
	assert_int_equal(got, expected);
	model->counts[operation][got]++;
	model->n_failed += (operation == ALLOC || operation == BATCH || operation == REALLOC) &&
			   (got == POOL_E_FULL || got == POOL_E_QUOTA);
}

static int random_slot(struct model *model)
{
	return (int)rnd_below(&model->rnd, N_SLOTS);
}

static struct model_block *random_block(struct model *model)
{
	return model->n ? model->blocks + rnd_below(&model->rnd, model->n) : NULL;
}

static uint64_t random_size(struct model *model)
{
	uint64_t most = UINT64_C(1) << (4 + rnd_below(&model->rnd, 11));

	return 1 + rnd_below(&model->rnd, most);
}

/* ---- operations ---- */

static int expect_alloc(const struct model *model, uint32_t uid, uint64_t size, uint64_t alignment)
{
	uint64_t extent = extent_size_for(model, size);

	if (extent > model->total - model_used(model))
		return POOL_E_FULL;
	if (over_quota(model, uid, 1, extent))
		return POOL_E_QUOTA;
	return fits(model, extent, alignment) ? 0 : POOL_E_FULL;
}

static void run_alloc(struct model *model)
{
	int slot = random_slot(model), expected, r;
	uint64_t size = random_size(model), alignment = UINT64_C(16)
							<< (rnd_below(&model->rnd, 4) ? 0 : rnd_below(&model->rnd, 9));
	struct pool_block block = {0};

	if (!rnd_below(&model->rnd, 50)) /* exactly what is said to be there */
		size = largest_gap(model) > 2 * guard(model) ? largest_gap(model) - 2 * guard(model) : 1;
	expected = expect_alloc(model, uid_of_slot(slot), size, alignment);
	r = pool_alloc(model->members[slot], size, alignment, POOL_MAY_BLOCK, &block);
	note(model, ALLOC, r, expected);
	if (r)
		return;
	assert_int_equal(block.offset % alignment, 0);
	assert_int_equal(block.owner, model->sessions[slot]);
	assert_int_equal(block.size, usable(model, insert(model, block.offset, size, slot)));
}

static void run_batch(struct model *model)
{
	uint64_t sizes[8], offsets[8], n_bytes = 0;
	uint32_t n = 1 + (uint32_t)rnd_below(&model->rnd, 8);
	int slot = random_slot(model), r;

	for (uint32_t i = 0; i < n; i++) {
		sizes[i] = random_size(model);
		n_bytes += extent_size_for(model, sizes[i]);
	}
	r = pool_alloc_batch(model->members[slot], n, sizes, POOL_MAY_BLOCK, offsets);
	if (n_bytes > model->total - model_used(model))
		note(model, BATCH, r, POOL_E_FULL);
	else if (over_quota(model, uid_of_slot(slot), n, n_bytes))
		note(model, BATCH, r, POOL_E_QUOTA);
	else if (r) /* where the first went says whether the last fits: the model does not place */
		note(model, BATCH, r, POOL_E_FULL);
	else
		note(model, BATCH, r, 0);
	for (uint32_t i = 0; !r && i < n; i++)
		insert(model, offsets[i], sizes[i], slot);
}

static void run_free(struct model *model)
{
	struct model_block *block = random_block(model);
	int slot = random_slot(model), r;
	uint64_t offset;

	if (!block)
		return;
	if (block->owner >= 0 && rnd_below(&model->rnd, 3))
		slot = block->owner;
	r = pool_free(model->members[slot], block->offset + guard(model));
	if (!block->holds[slot] && block->owner == OWNED_BY_NOBODY) {
		note(model, FREE, r, POOL_E_FREED);
		return;
	}
	note(model, FREE, r, 0);
	if (block->holds[slot]) {
		block->holds[slot]--;
	} else {
		block->owner = OWNED_BY_NOBODY;
		block->name = -1;
	}
	offset = block->offset + guard(model);
	if (end_if_unheld(model, block))
		note(model, FREE, pool_free(model->members[slot], offset), POOL_E_FREED);
}

/* An offset that is no block's: never 0. */
static void run_wild_free(struct model *model)
{
	uint64_t offset = rnd_below(&model->rnd, model->total + 2 * POOL_FIRST);
	int r;

	for (uint32_t i = 0; i < model->n; i++)
		if (model->blocks[i].offset + guard(model) == offset)
			return;
	r = pool_free(model->members[random_slot(model)], offset);
	note(model, WILD_FREE, r, r == POOL_E_FREED ? POOL_E_FREED : POOL_E_NO_BLOCK);
}

static bool is_pinned(const struct model_block *block)
{
	return block->name >= 0 || holds_of(block) || block->owner == OWNED_BY_NOBODY;
}

static void run_realloc(struct model *model)
{
	struct model_block *block = random_block(model), *moved;
	uint64_t size = random_size(model), extent = extent_size_for(model, size), begin, end, old;
	struct pool_block got = {0};
	int slot = random_slot(model), expected, r;
	bool in_place;

	if (!block)
		return;
	if (block->owner >= 0 && rnd_below(&model->rnd, 4))
		slot = block->owner;
	gap_before(model, (uint32_t)(block - model->blocks) + 1, &begin, &end);
	in_place = extent <= block->size || extent - block->size <= end - begin;
	old = usable(model, block);
	if (block->owner != slot && block->owner != OWNED_BY_POOL &&
	    !(block->owner == OWNED_BY_NOBODY && block->holds[slot]))
		expected = POOL_E_NOT_OWNER;
	else if (in_place)
		expected = extent > block->size && over_quota(model, payer_of(model, block), 0, extent - block->size)
				   ? POOL_E_QUOTA
				   : 0;
	else
		expected = is_pinned(block) ? POOL_E_PINNED : expect_alloc(model, payer_of(model, block), size, 16);
	r = pool_realloc(model->members[slot], block->offset + guard(model), size, POOL_MAY_BLOCK, &got);
	note(model, REALLOC, r, expected);
	if (r)
		return;
	assert_int_equal(got.moved, !in_place);
	assert_int_equal(got.old_size, old);
	if (in_place) {
		assert_int_equal(got.offset, block->offset + guard(model));
		block->size = extent;
		block->requested = size;
		assert_int_equal(got.size, usable(model, block));
	} else {
		moved = insert(model, got.offset, size, block->owner);
		assert_int_equal(got.size, usable(model, moved));
	}
}

static int find_name(const struct model *model, int name)
{
	for (uint32_t i = 0; i < model->n; i++)
		if (model->blocks[i].name == name)
			return (int)i;
	return -1;
}

static size_t spell(int name, char out[32])
{
	return (size_t)snprintf(out, 32, "block-%d", name);
}

static void run_publish(struct model *model)
{
	struct model_block *block = random_block(model);
	int slot = random_slot(model), name, expected = 0, r;
	char text[32] = "";

	if (!block)
		return;
	if (block->owner >= 0 && rnd_below(&model->rnd, 4))
		slot = block->owner;
	name = rnd_below(&model->rnd, 2) ? (int)rnd_below(&model->rnd, N_NAMES) : -1;
	if (block->owner != slot && block->owner != OWNED_BY_POOL)
		expected = POOL_E_NOT_OWNER;
	else if (name >= 0 && block->name != name)
		expected = find_name(model, name) >= 0 ? POOL_E_NAME_TAKEN : block->name >= 0 ? POOL_E_NAMED : 0;
	r = pool_publish(model->members[slot], block->offset + guard(model), text, name >= 0 ? spell(name, text) : 0);
	note(model, PUBLISH, r, expected);
	if (r)
		return;
	block->owner = OWNED_BY_POOL;
	block->name = name >= 0 ? name : block->name;
}

static void run_find(struct model *model)
{
	int name = (int)rnd_below(&model->rnd, N_NAMES), slot = random_slot(model), at = find_name(model, name), r;
	bool retain = rnd_below(&model->rnd, 2);
	struct pool_block block;
	char text[32];
	size_t n = spell(name, text);

	r = pool_find(model->members[slot], text, n, retain, &block);
	note(model, FIND, r, at < 0 ? POOL_E_NO_NAME : 0);
	if (r)
		return;
	assert_int_equal(block.offset, model->blocks[at].offset + guard(model));
	assert_int_equal(block.owner, 0);
	model->blocks[at].holds[slot] += retain;
}

static void run_retain(struct model *model)
{
	struct model_block *block = random_block(model);
	int slot = random_slot(model), r;

	if (!block)
		return;
	r = pool_retain(model->members[slot], block->offset + guard(model));
	note(model, RETAIN, r,
	     block->owner == slot || block->owner == OWNED_BY_POOL || holds_of(block) ? 0 : POOL_E_NOT_OWNER);
	block->holds[slot] += !r;
}

static void run_take(struct model *model)
{
	struct model_block *block = random_block(model);
	int slot = random_slot(model), from = random_slot(model), expected = 0, r;

	if (!block)
		return;
	if (block->owner >= 0 && rnd_below(&model->rnd, 4))
		from = block->owner;
	if (block->owner != from)
		expected = POOL_E_STALE;
	else if (from != slot && uid_of_slot(from) != uid_of_slot(slot) &&
		 over_quota(model, uid_of_slot(slot), 1, block->size))
		expected = POOL_E_QUOTA;
	r = pool_take(model->members[slot], block->offset + guard(model), model->sessions[from]);
	note(model, TAKE, r, expected);
	block->owner = r ? block->owner : slot;
}

static void run_inspect(struct model *model)
{
	struct model_block *block = random_block(model);
	struct pool_block got;
	int r;

	if (!block)
		return;
	r = pool_inspect(model->members[random_slot(model)], block->offset + guard(model), &got);
	note(model, INSPECT, r, 0);
	assert_int_equal(got.size, usable(model, block));
	assert_int_equal(got.owner, block->owner >= 0 ? model->sessions[block->owner] : 0);
}

static void join(struct model *model, int slot)
{
	model->members[slot] = world_join_as(&model->world, model->pool, uid_of_slot(slot));
	model->sessions[slot] = model->members[slot]->session;
}

static void run_end(struct model *model)
{
	int slot = random_slot(model);
	struct pool_warning report = world_leave(model->members[slot]);
	uint64_t n_blocks = 0, n_bytes = 0;

	for (uint32_t i = model->n; i-- > 0;) {
		struct model_block *block = model->blocks + i;
		uint64_t size = block->size;

		block->holds[slot] = 0;
		if (block->owner == slot)
			block->owner = model->options.lifetime ? OWNED_BY_POOL : OWNED_BY_NOBODY;
		if (end_if_unheld(model, block)) {
			n_blocks++;
			n_bytes += size;
		}
	}
	assert_int_equal(report.n_blocks, n_blocks);
	assert_int_equal(report.n_bytes, n_bytes);
	model->counts[END][0]++;
	join(model, slot);
}

static void run_resize(struct model *model)
{
	uint64_t bytes, blocks;
	uint64_t size = model->total + rnd_below(&model->rnd, 5000);
	uint64_t total = (size + 15) / 16 * 16;
	int r;

	if (rnd_below(&model->rnd, 100)) /* seldom: it must last for the whole test */
		return;
	if (!rnd_below(&model->rnd, 3))
		total = size = model->total - 16;
	charged(model, model->options.uid, &bytes, &blocks);
	r = pool_resize(model->pool, NULL, size, POOL_MAY_BLOCK);
	if (total < model->total)
		note(model, RESIZE, r, POOL_E_SHRINK);
	else if (total > model->options.max_size)
		note(model, RESIZE, r, POOL_E_ABOVE_MAX);
	else if (model->options.reserve && bytes + total - model->total > model->limit_bytes)
		note(model, RESIZE, r, POOL_E_QUOTA);
	else
		note(model, RESIZE, r, 0);
	model->total = r ? model->total : total;
}

/* ---- the whole ---- */

static void compare(struct model *model)
{
	struct pool_stats stats = world_stats(model->pool);
	uint64_t bytes, blocks, largest = largest_gap(model);

	assert_int_equal(stats.total, model->total);
	assert_int_equal(stats.used, model_used(model));
	assert_int_equal(stats.used + stats.free + stats.leased_idle, stats.total);
	assert_int_equal(stats.largest_free, largest > 2 * guard(model) ? largest - 2 * guard(model) : 0);
	assert_int_equal(stats.allocations, model->n);
	assert_int_equal(stats.alloc_total, model->n_alloced);
	assert_int_equal(stats.free_total, model->n_freed);
	assert_int_equal(stats.failed_total, model->n_failed);
	assert_int_equal(stats.backed, atomic_load(&model->pool->backing.backed_bytes));
	for (uint32_t uid = WORLD_UID; uid < WORLD_UID + N_UIDS; uid++) {
		charged(model, uid, &bytes, &blocks);
		assert_int_equal(world_used(&model->world, uid, QUOTA_BYTES), bytes);
		assert_int_equal(world_used(&model->world, uid, QUOTA_BLOCKS), blocks);
	}
}

static void compare_pages(struct model *model)
{
	static struct pool_extent page[64];
	uint64_t next = 0, hint = 0, at = POOL_FIRST;
	uint32_t i = 0, n;

	do {
		n = pool_extents(model->pool, next, &hint, page, 1 + (uint32_t)rnd_below(&model->rnd, 64), &next);
		for (uint32_t k = 0; k < n; k++) {
			assert_int_equal(page[k].offset, at);
			at += page[k].size;
			if (page[k].state == EXTENT_GAP)
				continue;
			assert_int_equal(page[k].block, model->blocks[i].offset + guard(model));
			assert_int_equal(page[k].requested, model->blocks[i].requested);
			assert_int_equal(page[k].n_holds,
					 holds_of(&model->blocks[i]) + (model->blocks[i].owner != OWNED_BY_NOBODY));
			assert_int_equal(page[k].n_name_bytes != 0, model->blocks[i].name >= 0);
			i++;
		}
		if (rnd_below(&model->rnd, 4) == 0)
			hint = rnd_below(&model->rnd, UINT64_MAX);
	} while (next);
	assert_int_equal(i, model->n);
	assert_int_equal(at, POOL_FIRST + model->total);
}

static void step(struct model *model)
{
	static void (*const run[])(struct model *) = {
		[ALLOC] = run_alloc,	 [BATCH] = run_batch, [FREE] = run_free,     [REALLOC] = run_realloc,
		[PUBLISH] = run_publish, [FIND] = run_find,   [RETAIN] = run_retain, [TAKE] = run_take,
		[INSPECT] = run_inspect, [END] = run_end,     [RESIZE] = run_resize, [WILD_FREE] = run_wild_free,
	};
	static const unsigned weights[] = {
		[ALLOC] = 30, [BATCH] = 3, [FREE] = 34,	  [REALLOC] = 10, [PUBLISH] = 4, [FIND] = 4,
		[RETAIN] = 6, [TAKE] = 5,  [INSPECT] = 2, [END] = 1,	  [RESIZE] = 2,	 [WILD_FREE] = 2};
	uint64_t pick = rnd_below(&model->rnd, 103);
	unsigned i = 0;

	for (; pick >= weights[i]; i++)
		pick -= weights[i];
	run[i](model);
}

/* The daemon ends, another goes on: nothing has changed. */
static void restart(struct model *model)
{
	model->pool = world_restart(&model->world, model->pool);
	for (int i = 0; i < N_SLOTS; i++) {
		model->members[i] = pool_member_of(model->pool, model->sessions[i]);
		assert_non_null(model->members[i]);
	}
	compare(model);
	compare_pages(model);
}

static void print_counts(const struct model *model)
{
	printf("%-10s outcome:count …\n", "operation");
	for (int i = 0; i < N_OPERATIONS; i++) {
		printf("%-10s", operation_names[i]);
		for (int k = 0; k < POOL_OUTCOME_N; k++)
			if (model->counts[i][k])
				printf(" %d:%llu", k, (unsigned long long)model->counts[i][k]);
		printf("\n");
	}
}

static void play(const struct pool_options *options, uint64_t limit_bytes, uint64_t n_steps)
{
	struct model *model = calloc(1, sizeof(*model));
	const char *given = getenv("TEST_SEED");
	uint64_t seed =
		given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL) * 1000 + options->guard * 2 + options->reserve;

	assert_non_null(model);
	printf("seed %llu\n", (unsigned long long)seed);
	fflush(stdout);
	rnd_init(&model->rnd, seed);
	model->limit_bytes = limit_bytes;
	model->limit_blocks = 90;
	world_init_limits(&model->world, limit_bytes, model->limit_blocks);
	model->pool = world_pool_with(&model->world, options);
	model->options = *pool_options(model->pool);
	model->total = model->options.size;
	for (int i = 0; i < N_SLOTS; i++)
		join(model, i);
	for (uint64_t i = 0; i < n_steps; i++) {
		step(model);
		if (i % 16 == 0)
			compare(model);
		if (i % 256 == 0) {
			world_check(model->pool);
			compare_pages(model);
		}
		if (i % 512 == 511)
			restart(model);
	}
	print_counts(model);
	for (int i = 0; i < N_SLOTS; i++)
		world_leave(model->members[i]);
	world_check(model->pool);
	world_destroy(model->pool);
	world_deinit(&model->world);
	free(model);
}

#define N_STEPS 300000

static void test_pool_plain_is_as_the_model(void **state)
{
	struct pool_options options = world_options(200000);

	(void)state;
	options.max_size = 260000;
	play(&options, 90000, N_STEPS);
}

static void test_pool_guarded_is_as_the_model(void **state)
{
	struct pool_options options = world_options(200000);

	(void)state;
	options.guard = true;
	play(&options, 90000, N_STEPS);
}

static void test_pool_of_lifetime_pool_is_as_the_model(void **state)
{
	struct pool_options options = world_options(130000);

	(void)state;
	options.lifetime = 1;
	play(&options, 60000, N_STEPS);
}

static void test_pool_reserved_is_as_the_model(void **state)
{
	struct pool_options options = world_options(150000);

	(void)state;
	options.reserve = true;
	options.max_size = 200000;
	play(&options, 170000, N_STEPS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pool_plain_is_as_the_model),
		cmocka_unit_test(test_pool_guarded_is_as_the_model),
		cmocka_unit_test(test_pool_of_lifetime_pool_is_as_the_model),
		cmocka_unit_test(test_pool_reserved_is_as_the_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
