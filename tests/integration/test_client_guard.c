// SPDX-License-Identifier: MIT
#include "client_world.h"

#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <time.h>

#include "tests/lib/rnd.h"

#define N_WARM 64 /* calls after which a thread has its heap, and blocks are slots */

static void make_guarded_with(uint64_t size, enum mempool_lifetime lifetime)
{
	struct mempool_pool_options options;

	mempool_pool_options_init(&options);
	options.guard = 1;
	options.lifetime = lifetime;
	make_pool(size, &options);
}

static void make_guarded(void)
{
	make_guarded_with(1u << 20, MEMPOOL_LIFETIME_SESSION);
}

static bool has_slabs(void)
{
	struct mempool_stats stats;

	assert_int_equal(mempool_pool_stats(pool, &stats), 0);
	return stats.leased_idle > 0;
}

static void warm(void)
{
	assert_false(has_slabs());
	for (int i = 0; i < N_WARM; i++)
		assert_int_equal(mempool_free(pool, mempool_alloc(pool, 101)), 0);
	assert_true(has_slabs());
}

/* Whether another process, which has no heap here, finds one fault. */
static int check_elsewhere(void)
{
	struct mempool_client *own;
	struct mempool_pool *mine;

	return mempool_connect(&own, world.socket) || mempool_pool_open(own, "p", &mine) ||
	       mempool_pool_check(mine, NULL) != 1;
}

/* One byte at @at off the block's begin is overwritten; check and free have to name it and @side. */
static void damage(int64_t at, const char *side)
{
	mempool_offset offset = mempool_alloc(pool, 101);
	char report[1024] = "", begin[32];
	FILE *stream = fmemopen(report, sizeof(report), "w");

	assert_int_equal(mempool_usable_size(pool, offset), 101);
	assert_int_equal(mempool_pool_check(pool, NULL), 0);
	*((char *)mempool_ptr(pool, offset) + at) ^= 1;
	assert_int_equal(mempool_pool_check(pool, stream), 1);
	fclose(stream);
	assert_int_equal(in_child(check_elsewhere), 0);
	snprintf(begin, sizeof(begin), "0x%llx ", (unsigned long long)offset);
	assert_memory_equal(report, begin, strlen(begin));
	assert_non_null(strstr(report, side));
	assert_non_null(strstr(report, "session"));
	assert_int_equal(mempool_free(pool, offset), -EBADMSG);
	assert_non_null(strstr(mempool_last_error(), side));
	assert_int_equal(used_now(), 0); /* freed all the same */
}

static void test_guard_finds_one_byte_on_either_side(void **state)
{
	(void)state;
	make_guarded();
	damage(101, "after");
	damage(-1, "before");
	damage(-16, "before");
	damage(112 + 15, "after"); /* the last byte of it */
}

static void test_guard_of_a_slot_finds_one_byte_on_either_side(void **state)
{
	(void)state;
	make_guarded();
	warm();
	damage(101, "after");
	for (int at = 1; at <= 16; at++) /* the mark is among them */
		damage(-at, "before");
	damage(127, "after"); /* the last byte of a slot of 144 */
	assert_true(has_slabs());
}

/* Where the pool's last block ends, too. */
static void test_guard_finds_a_byte_at_the_end_of_the_pool(void **state)
{
	mempool_offset offset;

	(void)state;
	make_guarded_with(4096, MEMPOOL_LIFETIME_SESSION);
	offset = mempool_alloc(pool, 4096 - 32);
	assert_true(offset > 0);
	*((char *)mempool_ptr(pool, offset) + 4096 - 32) = 1;
	assert_int_equal(mempool_pool_check(pool, NULL), 1);
	assert_int_equal(mempool_free(pool, offset), -EBADMSG);
}

/* By a request, by another process, in a batch, before a realloc: nobody passes one by. */
static int free_elsewhere(void)
{
	struct mempool_client *own;
	struct mempool_pool *mine;
	mempool_offset offset;

	if (mempool_connect(&own, world.socket) || mempool_pool_open(own, "p", &mine) ||
	    mempool_find(mine, "damaged", &offset))
		return 1;
	return mempool_usable_size(mine, offset) != 100 || mempool_free(mine, offset) != -EBADMSG ||
	       !strstr(mempool_last_error(), "after") || mempool_free(mine, offset) != -EALREADY;
}

static void test_guard_of_a_slot_is_looked_at_on_every_way_out(void **state)
{
	mempool_offset offset, both[2];

	(void)state;
	make_guarded();
	warm();
	for (int i = 0; i < 2; i++)
		both[i] = mempool_alloc(pool, 100);
	*((char *)mempool_ptr(pool, both[0]) + 100) = 1;
	errno = 0;
	assert_true(!mempool_realloc(pool, both[0], 50) && errno == EBADMSG); /* which keeps it */
	assert_int_equal(mempool_free_batch(pool, 2, both), -EBADMSG);
	offset = mempool_alloc(pool, 100);
	assert_int_equal(mempool_publish(pool, offset, "damaged"), 0);
	*((char *)mempool_ptr(pool, offset) + 100) = 1;
	assert_int_equal(in_child(free_elsewhere), 0);
	assert_int_equal(used_now(), 0);
	assert_int_equal(mempool_pool_check(pool, NULL), 0);
}

/* ---- others at work ---- */

/* Allocates, resizes and frees slots of its own, until it is killed. */
static int churn(int ready)
{
	struct mempool_client *own;
	struct mempool_pool *mine;
	mempool_offset held[64] = {0};
	struct rnd rnd;

	rnd_init(&rnd, (uint64_t)getpid());
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (mempool_connect(&own, world.socket) || mempool_pool_open(own, "p", &mine))
		return 1;
	for (int i = 0; i < N_WARM; i++)
		if (mempool_free(mine, mempool_alloc(mine, 101)))
			return 2;
	if (write(ready, "r", 1) != 1)
		return 3;
	for (;;) {
		mempool_offset *at = &held[rnd_below(&rnd, N_ELEMENTS(held))];
		size_t size = 1 + rnd_below(&rnd, 2000);

		if (!*at)
			*at = mempool_alloc(mine, size);
		else if (rnd_below(&rnd, 2))
			*at = mempool_realloc(mine, *at, size);
		else if (mempool_free(mine, *at))
			return 2;
		else
			*at = 0;
		if (*at)
			memset(mempool_ptr(mine, *at), 0x11, mempool_usable_size(mine, *at));
	}
}

/* Goes on when all that it does is with slots. */
static pid_t start_churn(void)
{
	int ready[2];
	char byte;
	pid_t pid;

	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (!pid)
		_exit(churn(ready[1]));
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	assert_true(has_slabs());
	return pid;
}

static void test_check_accuses_nobody_who_is_at_work(void **state)
{
	pid_t pid;

	(void)state;
	make_guarded_with(16u << 20, MEMPOOL_LIFETIME_SESSION);
	pid = start_churn();
	for (int i = 0; i < 300; i++)
		assert_int_equal(mempool_pool_check(pool, stderr), 0);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_true(await_used(0));
}

/* What a killed client leaves in a pool that keeps it is whole, wherever it was. */
static void test_slots_of_the_killed_have_their_guards(void **state)
{
	(void)state;
	make_guarded_with(16u << 20, MEMPOOL_LIFETIME_POOL);
	for (int i = 0; i < 30; i++) {
		pid_t pid = start_churn();
		const struct timespec while_it_works = {.tv_nsec = 100000 * i};

		nanosleep(&while_it_works, NULL); /* another moment each time */
		assert_int_equal(kill(pid, SIGKILL), 0);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		assert_int_equal(mempool_pool_check(pool, stderr), 0);
	}
	assert_true(used_now() > 0);
}

static void test_guard_leaves_the_block_to_its_user(void **state)
{
	mempool_offset offset, larger;

	(void)state;
	make_guarded();
	offset = mempool_alloc_aligned(pool, 1000, 4096);
	assert_true(offset % 4096 == 0 && is_filled(offset, 0xCC, 1000));
	memset(mempool_ptr(pool, offset), 1, 1000);
	larger = mempool_realloc(pool, offset, 3000);
	assert_true(larger && is_filled(larger, 1, 1000) && is_filled(larger + 1000, 0xCC, 2000));
	memset(mempool_ptr(pool, larger), 2, 3000);
	assert_int_equal(mempool_pool_check(pool, NULL), 0);
	assert_int_equal(mempool_free(pool, larger), 0);
	assert_int_equal(used_now(), 0);
}

/* Whose canaries cannot be looked at while the daemon is silent: that takes the time of one block to find out. */
static void test_silent_daemon_is_asked_about_one_block_of_a_batch(void **state)
{
	enum {
		N = 40,
		TIMEOUT_MS = 500,
	};
	struct timespec begun, ended;
	struct mempool_pool_options options;
	mempool_offset offsets[N];
	int status;

	(void)state;
	mempool_pool_options_init(&options);
	options.guard = 1;
	options.lease = MEMPOOL_LEASE_OFF;
	make_pool(1u << 20, &options);
	for (int i = 0; i < N; i++)
		assert_true(offsets[i] = mempool_alloc(pool, 101));
	assert_int_equal(mempool_set_timeout(client, TIMEOUT_MS), 0);
	kill(world.pid, SIGSTOP);
	assert_int_equal(waitpid(world.pid, &status, WUNTRACED), world.pid);
	clock_gettime(CLOCK_MONOTONIC, &begun);
	assert_int_equal(mempool_free_batch(pool, N, offsets), 0);
	clock_gettime(CLOCK_MONOTONIC, &ended);
	kill(world.pid, SIGCONT);
	assert_true(ended.tv_sec - begun.tv_sec < N * TIMEOUT_MS / 1000 / 2);
	assert_int_equal(mempool_set_timeout(client, 10000), 0);
	assert_true(await_used(0)); /* none was lost */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_guard_finds_one_byte_on_either_side),
		TEST(test_guard_of_a_slot_finds_one_byte_on_either_side),
		TEST(test_guard_finds_a_byte_at_the_end_of_the_pool),
		TEST(test_guard_of_a_slot_is_looked_at_on_every_way_out),
		TEST(test_check_accuses_nobody_who_is_at_work),
		TEST(test_slots_of_the_killed_have_their_guards),
		TEST(test_guard_leaves_the_block_to_its_user),
		TEST(test_silent_daemon_is_asked_about_one_block_of_a_batch),
	};

	return cmocka_run_group_tests(tests, world_begin, world_end);
}
