// SPDX-License-Identifier: MIT
#include "pool/warm.h"

#include <signal.h>

#define PAGE	    4096u
#define WORTH_BYTES (4u << 20) /* of records; below, a thread takes longer than it saves */

static bool is_enough(const struct warm *warm)
{
	return atomic_load_explicit(&warm->is_enough, memory_order_relaxed);
}

static uint64_t n_pages(const struct ledger_table *table)
{
	return (uint64_t)table->n_backed * table->elem_bytes / PAGE;
}

/* The other thread may be writing there: what is read is of no interest. */
__attribute__((no_sanitize("thread"))) static void touch(const struct ledger_table *table, uint64_t page)
{
	(void)*((const volatile uint8_t *)table->base + page * PAGE);
}

/* Records from their end, for recovery reads them from the beginning; then links, which it writes after that. */
static void *run(void *arg)
{
	const struct warm *warm = arg;
	const struct ledger_table *records = &warm->ledger->tables[LEDGER_EXTENTS];
	const struct ledger_table *links = &warm->ledger->tables[LEDGER_LINKS];

	for (uint64_t page = n_pages(records); page && !is_enough(warm); page--)
		touch(records, page - 1);
	for (uint64_t page = 0; page < n_pages(links) && !is_enough(warm); page++)
		touch(links, page);
	return NULL;
}

void warm_begin(struct warm *warm, const struct ledger *ledger)
{
	sigset_t all, old;

	warm->ledger = ledger;
	atomic_init(&warm->is_enough, false);
	if (n_pages(&ledger->tables[LEDGER_EXTENTS]) * PAGE < WORTH_BYTES)
		return;
	sigfillset(&all); /* signals are for the threads that expect them */
	pthread_sigmask(SIG_SETMASK, &all, &old);
	warm->is_running = !pthread_create(&warm->thread, NULL, run, warm);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

void warm_end(struct warm *warm)
{
	if (!warm->is_running)
		return;
	atomic_store_explicit(&warm->is_enough, true, memory_order_relaxed);
	pthread_join(warm->thread, NULL);
	warm->is_running = false;
}
