// SPDX-License-Identifier: MIT
/*
 * The library loses its daemon at every point of every kind of request, and each is done exactly once. The daemon is a fake one that
 * the test drives, with a ledger of what it did.
 */
#include "tests/lib/test.h"

#include <errno.h>
#include <fcntl.h>
#include <mempool/mempool.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/lib/fake_daemon.h"
#include "tests/lib/fault.h"
#include "tests/lib/rnd.h"

#define KIND(op) MEMPOOL__WIRE__REQUEST__OP_##op

enum {
	AWAY_MS = 25,	    /* two tries of the client fail meanwhile */
	PATIENT_MS = 60000, /* what must work in the end is not to fail on a slow machine */
	N_THREADS = 32,
	N_ROUNDS = 60,
};

static struct fake_daemon fake;
static struct mempool_client *client;
static struct mempool_pool *pool;

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int begin(void **state)
{
	(void)state;
	assert_int_equal(fake_start(&fake), 0);
	assert_int_equal(mempool_connect(&client, fake.path), 0);
	assert_int_equal(mempool_set_timeout(client, PATIENT_MS), 0);
	assert_int_equal(mempool_pool_create(client, "p", (uint64_t)FAKE_BLOCKS * FAKE_BLOCK, NULL, &pool), 0);
	return 0;
}

static int finish(void **state)
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

/* ---- every kind of request, at every point ---- */

static mempool_offset held[4]; /* what the request at hand works on */

static int do_alloc(void)
{
	held[0] = mempool_alloc(pool, FAKE_BLOCK);
	return held[0] ? 0 : -errno;
}

static int do_free(void)
{
	return mempool_free(pool, held[0]);
}

static int do_realloc(void)
{
	mempool_offset moved = mempool_realloc(pool, held[0], 2 * FAKE_BLOCK);

	if (!moved)
		return -errno;
	held[0] = moved;
	return 0;
}

static int do_alloc_batch(void)
{
	return mempool_alloc_batch(pool, 4, (const size_t[]){1, 2, 3, 4}, held);
}

static int do_free_batch(void)
{
	return mempool_free_batch(pool, 4, held);
}

static int do_publish(void)
{
	return mempool_publish(pool, held[0], "a-name-that-is-as-long-as-names-may-be-and-so-needs-a-larger-one");
}

static int do_find(void)
{
	mempool_offset found;

	return mempool_find(pool, "first", &found);
}

static int do_acquire(void)
{
	return mempool_acquire(pool, "first", &held[0]);
}

static int do_retain(void)
{
	return mempool_retain(pool, held[0]);
}

static int do_take(void)
{
	return mempool_take(pool, held[0], 1);
}

static int do_inspect(void)
{
	return mempool_usable_size(pool, held[0]) == FAKE_BLOCK ? 0 : -EFAULT;
}

static int do_open(void)
{
	struct mempool_pool *again;
	int r = mempool_pool_open(client, "p", &again);

	if (!r)
		mempool_pool_close(again);
	return r;
}

static int do_create(void)
{
	struct mempool_pool *another;
	int r = mempool_pool_create(client, "q", FAKE_BLOCK, NULL, &another);

	if (!r)
		mempool_pool_close(another);
	return r;
}

static int do_destroy(void)
{
	return mempool_pool_destroy(client, "q", 0);
}

static int do_resize(void)
{
	return mempool_pool_resize(pool, 2 * FAKE_BLOCK);
}

static int do_stats(void)
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

/* The fake daemon's blocks as a case needs them: the first one live where one is, each with one hold. */
static void set_books(int n_live)
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
static bool are_books_as(int n_live)
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
static uint64_t seen(const uint64_t *word)
{
	uint64_t value;

	pthread_mutex_lock(&fake.mutex);
	value = *word;
	pthread_mutex_unlock(&fake.mutex);
	return value;
}

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

static atomic_int n_failed;
static _Atomic uint64_t n_done[FAKE_N_KINDS];

static void note(bool is_good, unsigned op)
{
	if (is_good)
		atomic_fetch_add(&n_done[op], 1);
	else if (!atomic_fetch_add(&n_failed, 1))
		fprintf(stderr, "kind %u: %s\n", op, mempool_last_error());
}

static bool is_mine(mempool_offset offset, int mark)
{
	const unsigned char *bytes = mempool_ptr(pool, offset);

	for (unsigned i = 0; i < FAKE_BLOCK; i++)
		if (bytes[i] != mark)
			return false;
	return true;
}

static void mark(mempool_offset offset, int value)
{
	memset(mempool_ptr(pool, offset), value, FAKE_BLOCK);
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

/* ---- time that is over ---- */

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

static void *come_later(void *arg)
{
	const struct timespec pause = {.tv_nsec = (long)(uintptr_t)arg * 1000000};

	nanosleep(&pause, NULL); /* the daemon is away for so long */
	fake_come(&fake);
	return NULL;
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

/* ---- fork, disconnect ---- */

static int in_child(void)
{
	if (mempool_alloc(pool, 8) || errno != ECHILD || mempool_free(pool, FAKE_FIRST) != -ECHILD)
		return 1;
	mempool_pool_close(pool);
	mempool_disconnect(client);
	return 0;
}

static void fork_and_check(void)
{
	int status;
	pid_t pid = fork();

	if (!pid)
		_exit(in_child());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void *call_once(void *arg)
{
	(void)arg;
	note(!do_stats(), 0);
	return NULL;
}

/* Until some call has tried in vain, and so waits. */
static void await_waiter(void)
{
	const struct timespec pause = {.tv_nsec = 1000000};

	for (bool is_away = false; !is_away; nanosleep(&pause, NULL)) {
		pthread_mutex_lock(&fake.mutex);
		is_away = fake.is_away;
		pthread_mutex_unlock(&fake.mutex);
	}
}

static void test_forked_child_leaves_the_session_alone(void **state)
{
	pthread_t thread;

	(void)state;
	assert_int_equal(do_alloc(), 0);
	fork_and_check();
	assert_int_equal(mempool_free(pool, held[0]), 0);
	assert_int_equal(seen(&fake.n_resumes), 0); /* the stream was not touched */
	atomic_store(&n_failed, 0);
	fake_fault(&fake, FAKE_BEFORE_DOING, 0, -1);
	assert_int_equal(pthread_create(&thread, NULL, call_once, NULL), 0);
	await_waiter();
	fork_and_check(); /* while a thread of the parent waits */
	fake_come(&fake);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(n_failed, 0);
	assert_int_equal(seen(&fake.n_resumes), 1);
}

/* Asked from another process, for one's own locks are not seen. */
static bool is_liveness_locked(void)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
	int status;
	pid_t pid = fork();

	if (!pid)
		_exit(fcntl(fake.liveness, F_GETLK, &lock) ? 2 : lock.l_type != F_UNLCK);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) < 2);
	return WEXITSTATUS(status);
}

static void test_disconnect_without_a_daemon_lets_go_of_the_lock(void **state)
{
	int64_t begun = now_ms();

	(void)state;
	assert_true(is_liveness_locked());
	assert_int_equal(do_alloc(), 0);
	mark(FAKE_FIRST, 5);
	fake_go(&fake);
	mempool_disconnect(client); /* and does not wait: nothing is queued */
	assert_true(now_ms() - begun < PATIENT_MS / 2);
	assert_false(is_liveness_locked());
	assert_int_equal(do_alloc(), -ENOTCONN);
	assert_true(((char *)mempool_ptr(pool, FAKE_FIRST))[1] == 5);
	client = NULL;
}

static void test_disconnect_waits_for_a_queued_free(void **state)
{
	pthread_t thread;

	(void)state;
	assert_int_equal(do_alloc(), 0);
	fake_go(&fake);
	assert_int_equal(mempool_set_timeout(client, 0), 0);
	assert_int_equal(mempool_free(pool, held[0]), 0);
	assert_int_equal(mempool_set_timeout(client, PATIENT_MS), 0);
	assert_int_equal(pthread_create(&thread, NULL, come_later, (void *)(uintptr_t)60), 0);
	mempool_disconnect(client);
	assert_int_equal(pthread_join(thread, NULL), 0);
	client = NULL;
	assert_int_equal(fake_live(&fake), 0);
	assert_int_equal(fake_count(&fake, KIND(GOODBYE)), 1);
}

static void test_disconnect_resumes_to_say_goodbye(void **state)
{
	(void)state;
	fake_go(&fake);
	fake_come(&fake);
	mempool_disconnect(client);
	client = NULL;
	assert_int_equal(fake_count(&fake, KIND(GOODBYE)), 1);
	assert_false(is_liveness_locked());
}

static void *fail_slowly(void *arg)
{
	int r = do_stats();

	(void)arg;
	note(r == -EHOSTDOWN || r == -ENOTCONN, 0);
	return NULL;
}

static void test_disconnect_waits_for_calls_that_wait(void **state)
{
	pthread_t threads[8];

	(void)state;
	atomic_store(&n_failed, 0);
	assert_int_equal(mempool_set_timeout(client, 100), 0);
	fake_go(&fake);
	for (size_t i = 0; i < N_ELEMENTS(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, fail_slowly, NULL), 0);
	mempool_disconnect(client);
	for (size_t i = 0; i < N_ELEMENTS(threads); i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	client = NULL;
	assert_int_equal(n_failed, 0);
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

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, finish)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_every_request_is_done_once_wherever_the_daemon_goes),
		TEST(test_crowd_is_served_once_while_the_stream_breaks),
		TEST(test_crowd_is_served_once_while_the_daemon_goes_and_comes),
		TEST(test_absent_daemon_is_told_and_an_alloc_is_forgotten),
		TEST(test_late_success_is_given_back),
		TEST(test_long_batch_is_given_back_in_pieces),
		TEST(test_silent_daemon_is_told),
		TEST(test_absent_daemon_ends_a_batch_once),
		TEST(test_frees_are_queued_and_done_once),
		TEST(test_timeout_of_0_never_waits_and_still_resumes),
		TEST(test_timeout_of_minus_1_waits_for_ever),
		TEST(test_idle_client_resumes_with_its_next_call),
		TEST(test_unknown_session_is_lost),
		TEST(test_session_of_another_process_is_lost),
		TEST(test_other_version_is_told),
		TEST(test_refused_version_is_told),
		TEST(test_new_session_is_not_taken_for_the_old),
		TEST(test_busy_daemon_is_asked_again),
		TEST(test_forked_child_leaves_the_session_alone),
		TEST(test_disconnect_without_a_daemon_lets_go_of_the_lock),
		TEST(test_disconnect_waits_for_a_queued_free),
		TEST(test_disconnect_resumes_to_say_goodbye),
		TEST(test_disconnect_waits_for_calls_that_wait),
		TEST(test_free_needs_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
