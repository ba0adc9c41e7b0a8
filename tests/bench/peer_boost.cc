// SPDX-License-Identifier: MIT
/* peer_boost - the loops over Boost.Interprocess: rbtree_best_fit, its default, under its mutex */
#include <boost/interprocess/indexes/iset_index.hpp>
#include <boost/interprocess/managed_shared_memory.hpp>
#include <boost/interprocess/mem_algo/rbtree_best_fit.hpp>
#include <boost/interprocess/sync/mutex_family.hpp>

#define _Alignas alignas
#define PEER_IS_SHARED 1
#include "peers_loops.h"

namespace ipc = boost::interprocess;
typedef ipc::basic_managed_shared_memory<char, ipc::rbtree_best_fit<ipc::mutex_family>, ipc::iset_index> segment;

static segment *pool;
static char name_of_pool[64];
static bool fills;

static void peer_make(uint64_t bytes, bool fill)
{
	fills = fill;
	snprintf(name_of_pool, sizeof(name_of_pool), "bench_peers_%d", (int)getpid());
	ipc::shared_memory_object::remove(name_of_pool);
	pool = new segment(ipc::create_only, name_of_pool, bytes);
}

static void peer_join(void)
{
	pool = new segment(ipc::open_only, name_of_pool); /* at an address of its own */
}

static void peer_end(void)
{
	delete pool;
	ipc::shared_memory_object::remove(name_of_pool);
}

static inline void *peer_get(uint32_t size)
{
	void *block = pool->allocate(size, std::nothrow);

	if (fills && block)
		memset(block, 0xCC, size);
	return block;
}

static inline void peer_put(void *block, uint32_t)
{
	pool->deallocate(block);
}

static inline uint64_t peer_token(void *block)
{
	return (uint64_t)pool->get_handle_from_address(block);
}

static inline void *peer_block(uint64_t token)
{
	return pool->get_address_from_handle((segment::handle_t)token);
}

static bool peer_case(const char *, double *)
{
	return false;
}

static uint64_t peer_held_bytes(void)
{
	return pool ? pool->get_size() - pool->get_free_memory() : 0;
}
