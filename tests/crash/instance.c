// SPDX-License-Identifier: MIT
/*
 * The child makes the scene, stops, runs the operation, stops; the parent keeps what it sees in between. Then the child is
 * killed, so that its names and its lock are free, and a daemon's start is made from each state in turn. The child's own look at its live
 * registry, before and after, is what starts are compared with.
 */
#include "instance.h"

#include <inttypes.h>
#include <sys/mman.h>

#include "album.h"
#include "finding.h"
#include "must.h"
#include "stepper.h"

struct shared {			     /* what the child tells the parent */
	struct instance_scene scene; /* its plain parts */
	char before[PICTURE_BYTES], after[PICTURE_BYTES], after_timeless[PICTURE_BYTES];
};

struct run { /* of one operation */
	const struct instance_kind *kind;
	struct shared *shared;
	char instance[SEGMENT_INSTANCE_MAX + 1];
	struct registry_config config;
	pid_t child;
	struct watch watch;
	bool is_recovery; /* which changes no picture */
	bool is_after;	  /* the picture of after was seen */
};

/* ---- findings ---- */

static struct run *current;

static void sweep(const struct run *run)
{
	char lock_name[SEGMENT_NAME_BYTES];

	must(segment_sweep(run->instance, NULL, NULL) >= 0, "sweep");
	snprintf(lock_name, sizeof(lock_name), "/mempool.%s", run->instance);
	shm_unlink(lock_name);
}

static void clean_up(void)
{
	stepper_end(current->child);
	sweep(current);
}

static void found_picture(const char *what, const char *got, const char *before, const char *after)
{
	printf("---- got:\n%s---- before:\n%s---- after:\n%s", got, before, after);
	found("%s", what);
}

static void on_sentence(void *arg, const char *sentence)
{
	(void)arg;
	found("it says: %s", sentence);
}

/* ---- the child ---- */

static void draw(const struct instance_scene *scene, bool with_times, char *picture)
{
	picture[0] = '\0';
	if (scene->registry)
		picture_take_instance(scene->registry, INSTANCE_REQUESTS, with_times, picture);
}

static void child_operation(void *arg)
{
	const struct run *run = arg;
	struct instance_scene scene = {.config = run->config};
	int n_swept;

	if (!(run->kind->flags & INSTANCE_STARTS))
		must(!registry_open(&scene.registry, &scene.config, &n_swept), "registry_open");
	if (run->kind->prepare)
		run->kind->prepare(&scene);
	draw(&scene, true, run->shared->before);
	run->shared->scene = scene;
	stepper_stop();
	run->kind->run(&scene);
	stepper_stop();
	draw(&scene, true, run->shared->after);
	draw(&scene, false, run->shared->after_timeless);
	run->shared->scene = scene;
	if (run->kind->flags & INSTANCE_STARTS)
		memcpy(run->shared->before, run->shared->after, PICTURE_BYTES);
	if (run->kind->flags & INSTANCE_STOPS)
		memcpy(run->shared->after, run->shared->before, PICTURE_BYTES);
	stepper_stop(); /* and be killed */
}

struct part { /* of the child that recovers */
	const struct run *run;
	const struct frozen *frozen;
};

static void child_recovery(void *arg)
{
	const struct part *part = arg;
	struct registry *registry;
	int n_swept;

	frozen_thaw(part->frozen, false);
	stepper_stop();
	must(!registry_open(&registry, &part->run->config, &n_swept), "registry_open");
	stepper_stop();
}

/* ---- a state ---- */

static void compare(struct run *run, const char *picture)
{
	const struct shared *shared = run->shared;
	bool is_before = !strcmp(picture, shared->before), is_after = !strcmp(picture, shared->after);

	if (run->kind->flags & INSTANCE_IN_STEPS && !run->is_recovery) {
		run->is_after |= is_after;
		if (!picture_is_of_wholes(picture, shared->before, shared->after))
			found("it is in between");
		return;
	}
	if (is_before && is_after)
		return;
	if (!is_before && !is_after)
		found_picture("neither as before nor as after", picture, shared->before, shared->after);
	if (is_before && run->is_after)
		found_picture("as before again, after it had happened", picture, shared->before, shared->after);
	run->is_after = is_after;
}

/* Return: the objects that they have */
static unsigned check_pools(struct registry *registry)
{
	struct pool *pools[16];
	uint32_t n = registry_list_all(registry, 0, pools, N_ELEMENTS(pools));
	unsigned n_objects = 0;

	for (uint32_t i = 0; i < n; i++) {
		struct pool_fault faults[4];
		uint32_t n_faults = pool_check(pools[i], faults, N_ELEMENTS(faults));

		if (n_faults)
			found("pool %" PRIu64 ": %u faults, the first at 0x%" PRIx64 ": %s", pool_id(pools[i]),
			      n_faults, faults[0].offset, faults[0].what);
		n_objects += pool_lease_name(pools[i])[0] ? 3 : 2;
		pool_unref(pools[i]);
	}
	return n_objects;
}

static void check_objects(const struct run *run, unsigned n_expected)
{
	char prefix[SEGMENT_NAME_BYTES];
	unsigned n;

	snprintf(prefix, sizeof(prefix), "mempool.%s", run->instance);
	n = world_count("/dev/shm", prefix);
	if (n != n_expected)
		found("%u objects are there, %u have a name", n, n_expected);
}

/* Of a destroyed pool the members have the last references. */
static void let_go(struct pool *pools[], uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		while (pools[i]->is_destroyed && pools[i]->first)
			world_leave(pools[i]->first);
		pool_unref(pools[i]);
	}
}

/* The client has lost its answer and asks again. */
static void ask_again(const struct run *run, struct registry *registry)
{
	static char picture[PICTURE_BYTES];
	const struct instance_scene *once = &run->shared->scene;
	struct instance_scene scene = *once;
	struct pool *pools[16];
	uint32_t n = registry_list_all(registry, 0, pools, N_ELEMENTS(pools));

	scene.registry = registry;
	scene.r = 0;
	scene.pool = 0;
	run->kind->run(&scene);
	let_go(pools, n);
	check_objects(run, 1 + check_pools(registry));
	if (scene.r != once->r || scene.pool < once->pool)
		found("asked again, it answers %d, pool %" PRIu64 ", not %d, pool %" PRIu64, scene.r, scene.pool,
		      once->r, once->pool);
	draw(&scene, false, picture);
	/* a number that was raised for what never happened is not used again: the new pool has the next */
	if (scene.pool == once->pool && strcmp(picture, run->shared->after_timeless))
		found_picture("asked again, it is not as after", picture, run->shared->before,
			      run->shared->after_timeless);
}

static void check_numbers(const struct run *run, struct registry *registry)
{
	struct directory_session session = {.command = "late"};
	uint64_t n_given = run->shared->scene.n_given;
	uint32_t slot;

	must(!registry_add_session(registry, &session, &slot), "session");
	if (session.id < n_given || (session.id == n_given && run->is_after))
		found("session %" PRIu64 " is given again", session.id);
}

static void check_state(struct run *run, const struct frozen *frozen, bool and_ask_again)
{
	static char picture[PICTURE_BYTES];
	struct registry *registry;
	int n_swept, r;

	finding_place.state++;
	/* with more memory than the books know, and with less: a start mends both */
	frozen_thaw(frozen, finding_place.state % 2);
	r = registry_open(&registry, &run->config, &n_swept);
	if (r)
		found("the start is refused: %d", r);
	check_objects(run, 1 + check_pools(registry));
	picture_take_instance(registry, INSTANCE_REQUESTS, true, picture);
	compare(run, picture);
	if (and_ask_again && !(run->kind->flags & INSTANCE_NO_REPEAT))
		ask_again(run, registry);
	check_numbers(run, registry);
	registry_keep(registry);
	sweep(run);
}

/* ---- stepping ---- */

/* From the child's first stop to its second. */
static void film(struct run *run, struct album *album, struct instance_count *count)
{
	int64_t n_stops;

	watch_begin(&run->watch, run->instance);
	album_add(album, &run->watch);
	n_stops = album_film(album, &run->watch, run->child);
	if (n_stops < 0)
		found("the process that runs it ended or crashed");
	count->n_stops += (uint64_t)n_stops;
	count->n_states += album->n;
}

static void end_child(struct run *run)
{
	stepper_end(run->child);
	run->child = 0;
	watch_end(&run->watch);
	sweep(run);
}

static void step_operation(struct run *run, struct album *album, struct instance_count *count)
{
	finding_place.what = "operation";
	run->child = stepper_begin(child_operation, run);
	film(run, album, count);
	if (stepper_go_on(run->child) != STEPPER_STOPPED) /* to its picture of after */
		found("the process that runs it ended or crashed");
	end_child(run);
	for (unsigned i = 0; i < album->n; i++)
		check_state(run, &album->frozen[i], true);
	if (!run->is_after && strcmp(run->shared->before, run->shared->after))
		found("it never happened");
}

/* What a start that nobody kills comes to is what is expected of the others. */
static void expect_recovered(struct run *run, const struct frozen *frozen)
{
	struct registry *registry;
	int n_swept;

	frozen_thaw(frozen, false);
	must(!registry_open(&registry, &run->config, &n_swept), "registry_open");
	picture_take_instance(registry, INSTANCE_REQUESTS, true, run->shared->before);
	memcpy(run->shared->after, run->shared->before, PICTURE_BYTES);
	registry_keep(registry);
	sweep(run);
}

static void step_recovery(struct run *run, const struct frozen *frozen, struct instance_count *count)
{
	const struct part part = {.run = run, .frozen = frozen};
	struct album album = {0};

	finding_place.what = "recovery";
	run->is_recovery = true;
	finding_place.state = 0;
	expect_recovered(run, frozen);
	run->child = stepper_begin(child_recovery, (void *)(uintptr_t)&part);
	film(run, &album, count);
	end_child(run);
	for (unsigned i = 0; i < album.n; i++)
		check_state(run, &album.frozen[i], false);
	album_free(&album);
}

static uint64_t n_noted(const struct frozen *frozen)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < frozen->n_objects; i++)
		if (frozen->objects[i].is_ledger)
			n += ((const struct ledger_header *)(const void *)frozen->objects[i].bytes)->n_noted;
	return n;
}

/* From which a start has most to do: something under way in the directory; and objects that nobody names. */
static void step_recoveries(struct run *run, const struct album *album, struct instance_count *count)
{
	const struct frozen *most_noted = album->frozen, *most_objects = album->frozen;

	for (const struct frozen *state = album->frozen; state < album->frozen + album->n; state++) {
		if (n_noted(state) > n_noted(most_noted))
			most_noted = state;
		if (state->n_objects > most_objects->n_objects)
			most_objects = state;
	}
	step_recovery(run, most_noted, count);
	if (most_objects->n_objects > album->frozen->n_objects)
		step_recovery(run, most_objects, count);
}

static void run_init(struct run *run, const struct instance_kind *kind)
{
	*run = (struct run){.kind = kind};
	snprintf(run->instance, sizeof(run->instance), "step-%d", (int)getpid());
	run->config = (struct registry_config){
		.instance = run->instance, .budget_bytes = UINT64_MAX, .decay_ms = UINT64_MAX, .tell = on_sentence};
	for (int i = 0; i < QUOTA_KIND_N; i++)
		run->config.quota_limit[i] = UINT64_MAX;
	run->shared = mmap(NULL, sizeof(*run->shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	must(run->shared != MAP_FAILED, "mmap");
}

void instance_step(const struct instance_kind *kind, struct instance_count *operation, struct instance_count *recovery)
{
	struct album album = {0};
	struct run run;

	run_init(&run, kind);
	current = &run;
	finding_place = (struct finding_place){.kind = kind->name, .crash = "a start crashes", .clean_up = clean_up};
	finding_catch_crashes();
	step_operation(&run, &album, operation);
	if (kind->flags & INSTANCE_RECOVERY)
		step_recoveries(&run, &album, recovery);
	album_free(&album);
	munmap(run.shared, sizeof(*run.shared));
	current = NULL;
}
