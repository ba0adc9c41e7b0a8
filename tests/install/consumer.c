// SPDX-License-Identifier: MIT
/*
 * consumer - a program outside the project: uses the installed headers and library, and nothing else
 *
 * Prints the library's version. Exit: 0 a block was had and given back; 3 no daemon, with the library's sentence on
 * stderr; 1 anything else. Plain C11 and C++17 both.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <mempool/memory_pool.h>
#include <mempool/mempool.h>

int main(void)
{
	struct mempool_client *client;
	struct mempool_pool *pool;
	mempool_offset block;
	int r;

	if (strcmp(mempool_version(), MEMPOOL_VERSION) != 0) {
		fprintf(stderr, "library %s, headers %s\n", mempool_version(), MEMPOOL_VERSION);
		return 1;
	}
	puts(mempool_version());
	r = mempool_connect(&client, NULL);
	if (r) {
		fprintf(stderr, "%s\n", mempool_last_error());
		return r == -ECONNREFUSED ? 3 : 1;
	}
	r = mempool_pool_create(client, NULL, 4096, NULL, &pool);
	if (r) {
		fprintf(stderr, "%s\n", mempool_last_error());
		return 1;
	}
	block = mempool_alloc(pool, 100);
	if (!block) {
		fprintf(stderr, "%s\n", mempool_last_error());
		return 1;
	}
	memset(mempool_ptr(pool, block), 1, 100);
	r = mempool_free(pool, block);
	mempool_pool_close(pool);
	mempool_disconnect(client);
	return r ? 1 : 0;
}
