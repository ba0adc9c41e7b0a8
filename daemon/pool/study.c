// SPDX-License-Identifier: MIT
#include "pool/study.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pool/pool_internal.h"

#define COPY_BYTES (256u << 10) /* at once; simply picked */

struct study {
	int fd;			    /* of the directory itself, to ask for its lock */
	struct directory directory; /* of a copy */
	struct quota quota;	    /* without limits */
	struct budget budget;
	struct pool_env env;
};

/* ---- copies ---- */

static int copy_range(int from, int to, off_t at, off_t end, uint8_t buffer[])
{
	while (at < end) {
		size_t n_wanted = end - at < COPY_BYTES ? (size_t)(end - at) : COPY_BYTES;
		ssize_t n = pread(from, buffer, n_wanted, at);

		if (n <= 0)
			return n ? -errno : 0; /* it was cut meanwhile: the copy reads zero there */
		if (pwrite(to, buffer, (size_t)n, at) != n)
			return -ENOSPC;
		at += n;
	}
	return 0;
}

/* Ledgers are mostly holes: those are not copied. */
static int copy_all(int from, int to)
{
	uint8_t *buffer = malloc(COPY_BYTES);
	off_t at = 0, end;
	int r = buffer ? 0 : -ENOMEM;

	while (!r && (at = lseek(from, at, SEEK_DATA)) >= 0) {
		end = lseek(from, at, SEEK_HOLE);
		r = end < 0 ? -errno : copy_range(from, to, at, end, buffer);
		at = end;
	}
	free(buffer);
	return r;
}

static int open_object(const char *name, struct stat *st)
{
	int fd = shm_open(name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC, 0);
	int r = 0;

	if (fd < 0)
		return -errno;
	if (fstat(fd, st))
		r = -errno;
	else if (!S_ISREG(st->st_mode))
		r = -EPERM;
	if (!r)
		return fd;
	close(fd);
	return r;
}

/*
 * Pages that were allocated and never written to are no data, and so were not copied. A ledger is believed no more pages than
 * its object has: as many are put behind the copy's end.
 */
static int match_pages(int to, const struct stat *st)
{
	struct stat copy;
	off_t missing;

	if (fstat(to, &copy))
		return -errno;
	missing = (st->st_blocks - copy.st_blocks) * 512;
	if (missing > 0 && fallocate(to, FALLOC_FL_KEEP_SIZE, (st->st_size + 4095) & ~(off_t)4095, missing))
		return -errno;
	return 0;
}

/* Return: the copy's descriptor; -errno */
static int copy_of(int from, const struct stat *st)
{
	int to = memfd_create("mempool-study", MFD_CLOEXEC), r = 0;

	if (to < 0)
		return -errno;
	if (ftruncate(to, st->st_size))
		r = -errno;
	else
		r = copy_all(from, to);
	if (!r)
		r = match_pages(to, st);
	if (!r)
		return to;
	close(to);
	return r;
}

static int copy_object(const char *name)
{
	struct stat st;
	int from = open_object(name, &st), to;

	if (from < 0)
		return from;
	to = copy_of(from, &st);
	close(from);
	return to;
}

/* ---- the directory ---- */

static int open_directory(struct study *study, const char *instance)
{
	char name[SEGMENT_NAME_BYTES];
	struct stat st;
	int copy, r;

	snprintf(name, sizeof(name), "/mempool.%s", instance);
	study->fd = open_object(name, &st);
	if (study->fd < 0)
		return study->fd == -ENOENT ? STUDY_E_NONE : study->fd;
	copy = copy_of(study->fd, &st);
	if (copy < 0)
		return copy;
	r = directory_open(&study->directory, copy);
	if (r)
		close(copy);
	return r == LEDGER_E_VERSION ? STUDY_E_VERSION : r > 0 ? STUDY_E_DAMAGED : r;
}

static int init(struct study *study, const char *instance)
{
	uint64_t limits[QUOTA_KIND_N];
	int r;

	for (int kind = 0; kind < QUOTA_KIND_N; kind++)
		limits[kind] = UINT64_MAX;
	r = quota_init(&study->quota, geteuid(), limits);
	if (r)
		return r;
	r = budget_init(&study->budget, UINT64_MAX);
	if (r) {
		quota_deinit(&study->quota);
		return r;
	}
	study->fd = -1;
	study->directory = (struct directory)DIRECTORY_NULL;
	study->env = (struct pool_env){
		.instance = instance, .quota = &study->quota, .budget = &study->budget, .decay_ms = UINT64_MAX};
	return 0;
}

int study_open(struct study **studyp, const char *instance)
{
	struct study *study;
	int r;

	if (!*instance || strlen(instance) > SEGMENT_INSTANCE_MAX || strchr(instance, '/'))
		return STUDY_E_NONE;
	study = calloc(1, sizeof(*study));
	if (!study)
		return -ENOMEM;
	r = init(study, instance);
	if (r) {
		free(study);
		return r;
	}
	r = open_directory(study, instance);
	if (r)
		study_close(study);
	else
		*studyp = study;
	return r;
}

struct study *study_close(struct study *study)
{
	if (!study)
		return NULL;
	directory_close(&study->directory);
	if (study->fd >= 0)
		close(study->fd);
	budget_deinit(&study->budget);
	quota_deinit(&study->quota);
	free(study);
	return NULL;
}

bool study_is_live(const struct study *study)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	return !fcntl(study->fd, F_OFD_GETLK, &lock) && lock.l_type != F_UNLCK;
}

bool study_pool(const struct study *study, uint32_t *indexp, struct directory_pool *out)
{
	while (*indexp < study->directory.n_pools_high) {
		if (directory_pool(&study->directory, *indexp, out))
			return true;
		++*indexp;
	}
	return false;
}

/* ---- a pool ---- */

static int copy_books(const struct directory_pool *record, char *why, size_t n_why)
{
	int copy = copy_object(record->books);

	if (copy < 0)
		snprintf(why, n_why, "its ledger /dev/shm%s cannot be read: %s", record->books, strerrordesc_np(-copy));
	return copy;
}

/* Of the ledger @books. Return: the copy's descriptor; -1: there is none, or it cannot be read: it counts as lost */
static int copy_leases(int books)
{
	struct ledger_header header;
	char name[sizeof(header.lease_object) + 1] = "";
	int copy;

	if (ledger_peek(books, &header))
		return -1;
	memcpy(name, header.lease_object, sizeof(header.lease_object));
	copy = *name ? copy_object(name) : -1;
	return copy < 0 ? -1 : copy;
}

int study_recover(struct study *study, const struct directory_pool *record, struct pool **poolp, char *why,
		  size_t n_why)
{
	int copy = copy_books(record, why, n_why);

	return copy < 0 ? copy : pool_study(poolp, &study->env, copy, copy_leases(copy), why, n_why);
}

const char *study_data(const struct directory_pool *record, const struct pool *pool)
{
	struct stat st;
	int fd = open_object(record->data, &st);

	if (fd < 0)
		return fd == -ENOENT ? "its data segment is not there" : "its data segment cannot be opened";
	close(fd);
	if ((uint64_t)st.st_size < pool_segment_bytes_for(pool->options.size))
		return "its data segment is shorter than its books say: a client has cut it";
	return NULL;
}

static int read_log(const struct ledger *ledger, struct pool_recent **operationsp, uint32_t *np)
{
	struct pool_recent *operations = calloc(RECENT_N, sizeof(*operations));

	if (!operations)
		return -ENOMEM;
	*np = recent_list(ledger, 0, operations, RECENT_N);
	*operationsp = operations;
	return 0;
}

int study_log(const struct directory_pool *record, struct pool_recent **operationsp, uint32_t *np, char *why,
	      size_t n_why)
{
	struct ledger ledger = LEDGER_NULL;
	struct ledger_header header = {0};
	struct ledger_shape shape;
	int copy = copy_books(record, why, n_why), r;

	if (copy < 0)
		return copy;
	r = ledger_peek(copy, &header);
	if (!r && (!header.max_bytes || header.max_bytes > EXTENT_BYTES_MAX))
		r = LEDGER_E_DAMAGED;
	if (!r) {
		shape = pool_shape(header.max_bytes);
		r = ledger_open(&ledger, copy, &shape);
	}
	if (r) {
		close(copy);
		books_say_why(r, &header, record->books, why, n_why);
		return r > 0 ? POOL_E_DAMAGED : r;
	}
	r = read_log(&ledger, operationsp, np);
	if (r)
		snprintf(why, n_why, "there is no memory for it");
	ledger_deinit(&ledger);
	return r;
}
