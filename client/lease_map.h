#pragma once
// SPDX-License-Identifier: MIT
/*
 * lease_map - a pool's lease segment in this process: mapped whole and once, its bounds read at each open
 *
 * What other clients write there later changes no bound: the header's fields are copied when it is mapped and checked against
 * the mapping. Knows where arrays are; not what is done with them.
 */
#include "proto/lease_word.h"
#include "proto/util.h"

struct lease_map {
	uint8_t *base;
	uint64_t n_bytes;
	struct lease_header *header;
	struct lease_heap *heaps;
	_Atomic uint32_t *pages;
	struct lease_slab *slabs;
	_Atomic uint16_t *words;
	uint64_t n_pages_max; /* there is room for; header->n_pages of them are backed */
	uint64_t n_words;
	uint32_t n_heaps, n_slabs;
};

struct lease_place { /* one slot, its indexes in bounds; what it says of sizes is a client's word */
	uint32_t slab;
	uint32_t size_class;
	uint32_t slot_bytes;
	_Atomic uint16_t *word;
};

enum {
	LEASE_MAP_E_NOWHERE = 1,
	LEASE_MAP_E_INSIDE
};

/** lease_map_open() - @fd is not consumed. Return: 0; -EPROTO no lease segment of ours; -errno */
int lease_map_open(struct lease_map *map, int fd, uint64_t n_bytes) MUST_CHECK;
/** lease_map_attach() - to memory that holds a lease segment already; it stays the caller's. Return: 0, -EPROTO */
int lease_map_attach(struct lease_map *map, void *base, uint64_t n_bytes) MUST_CHECK;
/** lease_map_close() - of what lease_map_open() gave: unmapped with the last; of all zero: nothing */
void lease_map_close(struct lease_map *map);
/** lease_map_forget_all() - in a forked child, which has none of its parent's */
void lease_map_forget_all(void);

/** lease_map_pages() - how many entries of `pages` may be touched now */
uint64_t lease_map_pages(const struct lease_map *map);
/**
 * lease_map_find() - the slot that starts at @offset
 * Return: 0; LEASE_MAP_E_NOWHERE no slab is there; LEASE_MAP_E_INSIDE a slab is, but no slot starts there
 */
int lease_map_find(const struct lease_map *map, uint64_t offset, struct lease_place *placep) MUST_CHECK;

/* A descriptor's fields are the daemon's, yet others can write them at any time: each is read once, into a local. */
#define LEASE_FIELD(field) __atomic_load_n(&(field), __ATOMIC_RELAXED)
