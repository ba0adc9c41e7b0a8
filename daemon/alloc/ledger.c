// SPDX-License-Identifier: MIT
#include "alloc/ledger.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "alloc/intent.h"

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

/* Lays the tables out behind the header. Return: the length of the object */
static uint64_t lay_out(struct ledger *ledger, const struct ledger_shape *shape)
{
	uint64_t end = LEDGER_PAGE;

	for (int id = 0; id < LEDGER_TABLE_N; id++) {
		struct ledger_table *table = &ledger->tables[id];

		*table = (struct ledger_table){
			.file_offset = end, .elem_bytes = shape->elem_bytes[id], .n_max = shape->n_max[id]};
		end += round_up((uint64_t)shape->elem_bytes[id] * shape->n_max[id], LEDGER_PAGE);
	}
	return end;
}

static int map_object(struct ledger *ledger, int fd, uint64_t n_bytes)
{
	void *map = mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);

	if (map == MAP_FAILED)
		return -errno;
	ledger->map = map;
	ledger->map_bytes = n_bytes;
	ledger->header = map;
	for (int id = 0; id < LEDGER_TABLE_N; id++)
		ledger->tables[id].base = ledger->map + ledger->tables[id].file_offset;
	return 0;
}

int ledger_init(struct ledger *ledger, int fd, const struct ledger_shape *shape)
{
	struct ledger made = LEDGER_NULL;
	uint64_t n_bytes = lay_out(&made, shape);
	int r;

	static_assert(sizeof(struct ledger_header) <= LEDGER_PAGE, "the header is one page");
	if (ftruncate(fd, (off_t)n_bytes))
		return -errno;
	r = back(fd, 0, LEDGER_PAGE);
	if (!r)
		r = map_object(&made, fd, n_bytes);
	if (r)
		return r;
	made.backed_bytes = LEDGER_PAGE;
	made.header->file_bytes = n_bytes;
	made.header->version = LEDGER_VERSION;
	made.header->header_bytes = sizeof(*made.header);
	atomic_thread_fence(memory_order_release);
	made.header->magic = LEDGER_MAGIC;
	made.fd = fd;
	*ledger = made;
	return 0;
}

int ledger_peek(int fd, struct ledger_header *header)
{
	struct stat st;
	ssize_t n;

	if (fstat(fd, &st))
		return -errno;
	n = pread(fd, header, sizeof(*header), 0);
	if (n < 0)
		return -errno;
	if ((size_t)n < sizeof(header->magic) + 2 * sizeof(uint32_t) || header->magic != LEDGER_MAGIC)
		return LEDGER_E_FOREIGN;
	if (header->version != LEDGER_VERSION)
		return LEDGER_E_VERSION;
	if ((size_t)n < sizeof(*header) || header->header_bytes != sizeof(*header) ||
	    header->file_bytes != (uint64_t)st.st_size)
		return LEDGER_E_DAMAGED;
	return 0;
}

/* All at once instead of one fault for each page: a million blocks have 19,000. Where the kernel cannot (before 5.14), faults do. */
static void map_pages(const struct ledger *ledger, uint64_t offset, uint64_t n_bytes)
{
	(void)madvise(ledger->map + offset, n_bytes, MADV_POPULATE_WRITE);
}

/*
 * Whether the object has as many pages as count. Fewer mean that somebody punched it, and what stood there is lost; or a copy whose
 * holes are where zeros were. And a header that says more is not followed until memory is full. Return: 0; LEDGER_E_*
 */
static int judge_pages(const struct ledger *ledger)
{
	uint64_t n_bytes = LEDGER_PAGE, n;
	struct stat st;

	for (int id = 0; id < LEDGER_TABLE_N; id++) {
		n = atomic_load_explicit(&ledger->header->n_backed[id], memory_order_relaxed);
		if (n > ledger->tables[id].n_max)
			return LEDGER_E_DAMAGED;
		n_bytes += round_up(n * ledger->tables[id].elem_bytes, LEDGER_PAGE);
	}
	if (fstat(ledger->fd, &st))
		return -errno;
	return (uint64_t)st.st_blocks * 512 < n_bytes ? LEDGER_E_HOLES : 0;
}

/* What counts has its pages: these calls find it so, unless pages of others were taken for them. */
static int back_again(struct ledger *ledger)
{
	int r = back(ledger->fd, 0, LEDGER_PAGE);

	ledger->backed_bytes = LEDGER_PAGE;
	for (int id = 0; !r && id < LEDGER_TABLE_N; id++) {
		struct ledger_table *table = &ledger->tables[id];
		uint64_t n = atomic_load_explicit(&ledger->header->n_backed[id], memory_order_relaxed), n_bytes;

		table->n_backed = (uint32_t)n;
		n_bytes = round_up(n * table->elem_bytes, LEDGER_PAGE);
		if (n_bytes)
			r = back(ledger->fd, table->file_offset, n_bytes);
		if (n_bytes && !r)
			map_pages(ledger, table->file_offset, n_bytes);
		ledger->backed_bytes += n_bytes;
	}
	return r;
}

int ledger_open(struct ledger *ledger, int fd, const struct ledger_shape *shape)
{
	struct ledger opened = LEDGER_NULL;
	struct ledger_header header;
	uint64_t n_bytes = lay_out(&opened, shape);
	int r;

	r = ledger_peek(fd, &header);
	if (!r && header.file_bytes != n_bytes)
		r = LEDGER_E_DAMAGED;
	if (!r)
		r = map_object(&opened, fd, n_bytes);
	if (r)
		return r;
	opened.fd = fd;
	r = judge_pages(&opened);
	if (!r)
		r = back_again(&opened);
	if (!r)
		r = intent_take_back(&opened);
	if (r) {
		opened.fd = -1; /* the caller's */
		ledger_deinit(&opened);
		return r;
	}
	*ledger = opened;
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
	atomic_store_explicit(&ledger->header->n_backed[id], table->n_backed, memory_order_release);
	return 0;
}

int ledger_reserve_spare(struct ledger *ledger, enum ledger_table_id id, uint32_t n, uint32_t n_spare)
{
	uint32_t n_max = ledger->tables[id].n_max;
	int r;

	n_spare = n > n_max ? 0 : n_spare < n_max - n ? n_spare : n_max - n;
	r = ledger_reserve(ledger, id, n + n_spare);
	return r == -ENOSPC && n_spare ? ledger_reserve(ledger, id, n) : r;
}
