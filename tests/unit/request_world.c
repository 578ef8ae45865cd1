/* SPDX-License-Identifier: Apache-2.0 */
#include "request_world.h"

#include "credentials_health.h"
#include "sigv4.h"
#include "upstreams.h"

#include <check.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

/* Tests know the lines of the rules. */
static const char configuration[] =
	"listen: [{vsock: 8000}]\n"
	"memory: 8MiB\n"
	"endpoints:\n"
	"  kms: {region: eu-central-1}\n"
	"  other: {region: us-east-1}\n"
	"  foreign: {region: eu-west-1}\n"
	"credentials: {source: imds}\n"
	"limits: {requests: 1/s, burst: 8, in_flight: 4, body: 16KiB}\n"
	"enclaves:\n"
	"  app:\n"
	"    cid: 16\n"
	"    endpoints: [kms, other]\n"
	"    allow:\n"
	"      - name: unwrap\n"
	"        actions: [Decrypt]\n"
	"        endpoints: [kms]\n"
	"        keys: [" WORLD_KEY "]\n"
	"        encryption_context: {app: payments}\n"
	"      - name: seal\n"
	"        actions: [Encrypt, DescribeKey, CreateGrant]\n"
	"        endpoints: [kms]\n"
	"        keys: [" WORLD_KEY "]\n"
	"        delegation: allow\n"
	"  bare: {cid: 17, endpoints: [kms], tunnel: {hosts: [\"host.test:443\"]}}\n"
	"  stranger: {cid: 18, endpoints: [foreign], tunnel: {hosts: [\"host.test:443\"]}}\n"
	"workers: 1\n";

struct world world;

static struct world_client *clients[64];
static unsigned n_clients;

/* ---- the endpoint, in place of upstream.c and upstreams.c ---- */

struct upstream {
	unsigned endpoint;
};

struct upstream_connection {
	enum world_sent sent;
};

static struct upstream upstreams[8];
static struct upstream_connection connections[] = {{SENT_NOTHING}, {SENT_PART}, {SENT_ALL}};

static void detach(struct upstream_call *call)
{
	ck_assert_ptr_nonnull(call->upstream);
	call->upstream = NULL;
	call->connection = NULL;
	world.n_calls--;
}

static void end_call(struct upstream_call *call, enum upstream_result result, const char *why)
{
	detach(call);
	call->ops->done(call, result, why, world.now);
}

static void send_call(struct upstream_call *call, enum world_sent sent)
{
	struct slice bytes;

	ck_assert_ptr_nonnull(call->upstream);
	ck_assert_ptr_null(call->connection);
	http_reply_done(&call->reply);
	http_reply_init(&call->reply, LIMIT_REPLY_BODY);
	if (call->ops->prepare(call, world.now, &bytes) < 0) {
		end_call(call, UPSTREAM_NOT_SENT, NULL);
		return;
	}
	ck_assert_uint_lt(bytes.n, sizeof(world.sent));
	memcpy(world.sent, bytes.p, bytes.n);
	world.sent[bytes.n] = '\0';
	world.n_sent++;
	call->connection = &connections[sent];
	call->sent = world.now.monotonic;
	call->exposed |= sent != SENT_NOTHING;
}

struct upstream *upstreams_get(struct context *context, struct generation *generation,
			       unsigned endpoint)
{
	ck_assert_ptr_eq(context, &world.context);
	ck_assert_uint_lt(endpoint, generation->config->n_endpoints);
	upstreams[endpoint].endpoint = endpoint;
	return world.is_missing ? NULL : &upstreams[endpoint];
}

void upstream_submit(struct upstream *u, struct upstream_call *call, struct instant now)
{
	ck_assert_ptr_null(call->upstream);
	ck_assert_int_eq(now.monotonic, world.now.monotonic);
	call->upstream = u;
	call->sent = call->received = 0;
	world.n_calls++;
	ck_assert_uint_lt(world.n_submitted, ELEMENTSOF(world.submitted));
	world.submitted[world.n_submitted++] = call;
	if (world.is_idle)
		send_call(call, SENT_ALL);
	else if (world.fails_at_once)
		end_call(call, UPSTREAM_NO_CONNECTION, NULL);
}

void upstream_cancel(struct upstream_call *call)
{
	if (call->upstream)
		detach(call);
}

static bool finish_or_cancel(struct upstream_call *call, bool may_finish)
{
	if (may_finish)
		call->final = true;
	else
		upstream_cancel(call);
	return may_finish;
}

bool upstream_abandon(struct upstream_call *call)
{
	return finish_or_cancel(call,
				call->connection && call->connection->sent != SENT_NOTHING);
}

bool upstream_revoke(struct upstream_call *call)
{
	return finish_or_cancel(call, call->connection && call->connection->sent == SENT_ALL);
}

void world_send(struct request *r, enum world_sent sent)
{
	send_call(&r->call, sent);
}

void world_answer(struct request *r, const char *bytes)
{
	struct upstream_call *call = &r->call;
	enum reply_result result;
	size_t used;

	ck_assert_ptr_nonnull(call->connection);
	result = http_reply_read(&call->reply, slice_from(bytes), &used);
	if (result != REPLY_BAD && !call->ops->grow(call)) {
		end_call(call, UPSTREAM_NO_MEMORY, NULL);
		return;
	}
	ck_assert_int_ne(result, REPLY_NEED_MORE);
	if (result == REPLY_DONE)
		call->received = world.now.monotonic;
	end_call(call, result == REPLY_DONE ? UPSTREAM_REPLY : UPSTREAM_MALFORMED,
		 result == REPLY_DONE ? NULL : call->reply.fault);
}

void world_fail(struct request *r, enum upstream_result result, const char *why)
{
	end_call(&r->call, result, why);
}

const char *world_reply(const char *status, const char *lines, const char *body)
{
	static char text[65536];
	int n = snprintf(text, sizeof(text), "HTTP/1.1 %s\r\n%sContent-Length: %zu\r\n\r\n%s",
			 status, lines, strlen(body), body);

	ck_assert_int_lt(n, (int)sizeof(text));
	return text;
}

/* ---- the client ---- */

static struct world_client *client_of(const struct request_client *client)
{
	return CONTAINER_OF(client, struct world_client, client);
}

static bool on_closing(const struct request_client *client)
{
	return client_of(client)->closing;
}

static bool on_gone(const struct request_client *client)
{
	return client_of(client)->gone;
}

static void on_answer(struct request_client *client, struct slice head, struct slice body,
		      bool close, struct instant now)
{
	struct world_client *c = client_of(client);
	struct request *r = c->request;

	c->answers++;
	c->at = now;
	c->close = close;
	c->answer_n = head.n + body.n;
	if (c->answer_n >= sizeof(c->answer))
		abort(); /* no assertion here: malloc() may be made to fail */
	memcpy(c->answer, head.p, head.n);
	if (body.n)
		memcpy(c->answer + head.n, body.p, body.n);
	c->answer[c->answer_n] = '\0';
	c->step = r->step;
	c->in_flight = gauge_read(&r->identity.enclave->in_flight);
	c->memory = gauge_read(&r->identity.enclave->memory);
	if (c->takes_along)
		request_lose_client(c->takes_along->request, REASON_CLIENT_GONE, 0, now);
	if (c->manner == CLIENT_ENDS || c->manner == CLIENT_VANISHES)
		world_written(c);
	if (c->manner == CLIENT_VANISHES)
		c->client.ops = NULL;
	if (c->manner == CLIENT_BREAKS)
		request_lose_client(r, REASON_CLIENT_GONE, head.n, now);
}

static void on_lost(struct request_client *client, enum reason why, struct instant now)
{
	struct world_client *c = client_of(client);

	c->losses++;
	c->why = why;
	c->at = now;
	request_lose_client(c->request, why, 0, now);
}

static void on_admitted(struct request_client *client, struct instant now)
{
	struct world_client *c = client_of(client);

	c->admissions++;
	c->order = ++world.n_admitted;
	c->at = now;
}

static const struct request_client_ops client_ops = {on_closing, on_gone, on_admitted,
						     on_answer, on_lost};

void world_written(struct world_client *c)
{
	request_end(c->request, REASON_NONE, c->answer_n, world.now);
}

/* ---- a request ---- */

static struct identity identity_of(const char *enclave)
{
	int i = config_find_enclave(world.context.generation->config, enclave);

	ck_assert_int_ge(i, 0);
	return (struct identity){
		.has_cid = true,
		.cid = world.context.generation->config->enclaves[i].cid,
		.enclave = world_enclave(enclave),
	};
}

struct world_client *world_client_new(const char *enclave, const char *host, const char *action,
				      const char *body)
{
	struct world_client *c = calloc(1, sizeof(*c));

	ck_assert_uint_lt(n_clients, ELEMENTSOF(clients));
	clients[n_clients++] = c;
	c->client.ops = &client_ops;
	c->manner = CLIENT_WAITS;
	c->identity = identity_of(enclave);
	c->origin = (struct request_origin){
		.context = &world.context,
		.client = &c->client,
		.identity = &c->identity,
		.generation = world.context.generation,
		.enclave_index =
			(unsigned)generation_find(world.context.generation, &c->identity),
	};
	c->head = (struct http_head){
		.length = 100,
		.host = slice_from(host),
		.action = slice_from(action),
		.content_length = strlen(body),
	};
	return c;
}

struct world_client *world_new(const char *enclave, const char *host, const char *action,
			       const char *body)
{
	struct world_client *c = world_client_new(enclave, host, action, body);

	c->request = request_new(&c->origin, &c->head, world.now);
	ck_assert_ptr_nonnull(c->request);
	return c;
}

void world_run(struct world_client *c, const char *body)
{
	struct request *r = c->request;
	struct slice room;

	for (; (room = request_room(r)).n; r->body_n += room.n)
		memcpy((char *)room.p, body + r->body_n, room.n);
	ck_assert_uint_eq(r->body_n, strlen(body));
	request_run(r, world.now);
}

struct world_client *world_ask(const char *enclave, const char *host, const char *action,
			       const char *body)
{
	struct world_client *c = world_new(enclave, host, action, body);

	world_run(c, body);
	return c;
}

struct world_client *world_encrypt(void)
{
	return world_ask("app", WORLD_HOST, "Encrypt", WORLD_BODY);
}

/* ---- what came of it ---- */

void __wrap_audit_submit(struct audit *audit, const struct audit_record *record);

void __wrap_audit_submit(struct audit *audit, const struct audit_record *record)
{
	ck_assert_ptr_eq(audit, world.context.audit);
	ck_assert_uint_lt(world.n_records, ELEMENTSOF(world.records));
	world.records[world.n_records++] = *record;
}

const struct audit_record *world_record(void)
{
	ck_assert_uint_gt(world.n_records, 0);
	return &world.records[world.n_records - 1];
}

void world_assert_record(enum event_kind event, enum reason reason, int kms_status,
			 const char *detail)
{
	const struct audit_record *record = world_record();

	ck_assert_uint_eq(world.n_records, 1);
	ck_assert_int_eq(record->event, event);
	ck_assert_str_eq(reason_word(record->reason), reason_word(reason));
	ck_assert_int_eq(record->kms_status, kms_status);
	ck_assert_str_eq(record->detail, detail);
}

void world_assert_refused(const struct world_client *c, enum refusal refusal,
			  const char *message, bool close)
{
	const struct refusal_info *info = refusal_info(refusal);
	char body[1024], text[2048], retry[64] = "";
	const char *told = strstr(c->answer, "x-amz-retry-after: ");
	size_t n = (size_t)snprintf(body, sizeof(body), "{\"__type\":\"%s\",\"message\":\"",
				    info->type);

	for (const char *p = message ?: info->message; *p; p++) {
		if (*p == '"')
			body[n++] = '\\';
		body[n++] = *p;
	}
	memcpy(body + n, "\"}", sizeof("\"}"));
	/* how long is test-refusal's matter */
	ck_assert(!told == !!strcmp(info->type, "ThrottlingException"));
	if (told)
		snprintf(retry, sizeof(retry), "%.*s\r\n", (int)strcspn(told, "\r"), told);
	snprintf(text, sizeof(text),
		 "HTTP/1.1 %d %s\r\n"
		 "Content-Type: application/x-amz-json-1.1\r\n"
		 "x-amzn-RequestId: %s\r\n"
		 "Date: %s\r\n"
		 "%s"
		 "Content-Length: %zu\r\n"
		 "%s\r\n%s",
		 info->status, http_reason_phrase(info->status), world_record()->request_id,
		 clock_format_http_date(c->at.wall, (char[CLOCK_HTTP_DATE_SIZE]){0}), retry,
		 strlen(body), close ? "Connection: close\r\n" : "", body);
	ck_assert_uint_eq(c->answers, 1);
	ck_assert_uint_eq(c->losses, 0);
	ck_assert_str_eq(c->answer, text);
	ck_assert(c->close == close);
}

/* ---- the world ---- */

void world_pass(usec_t time)
{
	world.now.monotonic += time;
	world.now.wall += time;
}

void world_turn(void)
{
	for (unsigned i = 0; i < n_clients; i++)
		if (clients[i]->request && clients[i]->request->step == STEP_ENDED)
			clients[i]->request = NULL;
	bin_empty(&world.context.bin);
}

struct enclave *world_enclave(const char *name)
{
	struct enclave *e;

	/* The first that was made: under the CID it had before any reload. */
	for (unsigned i = 0; (e = enclave_table_at(world.enclaves, i)); i++)
		if (strcmp(e->named.name, name) == 0)
			return e;
	ck_abort_msg("no enclave %s", name);
}

void world_take_credentials(struct credentials *credentials)
{
	credentials_unref(world.context.credentials);
	world.context.credentials = credentials_ref(credentials);
	signer_forget(world.context.signer);
}

static struct config *parse(const char *text)
{
	struct findings findings = {0};
	struct config *config;
	int r = config_parse(text, strlen(text), "world.yaml", &config, &findings);

	if (r < 0)
		findings_print(&findings, "world.yaml", stderr);
	ck_assert_int_eq(r, 0);
	findings_done(&findings);
	return config;
}

/* By hand: generation_new() would read the system's certificates, and nobody connects. */
static struct generation *make_generation(const char *text)
{
	struct generation *g = calloc(1, sizeof(*g));
	const struct config *config;

	g->refs = 1;
	g->config = parse(text);
	config = g->config;
	g->memory_share = config->memory / config->n_slots;
	g->enclaves = calloc(config->n_slots, sizeof(*g->enclaves));
	g->trusts = calloc(config->n_endpoints, sizeof(*g->trusts));
	g->skews = calloc(config->n_endpoints, sizeof(*g->skews));
	g->health = calloc(config->n_endpoints, sizeof(struct credentials_health *));
	for (size_t i = 0; i < config->n_slots; i++)
		g->enclaves[i] = enclave_table_get(world.enclaves,
						   generation_enclave(g, (unsigned)i)->name,
						   config->slots[i].cid);
	for (size_t i = 0; i < config->n_endpoints; i++)
		g->health[i] = credentials_health_get(world.health, config->endpoints[i].name);
	return g;
}

void world_load(const char *old, const char *text)
{
	char changed[8192];
	const char *at = old ? strstr(configuration, old) : configuration;
	size_t before;

	ck_assert_ptr_nonnull(at);
	before = (size_t)(at - configuration);
	snprintf(changed, sizeof(changed), "%.*s%s%s", (int)before, configuration, text ?: "",
		 at + (old ? strlen(old) : 0));
	generation_unref(world.context.generation);
	world.context.generation = make_generation(changed);
}

void world_load_trust(void)
{
	struct generation *g;

	world_load(NULL, NULL);
	g = world.context.generation;
	for (size_t i = 0; i < g->config->n_endpoints; i++)
		g->trusts[i].digest[0]++;
}

static void on_message(struct message *m, void *userdata)
{
	ck_assert_ptr_eq(userdata, &world);
	world.told = *m;
	world.n_told++;
}

static void on_poke(struct message *m, void *userdata)
{
	ck_assert_ptr_eq(userdata, &world);
	ck_assert_int_eq(m->kind, MESSAGE_POKED);
	world.n_pokes++;
	requests_admit(&world.context, world.now);
}

void world_read_mail(void)
{
	event_base_loop(world.context.base, EVLOOP_NONBLOCK);
}

static uint64_t last_serial;

static struct credentials *make_credentials(const char *key, const char *token)
{
	struct credentials *c;

	ck_assert_int_eq(
		credentials_new(slice_from(key), SLICE("s3cret"), slice_from(token), 0, &c), 0);
	c->serial = ++last_serial;
	return c;
}

void world_begin(void)
{
	struct context *c = &world.context;

	world.now = WORLD_START;
	c->base = event_base_new();
	ck_assert_ptr_nonnull(c->base);
	ck_assert_int_eq(mailbox_new(c->base, on_message, on_message, &world, &c->control), 0);
	ck_assert_int_eq(mailbox_new(c->base, on_poke, on_poke, &world, &c->mailbox), 0);
	c->mailboxes = &c->mailbox;
	ck_assert_int_eq(signer_new(&c->signer), 0);
	ck_assert_int_eq(enclave_table_new(&world.enclaves), 0);
	ck_assert_int_eq(credentials_health_table_new(&world.health), 0);
	c->requests = &world.requests;
	c->credentials_due = world.now.monotonic + 3 * USEC_PER_SEC;
	world_load(NULL, NULL);
	world.first = make_credentials("ASIAEXAMPLEEXAMPLE01", "the-first-token-of-all");
	world.second = make_credentials("ASIAEXAMPLEEXAMPLE02", "the-other-token-of-all");
	world_take_credentials(world.first);
}

/* Nothing is held by any enclave, waits, or is in flight. */
static void assert_nothing_is_held(void)
{
	struct enclave *e;

	for (unsigned i = 0; (e = enclave_table_at(world.enclaves, i)); i++) {
		ck_assert_uint_eq(gauge_read(&e->in_flight), 0);
		ck_assert_uint_eq(gauge_read(&e->memory), 0);
	}
	ck_assert(LIST_EMPTY(&world.requests.waiting));
	ck_assert(LIST_EMPTY(&world.requests.orphans));
	ck_assert(LIST_EMPTY(&world.context.lines));
	ck_assert_uint_eq(world.n_calls, 0);
}

void world_end(void)
{
	struct context *c = &world.context;

	assert_nothing_is_held();
	world_turn();
	for (; n_clients; n_clients--) {
		struct world_client *client = clients[n_clients - 1];

		ck_assert_uint_le(client->answers + client->losses, 1);
		ck_assert_ptr_null(client->request);
		free(client);
	}
	world_take_credentials(NULL);
	credentials_unref(world.first);
	credentials_unref(world.second);
	generation_unref(c->generation);
	mailbox_free(c->control);
	mailbox_free(c->mailbox);
	credentials_health_table_free(world.health);
	enclave_table_free(world.enclaves);
	signer_free(c->signer);
	event_base_free(c->base);
	world = (struct world){0};
	ck_assert_int_eq(prctl(PR_SET_DUMPABLE, 1), 0); /* for the leak sanitizer */
}
