// SPDX-License-Identifier: MIT
/*
 * mempoolctl stats - figures of one pool, or of the daemon and all pools; once, or again and again
 *
 * Happy path: read a snapshot, show it; with --watch wait for the next instant or a signal, and go on.
 * Failures:   the first snapshot's ends the tool; a later one's too: a watched pool or daemon that is gone is news.
 * On a signal: SIGINT and SIGTERM end a watch, which is no failure. While a document is shown they are blocked, so it is
 *             never torn; while waiting, sigtimedwait() takes them; while a request may be waiting for a silent
 *             daemon, a handler ends the process, for then nothing is half done.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ctl/command.h"
#include "ctl/stats.h"

enum {
	OPTION_WATCH = 0x200
};

static const struct argp_option options[] = {
	{"watch", OPTION_WATCH, "SECONDS", 0,
	 "Again each SECONDS, with rates, until Ctrl-C; with --json one document a line", 0},
	{0},
};

struct figure { /* of one pool */
	struct mempool_pool_info info;
	struct mempool_stats stats; /* valid if !r */
	struct stats_rates rates;
	int r;	       /* why there are no stats */
	char why[256]; /* the same as a sentence */
};

struct snapshot {
	double taken; /* seconds, monotonic */
	struct figure *figures;
	size_t n;
};

struct stats {
	const char *name;	   /* NULL: all pools, and the daemon */
	struct mempool_pool *pool; /* of name */
	double watch_s;		   /* 0: once */
	struct snapshot now, before;
	struct mempool_daemon_info daemon;
};

static error_t stats_parse(int key, char *arg, struct argp_state *state)
{
	struct stats *stats = state->input;

	if (key != OPTION_WATCH)
		return ARGP_ERR_UNKNOWN;
	stats->watch_s = command_seconds("--watch", arg);
	return 0;
}

static double now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail */
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* ---- reading ---- */

static void snapshot_deinit(struct snapshot *snapshot)
{
	free(snapshot->figures);
	*snapshot = (struct snapshot){0};
}

static void snapshot_init(struct snapshot *snapshot, size_t n)
{
	*snapshot = (struct snapshot){.taken = now_s(), .n = n, .figures = calloc(n ? n : 1, sizeof(struct figure))};
	if (!snapshot->figures)
		error_no_memory();
}

static void find_rates(struct figure *figure, const struct snapshot *now, const struct snapshot *before)
{
	double seconds = now->taken - before->taken;

	for (size_t i = 0; i < before->n; i++) {
		const struct figure *old = &before->figures[i];

		if (old->info.id != figure->info.id || old->r || figure->r || seconds <= 0)
			continue;
		figure->rates.known = true;
		figure->rates.alloc = (double)(figure->stats.alloc_total - old->stats.alloc_total) / seconds;
		figure->rates.free = (double)(figure->stats.free_total - old->stats.free_total) / seconds;
	}
}

/* read_figure() - of a pool in the list: opened for this, so that a pool that comes or goes is no special case */
static void read_figure(struct ctl *ctl, struct figure *figure)
{
	struct mempool_pool *pool;

	figure->r = mempool_pool_open(ctl->client, figure->info.name, &pool);
	if (!figure->r) {
		figure->r = mempool_pool_stats(pool, &figure->stats);
		mempool_pool_close(pool);
	}
	if (figure->r)
		snprintf(figure->why, sizeof(figure->why), "%s", mempool_last_error());
}

static enum exit_code read_all(struct ctl *ctl, struct stats *stats)
{
	CLEANUP(pool_list_deinit) struct pool_list list = {0};
	int r = pool_list_read(ctl, &list);

	stats->daemon.struct_size = sizeof(stats->daemon);
	if (!r)
		r = mempool_daemon_info(ctl->client, &stats->daemon);
	if (r)
		return error_of_library(r, NULL, "stats");
	snapshot_init(&stats->now, list.n);
	stats->now.n = 0;
	for (size_t i = 0; i < list.n; i++) {
		struct figure *figure = &stats->now.figures[stats->now.n];

		figure->info = list.infos[i];
		read_figure(ctl, figure);
		stats->now.n += figure->r != -ENOENT && figure->r != -ESTALE; /* else destroyed in between */
	}
	return EXIT_DONE;
}

static enum exit_code read_one(struct stats *stats)
{
	struct figure *figure;
	int r;

	snapshot_init(&stats->now, 1);
	figure = stats->now.figures;
	r = mempool_pool_stats(stats->pool, &figure->stats);
	return r ? error_of_library(r, NULL, "stats of '%s'", stats->name) : EXIT_DONE;
}

/* read_next() - a snapshot, the one before it kept for the rates */
static enum exit_code read_next(struct ctl *ctl, struct stats *stats)
{
	enum exit_code code;

	snapshot_deinit(&stats->before);
	stats->before = stats->now;
	stats->now = (struct snapshot){0};
	code = stats->name ? read_one(stats) : read_all(ctl, stats);
	for (size_t i = 0; !code && i < stats->now.n; i++)
		find_rates(&stats->now.figures[i], &stats->now, &stats->before);
	return code;
}

/* ---- showing ---- */

/* emit_closed() - a pool that we may not open: what the list says, and why there is no more */
static json_t *emit_closed(const struct figure *figure)
{
	return json_pack("{s:o, s:I, s:I, s:I, s:I, s:{s:i, s:o}}", "name", emit_text(figure->info.name), "total",
			 (json_int_t)figure->info.total, "used", (json_int_t)figure->info.used, "allocations",
			 (json_int_t)figure->info.allocations, "sessions", (json_int_t)figure->info.sessions, "error",
			 "errno", -figure->r, "message", emit_text(figure->why));
}

static void emit_snapshot(const struct stats *stats)
{
	json_t *pools;

	if (stats->name) {
		emit_document(emit_stats(stats->name, &stats->now.figures->stats));
		return;
	}
	pools = json_array();
	for (size_t i = 0; i < stats->now.n; i++) {
		const struct figure *figure = &stats->now.figures[i];
		json_t *pool = figure->r ? emit_closed(figure) : emit_stats(figure->info.name, &figure->stats);

		if (json_array_append_new(pools, pool))
			error_no_memory();
	}
	emit_document(json_pack("{s:o, s:o}", "daemon", emit_daemon(&stats->daemon), "pools", pools));
}

static void print_lines(const struct stats *stats)
{
	for (size_t i = 0; i < stats->now.n; i++) {
		const struct figure *figure = &stats->now.figures[i];

		if (!figure->r)
			stats_print_line(stdout, stats->name ? stats->name : figure->info.name, &figure->stats,
					 &figure->rates);
	}
}

static void print_snapshot(const struct stats *stats, struct stats_look look)
{
	char used[UNITS_TEXT_BYTES], total[UNITS_TEXT_BYTES];

	if (!stats->name)
		stats_print_daemon(stdout, &stats->daemon, look);
	for (size_t i = 0; i < stats->now.n; i++) {
		const struct figure *figure = &stats->now.figures[i];

		if (!stats->name)
			putchar('\n');
		if (!figure->r)
			stats_print_pool(stdout, stats->name ? stats->name : figure->info.name, &figure->stats,
					 &figure->rates, look);
		else
			printf("%s  %s of %s used; more is for those who may open it\n", figure->info.name,
			       size_format(figure->info.used, used), size_format(figure->info.total, total));
	}
}

static void show(const struct ctl *ctl, const struct stats *stats)
{
	bool terminal = terminal_is(STDOUT_FILENO);
	struct stats_look look = {terminal_has_color(ctl->color, STDOUT_FILENO), terminal && terminal_is_utf8()};

	if (ctl->json) {
		emit_snapshot(stats);
		return;
	}
	if (stats->watch_s > 0 && !terminal) {
		print_lines(stats);
	} else {
		if (stats->watch_s > 0)
			fputs("\033[H\033[J", stdout); /* top left, and clear what is below */
		print_snapshot(stats, look);
	}
	fflush(stdout);
}

/* ---- again and again ---- */

/* wait_until() - sleep to the instant @s. Return: whether a signal asked us to end */
static bool wait_until(double s, const sigset_t *signals)
{
	double left = s - now_s();
	struct timespec timeout = {0};

	if (left > 0) {
		timeout.tv_sec = (time_t)left;
		timeout.tv_nsec = (long)((left - (double)timeout.tv_sec) * 1e9);
	}
	while (sigtimedwait(signals, NULL, &timeout) < 0) {
		if (errno == EAGAIN)
			return false;
		/* EINTR: some other signal's handler; a little longer between two looks does no harm */
	}
	return true;
}

static void end_watch(int signal)
{
	(void)signal;
	_exit(EXIT_DONE);
}

static void signals_init(sigset_t *signals)
{
	struct sigaction action = {.sa_handler = end_watch};

	sigemptyset(signals);
	sigaddset(signals, SIGINT);
	sigaddset(signals, SIGTERM);
	sigaction(SIGINT, &action, NULL); /* none of these can fail: all arguments are right */
	sigaction(SIGTERM, &action, NULL);
}

static enum exit_code watch(struct ctl *ctl, struct stats *stats)
{
	enum exit_code code = EXIT_DONE;
	double next = now_s();
	sigset_t signals;

	signals_init(&signals);
	do {
		sigprocmask(SIG_UNBLOCK, &signals, NULL);
		code = read_next(ctl, stats);
		sigprocmask(SIG_BLOCK, &signals, NULL);
		if (code)
			break;
		show(ctl, stats);
		if (ferror(stdout))
			break; /* main says so */
		next += stats->watch_s;
		if (next < now_s())
			next = now_s(); /* showing took longer than the interval: do not hurry after */
	} while (!wait_until(next, &signals));
	return code;
}

static enum exit_code stats_run(struct ctl *ctl, int argc, char *argv[])
{
	struct stats stats = {0};
	enum exit_code code;

	command_parse(ctl, &stats_command, argc, argv, &stats);
	stats.name = ctl->n_args ? ctl->args[0] : NULL;
	code = stats.name ? ctl_open(ctl, "stats", stats.name, &stats.pool) : ctl_connect(ctl, "stats");
	if (code)
		return code;
	if (stats.watch_s > 0) {
		code = watch(ctl, &stats);
	} else {
		code = read_next(ctl, &stats);
		if (!code)
			show(ctl, &stats);
	}
	snapshot_deinit(&stats.now);
	snapshot_deinit(&stats.before);
	mempool_pool_close(stats.pool);
	return code;
}

const struct command stats_command = {
	.name = "stats",
	.arguments = "[NAME]",
	.summary = "Figures of a pool, or of the daemon and all pools",
	.n_args_max = 1,
	.options = options,
	.parse = stats_parse,
	.run = stats_run,
};
