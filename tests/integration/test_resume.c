// SPDX-License-Identifier: MIT
/* Sessions that outlive their connection and their daemon: each kind of request is done exactly once, whoever is killed. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/daemon.h"
#include "tests/lib/test.h"
#include "tests/lib/wire.h"

/* ---- a client that remembers what it needs to come back ---- */

struct client {
	const struct daemon *d;
	struct wire wire;
	uint64_t session, last_id;
	uint8_t token[16];
	Mempool__Wire__Reply *reply; /* the last one, owned */
};

static void forget_reply(struct client *client)
{
	if (client->reply)
		mempool__wire__reply__free_unpacked(client->reply, NULL);
	client->reply = NULL;
}

static void client_begin(struct client *client, const struct daemon *d)
{
	Mempool__Wire__Hello hello = MEMPOOL__WIRE__HELLO__INIT;
	Mempool__Wire__Request request = WIRE_REQUEST(HELLO, hello, &hello);
	Mempool__Wire__Reply *reply;

	*client = (struct client){.d = d, .wire = WIRE_NULL, .last_id = 1};
	hello.has_version_min = hello.has_version_max = 1;
	hello.version_min = hello.version_max = 1;
	assert_int_equal(wire_open(&client->wire, d->socket), 0);
	assert_int_equal(wire_ask(&client->wire, &request, &reply), 0);
	assert_int_equal(reply->hello->token.len, 16);
	assert_false(reply->hello->has_resumed);
	memcpy(client->token, reply->hello->token.data, 16);
	client->session = reply->hello->session;
	mempool__wire__reply__free_unpacked(reply, NULL);
}

/* Return: status */
static int client_resume(struct client *client)
{
	Mempool__Wire__Reply *reply = NULL;
	int r;

	wire_close(&client->wire);
	assert_int_equal(wire_open(&client->wire, client->d->socket), 0);
	client->wire.last_id = 1000000; /* of a Hello that resumes, the id does not count */
	r = wire_resume(&client->wire, client->session, client->token, &reply);
	if (!r) {
		assert_int_equal(reply->hello->session, client->session);
		assert_true(reply->hello->resumed);
		assert_false(reply->hello->has_token);
	}
	if (reply)
		mempool__wire__reply__free_unpacked(reply, NULL);
	return r;
}

static int ask_as(struct client *client, Mempool__Wire__Request *request, uint64_t id)
{
	forget_reply(client);
	request->has_id = 1;
	request->id = id;
	return wire_ask(&client->wire, request, &client->reply);
}

static int ask(struct client *client, Mempool__Wire__Request *request)
{
	return ask_as(client, request, ++client->last_id);
}

static void client_end(struct client *client)
{
	Mempool__Wire__Goodbye goodbye = MEMPOOL__WIRE__GOODBYE__INIT;
	Mempool__Wire__Request request = WIRE_REQUEST(GOODBYE, goodbye, &goodbye);

	assert_int_equal(ask(client, &request), 0);
	forget_reply(client);
	wire_close(&client->wire);
}

/* ---- requests ---- */

#define HAS(field, value) .has_##field = 1, .field = (value)
#define TEXT(text)                                                                          \
	(ProtobufCBinaryData)                                                               \
	{                                                                                   \
		.len = sizeof(text) - 1, .data = (uint8_t *)(uintptr_t)(const char *)(text) \
	}
#define MESSAGE(Type, NAME, ...)                                                                   \
	&(Mempool__Wire__##Type)                                                                   \
	{                                                                                          \
		.base = PROTOBUF_C_MESSAGE_INIT(&mempool__wire__##NAME##__descriptor), __VA_ARGS__ \
	}
#define ASK(client, KIND, field, Type, NAME, ...) \
	ask(client, &WIRE_REQUEST(KIND, field, MESSAGE(Type, NAME, __VA_ARGS__)))

static uint64_t offset_of(const struct client *client)
{
	assert_non_null(client->reply->block);
	return client->reply->block->offset;
}

static uint64_t allocate(struct client *client, uint64_t pool, uint64_t size)
{
	assert_int_equal(ASK(client, ALLOC, alloc, Alloc, alloc, HAS(pool, pool), HAS(size, size)), 0);
	return offset_of(client);
}

static int release(struct client *client, uint64_t pool, uint64_t offset)
{
	return ASK(client, FREE, free, Free, free, HAS(pool, pool), HAS(offset, offset));
}

static uint64_t n_blocks(struct client *client, uint64_t pool)
{
	assert_int_equal(ASK(client, STATS, stats, Stats, stats, HAS(pool, pool)), 0);
	return client->reply->stats->allocations;
}

static void expect_sound(struct client *client, uint64_t pool)
{
	assert_int_equal(ASK(client, CHECK, check, Check, check, HAS(pool, pool)), 0);
	assert_int_equal(client->reply->check->n_faults, 0);
}

static uint64_t create(struct client *client, const char *name)
{
	assert_int_equal(ASK(client, CREATE_POOL, create_pool, CreatePool, create_pool,
			     HAS(name, ((ProtobufCBinaryData){strlen(name), (uint8_t *)(uintptr_t)name})),
			     HAS(size, 1 << 20), HAS(max_size, 4 << 20)),
			 0);
	return client->reply->pool->info->pool;
}

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

/* ---- stop and start, death, refusals ---- */

static int setup(void **state)
{
	static struct daemon d;

	*state = &d;
	return daemon_init(&d) || daemon_start(&d, (const char *[]){"--threads", "3", NULL});
}

static int teardown(void **state)
{
	daemon_deinit(*state);
	return 0;
}

static void test_resume_after_sigterm_and_start(void **state)
{
	struct daemon *d = *state;
	struct client client, other;
	uint64_t pool, hidden, offset, last;

	assert_int_equal(daemon_stop(d), 0);
	d->keeps = true;
	assert_int_equal(daemon_start(d, NULL), 0);
	client_begin(&client, d);
	pool = create(&client, "kept");
	offset = allocate(&client, pool, 5000);
	assert_int_equal(ASK(&client, CREATE_POOL, create_pool, CreatePool, create_pool, HAS(size, 65536)), 0);
	hidden = client.reply->pool->info->pool;
	allocate(&client, hidden, 100);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(daemon_stop(d), 0);
		assert_int_equal(daemon_log_count(d, "kept for the next start: 2 pools with 2 blocks"), i + 1);
		assert_int_equal(daemon_start(d, NULL), 0);
		assert_int_equal(client_resume(&client), 0);
		assert_int_equal(n_blocks(&client, pool), 1);
		assert_int_equal(n_blocks(&client, hidden), 1);
	}
	client_begin(&other, d);
	assert_true(other.session > client.session);
	last = create(&other, "after");
	assert_true(last > hidden);
	client_end(&other);
	assert_int_equal(release(&client, pool, offset), 0);
	client_end(&client);
	assert_int_equal(daemon_stop(d), 0);
	d->keeps = false;
	assert_int_equal(daemon_start(d, NULL), 0);
	assert_int_equal(daemon_log_count(d, "brought back after a stop: 2 pools with 0 blocks"), 1);
	assert_int_equal(daemon_stop(d), 0);
}

static int resume_elsewhere(struct client *client)
{
	int status;
	pid_t child = fork();

	if (!child) {
		struct client copy = *client;

		copy.wire = (struct wire)WIRE_NULL;
		_exit(-client_resume(&copy));
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return -WEXITSTATUS(status);
}

static void test_resume_is_refused_to_others(void **state)
{
	struct daemon *d = *state;
	struct client client, stranger;

	client_begin(&client, d);
	stranger = client;
	stranger.wire = (struct wire)WIRE_NULL;
	stranger.token[15] ^= 1;
	assert_int_equal(client_resume(&stranger), -ESTALE);
	assert_int_equal(wire_last_word(&stranger.wire), 0); /* closed */
	stranger.token[15] ^= 1;
	stranger.session++;
	assert_int_equal(client_resume(&stranger), -ESTALE);
	wire_close(&stranger.wire);
	assert_int_equal(resume_elsewhere(&client), -EACCES);
	create(&client, "unmoved"); /* its connection has noticed nothing */
	daemon_kill(d);
	assert_int_equal(daemon_start(d, NULL), 0);
	assert_int_equal(resume_elsewhere(&client), -EACCES);
	assert_int_equal(client_resume(&client), 0);
	stranger = client;
	stranger.wire = (struct wire)WIRE_NULL;
	client_end(&client);
	assert_int_equal(client_resume(&stranger), -ESTALE); /* ended */
	wire_close(&stranger.wire);
	assert_int_equal(daemon_stop(d), 0);
}

enum {
	N_RACERS = 8
};

static void *race(void *arg)
{
	struct client *client = arg;
	Mempool__Wire__Reply *reply = NULL;
	intptr_t r;

	client->wire = (struct wire)WIRE_NULL;
	r = wire_open(&client->wire, client->d->socket);
	if (!r)
		r = wire_resume(&client->wire, client->session, client->token, &reply);
	if (reply)
		mempool__wire__reply__free_unpacked(reply, NULL);
	return (void *)r;
}

static void test_resume_race_leaves_one_connection(void **state)
{
	struct daemon *d = *state;
	struct client client, racers[N_RACERS];
	pthread_t threads[N_RACERS];
	uint64_t pool;

	client_begin(&client, d);
	pool = create(&client, "raced");
	for (int round = 0; round < 20; round++) {
		unsigned n_alive = 0, n_closed = 0;

		for (int i = 0; i < N_RACERS; i++) {
			racers[i] = client;
			assert_int_equal(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
		}
		for (int i = 0; i < N_RACERS; i++) {
			void *r;

			pthread_join(threads[i], &r);
			assert_true(!r || (intptr_t)r == WIRE_E_CLOSED);
		}
		for (int i = 0; i < N_RACERS; i++) {
			Mempool__Wire__Ping ping = MEMPOOL__WIRE__PING__INIT;
			Mempool__Wire__Request request = WIRE_REQUEST(PING, ping, &ping);

			if (!wire_ask(&racers[i].wire, &request, NULL))
				n_alive++;
			else
				n_closed++;
			wire_close(&racers[i].wire);
		}
		assert_int_equal(n_alive, 1);
		assert_int_equal(n_closed, N_RACERS - 1);
	}
	wire_close(&client.wire);
	assert_int_equal(client_resume(&client), 0);
	assert_int_equal(n_blocks(&client, pool), 0);
	client_end(&client);
	assert_int_equal(daemon_stop(d), 0);
}

/*
 * The old connection's requests wait behind a slow one when the session is resumed: once the new connection is answered, none of
 * them is executed any more, and what was executed is answered again.
 */
static void test_resume_fences_what_the_old_connection_holds(void **state)
{
	enum {
		N = 50
	};
	struct daemon *d = *state;
	struct client client;
	struct wire old;
	uint64_t pool, first, n, offsets[N];

	client_begin(&client, d);
	pool = create(&client, "fenced");
	for (int round = 0; round < 10; round++) {
		Mempool__Wire__Request slow = WIRE_REQUEST(CREATE_POOL, create_pool,
							   MESSAGE(CreatePool, create_pool, HAS(name, TEXT("slow")),
								   HAS(size, 32 << 20), HAS(reserve, 1)));
		Mempool__Wire__Request alloc =
			WIRE_REQUEST(ALLOC, alloc, MESSAGE(Alloc, alloc, HAS(pool, pool), HAS(size, 64)));

		first = client.last_id + 1;
		slow.has_id = alloc.has_id = 1;
		slow.id = first;
		assert_int_equal(wire_send(&client.wire, &slow), 0);
		for (int i = 1; i <= N; i++) {
			alloc.id = first + (uint64_t)i;
			assert_int_equal(wire_send(&client.wire, &alloc), 0);
		}
		old = client.wire; /* stays open, full of requests */
		client.wire = (struct wire)WIRE_NULL;
		assert_int_equal(client_resume(&client), 0);
		client.last_id = first + N;
		n = n_blocks(&client, pool);
		assert_int_equal(wire_last_word(&old), 0); /* closed */
		wire_close(&old);
		assert_int_equal(n_blocks(&client, pool), n);
		assert_true(n == 0 || n == N);
		assert_int_equal(client_resume(&client), 0); /* from the lowest id on */
		assert_int_equal(ask_as(&client, &slow, first), 0);
		for (int i = 0; i < N; i++) {
			assert_int_equal(ask_as(&client, &alloc, first + 1 + (uint64_t)i), 0);
			offsets[i] = offset_of(&client);
		}
		client.last_id = first + 2 * N;
		assert_int_equal(n_blocks(&client, pool), N);
		for (int i = 0; i < N; i++)
			assert_int_equal(release(&client, pool, offsets[i]), 0);
		assert_int_equal(n_blocks(&client, pool), 0);
		assert_int_equal(
			ASK(&client, DESTROY_POOL, destroy_pool, DestroyPool, destroy_pool, HAS(name, TEXT("slow"))),
			0);
		printf("%llu of %d had been executed\n", (unsigned long long)n, N);
	}
	client_end(&client);
	assert_int_equal(daemon_stop(d), 0);
}

/* A client in a process of its own: it tells over @fd when it has what it is to leave behind. */
static _Noreturn void live(const struct daemon *d, int fd)
{
	struct client client;

	client_begin(&client, d);
	if (ASK(&client, OPEN_POOL, open_pool, OpenPool, open_pool, HAS(name, TEXT("shared"))))
		_exit(1);
	allocate(&client, client.reply->pool->info->pool, 3000);
	if (ASK(&client, CREATE_POOL, create_pool, CreatePool, create_pool, HAS(size, 65536)) || write(fd, "x", 1) != 1)
		_exit(2);
	for (;;)
		pause();
}

static void test_resume_death_while_the_daemon_was_down_is_seen_at_start(void **state)
{
	struct daemon *d = *state;
	struct client client;
	uint64_t pool;
	pid_t child;
	int ends[2];
	char c;

	client_begin(&client, d);
	pool = create(&client, "shared");
	allocate(&client, pool, 100);
	assert_int_equal(pipe(ends), 0);
	child = fork();
	if (!child)
		live(d, ends[1]);
	assert_int_equal(read(ends[0], &c, 1), 1);
	daemon_kill(d);
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, NULL, 0), child);
	close(ends[0]);
	close(ends[1]);
	assert_int_equal(daemon_start(d, NULL), 0);
	assert_int_equal(daemon_log_count(d, "brought back after a kill: 2 pools with 2 blocks"), 1);
	assert_int_equal(daemon_wait_log(d, "ended with 1 blocks, 3008 bytes, in pool \"shared\""), 0);
	assert_int_equal(client_resume(&client), 0);
	assert_int_equal(n_blocks(&client, pool), 1);
	expect_sound(&client, pool);
	client_end(&client);
	assert_int_equal(daemon_stop(d), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_resume_each_kind_of_request_is_done_once),
		cmocka_unit_test(test_resume_pipeline_killed_in_the_middle),
		TEST(test_resume_after_sigterm_and_start),
		TEST(test_resume_is_refused_to_others),
		TEST(test_resume_race_leaves_one_connection),
		TEST(test_resume_fences_what_the_old_connection_holds),
		TEST(test_resume_death_while_the_daemon_was_down_is_seen_at_start),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
