/* SPDX-License-Identifier: Apache-2.0 */
#include "intake.h"

void intake_init(struct intake *i)
{
	/* A head that is refused for its length is kept whole. */
	*i = (struct intake){.bytes = BUF_INIT(2 * LIMIT_HEAD + 2)};
}

void intake_drop(struct intake *i, struct connection *c)
{
	buf_done(&i->bytes);
	enclave_uncharge(c->identity.enclave, &i->charged);
}

bool intake_keep(struct intake *i, struct connection *c, struct slice bytes)
{
	if (bytes.n == 0)
		return true;
	return enclave_charge(c->identity.enclave, c->generation->memory_share, &i->charged,
			      LIMIT_HEAD) &&
	       buf_append(&i->bytes, bytes) == 0;
}

bool intake_keep_rest(struct intake *i, struct connection *c, struct slice rest)
{
	if (!i->bytes.n)
		return intake_keep(i, c, rest);
	buf_consume(&i->bytes, i->bytes.n - rest.n);
	if (i->bytes.n == 0)
		intake_drop(i, c);
	return true;
}

ssize_t intake_recv(struct intake *i, struct connection *c, bool peek)
{
	size_t room = LIMIT_HEAD + 1 - MIN(i->bytes.n, (size_t)LIMIT_HEAD);
	ssize_t n = peek ? connection_peek(c, c->context->scratch, room)
			 : connection_recv(c, c->context->scratch, room);

	i->peeked = peek && n > 0 ? (size_t)n : 0;
	return n;
}

bool intake_settle(struct intake *i, struct connection *c, struct slice *rest)
{
	size_t peeked = i->peeked;

	if (peeked == 0)
		return true;
	i->peeked = 0;
	if (connection_drop(c, c->context->scratch, peeked - rest->n) < 0)
		return false;
	if (i->bytes.n)
		i->bytes.n -= rest->n;
	rest->n = 0;
	return true;
}
