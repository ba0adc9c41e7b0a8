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
	struct mailbox_message *head, *tail; /* mutex, as is all below */
	unsigned n_reserved;		     /* messages that will come */
	bool is_closed;
};

/** mailbox_open() - @owner goes to every message. Return: 0, -errno */
int mailbox_open(struct mailbox *mailbox, uv_loop_t *uv, void *owner) MUST_CHECK;
/**
 * mailbox_reserve() - a message will be posted, by mailbox_post_reserved(): until then the mailbox stays open. Any thread
 * Return: false: it is closed
 */
bool mailbox_reserve(struct mailbox *mailbox) MUST_CHECK;
void mailbox_post_reserved(struct mailbox *mailbox, struct mailbox_message *message);
/** mailbox_post() - any thread, until the owner closes it */
void mailbox_post(struct mailbox *mailbox, struct mailbox_message *message);
/**
 * mailbox_close() - nobody posts any more; lasts until the loop has run its close callbacks
 * Return: false: not yet: a message is there, or reserved. To be called again after it has run
 */
bool mailbox_close(struct mailbox *mailbox);
/** mailbox_deinit() - after the loop has */
void mailbox_deinit(struct mailbox *mailbox);
