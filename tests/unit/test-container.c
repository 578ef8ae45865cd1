/* SPDX-License-Identifier: Apache-2.0 */
#include "container.h"

#include "http_script.h"
#include "limit.h"
#include "secret.h"

#include <check.h>
#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#define KEY "ASIAEXAMPLEEXAMPLE00"
#define ANSWER(status, body) "HTTP/1.1 " status "\r\nConnection: close\r\n\r\n" body
#define CREDENTIALS                                                                            \
	ANSWER("200 OK",                                                                       \
	       "{\"RoleArn\":\"arn:aws:iam::111122223333:role/x\",\"AccessKeyId\":\"" KEY      \
	       "\",\"SecretAccessKey\":\"s3cret\",\"Token\":\"t\","                            \
	       "\"Expiration\":\"2036-01-02T03:04:05Z\"}")

static struct event_base *base;
static char token_file[] = "/tmp/container-XXXXXX";
static int token_fd;

static const char *const variables[] = {
	"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
	"AWS_CONTAINER_CREDENTIALS_FULL_URI",
	"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
	"AWS_CONTAINER_AUTHORIZATION_TOKEN",
};
#define RELATIVE_URI variables[0]
#define FULL_URI variables[1]
#define TOKEN_FILE variables[2]
#define TOKEN variables[3]

static void setup(void)
{
	for (size_t i = 0; i < ELEMENTSOF(variables); i++)
		unsetenv(variables[i]);
	base = event_base_new();
	token_fd = mkstemp(token_file);
	ck_assert_int_ge(token_fd, 0);
}

static void teardown(void)
{
	event_base_free(base);
	unlink(token_file);
	close(token_fd);
}

static const struct {
	const char *url;
	bool ok;
} urls[] = {
	{"http://169.254.170.2/v2/credentials/0", true},
	{"http://169.254.170.23/v1/credentials", true},
	{"http://[fd00:ec2::23]/v1/credentials", true},
	{"http://127.0.0.1/", true},
	{"http://127.0.0.1:51679/x?y=z", true},
	{"http://127.255.255.254/", true},
	{"http://[::1]:80/", true},
	{"http://localhost/", true},
	{"http://localhost:8080/x", true},
	{"https://credentials.example.com/x", true},
	{"https://10.0.0.1:8443/", true},
	{"HTTP://127.0.0.1/", true},
	{"", false},
	{"/v2/credentials", false},
	{"//127.0.0.1/", false},
	{"127.0.0.1", false},
	{"http:///x", false},
	{"http://169.254.169.254/latest/meta-data", false},
	{"http://169.254.170.3/", false},
	{"http://169.254.170.2.example.com/", false},
	{"http://10.0.0.1/", false},
	{"http://128.0.0.1/", false},
	{"http://0.0.0.0/", false},
	{"http://example.com/", false},
	{"http://localhost.example.com/", false},
	{"http://127.0.0.1.example.com/", false},
	{"http://[fd00:ec2::24]/", false},
	{"http://[fd00:ec2::254]/", false},
	{"http://[::ffff:10.0.0.1]/", false},
	{"http://[::2]/", false},
	{"http://user@127.0.0.1/", false},
	{"http://127.0.0.1@example.com/", false},
	{"https://user:password@example.com/", false},
	{"http://exa mple.com/", false},
	{"ftp://127.0.0.1/", false},
	{"file:///etc/passwd", false},
	{"gopher://127.0.0.1/", false},
};

START_TEST(test_url)
{
	struct error error = {""};
	int r = container_check_url(urls[_i].url, &error);

	ck_assert_msg(r == (urls[_i].ok ? 0 : -EINVAL), "%s: %d %s", urls[_i].url, r,
		      error.text);
	ck_assert((error.text[0] == '\0') == urls[_i].ok);
}
END_TEST

struct outcome {
	unsigned calls;
	char key[160]; /* "": it failed */
	struct error error;
};

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

static struct outcome ask(const char *uri, const char *file)
{
	const struct credentials_config config = {.container_uri = (char *)uri,
						  .container_token_file = (char *)file};
	_cleanup_(source_freep) struct source *source = NULL;
	struct outcome outcome = {0};

	ck_assert_int_eq(container_new(base, &config, &source), 0);
	source->ops->start(source, on_done, &outcome);
	if (!outcome.calls)
		event_base_dispatch(base);
	ck_assert_uint_eq(outcome.calls, 1);
	return outcome;
}

static void put_token(const char *text, size_t n)
{
	ck_assert_int_eq(ftruncate(token_fd, 0), 0);
	ck_assert_int_eq(pwrite(token_fd, text, n, 0), (ssize_t)n);
}

/* Who names the endpoint and who the token, in the order of their rights. */
START_TEST(test_where_from)
{
	const char *const answers[] = {CREDENTIALS, CREDENTIALS, CREDENTIALS, CREDENTIALS,
				       NULL};
	_cleanup_(http_script_freep) struct http_script *s = http_script_new(base, answers);
	char uri[128];

	snprintf(uri, sizeof(uri), "%s/full?x=y", http_script_url(s));
	setenv(FULL_URI, uri, 1);
	ck_assert_str_eq(ask(NULL, NULL).key, KEY);
	http_script_assert_line(s, 0, "GET /full?x=y HTTP/1.1");
	ck_assert_ptr_null(strcasestr(http_script_request(s, 0), "authorization"));

	setenv(TOKEN, "Bearer from-environment", 1);
	ck_assert_str_eq(ask(NULL, NULL).key, KEY);
	http_script_assert_line(s, 1, "Authorization: Bearer from-environment");

	put_token("from-file\r\n", 11);
	setenv(TOKEN_FILE, token_file, 1);
	ck_assert_str_eq(ask(NULL, NULL).key, KEY);
	http_script_assert_line(s, 2, "Authorization: from-file");

	put_token("renewed", 7);
	setenv(TOKEN_FILE, "/nowhere", 1);
	setenv(FULL_URI, "http://127.0.0.1:1/", 1);
	setenv(RELATIVE_URI, "/x", 1);
	snprintf(uri, sizeof(uri), "%s/configured", http_script_url(s));
	ck_assert_str_eq(ask(uri, token_file).key, KEY);
	http_script_assert_line(s, 3, "GET /configured HTTP/1.1");
	http_script_assert_line(s, 3, "Authorization: renewed");
}
END_TEST

START_TEST(test_no_uri)
{
	ck_assert_ptr_nonnull(strstr(ask(NULL, NULL).error.text,
				     "neither AWS_CONTAINER_CREDENTIALS_RELATIVE_URI nor"));
	ck_assert_ptr_null(strstr(ask(NULL, NULL).error.text, "IRSA"));
	setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/x", 1);
	ck_assert_ptr_nonnull(strstr(ask(NULL, NULL).error.text, "(IRSA) is there"));
	unsetenv("AWS_WEB_IDENTITY_TOKEN_FILE");
	setenv(FULL_URI, "http://127.0.0.1:1/", 1);
	ck_assert_str_eq(ask(NULL, NULL).error.text,
			 "container credentials: can't connect: Connection refused");
	/* It is asked first, and can't change the host. */
	setenv(RELATIVE_URI, "@example.com/", 1);
	ck_assert_ptr_nonnull(
		strstr(ask(NULL, NULL).error.text, "does not begin with a slash"));
	unsetenv(RELATIVE_URI);
	setenv(FULL_URI, "http://example.com/", 1);
	ck_assert_ptr_nonnull(strstr(ask(NULL, NULL).error.text, "is http to example.com"));
}
END_TEST

static const struct {
	struct slice token;
	const char *says;
} tokens[] = {
	{SLICE(""), ": empty"},
	{SLICE("\n"), ": empty"},
	{SLICE("s3cret\nHost: x"), "holds a character that a token can't have"},
	{SLICE("s3cret\rx"), "holds a character that a token can't have"},
	{SLICE("s3cret\0x"), "holds a character that a token can't have"},
	{SLICE("\ts3cret"), "holds a character that a token can't have"},
	{SLICE("s3cret\x7f"), "holds a character that a token can't have"},
	{SLICE("s3cret\xc3\xa4"), "holds a character that a token can't have"},
};

START_TEST(test_bad_token)
{
	struct outcome outcome;

	put_token(tokens[_i].token.p, tokens[_i].token.n);
	outcome = ask("http://127.0.0.1:1/", token_file);
	ck_assert_msg(strstr(outcome.error.text, tokens[_i].says), "%s", outcome.error.text);
	ck_assert_ptr_nonnull(strstr(outcome.error.text, token_file));
	ck_assert_ptr_null(strstr(outcome.error.text, "s3cret"));
}
END_TEST

START_TEST(test_token_size)
{
	static char token[LIMIT_CREDENTIALS_TEXT + 1];
	const char *const answers[] = {CREDENTIALS, NULL};
	_cleanup_(http_script_freep) struct http_script *s = http_script_new(base, answers);

	memset(token, 't', sizeof(token));
	put_token(token, LIMIT_CREDENTIALS_TEXT);
	ck_assert_str_eq(ask(http_script_url(s), token_file).key, KEY);
	put_token(token, LIMIT_CREDENTIALS_TEXT + 1);
	ck_assert_ptr_nonnull(strstr(ask(http_script_url(s), token_file).error.text,
				     "larger than 16384 bytes"));
}
END_TEST

static const struct {
	const char *answer, *says;
} failures[] = {
	{ANSWER("401 Unauthorized", "{\"message\":\"no\"}"),
	 "status 401: {\"message\":\"no\"}"},
	{ANSWER("404 Not Found", ""), "answers with status 404: "},
	{ANSWER("500 Oops", "a\r\nb\x1b[1m"), "status 500: a\\x0d\\x0ab\\x1b[1m"},
	{ANSWER("302 Found\r\nLocation: http://127.0.0.1:1/", ""), "status 302"},
	{ANSWER("200 OK", "{}"), "the answer of the container endpoint has no AccessKeyId"},
	{ANSWER("200 OK", "{\"Code\":\"AccessDenied\",\"Message\":\"no\"}"),
	 "the answer of the container endpoint has the Code AccessDenied: no"},
	{ANSWER("200 OK", ""),
	 "the answer of the container endpoint can't be read: JSON, byte "},
};

START_TEST(test_failure)
{
	const char *const answers[] = {failures[_i].answer, NULL};
	_cleanup_(http_script_freep) struct http_script *s = http_script_new(base, answers);
	struct outcome outcome = ask(http_script_url(s), NULL);

	ck_assert_str_eq(outcome.key, "");
	ck_assert_msg(strstr(outcome.error.text, failures[_i].says), "%s", outcome.error.text);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("container");
	TCase *tcase = tcase_create("container");
	SRunner *runner = srunner_create(suite);
	int failed;

	curl_global_init_mem(CURL_GLOBAL_DEFAULT, wipe_malloc, wipe_free, wipe_realloc,
			     wipe_strdup, wipe_calloc);
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_loop_test(tcase, test_url, 0, ELEMENTSOF(urls));
	tcase_add_test(tcase, test_where_from);
	tcase_add_test(tcase, test_no_uri);
	tcase_add_loop_test(tcase, test_bad_token, 0, ELEMENTSOF(tokens));
	tcase_add_test(tcase, test_token_size);
	tcase_add_loop_test(tcase, test_failure, 0, ELEMENTSOF(failures));
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
