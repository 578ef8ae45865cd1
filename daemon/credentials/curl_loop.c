/* SPDX-License-Identifier: Apache-2.0 */
#include "curl_loop.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/queue.h>

/* A socket that libcurl wants watched. */
struct watch {
	LIST_ENTRY(watch) link;
	struct event *event;
};

struct curl_loop {
	struct event_base *base;
	CURLM *multi;
	CURL *easy;
	struct event *timer;
	LIST_HEAD(, watch) watches;
	curl_loop_cb done;
	void *userdata;
};

static void watch_free(struct watch *w)
{
	LIST_REMOVE(w, link);
	if (w->event)
		event_free(w->event);
	free(w);
}

/* Lets libcurl work, and tells the owner when it is done. Nothing may follow a call of this. */
static void run(struct curl_loop *l, curl_socket_t fd, int mask)
{
	int running, left;
	CURLMsg *m;

	/* It fails when a callback below had no memory: then nothing would wake us again. */
	if (curl_multi_socket_action(l->multi, fd, mask, &running) != CURLM_OK) {
		l->done(CURLE_OUT_OF_MEMORY, l->userdata);
		return;
	}
	m = curl_multi_info_read(l->multi, &left);
	if (m && m->msg == CURLMSG_DONE)
		l->done(m->data.result, l->userdata);
}

static void on_socket(evutil_socket_t fd, short what, void *userdata)
{
	run(userdata, fd,
	    (what & EV_READ ? CURL_CSELECT_IN : 0) | (what & EV_WRITE ? CURL_CSELECT_OUT : 0));
}

static void on_timer(evutil_socket_t fd, short what, void *userdata)
{
	(void)fd;
	(void)what;
	run(userdata, CURL_SOCKET_TIMEOUT, 0);
}

static struct watch *watch_new(struct curl_loop *l, curl_socket_t fd)
{
	struct watch *w = calloc(1, sizeof(*w));

	if (w) {
		LIST_INSERT_HEAD(&l->watches, w, link);
		curl_multi_assign(l->multi, fd, w);
	}
	return w;
}

static int socket_cb(CURL *easy, curl_socket_t fd, int what, void *userdata, void *watch)
{
	int events = EV_PERSIST;
	struct curl_loop *l = userdata;
	struct watch *w = watch;

	(void)easy;
	if (what == CURL_POLL_REMOVE) {
		if (w)
			watch_free(w);
		return 0;
	}
	w = w ?: watch_new(l, fd);
	if (!w)
		return -1;
	events |= (what & CURL_POLL_IN ? EV_READ : 0) | (what & CURL_POLL_OUT ? EV_WRITE : 0);
	if (w->event)
		event_free(w->event);
	w->event = event_new(l->base, fd, (short)events, on_socket, l);
	return w->event && event_add(w->event, NULL) == 0 ? 0 : -1;
}

static int timer_cb(CURLM *multi, long ms, void *userdata)
{
	const struct timeval tv = {ms / 1000, ms % 1000 * 1000};
	struct curl_loop *l = userdata;

	(void)multi;
	return ms < 0 ? event_del(l->timer) : event_add(l->timer, &tv);
}

int curl_loop_new(struct event_base *base, CURL *easy, curl_loop_cb done, void *userdata,
		  struct curl_loop **ret_loop)
{
	_cleanup_(curl_loop_freep) struct curl_loop *l = calloc(1, sizeof(*l));
	CURLMcode e;

	if (!l)
		return -ENOMEM;
	LIST_INIT(&l->watches);
	l->base = base;
	l->done = done;
	l->userdata = userdata;
	l->multi = curl_multi_init();
	l->timer = evtimer_new(base, on_timer, l);
	if (!l->multi || !l->timer)
		return -ENOMEM;

	e = curl_multi_setopt(l->multi, CURLMOPT_SOCKETFUNCTION, socket_cb);
	e = e ?: curl_multi_setopt(l->multi, CURLMOPT_SOCKETDATA, l);
	e = e ?: curl_multi_setopt(l->multi, CURLMOPT_TIMERFUNCTION, timer_cb);
	e = e ?: curl_multi_setopt(l->multi, CURLMOPT_TIMERDATA, l);
	e = e ?: curl_multi_add_handle(l->multi, easy);
	if (e != CURLM_OK)
		return -ENOMEM;
	l->easy = easy;
	*ret_loop = TAKE_PTR(l);
	return 0;
}

struct curl_loop *curl_loop_free(struct curl_loop *l)
{
	if (!l)
		return NULL;
	if (l->easy)
		curl_multi_remove_handle(l->multi, l->easy);
	curl_multi_cleanup(l->multi); /* calls socket_cb for what it still holds */
	while (!LIST_EMPTY(&l->watches))
		watch_free(LIST_FIRST(&l->watches));
	if (l->timer)
		event_free(l->timer);
	free(l);
	return NULL;
}
