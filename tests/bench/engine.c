// SPDX-License-Identifier: MIT
/*
 * bench_engine - what the extent map alone takes for an allocation and its free, and what its books take for an extent
 *
 * With 1,000 and with 1,000,000 blocks of 16 to 1024 bytes standing, in a map that was churned before, so that there are
 * gaps of all sizes. A free looks its block up by offset first, as a request does. Times are of the processor, so that a
 * busy machine costs little truth; medians of several runs.
 */
#include <stdio.h>
#include <time.h>

#include "tests/lib/map.h"
#include "tests/lib/rnd.h"

#define N_RUNS	  9
#define N_SMALL	  1000u
#define N_LARGE	  1000000u
#define N_PAIRS	  1000000u
#define MAP_BYTES (UINT64_C(8) << 30)

static struct test_map t;
static struct rnd rnd;
static uint64_t *offsets;

struct figures {
	double pair_ns, replace_ns; /* medians */
	double books_fresh, books_churned;
};

static void must(bool holds, const char *what)
{
	if (holds)
		return;
	fprintf(stderr, "bench_engine: %s failed\n", what);
	exit(1);
}

static double now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static uint64_t take(void)
{
	uint64_t size = EXTENT_GRANULE * (1 + rnd_below(&rnd, 64));
	uint32_t extent;

	must(!extent_map_take(&t.map, size, EXTENT_GRANULE, 0, 0, 1, 1, &extent), "take");
	extent_map_publish(&t.map, extent, 0, &t.owner);
	intent_commit(&t.ledger);
	return extent_offset(&t.map, extent);
}

static void give(uint64_t offset)
{
	uint32_t extent;

	must(!extent_map_find(&t.map, offset, &extent), "find");
	extent_map_give(&t.map, extent, &t.owner, 1);
	intent_commit(&t.ledger);
}

/* the newest block goes at once: all memory is warm */
static double run_pairs(uint32_t n)
{
	double start = now_ns();

	(void)n;
	for (uint32_t i = 0; i < N_PAIRS; i++)
		give(take());
	return (now_ns() - start) / N_PAIRS;
}

/* any block of those standing goes, another comes: nothing is warm if they are many */
static double run_replaces(uint32_t n)
{
	double start = now_ns();

	for (uint32_t i = 0; i < N_PAIRS; i++) {
		uint64_t *offset = &offsets[rnd_below(&rnd, n)];

		give(*offset);
		*offset = take();
	}
	return (now_ns() - start) / N_PAIRS;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median_of(const char *what, double (*run)(uint32_t), uint32_t n)
{
	double ns[N_RUNS];

	for (int i = 0; i < N_RUNS; i++)
		ns[i] = run(n);
	qsort(ns, N_RUNS, sizeof(ns[0]), compare);
	printf("%9u standing, %-16s %6.1f ns (%.1f to %.1f in %d runs)\n", n, what, ns[N_RUNS / 2], ns[0],
	       ns[N_RUNS - 1], N_RUNS);
	return ns[N_RUNS / 2];
}

static double books_per_extent(uint64_t before)
{
	return (double)(t.ledger.backed_bytes - before) / (double)(t.map.n_live + t.map.n_gaps);
}

static struct figures measure(uint32_t n)
{
	struct figures figures;
	uint64_t before;

	must(!test_map_init(&t, MAP_BYTES, MAP_BYTES), "init");
	before = t.ledger.backed_bytes;
	for (uint32_t i = 0; i < n; i++)
		offsets[i] = take();
	figures.books_fresh = books_per_extent(before);
	for (uint32_t i = 0; i < 2; i++)
		run_replaces(n); /* churn, and warm up */
	figures.books_churned = books_per_extent(before);
	figures.pair_ns = median_of("pair:", run_pairs, n);
	figures.replace_ns = median_of("random replace:", run_replaces, n);
	must(!extent_map_check(&t.map, stderr), "check");
	test_map_deinit(&t);
	return figures;
}

static const char *verdict(bool holds)
{
	return holds ? "reached" : "MISSED";
}

int main(void)
{
	struct figures small, large;

	rnd_init(&rnd, rnd_seed_from_env_or_time());
	offsets = malloc(N_LARGE * sizeof(*offsets));
	must(offsets, "malloc");
	small = measure(N_SMALL);
	large = measure(N_LARGE);
	printf("\nAllocating a block and freeing it takes %.0f ns among a thousand blocks (goal: 100 at most): %s\n",
	       small.pair_ns, verdict(small.pair_ns <= 100));
	printf("Among a million blocks the same takes %.0f ns, %.2f times that (goal: 2 at most): %s\n", large.pair_ns,
	       large.pair_ns / small.pair_ns, verdict(large.pair_ns <= 2 * small.pair_ns));
	printf("Replacing a random one of a million blocks takes %.0f ns, most of it spent waiting for memory\n",
	       large.replace_ns);
	printf("The books take %.1f bytes an extent, gaps included, with a million blocks (goal: 64 at most): %s\n",
	       large.books_fresh, verdict(large.books_fresh <= 64));
	printf("After churn, gaps come and go and their records are kept for reuse: %.1f bytes an extent: %s\n",
	       large.books_churned, verdict(large.books_churned <= 64));
	free(offsets);
	return 0;
}
