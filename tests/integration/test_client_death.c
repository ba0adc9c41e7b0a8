// SPDX-License-Identifier: MIT
/* Clients and daemons that end, stop or fall silent. */
#include "client_world.h"

#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>

/* A child that connects, does @what and then waits for ever; the parent goes on when it says so. */
static pid_t spawn(void (*what)(struct mempool_client *own, struct mempool_pool *mine))
{
	int ready[2];
	char byte;
	pid_t pid;

	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (!pid) {
		struct mempool_client *own;
		struct mempool_pool *mine;

		if (mempool_connect(&own, world.socket) || mempool_pool_open(own, "p", &mine))
			_exit(1);
		what(own, mine);
		if (write(ready[1], "r", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	return pid;
}

static void hold_some(struct mempool_client *own, struct mempool_pool *mine)
{
	(void)own;
	for (int i = 0; i < 100; i++)
		if (!mempool_alloc(mine, 64))
			_exit(1);
	if (mempool_publish(mine, mempool_alloc(mine, 1024), "kept"))
		_exit(1);
}

static void test_killed_client_is_reclaimed_but_for_what_it_published(void **state)
{
	pid_t pid = spawn(hold_some);

	(void)state;
	assert_int_equal(used_now(), 100 * 64 + 1024);
	kill(pid, SIGKILL);
	assert_true(await_used(1024));
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(daemon_wait_log(&world, "100 blocks"), 0); /* the leak report */
	assert_int_equal(mempool_pool_check(pool, NULL), 0);
}

static pid_t grandchild_pipe[2];

static void fork_and_hold(struct mempool_client *own, struct mempool_pool *mine)
{
	hold_some(own, mine);
	if (!fork()) { /* keeps the socket open, and outlives its parent */
		char byte;

		close(grandchild_pipe[1]);
		_exit(read(grandchild_pipe[0], &byte, 1) == 0 ? 0 : 1);
	}
}

static void test_forked_child_keeps_no_dead_owner_alive(void **state)
{
	pid_t pid;

	(void)state;
	assert_int_equal(pipe(grandchild_pipe), 0);
	pid = spawn(fork_and_hold);
	kill(pid, SIGKILL);
	assert_true(await_used(1024));
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	close(grandchild_pipe[0]);
	close(grandchild_pipe[1]);
}

static void become_another(int signal)
{
	(void)signal;
	execl("/bin/sleep", "sleep", "1000", NULL);
	_exit(127);
}

static void hold_until_another(struct mempool_client *own, struct mempool_pool *mine)
{
	hold_some(own, mine);
	signal(SIGUSR1, become_another);
}

/* The process lives, and its pidfd says so; but it has let go of its mappings, and of its lock. */
static void test_client_that_executes_another_program_is_reclaimed(void **state)
{
	pid_t pid = spawn(hold_until_another);

	(void)state;
	assert_int_equal(used_now(), 100 * 64 + 1024);
	kill(pid, SIGUSR1);
	assert_true(await_used(1024));
	assert_int_equal(waitpid(pid, NULL, WNOHANG), 0); /* alive */
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void test_stopped_client_is_not_reclaimed_under(void **state)
{
	pid_t pid = spawn(hold_some);

	(void)state;
	kill(pid, SIGSTOP);
	for (int i = 0; i < 200; i++) { /* others go on, and its blocks stay */
		mempool_offset offset = mempool_alloc(pool, 512);

		assert_true(offset && !mempool_free(pool, offset));
	}
	assert_int_equal(used_now(), 100 * 64 + 1024);
	kill(pid, SIGKILL);
	assert_true(await_used(1024));
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void test_silent_daemon_times_out_and_nothing_is_lost(void **state)
{
	mempool_offset offset = mempool_alloc(pool, 64);
	int status;

	(void)state;
	assert_int_equal(mempool_set_timeout(client, 50), 0);
	kill(world.pid, SIGSTOP);
	assert_int_equal(waitpid(world.pid, &status, WUNTRACED), world.pid); /* until it has stopped */
	errno = 0;
	assert_true(!mempool_alloc(pool, 32) && errno == ETIMEDOUT);
	assert_int_equal(mempool_free(pool, offset), 0); /* queued, done once */
	kill(world.pid, SIGCONT);
	assert_int_equal(mempool_set_timeout(client, 10000), 0);
	assert_true(await_used(0)); /* the late alloc was undone, the free done */
}

static void test_dead_daemon_is_told(void **state)
{
	struct mempool_client *lost;
	struct mempool_pool *lost_pool;
	struct daemon other;
	mempool_offset offset;

	(void)state;
	assert_int_equal(daemon_init(&other), 0);
	assert_int_equal(daemon_start(&other, NULL), 0);
	assert_int_equal(mempool_connect(&lost, other.socket), 0);
	assert_int_equal(mempool_pool_create(lost, "x", 65536, NULL, &lost_pool), 0);
	offset = mempool_alloc(lost_pool, 10);
	assert_int_equal(mempool_set_timeout(lost, 100), 0);
	daemon_kill(&other);
	errno = 0;
	assert_true(!mempool_alloc(lost_pool, 10) && errno == EHOSTDOWN);
	*(char *)mempool_ptr(lost_pool, offset) = 1; /* still mapped */
	mempool_pool_close(lost_pool);
	mempool_disconnect(lost);
	assert_int_equal(mempool_connect(&lost, other.socket), -ECONNREFUSED);
	daemon_deinit(&other);
}

struct refuser {
	int listener, n_after; /* bytes that came after the Hello; less than 0: it went wrong */
};

/* Refuses the Hello of one client, and then hears it out. */
static void *refuse(void *arg)
{
	static const uint8_t refusal[] = {5, 0, 0, 0, 0x08, 1, 0x10, 0x8d, 1}; /* Reply {id: 1, status: -EPROTO} */
	struct refuser *refuser = arg;
	int fd = accept4(refuser->listener, NULL, NULL, SOCK_CLOEXEC);
	uint8_t bytes[256];
	ssize_t n;

	refuser->n_after = fd >= 0 && recv(fd, bytes, sizeof(bytes), 0) > 0 &&
					   send(fd, refusal, sizeof(refusal), 0) == (ssize_t)sizeof(refusal)
				   ? 0
				   : -1;
	while (refuser->n_after >= 0 && (n = recv(fd, bytes, sizeof(bytes), 0))) {
		refuser->n_after += (int)n;
		if (n < 0 || shutdown(fd, SHUT_RDWR)) /* who says more than that waits for an answer: there is none */
			refuser->n_after = -1;
	}
	close(fd);
	return NULL;
}

/* Nor does it to a silent daemon, where it would wait for the answer as long again as it has waited for that to Hello. */
static void test_who_has_no_session_says_no_goodbye(void **state)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct refuser refuser = {.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
	struct mempool_client *none;
	pthread_t thread;

	(void)state;
	snprintf(address.sun_path, sizeof(address.sun_path), "%.90s.other", world.socket);
	assert_int_equal(bind(refuser.listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(refuser.listener, 1), 0);
	assert_int_equal(pthread_create(&thread, NULL, refuse, &refuser), 0);
	assert_int_equal(mempool_connect(&none, address.sun_path), -EPROTO);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(refuser.n_after, 0);
	close(refuser.listener);
	unlink(address.sun_path);
}

static void test_path_too_long_for_a_socket_is_told(void **state)
{
	struct mempool_client *none;
	char path[200];

	(void)state;
	memset(path, '/', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	assert_int_equal(mempool_connect(&none, path), -ENAMETOOLONG);
	assert_non_null(strstr(mempool_last_error(), "too long"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_killed_client_is_reclaimed_but_for_what_it_published),
		TEST(test_forked_child_keeps_no_dead_owner_alive),
		TEST(test_client_that_executes_another_program_is_reclaimed),
		TEST(test_stopped_client_is_not_reclaimed_under),
		TEST(test_silent_daemon_times_out_and_nothing_is_lost),
		TEST(test_who_has_no_session_says_no_goodbye),
		TEST(test_path_too_long_for_a_socket_is_told),
		TEST(test_dead_daemon_is_told),
	};

	return cmocka_run_group_tests(tests, world_begin, world_end);
}
