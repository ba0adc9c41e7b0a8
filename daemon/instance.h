#pragma once
// SPDX-License-Identifier: MIT
/*
 * instance - where this daemon listens, and what its objects in /dev/shm are called
 *
 * Knows paths and names; binds nothing and locks nothing.
 */
#include <stddef.h>

#include "pool/segment.h"
#include "proto/util.h"

#define INSTANCE_NAME_MAX     SEGMENT_INSTANCE_MAX
#define INSTANCE_SOCKET_BYTES 108 /* sockaddr_un.sun_path, with its NUL: a longer path would be bound cut short */

enum {
	INSTANCE_E_REFUSED = 1, /* and the sentence says why */
};

struct instance_places {	 /* each may be NULL or empty, but for the last */
	const char *option;	 /* --socket */
	const char *environment; /* $MEMPOOL_SOCKET: who sets it for clients means the same daemon here */
	const char *runtime_dir; /* $XDG_RUNTIME_DIR */
	const char *system_dir;	 /* /run/mempoold; made with mode 0755 if it can be */
};

/**
 * instance_choose_socket() - the first place that a socket may be created at
 * @path: out: absolute, its folder without symbolic links, so that one socket has one name
 * @why:  out, [n_bytes]: a sentence; only with INSTANCE_E_REFUSED
 *
 * The option and the environment are taken or refused; only the two after them are tried one after the other.
 * Return: 0, INSTANCE_E_REFUSED.
 */
int instance_choose_socket(const struct instance_places *places, char path[static INSTANCE_SOCKET_BYTES], char *why,
			   size_t n_bytes) MUST_CHECK;

/**
 * instance_name_from_socket() - one name for one path: '/' becomes '+', odd characters %XX, a long path is hashed
 * @path: as instance_choose_socket() made it
 */
void instance_name_from_socket(const char *path, char name[static INSTANCE_NAME_MAX + 1]);

/** instance_name_is_valid() - can be part of the names of objects, and none of these is another instance's */
bool instance_name_is_valid(const char *name);
