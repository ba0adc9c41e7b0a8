// SPDX-License-Identifier: MIT
/*
 * The kinds of operation. Each scene has two sessions and, but for those about destroying it, a pool of theirs that what is done to
 * another may not touch; no more, because each step is followed by a look at all there is.
 */
#include "instance.h"

#include "must.h"

enum {
	A,
	B,
}; /* sessions */

static struct pool_options named(const char *name, uint64_t size)
{
	struct pool_options options = {.size = size, .uid = WORLD_UID, .gid = WORLD_UID, .mode = 0600};

	options.n_name_bytes = (uint32_t)strlen(name);
	memcpy(options.name, name, options.n_name_bytes);
	return options;
}

static struct registry_call call_of(const struct instance_scene *scene, unsigned who, uint64_t request)
{
	return (struct registry_call){.slot = scene->slots[who], .session = scene->sessions[who], .request = request};
}

/* ---- what prepares ---- */

static void begins(struct instance_scene *scene, unsigned who)
{
	struct directory_session session = {
		.uid = WORLD_UID + who, .gid = WORLD_UID, .pid = 4711, .command = "prepared"};

	must(!registry_add_session(scene->registry, &session, &scene->slots[who]), "session");
	scene->sessions[who] = session.id;
	scene->n_given = session.id;
}

static struct pool_member *joins(struct instance_scene *scene, struct pool *pool, unsigned who)
{
	const struct pool_identity identity = {.session = scene->sessions[who],
					       .uid = WORLD_UID + who,
					       .gid = WORLD_UID,
					       .pid = 4711,
					       .command = "prepared"};
	struct pool_member *member;

	must(!pool_join(pool, &identity, &member), "join");
	return member;
}

static void makes(struct instance_scene *scene, unsigned who, const struct pool_options *options, uint64_t request,
		  struct pool **poolp)
{
	const struct registry_call call = call_of(scene, who, request);

	must(!registry_create(scene->registry, options, &call, poolp), "create");
}

static void makes_old(struct instance_scene *scene)
{
	const struct pool_options options = named("old", 65536);
	struct pool_member *members[INSTANCE_SESSIONS];
	struct pool *pool;
	uint64_t offset;

	makes(scene, A, &options, 1, &pool);
	for (unsigned i = 0; i < INSTANCE_SESSIONS; i++) {
		members[i] = joins(scene, pool, i);
		for (unsigned n = 1; n < 4; n++)
			offset = world_alloc(members[i], 100 * n);
	}
	must(!pool_publish(members[B], offset, "it", 2) && !pool_retain(members[A], offset), "publish");
	pool_unref(pool);
}

static void makes_leased(struct instance_scene *scene)
{
	const struct pool_options options = named("leased", 1u << 20);
	struct pool_member *member;
	struct pool *pool;

	makes(scene, B, &options, 2, &pool);
	member = joins(scene, pool, B);
	world_alloc(member, 5000);
	pool_unref(pool);
}

static void makes_private(struct instance_scene *scene, unsigned who, uint64_t request)
{
	const struct pool_options options = named("", 20000);
	struct pool *pool;

	makes(scene, who, &options, request, &pool);
	world_alloc(joins(scene, pool, who), 300);
	pool_unref(pool);
}

static void one_pool(struct instance_scene *scene)
{
	begins(scene, A);
	begins(scene, B);
	makes_old(scene);
}

static void one_leased(struct instance_scene *scene)
{
	begins(scene, A);
	begins(scene, B);
	makes_leased(scene);
}

static void two_private(struct instance_scene *scene)
{
	begins(scene, A);
	begins(scene, B);
	makes_private(scene, A, 2);
	makes_private(scene, B, 3);
	makes_private(scene, B, 4);
}

/* ---- what is stepped ---- */

/* As the daemon's dispatch has it: what was answered before is answered again. */
static bool was_answered(struct instance_scene *scene, const struct registry_call *call)
{
	struct directory_answer answer;

	if (!registry_answered(scene->registry, call, &answer))
		return false;
	scene->r = answer.outcome;
	scene->pool = answer.outcome ? 0 : answer.pool;
	return true;
}

static void create_with(struct instance_scene *scene, const struct pool_options *options)
{
	const struct registry_call call = call_of(scene, A, INSTANCE_REQUESTS);
	struct pool *pool;

	if (was_answered(scene, &call))
		return;
	scene->r = registry_create(scene->registry, options, &call, &pool);
	if (scene->r)
		return;
	scene->pool = pool_id(pool);
	pool_unref(pool);
}

static void create(struct instance_scene *scene)
{
	const struct pool_options options = named("new", 40000);

	create_with(scene, &options);
}

static void create_leased(struct instance_scene *scene)
{
	const struct pool_options options = named("new", 1u << 20);

	create_with(scene, &options);
}

static void create_reserved(struct instance_scene *scene)
{
	struct pool_options options = named("new", 40000);

	options.reserve = options.guard = true;
	create_with(scene, &options);
}

static void create_private(struct instance_scene *scene)
{
	const struct pool_options options = named("", 40000);

	create_with(scene, &options);
}

static void create_taken(struct instance_scene *scene)
{
	const struct pool_options options = named("old", 40000);

	create_with(scene, &options);
}

static void destroy_of(struct instance_scene *scene, const char *name, bool if_empty)
{
	const struct registry_call call = call_of(scene, A, INSTANCE_REQUESTS);
	struct pool_warning warning;
	struct pool *pool;

	if (was_answered(scene, &call))
		return;
	must(!registry_find(scene->registry, name, strlen(name), &pool), "find");
	scene->pool = pool_id(pool);
	scene->r = registry_remove(scene->registry, pool, if_empty, &call, &warning);
	if (scene->r) {
		scene->r += REGISTRY_POOL_E;
		scene->pool = 0;
	}
	pool_unref(pool); /* its members have it still */
}

static void destroy(struct instance_scene *scene)
{
	destroy_of(scene, "old", false);
}

static void destroy_leased(struct instance_scene *scene)
{
	destroy_of(scene, "leased", false);
}

static void destroy_refused(struct instance_scene *scene)
{
	destroy_of(scene, "old", true);
}

static void session_begins(struct instance_scene *scene)
{
	struct directory_session session = {.uid = WORLD_UID + 2,
					    .gid = WORLD_UID,
					    .pid = 1234,
					    .since_s = 99,
					    .started = 98,
					    .pid_space = 97,
					    .command = "stepped",
					    .lock_object = "/none"};
	uint32_t slot;

	scene->r = registry_add_session(scene->registry, &session, &slot);
	scene->n_given = session.id;
}

static void session_is_ending(struct instance_scene *scene)
{
	registry_set_session(scene->registry, scene->slots[B], DIRECTORY_ENDING);
}

static void session_goes(struct instance_scene *scene)
{
	registry_remove_session(scene->registry, scene->slots[B]);
}

static void private_pools_go(struct instance_scene *scene)
{
	registry_remove_owned(scene->registry, scene->sessions[B]);
}

static void start(struct instance_scene *scene)
{
	int n_swept;

	scene->r = registry_open(&scene->registry, &scene->config, &n_swept);
}

static void stop(struct instance_scene *scene)
{
	scene->registry = registry_keep(scene->registry);
}

/* ---- all of them ---- */

/* n_states_least: half or less of what was seen */
const struct instance_kind instance_kinds[] = {
	{"create", INSTANCE_RECOVERY, 40, one_pool, create},
	{"create, with leases", 0, 40, one_pool, create_leased},
	{"create, reserved and guarded", 0, 40, one_pool, create_reserved},
	{"create, private", 0, 40, one_pool, create_private},
	{"create refused", 0, 4, one_pool, create_taken},
	{"destroy", INSTANCE_RECOVERY, 6, one_pool, destroy},
	{"destroy, with leases", 0, 6, one_leased, destroy_leased},
	{"destroy refused", 0, 4, one_pool, destroy_refused},
	{"a session begins", INSTANCE_NO_REPEAT, 6, one_pool, session_begins},
	{"a session is ending", 0, 2, one_pool, session_is_ending},
	{"a session goes", 0, 2, one_pool, session_goes},
	{"private pools of a session go", INSTANCE_IN_STEPS, 6, two_private, private_pools_go},
	{"the first start", INSTANCE_STARTS | INSTANCE_NO_REPEAT, 10, NULL, start},
	{"a clean stop", INSTANCE_STOPS | INSTANCE_NO_REPEAT, 2, one_pool, stop},
};
const unsigned n_instance_kinds = N_ELEMENTS(instance_kinds);
