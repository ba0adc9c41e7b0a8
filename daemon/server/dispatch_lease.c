// SPDX-License-Identifier: MIT
/* dispatch_lease - requests about heaps and slabs; what they mean is pool.h's */
#include <errno.h>
#include <fcntl.h>

#include "server/request.h"
#include "server/watch.h"

typedef unsigned long long llu; /* for printf */

/* Without proof of its death nobody could ever take back what it has: the pidfd that is watched, or the lock. */
static bool can_be_seen_to_end(const struct session *session)
{
	return (session->watch && session->watch->pidfd >= 0) || session->liveness.is_confirmed;
}

static int refuse_heap(struct request *request, int result, struct pool *pool)
{
	return request_refuse_pool(request, result, pool, "opening a heap");
}

int run_open_heap(struct request *request)
{
	const Mempool__Wire__OpenHeap *message = request->wire->open_heap;
	Mempool__Wire__HeapReply reply = MEMPOOL__WIRE__HEAP_REPLY__INIT;
	struct pool_member *member;
	uint32_t heap;
	int fd, r = 0;

	member = request_member(request, message->has_pool, message->pool, &r);
	if (!member)
		return r;
	if (!can_be_seen_to_end(request->session))
		return refuse_heap(request, POOL_E_NO_LEASES, member->pool);
	r = pool_open_heap(member, message->marks_foreign, &heap);
	if (r)
		return refuse_heap(request, r, member->pool);
	WIRE_SET(&reply, heap, heap);
	WIRE_SET(&reply, lease_bytes, pool_lease_bytes(member->pool));
	request->reply.result_case = MEMPOOL__WIRE__REPLY__RESULT_HEAP;
	request->reply.heap = &reply;
	if (!message->has_wants_segment || !message->wants_segment)
		return request_answer(request);
	fd = fcntl(pool_lease_fd(member->pool), F_DUPFD_CLOEXEC, 0);
	if (fd >= 0)
		return request_answer_fd(request, fd);
	request->reply.result_case = MEMPOOL__WIRE__REPLY__RESULT__NOT_SET;
	return refuse_heap(request, -errno, member->pool);
}

int run_lease_slabs(struct request *request)
{
	const Mempool__Wire__LeaseSlabs *message = request->wire->lease_slabs;
	Mempool__Wire__SlabsReply reply = MEMPOOL__WIRE__SLABS_REPLY__INIT;
	uint32_t ids[POOL_SLABS_MAX], n;
	struct pool_member *member;
	int r = 0;

	member = request_member(request, message->has_pool, message->pool, &r);
	if (!member)
		return r;
	r = pool_lease_slabs(member, message->heap, message->size_class, message->n_wanted, request->flags, ids, &n);
	if (r == POOL_E_INVALID)
		return request_refuse(
			request, -EINVAL,
			"leasing slabs in %s: heap %u is not this session's, or there is no size class %u",
			pool_label(member->pool).text, message->heap, message->size_class);
	if (r)
		return request_refuse_pool(request, r, member->pool, "leasing slabs of class %u", message->size_class);
	reply.slabs = ids;
	reply.n_slabs = n;
	request->reply.result_case = MEMPOOL__WIRE__REPLY__RESULT_SLABS;
	request->reply.slabs = &reply;
	return request_answer(request);
}

int run_return_slabs(struct request *request)
{
	const Mempool__Wire__ReturnSlabs *message = request->wire->return_slabs;
	struct pool_member *member;
	int r = 0;

	member = request_member(request, message->has_pool, message->pool, &r);
	if (!member)
		return r;
	pool_return_slabs(member, message->n_slabs < DISPATCH_BATCH_MAX ? message->n_slabs : DISPATCH_BATCH_MAX,
			  message->slabs);
	return request_answer(request);
}
