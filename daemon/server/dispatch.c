// SPDX-License-Identifier: MIT
/*
 * Happy path: bytes -> arena -> table of operations -> handler -> reply packed into the buffer.
 * Failures: what cannot be decoded, or breaks the rules of the connection, is answered once and closed; what asks for
 * something impossible is refused and the connection goes on.
 */
#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/frame.h"
#include "server/request.h"

/* ---- operations ---- */

struct operation {
	const char *name;
	request_handler *run;
	bool is_slow; /* always a job: it creates, destroys, or walks */
};

#define OP(kind) MEMPOOL__WIRE__REQUEST__OP_##kind

static const struct operation operations[] = {
	[OP(HELLO)] = {"Hello", run_hello, false},
	[OP(GOODBYE)] = {"Goodbye", run_goodbye, true},
	[OP(LIVENESS)] = {"Liveness", run_liveness, false},
	[OP(CREATE_POOL)] = {"CreatePool", run_create_pool, true},
	[OP(OPEN_POOL)] = {"OpenPool", run_open_pool, false},
	[OP(CLOSE_POOL)] = {"ClosePool", run_close_pool, false},
	[OP(DESTROY_POOL)] = {"DestroyPool", run_destroy_pool, true},
	[OP(RESIZE_POOL)] = {"ResizePool", run_resize_pool, false},
	[OP(LIST_POOLS)] = {"ListPools", run_list_pools, true},
	[OP(ALLOC)] = {"Alloc", run_alloc, false},
	[OP(FREE)] = {"Free", run_free, false},
	[OP(REALLOC)] = {"Realloc", run_realloc, false},
	[OP(ALLOC_BATCH)] = {"AllocBatch", run_alloc_batch, false},
	[OP(FREE_BATCH)] = {"FreeBatch", run_free_batch, false},
	[OP(PUBLISH)] = {"Publish", run_publish, false},
	[OP(FIND)] = {"Find", run_find, false},
	[OP(RETAIN)] = {"Retain", run_retain, false},
	[OP(TAKE)] = {"Take", run_take, false},
	[OP(INSPECT)] = {"Inspect", run_inspect, false},
	[OP(OPEN_HEAP)] = {"OpenHeap", run_open_heap, false},
	[OP(LEASE_SLABS)] = {"LeaseSlabs", run_lease_slabs, false},
	[OP(RETURN_SLABS)] = {"ReturnSlabs", run_return_slabs, false},
	[OP(STATS)] = {"Stats", run_stats, false},
	[OP(VISUALIZE)] = {"Visualize", run_visualize, true},
	[OP(LIST_EXTENTS)] = {"ListExtents", run_list_extents, true},
	[OP(CHECK)] = {"Check", run_check, true},
	[OP(LIST_SESSIONS)] = {"ListSessions", run_list_sessions, true},
	[OP(DAEMON_INFO)] = {"DaemonInfo", run_daemon_info, false},
	[OP(LOG)] = {"Log", run_log, true},
	[OP(PING)] = {"Ping", run_ping, false},
};

/* ---- answers ---- */

static int pack(struct reply_buffer *out, const Mempool__Wire__Reply *reply)
{
	size_t n_bytes = mempool__wire__reply__get_packed_size(reply);
	uint8_t *message;
	int r;

	r = reply_buffer_frame(out, (uint32_t)n_bytes, &message);
	if (r)
		return r;
	mempool__wire__reply__pack(reply, message);
	return 0;
}

int request_answer(struct request *request)
{
	return pack(request->out, &request->reply);
}

int request_answer_fd(struct request *request, int fd)
{
	size_t fd_at = request->out->n_bytes;
	int r;

	assert(request->out->fd < 0);
	WIRE_SET(&request->reply, n_fds, 1);
	r = request_answer(request);
	if (r) {
		close(fd);
		return r;
	}
	request->out->fd = fd;
	request->out->fd_at = fd_at;
	return 0;
}

static int refuse(struct request *request, int error, char *sentence)
{
	WIRE_SET(&request->reply, status, error);
	request->reply.message = sentence;
	return request_answer(request);
}

int request_refuse(struct request *request, int error, const char *format, ...)
{
	char sentence[SENTENCE_BYTES];
	va_list args;

	va_start(args, format);
	vsnprintf(sentence, sizeof(sentence), format, args);
	va_end(args);
	return refuse(request, error, sentence);
}

static int PRINTF(3, 0) refuse_status(struct request *request, struct status status, const char *format, va_list args)
{
	char sentence[SENTENCE_BYTES], asked[256];

	vsnprintf(asked, sizeof(asked), format, args);
	status_sentence(status, asked, sentence, sizeof(sentence));
	return refuse(request, status.error, sentence);
}

int request_refuse_status(struct request *request, struct status status, const char *format, ...)
{
	va_list args;
	int r;

	va_start(args, format);
	r = refuse_status(request, status, format, args);
	va_end(args);
	return r;
}

int request_refuse_pool(struct request *request, int result, struct pool *pool, const char *format, ...)
{
	struct status status = result < 0 ? status_of_errno(result) : status_of_pool((enum pool_outcome)result);
	char asked[160];
	va_list args;

	if (result == POOL_E_SLOW)
		return DISPATCH_E_SLOW;
	va_start(args, format);
	vsnprintf(asked, sizeof(asked), format, args);
	va_end(args);
	return request_refuse_status(request, status, "%s in %s", asked, pool_label(pool).text);
}

int request_refuse_name(struct request *request, const char *asked, ProtobufCBinaryData name)
{
	char nearest[NAME_BYTES_MAX + 1] = "";

	if (!name_is_valid(name.data, name.len))
		return request_refuse(
			request, -EINVAL,
			"%s: the name is not 1 to %d of [A-Za-z0-9._-], or it is \".\" or \"..\"; choose another",
			asked, NAME_BYTES_MAX);
	registry_suggest(request->dispatch->services->registry, name.data, name.len, nearest);
	if (*nearest)
		return request_refuse(request, -ENOENT, "%s: there is no pool \"%.*s\"; did you mean \"%s\"?", asked,
				      (int)name.len, (const char *)name.data, nearest);
	return request_refuse(request, -ENOENT, "%s: there is no pool \"%.*s\"; create it, or see the list of pools",
			      asked, (int)name.len, (const char *)name.data);
}

struct pool_label pool_label(const struct pool *pool)
{
	const struct pool_options *options = pool_options(pool);
	struct pool_label label;

	if (options->n_name_bytes)
		snprintf(label.text, sizeof(label.text), "pool \"%.*s\"", (int)options->n_name_bytes, options->name);
	else
		snprintf(label.text, sizeof(label.text), "private pool %llu", (unsigned long long)pool_id(pool));
	return label;
}

/*
 * Ids are known from having opened a pool only, so an id that no pool has is one that was destroyed. One that could not be recovered
 * may come back with another start: what its clients have in hand is not to be forgotten.
 */
static int refuse_member(struct request *request, bool has_pool, uint64_t pool)
{
	const char *name = operations[request->wire->op_case].name;
	struct pool *found;
	int r;

	if (!has_pool)
		return request_refuse(request, -EINVAL, "%s: the request names no pool", name);
	r = registry_find_id(request->dispatch->services->registry, pool, &found);
	if (r == REGISTRY_E_UNRECOVERED)
		return request_refuse(request, status_of(r).error, "%s: there is a pool %llu, but %s; %s", name,
				      (unsigned long long)pool, status_of(r).wrong, status_of(r).advice);
	if (r)
		return request_refuse(request, -ESTALE,
				      "%s: pool %llu was destroyed; close it, and create or open another", name,
				      (unsigned long long)pool);
	pool_unref(found);
	return request_refuse(request, -EACCES, "%s: this session has not opened pool %llu; open it first", name,
			      (unsigned long long)pool);
}

/* A worker goes on with what the loop has begun. */
static void begin_call(const struct request *request, struct pool_call *call)
{
	if (!(request->flags & DISPATCH_MAY_BLOCK) || call->id != request->wire->id)
		call->scan = 0;
	call->id = request->wire->id;
	call->acked = request->wire->acked;
}

struct pool_member *request_member(struct request *request, bool has_pool, uint64_t pool, int *rp)
{
	struct pool_member *member = has_pool ? session_member(request->session, pool) : NULL;

	if (member)
		begin_call(request, &member->call);
	if (!member) {
		*rp = refuse_member(request, has_pool, pool);
	} else if (!(request->flags & DISPATCH_MAY_BLOCK) && pool_is_being_checked(member->pool)) {
		*rp = DISPATCH_E_SLOW;
		member = NULL;
	}
	return member;
}

int dispatch_notice(struct reply_buffer *out, int status, const char *sentence)
{
	Mempool__Wire__Reply reply = MEMPOOL__WIRE__REPLY__INIT;

	WIRE_SET(&reply, id, 0);
	WIRE_SET(&reply, status, status);
	reply.message = (char *)(uintptr_t)sentence; /* packed, not kept or changed */
	return pack(out, &reply);
}

/* ---- one request ---- */

static int close_with(struct peer *peer, struct reply_buffer *out, int status, const char *sentence)
{
	int r = dispatch_notice(out, status, sentence);

	log_client(&peer->log, LOG_LEVEL_WARNING, "pid %d (%s): connection closed: %s", peer->identity.pid,
		   peer->identity.command, sentence);
	return r ? r : DISPATCH_E_CLOSE;
}

static uint64_t n_unknown(const Mempool__Wire__Request *wire)
{
	/* Every message begins with its base, and every member of the union is a pointer to a message. */
	const ProtobufCMessage *op = (const ProtobufCMessage *)wire->hello;

	return (uint64_t)wire->base.n_unknown_fields + (op ? op->n_unknown_fields : 0);
}

static const struct operation *operation_of(const Mempool__Wire__Request *wire)
{
	size_t kind = (size_t)wire->op_case;

	return kind < N_ELEMENTS(operations) && operations[kind].run ? &operations[kind] : NULL;
}

static int execute(struct request *request)
{
	const Mempool__Wire__Request *wire = request->wire;
	const struct operation *operation = operation_of(wire);

	if (n_unknown(wire) > DISPATCH_UNKNOWN_MAX)
		return request_refuse(request, -EINVAL,
				      "the request has more than %u fields that this daemon does not know",
				      DISPATCH_UNKNOWN_MAX);
	if (!operation)
		return request_refuse(request, -EINVAL,
				      "the request is of a kind that this daemon does not know, or of none");
	if (!request->session && operation->run != run_hello)
		return request_refuse(request, -EINVAL, "%s: the first request of a connection is Hello",
				      operation->name);
	if (request->session && operation->run == run_hello)
		return request_refuse(request, -EINVAL, "Hello: the session has begun already");
	if (operation->is_slow && !(request->flags & DISPATCH_MAY_BLOCK))
		return DISPATCH_E_SLOW;
	return operation->run(request);
}

/*
 * A pool's own, if the session has it open, so that nobody stands in line in a stranger's. Who makes or ends a pool stands behind
 * nobody in it. Each request that works in one names it alike.
 */
static uint64_t lane_of(const struct request *request)
{
	const ProtobufCMessage *op = (const ProtobufCMessage *)request->wire->hello; /* as in n_unknown() */
	const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field_by_name(op->descriptor, "pool");
	unsigned kind = request->wire->op_case;
	uint64_t pool;

	if (request->lane)
		return request->lane;
	if (!field || field->type != PROTOBUF_C_TYPE_UINT64 || kind == OP(CLOSE_POOL) || kind == OP(DESTROY_POOL))
		return 0;
	pool = *(const uint64_t *)(const void *)((const char *)op + field->offset);
	if (!session_member(request->session, pool))
		return 0;
	return operations[kind].is_slow ? pool | LANE_WALKS : pool;
}

static int decode_and_execute(struct dispatch *dispatch, struct peer *peer, const uint8_t *message, size_t n_bytes,
			      unsigned flags, struct reply_buffer *out)
{
	struct request request = {
		.dispatch = dispatch,
		.peer = peer,
		.session = peer->session,
		.flags = flags,
		.out = out,
		.reply = MEMPOOL__WIRE__REPLY__INIT,
	};
	int r;

	request.wire = mempool__wire__request__unpack(&dispatch->arena->allocator, n_bytes, message);
	if (!request.wire && dispatch->arena->is_exhausted)
		return close_with(peer, out, -E2BIG, "a request needs more memory to decode than the limits allow");
	if (!request.wire)
		return close_with(peer, out, -EBADMSG, "a frame holds no valid request");
	if (request.wire->id <= peer->last_id || request.wire->id > DISPATCH_ID_MAX)
		return close_with(peer, out, -EINVAL, "the ids of requests do not rise from 1 on");
	WIRE_SET(&request.reply, id, request.wire->id);
	WIRE_SET(&request.reply, status, 0);
	r = execute(&request);
	peer->last_op = request.wire->op_case;
	if (r == DISPATCH_E_SLOW)
		peer->lane = lane_of(&request);
	if (r != DISPATCH_E_SLOW && r != DISPATCH_E_LATER)
		peer->last_id = request.is_resume ? 0 : request.wire->id; /* then come the ids that were not answered */
	return r;
}

int dispatch_request(struct dispatch *dispatch, struct peer *peer, const uint8_t *message, size_t n_bytes,
		     unsigned flags, struct reply_buffer *out)
{
	int r;

	assert(out->fd < 0);
	r = decode_and_execute(dispatch, peer, message, n_bytes, flags, out);
	arena_reset(dispatch->arena);
	return r;
}

void peer_deinit(struct peer *peer)
{
	free((void *)(uintptr_t)peer->identity.groups);
	peer->identity.groups = NULL;
	peer->identity.n_groups = 0;
}
