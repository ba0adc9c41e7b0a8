// SPDX-License-Identifier: MIT
/* Each kind of request is done exactly once, whether its reply is lost or its daemon killed before it is sent; alone, and among many. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/lease.h"
#include "tests/integration/resume_client.h"
#include "tests/lib/test.h"

/* ---- each kind of request, done and its reply lost ---- */

enum {
	N_SLABS = 8,
	CLASS = 3, /* of slots of 64 bytes */
	LEASED_MAX = 2 * N_SLABS,
};

struct leased { /* as the daemon lists it */
	uint64_t offset, n_bytes, owner;
};

struct slabs {
	uint32_t ids[N_SLABS];
	size_t n;
};

struct scene {
	struct daemon d;
	struct client a, b;
	uint64_t pool;
	uint64_t x, y; /* a's own blocks, of 1000 bytes */
	uint64_t z;    /* published as "zed" */
	uint64_t w;    /* b's */
	uint32_t heap; /* a's, where there is one */
	struct slabs a_slabs, b_slabs;
	unsigned n_requested; /* live blocks in no slab */
	int lease_fd;	      /* the lease segment, owned; -1: not asked for */
	uint64_t id;	      /* of the request in question */
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

/* ---- heaps and slabs ---- */

static uint32_t open_heap(struct scene *scene, struct client *client)
{
	assert_int_equal(ASK(client, OPEN_HEAP, open_heap, OpenHeap, open_heap, HAS(pool, scene->pool)), 0);
	return client->reply->heap->heap;
}

/* Their ids are appended to @slabs. */
static void note_slabs(const struct client *client, struct slabs *slabs)
{
	const Mempool__Wire__SlabsReply *reply = client->reply->slabs;

	assert_true(reply->n_slabs && slabs->n + reply->n_slabs <= N_SLABS);
	memcpy(slabs->ids + slabs->n, reply->slabs, reply->n_slabs * sizeof(slabs->ids[0]));
	slabs->n += reply->n_slabs;
}

static void lease(struct scene *scene, struct client *client, uint32_t heap, uint32_t n, struct slabs *slabs)
{
	assert_int_equal(ASK(client, LEASE_SLABS, lease_slabs, LeaseSlabs, lease_slabs, HAS(pool, scene->pool),
			     HAS(heap, heap), HAS(size_class, CLASS), HAS(n_wanted, n)),
			 0);
	note_slabs(client, slabs);
}

/* All of them: of a request the daemon looks at the first at least, and at no more where that took long. */
static void give_back(struct scene *scene, struct client *client, struct slabs *slabs)
{
	for (size_t i = 0; i < slabs->n; i++)
		assert_int_equal(ASK(client, RETURN_SLABS, return_slabs, ReturnSlabs, return_slabs,
				     HAS(pool, scene->pool), .n_slabs = slabs->n - i, .slabs = slabs->ids + i),
				 0);
	slabs->n = 0;
}

/* The descriptor that came with the last answer. */
static void keep_segment(struct scene *scene)
{
	struct stat about;

	if (scene->lease_fd >= 0)
		close(scene->lease_fd);
	scene->lease_fd = scene->a.wire.fd;
	scene->a.wire.fd = -1;
	assert_true(scene->lease_fd >= 0);
	assert_int_equal(fstat(scene->lease_fd, &about), 0);
	assert_int_equal(about.st_size, scene->a.reply->heap->lease_bytes);
}

static void look(const struct scene *scene, void *to, size_t n, uint64_t at)
{
	assert_int_equal(pread(scene->lease_fd, to, n, (off_t)at), n);
}

static struct lease_header layout_of(const struct scene *scene)
{
	struct lease_header header;

	look(scene, &header, sizeof(header), 0);
	assert_int_equal(header.magic, LEASE_MAGIC);
	return header;
}

static struct lease_slab descriptor_of(const struct scene *scene, uint32_t id)
{
	struct lease_slab slab;

	look(scene, &slab, sizeof(slab), layout_of(scene).slabs_at + id * sizeof(slab));
	return slab;
}

static uint64_t session_of_heap(const struct scene *scene, uint32_t heap)
{
	struct lease_heap copy;

	look(scene, &copy, sizeof(copy), layout_of(scene).heaps_at + heap * sizeof(copy));
	return copy.session;
}

/* As a client does that allocates, or frees, the slab's first slot. */
static void set_first_word(const struct scene *scene, uint32_t id, uint16_t word)
{
	uint64_t at = layout_of(scene).words_at + descriptor_of(scene, id).first_word * sizeof(word);

	assert_int_equal(pwrite(scene->lease_fd, &word, sizeof(word), (off_t)at), sizeof(word));
}

/* The slabs of the pool, as b is told. A page ends early where the pool was held for long: on a busy machine, any may. */
static size_t list_leased(struct scene *scene, struct leased list[LEASED_MAX], uint64_t *totalp)
{
	const Mempool__Wire__ListExtentsReply *reply;
	uint64_t next = 0, hint = 0;
	size_t n = 0;

	do {
		assert_int_equal(ASK(&scene->b, LIST_EXTENTS, list_extents, ListExtents, list_extents,
				     HAS(pool, scene->pool), HAS(from, next), HAS(hint, hint)),
				 0);
		reply = scene->b.reply->list_extents;
		for (size_t i = 0; i < reply->n_extents; i++) {
			const Mempool__Wire__Extent *extent = reply->extents[i];

			if (extent->state != MEMPOOL__WIRE__EXTENT_STATE__EXTENT_LEASED)
				continue;
			assert_true(n < LEASED_MAX);
			list[n++] = (struct leased){extent->offset, extent->size, extent->owner};
		}
		next = reply->next;
		hint = reply->hint;
		*totalp = reply->total;
	} while (next);
	return n;
}

/* Return: the bytes of the one extent that the slab is, which is @session's */
static uint64_t expect_slab(const struct scene *scene, const struct leased list[], size_t n, uint32_t id,
			    uint64_t session)
{
	uint64_t base = descriptor_of(scene, id).base, n_bytes = 0;

	for (size_t i = 0; i < n; i++) {
		if (list[i].offset != base)
			continue;
		assert_int_equal(list[i].owner, session);
		n_bytes += list[i].n_bytes;
	}
	assert_true(n_bytes);
	return n_bytes;
}

static void expect_distinct(const struct slabs *slabs, const struct slabs *others)
{
	for (size_t i = 0; i < slabs->n; i++) {
		for (size_t j = 0; j < i; j++)
			assert_int_not_equal(slabs->ids[i], slabs->ids[j]);
		for (size_t j = 0; j < others->n; j++)
			assert_int_not_equal(slabs->ids[i], others->ids[j]);
	}
}

/* The pool's slabs are a's and b's as they know them, and no other; all their slots but @n_live are free. */
static void expect_slabs(struct scene *scene, unsigned n_live)
{
	const struct slabs *a = &scene->a_slabs, *b = &scene->b_slabs;
	const Mempool__Wire__StatsReply *stats;
	struct leased list[LEASED_MAX];
	uint64_t n_bytes = 0, total;
	size_t n;

	expect_distinct(a, b);
	expect_distinct(b, a);
	n = list_leased(scene, list, &total);
	assert_int_equal(n, a->n + b->n);
	for (size_t i = 0; i < a->n; i++)
		n_bytes += expect_slab(scene, list, n, a->ids[i], scene->a.session);
	for (size_t i = 0; i < b->n; i++)
		n_bytes += expect_slab(scene, list, n, b->ids[i], scene->b.session);
	assert_int_equal(ASK(&scene->b, STATS, stats, Stats, stats, HAS(pool, scene->pool)), 0);
	stats = scene->b.reply->stats;
	assert_int_equal(stats->allocations, scene->n_requested + n_live);
	assert_int_equal(stats->leased_idle, n_bytes - n_live * size_class_bytes(CLASS));
	assert_int_equal(stats->used + stats->free + stats->leased_idle, total);
	expect_sound(&scene->b, scene->pool);
}

/* So that a number, or an id, that was given and forgotten would be b's now, or leave a hole before it. */
static void meanwhile_open_heap(struct scene *scene)
{
	assert_int_equal(open_heap(scene, &scene->b), 2);
}

/* Numbers are 1, 2, 3 …: of those that a had, each is free again when a is no more, and none is missing. */
static void expect_numbers_again(struct scene *scene)
{
	uint32_t x, y;

	client_end(&scene->a);
	client_begin(&scene->a, &scene->d);
	assert_int_equal(ASK(&scene->a, OPEN_POOL, open_pool, OpenPool, open_pool, HAS(name, TEXT("p"))), 0);
	scene->a_slabs.n = 0;
	scene->n_requested = 2;				/* x and y went with it */
	lease(scene, &scene->b, 2, 1, &scene->b_slabs); /* its thread is in no free */
	x = open_heap(scene, &scene->b);
	y = open_heap(scene, &scene->b);
	assert_true((x == 1 && y == 3) || (x == 3 && y == 1));
	assert_int_equal(open_heap(scene, &scene->b), 4);
	for (uint32_t heap = 1; heap <= 4; heap++)
		assert_int_equal(session_of_heap(scene, heap), scene->b.session);
	expect_slabs(scene, 0);
}

static void seen_open_heap(struct scene *scene)
{
	assert_int_equal(scene->a.reply->heap->heap, 1);
	keep_segment(scene);
	assert_int_equal(open_heap(scene, &scene->a), 3);
	assert_int_equal(session_of_heap(scene, 1), scene->a.session);
	assert_int_equal(session_of_heap(scene, 2), scene->b.session);
	assert_int_equal(session_of_heap(scene, 3), scene->a.session);
	assert_int_equal(session_of_heap(scene, 4), 0);
	lease(scene, &scene->a, 1, 1, &scene->a_slabs);
	lease(scene, &scene->a, 3, 1, &scene->a_slabs);
	expect_slabs(scene, 0);
	expect_numbers_again(scene);
}

/* In a pool that has room for more than one slab in a grant. */
static void before_lease(struct scene *scene)
{
	assert_int_equal(ASK(&scene->a, RESIZE_POOL, resize_pool, ResizePool, resize_pool, HAS(pool, scene->pool),
			     HAS(size, 4 << 20)),
			 0);
	assert_int_equal(ASK(&scene->a, OPEN_HEAP, open_heap, OpenHeap, open_heap, HAS(pool, scene->pool),
			     HAS(wants_segment, 1)),
			 0);
	scene->heap = scene->a.reply->heap->heap;
	keep_segment(scene);
}

static void meanwhile_lease(struct scene *scene)
{
	lease(scene, &scene->b, open_heap(scene, &scene->b), 1, &scene->b_slabs);
}

static void seen_lease(struct scene *scene)
{
	note_slabs(&scene->a, &scene->a_slabs);
	assert_int_equal(scene->a_slabs.n, 2);
	for (size_t i = 0; i < scene->a_slabs.n; i++)
		assert_int_equal(descriptor_of(scene, scene->a_slabs.ids[i]).grantee, scene->heap);
	expect_slabs(scene, 0);
	lease(scene, &scene->a, scene->heap, 2, &scene->a_slabs); /* others, to another request */
	expect_slabs(scene, 0);
	give_back(scene, &scene->a, &scene->a_slabs);
	expect_slabs(scene, 0);
	give_back(scene, &scene->b, &scene->b_slabs);
	expect_slabs(scene, 0);
}

/* The first is empty, and goes back; the other is not. */
static void before_return(struct scene *scene)
{
	before_lease(scene);
	lease(scene, &scene->a, scene->heap, 2, &scene->a_slabs);
	assert_int_equal(scene->a_slabs.n, 2);
	set_first_word(scene, scene->a_slabs.ids[1], lease_live_of(scene->heap));
}

/* Its id is b's before a returns it again; b has a block there. */
static void meanwhile_return(struct scene *scene)
{
	uint32_t heap = open_heap(scene, &scene->b);

	lease(scene, &scene->b, heap, 1, &scene->b_slabs);
	assert_int_equal(scene->b_slabs.ids[0], scene->a_slabs.ids[0]);
	set_first_word(scene, scene->b_slabs.ids[0], lease_live_of(heap));
}

static void seen_return(struct scene *scene)
{
	struct slabs *a = &scene->a_slabs;

	*a = (struct slabs){.ids = {a->ids[1]}, .n = 1};
	expect_slabs(scene, 2);
	set_first_word(scene, a->ids[0], LEASE_FREE);
	expect_slabs(scene, 1);
	give_back(scene, &scene->a, a);
	expect_slabs(scene, 1);
	set_first_word(scene, scene->b_slabs.ids[0], LEASE_FREE);
	give_back(scene, &scene->b, &scene->b_slabs);
	expect_slabs(scene, 0);
}

/* ---- the table ---- */

struct lost {
	const char *name;
	Mempool__Wire__Request request; /* the pool's id, offsets and the session are filled in */
	unsigned nth;			/* of its kind, in the scene */
	int status;
	void (*meanwhile)(struct scene *scene);
	void (*seen)(struct scene *scene);
	void (*before)(struct scene *scene);
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
	case MEMPOOL__WIRE__REQUEST__OP_OPEN_HEAP:
		request->open_heap->pool = scene->pool;
		break;
	case MEMPOOL__WIRE__REQUEST__OP_LEASE_SLABS:
		request->lease_slabs->pool = scene->pool;
		request->lease_slabs->heap = scene->heap;
		break;
	case MEMPOOL__WIRE__REQUEST__OP_RETURN_SLABS:
		request->return_slabs->pool = scene->pool;
		request->return_slabs->n_slabs = scene->a_slabs.n;
		request->return_slabs->slabs = scene->a_slabs.ids;
		break;
	default:
		break;
	}
}

static void scene_open(struct scene *scene, const struct lost *lost, const char *how)
{
	char wish[64];

	memset(scene, 0, sizeof(*scene));
	scene->lease_fd = -1;
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
	scene->n_requested = 4;
}

static void scene_close(struct scene *scene)
{
	if (scene->pool)
		expect_sound(&scene->a, scene->pool);
	client_end(&scene->a);
	client_end(&scene->b);
	if (scene->lease_fd >= 0)
		close(scene->lease_fd);
	assert_int_equal(daemon_stop(&scene->d), 0);
	daemon_deinit(&scene->d);
}

static void lose(const struct lost *lost, bool is_kill)
{
	struct scene scene;

	scene_open(&scene, lost, is_kill ? "kill" : "drop");
	if (lost->before)
		lost->before(&scene);
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
		{"open a heap",
		 WIRE_REQUEST(OPEN_HEAP, open_heap, MESSAGE(OpenHeap, open_heap, HAS(pool, 0), HAS(wants_segment, 1))),
		 1, 0, meanwhile_open_heap, seen_open_heap},
		{"lease slabs",
		 WIRE_REQUEST(LEASE_SLABS, lease_slabs,
			      MESSAGE(LeaseSlabs, lease_slabs, HAS(pool, 0), HAS(heap, 0), HAS(size_class, CLASS),
				      HAS(n_wanted, 2))),
		 1, 0, meanwhile_lease, seen_lease, before_lease},
		{"return slabs",
		 WIRE_REQUEST(RETURN_SLABS, return_slabs, MESSAGE(ReturnSlabs, return_slabs, HAS(pool, 0))), 1, 0,
		 meanwhile_return, seen_return, before_return},
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
