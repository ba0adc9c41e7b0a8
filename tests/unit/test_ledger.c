// SPDX-License-Identifier: MIT
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "alloc/ledger.h"
#include "tests/lib/test.h"

static struct ledger_shape shape_of(uint32_t elem_bytes, uint32_t n_max)
{
	struct ledger_shape shape = {0};

	for (int id = 0; id < LEDGER_TABLE_N; id++) {
		shape.elem_bytes[id] = elem_bytes;
		shape.n_max[id] = n_max;
	}
	return shape;
}

static void test_ledger_init_writes_the_header_and_nothing_counts(void **state)
{
	struct ledger_shape shape = shape_of(28, 1000);
	struct ledger ledger;

	(void)state;
	memset(&ledger, 0xff, sizeof(ledger));
	assert_int_equal(ledger_init(&ledger, memfd_create("l", 0), &shape), 0);
	assert_true(ledger.header->magic == LEDGER_MAGIC);
	assert_int_equal(ledger.header->version, LEDGER_VERSION);
	for (int id = 0; id < LEDGER_TABLE_N; id++)
		assert_int_equal(ledger.tables[id].n_backed, 0);
	ledger_deinit(&ledger);
	ledger_deinit(&ledger);
}

static void test_ledger_reserve_backs_what_it_counts(void **state)
{
	struct ledger_shape shape = shape_of(28, 100000);
	struct ledger ledger;
	struct stat st;

	(void)state;
	assert_int_equal(ledger_init(&ledger, memfd_create("l", 0), &shape), 0);
	for (uint32_t n = 1; n <= 100000; n += 777) {
		assert_int_equal(ledger_reserve(&ledger, LEDGER_LINKS, n), 0);
		assert_true(ledger.tables[LEDGER_LINKS].n_backed >= n);
		*(char *)ledger_at(&ledger, LEDGER_LINKS, n - 1) = 1;
		assert_int_equal(fstat(ledger.fd, &st), 0);
		assert_int_equal((uint64_t)st.st_blocks * 512, ledger.backed_bytes);
	}
	ledger_deinit(&ledger);
}

static void test_ledger_reserve_holds_its_most_exactly(void **state)
{
	struct ledger_shape shape = shape_of(32, 300);
	struct ledger ledger;

	(void)state;
	assert_int_equal(ledger_init(&ledger, memfd_create("l", 0), &shape), 0);
	assert_int_equal(ledger_reserve(&ledger, LEDGER_HOLDS, 301), -ENOSPC);
	assert_int_equal(ledger.tables[LEDGER_HOLDS].n_backed, 0);
	assert_int_equal(ledger_reserve(&ledger, LEDGER_HOLDS, 299), 0);
	assert_int_equal(ledger_reserve(&ledger, LEDGER_HOLDS, 300), 0);
	assert_int_equal(ledger.tables[LEDGER_HOLDS].n_backed, 300);
	ledger_deinit(&ledger);
}

static void test_ledger_elements_of_tables_never_overlap(void **state)
{
	struct ledger_shape shape = shape_of(20, 5000);
	struct ledger ledger;

	(void)state;
	assert_int_equal(ledger_init(&ledger, memfd_create("l", 0), &shape), 0);
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
		cmocka_unit_test(test_ledger_init_writes_the_header_and_nothing_counts),
		cmocka_unit_test(test_ledger_reserve_backs_what_it_counts),
		cmocka_unit_test(test_ledger_reserve_holds_its_most_exactly),
		cmocka_unit_test(test_ledger_elements_of_tables_never_overlap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
