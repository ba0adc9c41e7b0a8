// SPDX-License-Identifier: MIT
#include "client_world.h"

#include <signal.h>

static void test_pool_create_bad_input_gets_exactly_its_answer(void **state)
{
	static const char *const names[] = {"",
					    ".",
					    "..",
					    "a/b",
					    "a b",
					    "\xc3\xa4",
					    "12345678901234567890123456789012345678901234567890123456789012345"};
	struct mempool_pool *other = NULL;

	(void)state;
	assert_int_equal(mempool_pool_create(client, "p", 4096, NULL, &other), -EEXIST);
	for (size_t i = 0; i < N_ELEMENTS(names); i++) {
		assert_int_equal(mempool_pool_create(client, names[i], 4096, NULL, &other), -EINVAL);
		assert_true(*mempool_last_error());
	}
	assert_int_equal(mempool_pool_create(client, "q", 0, NULL, &other), -EINVAL);
	assert_int_equal(mempool_pool_create(client, "q", UINT64_MAX, NULL, &other), -EINVAL);
	assert_int_equal(mempool_pool_create(NULL, "q", 4096, NULL, &other), -EINVAL);
	assert_int_equal(mempool_pool_open(client, "nobody", &other), -ENOENT);
	assert_int_equal(mempool_pool_destroy(client, "nobody", 0), -ENOENT);
	assert_null(other);
}

static void test_pool_options_of_other_sizes(void **state)
{
	struct {
		struct mempool_pool_options known;
		uint64_t tail;
	} newer = {.tail = 0};
	struct mempool_pool *other;

	(void)state;
	newer.known.struct_size = sizeof(newer);
	assert_int_equal(mempool_pool_create(client, "newer", 4096, &newer.known, &other), 0);
	mempool_pool_close(other);
	assert_int_equal(mempool_pool_destroy(client, "newer", MEMPOOL_IF_EMPTY), 0);
	newer.known.reserved = 1;
	assert_int_equal(mempool_pool_create(client, "newer", 4096, &newer.known, &other), -EINVAL);
	newer.known.reserved = 0;
	newer.tail = 1;
	assert_int_equal(mempool_pool_create(client, "newer", 4096, &newer.known, &other), -E2BIG);
	newer.known.struct_size = sizeof(size_t); /* the oldest caller there can be */
	assert_int_equal(mempool_pool_create(client, "older", 4096, &newer.known, &other), 0);
	mempool_pool_close(other);
	assert_int_equal(mempool_pool_destroy(client, "older", 0), 0);
}

static void test_pool_of_16_bytes_and_of_a_tebibyte(void **state)
{
	mempool_offset offset;

	(void)state;
	make_pool(1, NULL);
	assert_true(mempool_alloc(pool, 16));
	assert_true(!mempool_alloc(pool, 1) && errno == ENOSPC);
	make_pool((uint64_t)1 << 40, NULL);
	offset = mempool_alloc(pool, 100);
	assert_true(offset);
	strcpy(mempool_ptr(pool, offset), "far");
	assert_int_equal(mempool_free(pool, offset), 0);
}

static void test_pool_grows_with_clients_mapped(void **state)
{
	struct mempool_pool_options options;
	struct mempool_pool *second;
	mempool_offset a, b;
	void *address;

	(void)state;
	mempool_pool_options_init(&options);
	options.max_size = 8u << 20;
	make_pool(1u << 20, &options);
	assert_int_equal(mempool_pool_open(client, "p", &second), 0);
	a = mempool_alloc(pool, 1u << 20);
	address = mempool_ptr(pool, a);
	assert_true(address && address == mempool_ptr(second, a)); /* one mapping for all handles */
	assert_int_equal(mempool_pool_resize(pool, 9u << 20), -ENOSPC);
	assert_int_equal(mempool_pool_resize(pool, 4096), -EINVAL);
	assert_int_equal(mempool_pool_resize(pool, 8u << 20), 0);
	b = mempool_alloc(second, 7u << 20);
	assert_true(b && mempool_ptr(pool, a) == address);
	memset(mempool_ptr(second, b), 1, 7u << 20);
	assert_true(mempool_offset_of(pool, (char *)mempool_ptr(pool, b) + 5) == b + 5);
	mempool_pool_close(second);
	assert_true(is_filled(b, 1, 7u << 20));
}

static void test_pool_addresses_end_with_the_pool(void **state)
{
	struct mempool_pool_options options;
	struct mempool_client *other;
	struct mempool_pool *grower, *small;
	mempool_offset end = 4096 + (1u << 20);
	char *base;

	(void)state;
	mempool_pool_options_init(&options);
	options.max_size = 4u << 20;
	make_pool(1u << 20, &options);
	base = (char *)mempool_ptr(pool, 4096) - 4096;
	assert_null(mempool_ptr(pool, 4095));
	assert_non_null(mempool_ptr(pool, end - 1));
	assert_null(mempool_ptr(pool, end));
	assert_true(mempool_offset_of(pool, base + end - 1) == end - 1 && !mempool_offset_of(pool, base + end));
	assert_null(mempool_ptr(pool, UINT64_MAX));

	/* what another session made of it is seen without asking for it */
	assert_int_equal(mempool_connect(&other, world.socket), 0);
	assert_int_equal(mempool_pool_open(other, "p", &grower), 0);
	assert_int_equal(mempool_pool_resize(grower, 2u << 20), 0);
	mempool_pool_close(grower);
	assert_true((char *)mempool_ptr(pool, end) == base + end);
	assert_true(mempool_offset_of(pool, base + end) == end);
	assert_null(mempool_ptr(pool, 4096 + (2u << 20)));
	mempool_disconnect(other);

	assert_int_equal(mempool_pool_create(client, NULL, 17, NULL, &small), 0); /* to the granule, not to the page */
	assert_non_null(mempool_ptr(small, 4096 + 31));
	assert_null(mempool_ptr(small, 4096 + 32));
	mempool_pool_close(small);
}

static void test_pool_destroyed_answers_estale_and_stays_readable(void **state)
{
	struct mempool_pool *doomed;
	mempool_offset offset;

	(void)state;
	assert_int_equal(mempool_pool_create(client, "doomed", 65536, NULL, &doomed), 0);
	offset = mempool_alloc(doomed, 100);
	strcpy(mempool_ptr(doomed, offset), "still here");
	assert_int_equal(mempool_pool_destroy(client, "doomed", MEMPOOL_IF_EMPTY), -ENOTEMPTY);
	assert_int_equal(mempool_pool_destroy(client, "doomed", 0), 0);
	assert_non_null(strstr(mempool_last_error(), "1")); /* one block was live */
	assert_string_equal(mempool_ptr(doomed, offset), "still here");
	assert_int_equal(mempool_free(doomed, offset), -ESTALE);
	errno = 0;
	assert_true(!mempool_alloc(doomed, 1) && errno == ESTALE);
	mempool_pool_close(doomed);
}

static void test_private_pool_is_unlisted_and_ends_with_its_session(void **state)
{
	int before = daemon_n_objects(&world);
	struct mempool_client *other;
	struct mempool_pool *private_pool;

	(void)state;
	assert_int_equal(mempool_connect(&other, world.socket), 0);
	assert_int_equal(mempool_pool_create(other, NULL, 65536, NULL, &private_pool), 0);
	assert_true(mempool_alloc(private_pool, 10));
	assert_true(daemon_n_objects(&world) > before);
	mempool_disconnect(other);
	errno = 0;
	assert_true(!mempool_alloc(private_pool, 10) && errno == ENOTCONN);
	assert_int_equal(daemon_n_objects(&world), before);
	mempool_pool_close(private_pool);
}

static void test_null_page_faults(void **state)
{
	pid_t pid = fork();
	int status;

	(void)state;
	if (!pid) {
		signal(SIGSEGV, SIG_DFL); /* cmocka has a handler */
		*(volatile char *)((char *)mempool_ptr(pool, 4096) - 1) = 1;
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(!WIFEXITED(status) || WEXITSTATUS(status) != 0); /* ASan turns the signal into an exit code */
	assert_null(mempool_ptr(pool, 0));
	assert_null(mempool_ptr(pool, 4095));
	assert_null(mempool_ptr(pool, UINT64_MAX));
	assert_int_equal(mempool_offset_of(pool, &status), 0);
}

static int call_in_child(void)
{
	struct mempool_client *own;
	bool ok = mempool_free(pool, 4096) == -ECHILD && !mempool_alloc(pool, 1) && errno == ECHILD;

	ok = ok && !mempool_connect(&own, world.socket); /* a session of its own works */
	if (ok)
		mempool_disconnect(own);
	mempool_pool_close(pool);
	mempool_disconnect(client);
	return ok ? 0 : 1;
}

static void test_fork_answers_echild_and_harms_nothing(void **state)
{
	mempool_offset offset = mempool_alloc(pool, 1000);

	(void)state;
	assert_int_equal(in_child(call_in_child), 0);
	assert_int_equal(used_now(), mempool_usable_size(pool, offset));
	assert_int_equal(mempool_free(pool, offset), 0);
	assert_int_equal(used_now(), 0);
}

enum {
	N_PARENTS = 100,
	BLOCK_BYTES = 64,
};

static bool is_refused(void)
{
	errno = 0;
	return !mempool_alloc(pool, BLOCK_BYTES) && errno == ECHILD;
}

/* The child's pool has a heap when the parent's handle is asked; the handle must not lead there. */
static int use_both_pools(void)
{
	struct mempool_client *own;
	struct mempool_pool *mine;
	mempool_offset offset = 0;
	bool ok = is_refused() && !mempool_connect(&own, world.socket) &&
		  !mempool_pool_create(own, NULL, 1 << 20, NULL, &mine);

	if (!ok)
		return 1;
	for (int i = 0; ok && i < N_PARENTS; i++)
		ok = (offset = mempool_alloc(mine, BLOCK_BYTES)) && is_refused();
	ok = ok && mempool_free(pool, offset) == -ECHILD && !mempool_free(mine, offset);
	mempool_pool_close(pool);
	for (int i = 0; ok && i < N_PARENTS; i++)
		ok = mempool_alloc(mine, BLOCK_BYTES);
	mempool_pool_close(mine);
	mempool_disconnect(own);
	return ok ? 0 : 2;
}

static void test_fork_handle_finds_no_pool_of_the_child(void **state)
{
	mempool_offset offsets[N_PARENTS];

	(void)state;
	for (int i = 0; i < N_PARENTS; i++) {
		offsets[i] = mempool_alloc(pool, BLOCK_BYTES);
		assert_true(offsets[i]);
		memset(mempool_ptr(pool, offsets[i]), 0x11, BLOCK_BYTES);
	}
	assert_int_equal(in_child(use_both_pools), 0);
	for (int i = 0; i < N_PARENTS; i++) {
		assert_true(is_filled(offsets[i], 0x11, BLOCK_BYTES));
		assert_int_equal(mempool_free(pool, offsets[i]), 0);
	}
	assert_int_equal(mempool_pool_check(pool, stderr), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_pool_create_bad_input_gets_exactly_its_answer),
		TEST(test_pool_options_of_other_sizes),
		TEST(test_pool_of_16_bytes_and_of_a_tebibyte),
		TEST(test_pool_grows_with_clients_mapped),
		TEST(test_pool_addresses_end_with_the_pool),
		TEST(test_pool_destroyed_answers_estale_and_stays_readable),
		TEST(test_private_pool_is_unlisted_and_ends_with_its_session),
		TEST(test_null_page_faults),
		TEST(test_fork_answers_echild_and_harms_nothing),
		TEST(test_fork_handle_finds_no_pool_of_the_child),
	};

	return cmocka_run_group_tests(tests, world_begin, world_end);
}
