#pragma once
// SPDX-License-Identifier: MIT
/*
 * backing - which units of a data segment the kernel holds pages for
 *
 * A unit is a power of two of pages, chosen at create so that the bitmap stays small. Its bit is set *after*
 * posix_fallocate() and cleared *before* PUNCH_HOLE: a kill between leaves "not backed though it is", which costs a
 * second fallocate and nothing else. A range is backed by the one who has taken its extent, and punched under the
 * pool's mutex in short slices: so nobody can be granted what is being punched.
 */
#include <stdint.h>

#include "alloc/ledger.h"
#include "pool/budget.h"

struct backing {
	struct ledger *ledger; /* table BACKED */
	struct budget *budget;
	int fd; /* of the data segment; not owned */
	uint32_t unit_bytes;
	uint64_t segment_bytes; /* present length of the object */
	uint64_t backed_bytes;
};

enum {
	BACKING_E_EXHAUSTED = 1
};

uint32_t backing_unit_bytes(uint64_t segment_bytes_max);
int backing_init(struct backing *backing, struct ledger *ledger, struct budget *budget, int fd, uint32_t unit_bytes,
		 uint64_t segment_bytes) MUST_CHECK;

/** backing_missing() - bytes of [offset, offset + n_bytes), by whole units, that are not backed; stops counting at @enough */
uint64_t backing_missing(const struct backing *backing, uint64_t offset, uint64_t n_bytes, uint64_t enough);

/**
 * backing_ensure() - back [offset, offset + n_bytes)
 * Return: 0; BACKING_E_EXHAUSTED: what was backed on the way stays backed, nothing else changed; -errno.
 */
int backing_ensure(struct backing *backing, uint64_t offset, uint64_t n_bytes) MUST_CHECK;

/**
 * backing_punch() - give back the whole units inside [offset, offset + n_bytes), at most @slice_bytes of them
 * Return: bytes given back.
 */
uint64_t backing_punch(struct backing *backing, uint64_t offset, uint64_t n_bytes, uint64_t slice_bytes);
