// SPDX-License-Identifier: MIT
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "registry_world.h"

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
		cmocka_unit_test(test_registry_squatters_are_neither_adopted_nor_removed),
		cmocka_unit_test(test_registry_refuses_a_lock_object_that_is_not_its_own),
		cmocka_unit_test(test_registry_finds_pools_by_name_and_id),
		cmocka_unit_test(test_registry_removed_pool_gives_its_name_and_charge_back),
		cmocka_unit_test(test_registry_failed_create_leaves_no_trace),
		cmocka_unit_test(test_registry_list_pages_through_named_pools),
		cmocka_unit_test(test_registry_suggests_within_two_edits),
		cmocka_unit_test(test_registry_decay_visits_every_pool),
	};

	return registry_world_run("registry", tests);
}
