// SPDX-License-Identifier: MIT
#include "picture.h"

#include <inttypes.h>

#include "must.h"

#define PAGE_N 64u

static void draw_extents(struct pool *pool, bool with_times, FILE *out)
{
	struct pool_extent page[PAGE_N];
	uint64_t hint = 0, from = 0;
	uint32_t n;

	do {
		n = pool_extents(pool, from, &hint, page, PAGE_N, &from);
		for (uint32_t i = 0; i < n; i++) {
			const struct pool_extent *e = &page[i];

			if (e->state == EXTENT_GAP) {
				fprintf(out, "gap 0x%" PRIx64 " %" PRIu64 "\n", e->offset, e->size);
				continue;
			}
			fprintf(out,
				"block 0x%" PRIx64 " %" PRIu64 " at 0x%" PRIx64 " asked %" PRIu64
				" state %d owner %" PRIu64 " origin %" PRIu64 " retains %u name \"%.*s\"",
				e->block, e->size, e->offset, e->requested, e->state, e->owner, e->origin, e->n_holds,
				(int)e->n_name_bytes, e->name);
			fprintf(out, " since %u\n", with_times ? e->since_s : 0);
		}
	} while (from);
}

static void draw_answer(const struct pool *pool, const struct pool_member *member, const struct result_record *answer,
			FILE *out)
{
	uint32_t batch = (uint32_t)(answer->what >> 32);

	fprintf(out,
		"answer to session %" PRIu64 " request %" PRIu64 "%s: %d, 0x%" PRIx64 " %" PRIu64 " %" PRIu64
		" %" PRIx64 "",
		member->session, answer->id & ~RESULT_UNDER_WAY, answer->id & RESULT_UNDER_WAY ? " (under way)" : "",
		(int)(uint32_t)answer->what, answer->offset, answer->size, answer->old_size, answer->flags);
	for (; batch != POOL_NONE;
	     batch = ((struct batch_record *)ledger_at(&pool->ledger, LEDGER_BATCHES, batch))->next) {
		const struct batch_record *record = ledger_at(&pool->ledger, LEDGER_BATCHES, batch);

		for (uint32_t i = 0; i < record->n; i++)
			fprintf(out, " 0x%" PRIx64, record->offsets[i]);
	}
	fprintf(out, "\n");
}

/* A client that asks with an id has had the answer to the one whose place it takes. */
static bool is_asked_for(const struct result_record *answer)
{
	uint64_t id = answer->id & ~RESULT_UNDER_WAY;

	return id && id + POOL_RESULTS_N != PICTURE_REQUEST;
}

static void draw_members(struct pool *pool, FILE *out)
{
	for (const struct pool_member *m = pool->first; m; m = m->next) {
		const struct member_record *record = member_record(pool, m->index);

		fprintf(out, "member %" PRIu64 " pid %d uid %u \"%.*s\" state %d\n", m->session, record->pid,
			record->uid, (int)sizeof(record->command), record->command, (int)record->state);
		fprintf(out, "list of %" PRIu64 ": %" PRIu64 " blocks %" PRIu64 " bytes, %" PRIu64 " retained\n",
			m->session, m->blocks.list.n_blocks, m->blocks.list.n_bytes, m->n_holds);
		for (uint32_t i = 0; i < POOL_RESULTS_N; i++)
			if (is_asked_for(&result_ring(pool, m->index)->records[i]))
				draw_answer(pool, m, &result_ring(pool, m->index)->records[i], out);
	}
}

static void draw_figures(struct world *world, struct pool *pool, FILE *out)
{
	struct pool_stats stats = world_stats(pool);

	fprintf(out,
		"figures: total %" PRIu64 " used %" PRIu64 " requested %" PRIu64 " free %" PRIu64 " largest %" PRIu64
		" peak %" PRIu64 " blocks %" PRIu64 " gaps %" PRIu64 " sessions %" PRIu64 " allocs %" PRIu64
		" frees %" PRIu64 " failed %" PRIu64 "\n",
		stats.total, stats.used, stats.requested, stats.free, stats.largest_free, stats.peak_used,
		stats.allocations, stats.gaps, stats.sessions, stats.alloc_total, stats.free_total, stats.failed_total);
	for (uint32_t uid = WORLD_UID; uid < WORLD_UID + 3; uid++)
		fprintf(out, "charged to uid %u: %" PRIu64 " blocks %" PRIu64 " bytes\n", uid,
			world_used(world, uid, QUOTA_BLOCKS), world_used(world, uid, QUOTA_BYTES));
}

void picture_take(struct world *world, struct pool *pool, bool with_times, char *out)
{
	FILE *file = fmemopen(out, PICTURE_BYTES, "w");

	must(file, "fmemopen");
	fprintf(file, "pool %" PRIu64 " \"%.*s\"\n", pool_id(pool), (int)pool_options(pool)->n_name_bytes,
		pool_options(pool)->name);
	draw_figures(world, pool, file);
	draw_members(pool, file);
	draw_extents(pool, with_times, file);
	must(ftell(file) < (long)PICTURE_BYTES - 1, "the picture fits");
	must(!fclose(file), "fclose");
}

/* ---- between ---- */

static bool has_line(const char *text, const char *line, size_t n)
{
	while (text) {
		if (!strncmp(text, line, n))
			return true;
		text = strchr(text, '\n');
		text = text ? text + 1 : NULL;
	}
	return false;
}

/* Of a block that loses several retains: all but their count. */
static size_t promised_bytes(const char *line, size_t n)
{
	const char *retains = memmem(line, n, " retains ", 9);

	return retains ? (size_t)(retains - line) : n;
}

static bool is_promise(const char *line, size_t n)
{
	bool under_way = memmem(line, n, "(under way)", 11) != NULL;

	return !strncmp(line, "block ", 6) || (!strncmp(line, "answer ", 7) && !under_way);
}

bool picture_is_between(const char *picture, const char *a, const char *b)
{
	for (const char *line = picture, *end; (end = strchr(line, '\n')); line = end + 1) {
		size_t n = promised_bytes(line, (size_t)(end - line) + 1);

		if (is_promise(line, n) && !has_line(a, line, n) && !has_line(b, line, n)) {
			printf("neither before nor after: %.*s\n", (int)(end - line), line);
			return false;
		}
	}
	return true;
}
