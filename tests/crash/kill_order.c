// SPDX-License-Identifier: MIT
/*
 * What was done before a request was sent, or before a slot's word was given up, was done before the answer to any request that was
 * sent later, and before custody that the daemon has had meanwhile is had again: the daemon sees to that.
 */
#include <sys/socket.h>

#include "proto/lease_word.h"

void __tsan_acquire(void *at);
void __tsan_release(void *at);
ssize_t __real_send(int fd, const void *data, size_t n_bytes, int flags);
ssize_t __real_recvmsg(int fd, struct msghdr *message, int flags);
ssize_t __wrap_send(int fd, const void *data, size_t n_bytes, int flags);
ssize_t __wrap_recvmsg(int fd, struct msghdr *message, int flags);

static char order;

ssize_t __wrap_send(int fd, const void *data, size_t n_bytes, int flags)
{
	__tsan_release(&order);
	return __real_send(fd, data, n_bytes, flags);
}

void lease_was_given(void)
{
	__tsan_release(&order);
}

void lease_was_taken(void)
{
	__tsan_acquire(&order);
}

ssize_t __wrap_recvmsg(int fd, struct msghdr *message, int flags)
{
	ssize_t n = __real_recvmsg(fd, message, flags);

	__tsan_acquire(&order);
	return n;
}
