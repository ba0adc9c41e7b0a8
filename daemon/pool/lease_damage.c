// SPDX-License-Identifier: MIT
/*
 * A lease segment that says what cannot be. Who wrote that, nobody can know, for all that have it mapped can; the line in the log
 * names them. Said once a pool: nothing of it is believed or mended later.
 */
#include <string.h>

#include "pool/pool_internal.h"

#define N_NAMED 4u /* sessions that the line names */

/* Return: bytes of @out, [@n_out], used by now */
static size_t name_session(const struct pool_member *member, bool is_first, char *out, size_t n_out, size_t n)
{
	const struct member_record *record = member_record(member->pool, member->index);
	int r = snprintf(out + n, n_out - n, "%ssession %llu, pid %d (%.*s)", is_first ? "; written by: " : "; or ",
			 (unsigned long long)member->session, record->pid, (int)sizeof(record->command),
			 record->command);

	return r < 0 ? n : (size_t)r < n_out - n ? n + (size_t)r : n_out - 1;
}

static void name_sessions(const struct pool *pool, char *out, size_t n_out)
{
	uint32_t n_named = 0;
	size_t n = 0;

	out[0] = '\0';
	for (const struct pool_member *member = pool->last; member; member = member->prev) {
		if (!member->first_heap)
			continue;
		if (n_named++ == N_NAMED) {
			snprintf(out + n, n_out - n, "; or others");
			return;
		}
		n = name_session(member, n_named == 1, out, n_out, n);
	}
}

static void tell(const struct pool *pool)
{
	char label[NAME_BYTES_MAX + 40], who[400], sentence[1024];

	if (!pool->env->tell)
		return;
	if (pool_is_private(pool))
		snprintf(label, sizeof(label), "private pool %llu", (unsigned long long)pool->id);
	else
		snprintf(label, sizeof(label), "pool \"%.*s\"", (int)pool->options.n_name_bytes, pool->options.name);
	name_sessions(pool, who, sizeof(who));
	snprintf(sentence, sizeof(sentence),
		 "%s is damaged: %s%s. Its slabs are not taken back any more, and what dead clients had in them stays; "
		 "destroy it, and make it anew with lease off if its clients are not to be trusted",
		 label, pool->lease.why_damaged, who);
	pool->env->tell(pool->env->tell_arg, sentence);
}

void lease_damage(struct pool *pool, const char *why)
{
	struct lease *lease = &pool->lease;

	if (lease->is_damaged)
		return;
	lease->is_damaged = true;
	snprintf(lease->why_damaged, sizeof(lease->why_damaged), "%s", why);
	lease_set_flag(pool, LEASE_DAMAGED);
	tell(pool);
}

bool lease_is_sound(struct pool *pool)
{
	if (!pool->lease.is_damaged && lease_guard_was_hit(pool->lease.guard))
		lease_damage(pool, "a client cut the lease segment short");
	return !pool->lease.is_damaged;
}
