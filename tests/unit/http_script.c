/* SPDX-License-Identifier: Apache-2.0 */
#include "http_script.h"

#include <arpa/inet.h>
#include <check.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/listener.h>
#include <stdio.h>
#include <string.h>

struct connection {
	struct http_script *script;
	struct bufferevent *bev;
	unsigned index;
};

struct http_script {
	struct event_base *base;
	struct evconnlistener *listener;
	const char *const *answers;
	unsigned n_answers, n;
	struct connection connections[HTTP_SCRIPT_MAX];
	char *requests[HTTP_SCRIPT_MAX];
	char url[64];
};

static void close_connection(struct connection *c)
{
	if (c->bev)
		bufferevent_free(c->bev);
	c->bev = NULL;
}

static void on_written(struct bufferevent *bev, void *userdata)
{
	(void)bev;
	close_connection(userdata);
}

static void on_event(struct bufferevent *bev, short what, void *userdata)
{
	(void)bev;
	(void)what;
	close_connection(userdata);
}

static void on_read(struct bufferevent *bev, void *userdata)
{
	struct evbuffer *input = bufferevent_get_input(bev);
	struct connection *c = userdata;
	struct http_script *s = c->script;
	struct evbuffer_ptr end = evbuffer_search(input, "\r\n\r\n", 4, NULL);
	const char *answer;
	size_t n;

	if (end.pos < 0 || s->requests[c->index])
		return;
	n = (size_t)end.pos + 2;
	s->requests[c->index] = calloc(1, n + 1);
	evbuffer_copyout(input, s->requests[c->index], n);
	evbuffer_drain(input, evbuffer_get_length(input));
	answer = s->answers[c->index];
	if (*answer == '\0')
		return;
	bufferevent_setcb(bev, NULL, on_written, on_event, c);
	bufferevent_write(bev, answer, strlen(answer));
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd,
		      struct sockaddr *address, int n, void *userdata)
{
	struct http_script *s = userdata;
	struct connection *c;

	(void)listener;
	(void)address;
	(void)n;
	ck_assert_msg(s->n < s->n_answers, "request %u was not expected", s->n + 1);
	c = &s->connections[s->n];
	c->script = s;
	c->index = s->n++;
	c->bev = bufferevent_socket_new(s->base, fd, BEV_OPT_CLOSE_ON_FREE);
	ck_assert_ptr_nonnull(c->bev);
	bufferevent_setcb(c->bev, on_read, NULL, on_event, c);
	bufferevent_enable(c->bev, EV_READ | EV_WRITE);
}

struct http_script *http_script_new(struct event_base *base, const char *const *answers)
{
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	struct http_script *s = calloc(1, sizeof(*s));
	struct sockaddr_in bound = {0};
	socklen_t n = sizeof(bound);

	ck_assert_ptr_nonnull(s);
	s->base = base;
	s->answers = answers;
	while (answers[s->n_answers])
		s->n_answers++;
	ck_assert_uint_le(s->n_answers, HTTP_SCRIPT_MAX);
	s->listener = evconnlistener_new_bind(base, on_accept, s, LEV_OPT_CLOSE_ON_FREE, -1,
					      (struct sockaddr *)&any, sizeof(any));
	ck_assert_ptr_nonnull(s->listener);
	ck_assert_int_eq(
		getsockname(evconnlistener_get_fd(s->listener), (struct sockaddr *)&bound, &n),
		0);
	snprintf(s->url, sizeof(s->url), "http://127.0.0.1:%u", ntohs(bound.sin_port));
	return s;
}

struct http_script *http_script_free(struct http_script *s)
{
	for (unsigned i = 0; i < s->n; i++) {
		close_connection(&s->connections[i]);
		free(s->requests[i]);
	}
	evconnlistener_free(s->listener);
	free(s);
	return NULL;
}

const char *http_script_url(const struct http_script *s)
{
	return s->url;
}

unsigned http_script_count(const struct http_script *s)
{
	return s->n;
}

const char *http_script_request(const struct http_script *s, unsigned i)
{
	ck_assert_msg(i < s->n && s->requests[i], "request %u did not come", i + 1);
	return s->requests[i];
}

void http_script_assert_line(const struct http_script *s, unsigned i, const char *line)
{
	const char *request = http_script_request(s, i);
	const char *at = strstr(request, line);
	size_t n = strlen(line);

	ck_assert_msg(at && (at == request || at[-1] == '\n') &&
			      strncmp(at + n, "\r\n", 2) == 0,
		      "request %u has no line \"%s\":\n%s", i + 1, line, request);
}
