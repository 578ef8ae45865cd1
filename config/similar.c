/* SPDX-License-Identifier: Apache-2.0 */
#include "similar.h"

#include "limits.h"

#include <stdio.h>

/* Levenshtein's distance, a row at a time. Both are at most LIMIT_NAME long. */
static unsigned distance(struct slice a, struct slice b)
{
	unsigned row[LIMIT_NAME + 1];

	for (size_t j = 0; j <= b.n; j++)
		row[j] = (unsigned)j;
	for (size_t i = 0; i < a.n; i++) {
		unsigned diagonal = row[0];

		row[0] = (unsigned)i + 1;
		for (size_t j = 0; j < b.n; j++) {
			unsigned change = diagonal + (a.p[i] != b.p[j]);
			unsigned insert = MIN(row[j], row[j + 1]) + 1;

			diagonal = row[j + 1];
			row[j + 1] = MIN(change, insert);
		}
	}
	return row[b.n];
}

void similar_init(struct similar *s, struct slice wanted)
{
	/* A name that shares less than two thirds would be a guess. */
	*s = (struct similar){.wanted = wanted, .distance = (unsigned)(wanted.n / 3 + 1)};
}

void similar_offer(struct similar *s, const char *name)
{
	struct slice offered = slice_from(name);
	unsigned d;

	if (s->wanted.n > LIMIT_NAME || offered.n > LIMIT_NAME)
		return;
	d = distance(s->wanted, offered);
	if (d < s->distance) {
		s->distance = d;
		s->best = name;
	}
}

const char *similar_phrase(const struct similar *s, char *out, size_t size)
{
	out[0] = '\0';
	if (s->best)
		snprintf(out, size, "; did you mean \"%s\"?", s->best);
	return out;
}
