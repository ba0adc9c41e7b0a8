// SPDX-License-Identifier: MIT
/*
 * Happy path: after a few calls in a pool a thread asks for a heap number, and with the session's first comes the lease segment; then
 * the thread's table leads to its heap. Failures: no leases here (small or `lease off` pools): never asked again; no
 * number left: asked again after a while; meanwhile everything goes by request. On close: the heaps are taken out of the tables,
 * threads inside are waited for, then the closer alone has them; where others have handles, the threads find their heaps again.
 */
#include "client/heaps.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

#include "client/mapping.h"

/*
 * Long ways through a pool until a heap number is asked for: at first, so that a program with a handful of blocks leaves no slabs behind
 * it and its map shows each block; and again where none was left. Simply picked.
 */
#define NUMBERS_FIRST 32u
#define NUMBERS_WAIT  256u

struct seat {		  /* a heap, and who is on it */
	struct heap heap; /* first: tables lead here */
	struct heaps *heaps;
	struct seat *next;
	bool is_free;
};

struct heaps {
	struct heaps *next;
	struct mempool_client *client; /* not counted: it outlives this */
	uint64_t pool, data_bytes;
	uint8_t *_Atomic data;
	uint32_t slot;
	/* by thread_lock() */
	uint32_t n_handles;
	uint32_t n_closers;   /* who wait until nobody is inside, and look at this again then */
	struct lease_map map; /* base NULL: none yet */
	struct seat *seats;
	bool is_cleared;	 /* somebody has emptied the tables, for a moment: who comes waits */
	bool is_flushing;	 /* and flushes all seats, or is about to */
	bool is_over;		 /* the session or the pool is, or nobody ever had a heap here */
	_Atomic bool is_refused; /* no leases here, ever */
	_Atomic uint32_t wait;	 /* before a number is asked for again */
};

/* ---- open and close ---- */

static struct heaps *heaps_new(struct mempool_client *client, uint64_t pool, uint64_t data_bytes)
{
	struct heaps *heaps = calloc(1, sizeof(*heaps));

	if (!heaps)
		return NULL;
	heaps->slot = thread_slot_take(client->generation);
	if (!heaps->slot) {
		free(heaps);
		return NULL;
	}
	heaps->client = client;
	heaps->pool = pool;
	heaps->data_bytes = data_bytes;
	atomic_init(&heaps->wait, NUMBERS_FIRST);
	heaps->next = client->heaps;
	client->heaps = heaps;
	return heaps;
}

static void free_seats(struct heaps *heaps)
{
	for (struct seat *seat = heaps->seats, *next; seat; seat = next) {
		next = seat->next;
		heap_deinit(&seat->heap);
		free(seat);
	}
	heaps->seats = NULL;
}

static bool is_destroyed(const struct heaps *heaps)
{
	return heaps->map.base &&
	       atomic_load_explicit(&heaps->map.header->flags, memory_order_relaxed) & LEASE_DESTROYED;
}

/* With the lock; nobody is inside, nor comes. What is cached is the daemon's to reclaim, or nobody's. */
static void drop_seats(struct heaps *heaps)
{
	free_seats(heaps);
	lease_map_close(&heaps->map);
}

/* With the lock. */
static bool is_unused(const struct heaps *heaps)
{
	return !heaps->n_handles && !heaps->n_closers;
}

static void heaps_free_all(struct heaps *heaps)
{
	struct heaps **at = &heaps->client->heaps;

	while (*at != heaps)
		at = &(*at)->next;
	*at = heaps->next;
	drop_seats(heaps);
	thread_slot_give(heaps->slot);
	free(heaps);
}

/* With the lock. Nobody has a handle. Other sessions may want what is cached; a later open finds the numbers again. */
static void settle(struct heaps *heaps)
{
	for (struct seat *seat = heaps->seats; seat; seat = seat->next) {
		heap_flush(&seat->heap);
		seat->is_free = true;
	}
	heaps->is_over |= !heaps->seats || is_destroyed(heaps);
}

/* With the lock. Pools that were destroyed after their last handle was closed. */
static void drop_destroyed(struct mempool_client *client)
{
	for (struct heaps *heaps = client->heaps, *next; heaps; heaps = next) {
		next = heaps->next;
		if (is_unused(heaps) && is_destroyed(heaps))
			heaps_free_all(heaps);
	}
}

struct heaps *heaps_open(struct mempool_client *client, uint64_t pool, uint8_t *data, uint64_t data_bytes)
{
	struct heaps *heaps;

	thread_lock();
	drop_destroyed(client);
	for (heaps = client->heaps; heaps; heaps = heaps->next)
		if (heaps->pool == pool && heaps->data_bytes == data_bytes && !heaps->is_over)
			break;
	if (!heaps)
		heaps = heaps_new(client, pool, data_bytes);
	if (heaps) {
		heaps->n_handles++;
		atomic_store(&heaps->data, data); /* another mapping than before, if all handles had been closed */
	}
	thread_unlock();
	return heaps;
}

/* For what another thread is about to end. */
static void let_others_run(void)
{
	thread_unlock();
	sched_yield();
	thread_lock();
}

/*
 * With the lock, which is let go meanwhile: nobody is inside, nor comes in until come_back(). To look for a moment at which nobody is
 * inside, and to keep nobody out, might take for ever: on a busy machine threads are put to sleep inside most of the time.
 */
static void clear(struct heaps *heaps)
{
	heaps->n_closers++;
	while (heaps->is_cleared)
		let_others_run();
	heaps->is_cleared = true;
	thread_take_heaps(heaps->slot);
	thread_unlock();
	thread_wait_outside(heaps->slot);
	thread_lock();
	heaps->n_closers--;
}

/* With the lock. Whoever comes first has whichever seat. */
static void come_back(struct heaps *heaps)
{
	for (struct seat *seat = heaps->is_over ? NULL : heaps->seats; seat; seat = seat->next)
		seat->is_free = true;
	heaps->is_cleared = false;
}

/* In a forked child, of its parent's. Until the last handle is closed the slot is no other pool's: the handles would lead there. */
static void forget(struct heaps *heaps)
{
	bool is_last;

	thread_lock();
	is_last = !--heaps->n_handles;
	if (is_last)
		thread_slot_give(heaps->slot);
	thread_unlock();
	if (!is_last)
		return;
	heaps->map = (struct lease_map){0}; /* not mapped here */
	free_seats(heaps);
	free(heaps);
}

void heaps_close(struct heaps *heaps)
{
	if (!heaps)
		return;
	if (!process_is(heaps->client->generation)) {
		forget(heaps);
		return;
	}
	thread_lock();
	heaps->n_handles--;
	clear(heaps); /* who got in by a handle looks at it until outside, also where others have handles */
	if (!heaps->n_handles && !heaps->is_over) /* nobody has opened it again meanwhile, nor has the session ended */
		settle(heaps);
	come_back(heaps);
	if (heaps->is_over && is_unused(heaps))
		heaps_free_all(heaps);
	thread_unlock();
}

uint32_t heaps_slot(const struct heaps *heaps)
{
	return heaps ? heaps->slot : 0;
}

/* With the lock. */
static struct heaps *next_to_end(const struct mempool_client *client)
{
	struct heaps *heaps = client->heaps;

	while (heaps && heaps->is_over)
		heaps = heaps->next;
	return heaps;
}

void heaps_end(struct mempool_client *client)
{
	struct heaps *heaps;

	thread_lock();
	while ((heaps = next_to_end(client))) {
		heaps->is_over = true; /* who comes from now on finds no heap */
		clear(heaps);
		drop_seats(heaps);
		come_back(heaps);
		if (is_unused(heaps))
			heaps_free_all(heaps);
	}
	thread_unlock();
}

/* ---- the way in ---- */

/* With the lock. The next thread finds what was cached given back, and the number free. */
static void leave_seat(struct heap *heap)
{
	struct seat *seat = (struct seat *)heap;

	heap_flush(heap);
	seat->is_free = true;
}

static void sit(struct seat *seat)
{
	seat->is_free = false;
	atomic_store_explicit(&thread_self.heaps[seat->heaps->slot], &seat->heap, memory_order_release);
}

static bool sit_on_free(struct heaps *heaps)
{
	struct seat *seat = heaps->seats;

	while (seat && !seat->is_free)
		seat = seat->next;
	if (seat)
		sit(seat);
	return seat;
}

static int ask_number(struct heaps *heaps, bool wants_segment, struct call *call)
{
	Mempool__Wire__OpenHeap open = MEMPOOL__WIRE__OPEN_HEAP__INIT;
	int r;
	REQUEST(request, OPEN_HEAP, open_heap, open);

	SET(open, pool, heaps->pool);
	SET(open, wants_segment, wants_segment);
	SET(open, marks_foreign, thread_is_visible());
	r = client_call(heaps->client, &request, heaps->pool, "the first call of a thread in a pool", call);
	if (r)
		return r;
	if (call->reply->result_case == MEMPOOL__WIRE__REPLY__RESULT_HEAP && call->reply->heap &&
	    (!wants_segment || call->fd >= 0))
		return 0;
	call_deinit(call);
	return error_set(-EPROTO, "the first call of a thread in a pool: the daemon answered without a heap");
}

/* With the lock. */
static int add_seat(struct heaps *heaps, const struct call *call)
{
	uint32_t number = call->reply->heap->heap;
	struct seat *seat;
	int r = 0;

	if (heaps->is_over)
		return HEAP_E_REQUEST;
	if (!heaps->map.base)
		r = call->fd < 0 ? HEAP_E_REQUEST
				 : lease_map_open(&heaps->map, call->fd, call->reply->heap->lease_bytes);
	if (r)
		return r == HEAP_E_REQUEST ? r : error_set(r, "the lease segment of a pool cannot be mapped");
	if (!number || number >= heaps->map.n_heaps)
		return error_set(-EPROTO, "the daemon gave a heap number that the lease segment has no room for");
	seat = malloc(sizeof(*seat));
	if (!seat)
		return error_set(-ENOMEM, "alloc or free: this process is out of memory");
	heap_init(&seat->heap, &heaps->map, number, heaps->data_bytes);
	seat->heaps = heaps;
	seat->next = heaps->seats;
	heaps->seats = seat;
	seat->is_free = heaps->is_cleared; /* then nobody comes in at this moment */
	if (!seat->is_free)
		sit(seat);
	return 0;
}

static bool must_wait(struct heaps *heaps)
{
	uint32_t wait = atomic_load(&heaps->wait);

	while (wait && !atomic_compare_exchange_weak(&heaps->wait, &wait, wait - 1))
		;
	return wait;
}

static int ask_seat(struct heaps *heaps, bool wants_segment)
{
	struct call call;
	int r;

	if (must_wait(heaps))
		return HEAP_E_REQUEST;
	r = ask_number(heaps, wants_segment, &call);
	if (r == -EOPNOTSUPP)
		heaps->is_refused = true;
	else if (r)
		atomic_store(&heaps->wait, NUMBERS_WAIT);
	if (r)
		return r == -ETIMEDOUT || r == -EHOSTDOWN || r == -ENOTCONN || r == -ECHILD ? r : HEAP_E_REQUEST;
	thread_lock();
	r = add_seat(heaps, &call);
	thread_unlock();
	call_deinit(&call);
	if (r == -EPROTO)
		heaps->is_refused = true; /* a lease segment of another version stays one: all goes by request */
	else if (r < 0)
		atomic_store(&heaps->wait, NUMBERS_WAIT); /* by request it may go well */
	return r < 0 ? HEAP_E_REQUEST : r;
}

/* @may_ask: the daemon */
static int find_seat(struct heaps *heaps, bool may_ask)
{
	bool is_refused, is_first, found = false;

	if (!process_is(heaps->client->generation) || thread_begin(heaps->client->generation, leave_seat))
		return HEAP_E_REQUEST; /* which says what is wrong */
	thread_lock();
	while (heaps->is_cleared && !heaps->is_over)
		let_others_run();
	is_refused = heaps->is_refused || heaps->is_over;
	is_first = !heaps->map.base;
	if (!is_refused)
		found = sit_on_free(heaps);
	thread_unlock();
	if (is_refused || (!found && !may_ask))
		return HEAP_E_REQUEST;
	return found ? 0 : ask_seat(heaps, is_first);
}

/* Return: 0: inside, thread_leave() later; else outside */
static int enter_with(struct heaps *heaps, bool may_ask, struct heap **heapp)
{
	int r;

	if (!heaps)
		return HEAP_E_REQUEST;
	*heapp = thread_enter(heaps->slot);
	if (*heapp)
		return 0;
	thread_leave();
	r = find_seat(heaps, may_ask);
	if (r)
		return r;
	*heapp = thread_enter(heaps->slot);
	if (*heapp)
		return 0;
	thread_leave(); /* closed meanwhile */
	return HEAP_E_REQUEST;
}

static int enter(struct heaps *heaps, struct heap **heapp)
{
	return enter_with(heaps, true, heapp);
}

/* ---- leases ---- */

static int ask_slabs(struct heaps *heaps, uint32_t number, uint32_t size_class, uint32_t n_wanted, struct call *call)
{
	Mempool__Wire__LeaseSlabs lease = MEMPOOL__WIRE__LEASE_SLABS__INIT;
	int r;
	REQUEST(request, LEASE_SLABS, lease_slabs, lease);

	SET(lease, pool, heaps->pool);
	SET(lease, heap, number);
	SET(lease, size_class, size_class);
	SET(lease, n_wanted, n_wanted);
	r = client_call(heaps->client, &request, heaps->pool, "alloc", call);
	if (!r && (call->reply->result_case != MEMPOOL__WIRE__REPLY__RESULT_SLABS || !call->reply->slabs ||
		   !call->reply->slabs->n_slabs)) {
		call_deinit(call);
		r = error_set(-EPROTO, "alloc: the daemon answered without slabs");
	}
	return r;
}

/* Slabs are backed as a whole when they are granted. */
static void touch_slab(const struct heaps *heaps, const struct lease_slab *slab)
{
	uint64_t n_bytes = (uint64_t)LEASE_FIELD(slab->n_slots) * LEASE_FIELD(slab->slot_bytes);

	if (n_bytes <= SIZE_CLASS_BYTES_MAX) /* else it is none that the daemon made */
		mapping_touch(atomic_load(&heaps->data), heaps->data_bytes, LEASE_FIELD(slab->base), n_bytes);
}

static void touch(const struct heaps *heaps, size_t n, const uint32_t ids[])
{
	for (size_t i = 0; i < n; i++)
		if (ids[i] < heaps->map.n_slabs)
			touch_slab(heaps, &heaps->map.slabs[ids[i]]);
}

/* Return: 0: there may be slots now; HEAP_E_REQUEST, or the request's error if another request would meet the same */
static int lease(struct heaps *heaps, uint32_t number, uint32_t size_class, uint32_t n_wanted)
{
	struct call call;
	struct heap *heap;
	int asked = ask_slabs(heaps, number, size_class, n_wanted, &call);
	int r = asked == -ETIMEDOUT || asked == -EHOSTDOWN || asked == -ENOTCONN ? asked : 0;

	if (!r)
		r = enter(heaps, &heap);
	if (!r) {
		if (asked)
			heap_refused(heap, size_class);
		else
			heap_grant(heap, size_class, (uint32_t)call.reply->slabs->n_slabs, call.reply->slabs->slabs);
		if (!asked) /* inside: meanwhile nobody unmaps what is looked at */
			touch(heaps, call.reply->slabs->n_slabs, call.reply->slabs->slabs);
		thread_leave();
	}
	if (!asked)
		call_deinit(&call);
	return r;
}

/* A hint for the daemon, which is lost at no loss. Return: 0, -errno */
static int tell_returns(struct heaps *heaps, uint32_t n, uint32_t ids[])
{
	Mempool__Wire__ReturnSlabs give = MEMPOOL__WIRE__RETURN_SLABS__INIT;
	REQUEST(request, RETURN_SLABS, return_slabs, give);

	SET(give, pool, heaps->pool);
	give.n_slabs = n;
	give.slabs = ids;
	return client_do(heaps->client, &request, heaps->pool, "return of slabs");
}

/* ---- calls ---- */

static int alloc_prepared(struct heap *heap, uint32_t size_class, void (*prepare)(void *arg, uint64_t slot), void *arg,
			  uint64_t *offsetp)
{
	int r = heap_fill(heap, size_class, offsetp);

	if (r)
		return r;
	prepare(arg, *offsetp);
	*offsetp = heap_pop(heap, size_class);
	return 0;
}

int heaps_alloc(struct heaps *heaps, uint32_t size_class, uint64_t *offsetp)
{
	return heaps_alloc_prepared(heaps, size_class, NULL, NULL, offsetp);
}

int heaps_alloc_prepared(struct heaps *heaps, uint32_t size_class, void (*prepare)(void *arg, uint64_t slot), void *arg,
			 uint64_t *offsetp)
{
	for (unsigned attempt = 0;; attempt++) {
		uint32_t n_wanted, number;
		struct heap *heap;
		int r = enter(heaps, &heap);

		if (r)
			return r;
		r = prepare ? alloc_prepared(heap, size_class, prepare, arg, offsetp)
			    : heap_alloc(heap, size_class, offsetp);
		n_wanted = r == HEAP_E_EMPTY && attempt < 2 ? heap_wants(heap, size_class) : 0;
		number = heap->number;
		thread_leave();
		if (r != HEAP_E_EMPTY)
			return r;
		if (!n_wanted)
			return HEAP_E_REQUEST;
		r = lease(heaps, number, size_class, n_wanted);
		if (r)
			return r;
	}
}

int heaps_free(struct heaps *heaps, uint64_t offset, bool *waitsp)
{
	uint32_t ids[HEAP_RETURNS], n;
	struct heap *heap;
	int r = enter_with(heaps, *waitsp, &heap);

	if (r) {
		*waitsp &= !client_is_silent(r);
		return HEAP_E_REQUEST; /* which is queued where this was not, and so is done */
	}
	r = heap_free(heap, offset);
	n = *waitsp ? heap_returns(heap, ids) : 0;
	thread_leave();
	if (n)
		*waitsp = !client_is_silent(tell_returns(heaps, n, ids));
	return r;
}

int heaps_take(struct heaps *heaps, uint64_t offset, uint64_t session)
{
	struct heap *heap;
	int r = enter(heaps, &heap);

	if (r)
		return r;
	r = heap_take(heap, offset, session);
	thread_leave();
	return r;
}

int heaps_look(struct heaps *heaps, uint64_t offset, uint64_t *bytesp, uint64_t *sessionp)
{
	struct heap *heap;
	int r = enter(heaps, &heap);

	if (r)
		return r;
	r = heap_look(heap, offset, bytesp, sessionp);
	thread_leave();
	return r;
}

/* With the lock, which is let go meanwhile. */
static void flush_all(struct heaps *heaps)
{
	heaps->is_flushing = true;
	clear(heaps);
	for (struct seat *seat = heaps->is_over ? NULL : heaps->seats; seat; seat = seat->next)
		heap_flush(&seat->heap);
	come_back(heaps);
	heaps->is_flushing = false;
}

bool heaps_flush(struct heaps *heaps)
{
	bool had_some;

	if (!heaps || !process_is(heaps->client->generation))
		return false;
	thread_lock();
	had_some = heaps->seats;
	if (had_some && !heaps->is_flushing)
		flush_all(heaps);
	while (heaps->is_flushing) /* another's, which is soon over, does as well */
		let_others_run();
	thread_unlock();
	return had_some;
}
