#pragma once
// SPDX-License-Identifier: MIT
/*
 * ledger - a daemon-only shared memory object with books in it: a header and tables of fixed-size elements
 *
 * Knows bytes, tables and backing; not what the elements mean (but for the header), and no names, sockets or clients.
 *
 * The object is a sparse file. Each table has a fixed place in it, wide enough for the most elements that it can ever
 * have, so that elements never move and are named by index; there are no pointers in it. A table counts an element only
 * after its pages were allocated (posix_fallocate): a store to an element that counts cannot fault.
 *
 * Two kinds of table: *truth*, which cannot be derived and which a restarted daemon reads; and *derived* (links, hash
 * buckets), which live here too so that one mechanism backs all books and one figure tells what they cost.
 *
 * Stores to truth are made under one mutex, by way of an intent (intent.h), which makes all that happens under one hold of
 * it happen whole or not at all. There is one such object for each pool, and one for the registry of an instance.
 */
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/util.h"

#define LEDGER_MAGIC   0x726567646c6d656dULL /* "memldger", little-endian */
#define LEDGER_VERSION 2u

enum ledger_kind {
	LEDGER_POOL = 1,
	LEDGER_REGISTRY,
};

enum ledger_table_id {
	LEDGER_EXTENTS = 0, /* truth: struct extent_record */
	LEDGER_LINKS,	    /* derived: struct extent_links, same index */
	LEDGER_BUCKETS,	    /* derived: uint32_t, heads of the offset hash */
	LEDGER_MEMBERS,	    /* truth: sessions that have the pool open */
	LEDGER_HOLDS,	    /* truth: retains */
	LEDGER_NAMES,	    /* truth: names of blocks */
	LEDGER_BACKED,	    /* truth: one bit per backing unit of the data segment, in uint64_t words */
	LEDGER_RESULTS,	    /* truth: what the last requests of each member were answered */
	LEDGER_BATCHES,	    /* truth: offsets that belong to such an answer */
	LEDGER_RECENT,	    /* the last operations, for people: never read to decide what is whose */
	LEDGER_SESSIONS,    /* truth, the registry's: sessions of the instance */
	LEDGER_POOLS,	    /* truth, the registry's: its pools */
	LEDGER_SLABS,	    /* truth: slabs, by id */
	LEDGER_HEAPS,	    /* truth: whose a heap's number is */
	LEDGER_INTENT,	    /* struct intent_entry: what an operation has changed so far */
	LEDGER_TABLE_N,
};

/* the first page of the object; it and its words never move */
struct ledger_header {
	uint64_t magic;
	uint32_t version;
	uint32_t header_bytes;
	uint64_t file_bytes;	  /* length of the object */
	_Atomic uint64_t kind;	  /* enum ledger_kind; a registry's is stored last: until then it was never made */
	_Atomic uint64_t n_noted; /* entries of the intent that count; 0: no operation is under way */
	_Atomic uint64_t
		n_backed[LEDGER_TABLE_N]; /* elements of each table that count; stored after their pages are there */

	/* of the registry: numbers given so far, each stored before it is used */
	_Atomic uint64_t n_sessions;
	_Atomic uint64_t n_pools;
	_Atomic uint64_t n_recoveries;
	_Atomic uint64_t was_stopped; /* 1: nothing was under way when its daemon ended */
	uint64_t recoveries[16][8];   /* struct directory_recovery: the last of them, for people */

	/* of a pool */
	_Atomic uint64_t total_bytes; /* its present size */
	_Atomic uint64_t n_recent;    /* entries ever written to RECENT */
	_Atomic uint64_t free_total;  /* this and the next two are figures, noted like truth */
	_Atomic uint64_t failed_total;
	_Atomic uint64_t peak_used;
	_Atomic uint64_t slot_alloc_total; /* likewise: of slots, as last seen; then as heaps counted that are no more */
	_Atomic uint64_t slot_free_total;
	uint64_t pool_id;
	uint64_t max_bytes; /* what it may grow to */
	uint64_t created_s; /* seconds since 1970 */
	uint32_t uid, gid, mode;
	uint32_t lifetime, fill, lease, guard, reserve; /* as the public enums */
	uint32_t unit_bytes;				/* what one backed bit stands for */
	uint32_t n_name_bytes;
	char name[64];		/* n_name_bytes of it; 0 = private */
	char data_object[160];	/* name of the data segment in the segments' directory */
	char lease_object[160]; /* of the lease segment; empty: none */
};

struct ledger_table {
	void *base;	      /* element 0, in this process */
	uint64_t file_offset; /* of element 0 */
	uint32_t elem_bytes;
	uint32_t n_backed; /* elements that count */
	uint32_t n_max;
};

struct ledger {
	int fd;	      /* owned */
	uint8_t *map; /* [map_bytes] */
	size_t map_bytes;
	uint64_t backed_bytes; /* what has been allocated for the object so far */
	uint32_t n_noted;      /* as in the header */
	struct ledger_header *header;
	struct ledger_table tables[LEDGER_TABLE_N];
};

#define LEDGER_NULL      \
	{                \
		.fd = -1 \
	}

struct ledger_shape { /* per table: bytes of an element and the most there can be */
	uint32_t elem_bytes[LEDGER_TABLE_N];
	uint32_t n_max[LEDGER_TABLE_N];
};

/**
 * ledger_init() - lay out and map a new ledger on an empty object
 * @fd: read-write, empty; consumed when 0 is returned, the caller's otherwise
 *
 * The header is zero but for magic, version and its size. No element counts yet.
 * Return: 0; -ENOSPC no room for the first page; -ENOMEM, -errno of ftruncate or mmap.
 */
int ledger_init(struct ledger *ledger, int fd, const struct ledger_shape *shape) MUST_CHECK;

enum {
	LEDGER_E_FOREIGN = 1, /* not one of ours */
	LEDGER_E_VERSION,     /* of another format */
	LEDGER_E_DAMAGED,     /* what it says cannot be */
	LEDGER_E_HOLES,	      /* pages that it counts are not there */
};

/**
 * ledger_peek() - read the header of an object that may be a ledger, without mapping it
 * @header: out; checked for magic, version and length only: everything else in it may be anything
 * Return: 0; LEDGER_E_*; -errno
 */
int ledger_peek(int fd, struct ledger_header *header) MUST_CHECK;

/**
 * ledger_open() - map an existing ledger, as a killed daemon left it; take back what was under way (intent.h)
 * @fd: read-write; consumed when 0 is returned, the caller's otherwise
 * @shape: as it was made with
 *
 * Backs again what counts, so that nothing that is read or written later can fault. Running it again after a kill in
 * the middle does the same.
 * Return: 0; LEDGER_E_*; -ENOSPC, -ENOMEM, -errno
 */
int ledger_open(struct ledger *ledger, int fd, const struct ledger_shape *shape) MUST_CHECK;

/** ledger_deinit() - unmap and close; may run twice, or on LEDGER_NULL */
void ledger_deinit(struct ledger *ledger);

/**
 * ledger_reserve() - make at least @n elements of a table count
 *
 * Grows by growing steps, so that calling it for one element more is amortised O(1); new elements read zero.
 * Return: 0; -ENOSPC the table is at its most, or no memory for it: nothing changed.
 */
int ledger_reserve(struct ledger *ledger, enum ledger_table_id id, uint32_t n) MUST_CHECK;

/**
 * ledger_reserve_spare() - ledger_reserve() of @n, and of @n_spare more as long as there is memory for them
 *
 * For what has to find room when there is none any more: who comes to free something.
 * Return: as ledger_reserve() of @n
 */
int ledger_reserve_spare(struct ledger *ledger, enum ledger_table_id id, uint32_t n, uint32_t n_spare) MUST_CHECK;

/** ledger_at() - element @index of a table; it must count */
static inline void *ledger_at(const struct ledger *ledger, enum ledger_table_id id, uint32_t index)
{
	const struct ledger_table *table = &ledger->tables[id];

	return (uint8_t *)table->base + (size_t)index * table->elem_bytes;
}
