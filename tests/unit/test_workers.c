// SPDX-License-Identifier: MIT
/* Whose turn it is, over libuv's own threads: works that stand at a gate, counted. */
#include "tests/lib/test.h"

#include <pthread.h>

#include "server/workers.h"

#define N_WORKS	   40u
#define N_PER_USER (WORKERS_N - WORKERS_N / 4)

struct errand {
	struct work work;
	unsigned stands; /* runs until so many gates are open */
	bool has_begun, is_done;
	unsigned place; /* in the order of beginning */
};

static struct workers workers;
static uv_loop_t uv;
static struct mailbox mailbox;
static struct errand errands[N_WORKS];

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t moved = PTHREAD_COND_INITIALIZER;
static unsigned n_open; /* mutex, as are all below */
static unsigned n_begun, n_running, n_most;

static void run(struct work *work)
{
	struct errand *errand = (struct errand *)work;

	pthread_mutex_lock(&mutex);
	errand->has_begun = true;
	errand->place = n_begun++;
	if (++n_running > n_most)
		n_most = n_running;
	pthread_cond_broadcast(&moved);
	while (errand->stands > n_open)
		pthread_cond_wait(&moved, &mutex);
	n_running--;
	pthread_mutex_unlock(&mutex);
}

static void done(struct work *work)
{
	((struct errand *)work)->is_done = true;
}

static void start(unsigned i, uint64_t lane, uid_t uid, unsigned stands)
{
	errands[i] = (struct errand){
		.work = {.uv = &uv, .mailbox = &mailbox, .lane = lane, .uid = uid, .run = run, .done = done},
		.stands = stands,
	};
	workers_start(&workers, &errands[i].work);
}

/* Until so many have begun. ctest bounds the waits of this file. */
static void wait_for(unsigned n)
{
	pthread_mutex_lock(&mutex);
	while (n_begun < n)
		pthread_cond_wait(&moved, &mutex);
	pthread_mutex_unlock(&mutex);
}

static void open_gate(void)
{
	pthread_mutex_lock(&mutex);
	n_open++;
	pthread_cond_broadcast(&moved);
	pthread_mutex_unlock(&mutex);
}

static void finish(unsigned i)
{
	while (!errands[i].is_done)
		uv_run(&uv, UV_RUN_ONCE);
}

static void finish_all(void)
{
	for (unsigned i = 0; i < N_WORKS; i++)
		finish(i);
}

static int begin(void **state)
{
	(void)state;
	n_open = n_begun = n_running = n_most = 0;
	assert_int_equal(workers_init(&workers), 0);
	assert_int_equal(uv_loop_init(&uv), 0);
	return mailbox_open(&mailbox, &uv, NULL);
}

static int end(void **state)
{
	(void)state;
	assert_true(mailbox_close(&mailbox));
	uv_run(&uv, UV_RUN_DEFAULT);
	mailbox_deinit(&mailbox);
	workers_deinit(&workers); /* where it is asserted that nothing is left */
	return uv_loop_close(&uv);
}

static void test_workers_lane_holds_up_nobody_else(void **state)
{
	(void)state;
	for (unsigned i = 0; i < N_WORKS - 2; i++)
		start(i, 7, 1, 1);
	start(N_WORKS - 2, 0, 1, 0);
	start(N_WORKS - 1, 8, 1, 0);
	finish(N_WORKS - 2); /* while all others stand */
	finish(N_WORKS - 1);
	wait_for(WORKERS_PER_LANE + 2);
	open_gate();
	finish_all();
	assert_true(n_most <= WORKERS_PER_LANE + 2);
}

static void test_workers_user_holds_up_no_other(void **state)
{
	(void)state;
	for (unsigned i = 0; i < N_WORKS - 1; i++)
		start(i, 100 + i, 1, 1);
	start(N_WORKS - 1, 7, 2, 0);
	finish(N_WORKS - 1);
	wait_for(N_PER_USER + 1);
	open_gate();
	finish_all();
	assert_true(n_most <= N_PER_USER + 1);
}

/* Each of two has all the work that it may; there is a worker left for a third, and a fourth. */
static void test_workers_two_users_hold_up_no_third(void **state)
{
	(void)state;
	for (unsigned i = 0; i < N_WORKS - 2; i++)
		start(i, 100 + i, 1 + i % 2, 1);
	start(N_WORKS - 2, 7, 3, 0);
	finish(N_WORKS - 2);
	start(N_WORKS - 1, 7, 4, 0);
	finish(N_WORKS - 1);
	open_gate();
	finish_all();
	assert_true(n_most < WORKERS_N);
}

/* What one user had is another's when it ends, though none of the same lane or user waits. */
static void test_workers_room_goes_to_other_users_too(void **state)
{
	(void)state;
	for (unsigned i = 0; i < N_WORKS; i++)
		start(i, 100 + i, i < N_PER_USER ? 1 : 2, i < N_PER_USER ? 1 : 2);
	open_gate();
	for (unsigned i = 0; i < N_PER_USER; i++)
		finish(i);
	uv_run(&uv, UV_RUN_NOWAIT); /* turns that were given meanwhile */
	wait_for(N_PER_USER + N_PER_USER);
	open_gate();
	finish_all();
}

/* All but one of those that may run stand; in the place of that one the others come, one by one. */
static void test_workers_take_turns_in_order(void **state)
{
	(void)state;
	for (unsigned i = 0; i < N_WORKS; i++)
		start(i, 7, 1, i < WORKERS_PER_LANE - 1);
	for (unsigned i = WORKERS_PER_LANE - 1; i < N_WORKS; i++)
		finish(i);
	for (unsigned i = WORKERS_PER_LANE; i + 1 < N_WORKS; i++)
		assert_true(errands[i].place < errands[i + 1].place);
	open_gate();
	finish_all();
}

static void test_workers_cancel_what_waits_only(void **state)
{
	(void)state;
	for (unsigned i = 0; i < N_WORKS; i++)
		start(i, 7, 1, 1);
	wait_for(WORKERS_PER_LANE);
	for (unsigned i = 0; i < N_WORKS; i += 2)
		assert_int_equal(workers_cancel(&errands[i].work), i >= WORKERS_PER_LANE);
	open_gate();
	for (unsigned i = 0; i < N_WORKS; i++)
		if (i < WORKERS_PER_LANE || i % 2)
			finish(i);
	for (unsigned i = WORKERS_PER_LANE; i < N_WORKS; i++)
		assert_int_equal(errands[i].has_begun, i % 2);
}

/* Any mixture of lanes and users: each of them is done. */
static void test_workers_lose_none(void **state)
{
	enum {
		N_ROUNDS = 200
	};
	uint32_t seed = 1;

	(void)state;
	for (unsigned round = 0; round < N_ROUNDS; round++) {
		for (unsigned i = 0; i < N_WORKS; i++) {
			seed = seed * 1103515245u + 12345u;
			start(i, seed >> 16 & 3, seed >> 20 & 3, 0);
		}
		finish_all();
	}
	assert_int_equal(n_begun, N_ROUNDS * N_WORKS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_workers_lane_holds_up_nobody_else, begin, end),
		cmocka_unit_test_setup_teardown(test_workers_user_holds_up_no_other, begin, end),
		cmocka_unit_test_setup_teardown(test_workers_two_users_hold_up_no_third, begin, end),
		cmocka_unit_test_setup_teardown(test_workers_room_goes_to_other_users_too, begin, end),
		cmocka_unit_test_setup_teardown(test_workers_take_turns_in_order, begin, end),
		cmocka_unit_test_setup_teardown(test_workers_cancel_what_waits_only, begin, end),
		cmocka_unit_test_setup_teardown(test_workers_lose_none, begin, end),
	};

	workers_set_up();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
