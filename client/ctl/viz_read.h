#pragma once
// SPDX-License-Identifier: MIT
/* viz_read - a pool's map from what the library lists as JSON, extent by extent: a million of them need no memory */
#include "ctl/viz_map.h"
#include "mempool/mempool.h"

/** viz_read() - all extents of @pool into @map, settled. Return: 0; the library's negative errno; -ENOMEM; -EPROTO: no such list */
int viz_read(struct mempool_pool *pool, struct viz_map *map) MUST_CHECK;
