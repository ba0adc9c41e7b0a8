// SPDX-License-Identifier: MIT
/*
 * bench_pool - what the engine takes for one allocation and its free, and for how long a session's end holds the mutex
 *
 * A pair replaces one of so many live blocks, chosen at random, of 16 to 1024 bytes; pages are backed before.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "pool/registry.h"
#include "tests/lib/rnd.h"

#define N_PAIRS 2000000u

static uint64_t clock_of(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void must(bool holds, const char *what)
{
	if (holds)
		return;
	fprintf(stderr, "bench_pool: %s failed\n", what);
	exit(1);
}

static uint64_t take(struct pool_member *member, struct rnd *rnd)
{
	struct pool_block block;

	must(!pool_alloc(member, 16 + rnd_below(rnd, 1009), 0, POOL_MAY_BLOCK, &block), "alloc");
	return block.offset;
}

static void run_pairs(struct pool_member *member, uint64_t offsets[], uint32_t n)
{
	struct rnd rnd;
	uint64_t start, ns;

	rnd_init(&rnd, n);
	for (uint32_t i = 0; i < n; i++)
		offsets[i] = take(member, &rnd);
	for (uint32_t round = 0; round < 2; round++) { /* the first warms pages and caches */
		start = clock_of(CLOCK_MONOTONIC);
		for (uint32_t i = 0; i < N_PAIRS; i++) {
			uint64_t *offset = offsets + rnd_below(&rnd, n);

			must(!pool_free(member, *offset), "free");
			*offset = take(member, &rnd);
		}
	}
	ns = clock_of(CLOCK_MONOTONIC) - start;
	printf("%8u live blocks: %6.1f ns a pair of alloc and free\n", n, (double)ns / N_PAIRS);
}

/* Time of this thread's own, so that being preempted does not count as holding. */
static void run_end(struct pool_member *member)
{
	struct pool_warning report = {0};
	uint64_t longest = 0, total = 0, n_steps = 0, ns, start;
	bool more;

	do {
		start = clock_of(CLOCK_THREAD_CPUTIME_ID);
		more = pool_leave_step(member, &report);
		ns = clock_of(CLOCK_THREAD_CPUTIME_ID) - start;
		longest = ns > longest ? ns : longest;
		total += ns;
		n_steps++;
	} while (more);
	printf("%8llu blocks ended with their session: %.1f ms in %llu steps, the longest %.0f us\n",
	       (unsigned long long)report.n_blocks, (double)total / 1e6, (unsigned long long)n_steps,
	       (double)longest / 1e3);
}

int main(void)
{
	struct registry_config config = {.budget_bytes = UINT64_MAX, .decay_ms = UINT64_MAX};
	struct pool_options options = {
		.name = "bench", .n_name_bytes = 5, .size = UINT64_C(2) << 30, .uid = getuid(), .mode = 0600};
	struct pool_identity who = {.uid = getuid(), .command = "bench_pool"};
	static const uint32_t counts[] = {1000, 100000, 1000000};
	uint64_t *offsets = malloc(counts[2] * sizeof(*offsets));
	struct registry *registry;
	struct pool_member *member;
	char instance[32];
	struct pool *pool;
	int n_swept;

	must(offsets, "malloc");
	for (int kind = 0; kind < QUOTA_KIND_N; kind++)
		config.quota_limit[kind] = UINT64_MAX;
	snprintf(instance, sizeof(instance), "bench-%d", (int)getpid());
	config.instance = instance;
	must(!registry_open(&registry, &config, &n_swept), "registry_open");
	for (size_t i = 0; i < N_ELEMENTS(counts); i++) {
		must(!registry_create(registry, &options, NULL, &pool), "registry_create");
		who.session = i + 1;
		must(!pool_join(pool, &who, &member), "pool_join");
		run_pairs(member, offsets, counts[i]);
		run_end(member);
		struct pool_warning warning;
		must(!registry_remove(registry, pool, false, NULL, &warning), "registry_remove");
		pool_unref(pool);
	}
	registry_close(registry);
	free(offsets);
	return 0;
}
