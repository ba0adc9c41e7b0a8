// SPDX-License-Identifier: MIT
/* The daemon as whoever runs it sees it: starts that fail and say why, reloads, ends. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/lib/daemon.h"
#include "tests/lib/test.h"
#include "tests/lib/wire.h"

static int setup(void **state)
{
	static struct daemon d;

	*state = &d;
	return daemon_init(&d);
}

static int teardown(void **state)
{
	daemon_deinit(*state);
	return 0;
}

/* Its exit code; @sentence must be in the log. */
static int refused(struct daemon *d, const char *const args[], const char *sentence)
{
	assert_int_equal(daemon_start(d, args), -ECHILD);
	assert_true(daemon_log_count(d, sentence) > 0);
	return daemon_wait(d);
}

static uint64_t limit_of(const struct daemon *d, const char *name)
{
	Mempool__Wire__DaemonInfo info = MEMPOOL__WIRE__DAEMON_INFO__INIT;
	Mempool__Wire__Request request = WIRE_REQUEST(DAEMON_INFO, daemon_info, &info);
	Mempool__Wire__Reply *reply = NULL;
	uint64_t value = UINT64_MAX - 1;
	struct wire wire;

	assert_int_equal(wire_open(&wire, d->socket), 0);
	assert_int_equal(wire_hello(&wire), 0);
	assert_int_equal(wire_ask(&wire, &request, &reply), 0);
	for (size_t i = 0; i < reply->daemon_info->n_limits; i++) {
		const Mempool__Wire__Limit *limit = reply->daemon_info->limits[i];

		if (limit->name.len == strlen(name) && !memcmp(limit->name.data, name, limit->name.len))
			value = limit->value;
	}
	mempool__wire__reply__free_unpacked(reply, NULL);
	wire_close(&wire);
	return value;
}

static int open_pool(const struct daemon *d, const char *name)
{
	Mempool__Wire__OpenPool open = MEMPOOL__WIRE__OPEN_POOL__INIT;
	Mempool__Wire__Request request = WIRE_REQUEST(OPEN_POOL, open_pool, &open);
	struct wire wire;
	int r;

	open.has_name = 1;
	open.name = (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t)name, .len = strlen(name)};
	assert_int_equal(wire_open(&wire, d->socket), 0);
	assert_int_equal(wire_hello(&wire), 0);
	r = wire_ask(&wire, &request, NULL);
	wire_close(&wire);
	return r;
}

static void test_mempoold_configured_wrongly_ends_with_2(void **state)
{
	struct daemon *d = *state;
	char path[96], sentence[256];

	assert_int_equal(daemon_write_file(d, "conf", "[pool \"frames\"]\nsise = 64M\n", path), 0);
	snprintf(sentence, sizeof(sentence), "%s:2: unknown key 'sise' in [pool \"frames\"], did you mean 'size'?",
		 path);
	assert_int_equal(refused(d, (const char *[]){"--config", path, NULL}, sentence), 2);
	assert_int_equal(refused(d, (const char *[]){"--config", "/nowhere/x", NULL}, "/nowhere/x: No such file"), 2);
	assert_int_equal(refused(d, (const char *[]){"--treads", "2", NULL}, "unrecognized option '--treads'"), 2);
	assert_int_equal(daemon_n_objects(d), 0);
	assert_int_equal(access(d->socket, F_OK), -1);
}

static void test_mempoold_second_of_an_instance_ends_with_1(void **state)
{
	struct daemon *first = *state, second;

	assert_int_equal(daemon_start(first, NULL), 0);
	assert_int_equal(daemon_init(&second), 0);
	strcpy(second.instance, first->instance);
	assert_int_equal(refused(&second, NULL, first->instance), 1);
	assert_int_equal(access(second.socket, F_OK), -1);
	assert_int_equal(limit_of(first, "request_frame"), 65536); /* it has noticed nothing */

	daemon_deinit(&second); /* which sweeps the instance's objects: the first is done with */
	daemon_kill(first);
}

static void test_mempoold_second_on_a_socket_ends_with_1(void **state)
{
	struct daemon *first = *state, second;

	assert_int_equal(daemon_start(first, NULL), 0);
	assert_int_equal(daemon_init(&second), 0);
	strcpy(second.socket, first->socket);
	assert_int_equal(refused(&second, NULL, first->socket), 1);
	assert_int_equal(daemon_n_objects(&second), 0);
	daemon_deinit(&second);
	assert_int_equal(limit_of(first, "request_frame"), 65536);
	assert_int_equal(daemon_stop(first), 0);
}

static void test_mempoold_after_kill_9_brings_its_pools_back(void **state)
{
	struct daemon *d = *state;
	char path[96];

	assert_int_equal(daemon_write_file(d, "conf", "[pool \"frames\"]\nsize = 1M\n", path), 0);
	assert_int_equal(daemon_start(d, (const char *[]){"--config", path, NULL}), 0);
	assert_int_equal(open_pool(d, "frames"), 0);
	daemon_kill(d);
	assert_true(daemon_n_objects(d) > 1);
	assert_int_equal(access(d->socket, F_OK), 0); /* stale: nobody listens */
	assert_int_equal(daemon_start(d, NULL), 0);
	assert_int_equal(daemon_log_count(d, "brought back after a kill: 1 pools with 0 blocks, 0 bytes"), 1);
	assert_int_equal(open_pool(d, "frames"), 0);
	assert_int_equal(daemon_stop(d), 0);
}

static void test_mempoold_stop_keeps_pools_for_the_next_start(void **state)
{
	struct daemon *d = *state;
	char path[96];

	d->keeps = true;
	assert_int_equal(daemon_write_file(d, "conf", "[pool \"frames\"]\nsize = 1M\n", path), 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(daemon_start(d, (const char *[]){i ? NULL : "--config", path, NULL}), 0);
		assert_int_equal(daemon_log_count(d, "brought back after a stop: 1 pools"), i);
		assert_int_equal(open_pool(d, "frames"), 0);
		assert_int_equal(daemon_stop(d), 0);
		assert_int_equal(daemon_log_count(d, "kept for the next start: 1 pools"), i + 1);
	}
	d->keeps = false;
	assert_int_equal(daemon_start(d, NULL), 0);
	assert_int_equal(daemon_stop(d), 0); /* and nothing is left */
}

static void test_mempoold_failed_start_destroys_nothing(void **state)
{
	struct daemon *d = *state, other;
	char path[96];

	d->keeps = true;
	assert_int_equal(daemon_write_file(d, "conf", "[pool \"frames\"]\nsize = 1M\n", path), 0);
	assert_int_equal(daemon_start(d, (const char *[]){"--config", path, NULL}), 0);
	assert_int_equal(daemon_stop(d), 0);
	assert_int_equal(daemon_init(&other), 0);
	assert_int_equal(daemon_start(&other, NULL), 0);
	assert_int_equal(refused(d, (const char *[]){"--ephemeral", "--socket", other.socket, NULL}, other.socket), 1);
	assert_int_equal(daemon_stop(&other), 0);
	daemon_deinit(&other);
	d->keeps = false;
	assert_int_equal(daemon_start(d, NULL), 0);
	assert_int_equal(open_pool(d, "frames"), 0);
	assert_int_equal(daemon_stop(d), 0);
}

static void test_mempoold_modes_do_not_depend_on_the_umask(void **state)
{
	struct daemon *d = *state;
	mode_t before = umask(0077);
	struct stat st;
	char path[160];
	int r = daemon_start(d, NULL);

	umask(before);
	assert_int_equal(r, 0);
	assert_int_equal(stat(d->socket, &st), 0);
	assert_true(S_ISSOCK(st.st_mode));
	assert_int_equal(st.st_mode & 07777, 0666);
	snprintf(path, sizeof(path), "/dev/shm/mempool.%s", d->instance);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(daemon_stop(d), 0);
}

static void test_mempoold_sighup_takes_a_new_configuration(void **state)
{
	struct daemon *d = *state;
	char path[96];

	assert_int_equal(daemon_write_file(d, "conf", "[limits]\nrequest_frame = 8K\n", path), 0);
	assert_int_equal(daemon_start(d, (const char *[]){"--config", path, NULL}), 0);
	assert_int_equal(limit_of(d, "request_frame"), 8192);
	assert_int_equal(open_pool(d, "late"), -ENOENT);
	assert_int_equal(daemon_write_file(d, "conf",
					   "[limits]\nrequest_frame = 9K\n[quota]\npools = 7\n"
					   "[pool \"late\"]\nsize = 1M\n",
					   path),
			 0);
	assert_int_equal(kill(d->pid, SIGHUP), 0);
	assert_int_equal(daemon_wait_log(d, "again"), 0);
	assert_int_equal(limit_of(d, "request_frame"), 9216);
	assert_int_equal(limit_of(d, "quota_pools"), 7);
	assert_int_equal(open_pool(d, "late"), 0);
	assert_int_equal(daemon_stop(d), 0);
}

static void test_mempoold_sighup_keeps_the_old_configuration_on_a_mistake(void **state)
{
	struct daemon *d = *state;
	char path[96];

	assert_int_equal(daemon_write_file(d, "conf", "[limits]\nrequest_frame = 8K\n", path), 0);
	assert_int_equal(daemon_start(d, (const char *[]){"--config", path, NULL}), 0);
	assert_int_equal(daemon_write_file(d, "conf", "[limits]\nrequest_frame = 9K\ndecode_arena = lots\n", path), 0);
	assert_int_equal(kill(d->pid, SIGHUP), 0);
	assert_int_equal(daemon_wait_log(d, "the old configuration stays"), 0);
	assert_int_equal(daemon_log_count(d, "conf:3: bad value 'lots'"), 1);
	assert_int_equal(limit_of(d, "request_frame"), 8192);
	assert_int_equal(daemon_stop(d), 0);
}

static void test_mempoold_sighup_without_a_file_says_so(void **state)
{
	struct daemon *d = *state;

	assert_int_equal(daemon_start(d, NULL), 0);
	assert_int_equal(kill(d->pid, SIGHUP), 0);
	assert_int_equal(daemon_wait_log(d, "there is no --config"), 0);
	assert_int_equal(daemon_stop(d), 0);
}

static void test_mempoold_sigint_is_a_clean_stop(void **state)
{
	struct daemon *d = *state;

	assert_int_equal(daemon_start(d, (const char *[]){"--ephemeral", "--log-level", "debug", NULL}), 0);
	assert_int_equal(kill(d->pid, SIGINT), 0);
	assert_int_equal(daemon_wait(d), 0);
	assert_int_equal(daemon_n_objects(d), 0);
	assert_int_equal(access(d->socket, F_OK), -1);
}

static void test_mempoold_starts_where_it_was_stopped(void **state)
{
	struct daemon *d = *state;

	for (int i = 0; i < 5; i++) {
		assert_int_equal(daemon_start(d, NULL), 0);
		assert_int_equal(limit_of(d, "request_frame"), 65536);
		assert_int_equal(daemon_stop(d), 0);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_mempoold_configured_wrongly_ends_with_2),
		TEST(test_mempoold_second_of_an_instance_ends_with_1),
		TEST(test_mempoold_second_on_a_socket_ends_with_1),
		TEST(test_mempoold_after_kill_9_brings_its_pools_back),
		TEST(test_mempoold_stop_keeps_pools_for_the_next_start),
		TEST(test_mempoold_failed_start_destroys_nothing),
		TEST(test_mempoold_modes_do_not_depend_on_the_umask),
		TEST(test_mempoold_sighup_takes_a_new_configuration),
		TEST(test_mempoold_sighup_keeps_the_old_configuration_on_a_mistake),
		TEST(test_mempoold_sighup_without_a_file_says_so),
		TEST(test_mempoold_sigint_is_a_clean_stop),
		TEST(test_mempoold_starts_where_it_was_stopped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
