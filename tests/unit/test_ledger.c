// SPDX-License-Identifier: MIT
/* The ledger: its places in the file, and that nothing counts before it is backed. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "alloc/ledger.h"
#include "tests/lib/test.h"

#define PAGE 4096u

/* ---- the kernel's answers: those scripted first, then its own ---- */

int __real_posix_fallocate(int fd, off_t offset, off_t n_bytes);
int __wrap_posix_fallocate(int fd, off_t offset, off_t n_bytes);

static int script[8];
static unsigned n_script, n_calls;

int __wrap_posix_fallocate(int fd, off_t offset, off_t n_bytes)
{
	unsigned call = n_calls++;

	return call < n_script ? script[call] : __real_posix_fallocate(fd, offset, n_bytes);
}

static void say(unsigned n, const int answers[])
{
	memcpy(script, answers, n * sizeof(*answers));
	n_script = n;
	n_calls = 0;
}

/* ---- helpers ---- */

static const struct ledger_shape shape = {
	.elem_bytes = {32, 28, 4, 48, 16, 96, 8},
	.n_max = {100000, 100000, 100000, 1, 0, 3, 512},
};

static int object(void)
{
	int fd = memfd_create("test_ledger", MFD_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static struct ledger make(const struct ledger_shape *of)
{
	struct ledger ledger;

	memset(&ledger, 0xff, sizeof(ledger));
	say(0, script);
	assert_int_equal(ledger_init(&ledger, object(), of), 0);
	return ledger;
}

static uint64_t kernel_bytes(const struct ledger *ledger)
{
	struct stat st;

	assert_int_equal(fstat(ledger->fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

static bool is_zero(const void *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (((const uint8_t *)bytes)[i])
			return false;
	return true;
}

/* ---- tests ---- */

static void test_ledger_init_gives_an_empty_header_and_tables_that_count_nothing(void **state)
{
	struct ledger ledger = make(&shape);
	struct ledger_header header = {.magic = LEDGER_MAGIC,
				       .version = LEDGER_VERSION,
				       .header_bytes = sizeof(struct ledger_header),
				       .file_bytes = ledger.map_bytes};

	(void)state;
	assert_memory_equal(ledger.header, &header, sizeof(header));
	assert_memory_equal(ledger.header, "memldger", 8);
	for (int id = 0; id < LEDGER_TABLE_N; id++) {
		assert_int_equal(ledger.tables[id].n_backed, 0);
		assert_int_equal(ledger.tables[id].n_max, shape.n_max[id]);
	}
	assert_int_equal(ledger.backed_bytes, PAGE);
	assert_int_equal(kernel_bytes(&ledger), PAGE);
	ledger_deinit(&ledger);
}

static void test_ledger_tables_lie_on_pages_and_apart(void **state)
{
	struct ledger ledger = make(&shape);
	uint64_t end = PAGE;

	(void)state;
	for (int id = 0; id < LEDGER_TABLE_N; id++) {
		const struct ledger_table *table = &ledger.tables[id];

		assert_int_equal(table->file_offset % PAGE, 0);
		assert_true(table->file_offset >= end);
		assert_ptr_equal(table->base, ledger.map + table->file_offset);
		end = table->file_offset + (uint64_t)table->elem_bytes * table->n_max;
	}
	assert_true(ledger.map_bytes >= end);
	ledger_deinit(&ledger);
}

static void test_ledger_reserve_backs_what_it_counts_and_the_kernel_agrees(void **state)
{
	struct ledger ledger = make(&shape);

	(void)state;
	for (uint32_t n = 1; n <= shape.n_max[LEDGER_LINKS]; n += 1 + n / 7) {
		const struct ledger_table *table = &ledger.tables[LEDGER_LINKS];
		uint64_t end, before = table->n_backed;

		assert_int_equal(ledger_reserve(&ledger, LEDGER_LINKS, n), 0);
		assert_true(table->n_backed >= n && table->n_backed >= before);
		end = round_up((uint64_t)table->n_backed * table->elem_bytes, PAGE);
		assert_int_equal(ledger.backed_bytes, PAGE + end);
		assert_int_equal(kernel_bytes(&ledger), ledger.backed_bytes);
		assert_true(is_zero((uint8_t *)table->base + before * table->elem_bytes,
				    (table->n_backed - before) * table->elem_bytes));
		memset(ledger_at(&ledger, LEDGER_LINKS, n - 1), 0xff, table->elem_bytes); /* cannot fault */
	}
	ledger_deinit(&ledger);
}

static void test_ledger_reserve_of_one_more_seldom_asks_the_kernel(void **state)
{
	struct ledger ledger = make(&shape);
	uint64_t n_most;

	(void)state;
	for (uint32_t n = 1; n <= 100000; n++) {
		assert_int_equal(ledger_reserve(&ledger, LEDGER_EXTENTS, n), 0);
		/* an eighth ahead, or what a step backs at most, and the rest of a page */
		n_most = n + (n / 8 < 32768 / 4 ? n / 8 : 32768 / 4) + PAGE / 32;
		assert_true(ledger.tables[LEDGER_EXTENTS].n_backed <= n_most);
	}
	assert_true(n_calls < 100);
	ledger_deinit(&ledger);
}

static void test_ledger_reserve_ends_at_the_most(void **state)
{
	struct ledger ledger = make(&shape);
	uint64_t backed;

	(void)state;
	assert_int_equal(ledger_reserve(&ledger, LEDGER_NAMES, 3), 0);
	assert_int_equal(ledger.tables[LEDGER_NAMES].n_backed, 3);
	assert_int_equal(ledger_reserve(&ledger, LEDGER_MEMBERS, 1), 0);
	assert_int_equal(ledger_reserve(&ledger, LEDGER_BACKED, 512), 0); /* one page, to its last element */
	backed = ledger.backed_bytes;
	assert_int_equal(backed, 4 * PAGE);
	assert_int_equal(ledger_reserve(&ledger, LEDGER_NAMES, 4), -ENOSPC);
	assert_int_equal(ledger_reserve(&ledger, LEDGER_NAMES, UINT32_MAX), -ENOSPC);
	assert_int_equal(ledger_reserve(&ledger, LEDGER_HOLDS, 1), -ENOSPC); /* a table of none */
	assert_int_equal(ledger_reserve(&ledger, LEDGER_HOLDS, 0), 0);
	assert_int_equal(ledger.tables[LEDGER_NAMES].n_backed, 3);
	assert_int_equal(ledger.backed_bytes, backed);
	assert_int_equal(kernel_bytes(&ledger), backed);
	ledger_deinit(&ledger);
}

static void test_ledger_reserve_without_memory_changes_nothing(void **state)
{
	struct ledger ledger = make(&shape), before;

	(void)state;
	assert_int_equal(ledger_reserve(&ledger, LEDGER_EXTENTS, 10), 0);
	before = ledger;
	say(1, (int[]){ENOSPC});
	assert_int_equal(ledger_reserve(&ledger, LEDGER_EXTENTS, 5000), -ENOSPC);
	assert_memory_equal(&ledger, &before, sizeof(ledger));
	assert_int_equal(ledger_reserve(&ledger, LEDGER_EXTENTS, 5000), 0); /* there is memory again */
	assert_true(ledger.tables[LEDGER_EXTENTS].n_backed >= 5000);
	ledger_deinit(&ledger);
}

static void test_ledger_reserve_spare_does_without_where_there_is_no_memory(void **state)
{
	struct ledger ledger = make(&shape), before;

	(void)state;
	assert_int_equal(ledger_reserve_spare(&ledger, LEDGER_EXTENTS, 0, 10), 0);
	assert_true(ledger.tables[LEDGER_EXTENTS].n_backed >= 10);
	say(1, (int[]){ENOSPC});
	assert_int_equal(ledger_reserve_spare(&ledger, LEDGER_EXTENTS, 4000, 4000), 0); /* not the spare ones */
	assert_in_range(ledger.tables[LEDGER_EXTENTS].n_backed, 4000, 7999);
	before = ledger;
	say(2, (int[]){ENOSPC, ENOSPC});
	assert_int_equal(ledger_reserve_spare(&ledger, LEDGER_EXTENTS, 9000, 1), -ENOSPC);
	assert_memory_equal(&ledger, &before, sizeof(ledger));
	assert_int_equal(ledger_reserve_spare(&ledger, LEDGER_NAMES, 2, UINT32_MAX), 0); /* as many as there can be */
	assert_int_equal(ledger.tables[LEDGER_NAMES].n_backed, 3);
	assert_int_equal(ledger_reserve_spare(&ledger, LEDGER_NAMES, 3, 1), 0);
	assert_int_equal(ledger_reserve_spare(&ledger, LEDGER_NAMES, 4, 0), -ENOSPC);
	assert_int_equal(ledger_reserve_spare(&ledger, LEDGER_NAMES, UINT32_MAX, UINT32_MAX), -ENOSPC);
	ledger_deinit(&ledger);
}

static void test_ledger_reserve_goes_on_after_a_signal(void **state)
{
	struct ledger ledger = make(&shape);

	(void)state;
	say(3, (int[]){EINTR, EINTR, EINTR});
	assert_int_equal(ledger_reserve(&ledger, LEDGER_EXTENTS, 1), 0);
	assert_int_equal(n_calls, 4);
	ledger_deinit(&ledger);
}

static void test_ledger_init_that_fails_leaves_the_descriptor_to_the_caller(void **state)
{
	struct ledger ledger = LEDGER_NULL, before = ledger;
	struct ledger_shape too_large = {.elem_bytes = {UINT32_MAX}, .n_max = {UINT32_MAX}};
	char path[32];
	int fd = object(), read_only;

	(void)state;
	say(1, (int[]){ENOSPC});
	assert_int_equal(ledger_init(&ledger, fd, &shape), -ENOSPC);
	say(0, script);
	assert_true(ledger_init(&ledger, fd, &too_large) < 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	read_only = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(read_only >= 0);
	assert_true(ledger_init(&ledger, read_only, &shape) < 0);
	assert_memory_equal(&ledger, &before, sizeof(ledger));
	assert_int_equal(close(read_only), 0);
	assert_int_equal(close(fd), 0);
}

static void test_ledger_deinit_may_run_twice(void **state)
{
	struct ledger ledger = make(&shape), null = LEDGER_NULL;
	int fd = ledger.fd;

	(void)state;
	ledger_deinit(&ledger);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
	assert_memory_equal(&ledger, &null, sizeof(null));
	ledger_deinit(&ledger);
	ledger_deinit(&null);
}

static void test_ledger_is_in_its_object_for_another_mapping(void **state)
{
	struct ledger ledger = make(&shape);
	uint64_t *element, seen;

	(void)state;
	assert_int_equal(ledger_reserve(&ledger, LEDGER_BACKED, 512), 0);
	element = ledger_at(&ledger, LEDGER_BACKED, 511);
	*element = UINT64_C(0x0123456789abcdef);
	assert_int_equal(pread(ledger.fd, &seen, sizeof(seen),
			       (off_t)(ledger.tables[LEDGER_BACKED].file_offset + 511 * sizeof(seen))),
			 sizeof(seen));
	assert_int_equal(seen, *element);
	ledger_deinit(&ledger);
}

static void test_ledger_elements_of_tables_never_overlap(void **state)
{
	struct ledger_shape even = {0};
	struct ledger ledger;

	(void)state;
	for (int id = 0; id < LEDGER_TABLE_N; id++) {
		even.elem_bytes[id] = 20;
		even.n_max[id] = 5000;
	}
	ledger = make(&even);
	for (enum ledger_table_id id = 0; id < LEDGER_TABLE_N; id++) {
		assert_int_equal(ledger_reserve(&ledger, id, 5000), 0);
		memset(ledger_at(&ledger, id, 0), 'a' + (int)id, (size_t)20 * 5000);
	}
	for (enum ledger_table_id id = 0; id < LEDGER_TABLE_N; id++)
		for (uint32_t i = 0; i < 5000; i++)
			assert_int_equal(*((char *)ledger_at(&ledger, id, i) + i % 20), 'a' + (int)id);
	assert_true(ledger.header->magic == LEDGER_MAGIC);
	ledger_deinit(&ledger);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ledger_init_gives_an_empty_header_and_tables_that_count_nothing),
		cmocka_unit_test(test_ledger_tables_lie_on_pages_and_apart),
		cmocka_unit_test(test_ledger_reserve_backs_what_it_counts_and_the_kernel_agrees),
		cmocka_unit_test(test_ledger_reserve_of_one_more_seldom_asks_the_kernel),
		cmocka_unit_test(test_ledger_reserve_ends_at_the_most),
		cmocka_unit_test(test_ledger_reserve_without_memory_changes_nothing),
		cmocka_unit_test(test_ledger_reserve_spare_does_without_where_there_is_no_memory),
		cmocka_unit_test(test_ledger_reserve_goes_on_after_a_signal),
		cmocka_unit_test(test_ledger_init_that_fails_leaves_the_descriptor_to_the_caller),
		cmocka_unit_test(test_ledger_deinit_may_run_twice),
		cmocka_unit_test(test_ledger_elements_of_tables_never_overlap),
		cmocka_unit_test(test_ledger_is_in_its_object_for_another_mapping),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
