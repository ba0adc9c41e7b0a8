// SPDX-License-Identifier: MIT
/*
 * The lease segment of a pool: laid out for max_size once, sparse, backed page by page before anything leads there. The daemon never
 * reads back what it wrote to the header; pages that were backed are never given back while the pool lives, for a client may
 * hold a place in them.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pool/pool_internal.h"

#define PAGE	    LEASE_PAGE_BYTES
#define N_WORDS_MAX (UINT64_C(1) << 31)
#define PAGES_AHEAD (16u << 20) /* bytes of data that one more step of the page map covers: four pages of it */

static_assert(LEASE_FIRST == POOL_FIRST, "a page of the map is one of the data segment");
static_assert(
	LEASE_VERSION == 2 && LEDGER_VERSION == 2,
	"a ledger names a lease segment without its version, for the header of that cannot be believed: raise both");

bool lease_is_wanted(const struct pool *pool)
{
	return !pool->options.lease && pool->options.max_size >= LEASE_TOTAL_MIN;
}

static void lay_out(struct lease_header *layout, uint64_t max_bytes)
{
	uint64_t n_pages = round_up(max_bytes, PAGE) / PAGE, n_slabs, n_words;

	n_slabs = n_pages < LEASE_SLABS_MAX ? n_pages : LEASE_SLABS_MAX;
	n_words = max_bytes / EXTENT_GRANULE + n_slabs * LEASE_WORDS_STEP;
	n_words = round_up(n_words < N_WORDS_MAX ? n_words : N_WORDS_MAX, 64u * LEASE_WORDS_STEP);
	*layout = (struct lease_header){
		.magic = LEASE_MAGIC,
		.version = LEASE_VERSION,
		.header_bytes = sizeof(*layout),
		.first = LEASE_FIRST,
		.n_heaps = LEASE_HEAPS_MAX,
		.n_slabs = (uint32_t)n_slabs,
		.n_words = n_words,
	};
	layout->heaps_at = PAGE;
	layout->pages_at = round_up(layout->heaps_at + LEASE_HEAPS_MAX * sizeof(struct lease_heap), PAGE);
	layout->slabs_at = round_up(layout->pages_at + n_pages * sizeof(uint32_t), PAGE);
	layout->words_at = round_up(layout->slabs_at + n_slabs * sizeof(struct lease_slab), PAGE);
	layout->file_bytes = round_up(layout->words_at + n_words * sizeof(uint16_t), PAGE);
}

/* ---- backing ---- */

static bool is_backed(const struct lease *lease, uint64_t page)
{
	return lease->is_backed[page / 64] >> page % 64 & 1;
}

static int back_run(struct pool *pool, uint64_t page, uint64_t n)
{
	struct lease *lease = &pool->lease;
	int r;

	if (lease->is_taking_over)
		budget_take_over(pool->env->budget, n * PAGE);
	else if (budget_spend(pool->env->budget, lease->object.fd, n * PAGE))
		return POOL_E_UNBACKED;
	do {
		r = posix_fallocate(lease->object.fd, (off_t)(page * PAGE), (off_t)(n * PAGE));
	} while (r == EINTR);
	if (r) {
		budget_give_back(pool->env->budget, n * PAGE);
		return r == ENOSPC ? POOL_E_UNBACKED : -r;
	}
	lease->backed_bytes += n * PAGE;
	for (; n; n--, page++)
		lease->is_backed[page / 64] |= UINT64_C(1) << page % 64;
	return 0;
}

int lease_back(struct pool *pool, uint64_t offset, uint64_t n_bytes)
{
	uint64_t page = offset / PAGE, end = (offset + n_bytes + PAGE - 1) / PAGE, n;
	int r = 0;

	for (; !r && page < end; page += n) {
		n = 1;
		if (is_backed(&pool->lease, page))
			continue;
		while (page + n < end && !is_backed(&pool->lease, page + n))
			n++;
		r = back_run(pool, page, n);
	}
	return r;
}

int lease_back_pages(struct pool *pool, uint64_t end)
{
	struct lease *lease = &pool->lease;
	uint64_t n = round_up(end - POOL_FIRST, PAGES_AHEAD) / PAGE, n_max;
	int r;

	if ((end - POOL_FIRST + PAGE - 1) / PAGE <= lease->n_pages)
		return 0;
	n_max = round_up(pool->options.max_size, PAGE) / PAGE;
	n = n < n_max ? n : n_max;
	r = lease_back(pool, lease->layout.pages_at, n * sizeof(uint32_t));
	if (r)
		return r;
	lease->n_pages = n;
	atomic_store_explicit(&lease_header(lease)->n_pages, n, memory_order_release);
	return 0;
}

/* ---- the header ---- */

void lease_set_flag(struct pool *pool, uint32_t flag)
{
	if (pool->lease.map)
		atomic_fetch_or_explicit(&lease_header(&pool->lease)->flags, flag, memory_order_release);
}

void lease_raise_pressure(struct pool *pool)
{
	lease_hint_raise(&lease_header(&pool->lease)->pressure);
}

/* ---- life ---- */

static int prepare(struct pool *pool)
{
	struct lease *lease = &pool->lease;
	uint64_t n_pages;

	lay_out(&lease->layout, pool->options.max_size);
	n_pages = lease->layout.file_bytes / PAGE;
	lease->is_backed = calloc(n_pages / 64 + 1, sizeof(uint64_t));
	return lease->is_backed ? 0 : -ENOMEM;
}

static int map_object(struct pool *pool)
{
	struct lease *lease = &pool->lease;
	int r;

	if (ftruncate(lease->object.fd, (off_t)lease->layout.file_bytes))
		return -errno;
	r = lease_guard_map(&lease->guard, lease->object.fd, lease->layout.file_bytes, &lease->map);
	if (!r)
		r = lease_back(pool, 0, PAGE);
	lease->is_on = !r;
	return r;
}

int lease_make(struct pool *pool)
{
	int r;

	if (!lease_is_wanted(pool))
		return 0;
	r = prepare(pool);
	if (!r)
		r = segment_create(&pool->lease.object, pool->env->instance);
	if (!r)
		r = map_object(pool);
	if (r)
		return r;
	*lease_header(&pool->lease) = pool->lease.layout;
	return 0;
}

/* What was in an object that is not there any more, nobody knows: blocks in slabs stay, as they are. */
static int open_object(struct pool *pool, const char *name, bool *is_wholep)
{
	struct lease *lease = &pool->lease;
	struct stat st;
	int r;

	*is_wholep = false;
	r = segment_open(&lease->object, pool->env->instance, name);
	if (r == -ENOENT || r == -EPERM || r == -EINVAL)
		return segment_create(&lease->object, pool->env->instance);
	if (r)
		return r;
	if (fstat(lease->object.fd, &st))
		return -errno;
	*is_wholep = (uint64_t)st.st_size == lease->layout.file_bytes;
	return 0;
}

/* Clients that live read the header meanwhile: what does not change is written again as it was, and n_pages only rises. */
static int rewrite_header(struct pool *pool)
{
	struct lease *lease = &pool->lease;
	struct lease_header *header = lease_header(lease);
	uint64_t n = atomic_load_explicit(&header->n_pages, memory_order_relaxed);
	uint64_t n_max = round_up(pool->options.max_size, PAGE) / PAGE;
	int r;

	memcpy(header, &lease->layout, offsetof(struct lease_header, n_pages));
	n = n < n_max ? n : n_max;
	r = n ? lease_back(pool, lease->layout.pages_at, n * sizeof(uint32_t)) : 0;
	lease->n_pages = r ? 0 : n;
	if (atomic_load_explicit(&header->flags, memory_order_relaxed) & LEASE_DAMAGED)
		lease_damage(pool, "it was damaged before the daemon started");
	return r;
}

static int open_again(struct pool *pool, bool is_whole)
{
	int r = map_object(pool);

	if (r)
		return r;
	if (!is_whole)
		lease_damage(pool, "the lease segment was removed or cut short");
	return rewrite_header(pool);
}

int lease_open_copy(struct pool *pool, int fd)
{
	struct lease *lease = &pool->lease;
	bool is_whole = fd >= 0;
	struct stat st;
	int r;

	lease->object.fd = fd >= 0 ? fd : memfd_create("mempool-study", MFD_CLOEXEC);
	if (lease->object.fd < 0)
		return -errno;
	r = prepare(pool);
	if (!r && fstat(lease->object.fd, &st))
		r = -errno;
	return r ? r : open_again(pool, is_whole && (uint64_t)st.st_size == lease->layout.file_bytes);
}

int lease_open(struct pool *pool, const char *name)
{
	bool is_whole;
	int r;

	pool->lease.is_taking_over = true; /* until lease_recover() is done */
	r = prepare(pool);
	if (!r)
		r = open_object(pool, name, &is_whole);
	return r ? r : open_again(pool, is_whole);
}

void lease_close(struct pool *pool)
{
	struct lease *lease = &pool->lease;

	lease->guard = lease_guard_unmap(lease->guard);
	lease->map = NULL;
	lease->is_on = false;
	budget_give_back(pool->env->budget, lease->backed_bytes);
	lease->backed_bytes = 0;
	segment_unlink(&lease->object);
	segment_deinit(&lease->object);
	free(lease->is_backed);
	free(lease->slabs);
	free(lease->heaps);
	free(lease->is_word_taken);
	lease->is_backed = lease->is_word_taken = NULL;
	lease->slabs = NULL;
	lease->heaps = NULL;
}
