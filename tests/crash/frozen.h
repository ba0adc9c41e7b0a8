#pragma once
// SPDX-License-Identifier: MIT
/*
 * frozen - the objects of one pool, watched while another process changes them, and kept as they stood at one instruction
 *
 * A frozen pool can be thawed, any number of times, into objects of an instance's own, and recovered there.
 */
#include "pool/segment.h"

struct watch_range { /* bytes of a ledger that count */
	size_t begin, end;
};

#define WATCH_RANGES_MAX 64u

struct watched { /* one object; another process has it too */
	struct segment segment;
	uint64_t n_bytes, n_blocks, n_links; /* as fstat() said */
	uint8_t *map, *shadow;		     /* [n_bytes]; what is there, and what was there at the last look */
	struct watch_range ranges[WATCH_RANGES_MAX];
	unsigned n_ranges;
};

struct watch { /* the pool's objects, found by the instance's name */
	char instance[SEGMENT_INSTANCE_MAX + 1];
	struct watched objects[2];
	unsigned n_objects;
	int64_t folder_bytes; /* of /dev/shm: a name more or less changes it */
};

struct frozen {
	uint8_t *bytes; /* of the ledger's ranges, one after the other; NULL: there is none */
	struct watch_range ranges[WATCH_RANGES_MAX];
	unsigned n_ranges;
	uint64_t n_bytes;	    /* length of the ledger's object */
	bool has_data;		    /* the data segment has a name */
	uint64_t data_bytes;	    /* its length */
	uint64_t data_kernel_bytes; /* memory behind it */
};

void watch_begin(struct watch *watch, const char *instance);
void watch_end(struct watch *watch);
/** watch_look() - Return: whether a byte of the ledger, or length, memory or name of an object has changed since the last look */
bool watch_look(struct watch *watch);

/** frozen_take() - as it stood at the last look */
void frozen_take(struct frozen *frozen, const struct watch *watch);
void frozen_free(struct frozen *frozen);
/**
 * frozen_thaw() - objects of @instance like those; the data segment's memory is left to recovery: @all_memory: all of it is there
 * @books: out: the ledger
 */
void frozen_thaw(const struct frozen *frozen, const char *instance, bool all_memory, struct segment *books,
		 struct segment *data);
