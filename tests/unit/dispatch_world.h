#pragma once
// SPDX-License-Identifier: MIT
/* dispatch_world - a daemon without sockets, and clients that speak to it in messages: bytes in, bytes out */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "proto/frame.h"
#include "proto/mempool.pb-c.h"
#include "server/dispatch.h"
#include "server/session.h"

#include "tests/lib/test.h"

struct bench { /* a daemon without sockets */
	struct limits limits;
	struct sessions sessions;
	struct services services;
	struct arena arena;
	struct dispatch dispatch;
	struct reply_buffer out;
	_Atomic uint32_t loop_connections[2];
	char instance[64];
};

struct client {
	struct bench *bench;
	struct peer peer;
	uint64_t last_id;
	int result;		     /* of the last dispatch_request() */
	bool was_slow;		     /* it had to be asked again */
	Mempool__Wire__Reply *reply; /* the last one, owned */
	int fd;			     /* that came with it, owned; -1: none */
};

static inline void bench_open(struct bench *bench)
{
	struct registry_config config = {.instance = bench->instance, .budget_bytes = UINT64_MAX, .decay_ms = 1000};
	int n_swept;

	memset(bench, 0, sizeof(*bench));
	snprintf(bench->instance, sizeof(bench->instance), "test-dispatch-%d", getpid());
	limits_default(&bench->limits);
	for (unsigned i = 0; i < QUOTA_KIND_N; i++)
		config.quota_limit[i] = UINT64_MAX;
	assert_int_equal(registry_open(&bench->services.registry, &config, &n_swept), 0);
	assert_int_equal(sessions_init(&bench->sessions, bench->services.registry), 0);
	assert_int_equal(arena_init(&bench->arena, bench->limits.decode_arena, bench->limits.decode_objects), 0);
	bench->services.sessions = &bench->sessions;
	bench->services.instance = bench->instance;
	bench->services.loop_connections = bench->loop_connections;
	bench->services.n_loops = 2;
	bench->services.is_ephemeral = true;
	bench->dispatch = (struct dispatch){&bench->services, &bench->limits, &bench->arena};
	bench->out = (struct reply_buffer)REPLY_BUFFER_NULL;
}

static inline void bench_close(struct bench *bench)
{
	reply_buffer_deinit(&bench->out);
	arena_deinit(&bench->arena);
	sessions_deinit(&bench->sessions);
	registry_close(bench->services.registry);
}

static inline struct client client_open(struct bench *bench, uint32_t uid)
{
	struct client client = {.bench = bench, .fd = -1};

	client.peer.identity = (struct pool_identity){.uid = uid, .gid = uid, .pid = 77, .command = "tester"};
	client.peer.account = quota_account_of(registry_quota(bench->services.registry), uid);
	assert_non_null(client.peer.account);
	return client;
}

static inline void client_forget(struct client *client)
{
	if (client->reply)
		mempool__wire__reply__free_unpacked(client->reply, NULL);
	client->reply = NULL;
	if (client->fd >= 0)
		close(client->fd);
	client->fd = -1;
}

static inline void client_close(struct client *client)
{
	client_forget(client);
	if (client->peer.session) {
		session_end(client->peer.session);
		session_free(client->peer.session);
	}
	peer_deinit(&client->peer);
}

/* Return: status of the reply, 1 if there is none. */
static inline int say_bytes(struct client *client, const uint8_t *message, size_t n_bytes)
{
	struct bench *bench = client->bench;
	struct reply_buffer *out = &bench->out;
	uint32_t n_reply;

	client_forget(client);
	client->result = dispatch_request(&bench->dispatch, &client->peer, message, n_bytes, 0, out);
	client->was_slow = client->result == DISPATCH_E_SLOW;
	if (client->was_slow) {
		assert_int_equal(out->n_bytes, 0);
		client->result =
			dispatch_request(&bench->dispatch, &client->peer, message, n_bytes, DISPATCH_MAY_BLOCK, out);
	}
	assert_int_not_equal(client->result, DISPATCH_E_SLOW);
	if (!out->n_bytes)
		return 1;
	assert_int_equal(frame_peek(out->data, out->n_bytes, FRAME_REPLY_BYTES_MAX, &n_reply), 0);
	assert_int_equal(out->n_bytes, FRAME_HEADER_BYTES + n_reply); /* one frame */
	client->reply = mempool__wire__reply__unpack(NULL, n_reply, out->data + FRAME_HEADER_BYTES);
	assert_non_null(client->reply);
	client->fd = out->fd;
	out->fd = -1;
	assert_int_equal(client->reply->n_fds, client->fd >= 0);
	reply_buffer_clear(out);
	/* Whatever is refused has its sentence. */
	assert_true(!client->reply->status || (client->reply->message && strlen(client->reply->message) > 10));
	return client->reply->status;
}

static inline int say(struct client *client, Mempool__Wire__Request *request)
{
	uint8_t message[65536];

	if (!request->has_id) {
		request->has_id = 1;
		request->id = ++client->last_id;
	}
	assert_true(mempool__wire__request__get_packed_size(request) <= sizeof(message));
	return say_bytes(client, message, mempool__wire__request__pack(request, message));
}

#define SAY(client, KIND, kind, Type, ...)                                                                       \
	({                                                                                                       \
		Mempool__Wire__##Type message_ = {PROTOBUF_C_MESSAGE_INIT(&mempool__wire__##kind##__descriptor), \
						  __VA_ARGS__};                                                  \
		Mempool__Wire__Request request_ = MEMPOOL__WIRE__REQUEST__INIT;                                  \
		request_.op_case = MEMPOOL__WIRE__REQUEST__OP_##KIND;                                            \
		request_.kind = &message_;                                                                       \
		say(client, &request_);                                                                          \
	})
#define SET(field, value) .has_##field = 1, .field = (value)
#define BYTES(text)	  ((ProtobufCBinaryData){sizeof(text) - 1, (uint8_t *)(uintptr_t)(text)})

static inline void assert_says(const struct client *client, const char *words)
{
	if (!client->reply || !client->reply->message || !strstr(client->reply->message, words))
		fail_msg("\"%s\" is not in \"%s\"", words,
			 client->reply && client->reply->message ? client->reply->message : "");
}

static inline struct client client_greet(struct bench *bench, uint32_t uid)
{
	struct client client = client_open(bench, uid);

	assert_int_equal(SAY(&client, HELLO, hello, Hello, SET(version_min, 1), SET(version_max, 1)), 0);
	return client;
}

static inline uint64_t create(struct client *client, const char *name, uint64_t size)
{
	ProtobufCBinaryData bytes = {strlen(name), (uint8_t *)(uintptr_t)name};

	assert_int_equal(SAY(client, CREATE_POOL, create_pool, CreatePool, .has_name = *name != '\0', .name = bytes,
			     SET(size, size)),
			 0);
	assert_true(client->was_slow);
	return client->reply->pool->info->pool;
}

static inline uint64_t alloc(struct client *client, uint64_t pool, uint64_t size)
{
	assert_int_equal(SAY(client, ALLOC, alloc, Alloc, SET(pool, pool), SET(size, size)), 0);
	assert_int_equal(client->reply->result_case, MEMPOOL__WIRE__REPLY__RESULT_BLOCK);
	assert_true(client->reply->block->size >= size);
	return client->reply->block->offset;
}

/* ---- a test ---- */

static inline int bench_begin(void **state)
{
	static struct bench bench;

	bench_open(&bench);
	*state = &bench;
	return 0;
}

static inline int bench_finish(void **state)
{
	bench_close(*state);
	return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_dispatch_##name, bench_begin, bench_finish)
