#pragma once
// SPDX-License-Identifier: MIT
/*
 * connection - one socket that many threads share: requests go out in the order of their ids, replies find their callers
 *
 * Knows frames, ids and descriptors; not what a request means.
 *
 * Threads: any. The mutex guards everything but the socket itself: at most one thread sends (is_sending) and at most one
 * receives (is_reading), both without the mutex. Whoever waits for a reply and finds no reader becomes it, and hands
 * replies to the others until its own came; no thread of the library's own is needed.
 */
#include <pthread.h>

#include "proto/mempool.pb-c.h"
#include "proto/util.h"

struct call { /* one request until its reply was handed over; on the caller's stack */
	uint64_t id;
	Mempool__Wire__Request__OpCase kind;
	uint64_t pool; /* to undo a late success */
	bool is_done;
	bool is_ghost;		     /* on the heap: its caller gave up; a late success is undone */
	int error;		     /* of the connection; 0: there is a reply */
	Mempool__Wire__Reply *reply; /* the caller's, to be freed by call_deinit() */
	int fd;			     /* that came with it, or -1 */
	pthread_cond_t wake;
	struct call *next; /* in the order of ids */
};

struct connection {
	pthread_mutex_t mutex;
	int fd;
	int broken; /* 0, or a negative errno: nothing more will come */
	int timeout_ms;
	uint64_t last_id;
	uint32_t n_in_flight, max_in_flight;
	pthread_cond_t slot_free;
	struct call *calls, **last_call;
	bool is_reading, is_sending;
	uint8_t *out; /* frames to send */
	size_t n_out, out_capacity;
	uint8_t *in; /* bytes received; the reader's */
	size_t n_in, in_capacity;
	int fds[16]; /* received, in order; the reader's */
	unsigned n_fds;
};

/** connection_init() - @fd is taken over on success. Return: 0, -ENOMEM */
int connection_init(struct connection *connection, int fd) MUST_CHECK;
void connection_deinit(struct connection *connection);
void connection_set_timeout(struct connection *connection, int timeout_ms);

/**
 * connection_call() - send @request and wait for its reply
 * @call: out; call_deinit() it after a 0
 * Return: 0 a reply is there (whatever its status); -ETIMEDOUT, -EHOSTDOWN, -ENOMEM, -EMSGSIZE
 */
int connection_call(struct connection *connection, Mempool__Wire__Request *request, uint64_t pool, struct call *call)
	MUST_CHECK;
void call_deinit(struct call *call);
