// SPDX-License-Identifier: MIT
/* Each request, each refusal, without a socket: bytes in, bytes out. */
#include "tests/lib/test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "proto/frame.h"
#include "proto/mempool.pb-c.h"
#include "server/dispatch.h"
#include "server/session.h"

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

static void bench_open(struct bench *bench)
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

static void bench_close(struct bench *bench)
{
	reply_buffer_deinit(&bench->out);
	arena_deinit(&bench->arena);
	sessions_deinit(&bench->sessions);
	registry_close(bench->services.registry);
}

static struct client client_open(struct bench *bench, uint32_t uid)
{
	struct client client = {.bench = bench, .fd = -1};

	client.peer.identity = (struct pool_identity){.uid = uid, .gid = uid, .pid = 77, .command = "tester"};
	client.peer.account = quota_account_of(registry_quota(bench->services.registry), uid);
	assert_non_null(client.peer.account);
	return client;
}

static void client_forget(struct client *client)
{
	if (client->reply)
		mempool__wire__reply__free_unpacked(client->reply, NULL);
	client->reply = NULL;
	if (client->fd >= 0)
		close(client->fd);
	client->fd = -1;
}

static void client_close(struct client *client)
{
	client_forget(client);
	if (client->peer.session) {
		session_end(client->peer.session);
		session_free(client->peer.session);
	}
	peer_deinit(&client->peer);
}

/* Return: status of the reply, 1 if there is none. */
static int say_bytes(struct client *client, const uint8_t *message, size_t n_bytes)
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

static int say(struct client *client, Mempool__Wire__Request *request)
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

static void assert_says(const struct client *client, const char *words)
{
	if (!client->reply || !client->reply->message || !strstr(client->reply->message, words))
		fail_msg("\"%s\" is not in \"%s\"", words,
			 client->reply && client->reply->message ? client->reply->message : "");
}

static struct client client_greet(struct bench *bench, uint32_t uid)
{
	struct client client = client_open(bench, uid);

	assert_int_equal(SAY(&client, HELLO, hello, Hello, SET(version_min, 1), SET(version_max, 1)), 0);
	return client;
}

static uint64_t create(struct client *client, const char *name, uint64_t size)
{
	ProtobufCBinaryData bytes = {strlen(name), (uint8_t *)(uintptr_t)name};

	assert_int_equal(SAY(client, CREATE_POOL, create_pool, CreatePool, .has_name = *name != '\0', .name = bytes,
			     SET(size, size)),
			 0);
	assert_true(client->was_slow);
	return client->reply->pool->info->pool;
}

static uint64_t alloc(struct client *client, uint64_t pool, uint64_t size)
{
	assert_int_equal(SAY(client, ALLOC, alloc, Alloc, SET(pool, pool), SET(size, size)), 0);
	assert_int_equal(client->reply->result_case, MEMPOOL__WIRE__REPLY__RESULT_BLOCK);
	assert_true(client->reply->block->size >= size);
	return client->reply->block->offset;
}

/* ---- envelope ---- */

static void test_dispatch_wants_hello_first(void **state)
{
	struct client client = client_open(*state, 0);

	assert_int_equal(SAY(&client, PING, ping, Ping), -EINVAL);
	assert_says(&client, "Hello");
	assert_int_equal(client.result, 0); /* a refusal is an answer */
	assert_int_equal(SAY(&client, HELLO, hello, Hello), -EINVAL);
	assert_int_equal(SAY(&client, HELLO, hello, Hello, SET(version_min, 1), SET(version_max, 9)), 0);
	assert_int_equal(client.reply->hello->version, 1);
	assert_int_equal(client.reply->hello->session, client.peer.session->identity.session);
	assert_int_equal(client.reply->hello->max_request_bytes, 65536);
	assert_int_equal(client.reply->hello->max_batch, DISPATCH_BATCH_MAX);
	assert_int_equal(SAY(&client, HELLO, hello, Hello, SET(version_min, 1), SET(version_max, 1)), -EINVAL);
	assert_int_equal(SAY(&client, PING, ping, Ping), 0);
	client_close(&client);
}

/* However many the daemon takes at once: as many as it can answer again. */
static void test_dispatch_hello_tells_how_many_may_be_in_flight(void **state)
{
	static const uint64_t limits[][2] = {{5, 5}, {127, 127}, {128, 128}, {129, 128}, {65536, 128}};
	struct bench *bench = *state;

	for (size_t i = 0; i < N_ELEMENTS(limits); i++) {
		struct client client;

		bench->limits.requests_in_flight = limits[i][0];
		client = client_greet(bench, 0);
		assert_int_equal(client.reply->hello->max_in_flight, limits[i][1]);
		client_close(&client);
	}
}

/* While it stops, a session that it has put by for the next daemon is none that has ended. */
static void test_dispatch_resume_while_stopping_is_for_the_next_daemon(void **state)
{
	struct bench *bench = *state;
	struct client client = client_open(bench, 0);

	for (int stops = 0; stops < 2; stops++) {
		bench->services.is_stopping = stops;
		assert_int_equal(SAY(&client, HELLO, hello, Hello, SET(version_min, 1), SET(version_max, 1),
				     SET(resume_session, 77), SET(resume_token, BYTES("0123456789abcdef"))),
				 stops ? -EAGAIN : -ESTALE);
		assert_int_equal(client.result, DISPATCH_E_CLOSE);
	}
	assert_null(client.peer.session);
	client_close(&client);
}

static void test_dispatch_other_version_is_closed(void **state)
{
	struct client client = client_open(*state, 0);

	assert_int_equal(SAY(&client, HELLO, hello, Hello, SET(version_min, 2), SET(version_max, 9)), -EPROTO);
	assert_int_equal(client.result, DISPATCH_E_CLOSE);
	assert_null(client.peer.session);
	assert_int_equal(SAY(&client, HELLO, hello, Hello, SET(version_min, 0), SET(version_max, 0)), -EPROTO);
	client_close(&client);
}

static void test_dispatch_bytes_that_are_no_request_are_closed(void **state)
{
	struct client client = client_greet(*state, 0);

	assert_int_equal(say_bytes(&client, (const uint8_t *)"\xff\xff\xff", 3), -EBADMSG);
	assert_int_equal(client.result, DISPATCH_E_CLOSE);
	assert_int_equal(client.reply->id, 0);
	client_close(&client);
}

static void test_dispatch_ids_rise(void **state)
{
	struct client client = client_greet(*state, 0);
	Mempool__Wire__Ping ping = MEMPOOL__WIRE__PING__INIT;
	Mempool__Wire__Request request = MEMPOOL__WIRE__REQUEST__INIT;

	request.op_case = MEMPOOL__WIRE__REQUEST__OP_PING;
	request.ping = &ping;
	request.has_id = 1;
	request.id = 50;
	assert_int_equal(say(&client, &request), 0);
	assert_int_equal(client.reply->id, 50);
	assert_int_equal(say(&client, &request), -EINVAL); /* again */
	assert_int_equal(client.result, DISPATCH_E_CLOSE);
	assert_int_equal(client.reply->id, 0);
	request.id = 0;
	assert_int_equal(say(&client, &request), -EINVAL);
	assert_int_equal(client.result, DISPATCH_E_CLOSE);
	client_close(&client);
}

static void test_dispatch_unknown_kind_is_refused(void **state)
{
	struct client client = client_greet(*state, 0);
	static const uint8_t none[] = {0x08, 90}, future[] = {0x08, 91, 0xc2, 0x3e, 0x00}; /* field 1000 */

	assert_int_equal(say_bytes(&client, none, sizeof(none)), -EINVAL);
	assert_int_equal(client.result, 0);
	assert_int_equal(say_bytes(&client, future, sizeof(future)), -EINVAL);
	assert_int_equal(client.reply->id, 91);
	client_close(&client);
}

static void test_dispatch_unknown_fields_end_at_the_limit(void **state)
{
	struct client client = client_greet(*state, 0);
	uint8_t message[256];

	for (unsigned n = DISPATCH_UNKNOWN_MAX - 1; n <= DISPATCH_UNKNOWN_MAX + 1; n++) {
		size_t at = 0;

		message[at++] = 0x08;
		message[at++] = (uint8_t)(60 + n);
		memcpy(message + at, "\xc2\x03\x00", 3); /* Ping */
		for (at += 3; at < 5 + 3 * n; at += 3)
			memcpy(message + at, "\xf8\x7f\x01", 3);
		assert_int_equal(say_bytes(&client, message, at), n > DISPATCH_UNKNOWN_MAX ? -EINVAL : 0);
		assert_int_equal(client.result, 0);
	}
	client_close(&client);
}

static void test_dispatch_request_beyond_the_arena_is_closed(void **state)
{
	struct bench *bench = *state;
	struct client client = client_greet(bench, 0);

	arena_deinit(&bench->arena);
	assert_int_equal(arena_init(&bench->arena, 4096, 1), 0);
	assert_int_equal(SAY(&client, PING, ping, Ping), -E2BIG);
	assert_int_equal(client.result, DISPATCH_E_CLOSE);
	client_close(&client);
}

/* ---- sessions ---- */

static int refuse_begin(struct peer *peer)
{
	(void)peer;
	return -EMFILE;
}

static void test_dispatch_hello_that_nobody_can_watch_leaves_nothing(void **state)
{
	struct bench *bench = *state;
	struct client client = client_open(bench, 0);
	uint32_t *groups = malloc(sizeof(*groups));

	assert_non_null(groups);
	*groups = 5;
	client.peer.identity.groups = groups;
	client.peer.identity.n_groups = 1;
	client.peer.begun = refuse_begin;
	assert_int_equal(
		SAY(&client, HELLO, hello, Hello, SET(version_min, 1), SET(version_max, 1), SET(wants_liveness, 1)),
		-EMFILE);
	assert_null(client.peer.session);
	assert_null(bench->sessions.head);
	assert_int_equal(client.peer.account->used[QUOTA_SESSIONS], 0);
	client.peer.begun = NULL; /* and the next one works, with the groups it had */
	assert_int_equal(SAY(&client, HELLO, hello, Hello, SET(version_min, 1), SET(version_max, 1)), 0);
	assert_int_equal(client.peer.session->identity.n_groups, 1);
	assert_ptr_equal(client.peer.session->identity.groups, groups);
	client_close(&client);
}

static void test_dispatch_sessions_end_at_the_quota(void **state)
{
	struct bench *bench = *state;
	struct client first, second;

	atomic_store(&registry_quota(bench->services.registry)->limit[QUOTA_SESSIONS], 1);
	first = client_greet(bench, 4242);
	second = client_open(bench, 4242);
	assert_int_equal(SAY(&second, HELLO, hello, Hello, SET(version_min, 1), SET(version_max, 1)), -EDQUOT);
	client_close(&first);
	assert_int_equal(SAY(&second, HELLO, hello, Hello, SET(version_min, 1), SET(version_max, 1)), 0);
	client_close(&second);
}

/* Another process holds the lock for it: to the process that asks, its own would look free. */
static pid_t hold_lock(int fd, int *stopp)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
	int ready[2], stop[2];
	char byte;
	pid_t pid;

	assert_int_equal(pipe(ready), 0);
	assert_int_equal(pipe(stop), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		close(stop[1]);
		if (fcntl(fd, F_SETLK, &lock) || write(ready[1], "r", 1) != 1)
			_exit(1);
		_exit(read(stop[0], &byte, 1) ? 1 : 0);
	}
	close(ready[1]);
	close(stop[0]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	*stopp = stop[1];
	return pid;
}

static void test_dispatch_liveness_is_believed_when_the_lock_is_held(void **state)
{
	struct client client = client_open(*state, 0);
	int stop, status;
	pid_t pid;

	assert_int_equal(
		SAY(&client, HELLO, hello, Hello, SET(version_min, 1), SET(version_max, 1), SET(wants_liveness, 1)), 0);
	assert_true(client.fd >= 0);
	pid = hold_lock(client.fd, &stop);
	assert_int_equal(SAY(&client, LIVENESS, liveness, Liveness), 0);
	assert_false(liveness_proves_death(&client.peer.session->liveness));
	close(stop);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_true(liveness_proves_death(&client.peer.session->liveness));
	client_close(&client);
}

static void test_dispatch_liveness_without_a_lock_is_refused(void **state)
{
	struct client client = client_open(*state, 0);

	assert_int_equal(
		SAY(&client, HELLO, hello, Hello, SET(version_min, 1), SET(version_max, 1), SET(wants_liveness, 1)), 0);
	assert_int_equal(SAY(&client, LIVENESS, liveness, Liveness), -EINVAL);
	assert_false(liveness_proves_death(&client.peer.session->liveness)); /* unknown is alive */
	client_close(&client);
	client = client_greet(*state, 0);
	assert_int_equal(SAY(&client, LIVENESS, liveness, Liveness), -EINVAL); /* not asked for in Hello */
	client_close(&client);
}

static void test_dispatch_goodbye_gives_back_before_it_answers(void **state)
{
	struct bench *bench = *state;
	struct client client = client_greet(bench, 0), other = client_greet(bench, 0);
	uint64_t pool = create(&client, "g", 1 << 20);

	alloc(&client, pool, 1000);
	assert_int_equal(SAY(&client, GOODBYE, goodbye, Goodbye), 0);
	assert_true(client.was_slow);
	assert_int_equal(client.result, DISPATCH_E_CLOSE);
	assert_true(client.peer.session->is_ended);
	assert_int_equal(SAY(&other, OPEN_POOL, open_pool, OpenPool, SET(name, BYTES("g"))), 0);
	assert_int_equal(other.reply->pool->info->allocations, 0);
	assert_int_equal(SAY(&other, LIST_SESSIONS, list_sessions, ListSessions), 0);
	assert_int_equal(other.reply->list_sessions->n_sessions, 1);
	client_close(&client);
	client_close(&other);
}

static void test_dispatch_list_sessions_by_session_and_pool(void **state)
{
	struct client client = client_greet(*state, 0), other = client_greet(*state, 0);
	Mempool__Wire__ListSessionsReply *list;
	uint64_t a = create(&client, "a", 1 << 16), b = create(&client, "b", 1 << 16);

	alloc(&client, b, 100);
	alloc(&client, b, 100);
	assert_int_equal(SAY(&client, LIST_SESSIONS, list_sessions, ListSessions), 0);
	list = client.reply->list_sessions;
	assert_int_equal(list->n_sessions, 3);
	assert_int_equal(list->more, 0);
	assert_int_equal(list->sessions[0]->pool, a);
	assert_int_equal(list->sessions[0]->blocks, 0);
	assert_int_equal(list->sessions[1]->pool, b);
	assert_int_equal(list->sessions[1]->blocks, 2);
	assert_true(list->sessions[1]->bytes >= 200);
	assert_memory_equal(list->sessions[1]->pool_name.data, "b", 1);
	assert_int_equal(list->sessions[2]->session, other.peer.session->identity.session);
	assert_int_equal(list->sessions[2]->pool, 0);
	assert_int_equal(SAY(&client, LIST_SESSIONS, list_sessions, ListSessions, SET(name, BYTES("b"))), 0);
	assert_int_equal(client.reply->list_sessions->n_sessions, 1);
	assert_int_equal(SAY(&client, LIST_SESSIONS, list_sessions, ListSessions,
			     SET(after_session, client.peer.session->identity.session), SET(after_pool, a)),
			 0);
	assert_int_equal(client.reply->list_sessions->n_sessions, 2);
	assert_int_equal(SAY(&client, LIST_SESSIONS, list_sessions, ListSessions, SET(name, BYTES("no"))), -ENOENT);
	client_close(&client);
	client_close(&other);
}

static void test_dispatch_daemon_info(void **state)
{
	struct bench *bench = *state;
	struct client client = client_greet(bench, 0);

	bench->loop_connections[1] = 3;
	assert_int_equal(SAY(&client, DAEMON_INFO, daemon_info, DaemonInfo), 0);
	assert_int_equal(client.reply->daemon_info->n_loop_connections, 2);
	assert_int_equal(client.reply->daemon_info->loop_connections[1], 3);
	assert_int_equal(client.reply->daemon_info->n_limits, limits_table_n);
	assert_int_equal(client.reply->daemon_info->pid, getpid());
	client_close(&client);
}

/* ---- pools ---- */

static void test_dispatch_create_refuses_what_no_pool_can_be(void **state)
{
	struct client client = client_greet(*state, 4242);

#define CREATE(...) SAY(&client, CREATE_POOL, create_pool, CreatePool, __VA_ARGS__)
	assert_int_equal(CREATE(SET(name, BYTES("x"))), -EINVAL); /* no size */
	assert_int_equal(CREATE(SET(name, BYTES("")), SET(size, 4096)), -EINVAL);
	assert_int_equal(CREATE(SET(name, BYTES("..")), SET(size, 4096)), -EINVAL);
	assert_int_equal(CREATE(SET(name, BYTES("a/b")), SET(size, 4096)), -EINVAL);
	assert_int_equal(CREATE(SET(name, BYTES("a\0b")), SET(size, 4096)), -EINVAL);
	assert_int_equal(CREATE(SET(size, 4096), SET(max_size, 4095)), -EINVAL);
	assert_int_equal(CREATE(SET(size, 4096), SET(mode, 01777)), -EINVAL);
	assert_int_equal(CREATE(SET(size, 4096), SET(lifetime, (Mempool__Wire__Lifetime)2)), -EINVAL);
	assert_int_equal(CREATE(SET(size, 4096), SET(fill, (Mempool__Wire__Fill)3)), -EINVAL);
	assert_int_equal(CREATE(SET(size, 4096), SET(lease, (Mempool__Wire__Lease)2)), -EINVAL);
	assert_int_equal(CREATE(SET(size, 4096), SET(gid, 4243)), -EACCES);
	assert_int_equal(CREATE(SET(size, UINT64_MAX)), -EINVAL);
	assert_int_equal(CREATE(SET(size, 4096), SET(max_size, UINT64_MAX - 4095)), -EINVAL);
#undef CREATE
	assert_int_equal(SAY(&client, LIST_POOLS, list_pools, ListPools), 0);
	assert_int_equal(client.reply->list_pools->n_pools, 0);
	client_close(&client);
}

static void test_dispatch_create_and_open_give_the_segment(void **state)
{
	struct client client = client_greet(*state, 0), other = client_greet(*state, 0);
	uint64_t started_s = (uint64_t)time(NULL), pool = create(&client, "shared", 100000);
	struct stat ours, theirs;

	assert_true(client.fd >= 0);
	assert_int_equal(client.reply->pool->first, POOL_FIRST);
	assert_true(client.reply->pool->segment_bytes >= POOL_FIRST + 100000);
	assert_int_equal(client.reply->pool->segment_bytes % 4096, 0);
	assert_int_equal(client.reply->pool->info->mode, 0600);
	assert_true(client.reply->pool->info->created >= started_s);
	assert_int_equal(fstat(client.fd, &ours), 0);
	assert_int_equal(SAY(&other, OPEN_POOL, open_pool, OpenPool, SET(name, BYTES("shared"))), 0);
	assert_int_equal(fstat(other.fd, &theirs), 0);
	assert_int_equal(ours.st_ino, theirs.st_ino);
	assert_int_equal(other.reply->pool->info->sessions, 2);
	assert_int_equal(SAY(&other, OPEN_POOL, open_pool, OpenPool, SET(pool, pool)), 0); /* again: one membership */
	assert_int_equal(other.reply->pool->info->sessions, 2);
	assert_int_equal(SAY(&other, CREATE_POOL, create_pool, CreatePool, SET(name, BYTES("shared")), SET(size, 1)),
			 -EEXIST);
	assert_says(&other, "\"shared\"");
	client_close(&client);
	client_close(&other);
}

static void test_dispatch_open_refuses(void **state)
{
	struct client root = client_greet(*state, 0), user = client_greet(*state, 4242);
	uint64_t secret = create(&root, "", 4096);

	create(&root, "colours", 4096);
	assert_int_equal(SAY(&user, OPEN_POOL, open_pool, OpenPool), -EINVAL);
	assert_int_equal(SAY(&user, OPEN_POOL, open_pool, OpenPool, SET(name, BYTES("colour"))), -ENOENT);
	assert_says(&user, "did you mean \"colours\"");
	assert_int_equal(SAY(&user, OPEN_POOL, open_pool, OpenPool, SET(name, BYTES("../x"))), -EINVAL);
	assert_int_equal(SAY(&user, OPEN_POOL, open_pool, OpenPool, SET(name, BYTES("colours"))), -EACCES);
	assert_int_equal(SAY(&user, OPEN_POOL, open_pool, OpenPool, SET(pool, 999)), -ENOENT);
	assert_int_equal(SAY(&user, OPEN_POOL, open_pool, OpenPool, SET(pool, secret)), -ENOENT); /* private */
	assert_int_equal(SAY(&root, OPEN_POOL, open_pool, OpenPool, SET(pool, secret)), 0);
	client_close(&root);
	client_close(&user);
}

static void test_dispatch_private_pool_goes_with_its_session(void **state)
{
	struct client client = client_greet(*state, 0), other = client_greet(*state, 0);
	uint64_t pool = create(&client, "", 4096);

	assert_int_equal(SAY(&other, LIST_POOLS, list_pools, ListPools), 0);
	assert_int_equal(other.reply->list_pools->n_pools, 0); /* unlisted */
	assert_int_equal(SAY(&other, LIST_POOLS, list_pools, ListPools, SET(pool, pool)), -ENOENT);
	assert_int_equal(SAY(&client, LIST_POOLS, list_pools, ListPools, SET(pool, pool)), 0);
	assert_int_equal(client.reply->list_pools->n_pools, 1);
	client_close(&client);
	assert_int_equal(SAY(&other, STATS, stats, Stats, SET(pool, pool)), -ESTALE);
	client_close(&other);
}

static void test_dispatch_destroy(void **state)
{
	struct client client = client_greet(*state, 0), user = client_greet(*state, 4242);
	uint64_t pool = create(&client, "d", 1 << 16);

	alloc(&client, pool, 100);
	assert_int_equal(SAY(&user, DESTROY_POOL, destroy_pool, DestroyPool, SET(name, BYTES("d"))), -EACCES);
	assert_int_equal(SAY(&client, DESTROY_POOL, destroy_pool, DestroyPool), -EINVAL);
	assert_int_equal(SAY(&client, DESTROY_POOL, destroy_pool, DestroyPool, SET(name, BYTES("e"))), -ENOENT);
	assert_int_equal(SAY(&client, DESTROY_POOL, destroy_pool, DestroyPool, SET(name, BYTES("d")), SET(if_empty, 1)),
			 -ENOTEMPTY);
	assert_int_equal(SAY(&client, DESTROY_POOL, destroy_pool, DestroyPool, SET(pool, pool)), 0);
	assert_says(&client, "1 live block");
	assert_int_equal(SAY(&client, ALLOC, alloc, Alloc, SET(pool, pool), SET(size, 1)), -ESTALE);
	assert_int_equal(SAY(&client, DESTROY_POOL, destroy_pool, DestroyPool, SET(name, BYTES("d"))), -ENOENT);
	client_close(&client);
	client_close(&user);
}

/* A client that makes and destroys pools for ever keeps nothing of them. */
static void test_dispatch_destroyed_pools_leave_the_session(void **state)
{
	struct client client = client_greet(*state, 0), other = client_greet(*state, 0);

	for (int i = 0; i < 100; i++) {
		uint64_t pool = create(&client, i % 2 ? "" : "again", 4096);

		if (i % 2 == 0) {
			assert_int_equal(SAY(&other, OPEN_POOL, open_pool, OpenPool, SET(pool, pool)), 0);
		}
		assert_int_equal(SAY(&client, DESTROY_POOL, destroy_pool, DestroyPool, SET(pool, pool)), 0);
		if (i % 4 == 0) {
			assert_int_equal(SAY(&other, CLOSE_POOL, close_pool, ClosePool, SET(pool, pool)), 0);
			assert_true(other.was_slow);
			assert_int_equal(SAY(&other, CLOSE_POOL, close_pool, ClosePool, SET(pool, pool)), 0);
		}
	}
	assert_int_equal(client.peer.session->n_memberships, 0);
	assert_true(client.peer.session->n_alloced <= 8);
	assert_true(other.peer.session->n_alloced <= 8);
	client_close(&client);
	client_close(&other);
}

static void test_dispatch_resize(void **state)
{
	struct client client = client_greet(*state, 0);
	uint64_t pool;

	assert_int_equal(SAY(&client, CREATE_POOL, create_pool, CreatePool, SET(size, 65536), SET(max_size, 131072)),
			 0);
	pool = client.reply->pool->info->pool;
	assert_int_equal(SAY(&client, RESIZE_POOL, resize_pool, ResizePool, SET(pool, pool)), -EINVAL);
	assert_int_equal(SAY(&client, RESIZE_POOL, resize_pool, ResizePool, SET(pool, pool), SET(size, 65520)),
			 -EINVAL);
	assert_int_equal(SAY(&client, RESIZE_POOL, resize_pool, ResizePool, SET(pool, pool), SET(size, 131073)),
			 -ENOSPC);
	assert_int_equal(SAY(&client, RESIZE_POOL, resize_pool, ResizePool, SET(pool, pool), SET(size, 131072)), 0);
	assert_int_equal(client.reply->pool->info->total, 131072);
	client_close(&client);
}

/* ---- blocks ---- */

static void test_dispatch_requests_on_a_pool_need_membership(void **state)
{
	struct client client = client_greet(*state, 0), other = client_greet(*state, 0);
	uint64_t pool = create(&client, "m", 4096);

	assert_int_equal(SAY(&other, ALLOC, alloc, Alloc, SET(pool, pool), SET(size, 1)), -EACCES);
	assert_int_equal(SAY(&other, ALLOC, alloc, Alloc, SET(size, 1)), -EINVAL);
	assert_int_equal(SAY(&other, ALLOC, alloc, Alloc, SET(pool, 12345), SET(size, 1)), -ESTALE);
	assert_int_equal(SAY(&other, FREE, free, Free, SET(pool, pool), SET(offset, 1)), -EACCES);
	assert_int_equal(SAY(&other, REALLOC, realloc, Realloc, SET(pool, pool)), -EACCES);
	assert_int_equal(SAY(&other, ALLOC_BATCH, alloc_batch, AllocBatch, SET(pool, pool)), -EACCES);
	assert_int_equal(SAY(&other, FREE_BATCH, free_batch, FreeBatch, SET(pool, pool)), -EACCES);
	assert_int_equal(SAY(&other, PUBLISH, publish, Publish, SET(pool, pool)), -EACCES);
	assert_int_equal(SAY(&other, FIND, find, Find, SET(pool, pool)), -EACCES);
	assert_int_equal(SAY(&other, RETAIN, retain, Retain, SET(pool, pool)), -EACCES);
	assert_int_equal(SAY(&other, TAKE, take, Take, SET(pool, pool)), -EACCES);
	assert_int_equal(SAY(&other, INSPECT, inspect, Inspect, SET(pool, pool)), -EACCES);
	assert_int_equal(SAY(&other, STATS, stats, Stats, SET(pool, pool)), -EACCES);
	assert_int_equal(SAY(&other, VISUALIZE, visualize, Visualize, SET(pool, pool)), -EACCES);
	assert_int_equal(SAY(&other, LIST_EXTENTS, list_extents, ListExtents, SET(pool, pool)), -EACCES);
	assert_int_equal(SAY(&other, CHECK, check, Check, SET(pool, pool)), -EACCES);
	assert_int_equal(SAY(&other, RESIZE_POOL, resize_pool, ResizePool, SET(pool, pool)), -EACCES);
	assert_int_equal(SAY(&other, CLOSE_POOL, close_pool, ClosePool, SET(pool, pool)), -EACCES);
	client_close(&client);
	client_close(&other);
}

static void test_dispatch_alloc_and_free(void **state)
{
	struct client client = client_greet(*state, 0);
	uint64_t pool = create(&client, "b", 1 << 20), offset = alloc(&client, pool, 100);

	assert_int_equal(SAY(&client, ALLOC, alloc, Alloc, SET(pool, pool)), -EINVAL);
	assert_int_equal(SAY(&client, ALLOC, alloc, Alloc, SET(pool, pool), SET(size, 1), SET(alignment, 48)), -EINVAL);
	assert_int_equal(SAY(&client, ALLOC, alloc, Alloc, SET(pool, pool), SET(size, 1), SET(alignment, 4 << 20)),
			 -EINVAL);
	assert_int_equal(SAY(&client, ALLOC, alloc, Alloc, SET(pool, pool), SET(size, 1), SET(alignment, 65536)), 0);
	assert_int_equal(client.reply->block->offset % 65536, 0);
	assert_int_equal(SAY(&client, ALLOC, alloc, Alloc, SET(pool, pool), SET(size, 2 << 20)), -ENOSPC);
	assert_says(&client, "2.00 MiB");
	assert_int_equal(SAY(&client, FREE, free, Free, SET(pool, pool), SET(offset, 0)), 0);
	assert_int_equal(SAY(&client, FREE, free, Free, SET(pool, pool), SET(offset, offset)), 0);
	assert_int_equal(SAY(&client, FREE, free, Free, SET(pool, pool), SET(offset, offset)), -EALREADY);
	assert_int_equal(SAY(&client, FREE, free, Free, SET(pool, pool), SET(offset, offset + 1)), -EFAULT);
	assert_says(&client, "pool \"b\"");
	client_close(&client);
}

static void test_dispatch_realloc_and_inspect(void **state)
{
	struct client client = client_greet(*state, 0);
	uint64_t pool = create(&client, "r", 1 << 20), offset = alloc(&client, pool, 100);

	assert_int_equal(SAY(&client, REALLOC, realloc, Realloc, SET(pool, pool), SET(offset, offset)), -EINVAL);
	assert_int_equal(
		SAY(&client, REALLOC, realloc, Realloc, SET(pool, pool), SET(offset, offset), SET(size, 50000)), 0);
	assert_true(client.reply->block->size >= 50000);
	assert_true(client.reply->block->old_size >= 100);
	offset = client.reply->block->offset;
	assert_int_equal(SAY(&client, INSPECT, inspect, Inspect, SET(pool, pool), SET(offset, offset)), 0);
	assert_int_equal(client.reply->block->owner, client.peer.session->identity.session);
	assert_int_equal(client.reply->block->origin, client.peer.session->identity.session);
	assert_int_equal(SAY(&client, INSPECT, inspect, Inspect, SET(pool, pool), SET(offset, 16)), -EFAULT);
	client_close(&client);
}

static void test_dispatch_batches(void **state)
{
	struct client client = client_greet(*state, 0);
	uint64_t pool = create(&client, "batch", 1 << 20), offsets[5], sizes[DISPATCH_BATCH_MAX + 1];

	for (size_t i = 0; i < N_ELEMENTS(sizes); i++)
		sizes[i] = 64;
#define BATCH(n) SAY(&client, ALLOC_BATCH, alloc_batch, AllocBatch, SET(pool, pool), .n_sizes = (n), .sizes = sizes)
	assert_int_equal(BATCH(0), -EINVAL);
	assert_int_equal(BATCH(DISPATCH_BATCH_MAX + 1), -EINVAL);
	assert_int_equal(BATCH(DISPATCH_BATCH_MAX), 0);
	assert_int_equal(client.reply->blocks->n_offsets, DISPATCH_BATCH_MAX);
	memcpy(offsets, client.reply->blocks->offsets, 3 * sizeof(*offsets));
	sizes[1] = 0;
	assert_int_equal(BATCH(3), -EINVAL);
	sizes[1] = 1 << 20;
	assert_int_equal(BATCH(3), -ENOSPC);
#undef BATCH
	offsets[3] = 0;
	offsets[4] = offsets[1] + 1; /* no block: the others are freed all the same */
	assert_int_equal(
		SAY(&client, FREE_BATCH, free_batch, FreeBatch, SET(pool, pool), .n_offsets = 5, .offsets = offsets),
		-EFAULT);
	assert_int_equal(client.reply->blocks->n_offsets, 1);
	assert_int_equal(client.reply->blocks->offsets[0], offsets[4]);
	assert_int_equal(
		SAY(&client, FREE_BATCH, free_batch, FreeBatch, SET(pool, pool), .n_offsets = 1, .offsets = offsets),
		-EALREADY);
	assert_int_equal(SAY(&client, FREE_BATCH, free_batch, FreeBatch, SET(pool, pool)), -EINVAL);
	client_close(&client);
}

static void test_dispatch_names_and_holds(void **state)
{
	struct client client = client_greet(*state, 0), other = client_greet(*state, 0);
	uint64_t pool = create(&client, "n", 1 << 20), a = alloc(&client, pool, 64), b = alloc(&client, pool, 64);

	assert_int_equal(SAY(&other, OPEN_POOL, open_pool, OpenPool, SET(pool, pool)), 0);
	assert_int_equal(SAY(&client, FIND, find, Find, SET(pool, pool), SET(name, BYTES("key"))), -ENOENT);
	assert_int_equal(SAY(&client, FIND, find, Find, SET(pool, pool)), -EINVAL);
	assert_int_equal(
		SAY(&client, PUBLISH, publish, Publish, SET(pool, pool), SET(offset, a), SET(name, BYTES("/"))),
		-EINVAL);
	assert_int_equal(
		SAY(&client, PUBLISH, publish, Publish, SET(pool, pool), SET(offset, a), SET(name, BYTES("key"))), 0);
	assert_int_equal(
		SAY(&client, PUBLISH, publish, Publish, SET(pool, pool), SET(offset, b), SET(name, BYTES("key"))),
		-EEXIST);
	assert_int_equal(SAY(&other, PUBLISH, publish, Publish, SET(pool, pool), SET(offset, b)), -EPERM);
	assert_int_equal(SAY(&other, FIND, find, Find, SET(pool, pool), SET(name, BYTES("key")), SET(retain, 1)), 0);
	assert_int_equal(other.reply->block->offset, a);
	assert_int_equal(SAY(&other, RETAIN, retain, Retain, SET(pool, pool), SET(offset, b)), -EPERM);
	assert_int_equal(SAY(&other, TAKE, take, Take, SET(pool, pool), SET(offset, b), SET(from_session, 999)),
			 -ESTALE);
	assert_int_equal(SAY(&other, TAKE, take, Take, SET(pool, pool), SET(offset, b),
			     SET(from_session, client.peer.session->identity.session)),
			 0);
	assert_int_equal(SAY(&other, RETAIN, retain, Retain, SET(pool, pool), SET(offset, b)), 0);
	client_close(&client);
	client_close(&other);
}

/* ---- figures ---- */

static void test_dispatch_shows_a_pool(void **state)
{
	struct client client = client_greet(*state, 0);
	uint64_t pool = create(&client, "v", 1 << 20), total = 0;

	alloc(&client, pool, 1000);
	assert_int_equal(SAY(&client, STATS, stats, Stats, SET(pool, pool)), 0);
	assert_int_equal(client.reply->stats->total, 1 << 20);
	assert_int_equal(client.reply->stats->allocations, 1);
	assert_int_equal(SAY(&client, VISUALIZE, visualize, Visualize, SET(pool, pool)), -EINVAL);
	assert_int_equal(SAY(&client, VISUALIZE, visualize, Visualize, SET(pool, pool), SET(cells, 16385)), -EINVAL);
	assert_int_equal(
		SAY(&client, VISUALIZE, visualize, Visualize, SET(pool, pool), SET(cells, 1), SET(max_gaps, 65)),
		-EINVAL);
	assert_int_equal(
		SAY(&client, VISUALIZE, visualize, Visualize, SET(pool, pool), SET(cells, 1), SET(max_holders, 65)),
		-EINVAL);
	assert_int_equal(SAY(&client, VISUALIZE, visualize, Visualize, SET(pool, pool), SET(cells, 16384),
			     SET(max_gaps, 64), SET(max_holders, 64)),
			 0);
	assert_int_equal(client.reply->visualize->n_cell_used, 16384);
	assert_int_equal(client.reply->visualize->n_holders, 1);
	for (size_t i = 0; i < 16384; i++)
		total += client.reply->visualize->cell_used[i];
	assert_int_equal(total, client.reply->visualize->stats->used);
	assert_int_equal(SAY(&client, LIST_EXTENTS, list_extents, ListExtents, SET(pool, pool)), 0);
	total = 0;
	for (size_t i = 0; i < client.reply->list_extents->n_extents; i++)
		total += client.reply->list_extents->extents[i]->size;
	assert_int_equal(total, 1 << 20);
	assert_int_equal(client.reply->list_extents->next, 0);
	assert_int_equal(SAY(&client, CHECK, check, Check, SET(pool, pool)), 0);
	assert_int_equal(client.reply->check->n_faults, 0);
	client_close(&client);
}

static int set_up(void **state)
{
	static struct bench bench;

	bench_open(&bench);
	*state = &bench;
	return 0;
}

static int tear_down(void **state)
{
	bench_close(*state);
	return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_dispatch_##name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(wants_hello_first),
		TEST(hello_tells_how_many_may_be_in_flight),
		TEST(resume_while_stopping_is_for_the_next_daemon),
		TEST(other_version_is_closed),
		TEST(bytes_that_are_no_request_are_closed),
		TEST(ids_rise),
		TEST(unknown_kind_is_refused),
		TEST(unknown_fields_end_at_the_limit),
		TEST(request_beyond_the_arena_is_closed),
		TEST(hello_that_nobody_can_watch_leaves_nothing),
		TEST(sessions_end_at_the_quota),
		TEST(liveness_is_believed_when_the_lock_is_held),
		TEST(liveness_without_a_lock_is_refused),
		TEST(goodbye_gives_back_before_it_answers),
		TEST(list_sessions_by_session_and_pool),
		TEST(daemon_info),
		TEST(create_refuses_what_no_pool_can_be),
		TEST(create_and_open_give_the_segment),
		TEST(open_refuses),
		TEST(private_pool_goes_with_its_session),
		TEST(destroy),
		TEST(destroyed_pools_leave_the_session),
		TEST(resize),
		TEST(requests_on_a_pool_need_membership),
		TEST(alloc_and_free),
		TEST(realloc_and_inspect),
		TEST(batches),
		TEST(names_and_holds),
		TEST(shows_a_pool),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
