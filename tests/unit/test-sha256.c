/* SPDX-License-Identifier: Apache-2.0 */
#include "sha256.h"

#include <check.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>

static struct sha256 sha256;
static char bytes[300];

static void setup(void)
{
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (char)(i * 7);
	ck_assert_int_eq(sha256_init(&sha256), 0);
}

static void teardown(void)
{
	sha256_done(&sha256);
}

/* Every cut of texts around the size of a block. */
START_TEST(test_in_two_parts)
{
	for (size_t n = 0; n < 2 * SHA256_BLOCK + 2; n++) {
		unsigned char want[SHA256_SIZE], got[SHA256_SIZE];

		ck_assert(EVP_Digest(bytes, n, want, NULL, EVP_sha256(), NULL));
		for (size_t cut = 0; cut <= n; cut++) {
			memset(got, 0, sizeof(got));
			ck_assert_int_eq(sha256_of(&sha256, (struct slice){bytes, cut},
						   (struct slice){bytes + cut, n - cut}, got),
					 0);
			ck_assert_mem_eq(got, want, sizeof(want));
		}
	}
	ck_assert_int_eq(sha256_of(&sha256, (struct slice){0}, (struct slice){0},
				   (unsigned char[SHA256_SIZE]){0}),
			 0);
}
END_TEST

START_TEST(test_begun_and_ended)
{
	EVP_MD_CTX *kept = EVP_MD_CTX_new();

	for (size_t begin = 0; begin < 2 * SHA256_BLOCK + 2; begin++) {
		ck_assert_int_eq(sha256_begin(&sha256, (struct slice){bytes, begin}, kept), 0);
		for (size_t more = 0; more < SHA256_BLOCK; more += 9) {
			unsigned char want[SHA256_SIZE], got[SHA256_SIZE];

			ck_assert(EVP_Digest(bytes, begin + more, want, NULL, EVP_sha256(),
					     NULL));
			ck_assert_int_eq(sha256_end(&sha256, kept,
						    (struct slice){bytes + begin, more}, got),
					 0);
			ck_assert_mem_eq(got, want, sizeof(want));
		}
	}
	EVP_MD_CTX_reset(kept); /* nothing is begun in it */
	ck_assert_int_lt(sha256_end(&sha256, kept, (struct slice){bytes, 1},
				    (unsigned char[SHA256_SIZE]){0}),
			 0);
	EVP_MD_CTX_free(kept);
}
END_TEST

START_TEST(test_mac)
{
	for (size_t key = 0; key < 2 * SHA256_BLOCK + 2; key++)
		for (size_t n = 0; n < sizeof(bytes); n += 37) {
			unsigned char want[SHA256_SIZE], got[2 * SHA256_BLOCK + 2];
			unsigned size = sizeof(want);

			ck_assert_ptr_nonnull(HMAC(EVP_sha256(), bytes, (int)key,
						   (unsigned char *)bytes, n, want, &size));
			memcpy(got, bytes, key); /* the result may take the key's place */
			ck_assert_int_eq(sha256_mac(&sha256, (struct slice){(char *)got, key},
						    (struct slice){bytes, n}, got),
					 0);
			ck_assert_mem_eq(got, want, sizeof(want));
		}
}
END_TEST

START_TEST(test_hex)
{
	for (unsigned byte = 0; byte < 256; byte++)
		for (size_t at = 0; at < SHA256_SIZE; at++) {
			unsigned char digest[SHA256_SIZE] = {0};
			char got[2 * SHA256_SIZE], want[2 * SHA256_SIZE + 1];
			struct buf b = BUF_INIT(2 * SHA256_SIZE);

			digest[at] = (unsigned char)byte;
			for (size_t i = 0; i < SHA256_SIZE; i++)
				snprintf(want + 2 * i, 3, "%02x", digest[i]);
			sha256_to_hex(digest, got);
			ck_assert_mem_eq(got, want, sizeof(got));
			ck_assert_int_eq(sha256_append_hex(digest, &b), 0);
			ck_assert(slice_eq_str(buf_slice(&b), want));
			ck_assert_int_lt(sha256_append_hex(digest, &b), 0);
			buf_done(&b);
		}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("sha256");
	TCase *tcase = tcase_create("sha256");
	SRunner *runner = srunner_create(suite);
	int failed;

	suite_add_tcase(suite, tcase);
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, test_in_two_parts);
	tcase_add_test(tcase, test_begun_and_ended);
	tcase_add_test(tcase, test_mac);
	tcase_add_test(tcase, test_hex);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
