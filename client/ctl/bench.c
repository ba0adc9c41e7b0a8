// SPDX-License-Identifier: MIT
/*
 * mempoolctl bench - what this machine's daemon costs, next to malloc() and a bare echo
 *
 * Happy path: make the pool that two processes share, run all jobs in turn, and again, until each has its runs; remove the pool;
 *             show medians and spread. In turn, since a busy moment of the machine then meets all of them.
 * Failures:   a run that fails or is interrupted ends it; the pool is removed all the same, if the daemon still lives.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "ctl/bench.h"
#include "ctl/signals.h"

enum {
	OPTION_QUICK = 0x200,
	LOOK_PAIRS = 64
};

static const struct argp_option options[] = {
	{"quick", OPTION_QUICK, NULL, 0, "Two short runs of each instead of five: about a second, and rough", 0},
	{0},
};

enum {
	PAIR,
	PAIR_FILL,
	PAIR_MALLOC,
	PAIR_FILL_MALLOC,
	SMALL,
	SMALL_MALLOC,
	LARGE,
	LARGE_MALLOC,
	EXCHANGE_THREADS,
	EXCHANGE_PROCESSES,
	EXCHANGE_MALLOC,
	HAND_OVER_THREADS,
	HAND_OVER_PROCESSES,
	HAND_OVER_MALLOC,
	REQUEST,
	ECHO,
	ECHO_APART,
	REQUESTS,
	ECHO_LARGE,
	N_JOBS
};

#define NONE		.fill = MEMPOOL_FILL_NONE
#define OFF		.lease = MEMPOOL_LEASE_OFF
#define MALLOC		.by_malloc = true
#define SIZES(min, max) .size = (min), .size_max = (max)

static const struct bench_job jobs[N_JOBS] = {
	[PAIR] = {"pair: alloc and free 64 B", BENCH_PAIR, NONE, SIZES(64, 64)},
	[PAIR_FILL] = {"the same, each block filled with 0xCC", BENCH_PAIR, SIZES(64, 64)},
	[PAIR_MALLOC] = {"malloc", BENCH_PAIR, MALLOC, NONE, SIZES(64, 64)},
	[PAIR_FILL_MALLOC] = {"malloc and memset", BENCH_PAIR, MALLOC, SIZES(64, 64)},
	[SMALL] = {"replace one of 1000, 16-1024 B", BENCH_REPLACE, NONE, SIZES(16, 1024)},
	[SMALL_MALLOC] = {"malloc", BENCH_REPLACE, MALLOC, NONE, SIZES(16, 1024)},
	[LARGE] = {"replace one of 1000, 16 B-64 KiB", BENCH_REPLACE, NONE, SIZES(16, 65536)},
	[LARGE_MALLOC] = {"malloc", BENCH_REPLACE, MALLOC, NONE, SIZES(16, 65536)},
	[EXCHANGE_THREADS] = {"two threads exchange blocks", BENCH_EXCHANGE, BENCH_THREADS, NONE, SIZES(16, 1024)},
	[EXCHANGE_PROCESSES] = {"two processes exchange blocks", BENCH_EXCHANGE, BENCH_PROCESSES, NONE,
				SIZES(16, 1024)},
	[EXCHANGE_MALLOC] = {"malloc, two threads", BENCH_EXCHANGE, BENCH_THREADS, MALLOC, NONE, SIZES(16, 1024)},
	[HAND_OVER_THREADS] = {"one thread allocates, one frees", BENCH_HAND_OVER, BENCH_THREADS, NONE, SIZES(64, 64)},
	[HAND_OVER_PROCESSES] = {"one process allocates, one frees", BENCH_HAND_OVER, BENCH_PROCESSES, NONE,
				 SIZES(64, 64)},
	[HAND_OVER_MALLOC] = {"malloc, two threads", BENCH_HAND_OVER, BENCH_THREADS, MALLOC, NONE, SIZES(64, 64)},
	[REQUEST] = {"request: alloc 64 B, no lease", BENCH_REQUEST, NONE, OFF, SIZES(64, 64), .one_core = true},
	/* On the wire an alloc is 14 bytes and its reply 18, a batch 272 and its reply 784: half of both. */
	[ECHO] = {"echo of 16 B, one core", BENCH_ECHO, MALLOC, .size = 16, .one_core = true},
	[ECHO_APART] = {"bare echo of 16 B, core to core", BENCH_ECHO, MALLOC, .size = 16},
	[REQUESTS] = {"a block of a batch of 256, no lease", BENCH_REQUESTS, NONE, OFF, SIZES(64, 64),
		      .one_core = true},
	[ECHO_LARGE] = {"echo of 528 B / 256", BENCH_ECHO, MALLOC, .size = 528, .divide = BENCH_BATCH,
			.one_core = true},
};

static const struct {
	unsigned job, peer;
} rows[] = {
	{PAIR, PAIR_MALLOC},
	{PAIR_FILL, PAIR_FILL_MALLOC},
	{SMALL, SMALL_MALLOC},
	{LARGE, LARGE_MALLOC},
	{EXCHANGE_THREADS, EXCHANGE_MALLOC},
	{EXCHANGE_PROCESSES, EXCHANGE_MALLOC},
	{HAND_OVER_THREADS, HAND_OVER_MALLOC},
	{HAND_OVER_PROCESSES, HAND_OVER_MALLOC},
	{REQUEST, ECHO},
	{REQUESTS, ECHO_LARGE},
	{ECHO_APART, ECHO}, /* what waking up another core costs */
};

struct bench {
	struct ctl *ctl;
	bool quick;
	struct bench_place place;
	char pool_name[MEMPOOL_NAME_MAX + 1];
	struct mempool_pool *pool; /* NULL: none */
	struct bench_figure figures[N_JOBS];
	struct bench_row rows[N_ELEMENTS(rows)];
	struct bench_report report;
};

static error_t bench_parse(int key, char *arg, struct argp_state *state)
{
	struct bench *bench = state->input;

	(void)arg;
	if (key != OPTION_QUICK)
		return ARGP_ERR_UNKNOWN;
	bench->quick = true;
	return 0;
}

/* ---- the pool ---- */

static enum exit_code make_pool(struct bench *bench)
{
	struct mempool_pool_options pool_options;
	int r;

	mempool_pool_options_init(&pool_options);
	pool_options.fill = MEMPOOL_FILL_NONE;
	r = mempool_pool_create(bench->ctl->client, bench->pool_name, BENCH_POOL_BYTES, &pool_options, &bench->pool);
	return r ? error_of_library(r, NULL, "bench: making a pool of 256M") : EXIT_DONE;
}

/* look_at_daemon() - its version, and whether allocs of the plain kind come with a lease; the first few of a program never do */
static enum exit_code look_at_daemon(struct bench *bench)
{
	struct mempool_daemon_info info = {.struct_size = sizeof(info)};
	struct mempool_stats stats;
	int r = 0;

	for (unsigned i = 0; !r && i < LOOK_PAIRS; i++) {
		mempool_offset block = mempool_alloc(bench->pool, 64);

		r = block ? mempool_free(bench->pool, block) : -errno;
	}
	if (!r)
		r = mempool_pool_stats(bench->pool, &stats);
	if (!r)
		r = mempool_daemon_info(bench->ctl->client, &info);
	if (r)
		return error_of_library(r, NULL, "bench: asking the daemon");
	bench->report.has_leases = stats.leased_idle > 0;
	memcpy(bench->report.version, info.version, sizeof(bench->report.version));
	return EXIT_DONE;
}

static enum exit_code drop_pool(struct bench *bench, enum exit_code code)
{
	int r = bench->pool ? mempool_pool_destroy(bench->ctl->client, bench->pool_name, 0) : 0;

	mempool_pool_close(bench->pool);
	bench->pool = NULL;
	return r && !code ? error_of_library(r, NULL, "bench: removing its pool") : code;
}

/* ---- runs ---- */

/* From here on Ctrl-C is for bench_run(): the pool has to be removed. */
static enum exit_code take_signals(struct bench *bench)
{
	int fd = bench->place.signal_fd = signals_open(0);

	return fd < 0 ? error_report(EXIT_OTHER, -fd, "bench: signalfd: %s", strerror(-fd)) : EXIT_DONE;
}

/* The progress line is shorter than any error's, which goes over it. */
static enum exit_code run_all(struct bench *bench)
{
	enum exit_code code = EXIT_DONE;
	bool progress = !bench->ctl->json && terminal_is(STDERR_FILENO);

	for (unsigned run = 0; !code && run < bench->report.n_runs; run++) {
		for (unsigned job = 0; !code && job < N_JOBS; job++) {
			if (progress)
				fprintf(stderr, "run %u of %u, %2u of %u\r", run + 1, bench->report.n_runs, job + 1,
					N_JOBS);
			code = bench_run(&bench->place, &jobs[job], &bench->figures[job].runs[run]);
		}
	}
	return code;
}

static enum exit_code bench_all(struct bench *bench)
{
	enum exit_code code = ctl_connect(bench->ctl, "bench");

	if (!code)
		code = take_signals(bench);
	if (!code)
		code = make_pool(bench);
	if (!code)
		code = look_at_daemon(bench);
	if (!code)
		code = run_all(bench);
	return drop_pool(bench, code);
}

/* ---- the whole ---- */

static void show(struct bench *bench)
{
	for (unsigned job = 0; job < N_JOBS; job++)
		bench_settle(&bench->figures[job], bench->report.n_runs);
	for (size_t i = 0; i < N_ELEMENTS(rows); i++)
		bench->rows[i] = (struct bench_row){&jobs[rows[i].job], &jobs[rows[i].peer],
						    &bench->figures[rows[i].job], &bench->figures[rows[i].peer]};
	bench->report.rows = bench->rows;
	bench->report.n_rows = N_ELEMENTS(rows);
	if (bench->ctl->json)
		bench_emit(&bench->report);
	else
		bench_print(&bench->report, terminal_has_color(bench->ctl->color, STDOUT_FILENO));
}

static enum exit_code bench_command_run(struct ctl *ctl, int argc, char *argv[])
{
	struct bench bench = {.ctl = ctl, .place = {.ctl = ctl, .signal_fd = -1}};
	enum exit_code code;

	command_parse(ctl, &bench_command, argc, argv, &bench);
	snprintf(bench.pool_name, sizeof(bench.pool_name), "bench-%d", (int)getpid());
	bench.place.pool_name = bench.pool_name;
	bench.place.measure_ns = bench.quick ? 15000000u : 75000000u; /* with what is around it: 1 s and 10 s in all */
	bench.report.n_runs = bench.quick ? 2 : 5;
	fflush(stdout); /* else each process had a copy of what waits there */
	code = bench_all(&bench);
	if (!code)
		show(&bench);
	if (bench.place.signal_fd >= 0)
		close(bench.place.signal_fd);
	return code;
}

const struct command bench_command = {
	.name = "bench",
	.arguments = "",
	.summary = "Measures this machine, next to malloc and a bare echo",
	.details = "Each figure is the median of five runs, in processes and with a pool of their own; all of it takes "
		   "some 10 seconds, or more where the daemon grants no leases. RATIO is mempool's median by its "
		   "neighbour's: below 1x mempool is the faster one. To compare with another malloc, name its library: "
		   "LD_PRELOAD=libmimalloc.so.2 mempoolctl bench.",
	.options = options,
	.parse = bench_parse,
	.run = bench_command_run,
};
