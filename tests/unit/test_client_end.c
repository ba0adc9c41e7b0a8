// SPDX-License-Identifier: MIT
/* A session ends by disconnect, whatever the daemon does, and never by what a forked child does. */
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fake_world.h"
#include "proto/frame.h"

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

/* Between a request and what is done with its reply: where another thread may come to run, and disconnect. */
static bool disconnects_then;
struct mapping;
int __real_mapping_open(struct mapping **mappingp, int fd, uint64_t n_bytes, uint64_t generation);
int __wrap_mapping_open(struct mapping **mappingp, int fd, uint64_t n_bytes, uint64_t generation);

int __wrap_mapping_open(struct mapping **mappingp, int fd, uint64_t n_bytes, uint64_t generation)
{
	if (disconnects_then)
		mempool_disconnect(client);
	disconnects_then = false;
	return __real_mapping_open(mappingp, fd, n_bytes, generation);
}

/* No other handle keeps the client's memory. */
static void test_disconnect_in_the_middle_of_an_open(void **state)
{
	(void)state;
	mempool_pool_close(pool);
	disconnects_then = true;
	assert_int_equal(mempool_pool_open(client, "p", &pool), 0);
	client = NULL;
	assert_false(disconnects_then);
	assert_true(!mempool_alloc(pool, 8) && errno == ENOTCONN);
	assert_int_equal(mempool_free(pool, FAKE_FIRST), -ENOTCONN);
}

/* A daemon that turns each connection away at once, so that it is closed before Hello is sent. */
static bool turns_away;
int __real_stream_connect(const char *path, bool waits);
int __wrap_stream_connect(const char *path, bool waits);

static void turn_away(int fd)
{
	Mempool__Wire__Reply reply = MEMPOOL__WIRE__REPLY__INIT;
	uint8_t frame[256];
	size_t n;

	reply.has_status = 1;
	reply.status = -EDQUOT;
	reply.message = (char *)(uintptr_t) "the fake daemon has too many sessions";
	n = mempool__wire__reply__pack(&reply, frame + FRAME_HEADER_BYTES);
	frame_put_header(frame, (uint32_t)n);
	assert_int_equal(write(fd, frame, FRAME_HEADER_BYTES + n), FRAME_HEADER_BYTES + n);
	close(fd);
}

int __wrap_stream_connect(const char *path, bool waits)
{
	int fds[2];

	if (!turns_away)
		return __real_stream_connect(path, waits);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	turn_away(fds[0]);
	return fds[1];
}

static void test_connection_turned_away_tells_why(void **state)
{
	struct mempool_client *other = NULL;

	(void)state;
	turns_away = true;
	assert_int_equal(mempool_connect(&other, fake.path), -EDQUOT);
	turns_away = false;
	assert_null(other);
	assert_non_null(strstr(mempool_last_error(), "the fake daemon has too many sessions"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_forked_child_leaves_the_session_alone),
		TEST(test_disconnect_without_a_daemon_lets_go_of_the_lock),
		TEST(test_disconnect_waits_for_a_queued_free),
		TEST(test_disconnect_resumes_to_say_goodbye),
		TEST(test_disconnect_waits_for_calls_that_wait),
		TEST(test_disconnect_in_the_middle_of_an_open),
		TEST(test_connection_turned_away_tells_why),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
