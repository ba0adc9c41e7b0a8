#pragma once
// SPDX-License-Identifier: MIT
/*
 * bench - what is measured, the processes that do it, and how it is shown
 *
 * A job is one loop over one kind of memory. Each run of it is done by a process of its own, or two, with sessions of their own,
 * so that no run sees what another left in a heap. Knows the public API only: what a figure costs is what a program would pay.
 */
#include <stdatomic.h>
#include <stdint.h>

#include "ctl/command.h"

#define BENCH_WORKERS 2
#define BENCH_LIVE    1000u /* blocks of a working set */
#define BENCH_RING    1024u /* offsets on their way from the one to the other; a power of two */
#define BENCH_BATCH   256u  /* blocks of one request */
#define BENCH_POOL_BYTES \
	(256u << 20) /* eight times the largest working set, so that no lease is refused; only what is used is backed */
#define BENCH_ECHO_MAX (64u << 10) /* bytes of one message */

enum bench_loop {
	BENCH_PAIR,    /* alloc, write, read, free */
	BENCH_REPLACE, /* a random one of the working set is freed, and another allocated */
	BENCH_EXCHANGE, /* the same by two, who exchange their working sets every 1000 times; after larson (Larson, Krishnan 1998) */
	BENCH_HAND_OVER, /* one allocates, the other frees */
	BENCH_REQUEST,	 /* alloc as a request; the free is not counted */
	BENCH_REQUESTS,	 /* the same for a batch; what one block of it costs */
	BENCH_ECHO,	 /* a message there and back between two processes */
};

enum bench_crew {
	BENCH_ALONE,
	BENCH_THREADS,	 /* two, of one session */
	BENCH_PROCESSES, /* two, each with a session */
};

struct bench_job {
	const char *name;
	enum bench_loop loop;
	enum bench_crew crew;
	bool by_malloc;		 /* no pool, no session */
	uint32_t size, size_max; /* bytes of a block; between the two if they differ. Of an echo: of a message */
	uint32_t divide;	 /* an echo's time counts for so many; 0: 1 */
	enum mempool_fill fill;
	enum mempool_lease lease;
	bool one_core; /* all workers on the same */
};

struct bench_place { /* where the jobs are run */
	const struct ctl *ctl;
	const char *pool_name; /* that two processes share; made by whoever runs jobs, with fill none */
	int signal_fd;	       /* readable: stop */
	uint64_t measure_ns;   /* of one run; a third of it before, to warm up */
};

/* ---- the processes ---- */

/** bench_run() - one run. @nsp: out: nanoseconds of one operation. Return: EXIT_DONE, or what was reported; no process is left */
enum exit_code bench_run(const struct bench_place *place, const struct bench_job *job, double *nsp) MUST_CHECK;

/* ---- the loops ---- */

struct bench_shared { /* by the workers of one run, whether threads or processes; zero to begin with */
	_Alignas(128) _Atomic uint32_t n_here; /* who wait for the other */
	_Alignas(128) _Atomic uint32_t turn;   /* times that they met */
	_Alignas(128) _Atomic uint32_t phase;  /* of the loop; the last one ends it */
	_Alignas(128) _Atomic uint64_t n_put;  /* into ring[], by worker 0 */
	_Alignas(128) _Atomic uint64_t n_got;  /* out of it, by worker 1 */
	_Alignas(128) uint64_t ring[BENCH_RING];
	uint64_t sets[BENCH_WORKERS][BENCH_LIVE];
	double ns[BENCH_WORKERS]; /* results */
	struct bench_failure {
		int r; /* negative errno; 0: none */
		char sentence[512];
	} failures[BENCH_WORKERS];
};

struct bench_worker {
	const struct bench_job *job;
	struct bench_shared *shared;
	unsigned id;
	struct mempool_pool *pool; /* NULL: malloc() */
	int fd;			   /* an echo's, to the other; else -1 */
	uint64_t warm_ns, measure_ns;
	uint64_t random;
};

/** bench_work() - run the job's loop; the result, or why there is none, is in worker->shared. Does not return if it failed */
void bench_work(struct bench_worker *worker);

/** bench_fail() - leave why in worker->shared, and end the process. @r: a negative errno */
void bench_fail(struct bench_worker *worker, int r, const char *sentence) __attribute__((noreturn));

/* ---- the report ---- */

#define BENCH_RUNS_MAX 9

struct bench_figure { /* nanoseconds */
	double runs[BENCH_RUNS_MAX];
	double median, min, max; /* by bench_settle() */
};

struct bench_row {
	const struct bench_job *job, *peer;
	const struct bench_figure *figure, *peer_figure;
};

struct bench_report {
	const struct bench_row *rows;
	size_t n_rows;
	unsigned n_runs;
	bool has_leases;
	char version[24]; /* of the daemon */
};

/** bench_settle() - median, minimum and maximum of the first @n runs */
void bench_settle(struct bench_figure *figure, unsigned n);
void bench_print(const struct bench_report *report, bool bold);
void bench_emit(const struct bench_report *report);
