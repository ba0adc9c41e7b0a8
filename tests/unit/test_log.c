// SPDX-License-Identifier: MIT
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/log.h"
#include "tests/lib/test.h"

/* stderr is a pipe while a test runs: what was logged is read from its other end. */
struct fixture {
	int saved_stderr, out[2];
	char text[65536];
};

static int setup(void **state)
{
	static struct fixture fixture;

	memset(&fixture, 0, sizeof(fixture));
	fixture.saved_stderr = dup(STDERR_FILENO);
	if (fixture.saved_stderr < 0 || pipe2(fixture.out, O_NONBLOCK | O_CLOEXEC) ||
	    dup2(fixture.out[1], STDERR_FILENO) < 0)
		return -1;
	unsetenv("JOURNAL_STREAM");
	log_open(LOG_LEVEL_INFO);
	*state = &fixture;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	dup2(fixture->saved_stderr, STDERR_FILENO);
	close(fixture->saved_stderr);
	close(fixture->out[0]);
	close(fixture->out[1]);
	unsetenv("JOURNAL_STREAM");
	return 0;
}

static const char *logged(struct fixture *fixture)
{
	size_t n = 0;
	ssize_t got;

	while ((got = read(fixture->out[0], fixture->text + n, sizeof(fixture->text) - 1 - n)) > 0)
		n += (size_t)got;
	fixture->text[n] = '\0';
	return fixture->text;
}

static unsigned count(const char *text, const char *what)
{
	unsigned n = 0;

	for (; (text = strstr(text, what)); text += strlen(what))
		n++;
	return n;
}

static void test_log_line_has_time_level_and_sentence(void **state)
{
	unsigned year, month, day, hour, minute, second, ms;
	char level[16], rest[64];

	log_line(LOG_LEVEL_WARNING, "pool %s is %d %% full", "frames", 90);
	assert_int_equal(sscanf(logged(*state), "%4u-%2u-%2uT%2u:%2u:%2u.%3uZ %15[a-z]: %63[^\n]", &year, &month, &day,
				&hour, &minute, &second, &ms, level, rest),
			 9);
	assert_in_range(year, 2020, 2200);
	assert_string_equal(level, "warning");
	assert_string_equal(rest, "pool frames is 90 % full");
}

static void test_log_line_below_the_level_is_silent(void **state)
{
	log_line(LOG_LEVEL_DEBUG, "no");
	assert_string_equal(logged(*state), "");
	log_open(LOG_LEVEL_ERROR);
	log_line(LOG_LEVEL_WARNING, "no");
	log_client(&(struct log_source){0}, LOG_LEVEL_WARNING, "no");
	assert_string_equal(logged(*state), "");
	log_line(LOG_LEVEL_ERROR, "yes");
	assert_non_null(strstr(logged(*state), "error: yes\n"));
	log_open(LOG_LEVEL_DEBUG);
	log_line(LOG_LEVEL_DEBUG, "yes");
	assert_non_null(strstr(logged(*state), "debug: yes\n"));
}

static void test_log_line_cannot_be_forged(void **state)
{
	const char *text;

	log_line(LOG_LEVEL_INFO, "client '%s' left", "x\n2026-01-01T00:00:00.000Z error: fire\x1b[31m\x7f");
	text = logged(*state);
	assert_int_equal(count(text, "\n"), 1);
	assert_null(strchr(text, '\x1b'));
	assert_null(strchr(text, '\x7f'));
	assert_non_null(strstr(text, "client 'x?2026"));
}

static void test_log_line_too_long_is_cut_and_says_so(void **state)
{
	char word[5000];
	const char *text;

	memset(word, 'a', sizeof(word) - 1);
	word[sizeof(word) - 1] = '\0';
	log_line(LOG_LEVEL_INFO, "%s", word);
	text = logged(*state);
	assert_int_equal(strlen(text), 1024);
	assert_string_equal(text + 1024 - 11, "aaaa [cut]\n");
}

static void test_log_line_keeps_errno(void **state)
{
	(void)state;
	errno = EXDEV;
	log_line(LOG_LEVEL_INFO, "x");
	assert_int_equal(errno, EXDEV);
}

static void test_log_line_for_the_journal_has_a_priority(void **state)
{
	struct stat st;
	char stream[64];

	assert_int_equal(fstat(STDERR_FILENO, &st), 0);
	snprintf(stream, sizeof(stream), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
	setenv("JOURNAL_STREAM", stream, 1);
	log_open(LOG_LEVEL_DEBUG);
	for (int level = 0; level < LOG_LEVEL_N; level++)
		log_line((enum log_level)level, "x");
	assert_string_equal(logged(*state), "<3>x\n<4>x\n<6>x\n<7>x\n");
}

static void test_log_line_for_a_file_under_the_journal_has_a_time(void **state)
{
	setenv("JOURNAL_STREAM", "1:1", 1); /* inherited; stderr is something else */
	log_open(LOG_LEVEL_INFO);
	log_line(LOG_LEVEL_INFO, "x");
	assert_non_null(strstr(logged(*state), "Z info: x\n"));
}

static void test_log_client_lets_a_burst_through_and_counts_the_rest(void **state)
{
	struct log_source source = {0};
	const char *text;

	for (int i = 0; i < LOG_BURST + 5; i++)
		log_client(&source, LOG_LEVEL_INFO, "bad frame");
	assert_int_equal(count(logged(*state), "bad frame"), LOG_BURST);
	assert_int_equal(source.n_swallowed, 5);

	source.window_ns -= LOG_WINDOW_S * UINT64_C(1000000000); /* the window is over */
	log_client(&source, LOG_LEVEL_INFO, "again");
	text = logged(*state);
	assert_non_null(strstr(text, "5 more lines"));
	assert_int_equal(count(text, "again"), 1);
	assert_int_equal(source.n_swallowed, 0);
}

static void test_log_client_of_one_does_not_silence_another(void **state)
{
	struct log_source loud = {0}, quiet = {0};

	for (int i = 0; i < 100; i++)
		log_client(&loud, LOG_LEVEL_INFO, "loud");
	log_client(&quiet, LOG_LEVEL_INFO, "quiet");
	assert_int_equal(count(logged(*state), "quiet"), 1);
	log_source_end(&loud);
	assert_non_null(strstr(logged(*state), "90 more lines"));
	log_source_end(&quiet);
	log_source_end(&loud);
	assert_string_equal(logged(*state), "");
}

static void test_log_level_names_are_exact(void **state)
{
	enum log_level level = LOG_LEVEL_N;

	(void)state;
	assert_int_equal(log_level_by_name("error", &level), 0);
	assert_int_equal(level, LOG_LEVEL_ERROR);
	assert_int_equal(log_level_by_name("debug", &level), 0);
	assert_int_equal(level, LOG_LEVEL_DEBUG);
	assert_int_equal(log_level_by_name("Debug", &level), -EINVAL);
	assert_int_equal(log_level_by_name("", &level), -EINVAL);
	assert_int_equal(level, LOG_LEVEL_DEBUG);
}

#define N_LINES 100 /* four threads' worth fit into a pipe */

static void *log_many(void *arg)
{
	char letter = *(const char *)arg;

	for (int i = 0; i < N_LINES; i++)
		log_line(LOG_LEVEL_INFO, "%c%c%c%c%c%c%c%c", letter, letter, letter, letter, letter, letter, letter,
			 letter);
	return NULL;
}

static void test_log_lines_of_threads_do_not_mix(void **state)
{
	static char letters[4] = {'a', 'b', 'c', 'd'};
	pthread_t threads[4];
	unsigned n = 0;
	char *save = NULL;

	for (size_t i = 0; i < N_ELEMENTS(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, log_many, &letters[i]), 0);
	for (size_t i = 0; i < N_ELEMENTS(threads); i++)
		pthread_join(threads[i], NULL);
	logged(*state);
	for (char *line = strtok_r(((struct fixture *)*state)->text, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save), n++) {
		const char *word = strstr(line, "info: ");

		assert_non_null(word);
		word += strlen("info: ");
		assert_int_equal(strlen(word), 8);
		assert_int_equal(strspn(word, (char[]){word[0], '\0'}), 8);
	}
	assert_int_equal(n, N_LINES * N_ELEMENTS(threads));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_log_line_has_time_level_and_sentence),
		TEST(test_log_line_below_the_level_is_silent),
		TEST(test_log_line_cannot_be_forged),
		TEST(test_log_line_too_long_is_cut_and_says_so),
		TEST(test_log_line_keeps_errno),
		TEST(test_log_line_for_the_journal_has_a_priority),
		TEST(test_log_line_for_a_file_under_the_journal_has_a_time),
		TEST(test_log_client_lets_a_burst_through_and_counts_the_rest),
		TEST(test_log_client_of_one_does_not_silence_another),
		TEST(test_log_level_names_are_exact),
		TEST(test_log_lines_of_threads_do_not_mix),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
