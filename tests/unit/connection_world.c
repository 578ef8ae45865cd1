/* SPDX-License-Identifier: Apache-2.0 */
#include "connection_world.h"

#include "connection.h"
#include "lookup.h"
#include "mailbox.h"
#include "request_step.h"
#include "sigv4.h"
#include "upstreams.h"

#include <check.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define QUIET 20 /* turns */

struct context world;

static struct enclave_table *enclaves;
static struct lookups lookups;
static struct upstreams upstreams;
static struct requests requests;
static struct gauge surplus;

/* ---- records ---- */

static struct audit_record records[64];
static unsigned n_records, n_looked_at;

void (*world_on_record)(void);

void __wrap_audit_submit(struct audit *audit, const struct audit_record *record);

void __wrap_audit_submit(struct audit *audit, const struct audit_record *record)
{
	(void)audit;
	if (n_looked_at == n_records)
		n_looked_at = n_records = 0;
	ck_assert_uint_lt(n_records, ELEMENTSOF(records));
	records[n_records++] = *record;
	if (world_on_record)
		world_on_record();
}

bool world_has_record(void)
{
	return n_looked_at < n_records;
}

const struct audit_record *world_record(void)
{
	struct enclave *e;

	/* What a test looks at doesn't count as a flood. */
	for (unsigned i = 0; (e = enclave_table_at(enclaves, i)); i++)
		e->flood = (struct flood){0};
	ck_assert_uint_lt(n_looked_at, n_records);
	return &records[n_looked_at++];
}

void world_assert_record(enum event_kind event, enum reason reason)
{
	const struct audit_record *r = world_record();

	ck_assert_msg(r->event == event && r->reason == reason, "event %d, %s: %s",
		      (int)r->event, reason_word(r->reason), r->detail);
	ck_assert_str_ne(r->enclave, "");
}

void world_assert_no_record(void)
{
	if (world_has_record())
		ck_abort_msg("event %d, %s: %s", (int)records[n_looked_at].event,
			     reason_word(records[n_looked_at].reason),
			     records[n_looked_at].detail);
}

/* ---- memory ---- */

static unsigned callocs_left;

void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);

void *__wrap_calloc(size_t n, size_t size)
{
	if (callocs_left && --callocs_left == 0)
		return NULL;
	return __real_calloc(n, size);
}

void world_fail_calloc(unsigned nth)
{
	callocs_left = nth;
}

/* ---- configurations ---- */

/* Without CA certificates: nobody speaks TLS here. */
static struct generation *make_generation(struct config *config)
{
	struct generation *g = calloc(1, sizeof(*g));

	ck_assert_ptr_nonnull(g);
	g->refs = 1;
	g->config = config;
	g->memory_share = config->memory / config->n_slots;
	g->enclaves = calloc(config->n_slots, sizeof(*g->enclaves));
	g->trusts = calloc(config->n_endpoints, sizeof(*g->trusts));
	g->skews = calloc(config->n_endpoints, sizeof(*g->skews));
	ck_assert(g->enclaves && g->trusts && g->skews);
	for (size_t i = 0; i < config->n_slots; i++)
		g->enclaves[i] =
			enclave_table_get(enclaves, generation_enclave(g, (unsigned)i)->name,
					  config->slots[i].cid);
	return g;
}

void world_configure(const char *text)
{
	struct findings findings = {0};
	struct config *config = NULL;
	char yaml[4096];
	int n;

	n = snprintf(yaml, sizeof(yaml),
		     "listen: [{vsock: 8000}]\n"
		     "endpoints: {kms: {region: eu-central-1, connect_to: '127.0.0.1:1'}}\n"
		     "memory: 4MiB\n"
		     "enclaves: {%s}\n",
		     text);
	ck_assert_int_lt(n, (int)sizeof(yaml));
	if (config_parse(yaml, (size_t)n, "world.yaml", &config, &findings) < 0)
		findings_print(&findings, "world.yaml", stderr);
	findings_done(&findings);
	ck_assert_ptr_nonnull(config);
	generation_unref(world.generation);
	world.generation = make_generation(config);
}

static unsigned cid_of(const char *name)
{
	return strcmp(name, "one") == 0 ? 4 : 5;
}

struct enclave *world_enclave(const char *name)
{
	return enclave_table_get(enclaves, name, cid_of(name));
}

struct identity world_identity(const char *name)
{
	return (struct identity){
		.has_cid = true, .cid = cid_of(name), .enclave = world_enclave(name)};
}

/* ---- its life ---- */

static void on_poke(struct message *m, void *userdata)
{
	(void)userdata;
	ck_assert_int_eq(m->kind, MESSAGE_POKED);
	requests_admit(&world, clock_now());
}

void world_begin(void)
{
	world_on_record = NULL;
	world.base = event_base_new();
	world.lookups = &lookups;
	world.upstreams = &upstreams;
	world.requests = &requests;
	world.credentials_due = clock_monotonic() + 1000 * USEC_PER_SEC;
	ck_assert_int_eq(turns_init(&world.turns, world.base), 0);
	ck_assert_int_eq(signer_new(&world.signer), 0);
	ck_assert_int_eq(mailbox_new(world.base, on_poke, on_poke, NULL, &world.mailbox), 0);
	world.mailboxes = &world.mailbox;
	world.surplus = &surplus;
	ck_assert_int_eq(enclave_table_new(&enclaves), 0);
	world_configure(WORLD_ONE ", " WORLD_TWO);
}

void world_end(void)
{
	world_assert_no_record();
	connections_close(&world, REASON_SHUTTING_DOWN, clock_now());
	requests_end(&requests, clock_now());
	upstreams_done(&upstreams);
	world_assert_nothing_held();
	bin_empty(&world.bin);
	turns_done(&world.turns);
	mailbox_free(world.mailbox);
	event_base_free(world.base);
	signer_free(world.signer);
	generation_unref(world.generation);
	enclave_table_free(enclaves);
}

void world_assert_nothing_held(void)
{
	struct enclave *e;

	for (unsigned i = 0; (e = enclave_table_at(enclaves, i)); i++) {
		ck_assert_uint_eq(gauge_read(&e->connections), 0);
		ck_assert_uint_eq(gauge_read(&e->memory), 0);
		ck_assert_uint_eq(gauge_read(&e->tunnels), 0);
		ck_assert_uint_eq(gauge_read(&e->in_flight), 0);
		ck_assert_uint_eq(gauge_read(&e->surplus), 0);
	}
	ck_assert_uint_eq(gauge_read(&surplus), 0);
	ck_assert_uint_eq(world.n_connections, 0);
	ck_assert(LIST_EMPTY(&world.connections));
	ck_assert(LIST_EMPTY(&lookups.list));
}

int world_accept(const char *name, int *ret_peer)
{
	int pair[2];

	ck_assert_int_eq(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
	ck_assert(gauge_take(&world_enclave(name)->connections, 1, UINT64_MAX));
	world.n_connections++;
	*ret_peer = pair[1];
	return pair[0];
}

void world_loop(void)
{
	event_base_loop(world.base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
}

void world_turn(void)
{
	world_loop();
	bin_empty(&world.bin);
	usleep(200);
}

void world_stay_quiet(void)
{
	for (int i = 0; i < QUIET; i++)
		world_turn();
}

struct instant world_later(usec_t after)
{
	struct instant now = clock_now();

	return (struct instant){now.monotonic + after, now.wall + after};
}

/* ---- the other end ---- */

void peer_send(int fd, struct slice bytes)
{
	ck_assert_int_eq(send(fd, bytes.p, bytes.n, MSG_NOSIGNAL), (ssize_t)bytes.n);
}

size_t peer_fill(int fd)
{
	static char block[64 * KIB];
	size_t sent = 0;
	ssize_t n;

	/* A smaller piece may still fit where a larger one doesn't. */
	for (size_t size = sizeof(block); size > 0; size /= 2)
		while ((n = send(fd, block, size, MSG_NOSIGNAL)) > 0)
			sent += (size_t)n;
	return sent;
}

bool peer_at_end(int fd)
{
	char byte;

	return recv(fd, &byte, 1, 0) == 0;
}
