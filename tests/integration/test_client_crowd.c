// SPDX-License-Identifier: MIT
/* Many threads on one connection, and several processes that hand each other offsets. */
#include "client_world.h"

#include <pthread.h>
#include <stdatomic.h>

#include "tests/lib/rnd.h"

enum {
	N_THREADS = 256, /* twice what the daemon takes from one connection at once */
	N_ROUNDS = 40,
	N_HELD = 4,
	N_PROCESSES = 4,
	N_HANDED = 2000,
};

static atomic_int n_wrong;

static void *run_thread(void *arg)
{
	mempool_offset held[N_HELD];
	size_t size = 16 + (size_t)(uintptr_t)arg % 100;
	int mark = (int)((uintptr_t)arg & 0xff);

	for (int round = 0; round < N_ROUNDS; round++) {
		for (int i = 0; i < N_HELD; i++) {
			held[i] = mempool_alloc(pool, size);
			if (held[i])
				memset(mempool_ptr(pool, held[i]), mark, size);
			else
				atomic_fetch_add(&n_wrong, 1);
		}
		for (int i = 0; i < N_HELD; i++) {
			if (held[i] && !is_filled(held[i], mark, size))
				atomic_fetch_add(&n_wrong, 1);
			if (held[i] && mempool_free(pool, held[i]))
				atomic_fetch_add(&n_wrong, 1);
		}
	}
	return NULL;
}

static void test_256_threads_share_one_connection(void **state)
{
	static pthread_t threads[N_THREADS];

	(void)state;
	atomic_store(&n_wrong, 0);
	for (uintptr_t i = 0; i < N_THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, run_thread, (void *)i), 0);
	for (int i = 0; i < N_THREADS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(atomic_load(&n_wrong), 0);
	assert_int_equal(used_now(), 0);
	assert_int_equal(mempool_pool_check(pool, NULL), 0);
}

struct parcel {
	mempool_offset offset;
	uint64_t session;
	uint32_t size, mark;
};

/* Each process takes parcels from its left, verifies and frees them, and hands its own to its right. */
static int run_process(int left, int right, unsigned who)
{
	struct mempool_client *own;
	struct mempool_pool *mine;
	struct parcel parcel;
	struct rnd rnd;

	rnd_init(&rnd, who);
	if (mempool_connect(&own, world.socket) || mempool_pool_open(own, "p", &mine))
		return 2;
	for (int i = 0; i < N_HANDED; i++) {
		const unsigned char *bytes;

		parcel.size = 1 + (uint32_t)rnd_below(&rnd, 200);
		parcel.mark = (uint32_t)rnd_below(&rnd, 256);
		parcel.session = mempool_session(own);
		parcel.offset = mempool_alloc(mine, parcel.size);
		if (!parcel.offset)
			return 3;
		memset(mempool_ptr(mine, parcel.offset), (int)parcel.mark, parcel.size);
		if (write(right, &parcel, sizeof(parcel)) != sizeof(parcel) ||
		    read(left, &parcel, sizeof(parcel)) != sizeof(parcel))
			return 4;
		if (mempool_take(mine, parcel.offset, parcel.session))
			return 5;
		bytes = mempool_ptr(mine, parcel.offset);
		for (uint32_t b = 0; b < parcel.size; b++)
			if (bytes[b] != parcel.mark)
				return 6;
		if (mempool_free(mine, parcel.offset))
			return 7;
	}
	/* Who ends takes along what was not taken yet: so each waits for its right, which is heard of all the way round. */
	for (int i = 0; i < N_PROCESSES; i++)
		if (write(right, &parcel, sizeof(parcel)) != sizeof(parcel) ||
		    read(left, &parcel, sizeof(parcel)) != sizeof(parcel))
			return 8;
	mempool_pool_close(mine);
	mempool_disconnect(own);
	return 0;
}

static void test_processes_hand_over_in_a_ring(void **state)
{
	int pipes[N_PROCESSES][2], status;
	pid_t pids[N_PROCESSES];

	(void)state;
	for (int i = 0; i < N_PROCESSES; i++)
		assert_int_equal(pipe(pipes[i]), 0);
	for (unsigned i = 0; i < N_PROCESSES; i++) {
		pids[i] = fork();
		if (!pids[i])
			_exit(run_process(pipes[(i + N_PROCESSES - 1) % N_PROCESSES][0], pipes[i][1], i));
	}
	for (int i = 0; i < N_PROCESSES; i++) {
		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), 0);
		close(pipes[i][0]);
		close(pipes[i][1]);
	}
	assert_true(await_used(0));
	assert_int_equal(mempool_pool_check(pool, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_256_threads_share_one_connection),
		TEST(test_processes_hand_over_in_a_ring),
	};

	return cmocka_run_group_tests(tests, world_begin, world_end);
}
