// SPDX-License-Identifier: MIT
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "alloc/intent.h"
#include "pool/directory.h"

#define RECORDS_MAX    65536u /* sessions, and pools; simply picked */
#define SESSIONS_SPARE 8u     /* simply picked: 28 KiB */
#define PAGE	       4096u

struct session_record {
	_Atomic uint64_t id; /* 0: the record is unused */
	_Atomic uint64_t state;
	struct directory_session session; /* id as above */
};

struct pool_record {
	_Atomic uint64_t id; /* 0: the record is unused */
	struct directory_pool pool;
};

struct answer_record {
	_Atomic uint64_t request; /* id; 0: none */
	_Atomic uint64_t outcome;
	_Atomic uint64_t pool;
};

struct answer_ring { /* of one session, same index */
	struct answer_record answers[DIRECTORY_ANSWERS_N];
};

static_assert(sizeof(struct directory_recovery) == sizeof(((struct ledger_header *)0)->recoveries[0]), "kept as it is");

static struct session_record *session_record(const struct directory *directory, uint32_t slot)
{
	return ledger_at(&directory->ledger, LEDGER_SESSIONS, slot);
}

static struct pool_record *pool_record(const struct directory *directory, uint32_t index)
{
	return ledger_at(&directory->ledger, LEDGER_POOLS, index);
}

static struct answer_record *answer_record(const struct directory *directory, uint32_t slot, uint64_t request)
{
	struct answer_ring *ring = ledger_at(&directory->ledger, LEDGER_RESULTS, slot);

	return &ring->answers[request % DIRECTORY_ANSWERS_N];
}

static uint64_t load(const _Atomic uint64_t *word)
{
	return atomic_load_explicit(word, memory_order_relaxed);
}

/* ---- life ---- */

struct ledger_shape directory_shape(void)
{
	return (struct ledger_shape){
		.elem_bytes = {[LEDGER_SESSIONS] = sizeof(struct session_record),
			       [LEDGER_POOLS] = sizeof(struct pool_record),
			       [LEDGER_RESULTS] = sizeof(struct answer_ring),
			       [LEDGER_INTENT] = sizeof(struct intent_entry)},
		.n_max = {[LEDGER_SESSIONS] = RECORDS_MAX,
			  [LEDGER_POOLS] = RECORDS_MAX,
			  [LEDGER_RESULTS] = RECORDS_MAX,
			  [LEDGER_INTENT] = INTENT_N_LEAST},
	};
}

/* With room for some more: where /dev/shm is full, whoever comes to free or to destroy must find a place. */
static int reserve_sessions(struct directory *directory, uint32_t n)
{
	int r = ledger_reserve_spare(&directory->ledger, LEDGER_SESSIONS, n, SESSIONS_SPARE);

	return r ? r : ledger_reserve_spare(&directory->ledger, LEDGER_RESULTS, n, SESSIONS_SPARE);
}

static int make(struct directory *directory, int fd)
{
	const struct ledger_shape shape = directory_shape();
	int r;

	r = ledger_init(&directory->ledger, fd, &shape);
	if (r)
		return r;
	r = intent_reserve(&directory->ledger, INTENT_N_LEAST);
	if (r) {
		directory->ledger.fd = -1; /* the caller's */
		directory_close(directory);
		return r;
	}
	intent_store(&directory->ledger.header->kind, LEDGER_REGISTRY); /* made */
	return 0;
}

static int judge(struct directory *directory)
{
	const struct ledger_table *tables = directory->ledger.tables;
	uint32_t n_sessions = tables[LEDGER_SESSIONS].n_backed, n_pools = tables[LEDGER_POOLS].n_backed;

	if (directory->ledger.header->kind != LEDGER_REGISTRY || !tables[LEDGER_INTENT].n_backed)
		return LEDGER_E_DAMAGED;
	while (n_sessions && !load(&session_record(directory, n_sessions - 1)->id))
		n_sessions--;
	while (n_pools && !load(&pool_record(directory, n_pools - 1)->id))
		n_pools--;
	if (n_sessions > tables[LEDGER_RESULTS].n_backed)
		return LEDGER_E_DAMAGED;
	directory->n_sessions_high = n_sessions;
	directory->n_pools_high = n_pools;
	return 0;
}

/* Whether anything was ever stored behind the first page; what was backed only reads as zeros. What cannot be looked at counts. */
static bool has_content(int fd)
{
	static const uint8_t zeros[PAGE];
	uint8_t page[PAGE];
	off_t at = PAGE;
	ssize_t n;

	while ((at = lseek(fd, at, SEEK_DATA)) >= 0) {
		n = pread(fd, page, sizeof(page), at);
		if (n <= 0 || memcmp(page, zeros, (size_t)n))
			return true;
		at += n;
	}
	return errno != ENXIO;
}

/*
 * A daemon that was killed while it made this object has stored everything but its kind, at most: nothing was in it yet. Before the
 * magic there is nothing but the first page; where there is more, that page has been lost, and with it which pools there are.
 */
bool directory_is_unmade(int fd)
{
	struct ledger_header header = {0};
	ssize_t n = pread(fd, &header, sizeof(header), 0);

	if (n < 0)
		return false; /* ledger_open() says why */
	if (!header.magic)
		return !has_content(fd);
	return header.magic == LEDGER_MAGIC && header.version == LEDGER_VERSION &&
	       header.header_bytes == sizeof(header) && !load(&header.kind);
}

int directory_open(struct directory *directory, int fd)
{
	const struct ledger_shape shape = directory_shape();
	int r;

	*directory = (struct directory)DIRECTORY_NULL;
	if (directory_is_unmade(fd)) {
		r = ftruncate(fd, 0) ? -errno : make(directory, fd);
		if (r)
			return r;
	} else {
		r = ledger_open(&directory->ledger, fd, &shape);
		if (r)
			return r;
		r = judge(directory);
	}
	if (!r)
		r = reserve_sessions(directory, directory->n_sessions_high);
	if (r) {
		directory->ledger.fd = -1;
		directory_close(directory);
	}
	return r;
}

void directory_close(struct directory *directory)
{
	ledger_deinit(&directory->ledger);
}

bool directory_is_new(const struct directory *directory)
{
	return !load(&directory->ledger.header->n_sessions) && !load(&directory->ledger.header->n_pools);
}

void directory_note_stop(struct directory *directory)
{
	intent_store(&directory->ledger.header->was_stopped, 1);
}

bool directory_take_stop(struct directory *directory)
{
	bool was_stopped = load(&directory->ledger.header->was_stopped);

	intent_store(&directory->ledger.header->was_stopped, 0);
	return was_stopped;
}

static uint64_t next_of(_Atomic uint64_t *counter)
{
	uint64_t number = load(counter) + 1;

	intent_store(counter, number);
	return number;
}

uint64_t directory_next_session(struct directory *directory)
{
	return next_of(&directory->ledger.header->n_sessions);
}

uint64_t directory_next_pool(struct directory *directory)
{
	return next_of(&directory->ledger.header->n_pools);
}

/* ---- sessions ---- */

/* The first that is unused, from @slot on; it may have no page yet. */
static uint32_t unused_session(const struct directory *directory, uint32_t slot)
{
	while (slot < directory->n_sessions_high && load(&session_record(directory, slot)->id))
		slot++;
	return slot;
}

static bool has_place(const struct directory *directory, uint32_t slot)
{
	const struct ledger_table *tables = directory->ledger.tables;

	return slot < tables[LEDGER_SESSIONS].n_backed && slot < tables[LEDGER_RESULTS].n_backed;
}

int directory_add_session(struct directory *directory, const struct directory_session *session, bool may_be_last,
			  uint32_t *slotp)
{
	struct session_record *record;
	uint32_t slot = unused_session(directory, directory->session_hint);
	int r;

	r = reserve_sessions(directory, slot + 1);
	if (r)
		return r;
	if (!may_be_last && !has_place(directory, unused_session(directory, slot + 1)))
		return -ENOSPC;
	if (slot == directory->n_sessions_high)
		directory->n_sessions_high++;
	record = session_record(directory, slot);
	for (uint32_t i = 0; i < DIRECTORY_ANSWERS_N; i++)
		intent_store(&answer_record(directory, slot, i)->request, 0);
	record->session = *session;
	intent_store(&record->state, 0);
	intent_store(&record->id, session->id);
	directory->session_hint = slot + 1;
	*slotp = slot;
	return 0;
}

void directory_set_session(struct directory *directory, uint32_t slot, unsigned state, bool is_on)
{
	_Atomic uint64_t *word = &session_record(directory, slot)->state;

	intent_store(word, is_on ? load(word) | state : load(word) & ~(uint64_t)state);
}

void directory_remove_session(struct directory *directory, uint32_t slot)
{
	intent_store(&session_record(directory, slot)->id, 0);
	if (slot < directory->session_hint)
		directory->session_hint = slot;
	while (directory->n_sessions_high && !load(&session_record(directory, directory->n_sessions_high - 1)->id))
		directory->n_sessions_high--;
}

bool directory_session(const struct directory *directory, uint32_t slot, struct directory_session *out,
		       unsigned *statep)
{
	const struct session_record *record;

	if (slot >= directory->n_sessions_high)
		return false;
	record = session_record(directory, slot);
	*out = record->session;
	out->id = load(&record->id);
	out->command[sizeof(out->command) - 1] = '\0';
	out->lock_object[sizeof(out->lock_object) - 1] = '\0';
	*statep = (unsigned)load(&record->state);
	return out->id != 0;
}

uint64_t directory_count_sessions(const struct directory *directory)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < directory->n_sessions_high; i++)
		n += load(&session_record(directory, i)->id) != 0;
	return n;
}

/* ---- answers ---- */

/* What is beside the id counts only with it; whoever's answer stood there has had it. */
static void put_answer(struct directory *directory, uint32_t slot, uint64_t request, int outcome, uint64_t pool)
{
	struct answer_record *record;

	if (!request)
		return;
	record = answer_record(directory, slot, request);
	intent_note(&directory->ledger, &record->request, 0);
	intent_store(&record->request, 0);
	intent_store(&record->outcome, (uint32_t)outcome);
	intent_store(&record->pool, pool);
	intent_store(&record->request, request);
}

void directory_answer(struct directory *directory, uint32_t slot, uint64_t request, int outcome)
{
	put_answer(directory, slot, request, outcome, 0);
	intent_commit(&directory->ledger);
}

bool directory_find_answer(const struct directory *directory, uint32_t slot, uint64_t request,
			   struct directory_answer *answer)
{
	const struct answer_record *record = answer_record(directory, slot, request);

	if (!request || load(&record->request) != request)
		return false;
	*answer = (struct directory_answer){.outcome = (int)(uint32_t)load(&record->outcome),
					    .pool = load(&record->pool)};
	return true;
}

/* ---- pools ---- */

int directory_reserve_pool(struct directory *directory, uint32_t *indexp)
{
	uint32_t index = directory->pool_hint;
	int r;

	while (index < directory->n_pools_high && load(&pool_record(directory, index)->id))
		index++;
	r = ledger_reserve(&directory->ledger, LEDGER_POOLS, index + 1);
	if (r)
		return r;
	*indexp = index;
	return 0;
}

void directory_add_pool(struct directory *directory, uint32_t index, const struct directory_pool *pool, uint32_t slot,
			uint64_t request)
{
	struct pool_record *record = pool_record(directory, index);

	assert(!load(&record->id));
	if (index >= directory->n_pools_high)
		directory->n_pools_high = index + 1;
	directory->pool_hint = index + 1;
	record->pool = *pool;
	intent_set(&directory->ledger, &record->id, pool->id);
	put_answer(directory, slot, request, 0, pool->id);
	intent_commit(&directory->ledger);
}

void directory_remove_pool(struct directory *directory, uint32_t index, uint32_t slot, uint64_t request)
{
	struct pool_record *record = pool_record(directory, index);
	uint64_t id = load(&record->id);

	intent_set(&directory->ledger, &record->id, 0);
	put_answer(directory, slot, request, 0, id);
	intent_commit(&directory->ledger);
	if (index < directory->pool_hint)
		directory->pool_hint = index;
	while (directory->n_pools_high && !load(&pool_record(directory, directory->n_pools_high - 1)->id))
		directory->n_pools_high--;
}

bool directory_pool(const struct directory *directory, uint32_t index, struct directory_pool *out)
{
	const struct pool_record *record;

	if (index >= directory->n_pools_high)
		return false;
	record = pool_record(directory, index);
	*out = record->pool;
	out->id = load(&record->id);
	out->books[sizeof(out->books) - 1] = out->data[sizeof(out->data) - 1] = '\0';
	out->lease[sizeof(out->lease) - 1] = '\0';
	if (out->n_name_bytes > NAME_BYTES_MAX)
		out->n_name_bytes = 0;
	return out->id != 0;
}

/* ---- recoveries ---- */

#define RECOVERIES_N N_ELEMENTS(((struct ledger_header *)0)->recoveries)

void directory_note_recovery(struct directory *directory, const struct directory_recovery *recovery)
{
	struct ledger_header *header = directory->ledger.header;
	uint64_t n = load(&header->n_recoveries);

	memcpy(header->recoveries[n % RECOVERIES_N], recovery, sizeof(*recovery));
	intent_store(&header->n_recoveries, n + 1);
}

uint64_t directory_n_recoveries(const struct directory *directory)
{
	return load(&directory->ledger.header->n_recoveries);
}

uint32_t directory_recoveries(const struct directory *directory, struct directory_recovery out[], uint32_t n_max)
{
	const struct ledger_header *header = directory->ledger.header;
	uint64_t end = load(&header->n_recoveries);
	uint32_t n = 0;

	for (; n < n_max && n < RECOVERIES_N && n < end; n++)
		memcpy(out + n, header->recoveries[(end - 1 - n) % RECOVERIES_N], sizeof(out[n]));
	return n;
}
