#pragma once
// SPDX-License-Identifier: MIT
/*
 * acceptor - takes connections off the listening socket and deals them to the loops, one each in turn
 *
 * Knows who may come in (credentials, admission); not what they want.
 *
 * Threads: the main thread's, but for acceptor_room().
 */
#include <uv.h>

#include "server/admission.h"
#include "server/log.h"
#include "server/loop.h"

struct acceptor {
	uv_poll_t poll;	    /* of the listening socket */
	uv_timer_t timer;   /* tries again after accept4() found no descriptor or memory */
	uv_async_t async;   /* a connection was closed, while paused */
	int fd;		    /* of the listening socket; not owned */
	int spare_fd;	    /* given up to accept one more, so that it can be told why it is refused */
	struct loop *loops; /* [n_loops]; not owned */
	unsigned n_loops, next_loop;
	struct admission *admission;
	struct quota *quota;
	const struct limits *limits; /* the main thread's copy */
	struct log_source log;
	_Atomic bool is_paused;
};

/** acceptor_open() - on the main loop; the fields from loops to limits are set by the caller. Return: 0, -errno */
int acceptor_open(struct acceptor *acceptor, uv_loop_t *uv, int listen_fd) MUST_CHECK;
/** acceptor_close() - run the loop afterwards */
void acceptor_close(struct acceptor *acceptor);
/** acceptor_room() - a connection was closed: there may be descriptors again. @arg is a struct acceptor; any thread */
void acceptor_room(void *arg);
