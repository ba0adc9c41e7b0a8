// SPDX-License-Identifier: MIT
#include "client/thread.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TABLE_BYTES (THREAD_SLOTS * sizeof(struct heap *))

static struct heap *_Atomic no_heaps[THREAD_SLOTS]; /* of threads that have none yet; never written */

__thread struct thread thread_self __attribute__((tls_model("initial-exec"))) = {.heaps = no_heaps};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* all below */
static struct thread *threads;				  /* the latest first */
static uint64_t n_threads;				  /* ever */
static void *tables;					  /* of ended threads, empty but for a link in slot 0 */
static uint8_t slots[THREAD_SLOTS]; /* in use; in a forked child also by its parent's handles, which find no heap there */
static uint64_t registered;	    /* generation that has said so to membarrier(2) */
static bool is_visible;		    /* with it, for other processes too */
static bool has_key;
static pthread_key_t key; /* so that a thread's end is noticed */
static void (*on_thread_end)(struct heap *heap);

void thread_lock(void)
{
	pthread_mutex_lock(&mutex);
}

void thread_unlock(void)
{
	pthread_mutex_unlock(&mutex);
}

void thread_forget_all(void)
{
	pthread_mutex_init(&mutex, NULL);
	threads = NULL;
	tables = NULL; /* wiped, links and all */
	registered = 0;
	thread_self.generation = 0;
	thread_self.running = 0;
}

/* ---- a thread's life ---- */

static void unlink_thread(const struct thread *thread)
{
	struct thread **at = &threads;

	while (*at && *at != thread)
		at = &(*at)->next;
	if (*at)
		*at = thread->next;
}

/* The library may be called again, by another destructor: then all begins anew, and this comes again. */
static void end_cb(void *arg)
{
	struct thread *thread = arg;
	void *table = (void *)thread->heaps;

	if (!thread->generation)
		return; /* a forked child's, where nobody knows it */
	thread_lock();
	for (uint32_t slot = 1; slot < THREAD_SLOTS; slot++) {
		struct heap *heap = slots[slot] ? atomic_load(&thread->heaps[slot]) : NULL;

		if (heap) {
			atomic_store(&thread->heaps[slot], NULL);
			on_thread_end(heap);
		}
	}
	unlink_thread(thread);
	thread->generation = 0;
	thread->heaps = no_heaps;
	*(void **)table = tables;
	tables = table;
	thread_unlock();
}

static void *table_new(void)
{
	void *table = tables;

	if (table) {
		tables = *(void **)table;
		*(void **)table = NULL;
		return table;
	}
	table = mmap(NULL, TABLE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (table == MAP_FAILED)
		return NULL;
	if (!madvise(table, TABLE_BYTES, MADV_WIPEONFORK))
		return table;
	munmap(table, TABLE_BYTES);
	return NULL;
}

static int begin_locked(uint64_t generation)
{
	if (!has_key && pthread_key_create(&key, end_cb))
		return -ENOMEM;
	has_key = true;
	if (pthread_setspecific(key, &thread_self))
		return -ENOMEM;
	if (thread_self.heaps == no_heaps) { /* else: a forked child's copy, wiped */
		void *table = table_new();

		if (!table)
			return -ENOMEM;
		thread_self.heaps = table;
	}
	thread_self.generation = generation;
	thread_self.number = ++n_threads;
	thread_self.next = threads;
	threads = &thread_self;
	return 0;
}

int thread_begin(uint64_t generation, void (*on_end)(struct heap *heap))
{
	int r;

	if (thread_self.generation == generation)
		return 0;
	thread_lock();
	on_thread_end = on_end;
	r = begin_locked(generation);
	thread_unlock();
	return r;
}

/* ---- slots ---- */

static int membarrier(int command)
{
	return (int)syscall(SYS_membarrier, command, 0, 0);
}

bool thread_is_visible(void)
{
	return is_visible;
}

uint32_t thread_slot_take(uint64_t generation)
{
	if (registered != generation) {
		if (membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED))
			return 0;
		registered = generation;
		is_visible = !membarrier(MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED);
	}
	for (uint32_t slot = 1; slot < THREAD_SLOTS; slot++) {
		if (!slots[slot]) {
			slots[slot] = 1;
			return slot;
		}
	}
	return 0;
}

void thread_slot_give(uint32_t slot)
{
	slots[slot] = 0;
}

/* ---- closing ---- */

void thread_take_heaps(uint32_t slot)
{
	for (struct thread *thread = threads; thread; thread = thread->next)
		atomic_store(&thread->heaps[slot], NULL);
}

/* Once is enough of each thread, or one that comes and goes might be waited for again and again. @leftp: the latest that is left */
static bool somebody_is_in(uint32_t slot, uint64_t *leftp)
{
	const struct thread *thread;

	thread_lock();
	for (thread = threads; thread; thread = thread->next)
		if (thread->number <= *leftp && atomic_load_explicit(&thread->running, memory_order_acquire) == slot)
			break;
	*leftp = thread ? thread->number : 0;
	thread_unlock();
	return thread;
}

void thread_wait_outside(uint32_t slot)
{
	uint64_t left = UINT64_MAX;

	(void)membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED); /* was registered: does not fail */
	/* Nobody waits for anything while inside, so this is soon over. */
	while (somebody_is_in(slot, &left))
		sched_yield();
}
