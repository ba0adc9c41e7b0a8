// SPDX-License-Identifier: MIT
/*
 * bench_lease - the daemon's part of leases: a grant, reading a million words, a recall and a sweep, and what a million slots of
 * 64 bytes take in memory for each byte asked
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "pool/pool_internal.h"

#define N_SLOTS 1000000u
#define N_TIMES 20u

static struct pool *pool;
static struct pool_member *member;
static uint32_t heap;

static void must(bool holds, const char *what)
{
	if (holds)
		return;
	fprintf(stderr, "bench_lease: %s failed\n", what);
	exit(1);
}

static uint64_t now(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

static void join(void)
{
	static struct pool_identity who = {.uid = 1000, .pid = 1, .command = "bench"};

	who.session++;
	must(!pool_join(pool, &who, &member), "join");
	must(!pool_open_heap(member, true, &heap), "open heap");
}

/* Slabs for N_SLOTS of 64 bytes. Return: ns a slab */
static double grant(uint32_t n_wanted)
{
	uint32_t ids[POOL_SLABS_MAX], n, n_slabs = 0;
	uint64_t begin = now(), n_slots = 0;

	for (; n_slots < N_SLOTS; n_slabs += n) {
		must(!pool_lease_slabs(member, heap, size_class_of(64), n_wanted, POOL_MAY_BLOCK, ids, &n), "lease");
		for (uint32_t i = 0; i < n; i++)
			n_slots += slab_record(pool, ids[i])->n_slots;
	}
	return (double)(now() - begin) / n_slabs;
}

static void take_all(void)
{
	uint32_t n = 0;

	for (uint32_t id = 0; id < pool->slab_records.n_high; id++)
		for (uint32_t i = 0; i < slab_record(pool, id)->n_slots && n < N_SLOTS; i++, n++)
			lease_word_keep(slot_word(pool, id, i), lease_live_of(heap));
}

/* A step is measured by this thread's own time, too: the processor being taken away is not its fault. */
static void leave(const char *what)
{
	struct pool_warning report = {0};
	uint64_t begin = now(), longest = 0, longest_own = 0, step, own;
	bool more;

	do {
		step = now();
		own = clock_ns(CLOCK_THREAD_CPUTIME_ID);
		more = pool_leave_step(member, &report);
		own = clock_ns(CLOCK_THREAD_CPUTIME_ID) - own;
		step = now() - step;
		longest = step > longest ? step : longest;
		longest_own = own > longest_own ? own : longest_own;
	} while (more);
	printf("%-42s %8.2f ms, longest step %.2f ms (%.2f of its own; bound: 1), %llu blocks\n", what,
	       (double)(now() - begin) / 1e6, (double)longest / 1e6, (double)longest_own / 1e6,
	       (unsigned long long)report.n_blocks);
}

/* As many heaps and answers as one session can have. */
static void crowd(void)
{
	uint64_t sizes[1000], offsets[1000];
	uint32_t n_heaps = 0, number;

	for (unsigned i = 0; i < 1000; i++)
		sizes[i] = 16;
	for (unsigned i = 1; i <= POOL_RESULTS_N; i++) {
		member->call = (struct pool_call){.id = i};
		must(!pool_alloc_batch(member, 1000, sizes, POOL_MAY_BLOCK, offsets), "batch");
	}
	member->call = (struct pool_call){0};
	while (!pool_open_heap(member, false, &number))
		n_heaps++;
	printf("a session with %u heaps and %u answers to batches of 1000\n", n_heaps, POOL_RESULTS_N);
}

int main(void)
{
	const uint64_t limit[QUOTA_KIND_N] = {UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX};
	const struct pool_options options = {.size = 256u << 20, .uid = 1000, .mode = 0600};
	struct quota quota;
	struct budget budget;
	struct pool_env env = {.quota = &quota, .budget = &budget, .decay_ms = UINT64_MAX};
	struct pool_warning warning;
	struct pool_stats stats;
	struct pool_block block;
	char instance[32];
	uint64_t begin, least = UINT64_MAX;

	snprintf(instance, sizeof(instance), "bench-%d", (int)getpid());
	env.instance = instance;
	must(!quota_init(&quota, 0, limit) && !budget_init(&budget, UINT64_MAX), "init");
	must(!pool_new(&pool, &env, 1, &options), "create");
	join();
	printf("%-42s %8.1f us (new pages)\n", "a slab of 64 KiB, one at a time", grant(1) / 1e3);
	take_all();
	for (uint32_t i = 0; i < N_TIMES; i++) {
		begin = now();
		pool_stats(pool, &stats);
		least = now() - begin < least ? now() - begin : least;
	}
	must(stats.allocations == N_SLOTS, "count");
	printf("%-42s %8.2f ms\n", "stats: reading 1e6 words", (double)least / 1e6);
	printf("%-42s %8.4f (data %llu, lease segment %llu, ledger %llu)\n", "memory for each byte of 1e6 x 64",
	       (double)(stats.backed + pool->lease.backed_bytes + pool->ledger.backed_bytes) / (64.0 * N_SLOTS),
	       (unsigned long long)stats.backed, (unsigned long long)pool->lease.backed_bytes,
	       (unsigned long long)pool->ledger.backed_bytes);
	leave("end of a session with 1e6 live slots");
	join();
	printf("%-42s %8.1f us (warm pages)\n", "a slab of 64 KiB, one at a time", grant(1) / 1e3);
	begin = now();
	must(!pool_alloc(member, 250u << 20, 0, POOL_MAY_BLOCK, &block), "alloc after recall");
	printf("%-42s %8.2f ms (with backing what is new)\n", "alloc that recalls 977 empty slabs",
	       (double)(now() - begin) / 1e6);
	must(!pool_free(member, block.offset), "free");
	printf("%-42s %8.1f us (warm pages)\n", "a slab of 64 KiB, sixteen at a time", grant(16) / 1e3);
	leave("end of a session with empty slabs");
	join();
	crowd();
	leave("end of a crowded session");
	must(!pool_destroy(pool, false, &warning), "destroy");
	pool_unref(pool);
	quota_deinit(&quota);
	budget_deinit(&budget);
	return 0;
}
