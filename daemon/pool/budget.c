// SPDX-License-Identifier: MIT
/*
 * Three who could refuse are asked, and the least of their answers counts:
 *   the file system   free blocks of the tmpfs (none of its own limit: no answer)
 *   control groups    memory.max of every group from ours up (or memory.limit_in_bytes of version 1), less what is used.
 *                     Clean file pages count as used there but give way, so the inactive ones are taken off.
 *   the machine       MemAvailable
 * Each keeps a reserve: the ledgers, the daemon's heap and everybody else grow without asking us, and where the answer
 * is wrong by a little a process dies. It is a fiftieth, so that a small tmpfs can nearly be filled, but not more than
 * 64 MiB, about what a daemon of this kind and its books take while one answer serves.
 */
#include "pool/budget.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define RESERVE_PART   50u
#define RESERVE_MOST   (UINT64_C(64) << 20)
#define CREDIT_PART    8u /* of what is free: several daemons may ask at once */
#define CREDIT_MOST    (UINT64_C(64) << 20)
#define CREDIT_AGE_NS  100000000u /* simply picked: others may have taken the memory since */
#define FILE_BYTES     8192u	  /* memory.stat has about 3 KiB */
#define N_GROUP_LEVELS 32u
#define UNLIMITED_V1   (UINT64_C(1) << 62) /* version 1 says "none" by a number near 2^63 */

int budget_init(struct budget *budget, uint64_t limit_bytes)
{
	*budget = (struct budget){.limit_bytes = limit_bytes, .root = ""};
	return -pthread_mutex_init(&budget->mutex, NULL);
}

void budget_deinit(struct budget *budget)
{
	pthread_mutex_destroy(&budget->mutex);
}

/* ---- small files of the kernel ---- */

/* Return: bytes read, the text NUL-terminated; 0 if there is no such file. */
static size_t read_text(const char *path, char text[static FILE_BYTES])
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return 0;
	n = read(fd, text, FILE_BYTES - 1);
	close(fd);
	text[n > 0 ? n : 0] = '\0';
	return n > 0 ? (size_t)n : 0;
}

/* The number behind @key at the start of a line. */
static bool find_number(const char *text, const char *key, uint64_t *valuep)
{
	size_t n = strlen(key);

	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (!strncmp(line, key, n))
			return sscanf(line + n, "%" SCNu64, valuep) == 1;
	}
	return false;
}

static uint64_t less_reserve(uint64_t available, uint64_t total)
{
	uint64_t reserve = total / RESERVE_PART < RESERVE_MOST ? total / RESERVE_PART : RESERVE_MOST;

	return available > reserve ? available - reserve : 0;
}

/* ---- the three ---- */

static uint64_t file_system_free(int fd)
{
	struct statvfs st;

	if (fstatvfs(fd, &st) || !st.f_blocks)
		return UINT64_MAX;
	return less_reserve((uint64_t)st.f_bavail * st.f_frsize, (uint64_t)st.f_blocks * st.f_frsize);
}

static uint64_t machine_free(const struct budget *budget)
{
	char path[PATH_MAX], text[FILE_BYTES];
	uint64_t total = 0, available;

	snprintf(path, sizeof(path), "%s/proc/meminfo", budget->root);
	if (!read_text(path, text) || !find_number(text, "MemAvailable:", &available))
		return UINT64_MAX;
	find_number(text, "MemTotal:", &total);
	return less_reserve(available * 1024, total * 1024);
}

struct group_files {
	const char *controller; /* second field of /proc/self/cgroup */
	const char *mounts[2];	/* where its tree may be */
	const char *limit, *used, *inactive;
};

static const struct group_files versions[] = {
	{"", {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"}, "memory.max", "memory.current", "inactive_file "},
	{"memory",
	 {"/sys/fs/cgroup/memory", NULL},
	 "memory.limit_in_bytes",
	 "memory.usage_in_bytes",
	 "total_inactive_file "},
};

static bool read_number(const char *folder, const char *file, uint64_t *valuep)
{
	char path[PATH_MAX + 64], text[FILE_BYTES];

	snprintf(path, sizeof(path), "%s/%s", folder, file);
	return read_text(path, text) && sscanf(text, "%" SCNu64, valuep) == 1; /* "max" is no number: no limit */
}

static uint64_t group_free(const char *folder, const struct group_files *files)
{
	char path[PATH_MAX + 64], text[FILE_BYTES];
	uint64_t limit, used, inactive = 0;

	if (!read_number(folder, files->limit, &limit) || limit >= UNLIMITED_V1 ||
	    !read_number(folder, files->used, &used))
		return UINT64_MAX;
	snprintf(path, sizeof(path), "%s/memory.stat", folder);
	if (read_text(path, text))
		find_number(text, files->inactive, &inactive);
	used -= inactive < used ? inactive : used;
	return less_reserve(limit > used ? limit - used : 0, limit);
}

/* From our group up to the root: each has a say. */
static uint64_t groups_above_free(const struct budget *budget, const struct group_files *files, const char *group)
{
	uint64_t least = UINT64_MAX, one;
	char folder[PATH_MAX];

	for (size_t m = 0; m < N_ELEMENTS(files->mounts) && files->mounts[m]; m++) {
		int n_mount = snprintf(folder, sizeof(folder), "%s%s", budget->root, files->mounts[m]);
		int n = snprintf(folder, sizeof(folder), "%s%s%s", budget->root, files->mounts[m], group);

		if (n >= PATH_MAX)
			continue;
		for (unsigned level = 0; level < N_GROUP_LEVELS && n >= n_mount; level++) {
			folder[n] = '\0';
			one = group_free(folder, files);
			least = one < least ? one : least;
			while (n > n_mount && folder[n - 1] != '/')
				n--;
			n--; /* the slash; below n_mount after the root's turn */
		}
	}
	return least;
}

static uint64_t control_groups_free(const struct budget *budget)
{
	char path[PATH_MAX], text[FILE_BYTES], *line, *rest = text;
	uint64_t least = UINT64_MAX, one;

	snprintf(path, sizeof(path), "%s/proc/self/cgroup", budget->root);
	if (!read_text(path, text))
		return UINT64_MAX;
	while ((line = strsep(&rest, "\n"))) { /* "hierarchy:controllers:group" */
		char *group = line;

		strsep(&group, ":");
		line = strsep(&group, ":");
		for (size_t i = 0; line && group && i < N_ELEMENTS(versions); i++) {
			if (strcmp(line, versions[i].controller))
				continue;
			one = groups_above_free(budget, versions + i, strcmp(group, "/") ? group : "");
			least = one < least ? one : least;
		}
	}
	return least;
}

/* ---- credit ---- */

static uint64_t least_of(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static bool ask(struct budget *budget, int fd, uint64_t n_bytes, uint64_t now)
{
	uint64_t free_bytes =
		least_of(file_system_free(fd), least_of(control_groups_free(budget), machine_free(budget)));

	budget->credit_bytes = 0;
	if (n_bytes > free_bytes)
		return false;
	budget->credit_bytes = n_bytes + least_of((free_bytes - n_bytes) / CREDIT_PART, CREDIT_MOST);
	budget->asked_ns = now;
	return true;
}

int budget_spend(struct budget *budget, int fd, uint64_t n_bytes)
{
	uint64_t now = now_ns();
	bool granted;

	pthread_mutex_lock(&budget->mutex);
	granted = budget->spent_bytes <= budget->limit_bytes && n_bytes <= budget->limit_bytes - budget->spent_bytes;
	if (granted && (n_bytes > budget->credit_bytes || now > budget->asked_ns + CREDIT_AGE_NS))
		granted = ask(budget, fd, n_bytes, now);
	if (granted) {
		budget->credit_bytes -= n_bytes;
		budget->spent_bytes += n_bytes;
	}
	pthread_mutex_unlock(&budget->mutex);
	return granted ? 0 : BUDGET_E_EXHAUSTED;
}

void budget_take_over(struct budget *budget, uint64_t n_bytes)
{
	pthread_mutex_lock(&budget->mutex);
	budget->spent_bytes += n_bytes;
	pthread_mutex_unlock(&budget->mutex);
}

void budget_give_back(struct budget *budget, uint64_t n_bytes)
{
	pthread_mutex_lock(&budget->mutex);
	budget->spent_bytes -= n_bytes;
	pthread_mutex_unlock(&budget->mutex);
}

uint64_t budget_spent(struct budget *budget)
{
	uint64_t spent;

	pthread_mutex_lock(&budget->mutex);
	spent = budget->spent_bytes;
	pthread_mutex_unlock(&budget->mutex);
	return spent;
}
