// SPDX-License-Identifier: MIT
/*
 * A full /dev/shm, on a small one of this test's own: memory that is not there is an answer, never a signal.
 *
 * The mount namespace is entered before the daemon starts, so that daemon and clients see the same small tmpfs, and nobody else does.
 */
#include "client_world.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>

#define SHM_BYTES   (8u << 20)
#define BLOCK_BYTES (256u << 10)
#define N_BLOCKS    ((64u << 20) / BLOCK_BYTES) /* of a pool eight times as large */
#define N_OTHERS    4u

static bool write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return ok;
}

/* Without root a user namespace gives the right to mount; its only user is then called root. Return: NULL, or what is missing. */
static const char *enter_namespace(void)
{
	uid_t uid = geteuid();
	gid_t gid = getegid();
	char map[64];

	if (unshare(CLONE_NEWNS | (uid ? CLONE_NEWUSER : 0)))
		return "a mount namespace";
	if (uid) {
		snprintf(map, sizeof(map), "0 %u 1", uid);
		if (!write_text("/proc/self/uid_map", map) || !write_text("/proc/self/setgroups", "deny"))
			return "a user namespace";
		snprintf(map, sizeof(map), "0 %u 1", gid);
		if (!write_text("/proc/self/gid_map", map))
			return "a user namespace";
	}
	if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("tmpfs", "/dev/shm", "tmpfs", 0, "size=8m,mode=1777"))
		return "the right to mount";
	return NULL;
}

/* Blocks of which every byte can be written and read back, until there are no more. Return: how many */
static uint32_t take_all(mempool_offset offsets[N_BLOCKS])
{
	uint32_t n = 0;

	for (; n < N_BLOCKS; n++) {
		errno = 0;
		offsets[n] = mempool_alloc(pool, BLOCK_BYTES);
		if (!offsets[n])
			break;
		memset(mempool_ptr(pool, offsets[n]), (int)n, BLOCK_BYTES);
	}
	assert_true(n < N_BLOCKS);
	assert_int_equal(errno, ENOSPC);
	assert_non_null(strstr(mempool_last_error(), "no memory"));
	assert_non_null(strstr(mempool_last_error(), "/dev/shm"));
	for (uint32_t i = 0; i < n; i++)
		assert_true(is_filled(offsets[i], (int)i, BLOCK_BYTES));
	return n;
}

static void test_full_shm_is_an_answer(void **state)
{
	static mempool_offset offsets[N_BLOCKS];
	struct mempool_stats stats;
	uint32_t n;

	(void)state;
	make_pool(64u << 20, NULL);
	n = take_all(offsets);
	print_message("%u blocks of %u KiB in a /dev/shm of %u MiB\n", n, BLOCK_BYTES >> 10, SHM_BYTES >> 20);
	assert_true(n >= SHM_BYTES / 2 / BLOCK_BYTES);
	assert_int_equal(mempool_pool_stats(pool, &stats), 0);
	assert_true(stats.used == (uint64_t)n * BLOCK_BYTES && stats.backed >= stats.used && stats.backed <= SHM_BYTES);
	assert_true(stats.failed_total >= 1);
	assert_int_equal(mempool_pool_check(pool, stderr), 0);

	/* what is given back can be had again, and the rest stays as it was */
	assert_int_equal(mempool_free_batch(pool, n / 2, offsets), 0);
	for (uint32_t i = 0; i < n / 2; i++)
		assert_true(mempool_alloc(pool, BLOCK_BYTES));
	for (uint32_t i = n / 2; i < n; i++)
		assert_true(is_filled(offsets[i], (int)i, BLOCK_BYTES));
}

static void test_full_shm_does_not_touch_what_is_reserved(void **state)
{
	struct mempool_pool_options options;
	static mempool_offset offsets[N_BLOCKS];
	struct mempool_pool *reserved, *other;
	mempool_offset block;

	(void)state;
	mempool_pool_options_init(&options);
	options.reserve = 1;
	assert_int_equal(mempool_pool_create(client, NULL, 1u << 20, &options, &reserved), 0);
	make_pool(64u << 20, NULL);
	(void)take_all(offsets);
	block = mempool_alloc(reserved, 1u << 20);
	assert_true(block);
	memset(mempool_ptr(reserved, block), 1, 1u << 20);

	assert_int_equal(mempool_pool_create(client, "too-large", 64u << 20, &options, &other), -ENOSPC);
	assert_non_null(strstr(mempool_last_error(), "/dev/shm"));
	assert_int_equal(mempool_pool_open(client, "too-large", &other), -ENOENT); /* nothing is left of it */
	mempool_pool_close(reserved);
}

/* Up to the last page, by somebody who is none of us. */
static uint64_t fill_by_another(void)
{
	int fd = open("/dev/shm/somebody-else", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	uint64_t n_bytes = 0;

	assert_true(fd >= 0);
	while (!posix_fallocate(fd, (off_t)n_bytes, 4096))
		n_bytes += 4096;
	close(fd);
	return n_bytes;
}

static void make_room_by_another(void)
{
	assert_int_equal(unlink("/dev/shm/somebody-else"), 0);
}

static void test_shm_filled_by_others_is_an_answer(void **state)
{
	static mempool_offset offsets[N_BLOCKS];
	uint32_t n;

	(void)state;
	make_pool(64u << 20, NULL);
	assert_true(fill_by_another() > SHM_BYTES / 2);
	n = take_all(offsets);
	assert_true(n <= 1);
	make_room_by_another();
	for (uint32_t i = n; i < SHM_BYTES / 4 / BLOCK_BYTES; i++)
		assert_true(mempool_alloc(pool, BLOCK_BYTES));
}

/* Who comes when there is no page left finds a place, sees what there is, and can make room. */
static void test_full_shm_lets_in_who_frees(void **state)
{
	static mempool_offset offsets[N_BLOCKS];
	struct mempool_client *others[N_OTHERS] = {NULL};
	struct mempool_pool *theirs;
	struct mempool_stats stats;
	uint32_t n;

	(void)state;
	make_pool(64u << 20, NULL);
	n = take_all(offsets);
	(void)fill_by_another();
	for (unsigned i = 0; i < N_OTHERS; i++)
		assert_int_equal(mempool_connect(&others[i], world.socket), 0);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(mempool_pool_open(others[i], "p", &theirs), 0);
		assert_int_equal(mempool_pool_stats(theirs, &stats), 0);
		assert_int_equal(stats.used, (uint64_t)(n - i) * BLOCK_BYTES);
		if (!i)
			assert_int_equal(mempool_free(theirs, offsets[0]), 0);
		mempool_pool_close(theirs);
	}
	assert_int_equal(mempool_pool_destroy(others[2], "p", 0), 0);
	for (unsigned i = 0; i < N_OTHERS; i++)
		mempool_disconnect(others[i]);
	make_room_by_another();
	assert_int_equal(mempool_pool_create(client, "p", 1u << 20, NULL, &theirs), 0);
	mempool_pool_close(theirs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_full_shm_is_an_answer),
		TEST(test_full_shm_does_not_touch_what_is_reserved),
		TEST(test_shm_filled_by_others_is_an_answer),
		TEST(test_full_shm_lets_in_who_frees),
	};
	const char *missing = enter_namespace();

	if (missing) {
		printf("skipped: needs %s: run as root\n", missing);
		return 77;
	}
	return cmocka_run_group_tests(tests, world_begin, world_end);
}
