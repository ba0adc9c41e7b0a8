#pragma once
// SPDX-License-Identifier: MIT
/*
 * arena - memory to decode one request in: bounded, zeroed, given back all at once
 *
 * Knows bytes and objects; not what is decoded. Bounded because a small message can decode to fifty times its size.
 * Zeroed because protobuf-c 1.4.1 frees members that it has not set yet when decoding fails half-way.
 *
 * Threads: one at a time.
 */
#include <protobuf-c/protobuf-c.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/util.h"

struct arena {
	ProtobufCAllocator allocator; /* give its address to protobuf-c; the arena must not move meanwhile */
	uint8_t *memory;	      /* [n_bytes], owned */
	size_t n_bytes;
	size_t n_used;
	uint64_t n_objects;
	uint64_t n_objects_max;
	bool is_exhausted; /* an allocation was refused since the last reset: a NULL from unpack means this, not bad input */
};

/** arena_init() - Return: 0, -ENOMEM */
int arena_init(struct arena *arena, size_t n_bytes, uint64_t n_objects_max) MUST_CHECK;
/** arena_deinit() - may run twice */
void arena_deinit(struct arena *arena);
/** arena_reset() - everything allocated is void; gives back to the kernel what an unusually large request took */
void arena_reset(struct arena *arena);
