// SPDX-License-Identifier: MIT
/*
 * The child makes the scene, stops, runs the operation, stops; the parent keeps what it sees in between, and recovers a pool from each
 * state in turn. The child's own look at its live pool, before and after, is what recovered ones are compared with: what the
 * recovery believes does not judge itself.
 */
#include "step.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/mman.h>

#include "album.h"
#include "finding.h"
#include "must.h"
#include "stepper.h"

struct shared { /* what the child tells the parent */
	char instance[SEGMENT_INSTANCE_MAX + 1];
	struct scene scene; /* its plain parts */
	char before[PICTURE_BYTES], after[PICTURE_BYTES];
	char before_timeless[PICTURE_BYTES], after_timeless[PICTURE_BYTES];
};

struct run { /* of one operation */
	const struct kind *kind;
	struct shared *shared;
	struct world world; /* of the parent: where pools are recovered */
	pid_t child;
	struct watch watch;
	bool is_recovery; /* which changes no picture */
	bool is_after;	  /* the picture of after was seen */
	uint64_t n_freed; /* by the last state */
};

/* ---- findings ---- */

static const struct run *current;

static void clean_up(void)
{
	if (!current)
		return;
	stepper_end(current->child);
	must(segment_sweep(current->world.instance, NULL, NULL) >= 0 &&
		     segment_sweep(current->shared->instance, NULL, NULL) >= 0,
	     "sweep");
}

static void print_lines_beyond(const char *title, const char *text, const char *other)
{
	printf("%s\n", title);
	for (const char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
		const char *same = memmem(other, strlen(other), line, (size_t)(end - line + 1));

		if (!same)
			printf("  %.*s\n", (int)(end - line), line);
	}
}

static void found_picture(const char *what, const char *got, const char *before, const char *after)
{
	print_lines_beyond("not as before:", got, before);
	print_lines_beyond("missing of before:", before, got);
	print_lines_beyond("not as after:", got, after);
	print_lines_beyond("missing of after:", after, got);
	found("%s", what);
}

/* ---- time ---- */

/*
 * A time that is written over the same time is no state. What is stepped comes a while after what it finds, as it would in earnest,
 * whether or not the second has passed.
 */
#define A_WHILE_S 3

static time_t later_s;

time_t __real_time(time_t *now);
time_t __wrap_time(time_t *now);

time_t __wrap_time(time_t *now)
{
	time_t later = __real_time(NULL) + later_s;

	if (now)
		*now = later;
	return later;
}

/* ---- the child ---- */

static void scene_init(struct scene *scene, const struct kind *kind, struct world *world, uint64_t seed)
{
	*scene = (struct scene){.world = world, .seed = seed};
	if (kind->flags & KIND_CREATES)
		return;
	scene->pool = world_pool_with(world, &kind->options);
	for (int i = 0; i < SCENE_N_MEMBERS; i++) {
		scene->members[i] = world_join_as(world, scene->pool, WORLD_UID + (uint32_t)i % 2);
		scene->sessions[i] = scene->members[i]->session;
	}
}

static void tell(const struct scene *scene, struct shared *shared)
{
	shared->scene = *scene;
	snprintf(shared->instance, sizeof(shared->instance), "%s", scene->world->instance);
}

static void draw(struct pool *pool, char *picture, char *timeless)
{
	picture[0] = timeless[0] = '\0';
	if (!pool)
		return;
	picture_take(pool, true, picture);
	picture_take(pool, false, timeless);
}

struct part { /* of the child */
	const struct kind *kind;
	uint64_t seed;
	const struct frozen *frozen;
	struct shared *shared;
};

static void child_operation(void *arg)
{
	const struct part *part = arg;
	const struct kind *kind = part->kind;
	struct shared *shared = part->shared;
	struct world world;
	struct scene scene;

	current = NULL;
	world_init(&world);
	scene_init(&scene, kind, &world, part->seed);
	if (kind->prepare)
		kind->prepare(&scene);
	if (scene.pool) /* which offsets were blocks once is not promised to outlive a daemon; here, neither knows */
		memset(scene.pool->freed, 0, sizeof(scene.pool->freed));
	draw(scene.pool, shared->before, shared->before_timeless);
	tell(&scene, shared);
	later_s = A_WHILE_S;
	stepper_stop();
	kind->run(&scene);
	stepper_stop();
	draw(kind->flags & KIND_DESTROYS ? NULL : scene.pool, shared->after, shared->after_timeless);
	tell(&scene, shared);
	stepper_stop(); /* and be killed: what it leaves is swept up by the parent */
}

static void child_recovery(void *arg)
{
	const struct part *part = arg;
	struct segment books, data;
	struct world world;
	struct pool *pool;
	char why[200];

	current = NULL;
	world_init(&world);
	snprintf(part->shared->instance, sizeof(part->shared->instance), "%s", world.instance);
	frozen_thaw_pool(part->frozen, world.instance, false, &books, &data);
	later_s = A_WHILE_S;
	stepper_stop();
	must(!pool_recover(&pool, &world.env, books.name, why, sizeof(why)), "pool_recover");
	stepper_stop();
}

/* ---- a state ---- */

static void compare_atomic(struct run *run, const char *picture)
{
	const struct shared *shared = run->shared;
	bool is_before = !strcmp(picture, shared->before), is_after = !strcmp(picture, shared->after);

	if (is_before && is_after)
		return;
	if (!is_before && !is_after)
		found_picture("neither as before nor as after", picture, shared->before, shared->after);
	if (is_before && run->is_after)
		found_picture("as before again, after it had happened", picture, shared->before, shared->after);
	run->is_after = is_after;
}

static void compare_steps(struct run *run, struct pool *pool, const char *picture)
{
	uint64_t n_freed = world_stats(pool).free_total;

	if (!picture_is_between(picture, run->shared->before, run->shared->after))
		found_picture("a part of it is neither as before nor as after", picture, run->shared->before,
			      run->shared->after);
	if (n_freed < run->n_freed)
		found("fewer frees than a moment before");
	run->n_freed = n_freed;
}

static void check_books(struct pool *pool)
{
	struct pool_fault faults[4];
	uint32_t n = pool_check(pool, faults, N_ELEMENTS(faults));

	if (n)
		found("%u faults, the first at 0x%" PRIx64 ": %s", n, faults[0].offset, faults[0].what);
}

static uint64_t kernel_bytes(int fd)
{
	struct stat st;

	must(!fstat(fd, &st), "fstat");
	return (uint64_t)st.st_blocks * 512;
}

static void check_backing(const struct run *run, const struct frozen *frozen, struct pool *pool)
{
	uint64_t backed = atomic_load(&pool->backing.backed_bytes);

	if (!run->is_recovery && backed > frozen_data(frozen)->kernel_bytes) /* or mended on the way */
		found("its books say that %" PRIu64 " bytes are backed, the kernel had %" PRIu64, backed,
		      frozen_data(frozen)->kernel_bytes);
	if (kernel_bytes(pool_data_fd(pool)) != backed)
		found("%" PRIu64 " bytes are backed, the kernel has %" PRIu64, backed,
		      kernel_bytes(pool_data_fd(pool)));
}

/* The client has lost its answer and asks again. */
static void ask_again(const struct run *run, struct pool *pool)
{
	static char picture[PICTURE_BYTES];
	struct scene scene = run->shared->scene;

	scene.world = (struct world *)&run->world;
	scene.pool = pool;
	memset(pool->freed, 0, sizeof(pool->freed));
	scene.answer = (struct answer){0};
	for (int i = 0; i < SCENE_N_MEMBERS; i++)
		scene.members[i] = pool_member_of(pool, scene.sessions[i]);
	run->kind->run(&scene);
	if (run->kind->flags & KIND_DESTROYS)
		return;
	check_books(pool);
	picture_take(pool, false, picture);
	if (memcmp(&scene.answer, &run->shared->scene.answer, sizeof(scene.answer)))
		found("asked again, it answers %d, 0x%" PRIx64 ", %" PRIu64 ", not %d, 0x%" PRIx64 ", %" PRIu64,
		      scene.answer.r, scene.answer.offset, scene.answer.size, run->shared->scene.answer.r,
		      run->shared->scene.answer.offset, run->shared->scene.answer.size);
	if (strcmp(picture, run->shared->after_timeless))
		found_picture("asked again, it is not as after", picture, run->shared->before_timeless,
			      run->shared->after_timeless);
}

static bool may_be_refused(const struct run *run)
{
	return (run->kind->flags & KIND_DESTROYS || (run->kind->flags & KIND_CREATES && !run->is_after));
}

static void look_at(struct run *run, struct pool *pool, const struct frozen *frozen)
{
	static char picture[PICTURE_BYTES];

	check_books(pool);
	check_backing(run, frozen, pool);
	picture_take(pool, true, picture);
	if (run->is_recovery) {
		compare_atomic(run, picture);
	} else if (run->kind->flags & KIND_CREATES) {
		run->is_after = true;
		if (strcmp(picture, run->shared->after))
			found_picture("not as after", picture, "", run->shared->after);
	} else if (run->kind->flags & KIND_DESTROYS) {
		if (strcmp(picture, run->shared->before))
			found_picture("not as before", picture, run->shared->before, "");
	} else if (run->kind->flags & KIND_IN_STEPS) {
		compare_steps(run, pool, picture);
	} else {
		compare_atomic(run, picture);
	}
}

static void check_state(struct run *run, const struct frozen *frozen, bool and_ask_again)
{
	struct segment books, data;
	char why[200] = "";
	struct pool *pool;
	int r;

	finding_place.state++;
	world_forget_charges(&run->world);
	/* with more memory than the books know, and with less: recovery mends both */
	frozen_thaw_pool(frozen, run->world.instance, finding_place.state % 2, &books, &data);
	r = pool_recover(&pool, &run->world.env, books.name, why, sizeof(why));
	if (!r) {
		look_at(run, pool, frozen);
		if (and_ask_again && !(run->kind->flags & KIND_NO_REPEAT))
			ask_again(run, pool);
		if (run->kind->flags & KIND_DESTROYS)
			pool_unref(pool);
		else
			pool_keep(pool);
	} else if (!may_be_refused(run) || !why[0] || r != POOL_E_DAMAGED) {
		found("refused with %d: %s", r, why);
	}
	segment_unlink(&books);
	segment_unlink(&data);
	segment_deinit(&books);
	segment_deinit(&data);
}

/* ---- stepping ---- */

static void film(struct run *run, struct album *album, struct step_count *count)
{
	int64_t n_stops = album_film(album, &run->watch, run->child);

	if (n_stops < 0)
		found("the process that runs it ended or crashed");
	count->n_stops += (uint64_t)n_stops;
	count->n_states += album->n;
}

static void go_on(const struct run *run)
{
	if (stepper_go_on(run->child) != STEPPER_STOPPED)
		found("the process that runs it ended or crashed");
}

static void end_child(struct run *run)
{
	stepper_end(run->child);
	run->child = 0;
	watch_end(&run->watch);
	must(segment_sweep(run->shared->instance, NULL, NULL) >= 0, "sweep");
}

static void begin_child(struct run *run, void (*body)(void *arg), const struct part *part)
{
	run->child = stepper_begin(body, (void *)(uintptr_t)part);
	watch_begin(&run->watch, run->shared->instance);
}

/* ---- a kind ---- */

static uint64_t n_noted(const struct frozen *frozen)
{
	const struct frozen_object *books = frozen_books(frozen);

	return books ? ((const struct ledger_header *)(const void *)books->bytes)->n_noted : 0;
}

/* The state in the middle of most: recovery has most to do. */
static const struct frozen *most_noted(const struct album *album)
{
	const struct frozen *most = &album->frozen[album->n / 2];

	for (unsigned i = 0; i < album->n; i++)
		if (n_noted(&album->frozen[i]) > n_noted(most))
			most = &album->frozen[i];
	return most;
}

static void step_operation(struct run *run, uint64_t seed, struct album *album, struct step_count *count)
{
	const struct part part = {.kind = run->kind, .seed = seed, .shared = run->shared};

	finding_place.what = "operation";
	finding_place.state = 0;
	run->is_after = false;
	run->n_freed = 0;
	begin_child(run, child_operation, &part);
	album_add(album, &run->watch);
	film(run, album, count);
	go_on(run); /* to its picture of after */
	for (unsigned i = 0; i < album->n; i++)
		check_state(run, &album->frozen[i], true);
	if (!run->is_after && strcmp(run->shared->before, run->shared->after) &&
	    !(run->kind->flags & (KIND_IN_STEPS | KIND_DESTROYS)))
		found("it never happened");
	end_child(run);
}

/* What a recovery of it that nobody kills comes to is what is expected of the others. */
static void expect_recovered(struct run *run, const struct frozen *frozen)
{
	struct segment books, data;
	char why[200] = "";
	struct pool *pool;

	world_forget_charges(&run->world);
	frozen_thaw_pool(frozen, run->world.instance, false, &books, &data);
	must(!pool_recover(&pool, &run->world.env, books.name, why, sizeof(why)), "pool_recover");
	draw(pool, run->shared->before, run->shared->before_timeless);
	memcpy(run->shared->after, run->shared->before, PICTURE_BYTES);
	pool_keep(pool);
	segment_unlink(&books);
	segment_unlink(&data);
	segment_deinit(&books);
	segment_deinit(&data);
}

static void step_recovery(struct run *run, const struct frozen *frozen, struct step_count *count)
{
	const struct part part = {.frozen = frozen, .shared = run->shared};
	struct album album = {0};

	finding_place.what = "recovery";
	finding_place.state = 0;
	run->is_recovery = true;
	expect_recovered(run, frozen);
	begin_child(run, child_recovery, &part);
	film(run, &album, count);
	for (unsigned i = 0; i < album.n; i++)
		check_state(run, &album.frozen[i], false);
	album_free(&album);
	end_child(run);
}

static struct run *run_new(const struct kind *kind)
{
	struct run *run = calloc(1, sizeof(*run));

	must(run, "calloc");
	run->kind = kind;
	run->shared = mmap(NULL, sizeof(*run->shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	must(run->shared != MAP_FAILED, "mmap");
	world_init(&run->world);
	current = run;
	finding_place = (struct finding_place){.kind = kind->name, .crash = "recovery crashes", .clean_up = clean_up};
	return run;
}

static void run_free(struct run *run)
{
	current = NULL;
	world_forget_charges(&run->world);
	quota_deinit(&run->world.quota);
	budget_deinit(&run->world.budget);
	munmap(run->shared, sizeof(*run->shared));
	free(run);
}

void step_kind(const struct kind *kind, uint64_t seed, bool recovery_too, struct step_count *operation,
	       struct step_count *recovery)
{
	struct run *run = run_new(kind);
	struct album album = {0};

	finding_catch_crashes();
	step_operation(run, seed, &album, operation);
	if (recovery_too && !(kind->flags & (KIND_CREATES | KIND_DESTROYS)))
		step_recovery(run, most_noted(&album), recovery);
	album_free(&album);
	run_free(run);
}
