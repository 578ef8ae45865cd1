/* SPDX-License-Identifier: Apache-2.0 */

/* What reads the answers of IMDS and its like, and the credentials file. The first byte says as
 * what the rest is read; the name of a role is also read as a time. */

#include "credentials_file.h"
#include "credentials_reply.h"
#include "imds.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* assert() would go with -DNDEBUG. */
static void must(bool condition, const char *what)
{
	if (!condition) {
		fprintf(stderr, "fuzz-imds: %s\n", what);
		abort();
	}
}

static bool is_printable(const char *s, char first)
{
	for (; *s; s++)
		if (*s < first || *s > '~')
			return false;
	return true;
}

/* All three go into header fields. */
static void check_credentials(enum credentials_form form, const struct credentials *c)
{
	must(strlen(c->access_key_id) >= 16 && is_printable(c->access_key_id, '!'), "key id");
	must(strlen(c->secret_access_key) >= 1 && is_printable(c->secret_access_key, '!'),
	     "secret");
	must(!c->session_token || (*c->session_token && is_printable(c->session_token, '!')),
	     "token");
	must(form == CREDENTIALS_FORM_FILE || (c->session_token && c->expiration > 0),
	     "credentials that aren't temporary");
}

static void check_outcome(enum credentials_form form, int r, struct credentials *credentials,
			  const struct error *error)
{
	must((r == 0) == !!credentials, "success without credentials");
	if (credentials) {
		check_credentials(form, credentials);
		credentials_unref(credentials);
	} else {
		must(r == -EINVAL, "another failure than the text's");
		must(*error->text && is_printable(error->text, ' '),
		     "no sentence, or raw bytes");
	}
}

static void check_role(struct slice text)
{
	struct slice role = {NULL, 0};

	if (!imds_role(text, &role))
		return;
	must(role.n >= 1 && role.n <= 64, "length of a role");
	must(role.p >= text.p && role.p + role.n <= text.p + text.n, "a role outside the text");
	for (size_t i = 0; i < role.n; i++)
		must(role.p[i] > ' ' && role.p[i] <= '~' && !strchr("/?#%\\", role.p[i]),
		     "a role that changes the path");
}

/* A time that is taken is the one that glibc reads there. */
static void check_time(struct slice text)
{
	char copy[sizeof("2026-01-02T03:04:05")] = "";
	struct tm tm = {0};
	struct error error = {""};
	const char *end;
	usec_t at;

	if (credentials_reply_expiration(text, &at, &error) < 0) {
		must(*error.text && is_printable(error.text, ' '), "a refusal of a time");
		return;
	}
	must(text.n > sizeof(copy) - 1, "a time that is too short");
	memcpy(copy, text.p, sizeof(copy) - 1);
	end = strptime(copy, "%Y-%m-%dT%H:%M:%S", &tm);
	must(end && *end == '\0', "a time that glibc doesn't read");
	must((usec_t)timegm(&tm) * USEC_PER_SEC == at, "another time than glibc reads");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct credentials *credentials = NULL;
	struct error error = {""};
	_cleanup_(freep) char *text = malloc(size > 1 ? size - 1 : 1); /* exact */
	unsigned as = size ? data[0] % 5 : 0;
	size_t n = size ? size - 1 : 0;
	int r;

	must(text != NULL, "no memory");
	if (n)
		memcpy(text, data + 1, n);
	switch (as) {
	case CREDENTIALS_FORM_IMDS:
	case CREDENTIALS_FORM_CONTAINER:
	case CREDENTIALS_FORM_FILE:
		r = credentials_reply_parse(as, text, n, &credentials, &error);
		check_outcome(as, r, credentials, &error);
		break;
	case 3:
		r = credentials_file_parse(text, n, &credentials, &error);
		check_outcome(CREDENTIALS_FORM_FILE, r, credentials, &error);
		break;
	default:
		check_role((struct slice){text, n});
		check_time((struct slice){text, n});
	}
	return 0;
}
