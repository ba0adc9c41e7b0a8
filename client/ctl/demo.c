// SPDX-License-Identifier: MIT
/*
 * mempoolctl demo - a file goes through a pool to three processes and is counted, then once more through pipes
 *
 * Happy path: fork both crews (they wait), connect, count the file directly, create the pool; start the first crew, put
 *             its results together in order, compare each round with the direct pass; destroy the pool, which must be
 *             empty; the same with the crew that copies; report.
 * Failures:   a worker that ends early (its pidfd), a signal (a signalfd), a round that differs, a silent daemon: the
 *             crews are killed, the pool destroyed, the terminal given back, and the exit code tells.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ctl/command.h"
#include "ctl/demo_crew.h"
#include "ctl/demo_file.h"
#include "ctl/demo_view.h"
#include "ctl/signals.h"
#include "ctl/stats.h"

#define POOL_BYTES	 (16u << 20) /* half of it is room enough for slabs of each size, for each process */
#define POOL_TEXT	 "16M"
#define SECONDS_TERMINAL 3.0 /* long enough to look at */
#define SECONDS_ELSE	 1.0 /* long enough to measure */

struct assembly {		     /* results by index, until those before them are there */
	struct demo_result *results; /* [n_room]; consumer UINT32_MAX: not there yet */
	size_t n_room;
	uint64_t next; /* index that is due */
	struct tally round;
};

struct demo {
	struct ctl *ctl;
	struct demo_file file;
	struct tally direct;
	double direct_s;
	struct crew crew[2]; /* by enum crew_way */
	struct progress progress[2];
	struct demo_view view;
	char pool_name[MEMPOOL_NAME_MAX + 1];
	struct mempool_pool *pool; /* NULL: none */
	uint64_t peak_used;
	int signal_fd;
};

static double now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail */
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* ---- results in order ---- */

static void assembly_put(struct assembly *assembly, const struct demo_result *result)
{
	size_t at = result->index - assembly->next;

	if (at >= assembly->n_room) {
		size_t n_room = 2 * at + 64;
		struct demo_result *results = reallocarray(assembly->results, n_room, sizeof(*results));

		if (!results)
			error_no_memory();
		for (size_t i = assembly->n_room; i < n_room; i++)
			results[i].consumer = UINT32_MAX;
		assembly->results = results;
		assembly->n_room = n_room;
	}
	assembly->results[at] = *result;
}

/* assembly_ready() - the results that are due. Return: how many; they are in results[] until assembly_drop() */
static size_t assembly_ready(const struct assembly *assembly)
{
	size_t n = 0;

	while (n < assembly->n_room && assembly->results[n].consumer != UINT32_MAX)
		n++;
	return n;
}

static void assembly_drop(struct assembly *assembly, size_t n)
{
	memmove(assembly->results, assembly->results + n, (assembly->n_room - n) * sizeof(*assembly->results));
	for (size_t i = assembly->n_room - n; i < assembly->n_room; i++)
		assembly->results[i].consumer = UINT32_MAX;
	assembly->next += n;
}

static void assembly_deinit(struct assembly *assembly)
{
	free(assembly->results);
}

static enum exit_code round_ends(struct demo *demo, struct assembly *assembly, struct progress *progress)
{
	const struct tally *got = &assembly->round, *want = &demo->direct;

	if (!tally_is_equal(got, want))
		return error_report(EXIT_OTHER, EBADMSG,
				    "demo: round %" PRIu64 " came out differently: CRC-32 %08x, %" PRIu64
				    " lines, %" PRIu64 " words, but a direct pass gives %08x, %" PRIu64 ", %" PRIu64,
				    progress->n_rounds + 1, got->crc, got->n_lines, got->n_words, want->crc,
				    want->n_lines, want->n_words);
	progress->n_rounds++;
	assembly->round = (struct tally){0};
	return EXIT_DONE;
}

/* result_arrives() - @lastp: out: whether that was all */
static enum exit_code result_arrives(struct demo *demo, struct assembly *assembly, struct progress *progress,
				     const struct demo_result *result, bool *lastp)
{
	enum exit_code code = EXIT_DONE;
	size_t n;

	progress->end_s = now_s();
	progress->n_blocks++;
	progress->n_bytes += result->tally.n_bytes;
	progress->of_consumer[result->consumer].n_blocks++;
	progress->of_consumer[result->consumer].n_bytes += result->tally.n_bytes;
	assembly_put(assembly, result);
	n = assembly_ready(assembly);
	for (size_t i = 0; !code && i < n; i++) {
		tally_append(&assembly->round, &assembly->results[i].tally);
		if (assembly->results[i].flags & BLOCK_ENDS_ROUND)
			code = round_ends(demo, assembly, progress);
		*lastp = assembly->results[i].flags & BLOCK_ENDS_ALL;
	}
	progress->round_bytes = assembly->round.n_bytes;
	assembly_drop(assembly, n);
	return code;
}

/* ---- watching a crew ---- */

enum {
	FD_RESULTS,
	FD_SIGNAL,
	FD_WORKERS,
	FD_N = FD_WORKERS + CREW_SIZE
};

static int await(struct demo *demo, const struct crew *crew, struct pollfd fds[])
{
	int timeout_ms = demo->ctl->json ? -1 : demo_view_wait_ms(&demo->view, now_s());

	fds[FD_RESULTS] = (struct pollfd){.fd = crew->results_fd, .events = POLLIN};
	fds[FD_SIGNAL] = (struct pollfd){.fd = demo->signal_fd, .events = POLLIN};
	for (unsigned who = 0; who < CREW_SIZE; who++)
		fds[FD_WORKERS + who] = (struct pollfd){.fd = crew->pidfds[who], .events = POLLIN};
	if (poll(fds, FD_N, timeout_ms) < 0 && errno != EINTR)
		return -errno;
	return 0;
}

/* worker_ended() - it said why on stderr, unless a signal took it */
static enum exit_code worker_ended(struct crew *crew, unsigned who)
{
	pid_t pid = crew->pids[who];
	int code = crew_reap(crew, who);

	if (code > 128 || code == EXIT_DONE)
		return error_report(EXIT_OTHER, ECHILD, "demo: worker %d ended too early (%s)", (int)pid,
				    code ? strsignal(code - 128) : "without a reason");
	return (enum exit_code)code;
}

/* look_for_deaths() - while there is still work: what a worker wrote before it ended is read first */
static enum exit_code look_for_deaths(struct crew *crew, const struct pollfd fds[])
{
	struct pollfd results = {.fd = crew->results_fd, .events = POLLIN};
	enum exit_code code = EXIT_DONE;

	for (unsigned who = 0; !code && who < CREW_SIZE; who++) {
		if (!fds[FD_WORKERS + who].revents)
			continue;
		if (poll(&results, 1, 0) > 0 && results.revents & POLLIN)
			break;
		code = worker_ended(crew, who);
	}
	return code;
}

static enum exit_code read_results(struct demo *demo, struct crew *crew, struct assembly *assembly, bool *lastp)
{
	struct demo_result results[64]; /* written whole, below PIPE_BUF, so read whole */
	ssize_t n = read(crew->results_fd, results, sizeof(results));
	enum exit_code code = EXIT_DONE;

	if (n <= 0 || (size_t)n % sizeof(results[0]))
		return error_report(EXIT_OTHER, EIO, "demo: the workers' results cannot be read");
	for (size_t i = 0; !code && i < (size_t)n / sizeof(results[0]); i++)
		code = result_arrives(demo, assembly, &demo->progress[crew->job.way], &results[i], lastp);
	return code;
}

static enum exit_code watch_crew(struct demo *demo, struct crew *crew, const char *title)
{
	CLEANUP(assembly_deinit) struct assembly assembly = {0};
	const struct demo_picture picture = {title, crew, &demo->progress[crew->job.way],
					     crew->job.way == CREW_POOL ? demo->pool : NULL};
	struct pollfd fds[FD_N];
	enum exit_code code = EXIT_DONE;
	bool last = false;
	int r;

	while (!code && !last) {
		r = await(demo, crew, fds);
		if (r)
			return error_report(EXIT_OTHER, -r, "demo: poll: %s", strerror(-r));
		if (fds[FD_SIGNAL].revents)
			return error_report(EXIT_OTHER, EINTR, "demo: interrupted; nothing is left behind");
		if (fds[FD_RESULTS].revents & POLLIN)
			code = read_results(demo, crew, &assembly, &last);
		else
			code = look_for_deaths(crew, fds);
		if (!code && !demo->ctl->json) {
			r = demo_view_draw(&demo->view, &picture, now_s());
			if (r)
				code = error_of_library(r, NULL, "demo: drawing the map");
			else if (ferror(stdout))
				code = error_report(EXIT_OTHER, EIO, "demo: its output cannot be written");
		}
	}
	return code;
}

/* run_crew() - start, watch, and see all of them end well */
static enum exit_code run_crew(struct demo *demo, struct crew *crew, const char *title)
{
	struct progress *progress = &demo->progress[crew->job.way];
	enum exit_code code;
	int r = crew_start(crew);

	progress->begin_s = progress->end_s = now_s();
	demo->view.next_s = progress->begin_s + 0.1; /* something to see by then */
	if (r)
		return error_report(EXIT_OTHER, -r, "demo: starting the workers: %s", strerror(-r));
	code = watch_crew(demo, crew, title);
	for (unsigned who = 0; !code && who < CREW_SIZE; who++) {
		pid_t pid = crew->pids[who];
		int ended = crew_reap(crew, who);

		if (ended)
			code = error_report(EXIT_OTHER, ECHILD, "demo: worker %d ended with %d", (int)pid, ended);
	}
	if (code)
		crew_deinit(crew); /* before their pool goes: they would complain about that, too */
	return code;
}

/* ---- the pool ---- */

static enum exit_code make_pool(struct demo *demo)
{
	struct mempool_pool_options options;
	int r;

	mempool_pool_options_init(&options);
	options.fill = MEMPOOL_FILL_NONE; /* each block is filled from the file at once */
	r = mempool_pool_create(demo->ctl->client, demo->pool_name, POOL_BYTES, &options, &demo->pool);
	return r ? error_of_library(r, NULL, "demo: making a pool of " POOL_TEXT) : EXIT_DONE;
}

/* drop_pool() - after a good run it must be empty: each block was taken over and freed */
static enum exit_code drop_pool(struct demo *demo, enum exit_code code)
{
	struct mempool_stats stats;
	int r;

	if (!demo->pool)
		return code;
	if (!mempool_pool_stats(demo->pool, &stats))
		demo->peak_used = stats.peak_used;
	r = mempool_pool_destroy(demo->ctl->client, demo->pool_name, code ? 0 : MEMPOOL_IF_EMPTY);
	if (r && !code) {
		code = error_of_library(r, NULL, "demo: removing its pool");
		r = mempool_pool_destroy(demo->ctl->client, demo->pool_name, 0);
	}
	mempool_pool_close(demo->pool);
	demo->pool = NULL;
	return code;
}

/* ---- report ---- */

static double mb_per_s(uint64_t n_bytes, double seconds)
{
	return seconds > 0 ? (double)n_bytes / seconds / 1e6 : 0;
}

static double mb_per_s_of(const struct progress *progress)
{
	return mb_per_s(progress->n_bytes, progress->end_s - progress->begin_s);
}

static void print_way(const struct demo *demo, const char *name, double mbs, double best, const char *remark)
{
	char text[UNITS_TEXT_BYTES];

	printf("  %-22s", name);
	stats_bar(stdout, mbs / best, 16, demo->view.unicode); /* a line has 80 columns */
	printf(" %7s MB/s  %s\n", count_format((uint64_t)(mbs + 0.5), text), remark);
}

static void print_report(const struct demo *demo)
{
	const struct progress *pool = &demo->progress[CREW_POOL], *copy = &demo->progress[CREW_COPY];
	double by_pool = mb_per_s_of(pool), by_copy = mb_per_s_of(copy);
	double direct = mb_per_s(demo->direct.n_bytes, demo->direct_s);
	double best = by_pool > by_copy ? by_pool : by_copy;
	const char *tick = demo->view.unicode ? "✔ " : "", *below = demo->view.unicode ? "\n  " : "\n";
	char a[UNITS_TEXT_BYTES], b[UNITS_TEXT_BYTES], c[UNITS_TEXT_BYTES], remark[128];

	best = direct > best ? direct : best;
	snprintf(remark, sizeof(remark), "%.2fx the copying", by_copy > 0 ? by_pool / by_copy : 0);
	print_way(demo, "through the pool", by_pool, best, remark);
	print_way(demo, "copied through pipes", by_copy, best, "in writes of 64K");
	print_way(demo, "one process alone", direct, best, "nothing handed over");
	printf("\n%sCRC-32 %08x, %s lines, %s words in each of %s rounds,%sas in the direct pass.\n", tick,
	       demo->direct.crc, count_format(demo->direct.n_lines, a), count_format(demo->direct.n_words, b),
	       count_format(pool->n_rounds + copy->n_rounds, c), below);
	printf("%s%s blocks, %s in all, went through a pool of " POOL_TEXT
	       ", at most %s at once,%sand none was copied.\n",
	       tick, count_format(pool->n_blocks, a), size_format(pool->n_bytes >> 20 << 20, b),
	       size_format(demo->peak_used, c), below);
	printf("%sEach was taken over and freed by a consumer, and the pool is gone.\n", tick);
	if (by_pool < by_copy)
		puts("\nThe pool was the slower way this time. It saves two copies, a small\n"
		     "part of the work: where other programs want the processors too, whose turn it\n"
		     "is decides more. Repeat it on a quiet machine.");
}

static json_t *emit_way(const struct progress *progress)
{
	return json_pack("{s:f, s:I, s:I, s:I}", "mb_per_s", mb_per_s_of(progress), "bytes",
			 (json_int_t)progress->n_bytes, "blocks", (json_int_t)progress->n_blocks, "rounds",
			 (json_int_t)progress->n_rounds);
}

static void emit_report(const struct demo *demo)
{
	emit_document(json_pack("{s:o, s:I, s:I, s:I, s:I, s:b, s:o, s:o, s:{s:f}}", "file", emit_text(demo->file.name),
				"bytes", (json_int_t)demo->direct.n_bytes, "crc32", (json_int_t)demo->direct.crc,
				"lines", (json_int_t)demo->direct.n_lines, "words", (json_int_t)demo->direct.n_words,
				"match", 1, "pool", emit_way(&demo->progress[CREW_POOL]), "pipes",
				emit_way(&demo->progress[CREW_COPY]), "direct", "mb_per_s",
				mb_per_s(demo->direct.n_bytes, demo->direct_s)));
}

/* ---- the whole ---- */

static enum exit_code fork_crews(struct demo *demo)
{
	struct crew_job job = {
		.file_fd = demo->file.fd,
		.file_bytes = demo->file.n_bytes,
		.seconds = terminal_is(STDOUT_FILENO) && !demo->ctl->json ? SECONDS_TERMINAL : SECONDS_ELSE,
		.socket_path = demo->ctl->socket_path,
		.pool_name = demo->pool_name,
		.timeout_ms = demo->ctl->timeout_ms,
	};
	int r = 0;

	fflush(stdout); /* else each of them had a copy of what waits there */
	for (job.way = CREW_POOL; !r && job.way <= CREW_COPY; job.way++)
		r = crew_new(&demo->crew[job.way], &job);
	return r ? error_report(EXIT_OTHER, -r, "demo: starting processes: %s", strerror(-r)) : EXIT_DONE;
}

/* From here on Ctrl-C is for the loop in watch_crew(): the pool has to be removed. */
static enum exit_code take_signals(struct demo *demo)
{
	int fd = demo->signal_fd = signals_open(0);

	return fd < 0 ? error_report(EXIT_OTHER, -fd, "demo: signalfd: %s", strerror(-fd)) : EXIT_DONE;
}

static enum exit_code direct_pass(struct demo *demo)
{
	double begin = now_s();

	if (demo_file_tally(&demo->file, &demo->direct))
		return EXIT_OTHER;
	demo->direct_s = now_s() - begin;
	return EXIT_DONE;
}

static void make_title(const struct demo *demo, enum crew_way way, char *out, size_t n_bytes)
{
	const char *arrow = demo->view.unicode ? "→" : "->";
	char size[UNITS_TEXT_BYTES];

	size_format(demo->file.n_bytes, size);
	if (way == CREW_POOL)
		snprintf(out, n_bytes, "%s of %s %s pool '%s' of " POOL_TEXT " %s CRC-32, lines and words", size,
			 demo->file.name, arrow, demo->pool_name, arrow);
	else
		snprintf(out, n_bytes, "The same through pipes, copied twice, for comparison");
}

static enum exit_code run_both(struct demo *demo)
{
	enum exit_code code = ctl_connect(demo->ctl, "demo");
	char title[512];

	if (!code)
		code = take_signals(demo);
	if (!code)
		code = direct_pass(demo);
	if (!code)
		code = make_pool(demo);
	for (enum crew_way way = CREW_POOL; !code && way <= CREW_COPY; way++) {
		make_title(demo, way, title, sizeof(title));
		code = run_crew(demo, &demo->crew[way], title);
		demo_view_finish(&demo->view);
		if (way == CREW_POOL)
			code = drop_pool(demo, code);
	}
	return code;
}

static enum exit_code demo_run(struct ctl *ctl, int argc, char *argv[])
{
	struct demo demo = {.ctl = ctl, .crew = {CREW_NULL, CREW_NULL}, .signal_fd = -1};
	enum exit_code code;

	command_parse(ctl, &demo_command, argc, argv, NULL);
	snprintf(demo.pool_name, sizeof(demo.pool_name), "demo-%d", (int)getpid());
	demo_view_init(&demo.view, terminal_has_color(ctl->color, STDOUT_FILENO));
	if (ctl->n_args ? demo_file_open(&demo.file, ctl->args[0]) : demo_file_make(&demo.file))
		return EXIT_OTHER;
	code = fork_crews(&demo);
	if (!code)
		code = run_both(&demo);
	for (enum crew_way way = CREW_POOL; way <= CREW_COPY; way++)
		crew_deinit(&demo.crew[way]);
	demo_view_finish(&demo.view);
	code = drop_pool(&demo, code);
	if (!code && ctl->json)
		emit_report(&demo);
	else if (!code)
		print_report(&demo);
	close(demo.file.fd);
	if (demo.signal_fd >= 0)
		close(demo.signal_fd);
	return code;
}

const struct command demo_command = {
	.name = "demo",
	.arguments = "[FILE]",
	.summary = "A file through a pool to three processes, next to pipes",
	.details =
		"A producer reads FILE, or 32M of what this machine has, straight into blocks of a pool; three "
		"consumers take "
		"them over, compute CRC-32, lines and words, and free them. The result is compared with a direct pass.",
	.n_args_max = 1,
	.run = demo_run,
};
