// SPDX-License-Identifier: MIT
/* The library and a real daemon that is killed, stopped and started again under it. */
#include "client_world.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/mempool.pb-c.h"
#include "tests/lib/rnd.h"

enum {
	N_THREADS = 16,
	N_KILLS = 25,
	N_HELD = 24,
	N_BATCH = 20,
	BLOCK_MAX = 2000,
	PATIENT_MS = 120000,
	POOL_BYTES = 16 << 20,
};

/* The daemon dies with the thread that started it, so that the main thread starts it, and others call. */
static int begin(void **state)
{
	(void)state;
	assert_int_equal(daemon_init(&world), 0);
	world.keeps = true;
	assert_int_equal(daemon_start(&world, NULL), 0);
	assert_int_equal(mempool_connect(&client, world.socket), 0);
	assert_int_equal(mempool_set_timeout(client, PATIENT_MS), 0);
	assert_int_equal(mempool_pool_create(client, "p", POOL_BYTES, NULL, &pool), 0);
	return 0;
}

static int finish(void **state)
{
	(void)state;
	mempool_pool_close(pool);
	mempool_disconnect(client);
	daemon_deinit(&world);
	return 0;
}

/* ---- under load ---- */

struct piece {
	mempool_offset offset;
	uint32_t size, mark;
};

static atomic_bool is_over;
static atomic_int n_wrong;
static atomic_ulong n_calls;

static bool check(bool is_good, const char *what)
{
	atomic_fetch_add_explicit(&n_calls, 1, memory_order_relaxed);
	if (!is_good && atomic_fetch_add(&n_wrong, 1) < 5)
		fprintf(stderr, "%s: %s\n", what, mempool_last_error());
	return is_good;
}

static void paint(const struct piece *piece)
{
	uint32_t *words = mempool_ptr(pool, piece->offset);

	for (uint32_t i = 0; i < piece->size / 4; i++)
		words[i] = piece->mark;
}

static bool is_painted(const struct piece *piece)
{
	const uint32_t *words = mempool_ptr(pool, piece->offset);

	for (uint32_t i = 0; i < piece->size / 4; i++)
		if (words[i] != piece->mark)
			return false;
	return true;
}

static void put(struct piece *piece, mempool_offset offset, uint32_t size, uint32_t *markp)
{
	*piece = (struct piece){.offset = offset, .size = size, .mark = *markp += N_THREADS};
	if (check(offset != 0, "alloc"))
		paint(piece);
}

static void drop(struct piece *piece)
{
	if (piece->offset && check(is_painted(piece), "pattern"))
		(void)check(!mempool_free(pool, piece->offset), "free");
	piece->offset = 0;
}

static void change(struct piece *piece, uint32_t size)
{
	mempool_offset now = mempool_realloc(pool, piece->offset, size);

	if (!check(now != 0, "realloc"))
		return;
	piece->offset = now;
	if (size < piece->size)
		piece->size = size;
	(void)check(is_painted(piece), "pattern after realloc");
	piece->size = size;
	paint(piece);
}

static void batch(uint32_t size, uint32_t *markp)
{
	mempool_offset offsets[N_BATCH];
	struct piece pieces[N_BATCH];
	size_t sizes[N_BATCH];

	for (int i = 0; i < N_BATCH; i++)
		sizes[i] = size;
	if (!check(!mempool_alloc_batch(pool, N_BATCH, sizes, offsets), "alloc of a batch"))
		return;
	for (int i = 0; i < N_BATCH; i++)
		put(&pieces[i], offsets[i], size, markp);
	for (int i = 0; i < N_BATCH; i++)
		(void)check(is_painted(&pieces[i]), "pattern in a batch");
	(void)check(!mempool_free_batch(pool, N_BATCH, offsets), "free of a batch");
}

static void *run_thread(void *arg)
{
	struct piece held[N_HELD] = {0};
	uint32_t mark = (uint32_t)(uintptr_t)arg;
	struct rnd rnd;

	rnd_init(&rnd, (uint64_t)(uintptr_t)arg);
	while (!atomic_load_explicit(&is_over, memory_order_relaxed)) {
		struct piece *piece = &held[rnd_below(&rnd, N_HELD)];
		uint32_t size = 4 * (1 + (uint32_t)rnd_below(&rnd, BLOCK_MAX / 4));

		switch (rnd_below(&rnd, 8)) {
		case 0:
			batch(size, &mark);
			break;
		case 1:
		case 2:
			if (piece->offset)
				change(piece, size);
			break;
		case 3:
			if (piece->offset && check(!mempool_retain(pool, piece->offset), "retain"))
				(void)check(!mempool_free(pool, piece->offset), "release");
			break;
		default:
			if (piece->offset)
				drop(piece);
			else
				put(piece, mempool_alloc(pool, size), size, &mark);
		}
	}
	for (int i = 0; i < N_HELD; i++)
		drop(&held[i]);
	return NULL;
}

static void end_daemon(bool kills)
{
	if (kills)
		daemon_kill(&world);
	else
		assert_int_equal(daemon_stop(&world), 0);
	assert_int_equal(daemon_start(&world, NULL), 0);
}

/* Until the threads have done so many more, or something is wrong. */
static void await_calls(unsigned long more)
{
	const struct timespec pause = {.tv_nsec = 1000000};
	unsigned long until = atomic_load(&n_calls) + more;

	while (atomic_load(&n_calls) < until && !atomic_load(&n_wrong))
		nanosleep(&pause, NULL); /* between two looks */
}

static void run_crowd(bool kills, int n_ends)
{
	pthread_t threads[N_THREADS];

	atomic_store(&is_over, false);
	atomic_store(&n_wrong, 0);
	for (uintptr_t i = 0; i < N_THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, run_thread, (void *)i), 0);
	for (int i = 0; i < n_ends && !atomic_load(&n_wrong); i++) {
		await_calls(500 + 137 * (unsigned long)i % 1000);
		end_daemon(kills);
	}
	await_calls(500);
	atomic_store(&is_over, true);
	for (int i = 0; i < N_THREADS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(n_wrong, 0);
	assert_int_equal(used_now(), 0);
	assert_int_equal(mempool_pool_check(pool, NULL), 0);
	printf("%d threads, %lu calls, the daemon %s %d times\n", (int)N_THREADS, atomic_load(&n_calls),
	       kills ? "killed" : "stopped", n_ends);
}

static void test_killed_daemon_costs_time_and_nothing_else(void **state)
{
	(void)state;
	run_crowd(true, N_KILLS);
}

static void test_stopped_daemon_is_an_upgrade(void **state)
{
	(void)state;
	run_crowd(false, 5);
}

/* ---- a reply is lost after the commit ---- */

#define KIND(op) MEMPOOL__WIRE__REQUEST__OP_##op

static mempool_offset one;
static mempool_offset some[3];
static struct mempool_pool *other;

static int do_alloc(void)
{
	one = mempool_alloc(pool, 100);
	return one ? 0 : -errno;
}

static int do_realloc(void)
{
	memset(mempool_ptr(pool, one), 7, 100);
	one = mempool_realloc(pool, one, 300000);
	return one && is_filled(one, 7, 100) ? 0 : -errno;
}

static int do_retain(void)
{
	return mempool_retain(pool, one);
}

static int do_free(void)
{
	return mempool_free(pool, one);
}

static int do_publish(void)
{
	return mempool_publish(pool, one, "key");
}

static int do_alloc_batch(void)
{
	return mempool_alloc_batch(pool, 3, (const size_t[]){16, 32, 48}, some);
}

static int do_free_batch(void)
{
	return mempool_free_batch(pool, 3, some);
}

static int do_create(void)
{
	int r = mempool_pool_create(client, "other", 65536, NULL, &other);

	return !r && !mempool_alloc(other, 64) ? -errno : r;
}

static int do_resize(void)
{
	return mempool_pool_resize(other, 65536);
}

static int do_open(void)
{
	mempool_pool_close(other);
	return mempool_pool_open(client, "other", &other);
}

static int do_destroy(void)
{
	mempool_pool_close(other);
	return mempool_pool_destroy(client, "other", 0);
}

static const struct {
	const char *name;
	int (*act)(void);
	unsigned op;
	uint64_t used_after;
} steps[] = {
	{"alloc", do_alloc, KIND(ALLOC), 112},
	{"realloc", do_realloc, KIND(REALLOC), 300000},
	{"retain", do_retain, KIND(RETAIN), 300000},
	{"free", do_free, KIND(FREE), 300000},
	{"publish", do_publish, KIND(PUBLISH), 300000},
	{"last free", do_free, KIND(FREE), 0},
	{"alloc_batch", do_alloc_batch, KIND(ALLOC_BATCH), 96},
	{"free_batch", do_free_batch, KIND(FREE_BATCH), 0},
	{"create", do_create, KIND(CREATE_POOL), 0},
	{"resize", do_resize, KIND(RESIZE_POOL), 0},
	{"open", do_open, KIND(OPEN_POOL), 0},
	{"destroy", do_destroy, KIND(DESTROY_POOL), 0},
};

static void *run_step(void *arg)
{
	return (void *)(intptr_t)steps[(uintptr_t)arg].act();
}

/* One that loses the reply to the first request of that kind. */
static void start_lossy(const char *how, unsigned op)
{
	char wish[32];

	snprintf(wish, sizeof(wish), "%s %u 1", how, op);
	assert_int_equal(setenv("MEMPOOLD", LOSSY_PATH, 1), 0);
	assert_int_equal(setenv("MEMPOOL_LOSE", wish, 1), 0);
	daemon_kill(&world);
	assert_int_equal(daemon_start(&world, NULL), 0);
	unsetenv("MEMPOOLD");
	unsetenv("MEMPOOL_LOSE");
}

static void check_step(uintptr_t i, bool kills)
{
	pthread_t thread;
	void *result;

	start_lossy(kills ? "kill" : "drop", steps[i].op);
	assert_int_equal(pthread_create(&thread, NULL, run_step, (void *)i), 0);
	if (kills) {
		assert_int_equal(daemon_wait(&world), 128 + SIGKILL);
		assert_int_equal(daemon_start(&world, NULL), 0);
	}
	assert_int_equal(pthread_join(thread, &result), 0);
	if (result || used_now() != steps[i].used_after)
		fail_msg("%s (%s): result %d (%s), used %d", steps[i].name, kills ? "kill" : "drop",
			 (int)(intptr_t)result, mempool_last_error(), (int)used_now());
}

static void test_lost_reply_is_asked_for_again(void **state)
{
	(void)state;
	for (int kills = 0; kills < 2; kills++)
		for (uintptr_t i = 0; i < N_ELEMENTS(steps); i++)
			check_step(i, kills);
	assert_int_equal(mempool_pool_check(pool, NULL), 0);
}

/* ---- sessions that end ---- */

/* On a slow machine the time may be over before the daemon is gone. */
static bool was_given_up(void)
{
	return errno == EHOSTDOWN || errno == ETIMEDOUT;
}

static void test_call_that_was_given_up_leaves_nothing(void **state)
{
	(void)state;
	assert_int_equal(do_alloc(), 0);
	start_lossy("kill", KIND(ALLOC));
	assert_int_equal(mempool_set_timeout(client, 50), 0);
	errno = 0;
	assert_true(!mempool_alloc(pool, 5000) && was_given_up());
	assert_int_equal(mempool_free(pool, one), 0); /* queued */
	assert_int_equal(daemon_wait(&world), 128 + SIGKILL);
	assert_int_equal(daemon_start(&world, NULL), 0);
	assert_int_equal(mempool_set_timeout(client, PATIENT_MS), 0);
	assert_true(await_used(0));
}

static void test_disconnect_while_the_daemon_is_down_ends_the_session(void **state)
{
	struct mempool_client *second;

	(void)state;
	assert_int_equal(do_alloc(), 0);
	daemon_kill(&world);
	mempool_disconnect(client);
	mempool_pool_close(pool);
	pool = NULL;
	client = NULL;
	assert_int_equal(daemon_start(&world, NULL), 0);
	assert_int_equal(mempool_connect(&second, world.socket), 0);
	client = second;
	assert_int_equal(mempool_pool_open(client, "p", &pool), 0);
	assert_true(await_used(0)); /* this process lives, but has let go of that session's lock */
}

/* Until this thread has a heap, which a first handful of calls does without. */
static void warm_up(void)
{
	mempool_offset offset;

	for (int i = 0; i < 100; i++) {
		offset = mempool_alloc(pool, 100);
		assert_true(offset && !mempool_free(pool, offset));
	}
}

static uint64_t leased_idle(void)
{
	struct mempool_stats stats;

	assert_int_equal(mempool_pool_stats(pool, &stats), 0);
	return stats.leased_idle;
}

/* Slabs that were leased while nobody waited for them any more go back. */
static void test_lease_that_was_given_up_leaves_nothing(void **state)
{
	struct mempool_stats stats;
	uint64_t idle;

	(void)state;
	warm_up();
	assert_int_equal(do_alloc(), 0);
	idle = leased_idle();
	start_lossy("kill", KIND(LEASE_SLABS));
	assert_int_equal(mempool_set_timeout(client, 50), 0);
	errno = 0;
	assert_true(!mempool_alloc(pool, 5000) && was_given_up());
	assert_int_equal(daemon_wait(&world), 128 + SIGKILL);
	assert_int_equal(daemon_start(&world, NULL), 0);
	assert_int_equal(mempool_set_timeout(client, PATIENT_MS), 0);
	while (leased_idle() != idle) /* any call brings it about */
		;
	assert_int_equal(mempool_pool_check(pool, NULL), 0);
	assert_int_equal(do_free(), 0);
	some[0] = mempool_alloc(pool, 5000);
	assert_true(some[0] && !mempool_free(pool, some[0]));
	assert_int_equal(mempool_pool_stats(pool, &stats), 0);
	assert_true(!stats.used && stats.leased_idle > idle);
}

/* A heap number that nobody waited for is lost to its session, and to nobody else. */
static void test_heap_that_was_given_up_leaves_nothing(void **state)
{
	struct mempool_stats stats;

	(void)state;
	one = 1;
	start_lossy("kill", KIND(OPEN_HEAP));
	assert_int_equal(mempool_set_timeout(client, 50), 0);
	for (int i = 0; i < 100 && one; i++) { /* the first go by request */
		errno = 0;
		one = mempool_alloc(pool, 100);
		assert_int_equal(mempool_free(pool, one), 0);
	}
	assert_true(!one && was_given_up());
	assert_int_equal(daemon_wait(&world), 128 + SIGKILL);
	assert_int_equal(daemon_start(&world, NULL), 0);
	assert_int_equal(mempool_set_timeout(client, PATIENT_MS), 0);
	for (int i = 0; i < 2000 && !leased_idle(); i++) { /* by request first, then with a number of its own */
		assert_int_equal(do_alloc(), 0);
		assert_int_equal(do_free(), 0);
	}
	assert_true(leased_idle());
	assert_int_equal(mempool_pool_check(pool, NULL), 0);
	mempool_pool_close(pool);
	mempool_disconnect(client);
	assert_int_equal(mempool_connect(&client, world.socket), 0);
	assert_int_equal(mempool_pool_open(client, "p", &pool), 0);
	assert_true(await_used(0));
	for (int i = 0; i < 5000 && leased_idle(); i++) /* nobody has it any more: a gap as soon as somebody looks */
		assert_true(await_used(0));
	assert_int_equal(mempool_pool_stats(pool, &stats), 0);
	assert_int_equal(stats.leased_idle, 0);
	assert_int_equal(mempool_pool_check(pool, NULL), 0);
}

/* One call finds out, and from then on nothing is handed out, also of what lies ready in the process. */
static void test_lost_session_hands_out_nothing(void **state)
{
	struct mempool_stats stats;

	(void)state;
	warm_up();
	assert_int_equal(do_alloc(), 0);
	assert_int_equal(daemon_stop(&world), 0);
	world.keeps = false;
	assert_int_equal(daemon_start(&world, NULL), 0);
	assert_int_equal(daemon_stop(&world), 0); /* destroys all */
	assert_int_equal(daemon_start(&world, NULL), 0);
	assert_int_equal(mempool_pool_stats(pool, &stats), -ESTALE);
	for (int i = 0; i < 3; i++) {
		errno = 0;
		assert_true(!mempool_alloc(pool, 100) && errno == ESTALE);
		assert_non_null(strstr(mempool_last_error(), "session is lost"));
		assert_int_equal(mempool_free(pool, one), -ESTALE);
		assert_int_equal(mempool_take(pool, one, 1), -ESTALE);
		assert_int_equal(mempool_usable_size(pool, one), 0);
		assert_true(!mempool_realloc(pool, one, 500) && errno == ESTALE);
	}
}

static void test_session_of_an_ephemeral_daemon_is_lost(void **state)
{
	(void)state;
	assert_int_equal(do_alloc(), 0);
	memset(mempool_ptr(pool, one), 3, 100);
	assert_int_equal(daemon_stop(&world), 0);
	world.keeps = false;
	assert_int_equal(daemon_start(&world, NULL), 0);
	assert_int_equal(daemon_stop(&world), 0); /* destroys all */
	assert_int_equal(daemon_start(&world, NULL), 0);
	for (int i = 0; i < 2; i++) {
		errno = 0;
		assert_true(!mempool_alloc(pool, 8) && errno == ESTALE);
		assert_non_null(strstr(mempool_last_error(), "session is lost"));
	}
	assert_true(is_filled(one, 3, 100)); /* still mapped */
}

#define RESTART_TEST(name) cmocka_unit_test_setup_teardown(name, begin, finish)

int main(void)
{
	const struct CMUnitTest tests[] = {
		RESTART_TEST(test_killed_daemon_costs_time_and_nothing_else),
		RESTART_TEST(test_stopped_daemon_is_an_upgrade),
		RESTART_TEST(test_lost_reply_is_asked_for_again),
		RESTART_TEST(test_call_that_was_given_up_leaves_nothing),
		RESTART_TEST(test_disconnect_while_the_daemon_is_down_ends_the_session),
		RESTART_TEST(test_lease_that_was_given_up_leaves_nothing),
		RESTART_TEST(test_heap_that_was_given_up_leaves_nothing),
		RESTART_TEST(test_lost_session_hands_out_nothing),
		RESTART_TEST(test_session_of_an_ephemeral_daemon_is_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
