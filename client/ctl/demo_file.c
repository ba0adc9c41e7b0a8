// SPDX-License-Identifier: MIT
/*
 * The file made here is unlinked from its birth, so whatever happens to the demo, nothing of it stays.
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl/demo_file.h"
#include "ctl/demo_pipe.h"
#include "ctl/error.h"

#define MADE_BYTES (32u << 20)
#define READ_BYTES (256u << 10)

static const char *const sources[] = {
	"/usr/share/common-licenses/*", /* text, for lines and words */
	"/lib/*/libc.so.6", "/usr/lib/*/libc.so.6",
	"/proc/self/exe", /* there wherever we run, so there is always something */
};

static int refuse(int r, const char *what, const char *name)
{
	error_report(EXIT_OTHER, -r, "demo: %s '%s': %s", what, name, strerror(-r));
	return r;
}

static int make_unnamed(const char *directory)
{
	char path[4096];
	int fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd >= 0)
		return fd;
	snprintf(path, sizeof(path), "%s/mempoolctl-demo-XXXXXX", directory); /* a file system without O_TMPFILE */
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	unlink(path);
	return fd;
}

/* append() - what is in the file at @path, as far as it can be read and there is room. Return: 0, -errno of writing */
static int append(struct demo_file *file, const char *path, uint8_t *buffer)
{
	int from = open(path, O_RDONLY | O_CLOEXEC), r = 0;
	ssize_t n;

	if (from < 0)
		return 0;
	while (!r && (n = read(from, buffer, READ_BYTES)) > 0) {
		uint64_t left = MADE_BYTES - file->n_bytes;

		if ((uint64_t)n > left)
			n = (ssize_t)left;
		if (!n)
			break;
		r = demo_pipe_write(file->fd, buffer, (size_t)n);
		file->n_bytes += (uint64_t)n;
	}
	close(from);
	return r;
}

static int append_sources(struct demo_file *file, uint8_t *buffer)
{
	int r = 0;

	for (size_t i = 0; !r && i < N_ELEMENTS(sources); i++) {
		glob_t paths = {0};

		if (!glob(sources[i], 0, NULL, &paths)) {
			for (size_t k = 0; !r && k < paths.gl_pathc; k++)
				r = append(file, paths.gl_pathv[k], buffer);
		}
		globfree(&paths);
	}
	return r;
}

int demo_file_make(struct demo_file *file)
{
	const char *directory = getenv("TMPDIR");
	uint8_t *buffer = malloc(READ_BYTES);
	int r = 0;

	if (!buffer)
		error_no_memory();
	if (!directory || !*directory)
		directory = "/tmp";
	*file = (struct demo_file){.fd = make_unnamed(directory), .name = "licences, libc and this program, repeated"};
	if (file->fd < 0) {
		free(buffer);
		return refuse(file->fd, "cannot make a file in", directory);
	}
	while (!r && file->n_bytes < MADE_BYTES) {
		uint64_t before = file->n_bytes;

		r = append_sources(file, buffer);
		if (!r && file->n_bytes == before) /* no /proc, and nothing else */
			r = -ENOENT;
	}
	free(buffer);
	if (!r)
		return 0;
	close(file->fd);
	return refuse(r, "cannot make a file in", directory);
}

int demo_file_open(struct demo_file *file, const char *path)
{
	struct stat stat;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO without a writer is refused, not waited for */

	if (fd < 0)
		return refuse(-errno, "cannot open", path);
	if (fstat(fd, &stat) || !S_ISREG(stat.st_mode) || !stat.st_size) {
		close(fd);
		error_report(EXIT_OTHER, EINVAL, "demo: '%s' is %s; name a file with something in it", path,
			     S_ISREG(stat.st_mode) ? "empty" : "not a regular file");
		return -EINVAL;
	}
	*file = (struct demo_file){.fd = fd, .n_bytes = (uint64_t)stat.st_size, .name = path};
	return 0;
}

int demo_file_tally(const struct demo_file *file, struct tally *tallyp)
{
	uint8_t *buffer = malloc(READ_BYTES);
	struct tally sum = {0}, part;
	ssize_t n = 0;

	if (!buffer)
		error_no_memory();
	while (sum.n_bytes < file->n_bytes) {
		n = pread(file->fd, buffer, READ_BYTES, (off_t)sum.n_bytes);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		part = tally_of(buffer, (size_t)n);
		tally_append(&sum, &part);
	}
	free(buffer);
	if (sum.n_bytes != file->n_bytes)
		return refuse(n < 0 ? -errno : -EIO, "cannot read", file->name);
	*tallyp = sum;
	return 0;
}
