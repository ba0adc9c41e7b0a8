// SPDX-License-Identifier: MIT
/* heap - the fast path alone: alloc and free of one heap, slabs from a grantor in this process; no daemon, no library call */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "tests/lib/grantor.h"
#include "tests/lib/rnd.h"

#define N_CHUNKS 20000u
#define CHUNK	 256u /* pairs timed together */
#define N_LIVE	 1000u
#define N_SLAB	 (64u << 10)

static struct grantor grantor;
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
	uint64_t offset = grantor_alloc(&grantor, &heap, size_class, slots_of(size_class));

	if (!offset)
		abort();
	return offset;
}

static void release(uint64_t offset)
{
	if (grantor_free(&heap, offset))
		abort();
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* A busy machine makes some chunks long: the lower quartile is what the code costs. */
static double quartile(double *chunks)
{
	qsort(chunks, N_CHUNKS, sizeof(*chunks), compare);
	return chunks[N_CHUNKS / 4] / CHUNK;
}

static double chunks[N_CHUNKS];

static double pair(void)
{
	for (uint32_t i = 0; i < N_CHUNKS; i++) {
		double begin = now_ns();

		for (uint32_t j = 0; j < CHUNK; j++) {
			uint64_t offset = alloc(64);

			__asm__ volatile("" : "+r"(offset));
			release(offset);
		}
		chunks[i] = now_ns() - begin;
	}
	return quartile(chunks);
}

static double replace(uint64_t low, uint64_t high)
{
	static uint64_t live[N_LIVE];
	static uint32_t sizes[65536], slots[65536];
	struct rnd rnd;

	rnd_init(&rnd, 1);
	for (uint32_t i = 0; i < 65536; i++) {
		sizes[i] = (uint32_t)(low + rnd_below(&rnd, high - low + 1));
		slots[i] = (uint32_t)rnd_below(&rnd, N_LIVE);
	}
	for (uint32_t i = 0; i < N_LIVE; i++)
		live[i] = alloc(sizes[i]);
	for (uint32_t i = 0, k = 0; i < N_CHUNKS; i++) {
		double begin = now_ns();

		for (uint32_t j = 0; j < CHUNK; j++, k = (k + 1) & 65535) {
			release(live[slots[k]]);
			live[slots[k]] = alloc(sizes[k]);
		}
		chunks[i] = now_ns() - begin;
	}
	for (uint32_t i = 0; i < N_LIVE; i++)
		release(live[i]);
	return quartile(chunks);
}

int main(void)
{
	grantor_init(&grantor, UINT64_C(512) << 20, GRANTOR_SLABS);
	grantor_open(&grantor, 1, 1);
	heap_init(&heap, &grantor.map, 1, grantor.data_bytes);
	printf("64 B pair                      %6.2f ns\n", pair());
	printf("one of 1000, 16 B to 1 KiB     %6.2f ns\n", replace(16, 1024));
	heap_flush(&heap);
	for (uint32_t i = 0; i < GRANTOR_SLABS; i++)
		(void)grantor_recall(&grantor, i);
	printf("one of 1000, 16 B to 64 KiB    %6.2f ns\n", replace(16, 64 << 10));
	heap_flush(&heap);
	heap_deinit(&heap);
	grantor_deinit(&grantor);
	return 0;
}
