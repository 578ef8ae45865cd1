/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy_authorization.h"

#include "buf.h"
#include "limit.h"
#include "secret.h"
#include "small_file.h"

#include <openssl/evp.h>
#include <stdatomic.h>
#include <string.h>

#define SCHEME "Basic "

struct proxy_authorization {
	_Atomic unsigned refs;
	size_t n;
	char value[]; /* NUL-terminated by the encoder */
};

/* RFC 7617 2: a colon ends the user, and neither has control characters. */
static const char *fault_of(struct slice line)
{
	const char *colon = line.n ? memchr(line.p, ':', line.n) : NULL;

	for (size_t i = 0; i < line.n; i++)
		if ((unsigned char)line.p[i] < 0x20 || line.p[i] == 0x7f)
			return "has a control character, or more than one line";
	if (!colon)
		return "has no colon between user and password";
	return colon == line.p ? "has no user before its colon" : NULL;
}

static struct slice without_line_end(struct slice text)
{
	if (!text.n || text.p[text.n - 1] != '\n')
		return text;
	text.n--;
	if (text.n && text.p[text.n - 1] == '\r')
		text.n--;
	return text;
}

int proxy_authorization_parse(struct slice text, struct proxy_authorization **ret,
			      struct error *error)
{
	struct slice line = without_line_end(text);
	const char *fault = fault_of(line);
	struct proxy_authorization *a;
	size_t scheme = sizeof(SCHEME) - 1;

	if (fault)
		return error_set(error, "%s; expected one line, USER:PASSWORD", fault);
	a = secret_alloc(sizeof(*a) + scheme + (line.n + 2) / 3 * 4 + 1);
	if (!a)
		return error_set_errno(error, -ENOMEM, "the secure heap");
	a->refs = 1;
	memcpy(a->value, SCHEME, scheme);
	a->n = scheme + (size_t)EVP_EncodeBlock((unsigned char *)a->value + scheme,
						(const unsigned char *)line.p, (int)line.n);
	*ret = a;
	return 0;
}

int proxy_authorization_load(const char *file, struct proxy_authorization **ret,
			     struct error *error)
{
	_cleanup_(buf_done) struct buf text = BUF_INIT(LIMIT_PROXY_CREDENTIALS);
	_cleanup_(freep) char *path = NULL;
	struct error fault;
	struct stat st;
	int r = small_file_find(file, &path, &fault);

	r = r < 0 ? r : small_file_read(path, &text, &st, &fault);
	if (r < 0) {
		error_set(error, "proxy_credentials_file %s", fault.text);
		return r;
	}
	r = proxy_authorization_parse(buf_slice(&text), ret, &fault);
	if (r < 0)
		error_set(error, "proxy_credentials_file %s %s", path, fault.text);
	return r;
}

struct slice proxy_authorization_value(const struct proxy_authorization *a)
{
	return (struct slice){a->value, a->n};
}

struct proxy_authorization *proxy_authorization_ref(struct proxy_authorization *a)
{
	if (a)
		atomic_fetch_add_explicit(&a->refs, 1, memory_order_relaxed);
	return a;
}

struct proxy_authorization *proxy_authorization_unref(struct proxy_authorization *a)
{
	if (a && atomic_fetch_sub_explicit(&a->refs, 1, memory_order_acq_rel) == 1)
		secret_free(a);
	return NULL;
}
