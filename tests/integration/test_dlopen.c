// SPDX-License-Identifier: MIT
/* The library loaded late, by a program that was not linked with it and has threads already: their thread-local heaps work all the same. */
#include "tests/lib/test.h"

#include <dlfcn.h>
#include <mempool/mempool.h>
#include <pthread.h>
#include <semaphore.h>

#include "tests/lib/daemon.h"

enum {
	N_THREADS = 4,
	N_CALLS = 20000,
	POOL_BYTES = 16 << 20,
};

static struct {
	__typeof__(mempool_connect) *connect;
	__typeof__(mempool_disconnect) *disconnect;
	__typeof__(mempool_pool_create) *create;
	__typeof__(mempool_pool_close) *close;
	__typeof__((mempool_alloc)) *alloc;
	__typeof__((mempool_free)) *free;
	__typeof__(mempool_pool_stats_sized) *stats;
} api;

static struct mempool_client *client;
static struct mempool_pool *pool;
static sem_t loaded;

static void *work(void *arg)
{
	(void)arg;
	while (sem_wait(&loaded))
		;
	for (int i = 0; i < N_CALLS; i++) {
		mempool_offset offset = api.alloc(pool, 16 + (size_t)i % 1000);

		if (!offset || api.free(pool, offset))
			return (void *)1;
	}
	return NULL;
}

static void *look_up(void *library, const char *name)
{
	void *symbol = dlsym(library, name);

	if (!symbol)
		fail_msg("%s", dlerror());
	return symbol;
}

static void *load(void)
{
	void *library = dlopen(LIBRARY_PATH, RTLD_NOW | RTLD_LOCAL);

	if (!library)
		fail_msg("%s", dlerror());
	api.connect = look_up(library, "mempool_connect");
	api.disconnect = look_up(library, "mempool_disconnect");
	api.create = look_up(library, "mempool_pool_create");
	api.close = look_up(library, "mempool_pool_close");
	api.alloc = look_up(library, "mempool_alloc");
	api.free = look_up(library, "mempool_free");
	api.stats = look_up(library, "mempool_pool_stats_sized");
	return library;
}

static void test_library_is_loaded_into_threads_that_run(void **state)
{
	pthread_t threads[N_THREADS];
	struct mempool_stats stats;
	struct daemon d;
	void *result;

	(void)state;
	assert_int_equal(sem_init(&loaded, 0, 0), 0);
	for (int i = 0; i < N_THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, work, NULL), 0);
	assert_int_equal(daemon_init(&d), 0);
	assert_int_equal(daemon_start(&d, NULL), 0);
	(void)load(); /* for good: threads' ends are noticed by it */
	assert_int_equal(api.connect(&client, d.socket), 0);
	assert_int_equal(api.create(client, "p", POOL_BYTES, NULL, &pool), 0);
	for (int i = 0; i < N_THREADS; i++)
		assert_int_equal(sem_post(&loaded), 0);
	for (int i = 0; i < N_THREADS; i++) {
		assert_int_equal(pthread_join(threads[i], &result), 0);
		assert_null(result);
	}
	assert_int_equal(api.stats(pool, &stats, sizeof(stats)), 0);
	assert_int_equal(stats.used, 0);
	assert_true(stats.leased_idle > 0); /* they had heaps */
	assert_true(stats.alloc_total >= (uint64_t)N_THREADS * N_CALLS);
	api.close(pool);
	api.disconnect(client);
	assert_int_equal(daemon_stop(&d), 0);
	daemon_deinit(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_library_is_loaded_into_threads_that_run)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
