// SPDX-License-Identifier: MIT
/*
 * What is shown of a pool: figures, holders, gaps, the map as cells, the map as extents, members.
 *
 * What visits every extent works in steps under the mutex, with a cursor that keeps its place in between. So a map drawn
 * while others allocate is not of one instant; each extent in it was so when it was visited.
 */
#include <string.h>
#include <sys/stat.h>

#include "pool/pool_internal.h"

/* ---- figures ---- */

uint64_t backed_bytes(const struct pool *pool)
{
	struct stat st;

	/* The kernel's word: a client could have punched the segment, or stored where nothing was granted. */
	if (fstat(pool->data.fd, &st))
		return atomic_load_explicit(&pool->backing.backed_bytes, memory_order_relaxed);
	return (uint64_t)st.st_blocks * 512;
}

bool pool_is_long_to_read(struct pool *pool)
{
	bool is_long;

	if (pool_is_being_checked(pool))
		return true;
	pool_lock(pool);
	is_long = lease_is_large(pool);
	pool_unlock(pool);
	return is_long;
}

void pool_stats(struct pool *pool, struct pool_stats *statsp)
{
	const struct extent_map *map = &pool->map;
	uint64_t largest, n_slots, slot_bytes, slot_frees;

	pool_lock(pool);
	slot_frees = lease_count_freed(
		pool); /* before the words are read: what is freed meanwhile is counted once at most */
	n_slots = lease_count_live(pool, true, &slot_bytes);
	if (pool->lease.alloc_total < slot_frees + n_slots)
		pool->lease.alloc_total = slot_frees + n_slots;
	largest = extent_map_largest_gap(map);
	note_peak(pool);
	*statsp = (struct pool_stats){
		.total = map->total_bytes,
		.used = used_bytes(pool),
		.requested = map->requested_bytes + slot_bytes,
		.free = map->free_bytes,
		.largest_free = largest > 2 * pool->guard_bytes ? largest - 2 * pool->guard_bytes : 0,
		.leased_idle = map->leased_bytes - slot_bytes,
		.backed = backed_bytes(pool),
		.peak_used = pool->peak_used,
		.allocations = map->n_live + n_slots,
		.gaps = map->n_gaps,
		.sessions = pool->member_records.n,
		.alloc_total = pool->alloc_total + pool->lease.alloc_total,
		.free_total = pool->free_total + slot_frees,
		.failed_total = pool->failed_total,
		.fragmentation = map->free_bytes ? 1.0 - (double)largest / (double)map->free_bytes : 0.0,
	};
	pool_unlock(pool);
}

/* ---- holders ---- */

static uint64_t since_of(const struct pool *pool, uint32_t extent)
{
	return extent == EXTENT_NONE ? 0 : extent_since(&pool->map, extent);
}

static struct pool_holder pool_itself(const struct pool *pool)
{
	uint64_t own_s = since_of(pool, pool->own.oldest), nobody_s = since_of(pool, pool->nobody.oldest);

	return (struct pool_holder){
		.uid = pool->options.uid,
		.n_blocks = pool->own.list.n_blocks + pool->nobody.list.n_blocks + pool->lease.pools_n_live,
		.n_bytes = pool->own.list.n_bytes + pool->nobody.list.n_bytes + pool->lease.pools_bytes,
		.oldest_s = own_s && (own_s < nobody_s || !nobody_s) ? own_s : nobody_s,
	};
}

/* Slots as of when all words were last read. */
static struct pool_holder holder_of(const struct pool *pool, const struct pool_member *member)
{
	uint64_t n_slots, slot_bytes;
	const struct member_record *record = member_record(pool, member->index);
	struct pool_holder holder = {
		.session = record->session,
		.pid = record->pid,
		.uid = record->uid,
		.n_blocks = member->blocks.list.n_blocks,
		.n_bytes = member->blocks.list.n_bytes,
		.oldest_s = since_of(pool, member->blocks.oldest),
	};

	memcpy(holder.command, record->command, sizeof(holder.command));
	member_slots(pool, member, &n_slots, &slot_bytes);
	holder.n_blocks += n_slots;
	holder.n_bytes += slot_bytes;
	return holder;
}

static uint32_t insert_holder(struct pool_holder holders[], uint32_t n, uint32_t n_max,
			      const struct pool_holder *holder)
{
	uint32_t i;

	if (!holder->n_blocks || !n_max || (n == n_max && holders[n - 1].n_bytes >= holder->n_bytes))
		return n;
	for (i = n < n_max ? n : n - 1; i && holders[i - 1].n_bytes < holder->n_bytes; i--)
		holders[i] = holders[i - 1];
	holders[i] = *holder;
	return n < n_max ? n + 1 : n;
}

uint32_t top_holders(struct pool *pool, struct pool_holder holders[], uint32_t n_max)
{
	struct pool_holder holder = pool_itself(pool);
	uint32_t n = insert_holder(holders, 0, n_max, &holder);

	for (const struct pool_member *m = pool->first; m; m = m->next) {
		holder = holder_of(pool, m);
		n = insert_holder(holders, n, n_max, &holder);
	}
	return n;
}

uint32_t pool_holders(struct pool *pool, struct pool_holder holders[], uint32_t n_max)
{
	uint64_t slot_bytes;
	uint32_t n;

	pool_lock(pool);
	lease_count_live(pool, true, &slot_bytes);
	n = top_holders(pool, holders, n_max);
	pool_unlock(pool);
	return n;
}

static uint64_t cached_by(const struct pool *pool, const struct pool_member *member)
{
	uint64_t n_bytes = 0;

	for (uint32_t heap = member->first_heap; heap; heap = pool->lease.heaps[heap].next)
		n_bytes += pool->lease.heaps[heap].cached_bytes;
	return n_bytes;
}

uint64_t top_cacher(struct pool *pool, struct pool_holder *topp)
{
	uint64_t all = 0, most = 0;

	pool_lock(pool);
	for (const struct pool_member *m = pool->first; m; m = m->next) {
		uint64_t n_bytes = cached_by(pool, m);

		all += n_bytes;
		if (n_bytes > most) {
			most = n_bytes;
			*topp = holder_of(pool, m);
		}
	}
	pool_unlock(pool);
	return all;
}

/* ---- gaps ---- */

#define GAPS_MAX 256u

uint32_t pool_gaps(struct pool *pool, struct pool_gap gaps[], uint32_t n_max)
{
	uint32_t extents[GAPS_MAX], n;

	pool_lock(pool);
	n = extent_map_largest_gaps(&pool->map, extents, n_max < GAPS_MAX ? n_max : GAPS_MAX);
	for (uint32_t i = 0; i < n; i++)
		gaps[i] = (struct pool_gap){.offset = extent_offset(&pool->map, extents[i]),
					    .size = extent_size(&pool->map, extents[i])};
	pool_unlock(pool);
	return n;
}

/* ---- cells ---- */

#define DRAW_HOLDERS 64u
#define DRAW_SLOTS   256u /* four times as many: short runs */

struct drawing {
	struct pool *pool;
	struct pool_cells *cells;
	struct {
		uint32_t owner;
		uint32_t holder;	    /* from 1; 0: the slot is free */
	} slots[DRAW_SLOTS];		    /* owner number -> holder */
	uint64_t in_cell[DRAW_HOLDERS + 1]; /* bytes of each holder in the present cell */
	uint32_t cell;
	uint64_t end;
};

static void know_owner(struct drawing *drawing, uint32_t owner, uint32_t holder)
{
	uint32_t slot = owner % DRAW_SLOTS;

	while (drawing->slots[slot].holder)
		slot = (slot + 1) % DRAW_SLOTS;
	drawing->slots[slot].owner = owner;
	drawing->slots[slot].holder = holder;
}

static uint32_t holder_index(const struct drawing *drawing, uint32_t owner)
{
	uint32_t slot = owner % DRAW_SLOTS;

	while (drawing->slots[slot].holder && drawing->slots[slot].owner != owner)
		slot = (slot + 1) % DRAW_SLOTS;
	return drawing->slots[slot].holder;
}

static void know_holder(struct drawing *drawing, uint64_t session, uint32_t holder)
{
	if (!session) {
		know_owner(drawing, POOL_OWNER, holder);
		know_owner(drawing, EXTENT_OWNER_NONE, holder);
		return;
	}
	for (const struct pool_member *m = drawing->pool->first; m; m = m->next)
		if (m->session == session)
			know_owner(drawing, m->index, holder);
}

static void draw_begin(struct drawing *drawing)
{
	struct pool_cells *cells = drawing->cells;
	uint64_t total = drawing->pool->map.total_bytes;

	drawing->end = map_end(drawing->pool);
	cells->cell_bytes = round_up((total + cells->n - 1) / cells->n, EXTENT_GRANULE);
	cells->n = (uint32_t)((total + cells->cell_bytes - 1) / cells->cell_bytes);
	memset(cells->used, 0, cells->n * sizeof(*cells->used));
	if (cells->idle)
		memset(cells->idle, 0, cells->n * sizeof(*cells->idle));
	memset(cells->holder, 0, cells->n * sizeof(*cells->holder));
	for (uint32_t i = 0; i < cells->n_holders && i < DRAW_HOLDERS; i++)
		know_holder(drawing, cells->holders[i].session, i + 1);
}

/* The present cell is done: whose is most of it? */
static void close_cell(struct drawing *drawing)
{
	uint32_t best = 0;

	drawing->in_cell[0] = 0; /* of those who are not among the holders */
	for (uint32_t i = 1; i <= drawing->cells->n_holders && i <= DRAW_HOLDERS; i++)
		if (drawing->in_cell[i] > drawing->in_cell[best])
			best = i;
	drawing->cells->holder[drawing->cell++] = best;
	memset(drawing->in_cell, 0, sizeof(drawing->in_cell));
}

/* @bytes_of: the cells that count it, or NULL. @holder: 0 of what is not live */
static void draw_range(struct drawing *drawing, uint64_t offset, uint64_t end, uint64_t *bytes_of, uint32_t holder)
{
	uint64_t cell_bytes = drawing->cells->cell_bytes, cell_end, n_bytes;

	while (offset < end) {
		cell_end = POOL_FIRST + (drawing->cell + 1) * cell_bytes;
		n_bytes = (end < cell_end ? end : cell_end) - offset;
		if (bytes_of)
			bytes_of[drawing->cell] += n_bytes;
		drawing->in_cell[holder] += n_bytes;
		offset += n_bytes;
		if (offset == cell_end || offset == drawing->end)
			close_cell(drawing);
	}
}

static void draw_slots(void *arg, const struct slot_run *run)
{
	struct drawing *drawing = arg;
	uint64_t end = run->end < drawing->end ? run->end : drawing->end;

	draw_range(drawing, run->offset, end, run->is_live ? drawing->cells->used : drawing->cells->idle,
		   run->is_live ? holder_index(drawing, run->owner) : 0);
}

static void draw_extent(struct drawing *drawing, const struct cursor *cursor, uint64_t end)
{
	const struct extent_map *map = &drawing->pool->map;

	if (extent_state(map, cursor->extent) == EXTENT_LEASED &&
	    extent_offset(map, cursor->extent) == cursor->offset) {
		slots_visit(drawing->pool, cursor->extent, draw_slots, drawing);
		return;
	}
	bool is_used = extent_state(map, cursor->extent) != EXTENT_GAP;
	uint32_t holder = is_used ? holder_index(drawing, extent_owner(map, cursor->extent)) : 0;

	draw_range(drawing, cursor->offset, end < drawing->end ? end : drawing->end,
		   is_used ? drawing->cells->used : NULL, holder);
}

void pool_draw(struct pool *pool, struct pool_cells *cells)
{
	struct drawing drawing = {.pool = pool, .cells = cells};
	struct cursor cursor;
	struct step step;
	uint64_t end;

	pool_lock_after_others(pool);
	step = step_begin();
	draw_begin(&drawing);
	cursor_begin(pool, &cursor, POOL_FIRST, POOL_NONE);
	while (cursor.offset < drawing.end) {
		if (cursor_seek(pool, &cursor, &step)) {
			end = extent_offset(&pool->map, cursor.extent) + extent_size(&pool->map, cursor.extent);
			draw_extent(&drawing, &cursor, end);
			cursor.offset = end;
		}
		if (step_is_over(&step)) {
			pool_hand_over(pool);
			step = step_begin();
		}
	}
	cursor_end(pool, &cursor);
	pool_unlock(pool);
}

/* ---- extents ---- */

static void show_block(const struct pool *pool, uint32_t extent, struct pool_extent *shown)
{
	const struct extent_map *map = &pool->map;
	uint32_t owner = extent_owner(map, extent);
	const struct name_record *name;

	shown->state = EXTENT_LIVE;
	shown->block = block_offset(pool, extent);
	shown->requested = block_requested(pool, extent);
	shown->owner = session_of(pool, owner);
	shown->origin = extent_origin(map, extent);
	shown->since_s = extent_since(map, extent);
	if (extent_state(map, extent) != EXTENT_LIVE) /* TAKEN: on its way to its owner */
		return;
	shown->n_holds = hold_count(pool, extent) + (owner != EXTENT_OWNER_NONE);
	if (extent_flags(map, extent) & EXTENT_NAMED) {
		name = name_record(pool, extent_links(map, extent)->name);
		memcpy(shown->name, name->name, name->n_bytes);
		shown->n_name_bytes = (uint32_t)name->n_bytes;
	}
}

static void show_slab(struct pool *pool, uint32_t extent, struct pool_extent *shown)
{
	uint32_t id = extent_links(&pool->map, extent)->slab;
	uint16_t words[SLAB_SLOTS_MAX];
	struct slab_count count;

	shown->block = extent_offset(&pool->map, extent);
	shown->owner = session_of(pool, extent_owner(&pool->map, extent));
	shown->origin = extent_origin(&pool->map, extent);
	shown->since_s = extent_since(&pool->map, extent);
	shown->slot_bytes = slab_slot_bytes(pool, id);
	shown->n_slots = slab_record(pool, id)->n_slots;
	shown->n_live = slab_read(pool, id, words, &count) ? count.n_live : 0;
	shown->requested = (uint64_t)shown->n_live * shown->slot_bytes;
}

static void show_extent(struct pool *pool, const struct cursor *cursor, struct pool_extent *shown)
{
	const struct extent_map *map = &pool->map;
	uint64_t begin = extent_offset(map, cursor->extent);

	memset(shown, 0, sizeof(*shown));
	shown->offset = cursor->offset;
	shown->size = begin + extent_size(map, cursor->extent) - cursor->offset;
	shown->state = extent_state(map, cursor->extent);
	if (shown->state == EXTENT_GAP)
		shown->since_s = extent_since(map, cursor->extent);
	else if (shown->state == EXTENT_LEASED)
		show_slab(pool, cursor->extent, shown);
	else
		show_block(pool, cursor->extent, shown);
}

static void seek_in_steps(struct pool *pool, struct cursor *cursor)
{
	struct step step = step_begin();

	while (!cursor_seek(pool, cursor, &step)) {
		pool_hand_over(pool);
		step = step_begin();
	}
}

static uint32_t show_page(struct pool *pool, struct cursor *cursor, struct pool_extent extents[], uint32_t n_max)
{
	struct step step = step_begin();
	uint32_t n = 0;

	while (n < n_max && cursor->offset < map_end(pool)) {
		if (!cursor_seek(pool, cursor, &step))
			break;
		show_extent(pool, cursor, extents + n);
		cursor->offset += extents[n].size;
		step.n_items += extents[n++].n_holds; /* each was counted */
		if (step_is_over_now(&step))
			break;
	}
	return n;
}

uint32_t pool_extents(struct pool *pool, uint64_t from, uint64_t *hintp, struct pool_extent extents[], uint32_t n_max,
		      uint64_t *nextp)
{
	struct cursor cursor;
	uint32_t n = 0;

	*nextp = 0;
	from = from < POOL_FIRST ? POOL_FIRST : from;
	pool_lock_after_others(pool);
	if (from < map_end(pool)) {
		cursor_begin(pool, &cursor, from, *hintp < POOL_NONE ? (uint32_t)*hintp : POOL_NONE);
		seek_in_steps(pool, &cursor);
		n = show_page(pool, &cursor, extents, n_max);
		*hintp = cursor.extent;
		*nextp = cursor.offset < map_end(pool) ? cursor.offset : 0;
		cursor_end(pool, &cursor);
	}
	pool_unlock(pool);
	return n;
}

struct slot_page {
	struct pool *pool;
	struct pool_slot *slots;
	uint32_t n, n_max;
};

static void show_slot(void *arg, const struct slot_run *run)
{
	struct slot_page *page = arg;
	const struct pool *pool = page->pool;
	const struct name_record *name;
	struct pool_slot *slot;

	if (!run->is_live || page->n == page->n_max)
		return;
	slot = &page->slots[page->n++];
	*slot = (struct pool_slot){
		.offset = run->offset + pool->guard_bytes, .owner = session_of(pool, run->owner), .n_holds = 1};
	if (run->extent == EXTENT_NONE)
		return;
	slot->n_holds = hold_count(pool, run->extent) + (run->owner != EXTENT_OWNER_NONE);
	if (extent_flags(&pool->map, run->extent) & EXTENT_NAMED) {
		name = name_record(pool, extent_links(&pool->map, run->extent)->name);
		memcpy(slot->name, name->name, name->n_bytes);
		slot->n_name_bytes = (uint32_t)name->n_bytes;
	}
}

uint32_t pool_slots(struct pool *pool, uint64_t offset, struct pool_slot slots[], uint32_t n_max)
{
	struct slot_page page = {.pool = pool, .slots = slots, .n_max = n_max};
	uint32_t id;

	pool_lock_after_others(pool);
	if (slab_at(pool, offset, &id))
		slots_visit(pool, slab_extent(pool, id), show_slot, &page);
	pool_unlock(pool);
	return page.n;
}

/* ---- members ---- */

uint32_t pool_members(struct pool *pool, uint64_t after_session, struct pool_member_info infos[], uint32_t n_max)
{
	const struct pool_member *member;
	struct pool_holder holder;
	uint64_t slot_bytes;
	uint32_t n = 0;

	pool_lock(pool);
	lease_count_live(pool, true, &slot_bytes);
	for (member = pool->first; member && member->session <= after_session; member = member->next)
		;
	for (; member && n < n_max; member = member->next, n++) {
		holder = holder_of(pool, member);
		infos[n] = (struct pool_member_info){
			.session = holder.session,
			.pid = holder.pid,
			.uid = holder.uid,
			.n_blocks = holder.n_blocks,
			.n_bytes = holder.n_bytes,
			.n_holds = member->n_holds,
			.oldest_s = holder.oldest_s,
			.since_s = member->since_s,
		};
		memcpy(infos[n].command, holder.command, sizeof(holder.command));
	}
	pool_unlock(pool);
	return n;
}
