// SPDX-License-Identifier: MIT
/* Pools: made, opened, grown, destroyed, and shown. */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "dispatch_world.h"
#include "server/request.h"

static void test_dispatch_create_refuses_what_no_pool_can_be(void **state)
{
	struct client client = client_greet(*state, 4242);

#define CREATE(...) SAY(&client, CREATE_POOL, create_pool, CreatePool, __VA_ARGS__)
	assert_int_equal(CREATE(SET(name, BYTES("x"))), -EINVAL); /* no size */
	assert_int_equal(CREATE(SET(name, BYTES("")), SET(size, 4096)), -EINVAL);
	assert_int_equal(CREATE(SET(name, BYTES("..")), SET(size, 4096)), -EINVAL);
	assert_int_equal(CREATE(SET(name, BYTES("a/b")), SET(size, 4096)), -EINVAL);
	assert_int_equal(CREATE(SET(name, BYTES("a\0b")), SET(size, 4096)), -EINVAL);
	assert_int_equal(CREATE(SET(size, 4096), SET(max_size, 4095)), -EINVAL);
	assert_int_equal(CREATE(SET(size, 4096), SET(mode, 01777)), -EINVAL);
	assert_int_equal(CREATE(SET(size, 4096), SET(lifetime, (Mempool__Wire__Lifetime)2)), -EINVAL);
	assert_int_equal(CREATE(SET(size, 4096), SET(fill, (Mempool__Wire__Fill)3)), -EINVAL);
	assert_int_equal(CREATE(SET(size, 4096), SET(lease, (Mempool__Wire__Lease)2)), -EINVAL);
	assert_int_equal(CREATE(SET(size, 4096), SET(gid, 4243)), -EACCES);
	assert_int_equal(CREATE(SET(size, UINT64_MAX)), -EINVAL);
	assert_int_equal(CREATE(SET(size, 4096), SET(max_size, UINT64_MAX - 4095)), -EINVAL);
#undef CREATE
	assert_int_equal(SAY(&client, LIST_POOLS, list_pools, ListPools), 0);
	assert_int_equal(client.reply->list_pools->n_pools, 0);
	client_close(&client);
}

static void test_dispatch_create_and_open_give_the_segment(void **state)
{
	struct client client = client_greet(*state, 0), other = client_greet(*state, 0);
	uint64_t started_s = (uint64_t)time(NULL), pool = create(&client, "shared", 100000);
	struct stat ours, theirs;

	assert_true(client.fd >= 0);
	assert_int_equal(client.reply->pool->first, POOL_FIRST);
	assert_true(client.reply->pool->segment_bytes >= POOL_FIRST + 100000);
	assert_int_equal(client.reply->pool->segment_bytes % 4096, 0);
	assert_int_equal(client.reply->pool->info->mode, 0600);
	assert_true(client.reply->pool->info->created >= started_s);
	assert_int_equal(fstat(client.fd, &ours), 0);
	assert_int_equal(SAY(&other, OPEN_POOL, open_pool, OpenPool, SET(name, BYTES("shared"))), 0);
	assert_int_equal(fstat(other.fd, &theirs), 0);
	assert_int_equal(ours.st_ino, theirs.st_ino);
	assert_int_equal(other.reply->pool->info->sessions, 2);
	assert_int_equal(SAY(&other, OPEN_POOL, open_pool, OpenPool, SET(pool, pool)), 0); /* again: one membership */
	assert_int_equal(other.reply->pool->info->sessions, 2);
	assert_int_equal(SAY(&other, CREATE_POOL, create_pool, CreatePool, SET(name, BYTES("shared")), SET(size, 1)),
			 -EEXIST);
	assert_says(&other, "\"shared\"");
	client_close(&client);
	client_close(&other);
}

static void test_dispatch_open_refuses(void **state)
{
	struct client root = client_greet(*state, 0), user = client_greet(*state, 4242);
	uint64_t secret = create(&root, "", 4096);

	create(&root, "colours", 4096);
	assert_int_equal(SAY(&user, OPEN_POOL, open_pool, OpenPool), -EINVAL);
	assert_int_equal(SAY(&user, OPEN_POOL, open_pool, OpenPool, SET(name, BYTES("colour"))), -ENOENT);
	assert_says(&user, "did you mean \"colours\"");
	assert_int_equal(SAY(&user, OPEN_POOL, open_pool, OpenPool, SET(name, BYTES("../x"))), -EINVAL);
	assert_int_equal(SAY(&user, OPEN_POOL, open_pool, OpenPool, SET(name, BYTES("colours"))), -EACCES);
	assert_int_equal(SAY(&user, OPEN_POOL, open_pool, OpenPool, SET(pool, 999)), -ENOENT);
	assert_int_equal(SAY(&user, OPEN_POOL, open_pool, OpenPool, SET(pool, secret)), -ENOENT); /* private */
	assert_int_equal(SAY(&root, OPEN_POOL, open_pool, OpenPool, SET(pool, secret)), 0);
	client_close(&root);
	client_close(&user);
}

static void test_dispatch_private_pool_goes_with_its_session(void **state)
{
	struct client client = client_greet(*state, 0), other = client_greet(*state, 0);
	uint64_t pool = create(&client, "", 4096);

	assert_int_equal(SAY(&other, LIST_POOLS, list_pools, ListPools), 0);
	assert_int_equal(other.reply->list_pools->n_pools, 0); /* unlisted */
	assert_int_equal(SAY(&other, LIST_POOLS, list_pools, ListPools, SET(pool, pool)), -ENOENT);
	assert_int_equal(SAY(&client, LIST_POOLS, list_pools, ListPools, SET(pool, pool)), 0);
	assert_int_equal(client.reply->list_pools->n_pools, 1);
	client_close(&client);
	assert_int_equal(SAY(&other, STATS, stats, Stats, SET(pool, pool)), -ESTALE);
	client_close(&other);
}

static void test_dispatch_destroy(void **state)
{
	struct client client = client_greet(*state, 0), user = client_greet(*state, 4242);
	uint64_t pool = create(&client, "d", 1 << 16);

	alloc(&client, pool, 100);
	assert_int_equal(SAY(&user, DESTROY_POOL, destroy_pool, DestroyPool, SET(name, BYTES("d"))), -EACCES);
	assert_int_equal(SAY(&client, DESTROY_POOL, destroy_pool, DestroyPool), -EINVAL);
	assert_int_equal(SAY(&client, DESTROY_POOL, destroy_pool, DestroyPool, SET(name, BYTES("e"))), -ENOENT);
	assert_int_equal(SAY(&client, DESTROY_POOL, destroy_pool, DestroyPool, SET(name, BYTES("d")), SET(if_empty, 1)),
			 -ENOTEMPTY);
	assert_int_equal(SAY(&client, DESTROY_POOL, destroy_pool, DestroyPool, SET(pool, pool)), 0);
	assert_says(&client, "1 live block");
	assert_int_equal(SAY(&client, ALLOC, alloc, Alloc, SET(pool, pool), SET(size, 1)), -ESTALE);
	assert_int_equal(SAY(&client, DESTROY_POOL, destroy_pool, DestroyPool, SET(name, BYTES("d"))), -ENOENT);
	client_close(&client);
	client_close(&user);
}

/* A client that makes and destroys pools for ever keeps nothing of them. */
static void test_dispatch_destroyed_pools_leave_the_session(void **state)
{
	struct client client = client_greet(*state, 0), other = client_greet(*state, 0);

	for (int i = 0; i < 100; i++) {
		uint64_t pool = create(&client, i % 2 ? "" : "again", 4096);

		if (i % 2 == 0) {
			assert_int_equal(SAY(&other, OPEN_POOL, open_pool, OpenPool, SET(pool, pool)), 0);
		}
		assert_int_equal(SAY(&client, DESTROY_POOL, destroy_pool, DestroyPool, SET(pool, pool)), 0);
		if (i % 4 == 0) {
			assert_int_equal(SAY(&other, CLOSE_POOL, close_pool, ClosePool, SET(pool, pool)), 0);
			assert_true(other.was_slow);
			assert_int_equal(SAY(&other, CLOSE_POOL, close_pool, ClosePool, SET(pool, pool)), 0);
		}
	}
	assert_int_equal(client.peer.session->n_memberships, 0);
	assert_true(client.peer.session->n_alloced <= 8);
	assert_true(other.peer.session->n_alloced <= 8);
	client_close(&client);
	client_close(&other);
}

static void test_dispatch_resize(void **state)
{
	struct client client = client_greet(*state, 0);
	uint64_t pool;

	assert_int_equal(SAY(&client, CREATE_POOL, create_pool, CreatePool, SET(size, 65536), SET(max_size, 131072)),
			 0);
	pool = client.reply->pool->info->pool;
	assert_int_equal(SAY(&client, RESIZE_POOL, resize_pool, ResizePool, SET(pool, pool)), -EINVAL);
	assert_int_equal(SAY(&client, RESIZE_POOL, resize_pool, ResizePool, SET(pool, pool), SET(size, 65520)),
			 -EINVAL);
	assert_int_equal(SAY(&client, RESIZE_POOL, resize_pool, ResizePool, SET(pool, pool), SET(size, 131073)),
			 -ENOSPC);
	assert_int_equal(SAY(&client, RESIZE_POOL, resize_pool, ResizePool, SET(pool, pool), SET(size, 131072)), 0);
	assert_int_equal(client.reply->pool->info->total, 131072);
	client_close(&client);
}

/* On a busy machine a page may end after any extent. */
static void expect_whole_list(struct client *client, uint64_t pool, uint64_t n_bytes)
{
	uint64_t next = 0, total = 0;

	do {
		assert_int_equal(SAY(client, LIST_EXTENTS, list_extents, ListExtents, SET(pool, pool), SET(from, next)),
				 0);
		for (size_t i = 0; i < client->reply->list_extents->n_extents; i++)
			total += client->reply->list_extents->extents[i]->size;
		next = client->reply->list_extents->next;
	} while (next);
	assert_int_equal(total, n_bytes);
}

static void test_dispatch_shows_a_pool(void **state)
{
	struct client client = client_greet(*state, 0);
	uint64_t pool = create(&client, "v", 1 << 20), total = 0;

	alloc(&client, pool, 1000);
	assert_int_equal(SAY(&client, STATS, stats, Stats, SET(pool, pool)), 0);
	assert_int_equal(client.reply->stats->total, 1 << 20);
	assert_int_equal(client.reply->stats->allocations, 1);
	assert_int_equal(SAY(&client, VISUALIZE, visualize, Visualize, SET(pool, pool)), -EINVAL);
	assert_int_equal(SAY(&client, VISUALIZE, visualize, Visualize, SET(pool, pool), SET(cells, 16385)), -EINVAL);
	assert_int_equal(
		SAY(&client, VISUALIZE, visualize, Visualize, SET(pool, pool), SET(cells, 1), SET(max_gaps, 65)),
		-EINVAL);
	assert_int_equal(
		SAY(&client, VISUALIZE, visualize, Visualize, SET(pool, pool), SET(cells, 1), SET(max_holders, 65)),
		-EINVAL);
	assert_int_equal(SAY(&client, VISUALIZE, visualize, Visualize, SET(pool, pool), SET(cells, 16384),
			     SET(max_gaps, 64), SET(max_holders, 64)),
			 0);
	assert_int_equal(client.reply->visualize->n_cell_used, 16384);
	assert_int_equal(client.reply->visualize->n_holders, 1);
	for (size_t i = 0; i < 16384; i++)
		total += client.reply->visualize->cell_used[i];
	assert_int_equal(total, client.reply->visualize->stats->used);
	expect_whole_list(&client, pool, 1 << 20);
	assert_int_equal(SAY(&client, CHECK, check, Check, SET(pool, pool)), 0);
	assert_int_equal(client.reply->check->n_faults, 0);
	client_close(&client);
}

/* As a start finds it that cannot recover "lost". */
static void restart_without_it(struct bench *bench)
{
	struct registry_config config = {.instance = bench->instance, .budget_bytes = UINT64_MAX, .decay_ms = 1000};
	struct pool *pool;
	int fd, n_swept;

	assert_int_equal(registry_find(bench->services.registry, "lost", 4, &pool), 0);
	fd = shm_open(pool_books_name(pool), O_RDWR, 0);
	pool_unref(pool);
	sessions_deinit(&bench->sessions);
	registry_keep(bench->services.registry);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, "somebody", 8, 0), 8); /* the magic */
	close(fd);
	for (unsigned i = 0; i < QUOTA_KIND_N; i++)
		config.quota_limit[i] = UINT64_MAX;
	assert_int_equal(registry_open(&bench->services.registry, &config, &n_swept), 0);
	assert_int_equal(sessions_init(&bench->sessions, bench->services.registry), 0);
}

static void test_dispatch_unrecovered_pool_is_not_called_destroyed(void **state)
{
	struct client client = client_greet(*state, 0);
	uint64_t pool = create(&client, "lost", 65536), offset = alloc(&client, pool, 100);

	client_close(&client);
	restart_without_it(*state);
	client = client_greet(*state, 0);
	assert_int_equal(SAY(&client, FREE, free, Free, SET(pool, pool), SET(offset, offset)), -EBADMSG);
	assert_says(&client, "Free: there is a pool 1, but it could not be recovered");
	assert_int_equal(SAY(&client, OPEN_POOL, open_pool, OpenPool, SET(pool, pool)), -EBADMSG);
	assert_int_equal(SAY(&client, DESTROY_POOL, destroy_pool, DestroyPool, SET(name, BYTES("lost"))), 0);
	assert_int_equal(SAY(&client, FREE, free, Free, SET(pool, pool), SET(offset, offset)), -ESTALE);
	client_close(&client);
}

static void assert_lane(const struct client *client, uint64_t lane)
{
	assert_true(client->was_slow);
	assert_int_equal(client->peer.lane, lane);
}

static void test_dispatch_slow_requests_know_their_line(void **state)
{
	struct client client = client_greet(*state, 0), stranger = client_greet(*state, 0);
	uint64_t pool = create(&client, "line", 16 << 20);

	assert_lane(&client, 0);
	assert_int_equal(SAY(&client, CHECK, check, Check, SET(pool, pool)), 0);
	assert_lane(&client, pool | LANE_WALKS);
	assert_int_equal(SAY(&client, LIST_POOLS, list_pools, ListPools), 0);
	assert_lane(&client, 0);
	alloc(&client, pool, 8 << 20); /* more than may be backed on a loop */
	assert_lane(&client, pool);
	/* Not a stranger's, whether or not there is such a pool. */
	assert_int_equal(SAY(&stranger, CHECK, check, Check, SET(pool, pool)), -EACCES);
	assert_lane(&stranger, 0);
	assert_int_equal(SAY(&stranger, CHECK, check, Check, SET(pool, 999)), -ESTALE);
	assert_lane(&stranger, 0);
	/* Its first membership of all needs memory. */
	assert_int_equal(SAY(&stranger, OPEN_POOL, open_pool, OpenPool, SET(name, BYTES("line"))), 0);
	assert_lane(&stranger, pool | LANE_OPENS);
	assert_int_equal(SAY(&client, DESTROY_POOL, destroy_pool, DestroyPool, SET(pool, pool)), 0);
	assert_lane(&client, 0);
	client_close(&client);
	client_close(&stranger);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(create_refuses_what_no_pool_can_be),
		TEST(create_and_open_give_the_segment),
		TEST(open_refuses),
		TEST(private_pool_goes_with_its_session),
		TEST(destroy),
		TEST(destroyed_pools_leave_the_session),
		TEST(resize),
		TEST(shows_a_pool),
		TEST(unrecovered_pool_is_not_called_destroyed),
		TEST(slow_requests_know_their_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
