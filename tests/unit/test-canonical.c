/* SPDX-License-Identifier: Apache-2.0 */
#define OPENSSL_SUPPRESS_DEPRECATED /* the state of a hash is seen in the old SHA256_CTX only  \
				     */

#include "canonical.h"

#include "failing_malloc.h"
#include "secret.h"

#include <check.h>
#include <dlfcn.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdio.h>

#define WALL ((usec_t)1767323045 * USEC_PER_SEC) /* 2026-01-02T03:04:05Z */

static char letters[16400];
static struct sha256 sha256;
static struct canonical canonical;

static void setup(void)
{
	ck_assert_int_eq(sha256_init(&sha256), 0);
	ck_assert_int_eq(canonical_init(&canonical, &sha256), 0);
}

static void teardown(void)
{
	canonical_done(&canonical);
	sha256_done(&sha256);
}

/* What may differ between two requests, a value of each. */
enum part { SECOND, HOST, CONTENT_TYPE, TOKEN, TARGET, BODY, _PART_MAX };

/* More hosts than are kept; with the content types some give the same text, cut elsewhere. */
static const char *const hosts[] = {"kms.eu-central-1.amazonaws.com",  "b", "ab", "a", "c",
				    "kms.us-east-1.amazonaws.com:8443"};
static const char *const content_types[] = {"application/x-amz-json-1.1", "t", "ta"};
static const char *const targets[] = {"", "TrentService.Encrypt", "TrentService.Decrypt"};
static const size_t body_sizes[] = {0, 200, 64, 5000};
static const usec_t walls[] = {0, 1, USEC_PER_SEC, 86400 * USEC_PER_SEC};

/* Of each size two: with another first byte, with another last one. */
static const size_t token_sizes[] = {0, 1, 63, 64, 65, 255, 256, 257, 300, 1024, 16384};
#define TOKENS (3 * ELEMENTSOF(token_sizes))
#define TOKEN_OF_1024 (3 * 9)

static const size_t part_sizes[] = {
	[SECOND] = ELEMENTSOF(walls),
	[HOST] = ELEMENTSOF(hosts),
	[CONTENT_TYPE] = ELEMENTSOF(content_types),
	[TOKEN] = TOKENS,
	[TARGET] = ELEMENTSOF(targets),
	[BODY] = ELEMENTSOF(body_sizes),
};

/* A request by the indices of its parts, and the credentials to it. */
struct made {
	size_t parts[_PART_MAX];
	char token[16385];
	struct credentials credentials;
	struct sigv4_request request;
	usec_t wall;
};

static void make(struct made *m)
{
	static char body[5000];
	size_t n = token_sizes[m->parts[TOKEN] / 3], variant = m->parts[TOKEN] % 3;

	snprintf(m->token, sizeof(m->token), "%.*s", (int)n, letters);
	if (n && variant)
		m->token[variant == 1 ? 0 : n - 1] = 'b';
	m->credentials = (struct credentials){
		.serial = 100 + m->parts[TOKEN],
		.access_key_id = (char *)"AKIDEXAMPLE",
		.secret_access_key = (char *)"secret",
		.session_token = n ? m->token : NULL,
	};
	m->request = (struct sigv4_request){
		.host = slice_from(hosts[m->parts[HOST]]),
		.region = SLICE("eu-central-1"),
		.service = SLICE("kms"),
		.content_type = slice_from(content_types[m->parts[CONTENT_TYPE]]),
		.target = slice_from(targets[m->parts[TARGET]]),
		.body = {body, body_sizes[m->parts[BODY]]},
	};
	m->wall = WALL + walls[m->parts[SECOND]];
}

static struct buf text_of(const struct made *m)
{
	struct buf text = BUF_INIT(65536);
	struct canonical fresh;

	ck_assert_int_eq(canonical_init(&fresh, &sha256), 0);
	ck_assert_int_eq(canonical_write(&fresh, &m->credentials, &m->request, m->wall, &text),
			 0);
	canonical_done(&fresh);
	return text;
}

/* Compares with the text as a whole, hashed by OpenSSL in one go. */
static void assert_hash(const struct made *m)
{
	struct buf text = text_of(m);
	unsigned char got[SHA256_SIZE], want[SHA256_SIZE];

	ck_assert(EVP_Digest(text.p, text.n, want, NULL, EVP_sha256(), NULL));
	ck_assert_int_eq(canonical_hash(&canonical, &m->credentials, &m->request, m->wall, got),
			 0);
	ck_assert_mem_eq(got, want, sizeof(want));
	ck_assert_uint_eq(canonical.text.n, 0);
	buf_done(&text);
}

START_TEST(test_kept_hash)
{
	static struct made m; /* all parts 0 */
	uint32_t random = 1;

	for (int i = 0; i < 4000; i++) {
		enum part part;

		random = random * 1664525 + 1013904223;
		part = (random >> 16) % _PART_MAX;
		m.parts[part] = (random >> 20) % part_sizes[part];
		make(&m);
		assert_hash(&m);
	}
}
END_TEST

/* Each part alone, there and back: what chance might not have met. */
START_TEST(test_kept_hash_of_another)
{
	static struct made m;
	enum part part = (enum part)_i;

	for (size_t token = 0; token < TOKENS; token++)
		for (size_t i = 0; i < part_sizes[part]; i++)
			for (size_t j = 0; j < 2; j++) {
				memset(m.parts, 0, sizeof(m.parts));
				m.parts[TOKEN] = token;
				if (j)
					m.parts[part] = i;
				make(&m);
				assert_hash(&m);
			}
}
END_TEST

START_TEST(test_a_host_too_long_to_keep)
{
	static char host[2000];
	static struct made m;

	m.parts[TOKEN] = TOKEN_OF_1024;
	make(&m);
	memset(host, 'h', sizeof(host));
	for (size_t n = 0; n < sizeof(host); n += n < 300 ? 1 : 100) {
		m.request.host = (struct slice){host, n};
		assert_hash(&m);
		m.request.host = SLICE("h");
		m.request.content_type = (struct slice){host, n};
		assert_hash(&m);
	}
}
END_TEST

/* ---- OpenSSL's memory ---- */

/* While `in_arena` all that OpenSSL allocates lies here, and what it frees is left as it is. */
static _Alignas(16) char arena[1 << 20];
static size_t arena_n;
static bool in_arena;

static bool of_arena(const void *p)
{
	return (const char *)p >= arena && (const char *)p < arena + sizeof(arena);
}

static void *openssl_malloc(size_t n, const char *file, int line)
{
	char *p = arena + arena_n;

	(void)file;
	(void)line;
	if (!in_arena)
		return malloc(n); /* it may be made to fail */
	n = (n + 15) / 16 * 16;
	if (n > sizeof(arena) - arena_n)
		abort();
	arena_n += n;
	return p;
}

static void *openssl_realloc(void *p, size_t n, const char *file, int line)
{
	(void)file;
	(void)line;
	if (in_arena || of_arena(p))
		abort(); /* no hash needs it */
	return realloc(p, n);
}

static void openssl_free(void *p, const char *file, int line)
{
	(void)file;
	(void)line;
	if (!of_arena(p))
		free(p);
}

/* The eight words of SHA-256 after the whole blocks up to the end of the token. */
static struct slice kept_state(const struct made *m, SHA256_CTX *context)
{
	struct buf text = text_of(m);
	const char *token = memmem(text.p, text.n, m->token, strlen(m->token));
	size_t n;

	ck_assert_ptr_nonnull(token);
	n = (size_t)(token - text.p) + strlen(m->token);
	SHA256_Init(context);
	SHA256_Update(context, text.p, n - n % SHA256_CBLOCK);
	buf_done(&text);
	return (struct slice){(char *)context->h, sizeof(context->h)};
}

static bool in_openssl(struct slice text)
{
	return memmem(arena, sizeof(arena), text.p, text.n);
}

static void forget(struct signer **signer, const struct made *m)
{
	(void)m;
	signer_forget(*signer);
}

static void free_it(struct signer **signer, const struct made *m)
{
	(void)m;
	*signer = signer_free(*signer);
}

static void rotate(struct signer **signer, const struct made *m)
{
	struct credentials fresh = m->credentials;
	struct sigv4_signature got;

	fresh.serial++;
	fresh.session_token = (char *)letters;
	ck_assert_int_eq(sigv4_sign(*signer, &fresh, &m->request, m->wall, &got), 0);
}

static void lose_the_token(struct signer **signer, const struct made *m)
{
	struct credentials fresh = m->credentials;
	struct sigv4_signature got;

	fresh.serial++;
	fresh.session_token = NULL;
	ck_assert_int_eq(sigv4_sign(*signer, &fresh, &m->request, m->wall, &got), 0);
}

/* How a signer is told that credentials are no longer good. */
static const struct {
	const char *what;
	void (*end)(struct signer **signer, const struct made *m);
} ends[] = {{"forget", forget},
	    {"free", free_it},
	    {"rotate", rotate},
	    {"long-term credentials", lose_the_token}};

START_TEST(test_what_is_kept_is_wiped)
{
	static struct made m;
	struct signer *signer = NULL;
	struct sigv4_signature got;
	struct slice states[CANONICAL_PREFIXES], end;
	SHA256_CTX contexts[CANONICAL_PREFIXES];

	m.parts[TOKEN] = TOKEN_OF_1024;
	make(&m);
	for (size_t i = 0; i < 1024; i++) /* bytes to be told apart */
		m.token[i] = (char)('!' + (i * i / 7 + i) % 90);
	end = (struct slice){m.token + 1024 - 8, 8};
	ck_assert_int_eq(secret_init(), 0); /* the derived keys lie there */
	ck_assert_int_eq(signer_new(&signer), 0);
	in_arena = true;
	for (size_t i = 0; i < ELEMENTSOF(states); i++) {
		m.request.host = slice_from(hosts[i]);
		ck_assert_int_eq(sigv4_sign(signer, &m.credentials, &m.request, m.wall, &got),
				 0);
		states[i] = kept_state(&m, &contexts[i]);
	}
	for (size_t i = 0; i < ELEMENTSOF(states); i++)
		ck_assert(in_openssl(states[i]));
	ck_assert(!in_openssl(end)); /* of the token itself it has nothing, kept or not */

	ends[_i].end(&signer, &m);
	for (size_t i = 0; i < ELEMENTSOF(states); i++)
		ck_assert_msg(!in_openssl(states[i]), "%s leaves state %zu", ends[_i].what, i);
	ck_assert(!in_openssl(end));
	signer_free(signer);
	in_arena = false;
}
END_TEST

static void hash_other_hosts(struct made *m)
{
	for (size_t i = 1; i <= CANONICAL_PREFIXES; i++) {
		m->parts[HOST] = i;
		make(m);
		assert_hash(m);
	}
}

/* Whichever allocation fails, where nothing is kept yet and where others are: what is hashed
 * after it is right. */
START_TEST(test_no_memory)
{
	static struct made m, other;
	bool failed = true;

	m.parts[TOKEN] = other.parts[TOKEN] = TOKEN_OF_1024;
	make(&m);
	for (unsigned nth = 1; failed; nth++) {
		unsigned char digest[SHA256_SIZE];
		int r;

		teardown();
		setup();
		if (_i)
			hash_other_hosts(&other);
		failing_malloc_begin(nth);
		r = canonical_hash(&canonical, &m.credentials, &m.request, m.wall, digest);
		failed = failing_malloc_end();
		ck_assert_int_eq(r < 0, failed);
		ck_assert_msg(failed || nth > 2, "only %u allocations", nth - 1);
		hash_other_hosts(&other);
		assert_hash(&m);
	}
}
END_TEST

#ifndef __SANITIZE_ADDRESS__ /* which has its own way to OpenSSL's functions */
static unsigned begun;

/* The calls come here, the executable being before libcrypto. */
int EVP_DigestInit_ex2(EVP_MD_CTX *context, const EVP_MD *type, const OSSL_PARAM params[])
{
	static int (*original)(EVP_MD_CTX *, const EVP_MD *, const OSSL_PARAM[]);

	if (!original)
		original = dlsym(RTLD_NEXT, "EVP_DigestInit_ex2");
	begun++;
	return original(context, type, params);
}

/* How many hashes are begun for a request: of the body, and of the prefix if it isn't kept. */
static unsigned hashes_of(const struct made *m)
{
	unsigned char digest[SHA256_SIZE];

	begun = 0;
	ck_assert_int_eq(
		canonical_hash(&canonical, &m->credentials, &m->request, m->wall, digest), 0);
	return begun;
}

/* Hashes that are right don't show that any is kept. */
START_TEST(test_the_hash_is_kept)
{
	static struct made m;

	m.parts[TOKEN] = TOKEN_OF_1024;
	make(&m);
	for (size_t i = 0; i < CANONICAL_PREFIXES; i++) {
		m.parts[HOST] = i;
		make(&m);
		ck_assert_uint_eq(hashes_of(&m), 2);
	}
	for (size_t i = 0; i < 100; i++) { /* all of them, in turn */
		m.parts[HOST] = i % CANONICAL_PREFIXES;
		m.parts[BODY] = i % ELEMENTSOF(body_sizes);
		m.parts[TARGET] = i % ELEMENTSOF(targets);
		m.parts[SECOND] = i % 2; /* a microsecond later is the same second */
		make(&m);
		ck_assert_uint_eq(hashes_of(&m), 1);
	}
	m.parts[SECOND] = 2;
	make(&m);
	ck_assert_uint_eq(hashes_of(&m), 2);
	ck_assert_uint_eq(hashes_of(&m), 1);
}
END_TEST

#endif

int main(void)
{
	Suite *suite = suite_create("canonical");
	TCase *tcase = tcase_create("canonical");
	SRunner *runner = srunner_create(suite);
	int failed;

	if (!CRYPTO_set_mem_functions(openssl_malloc, openssl_realloc, openssl_free))
		abort();
	memset(letters, 'a', sizeof(letters) - 1);
	suite_add_tcase(suite, tcase);
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, test_kept_hash);
	tcase_add_loop_test(tcase, test_kept_hash_of_another, 0, _PART_MAX);
	tcase_add_test(tcase, test_a_host_too_long_to_keep);
	tcase_add_loop_test(tcase, test_what_is_kept_is_wiped, 0, ELEMENTSOF(ends));
	tcase_add_loop_test(tcase, test_no_memory, 0, 2);
#ifndef __SANITIZE_ADDRESS__
	tcase_add_test(tcase, test_the_hash_is_kept);
#endif
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
