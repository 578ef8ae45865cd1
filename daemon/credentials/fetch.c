/* SPDX-License-Identifier: Apache-2.0 */
#include "fetch.h"

#include "curl_loop.h"
#include "limit.h"

#include <errno.h>
#include <string.h>

#define CONNECT_TIMEOUT                                                                        \
	(1 * USEC_PER_SEC) /* all these endpoints are on the host or beside it */

struct fetch {
	struct event_base *base;
	CURL *easy; /* NULL: no transfer is under way */
	struct curl_loop *loop;
	struct curl_slist *headers;
	struct buf body;
	size_t head_n; /* bytes of the head so far */
	bool too_large;
	const char *reply_header;
	fetch_cb done;
	void *userdata;
};

int fetch_new(struct event_base *base, struct fetch **ret_fetch)
{
	struct fetch *f = calloc(1, sizeof(*f));

	if (!f)
		return -ENOMEM;
	f->base = base;
	f->body = BUF_INIT(LIMIT_CREDENTIALS_TEXT);
	*ret_fetch = f;
	return 0;
}

struct fetch *fetch_free(struct fetch *f)
{
	if (f)
		fetch_cancel(f);
	free(f);
	return NULL;
}

/* Also clears up what a transfer that has ended left. */
void fetch_cancel(struct fetch *f)
{
	f->loop = curl_loop_free(f->loop);
	curl_easy_cleanup(f->easy);
	f->easy = NULL;
	curl_slist_free_all(f->headers);
	f->headers = NULL;
	buf_done(&f->body);
}

static size_t on_body(char *p, size_t size, size_t n, void *userdata)
{
	struct fetch *f = userdata;
	int r = buf_append(&f->body, (struct slice){p, size * n});

	f->too_large = r == -EMSGSIZE;
	return r < 0 ? 0 : size * n; /* taking less than all ends the transfer */
}

/* libcurl keeps the fields for curl_easy_header(); this only bounds them. */
static size_t on_head(char *p, size_t size, size_t n, void *userdata)
{
	struct fetch *f = userdata;

	(void)p;
	f->head_n += size * n;
	f->too_large = f->head_n > LIMIT_CREDENTIALS_HEAD;
	return f->too_large ? 0 : size * n;
}

/* PUT has an empty body; without this libcurl would read one from stdin. */
static size_t on_upload(char *p, size_t size, size_t n, void *userdata)
{
	(void)p;
	(void)size;
	(void)n;
	(void)userdata;
	return 0;
}

/* Neither the URL (a path may be secret) nor a header is in the sentence. */
static void explain(struct fetch *f, CURLcode code, struct fetch_reply *reply)
{
	long machine = 0;

	reply->result = code == CURLE_OPERATION_TIMEDOUT ? FETCH_TIMEOUT : FETCH_FAILED;
	curl_easy_getinfo(f->easy, CURLINFO_OS_ERRNO, &machine);
	if (f->too_large)
		error_set(&reply->error, "the answer is larger than %zu bytes",
			  LIMIT_CREDENTIALS_TEXT);
	else if (code == CURLE_COULDNT_CONNECT && machine)
		reply->machine = error_set_errno(&reply->error, -(int)machine, "can't connect");
	else
		error_set(&reply->error, "%s", curl_easy_strerror(code));
}

static void read_reply(struct fetch *f, struct fetch_reply *reply)
{
	struct curl_header *header;
	long status = 0;

	reply->result = FETCH_DONE;
	curl_easy_getinfo(f->easy, CURLINFO_RESPONSE_CODE, &status);
	reply->status = (int)status;
	reply->body = f->body;
	f->body = BUF_INIT(LIMIT_CREDENTIALS_TEXT);
	if (f->reply_header &&
	    curl_easy_header(f->easy, f->reply_header, 0, CURLH_HEADER, -1, &header) ==
		    CURLHE_OK &&
	    strlen(header->value) < sizeof(reply->header))
		memcpy(reply->header, header->value, strlen(header->value) + 1);
}

static void on_done(CURLcode code, void *userdata)
{
	struct fetch_reply reply = {.body = BUF_INIT(0)};
	struct fetch *f = userdata;

	if (code == CURLE_OK)
		read_reply(f, &reply);
	else
		explain(f, code, &reply);
	fetch_cancel(f);
	f->done(&reply, f->userdata); /* `f` may be freed in it */
	buf_done(&reply.body);
}

static int copy_headers(struct fetch *f, const char *const *headers)
{
	for (; *headers; headers++) {
		struct curl_slist *more = curl_slist_append(f->headers, *headers);

		if (!more)
			return -ENOMEM;
		f->headers = more;
	}
	return 0;
}

static CURLcode set_request(struct fetch *f, const struct fetch_request *request)
{
	const char *protocols = request->allow_https ? "http,https" : "http";
	long timeout = (long)(request->timeout / USEC_PER_MSEC);
	CURL *c = f->easy;
	CURLcode e;

	if (copy_headers(f, request->headers) < 0)
		return CURLE_OUT_OF_MEMORY;
	e = curl_easy_setopt(c, CURLOPT_URL, request->url);
	e = e ?: curl_easy_setopt(c, CURLOPT_PATH_AS_IS, 1L);
	e = e ?: curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, protocols);
	e = e ?: curl_easy_setopt(c, CURLOPT_HTTPHEADER, f->headers);
	e = e ?: curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, timeout);
	if (!request->put)
		return e;
	e = e ?: curl_easy_setopt(c, CURLOPT_UPLOAD, 1L);
	e = e ?: curl_easy_setopt(c, CURLOPT_INFILESIZE_LARGE, (curl_off_t)0);
	e = e ?: curl_easy_setopt(c, CURLOPT_READFUNCTION, on_upload);
	return e;
}

/* What holds for each transfer. What libcurl doesn't do unless told (redirects, cookies, netrc,
 * decoding, HTTP/0.9) isn't listed. */
static CURLcode set_options(struct fetch *f)
{
	long connect_timeout = (long)(CONNECT_TIMEOUT / USEC_PER_MSEC);
	CURL *c = f->easy;
	CURLcode e = curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);

	e = e ?: curl_easy_setopt(c, CURLOPT_QUICK_EXIT, 1L); /* a hung lookup must not block */
	e = e ?: curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	e = e ?: curl_easy_setopt(c, CURLOPT_PROXY, ""); /* not even the environment's */
	e = e ?: curl_easy_setopt(c, CURLOPT_NOPROXY, "*");
	e = e ?: curl_easy_setopt(c, CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
	e = e ?: curl_easy_setopt(c, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	e = e ?: curl_easy_setopt(c, CURLOPT_FORBID_REUSE, 1L); /* the next comes in an hour */
	e = e ?: curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, connect_timeout);
	e = e ?: curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
	e = e ?: curl_easy_setopt(c, CURLOPT_WRITEDATA, f);
	e = e ?: curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_head);
	e = e ?: curl_easy_setopt(c, CURLOPT_HEADERDATA, f);
	return e;
}

int fetch_start(struct fetch *f, const struct fetch_request *request, fetch_cb done,
		void *userdata)
{
	int r = -ENOMEM;

	f->done = done;
	f->userdata = userdata;
	f->head_n = 0;
	f->too_large = false;
	f->reply_header = request->reply_header;
	f->easy = curl_easy_init();
	if (f->easy && set_options(f) == CURLE_OK && set_request(f, request) == CURLE_OK)
		r = curl_loop_new(f->base, f->easy, on_done, f, &f->loop);
	if (r < 0)
		fetch_cancel(f);
	return r;
}
