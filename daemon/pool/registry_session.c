// SPDX-License-Identifier: MIT
/* registry_session - what of a session outlives the daemon: its record, and the answers to its requests about pools */
#include "pool/registry_internal.h"

/* Where /dev/shm is full and somebody keeps coming, there is a place left for root and the daemon's own user, who can make room. */
int registry_add_session(struct registry *registry, struct directory_session *session, uint32_t *slotp)
{
	bool may_be_last = quota_is_exempt(&registry->quota, session->uid);
	int r;

	pthread_mutex_lock(&registry->mutex);
	session->id = directory_next_session(&registry->directory);
	r = directory_add_session(&registry->directory, session, may_be_last, slotp);
	pthread_mutex_unlock(&registry->mutex);
	return r;
}

void registry_set_session(struct registry *registry, uint32_t slot, unsigned state)
{
	pthread_mutex_lock(&registry->mutex);
	directory_set_session(&registry->directory, slot, state, true);
	pthread_mutex_unlock(&registry->mutex);
}

void registry_remove_session(struct registry *registry, uint32_t slot)
{
	pthread_mutex_lock(&registry->mutex);
	directory_remove_session(&registry->directory, slot);
	pthread_mutex_unlock(&registry->mutex);
}

bool registry_session(struct registry *registry, uint32_t *slotp, struct directory_session *out, unsigned *statep)
{
	bool found = false;

	pthread_mutex_lock(&registry->mutex);
	while (*slotp < registry->directory.n_sessions_high &&
	       !(found = directory_session(&registry->directory, *slotp, out, statep)))
		++*slotp;
	pthread_mutex_unlock(&registry->mutex);
	return found;
}

void registry_answer(struct registry *registry, const struct registry_call *call, int outcome)
{
	pthread_mutex_lock(&registry->mutex);
	directory_answer(&registry->directory, call->slot, call->request, outcome);
	pthread_mutex_unlock(&registry->mutex);
}

bool registry_answered(struct registry *registry, const struct registry_call *call, struct directory_answer *answer)
{
	bool found;

	pthread_mutex_lock(&registry->mutex);
	found = directory_find_answer(&registry->directory, call->slot, call->request, answer);
	pthread_mutex_unlock(&registry->mutex);
	return found;
}
