#pragma once
// SPDX-License-Identifier: MIT
/*
 * extent - the extent map: which range of a pool's data segment is a gap, and which is whose
 *
 * Knows offsets, sizes, owners as numbers, and the ledger's tables; not names, sessions, segments or sockets.
 *
 * Source: two-level segregated fit (Masmano, Ripoll, Crespo, Real: TLSF, ECRTS 2004) over nodes kept out of band and
 * named by index. Size classes of 1/32 of a power of two; *inside* a class the gaps form a bitwise trie on their size
 * (Lea's malloc, "treebins"), so that the smallest gap that fits is found in a bounded number of steps, whatever a
 * client has done to the map: good fit becomes best fit, and an alloc of the largest gap's size always succeeds.
 * Offset -> extent by linear hashing (Litwin 1980), which grows by one bucket at a time and so never stops to rehash.
 *
 * Threads: none of its own; the caller holds the pool's mutex around every call.
 */
#include <stdio.h>

#include "alloc/ledger.h"

#define EXTENT_GRANULE	 16u
#define EXTENT_NONE	 UINT32_MAX	     /* no extent */
#define EXTENT_BYTES_MAX (UINT64_C(1) << 47) /* a user address space on x86-64 */

enum extent_state {
	EXTENT_UNUSED = 0, /* an index without an extent */
	EXTENT_GAP,
	EXTENT_TAKEN,  /* allocated, but not yet anybody's: its pages are being backed. Nobody can name it */
	EXTENT_LIVE,   /* a block */
	EXTENT_LEASED, /* a slab */
	EXTENT_PINNED, /* one slot of a slab, a block with a record of its own: in no address order, for its slab is */
	EXTENT_STATE_N,
};

enum {			  /* flags of a live extent */
	EXTENT_HELD = 1,  /* has retains: look in the holds */
	EXTENT_NAMED = 2, /* has a name: look in the names */
};

/* Owners are numbers that the pool gives meaning to. */
#define EXTENT_OWNER_NONE UINT32_MAX

/*
 * The truth about one extent: four words, so that an intent can carry them whole and redo may repeat their stores.
 * Only daemon/alloc/extent.c stores to them. Of a gap, only offset, size and since count, and they are derived.
 */
struct extent_record {
	_Atomic uint64_t where;	 /* bits 0-47 offset, bytes; 48-63 slack: bytes of the extent that were not asked for */
	_Atomic uint64_t what;	 /* bits 0-47 size, bytes; 48-55 state; 56-63 flags */
	_Atomic uint64_t origin; /* id of the session that allocated it */
	_Atomic uint64_t whose;	 /* bits 0-31 owner; 32-63 since, seconds since 1970 */
};

/* Derived: where the extent hangs. Address order is a doubly linked list over all extents, gaps included. */
struct extent_links {
	uint32_t prev, next; /* neighbours by address */
	union {
		struct {
			uint32_t owner_prev, owner_next; /* blocks of one owner, newest first */
			uint32_t hash_next;
			uint32_t first_hold; /* the pool's; counts only with EXTENT_HELD */
			uint32_t name;	     /* the pool's; counts only with EXTENT_NAMED */
		};
		struct {
			uint32_t same_prev, same_next; /* ring of gaps of one size */
			uint32_t parent, child[2];     /* trie of the class; parent: NONE if only in a ring */
		};
		uint32_t unused_next;
	};
};

enum {
	EXTENT_E_EXHAUSTED = 1, /* no gap is large enough */
	EXTENT_E_NONE = 2,	/* no block starts there */
	EXTENT_E_NO_ROOM = 3,	/* cannot grow in place */
	EXTENT_E_DAMAGED = 4,	/* records say what cannot be */
};

/* Most extents of one pool, so that its books can be mapped in one piece; simply picked. */
#define EXTENT_N_MAX (UINT32_C(1) << 28)

/* Gaps that an aligned request tries one by one, smallest first, when none is large enough wherever it starts; simply picked. */
#define EXTENT_N_ALIGNED_TRIES 1024u

#define EXTENT_FL_N 43
#define EXTENT_SL_N 32

struct extent_owner {  /* one list of blocks; the array belongs to the caller of extent_map_init() */
	uint32_t head; /* EXTENT_NONE = no block */
	uint32_t reserved;
	uint64_t n_blocks;
	uint64_t n_bytes;
};

struct extent_map {
	struct ledger *ledger; /* not owned */
	uint64_t first_offset; /* of the first byte that may be handed out */
	uint64_t total_bytes;  /* multiple of the granule */
	uint32_t head;	       /* lowest extent */
	uint32_t tail;	       /* highest extent */
	uint32_t unused;       /* chain of indexes without an extent */
	uint32_t n_high;       /* indexes ever used */
	uint32_t n_unused;     /* indexes in that chain */
	uint32_t n_taken;      /* extents in state TAKEN */
	uint32_t n_leased;     /* extents in state LEASED */
	uint32_t n_pinned;     /* extents in state PINNED */
	uint32_t n_hashed;     /* live and pinned extents in the hash */
	uint32_t n_buckets;
	uint64_t free_bytes;
	uint64_t leased_bytes;	  /* of LEASED extents */
	uint64_t requested_bytes; /* of LIVE and TAKEN ones */
	uint64_t n_live;
	uint64_t n_gaps;
	uint64_t fl_bits;
	uint32_t sl_bits[EXTENT_FL_N];
	uint32_t class_root[EXTENT_FL_N][EXTENT_SL_N]; /* trie of gaps; EXTENT_NONE = empty */
};

/* ---- accessors ---- */

static inline struct extent_record *extent_record(const struct extent_map *map, uint32_t extent)
{
	return (struct extent_record *)map->ledger->tables[LEDGER_EXTENTS].base + extent;
}

static inline struct extent_links *extent_links(const struct extent_map *map, uint32_t extent)
{
	return (struct extent_links *)map->ledger->tables[LEDGER_LINKS].base + extent;
}

#define EXTENT_LOW48 ((UINT64_C(1) << 48) - 1)

static inline uint64_t extent_word(const _Atomic uint64_t *word)
{
	return atomic_load_explicit(word, memory_order_relaxed); /* the pool's mutex orders threads */
}

static inline uint64_t extent_offset(const struct extent_map *map, uint32_t extent)
{
	return extent_word(&extent_record(map, extent)->where) & EXTENT_LOW48;
}

static inline uint32_t extent_slack(const struct extent_map *map, uint32_t extent)
{
	return (uint32_t)(extent_word(&extent_record(map, extent)->where) >> 48);
}

static inline uint64_t extent_size(const struct extent_map *map, uint32_t extent)
{
	return extent_word(&extent_record(map, extent)->what) & EXTENT_LOW48;
}

static inline enum extent_state extent_state(const struct extent_map *map, uint32_t extent)
{
	return (enum extent_state)(extent_word(&extent_record(map, extent)->what) >> 48 & 0xff);
}

/** extent_is_block() - LIVE, or a PINNED slot: it has flags, holds, a name */
static inline bool extent_is_block(const struct extent_map *map, uint32_t extent)
{
	enum extent_state state = extent_state(map, extent);

	return state == EXTENT_LIVE || state == EXTENT_PINNED;
}

static inline unsigned extent_flags(const struct extent_map *map, uint32_t extent)
{
	return (unsigned)(extent_word(&extent_record(map, extent)->what) >> 56);
}

static inline uint64_t extent_origin(const struct extent_map *map, uint32_t extent)
{
	return extent_word(&extent_record(map, extent)->origin);
}

static inline uint32_t extent_owner(const struct extent_map *map, uint32_t extent)
{
	return (uint32_t)extent_word(&extent_record(map, extent)->whose);
}

/** extent_since() - seconds since 1970, low 32 bits: when it was allocated; of a gap: when it last grew */
static inline uint32_t extent_since(const struct extent_map *map, uint32_t extent)
{
	return (uint32_t)(extent_word(&extent_record(map, extent)->whose) >> 32);
}

/* ---- the map ---- */

/**
 * extent_map_init() - a map that is one gap of @total_bytes from @first_offset on
 * @ledger:       with the tables EXTENTS, LINKS and BUCKETS, empty; must outlive the map
 * @first_offset: multiple of the granule
 * @total_bytes:  multiple of the granule, at least one; first_offset + total_bytes <= EXTENT_BYTES_MAX
 * Return: 0; -ENOSPC no backing for the first records.
 */
int extent_map_init(struct extent_map *map, struct ledger *ledger, uint64_t first_offset, uint64_t total_bytes)
	MUST_CHECK;

/**
 * extent_map_recover() - the map of a ledger that ledger_open() opened: everything derived is built again from the records that are truth
 * @since_s: of all gaps, seconds since 1970
 * @visit:   called once for each block and slab, longest standing first, so that it can extent_map_hang() it on its owner's list and
 *           judge owner and origin; not 0: give up
 * @why:     out, [n_why]: what is wrong, with EXTENT_E_DAMAGED
 *
 * Changes only what is derived, but for the flags of blocks: they are cleared, and to be set again with the holds and names.
 * O(n). Return: 0; EXTENT_E_DAMAGED: overlap, out of bounds, or a record that cannot be; -ENOMEM; -ENOSPC; what @visit said.
 */
int extent_map_recover(struct extent_map *map, struct ledger *ledger, uint64_t first_offset, uint64_t total_bytes,
		       uint32_t since_s, int (*visit)(void *arg, uint32_t extent), void *arg, char *why, size_t n_why)
	MUST_CHECK;

/** extent_map_hang() - put a block or slab on its owner's list, as the newest; for extent_map_recover()'s visitor */
void extent_map_hang(struct extent_map *map, uint32_t extent, struct extent_owner *ownerp);

/** extent_map_shape() - the most elements of EXTENTS, LINKS and BUCKETS that a pool of @max_bytes can need, and their size */
void extent_map_shape(struct ledger_shape *shape, uint64_t max_bytes);

/**
 * extent_map_take() - take the smallest gap that fits, or the part of it that is needed
 * @size:      bytes, multiple of the granule, at least one
 * @alignment: power of two, granule to 2 MiB
 * @bias:      (offset + bias) is a multiple of @alignment; multiple of the granule, so that a guard may stand before a block
 * @slack:     bytes of @size that were not asked for; < 65536
 * @origin:    session id, for the record
 * @now_s:     seconds since 1970
 * @extentp:   out: the extent, in state TAKEN, without an owner and in no hash
 *
 * All ledger space that a later give of it can need is reserved here, so that giving back never fails.
 * Alignments above the granule: exact while no more than EXTENT_N_ALIGNED_TRIES gaps are of @size or more. Beyond that, a
 * gap smaller than size + alignment may be overlooked; one that is larger never.
 * Return: 0; EXTENT_E_EXHAUSTED; -ENOSPC the ledger cannot grow. On failure nothing has changed.
 */
int extent_map_take(struct extent_map *map, uint64_t size, uint64_t alignment, uint64_t bias, uint32_t slack,
		    uint64_t origin, uint32_t now_s, uint32_t *extentp) MUST_CHECK;

/** extent_map_take_low() - the same at the low end of the gap, however large: for slabs, which are better off side by side */
int extent_map_take_low(struct extent_map *map, uint64_t size, uint64_t alignment, uint64_t origin, uint32_t now_s,
			uint32_t *extentp) MUST_CHECK;

/** extent_map_lease() - a TAKEN extent becomes LEASED, charged to owner number @owner and hung on its list of slabs @ownerp */
void extent_map_lease(struct extent_map *map, uint32_t extent, uint32_t owner, struct extent_owner *ownerp);

/**
 * extent_map_pin() - a record for one slot: [offset, offset + size), inside a LEASED extent and without a record so far
 * Found, owned and given back as any block; giving it back leaves its slab alone.
 * Return: 0; -ENOSPC the ledger cannot grow: nothing changed.
 */
int extent_map_pin(struct extent_map *map, uint64_t offset, uint64_t size, uint64_t origin, uint32_t owner,
		   struct extent_owner *ownerp, uint32_t now_s, uint32_t *extentp) MUST_CHECK;

/** extent_map_publish() - a TAKEN extent becomes LIVE, owned by owner number @owner and hung on its list @ownerp */
void extent_map_publish(struct extent_map *map, uint32_t extent, uint32_t owner, struct extent_owner *ownerp);

/**
 * extent_map_own() - hand a LIVE, LEASED or PINNED extent over: unhang it from @fromp, hang it on @top (either may be NULL: no list)
 * @owner: the new owner's number; EXTENT_OWNER_NONE: nobody's, only held
 */
void extent_map_own(struct extent_map *map, uint32_t extent, struct extent_owner *fromp, uint32_t owner,
		    struct extent_owner *top);

/**
 * extent_map_give() - a TAKEN, LIVE or LEASED extent becomes a gap and merges with free neighbours at once
 * @ownerp: list it hangs on, or NULL
 * Cannot fail and needs no space. Return: the gap that it is part of now; of a PINNED one EXTENT_NONE: it leaves none.
 */
uint32_t extent_map_give(struct extent_map *map, uint32_t extent, struct extent_owner *ownerp, uint32_t now_s);

/** extent_map_find() - the LIVE extent that starts at @offset. Return: 0; EXTENT_E_NONE. O(1). */
int extent_map_find(const struct extent_map *map, uint64_t offset, uint32_t *extentp) MUST_CHECK;

/**
 * extent_map_resize() - change a LIVE extent's size without moving it
 * @size, @slack: as for extent_map_take()
 * @ownerp:       list it hangs on, or NULL: its bytes are kept in step
 * A shrink gives the tail back; a growth takes it from the gap behind. The caller backs the new part *before* it calls:
 * extent_map_room_behind() tells how far that gap reaches.
 * Return: 0; EXTENT_E_NO_ROOM; -ENOSPC the ledger cannot grow (a shrink then stays as it was). On failure nothing changed.
 */
int extent_map_resize(struct extent_map *map, uint32_t extent, uint64_t size, uint32_t slack,
		      struct extent_owner *ownerp, uint32_t now_s) MUST_CHECK;

/** extent_map_room_behind() - bytes of the gap right behind an extent; 0 = none */
uint64_t extent_map_room_behind(const struct extent_map *map, uint32_t extent);

/** extent_map_grow() - add @n_bytes at the end (merged with a last gap). Return: 0; -ENOSPC. */
int extent_map_grow(struct extent_map *map, uint64_t n_bytes, uint32_t now_s) MUST_CHECK;

/** extent_map_set_flags() - sets the flags of a LIVE or PINNED extent to @flags */
void extent_map_set_flags(struct extent_map *map, uint32_t extent, unsigned flags);

/** extent_map_largest_gap() - its bytes; 0 when nothing is free. Bounded number of steps. */
uint64_t extent_map_largest_gap(const struct extent_map *map);

/**
 * extent_map_largest_gaps() - the largest gaps, largest first
 * @extents: out: [n_max]
 * Return: how many were stored; O(n_max), whatever the map looks like.
 */
uint32_t extent_map_largest_gaps(const struct extent_map *map, uint32_t extents[], uint32_t n_max);

/**
 * extent_map_at() - the extent, gap or not, that contains @offset
 * @hint: an index that was right lately, or EXTENT_NONE; any number at all is safe
 *
 * O(1) with a good hint, else a walk from the nearest end. Return: the index; EXTENT_NONE if @offset is outside the map.
 */
uint32_t extent_map_at(const struct extent_map *map, uint64_t offset, uint32_t hint);

/** extent_map_next() - the neighbour above; EXTENT_NONE at the end */
static inline uint32_t extent_map_next(const struct extent_map *map, uint32_t extent)
{
	return extent_links(map, extent)->next;
}

/**
 * extent_map_check() - verify every invariant: extents tile the pool, no two gaps touch, each gap is in its class's trie and
 * bitmaps, each live extent is found by its offset, counters are right
 * @report: a line a fault, unless NULL
 * Return: number of faults. O(n); for tests and the check request.
 */
unsigned extent_map_check(const struct extent_map *map, FILE *report);

/** extent_map_dump() - one line an extent, for people */
void extent_map_dump(const struct extent_map *map, FILE *out);
