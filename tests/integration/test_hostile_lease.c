// SPDX-License-Identifier: MIT
/*
 * What a client must not be able to do by its lease segment, which it can write, cut short and punch. Each attack wrecks it in its own
 * way while it asks for everything that has the daemon read there; hostile.h has the scene, with a canary on another pool.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#include "proto/lease.h"
#include "tests/integration/hostile.h"
#include "tests/lib/rnd.h"
#include "tests/lib/test.h"

enum {
	POOL_BYTES = 8 << 20,
	N_SLABS = 24,
	N_BLOCKS = 64,
	N_ROUNDS = 40,
	MOST_BYTES = 1 << 20, /* of the segment that are overwritten: its arrays begin there */
};

struct victim {
	struct wire wire;
	uint64_t pool, blocks[N_BLOCKS];
	uint32_t heap, slabs[N_SLABS];
	unsigned n_slabs;
	int fd; /* of the lease segment */
	uint8_t *map;
	struct lease_header layout; /* as it was */
	struct rnd rnd;
};

/* ---- requests ---- */

static void open_heap(struct victim *v)
{
	Mempool__Wire__OpenHeap open = MEMPOOL__WIRE__OPEN_HEAP__INIT;
	Mempool__Wire__Request request = WIRE_REQUEST(OPEN_HEAP, open_heap, &open);
	Mempool__Wire__Reply *reply = NULL;

	open.has_pool = open.has_wants_segment = open.wants_segment = 1;
	open.pool = v->pool;
	CHECK(wire_ask(&v->wire, &request, &reply) == 0);
	v->heap = reply->heap->heap;
	v->fd = fcntl(v->wire.fd, F_DUPFD_CLOEXEC, 0);
	CHECK(v->fd >= 0);
	v->map = mmap(NULL, reply->heap->lease_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
	CHECK(v->map != MAP_FAILED);
	memcpy(&v->layout, v->map, sizeof(v->layout));
	CHECK(v->layout.magic == LEASE_MAGIC && v->layout.file_bytes == reply->heap->lease_bytes);
	mempool__wire__reply__free_unpacked(reply, NULL);
}

/* Return: the status */
static int lease_slabs(struct victim *v, uint32_t size_class)
{
	Mempool__Wire__LeaseSlabs lease = MEMPOOL__WIRE__LEASE_SLABS__INIT;
	Mempool__Wire__Request request = WIRE_REQUEST(LEASE_SLABS, lease_slabs, &lease);
	Mempool__Wire__Reply *reply = NULL;
	int status;

	lease.has_pool = lease.has_heap = lease.has_size_class = 1;
	lease.pool = v->pool;
	lease.heap = v->heap;
	lease.size_class = size_class;
	status = wire_ask(&v->wire, &request, &reply);
	for (size_t i = 0; !status && i < reply->slabs->n_slabs; i++)
		v->slabs[v->n_slabs++ % N_SLABS] = reply->slabs->slabs[i];
	mempool__wire__reply__free_unpacked(reply, NULL);
	return status;
}

static void return_slabs(struct victim *v)
{
	Mempool__Wire__ReturnSlabs give = MEMPOOL__WIRE__RETURN_SLABS__INIT;
	Mempool__Wire__Request request = WIRE_REQUEST(RETURN_SLABS, return_slabs, &give);

	give.has_pool = 1;
	give.pool = v->pool;
	give.n_slabs = N_SLABS;
	give.slabs = v->slabs;
	CHECK(wire_ask(&v->wire, &request, NULL) == 0);
}

/* In every snapshot the figures add up, whatever words say. */
static void check_stats(struct victim *v)
{
	Mempool__Wire__Stats stats = MEMPOOL__WIRE__STATS__INIT;
	Mempool__Wire__Request request = WIRE_REQUEST(STATS, stats, &stats);
	Mempool__Wire__Reply *reply = NULL;

	stats.has_pool = 1;
	stats.pool = v->pool;
	CHECK(wire_ask(&v->wire, &request, &reply) == 0);
	CHECK(reply->stats->used + reply->stats->free + reply->stats->leased_idle == POOL_BYTES);
	mempool__wire__reply__free_unpacked(reply, NULL);
}

static void list_extents(struct victim *v)
{
	Mempool__Wire__ListExtents list = MEMPOOL__WIRE__LIST_EXTENTS__INIT;
	Mempool__Wire__Request request = WIRE_REQUEST(LIST_EXTENTS, list_extents, &list);

	list.has_pool = 1;
	list.pool = v->pool;
	CHECK(wire_ask(&v->wire, &request, NULL) == 0);
}

/* Return: faults found; whether the report tells of damage in @tellsp */
static uint64_t check_pool(struct victim *v, bool *tellsp)
{
	Mempool__Wire__Check check = MEMPOOL__WIRE__CHECK__INIT;
	Mempool__Wire__Request request = WIRE_REQUEST(CHECK, check, &check);
	Mempool__Wire__Reply *reply = NULL;
	uint64_t n;

	check.has_pool = 1;
	check.pool = v->pool;
	CHECK(wire_ask(&v->wire, &request, &reply) == 0);
	n = reply->check->n_faults;
	*tellsp = false;
	for (size_t i = 0; i < reply->check->n_faults; i++)
		*tellsp |= strstr(reply->check->faults[i]->what, "leases are damaged") != NULL;
	mempool__wire__reply__free_unpacked(reply, NULL);
	return n;
}

/* Whatever has the daemon look into the lease segment. Blocks by request never overlap: each is written and read again. */
static void ask_around(struct victim *v)
{
	uint64_t offset = 4096 + 16 * rnd_below(&v->rnd, POOL_BYTES / 16),
		 *block = &v->blocks[rnd_below(&v->rnd, N_BLOCKS)];
	bool tells;
	int r;

	(void)lease_slabs(v, (uint32_t)rnd_below(&v->rnd, SIZE_CLASS_N));
	if (*block)
		CHECK(hostile_free(&v->wire, v->pool, *block) == 0);
	r = hostile_alloc(&v->wire, v->pool, 1 + rnd_below(&v->rnd, 100000), block);
	CHECK(r == 0 || r == -ENOSPC);
	if (r)
		*block = 0;
	for (unsigned i = 0; i < N_BLOCKS; i++)
		if (v->blocks[i] == offset)
			return;
	r = hostile_free(&v->wire, v->pool, offset); /* some slot, or none */
	CHECK(r <= 0);
	return_slabs(v);
	check_stats(v);
	list_extents(v);
	(void)check_pool(v, &tells);
}

/* ---- wrecks ---- */

static void write_random(struct victim *v)
{
	uint64_t at = LEASE_PAGE_BYTES, n = 1 + rnd_below(&v->rnd, 4096);
	const uint64_t places[] = {v->layout.heaps_at, v->layout.pages_at, v->layout.slabs_at, v->layout.words_at};
	uint8_t bytes[4096];

	at = places[rnd_below(&v->rnd, N_ELEMENTS(places))] + rnd_below(&v->rnd, 8192);
	for (uint64_t i = 0; i < n; i++)
		bytes[i] = (uint8_t)rnd_next(&v->rnd);
	CHECK(pwrite(v->fd, bytes, n, (off_t)at) == (ssize_t)n);
}

static void fill_words(struct victim *v)
{
	uint8_t bytes[4096];

	memset(bytes, 0xff, sizeof(bytes)); /* no word is that */
	for (unsigned i = 0; i < 8; i++)
		CHECK(pwrite(v->fd, bytes, sizeof(bytes), (off_t)(v->layout.words_at + i * sizeof(bytes))) ==
		      (ssize_t)sizeof(bytes));
}

static void cut(struct victim *v)
{
	CHECK(ftruncate(v->fd, (off_t)rnd_below(&v->rnd, 4) * (off_t)v->layout.slabs_at / 3) == 0);
}

static void stretch(struct victim *v)
{
	CHECK(ftruncate(v->fd, 0) == 0 && ftruncate(v->fd, (off_t)v->layout.file_bytes) == 0);
}

static void punch(struct victim *v)
{
	CHECK(fallocate(v->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)v->layout.words_at,
			(off_t)(v->layout.file_bytes - v->layout.words_at)) == 0);
}

static _Atomic bool is_over;

static void *race(void *arg)
{
	struct victim *v = arg;
	struct rnd rnd;

	rnd_init(&rnd, 1);
	while (!atomic_load(&is_over)) {
		uint16_t word = (uint16_t)rnd_next(&rnd);
		uint64_t at = v->layout.words_at + 2 * rnd_below(&rnd, 16384);
		uint32_t custody = (uint32_t)rnd_below(&rnd, 3);

		if (pwrite(v->fd, &word, sizeof(word), (off_t)at) < 0)
			break;
		at = v->layout.slabs_at + rnd_below(&rnd, N_SLABS) * sizeof(struct lease_slab) +
		     offsetof(struct lease_slab, custody);
		if (pwrite(v->fd, &custody, sizeof(custody), (off_t)at) < 0)
			break;
	}
	return NULL;
}

/* ---- attacks ---- */

/* As a client does that has a block there: so the slab is not taken back. */
static void make_live(const struct victim *v, uint32_t id)
{
	const struct lease_slab *slab = (const struct lease_slab *)(const void *)(v->map + v->layout.slabs_at) + id;
	uint16_t word = lease_live_of(v->heap);

	CHECK(pwrite(v->fd, &word, sizeof(word), (off_t)(v->layout.words_at + slab->first_word * sizeof(word))) ==
	      (ssize_t)sizeof(word));
}

static void set_up(struct victim *v, const struct daemon *d)
{
	*v = (struct victim){.wire = hostile_greet(d)};
	rnd_init(&v->rnd, rnd_seed_from_env_or_time());
	v->pool = hostile_create(&v->wire, "victim", POOL_BYTES);
	open_heap(v);
	while (v->n_slabs < N_SLABS / 2)
		CHECK(lease_slabs(v, (uint32_t)rnd_below(&v->rnd, SIZE_CLASS_CUT_N)) == 0);
	for (unsigned i = 0; i < v->n_slabs && i < N_SLABS; i++)
		make_live(v, v->slabs[i]);
}

/* The daemon still serves the pool; it is damaged, which its check and one line in the log say. */
static void check_damaged(struct victim *v, const struct daemon *d)
{
	uint64_t offset;
	bool tells;

	check_stats(v);
	CHECK(check_pool(v, &tells) > 0 && tells);
	CHECK(lease_slabs(v, 3) == -ENOSPC);
	CHECK(daemon_log_count(d, "error: pool \"victim\" is damaged: ") == 1);
	CHECK(daemon_log_count(d, "; written by: session ") == 1);
	for (unsigned i = 0; i < N_BLOCKS; i++)
		if (v->blocks[i])
			CHECK(hostile_free(&v->wire, v->pool, v->blocks[i]) == 0);
	CHECK(hostile_alloc(&v->wire, v->pool, 64, &offset) == 0 && hostile_free(&v->wire, v->pool, offset) == 0);
}

static void wreck(const struct daemon *d, void (*how)(struct victim *v), unsigned n_times)
{
	struct victim v;

	set_up(&v, d);
	for (unsigned i = 0; i < N_ROUNDS; i++) {
		if (i >= 3 && i < 3 + n_times)
			how(&v);
		ask_around(&v);
	}
	if (how == write_random) /* bytes at random may be words: at the end some that are not */
		fill_words(&v);
	ask_around(&v);
	check_damaged(&v, d);
}

static void attack_with_bytes(const struct daemon *d)
{
	wreck(d, write_random, N_ROUNDS);
}

static void attack_with_words(const struct daemon *d)
{
	wreck(d, fill_words, 1);
}

static void attack_by_cutting(const struct daemon *d)
{
	wreck(d, cut, N_ROUNDS);
}

static void attack_by_stretching(const struct daemon *d)
{
	wreck(d, stretch, 1);
}

static void attack_by_punching(const struct daemon *d)
{
	wreck(d, punch, 1);
}

static void attack_by_racing(const struct daemon *d)
{
	pthread_t thread;
	struct victim v;

	set_up(&v, d);
	CHECK(!pthread_create(&thread, NULL, race, &v));
	for (unsigned i = 0; i < 4 * N_ROUNDS; i++)
		ask_around(&v);
	atomic_store(&is_over, true);
	CHECK(!pthread_join(thread, NULL));
	fill_words(&v);
	ask_around(&v);
	check_damaged(&v, d);
}

/* Its death is swept over what it left. */
static void attack_and_die(const struct daemon *d)
{
	struct victim v;

	set_up(&v, d);
	for (unsigned i = 0; i < N_ROUNDS / 2; i++) {
		write_random(&v);
		(void)lease_slabs(&v, (uint32_t)rnd_below(&v.rnd, SIZE_CLASS_N));
	}
	fill_words(&v);
	raise(SIGKILL);
}

/* ---- tests ---- */

#define ATTACK_TEST(name, how)                                     \
	static void name(void **state)                             \
	{                                                          \
		(void)state;                                       \
		hostile_run(&(const struct attack){.run = (how)}); \
	}

ATTACK_TEST(test_hostile_lease_bytes_are_judged, attack_with_bytes)
ATTACK_TEST(test_hostile_lease_words_are_judged, attack_with_words)
ATTACK_TEST(test_hostile_lease_is_cut_short, attack_by_cutting)
ATTACK_TEST(test_hostile_lease_is_emptied, attack_by_stretching)
ATTACK_TEST(test_hostile_lease_is_punched, attack_by_punching)
ATTACK_TEST(test_hostile_lease_is_raced, attack_by_racing)

static void test_hostile_lease_of_a_dead_client_is_swept(void **state)
{
	(void)state;
	hostile_run(&(const struct attack){.run = attack_and_die, .dies = true});
}

#define HOSTILE(name) cmocka_unit_test_teardown(name, hostile_clean)

int main(int argc, char *argv[]) /* a pattern as in "*raced*": only those */
{
	const struct CMUnitTest tests[] = {
		HOSTILE(test_hostile_lease_bytes_are_judged),
		HOSTILE(test_hostile_lease_words_are_judged),
		HOSTILE(test_hostile_lease_is_cut_short),
		HOSTILE(test_hostile_lease_is_emptied),
		HOSTILE(test_hostile_lease_is_punched),
		HOSTILE(test_hostile_lease_is_raced),
		HOSTILE(test_hostile_lease_of_a_dead_client_is_swept),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
