/* SPDX-License-Identifier: Apache-2.0 */
#include "kms_error.h"

#include <check.h>
#include <stdio.h>

static struct json_doc doc;

/* The types in their order, with a blank after each. */
static const struct {
	const char *body, *header, *want;
	bool is_object;
} reads[] = {
	{"{\"__type\":\"NotFoundException\",\"message\":\"x\"}", NULL, "NotFoundException ",
	 true},
	{" {\"Message\":\"x\",\"__type\" : \"AccessDeniedException\"}", NULL,
	 "AccessDeniedException ", true},
	{"{\"__type\":\"com.amazonaws.kms#NotFoundException\"}", NULL, "NotFoundException ",
	 true},
	{"{\"__type\":\"NotFoundException:http://a/b#c\"}", NULL, "NotFoundException ", true},
	{"{\"__type\":\"a#b#ThrottlingException:http:\"}", NULL, "ThrottlingException ", true},
	{"{\"code\":\"a#Throttling\"}", NULL, "Throttling ", true},
	{"{\"Code\":\"A,B\",\"code\":\"C:D,E\"}", NULL, "C E A B ", true},
	{"{\"code\":\"A\",\"__type\":\"B\"}", NULL, "B A ", true},
	{"{\"code\":\"A\",\"__type\":\"\"}", NULL, "A ", true},
	{"{\"code\":\"A\",\"__type\":null}", NULL, "A ", true},
	{"{\"__type\":\"a#\"}", NULL, "", true},
	{"{\"__type\":\":x\"}", NULL, "", true},
	{"{\"__type\":\"#\"}", NULL, "", true},
	{"{\"message\":\"x\"}", NULL, "", true},
	{"{\"__type\":{\"__type\":\"A\"}}", NULL, "", true},
	{"{\"a\":{\"__type\":\"A\"}}", NULL, "", true},
	{"{\"__type\":\"A\",\"__type\":\"B\"}", NULL, "", false},
	{"[\"__type\",\"A\"]", NULL, "", false},
	{"[{\"__type\":\"A\"}]", NULL, "", false},
	{"{\"__type\":\"A\"", NULL, "", false},
	{"null", NULL, "", false},
	{"", NULL, "", false},
	{"<Error><Code>A</Code></Error>", NULL, "", false},
	/* the header, decorated in the same ways */
	{"{}", "A", "A ", true},
	{"{}", "com.amazonaws.kms#A:http://b/#c", "A ", true},
	{"{}", "A,B", "A B ", true},
	{"{}", "a#A:http://b/, b#B:c,", "A B ", true},
	{"{}", ",,A", "A ", true},
	{"{\"__type\":\"a#A,B:c\"}", "C", "A B C ", true},
	{"{}", "", "", true},
	{"{}", "#", "", true},
	{"{}", ":", "", true},
	{"{\"__type\":\"B\",\"code\":\"C\"}", "A", "B C A ", true},
	{"<html>", "a#A", "A ", false},
	{"[]", "A", "A ", false},
	{"", "A:b", "A ", false},
};

START_TEST(read_types)
{
	_cleanup_(freep) char *body = strdup(reads[_i].body);
	const char *header = reads[_i].header;
	struct kms_error error;
	struct slice type;
	char got[128] = "";
	size_t n = 4711, length = 0;

	ck_assert(kms_error_read(body, strlen(body),
				 header ? slice_from(header) : (struct slice){0}, &doc, &error,
				 &n) == reads[_i].is_object);
	if (reads[_i].is_object)
		ck_assert_uint_eq(n, doc.nodes[0].value.n);
	else
		ck_assert_uint_eq(n, 4711);
	for (struct kms_error_place at = {0}; kms_error_next(&error, &at, &type);) {
		ck_assert_uint_lt(length + type.n + 1, sizeof(got));
		length += (size_t)snprintf(got + length, sizeof(got) - length, "%.*s ",
					   (int)type.n, type.p);
	}
	ck_assert_msg(strcmp(got, reads[_i].want) == 0, "%s: %s", reads[_i].body, got);
	type = kms_error_type(&error);
	ck_assert_uint_eq(type.n, strcspn(reads[_i].want, " "));
	ck_assert_int_eq(strncmp(got, type.n ? type.p : "", type.n), 0);
}
END_TEST

START_TEST(throttles)
{
	static const char *const yes[] = {"ThrottlingException", "Throttling",
					  "TooManyRequestsException", "SlowDown"};
	/* a quota of keys or grants: coming later is of no use */
	static const char *const no[] = {"LimitExceededException", "AccessDeniedException",
					 "throttlingexception", "ThrottlingExceptio", ""};

	for (size_t i = 0; i < ELEMENTSOF(yes); i++)
		ck_assert_msg(kms_error_throttles(slice_from(yes[i])), "%s", yes[i]);
	for (size_t i = 0; i < ELEMENTSOF(no); i++)
		ck_assert_msg(!kms_error_throttles(slice_from(no[i])), "%s", no[i]);
}
END_TEST

static const struct {
	const char *body, *header;
	enum kms_blame want;
	const char *type;
} blames[] = {
	{"{\"__type\":\"ValidationException\"}", NULL, KMS_BLAME_REQUEST, NULL},
	{"{\"__type\":\"AccessDeniedException\"}", "AccessDeniedException", KMS_BLAME_REQUEST,
	 NULL},
	{"{\"__type\":\"invalidsignatureexception\"}", NULL, KMS_BLAME_REQUEST, NULL},
	{"{}", NULL, KMS_BLAME_REQUEST, NULL},
	{"{\"__type\":\"ExpiredTokenException\"}", NULL, KMS_BLAME_CREDENTIALS,
	 "ExpiredTokenException"},
	{"{\"code\":\"a#InvalidSignatureException:b\"}", NULL, KMS_BLAME_SIGNATURE,
	 "InvalidSignatureException"},
	/* one that blames is enough, wherever it stands */
	{"{\"__type\":\"ValidationException\",\"code\":\"SignatureDoesNotMatch\"}", NULL,
	 KMS_BLAME_SIGNATURE, "SignatureDoesNotMatch"},
	{"{\"__type\":\"ValidationException\"}", "UnrecognizedClientException",
	 KMS_BLAME_CREDENTIALS, "UnrecognizedClientException"},
	{"{\"__type\":\"UnrecognizedClientException\"}", "ValidationException",
	 KMS_BLAME_CREDENTIALS, "UnrecognizedClientException"},
	{"{\"message\":\"x\"}", "com.amazonaws#ExpiredToken:http://x/", KMS_BLAME_CREDENTIALS,
	 "ExpiredToken"},
	{"<html>", "RequestTimeTooSkewed", KMS_BLAME_SIGNATURE, "RequestTimeTooSkewed"},
	{"{}", "ValidationException,InvalidSignatureException", KMS_BLAME_SIGNATURE,
	 "InvalidSignatureException"},
	/* of two, the one that new credentials may mend */
	{"{\"__type\":\"IncompleteSignature\"}", "InvalidClientTokenId", KMS_BLAME_CREDENTIALS,
	 "InvalidClientTokenId"},
	{"{\"__type\":\"InvalidClientTokenId\"}", "IncompleteSignature", KMS_BLAME_CREDENTIALS,
	 "InvalidClientTokenId"},
};

START_TEST(blame)
{
	_cleanup_(freep) char *body = strdup(blames[_i].body);
	const char *header = blames[_i].header, *type = "untouched";
	struct kms_error error;
	size_t n;

	(void)!kms_error_read(body, strlen(body),
			      header ? slice_from(header) : (struct slice){0}, &doc, &error,
			      &n);
	ck_assert_int_eq(kms_error_blame(&error, &type), blames[_i].want);
	ck_assert_str_eq(type, blames[_i].type ?: "untouched");
	ck_assert_int_eq(kms_error_blame(&error, NULL), blames[_i].want);
}
END_TEST

START_TEST(blame_of_the_header_alone)
{
	const struct kms_error error = {.header = SLICE("AuthFailure")}, none = {0};

	ck_assert_int_eq(kms_error_blame(&error, NULL), KMS_BLAME_SIGNATURE);
	ck_assert_int_eq(kms_error_blame(&none, NULL), KMS_BLAME_REQUEST);
}
END_TEST

/* Every excerpt of 63 bytes after the beginning is found, none that is shorter than a piece.
 */
START_TEST(tells)
{
	char token[700], text[900];
	uint32_t x = 1;
	struct slice secret = {token, sizeof(token)};

	for (size_t i = 0; i < sizeof(token); i++)
		token[i] = (char)('A' + (x = x * 1103515245 + 12345, x >> 16) % 58);
	ck_assert(kms_error_tells(secret, secret));
	for (size_t at = 0; at + 63 <= sizeof(token) - sizeof(token) % 32; at++) {
		memset(text, '.', sizeof(text));
		memcpy(text + 5, token + at, 63);
		ck_assert_msg(kms_error_tells((struct slice){text, sizeof(text)}, secret) ==
				      (at > 32),
			      "%zu", at);
		ck_assert(!kms_error_tells((struct slice){text, 5 + 31}, secret));
	}
}
END_TEST

START_TEST(tells_a_short_one)
{
	const struct slice token = SLICE("t0ken-of-thirty-characters-----");

	ck_assert(kms_error_tells(SLICE("a t0ken-of-thirty-characters----- b"), token));
	ck_assert(!kms_error_tells(SLICE("a t0ken-of-thirty-characters---- b"), token));
	ck_assert(!kms_error_tells(SLICE("a"), token));
	ck_assert(kms_error_tells(SLICE("a 16 bytes-long--- b"), SLICE("16 bytes-long---")));
	ck_assert(!kms_error_tells(SLICE("a 15 bytes-long-- b"), SLICE("15 bytes-long--")));
	ck_assert(!kms_error_tells((struct slice){0}, token));
	ck_assert(!kms_error_tells(SLICE("a"), (struct slice){0})); /* long-term credentials */
	ck_assert(!kms_error_tells((struct slice){0}, (struct slice){0}));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("kms_error");
	TCase *tcase = tcase_create("kms_error");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_loop_test(tcase, read_types, 0, ELEMENTSOF(reads));
	tcase_add_loop_test(tcase, blame, 0, ELEMENTSOF(blames));
	tcase_add_test(tcase, blame_of_the_header_alone);
	tcase_add_test(tcase, throttles);
	tcase_add_test(tcase, tells);
	tcase_add_test(tcase, tells_a_short_one);
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
