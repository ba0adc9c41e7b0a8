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
	uint64_t n_bytes;	  /* mapped */
	_Atomic uint64_t n_known; /* of these, so many are known to be the pool's by now; only grows */
	_Atomic uint32_t n_refs;
};

/** mapping_open() - @fd is not consumed. Return: 0, -errno */
int mapping_open(struct mapping **mappingp, int fd, uint64_t n_bytes, uint64_t generation) MUST_CHECK;
void mapping_close(struct mapping *mapping);

/** mapping_know() - the pool reaches to @end at least, as the daemon said */
static inline void mapping_know(struct mapping *mapping, uint64_t end)
{
	uint64_t known = atomic_load_explicit(&mapping->n_known, memory_order_relaxed);

	while (known < end && !atomic_compare_exchange_weak_explicit(&mapping->n_known, &known, end,
								     memory_order_relaxed, memory_order_relaxed))
		;
}

/**
 * mapping_touch() - [offset, offset + n_bytes) is backed and about to be written: have its pages in the process's tables by one call
 * instead of a fault for each. What it cannot do, the faults do
 */
void mapping_touch(const uint8_t *base, uint64_t n_mapped, uint64_t offset, uint64_t n_bytes);
/** mapping_forget_all() - in a forked child: the parent's mappings are only closed by their handles, not shared with new ones */
void mapping_forget_all(void);
