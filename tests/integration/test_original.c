// SPDX-License-Identifier: MIT
/* The original usage example runs unchanged against a daemon, and fails as it should without one. */
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "tests/lib/daemon.h"
#include "tests/lib/test.h"

static int run(char *out, size_t n_out)
{
	FILE *pipe = popen(EXAMPLE " 2>&1", "r");
	size_t n = fread(out, 1, n_out - 1, pipe);
	int status = pclose(pipe);

	out[n] = '\0';
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void test_original_example_runs_unchanged(void **state)
{
	static char out[8192];
	struct daemon daemon;

	(void)state;
	assert_int_equal(daemon_init(&daemon), 0);
	setenv("MEMPOOL_SOCKET", daemon.socket, 1);
	assert_int_equal(run(out, sizeof(out)), 1);
	assert_non_null(strstr(out, "create_memory_pool: Connection refused"));
	assert_int_equal(daemon_start(&daemon, NULL), 0);
	assert_int_equal(run(out, sizeof(out)), 0);
	assert_non_null(strstr(out, "1048576 bytes, 320 used, 2 allocations: Hello, pool, 2401"));
	assert_non_null(strstr(out, "gaps: 1"));
	assert_non_null(strstr(out, "after a free: 208 used, 1 allocations"));
	assert_non_null(strstr(out, "destroy_pool: ")); /* not empty: a warning */
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_deinit(&daemon);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_original_example_runs_unchanged)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
