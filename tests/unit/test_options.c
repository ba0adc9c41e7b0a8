// SPDX-License-Identifier: MIT
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "options.h"
#include "tests/lib/test.h"

/* argp wants the words of argv writable, though it leaves them alone. */
static void parse(struct options *options, const char *const args[])
{
	char *argv[16] = {(char *)(uintptr_t) "mempoold"};
	int n = 1;

	memset(options, 0xff, sizeof(*options));
	for (; args && *args; args++)
		argv[n++] = (char *)(uintptr_t)*args;
	options_parse(options, n, argv);
}

static void test_options_without_any_are_the_defaults(void **state)
{
	struct options options;

	(void)state;
	parse(&options, NULL);
	assert_null(options.socket_path);
	assert_null(options.config_path);
	assert_null(options.instance);
	assert_in_range(options.n_loops, 1, 4);
	assert_false(options.ephemeral);
	assert_int_equal(options.log_level, LOG_LEVEL_INFO);
}

static void test_options_are_all_read(void **state)
{
	struct options options;

	(void)state;
	parse(&options, (const char *const[]){"--socket", "/a/b", "--config=/etc/c", "--instance", "i", "--threads",
					      "64", "--ephemeral", "--log-level", "debug", NULL});
	assert_string_equal(options.socket_path, "/a/b");
	assert_string_equal(options.config_path, "/etc/c");
	assert_string_equal(options.instance, "i");
	assert_int_equal(options.n_loops, 64);
	assert_true(options.ephemeral);
	assert_int_equal(options.log_level, LOG_LEVEL_DEBUG);
	assert_int_equal(options.offline, OFFLINE_NOTHING);
	parse(&options, (const char *const[]){"--offline", "log", "frames", "--instance", "i", NULL});
	assert_int_equal(options.offline, OFFLINE_LOG);
	assert_string_equal(options.pool, "frames");
	parse(&options, (const char *const[]){"--offline", "check", NULL});
	assert_int_equal(options.offline, OFFLINE_CHECK);
	assert_null(options.pool);
}

/* The exit code of a process that parses @word [and @value], with its output in @out. */
static int run(const char *word, const char *value, char *out, size_t n_bytes)
{
	int fds[2], status;
	size_t n = 0;
	ssize_t got;
	pid_t pid;

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		struct options options;

		dup2(fds[1], STDOUT_FILENO);
		dup2(fds[1], STDERR_FILENO);
		parse(&options, (const char *const[]){word, value, NULL});
		_exit(99); /* it was taken */
	}
	close(fds[1]);
	while ((got = read(fds[0], out + n, n_bytes - 1 - n)) > 0)
		n += (size_t)got;
	out[n] = '\0';
	close(fds[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void test_options_help_and_version_end_with_0(void **state)
{
	char out[8192];

	(void)state;
	assert_int_equal(run("--version", NULL, out, sizeof(out)), 0);
	assert_int_equal(strncmp(out, "mempoold ", 9), 0);
	assert_int_equal(run("--help", NULL, out, sizeof(out)), 0);
	for (const char *const *word =
		     (const char *const[]){"--socket", "--config", "--instance", "--threads", "--ephemeral",
					   "--log-level", "--version", "--help", "--offline", NULL};
	     *word; word++)
		assert_non_null(strstr(out, *word));
}

static void test_options_mistakes_end_with_2_and_a_line(void **state)
{
	static const struct {
		const char *word, *value, *says;
	} wrong[] = {
		{"--treads", "2", "--treads"},
		{"--threads", "0", "1 to 64, not '0'"},
		{"--threads", "65", "1 to 64, not '65'"},
		{"--threads", "-1", "1 to 64, not '-1'"},
		{"--threads", "two", "not 'two'"},
		{"--threads", NULL, "requires an argument"},
		{"--log-level", "loud", "error, warning, info or debug, not 'loud'"},
		{"--instance", "a/b", "'a/b' cannot name an instance"},
		{"--instance", "", "'' cannot name an instance"},
		{"--offline", NULL, "requires an argument"},
		{"--offline", "lug", "check or log, not 'lug'"},
		{"--offline", "log", "name the pool"},
		{"serve", NULL, "'serve' is not an option"},
	};
	char out[8192];

	(void)state;
	for (size_t i = 0; i < N_ELEMENTS(wrong); i++) {
		assert_int_equal(run(wrong[i].word, wrong[i].value, out, sizeof(out)), OPTIONS_EXIT);
		assert_non_null(strstr(out, wrong[i].says));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_options_without_any_are_the_defaults),
		cmocka_unit_test(test_options_are_all_read),
		cmocka_unit_test(test_options_help_and_version_end_with_0),
		cmocka_unit_test(test_options_mistakes_end_with_2_and_a_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
