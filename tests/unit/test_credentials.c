// SPDX-License-Identifier: MIT
/* Who a process is, for a daemon that has not seen it connect. */
#include "tests/lib/test.h"

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server/credentials.h"

static bool has_ended(int pidfd)
{
	struct pollfd look = {.fd = pidfd, .events = POLLIN};

	return poll(&look, 1, 0) == 1;
}

static void test_credentials_find_a_process_by_pid_and_start(void **state)
{
	uint64_t space = credentials_pid_space(), started;
	int pidfd = -1;
	pid_t child;

	(void)state;
	assert_int_not_equal(space, 0);
	assert_int_equal(space, credentials_pid_space());
	child = fork();
	if (!child)
		for (;;)
			pause();
	started = credentials_started(child);
	assert_int_not_equal(started, 0);
	assert_true(credentials_find(child, started, space, &pidfd));
	assert_true(pidfd >= 0);
	assert_false(has_ended(pidfd));
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, NULL, 0), child);
	assert_true(has_ended(pidfd));
	close(pidfd);
	assert_false(credentials_find(child, started, space, &pidfd)); /* nobody has that pid */
	assert_int_equal(pidfd, -1);
	assert_int_equal(credentials_started(child), 0);
}

static void test_credentials_another_process_with_the_pid_is_proof_of_death(void **state)
{
	uint64_t space = credentials_pid_space(), started = credentials_started(getpid());
	int pidfd = -1;

	(void)state;
	assert_false(credentials_find(getpid(), started + 1, space, &pidfd));
	assert_int_equal(pidfd, -1);
}

static void test_credentials_what_is_unknown_is_alive(void **state)
{
	uint64_t space = credentials_pid_space(), started = credentials_started(getpid());
	const struct {
		int32_t pid;
		uint64_t started, space;
	} unknown[] = {
		{0, started, space}, {getpid(), 0, space}, {getpid(), started, 0}, {getpid(), started + 1, space + 1}};

	(void)state;
	for (size_t i = 0; i < N_ELEMENTS(unknown); i++) {
		int pidfd = 99;

		assert_true(credentials_find(unknown[i].pid, unknown[i].started, unknown[i].space, &pidfd));
		assert_int_equal(pidfd, -1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_credentials_find_a_process_by_pid_and_start),
		cmocka_unit_test(test_credentials_another_process_with_the_pid_is_proof_of_death),
		cmocka_unit_test(test_credentials_what_is_unknown_is_alive),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
