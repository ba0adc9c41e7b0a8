#pragma once
// SPDX-License-Identifier: MIT
/*
 * heaps - a session's heaps in one pool, one for each of its threads, over the leases that the daemon gives
 *
 * All handles of a session on a pool share one. A thread that ends leaves its heap to the session's next; the daemon's number
 * stays with the heap. Nobody waits for the daemon while inside a heap.
 */
#include "client/client.h"
#include "client/heap.h"
#include "client/thread.h"

struct heaps;

/**
 * heaps_open() - the session's heaps in a pool, counted: heaps_close() each
 * @data, @data_bytes: the data's mapping, which is there while a call is under way that comes here
 * Return: NULL: there can be none, and everything goes by request
 */
struct heaps *heaps_open(struct mempool_client *client, uint64_t pool, uint8_t *data, uint64_t data_bytes);
/** heaps_close() - with the last: what the threads cache goes back to the pool; blocks stay */
void heaps_close(struct heaps *heaps);
/** heaps_slot() - for thread_enter() */
uint32_t heaps_slot(const struct heaps *heaps);
/**
 * heaps_end() - the session is over, or about to be: nobody gets into a heap of it any more. Waits for those who are, which is
 * soon over; the caller may hold any lock but thread_lock()
 */
void heaps_end(struct mempool_client *client);

/* All return as the calls of heap.h do, HEAP_E_REQUEST where there is no heap; or a negative errno of a request, its sentence set. */
int heaps_alloc(struct heaps *heaps, uint32_t size_class, uint64_t *offsetp) MUST_CHECK;
/** heaps_alloc_prepared() - the same, of a class up to SIZE_CLASS_CUT_MAX; @prepare: does something to the slot before it is live */
int heaps_alloc_prepared(struct heaps *heaps, uint32_t size_class, void (*prepare)(void *arg, uint64_t slot), void *arg,
			 uint64_t *offsetp) MUST_CHECK;
/** heaps_free() - @waitsp: as of client_free() */
int heaps_free(struct heaps *heaps, uint64_t offset, bool *waitsp) MUST_CHECK;
int heaps_take(struct heaps *heaps, uint64_t offset, uint64_t session) MUST_CHECK;
/** heaps_look() - at a live slot that has no record. @sessionp: whose it is */
int heaps_look(struct heaps *heaps, uint64_t offset, uint64_t *bytesp, uint64_t *sessionp) MUST_CHECK;
/**
 * heaps_flush() - what all threads of this process cache, for memory is short; they are kept out meanwhile
 * Return: whether anything may have been cached
 */
bool heaps_flush(struct heaps *heaps);
