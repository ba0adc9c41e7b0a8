// SPDX-License-Identifier: MIT
#include "pool/segment.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define DIRECTORY  "/dev/shm" /* where shm_open() makes its objects */
#define TAG_BYTES  16u	      /* 128 random bits: nobody guesses one, and no two are ever the same */
#define TAG_DIGITS (2 * TAG_BYTES)
#define N_TRIES	   4 /* an existing name means that somebody plants names: once is chance enough */

static bool instance_is_valid(const char *instance)
{
	size_t n = strlen(instance);

	return n && n <= SEGMENT_INSTANCE_MAX && !strchr(instance, '/');
}

static int name_make(char name[static SEGMENT_NAME_BYTES], const char *instance)
{
	uint8_t tag[TAG_BYTES];
	int n = snprintf(name, SEGMENT_NAME_BYTES, "/mempool.%s.", instance);

	if (getrandom(tag, sizeof(tag), 0) != (ssize_t)sizeof(tag))
		return -EIO;
	for (size_t i = 0; i < sizeof(tag); i++)
		n += snprintf(name + n, SEGMENT_NAME_BYTES - (size_t)n, "%02x", tag[i]);
	return 0;
}

int segment_create(struct segment *segment, const char *instance)
{
	struct segment made = SEGMENT_NULL;
	int r = instance_is_valid(instance) ? 0 : -EINVAL;

	for (int i = 0; !r && made.fd < 0; i++) {
		r = name_make(made.name, instance);
		if (r)
			break;
		made.fd = shm_open(made.name, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
		if (made.fd < 0 && (errno != EEXIST || i == N_TRIES))
			r = -errno;
	}
	/* A umask can only have taken away from the mode: nobody could open it in between. */
	if (!r && fchmod(made.fd, 0600)) {
		r = -errno;
		segment_unlink(&made);
		segment_deinit(&made);
	}
	if (!r)
		*segment = made;
	return r;
}

void segment_unlink(struct segment *segment)
{
	if (segment->name[0])
		shm_unlink(segment->name);
	segment->name[0] = '\0';
}

void segment_deinit(struct segment *segment)
{
	if (segment->fd >= 0)
		close(segment->fd);
	segment->fd = -1;
}

/* ---- what a crash left ---- */

static bool is_ours(const struct stat *st)
{
	return S_ISREG(st->st_mode) && st->st_uid == geteuid() && (st->st_mode & 07777) == 0600 && st->st_nlink == 1;
}

static bool is_segment_name(const char *name, const char *instance)
{
	char prefix[SEGMENT_NAME_BYTES];
	size_t n = (size_t)snprintf(prefix, sizeof(prefix), "mempool.%s.", instance);

	return !strncmp(name, prefix, n) && strlen(name + n) == TAG_DIGITS &&
	       strspn(name + n, "0123456789abcdef") == TAG_DIGITS;
}

/* What is not exactly as we make it is somebody else's, whatever it is called. */
static bool is_ours_at(int dir, const char *name)
{
	struct stat st;

	return !fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) && is_ours(&st);
}

int segment_open(struct segment *segment, const char *instance, const char *name)
{
	struct segment opened = SEGMENT_NULL;
	struct stat st;
	int r = 0;

	if (name[0] != '/' || strnlen(name, SEGMENT_NAME_BYTES) == SEGMENT_NAME_BYTES ||
	    !is_segment_name(name + 1, instance))
		return -EINVAL;
	opened.fd = shm_open(name, O_RDWR | O_NOFOLLOW | O_CLOEXEC, 0);
	if (opened.fd < 0)
		return -errno;
	if (fstat(opened.fd, &st))
		r = -errno;
	else if (!is_ours(&st))
		r = -EPERM;
	if (r) {
		close(opened.fd);
		return r;
	}
	memcpy(opened.name, name, strlen(name));
	*segment = opened;
	return 0;
}

/* Named as shm_open() has it. */
static bool keeps(bool (*is_kept)(void *arg, const char *name), void *arg, const char *file)
{
	char name[sizeof(((struct dirent *)0)->d_name) + 1] = "/";

	strcpy(name + 1, file); /* fits: it is one */
	return is_kept && is_kept(arg, name);
}

int segment_sweep(const char *instance, bool (*is_kept)(void *arg, const char *name), void *arg)
{
	const struct dirent *entry;
	int n = 0;
	DIR *dir;

	if (!instance_is_valid(instance))
		return -EINVAL;
	dir = opendir(DIRECTORY);
	if (!dir)
		return -errno;
	while ((entry = readdir(dir)))
		if (is_segment_name(entry->d_name, instance) && is_ours_at(dirfd(dir), entry->d_name) &&
		    !keeps(is_kept, arg, entry->d_name) && !unlinkat(dirfd(dir), entry->d_name, 0))
			n++;
	closedir(dir);
	return n;
}
