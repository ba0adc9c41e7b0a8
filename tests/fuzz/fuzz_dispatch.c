// SPDX-License-Identifier: MIT
/*
 * Any sequence of messages of two peers is answered by whole replies, leaves books without a fault, and gives everything
 * back in the end; with and without memory.
 *
 * Every input meets a fresh registry: ids and offsets are the same each time, so that a found crash is found again.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/frame.h"
#include "proto/mempool.pb-c.h"
#include "server/dispatch.h"
#include "server/session.h"
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

struct world {
	struct limits limits;
	struct registry *registry;
	struct sessions sessions;
	_Atomic uint32_t loop_connections[2];
	struct services services;
	struct arena arena;
	struct dispatch dispatch;
	struct peer peers[N_PEERS];
	bool is_closed[N_PEERS];
};

static int refuse_begin(struct peer *peer)
{
	(void)peer;
	return -EMFILE;
}

static void open_peer(struct world *world, int i, uint8_t conditions)
{
	struct peer *peer = &world->peers[i];
	uint32_t *groups = malloc(2 * sizeof(*groups));

	REQUIRE(groups);
	groups[0] = 100;
	groups[1] = 101;
	*peer = (struct peer){
		.identity = {.uid = i ? OTHER_UID : geteuid(),
			     .gid = i ? OTHER_UID : getegid(),
			     .groups = groups,
			     .n_groups = 2,
			     .pid = getpid(),
			     .command = "fuzz"},
		.begun = conditions & FUZZ_CONDITION_REFUSE_BEGIN ? refuse_begin : NULL,
	};
	peer->account = quota_account_of(registry_quota(world->registry), peer->identity.uid);
	REQUIRE(peer->account);
}

static void open_world(struct world *world, uint8_t conditions)
{
	static char instance[64];
	struct registry_config config = {
		.instance = instance, .budget_bytes = 16 * MIB, .decay_ms = 1000, .quota_limit = {MIB, 2, 1, 64, 4}};
	int n_swept;

	snprintf(instance, sizeof(instance), "fuzz-%d", (int)getpid());
	limits_default(&world->limits);
	REQUIRE(!registry_open(&world->registry, &config, &n_swept));
	REQUIRE(!sessions_init(&world->sessions, world->registry));
	world->services = (struct services){
		.registry = world->registry,
		.sessions = &world->sessions,
		.instance = instance,
		.loop_connections = world->loop_connections,
		.n_loops = N_PEERS,
	};
	REQUIRE(!arena_init(&world->arena, world->limits.decode_arena,
			    conditions & FUZZ_CONDITION_FEW_OBJECTS ? 6 : world->limits.decode_objects));
	world->dispatch =
		(struct dispatch){.services = &world->services, .limits = &world->limits, .arena = &world->arena};
	for (int i = 0; i < N_PEERS; i++)
		open_peer(world, i, conditions);
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
		if (pool_check(pools[i], faults, 4)) {
			fprintf(stderr, "pool %u at 0x%llx: %s\n", i, (unsigned long long)faults[0].offset,
				faults[0].what);
			abort();
		}
		pool_unref(pools[i]);
	}
}

static void close_world(struct world *world)
{
	for (int i = 0; i < N_PEERS; i++) {
		if (world->peers[i].session) {
			session_end(world->peers[i].session);
			session_free(world->peers[i].session);
		}
		for (int kind = QUOTA_SESSIONS; kind <= QUOTA_SESSIONS; kind++)
			REQUIRE(!world->peers[i].account->used[kind]);
		peer_deinit(&world->peers[i]);
	}
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

/* Of one request at most one reply, whole, with its id and with the descriptor that it speaks of. */
static void check_reply(const struct reply_buffer *out, int result, uint64_t id)
{
	Mempool__Wire__Reply *reply;
	uint32_t n_frame;

	if (result < 0 || result == DISPATCH_E_SLOW) {
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
	mempool__wire__reply__free_unpacked(reply, NULL);
}

static void run_message(struct world *world, int i, const uint8_t *message, size_t n_bytes, uint8_t step, uint8_t nth)
{
	struct reply_buffer out = REPLY_BUFFER_NULL;
	uint64_t id = id_of(message, n_bytes);
	int r;

	fail_at = step & FUZZ_STEP_BREAK ? nth : 0;
	r = dispatch_request(&world->dispatch, &world->peers[i], message, n_bytes, 0, &out);
	if (r == DISPATCH_E_SLOW && !(step & FUZZ_STEP_NOW)) {
		REQUIRE(out.n_bytes == 0 && out.fd < 0);
		r = dispatch_request(&world->dispatch, &world->peers[i], message, n_bytes, DISPATCH_MAY_BLOCK, &out);
		REQUIRE(r != DISPATCH_E_SLOW);
	}
	fail_at = 0;
	check_reply(&out, r, id);
	if (r == DISPATCH_E_CLOSE || r < 0)
		world->is_closed[i] = true;
	reply_buffer_deinit(&out);
}

/* The last value of a field counts, so an id behind the message is its id, unless the message ends in the middle. */
static void run_with_id(struct world *world, int i, const uint8_t *message, size_t n_bytes, uint8_t step, uint8_t nth)
{
	uint64_t id = world->peers[i].last_id + 1;
	uint8_t *copy = __real_malloc(n_bytes + 1 + 10);

	REQUIRE(copy);
	memcpy(copy, message, n_bytes);
	copy[n_bytes++] = 0x08;
	for (; id >= 0x80; id >>= 7)
		copy[n_bytes++] = (uint8_t)(id | 0x80);
	copy[n_bytes++] = (uint8_t)id;
	run_message(world, i, copy, n_bytes, step, nth);
	free(copy);
}

/* Return: bytes taken; 0: no whole step is left. */
static size_t run_step(struct world *world, const uint8_t *data, size_t n_left)
{
	uint8_t step, nth = 0;
	size_t at = 0, n_message;
	int i;

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
	i = step & FUZZ_STEP_SECOND;
	if (world->is_closed[i])
		return at + n_message;
	if (step & FUZZ_STEP_RAW)
		run_message(world, i, data + at, n_message, step, nth);
	else
		run_with_id(world, i, data + at, n_message, step, nth);
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
