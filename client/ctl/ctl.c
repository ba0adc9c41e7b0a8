// SPDX-License-Identifier: MIT
/*
 * The session half of command.h. Connecting has no time limit in the public API but the library's own, so --timeout is
 * kept by a timer until the session stands; from then on by mempool_set_timeout().
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "ctl/command.h"
#include "ctl/suggest.h"

#define SOCKET_PATH_MAX 107 /* sizeof(sockaddr_un.sun_path), less a NUL */

/* ---- connect ---- */

#define SILENT "the daemon accepts but does not answer; wait longer with --timeout SECONDS, or look at its log"

static char timed_out_line[256]; /* made beforehand: a signal handler only writes */

static void timed_out(int signal)
{
	ssize_t n = write(STDERR_FILENO, timed_out_line, strlen(timed_out_line));

	(void)signal;
	(void)n; /* nobody is left to tell */
	_exit(EXIT_TIMED_OUT);
}

static void timer_set(int ms)
{
	const struct itimerval timer = {.it_value = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000}};

	setitimer(ITIMER_REAL, &timer, NULL); /* cannot fail: the value is in range */
}

static void timer_start(const struct ctl *ctl, const char *asked)
{
	if (ctl->json)
		snprintf(timed_out_line, sizeof(timed_out_line),
			 "{\"error\":{\"errno\":%d,\"message\":\"%s: " SILENT "\"}}\n", ETIMEDOUT, asked);
	else
		snprintf(timed_out_line, sizeof(timed_out_line), "mempoolctl: %s: " SILENT "\n", asked);
	signal(SIGALRM, timed_out);
	timer_set(ctl->timeout_ms);
}

/* sockets_tried() - "A", or "A or B": where the library looked for a daemon */
static void sockets_tried(const struct ctl *ctl, char *out, size_t n_bytes)
{
	const char *given = ctl->socket_path ? ctl->socket_path : getenv("MEMPOOL_SOCKET");
	const char *runtime = getenv("XDG_RUNTIME_DIR");

	if (given && *given)
		snprintf(out, n_bytes, "%s", given);
	else if (runtime && *runtime)
		snprintf(out, n_bytes, "%s/mempoold.sock or /run/mempoold/mempoold.sock", runtime);
	else
		snprintf(out, n_bytes, "/run/mempoold/mempoold.sock");
}

enum exit_code ctl_connect(struct ctl *ctl, const char *asked)
{
	char tried[512];
	int r;

	if (ctl->client)
		return EXIT_DONE;
	if (ctl->socket_path && strlen(ctl->socket_path) > SOCKET_PATH_MAX)
		error_usage("--socket: the path has %zu bytes, and a socket's may have %d: use a shorter one",
			    strlen(ctl->socket_path), SOCKET_PATH_MAX);
	if (ctl->timeout_ms >= 0)
		timer_start(ctl, asked);
	r = mempool_connect(&ctl->client, ctl->socket_path);
	if (ctl->timeout_ms >= 0)
		timer_set(0);
	if (r == -ECONNREFUSED || r == -ENOENT) {
		sockets_tried(ctl, tried, sizeof(tried));
		return error_report(EXIT_NO_DAEMON, -r,
				    "%s: no daemon answers at %s; start one with 'mempoold', or name its socket with "
				    "--socket",
				    asked, tried);
	}
	if (r == -ETIMEDOUT)
		return error_report(EXIT_TIMED_OUT, -r, "%s: " SILENT, asked);
	if (r)
		return error_of_library(r, r == -EACCES ? "choose a socket that you may write to, with --socket" : NULL,
					"%s", asked);
	if (ctl->timeout_ms >= 0)
		r = mempool_set_timeout(ctl->client, ctl->timeout_ms);
	return r ? error_of_library(r, NULL, "%s", asked) : EXIT_DONE;
}

/* ---- pools ---- */

static int collect(void *arg, const struct mempool_pool_info *info)
{
	struct pool_list *list = arg;

	if (list->n == list->n_room) {
		size_t n_room = list->n_room ? 2 * list->n_room : 16;
		void *infos = reallocarray(list->infos, n_room, sizeof(*list->infos));

		if (!infos)
			error_no_memory();
		list->infos = infos;
		list->n_room = n_room;
	}
	list->infos[list->n++] = *info;
	return 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct mempool_pool_info *)a)->name, ((const struct mempool_pool_info *)b)->name);
}

int pool_list_read(struct ctl *ctl, struct pool_list *list)
{
	int r;

	list->n = 0;
	r = mempool_pool_list(ctl->client, collect, list);
	if (!r && list->n)
		qsort(list->infos, list->n, sizeof(*list->infos), by_name);
	return r;
}

void pool_list_deinit(struct pool_list *list)
{
	free(list->infos);
	*list = (struct pool_list){0};
}

enum exit_code ctl_no_pool(struct ctl *ctl, const char *asked, const char *name)
{
	struct suggestion suggestion = {.word = name};
	CLEANUP(pool_list_deinit) struct pool_list list = {0};
	bool known = !pool_list_read(ctl, &list);

	for (size_t i = 0; known && i < list.n; i++)
		suggestion_offer(&suggestion, list.infos[i].name);
	if (suggestion.best[0])
		return error_report(EXIT_NO_POOL, ENOENT, "%s: no pool '%s'; did you mean '%s'?", asked, name,
				    suggestion.best);
	if (known && !list.n)
		return error_report(
			EXIT_NO_POOL, ENOENT,
			"%s: no pool '%s', nor any other; make one with 'mempoolctl create NAME --size 64M'", asked,
			name);
	return error_report(EXIT_NO_POOL, ENOENT, "%s: no pool '%s'; 'mempoolctl list' shows those there are", asked,
			    name);
}

enum exit_code ctl_open(struct ctl *ctl, const char *asked, const char *name, struct mempool_pool **poolp)
{
	enum exit_code code = ctl_connect(ctl, asked);
	int r;

	if (code)
		return code;
	r = mempool_pool_open(ctl->client, name, poolp);
	if (r == -ENOENT)
		return ctl_no_pool(ctl, asked, name);
	return r ? error_of_library(r, NULL, "%s of '%s'", asked, name) : EXIT_DONE;
}
