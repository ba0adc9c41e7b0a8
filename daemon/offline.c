// SPDX-License-Identifier: MIT
#include "offline.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "pool/study.h"
#include "server/status.h"

#define FAULTS_MAX 256u /* shown of a pool; simply picked */

enum { /* as mempoolctl's */
	EXIT_DONE = 0,
	EXIT_OTHER = 1,
	EXIT_NO_POOL = 4,
	EXIT_NOT_ALLOWED = 6,
	EXIT_CORRUPT = 7,
};

static PRINTF(1, 2) void complain(const char *format, ...)
{
	va_list args;

	fputs("mempoold: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
}

static int code_of(int r)
{
	return r == -EACCES || r == -EPERM ? EXIT_NOT_ALLOWED : EXIT_OTHER;
}

struct label {
	char text[NAME_BYTES_MAX + 40];
};

static struct label label_of(const struct directory_pool *record)
{
	struct label label;

	if (record->n_name_bytes)
		snprintf(label.text, sizeof(label.text), "%.*s", (int)record->n_name_bytes, record->name);
	else
		snprintf(label.text, sizeof(label.text), "private pool %" PRIu64, record->id);
	return label;
}

static bool find(const struct study *study, const char *name, struct directory_pool *record)
{
	for (uint32_t index = 0; study_pool(study, &index, record); index++)
		if (record->n_name_bytes == strlen(name) && !memcmp(record->name, name, record->n_name_bytes))
			return true;
	return false;
}

/* ---- check ---- */

/* Return: faults found */
static uint32_t print_faults(const struct directory_pool *record, struct pool *pool)
{
	struct pool_fault *faults = calloc(FAULTS_MAX, sizeof(*faults));
	const char *data_fault = study_data(record, pool);
	uint32_t n = pool_check(pool, faults, faults ? FAULTS_MAX : 0);

	for (uint32_t i = 0; faults && i < n && i < FAULTS_MAX; i++) {
		printf("%s: ", label_of(record).text);
		if (faults[i].offset)
			printf("0x%" PRIx64 ": ", faults[i].offset);
		printf("%s\n", faults[i].what);
	}
	free(faults);
	if (data_fault)
		printf("%s: %s\n", label_of(record).text, data_fault);
	return n + (data_fault != NULL);
}

/* Return: exit code; faults are added to *n_faultsp */
static int check_pool(struct study *study, const struct directory_pool *record, uint32_t *n_faultsp)
{
	struct pool_stats stats;
	struct pool *pool;
	char why[400];
	uint32_t n;
	int r;

	r = study_recover(study, record, &pool, why, sizeof(why));
	if (r == POOL_E_DAMAGED) {
		printf("%s: %s\n", label_of(record).text, why);
		++*n_faultsp;
		return EXIT_DONE;
	}
	if (r) {
		complain("check of %s: %s", label_of(record).text, why);
		return code_of(r);
	}
	n = print_faults(record, pool);
	pool_stats(pool, &stats);
	if (!n)
		printf("%s: %" PRIu64 " block%s, %" PRIu64 " of %" PRIu64 " bytes used, %" PRIu64
		       " session%s: no faults\n",
		       label_of(record).text, stats.allocations, plural(stats.allocations), stats.used, stats.total,
		       stats.sessions, plural(stats.sessions));
	*n_faultsp += n;
	pool_keep(pool);
	return EXIT_DONE;
}

static int check(struct study *study, const char *name)
{
	struct directory_pool record;
	uint32_t n_faults = 0, n_pools = 0;
	int code = EXIT_DONE;

	for (uint32_t index = 0; study_pool(study, &index, &record); index++) {
		if (name && strcmp(label_of(&record).text, name))
			continue;
		int failed = check_pool(study, &record, &n_faults);

		n_pools++;
		code = code ? code : failed;
	}
	if (n_faults)
		printf("%" PRIu32 " fault%s in %" PRIu32 " pool%s checked%s\n", n_faults, plural(n_faults), n_pools,
		       plural(n_pools),
		       study_is_live(study) ? "; a daemon is at work, so they may be operations half done" : "");
	else if (!code)
		printf("%" PRIu32 " pool%s checked: no faults\n", n_pools, plural(n_pools));
	return n_faults ? EXIT_CORRUPT : code;
}

/* ---- log ---- */

static void print_operation(const struct pool_recent *operation)
{
	struct status status = {0};
	time_t seconds = (time_t)(operation->time_ns / 1000000000u);
	char when[32], offset[24] = "-", size[24] = "-";
	struct tm tm;

	if (operation->outcome)
		status = operation->outcome < 0 ? status_of_errno(operation->outcome)
						: status_of_pool((enum pool_outcome)operation->outcome);
	if (operation->offset)
		snprintf(offset, sizeof(offset), "0x%" PRIx64, operation->offset);
	if (operation->size)
		snprintf(size, sizeof(size), "%" PRIu64, operation->size);
	strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", localtime_r(&seconds, &tm));
	printf("%8" PRIu64 "  %s.%03u  %8" PRIu64 "  %7d  %-8s  %14s  %12s  %s\n", operation->number, when,
	       (unsigned)(operation->time_ns / 1000000u % 1000u), operation->session, operation->pid,
	       recent_name(operation->what), offset, size, status.error ? strerrordesc_np(-status.error) : "done");
}

static int print_log(const struct directory_pool *record)
{
	struct pool_recent *operations;
	char why[400];
	uint32_t n;
	int r;

	r = study_log(record, &operations, &n, why, sizeof(why));
	if (r) {
		complain("log of %s: %s", label_of(record).text, why);
		return r == POOL_E_DAMAGED ? EXIT_CORRUPT : code_of(r);
	}
	printf("%8s  %-23s  %8s  %7s  %-8s  %14s  %12s  %s\n", "NUMBER", "TIME", "SESSION", "PID", "WHAT", "OFFSET",
	       "SIZE", "RESULT");
	for (uint32_t i = 0; i < n; i++)
		print_operation(operations + i);
	free(operations);
	return EXIT_DONE;
}

/* ---- both ---- */

/* Of a directory that is there: what is wrong with it, in the words of a daemon that it keeps from starting. */
static struct status status_of_study(int r)
{
	struct status status =
		r > 0 ? status_of_registry(r == STUDY_E_VERSION ? REGISTRY_E_VERSION : REGISTRY_E_DAMAGED)
		      : status_of_errno(r);

	if (r < 0 && code_of(r) == EXIT_NOT_ALLOWED)
		status.advice = "ask as root, or as the user that its daemon runs as";
	return status;
}

static int refuse_instance(const char *instance, int r)
{
	if (r == STUDY_E_NONE) {
		complain("there is no instance %s on this machine: its directory would be /dev/shm/mempool.%s; name "
			 "another with --instance or --socket",
			 instance, instance);
		return EXIT_NO_POOL;
	}
	complain("the books of instance %s (/dev/shm/mempool.%s) cannot be read: %s%s%s", instance, instance,
		 status_of_study(r).wrong, *status_of_study(r).advice ? "; " : "", status_of_study(r).advice);
	return r == STUDY_E_DAMAGED ? EXIT_CORRUPT : r > 0 ? EXIT_OTHER : code_of(r);
}

int offline_run(enum offline_task task, const char *instance, const char *name)
{
	struct directory_pool record;
	struct study *study;
	int code, r;

	r = study_open(&study, instance);
	if (r)
		return refuse_instance(instance, r);
	if (study_is_live(study))
		complain("instance %s has a daemon at work: mempoolctl tells what is true now", instance);
	if (name && !find(study, name, &record)) {
		complain("there is no pool '%s' in instance %s; 'mempoold --offline check --instance %s' lists all of "
			 "it",
			 name, instance, instance);
		code = EXIT_NO_POOL;
	} else {
		code = task == OFFLINE_LOG ? print_log(&record) : check(study, name);
	}
	study_close(study);
	if (fflush(stdout) || ferror(stdout)) {
		complain("the output cannot be written: %s", strerrordesc_np(errno));
		return code ? code : EXIT_OTHER;
	}
	return code;
}
