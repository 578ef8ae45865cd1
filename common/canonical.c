/* SPDX-License-Identifier: Apache-2.0 */
#include "canonical.h"

#include <errno.h>
#include <openssl/evp.h>

#define TEXT_MAX ((size_t)24 * 1024) /* the token alone may be 16 KiB */

/* A copy of a state costs as much as the hash of two blocks: with a shorter token it isn't
 * worth it. And one block it must be at least, so that what is left after the prefix's whole
 * blocks is of the token alone. */
#define TOKEN_MIN ((size_t)4 * SHA256_BLOCK)

int canonical_init(struct canonical *c, struct sha256 *sha256)
{
	*c = (struct canonical){.sha256 = sha256, .text = BUF_INIT(TEXT_MAX), .second = -1};
	for (size_t i = 0; i < CANONICAL_PREFIXES; i++) {
		c->prefixes[i].state = EVP_MD_CTX_new();
		if (!c->prefixes[i].state)
			return -EIO;
	}
	return 0;
}

static void prefix_drop(struct canonical_prefix *prefix)
{
	if (prefix->state)
		EVP_MD_CTX_reset(prefix->state); /* wipes */
	prefix->serial = 0;
}

void canonical_forget(struct canonical *c)
{
	for (size_t i = 0; i < CANONICAL_PREFIXES; i++)
		prefix_drop(&c->prefixes[i]);
}

void canonical_done(struct canonical *c)
{
	for (size_t i = 0; i < CANONICAL_PREFIXES; i++)
		EVP_MD_CTX_free(c->prefixes[i].state); /* wipes too */
	buf_done(&c->text);
	*c = (struct canonical){0};
}

struct slice canonical_amz_date(struct canonical *c, usec_t wall)
{
	if (wall / USEC_PER_SEC != c->second) {
		clock_format_amz_date(wall, c->amz_date);
		c->second = wall / USEC_PER_SEC;
	}
	return (struct slice){c->amz_date, sizeof(c->amz_date) - 1};
}

struct slice canonical_signed_headers(const struct credentials *credentials,
				      const struct sigv4_request *request)
{
	static const struct slice names[2][2] = {
		{SLICE("content-type;host;x-amz-date"),
		 SLICE("content-type;host;x-amz-date;x-amz-target")},
		{SLICE("content-type;host;x-amz-date;x-amz-security-token"),
		 SLICE("content-type;host;x-amz-date;x-amz-security-token;x-amz-target")},
	};

	return names[credentials->session_token != NULL][request->target.n > 0];
}

/* What all requests to one host in one second begin with: all of it must be compared in
 * is_prefix_of(), except what the serial stands for. */
static int write_prefix(struct canonical *c, const struct credentials *credentials,
			const struct sigv4_request *request, usec_t wall, struct buf *out)
{
	const struct slice none = {NULL, 0};
	const struct slice parts[] = {
		SLICE("POST\n/\n\ncontent-type:"),
		request->content_type,
		SLICE("\nhost:"),
		request->host,
		SLICE("\nx-amz-date:"),
		canonical_amz_date(c, wall),
		credentials->session_token ? SLICE("\nx-amz-security-token:") : none,
		slice_from(credentials->session_token),
	};

	return buf_append_all(out, parts, ELEMENTSOF(parts));
}

/* And what follows. */
static int write_rest(struct canonical *c, const struct credentials *credentials,
		      const struct sigv4_request *request, struct buf *out)
{
	const struct slice none = {NULL, 0};
	const struct slice parts[] = {
		request->target.n ? SLICE("\nx-amz-target:") : none,
		request->target,
		SLICE("\n\n"),
		canonical_signed_headers(credentials, request),
		SLICE("\n"),
	};
	unsigned char digest[SHA256_SIZE];
	int r = buf_append_all(out, parts, ELEMENTSOF(parts));

	if (r >= 0)
		r = sha256_of(c->sha256, request->body, none, digest);
	return r < 0 ? r : sha256_append_hex(digest, out);
}

int canonical_write(struct canonical *c, const struct credentials *credentials,
		    const struct sigv4_request *request, usec_t wall, struct buf *out)
{
	int r = write_prefix(c, credentials, request, wall, out);

	return r < 0 ? r : write_rest(c, credentials, request, out);
}

static void clear_text(struct canonical *c)
{
	if (c->text.n)
		explicit_bzero(c->text.p, c->text.n); /* the session token */
	c->text.n = 0;
}

static bool is_prefix_of(const struct canonical_prefix *p, const struct sigv4_request *request,
			 usec_t second)
{
	return p->second == second &&
	       slice_eq((struct slice){p->content_type, p->content_type_n},
			request->content_type) &&
	       slice_eq((struct slice){p->host, p->host_n}, request->host);
}

static struct canonical_prefix *find_prefix(struct canonical *c,
					    const struct sigv4_request *request, usec_t second)
{
	for (size_t i = 0; i < CANONICAL_PREFIXES; i++)
		if (c->prefixes[i].serial && is_prefix_of(&c->prefixes[i], request, second))
			return &c->prefixes[i];
	return NULL;
}

/* Also when the present ones have no token: the others have rotated. */
static void drop_those_of_others(struct canonical *c, uint64_t serial)
{
	for (size_t i = 0; i < CANONICAL_PREFIXES; i++)
		if (c->prefixes[i].serial && c->prefixes[i].serial != serial)
			prefix_drop(&c->prefixes[i]);
}

static int prefix_make(struct canonical *c, struct canonical_prefix *prefix,
		       const struct credentials *credentials,
		       const struct sigv4_request *request, usec_t wall)
{
	int r = write_prefix(c, credentials, request, wall, &c->text);
	size_t left = c->text.n % SHA256_BLOCK;

	prefix_drop(prefix);
	if (r >= 0)
		r = sha256_begin(c->sha256, (struct slice){c->text.p, c->text.n - left},
				 prefix->state);
	clear_text(c);
	if (r < 0)
		return r;
	prefix->serial = credentials->serial;
	prefix->second = wall / USEC_PER_SEC;
	prefix->left = left;
	prefix->content_type_n = request->content_type.n;
	memcpy(prefix->content_type, request->content_type.p, request->content_type.n);
	prefix->host_n = request->host.n;
	memcpy(prefix->host, request->host.p, request->host.n);
	return 0;
}

static bool is_worth_keeping(struct slice token, const struct sigv4_request *request)
{
	return token.n >= TOKEN_MIN &&
	       request->content_type.n <=
		       sizeof(((struct canonical_prefix *)0)->content_type) &&
	       request->host.n <= sizeof(((struct canonical_prefix *)0)->host);
}

/* Leaves in c->text what the hash of the request goes on with after *ret_kept. */
static int begin(struct canonical *c, const struct credentials *credentials, struct slice token,
		 const struct sigv4_request *request, usec_t wall, const EVP_MD_CTX **ret_kept)
{
	struct canonical_prefix *prefix = find_prefix(c, request, wall / USEC_PER_SEC);

	if (!prefix) {
		int r;

		prefix = &c->prefixes[c->next];
		c->next = (c->next + 1) % CANONICAL_PREFIXES;
		r = prefix_make(c, prefix, credentials, request, wall);
		if (r < 0)
			return r;
	}
	*ret_kept = prefix->state;
	return buf_append(&c->text,
			  (struct slice){token.p + token.n - prefix->left, prefix->left});
}

int canonical_hash(struct canonical *c, const struct credentials *credentials,
		   const struct sigv4_request *request, usec_t wall, unsigned char *ret_digest)
{
	struct slice token = slice_from(credentials->session_token);
	const EVP_MD_CTX *kept = NULL;
	int r;

	drop_those_of_others(c, credentials->serial);
	if (is_worth_keeping(token, request))
		r = begin(c, credentials, token, request, wall, &kept);
	else
		r = write_prefix(c, credentials, request, wall, &c->text);
	if (r >= 0)
		r = write_rest(c, credentials, request, &c->text);
	if (r >= 0 && kept)
		r = sha256_end(c->sha256, kept, buf_slice(&c->text), ret_digest);
	else if (r >= 0)
		r = sha256_of(c->sha256, buf_slice(&c->text), (struct slice){0}, ret_digest);
	clear_text(c);
	return r;
}
