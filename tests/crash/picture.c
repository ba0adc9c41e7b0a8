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

static void draw_figures(struct pool *pool, FILE *out)
{
	struct pool_stats stats = world_stats(pool);

	fprintf(out,
		"figures: total %" PRIu64 " used %" PRIu64 " requested %" PRIu64 " free %" PRIu64 " largest %" PRIu64
		" peak %" PRIu64 " blocks %" PRIu64 " gaps %" PRIu64 " sessions %" PRIu64 " allocs %" PRIu64
		" frees %" PRIu64 " failed %" PRIu64 "\n",
		stats.total, stats.used, stats.requested, stats.free, stats.largest_free, stats.peak_used,
		stats.allocations, stats.gaps, stats.sessions, stats.alloc_total, stats.free_total, stats.failed_total);
}

static void draw_charges(struct quota *quota, FILE *out)
{
	fprintf(out, "# charges\n");
	for (uint32_t uid = WORLD_UID; uid < WORLD_UID + 3; uid++) {
		const struct quota_account *account = quota_account_of(quota, uid);

		fprintf(out, "charged to uid %u: %" PRIu64 " pools %" PRIu64 " blocks %" PRIu64 " bytes\n", uid,
			atomic_load(&account->used[QUOTA_POOLS]), atomic_load(&account->used[QUOTA_BLOCKS]),
			atomic_load(&account->used[QUOTA_BYTES]));
	}
}

static void draw_pool(struct pool *pool, bool with_times, FILE *out)
{
	fprintf(out, "pool %" PRIu64 " \"%.*s\"\n", pool_id(pool), (int)pool_options(pool)->n_name_bytes,
		pool_options(pool)->name);
	draw_figures(pool, out);
	draw_members(pool, out);
	draw_extents(pool, with_times, out);
}

static FILE *begin(char *out)
{
	FILE *file = fmemopen(out, PICTURE_BYTES, "w");

	must(file, "fmemopen");
	return file;
}

static void end(FILE *file)
{
	must(ftell(file) < (long)PICTURE_BYTES - 1, "the picture fits");
	must(!fclose(file), "fclose");
}

void picture_take(struct pool *pool, bool with_times, char *out)
{
	FILE *file = begin(out);

	draw_pool(pool, with_times, file);
	draw_charges(pool->env->quota, file);
	end(file);
}

/* ---- of an instance ---- */

static void draw_sessions(struct registry *registry, uint64_t n_requests, FILE *out)
{
	struct directory_session session;
	unsigned state;

	for (uint32_t slot = 0; registry_session(registry, &slot, &session, &state); slot++) {
		struct registry_call call = {.slot = slot, .session = session.id};
		struct directory_answer answer;

		fprintf(out, "# session %" PRIu64 " in slot %u, state %u, pid %d uid %u \"%s\"\n", session.id, slot,
			state, session.pid, session.uid, session.command);
		for (call.request = 1; call.request <= n_requests; call.request++)
			if (registry_answered(registry, &call, &answer))
				fprintf(out,
					"answer about pools to session %" PRIu64 " request %" PRIu64
					": %d, pool %" PRIu64 "\n",
					session.id, call.request, answer.outcome, answer.pool);
	}
}

void picture_take_instance(struct registry *registry, uint64_t n_requests, bool with_times, char *out)
{
	struct pool *pools[PAGE_N];
	FILE *file = begin(out);
	uint32_t n = registry_list_all(registry, 0, pools, N_ELEMENTS(pools));

	for (uint32_t i = 0; i < n; i++) {
		fprintf(file, "# pool %" PRIu64 " goes with session %" PRIu64 ", created at %" PRIu64 "\n",
			pool_id(pools[i]), registry_owner(registry, pool_id(pools[i])),
			with_times ? pool_created_s(pools[i]) : 0);
		draw_pool(pools[i], with_times, file);
		pool_unref(pools[i]);
	}
	draw_charges(registry_quota(registry), file);
	draw_sessions(registry, n_requests, file);
	end(file);
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

static const char *section_end(const char *section)
{
	const char *next = strstr(section, "\n# ");

	return next ? next + 1 : section + strlen(section);
}

/* Each section of @text, but for the sums, is in @a or in @b. */
static bool sections_are_in(const char *text, const char *a, const char *b)
{
	for (const char *section = text, *end; *section; section = end) {
		size_t n = (size_t)((end = section_end(section)) - section);

		if (!strncmp(section, "# charges", 9) || memmem(a, strlen(a), section, n) ||
		    memmem(b, strlen(b), section, n))
			continue;
		printf("not whole: %.*s\n", (int)n, section);
		return false;
	}
	return true;
}

/* What is in both @a and @b is in @text. */
static bool has_what_stays(const char *text, const char *a, const char *b)
{
	for (const char *section = a, *end; *section; section = end) {
		size_t n = (size_t)((end = section_end(section)) - section);

		if (!memmem(b, strlen(b), section, n) || memmem(text, strlen(text), section, n))
			continue;
		printf("gone: %.*s\n", (int)n, section);
		return false;
	}
	return true;
}

bool picture_is_of_wholes(const char *picture, const char *a, const char *b)
{
	return sections_are_in(picture, a, b) && has_what_stays(picture, a, b);
}
