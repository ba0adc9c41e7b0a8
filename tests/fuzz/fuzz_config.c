// SPDX-License-Identifier: MIT
/* Any file is taken whole with every number in its range, or refused with a sentence. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "config.h"
#include "tests/fuzz/fuzz.h"

#define REQUIRE(condition) ((condition) ? (void)0 : abort())

static void check_config(struct config *config)
{
	char why[160];

	for (size_t i = 0; i < limits_table_n; i++) {
		uint64_t value = *limits_value(&config->limits, &limits_table[i]);

		/* the two that limits_settle() lowers may fall below their own least value */
		REQUIRE(value <= limits_table[i].max && (value >= limits_table[i].min || value <= 16384));
	}
	REQUIRE(!limits_settle(&config->limits, why, sizeof(why)));
	for (size_t i = 0; i < config->n_pools; i++) {
		const struct pool_options *pool = &config->pools[i];

		REQUIRE(name_is_valid(pool->name, pool->n_name_bytes) && pool->size && pool->mode <= 0777);
		REQUIRE(!pool->max_size || pool->max_size >= pool->size);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static int fd = -1;
	static char path[64];
	struct config config;
	char why[64];
	int r;

	if (fd < 0) {
		fd = memfd_create("fuzz_config", MFD_CLOEXEC);
		REQUIRE(fd >= 0);
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	}
	REQUIRE(!ftruncate(fd, 0) && pwrite(fd, data, n, 0) == (ssize_t)n);
	memset(why, 0xff, sizeof(why));
	r = config_load(&config, path, why, sizeof(why));
	if (r) {
		REQUIRE(r == CONFIG_E_REFUSED && memchr(why, '\0', sizeof(why)) && !strncmp(why, path, strlen(path)));
		return 0;
	}
	check_config(&config);
	config_deinit(&config);
	return 0;
}
