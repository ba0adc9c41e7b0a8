#pragma once
// SPDX-License-Identifier: MIT
/*
 * fake_daemon - a mempoold that a test drives: it goes away at any point of a request, and keeps a ledger of what it did
 *
 * Knows the wire contract, one session and one client; serves from a thread of its own. Its memory is blocks of 64 bytes. Like the real
 * one it keeps the answers of the last FAKE_RING requests, executes none twice, and answers what it is asked again; it counts as
 * n_wrong whatever a client must not do: ids that do not rise, requests beyond the ring, answers overwritten that were not
 * acknowledged, frees of what is not live.
 */
#include <pthread.h>

#include "proto/mempool.pb-c.h"
#include "proto/util.h"

#define FAKE_RING	128u
#define FAKE_BLOCK	64u
#define FAKE_BLOCKS	16384u
#define FAKE_FIRST	4096u
#define FAKE_POOL	7u
#define FAKE_N_KINDS	64u /* Mempool__Wire__Request__OpCase */
#define FAKE_PATH_BYTES 64u

enum fake_point {
	FAKE_NOWHERE,
	FAKE_BEFORE_READ,  /* of the request */
	FAKE_BEFORE_DOING, /* it was read */
	FAKE_BEFORE_REPLY, /* it was done */
	FAKE_HALF_REPLY,   /* half of the reply was sent */
	FAKE_JUNK_REPLY,   /* what was sent is no reply */
	FAKE_AFTER_REPLY,
	FAKE_POINT_N,
};

enum fake_welcome { /* what a resuming client is told */
	FAKE_RESUMED,
	FAKE_NEW_SESSION,
	FAKE_OTHER_VERSION,
	FAKE_REFUSED, /* with fake_daemon.refusal */
};

struct fake_answer {
	uint64_t id;
	int status;
	uint8_t result[4096]; /* the packed Reply */
	size_t n_result;
	bool has_fd;
};

struct fake_daemon {
	pthread_mutex_t mutex; /* all below */
	pthread_cond_t turned; /* a command was obeyed */
	pthread_t thread;
	char dir[32], path[FAKE_PATH_BYTES];
	int wake[2], listener, stream, memory, liveness;
	bool is_stopping, must_go, must_come, is_away, is_deaf;

	/* what to do */
	enum fake_point point;
	unsigned skip;	       /* requests before it */
	unsigned every;	       /* again after so many, at the next point; 0: once */
	int away_ms;	       /* -1: until fake_come() */
	unsigned n_bad_hellos; /* resumes to drop unanswered */
	enum fake_welcome welcome;
	int refusal;
	bool refuses_in_frame_0;
	unsigned n_refusals; /* so many times only; 0: always */

	/* what was done */
	uint64_t executed[FAKE_N_KINDS];
	uint32_t holds[FAKE_BLOCKS];
	uint32_t next_block;
	uint64_t n_live, n_wrong, n_drops, n_resumes, n_again, max_open;
	char wrong[160]; /* the first */
	bool has_session;
	uint64_t last_id; /* on this stream */
	struct fake_answer ring[FAKE_RING];
	uint8_t in[1u << 18];
	size_t n_in;
	int64_t back_at_ms;
};

int fake_start(struct fake_daemon *f) MUST_CHECK;
void fake_stop(struct fake_daemon *f);
/** fake_fault() - go at @point of the request after the next @skip, for @away_ms */
void fake_fault(struct fake_daemon *f, enum fake_point point, unsigned skip, int away_ms);
/** fake_go() - break the stream and refuse others, now; fake_come() - be back */
void fake_go(struct fake_daemon *f);
void fake_come(struct fake_daemon *f);
/** fake_count() - how often a kind of request was executed */
uint64_t fake_count(struct fake_daemon *f, unsigned kind);
uint64_t fake_live(struct fake_daemon *f);
