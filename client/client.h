#pragma once
// SPDX-License-Identifier: MIT
/*
 * client - a session with one daemon, and the one way in and out of it that every public call takes
 *
 * Threads: any. n_running, is_closed and n_refs are atomics or under the mutex; a client's memory goes when it is disconnected
 * and its last pool is closed.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#include "client/connection.h"
#include "client/error.h"
#include "client/process.h"
#include "mempool/mempool.h"

struct heaps;

struct mempool_client {
	uint64_t generation; /* of the process that made it */
	uint64_t session;
	int liveness_fd; /* locked; never closed while the session lasts; -1: none */
	struct connection connection;
	_Atomic uint32_t n_refs; /* the handle's and each pool's */
	pthread_mutex_t mutex;	 /* the two below */
	pthread_cond_t idle;
	uint32_t n_running; /* calls */
	bool is_closed;
	struct heaps *heaps; /* heaps.c's */
};

/**
 * client_call() - one request of a public call: checks the process and the session, waits for the reply
 * @asked: what was asked, for the sentence: "alloc of 64 bytes from \"frames\""
 * @call:  out; call_deinit() it after 0. With a negative status the daemon's sentence has been kept, and call is empty.
 * Return: 0, or a negative errno with its sentence set
 */
int client_call(struct mempool_client *client, Mempool__Wire__Request *request, uint64_t pool, const char *asked,
		struct call *call) MUST_CHECK;
/** client_do() - the same for a request of whose reply only the status counts */
int client_do(struct mempool_client *client, Mempool__Wire__Request *request, uint64_t pool, const char *asked)
	MUST_CHECK;
/** client_do_each() - the same for [n] requests at once, CONNECTION_EACH_MAX at most. Return: 0, or the first that failed */
int client_do_each(struct mempool_client *client, unsigned n, Mempool__Wire__Request requests[], uint64_t pool,
		   const char *asked) MUST_CHECK;
/**
 * client_free() - a free: 0 also when it is only queued, because the daemon is silent or absent
 * @waitsp: false: do not wait for it; out: false also if that was in vain, and the next free had better not
 * @call:   out: with a reply if the daemon has given one; call_deinit() it, whatever is returned
 * Return: 0; CLIENT_E_TOO_LONG: not sent, since this process has no memory for a list; one by one it can be; a negative errno
 */
enum {
	CLIENT_E_TOO_LONG = 1,
};
int client_free(struct mempool_client *client, Mempool__Wire__Request *request, uint64_t pool, bool *waitsp,
		const char *asked, struct call *call) MUST_CHECK;
/** client_is_silent() - whether @r says that the daemon was waited for in vain: once is long enough */
static inline bool client_is_silent(int r)
{
	return r == -ETIMEDOUT || r == -EHOSTDOWN;
}
/** client_max_batch() - sizes or offsets that one request may have */
static inline uint32_t client_max_batch(const struct mempool_client *client)
{
	return atomic_load_explicit(&client->connection.max_batch, memory_order_relaxed);
}
/** import_struct() - a caller's versioned struct into ours. Return: 0; -EINVAL, -E2BIG with the sentence set */
int import_struct(void *ours, size_t n_known, const void *theirs, size_t size, const char *asked) MUST_CHECK;
/** client_is_lost() - whether the session will not come back */
bool client_is_lost(struct mempool_client *client);
void client_ref(struct mempool_client *client);
void client_unref(struct mempool_client *client);

/*
 * CLIENT_CALL(client) - a declaration: until the end of its block the client's memory stays, though it may be disconnected between two
 * requests, or after the last. NULL is no client. A call on a pool needs none: its handle is there, and counted.
 */
#define CLIENT_CALL(client) CLEANUP(client_call_end) struct mempool_client *client_of_call = client_call_begin(client)

static inline struct mempool_client *client_call_begin(struct mempool_client *client)
{
	if (client)
		client_ref(client);
	return client;
}

static inline void client_call_end(struct mempool_client **clientp)
{
	if (*clientp)
		client_unref(*clientp);
}

#define REQUEST(name, op, field, message)                           \
	Mempool__Wire__Request name = MEMPOOL__WIRE__REQUEST__INIT; \
	name.op_case = MEMPOOL__WIRE__REQUEST__OP_##op;             \
	name.field = &(message)
#define SET(message, field, value) ((message).has_##field = 1, (message).field = (value))

static inline ProtobufCBinaryData name_bytes(const char *name)
{
	return (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t)name, .len = strlen(name)};
}

/** text_copy() - bytes of the daemon into a C string of @n_out bytes */
static inline void text_copy(char *out, size_t n_out, ProtobufCBinaryData text)
{
	size_t n = text.len < n_out - 1 ? text.len : n_out - 1;

	if (n)
		memcpy(out, text.data, n);
	out[n] = '\0';
}
