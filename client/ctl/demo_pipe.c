// SPDX-License-Identifier: MIT
#include <errno.h>
#include <unistd.h>

#include "ctl/demo_pipe.h"

int demo_pipe_write(int fd, const void *data, size_t n_bytes)
{
	const char *at = data;

	while (n_bytes) {
		ssize_t n = write(fd, at, n_bytes);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		at += n;
		n_bytes -= (size_t)n;
	}
	return 0;
}

int demo_pipe_read(int fd, void *data, size_t n_bytes)
{
	char *at = data;

	while (n_bytes) {
		ssize_t n = read(fd, at, n_bytes);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			return DEMO_PIPE_E_END;
		at += n;
		n_bytes -= (size_t)n;
	}
	return 0;
}
