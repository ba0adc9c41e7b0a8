// SPDX-License-Identifier: MIT
/* dispatch_show - requests that show a pool: figures, map, extents, faults */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "server/request.h"

#define VISUALIZE_CELLS_MAX   16384u /* by the protocol, as are the next two */
#define VISUALIZE_GAPS_MAX    64u
#define VISUALIZE_HOLDERS_MAX 64u
#define LIST_EXTENTS_MAX      512u  /* of at most 150 bytes on the wire each */
#define LIST_SLOTS_MAX	      8192u /* of about 20 bytes each, few with a name */
#define CHECK_FAULTS_MAX      256u
#define LOG_MAX		      512u /* of about 60 bytes on the wire each */

void stats_fill(Mempool__Wire__StatsReply *message, const struct pool_stats *stats)
{
	*message = (Mempool__Wire__StatsReply)MEMPOOL__WIRE__STATS_REPLY__INIT;
	WIRE_SET(message, total, stats->total);
	WIRE_SET(message, used, stats->used);
	WIRE_SET(message, requested, stats->requested);
	WIRE_SET(message, free, stats->free);
	WIRE_SET(message, largest_free, stats->largest_free);
	WIRE_SET(message, leased_idle, stats->leased_idle);
	WIRE_SET(message, backed, stats->backed);
	WIRE_SET(message, peak_used, stats->peak_used);
	WIRE_SET(message, allocations, stats->allocations);
	WIRE_SET(message, gaps, stats->gaps);
	WIRE_SET(message, sessions, stats->sessions);
	WIRE_SET(message, alloc_total, stats->alloc_total);
	WIRE_SET(message, free_total, stats->free_total);
	WIRE_SET(message, failed_total, stats->failed_total);
	WIRE_SET(message, fragmentation, stats->fragmentation);
}

/*
 * The membership, unless its pool was destroyed: figures of what is no more would keep a watcher watching. The registry tells, for
 * a pool leaves it as the last step of its destruction.
 */
static struct pool_member *shown_member(struct request *request, bool has_pool, uint64_t pool, int *rp)
{
	struct pool_member *member = request_member(request, has_pool, pool, rp);
	struct pool *found;

	if (member && registry_find_id(request->dispatch->services->registry, pool, &found)) {
		*rp = request_refuse_pool(request, POOL_E_DESTROYED, member->pool, "looking at what is");
		return NULL;
	}
	if (member)
		pool_unref(found);
	return member;
}

int run_stats(struct request *request)
{
	const Mempool__Wire__Stats *message = request->wire->stats;
	Mempool__Wire__StatsReply reply;
	struct pool_member *member;
	struct pool_stats stats;
	int r = 0;

	member = shown_member(request, message->has_pool, message->pool, &r);
	if (!member)
		return r;
	if (!(request->flags & DISPATCH_MAY_BLOCK) && pool_is_long_to_read(member->pool))
		return DISPATCH_E_SLOW;
	pool_stats(member->pool, &stats);
	stats_fill(&reply, &stats);
	request->reply.result_case = MEMPOOL__WIRE__REPLY__RESULT_STATS;
	request->reply.stats = &reply;
	return request_answer(request);
}

/* ---- the map ---- */

struct picture { /* what a VisualizeReply points at */
	uint64_t used[VISUALIZE_CELLS_MAX];
	uint64_t idle[VISUALIZE_CELLS_MAX];
	uint32_t holder[VISUALIZE_CELLS_MAX];
	struct pool_gap gaps[VISUALIZE_GAPS_MAX];
	struct pool_holder holders[VISUALIZE_HOLDERS_MAX];
	Mempool__Wire__Gap wire_gaps[VISUALIZE_GAPS_MAX];
	Mempool__Wire__Gap *gap_pointers[VISUALIZE_GAPS_MAX];
	Mempool__Wire__Holder wire_holders[VISUALIZE_HOLDERS_MAX];
	Mempool__Wire__Holder *holder_pointers[VISUALIZE_HOLDERS_MAX];
};

static void fill_gaps(struct picture *picture, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		Mempool__Wire__Gap *gap = picture->wire_gaps + i;

		*gap = (Mempool__Wire__Gap)MEMPOOL__WIRE__GAP__INIT;
		WIRE_SET(gap, offset, picture->gaps[i].offset);
		WIRE_SET(gap, size, picture->gaps[i].size);
		picture->gap_pointers[i] = gap;
	}
}

static void fill_holders(struct picture *picture, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		const struct pool_holder *from = picture->holders + i;
		Mempool__Wire__Holder *holder = picture->wire_holders + i;

		*holder = (Mempool__Wire__Holder)MEMPOOL__WIRE__HOLDER__INIT;
		WIRE_SET(holder, session, from->session);
		WIRE_SET(holder, pid, from->pid);
		WIRE_SET(holder, uid, from->uid);
		WIRE_SET(holder, command, wire_bytes(from->command, strnlen(from->command, sizeof(from->command))));
		WIRE_SET(holder, blocks, from->n_blocks);
		WIRE_SET(holder, bytes, from->n_bytes);
		WIRE_SET(holder, oldest, from->oldest_s);
		picture->holder_pointers[i] = holder;
	}
}

static int visualize(struct request *request, struct pool *pool, struct picture *picture)
{
	const Mempool__Wire__Visualize *visualize = request->wire->visualize;
	Mempool__Wire__VisualizeReply reply = MEMPOOL__WIRE__VISUALIZE_REPLY__INIT;
	Mempool__Wire__PoolInfo info;
	Mempool__Wire__StatsReply wire_stats;
	struct pool_stats stats;
	struct pool_cells cells = {
		.n = visualize->cells,
		.used = picture->used,
		.idle = picture->idle,
		.holder = picture->holder,
		.holders = picture->holders,
	};

	cells.n_holders = pool_holders(pool, picture->holders, visualize->max_holders);
	pool_draw(pool, &cells);
	pool_stats(pool, &stats);
	reply.n_gaps = pool_gaps(pool, picture->gaps, visualize->max_gaps);
	fill_gaps(picture, (uint32_t)reply.n_gaps);
	fill_holders(picture, cells.n_holders);
	pool_info_fill(&info, pool, &stats);
	stats_fill(&wire_stats, &stats);
	reply.info = &info;
	reply.stats = &wire_stats;
	WIRE_SET(&reply, first, POOL_FIRST);
	WIRE_SET(&reply, cell_bytes, cells.cell_bytes);
	WIRE_SET(&reply, gaps_left_out, stats.gaps > reply.n_gaps ? stats.gaps - reply.n_gaps : 0);
	reply.cell_used = picture->used;
	reply.n_cell_used = cells.n;
	reply.cell_idle = picture->idle;
	reply.n_cell_idle = cells.n;
	reply.cell_holder = picture->holder;
	reply.n_cell_holder = cells.n;
	reply.gaps = picture->gap_pointers;
	reply.holders = picture->holder_pointers;
	reply.n_holders = cells.n_holders;
	request->reply.result_case = MEMPOOL__WIRE__REPLY__RESULT_VISUALIZE;
	request->reply.visualize = &reply;
	return request_answer(request);
}

int run_visualize(struct request *request)
{
	const Mempool__Wire__Visualize *message = request->wire->visualize;
	struct pool_member *member;
	struct picture *picture;
	int r = 0;

	member = shown_member(request, message->has_pool, message->pool, &r);
	if (!member)
		return r;
	if (!message->cells || message->cells > VISUALIZE_CELLS_MAX || message->max_gaps > VISUALIZE_GAPS_MAX ||
	    message->max_holders > VISUALIZE_HOLDERS_MAX)
		return request_refuse(request, -EINVAL,
				      "Visualize of %s: ask for 1 to %u cells, at most %u gaps and at most %u holders",
				      pool_label(member->pool).text, VISUALIZE_CELLS_MAX, VISUALIZE_GAPS_MAX,
				      VISUALIZE_HOLDERS_MAX);
	picture = calloc(1, sizeof(*picture));
	if (!picture)
		return request_refuse_pool(request, -ENOMEM, member->pool, "Visualize");
	r = visualize(request, member->pool, picture);
	free(picture);
	return r;
}

/* ---- extents ---- */

struct extent_page {
	struct pool_extent extents[LIST_EXTENTS_MAX];
	Mempool__Wire__Extent wire[LIST_EXTENTS_MAX];
	Mempool__Wire__Extent *pointers[LIST_EXTENTS_MAX];
};

struct slot_page { /* of all slabs of an extent page */
	struct pool_slot slots[LIST_SLOTS_MAX];
	Mempool__Wire__Slot wire[LIST_SLOTS_MAX];
	Mempool__Wire__Slot *pointers[LIST_SLOTS_MAX];
	uint32_t n;
};

static Mempool__Wire__ExtentState wire_extent_state(enum extent_state state)
{
	switch (state) {
	case EXTENT_GAP:
		return MEMPOOL__WIRE__EXTENT_STATE__EXTENT_FREE;
	case EXTENT_LEASED:
		return MEMPOOL__WIRE__EXTENT_STATE__EXTENT_LEASED;
	case EXTENT_TAKEN:
	case EXTENT_LIVE:
	case EXTENT_PINNED:
	case EXTENT_UNUSED:
	case EXTENT_STATE_N:
		break;
	}
	return MEMPOOL__WIRE__EXTENT_STATE__EXTENT_ALLOCATED;
}

static void fill_extent(Mempool__Wire__Extent *wire, const struct pool_extent *extent)
{
	*wire = (Mempool__Wire__Extent)MEMPOOL__WIRE__EXTENT__INIT;
	WIRE_SET(wire, offset, extent->offset);
	WIRE_SET(wire, size, extent->size);
	WIRE_SET(wire, state, wire_extent_state(extent->state));
	if (extent->state == EXTENT_GAP)
		return;
	WIRE_SET(wire, block, extent->block);
	WIRE_SET(wire, requested, extent->requested);
	WIRE_SET(wire, owner, extent->owner);
	WIRE_SET(wire, origin, extent->origin);
	WIRE_SET(wire, holds, extent->n_holds);
	WIRE_SET(wire, since, extent->since_s);
	if (extent->n_name_bytes)
		WIRE_SET(wire, name, wire_bytes(extent->name, extent->n_name_bytes));
	if (extent->state != EXTENT_LEASED)
		return;
	WIRE_SET(wire, slot_size, extent->slot_bytes);
	WIRE_SET(wire, slots, extent->n_slots);
	WIRE_SET(wire, live, extent->n_live);
}

static void fill_slot(Mempool__Wire__Slot *wire, const struct pool_slot *slot)
{
	*wire = (Mempool__Wire__Slot)MEMPOOL__WIRE__SLOT__INIT;
	WIRE_SET(wire, offset, slot->offset);
	WIRE_SET(wire, owner, slot->owner);
	WIRE_SET(wire, holds, slot->n_holds);
	if (slot->n_name_bytes)
		WIRE_SET(wire, name, wire_bytes(slot->name, slot->n_name_bytes));
}

/* Live slots as of now: their number goes with them. */
static void add_slots(struct pool *pool, const struct pool_extent *extent, Mempool__Wire__Extent *wire,
		      struct slot_page *page)
{
	uint32_t n = pool_slots(pool, extent->block, page->slots + page->n, LIST_SLOTS_MAX - page->n);

	wire->live_slots = page->pointers + page->n;
	wire->n_live_slots = n;
	WIRE_SET(wire, live, n);
	WIRE_SET(wire, requested, (uint64_t)n * extent->slot_bytes);
	for (; n; n--, page->n++) {
		fill_slot(page->wire + page->n, page->slots + page->n);
		page->pointers[page->n] = page->wire + page->n;
	}
}

/* A page ends before the slab whose slots might not fit. Return: how many extents are on it */
static size_t add_all_slots(struct pool *pool, struct extent_page *page, size_t n, struct slot_page *slots)
{
	for (size_t i = 0; i < n; i++) {
		if (page->extents[i].state != EXTENT_LEASED || page->extents[i].offset != page->extents[i].block)
			continue;
		if (LIST_SLOTS_MAX - slots->n < POOL_SLOTS_MAX)
			return i;
		add_slots(pool, &page->extents[i], &page->wire[i], slots);
	}
	return n;
}

static int list_extents(struct request *request, struct pool *pool, struct extent_page *page, struct slot_page *slots)
{
	const Mempool__Wire__ListExtents *list = request->wire->list_extents;
	Mempool__Wire__ListExtentsReply reply = MEMPOOL__WIRE__LIST_EXTENTS_REPLY__INIT;
	struct pool_stats stats;
	uint64_t hint = list->hint, next = 0;

	reply.n_extents = pool_extents(pool, list->from, &hint, page->extents, LIST_EXTENTS_MAX, &next);
	for (size_t i = 0; i < reply.n_extents; i++) {
		fill_extent(page->wire + i, page->extents + i);
		page->pointers[i] = page->wire + i;
	}
	if (slots) {
		size_t n = add_all_slots(pool, page, reply.n_extents, slots);

		next = n < reply.n_extents ? page->extents[n].offset : next;
		reply.n_extents = n;
	}
	pool_stats(pool, &stats);
	reply.extents = page->pointers;
	WIRE_SET(&reply, next, next);
	WIRE_SET(&reply, hint, hint);
	WIRE_SET(&reply, first, POOL_FIRST);
	WIRE_SET(&reply, total, stats.total);
	request->reply.result_case = MEMPOOL__WIRE__REPLY__RESULT_LIST_EXTENTS;
	request->reply.list_extents = &reply;
	return request_answer(request);
}

int run_list_extents(struct request *request)
{
	const Mempool__Wire__ListExtents *message = request->wire->list_extents;
	struct pool_member *member;
	struct extent_page *page;
	struct slot_page *slots;
	int r = 0;

	member = shown_member(request, message->has_pool, message->pool, &r);
	if (!member)
		return r;
	page = malloc(sizeof(*page));
	slots = message->with_slots ? malloc(sizeof(*slots)) : NULL;
	if (slots)
		slots->n = 0;
	if (!page || (message->with_slots && !slots))
		r = request_refuse_pool(request, -ENOMEM, member->pool, "ListExtents");
	else
		r = list_extents(request, member->pool, page, slots);
	free(page);
	free(slots);
	return r;
}

/* ---- faults ---- */

struct fault_page {
	struct pool_fault faults[CHECK_FAULTS_MAX];
	Mempool__Wire__Fault wire[CHECK_FAULTS_MAX];
	Mempool__Wire__Fault *pointers[CHECK_FAULTS_MAX];
};

static int check(struct request *request, struct pool *pool, struct fault_page *page)
{
	Mempool__Wire__CheckReply reply = MEMPOOL__WIRE__CHECK_REPLY__INIT;
	uint32_t n_found = pool_check(pool, page->faults, CHECK_FAULTS_MAX);

	reply.n_faults = n_found < CHECK_FAULTS_MAX ? n_found : CHECK_FAULTS_MAX;
	for (size_t i = 0; i < reply.n_faults; i++) {
		page->wire[i] = (Mempool__Wire__Fault)MEMPOOL__WIRE__FAULT__INIT;
		WIRE_SET(&page->wire[i], offset, page->faults[i].offset);
		page->wire[i].what = page->faults[i].what;
		page->pointers[i] = page->wire + i;
	}
	reply.faults = page->pointers;
	WIRE_SET(&reply, more, n_found > reply.n_faults);
	request->reply.result_case = MEMPOOL__WIRE__REPLY__RESULT_CHECK;
	request->reply.check = &reply;
	return request_answer(request);
}

int run_check(struct request *request)
{
	const Mempool__Wire__Check *message = request->wire->check;
	struct pool_member *member;
	struct fault_page *page;
	int r = 0;

	member = shown_member(request, message->has_pool, message->pool, &r);
	if (!member)
		return r;
	page = malloc(sizeof(*page));
	if (!page)
		return request_refuse_pool(request, -ENOMEM, member->pool, "Check");
	r = check(request, member->pool, page);
	free(page);
	return r;
}

/* ---- the last operations ---- */

struct log_page {
	struct pool_recent operations[LOG_MAX];
	Mempool__Wire__Operation wire[LOG_MAX];
	Mempool__Wire__Operation *pointers[LOG_MAX];
};

static int status_of_recent(int outcome)
{
	return outcome > 0 ? status_of_pool((enum pool_outcome)outcome).error : outcome;
}

static void fill_operation(Mempool__Wire__Operation *wire, const struct pool_recent *operation)
{
	*wire = (Mempool__Wire__Operation)MEMPOOL__WIRE__OPERATION__INIT;
	WIRE_SET(wire, number, operation->number);
	WIRE_SET(wire, time_ns, operation->time_ns);
	WIRE_SET(wire, session, operation->session);
	WIRE_SET(wire, pid, operation->pid);
	wire->what = (char *)(uintptr_t)recent_name(operation->what); /* packed, not changed */
	WIRE_SET(wire, offset, operation->offset);
	WIRE_SET(wire, size, operation->size);
	WIRE_SET(wire, status, status_of_recent(operation->outcome));
}

static int show_log(struct request *request, struct pool *pool, struct log_page *page)
{
	Mempool__Wire__LogReply reply = MEMPOOL__WIRE__LOG_REPLY__INIT;
	uint32_t n = pool_recent(pool, request->wire->log->after, page->operations, LOG_MAX);

	for (uint32_t i = 0; i < n; i++) {
		fill_operation(page->wire + i, page->operations + i);
		page->pointers[i] = page->wire + i;
	}
	reply.operations = page->pointers;
	reply.n_operations = n;
	WIRE_SET(&reply, more, n == LOG_MAX); /* if it was just full, the next page is empty */
	request->reply.result_case = MEMPOOL__WIRE__REPLY__RESULT_LOG;
	request->reply.log = &reply;
	return request_answer(request);
}

/* For those who may open the pool; it is not opened for this, which would be an operation of its own. */
int run_log(struct request *request)
{
	const Mempool__Wire__Log *message = request->wire->log;
	struct log_page *page;
	struct pool *pool;
	int r = 0;

	if (!request_find_pool(request, "Log", message->has_name, message->name, message->has_pool, message->pool,
			       &pool, &r))
		return r;
	page = malloc(sizeof(*page));
	if (!page)
		r = request_refuse_pool(request, -ENOMEM, pool, "Log");
	else if (!pool_may_open(pool, &request->session->identity))
		r = request_refuse_pool(request, POOL_E_NOT_ALLOWED, pool, "asking for the last operations");
	else
		r = show_log(request, pool, page);
	free(page);
	pool_unref(pool);
	return r;
}
