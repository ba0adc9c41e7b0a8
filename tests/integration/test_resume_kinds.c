// SPDX-License-Identifier: MIT
/* Each kind of request is done exactly once, whether its reply is lost or its daemon killed before it is sent; alone, and among many. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/integration/resume_client.h"
#include "tests/lib/test.h"

/* ---- each kind of request, done and its reply lost ---- */

struct scene {
	struct daemon d;
	struct client a, b;
	uint64_t pool;
	uint64_t x, y; /* a's own blocks, of 1000 bytes */
	uint64_t z;    /* published as "zed" */
	uint64_t w;    /* b's */
	uint64_t id;   /* of the request in question */
	Mempool__Wire__Request request;
};

/* How often it can be freed by @client. */
static unsigned n_frees(struct client *client, uint64_t pool, uint64_t offset)
{
	unsigned n = 0;

	while (n < 10 && !release(client, pool, offset))
		n++;
	return n;
}

static void seen_alloc(struct scene *scene)
{
	uint64_t offset = offset_of(&scene->a);

	assert_int_equal(n_blocks(&scene->a, scene->pool), 5);
	assert_int_equal(n_frees(&scene->a, scene->pool, offset), 1);
}

static void seen_free(struct scene *scene)
{
	assert_int_equal(n_blocks(&scene->a, scene->pool), 3);
}

static void seen_realloc(struct scene *scene)
{
	uint64_t offset = offset_of(&scene->a);

	assert_true(scene->a.reply->block->moved);
	assert_int_equal(scene->a.reply->block->old_size, 1008);
	assert_int_equal(n_blocks(&scene->a, scene->pool), 5);
	assert_int_equal(n_frees(&scene->a, scene->pool, offset), 1);
	assert_int_equal(n_frees(&scene->a, scene->pool, scene->x), 1);
}

static void seen_alloc_batch(struct scene *scene)
{
	uint64_t offsets[3];

	assert_int_equal(scene->a.reply->blocks->n_offsets, 3);
	memcpy(offsets, scene->a.reply->blocks->offsets, sizeof(offsets));
	assert_int_equal(n_blocks(&scene->a, scene->pool), 7);
	for (int i = 0; i < 3; i++)
		assert_int_equal(n_frees(&scene->a, scene->pool, offsets[i]), 1);
}

static void seen_free_batch(struct scene *scene)
{
	assert_int_equal(n_blocks(&scene->a, scene->pool), 2);
}

static void seen_publish(struct scene *scene)
{
	assert_int_equal(ASK(&scene->b, FIND, find, Find, find, HAS(pool, scene->pool), HAS(name, TEXT("why"))), 0);
	assert_int_equal(offset_of(&scene->b), scene->y);
}

/* One hold of a's, then the pool's own. */
static void seen_retain(struct scene *scene)
{
	assert_int_equal(n_frees(&scene->a, scene->pool, scene->z), 2);
}

static void seen_take(struct scene *scene)
{
	assert_int_equal(
		ASK(&scene->a, INSPECT, inspect, Inspect, inspect, HAS(pool, scene->pool), HAS(offset, scene->w)), 0);
	assert_int_equal(scene->a.reply->block->owner, scene->a.session);
}

static void seen_resize(struct scene *scene)
{
	assert_int_equal(scene->a.reply->pool->info->total, 2 << 20);
}

static void seen_create(struct scene *scene)
{
	uint64_t pool = scene->a.reply->pool->info->pool;

	assert_true(scene->a.wire.fd >= 0); /* the data segment came again */
	allocate(&scene->a, pool, 100);
	assert_int_equal(ASK(&scene->b, LIST_POOLS, list_pools, ListPools, list_pools, HAS(after, 0)), 0);
	assert_int_equal(scene->b.reply->list_pools->n_pools, 2);
}

static void seen_create_private(struct scene *scene)
{
	uint64_t pool = scene->a.reply->pool->info->pool;
	int n = daemon_n_objects(&scene->d);

	assert_true(scene->a.wire.fd >= 0);
	allocate(&scene->a, pool, 100);
	assert_int_equal(ASK(&scene->b, LIST_POOLS, list_pools, ListPools, list_pools, HAS(after, 0)), 0);
	assert_int_equal(scene->b.reply->list_pools->n_pools, 1);
	client_end(&scene->a);
	assert_int_equal(daemon_n_objects(&scene->d), n - 3); /* data, ledger, leases */
	client_begin(&scene->a, &scene->d);
	assert_int_equal(ASK(&scene->a, OPEN_POOL, open_pool, OpenPool, open_pool, HAS(name, TEXT("p"))), 0);
}

static void seen_destroy(struct scene *scene)
{
	assert_int_equal(ASK(&scene->b, LIST_POOLS, list_pools, ListPools, list_pools, HAS(after, 0)), 0);
	assert_int_equal(scene->b.reply->list_pools->n_pools, 0);
	scene->pool = 0;
}

static void seen_close(struct scene *scene)
{
	assert_int_equal(n_blocks(&scene->a, scene->pool), 4);
}

/* What was refused stays refused: somebody else has made a pool of that name since. */
static void meanwhile_create(struct scene *scene)
{
	create(&scene->b, "nope");
}

static void seen_destroy_refused(struct scene *scene)
{
	assert_int_equal(ASK(&scene->b, OPEN_POOL, open_pool, OpenPool, open_pool, HAS(name, TEXT("nope"))), 0);
}

struct lost {
	const char *name;
	Mempool__Wire__Request request; /* the pool's id, offsets and the session are filled in */
	unsigned nth;			/* of its kind, in the scene */
	int status;
	void (*meanwhile)(struct scene *scene);
	void (*seen)(struct scene *scene);
};

static uint64_t sizes[3] = {100, 2000, 16}, offsets_xy[2];

static void fill_in(struct scene *scene, const struct lost *lost)
{
	Mempool__Wire__Request *request = &scene->request;

	*request = lost->request;
	offsets_xy[0] = scene->x;
	offsets_xy[1] = scene->y;
	switch (request->op_case) {
	case MEMPOOL__WIRE__REQUEST__OP_ALLOC:
		request->alloc->pool = scene->pool;
		break;
	case MEMPOOL__WIRE__REQUEST__OP_FREE:
		request->free->pool = scene->pool;
		request->free->offset = scene->x;
		break;
	case MEMPOOL__WIRE__REQUEST__OP_REALLOC:
		request->realloc->pool = scene->pool;
		request->realloc->offset = scene->x;
		break;
	case MEMPOOL__WIRE__REQUEST__OP_ALLOC_BATCH:
		request->alloc_batch->pool = scene->pool;
		break;
	case MEMPOOL__WIRE__REQUEST__OP_FREE_BATCH:
		request->free_batch->pool = scene->pool;
		break;
	case MEMPOOL__WIRE__REQUEST__OP_PUBLISH:
		request->publish->pool = scene->pool;
		request->publish->offset = scene->y;
		break;
	case MEMPOOL__WIRE__REQUEST__OP_FIND:
		request->find->pool = scene->pool;
		break;
	case MEMPOOL__WIRE__REQUEST__OP_RETAIN:
		request->retain->pool = scene->pool;
		request->retain->offset = scene->z;
		break;
	case MEMPOOL__WIRE__REQUEST__OP_TAKE:
		request->take->pool = scene->pool;
		request->take->offset = scene->w;
		request->take->from_session = scene->b.session;
		break;
	case MEMPOOL__WIRE__REQUEST__OP_RESIZE_POOL:
		request->resize_pool->pool = scene->pool;
		break;
	case MEMPOOL__WIRE__REQUEST__OP_CLOSE_POOL:
		request->close_pool->pool = scene->pool;
		break;
	default:
		break;
	}
}

static void scene_open(struct scene *scene, const struct lost *lost, const char *how)
{
	char wish[64];

	memset(scene, 0, sizeof(*scene));
	assert_int_equal(daemon_init(&scene->d), 0);
	snprintf(wish, sizeof(wish), "%s %d %u", how, (int)lost->request.op_case, lost->nth);
	setenv("MEMPOOL_LOSE", wish, 1);
	setenv("MEMPOOLD", LOSSY_PATH, 1);
	assert_int_equal(daemon_start(&scene->d, (const char *[]){"--threads", "2", NULL}), 0);
	unsetenv("MEMPOOL_LOSE");
	unsetenv("MEMPOOLD");
	client_begin(&scene->a, &scene->d);
	client_begin(&scene->b, &scene->d);
	scene->pool = create(&scene->a, "p");
	scene->x = allocate(&scene->a, scene->pool, 1000);
	scene->y = allocate(&scene->a, scene->pool, 1000);
	scene->z = allocate(&scene->a, scene->pool, 1000);
	assert_int_equal(ASK(&scene->a, PUBLISH, publish, Publish, publish, HAS(pool, scene->pool),
			     HAS(offset, scene->z), HAS(name, TEXT("zed"))),
			 0);
	assert_int_equal(ASK(&scene->b, OPEN_POOL, open_pool, OpenPool, open_pool, HAS(name, TEXT("p"))), 0);
	scene->w = allocate(&scene->b, scene->pool, 1000);
}

static void scene_close(struct scene *scene)
{
	if (scene->pool)
		expect_sound(&scene->a, scene->pool);
	client_end(&scene->a);
	client_end(&scene->b);
	assert_int_equal(daemon_stop(&scene->d), 0);
	daemon_deinit(&scene->d);
}

static void lose(const struct lost *lost, bool is_kill)
{
	struct scene scene;

	scene_open(&scene, lost, is_kill ? "kill" : "drop");
	fill_in(&scene, lost);
	scene.id = ++scene.a.last_id;
	assert_int_equal(ask_as(&scene.a, &scene.request, scene.id), WIRE_E_CLOSED);
	if (is_kill) {
		assert_int_equal(daemon_wait(&scene.d), 128 + SIGKILL);
		assert_int_equal(daemon_start(&scene.d, (const char *[]){"--threads", "2", NULL}), 0);
		assert_int_equal(client_resume(&scene.b), 0);
	}
	if (lost->meanwhile)
		lost->meanwhile(&scene);
	assert_int_equal(client_resume(&scene.a), 0);
	assert_int_equal(ask_as(&scene.a, &scene.request, scene.id), lost->status);
	lost->seen(&scene);
	scene_close(&scene);
}

static void test_resume_each_kind_of_request_is_done_once(void **state)
{
	const struct lost table[] = {
		{"alloc", WIRE_REQUEST(ALLOC, alloc, MESSAGE(Alloc, alloc, HAS(pool, 0), HAS(size, 500))), 5, 0, NULL,
		 seen_alloc},
		{"free", WIRE_REQUEST(FREE, free, MESSAGE(Free, free, HAS(pool, 0), HAS(offset, 0))), 1, 0, NULL,
		 seen_free},
		{"realloc",
		 WIRE_REQUEST(REALLOC, realloc,
			      MESSAGE(Realloc, realloc, HAS(pool, 0), HAS(offset, 0), HAS(size, 200000))),
		 1, 0, NULL, seen_realloc},
		{"alloc batch",
		 WIRE_REQUEST(ALLOC_BATCH, alloc_batch,
			      MESSAGE(AllocBatch, alloc_batch, HAS(pool, 0), .n_sizes = 3, .sizes = sizes)),
		 1, 0, NULL, seen_alloc_batch},
		{"free batch",
		 WIRE_REQUEST(FREE_BATCH, free_batch,
			      MESSAGE(FreeBatch, free_batch, HAS(pool, 0), .n_offsets = 2, .offsets = offsets_xy)),
		 1, 0, NULL, seen_free_batch},
		{"publish",
		 WIRE_REQUEST(PUBLISH, publish,
			      MESSAGE(Publish, publish, HAS(pool, 0), HAS(offset, 0), HAS(name, TEXT("why")))),
		 2, 0, NULL, seen_publish},
		{"acquire",
		 WIRE_REQUEST(FIND, find, MESSAGE(Find, find, HAS(pool, 0), HAS(name, TEXT("zed")), HAS(retain, 1))), 1,
		 0, NULL, seen_retain},
		{"retain", WIRE_REQUEST(RETAIN, retain, MESSAGE(Retain, retain, HAS(pool, 0), HAS(offset, 0))), 1, 0,
		 NULL, seen_retain},
		{"take",
		 WIRE_REQUEST(TAKE, take, MESSAGE(Take, take, HAS(pool, 0), HAS(offset, 0), HAS(from_session, 0))), 1,
		 0, NULL, seen_take},
		{"resize",
		 WIRE_REQUEST(RESIZE_POOL, resize_pool,
			      MESSAGE(ResizePool, resize_pool, HAS(pool, 0), HAS(size, 2 << 20))),
		 1, 0, NULL, seen_resize},
		{"create",
		 WIRE_REQUEST(CREATE_POOL, create_pool,
			      MESSAGE(CreatePool, create_pool, HAS(name, TEXT("q")), HAS(size, 1 << 20))),
		 2, 0, NULL, seen_create},
		{"create a private one",
		 WIRE_REQUEST(CREATE_POOL, create_pool, MESSAGE(CreatePool, create_pool, HAS(size, 1 << 20))), 2, 0,
		 NULL, seen_create_private},
		{"destroy",
		 WIRE_REQUEST(DESTROY_POOL, destroy_pool, MESSAGE(DestroyPool, destroy_pool, HAS(name, TEXT("p")))), 1,
		 0, NULL, seen_destroy},
		{"destroy what is not there",
		 WIRE_REQUEST(DESTROY_POOL, destroy_pool, MESSAGE(DestroyPool, destroy_pool, HAS(name, TEXT("nope")))),
		 1, -ENOENT, meanwhile_create, seen_destroy_refused},
		{"create what is there",
		 WIRE_REQUEST(CREATE_POOL, create_pool,
			      MESSAGE(CreatePool, create_pool, HAS(name, TEXT("p")), HAS(size, 1 << 20))),
		 2, -EEXIST, NULL, seen_close},
		{"close", WIRE_REQUEST(CLOSE_POOL, close_pool, MESSAGE(ClosePool, close_pool, HAS(pool, 0))), 1, 0,
		 NULL, seen_close},
	};

	(void)state;
	for (size_t i = 0; i < N_ELEMENTS(table); i++) {
		for (int is_kill = 0; is_kill < 2; is_kill++) {
			printf("%s, %s\n", table[i].name, is_kill ? "daemon killed" : "connection dropped");
			lose(&table[i], is_kill);
		}
	}
}

/* ---- many in flight ---- */

static void test_resume_pipeline_killed_in_the_middle(void **state)
{
	enum {
		N = 120,
		KILLED_AT = 4 + 57
	};
	const struct lost lost = {
		.request = WIRE_REQUEST(ALLOC, alloc, MESSAGE(Alloc, alloc, HAS(pool, 0), HAS(size, 64))),
		.nth = KILLED_AT};
	uint64_t first, seen[N] = {0};
	unsigned n_answered = 0;
	Mempool__Wire__Reply *reply;
	struct scene scene;

	(void)state;
	scene_open(&scene, &lost, "kill");
	fill_in(&scene, &lost);
	first = scene.a.last_id + 1;
	scene.request.has_id = 1;
	for (uint64_t i = 0; i < N; i++) {
		scene.request.id = first + i;
		if (wire_send(&scene.a.wire, &scene.request))
			break;
	}
	while (!wire_receive(&scene.a.wire, &reply)) {
		seen[reply->id - first] = reply->block->offset;
		mempool__wire__reply__free_unpacked(reply, NULL);
		n_answered++;
	}
	assert_true(n_answered < N);
	assert_int_equal(daemon_wait(&scene.d), 128 + SIGKILL);
	assert_int_equal(daemon_start(&scene.d, NULL), 0);
	assert_int_equal(client_resume(&scene.b), 0);
	assert_int_equal(client_resume(&scene.a), 0);
	for (uint64_t i = n_answered; i < N; i++) {
		assert_int_equal(ask_as(&scene.a, &scene.request, (scene.request.id = first + i)), 0);
		seen[i] = offset_of(&scene.a);
	}
	scene.a.last_id = first + N;
	assert_int_equal(n_blocks(&scene.a, scene.pool), 4 + N);
	for (int i = 0; i < N; i++) /* freed once each: none was given twice */
		assert_int_equal(release(&scene.a, scene.pool, seen[i]), 0);
	assert_int_equal(n_blocks(&scene.a, scene.pool), 4);
	printf("%u of %d were answered before the kill\n", n_answered, N);
	scene_close(&scene);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_resume_each_kind_of_request_is_done_once),
		cmocka_unit_test(test_resume_pipeline_killed_in_the_middle),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
