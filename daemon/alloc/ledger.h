#pragma once
// SPDX-License-Identifier: MIT
/*
 * ledger - the daemon-only shared memory object with the books of one pool: a header and tables of fixed-size elements
 *
 * Knows bytes, tables and backing; not what the elements mean (but for the header), and no names, sockets or clients.
 *
 * The object is a sparse file. Each table has a fixed place in it, wide enough for the most elements that it can ever
 * have, so that elements never move and are named by index; there are no pointers in it. A table counts an element only
 * after its pages were allocated (posix_fallocate): a store to an element that counts cannot fault.
 *
 * Two kinds of table: *truth*, which cannot be derived and which a restarted daemon will read; and *derived* (links,
 * hash buckets), which live here too so that one mechanism backs all books and one figure tells what they cost.
 */
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/util.h"

#define LEDGER_MAGIC   0x726567646c6d656dULL /* "memldger", little-endian */
#define LEDGER_VERSION 1u

enum ledger_table_id {
	LEDGER_EXTENTS = 0, /* truth: struct extent_record */
	LEDGER_LINKS,	    /* derived: struct extent_links, same index */
	LEDGER_BUCKETS,	    /* derived: uint32_t, heads of the offset hash */
	LEDGER_MEMBERS,	    /* truth: sessions that have the pool open */
	LEDGER_HOLDS,	    /* truth: retains */
	LEDGER_NAMES,	    /* truth: names of blocks */
	LEDGER_BACKED,	    /* truth: one bit per backing unit of the data segment, in uint64_t words */
	LEDGER_TABLE_N,
};

/* the first page of the object */
struct ledger_header {
	uint64_t magic;
	uint32_t version;
	uint32_t header_bytes;
	uint64_t pool_id;
	uint64_t total_bytes; /* the pool's present size */
	uint64_t max_bytes;   /* what it may grow to */
	uint64_t created_s;   /* seconds since 1970 */
	uint32_t uid, gid, mode;
	uint32_t lifetime, fill, lease, guard, reserve; /* as the public enums */
	uint32_t unit_bytes;				/* what one backed bit stands for */
	uint32_t n_name_bytes;
	char name[64];	       /* n_name_bytes of it; 0 = private */
	char data_object[160]; /* name of the data segment in the segments' directory */
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

/** ledger_deinit() - unmap and close; may run twice, or on LEDGER_NULL */
void ledger_deinit(struct ledger *ledger);

/**
 * ledger_reserve() - make at least @n elements of a table count
 *
 * Grows by growing steps, so that calling it for one element more is amortised O(1); new elements read zero.
 * Return: 0; -ENOSPC the table is at its most, or no memory for it: nothing changed.
 */
int ledger_reserve(struct ledger *ledger, enum ledger_table_id id, uint32_t n) MUST_CHECK;

/** ledger_at() - element @index of a table; it must count */
static inline void *ledger_at(const struct ledger *ledger, enum ledger_table_id id, uint32_t index)
{
	const struct ledger_table *table = &ledger->tables[id];

	return (uint8_t *)table->base + (size_t)index * table->elem_bytes;
}
