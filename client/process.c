// SPDX-License-Identifier: MIT
#include "client/process.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "client/lease_map.h"
#include "client/mapping.h"
#include "client/thread.h"

static _Atomic uint64_t *page; /* generation of this process; 0: wiped by a fork */
static uint64_t n_generations;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

/* A child has one thread, and mutexes that another of the parent's may have held: all lists begin anew. */
static void forked(void)
{
	pthread_mutex_init(&mutex, NULL);
	lease_map_forget_all();
	mapping_forget_all();
	thread_forget_all();
}

static int make_page(void)
{
	void *made = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (made == MAP_FAILED)
		return -ENOMEM;
	if (madvise(made, 4096, MADV_WIPEONFORK)) {
		munmap(made, 4096);
		return -ENOMEM;
	}
	if (pthread_atfork(NULL, NULL, forked)) {
		munmap(made, 4096);
		return -ENOMEM;
	}
	page = made;
	return 0;
}

int process_begin(uint64_t *generationp)
{
	int r = 0;

	pthread_mutex_lock(&mutex);
	if (!page)
		r = make_page();
	if (!r && !atomic_load(page))
		atomic_store(page, ++n_generations);
	if (!r)
		*generationp = atomic_load(page);
	pthread_mutex_unlock(&mutex);
	return r;
}

bool process_is(uint64_t generation)
{
	return page && atomic_load_explicit(page, memory_order_relaxed) == generation;
}
