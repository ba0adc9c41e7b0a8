// SPDX-License-Identifier: MIT
/* Sessions that outlive their connection and their daemon: stop and start, races, strangers, deaths meanwhile. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/integration/resume_client.h"
#include "tests/lib/test.h"

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
		/* Some of them, if the slow one was done before all were sent. */
		assert_true(n <= N);
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
	assert_int_equal(daemon_wait_log(d, "ended with 1 block, 3008 bytes, in pool \"shared\""), 0);
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
		TEST(test_resume_after_sigterm_and_start),
		TEST(test_resume_is_refused_to_others),
		TEST(test_resume_race_leaves_one_connection),
		TEST(test_resume_fences_what_the_old_connection_holds),
		TEST(test_resume_death_while_the_daemon_was_down_is_seen_at_start),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
