#pragma once
// SPDX-License-Identifier: MIT
/*
 * frozen - the objects of an instance, watched while another process changes them, and kept as they stood at one instruction
 *
 * Frozen ones can be thawed, any number of times: all of them under their own names, when nobody else has those any more; or a
 * pool's two, in an instance of its own.
 */
#include "pool/segment.h"

struct watch_range { /* bytes of an object that count */
	size_t begin, end;
};

#define WATCH_RANGES_MAX  64u
#define WATCH_OBJECTS_MAX 12u

struct watched { /* one object; another process has it too */
	char name[SEGMENT_NAME_BYTES];
	int fd;
	uint64_t n_bytes, n_blocks, n_links; /* as fstat() said */
	uint8_t *map, *shadow;		     /* [n_bytes]; what is there, and what was there at the last look */
	struct watch_range ranges[WATCH_RANGES_MAX];
	unsigned n_ranges;
};

struct watch { /* the objects, found by the instance's name: its directory, and those of pools and sessions */
	char instance[SEGMENT_INSTANCE_MAX + 1];
	struct watched objects[WATCH_OBJECTS_MAX];
	unsigned n_objects;
	int64_t folder_bytes, folder_ns; /* of /dev/shm: a name more or less changes them */
};

struct frozen_object {
	char name[SEGMENT_NAME_BYTES];
	bool is_ledger;
	uint8_t *bytes; /* of its ranges, one after the other */
	struct watch_range ranges[WATCH_RANGES_MAX];
	unsigned n_ranges;
	uint64_t n_bytes;      /* length */
	uint64_t kernel_bytes; /* memory behind it */
};

struct frozen { /* those that had a name */
	struct frozen_object objects[WATCH_OBJECTS_MAX];
	unsigned n_objects;
};

void watch_begin(struct watch *watch, const char *instance);
void watch_end(struct watch *watch);
/** watch_look() - Return: whether a byte of a ledger or lease segment, or length, memory or name of an object has changed since the last look */
bool watch_look(struct watch *watch);

/** frozen_take() - as it stood at the last look */
void frozen_take(struct frozen *frozen, const struct watch *watch);
void frozen_free(struct frozen *frozen);
/** frozen_books(), frozen_data() - of the one pool that there is; NULL: none */
const struct frozen_object *frozen_books(const struct frozen *frozen);
const struct frozen_object *frozen_data(const struct frozen *frozen);

/** frozen_thaw() - under the names that they had; @all_memory: all of it is there, else what has content */
void frozen_thaw(const struct frozen *frozen, bool all_memory);
/** frozen_thaw_pool() - as objects of @instance. @books: out: the ledger */
void frozen_thaw_pool(const struct frozen *frozen, const char *instance, bool all_memory, struct segment *books,
		      struct segment *data);
