// SPDX-License-Identifier: MIT
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "instance.h"
#include "tests/lib/test.h"

static int setup(void **state)
{
	static char dir[64];

	strcpy(dir, "/tmp/mempool-test.XXXXXX");
	*state = dir;
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	const char *dir = *state;
	char path[128];

	for (const char *const *name = (const char *const[]){"system", "link", "run", NULL}; *name; name++) {
		snprintf(path, sizeof(path), "%s/%s", dir, *name);
		remove(path);
	}
	return rmdir(dir);
}

struct at {
	char path[128];
};

static struct at in(const char *dir, const char *name)
{
	struct at at;

	snprintf(at.path, sizeof(at.path), "%s/%s", dir, name);
	return at;
}

static void test_instance_socket_option_comes_first(void **state)
{
	struct at given = in(*state, "given"), system_dir = in(*state, "system");
	struct instance_places places = {given.path, "/nowhere/a", "/nowhere/b", system_dir.path};
	char path[INSTANCE_SOCKET_BYTES], why[512];

	assert_int_equal(instance_choose_socket(&places, path, why, sizeof(why)), 0);
	assert_string_equal(path, given.path);
	assert_int_equal(access(system_dir.path, F_OK), -1); /* not made when it is not needed */
}

static void test_instance_socket_environment_comes_second(void **state)
{
	struct at given = in(*state, "given");
	struct instance_places places = {"", given.path, "/nowhere/b", "/nowhere/c"};
	char path[INSTANCE_SOCKET_BYTES], why[512];

	assert_int_equal(instance_choose_socket(&places, path, why, sizeof(why)), 0);
	assert_string_equal(path, given.path);
}

static void test_instance_socket_falls_back_to_the_system_dir(void **state)
{
	struct at system_dir = in(*state, "system"), socket = in(*state, "system/mempoold.sock");
	struct at own = in(*state, "mempoold.sock");
	struct instance_places places = {NULL, NULL, *state, system_dir.path};
	char path[INSTANCE_SOCKET_BYTES], why[512];
	struct stat st;
	mode_t umask_before;

	assert_int_equal(instance_choose_socket(&places, path, why, sizeof(why)), 0);
	assert_string_equal(path, own.path); /* the runtime dir, while it is there */

	places.runtime_dir = "/nowhere/b";
	umask_before = umask(0077);
	assert_int_equal(instance_choose_socket(&places, path, why, sizeof(why)), 0);
	umask(umask_before);
	assert_string_equal(path, socket.path);
	assert_int_equal(stat(system_dir.path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
	assert_int_equal(instance_choose_socket(&places, path, why, sizeof(why)), 0); /* it is there already */
}

static void test_instance_socket_without_a_place_says_which_were_tried(void **state)
{
	struct instance_places places = {NULL, NULL, NULL, "/nowhere/c"};
	char path[INSTANCE_SOCKET_BYTES] = "untouched", why[512];

	(void)state;
	assert_int_equal(instance_choose_socket(&places, path, why, sizeof(why)), INSTANCE_E_REFUSED);
	assert_string_equal(
		why, "no place for a socket ($XDG_RUNTIME_DIR is not set; /nowhere/c: No such file or directory): "
		     "name one with --socket");
	places.runtime_dir = "/nowhere/b";
	assert_int_equal(instance_choose_socket(&places, path, why, sizeof(why)), INSTANCE_E_REFUSED);
	assert_non_null(strstr(why, "/nowhere/b: No such file"));
	assert_string_equal(path, "untouched");
}

static void test_instance_socket_given_is_not_replaced_by_another(void **state)
{
	struct instance_places places = {"/nowhere/socket", *state, *state, *state};
	char path[INSTANCE_SOCKET_BYTES], why[512];

	assert_int_equal(instance_choose_socket(&places, path, why, sizeof(why)), INSTANCE_E_REFUSED);
	assert_string_equal(why, "the socket's folder /nowhere/: No such file or directory");
	places.option = "/tmp/";
	assert_int_equal(instance_choose_socket(&places, path, why, sizeof(why)), INSTANCE_E_REFUSED);
	assert_string_equal(why, "/tmp/ is a folder: name the socket in it");
}

static void test_instance_socket_has_one_spelling(void **state)
{
	struct at link = in(*state, "link"), run = in(*state, "run"), want = in(*state, "run/s");
	struct at spellings[] = {in(*state, "run/s"), in(*state, "link/s"), in(*state, "run/../link/./s"),
				 in(*state, "/run//s")};
	struct instance_places places = {.system_dir = "/nowhere"};
	char path[INSTANCE_SOCKET_BYTES], why[512];

	assert_int_equal(mkdir(run.path, 0755), 0);
	assert_int_equal(symlink("run", link.path), 0);
	for (size_t i = 0; i < N_ELEMENTS(spellings); i++) {
		places.option = spellings[i].path;
		assert_int_equal(instance_choose_socket(&places, path, why, sizeof(why)), 0);
		assert_string_equal(path, want.path);
	}
	assert_int_equal(chdir(run.path), 0);
	places.option = "s";
	assert_int_equal(instance_choose_socket(&places, path, why, sizeof(why)), 0);
	assert_string_equal(path, want.path);
	assert_int_equal(chdir("/"), 0);
	assert_int_equal(instance_choose_socket(&places, path, why, sizeof(why)), 0);
	assert_string_equal(path, "/s");
}

static void test_instance_socket_one_byte_too_long_is_refused(void **state)
{
	struct instance_places places = {.system_dir = "/nowhere"};
	char path[INSTANCE_SOCKET_BYTES], why[512], given[256];
	size_t n = (size_t)snprintf(given, sizeof(given), "%s/", (const char *)*state);

	memset(given + n, 'x', sizeof(given) - n);
	given[107] = '\0';
	places.option = given;
	assert_int_equal(instance_choose_socket(&places, path, why, sizeof(why)), 0);
	assert_string_equal(path, given);
	given[107] = 'x';
	given[108] = '\0';
	assert_int_equal(instance_choose_socket(&places, path, why, sizeof(why)), INSTANCE_E_REFUSED);
	assert_non_null(strstr(why, "has 108 bytes, and a socket's may have 107"));
}

static void test_instance_name_tells_the_path(void **state)
{
	char name[INSTANCE_NAME_MAX + 1], other[INSTANCE_NAME_MAX + 1];

	(void)state;
	instance_name_from_socket("/run/mempoold/mempoold.sock", name);
	assert_string_equal(name, "run+mempoold+mempoold.sock");
	instance_name_from_socket("/s", name);
	assert_string_equal(name, "s");
	instance_name_from_socket("/a b/+/%/\xc3\xa4~", name);
	assert_string_equal(name, "a%20b+%2B+%25+%C3%A4%7E");
	assert_true(instance_name_is_valid(name));
	instance_name_from_socket("/a+b", name);
	instance_name_from_socket("/a/b", other);
	assert_string_not_equal(name, other);
}

static void test_instance_name_of_a_long_path_is_short_and_unique(void **state)
{
	char path[INSTANCE_SOCKET_BYTES], name[INSTANCE_NAME_MAX + 1], other[INSTANCE_NAME_MAX + 1];

	(void)state;
	memset(path, 'a', sizeof(path));
	path[0] = '/';
	path[101] = '\0'; /* a name of 100 bytes still fits */
	instance_name_from_socket(path, name);
	assert_string_equal(name, path + 1);
	path[101] = 'a';
	path[107] = '\0';
	instance_name_from_socket(path, name);
	assert_true(instance_name_is_valid(name));
	assert_non_null(strchr(name, '~'));
	path[1] = 'b'; /* what the name does not show, its hash does */
	instance_name_from_socket(path, other);
	assert_true(instance_name_is_valid(other));
	assert_string_not_equal(name, other);
	memset(path + 1, '\xff', 106); /* every byte three: the longest there is */
	instance_name_from_socket(path, name);
	assert_true(instance_name_is_valid(name));
}

static void test_instance_name_is_never_a_segment_of_another(void **state)
{
	char name[INSTANCE_NAME_MAX + 1];

	(void)state;
	assert_false(instance_name_is_valid("a.0123456789abcdef0123456789abcdef"));
	assert_false(instance_name_is_valid(".0123456789abcdef0123456789abcdef"));
	assert_true(instance_name_is_valid("a.0123456789abcdef0123456789abcde"));
	assert_true(instance_name_is_valid("a.0123456789abcdef0123456789abcdeg"));
	assert_true(instance_name_is_valid("0123456789abcdef0123456789abcdef"));
	instance_name_from_socket("/a.0123456789abcdef0123456789abcdef", name);
	assert_true(instance_name_is_valid(name));
}

static void test_instance_name_given_is_checked(void **state)
{
	char name[INSTANCE_NAME_MAX + 2];

	(void)state;
	assert_false(instance_name_is_valid(""));
	assert_false(instance_name_is_valid("a/b"));
	assert_false(instance_name_is_valid("a b"));
	assert_false(instance_name_is_valid("a\nb"));
	assert_false(instance_name_is_valid("\xc3\xa4"));
	assert_true(instance_name_is_valid("A-z.0_9+%~"));
	memset(name, 'a', sizeof(name));
	name[INSTANCE_NAME_MAX + 1] = '\0';
	assert_false(instance_name_is_valid(name));
	name[INSTANCE_NAME_MAX] = '\0';
	assert_true(instance_name_is_valid(name));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_instance_socket_option_comes_first),
		TEST(test_instance_socket_environment_comes_second),
		TEST(test_instance_socket_falls_back_to_the_system_dir),
		TEST(test_instance_socket_without_a_place_says_which_were_tried),
		TEST(test_instance_socket_given_is_not_replaced_by_another),
		TEST(test_instance_socket_has_one_spelling),
		TEST(test_instance_socket_one_byte_too_long_is_refused),
		TEST(test_instance_name_tells_the_path),
		TEST(test_instance_name_of_a_long_path_is_short_and_unique),
		TEST(test_instance_name_is_never_a_segment_of_another),
		TEST(test_instance_name_given_is_checked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
