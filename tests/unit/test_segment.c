// SPDX-License-Identifier: MIT
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pool/segment.h"
#include "tests/lib/test.h"

static char instance[64];

static bool exists(const char *name)
{
	struct stat st;
	char path[300];

	snprintf(path, sizeof(path), "/dev/shm%s", name);
	return !lstat(path, &st);
}

static void test_segment_is_ours_alone_whatever_the_umask(void **state)
{
	struct segment segment = SEGMENT_NULL;
	struct stat st;
	char prefix[100];
	size_t n;

	(void)state;
	umask(0777);
	assert_int_equal(segment_create(&segment, instance), 0);
	umask(022);
	n = (size_t)snprintf(prefix, sizeof(prefix), "/mempool.%s.", instance);
	assert_int_equal(strncmp(segment.name, prefix, n), 0);
	assert_int_equal(strlen(segment.name), n + 32);
	assert_int_equal(strspn(segment.name + n, "0123456789abcdef"), 32);
	assert_int_equal(fstat(segment.fd, &st), 0);
	assert_int_equal(st.st_mode, S_IFREG | 0600);
	assert_int_equal(st.st_size, 0);
	assert_int_equal(fcntl(segment.fd, F_GETFD), FD_CLOEXEC);
	assert_true(exists(segment.name));
	strcpy(prefix, segment.name);
	segment_unlink(&segment);
	segment_unlink(&segment);
	assert_false(exists(prefix));
	segment_deinit(&segment);
	segment_deinit(&segment);
	assert_int_equal(segment.fd, -1);
}

/* @arg: the one to be kept, or NULL */
static bool keeps_one(void *arg, const char *name)
{
	return arg && !strcmp(arg, name);
}

static void test_segment_of_a_bad_instance_is_refused(void **state)
{
	struct segment segment = SEGMENT_NULL;
	char longest[SEGMENT_INSTANCE_MAX + 2];

	(void)state;
	memset(longest, 'i', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	assert_int_equal(segment_create(&segment, ""), -EINVAL);
	assert_int_equal(segment_create(&segment, "a/b"), -EINVAL);
	assert_int_equal(segment_create(&segment, longest), -EINVAL);
	assert_int_equal(segment_sweep("a/b", keeps_one, NULL), -EINVAL);
	assert_int_equal(segment.fd, -1);
	longest[SEGMENT_INSTANCE_MAX] = '\0';
	assert_int_equal(segment_create(&segment, longest), 0);
	segment_unlink(&segment);
	segment_deinit(&segment);
}

static void plant(const char *suffix, mode_t mode, const char *linked_to)
{
	char path[300];
	int fd;

	snprintf(path, sizeof(path), "/dev/shm/mempool.%s%s", instance, suffix);
	if (linked_to) {
		assert_int_equal(symlink(linked_to, path), 0);
		return;
	}
	fd = open(path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

static bool was_kept(const char *suffix)
{
	char path[300];

	snprintf(path, sizeof(path), "/dev/shm/mempool.%s%s", instance, suffix);
	return !unlink(path);
}

#define TAG "0123456789abcdef0123456789abcde"

static void test_segment_sweep_removes_what_is_exactly_ours_only(void **state)
{
	struct segment segments[3] = {SEGMENT_NULL, SEGMENT_NULL, SEGMENT_NULL};
	struct segment kept = SEGMENT_NULL;
	char path[300], other[300];

	(void)state;
	for (int i = 0; i < 3; i++)
		assert_int_equal(segment_create(segments + i, instance), 0);
	assert_int_equal(segment_create(&kept, instance), 0);
	plant("", 0600, NULL);		    /* the registry's own */
	plant("." TAG, 0600, NULL);	    /* a digit short */
	plant("." TAG "00", 0600, NULL);    /* one too many */
	plant("." TAG "G", 0600, NULL);	    /* not a digit */
	plant("." TAG "A", 0600, NULL);	    /* not ours: we write small ones */
	plant("." TAG "1", 0644, NULL);	    /* another mode */
	plant("x." TAG "2", 0600, NULL);    /* another instance */
	plant("." TAG "3", 0, "/dev/null"); /* no file at all */
	plant("." TAG "4", 0600, NULL);
	snprintf(path, sizeof(path), "/dev/shm/mempool.%s.%s4", instance, TAG);
	snprintf(other, sizeof(other), "/dev/shm/mempool.%s-link", instance);
	assert_int_equal(link(path, other), 0); /* two names */
	assert_int_equal(segment_sweep(instance, keeps_one, kept.name), 3);
	for (int i = 0; i < 3; i++) {
		assert_false(exists(segments[i].name));
		segment_deinit(segments + i);
	}
	assert_true(was_kept(""));
	assert_true(was_kept("." TAG));
	assert_true(was_kept("." TAG "00"));
	assert_true(was_kept("." TAG "G"));
	assert_true(was_kept("." TAG "A"));
	assert_true(was_kept("." TAG "1"));
	assert_true(was_kept("x." TAG "2"));
	assert_true(was_kept("." TAG "3"));
	assert_true(was_kept("." TAG "4"));
	assert_true(was_kept("-link"));
	assert_true(exists(kept.name));
	assert_int_equal(segment_sweep(instance, keeps_one, NULL), 1);
	segment_deinit(&kept);
	assert_int_equal(segment_sweep(instance, keeps_one, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_segment_is_ours_alone_whatever_the_umask),
		cmocka_unit_test(test_segment_of_a_bad_instance_is_refused),
		cmocka_unit_test(test_segment_sweep_removes_what_is_exactly_ours_only),
	};

	snprintf(instance, sizeof(instance), "segment-%d", (int)getpid());
	return cmocka_run_group_tests(tests, NULL, NULL);
}
