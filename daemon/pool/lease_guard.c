// SPDX-License-Identifier: MIT
/*
 * A client can cut its pool's lease segment short, and a touch of what is gone is a SIGBUS. The handler puts a private zero page
 * there, counts, and goes on; 0 is no word, so that what was read is never taken for a free slot.
 *
 * The handler reads a table that only grows, and takes no lock. An entry is written under the mutex of its pool or while nobody
 * else knows the mapping: `end` and `n_hits` before `begin`, release; it counts while `begin` is not 0. Whoever unmaps has the
 * mutex that every touch needs, so no fault is under way. What is nobody's goes to whoever was there before us.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "pool/lease.h"

#define PAGE	  4096u
#define N_ENTRIES 64u

#define RESERVED 1u /* `begin` of an entry that is being filled: no address */

struct lease_guard {
	_Atomic uintptr_t begin; /* 0: unused */
	_Atomic uintptr_t end;
	_Atomic uint32_t n_hits;
};

struct chunk {
	struct lease_guard entries[N_ENTRIES];
	_Atomic(struct chunk *) next;
};

static struct chunk first;
static struct sigaction before;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* of installing; a leaf */

static struct lease_guard *find(uintptr_t at)
{
	for (struct chunk *chunk = &first; chunk; chunk = atomic_load_explicit(&chunk->next, memory_order_acquire))
		for (unsigned i = 0; i < N_ENTRIES; i++) {
			uintptr_t begin = atomic_load_explicit(&chunk->entries[i].begin, memory_order_acquire);

			if (begin > RESERVED && at >= begin &&
			    at < atomic_load_explicit(&chunk->entries[i].end, memory_order_relaxed))
				return &chunk->entries[i];
		}
	return NULL;
}

static void pass_on(int signal, siginfo_t *info, void *context)
{
	if (before.sa_flags & SA_SIGINFO)
		before.sa_sigaction(signal, info, context);
	else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN)
		before.sa_handler(signal);
	else
		sigaction(signal, &before, NULL); /* the same fault again, and the end */
}

static void sigbus_cb(int signal, siginfo_t *info, void *context)
{
	uintptr_t at = (uintptr_t)info->si_addr;
	struct lease_guard *guard = find(at);
	int saved = errno;
	void *page;

	if (!guard) {
		pass_on(signal, info, context);
		return;
	}
	page = mmap((void *)(at - at % PAGE), PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
		    0);
	if (page == MAP_FAILED) /* UNTESTED: no memory for a page: nothing can be mended */
		sigaction(signal, &before, NULL);
	atomic_fetch_add_explicit(&guard->n_hits, 1, memory_order_release);
	errno = saved;
}

/* Whoever has put another there since is asked next. */
static int install(void)
{
	struct sigaction action = {.sa_sigaction = sigbus_cb, .sa_flags = SA_SIGINFO}, present;
	int r = 0;

	sigemptyset(&action.sa_mask);
	pthread_mutex_lock(&mutex);
	if (sigaction(SIGBUS, NULL, &present))
		r = -errno;
	if (!r && (!(present.sa_flags & SA_SIGINFO) || present.sa_sigaction != sigbus_cb)) {
		before = present;
		if (sigaction(SIGBUS, &action, NULL))
			r = -errno;
	}
	pthread_mutex_unlock(&mutex);
	return r;
}

static struct lease_guard *reserve_in(struct chunk *chunk)
{
	for (unsigned i = 0; i < N_ENTRIES; i++) {
		uintptr_t unused = 0;

		if (atomic_compare_exchange_strong_explicit(&chunk->entries[i].begin, &unused, RESERVED,
							    memory_order_acquire, memory_order_relaxed))
			return &chunk->entries[i];
	}
	return NULL;
}

static struct lease_guard *reserve(void)
{
	struct chunk *chunk = &first, *next, *none;
	struct lease_guard *guard;

	for (;;) {
		guard = reserve_in(chunk);
		if (guard)
			return guard;
		next = atomic_load_explicit(&chunk->next, memory_order_acquire);
		if (!next) {
			next = calloc(1, sizeof(*next));
			none = NULL;
			if (next && !atomic_compare_exchange_strong_explicit(
					    &chunk->next, &none, next, memory_order_acq_rel, memory_order_acquire)) {
				free(next);
				next = none;
			}
		}
		if (!next)
			return NULL;
		chunk = next;
	}
}

int lease_guard_map(struct lease_guard **guardp, int fd, uint64_t n_bytes, uint8_t **mapp)
{
	struct lease_guard *guard;
	void *map;
	int r = install();

	if (r)
		return r;
	guard = reserve();
	if (!guard)
		return -ENOMEM;
	map = mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (map == MAP_FAILED) {
		r = -errno;
		atomic_store_explicit(&guard->begin, 0, memory_order_release);
		return r;
	}
	atomic_store_explicit(&guard->end, (uintptr_t)map + n_bytes, memory_order_relaxed);
	atomic_store_explicit(&guard->n_hits, 0, memory_order_relaxed);
	atomic_store_explicit(&guard->begin, (uintptr_t)map, memory_order_release);
	*guardp = guard;
	*mapp = map;
	return 0;
}

struct lease_guard *lease_guard_unmap(struct lease_guard *guard)
{
	uintptr_t begin;

	if (!guard)
		return NULL;
	begin = atomic_load_explicit(&guard->begin, memory_order_relaxed);
	atomic_store_explicit(&guard->begin, RESERVED, memory_order_release);
	munmap((void *)begin, atomic_load_explicit(&guard->end, memory_order_relaxed) - begin);
	atomic_store_explicit(&guard->begin, 0, memory_order_release);
	return NULL;
}

bool lease_guard_was_hit(const struct lease_guard *guard)
{
	return atomic_load_explicit(&guard->n_hits, memory_order_acquire) > 0;
}
