// SPDX-License-Identifier: MIT
/*
 * The books of a pool, verified and printed. Each module checks its own and writes a line a fault; here, what ties them
 * together: each block's flags against holds and names, each list against its counters, each granted byte against the
 * backed bits.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "pool/pool_internal.h"

unsigned check_fault(FILE *report, uint64_t offset, const char *format, ...)
{
	va_list args;

	fprintf(report, "0x%" PRIx64 ": ", offset);
	va_start(args, format);
	vfprintf(report, format, args);
	va_end(args);
	fputc('\n', report);
	return 1;
}

/* ---- blocks ---- */

struct tally {
	uint64_t n_live, n_taken, used_bytes, requested_bytes;
};

static bool owner_exists(const struct pool *pool, uint32_t owner)
{
	return owner == POOL_OWNER || owner == EXTENT_OWNER_NONE ||
	       (owner < pool->n_members_alloced && pool->members[owner]);
}

static unsigned check_block(const struct pool *pool, uint32_t extent, FILE *report)
{
	uint64_t offset = extent_offset(&pool->map, extent), size = extent_size(&pool->map, extent);
	unsigned flags = extent_flags(&pool->map, extent), n_faults = 0;
	uint32_t owner = extent_owner(&pool->map, extent);

	if (!owner_exists(pool, owner))
		n_faults += check_fault(report, offset, "owner %u is nobody that is here", owner);
	if (owner == EXTENT_OWNER_NONE && !(flags & EXTENT_HELD))
		n_faults += check_fault(report, offset, "a block without owner and without retains");
	if (flags & EXTENT_NAMED && owner != POOL_OWNER)
		n_faults += check_fault(report, offset, "a name, but not the pool's");
	if ((flags & EXTENT_HELD) && !hold_count(pool, extent))
		n_faults += check_fault(report, offset, "retained by nobody");
	if (flags & EXTENT_NAMED && name_record(pool, extent_links(&pool->map, extent)->name)->extent != extent)
		n_faults += check_fault(report, offset, "its name is another block's");
	if (backing_missing(&pool->backing, offset, size, 1))
		n_faults += check_fault(report, offset, "granted, but not backed");
	return n_faults;
}

static unsigned check_extents(const struct pool *pool, struct tally *tally, FILE *report)
{
	const struct extent_map *map = &pool->map;
	unsigned n_faults = 0;

	for (uint32_t e = map->head; e != EXTENT_NONE; e = extent_map_next(map, e)) {
		if (extent_state(map, e) == EXTENT_GAP)
			continue;
		tally->used_bytes += extent_size(map, e);
		tally->n_taken += extent_state(map, e) == EXTENT_TAKEN;
		if (extent_state(map, e) != EXTENT_LIVE)
			continue;
		tally->n_live++;
		n_faults += check_block(pool, e, report);
	}
	return n_faults;
}

/* ---- lists ---- */

static unsigned check_holding(const struct pool *pool, const struct pool_holding *holding, uint32_t owner,
			      struct tally *listed, FILE *report)
{
	const struct extent_map *map = &pool->map;
	uint64_t n_blocks = 0, n_bytes = 0;
	uint32_t last = EXTENT_NONE;

	for (uint32_t e = holding->list.head; e != EXTENT_NONE && n_blocks <= map->n_live + map->n_pinned;
	     e = extent_links(map, e)->owner_next) {
		if (extent_owner(map, e) != owner)
			return check_fault(report, extent_offset(map, e), "on the list of another owner");
		n_blocks++;
		n_bytes += extent_size(map, e);
		last = e;
	}
	listed->n_live += n_blocks;
	if (n_blocks == holding->list.n_blocks && n_bytes == holding->list.n_bytes && last == holding->oldest)
		return 0;
	fprintf(report, "owner %u: %" PRIu64 " blocks counted, %" PRIu64 " on the list, or its end is wrong\n", owner,
		holding->list.n_blocks, n_blocks);
	return 1;
}

static unsigned check_members(const struct pool *pool, struct tally *listed, FILE *report)
{
	uint64_t before = 0;
	unsigned n_faults = 0;
	uint32_t n = 0;

	for (const struct pool_member *m = pool->first; m; m = m->next, n++) {
		if (m->index >= pool->n_members_alloced || pool->members[m->index] != m ||
		    member_record(pool, m->index)->session != m->session ||
		    member_record(pool, m->index)->state == MEMBER_UNUSED || m->session <= before) {
			fprintf(report, "session %" PRIu64 ": its record is not its own, or out of order\n",
				m->session);
			n_faults++;
		}
		before = m->session;
		n_faults += check_holding(pool, &m->blocks, m->index, listed, report);
	}
	if (n != pool->member_records.n) {
		fprintf(report, "members: %u counted, %u found\n", pool->member_records.n, n);
		n_faults++;
	}
	return n_faults;
}

static unsigned check_totals(const struct pool *pool, const struct tally *seen, const struct tally *listed,
			     FILE *report)
{
	const struct extent_map *map = &pool->map;

	if (seen->n_live == map->n_live && listed->n_live == map->n_live + map->n_pinned &&
	    seen->n_taken == map->n_taken && seen->used_bytes + map->free_bytes == map->total_bytes &&
	    used_bytes(pool) <= map->total_bytes && pool->alloc_total - pool->free_total == map->n_live &&
	    pool->ledger.header->total_bytes == map->total_bytes &&
	    pool->backing.segment_bytes >= POOL_FIRST + map->total_bytes)
		return 0;
	fprintf(report,
		"totals: %" PRIu64 " live counted, %" PRIu64 " seen, %" PRIu64 " listed, %" PRIu64
		" made less ended; %" PRIu64 " bytes used, %" PRIu64 " free, %" PRIu64 " in all\n",
		map->n_live, seen->n_live, listed->n_live, pool->alloc_total - pool->free_total, seen->used_bytes,
		map->free_bytes, map->total_bytes);
	return 1;
}

static unsigned check_locked(struct pool *pool, FILE *report)
{
	struct tally seen = {0}, listed = {0};
	unsigned n_faults = extent_map_check(&pool->map, report);

	if (n_faults) /* what stands on the map would only be lost on it */
		return n_faults;
	n_faults += backing_check(&pool->backing, report);
	if (pool->is_destroyed)
		return n_faults; /* members leave without dropping what they had */
	n_faults += check_extents(pool, &seen, report);
	n_faults += check_members(pool, &listed, report);
	n_faults += check_holding(pool, &pool->own, POOL_OWNER, &listed, report);
	n_faults += check_holding(pool, &pool->nobody, EXTENT_OWNER_NONE, &listed, report);
	n_faults += check_totals(pool, &seen, &listed, report);
	n_faults += hold_check(pool, report);
	n_faults += block_name_check(pool, report);
	n_faults += lease_check(pool, report);
	return n_faults;
}

/* ---- the report as records ---- */

static uint32_t split_report(char *text, struct pool_fault faults[], uint32_t n_max)
{
	char *line, *rest = text, *what;
	uint32_t n = 0;

	while (n < n_max && (line = strsep(&rest, "\n"))) {
		if (!*line)
			continue;
		faults[n] = (struct pool_fault){0};
		if (!strncmp(line, "0x", 2) && (what = strstr(line, ": "))) {
			faults[n].offset = strtoull(line, NULL, 16);
			line = what + 2;
		}
		snprintf(faults[n++].what, sizeof(faults[0].what), "%s", line);
	}
	return n;
}

void pool_keep_checks_off(struct pool *pool)
{
	pthread_mutex_lock(&pool->check_mutex);
}

void pool_let_checks_on(struct pool *pool)
{
	pthread_mutex_unlock(&pool->check_mutex);
}

bool pool_is_being_checked(const struct pool *pool)
{
	return atomic_load_explicit(&pool->is_being_checked, memory_order_relaxed);
}

uint32_t pool_check(struct pool *pool, struct pool_fault faults[], uint32_t n_max)
{
	char *text = NULL;
	size_t n_text;
	FILE *report = open_memstream(&text, &n_text);
	unsigned n_faults;

	if (!report) { /* not checked is not sound */
		if (n_max) {
			faults[0] = (struct pool_fault){0};
			snprintf(faults[0].what, sizeof(faults[0].what), "not checked: the daemon is out of memory");
		}
		return 1;
	}
	pool_keep_checks_off(pool);
	atomic_store_explicit(&pool->is_being_checked, true,
			      memory_order_relaxed); /* before: who comes now does not wait */
	pool_lock_after_others(pool);
	n_faults = check_locked(pool, report);
	pool_unlock(pool);
	atomic_store_explicit(&pool->is_being_checked, false, memory_order_relaxed);
	pool_let_checks_on(pool);
	if (fclose(report) || !text)
		n_max = 0;
	for (uint32_t n = n_max ? split_report(text, faults, n_max) : 0; n < n_max && n < n_faults; n++) {
		faults[n] = (struct pool_fault){0};
		snprintf(faults[n].what, sizeof(faults[n].what), "a fault without a description");
	}
	free(text);
	return n_faults;
}

/* ---- for people ---- */

static void dump_names(const struct pool *pool, FILE *out)
{
	for (uint32_t i = 0; i < pool->names.n_high; i++)
		if (name_record(pool, i)->n_bytes)
			fprintf(out, "  name \"%.*s\": 0x%" PRIx64 "\n", (int)name_record(pool, i)->n_bytes,
				name_record(pool, i)->name, block_offset(pool, name_record(pool, i)->extent));
}

static void dump_holds(const struct pool *pool, FILE *out)
{
	for (uint32_t i = 0; i < pool->holds.n_high; i++)
		if (hold_record(pool, i)->n)
			fprintf(out, "  hold: session %" PRIu64 " retains 0x%" PRIx64 " %" PRIu64 " times\n",
				session_of(pool, hold_record(pool, i)->member),
				block_offset(pool, hold_record(pool, i)->extent), hold_record(pool, i)->n);
}

void pool_dump(struct pool *pool, FILE *out)
{
	pool_lock_after_others(pool);
	fprintf(out, "pool %" PRIu64 " \"%.*s\"%s: %" PRIu64 " of %" PRIu64 " bytes used, %" PRIu64 " backed\n",
		pool->id, (int)pool->options.n_name_bytes, pool->options.name, pool->is_destroyed ? " (destroyed)" : "",
		used_bytes(pool), pool->map.total_bytes,
		atomic_load_explicit(&pool->backing.backed_bytes, memory_order_relaxed));
	for (const struct pool_member *m = pool->first; m; m = m->next)
		fprintf(out,
			"  member %u: session %" PRIu64 ", %" PRIu64 " blocks, %" PRIu64 " bytes, %" PRIu64
			" retains\n",
			m->index, m->session, m->blocks.list.n_blocks, m->blocks.list.n_bytes, m->n_holds);
	extent_map_dump(&pool->map, out);
	if (!pool->is_destroyed) {
		dump_names(pool, out);
		dump_holds(pool, out);
	}
	pool_unlock(pool);
}
