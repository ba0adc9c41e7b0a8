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
	uint64_t n_holds;	      /* retains, and the owners': one, or none where only retains keep it */
	bool any_size;		      /* its owner, who gave it up since, may have changed it */
	bool is_found;
};

struct found { /* a block by the daemon */
	uint64_t offset, size, owner, n_holds;
	bool is_slot; /* of that size: it is as large as was asked for, or larger */
};

struct audit {
	struct kill_run *run;
	const char *when;
	unsigned pool;
	struct expected *blocks;
	size_t n, n_room;
	struct found *found;
	size_t n_found, n_found_room;
	uint64_t n_bytes;
	struct mempool_client *client;
	struct mempool_pool *handle;
};

static void *with_room(void *array, size_t n, size_t *n_roomp, size_t each)
{
	if (n < *n_roomp)
		return array;
	*n_roomp = 2 * *n_roomp + 256;
	array = realloc(array, *n_roomp * each);
	if (!array)
		abort();
	return array;
}

/* ---- what the model says ---- */

static struct expected *expected_at(const struct audit *audit, uint64_t offset)
{
	for (size_t i = 0; i < audit->n; i++)
		if (audit->blocks[i].offset == offset)
			return &audit->blocks[i];
	return NULL;
}

static struct expected *expect(struct audit *audit, uint64_t offset, uint64_t size)
{
	struct expected *expected = expected_at(audit, offset);

	if (expected)
		return expected;
	audit->blocks = with_room(audit->blocks, audit->n, &audit->n_room, sizeof(*audit->blocks));
	audit->blocks[audit->n] = (struct expected){.offset = offset, .size = size, .any_size = true};
	return &audit->blocks[audit->n++];
}

/* It has an owner: @owner, or the pool. */
static void expect_owned(struct expected *expected, uint64_t size, uint64_t owner)
{
	expected->size = size;
	expected->owner = owner;
	expected->n_holds++;
	expected->any_size = false;
}

/* Of a gift whose receiver died the message tells. */
static bool is_doubted_gift(const struct audit *audit, const struct kill_block *block)
{
	const struct kill_model *model = audit->run->model;
	unsigned n_threads = audit->run->plan->n_threads;

	for (unsigned i = 0; i < audit->run->plan->n_workers * n_threads * KILL_MAIL; i++) {
		const struct kill_mail *mail = &model->workers[i / KILL_MAIL / n_threads]
							.threads[i / KILL_MAIL % n_threads]
							.mail[i % KILL_MAIL];

		if ((atomic_load(&mail->word) & 0xff) == KILL_MAIL_DOUBT && mail->is_gift &&
		    mail->tag == kill_tag(block))
			return true;
	}
	return false;
}

static void expect_block(struct audit *audit, const struct kill_block *block, uint64_t session)
{
	enum kill_state state = kill_state(block);
	struct expected *expected;

	if (state == KILL_NONE || block->pool != audit->pool)
		return;
	if (state == KILL_SENT && is_doubted_gift(audit, block))
		return;
	expected = expect(audit, block->offset, block->size);
	expected->n_holds += block->n_retains;
	if (state == KILL_PASSED)
		return;
	expected->size = block->size;
	expected->any_size = false;
	if (state != KILL_HELD)
		expect_owned(expected, block->size, state == KILL_LEFT ? 0 : session);
}

/* A gift that is still to be taken, and became the pool's when its sender died. */
static void expect_mail(struct audit *audit, const struct kill_mail *mail)
{
	uint64_t word = atomic_load(&mail->word);

	if ((word & 0xff) == KILL_MAIL_FULL && mail->pool == audit->pool && audit->pool == KILL_POOL_POOL &&
	    kill_is_dead(audit->run->model, word >> 8 & 0xff, (uint32_t)(word >> 32)))
		expect_owned(expect(audit, mail->offset, mail->size), mail->size, 0);
}

static void expect_thread(struct audit *audit, const struct kill_thread *thread, uint64_t session)
{
	for (unsigned i = 0; i < KILL_BLOCKS; i++)
		expect_block(audit, &thread->blocks[i], session);
	for (unsigned i = 0; i < KILL_MAIL; i++)
		expect_mail(audit, &thread->mail[i]);
	for (unsigned i = 0; i < KILL_KEYS; i++) {
		const struct kill_key *key = &thread->keys[i];

		if (atomic_load(&key->state) == KILL_KEY_PUBLISHED && audit->pool == KILL_SESSION_POOL)
			expect_owned(expect(audit, key->offset, key->size), key->size, 0);
	}
}

/* ---- what the daemon says ---- */

static uint64_t field(const json_t *object, const char *name)
{
	return (uint64_t)json_integer_value(json_object_get(object, name)); /* 0 of an owner that is the pool */
}

static void find(struct audit *audit, struct found found)
{
	audit->found = with_room(audit->found, audit->n_found, &audit->n_found_room, sizeof(*audit->found));
	audit->found[audit->n_found++] = found;
}

/* Return: 0; -1: it is not in order in itself */
static int find_slots(struct audit *audit, const json_t *extent)
{
	uint64_t offset = field(extent, "offset"), slot_size = field(extent, "slot_size");
	const json_t *slots = json_object_get(extent, "live_slots"), *slot;
	size_t i;

	json_array_foreach(slots, i, slot)
	{
		uint64_t at = field(slot, "offset");

		if (at < offset || (at - offset) % slot_size || (at - offset) / slot_size >= field(extent, "slots"))
			return kill_run_fail(audit->run, "%s: pool %s, slab at 0x%llx: a live slot at 0x%llx is none",
					     audit->when, kill_pool_name(audit->pool), (unsigned long long)offset,
					     (unsigned long long)at);
		find(audit, (struct found){at, slot_size, field(slot, "owner"), field(slot, "holds"), true});
	}
	if (json_array_size(slots) == field(extent, "live"))
		return 0;
	return kill_run_fail(audit->run, "%s: pool %s, slab at 0x%llx: %llu slots are live, and %zu are listed",
			     audit->when, kill_pool_name(audit->pool), (unsigned long long)offset,
			     (unsigned long long)field(extent, "live"), json_array_size(slots));
}

static int find_all(struct audit *audit)
{
	struct mempool_visualize_options options = {
		.struct_size = sizeof(options), .format = MEMPOOL_FORMAT_JSON, .blocks = 1};
	size_t n = 0, index;
	char *text = NULL;
	FILE *stream = open_memstream(&text, &n);
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
	audit->n_found = 0;
	json_array_foreach(json_object_get(picture, "extents"), index, extent)
	{
		const char *state = json_string_value(json_object_get(extent, "state"));

		if (!strcmp(state, "allocated"))
			find(audit, (struct found){field(extent, "block"), field(extent, "requested"),
						   field(extent, "owner"), field(extent, "holds"), false});
		else if (!r && !strcmp(state, "leased"))
			r = find_slots(audit, extent);
	}
	json_decref(picture);
	return r;
}

static const struct found *found_at(const struct audit *audit, uint64_t offset)
{
	for (size_t i = 0; i < audit->n_found; i++)
		if (audit->found[i].offset == offset)
			return &audit->found[i];
	return NULL;
}

static bool has_size(const struct found *found, uint64_t asked)
{
	return found->is_slot ? found->size >= asked : found->size == asked;
}

/* ---- gifts whose receiver died taking them ---- */

/* The sender has it still: as he filled it, and nobody else's. */
static int give_back(struct audit *audit, struct kill_mail *mail, uint64_t session)
{
	const void *at = mempool_ptr(audit->handle, mail->offset);

	if (!at || kill_bad_byte(at, mail->tag, mail->size, mail->size) >= 0)
		return kill_run_fail(audit->run, "%s: pool %s: the gift at 0x%llx was not taken, and is damaged",
				     audit->when, kill_pool_name(audit->pool), (unsigned long long)mail->offset);
	expect_owned(expect(audit, mail->offset, mail->size), mail->size, session);
	audit->run->seen.gifts_back++;
	return 0;
}

/*
 * The sender lives: either he has it, or the receiver had it, and then it is gone with its session, or the pool's, or freed. Where
 * blocks outlive their session it is not gone unless it was being freed.
 */
static int settle_gift(struct audit *audit, struct kill_mail *mail)
{
	struct kill_model *model = audit->run->model;
	uint64_t word = atomic_load(&mail->word), was = kill_word(mail->tag, KILL_SENT);
	struct kill_worker *sender = &model->workers[word >> 8 & 0xff];
	struct kill_block *sent = &sender->threads[word >> 16 & 0xffff].blocks[mail->block];
	const struct found *found = found_at(audit, mail->offset);
	bool is_anothers = expected_at(audit, mail->offset); /* its memory was handed out again since */
	bool stays = audit->pool == KILL_POOL_POOL && !mail->is_freeing;

	if ((word & 0xff) != KILL_MAIL_DOUBT || !mail->is_gift || mail->pool != audit->pool)
		return 0;
	if (!is_anothers && atomic_load(&sent->word) == was && found && found->owner == mail->session) {
		atomic_store(&mail->word, (word & ~UINT64_C(0xff)) | KILL_MAIL_BACK);
		return give_back(audit, mail, mail->session);
	}
	if (stays && (is_anothers || !found || found->owner))
		return kill_run_fail(
			audit->run, "%s: the gift of session %llu at 0x%llx, %u bytes, whose receiver died: %s",
			audit->when, (unsigned long long)mail->session, (unsigned long long)mail->offset, mail->size,
			is_anothers ? "it is another's: handed out twice"
			: found	    ? "a session has it that nobody knows of"
				    : "lost");
	if (stays) /* there it is, and nobody knows it: to be freed as all such are */
		kill_doubt(model, mail->offset, mail->size)->is_sure = true;
	atomic_compare_exchange_strong(&sent->word, &was, 0);
	atomic_store(&mail->word, KILL_MAIL_EMPTY);
	audit->run->seen.gifts_passed++;
	return 0;
}

static int settle_gifts(struct audit *audit)
{
	const unsigned n_threads = audit->run->plan->n_threads;
	int r = 0;

	for (unsigned i = 0; !r && i < audit->run->plan->n_workers * n_threads * KILL_MAIL; i++)
		r = settle_gift(audit, &audit->run->model->workers[i / KILL_MAIL / n_threads]
						.threads[i / KILL_MAIL % n_threads]
						.mail[i % KILL_MAIL]);
	return r;
}

/* ---- what the dead were asking for ---- */

static bool explains(const struct kill_doubt *doubt, const struct found *found)
{
	if (doubt->offset)
		return doubt->offset == found->offset && has_size(found, doubt->size);
	return found->size == (found->is_slot ? doubt->slot : doubt->size);
}

/* The better the fewer others it could explain. */
static int worth(const struct kill_doubt *doubt)
{
	return doubt->is_sure ? 3 : doubt->offset ? 2 : 1;
}

/* A block that nobody knows of: was one of the dead just asking for it? Then it is freed. */
static int explain(struct audit *audit, const struct found *found)
{
	struct kill_model *model = audit->run->model;
	struct kill_doubt *best = NULL;

	for (uint32_t i = 0; !found->owner && audit->pool == KILL_POOL_POOL && i < model->n_doubts; i++) {
		struct kill_doubt *doubt = &model->doubts[i];

		if (!explains(doubt, found))
			continue;
		doubt->is_seen = true;
		if (!doubt->is_used && (!best || worth(doubt) > worth(best)))
			best = doubt;
	}
	if (!best || found->n_holds != 1)
		return kill_run_fail(
			audit->run,
			"%s: pool %s has a block at 0x%llx, %llu bytes%s, of session %llu, with %llu holds, "
			"that nobody knows of: lost",
			audit->when, kill_pool_name(audit->pool), (unsigned long long)found->offset,
			(unsigned long long)found->size, found->is_slot ? " (a slot)" : "",
			(unsigned long long)found->owner, (unsigned long long)found->n_holds);
	best->is_used = true;
	audit->run->seen.doubts_found++;
	if (mempool_free(audit->handle, found->offset))
		return kill_run_fail(audit->run, "%s: free of 0x%llx, which was in doubt: %s", audit->when,
				     (unsigned long long)found->offset, mempool_last_error());
	return 0;
}

static bool group_is_seen(const struct kill_model *model, uint32_t group)
{
	for (uint32_t i = 0; i < model->n_doubts; i++)
		if (model->doubts[i].group == group && model->doubts[i].is_seen)
			return true;
	return false;
}

/* All that is in doubt has been found, or is not there: may it be missing? */
static int check_doubts(struct audit *audit)
{
	const struct kill_model *model = audit->run->model;

	for (uint32_t i = 0; audit->pool == KILL_POOL_POOL && i < model->n_doubts; i++) {
		const struct kill_doubt *doubt = &model->doubts[i];

		audit->run->seen.doubts++;
		audit->run->seen.doubts_sure += doubt->is_sure;
		if (!doubt->is_seen && (doubt->is_sure || (doubt->group && !group_is_seen(model, doubt->group))))
			return kill_run_fail(
				audit->run,
				"%s: pool %s: the block at 0x%llx, %llu bytes, that a dead client %s is gone",
				audit->when, kill_pool_name(audit->pool), (unsigned long long)doubt->offset,
				(unsigned long long)doubt->size, doubt->is_sure ? "had been given" : "was resizing");
	}
	return 0;
}

/* ---- block by block ---- */

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

static int compare(struct audit *audit, const struct found *found)
{
	struct expected *e = expected_at(audit, found->offset);

	if (!e)
		return explain(audit, found);
	e->is_found = true;
	audit->n_bytes += round_up(found->size, KILL_GRANULE);
	audit->run->seen.blocks_compared++;
	audit->run->seen.slots_compared += found->is_slot;
	if ((e->any_size || has_size(found, e->size)) && e->n_holds == found->n_holds && e->owner == found->owner)
		return 0;
	(void)mempool_session_list(audit->client, kill_pool_name(audit->pool), print_holds, audit);
	print_story(audit, found->offset);
	return kill_run_fail(audit->run,
			     "%s: pool %s, block at 0x%llx: expected %llu bytes of session %llu with %llu holds; the "
			     "daemon says %llu%s of %llu with %llu",
			     audit->when, kill_pool_name(audit->pool), (unsigned long long)found->offset,
			     (unsigned long long)e->size, (unsigned long long)e->owner, (unsigned long long)e->n_holds,
			     (unsigned long long)found->size, found->is_slot ? " (a slot)" : "",
			     (unsigned long long)found->owner, (unsigned long long)found->n_holds);
}

static int compare_all(struct audit *audit)
{
	const unsigned n_threads = audit->run->plan->n_threads;
	int r = find_all(audit);

	for (unsigned i = 0; !r && i < audit->run->plan->n_workers * n_threads; i++) {
		struct kill_worker *worker = &audit->run->model->workers[i / n_threads];

		expect_thread(audit, &worker->threads[i % n_threads], atomic_load(&worker->session));
	}
	if (!r)
		r = settle_gifts(audit);
	for (size_t i = 0; !r && i < 2 * audit->n_found; i++) /* slots last: more doubts could explain one */
		if (audit->found[i % audit->n_found].is_slot == (i >= audit->n_found))
			r = compare(audit, &audit->found[i % audit->n_found]);
	if (!r)
		r = check_doubts(audit);
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
	run->model->n_doubts = run->model->n_groups = 0;
	run->seen.audits++;
	free(audit.blocks);
	free(audit.found);
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
