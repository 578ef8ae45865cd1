/* SPDX-License-Identifier: Apache-2.0 */
#include "credentials_file.h"

#include "credentials_reply.h"
#include "limit.h"
#include "small_file.h"

#include <errno.h>
#include <stdio.h>

#define POLL (5 * USEC_PER_SEC) /* one stat() each */

/* By what a change is seen. */
struct stamp {
	dev_t device;
	ino_t inode;
	off_t size;
	struct timespec modified, changed;
};

struct credentials_file {
	struct source source;
	char *path;
	struct credentials *last; /* NULL: the file is to be read whatever its stamp */
	struct stamp stamp;       /* of the file that gave `last` */
};

enum ini_name { INI_KEY, INI_SECRET, INI_TOKEN, _INI_MAX };

struct ini {
	bool in_section; /* any */
	bool in_default;
	struct slice values[_INI_MAX]; /* .p NULL: not seen */
};

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

static struct slice trim(struct slice s)
{
	while (s.n && is_space(s.p[s.n - 1]))
		s.n--;
	for (; s.n && is_space(*s.p); s.n--)
		s.p++;
	return s;
}

/* Takes the next line off `text`. */
static struct slice take_line(struct slice *text)
{
	const char *end = memchr(text->p, '\n', text->n);
	struct slice line = {text->p, end ? (size_t)(end - text->p) : text->n};
	size_t used = line.n + (end ? 1 : 0);

	text->p += used;
	text->n -= used;
	return trim(line);
}

static int read_pair(struct ini *ini, struct slice name, struct slice value, unsigned number,
		     struct error *error)
{
	static const char *const names[] = {
		[INI_KEY] = "aws_access_key_id",
		[INI_SECRET] = "aws_secret_access_key",
		[INI_TOKEN] = "aws_session_token",
	};

	if (!ini->in_section)
		return error_set(error, "has a value in line %u before the first [section]",
				 number);
	if (!ini->in_default)
		return 0;
	for (size_t i = 0; i < _INI_MAX; i++) {
		if (!slice_eq_str(name, names[i]))
			continue;
		if (ini->values[i].p)
			return error_set(error, "has %s twice, the second in line %u", names[i],
					 number);
		ini->values[i] = value;
	}
	return 0; /* region, output and the like */
}

/* No line is quoted in an error: it may be a secret whose name was left out. */
static int read_line(struct ini *ini, struct slice line, unsigned number, struct error *error)
{
	const char *equals;
	size_t n;

	if (line.n == 0 || *line.p == '#' || *line.p == ';')
		return 0;
	if (*line.p == '[') {
		if (line.p[line.n - 1] != ']')
			return error_set(error, "has a [section] without its end in line %u",
					 number);
		ini->in_section = true;
		ini->in_default = slice_eq(trim((struct slice){line.p + 1, line.n - 2}),
					   SLICE("default"));
		return 0;
	}
	equals = memchr(line.p, '=', line.n);
	if (!equals)
		return error_set(error, "has neither a [section] nor `name = value` in line %u",
				 number);
	n = (size_t)(equals - line.p);
	return read_pair(ini, trim((struct slice){line.p, n}),
			 trim((struct slice){equals + 1, line.n - n - 1}), number, error);
}

static int parse_ini(struct slice text, struct credentials **ret_credentials,
		     struct error *error)
{
	struct ini ini = {0};

	for (unsigned number = 1; text.n; number++) {
		int r = read_line(&ini, take_line(&text), number, error);

		if (r < 0)
			return r;
	}
	if (!ini.values[INI_KEY].n)
		return error_set(error, "has no aws_access_key_id in a section [default]");
	if (!ini.values[INI_SECRET].n)
		return error_set(error, "has no aws_secret_access_key in a section [default]");
	return credentials_reply_make(ini.values[INI_KEY], ini.values[INI_SECRET],
				      ini.values[INI_TOKEN], 0, ret_credentials, error);
}

int credentials_file_parse(char *text, size_t n, struct credentials **ret_credentials,
			   struct error *error)
{
	size_t at = 0;

	while (at < n && (is_space(text[at]) || text[at] == '\n'))
		at++;
	if (at == n)
		return error_set(error, "is empty");
	if (text[at] == '{')
		return credentials_reply_parse(CREDENTIALS_FORM_FILE, text, n, ret_credentials,
					       error);
	return parse_ini((struct slice){text, n}, ret_credentials, error);
}

static struct stamp stamp_of(const struct stat *st)
{
	return (struct stamp){st->st_dev, st->st_ino, st->st_size, st->st_mtim, st->st_ctim};
}

static bool same_time(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static bool same_stamp(struct stamp a, struct stamp b)
{
	return a.device == b.device && a.inode == b.inode && a.size == b.size &&
	       same_time(a.modified, b.modified) && same_time(a.changed, b.changed);
}

static int read_file(const char *path, struct credentials **ret_credentials,
		     struct stamp *ret_stamp, struct error *error)
{
	_cleanup_(buf_done) struct buf text = BUF_INIT(LIMIT_CREDENTIALS_TEXT);
	struct error fault;
	struct stat st;
	int r = small_file_read(path, &text, &st, &fault);

	if (r < 0) {
		error_set(error, "credentials file %s", fault.text);
		return r;
	}
	r = credentials_file_parse(text.p, text.n, ret_credentials, &fault);
	if (r < 0) {
		error_set(error, "credentials file %s %s", path, fault.text);
		return r;
	}
	*ret_stamp = stamp_of(&st); /* taken before reading: a later change is seen */
	return 0;
}

int credentials_file_check(const char *name, struct error *error)
{
	_cleanup_(credentials_unrefp) struct credentials *credentials = NULL;
	_cleanup_(freep) char *path = NULL;
	struct stamp stamp;
	struct error fault;
	int r = small_file_find(name, &path, &fault);

	if (r == 0)
		return read_file(path, &credentials, &stamp, error);
	error_set(error, "credentials file %s", fault.text);
	return r == -EINVAL ? 1 : r;
}

/* Reads the file if it has changed, or could not be read the last time. */
static int look(struct credentials_file *file, struct error *error)
{
	struct credentials *credentials;
	_cleanup_(freep) char *path = NULL;
	struct stamp stamp;
	struct error fault;
	struct stat st;
	int r = small_file_find(file->path, &path, &fault);

	if (r < 0) {
		error_set(error, "credentials file %s", fault.text);
		return r;
	}
	if (file->last && stat(path, &st) == 0 && same_stamp(stamp_of(&st), file->stamp))
		return 0;
	file->last = credentials_unref(file->last);
	r = read_file(path, &credentials, &stamp, error);
	if (r < 0)
		return r;
	file->last = credentials;
	file->stamp = stamp;
	return 0;
}

static struct credentials_file *from_source(struct source *source)
{
	return (struct credentials_file *)source; /* its first member */
}

static void credentials_file_start(struct source *source, source_cb done, void *userdata)
{
	struct credentials_file *file = from_source(source);
	struct error error;

	if (look(file, &error) < 0)
		done(NULL, &error, userdata);
	else
		done(file->last, NULL, userdata);
}

/* Nothing is ever under way. */
static void credentials_file_cancel(struct source *source)
{
	(void)source;
}

static void credentials_file_free(struct source *source)
{
	struct credentials_file *file = from_source(source);

	credentials_unref(file->last);
	free(file->path);
	free(file);
}

int credentials_file_new(const struct credentials_config *config, struct source **ret_source)
{
	static const struct source_ops ops = {
		.start = credentials_file_start,
		.cancel = credentials_file_cancel,
		.free = credentials_file_free,
		.poll = POLL,
	};
	_cleanup_(source_freep) struct source *source = NULL;
	struct credentials_file *file = calloc(1, sizeof(*file));

	if (!file)
		return -ENOMEM;
	source = &file->source;
	source->ops = &ops;
	file->path = strdup(config->file ?: "");
	if (!file->path)
		return -ENOMEM;
	*ret_source = TAKE_PTR(source);
	return 0;
}
