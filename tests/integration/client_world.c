// SPDX-License-Identifier: MIT
#include "client_world.h"

#include <time.h>

struct daemon world;
struct mempool_client *client;
struct mempool_pool *pool;

int world_begin(void **state)
{
	(void)state;
	return daemon_init(&world) || daemon_start(&world, NULL);
}

int world_end(void **state)
{
	int r = daemon_stop(&world);

	(void)state;
	daemon_deinit(&world);
	return r;
}

int test_begin(void **state)
{
	(void)state;
	assert_int_equal(mempool_connect(&client, world.socket), 0);
	assert_int_equal(mempool_pool_create(client, "p", 1u << 20, NULL, &pool), 0);
	return 0;
}

int test_end(void **state)
{
	(void)state;
	mempool_pool_close(pool);
	assert_int_equal(mempool_pool_destroy(client, "p", 0), 0);
	mempool_disconnect(client);
	pool = NULL;
	client = NULL;
	return 0;
}

void make_pool(uint64_t size, const struct mempool_pool_options *options)
{
	mempool_pool_close(pool);
	assert_int_equal(mempool_pool_destroy(client, "p", 0), 0);
	assert_int_equal(mempool_pool_create(client, "p", size, options, &pool), 0);
}

uint64_t used_now(void)
{
	struct mempool_stats stats;

	assert_int_equal(mempool_pool_stats(pool, &stats), 0);
	assert_true(stats.used + stats.free + stats.leased_idle == stats.total);
	return stats.used;
}

bool await_used(uint64_t bytes)
{
	const struct timespec pause = {.tv_nsec = 2000000};

	for (int i = 0; i < 5000; i++) {
		if (used_now() == bytes)
			return true;
		nanosleep(&pause, NULL); /* between two looks; the bound is what decides */
	}
	return false;
}

bool is_filled(mempool_offset offset, int value, size_t n)
{
	const unsigned char *bytes = mempool_ptr(pool, offset);

	for (size_t i = 0; i < n; i++)
		if (bytes[i] != (unsigned char)value)
			return false;
	return true;
}

int in_child(int (*what)(void))
{
	int status;
	pid_t pid = fork();

	if (!pid)
		_exit(what());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
