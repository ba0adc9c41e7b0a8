// SPDX-License-Identifier: MIT
/*
 * Happy path: start the daemon, create the pools, start the workers; for each cycle wait until a random number of operations
 * was begun, kill, restart what was killed; now and then pause all and compare; at the end let them give up all they have.
 * Failures: the first fault is said, with what each thread did last and the daemon's log; everything is killed.
 *
 * The driver has one thread, and no session but for an audit. It waits on futexes in the model, with a bound.
 */
#include "kill_run.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kill_aim.h"
#include "kill_worker.h"

#define PATIENCE_MS 90000 /* without an operation being begun: somebody hangs */

int kill_run_fail(struct kill_run *run, const char *format, ...)
{
	va_list args;

	if (atomic_exchange(&run->model->is_failed, 1))
		return -1;
	va_start(args, format);
	vsnprintf(run->model->failure, sizeof(run->model->failure), format, args);
	va_end(args);
	return -1;
}

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* ---- workers ---- */

static int start_worker(struct kill_run *run, unsigned index)
{
	struct kill_worker *worker = &run->model->workers[index];
	pid_t pid;

	if (!worker->old_session) /* else it died while it waited for that one's end, and did nothing */
		worker->old_session = atomic_load(&worker->session);
	atomic_store(&worker->session, 0);
	atomic_fetch_add(&worker->incarnation, 1);
	if (run->plan->in_one_process && index + 1 < run->plan->n_workers)
		return 0; /* the last one's process is all of theirs */
	fflush(NULL);
	pid = fork();
	if (pid < 0)
		return kill_run_fail(run, "fork: %s", strerror(errno));
	if (!pid) {
		close(run->life_fd);
		if (run->plan->in_one_process)
			kill_worker_run_all(run->model);
		kill_worker_run(run->model, index);
	}
	run->pids[index] = pid;
	return 0;
}

static void end_child(struct kill_run *run, unsigned index, pid_t next)
{
	if (run->children[index] > 0) {
		kill(run->children[index], SIGKILL);
		waitpid(run->children[index], NULL, 0);
	}
	run->children[index] = next;
}

static int kill_workers(struct kill_run *run, const bool chosen[static KILL_WORKERS])
{
	for (unsigned i = 0; i < run->plan->n_workers; i++) {
		struct kill_worker *worker = &run->model->workers[i];

		if (!chosen[i])
			continue;
		atomic_store(&worker->doomed, atomic_load(&worker->incarnation));
		kill(run->pids[i], SIGKILL);
	}
	for (unsigned i = 0; i < run->plan->n_workers; i++)
		if (chosen[i] && waitpid(run->pids[i], NULL, 0) != run->pids[i])
			return kill_run_fail(run, "waitpid: %s", strerror(errno));
	for (unsigned i = 0; i < run->plan->n_workers; i++) {
		if (!chosen[i])
			continue;
		kill_bury(run, i);
		run->pids[i] = 0;
		run->seen.worker_kills++;
		/* its child lives on until the next one of this worker has a child */
		if (atomic_load(&run->model->workers[i].child))
			end_child(run, i, atomic_exchange(&run->model->workers[i].child, 0));
	}
	return 0;
}

static int restart_workers(struct kill_run *run, const bool chosen[static KILL_WORKERS])
{
	int r = 0;

	for (unsigned i = 0; !r && i < run->plan->n_workers; i++)
		if (chosen[i])
			r = start_worker(run, i);
	return r;
}

/* ---- the daemon ---- */

static void look_at_killed(struct kill_run *run)
{
	unsigned n = 0;

	for (unsigned w = 0; w < run->plan->n_workers; w++) {
		for (unsigned t = 0; (run->pids[w] || run->plan->in_one_process) && t < run->plan->n_threads; t++) {
			uint32_t kind = atomic_load(&run->model->workers[w].threads[t].op.kind);

			n += kind != KILL_IDLE;
			run->seen.kinds[kind]++;
		}
	}
	run->seen.n_in_flight += n;
	run->seen.in_flight += n > 0;
	run->seen.in_update += kill_watch_sees_update(&run->watch);
	run->seen.daemon_kills++;
}

static int start_daemon(struct kill_run *run)
{
	char old[112];
	uint64_t begun;

	snprintf(old, sizeof(old), "%s.1", run->daemon.log);
	rename(run->daemon.log, old); /* of the life before, for a failure's report */
	begun = now_us();
	if (daemon_start(&run->daemon, NULL))
		return kill_run_fail(run, "the daemon does not start");
	begun = now_us() - begun;
	run->seen.starts++;
	run->seen.restart_us += begun;
	if (begun > run->seen.restart_us_most)
		run->seen.restart_us_most = begun;
	atomic_fetch_add(&run->model->up, 1);
	kill_wake(&run->model->up);
	return 0;
}

static int make_pools(struct kill_run *run)
{
	struct mempool_client *client;
	int r = mempool_connect(&client, run->daemon.socket);

	for (unsigned i = 0; !r && i < KILL_POOLS; i++) {
		struct mempool_pool_options options;
		struct mempool_pool *pool;

		mempool_pool_options_init(&options);
		options.lifetime = i == KILL_POOL_POOL ? MEMPOOL_LIFETIME_POOL : MEMPOOL_LIFETIME_SESSION;
		options.fill = i == KILL_POOL_POOL ? MEMPOOL_FILL_NONE : MEMPOOL_FILL_PATTERN;
		r = mempool_pool_create(client, kill_pool_name(i), run->plan->pool_bytes, &options, &pool);
		if (!r)
			mempool_pool_close(pool);
	}
	if (r)
		return kill_run_fail(run, "pools: %s", mempool_last_error());
	mempool_disconnect(client);
	return 0;
}

/* ---- waiting ---- */

/* A worker that ended by itself has crashed: its own death is a fault as well. */
static int look_at_workers(struct kill_run *run)
{
	int status;

	for (unsigned i = 0; i < run->plan->n_workers; i++) {
		if (!run->pids[i] || waitpid(run->pids[i], &status, WNOHANG) != run->pids[i])
			continue;
		run->pids[i] = 0;
		return kill_run_fail(run, "worker %u ended by itself: %s %d", i,
				     WIFSIGNALED(status) ? "signal" : "exit code",
				     WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	}
	return atomic_load(&run->model->is_failed) ? -1 : 0;
}

/* Until @n operations more were begun. */
static int await_ops(struct kill_run *run, uint64_t n)
{
	struct kill_model *model = run->model;
	uint64_t target = atomic_load(&model->n_ops) + n, seen = 0, patience = now_us() + PATIENCE_MS * 1000ull;

	atomic_store(&model->wake_at, (uint32_t)target);
	for (;;) {
		uint32_t woken = atomic_load(&model->is_woken);
		uint64_t ops = atomic_load(&model->n_ops);

		if (look_at_workers(run))
			return -1;
		if (ops >= target)
			return 0;
		if (ops != seen)
			patience = now_us() + PATIENCE_MS * 1000ull;
		seen = ops;
		if (now_us() > patience)
			return kill_run_fail(run, "for %d s no operation was begun: somebody hangs",
					     PATIENCE_MS / 1000);
		(void)kill_wait(&model->is_woken, woken, 1000);
	}
}

static bool all_are_done(const struct kill_run *run, uint32_t phase)
{
	for (unsigned w = 0; w < run->plan->n_workers; w++)
		for (unsigned t = 0; t < run->plan->n_threads; t++)
			if (atomic_load(&run->model->workers[w].threads[t].phase_done) != phase)
				return false;
	return true;
}

static int enter_phase(struct kill_run *run, enum kill_phase kind)
{
	struct kill_model *model = run->model;
	uint32_t phase = ((atomic_load(&model->phase) >> 8) + 1) << 8 | kind;
	uint64_t patience = now_us() + PATIENCE_MS * 1000ull;

	atomic_store(&model->phase, phase);
	kill_wake(&model->phase);
	while (kind != KILL_RUN && kind != KILL_END) {
		uint32_t n_done = atomic_load(&model->n_done);

		if (all_are_done(run, phase))
			return look_at_workers(run);
		if (look_at_workers(run))
			return -1;
		if (now_us() > patience)
			return kill_run_fail(run, "phase %d does not end: somebody hangs", kind);
		(void)kill_wait(&model->n_done, n_done, 1000);
	}
	return 0;
}

/* ---- a cycle ---- */

/* Half of the kills of the daemon are aimed; the others come at no particular instruction after the operation that woke us. */
static void dawdle(struct kill_run *run, bool the_daemon)
{
	uint64_t until = now_us() + rnd_below(&run->rnd, 200);

	if (the_daemon && rnd_below(&run->rnd, 2)) {
		run->seen.aimed += (unsigned)kill_aim(run->daemon.pid, run->daemon.pidfd, &run->rnd);
		return;
	}
	while (now_us() < until)
		;
}

static void choose_workers(struct kill_run *run, bool chosen[static KILL_WORKERS])
{
	unsigned n = run->plan->n_workers - (run->plan->with_stopped ? 1 : 0);
	unsigned first = (unsigned)rnd_below(&run->rnd, n);

	for (unsigned i = 0; i < KILL_WORKERS; i++) /* one, and now and then more at once */
		chosen[i] = i < n && (i == first || !rnd_below(&run->rnd, 8));
}

static int end_daemon(struct kill_run *run, bool is_asked)
{
	if (!is_asked) {
		daemon_kill(&run->daemon);
		look_at_killed(run);
		return 0;
	}
	run->seen.daemon_stops++;
	return daemon_stop(&run->daemon) ? kill_run_fail(run, "SIGTERM: the daemon does not end well") : 0;
}

/* Now and then, and at times right after a receiver died: soon its sender may be dead, too, and nobody ask for the gift any more. */
static bool is_due(struct kill_run *run, unsigned index)
{
	const struct kill_plan *plan = run->plan;

	if (!plan->audit_every || run->is_stopped)
		return false;
	return !((index + 1) % plan->audit_every) || (run->has_doubted_gift && !rnd_below(&run->rnd, 2));
}

static int pause_for_audit(struct kill_run *run)
{
	int r = enter_phase(run, KILL_PAUSE);

	run->has_doubted_gift = false;
	if (!r)
		r = kill_audit(run, "in between");
	return r ? r : enter_phase(run, KILL_RUN);
}

static int cycle(struct kill_run *run, unsigned index)
{
	const struct kill_plan *plan = run->plan;
	bool the_daemon = rnd_below(&run->rnd, 100) < plan->daemon_percent;
	bool some_workers = rnd_below(&run->rnd, 100) < plan->worker_percent || !the_daemon;
	bool is_asked = the_daemon && rnd_below(&run->rnd, 100) < plan->stop_percent;
	bool workers_first = rnd_below(&run->rnd, 2), chosen[KILL_WORKERS] = {false};
	int r = 0;

	if (!plan->worker_percent)
		some_workers = false;
	if (some_workers)
		choose_workers(run, chosen);
	dawdle(run, the_daemon && !is_asked);
	if (some_workers && workers_first)
		r = kill_workers(run, chosen);
	if (!r && the_daemon)
		r = end_daemon(run, is_asked);
	if (!r && some_workers && !workers_first)
		r = kill_workers(run, chosen);
	if (!r && some_workers && workers_first)
		r = restart_workers(run, chosen); /* before a killed daemon is there again */
	if (!r && the_daemon)
		r = start_daemon(run);
	if (!r && some_workers && !workers_first)
		r = restart_workers(run, chosen);
	run->seen.cycles++;
	return r || !is_due(run, index) ? r : pause_for_audit(run);
}

static int cycles(struct kill_run *run)
{
	const struct kill_plan *plan = run->plan;

	for (unsigned i = 0; i < plan->n_cycles; i++) {
		atomic_store_explicit(&run->model->is_hungry, plan->hungry_every && i % plan->hungry_every == 0,
				      memory_order_relaxed);
		if (await_ops(run, 1 + rnd_below(&run->rnd, plan->gap_ops)))
			return -1;
		if (plan->with_stopped && !run->is_stopped) {
			kill(run->pids[plan->n_workers - 1], SIGSTOP);
			run->is_stopped = true;
		}
		if (cycle(run, i))
			return -1;
	}
	if (run->is_stopped)
		kill(run->pids[plan->n_workers - 1], SIGCONT);
	run->is_stopped = false;
	return await_ops(run, 1);
}

static int settle_up(struct kill_run *run)
{
	int r = enter_phase(run, KILL_PAUSE), status;

	if (!r)
		r = kill_audit(run, "when all was killed that was to be");
	if (!r)
		r = enter_phase(run, KILL_MAIL_OUT);
	if (!r)
		r = enter_phase(run, KILL_FREE_ALL);
	if (!r)
		r = enter_phase(run, KILL_END);
	for (unsigned i = 0; !r && i < run->plan->n_workers; i++) {
		if (run->pids[i] && (waitpid(run->pids[i], &status, 0) != run->pids[i] || status))
			r = kill_run_fail(run, "worker %u ended with status 0x%x", i, (unsigned)status);
		run->pids[i] = 0;
		atomic_store(&run->model->workers[i].session, 0);
	}
	return r ? r : kill_audit_end(run);
}

/* ---- saying ---- */

static void print_kinds(const char *what, const uint64_t kinds[static KILL_KIND_N])
{
	printf("  %s:", what);
	for (int i = 1; i < KILL_KIND_N; i++)
		if (kinds[i])
			printf(" %s %llu", kill_kind_names[i], (unsigned long long)kinds[i]);
	printf("\n");
}

static void print_seen(const struct kill_run *run)
{
	const struct kill_model *model = run->model;
	uint64_t n = run->seen.daemon_kills;
	uint64_t kinds[KILL_KIND_N];

	for (int i = 0; i < KILL_KIND_N; i++)
		kinds[i] = atomic_load(&model->n_kinds[i]);
	printf("%s: %llu cycles, %llu operations; killed: the daemon %llu times, clients %llu times\n", run->plan->name,
	       (unsigned long long)run->seen.cycles, (unsigned long long)atomic_load(&model->n_ops),
	       (unsigned long long)n, (unsigned long long)run->seen.worker_kills);
	if (n) {
		printf("  daemon killed with requests in flight: %.1f %%, %.1f at once; inside a ledger update: %.1f "
		       "%% (%.1f %% aimed)\n",
		       100.0 * (double)run->seen.in_flight / (double)n, (double)run->seen.n_in_flight / (double)n,
		       100.0 * (double)run->seen.in_update / (double)n, 100.0 * (double)run->seen.aimed / (double)n);
		printf("  from exec to ready: %llu us on average, %llu us at most\n",
		       (unsigned long long)(run->seen.restart_us / run->seen.starts),
		       (unsigned long long)run->seen.restart_us_most);
		print_kinds("in flight when the daemon was killed", run->seen.kinds);
	}
	if (run->seen.worker_kills) {
		printf("  clients killed with blocks that were owned: %llu, retained %llu, sent %llu, acquired %llu, "
		       "published %llu\n",
		       (unsigned long long)run->seen.had_owned, (unsigned long long)run->seen.had_retained,
		       (unsigned long long)run->seen.had_sent, (unsigned long long)run->seen.had_held,
		       (unsigned long long)run->seen.had_published);
		print_kinds("in flight when its client was killed", run->seen.worker_kinds);
		printf("  blocks in doubt at a death: %llu, certain of them %llu, found live %llu\n",
		       (unsigned long long)run->seen.doubts, (unsigned long long)run->seen.doubts_sure,
		       (unsigned long long)run->seen.doubts_found);
		printf("  taken from a dead sender (-ESTALE): %llu, inherited of these %llu; gifts whose receiver "
		       "died: "
		       "%llu the sender's still, %llu not, %llu of a dead sender\n",
		       (unsigned long long)atomic_load(&model->n_stale),
		       (unsigned long long)atomic_load(&model->n_inherited), (unsigned long long)run->seen.gifts_back,
		       (unsigned long long)run->seen.gifts_passed, (unsigned long long)run->seen.gifts_of_both);
	}
	printf("  gifts freed by who got them: %llu, of these %llu of a dead sender\n",
	       (unsigned long long)atomic_load(&model->n_freed_gifts),
	       (unsigned long long)atomic_load(&model->n_freed_of_dead));
	if (run->seen.daemon_stops)
		printf("  the daemon stopped by SIGTERM and started again: %llu times\n",
		       (unsigned long long)run->seen.daemon_stops);
	if (model->may_be_full)
		printf("  refused for lack of memory: %llu\n", (unsigned long long)atomic_load(&model->n_full));
	print_kinds("operations", kinds);
	printf("  %llu audits compared %llu blocks, %llu of them slots\n", (unsigned long long)run->seen.audits,
	       (unsigned long long)run->seen.blocks_compared, (unsigned long long)run->seen.slots_compared);
}

static void print_thread(const struct kill_run *run, unsigned w, unsigned t)
{
	const struct kill_thread *thread = &run->model->workers[w].threads[t];
	uint64_t n = thread->n_past < 8 ? thread->n_past : 8;

	fprintf(stderr, "worker %u, thread %u, now: %s; before:", w, t, kill_kind_names[atomic_load(&thread->op.kind)]);
	for (uint64_t i = thread->n_past - n; i < thread->n_past; i++) {
		const struct kill_past *past = &thread->past[i % KILL_RING];

		fprintf(stderr, " [%llu] %s pool %u 0x%llx %u = %d;", (unsigned long long)past->at_op,
			kill_kind_names[past->kind], past->pool, (unsigned long long)past->offset, past->size,
			past->result);
	}
	fprintf(stderr, "\n");
}

static void print_end_of(const char *path)
{
	FILE *file = fopen(path, "r");
	char line[512];

	if (file && !fseek(file, -4096, SEEK_END))
		(void)!fgets(line, sizeof(line), file); /* a part of one */
	while (file && fgets(line, sizeof(line), file))
		fprintf(stderr, "  %s", line);
	if (file)
		fclose(file);
}

static void print_failure(const struct kill_run *run)
{
	char old[112];

	printf("found: %s\n", run->model->failure);
	fflush(stdout);
	fprintf(stderr, "FAILED, plan %s, seed %llu, cycle %llu, operation %llu\n%s\n", run->plan->name,
		(unsigned long long)run->model->seed, (unsigned long long)run->seen.cycles,
		(unsigned long long)atomic_load(&run->model->n_ops), run->model->failure);
	for (unsigned w = 0; w < run->plan->n_workers; w++)
		for (unsigned t = 0; t < run->plan->n_threads; t++)
			print_thread(run, w, t);
	snprintf(old, sizeof(old), "%s.1", run->daemon.log);
	fprintf(stderr, "---- log of mempoold, the life before ----\n");
	print_end_of(old);
	fprintf(stderr, "---- log of mempoold ----\n");
	print_end_of(run->daemon.log);
}

/* ---- all of it ---- */

static int write_map(const char *path, const char *text, unsigned id)
{
	FILE *file = fopen(path, "w");
	int r = file && (text ? fputs(text, file) >= 0 : fprintf(file, "0 %u 1", id) > 0) ? 0 : -1;

	if (file && fclose(file))
		r = -1;
	return r;
}

/* Return: 0; 77 and said why */
static int mount_small_shm(uint64_t n_bytes)
{
	char options[64];
	unsigned uid = getuid(), gid = getgid();
	bool is_root = !geteuid();

	snprintf(options, sizeof(options), "size=%llu,mode=1777", (unsigned long long)n_bytes);
	if (unshare(CLONE_NEWNS | (is_root ? 0 : CLONE_NEWUSER)) ||
	    (!is_root && (write_map("/proc/self/setgroups", "deny", 0) || write_map("/proc/self/uid_map", NULL, uid) ||
			  write_map("/proc/self/gid_map", NULL, gid))) ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) || mount("tmpfs", "/dev/shm", "tmpfs", 0, options)) {
		printf("skipped: no mount namespace with a small /dev/shm: %s\n", strerror(errno));
		return 77;
	}
	return 0;
}

static void end_all(struct kill_run *run)
{
	for (unsigned i = 0; i < KILL_WORKERS; i++) {
		pid_t child = run->model ? atomic_load(&run->model->workers[i].child) : 0;

		if (run->pids[i] > 0) {
			kill(run->pids[i], SIGKILL);
			waitpid(run->pids[i], NULL, 0);
		}
		end_child(run, i, child);
		end_child(run, i, 0);
	}
	daemon_deinit(&run->daemon);
	kill_watch_deinit(&run->watch);
}

static int begin(struct kill_run *run, uint64_t seed, int life[2])
{
	const struct kill_plan *plan = run->plan;
	struct kill_model *model = run->model;

	prctl(PR_SET_CHILD_SUBREAPER, 1);
	setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0}); /* a daemon that dies of kill_aim() leaves no core */
	run->daemon.keeps = true;
	model->seed = seed;
	model->n_workers = plan->n_workers;
	model->n_threads = plan->n_threads;
	model->may_be_full = plan->shm_bytes > 0 || plan->may_be_full;
	model->mostly_slots = plan->mostly_slots;
	model->clients_die = plan->worker_percent > 0;
	model->with_pool_cycles = plan->with_pool_cycles;
	model->with_children = plan->with_children;
	model->life_fd = life[0];
	run->life_fd = life[1];
	snprintf(model->socket, sizeof(model->socket), "%s", run->daemon.socket);
	if (start_daemon(run) || make_pools(run))
		return -1;
	if (kill_watch_open(&run->watch, run->daemon.instance))
		return kill_run_fail(run, "the ledgers cannot be looked at");
	for (unsigned i = 0; i < plan->n_workers; i++)
		if (start_worker(run, i))
			return -1;
	return 0;
}

int kill_run(const struct kill_plan *plan, uint64_t seed)
{
	struct kill_run run = {.plan = plan, .model = kill_model_new(plan->pool_bytes)};
	int life[2], r;

	if (plan->shm_bytes && (r = mount_small_shm(plan->shm_bytes)))
		return r;
	if (!run.model || pipe(life) || daemon_init(&run.daemon))
		return 1;
	rnd_init(&run.rnd, seed);
	r = begin(&run, seed, life);
	if (!r)
		r = cycles(&run);
	if (!r)
		r = settle_up(&run);
	if (r)
		print_failure(&run);
	else
		print_seen(&run);
	if (!r && run.seen.in_flight * 2 < run.seen.daemon_kills) {
		fprintf(stderr, "FAILED: fewer than half of the daemon's deaths came with requests in flight\n");
		r = -1;
	}
	if (!r && plan->may_be_full && !atomic_load(&run.model->n_full)) {
		fprintf(stderr, "FAILED: its pools never were full\n");
		r = -1;
	}
	if (!r && daemon_stop(&run.daemon))
		r = -1;
	end_all(&run);
	close(life[0]);
	close(life[1]);
	return r ? 1 : 0;
}
