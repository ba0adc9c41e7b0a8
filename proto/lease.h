#pragma once
// SPDX-License-Identifier: MIT
/*
 * lease - the lease segment: one object a pool, which clients map read-write and the daemon never trusts
 *
 * Knows where a word is and what its values mean; not what is done with it.
 *
 *   header   one page; where everything else is
 *   heaps    struct lease_heap [n_heaps], by heap number: whose it is
 *   pages    one word for each page of the data segment: the slab that it lies in
 *   slabs    struct lease_slab [n_slabs], by slab id: base, slot size, where its words are
 *   words    one 16-bit word for each slot of each slab: whose the slot is; it alone is the truth
 *
 * What a slab is, the ledger says; heaps, pages and slabs hold a copy for clients, which only the daemon writes, but for the
 * fields marked "clients". Everything that a client reads here it bounds by its own mapping; whatever the daemon reads here is one
 * copy, then judged.
 *
 * Pages of this object are backed before anything leads to them: the header, the prefix of `pages` that header.n_pages
 * counts, a heap's page before its number is given out, a slab's descriptor and words before it is granted. A client touches
 * nothing else, so it never faults for lack of memory.
 *
 * A word, k being a heap number, 1 .. LEASE_HEAPS_MAX - 1:
 *
 *   value      means                                  may be changed by, and to
 *   C(0)       free, in its slab                      who has custody of the slab: to C(k)
 *   C(k)       free, in heap k's magazine             k, plain store: to L(k) on alloc, to C(0) on flush
 *   L(k)       live, owned by k's session             k, plain store: to C(k) on free; heap j, one CAS: to C(j) on free, to L(j) on take;
 *                                                     the daemon, CAS: to C(0) on a free by request and at k's death, to P, to Q
 *   P          live, with a record in the ledger      the daemon
 *   Q          live, the pool's, without a record     the daemon
 *   0          damage: never written                  nobody
 *
 * In classes above SIZE_CLASS_CUT_MAX all changes are CAS, so that the daemon may take C(k) of a stopped process to C(0).
 *
 * Custody of a slab, one word: LEASE_IDLE, or heap k's, or LEASE_DAEMON's. Taken by one CAS from LEASE_IDLE (acquire), by any heap; let
 * go by a store (release). Whoever has taken it reads class and base again: the id may have come back with another shape.
 * A busy slab is passed over, never waited for. Custody of a dead heap is broken by the daemon at its end.
 *
 * Orders: custody acquire on taking, release on letting go; a word is stored to C(0) with release and read with acquire by who
 * refills; a foreign CAS is acq_rel; an owner's alloc and free are relaxed, for offsets travel by release and acquire of the
 * program's own. Never memset or copy words wider than one at a time while others may use them.
 */
#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/size_class.h"

#define LEASE_MAGIC	 UINT64_C(0x736573616c6d656d) /* "memlases", little-endian */
#define LEASE_VERSION	 2u
#define LEASE_PAGE_BYTES 4096u
#define LEASE_FIRST	 4096u	 /* offset in the data segment that pages[0] stands for */
#define LEASE_HEAPS_MAX	 0x7ff0u /* numbers 1 .. 0x7fef; 0 is nobody */
#define LEASE_SLABS_MAX	 (UINT32_C(1) << 20)
#define LEASE_WORDS_STEP 32u /* a slab's words begin at a multiple: a cache line of its own */

/* ---- words ---- */

#define LEASE_CACHED ((uint16_t)0x8000)
#define LEASE_FREE   LEASE_CACHED	/* C(0) */
#define LEASE_PINNED ((uint16_t)0x7ff1) /* P */
#define LEASE_POOLS  ((uint16_t)0x7ff2) /* Q */

static inline uint16_t lease_cached_by(uint32_t heap)
{
	return (uint16_t)(LEASE_CACHED | heap);
}

static inline uint16_t lease_live_of(uint32_t heap)
{
	return (uint16_t)heap;
}

/** lease_heap_of() - k of C(k) and L(k); 0 of all else */
static inline uint32_t lease_heap_of(uint16_t word)
{
	uint32_t heap = word & 0x7fffu;

	return heap < LEASE_HEAPS_MAX ? heap : 0;
}

static inline bool lease_is_cached(uint16_t word) /* C(0) or C(k) */
{
	return (word & LEASE_CACHED) && (word & 0x7fffu) < LEASE_HEAPS_MAX;
}

static inline bool lease_is_live(uint16_t word) /* L(k), P or Q */
{
	return (word && word < LEASE_HEAPS_MAX) || word == LEASE_PINNED || word == LEASE_POOLS;
}

/* ---- custody ---- */

#define LEASE_IDLE   UINT32_C(0)
#define LEASE_DAEMON UINT32_MAX

/* ---- the segment ---- */

enum {			     /* header.flags; they are only ever set */
	LEASE_DESTROYED = 1, /* the pool is: no refill, no flush */
	LEASE_DAMAGED = 2,   /* words say what cannot be */
};

struct lease_header {
	uint64_t magic;
	uint32_t version;
	uint32_t header_bytes;
	uint64_t file_bytes; /* length of the object; a client maps all of it */
	uint64_t first;	     /* LEASE_FIRST */
	uint64_t heaps_at;   /* bytes from the start of the object, as are the next three */
	uint64_t pages_at;
	uint64_t slabs_at;
	uint64_t words_at;
	uint32_t n_heaps;	  /* there is room for */
	uint32_t n_slabs;	  /* likewise */
	uint64_t n_words;	  /* likewise */
	_Atomic uint64_t n_pages; /* pages whose entries are backed: a prefix. Only rises */
	_Atomic uint32_t flags;
	_Atomic uint32_t
		pressure; /* raised when memory was short: heaps that see another value than last time flush what they can */
};

struct lease_heap {
	_Atomic uint64_t session; /* whose heap it is; 0: nobody's. Read by take */
	_Atomic uint64_t n_free; /* clients: blocks that the heap freed since its number was given out, by plain store */
	_Atomic uint32_t
		n_returned; /* clients: raised by whoever flushed slots into slabs that this heap was granted: worth a new look */
	_Atomic uint32_t
		is_foreign; /* clients: not 0 from before the heap reads another's number until it is done with it */
	uint32_t reserved[10];
};

struct lease_slab {
	uint64_t base;	     /* offset of the first slot in the data segment */
	uint64_t reciprocal; /* ceil(2^64 / slot_bytes) */
	union {
		struct {
			uint32_t first_word; /* index of slot 0's word */
			uint16_t n_slots;
			uint16_t size_class;
		};
		uint64_t shape; /* these three by one load */
	};
	uint32_t slot_bytes;	  /* 0: not a slab at present */
	uint32_t grantee;	  /* heap that it was last granted to; 0: none: an orphan */
	_Atomic uint32_t custody; /* clients */
	_Atomic uint32_t
		has_free; /* clients: a hint: not 0 when slots were flushed to it since somebody last found none */
	uint32_t reserved[6];
};

static_assert(sizeof(struct lease_heap) == 64 && sizeof(struct lease_slab) == 64, "shared layout");
static_assert(sizeof(struct lease_header) <= LEASE_PAGE_BYTES, "shared layout");

/* An entry of `pages`: slab id + 1, or 0: the page is in no slab. Slabs begin and end at page boundaries. */

/** lease_shape_…() - parts of a slab's shape */
static inline uint32_t lease_shape_word(uint64_t shape)
{
	return (uint32_t)shape;
}

static inline uint32_t lease_shape_slots(uint64_t shape)
{
	return (uint16_t)(shape >> 32);
}

static inline uint32_t lease_shape_class(uint64_t shape)
{
	return (uint32_t)(shape >> 48);
}

static inline uint64_t lease_reciprocal_of(uint32_t slot_bytes)
{
	return UINT64_MAX / slot_bytes + 1;
}

/**
 * lease_slot_at() - which slot of a slab starts @distance bytes behind its base. Return: false: none does
 *
 * With r the reciprocal and r * slot_bytes = 2^64 + e, 0 <= e < slot_bytes: distance * r = slot * 2^64 + slot * e + rest * r. While
 * (slot + 1) * e < r, the low half is below r for a rest of 0 and for no other: that holds for slabs of up to 2^32 bytes of slots
 * up to 4 MiB. The high half never falls while the distance rises: what lies beyond the slab, or before it, has none of its slots.
 */
static inline bool lease_slot_at(uint64_t distance, uint64_t reciprocal, uint32_t n_slots, uint32_t *slotp)
{
	unsigned __int128 product = (unsigned __int128)distance * reciprocal;
	uint64_t slot = (uint64_t)(product >> 64);

	*slotp = (uint32_t)slot;
	return (uint64_t)product < reciprocal && slot < n_slots;
}
