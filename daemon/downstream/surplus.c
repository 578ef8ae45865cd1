/* SPDX-License-Identifier: Apache-2.0 */
#include "surplus.h"

#include "connection.h"
#include "refusal.h"
#include "request_id.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#define TLS_HANDSHAKE 0x16 /* it would not read HTTP */
#define ANSWER_SIZE (1 * KIB)

struct surplus {
	struct bin_entry bin;
	bool is_over;
	struct connection *connection;
	usec_t deadline; /* for its first byte */
};

static void fill_record(const struct surplus *s, struct audit_record *record)
{
	const struct connection *c = s->connection;

	identity_record(&c->identity, EVENT_CONNECTION, record);
	record->reason = REASON_CONNECTIONS;
	snprintf(record->detail, sizeof(record->detail),
		 "limits.connections (%u) of enclave %s is reached",
		 connection_config(c)->limits.connections, c->identity.enclave->named.name);
}

/* No token is taken: it is no request, and those that are would pay for it. */
static void submit(const struct surplus *s, const struct audit_record *record,
		   struct instant now)
{
	struct connection *c = s->connection;

	enclave_count(c->identity.enclave, COUNTER_CONNECTIONS_REFUSED, 1);
	if (flood_admit(&c->identity.enclave->flood, now.monotonic))
		audit_submit(c->context->audit, record);
}

static void end_untold(struct surplus *s, struct instant now)
{
	struct audit_record record;

	fill_record(s, &record);
	submit(s, &record, now);
	connection_close(s->connection, REASON_NONE, now);
}

/* Whatever it asks: what it sends is read and dropped while it reads this. */
static void tell(struct surplus *s, struct instant now)
{
	_cleanup_(buf_done) struct buf answer = BUF_INIT(ANSWER_SIZE);
	struct connection *c = s->connection;
	struct refusal_answer said;
	struct audit_record record;

	fill_record(s, &record);
	request_id_make(&c->context->request_ids, record.request_id);
	said = (struct refusal_answer){.refusal = REFUSAL_CONNECTIONS,
				       .message = record.detail,
				       .request_id = record.request_id,
				       .wall = now.wall,
				       .close = true};
	if (refusal_write(&said, &answer) == 0)
		record.status = refusal_info(REFUSAL_CONNECTIONS)->status;
	record.bytes_out = (int64_t)answer.n;
	submit(s, &record, now);
	enclave_count(c->identity.enclave, COUNTER_THROTTLED, 1);
	connection_finish(c, buf_slice(&answer), true, now);
}

static void surplus_io(void *protocol, short what, struct instant now)
{
	struct surplus *s = protocol;
	char first;
	ssize_t n;

	(void)what;
	if (s->is_over)
		return;
	n = connection_peek(s->connection, &first, 1);
	if (n == -EAGAIN)
		return;
	if (n <= 0 || first == TLS_HANDSHAKE)
		end_untold(s, now);
	else
		tell(s, now);
}

static void surplus_sweep(void *protocol, struct instant now)
{
	struct surplus *s = protocol;

	if (!s->is_over && s->deadline <= now.monotonic)
		end_untold(s, now);
}

static void surplus_reload(void *protocol, struct generation *generation, int enclave_index,
			   struct instant now)
{
	(void)protocol; /* it goes by no rule */
	(void)generation;
	(void)enclave_index;
	(void)now;
}

static void surplus_drain(void *protocol, bool over, struct instant now)
{
	struct surplus *s = protocol;

	(void)over;
	if (!s->is_over)
		end_untold(s, now);
}

static void surplus_free(void *protocol, enum reason why, struct instant now)
{
	struct surplus *s = protocol;

	(void)why;
	(void)now;
	s->is_over = true;
	bin_put(&s->connection->context->bin, &s->bin, offsetof(struct surplus, connection),
		sizeof(*s));
}

static const struct protocol_ops surplus_ops = {surplus_io, surplus_sweep, surplus_reload,
						surplus_drain, surplus_free};

void surplus_accept(struct context *context, int fd, const struct identity *identity,
		    struct instant now)
{
	struct connection *c = connection_new(context, fd, identity, true, now);
	struct surplus *s;

	if (!c)
		return;
	s = calloc(1, sizeof(*s));
	if (!s) {
		connection_record(context->audit, &identity->enclave->flood, identity,
				  REASON_MEMORY, "out of memory", now);
		connection_close(c, REASON_NONE, now);
		return;
	}
	s->connection = c;
	s->deadline = now.monotonic + LIMIT_SURPLUS_TIME;
	connection_set_protocol(c, &surplus_ops, s, now);
}
