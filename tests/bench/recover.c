// SPDX-License-Identifier: MIT
/*
 * bench_recover - how long a pool with a million live blocks takes to be back in service after kill -9 of its daemon
 *
 * The pool is churned, so that its blocks lie in no order of their records. Its daemon's part is let go of without a word,
 * as a kill does; measured is pool_recover(), which maps the books anew: time by the clock on the wall, and of processors, by
 * all threads, of which a busy machine changes less. Medians of several runs.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "pool/registry.h"
#include "tests/lib/rnd.h"

#define N_RUNS	 7
#define N_BLOCKS 1000000u
#define GOAL_MS	 500
#define FAR_MS	 100

static void must(bool holds, const char *what)
{
	if (holds)
		return;
	fprintf(stderr, "bench_recover: %s failed\n", what);
	exit(1);
}

static double ms_of(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

static uint64_t take(struct pool_member *member, struct rnd *rnd)
{
	struct pool_block block;

	must(!pool_alloc(member, 16 + rnd_below(rnd, 1009), 0, POOL_MAY_BLOCK, &block), "alloc");
	return block.offset;
}

static void fill(struct pool_member *member)
{
	uint64_t *offsets = malloc(N_BLOCKS * sizeof(*offsets));
	struct rnd rnd;

	must(offsets, "malloc");
	rnd_init(&rnd, 1);
	for (uint32_t i = 0; i < N_BLOCKS; i++)
		offsets[i] = take(member, &rnd);
	for (uint32_t i = 0; i < N_BLOCKS; i++) {
		uint64_t *offset = offsets + rnd_below(&rnd, N_BLOCKS);

		must(!pool_free(member, *offset), "free");
		*offset = take(member, &rnd);
	}
	free(offsets);
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static struct pool *recover(const struct pool_env *env, struct pool *pool, double *msp, double *cpu_msp)
{
	char name[SEGMENT_NAME_BYTES], why[200];

	snprintf(name, sizeof(name), "%s", pool_books_name(pool));
	pool_keep(pool);
	*msp = ms_of(CLOCK_MONOTONIC);
	*cpu_msp = ms_of(CLOCK_PROCESS_CPUTIME_ID);
	must(!pool_recover(&pool, env, name, why, sizeof(why)), "pool_recover");
	*msp = ms_of(CLOCK_MONOTONIC) - *msp;
	*cpu_msp = ms_of(CLOCK_PROCESS_CPUTIME_ID) - *cpu_msp;
	return pool;
}

int main(void)
{
	const struct pool_options options = {
		.name = "bench", .n_name_bytes = 5, .size = UINT64_C(1) << 30, .uid = getuid(), .mode = 0600};
	const struct pool_identity who = {.session = 1, .uid = getuid(), .command = "bench_recover"};
	uint64_t limit[QUOTA_KIND_N];
	struct pool_member *member = NULL;
	struct quota quota;
	struct budget budget;
	char instance[32];
	const struct pool_env env = {.instance = instance, .quota = &quota, .budget = &budget, .decay_ms = UINT64_MAX};
	struct pool *pool;
	double ms[N_RUNS], cpu_ms[N_RUNS];

	for (int kind = 0; kind < QUOTA_KIND_N; kind++)
		limit[kind] = UINT64_MAX;
	snprintf(instance, sizeof(instance), "bench-%d", (int)getpid());
	must(!quota_init(&quota, getuid(), limit) && !budget_init(&budget, UINT64_MAX), "init");
	must(!pool_new(&pool, &env, 1, &options) && !pool_join(pool, &who, &member), "pool_new");
	fill(member);
	for (int i = 0; i < N_RUNS; i++)
		pool = recover(&env, pool, &ms[i], &cpu_ms[i]);
	qsort(ms, N_RUNS, sizeof(ms[0]), compare);
	qsort(cpu_ms, N_RUNS, sizeof(cpu_ms[0]), compare);
	printf("A pool with %u live blocks is back in service after %.0f ms (%.0f to %.0f in %d runs; goal: %d, "
	       "beyond: %d), %.0f ms of processor time: %s\n",
	       N_BLOCKS, ms[N_RUNS / 2], ms[0], ms[N_RUNS - 1], N_RUNS, GOAL_MS, FAR_MS, cpu_ms[N_RUNS / 2],
	       ms[N_RUNS / 2] <= GOAL_MS ? "reached" : "MISSED");
	while (pool_leave_step(pool_member_of(pool, 1), &(struct pool_warning){0}))
		;
	pool_unref(pool);
	return 0;
}
