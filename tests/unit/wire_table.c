/* SPDX-License-Identifier: Apache-2.0 */
#include "wire_table.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAMES_MAX 32

struct name {
	struct slice name, bytes;
};

struct loading {
	const char *file;
	unsigned line; /* where the row being read begins */
	size_t columns;
	struct name names[NAMES_MAX];
	size_t n_names;
	struct wire_table table;
};

static void die(const struct loading *l, const char *what)
{
	fprintf(stderr, "%s:%u: %s\n", l->file, l->line, what);
	exit(99);
}

static struct slice read_file(struct loading *l)
{
	const char *folder = getenv("TEST_DATA");
	char path[4096], *text = NULL;
	size_t n = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", folder ? folder : "tests/data", l->file);
	f = fopen(path, "re");
	if (!f || getdelim(&text, &n, '\0', f) < 0)
		die(l, "can't be read; is TEST_DATA set?");
	fclose(f);
	return slice_from(text);
}

/* The end of what `open_memstream` gathered. */
static struct slice gathered(FILE *f, char **p, size_t *n)
{
	fclose(f);
	return (struct slice){*p, *n};
}

/* <NAME> or <NAME*N> at `text`; returns what is after it. */
static const char *expand_name(struct loading *l, const char *text, FILE *out)
{
	size_t n = strcspn(text + 1, "*>");
	char *end = (char *)text + 1 + n;
	unsigned long times = *end == '*' ? strtoul(end + 1, &end, 10) : 1;

	if (*end != '>')
		die(l, "no > after a name");
	for (size_t i = 0; i < l->n_names; i++) {
		const struct name *name = &l->names[i];

		if (!slice_eq(name->name, (struct slice){text + 1, n}))
			continue;
		while (times-- > 0)
			fwrite(name->bytes.p, 1, name->bytes.n, out);
		return end + 1;
	}
	die(l, "unknown name");
	return NULL;
}

static const char *expand_escape(struct loading *l, const char *text, FILE *out)
{
	static const char from[] = "rnt\\", to[] = "\r\n\t\\";
	const char *which = text[1] ? strchr(from, text[1]) : NULL;
	char digits[3] = {0};

	if (which) {
		fputc(to[which - from], out);
		return text + 2;
	}
	if (text[1] != 'x' || strspn(text + 2, "0123456789abcdef") < 2)
		die(l, "unknown escape");
	memcpy(digits, text + 2, 2);
	fputc((int)strtoul(digits, NULL, 16), out);
	return text + 4;
}

static struct slice expand(struct loading *l, const char *text)
{
	char *p = NULL;
	size_t n = 0;
	FILE *out = open_memstream(&p, &n);

	while (*text) {
		if (*text == '<')
			text = expand_name(l, text, out);
		else if (*text == '\\')
			text = expand_escape(l, text, out);
		else
			fputc(*text++, out);
	}
	return gathered(out, &p, &n);
}

static void add_name(struct loading *l, char *text)
{
	char *equals = strstr(text, " = ");

	if (!equals || l->n_names == NAMES_MAX)
		die(l, "not `let NAME = bytes`, or too many");
	*equals = '\0';
	l->names[l->n_names++] = (struct name){slice_from(strdup(text)), expand(l, equals + 3)};
}

static void add_row(struct loading *l, char *text)
{
	struct wire_row row = {.line = l->line};
	size_t i = 0;

	l->table.rows = reallocarray(l->table.rows, l->table.n + 1, sizeof(row));
	while (i + 1 < l->columns) {
		char *bar = strstr(text, " | ");

		if (!bar)
			die(l, "too few columns");
		*bar = '\0';
		row.columns[i++] = expand(l, text);
		text = bar + 3;
	}
	row.bytes = expand(l, text);
	l->table.rows[l->table.n++] = row;
}

/* A whole line, with the ones that go on with it. */
static void add_line(struct loading *l, char *text)
{
	if (*text == '\0')
		return;
	if (strncmp(text, "let ", 4) == 0)
		add_name(l, text + 4);
	else
		add_row(l, text);
}

struct wire_table wire_table_load(const char *file, size_t columns)
{
	struct loading l = {.file = file, .columns = columns};
	char *text = (char *)read_file(&l).p, *rest = text, *line;
	char *whole = calloc(1, strlen(text) + 1); /* the longest line there can be */
	size_t n = 0;

	for (unsigned number = 1; (line = strsep(&rest, "\n")); number++) {
		size_t blanks = strspn(line, " "), more = strlen(line + blanks);

		if (line[0] == '#')
			continue;
		if (blanks == 0) {
			add_line(&l, whole);
			l.line = number;
			n = 0;
		}
		memcpy(whole + n, line + blanks, more + 1);
		n += more;
	}
	add_line(&l, whole);
	free(whole);
	free(text);
	for (size_t i = 0; i < l.n_names; i++) {
		free((char *)l.names[i].name.p);
		free((char *)l.names[i].bytes.p);
	}
	if (l.table.n == 0)
		die(&l, "no rows");
	return l.table;
}

void wire_table_done(struct wire_table *table)
{
	for (size_t i = 0; i < table->n; i++) {
		for (size_t c = 0; c < WIRE_COLUMNS_MAX; c++)
			free((char *)table->rows[i].columns[c].p);
		free((char *)table->rows[i].bytes.p);
	}
	free(table->rows);
}
