// SPDX-License-Identifier: MIT
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "server/credentials.h"

#define SO_PEERPIDFD_LINUX 77 /* since Linux 6.5; not in Debian 12's headers */

/* For people only: the name may be the process's own choice, or gone. */
static void read_command(int32_t pid, char out[static 24])
{
	char path[40];
	ssize_t n;
	int fd;

	snprintf(out, 24, "?");
	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	fd = pid > 0 ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	if (fd < 0)
		return;
	n = read(fd, out, 23);
	close(fd);
	out[n > 0 ? n : 0] = '\0';
	for (char *c = out; *c; c++) /* one line of the log is one line */
		if (*c < ' ' || *c > '~')
			*c = c[1] ? '?' : '\0';
}

static int read_groups(int socket, struct pool_identity *identity)
{
	uint32_t *groups = NULL, *larger;
	socklen_t n_bytes = 0;

	while (getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups, &n_bytes)) {
		if (errno != ERANGE) {
			free(groups);
			return errno == ENOPROTOOPT || errno == ENODATA ? 0 : -errno; /* an old kernel: none */
		}
		larger = realloc(groups, n_bytes);
		if (!larger) {
			free(groups);
			return -ENOMEM;
		}
		groups = larger;
	}
	identity->groups = groups;
	identity->n_groups = n_bytes / sizeof(*groups);
	return 0;
}

int credentials_get(int socket, struct pool_identity *identity)
{
	struct ucred peer;
	socklen_t n_bytes = sizeof(peer);
	struct pool_identity found = {0};
	int r;

	if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &n_bytes))
		return -errno;
	r = read_groups(socket, &found);
	if (r)
		return r;
	found.uid = peer.uid;
	found.gid = peer.gid;
	found.pid = peer.pid;
	read_command(peer.pid, found.command);
	*identity = found;
	return 0;
}

/* Where the kernel knows the peer's own process, no pid can have been reused in between. */
int credentials_pidfd(int socket, const struct pool_identity *identity, int *pidfdp)
{
	socklen_t n_bytes = sizeof(*pidfdp);
	long fd;

	if (!getsockopt(socket, SOL_SOCKET, SO_PEERPIDFD_LINUX, pidfdp, &n_bytes))
		return fcntl(*pidfdp, F_SETFD, FD_CLOEXEC) ? -errno : 0;
	if (errno == ESRCH || errno == EMFILE || errno == ENFILE)
		return -errno;
	*pidfdp = -1;
	if (identity->pid <= 0) /* in a pid namespace that we do not see: a missing pid proves nothing */
		return 0;
	fd = syscall(SYS_pidfd_open, identity->pid, 0);
	if (fd < 0)
		return errno == ENOSYS || errno == EPERM ? 0 : -errno;
	*pidfdp = (int)fd;
	return 0;
}

/* ---- over a restart ---- */

static ssize_t read_start(const char *path, char out[], size_t n_bytes)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -1;
	n = read(fd, out, n_bytes - 1);
	close(fd);
	out[n > 0 ? n : 0] = '\0';
	return n;
}

uint64_t credentials_started(int32_t pid)
{
	char path[40], stat[1024];
	unsigned long long started = 0;
	const char *at;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	if (pid <= 0 || read_start(path, stat, sizeof(stat)) <= 0)
		return 0;
	at = strrchr(stat, ')'); /* the name before it may hold anything */
	if (!at ||
	    sscanf(at + 1,
		   " %*c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu", /* 22nd */
		   &started) != 1)
		return 0;
	return started;
}

/* A /proc of another pid namespace would tell of strangers. */
static bool proc_is_ours(void)
{
	char target[24] = "";

	return readlink("/proc/self", target, sizeof(target) - 1) > 0 && atoi(target) == getpid();
}

uint64_t credentials_pid_space(void)
{
	struct stat pids, times;

	if (!proc_is_ours() || stat("/proc/self/ns/pid", &pids))
		return 0;
	if (stat("/proc/self/ns/time", &times)) /* a kernel without them */
		times.st_ino = 0;
	return (uint64_t)pids.st_ino << 32 ^ (uint64_t)times.st_ino;
}

/*
 * The descriptor first: if the process of that pid started when ours did, it is ours, and was when the descriptor was opened.
 */
bool credentials_find(int32_t pid, uint64_t started, uint64_t pid_space, int *pidfdp)
{
	uint64_t now;
	long fd;

	*pidfdp = -1;
	if (pid <= 0 || !pid_space || pid_space != credentials_pid_space())
		return true;
	fd = syscall(SYS_pidfd_open, pid, 0);
	if (fd < 0)
		return errno != ESRCH;
	now = credentials_started(pid);
	if (started && now == started) {
		*pidfdp = (int)fd;
		return true;
	}
	close((int)fd);
	return !started || !now; /* a stranger has its pid; or nobody can tell */
}
