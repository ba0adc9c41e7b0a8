// SPDX-License-Identifier: MIT
/* The directory: what counts after a kill between any two of its stores, played back from copies of the object. */
#include "tests/lib/test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "alloc/intent.h"
#include "pool/directory.h"

static int object(void)
{
	int fd = memfd_create("test_directory", MFD_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static struct directory make(void)
{
	struct directory directory;

	memset(&directory, 0xff, sizeof(directory));
	assert_int_equal(directory_open(&directory, object()), 0);
	assert_true(directory_is_new(&directory));
	return directory;
}

/* As a daemon's death leaves it, and the next one finds it. */
static struct directory again(struct directory *directory)
{
	struct directory next;
	int fd = dup(directory->ledger.fd);

	directory_close(directory);
	assert_int_equal(directory_open(&next, fd), 0);
	return next;
}

static struct directory_session session_of(struct directory *directory, const char *command)
{
	struct directory_session session = {.id = directory_next_session(directory), .uid = 5, .pid = 6, .started = 7};

	snprintf(session.command, sizeof(session.command), "%s", command);
	return session;
}

static uint32_t add(struct directory *directory, const char *command)
{
	const struct directory_session session = session_of(directory, command);
	uint32_t slot;

	assert_int_equal(directory_add_session(directory, &session, true, &slot), 0);
	return slot;
}

static struct directory_pool pool_of(struct directory *directory)
{
	struct directory_pool pool = {.id = directory_next_pool(directory)};

	snprintf(pool.books, sizeof(pool.books), "/books-%llu", (unsigned long long)pool.id);
	snprintf(pool.data, sizeof(pool.data), "/data-%llu", (unsigned long long)pool.id);
	return pool;
}

static void test_directory_numbers_are_never_used_again(void **state)
{
	struct directory directory = make();
	uint64_t session = directory_next_session(&directory), pool = directory_next_pool(&directory);

	(void)state;
	assert_int_equal(session, 1);
	assert_int_equal(pool, 1);
	directory = again(&directory);
	assert_false(directory_is_new(&directory));
	assert_int_equal(directory_next_session(&directory), 2);
	assert_int_equal(directory_next_pool(&directory), 2);
	directory_close(&directory);
}

static void test_directory_slots_are_used_again_without_their_answers(void **state)
{
	struct directory directory = make();
	struct directory_answer answer;
	struct directory_session found;
	unsigned flags;
	uint32_t a, b;

	(void)state;
	a = add(&directory, "first");
	b = add(&directory, "second");
	assert_int_not_equal(a, b);
	directory_answer(&directory, a, 3, -5);
	assert_true(directory_find_answer(&directory, a, 3, &answer));
	assert_int_equal(answer.outcome, -5);
	assert_false(directory_find_answer(&directory, b, 3, &answer));
	assert_false(directory_find_answer(&directory, a, 0, &answer));
	directory_remove_session(&directory, a);
	assert_false(directory_session(&directory, a, &found, &flags));
	assert_int_equal(add(&directory, "third"), a);
	assert_false(directory_find_answer(&directory, a, 3, &answer));
	directory = again(&directory);
	assert_true(directory_session(&directory, a, &found, &flags));
	assert_string_equal(found.command, "third");
	assert_int_equal(found.id, 3);
	assert_int_equal(flags, 0);
	assert_int_equal(directory_count_sessions(&directory), 2);
	directory_remove_session(&directory, a);
	directory_remove_session(&directory, b);
	assert_int_equal(directory.n_sessions_high, 0);
	directory_close(&directory);
}

static void test_directory_ring_keeps_the_last_answers(void **state)
{
	struct directory directory = make();
	struct directory_answer answer;
	uint32_t slot = add(&directory, "asker");

	(void)state;
	for (uint64_t id = 1; id <= DIRECTORY_ANSWERS_N + 1; id++)
		directory_answer(&directory, slot, id, (int)id);
	directory = again(&directory);
	assert_false(directory_find_answer(&directory, slot, 1, &answer)); /* overwritten */
	for (uint64_t id = 2; id <= DIRECTORY_ANSWERS_N + 1; id++) {
		assert_true(directory_find_answer(&directory, slot, id, &answer));
		assert_int_equal(answer.outcome, (int)id);
	}
	directory_close(&directory);
}

/* The change and its answer, or neither: every number of words of the intent stored before the kill. */
static void test_directory_pool_and_answer_are_one(void **state)
{
	struct directory directory = make();
	struct directory_answer answer;
	struct directory_pool pool, found;
	uint32_t slot = add(&directory, "maker"), index;

	(void)state;
	pool = pool_of(&directory);
	assert_int_equal(directory_reserve_pool(&directory, &index), 0);
	directory_add_pool(&directory, index, &pool, slot, 11);
	directory = again(&directory);
	assert_true(directory_pool(&directory, index, &found));
	assert_memory_equal(&found, &pool, sizeof(found));
	assert_true(directory_find_answer(&directory, slot, 11, &answer));
	assert_int_equal(answer.outcome, 0);
	assert_int_equal(answer.pool, pool.id);

	/* killed after the last store, before the commit: what was noted counts again */
	directory_remove_pool(&directory, index, slot, 12);
	directory.ledger.header->n_noted = 2;
	directory = again(&directory);
	assert_true(directory_pool(&directory, index, &found));
	assert_memory_equal(&found, &pool, sizeof(found));
	assert_false(directory_find_answer(&directory, slot, 12, &answer));
	directory_remove_pool(&directory, index, slot, 12);
	directory = again(&directory);
	assert_false(directory_pool(&directory, index, &found));
	assert_true(directory_find_answer(&directory, slot, 12, &answer));
	assert_int_equal(directory.n_pools_high, 0);
	directory_close(&directory);
}

static void test_directory_killed_while_it_was_made_is_made_again(void **state)
{
	struct directory directory = make();
	int fd = dup(directory.ledger.fd);
	uint32_t slot;

	(void)state;
	directory.ledger.header->kind = 0; /* its last store has not happened */
	directory_close(&directory);
	assert_true(directory_is_unmade(fd));
	assert_int_equal(directory_open(&directory, fd), 0);
	slot = add(&directory, "first");
	assert_int_equal(slot, 0);
	fd = dup(directory.ledger.fd);
	directory_close(&directory);
	assert_false(directory_is_unmade(fd));
	close(fd);
}

/* Before its magic is stored it has a length and a first page, at most; so has one whose first page was lost, and more. */
static void test_directory_without_a_first_page_is_not_unmade(void **state)
{
	struct directory directory = make(), other;
	int fd = dup(directory.ledger.fd);
	off_t n_bytes = lseek(fd, 0, SEEK_END);

	(void)state;
	add(&directory, "somebody");
	assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), 0);
	assert_false(directory_is_unmade(fd));
	assert_int_equal(directory_open(&other, fd), LEDGER_E_FOREIGN);
	directory_close(&directory);
	for (int is_backed = 0; is_backed < 2; is_backed++) {
		assert_int_equal(ftruncate(fd, 0), 0);
		assert_true(directory_is_unmade(fd));
		assert_int_equal(ftruncate(fd, n_bytes), 0);
		assert_int_equal(is_backed ? posix_fallocate(fd, 0, 3 * 4096) : 0, 0);
		assert_true(directory_is_unmade(fd));
	}
	assert_int_equal(directory_open(&directory, fd), 0);
	directory_close(&directory);
}

static void test_directory_foreign_or_damaged_is_refused_and_untouched(void **state)
{
	struct directory directory = make(), other;
	struct ledger_header saved;
	int fd = dup(directory.ledger.fd);

	(void)state;
	add(&directory, "somebody");
	saved = *directory.ledger.header;
	directory.ledger.header->magic = 0x1234;
	assert_int_equal(directory_open(&other, fd), LEDGER_E_FOREIGN);
	*directory.ledger.header = saved;
	directory.ledger.header->version++;
	assert_int_equal(directory_open(&other, fd), LEDGER_E_VERSION);
	*directory.ledger.header = saved;
	directory.ledger.header->kind = LEDGER_POOL;
	assert_int_equal(directory_open(&other, fd), LEDGER_E_DAMAGED);
	*directory.ledger.header = saved;
	directory.ledger.header->n_backed[LEDGER_SESSIONS] = UINT64_MAX;
	assert_int_equal(directory_open(&other, fd), LEDGER_E_DAMAGED);
	*directory.ledger.header = saved;
	directory.ledger.header->n_backed[LEDGER_RESULTS] = 0;
	assert_int_equal(directory_open(&other, fd), LEDGER_E_DAMAGED);
	*directory.ledger.header = saved;
	directory.ledger.header->n_noted = UINT64_MAX;
	assert_int_equal(directory_open(&other, fd), LEDGER_E_DAMAGED);
	*directory.ledger.header = saved;
	directory_close(&directory);
	assert_int_equal(directory_open(&directory, fd), 0);
	assert_int_equal(directory_count_sessions(&directory), 1);
	directory_close(&directory);
}

static void test_directory_remembers_the_last_recoveries(void **state)
{
	struct directory directory = make();
	struct directory_recovery recovery = {0}, last[40];

	(void)state;
	for (uint64_t i = 1; i <= 20; i++) {
		recovery.n_pools = i;
		directory_note_recovery(&directory, &recovery);
	}
	directory_note_stop(&directory);
	directory = again(&directory);
	assert_true(directory_take_stop(&directory));
	assert_false(directory_take_stop(&directory));
	assert_int_equal(directory_n_recoveries(&directory), 20);
	assert_int_equal(directory_recoveries(&directory, last, N_ELEMENTS(last)), 16);
	for (int i = 0; i < 16; i++)
		assert_int_equal(last[i].n_pools, 20 - i);
	assert_int_equal(directory_recoveries(&directory, last, 1), 1);
	assert_int_equal(last[0].n_pools, 20);
	directory_close(&directory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_directory_numbers_are_never_used_again),
		cmocka_unit_test(test_directory_slots_are_used_again_without_their_answers),
		cmocka_unit_test(test_directory_ring_keeps_the_last_answers),
		cmocka_unit_test(test_directory_pool_and_answer_are_one),
		cmocka_unit_test(test_directory_killed_while_it_was_made_is_made_again),
		cmocka_unit_test(test_directory_without_a_first_page_is_not_unmade),
		cmocka_unit_test(test_directory_foreign_or_damaged_is_refused_and_untouched),
		cmocka_unit_test(test_directory_remembers_the_last_recoveries),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
