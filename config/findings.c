/* SPDX-License-Identifier: Apache-2.0 */
#include "findings.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static bool is_after(const struct finding *f, struct place at)
{
	if (f->file != at.file)
		return f->file > at.file;
	return f->line > at.line || (f->line == at.line && f->column > at.column);
}

/* An error must be told, whatever stands before it: the last warning makes room for it. */
static bool drop_warning(struct findings *findings)
{
	size_t i = findings->n;

	while (i > 0 && !findings->list[i - 1].warning)
		i--;
	if (i == 0)
		return false;
	memmove(&findings->list[i - 1], &findings->list[i],
		(findings->n - i) * sizeof(*findings->list));
	findings->n--;
	findings->n_left_out++;
	return true;
}

/* Room for one more, after those of the same place: what is found first is told first. */
static struct finding *insert(struct findings *findings, bool warning, struct place at)
{
	struct finding *list;
	size_t i;

	if (findings->n == FINDINGS_MAX && (warning || !drop_warning(findings)))
		return NULL;
	i = findings->n;
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

int findings_begin_file(struct findings *findings, const char *name)
{
	char **files = reallocarray(findings->files, findings->n_files + 1, sizeof(*files));
	char *copy = files ? strdup(name) : NULL;

	if (files)
		findings->files = files;
	if (!copy)
		return -ENOMEM;
	files[findings->n_files++] = copy;
	findings->file = (unsigned)findings->n_files;
	return 0;
}

void findings_add(struct findings *findings, bool warning, struct place at, const char *format,
		  ...)
{
	struct finding *f;
	va_list args;

	at.file = at.file ?: findings->file;
	f = insert(findings, warning, at);
	if (!warning)
		findings->n_errors++;
	if (!f) {
		findings->n_left_out++;
		return;
	}
	f->warning = warning;
	f->file = at.file;
	f->line = at.line;
	f->column = at.column;
	va_start(args, format);
	vsnprintf(f->text, sizeof(f->text), format, args);
	va_end(args);
}

void findings_done(struct findings *findings)
{
	for (size_t i = 0; i < findings->n_files; i++)
		free(findings->files[i]);
	free(findings->files);
	free(findings->list);
	*findings = (struct findings){0};
}

const char *findings_file(const struct findings *findings, const struct finding *finding)
{
	return finding->file ? findings->files[finding->file - 1] : NULL;
}

void findings_print(const struct findings *findings, const char *path, FILE *f)
{
	for (size_t i = 0; i < findings->n; i++) {
		const struct finding *finding = &findings->list[i];
		const char *kind = finding->warning ? "warning" : "error";
		const char *file = findings_file(findings, finding);

		if (file)
			fprintf(f, "%.*s%s", (int)(config_base_name(path) - path), path, file);
		else
			fputs(path, f);
		if (finding->line > 0)
			fprintf(f, ":%u:%u", finding->line, finding->column);
		fprintf(f, ": %s: %s\n", kind, finding->text);
	}
	if (findings->n_left_out > 0)
		fprintf(f, "%s: %s: %zu more are left out\n", path,
			findings->n_errors > 0 ? "error" : "warning", findings->n_left_out);
}
