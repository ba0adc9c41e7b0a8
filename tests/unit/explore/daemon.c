// SPDX-License-Identifier: MIT
/*
 * The daemon: its operations on one pool are done one after the other, under a mutex, so whoever asks for one executes it itself,
 * when no other is executed. Killed in one, another daemon recovers the pool from what is there, and the same request, with
 * the same id, is asked again.
 */
#include "daemon/pool/pool_internal.h"

#include <setjmp.h>
#include <string.h>

#include "explore.h"

enum {
	POOL_BYTES = 1280 << 10, /* a slab has two or three slots of the classes that scenarios use */
	UID = 1000
};

static struct daemon { /* in the memory that is put back */
	struct quota quota;
	struct budget budget;
	struct pool_env env;
	struct pool *pool; /* NULL: not up */
	char name[SEGMENT_NAME_BYTES];
	int lease_fd;
	struct pool_member *members[N_CLIENTS]; /* NULL: has left */
	/* the rest is part of a state */
	uint64_t sessions[N_CLIENTS], last_ids[N_CLIENTS], n_sessions;
	uint32_t heaps[N_CLIENTS];
} * d;

static const uint8_t *segment;
static const struct lease_header *header;

static void wants_decay(void *arg)
{
	(void)arg;
}

static void join(int client)
{
	const struct pool_identity who = {
		.session = ++d->n_sessions, .uid = UID, .gid = UID, .pid = 4711, .command = "explore"};

	if (pool_join(d->pool, &who, &d->members[client]))
		search_found("no session can join");
	d->sessions[client] = who.session;
	d->last_ids[client] = 0;
}

static void forget_charges(void)
{
	for (size_t i = 0; i < N_ELEMENTS(d->quota.buckets); i++)
		for (struct quota_account *a = d->quota.buckets[i]; a; a = a->next)
			for (int kind = 0; kind < QUOTA_KIND_N; kind++)
				atomic_store(&a->used[kind], 0);
}

void daemon_init(uint32_t lifetime)
{
	const uint64_t limit[QUOTA_KIND_N] = {[QUOTA_BYTES] = UINT64_MAX,
					      [QUOTA_POOLS] = UINT64_MAX,
					      [QUOTA_SESSIONS] = UINT64_MAX,
					      [QUOTA_BLOCKS] = UINT64_MAX,
					      [QUOTA_CONNECTIONS] = UINT64_MAX};
	const struct pool_options options = {.name = "p",
					     .n_name_bytes = 1,
					     .size = POOL_BYTES,
					     .max_size = POOL_BYTES,
					     .uid = UID,
					     .gid = UID,
					     .mode = 0600,
					     .lifetime = lifetime};

	d = calloc(1, sizeof(*d));
	d->env = (struct pool_env){.instance = "explore",
				   .quota = &d->quota,
				   .budget = &d->budget,
				   .decay_ms = UINT64_MAX,
				   .decay_wanted = wants_decay};
	if (quota_init(&d->quota, 0, limit) || budget_init(&d->budget, UINT64_MAX) ||
	    pool_new(&d->pool, &d->env, 1, &options))
		abort();
	d->lease_fd = pool_lease_fd(d->pool);
	segment = memory_of(d->lease_fd);
	header = (const struct lease_header *)(const void *)segment;
	for (int i = 0; i < N_CLIENTS; i++) {
		join(i);
		if (pool_open_heap(d->members[i], true, &d->heaps[i]))
			abort();
	}
}

uint8_t *daemon_segment(size_t *n_bytesp)
{
	*n_bytesp = header->file_bytes;
	return memory_of(d->lease_fd);
}

uint32_t daemon_heap_number(int client)
{
	return d->heaps[client];
}

uint64_t daemon_session(int client)
{
	return d->sessions[client];
}

/* ---- requests ---- */

static void restart(void)
{
	struct pool *pool = d->pool;
	static char why[200];

	d->pool = NULL;
	if (pool) { /* else it was killed while it recovered */
		if (pool_is_locked(pool))
			pthread_mutex_unlock(&pool->mutex);
		snprintf(d->name, sizeof(d->name), "%s", pool_books_name(pool));
		pool_keep(pool);
	}
	forget_charges();
	if (pool_recover(&pool, &d->env, d->name, why, sizeof(why))) {
		search_found(why);
		return;
	}
	d->pool = pool;
	for (int i = 0; i < N_CLIENTS; i++) {
		d->members[i] = d->members[i] ? pool_member_of(pool, d->sessions[i]) : NULL;
		if (d->members[i])
			d->members[i]->call.id = d->last_ids[i];
	}
}

struct request {
	int (*run)(struct request *request);
	int client;
	uint64_t offset, session;
	uint32_t size_class, id;
	bool takes_cached;
	uint32_t ids[POOL_SLABS_MAX], n, heap;
};

static int ask(struct request *request)
{
	struct request *volatile kept = request;
	volatile int r = 0;

	search_request_begins();
	if (request->client >= 0 && d->members[request->client])
		d->members[request->client]->call.id = ++d->last_ids[request->client];
	if (setjmp(search_place()))
		restart();
	if (d->pool)
		r = kept->run(kept);
	search_request_ends();
	return r;
}

static int run_lease(struct request *q)
{
	return pool_lease_slabs(d->members[q->client], d->heaps[q->client], q->size_class, 1, POOL_MAY_BLOCK, q->ids,
				&q->n);
}

int daemon_lease(int client, uint32_t size_class, uint32_t ids[], uint32_t *np)
{
	struct request q = {.run = run_lease, .client = client, .size_class = size_class};
	int r = ask(&q);

	*np = r ? 0 : q.n;
	memcpy(ids, q.ids, *np * sizeof(ids[0]));
	return r;
}

static int run_free(struct request *q)
{
	return pool_free(d->members[q->client], q->offset);
}

int daemon_free(int client, uint64_t offset)
{
	return ask(&(struct request){.run = run_free, .client = client, .offset = offset});
}

static int run_retain(struct request *q)
{
	return pool_retain(d->members[q->client], q->offset);
}

int daemon_retain(int client, uint64_t offset)
{
	return ask(&(struct request){.run = run_retain, .client = client, .offset = offset});
}

static int run_take(struct request *q)
{
	return pool_take(d->members[q->client], q->offset, q->session);
}

int daemon_take(int client, uint64_t offset, uint64_t session)
{
	return ask(&(struct request){.run = run_take, .client = client, .offset = offset, .session = session});
}

static int run_recall(struct request *q)
{
	pool_lock(d->pool);
	if (slab_exists(d->pool, q->id))
		slab_recall(d->pool, q->id, q->takes_cached);
	pool_unlock(d->pool);
	return 0;
}

void daemon_recall(uint32_t id, bool takes_cached)
{
	ask(&(struct request){.run = run_recall, .client = NOBODY, .id = id, .takes_cached = takes_cached});
}

static int run_leave(struct request *q)
{
	struct pool_warning report = {0};

	while (d->members[q->client] && pool_leave_step(d->members[q->client], &report))
		;
	d->members[q->client] = NULL;
	return 0;
}

void daemon_leave(int client)
{
	ask(&(struct request){.run = run_leave, .client = client});
}

static int run_open_heap(struct request *q)
{
	return pool_open_heap(d->members[q->client], true, &q->heap);
}

uint32_t daemon_open_heap(int client)
{
	struct request q = {.run = run_open_heap, .client = client};

	if (ask(&q))
		search_found("no heap can be had");
	d->heaps[client] = q.heap;
	return q.heap;
}

/* ---- the books ---- */

bool daemon_is_up(void)
{
	return d->pool;
}

bool daemon_find(uint64_t offset, uint64_t bytes, struct place *placep)
{
	const struct pool *pool = d->pool;

	for (uint32_t id = 0; id < pool->slab_records.n_high; id++) {
		const struct slab_record *record = slab_record(pool, id);
		uint64_t distance;

		if (!slab_exists(pool, id))
			continue;
		distance = offset - slab_base(pool, id);
		if (distance >= extent_size(&pool->map, slab_extent(pool, id)))
			continue;
		*placep = (struct place){.id = id, .slot = (uint32_t)(distance / bytes)};
		placep->word = record->first_word + placep->slot;
		return slab_slot_bytes(pool, id) == bytes && distance % bytes == 0 && placep->slot < record->n_slots;
	}
	return false;
}

static const _Atomic uint16_t *word_at(uint32_t word)
{
	return (const _Atomic uint16_t *)(const void *)(segment + header->words_at) + word;
}

uint16_t daemon_word(uint32_t word)
{
	return atomic_load_explicit(word_at(word), memory_order_relaxed);
}

enum {
	N_SLABS = 4,
	N_STEPS = 4
};

static const struct lease_slab *descriptor(uint32_t id)
{
	return (const struct lease_slab *)(const void *)(segment + header->slabs_at) + id;
}

static const struct lease_heap *heap_at(uint32_t heap)
{
	return (const struct lease_heap *)(const void *)(segment + header->heaps_at) + heap;
}

uint64_t daemon_geometry(void)
{
	const uint32_t *pages = (const uint32_t *)(const void *)(segment + header->pages_at);
	uint64_t hash = 1;

	for (uint32_t i = 0; i < POOL_BYTES / LEASE_PAGE_BYTES;
	     i += 8) /* a slab has ten at least, which change at once */
		hash = mix(hash, pages[i]);
	for (uint32_t id = 0; id < N_SLABS; id++)
		hash = mix_bytes(hash, descriptor(id), offsetof(struct lease_slab, custody));
	for (uint32_t heap = 1; heap <= N_CLIENTS + 2; heap++)
		hash = mix(hash, heap_at(heap)->session);
	return mix(mix(hash, header->n_pages), header->flags + ((uint64_t)header->pressure << 32));
}

uint64_t daemon_words(void)
{
	uint64_t hash = mix_bytes(daemon_geometry(), (const void *)word_at(0), N_STEPS * LEASE_WORDS_STEP * 2);

	for (uint32_t id = 0; id < N_SLABS; id++)
		hash = mix(hash, descriptor(id)->custody + ((uint64_t)descriptor(id)->has_free << 32));
	for (uint32_t heap = 1; heap <= N_CLIENTS + 2; heap++)
		hash = mix(hash, heap_at(heap)->n_returned + ((uint64_t)heap_at(heap)->is_foreign << 32));
	return mix_bytes(hash, d->sessions, sizeof(*d) - offsetof(struct daemon, sessions));
}

/* Recovery holds the custody of all that could be slabs: of those that never were, and those whose custody it has. */
bool daemon_is_seen(const volatile void *at, const char *what)
{
	const _Atomic uint32_t *custody = (const _Atomic uint32_t *)(uintptr_t)at;

	return strcmp(what, "custody hold") || (custody < &descriptor(N_SLABS)->custody && *custody != LEASE_DAEMON);
}

void daemon_zero_words(uint32_t id)
{
	for (uint32_t i = 0; i < descriptor(id)->n_slots; i++)
		lease_word_keep((_Atomic uint16_t *)(uintptr_t)word_at(descriptor(id)->first_word + i), 0);
}

static void check_slab(uint32_t id, bool (*is_right)(uint64_t offset, uint64_t bytes, uint16_t word))
{
	struct pool *pool = d->pool;
	const struct slab_record *record = slab_record(pool, id);
	const struct lease_slab *copy = descriptor(id);

	if (copy->custody != LEASE_IDLE)
		search_found("custody is stuck");
	if (copy->base != slab_base(pool, id) || copy->slot_bytes != slab_slot_bytes(pool, id) ||
	    copy->n_slots != record->n_slots || copy->first_word != record->first_word ||
	    copy->size_class != record->size_class || copy->grantee != slab_grantee(pool, id))
		search_found("a descriptor is not what the ledger says");
	for (uint32_t i = 0; i < record->n_slots; i++)
		if (!is_right(slab_base(pool, id) + (uint64_t)i * slab_slot_bytes(pool, id), slab_slot_bytes(pool, id),
			      daemon_word(record->first_word + i)))
			search_found("a word says what is not so");
}

void daemon_check(bool (*is_right)(uint64_t offset, uint64_t bytes, uint16_t word))
{
	struct pool_fault faults[1];

	if (lease_is_sound(d->pool)) {
		for (uint32_t id = 0; id < d->pool->slab_records.n_high; id++) {
			if (slab_exists(d->pool, id))
				check_slab(id, is_right);
			else if (descriptor(id)->slot_bytes || descriptor(id)->custody != LEASE_DAEMON)
				search_found("the descriptor of no slab can be used");
		}
	} else {
		search_found("the segment is damaged");
	}
	if (pool_check(d->pool, faults, 1)) {
		static char what[200];

		snprintf(what, sizeof(what), "the books: %s", faults[0].what);
		search_found(what);
	}
}
