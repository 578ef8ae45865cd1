/* SPDX-License-Identifier: Apache-2.0 */
#include "imds.h"

#include "canary.h"
#include "http_script.h"
#include "secret.h"

#include <check.h>
#include <curl/curl.h>
#include <stdio.h>
#include <sys/prctl.h>

#define KEY "ASIAEXAMPLEEXAMPLE00"
#define ANSWER(status, fields, body) "HTTP/1.1 " status "\r\n" fields "\r\n" body
#define STATUS(status) ANSWER(status, "Content-Length: 3\r\n", "no\n")
#define TOKEN(ttl)                                                                             \
	ANSWER("200 OK",                                                                       \
	       "Content-Length: 7\r\nX-Aws-Ec2-Metadata-Token-Ttl-Seconds: " ttl "\r\n",       \
	       "T0KEN==")
#define ROLE(name) ANSWER("200 OK", "Connection: close\r\n", name)
#define CREDENTIALS(key)                                                                       \
	ANSWER("200 OK", "Connection: close\r\n",                                              \
	       "{\"Code\":\"Success\",\"AccessKeyId\":\"" key                                  \
	       "\",\"SecretAccessKey\":\"s3cret\","                                            \
	       "\"Token\":\"t\",\"Expiration\":\"2036-01-02T03:04:05Z\"}")
#define ROLES "/latest/meta-data/iam/security-credentials/"

struct outcome {
	unsigned calls;
	char key[160]; /* "": it failed */
	struct error error;
};

static struct event_base *base;

static void setup(void)
{
	base = event_base_new();
}

static void teardown(void)
{
	event_base_free(base);
	ck_assert_int_eq(prctl(PR_SET_DUMPABLE, 1), 0); /* for the leak sanitizer */
}

static struct source *make(const char *endpoint, const char *role)
{
	const struct credentials_config config = {.imds_endpoint = (char *)endpoint,
						  .imds_role = (char *)role};
	struct source *source = NULL;

	ck_assert_int_eq(imds_new(base, &config, &source), 0);
	return source;
}

static void on_done(struct credentials *credentials, const struct error *error, void *userdata)
{
	struct outcome *outcome = userdata;

	outcome->calls++;
	ck_assert(!credentials == !!error);
	if (credentials)
		snprintf(outcome->key, sizeof(outcome->key), "%s", credentials->access_key_id);
	else
		outcome->error = *error;
	event_base_loopbreak(base);
}

static struct outcome ask(struct source *source)
{
	struct outcome outcome = {0};

	source->ops->start(source, on_done, &outcome);
	if (!outcome.calls)
		event_base_dispatch(base);
	ck_assert_uint_eq(outcome.calls, 1);
	return outcome;
}

START_TEST(test_way)
{
	const char *const answers[] = {TOKEN("21600"), ROLE("enclave-parent\n"),
				       CREDENTIALS(KEY), NULL};
	_cleanup_(http_script_freep) struct http_script *s = http_script_new(base, answers);
	_cleanup_(source_freep) struct source *source = make(http_script_url(s), NULL);
	struct outcome outcome;

	setenv("http_proxy", "http://127.0.0.1:1", 1);
	setenv("all_proxy", "http://127.0.0.1:1", 1);
	outcome = ask(source);
	ck_assert_msg(outcome.key[0], "%s", outcome.error.text);
	ck_assert_str_eq(outcome.key, KEY);
	ck_assert_uint_eq(http_script_count(s), 3);
	http_script_assert_line(s, 0, "PUT /latest/api/token HTTP/1.1");
	http_script_assert_line(s, 0, "X-aws-ec2-metadata-token-ttl-seconds: 21600");
	http_script_assert_line(s, 0, "Content-Length: 0");
	http_script_assert_line(s, 1, "GET " ROLES " HTTP/1.1");
	http_script_assert_line(s, 1, "X-aws-ec2-metadata-token: T0KEN==");
	http_script_assert_line(s, 2, "GET " ROLES "enclave-parent HTTP/1.1");
	http_script_assert_line(s, 2, "X-aws-ec2-metadata-token: T0KEN==");
	for (unsigned i = 0; i < 3; i++)
		ck_assert_ptr_null(strcasestr(http_script_request(s, i), "x-forwarded-for"));
}
END_TEST

/* The token is kept, the role is not. */
START_TEST(test_again)
{
	const char *const answers[] = {TOKEN("21600"),
				       ROLE("one"),
				       CREDENTIALS(KEY),
				       ROLE("two"),
				       CREDENTIALS("ASIAEXAMPLEEXAMPLE02"),
				       NULL};
	_cleanup_(http_script_freep) struct http_script *s = http_script_new(base, answers);
	_cleanup_(source_freep) struct source *source = make(http_script_url(s), NULL);

	ck_assert_str_eq(ask(source).key, KEY);
	ck_assert_str_eq(ask(source).key, "ASIAEXAMPLEEXAMPLE02");
	ck_assert_uint_eq(http_script_count(s), 5);
	http_script_assert_line(s, 4, "GET " ROLES "two HTTP/1.1");
}
END_TEST

/* Not long enough, or not said: the token serves one run. */
START_TEST(test_short_token)
{
	static const char *const tokens[] = {TOKEN("120"), TOKEN("1"),     TOKEN("x"),
					     TOKEN("-1"),  TOKEN("21601"), ROLE("T0KEN==")};
	const char *const answers[] = {tokens[_i], ROLE("one"), CREDENTIALS(KEY),
				       tokens[_i], ROLE("one"), CREDENTIALS(KEY),
				       NULL};
	_cleanup_(http_script_freep) struct http_script *s = http_script_new(base, answers);
	_cleanup_(source_freep) struct source *source = make(http_script_url(s), NULL);

	ck_assert_str_eq(ask(source).key, KEY);
	ck_assert_str_eq(ask(source).key, KEY);
	ck_assert_uint_eq(http_script_count(s), 6);
}
END_TEST

START_TEST(test_401_at_role)
{
	const char *const answers[] = {
		TOKEN("21600"), ROLE("one"), CREDENTIALS(KEY), STATUS("401 Unauthorized"),
		TOKEN("21600"), ROLE("one"), CREDENTIALS(KEY), NULL};
	_cleanup_(http_script_freep) struct http_script *s = http_script_new(base, answers);
	_cleanup_(source_freep) struct source *source = make(http_script_url(s), NULL);

	ck_assert_str_eq(ask(source).key, KEY);
	ck_assert_str_eq(ask(source).key, KEY);
	ck_assert_uint_eq(http_script_count(s), 7);
	http_script_assert_line(s, 4, "PUT /latest/api/token HTTP/1.1");
}
END_TEST

START_TEST(test_401_at_credentials)
{
	const char *const answers[] = {TOKEN("21600"),
				       ROLE("one"),
				       STATUS("401 Unauthorized"),
				       TOKEN("21600"),
				       ROLE("one"),
				       CREDENTIALS(KEY),
				       NULL};
	_cleanup_(http_script_freep) struct http_script *s = http_script_new(base, answers);
	_cleanup_(source_freep) struct source *source = make(http_script_url(s), NULL);

	ck_assert_str_eq(ask(source).key, KEY);
	ck_assert_uint_eq(http_script_count(s), 6);
}
END_TEST

/* Once a run, and in each run. */
START_TEST(test_401_for_ever)
{
	const char *const answers[] = {TOKEN("21600"),
				       STATUS("401 Unauthorized"),
				       TOKEN("21600"),
				       STATUS("401 Unauthorized"),
				       STATUS("401 Unauthorized"),
				       TOKEN("21600"),
				       ROLE("one"),
				       CREDENTIALS(KEY),
				       NULL};
	_cleanup_(http_script_freep) struct http_script *s = http_script_new(base, answers);
	_cleanup_(source_freep) struct source *source = make(http_script_url(s), NULL);

	ck_assert_ptr_nonnull(strstr(ask(source).error.text, "status 401"));
	ck_assert_uint_eq(http_script_count(s), 4);
	ck_assert_str_eq(ask(source).key, KEY);
	ck_assert_uint_eq(http_script_count(s), 8);
}
END_TEST

START_TEST(test_pinned_role)
{
	const char *const answers[] = {TOKEN("21600"), CREDENTIALS(KEY),
				       STATUS("404 Not Found"), NULL};
	_cleanup_(http_script_freep) struct http_script *s = http_script_new(base, answers);
	_cleanup_(source_freep) struct source *source =
		make(http_script_url(s), "my.Role+=,@-_");
	struct outcome outcome;

	ck_assert_str_eq(ask(source).key, KEY);
	http_script_assert_line(s, 1, "GET " ROLES "my.Role+=,@-_ HTTP/1.1");
	outcome = ask(source);
	ck_assert_ptr_nonnull(strstr(outcome.error.text, "this role is not attached"));
}
END_TEST

#define BIG "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define BIG_1K BIG BIG BIG BIG BIG BIG BIG BIG BIG BIG BIG BIG BIG BIG BIG BIG
#define BIG_8K BIG_1K BIG_1K BIG_1K BIG_1K BIG_1K BIG_1K BIG_1K BIG_1K

/* Runs that fail, and what the operator reads. */
static const struct {
	const char *answers[4];
	const char *says;
} failures[] = {
	{{STATUS("403 Forbidden")}, "it is disabled for this instance"},
	{{STATUS("404 Not Found")}, "not an instance metadata service of version 2"},
	{{STATUS("405 Method Not Allowed")}, "not an instance metadata service of version 2"},
	{{STATUS("400 Bad Request")}, "asked for a token: status 400"},
	{{STATUS("401 Unauthorized")}, "asked for a token: status 401"},
	{{STATUS("503 Service Unavailable")}, "it is busy; status 503"},
	{{STATUS("429 Too Many Requests")}, "it is busy; status 429"},
	{{ANSWER("302 Found", "Location: http://127.0.0.1:1/\r\nContent-Length: 0\r\n", "")},
	 "status 302"},
	{{ANSWER("200 OK", "Content-Length: 0\r\n", "")}, "the answer is not a token"},
	{{ANSWER("200 OK", "Content-Length: 3\r\n", "a b")}, "the answer is not a token"},
	{{ANSWER("200 OK", "Content-Length: 4\r\n", "a\r\nb")}, "the answer is not a token"},
	{{ROLE(BIG_1K "x")}, "the answer is not a token"},
	{{"not HTTP\r\n\r\n"}, "(is this an EC2 instance?)"},
	{{ANSWER("200 OK", "Content-Length: 9\r\n", "short")}, "(is this an EC2 instance?)"},
	{{TOKEN("60"), STATUS("404 Not Found")}, "no IAM role is attached to this instance"},
	{{TOKEN("60"), STATUS("403 Forbidden")}, "it is disabled"},
	{{TOKEN("60"), STATUS("500 Internal Server Error")}, "it is busy; status 500"},
	{{TOKEN("60"), ROLE("")}, "the answer is not the name of a role"},
	{{TOKEN("60"), ROLE("../user-data")}, "the answer is not the name of a role"},
	{{TOKEN("60"), ROLE("<html>")}, "the answer is not the name of a role"},
	{{TOKEN("60"), ROLE("one"), STATUS("404 Not Found")}, "this role is not attached"},
	{{TOKEN("60"), ROLE("one"), STATUS("503 Service Unavailable")}, "it is busy"},
	{{TOKEN("60"), ROLE("one"), ROLE("{\"Code\":\"AssumeRoleUnauthorizedAccess\"}")},
	 "for the role one has the Code AssumeRoleUnauthorizedAccess"},
	{{TOKEN("60"), ROLE("one"), ROLE("<html>")},
	 "for the role one can't be read: JSON, byte "},
	{{TOKEN("60"), ROLE("one"), ROLE(BIG_8K BIG_8K "x")}, "larger than 16384 bytes"},
	{{TOKEN("60"), ROLE("one"), ROLE(BIG_8K BIG_8K)}, "can't be read: JSON, byte "},
	{{TOKEN("60"), ANSWER("200 OK", "A: " BIG_8K "\r\nB: " BIG_8K "\r\n", "one")},
	 "larger than 16384 bytes"},
};

START_TEST(test_failure)
{
	const char *const answers[] = {failures[_i].answers[0], failures[_i].answers[1],
				       failures[_i].answers[2], NULL};
	_cleanup_(http_script_freep) struct http_script *s = http_script_new(base, answers);
	_cleanup_(source_freep) struct source *source = make(http_script_url(s), NULL);
	struct outcome outcome = ask(source);

	ck_assert_str_eq(outcome.key, "");
	ck_assert_msg(strstr(outcome.error.text, failures[_i].says), "%d: %s", _i,
		      outcome.error.text);
	ck_assert_ptr_null(strstr(outcome.error.text, "T0KEN"));
}
END_TEST

START_TEST(test_no_server)
{
	_cleanup_(source_freep) struct source *source = make("http://127.0.0.1:1/", NULL);
	struct outcome outcome = ask(source);

	ck_assert_msg(strstr(outcome.error.text,
			     "IMDS at http://127.0.0.1:1, asked for a token: can't connect: "
			     "Connection refused (is this an EC2 instance?)"),
		      "%s", outcome.error.text);
}
END_TEST

START_TEST(test_wrong_scheme)
{
	_cleanup_(source_freep) struct source *source = make("file:///etc/passwd", NULL);

	ck_assert_ptr_nonnull(strstr(ask(source).error.text, "Unsupported protocol"));
}
END_TEST

START_TEST(test_silence)
{
	static const struct {
		const char *answers[3], *says;
	} cases[] = {
		{{HTTP_SCRIPT_SILENCE, NULL}, "HttpPutResponseHopLimit must be 2 or more"},
		{{TOKEN("60"), HTTP_SCRIPT_SILENCE, NULL},
		 "the instance's role: Timeout was reached"},
	};
	_cleanup_(http_script_freep) struct http_script *s =
		http_script_new(base, cases[_i].answers);
	_cleanup_(source_freep) struct source *source = make(http_script_url(s), NULL);
	usec_t start = clock_monotonic(), took;
	struct outcome outcome = ask(source);

	took = clock_monotonic() - start;
	ck_assert_msg(strstr(outcome.error.text, cases[_i].says), "%s", outcome.error.text);
	ck_assert_int_ge(took, 1900 * USEC_PER_MSEC);
	ck_assert_int_lt(took, 10 * USEC_PER_SEC);
}
END_TEST

#define REGION(text) ANSWER("200 OK", "Connection: close\r\n", text)

static void on_region_done(const char *region, const struct error *error, void *userdata)
{
	struct outcome *outcome = userdata;

	outcome->calls++;
	ck_assert(!region == !!error);
	if (region)
		snprintf(outcome->key, sizeof(outcome->key), "%s", region);
	else
		outcome->error = *error;
	event_base_loopbreak(base);
}

static struct outcome ask_region(struct source *source)
{
	struct outcome outcome = {0};

	imds_ask_region(source, on_region_done, &outcome);
	if (!outcome.calls)
		event_base_dispatch(base);
	ck_assert_uint_eq(outcome.calls, 1);
	return outcome;
}

/* With the token, which the credentials then are asked for with. */
START_TEST(test_region)
{
	const char *const answers[] = {TOKEN("21600"),   REGION("eu-central-1"),  ROLE("one"),
				       CREDENTIALS(KEY), REGION("us-gov-west-1"), NULL};
	_cleanup_(http_script_freep) struct http_script *s = http_script_new(base, answers);
	_cleanup_(source_freep) struct source *source = make(http_script_url(s), NULL);

	ck_assert_str_eq(ask_region(source).key, "eu-central-1");
	http_script_assert_line(s, 0, "PUT /latest/api/token HTTP/1.1");
	http_script_assert_line(s, 1, "GET /latest/meta-data/placement/region HTTP/1.1");
	http_script_assert_line(s, 1, "X-aws-ec2-metadata-token: T0KEN==");
	ck_assert_str_eq(ask(source).key, KEY);
	ck_assert_str_eq(ask_region(source).key, "us-gov-west-1");
}
END_TEST

/* Hosts are made of it: nothing but a region of a known partition gets through. */
static const struct {
	const char *answer, *says;
} no_regions[] = {
	{REGION(""), "asked for the instance's region: the answer \"\" is no region"},
	{REGION("eu-central-1\n"), "the answer \"eu-central-1\\x0a\" is no region"},
	{REGION("eu-central-1a"), "the answer \"eu-central-1a\" is no region of a partition"},
	{REGION("mars-north-1"), "the answer \"mars-north-1\" is no region of a partition"},
	{REGION("EU-CENTRAL-1"), "is no region"},
	{REGION("eu-central-1.evil.example/"), "is no region"},
	{REGION("<html>"), "the answer \"<html>\" is no region"},
	{REGION(BIG_8K), "is no region"},
	{STATUS("404 Not Found"), "asked for the instance's region: status 404"},
	{STATUS("503 Service Unavailable"), "it is busy"},
	{"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\neu-central-1",
	 "asked for the instance's region"},
};

START_TEST(test_no_region)
{
	const char *const answers[] = {TOKEN("60"), no_regions[_i].answer, NULL};
	_cleanup_(http_script_freep) struct http_script *s = http_script_new(base, answers);
	_cleanup_(source_freep) struct source *source = make(http_script_url(s), NULL);
	struct outcome outcome = ask_region(source);

	ck_assert_str_eq(outcome.key, "");
	ck_assert_msg(strstr(outcome.error.text, no_regions[_i].says), "%d: %s", _i,
		      outcome.error.text);
}
END_TEST

/* An old token is renewed once. */
START_TEST(test_region_401)
{
	const char *const answers[] = {TOKEN("21600"), STATUS("401 Unauthorized"),
				       TOKEN("21600"), REGION("eu-west-1"), NULL};
	_cleanup_(http_script_freep) struct http_script *s = http_script_new(base, answers);
	_cleanup_(source_freep) struct source *source = make(http_script_url(s), NULL);

	ck_assert_str_eq(ask_region(source).key, "eu-west-1");
}
END_TEST

static void stop(evutil_socket_t fd, short what, void *userdata)
{
	(void)fd;
	(void)what;
	(void)userdata;
	event_base_loopbreak(base);
}

/* Cancelled or freed while an answer is awaited: no callback, then or later. */
START_TEST(test_cancel)
{
	const char *const answers[] = {HTTP_SCRIPT_SILENCE, TOKEN("60"),         ROLE("one"),
				       CREDENTIALS(KEY),    HTTP_SCRIPT_SILENCE, NULL};
	_cleanup_(http_script_freep) struct http_script *s = http_script_new(base, answers);
	struct source *source = make(http_script_url(s), NULL);
	struct outcome outcome = {0};

	source->ops->start(source, on_done, &outcome);
	while (http_script_count(s) < 1)
		event_base_loop(base, EVLOOP_ONCE);
	source->ops->cancel(source);
	ck_assert_str_eq(ask(source).key, KEY);
	source->ops->start(source, on_done, &outcome);
	while (http_script_count(s) < 5)
		event_base_loop(base, EVLOOP_ONCE);
	source_free(source);
	event_base_once(base, -1, EV_TIMEOUT, stop, NULL, &(struct timeval){0, 10000});
	event_base_dispatch(base);
	ck_assert_uint_eq(outcome.calls, 0);
}
END_TEST

/* The heap that a core dump would show has no piece of the secret when all is freed. */
START_TEST(test_leaves_nothing)
{
	char *text = wipe_malloc(4096), canary[CANARY_SIZE + 1];
	const char *const answers[] = {TOKEN("21600"), ROLE("one"), text, NULL};
	struct http_script *s;
	struct source *source;

	ck_assert_int_eq(secret_init(), 0);
	canary_write(canary);
	snprintf(text, 4096,
		 ANSWER("200 OK", "Connection: close\r\n",
			"{\"Code\":\"Success\",\"AccessKeyId\":\"" KEY
			"\",\"SecretAccessKey\":\"%s\","
			"\"Token\":\"%s\",\"Expiration\":\"2036-01-02T03:04:05Z\"}"),
		 canary, canary);
	explicit_bzero(canary, sizeof(canary));
	s = http_script_new(base, answers);
	source = make(http_script_url(s), NULL);
	ck_assert_str_eq(ask(source).key, KEY);
	http_script_free(s);
	wipe_free(text);
	canary_assert_gone();
	source_free(source);
}
END_TEST

static const struct {
	struct slice list;
	const char *want; /* NULL: refused */
} roles[] = {
	{{"a", 1}, "a"},
	{SLICE("enclave-parent"), "enclave-parent"},
	{SLICE("enclave-parent\n"), "enclave-parent"},
	{SLICE("enclave-parent\r\nsecond\r\n"), "enclave-parent"},
	{SLICE(" \tone \t\nsecond"), "one"},
	{SLICE("A_z0+=,.@-9"), "A_z0+=,.@-9"},
	{SLICE("..."), "..."},
	{SLICE(BIG), BIG}, /* 64 */
	{SLICE(BIG "x"), NULL},
	{SLICE(""), NULL},
	{{NULL, 0}, NULL},
	{SLICE("\n"), NULL},
	{SLICE("\nsecond"), NULL},
	{SLICE("  "), NULL},
	{SLICE("."), NULL},
	{SLICE(".."), NULL},
	{SLICE("a/b"), NULL},
	{SLICE("../x"), NULL},
	{SLICE("a b"), NULL},
	{SLICE("a\0b"), NULL},
	{SLICE("a\0"), NULL},
	{SLICE("a?b"), NULL},
	{SLICE("a#b"), NULL},
	{SLICE("a%2fb"), NULL},
	{SLICE("a:b"), NULL},
	{SLICE("a\rb"), NULL},
	{SLICE("r\xc3\xb6le"), NULL},
	{SLICE("<html>\n"), NULL},
};

START_TEST(test_role)
{
	struct slice role = SLICE("untouched");
	bool ok = imds_role(roles[_i].list, &role);

	ck_assert_msg(ok == !!roles[_i].want, "row %d", _i);
	ck_assert(slice_eq_str(role, roles[_i].want ?: "untouched"));
}
END_TEST

int main(int argc, char **argv)
{
	Suite *suite = suite_create("imds");
	TCase *tcase = tcase_create("imds");
	SRunner *runner = srunner_create(suite);
	int failed;

	(void)argc;
	canary_main(argv);
	/* As the program does; libevent is only the test server's. */
	curl_global_init_mem(CURL_GLOBAL_DEFAULT, wipe_malloc, wipe_free, wipe_realloc,
			     wipe_strdup, wipe_calloc);
	event_set_mem_functions(wipe_malloc, wipe_realloc, wipe_free);
	tcase_set_timeout(tcase, 60);
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, test_way);
	tcase_add_test(tcase, test_again);
	tcase_add_loop_test(tcase, test_short_token, 0, 6);
	tcase_add_test(tcase, test_401_at_role);
	tcase_add_test(tcase, test_401_at_credentials);
	tcase_add_test(tcase, test_401_for_ever);
	tcase_add_test(tcase, test_pinned_role);
	tcase_add_loop_test(tcase, test_failure, 0, ELEMENTSOF(failures));
	tcase_add_test(tcase, test_no_server);
	tcase_add_test(tcase, test_wrong_scheme);
	tcase_add_loop_test(tcase, test_silence, 0, 2);
	tcase_add_test(tcase, test_region);
	tcase_add_loop_test(tcase, test_no_region, 0, ELEMENTSOF(no_regions));
	tcase_add_test(tcase, test_region_401);
	tcase_add_test(tcase, test_cancel);
	tcase_add_test(tcase, test_leaves_nothing);
	tcase_add_loop_test(tcase, test_role, 0, ELEMENTSOF(roles));
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
