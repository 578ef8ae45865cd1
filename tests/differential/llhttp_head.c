/* SPDX-License-Identifier: Apache-2.0 */

/* What our head reader accepts, llhttp in its strict mode reads the same: the method, the
 * target, the version, each field that we use, and a body of just that length; and behind it
 * the same request once more, also where llhttp paused for an upgrade that we decline. Over the
 * tables and over messages made of them. */

#include "http_head.h"
#include "limit.h"
#include "llhttp_read.h"
#include "mutate.h"
#include "wire_table.h"

#include <stdio.h>
#include <stdlib.h>

#define CASES 100000
#define ACCEPTED_LEAST 5000 /* of each kind: else the comparison compares little */
#define REPEATED_LEAST 500  /* requests with an offer of an upgrade, twice */
#define PREFACES_LEAST 100
#define SEEDS_MAX 4000

static unsigned repeated; /* of requests with an offer of an upgrade */

static const struct http_head_options options = {.body_max = LIMIT_BODY_DEFAULT,
						 .allow_connect = true};

/* / or http://HOST[:PORT][/], where the authority is Host's but for case and :80. */
static bool is_our_target(const struct oracle *o)
{
	struct slice target = buf_slice(&o->target), host, a, b;

	if (slice_eq_str(target, "/"))
		return true;
	if (target.n < 7 || !slice_eq_nocase((struct slice){target.p, 7}, SLICE("http://")) ||
	    oracle_field(o, "Host", &host) != 1)
		return false;
	a = (struct slice){target.p + 7, target.n - 7};
	a.n -= a.n && a.p[a.n - 1] == '/';
	b = host;
	a.n -= a.n > 3 && memcmp(a.p + a.n - 3, ":80", 3) == 0 ? 3 : 0;
	b.n -= b.n > 3 && memcmp(b.p + b.n - 3, ":80", 3) == 0 ? 3 : 0;
	return slice_eq_nocase(a, b);
}

/* Our type, and nothing else than a charset of UTF-8, whatever the blanks. */
static bool is_our_type(struct slice value)
{
	char text[64];
	size_t n = 0;

	for (size_t i = 0; i < value.n; i++)
		if (value.p[i] != ' ' && n < sizeof(text))
			text[n++] = value.p[i];
	value = (struct slice){text, n};
	return slice_eq_nocase(value, SLICE("application/x-amz-json-1.1")) ||
	       slice_eq_nocase(value, SLICE("application/x-amz-json-1.1;charset=utf-8")) ||
	       slice_eq_nocase(value, SLICE("application/x-amz-json-1.1;charset=\"utf-8\""));
}

/* The difference, or NULL. */
static const char *compare_kms(const struct http_head *head, const struct oracle *o)
{
	unsigned long long length;
	struct slice value;

	if (strcmp(o->method, "POST") != 0 || !is_our_target(o))
		return "request line";
	if (oracle_field(o, "Content-Length", &value) != 1 ||
	    !slice_to_u64(value, UINT64_MAX, &length) || length != head->content_length)
		return "Content-Length";
	if (oracle_field(o, "X-Amz-Target", &value) != 1 || value.n < head->action.n ||
	    memcmp(value.p + value.n - head->action.n, head->action.p, head->action.n) != 0)
		return "X-Amz-Target";
	if (oracle_field(o, "Content-Type", &value) != 1 || !is_our_type(value))
		return "Content-Type";
	if (oracle_field(o, "Expect", &value) != head->expect_continue)
		return "Expect";
	return NULL;
}

static const char *compare_connect(const struct http_head *head, const struct oracle *o)
{
	char port[8];

	snprintf(port, sizeof(port), "%s:%u",
		 head->host_is_address && o->target.p[0] == '[' ? "]" : "", head->port);
	if (strcmp(o->method, "CONNECT") != 0)
		return "method";
	if (!memmem(o->target.p, o->target.n, head->host.p, head->host.n) ||
	    o->target.n < strlen(port) ||
	    memcmp(o->target.p + o->target.n - strlen(port), port, strlen(port)) != 0)
		return "target";
	return NULL;
}

static const char *compare_fields(const struct http_head *head, const struct oracle *o)
{
	/* The last two in a CONNECT only. */
	static const char *const banned[] = {"Transfer-Encoding", "Content-Encoding", "Trailer",
					     "Upgrade", "TE"};
	size_t n_banned = ELEMENTSOF(banned) - (head->kind == HEAD_CONNECT ? 0 : 2);
	struct slice value = {0};
	size_t hosts = oracle_field(o, "Host", &value);
	struct slice host = o->target.n > 1 ? buf_slice(&o->target) : value;

	if (o->n_fields != head->place.fields)
		return "number of fields";
	if (hosts > 1 || (hosts == 0 && o->version == 11) ||
	    (head->kind == HEAD_KMS && !memmem(host.p, host.n, head->host.p, head->host.n)))
		return "Host";
	for (size_t i = 0; i < n_banned; i++)
		if (oracle_field(o, banned[i], &value))
			return banned[i];
	/* To llhttp Proxy-Connection says the same as Connection, to us it says nothing; and we
	 * close after HTTP/1.0 whatever it asks for. */
	if (o->version == 11 && oracle_field(o, "Proxy-Connection", &value) == 0 &&
	    head->close == o->keep_alive)
		return "Connection";
	return NULL;
}

/* `whole` is the message, `times` times. */
static const char *compare(const struct http_head *head, struct slice whole, unsigned times)
{
	struct oracle o;
	const char *difference;

	oracle_read(&o, true, whole);
	if (!o.ok)
		difference = o.error;
	else if (o.preface)
		difference = o.complete ? "a message before a preface" : NULL;
	else if (o.complete != times || o.open)
		difference = "another number of messages";
	else if (o.version != 11 && (o.version != 10 || head->kind == HEAD_KMS))
		difference = "version";
	else if (o.body.n != head->content_length)
		difference = "body";
	else
		difference = compare_fields(head, &o);
	if (!difference && o.preface != (head->kind == HEAD_HTTP2))
		difference = "preface";
	if (!difference && !o.preface)
		difference = head->kind == HEAD_KMS ? compare_kms(head, &o)
						    : compare_connect(head, &o);
	repeated += times > 1 && o.declined == times;
	oracle_done(&o);
	return difference;
}

/* Whether llhttp goes on after it as well: to it Proxy-Connection says what Connection does. */
static bool may_follow(const struct http_head *head, struct slice whole)
{
	struct oracle o;
	bool may;

	oracle_read(&o, true, whole);
	may = head->kind == HEAD_KMS && !head->close && o.keep_alive;
	oracle_done(&o);
	return may;
}

/* The message isn't whole a byte earlier. */
static bool ends_earlier(struct slice whole)
{
	struct oracle o;
	bool earlier;

	oracle_read(&o, true, (struct slice){whole.p, whole.n - 1});
	earlier = o.complete > 0;
	oracle_done(&o);
	return earlier;
}

/* True: accepted. Ends the program at a difference. */
static bool check_case(struct slice bytes, struct http_head *head)
{
	static char whole[2 * (LIMIT_HEAD + LIMIT_BODY_DEFAULT)];
	const char *difference;
	size_t n;

	http_head_init(head);
	if (http_head_read(head, bytes, &options) != HEAD_DONE)
		return false;

	n = head->length + head->content_length;
	memcpy(whole, bytes.p, head->length);
	memset(whole + head->length, 'x', head->content_length);
	difference = compare(head, (struct slice){whole, n}, 1);
	if (!difference && ends_earlier((struct slice){whole, n}))
		difference = "ends earlier";
	if (!difference && may_follow(head, (struct slice){whole, n})) {
		memcpy(whole + n, whole, n);
		difference = compare(head, (struct slice){whole, 2 * n}, 2);
	}
	if (!difference)
		return true;
	fprintf(stderr, "llhttp differs: %s\n%.*s\n", difference, (int)head->length, bytes.p);
	exit(1);
}

static const struct {
	const char *file;
	size_t columns;
	unsigned weight; /* how often its rows stand among the seeds */
} files[] = {
	{"good-requests.txt", 5, 10},
	{"good-connects.txt", 4, 20},
	{"bad-requests.txt", 3, 1},
	{"bad-connects.txt", 3, 1},
};

/* Checks the rows of a table and adds them to the seeds; returns how many there are now. */
static size_t add_seeds(const struct wire_table *table, size_t file, struct slice *seeds,
			size_t n)
{
	struct http_head head;

	for (size_t i = 0; i < table->n; i++) {
		/* The CONNECT of bad-requests.txt is only bad where there is no tunnel. */
		if (!check_case(table->rows[i].bytes, &head) && files[file].weight > 1) {
			fprintf(stderr, "%s:%u: not accepted\n", files[file].file,
				table->rows[i].line);
			exit(1);
		}
		for (unsigned w = 0; w < files[file].weight && n < SEEDS_MAX; w++)
			seeds[n++] = table->rows[i].bytes;
	}
	return n;
}

int main(int argc, char **argv)
{
	struct wire_table tables[ELEMENTSOF(files)];
	static struct slice seeds[SEEDS_MAX];
	size_t n_seeds = 0, accepted[3] = {0};
	struct http_head head;
	struct mutator m;

	for (size_t i = 0; i < ELEMENTSOF(files); i++) {
		tables[i] = wire_table_load(files[i].file, files[i].columns);
		n_seeds = add_seeds(&tables[i], i, seeds, n_seeds);
	}
	for (unsigned w = 0; w < 10; w++)
		seeds[n_seeds++] = SLICE("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4");
	mutator_init(&m, argc > 1 ? strtoull(argv[1], NULL, 10) : 1, seeds, n_seeds);
	for (size_t i = 0; i < CASES; i++)
		if (check_case(mutator_next(&m), &head))
			accepted[head.kind]++;
	mutator_done(&m);
	for (size_t i = 0; i < ELEMENTSOF(files); i++)
		wire_table_done(&tables[i]);

	printf("%d heads, accepted: %zu requests, %u of them offer an upgrade and follow one "
	       "another, %zu CONNECTs, %zu prefaces of HTTP/2\n",
	       CASES, accepted[HEAD_KMS], repeated, accepted[HEAD_CONNECT],
	       accepted[HEAD_HTTP2]);
	return accepted[HEAD_KMS] < ACCEPTED_LEAST || accepted[HEAD_CONNECT] < ACCEPTED_LEAST ||
	       accepted[HEAD_HTTP2] < PREFACES_LEAST || repeated < REPEATED_LEAST;
}
