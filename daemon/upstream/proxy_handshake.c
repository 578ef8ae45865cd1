/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy_handshake.h"

#include "buf.h"
#include "http_reply.h"
#include "secret.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

struct proxy_handshake {
	char *head; /* without its last line */
	struct proxy_authorization *authorization;
	char *unsent; /* the whole head, in the secure heap; NULL: not made yet, or sent */
	size_t n, sent;
	bool asked; /* the whole head is out */
	struct http_reply reply;
	char why[128];
};

int proxy_handshake_new(const struct proxy_target *target,
			struct proxy_handshake **ret_handshake)
{
	_cleanup_(proxy_handshake_freep) struct proxy_handshake *h = calloc(1, sizeof(*h));
	bool is_ip6 = strchr(target->host, ':');
	const char *open = is_ip6 ? "[" : "", *close = is_ip6 ? "]" : "";

	if (!h)
		return -ENOMEM;
	http_reply_init_connect(&h->reply);
	h->authorization = proxy_authorization_ref(target->authorization);
	if (asprintf(&h->head, "CONNECT %s%s%s:%u HTTP/1.1\r\nHost: %s%s%s:%u\r\n", open,
		     target->host, close, target->port, open, target->host, close,
		     target->port) < 0) {
		h->head = NULL;
		return -ENOMEM;
	}
	*ret_handshake = TAKE_PTR(h);
	return 0;
}

static void forget_head(struct proxy_handshake *h)
{
	h->unsent = secret_free(h->unsent);
}

struct proxy_handshake *proxy_handshake_free(struct proxy_handshake *h)
{
	if (!h)
		return NULL;
	forget_head(h);
	proxy_authorization_unref(h->authorization);
	http_reply_done(&h->reply);
	free(h->head);
	free(h);
	return NULL;
}

static enum proxy_result broken(struct proxy_handshake *h, const char *what, const char *detail)
{
	snprintf(h->why, sizeof(h->why), "%s%s", what, detail);
	return PROXY_BROKEN;
}

/* Made when it can be sent, so that the secure heap holds as few of them as can be. */
static bool make_head(struct proxy_handshake *h)
{
	static const struct slice name = SLICE("Proxy-Authorization: "), end = SLICE("\r\n");
	struct slice head = slice_from(h->head), value = {0};
	char *p;

	if (h->authorization)
		value = proxy_authorization_value(h->authorization);
	h->n = head.n + (value.n ? name.n + value.n + end.n : 0) + end.n;
	h->unsent = p = secret_alloc(h->n);
	if (!p)
		return false;
	p = mempcpy(p, head.p, head.n);
	if (value.n) {
		p = mempcpy(p, name.p, name.n);
		p = mempcpy(p, value.p, value.n);
		p = mempcpy(p, end.p, end.n);
	}
	memcpy(p, end.p, end.n);
	return true;
}

/* True: all of it is out. */
static bool send_head(struct proxy_handshake *h, int fd, enum proxy_result *ret)
{
	if (!h->unsent && !make_head(h)) {
		*ret = broken(h, "out of memory", "");
		return false;
	}
	while (h->sent < h->n) {
		ssize_t n = send(fd, h->unsent + h->sent, h->n - h->sent, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			*ret = errno == EAGAIN ? PROXY_WAIT
					       : broken(h, "it closed before it was asked", "");
			return false;
		}
		h->sent += (size_t)n;
	}
	h->asked = true;
	forget_head(h);
	return true;
}

static enum proxy_result judge(struct proxy_handshake *h, bool more)
{
	int status = h->reply.status;

	if (status < 200 || status > 299) {
		snprintf(h->why, sizeof(h->why), "it answered CONNECT with status %d%s", status,
			 status == 407 ? ": see proxy_credentials_file" : "");
		return PROXY_REFUSED;
	}
	/* Nobody was asked anything yet: who speaks now isn't the host, or isn't TLS. */
	if (more)
		return broken(h, "bytes came behind its answer", "");
	return PROXY_THROUGH;
}

static enum proxy_result take(struct proxy_handshake *h, struct slice bytes)
{
	size_t used;

	switch (http_reply_read(&h->reply, bytes, &used)) {
	case REPLY_NEED_MORE:
		return PROXY_WAIT;
	case REPLY_DONE:
		return judge(h, used < bytes.n);
	case REPLY_BAD:
		break;
	}
	return broken(h, "its answer: ", h->reply.fault);
}

/* Nothing may come behind the answer, and the connection stands. */
static enum proxy_result check_quiet(struct proxy_handshake *h, int fd)
{
	char byte;
	ssize_t n = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);

	if (n > 0)
		return broken(h, "bytes came behind its answer", "");
	if (n == 0 || errno != EAGAIN)
		return broken(h, "it closed behind its answer", "");
	return PROXY_THROUGH;
}

enum proxy_result proxy_handshake_go(struct proxy_handshake *h, int fd)
{
	enum proxy_result result = PROXY_WAIT;
	char bytes[1024];

	if (!h->asked && !send_head(h, fd, &result))
		return result;
	while (result == PROXY_WAIT) {
		ssize_t n = recv(fd, bytes, sizeof(bytes), 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return PROXY_WAIT;
		if (n <= 0)
			return broken(h, "it closed before its answer", "");
		result = take(h, (struct slice){bytes, (size_t)n});
	}
	return result == PROXY_THROUGH ? check_quiet(h, fd) : result;
}

const char *proxy_handshake_why(const struct proxy_handshake *h)
{
	return h->why;
}
