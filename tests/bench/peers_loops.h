#pragma once
// SPDX-License-Identifier: MIT
/*
 * peers_loops - the loops of bench_peers, compiled once for each allocator so that none pays for an indirect call
 *
 * A program defines what is under "the allocator", includes this, and its main() is here: PROGRAM CASE prints one number. Valid as
 * C and as C++ (Boost), hence the builtin atomics and the casts. Sizes and places are random, made beforehand, and the same for all.
 *
 * A "pair" is one alloc and one free; of each block the first word is written and read. Each loop warms up, then runs for MEASURE_NS.
 * Two workers are threads of a private allocator, and processes, each with a mapping of its own, of a shared one.
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* ---- the allocator ---- */

#ifndef PEER_IS_SHARED
#error "PEER_IS_SHARED: 1 if workers are processes, 0 if they are threads"
#endif
static void peer_make(uint64_t bytes, bool fill);	 /* once, before all; fill: blocks are to be 0xCC */
static void peer_join(void);				 /* in a worker that is a process */
static void peer_end(void);				 /* once, after all */
static inline void *peer_get(uint32_t size);		 /* NULL: none */
static inline void peer_put(void *block, uint32_t size); /* size: as asked for */
static inline uint64_t peer_token(void *block);		 /* what another process finds it by */
static inline void *peer_block(uint64_t token);
static bool peer_case(const char *name, double *resultp); /* cases of its own; false: there is none of that name */
static uint64_t peer_held_bytes(void);			  /* of memory, by now */

#define WARM_NS	   30000000u
#define MEASURE_NS 100000000u
#define CHUNK	   256u /* pairs between two looks at the clock */
#define N_RANDOM   (1u << 16)
#define N_SET	   1000u
#define N_RING	   1024u
#define MIB	   (UINT64_C(1) << 20)

static void fail(const char *what) __attribute__((noreturn, cold));
static void fail(const char *what)
{
	fprintf(stderr, "bench_peers: %s\n", what);
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail */
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void *fresh_bytes(uint64_t n, int sharing)
{
	void *at = mmap(NULL, n, PROT_READ | PROT_WRITE, sharing | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (at == MAP_FAILED)
		fail("mmap found no memory");
	return at;
}

/* ---- what is random ---- */

static uint32_t sizes[N_RANDOM], places[N_RANDOM];

static void plan(uint32_t size, uint32_t size_max, uint32_t n_places)
{
	uint64_t random = UINT64_C(88172645463325252);

	for (uint32_t i = 0; i < 2 * N_RANDOM; i++) {
		random ^= random << 13; /* xorshift (Marsaglia 2003) */
		random ^= random >> 7;
		random ^= random << 17;
		if (i < N_RANDOM)
			sizes[i] = size + (uint32_t)(random >> 16) % (size_max - size + 1);
		else
			places[i - N_RANDOM] = (uint32_t)(random >> 16) % n_places;
	}
}

/* ---- one worker ---- */

struct slot {
	void *block;
	uint32_t size;
};

static inline void *get(uint32_t size)
{
	void *block = peer_get(size);

	if (__builtin_expect(!block, 0))
		fail("the allocator found no memory");
	*(volatile uint64_t *)block = size;
	return block;
}

static inline void put(void *block, uint32_t size)
{
	(void)*(volatile uint64_t *)block;
	peer_put(block, size);
}

static double pairs_for(uint32_t size, uint64_t ns)
{
	uint64_t begin = now_ns(), n = 0, end;

	do {
		for (uint32_t i = 0; i < CHUNK; i++)
			put(get(size), size);
		n += CHUNK;
		end = now_ns();
	} while (end - begin < ns);
	return (double)(end - begin) / (double)n;
}

static inline void replace(struct slot *slot, uint32_t size)
{
	put(slot->block, slot->size);
	slot->block = get(size);
	slot->size = size;
}

static double replacements_for(struct slot set[], uint64_t ns)
{
	uint64_t begin = now_ns(), end;
	uint32_t n = 0;

	do {
		for (uint32_t i = 0; i < CHUNK; i++, n++)
			replace(&set[places[n % N_RANDOM]], sizes[n % N_RANDOM]);
		end = now_ns();
	} while (end - begin < ns);
	return (double)(end - begin) / (double)n;
}

static struct slot *set_new(uint32_t n)
{
	struct slot *set = (struct slot *)fresh_bytes(n * sizeof(*set), MAP_PRIVATE);

	for (uint32_t i = 0; i < n; i++)
		set[i] = (struct slot){get(sizes[i % N_RANDOM]), sizes[i % N_RANDOM]};
	return set;
}

static void set_end(struct slot *set, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		put(set[i].block, set[i].size);
	munmap(set, n * sizeof(*set));
}

static double pair_case(bool fill)
{
	double ns;

	peer_make(64 * MIB, fill);
	(void)pairs_for(64, WARM_NS);
	ns = pairs_for(64, MEASURE_NS);
	peer_end();
	return ns;
}

static double mixed_case(uint32_t size, uint32_t size_max, uint32_t n_live, bool fill)
{
	struct slot *set;
	double ns;

	peer_make((size_max > 1024 || n_live > N_SET ? 512 : 64) * MIB, fill);
	plan(size, size_max, n_live);
	set = set_new(n_live);
	(void)replacements_for(set, WARM_NS);
	ns = replacements_for(set, MEASURE_NS);
	set_end(set, n_live);
	peer_end();
	return ns;
}

/* memory_case() - bytes held for each byte asked for; @n_rounds: half of the blocks are freed and others allocated, so many times */
static double memory_case(uint32_t size, uint32_t size_max, uint32_t n_live, unsigned n_rounds)
{
	uint64_t before = peer_held_bytes(), n_asked = 0, random = 1;
	struct slot *set;
	double ratio;

	peer_make(512 * MIB, false);
	plan(size, size_max, n_live);
	set = set_new(n_live); /* its own pages are taken off below */
	for (unsigned round = 0; round < n_rounds; round++) {
		for (uint32_t i = 0; i < n_live; i++) {
			random = random * UINT64_C(6364136223846793005) + 1442695040888963407u; /* Knuth's MMIX */
			if (random >> 63) {
				put(set[i].block, set[i].size);
				set[i].block = NULL;
			}
		}
		for (uint32_t i = 0; i < n_live; i++) {
			if (!set[i].block)
				set[i] = (struct slot){get(sizes[(i + 7919 * (round + 1)) % N_RANDOM]),
						       sizes[(i + 7919 * (round + 1)) % N_RANDOM]};
		}
	}
	for (uint32_t i = 0; i < n_live; i++) {
		memset(set[i].block, 1, set[i].size); /* what was asked for is there */
		n_asked += set[i].size;
	}
	ratio = (double)(peer_held_bytes() - before - (PEER_IS_SHARED ? 0 : n_live * sizeof(*set))) / (double)n_asked;
	set_end(set, n_live);
	peer_end();
	return ratio;
}

/* ---- two workers ---- */

static struct both { /* shared by the workers */
	_Alignas(128) uint32_t n_here;
	_Alignas(128) uint32_t turn;
	_Alignas(128) uint32_t phase;
	_Alignas(128) uint64_t n_put;
	_Alignas(128) uint64_t n_got;
	_Alignas(128) uint64_t ring[N_RING];
	uint64_t sets[2][N_SET];
	double ns[2];
} * both;

static inline void wait_a_little(uint32_t *np)
{
	if (++*np % 4000)
		__builtin_ia32_pause();
	else
		sched_yield(); /* one core is enough */
}

static void meet(void)
{
	uint32_t turn = __atomic_load_n(&both->turn, __ATOMIC_ACQUIRE), n = 0;

	if (__atomic_add_fetch(&both->n_here, 1, __ATOMIC_ACQ_REL) == 2) {
		__atomic_store_n(&both->n_here, 0, __ATOMIC_RELAXED);
		__atomic_store_n(&both->turn, turn + 1, __ATOMIC_RELEASE);
	}
	while (__atomic_load_n(&both->turn, __ATOMIC_ACQUIRE) == turn)
		wait_a_little(&n);
}

/* Each in a working set of its own. */
static double work_apart(unsigned id)
{
	struct slot *set = set_new(N_SET);
	double ns;

	(void)id;
	meet();
	(void)replacements_for(set, WARM_NS);
	meet();
	ns = replacements_for(set, MEASURE_NS);
	meet();
	set_end(set, N_SET);
	return ns;
}

/* Two sets that change hands every 1000 replacements, so that some 63 % of the frees are of the other's blocks; after larson (Larson,
 * Krishnan 1998). */
static double work_exchange(unsigned id)
{
	enum {
		WARM,
		MEASURE,
		END
	};
	uint32_t phase = WARM, step = id * 7777, set = id, next;
	uint64_t begin, n = 0;
	double ns = 0;

	for (uint32_t i = 0; i < N_SET; i++)
		both->sets[set][i] = peer_token(get(sizes[step++ % N_RANDOM]));
	meet();
	begin = now_ns();
	while (phase != END) {
		for (uint32_t i = 0; i < N_SET; i++, step++) {
			uint64_t *tokenp = &both->sets[set][places[step % N_RANDOM]];
			void *block = peer_block(*tokenp);

			put(block, (uint32_t) * (volatile uint64_t *)block);
			*tokenp = peer_token(get(sizes[step % N_RANDOM]));
		}
		n += N_SET;
		if (!id && now_ns() - begin >= (phase == WARM ? WARM_NS : MEASURE_NS))
			__atomic_store_n(&both->phase, phase + 1, __ATOMIC_RELEASE);
		meet();
		next = __atomic_load_n(&both->phase, __ATOMIC_ACQUIRE);
		set = !set;
		meet(); /* both have read it */
		ns = (double)(now_ns() - begin) / (double)n;
		if (next != phase) {
			begin = now_ns();
			n = 0;
		}
		phase = next;
	}
	meet();
	return ns;
}

/* Worker 0 allocates 64 bytes and sends them to worker 1, who frees them. */
static double work_hand_over(unsigned id)
{
	uint64_t begin = now_ns(), n_begin = 0, n_put = 0, n_got = 0, now = begin;
	bool measures = false;
	uint32_t n_waits = 0;

	meet();
	while (!id && !(measures && now - begin >= MEASURE_NS)) {
		for (uint32_t i = 0; i < 64; i++) {
			uint64_t token = peer_token(get(64));

			while (n_put - n_got == N_RING) {
				n_got = __atomic_load_n(&both->n_got, __ATOMIC_ACQUIRE);
				if (n_put - n_got == N_RING)
					wait_a_little(&n_waits);
			}
			both->ring[n_put % N_RING] = token;
			__atomic_store_n(&both->n_put, ++n_put, __ATOMIC_RELEASE);
		}
		now = now_ns();
		if (!measures && now - begin >= WARM_NS) {
			measures = true;
			begin = now;
			n_begin = n_put;
		}
	}
	if (!id)
		__atomic_store_n(&both->phase, 1, __ATOMIC_RELEASE);
	while (id) {
		bool ended = __atomic_load_n(&both->phase,
					     __ATOMIC_ACQUIRE); /* before n_put: then all that was put is seen */

		n_put = __atomic_load_n(&both->n_put, __ATOMIC_ACQUIRE);
		if (n_put == n_got && ended)
			break;
		if (n_put == n_got)
			wait_a_little(&n_waits);
		for (; n_got != n_put; __atomic_store_n(&both->n_got, ++n_got, __ATOMIC_RELEASE))
			put(peer_block(both->ring[n_got % N_RING]), 64);
	}
	meet(); /* the blocks of a session that ends are freed: it stays until all are handed over */
	return id ? 0 : (double)(now - begin) / (double)(n_put - n_begin);
}

static double (*work)(unsigned id);

static cpu_set_t cores; /* those that we may use, before anybody is pinned */

static void pin(unsigned id)
{
	int nth = (int)id % CPU_COUNT(&cores);
	cpu_set_t one;

	CPU_ZERO(&one);
	for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (CPU_ISSET(cpu, &cores) && !nth--)
			CPU_SET(cpu, &one);
	}
	(void)sched_setaffinity(0, sizeof(one), &one); /* else the scheduler decides */
}

static void *worker_main(void *id_as_pointer)
{
	unsigned id = (unsigned)(uintptr_t)id_as_pointer;

	pin(id);
	both->ns[id] = work(id);
	return NULL;
}

static void run_processes(void)
{
	pid_t pids[2];
	int status;

	for (unsigned id = 0; id < 2; id++) {
		pids[id] = fork();
		if (pids[id] < 0)
			fail("fork");
		if (pids[id])
			continue;
		peer_join();
		worker_main((void *)(uintptr_t)id);
		_exit(0);
	}
	for (unsigned id = 0; id < 2; id++) {
		if (wait(&status) < 0 || status) {
			kill(pids[0], SIGKILL); /* one waits for the other */
			kill(pids[1], SIGKILL);
			fail("a worker failed");
		}
	}
}

static void run_threads(void)
{
	pthread_t threads[2];

	for (unsigned id = 0; id < 2; id++) {
		if (pthread_create(&threads[id], NULL, worker_main, (void *)(uintptr_t)id))
			fail("pthread_create");
	}
	for (unsigned id = 0; id < 2; id++)
		pthread_join(threads[id], NULL);
}

static void run_two(double (*two)(unsigned id))
{
	work = two;
	both = (struct both *)fresh_bytes(sizeof(*both), MAP_SHARED);
	peer_make(64 * MIB, false);
	if (PEER_IS_SHARED)
		run_processes();
	else
		run_threads();
	peer_end();
}

static double two_case(double (*two)(unsigned id))
{
	plan(16, 1024, N_SET);
	run_two(two);
	return two == work_hand_over ? both->ns[0] : (both->ns[0] + both->ns[1]) / 2;
}

/* ---- which ---- */

static bool common_case(const char *name, double *resultp)
{
	const uint32_t n_live = !strncmp(name, "live-", 5) ? (uint32_t)strtoul(name + 5, NULL, 10) : 0;

	if (!strcmp(name, "pair"))
		*resultp = pair_case(false);
	else if (!strcmp(name, "pair-fill"))
		*resultp = pair_case(true);
	else if (!strcmp(name, "mixed-1k"))
		*resultp = mixed_case(16, 1024, N_SET, false);
	else if (!strcmp(name, "mixed-1k-fill"))
		*resultp = mixed_case(16, 1024, N_SET, true);
	else if (!strcmp(name, "mixed-64k"))
		*resultp = mixed_case(16, 65536, N_SET, false);
	else if (n_live)
		*resultp = mixed_case(64, 64, n_live, false);
	else if (!strcmp(name, "mixed-1k-two"))
		*resultp = two_case(work_apart);
	else if (!strcmp(name, "exchange"))
		*resultp = two_case(work_exchange);
	else if (!strcmp(name, "hand-over"))
		*resultp = two_case(work_hand_over);
	else if (!strcmp(name, "memory-64"))
		*resultp = memory_case(64, 64, 1000000, 0);
	else if (!strcmp(name, "memory-churn"))
		*resultp = memory_case(16, 1024, 200000, 10);
	else
		return false;
	return true;
}

int main(int argc, char *argv[])
{
	double result;

	if (sched_getaffinity(0, sizeof(cores), &cores))
		fail("sched_getaffinity");
	pin(1); /* the first core is where a machine's interrupts go */
	if (argc != 2 || (!common_case(argv[1], &result) && !peer_case(argv[1], &result)))
		return 2; /* not a case of this allocator */
	printf("%.3f\n", result);
	return 0;
}
