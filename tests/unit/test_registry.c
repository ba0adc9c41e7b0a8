// SPDX-License-Identifier: MIT
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pool/registry.h"

#include "pool_world.h"

static char instance[64];
static unsigned n_wanted;

static void decay_wanted(void *arg)
{
	(void)arg;
	n_wanted++;
}

static struct registry_config config_of(uint64_t pools)
{
	struct registry_config config = {
		.instance = instance, .budget_bytes = UINT64_MAX, .decay_ms = 0, .decay_wanted = decay_wanted};

	for (int kind = 0; kind < QUOTA_KIND_N; kind++)
		config.quota_limit[kind] = UINT64_MAX;
	config.quota_limit[QUOTA_POOLS] = pools;
	return config;
}

static struct registry *open_registry(uint64_t pools)
{
	const struct registry_config config = config_of(pools);
	struct registry *registry;
	int n_swept = -1;

	assert_int_equal(registry_open(&registry, &config, &n_swept), 0);
	assert_int_equal(n_swept, 0);
	return registry;
}

/* The same, after a death. */
static struct registry *open_swept(uint64_t pools)
{
	const struct registry_config config = config_of(pools);
	struct registry *registry;
	int n_swept;

	assert_int_equal(registry_open(&registry, &config, &n_swept), 0);
	return registry;
}

static unsigned n_objects(void)
{
	char prefix[80];

	snprintf(prefix, sizeof(prefix), "mempool.%s", instance);
	return world_count("/dev/shm", prefix);
}

static struct pool_options named(const char *name)
{
	struct pool_options options = world_options(65536);

	options.n_name_bytes = (uint32_t)strlen(name);
	memcpy(options.name, name, options.n_name_bytes);
	return options;
}

static struct pool *create(struct registry *registry, const char *name)
{
	const struct pool_options options = named(name);
	struct pool *pool;

	assert_int_equal(registry_create(registry, &options, NULL, &pool), 0);
	return pool;
}

static void test_registry_instance_is_one_daemons(void **state)
{
	const struct registry_config config = config_of(10);
	struct registry *registry = open_registry(10), *other;
	int n_swept, status;
	pid_t child;

	(void)state;
	assert_int_equal(registry_open(&other, &config, &n_swept), REGISTRY_E_IN_USE);
	child = fork();
	if (!child)
		_exit(registry_open(&other, &config, &n_swept));
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, REGISTRY_E_IN_USE << 8);
	assert_int_equal(n_objects(), 1);
	registry_close(registry);
	assert_int_equal(n_objects(), 0);
	registry_close(open_registry(10));
}

/* ---- a daemon's death: a child runs @body, and is killed at the @nth look of a wrapped call, or at its end ---- */

static unsigned die_at; /* looks left; 0: never */

static void look(void)
{
	if (die_at && !--die_at)
		kill(getpid(), SIGKILL);
}

/* Before and after each call that makes, fills or removes an object. */
#define WRAP(type, name, args, ...)             \
	type __real_##name args;                \
	type __wrap_##name args;                \
	type __wrap_##name args                 \
	{                                       \
		type r;                         \
                                                \
		look();                         \
		r = __real_##name(__VA_ARGS__); \
		look();                         \
		return r;                       \
	}
WRAP(int, shm_open, (const char *name, int flags, mode_t mode), name, flags, mode)
WRAP(int, shm_unlink, (const char *name), name)
WRAP(int, ftruncate, (int fd, off_t n), fd, n)
WRAP(int, posix_fallocate, (int fd, off_t offset, off_t n), fd, offset, n)
WRAP(void *, mmap, (void *at, size_t n, int prot, int flags, int fd, off_t offset), at, n, prot, flags, fd, offset)

/* Return: true: it was killed in @body; false: it came to the end, and was killed there */
static bool die_in(void (*body)(struct registry *registry), unsigned nth)
{
	const struct registry_config config = config_of(10);
	struct registry *registry;
	int n_swept, status;
	pid_t child = fork();

	if (!child) {
		if (registry_open(&registry, &config, &n_swept))
			_exit(99);
		die_at = nth;
		body(registry);
		die_at = 0;
		kill(getpid(), SIGTERM);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status));
	return WTERMSIG(status) == SIGKILL;
}

static void do_nothing(struct registry *registry)
{
	(void)registry;
}

static const struct registry_call *call_of_7(struct registry *registry)
{
	static struct registry_call call;
	struct directory_session session;
	unsigned state;

	call = (struct registry_call){.request = 7};
	if (!registry_session(registry, &call.slot, &session, &state)) {
		session = (struct directory_session){.uid = WORLD_UID, .pid = 1, .command = "tester"};
		if (registry_add_session(registry, &session, &call.slot))
			_exit(98);
	}
	call.session = session.id;
	return &call;
}

static void create_kept(struct registry *registry)
{
	const struct pool_options options = named("kept");
	struct pool *pool;

	if (registry_create(registry, &options, call_of_7(registry), &pool))
		_exit(97);
}

static void destroy_kept(struct registry *registry)
{
	struct registry_call call = *call_of_7(registry);
	struct pool_warning warning;
	struct pool *pool;

	call.request = 8;
	if (registry_find(registry, "kept", 4, &pool) || registry_remove(registry, pool, false, &call, &warning))
		_exit(96);
}

/* Whether "kept" is there; what is there is whole, what is not has left nothing, and the answer to @request says the same. */
static bool is_kept(uint64_t request, bool when_answered)
{
	const struct registry_config config = config_of(10);
	struct directory_answer answer = {.outcome = -1};
	struct pool_fault fault;
	struct registry_call call;
	struct registry *registry;
	struct pool *pool;
	bool is_there;
	int n_swept;

	assert_int_equal(registry_open(&registry, &config, &n_swept), 0);
	assert_int_equal(registry_recovery(registry)->n_refused, 0);
	is_there = !registry_find(registry, "kept", 4, &pool);
	assert_int_equal(n_objects(), is_there ? 3 : 1);
	call = *call_of_7(registry);
	call.request = request;
	assert_int_equal(registry_answered(registry, &call, &answer), is_there == when_answered);
	if (is_there) {
		assert_int_equal(pool_check(pool, &fault, 1), 0);
		assert_int_equal(registry_recovery(registry)->n_pools, 1);
		if (when_answered)
			assert_int_equal(answer.pool, pool_id(pool));
		pool_unref(pool);
	}
	registry_keep(registry);
	return is_there;
}

static void end_instance(void)
{
	registry_close(open_swept(10));
	assert_int_equal(n_objects(), 0);
}

static void test_registry_create_killed_at_each_step_is_whole_or_not_at_all(void **state)
{
	unsigned n_there = 0, nth = 1;
	bool killed = true;

	(void)state;
	for (; killed; nth++) {
		assert_in_range(nth, 1, 500);
		killed = die_in(create_kept, nth);
		n_there += is_kept(7, true);
		end_instance();
	}
	printf("create: killed at %u places, the pool was there after %u of them\n", nth - 1, n_there);
	assert_in_range(nth, 20, 500);
	assert_true(n_there >= 1 && n_there < nth);
}

static void test_registry_destroy_killed_at_each_step_is_whole_or_not_at_all(void **state)
{
	unsigned n_there = 0, nth = 1;
	bool killed = true;

	(void)state;
	for (; killed; nth++) {
		assert_in_range(nth, 1, 500);
		assert_false(die_in(create_kept, 0));
		assert_true(is_kept(7, true));
		killed = die_in(destroy_kept, nth);
		n_there += is_kept(8, false);
		end_instance();
	}
	printf("destroy: killed at %u places, the pool was there after %u of them\n", nth - 1, n_there);
	assert_in_range(nth, 3, 500);
	assert_false(n_there); /* its commit is before any call */
}

static void test_registry_start_killed_at_each_step_loses_nothing(void **state)
{
	unsigned nth = 1;
	bool killed = true;

	(void)state;
	assert_false(die_in(create_kept, 0));
	for (; killed; nth++) {
		const struct registry_config config = config_of(10);
		struct registry *registry;
		pid_t child = fork();
		int status, n_swept;

		assert_in_range(nth, 1, 500);
		if (!child) {
			die_at = nth;
			if (registry_open(&registry, &config, &n_swept))
				_exit(99);
			die_at = 0;
			kill(getpid(), SIGTERM);
		}
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_true(WIFSIGNALED(status));
		killed = WTERMSIG(status) == SIGKILL;
		assert_true(is_kept(7, true));
	}
	assert_in_range(nth, 10, 500);
	end_instance();
}

static void test_registry_first_start_killed_at_each_step_can_be_begun_again(void **state)
{
	bool killed = true;

	(void)state;
	for (unsigned nth = 1; killed; nth++) {
		const struct registry_config config = config_of(10);
		struct registry *registry;
		pid_t child = fork();
		int status, n_swept;

		assert_in_range(nth, 1, 500);
		if (!child) {
			die_at = nth;
			if (registry_open(&registry, &config, &n_swept))
				_exit(99);
			die_at = 0;
			kill(getpid(), SIGTERM);
		}
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_true(WIFSIGNALED(status));
		killed = WTERMSIG(status) == SIGKILL;
		assert_int_equal(registry_recovery(registry = open_registry(10))->time_s, 0);
		registry_close(registry);
		assert_int_equal(n_objects(), 0);
	}
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

	assert_false(die_in(do_nothing, 0));
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

static void test_registry_squatters_are_neither_adopted_nor_removed(void **state)
{
	char paths[3][200];
	struct registry *registry = open_registry(10);
	int fd;

	(void)state;
	registry_keep(registry);
	for (int i = 0; i < 3; i++)
		snprintf(paths[i], sizeof(paths[i]), "/dev/shm/mempool.%s.%032x", instance, i + 1);
	fd = open(paths[0], O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0666);
	assert_true(fd >= 0);
	assert_int_equal(fchmod(fd, 0666), 0);
	close(fd);
	assert_int_equal(mkfifo(paths[1], 0600), 0);
	assert_int_equal(symlink("/dev/null", paths[2]), 0);
	registry = open_registry(10); /* swept nothing */
	assert_int_equal(registry_recovery(registry)->n_pools, 0);
	registry_close(registry);
	for (int i = 0; i < 3; i++)
		assert_int_equal(unlink(paths[i]), 0);
	assert_int_equal(n_objects(), 0);
}

static void test_registry_refuses_a_lock_object_that_is_not_its_own(void **state)
{
	struct registry_config config = config_of(10);
	char path[300], other[300];
	struct registry *registry;
	int n_swept, fd;

	(void)state;
	snprintf(path, sizeof(path), "/dev/shm/mempool.%s", instance);
	snprintf(other, sizeof(other), "/dev/shm/mempool.%s-other", instance);
	assert_int_equal(symlink("/dev/shm/nowhere", path), 0);
	assert_int_equal(registry_open(&registry, &config, &n_swept), REGISTRY_E_SQUATTED);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(registry_open(&registry, &config, &n_swept), REGISTRY_E_SQUATTED);
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(registry_open(&registry, &config, &n_swept), REGISTRY_E_SQUATTED);
	assert_int_equal(unlink(path), 0);
	fd = open(path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(link(path, other), 0);
	assert_int_equal(registry_open(&registry, &config, &n_swept), REGISTRY_E_SQUATTED);
	assert_int_equal(unlink(other), 0);
	assert_int_equal(fchmod(fd, 0666), 0);
	assert_int_equal(registry_open(&registry, &config, &n_swept), REGISTRY_E_SQUATTED);
	assert_int_equal(fchmod(fd, 0600), 0);
	close(fd);
	assert_int_equal(registry_open(&registry, &config, &n_swept), 0);
	registry_close(registry);
	config.instance = "";
	assert_int_equal(registry_open(&registry, &config, &n_swept), -EINVAL);
	config.instance = "a/b";
	assert_int_equal(registry_open(&registry, &config, &n_swept), -EINVAL);
	assert_int_equal(n_objects(), 0);
}

static void test_registry_finds_pools_by_name_and_id(void **state)
{
	struct registry *registry = open_registry(10);
	struct pool *a = create(registry, "alpha"), *b = create(registry, "beta"), *nameless = create(registry, ""),
		    *found;
	const struct pool_options taken = named("alpha");

	(void)state;
	assert_int_equal(registry_find(registry, "alpha", 5, &found), 0);
	assert_ptr_equal(found, a);
	pool_unref(found);
	assert_int_equal(registry_find(registry, "alph", 4, &found), REGISTRY_E_NO_POOL);
	assert_int_equal(registry_find(registry, "", 0, &found), REGISTRY_E_NO_POOL);
	assert_int_equal(registry_create(registry, &taken, NULL, &found), REGISTRY_E_NAME_TAKEN);
	for (struct pool **p = (struct pool *[]){a, b, nameless, NULL}; *p; p++) {
		assert_int_equal(registry_find_id(registry, pool_id(*p), &found), 0);
		assert_ptr_equal(found, *p);
		pool_unref(found);
	}
	assert_int_equal(registry_find_id(registry, pool_id(nameless) + 1, &found), REGISTRY_E_NO_POOL);
	assert_int_equal(registry_find_id(registry, 0, &found), REGISTRY_E_NO_POOL);
	pool_unref(a);
	pool_unref(b);
	pool_unref(nameless);
	registry_close(registry);
	assert_int_equal(n_objects(), 0);
}

static void test_registry_removed_pool_gives_its_name_and_charge_back(void **state)
{
	struct registry *registry = open_registry(1);
	struct pool *pool = create(registry, "only"), *other;
	const struct pool_options options = named("second");
	struct pool_member *member;
	struct pool_identity who = {.session = 1, .uid = WORLD_UID};
	struct pool_warning warning;
	struct pool_block block;

	(void)state;
	assert_int_equal(registry_create(registry, &options, NULL, &other), REGISTRY_E_QUOTA);
	assert_int_equal(pool_join(pool, &who, &member), 0);
	assert_int_equal(pool_alloc(member, 100, 0, POOL_MAY_BLOCK, &block), 0);
	assert_int_equal(registry_remove(registry, pool, true, NULL, &warning), POOL_E_NOT_EMPTY);
	assert_int_equal(registry_remove(registry, pool, false, NULL, &warning), 0);
	assert_int_equal(warning.n_blocks, 1);
	assert_int_equal(registry_remove(registry, pool, false, NULL, &warning), POOL_E_DESTROYED);
	assert_int_equal(registry_find(registry, "only", 4, &other), REGISTRY_E_NO_POOL);
	other = create(registry, "only");
	assert_true(pool_id(other) > pool_id(pool));
	pool_unref(other);
	world_leave(member);
	pool_unref(pool);
	registry_close(registry);
	assert_int_equal(n_objects(), 0);
}

static void test_registry_failed_create_leaves_no_trace(void **state)
{
	struct registry *registry = open_registry(1);
	struct pool_options options = named("x");
	struct pool *pool;

	(void)state;
	options.size = 0;
	assert_int_equal(registry_create(registry, &options, NULL, &pool), POOL_E_INVALID + REGISTRY_POOL_E);
	options.size = 100;
	options.max_size = 99;
	assert_int_equal(registry_create(registry, &options, NULL, &pool), POOL_E_INVALID + REGISTRY_POOL_E);
	options.max_size = UINT64_MAX;
	assert_int_equal(registry_create(registry, &options, NULL, &pool), POOL_E_INVALID + REGISTRY_POOL_E);
	options.max_size = 0;
	options.size = UINT64_C(1) << 40; /* more than there is */
	options.reserve = true;
	assert_int_equal(registry_create(registry, &options, NULL, &pool), POOL_E_UNBACKED + REGISTRY_POOL_E);
	assert_int_equal(n_objects(), 1);
	pool_unref(create(registry, "x"));
	registry_close(registry);
}

static void test_registry_list_pages_through_named_pools(void **state)
{
	struct registry *registry = open_registry(UINT64_MAX);
	struct pool *pools[7];
	char name[24];
	uint64_t after = 0, n_seen = 0;
	uint32_t n;

	(void)state;
	for (int i = 0; i < 40; i++) {
		snprintf(name, sizeof(name), "pool-%d", i);
		pool_unref(create(registry, i % 4 ? name : ""));
	}
	while ((n = registry_list(registry, after, pools, N_ELEMENTS(pools)))) {
		for (uint32_t i = 0; i < n; i++) {
			assert_true(pool_id(pools[i]) > after);
			assert_false(pool_is_private(pools[i]));
			after = pool_id(pools[i]);
			pool_unref(pools[i]);
		}
		n_seen += n;
	}
	assert_int_equal(n_seen, 30);
	assert_int_equal(registry_list(registry, UINT64_MAX, pools, N_ELEMENTS(pools)), 0);
	registry_close(registry);
}

static void expect_suggestion(struct registry *registry, const char *name, const char *expected)
{
	char out[NAME_BYTES_MAX + 1];

	registry_suggest(registry, name, strlen(name), out);
	assert_string_equal(out, expected);
}

static void test_registry_suggests_within_two_edits(void **state)
{
	struct registry *registry = open_registry(UINT64_MAX);
	char longest[NAME_BYTES_MAX + 2];

	(void)state;
	memset(longest, 'n', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	expect_suggestion(registry, "frames", "");
	pool_unref(create(registry, "frames"));
	pool_unref(create(registry, "flames"));
	pool_unref(create(registry, ""));
	expect_suggestion(registry, "frame", "frames");
	expect_suggestion(registry, "flame", "flames");
	expect_suggestion(registry, "rfames", "frames");
	expect_suggestion(registry, "framesets", "");
	expect_suggestion(registry, longest, "");
	expect_suggestion(registry, longest + 1, "");
	registry_close(registry);
}

static void test_registry_decay_visits_every_pool(void **state)
{
	struct registry *registry = open_registry(UINT64_MAX);
	struct pool_identity who = {.uid = WORLD_UID};
	struct pool_options options = world_options(1 << 20);
	struct pool_member *members[3];
	struct pool *pools[3];

	(void)state;
	n_wanted = 0;
	assert_int_equal(registry_decay_step(registry), UINT64_MAX);
	for (int i = 0; i < 3; i++) {
		options.name[0] = (uint8_t)('a' + i);
		options.n_name_bytes = i < 2; /* a private one too */
		assert_int_equal(registry_create(registry, &options, NULL, pools + i), 0);
		who.session = 1;
		assert_int_equal(pool_join(pools[i], &who, members + i), 0);
		assert_int_equal(pool_free(members[i], world_alloc(members[i], 500000)), 0);
		assert_true(world_stats(pools[i]).backed >= 500000);
	}
	assert_int_equal(n_wanted, 3);
	for (int i = 0; i < 100 && registry_decay_step(registry) == 0; i++)
		;
	for (int i = 0; i < 3; i++) {
		assert_int_equal(world_stats(pools[i]).backed, 0);
		world_leave(members[i]);
		pool_unref(pools[i]);
	}
	registry_close(registry);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_registry_instance_is_one_daemons),
		cmocka_unit_test(test_registry_create_killed_at_each_step_is_whole_or_not_at_all),
		cmocka_unit_test(test_registry_destroy_killed_at_each_step_is_whole_or_not_at_all),
		cmocka_unit_test(test_registry_start_killed_at_each_step_loses_nothing),
		cmocka_unit_test(test_registry_first_start_killed_at_each_step_can_be_begun_again),
		cmocka_unit_test(test_registry_keep_brings_all_back),
		cmocka_unit_test(test_registry_session_outlives_the_daemon),
		cmocka_unit_test(test_registry_private_pool_goes_with_its_session),
		cmocka_unit_test(test_registry_damaged_pool_is_told_of_and_stays),
		cmocka_unit_test(test_registry_damaged_directory_is_refused),
		cmocka_unit_test(test_registry_squatters_are_neither_adopted_nor_removed),
		cmocka_unit_test(test_registry_refuses_a_lock_object_that_is_not_its_own),
		cmocka_unit_test(test_registry_finds_pools_by_name_and_id),
		cmocka_unit_test(test_registry_removed_pool_gives_its_name_and_charge_back),
		cmocka_unit_test(test_registry_failed_create_leaves_no_trace),
		cmocka_unit_test(test_registry_list_pages_through_named_pools),
		cmocka_unit_test(test_registry_suggests_within_two_edits),
		cmocka_unit_test(test_registry_decay_visits_every_pool),
	};

	snprintf(instance, sizeof(instance), "registry-%d", (int)getpid());
	return cmocka_run_group_tests(tests, NULL, NULL);
}
