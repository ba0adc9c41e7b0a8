#pragma once
// SPDX-License-Identifier: MIT
/* extent_world - an extent map on a ledger of its own, as tests and benchmarks of the engine need it */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "alloc/extent.h"

struct extent_world {
	struct ledger ledger;
	struct extent_map map;
};

/** extent_world_init_shaped() - of a @shape other than what the size needs. Return: 0; -errno: there is nothing to deinit */
static inline int extent_world_init_shaped(struct extent_world *world, uint64_t first_offset, uint64_t total_bytes,
					   const struct ledger_shape *shape)
{
	int fd = memfd_create("extent_world", MFD_CLOEXEC), r;

	if (fd < 0)
		return -1;
	memset(world, 0xff, sizeof(*world));
	r = ledger_init(&world->ledger, fd, shape);
	if (r) {
		close(fd);
		return r;
	}
	r = extent_map_init(&world->map, &world->ledger, first_offset, total_bytes);
	if (r)
		ledger_deinit(&world->ledger);
	return r;
}

/** extent_world_init() - with books for @max_bytes */
static inline int extent_world_init(struct extent_world *world, uint64_t first_offset, uint64_t total_bytes,
				    uint64_t max_bytes)
{
	struct ledger_shape shape = {0};

	extent_map_shape(&shape, max_bytes);
	return extent_world_init_shaped(world, first_offset, total_bytes, &shape);
}

static inline void extent_world_deinit(struct extent_world *world)
{
	ledger_deinit(&world->ledger);
}
