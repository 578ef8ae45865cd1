/* SPDX-License-Identifier: Apache-2.0 */
#include "credentials_cache.h"

#include "http_script.h"
#include "log.h"
#include "secret.h"

#include <check.h>
#include <curl/curl.h>
#include <fnmatch.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>

#define KEY "ASIAEXAMPLEEXAMPLE00"
#define KEY_1 "ASIAEXAMPLEEXAMPLE01"
#define ANSWER(status, body) "HTTP/1.1 " status "\r\nConnection: close\r\n\r\n" body
#define TOKEN                                                                                  \
	"HTTP/1.1 200 OK\r\nX-Aws-Ec2-Metadata-Token-Ttl-Seconds: 21600\r\n"                   \
	"Content-Length: 7\r\n\r\nT0KEN=="
#define ROLE ANSWER("200 OK", "one")
#define BUSY ANSWER("503 Service Unavailable", "")
#define CREDENTIALS(key, expiration)                                                           \
	ANSWER("200 OK",                                                                       \
	       "{\"Code\":\"Success\",\"AccessKeyId\":\"" key "\",\"SecretAccessKey\":"        \
	       "\"s3cret\",\"Token\":\"t0ken\",\"Expiration\":\"" expiration "\"}")
#define LATER "2096-01-02T03:04:05Z"
#define LATER_TEXT "Mon, 02 Jan 2096 03:04:05 GMT"
#define LONG_AGO "2016-01-02T03:04:05Z"
#define LONG_AGO_TEXT "Sat, 02 Jan 2016 03:04:05 GMT"
#define DEADLINE 30 /* seconds; nothing here takes more than 6 */

static struct event_base *base;
static struct event *deadline;
static struct http_script *script;
static struct credentials_cache *cache;
static char file[] = "/tmp/credentials-XXXXXX";
static FILE *log_file; /* what went to stderr */
static unsigned changes;
static char key[160]; /* of the last change */
static uint64_t serial;

static void on_deadline(evutil_socket_t fd, short what, void *userdata)
{
	(void)fd;
	(void)what;
	(void)userdata;
	ck_abort_msg("it did not come; status: %s", credentials_cache_status(cache));
}

static void setup(void)
{
	const struct timeval limit = {DEADLINE, 0};
	int fd = mkstemp(file);

	ck_assert_int_ge(fd, 0);
	close(fd);
	unsetenv("JOURNAL_STREAM");
	log_file = tmpfile();
	ck_assert_ptr_nonnull(log_file);
	ck_assert_int_ge(dup2(fileno(log_file), STDERR_FILENO), 0);
	log_open();
	base = event_base_new();
	deadline = evtimer_new(base, on_deadline, NULL);
	ck_assert_int_eq(evtimer_add(deadline, &limit), 0);
}

static void teardown(void)
{
	cache = credentials_cache_free(cache);
	if (script)
		script = http_script_free(script);
	event_free(deadline);
	event_base_free(base);
	fclose(log_file);
	unlink(file);
	ck_assert_int_eq(prctl(PR_SET_DUMPABLE, 1), 0); /* for the leak sanitizer */
}

static void on_change(struct credentials *credentials, void *userdata)
{
	ck_assert_ptr_eq(userdata, &changes);
	changes++;
	ck_assert_uint_gt(credentials->serial, serial); /* whatever source they are from */
	serial = credentials->serial;
	snprintf(key, sizeof(key), "%s", credentials->access_key_id);
}

static struct credentials_config imds(const char *role)
{
	return (struct credentials_config){.source = SOURCE_IMDS,
					   .needed = true,
					   .imds_endpoint = (char *)http_script_url(script),
					   .imds_role = (char *)role};
}

static void begin(const char *const *answers)
{
	struct credentials_config config;

	script = http_script_new(base, answers);
	config = imds(NULL);
	ck_assert_int_eq(credentials_cache_new(base, &config, on_change, &changes, &cache), 0);
	ck_assert_str_eq(credentials_cache_status(cache), "fetching credentials");
	ck_assert_uint_eq(changes, 0);
}

/* Lets the loop run until the status line matches the pattern. */
static void await_status(const char *pattern)
{
	while (fnmatch(pattern, credentials_cache_status(cache), 0) != 0)
		event_base_loop(base, EVLOOP_ONCE);
}

static void await_changes(unsigned n)
{
	while (changes < n)
		event_base_loop(base, EVLOOP_ONCE);
	ck_assert_uint_eq(changes, n);
}

static void await_requests(unsigned n)
{
	while (http_script_count(script) < n)
		event_base_loop(base, EVLOOP_ONCE);
	ck_assert_uint_eq(http_script_count(script), n);
}

/* The turns that are due, without waiting. */
static void run_due(void)
{
	for (int i = 0; i < 10; i++)
		event_base_loop(base, EVLOOP_NONBLOCK);
}

static unsigned log_count(const char *what)
{
	static char text[65536];
	unsigned n = 0;
	ssize_t size = pread(fileno(log_file), text, sizeof(text) - 1, 0);

	ck_assert_int_ge(size, 0);
	text[size] = '\0';
	ck_assert_ptr_null(strstr(text, "s3cret"));
	ck_assert_ptr_null(strstr(text, "t0ken"));
	for (const char *p = text; (p = strstr(p, what)); p++)
		n++;
	return n;
}

START_TEST(test_first)
{
	const char *const answers[] = {TOKEN, ROLE, CREDENTIALS(KEY, LATER), NULL};

	begin(answers);
	await_changes(1);
	ck_assert_str_eq(key, KEY);
	ck_assert_str_eq(credentials_cache_status(cache),
			 "credentials valid until " LATER_TEXT);
	ck_assert_uint_eq(log_count("credentials valid until " LATER_TEXT), 1);
	ck_assert_uint_eq(log_count("ACCESS_KEY_ID=" KEY), 1);
	ck_assert_uint_eq(log_count("CREDENTIALS_SOURCE=imds"), 1);
	run_due();
	ck_assert_uint_eq(http_script_count(script), 3);
}
END_TEST

/* The same failure again is no news; another one is. */
START_TEST(test_failures)
{
	const char *const answers[] = {BUSY, BUSY, TOKEN, ANSWER("404 Not Found", ""), NULL};

	begin(answers);
	await_status("no credentials: IMDS at http://127.0.0.1:*");
	ck_assert_uint_eq(log_count("it is busy; status 503"), 1);
	await_status("no credentials: *no IAM role is attached to this instance*");
	ck_assert_uint_eq(http_script_count(script), 4);
	ck_assert_uint_eq(log_count("it is busy; status 503"), 1);
	ck_assert_uint_eq(log_count("no IAM role is attached"), 1);
	ck_assert_uint_eq(log_count("no credentials:"), 2);
	ck_assert_uint_eq(changes, 0);
}
END_TEST

/* KMS decides whether they serve, and our clock may be the wrong one. */
START_TEST(test_expired_at_start)
{
	const char *const answers[] = {TOKEN, ROLE, CREDENTIALS(KEY, LONG_AGO), NULL};

	begin(answers);
	await_changes(1);
	ck_assert_str_eq(key, KEY);
	await_status("credentials expired " LONG_AGO_TEXT
		     " and can't be refreshed, still using *");
	ck_assert_uint_eq(log_count("credentials expired " LONG_AGO_TEXT), 1);
	ck_assert_uint_eq(log_count("have expired by this machine's clock"), 1);
}
END_TEST

/* In their last minute they are asked for again after 5 s. */
START_TEST(test_refresh)
{
	char soon[512], text[32];
	const char *const answers[] = {TOKEN, ROLE, soon, ROLE, CREDENTIALS(KEY_1, LATER),
				       NULL};
	usec_t then = clock_wall() + 20 * USEC_PER_SEC, start = clock_monotonic();

	clock_format_amz_date(then, text); /* YYYYMMDDTHHMMSSZ */
	snprintf(soon, sizeof(soon),
		 ANSWER("200 OK", "{\"Code\":\"Success\",\"AccessKeyId\":\"" KEY "\","
				  "\"SecretAccessKey\":\"s3cret\",\"Token\":\"t0ken\","
				  "\"Expiration\":\"%.4s-%.2s-%.5s:%.2s:%.2sZ\"}"),
		 text, text + 4, text + 6, text + 11, text + 13);
	begin(answers);
	await_changes(1);
	ck_assert_str_eq(key, KEY);
	await_changes(2);
	ck_assert_str_eq(key, KEY_1);
	ck_assert_int_ge(clock_monotonic() - start, 5 * USEC_PER_SEC);
	ck_assert_uint_eq(log_count("credentials valid until"), 2);
}
END_TEST

/* The first rejection makes us ask at once; one soon after, or of other credentials, doesn't.
 */
START_TEST(test_reject)
{
	const char *const answers[] = {
		TOKEN, ROLE, CREDENTIALS(KEY, LATER), ROLE, CREDENTIALS(KEY_1, LATER), NULL};
	uint64_t first;

	begin(answers);
	credentials_cache_reject(cache, 1); /* there are none yet */
	await_changes(1);
	first = serial;
	credentials_cache_reject(cache, first + 1);
	run_due();
	ck_assert_uint_eq(http_script_count(script), 3);

	credentials_cache_reject(cache, first);
	await_changes(2);
	ck_assert_str_eq(key, KEY_1);
	ck_assert_uint_ne(serial, first);
	credentials_cache_reject(cache, first);
	credentials_cache_reject(cache, serial);
	run_due();
	ck_assert_uint_eq(http_script_count(script), 5);
}
END_TEST

/* Another configuration is asked at once, the same one isn't. The credentials stay until it has
 * answered, and the same ones are not published again. */
START_TEST(test_configure)
{
	const char *const answers[] = {TOKEN, ROLE,  CREDENTIALS(KEY, LATER),
				       BUSY,  TOKEN, CREDENTIALS(KEY, LATER),
				       NULL};
	struct credentials_config config;

	begin(answers);
	await_changes(1);
	config = imds(NULL);
	ck_assert_int_eq(credentials_cache_configure(cache, &config), 0);
	run_due();
	ck_assert_uint_eq(http_script_count(script), 3);

	config = imds("pinned");
	ck_assert_int_eq(credentials_cache_configure(cache, &config), 0);
	await_status("credentials valid until " LATER_TEXT ", but they can't be refreshed: *");
	await_status("credentials valid until " LATER_TEXT);
	ck_assert_uint_eq(http_script_count(script), 6);
	ck_assert_uint_eq(changes, 1);
	ck_assert_uint_eq(log_count("credentials valid until"), 3);
}
END_TEST

static void write_file(const char *text)
{
	FILE *f = fopen(file, "we");

	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	fclose(f);
}

/* Where no enclave has an endpoint nobody is asked, until one has; and no more once none has.
 */
START_TEST(test_unneeded)
{
	const char *const answers[] = {TOKEN, ROLE, CREDENTIALS(KEY, LATER), NULL};
	struct credentials_config config;

	script = http_script_new(base, answers);
	config = imds(NULL);
	config.needed = false;
	ck_assert_int_eq(credentials_cache_new(base, &config, on_change, &changes, &cache), 0);
	run_due();
	ck_assert_str_eq(credentials_cache_status(cache),
			 "no enclave has an endpoint: no credentials are fetched");
	config.needed = true;
	ck_assert_int_eq(credentials_cache_configure(cache, &config), 0);
	ck_assert_str_eq(credentials_cache_status(cache), "fetching credentials");
	await_changes(1);
	config.needed = false;
	ck_assert_int_eq(credentials_cache_configure(cache, &config), 0);
	ck_assert_str_eq(credentials_cache_status(cache),
			 "no enclave has an endpoint: no credentials are fetched");
	credentials_cache_reject(cache, serial);
	run_due();
	ck_assert_uint_eq(http_script_count(script), 3);
	ck_assert_uint_eq(log_count("can't be refreshed"), 0);
}
END_TEST

START_TEST(test_other_source)
{
	const char *const answers[] = {TOKEN, ROLE, CREDENTIALS(KEY, LATER), NULL};
	const struct credentials_config config = {
		.source = SOURCE_FILE, .needed = true, .file = file};

	begin(answers);
	await_changes(1);
	ck_assert_int_eq(credentials_cache_configure(cache, &config), 0);
	await_status("credentials valid until " LATER_TEXT ", but they can't be refreshed: "
		     "credentials file *");
	ck_assert_uint_eq(changes, 1);
	write_file("[default]\naws_access_key_id=" KEY_1 "\naws_secret_access_key=s3cret\n");
	await_changes(2);
	ck_assert_str_eq(key, KEY_1);
	ck_assert_str_eq(credentials_cache_status(cache), "credentials valid for ever");
	ck_assert_uint_eq(log_count("CREDENTIALS_SOURCE=file"), 2);
}
END_TEST

/* A full secure heap keeps the old ones. */
START_TEST(test_heap_full)
{
	const char *const answers[] = {TOKEN, ROLE, CREDENTIALS(KEY, LATER), NULL};
	const struct credentials_config config = {
		.source = SOURCE_FILE, .needed = true, .file = file};

	ck_assert_int_eq(secret_init(), 0);
	begin(answers);
	await_changes(1);
	write_file("[default]\naws_access_key_id=" KEY_1 "\naws_secret_access_key=s3cret\n");
	ck_assert_int_eq(credentials_cache_configure(cache, &config), 0);
	while (secret_alloc(32)) /* now that the old source has freed its token */
		;
	await_status("credentials valid until " LATER_TEXT ", but they can't be refreshed: *");
	ck_assert_ptr_nonnull(
		strstr(credentials_cache_status(cache), "the secure heap is full"));
	ck_assert_uint_eq(changes, 1);
}
END_TEST

/* Freed while it waits for an answer: nobody is called. */
START_TEST(test_free)
{
	const char *const answers[] = {TOKEN, HTTP_SCRIPT_SILENCE, NULL};

	begin(answers);
	await_requests(2);
	cache = credentials_cache_free(cache);
	run_due();
	ck_assert_uint_eq(changes, 0);
	ck_assert_uint_eq(log_count("credentials"), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("credentials_cache");
	TCase *tcase = tcase_create("credentials_cache");
	SRunner *runner = srunner_create(suite);
	int failed;

	curl_global_init_mem(CURL_GLOBAL_DEFAULT, wipe_malloc, wipe_free, wipe_realloc,
			     wipe_strdup, wipe_calloc);
	tcase_set_timeout(tcase, 2 * DEADLINE);
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, test_first);
	tcase_add_test(tcase, test_failures);
	tcase_add_test(tcase, test_expired_at_start);
	tcase_add_test(tcase, test_refresh);
	tcase_add_test(tcase, test_reject);
	tcase_add_test(tcase, test_configure);
	tcase_add_test(tcase, test_unneeded);
	tcase_add_test(tcase, test_other_source);
	tcase_add_test(tcase, test_heap_full);
	tcase_add_test(tcase, test_free);
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
