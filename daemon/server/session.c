// SPDX-License-Identifier: MIT
/*
 * Memberships are a sorted array: a client has a few pools, and mostly asks for the one it asked for last.
 *
 * An end is a state and idempotent steps: ENDING first, so that nothing else is executed; then private pools, which
 * nobody else can use; then each membership, step by step, so that a session with a million blocks holds no pool's mutex
 * for long; the charge of the session last.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "server/log.h"
#include "server/session.h"
#include "server/status.h"

/* ---- the table ---- */

int sessions_init(struct sessions *sessions, struct registry *registry)
{
	int r;

	*sessions = (struct sessions){.registry = registry};
	r = pthread_mutex_init(&sessions->mutex, NULL);
	return -r;
}

void sessions_deinit(struct sessions *sessions)
{
	assert(!sessions->head);
	pthread_mutex_destroy(&sessions->mutex);
}

/* The id is drawn under the mutex, so that the list is in the order of ids. */
static void table_add(struct sessions *sessions, struct session *session)
{
	pthread_mutex_lock(&sessions->mutex);
	session->identity.session = registry_next_session(sessions->registry);
	session->table = sessions;
	session->prev = sessions->tail;
	if (sessions->tail)
		sessions->tail->next = session;
	else
		sessions->head = session;
	sessions->tail = session;
	pthread_mutex_unlock(&sessions->mutex);
}

static void table_remove(struct sessions *sessions, struct session *session)
{
	pthread_mutex_lock(&sessions->mutex);
	if (session->prev)
		session->prev->next = session->next;
	else
		sessions->head = session->next;
	if (session->next)
		session->next->prev = session->prev;
	else
		sessions->tail = session->prev;
	pthread_mutex_unlock(&sessions->mutex);
}

static struct session_row row_of(const struct session *session, struct pool *pool)
{
	struct session_row row = {
		.session = session->identity.session,
		.uid = session->identity.uid,
		.pid = session->identity.pid,
		.since_s = session->since_s,
		.state = (enum session_state)atomic_load_explicit(&session->state, memory_order_relaxed),
		.pool = pool ? pool_ref(pool) : NULL,
	};

	memcpy(row.command, session->identity.command, sizeof(row.command));
	return row;
}

uint32_t sessions_list(struct sessions *sessions, const struct pool *only, uint64_t after_session, uint64_t after_pool,
		       struct session_row rows[], uint32_t n_max, bool *morep)
{
	uint32_t n = 0;

	*morep = false;
	pthread_mutex_lock(&sessions->mutex);
	for (struct session *s = sessions->head; s && !*morep; s = s->next) {
		uint64_t beyond = s->identity.session == after_session ? after_pool : 0;

		if (s->identity.session < after_session)
			continue;
		if (!s->n_memberships && !only && s->identity.session != after_session) {
			*morep = n == n_max;
			if (!*morep)
				rows[n++] = row_of(s, NULL);
		}
		for (uint32_t i = 0; i < s->n_memberships && !*morep; i++) {
			struct pool *pool = s->memberships[i].pool;

			if (s->memberships[i].id <= beyond || (only && pool != only))
				continue;
			*morep = n == n_max;
			if (!*morep)
				rows[n++] = row_of(s, pool);
		}
	}
	pthread_mutex_unlock(&sessions->mutex);
	return n;
}

/* ---- one session ---- */

int session_new(struct session **sessionp, struct sessions *sessions, struct pool_identity *identity,
		struct quota_account *account)
{
	struct session *session;

	if (quota_charge(account, QUOTA_SESSIONS, 1))
		return SESSION_E_QUOTA;
	session = malloc(sizeof(*session));
	if (!session) {
		quota_give_back(account, QUOTA_SESSIONS, 1);
		return -ENOMEM;
	}
	*session = (struct session){
		.identity = *identity,
		.account = account,
		.since_s = (uint64_t)time(NULL),
		.state = SESSION_ACTIVE,
		.liveness = LIVENESS_NULL,
	};
	identity->groups = NULL;
	identity->n_groups = 0;
	table_add(sessions, session);
	*sessionp = session;
	return 0;
}

struct session *session_free(struct session *session)
{
	if (!session)
		return NULL;
	assert(session->is_ended);
	liveness_close(&session->liveness);
	free((void *)session->identity.groups);
	free(session->memberships);
	free(session);
	return NULL;
}

/* Where the membership of @pool is, or would be. */
static uint32_t membership_index(const struct session *session, uint64_t pool)
{
	uint32_t low = 0, high = session->n_memberships;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (session->memberships[middle].id < pool)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct pool_member *session_member(struct session *session, uint64_t pool)
{
	uint32_t i = session->last;

	if (i >= session->n_memberships || session->memberships[i].id != pool)
		i = membership_index(session, pool);
	if (i == session->n_memberships || session->memberships[i].id != pool)
		return NULL;
	session->last = i;
	return session->memberships[i].member;
}

int session_join(struct session *session, struct pool *pool, struct pool_member **memberp)
{
	uint64_t id = pool_id(pool);
	struct pool_member *member = session_member(session, id);
	uint32_t i;
	int r;

	if (member) {
		*memberp = member;
		return 0;
	}
	if (session->n_memberships == session->n_alloced)
		return SESSION_E_FULL;
	r = pool_join(pool, &session->identity, &member);
	if (r)
		return r < 0 ? r : r + REGISTRY_POOL_E;
	i = membership_index(session, id);
	pthread_mutex_lock(&session->table->mutex);
	memmove(session->memberships + i + 1, session->memberships + i,
		(session->n_memberships - i) * sizeof(*session->memberships));
	session->memberships[i] = (struct session_membership){.id = id, .pool = pool_ref(pool), .member = member};
	session->n_memberships++;
	pthread_mutex_unlock(&session->table->mutex);
	*memberp = member;
	return 0;
}

/* The membership leaves the array after its last step, so that the list shows the end as it goes. */
static void leave(struct session *session, uint32_t i, struct pool_warning *report)
{
	struct session_membership membership = session->memberships[i];

	while (pool_leave_step(membership.member, report))
		;
	pthread_mutex_lock(&session->table->mutex);
	session->n_memberships--;
	memmove(session->memberships + i, session->memberships + i + 1,
		(session->n_memberships - i) * sizeof(*session->memberships));
	pthread_mutex_unlock(&session->table->mutex);
	pool_unref(membership.pool);
}

static bool is_destroyed(struct session *session, uint64_t pool)
{
	struct pool *found;

	if (registry_find_id(session->table->registry, pool, &found))
		return true;
	pool_unref(found);
	return false;
}

int session_make_room(struct session *session)
{
	struct pool_warning report;
	struct session_membership *memberships;
	uint32_t n_alloced = session->n_alloced ? session->n_alloced * 2 : 4;

	for (uint32_t i = session->n_memberships; i-- > 0;) {
		report = (struct pool_warning){0};
		if (is_destroyed(session, session->memberships[i].id))
			leave(session, i, &report);
	}
	if (session->n_memberships < session->n_alloced / 2) /* enough for a while: amortised O(1) */
		return 0;
	pthread_mutex_lock(&session->table->mutex);
	memberships = realloc(session->memberships, n_alloced * sizeof(*memberships));
	if (memberships) {
		session->memberships = memberships;
		session->n_alloced = n_alloced;
	}
	pthread_mutex_unlock(&session->table->mutex);
	return memberships ? 0 : -ENOMEM;
}

void session_leave(struct session *session, uint64_t pool)
{
	struct pool_warning report = {0};

	if (session_member(session, pool))
		leave(session, session->last, &report);
}

/* ---- the end ---- */

static void log_leak(const struct session *session, const struct pool_options *options,
		     const struct pool_warning *report)
{
	uint64_t now_s = (uint64_t)time(NULL);
	uint64_t oldest_s = report->n_holders ? report->holders[0].oldest_s : 0;
	char age[64] = "";

	if (!report->n_blocks)
		return;
	if (oldest_s)
		snprintf(age, sizeof(age), ", the oldest %llu s old",
			 (unsigned long long)(now_s > oldest_s ? now_s - oldest_s : 0));
	log_line(LOG_LEVEL_WARNING,
		 "pid %d (%s), session %llu: ended with %llu blocks, %llu bytes, in pool \"%.*s\"%s: freed",
		 session->identity.pid, session->identity.command, (unsigned long long)session->identity.session,
		 (unsigned long long)report->n_blocks, (unsigned long long)report->n_bytes, (int)options->n_name_bytes,
		 options->name, age);
}

static void end_membership(struct session *session, uint32_t i)
{
	struct pool *pool = pool_ref(session->memberships[i].pool);
	struct pool_warning report = {0}, warning;
	bool is_private = pool_is_private(pool);
	int r;

	if (is_private) {
		r = registry_remove(session->table->registry, pool, false, &warning);
		(void)r; /* it may be destroyed already; without if_empty nothing else is foreseen */
	}
	leave(session, i, &report);
	if (!is_private) /* what is in a private pool is gone by intent */
		log_leak(session, pool_options(pool), &report);
	pool_unref(pool);
}

void session_end(struct session *session)
{
	atomic_store_explicit(&session->state, SESSION_ENDING, memory_order_relaxed);
	if (session->is_ended)
		return;
	while (session->n_memberships)
		end_membership(session, session->n_memberships - 1);
	quota_give_back(session->account, QUOTA_SESSIONS, 1);
	table_remove(session->table, session);
	session->is_ended = true;
}
