// SPDX-License-Identifier: MIT
/* dispatch_pool - requests that make, find, change and remove pools */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/request.h"

#define LIST_POOLS_MAX 512u /* of about 120 bytes on the wire each */

static struct registry *registry_of(const struct request *request)
{
	return request->dispatch->services->registry;
}

/* ---- what a pool looks like on the wire ---- */

void pool_info_fill(Mempool__Wire__PoolInfo *info, struct pool *pool, const struct pool_stats *stats)
{
	const struct pool_options *options = pool_options(pool);

	*info = (Mempool__Wire__PoolInfo)MEMPOOL__WIRE__POOL_INFO__INIT;
	WIRE_SET(info, pool, pool_id(pool));
	if (options->n_name_bytes)
		WIRE_SET(info, name, wire_bytes(options->name, options->n_name_bytes));
	WIRE_SET(info, total, stats->total);
	WIRE_SET(info, max_size, options->max_size);
	WIRE_SET(info, used, stats->used);
	WIRE_SET(info, allocations, stats->allocations);
	WIRE_SET(info, sessions, stats->sessions);
	WIRE_SET(info, created, pool_created_s(pool));
	WIRE_SET(info, uid, options->uid);
	WIRE_SET(info, gid, options->gid);
	WIRE_SET(info, mode, options->mode);
	WIRE_SET(info, lifetime, (Mempool__Wire__Lifetime)options->lifetime);
	WIRE_SET(info, fill, (Mempool__Wire__Fill)options->fill);
	WIRE_SET(info, lease, (Mempool__Wire__Lease)options->lease);
	WIRE_SET(info, guard, options->guard);
	WIRE_SET(info, reserve, options->reserve);
}

static int answer_pool(struct request *request, struct pool *pool, int fd)
{
	Mempool__Wire__PoolReply reply = MEMPOOL__WIRE__POOL_REPLY__INIT;
	Mempool__Wire__PoolInfo info;
	struct pool_stats stats;

	pool_stats(pool, &stats);
	pool_info_fill(&info, pool, &stats);
	reply.info = &info;
	WIRE_SET(&reply, first, POOL_FIRST);
	WIRE_SET(&reply, segment_bytes, pool_segment_bytes(pool));
	request->reply.result_case = MEMPOOL__WIRE__REPLY__RESULT_POOL;
	request->reply.pool = &reply;
	return fd < 0 ? request_answer(request) : request_answer_fd(request, fd);
}

/* Join and answer with the data segment: last step of create and open. The descriptor first, for it is what can fail. */
static int join(struct request *request, struct pool *pool, int *fdp)
{
	struct pool_member *member;
	int fd, r;

	fd = fcntl(pool_data_fd(pool), F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	r = session_join(request->session, pool, &member);
	if (r) {
		close(fd);
		return r;
	}
	*fdp = fd;
	return 0;
}

/* ---- create ---- */

static bool may_give_to_group(const struct pool_identity *who, uint32_t gid)
{
	if (!who->uid || who->gid == gid)
		return true;
	for (uint32_t i = 0; i < who->n_groups; i++)
		if (who->groups[i] == gid)
			return true;
	return false;
}

/* Return: NULL, or what is wrong with the request. */
static const char *options_from(const Mempool__Wire__CreatePool *create, const struct pool_identity *who,
				struct pool_options *options)
{
	*options = (struct pool_options){
		.size = create->size,
		.max_size = create->max_size ? create->max_size : create->size,
		.uid = who->uid,
		.gid = create->has_gid ? create->gid : who->gid,
		.mode = create->mode ? create->mode : 0600,
		.lifetime = (uint32_t)create->lifetime,
		.fill = (uint32_t)create->fill,
		.lease = (uint32_t)create->lease,
		.guard = create->guard,
		.reserve = create->reserve,
	};
	if (create->has_name) {
		if (!name_is_valid(create->name.data, create->name.len))
			return "the name is not 1 to 64 of [A-Za-z0-9._-], or it is \".\" or \"..\"; choose another";
		memcpy(options->name, create->name.data, create->name.len);
		options->n_name_bytes = (uint32_t)create->name.len;
	}
	if (!options->size)
		return "a pool of size 0 could hold nothing; give a size";
	if (options->max_size < options->size)
		return "max_size is below size; give at least the size, or leave it out";
	if (options->mode > 0777)
		return "the mode has bits that files do not have; use 0600 to 0777";
	if (options->lifetime > MEMPOOL__WIRE__LIFETIME__LIFETIME_POOL ||
	    options->fill > MEMPOOL__WIRE__FILL__FILL_ZERO || options->lease > MEMPOOL__WIRE__LEASE__LEASE_OFF)
		return "lifetime, fill or lease has a value that this daemon does not know; upgrade it";
	return NULL;
}

static struct registry_call call_of(const struct request *request)
{
	return (struct registry_call){.slot = request->session->slot,
				      .session = request->session->identity.session,
				      .request = request->wire->id};
}

/* A pool that was made for this request before: it is opened, and its descriptor sent, again. */
static int join_again(struct request *request, const struct directory_answer *answer, struct pool **poolp, int *fdp)
{
	struct pool *pool;
	int r;

	if (answer->outcome)
		return answer->outcome;
	r = registry_find_id(registry_of(request), answer->pool, &pool);
	if (r)
		return r == REGISTRY_E_UNRECOVERED ? r : POOL_E_DESTROYED + REGISTRY_POOL_E;
	r = join(request, pool, fdp);
	if (r)
		pool_unref(pool);
	else
		*poolp = pool;
	return r;
}

static int create_and_join(struct request *request, const struct pool_options *options, struct pool **poolp, int *fdp)
{
	const struct registry_call call = call_of(request);
	struct directory_answer answer;
	struct pool_warning warning;
	struct pool *pool;
	int r;

	if (request->session->n_memberships == request->session->n_alloced) {
		r = session_make_room(request->session);
		if (r)
			return r;
	}
	if (registry_answered(registry_of(request), &call, &answer))
		return join_again(request, &answer, poolp, fdp);
	r = registry_create(registry_of(request), options, &call, &pool);
	if (r)
		return r;
	r = join(request, pool, fdp);
	if (r) {
		int ignored = registry_remove(registry_of(request), pool, false, NULL,
					      &warning); /* somebody else was faster */

		(void)ignored;
		registry_answer(registry_of(request), &call, r);
		pool_unref(pool);
		return r;
	}
	*poolp = pool;
	return 0;
}

int run_create_pool(struct request *request)
{
	const struct pool_identity *who = &request->session->identity;
	struct pool_options options;
	const char *wrong = options_from(request->wire->create_pool, who, &options);
	struct pool *pool;
	int fd = -1, r;

	if (wrong)
		return request_refuse(request, -EINVAL, "creating a pool: %s", wrong);
	if (!may_give_to_group(who, options.gid))
		return request_refuse(request, -EACCES,
				      "creating a pool: you are not a member of group %u; choose one of yours",
				      options.gid);
	r = create_and_join(request, &options, &pool, &fd);
	if (r)
		return request_refuse_status(request, status_of(r), "creating %s%.*s%s of %s",
					     options.n_name_bytes ? "pool \"" : "a private pool",
					     (int)options.n_name_bytes, options.name, options.n_name_bytes ? "\"" : "",
					     size_text(options.size).text);
	r = answer_pool(request, pool, fd);
	pool_unref(pool);
	return r;
}

/* ---- find ---- */

/* As request_refuse_pool(), where the pool itself is what was asked for, and nothing in it. */
static int refuse_pool(struct request *request, int result, struct pool *pool, const char *asked)
{
	struct status status = result < 0 ? status_of_errno(result) : status_of_pool((enum pool_outcome)result);

	if (result == POOL_E_SLOW)
		return DISPATCH_E_SLOW;
	return request_refuse_status(request, status, "%s %s", asked, pool_label(pool).text);
}

/* By name, or by id. A private pool is there for those who have it open only. Return: 0; REGISTRY_E_NO_POOL, _UNRECOVERED */
static int find(struct request *request, bool has_name, ProtobufCBinaryData name, uint64_t id, struct pool **poolp)
{
	struct pool *pool;
	int r;

	if (has_name) {
		if (!name_is_valid(name.data, name.len))
			return REGISTRY_E_NO_POOL;
		return registry_find(registry_of(request), name.data, name.len, poolp);
	}
	r = registry_find_id(registry_of(request), id, &pool);
	if (r)
		return r;
	if (pool_is_private(pool) && !session_member(request->session, id)) {
		pool_unref(pool);
		return REGISTRY_E_NO_POOL;
	}
	*poolp = pool;
	return 0;
}

static int refuse_find(struct request *request, int result, const char *asked, bool has_name, ProtobufCBinaryData name,
		       bool has_id, uint64_t id)
{
	struct status status = status_of(result);

	if (result == REGISTRY_E_UNRECOVERED && has_name)
		return request_refuse(request, status.error, "%s: there is a pool \"%.*s\", but %s; %s", asked,
				      (int)name.len, (const char *)name.data, status.wrong, status.advice);
	if (result == REGISTRY_E_UNRECOVERED)
		return request_refuse(request, status.error, "%s: there is a pool %llu, but %s; %s", asked,
				      (unsigned long long)id, status.wrong, status.advice);
	if (has_name)
		return request_refuse_name(request, asked, name);
	if (!has_id)
		return request_refuse(request, -EINVAL, "%s: the request names no pool", asked);
	if (session_member(request->session, id)) /* opened once, so it is destroyed */
		return request_refuse(request, -ESTALE, "%s: pool %llu was destroyed; create or open another", asked,
				      (unsigned long long)id);
	return request_refuse(request, -ENOENT, "%s: there is no pool with id %llu", asked, (unsigned long long)id);
}

bool request_find_pool(struct request *request, const char *asked, bool has_name, ProtobufCBinaryData name, bool has_id,
		       uint64_t id, struct pool **poolp, int *rp)
{
	int r = find(request, has_name, name, id, poolp);

	if (r)
		*rp = refuse_find(request, r, asked, has_name, name, has_id, id);
	return !r;
}

/* ---- open, close ---- */

static int open_found(struct request *request, struct pool *pool)
{
	int fd = -1, r;

	if (!pool_may_open(pool, &request->session->identity))
		return refuse_pool(request, POOL_E_NOT_ALLOWED, pool, "opening");
	request->lane = pool_id(pool) | LANE_OPENS;
	if (!(request->flags & DISPATCH_MAY_BLOCK) && pool_is_long_to_read(pool)) /* for its figures in the answer */
		return DISPATCH_E_SLOW;
	r = join(request, pool, &fd);
	if (r == SESSION_E_FULL && !(request->flags & DISPATCH_MAY_BLOCK))
		return DISPATCH_E_SLOW;
	if (r == SESSION_E_FULL) {
		r = session_make_room(request->session);
		if (!r)
			r = join(request, pool, &fd);
	}
	if (r)
		return request_refuse_status(request, status_of(r), "opening %s", pool_label(pool).text);
	return answer_pool(request, pool, fd);
}

int run_open_pool(struct request *request)
{
	const Mempool__Wire__OpenPool *open = request->wire->open_pool;
	struct pool *pool;
	int r;

	r = find(request, open->has_name, open->name, open->pool, &pool);
	if (r)
		return refuse_find(request, r, "opening a pool", open->has_name, open->name, open->has_pool,
				   open->pool);
	r = open_found(request, pool);
	pool_unref(pool);
	return r;
}

static bool is_destroyed(const struct request *request, uint64_t id)
{
	struct pool *pool;

	if (registry_find_id(registry_of(request), id, &pool))
		return true;
	pool_unref(pool);
	return false;
}

/*
 * A membership lasts until the session ends, for its blocks stay; of a destroyed pool there is nothing to stay for. Closing that
 * again, or one that was destroyed before a restart, is done already.
 */
int run_close_pool(struct request *request)
{
	const Mempool__Wire__ClosePool *close_pool = request->wire->close_pool;
	struct pool *pool;
	int r = 0;

	if (!close_pool->has_pool ||
	    (!session_member(request->session, close_pool->pool) && !is_destroyed(request, close_pool->pool))) {
		(void)!request_member(request, close_pool->has_pool, close_pool->pool, &r);
		return r;
	}
	if (!registry_find_id(registry_of(request), close_pool->pool, &pool)) {
		pool_unref(pool);
		return request_answer(request);
	}
	if (!(request->flags & DISPATCH_MAY_BLOCK))
		return DISPATCH_E_SLOW;
	session_leave(request->session, close_pool->pool);
	return request_answer(request);
}

/* ---- destroy, resize ---- */

static void describe_warning(const struct pool_warning *warning, const char *label, char *out, size_t n_bytes)
{
	size_t n = (size_t)snprintf(out, n_bytes, "%s was destroyed with %llu live block%s, %s", label,
				    (unsigned long long)warning->n_blocks, plural(warning->n_blocks),
				    size_text(warning->n_bytes).text);

	for (uint32_t i = 0; i < warning->n_holders && n < n_bytes; i++) {
		const struct pool_holder *holder = warning->holders + i;

		if (holder->session)
			n += (size_t)snprintf(out + n, n_bytes - n, "%s pid %d (%s) %s", i ? "," : ", held by",
					      holder->pid, holder->command, size_text(holder->n_bytes).text);
		else
			n += (size_t)snprintf(out + n, n_bytes - n, "%s the pool itself %s", i ? "," : ", held by",
					      size_text(holder->n_bytes).text);
	}
}

static int destroy_found(struct request *request, struct pool *pool, bool if_empty)
{
	const struct pool_identity *who = &request->session->identity;
	const struct registry_call call = call_of(request);
	struct pool_warning warning = {0};
	char sentence[SENTENCE_BYTES];
	int r;

	if (!pool_may_manage(pool, who)) {
		registry_answer(registry_of(request), &call, POOL_E_NOT_ALLOWED + REGISTRY_POOL_E);
		return refuse_pool(request, POOL_E_NOT_ALLOWED, pool, "destroying");
	}
	r = registry_remove(registry_of(request), pool, if_empty, &call, &warning);
	if (r)
		return refuse_pool(request, r, pool, "destroying");
	session_leave(request->session, pool_id(pool));
	if (warning.n_blocks) {
		describe_warning(&warning, pool_label(pool).text, sentence, sizeof(sentence));
		request->reply.message = sentence;
		log_client(&request->peer->log, LOG_LEVEL_WARNING, "pid %d (%s): %s", who->pid, who->command, sentence);
	}
	return request_answer(request);
}

/* What it was answered before the connection broke; the pool may have gone, or another have its name, since. */
static int destroy_again(struct request *request, const struct directory_answer *answer)
{
	const Mempool__Wire__DestroyPool *destroy = request->wire->destroy_pool;

	if (!answer->outcome) {
		session_leave(request->session, answer->pool);
		return request_answer(request);
	}
	if (destroy->has_name)
		return request_refuse_status(request, status_of(answer->outcome), "destroying pool \"%.*s\"",
					     (int)destroy->name.len, (const char *)destroy->name.data);
	return request_refuse_status(request, status_of(answer->outcome), "destroying pool %llu",
				     (unsigned long long)destroy->pool);
}

/* Whose it is stands in the books that cannot be read; so does whether it is empty. */
static bool may_forget(const struct request *request)
{
	const Mempool__Wire__DestroyPool *destroy = request->wire->destroy_pool;
	uint32_t uid = request->session->identity.uid;

	return destroy->has_name && !destroy->if_empty && (!uid || uid == geteuid());
}

static int forget(struct request *request, const struct registry_call *call)
{
	ProtobufCBinaryData name = request->wire->destroy_pool->name;
	int r = registry_forget(registry_of(request), name.data, name.len, call);

	if (r) /* another was faster */
		return refuse_find(request, r, "destroying a pool", true, name, false, 0);
	log_client(&request->peer->log, LOG_LEVEL_WARNING, "pool \"%.*s\", which could not be recovered, was removed",
		   (int)name.len, (const char *)name.data);
	return request_answer(request);
}

int run_destroy_pool(struct request *request)
{
	const Mempool__Wire__DestroyPool *destroy = request->wire->destroy_pool;
	const struct registry_call call = call_of(request);
	struct directory_answer answer;
	struct pool *pool;
	int r;

	if (registry_answered(registry_of(request), &call, &answer))
		return destroy_again(request, &answer);
	r = find(request, destroy->has_name, destroy->name, destroy->pool, &pool);
	if (r == REGISTRY_E_UNRECOVERED && may_forget(request))
		return forget(request, &call);
	if (r) {
		registry_answer(registry_of(request), &call, r);
		return refuse_find(request, r, "destroying a pool", destroy->has_name, destroy->name, destroy->has_pool,
				   destroy->pool);
	}
	r = destroy_found(request, pool, destroy->if_empty);
	pool_unref(pool);
	return r;
}

static int refuse_resize(struct request *request, int result, struct pool *pool, uint64_t size)
{
	struct pool_stats stats;

	if (result != POOL_E_SHRINK && result != POOL_E_ABOVE_MAX)
		return refuse_pool(request, result, pool, "growing");
	pool_stats(pool, &stats);
	return request_refuse_status(request, status_of_pool((enum pool_outcome)result),
				     "growing %s, %s now and %s at most, to %s", pool_label(pool).text,
				     size_text(stats.total).text, size_text(pool_options(pool)->max_size).text,
				     size_text(size).text);
}

int run_resize_pool(struct request *request)
{
	const Mempool__Wire__ResizePool *resize = request->wire->resize_pool;
	struct pool_member *member;
	int r = 0;

	member = request_member(request, resize->has_pool, resize->pool, &r);
	if (!member)
		return r;
	if (!resize->size)
		return request_refuse(request, -EINVAL, "growing a pool: a size of 0 would hold nothing; give a size");
	if (!pool_may_manage(member->pool, &request->session->identity))
		return refuse_pool(request, POOL_E_NOT_ALLOWED, member->pool, "growing");
	if (!(request->flags & DISPATCH_MAY_BLOCK) && pool_is_long_to_read(member->pool))
		return DISPATCH_E_SLOW;
	r = pool_resize(member->pool, member, resize->size, request->flags);
	if (r)
		return refuse_resize(request, r, member->pool, resize->size);
	return answer_pool(request, member->pool, -1);
}

/* ---- list ---- */

struct pool_page {
	struct pool *pools[LIST_POOLS_MAX];
	Mempool__Wire__PoolInfo infos[LIST_POOLS_MAX];
	Mempool__Wire__PoolInfo *pointers[LIST_POOLS_MAX];
	uint32_t n;
	bool more;
};

static int answer_pools(struct request *request, struct pool_page *page)
{
	Mempool__Wire__ListPoolsReply reply = MEMPOOL__WIRE__LIST_POOLS_REPLY__INIT;
	struct pool_stats stats;
	int r;

	for (uint32_t i = 0; i < page->n; i++) {
		pool_stats(page->pools[i], &stats);
		pool_info_fill(page->infos + i, page->pools[i], &stats);
		page->pointers[i] = page->infos + i;
	}
	reply.pools = page->pointers;
	reply.n_pools = page->n;
	WIRE_SET(&reply, more, page->more);
	request->reply.result_case = MEMPOOL__WIRE__REPLY__RESULT_LIST_POOLS;
	request->reply.list_pools = &reply;
	r = request_answer(request);
	for (uint32_t i = 0; i < page->n; i++)
		pool_unref(page->pools[i]);
	return r;
}

static int list_pools(struct request *request, struct pool_page *page)
{
	const Mempool__Wire__ListPools *list = request->wire->list_pools;
	int r;

	page->more = false;
	if (list->has_name || list->has_pool) {
		r = find(request, list->has_name, list->name, list->pool, &page->pools[0]);
		if (r)
			return refuse_find(request, r, "listing a pool", list->has_name, list->name, list->has_pool,
					   list->pool);
		page->n = 1;
	} else {
		page->n = registry_list(registry_of(request), list->after, page->pools, LIST_POOLS_MAX);
		page->more = page->n == LIST_POOLS_MAX; /* if it was just full, the next page is empty */
	}
	return answer_pools(request, page);
}

int run_list_pools(struct request *request)
{
	struct pool_page *page = malloc(sizeof(*page));
	int r;

	if (!page)
		return request_refuse_status(request, status_of_errno(-ENOMEM), "listing pools");
	r = list_pools(request, page);
	free(page);
	return r;
}
