// SPDX-License-Identifier: MIT
/* peer_malloc - the loops over malloc(): glibc's, or that of a library in $LD_PRELOAD */
#define PEER_IS_SHARED 0
#include <dlfcn.h>

#include "peers_loops.h"

static bool fills;

static void peer_make(uint64_t bytes, bool fill)
{
	(void)bytes;
	fills = fill;
}

static void peer_join(void)
{
}

static void peer_end(void)
{
}

static inline void *peer_get(uint32_t size)
{
	void *block = malloc(size);

	if (fills && block)
		memset(block, 0xCC, size);
	return block;
}

static inline void peer_put(void *block, uint32_t size)
{
	(void)size;
	free(block);
}

static inline uint64_t peer_token(void *block)
{
	return (uint64_t)(uintptr_t)block;
}

static inline void *peer_block(uint64_t token)
{
	return (void *)(uintptr_t)token; /* NOLINT: it was one */
}

/* ---- cases of its own ---- */

#define N_HEAPS 64

typedef void *heap_new_fn(void);
typedef void *heap_malloc_fn(void *heap, size_t n_bytes);

static double heaps_for(heap_malloc_fn *heap_malloc, void *const heaps[], uint64_t ns)
{
	uint64_t begin = now_ns(), n = 0, end;

	do {
		for (uint32_t i = 0; i < 64 * N_HEAPS; i++) {
			void *block = heap_malloc(heaps[i % N_HEAPS], 64);

			if (!block)
				fail("the allocator found no memory");
			*(volatile uint64_t *)block = i;
			put(block, 64);
		}
		n += 64 * N_HEAPS;
		end = now_ns();
	} while (end - begin < ns);
	return (double)(end - begin) / (double)n;
}

/* What comes nearest to many pools: heaps that a program makes, as mimalloc has them. Return: false: this allocator has none */
static bool heaps_case(double *resultp)
{
	heap_new_fn *heap_new = (heap_new_fn *)dlsym(RTLD_DEFAULT, "mi_heap_new");
	heap_malloc_fn *heap_malloc = (heap_malloc_fn *)dlsym(RTLD_DEFAULT, "mi_heap_malloc");
	void *heaps[N_HEAPS];

	if (!heap_new || !heap_malloc)
		return false;
	for (unsigned i = 0; i < N_HEAPS; i++) {
		heaps[i] = heap_new();
		if (!heaps[i])
			fail("the allocator found no memory");
	}
	(void)heaps_for(heap_malloc, heaps, WARM_NS);
	*resultp = heaps_for(heap_malloc, heaps, MEASURE_NS);
	return true;
}

/* "here": whether the library of $LD_PRELOAD was found. The loader says so on stderr alone, and goes on without. */
static double is_here(void)
{
	const char *library = getenv("LD_PRELOAD");
	FILE *file = fopen("/proc/self/maps", "re");
	char line[512];
	double found = 0;

	if (!file)
		fail("/proc/self/maps cannot be read");
	while (library && !found && fgets(line, sizeof(line), file))
		found = strstr(line, library) != NULL;
	fclose(file);
	return found;
}

static bool peer_case(const char *name, double *resultp)
{
	if (!strcmp(name, "pools-64"))
		return heaps_case(resultp);
	if (strcmp(name, "here"))
		return false;
	*resultp = is_here();
	return true;
}

static uint64_t peer_held_bytes(void)
{
	FILE *file = fopen("/proc/self/statm", "re");
	unsigned long n_all, n_resident;

	if (!file || fscanf(file, "%lu %lu", &n_all, &n_resident) != 2)
		fail("/proc/self/statm cannot be read");
	fclose(file);
	return (uint64_t)n_resident * (uint64_t)sysconf(_SC_PAGESIZE);
}
