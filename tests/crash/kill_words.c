// SPDX-License-Identifier: MIT
/*
 * kill_words - a client killed at each instruction after which a byte of the lease segment differs
 *
 * It is stepped through one operation of its heap. At the n-th difference it stands still: what the daemon says is in use is what the
 * words say, and lies between what the client had before the operation and what it has after it. Then it is killed: whatever
 * was its own is free, a block of the driver's is either still the driver's or free, the books have no fault, and all of
 * the pool can be had. The next client goes one difference further.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kill_step.h"
#include "proto/lease.h"
#include "tests/lib/daemon.h"

#define POOL_BYTES  (2u << 20)
#define HEAPS_BYTES 4096u /* of each array, as much as the operations touch: */
#define SLABS_BYTES 4096u
#define WORDS_BYTES 32768u
#define WARM_CALLS  300u
#define STATES_MAX  1000u
#define LARGE_BYTES 40960u /* a class of its own */

struct shared {		      /* with the clients */
	mempool_offset given; /* the driver's block */
	uint64_t driver;      /* its session */
};

struct copy {
	uint8_t heaps[HEAPS_BYTES], slabs[SLABS_BYTES], words[WORDS_BYTES];
};

struct call {
	struct kill_step_call step; /* the first: what is stepped is told by it */
	bool with_given;
	int n_more; /* live slots after it, */
	uint32_t slot_bytes;
};

static struct shared *shared;
static struct daemon daemon_;
static struct mempool_client *client; /* the driver's */
static struct mempool_pool *pool;
static const uint8_t *segment;
static struct lease_header layout;
static mempool_offset offsets[200]; /* the client's */

/* ---- operations ---- */

static bool alloc_many(struct mempool_pool *own, unsigned from, unsigned n)
{
	for (unsigned i = from; i < from + n; i++) {
		offsets[i] = mempool_alloc(own, 64);
		if (!offsets[i])
			return false;
	}
	return true;
}

static bool free_many(struct mempool_pool *own, unsigned from, unsigned n)
{
	for (unsigned i = from; i < from + n; i++)
		if (mempool_free(own, offsets[i]))
			return false;
	return true;
}

/* Its thread has a heap. */
static bool warm_up(struct mempool_pool *own)
{
	for (unsigned i = 0; i < WARM_CALLS; i++) {
		mempool_offset offset = mempool_alloc(own, 64);

		if (!offset || mempool_free(own, offset))
			return false;
	}
	return true;
}

static bool prepare_two(struct mempool_pool *own)
{
	return warm_up(own) && alloc_many(own, 0, 2);
}

static bool prepare_full(struct mempool_pool *own) /* a magazine that one of the next frees finds full */
{
	return warm_up(own) && alloc_many(own, 0, 100) && free_many(own, 0, 60);
}

static bool prepare_large(struct mempool_pool *own)
{
	offsets[0] = warm_up(own) ? mempool_alloc(own, LARGE_BYTES) : 0;
	return offsets[0];
}

static bool prepare_large_cached(struct mempool_pool *own)
{
	return prepare_large(own) && !mempool_free(own, offsets[0]);
}

static bool call_alloc(struct mempool_pool *own)
{
	return alloc_many(own, 0, 1);
}

static bool call_refill(struct mempool_pool *own)
{
	return alloc_many(own, 2, 40);
}

static bool call_lease(struct mempool_pool *own) /* a class that it has nothing of */
{
	return mempool_alloc(own, 700);
}

static bool call_free(struct mempool_pool *own)
{
	return free_many(own, 0, 1);
}

static bool call_flush(struct mempool_pool *own)
{
	return free_many(own, 60, 12);
}

static bool call_free_given(struct mempool_pool *own)
{
	return !mempool_free(own, shared->given);
}

static bool call_take(struct mempool_pool *own)
{
	return !mempool_take(own, shared->given, shared->driver);
}

static bool call_alloc_large(struct mempool_pool *own)
{
	return mempool_alloc(own, LARGE_BYTES);
}

static bool call_retain(struct mempool_pool *own)
{
	return !mempool_retain(own, offsets[0]);
}

static const struct call calls[] = {
	{{"alloc", warm_up, call_alloc}, false, 1, 64},
	{{"free", prepare_two, call_free}, false, -1, 64},
	{{"free of another's", warm_up, call_free_given}, true, -1, 64},
	{{"take", warm_up, call_take}, true, 0, 64},
	{{"refill", prepare_two, call_refill}, false, 40, 64},
	{{"flush", prepare_full, call_flush}, false, -12, 64},
	{{"lease", warm_up, call_lease}, false, 1, 704},
	{{"large alloc", prepare_large_cached, call_alloc_large}, false, 1, LARGE_BYTES},
	{{"large free", prepare_large, call_free}, false, -1, LARGE_BYTES},
	{{"retain", prepare_two, call_retain}, false, 0, 64},
};

/* ---- the driver ---- */

static bool has_changed(void)
{
	static struct copy before;

	if (!memcmp(before.words, segment + layout.words_at, WORDS_BYTES) &&
	    !memcmp(before.slabs, segment + layout.slabs_at, SLABS_BYTES) &&
	    !memcmp(before.heaps, segment + layout.heaps_at, HEAPS_BYTES))
		return false;
	memcpy(before.heaps, segment + layout.heaps_at, HEAPS_BYTES);
	memcpy(before.slabs, segment + layout.slabs_at, SLABS_BYTES);
	memcpy(before.words, segment + layout.words_at, WORDS_BYTES);
	return true;
}

/* Bytes of live slots, by descriptors and words. */
static uint64_t live_bytes(void)
{
	uint64_t n_bytes = 0;

	for (uint32_t id = 0; id < layout.n_slabs; id++) {
		const struct lease_slab *slab =
			(const struct lease_slab *)(const void *)(segment + layout.slabs_at) + id;
		const uint16_t *words = (const uint16_t *)(const void *)(segment + layout.words_at) + slab->first_word;

		for (uint32_t i = 0; slab->slot_bytes && i < slab->n_slots; i++)
			n_bytes += lease_is_live(words[i]) ? slab->slot_bytes : 0;
	}
	return n_bytes;
}

static int used_now(const struct kill_step_call *call, unsigned state, uint64_t *usedp)
{
	struct mempool_stats stats;
	int r = mempool_pool_stats(pool, &stats);

	if (r)
		return kill_step_failed(call, state, "stats", r);
	if (stats.used + stats.free + stats.leased_idle != stats.total)
		return kill_step_failed(call, state, "figures do not add up", (long)stats.used);
	*usedp = stats.used;
	return 0;
}

static int audit(const struct kill_step_call *call, unsigned state)
{
	uint64_t used = 0;
	mempool_offset all;
	int r;

	kill_step_await_end(client);
	if (used_now(call, state, &used))
		return -1;
	if (used != live_bytes())
		return kill_step_failed(call, state, "after the end the words say otherwise than the books",
					(long)used);
	if (used && (!shared->given || mempool_free(pool, shared->given)))
		return kill_step_failed(call, state, "something is left that is nobody's", (long)used);
	r = mempool_pool_check(pool, stderr);
	if (r || used_now(call, state, &used) || used)
		return kill_step_failed(call, state, "the books are not as they were", r ? r : (long)used);
	all = mempool_alloc(pool, POOL_BYTES);
	return all && !mempool_free(pool, all) ? 0 : kill_step_failed(call, state, "the pool cannot be had", 0);
}

static uint64_t used_before;

static int look_before(const struct kill_step_call *call, unsigned n)
{
	return used_now(call, n, &used_before);
}

/* Its operation has happened, or not, or in part. */
static int look_after(const struct kill_step_call *step, unsigned n, bool is_done)
{
	const struct call *call = (const struct call *)(const void *)step;
	uint64_t before = used_before, after = before + (uint64_t)call->n_more * call->slot_bytes, used = 0;

	if (used_now(step, n, &used))
		return -1;
	if (used != live_bytes())
		return kill_step_failed(step, n, "the words say otherwise than the books", (long)used);
	if (is_done ? used != after
		    : used < (before < after ? before : after) || used > (before < after ? after : before))
		return kill_step_failed(step, n, "in use, more than the operation explains", (long)(used - before));
	return 0;
}

static int give_block(const struct call *call)
{
	shared->given = 0;
	if (!call->with_given)
		return 0;
	if (!warm_up(pool))
		return -1;
	shared->given = mempool_alloc(pool, 64);
	return shared->given ? 0 : -1;
}

static int kill_at(const struct call *call, unsigned n)
{
	const struct kill_step_driver driver = {
		.socket = daemon_.socket,
		.has_changed = has_changed,
		.look_before = look_before,
		.look_after = look_after,
	};
	int r;

	if (give_block(call))
		return kill_step_failed(&call->step, n, "the driver's block", 0);
	r = kill_step_at(&driver, &call->step, n);
	return r < 0 || audit(&call->step, n) ? -1 : r;
}

/* The lease segment of the only pool that has one. */
static int map_segment(void)
{
	DIR *dir = opendir("/dev/shm");
	struct dirent *entry;

	while (dir && !segment && (entry = readdir(dir))) {
		char path[300];
		int fd;

		if (!strstr(entry->d_name, daemon_.instance))
			continue;
		snprintf(path, sizeof(path), "/dev/shm/%s", entry->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd >= 0 && pread(fd, &layout, sizeof(layout), 0) == sizeof(layout) && layout.magic == LEASE_MAGIC) {
			void *map = mmap(NULL, layout.file_bytes, PROT_READ, MAP_SHARED, fd, 0);

			segment = map == MAP_FAILED ? NULL : map;
		}
		if (fd >= 0)
			close(fd);
	}
	if (dir)
		closedir(dir);
	return segment ? 0 : -ENOENT;
}

static int begin(void)
{
	const struct mempool_pool_options options = {.struct_size = sizeof(options), .fill = MEMPOOL_FILL_NONE};
	int r = kill_step_begin(&daemon_, POOL_BYTES, &options, &client, &pool);

	if (!r)
		r = map_segment();
	shared->driver = r ? 0 : mempool_session(client);
	return r;
}

int main(void)
{
	unsigned n_all = 0;
	int r;

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	r = shared == MAP_FAILED ? -ENOMEM : begin();
	printf("a client killed at each instruction after which a byte of the lease segment differs:");
	for (size_t i = 0; !r && i < N_ELEMENTS(calls); i++) {
		unsigned n = 0;

		do {
			r = kill_at(&calls[i], ++n);
		} while (r == 1 && n < STATES_MAX);
		printf("%s %s %u", i ? "," : "", calls[i].step.name, n - 1);
		fflush(stdout);
		if (!r && n == 1)
			r = kill_step_failed(&calls[i].step, n, "the operation changed no byte", 0);
		n_all += n - 1;
	}
	printf("; %u states\n", n_all);
	mempool_pool_close(pool);
	mempool_disconnect(client);
	if (r)
		fprintf(stderr, "FAILED: %d\n", r);
	daemon_deinit(&daemon_);
	return r ? 1 : 0;
}
