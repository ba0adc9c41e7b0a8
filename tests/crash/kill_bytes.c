// SPDX-License-Identifier: MIT
/*
 * kill_bytes - a client killed at each instruction after which a byte of shared memory differs
 *
 * It goes through one call while the pool's whole memory is compared with what it was one step (stepper.h) before. At the first
 * difference it is killed; another goes to the second, and so on. What it may leave in shared memory is a block half
 * filled: the books never say so, and the next owner finds what a new block must read.
 */
#include <stdio.h>
#include <string.h>

#include "kill_step.h"
#include "tests/lib/daemon.h"

#define POOL_BYTES (64u << 10)
#define FIRST	   4096u /* offset of a pool's first byte */
#define STATES_MAX 500	 /* more than any of the calls has */

static struct daemon daemon_;
static struct mempool_client *client; /* the driver's */
static struct mempool_pool *pool;
static mempool_offset offsets[2]; /* the client's */

/* ---- the calls: small, for each vector register that is stored is a state ---- */

static bool prepare_nothing(struct mempool_pool *own)
{
	(void)own;
	return true;
}

static bool prepare_two(struct mempool_pool *own)
{
	offsets[0] = mempool_alloc(own, 48);
	offsets[1] = mempool_alloc(own, 48);
	return offsets[0] && offsets[1];
}

static bool call_alloc(struct mempool_pool *own)
{
	return mempool_alloc(own, 100) != 0;
}

static bool call_aligned(struct mempool_pool *own)
{
	return mempool_alloc_aligned(own, 64, 256) != 0;
}

static bool call_batch(struct mempool_pool *own)
{
	const size_t sizes[2] = {32, 64};

	return !mempool_alloc_batch(own, 2, sizes, offsets);
}

static bool call_realloc(struct mempool_pool *own)
{
	return mempool_realloc(own, offsets[0], 120) != 0;
}

static bool call_free(struct mempool_pool *own)
{
	return !mempool_free(own, offsets[0]);
}

static bool call_publish(struct mempool_pool *own)
{
	return !mempool_publish(own, offsets[0], "it");
}

static bool call_retain(struct mempool_pool *own)
{
	return !mempool_retain(own, offsets[0]);
}

static const struct kill_step_call calls[] = {
	{"alloc", prepare_nothing, call_alloc},
	{"alloc_aligned", prepare_nothing, call_aligned},
	{"alloc_batch", prepare_nothing, call_batch},
	{"realloc", prepare_two, call_realloc},
	{"free", prepare_two, call_free},
	{"retain", prepare_two, call_retain},
	{"publish", prepare_two, call_publish},
};

/* ---- the driver ---- */

static bool has_changed(void)
{
	static unsigned char before[POOL_BYTES];
	const unsigned char *now = mempool_ptr(pool, FIRST);

	if (!memcmp(before, now, POOL_BYTES))
		return false;
	memcpy(before, now, POOL_BYTES);
	return true;
}

/* The dead client's session is over, and whatever it had is free: all of the pool can be had, and reads as new. */
static int audit(const struct kill_step_call *call, unsigned state)
{
	struct mempool_stats stats;
	mempool_offset offset, all;
	int r;

	kill_step_await_end(client);
	if (!mempool_find(pool, "it", &offset) && mempool_free(pool, offset))
		return kill_step_failed(call, state, "free of what it published", 0);
	r = mempool_pool_check(pool, stderr);
	if (!r)
		r = mempool_pool_stats(pool, &stats);
	if (r || stats.used || stats.allocations)
		return kill_step_failed(call, state, "the books are not as they were", r ? r : (long)stats.used);
	all = mempool_alloc(pool, POOL_BYTES);
	for (unsigned i = 0; all && i < POOL_BYTES; i++)
		if (((unsigned char *)mempool_ptr(pool, all))[i] != 0xCC)
			return kill_step_failed(call, state, "a byte of new memory is not new", i);
	if (all) /* or the next fill would change nothing */
		memset(mempool_ptr(pool, all), 0x55, POOL_BYTES);
	return all && !mempool_free(pool, all) ? 0 : kill_step_failed(call, state, "the pool cannot be had", 0);
}

static int kill_at(const struct kill_step_call *call, unsigned n)
{
	const struct kill_step_driver driver = {.socket = daemon_.socket, .has_changed = has_changed};
	int r = kill_step_at(&driver, call, n);

	return r < 0 || audit(call, n) ? -1 : r;
}

int main(void)
{
	unsigned n_all = 0;
	int r;

	r = kill_step_begin(&daemon_, POOL_BYTES, NULL, &client, &pool);
	if (!r)
		r = audit(&calls[0], 0);
	printf("a client killed at each instruction after which a byte of the pool differs:");
	for (size_t i = 0; !r && i < N_ELEMENTS(calls); i++) {
		unsigned n = 0;

		do {
			r = kill_at(&calls[i], ++n);
		} while (r == 1 && n < STATES_MAX);
		printf("%s %s %u", i ? "," : "", calls[i].name, n - 1);
		fflush(stdout);
		n_all += n - 1;
	}
	printf("; %u states\n", n_all);
	mempool_pool_close(pool);
	mempool_disconnect(client);
	if (!r && !n_all) {
		fprintf(stderr, "no call changed a byte\n");
		r = -1;
	}
	if (r)
		fprintf(stderr, "FAILED: %d\n", r);
	daemon_deinit(&daemon_);
	return r ? 1 : 0;
}
