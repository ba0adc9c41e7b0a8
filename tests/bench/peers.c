// SPDX-License-Identifier: MIT
/*
 * The same loops over mempool and over the allocators that people use instead: malloc() of glibc, jemalloc, mimalloc and tcmalloc, as
 * far as their libraries are here, and Boost.Interprocess if it was there when this was built. All run in turn, round by round, so
 * that a busy moment meets each of them; medians are printed, and in brackets mempool's as a part of the peer's.
 *
 * bench_peers [CASE…]; $BENCH_ROUNDS: how many (5)
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/daemon.h"

enum {
	N_ROUNDS_MAX = 99
};

static const struct {
	const char *name, *what;
} cases[] = {
	{"pair", "64 B, allocated and freed"},
	{"pair-fill", "the same, filled with 0xCC"},
	{"mixed-1k", "one of 1000 replaced, 16 B to 1 KiB"},
	{"mixed-1k-fill", "the same, filled with 0xCC"},
	{"mixed-64k", "one of 1000 replaced, 16 B to 64 KiB"},
	{"mixed-1k-two", "two at once, 16 B to 1 KiB"},
	{"exchange", "two, 63 % of frees of the other's"},
	{"hand-over", "one allocates 64 B, another frees"},
	{"pools-64", "64 pools (or heaps) in turn, 64 B"},
	{"take", "mempool_take() of the other's block"},
	{"live-1000", "one of 1000 replaced, 64 B"},
	{"live-10000", "one of 10,000"},
	{"live-100000", "one of 100,000"},
	{"live-1000000", "one of 1,000,000"},
	{"memory-64", "bytes held per byte, 1,000,000 of 64 B"},
	{"memory-churn", "the same, 16 B to 1 KiB after churn"},
};

static struct peer {
	const char *name, *library, *program; /* library: in $LD_PRELOAD; NULL: none */
	bool is_here;
} peers[] = {
	{"mempool", NULL, BENCH_PEER_MEMPOOL, true},
	{"glibc", NULL, BENCH_PEER_MALLOC, true},
	{"jemalloc", "libjemalloc.so.2", BENCH_PEER_MALLOC, false},
	{"mimalloc", "libmimalloc.so.2", BENCH_PEER_MALLOC, false},
	{"tcmalloc", "libtcmalloc_minimal.so.4", BENCH_PEER_MALLOC, false},
	{"boost", NULL, BENCH_PEER_BOOST, BENCH_PEER_BOOST[0]},
};

static struct daemon own;
static double results[N_ELEMENTS(cases)][N_ELEMENTS(peers)][N_ROUNDS_MAX]; /* negative: not a case of this peer */

/* run() - one case once. Return: its result; -1: the peer has no such case; does not return if it failed */
static double run(const struct peer *peer, const char *name)
{
	int ends[2], status = 0;
	double result = -1;
	FILE *out;
	pid_t pid;

	if (pipe(ends) || (pid = fork()) < 0) {
		perror("bench_peers");
		exit(1);
	}
	if (!pid) {
		dup2(ends[1], STDOUT_FILENO);
		close(ends[0]);
		close(ends[1]);
		if (peer->library)
			setenv("LD_PRELOAD", peer->library, 1);
		if (!peer->is_here && freopen("/dev/null", "w", stderr)) /* the loader's complaint */
			setbuf(stderr, NULL);
		execl(peer->program, peer->program, name, NULL);
		perror(peer->program);
		_exit(1);
	}
	close(ends[1]);
	out = fdopen(ends[0], "r");
	if (!out || fscanf(out, "%lf", &result) != 1)
		result = -1;
	if (out)
		fclose(out);
	if (waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 2)
		return -1;
	if (!WIFEXITED(status) || WEXITSTATUS(status) || result < 0) {
		fprintf(stderr, "bench_peers: %s failed in %s\n", peer->name, name);
		exit(1);
	}
	return result;
}

static void look_for_peers(void)
{
	for (size_t p = 0; p < N_ELEMENTS(peers); p++) {
		if (peers[p].library)
			peers[p].is_here = run(&peers[p], "here") > 0;
	}
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double median(double values[], unsigned n)
{
	qsort(values, n, sizeof(values[0]), by_value);
	return (values[(n - 1) / 2] + values[n / 2]) / 2;
}

static void print_row(size_t c, unsigned n_rounds)
{
	double ours = median(results[c][0], n_rounds);

	printf("%-39s %9.2f", cases[c].what, ours);
	for (size_t p = 1; p < N_ELEMENTS(peers); p++) {
		double theirs = median(results[c][p], n_rounds);

		if (!peers[p].is_here)
			continue;
		if (theirs <= 0)
			printf(" %9s %7s", "-", "");
		else
			printf(" %9.2f (%4.2fx)", theirs, ours / theirs);
	}
	printf("\n");
}

static void expect_cases(int argc, char *argv[])
{
	for (int i = 1; i < argc; i++) {
		size_t c = 0;

		while (c < N_ELEMENTS(cases) && strcmp(argv[i], cases[c].name))
			c++;
		if (c < N_ELEMENTS(cases))
			continue;
		fprintf(stderr, "bench_peers: there is no case \"%s\". Cases are:", argv[i]);
		for (c = 0; c < N_ELEMENTS(cases); c++)
			fprintf(stderr, " %s", cases[c].name);
		fprintf(stderr, "\n");
		exit(2);
	}
}

static bool is_asked(const char *name, int argc, char *argv[])
{
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], name))
			return true;
	}
	return argc == 1;
}

static void measure(unsigned n_rounds, int argc, char *argv[])
{
	for (unsigned round = 0; round < n_rounds; round++) {
		for (size_t c = 0; c < N_ELEMENTS(cases); c++) {
			for (size_t p = 0; is_asked(cases[c].name, argc, argv) && p < N_ELEMENTS(peers); p++)
				results[c][p][round] = peers[p].is_here ? run(&peers[p], cases[c].name) : -1;
		}
	}
}

static void print(unsigned n_rounds, int argc, char *argv[])
{
	printf("ns a pair of alloc and free, medians of %u runs in turn; (mempool's as a part of the peer's)\n\n%-39s "
	       "%9s",
	       n_rounds, "", peers[0].name);
	for (size_t p = 1; p < N_ELEMENTS(peers); p++) {
		if (peers[p].is_here)
			printf(" %9s %7s", peers[p].name, "");
	}
	printf("\n");
	for (size_t c = 0; c < N_ELEMENTS(cases); c++) {
		if (is_asked(cases[c].name, argc, argv))
			print_row(c, n_rounds);
	}
	printf("\n");
	for (size_t p = 0; p < N_ELEMENTS(peers); p++) {
		if (!peers[p].is_here)
			printf("%s is not here. ", peers[p].name);
	}
	puts("Debian has them as libjemalloc2, libmimalloc2.0, libtcmalloc-minimal4,\nand libboost-dev, the last to "
	     "build with.");
}

static void end_daemon(void)
{
	daemon_deinit(&own);
}

int main(int argc, char *argv[])
{
	const char *asked = getenv("BENCH_ROUNDS");
	unsigned n_rounds = asked ? (unsigned)strtoul(asked, NULL, 10) : 5;

	if (!n_rounds || n_rounds > N_ROUNDS_MAX) {
		fprintf(stderr, "bench_peers: BENCH_ROUNDS is from 1 to %d\n", N_ROUNDS_MAX);
		return 2;
	}
	expect_cases(argc, argv);
	look_for_peers();
	atexit(end_daemon);
	if (daemon_init(&own) || daemon_start(&own, NULL))
		return 1;
	setenv("MEMPOOL_SOCKET", own.socket, 1);
	setenv("BENCH_INSTANCE", own.instance, 1);
	measure(n_rounds, argc, argv);
	print(n_rounds, argc, argv);
	return daemon_stop(&own) ? 1 : 0;
}
