#pragma once
// SPDX-License-Identifier: MIT
/*
 * socket - the path that clients connect to
 *
 * Knows paths and modes; not who is accepted. Used under the instance lock and before any thread is started: the node's
 * mode comes from the process's umask.
 */
#include <sys/types.h>

#include "proto/util.h"

struct socket_listener {
	int fd;		  /* non-blocking */
	const char *path; /* not owned */
	dev_t dev;	  /* the node that was bound: nobody else's is removed */
	ino_t ino;
};

#define SOCKET_DIRECTORY "/run/mempoold" /* made if it is missing; others must be there */

/**
 * socket_listen() - bind @path (mode 0666), removing a stale socket that nobody listens on
 * Return: 0; -ENAMETOOLONG; -EADDRINUSE somebody listens there, or the file is no socket; -errno
 */
int socket_listen(struct socket_listener *listener, const char *path) MUST_CHECK;
/** socket_close() - close, and remove the node if it is still ours; may run twice */
void socket_close(struct socket_listener *listener);
