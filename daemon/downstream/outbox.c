/* SPDX-License-Identifier: Apache-2.0 */
#include "outbox.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

void outbox_fill(struct outbox *box, struct slice head, struct slice body)
{
	box->left[0] = head;
	box->left[1] = body;
	box->whole = head.n + body.n;
}

size_t outbox_sent(const struct outbox *box)
{
	return box->whole - box->left[0].n - box->left[1].n;
}

static void take_off(struct outbox *box, size_t n)
{
	for (size_t i = 0; i < ELEMENTSOF(box->left); i++) {
		size_t used = MIN(n, box->left[i].n);

		box->left[i].p += used;
		box->left[i].n -= used;
		n -= used;
	}
}

/* A small answer goes as one piece: to have the kernel gather two costs more than the copy. */
static ssize_t send_some(const struct outbox *box, int fd, char *scratch)
{
	struct slice head = box->left[0], body = box->left[1];
	struct iovec iov[] = {{(void *)head.p, head.n}, {(void *)body.p, body.n}};
	struct msghdr m = {.msg_iov = iov, .msg_iovlen = ELEMENTSOF(iov)};
	ssize_t n;

	if (body.n == 0)
		return send(fd, head.p, head.n, MSG_NOSIGNAL);
	if (head.n + body.n > OUTBOX_SCRATCH)
		return sendmsg(fd, &m, MSG_NOSIGNAL);
	memcpy(scratch, head.p, head.n);
	memcpy(scratch + head.n, body.p, body.n);
	n = send(fd, scratch, head.n + body.n, MSG_NOSIGNAL);
	explicit_bzero(scratch, head.n + body.n);
	return n;
}

int outbox_send(struct outbox *box, int fd, char *scratch)
{
	while (!outbox_is_empty(box)) {
		ssize_t n = send_some(box, fd, scratch);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		take_off(box, (size_t)n);
	}
	return 0;
}
