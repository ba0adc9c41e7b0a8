// SPDX-License-Identifier: MIT
/*
 * All that can be done to a block, done to slots, by two real processes: each test with plain and with guarded slots.
 *
 * The peer is a process of its own with a session of its own, which does one call at a time, as it is told by pipe.
 */
#include "client_world.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>

enum {
	POOL_BYTES = 16 << 20,
	N_WARM = 64, /* calls after which a thread has its heap */
};

static bool is_guarded;
static enum mempool_lifetime lifetime;

/* ---- the pool ---- */

static void make_slots(enum mempool_fill fill)
{
	struct mempool_pool_options options;

	mempool_pool_options_init(&options);
	options.guard = is_guarded;
	options.fill = fill;
	options.lifetime = lifetime;
	make_pool(POOL_BYTES, &options);
	for (int i = 0; i < N_WARM; i++)
		assert_int_equal(mempool_free(pool, mempool_alloc(pool, 64)), 0);
}

/* Whether the block lies in a slab, by the map. */
static bool is_slot(mempool_offset offset)
{
	const struct mempool_visualize_options options = {.struct_size = sizeof(options),
							  .format = MEMPOOL_FORMAT_JSON};
	char *text = NULL, *line, *rest;
	size_t n_text;
	FILE *stream = open_memstream(&text, &n_text);
	bool found = false;

	assert_non_null(stream);
	assert_int_equal(mempool_pool_visualize(pool, stream, &options), 0);
	fclose(stream);
	rest = text;
	while ((line = strsep(&rest, "\n"))) {
		unsigned long long begin, size;
		char state[16];

		if (sscanf(line, "{\"offset\":%llu,\"size\":%llu,\"state\":\"%15[a-z]\"", &begin, &size, state) == 3)
			found |= offset >= begin && offset < begin + size && !strcmp(state, "leased");
	}
	free(text);
	return found;
}

static mempool_offset alloc_slot(size_t size)
{
	mempool_offset offset = mempool_alloc(pool, size);

	assert_true(offset > 0);
	assert_true(is_slot(offset));
	return offset;
}

/* Bytes that a live block counts: its slot's. */
static uint64_t slot_bytes(size_t size)
{
	uint64_t before = used_now(), bytes;
	mempool_offset offset = alloc_slot(size);

	bytes = used_now() - before;
	assert_int_equal(mempool_free(pool, offset), 0);
	return bytes;
}

static void paint(mempool_offset offset, int value, size_t n)
{
	memset(mempool_ptr(pool, offset), value, n);
}

/* ---- the peer ---- */

enum operation {
	DO_ALLOC,
	DO_FREE,
	DO_PUBLISH,
	DO_FIND,
	DO_ACQUIRE,
	DO_RETAIN,
	DO_TAKE,
	DO_REALLOC,
	DO_USABLE,
	DO_READ, /* the first byte */
};

struct message {
	enum operation what;
	uint64_t offset, arg;
	char name[16];
};

struct answer {
	int64_t result;
	uint64_t offset;
};

static struct peer {
	pid_t pid;
	int to, from;
	uint64_t session;
} peer;

static struct answer do_call(struct mempool_pool *mine, const struct message *m)
{
	struct answer a = {.offset = m->offset};

	switch (m->what) {
	case DO_ALLOC:
		a.offset = mempool_alloc(mine, m->arg);
		a.result = a.offset ? 0 : -errno;
		break;
	case DO_FREE:
		a.result = mempool_free(mine, m->offset);
		break;
	case DO_PUBLISH:
		a.result = mempool_publish(mine, m->offset, *m->name ? m->name : NULL);
		break;
	case DO_FIND:
		a.result = mempool_find(mine, m->name, &a.offset);
		break;
	case DO_ACQUIRE:
		a.result = mempool_acquire(mine, m->name, &a.offset);
		break;
	case DO_RETAIN:
		a.result = mempool_retain(mine, m->offset);
		break;
	case DO_TAKE:
		a.result = mempool_take(mine, m->offset, m->arg);
		break;
	case DO_REALLOC:
		a.offset = mempool_realloc(mine, m->offset, m->arg);
		a.result = a.offset ? 0 : -errno;
		break;
	case DO_USABLE:
		a.result = (int64_t)mempool_usable_size(mine, m->offset);
		break;
	case DO_READ:
		a.result = *(unsigned char *)mempool_ptr(mine, m->offset);
		break;
	}
	return a;
}

/* @warm: with a heap of its own; else all that it does goes by request */
static _Noreturn void be_peer(int in, int out, bool warm)
{
	struct mempool_client *own;
	struct mempool_pool *mine;
	struct message m;
	uint64_t session;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (mempool_connect(&own, world.socket) || mempool_pool_open(own, "p", &mine))
		_exit(1);
	for (int i = 0; warm && i < N_WARM; i++)
		if (mempool_free(mine, mempool_alloc(mine, 64)))
			_exit(1);
	session = mempool_session(own);
	if (write(out, &session, sizeof(session)) != sizeof(session))
		_exit(1);
	while (read(in, &m, sizeof(m)) == sizeof(m)) {
		struct answer a = do_call(mine, &m);

		if (write(out, &a, sizeof(a)) != sizeof(a))
			_exit(1);
	}
	mempool_pool_close(mine);
	mempool_disconnect(own);
	_exit(0);
}

static void start_peer(bool warm)
{
	int to[2], from[2];

	assert_true(!pipe(to) && !pipe(from));
	peer.pid = fork();
	if (!peer.pid) {
		close(to[1]);
		close(from[0]);
		be_peer(to[0], from[1], warm);
	}
	close(to[0]);
	close(from[1]);
	peer.to = to[1];
	peer.from = from[0];
	assert_int_equal(read(peer.from, &peer.session, sizeof(peer.session)), sizeof(peer.session));
}

static void end_peer(bool kills)
{
	int status;

	if (kills)
		kill(peer.pid, SIGKILL);
	close(peer.to);
	assert_int_equal(waitpid(peer.pid, &status, 0), peer.pid);
	assert_int_equal(status, kills ? SIGKILL : 0);
	close(peer.from);
}

static struct answer ask(enum operation what, uint64_t offset, uint64_t arg, const char *name)
{
	struct message m = {.what = what, .offset = offset, .arg = arg};
	struct answer a = {0};

	snprintf(m.name, sizeof(m.name), "%s", name ? name : "");
	assert_int_equal(write(peer.to, &m, sizeof(m)), sizeof(m));
	assert_int_equal(read(peer.from, &a, sizeof(a)), sizeof(a));
	return a;
}

static int64_t tell(enum operation what, uint64_t offset, uint64_t arg, const char *name)
{
	return ask(what, offset, arg, name).result;
}

static void check_clean(void)
{
	assert_true(await_used(0));
	assert_int_equal(mempool_pool_check(pool, stderr), 0);
}

/* ---- fills ---- */

static void check_fill(enum mempool_fill fill, int value, size_t size)
{
	const size_t sizes[2] = {size, size};
	mempool_offset offset, again, both[2];
	size_t usable;

	make_slots(fill);
	offset = alloc_slot(size);
	usable = mempool_usable_size(pool, offset);
	assert_true(is_guarded ? usable == size : usable >= size);
	if (fill != MEMPOOL_FILL_NONE)
		assert_true(is_filled(offset, value, usable));
	paint(offset, 0x5A, usable);
	assert_int_equal(mempool_free(pool, offset), 0);
	again = alloc_slot(size);
	assert_true(again == offset); /* the warm one, dirty as it was left */
	assert_true(is_filled(again, fill == MEMPOOL_FILL_NONE ? 0x5A : value, usable));
	paint(again, 0x5A, usable);
	again = mempool_realloc(pool, again, 3 * size);
	assert_true(is_filled(again, 0x5A, usable < 3 * size ? usable : 3 * size));
	if (fill != MEMPOOL_FILL_NONE)
		assert_true(is_filled(again + usable, value, mempool_usable_size(pool, again) - usable));
	assert_int_equal(mempool_free(pool, again), 0);
	assert_int_equal(mempool_alloc_batch(pool, 2, sizes, both), 0);
	for (int i = 0; i < 2 && fill != MEMPOOL_FILL_NONE; i++)
		assert_true(is_filled(both[i], value, usable));
	assert_int_equal(mempool_free_batch(pool, 2, both), 0);
	offset = mempool_alloc_aligned(pool, size, 64);
	assert_true(offset % 64 == 0 && (fill == MEMPOOL_FILL_NONE || is_filled(offset, value, size)));
	assert_int_equal(mempool_free(pool, offset), 0);
	check_clean();
}

static void test_new_slots_are_filled(void **state)
{
	(void)state;
	for (size_t size = 1; size < 20000; size = size * 3 + 7) {
		check_fill(MEMPOOL_FILL_PATTERN, 0xCC, size);
		check_fill(MEMPOOL_FILL_ZERO, 0, size);
		check_fill(MEMPOOL_FILL_NONE, 0x5A, size);
	}
}

/* ---- first touch ---- */

static bool is_mapped(const void *at)
{
	uint64_t entry = 0;
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &entry, sizeof(entry), (off_t)((uintptr_t)at / 4096 * sizeof(entry))),
			 sizeof(entry));
	close(fd);
	return entry >> 63;
}

static void test_pages_of_a_slab_are_there_at_once(void **state)
{
	mempool_offset offset;
	int n = 0;

	(void)state;
	if (madvise(NULL, 0, MADV_POPULATE_WRITE)) {
		print_message("skipped: this kernel has no MADV_POPULATE_WRITE\n");
		skip();
	}
	make_slots(MEMPOOL_FILL_NONE);
	offset = alloc_slot(1000);
	for (mempool_offset at = offset > 64 << 10 ? offset - (64 << 10) : 4096; at < offset + (64 << 10); at += 4096) {
		if (!is_slot(at))
			continue;
		assert_true(is_mapped(mempool_ptr(pool, at)));
		n++;
	}
	assert_true(n >= 8); /* slabs of small slots are 32 KiB at least */
}

/* ---- realloc ---- */

static void test_realloc_stays_in_its_slot_or_moves(void **state)
{
	mempool_offset offset, other;
	uint64_t small, large;

	(void)state;
	make_slots(MEMPOOL_FILL_PATTERN);
	small = slot_bytes(100);
	large = slot_bytes(5000);
	offset = alloc_slot(100);
	paint(offset, 1, 100);
	assert_true(mempool_realloc(pool, offset, 103) == offset); /* in place, up */
	assert_true(is_filled(offset, 1, 100) && is_filled(offset + 100, 0xCC, 3));
	assert_true(mempool_realloc(pool, offset, 98) == offset); /* and down */
	assert_true(is_filled(offset, 1, 98));
	assert_int_equal(mempool_usable_size(pool, offset), is_guarded ? 98 : 112);
	assert_int_equal(used_now(), small);
	other = mempool_realloc(pool, offset, 5000); /* a larger class */
	assert_true(other && other != offset && is_slot(other));
	assert_true(is_filled(other, 1, 98) && is_filled(other + 112, 0xCC, 5000 - 112));
	assert_int_equal(used_now(), large);
	assert_int_equal(mempool_free(pool, offset), -EALREADY);
	paint(other, 2, 5000);
	offset = mempool_realloc(pool, other, 100); /* and down again */
	assert_true(offset && offset != other && is_filled(offset, 2, 100));
	assert_int_equal(used_now(), small);
	errno = 0;
	assert_true(!mempool_realloc(pool, offset, 0) && errno == EINVAL); /* keeps it */
	errno = 0;
	assert_true(!mempool_realloc(pool, offset + 16, 50) && errno == EFAULT);
	assert_int_equal(mempool_free(pool, offset), 0);
	errno = 0;
	assert_true(!mempool_realloc(pool, offset, 50) && errno == EALREADY);
	check_clean();
}

static void test_realloc_to_an_extent_and_back(void **state)
{
	mempool_offset offset, large;

	(void)state;
	make_slots(MEMPOOL_FILL_PATTERN);
	offset = alloc_slot(1000);
	paint(offset, 3, 1000);
	large = mempool_realloc(pool, offset, 6u << 20); /* above the largest class */
	assert_true(large && !is_slot(large));
	assert_true(is_filled(large, 3, 1000) && is_filled(large + 1024, 0xCC, (6u << 20) - 1024));
	paint(large, 4, 6u << 20);
	large = mempool_realloc(pool, large, 1000); /* in place: it is an extent */
	assert_true(large && is_filled(large, 4, 1000));
	assert_int_equal(mempool_free(pool, large), 0);
	check_clean();
}

static void test_realloc_of_a_slot_with_holds_never_moves(void **state)
{
	mempool_offset offset;

	(void)state;
	make_slots(MEMPOOL_FILL_PATTERN);
	offset = alloc_slot(100);
	paint(offset, 5, 100);
	assert_int_equal(mempool_retain(pool, offset), 0);
	assert_true(mempool_realloc(pool, offset, 102) == offset);
	assert_int_equal(mempool_usable_size(pool, offset), is_guarded ? 102 : 112);
	assert_true(is_filled(offset, 5, 100));
	errno = 0;
	assert_true(!mempool_realloc(pool, offset, 5000) && errno == EBUSY);
	assert_true(is_filled(offset, 5, 100));
	assert_int_equal(mempool_free(pool, offset), 0);
	assert_int_equal(mempool_free(pool, offset), 0);
	assert_int_equal(mempool_free(pool, offset), -EALREADY);
	check_clean();
}

static void test_realloc_of_anothers_slot_is_refused(void **state)
{
	mempool_offset offset;

	(void)state;
	make_slots(MEMPOOL_FILL_PATTERN);
	start_peer(true);
	offset = alloc_slot(100);
	assert_int_equal(tell(DO_REALLOC, offset, 102, NULL), -EPERM);
	assert_int_equal(tell(DO_REALLOC, offset, 5000, NULL), -EPERM);
	assert_int_equal(tell(DO_TAKE, offset, mempool_session(client), NULL), 0);
	assert_int_equal(tell(DO_REALLOC, offset, 5000, NULL), 0);
	end_peer(false);
	check_clean();
}

/* ---- holds ---- */

static void test_published_slot_is_found_by_another_process(void **state)
{
	mempool_offset offset;
	uint64_t small;

	(void)state;
	make_slots(MEMPOOL_FILL_PATTERN);
	small = slot_bytes(100);
	start_peer(true);
	offset = alloc_slot(100);
	paint(offset, 0x77, 100);
	assert_int_equal(mempool_publish(pool, offset, "slot"), 0);
	assert_int_equal(mempool_publish(pool, alloc_slot(100), "slot"), -EEXIST);
	assert_true(ask(DO_FIND, 0, 0, "slot").offset == offset);
	assert_int_equal(tell(DO_READ, offset, 0, NULL), 0x77);
	assert_int_equal(tell(DO_USABLE, offset, 0, NULL), is_guarded ? 100 : 112);
	assert_true(ask(DO_ACQUIRE, 0, 0, "slot").offset == offset);
	assert_int_equal(mempool_free(pool, offset), 0); /* the pool's hold, and the name with it */
	assert_int_equal(tell(DO_FIND, 0, 0, "slot"), -ENOENT);
	assert_int_equal(mempool_free(pool, offset), -EALREADY);
	assert_int_equal(used_now(), 2 * small);
	assert_int_equal(tell(DO_FREE, offset, 0, NULL), 0);
	assert_int_equal(tell(DO_FREE, offset, 0, NULL), -EALREADY);
	assert_int_equal(used_now(), small);
	end_peer(false);
}

static void test_retained_slot_outlives_its_owner(void **state)
{
	mempool_offset offset, lost;
	uint64_t small;

	(void)state;
	make_slots(MEMPOOL_FILL_PATTERN);
	small = slot_bytes(100);
	start_peer(true);
	offset = ask(DO_ALLOC, 0, 100, NULL).offset;
	lost = ask(DO_ALLOC, 0, 100, NULL).offset;
	assert_true(is_slot(offset) && is_slot(lost));
	paint(offset, 0x42, 100);
	assert_int_equal(mempool_retain(pool, offset), -EPERM); /* its owner's plain store could not see us */
	assert_int_equal(tell(DO_RETAIN, offset, 0, NULL), 0);
	assert_int_equal(mempool_retain(pool, offset), 0);
	end_peer(true);
	assert_true(await_used(small));
	assert_true(is_filled(offset, 0x42, 100));
	assert_int_equal(mempool_usable_size(pool, offset), is_guarded ? 100 : 112);
	assert_int_equal(mempool_free(pool, lost), -EALREADY);
	assert_int_equal(mempool_free(pool, offset), 0);
	assert_int_equal(mempool_free(pool, offset), -EALREADY);
	check_clean();
}

static void test_taken_slot_lives_and_dies_with_its_taker(void **state)
{
	mempool_offset mine, theirs;
	uint64_t small;

	(void)state;
	make_slots(MEMPOOL_FILL_PATTERN);
	small = slot_bytes(100);
	start_peer(true);
	mine = alloc_slot(100);
	theirs = ask(DO_ALLOC, 0, 100, NULL).offset;
	assert_int_equal(mempool_take(pool, theirs, mempool_session(client)), -ESTALE);
	assert_int_equal(mempool_take(pool, theirs, peer.session), 0);
	assert_int_equal(mempool_take(pool, theirs, peer.session), -ESTALE);
	assert_int_equal(mempool_take(pool, theirs + 16, peer.session), -ESTALE);
	assert_int_equal(tell(DO_TAKE, mine, mempool_session(client), NULL), 0);
	assert_int_equal(mempool_publish(pool, mine, NULL), -EPERM);
	end_peer(true);
	assert_true(await_used(small)); /* mine died with it, theirs did not */
	assert_int_equal(mempool_take(pool, mine, peer.session), -ESTALE);
	assert_int_equal(mempool_free(pool, theirs), 0);
	check_clean();
}

static int see_session(void *arg, const struct mempool_session_info *info)
{
	*(bool *)arg |= info->session == peer.session;
	return 0;
}

/* Until the daemon knows the peer no more, for at most 10 s. */
static bool await_end(void)
{
	const struct timespec pause = {.tv_nsec = 2000000};

	for (int i = 0; i < 5000; i++) {
		bool is_there = false;

		assert_int_equal(mempool_session_list(client, NULL, see_session, &is_there), 0);
		if (!is_there)
			return true;
		nanosleep(&pause, NULL);
	}
	return false;
}

static void test_pool_keeps_the_slots_of_the_dead(void **state)
{
	mempool_offset offset;

	(void)state;
	lifetime = MEMPOOL_LIFETIME_POOL;
	make_slots(MEMPOOL_FILL_PATTERN);
	lifetime = MEMPOOL_LIFETIME_SESSION;
	start_peer(true);
	offset = ask(DO_ALLOC, 0, 100, NULL).offset;
	paint(offset, 0x21, 100);
	assert_int_equal(tell(DO_FREE, ask(DO_ALLOC, 0, 100, NULL).offset, 0, NULL), 0);
	end_peer(true);
	assert_true(await_end());
	assert_true(is_filled(offset, 0x21, 100));
	assert_int_equal(mempool_usable_size(pool, offset), is_guarded ? 100 : 112);
	assert_int_equal(mempool_publish(pool, offset, "left"), 0);
	assert_int_equal(mempool_free(pool, offset), 0);
	assert_int_equal(mempool_free(pool, offset), -EALREADY);
	check_clean();
}

static void test_slots_outlive_a_killed_daemon(void **state)
{
	mempool_offset live, published, retained, found, offset;
	uint64_t small;

	(void)state;
	make_slots(MEMPOOL_FILL_PATTERN);
	small = slot_bytes(100);
	live = alloc_slot(100);
	published = alloc_slot(100);
	retained = alloc_slot(100);
	assert_int_equal(mempool_publish(pool, published, "kept"), 0);
	assert_int_equal(mempool_retain(pool, retained), 0);
	paint(live, 1, 100);
	paint(published, 2, 100);
	paint(retained, 3, 100);
	daemon_kill(&world);
	for (int i = 0; i < 1000; i++) { /* while it is down */
		offset = mempool_alloc(pool, 100);
		assert_true(offset && !mempool_free(pool, offset));
	}
	assert_int_equal(mempool_free(pool, offset), -EALREADY);
	assert_int_equal(daemon_start(&world, NULL), 0);
	assert_int_equal(mempool_find(pool, "kept", &found), 0);
	assert_true(found == published && used_now() == 3 * small);
	assert_true(is_filled(live, 1, 100) && is_filled(published, 2, 100) && is_filled(retained, 3, 100));
	assert_int_equal(mempool_usable_size(pool, published), is_guarded ? 100 : 112);
	assert_int_equal(mempool_pool_check(pool, stderr), 0);
	assert_int_equal(mempool_free(pool, live), 0);
	assert_int_equal(mempool_free(pool, published), 0);
	assert_int_equal(mempool_free(pool, retained), 0);
	assert_int_equal(mempool_free(pool, retained), 0);
	assert_int_equal(mempool_free(pool, retained), -EALREADY);
	check_clean();
}

/* ---- what is no block ---- */

/* What @free_it answers of an idle slot, of places inside and between slots, and of places outside. */
static void check_wrong_frees(int64_t (*free_it)(mempool_offset offset))
{
	mempool_offset first, second, step;

	first = alloc_slot(1000);
	second = alloc_slot(1000);
	step = first < second ? second - first : first - second;
	assert_int_equal(free_it(first + 1), -EFAULT);
	assert_int_equal(free_it(first + 16), -EFAULT);
	assert_int_equal(free_it(first + step / 2), -EFAULT);
	assert_int_equal(free_it(first + step - 1), -EFAULT);
	assert_int_equal(free_it((uint64_t)POOL_BYTES * 4), -EFAULT);
	assert_int_equal(free_it(UINT64_MAX), -EFAULT);
	assert_int_equal(free_it(8), -EFAULT);
	assert_int_equal(mempool_free(pool, second), 0);
	assert_int_equal(free_it(second), -EALREADY); /* in a magazine */
	assert_int_equal(mempool_usable_size(pool, first), is_guarded ? 1000 : 1024);
	assert_int_equal(free_it(first), 0); /* whosever it is */
	assert_int_equal(free_it(first), -EALREADY);
	assert_int_equal(mempool_free(pool, first), -EALREADY);
}

static int64_t free_here(mempool_offset offset)
{
	return mempool_free(pool, offset);
}

static int64_t free_there(mempool_offset offset)
{
	return tell(DO_FREE, offset, 0, NULL);
}

static void test_double_and_invalid_frees_are_told_to_the_owner(void **state)
{
	(void)state;
	make_slots(MEMPOOL_FILL_PATTERN);
	check_wrong_frees(free_here);
	check_clean();
}

static void test_double_and_invalid_frees_are_told_to_another_process(void **state)
{
	(void)state;
	make_slots(MEMPOOL_FILL_PATTERN);
	start_peer(true);
	check_wrong_frees(free_there);
	end_peer(false);
	check_clean();
}

static void test_double_and_invalid_frees_are_told_by_request(void **state)
{
	(void)state;
	make_slots(MEMPOOL_FILL_PATTERN);
	start_peer(false);
	check_wrong_frees(free_there);
	end_peer(false);
	check_clean();
}

static void test_a_batch_frees_what_it_can(void **state)
{
	const size_t sizes[3] = {100, 200, 6u << 20};
	mempool_offset offsets[6], failed[6];
	size_t n_failed;

	(void)state;
	make_slots(MEMPOOL_FILL_PATTERN);
	assert_int_equal(mempool_alloc_batch(pool, 3, sizes, offsets), 0);
	assert_true(is_slot(offsets[0]) && is_slot(offsets[1]) && !is_slot(offsets[2]));
	offsets[4] = offsets[2];
	offsets[2] = offsets[1] + 16; /* none */
	offsets[3] = offsets[0];      /* twice */
	offsets[5] = offsets[4];      /* twice, and by request */
	assert_int_equal(mempool_free_batch_failed(pool, 6, offsets, failed, &n_failed), -EFAULT);
	assert_int_equal(n_failed, 3);
	assert_memory_equal(failed, ((mempool_offset[]){offsets[2], offsets[3], offsets[5]}), sizeof(failed[0]) * 3);
	assert_int_equal(mempool_free_batch(pool, 6, offsets), -EALREADY);
	assert_int_equal(mempool_free_batch_failed(pool, 6, offsets, NULL, &n_failed), -EINVAL);
	check_clean();
}

/* ---- */

static int begin_plain(void **state)
{
	is_guarded = false;
	return test_begin(state);
}

static int begin_guarded(void **state)
{
	is_guarded = true;
	return test_begin(state);
}

#define BOTH(name)                                                      \
	{#name " (plain)", name, begin_plain, test_end, NULL},          \
	{                                                               \
#name " (guarded)", name, begin_guarded, test_end, NULL \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(test_new_slots_are_filled),
		BOTH(test_pages_of_a_slab_are_there_at_once),
		BOTH(test_realloc_stays_in_its_slot_or_moves),
		BOTH(test_realloc_to_an_extent_and_back),
		BOTH(test_realloc_of_a_slot_with_holds_never_moves),
		BOTH(test_realloc_of_anothers_slot_is_refused),
		BOTH(test_published_slot_is_found_by_another_process),
		BOTH(test_retained_slot_outlives_its_owner),
		BOTH(test_taken_slot_lives_and_dies_with_its_taker),
		BOTH(test_pool_keeps_the_slots_of_the_dead),
		BOTH(test_slots_outlive_a_killed_daemon),
		BOTH(test_double_and_invalid_frees_are_told_to_the_owner),
		BOTH(test_double_and_invalid_frees_are_told_to_another_process),
		BOTH(test_double_and_invalid_frees_are_told_by_request),
		BOTH(test_a_batch_frees_what_it_can),
	};

	return cmocka_run_group_tests(tests, world_begin, world_end);
}
