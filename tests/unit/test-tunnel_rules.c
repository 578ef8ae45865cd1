/* SPDX-License-Identifier: Apache-2.0 */
#include "tunnel_rules.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

/* ---- which host ---- */

static struct tunnel_host listed[] = {
	{.host = (char *)"a.example", .port = 25},
	{.host = (char *)"a.example", .port = 443, .tls = true},
	{.host = (char *)"b.example", .port = 8443, .tls = true},
	{.host = (char *)"a.example", .port = 9443, .tls = true},
	{.host = (char *)"plain.example", .port = 25},
};
static const struct tunnel_config lists = {.hosts = listed, .n_hosts = ELEMENTSOF(listed)};
static const struct tunnel_config lists_none;

static const struct {
	const char *name;
	unsigned port;
	int index; /* -1: not listed */
} finds[] = {
	{"a.example", 443, 1},
	{"a.example", 9443, 3},
	{"A.eXample", 443, 1},
	{"a.example", 0, 1},
	{"b.example", 0, 2},
	{"B.EXAMPLE", 0, 2},
	{"a.example", 8443, -1},
	{"b.example", 443, -1},
	{"c.example", 443, -1},
	{"c.example", 0, -1},
	{"", 443, -1},
	{"", 0, -1},
	{"a.exampl", 443, -1},
	{"a.example.", 443, -1},
	{"a.example.evil", 443, -1},
	{"x.a.example", 443, -1},
	{".example", 0, -1},
	{"a.example", 25, 0},
	{"plain.example", 25, 4},
	{"plain.example", 0, -1},
	{"plain.example", 443, -1},
};

START_TEST(find_host)
{
	struct tunnel_host *host =
		tunnel_find_host(&lists, slice_from(finds[_i].name), finds[_i].port);

	ck_assert_ptr_eq(host, finds[_i].index < 0 ? NULL : &listed[finds[_i].index]);
	ck_assert_ptr_null(
		tunnel_find_host(&lists_none, slice_from(finds[_i].name), finds[_i].port));
}
END_TEST

/* The name ends where its slice ends. */
START_TEST(find_host_by_a_piece_of_text)
{
	const char text[] = "a.example:443";

	ck_assert_ptr_eq(tunnel_find_host(&lists, (struct slice){text, 9}, 443), &listed[1]);
	ck_assert_ptr_null(tunnel_find_host(&lists, (struct slice){text, 8}, 443));
	ck_assert_ptr_null(tunnel_find_host(&lists, (struct slice){text, 10}, 443));
}
END_TEST

/* ---- after a reload ---- */

static const struct {
	struct tunnel_host before, after;
	bool kept;
} keeps[] = {
	{{(char *)"a", 443, NULL, 0, 1}, {(char *)"a", 443, NULL, 0, 7}, true}, /* its line */
	{{(char *)"a", 443, NULL, 0, 1}, {(char *)"b", 443, NULL, 0, 1}, false},
	{{(char *)"a", 443, NULL, 0, 1}, {(char *)"a", 444, NULL, 0, 1}, false},
	{{(char *)"a", 443, NULL, 0, 1}, {(char *)"a", 443, (char *)"c", 0, 1}, false},
	{{(char *)"a", 443, (char *)"c", 1, 1}, {(char *)"a", 443, (char *)"c", 1, 1}, true},
	{{(char *)"a", 443, (char *)"c", 1, 1}, {(char *)"a", 443, (char *)"d", 1, 1}, false},
	{{(char *)"a", 443, (char *)"c", 1, 1}, {(char *)"a", 443, (char *)"c", 2, 1}, false},
	{{(char *)"a", 443, (char *)"c", 1, 1}, {(char *)"a", 443, NULL, 0, 1}, false},
	{{(char *)"a", 443, NULL, 0, 1, .tls = true}, {(char *)"a", 443, NULL, 0, 1}, false},
	{{(char *)"a", 443, NULL, 0, 1}, {(char *)"a", 443, NULL, 0, 1, .tls = true}, false},
	{{(char *)"a", 443, .proxy = {(char *)"p", 1}},
	 {(char *)"a", 443, .proxy = {(char *)"p", 1}},
	 true},
	{{(char *)"a", 443, .proxy = {(char *)"p", 1}}, {(char *)"a", 443}, false},
	{{(char *)"a", 443}, {(char *)"a", 443, .proxy = {(char *)"p", 1}}, false},
	{{(char *)"a", 443, .proxy = {(char *)"p", 1}},
	 {(char *)"a", 443, .proxy = {(char *)"q", 1}},
	 false},
	{{(char *)"a", 443, .proxy = {(char *)"p", 1}},
	 {(char *)"a", 443, .proxy = {(char *)"p", 2}},
	 false},
	{{(char *)"a", 443, .proxy = {(char *)"p", 1, (char *)"old"}},
	 {(char *)"a", 443, .proxy = {(char *)"p", 1, (char *)"new"}},
	 true},
};

START_TEST(keep_host)
{
	struct tunnel_host hosts[] = {{.host = (char *)"other", .port = 443}, keeps[_i].after};
	struct tunnel_config config = {.hosts = hosts, .n_hosts = ELEMENTSOF(hosts)};

	ck_assert_ptr_eq(tunnel_keep_host(&config, &keeps[_i].before),
			 keeps[_i].kept ? &hosts[1] : NULL);
	ck_assert_ptr_null(tunnel_keep_host(&lists_none, &keeps[_i].before));
}
END_TEST

/* One whose host isn't known yet needs that there is a tunnel at all. */
START_TEST(keep_any_host)
{
	ck_assert_ptr_nonnull(tunnel_keep_host(&lists, NULL));
	ck_assert_ptr_null(tunnel_keep_host(&lists_none, NULL));
}
END_TEST

/* ---- limits ---- */

#define NOW (1000 * USEC_PER_SEC)

START_TEST(admit)
{
	static struct enclave e;
	struct enclave_config config = {
		.limits.requests = {.interval = USEC_PER_SEC, .burst = 3},
		.tunnel.connections = 2,
	};
	bool counted = false;

	for (unsigned i = 1; i <= 2; i++) {
		ck_assert_int_eq(tunnel_admit(&e, &config, NOW, &counted), TUNNEL_ALLOWED);
		ck_assert(counted);
		ck_assert_uint_eq(gauge_read(&e.tunnels), i);
	}
	/* The places are taken; that costs a token as well. */
	ck_assert_int_eq(tunnel_admit(&e, &config, NOW, &counted), TUNNEL_CONNECTIONS);
	ck_assert(!counted);
	/* Without a token it isn't looked at the places: one is free here. */
	gauge_return(&e.tunnels, 1);
	counted = true;
	ck_assert_int_eq(tunnel_admit(&e, &config, NOW, &counted), TUNNEL_RATE);
	ck_assert(!counted);
	ck_assert_uint_eq(gauge_read(&e.tunnels), 1);
	ck_assert_int_eq(tunnel_admit(&e, &config, NOW + USEC_PER_SEC, &counted),
			 TUNNEL_ALLOWED);
	ck_assert(counted);
	ck_assert_uint_eq(gauge_read(&e.tunnels), 2);
}
END_TEST

/* ---- what the enclave is told ---- */

static const struct {
	enum tunnel_refusal refusal;
	const char *word; /* of the record */
	const char *status;
	int alert;
} refusals[] = {
	{TUNNEL_NO_NAME, "no-server-name", "403 Forbidden", 112},
	{TUNNEL_BAD_HELLO, "client-hello", "403 Forbidden", 50},
	{TUNNEL_HOST, "tunnel-host", "403 Forbidden", 112},
	{TUNNEL_NAME_DIFFERS, "server-name", "403 Forbidden", 112},
	{TUNNEL_RATE, "rate", "403 Forbidden", 80},
	{TUNNEL_CONNECTIONS, "tunnel-connections", "403 Forbidden", 80},
	{TUNNEL_MEMORY, "memory", "502 Bad Gateway", 80},
	{TUNNEL_NO_HOST, "no-upstream", "502 Bad Gateway", 80},
	{TUNNEL_NO_PROXY, "proxy-unreachable", "502 Bad Gateway", 80},
	{TUNNEL_PROXY_REFUSED, "proxy-refused", "502 Bad Gateway", 80},
	{TUNNEL_PROXY_BROKEN, "proxy-broken", "502 Bad Gateway", 80},
	{TUNNEL_TIMEOUT, "upstream-timeout", "504 Gateway Timeout", 80},
	{TUNNEL_TOO_SLOW, "too-slow", "403 Forbidden", 80},
};

START_TEST(every_refusal_has_a_row)
{
	ck_assert_uint_eq(ELEMENTSOF(refusals), _TUNNEL_REFUSAL_MAX - 1);
	for (unsigned i = 0; i < ELEMENTSOF(refusals); i++)
		ck_assert_uint_eq(refusals[i].refusal, i + 1);
}
END_TEST

START_TEST(a_connect_is_answered_in_http)
{
	const struct tunnel_refusal_info *info = tunnel_refusal_info(refusals[_i].refusal);
	char out[TUNNEL_ANSWER_SIZE], expected[TUNNEL_ANSWER_SIZE];
	struct slice answer =
		tunnel_refusal_write(refusals[_i].refusal, info->status, info->alert, out);

	ck_assert_str_eq(reason_word(info->reason), refusals[_i].word);
	snprintf(expected, sizeof(expected),
		 "HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n"
		 "Connection: close\r\n\r\n%s\n",
		 refusals[_i].status, strlen(info->text) + 1, info->text);
	ck_assert_uint_eq(answer.n, strlen(expected));
	ck_assert_mem_eq(answer.p, expected, answer.n);
}
END_TEST

START_TEST(a_client_hello_is_answered_in_tls)
{
	const struct tunnel_refusal_info *info = tunnel_refusal_info(refusals[_i].refusal);
	const char expected[] = {0x15, 3, 3, 0, 2, 2, (char)refusals[_i].alert};
	char out[TUNNEL_ANSWER_SIZE];
	struct slice answer = tunnel_refusal_write(refusals[_i].refusal, 0, info->alert, out);

	ck_assert_uint_eq(answer.n, sizeof(expected));
	ck_assert_mem_eq(answer.p, expected, sizeof(expected));

	/* The caller's alert counts. */
	answer = tunnel_refusal_write(refusals[_i].refusal, 0, TLS_ALERT_PROTOCOL_VERSION, out);
	ck_assert_int_eq(answer.p[6], TLS_ALERT_PROTOCOL_VERSION);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("tunnel_rules");
	TCase *tcase = tcase_create("tunnel_rules");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_loop_test(tcase, find_host, 0, ELEMENTSOF(finds));
	tcase_add_test(tcase, find_host_by_a_piece_of_text);
	tcase_add_loop_test(tcase, keep_host, 0, ELEMENTSOF(keeps));
	tcase_add_test(tcase, keep_any_host);
	tcase_add_test(tcase, admit);
	tcase_add_test(tcase, every_refusal_has_a_row);
	tcase_add_loop_test(tcase, a_connect_is_answered_in_http, 0, ELEMENTSOF(refusals));
	tcase_add_loop_test(tcase, a_client_hello_is_answered_in_tls, 0, ELEMENTSOF(refusals));
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
