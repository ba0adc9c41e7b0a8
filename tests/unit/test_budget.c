// SPDX-License-Identifier: MIT
/* The kernel's files are a tree of the test's own, so that every answer can be chosen. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pool/budget.h"
#include "tests/lib/test.h"

#define MIB (UINT64_C(1) << 20)

static char root[64];
static int fd; /* of a memfd: its file system has no limit of its own */

static void write_file(const char *path, const char *text)
{
	char whole[256];
	FILE *file;

	snprintf(whole, sizeof(whole), "%s", root);
	for (const char *at = path, *slash; (slash = strchr(at + 1, '/')); at = slash) {
		snprintf(whole, sizeof(whole), "%s%.*s", root, (int)(slash - path), path);
		mkdir(whole, 0700);
	}
	snprintf(whole, sizeof(whole), "%s%s", root, path);
	file = fopen(whole, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static void write_number(const char *path, uint64_t n)
{
	char text[32];

	snprintf(text, sizeof(text), "%llu\n", (unsigned long long)n);
	write_file(path, text);
}

static void set_machine(uint64_t total, uint64_t available)
{
	char text[200];

	snprintf(text, sizeof(text), "MemTotal: %llu kB\nMemFree: 1 kB\nMemAvailable:  %llu kB\nBuffers: 1 kB\n",
		 (unsigned long long)total / 1024, (unsigned long long)available / 1024);
	write_file("/proc/meminfo", text);
}

static void set_up(struct budget *budget, uint64_t limit)
{
	strcpy(root, "/tmp/test_budget.XXXXXX");
	assert_non_null(mkdtemp(root));
	memset(budget, 0xff, sizeof(*budget));
	assert_int_equal(budget_init(budget, limit), 0);
	budget->root = root;
}

static void tear_down(struct budget *budget)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -r %s", root);
	assert_int_equal(system(command), 0);
	budget_deinit(budget);
}

static void expect_most(struct budget *budget, uint64_t most)
{
	budget->credit_bytes = 0; /* as if the last answer were too old */
	assert_int_equal(budget_spend(budget, fd, most + 1), BUDGET_E_EXHAUSTED);
	assert_int_equal(budget_spend(budget, fd, most), 0);
	budget_give_back(budget, most);
	assert_int_equal(budget_spent(budget), 0);
}

static void expect_no_limit(struct budget *budget)
{
	budget->credit_bytes = 0;
	assert_int_equal(budget_spend(budget, fd, UINT64_MAX), 0);
	budget_give_back(budget, UINT64_MAX);
}

static void test_budget_of_unknown_machine_is_its_limit(void **state)
{
	struct budget budget;

	(void)state;
	set_up(&budget, 10 * MIB);
	expect_most(&budget, 10 * MIB);
	assert_int_equal(budget_spend(&budget, fd, 9 * MIB), 0);
	assert_int_equal(budget_spend(&budget, fd, MIB + 1), BUDGET_E_EXHAUSTED);
	assert_int_equal(budget_spend(&budget, fd, UINT64_MAX), BUDGET_E_EXHAUSTED);
	assert_int_equal(budget_spend(&budget, fd, MIB), 0);
	assert_int_equal(budget_spent(&budget), 10 * MIB);
	budget_give_back(&budget, 10 * MIB);
	tear_down(&budget);
}

static void test_budget_leaves_the_machine_a_reserve(void **state)
{
	struct budget budget;

	(void)state;
	set_up(&budget, UINT64_MAX);
	set_machine(100 * MIB, 50 * MIB);
	expect_most(&budget, 48 * MIB);
	set_machine(100000 * MIB, 50000 * MIB);
	expect_most(&budget, (50000 - 64) * MIB);
	set_machine(100 * MIB, MIB);
	expect_most(&budget, 0);
	tear_down(&budget);
}

static void test_budget_asks_every_group_above_version_2(void **state)
{
	struct budget budget;

	(void)state;
	set_up(&budget, UINT64_MAX);
	write_file("/proc/self/cgroup", "1:name=systemd:/other\n0::/a/b\n");
	write_file("/sys/fs/cgroup/a/b/memory.max", "max\n");
	write_number("/sys/fs/cgroup/a/b/memory.current", 5 * MIB);
	expect_no_limit(&budget);
	write_number("/sys/fs/cgroup/a/memory.max", 100 * MIB);
	write_number("/sys/fs/cgroup/a/memory.current", 60 * MIB);
	expect_most(&budget, 38 * MIB);
	write_file("/sys/fs/cgroup/a/memory.stat", "anon 1\nfile 2\ninactive_file 10485760\nslab 3\n");
	expect_most(&budget, 48 * MIB);
	write_number("/sys/fs/cgroup/a/b/memory.max", 20 * MIB);
	expect_most(&budget, 20 * MIB - 5 * MIB - 20 * MIB / 50);
	write_number("/sys/fs/cgroup/memory.max", 10 * MIB);
	write_number("/sys/fs/cgroup/memory.current", 11 * MIB);
	expect_most(&budget, 0);
	tear_down(&budget);
}

static void test_budget_knows_version_1_and_the_root_group(void **state)
{
	struct budget budget;

	(void)state;
	set_up(&budget, UINT64_MAX);
	write_file("/proc/self/cgroup", "9:cpu:/\n4:memory:/\n");
	write_number("/sys/fs/cgroup/memory/memory.limit_in_bytes", UINT64_C(0x7ffffffffffff000));
	write_number("/sys/fs/cgroup/memory/memory.usage_in_bytes", MIB);
	expect_no_limit(&budget);
	write_number("/sys/fs/cgroup/memory/memory.limit_in_bytes", 50 * MIB);
	expect_most(&budget, 48 * MIB);
	write_file("/proc/self/cgroup", "4:memory:/docker/1\n0::/\n");
	write_number("/sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes", 10 * MIB);
	write_number("/sys/fs/cgroup/memory/docker/1/memory.usage_in_bytes", 8 * MIB);
	write_file("/sys/fs/cgroup/memory/docker/1/memory.stat", "inactive_file 5\ntotal_inactive_file 1048576\n");
	expect_most(&budget, 3 * MIB - 10 * MIB / 50);
	tear_down(&budget);
}

static void test_budget_answer_serves_until_its_credit_is_used_up(void **state)
{
	struct budget budget;

	(void)state;
	set_up(&budget, UINT64_MAX);
	set_machine(1000 * MIB, 820 * MIB); /* 800 beyond the reserve: credit for the most of it, 64 */
	assert_int_equal(budget_spend(&budget, fd, 0), 0);
	set_machine(1000 * MIB, 0);
	budget.asked_ns += UINT64_C(3600) * 1000000000; /* the answer does not age while this test runs */
	assert_int_equal(budget_spend(&budget, fd, 63 * MIB), 0);
	assert_int_equal(budget_spend(&budget, fd, MIB), 0);
	assert_int_equal(budget_spend(&budget, fd, 1), BUDGET_E_EXHAUSTED);
	budget_give_back(&budget, 64 * MIB);
	tear_down(&budget);
}

static void test_budget_answer_too_old_is_asked_for_again(void **state)
{
	struct budget budget;

	(void)state;
	set_up(&budget, UINT64_MAX);
	set_machine(1000 * MIB, 820 * MIB);
	assert_int_equal(budget_spend(&budget, fd, 0), 0);
	set_machine(1000 * MIB, 0);
	budget.asked_ns = 0;
	assert_int_equal(budget_spend(&budget, fd, 1), BUDGET_E_EXHAUSTED);
	tear_down(&budget);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_budget_of_unknown_machine_is_its_limit),
		cmocka_unit_test(test_budget_leaves_the_machine_a_reserve),
		cmocka_unit_test(test_budget_asks_every_group_above_version_2),
		cmocka_unit_test(test_budget_knows_version_1_and_the_root_group),
		cmocka_unit_test(test_budget_answer_serves_until_its_credit_is_used_up),
		cmocka_unit_test(test_budget_answer_too_old_is_asked_for_again),
	};

	fd = memfd_create("test_budget", MFD_CLOEXEC);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
