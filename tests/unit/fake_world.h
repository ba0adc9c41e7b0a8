#pragma once
// SPDX-License-Identifier: MIT
/*
 * fake_world - the library with a pool of a fake daemon, which the test drives and which has a ledger of what it did; and each kind
 * of request, to be asked of it
 */
#include <errno.h>
#include <mempool/mempool.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "tests/lib/fake_daemon.h"
#include "tests/lib/test.h"

#define KIND(op) MEMPOOL__WIRE__REQUEST__OP_##op

enum {
	PATIENT_MS = 60000, /* what must work in the end is not to fail on a slow machine */
};

static struct fake_daemon fake;
static struct mempool_client *client;
static struct mempool_pool *pool;

static inline int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static inline int begin(void **state)
{
	(void)state;
	assert_int_equal(fake_start(&fake), 0);
	assert_int_equal(mempool_connect(&client, fake.path), 0);
	assert_int_equal(mempool_set_timeout(client, PATIENT_MS), 0);
	assert_int_equal(mempool_pool_create(client, "p", (uint64_t)FAKE_BLOCKS * FAKE_BLOCK, NULL, &pool), 0);
	return 0;
}

static inline int finish(void **state)
{
	(void)state;
	mempool_pool_close(pool);
	mempool_disconnect(client);
	fake_stop(&fake);
	if (fake.n_wrong)
		fprintf(stderr, "%llu times: %s\n", (unsigned long long)fake.n_wrong, fake.wrong);
	assert_int_equal(fake.n_wrong, 0);
	assert_true(fake.max_open <= FAKE_RING);
	return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, finish)

/* ---- each kind of request ---- */

static mempool_offset held[4]; /* what the request at hand works on */

static inline int do_alloc(void)
{
	held[0] = mempool_alloc(pool, FAKE_BLOCK);
	return held[0] ? 0 : -errno;
}

static inline int do_free(void)
{
	return mempool_free(pool, held[0]);
}

static inline int do_realloc(void)
{
	mempool_offset moved = mempool_realloc(pool, held[0], 2 * FAKE_BLOCK);

	if (!moved)
		return -errno;
	held[0] = moved;
	return 0;
}

static inline int do_alloc_batch(void)
{
	return mempool_alloc_batch(pool, 4, (const size_t[]){1, 2, 3, 4}, held);
}

static inline int do_free_batch(void)
{
	return mempool_free_batch(pool, 4, held);
}

static inline int do_publish(void)
{
	return mempool_publish(pool, held[0], "a-name-that-is-as-long-as-names-may-be-and-so-needs-a-larger-one");
}

static inline int do_find(void)
{
	mempool_offset found;

	return mempool_find(pool, "first", &found);
}

static inline int do_acquire(void)
{
	return mempool_acquire(pool, "first", &held[0]);
}

static inline int do_retain(void)
{
	return mempool_retain(pool, held[0]);
}

static inline int do_take(void)
{
	return mempool_take(pool, held[0], 1);
}

static inline int do_inspect(void)
{
	return mempool_usable_size(pool, held[0]) == FAKE_BLOCK ? 0 : -EFAULT;
}

static inline int do_open(void)
{
	struct mempool_pool *again;
	int r = mempool_pool_open(client, "p", &again);

	if (!r)
		mempool_pool_close(again);
	return r;
}

static inline int do_create(void)
{
	struct mempool_pool *another;
	int r = mempool_pool_create(client, "q", FAKE_BLOCK, NULL, &another);

	if (!r)
		mempool_pool_close(another);
	return r;
}

static inline int do_destroy(void)
{
	return mempool_pool_destroy(client, "q", 0);
}

static inline int do_resize(void)
{
	return mempool_pool_resize(pool, 2 * FAKE_BLOCK);
}

static inline int do_stats(void)
{
	struct mempool_stats stats;

	return mempool_pool_stats(pool, &stats);
}

static const struct kind {
	const char *name;
	int (*act)(void);
	unsigned op;
	int n_before, n_after; /* blocks that are live */
} kinds[] = {
	{"alloc", do_alloc, KIND(ALLOC), 0, 1},
	{"free", do_free, KIND(FREE), 1, 0},
	{"realloc", do_realloc, KIND(REALLOC), 1, 1},
	{"alloc_batch", do_alloc_batch, KIND(ALLOC_BATCH), 0, 4},
	{"free_batch", do_free_batch, KIND(FREE_BATCH), 4, 0},
	{"publish", do_publish, KIND(PUBLISH), 1, 1},
	{"find", do_find, KIND(FIND), 1, 1},
	{"acquire", do_acquire, KIND(FIND), 1, 1},
	{"retain", do_retain, KIND(RETAIN), 1, 1},
	{"take", do_take, KIND(TAKE), 1, 1},
	{"inspect", do_inspect, KIND(INSPECT), 1, 1},
	{"open", do_open, KIND(OPEN_POOL), 0, 0},
	{"create", do_create, KIND(CREATE_POOL), 0, 0},
	{"destroy", do_destroy, KIND(DESTROY_POOL), 0, 0},
	{"resize", do_resize, KIND(RESIZE_POOL), 0, 0},
	{"stats", do_stats, KIND(STATS), 0, 0},
};

/* ---- the books of the fake daemon ---- */

/* The fake daemon's blocks as a case needs them: the first one live where one is, each with one hold. */
static inline void set_books(int n_live)
{
	pthread_mutex_lock(&fake.mutex);
	memset(fake.holds, 0, sizeof(fake.holds));
	for (int i = 0; i < n_live; i++) {
		fake.holds[i] = 1;
		held[i] = FAKE_FIRST + (uint64_t)i * FAKE_BLOCK;
	}
	fake.n_live = (uint64_t)n_live;
	fake.next_block = (uint32_t)n_live;
	pthread_mutex_unlock(&fake.mutex);
}

/* Whether so many blocks are live, each with one hold, wherever they are. */
static inline bool are_books_as(int n_live)
{
	int n_holds = 0;
	bool is_so;

	pthread_mutex_lock(&fake.mutex);
	for (unsigned i = 0; i < FAKE_BLOCKS; i++)
		n_holds += (int)fake.holds[i];
	is_so = fake.n_live == (uint64_t)n_live && n_holds == n_live;
	pthread_mutex_unlock(&fake.mutex);
	return is_so;
}

/* A word of the fake daemon's, which runs. */
static inline uint64_t seen(const uint64_t *word)
{
	uint64_t value;

	pthread_mutex_lock(&fake.mutex);
	value = *word;
	pthread_mutex_unlock(&fake.mutex);
	return value;
}

/* ---- threads ---- */

static atomic_int n_failed;
static _Atomic uint64_t n_done[FAKE_N_KINDS];

static inline void note(bool is_good, unsigned op)
{
	if (is_good)
		atomic_fetch_add(&n_done[op], 1);
	else if (!atomic_fetch_add(&n_failed, 1))
		fprintf(stderr, "kind %u: %s\n", op, mempool_last_error());
}

static inline void mark(mempool_offset offset, int value)
{
	memset(mempool_ptr(pool, offset), value, FAKE_BLOCK);
}

static inline void *come_later(void *arg)
{
	const struct timespec pause = {.tv_nsec = (long)(uintptr_t)arg * 1000000};

	nanosleep(&pause, NULL); /* the daemon is away for so long */
	fake_come(&fake);
	return NULL;
}
