/* SPDX-License-Identifier: Apache-2.0 */
#include "similar.h"

#include "kms.h"
#include "limit.h"

#include <stdio.h>

static char fold(char c)
{
	return (char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
}

/* How many letters must be changed, added, dropped or swapped with the next. Case is free. Both
 * are at most LIMIT_NAME long; rows[0] is the current row, then the two before it. */
static unsigned distance(struct slice a, struct slice b)
{
	unsigned rows[3][LIMIT_NAME + 1];

	for (size_t j = 0; j <= b.n; j++)
		rows[0][j] = (unsigned)j;
	for (size_t i = 1; i <= a.n; i++) {
		memmove(rows[1], rows[0], 2 * sizeof(rows[0]));
		rows[0][0] = (unsigned)i;
		for (size_t j = 1; j <= b.n; j++) {
			bool differs = fold(a.p[i - 1]) != fold(b.p[j - 1]);
			unsigned change = rows[1][j - 1] + differs;
			unsigned add = MIN(rows[0][j - 1], rows[1][j]) + 1;

			rows[0][j] = MIN(change, add);
			if (i > 1 && j > 1 && differs && fold(a.p[i - 1]) == fold(b.p[j - 2]) &&
			    fold(a.p[i - 2]) == fold(b.p[j - 1]) && rows[2][j - 2] < rows[0][j])
				rows[0][j] = rows[2][j - 2] + 1;
		}
	}
	return rows[0][b.n];
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

void similar_init_action(struct similar *s, struct slice wanted)
{
	for (size_t i = wanted.n; i > 0; i--)
		if (wanted.p[i - 1] == ':' || wanted.p[i - 1] == '.') {
			wanted = (struct slice){wanted.p + i, wanted.n - i};
			break;
		}
	similar_init(s, wanted);
	for (unsigned i = 0; i < KMS_ACTIONS; i++)
		similar_offer(s, kms_action(i)->name);
}

const char *similar_phrase(const struct similar *s, char *out, size_t size)
{
	out[0] = '\0';
	if (s->best)
		snprintf(out, size, "; did you mean \"%s\"?", s->best);
	return out;
}
