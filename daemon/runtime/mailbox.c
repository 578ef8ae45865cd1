/* SPDX-License-Identifier: Apache-2.0 */
#include "mailbox.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <unistd.h>

struct letter {
	STAILQ_ENTRY(letter) link;
	struct message message;
};

STAILQ_HEAD(letters, letter);

struct mailbox {
	pthread_mutex_t mutex; /* guards `letters` */
	struct letters letters;
	_Atomic bool poked;
	int fd;
	struct event *event;
	mailbox_cb handle, drop;
	void *userdata;
};

static struct letter *mailbox_take(struct mailbox *m)
{
	struct letter *l;

	pthread_mutex_lock(&m->mutex);
	l = STAILQ_FIRST(&m->letters);
	if (l)
		STAILQ_REMOVE_HEAD(&m->letters, link);
	pthread_mutex_unlock(&m->mutex);
	return l;
}

static void on_readable(evutil_socket_t fd, short what, void *userdata)
{
	struct mailbox *m = userdata;
	struct letter *l;
	eventfd_t n;

	(void)what;
	(void)eventfd_read(fd, &n);
	while ((l = mailbox_take(m))) {
		struct message message = l->message;

		free(l);
		m->handle(&message, m->userdata);
	}
	if (atomic_exchange(&m->poked, false)) {
		struct message poked = {.kind = MESSAGE_POKED};

		m->handle(&poked, m->userdata);
	}
}

int mailbox_new(struct event_base *base, mailbox_cb handle, mailbox_cb drop, void *userdata,
		struct mailbox **ret_mailbox)
{
	_cleanup_(mailbox_freep) struct mailbox *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	pthread_mutex_init(&m->mutex, NULL);
	STAILQ_INIT(&m->letters);
	m->handle = handle;
	m->drop = drop;
	m->userdata = userdata;
	m->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (m->fd < 0)
		return -errno;
	m->event = event_new(base, m->fd, EV_READ | EV_PERSIST, on_readable, m);
	if (!m->event || event_add(m->event, NULL) < 0)
		return -ENOMEM;
	*ret_mailbox = TAKE_PTR(m);
	return 0;
}

struct mailbox *mailbox_free(struct mailbox *m)
{
	struct letter *l;

	if (!m)
		return NULL;
	while ((l = mailbox_take(m))) {
		m->drop(&l->message, m->userdata);
		free(l);
	}
	if (m->event)
		event_free(m->event);
	if (m->fd >= 0)
		close(m->fd);
	pthread_mutex_destroy(&m->mutex);
	free(m);
	return NULL;
}

struct letter *letter_new(void)
{
	return malloc(sizeof(struct letter));
}

struct letter *letter_free(struct letter *l)
{
	free(l);
	return NULL;
}

void mailbox_post(struct mailbox *m, struct letter *l, const struct message *message)
{
	bool first;

	l->message = *message;
	pthread_mutex_lock(&m->mutex);
	first = STAILQ_EMPTY(&m->letters);
	STAILQ_INSERT_TAIL(&m->letters, l, link);
	pthread_mutex_unlock(&m->mutex);
	/* The owner takes letters until there are none: one before this one wakes it for both.
	 */
	if (first)
		(void)eventfd_write(m->fd, 1); /* full only when the owner is awake already */
}

int mailbox_send(struct mailbox *m, const struct message *message)
{
	struct letter *l = letter_new();

	if (!l)
		return -ENOMEM;
	mailbox_post(m, l, message);
	return 0;
}

void mailbox_poke(struct mailbox *m)
{
	if (!atomic_exchange(&m->poked, true))
		(void)eventfd_write(m->fd, 1);
}
