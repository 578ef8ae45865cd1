/* SPDX-License-Identifier: Apache-2.0 */
#include "imds.h"

#include "credentials_reply.h"
#include "endpoint.h"
#include "fetch.h"
#include "secret.h"
#include "syntax.h"

#include <errno.h>
#include <stdio.h>

#define TIMEOUT (2 * USEC_PER_SEC)
#define TOKEN_TTL 21600                      /* seconds; the most that may be asked for */
#define TOKEN_TTL_SPARE (120 * USEC_PER_SEC) /* not used so near to its end */
#define TOKEN_SIZE_MAX ((size_t)1024)        /* 56 bytes today */
#define ROLE_MAX ((size_t)64)
#define TOKEN_HEADER "X-aws-ec2-metadata-token: "
#define TTL_HEADER "X-aws-ec2-metadata-token-ttl-seconds"
#define REGION_PATH "/latest/meta-data/placement/region"
#define BY_IPV4 "http://169.254.169.254"
#define BY_IPV6 "http://[fd00:ec2::254]" /* asked where the other has no route */
#define ROLES_PATH "/latest/meta-data/iam/security-credentials/"

enum imds_state {
	IMDS_IDLE,
	IMDS_TOKEN,
	IMDS_ROLE,
	IMDS_CREDENTIALS,
	IMDS_REGION,
};

struct imds {
	struct source source;
	struct fetch *fetch;
	char *endpoint;
	bool either;       /* the instance's own, by IPv4 or IPv6 */
	bool tried_both;   /* in this run */
	char *pinned_role; /* NULL: as listed */
	enum imds_state state;
	char *token_header; /* the whole header line; NULL: no token */
	usec_t token_until; /* monotonic */
	bool token_renewed; /* in this run, since IMDS refused the one we had */
	char role[ROLE_MAX + 1];
	source_cb done;
	imds_region_cb region_done; /* in place of `done`: the region is asked for */
	void *userdata;
};

/* What an operator can do about a status; for any other the bare status is reported. */
static const struct {
	enum imds_state state;
	int status;
	const char *hint;
} hints[] = {
	{IMDS_TOKEN, 403, "it is disabled for this instance: set its HttpEndpoint to enabled"},
	{IMDS_TOKEN, 404, "this is not an instance metadata service of version 2"},
	{IMDS_TOKEN, 405, "this is not an instance metadata service of version 2"},
	{IMDS_ROLE, 403, "it is disabled for this instance: set its HttpEndpoint to enabled"},
	{IMDS_ROLE, 404, "no IAM role is attached to this instance"},
	{IMDS_CREDENTIALS, 404, "this role is not attached to this instance"},
};

static const char *hint_for(enum imds_state state, int status)
{
	for (size_t i = 0; i < ELEMENTSOF(hints); i++)
		if (hints[i].state == state && hints[i].status == status)
			return hints[i].hint;
	if (status == 429 || status >= 500)
		return "it is busy";
	return NULL;
}

static const char *state_name(enum imds_state state)
{
	static const char *const names[] = {
		[IMDS_IDLE] = "nothing",
		[IMDS_TOKEN] = "a token",
		[IMDS_ROLE] = "the instance's role",
		[IMDS_CREDENTIALS] = "the role's credentials",
		[IMDS_REGION] = "the instance's region",
	};

	return names[state];
}

static bool is_role_byte(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
	       (c && strchr("_+=,.@-", c));
}

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

bool imds_role(struct slice list, struct slice *ret_role)
{
	const char *end = list.n ? memchr(list.p, '\n', list.n) : NULL;

	if (end)
		list.n = (size_t)(end - list.p);
	while (list.n && is_space(list.p[list.n - 1]))
		list.n--;
	for (; list.n && is_space(*list.p); list.n--)
		list.p++;

	/* "." and ".." pass as names but not as the end of a path. */
	if (list.n == 0 || list.n > ROLE_MAX || slice_eq_str(list, ".") ||
	    slice_eq_str(list, ".."))
		return false;
	for (size_t i = 0; i < list.n; i++)
		if (!is_role_byte(list.p[i]))
			return false;
	*ret_role = list;
	return true;
}

static void ask_token(struct imds *imds);

/* Ends the run: the last thing to do, since the source may be freed in the callback. */
static void finish(struct imds *imds, struct credentials *credentials,
		   const struct error *error)
{
	imds->state = IMDS_IDLE;
	if (imds->region_done)
		imds->region_done(NULL, error, imds->userdata);
	else
		imds->done(credentials, error, imds->userdata);
}

static void fail_asking(struct imds *imds, const char *why)
{
	struct error error;

	error_set(&error, "IMDS at %s, asked for %s: %s", imds->endpoint,
		  state_name(imds->state), why);
	finish(imds, NULL, &error);
}

static bool has_no_route(int r)
{
	return r == -ENETUNREACH || r == -EHOSTUNREACH || r == -EADDRNOTAVAIL;
}

/* The other address of the instance's IMDS, once in a run: a subnet may have IPv6 alone. False
 * where the configuration names another IMDS, or there is no more to try. */
static bool try_other_address(struct imds *imds)
{
	bool by_ipv4 = strcmp(imds->endpoint, BY_IPV4) == 0;
	char *other;

	if (!imds->either || imds->tried_both)
		return false;
	other = strdup(by_ipv4 ? BY_IPV6 : BY_IPV4);
	if (!other)
		return false;
	free(imds->endpoint);
	imds->endpoint = other;
	imds->tried_both = true;
	ask_token(imds);
	return true;
}

static void fail_transfer(struct imds *imds, const struct fetch_reply *reply)
{
	struct error why;

	if (has_no_route(reply->machine) && try_other_address(imds))
		return;
	/* IMDS sends the answer to PUT with a hop limit, so that it gets lost on the way to a
	 * container; the other answers don't. */
	if (reply->result == FETCH_TIMEOUT && imds->state == IMDS_TOKEN)
		error_set(&why, "no answer in time (in a container the instance's "
				"HttpPutResponseHopLimit must be 2 or more)");
	else
		error_set(&why, "%s (is this an EC2 instance?)%s", reply->error.text,
			  imds->tried_both && has_no_route(reply->machine)
				  ? "; its other address has no route either"
				  : "");
	fail_asking(imds, why.text);
}

static void fail_status(struct imds *imds, int status)
{
	const char *hint = hint_for(imds->state, status);
	struct error why;

	error_set(&why, "%s%sstatus %d", hint ?: "", hint ? "; " : "", status);
	fail_asking(imds, why.text);
}

static void on_reply(struct fetch_reply *reply, void *userdata);

/* Asks for the path made of the two parts; the rest of the request is given. */
static void ask(struct imds *imds, enum imds_state state, const char *path, const char *name,
		struct fetch_request *request)
{
	_cleanup_(freep) char *url = NULL;

	imds->state = state;
	request->timeout = TIMEOUT;
	if (asprintf(&url, "%s%s%s", imds->endpoint, path, name) < 0)
		url = NULL;
	request->url = url;
	if (!url || fetch_start(imds->fetch, request, on_reply, imds) < 0)
		fail_asking(imds, "out of memory");
}

static void ask_token(struct imds *imds)
{
	char ttl[64];
	struct fetch_request request = {
		.put = true, .headers = {ttl}, .reply_header = TTL_HEADER};

	imds->token_header = secret_free(imds->token_header);
	snprintf(ttl, sizeof(ttl), TTL_HEADER ": %d", TOKEN_TTL);
	ask(imds, IMDS_TOKEN, "/latest/api/token", "", &request);
}

static void ask_with_token(struct imds *imds, enum imds_state state, const char *path,
			   const char *name)
{
	struct fetch_request request = {.headers = {imds->token_header}};

	ask(imds, state, path, name, &request);
}

static void ask_credentials(struct imds *imds, struct slice role_list)
{
	struct slice role;

	if (!imds_role(role_list, &role)) {
		fail_asking(imds, "the answer is not the name of a role");
		return;
	}
	memcpy(imds->role, role.p, role.n);
	imds->role[role.n] = '\0';
	ask_with_token(imds, IMDS_CREDENTIALS, ROLES_PATH, imds->role);
}

/* The role's name is never kept: another role can be attached while we run. */
static void ask_role(struct imds *imds)
{
	if (imds->pinned_role)
		ask_credentials(imds, slice_from(imds->pinned_role));
	else
		ask_with_token(imds, IMDS_ROLE, ROLES_PATH, "");
}

static void take_region(struct imds *imds, struct slice region)
{
	struct error why;
	char text[64];

	if (!syntax_region(region) || !endpoint_partition(region)) {
		error_set(&why, "the answer \"%s\" is no region of a partition that is known",
			  slice_escape(region, text, sizeof(text)));
		fail_asking(imds, why.text);
		return;
	}
	snprintf(text, sizeof(text), "%.*s", (int)region.n, region.p);
	imds->state = IMDS_IDLE;
	imds->region_done(text, NULL, imds->userdata);
}

/* What the token is for. */
static void ask_on(struct imds *imds)
{
	if (imds->region_done)
		ask_with_token(imds, IMDS_REGION, REGION_PATH, "");
	else
		ask_role(imds);
}

/* Its lifetime is what IMDS granted; if it names none, the token serves this run only. */
static usec_t token_lifetime(const char *header)
{
	unsigned long long seconds;

	if (!slice_to_u64(slice_from(header), TOKEN_TTL, &seconds))
		return 0;
	return MAX((usec_t)seconds * USEC_PER_SEC - TOKEN_TTL_SPARE, (usec_t)0);
}

static void take_token(struct imds *imds, struct fetch_reply *reply)
{
	struct slice token = buf_slice(&reply->body);

	for (size_t i = 0; i < token.n; i++)
		if (token.p[i] <= ' ' || token.p[i] > '~')
			token.n = 0;
	if (token.n == 0 || token.n > TOKEN_SIZE_MAX) {
		fail_asking(imds, "the answer is not a token");
		return;
	}
	imds->token_header = secret_alloc(sizeof(TOKEN_HEADER) + token.n);
	if (!imds->token_header) {
		fail_asking(imds, "can't keep it, the secure heap is full");
		return;
	}
	memcpy(imds->token_header, TOKEN_HEADER, sizeof(TOKEN_HEADER) - 1);
	memcpy(imds->token_header + sizeof(TOKEN_HEADER) - 1, token.p, token.n);
	imds->token_until = clock_monotonic() + token_lifetime(reply->header);
	ask_on(imds);
}

static void take_credentials(struct imds *imds, struct fetch_reply *reply)
{
	_cleanup_(credentials_unrefp) struct credentials *credentials = NULL;
	struct error fault, error;
	int r;

	r = credentials_reply_parse(CREDENTIALS_FORM_IMDS, reply->body.p, reply->body.n,
				    &credentials, &fault);
	buf_done(&reply->body); /* now: other threads use the credentials soon */
	if (r >= 0) {
		finish(imds, credentials, NULL);
		return;
	}
	error_set(&error, "the answer of IMDS at %s for the role %s %s", imds->endpoint,
		  imds->role, fault.text);
	finish(imds, NULL, &error);
}

static void on_reply(struct fetch_reply *reply, void *userdata)
{
	struct imds *imds = userdata;

	if (reply->result != FETCH_DONE) {
		fail_transfer(imds, reply);
		return;
	}
	if (reply->status == 401 && imds->state != IMDS_TOKEN && !imds->token_renewed) {
		imds->token_renewed = true;
		ask_token(imds);
		return;
	}
	if (reply->status != 200) {
		fail_status(imds, reply->status);
		return;
	}

	switch (imds->state) {
	case IMDS_TOKEN:
		take_token(imds, reply);
		return;
	case IMDS_ROLE:
		ask_credentials(imds, buf_slice(&reply->body));
		return;
	case IMDS_CREDENTIALS:
		take_credentials(imds, reply);
		return;
	case IMDS_REGION:
		take_region(imds, buf_slice(&reply->body));
		return;
	case IMDS_IDLE:
		return;
	}
}

static struct imds *from_source(struct source *source)
{
	return (struct imds *)source; /* its first member */
}

static void begin(struct imds *imds)
{
	imds->token_renewed = false;
	imds->tried_both = false;
	if (imds->token_header && clock_monotonic() < imds->token_until)
		ask_on(imds);
	else
		ask_token(imds);
}

static void imds_start(struct source *source, source_cb done, void *userdata)
{
	struct imds *imds = from_source(source);

	imds->done = done;
	imds->region_done = NULL;
	imds->userdata = userdata;
	begin(imds);
}

void imds_ask_region(struct source *source, imds_region_cb done, void *userdata)
{
	struct imds *imds = from_source(source);

	imds->region_done = done;
	imds->userdata = userdata;
	begin(imds);
}

static void imds_cancel(struct source *source)
{
	struct imds *imds = from_source(source);

	fetch_cancel(imds->fetch);
	imds->state = IMDS_IDLE;
}

static void imds_free(struct source *source)
{
	struct imds *imds = from_source(source);

	fetch_free(imds->fetch);
	secret_free(imds->token_header);
	free(imds->endpoint);
	free(imds->pinned_role);
	free(imds);
}

int imds_new(struct event_base *base, const struct credentials_config *config,
	     struct source **ret_source)
{
	static const struct source_ops ops = {
		.start = imds_start,
		.cancel = imds_cancel,
		.free = imds_free,
	};
	struct imds *imds = calloc(1, sizeof(*imds));
	_cleanup_(source_freep) struct source *source = NULL;
	int r;

	if (!imds)
		return -ENOMEM;
	source = &imds->source;
	source->ops = &ops;
	r = fetch_new(base, &imds->fetch);
	if (r < 0)
		return r;
	imds->endpoint = strdup(config->imds_endpoint);
	if (config->imds_role)
		imds->pinned_role = strdup(config->imds_role);
	if (!imds->endpoint || (config->imds_role && !imds->pinned_role))
		return -ENOMEM;
	if (imds->endpoint[0] && imds->endpoint[strlen(imds->endpoint) - 1] == '/')
		imds->endpoint[strlen(imds->endpoint) - 1] = '\0';
	imds->either = strcmp(imds->endpoint, BY_IPV4) == 0;
	*ret_source = TAKE_PTR(source);
	return 0;
}
