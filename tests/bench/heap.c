// SPDX-License-Identifier: MIT
/* heap - the fast path alone: alloc and free of one heap, slabs from a grantor in this process; no daemon, no library call */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "tests/lib/lease_world.h"
#include "tests/lib/rnd.h"

#define N_PAIRS 20000000u
#define N_LIVE	1000u
#define N_SLAB	(64u << 10)

static struct lease_world world;
static struct heap heap;

static double now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static uint32_t slots_of(uint32_t size_class)
{
	uint64_t n = N_SLAB / size_class_bytes(size_class);

	return size_class >= SIZE_CLASS_CUT_N ? 1 : n < 8 ? 8 : (uint32_t)n;
}

static uint64_t alloc(uint64_t size)
{
	uint32_t size_class = size_class_of(size);
	uint64_t offset = lease_world_alloc(&world, &heap, size_class, slots_of(size_class));

	if (!offset)
		abort();
	return offset;
}

static void release(uint64_t offset)
{
	if (lease_world_free(&heap, offset))
		abort();
}

static double pair(void)
{
	double begin = now_ns();

	for (uint32_t i = 0; i < N_PAIRS; i++) {
		uint64_t offset = alloc(64);

		__asm__ volatile("" : "+r"(offset));
		release(offset);
	}
	return (now_ns() - begin) / N_PAIRS;
}

static double replace(uint64_t low, uint64_t high)
{
	static uint64_t live[N_LIVE];
	static uint32_t sizes[65536], slots[65536];
	struct rnd rnd;
	double begin;

	rnd_init(&rnd, 1);
	for (uint32_t i = 0; i < 65536; i++) {
		sizes[i] = (uint32_t)(low + rnd_below(&rnd, high - low + 1));
		slots[i] = (uint32_t)rnd_below(&rnd, N_LIVE);
	}
	for (uint32_t i = 0; i < N_LIVE; i++)
		live[i] = alloc(sizes[i]);
	begin = now_ns();
	for (uint32_t i = 0; i < N_PAIRS; i++) {
		uint32_t k = i & 65535;

		release(live[slots[k]]);
		live[slots[k]] = alloc(sizes[k]);
	}
	begin = (now_ns() - begin) / N_PAIRS;
	for (uint32_t i = 0; i < N_LIVE; i++)
		release(live[i]);
	return begin;
}

int main(void)
{
	lease_world_init(&world, UINT64_C(512) << 20, WORLD_SLABS);
	lease_world_open(&world, 1, 1);
	heap_init(&heap, &world.map, 1, world.data_bytes);
	printf("64 B pair                      %6.2f ns\n", pair());
	printf("one of 1000, 16 B to 1 KiB     %6.2f ns\n", replace(16, 1024));
	heap_flush(&heap);
	for (uint32_t i = 0; i < WORLD_SLABS; i++)
		(void)lease_world_recall(&world, i);
	printf("one of 1000, 16 B to 32 KiB    %6.2f ns\n", replace(16, 32 << 10));
	heap_flush(&heap);
	heap_deinit(&heap);
	lease_world_deinit(&world);
	return 0;
}
