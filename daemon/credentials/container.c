/* SPDX-License-Identifier: Apache-2.0 */
#include "container.h"

#include "credentials_reply.h"
#include "fetch.h"
#include "limit.h"
#include "secret.h"
#include "small_file.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>

#define TIMEOUT (2 * USEC_PER_SEC)
#define RELATIVE_BASE "http://169.254.170.2" /* the ECS agent */
#define AUTHORIZATION "Authorization: "
#define BODY_SHOWN 160

struct container {
	struct source source;
	struct fetch *fetch;
	char *uri;        /* NULL: from the environment */
	char *token_file; /* the same */
	source_cb done;
	void *userdata;
};

static bool is_agent(const char *host)
{
	/* ECS; EKS Pod Identity by IPv4 and IPv6 */
	static const char *const agents[] = {"169.254.170.2", "169.254.170.23",
					     "[fd00:ec2::23]"};

	for (size_t i = 0; i < ELEMENTSOF(agents); i++)
		if (strcmp(host, agents[i]) == 0)
			return true;
	return false;
}

/* libcurl takes localhost for a loopback address itself, whatever DNS says, and has normalised
 * unusual forms of IPv4 addresses. */
static bool is_loopback(const char *host)
{
	struct in_addr v4;

	if (strcmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0)
		return true;
	return inet_pton(AF_INET, host, &v4) == 1 && ntohl(v4.s_addr) >> 24 == 127;
}

static int check_parts(const char *scheme, const char *host, struct error *error)
{
	char shown[128];

	if (strcmp(scheme, "https") == 0)
		return 0;
	if (strcmp(scheme, "http") != 0)
		return error_set(error,
				 "the URI of the container credentials is neither http nor "
				 "https");
	if (is_agent(host) || is_loopback(host))
		return 0;
	return error_set(
		error,
		"the URI of the container credentials is http to %s: without TLS only a "
		"loopback address or the agent of ECS or EKS may be asked",
		slice_escape(slice_from(host), shown, sizeof(shown)));
}

int container_check_url(const char *url, struct error *error)
{
	char *scheme = NULL, *host = NULL;
	CURLU *parts = curl_url();
	int r;

	if (!parts)
		return error_set_errno(error, -ENOMEM, "container credentials");
	if (curl_url_set(parts, CURLUPART_URL, url, CURLU_DISALLOW_USER) != CURLUE_OK ||
	    curl_url_get(parts, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK ||
	    curl_url_get(parts, CURLUPART_HOST, &host, 0) != CURLUE_OK)
		r = error_set(error,
			      "the URI of the container credentials is not a URI without a "
			      "user");
	else
		r = check_parts(scheme, host, error);
	curl_free(scheme);
	curl_free(host);
	curl_url_cleanup(parts);
	return r;
}

/* *ret_url is freed by the caller. */
static int find_url(const struct container *c, char **ret_url, struct error *error)
{
	const char *relative = getenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
	const char *full = getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI");
	_cleanup_(freep) char *url = NULL;
	int r;

	if (c->uri) {
		url = strdup(c->uri);
	} else if (relative) {
		/* Else it could change the host: "@example.com/". */
		if (relative[0] != '/')
			return error_set(error,
					 "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI does not "
					 "begin with a slash");
		if (asprintf(&url, "%s%s", RELATIVE_BASE, relative) < 0)
			url = NULL;
	} else if (full) {
		url = strdup(full);
	} else {
		return error_set(
			error,
			"container credentials: the configuration names no uri, and "
			"neither AWS_CONTAINER_CREDENTIALS_RELATIVE_URI nor "
			"AWS_CONTAINER_CREDENTIALS_FULL_URI is set%s",
			getenv("AWS_WEB_IDENTITY_TOKEN_FILE")
				? "; a web identity (IRSA) is there, which this source "
				  "doesn't take: use EKS Pod Identity, or the node's role"
				: "");
	}
	if (!url)
		return error_set_errno(error, -ENOMEM, "container credentials");
	r = container_check_url(url, error);
	if (r >= 0)
		*ret_url = TAKE_PTR(url);
	return r;
}

/* Makes the header line of a token, in the secure heap. A line end at the token's end was left
 * by an editor; a control character anywhere else could begin another header. */
static int make_header(struct slice token, const char *from, char **ret_header,
		       struct error *error)
{
	char *header;

	while (token.n && (token.p[token.n - 1] == '\n' || token.p[token.n - 1] == '\r'))
		token.n--;
	if (token.n == 0)
		return error_set(error, "%s: empty", from);
	for (size_t i = 0; i < token.n; i++)
		if (token.p[i] < ' ' || token.p[i] > '~')
			return error_set(error, "%s: holds a character that a token can't have",
					 from);
	header = secret_alloc(sizeof(AUTHORIZATION) + token.n);
	if (!header)
		return error_set_errno(error, -ENOMEM, "%s: the secure heap is full", from);
	memcpy(header, AUTHORIZATION, sizeof(AUTHORIZATION) - 1);
	memcpy(header + sizeof(AUTHORIZATION) - 1, token.p, token.n);
	*ret_header = header;
	return 0;
}

/* Read each time: the file of EKS is renewed. NULL where there is no token, as on ECS. */
static int find_header(const struct container *c, char **ret_header, struct error *error)
{
	const char *path = c->token_file ?: getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
	const char *token = getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN");
	_cleanup_(buf_done) struct buf text = BUF_INIT(LIMIT_CREDENTIALS_TEXT);
	struct stat st;
	int r;

	if (path) {
		r = small_file_read(path, &text, &st, error);
		return r < 0 ? r : make_header(buf_slice(&text), path, ret_header, error);
	}
	if (token)
		return make_header(slice_from(token), "AWS_CONTAINER_AUTHORIZATION_TOKEN",
				   ret_header, error);
	*ret_header = NULL;
	return 0;
}

static void on_reply(struct fetch_reply *reply, void *userdata)
{
	_cleanup_(credentials_unrefp) struct credentials *credentials = NULL;
	struct container *c = userdata;
	struct error error, fault;
	char shown[BODY_SHOWN];
	int r = -EIO;

	if (reply->result != FETCH_DONE) {
		error_set(&error, "container credentials: %s", reply->error.text);
	} else if (reply->status != 200) {
		error_set(&error, "the container endpoint answers with status %d: %s",
			  reply->status,
			  slice_escape(buf_slice(&reply->body), shown, sizeof(shown)));
	} else {
		r = credentials_reply_parse(CREDENTIALS_FORM_CONTAINER, reply->body.p,
					    reply->body.n, &credentials, &fault);
		buf_done(&reply->body); /* now: other threads use the credentials soon */
		if (r < 0)
			error_set(&error, "the answer of the container endpoint %s",
				  fault.text);
	}
	c->done(credentials, r < 0 ? &error : NULL, c->userdata); /* `c` may be freed in it */
}

static int begin(struct container *c, struct error *error)
{
	_cleanup_(secret_freep) char *header = NULL;
	_cleanup_(freep) char *url = NULL;
	int r = find_url(c, &url, error);

	if (r >= 0)
		r = find_header(c, &header, error);
	if (r < 0)
		return r;

	const struct fetch_request request = {
		.url = url, .allow_https = true, .headers = {header}, .timeout = TIMEOUT};

	r = fetch_start(c->fetch, &request, on_reply, c);
	return r < 0 ? error_set_errno(error, r, "container credentials") : 0;
}

static struct container *from_source(struct source *source)
{
	return (struct container *)source; /* its first member */
}

static void container_start(struct source *source, source_cb done, void *userdata)
{
	struct container *c = from_source(source);
	struct error error;

	c->done = done;
	c->userdata = userdata;
	if (begin(c, &error) < 0)
		done(NULL, &error, userdata);
}

static void container_cancel(struct source *source)
{
	fetch_cancel(from_source(source)->fetch);
}

static void container_free(struct source *source)
{
	struct container *c = from_source(source);

	fetch_free(c->fetch);
	free(c->uri);
	free(c->token_file);
	free(c);
}

int container_new(struct event_base *base, const struct credentials_config *config,
		  struct source **ret_source)
{
	static const struct source_ops ops = {
		.start = container_start,
		.cancel = container_cancel,
		.free = container_free,
	};
	_cleanup_(source_freep) struct source *source = NULL;
	struct container *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	source = &c->source;
	source->ops = &ops;
	r = fetch_new(base, &c->fetch);
	if (r < 0)
		return r;
	if (config->container_uri && !(c->uri = strdup(config->container_uri)))
		return -ENOMEM;
	if (config->container_token_file &&
	    !(c->token_file = strdup(config->container_token_file)))
		return -ENOMEM;
	*ret_source = TAKE_PTR(source);
	return 0;
}
