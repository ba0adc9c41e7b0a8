// SPDX-License-Identifier: MIT
/* One half of bench_intent: a pool of this engine, made at the first call for so many blocks, kept for the next. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "pool/pool.h"
#include "tests/bench/intent.h"
#include "tests/lib/rnd.h"

#define N_PAIRS 100000u

struct scene {
	uint32_t n;
	struct pool *pool;
	struct pool_member *member;
	uint64_t *offsets; /* [n] */
	struct rnd rnd;
};

__attribute__((visibility("default"))) double intent_run_pairs(uint32_t n_standing);

static struct scene scene;
static struct quota quota;
static struct budget budget;
static struct pool_env env;

static void must(bool holds, const char *what)
{
	if (holds)
		return;
	fprintf(stderr, "bench_intent: %s failed\n", what);
	exit(1);
}

static uint64_t take(void)
{
	struct pool_block block;

	scene.member->call.id++;
	must(!pool_alloc(scene.member, 16 + rnd_below(&scene.rnd, 1009), 0, POOL_MAY_BLOCK, &block), "alloc");
	return block.offset;
}

static void end(void)
{
	struct pool_warning warning;

	if (!scene.pool)
		return;
	must(!pool_destroy(scene.pool, false, &warning), "destroy");
	free(scene.offsets);
	scene.pool = NULL; /* its mappings end with the process */
}

static void set_scene(uint32_t n)
{
	static char instance[48];
	const struct pool_options options = {.size = UINT64_C(1) << 30, .uid = getuid(), .mode = 0600};
	const struct pool_identity who = {.session = 1, .uid = getuid(), .command = "bench_intent"};
	uint64_t limit[QUOTA_KIND_N];

	for (int kind = 0; kind < QUOTA_KIND_N; kind++)
		limit[kind] = UINT64_MAX;
	if (!env.instance) {
		must(!quota_init(&quota, getuid(), limit) && !budget_init(&budget, UINT64_MAX), "init");
		snprintf(instance, sizeof(instance), "bench-intent-%d", (int)getpid());
		env = (struct pool_env){
			.instance = instance, .quota = &quota, .budget = &budget, .decay_ms = UINT64_MAX};
		must(!atexit(end), "atexit");
	}
	end();
	rnd_init(&scene.rnd, n);
	scene.n = n;
	scene.offsets = malloc(n * sizeof(*scene.offsets));
	must(scene.offsets && !pool_new(&scene.pool, &env, 1, &options) && !pool_join(scene.pool, &who, &scene.member),
	     "pool_new");
	for (uint32_t i = 0; i < n; i++)
		scene.offsets[i] = take();
}

static double now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

double intent_run_pairs(uint32_t n_standing)
{
	double start;

	if (scene.n != n_standing)
		set_scene(n_standing);
	start = now_ns();
	for (uint32_t i = 0; i < N_PAIRS; i++) {
		uint64_t *offset = scene.offsets + rnd_below(&scene.rnd, n_standing);

		scene.member->call.id++;
		must(!pool_free(scene.member, *offset), "free");
		*offset = take();
	}
	return (now_ns() - start) / N_PAIRS;
}
