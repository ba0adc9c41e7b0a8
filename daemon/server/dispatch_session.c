// SPDX-License-Identifier: MIT
/* dispatch_session - requests about sessions and the daemon itself */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "server/request.h"

#define PROTOCOL_VERSION 1u
#define RECOVERIES_MAX	 16u  /* as many as the directory remembers */
#define LIST_ROWS_MAX	 256u /* of about 150 bytes on the wire each */

/* ---- Hello ---- */

static int begin(struct request *request, bool wants_liveness, int *fdp)
{
	const struct services *services = request->dispatch->services;
	struct peer *peer = request->peer;
	struct session *session;
	int r;

	r = session_new(&session, services->sessions, &peer->identity, peer->account,
			wants_liveness ? services->instance : NULL);
	if (r)
		return r;
	if (wants_liveness) {
		*fdp = fcntl(session->liveness.segment.fd, F_DUPFD_CLOEXEC, 0);
		if (*fdp < 0) {
			r = -errno;
			goto err_after_new;
		}
	}
	peer->session = session;
	r = peer->begun ? peer->begun(peer) : 0;
	if (r)
		goto err_after_fd;
	return 0;

err_after_fd:
	peer->session = NULL;
	if (*fdp >= 0)
		close(*fdp);
err_after_new:
	peer->identity.groups = session->identity.groups; /* a second Hello may do better */
	peer->identity.n_groups = session->identity.n_groups;
	session->identity.groups = NULL;
	session_end(session);
	session_free(session);
	return r;
}

static_assert(POOL_RESULTS_N == DIRECTORY_ANSWERS_N, "as many answers are kept wherever a request goes");

/* The daemon may take more at once from who never resumes; who does must be able to ask for all of them again. */
static uint32_t most_in_flight(const struct limits *limits)
{
	return limits->requests_in_flight < POOL_RESULTS_N ? (uint32_t)limits->requests_in_flight : POOL_RESULTS_N;
}

static int answer_hello(struct request *request, const struct session *session, int fd)
{
	const struct dispatch *dispatch = request->dispatch;
	Mempool__Wire__HelloReply hello = MEMPOOL__WIRE__HELLO_REPLY__INIT;

	WIRE_SET(&hello, version, PROTOCOL_VERSION);
	WIRE_SET(&hello, session, session->identity.session);
	WIRE_SET(&hello, max_request_bytes, (uint32_t)dispatch->limits->request_frame);
	WIRE_SET(&hello, max_in_flight, most_in_flight(dispatch->limits));
	WIRE_SET(&hello, max_batch, DISPATCH_BATCH_MAX);
	WIRE_SET(&hello, instance, wire_bytes(dispatch->services->instance, strlen(dispatch->services->instance)));
	if (request->is_resume)
		WIRE_SET(&hello, resumed, 1);
	else
		WIRE_SET(&hello, token, wire_bytes(session->token, sizeof(session->token)));
	request->reply.result_case = MEMPOOL__WIRE__REPLY__RESULT_HELLO;
	request->reply.hello = &hello;
	return fd < 0 ? request_answer(request) : request_answer_fd(request, fd);
}

/* One sentence whatever it is, so that nothing can be found out by asking. */
static int refuse_resume(struct request *request, int error)
{
	int r;

	if (error == -ESTALE && atomic_load(&request->dispatch->services->is_stopping))
		r = request_refuse(request, -EAGAIN, "Hello: the daemon is stopping; ask the next one, in a moment");
	else if (error == -EACCES)
		r = request_refuse(
			request, -EACCES,
			"Hello: the session is another process's; begin one of your own: Hello without resume_session");
	else
		r = request_refuse(
			request, -ESTALE,
			"Hello: there is no such session to resume, or it has ended, or the token is not its own; "
			"begin a new one: Hello without resume_session");
	return r ? r : DISPATCH_E_CLOSE;
}

static int resume(struct request *request, const Mempool__Wire__Hello *hello)
{
	struct peer *peer = request->peer;
	struct session *session;
	void *home;
	int r;

	if (hello->resume_token.len != DIRECTORY_TOKEN_BYTES ||
	    !sessions_find(request->dispatch->services->sessions, hello->resume_session, hello->resume_token.data,
			   &session, &home))
		return refuse_resume(request, -ESTALE);
	r = peer->resume ? peer->resume(peer, session, home) : 0;
	if (r == DISPATCH_E_LATER)
		return r;
	if (r)
		return refuse_resume(request, r);
	session_take_groups(session, &peer->identity);
	peer->session = session;
	request->is_resume = true;
	return answer_hello(request, session, -1);
}

int run_hello(struct request *request)
{
	const Mempool__Wire__Hello *hello = request->wire->hello;
	int fd = -1;
	int r;

	if (!hello->has_version_min || !hello->has_version_max)
		return request_refuse(request, -EINVAL, "Hello: the protocol versions of the client are missing");
	if (hello->version_min > PROTOCOL_VERSION || hello->version_max < PROTOCOL_VERSION) {
		r = request_refuse(request, -EPROTO,
				   "Hello: the client speaks protocol versions %u to %u, this daemon %u; upgrade the "
				   "older of the two",
				   hello->version_min, hello->version_max, PROTOCOL_VERSION);
		return r ? r : DISPATCH_E_CLOSE;
	}
	if (hello->has_resume_session && hello->has_resume_token)
		return resume(request, hello);
	r = begin(request, hello->has_wants_liveness && hello->wants_liveness, &fd);
	if (r == SESSION_E_QUOTA)
		return request_refuse(
			request, -EDQUOT,
			"Hello: the user has as many sessions as its quota allows; end one, or have [quota] raised");
	if (r)
		return request_refuse_status(request, status_of_errno(r), "Hello");
	return answer_hello(request, request->peer->session, fd);
}

/* ---- while it lasts ---- */

/* The end comes before the answer, so that whoever reads the answer knows that everything was given back. */
int run_goodbye(struct request *request)
{
	int r;

	session_end(request->session);
	r = request_answer(request);
	return r ? r : DISPATCH_E_CLOSE;
}

int run_liveness(struct request *request)
{
	struct liveness *liveness = &request->session->liveness;

	if (liveness->segment.fd < 0)
		return request_refuse(request, -EINVAL,
				      "Liveness: Hello did not ask for a lock; set wants_liveness there");
	if (!liveness_is_locked(liveness))
		return request_refuse(
			request, -EINVAL,
			"Liveness: nobody holds the lock; take it with F_SETLK on the first byte, then say so");
	session_confirm_lock(request->session);
	return request_answer(request);
}

int run_ping(struct request *request)
{
	return request_answer(request);
}

/* ---- the daemon ---- */

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

struct info_arrays {			       /* arrays behind a DaemonInfoReply */
	Mempool__Wire__Limit *limits;	       /* [limits_table_n] */
	Mempool__Wire__Limit **limit_pointers; /* [limits_table_n] */
	uint32_t *loop_connections;
	Mempool__Wire__Recovery recoveries[RECOVERIES_MAX];
	Mempool__Wire__Recovery *recovery_pointers[RECOVERIES_MAX];
};

static void info_fill_limits(const struct info_arrays *info, const struct limits *limits)
{
	struct limits copy = *limits;

	for (size_t i = 0; i < limits_table_n; i++) {
		const struct limits_entry *entry = &limits_table[i];
		Mempool__Wire__Limit *limit = info->limits + i;

		*limit = (Mempool__Wire__Limit)MEMPOOL__WIRE__LIMIT__INIT;
		WIRE_SET(limit, name, wire_bytes(entry->wire_name, strlen(entry->wire_name)));
		WIRE_SET(limit, value, *limits_value(&copy, entry));
		info->limit_pointers[i] = limit;
	}
}

/* Return: how many are filled */
static uint32_t info_fill_recoveries(struct info_arrays *info, struct registry *registry, uint64_t *totalp)
{
	struct directory_recovery recoveries[RECOVERIES_MAX];
	uint32_t n = registry_recoveries(registry, recoveries, RECOVERIES_MAX, totalp);

	for (uint32_t i = 0; i < n; i++) {
		const struct directory_recovery *from = recoveries + i;
		Mempool__Wire__Recovery *recovery = info->recoveries + i;

		*recovery = (Mempool__Wire__Recovery)MEMPOOL__WIRE__RECOVERY__INIT;
		WIRE_SET(recovery, time, from->time_s);
		WIRE_SET(recovery, pools, from->n_pools);
		WIRE_SET(recovery, blocks, from->n_blocks);
		WIRE_SET(recovery, bytes, from->n_bytes);
		WIRE_SET(recovery, sessions, from->n_sessions);
		WIRE_SET(recovery, refused, from->n_refused);
		WIRE_SET(recovery, took_us, from->took_us);
		WIRE_SET(recovery, stopped, from->was_stopped != 0);
		info->recovery_pointers[i] = recovery;
	}
	return n;
}

static int answer_info(struct request *request, struct info_arrays *info)
{
	const struct services *services = request->dispatch->services;
	Mempool__Wire__DaemonInfoReply reply = MEMPOOL__WIRE__DAEMON_INFO_REPLY__INIT;
	uint64_t n_recoveries = 0;

	info_fill_limits(info, request->dispatch->limits);
	for (uint32_t i = 0; i < services->n_loops; i++)
		info->loop_connections[i] = atomic_load_explicit(services->loop_connections + i, memory_order_relaxed);
	WIRE_SET(&reply, version, wire_bytes(MEMPOOLD_VERSION, strlen(MEMPOOLD_VERSION)));
	WIRE_SET(&reply, instance, wire_bytes(services->instance, strlen(services->instance)));
	WIRE_SET(&reply, pid, getpid());
	WIRE_SET(&reply, uptime, (now_ns() - services->started_ns) / 1000000000u);
	reply.n_last_recoveries = info_fill_recoveries(info, services->registry, &n_recoveries);
	reply.last_recoveries = info->recovery_pointers;
	WIRE_SET(&reply, recoveries, n_recoveries);
	reply.loop_connections = info->loop_connections;
	reply.n_loop_connections = services->n_loops;
	reply.limits = info->limit_pointers;
	reply.n_limits = limits_table_n;
	request->reply.result_case = MEMPOOL__WIRE__REPLY__RESULT_DAEMON_INFO;
	request->reply.daemon_info = &reply;
	return request_answer(request);
}

int run_daemon_info(struct request *request)
{
	struct info_arrays info = {
		.limits = malloc(limits_table_n * sizeof(*info.limits)),
		.limit_pointers = malloc(limits_table_n * sizeof(Mempool__Wire__Limit *)),
		.loop_connections = malloc((request->dispatch->services->n_loops + 1) * sizeof(uint32_t)),
	};
	int r;

	if (info.limits && info.limit_pointers && info.loop_connections)
		r = answer_info(request, &info);
	else
		r = request_refuse_status(request, status_of_errno(-ENOMEM), "DaemonInfo");
	free(info.limits);
	free(info.limit_pointers);
	free(info.loop_connections);
	return r;
}

/* ---- sessions ---- */

struct session_page {
	struct session_row rows[LIST_ROWS_MAX];
	Mempool__Wire__SessionInfo infos[LIST_ROWS_MAX];
	Mempool__Wire__SessionInfo *pointers[LIST_ROWS_MAX];
	uint32_t n;
	bool more;
};

static Mempool__Wire__SessionState wire_state(enum session_state state)
{
	switch (state) {
	case SESSION_ACTIVE:
		return MEMPOOL__WIRE__SESSION_STATE__SESSION_ACTIVE;
	case SESSION_AWAY:
		return MEMPOOL__WIRE__SESSION_STATE__SESSION_AWAY;
	case SESSION_ENDING:
	case SESSION_STATE_N:
		break;
	}
	return MEMPOOL__WIRE__SESSION_STATE__SESSION_ENDING;
}

static void info_fill_pool(Mempool__Wire__SessionInfo *info, const struct session_row *row)
{
	const struct pool_options *options = pool_options(row->pool);
	struct pool_member_info member = {0};

	WIRE_SET(info, pool, pool_id(row->pool));
	if (options->n_name_bytes)
		WIRE_SET(info, pool_name, wire_bytes(options->name, options->n_name_bytes));
	/* It may have left meanwhile; then the next one answers, and this one has nothing. */
	if (pool_members(row->pool, row->session - 1, &member, 1) != 1 || member.session != row->session)
		return;
	WIRE_SET(info, blocks, member.n_blocks);
	WIRE_SET(info, bytes, member.n_bytes);
	WIRE_SET(info, holds, member.n_holds);
	WIRE_SET(info, oldest, member.oldest_s);
	WIRE_SET(info, since, member.since_s);
}

static void info_fill_row(Mempool__Wire__SessionInfo *info, const struct session_row *row)
{
	*info = (Mempool__Wire__SessionInfo)MEMPOOL__WIRE__SESSION_INFO__INIT;
	WIRE_SET(info, session, row->session);
	WIRE_SET(info, pid, row->pid);
	WIRE_SET(info, uid, row->uid);
	WIRE_SET(info, command, wire_bytes(row->command, strnlen(row->command, sizeof(row->command))));
	WIRE_SET(info, since, row->since_s);
	WIRE_SET(info, state, wire_state(row->state));
	WIRE_SET(info, pool, 0);
	WIRE_SET(info, blocks, 0);
	WIRE_SET(info, bytes, 0);
	WIRE_SET(info, holds, 0);
	WIRE_SET(info, oldest, 0);
	if (row->pool)
		info_fill_pool(info, row);
}

static int answer_sessions(struct request *request, struct session_page *page)
{
	Mempool__Wire__ListSessionsReply reply = MEMPOOL__WIRE__LIST_SESSIONS_REPLY__INIT;
	int r;

	for (uint32_t i = 0; i < page->n; i++) {
		info_fill_row(page->infos + i, page->rows + i);
		page->pointers[i] = page->infos + i;
	}
	reply.sessions = page->pointers;
	reply.n_sessions = page->n;
	WIRE_SET(&reply, more, page->more);
	request->reply.result_case = MEMPOOL__WIRE__REPLY__RESULT_LIST_SESSIONS;
	request->reply.list_sessions = &reply;
	r = request_answer(request);
	for (uint32_t i = 0; i < page->n; i++)
		if (page->rows[i].pool)
			pool_unref(page->rows[i].pool);
	return r;
}

int run_list_sessions(struct request *request)
{
	const Mempool__Wire__ListSessions *list = request->wire->list_sessions;
	const struct services *services = request->dispatch->services;
	struct session_page *page;
	struct pool *only = NULL;
	int r;

	if (list->has_name && !request_find_pool(request, "listing sessions", true, list->name, false, 0, &only, &r))
		return r;
	page = malloc(sizeof(*page));
	if (page) {
		page->n = sessions_list(services->sessions, only, list->after_session, list->after_pool, page->rows,
					LIST_ROWS_MAX, &page->more);
		r = answer_sessions(request, page);
	} else {
		r = request_refuse_status(request, status_of_errno(-ENOMEM), "listing sessions");
	}
	free(page);
	if (only)
		pool_unref(only);
	return r;
}
