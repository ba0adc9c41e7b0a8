// SPDX-License-Identifier: MIT
#include "client/guard.h"

#include <inttypes.h>
#include <stdatomic.h>

#define CANARY 0xFD

struct mark { /* at the begin of a slot; whoever has the segment may write here at any time */
	uint32_t size, complement;
};

static_assert(sizeof(struct mark) == 8 && sizeof(struct mark) < GUARD_BYTES, "one store, and room for canaries");

static bool is_inside(const struct mempool_pool *pool, uint64_t offset, uint64_t most)
{
	return offset % GUARD_BYTES == 0 && offset >= pool->first + GUARD_BYTES &&
	       range_fits(offset, most, round_down(pool->n_bytes, GUARD_BYTES) - GUARD_BYTES);
}

static _Atomic uint64_t *mark_at(const struct mempool_pool *pool, uint64_t offset)
{
	return (_Atomic uint64_t *)(void *)(pool->base + offset - GUARD_BYTES);
}

static bool read_mark(const struct mempool_pool *pool, uint64_t offset, uint64_t most, uint64_t *sizep)
{
	uint64_t word = atomic_load_explicit(mark_at(pool, offset), memory_order_acquire);
	struct mark mark;

	memcpy(&mark, &word, sizeof(mark));
	*sizep = mark.size;
	return mark.size == ~mark.complement && mark.size && mark.size <= most;
}

bool guard_is_slot(const struct mempool_pool *pool, uint64_t offset, uint64_t most)
{
	uint64_t size;

	return is_inside(pool, offset, most) && read_mark(pool, offset, most, &size);
}

uint64_t guard_size(const struct mempool_pool *pool, uint64_t offset, uint64_t most)
{
	uint64_t size;

	return is_inside(pool, offset, most) && read_mark(pool, offset, most, &size) ? size : most;
}

static void paint(const struct mempool_pool *pool, uint64_t begin, uint64_t end)
{
	memset(pool->base + begin, CANARY, end - begin);
}

void guard_paint(const struct mempool_pool *pool, uint64_t offset, uint64_t size)
{
	if (!is_inside(pool, offset, size))
		return;
	paint(pool, offset - GUARD_BYTES, offset);
	paint(pool, offset + size, round_up(offset + size, 16) + GUARD_BYTES);
}

void guard_mark(const struct mempool_pool *pool, uint64_t offset, uint64_t size, uint64_t most)
{
	struct mark mark = {(uint32_t)size, ~(uint32_t)size};
	uint64_t word;

	if (!is_inside(pool, offset, most) || size > most)
		return;
	memcpy(&word, &mark, sizeof(word));
	paint(pool, offset - GUARD_BYTES + sizeof(mark), offset);
	paint(pool, offset + size, offset + most + GUARD_BYTES);
	atomic_store_explicit(mark_at(pool, offset), word, memory_order_release);
	atomic_thread_fence(memory_order_release); /* before the slot's word says that it is live */
}

static uint64_t first_wrong(const struct mempool_pool *pool, uint64_t begin, uint64_t end)
{
	const uint8_t *base = pool->base;

	while (begin < end && base[begin] == CANARY)
		begin++;
	return begin < end ? begin : 0;
}

uint64_t guard_find(const struct mempool_pool *pool, uint64_t offset, uint64_t most)
{
	uint64_t size, at;

	if (!is_inside(pool, offset, most))
		return 0;
	if (read_mark(pool, offset, most, &size)) {
		at = first_wrong(pool, offset - GUARD_BYTES + sizeof(struct mark), offset);
		return at ? at : first_wrong(pool, offset + size, offset + most + GUARD_BYTES);
	}
	at = first_wrong(pool, offset - GUARD_BYTES, offset);
	return at ? at : first_wrong(pool, offset + most, round_up(offset + most, 16) + GUARD_BYTES);
}

int guard_check(struct mempool_pool *pool, uint64_t offset, uint64_t most, uint64_t owner)
{
	uint64_t at = guard_find(pool, offset, most);

	if (!at)
		return 0;
	return error_set(-EBADMSG,
			 "the guard %s block 0x%" PRIx64 " (%" PRIu64 " bytes, owner: %s%.0" PRIu64
			 ") in %s was overwritten, first at 0x%" PRIx64,
			 at < offset ? "before" : "after", offset, guard_size(pool, offset, most),
			 owner ? "session " : "the pool", owner, pool->label, at);
}
