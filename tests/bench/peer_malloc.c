// SPDX-License-Identifier: MIT
/* peer_malloc - the loops over malloc(): glibc's, or that of a library in $LD_PRELOAD */
#define PEER_IS_SHARED 0
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

/* "here": whether the library of $LD_PRELOAD was found. The loader says so on stderr alone, and goes on without. */
static bool peer_case(const char *name, double *resultp)
{
	const char *library = getenv("LD_PRELOAD");
	FILE *file = fopen("/proc/self/maps", "re");
	char line[512];

	if (!file || strcmp(name, "here"))
		return false;
	for (*resultp = 0; library && !*resultp && fgets(line, sizeof(line), file);)
		*resultp = strstr(line, library) != NULL;
	fclose(file);
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
