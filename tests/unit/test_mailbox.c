// SPDX-License-Identifier: MIT
#include "tests/lib/test.h"

#include <pthread.h>

#include "server/mailbox.h"

#define N_THREADS  8u
#define N_MESSAGES 125000u /* of each: a million in all */

struct note {
	struct mailbox_message message;
	unsigned from, number;
};

struct reader {
	uv_loop_t uv;
	struct mailbox mailbox;
	unsigned next[N_THREADS]; /* number expected from each */
	unsigned n_read, n_wrong;
};

static struct note *notes; /* [N_THREADS][N_MESSAGES] */
static struct reader reader;

static void read_note(void *owner, struct mailbox_message *message)
{
	struct reader *r = owner;
	struct note *note = (struct note *)message;

	r->n_wrong += note->number != r->next[note->from]++;
	if (++r->n_read == N_THREADS * N_MESSAGES)
		mailbox_close(&r->mailbox);
}

static void *post_all(void *arg)
{
	struct note *mine = arg;

	for (unsigned i = 0; i < N_MESSAGES; i++)
		mailbox_post(&reader.mailbox, &mine[i].message);
	return NULL;
}

static void test_mailbox_loses_none_of_a_million(void **state)
{
	pthread_t threads[N_THREADS];

	(void)state;
	notes = calloc((size_t)N_THREADS * N_MESSAGES, sizeof(*notes));
	assert_non_null(notes);
	assert_int_equal(uv_loop_init(&reader.uv), 0);
	assert_int_equal(mailbox_open(&reader.mailbox, &reader.uv, &reader), 0);
	for (unsigned t = 0; t < N_THREADS; t++)
		for (unsigned i = 0; i < N_MESSAGES; i++)
			notes[t * N_MESSAGES + i] = (struct note){.message.run = read_note, .from = t, .number = i};
	for (unsigned t = 0; t < N_THREADS; t++)
		assert_int_equal(pthread_create(&threads[t], NULL, post_all, notes + (size_t)t * N_MESSAGES), 0);
	assert_int_equal(uv_run(&reader.uv, UV_RUN_DEFAULT), 0); /* ends with the last message; ctest bounds it */
	for (unsigned t = 0; t < N_THREADS; t++)
		pthread_join(threads[t], NULL);
	assert_int_equal(reader.n_read, N_THREADS * N_MESSAGES);
	assert_int_equal(reader.n_wrong, 0); /* the order of each poster is kept */
	mailbox_deinit(&reader.mailbox);
	assert_int_equal(uv_loop_close(&reader.uv), 0);
	free(notes);
}

struct twice {
	struct mailbox_message message;
	struct mailbox *mailbox;
	int n_runs;
};

static void post_again(void *owner, struct mailbox_message *message)
{
	struct twice *twice = (struct twice *)message;

	(void)owner;
	if (++twice->n_runs < 3)
		mailbox_post(twice->mailbox, message);
	else
		mailbox_close(twice->mailbox);
}

static void test_mailbox_takes_posts_of_its_own_messages(void **state)
{
	struct mailbox mailbox;
	struct twice twice = {.message.run = post_again, .mailbox = &mailbox};
	uv_loop_t uv;

	(void)state;
	assert_int_equal(uv_loop_init(&uv), 0);
	assert_int_equal(mailbox_open(&mailbox, &uv, NULL), 0);
	mailbox_post(&mailbox, &twice.message);
	assert_int_equal(uv_run(&uv, UV_RUN_DEFAULT), 0);
	assert_int_equal(twice.n_runs, 3);
	mailbox_deinit(&mailbox);
	assert_int_equal(uv_loop_close(&uv), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mailbox_loses_none_of_a_million),
		cmocka_unit_test(test_mailbox_takes_posts_of_its_own_messages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
