/* SPDX-License-Identifier: Apache-2.0 */

/* What our reply reader accepts, llhttp in its strict mode reads the same: the same messages of
 * the same length, status, body, relayed headers, and no more hope for the connection than it
 * has. */

#include "http_reply.h"
#include "limit.h"
#include "llhttp_read.h"
#include "mutate.h"
#include "wire_table.h"

#include <stdio.h>
#include <stdlib.h>

#define CASES 100000
#define ACCEPTED_LEAST 20000 /* else the comparison compares little */
#define CHUNKED_LEAST 2000   /* of them with more than a little body */
#define SEEDS_MAX 2000

static const char *compare_headers(const struct http_reply *reply, const struct oracle *o)
{
	for (size_t i = 0; i < _REPLY_HEADER_MAX; i++) {
		struct slice value;
		size_t n = oracle_field(o, http_reply_header_name(i), &value);

		if (!n != !reply->headers[i].p || (n && !slice_eq(value, reply->headers[i])))
			return http_reply_header_name(i);
	}
	return NULL;
}

/* The difference, or NULL. */
static const char *compare(const struct http_reply *reply, struct slice whole)
{
	const char *difference = NULL;
	struct oracle o;

	oracle_read(&o, false, whole);
	if (!o.ok)
		difference = o.error;
	else if (o.complete != reply->place.interim + 1 || o.open)
		difference = "not as many messages";
	else if (o.status != reply->status)
		difference = "status";
	else if (!slice_eq(buf_slice(&o.body), buf_slice(&reply->body)))
		difference = "body";
	else if (reply->keep_alive && !o.keep_alive)
		difference = "Connection";
	else
		difference = compare_headers(reply, &o);
	oracle_done(&o);
	return difference;
}

/* Whether there are as many messages a byte earlier. */
static bool ends_earlier(const struct http_reply *reply, struct slice whole)
{
	struct oracle o;
	bool earlier;

	oracle_read(&o, false, (struct slice){whole.p, whole.n - 1});
	earlier = o.complete > reply->place.interim;
	oracle_done(&o);
	return earlier;
}

/* True: accepted. Ends the program at a difference. */
static bool check_case(struct slice bytes, bool *ret_chunked)
{
	struct http_reply reply;
	const char *difference;
	bool accepted;
	size_t used;

	http_reply_init(&reply, LIMIT_REPLY_BODY);
	accepted = http_reply_read(&reply, bytes, &used) == REPLY_DONE;
	if (accepted) {
		*ret_chunked = reply.place.chunked && reply.body.n > 1;
		difference = compare(&reply, (struct slice){bytes.p, used});
		if (!difference && ends_earlier(&reply, (struct slice){bytes.p, used}))
			difference = "ends earlier";
		if (difference) {
			fprintf(stderr, "llhttp differs: %s\n%.*s\n", difference, (int)used,
				bytes.p);
			exit(1);
		}
	}
	http_reply_done(&reply);
	return accepted;
}

static const struct {
	const char *file;
	size_t columns;
	unsigned weight; /* how often its rows stand among the seeds */
} files[] = {{"good-replies.txt", 4, 10}, {"bad-replies.txt", 2, 1}};

/* Checks the rows of a table and adds them to the seeds; returns how many there are now. */
static size_t add_seeds(const struct wire_table *table, size_t file, struct slice *seeds,
			size_t n)
{
	bool chunked;

	for (size_t i = 0; i < table->n; i++) {
		if (check_case(table->rows[i].bytes, &chunked) != (files[file].weight > 1)) {
			fprintf(stderr, "%s:%u: in the wrong table\n", files[file].file,
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
	size_t n_seeds = 0, n_accepted = 0, n_chunked = 0;
	bool chunked;
	struct mutator m;

	for (size_t i = 0; i < ELEMENTSOF(files); i++) {
		tables[i] = wire_table_load(files[i].file, files[i].columns);
		n_seeds = add_seeds(&tables[i], i, seeds, n_seeds);
	}
	mutator_init(&m, argc > 1 ? strtoull(argv[1], NULL, 10) : 1, seeds, n_seeds);
	for (size_t i = 0; i < CASES; i++) {
		if (!check_case(mutator_next(&m), &chunked))
			continue;
		n_accepted++;
		n_chunked += chunked;
	}
	mutator_done(&m);
	for (size_t i = 0; i < ELEMENTSOF(files); i++)
		wire_table_done(&tables[i]);

	printf("%d replies, accepted: %zu, %zu of them in chunks\n", CASES, n_accepted,
	       n_chunked);
	return n_accepted < ACCEPTED_LEAST || n_chunked < CHUNKED_LEAST;
}
