// SPDX-License-Identifier: MIT
/*
 * Memberships are a sorted array: a client has a few pools, and mostly asks for the one it asked for last.
 *
 * A session is in the directory from Hello on, and memberships are in the pools' ledgers; so a later daemon finds both. What it
 * has of pools that could not be recovered stays there, and is given back when they can be: by then nobody knows the session.
 *
 * An end is a state and idempotent steps: ENDING first, in the directory too, so that nothing else is executed, whoever
 * finishes it; then private pools, which nobody else can use; then each membership, step by step, so that a session with a
 * million blocks holds no pool's mutex for long; then the lock's object, and the record; the charge of the session last.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "server/credentials.h"
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
	while (sessions->head) {
		struct session *session = sessions->head;

		assert(!session->home);
		session_keep(session);
		session_free(session);
	}
	pthread_mutex_destroy(&sessions->mutex);
}

/* By id: mostly the last. */
static void link_session(struct sessions *sessions, struct session *session)
{
	struct session *before = sessions->tail;

	while (before && before->identity.session > session->identity.session)
		before = before->prev;
	session->table = sessions;
	session->prev = before;
	session->next = before ? before->next : sessions->head;
	*(session->prev ? &session->prev->next : &sessions->head) = session;
	*(session->next ? &session->next->prev : &sessions->tail) = session;
}

static struct directory_session record_of(const struct session *session)
{
	struct directory_session record = {
		.uid = session->identity.uid,
		.gid = session->identity.gid,
		.pid = session->identity.pid,
		.has_lock = session->liveness.segment.fd >= 0,
		.since_s = session->since_s,
		.started = session->started,
		.pid_space = session->pid_space,
	};

	memcpy(record.token, session->token, sizeof(record.token));
	memcpy(record.command, session->identity.command, sizeof(record.command));
	if (record.has_lock)
		memcpy(record.lock_object, session->liveness.segment.name, sizeof(record.lock_object));
	return record;
}

/* The id is drawn under the mutex, so that the list is in the order of ids. */
static int table_add(struct sessions *sessions, struct session *session)
{
	struct directory_session record = record_of(session);
	int r;

	pthread_mutex_lock(&sessions->mutex);
	r = registry_add_session(sessions->registry, &record, &session->slot);
	if (!r) {
		session->identity.session = record.id;
		link_session(sessions, session);
	}
	pthread_mutex_unlock(&sessions->mutex);
	return r;
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

struct session *sessions_first(struct sessions *sessions)
{
	struct session *session;

	pthread_mutex_lock(&sessions->mutex);
	session = sessions->head;
	pthread_mutex_unlock(&sessions->mutex);
	return session;
}

struct session *sessions_next(struct sessions *sessions, const struct session *session)
{
	struct session *next;

	pthread_mutex_lock(&sessions->mutex);
	next = session->next;
	pthread_mutex_unlock(&sessions->mutex);
	return next;
}

/* In a time that does not tell how much of it is right. */
static bool token_is(const uint8_t a[static DIRECTORY_TOKEN_BYTES], const uint8_t b[static DIRECTORY_TOKEN_BYTES])
{
	unsigned differs = 0;

	for (unsigned i = 0; i < DIRECTORY_TOKEN_BYTES; i++)
		differs |= (unsigned)a[i] ^ b[i];
	return !differs;
}

bool sessions_find(struct sessions *sessions, uint64_t id, const uint8_t token[static DIRECTORY_TOKEN_BYTES],
		   struct session **sessionp, void **homep)
{
	struct session *session;
	bool found;

	pthread_mutex_lock(&sessions->mutex);
	session = sessions->head;
	while (session && session->identity.session < id)
		session = session->next;
	found = session && session->identity.session == id && session->slot != SESSION_NO_SLOT &&
		atomic_load_explicit(&session->state, memory_order_relaxed) != SESSION_ENDING &&
		token_is(session->token, token);
	if (found) {
		*sessionp = session;
		*homep = session->home;
	}
	pthread_mutex_unlock(&sessions->mutex);
	return found;
}

/* ---- one session ---- */

static int init_proofs(struct session *session, const char *instance)
{
	if (getrandom(session->token, sizeof(session->token), 0) != (ssize_t)sizeof(session->token))
		return -EIO;
	session->started = credentials_started(session->identity.pid);
	session->pid_space = credentials_pid_space();
	return instance ? liveness_open(&session->liveness, instance) : 0;
}

int session_new(struct session **sessionp, struct sessions *sessions, struct pool_identity *identity,
		struct quota_account *account, const char *instance)
{
	struct session *session;
	int r;

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
	r = init_proofs(session, instance);
	if (!r)
		r = table_add(sessions, session);
	if (r) {
		liveness_remove(&session->liveness);
		liveness_close(&session->liveness);
		free(session);
		quota_give_back(account, QUOTA_SESSIONS, 1);
		return r;
	}
	identity->groups = NULL;
	identity->n_groups = 0;
	*sessionp = session;
	return 0;
}

void session_set_home(struct session *session, void *home, struct watch *watch)
{
	pthread_mutex_lock(&session->table->mutex);
	session->home = home;
	session->watch = watch;
	pthread_mutex_unlock(&session->table->mutex);
}

/*
 * The kernel's word, where pids can be compared: while a process lives, its pid is nobody else's, and one with the same pid that
 * started when it did is no other. Else the lock has to do: its holder lives, and nobody but it was given the token.
 */
bool session_is_of(const struct session *session, const struct pool_identity *peer)
{
	if (peer->uid != session->identity.uid)
		return false;
	if (session->identity.pid > 0 && session->pid_space && session->pid_space == credentials_pid_space())
		return peer->pid == session->identity.pid &&
		       (!session->started || credentials_started(peer->pid) == session->started);
	return session->liveness.is_confirmed && liveness_is_locked(&session->liveness);
}

void session_take_groups(struct session *session, struct pool_identity *peer)
{
	free((void *)(uintptr_t)session->identity.groups);
	session->identity.gid = peer->gid;
	session->identity.groups = peer->groups;
	session->identity.n_groups = peer->n_groups;
	peer->groups = NULL;
	peer->n_groups = 0;
}

void session_confirm_lock(struct session *session)
{
	session->liveness.is_confirmed = true;
	registry_set_session(session->table->registry, session->slot, DIRECTORY_LOCK_HELD);
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

/* There is room. */
static void add_membership(struct session *session, struct pool *pool, struct pool_member *member)
{
	uint32_t i = membership_index(session, pool_id(pool));

	pthread_mutex_lock(&session->table->mutex);
	memmove(session->memberships + i + 1, session->memberships + i,
		(session->n_memberships - i) * sizeof(*session->memberships));
	session->memberships[i] =
		(struct session_membership){.id = pool_id(pool), .pool = pool_ref(pool), .member = member};
	session->n_memberships++;
	pthread_mutex_unlock(&session->table->mutex);
}

int session_join(struct session *session, struct pool *pool, struct pool_member **memberp)
{
	uint64_t id = pool_id(pool);
	struct pool_member *member = session_member(session, id);
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
	add_membership(session, pool, member);
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

static int take_room(struct session *session)
{
	uint32_t n_alloced = session->n_alloced ? session->n_alloced * 2 : 4;
	struct session_membership *memberships;

	pthread_mutex_lock(&session->table->mutex);
	memberships = realloc(session->memberships, n_alloced * sizeof(*memberships));
	if (memberships) {
		session->memberships = memberships;
		session->n_alloced = n_alloced;
	}
	pthread_mutex_unlock(&session->table->mutex);
	return memberships ? 0 : -ENOMEM;
}

int session_make_room(struct session *session)
{
	struct pool_warning report;

	for (uint32_t i = session->n_memberships; i-- > 0;) {
		report = (struct pool_warning){0};
		if (is_destroyed(session, session->memberships[i].id))
			leave(session, i, &report);
	}
	if (session->n_memberships < session->n_alloced / 2) /* enough for a while: amortised O(1) */
		return 0;
	return take_room(session);
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
		 "pid %d (%s), session %llu: ended with %llu block%s, %llu byte%s, in pool \"%.*s\"%s: freed",
		 session->identity.pid, session->identity.command, (unsigned long long)session->identity.session,
		 (unsigned long long)report->n_blocks, plural(report->n_blocks), (unsigned long long)report->n_bytes,
		 plural(report->n_bytes), (int)options->n_name_bytes, options->name, age);
}

static void end_membership(struct session *session, uint32_t i)
{
	struct pool *pool = pool_ref(session->memberships[i].pool);
	struct pool_warning report = {0}, warning;
	bool is_private = pool_is_private(pool);
	int r;

	if (is_private) {
		r = registry_remove(session->table->registry, pool, false, NULL, &warning);
		(void)r; /* it may be destroyed already; without if_empty nothing else is foreseen */
	}
	leave(session, i, &report);
	if (!is_private) /* what is in a private pool is gone by intent */
		log_leak(session, pool_options(pool), &report);
	pool_unref(pool);
}

void session_end(struct session *session)
{
	struct registry *registry = session->table->registry;

	atomic_store_explicit(&session->state, SESSION_ENDING, memory_order_relaxed);
	if (session->is_ended)
		return;
	if (session->slot != SESSION_NO_SLOT)
		registry_set_session(registry, session->slot, DIRECTORY_ENDING);
	while (session->n_memberships)
		end_membership(session, session->n_memberships - 1);
	registry_remove_owned(registry, session->identity.session); /* made, and never opened: killed in between */
	liveness_remove(&session->liveness);
	if (session->slot != SESSION_NO_SLOT)
		registry_remove_session(registry, session->slot);
	quota_give_back(session->account, QUOTA_SESSIONS, 1);
	table_remove(session->table, session);
	session->is_ended = true;
}

void session_keep(struct session *session)
{
	struct pool_warning report = {0};

	for (uint32_t i = session->n_memberships; i-- > 0;) {
		if (is_destroyed(session, session->memberships[i].id))
			leave(session, i, &report); /* nothing of it is left to be kept */
		else
			pool_unref(
				session->memberships[i].pool); /* the member is the registry's, which keeps the pool */
	}
	session->n_memberships = 0;
	quota_give_back(session->account, QUOTA_SESSIONS, 1);
	table_remove(session->table, session);
	session->is_ended = true;
}

/* ---- after a restart ---- */

static int recover_session(struct sessions *sessions, const struct pool_identity *identity, uint64_t since_s,
			   struct session **sessionp)
{
	struct session *session = malloc(sizeof(*session));

	if (!session)
		return -ENOMEM;
	*session = (struct session){
		.identity = *identity,
		.account = quota_account_of(registry_quota(sessions->registry), identity->uid),
		.since_s = since_s,
		.slot = SESSION_NO_SLOT,
		.state = SESSION_ENDING,
		.liveness = LIVENESS_NULL,
	};
	if (!session->account) {
		free(session);
		return -ENOMEM;
	}
	quota_charge_always(session->account, QUOTA_SESSIONS, 1);
	link_session(sessions, session);
	*sessionp = session;
	return 0;
}

static int recover_record(struct sessions *sessions, uint32_t slot, const struct directory_session *record,
			  unsigned state, const char *instance)
{
	struct pool_identity identity = {
		.session = record->id, .uid = record->uid, .gid = record->gid, .pid = record->pid};
	struct session *session;
	int r;

	memcpy(identity.command, record->command, sizeof(identity.command));
	r = recover_session(sessions, &identity, record->since_s, &session);
	if (r)
		return r;
	session->slot = slot;
	session->started = record->started;
	session->pid_space = record->pid_space;
	memcpy(session->token, record->token, sizeof(session->token));
	if (!(state & DIRECTORY_ENDING))
		atomic_store_explicit(&session->state, SESSION_AWAY, memory_order_relaxed);
	r = record->has_lock
		    ? liveness_reopen(&session->liveness, instance, record->lock_object, state & DIRECTORY_LOCK_HELD)
		    : 0;
	if (r)
		log_line(LOG_LEVEL_WARNING,
			 "pid %d (%s), session %llu: its lock %s cannot be asked any more: %s; the end of its process "
			 "has to "
			 "be seen otherwise",
			 record->pid, record->command, (unsigned long long)record->id, record->lock_object,
			 strerrordesc_np(-r));
	return 0;
}

/* @hint: sessions come by rising id. */
static int session_of_member(struct sessions *sessions, const struct pool_member_info *info, struct session **hint)
{
	struct pool_identity identity = {.session = info->session, .uid = info->uid, .pid = info->pid};
	struct session *session = *hint && (*hint)->identity.session <= info->session ? *hint : sessions->head;

	while (session && session->identity.session < info->session)
		session = session->next;
	if (session && session->identity.session == info->session) {
		*hint = session;
		return 0;
	}
	memcpy(identity.command, info->command, sizeof(identity.command));
	return recover_session(sessions, &identity, info->since_s, hint);
}

static int recover_members(struct sessions *sessions, struct pool *pool)
{
	struct pool_member_info infos[64],
		owner = {.session = registry_owner(sessions->registry, pool_id(pool)), .uid = pool_options(pool)->uid};
	struct session *session = NULL;
	uint64_t after = 0;
	uint32_t n;
	int r = 0;

	while (!r && (n = pool_members(pool, after, infos, N_ELEMENTS(infos)))) {
		for (uint32_t i = 0; !r && i < n; i++) {
			r = session_of_member(sessions, infos + i, &session);
			if (!r && session->n_memberships == session->n_alloced)
				r = take_room(session);
			if (!r)
				add_membership(session, pool, pool_member_of(pool, infos[i].session));
		}
		after = infos[n - 1].session;
	}
	if (!r && owner.session) /* whose end takes the pool with it, opened or not */
		r = session_of_member(sessions, &owner, &session);
	return r;
}

int sessions_recover(struct sessions *sessions, const char *instance)
{
	struct directory_session record;
	struct pool *pool;
	uint64_t after = 0;
	unsigned state;
	int r = 0;

	for (uint32_t slot = 0; !r && registry_session(sessions->registry, &slot, &record, &state); slot++)
		r = recover_record(sessions, slot, &record, state, instance);
	while (!r && registry_list_all(sessions->registry, after, &pool, 1)) {
		after = pool_id(pool);
		r = recover_members(sessions, pool);
		pool_unref(pool);
	}
	return r;
}
