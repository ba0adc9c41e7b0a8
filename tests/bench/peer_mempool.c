// SPDX-License-Identifier: MIT
/* peer_mempool - the loops over mempool's public API; the daemon is the one at $MEMPOOL_SOCKET, its instance $BENCH_INSTANCE */
#include <errno.h>
#include <mempool/mempool.h>

#define PEER_IS_SHARED 1
#include "peers_loops.h"
#include "tests/lib/daemon.h"

#define N_POOLS 64u

static struct mempool_client *client;
static struct mempool_pool *pool;
static char name_of_pool[MEMPOOL_NAME_MAX + 1];

static void must(int r)
{
	if (r)
		fail(mempool_last_error());
}

static struct mempool_pool *pool_new(const char *name, uint64_t bytes, bool fill)
{
	struct mempool_pool_options options;
	struct mempool_pool *made;

	mempool_pool_options_init(&options);
	options.fill = fill ? MEMPOOL_FILL_PATTERN : MEMPOOL_FILL_NONE;
	options.lifetime = MEMPOOL_LIFETIME_POOL; /* what one worker leaves, the other frees */
	must(mempool_pool_create(client, name, bytes, &options, &made));
	return made;
}

static void peer_make(uint64_t bytes, bool fill)
{
	must(mempool_connect(&client, NULL));
	snprintf(name_of_pool, sizeof(name_of_pool), "bench-peers-%d", (int)getpid());
	pool = pool_new(name_of_pool, bytes, fill);
}

static void peer_join(void)
{
	must(mempool_connect(&client, NULL)); /* a session of its own; the parent's handles are not for a child */
	must(mempool_pool_open(client, name_of_pool, &pool));
}

static void peer_end(void)
{
	mempool_pool_close(pool);
	must(mempool_pool_destroy(client, name_of_pool, 0));
	mempool_disconnect(client);
}

static inline void *peer_get(uint32_t size)
{
	mempool_offset offset = mempool_alloc(pool, size);

	return offset ? mempool_ptr(pool, offset) : NULL;
}

static inline void peer_put(void *block, uint32_t size)
{
	int r = mempool_free(pool, mempool_offset_of(pool, block));

	(void)size;
	if (__builtin_expect(r, 0))
		must(r);
}

static inline uint64_t peer_token(void *block)
{
	return mempool_offset_of(pool, block);
}

static inline void *peer_block(uint64_t token)
{
	return mempool_ptr(pool, token);
}

static uint64_t peer_held_bytes(void)
{
	const char *instance = getenv("BENCH_INSTANCE");
	int64_t n = instance ? daemon_held_bytes(instance) : -1;

	if (n < 0)
		fail("BENCH_INSTANCE is not set, or /dev/shm cannot be read");
	return (uint64_t)n;
}

/* ---- cases of its own ---- */

#define POOLS_CHUNK \
	(64 * N_POOLS) /* a pool's first calls are requests, however long they take: the first chunk has them */

static double pools_for(struct mempool_pool *pools[], uint64_t ns)
{
	uint64_t begin = now_ns(), n = 0, end;

	do {
		for (uint32_t i = 0; i < POOLS_CHUNK; i++) {
			pool = pools[i % N_POOLS];
			put(get(64), 64);
		}
		n += POOLS_CHUNK;
		end = now_ns();
	} while (end - begin < ns);
	return (double)(end - begin) / (double)n;
}

static double pools_case(void)
{
	struct mempool_pool *pools[N_POOLS];
	double ns;

	must(mempool_connect(&client, NULL));
	for (unsigned i = 0; i < N_POOLS; i++)
		pools[i] = pool_new(NULL, 64 * MIB, false);
	(void)pools_for(pools, WARM_NS);
	ns = pools_for(pools, MEASURE_NS);
	for (unsigned i = 0; i < N_POOLS; i++)
		mempool_pool_close(pools[i]);
	mempool_disconnect(client);
	return ns;
}

/* One allocates 1000 blocks of 64 bytes, the other takes them over, and frees them. */
static double work_take(unsigned id)
{
	uint64_t begin, ns = 0, n = 0;

	if (!id)
		both->sets[1][0] = mempool_session(client);
	for (unsigned round = 0; round < 100; round++) {
		for (unsigned i = 0; !id && i < N_SET; i++)
			both->sets[0][i] = peer_token(get(64));
		meet();
		begin = now_ns();
		for (unsigned i = 0; id && i < N_SET; i++)
			must(mempool_take(pool, both->sets[0][i], both->sets[1][0]));
		if (round >= 10) { /* warm */
			ns += now_ns() - begin;
			n += N_SET;
		}
		for (unsigned i = 0; id && i < N_SET; i++)
			put(peer_block(both->sets[0][i]), 64);
		meet();
	}
	return (double)ns / (double)n;
}

static bool peer_case(const char *name, double *resultp)
{
	if (!strcmp(name, "pools-64")) {
		*resultp = pools_case();
	} else if (!strcmp(name, "take")) {
		run_two(work_take);
		*resultp = both->ns[1];
	} else {
		return false;
	}
	return true;
}
