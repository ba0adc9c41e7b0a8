// SPDX-License-Identifier: MIT
/*
 * Leases against a naive model: an array of blocks, each with its owner, its retains and its name, whether it is an extent or a
 * slot. Simulated clients do to words what the protocol lets them do; requests go to the pool.
 *
 * The daemon is killed at every kind of moment: this program is built with the pool's code compiled so that each access to the
 * lease segment calls us, and now and then we do not return. What was under way is left as it is, another daemon recovers
 * the pool, and the request is asked again with the same id: it must have happened once.
 */
#include "lease_world.h"
#include "tests/lib/rnd.h"

enum {
	N_BLOCKS_MAX = 400,
	N_NAMES = 8,
	OF_POOL = -1,
	OF_NOBODY = -2
};

enum lease_rule lease_test_without;

struct block {
	uint64_t offset, size;
	bool is_slot;
	int owner;
	uint32_t holds[N_CLIENTS];
	int name; /* -1: none */
};

struct model {
	struct lease_world t;
	struct rnd rnd;
	struct block blocks[N_BLOCKS_MAX];
	uint32_t n;
	bool outlives; /* lifetime pool */
	uint64_t last_id[N_CLIENTS];
	uint64_t n_kills, n_requests, n_slots, n_leases;
	const char *doing;
};

/* ---- kills ---- */

static jmp_buf dead;
static bool was_killed;		  /* in this step */
static volatile uint64_t kill_in; /* accesses from now; 0: never */

void lease_test_step(const char *what, const volatile void *at)
{
	(void)what;
	(void)at;
	if (kill_in && !--kill_in)
		longjmp(dead, 1);
}

static void restart(struct model *model)
{
	lease_world_restart(&model->t);
	for (int i = 0; i < N_CLIENTS; i++)
		if (model->t.members[i])
			model->t.members[i]->call.id = model->last_id[i];
}

struct request { /* of client @who */
	int (*run)(struct model *model, struct request *request);
	int who, from;
	uint64_t offset, size;
	const char *name;
	struct pool_block block;
	uint32_t ids[POOL_SLABS_MAX], n, heap;
	uint64_t offsets[8], failed[8];
	size_t n_failed;
	struct pool_warning report;
};

static struct pool_member *member_of(struct model *model, int who)
{
	return model->t.members[who];
}

static int ask(struct model *model, struct request *request)
{
	if (member_of(model, request->who))
		member_of(model, request->who)->call.id = ++model->last_id[request->who];
	model->n_requests++;
	kill_in = rnd_below(&model->rnd, 3) ? 0 : rnd_log(&model->rnd, 1, 3000);
	if (setjmp(dead)) {
		model->n_kills++;
		was_killed = true;
		pthread_mutex_unlock(&model->t.pool->mutex); /* and nothing is committed */
		restart(model);
	}
	int r = request->run(model, request);

	kill_in = 0;
	return r;
}

/* ---- requests ---- */

static int run_alloc(struct model *model, struct request *q)
{
	return pool_alloc(member_of(model, q->who), q->size, 0, POOL_MAY_BLOCK, &q->block);
}

static int run_lease(struct model *model, struct request *q)
{
	return pool_lease_slabs(member_of(model, q->who), model->t.heaps[q->who], size_class_of(q->size),
				(uint32_t)q->from, POOL_MAY_BLOCK, q->ids, &q->n);
}

static int run_free(struct model *model, struct request *q)
{
	return pool_free(member_of(model, q->who), q->offset);
}

static int run_free_batch(struct model *model, struct request *q)
{
	return pool_free_batch(member_of(model, q->who), q->n, q->offsets, q->failed, &q->n_failed);
}

static int run_retain(struct model *model, struct request *q)
{
	return pool_retain(member_of(model, q->who), q->offset);
}

static int run_publish(struct model *model, struct request *q)
{
	return pool_publish(member_of(model, q->who), q->offset, q->name, q->name ? 2 : 0);
}

static int run_acquire(struct model *model, struct request *q)
{
	return pool_find(member_of(model, q->who), q->name, 2, true, &q->block);
}

static int run_take(struct model *model, struct request *q)
{
	return pool_take(member_of(model, q->who), q->offset, model->t.sessions[q->from]);
}

static int run_realloc(struct model *model, struct request *q)
{
	return pool_realloc(member_of(model, q->who), q->offset, q->size, POOL_MAY_BLOCK, &q->block);
}

static int run_return(struct model *model, struct request *q)
{
	pool_return_slabs(member_of(model, q->who), q->n, q->ids);
	return 0;
}

static int run_leave(struct model *model, struct request *q)
{
	while (member_of(model, q->who) && pool_leave_step(member_of(model, q->who), &q->report))
		;
	model->t.members[q->who] = NULL;
	return 0;
}

static int run_open_heap(struct model *model, struct request *q)
{
	return pool_open_heap(member_of(model, q->who), true, &q->heap);
}

/* ---- the model ---- */

static uint64_t below(struct model *model, uint64_t n)
{
	return rnd_below(&model->rnd, n);
}

static uint32_t holds_of(const struct block *block)
{
	uint32_t n = 0;

	for (int i = 0; i < N_CLIENTS; i++)
		n += block->holds[i];
	return n;
}

static bool is_held(const struct block *block)
{
	return holds_of(block) || block->name >= 0;
}

static struct block *any_block(struct model *model)
{
	return model->n ? &model->blocks[below(model, model->n)] : NULL;
}

static void add_block(struct model *model, int owner, uint64_t offset, uint64_t size, bool is_slot)
{
	assert_true(model->n < N_BLOCKS_MAX);
	for (uint32_t i = 0; i < model->n; i++) /* never handed out twice */
		assert_true(offset + size <= model->blocks[i].offset ||
			    offset >= model->blocks[i].offset + model->blocks[i].size);
	model->blocks[model->n++] =
		(struct block){.offset = offset, .size = size, .is_slot = is_slot, .owner = owner, .name = -1};
}

static void remove_block(struct model *model, struct block *block)
{
	*block = model->blocks[--model->n];
}

static bool end_if_unheld(struct model *model, struct block *block)
{
	if (block->owner != OF_NOBODY || holds_of(block))
		return false;
	remove_block(model, block);
	return true;
}

/* A free by request. Return: what it must answer */
static int expect_free(struct model *model, struct block *block, int who)
{
	if (block->holds[who]) {
		block->holds[who]--;
	} else if (block->owner == OF_NOBODY) {
		return POOL_E_FREED;
	} else {
		block->owner = OF_NOBODY;
		block->name = -1;
	}
	end_if_unheld(model, block);
	return 0;
}

/* ---- operations ---- */

/* 16 bytes to 100 KB; a slot wherever one can be had */
static void do_alloc(struct model *model, int who)
{
	struct request q = {.run = run_lease, .who = who, .from = 1 + (int)below(model, 3)};
	uint64_t offset = 0;
	int r;

	if (model->n > N_BLOCKS_MAX - 8)
		return;
	q.size = rnd_log(&model->rnd, 1, 100000);
	if (below(model, 4)) {
		_Atomic uint16_t *word = client_pick(&model->t, who, size_class_of(q.size), &offset);

		if (!word && !ask(model, &q)) {
			model->n_leases++;
			word = client_pick(&model->t, who, size_class_of(q.size), &offset);
		}
		if (word &&
		    lease_word_swap(word, lease_cached_by(model->t.heaps[who]), lease_live_of(model->t.heaps[who]))) {
			add_block(model, who, offset, size_class_bytes(size_class_of(q.size)), true);
			model->n_slots++;
			return;
		}
	}
	q.run = run_alloc;
	r = ask(model, &q);
	assert_true(!r || r == POOL_E_FULL);
	if (!r)
		add_block(model, who, q.block.offset, (q.size + 15) / 16 * 16, false);
}

static void do_free(struct model *model, int who)
{
	struct block *block = any_block(model);
	struct request q = {.run = run_free, .who = who};

	if (!block)
		return;
	q.offset = block->offset;
	if (block->is_slot && below(model, 3) && client_try_free(&model->t, who, block->offset)) {
		assert_true(block->owner >= 0 && !is_held(block)); /* else it would be pinned */
		remove_block(model, block);
		assert_int_equal(ask(model, &q), POOL_E_FREED);
		return;
	}
	{
		int expected = expect_free(model, block, who);

		assert_int_equal(ask(model, &q), expected);
	}
}

static void do_free_batch(struct model *model, int who)
{
	struct request q = {.run = run_free_batch, .who = who};
	int first = 0;

	if (model->n < 40)
		return;
	for (q.n = 0; q.n < 5;) {
		struct block *block = any_block(model);
		uint64_t offset = block->offset;
		int r;

		if (block->owner == OF_NOBODY && !block->holds[who])
			break;
		r = expect_free(model, block, who);
		first = first ? first : r;
		q.offsets[q.n++] = offset;
	}
	if (q.n)
		assert_int_equal(ask(model, &q), first);
}

static void do_retain(struct model *model, int who)
{
	struct block *block = any_block(model);
	struct request q = {.run = run_retain, .who = who};
	bool may;

	if (!block)
		return;
	q.offset = block->offset;
	may = block->owner == who || block->owner == OF_POOL || holds_of(block);
	assert_int_equal(ask(model, &q), may ? 0 : POOL_E_NOT_OWNER);
	block->holds[who] += may;
}

static struct block *named(struct model *model, int name)
{
	for (uint32_t i = 0; i < model->n; i++)
		if (model->blocks[i].name == name)
			return &model->blocks[i];
	return NULL;
}

static const char *const names[N_NAMES] = {"n0", "n1", "n2", "n3", "n4", "n5", "n6", "n7"};

static void do_publish(struct model *model, int who)
{
	struct block *block = any_block(model), *other;
	struct request q = {.run = run_publish, .who = who};
	int name = (int)below(model, N_NAMES), expected = 0;

	if (!block)
		return;
	q.offset = block->offset;
	q.name = names[name];
	other = named(model, name);
	if (block->owner != who && block->owner != OF_POOL)
		expected = POOL_E_NOT_OWNER;
	else if (other)
		expected = other == block ? 0 : POOL_E_NAME_TAKEN;
	else if (block->name >= 0)
		expected = POOL_E_NAMED;
	assert_int_equal(ask(model, &q), expected);
	if (expected || other)
		return;
	block->owner = OF_POOL;
	block->name = name;
}

static void do_acquire(struct model *model, int who)
{
	int name = (int)below(model, N_NAMES);
	struct block *block = named(model, name);
	struct request q = {.run = run_acquire, .who = who, .name = names[name]};

	assert_int_equal(ask(model, &q), block ? 0 : POOL_E_NO_NAME);
	if (!block)
		return;
	assert_int_equal(q.block.offset, block->offset);
	block->holds[who]++;
}

static void do_take(struct model *model, int who)
{
	struct block *block = any_block(model);
	int from = (int)below(model, N_CLIENTS);
	struct request q = {.run = run_take, .who = who, .from = from};
	bool may;

	if (!block)
		return;
	q.offset = block->offset;
	may = block->owner == from;
	if (block->is_slot && below(model, 2) && client_take(&model->t, who, block->offset, from)) {
		assert_true(may);
		block->owner = who;
		return;
	}
	assert_int_equal(ask(model, &q), may ? 0 : POOL_E_STALE);
	if (may)
		block->owner = who;
}

static void do_realloc(struct model *model, int who)
{
	struct block *block = any_block(model);
	struct request q = {.run = run_realloc, .who = who};
	bool may;
	int r;

	if (!block || model->n > N_BLOCKS_MAX - 8)
		return;
	q.offset = block->offset;
	q.size = rnd_log(&model->rnd, 1, 3 * block->size);
	may = block->owner == who || block->owner == OF_POOL || (block->owner == OF_NOBODY && block->holds[who]);
	r = ask(model, &q);
	if (!may) {
		assert_int_equal(r, POOL_E_NOT_OWNER);
		return;
	}
	if (block->is_slot && q.size <= block->size)
		assert_int_equal(r, 0);
	assert_true(!r || r == POOL_E_FULL || (r == POOL_E_PINNED && (is_held(block) || block->owner == OF_NOBODY)));
	if (r)
		return;
	assert_int_equal(q.block.old_size, block->size);
	if (q.block.moved)
		add_block(model, block->owner, q.block.offset, (q.size + 15) / 16 * 16, false);
	else if (!block->is_slot)
		block->size = (q.size + 15) / 16 * 16;
	if (!q.block.moved)
		assert_int_equal(q.block.offset, block->offset);
}

static void do_inspect(struct model *model, int who)
{
	struct block *block = any_block(model);
	struct pool_block seen;

	if (!block)
		return;
	assert_int_equal(pool_inspect(member_of(model, who), block->offset, &seen), 0);
	assert_int_equal(seen.size, block->size);
	assert_int_equal(seen.owner, block->owner >= 0 ? model->t.sessions[block->owner] : 0);
	assert_int_equal(pool_inspect(member_of(model, who), block->offset + 8, &seen), POOL_E_NO_BLOCK);
}

static void do_flush(struct model *model, int who)
{
	struct request q = {.run = run_return, .who = who};

	client_flush(&model->t, who);
	for (q.n = 0; q.n < 8; q.n++)
		q.ids[q.n] = (uint32_t)below(model, model->t.pool->slab_records.n_high + 2);
	ask(model, &q);
}

/* Nothing that could be had is missing: after a refusal no slab is empty whose custody is free. */
static void do_fill(struct model *model, int who)
{
	struct request q = {.run = run_alloc, .who = who};
	struct pool *pool;
	uint16_t words[SLAB_SLOTS_MAX];
	struct slab_count count;

	q.size = 1u << 20;
	if (ask(model, &q) == 0) {
		add_block(model, who, q.block.offset, q.size, false);
		return;
	}
	pool = model->t.pool;
	pool_lock(pool);
	for (uint32_t id = 0; id < pool->slab_records.n_high; id++)
		if (slab_exists(pool, id) && client_slab(&model->t, id)->custody == LEASE_IDLE) {
			assert_true(slab_read(pool, id, words, &count));
			assert_true(count.n_free < slab_record(pool, id)->n_slots);
		}
	pool_unlock(pool);
}

static void do_end(struct model *model, int who)
{
	struct request q = {.run = run_leave, .who = who};

	if (below(model, 2) && model->t.pool->slab_records.n) { /* it died in a refill */
		uint32_t id = (uint32_t)below(model, model->t.pool->slab_records.n_high);

		if (client_slab(&model->t, id)->slot_bytes)
			lease_custody_take(&client_slab(&model->t, id)->custody, model->t.heaps[who]);
	}
	ask(model, &q);
	for (uint32_t i = model->n; i-- > 0;) {
		struct block *block = &model->blocks[i];

		block->holds[who] = 0;
		if (block->owner == who)
			block->owner = model->outlives ? OF_POOL : OF_NOBODY;
		end_if_unheld(model, block);
	}
	model->last_id[who] = 0;
	model->t.members[who] = world_join(&model->t.world, model->t.pool);
	model->t.sessions[who] = model->t.members[who]->session;
	q.run = run_open_heap;
	assert_int_equal(ask(model, &q), 0);
	model->t.heaps[who] = q.heap;
}

static void do_restart(struct model *model, int who)
{
	(void)who;
	restart(model);
}

/* ---- the whole ---- */

static void compare(struct model *model)
{
	struct pool_stats stats = world_stats(model->t.pool);
	uint64_t used = 0;

	for (uint32_t i = 0; i < model->n; i++) {
		const struct block *block = &model->blocks[i];
		uint16_t word;

		used += block->size;
		if (!block->is_slot)
			continue;
		word = client_word_at(&model->t, block->offset);
		if (word == LEASE_PINNED)
			continue;
		assert_false(is_held(block));
		assert_int_equal(word, block->owner >= 0 ? lease_live_of(model->t.heaps[block->owner]) : LEASE_POOLS);
	}
	if (stats.allocations != model->n)
		printf("after %s, %s: ", model->doing, was_killed ? "killed" : "not killed");
	assert_int_equal(stats.allocations, model->n);
	assert_int_equal(stats.used, used);
	assert_int_equal(stats.used + stats.free + stats.leased_idle, stats.total);
	assert_false(model->t.pool->lease.is_damaged);
	for (uint32_t id = 0; id < model->t.pool->slab_records.n_high;
	     id++) /* nobody is at work, and the dead have none */
		if (slab_exists(model->t.pool, id))
			assert_int_equal(client_slab(&model->t, id)->custody, LEASE_IDLE);
	world_check(model->t.pool);
}

static void step(struct model *model)
{
	static const struct {
		const char *name;
		unsigned weight;
		void (*run)(struct model *model, int who);
	} operations[] = {
		{"alloc", 40, do_alloc},    {"free", 34, do_free},	{"batch", 2, do_free_batch},
		{"retain", 5, do_retain},   {"publish", 3, do_publish}, {"acquire", 3, do_acquire},
		{"take", 6, do_take},	    {"realloc", 5, do_realloc}, {"inspect", 2, do_inspect},
		{"flush", 5, do_flush},	    {"fill", 2, do_fill},	{"end", 1, do_end},
		{"restart", 1, do_restart},
	};
	uint64_t pick = below(model, 109);
	unsigned i = 0;

	for (; pick >= operations[i].weight; i++)
		pick -= operations[i].weight;
	model->doing = operations[i].name;
	was_killed = false;
	operations[i].run(model, (int)below(model, N_CLIENTS));
}

static void play(uint64_t seed, bool outlives, uint64_t n_steps)
{
	struct model *model = calloc(1, sizeof(*model));

	assert_non_null(model);
	rnd_init(&model->rnd, seed);
	model->outlives = outlives;
	lease_world_init(&model->t, 8u << 20, outlives);
	for (uint64_t i = 0; i < n_steps; i++) {
		step(model);
		compare(model);
	}
	printf("%llu requests, %llu kills, %llu slots, %llu leases, %u blocks at the end\n",
	       (unsigned long long)model->n_requests, (unsigned long long)model->n_kills,
	       (unsigned long long)model->n_slots, (unsigned long long)model->n_leases, model->n);
	assert_true(model->n_kills && model->n_slots && model->n_leases); /* it was about something */
	lease_world_deinit(&model->t);
	free(model);
}

static void test_lease_model_sessions_own(void **state)
{
	play(*(uint64_t *)*state, false, 2500);
}

static void test_lease_model_blocks_outlive(void **state)
{
	play(*(uint64_t *)*state + 1, true, 2500);
}

int main(void)
{
	static uint64_t seed;
	struct CMUnitTest tests[] = {
		cmocka_unit_test_prestate(test_lease_model_sessions_own, &seed),
		cmocka_unit_test_prestate(test_lease_model_blocks_outlive, &seed),
	};

	seed = rnd_seed_from_env_or_time();
	if (getenv("MEMPOOL_TEST_WITHOUT")) /* a rule, by its number: this must fail then */
		lease_test_without = (enum lease_rule)atoi(getenv("MEMPOOL_TEST_WITHOUT"));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
