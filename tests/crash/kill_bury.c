// SPDX-License-Identifier: MIT
/*
 * What the dead leave. All that a dead client's threads had written down is sure: what was its session's is gone with it, or is the
 * pool's now, where blocks outlive their session. What an operation under way names is in doubt, and each such doubt says all that
 * is known: which block, or how large a one, and whether one of several must be there. A message that it was writing is no
 * message; one that it was taking its sender asks about, or an audit.
 */
#include <stdlib.h>

#include "kill_run.h"
#include "proto/size_class.h"

struct kill_doubt *kill_doubt(struct kill_model *model, uint64_t offset, uint64_t size)
{
	struct kill_doubt *new = &model->doubts[model->n_doubts];

	if (model->n_doubts == KILL_DOUBTS)
		abort(); /* audits are too rare for the plan */
	model->n_doubts++;
	*new = (struct kill_doubt){.offset = offset, .size = size};
	return new;
}

/* ---- messages ---- */

/* Those that a thread sends and receives are found by who wrote what in their word. */
static struct kill_mail *mail_at(const struct kill_run *run, unsigned i)
{
	unsigned n_threads = run->plan->n_threads;

	return &run->model->workers[i / KILL_MAIL / n_threads].threads[i / KILL_MAIL % n_threads].mail[i % KILL_MAIL];
}

static unsigned n_mails(const struct kill_run *run)
{
	return run->plan->n_workers * run->plan->n_threads * KILL_MAIL;
}

static bool is_taking(const struct kill_thread *thread)
{
	for (unsigned i = 0; i < KILL_MAIL; i++)
		if ((atomic_load(&thread->mail[i].word) & 0xff) == KILL_MAIL_TAKING)
			return true;
	return false;
}

/* Whether a message has it, which its receiver, or who died taking it, answers for: then its sender does not. */
static bool is_under_way(const struct kill_run *run, unsigned worker, unsigned thread, unsigned place)
{
	const struct kill_worker *dead = &run->model->workers[worker];
	uint64_t tag = kill_tag(&dead->threads[thread].blocks[place]);
	uint64_t ours = kill_mail_word(worker, thread, atomic_load(&dead->incarnation), KILL_MAIL_EMPTY);

	for (unsigned i = 0; i < n_mails(run); i++) {
		const struct kill_mail *mail = mail_at(run, i);
		uint64_t word = atomic_load(&mail->word), state = word & 0xff;

		if (word - state == ours && mail->block == place && mail->tag == tag &&
		    (state == KILL_MAIL_FULL || state == KILL_MAIL_TAKING || state == KILL_MAIL_DOUBT))
			return true;
	}
	return false;
}

/*
 * A gift, sender and receiver both dead: it is the pool's, whoever of them had it, if it was not freed. In the other pool it is gone.
 * Where the sender is buried later than the receiver, he is not to find it again.
 */
static void bury_gift(struct kill_run *run, const struct kill_mail *mail, uint64_t word)
{
	struct kill_block *sent =
		&run->model->workers[word >> 8 & 0xff].threads[word >> 16 & 0xffff].blocks[mail->block];
	uint64_t was = kill_word(mail->tag, KILL_SENT);

	if (!mail->is_gift || mail->pool != KILL_POOL_POOL)
		return;
	atomic_compare_exchange_strong(&sent->word, &was, 0);
	kill_doubt(run->model, mail->offset, mail->size)->is_sure = !mail->is_freeing;
	run->seen.gifts_of_both++;
}

/* Messages that it was writing or reading when it died, and those whose other end was dead already. */
static void bury_mail(struct kill_run *run, unsigned worker)
{
	struct kill_model *model = run->model;

	for (unsigned i = 0; i < n_mails(run); i++) {
		struct kill_mail *mail = mail_at(run, i);
		uint64_t word = atomic_load(&mail->word);
		unsigned from = word >> 8 & 0xff, state = word & 0xff;
		bool is_sender_dead = state && kill_is_dead(model, from, (uint32_t)(word >> 32));
		bool is_dropped = state == KILL_MAIL_TAKING && i / KILL_MAIL / run->plan->n_threads == worker;

		if (is_dropped && !is_sender_dead) {
			mail->dead_session = atomic_load(&model->workers[worker].session);
			run->has_doubted_gift |= mail->is_gift;
			atomic_store(&mail->word, (word & ~UINT64_C(0xff)) | KILL_MAIL_DOUBT);
		} else if (is_dropped || (is_sender_dead && state == KILL_MAIL_DOUBT)) {
			bury_gift(run, mail, word);
			atomic_store(&mail->word, KILL_MAIL_EMPTY);
		} else if (is_sender_dead && (state == KILL_MAIL_WRITING || state == KILL_MAIL_BACK)) {
			atomic_store(&mail->word, KILL_MAIL_EMPTY);
		}
	}
}

/* ---- operations ---- */

static void doubt_blocks(struct kill_run *run, struct kill_thread *thread, uint32_t group)
{
	const struct kill_op *op = &thread->op;

	for (uint32_t i = 0; i < op->n; i++) {
		struct kill_block *block = &thread->blocks[op->blocks[i]];

		if (kill_state(block) != KILL_NONE && block->pool == KILL_POOL_POOL) {
			struct kill_doubt *old = kill_doubt(run->model, block->offset, block->size);

			old->is_sure = block->n_retains > 0; /* only a retain of its was given up */
			old->group = group;
		}
		kill_set(block, 0, KILL_NONE);
	}
	for (uint32_t i = 0; op->pool == KILL_POOL_POOL && i < op->n_sizes; i++) {
		struct kill_doubt *new = kill_doubt(run->model, 0, op->sizes[i]);

		new->slot = size_class_bytes(
			size_class_of(round_up(new->size, op->alignment ? op->alignment : KILL_GRANULE)));
		new->group = group;
	}
}

static void bury_op(struct kill_run *run, struct kill_thread *thread)
{
	uint32_t kind = atomic_load(&thread->op.kind);

	run->seen.worker_kinds[kind]++;
	switch ((enum kill_kind)kind) {
	case KILL_IDLE:
	case KILL_RETAIN: /* whoever retains it, the block stays */
		break;
	case KILL_TAKE:
		if (is_taking(thread)) /* the message says what became of it; else all is written down */
			kill_set(&thread->blocks[thread->op.blocks[0]], 0, KILL_NONE);
		break;
	case KILL_REALLOC: /* the old one, or a new one, or both */
		doubt_blocks(run, thread, ++run->model->n_groups);
		break;
	default:
		doubt_blocks(run, thread, 0);
	}
	atomic_store(&thread->op.kind, KILL_IDLE);
	thread->op.n = thread->op.n_sizes = thread->op.alignment = 0;
}

/* ---- blocks ---- */

static void bury_block(struct kill_run *run, unsigned worker, unsigned thread, unsigned place)
{
	struct kill_block *block = &run->model->workers[worker].threads[thread].blocks[place];
	uint64_t word = atomic_load(&block->word), left = kill_word(word >> KILL_STATE_BITS, KILL_LEFT);
	enum kill_state state = kill_state(block);
	bool stays =
		block->pool == KILL_POOL_POOL && (state == KILL_OWNED || state == KILL_LEFT ||
						  (state == KILL_SENT && !is_under_way(run, worker, thread, place)));

	block->n_retains = 0;
	atomic_compare_exchange_strong(&block->word, &word, stays ? left : 0); /* or its receiver has just got it */
}

void kill_bury(struct kill_run *run, unsigned worker)
{
	struct kill_worker *dead = &run->model->workers[worker];
	unsigned had[KILL_LEFT + 1] = {0}, n_published = 0, n_retained = 0;

	for (unsigned t = 0; t < run->plan->n_threads; t++) {
		bury_op(run, &dead->threads[t]);
		for (unsigned i = 0; i < KILL_BLOCKS; i++) {
			const struct kill_block *block = &dead->threads[t].blocks[i];

			had[kill_state(block)]++;
			n_retained += kill_state(block) == KILL_OWNED && block->n_retains;
			bury_block(run, worker, t, i);
		}
		for (unsigned k = 0; k < KILL_KEYS; k++)
			n_published += atomic_load(&dead->threads[t].keys[k].state) == KILL_KEY_PUBLISHED;
	}
	bury_mail(run, worker);
	run->seen.had_owned += had[KILL_OWNED] > 0;
	run->seen.had_retained += n_retained;
	run->seen.had_sent += had[KILL_SENT] > 0;
	run->seen.had_held += had[KILL_HELD] > 0;
	run->seen.had_published += n_published > 0;
}
