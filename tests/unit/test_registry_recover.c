// SPDX-License-Identifier: MIT
/* What a start makes of what it finds: all of it, or a sentence. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "registry_world.h"

/* A daemon that starts, and is killed before it does anything. */
static void start_and_kill(void)
{
	const struct registry_config config = config_of(10);
	struct registry *registry;
	int n_swept, status;
	pid_t child = fork();

	if (!child) {
		if (!registry_open(&registry, &config, &n_swept))
			kill(getpid(), SIGKILL);
		_exit(99);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status));
}

static void test_registry_keep_brings_all_back(void **state)
{
	struct registry *registry = open_registry(10);
	struct pool *pool = create(registry, "frames"), *found;
	struct pool_identity who = {.session = 5, .uid = WORLD_UID, .pid = 1};
	struct directory_recovery last[4];
	struct pool_member *member;
	uint64_t id = pool_id(pool), n_recoveries, offset;

	(void)state;
	assert_int_equal(pool_join(pool, &who, &member), 0);
	offset = world_alloc(member, 1000);
	pool_unref(pool);
	registry_keep(registry);
	assert_int_equal(n_objects(), 3);

	registry = open_registry(10);
	assert_int_equal(registry_find(registry, "frames", 6, &found), 0);
	assert_int_equal(pool_id(found), id);
	assert_int_equal(registry_recovery(registry)->n_pools, 1);
	assert_int_equal(registry_recovery(registry)->n_blocks, 1);
	assert_int_equal(registry_recovery(registry)->n_bytes, 1008);
	assert_int_equal(registry_recovery(registry)->was_stopped, 1);
	assert_int_equal(registry_recoveries(registry, last, N_ELEMENTS(last), &n_recoveries), 1);
	assert_int_equal(n_recoveries, 1);
	assert_memory_equal(&last[0], registry_recovery(registry), sizeof(last[0]));
	member = pool_member_of(found, 5);
	assert_non_null(member);
	assert_int_equal(pool_free(member, offset), 0);
	world_leave(member);
	pool_unref(found);
	found = create(registry, "after");
	assert_true(pool_id(found) > id);
	pool_unref(found);
	registry_keep(registry);

	start_and_kill();
	registry = open_registry(10);
	assert_int_equal(registry_recovery(registry)->n_pools, 2);
	assert_int_equal(registry_recovery(registry)->was_stopped, 0);
	assert_int_equal(registry_recoveries(registry, last, N_ELEMENTS(last), &n_recoveries), 3);
	registry_close(registry);
	assert_int_equal(n_objects(), 0);
}

static void test_registry_session_outlives_the_daemon(void **state)
{
	struct directory_session session = {.uid = 7, .pid = 77, .command = "keeper", .token = "0123456789abcde"},
				 found;
	struct registry *registry = open_registry(10);
	uint32_t slots[3], slot = 0;
	unsigned flags;
	uint64_t last;

	(void)state;
	for (int i = 0; i < 3; i++) {
		assert_int_equal(registry_add_session(registry, &session, slots + i), 0);
		assert_int_equal(session.id, i + 1);
	}
	last = session.id;
	registry_remove_session(registry, slots[2]);
	registry_remove_session(registry, slots[0]);
	registry_set_session(registry, slots[1], DIRECTORY_LOCK_HELD);
	registry_set_session(registry, slots[1], DIRECTORY_ENDING);
	registry_keep(registry);
	registry = open_registry(10);
	assert_true(registry_session(registry, &slot, &found, &flags));
	assert_int_equal(slot, slots[1]);
	assert_int_equal(found.id, 2);
	assert_int_equal(found.pid, 77);
	assert_string_equal(found.command, "keeper");
	assert_memory_equal(found.token, session.token, sizeof(found.token));
	assert_int_equal(flags, DIRECTORY_LOCK_HELD | DIRECTORY_ENDING);
	slot++;
	assert_false(registry_session(registry, &slot, &found, &flags));
	assert_int_equal(registry_add_session(registry, &session, &slot), 0);
	assert_true(session.id > last);
	registry_close(registry);
}

static void test_registry_private_pool_goes_with_its_session(void **state)
{
	const struct registry_call call = {.slot = 0, .session = 41, .request = 1},
				   other = {.session = 42, .request = 1};
	const struct pool_options nameless = named("");
	struct registry *registry = open_registry(10);
	struct pool *mine, *theirs, *found;
	uint64_t ids[2];

	(void)state;
	for (int i = 0; i < 2; i++) { /* slots to answer in */
		struct directory_session session = {.uid = WORLD_UID};
		uint32_t slot;

		assert_int_equal(registry_add_session(registry, &session, &slot), 0);
	}
	assert_int_equal(registry_create(registry, &nameless, &call, &mine), 0);
	assert_int_equal(registry_create(registry, &nameless, &other, &theirs), 0);
	ids[0] = pool_id(mine);
	ids[1] = pool_id(theirs);
	pool_unref(mine);
	pool_unref(theirs);
	registry_keep(registry);
	registry = open_registry(10);
	assert_int_equal(registry_owner(registry, ids[0]), 41);
	assert_int_equal(registry_owner(registry, ids[1]), 42);
	registry_remove_owned(registry, 41);
	assert_int_equal(registry_find_id(registry, ids[0], &found), REGISTRY_E_NO_POOL);
	assert_int_equal(registry_find_id(registry, ids[1], &found), 0);
	pool_unref(found);
	registry_close(registry);
	assert_int_equal(n_objects(), 0);
}

/* ---- what cannot be recovered ---- */

static char told[2000];

static void take_sentence(void *arg, const char *sentence)
{
	(void)arg;
	strcat(strcat(told, sentence), "\n");
}

static int object_of(const char *name)
{
	int fd = shm_open(name, O_RDWR | O_CLOEXEC, 0);

	assert_true(fd >= 0);
	return fd;
}

/* Two pools, "good" and "bad"; names of the second's objects. */
static void make_two(char books[static SEGMENT_NAME_BYTES], char data[static SEGMENT_NAME_BYTES])
{
	struct registry *registry = open_registry(10);
	struct pool *bad;

	pool_unref(create(registry, "good"));
	bad = create(registry, "bad");
	strcpy(books, pool_books_name(bad));
	strcpy(data, pool_data_name(bad));
	pool_unref(bad);
	registry_keep(registry);
}

static void expect_refusal(const char *books, const char *data, const char *why)
{
	const struct pool_options again = named("bad");
	struct registry_config config = config_of(10);
	struct registry *registry;
	struct pool *pool;
	int n_swept;

	config.tell = take_sentence;
	told[0] = '\0';
	assert_int_equal(registry_open(&registry, &config, &n_swept), 0);
	assert_int_equal(n_swept, 0);
	assert_int_equal(registry_find(registry, "good", 4, &pool), 0);
	pool_unref(pool);
	assert_int_equal(registry_find(registry, "bad", 3, &pool), REGISTRY_E_UNRECOVERED);
	assert_int_equal(registry_create(registry, &again, NULL, &pool), REGISTRY_E_NAME_KEPT);
	assert_int_equal(registry_recovery(registry)->n_refused, 1);
	if (!strstr(told, "pool \"bad\" cannot be recovered: ") || !strstr(told, why) || !strstr(told, books) ||
	    !strstr(told, data) || !strstr(told, "remove both to forget the pool"))
		fail_msg("told: %s", told);
	registry_keep(registry);
}

static void test_registry_damaged_pool_is_told_of_and_stays(void **state)
{
	char books[SEGMENT_NAME_BYTES], data[SEGMENT_NAME_BYTES];
	uint64_t saved, junk = 0x6a756e6b;
	static uint8_t page[4096];
	struct registry *registry;
	struct pool *pool;
	int fd;

	(void)state;
	make_two(books, data);
	fd = object_of(books);
	assert_int_equal(pread(fd, &saved, 8, 0), 8);
	assert_int_equal(pwrite(fd, &junk, 8, 0), 8);
	expect_refusal(books, data, "is not a ledger");
	assert_int_equal(pwrite(fd, &saved, 8, 0), 8);
	assert_int_equal(pread(fd, &saved, 8, 8), 8);
	junk = saved + 1; /* the version */
	assert_int_equal(pwrite(fd, &junk, 8, 8), 8);
	expect_refusal(books, data, "start the daemon that wrote it");
	assert_int_equal(pwrite(fd, &saved, 8, 8), 8);
	assert_int_equal(fchmod(fd, 0644), 0);
	expect_refusal(books, data, "with mode 0600 and one link");
	assert_int_equal(fchmod(fd, 0600), 0);
	assert_int_equal(pread(fd, page, sizeof(page), 4096), sizeof(page));
	assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 4096), 0);
	expect_refusal(books, data, "pages of its ledger are not there");
	assert_int_equal(pwrite(fd, page, sizeof(page), 4096), sizeof(page));
	close(fd);
	registry = open_registry(10);
	assert_int_equal(registry_find(registry, "bad", 3, &pool), 0); /* nothing of it was lost */
	pool_unref(pool);
	registry_keep(registry);

	assert_int_equal(shm_unlink(data), 0);
	expect_refusal(books, data, "its data segment");
	assert_int_equal(shm_unlink(books), 0); /* the advice */
	registry = open_registry(10);
	assert_int_equal(registry_recovery(registry)->n_refused, 0);
	assert_int_equal(registry_recovery(registry)->n_pools, 1);
	registry_close(registry);
	assert_int_equal(n_objects(), 0);
}

static void test_registry_damaged_directory_is_refused(void **state)
{
	const struct registry_config config = config_of(10);
	char name[80], books[SEGMENT_NAME_BYTES], data[SEGMENT_NAME_BYTES];
	struct registry *registry;
	uint32_t word, version;
	uint64_t saved;
	int fd, n_swept;

	(void)state;
	make_two(books, data);
	snprintf(name, sizeof(name), "/mempool.%s", instance);
	fd = object_of(name);
	assert_int_equal(pread(fd, &version, 4, 8), 4);
	word = version + 1;
	assert_int_equal(pwrite(fd, &word, 4, 8), 4);
	assert_int_equal(registry_open(&registry, &config, &n_swept), REGISTRY_E_VERSION);
	assert_int_equal(pwrite(fd, &version, 4, 8), 4);
	assert_int_equal(pread(fd, &saved, 8, 0), 8);
	assert_int_equal(pwrite(fd, "somebody", 8, 0), 8);
	assert_int_equal(registry_open(&registry, &config, &n_swept), REGISTRY_E_DAMAGED);
	assert_int_equal(pwrite(fd, &saved, 8, 0), 8);
	assert_int_equal(n_objects(), 5); /* nothing was touched */
	close(fd);
	registry = open_registry(10);
	assert_int_equal(registry_recovery(registry)->n_pools, 2);
	registry_close(registry);
	assert_int_equal(n_objects(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_registry_keep_brings_all_back),
		cmocka_unit_test(test_registry_session_outlives_the_daemon),
		cmocka_unit_test(test_registry_private_pool_goes_with_its_session),
		cmocka_unit_test(test_registry_damaged_pool_is_told_of_and_stays),
		cmocka_unit_test(test_registry_damaged_directory_is_refused),
	};

	return registry_world_run("registry-recover", tests);
}
