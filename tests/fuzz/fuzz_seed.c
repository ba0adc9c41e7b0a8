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
	each(folder, hello);
	each(folder, OP(LIVENESS, liveness, Liveness));
	each(folder, OP(GOODBYE, goodbye, Goodbye));
	each(folder, OP(PING, ping, Ping));
	each(folder, OP(DAEMON_INFO, daemon_info, DaemonInfo));
	each(folder, OP(LOG, log, Log, SET_BYTES(name, "pool")));
	each(folder, OP(LOG, log, Log, SET(pool, 1), SET(after, 2)));
	begin(folder, 0);
	tell(0, OP(HELLO, hello, Hello, SET(version_min, 1), SET(version_max, 1), SET(resume_session, 1),
		   SET_BYTES(resume_token, "0123456789abcdef")));
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
	ledgers(argv[2]);
	return fclose(story) ? 1 : 0;
}
