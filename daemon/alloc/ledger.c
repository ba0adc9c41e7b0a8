// SPDX-License-Identifier: MIT
#include "alloc/ledger.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define LEDGER_PAGE 4096u
#define LEDGER_STEP_BYTES \
	(256u << 10) /* most that one growth backs ahead of need: 30 us, and little to weigh on books */

static int back(int fd, uint64_t offset, uint64_t n_bytes)
{
	int r;

	do {
		r = posix_fallocate(fd, (off_t)offset, (off_t)n_bytes);
	} while (r == EINTR);
	return -r;
}

int ledger_init(struct ledger *ledger, int fd, const struct ledger_shape *shape)
{
	struct ledger made = LEDGER_NULL;
	uint64_t end = LEDGER_PAGE;
	void *map;
	int r;

	for (int id = 0; id < LEDGER_TABLE_N; id++) {
		uint64_t n_bytes = (uint64_t)shape->elem_bytes[id] * shape->n_max[id];

		made.tables[id].file_offset = end;
		made.tables[id].elem_bytes = shape->elem_bytes[id];
		made.tables[id].n_max = shape->n_max[id];
		end += round_up(n_bytes, LEDGER_PAGE);
	}
	if (ftruncate(fd, (off_t)end))
		return -errno;
	r = back(fd, 0, LEDGER_PAGE);
	if (r)
		return r;
	map = mmap(NULL, end, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	made.map = map;
	made.map_bytes = end;
	made.backed_bytes = LEDGER_PAGE;
	made.header = map;
	for (int id = 0; id < LEDGER_TABLE_N; id++)
		made.tables[id].base = made.map + made.tables[id].file_offset;
	made.header->magic = LEDGER_MAGIC;
	made.header->version = LEDGER_VERSION;
	made.header->header_bytes = sizeof(*made.header);
	made.fd = fd;
	*ledger = made;
	return 0;
}

void ledger_deinit(struct ledger *ledger)
{
	if (ledger->map)
		munmap(ledger->map, ledger->map_bytes);
	if (ledger->fd >= 0)
		close(ledger->fd);
	*ledger = (struct ledger)LEDGER_NULL;
}

/* How many elements to back so that @n count: an eighth more than needed, in whole pages, and never a step that takes long. */
static uint64_t step_end(const struct ledger_table *table, uint32_t n)
{
	uint64_t needed = (uint64_t)n * table->elem_bytes;
	uint64_t most = (uint64_t)table->n_max * table->elem_bytes;
	uint64_t ahead = needed / 8 < LEDGER_STEP_BYTES ? needed / 8 : LEDGER_STEP_BYTES;
	uint64_t end = round_up(needed + ahead, LEDGER_PAGE);

	most = round_up(most, LEDGER_PAGE);
	return end < most ? end : most;
}

int ledger_reserve(struct ledger *ledger, enum ledger_table_id id, uint32_t n)
{
	struct ledger_table *table = &ledger->tables[id];
	uint64_t from, end, n_backed;
	int r;

	if (n <= table->n_backed)
		return 0;
	if (n > table->n_max)
		return -ENOSPC;
	from = round_up((uint64_t)table->n_backed * table->elem_bytes, LEDGER_PAGE);
	end = step_end(table, n);
	if (end > from) {
		r = back(ledger->fd, table->file_offset + from, end - from);
		if (r)
			return r;
		ledger->backed_bytes += end - from;
	}
	n_backed = end / table->elem_bytes;
	table->n_backed = n_backed < table->n_max ? (uint32_t)n_backed : table->n_max;
	return 0;
}
