#pragma once
// SPDX-License-Identifier: MIT
/*
 * mailbox - how other threads speak to an event loop
 *
 * Messages are delivered on the loop's thread, in the order in which they were posted, none lost: the wake-up of libuv
 * coalesces, so each one empties the queue. Knows messages; not what they do.
 *
 * Threads: post from any; everything else on the loop's. Its mutex is a leaf.
 */
#include <pthread.h>
#include <uv.h>

#include "proto/util.h"

struct mailbox_message { /* embedded in what it is about; its owner keeps it alive until it runs */
	struct mailbox_message *next;
	void (*run)(void *owner, struct mailbox_message *message);
};

struct mailbox {
	uv_async_t async;
	void *owner; /* given to each message */
	pthread_mutex_t mutex;
	struct mailbox_message *head, *tail; /* mutex */
};

/** mailbox_open() - @owner goes to every message. Return: 0, -errno */
int mailbox_open(struct mailbox *mailbox, uv_loop_t *uv, void *owner) MUST_CHECK;
/** mailbox_post() - any thread, until the owner closes it */
void mailbox_post(struct mailbox *mailbox, struct mailbox_message *message);
/** mailbox_close() - nobody posts any more, and the queue is empty; lasts until the loop has run its close callbacks */
void mailbox_close(struct mailbox *mailbox);
/** mailbox_deinit() - after the loop has */
void mailbox_deinit(struct mailbox *mailbox);
