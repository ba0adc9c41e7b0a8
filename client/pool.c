// SPDX-License-Identifier: MIT
/* Pools: create, open, close, destroy, resize; and what turns offsets into addresses. */
#include "client/pool.h"

#include <assert.h>
#include <errno.h>
#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- open ---- */

/* What a handle knows is copied from its mapping, where programs have the look-up compiled in. */
static void know_view(struct mempool_pool *pool)
{
	uint64_t end = atomic_load_explicit(&pool->mapping->n_known, memory_order_relaxed);

	__atomic_store_n(&pool->view.n_known, end > pool->first ? end - pool->first : 0, __ATOMIC_RELAXED);
}

static int make_handle(struct mempool_client *client, struct call *call, const char *asked, struct mempool_pool **out)
{
	const Mempool__Wire__PoolReply *reply =
		call->reply->result_case == MEMPOOL__WIRE__REPLY__RESULT_POOL ? call->reply->pool : NULL;
	struct mempool_pool *pool;
	int r;

	if (!reply || !reply->info || call->fd < 0 || reply->first != MEMPOOL_VIEW_FIRST ||
	    reply->segment_bytes <= reply->first)
		return error_set(-EPROTO, "%s: the daemon answered without a pool", asked);
	pool = calloc(1, sizeof(*pool));
	if (!pool)
		return error_set(-ENOMEM, "%s: this process is out of memory", asked);
	r = mapping_open(&pool->mapping, call->fd, reply->segment_bytes, client->generation);
	if (r) {
		free(pool);
		return error_set(r, "%s: mapping %llu bytes: %s", asked, (unsigned long long)reply->segment_bytes,
				 strerror(-r));
	}
	mapping_know(pool->mapping, reply->first + reply->info->total);
	client_ref(client);
	pool->client = client;
	pool->id = reply->info->pool;
	pool->first = reply->first;
	pool->fill = (enum mempool_fill)reply->info->fill;
	pool->guard = reply->info->guard;
	pool->base = pool->mapping->base;
	pool->n_bytes = pool->mapping->n_bytes;
	pool->view.begin = (char *)pool->base + pool->first;
	know_view(pool);
	if (reply->info->lease != MEMPOOL__WIRE__LEASE__LEASE_OFF)
		pool->heaps = heaps_open(client, pool->id, pool->base, pool->n_bytes);
	pool->slot = pool->guard ? 0 : heaps_slot(pool->heaps);
	text_copy(pool->name, sizeof(pool->name), reply->info->name);
	if (*pool->name)
		snprintf(pool->label, sizeof(pool->label), "pool \"%s\"", pool->name);
	else
		snprintf(pool->label, sizeof(pool->label), "private pool %llu", (unsigned long long)pool->id);
	*out = pool;
	return 0;
}

static int open_with(struct mempool_client *client, Mempool__Wire__Request *request, const char *asked,
		     struct mempool_pool **out)
{
	struct call call;
	int r;

	r = client_call(client, request, 0, asked, &call);
	if (r)
		return r;
	r = make_handle(client, &call, asked, out);
	call_deinit(&call);
	return r;
}

static int check_options(const struct mempool_pool_options *options, const char *asked)
{
	if ((unsigned)options->lifetime > MEMPOOL_LIFETIME_POOL || (unsigned)options->fill > MEMPOOL_FILL_ZERO ||
	    (unsigned)options->lease > MEMPOOL_LEASE_OFF || options->guard > 1 || options->reserve > 1 ||
	    options->reserved)
		return error_set(-EINVAL, "%s: an option has a value that it cannot have", asked);
	if (options->mode & ~0777u)
		return error_set(-EINVAL, "%s: mode %#o has more than permission bits", asked, options->mode);
	return 0;
}

int mempool_pool_create(struct mempool_client *client, const char *name, uint64_t size,
			const struct mempool_pool_options *options, struct mempool_pool **out)
{
	struct mempool_pool_options known;
	Mempool__Wire__CreatePool create = MEMPOOL__WIRE__CREATE_POOL__INIT;
	char asked[128];
	int r;
	REQUEST(request, CREATE_POOL, create_pool, create);
	CLIENT_CALL(client);

	snprintf(asked, sizeof(asked), "create of %s%.80s%s", name ? "pool \"" : "a private pool", name ? name : "",
		 name ? "\"" : "");
	if (!client || !out || !size)
		return error_set(-EINVAL, "%s: %s", asked,
				 !size ? "a size of 0 holds nothing" : "no client, or no place for the result");
	mempool_pool_options_init(&known);
	r = options ? import_struct(&known, sizeof(known), options, options->struct_size, asked) : 0;
	if (!r)
		r = check_options(&known, asked);
	if (r)
		return r;
	if (name) {
		SET(create, name, name_bytes(name));
		if (!create.name.len)
			return error_set(-EINVAL, "%s: the name is empty; names have 1 to 64 of [A-Za-z0-9._-]", asked);
	}
	SET(create, size, size);
	if (known.max_size)
		SET(create, max_size, known.max_size);
	if (known.mode)
		SET(create, mode, known.mode);
	if (known.gid)
		SET(create, gid, known.gid);
	SET(create, lifetime, (Mempool__Wire__Lifetime)known.lifetime);
	SET(create, fill, (Mempool__Wire__Fill)known.fill);
	SET(create, lease, (Mempool__Wire__Lease)known.lease);
	SET(create, guard, known.guard != 0);
	SET(create, reserve, known.reserve != 0);
	return open_with(client, &request, asked, out);
}

int mempool_pool_open(struct mempool_client *client, const char *name, struct mempool_pool **out)
{
	Mempool__Wire__OpenPool open = MEMPOOL__WIRE__OPEN_POOL__INIT;
	char asked[128];
	REQUEST(request, OPEN_POOL, open_pool, open);
	CLIENT_CALL(client);

	if (!client || !name || !out)
		return error_set(-EINVAL, "open of a pool: no client, no name, or no place for the result");
	snprintf(asked, sizeof(asked), "open of pool \"%.80s\"", name);
	SET(open, name, name_bytes(name));
	return open_with(client, &request, asked, out);
}

static long futex(_Atomic uint32_t *word, int what, uint32_t value)
{
	return syscall(SYS_futex, word, what | FUTEX_PRIVATE_FLAG, value, NULL, NULL, 0);
}

/* The handle may be gone already: its address is but a name here. */
void pool_call_last(struct mempool_pool *pool)
{
	futex(&pool->n_running, FUTEX_WAKE, INT32_MAX);
}

static void wait_for_calls(struct mempool_pool *pool)
{
	uint32_t n = atomic_fetch_or(&pool->n_running, POOL_CLOSING) | POOL_CLOSING;

	while (n != POOL_CLOSING) {
		futex(&pool->n_running, FUTEX_WAIT, n);
		n = atomic_load_explicit(&pool->n_running, memory_order_acquire);
	}
}

/* The daemon keeps the membership until the session ends: blocks stay, and so a second open is the same one. */
void mempool_pool_close(struct mempool_pool *pool)
{
	if (!pool)
		return;
	if (process_is(pool->client->generation)) /* a forked child has none of its parent's threads */
		wait_for_calls(pool);
	heaps_close(pool->heaps);
	mapping_close(pool->mapping);
	client_unref(pool->client);
	free(pool);
}

static int destroy(struct mempool_client *client, Mempool__Wire__DestroyPool *message, const char *asked)
{
	struct call call;
	int r;
	REQUEST(request, DESTROY_POOL, destroy_pool, *message);

	r = client_call(client, &request, 0, asked, &call);
	if (r)
		return r;
	error_warn(call.reply->message ? call.reply->message : "");
	call_deinit(&call);
	return 0;
}

int mempool_pool_destroy(struct mempool_client *client, const char *name, unsigned flags)
{
	Mempool__Wire__DestroyPool message = MEMPOOL__WIRE__DESTROY_POOL__INIT;
	char asked[128];
	CLIENT_CALL(client);

	if (!client || !name || flags & ~MEMPOOL_IF_EMPTY)
		return error_set(-EINVAL, "destroy of a pool: no client, no name, or an unknown flag");
	snprintf(asked, sizeof(asked), "destroy of pool \"%.80s\"", name);
	SET(message, name, name_bytes(name));
	SET(message, if_empty, (flags & MEMPOOL_IF_EMPTY) != 0);
	return destroy(client, &message, asked);
}

int pool_destroy_by_id(struct mempool_pool *pool)
{
	Mempool__Wire__DestroyPool message = MEMPOOL__WIRE__DESTROY_POOL__INIT;

	SET(message, pool, pool->id);
	return destroy(pool->client, &message, "destroy of a private pool");
}

int mempool_pool_resize(struct mempool_pool *pool, uint64_t size)
{
	Mempool__Wire__ResizePool resize = MEMPOOL__WIRE__RESIZE_POOL__INIT;
	int r;
	REQUEST(request, RESIZE_POOL, resize_pool, resize);
	POOL_CALL(pool);

	if (pool_check_handle(pool, "resize"))
		return -EINVAL;
	SET(resize, pool, pool->id);
	SET(resize, size, size);
	r = client_do(pool->client, &request, pool->id, "resize");
	if (!r)
		mapping_know(pool->mapping, pool->first + round_up(size, MEMPOOL_ALIGNMENT));
	return r;
}

/* ---- addresses ---- */

/*
 * A pool may have grown by another's hand. So an offset above what is known is asked about, once; where nobody can tell (no
 * daemon, pool destroyed), what is mapped counts as inside: a wrong NULL would break a program that did nothing wrong.
 */
static bool grew_over(struct mempool_pool *pool, uint64_t offset)
{
	struct mempool_pool_info info = {.struct_size = sizeof(info)};

	if (mempool_pool_get_info(pool, &info))
		return true;
	mapping_know(pool->mapping, pool->first + info.total);
	return offset < pool->first + info.total;
}

static bool is_inside(struct mempool_pool *pool, uint64_t offset)
{
	bool is_known;

	if (offset < pool->first || offset >= pool->n_bytes)
		return false;
	is_known =
		offset < atomic_load_explicit(&pool->mapping->n_known, memory_order_relaxed) || grew_over(pool, offset);
	know_view(pool);
	return is_known;
}

static_assert(offsetof(struct mempool_pool, view) == 0, "programs have compiled it in");

void *(mempool_ptr)(struct mempool_pool *pool, mempool_offset offset)
{
	return pool && is_inside(pool, offset) ? pool->base + offset : NULL;
}

mempool_offset(mempool_offset_of)(struct mempool_pool *pool, const void *address)
{
	uint64_t offset;

	if (!pool || (uintptr_t)address < (uintptr_t)pool->base)
		return MEMPOOL_NULL;
	offset = (uint64_t)((uintptr_t)address - (uintptr_t)pool->base);
	return is_inside(pool, offset) ? offset : MEMPOOL_NULL;
}
