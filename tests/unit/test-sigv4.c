/* SPDX-License-Identifier: Apache-2.0 */
#include "sigv4.h"

#include <check.h>
#include <dlfcn.h>
#include <errno.h>
#include <json-c/json.h>
#include <openssl/hmac.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define VECTORS 13
#define DERIVATION 2 /* hashes before that of the key: of the body, of the request */
#define HASHES (DERIVATION + 10) /* two for each of four steps, two for the signature */
#define WALL ((usec_t)1767323045 * USEC_PER_SEC) /* 2026-01-02T03:04:05Z, of all vectors */

/* One vector with what the signer takes, made from it. */
struct vector {
	struct json_object *json;
	struct credentials
		credentials; /* on the stack: AKIDEXAMPLE is shorter than real ids are */
	struct sigv4_request request;
	char body[4096];
};

static struct json_object *vectors;
static struct signer *signer;

static void setup(void)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/sigv4/kms-sigv4-vectors.json", getenv("TEST_DATA"));
	vectors = json_object_from_file(path);
	ck_assert_ptr_nonnull(vectors);
	ck_assert_uint_eq(json_object_array_length(vectors), VECTORS);
	ck_assert_int_eq(signer_new(&signer), 0);
}

static void teardown(void)
{
	signer = signer_free(signer);
	json_object_put(vectors);
}

/* NULL where the vector has none. */
static const char *text(struct json_object *object, const char *name)
{
	struct json_object *value = NULL;

	ck_assert_msg(json_object_object_get_ex(object, name, &value), "no %s", name);
	return value ? json_object_get_string(value) : NULL;
}

static struct slice unhex(const char *hex, char *out, size_t size)
{
	size_t n = strlen(hex) / 2;

	ck_assert_uint_le(n, size);
	for (size_t i = 0; i < n; i++) {
		unsigned byte;

		ck_assert_int_eq(sscanf(hex + 2 * i, "%2x", &byte), 1);
		out[i] = (char)byte;
	}
	return (struct slice){out, n};
}

static struct slice host_of(const char *url)
{
	ck_assert_int_eq(strncmp(url, "https://", 8), 0);
	return (struct slice){url + 8, strcspn(url + 8, "/")};
}

static void load(int index, struct vector *v)
{
	struct json_object *headers = NULL;

	v->json = json_object_array_get_idx(vectors, (size_t)index);
	ck_assert(json_object_object_get_ex(v->json, "request_headers", &headers));
	v->credentials = (struct credentials){
		.serial = (uint64_t)index + 1,
		.access_key_id = (char *)text(v->json, "access_key_id"),
		.secret_access_key = (char *)text(v->json, "secret_access_key"),
		.session_token = (char *)text(v->json, "session_token"),
	};
	v->request = (struct sigv4_request){
		.host = host_of(text(v->json, "url")),
		.region = slice_from(text(v->json, "region")),
		.service = slice_from(text(v->json, "service")),
		.content_type = slice_from(text(headers, "Content-Type")),
		.target = slice_from(text(v->json, "target")),
		.body = unhex(text(v->json, "body_hex"), v->body, sizeof(v->body)),
	};
	ck_assert_str_eq(text(v->json, "timestamp"), "20260102T030405Z");
}

/* This vector signs X-Amz-Content-SHA256, which is optional and which we never send. What
 * applies to us of it: without that header it is the request of another vector,
 * user-agent-unsigned (headers that aren't signed), so its signature must be that one's. */
static const char *expected(const struct vector *v, const char *what)
{
	struct json_object *twin = v->json;

	if (strcmp(text(v->json, "name"), "content-sha256-header") == 0)
		for (size_t i = 0; i < VECTORS; i++) {
			twin = json_object_array_get_idx(vectors, i);
			if (strcmp(text(twin, "name"), "user-agent-unsigned") == 0)
				break;
		}
	ck_assert_str_eq(text(twin, "body_hex"), text(v->json, "body_hex"));
	return text(twin, what);
}

static void assert_buf(struct buf *b, const char *want)
{
	ck_assert_int_eq(buf_append(b, (struct slice){"", 1}), 0);
	ck_assert_str_eq(b->p, want);
	buf_done(b);
}

START_TEST(test_vector)
{
	struct buf canonical = BUF_INIT(65536), string = BUF_INIT(65536);
	struct sigv4_signature got;
	struct vector v;

	load(_i, &v);
	ck_assert_int_eq(
		sigv4_canonical_request(signer, &v.credentials, &v.request, WALL, &canonical),
		0);
	assert_buf(&canonical, expected(&v, "canonical_request"));
	ck_assert_int_eq(
		sigv4_string_to_sign(signer, &v.credentials, &v.request, WALL, &string), 0);
	assert_buf(&string, expected(&v, "string_to_sign"));

	for (int again = 0; again < 3; again++) { /* from the second on with the key kept */
		ck_assert_int_eq(sigv4_sign(signer, &v.credentials, &v.request, WALL, &got), 0);
		ck_assert_str_eq(got.authorization, expected(&v, "authorization"));
		ck_assert_uint_eq(got.authorization_n, strlen(got.authorization));
		ck_assert_str_eq(got.amz_date, "20260102T030405Z");
	}
	ck_assert_ptr_nonnull(strstr(got.authorization, expected(&v, "signature")));
}
END_TEST

/* The keys that a signer keeps must not be taken for another's. `fresh` keeps none. */
static void assert_like_fresh(const struct credentials *c, const struct sigv4_request *request,
			      usec_t wall)
{
	_cleanup_(signer_freep) struct signer *fresh = NULL;
	struct sigv4_signature kept, want;

	ck_assert_int_eq(signer_new(&fresh), 0);
	ck_assert_int_eq(sigv4_sign(fresh, c, request, wall, &want), 0);
	ck_assert_int_eq(sigv4_sign(signer, c, request, wall, &kept), 0);
	ck_assert_str_eq(kept.authorization, want.authorization);
	ck_assert_str_eq(kept.amz_date, want.amz_date);
}

START_TEST(test_kept_keys)
{
	const char *const regions[] = {"us-east-1", "eu-west-1",  "eu-west-2",
				       "us-west-1", "ap-south-1", "sa-east-1"};
	struct vector v;
	struct credentials rotated;

	load(0, &v);
	rotated = v.credentials;
	rotated.serial += 1000;
	rotated.secret_access_key = (char *)"another/secret";
	for (int round = 0; round < 3; round++)
		for (size_t i = 0; i < ELEMENTSOF(regions); i++) {
			v.request.region = slice_from(regions[i]);
			assert_like_fresh(&v.credentials, &v.request, WALL);
			v.request.service = SLICE("sts");
			assert_like_fresh(&v.credentials, &v.request, WALL);
			v.request.service = SLICE("kms");
			if (i % 2)
				assert_like_fresh(&rotated, &v.request, WALL);
		}
	signer_forget(signer);
	assert_like_fresh(&v.credentials, &v.request, WALL);
}
END_TEST

/* The scope's date and X-Amz-Date come from one value: they change together. */
START_TEST(test_midnight)
{
	usec_t midnight = (usec_t)1767312000 * USEC_PER_SEC; /* 2026-01-02T00:00:00Z */
	struct sigv4_signature got;
	struct vector v;

	load(0, &v);
	ck_assert_int_eq(sigv4_sign(signer, &v.credentials, &v.request, midnight - 1, &got), 0);
	ck_assert_str_eq(got.amz_date, "20260101T235959Z");
	ck_assert_ptr_nonnull(strstr(got.authorization, "/20260101/"));
	ck_assert_int_eq(sigv4_sign(signer, &v.credentials, &v.request, midnight, &got), 0);
	ck_assert_str_eq(got.amz_date, "20260102T000000Z");
	ck_assert_ptr_nonnull(strstr(got.authorization, "/20260102/"));
	assert_like_fresh(&v.credentials, &v.request, midnight - 1);
	assert_like_fresh(&v.credentials, &v.request, midnight);
}
END_TEST

static char letters[16400];

static const struct {
	const char *what;
	size_t region_n, service_n, key_n, secret_n, token_n;
	int want;
} sizes[] = {
	{"usual", 9, 3, 20, 40, 1000, 0},
	{"longest region", 64, 3, 20, 40, 0, 0},
	{"region too long", 65, 3, 20, 40, 0, -EMSGSIZE},
	{"no region", 0, 3, 20, 40, 0, -EINVAL},
	{"longest service", 9, 32, 20, 40, 0, 0},
	{"service too long", 9, 33, 20, 40, 0, -EMSGSIZE},
	{"no service", 9, 0, 20, 40, 0, -EINVAL},
	{"all at their longest", 64, 32, 128, 256, 16384, 0},
	{"secret too long", 9, 3, 20, 257, 0, -EMSGSIZE},
	{"key id that fills the header", 9, 3, 600, 40, 0, -EMSGSIZE},
	{"empty secret", 9, 3, 20, 0, 0, 0},
};

START_TEST(test_sizes)
{
	char key[700], secret[300], token[16400];
	struct credentials c = {.serial = (uint64_t)_i + 1,
				.access_key_id = key,
				.secret_access_key = secret,
				.session_token = sizes[_i].token_n ? token : NULL};
	struct sigv4_request request = {.host = SLICE("h"),
					.region = {letters, sizes[_i].region_n},
					.service = {letters, sizes[_i].service_n},
					.content_type = SLICE("t")};
	struct sigv4_signature got = {.amz_date = "untouched"};

	snprintf(key, sizeof(key), "%.*s", (int)sizes[_i].key_n, letters);
	snprintf(secret, sizeof(secret), "%.*s", (int)sizes[_i].secret_n, letters);
	snprintf(token, sizeof(token), "%.*s", (int)sizes[_i].token_n, letters);
	ck_assert_int_eq(sigv4_sign(signer, &c, &request, WALL, &got), sizes[_i].want);
	if (sizes[_i].want < 0)
		ck_assert_str_eq(got.amz_date, "untouched");
	else
		assert_like_fresh(&c, &request, WALL);
}
END_TEST

static void hmac(unsigned char *key, size_t key_n, struct slice text)
{
	unsigned n = 32;

	ck_assert_ptr_nonnull(HMAC(EVP_sha256(), key, (int)key_n, (const unsigned char *)text.p,
				   text.n, key, &n));
}

/* Around the 64 bytes of a block, "AWS4" included: a longer key is hashed first. */
static const size_t secret_sizes[] = {0, 1, 40, 59, 60, 61, 92, 93, 256};

START_TEST(test_openssl_agrees)
{
	size_t n = secret_sizes[_i];
	unsigned char key[4 + 256] = "AWS4";
	char secret[300], hex[65];
	struct credentials c = {.serial = 1000 + n,
				.access_key_id = (char *)"AKID",
				.secret_access_key = secret};
	struct sigv4_request request = {.host = SLICE("h"),
					.region = SLICE("eu-central-1"),
					.service = SLICE("kms"),
					.content_type = SLICE("t")};
	struct sigv4_signature got;
	struct buf string = BUF_INIT(1024);

	snprintf(secret, sizeof(secret), "%.*s", (int)n, letters);
	memcpy(key + 4, secret, n);
	ck_assert_int_eq(sigv4_sign(signer, &c, &request, WALL, &got), 0);
	ck_assert_int_eq(sigv4_string_to_sign(signer, &c, &request, WALL, &string), 0);
	hmac(key, 4 + n, (struct slice){got.amz_date, 8});
	hmac(key, 32, request.region);
	hmac(key, 32, request.service);
	hmac(key, 32, SLICE("aws4_request"));
	hmac(key, 32, buf_slice(&string));
	for (size_t i = 0; i < 32; i++)
		snprintf(hex + 2 * i, 3, "%02x", key[i]);
	ck_assert_str_eq(got.authorization + got.authorization_n - 64, hex);
	buf_done(&string);
}
END_TEST

START_TEST(test_slash)
{
	struct sigv4_signature got;
	struct vector v;

	load(0, &v);
	v.request.region = SLICE("us/east");
	ck_assert_int_eq(sigv4_sign(signer, &v.credentials, &v.request, WALL, &got), -EINVAL);
	v.request.region = SLICE("us");
	v.request.service = SLICE("east/kms");
	ck_assert_int_eq(sigv4_sign(signer, &v.credentials, &v.request, WALL, &got), -EINVAL);
}
END_TEST

/* Two that were never published have the same serial, none: the key of one must not sign for
 * the other. */
START_TEST(test_no_serial)
{
	struct sigv4_signature got;
	struct vector v;

	load(0, &v);
	v.credentials.serial = 0;
	ck_assert_int_eq(sigv4_sign(signer, &v.credentials, &v.request, WALL, &got), -EINVAL);
	v.credentials.serial = 1;
	ck_assert_int_eq(sigv4_sign(signer, &v.credentials, &v.request, WALL, &got), 0);
}
END_TEST

/* ---- what stays on the stack ---- */

#ifndef __SANITIZE_ADDRESS__ /* it has variables elsewhere, and forbids to read around them */
static _Alignas(64) char stack[256 * 1024];

/* What must not be there, and at which hash of the signature it is looked for: after the
 * derivation of the key, whose place later hashes would write over. */
static struct {
	int hashes, at;
	struct slice texts[16];
	size_t n_texts, n_found;
} scan;

/* The signer's calls come here, the executable being before libcrypto. */
int EVP_DigestInit_ex2(EVP_MD_CTX *context, const EVP_MD *type, const OSSL_PARAM params[])
{
	static int (*original)(EVP_MD_CTX *, const EVP_MD *, const OSSL_PARAM[]);

	if (!original)
		original = dlsym(RTLD_NEXT, "EVP_DigestInit_ex2");
	if (++scan.hashes == scan.at)
		for (size_t i = 0; i < scan.n_texts; i++)
			scan.n_found += memmem(stack, sizeof(stack), scan.texts[i].p,
					       scan.texts[i].n) != NULL;
	return original(context, type, params);
}

static void *sign_there(void *userdata)
{
	const struct vector *v = userdata;
	struct sigv4_signature got;

	ck_assert_int_eq(sigv4_sign(signer, &v->credentials, &v->request, WALL, &got), 0);
	return NULL;
}

/* Signs on `stack`, and returns how many of the texts are on it at the given hash. */
static size_t found_at(int hash, struct vector *v)
{
	pthread_attr_t attributes;
	pthread_t thread;

	memset(stack, 0, sizeof(stack));
	signer_forget(signer);
	scan.hashes = 0;
	scan.at = hash;
	scan.n_found = 0;
	ck_assert_int_eq(pthread_attr_init(&attributes), 0);
	ck_assert_int_eq(pthread_attr_setstack(&attributes, stack, sizeof(stack)), 0);
	ck_assert_int_eq(pthread_create(&thread, &attributes, sign_there, v), 0);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	pthread_attr_destroy(&attributes);
	ck_assert_int_eq(scan.hashes, HASHES);
	return scan.n_found;
}

START_TEST(test_no_key_stays_on_the_stack)
{
	unsigned char key[4 + 256] = "AWS4", keys[4][32];
	const char *secret;
	struct vector v;
	size_t n;

	load(0, &v);
	secret = v.credentials.secret_access_key;
	n = strlen(secret);
	ck_assert_uint_ge(n, 40);

	const struct slice steps[] = {SLICE("20260102"), v.request.region, v.request.service,
				      SLICE("aws4_request")};

	scan.n_texts = 0;
	scan.texts[scan.n_texts++] = (struct slice){secret, 16};
	/* No key is long enough to be written over it. */
	scan.texts[scan.n_texts++] = (struct slice){secret + n - 8, 8};
	memcpy(key + 4, secret, n);
	n += 4;
	for (size_t i = 0; i < ELEMENTSOF(steps); i++, n = sizeof(keys[i])) {
		hmac(key, n, steps[i]);
		memcpy(keys[i], key, sizeof(keys[i]));
		scan.texts[scan.n_texts++] = (struct slice){(char *)keys[i], sizeof(keys[i])};
	}
	ck_assert_uint_ge(found_at(DERIVATION + 1, &v), 1);
	ck_assert_uint_eq(found_at(HASHES - 1, &v), 0);
	ck_assert_uint_eq(found_at(HASHES, &v), 0);
}
END_TEST
#endif

int main(void)
{
	Suite *suite = suite_create("sigv4");
	TCase *tcase = tcase_create("sigv4");
	SRunner *runner = srunner_create(suite);
	int failed;

	memset(letters, 'a', sizeof(letters) - 1);
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_loop_test(tcase, test_vector, 0, VECTORS);
	tcase_add_test(tcase, test_kept_keys);
	tcase_add_test(tcase, test_midnight);
	tcase_add_loop_test(tcase, test_sizes, 0, ELEMENTSOF(sizes));
	tcase_add_loop_test(tcase, test_openssl_agrees, 0, ELEMENTSOF(secret_sizes));
	tcase_add_test(tcase, test_slash);
	tcase_add_test(tcase, test_no_serial);
#ifndef __SANITIZE_ADDRESS__
	tcase_add_test(tcase, test_no_key_stays_on_the_stack);
#endif
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
