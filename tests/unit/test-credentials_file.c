/* SPDX-License-Identifier: Apache-2.0 */
#include "credentials_file.h"

#include "canary.h"
#include "limit.h"
#include "secret.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEY "ASIAEXAMPLEEXAMPLE00"
#define KEYS "aws_access_key_id=" KEY "\naws_secret_access_key=s3cret\n"

static const struct {
	const char *text, *token;
	usec_t expiration;
} accepted[] = {
	{"[default]\n" KEYS, NULL, 0},
	{"[default]\n" KEYS "aws_session_token=t=/+=\n", "t=/+=", 0},
	{"[default]\naws_access_key_id=" KEY "\naws_secret_access_key=s3cret", NULL, 0},
	{"\n\r\n# a comment\r\n  ; another\r\n[ default ]\r\n\taws_access_key_id \t= " KEY
	 " \r\naws_secret_access_key = s3cret\r\nregion = eu-central-1\r\noutput=json\r\n",
	 NULL, 0},
	{"[other]\naws_access_key_id=x\naws_session_token=y\n[default]\n" KEYS "[third]\n"
	 "aws_access_key_id=z\n",
	 NULL, 0},
	{"[default]\naws_access_key_id=" KEY "\n[other]\nx=y\n[default]\n"
	 "aws_secret_access_key=s3cret\n",
	 NULL, 0},
	{"[default]\n" KEYS "aws_session_token=\n", NULL, 0},
	{"{\"AccessKeyId\":\"" KEY "\",\"SecretAccessKey\":\"s3cret\"}", NULL, 0},
	{" \r\n\t{\"Version\":1,\"AccessKeyId\":\"" KEY "\",\"SecretAccessKey\":\"s3cret\","
	 "\"SessionToken\":\"t\",\"Expiration\":\"2026-01-02T03:04:05Z\"}\n",
	 "t", (usec_t)1767323045 * USEC_PER_SEC},
};

START_TEST(test_accepted)
{
	_cleanup_(credentials_unrefp) struct credentials *c = NULL;
	_cleanup_(freep) char *text = strdup(accepted[_i].text);
	struct error error = {""};

	ck_assert_msg(credentials_file_parse(text, strlen(text), &c, &error) == 0, "%s: %s",
		      accepted[_i].text, error.text);
	ck_assert_str_eq(c->access_key_id, KEY);
	ck_assert_str_eq(c->secret_access_key, "s3cret");
	ck_assert_pstr_eq(c->session_token, accepted[_i].token);
	ck_assert_int_eq(c->expiration, accepted[_i].expiration);
}
END_TEST

static const struct {
	struct slice text;
	const char *says;
} refused[] = {
	{{NULL, 0}, "is empty"},
	{SLICE(""), "is empty"},
	{SLICE(" \n\t\r\n"), "is empty"},
	{SLICE("# nothing\n"), "has no aws_access_key_id in a section [default]"},
	{SLICE("[default]\n"), "has no aws_access_key_id in a section [default]"},
	{SLICE("[default]\naws_access_key_id=" KEY "\n"), "has no aws_secret_access_key"},
	{SLICE("[default]\naws_secret_access_key=s3cret\n"), "has no aws_access_key_id"},
	{SLICE("[default]\naws_access_key_id=\naws_secret_access_key=s3cret\n"),
	 "has no aws_access_key_id"},
	{SLICE("[Default]\n" KEYS), "has no aws_access_key_id"},
	{SLICE("[prod]\n" KEYS), "has no aws_access_key_id"},
	{SLICE("[profile default]\n" KEYS), "has no aws_access_key_id"},
	{SLICE("[default]\nAWS_ACCESS_KEY_ID=" KEY "\naws_secret_access_key=s3cret\n"),
	 "has no aws_access_key_id"},
	{SLICE(KEYS), "has a value in line 1 before the first [section]"},
	{SLICE("\n\naws_session_token=s3cret"), "in line 3 before the first [section]"},
	{SLICE("[default]\n" KEYS "aws_access_key_id=x\n"),
	 "has aws_access_key_id twice, the second in line 4"},
	{SLICE("[default]\n" KEYS "aws_session_token=\naws_session_token=x\n"),
	 "has aws_session_token twice, the second in line 5"},
	{SLICE("[default]\n" KEYS "[default]\naws_secret_access_key=s3cret\n"), "twice"},
	{SLICE("[default\n" KEYS), "a [section] without its end in line 1"},
	{SLICE("["), "a [section] without its end in line 1"},
	{SLICE("[default]\ns3cret\n"), "neither a [section] nor `name = value` in line 2"},
	{SLICE("s3cret"), "neither a [section] nor `name = value` in line 1"},
	{SLICE("[default]\naws_access_key_id=" KEY "\naws_secret_access_key=s3cret x\n"),
	 "a character that AWS doesn't give"},
	{SLICE("[default]\naws_access_key_id=short\naws_secret_access_key=s3cret\n"), "length"},
	{SLICE("[default]\naws_access_key_id=" KEY "\naws_secret_access_key=s3cret\0\n"),
	 "a character that AWS doesn't give"},
	{SLICE("\0[default]\n" KEYS), "neither a [section]"},
	{SLICE("\xef\xbb\xbf[default]\n" KEYS), "neither a [section]"},
	{SLICE("{"), "can't be read: JSON, byte "},
	{SLICE("{}"), "has no AccessKeyId"},
	{SLICE("{\"AccessKeyId\":\"" KEY "\",\"SecretAccessKey\":\"s3cret\"} x"),
	 "can't be read: JSON, byte "},
};

START_TEST(test_refused)
{
	struct slice given = refused[_i].text;
	_cleanup_(freep) char *text = malloc(given.n + 1);
	struct credentials *c = NULL;
	struct error error = {""};

	if (given.n)
		memcpy(text, given.p, given.n);
	ck_assert_int_eq(credentials_file_parse(text, given.n, &c, &error), -EINVAL);
	ck_assert_ptr_null(c);
	ck_assert_msg(strstr(error.text, refused[_i].says), "row %d: %s", _i, error.text);
	ck_assert_ptr_null(strstr(error.text, "s3cret"));
}
END_TEST

static char directory[] = "/tmp/credentials-XXXXXX", path[64];

static void setup(void)
{
	ck_assert_ptr_nonnull(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/aws", directory);
}

static void teardown(void)
{
	unlink(path);
	rmdir(directory);
	ck_assert_int_eq(prctl(PR_SET_DUMPABLE, 1), 0); /* for the leak sanitizer */
}

static void put(const char *name, const char *text, size_t n)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, text, n), (ssize_t)n);
	close(fd);
}

static void put_key(const char *key)
{
	char text[256];

	snprintf(text, sizeof(text),
		 "[default]\naws_access_key_id=%s\naws_secret_access_key=s\n", key);
	put(path, text, strlen(text));
}

struct outcome {
	unsigned calls;
	struct credentials *credentials;
	struct error error;
};

static void on_done(struct credentials *credentials, const struct error *error, void *userdata)
{
	struct outcome *outcome = userdata;

	outcome->calls++;
	outcome->credentials = credentials_ref(credentials);
	if (error)
		outcome->error = *error;
	ck_assert(!error == !!credentials);
}

static struct source *make(const char *name)
{
	const struct credentials_config config = {.file = (char *)name};
	struct source *source = NULL;

	ck_assert_int_eq(credentials_file_new(&config, &source), 0);
	ck_assert_int_eq(source->ops->poll, 5 * USEC_PER_SEC);
	return source;
}

/* Who asks owns what it gets. */
static struct credentials *ask(struct source *source)
{
	struct outcome outcome = {0};

	source->ops->start(source, on_done, &outcome);
	ck_assert_uint_eq(outcome.calls, 1);
	ck_assert_msg(outcome.credentials, "%s", outcome.error.text);
	return outcome.credentials;
}

static struct error ask_in_vain(struct source *source)
{
	struct outcome outcome = {0};

	source->ops->start(source, on_done, &outcome);
	ck_assert_uint_eq(outcome.calls, 1);
	ck_assert_ptr_null(outcome.credentials);
	return outcome.error;
}

START_TEST(test_read_again)
{
	_cleanup_(source_freep) struct source *source = make(path);
	struct credentials *first, *second, *third;
	char other[80];

	put_key(KEY);
	first = ask(source);
	second = ask(source);
	ck_assert_ptr_eq(first, second); /* unchanged: the same object */
	credentials_unref(second);

	/* Replaced as an editor or a rename does it: another inode, all else may be alike. */
	snprintf(other, sizeof(other), "%s.new", path);
	ck_assert_int_eq(rename(path, other), 0);
	put_key("ASIAEXAMPLEEXAMPLE01");
	unlink(other);
	second = ask(source);
	ck_assert_str_eq(second->access_key_id, "ASIAEXAMPLEEXAMPLE01");

	/* Written in place, with another length. */
	put_key("ASIAEXAMPLEEXAMPLE002");
	third = ask(source);
	ck_assert_str_eq(third->access_key_id, "ASIAEXAMPLEEXAMPLE002");
	credentials_unref(first);
	credentials_unref(second);
	credentials_unref(third);
}
END_TEST

START_TEST(test_comes_and_goes)
{
	_cleanup_(source_freep) struct source *source = make(path);
	char want[128];

	snprintf(want, sizeof(want), "credentials file %s: No such file or directory", path);
	ck_assert_str_eq(ask_in_vain(source).text, want);
	put(path, "[default]\n", 10);
	snprintf(want, sizeof(want), "credentials file %s has no aws_access_key_id", path);
	ck_assert_msg(strncmp(ask_in_vain(source).text, want, strlen(want)) == 0, "%s", want);
	put_key(KEY);
	credentials_unref(ask(source));
	unlink(path);
	ck_assert_ptr_nonnull(strstr(ask_in_vain(source).text, "No such file"));
	put_key(KEY);
	credentials_unref(ask(source));
}
END_TEST

START_TEST(test_relative)
{
	_cleanup_(source_freep) struct source *source = make("aws");

	put_key(KEY);
	unsetenv("CREDENTIALS_DIRECTORY");
	ck_assert_ptr_nonnull(strstr(ask_in_vain(source).text, "$CREDENTIALS_DIRECTORY"));
	setenv("CREDENTIALS_DIRECTORY", directory, 1);
	credentials_unref(ask(source));
}
END_TEST

START_TEST(test_not_regular)
{
	_cleanup_(source_freep) struct source *folder = make(directory);
	_cleanup_(source_freep) struct source *fifo = make(path);

	ck_assert_ptr_nonnull(strstr(ask_in_vain(folder).text, "not a regular file"));
	ck_assert_int_eq(mkfifo(path, 0600), 0);
	ck_assert_ptr_nonnull(strstr(ask_in_vain(fifo).text, "not a regular file"));
}
END_TEST

/* One byte below the limit, at it, above it. */
START_TEST(test_size)
{
	static char text[LIMIT_CREDENTIALS_TEXT + 1];
	_cleanup_(source_freep) struct source *source = make(path);
	int n;

	memset(text, '#', sizeof(text));
	n = snprintf(text, sizeof(text), "[default]\n" KEYS "#");
	text[n] = '#';
	put(path, text, LIMIT_CREDENTIALS_TEXT - 1);
	credentials_unref(ask(source));
	put(path, text, LIMIT_CREDENTIALS_TEXT);
	credentials_unref(ask(source));
	put(path, text, LIMIT_CREDENTIALS_TEXT + 1);
	ck_assert_ptr_nonnull(strstr(ask_in_vain(source).text, "larger than 16384 bytes"));
}
END_TEST

START_TEST(test_leaves_nothing)
{
	char *text = wipe_malloc(1024), canary[CANARY_SIZE + 1];
	struct source *source = make(path);

	ck_assert_int_eq(secret_init(), 0);
	canary_write(canary);
	snprintf(text, 1024,
		 "[default]\naws_access_key_id=" KEY "\naws_secret_access_key=%s\n"
		 "aws_session_token=%s\n",
		 canary, canary);
	put(path, text, strlen(text));
	explicit_bzero(canary, sizeof(canary));
	wipe_free(text);
	credentials_unref(ask(source));
	ck_assert_uint_eq(canary_count(), 2); /* the source keeps what it read last */
	source_free(source);
	canary_assert_gone();
}
END_TEST

int main(int argc, char **argv)
{
	Suite *suite = suite_create("credentials_file");
	TCase *tcase = tcase_create("credentials_file");
	SRunner *runner = srunner_create(suite);
	int failed;

	(void)argc;
	canary_main(argv);
	tcase_set_timeout(tcase, 60);
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_loop_test(tcase, test_accepted, 0, ELEMENTSOF(accepted));
	tcase_add_loop_test(tcase, test_refused, 0, ELEMENTSOF(refused));
	tcase_add_test(tcase, test_read_again);
	tcase_add_test(tcase, test_comes_and_goes);
	tcase_add_test(tcase, test_relative);
	tcase_add_test(tcase, test_not_regular);
	tcase_add_test(tcase, test_size);
	tcase_add_test(tcase, test_leaves_nothing);
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
