// SPDX-License-Identifier: MIT
/* What one session does with another's blocks: handing over, publishing, acquiring; and pools that come and go. */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <time.h>

#include "kill_worker.h"

/* ---- handing over ---- */

static struct kill_mail *empty_mail_of(struct kill_me *me, struct kill_thread *to)
{
	for (unsigned i = 0; i < KILL_MAIL; i++) {
		uint64_t empty = KILL_MAIL_EMPTY;

		if (atomic_compare_exchange_strong(
			    &to->mail[i].word, &empty,
			    kill_mail_word(me->worker_index, me->thread_index, me->incarnation, KILL_MAIL_WRITING)))
			return &to->mail[i];
	}
	return NULL;
}

static bool retain_to_send(struct kill_me *me, int place)
{
	struct kill_block *block = &me->thread->blocks[place];
	int r;

	me->thread->op.blocks[me->thread->op.n++] = (uint16_t)place;
	kill_begin(me, KILL_RETAIN, KILL_SESSION_POOL);
	r = mempool_retain(me->pools[KILL_SESSION_POOL], block->offset);
	if (!r)
		block->n_retains = 1;
	else if (!kill_is_full(me, r))
		kill_fault(me, "retain of 0x%llx, %u bytes: %s (%s)", (unsigned long long)block->offset, block->size,
			   strerror(-r), mempool_last_error());
	kill_end(me, block->offset, block->size, r);
	return !r;
}

/*
 * What is sent is a gift, which the sender keeps no hold on: a slot goes over by one CAS then. Or, to another session, he retains it, and
 * can ask whose it is if the receiver is killed while he takes it. Who of two had a gift, one of them killed in the middle, only an
 * audit can tell: another block may be at its offset by then.
 */
bool kill_send(struct kill_me *me)
{
	struct kill_model *model = me->model;
	unsigned worker = (unsigned)rnd_below(&me->rnd, model->n_workers);
	unsigned thread = (unsigned)rnd_below(&me->rnd, model->n_threads);
	bool is_gift = rnd_below(&me->rnd, model->mostly_slots ? 64 : 2) || worker == me->worker_index;
	unsigned pool = is_gift ? (unsigned)rnd_below(&me->rnd, KILL_POOLS) : KILL_SESSION_POOL;
	int place = kill_pick(me, 1u << KILL_OWNED, (int)pool, true);
	struct kill_block *block;
	struct kill_mail *mail;

	if (place < 0 || (worker == me->worker_index && thread == me->thread_index) ||
	    me->thread->blocks[place].is_taken)
		return false;
	mail = empty_mail_of(me, &model->workers[worker].threads[thread]);
	if (!mail)
		return false;
	if (!is_gift && !retain_to_send(me, place)) {
		atomic_store(&mail->word, KILL_MAIL_EMPTY);
		return true;
	}
	block = &me->thread->blocks[place];
	kill_verify(me, block, "before it is sent");
	kill_unclaim(me, pool, block->offset, block->size);
	mail->tag = kill_tag(block);
	mail->offset = block->offset;
	mail->size = block->size;
	mail->block = (uint32_t)place;
	mail->pool = pool;
	mail->session = atomic_load(&me->worker->session);
	mail->dead_session = 0;
	mail->is_gift = is_gift;
	mail->is_freeing = false;
	kill_set(block, mail->tag, KILL_SENT);
	atomic_store(&mail->word, kill_mail_word(me->worker_index, me->thread_index, me->incarnation, KILL_MAIL_FULL));
	return true;
}

static struct kill_block *sent_by(const struct kill_me *me, const struct kill_mail *mail, uint64_t word)
{
	return &me->model->workers[word >> 8 & 0xff].threads[word >> 16 & 0xffff].blocks[mail->block];
}

/* He has it no more. If he is dead, his place may be another block's by now. */
static void gone_from(struct kill_block *sent, const struct kill_mail *mail, uint64_t now)
{
	uint64_t was = kill_word(mail->tag, KILL_SENT);

	atomic_compare_exchange_strong(&sent->word, &was, now);
}

/* A call that goes over takes no time: without this hardly anybody would be killed around it. */
static void linger(struct kill_me *me)
{
	if (me->model->clients_die && !rnd_below(&me->rnd, 4))
		sched_yield();
}

/* Its new owner's tag, for who publishes a block is told by it. */
static void got(struct kill_me *me, int place, const struct kill_mail *mail, enum kill_state state, bool is_taken)
{
	struct kill_block *block = &me->thread->blocks[place];
	uint64_t tag = kill_tag_make(me->worker_index, me->thread_index, me->incarnation, ++me->thread->n_serials);

	kill_claim(me, mail->pool, mail->offset, mail->size);
	block->pool = mail->pool;
	block->offset = mail->offset;
	block->size = mail->size;
	block->n_retains = is_taken || mail->is_gift ? 0 : 1;
	block->is_taken = is_taken && !mail->is_gift;
	kill_set(block, mail->tag, state);
	kill_verify(me, block, "after it was taken");
	kill_fill(mempool_ptr(me->pools[mail->pool], mail->offset), tag, mail->size);
	kill_set(block, tag, state);
}

/* Its sender was dead before it was taken. Where blocks outlive their session it is the pool's, and only we know of it. */
static void inherit(struct kill_me *me, int place, const struct kill_mail *mail, struct kill_block *sent)
{
	atomic_fetch_add(&me->model->n_stale, 1);
	if (mail->pool != KILL_POOL_POOL)
		return;
	atomic_fetch_add(&me->model->n_inherited, 1);
	got(me, place, mail, KILL_LEFT, true);
	gone_from(sent, mail, 0); /* he may not have been buried yet */
}

static void take(struct kill_me *me, int place, struct kill_mail *mail, uint64_t word)
{
	uint64_t offset = mail->offset, next = KILL_MAIL_EMPTY, ended = 0;
	unsigned worker = word >> 8 & 0xff;
	uint32_t size = mail->size;
	int r;

	me->thread->op.blocks[me->thread->op.n++] = (uint16_t)place;
	kill_begin(me, KILL_TAKE, mail->pool);
	linger(me);
	r = mempool_take(me->pools[mail->pool], mail->offset, mail->session);
	linger(me);
	if (!r) {
		got(me, place, mail, KILL_OWNED, true);
		gone_from(sent_by(me, mail, word), mail, mail->is_gift ? 0 : kill_word(mail->tag, KILL_PASSED));
	} else if (r == -ESTALE && kill_is_dead(me->model, worker, (uint32_t)(word >> 32))) {
		inherit(me, place, mail, sent_by(me, mail, word));
		ended = mail->session;
	} else if (kill_is_full(me, r)) {
		next = word; /* for another time */
	} else {
		kill_fault(me, "take of 0x%llx, %u bytes, in pool %s, from session %llu (worker %u, alive): %s (%s)",
			   (unsigned long long)mail->offset, mail->size, kill_pool_name(mail->pool),
			   (unsigned long long)mail->session, worker, strerror(-r), mempool_last_error());
	}
	atomic_store(&mail->word, next); /* others may write to it from now on */
	kill_end(me, offset, size, r);
	kill_await_session_end(me, ended); /* until then what it had is not the pool's, and cannot be retained */
}

/* Its sender's still: whoever has an offset may free it. */
static void free_gift(struct kill_me *me, struct kill_mail *mail, uint64_t word)
{
	struct kill_block given = {.offset = mail->offset, .size = mail->size, .pool = mail->pool};
	int r;

	kill_set(&given, mail->tag, KILL_OWNED);
	kill_verify(me, &given, "before a gift is freed");
	mail->is_freeing = true;
	kill_begin(me, KILL_FREE, mail->pool);
	linger(me);
	r = mempool_free(me->pools[mail->pool], mail->offset);
	linger(me);
	if (r)
		kill_fault(me, "free of 0x%llx, %u bytes, in pool %s, a gift of session %llu: %s (%s)",
			   (unsigned long long)mail->offset, mail->size, kill_pool_name(mail->pool),
			   (unsigned long long)mail->session, strerror(-r), mempool_last_error());
	gone_from(sent_by(me, mail, word), mail, 0);
	atomic_fetch_add_explicit(&me->model->n_freed_gifts, 1, memory_order_relaxed);
	if (kill_is_dead(me->model, word >> 8 & 0xff, (uint32_t)(word >> 32)))
		atomic_fetch_add_explicit(&me->model->n_freed_of_dead, 1, memory_order_relaxed);
	atomic_store(&mail->word, KILL_MAIL_EMPTY); /* others may write to it from now on */
	kill_end(me, given.offset, given.size, r);
}

/*
 * Its offset may lead to another's block as soon as its sender is dead, where blocks end with their session; of such only what a
 * thread of our own session sends, who dies with us, may be freed as it is.
 */
static bool may_free_at_once(const struct kill_me *me, const struct kill_mail *mail, uint64_t word)
{
	bool is_own = (word >> 8 & 0xff) == me->worker_index && (uint32_t)(word >> 32) == me->incarnation;

	return mail->is_gift && (mail->pool == KILL_POOL_POOL || !me->model->clients_die || is_own);
}

bool kill_receive(struct kill_me *me)
{
	int place = kill_free_place(me);

	for (unsigned i = 0; place >= 0 && i < KILL_MAIL; i++) {
		struct kill_mail *mail = &me->thread->mail[i];
		uint64_t word = atomic_load(&mail->word);

		if ((word & 0xff) != KILL_MAIL_FULL ||
		    !atomic_compare_exchange_strong(&mail->word, &word, (word & ~UINT64_C(0xff)) | KILL_MAIL_TAKING))
			continue;
		if (may_free_at_once(me, mail, word) && rnd_below(&me->rnd, 2))
			free_gift(me, mail, word);
		else
			take(me, place, mail, word);
		return true;
	}
	return false;
}

static int is_session(void *arg, const struct mempool_session_info *info)
{
	return info->session == *(const uint64_t *)arg;
}

bool kill_session_is_listed(struct kill_me *me, uint64_t session)
{
	int r;

	kill_begin(me, KILL_LOOK, KILL_SESSION_POOL);
	r = mempool_session_list(me->client, NULL, is_session, &session);
	if (r < 0)
		kill_fault(me, "list of sessions: %s (%s)", strerror(-r), mempool_last_error());
	kill_end(me, 0, session, r);
	return r;
}

void kill_await_session_end(struct kill_me *me, uint64_t session)
{
	const struct timespec pause = {.tv_nsec = 500000};

	while (session && kill_session_is_listed(me, session))
		nanosleep(&pause, NULL); /* between two looks; the driver's patience is the bound */
}

/* Who was to take it died meanwhile: it was taken, and he died owning it, or it is ours still. */
static void settle(struct kill_me *me, struct kill_mail *mail)
{
	struct kill_block *block = &me->thread->blocks[mail->block];
	int r = -ESTALE;

	/* it is retained, so that it has a record, and taking it back needs no room */
	if (atomic_load(&block->word) == kill_word(mail->tag, KILL_SENT)) {
		me->thread->op.blocks[me->thread->op.n++] = (uint16_t)mail->block;
		kill_begin(me, KILL_TAKE, KILL_SESSION_POOL);
		r = mempool_take(me->pools[KILL_SESSION_POOL], mail->offset, mail->session);
		if (!r)
			got(me, (int)mail->block, mail, KILL_OWNED, false);
		else if (r == -ESTALE)
			kill_set(block, mail->tag, KILL_PASSED);
		else
			kill_fault(me, "take of 0x%llx from ourselves: %s (%s)", (unsigned long long)mail->offset,
				   strerror(-r), mempool_last_error());
		kill_end(me, mail->offset, mail->size, r);
	}
	atomic_store(&mail->word, KILL_MAIL_EMPTY);
}

/* An audit has found that a gift was never taken. */
static void take_back(struct kill_me *me, struct kill_mail *mail)
{
	struct kill_block *block = &me->thread->blocks[mail->block];

	kill_claim(me, mail->pool, mail->offset, mail->size);
	kill_verify(me, block, "given, and not taken");
	kill_set(block, mail->tag, KILL_OWNED);
	atomic_store(&mail->word, KILL_MAIL_EMPTY);
}

static bool settle_one(struct kill_me *me, struct kill_mail *mail)
{
	uint64_t word = atomic_load(&mail->word);

	if (word == kill_mail_word(me->worker_index, me->thread_index, me->incarnation, KILL_MAIL_BACK)) {
		take_back(me, mail);
		return true;
	}
	if (word != kill_mail_word(me->worker_index, me->thread_index, me->incarnation, KILL_MAIL_DOUBT) ||
	    mail->is_gift || kill_session_is_listed(me, mail->dead_session))
		return false;
	settle(me, mail);
	return true;
}

bool kill_settle(struct kill_me *me)
{
	struct kill_model *model = me->model;
	bool any = false;

	for (unsigned w = 0; w < model->n_workers; w++)
		for (unsigned t = 0; t < model->n_threads; t++)
			for (unsigned i = 0; i < KILL_MAIL; i++)
				any |= settle_one(me, &model->workers[w].threads[t].mail[i]);
	return any;
}

/* ---- publishing ---- */

static int key_in(const struct kill_me *me, uint32_t state)
{
	for (int i = 0; i < KILL_KEYS; i++)
		if (atomic_load(&me->thread->keys[i].state) == state)
			return i;
	return -1;
}

bool kill_publish(struct kill_me *me)
{
	int index = key_in(me, KILL_KEY_FREE), place = kill_pick(me, 1u << KILL_OWNED, KILL_SESSION_POOL, true), r;
	struct kill_op *op = &me->thread->op;
	struct kill_block *block;
	struct kill_key *key;
	char name[32];

	if (index < 0 || place < 0)
		return false;
	key = &me->thread->keys[index];
	block = &me->thread->blocks[place];
	kill_verify(me, block, "before it is published");
	kill_key_name(name, me->worker_index, me->thread_index, (unsigned)index);
	key->offset = block->offset;
	key->size = block->size;
	atomic_store(&key->tag, kill_tag(block));
	op->blocks[op->n++] = (uint16_t)place;
	op->key = (uint32_t)index;
	kill_begin(me, KILL_PUBLISH, KILL_SESSION_POOL);
	atomic_store(&key->state, KILL_KEY_DOUBT);
	kill_claim_key(me, key->offset, key->size, (unsigned)index, false);
	r = mempool_publish(me->pools[KILL_SESSION_POOL], key->offset, name);
	if (!r) {
		atomic_store(&key->state, KILL_KEY_PUBLISHED);
		kill_set(block, 0, KILL_NONE);
	} else if (kill_is_full(me, r)) {
		kill_unclaim_key(me, key->offset, key->size, (unsigned)index, false);
		kill_claim(me, KILL_SESSION_POOL, key->offset, key->size);
		atomic_store(&key->state, KILL_KEY_FREE);
	} else {
		kill_fault(me, "publish of 0x%llx, %u bytes, as %s: %s (%s)", (unsigned long long)key->offset,
			   key->size, name, strerror(-r), mempool_last_error());
	}
	kill_end(me, key->offset, key->size, r);
	return true;
}

bool kill_unpublish(struct kill_me *me)
{
	int index = key_in(me, KILL_KEY_PUBLISHED), r;
	struct kill_block was = {.pool = KILL_SESSION_POOL};
	struct kill_key *key;

	if (index < 0)
		return false;
	key = &me->thread->keys[index];
	was.offset = key->offset;
	was.size = key->size;
	kill_set(&was, atomic_load(&key->tag), KILL_OWNED);
	kill_verify(me, &was, "published");
	me->thread->op.key = (uint32_t)index;
	kill_begin(me, KILL_UNPUBLISH, KILL_SESSION_POOL);
	atomic_store(&key->state, KILL_KEY_DOUBT); /* first: killed in between, it is to be asked about */
	kill_unclaim_key(me, key->offset, key->size, (unsigned)index, false);
	r = mempool_free(me->pools[KILL_SESSION_POOL], key->offset);
	if (r)
		kill_fault(me, "free of 0x%llx, %u bytes, published as key %d: %s (%s)",
			   (unsigned long long)key->offset, key->size, index, strerror(-r), mempool_last_error());
	atomic_store(&key->state, KILL_KEY_FREE);
	kill_end(me, key->offset, key->size, r);
	return true;
}

/* Within the operation: what is held under somebody's name reads as he wrote it. */
static void hold(struct kill_me *me, int place, uint64_t offset, unsigned worker, unsigned thread, const char *name)
{
	struct kill_block *block = &me->thread->blocks[place];
	uint64_t *words = mempool_ptr(me->pools[KILL_SESSION_POOL], offset);

	if (!words)
		kill_fault(me, "acquire of %s gave 0x%llx, which is outside", name, (unsigned long long)offset);
	if (kill_tag_worker(words[0]) != worker || kill_tag_thread(words[0]) != thread || words[1] < KILL_MIN_SIZE ||
	    words[1] > KILL_MAX_SIZE)
		kill_fault(
			me, "acquire of %s gave 0x%llx, which reads tag %llx, size %llu: nothing that was published so",
			name, (unsigned long long)offset, (unsigned long long)words[0], (unsigned long long)words[1]);
	block->pool = KILL_SESSION_POOL;
	block->offset = offset;
	block->size = (uint32_t)words[1];
	block->n_retains = 1;
	kill_set(block, words[0], KILL_HELD);
	kill_verify(me, block, "acquired");
}

bool kill_acquire(struct kill_me *me)
{
	unsigned worker = (unsigned)rnd_below(&me->rnd, me->model->n_workers);
	unsigned thread = (unsigned)rnd_below(&me->rnd, me->model->n_threads);
	unsigned index = (unsigned)rnd_below(&me->rnd, KILL_KEYS);
	struct kill_key *key = &me->model->workers[worker].threads[thread].keys[index];
	uint32_t state = atomic_load(&key->state);
	uint64_t tag = atomic_load(&key->tag);
	mempool_offset offset = 0;
	int place = kill_free_place(me), r;
	bool only_find = !rnd_below(&me->rnd, 4);
	char name[32];

	/* A session's frees drop its own holds first: what it has published, it does not acquire. */
	if (place < 0 || worker == me->worker_index)
		return false;
	kill_key_name(name, worker, thread, index);
	if (!only_find)
		me->thread->op.blocks[me->thread->op.n++] = (uint16_t)place;
	kill_begin(me, only_find ? KILL_FIND : KILL_ACQUIRE, KILL_SESSION_POOL);
	r = only_find ? mempool_find(me->pools[KILL_SESSION_POOL], name, &offset)
		      : mempool_acquire(me->pools[KILL_SESSION_POOL], name, &offset);
	if (!r && !only_find)
		hold(me, place, offset, worker, thread, name);
	if (r && r != -ENOENT && !kill_is_full(me, r))
		kill_fault(me, "acquire of %s: %s (%s)", name, strerror(-r), mempool_last_error());
	if (r == -ENOENT && state == KILL_KEY_PUBLISHED && atomic_load(&key->state) == KILL_KEY_PUBLISHED &&
	    tag == atomic_load(&key->tag))
		kill_fault(me, "acquire of %s: not found, and yet it was published all the while", name);
	kill_end(me, offset, 0, r);
	return true;
}

/* ---- pools of one thread ---- */

static void destroy(struct kill_me *me, const char *name, bool may_be_missing)
{
	int r;

	kill_begin(me, KILL_DESTROY, 0);
	r = mempool_pool_destroy(me->client, name, 0);
	if (r && !(r == -ENOENT && may_be_missing))
		kill_fault(me, "destroy of %s: %s (%s)", name, strerror(-r), mempool_last_error());
	me->thread->pool_in_doubt = 0;
	kill_end(me, 0, 0, r);
}

static void use(struct kill_me *me, struct mempool_pool *pool, uint32_t size, const char *name, int *rp)
{
	uint64_t tag = kill_tag_make(me->worker_index, me->thread_index, me->incarnation, ++me->thread->n_serials);
	mempool_offset offset = mempool_alloc(pool, size);
	void *at;

	*rp = offset ? 0 : -errno;
	if (!offset)
		return;
	at = mempool_ptr(pool, offset);
	kill_fill(at, tag, size);
	if (kill_bad_byte(at, tag, size, size) >= 0)
		kill_fault(me, "alloc in %s: 0x%llx does not keep what is written there", name,
			   (unsigned long long)offset);
}

static int grow(struct kill_me *me, struct mempool_pool *pool, const char *name)
{
	struct mempool_stats stats;
	int r;

	kill_begin(me, KILL_RESIZE, 0);
	use(me, pool, 8000, name, &r);
	if (!r)
		r = mempool_pool_resize(pool, 128 << 10);
	if (!r)
		use(me, pool, 60000, name, &r);
	if (!r) {
		r = mempool_pool_stats(pool, &stats);
		if (r || stats.total != 128 << 10 || stats.allocations != 2 || stats.used != 68000)
			kill_fault(me, "stats of %s: %s; total %llu, %llu blocks, %llu bytes used", name,
				   r ? mempool_last_error() : "done", (unsigned long long)stats.total,
				   (unsigned long long)stats.allocations, (unsigned long long)stats.used);
	}
	kill_end(me, 0, 128 << 10, r);
	return r;
}

bool kill_pool_cycle(struct kill_me *me)
{
	struct mempool_pool_options options;
	struct mempool_pool *pool;
	char name[32];
	int r;

	if (!me->model->with_pool_cycles)
		return false;
	mempool_pool_options_init(&options);
	options.max_size = 256 << 10;
	options.lease = MEMPOOL_LEASE_OFF; /* its figures are compared to the byte */
	options.fill = MEMPOOL_FILL_NONE;
	kill_own_pool_name(name, me->worker_index, me->thread_index);
	kill_begin(me, KILL_CREATE, 0);
	me->thread->pool_in_doubt = 1;
	r = mempool_pool_create(me->client, name, 64 << 10, &options, &pool);
	if (r && !kill_is_full(me, r))
		kill_fault(me, "create of %s: %s (%s)", name, strerror(-r), mempool_last_error());
	if (r)
		me->thread->pool_in_doubt = 0;
	kill_end(me, 0, 64 << 10, r);
	if (r)
		return true;
	r = grow(me, pool, name);
	if (r && !kill_is_full(me, r))
		kill_fault(me, "growth of %s: %s (%s)", name, strerror(-r), mempool_last_error());
	mempool_pool_close(pool);
	destroy(me, name, false);
	return true;
}

/* ---- a new incarnation ---- */

static void resolve_key(struct kill_me *me, unsigned index)
{
	struct kill_key *key = &me->thread->keys[index];
	mempool_offset offset = 0;
	char name[32];
	int r;

	kill_key_name(name, me->worker_index, me->thread_index, index);
	kill_begin(me, KILL_FIND, KILL_SESSION_POOL);
	r = mempool_find(me->pools[KILL_SESSION_POOL], name, &offset);
	if (r && r != -ENOENT)
		kill_fault(me, "find of %s: %s (%s)", name, strerror(-r), mempool_last_error());
	if (!r && offset != key->offset)
		kill_fault(me, "find of %s gave 0x%llx; 0x%llx was published so", name, (unsigned long long)offset,
			   (unsigned long long)key->offset);
	if (!r)
		kill_claim_key(me, key->offset, key->size, index, true);
	else
		kill_unclaim_key(me, key->offset, key->size, index, true);
	atomic_store(&key->state, r ? KILL_KEY_FREE : KILL_KEY_PUBLISHED);
	kill_end(me, key->offset, key->size, r);
}

void kill_resolve(struct kill_me *me)
{
	char name[32];

	for (unsigned i = 0; i < KILL_KEYS; i++)
		if (atomic_load(&me->thread->keys[i].state) == KILL_KEY_DOUBT)
			resolve_key(me, i);
	if (me->thread->pool_in_doubt) {
		kill_own_pool_name(name, me->worker_index, me->thread_index);
		destroy(me, name, true);
	}
}
