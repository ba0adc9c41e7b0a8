// SPDX-License-Identifier: MIT
/* As it was written for the original single-process allocator; not a line of it knows of daemons or offsets. */
#include <stdio.h>
#include <string.h>

#include "memory_pool.h"

int main(void)
{
	struct memory_block *pool = create_memory_pool(1024 * 1024);
	size_t total, used, count;
	char *text;
	int *numbers;

	if (!pool) {
		perror("create_memory_pool");
		return 1;
	}
	text = pool_alloc(pool, 100);
	numbers = pool_alloc(pool, 50 * sizeof(int));
	if (!text || !numbers || (unsigned char)text[99] != 0xCC || (size_t)numbers % 8)
		return 2;
	strcpy(text, "Hello, pool");
	for (int i = 0; i < 50; i++)
		numbers[i] = i * i;
	get_pool_stats(pool, &total, &used, &count);
	printf("%zu bytes, %zu used, %zu allocations: %s, %d\n", total, used, count, text, numbers[49]);
	visualize_pool(pool);
	pool_free(text);
	get_pool_stats(pool, &total, &used, &count);
	printf("after a free: %zu used, %zu allocations\n", used, count);
	destroy_pool(pool);
	return 0;
}
