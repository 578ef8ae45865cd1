/* SPDX-License-Identifier: Apache-2.0 */
#include "credentials_health.h"

#include "log.h"
#include "mailbox.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

/* How often a rejection may count, and be recorded. */
static const struct rate change_rate = {30 * USEC_PER_SEC, 4};

struct credentials_health_table {
	struct named_table all;
};

int credentials_health_table_new(struct credentials_health_table **ret_table)
{
	struct credentials_health_table *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	t->all.size = sizeof(struct credentials_health);
	*ret_table = t;
	return 0;
}

struct credentials_health_table *
credentials_health_table_free(struct credentials_health_table *t)
{
	if (!t)
		return NULL;
	named_table_done(&t->all);
	free(t);
	return NULL;
}

struct credentials_health *credentials_health_get(struct credentials_health_table *t,
						  const char *endpoint)
{
	struct named *named = named_table_get(&t->all, endpoint, 0);

	return named ? CONTAINER_OF(named, struct credentials_health, named) : NULL;
}

/* ---- the workers ---- */

static uint64_t rejected_by(const struct credentials_health *h)
{
	return atomic_load_explicit(&h->rejected, memory_order_relaxed);
}

/* What the endpoint takes says nothing of newer credentials that it rejects: a call that older
 * ones had signed may end late. Serials only grow. */
static bool ends_rejection(const struct credentials_health *h, uint64_t serial)
{
	uint64_t rejected = rejected_by(h);

	return rejected && serial >= rejected;
}

void credentials_health_success(struct credentials_health *h,
				const struct credentials *credentials, struct mailbox *control)
{
	struct message m = {.kind = MESSAGE_RECOVERED, .id = credentials->serial, .health = h};

	/* Without memory for it the next success says so. */
	if (ends_rejection(h, credentials->serial))
		(void)!mailbox_send(control, &m);
}

bool credentials_health_rejection(struct credentials_health *h,
				  const struct credentials *credentials, const char *why,
				  bool refresh, struct mailbox *control)
{
	struct message m = {
		.kind = MESSAGE_REJECTED,
		.id = credentials->serial,
		.number = refresh,
		.health = h,
		.why = why,
	};

	return mailbox_send(control, &m) == 0;
}

/* The end is there before the serial that it is the end for. */
usec_t credentials_health_wait_end(struct credentials_health *h,
				   const struct credentials *credentials, usec_t end)
{
	if (atomic_load(&h->waited) < credentials->serial) {
		atomic_store(&h->wait_end, end);
		atomic_store(&h->waited, credentials->serial);
	}
	return atomic_load(&h->wait_end);
}

/* ---- the control thread ---- */

/* The only function that changes the state, and says so. `current` may be NULL. */
static void go(struct credentials_health *h, uint64_t rejected,
	       const struct credentials *current)
{
	char endpoint[sizeof(h->named.name) + 16], key[160];
	const char *fields[] = {endpoint, current ? key : NULL, NULL};

	atomic_store_explicit(&h->rejected, rejected, memory_order_relaxed);
	snprintf(endpoint, sizeof(endpoint), "ENDPOINT=%s", h->named.name);
	if (current)
		snprintf(key, sizeof(key), "ACCESS_KEY_ID=%s", current->access_key_id);
	if (rejected)
		log_event(EVENT_CREDENTIALS_BAD, fields,
			  "endpoint %s: AWS KMS rejects the credentials: %s", h->named.name,
			  h->why);
	else
		log_event(EVENT_CREDENTIALS_OK, fields,
			  "endpoint %s: AWS KMS accepts the credentials again", h->named.name);
}

bool credentials_health_is_bad(const struct credentials_health *h,
			       const struct credentials *current)
{
	return current && rejected_by(h) == current->serial;
}

static void take_rejection(struct credentials_health *h, const struct message *m,
			   const struct credentials *current, usec_t now)
{
	if (!current || current->serial != m->id || credentials_health_is_bad(h, current))
		return;
	if (!rate_limit_take(&h->changes, change_rate, now, NULL))
		return;
	h->why = m->why;
	go(h, m->id, current);
}

void credentials_health_take(const struct message *m, const struct credentials *current,
			     usec_t now)
{
	struct credentials_health *h = m->health;

	if (m->kind == MESSAGE_REJECTED)
		take_rejection(h, m, current, now);
	else if (ends_rejection(h, m->id))
		go(h, 0, current);
}
