// SPDX-License-Identifier: MIT
/*
 * fuzz_seed FOLDER FOLDER: what the fuzzers start from: each request once as it is meant and once as it is refused; and ledgers
 *
 * Every input is a story: Hello, a pool with a block in it, and then the request; so that a mutation of it still is one.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/mempool.pb-c.h"
#include "tests/fuzz/fuzz.h"

#define W(name) Mempool__Wire__##name
#define BYTES(text)                                                           \
	{                                                                     \
		.len = sizeof(text) - 1, .data = (uint8_t *)(uintptr_t)(text) \
	}
#define SET(field, value)      .has_##field = 1, .field = (value)
#define SET_BYTES(field, text) .has_##field = 1, .field = BYTES(text)
#define OP(KIND, field, Type, ...)                                                                    \
	&(W(Request))                                                                                 \
	{                                                                                             \
		.base = PROTOBUF_C_MESSAGE_INIT(&mempool__wire__request__descriptor),                 \
		.op_case = MEMPOOL__WIRE__REQUEST__OP_##KIND,                                         \
		.field = &(W(Type)){.base = PROTOBUF_C_MESSAGE_INIT(DESCRIPTOR_##KIND), __VA_ARGS__}, \
	}

#define DESCRIPTOR_HELLO	 &mempool__wire__hello__descriptor
#define DESCRIPTOR_GOODBYE	 &mempool__wire__goodbye__descriptor
#define DESCRIPTOR_LIVENESS	 &mempool__wire__liveness__descriptor
#define DESCRIPTOR_CREATE_POOL	 &mempool__wire__create_pool__descriptor
#define DESCRIPTOR_OPEN_POOL	 &mempool__wire__open_pool__descriptor
#define DESCRIPTOR_CLOSE_POOL	 &mempool__wire__close_pool__descriptor
#define DESCRIPTOR_DESTROY_POOL	 &mempool__wire__destroy_pool__descriptor
#define DESCRIPTOR_RESIZE_POOL	 &mempool__wire__resize_pool__descriptor
#define DESCRIPTOR_LIST_POOLS	 &mempool__wire__list_pools__descriptor
#define DESCRIPTOR_ALLOC	 &mempool__wire__alloc__descriptor
#define DESCRIPTOR_FREE		 &mempool__wire__free__descriptor
#define DESCRIPTOR_REALLOC	 &mempool__wire__realloc__descriptor
#define DESCRIPTOR_ALLOC_BATCH	 &mempool__wire__alloc_batch__descriptor
#define DESCRIPTOR_FREE_BATCH	 &mempool__wire__free_batch__descriptor
#define DESCRIPTOR_PUBLISH	 &mempool__wire__publish__descriptor
#define DESCRIPTOR_FIND		 &mempool__wire__find__descriptor
#define DESCRIPTOR_RETAIN	 &mempool__wire__retain__descriptor
#define DESCRIPTOR_TAKE		 &mempool__wire__take__descriptor
#define DESCRIPTOR_INSPECT	 &mempool__wire__inspect__descriptor
#define DESCRIPTOR_OPEN_HEAP	 &mempool__wire__open_heap__descriptor
#define DESCRIPTOR_LEASE_SLABS	 &mempool__wire__lease_slabs__descriptor
#define DESCRIPTOR_RETURN_SLABS	 &mempool__wire__return_slabs__descriptor
#define DESCRIPTOR_STATS	 &mempool__wire__stats__descriptor
#define DESCRIPTOR_VISUALIZE	 &mempool__wire__visualize__descriptor
#define DESCRIPTOR_LIST_EXTENTS	 &mempool__wire__list_extents__descriptor
#define DESCRIPTOR_CHECK	 &mempool__wire__check__descriptor
#define DESCRIPTOR_LIST_SESSIONS &mempool__wire__list_sessions__descriptor
#define DESCRIPTOR_DAEMON_INFO	 &mempool__wire__daemon_info__descriptor
#define DESCRIPTOR_LOG		 &mempool__wire__log__descriptor
#define DESCRIPTOR_PING		 &mempool__wire__ping__descriptor

/* ---- inputs ---- */

static FILE *story;

static void begin(const char *folder, uint8_t conditions)
{
	static unsigned n_stories;
	char path[4096];

	if (story && fclose(story))
		abort();
	snprintf(path, sizeof(path), "%s/seed-%03u", folder, n_stories++);
	story = fopen(path, "we");
	if (!story) {
		perror(path);
		exit(1);
	}
	fputc(conditions, story);
}

static void tell(uint8_t step, const W(Request) * request)
{
	size_t n = mempool__wire__request__get_packed_size(request);
	uint8_t *message = malloc(n);

	if (!message)
		abort();
	mempool__wire__request__pack(request, message);
	fputc(step, story);
	if (step & FUZZ_STEP_BREAK)
		fputc(1, story);
	fputc((int)(n & 0xff), story);
	fputc((int)(n >> 8), story);
	fwrite(message, 1, n, story);
	free(message);
}

/* More fields that nobody knows than are ignored: numbers from 100 on, each with the value 0. */
static void tell_unknown(uint8_t n)
{
	fputc(0, story);
	fputc(3 * n, story);
	fputc(0, story);
	for (uint8_t i = 0; i < n; i++) {
		unsigned key = (100u + i) << 3; /* a varint */

		fputc((int)(key & 0x7f) | 0x80, story);
		fputc((int)(key >> 7), story);
		fputc(0, story);
	}
}

static const W(Request) *const hello = OP(HELLO, hello, Hello, SET(version_min, 1), SET(version_max, 1));

/* Both peers are there, pool 1 is open to both, and the first has a block at its start. */
static void set_scene(const char *folder)
{
	begin(folder, 0);
	tell(0, hello);
	tell(0, OP(CREATE_POOL, create_pool, CreatePool, SET_BYTES(name, "pool"), SET(size, 65536),
		   SET(max_size, 1 << 18), SET(mode, 0666)));
	tell(0, OP(ALLOC, alloc, Alloc, SET(pool, 1), SET(size, 100)));
	tell(FUZZ_STEP_SECOND, hello);
	tell(FUZZ_STEP_SECOND, OP(OPEN_POOL, open_pool, OpenPool, SET_BYTES(name, "pool")));
	tell(FUZZ_STEP_SECOND, OP(ALLOC, alloc, Alloc, SET(pool, 1), SET(size, 5000), SET(alignment, 4096)));
}

/* In the scene: by one peer, by the other, by the first once it has no memory. */
static void each(const char *folder, const W(Request) * request)
{
	set_scene(folder);
	tell(0, request);
	tell(FUZZ_STEP_SECOND, request);
	set_scene(folder);
	tell(FUZZ_STEP_BREAK, request);
	tell(FUZZ_STEP_NOW, request);
}

/* ---- requests ---- */

static void sessions(const char *folder)
{
	begin(folder, 0);
	tell(0, OP(PING, ping, Ping));
	tell(0, OP(HELLO, hello, Hello));
	tell(0, OP(HELLO, hello, Hello, SET(version_min, 2), SET(version_max, 3)));
	begin(folder, 0);
	tell(0, OP(HELLO, hello, Hello, SET(version_min, 1), SET(version_max, 1), SET(wants_liveness, 1)));
	tell(0, OP(LIVENESS, liveness, Liveness));
	begin(folder, FUZZ_CONDITION_REFUSE_BEGIN);
	tell(0, OP(HELLO, hello, Hello, SET(version_min, 1), SET(version_max, 1), SET(wants_liveness, 1)));
	begin(folder, 0);
	tell(FUZZ_STEP_BREAK, hello);
	tell(0, hello);
	begin(folder, FUZZ_CONDITION_FEW_OBJECTS);
	tell(0, hello);
	tell(0, OP(ALLOC_BATCH, alloc_batch, AllocBatch, SET(pool, 1), .n_sizes = 3, .sizes = (uint64_t[]){1, 2, 3}));
	begin(folder, 0);
	tell(FUZZ_STEP_RAW, hello); /* no id */
	begin(folder, 0);
	tell_unknown(40);
	each(folder, hello);
	each(folder, OP(LIVENESS, liveness, Liveness));
	each(folder, OP(GOODBYE, goodbye, Goodbye));
	each(folder, OP(PING, ping, Ping));
	each(folder, OP(DAEMON_INFO, daemon_info, DaemonInfo));
	each(folder, OP(LOG, log, Log, SET_BYTES(name, "pool")));
	each(folder, OP(LOG, log, Log, SET(pool, 1), SET(after, 2)));
	each(folder, OP(LIST_SESSIONS, list_sessions, ListSessions));
	each(folder, OP(LIST_SESSIONS, list_sessions, ListSessions, SET_BYTES(name, "pool"), SET(after_session, 1)));
	each(folder, OP(LIST_SESSIONS, list_sessions, ListSessions, SET_BYTES(name, "poll")));
	each(folder, &(W(Request))MEMPOOL__WIRE__REQUEST__INIT);
}

static void pools(const char *folder)
{
	static const char *const bad_names[] = {"", ".", "a/b"};

	for (size_t i = 0; i < 3; i++)
		each(folder, OP(CREATE_POOL, create_pool, CreatePool, .has_name = 1,
				.name = {.len = strlen(bad_names[i]), .data = (uint8_t *)(uintptr_t)bad_names[i]},
				SET(size, 4096)));
	each(folder, OP(CREATE_POOL, create_pool, CreatePool, SET_BYTES(name, "pool"), SET(size, 4096)));
	each(folder, OP(CREATE_POOL, create_pool, CreatePool, SET(size, 4096), SET(guard, 1), SET(reserve, 1),
			SET(lifetime, 1), SET(fill, 1), SET(lease, 1), SET(gid, 100)));
	each(folder, OP(CREATE_POOL, create_pool, CreatePool, SET(size, 4096), SET(gid, 7)));
	each(folder, OP(CREATE_POOL, create_pool, CreatePool, SET(size, 0)));
	each(folder, OP(CREATE_POOL, create_pool, CreatePool, SET(size, 4096), SET(max_size, 1)));
	each(folder, OP(CREATE_POOL, create_pool, CreatePool, SET(size, 4096), SET(mode, 01777)));
	each(folder, OP(CREATE_POOL, create_pool, CreatePool, SET(size, 4096), SET(fill, 7)));
	each(folder, OP(CREATE_POOL, create_pool, CreatePool, SET(size, UINT64_MAX)));
	each(folder, OP(CREATE_POOL, create_pool, CreatePool, SET(size, 1 << 30), SET(reserve, 1)));
	each(folder, OP(OPEN_POOL, open_pool, OpenPool, SET_BYTES(name, "pool")));
	each(folder, OP(OPEN_POOL, open_pool, OpenPool, SET_BYTES(name, "poll")));
	each(folder, OP(OPEN_POOL, open_pool, OpenPool, SET_BYTES(name, "unlike")));
	each(folder, OP(OPEN_POOL, open_pool, OpenPool, SET(pool, 1)));
	each(folder, OP(OPEN_POOL, open_pool, OpenPool, SET(pool, 9)));
	each(folder, OP(OPEN_POOL, open_pool, OpenPool));
	each(folder, OP(CLOSE_POOL, close_pool, ClosePool, SET(pool, 1)));
	each(folder, OP(CLOSE_POOL, close_pool, ClosePool));
	each(folder, OP(DESTROY_POOL, destroy_pool, DestroyPool, SET_BYTES(name, "pool")));
	each(folder, OP(DESTROY_POOL, destroy_pool, DestroyPool, SET(pool, 1), SET(if_empty, 1)));
	each(folder, OP(RESIZE_POOL, resize_pool, ResizePool, SET(pool, 1), SET(size, 1 << 17)));
	each(folder, OP(RESIZE_POOL, resize_pool, ResizePool, SET(pool, 1), SET(size, 1 << 20)));
	each(folder, OP(RESIZE_POOL, resize_pool, ResizePool, SET(pool, 1), SET(size, 0)));
	each(folder, OP(LIST_POOLS, list_pools, ListPools));
	each(folder, OP(LIST_POOLS, list_pools, ListPools, SET_BYTES(name, "pool")));
	each(folder, OP(LIST_POOLS, list_pools, ListPools, SET(pool, 2)));

	/* A private pool is its session's alone; a closed and a destroyed one. */
	set_scene(folder);
	tell(0, OP(CREATE_POOL, create_pool, CreatePool, SET(size, 4096)));
	tell(0, OP(ALLOC, alloc, Alloc, SET(pool, 2), SET(size, 5000)));
	tell(0, OP(OPEN_POOL, open_pool, OpenPool, SET(pool, 2)));
	tell(FUZZ_STEP_SECOND, OP(OPEN_POOL, open_pool, OpenPool, SET(pool, 2)));
	tell(FUZZ_STEP_SECOND, OP(ALLOC, alloc, Alloc, SET(pool, 2), SET(size, 1)));
	tell(0, OP(DESTROY_POOL, destroy_pool, DestroyPool, SET(pool, 1)));
	tell(FUZZ_STEP_SECOND, OP(ALLOC, alloc, Alloc, SET(pool, 1), SET(size, 1)));
	tell(FUZZ_STEP_SECOND, OP(OPEN_POOL, open_pool, OpenPool, SET(pool, 1)));
	tell(FUZZ_STEP_SECOND, OP(CLOSE_POOL, close_pool, ClosePool, SET(pool, 1)));
	tell(FUZZ_STEP_SECOND, OP(ALLOC, alloc, Alloc, SET(pool, 1), SET(size, 1)));

	/* A pool that the second user may not open; what is asked of one that is gone, or was never opened. */
	set_scene(folder);
	tell(0, OP(CREATE_POOL, create_pool, CreatePool, SET_BYTES(name, "mine"), SET(size, 4096)));
	tell(FUZZ_STEP_SECOND, OP(OPEN_POOL, open_pool, OpenPool, SET_BYTES(name, "mine")));
	tell(FUZZ_STEP_SECOND, OP(LOG, log, Log, SET_BYTES(name, "mine")));
	tell(FUZZ_STEP_SECOND, OP(CLOSE_POOL, close_pool, ClosePool, SET(pool, 2)));
	tell(FUZZ_STEP_SECOND, OP(RESIZE_POOL, resize_pool, ResizePool, SET(pool, 2), SET(size, 8192)));
	tell(0, OP(DESTROY_POOL, destroy_pool, DestroyPool, SET_BYTES(name, "pool")));
	tell(FUZZ_STEP_SECOND, OP(STATS, stats, Stats, SET(pool, 1)));
	tell(FUZZ_STEP_SECOND,
	     OP(FREE_BATCH, free_batch, FreeBatch, SET(pool, 1), .n_offsets = 1, .offsets = (uint64_t[]){4096}));
	tell(FUZZ_STEP_SECOND, OP(LOG, log, Log, SET(pool, 1)));
	tell(FUZZ_STEP_SECOND, OP(LOG, log, Log, SET_BYTES(name, "/")));

	/* More pools than the second peer's quota allows, and more than an array of memberships begins with. */
	set_scene(folder);
	for (int i = 0; i < 9; i++) {
		tell(0, OP(CREATE_POOL, create_pool, CreatePool, SET(size, 16), SET(mode, 0666)));
		tell(FUZZ_STEP_SECOND, OP(CREATE_POOL, create_pool, CreatePool, SET(size, 16)));
	}
	set_scene(folder);
	for (uint8_t i = 0; i < 9; i++) {
		char name[] = {'p', (char)('0' + i)};
		ProtobufCBinaryData bytes = {.len = 2, .data = (uint8_t *)name};

		tell(0, OP(CREATE_POOL, create_pool, CreatePool, .has_name = 1, .name = bytes, SET(size, 16),
			   SET(mode, 0666)));
		tell(FUZZ_STEP_SECOND, OP(OPEN_POOL, open_pool, OpenPool, .has_name = 1, .name = bytes));
	}
}

static void blocks(const char *folder)
{
	static uint64_t many[5000];
	static const uint64_t offsets[] = {4096, 4112, 8192, 1 << 20};

	for (size_t i = 0; i < 5000; i++)
		many[i] = 16;
	each(folder, OP(ALLOC, alloc, Alloc));
	each(folder, OP(ALLOC, alloc, Alloc, SET(pool, 1)));
	each(folder, OP(ALLOC, alloc, Alloc, SET(pool, 1), SET(size, 16), SET(alignment, 3)));
	each(folder, OP(ALLOC, alloc, Alloc, SET(pool, 1), SET(size, 1 << 20)));
	each(folder,
	     OP(ALLOC_BATCH, alloc_batch, AllocBatch, SET(pool, 1), .n_sizes = 3, .sizes = (uint64_t[]){1, 200, 3000}));
	each(folder, OP(ALLOC_BATCH, alloc_batch, AllocBatch, SET(pool, 1), .n_sizes = 2, .sizes = (uint64_t[]){1, 0}));
	each(folder, OP(ALLOC_BATCH, alloc_batch, AllocBatch, SET(pool, 1), .n_sizes = 100, .sizes = many));
	each(folder, OP(ALLOC_BATCH, alloc_batch, AllocBatch, SET(pool, 1), .n_sizes = 5000, .sizes = many));
	each(folder, OP(FREE_BATCH, free_batch, FreeBatch, SET(pool, 1), .n_offsets = 4,
			.offsets = (uint64_t *)(uintptr_t)offsets));
	each(folder, OP(FREE_BATCH, free_batch, FreeBatch, SET(pool, 1)));
	each(folder, OP(FIND, find, Find, SET(pool, 1), SET_BYTES(name, "key")));
	each(folder, OP(FIND, find, Find, SET(pool, 1)));
	for (size_t i = 0; i < 4; i++) {
		uint64_t at = offsets[i];

		each(folder, OP(FREE, free, Free, SET(pool, 1), SET(offset, at)));
		each(folder, OP(REALLOC, realloc, Realloc, SET(pool, 1), SET(offset, at), SET(size, 9000)));
		each(folder, OP(REALLOC, realloc, Realloc, SET(pool, 1), SET(offset, at), SET(size, 1 << 20)));
		each(folder, OP(REALLOC, realloc, Realloc, SET(pool, 1), SET(offset, at)));
		each(folder, OP(RETAIN, retain, Retain, SET(pool, 1), SET(offset, at)));
		each(folder, OP(TAKE, take, Take, SET(pool, 1), SET(offset, at), SET(from_session, 1)));
		each(folder, OP(TAKE, take, Take, SET(pool, 1), SET(offset, at), SET(from_session, 2)));
		each(folder, OP(INSPECT, inspect, Inspect, SET(pool, 1), SET(offset, at)));
		each(folder, OP(PUBLISH, publish, Publish, SET(pool, 1), SET(offset, at)));
		each(folder, OP(PUBLISH, publish, Publish, SET(pool, 1), SET(offset, at), SET_BYTES(name, "..")));
		set_scene(folder);
		for (uint8_t who = 0; who < 2; who++) {
			tell(who, OP(PUBLISH, publish, Publish, SET(pool, 1), SET(offset, at), SET_BYTES(name, "key")));
			tell(who, OP(FIND, find, Find, SET(pool, 1), SET_BYTES(name, "key"), SET(retain, 1)));
			tell(who, OP(REALLOC, realloc, Realloc, SET(pool, 1), SET(offset, at), SET(size, 9000)));
			tell(who, OP(FREE, free, Free, SET(pool, 1), SET(offset, at)));
		}
	}
	each(folder, OP(FREE, free, Free, SET(pool, 1)));
	each(folder, OP(FREE, free, Free));
	each(folder, OP(OPEN_HEAP, open_heap, OpenHeap, SET(pool, 1), SET(wants_segment, 1)));
	each(folder, OP(OPEN_HEAP, open_heap, OpenHeap));
	each(folder, OP(LEASE_SLABS, lease_slabs, LeaseSlabs, SET(pool, 1), SET(heap, 1), SET(size_class, 3),
			SET(n_wanted, 2)));
	each(folder, OP(LEASE_SLABS, lease_slabs, LeaseSlabs, SET(pool, 1)));
	each(folder, OP(RETURN_SLABS, return_slabs, ReturnSlabs, SET(pool, 1)));
	each(folder, OP(RETAIN, retain, Retain));
	each(folder, OP(TAKE, take, Take));
	each(folder, OP(INSPECT, inspect, Inspect));
	each(folder, OP(PUBLISH, publish, Publish));
	each(folder, OP(REALLOC, realloc, Realloc));
	each(folder, OP(FIND, find, Find));
	each(folder, OP(ALLOC_BATCH, alloc_batch, AllocBatch));
	each(folder, OP(FREE_BATCH, free_batch, FreeBatch));
}

static void shows(const char *folder)
{
	each(folder, OP(STATS, stats, Stats, SET(pool, 1)));
	each(folder, OP(STATS, stats, Stats));
	each(folder,
	     OP(VISUALIZE, visualize, Visualize, SET(pool, 1), SET(cells, 64), SET(max_gaps, 4), SET(max_holders, 4)));
	each(folder, OP(VISUALIZE, visualize, Visualize, SET(pool, 1)));
	each(folder, OP(VISUALIZE, visualize, Visualize));
	each(folder, OP(LIST_EXTENTS, list_extents, ListExtents, SET(pool, 1)));
	each(folder, OP(LIST_EXTENTS, list_extents, ListExtents, SET(pool, 1), SET(from, 8000), SET(hint, 3)));
	each(folder, OP(LIST_EXTENTS, list_extents, ListExtents));
	each(folder, OP(CHECK, check, Check, SET(pool, 1)));
	each(folder, OP(CHECK, check, Check));
}

/* ---- a session over broken connections ---- */

#define RESUME(n, token)                                                                          \
	OP(HELLO, hello, Hello, SET(version_min, 1), SET(version_max, 1), SET(resume_session, n), \
	   SET_BYTES(resume_token, token))

/* Its connection breaks, or the daemon does, and the first peer asks again for what it was answered already. */
static void again(const char *folder, const W(Request) * request)
{
	static const uint8_t events[] = {FUZZ_STEP_BROKEN, FUZZ_STEP_RESTART};

	for (size_t i = 0; i < sizeof(events); i++) {
		set_scene(folder);
		tell(0, request);
		tell(FUZZ_STEP_AGAIN | events[i], RESUME(1, FUZZ_TOKEN));
		tell(FUZZ_STEP_AGAIN, request);
		tell(0, OP(STATS, stats, Stats, SET(pool, 1)));
	}
}

static void resumes(const char *folder)
{
	static const uint64_t sizes[] = {1, 200, 3000}, offsets[] = {4096, 4112};
	W(Request) create = *OP(CREATE_POOL, create_pool, CreatePool, SET_BYTES(name, "more"), SET(size, 4096));

	/* Another user; another token; a session that never was; one that has to wait; the right one. */
	set_scene(folder);
	tell(FUZZ_STEP_SECOND | FUZZ_STEP_BROKEN, RESUME(1, FUZZ_TOKEN));
	tell(FUZZ_STEP_SECOND | FUZZ_STEP_BROKEN, RESUME(2, "0123456789abcdef"));
	tell(FUZZ_STEP_SECOND | FUZZ_STEP_BROKEN, RESUME(2, "short"));
	tell(FUZZ_STEP_SECOND | FUZZ_STEP_BROKEN, RESUME(9, FUZZ_TOKEN));
	tell(FUZZ_STEP_SECOND | FUZZ_STEP_BROKEN, hello); /* more than its quota of sessions */
	tell(FUZZ_STEP_SECOND | FUZZ_STEP_BROKEN | FUZZ_STEP_NOW, RESUME(2, FUZZ_TOKEN));
	tell(FUZZ_STEP_SECOND, RESUME(2, FUZZ_TOKEN));
	tell(FUZZ_STEP_SECOND, OP(ALLOC, alloc, Alloc, SET(pool, 1), SET(size, 1)));

	set_scene(folder); /* ended */
	tell(0, OP(GOODBYE, goodbye, Goodbye));
	tell(FUZZ_STEP_BROKEN, RESUME(1, FUZZ_TOKEN));
	begin(folder, FUZZ_CONDITION_STOPPING);
	tell(0, RESUME(1, FUZZ_TOKEN));

	set_scene(folder); /* who holds its lock is resumed after a restart; what the daemon says of that */
	tell(FUZZ_STEP_BROKEN,
	     OP(HELLO, hello, Hello, SET(version_min, 1), SET(version_max, 1), SET(wants_liveness, 1)));
	tell(0, OP(LIVENESS, liveness, Liveness));
	tell(FUZZ_STEP_LOCK, OP(LIVENESS, liveness, Liveness));
	tell(FUZZ_STEP_RESTART, RESUME(3, FUZZ_TOKEN));
	tell(0, OP(LIST_SESSIONS, list_sessions, ListSessions));
	tell(0, OP(DAEMON_INFO, daemon_info, DaemonInfo));
	tell(FUZZ_STEP_RESTART, RESUME(3, FUZZ_TOKEN));
	tell(0, OP(DAEMON_INFO, daemon_info, DaemonInfo));

	again(folder, OP(CREATE_POOL, create_pool, CreatePool, SET_BYTES(name, "more"), SET(size, 4096)));
	again(folder, OP(CREATE_POOL, create_pool, CreatePool, SET(size, 4096)));
	again(folder, OP(CREATE_POOL, create_pool, CreatePool, SET_BYTES(name, "pool"), SET(size, 4096)));
	again(folder, OP(DESTROY_POOL, destroy_pool, DestroyPool, SET_BYTES(name, "pool")));
	again(folder, OP(DESTROY_POOL, destroy_pool, DestroyPool, SET_BYTES(name, "poll")));
	again(folder, OP(DESTROY_POOL, destroy_pool, DestroyPool, SET(pool, 9)));
	again(folder, OP(DESTROY_POOL, destroy_pool, DestroyPool, SET(pool, 1), SET(if_empty, 1)));
	again(folder, OP(RESIZE_POOL, resize_pool, ResizePool, SET(pool, 1), SET(size, 1 << 17)));
	again(folder, OP(ALLOC, alloc, Alloc, SET(pool, 1), SET(size, 100)));
	again(folder, OP(ALLOC, alloc, Alloc, SET(pool, 1), SET(size, 1 << 20)));
	again(folder, OP(FREE, free, Free, SET(pool, 1), SET(offset, 4096)));
	again(folder, OP(REALLOC, realloc, Realloc, SET(pool, 1), SET(offset, 4096), SET(size, 9000)));
	again(folder, OP(ALLOC_BATCH, alloc_batch, AllocBatch, SET(pool, 1), .n_sizes = 3,
			 .sizes = (uint64_t *)(uintptr_t)sizes));
	again(folder, OP(FREE_BATCH, free_batch, FreeBatch, SET(pool, 1), .n_offsets = 2,
			 .offsets = (uint64_t *)(uintptr_t)offsets));
	again(folder, OP(PUBLISH, publish, Publish, SET(pool, 1), SET(offset, 4096), SET_BYTES(name, "key")));
	again(folder, OP(RETAIN, retain, Retain, SET(pool, 1), SET(offset, 4096)));
	again(folder, OP(TAKE, take, Take, SET(pool, 1), SET(offset, 8192), SET(from_session, 2)));

	set_scene(folder); /* in vain, twice */
	tell(FUZZ_STEP_SECOND, OP(DESTROY_POOL, destroy_pool, DestroyPool, SET_BYTES(name, "pool")));
	tell(FUZZ_STEP_SECOND | FUZZ_STEP_AGAIN | FUZZ_STEP_BROKEN, RESUME(2, FUZZ_TOKEN));
	tell(FUZZ_STEP_SECOND | FUZZ_STEP_AGAIN, OP(DESTROY_POOL, destroy_pool, DestroyPool, SET_BYTES(name, "pool")));
	set_scene(folder); /* a pool that is gone when its creation is asked for again */
	create.has_id = 1;
	create.id = 9;
	tell(FUZZ_STEP_RAW, &create);
	tell(0, OP(DESTROY_POOL, destroy_pool, DestroyPool, SET_BYTES(name, "more")));
	tell(FUZZ_STEP_AGAIN | FUZZ_STEP_BROKEN, RESUME(1, FUZZ_TOKEN));
	tell(FUZZ_STEP_RAW, &create);
}

/* ---- heaps ---- */

static void scribble(uint8_t who, const struct fuzz_scribble *what)
{
	fputc(FUZZ_STEP_SCRIBBLE | who, story);
	fputc(sizeof(*what), story);
	fputc(0, story);
	fwrite(what, sizeof(*what), 1, story);
}

#define FIRST_SLOT 4096u /* of the first slab of a pool */
#define LIVE_SLOTS 3u	 /* of the first peer's first slab */

/* Both have a heap; the first has slabs of 64 bytes, and some slots of the first one are live, as by mempool_alloc(). */
static void set_scene_of_heaps(const char *folder)
{
	begin(folder, FUZZ_CONDITION_WATCHED);
	tell(0, hello);
	tell(0, OP(CREATE_POOL, create_pool, CreatePool, SET_BYTES(name, "pool"), SET(size, 2 << 20), SET(mode, 0666)));
	tell(0, OP(OPEN_HEAP, open_heap, OpenHeap, SET(pool, 1), SET(wants_segment, 1)));
	tell(0, OP(LEASE_SLABS, lease_slabs, LeaseSlabs, SET(pool, 1), SET(heap, 1), SET(size_class, 3),
		   SET(n_wanted, 2)));
	tell(FUZZ_STEP_SECOND, hello);
	tell(FUZZ_STEP_SECOND, OP(OPEN_POOL, open_pool, OpenPool, SET_BYTES(name, "pool")));
	tell(FUZZ_STEP_SECOND, OP(OPEN_HEAP, open_heap, OpenHeap, SET(pool, 1), SET(wants_segment, 1)));
	for (uint16_t i = 0; i < LIVE_SLOTS; i++)
		scribble(0, &(struct fuzz_scribble){.part = FUZZ_PART_WORDS, .at = 2 * i, .word = 1});
}

static void each_with_heaps(const char *folder, const W(Request) * request)
{
	set_scene_of_heaps(folder);
	tell(0, request);
	tell(FUZZ_STEP_SECOND, request);
	set_scene_of_heaps(folder); /* the words say what cannot be */
	scribble(0, &(struct fuzz_scribble){.part = FUZZ_PART_WORDS, .at = 6, .word = 0});
	tell(0, request);
	tell(FUZZ_STEP_SECOND | FUZZ_STEP_RESTART, RESUME(2, FUZZ_TOKEN));
	tell(FUZZ_STEP_SECOND, request);
}

static void heaps(const char *folder)
{
	static const uint64_t slots[] = {FIRST_SLOT, FIRST_SLOT + 64, FIRST_SLOT + 64 * LIVE_SLOTS};
	static const uint32_t slabs[] = {0, 1, 7};

	/* The lock is proof of a process's end as good as a pidfd; without either there is no heap. */
	begin(folder, 0);
	tell(0, OP(HELLO, hello, Hello, SET(version_min, 1), SET(version_max, 1), SET(wants_liveness, 1)));
	tell(0, OP(CREATE_POOL, create_pool, CreatePool, SET(size, 1 << 20)));
	tell(0, OP(OPEN_HEAP, open_heap, OpenHeap, SET(pool, 1)));
	tell(FUZZ_STEP_LOCK, OP(LIVENESS, liveness, Liveness));
	tell(0, OP(OPEN_HEAP, open_heap, OpenHeap, SET(pool, 1)));
	tell(0, OP(LEASE_SLABS, lease_slabs, LeaseSlabs, SET(pool, 1), SET(heap, 1), SET(size_class, 90)));

	each_with_heaps(folder, OP(OPEN_HEAP, open_heap, OpenHeap, SET(pool, 1)));
	for (uint32_t heap = 1; heap <= 2; heap++) {
		each_with_heaps(folder, OP(LEASE_SLABS, lease_slabs, LeaseSlabs, SET(pool, 1), SET(heap, heap),
					   SET(size_class, 3), SET(n_wanted, 2)));
		each_with_heaps(folder, OP(LEASE_SLABS, lease_slabs, LeaseSlabs, SET(pool, 1), SET(heap, heap),
					   SET(size_class, 100)));
		each_with_heaps(folder, OP(LEASE_SLABS, lease_slabs, LeaseSlabs, SET(pool, 1), SET(heap, heap),
					   SET(size_class, 127), SET(n_wanted, 9)));
	}
	each_with_heaps(folder, OP(RETURN_SLABS, return_slabs, ReturnSlabs, SET(pool, 1), .n_slabs = 3,
				   .slabs = (uint32_t *)(uintptr_t)slabs));
	for (size_t i = 0; i < sizeof(slots) / sizeof(*slots); i++) {
		uint64_t at = slots[i];

		each_with_heaps(folder, OP(FREE, free, Free, SET(pool, 1), SET(offset, at)));
		each_with_heaps(folder, OP(REALLOC, realloc, Realloc, SET(pool, 1), SET(offset, at), SET(size, 9000)));
		each_with_heaps(folder, OP(RETAIN, retain, Retain, SET(pool, 1), SET(offset, at)));
		each_with_heaps(folder, OP(TAKE, take, Take, SET(pool, 1), SET(offset, at), SET(from_session, 1)));
		each_with_heaps(folder, OP(INSPECT, inspect, Inspect, SET(pool, 1), SET(offset, at)));
		set_scene_of_heaps(folder);
		tell(0, OP(PUBLISH, publish, Publish, SET(pool, 1), SET(offset, at), SET_BYTES(name, "key")));
		tell(FUZZ_STEP_SECOND, OP(FIND, find, Find, SET(pool, 1), SET_BYTES(name, "key"), SET(retain, 1)));
		tell(0, OP(LIST_EXTENTS, list_extents, ListExtents, SET(pool, 1), SET(with_slots, 1)));
		tell(0, OP(GOODBYE, goodbye, Goodbye));
		tell(FUZZ_STEP_SECOND, OP(LIST_EXTENTS, list_extents, ListExtents, SET(pool, 1), SET(with_slots, 1)));
		tell(FUZZ_STEP_SECOND, OP(FREE, free, Free, SET(pool, 1), SET(offset, at)));
	}
	each_with_heaps(folder, OP(STATS, stats, Stats, SET(pool, 1)));
	each_with_heaps(folder, OP(VISUALIZE, visualize, Visualize, SET(pool, 1), SET(cells, 64), SET(max_gaps, 4),
				   SET(max_holders, 4)));
	each_with_heaps(folder, OP(LIST_EXTENTS, list_extents, ListExtents, SET(pool, 1), SET(with_slots, 1)));
	each_with_heaps(folder, OP(CHECK, check, Check, SET(pool, 1)));
	each_with_heaps(folder, OP(LOG, log, Log, SET(pool, 1)));
	each_with_heaps(folder, OP(DESTROY_POOL, destroy_pool, DestroyPool, SET(pool, 1)));
	for (uint8_t part = 0; part < FUZZ_PART_N; part++) {
		set_scene_of_heaps(folder);
		for (uint16_t at = 0; at < 64; at += 2)
			scribble(0, &(struct fuzz_scribble){.part = part, .at = at, .word = 0x7fff});
		tell(0, OP(CHECK, check, Check, SET(pool, 1)));
	}
}

/* ---- ledgers ---- */

static void change(const char *folder, uint8_t scene, const struct fuzz_change *change)
{
	begin(folder, scene);
	if (change && fwrite(change, sizeof(*change), 1, story) != 1)
		abort();
}

/* Each word of the first records of each table, a little more than it was. */
static void ledgers(const char *folder)
{
	for (uint8_t scene = 0; scene < 4; scene++) {
		change(folder, scene, NULL);
		for (uint8_t table = 0; table < 16; table++)
			for (uint32_t where = 0; where < 64; where += 8)
				change(folder, scene,
				       &(struct fuzz_change){
					       .what = FUZZ_CHANGE_ADD, .table = table, .where = where, .value = 16});
		change(folder, scene, &(struct fuzz_change){.what = FUZZ_CHANGE_CUT, .where = 100});
	}
}

int main(int argc, char *argv[])
{
	if (argc != 3) {
		fputs("usage: fuzz_seed FOLDER_OF_FUZZ_DISPATCH FOLDER_OF_FUZZ_RECOVER\n", stderr);
		return 2;
	}
	sessions(argv[1]);
	pools(argv[1]);
	blocks(argv[1]);
	shows(argv[1]);
	resumes(argv[1]);
	heaps(argv[1]);
	ledgers(argv[2]);
	return fclose(story) ? 1 : 0;
}
