/* SPDX-License-Identifier: Apache-2.0 */
#include "findings.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static bool is_after(const struct finding *f, struct place at)
{
	return f->line > at.line || (f->line == at.line && f->column > at.column);
}

/* Room for one more, after those of the same place: what is found first is told first. */
static struct finding *insert(struct findings *findings, struct place at)
{
	struct finding *list;
	size_t i = findings->n;

	if (findings->n == FINDINGS_MAX)
		return NULL;
	list = reallocarray(findings->list, findings->n + 1, sizeof(*list));
	if (!list)
		return NULL;
	findings->list = list;
	while (i > 0 && is_after(&list[i - 1], at))
		i--;
	memmove(&list[i + 1], &list[i], (findings->n - i) * sizeof(*list));
	findings->n++;
	return &list[i];
}

void findings_add(struct findings *findings, bool warning, struct place at, const char *format,
		  ...)
{
	struct finding *f = insert(findings, at);
	va_list args;

	if (!warning)
		findings->n_errors++;
	if (!f) {
		findings->n_left_out++;
		return;
	}
	f->warning = warning;
	f->line = at.line;
	f->column = at.column;
	va_start(args, format);
	vsnprintf(f->text, sizeof(f->text), format, args);
	va_end(args);
}

void findings_done(struct findings *findings)
{
	free(findings->list);
	*findings = (struct findings){0};
}

void findings_print(const struct findings *findings, const char *path, FILE *f)
{
	for (size_t i = 0; i < findings->n; i++) {
		const struct finding *finding = &findings->list[i];
		const char *kind = finding->warning ? "warning" : "error";

		if (finding->line == 0)
			fprintf(f, "%s: %s: %s\n", path, kind, finding->text);
		else
			fprintf(f, "%s:%u:%u: %s: %s\n", path, finding->line, finding->column,
				kind, finding->text);
	}
	if (findings->n_left_out > 0)
		fprintf(f, "%s: error: %zu more are left out\n", path, findings->n_left_out);
}
