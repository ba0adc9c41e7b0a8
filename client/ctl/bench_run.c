// SPDX-License-Identifier: MIT
/*
 * Happy path: fork the job's processes, which open what they need, run the loop, close it and leave the result in shared memory;
 *             see all of them end well.
 * Failures:   a process leaves a sentence there and ends, or dies of a signal: the others are killed, for they may wait for it, and
 *             what went wrong is reported once. A signal to the tool is one on its signalfd (it is blocked here and in the
 *             processes, so that Ctrl-C does not race with us); a tool that is killed takes its processes along (PDEATHSIG).
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ctl/bench.h"

struct run {
	const struct bench_place *place;
	const struct bench_job *job;
	struct bench_shared *shared;
	int ends[2]; /* of an echo's connection */
	pid_t pids[BENCH_WORKERS];
	int pidfds[BENCH_WORKERS];
};

/* ---- in a process ---- */

/* pin() - to the @id-th core that we may use; where that fails the scheduler decides */
static void pin(const struct bench_job *job, unsigned id)
{
	cpu_set_t all, one;
	int n_all, nth;

	if (sched_getaffinity(0, sizeof(all), &all))
		return;
	n_all = CPU_COUNT(&all);
	nth = job->one_core ? 0 : (int)id % n_all;
	CPU_ZERO(&one);
	for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (CPU_ISSET(cpu, &all) && !nth--)
			CPU_SET(cpu, &one);
	}
	(void)sched_setaffinity(0, sizeof(one), &one);
}

static void *thread_main(void *arg)
{
	struct bench_worker *worker = arg;

	pin(worker->job, worker->id);
	bench_work(worker);
	return NULL;
}

static void work_as_threads(struct bench_worker *worker)
{
	struct bench_worker other = *worker;
	pthread_t thread;
	int r;

	other.id = 1;
	r = pthread_create(&thread, NULL, thread_main, &other);
	if (r)
		bench_fail(worker, -r, "a second thread cannot be started");
	thread_main(worker);
	pthread_join(thread, NULL);
}

/* open_pool() - the shared one, or one of its own that nobody else sees and that ends with its session */
static struct mempool_client *open_pool(struct bench_worker *worker, const struct bench_place *place)
{
	struct mempool_pool_options options;
	struct mempool_client *client = NULL;
	int r = mempool_connect(&client, place->ctl->socket_path);

	mempool_pool_options_init(&options);
	options.fill = worker->job->fill;
	options.lease = worker->job->lease;
	if (!r && place->ctl->timeout_ms >= 0)
		r = mempool_set_timeout(client, place->ctl->timeout_ms);
	if (!r && worker->job->crew == BENCH_PROCESSES)
		r = mempool_pool_open(client, place->pool_name, &worker->pool);
	else if (!r)
		r = mempool_pool_create(client, NULL, BENCH_POOL_BYTES, &options, &worker->pool);
	if (r)
		bench_fail(worker, r, mempool_last_error());
	return client;
}

static void process_main(const struct run *run, unsigned id, pid_t parent) __attribute__((noreturn));
static void process_main(const struct run *run, unsigned id, pid_t parent)
{
	struct bench_worker worker = {
		.job = run->job,
		.shared = run->shared,
		.id = id,
		.fd = run->ends[id],
		.measure_ns = run->place->measure_ns,
		.warm_ns = run->place->measure_ns / 3,
		.random = UINT64_C(88172645463325252) + id, /* the same sizes in every run */
	};
	bool is_echo = run->job->loop == BENCH_ECHO;
	struct mempool_client *client = NULL;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent) /* it was too late to be told */
		_exit(EXIT_OTHER);
	if (is_echo)
		close(run->ends[!id]); /* else the server's never ended */
	else if (!run->job->by_malloc)
		client = open_pool(&worker, run->place);
	if (run->job->one_core || run->job->crew == BENCH_PROCESSES || is_echo)
		pin(run->job, id);
	if (run->job->crew == BENCH_THREADS)
		work_as_threads(&worker);
	else
		bench_work(&worker);
	mempool_pool_close(worker.pool);
	mempool_disconnect(client);
	_exit(EXIT_DONE); /* not exit(): stdio's buffers are the parent's */
}

/* ---- in the tool ---- */

static unsigned n_processes(const struct bench_job *job)
{
	return job->crew == BENCH_PROCESSES || job->loop == BENCH_ECHO ? 2 : 1;
}

static void close_ends(struct run *run)
{
	for (unsigned i = 0; i < 2; i++) {
		if (run->ends[i] >= 0)
			close(run->ends[i]);
		run->ends[i] = -1;
	}
}

static int start(struct run *run)
{
	pid_t parent = getpid();

	if (run->job->loop == BENCH_ECHO && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, run->ends))
		return -errno;
	for (unsigned id = 0; id < n_processes(run->job); id++) {
		pid_t pid = fork();

		if (pid < 0)
			return -errno;
		if (!pid)
			process_main(run, id, parent);
		run->pids[id] = pid;
		run->pidfds[id] = pidfd_open(pid, 0);
		if (run->pidfds[id] < 0)
			return -errno; /* stop() knows it by its pid */
	}
	close_ends(run);
	return 0;
}

/* reap() - Return: 0 if it ended well; what waitpid() says if not */
static int reap(struct run *run, unsigned id)
{
	int status = 0;

	while (waitpid(run->pids[id], &status, 0) < 0 && errno == EINTR)
		;
	if (run->pidfds[id] >= 0)
		close(run->pidfds[id]);
	run->pidfds[id] = -1;
	run->pids[id] = 0;
	return status;
}

static void stop(struct run *run)
{
	for (unsigned id = 0; id < BENCH_WORKERS; id++) {
		if (run->pids[id])
			kill(run->pids[id], SIGKILL);
	}
	for (unsigned id = 0; id < BENCH_WORKERS; id++) {
		if (run->pids[id])
			reap(run, id);
	}
	close_ends(run);
	if (run->shared)
		munmap(run->shared, sizeof(*run->shared));
	run->shared = NULL;
}

static enum exit_code report_failure(const struct run *run, int status)
{
	for (unsigned id = 0; id < BENCH_WORKERS; id++) {
		const struct bench_failure *failure = &run->shared->failures[id];

		if (failure->r)
			return error_report(error_exit_code(failure->r), -failure->r, "bench: '%s': %s", run->job->name,
					    failure->sentence);
	}
	return error_report(EXIT_OTHER, ECHILD, "bench: '%s': its process ended too early (%s)", run->job->name,
			    WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "without a reason");
}

static enum exit_code watch(struct run *run)
{
	unsigned n_left = n_processes(run->job);
	struct pollfd fds[1 + BENCH_WORKERS];

	while (n_left) {
		fds[0] = (struct pollfd){.fd = run->place->signal_fd, .events = POLLIN};
		for (unsigned id = 0; id < BENCH_WORKERS; id++)
			fds[1 + id] = (struct pollfd){.fd = run->pidfds[id], .events = POLLIN};
		if (poll(fds, 1 + BENCH_WORKERS, -1) < 0 && errno != EINTR)
			return error_report(EXIT_OTHER, errno, "bench: poll: %s", strerror(errno));
		if (fds[0].revents)
			return error_report(EXIT_OTHER, EINTR, "bench: interrupted; nothing is left behind");
		for (unsigned id = 0; id < BENCH_WORKERS; id++) {
			int status = fds[1 + id].revents ? reap(run, id) : 0;

			if (status)
				return report_failure(run, status);
			n_left -= fds[1 + id].revents != 0;
		}
	}
	return EXIT_DONE;
}

enum exit_code bench_run(const struct bench_place *place, const struct bench_job *job, double *nsp)
{
	struct run run = {.place = place, .job = job, .ends = {-1, -1}, .pidfds = {-1, -1}};
	enum exit_code code = EXIT_DONE;
	int r;

	run.shared = mmap(NULL, sizeof(*run.shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (run.shared == MAP_FAILED) {
		run.shared = NULL;
		error_no_memory();
	}
	r = start(&run);
	if (r)
		code = error_report(EXIT_OTHER, -r, "bench: starting processes: %s", strerror(-r));
	else
		code = watch(&run);
	if (!code && job->loop == BENCH_EXCHANGE)
		*nsp = (run.shared->ns[0] + run.shared->ns[1]) / 2; /* as each of them saw it, both running */
	else if (!code)
		*nsp = run.shared->ns[0];
	stop(&run);
	return code;
}
