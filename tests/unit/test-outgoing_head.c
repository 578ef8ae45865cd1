/* SPDX-License-Identifier: Apache-2.0 */
#include "outgoing_head.h"

#include "kms.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

#define HOST "kms.eu-central-1.amazonaws.com"
#define BODY "{\"KeyId\":\"alias/x\"}"

static char token[16 * 1024 + 1]; /* the longest there is */

static struct credentials credentials_with(char *session_token)
{
	return (struct credentials){.session_token = session_token};
}

static struct sigv4_signature signature(void)
{
	struct sigv4_signature s = {0};

	s.authorization_n =
		(size_t)snprintf(s.authorization, sizeof(s.authorization), "AWS4 signed");
	snprintf(s.amz_date, sizeof(s.amz_date), "20261128T220000Z");
	return s;
}

static char room[32 * 1024];

/* Head and body as one text, the body at `at` in the room. */
static struct slice write_at(size_t at, const char *host, const char *action,
			     const struct sigv4_signature *s,
			     const struct credentials *credentials)
{
	char target[OUTGOING_TARGET_SIZE];
	struct sigv4_request request;

	memcpy(room + at, BODY, strlen(BODY));
	request = outgoing_request(host, "eu-central-1", action,
				   (struct slice){room + at, strlen(BODY)}, target);
	return outgoing_head_write(&request, s, credentials);
}

START_TEST(the_head_has_these_fields_and_no_other)
{
	char small[] = "t0ken";
	struct credentials with = credentials_with(small), without = credentials_with(NULL);
	const struct sigv4_signature s = signature();
	struct slice text = write_at(2048, HOST, "Decrypt", &s, &with);

	ck_assert(slice_eq_str(text, "POST / HTTP/1.1\r\n"
				     "Host: " HOST "\r\n"
				     "Content-Type: application/x-amz-json-1.1\r\n"
				     "X-Amz-Target: TrentService.Decrypt\r\n"
				     "X-Amz-Date: 20261128T220000Z\r\n"
				     "X-Amz-Security-Token: t0ken\r\n"
				     "Authorization: AWS4 signed\r\n"
				     "User-Agent: kms-vsock-proxy/" PROJECT_VERSION "\r\n"
				     "Content-Length: 19\r\n\r\n" BODY));
	text = write_at(2048, HOST, "Decrypt", &s, &without);
	ck_assert(slice_eq_str(text, "POST / HTTP/1.1\r\n"
				     "Host: " HOST "\r\n"
				     "Content-Type: application/x-amz-json-1.1\r\n"
				     "X-Amz-Target: TrentService.Decrypt\r\n"
				     "X-Amz-Date: 20261128T220000Z\r\n"
				     "Authorization: AWS4 signed\r\n"
				     "User-Agent: kms-vsock-proxy/" PROJECT_VERSION "\r\n"
				     "Content-Length: 19\r\n\r\n" BODY));
}
END_TEST

START_TEST(what_is_signed_is_what_is_written)
{
	char target[OUTGOING_TARGET_SIZE];
	struct sigv4_request r =
		outgoing_request(HOST, "eu-central-1", "ReEncrypt", SLICE(BODY), target);

	ck_assert(slice_eq_str(r.host, HOST));
	ck_assert(slice_eq_str(r.region, "eu-central-1"));
	ck_assert(slice_eq_str(r.service, "kms"));
	ck_assert(slice_eq_str(r.content_type, OUTGOING_CONTENT_TYPE));
	ck_assert(slice_eq_str(r.target, "TrentService.ReEncrypt"));
	ck_assert(slice_eq_str(r.body, BODY));
}
END_TEST

/* The longest of everything, for each action: the room that was asked for is enough. */
START_TEST(the_room_is_enough)
{
	static char host[254];
	struct credentials with;
	struct sigv4_signature longest;
	size_t at;

	memset(host, 'h', sizeof(host) - 1);
	memset(token, 't', sizeof(token) - 1);
	with = credentials_with(token);
	at = outgoing_head_room(host, &with);
	longest = signature();
	memset(longest.authorization, 's', sizeof(longest.authorization) - 1);
	longest.authorization_n = sizeof(longest.authorization) - 1;
	for (unsigned i = 0; i < KMS_ACTIONS; i++) {
		struct slice text = write_at(at, host, kms_action(i)->name, &longest, &with);

		ck_assert(text.p >= room);
		ck_assert_ptr_eq(text.p + text.n, room + at + strlen(BODY));
	}
}
END_TEST

START_TEST(room_before_anything_is_known)
{
	struct credentials without = credentials_with(NULL);

	ck_assert_uint_eq(outgoing_head_room("", NULL), outgoing_head_room("", &without));
	ck_assert_uint_eq(outgoing_head_room("abc", NULL), outgoing_head_room("", NULL) + 3);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("outgoing_head");
	TCase *tcase = tcase_create("outgoing_head");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_test(tcase, the_head_has_these_fields_and_no_other);
	tcase_add_test(tcase, what_is_signed_is_what_is_written);
	tcase_add_test(tcase, the_room_is_enough);
	tcase_add_test(tcase, room_before_anything_is_known);
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
