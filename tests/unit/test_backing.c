// SPDX-License-Identifier: MIT
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pool/backing.h"
#include "tests/lib/test.h"

#define KIB UINT64_C(1024)

struct fixture {
	struct ledger ledger;
	struct budget budget;
	struct backing backing;
	int fd;
};

static void set_up(struct fixture *f, uint32_t unit_bytes, uint64_t segment_bytes, uint64_t segment_bytes_max)
{
	struct ledger_shape shape = {0};

	for (int id = 0; id < LEDGER_TABLE_N; id++)
		shape.elem_bytes[id] = sizeof(uint64_t);
	shape.n_max[LEDGER_BACKED] = backing_n_words(segment_bytes_max, unit_bytes);
	memset(f, 0xff, sizeof(*f));
	f->fd = memfd_create("data", MFD_CLOEXEC);
	assert_int_equal(ftruncate(f->fd, (off_t)segment_bytes), 0);
	assert_int_equal(ledger_init(&f->ledger, memfd_create("books", MFD_CLOEXEC), &shape), 0);
	assert_int_equal(budget_init(&f->budget, UINT64_MAX), 0);
	assert_int_equal(backing_init(&f->backing, &f->ledger, &f->budget, f->fd, unit_bytes, segment_bytes), -ENOSPC);
	assert_int_equal(ledger_reserve(&f->ledger, LEDGER_BACKED, shape.n_max[LEDGER_BACKED]), 0);
	assert_int_equal(backing_init(&f->backing, &f->ledger, &f->budget, f->fd, unit_bytes, segment_bytes), 0);
}

/* What we count, what the kernel counts and what was spent are one figure. */
static void expect_backed(struct fixture *f, uint64_t n_bytes)
{
	struct stat st;

	assert_int_equal(fstat(f->fd, &st), 0);
	assert_int_equal((uint64_t)st.st_blocks * 512, n_bytes);
	assert_int_equal(atomic_load(&f->backing.backed_bytes), n_bytes);
	assert_int_equal(budget_spent(&f->budget), n_bytes);
	assert_int_equal(st.st_size, f->backing.segment_bytes);
	assert_int_equal(backing_check(&f->backing, stderr), 0);
}

static void tear_down(struct fixture *f)
{
	budget_give_back(&f->budget, atomic_load(&f->backing.backed_bytes));
	assert_int_equal(budget_spent(&f->budget), 0);
	budget_deinit(&f->budget);
	ledger_deinit(&f->ledger);
	close(f->fd);
}

static void test_backing_units_keep_the_bits_within_1_mib(void **state)
{
	(void)state;
	assert_int_equal(backing_unit_bytes(8192), 4096);
	assert_int_equal(backing_unit_bytes((UINT64_C(64) << 20) - 1), 4096);
	assert_int_equal(backing_unit_bytes(UINT64_C(64) << 20), 65536);
	for (uint64_t bytes = UINT64_C(64) << 20; bytes <= UINT64_C(1) << 47; bytes *= 2) {
		assert_true(is_power_of_two(backing_unit_bytes(bytes)));
		assert_true(backing_n_words(bytes, backing_unit_bytes(bytes)) * 8 <= 1 << 20);
	}
}

static void test_backing_ensure_backs_whole_units_once(void **state)
{
	struct fixture f;

	(void)state;
	set_up(&f, 65536, 640 * KIB, 640 * KIB);
	expect_backed(&f, 0);
	assert_int_equal(backing_missing(&f.backing, 70000, 16, UINT64_MAX), 65536);
	assert_int_equal(backing_missing(&f.backing, 65536, 65537, UINT64_MAX), 131072);
	assert_int_equal(backing_ensure(&f.backing, 70000, 16), 0);
	expect_backed(&f, 65536);
	assert_int_equal(backing_missing(&f.backing, 65536, 65536, UINT64_MAX), 0);
	assert_int_equal(backing_missing(&f.backing, 131071, 2, UINT64_MAX), 65536);
	assert_int_equal(backing_first_missing(&f.backing, 70000, 16), 70016);
	assert_int_equal(backing_first_missing(&f.backing, 70000, 65536), 131072);
	assert_int_equal(backing_first_missing(&f.backing, 140000, 1), 140000);
	assert_int_equal(backing_ensure(&f.backing, 70000, 65536), 0);
	expect_backed(&f, 131072);
	assert_int_equal(backing_ensure(&f.backing, 4096, 640 * KIB - 4096), 0); /* all but the first page */
	expect_backed(&f, 640 * KIB - 4096);
	tear_down(&f);
}

static void test_backing_missing_stops_at_enough(void **state)
{
	struct fixture f;
	uint64_t missing;

	(void)state;
	set_up(&f, 4096, 4096 * KIB, 4096 * KIB);
	for (uint64_t at = 8192; at < 4096 * KIB; at += 8192)
		assert_int_equal(backing_ensure(&f.backing, at, 1), 0);
	missing = backing_missing(&f.backing, 4096, 4095 * KIB, 10000);
	assert_in_range(missing, 10000, 10000 + 4096);
	assert_int_equal(backing_missing(&f.backing, 4096, 4092 * KIB, UINT64_MAX), 512 * 4096);
	tear_down(&f);
}

static void test_backing_punch_gives_whole_units_back_in_slices(void **state)
{
	struct fixture f;

	(void)state;
	set_up(&f, 4096, 80 * KIB, 80 * KIB);
	assert_int_equal(backing_ensure(&f.backing, 4096, 76 * KIB), 0);
	assert_false(backing_has_whole(&f.backing, 4097, 8190));
	assert_int_equal(backing_punch(&f.backing, 4097, 8190, UINT64_MAX), 0); /* no unit lies inside */
	expect_backed(&f, 76 * KIB);
	assert_true(backing_has_whole(&f.backing, 4097, 8191));
	assert_int_equal(backing_punch(&f.backing, 4097, 8191, UINT64_MAX), 4096);
	expect_backed(&f, 72 * KIB);
	assert_int_equal(backing_punch(&f.backing, 4096, 76 * KIB, 8192), 8192);
	assert_int_equal(backing_punch(&f.backing, 4096, 76 * KIB, 1), 4096); /* never nothing */
	expect_backed(&f, 60 * KIB);
	assert_int_equal(backing_punch(&f.backing, 4096, 76 * KIB, UINT64_MAX), 60 * KIB);
	assert_int_equal(backing_punch(&f.backing, 4096, 76 * KIB, UINT64_MAX), 0);
	expect_backed(&f, 0);
	tear_down(&f);
}

static void test_backing_grow_completes_the_last_unit(void **state)
{
	struct fixture f;

	(void)state;
	set_up(&f, 65536, 72 * KIB, 640 * KIB);
	assert_int_equal(backing_ensure(&f.backing, 71 * KIB, 1 * KIB), 0);
	expect_backed(&f, 8 * KIB);
	assert_int_equal(ftruncate(f.fd, 80 * KIB), 0);
	assert_int_equal(backing_grow(&f.backing, 80 * KIB), 0);
	expect_backed(&f, 16 * KIB);
	assert_int_equal(ftruncate(f.fd, 640 * KIB), 0);
	assert_int_equal(backing_grow(&f.backing, 640 * KIB), 0);
	expect_backed(&f, 64 * KIB);
	assert_int_equal(backing_missing(&f.backing, 64 * KIB, 64 * KIB, UINT64_MAX), 0);
	assert_int_equal(backing_punch(&f.backing, 4096, 636 * KIB, UINT64_MAX), 64 * KIB);
	expect_backed(&f, 0);
	tear_down(&f);
}

static void test_backing_beyond_the_budget_changes_nothing(void **state)
{
	struct fixture f;

	(void)state;
	set_up(&f, 65536, 72 * KIB, 640 * KIB);
	assert_int_equal(backing_ensure(&f.backing, 71 * KIB, 1 * KIB), 0);
	f.budget.limit_bytes = 8 * KIB;
	assert_int_equal(backing_ensure(&f.backing, 4096, 68 * KIB), BACKING_E_EXHAUSTED);
	expect_backed(&f, 8 * KIB);
	assert_int_equal(ftruncate(f.fd, 640 * KIB), 0);
	assert_int_equal(backing_grow(&f.backing, 640 * KIB), BACKING_E_EXHAUSTED);
	assert_int_equal(ftruncate(f.fd, 72 * KIB), 0);
	expect_backed(&f, 8 * KIB);
	tear_down(&f);
}

static void test_backing_check_sees_a_bit_that_was_not_counted(void **state)
{
	struct fixture f;

	(void)state;
	set_up(&f, 4096, 640 * KIB, 640 * KIB);
	*(uint64_t *)ledger_at(&f.ledger, LEDGER_BACKED, 0) |= 4;
	assert_int_equal(backing_check(&f.backing, NULL), 1);
	*(uint64_t *)ledger_at(&f.ledger, LEDGER_BACKED, 0) = 0;
	assert_int_equal(backing_check(&f.backing, NULL), 0);
	tear_down(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_backing_units_keep_the_bits_within_1_mib),
		cmocka_unit_test(test_backing_ensure_backs_whole_units_once),
		cmocka_unit_test(test_backing_missing_stops_at_enough),
		cmocka_unit_test(test_backing_punch_gives_whole_units_back_in_slices),
		cmocka_unit_test(test_backing_grow_completes_the_last_unit),
		cmocka_unit_test(test_backing_beyond_the_budget_changes_nothing),
		cmocka_unit_test(test_backing_check_sees_a_bit_that_was_not_counted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
