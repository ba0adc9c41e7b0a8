// SPDX-License-Identifier: MIT
/* Heaps of a program's threads: forks, threads that come and go, exits, and ends of handles while calls run. */
#include "client_world.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "proto/lease.h"
#include "proto/size_class.h"
#include "tests/lib/rnd.h"

enum {
	POOL_BYTES = 32 << 20,
	N_CHURN = 10000,
	N_AT_ONCE = 8,
	N_THREADS = 6,
	N_HELD = 32,
	N_FORKS = 40,
	N_HANDLES = 200,
};

static int begin(void **state)
{
	test_begin(state);
	make_pool(POOL_BYTES, NULL);
	return 0;
}

static atomic_bool is_over;
static atomic_int n_wrong;

static void wrong(const char *what)
{
	if (atomic_fetch_add(&n_wrong, 1) < 5)
		fprintf(stderr, "%s: %s\n", what, mempool_last_error());
}

static void paint(mempool_offset offset, uint32_t mark)
{
	memcpy(mempool_ptr(pool, offset), &mark, sizeof(mark));
}

static bool is_painted(mempool_offset offset, uint32_t mark)
{
	return !memcmp(mempool_ptr(pool, offset), &mark, sizeof(mark));
}

struct worker {
	mempool_offset held[N_HELD];
	uint32_t marks[N_HELD], mark;
	struct rnd rnd;
};

static void step(struct worker *w)
{
	unsigned i = (unsigned)rnd_below(&w->rnd, N_HELD);

	if (w->held[i]) {
		if (!is_painted(w->held[i], w->marks[i]))
			wrong("pattern");
		if (mempool_free(pool, w->held[i]))
			wrong("free");
		w->held[i] = 0;
		return;
	}
	w->held[i] = mempool_alloc(pool, 16 + rnd_below(&w->rnd, 3000));
	if (!w->held[i]) {
		wrong("alloc");
		return;
	}
	w->marks[i] = w->mark += N_THREADS;
	paint(w->held[i], w->mark);
}

static void drop_all(struct worker *w)
{
	for (unsigned i = 0; i < N_HELD; i++) {
		if (w->held[i] && (!is_painted(w->held[i], w->marks[i]) || mempool_free(pool, w->held[i])))
			wrong("last free");
		w->held[i] = 0;
	}
}

static void worker_init(struct worker *w, uint32_t number)
{
	*w = (struct worker){.mark = number};
	rnd_init(&w->rnd, number);
}

static void *work(void *arg)
{
	struct worker w;

	worker_init(&w, (uint32_t)(uintptr_t)arg);
	while (!atomic_load_explicit(&is_over, memory_order_relaxed))
		step(&w);
	drop_all(&w);
	return NULL;
}

static void start_work(pthread_t threads[N_THREADS], void *(*what)(void *))
{
	atomic_store(&is_over, false);
	atomic_store(&n_wrong, 0);
	for (uintptr_t i = 0; i < N_THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, what, (void *)(i + 1)), 0);
}

static void end_work(pthread_t threads[N_THREADS])
{
	atomic_store(&is_over, true);
	for (int i = 0; i < N_THREADS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(n_wrong, 0);
}

static void check_clean(void)
{
	assert_true(await_used(0));
	assert_int_equal(mempool_pool_check(pool, stderr), 0);
}

/* ---- fork ---- */

static pthread_key_t key;

/* A thread's end after fork: whatever it calls does nothing. */
static void on_end(void *arg)
{
	if (mempool_free(pool, *(mempool_offset *)arg) != -ECHILD || mempool_alloc(pool, 64) || errno != ECHILD)
		_exit(9);
}

static void *end_in_child(void *arg)
{
	return pthread_setspecific(key, arg) ? (void *)1 : NULL;
}

/* What a forked child may do: nothing, and its parent does not notice. */
static _Noreturn void be_child(struct worker *w)
{
	static mempool_offset offset;
	mempool_offset some[2] = {0};
	const size_t sizes[2] = {16, 32};
	struct mempool_stats stats;
	pthread_t thread;

	for (unsigned i = 0; i < N_HELD; i++) {
		if (!w->held[i])
			continue;
		offset = w->held[i];
		if (mempool_free(pool, offset) != -ECHILD || mempool_take(pool, offset, 1) != -ECHILD ||
		    mempool_retain(pool, offset) != -ECHILD || mempool_free_batch(pool, 1, &offset) != -ECHILD ||
		    mempool_usable_size(pool, offset) || mempool_realloc(pool, offset, 5000) || errno != ECHILD)
			_exit(2);
	}
	for (size_t size = 16; size < 4000; size += 16)
		if (mempool_alloc(pool, size) || errno != ECHILD)
			_exit(3);
	if (mempool_alloc_batch(pool, 2, sizes, some) != -ECHILD || mempool_pool_stats(pool, &stats) != -ECHILD ||
	    mempool_alloc_aligned(pool, 64, 64) || errno != ECHILD)
		_exit(4);
	if (pthread_create(&thread, NULL, end_in_child, &offset) || pthread_join(thread, NULL))
		_exit(5);
	if (rnd_below(&w->rnd, 2)) {
		mempool_pool_close(pool);
		mempool_disconnect(client);
	}
	exit(0); /* with what runs then */
}

static void *work_and_fork(void *arg)
{
	struct worker w;
	int status;

	worker_init(&w, (uint32_t)(uintptr_t)arg);
	for (int i = 0; i < N_FORKS / N_THREADS; i++) {
		pid_t pid;

		for (int j = 0; j < 500; j++)
			step(&w);
		pid = fork();
		if (!pid)
			be_child(&w);
		for (int j = 0; j < 500; j++)
			step(&w);
		if (pid < 0 || waitpid(pid, &status, 0) != pid || status) {
			fprintf(stderr, "a child ended with %#x\n", status);
			atomic_fetch_add(&n_wrong, 1);
		}
	}
	drop_all(&w);
	return NULL;
}

static void test_fork_in_the_middle_of_calls_harms_nobody(void **state)
{
	pthread_t threads[N_THREADS];

	(void)state;
	assert_int_equal(pthread_key_create(&key, on_end), 0);
	start_work(threads, work_and_fork);
	end_work(threads);
	assert_int_equal(pthread_key_delete(key), 0);
	check_clean();
}

/* ---- threads that come and go ---- */

/* Heap numbers that are somebody's, as the lease segments of the daemon's instance say. */
static unsigned count_heaps(void)
{
	struct dirent *entry;
	unsigned n = 0;
	DIR *dir = opendir("/dev/shm");

	assert_non_null(dir);
	while ((entry = readdir(dir))) {
		struct lease_header header;
		struct lease_heap heap;
		char path[300];
		int fd;

		if (!strstr(entry->d_name, world.instance))
			continue;
		snprintf(path, sizeof(path), "/dev/shm/%s", entry->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd >= 0 && pread(fd, &header, sizeof(header), 0) == sizeof(header) && header.magic == LEASE_MAGIC)
			for (uint32_t i = 1; i < header.n_heaps; i++)
				n += pread(fd, &heap, sizeof(heap), (off_t)(header.heaps_at + i * sizeof(heap))) ==
					     sizeof(heap) &&
				     heap.session;
		if (fd >= 0)
			close(fd);
	}
	closedir(dir);
	return n;
}

static mempool_offset left[N_CHURN];

static void *come_and_go(void *arg)
{
	uintptr_t number = (uintptr_t)arg;

	for (int i = 0; i < 8; i++) {
		mempool_offset offset = mempool_alloc(pool, 16 + number % 500);

		if (!offset || mempool_free(pool, offset))
			wrong("in a short life");
	}
	left[number] = mempool_alloc(pool, 40); /* outlives its thread */
	if (!left[number])
		wrong("alloc");
	else
		paint(left[number], (uint32_t)number);
	return NULL;
}

static void test_threads_that_come_and_go_share_few_heaps(void **state)
{
	pthread_t threads[N_AT_ONCE];
	unsigned n;

	(void)state;
	atomic_store(&n_wrong, 0);
	for (uintptr_t i = 0; i < N_CHURN; i++) {
		if (i >= N_AT_ONCE)
			assert_int_equal(pthread_join(threads[i % N_AT_ONCE], NULL), 0);
		assert_int_equal(pthread_create(&threads[i % N_AT_ONCE], NULL, come_and_go, (void *)i), 0);
	}
	for (int i = 0; i < N_AT_ONCE; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(n_wrong, 0);
	n = count_heaps();
	assert_true(n >= 1 && n <= N_AT_ONCE + 1);
	for (uint32_t i = 0; i < N_CHURN; i++)
		assert_true(is_painted(left[i], i) && !mempool_free(pool, left[i]));
	check_clean();
}

/* ---- ends ---- */

static int exit_without_a_word(void)
{
	pthread_t threads[N_THREADS];
	mempool_offset offset;

	if (mempool_connect(&client, world.socket) || mempool_pool_open(client, "p", &pool))
		return 1;
	start_work(threads, work);
	for (int i = 0; i < 5000; i++) {
		offset = mempool_alloc(pool, 100);
		if (!offset || (i % 10 && mempool_free(pool, offset)))
			return 2;
	}
	exit(0); /* threads are in the middle of calls */
}

static void test_exit_without_disconnect_leaves_nothing(void **state)
{
	(void)state;
	for (int i = 0; i < 5; i++)
		assert_int_equal(in_child(exit_without_a_word), 0);
	check_clean();
}

static atomic_uint n_calls;

/* Until it is told that the client is disconnected. */
static void *work_until_disconnected(void *arg)
{
	mempool_offset offset;

	(void)arg;
	for (;;) {
		atomic_fetch_add(&n_calls, 1);
		errno = 0;
		offset = mempool_alloc(pool, 16 + atomic_load(&n_calls) % 2000);
		if (!offset && errno == ENOTCONN)
			return NULL;
		if (!offset)
			wrong("alloc");
		else if (mempool_free(pool, offset))
			return NULL;
	}
}

static void test_disconnect_waits_for_running_calls(void **state)
{
	pthread_t threads[N_THREADS];

	(void)state;
	for (int i = 0; i < 20; i++) {
		atomic_store(&n_calls, 0);
		start_work(threads, work_until_disconnected);
		while (atomic_load(&n_calls) < 2000)
			sched_yield();
		mempool_disconnect(client);
		end_work(threads);
		assert_int_equal(mempool_free(pool, 4096), -ENOTCONN);
		mempool_pool_close(pool);
		assert_int_equal(mempool_connect(&client, world.socket), 0);
		assert_int_equal(mempool_pool_open(client, "p", &pool), 0);
	}
	check_clean();
}

struct caller {
	void (*call)(struct caller *caller);
	pthread_t thread;
	atomic_bool is_ready, may_go, is_over;
	_Atomic pid_t tid; /* 0: has not gone yet */
	mempool_offset offset;
	int result;
};

static void alloc_by_request(struct caller *caller)
{
	caller->offset = mempool_alloc(pool, POOL_BYTES / 2);
}

static void publish_batch(struct caller *caller)
{
	caller->result = mempool_publish_batch(pool, 1, &caller->offset);
}

static void free_block(struct caller *caller)
{
	caller->result = mempool_free(pool, caller->offset);
}

static void close_pool(struct caller *caller)
{
	(void)caller;
	mempool_pool_close(pool);
}

/* With a heap of its own, so that the call begins where those of a thread at work do. */
static void *call_when_told(void *arg)
{
	struct caller *caller = arg;

	caller->result = mempool_free(pool, mempool_alloc(pool, 64));
	atomic_store(&caller->is_ready, true);
	while (!atomic_load(&caller->may_go))
		sched_yield();
	atomic_store(&caller->tid, gettid());
	caller->call(caller);
	atomic_store(&caller->is_over, true);
	return NULL;
}

static void caller_start(struct caller *caller)
{
	assert_int_equal(pthread_create(&caller->thread, NULL, call_when_told, caller), 0);
	while (!atomic_load(&caller->is_ready))
		sched_yield();
	assert_int_equal(caller->result, 0);
}

/* Until the thread sleeps in the call, or has come back from it. */
static void call_until_asleep(struct caller *caller)
{
	char path[64], state = 0;

	atomic_store(&caller->may_go, true);
	while (!atomic_load(&caller->tid))
		sched_yield();
	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", (int)caller->tid);
	while (state != 'S' && !atomic_load(&caller->is_over)) {
		FILE *file = fopen(path, "r");

		if (!file || fscanf(file, "%*d (%*[^)]) %c", &state) != 1)
			state = 'S'; /* it is no more */
		if (file)
			fclose(file);
	}
}

/* While the daemon is silent, a call hangs, and a close of its very handle with it. */
static void close_during(struct caller *one)
{
	struct caller other = {.call = close_pool};
	int status;

	caller_start(one);
	caller_start(&other);
	kill(world.pid, SIGSTOP);
	assert_int_equal(waitpid(world.pid, &status, WUNTRACED), world.pid);
	call_until_asleep(one);
	assert_false(one->is_over);
	call_until_asleep(&other);
	assert_false(other.is_over);
	kill(world.pid, SIGCONT);
	assert_int_equal(pthread_join(one->thread, NULL), 0);
	assert_int_equal(pthread_join(other.thread, NULL), 0);
	assert_int_equal(one->result, 0);
	assert_int_equal(mempool_pool_open(client, "p", &pool), 0);
}

static void test_close_waits_for_a_call_of_its_handle(void **state)
{
	struct caller alloc = {.call = alloc_by_request}, publish = {.call = publish_batch},
		      free = {.call = free_block};

	(void)state;
	close_during(&alloc);
	assert_true(alloc.offset > 0);
	publish.offset = mempool_alloc(pool, 64);
	close_during(&publish);
	free.offset = publish.offset; /* of a slot that only the daemon disposes of now */
	close_during(&free);
	assert_int_equal(mempool_free(pool, alloc.offset), 0);
	check_clean();
}

static void realloc_block(struct caller *caller)
{
	caller->offset = mempool_realloc(pool, caller->offset, 100000);
	caller->result = caller->offset ? 0 : -errno;
	if (!strstr(mempool_last_error(), "overwritten"))
		wrong("no warning");
}

/* While it waits for a larger block, which only the daemon gives. The old one is free then, so the new one is the caller's. */
static void test_realloc_of_a_block_whose_guard_breaks_meanwhile(void **state)
{
	struct caller caller = {.call = realloc_block};
	struct mempool_pool_options options;
	mempool_offset old;
	int status;

	(void)state;
	mempool_pool_options_init(&options);
	options.guard = 1;
	make_pool(POOL_BYTES, &options);
	for (int i = 0; i < 64; i++) /* until there are heaps */
		assert_int_equal(mempool_free(pool, mempool_alloc(pool, 100)), 0);
	atomic_store(&n_wrong, 0);
	caller_start(&caller);
	old = caller.offset = mempool_alloc(pool, 100);
	memset(mempool_ptr(pool, old), 0x11, 100);
	kill(world.pid, SIGSTOP);
	assert_int_equal(waitpid(world.pid, &status, WUNTRACED), world.pid);
	call_until_asleep(&caller);
	((unsigned char *)mempool_ptr(pool, old))[100] ^= 1;
	kill(world.pid, SIGCONT);
	assert_int_equal(pthread_join(caller.thread, NULL), 0);
	assert_int_equal(caller.result, 0);
	assert_int_equal(n_wrong, 0);
	assert_true(caller.offset && caller.offset != old && is_filled(caller.offset, 0x11, 100));
	assert_int_equal(mempool_free(pool, caller.offset), 0);
	check_clean();
}

struct filler {
	mempool_offset offset;
	volatile unsigned char *_Atomic bytes; /* of a block that is cached, about to be allocated again */
	atomic_bool is_over;
};

static void *fill_large(void *arg)
{
	struct filler *filler = arg;
	unsigned char *bytes;

	for (int i = 0; i < 40 && !mempool_free(pool, mempool_alloc(pool, 64)); i++) /* until there is a heap */
		;
	filler->offset = mempool_alloc(pool, SIZE_CLASS_BYTES_MAX);
	bytes = mempool_ptr(pool, filler->offset);
	if (bytes) {
		memset(bytes, 0x11, SIZE_CLASS_BYTES_MAX);
		if (mempool_free(pool, filler->offset))
			wrong("free");
		atomic_store(&filler->bytes, bytes);
		if (mempool_alloc(pool, SIZE_CLASS_BYTES_MAX) != filler->offset)
			wrong("alloc again");
	}
	atomic_store(&filler->is_over, true);
	return NULL;
}

/* Read while it is written, which is the point. */
__attribute__((no_sanitize("thread"))) static void await_fill(struct filler *filler)
{
	volatile unsigned char *bytes;

	while (!atomic_load(&filler->is_over) && (!(bytes = atomic_load(&filler->bytes)) || *bytes == 0x11))
		;
}

/* A block from the thread's own cache, while it is being filled: no request, but a call all the same. */
static void close_during_fill(struct mempool_pool *other)
{
	struct filler filler = {0};
	pthread_t thread;

	atomic_store(&n_wrong, 0);
	assert_int_equal(pthread_create(&thread, NULL, fill_large, &filler), 0);
	await_fill(&filler);
	mempool_pool_close(pool);
	pool = other;
	if (pool)
		assert_true(is_filled(filler.offset, 0xCC, SIZE_CLASS_BYTES_MAX));
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(n_wrong, 0);
	if (!pool)
		assert_int_equal(mempool_pool_open(client, "p", &pool), 0);
	assert_int_equal(mempool_free(pool, filler.offset), 0);
}

static void test_close_waits_for_a_fill(void **state)
{
	(void)state;
	make_pool(4 * POOL_BYTES, NULL); /* a heap of it keeps a block of the largest class */
	for (int i = 0; i < 4; i++) {
		struct mempool_pool *other;

		close_during_fill(NULL);
		assert_int_equal(mempool_pool_open(client, "p", &other), 0);
		close_during_fill(other);
	}
	check_clean();
}

/* Other handles on the pool, opened and closed: the heaps are the same, and calls by the first go on. */
static void test_close_of_a_handle_leaves_the_others_at_work(void **state)
{
	pthread_t threads[N_THREADS];
	struct mempool_pool *second, *third;

	(void)state;
	start_work(threads, work);
	for (int i = 0; i < N_HANDLES; i++) {
		mempool_offset offset;

		assert_int_equal(mempool_pool_open(client, "p", &second), 0);
		assert_int_equal(mempool_pool_open(client, "p", &third), 0);
		offset = mempool_alloc(second, 64);
		assert_true(offset && !mempool_free(third, offset));
		mempool_pool_close(third);
		mempool_pool_close(second);
	}
	end_work(threads);
	check_clean();
}

static void *open_and_close(void *arg)
{
	struct mempool_pool *own;

	(void)arg;
	while (!atomic_load(&is_over)) {
		if (mempool_pool_open(client, "p", &own))
			return NULL; /* disconnected */
		for (int i = 0; i < 50; i++) {
			mempool_offset offset = mempool_alloc(own, 64);

			if (offset)
				(void)!mempool_free(own, offset);
		}
		mempool_pool_close(own);
	}
	return NULL;
}

static void test_last_close_and_disconnect_at_once(void **state)
{
	pthread_t threads[N_THREADS];
	struct mempool_pool *other;

	(void)state;
	mempool_pool_close(pool);
	for (int i = 0; i < 30; i++) {
		/* keeps the client's memory, for those who ask it after the disconnect */
		assert_int_equal(mempool_pool_create(client, NULL, 4096, NULL, &other), 0);
		start_work(threads, open_and_close);
		for (int j = 0; j < i; j++)
			sched_yield();
		mempool_disconnect(client);
		end_work(threads);
		mempool_pool_close(other);
		assert_int_equal(mempool_connect(&client, world.socket), 0);
	}
	assert_int_equal(mempool_pool_open(client, "p", &pool), 0);
	check_clean();
}

/* Pools that come and go leave no place in the process behind. */
static void test_pools_that_were_destroyed_leave_no_heaps(void **state)
{
	struct mempool_stats stats;
	struct mempool_pool *own;

	(void)state;
	for (int i = 0; i < 5000; i++) {
		bool looks = i % 250 == 0;

		assert_int_equal(mempool_pool_create(client, "q", 2 << 20, NULL, &own), 0);
		for (int j = 0; looks && j < 100; j++) {
			mempool_offset offset = mempool_alloc(own, 64);

			assert_true(offset && !mempool_free(own, offset));
		}
		if (looks) {
			assert_int_equal(mempool_pool_stats(own, &stats), 0);
			assert_true(stats.leased_idle > 0);
		}
		mempool_pool_close(own);
		assert_int_equal(mempool_pool_destroy(client, "q", 0), 0);
	}
}

/* ---- the last byte ---- */

/* Whatever lies in its own magazines and slabs, a pool's only client has all that stats call free. */
static void test_alloc_of_the_largest_free_succeeds_with_leases(void **state)
{
	static mempool_offset held[4000];
	struct mempool_stats stats;
	mempool_offset large;
	struct rnd rnd;

	(void)state;
	rnd_init(&rnd, rnd_seed_from_env_or_time());
	for (int round = 0; round < 20; round++) {
		for (unsigned i = 0; i < N_ELEMENTS(held); i++)
			held[i] = mempool_alloc(pool, 16 + rnd_below(&rnd, 4000));
		for (unsigned i = 0; i < N_ELEMENTS(held); i++)
			if (held[i] && (rnd_below(&rnd, 8) || round % 2))
				held[i] = mempool_free(pool, held[i]) ? 1 : 0;
		assert_int_equal(mempool_pool_stats(pool, &stats), 0);
		large = mempool_alloc(pool, stats.largest_free);
		assert_true(large && !mempool_free(pool, large));
		for (unsigned i = 0; i < N_ELEMENTS(held); i++)
			assert_true(!held[i] || !mempool_free(pool, held[i]));
		/* all is free, most of it cached here: so all of it can be had */
		large = mempool_alloc(pool, POOL_BYTES);
		if (!large)
			fail_msg("%s", mempool_last_error());
		assert_int_equal(mempool_free(pool, large), 0);
	}
	check_clean();
}

/* The same for what other threads of the process cache, which do nothing any more. */
static pthread_barrier_t barrier;

static void *cache_and_idle(void *arg)
{
	struct worker w;

	worker_init(&w, (uint32_t)(uintptr_t)arg);
	for (int i = 0; i < 5000; i++)
		step(&w);
	drop_all(&w);
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	return NULL;
}

static void test_what_idle_threads_cache_can_be_had(void **state)
{
	pthread_t threads[N_THREADS];
	mempool_offset all;

	(void)state;
	assert_int_equal(pthread_barrier_init(&barrier, NULL, N_THREADS + 1), 0);
	start_work(threads, cache_and_idle);
	pthread_barrier_wait(&barrier);
	all = mempool_alloc(pool, POOL_BYTES);
	if (!all)
		fail_msg("%s", mempool_last_error());
	assert_int_equal(mempool_free(pool, all), 0);
	pthread_barrier_wait(&barrier);
	end_work(threads);
	assert_int_equal(pthread_barrier_destroy(&barrier), 0);
	check_clean();
}

#define THREADS_TEST(name) cmocka_unit_test_setup_teardown(name, begin, test_end)

int main(int argc, char *argv[]) /* a pattern: only those */
{
	const struct CMUnitTest tests[] = {
		THREADS_TEST(test_fork_in_the_middle_of_calls_harms_nobody),
		THREADS_TEST(test_threads_that_come_and_go_share_few_heaps),
		THREADS_TEST(test_exit_without_disconnect_leaves_nothing),
		THREADS_TEST(test_disconnect_waits_for_running_calls),
		THREADS_TEST(test_close_waits_for_a_call_of_its_handle),
		THREADS_TEST(test_realloc_of_a_block_whose_guard_breaks_meanwhile),
		THREADS_TEST(test_close_waits_for_a_fill),
		THREADS_TEST(test_close_of_a_handle_leaves_the_others_at_work),
		THREADS_TEST(test_last_close_and_disconnect_at_once),
		THREADS_TEST(test_pools_that_were_destroyed_leave_no_heaps),
		THREADS_TEST(test_alloc_of_the_largest_free_succeeds_with_leases),
		THREADS_TEST(test_what_idle_threads_cache_can_be_had),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, world_begin, world_end);
}
