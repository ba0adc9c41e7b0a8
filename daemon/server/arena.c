// SPDX-License-Identifier: MIT
/*
 * A bump pointer over one anonymous mapping: pages that no request needed are never touched, so a limit of 1 MiB costs
 * an idle loop one page.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "server/arena.h"

#define ARENA_ALIGNMENT	 16u
#define ARENA_KEEP_BYTES (64u << 10) /* stays resident between requests: simply picked, above what small ones need */

static void *arena_alloc(void *data, size_t n_bytes)
{
	struct arena *arena = data;
	uint64_t n_rounded;
	void *object;

	if (!round_up_checked(n_bytes ? n_bytes : 1, ARENA_ALIGNMENT, &n_rounded) ||
	    n_rounded > arena->n_bytes - arena->n_used || arena->n_objects == arena->n_objects_max) {
		arena->is_exhausted = true;
		return NULL;
	}
	object = arena->memory + arena->n_used;
	arena->n_used += n_rounded;
	arena->n_objects++;
	return memset(object, 0, n_rounded);
}

static void arena_ignore_free(void *data, void *object)
{
	(void)data;
	(void)object;
}

int arena_init(struct arena *arena, size_t n_bytes, uint64_t n_objects_max)
{
	void *memory;

	n_bytes = round_down(n_bytes, ARENA_ALIGNMENT);
	memory = mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		return -ENOMEM;
	*arena = (struct arena){
		.allocator = {.alloc = arena_alloc, .free = arena_ignore_free, .allocator_data = arena},
		.memory = memory,
		.n_bytes = n_bytes,
		.n_objects_max = n_objects_max,
	};
	return 0;
}

void arena_deinit(struct arena *arena)
{
	if (arena->memory)
		munmap(arena->memory, arena->n_bytes);
	arena->memory = NULL;
	arena->n_bytes = arena->n_used = 0;
}

void arena_reset(struct arena *arena)
{
	if (arena->n_used > ARENA_KEEP_BYTES)
		madvise(arena->memory + ARENA_KEEP_BYTES, arena->n_bytes - ARENA_KEEP_BYTES, MADV_DONTNEED);
	arena->n_used = 0;
	arena->n_objects = 0;
	arena->is_exhausted = false;
}
