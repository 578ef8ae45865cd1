/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* How threads talk: a queue of small messages and an eventfd that wakes the owner's loop. Used
 * to hand over sockets, configurations, credentials and looked-up names, never for a request,
 * so its mutex is not on a request's way; a poke, which may be, takes no lock. */

#include "identity.h"
#include "macro.h"

#include <event2/event.h>

struct acceptor;
struct credentials;
struct credentials_health;
struct generation;

enum message_kind {
	MESSAGE_ACCEPT,      /* to a worker: acceptor, its own from now on */
	MESSAGE_CONNECTION,  /* to a worker: fd and identity */
	MESSAGE_GENERATION,  /* to a worker: generation (the reference goes along) */
	MESSAGE_CREDENTIALS, /* to a worker: credentials (the reference goes along) */
	MESSAGE_ADDRESSES, /* to a worker: id, addresses (NULL: the lookup failed with `number`)
			    */
	MESSAGE_DRAIN,     /* to a worker: close what is idle, end when nothing is left */
	MESSAGE_EXIT,      /* to a worker: end now */
	MESSAGE_TEST_HOOK, /* to a worker of a test build: `number`, see test_hooks.h */
	MESSAGE_REJECTED,  /* to control: KMS rejected the credentials with serial `id`, by the
			    * error `why`; `number`: ask for others. See health */
	MESSAGE_RECOVERED, /* to control: KMS took those with serial `id`. See health */
	MESSAGE_DRAINED,   /* to control: worker `id` has nothing left */
	MESSAGE_LOADED,    /* to control: worker `id` goes by generation (a reference) now */
	MESSAGE_POKED,     /* to a worker: see mailbox_poke(); holds nothing */
};

struct message {
	enum message_kind kind;
	int fd;
	int number;
	uint64_t id;
	struct identity identity;
	struct acceptor *acceptor;
	struct generation *generation;
	struct credentials *credentials;
	struct credentials_health *health; /* borrowed: never freed while threads run */
	const char *why;                   /* static text */
	char *addresses;
};

struct mailbox;
struct letter;

/* Takes over what the message holds. */
typedef void (*mailbox_cb)(struct message *message, void *userdata);

/* `handle` is called on the owner's loop, once a message; `drop` when the mailbox goes, for
 * each that nobody will handle. -ENOMEM, or the errno of a machine without descriptors. */
_must_check_ int mailbox_new(struct event_base *base, mailbox_cb handle, mailbox_cb drop,
			     void *userdata, struct mailbox **ret_mailbox);
/* Drops what is still queued. Returns NULL. */
struct mailbox *mailbox_free(struct mailbox *m);
DEFINE_CLEANUP(struct mailbox *, mailbox_free)

/* Any thread. Copies the message and takes over what it holds, only on success. -ENOMEM. */
_must_check_ int mailbox_send(struct mailbox *m, const struct message *message);

/* Room for one message, so that posting it later can't fail. NULL: out of memory. */
struct letter *letter_new(void);
struct letter *letter_free(struct letter *l);

/* Any thread. The same as mailbox_send(), but can't fail; takes the letter. */
void mailbox_post(struct mailbox *m, struct letter *letter, const struct message *message);

/* Any thread. Has the owner handle a MESSAGE_POKED: one for all pokes since it last began to.
 * Takes no lock and no memory, and can't fail; what was written before is seen by the handler.
 */
void mailbox_poke(struct mailbox *m);
