// SPDX-License-Identifier: MIT
#include "kill_model.h"

#include <errno.h>
#include <linux/futex.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define CLAIM_OF_KEY	       (UINT32_C(1) << 31)
#define CLAIM_OF_WORKER	       (UINT32_C(1) << 30)
#define CLAIM_INCARNATION_BITS 24u

const char *const kill_kind_names[KILL_KIND_N] = {
	[KILL_IDLE] = "idle",
	[KILL_ALLOC] = "alloc",
	[KILL_FREE] = "free",
	[KILL_REALLOC] = "realloc",
	[KILL_ALLOC_BATCH] = "alloc_batch",
	[KILL_FREE_BATCH] = "free_batch",
	[KILL_RETAIN] = "retain",
	[KILL_TAKE] = "take",
	[KILL_PUBLISH] = "publish",
	[KILL_UNPUBLISH] = "unpublish",
	[KILL_FIND] = "find",
	[KILL_ACQUIRE] = "acquire",
	[KILL_DROP] = "drop",
	[KILL_CREATE] = "create",
	[KILL_RESIZE] = "resize",
	[KILL_DESTROY] = "destroy",
	[KILL_LOOK] = "look",
};

struct kill_model *kill_model_new(uint64_t pool_bytes)
{
	size_t n_bytes = sizeof(struct kill_model) + KILL_POOLS * (pool_bytes / KILL_GRANULE + 1024) * sizeof(uint32_t);
	struct kill_model *model =
		mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (model == MAP_FAILED) {
		fprintf(stderr, "kill_model_new: %zu bytes: %s\n", n_bytes, strerror(errno));
		return NULL;
	}
	model->pool_bytes = pool_bytes;
	return model;
}

void kill_fault(const struct kill_me *me, const char *format, ...)
{
	struct kill_model *model = me->model;
	va_list args;
	int n;

	if (!atomic_exchange(&model->is_failed, 1)) {
		n = snprintf(model->failure, sizeof(model->failure),
			     "worker %u, thread %u, incarnation %u, session %llu: ", me->worker_index, me->thread_index,
			     me->incarnation, (unsigned long long)(me->worker ? atomic_load(&me->worker->session) : 0));
		va_start(args, format);
		vsnprintf(model->failure + n, sizeof(model->failure) - (size_t)n, format, args);
		va_end(args);
	}
	atomic_fetch_add(&model->is_woken, 1);
	kill_wake(&model->is_woken);
	atomic_fetch_add(&model->n_done, 1);
	kill_wake(&model->n_done);
	for (;;)
		pause(); /* the driver looks at what is there, and ends us */
}

const char *kill_pool_name(unsigned pool)
{
	return pool == KILL_SESSION_POOL ? "session" : "pool";
}

void kill_own_pool_name(char name[static 32], unsigned worker, unsigned thread)
{
	snprintf(name, 32, "own.%u.%u", worker, thread);
}

void kill_key_name(char name[static 32], unsigned worker, unsigned thread, unsigned key)
{
	snprintf(name, 32, "key.%u.%u.%u", worker, thread, key);
}

/* ---- waiting ---- */

bool kill_wait(_Atomic uint32_t *word, uint32_t value, int ms)
{
	const struct timespec most = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

	if (atomic_load(word) != value)
		return true;
	return !syscall(SYS_futex, word, FUTEX_WAIT, value, &most, NULL, 0) || errno != ETIMEDOUT;
}

void kill_wake(_Atomic uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

/* ---- operations ---- */

void kill_begin(struct kill_me *me, enum kill_kind kind, unsigned pool)
{
	struct kill_model *model = me->model;
	uint64_t n;

	me->thread->op.pool = pool;
	atomic_store(&me->thread->op.kind, kind);
	atomic_fetch_add_explicit(&model->n_kinds[kind], 1, memory_order_relaxed);
	n = atomic_fetch_add_explicit(&model->n_ops, 1, memory_order_relaxed) + 1;
	if ((uint32_t)n == atomic_load(&model->wake_at)) {
		atomic_fetch_add(&model->is_woken, 1);
		kill_wake(&model->is_woken);
	}
}

void kill_end(struct kill_me *me, uint64_t offset, uint64_t size, int result)
{
	struct kill_thread *thread = me->thread;

	thread->past[thread->n_past % KILL_RING] = (struct kill_past){
		.kind = atomic_load(&thread->op.kind),
		.pool = thread->op.pool,
		.size = (uint32_t)size,
		.result = result,
		.offset = offset,
		.at_op = atomic_load_explicit(&me->model->n_ops, memory_order_relaxed),
	};
	thread->n_past++;
	atomic_store(&thread->op.kind, KILL_IDLE);
	thread->op.n = thread->op.n_sizes = thread->op.alignment = 0;
}

/* ---- patterns ---- */

/* Word 0 is the tag and word 1 the size, so that who finds a block can read what should be in it. */
static uint64_t pattern(uint64_t tag, uint32_t size, uint32_t i)
{
	return i == 0 ? tag : i == 1 ? size : (tag + i) * UINT64_C(0x9e3779b97f4a7c15) ^ (uint64_t)i << 32;
}

void kill_fill(void *at, uint64_t tag, uint32_t size)
{
	uint64_t *words = at, last;
	uint32_t n = size / 8;

	for (uint32_t i = 0; i < n; i++)
		words[i] = pattern(tag, size, i);
	last = pattern(tag, size, n);
	memcpy(words + n, &last, size % 8);
}

int64_t kill_bad_byte(const void *at, uint64_t tag, uint32_t size, uint32_t n_bytes)
{
	const uint64_t *words = at;
	uint32_t n = n_bytes / 8;
	uint64_t last;

	for (uint32_t i = 0; i < n; i++)
		if (words[i] != pattern(tag, size, i))
			return (int64_t)i * 8;
	last = pattern(tag, size, n);
	return memcmp(words + n, &last, n_bytes % 8) ? (int64_t)n * 8 : -1;
}

/* ---- claims ---- */

static uint32_t claim_of_worker(unsigned worker, uint32_t incarnation)
{
	return CLAIM_OF_WORKER | worker << CLAIM_INCARNATION_BITS |
	       (incarnation & ((1u << CLAIM_INCARNATION_BITS) - 1));
}

static uint32_t claim_of_key(unsigned worker, unsigned thread, unsigned key)
{
	return CLAIM_OF_KEY | worker << 16 | thread << 8 | key;
}

/* Whether nobody can be relied on to have the block any more: who had it is dead, or died asking for it to stay. */
static bool claim_is_void(const struct kill_model *model, uint32_t claim)
{
	unsigned worker;

	if (claim & CLAIM_OF_KEY) {
		const struct kill_worker *w = &model->workers[claim >> 16 & 0xff];

		return atomic_load(&w->threads[claim >> 8 & 0xff].keys[claim & 0xff].state) != KILL_KEY_PUBLISHED;
	}
	worker = claim >> CLAIM_INCARNATION_BITS & 0x3f;
	return kill_is_dead(model, worker, claim & ((1u << CLAIM_INCARNATION_BITS) - 1));
}

static void claim_name(uint32_t claim, char text[static 64])
{
	if (claim & CLAIM_OF_KEY)
		snprintf(text, 64, "the pool's, published as key.%u.%u.%u", claim >> 16 & 0xff, claim >> 8 & 0xff,
			 claim & 0xff);
	else if (claim)
		snprintf(text, 64, "worker %u's, incarnation %u", claim >> CLAIM_INCARNATION_BITS & 0x3f,
			 claim & ((1u << CLAIM_INCARNATION_BITS) - 1));
	else
		snprintf(text, 64, "nobody's");
}

enum claim_rule {
	CLAIM_GET,   /* was nobody's, or void */
	CLAIM_EXACT, /* was what it should be */
	CLAIM_LEFT,  /* was, or is gone already */
	CLAIM_KEY,   /* found published: was the key's, or not yet, or of an earlier incarnation of the worker */
	CLAIM_CLEAR, /* whatever of it is still there */
};

static bool claim_may_change(const struct kill_me *me, enum claim_rule rule, uint32_t seen, uint32_t from)
{
	switch (rule) {
	case CLAIM_GET:
		return !seen || claim_is_void(me->model, seen);
	case CLAIM_EXACT:
		return seen == from;
	case CLAIM_LEFT:
		return !seen || seen == from;
	case CLAIM_KEY:
		return !seen || seen == from ||
		       (!(seen & CLAIM_OF_KEY) && (seen >> CLAIM_INCARNATION_BITS & 0x3f) == me->worker_index &&
			claim_is_void(me->model, seen));
	case CLAIM_CLEAR:
		return seen == from;
	}
	return false;
}

static void change_claims(struct kill_me *me, enum claim_rule rule, unsigned pool, uint64_t offset, uint32_t size,
			  uint32_t from, uint32_t to, const char *what)
{
	struct kill_model *model = me->model;
	size_t per_pool = model->pool_bytes / KILL_GRANULE + 1024; /* the first page counts in no pool's size */
	_Atomic uint32_t *claims = model->claims + pool * per_pool;
	uint64_t end = offset / KILL_GRANULE + (size + KILL_GRANULE - 1) / KILL_GRANULE;
	char is[64], was[64];

	if (offset % KILL_GRANULE || !offset || end > per_pool)
		kill_fault(me, "%s: offset 0x%llx, %u bytes: not in pool %s", what, (unsigned long long)offset, size,
			   kill_pool_name(pool));
	for (uint64_t i = offset / KILL_GRANULE; i < end; i++) {
		uint32_t seen = atomic_load_explicit(&claims[i], memory_order_relaxed);

		do {
			if (claim_may_change(me, rule, seen, from))
				continue;
			if (rule == CLAIM_CLEAR)
				break;
			claim_name(seen, is);
			claim_name(from, was);
			kill_fault(me,
				   "%s: block at 0x%llx, %u bytes, in pool %s: granule 0x%llx is %s and ought to be "
				   "%s: handed out twice",
				   what, (unsigned long long)offset, size, kill_pool_name(pool),
				   (unsigned long long)i * KILL_GRANULE, is, was);
		} while (!atomic_compare_exchange_strong_explicit(&claims[i], &seen, to, memory_order_relaxed,
								  memory_order_relaxed));
	}
}

void kill_claim(struct kill_me *me, unsigned pool, uint64_t offset, uint32_t size)
{
	change_claims(me, CLAIM_GET, pool, offset, size, 0, claim_of_worker(me->worker_index, me->incarnation), "got");
}

void kill_unclaim(struct kill_me *me, unsigned pool, uint64_t offset, uint32_t size)
{
	change_claims(me, CLAIM_EXACT, pool, offset, size, claim_of_worker(me->worker_index, me->incarnation), 0,
		      "gives up");
}

void kill_unclaim_left(struct kill_me *me, unsigned pool, uint64_t offset, uint32_t size, uint32_t incarnation)
{
	change_claims(me, CLAIM_LEFT, pool, offset, size, claim_of_worker(me->worker_index, incarnation), 0,
		      "gives up what was left behind");
}

void kill_claim_key(struct kill_me *me, uint64_t offset, uint32_t size, unsigned key, bool is_found)
{
	uint32_t mine = claim_of_worker(me->worker_index, me->incarnation);
	uint32_t keys = claim_of_key(me->worker_index, me->thread_index, key);

	change_claims(me, is_found ? CLAIM_KEY : CLAIM_EXACT, KILL_SESSION_POOL, offset, size, is_found ? keys : mine,
		      keys, is_found ? "finds published" : "publishes");
}

void kill_unclaim_key(struct kill_me *me, uint64_t offset, uint32_t size, unsigned key, bool is_lost)
{
	change_claims(me, is_lost ? CLAIM_CLEAR : CLAIM_EXACT, KILL_SESSION_POOL, offset, size,
		      claim_of_key(me->worker_index, me->thread_index, key), 0, "unpublishes");
}
