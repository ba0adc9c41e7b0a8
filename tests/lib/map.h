#pragma once
// SPDX-License-Identifier: MIT
/* map - an extent map over a ledger of its own, for tests and benchmarks */
#include <assert.h>
#include <sys/mman.h>
#include <unistd.h>

#include "alloc/extent.h"
#include "alloc/intent.h"

#define MAP_FIRST 4096u

struct test_map {
	struct ledger ledger;
	struct extent_map map;
	struct extent_owner owner;
};

/** test_map_init_shaped() - books of any @shape, from any @first_offset. Return: 0, or what a part of it says: then nothing is left */
static inline int test_map_init_shaped(struct test_map *t, uint64_t first_offset, uint64_t total_bytes,
				       const struct ledger_shape *shape)
{
	int fd = memfd_create("ledger", MFD_CLOEXEC), r;

	assert(fd >= 0);
	t->owner = (struct extent_owner){.head = EXTENT_NONE};
	r = ledger_init(&t->ledger, fd, shape);
	if (r) {
		close(fd);
		return r;
	}
	r = extent_map_init(&t->map, &t->ledger, first_offset, total_bytes);
	if (r)
		ledger_deinit(&t->ledger);
	return r;
}

static inline int test_map_init_at(struct test_map *t, uint64_t first_offset, uint64_t total_bytes, uint64_t max_bytes)
{
	struct ledger_shape shape = {0};

	extent_map_shape(&shape, max_bytes);
	return test_map_init_shaped(t, first_offset, total_bytes, &shape);
}

/** test_map_init() - a map of @total_bytes that may grow to @max_bytes. Return: as test_map_init_shaped() */
static inline int test_map_init(struct test_map *t, uint64_t total_bytes, uint64_t max_bytes)
{
	return test_map_init_at(t, MAP_FIRST, total_bytes, max_bytes);
}

static inline void test_map_deinit(struct test_map *t)
{
	ledger_deinit(&t->ledger);
}
