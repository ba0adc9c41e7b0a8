// SPDX-License-Identifier: MIT
/*
 * The calls by which the daemon gets memory, of its own and shared, are ours: linked with --wrap. An object is a range of this
 * process; its length, its name and which of its pages are backed is all there is to know of it. What is allocated is never freed
 * but all at once. Time stands still, and what is random counts up: a schedule runs the same way each time.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "explore.h"

#define PAGE	    4096u
#define ARENA_BYTES (4u << 20)
#define KEPT_BYTES  (4u << 20)

enum {
	N_OBJECTS = 8,
	N_PAGES = 1024,
	FD_FIRST = 1000
};

struct object {
	char name[160];
	uint64_t n_bytes;
	uint8_t *base; /* NULL: nobody has mapped it */
	uint32_t n_pages;
	uint32_t pages[N_PAGES]; /* that are backed, if it is mapped */
};

static struct {
	struct object objects[N_OBJECTS];
	uint32_t n_objects;
	size_t n_used; /* of the arena */
	uint64_t n_random;
} now, kept;

static uint8_t *arena, *kept_bytes;

void __real_free(void *p);
int __real_munmap(void *at, size_t n);
void *__real_mmap(void *at, size_t n, int prot, int flags, int fd, off_t offset);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void __wrap_free(void *p);
void *__wrap_realloc(void *p, size_t n);
int __wrap_shm_open(const char *name, int flags, mode_t mode);
int __wrap_shm_unlink(const char *name);
int __wrap_fchmod(int fd, mode_t mode);
int __wrap_close(int fd);
int __wrap_ftruncate(int fd, off_t n);
int __wrap_fstat(int fd, struct stat *st);
void *__wrap_mmap(void *at, size_t n, int prot, int flags, int fd, off_t offset);
int __wrap_munmap(void *at, size_t n);
int __wrap_madvise(void *at, size_t n, int advice);
int __wrap_posix_fallocate(int fd, off_t offset, off_t n);
int __wrap_fallocate(int fd, int mode, off_t offset, off_t n);
ssize_t __wrap_pread(int fd, void *to, size_t n, off_t offset);
ssize_t __wrap_getrandom(void *to, size_t n, unsigned flags);
time_t __wrap_time(time_t *t);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ts);
uid_t __wrap_geteuid(void);
int __wrap_lease_guard_map(void **guardp, int fd, uint64_t n_bytes, uint8_t **mapp);
void *__wrap_lease_guard_unmap(void *guard);
bool __wrap_lease_guard_was_hit(const void *guard);

static bool is_ours(const void *p)
{
	return arena && (const uint8_t *)p >= arena && (const uint8_t *)p < arena + ARENA_BYTES;
}

/* ---- put back ---- */

static uint8_t *reserve(size_t n)
{
	void *p = __real_mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		abort();
	return p;
}

void memory_reset(void)
{
	if (!arena) {
		arena = reserve(ARENA_BYTES);
		kept_bytes = reserve(KEPT_BYTES);
	}
	for (uint32_t i = 0; i < now.n_objects; i++)
		if (now.objects[i].base)
			__real_munmap(now.objects[i].base, now.objects[i].n_bytes);
	memset(&now, 0, sizeof(now));
}

static void copy(bool keeps)
{
	uint8_t *at = kept_bytes;

	for (uint32_t i = 0; i < kept.n_objects; i++)
		for (uint32_t k = 0; k < kept.objects[i].n_pages; k++, at += PAGE) {
			uint8_t *page = kept.objects[i].base + (size_t)kept.objects[i].pages[k] * PAGE;

			memcpy(keeps ? at : page, keeps ? page : at, PAGE);
		}
	memcpy(keeps ? at : arena, keeps ? arena : at, kept.n_used);
}

void memory_keep(void)
{
	size_t n = now.n_used;

	for (uint32_t i = 0; i < now.n_objects; i++)
		n += (size_t)now.objects[i].n_pages * PAGE;
	if (n > KEPT_BYTES)
		abort();
	kept = now;
	copy(true);
}

void memory_restore(void)
{
	for (uint32_t i = 0; i < now.n_objects; i++) {
		struct object *object = &now.objects[i];
		uint32_t n = i < kept.n_objects ? kept.objects[i].n_pages : 0;

		for (; object->n_pages > n; object->n_pages--) /* backed since */
			memset(object->base + (size_t)object->pages[object->n_pages - 1] * PAGE, 0, PAGE);
	}
	if (now.n_objects != kept.n_objects)
		abort(); /* no scenario makes one */
	now.n_used = kept.n_used;
	now.n_random = kept.n_random;
	copy(false);
}

/* ---- memory of its own ---- */

struct head {
	size_t n, unused;
};

static void *take(size_t n)
{
	struct head *head = (struct head *)(void *)(arena + now.n_used);

	n = (n + 15) / 16 * 16;
	if (!arena || now.n_used + n + sizeof(*head) > ARENA_BYTES)
		abort();
	now.n_used += n + sizeof(*head);
	head->n = n;
	return head + 1;
}

void *__wrap_malloc(size_t n)
{
	void *p = take(n);

	memset(p, 0, n); /* so that every run finds the same there */
	return p;
}

void *__wrap_calloc(size_t n, size_t size)
{
	return __wrap_malloc(n * size);
}

void __wrap_free(void *p)
{
	if (!is_ours(p))
		__real_free(p); /* the C library's own */
}

void *__wrap_realloc(void *p, size_t n)
{
	void *made = __wrap_malloc(n);
	size_t had = p ? ((struct head *)p - 1)->n : 0;

	if (p)
		memcpy(made, p, had < n ? had : n);
	return made;
}

/* ---- objects ---- */

static struct object *object_of(int fd)
{
	if (fd < FD_FIRST || (uint32_t)(fd - FD_FIRST) >= now.n_objects)
		abort();
	return &now.objects[fd - FD_FIRST];
}

void *memory_of(int fd)
{
	return object_of(fd)->base;
}

int __wrap_shm_open(const char *name, int flags, mode_t mode)
{
	struct object *object;

	(void)flags, (void)mode;
	for (uint32_t i = 0; i < now.n_objects; i++)
		if (!strcmp(now.objects[i].name, name))
			return FD_FIRST + (int)i;
	if (now.n_objects == N_OBJECTS)
		abort();
	object = &now.objects[now.n_objects++];
	snprintf(object->name, sizeof(object->name), "%s", name);
	return FD_FIRST + (int)now.n_objects - 1;
}

int __wrap_shm_unlink(const char *name)
{
	(void)name;
	return 0;
}

int __wrap_fchmod(int fd, mode_t mode)
{
	(void)fd, (void)mode;
	return 0;
}

int __wrap_close(int fd)
{
	(void)fd;
	return 0;
}

int __wrap_ftruncate(int fd, off_t n)
{
	struct object *object = object_of(fd);

	if (object->base && object->n_bytes != (uint64_t)n)
		abort();
	object->n_bytes = (uint64_t)n;
	return 0;
}

int __wrap_fstat(int fd, struct stat *st)
{
	*st = (struct stat){.st_mode = S_IFREG | 0600,
			    .st_uid = __wrap_geteuid(),
			    .st_nlink = 1,
			    .st_size = (off_t)object_of(fd)->n_bytes,
			    .st_blocks = (blkcnt_t)(object_of(fd)->n_bytes / 512)};
	return 0;
}

void *__wrap_mmap(void *at, size_t n, int prot, int flags, int fd, off_t offset)
{
	struct object *object = object_of(fd);

	(void)at, (void)prot, (void)flags;
	if (offset || n != object->n_bytes)
		abort();
	if (!object->base)
		object->base = reserve(n);
	return object->base;
}

int __wrap_munmap(void *at, size_t n)
{
	(void)at, (void)n;
	return 0;
}

int __wrap_madvise(void *at, size_t n, int advice)
{
	(void)at, (void)n, (void)advice;
	return 0;
}

static void back(struct object *object, uint32_t page)
{
	for (uint32_t i = 0; i < object->n_pages; i++)
		if (object->pages[i] == page)
			return;
	if (object->n_pages == N_PAGES)
		abort();
	object->pages[object->n_pages++] = page;
}

int __wrap_posix_fallocate(int fd, off_t offset, off_t n)
{
	struct object *object = object_of(fd);

	if (!strcmp(object->name, now.objects[0].name) && !object->base) /* data: nobody looks into it */
		return 0;
	for (uint64_t page = (uint64_t)offset / PAGE; page < ((uint64_t)(offset + n) + PAGE - 1) / PAGE; page++)
		back(object, (uint32_t)page);
	return 0;
}

int __wrap_fallocate(int fd, int mode, off_t offset, off_t n)
{
	(void)fd, (void)mode, (void)offset, (void)n;
	return 0;
}

/* Others go on between any two words of a read. */
ssize_t __wrap_pread(int fd, void *to, size_t n, off_t offset)
{
	const struct lease_header *header = memory_of(fd);
	const uint8_t *from = (const uint8_t *)header + offset;

	if ((uint64_t)offset + n > object_of(fd)->n_bytes)
		n = object_of(fd)->n_bytes - (uint64_t)offset;
	if (header->magic != LEASE_MAGIC || (uint64_t)offset < header->words_at) {
		memcpy(to, from, n);
		return (ssize_t)n;
	}
	for (size_t i = 0; i < n; i += 2) {
		if (i)
			lease_test_step("word read", from + i);
		memcpy((uint8_t *)to + i, from + i, 2);
	}
	return (ssize_t)n;
}

/* ---- the rest ---- */

ssize_t __wrap_getrandom(void *to, size_t n, unsigned flags)
{
	(void)flags;
	memset(to, 0, n);
	now.n_random++;
	memcpy(to, &now.n_random, n < sizeof(now.n_random) ? n : sizeof(now.n_random));
	return (ssize_t)n;
}

time_t __wrap_time(time_t *t)
{
	if (t)
		*t = 1700000000;
	return 1700000000;
}

int __wrap_clock_gettime(clockid_t clock, struct timespec *ts)
{
	(void)clock;
	*ts = (struct timespec){.tv_sec = 1700000000};
	return 0;
}

/* A system call for each restart of the daemon would be most of what a schedule costs. */
uid_t __wrap_geteuid(void)
{
	return 1000;
}

/* No client cuts the segment short here. */
int __wrap_lease_guard_map(void **guardp, int fd, uint64_t n_bytes, uint8_t **mapp)
{
	*guardp = NULL;
	*mapp = __wrap_mmap(NULL, n_bytes, 0, 0, fd, 0);
	return 0;
}

void *__wrap_lease_guard_unmap(void *guard)
{
	(void)guard;
	return NULL;
}

bool __wrap_lease_guard_was_hit(const void *guard)
{
	(void)guard;
	return false;
}
