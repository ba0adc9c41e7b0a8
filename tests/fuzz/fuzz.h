#pragma once
// SPDX-License-Identifier: MIT
/*
 * fuzz - what every target promises libFuzzer, and the shape of fuzz_dispatch's input
 */
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

/*
 * fuzz_dispatch's input: one byte of FUZZ_CONDITION_* bits, then steps: one byte of FUZZ_STEP_* bits, the message's length
 * in two bytes, little endian (cut to what is there), the message.
 */
#define FUZZ_CONDITION_REFUSE_BEGIN 1u /* no session may begin: the peer's owner refuses */
#define FUZZ_CONDITION_FEW_OBJECTS  2u /* a small decode arena */
#define FUZZ_CONDITION_STOPPING	    4u /* the daemon stops */
#define FUZZ_CONDITION_WATCHED	    8u /* the end of the peers' processes can be seen: they may have heaps */

#define FUZZ_STEP_SECOND  1u   /* it comes from the second peer, who is another user with small quotas */
#define FUZZ_STEP_RAW	  2u   /* the message is taken as it is; otherwise it is given the next id */
#define FUZZ_STEP_NOW	  4u   /* what is slow, or has to wait, is not tried again */
#define FUZZ_STEP_BREAK	  8u   /* the n-th allocation fails, n being the next byte */
#define FUZZ_STEP_AGAIN	  16u  /* the message is given the id of the peer's last one */
#define FUZZ_STEP_BROKEN  32u  /* before, the peer's connection breaks, and it makes another one */
#define FUZZ_STEP_RESTART 64u  /* before, the daemon stops, another one starts, and both peers come back to it */
#define FUZZ_STEP_LOCK	  128u /* before, the peer takes its liveness lock, if it was given one */

/*
 * Both bits, which make no sense together: no message, but what the peer stores into the lease segment that it was given, if it was:
 * what is not whole is left out.
 */
#define FUZZ_STEP_SCRIBBLE (FUZZ_STEP_RAW | FUZZ_STEP_AGAIN)

struct fuzz_scribble {
	uint8_t part; /* modulo FUZZ_PART_N */
	uint8_t unused;
	uint16_t at; /* bytes from its begin */
	uint16_t word;
};

enum {
	FUZZ_PART_WORDS,
	FUZZ_PART_SLABS,
	FUZZ_PART_PAGES,
	FUZZ_PART_HEAPS,
	FUZZ_PART_HEADER,
	FUZZ_PART_N,
};

/* The resume token of every session: an input cannot know a random one. */
#define FUZZ_TOKEN "known to inputs."

/* fuzz_recover's input: one byte that chooses a scene, then changes to its ledger */
#define FUZZ_CHANGE_BYTE 1u /* of one byte; otherwise of a word */
#define FUZZ_CHANGE_ADD	 2u /* the value is added to what is there */
#define FUZZ_CHANGE_FLIP 4u /* one bit more is flipped */
#define FUZZ_CHANGE_CUT	 8u /* the object ends there; the last change */

struct fuzz_change {
	uint8_t what;
	uint8_t table; /* enum ledger_table_id; above: the header */
	uint8_t unused[2];
	uint32_t where; /* bytes from its begin; wraps */
	uint64_t value;
};

#define FUZZ_CHANGE_BYTES sizeof(struct fuzz_change)
