#pragma once
// SPDX-License-Identifier: MIT
/*
 * demo_pipe - what the demo's processes say to each other, and how
 *
 *   producer --block--> consumer, a pipe each --ack--> producer, one pipe
 *                       consumer --result--> the demo itself, one pipe
 *
 * Messages are structs of the same program, below PIPE_BUF, so those of many writers do not mix. The end of the stream
 * is said, not concluded from a closed pipe: the demo learns of a death by pidfd.
 */
#include <stddef.h>
#include <stdint.h>

#include "ctl/demo_work.h"
#include "proto/util.h"

enum {
	BLOCK_ENDS_ROUND = 1,
	BLOCK_ENDS_ALL = 2
};

struct demo_block {
	uint64_t index;	  /* rises by one from block to block */
	uint64_t length;  /* bytes; 0: no more blocks for you */
	uint64_t offset;  /* in the pool; when copying: 0, and the bytes follow in the pipe */
	uint64_t session; /* that hands it over, for mempool_take() */
	uint32_t flags;	  /* BLOCK_ENDS_* */
	uint32_t reserved;
};

struct demo_ack {
	uint32_t consumer;
};

struct demo_result {
	uint64_t index;
	uint32_t consumer;
	uint32_t flags; /* of the block */
	struct tally tally;
};

enum {
	DEMO_PIPE_E_END = 1, /* the other side is gone */
};

/** demo_pipe_write() - all of data [n_bytes]. Return: 0, -errno */
int demo_pipe_write(int fd, const void *data, size_t n_bytes) MUST_CHECK;

/** demo_pipe_read() - wait for all of data [n_bytes]. Return: 0, DEMO_PIPE_E_END, -errno */
int demo_pipe_read(int fd, void *data, size_t n_bytes) MUST_CHECK;
