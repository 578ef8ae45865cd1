/* SPDX-License-Identifier: Apache-2.0 */
#include "audit_entry.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

/* Every member that an audit record can have. */
static void fill(struct audit_record *r, enum event_kind event)
{
	audit_record_init(r, event);
	audit_copy(r->enclave, sizeof(r->enclave), SLICE("payments"));
	r->has_cid = true;
	r->cid = 16;
	r->allowed = true;
	audit_copy(r->request_id, sizeof(r->request_id),
		   SLICE("01234567-89ab-cdef-0123-456789abcdef"));
	audit_copy(r->action, sizeof(r->action), SLICE("Decrypt"));
	audit_copy(r->key, sizeof(r->key), SLICE("alias/x"));
	audit_copy(r->grantee, sizeof(r->grantee), SLICE("arn:aws:iam::1:role/x"));
	audit_copy(r->endpoint, sizeof(r->endpoint), SLICE("kms-eu"));
	r->cleartext = true;
	audit_copy(r->rule, sizeof(r->rule), SLICE("unwrap"));
	r->reason = REASON_ALLOWED;
	r->status = r->kms_status = 200;
	r->key_added = true;
	audit_copy(r->kms_error, sizeof(r->kms_error), SLICE("NotFoundException"));
	audit_copy(r->aws_request_id, sizeof(r->aws_request_id), SLICE("aws-1"));
	r->recipient = "present";
	r->duration = 4123;
	r->upstream = 3999;
	r->wait = 120;
	r->bytes_in = 512;
	r->bytes_out = 0;
}

static const char *joined(const struct audit_entry *e)
{
	static char text[16384];
	size_t n = 0;

	for (size_t i = 0; i < e->n; i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%s\n", e->fields[i]);
	return text;
}

START_TEST(a_full_record_has_every_field)
{
	struct audit_record r;
	struct audit_entry e;
	char expected[4096];

	fill(&r, EVENT_REQUEST);
	audit_entry_init(&e, &r);
	snprintf(expected, sizeof(expected),
		 "MESSAGE=payments: Decrypt allowed by rule \"unwrap\" but AWS KMS refused it: "
		 "200 NotFoundException in 4.1 ms\n"
		 "MESSAGE_ID=%s\n"
		 "ENCLAVE=payments\n"
		 "ENCLAVE_CID=16\n"
		 "REQUEST_ID=01234567-89ab-cdef-0123-456789abcdef\n"
		 "KMS_ACTION=Decrypt\n"
		 "KMS_KEY=alias/x\n"
		 "KMS_KEY_ADDED=1\n"
		 "KMS_GRANTEE=arn:aws:iam::1:role/x\n"
		 "ENDPOINT=kms-eu\n"
		 "TLS=no\n"
		 "VERDICT=allow\n"
		 "RULE=unwrap\n"
		 "REASON=allowed\n"
		 "HTTP_STATUS=200\n"
		 "KMS_STATUS=200\n"
		 "KMS_ERROR=NotFoundException\n"
		 "AWS_REQUEST_ID=aws-1\n"
		 "RECIPIENT=present\n"
		 "DURATION_USEC=4123\n"
		 "WAIT_USEC=120\n"
		 "UPSTREAM_USEC=3999\n"
		 "BYTES_IN=512\n"
		 "BYTES_OUT=0\n",
		 event_info(EVENT_REQUEST)->message_id);
	ck_assert_str_eq(joined(&e), expected);
}
END_TEST

START_TEST(an_empty_record_has_only_what_is_known)
{
	struct audit_record r;
	struct audit_entry e;
	char expected[256];

	audit_record_init(&r, EVENT_CONNECTION);
	audit_entry_init(&e, &r);
	snprintf(expected, sizeof(expected),
		 "MESSAGE=unknown peer: connection closed\nMESSAGE_ID=%s\nVERDICT=refuse\n",
		 event_info(EVENT_CONNECTION)->message_id);
	ck_assert_str_eq(joined(&e), expected);
}
END_TEST

static const struct {
	enum event_kind event;
	bool anonymous, refused;
	const char *action;
	enum reason reason;
	const char *detail;
	usec_t duration;
	const char *message;
} sentences[] = {
	{EVENT_REQUEST, false, false, "Decrypt", REASON_ALLOWED, "", 999949,
	 "payments: Decrypt allowed by rule \"unwrap\": 200 in 999.9 ms"},
	{EVENT_REQUEST, false, false, "Decrypt", REASON_ALLOWED, "", 1000000,
	 "payments: Decrypt allowed by rule \"unwrap\": 200 in 1.0 s"},
	{EVENT_REQUEST, false, false, "Decrypt", REASON_ALLOWED, "", 0,
	 "payments: Decrypt allowed by rule \"unwrap\": 200 in 0.0 ms"},
	{EVENT_REQUEST, false, false, "Decrypt", REASON_ALLOWED, "", -1,
	 "payments: Decrypt allowed by rule \"unwrap\": 200 in unknown time"},
	{EVENT_REFUSED, false, true, "Decrypt", REASON_KEY,
	 "rule \"unwrap\" (line 31) does not allow key alias/x", 1,
	 "payments: Decrypt refused (key): rule \"unwrap\" (line 31) does not allow key "
	 "alias/x"},
	{EVENT_REFUSED, false, true, "", REASON_FRAMING, "two Host fields", 1,
	 "payments: request refused (framing): two Host fields"},
	{EVENT_REFUSED, false, true, "", REASON_TOO_SLOW, "", 1,
	 "payments: request refused (too-slow)"},
	{EVENT_REFUSED, false, true, "Decrypt", REASON_NONE, "", 1,
	 "payments: Decrypt refused"},
	{EVENT_REFUSED, false, true, "Decrypt", REASON_NONE, "why", 1,
	 "payments: Decrypt refused: why"},
	{EVENT_REFUSED, false, false, "Decrypt", REASON_NO_UPSTREAM,
	 "kms-eu: connection refused", 1,
	 "payments: Decrypt allowed by rule \"unwrap\" but failed (no-upstream): kms-eu: "
	 "connection refused"},
	{EVENT_UNANSWERED, false, false, "Decrypt", REASON_CLIENT_GONE, "", 1,
	 "payments: Decrypt allowed by rule \"unwrap\" but not answered: KMS answered 200 "
	 "(client-gone)"},
	{EVENT_LEAK, false, false, "Decrypt", REASON_REPLY_LEAKS, "Plaintext is present", 1,
	 "payments: reply to Decrypt withheld (reply-leaks): Plaintext is present"},
	{EVENT_CONNECTION, true, true, "", REASON_UNKNOWN_PEER, "", 1,
	 "CID 16: connection closed (unknown-peer)"},
	{EVENT_CONNECTION, false, true, "", REASON_CONNECTIONS, "64 are open", 1,
	 "payments: connection closed (connections): 64 are open"},
	{EVENT_TUNNEL_OPEN, false, false, "", REASON_ALLOWED, "", 1,
	 "payments: tunnel to kms-eu opened without TLS"},
	{EVENT_TUNNEL_REFUSED, false, true, "", REASON_TUNNEL_HOST, "not in tunnel.hosts", 1,
	 "payments: tunnel to kms-eu refused (tunnel-host): not in tunnel.hosts"},
	{EVENT_TUNNEL_END, false, false, "", REASON_IDLE, "", 3200000,
	 "payments: tunnel to kms-eu ended after 3.2 s (idle)"},
};

START_TEST(the_sentence_tells_what_happened)
{
	struct audit_record r;
	struct audit_entry e;

	fill(&r, sentences[_i].event);
	r.kms_error[0] = '\0';
	if (sentences[_i].anonymous)
		r.enclave[0] = '\0';
	r.allowed = !sentences[_i].refused;
	r.reason = sentences[_i].reason;
	r.duration = sentences[_i].duration;
	audit_copy(r.action, sizeof(r.action), slice_from(sentences[_i].action));
	audit_copy(r.detail, sizeof(r.detail), slice_from(sentences[_i].detail));
	audit_entry_init(&e, &r);
	ck_assert_str_eq(e.fields[0] + strlen("MESSAGE="), sentences[_i].message);
}
END_TEST

START_TEST(an_outcome_that_is_not_known_is_said_to_be_so)
{
	struct audit_record r;
	struct audit_entry e;

	fill(&r, EVENT_UNANSWERED);
	r.kms_status = KMS_STATUS_UNKNOWN;
	r.reason = REASON_UPSTREAM_TIMEOUT;
	audit_entry_init(&e, &r);
	ck_assert_str_eq(
		e.fields[0],
		"MESSAGE=payments: Decrypt allowed by rule \"unwrap\" but not answered: "
		"sent to KMS, outcome unknown (upstream-timeout)");
	ck_assert_ptr_nonnull(strstr(joined(&e), "\nKMS_STATUS=unknown\n"));
}
END_TEST

START_TEST(a_tunnel_refused_before_its_host_was_known)
{
	struct audit_record r;
	struct audit_entry e;

	audit_record_init(&r, EVENT_TUNNEL_REFUSED);
	r.reason = REASON_NO_SERVER_NAME;
	audit_entry_init(&e, &r);
	ck_assert_str_eq(e.fields[0], "MESSAGE=unknown peer: tunnel refused (no-server-name)");
}
END_TEST

START_TEST(a_refusal_is_a_warning)
{
	ck_assert_int_eq(event_info(EVENT_REFUSED)->priority, LOG_WARNING);
	ck_assert_int_eq(event_info(EVENT_UNANSWERED)->priority, LOG_WARNING);
	ck_assert_int_eq(event_info(EVENT_TUNNEL_REFUSED)->priority, LOG_WARNING);
	ck_assert_int_eq(event_info(EVENT_TUNNEL_OPEN)->priority, LOG_INFO);
	ck_assert_int_eq(event_info(EVENT_LEAK)->priority, LOG_CRIT);
	ck_assert_int_eq(event_info(EVENT_LOST)->priority, LOG_ERR);
}
END_TEST

static enum reason longest_reason(void)
{
	enum reason longest = REASON_ALLOWED;

	for (enum reason i = REASON_ALLOWED; i < _REASON_MAX; i++)
		if (strlen(reason_word(i)) > strlen(reason_word(longest)))
			longest = i;
	return longest;
}

/* The longest values that fit a record, for each event: nothing is cut, nothing asserts. */
START_TEST(the_longest_record_fits)
{
	static const enum event_kind audit_events[] = {
		EVENT_REQUEST,    EVENT_REFUSED,     EVENT_UNANSWERED,     EVENT_LEAK,
		EVENT_CONNECTION, EVENT_TUNNEL_OPEN, EVENT_TUNNEL_REFUSED, EVENT_TUNNEL_END};
	struct audit_record r;
	struct audit_entry e;
	char key[sizeof(r.key) + sizeof("KMS_KEY=")];

	memset(&r, 'x', sizeof(r));
	fill(&r, audit_events[_i]);
	memset(r.enclave, 'e', sizeof(r.enclave) - 1);
	memset(r.action, 'a', sizeof(r.action) - 1);
	memset(r.key, 'k', sizeof(r.key) - 1);
	memset(r.grantee, 'g', sizeof(r.grantee) - 1);
	memset(r.endpoint, 'p', sizeof(r.endpoint) - 1);
	memset(r.rule, 'r', sizeof(r.rule) - 1);
	memset(r.detail, 'd', sizeof(r.detail) - 1);
	memset(r.kms_error, 't', sizeof(r.kms_error) - 1);
	memset(r.aws_request_id, 'i', sizeof(r.aws_request_id) - 1);
	r.reason = longest_reason();
	r.cid = UINT32_MAX;
	r.status = 599;
	r.kms_status = KMS_STATUS_UNKNOWN;
	r.duration = r.upstream = r.wait = r.bytes_in = r.bytes_out = INT64_MAX;
	audit_entry_init(&e, &r);
	snprintf(key, sizeof(key), "KMS_KEY=%s", r.key);
	ck_assert_str_eq(e.fields[6], key);
	ck_assert_uint_eq(e.n, 24);
	if (r.event == EVENT_REFUSED)
		ck_assert_ptr_nonnull(strstr(e.fields[0], r.detail));
	ck_assert_uint_lt(e.used, sizeof(e.text));
	ck_assert_uint_lt(e.used,
			  4096 - 100); /* an entry of log_write(), with its own fields */
}
END_TEST

START_TEST(values_from_a_wire_are_escaped_and_clipped)
{
	struct audit_record r;
	char bytes[300];

	audit_record_init(&r, EVENT_REFUSED);
	audit_copy(r.key, sizeof(r.key), (struct slice){"a\nVERDICT=allow\0\xff", 17});
	ck_assert_str_eq(r.key, "a\\x0aVERDICT=allow\\x00\\xff");
	memset(bytes, 'x', sizeof(bytes));
	audit_copy(r.key, sizeof(r.key), (struct slice){bytes, LIMIT_LOG_VALUE});
	ck_assert_uint_eq(strlen(r.key), LIMIT_LOG_VALUE);
	ck_assert_ptr_null(strstr(r.key, "..."));
	audit_copy(r.key, sizeof(r.key), (struct slice){bytes, LIMIT_LOG_VALUE + 1});
	ck_assert_uint_eq(strlen(r.key), LIMIT_LOG_VALUE);
	ck_assert_str_eq(r.key + LIMIT_LOG_VALUE - 3, "...");
}
END_TEST

START_TEST(a_loss_is_an_entry)
{
	struct audit_entry e;
	char expected[256];

	audit_entry_init_lost(&e, 12);
	snprintf(expected, sizeof(expected),
		 "MESSAGE=12 records could not be written to the journal\n"
		 "MESSAGE_ID=%s\nLOST=12\n",
		 event_info(EVENT_LOST)->message_id);
	ck_assert_str_eq(joined(&e), expected);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("audit_entry");
	TCase *tcase = tcase_create("audit_entry");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_test(tcase, a_full_record_has_every_field);
	tcase_add_test(tcase, an_empty_record_has_only_what_is_known);
	tcase_add_loop_test(tcase, the_sentence_tells_what_happened, 0, ELEMENTSOF(sentences));
	tcase_add_test(tcase, an_outcome_that_is_not_known_is_said_to_be_so);
	tcase_add_test(tcase, a_tunnel_refused_before_its_host_was_known);
	tcase_add_test(tcase, a_refusal_is_a_warning);
	tcase_add_loop_test(tcase, the_longest_record_fits, 0, 8);
	tcase_add_test(tcase, values_from_a_wire_are_escaped_and_clipped);
	tcase_add_test(tcase, a_loss_is_an_entry);
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
