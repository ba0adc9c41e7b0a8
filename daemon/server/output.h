#pragma once
// SPDX-License-Identifier: MIT
/*
 * output - what a socket has not taken yet
 *
 * Sends at once what it can and keeps the rest, in order, descriptors with the first byte of their frame. Knows bytes
 * and descriptors; not limits: how much may be kept is its owner's to decide.
 *
 * Threads: the connection's loop.
 */
#include <stddef.h>
#include <stdint.h>

#include "proto/util.h"

struct output_chunk;

struct output {
	struct output_chunk *head, *tail;
	size_t n_bytes; /* kept */
};

/**
 * output_send() - send @data [n_bytes] behind what is kept, with @fd at its first byte unless -1
 * @fd: taken over, in any case
 * Return: 0 sent or kept; -EPIPE, -ECONNRESET, -ENOMEM, …: the connection is of no more use
 */
int output_send(struct output *output, int socket, const uint8_t *data, size_t n_bytes, int fd) MUST_CHECK;
/** output_flush() - the socket may take more. Return: as output_send() */
int output_flush(struct output *output, int socket) MUST_CHECK;
/** output_clear() - drop what is kept */
void output_clear(struct output *output);
