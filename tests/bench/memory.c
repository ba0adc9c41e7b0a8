// SPDX-License-Identifier: MIT
/*
 * bench_memory - what blocks take in memory for each byte asked: pages of all objects of a daemon (data, leases, books), with those that
 * an empty pool has before its first block
 */
#include <mempool/mempool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/size_class.h"
#include "tests/lib/daemon.h"
#include "tests/lib/rnd.h"

static struct daemon daemon_here;
static struct mempool_client *client;
static struct mempool_pool *pool;

static void must(bool holds, const char *what)
{
	if (holds)
		return;
	fprintf(stderr, "bench_memory: %s failed: %s\n", what, mempool_last_error());
	daemon_deinit(&daemon_here);
	exit(1);
}

static uint64_t bytes_taken(void)
{
	int64_t n = daemon_held_bytes(daemon_here.instance);

	must(n >= 0, "reading /dev/shm");
	return (uint64_t)n;
}

struct blocks {
	mempool_offset *offsets;
	uint32_t *sizes, n, low, high;
	struct rnd rnd;
	uint64_t asked, rounded; /* bytes of live ones; as large as their classes */
};

static void add(struct blocks *b, uint32_t i)
{
	b->sizes[i] = b->low + (uint32_t)rnd_below(&b->rnd, b->high - b->low + 1);
	b->offsets[i] = mempool_alloc(pool, b->sizes[i]);
	must(b->offsets[i], "alloc");
	b->asked += b->sizes[i];
	b->rounded += size_class_bytes(size_class_of(b->sizes[i]));
}

static void drop(struct blocks *b, uint32_t i)
{
	must(!mempool_free(pool, b->offsets[i]), "free");
	b->offsets[i] = 0;
	b->asked -= b->sizes[i];
	b->rounded -= size_class_bytes(size_class_of(b->sizes[i]));
}

/* Half of them, at random, give way to others of other sizes. */
static void churn(struct blocks *b)
{
	for (uint32_t i = 0; i < b->n; i++)
		if (rnd_below(&b->rnd, 2))
			drop(b, i);
	for (uint32_t i = 0; i < b->n; i++)
		if (!b->offsets[i])
			add(b, i);
}

static void measure(const char *what, uint32_t n, uint32_t low, uint32_t high, unsigned n_churns)
{
	struct blocks b = {.n = n, .low = low, .high = high};
	struct mempool_pool_options options;
	uint64_t before = bytes_taken(), after;
	struct mempool_stats stats;

	mempool_pool_options_init(&options);
	options.fill = MEMPOOL_FILL_NONE;
	must(!mempool_pool_create(client, "memory", 512u << 20, &options, &pool), "create");
	b.offsets = calloc(n, sizeof(*b.offsets));
	b.sizes = calloc(n, sizeof(*b.sizes));
	must(b.offsets && b.sizes, "calloc");
	rnd_init(&b.rnd, 1);
	for (uint32_t i = 0; i < n; i++)
		add(&b, i);
	while (n_churns--)
		churn(&b);
	after = bytes_taken();
	must(!mempool_pool_stats(pool, &stats), "stats");
	printf("%-44s %6.4f (data %.4f, leases and books %.4f; sizes rounded up %.4f, live slots %.4f, leased %.4f)\n",
	       what, (double)(after - before) / (double)b.asked, (double)stats.backed / (double)b.asked,
	       (double)(after - before - stats.backed) / (double)b.asked, (double)b.rounded / (double)b.asked,
	       (double)stats.used / (double)b.asked, (double)(stats.used + stats.leased_idle) / (double)b.asked);
	for (uint32_t i = 0; i < n; i++)
		drop(&b, i);
	mempool_pool_close(pool);
	must(!mempool_pool_destroy(client, "memory", 0), "destroy");
	free(b.offsets);
	free(b.sizes);
}

int main(void)
{
	must(!daemon_init(&daemon_here) && !daemon_start(&daemon_here, NULL), "starting a daemon");
	must(!mempool_connect(&client, daemon_here.socket), "connect");
	measure("1,000,000 of 64 B", 1000000, 64, 64, 0);
	measure("200,000 of 16 B to 1 KiB", 200000, 16, 1024, 0);
	measure("200,000 of 16 B to 1 KiB, half replaced 10 x", 200000, 16, 1024, 10);
	measure("5,000 of 16 B to 64 KiB, half replaced 10 x", 5000, 16, 64 << 10, 10);
	mempool_disconnect(client);
	must(!daemon_stop(&daemon_here), "stopping the daemon");
	daemon_deinit(&daemon_here);
	return 0;
}
