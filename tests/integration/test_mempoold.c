// SPDX-License-Identifier: MIT
/* The daemon as whoever runs it sees it: starts that fail and say why, reloads, ends. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
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
	assert_int_equal(daemon_log_count(d, "brought back after a kill: 1 pool with 0 blocks, 0 bytes"), 1);
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
		assert_int_equal(daemon_log_count(d, "brought back after a stop: 1 pool with"), i);
		assert_int_equal(open_pool(d, "frames"), 0);
		assert_int_equal(daemon_stop(d), 0);
		assert_int_equal(daemon_log_count(d, "kept for the next start: 1 pool with"), i + 1);
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

/* ---- without a daemon ---- */

/* Its exit code; what it printed, both streams, in @out. */
static int offline(const struct daemon *d, const char *task, char *out, size_t n_bytes)
{
	char command[512];
	size_t n;
	FILE *pipe;

	snprintf(command, sizeof(command), "%s --instance %s --offline %s 2>&1", MEMPOOLD_PATH, d->instance, task);
	pipe = popen(command, "r");
	assert_non_null(pipe);
	n = fread(out, 1, n_bytes - 1, pipe);
	out[n] = '\0';
	return WEXITSTATUS(pclose(pipe));
}

struct object { /* of the instance, as it was */
	char path[300];
	struct stat st;
	uint8_t head[65536];
};

static size_t look_at_objects(const struct daemon *d, struct object objects[], size_t n_max)
{
	char prefix[96];
	const struct dirent *entry;
	size_t n = 0;
	DIR *dir = opendir("/dev/shm");

	snprintf(prefix, sizeof(prefix), "mempool.%s", d->instance);
	while ((entry = readdir(dir))) {
		struct object *object = objects + n;
		int fd;

		if (strncmp(entry->d_name, prefix, strlen(prefix)))
			continue;
		assert_true(n++ < n_max);
		memset(object, 0, sizeof(*object));
		snprintf(object->path, sizeof(object->path), "/dev/shm/%s", entry->d_name);
		fd = open(object->path, O_RDONLY | O_CLOEXEC);
		assert_true(fd >= 0);
		assert_int_equal(fstat(fd, &object->st), 0);
		assert_true(pread(fd, object->head, sizeof(object->head), 0) >= 0);
		close(fd);
	}
	closedir(dir);
	return n;
}

static void expect_untouched(const struct object before[], const struct object after[], size_t n)
{
	for (size_t i = 0; i < n; i++) {
		assert_string_equal(before[i].path, after[i].path);
		assert_int_equal(before[i].st.st_blocks, after[i].st.st_blocks);
		assert_int_equal(before[i].st.st_size, after[i].st.st_size);
		assert_int_equal(before[i].st.st_mtim.tv_sec, after[i].st.st_mtim.tv_sec);
		assert_int_equal(before[i].st.st_mtim.tv_nsec, after[i].st.st_mtim.tv_nsec);
		assert_memory_equal(before[i].head, after[i].head, sizeof(before[i].head));
	}
}

static void test_mempoold_offline_reads_and_changes_nothing(void **state)
{
	static struct object before[8], after[8];
	struct daemon *d = *state;
	char path[96], out[8192];
	size_t n;

	assert_int_equal(offline(d, "check", out, sizeof(out)), 4);
	assert_non_null(strstr(out, "there is no instance"));
	assert_int_equal(daemon_write_file(d, "conf", "[pool \"frames\"]\nsize = 1M\n", path), 0);
	assert_int_equal(daemon_start(d, (const char *[]){"--config", path, NULL}), 0);
	assert_int_equal(open_pool(d, "frames"), 0);
	assert_int_equal(offline(d, "check frames", out, sizeof(out)), 0);
	assert_non_null(strstr(out, "has a daemon at work"));
	daemon_kill(d);
	n = look_at_objects(d, before, N_ELEMENTS(before));
	assert_int_equal(n, 4);
	assert_int_equal(offline(d, "check", out, sizeof(out)), 0);
	assert_null(strstr(out, "has a daemon at work"));
	assert_non_null(strstr(out, "1 pool checked: no faults"));
	assert_int_equal(offline(d, "log frames", out, sizeof(out)), 0);
	assert_non_null(strstr(out, "join"));
	assert_int_equal(offline(d, "log flames", out, sizeof(out)), 4);
	assert_int_equal(offline(d, "check flames", out, sizeof(out)), 4);
	assert_non_null(strstr(out, "there is no pool 'flames' in instance"));
	assert_non_null(strstr(out, "lists all of it")); /* and what to do */
	assert_int_equal(look_at_objects(d, after, N_ELEMENTS(after)), n);
	expect_untouched(before, after, n);
	assert_int_equal(daemon_start(d, NULL), 0); /* nobody has the lock */
	assert_int_equal(daemon_stop(d), 0);
}

static void test_mempoold_offline_says_why_a_directory_cannot_be_read(void **state)
{
	const uint64_t junk = 0x1234567;
	struct daemon *d = *state;
	char path[128], out[8192];
	int fd;

	assert_int_equal(daemon_start(d, NULL), 0);
	daemon_kill(d);
	snprintf(path, sizeof(path), "/dev/shm/mempool.%s", d->instance);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	assert_int_equal(pwrite(fd, &junk, 8, 0), 8);
	close(fd);
	assert_int_equal(offline(d, "check", out, sizeof(out)), 7);
	assert_non_null(strstr(out, path));
	assert_non_null(strstr(out, "its directory in /dev/shm cannot be right; remove it"));
	assert_int_equal(unlink(path), 0);
}

static void test_mempoold_offline_check_finds_damage(void **state)
{
	static struct object objects[8];
	const uint64_t junk = 0x1234567;
	struct daemon *d = *state;
	char path[96], out[8192];
	size_t n;

	assert_int_equal(
		daemon_write_file(d, "conf", "[pool \"frames\"]\nsize = 1M\n[pool \"good\"]\nsize = 1M\n", path), 0);
	assert_int_equal(daemon_start(d, (const char *[]){"--config", path, NULL}), 0);
	daemon_kill(d);
	n = look_at_objects(d, objects, N_ELEMENTS(objects));
	assert_int_equal(n, 7);
	for (size_t i = 0; i < n; i++) { /* the ledger of frames says its name */
		int fd;

		if (!memmem(objects[i].head, 4096, "frames", 6) || !memmem(objects[i].head, 4096, "memldger", 8) ||
		    strlen(objects[i].path) < strlen("/dev/shm/mempool.") + strlen(d->instance) + 10)
			continue;
		fd = open(objects[i].path, O_WRONLY | O_CLOEXEC);
		assert_int_equal(pwrite(fd, &junk, 8, 0), 8);
		close(fd);
	}
	assert_int_equal(offline(d, "check frames", out, sizeof(out)), 7);
	assert_non_null(strstr(out, "frames: its object is not a ledger"));
	assert_int_equal(offline(d, "check good", out, sizeof(out)), 0);
	assert_int_equal(offline(d, "check", out, sizeof(out)), 7);
	assert_non_null(strstr(out, "1 fault in 2 pools checked"));
	assert_int_equal(offline(d, "log frames", out, sizeof(out)), 7);
	assert_int_equal(daemon_start(d, NULL), 0); /* the others come up */
	assert_int_equal(daemon_log_count(d, "pool \"frames\" cannot be recovered"), 1);
	assert_int_equal(open_pool(d, "good"), 0);
	assert_int_equal(open_pool(d, "frames"), -EBADMSG);
	assert_int_equal(daemon_stop(d), 0);
}

static int n_threads(const struct daemon *d)
{
	char path[64];
	DIR *dir;
	int n = 0;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)d->pid);
	dir = opendir(path);
	assert_non_null(dir);
	for (const struct dirent *entry; (entry = readdir(dir));)
		n += entry->d_name[0] != '.';
	closedir(dir);
	return n;
}

static void test_mempoold_without_slow_work_has_no_workers(void **state)
{
	struct daemon *d = *state;
	char path[96];

	assert_int_equal(daemon_write_file(d, "conf", "[pool \"frames\"]\nsize = 64M\n", path), 0);
	assert_int_equal(daemon_start(d, (const char *[]){"--threads", "2", "--config", path, NULL}), 0);
	assert_int_equal(n_threads(d), 1 + 2); /* main, and its loops */
	assert_int_equal(daemon_stop(d), 0);
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
		TEST(test_mempoold_offline_reads_and_changes_nothing),
		TEST(test_mempoold_offline_says_why_a_directory_cannot_be_read),
		TEST(test_mempoold_offline_check_finds_damage),
		TEST(test_mempoold_modes_do_not_depend_on_the_umask),
		TEST(test_mempoold_sighup_takes_a_new_configuration),
		TEST(test_mempoold_sighup_keeps_the_old_configuration_on_a_mistake),
		TEST(test_mempoold_sighup_without_a_file_says_so),
		TEST(test_mempoold_sigint_is_a_clean_stop),
		TEST(test_mempoold_starts_where_it_was_stopped),
		TEST(test_mempoold_without_slow_work_has_no_workers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
