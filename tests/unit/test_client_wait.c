// SPDX-License-Identifier: MIT
/*
 * The library waits for an absent or a silent daemon as long as it was told to, and no longer: what was given up holds nothing, and a
 * free is done all the same.
 */
#include <sched.h>

#include "fake_world.h"
#include "tests/lib/fault.h"

static void test_absent_daemon_is_told_and_an_alloc_is_forgotten(void **state)
{
	uint64_t before = fake_count(&fake, KIND(ALLOC));
	int64_t begun;

	(void)state;
	assert_int_equal(mempool_set_timeout(client, 60), 0);
	assert_int_equal(do_stats(), 0);
	fake_go(&fake);
	begun = now_ms();
	errno = 0;
	assert_true(!mempool_alloc(pool, 8) && errno == EHOSTDOWN);
	assert_true(now_ms() - begun >= 59);
	assert_non_null(strstr(mempool_last_error(), "start mempoold"));
	for (int i = 0; i < 3; i++)
		assert_int_equal(do_alloc(), -EHOSTDOWN);
	fake_come(&fake);
	assert_int_equal(mempool_set_timeout(client, PATIENT_MS), 0);
	do
		assert_int_equal(do_stats(), 0);
	while (fake_live(&fake));
	assert_true(fake_count(&fake, KIND(ALLOC)) <= before + 1); /* the first was on its way; the others never were */
}

static void test_late_success_is_given_back(void **state)
{
	static const char *const names[] = {"alloc", "alloc_batch", "realloc", "retain", "acquire"};

	(void)state;
	for (size_t i = 0; i < N_ELEMENTS(kinds); i++) {
		const struct kind *kind = &kinds[i];
		bool is_one = false;

		for (size_t j = 0; j < N_ELEMENTS(names); j++)
			is_one |= !strcmp(names[j], kind->name);
		if (!is_one)
			continue;
		set_books(kind->n_before);
		assert_int_equal(do_stats(), 0);
		assert_int_equal(mempool_set_timeout(client, 30), 0);
		fake_fault(&fake, FAKE_BEFORE_REPLY, 0, -1); /* done, and nobody was told */
		assert_int_equal(kind->act(), -EHOSTDOWN);
		assert_true(fake_live(&fake) == (uint64_t)kind->n_after + !strcmp(kind->name, "realloc"));
		fake_come(&fake);
		assert_int_equal(mempool_set_timeout(client, PATIENT_MS), 0);
		while (!are_books_as(kind->n_before)) /* any call brings it about */
			assert_int_equal(do_stats(), 0);
	}
}

static void test_long_batch_is_given_back_in_pieces(void **state)
{
	size_t sizes[256];
	mempool_offset out[256];

	(void)state;
	for (int i = 0; i < 256; i++)
		sizes[i] = 1;
	assert_int_equal(mempool_set_timeout(client, 30), 0);
	fake_fault(&fake, FAKE_BEFORE_REPLY, 0, -1);
	assert_int_equal(mempool_alloc_batch(pool, 256, sizes, out), -EHOSTDOWN);
	assert_int_equal(fake_live(&fake), 256);
	fake_come(&fake);
	assert_int_equal(mempool_set_timeout(client, PATIENT_MS), 0);
	while (fake_live(&fake))
		assert_int_equal(do_stats(), 0);
	assert_true(fake_count(&fake, KIND(FREE_BATCH)) > 1);
}

static void test_silent_daemon_is_told(void **state)
{
	(void)state;
	set_books(1);
	pthread_mutex_lock(&fake.mutex);
	fake.is_deaf = true;
	pthread_mutex_unlock(&fake.mutex);
	assert_int_equal(mempool_set_timeout(client, 1), 0);
	(void)do_stats(); /* so that the fake looks again whether it is deaf */
	(void)do_stats();
	assert_int_equal(mempool_set_timeout(client, 40), 0);
	assert_int_equal(do_alloc(), -ETIMEDOUT);
	assert_int_equal(mempool_free(pool, FAKE_FIRST), 0);
	pthread_mutex_lock(&fake.mutex);
	fake.is_deaf = false;
	pthread_mutex_unlock(&fake.mutex);
	fake_go(&fake);
	fake_come(&fake);
	assert_int_equal(mempool_set_timeout(client, PATIENT_MS), 0);
	while (fake_live(&fake))
		assert_int_equal(do_stats(), 0);
	assert_int_equal(fake_count(&fake, KIND(FREE)), 1);
}

/* Of as many requests as go out at once, and more: each that was on its way is done once, and the time of one is all it takes. */
static void test_absent_daemon_ends_a_batch_once(void **state)
{
	enum {
		N = 200
	};
	mempool_offset offsets[N];
	uint64_t before = fake_count(&fake, KIND(PUBLISH)), n_published;
	size_t sizes[N];

	(void)state;
	for (int i = 0; i < N; i++)
		sizes[i] = 1;
	assert_int_equal(mempool_alloc_batch(pool, N, sizes, offsets), 0);
	assert_int_equal(mempool_set_timeout(client, 60), 0);
	fake_go(&fake);
	assert_int_equal(mempool_publish_batch(pool, N, offsets), -EHOSTDOWN);
	fake_come(&fake);
	assert_int_equal(mempool_set_timeout(client, PATIENT_MS), 0);
	assert_int_equal(do_stats(), 0);
	n_published = fake_count(&fake, KIND(PUBLISH)) - before;
	assert_true(n_published <= FAKE_RING);
	assert_int_equal(mempool_publish_batch(pool, N, offsets), 0);
	assert_int_equal(fake_count(&fake, KIND(PUBLISH)) - before - n_published, N);
	assert_int_equal(mempool_free_batch(pool, N, offsets), 0);
}

static void test_frees_are_queued_and_done_once(void **state)
{
	enum {
		N = 1000
	};
	static mempool_offset blocks[N];

	(void)state;
	for (int i = 0; i < N; i++)
		assert_true(blocks[i] = mempool_alloc(pool, 8));
	fake_go(&fake);
	assert_int_equal(mempool_set_timeout(client, 0), 0);
	for (int i = 0; i < N / 2; i++)
		assert_int_equal(mempool_free(pool, blocks[i]), 0);
	assert_int_equal(mempool_free_batch(pool, N / 2, blocks + N / 2), 0);
	assert_int_equal(fake_live(&fake), N);
	fake_come(&fake);
	assert_int_equal(mempool_set_timeout(client, PATIENT_MS), 0);
	assert_int_equal(do_stats(), 0); /* behind them all */
	assert_int_equal(fake_live(&fake), 0);
	assert_int_equal(fake_count(&fake, KIND(FREE)), N / 2);
}

/* Of many requests: the time of one is all that it takes, and none is lost. */
static void test_frees_of_a_batch_wait_once(void **state)
{
	enum {
		N = 40 * 256, /* as many as one request may name */
		TIMEOUT_MS = 1000,
	};
	static mempool_offset blocks[N];
	static size_t sizes[N];
	int64_t begun;

	(void)state;
	for (int i = 0; i < N; i++)
		sizes[i] = 1;
	assert_int_equal(mempool_alloc_batch(pool, N, sizes, blocks), 0);
	fake_go(&fake);
	assert_int_equal(mempool_set_timeout(client, TIMEOUT_MS), 0);
	begun = now_ms();
	assert_int_equal(mempool_free_batch(pool, N, blocks), 0);
	assert_true(now_ms() - begun < N / 256 * TIMEOUT_MS / 2);
	assert_int_equal(fake_live(&fake), N);
	fake_come(&fake);
	assert_int_equal(mempool_set_timeout(client, PATIENT_MS), 0);
	assert_int_equal(do_stats(), 0); /* behind them all */
	assert_int_equal(fake_live(&fake), 0);
}

/* What it has got is given back without another wait. */
static void test_failed_alloc_of_a_batch_waits_once(void **state)
{
	enum {
		N = 20 * 256,
		TIMEOUT_MS = 1000,
	};
	static mempool_offset blocks[N];
	static size_t sizes[N];
	int64_t begun;

	(void)state;
	for (int i = 0; i < N; i++)
		sizes[i] = 1;
	assert_int_equal(mempool_set_timeout(client, TIMEOUT_MS), 0);
	fake_fault(&fake, FAKE_BEFORE_READ, N / 256 - 1, -1); /* before the last request */
	begun = now_ms();
	assert_int_equal(mempool_alloc_batch(pool, N, sizes, blocks), -EHOSTDOWN);
	assert_true(now_ms() - begun < N / 256 * TIMEOUT_MS / 2);
	fake_come(&fake);
	assert_int_equal(mempool_set_timeout(client, PATIENT_MS), 0);
	while (fake_live(&fake)) /* any call brings it about */
		assert_int_equal(do_stats(), 0);
}

static void test_timeout_of_0_never_waits_and_still_resumes(void **state)
{
	int64_t begun;
	int r;

	(void)state;
	fake_go(&fake);
	assert_int_equal(mempool_set_timeout(client, 0), 0);
	begun = now_ms();
	for (int i = 0; i < 100; i++)
		assert_true((r = do_alloc()) == -EHOSTDOWN || (!i && r == -ETIMEDOUT));
	assert_true(now_ms() - begun < 5000); /* a hundred calls, on the slowest machine */
	fake_come(&fake);
	while ((r = do_stats()) == -EHOSTDOWN || r == -ETIMEDOUT) /* each does what can be done without waiting */
		sched_yield();
	assert_int_equal(r, 0);
	assert_int_equal(mempool_set_timeout(client, PATIENT_MS), 0);
	while (fake_live(&fake))
		assert_int_equal(do_stats(), 0);
}

static void test_timeout_of_minus_1_waits_for_ever(void **state)
{
	pthread_t thread;

	(void)state;
	assert_int_equal(mempool_set_timeout(client, -1), 0);
	fake_go(&fake);
	assert_int_equal(pthread_create(&thread, NULL, come_later, (void *)(uintptr_t)300), 0);
	assert_int_equal(do_alloc(), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(fake_live(&fake), 1);
}

/* ---- no memory ---- */

static int alloc_32_one_by_one(mempool_offset blocks[32])
{
	for (int i = 0; i < 32; i++)
		if (!(blocks[i] = mempool_alloc(pool, 8)))
			return -1;
	return 0;
}

static void test_free_needs_no_memory(void **state)
{
	mempool_offset blocks[32];
	pthread_t thread;
	unsigned n_faults;
	int r[2];

	(void)state;
	assert_int_equal(alloc_32_one_by_one(blocks), 0);
	fake_fault(&fake, FAKE_BEFORE_REPLY, 3, 0);
	fault_arm(FAULT_MALLOC, 1, true);
	r[0] = mempool_free_batch(pool, 31, blocks); /* too long for a record: one by one */
	n_faults = fault_disarm();
	assert_int_equal(r[0], 0);
	assert_true(n_faults > 0);
	assert_int_equal(fake_live(&fake), 1);
	fake_go(&fake);
	assert_int_equal(mempool_set_timeout(client, 0), 0);
	while (do_alloc() != -EHOSTDOWN) /* until it knows */
		;
	assert_int_equal(mempool_set_timeout(client, 20), 0);
	assert_int_equal(pthread_create(&thread, NULL, come_later, (void *)(uintptr_t)300), 0);
	fault_arm(FAULT_MALLOC, 1, true);
	r[0] = mempool_free(pool, blocks[31]);	   /* the record that is spare */
	r[1] = mempool_free(pool, FAKE_FIRST - 1); /* its own stack: waits until it is answered, or has a record */
	n_faults = fault_disarm();
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(r[0], 0);
	assert_int_equal(r[1], -EFAULT); /* so it was answered, long after its time was over */
	assert_true(n_faults > 0);
	assert_int_equal(fake_live(&fake), 0);
	assert_int_equal(seen(&fake.n_wrong), 1); /* the free of what is no block */
	pthread_mutex_lock(&fake.mutex);
	fake.n_wrong = 0;
	pthread_mutex_unlock(&fake.mutex);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_absent_daemon_is_told_and_an_alloc_is_forgotten),
		TEST(test_late_success_is_given_back),
		TEST(test_long_batch_is_given_back_in_pieces),
		TEST(test_silent_daemon_is_told),
		TEST(test_absent_daemon_ends_a_batch_once),
		TEST(test_frees_are_queued_and_done_once),
		TEST(test_frees_of_a_batch_wait_once),
		TEST(test_failed_alloc_of_a_batch_waits_once),
		TEST(test_timeout_of_0_never_waits_and_still_resumes),
		TEST(test_timeout_of_minus_1_waits_for_ever),
		TEST(test_free_needs_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
