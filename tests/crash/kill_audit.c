// SPDX-License-Identifier: MIT
/*
 * The daemon's books and the model, block by block, while no worker runs an operation. What is sure must be there, with its
 * size, its owner and its holds; what is there must be sure, or be one of those that a killed thread was just asking for.
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kill_run.h"

struct expected {
	uint64_t offset, size, owner; /* 0: the pool */
	uint64_t n_holds;	      /* retains */
	bool is_nobodys;	      /* only they keep it */
	bool any_size;		      /* its owner, who gave it up since, may have changed it */
	bool is_found;
};

struct audit {
	struct kill_run *run;
	const char *when;
	unsigned pool;
	struct expected *blocks;
	size_t n, n_room;
	uint64_t n_bytes;
	struct mempool_client *client;
	struct mempool_pool *handle;
};

/* ---- what the model says ---- */

static struct expected *expect(struct audit *audit, uint64_t offset, uint64_t size)
{
	for (size_t i = 0; i < audit->n; i++)
		if (audit->blocks[i].offset == offset)
			return &audit->blocks[i];
	if (audit->n == audit->n_room) {
		audit->n_room = 2 * audit->n_room + 256;
		audit->blocks = realloc(audit->blocks, audit->n_room * sizeof(*audit->blocks));
		if (!audit->blocks)
			abort();
	}
	audit->blocks[audit->n] =
		(struct expected){.offset = offset, .size = size, .is_nobodys = true, .any_size = true};
	return &audit->blocks[audit->n++];
}

static void expect_block(struct audit *audit, const struct kill_block *block, uint64_t session)
{
	enum kill_state state = kill_state(block);
	struct expected *expected;

	if (state == KILL_NONE || block->pool != audit->pool)
		return;
	expected = expect(audit, block->offset, block->size);
	expected->n_holds += block->n_retains;
	if (state == KILL_PASSED)
		return;
	expected->size = block->size;
	expected->any_size = false;
	if (state == KILL_HELD)
		return;
	expected->is_nobodys = false;
	expected->owner = state == KILL_LEFT ? 0 : session;
}

static void expect_worker(struct audit *audit, struct kill_worker *worker)
{
	uint64_t session = atomic_load(&worker->session);

	for (unsigned t = 0; t < audit->run->plan->n_threads; t++) {
		for (unsigned i = 0; i < KILL_BLOCKS; i++)
			expect_block(audit, &worker->threads[t].blocks[i], session);
		for (unsigned i = 0; i < KILL_KEYS; i++) {
			const struct kill_key *key = &worker->threads[t].keys[i];
			struct expected *expected;

			if (atomic_load(&key->state) != KILL_KEY_PUBLISHED || audit->pool != KILL_SESSION_POOL)
				continue;
			expected = expect(audit, key->offset, key->size);
			expected->size = key->size;
			expected->is_nobodys = expected->any_size = false;
			expected->owner = 0;
		}
	}
}

/* ---- what the daemon says ---- */

/* A block that nobody knows of: was one of the dead just asking for it? Then it is freed. */
static int explain(struct audit *audit, uint64_t offset, uint64_t requested, uint64_t owner)
{
	struct kill_model *model = audit->run->model;
	uint32_t best = KILL_DOUBTS; /* one that names the offset, else one that could be any */

	for (uint32_t i = 0; !owner && audit->pool == KILL_POOL_POOL && i < model->n_doubts; i++) {
		const struct kill_doubt *doubt = &model->doubts[i];

		if (doubt->size == requested && doubt->offset == offset)
			best = i;
		else if (best == KILL_DOUBTS && doubt->size == requested && !doubt->offset)
			best = i;
	}
	if (best < KILL_DOUBTS) {
		model->doubts[best] = model->doubts[--model->n_doubts];
		audit->run->seen.doubts_found++;
		return mempool_free(audit->handle, offset)
			       ? kill_run_fail(audit->run, "%s: free of 0x%llx, which was in doubt: %s", audit->when,
					       (unsigned long long)offset, mempool_last_error())
			       : 0;
	}
	return kill_run_fail(
		audit->run,
		"%s: pool %s has a block at 0x%llx, %llu bytes, of session %llu, that nobody knows of: lost",
		audit->when, kill_pool_name(audit->pool), (unsigned long long)offset, (unsigned long long)requested,
		(unsigned long long)owner);
}

/* For the report of a failure: how many retains each session has, by the daemon and by the model. */
static int print_holds(void *arg, const struct mempool_session_info *info)
{
	struct audit *audit = arg;
	uint64_t n = 0;

	for (unsigned w = 0; w < audit->run->plan->n_workers; w++) {
		struct kill_worker *worker = &audit->run->model->workers[w];

		for (unsigned i = 0; i < audit->run->plan->n_threads * KILL_BLOCKS; i++) {
			const struct kill_block *block = &worker->threads[i / KILL_BLOCKS].blocks[i % KILL_BLOCKS];

			if (info->session == atomic_load(&worker->session) && kill_state(block) != KILL_NONE &&
			    block->pool == audit->pool)
				n += block->n_retains;
		}
	}
	fprintf(stderr, "session %llu, %s: blocks %llu, holds %llu; in the model it retains %llu times\n",
		(unsigned long long)info->session, info->state, (unsigned long long)info->blocks,
		(unsigned long long)info->holds, (unsigned long long)n);
	return 0;
}

/* For the report of a failure: who of the living did what with the block at @offset. */
static void print_story(const struct audit *audit, uint64_t offset)
{
	const unsigned n_threads = audit->run->plan->n_threads;

	for (unsigned i = 0; i < audit->run->plan->n_workers * n_threads; i++) {
		const struct kill_thread *thread = &audit->run->model->workers[i / n_threads].threads[i % n_threads];

		for (unsigned k = 0; k < KILL_RING; k++)
			if (thread->past[k].offset == offset && thread->past[k].pool == audit->pool)
				fprintf(stderr, "0x%llx: [%llu] worker %u, thread %u: %s %u = %d\n",
					(unsigned long long)offset, (unsigned long long)thread->past[k].at_op,
					i / n_threads, i % n_threads, kill_kind_names[thread->past[k].kind],
					thread->past[k].size, thread->past[k].result);
		for (unsigned k = 0; k < KILL_BLOCKS; k++)
			if (thread->blocks[k].offset == offset && thread->blocks[k].pool == audit->pool)
				fprintf(stderr,
					"0x%llx: worker %u, thread %u: state %d, tag %llx, %u bytes, %u retains\n",
					(unsigned long long)offset, i / n_threads, i % n_threads,
					kill_state(&thread->blocks[k]),
					(unsigned long long)kill_tag(&thread->blocks[k]), thread->blocks[k].size,
					thread->blocks[k].n_retains);
	}
}

static int compare(struct audit *audit, const json_t *extent)
{
	uint64_t offset = (uint64_t)json_integer_value(json_object_get(extent, "block"));
	uint64_t requested = (uint64_t)json_integer_value(json_object_get(extent, "requested"));
	uint64_t holds = (uint64_t)json_integer_value(json_object_get(extent, "holds"));
	uint64_t owner = (uint64_t)json_integer_value(json_object_get(extent, "owner"));

	for (size_t i = 0; i < audit->n; i++) {
		struct expected *e = &audit->blocks[i];

		if (e->offset != offset)
			continue;
		e->is_found = true;
		audit->n_bytes += round_up(requested, KILL_GRANULE);
		audit->run->seen.blocks_compared++;
		if ((e->any_size || e->size == requested) && e->n_holds + !e->is_nobodys == holds && e->owner == owner)
			return 0;
		(void)mempool_session_list(audit->client, kill_pool_name(audit->pool), print_holds, audit);
		print_story(audit, offset);
		return kill_run_fail(
			audit->run,
			"%s: pool %s, block at 0x%llx: expected %llu bytes of session %llu with %llu holds; the "
			"daemon says %llu of %llu with %llu",
			audit->when, kill_pool_name(audit->pool), (unsigned long long)offset,
			(unsigned long long)e->size, (unsigned long long)e->owner,
			(unsigned long long)(e->n_holds + !e->is_nobodys), (unsigned long long)requested,
			(unsigned long long)owner, (unsigned long long)holds);
	}
	return explain(audit, offset, requested, owner);
}

/*
 * A slab that a session serves itself from: the daemon knows how many of its slots are live, and their words whose they are.
 * A killed heap may leave one slot live that nobody knows of; only where blocks outlive their session does it stay.
 */
static int compare_slab(struct audit *audit, const json_t *extent)
{
	uint64_t offset = (uint64_t)json_integer_value(json_object_get(extent, "offset"));
	uint64_t size = (uint64_t)json_integer_value(json_object_get(extent, "size"));
	uint64_t slot_size = (uint64_t)json_integer_value(json_object_get(extent, "slot_size"));
	uint64_t live = (uint64_t)json_integer_value(json_object_get(extent, "live")), n = 0;

	for (size_t i = 0; i < audit->n; i++) {
		struct expected *e = &audit->blocks[i];

		if (e->offset < offset || e->offset >= offset + size)
			continue;
		e->is_found = true;
		n++;
	}
	audit->n_bytes += live * slot_size;
	audit->run->seen.blocks_compared += n;
	if (live == n)
		return 0;
	return kill_run_fail(audit->run,
			     "%s: pool %s, slab at 0x%llx, %llu slots: %llu are live by the daemon, %llu by the model",
			     audit->when, kill_pool_name(audit->pool), (unsigned long long)offset,
			     (unsigned long long)json_integer_value(json_object_get(extent, "slots")),
			     (unsigned long long)live, (unsigned long long)n);
}

static int compare_all(struct audit *audit)
{
	char *text = NULL;
	size_t n = 0, index;
	FILE *stream = open_memstream(&text, &n);
	struct mempool_visualize_options options = {.struct_size = sizeof(options), .format = MEMPOOL_FORMAT_JSON};
	json_t *picture, *extent;
	json_error_t error;
	int r;

	if (!stream)
		return kill_run_fail(audit->run, "open_memstream: %s", strerror(errno));
	r = mempool_pool_visualize(audit->handle, stream, &options);
	fclose(stream);
	picture = r ? NULL : json_loads(text, 0, &error);
	free(text);
	if (!picture)
		return kill_run_fail(audit->run, "%s: visualize of pool %s: %s", audit->when,
				     kill_pool_name(audit->pool), r ? mempool_last_error() : error.text);
	json_array_foreach(json_object_get(picture, "extents"), index, extent)
	{
		const char *state = json_string_value(json_object_get(extent, "state"));

		if (!r && !strcmp(state, "allocated"))
			r = compare(audit, extent);
		else if (!r && !strcmp(state, "leased"))
			r = compare_slab(audit, extent);
	}
	json_decref(picture);
	for (size_t i = 0; !r && i < audit->n; i++)
		if (!audit->blocks[i].is_found)
			r = kill_run_fail(
				audit->run, "%s: pool %s: the block at 0x%llx, %llu bytes, of session %llu is gone",
				audit->when, kill_pool_name(audit->pool), (unsigned long long)audit->blocks[i].offset,
				(unsigned long long)audit->blocks[i].size, (unsigned long long)audit->blocks[i].owner);
	return r;
}

static int check_figures(struct audit *audit)
{
	struct mempool_stats stats;
	char *text = NULL;
	size_t n = 0;
	FILE *stream = open_memstream(&text, &n);
	int r = stream ? mempool_pool_check(audit->handle, stream) : -errno;

	if (stream)
		fclose(stream);
	if (r)
		r = kill_run_fail(audit->run, "%s: check of pool %s: %d: %s%s", audit->when,
				  kill_pool_name(audit->pool), r, r < 0 ? mempool_last_error() : "", text ? text : "");
	free(text);
	if (r)
		return r;
	if (mempool_pool_stats(audit->handle, &stats))
		return kill_run_fail(audit->run, "%s: stats: %s", audit->when, mempool_last_error());
	if (stats.used != audit->n_bytes || stats.allocations != audit->n ||
	    stats.used + stats.free + stats.leased_idle != stats.total)
		return kill_run_fail(
			audit->run,
			"%s: pool %s: expected %zu blocks of %llu bytes; stats say %llu of %llu, free %llu, of %llu",
			audit->when, kill_pool_name(audit->pool), audit->n, (unsigned long long)audit->n_bytes,
			(unsigned long long)stats.allocations, (unsigned long long)stats.used,
			(unsigned long long)stats.free, (unsigned long long)stats.total);
	return 0;
}

/* ---- sessions ---- */

struct listed {
	struct kill_run *run;
	uint64_t own;
	uint64_t stranger; /* a session of none of the living */
};

static int note_stranger(void *arg, const struct mempool_session_info *info)
{
	struct listed *listed = arg;
	bool is_known = info->session == listed->own;

	for (unsigned w = 0; w < listed->run->plan->n_workers; w++)
		is_known |= info->session == atomic_load(&listed->run->model->workers[w].session);
	if (!is_known)
		listed->stranger = info->session;
	return 0;
}

/* The dead are noticed soon; their ends are jobs. */
static int await_ends(struct audit *audit)
{
	const struct timespec pause = {.tv_nsec = 1000000};
	struct listed listed = {.run = audit->run, .own = mempool_session(audit->client)};

	for (int i = 0; i < 20000; i++) { /* the bound is what decides */
		int r;

		listed.stranger = 0;
		r = mempool_session_list(audit->client, NULL, note_stranger, &listed);
		if (r)
			return kill_run_fail(audit->run, "%s: list of sessions: %s", audit->when, mempool_last_error());
		if (!listed.stranger)
			return 0;
		nanosleep(&pause, NULL);
	}
	return kill_run_fail(audit->run, "%s: session %llu is none of the living, and does not end", audit->when,
			     (unsigned long long)listed.stranger);
}

/* ---- all of it ---- */

static int audit_pool(struct audit *audit)
{
	int r;

	if (mempool_pool_open(audit->client, kill_pool_name(audit->pool), &audit->handle))
		return kill_run_fail(audit->run, "%s: open of pool %s: %s", audit->when, kill_pool_name(audit->pool),
				     mempool_last_error());
	audit->n = 0;
	audit->n_bytes = 0;
	for (unsigned w = 0; w < audit->run->plan->n_workers; w++)
		expect_worker(audit, &audit->run->model->workers[w]);
	r = compare_all(audit);
	if (!r)
		r = check_figures(audit);
	mempool_pool_close(audit->handle);
	return r;
}

static int audit_all(struct kill_run *run, const char *when, bool destroy)
{
	struct audit audit = {.run = run, .when = when};
	int r;

	if (mempool_connect(&audit.client, run->daemon.socket))
		return kill_run_fail(run, "%s: connect: %s", when, mempool_last_error());
	r = await_ends(&audit);
	for (audit.pool = 0; !r && audit.pool < KILL_POOLS; audit.pool++) {
		r = audit_pool(&audit);
		if (!r && destroy && audit.n)
			r = kill_run_fail(run, "%s: the model has %zu blocks left", when, audit.n);
		if (!r && destroy && mempool_pool_destroy(audit.client, kill_pool_name(audit.pool), MEMPOOL_IF_EMPTY))
			r = kill_run_fail(run, "%s: destroy of pool %s: %s", when, kill_pool_name(audit.pool),
					  mempool_last_error());
	}
	run->model->n_doubts = 0;
	run->seen.audits++;
	free(audit.blocks);
	mempool_disconnect(audit.client);
	return r;
}

int kill_audit(struct kill_run *run, const char *when)
{
	return audit_all(run, when, false);
}

static int fail_on_pool(void *arg, const struct mempool_pool_info *info)
{
	return kill_run_fail(arg, "at the end: pool %s is left", info->name);
}

int kill_audit_end(struct kill_run *run)
{
	struct mempool_client *client;
	int r = audit_all(run, "at the end", true);

	if (r)
		return r;
	if (mempool_connect(&client, run->daemon.socket))
		return kill_run_fail(run, "at the end: connect: %s", mempool_last_error());
	r = mempool_pool_list(client, fail_on_pool, run);
	mempool_disconnect(client);
	return r;
}

/* ---- what the dead leave ---- */

static void doubt(struct kill_model *model, uint64_t offset, uint64_t size)
{
	if (model->n_doubts == KILL_DOUBTS)
		abort(); /* audits are too rare for the plan */
	model->doubts[model->n_doubts++] = (struct kill_doubt){.offset = offset, .size = size};
}

static void bury_op(struct kill_run *run, struct kill_thread *thread)
{
	uint32_t kind = atomic_load(&thread->op.kind);

	run->seen.worker_kinds[kind]++;
	for (uint32_t i = 0; kind != KILL_IDLE && i < thread->op.n; i++) {
		struct kill_block *block = &thread->blocks[thread->op.blocks[i]];

		if (kill_state(block) != KILL_NONE && block->pool == KILL_POOL_POOL)
			doubt(run->model, block->offset, block->size);
		kill_set(block, 0, KILL_NONE);
	}
	for (uint32_t i = 0; kind != KILL_IDLE && thread->op.pool == KILL_POOL_POOL && i < thread->op.n_sizes; i++)
		doubt(run->model, 0, thread->op.sizes[i]);
	atomic_store(&thread->op.kind, KILL_IDLE);
	thread->op.n = thread->op.n_sizes = 0;
}

static void bury_blocks(struct kill_run *run, struct kill_thread *thread, unsigned had[static KILL_LEFT + 1])
{
	for (unsigned i = 0; i < KILL_BLOCKS; i++) {
		struct kill_block *block = &thread->blocks[i];
		enum kill_state state = kill_state(block);

		had[state]++;
		run->seen.had_retained += state == KILL_OWNED && block->n_retains;
		if ((state == KILL_OWNED || state == KILL_LEFT) && block->pool == KILL_POOL_POOL)
			kill_set(block, kill_tag(block), KILL_LEFT);
		else
			kill_set(block, 0, KILL_NONE);
		block->n_retains = 0;
	}
}

/* Messages that it was writing or reading when it died, and those whose other end was dead already. */
static void bury_mail(struct kill_run *run, unsigned worker)
{
	struct kill_model *model = run->model;

	for (unsigned i = 0; i < run->plan->n_workers * run->plan->n_threads * KILL_MAIL; i++) {
		unsigned to = i / KILL_MAIL / run->plan->n_threads;
		struct kill_mail *mail =
			&model->workers[to].threads[i / KILL_MAIL % run->plan->n_threads].mail[i % KILL_MAIL];
		uint64_t word = atomic_load(&mail->word);
		unsigned from = word >> 8 & 0xff, state = word & 0xff;
		bool is_sender_dead = state && kill_is_dead(model, from, (uint32_t)(word >> 32));

		if (is_sender_dead && (state == KILL_MAIL_WRITING || state == KILL_MAIL_DOUBT))
			atomic_store(&mail->word, KILL_MAIL_EMPTY);
		if (to != worker || state != KILL_MAIL_TAKING)
			continue;
		mail->dead_session = atomic_load(&model->workers[worker].session);
		atomic_store(&mail->word,
			     is_sender_dead ? KILL_MAIL_EMPTY : (word & ~UINT64_C(0xff)) | KILL_MAIL_DOUBT);
	}
}

void kill_bury(struct kill_run *run, unsigned worker)
{
	struct kill_worker *dead = &run->model->workers[worker];
	unsigned had[KILL_LEFT + 1] = {0}, n_published = 0;

	for (unsigned t = 0; t < run->plan->n_threads; t++) {
		bury_op(run, &dead->threads[t]);
		bury_blocks(run, &dead->threads[t], had);
		for (unsigned k = 0; k < KILL_KEYS; k++)
			n_published += atomic_load(&dead->threads[t].keys[k].state) == KILL_KEY_PUBLISHED;
	}
	bury_mail(run, worker);
	run->seen.had_owned += had[KILL_OWNED] > 0;
	run->seen.had_sent += had[KILL_SENT] > 0;
	run->seen.had_held += had[KILL_HELD] > 0;
	run->seen.had_published += n_published > 0;
}
