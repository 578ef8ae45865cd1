/* SPDX-License-Identifier: Apache-2.0 */
#include "sigv4.h"

#include "canonical.h"
#include "secret.h"
#include "sha256.h"

#include <errno.h>
#include <string.h>

#define DATE_SIZE 8 /* YYYYMMDD, the head of an X-Amz-Date */
#define REGION_MAX 64
#define SERVICE_MAX 32
#define SECRET_MAX 256
#define SCOPE_MAX (DATE_SIZE + 1 + REGION_MAX + 1 + SERVICE_MAX + sizeof("/aws4_request"))
#define STRING_MAX ((size_t)512) /* a string to sign */
#define KEYS 4 /* derived keys that are kept: enclaves may use endpoints in a few regions */

#define ALGORITHM "AWS4-HMAC-SHA256"
#define SCOPE_END "aws4_request"

struct derived_key {
	unsigned char *key; /* SHA256_SIZE bytes, a secret; NULL: the slot is empty */
	uint64_t serial;
	char scope[SCOPE_MAX];
	size_t scope_n;
};

struct signer {
	struct sha256 sha256;
	struct canonical canonical;
	struct derived_key keys[KEYS];
	unsigned next;     /* the slot that is given away next */
	struct buf scope;  /* of the signature being made */
	struct buf string; /* its string to sign */
};

int signer_new(struct signer **ret_signer)
{
	_cleanup_(signer_freep) struct signer *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->scope = BUF_INIT(SCOPE_MAX);
	s->string = BUF_INIT(STRING_MAX);
	r = sha256_init(&s->sha256);
	if (r >= 0)
		r = canonical_init(&s->canonical, &s->sha256);
	if (r < 0)
		return r;
	*ret_signer = TAKE_PTR(s);
	return 0;
}

static void derived_key_drop(struct derived_key *key)
{
	secret_free(key->key);
	*key = (struct derived_key){0};
}

void signer_forget(struct signer *s)
{
	for (size_t i = 0; i < KEYS; i++)
		derived_key_drop(&s->keys[i]);
	canonical_forget(&s->canonical);
}

struct signer *signer_free(struct signer *s)
{
	if (!s)
		return NULL;
	signer_forget(s);
	canonical_done(&s->canonical);
	sha256_done(&s->sha256);
	buf_done(&s->scope);
	buf_done(&s->string);
	free(s);
	return NULL;
}

/* A slash would let two (region, service) pairs share a scope, by which keys are kept. */
static int check_scope_part(struct slice part, size_t max)
{
	if (part.n > max)
		return -EMSGSIZE;
	return part.n == 0 || memchr(part.p, '/', part.n) ? -EINVAL : 0;
}

/* DATE/REGION/SERVICE/aws4_request, into s->scope. */
static int write_scope(struct signer *s, const struct sigv4_request *request, usec_t wall)
{
	const struct slice parts[] = {
		{canonical_amz_date(&s->canonical, wall).p, DATE_SIZE},
		SLICE("/"),
		request->region,
		SLICE("/"),
		request->service,
		SLICE("/" SCOPE_END),
	};
	int r = check_scope_part(request->region, REGION_MAX);

	if (r >= 0)
		r = check_scope_part(request->service, SERVICE_MAX);
	if (r < 0)
		return r;
	s->scope.n = 0;
	return buf_append_all(&s->scope, parts, ELEMENTSOF(parts));
}

int sigv4_canonical_request(struct signer *s, const struct credentials *credentials,
			    const struct sigv4_request *request, usec_t wall, struct buf *out)
{
	return canonical_write(&s->canonical, credentials, request, wall, out);
}

int sigv4_string_to_sign(struct signer *s, const struct credentials *credentials,
			 const struct sigv4_request *request, usec_t wall, struct buf *out)
{
	unsigned char digest[SHA256_SIZE];
	int r = write_scope(s, request, wall);
	const struct slice parts[] = {
		SLICE(ALGORITHM "\n"), canonical_amz_date(&s->canonical, wall),
		SLICE("\n"),           buf_slice(&s->scope),
		SLICE("\n"),
	};

	/* What is kept for one that has none would serve for the next that has none. */
	if (r >= 0 && credentials->serial == 0)
		r = -EINVAL;
	if (r < 0)
		return r;
	r = canonical_hash(&s->canonical, credentials, request, wall, digest);
	if (r >= 0)
		r = buf_append_all(out, parts, ELEMENTSOF(parts));
	return r < 0 ? r : sha256_append_hex(digest, out);
}

/* HMAC(HMAC(HMAC(HMAC("AWS4" secret, date), region), service), "aws4_request"): each step's
 * result is the key of the next. */
static int derive(struct signer *s, const struct credentials *credentials,
		  const struct sigv4_request *request, struct slice date,
		  unsigned char *ret_key)
{
	const struct slice steps[] = {date, request->region, request->service,
				      SLICE(SCOPE_END)};
	struct slice secret = slice_from(credentials->secret_access_key);
	unsigned char key[4 + SECRET_MAX] = "AWS4";
	size_t n = 4 + secret.n;
	int r = 0;

	if (secret.n > SECRET_MAX)
		return -EMSGSIZE;
	memcpy(key + 4, secret.p, secret.n);
	for (size_t i = 0; i < ELEMENTSOF(steps) && r >= 0; i++) {
		r = sha256_mac(&s->sha256, (struct slice){(char *)key, n}, steps[i], key);
		n = SHA256_SIZE;
	}
	if (r >= 0)
		memcpy(ret_key, key, SHA256_SIZE);
	explicit_bzero(key, sizeof(key));
	return r;
}

static int derived_key_make(struct signer *s, struct derived_key *key,
			    const struct credentials *credentials,
			    const struct sigv4_request *request, usec_t wall)
{
	int r;

	derived_key_drop(key);
	key->key = secret_alloc(SHA256_SIZE);
	if (!key->key)
		return -EIO;
	r = derive(s, credentials, request,
		   (struct slice){canonical_amz_date(&s->canonical, wall).p, DATE_SIZE},
		   key->key);
	if (r < 0) {
		derived_key_drop(key);
		return r;
	}
	key->serial = credentials->serial;
	key->scope_n = s->scope.n;
	memcpy(key->scope, s->scope.p, s->scope.n);
	return 0;
}

/* Drops the keys of all other credentials: they have rotated. */
static struct derived_key *find_key(struct signer *s, uint64_t serial, struct slice scope)
{
	struct derived_key *found = NULL;

	for (size_t i = 0; i < KEYS; i++) {
		struct derived_key *key = &s->keys[i];

		if (!key->key)
			continue;
		if (key->serial != serial)
			derived_key_drop(key);
		else if (slice_eq((struct slice){key->scope, key->scope_n}, scope))
			found = key;
	}
	return found;
}

/* OpenSSL wipes the state of a hash, but not what its functions saved of it on the stack below
 * us. */
__attribute__((noinline)) static void wipe_stack(void)
{
	_uninitialized_ unsigned char below[4096];

	explicit_bzero(below, sizeof(below));
}

/* The MAC of s->string with the key for these credentials and s->scope. */
static int make_signature(struct signer *s, const struct credentials *credentials,
			  const struct sigv4_request *request, usec_t wall,
			  unsigned char *ret_mac)
{
	struct derived_key *key = find_key(s, credentials->serial, buf_slice(&s->scope));
	int r = 0;

	if (!key) {
		key = &s->keys[s->next];
		s->next = (s->next + 1) % KEYS;
		r = derived_key_make(s, key, credentials, request, wall);
	}
	if (r >= 0)
		r = sha256_mac(&s->sha256, (struct slice){(char *)key->key, SHA256_SIZE},
			       buf_slice(&s->string), ret_mac);
	wipe_stack();
	return r;
}

/* Puts the parts into the fixed text of the signature; false if they don't fit. */
static bool write_authorization(struct sigv4_signature *signature, const struct slice *parts,
				size_t n)
{
	size_t at = 0;

	for (size_t i = 0; i < n; i++)
		at += parts[i].n;
	if (at >= sizeof(signature->authorization))
		return false;
	at = 0;
	for (size_t i = 0; i < n; i++) {
		memcpy(signature->authorization + at, parts[i].p, parts[i].n);
		at += parts[i].n;
	}
	signature->authorization[at] = '\0';
	signature->authorization_n = at;
	return true;
}

int sigv4_sign(struct signer *s, const struct credentials *credentials,
	       const struct sigv4_request *request, usec_t wall,
	       struct sigv4_signature *ret_signature)
{
	unsigned char digest[SHA256_SIZE];
	char hex[2 * SHA256_SIZE];
	int r;

	s->string.n = 0;
	r = sigv4_string_to_sign(s, credentials, request, wall, &s->string);
	if (r >= 0)
		r = make_signature(s, credentials, request, wall, digest);
	if (r < 0)
		return r;
	sha256_to_hex(digest, hex);

	const struct slice parts[] = {
		SLICE(ALGORITHM " Credential="),
		slice_from(credentials->access_key_id),
		SLICE("/"),
		buf_slice(&s->scope),
		SLICE(", SignedHeaders="),
		canonical_signed_headers(credentials, request),
		SLICE(", Signature="),
		{hex, sizeof(hex)},
	};

	if (!write_authorization(ret_signature, parts, ELEMENTSOF(parts)))
		return -EMSGSIZE;
	memcpy(ret_signature->amz_date, canonical_amz_date(&s->canonical, wall).p,
	       sizeof(ret_signature->amz_date));
	return 0;
}
