/* SPDX-License-Identifier: Apache-2.0 */
#include "credentials_reply.h"

#include "canary.h"
#include "secret.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <sys/prctl.h>

#define KEY "ASIAEXAMPLEEXAMPLE00"
#define SECRET "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
#define KEYS "\"AccessKeyId\":\"" KEY "\",\"SecretAccessKey\":\"" SECRET "\""
#define REST "\"Token\":\"t0k+/=\",\"Expiration\":\"2026-01-02T03:04:05Z\""
#define EXPIRATION ((usec_t)1767323045 * USEC_PER_SEC)

#define IMDS CREDENTIALS_FORM_IMDS
#define CONTAINER CREDENTIALS_FORM_CONTAINER
#define FILE_ CREDENTIALS_FORM_FILE

/* All have the same key and secret. */
static const struct {
	enum credentials_form form;
	const char *text, *token;
	usec_t expiration;
} accepted[] = {
	{IMDS,
	 "{\n  \"Code\" : \"Success\",\n  \"LastUpdated\" : \"2026-01-01T21:04:05Z\",\n"
	 "  \"Type\" : \"AWS-HMAC\",\n  " KEYS ",\n  " REST ",\n"
	 "  \"AccountId\" : \"111122223333\"\n}",
	 "t0k+/=", EXPIRATION},
	{IMDS, "{\"Code\":\"success\"," KEYS "," REST "}", "t0k+/=", EXPIRATION},
	{IMDS, "{\"Code\":\"SUCCESS\"," KEYS "," REST "}\n", "t0k+/=", EXPIRATION},
	{IMDS, "{" REST "," KEYS ",\"Code\":\"Success\"}", "t0k+/=", EXPIRATION},
	{IMDS,
	 "{\"Code\":\"Success\"," KEYS
	 ",\"Token\":\"t\",\"Expiration\":\"2026-01-02T03:04:05.25Z\"}",
	 "t", EXPIRATION},
	/* An escaped slash is the same string. */
	{IMDS,
	 "{\"Code\":\"Success\"," KEYS
	 ",\"Token\":\"a\\/b\",\"Expiration\":\"2026-01-02T03:04:05Z\"}",
	 "a/b", EXPIRATION},
	{CONTAINER, "{\"RoleArn\":\"arn:aws:iam::111122223333:role/x\"," KEYS "," REST "}",
	 "t0k+/=", EXPIRATION},
	{CONTAINER, "{\"Code\":\"Success\"," KEYS "," REST "}", "t0k+/=", EXPIRATION},
	{CONTAINER, "{\"more\":{\"deep\":[1,2,{}]}," KEYS "," REST "}", "t0k+/=", EXPIRATION},
	{FILE_, "{" KEYS "}", NULL, 0},
	{FILE_, "{" KEYS ",\"SessionToken\":\"\"}", NULL, 0},
	{FILE_, "{" KEYS ",\"SessionToken\":null,\"Expiration\":null}", NULL, 0},
	{FILE_, "{\"Version\":1," KEYS ",\"SessionToken\":\"s\"}", "s", 0},
	{FILE_,
	 "{\"Version\":1," KEYS
	 ",\"SessionToken\":\"s\",\"Expiration\":\"2026-01-02T03:04:05Z\"}",
	 "s", EXPIRATION},
	{FILE_, "{" KEYS ",\"Token\":\"\",\"SessionToken\":\"s\"}", "s", 0},
};

START_TEST(test_accepted)
{
	_cleanup_(credentials_unrefp) struct credentials *c = NULL;
	_cleanup_(freep) char *text = strdup(accepted[_i].text);
	struct error error = {""};

	ck_assert_msg(
		credentials_reply_parse(accepted[_i].form, text, strlen(text), &c, &error) == 0,
		"%s: %s", accepted[_i].text, error.text);
	ck_assert_str_eq(c->access_key_id, KEY);
	ck_assert_str_eq(c->secret_access_key, SECRET);
	ck_assert_pstr_eq(c->session_token, accepted[_i].token);
	ck_assert_int_eq(c->expiration, accepted[_i].expiration);
}
END_TEST

#define SUCCESS "\"Code\":\"Success\","

/* `says` is what the sentence must hold. */
static const struct {
	enum credentials_form form;
	const char *text, *says;
} refused[] = {
	{IMDS, "", "can't be read: JSON, byte "},
	{IMDS, "<html>404</html>", "can't be read: JSON, byte "},
	{IMDS, "{" SUCCESS KEYS "," REST, "can't be read: JSON, byte "},
	{IMDS, "{" SUCCESS KEYS "," REST "} x", "can't be read: JSON, byte "},
	{IMDS, "{" SUCCESS KEYS "," REST ",}", "can't be read: JSON, byte "},
	{IMDS, "{" SUCCESS KEYS "," REST ",\"Token\":\"u\"}",
	 "can't be read: JSON, byte "}, /* twice */
	{IMDS, "{" SUCCESS KEYS "," REST ",\"AccessKeyId\":\"x\"}",
	 "can't be read: JSON, byte "},
	{IMDS, "{'Code':'Success'}", "can't be read: JSON, byte "},
	{IMDS, "[]", "is not a JSON object"},
	{IMDS, "\"" SECRET "\"", "is not a JSON object"},
	{IMDS, "null", "is not a JSON object"},
	{IMDS, "{}", "has no Code"},
	{IMDS, "{" KEYS "," REST "}", "has no Code"},
	{IMDS, "{\"Code\":\"\"," KEYS "," REST "}", "has the Code"},
	{IMDS, "{\"Code\":7," KEYS "," REST "}", "member Code that is not a string"},
	{IMDS, "{\"Code\":null," KEYS "," REST "}", "has no Code"},
	{IMDS, "{\"Code\":\"Success\\u0000\"," KEYS "," REST "}",
	 "has the Code Success\\x5cu0000"},
	{IMDS, "{\"Code\":\"Failed\"," KEYS "," REST "}", "has the Code Failed"},
	{IMDS,
	 "{\"Code\":\"AssumeRoleUnauthorizedAccess\",\"Message\":\"EC2 cannot assume the role "
	 "X.\"}",
	 "has the Code AssumeRoleUnauthorizedAccess: EC2 cannot assume the role X."},
	{IMDS, "{\"Code\":\"a\\nb\",\"Message\":\"c\\u001b[1m\"}", "a\\x5cnb: c\\x5cu001b[1m"},
	{IMDS, "{\"Code\":\"Failed\",\"Message\":[]}", "member Message that is not a string"},
	{CONTAINER, "{\"Code\":\"Failed\",\"Message\":\"no\"}", "has the Code Failed: no"},
	{IMDS, "{" SUCCESS "\"SecretAccessKey\":\"s\"," REST "}", "has no AccessKeyId"},
	{IMDS, "{" SUCCESS "\"AccessKeyId\":\"" KEY "\"," REST "}", "has no SecretAccessKey"},
	{IMDS, "{" SUCCESS KEYS ",\"Token\":\"t\"}", "has no Expiration"},
	{IMDS, "{" SUCCESS KEYS ",\"Expiration\":\"2026-01-02T03:04:05Z\"}", "has no Token"},
	{IMDS, "{" SUCCESS "\"accesskeyid\":\"" KEY "\",\"SecretAccessKey\":\"s\"," REST "}",
	 "has no AccessKeyId"},
	{IMDS, "{" SUCCESS KEYS ",\"Token\":\"\",\"Expiration\":\"2026-01-02T03:04:05Z\"}",
	 "has no Token"},
	{IMDS, "{" SUCCESS KEYS ",\"Token\":null,\"Expiration\":\"2026-01-02T03:04:05Z\"}",
	 "has no Token"},
	{IMDS, "{" SUCCESS "\"AccessKeyId\":\"\",\"SecretAccessKey\":\"s\"," REST "}",
	 "has no AccessKeyId"},
	{IMDS, "{" SUCCESS "\"AccessKeyId\":{},\"SecretAccessKey\":\"s\"," REST "}",
	 "member AccessKeyId that is not a string"},
	{IMDS, "{" SUCCESS "\"AccessKeyId\":\"" KEY "\",\"SecretAccessKey\":5," REST "}",
	 "member SecretAccessKey that is not a string"},
	{IMDS, "{" SUCCESS KEYS ",\"Token\":true,\"Expiration\":\"2026-01-02T03:04:05Z\"}",
	 "member Token that is not a string"},
	{IMDS, "{" SUCCESS KEYS ",\"Token\":\"t\",\"Expiration\":1767323045}",
	 "member Expiration that is not a string"},
	{IMDS, "{" SUCCESS KEYS ",\"Token\":\"t\",\"Expiration\":\"tomorrow\"}",
	 "\"tomorrow\""},
	{IMDS,
	 "{" SUCCESS KEYS ",\"Token\":\"t\",\"Expiration\":\"2026-01-02T03:04:05+00:00\"}",
	 "not a time like"},
	{IMDS, "{" SUCCESS KEYS ",\"Token\":\"t\",\"Expiration\":\"2026-02-30T03:04:05Z\"}",
	 "not a time like"},
	{IMDS,
	 "{" SUCCESS KEYS ",\"Token\":\"a\\u0000b\",\"Expiration\":\"2026-01-02T03:04:05Z\"}",
	 "has a Token with characters"},
	{IMDS,
	 "{" SUCCESS KEYS ",\"Token\":\"a\\r\\nb\",\"Expiration\":\"2026-01-02T03:04:05Z\"}",
	 "has a Token with characters"},
	{IMDS,
	 "{" SUCCESS KEYS ",\"Token\":\"a\\\"b\",\"Expiration\":\"2026-01-02T03:04:05Z\"}",
	 "has a Token with characters"},
	{IMDS, "{" SUCCESS KEYS ",\"Token\":\"a b\",\"Expiration\":\"2026-01-02T03:04:05Z\"}",
	 "with a character that AWS doesn't give"},
	{IMDS,
	 "{" SUCCESS KEYS ",\"Token\":\"\\u00e4\",\"Expiration\":\"2026-01-02T03:04:05Z\"}",
	 "with a character that AWS doesn't give"},
	{IMDS, "{" SUCCESS "\"AccessKeyId\":\"SHORT\",\"SecretAccessKey\":\"s\"," REST "}",
	 "of a length"},
	{IMDS, "{" SUCCESS KEYS ",\"SessionToken\":\"u\"," REST "}",
	 "both a Token and a SessionToken"},
	{CONTAINER, "{" KEYS "}", "has no Token"},
	{CONTAINER, "{" KEYS ",\"Token\":\"t\"}", "has no Expiration"},
	{CONTAINER, "{\"code\":\"NoIdInRequest\",\"message\":\"x\"}", "has no AccessKeyId"},
	{FILE_, "{\"AccessKeyId\":\"" KEY "\"}", "has no SecretAccessKey"},
	{FILE_, "{" KEYS ",\"Expiration\":\"\\u0032\\n\"}", "has a Expiration with characters"},
};

START_TEST(test_refused)
{
	struct credentials *c = NULL;
	_cleanup_(freep) char *text = strdup(refused[_i].text);
	struct error error = {""};

	ck_assert_int_eq(
		credentials_reply_parse(refused[_i].form, text, strlen(text), &c, &error),
		-EINVAL);
	ck_assert_ptr_null(c);
	ck_assert_msg(strstr(error.text, refused[_i].says), "%s: %s", refused[_i].text,
		      error.text);
	ck_assert_msg(!strstr(error.text, "wJalr"), "tells the secret: %s", error.text);
	memcpy(text, refused[_i].text, strlen(refused[_i].text));
	ck_assert_int_eq(
		credentials_reply_parse(refused[_i].form, text, strlen(text), &c, NULL),
		-EINVAL);
}
END_TEST

/* What a core dump would show once the credentials and the text are gone: no piece of them. */
START_TEST(test_leaves_nothing)
{
	char canary[CANARY_SIZE + 1];
	char *text = wipe_malloc(4096);
	struct credentials *c = NULL;

	ck_assert_int_eq(secret_init(), 0);
	canary_write(canary);
	snprintf(text, 4096,
		 "{ \"Code\": \"Success\", \"AccessKeyId\": \"" KEY
		 "\", \"SecretAccessKey\": \"%s\","
		 "  \"Token\": \"%s\\/%s\", \"Expiration\": \"2026-01-02T03:04:05Z\" }",
		 canary, canary, canary);
	explicit_bzero(canary, sizeof(canary));
	ck_assert_uint_eq(canary_count(), 3);
	ck_assert_int_eq(credentials_reply_parse(IMDS, text, strlen(text), &c, NULL), 0);
	wipe_free(text);
	ck_assert_uint_eq(canary_count(), 3); /* in the credentials */
	credentials_unref(c);
	canary_assert_gone();
}
END_TEST

START_TEST(test_heap_full)
{
	_cleanup_(freep) char *text = strdup("{" KEYS "," REST "}");
	struct credentials *c = NULL;
	struct error error = {""};

	ck_assert_int_eq(secret_init(), 0);
	while (secret_alloc(32))
		;
	ck_assert_int_eq(credentials_reply_parse(CONTAINER, text, strlen(text), &c, &error),
			 -ENOMEM);
	ck_assert_ptr_nonnull(strstr(error.text, "the secure heap is full"));
	ck_assert_ptr_null(c);
}
END_TEST

static void teardown(void)
{
	ck_assert_int_eq(prctl(PR_SET_DUMPABLE, 1), 0); /* for the leak sanitizer */
}

int main(int argc, char **argv)
{
	Suite *suite = suite_create("credentials_reply");
	TCase *tcase = tcase_create("credentials_reply");
	SRunner *runner = srunner_create(suite);
	int failed;

	(void)argc;
	canary_main(argv);
	tcase_set_timeout(tcase, 60);
	tcase_add_checked_fixture(tcase, NULL, teardown);
	tcase_add_loop_test(tcase, test_accepted, 0, ELEMENTSOF(accepted));
	tcase_add_loop_test(tcase, test_refused, 0, ELEMENTSOF(refused));
	tcase_add_test(tcase, test_leaves_nothing);
	tcase_add_test(tcase, test_heap_full);
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
