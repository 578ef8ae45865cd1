/* SPDX-License-Identifier: Apache-2.0 */

/* What our head reader accepts, llhttp in its strict mode reads the same: the method, the
 * target, the version, each field that we use, and a body of just that length. Over the tables
 * and over messages made of them. */

#include "http_head.h"
#include "limit.h"
#include "llhttp_read.h"
#include "mutate.h"
#include "wire_table.h"

#include <stdio.h>
#include <stdlib.h>

#define CASES 100000
#define ACCEPTED_LEAST 5000 /* of each kind: else the comparison compares little */
#define SEEDS_MAX 2000

static const struct http_head_options options = {.body_max = LIMIT_BODY_DEFAULT,
						 .allow_connect = true};

/* The difference, or NULL. */
static const char *compare_kms(const struct http_head *head, const struct oracle *o)
{
	unsigned long long length;
	struct slice value;

	if (strcmp(o->method, "POST") != 0 || !slice_eq_str(buf_slice(&o->target), "/"))
		return "request line";
	if (oracle_field(o, "Content-Length", &value) != 1 ||
	    !slice_to_u64(value, UINT64_MAX, &length) || length != head->content_length)
		return "Content-Length";
	if (oracle_field(o, "X-Amz-Target", &value) != 1 || value.n < head->action.n ||
	    memcmp(value.p + value.n - head->action.n, head->action.p, head->action.n) != 0)
		return "X-Amz-Target";
	if (oracle_field(o, "Content-Type", &value) != 1 ||
	    !slice_eq_nocase(value, SLICE("application/x-amz-json-1.1")))
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
	static const char *const banned[] = {"Transfer-Encoding", "Content-Encoding", "Upgrade",
					     "Trailer", "TE"};
	struct slice value;
	size_t hosts = oracle_field(o, "Host", &value);

	if (o->n_fields != head->place.fields)
		return "number of fields";
	if (hosts > 1 || (hosts == 0 && o->version == 11) ||
	    (hosts && !memmem(value.p, value.n, head->host.p, head->host.n) &&
	     head->kind == HEAD_KMS))
		return "Host";
	for (size_t i = 0; i < ELEMENTSOF(banned); i++)
		if (oracle_field(o, banned[i], &value))
			return banned[i];
	/* To llhttp Proxy-Connection says the same as Connection, to us it says nothing; and we
	 * close after HTTP/1.0 whatever it asks for. */
	if (o->version == 11 && oracle_field(o, "Proxy-Connection", &value) == 0 &&
	    head->close == o->keep_alive)
		return "Connection";
	return NULL;
}

static const char *compare(const struct http_head *head, struct slice whole)
{
	struct oracle o;
	const char *difference;

	oracle_read(&o, true, whole);
	if (!o.ok)
		difference = o.error;
	else if (o.complete != 1 || o.open)
		difference = "not exactly one message";
	else if (o.version != 11 && (o.version != 10 || head->kind == HEAD_KMS))
		difference = "version";
	else if (o.body.n != head->content_length)
		difference = "body";
	else
		difference = compare_fields(head, &o);
	if (!difference)
		difference = head->kind == HEAD_KMS ? compare_kms(head, &o)
						    : compare_connect(head, &o);
	oracle_done(&o);
	return difference;
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
	static char whole[LIMIT_HEAD + LIMIT_BODY_DEFAULT];
	const char *difference;
	size_t n;

	http_head_init(head);
	if (http_head_read(head, bytes, &options) != HEAD_DONE)
		return false;

	n = head->length + head->content_length;
	memcpy(whole, bytes.p, head->length);
	memset(whole + head->length, 'x', head->content_length);
	difference = compare(head, (struct slice){whole, n});
	if (!difference && ends_earlier((struct slice){whole, n}))
		difference = "ends earlier";
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
	{"good-connects.txt", 4, 10},
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
	size_t n_seeds = 0, accepted[2] = {0};
	struct http_head head;
	struct mutator m;

	for (size_t i = 0; i < ELEMENTSOF(files); i++) {
		tables[i] = wire_table_load(files[i].file, files[i].columns);
		n_seeds = add_seeds(&tables[i], i, seeds, n_seeds);
	}
	mutator_init(&m, argc > 1 ? strtoull(argv[1], NULL, 10) : 1, seeds, n_seeds);
	for (size_t i = 0; i < CASES; i++)
		if (check_case(mutator_next(&m), &head))
			accepted[head.kind]++;
	mutator_done(&m);
	for (size_t i = 0; i < ELEMENTSOF(files); i++)
		wire_table_done(&tables[i]);

	printf("%d heads, accepted: %zu requests, %zu CONNECTs\n", CASES, accepted[HEAD_KMS],
	       accepted[HEAD_CONNECT]);
	return accepted[HEAD_KMS] < ACCEPTED_LEAST || accepted[HEAD_CONNECT] < ACCEPTED_LEAST;
}
