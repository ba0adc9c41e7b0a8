// SPDX-License-Identifier: MIT
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "server/socket.h"

/* bind() would cut a long path silently, at 107 bytes. */
static int address_of(const char *path, struct sockaddr_un *address)
{
	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof(address->sun_path))
		return -ENAMETOOLONG;
	strcpy(address->sun_path, path);
	return 0;
}

static int make_directory(const char *path)
{
	mode_t umask_before;
	int r;

	if (strncmp(path, SOCKET_DIRECTORY "/", sizeof(SOCKET_DIRECTORY)))
		return 0;
	umask_before = umask(022);
	r = mkdir(SOCKET_DIRECTORY, 0755) && errno != EEXIST ? -errno : 0;
	umask(umask_before);
	return r;
}

/* A socket that refuses is stale: its daemon died. One that accepts is another daemon's. */
static int remove_stale(const struct sockaddr_un *address)
{
	struct stat node;
	int fd, r;

	if (lstat(address->sun_path, &node))
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(node.st_mode))
		return -EADDRINUSE;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	r = connect(fd, (const struct sockaddr *)address, sizeof(*address)) ? -errno : 0;
	close(fd);
	if (r != -ECONNREFUSED)
		return !r || r == -EAGAIN ? -EADDRINUSE : r; /* EAGAIN: its backlog is full */
	return unlink(address->sun_path) && errno != ENOENT ? -errno : 0;
}

static int bind_open_to_all(int fd, const struct sockaddr_un *address)
{
	mode_t umask_before = umask(0111); /* 0777 less this is 0666 from the first moment on */
	int r = bind(fd, (const struct sockaddr *)address, sizeof(*address)) ? -errno : 0;

	umask(umask_before);
	return r;
}

int socket_listen(struct socket_listener *listener, const char *path)
{
	struct sockaddr_un address;
	struct stat node;
	int fd, r;

	r = address_of(path, &address);
	r = r ? r : make_directory(path);
	r = r ? r : remove_stale(&address);
	if (r)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	r = bind_open_to_all(fd, &address);
	if (r)
		goto err_after_socket;
	if (lstat(path, &node) || listen(fd, SOMAXCONN)) {
		r = -errno;
		goto err_after_bind;
	}
	*listener = (struct socket_listener){.fd = fd, .path = path, .dev = node.st_dev, .ino = node.st_ino};
	return 0;

err_after_bind:
	unlink(path);
err_after_socket:
	close(fd);
	return r;
}

void socket_close(struct socket_listener *listener)
{
	struct stat node;

	if (listener->fd < 0)
		return;
	if (!lstat(listener->path, &node) && node.st_dev == listener->dev && node.st_ino == listener->ino)
		unlink(listener->path);
	close(listener->fd);
	listener->fd = -1;
}
