// SPDX-License-Identifier: MIT
/* Pools that run full beside slabs that somebody leases: what is idle goes to whoever needs it, also from a stopped process. */
#include "client_world.h"

#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <time.h>

enum {
	POOL_BYTES = 16 << 20,
	N_BLOCKS = 100000,
	SLAB_MOST = 96 << 10, /* bytes of a slab of many slots, but for classes of more than 8 KiB */
};

static const size_t sizes[] = {64, 200, 1000, 3000, 100000};

/* ---- another process ---- */

/* As many blocks of each size as fit a fifth of the pool, and all of them freed: its magazines are full. */
static int fill_and_drop(struct mempool_pool *mine)
{
	static mempool_offset offsets[N_BLOCKS];
	size_t n = 0;

	for (size_t i = 0; i < N_ELEMENTS(sizes); i++)
		for (size_t bytes = 0; bytes < POOL_BYTES / 8; bytes += sizes[i]) {
			offsets[n] = mempool_alloc(mine, sizes[i]);
			if (!offsets[n++])
				return 2;
		}
	while (n--)
		if (mempool_free(mine, offsets[n]))
			return 3;
	return 0;
}

/* Stops when its magazines are full; later uses the pool once more, tells, and waits to be killed. */
static _Noreturn void be_other(int out)
{
	struct mempool_client *own;
	struct mempool_pool *mine;
	int r;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	r = mempool_connect(&own, world.socket) || mempool_pool_open(own, "p", &mine) ? 1 : fill_and_drop(mine);
	if (r)
		_exit(r);
	raise(SIGSTOP);
	for (int i = 0; i < 100; i++) {
		mempool_offset offset = mempool_alloc(mine, 500); /* of another class: its heap looks around */

		if (offset && mempool_free(mine, offset))
			_exit(4);
	}
	if (write(out, "d", 1) != 1)
		_exit(5);
	for (;;)
		pause();
}

static pid_t start_other(int *outp)
{
	int out[2], status;
	pid_t pid;

	assert_int_equal(pipe(out), 0);
	pid = fork();
	if (!pid)
		be_other(out[1]);
	close(out[1]);
	*outp = out[0];
	assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
	assert_true(WIFSTOPPED(status));
	return pid;
}

/* ---- */

static struct mempool_stats stats_now(void)
{
	struct mempool_stats stats;

	assert_int_equal(mempool_pool_stats(pool, &stats), 0);
	assert_true(stats.used + stats.free + stats.leased_idle == stats.total);
	return stats;
}

/* Blocks of @size until there are no more. Return: how many */
static size_t take_all(mempool_offset offsets[N_BLOCKS], size_t n, size_t size)
{
	for (; n < N_BLOCKS; n++) {
		errno = 0;
		offsets[n] = mempool_alloc(pool, size);
		if (!offsets[n])
			break;
	}
	assert_true(n < N_BLOCKS);
	assert_int_equal(errno, ENOSPC);
	return n;
}

static void make(enum mempool_lease lease)
{
	struct mempool_pool_options options;

	mempool_pool_options_init(&options);
	options.lease = lease;
	options.fill = MEMPOOL_FILL_NONE;
	make_pool(POOL_BYTES, &options);
}

static void test_stopped_client_keeps_no_empty_slab(void **state)
{
	static mempool_offset offsets[N_BLOCKS];
	struct mempool_stats stats;
	char who[32], byte;
	size_t n, n_more;
	pid_t pid;
	int out;

	(void)state;
	make(MEMPOOL_LEASE_AUTO);
	pid = start_other(&out);
	stats = stats_now();
	assert_true(stats.used == 0 && stats.leased_idle > POOL_BYTES / 16);
	n = take_all(offsets, 0, 128 << 10);
	n = take_all(offsets, n, 32);
	stats = stats_now();
	/* left to it: a few slabs of each size, of which slots lie in its magazines, and none of the large ones */
	printf("%llu KiB of %u are idle beside a stopped client: %s\n", (unsigned long long)stats.leased_idle >> 10,
	       POOL_BYTES >> 10, mempool_last_error());
	assert_true(stats.leased_idle <= 3 * 4 * SLAB_MOST + SLAB_MOST); /* and the last slab of ours */
	assert_true(stats.free < 64 << 10);
	assert_non_null(strstr(mempool_last_error(), "is cached"));
	snprintf(who, sizeof(who), "pid %d ", (int)pid);
	assert_non_null(strstr(mempool_last_error(), who));
	assert_int_equal(mempool_pool_check(pool, stderr), 0);
	/* once it runs again, what it caches is for all */
	kill(pid, SIGCONT);
	assert_int_equal(read(out, &byte, 1), 1);
	n_more = take_all(offsets, n, 32) - n;
	assert_true(n_more > 0);
	assert_true(stats_now().leased_idle <= 2 * SLAB_MOST);
	for (n += n_more; n--;)
		assert_int_equal(mempool_free(pool, offsets[n]), 0);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	close(out);
	assert_true(await_used(0));
	assert_int_equal(mempool_pool_check(pool, stderr), 0);
}

/* Of a killed one nothing stays. */
static void test_killed_client_keeps_no_slab(void **state)
{
	mempool_offset offset = 0;
	pid_t pid;
	int out;

	(void)state;
	make(MEMPOOL_LEASE_AUTO);
	pid = start_other(&out);
	assert_true(stats_now().leased_idle > 0);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	close(out);
	for (int i = 0; i < 5000 && !(offset = mempool_alloc(pool, POOL_BYTES)); i++) { /* until its end is noticed */
		const struct timespec pause = {.tv_nsec = 2000000};

		assert_int_equal(errno, ENOSPC);
		nanosleep(&pause, NULL);
	}
	assert_true(offset > 0);
	assert_int_equal(mempool_free(pool, offset), 0);
}

/* The same without leases, and where a pool is too small for them. */
static void test_small_pools_and_lease_off_use_every_byte(void **state)
{
	static mempool_offset offsets[N_BLOCKS];
	struct mempool_stats stats;
	size_t n;

	(void)state;
	for (int i = 0; i < 2; i++) {
		if (i)
			make_pool(512 << 10, NULL);
		else
			make(MEMPOOL_LEASE_OFF);
		n = take_all(offsets, 0, 4096);
		n = take_all(offsets, n, 16);
		stats = stats_now();
		assert_true(stats.used == stats.total && !stats.free && !stats.leased_idle);
		while (n--)
			assert_int_equal(mempool_free(pool, offsets[n]), 0);
		assert_int_equal(used_now(), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_stopped_client_keeps_no_empty_slab),
		TEST(test_killed_client_keeps_no_slab),
		TEST(test_small_pools_and_lease_off_use_every_byte),
	};

	return cmocka_run_group_tests(tests, world_begin, world_end);
}
