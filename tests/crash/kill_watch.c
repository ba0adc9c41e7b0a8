// SPDX-License-Identifier: MIT
#include "kill_watch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static bool is_open(const struct kill_watch *watch, const char *name)
{
	for (unsigned i = 0; i < watch->n; i++)
		if (!strcmp(watch->names[i], name))
			return true;
	return false;
}

static void open_one(struct kill_watch *watch, int dir, const char *name)
{
	struct ledger_header header;
	void *page = MAP_FAILED;
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	if (!ledger_peek(fd, &header))
		page = mmap(NULL, sizeof(header), PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	if (page == MAP_FAILED)
		return;
	snprintf(watch->names[watch->n], sizeof(watch->names[0]), "%s", name);
	watch->headers[watch->n++] = page;
}

int kill_watch_open(struct kill_watch *watch, const char *instance)
{
	DIR *dir = opendir("/dev/shm");
	const struct dirent *entry;
	char prefix[96];

	if (!dir)
		return -errno;
	snprintf(prefix, sizeof(prefix), "mempool.%s", instance);
	while ((entry = readdir(dir)))
		if (!strncmp(entry->d_name, prefix, strlen(prefix)) && watch->n < KILL_WATCHED &&
		    !is_open(watch, entry->d_name))
			open_one(watch, dirfd(dir), entry->d_name);
	closedir(dir);
	return 0;
}

bool kill_watch_sees_update(const struct kill_watch *watch)
{
	for (unsigned i = 0; i < watch->n; i++)
		if (atomic_load_explicit(&watch->headers[i]->n_noted, memory_order_relaxed))
			return true;
	return false;
}

void kill_watch_deinit(struct kill_watch *watch)
{
	while (watch->n)
		munmap((void *)watch->headers[--watch->n], sizeof(struct ledger_header));
}
