// SPDX-License-Identifier: MIT
/* Pools that a start could not recover: their names stay theirs, until they are mended or forgotten. */
#include <fcntl.h>
#include <sys/mman.h>

#include "pool/registry.h"
#include "pool_world.h"

static char instance[64];
static unsigned n_told;

static void count_sentence(void *arg, const char *sentence)
{
	(void)arg;
	n_told += strstr(sentence, "mempoolctl destroy bad") != NULL;
}

static struct registry *open_registry(void)
{
	struct registry_config config = {
		.instance = instance, .budget_bytes = UINT64_MAX, .decay_ms = UINT64_MAX, .tell = count_sentence};
	struct registry *registry;
	int n_swept;

	for (int kind = 0; kind < QUOTA_KIND_N; kind++)
		config.quota_limit[kind] = UINT64_MAX;
	n_told = 0;
	assert_int_equal(registry_open(&registry, &config, &n_swept), 0);
	assert_int_equal(n_swept, 0);
	return registry;
}

static int try_create(struct registry *registry, const char *name)
{
	struct pool_options options = world_options(65536);
	struct pool *pool;
	int r;

	options.n_name_bytes = (uint32_t)strlen(name);
	memcpy(options.name, name, options.n_name_bytes);
	r = registry_create(registry, &options, NULL, &pool);
	if (!r)
		pool_unref(pool);
	return r;
}

static unsigned n_objects(void)
{
	char prefix[80];

	snprintf(prefix, sizeof(prefix), "mempool.%s", instance);
	return world_count("/dev/shm", prefix);
}

static void write_magic(const char *books, const char *magic)
{
	int fd = shm_open(books, O_RDWR, 0);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, magic, 8, 0), 8);
	close(fd);
}

/* "good" and "bad", whose ledger has another magic. */
static void make_lost(char books[SEGMENT_NAME_BYTES])
{
	struct registry *registry;
	struct pool *pool;

	snprintf(instance, sizeof(instance), "lost-%d", (int)getpid());
	registry = open_registry();
	assert_int_equal(try_create(registry, "good"), 0);
	assert_int_equal(try_create(registry, "bad"), 0);
	assert_int_equal(registry_find(registry, "bad", 3, &pool), 0);
	snprintf(books, SEGMENT_NAME_BYTES, "%s", pool_books_name(pool));
	pool_unref(pool);
	registry_keep(registry);
	write_magic(books, "somebody");
}

static void test_registry_lost_pool_keeps_its_name(void **state)
{
	char books[SEGMENT_NAME_BYTES];
	struct registry *registry;
	struct pool *pool, *pools[4];
	uint64_t magic = LEDGER_MAGIC;

	(void)state;
	make_lost(books);
	registry = open_registry();
	assert_int_equal(n_told, 1);
	assert_int_equal(registry_find(registry, "bad", 3, &pool), REGISTRY_E_UNRECOVERED);
	assert_int_equal(registry_find_id(registry, 2, &pool), REGISTRY_E_UNRECOVERED);
	assert_int_equal(try_create(registry, "bad"), REGISTRY_E_NAME_KEPT);
	assert_int_equal(try_create(registry, "more"), 0);
	assert_int_equal(registry_list_all(registry, 0, pools, 4), 2);
	assert_string_equal((const char *)pool_options(pools[0])->name, "good");
	pool_unref(pools[0]);
	pool_unref(pools[1]);
	registry_keep(registry);
	write_magic(books, (const char *)&magic);
	registry = open_registry();
	assert_int_equal(n_told, 0);
	assert_int_equal(registry_find(registry, "bad", 3, &pool), 0);
	assert_int_equal(pool_id(pool), 2);
	pool_unref(pool);
	registry_close(registry);
	assert_int_equal(n_objects(), 0);
}

static void test_registry_lost_pool_is_forgotten(void **state)
{
	struct directory_session session = {.command = "test"};
	struct registry_call call = {.request = 7};
	struct directory_answer answer;
	char books[SEGMENT_NAME_BYTES];
	struct registry *registry;
	unsigned n;

	(void)state;
	make_lost(books);
	registry = open_registry();
	n = n_objects();
	assert_int_equal(registry_add_session(registry, &session, &call.slot), 0);
	call.session = session.id;
	assert_int_equal(registry_forget(registry, "good", 4, &call), REGISTRY_E_NO_POOL);
	assert_int_equal(registry_forget(registry, "none", 4, &call), REGISTRY_E_NO_POOL);
	assert_int_equal(registry_forget(registry, "bad", 3, &call), 0);
	assert_int_equal(n_objects(), n - 2);
	assert_true(registry_answered(registry, &call, &answer) && !answer.outcome && answer.pool == 2);
	assert_int_equal(registry_forget(registry, "bad", 3, &call), REGISTRY_E_NO_POOL);
	assert_int_equal(try_create(registry, "bad"), 0);
	registry_keep(registry);
	registry = open_registry();
	assert_int_equal(n_told, 0);
	assert_int_equal(registry_recovery(registry)->n_pools, 2);
	registry_close(registry);
	assert_int_equal(n_objects(), 0);
}

static void test_registry_lost_pool_goes_with_all_others(void **state)
{
	char books[SEGMENT_NAME_BYTES];

	(void)state;
	make_lost(books);
	registry_close(open_registry());
	assert_int_equal(n_objects(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_registry_lost_pool_keeps_its_name),
		cmocka_unit_test(test_registry_lost_pool_is_forgotten),
		cmocka_unit_test(test_registry_lost_pool_goes_with_all_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
