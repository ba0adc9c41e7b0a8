#pragma once
// SPDX-License-Identifier: MIT
/*
 * backing - which units of a data segment the kernel holds pages for
 *
 * A unit is a power of two of pages, chosen at create so that the bitmap stays small. Its bit is set *after*
 * posix_fallocate() and cleared *before* PUNCH_HOLE: a kill between leaves "not backed though it is", which costs a
 * second fallocate and nothing else. A range is backed by the one who has taken its extent, and punched under the
 * pool's mutex in short slices: so nobody can be granted what is being punched. Two neighbours may back the unit in
 * which they meet at the same time, without the mutex: bits are atomic, and the one who finds his set takes nothing.
 */
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>

#include "alloc/ledger.h"
#include "pool/budget.h"

#define BACKING_FIRST 4096u /* the first page of a segment is nobody's, and never backed */

struct backing {
	struct ledger *ledger; /* table BACKED */
	struct budget *budget;
	int fd; /* of the data segment; not owned */
	uint32_t unit_bytes;
	uint64_t segment_bytes;	       /* present length of the object */
	_Atomic uint64_t backed_bytes; /* what the set bits stand for */
};

enum {
	BACKING_E_EXHAUSTED = 1,
};

/** backing_unit_bytes() - bytes that one bit stands for, so that the bits of @segment_bytes_max are 1 MiB at most */
uint32_t backing_unit_bytes(uint64_t segment_bytes_max);
/** backing_n_words() - elements that table BACKED needs for @segment_bytes */
uint32_t backing_n_words(uint64_t segment_bytes, uint32_t unit_bytes);
/** backing_init() - nothing is backed yet; the table must count backing_n_words() of the most @segment_bytes will be */
int backing_init(struct backing *backing, struct ledger *ledger, struct budget *budget, int fd, uint32_t unit_bytes,
		 uint64_t segment_bytes) MUST_CHECK;

/**
 * backing_recover() - as backing_init(), but what the bits say is backed already
 * @fd: -1: the object is not looked at, and nothing can be backed
 * Mends what a kill or a client left: the object has the length that the books say, bits beyond it are those of a growth that
 * did not happen and are cleared, pages that are gone are there again (reading zero), pages that no bit stands for are given
 * back.
 * Return: 0; BACKING_E_EXHAUSTED: the budget or the kernel has no pages for what is gone; -errno
 */
int backing_recover(struct backing *backing, struct ledger *ledger, struct budget *budget, int fd, uint32_t unit_bytes,
		    uint64_t segment_bytes) MUST_CHECK;

/** backing_missing() - bytes of [offset, offset + n_bytes), by whole units, that are not backed; stops counting at @enough */
uint64_t backing_missing(const struct backing *backing, uint64_t offset, uint64_t n_bytes, uint64_t enough);

/** backing_first_missing() - the lowest offset in [offset, offset + n_bytes) that is not backed; its end if all is */
uint64_t backing_first_missing(const struct backing *backing, uint64_t offset, uint64_t n_bytes);
/** backing_has_whole() - whether backing_punch() of the range would find anything */
bool backing_has_whole(const struct backing *backing, uint64_t offset, uint64_t n_bytes);

/**
 * backing_ensure() - back [offset, offset + n_bytes)
 * Return: 0; BACKING_E_EXHAUSTED: what was backed on the way stays backed, nothing else changed; -errno.
 */
int backing_ensure(struct backing *backing, uint64_t offset, uint64_t n_bytes) MUST_CHECK;

/**
 * backing_grow() - the object has @segment_bytes now; no less than before
 * The last unit, if it was cut short by the old end and is backed, is backed to its new end.
 * Return: as backing_ensure(); on failure nothing changed.
 */
int backing_grow(struct backing *backing, uint64_t segment_bytes) MUST_CHECK;

/** backing_check() - whether backed_bytes is what the bits say. Return: faults, each a line to @report unless NULL */
unsigned backing_check(const struct backing *backing, FILE *report);

/**
 * backing_punch() - give back the whole units inside [offset, offset + n_bytes), at most @slice_bytes of them
 * Return: bytes given back.
 */
uint64_t backing_punch(struct backing *backing, uint64_t offset, uint64_t n_bytes, uint64_t slice_bytes);
