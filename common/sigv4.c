/* SPDX-License-Identifier: Apache-2.0 */
#include "sigv4.h"

#include "secret.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <string.h>

#define HASH_SIZE 32  /* SHA-256 */
#define BLOCK_SIZE 64 /* what it works on at once */
#define DATE_SIZE 8   /* YYYYMMDD, the head of an X-Amz-Date */
#define REGION_MAX 64
#define SERVICE_MAX 32
#define SECRET_MAX 256
#define SCOPE_MAX (DATE_SIZE + 1 + REGION_MAX + 1 + SERVICE_MAX + sizeof("/aws4_request"))
#define TEXT_MAX ((size_t)24 * 1024) /* a canonical request: the token alone may be 16 KiB */
#define STRING_MAX ((size_t)512)     /* a string to sign */
#define KEYS 4 /* derived keys that are kept: enclaves may use endpoints in a few regions */

#define ALGORITHM "AWS4-HMAC-SHA256"
#define SCOPE_END "aws4_request"

struct derived_key {
	unsigned char *key; /* HASH_SIZE bytes, a secret; NULL: the slot is empty */
	uint64_t serial;
	char scope[SCOPE_MAX];
	size_t scope_n;
};

struct signer {
	EVP_MD *sha256;
	EVP_MD_CTX *hash;
	struct derived_key keys[KEYS];
	unsigned next;     /* the slot that is given away next */
	struct buf scope;  /* of the signature being made */
	struct buf text;   /* its canonical request; wiped behind each signature */
	struct buf string; /* its string to sign */
	usec_t second;     /* of amz_date: most signatures share their second */
	char amz_date[CLOCK_AMZ_DATE_SIZE];
};

int signer_new(struct signer **ret_signer)
{
	_cleanup_(signer_freep) struct signer *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->scope = BUF_INIT(SCOPE_MAX);
	s->text = BUF_INIT(TEXT_MAX);
	s->string = BUF_INIT(STRING_MAX);
	s->second = -1;
	/* Fetched once: EVP_sha256() takes a lock and looks for a provider at each use, which
	 * costs more than the hash of a short body. */
	s->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
	s->hash = EVP_MD_CTX_new();
	if (!s->sha256 || !s->hash)
		return -EIO;
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
}

struct signer *signer_free(struct signer *s)
{
	if (!s)
		return NULL;
	signer_forget(s);
	EVP_MD_CTX_free(s->hash);
	EVP_MD_free(s->sha256);
	buf_done(&s->scope);
	buf_done(&s->text);
	buf_done(&s->string);
	free(s);
	return NULL;
}

static void to_hex(const unsigned char *bytes, char *out)
{
	static const char hex[] = "0123456789abcdef";

	for (size_t i = 0; i < HASH_SIZE; i++) {
		out[2 * i] = hex[bytes[i] >> 4];
		out[2 * i + 1] = hex[bytes[i] & 15];
	}
}

/* The SHA-256 of two texts, one behind the other. */
static int hash(struct signer *s, struct slice first, struct slice second,
		unsigned char *ret_digest)
{
	if (!EVP_DigestInit_ex2(s->hash, s->sha256, NULL) ||
	    !EVP_DigestUpdate(s->hash, first.p, first.n) ||
	    !EVP_DigestUpdate(s->hash, second.p, second.n) ||
	    !EVP_DigestFinal_ex(s->hash, ret_digest, NULL))
		return -EIO;
	return 0;
}

/* Appends the SHA-256 of `text` in hex. */
static int append_hash(struct signer *s, struct slice text, struct buf *out)
{
	unsigned char digest[HASH_SIZE];
	char hex[2 * HASH_SIZE];
	int r = hash(s, text, (struct slice){0}, digest);

	if (r < 0)
		return r;
	to_hex(digest, hex);
	return buf_append(out, (struct slice){hex, sizeof(hex)});
}

static struct slice amz_date(struct signer *s, usec_t wall)
{
	if (wall / USEC_PER_SEC != s->second) {
		clock_format_amz_date(wall, s->amz_date);
		s->second = wall / USEC_PER_SEC;
	}
	return (struct slice){s->amz_date, sizeof(s->amz_date) - 1};
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
		{amz_date(s, wall).p, DATE_SIZE},
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

static struct slice signed_headers(const struct credentials *credentials,
				   const struct sigv4_request *request)
{
	static const char *const names[2][2] = {
		{"content-type;host;x-amz-date", "content-type;host;x-amz-date;x-amz-target"},
		{"content-type;host;x-amz-date;x-amz-security-token",
		 "content-type;host;x-amz-date;x-amz-security-token;x-amz-target"},
	};

	return slice_from(names[credentials->session_token != NULL][request->target.n > 0]);
}

int sigv4_canonical_request(struct signer *s, const struct credentials *credentials,
			    const struct sigv4_request *request, usec_t wall, struct buf *out)
{
	const struct slice none = {NULL, 0};
	bool token = credentials->session_token, target = request->target.n > 0;
	const struct slice parts[] = {
		SLICE("POST\n/\n\ncontent-type:"),
		request->content_type,
		SLICE("\nhost:"),
		request->host,
		SLICE("\nx-amz-date:"),
		amz_date(s, wall),
		token ? SLICE("\nx-amz-security-token:") : none,
		slice_from(credentials->session_token),
		target ? SLICE("\nx-amz-target:") : none,
		request->target,
		SLICE("\n\n"),
		signed_headers(credentials, request),
		SLICE("\n"),
	};
	int r = buf_append_all(out, parts, ELEMENTSOF(parts));

	return r < 0 ? r : append_hash(s, request->body, out);
}

int sigv4_string_to_sign(struct signer *s, const struct credentials *credentials,
			 const struct sigv4_request *request, usec_t wall, struct buf *out)
{
	int r = write_scope(s, request, wall);
	const struct slice parts[] = {
		SLICE(ALGORITHM "\n"), amz_date(s, wall), SLICE("\n"),
		buf_slice(&s->scope),  SLICE("\n"),
	};

	if (r < 0)
		return r;
	r = sigv4_canonical_request(s, credentials, request, wall, &s->text);
	if (r >= 0)
		r = buf_append_all(out, parts, ELEMENTSOF(parts));
	if (r >= 0)
		r = append_hash(s, buf_slice(&s->text), out);
	if (s->text.p)
		explicit_bzero(s->text.p, s->text.n); /* the session token */
	s->text.n = 0;
	return r;
}

/* HMAC (RFC 2104) from the hash that is at hand. OpenSSL's own keeps the key in the ordinary
 * heap until another is set, and costs three times as much for a text this short. Here nothing
 * stays of the key: the hash of the outer pad writes over the state of the inner one, and
 * OpenSSL wipes the block it ended with. The result stays until the next hash, and the last one
 * is public. */
static int mac(struct signer *s, struct slice key, struct slice text, unsigned char *ret_mac)
{
	unsigned char inner[BLOCK_SIZE] = {0}, outer[BLOCK_SIZE], digest[HASH_SIZE];
	int r = 0;

	if (key.n > BLOCK_SIZE)
		r = hash(s, key, (struct slice){0}, inner);
	else
		memcpy(inner, key.p, key.n);
	for (size_t i = 0; i < BLOCK_SIZE; i++) {
		outer[i] = inner[i] ^ 0x5c;
		inner[i] ^= 0x36;
	}
	if (r >= 0)
		r = hash(s, (struct slice){(char *)inner, BLOCK_SIZE}, text, digest);
	if (r >= 0)
		r = hash(s, (struct slice){(char *)outer, BLOCK_SIZE},
			 (struct slice){(char *)digest, HASH_SIZE}, ret_mac);
	explicit_bzero(inner, sizeof(inner));
	explicit_bzero(outer, sizeof(outer));
	explicit_bzero(digest, sizeof(digest));
	return r;
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
		r = mac(s, (struct slice){(char *)key, n}, steps[i], key);
		n = HASH_SIZE;
	}
	if (r >= 0)
		memcpy(ret_key, key, HASH_SIZE);
	explicit_bzero(key, sizeof(key));
	return r;
}

static int derived_key_make(struct signer *s, struct derived_key *key,
			    const struct credentials *credentials,
			    const struct sigv4_request *request, usec_t wall)
{
	int r;

	derived_key_drop(key);
	key->key = secret_alloc(HASH_SIZE);
	if (!key->key)
		return -EIO;
	r = derive(s, credentials, request, (struct slice){amz_date(s, wall).p, DATE_SIZE},
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

/* OpenSSL wipes the state of a hash, but not what its functions saved of it below us. */
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
		r = mac(s, (struct slice){(char *)key->key, HASH_SIZE}, buf_slice(&s->string),
			ret_mac);
	wipe_stack();
	return r;
}

/* Puts the parts into the fixed text of the signature; false if they don't fit. */
static bool write_authorization(struct sigv4_signature *signature, const struct slice *parts,
				size_t n)
{
	size_t at = 0;

	for (size_t i = 0; i < n; i++) {
		if (parts[i].n >= sizeof(signature->authorization) - at)
			return false;
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
	struct sigv4_signature signature;
	unsigned char digest[HASH_SIZE];
	char hex[2 * HASH_SIZE];
	int r;

	s->string.n = 0;
	r = sigv4_string_to_sign(s, credentials, request, wall, &s->string);
	if (r >= 0)
		r = make_signature(s, credentials, request, wall, digest);
	if (r < 0)
		return r;
	to_hex(digest, hex);

	const struct slice parts[] = {
		SLICE(ALGORITHM " Credential="),
		slice_from(credentials->access_key_id),
		SLICE("/"),
		buf_slice(&s->scope),
		SLICE(", SignedHeaders="),
		signed_headers(credentials, request),
		SLICE(", Signature="),
		{hex, sizeof(hex)},
	};

	if (!write_authorization(&signature, parts, ELEMENTSOF(parts)))
		return -EMSGSIZE;
	memcpy(signature.amz_date, amz_date(s, wall).p, sizeof(signature.amz_date));
	*ret_signature = signature;
	return 0;
}
