// SPDX-License-Identifier: MIT
/*
 * The library loses its daemon at every point of every kind of request, and each is done exactly once; or the session is lost, and
 * that is told.
 */
#include <fcntl.h>

#include "fake_world.h"

enum {
	AWAY_MS = 25, /* two tries of the client fail meanwhile */
	N_THREADS = 32,
	N_ROUNDS = 60,
};

/* ---- every kind of request, at every point ---- */

static int open_fds(void)
{
	int n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

enum trouble {
	BACK_AT_ONCE,
	BACK_LATER,
	HELLO_DROPPED,
	TROUBLE_N
};

static void check_case(const struct kind *kind, enum fake_point point, enum trouble trouble)
{
	uint64_t before = fake_count(&fake, kind->op), drops, again;
	int r, n_fds;

	set_books(kind->n_before);
	assert_int_equal(do_stats(), 0); /* the stream is there, and of use */
	n_fds = open_fds();
	pthread_mutex_lock(&fake.mutex);
	fake.n_bad_hellos = trouble == HELLO_DROPPED;
	drops = fake.n_drops;
	again = fake.n_again;
	pthread_mutex_unlock(&fake.mutex);
	if (kind->op == KIND(STATS))
		before++; /* the one above */
	fake_fault(&fake, point, 0, trouble == BACK_LATER ? AWAY_MS : 0);
	r = kind->act();
	if (!r && point == FAKE_AFTER_REPLY) /* of no consequence to the call; the next one comes to know */
		assert_int_equal(do_open(), 0);
	pthread_mutex_lock(&fake.mutex);
	if (r || fake.executed[kind->op] != before + 1 + (point == FAKE_AFTER_REPLY && kind->op == KIND(OPEN_POOL)) ||
	    fake.n_live != (uint64_t)kind->n_after || fake.n_wrong ||
	    fake.n_drops != drops + 1 + (trouble == HELLO_DROPPED) ||
	    (fake.n_again != again) !=
		    (point == FAKE_BEFORE_REPLY || point == FAKE_HALF_REPLY || point == FAKE_JUNK_REPLY))
		fail_msg(
			"%s at point %d, trouble %d: result %d (%s), executed %d times, answered again %d, live %d, %s",
			kind->name, (int)point, (int)trouble, r, mempool_last_error(),
			(int)(fake.executed[kind->op] - before), (int)(fake.n_again - again), (int)fake.n_live,
			fake.n_wrong ? fake.wrong : "nothing wrong");
	pthread_mutex_unlock(&fake.mutex);
	assert_int_equal(open_fds(), n_fds);
}

static void test_every_request_is_done_once_wherever_the_daemon_goes(void **state)
{
	(void)state;
	for (size_t i = 0; i < N_ELEMENTS(kinds); i++)
		for (int point = FAKE_BEFORE_READ; point < FAKE_POINT_N; point++)
			for (int trouble = 0; trouble < TROUBLE_N; trouble++)
				check_case(&kinds[i], (enum fake_point)point, (enum trouble)trouble);
	printf("%d cases, %d resumes\n", (int)(N_ELEMENTS(kinds) * (FAKE_POINT_N - 1) * TROUBLE_N),
	       (int)seen(&fake.n_resumes));
}

/* ---- many threads ---- */

static bool is_mine(mempool_offset offset, int mark)
{
	const unsigned char *bytes = mempool_ptr(pool, offset);

	for (unsigned i = 0; i < FAKE_BLOCK; i++)
		if (bytes[i] != mark)
			return false;
	return true;
}

static void *run_thread(void *arg)
{
	int value = (int)(uintptr_t)arg + 1;

	for (int round = 0; round < N_ROUNDS; round++) {
		mempool_offset one = mempool_alloc(pool, FAKE_BLOCK), moved, batch[5];
		int r;

		note(one != 0, KIND(ALLOC));
		if (!one)
			break;
		mark(one, value);
		r = mempool_alloc_batch(pool, 5, (const size_t[]){1, 1, 1, 1, 1}, batch);
		note(!r, KIND(ALLOC_BATCH));
		for (int i = 0; !r && i < 5; i++)
			mark(batch[i], value);
		moved = mempool_realloc(pool, one, FAKE_BLOCK);
		note(moved && is_mine(moved, value), KIND(REALLOC));
		if (moved)
			atomic_fetch_add(&n_done[KIND(FREE)], 1); /* of the old one */
		note(!mempool_retain(pool, moved), KIND(RETAIN));
		note(!mempool_free(pool, moved), KIND(FREE));
		note(is_mine(moved, value) && !mempool_free(pool, moved), KIND(FREE));
		for (int i = 0; !r && i < 5; i++)
			note(is_mine(batch[i], value), 0);
		note(!mempool_publish_batch(pool, 5, batch), KIND(PUBLISH));
		atomic_fetch_add(&n_done[KIND(PUBLISH)], 4); /* each is a request */
		note(!mempool_free_batch(pool, 5, batch), KIND(FREE_BATCH));
	}
	return NULL;
}

static void crowd(unsigned every, int away_ms)
{
	static const unsigned ops[] = {KIND(ALLOC), KIND(ALLOC_BATCH), KIND(REALLOC), KIND(RETAIN),
				       KIND(FREE),  KIND(FREE_BATCH),  KIND(PUBLISH)};
	pthread_t threads[N_THREADS];
	uint64_t before[FAKE_N_KINDS];

	atomic_store(&n_failed, 0);
	memset(n_done, 0, sizeof(n_done));
	set_books(0);
	pthread_mutex_lock(&fake.mutex);
	memcpy(before, fake.executed, sizeof(before));
	fake.every = every;
	pthread_mutex_unlock(&fake.mutex);
	fake_fault(&fake, FAKE_BEFORE_READ, every, away_ms);
	for (uintptr_t i = 0; i < N_THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, run_thread, (void *)i), 0);
	for (int i = 0; i < N_THREADS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(n_failed, 0);
	fake_fault(&fake, FAKE_NOWHERE, 0, 0);
	assert_int_equal(fake_live(&fake), 0);
	for (size_t i = 0; i < N_ELEMENTS(ops); i++)
		assert_int_equal(fake_count(&fake, ops[i]) - before[ops[i]], n_done[ops[i]]);
	printf("%d threads, gone %d times, %d answers again\n", (int)N_THREADS, (int)seen(&fake.n_drops),
	       (int)seen(&fake.n_again));
	assert_true(seen(&fake.n_drops) > 20);
}

static void test_crowd_is_served_once_while_the_stream_breaks(void **state)
{
	(void)state;
	crowd(37, 0);
}

static void test_crowd_is_served_once_while_the_daemon_goes_and_comes(void **state)
{
	(void)state;
	crowd(301, 5);
}

/* ---- one ---- */

static void test_idle_client_resumes_with_its_next_call(void **state)
{
	(void)state;
	assert_int_equal(do_alloc(), 0);
	for (uint64_t i = 1; i <= 3; i++) {
		fake_go(&fake);
		fake_come(&fake);
		mark(held[0], 9); /* the address is what it was */
		assert_int_equal(do_stats(), 0);
		assert_int_equal(seen(&fake.n_resumes), i);
		assert_int_equal(seen(&fake.n_again), 0);
	}
}

/* ---- sessions that do not come back ---- */

static void check_lost(int error, const char *word)
{
	struct mempool_pool *none;

	for (int i = 0; i < 3; i++) {
		assert_int_equal(do_alloc(), error);
		assert_non_null(strstr(mempool_last_error(), word));
	}
	assert_int_equal(mempool_free(pool, FAKE_FIRST), error);
	assert_int_equal(mempool_pool_open(client, "p", &none), error);
	assert_true(((char *)mempool_ptr(pool, FAKE_FIRST))[1] == 5); /* still readable */
}

static void check_refusal(enum fake_welcome welcome, int refusal, bool in_frame_0, int error, const char *word)
{
	assert_int_equal(do_alloc(), 0);
	mark(FAKE_FIRST, 5);
	pthread_mutex_lock(&fake.mutex);
	fake.welcome = welcome;
	fake.refusal = refusal;
	fake.refuses_in_frame_0 = in_frame_0;
	pthread_mutex_unlock(&fake.mutex);
	fake_go(&fake);
	fake_come(&fake);
	check_lost(error, word);
}

static void test_unknown_session_is_lost(void **state)
{
	(void)state;
	check_refusal(FAKE_REFUSED, -ESTALE, false, -ESTALE, "session is lost");
}

static void test_session_of_another_process_is_lost(void **state)
{
	(void)state;
	check_refusal(FAKE_REFUSED, -EACCES, true, -ESTALE, "session is lost");
}

static void test_other_version_is_told(void **state)
{
	(void)state;
	check_refusal(FAKE_OTHER_VERSION, 0, false, -EPROTO, "protocol version");
}

static void test_refused_version_is_told(void **state)
{
	(void)state;
	check_refusal(FAKE_REFUSED, -EPROTO, false, -EPROTO, "protocol version");
}

static void test_new_session_is_not_taken_for_the_old(void **state)
{
	(void)state;
	check_refusal(FAKE_NEW_SESSION, 0, false, -ESTALE, "session is lost");
}

static void test_busy_daemon_is_asked_again(void **state)
{
	(void)state;
	pthread_mutex_lock(&fake.mutex);
	fake.welcome = FAKE_REFUSED;
	fake.refusal = -EAGAIN;
	fake.refuses_in_frame_0 = true;
	fake.n_refusals = 3;
	pthread_mutex_unlock(&fake.mutex);
	fake_go(&fake);
	fake_come(&fake);
	assert_int_equal(do_alloc(), 0);
	assert_int_equal(seen(&fake.n_resumes), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_every_request_is_done_once_wherever_the_daemon_goes),
		TEST(test_crowd_is_served_once_while_the_stream_breaks),
		TEST(test_crowd_is_served_once_while_the_daemon_goes_and_comes),
		TEST(test_idle_client_resumes_with_its_next_call),
		TEST(test_unknown_session_is_lost),
		TEST(test_session_of_another_process_is_lost),
		TEST(test_other_version_is_told),
		TEST(test_refused_version_is_told),
		TEST(test_new_session_is_not_taken_for_the_old),
		TEST(test_busy_daemon_is_asked_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
