// SPDX-License-Identifier: MIT
#include "server/mailbox.h"

static struct mailbox_message *take_all(struct mailbox *mailbox)
{
	struct mailbox_message *head;

	pthread_mutex_lock(&mailbox->mutex);
	head = mailbox->head;
	mailbox->head = mailbox->tail = NULL;
	pthread_mutex_unlock(&mailbox->mutex);
	return head;
}

static void wake_cb(uv_async_t *async)
{
	struct mailbox *mailbox = async->data;
	struct mailbox_message *message, *next;

	for (message = take_all(mailbox); message; message = next) {
		next = message->next; /* @message may be gone after run() */
		message->run(mailbox->owner, message);
		if (!next)
			next = take_all(mailbox);
	}
}

int mailbox_open(struct mailbox *mailbox, uv_loop_t *uv, void *owner)
{
	int r;

	*mailbox = (struct mailbox){.owner = owner};
	r = -pthread_mutex_init(&mailbox->mutex, NULL);
	if (r)
		return r;
	r = uv_async_init(uv, &mailbox->async, wake_cb);
	if (r)
		pthread_mutex_destroy(&mailbox->mutex);
	mailbox->async.data = mailbox;
	return r;
}

/* Under the mutex: after it, the loop may have run the message, and closed the mailbox because of it. */
static void append(struct mailbox *mailbox, struct mailbox_message *message)
{
	bool was_empty = !mailbox->head;

	message->next = NULL;
	if (was_empty)
		mailbox->head = message;
	else
		mailbox->tail->next = message;
	mailbox->tail = message;
	if (was_empty)
		uv_async_send(&mailbox->async);
}

void mailbox_post(struct mailbox *mailbox, struct mailbox_message *message)
{
	pthread_mutex_lock(&mailbox->mutex);
	append(mailbox, message);
	pthread_mutex_unlock(&mailbox->mutex);
}

bool mailbox_reserve(struct mailbox *mailbox)
{
	bool is_open;

	pthread_mutex_lock(&mailbox->mutex);
	is_open = !mailbox->is_closed;
	mailbox->n_reserved += is_open;
	pthread_mutex_unlock(&mailbox->mutex);
	return is_open;
}

void mailbox_post_reserved(struct mailbox *mailbox, struct mailbox_message *message)
{
	pthread_mutex_lock(&mailbox->mutex);
	mailbox->n_reserved--;
	append(mailbox, message);
	pthread_mutex_unlock(&mailbox->mutex);
}

bool mailbox_close(struct mailbox *mailbox)
{
	pthread_mutex_lock(&mailbox->mutex);
	mailbox->is_closed = !mailbox->head && !mailbox->n_reserved;
	pthread_mutex_unlock(&mailbox->mutex);
	if (mailbox->is_closed)
		uv_close((uv_handle_t *)&mailbox->async, NULL);
	return mailbox->is_closed;
}

void mailbox_deinit(struct mailbox *mailbox)
{
	pthread_mutex_destroy(&mailbox->mutex);
}
