// SPDX-License-Identifier: MIT
/*
 * Any sequence of messages of two peers is answered by whole replies, leaves books without a fault, and gives everything
 * back in the end; with and without memory, over broken connections and restarts, whatever a client stores where it may.
 *
 * Every input meets a fresh registry: ids and offsets are the same each time, so that a found crash is found again.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/frame.h"
#include "proto/lease.h"
#include "proto/mempool.pb-c.h"
#include "server/dispatch.h"
#include "server/session.h"
#include "server/watch.h"
#include "tests/fuzz/fuzz.h"

#define REQUIRE(condition) ((condition) ? (void)0 : abort())

#define N_PEERS	    2
#define OTHER_UID   65534u
#define MIB	    (UINT64_C(1) << 20)
#define N_POOLS_MAX 64

/* ---- an allocation that fails: the linker sends malloc() of our code here (--wrap) ---- */

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *old, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *old, size_t n);

static unsigned fail_at; /* the n-th from now on; 0: none */

static bool fails(void)
{
	return fail_at && !--fail_at;
}

void *__wrap_malloc(size_t n)
{
	return fails() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *old, size_t n)
{
	return fails() ? NULL : __real_realloc(old, n);
}

/* ---- a daemon without sockets ---- */

struct world;

struct client { /* a process, and its connection of the moment */
	struct peer peer;
	bool is_closed; /* its connection is; it may make another one */
	struct world *world;
	uint64_t id;  /* of its last message */
	int lock_fd;  /* its liveness object; -1: none */
	int lease_fd; /* the lease segment that it was given last; -1: none */
};

struct world {
	uint8_t conditions;
	bool is_late;	   /* whoever wants to resume has to wait */
	bool is_scribbled; /* a lease segment says what a client wants: checks may find that */
	char instance[64];
	struct limits limits;
	struct registry *registry;
	struct sessions sessions;
	_Atomic uint32_t loop_connections[2];
	struct services services;
	struct arena arena;
	struct dispatch dispatch;
	struct watch watch; /* of each session, if they are watched: an end could be seen; nothing else is read of it */
	struct client clients[N_PEERS];
};

static_assert(sizeof(FUZZ_TOKEN) - 1 == DIRECTORY_TOKEN_BYTES, "a token");

static void set_token(struct session *session)
{
	memcpy(session->token, FUZZ_TOKEN, DIRECTORY_TOKEN_BYTES);
}

static void watch(struct world *world, struct session *session)
{
	if (world->conditions & FUZZ_CONDITION_WATCHED)
		session_set_home(session, world, &world->watch);
}

static struct client *client_of(struct peer *peer)
{
	return (void *)((char *)peer - offsetof(struct client, peer));
}

static int begun(struct peer *peer)
{
	struct world *world = client_of(peer)->world;

	if (world->conditions & FUZZ_CONDITION_REFUSE_BEGIN)
		return -EMFILE;
	watch(world, peer->session);
	return 0;
}

/* As the watch does it, but that what the old connection had running is through at once, or (late) never. */
static int resume(struct peer *peer, struct session *session, void *home)
{
	struct world *world = client_of(peer)->world;

	(void)home;
	if (world->is_late)
		return DISPATCH_E_LATER;
	if (!session_is_of(session, &peer->identity))
		return -EACCES;
	for (int i = 0; i < N_PEERS; i++) {
		if (world->clients[i].peer.session == session) {
			world->clients[i].peer.session = NULL;
			world->clients[i].is_closed = true;
		}
	}
	watch(world, session);
	atomic_store(&session->state, SESSION_ACTIVE);
	return 0;
}

static void connect_client(struct world *world, struct client *client)
{
	bool is_second = client != world->clients;
	uint32_t *groups = __real_malloc(2 * sizeof(*groups));

	REQUIRE(groups);
	groups[0] = 100;
	groups[1] = 101;
	client->is_closed = false;
	client->peer = (struct peer){
		.identity = {.uid = is_second ? OTHER_UID : geteuid(),
			     .gid = is_second ? OTHER_UID : getegid(),
			     .groups = groups,
			     .n_groups = 2,
			     .pid = getpid(),
			     .command = "fuzz"},
		.begun = begun,
		.resume = resume,
	};
	client->peer.account = quota_account_of(registry_quota(world->registry), client->peer.identity.uid);
	REQUIRE(client->peer.account);
}

/* Its session stays, unless it has ended. */
static void disconnect_client(struct client *client)
{
	struct session *session = client->peer.session;

	if (session && session->is_ended)
		session_free(session);
	else if (session)
		atomic_store(&session->state, SESSION_AWAY);
	client->peer.session = NULL;
	client->is_closed = true;
	peer_deinit(&client->peer);
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void start_daemon(struct world *world)
{
	const struct registry_config config = {.instance = world->instance,
					       .budget_bytes = 16 * MIB,
					       .decay_ms = 1000,
					       .quota_limit = {MIB, 2, 1, 64, 4}};
	int n_swept;

	REQUIRE(!registry_open(&world->registry, &config, &n_swept) && !n_swept);
	REQUIRE(!registry_recovery(world->registry)->n_refused);
	REQUIRE(!sessions_init(&world->sessions, world->registry));
	REQUIRE(!sessions_recover(&world->sessions, world->instance));
	world->services = (struct services){
		.registry = world->registry,
		.sessions = &world->sessions,
		.instance = world->instance,
		.loop_connections = world->loop_connections,
		.n_loops = N_PEERS,
		.is_stopping = world->conditions & FUZZ_CONDITION_STOPPING,
	};
}

static void open_world(struct world *world, uint8_t conditions)
{
	snprintf(world->instance, sizeof(world->instance), "fuzz-%d", (int)getpid());
	world->conditions = conditions;
	world->watch.pidfd = STDIN_FILENO;
	limits_default(&world->limits);
	start_daemon(world);
	REQUIRE(!arena_init(&world->arena, world->limits.decode_arena,
			    conditions & FUZZ_CONDITION_FEW_OBJECTS ? 6 : world->limits.decode_objects));
	world->dispatch =
		(struct dispatch){.services = &world->services, .limits = &world->limits, .arena = &world->arena};
	for (int i = 0; i < N_PEERS; i++) {
		world->clients[i] = (struct client){.world = world, .lock_fd = -1, .lease_fd = -1};
		connect_client(world, &world->clients[i]);
	}
}

static void check_pools(struct world *world)
{
	struct pool *pools[N_POOLS_MAX];
	uint32_t n = registry_list(world->registry, 0, pools, N_POOLS_MAX);

	for (uint32_t i = 0; i < n; i++) {
		struct pool_fault faults[4];
		struct pool_stats stats;

		pool_stats(pools[i], &stats);
		REQUIRE(stats.used + stats.free + stats.leased_idle == stats.total);
		if (pool_check(pools[i], faults, 4) && !world->is_scribbled) {
			fprintf(stderr, "pool %u at 0x%llx: %s\n", i, (unsigned long long)faults[0].offset,
				faults[0].what);
			abort();
		}
		pool_unref(pools[i]);
	}
}

static void restart(struct world *world)
{
	struct session *session, *next;

	for (int i = 0; i < N_PEERS; i++)
		disconnect_client(&world->clients[i]);
	while ((session = sessions_first(&world->sessions))) {
		session_set_home(session, NULL, NULL);
		session_keep(session);
		session_free(session);
	}
	sessions_deinit(&world->sessions);
	registry_keep(world->registry);
	start_daemon(world);
	for (session = sessions_first(&world->sessions); session; session = next) {
		next = sessions_next(&world->sessions, session);
		set_token(session);
		if (atomic_load(&session->state) == SESSION_ENDING) {
			session_end(session);
			session_free(session);
		}
	}
	check_pools(world);
	for (int i = 0; i < N_PEERS; i++)
		connect_client(world, &world->clients[i]);
}

static void close_world(struct world *world)
{
	struct session *session;

	for (int i = 0; i < N_PEERS; i++) {
		disconnect_client(&world->clients[i]);
		close_fd(&world->clients[i].lock_fd);
		close_fd(&world->clients[i].lease_fd);
	}
	while ((session = sessions_first(&world->sessions))) {
		session_end(session);
		session_free(session);
	}
	for (int i = 0; i < N_PEERS; i++)
		REQUIRE(!world->clients[i].peer.account->used[QUOTA_SESSIONS]);
	check_pools(world);
	arena_deinit(&world->arena);
	sessions_deinit(&world->sessions);
	registry_close(world->registry);
}

/* ---- steps ---- */

/* The id that @message carries; 0: none that can be answered. */
static uint64_t id_of(const uint8_t *message, size_t n_bytes)
{
	Mempool__Wire__Request *request = mempool__wire__request__unpack(NULL, n_bytes, message);
	uint64_t id = request ? request->id : 0;

	mempool__wire__request__free_unpacked(request, NULL);
	return id;
}

/* What the client keeps of a reply, and of the descriptor that came with it. */
static void take_reply(struct client *client, const Mempool__Wire__Reply *reply, struct reply_buffer *out)
{
	int *fd = NULL;

	if (reply->result_case == MEMPOOL__WIRE__REPLY__RESULT_HELLO) {
		fd = &client->lock_fd;
		set_token(client->peer.session);
	} else if (reply->result_case == MEMPOOL__WIRE__REPLY__RESULT_HEAP) {
		fd = &client->lease_fd;
	}
	if (fd && out->fd >= 0) {
		close_fd(fd);
		*fd = out->fd;
		out->fd = -1;
	}
}

/* Of one request at most one reply, whole, with its id and with the descriptor that it speaks of. */
static void check_reply(struct client *client, struct reply_buffer *out, int result, uint64_t id)
{
	Mempool__Wire__Reply *reply;
	uint32_t n_frame;

	if (result < 0 || result == DISPATCH_E_SLOW || result == DISPATCH_E_LATER) {
		REQUIRE(out->n_bytes == 0 && out->fd < 0);
		return;
	}
	REQUIRE(!frame_peek(out->data, out->n_bytes, FRAME_REPLY_BYTES_MAX, &n_frame));
	REQUIRE(out->n_bytes == FRAME_HEADER_BYTES + n_frame);
	reply = mempool__wire__reply__unpack(NULL, n_frame, out->data + FRAME_HEADER_BYTES);
	REQUIRE(reply && reply->has_id);
	REQUIRE(reply->status <= 0 && (!reply->status || (reply->message && *reply->message)));
	REQUIRE(reply->id == id || (!reply->id && result == DISPATCH_E_CLOSE));
	REQUIRE((reply->n_fds != 0) == (out->fd >= 0));
	take_reply(client, reply, out);
	mempool__wire__reply__free_unpacked(reply, NULL);
}

static void run_message(struct client *client, const uint8_t *message, size_t n_bytes, uint8_t step, uint8_t nth)
{
	struct world *world = client->world;
	struct reply_buffer out = REPLY_BUFFER_NULL;
	uint64_t id = id_of(message, n_bytes);
	int r;

	world->is_late = step & FUZZ_STEP_NOW;
	fail_at = step & FUZZ_STEP_BREAK ? nth : 0;
	r = dispatch_request(&world->dispatch, &client->peer, message, n_bytes, 0, &out);
	if (r == DISPATCH_E_SLOW && !(step & FUZZ_STEP_NOW)) {
		REQUIRE(out.n_bytes == 0 && out.fd < 0);
		r = dispatch_request(&world->dispatch, &client->peer, message, n_bytes, DISPATCH_MAY_BLOCK, &out);
		REQUIRE(r != DISPATCH_E_SLOW);
	}
	fail_at = 0;
	check_reply(client, &out, r, id);
	if (r == DISPATCH_E_CLOSE || r < 0)
		client->is_closed = true;
	if (client->id < client->peer.last_id)
		client->id = client->peer.last_id;
	reply_buffer_deinit(&out);
}

/* The last value of a field counts, so an id behind the message is its id, unless the message ends in the middle. */
static void run_with_id(struct client *client, const uint8_t *message, size_t n_bytes, uint8_t step, uint8_t nth)
{
	uint64_t id = step & FUZZ_STEP_AGAIN ? client->id : client->id + 1;
	uint8_t *copy = __real_malloc(n_bytes + 1 + 10);

	REQUIRE(copy);
	memcpy(copy, message, n_bytes);
	copy[n_bytes++] = 0x08;
	for (; id >= 0x80; id >>= 7)
		copy[n_bytes++] = (uint8_t)(id | 0x80);
	copy[n_bytes++] = (uint8_t)id;
	run_message(client, copy, n_bytes, step, nth);
	free(copy);
}

/* What a client may do to the lease segment without asking; where things are it finds as a client does. */
static void scribble(struct client *client, const uint8_t *data, size_t n_bytes)
{
	struct lease_header header;
	struct fuzz_scribble what;
	struct stat st;

	if (client->lease_fd < 0 || n_bytes != sizeof(what))
		return;
	memcpy(&what, data, sizeof(what));
	REQUIRE(!fstat(client->lease_fd, &st));
	REQUIRE(pread(client->lease_fd, &header, sizeof(header), 0) == (ssize_t)sizeof(header));
	const uint64_t parts[FUZZ_PART_N] = {header.words_at, header.slabs_at, header.pages_at, header.heaps_at, 0};
	uint64_t at = parts[what.part % FUZZ_PART_N] + (what.at & ~1u);

	if (at >= (uint64_t)st.st_size) /* the header says what a client stored there */
		return;
	REQUIRE(pwrite(client->lease_fd, &what.word, sizeof(what.word), (off_t)at) == (ssize_t)sizeof(what.word));
	client->world->is_scribbled = true;
}

/* What happens before the message is there. */
static void run_event(struct client *client, uint8_t step)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};

	/* Of the open file, not of the process: the daemon, which is in this process, must see it as another's. */
	if (step & FUZZ_STEP_LOCK && client->lock_fd >= 0)
		REQUIRE(!fcntl(client->lock_fd, F_OFD_SETLK, &lock));
	if (step & FUZZ_STEP_RESTART) {
		restart(client->world);
	} else if (step & FUZZ_STEP_BROKEN) {
		disconnect_client(client);
		connect_client(client->world, client);
	}
}

/* Return: bytes taken; 0: no whole step is left. */
static size_t run_step(struct world *world, const uint8_t *data, size_t n_left)
{
	struct client *client;
	uint8_t step, nth = 0;
	size_t at = 0, n_message;

	if (n_left < 4)
		return 0;
	step = data[at++];
	if (step & FUZZ_STEP_BREAK)
		nth = data[at++];
	if (n_left - at < 2)
		return 0;
	n_message = (size_t)data[at] | (size_t)data[at + 1] << 8;
	at += 2;
	if (n_message > n_left - at)
		n_message = n_left - at;
	client = &world->clients[step & FUZZ_STEP_SECOND];
	run_event(client, step);
	if ((step & FUZZ_STEP_SCRIBBLE) == FUZZ_STEP_SCRIBBLE)
		scribble(client, data + at, n_message);
	else if (client->is_closed)
		;
	else if (step & FUZZ_STEP_RAW)
		run_message(client, data + at, n_message, step, nth);
	else
		run_with_id(client, data + at, n_message, step, nth);
	return at + n_message;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
	struct world world = {0};
	size_t n;

	if (!n_bytes || n_bytes > 1 << 16)
		return 0;
	log_open(LOG_LEVEL_ERROR); /* refusals are what this is about */
	open_world(&world, data[0]);
	for (size_t at = 1; (n = run_step(&world, data + at, n_bytes - at)); at += n)
		;
	close_world(&world);
	return 0;
}
