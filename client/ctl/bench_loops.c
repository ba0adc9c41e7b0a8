// SPDX-License-Identifier: MIT
/*
 * Each loop stops at a deadline, so a slow allocator takes no longer than a fast one. The same code runs over a pool and over
 * malloc(): what differs is one well-predicted branch. A block is known by a number, an offset or an address, that its reader
 * makes an address of; its first word is written and read, as a program would.
 *
 * Two workers meet at a barrier and talk through struct bench_shared; nobody sleeps there, since waking costs more than
 * what is measured. They yield instead, so that one core is enough.
 */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ctl/bench.h"

#define CHUNK	  64u	 /* operations between two looks at the clock */
#define SPINS	  2000u	 /* before the processor is offered to others */
#define N_SAMPLES 16384u /* of requests and echoes; enough for what a run has time for */

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail */
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint32_t random_below(struct bench_worker *worker, uint32_t n)
{
	worker->random ^= worker->random << 13; /* xorshift (Marsaglia 2003) */
	worker->random ^= worker->random >> 7;
	worker->random ^= worker->random << 17;
	return (uint32_t)((worker->random >> 32) * n >> 32);
}

void bench_fail(struct bench_worker *worker, int r, const char *sentence)
{
	struct bench_failure *failure = &worker->shared->failures[worker->id];

	snprintf(failure->sentence, sizeof(failure->sentence), "%s", sentence);
	failure->r = r;
	_exit(EXIT_OTHER); /* the other worker as well, if it is a thread */
}

static void fail_of_library(struct bench_worker *worker, int r) __attribute__((noreturn, cold));
static void fail_of_library(struct bench_worker *worker, int r)
{
	if (!worker->pool)
		bench_fail(worker, -ENOMEM, "malloc found no memory");
	bench_fail(worker, r, mempool_last_error());
}

/* ---- blocks ---- */

static inline void touch(void *at, uint64_t value)
{
	*(volatile uint64_t *)at = value;
}

static inline uint64_t look(const void *at)
{
	return *(const volatile uint64_t *)at;
}

static inline void *block_address(const struct bench_worker *worker, uint64_t block)
{
	return worker->pool ? mempool_ptr(worker->pool, block) : (void *)(uintptr_t)block; /* NOLINT: it was one */
}

/* block_get() - of @size bytes, its first word written */
static inline uint64_t block_get(struct bench_worker *worker, uint32_t size)
{
	uint64_t block = worker->pool ? mempool_alloc(worker->pool, size) : (uint64_t)(uintptr_t)malloc(size);

	if (__builtin_expect(!block, 0))
		fail_of_library(worker, -errno);
	if (!worker->pool && worker->job->fill == MEMPOOL_FILL_PATTERN)
		memset(block_address(worker, block), 0xCC, size); /* the library does it for a pool */
	touch(block_address(worker, block), block);
	return block;
}

static inline void block_put(struct bench_worker *worker, uint64_t block)
{
	int r = 0;

	look(block_address(worker, block));
	if (worker->pool)
		r = mempool_free(worker->pool, block);
	else
		free((void *)(uintptr_t)block); /* NOLINT: as above */
	if (__builtin_expect(r, 0))
		fail_of_library(worker, r);
}

static uint32_t next_size(struct bench_worker *worker)
{
	const struct bench_job *job = worker->job;

	return job->size + random_below(worker, job->size_max - job->size + 1);
}

/* ---- two workers ---- */

static inline void spin(uint32_t *n_spinsp)
{
	if (++*n_spinsp < SPINS) {
		atomic_signal_fence(memory_order_seq_cst); /* a pause, as far as C has one */
		return;
	}
	*n_spinsp = 0;
	sched_yield();
}

/* meet() - wait until both are here. The last sets the count back before it lets the other go, who counts anew only then. */
static void meet(struct bench_shared *shared)
{
	uint32_t turn = atomic_load(&shared->turn), n_spins = 0;

	if (atomic_fetch_add(&shared->n_here, 1) + 1 == BENCH_WORKERS) {
		atomic_store(&shared->n_here, 0);
		atomic_store(&shared->turn, turn + 1);
		return;
	}
	while (atomic_load(&shared->turn) == turn)
		spin(&n_spins);
}

/* ---- one worker ---- */

static double pairs(struct bench_worker *worker, uint64_t ns)
{
	uint64_t begin = now_ns(), n = 0, end;

	do {
		for (unsigned i = 0; i < CHUNK; i++)
			block_put(worker, block_get(worker, worker->job->size));
		n += CHUNK;
		end = now_ns();
	} while (end - begin < ns);
	return (double)(end - begin) / (double)n;
}

/* Random sizes and places are made beforehand: a generator would cost as much as a fast allocator. */
enum {
	N_RANDOM = 1 << 14
};

struct plan {
	uint32_t size[N_RANDOM];
	uint16_t place[N_RANDOM];
};

static struct plan *plan_new(struct bench_worker *worker)
{
	struct plan *plan = malloc(sizeof(*plan));

	if (!plan)
		bench_fail(worker, -ENOMEM, "no memory left for this process");
	for (unsigned i = 0; i < N_RANDOM; i++) {
		plan->size[i] = next_size(worker);
		plan->place[i] = (uint16_t)random_below(worker, BENCH_LIVE);
	}
	return plan;
}

static inline void replace(struct bench_worker *worker, const struct plan *plan, uint32_t step, uint64_t set[])
{
	uint64_t *place = &set[plan->place[step % N_RANDOM]];

	block_put(worker, *place);
	*place = block_get(worker, plan->size[step % N_RANDOM]);
}

static double replacements(struct bench_worker *worker, const struct plan *plan, uint64_t set[], uint64_t ns)
{
	uint64_t begin = now_ns(), end;
	uint32_t n = 0;

	do {
		for (unsigned i = 0; i < CHUNK; i++)
			replace(worker, plan, n++, set);
		end = now_ns();
	} while (end - begin < ns);
	return (double)(end - begin) / (double)n;
}

/* In batches, so that a run without leases is not all preparation. */
static void fill_set(struct bench_worker *worker, uint64_t set[])
{
	size_t sizes[BENCH_LIVE];
	int r;

	for (unsigned i = 0; i < BENCH_LIVE; i++)
		sizes[i] = next_size(worker);
	r = worker->pool ? mempool_alloc_batch(worker->pool, BENCH_LIVE, sizes, set) : 0;
	if (r)
		fail_of_library(worker, r);
	for (unsigned i = 0; !worker->pool && i < BENCH_LIVE; i++)
		set[i] = block_get(worker, (uint32_t)sizes[i]);
	for (unsigned i = 0; i < BENCH_LIVE; i++)
		touch(block_address(worker, set[i]), i);
}

static void empty_set(struct bench_worker *worker, const uint64_t set[])
{
	int r = worker->pool ? mempool_free_batch(worker->pool, BENCH_LIVE, set) : 0;

	if (r)
		fail_of_library(worker, r);
	for (unsigned i = 0; !worker->pool && i < BENCH_LIVE; i++)
		block_put(worker, set[i]);
}

static double work_replace(struct bench_worker *worker)
{
	uint64_t *set = worker->shared->sets[0];
	struct plan *plan = plan_new(worker);
	double ns;

	fill_set(worker, set);
	replacements(worker, plan, set, worker->warm_ns);
	ns = replacements(worker, plan, set, worker->measure_ns);
	empty_set(worker, set);
	free(plan);
	return ns;
}

/* ---- both ---- */

/* Worker 0 decides when the measurement begins and ends; both learn it between two meetings, so that neither waits for one that is
 * gone. */
static double work_exchange(struct bench_worker *worker)
{
	enum phase {
		WARM,
		MEASURE,
		END
	} phase = WARM, next;
	struct bench_shared *shared = worker->shared;
	struct plan *plan = plan_new(worker);
	unsigned set = worker->id;
	uint32_t step = worker->id * N_RANDOM / 2;
	uint64_t begin, n = 0;
	double ns = 0;

	fill_set(worker, shared->sets[set]);
	meet(shared);
	begin = now_ns();
	while (phase != END) {
		for (unsigned i = 0; i < BENCH_LIVE; i++)
			replace(worker, plan, step++, shared->sets[set]);
		n += BENCH_LIVE;
		if (!worker->id && now_ns() - begin >= (phase == WARM ? worker->warm_ns : worker->measure_ns))
			atomic_store(&shared->phase, phase + 1);
		meet(shared);
		next = (enum phase)atomic_load(&shared->phase);
		set = !set;
		meet(shared);
		ns = (double)(now_ns() - begin) / (double)n;
		if (next == MEASURE && phase == WARM) {
			begin = now_ns();
			n = 0;
		}
		phase = next;
	}
	empty_set(worker, shared->sets[set]);
	meet(shared); /* blocks of a session that ends are freed: not before the other has done so */
	free(plan);
	return ns;
}

static double work_produce(struct bench_worker *worker)
{
	struct bench_shared *shared = worker->shared;
	uint64_t n_put = 0, n_got = 0, begin = 0, n_begin = 0, warm = now_ns(), now;
	uint32_t n_spins = 0;

	do {
		for (unsigned i = 0; i < CHUNK; i++) {
			uint64_t block = block_get(worker, worker->job->size);

			while (n_put - n_got == BENCH_RING) {
				n_got = atomic_load_explicit(&shared->n_got, memory_order_acquire);
				if (n_put - n_got == BENCH_RING)
					spin(&n_spins);
			}
			shared->ring[n_put % BENCH_RING] = block;
			atomic_store_explicit(&shared->n_put, ++n_put, memory_order_release);
		}
		now = now_ns();
		if (!begin && now - warm >= worker->warm_ns) {
			begin = now;
			n_begin = n_put;
		}
	} while (!begin || now - begin < worker->measure_ns);
	atomic_store_explicit(&shared->phase, 1, memory_order_release);
	return (double)(now - begin) / (double)(n_put - n_begin);
}

static void work_consume(struct bench_worker *worker)
{
	struct bench_shared *shared = worker->shared;
	uint64_t n_put = 0, n_got = 0;
	uint32_t n_spins = 0;
	bool stop = false;

	for (;;) {
		if (n_got == n_put) {
			stop = atomic_load_explicit(&shared->phase,
						    memory_order_acquire); /* before: what was put is seen */
			n_put = atomic_load_explicit(&shared->n_put, memory_order_acquire);
			if (n_got == n_put && stop)
				return;
			if (n_got == n_put) {
				spin(&n_spins);
				continue;
			}
		}
		block_put(worker, shared->ring[n_got % BENCH_RING]);
		atomic_store_explicit(&shared->n_got, ++n_got, memory_order_release);
	}
}

static double work_hand_over(struct bench_worker *worker)
{
	double ns = 0;

	meet(worker->shared);
	if (!worker->id)
		ns = work_produce(worker);
	else
		work_consume(worker);
	meet(worker->shared); /* the producer's session stays until the last block is freed */
	return ns;
}

/* ---- requests and echoes: the median, since a single interruption is as long as a thousand of them ---- */

static int by_value(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static void request(struct bench_worker *worker, uint64_t *beginp, uint64_t *endp)
{
	uint64_t block;

	*beginp = now_ns();
	block = block_get(worker, worker->job->size);
	*endp = now_ns();
	block_put(worker, block);
}

static void requests(struct bench_worker *worker, uint64_t *beginp, uint64_t *endp)
{
	mempool_offset offsets[BENCH_BATCH];
	size_t sizes[BENCH_BATCH];
	int r;

	for (unsigned i = 0; i < BENCH_BATCH; i++)
		sizes[i] = worker->job->size;
	*beginp = now_ns();
	r = mempool_alloc_batch(worker->pool, BENCH_BATCH, sizes, offsets);
	*endp = now_ns();
	if (!r)
		r = mempool_free_batch(worker->pool, BENCH_BATCH, offsets);
	if (r)
		fail_of_library(worker, r);
}

static void echo(struct bench_worker *worker, uint64_t *beginp, uint64_t *endp)
{
	static char message[BENCH_ECHO_MAX];
	uint32_t n_bytes = worker->job->size, n_back = 0;
	ssize_t n;

	*beginp = now_ns();
	if (write(worker->fd, message, n_bytes) != (ssize_t)n_bytes)
		bench_fail(worker, -errno, "the echo cannot be written to");
	while (n_back < n_bytes) {
		n = read(worker->fd, message, n_bytes - n_back);
		if (n <= 0)
			bench_fail(worker, n ? -errno : -EPIPE, "the echo cannot be read from");
		n_back += (uint32_t)n;
	}
	*endp = now_ns();
}

static double sampled(struct bench_worker *worker, void (*once)(struct bench_worker *, uint64_t *, uint64_t *))
{
	static uint32_t samples[N_SAMPLES];
	uint64_t warm = now_ns() + worker->warm_ns, stop = warm + worker->measure_ns, begin, end;
	uint32_t n = 0;

	do {
		once(worker, &begin, &end);
	} while (end < warm);
	do {
		once(worker, &begin, &end);
		samples[n++] = end - begin < UINT32_MAX ? (uint32_t)(end - begin) : UINT32_MAX;
	} while (n < N_SAMPLES && end < stop);
	qsort(samples, n, sizeof(samples[0]), by_value);
	return samples[n / 2];
}

static void serve_echo(struct bench_worker *worker)
{
	static char message[BENCH_ECHO_MAX];
	ssize_t n;

	while ((n = read(worker->fd, message, sizeof(message))) > 0) {
		if (write(worker->fd, message, (size_t)n) != n)
			bench_fail(worker, -errno, "the echo cannot write");
	}
	if (n)
		bench_fail(worker, -errno, "the echo cannot read");
}

/* ---- which ---- */

void bench_work(struct bench_worker *worker)
{
	double ns = 0;

	switch (worker->job->loop) {
	case BENCH_PAIR:
		pairs(worker, worker->warm_ns);
		ns = pairs(worker, worker->measure_ns);
		break;
	case BENCH_REPLACE:
		ns = work_replace(worker);
		break;
	case BENCH_EXCHANGE:
		ns = work_exchange(worker);
		break;
	case BENCH_HAND_OVER:
		ns = work_hand_over(worker);
		break;
	case BENCH_REQUEST:
		ns = sampled(worker, request);
		break;
	case BENCH_REQUESTS:
		ns = sampled(worker, requests) / BENCH_BATCH;
		break;
	case BENCH_ECHO:
		if (worker->id)
			serve_echo(worker);
		else
			ns = sampled(worker, echo) / (worker->job->divide ? worker->job->divide : 1);
		break;
	}
	worker->shared->ns[worker->id] = ns;
}
