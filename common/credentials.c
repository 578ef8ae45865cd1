/* SPDX-License-Identifier: Apache-2.0 */
#include "credentials.h"

#include "secret.h"

#include <errno.h>
#include <stdatomic.h>

#define ACCESS_KEY_ID_MIN 16 /* IAM API reference, AccessKey */
#define ACCESS_KEY_ID_MAX 128
#define SECRET_MAX 256            /* 40 today */
#define TOKEN_MAX ((size_t)16384) /* AWS promises no maximum; 700 to 1,400 seen */

static bool is_access_key_id(struct slice s)
{
	if (s.n < ACCESS_KEY_ID_MIN || s.n > ACCESS_KEY_ID_MAX)
		return false;
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];

		if (!(c >= 'A' && c <= 'Z') && !(c >= 'a' && c <= 'z') &&
		    !(c >= '0' && c <= '9') && c != '_')
			return false;
	}
	return true;
}

static bool is_printable(struct slice s, size_t min, size_t max)
{
	if (s.n < min || s.n > max)
		return false;
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] <= ' ' || s.p[i] > '~')
			return false;
	return true;
}

int credentials_new(struct slice access_key_id, struct slice secret_access_key,
		    struct slice session_token, usec_t expiration,
		    struct credentials **ret_credentials)
{
	_cleanup_(credentials_unrefp) struct credentials *c = NULL;

	if (!is_access_key_id(access_key_id) ||
	    !is_printable(secret_access_key, 1, SECRET_MAX) ||
	    !is_printable(session_token, 0, TOKEN_MAX))
		return -EINVAL;

	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	atomic_init(&c->refs, 1);
	c->expiration = expiration;
	c->access_key_id = secret_dup(access_key_id);
	c->secret_access_key = secret_dup(secret_access_key);
	if (session_token.n)
		c->session_token = secret_dup(session_token);
	if (!c->access_key_id || !c->secret_access_key ||
	    (session_token.n && !c->session_token))
		return -ENOMEM;

	*ret_credentials = TAKE_PTR(c);
	return 0;
}

struct credentials *credentials_ref(struct credentials *c)
{
	if (c)
		atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
	return c;
}

struct credentials *credentials_unref(struct credentials *c)
{
	if (!c || atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) != 1)
		return NULL;
	secret_free(c->access_key_id);
	secret_free(c->secret_access_key);
	secret_free(c->session_token);
	free(c);
	return NULL;
}

bool credentials_equal(const struct credentials *a, const struct credentials *b)
{
	return a->expiration == b->expiration &&
	       slice_eq_str(slice_from(a->access_key_id), b->access_key_id) &&
	       slice_eq_str(slice_from(a->secret_access_key), b->secret_access_key) &&
	       slice_eq_str(slice_from(a->session_token), b->session_token);
}
