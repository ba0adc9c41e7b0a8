#pragma once
// SPDX-License-Identifier: MIT
/*
 * mapping - a pool's data segment in this process: one mapping for all handles, at a 2 MiB boundary, of its full size to be
 *
 * Its first page is PROT_NONE, so that offset 0 and small ones fault. It stays where it is until the last handle is closed,
 * whatever becomes of pool and daemon.
 */
#include <stdatomic.h>
#include <sys/types.h>

#include "proto/util.h"

struct mapping {
	struct mapping *next;
	uint64_t generation;
	dev_t device; /* which object */
	ino_t inode;
	uint8_t *base;
	uint64_t n_bytes; /* mapped */
	_Atomic uint32_t n_refs;
};

/** mapping_open() - @fd is not consumed. Return: 0, -errno */
int mapping_open(struct mapping **mappingp, int fd, uint64_t n_bytes, uint64_t generation) MUST_CHECK;
void mapping_close(struct mapping *mapping);
/** mapping_forget_all() - in a forked child: the parent's mappings are only closed by their handles, not shared with new ones */
void mapping_forget_all(void);
