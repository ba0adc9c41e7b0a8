// SPDX-License-Identifier: MIT
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "config.h"
#include "tests/lib/test.h"

#define PATH "pools.conf" /* in a folder of the test's own */

static char dir[] = "/tmp/mempool-test.XXXXXX";

static int setup(void **state)
{
	(void)state;
	return mkdtemp(dir) && !chdir(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	unlink(PATH);
	return chdir("/") || rmdir(dir);
}

static int load_bytes(const char *text, size_t n, struct config *config, char *why, size_t n_why)
{
	int fd = open(PATH, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, n), n);
	close(fd);
	return config_load(config, PATH, why, n_why);
}

static void load(const char *text, struct config *config)
{
	char why[512] = "";
	int r;

	memset(config, 0xff, sizeof(*config));
	r = load_bytes(text, strlen(text), config, why, sizeof(why));
	if (r)
		print_error("%s\n", why);
	assert_int_equal(r, 0);
}

static void refuse(const char *text, const char *sentence)
{
	struct config config, before;
	char why[512] = "";

	memset(&config, 0xaa, sizeof(config));
	before = config;
	assert_int_equal(load_bytes(text, strlen(text), &config, why, sizeof(why)), CONFIG_E_REFUSED);
	assert_string_equal(why, sentence);
	assert_memory_equal(&config, &before, sizeof(config));
}

static void test_config_empty_is_the_defaults(void **state)
{
	struct config config;
	struct limits limits;

	(void)state;
	limits_default(&limits);
	for (const char *const *text =
		     (const char *const[]){"", "\n\n", "# nothing\n; at all\n", "[limits]\n[quota]\n", NULL};
	     *text; text++) {
		load(*text, &config);
		assert_memory_equal(&config.limits, &limits, sizeof(limits));
		assert_int_equal(config.n_pools, 0);
		config_deinit(&config);
	}
}

/* Each line of the table: its least and greatest value are taken, what lies beyond is refused. */
static void test_config_takes_each_limit_within_its_range(void **state)
{
	static const char *const suffixes[] = {[LIMITS_BYTES] = "", [LIMITS_COUNT] = "", [LIMITS_MS] = "ms"};
	struct config config;
	char text[256], why[512];

	(void)state;
	for (size_t i = 0; i < limits_table_n; i++) {
		const struct limits_entry *entry = &limits_table[i];
		const char *suffix = suffixes[entry->unit];
		const uint64_t tried[] = {entry->min, entry->max, entry->min - 1, entry->max + 1};

		for (size_t j = 0; j < N_ELEMENTS(tried); j++) {
			/* The three numbers of queued replies bound each other: move them together. */
			const char *frame =
				strncmp(entry->key, "queued_reply_", 13) || entry->unit == LIMITS_MS ? "" : "q";
			bool outside = (j == 2 && !entry->min) || (j == 3 && entry->max == UINT64_MAX);
			int r;

			if (outside)
				continue; /* it wraps: there is nothing beyond */
			if (*frame)
				snprintf(text, sizeof(text),
					 "[limits]\nqueued_reply_pause = %ju\nqueued_reply_slow = "
					 "%ju\nqueued_reply_close = %ju\n",
					 (uintmax_t)tried[j], (uintmax_t)tried[j], (uintmax_t)tried[j]);
			else
				snprintf(text, sizeof(text), "[%s]\n%s = %ju%s\n", entry->section, entry->key,
					 (uintmax_t)tried[j], suffix);
			r = load_bytes(text, strlen(text), &config, why, sizeof(why));
			if (j < 2) {
				assert_int_equal(r, 0);
				/* settled numbers may have been lowered to what bounds them */
				assert_true(*limits_value(&config.limits, entry) <= tried[j]);
				config_deinit(&config);
			} else {
				assert_int_equal(r, CONFIG_E_REFUSED);
				assert_non_null(strstr(why, " to "));
			}
		}
	}
}

static void test_config_takes_units_and_none(void **state)
{
	struct config config;

	(void)state;
	load("[limits]\n"
	     "request_frame = 32K\n"
	     "time_to_hello = 250ms\n"
	     "time_to_finish_frame=5s\n"
	     "queued_reply_slow_time: 1m\n"
	     "decay_time = none\n"
	     "total_bytes = 2G ; a comment\n"
	     "connections_per_uid = 7\n"
	     "[quota]\n"
	     "bytes = 25%\n"
	     "blocks = none\n",
	     &config);
	assert_int_equal(config.limits.request_frame, 32768);
	assert_int_equal(config.limits.time_to_hello_ms, 250);
	assert_int_equal(config.limits.time_to_finish_frame_ms, 5000);
	assert_int_equal(config.limits.queued_reply_slow_ms, 60000);
	assert_true(config.limits.decay_ms == UINT64_MAX);
	assert_true(config.limits.total_bytes == 2ull << 30);
	assert_int_equal(config.limits.quota[QUOTA_CONNECTIONS], 7);
	assert_true(config.limits.quota[QUOTA_BYTES] == limits_share_of_shm(25));
	assert_true(config.limits.quota[QUOTA_BLOCKS] == UINT64_MAX);
	config_deinit(&config);
}

static void test_config_takes_pools(void **state)
{
	struct config config;

	(void)state;
	load("[pool \"frames\"]\n"
	     "size = 64M\n"
	     "max_size = 1G\n"
	     "mode = 0660\n"
	     "group = root\n"
	     "lifetime = pool\n"
	     "fill = zero\n"
	     "lease = off\n"
	     "guard = yes\n"
	     "reserve = yes\n"
	     "[pool \"b\"]\n"
	     "size = 1\n"
	     "group = 65534\n"
	     "guard = no\n",
	     &config);
	assert_int_equal(config.n_pools, 2);
	assert_int_equal(config.pools[0].n_name_bytes, 6);
	assert_memory_equal(config.pools[0].name, "frames", 6);
	assert_int_equal(config.pools[0].size, 64 << 20);
	assert_int_equal(config.pools[0].max_size, 1 << 30);
	assert_int_equal(config.pools[0].mode, 0660);
	assert_int_equal(config.pools[0].gid, 0);
	assert_int_equal(config.pools[0].uid, geteuid());
	assert_int_equal(config.pools[0].lifetime, 1);
	assert_int_equal(config.pools[0].fill, 2);
	assert_int_equal(config.pools[0].lease, 1);
	assert_true(config.pools[0].guard);
	assert_true(config.pools[0].reserve);
	assert_int_equal(config.pools[1].n_name_bytes, 1);
	assert_int_equal(config.pools[1].size, 1);
	assert_int_equal(config.pools[1].max_size, 0);
	assert_int_equal(config.pools[1].mode, 0600);
	assert_int_equal(config.pools[1].gid, 65534);
	assert_int_equal(config.pools[1].lifetime, 0);
	assert_false(config.pools[1].guard);
	assert_false(config.pools[1].reserve);
	config_deinit(&config);
	config_deinit(&config);
}

static void test_config_takes_names_longer_than_inih_would(void **state)
{
	char text[256], name[65];
	struct config config;

	(void)state;
	memset(name, 'n', 64);
	name[64] = '\0';
	snprintf(text, sizeof(text), "[pool \"%s\"]\nsize=1\n", name);
	load(text, &config);
	assert_int_equal(config.pools[0].n_name_bytes, 64);
	assert_memory_equal(config.pools[0].name, name, 64);
	config_deinit(&config);
	snprintf(text, sizeof(text), "[pool \"%sn\"]\nsize=1\n", name);
	refuse(text,
	       "pools.conf:1: 'nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn' cannot name a pool: "
	       "1 to 64 of A-Z a-z 0-9 . _ -");
}

static void test_config_takes_indentation_bom_and_crlf(void **state)
{
	struct config config;

	(void)state;
	load("\xef\xbb\xbf[pool \"a\"]\r\n\tsize = 1K\r\n    max_size = 2K\r\n\r\n  # done\r\n", &config);
	assert_int_equal(config.n_pools, 1);
	assert_int_equal(config.pools[0].size, 1024);
	assert_int_equal(config.pools[0].max_size, 2048); /* not the rest of the line above */
	config_deinit(&config);
}

static char example[8192]; /* mempoold.conf.example */

static int read_example(void **state)
{
	int fd = open(EXAMPLE, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, example, sizeof(example) - 1);

	(void)state;
	if (n <= 0 || n == sizeof(example) - 1)
		return -1;
	example[n] = '\0';
	return close(fd);
}

static void test_config_example_has_every_limit_at_its_default(void **state)
{
	struct config config;
	struct limits limits;

	(void)state;
	limits_default(&limits);
	load(example, &config);
	assert_memory_equal(&config.limits, &limits, sizeof(limits));
	assert_int_equal(config.n_pools, 0);
	config_deinit(&config);
	for (size_t i = 0; i < limits_table_n; i++) {
		char line[64];

		snprintf(line, sizeof(line), "\n%s = ", limits_table[i].key);
		assert_non_null(strstr(example, line));
	}
}

static void test_config_example_pool_is_one(void **state)
{
	struct config config;
	char *pool = strstr(example, "# [pool");

	(void)state;
	assert_non_null(pool);
	for (char *line = pool; line && line[0] == '#'; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
		line[0] = ' ';
	load(example, &config);
	assert_int_equal(config.n_pools, 1);
	assert_int_equal(config.pools[0].size, 64 << 20);
	assert_int_equal(config.pools[0].max_size, 1 << 30);
	config_deinit(&config);
}

static void test_config_suggests_what_was_meant(void **state)
{
	(void)state;
	refuse("# pools\n\n[pool \"frames\"]\nsise = 64M\n",
	       "pools.conf:4: unknown key 'sise' in [pool \"frames\"], did you mean 'size'?");
	refuse("[limits]\ntime_to_helo = 1s\n",
	       "pools.conf:2: unknown key 'time_to_helo' in [limits], did you mean 'time_to_hello'?");
	refuse("[quota]\nblock = 1\n", "pools.conf:2: unknown key 'block' in [quota], did you mean 'blocks'?");
	refuse("[quota]\nrequest_frame = 1K\n",
	       "pools.conf:2: unknown key 'request_frame' in [quota]: mempoold.conf.example has all there are");
	refuse("[pool \"a\"]\nsize = 1\ncolour = red\n",
	       "pools.conf:3: unknown key 'colour' in [pool \"a\"]: mempoold.conf.example has all there are");
	refuse("[limts]\n", "pools.conf:1: unknown section [limts], did you mean [limits]?");
	refuse("[pool frames]\n", "pools.conf:1: unknown section [pool frames], did you mean [pool \"NAME\"]?");
	refuse("[network]\n",
	       "pools.conf:1: unknown section [network]: there are [limits], [quota] and [pool \"NAME\"]");
}

static void test_config_refuses_bad_values(void **state)
{
	(void)state;
	refuse("[limits]\ntime_to_hello = 30\n",
	       "pools.conf:2: bad value '30' of 'time_to_hello' in [limits]: a time is a number with ms, s or m");
	refuse("[limits]\ntime_to_hello = none\n",
	       "pools.conf:2: bad value 'none' of 'time_to_hello' in [limits]: a time is a number with ms, s or m");
	refuse("[limits]\nrequests_in_flight = 0\n",
	       "pools.conf:2: 'requests_in_flight' in [limits] is 1 to 65536, not 0");
	refuse("[limits]\ntime_to_hello = 25m\ntime_to_finish_frame = 1441m\n",
	       "pools.conf:3: 'time_to_finish_frame' in [limits] is 1 to 86400000 ms, not 1441m");
	refuse("[quota]\nbytes = half\n",
	       "pools.conf:2: bad value 'half' of 'bytes' in [quota]: bytes are a number, with K, M, "
	       "G or T, or a share of /dev/shm as 50%");
	refuse("[quota]\npools = -1\n", "pools.conf:2: bad value '-1' of 'pools' in [quota]: a count is a number");
	refuse("[quota]\npools =\n", "pools.conf:2: bad value '' of 'pools' in [quota]: a count is a number");
	refuse("[pool \"a\"]\nsize = 0\n",
	       "pools.conf:2: bad value '0' of 'size' in [pool \"a\"]: a pool has at least one byte");
	refuse("[pool \"a\"]\nmode = 0999\n",
	       "pools.conf:2: bad value '0999' of 'mode' in [pool \"a\"]: a mode is octal, up to 0777");
	refuse("[pool \"a\"]\nlifetime = ever\n",
	       "pools.conf:2: bad value 'ever' of 'lifetime' in [pool \"a\"]: session or pool");
	refuse("[pool \"a\"]\nfill = ones\n",
	       "pools.conf:2: bad value 'ones' of 'fill' in [pool \"a\"]: pattern, none or zero");
	refuse("[pool \"a\"]\nlease = on\n", "pools.conf:2: bad value 'on' of 'lease' in [pool \"a\"]: auto or off");
	refuse("[pool \"a\"]\nguard = maybe\n",
	       "pools.conf:2: bad value 'maybe' of 'guard' in [pool \"a\"]: yes or no");
	refuse("[pool \"a\"]\ngroup = no-such-group\n",
	       "pools.conf:2: bad value 'no-such-group' of 'group' in [pool \"a\"]: there is no such group");
}

static void test_config_refuses_what_cannot_be(void **state)
{
	(void)state;
	refuse("[pool \"a\"]\nmode = 0600\n\n[limits]\n", "pools.conf:1: [pool \"a\"] has no 'size'");
	refuse("\n[pool \"a\"]\n", "pools.conf:2: [pool \"a\"] has no 'size'");
	refuse("[pool \"a\"]\nsize = 2K\nmax_size = 1K\n", "pools.conf:1: [pool \"a\"]: 'max_size' is below 'size'");
	refuse("[pool \"a\"]\nsize = 1\n[pool \"a\"]\nsize = 1\n", "pools.conf:3: [pool \"a\"] is given twice");
	refuse("[limits]\n[quota]\n[limits]\n", "pools.conf:3: [limits] is given twice");
	refuse("[quota]\npools = 1\npools = 2\n", "pools.conf:3: 'pools' in [quota] is given twice");
	refuse("[pool \"..\"]\n", "pools.conf:1: '..' cannot name a pool: 1 to 64 of A-Z a-z 0-9 . _ -");
	refuse("[pool \"\"]\n", "pools.conf:1: '' cannot name a pool: 1 to 64 of A-Z a-z 0-9 . _ -");
	refuse("[limits]\nqueued_reply_pause = 2M\n",
	       "pools.conf: queued_reply_pause (2097152) must not be above queued_reply_slow (262144)");
}

static void test_config_refuses_what_is_no_ini(void **state)
{
	static const char binary[] = "[limits]\nrequest_frame = 1\0K\n";
	struct config config;
	char why[512], text[400];

	(void)state;
	refuse("size = 1\n", "pools.conf:1: 'size' stands before the first section");
	refuse("[limits]\nrequest_frame\n", "pools.conf:2: this is neither 'key = value' nor a section");
	refuse("[limits\nrequest_frame = 1K\n",
	       "pools.conf:1: a section is [limits], [quota] or [pool \"NAME\"], alone on its line");
	refuse("[limits] request_frame = 1K\n",
	       "pools.conf:1: a section is [limits], [quota] or [pool \"NAME\"], alone on its line");
	assert_int_equal(load_bytes(binary, sizeof(binary) - 1, &config, why, sizeof(why)), CONFIG_E_REFUSED);
	assert_string_equal(why, "pools.conf:2: this is not a text file");

	memset(text, '#', sizeof(text)); /* even a comment: its end would be read as a line of its own */
	text[198] = '\n';
	assert_int_equal(load_bytes(text, 199, &config, why, sizeof(why)), 0);
	config_deinit(&config);
	text[198] = '#';
	text[199] = '\n';
	assert_int_equal(load_bytes(text, 200, &config, why, sizeof(why)), CONFIG_E_REFUSED);
	assert_string_equal(why, "pools.conf:1: the line is longer than 198 bytes");
	assert_int_equal(load_bytes(text, 199, &config, why, sizeof(why)),
			 0); /* no end of line at the end of the file */
	config_deinit(&config);
}

static void test_config_first_mistake_is_the_one_reported(void **state)
{
	(void)state;
	refuse("[limits]\nrequest_frame = x1\nrequest_frame = x2\n[nowhere]\n",
	       "pools.conf:2: bad value 'x1' of 'request_frame' in [limits]: bytes are a number, with K, M, G or T, or "
	       "a share of "
	       "/dev/shm as 50%");
}

static void test_config_unreadable_file_is_an_errno(void **state)
{
	struct config config;
	char why[512];

	(void)state;
	assert_int_equal(config_load(&config, "/nowhere/x", why, sizeof(why)), -ENOENT);
	assert_string_equal(why, "cannot read the configuration /nowhere/x: No such file or directory");
	assert_int_equal(config_load(&config, "/tmp", why, sizeof(why)), -EISDIR);
}

static void test_config_sentence_is_cut_to_fit(void **state)
{
	struct config config;
	char why[16];

	(void)state;
	memset(why, 0xff, sizeof(why));
	assert_int_equal(load_bytes("[x]\n", 4, &config, why, 8), CONFIG_E_REFUSED);
	assert_string_equal(why, "pools.c");
	assert_int_equal((unsigned char)why[8], 0xff);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_config_empty_is_the_defaults),
		cmocka_unit_test(test_config_takes_each_limit_within_its_range),
		cmocka_unit_test(test_config_takes_units_and_none),
		cmocka_unit_test(test_config_takes_pools),
		cmocka_unit_test(test_config_takes_names_longer_than_inih_would),
		cmocka_unit_test(test_config_takes_indentation_bom_and_crlf),
		cmocka_unit_test_setup(test_config_example_has_every_limit_at_its_default, read_example),
		cmocka_unit_test_setup(test_config_example_pool_is_one, read_example),
		cmocka_unit_test(test_config_suggests_what_was_meant),
		cmocka_unit_test(test_config_refuses_bad_values),
		cmocka_unit_test(test_config_refuses_what_cannot_be),
		cmocka_unit_test(test_config_refuses_what_is_no_ini),
		cmocka_unit_test(test_config_first_mistake_is_the_one_reported),
		cmocka_unit_test(test_config_unreadable_file_is_an_errno),
		cmocka_unit_test(test_config_sentence_is_cut_to_fit),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
