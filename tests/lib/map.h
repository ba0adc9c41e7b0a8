#pragma once
// SPDX-License-Identifier: MIT
/* map - an extent map over a ledger of its own, for tests and benchmarks */
#include <assert.h>
#include <sys/mman.h>

#include "alloc/extent.h"

#define MAP_FIRST 4096u

struct test_map {
	struct ledger ledger;
	struct extent_map map;
	struct extent_owner owner;
};

/** test_map_init() - a map of @total_bytes that may grow to @max_bytes. Return: 0, or what a part of it says */
static inline int test_map_init(struct test_map *t, uint64_t total_bytes, uint64_t max_bytes)
{
	struct ledger_shape shape = {0};
	int fd = memfd_create("ledger", MFD_CLOEXEC), r;

	assert(fd >= 0);
	t->owner = (struct extent_owner){.head = EXTENT_NONE};
	extent_map_shape(&shape, max_bytes);
	r = ledger_init(&t->ledger, fd, &shape);
	if (r)
		return r;
	return extent_map_init(&t->map, &t->ledger, MAP_FIRST, total_bytes);
}

static inline void test_map_deinit(struct test_map *t)
{
	ledger_deinit(&t->ledger);
}
