// SPDX-License-Identifier: MIT
/*
 * daemon - start, watch and end a mempoold
 *
 * Waiting is done on two things at once: inotify tells that the log grew, the pidfd that the daemon ended.
 */
#include "tests/lib/daemon.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define READY "is ready"

static void close_fdp(int *fdp)
{
	if (*fdp >= 0)
		close(*fdp);
}

static void free_textp(char **textp)
{
	free(*textp);
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- files ---- */

/* The whole of a file that may grow or, in /proc, has no size; NUL-terminated. */
static int read_file(const char *path, char **textp)
{
	CLEANUP(close_fdp) int fd = open(path, O_RDONLY | O_CLOEXEC);
	CLEANUP(free_textp) char *text = NULL;
	size_t n = 0, n_room = 0;
	ssize_t got;

	if (fd < 0)
		return -errno;
	do {
		if (n_room - n < 4096) {
			char *more = realloc(text, n_room += 65536);

			if (!more)
				return -ENOMEM;
			text = more;
		}
		got = read(fd, text + n, n_room - n - 1);
		if (got < 0)
			return -errno;
		n += (size_t)got;
	} while (got);
	text[n] = '\0';
	*textp = text;
	text = NULL;
	return 0;
}

void daemon_print_log(const struct daemon *d)
{
	CLEANUP(free_textp) char *text = NULL;

	if (!read_file(d->log, &text))
		fprintf(stderr, "---- log of mempoold, instance %s ----\n%s----\n", d->instance, text);
}

int daemon_log_count(const struct daemon *d, const char *text)
{
	CLEANUP(free_textp) char *log = NULL;
	int n = 0, r = read_file(d->log, &log);

	if (r)
		return r;
	for (const char *at = log; (at = strstr(at, text)); at += strlen(text))
		n++;
	return n;
}

int daemon_write_file(const struct daemon *d, const char *name, const char *text, char pathp[static 96])
{
	CLEANUP(close_fdp) int fd = -1;
	size_t n = strlen(text);

	snprintf(pathp, 96, "%s/%s", d->dir, name);
	fd = open(pathp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	return write(fd, text, n) == (ssize_t)n ? 0 : -EIO;
}

/* ---- what it uses ---- */

static int count_entries(const char *path, const char *prefix)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	int n = 0;

	if (!dir)
		return -errno;
	while ((entry = readdir(dir)))
		n += entry->d_name[0] != '.' && !strncmp(entry->d_name, prefix, strlen(prefix));
	closedir(dir);
	return n;
}

int daemon_n_fds(const struct daemon *d)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)d->pid);
	return count_entries(path, "");
}

int daemon_n_objects(const struct daemon *d)
{
	char prefix[96];

	snprintf(prefix, sizeof(prefix), "mempool.%s", d->instance);
	return count_entries("/dev/shm", prefix);
}

int64_t daemon_held_bytes(const char *instance)
{
	DIR *dir = opendir("/dev/shm");
	const struct dirent *entry;
	char prefix[96];
	int64_t n = 0;
	struct stat st;

	if (!dir)
		return -errno;
	snprintf(prefix, sizeof(prefix), "mempool.%s", instance);
	while ((entry = readdir(dir)))
		if (!strncmp(entry->d_name, prefix, strlen(prefix)) && !fstatat(dirfd(dir), entry->d_name, &st, 0))
			n += (int64_t)st.st_blocks * 512;
	closedir(dir);
	return n;
}

long daemon_private_kib(const struct daemon *d)
{
	CLEANUP(free_textp) char *text = NULL;
	const char *at;
	char path[64];
	int r;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)d->pid);
	r = read_file(path, &text);
	if (r)
		return r;
	at = strstr(text, "RssAnon:");
	return at ? strtol(at + strlen("RssAnon:"), NULL, 10) : -ENODATA;
}

static void sweep_objects(const struct daemon *d)
{
	DIR *dir = opendir("/dev/shm");
	struct dirent *entry;
	char prefix[96];

	if (!dir)
		return;
	snprintf(prefix, sizeof(prefix), "mempool.%s", d->instance);
	while ((entry = readdir(dir))) {
		if (!strncmp(entry->d_name, prefix, strlen(prefix)))
			unlinkat(dirfd(dir), entry->d_name, 0);
	}
	closedir(dir);
}

/* ---- life ---- */

int daemon_init(struct daemon *d)
{
	static unsigned n_made;

	*d = (struct daemon){.pidfd = -1, .dir = "/tmp/mempool-test.XXXXXX"};
	if (!mkdtemp(d->dir)) {
		int r = -errno;

		fprintf(stderr, "daemon_init: mkdtemp: %s\n", strerror(errno));
		d->dir[0] = '\0';
		return r;
	}
	chmod(d->dir, 0755); /* clients of other users come in */
	snprintf(d->socket, sizeof(d->socket), "%s/socket", d->dir);
	snprintf(d->log, sizeof(d->log), "%s/log", d->dir);
	snprintf(d->instance, sizeof(d->instance), "test-%d-%u", (int)getpid(), n_made++);
	return 0;
}

static _Noreturn void exec_daemon(const struct daemon *d, const char *const args[], pid_t parent)
{
	const char *program = getenv("MEMPOOLD");
	const char *argv[64] = {"mempoold", "--socket", d->socket, "--instance", d->instance};
	int n = 5, fd = open(d->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	sigset_t none;

	if (fd < 0 || dup2(fd, STDERR_FILENO) < 0)
		_exit(126);
	if (!d->keeps)
		argv[n++] = "--ephemeral";
	for (; args && *args && n < (int)N_ELEMENTS(argv) - 1; n++)
		argv[n] = *args++;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(126); /* it died before prctl() */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execv(program ? program : MEMPOOLD_PATH, (char *const *)(uintptr_t)argv);
	fprintf(stderr, "exec %s: %s\n", program ? program : MEMPOOLD_PATH, strerror(errno));
	_exit(127);
}

/* Return: 1 the daemon ended, 0 the log grew, -ETIMEDOUT, -errno */
static int wait_for_news(const struct daemon *d, int inotify_fd, int64_t until_ms)
{
	struct pollfd fds[2] = {{.fd = d->pidfd, .events = POLLIN}, {.fd = inotify_fd, .events = POLLIN}};
	int64_t left_ms = until_ms - now_ms();
	char events[4096];
	int r;

	if (left_ms <= 0)
		return -ETIMEDOUT;
	r = poll(fds, 2, (int)left_ms);
	if (r <= 0)
		return r < 0 && errno != EINTR ? -errno : 0;
	if (fds[1].revents && read(inotify_fd, events, sizeof(events)) < 0 && errno != EAGAIN)
		return -errno;
	return fds[0].revents ? 1 : 0;
}

/* Until the log holds @text more than @n_before times. */
static int wait_log(struct daemon *d, const char *text, int n_before)
{
	CLEANUP(close_fdp) int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	int64_t until_ms = now_ms() + DAEMON_PATIENCE_MS;
	int r, n;

	if (fd < 0 || inotify_add_watch(fd, d->dir, IN_MODIFY | IN_CREATE) < 0)
		return -errno;
	do { /* look after the watch is set, and once more after the end */
		n = daemon_log_count(d, text);
		if (n > n_before)
			return 0;
		r = wait_for_news(d, fd, until_ms);
	} while (!r);
	n = daemon_log_count(d, text);
	if (n > n_before)
		return 0;
	return r == 1 ? -ECHILD : r;
}

int daemon_wait_log(struct daemon *d, const char *text)
{
	int r = wait_log(d, text, 0);

	if (r) {
		fprintf(stderr, "the log never says \"%s\": %s\n", text, strerror(-r));
		daemon_print_log(d);
	}
	return r;
}

int daemon_start(struct daemon *d, const char *const args[])
{
	int n_before = daemon_log_count(d, READY), r;
	pid_t parent = getpid();

	d->pid = fork();
	if (d->pid < 0) {
		d->pid = 0;
		return -errno;
	}
	if (!d->pid)
		exec_daemon(d, args, parent);
	d->pidfd = (int)syscall(SYS_pidfd_open, d->pid, 0);
	if (d->pidfd < 0) {
		r = -errno;
		kill(d->pid, SIGKILL);
		waitpid(d->pid, NULL, 0);
		d->pid = 0;
		return r;
	}
	r = wait_log(d, READY, n_before > 0 ? n_before : 0);
	if (r) {
		fprintf(stderr, "daemon_start: %s\n", r == -ECHILD ? "mempoold ended at once" : strerror(-r));
		daemon_print_log(d);
		if (r != -ECHILD)
			daemon_kill(d);
	}
	return r;
}

static int reap(struct daemon *d)
{
	int status;

	while (waitpid(d->pid, &status, 0) < 0) {
		if (errno != EINTR)
			return -1;
	}
	close(d->pidfd);
	d->pidfd = -1;
	d->pid = 0;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int daemon_wait(struct daemon *d)
{
	struct pollfd fd = {.fd = d->pidfd, .events = POLLIN};
	int64_t until_ms = now_ms() + DAEMON_PATIENCE_MS;
	int r;

	do {
		r = poll(&fd, 1, (int)(until_ms - now_ms()));
	} while (r < 0 && errno == EINTR);
	return r == 1 ? reap(d) : -1;
}

int daemon_stop(struct daemon *d)
{
	int bad = 0, code, n;

	if (!d->pid || kill(d->pid, SIGTERM) < 0) {
		fprintf(stderr, "daemon_stop: it does not run\n");
		return -1;
	}
	code = daemon_wait(d);
	if (code) {
		fprintf(stderr, "daemon_stop: %s %d\n", code < 0 ? "it does not end:" : "exit code", code);
		daemon_kill(d);
		bad = -1;
	}
	n = d->keeps ? 0 : daemon_n_objects(d);
	if (n) {
		fprintf(stderr, "daemon_stop: %d objects of instance %s are left in /dev/shm\n", n, d->instance);
		bad = -1;
	}
	if (!access(d->socket, F_OK)) {
		fprintf(stderr, "daemon_stop: %s is left\n", d->socket);
		bad = -1;
	}
	if (bad)
		daemon_print_log(d);
	return bad;
}

void daemon_kill(struct daemon *d)
{
	if (!d->pid)
		return;
	kill(d->pid, SIGKILL);
	reap(d);
}

void daemon_deinit(struct daemon *d)
{
	struct dirent *entry;
	DIR *dir;

	daemon_kill(d);
	if (!d->dir[0])
		return;
	sweep_objects(d);
	dir = opendir(d->dir);
	while (dir && (entry = readdir(dir)))
		unlinkat(dirfd(dir), entry->d_name, 0);
	if (dir)
		closedir(dir);
	rmdir(d->dir);
	d->dir[0] = '\0';
}
