// SPDX-License-Identifier: MIT
#include "tests/lib/fault.h"

#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/types.h>

#define FOR_EVER UINT_MAX

static atomic_uint armed_calls, n_until, n_more, n_failed; /* n_more: that fail after that; FOR_EVER: all */

static void arm(unsigned calls, unsigned nth, unsigned more)
{
	atomic_store(&n_until, nth);
	atomic_store(&n_failed, 0);
	atomic_store(&n_more, more);
	atomic_store(&armed_calls, calls);
}

void fault_arm(unsigned calls, unsigned nth, bool persistent)
{
	arm(calls, nth, persistent ? FOR_EVER : 0);
}

void fault_arm_some(unsigned calls, unsigned n)
{
	arm(calls, 1, n - 1);
}

unsigned fault_disarm(void)
{
	atomic_store(&armed_calls, 0);
	return atomic_load(&n_failed);
}

/* Two threads may both find one call left: only the one whose exchange succeeds counts it. Return: what was there before */
static unsigned count_down(atomic_uint *count)
{
	unsigned left = atomic_load(count);

	while (left && left != FOR_EVER && !atomic_compare_exchange_weak(count, &left, left - 1))
		;
	return left;
}

static bool fails(enum fault_call call)
{
	unsigned left;

	if (!(atomic_load(&armed_calls) & call))
		return false;
	left = count_down(&n_until);
	if (left > 1 || (!left && !count_down(&n_more)))
		return false;
	atomic_fetch_add(&n_failed, 1);
	return true;
}

/* The linker's --wrap gives them their names. */
void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__real_mmap(void *at, size_t n, int prot, int flags, int fd, off_t offset);
int __real_ftruncate(int fd, off_t n);
int __real_posix_fallocate(int fd, off_t offset, off_t n);
int __real_shm_open(const char *name, int flags, mode_t mode);
int __real_accept4(int fd, struct sockaddr *address, socklen_t *n, int flags);

void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_mmap(void *at, size_t n, int prot, int flags, int fd, off_t offset);
int __wrap_ftruncate(int fd, off_t n);
int __wrap_posix_fallocate(int fd, off_t offset, off_t n);
int __wrap_shm_open(const char *name, int flags, mode_t mode);
int __wrap_accept4(int fd, struct sockaddr *address, socklen_t *n, int flags);

static void *no_memory(void)
{
	errno = ENOMEM;
	return NULL;
}

static int minus_one(int error)
{
	errno = error;
	return -1;
}

void *__wrap_malloc(size_t n)
{
	return fails(FAULT_MALLOC) ? no_memory() : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return fails(FAULT_MALLOC) ? no_memory() : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
	return fails(FAULT_MALLOC) ? no_memory() : __real_realloc(p, n);
}

void *__wrap_mmap(void *at, size_t n, int prot, int flags, int fd, off_t offset)
{
	if (fails(FAULT_MMAP)) {
		errno = ENOMEM;
		return MAP_FAILED;
	}
	return __real_mmap(at, n, prot, flags, fd, offset);
}

int __wrap_ftruncate(int fd, off_t n)
{
	return fails(FAULT_FTRUNCATE) ? minus_one(EIO) : __real_ftruncate(fd, n);
}

int __wrap_posix_fallocate(int fd, off_t offset, off_t n)
{
	return fails(FAULT_FALLOCATE) ? ENOSPC : __real_posix_fallocate(fd, offset, n);
}

int __wrap_shm_open(const char *name, int flags, mode_t mode)
{
	return fails(FAULT_SHM_OPEN) ? minus_one(EMFILE) : __real_shm_open(name, flags, mode);
}

int __wrap_accept4(int fd, struct sockaddr *address, socklen_t *n, int flags)
{
	return fails(FAULT_ACCEPT) ? minus_one(EMFILE) : __real_accept4(fd, address, n, flags);
}
