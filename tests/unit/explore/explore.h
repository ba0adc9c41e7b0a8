#pragma once
// SPDX-License-Identifier: MIT
/*
 * explore - every interleaving of a few heaps and the daemon over one or two small slabs, by the code that is shipped
 *
 *   memory.c     shared objects and the daemon's heap in memory of ours, so that all of it can be put back
 *   search.c     actors, schedules, states that were seen
 *   heaps.c      clients: client/heap.c; what their magazines hold
 *   daemon.c     requests: daemon/pool; being killed and recovered; the books
 *   truth.c      whose a block is, whatever the words say; what must hold
 *   scenarios.c  who does what
 *
 * Each access to a word, to custody or to a hint (LEASE_STEP) is a point where another may go on, where a client is killed, or
 * where the daemon is; which is killed before each commit, too. A schedule is a list of such choices. Schedules are tried depth first, each by running it again from the start.
 * What an actor does next depends only on what it has read, so a state is the shared memory, each actor's history of reads, and the
 * truth; one that was seen before is not gone on from. So all interleavings of a scenario are covered, not some.
 *
 * Sequentially consistent: a processor that shows stores in another order than they were made is not simulated, so that an order
 * too weak (relaxed where it must be release) cannot be found here, nor on x86 at all. Accesses to descriptors, to the page map and
 * to the ledger happen with the step before them; hash collisions (64 bits) could hide a state.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/lease_word.h"
#include "proto/size_class.h"

enum {
	N_CLIENTS = 3,
	N_ACTORS = 3,
	N_BLOCKS = 8,
	NOBODY = -1
};

/* Slabs of these classes have two slots, three, and one. */
#define SMALL size_class_of(32768)
#define OTHER size_class_of(24576)
#define LARGE size_class_of(40960)

/* ---- memory.c ---- */

/** memory_reset() - empty: no objects, nothing allocated */
void memory_reset(void);
/** memory_keep() - what is there now is what memory_restore() puts back */
void memory_keep(void);
void memory_restore(void);
void *memory_of(int fd);

/* ---- search.c ---- */

struct scenario {
	const char *name;
	void (*prepare)(void);		/* what is there at the start; nobody else is at work */
	void (*actors[N_ACTORS])(void); /* actor i is client i, unless it only makes the daemon's own calls */
	unsigned kills;			/* a bit each client that can be killed: one of them, once */
	bool (*can_die)(void);		/* now; NULL: at any time */
	unsigned crashes;		/* how often the daemon can be killed */
	uint32_t lifetime;		/* of the pool */
	void (*finish)(void);		/* what else must hold at the end; or NULL */
};

struct search_result {
	uint64_t n_schedules, n_states, n_ends;
	uint32_t n_steps_max;
	const char *violation; /* NULL: none */
};

/** search_run() - all schedules of @scenario, or until a violation is found, which is printed */
struct search_result search_run(const struct scenario *scenario);
/** search_found() - something is as it must not be */
void search_found(const char *what);
/** search_wait() - the actor at work goes on when @is_ready */
void search_wait(bool (*is_ready)(void));
/** search_me() - the actor at work; NOBODY */
int search_me(void);
bool search_is_dead(int actor);
bool search_is_over(int actor); /* dead, or done */
/** search_begins(), search_ends() - an operation of a client: after it, its past is what its heap holds and all @outcomes so far */
void search_begins(void);
void search_ends(uint64_t outcome);
bool search_is_in_operation(int actor);
/** search_next() - what the actor will do when it goes on */
const char *search_next(int actor);

/* A request is executed by the daemon: its private memory is what all requests so far have made of it. */
void search_request_begins(void);
void search_request_ends(void);
/** search_place() - the jmp_buf to which it comes back when the daemon is killed in this request */
void *search_place(void);
bool search_is_mutex_free(void);

static inline uint64_t mix(uint64_t hash, uint64_t value)
{
	hash = (hash ^ value) * UINT64_C(0x9e3779b97f4a7c15);
	return hash ^ hash >> 29;
}

uint64_t mix_bytes(uint64_t hash, const void *bytes, size_t n);

/* ---- daemon.c ---- */

/** daemon_init() - a pool, and a session with one heap for each client */
void daemon_init(uint32_t lifetime);
uint8_t *daemon_segment(size_t *n_bytesp);
uint32_t daemon_heap_number(int client);
uint64_t daemon_session(int client);
bool daemon_is_up(void);

/* Requests: in a client's name, or of the daemon's own. They wait until no other is executed. */
int daemon_lease(int client, uint32_t size_class, uint32_t ids[], uint32_t *np);
int daemon_free(int client, uint64_t offset);
int daemon_retain(int client, uint64_t offset);
int daemon_take(int client, uint64_t offset, uint64_t session);
void daemon_recall(uint32_t id, bool takes_cached);
void daemon_leave(int client);
/** daemon_open_heap() - one heap more. Return: its number */
uint32_t daemon_open_heap(int client);

/* The books; not the words. */
struct place {
	uint32_t id, slot, word;
};
/** daemon_find() - the slot of @bytes that begins at @offset, by the ledger. Return: false: none does */
bool daemon_find(uint64_t offset, uint64_t bytes, struct place *placep);
uint16_t daemon_word(uint32_t word);
/** daemon_geometry() - of all that clients read and only the daemon writes */
uint64_t daemon_geometry(void);
/** daemon_words() - of words, custody and hints */
uint64_t daemon_words(void);
/** daemon_check() - the books are right, custody is nobody's, each word is one that @is_right() says */
void daemon_check(bool (*is_right)(uint64_t offset, uint64_t bytes, uint16_t word));
/** daemon_is_seen() - whether another could find out that the access @what was made */
bool daemon_is_seen(const volatile void *at, const char *what);
void daemon_zero_words(uint32_t id);

/* ---- heaps.c ---- */

void heaps_init(int client, uint32_t number);
/** heaps_forget() - all: the memory they were in has been reset */
void heaps_forget(void);
int heaps_alloc(int client, uint32_t size_class, uint64_t *offsetp);
int heaps_free(int client, uint64_t offset);
int heaps_take(int client, uint64_t offset, uint64_t session);
void heaps_flush(int client);
void heaps_grant(int client, uint32_t size_class, uint32_t n, const uint32_t ids[]);
uint64_t heaps_hash(int client);
/** heaps_check() - each slot in its magazines is its */
void heaps_check(int client);

/* ---- truth.c: what actors do, and what must be so ---- */

struct truth {
	struct block {
		uint64_t offset; /* 0: unused */
		uint32_t bytes;
		uint8_t n_rights; /* the owner's, and retains */
		int8_t owner;
		bool is_doomed; /* its owner is dead */
	} blocks[N_BLOCKS];
	struct {
		uint64_t offset;
		int8_t owner;
	} in_flight[N_CLIENTS]; /* blocks that are being freed */
	struct {
		uint64_t offset;
		int8_t from;
	} taking[N_CLIENTS]; /* by whom, from whom: it is his with the CAS, before the take returns */
	uint64_t mail[4];
	bool is_leaving[N_CLIENTS]; /* the daemon has begun to end it */
	bool has_hole;		    /* words are 0 that were not stored to: they say nothing */
	bool outlives;		    /* blocks do, their session */
	int8_t results[4];
};
extern struct truth truth;

uint64_t act_alloc(int client, uint32_t size_class); /* 0: there is none */
uint64_t act_lease_alloc(int client, uint32_t size_class);
void act_lease(int client, uint32_t size_class);
int act_free(int client, uint64_t offset);
/** act_free_twice() - a free that a program may not make, for it or another has freed the block already: it may be refused */
int act_free_twice(int client, uint64_t offset);
int act_free_by_request(int client, uint64_t offset);
int act_take(int client, uint64_t offset, int from);
int act_retain(int client, uint64_t offset);
void act_flush(int client);
/** act_new_heap() - its thread begins again, with another number */
void act_new_heap(int client);
void act_leave(int client);

void truth_dies(int client);
void truth_settle(void);    /* after each step */
void truth_check(void);	    /* in each state */
void truth_check_end(void); /* when all is done */
