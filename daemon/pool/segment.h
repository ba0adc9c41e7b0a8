#pragma once
// SPDX-License-Identifier: MIT
/*
 * segment - shared memory objects: made under names nobody can guess, removed, and swept up after a crash
 *
 * An object's name is "/mempool.<instance>.<32 hex digits>", its mode 0600, and it is created with O_EXCL: what somebody
 * else put under a name is never adopted. Knows names and descriptors; not what an object is for.
 */
#include <stdint.h>

#include "proto/util.h"

#define SEGMENT_NAME_BYTES   160
#define SEGMENT_INSTANCE_MAX 100 /* bytes of an instance name, so that the whole is a file name */

struct segment {
	int fd; /* owned, CLOEXEC */
	char name[SEGMENT_NAME_BYTES];
};

#define SEGMENT_NULL     \
	{                \
		.fd = -1 \
	}

/** segment_create() - a new, empty object of @instance. Return: 0, -errno (-EMFILE, -ENOSPC, …) */
int segment_create(struct segment *segment, const char *instance) MUST_CHECK;
/** segment_open() - an object of @instance that segment_create() made, by its @name. Return: 0; -EINVAL, -EPERM: it cannot be one; -errno */
int segment_open(struct segment *segment, const char *instance, const char *name) MUST_CHECK;
/** segment_unlink() - remove the name (once); the memory goes with the last mapping and descriptor */
void segment_unlink(struct segment *segment);
/** segment_deinit() - close; may run twice. Does not unlink. */
void segment_deinit(struct segment *segment);
/**
 * segment_sweep() - remove every object of @instance but the registry's own and those that @is_kept says (NULL: none); under the instance lock
 * Return: how many, or -errno
 */
int segment_sweep(const char *instance, bool (*is_kept)(void *arg, const char *name), void *arg) MUST_CHECK;
