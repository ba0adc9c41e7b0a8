// SPDX-License-Identifier: MIT
/*
 * Whatever stands in a ledger: its recovery ends with books that are sound, and go on to be, or is refused with a sentence.
 *
 * The input: which scene, then changes to its ledger, each of FUZZ_CHANGE_BYTES: what, in which table, where, the value. So that
 * inputs are small, and most of a ledger is right: it is made anew for each.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pool/pool_internal.h"
#include "tests/fuzz/fuzz.h"

#define REQUIRE(condition) ((condition) ? (void)0 : abort())
#define PAGE		   4096u
#define N_SCENES	   4u
#define UID		   1000u

struct image {		/* a ledger, as its daemon left it */
	uint8_t *bytes; /* [n_kept]: the pages that count, one after the other */
	uint64_t *at;	/* [n_pages]: where in the object */
	uint32_t n_pages;
	uint64_t n_bytes; /* of the object */
	uint64_t data_bytes;
	uint64_t table[LEDGER_TABLE_N]; /* where each begins */
	uint64_t table_bytes[LEDGER_TABLE_N];
};

static struct quota quota;
static struct budget budget;
static struct pool_env env;
static struct image images[N_SCENES];

/* ---- scenes ---- */

static struct pool_member *join(struct pool *pool, uint64_t session)
{
	const struct pool_identity who = {.session = session, .uid = UID, .gid = UID, .pid = 7, .command = "fuzz"};
	struct pool_member *member;

	REQUIRE(!pool_join(pool, &who, &member));
	return member;
}

static uint64_t alloc(struct pool_member *member, uint64_t size)
{
	struct pool_block block;

	member->call.id++;
	REQUIRE(!pool_alloc(member, size, 0, POOL_MAY_BLOCK, &block));
	return block.offset;
}

static void live(struct pool *pool)
{
	struct pool_member *a = join(pool, 1), *b = join(pool, 2);
	uint64_t offsets[24], sizes[40], many[40];
	size_t n_failed;

	for (size_t i = 0; i < N_ELEMENTS(offsets); i++)
		offsets[i] = alloc(i % 3 ? a : b, 16 + 40 * i);
	a->call.id++;
	REQUIRE(!pool_publish(a, offsets[1], "one", 3));
	a->call.id++;
	REQUIRE(!pool_publish(a, offsets[2], "two", 3));
	b->call.id++;
	REQUIRE(!pool_retain(b, offsets[1]));
	b->call.id++;
	REQUIRE(!pool_retain(b, offsets[3]));
	b->call.id++;
	REQUIRE(!pool_retain(b, offsets[2]));
	a->call.id++;
	REQUIRE(!pool_free(a, offsets[2])); /* nobody's now */
	for (size_t i = 0; i < N_ELEMENTS(sizes); i++)
		sizes[i] = 32;
	a->call.id++;
	REQUIRE(!pool_alloc_batch(a, N_ELEMENTS(sizes), sizes, POOL_MAY_BLOCK, many));
	a->call.id++;
	REQUIRE(!pool_free_batch(a, 10, many, many + 20, &n_failed));
	for (size_t i = 4; i < 20; i += 3) {
		a->call.id++;
		REQUIRE(!pool_free(a, offsets[i]));
	}
}

/* An operation that never comes to its commit. */
static void interrupt(struct pool *pool)
{
	struct pool_member *member = pool_member_of(pool, 1);

	pool_lock(pool);
	block_drop_owner(pool, member->blocks.list.head);
	block_drop_owner(pool, member->blocks.list.head);
}

/* ---- images ---- */

static void keep_page(struct image *image, const struct ledger *ledger, uint64_t at)
{
	image->bytes = realloc(image->bytes, (image->n_pages + 1) * (size_t)PAGE);
	image->at = realloc(image->at, (image->n_pages + 1) * sizeof(*image->at));
	REQUIRE(image->bytes && image->at);
	memcpy(image->bytes + image->n_pages * (size_t)PAGE, ledger->map + at, PAGE);
	image->at[image->n_pages++] = at;
}

static void keep_image(struct image *image, const struct pool *pool)
{
	const struct ledger *ledger = &pool->ledger;

	image->n_bytes = ledger->map_bytes;
	image->data_bytes = pool_segment_bytes_for(pool->map.total_bytes);
	keep_page(image, ledger, 0);
	for (int id = 0; id < LEDGER_TABLE_N; id++) {
		const struct ledger_table *table = &ledger->tables[id];

		image->table[id] = table->file_offset;
		image->table_bytes[id] = round_up((uint64_t)table->n_backed * table->elem_bytes, PAGE);
		for (uint64_t at = 0; at < image->table_bytes[id]; at += PAGE)
			keep_page(image, ledger, table->file_offset + at);
	}
}

static void make_image(unsigned scene)
{
	const struct pool_options options = {.name = "p",
					     .n_name_bytes = 1,
					     .size = 64u << 10,
					     .max_size = scene & 2 ? 1u << 20 : 0,
					     .lease = 1, /* off: fuzz_lease has those */
					     .uid = UID,
					     .mode = 0600,
					     .lifetime = scene & 1,
					     .guard = scene == 3,
					     .reserve = scene == 2};
	struct pool *pool;

	REQUIRE(!pool_new(&pool, &env, 1, &options));
	live(pool);
	if (scene & 1)
		interrupt(pool);
	keep_image(&images[scene], pool);
	if (pool_is_locked(pool))
		pool_unlock(pool);
	segment_unlink(&pool->data);
	segment_unlink(&pool->books);
	pool_keep(pool);
}

static void forget_charges(void)
{
	for (size_t i = 0; i < N_ELEMENTS(quota.buckets); i++)
		for (struct quota_account *a = quota.buckets[i]; a; a = a->next)
			for (int kind = 0; kind < QUOTA_KIND_N; kind++)
				atomic_store(&a->used[kind], 0);
}

static void require_no_charges(void)
{
	for (size_t i = 0; i < N_ELEMENTS(quota.buckets); i++)
		for (struct quota_account *a = quota.buckets[i]; a; a = a->next)
			for (int kind = 0; kind < QUOTA_KIND_N; kind++)
				REQUIRE(!atomic_load(&a->used[kind]));
	REQUIRE(!budget_spent(&budget));
}

static void set_up(void)
{
	static char instance[32];
	uint64_t limit[QUOTA_KIND_N];

	for (int kind = 0; kind < QUOTA_KIND_N; kind++)
		limit[kind] = UINT64_MAX;
	snprintf(instance, sizeof(instance), "fuzz-%d", (int)getpid());
	REQUIRE(!quota_init(&quota, 0, limit) && !budget_init(&budget, UINT64_C(64) << 20));
	env = (struct pool_env){.instance = instance, .quota = &quota, .budget = &budget, .decay_ms = UINT64_MAX};
	for (unsigned scene = 0; scene < N_SCENES; scene++)
		make_image(scene);
	forget_charges();
	budget_give_back(&budget, budget_spent(&budget));
}

/* ---- changes ---- */

static void write_at(int fd, uint64_t at, const void *bytes, size_t n)
{
	REQUIRE(pwrite(fd, bytes, n, (off_t)at) == (ssize_t)n);
}

static uint64_t place_of(const struct image *image, unsigned table, uint32_t where)
{
	if (table < LEDGER_TABLE_N && image->table_bytes[table])
		return image->table[table] + where % image->table_bytes[table];
	return where % PAGE; /* the header */
}

/* Offsets that are told to be blocks, indexes, links: interesting values are near those that are there. */
static void change_one(int fd, const struct image *image, const struct fuzz_change *change)
{
	uint64_t at = place_of(image, change->table, change->where), word = 0;
	uint64_t n = change->what & FUZZ_CHANGE_BYTE ? 1 : 8;

	at -= n == 8 ? at % 8 : 0;
	if (change->what & FUZZ_CHANGE_ADD)
		REQUIRE(pread(fd, &word, n, (off_t)at) == (ssize_t)n);
	word += change->value;
	if (change->what & FUZZ_CHANGE_FLIP)
		word ^= UINT64_C(1) << change->value % 64;
	write_at(fd, at, &word, n);
	if (change->what & FUZZ_CHANGE_CUT)
		REQUIRE(!ftruncate(fd, (off_t)(at % (PAGE * 4))));
}

static bool is_cut(const struct fuzz_change *change)
{
	return change->what & FUZZ_CHANGE_CUT;
}

static void make_objects(const struct image *image, const uint8_t *data, size_t n, struct segment *books,
			 struct segment *data_segment)
{
	struct fuzz_change change;

	REQUIRE(!segment_create(books, env.instance) && !segment_create(data_segment, env.instance));
	REQUIRE(!ftruncate(books->fd, (off_t)image->n_bytes) && !ftruncate(data_segment->fd, (off_t)image->data_bytes));
	for (uint32_t i = 0; i < image->n_pages; i++)
		write_at(books->fd, image->at[i], image->bytes + i * (size_t)PAGE, PAGE);
	write_at(books->fd, offsetof(struct ledger_header, data_object), data_segment->name,
		 sizeof(data_segment->name));
	for (; n >= FUZZ_CHANGE_BYTES; data += FUZZ_CHANGE_BYTES, n -= FUZZ_CHANGE_BYTES) {
		memcpy(&change, data, FUZZ_CHANGE_BYTES);
		change_one(books->fd, image, &change);
		if (is_cut(&change))
			break;
	}
}

/* ---- what comes of it ---- */

static void require_sound(struct pool *pool)
{
	struct pool_fault faults[1];

	if (!pool_check(pool, faults, N_ELEMENTS(faults)))
		return;
	fprintf(stderr, "0x%llx: %s\n", (unsigned long long)faults[0].offset, faults[0].what);
	abort();
}

/* Books that are sound stay so: everything is asked for again, freed, retained, and left. */
static void live_on(struct pool *pool)
{
	uint64_t sizes[20], offsets[32], failed[32];
	struct pool_block block;
	struct pool_warning warning = {0};
	struct pool_member *member;
	struct pool_recent recent[8];
	struct pool_extent extents[32];
	uint64_t hint = 0, next;
	size_t n_failed;
	uint32_t n;

	for (size_t i = 0; i < N_ELEMENTS(sizes); i++)
		sizes[i] = 16 + i;
	n = pool_extents(pool, 0, &hint, extents, N_ELEMENTS(extents), &next);
	for (uint32_t i = 0; i < n; i++)
		offsets[i] = extents[i].block;
	pool_recent(pool, 0, recent, N_ELEMENTS(recent));
	for (member = pool->first; member; member = member->next) {
		if (member_record(pool, member->index)->state != MEMBER_ACTIVE)
			continue;		       /* it executes nothing any more */
		for (uint64_t id = 1; id < 40; id++) { /* the same id, whatever it was */
			int r;

			member->call = (struct pool_call){.id = id};
			switch (id % 5) {
			case 0:
				r = pool_alloc(member, 100 * id, 0, POOL_MAY_BLOCK, &block);
				break;
			case 1:
				r = pool_alloc_batch(member, N_ELEMENTS(sizes), sizes, POOL_MAY_BLOCK, failed);
				break;
			case 2:
				r = pool_free_batch(member, n / 2, offsets, failed, &n_failed);
				REQUIRE(n_failed <= n / 2);
				break;
			case 3:
				r = pool_realloc(member, n ? offsets[n - 1] : 0, 50 * id, POOL_MAY_BLOCK, &block);
				break;
			default:
				r = pool_publish(member, n ? offsets[n / 2] : 0, "key", id % 2 ? 3 : 0);
			}
			REQUIRE(r < POOL_OUTCOME_N);
		}
	}
	require_sound(pool);
	if (!pool_member_of(pool, UINT64_MAX))
		join(pool, UINT64_MAX);
	while ((member = pool->last)) {
		if (!pool_leave_step(member, &warning))
			warning = (struct pool_warning){0};
	}
	require_sound(pool);
}

static void recover(const struct segment *books)
{
	char why[200];
	struct pool *pool;
	int r;

	memset(why, 0, sizeof(why));
	r = pool_recover(&pool, &env, books->name, why, sizeof(why));
	if (r) {
		if ((r != POOL_E_DAMAGED && r != POOL_E_UNBACKED && r != -ENOSPC) || !why[0]) {
			fprintf(stderr, "refused with %d: %s\n", r, why);
			abort();
		}
		require_no_charges();
		return;
	}
	require_sound(pool);
	live_on(pool);
	pool_unref(pool);
	require_no_charges();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct segment books, data_segment;

	if (!n)
		return 0;
	if (!env.instance)
		set_up();
	make_objects(&images[data[0] % N_SCENES], data + 1, n - 1, &books, &data_segment);
	recover(&books);
	segment_unlink(&books);
	segment_unlink(&data_segment);
	segment_deinit(&books);
	segment_deinit(&data_segment);
	return 0;
}
