/* SPDX-License-Identifier: Apache-2.0 */
#include "log.h"

#include "fake_journal.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define SOON 5000

static struct fake_journal journal;
static int real_stderr = -1;
static int reader = -1; /* the other end of the pipe that is stderr */

static void setup(void)
{
	fake_journal_init(&journal);
	real_stderr = dup(STDERR_FILENO);
	unsetenv("JOURNAL_STREAM");
	ck_assert_int_eq(log_open_journal(NULL), 0);
	(void)!log_take_lost();
}

static void teardown(void)
{
	dup2(real_stderr, STDERR_FILENO);
	close(real_stderr);
	if (reader >= 0)
		close(reader);
	reader = -1;
	fake_journal_done(&journal);
}

static void use_journal(void)
{
	fake_journal_appear(&journal);
	ck_assert_int_eq(log_open_journal(journal.path), 0);
	ck_assert(log_to_journal());
}

/* With O_DIRECT each write is read apart. */
static void use_pipe_with(int flags)
{
	int fds[2];

	ck_assert_int_eq(pipe2(fds, O_CLOEXEC | O_NONBLOCK | flags), 0);
	ck_assert_int_eq(fcntl(fds[1], F_SETFL, flags), 0); /* a write that blocks would hang */
	ck_assert_int_eq(dup2(fds[1], STDERR_FILENO), STDERR_FILENO);
	close(fds[1]);
	reader = fds[0];
}

static void use_pipe(void)
{
	use_pipe_with(0);
}

static const char *read_pipe(void)
{
	static char text[2 * PIPE_BUF];
	ssize_t n = read(reader, text, sizeof(text) - 1);

	text[n > 0 ? n : 0] = '\0';
	return text;
}

START_TEST(every_event_has_its_own_id)
{
	for (int i = 0; i < _EVENT_MAX; i++) {
		const struct event_info *info = event_info((enum event_kind)i);

		ck_assert_ptr_nonnull(info->message_id);
		ck_assert_uint_eq(strlen(info->message_id), 32);
		ck_assert_uint_eq(strspn(info->message_id, "0123456789abcdef"), 32);
		ck_assert_int_ge(info->priority, LOG_CRIT);
		ck_assert_int_le(info->priority, LOG_INFO);
		for (int k = 0; k < i; k++)
			ck_assert_str_ne(info->message_id,
					 event_info((enum event_kind)k)->message_id);
	}
}
END_TEST

START_TEST(an_event_has_these_fields)
{
	const char *const fields[] = {"ENDPOINT=kms-eu", "EMPTY=", NULL};
	struct fake_entry e;

	use_journal();
	log_event(EVENT_ENDPOINT_DOWN, fields, "%s is down for %d s", "kms-eu", 7);
	ck_assert(fake_journal_next(&journal, &e, SOON));
	ck_assert_uint_eq(e.n, 6);
	ck_assert_str_eq(fake_entry_get(&e, "MESSAGE"), "kms-eu is down for 7 s");
	ck_assert_str_eq(fake_entry_get(&e, "MESSAGE_ID"),
			 event_info(EVENT_ENDPOINT_DOWN)->message_id);
	ck_assert_str_eq(fake_entry_get(&e, "PRIORITY"), "3");
	ck_assert_str_eq(fake_entry_get(&e, "SYSLOG_IDENTIFIER"), "kms-vsock-proxyd");
	ck_assert_str_eq(fake_entry_get(&e, "ENDPOINT"), "kms-eu");
	ck_assert_str_eq(fake_entry_get(&e, "EMPTY"), "");
	ck_assert(!fake_journal_next(&journal, &e, 0));
	ck_assert_uint_eq(log_take_lost(), 0);
}
END_TEST

START_TEST(a_newline_makes_no_new_field)
{
	const char *const fields[] = {"RULE=a\nVERDICT=allow\n", NULL};
	struct fake_entry e;

	use_journal();
	log_event(EVENT_MACHINE, fields, "one\nPRIORITY=0\n\ntwo");
	ck_assert(fake_journal_next(&journal, &e, SOON));
	ck_assert_uint_eq(e.n, 5);
	ck_assert_str_eq(fake_entry_get(&e, "MESSAGE"), "one\nPRIORITY=0\n\ntwo");
	ck_assert_str_eq(fake_entry_get(&e, "RULE"), "a\nVERDICT=allow\n");
	ck_assert_str_eq(fake_entry_get(&e, "PRIORITY"), "3");
	ck_assert_ptr_null(fake_entry_get(&e, "VERDICT"));
}
END_TEST

START_TEST(a_long_sentence_is_cut)
{
	static char sentence[3000];
	struct fake_entry e;

	use_journal();
	memset(sentence, 'x', sizeof(sentence) - 1);
	log_event(EVENT_START, NULL, "%s", sentence);
	ck_assert(fake_journal_next(&journal, &e, SOON));
	ck_assert_uint_ge(strlen(fake_entry_get(&e, "MESSAGE")), 2000);
	ck_assert_uint_lt(strlen(fake_entry_get(&e, "MESSAGE")), 2048);
}
END_TEST

START_TEST(an_absent_journal_is_noticed)
{
	const char *const fields[] = {"MESSAGE=x"};
	struct fake_entry e;

	ck_assert_int_eq(log_open_journal(journal.path), 0);
	ck_assert_int_eq(log_write(LOG_INFO, fields, 1), -ENOENT);
	log_event(EVENT_START, NULL, "x");
	log_event(EVENT_START, NULL, "x");
	ck_assert_uint_eq(log_take_lost(), 2);
	ck_assert_uint_eq(log_take_lost(), 0);

	fake_journal_appear(&journal);
	ck_assert_int_eq(log_write(LOG_INFO, fields, 1), 0);
	ck_assert(fake_journal_next(&journal, &e, SOON));
	fake_journal_vanish(&journal, true);
	ck_assert_int_eq(log_write(LOG_INFO, fields, 1), -ECONNREFUSED);

	fake_journal_appear(&journal); /* another socket under the same path */
	ck_assert_int_eq(log_write(LOG_INFO, fields, 1), 0);
	ck_assert(fake_journal_next(&journal, &e, SOON));
}
END_TEST

START_TEST(a_full_journal_is_noticed_and_never_blocks)
{
	const char *const fields[] = {"MESSAGE=x"};
	struct fake_entry e;
	int r = 0;

	use_journal();
	for (int i = 0; i < 100000 && r == 0; i++)
		r = log_write(LOG_INFO, fields, 1);
	ck_assert_int_eq(r, -EAGAIN);
	log_event(EVENT_START, NULL, "x");
	ck_assert_uint_eq(log_take_lost(), 1);
	ck_assert(fake_journal_next(&journal, &e, SOON));
	ck_assert_int_eq(log_write(LOG_INFO, fields, 1), 0);
}
END_TEST

static int number_in(const char *path)
{
	FILE *f = fopen(path, "re");
	int n = -1;

	ck_assert_ptr_nonnull(f);
	ck_assert_int_eq(fscanf(f, "%d", &n), 1);
	fclose(f);
	return n;
}

/* What it may hold of unread records is what the machine allows, not the default. */
START_TEST(the_journals_socket_has_room)
{
	int max = number_in("/proc/sys/net/core/wmem_max"), size = 0, fd;
	socklen_t n = sizeof(size);

	fake_journal_appear(&journal);
	fd = dup(STDERR_FILENO); /* the number that the next descriptor gets */
	close(fd);
	ck_assert_int_eq(log_open_journal(journal.path), 0);
	ck_assert_int_eq(getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, &n), 0);
	ck_assert_int_eq(size, 2 * MIN(max, 8 * 1024 * 1024));
}
END_TEST

/* The longest entry, and one byte more; the other fields take their part of it. */
START_TEST(an_entry_too_large_is_refused)
{
	static char message[PIPE_BUF + 1] = "MESSAGE=";
	size_t others = strlen("PRIORITY=6\nSYSLOG_IDENTIFIER=kms-vsock-proxyd\n\n");
	const char *const fields[] = {message};
	struct fake_entry e;

	use_journal();
	memset(message + 8, 'x', PIPE_BUF - others - 8);
	ck_assert_int_eq(log_write(LOG_INFO, fields, 1), 0);
	ck_assert(fake_journal_next(&journal, &e, SOON));
	ck_assert_uint_eq(strlen(fake_entry_get(&e, "MESSAGE")), PIPE_BUF - others - 8);
	message[PIPE_BUF - others] = 'x';
	ck_assert_int_eq(log_write(LOG_INFO, fields, 1), -EMSGSIZE);
	ck_assert(!fake_journal_next(&journal, &e, 0));
}
END_TEST

static int add_field(struct log_batch *batch, const char *field)
{
	return log_batch_add(batch, LOG_INFO, (struct slice){field, strlen(field) + 1}, &field,
			     1);
}

static int add_number(struct log_batch *batch, unsigned number)
{
	char message[32];

	snprintf(message, sizeof(message), "MESSAGE=%u", number);
	return add_field(batch, message);
}

/* A full journal takes a batch in pieces, in order; what it didn't take waits. */
START_TEST(a_batch_goes_out_in_order)
{
	_cleanup_(log_batch_freep) struct log_batch *batch = NULL;
	const char *const filler[] = {"MESSAGE=0"};
	unsigned fillers = 0;
	struct fake_entry e;

	use_journal();
	ck_assert_int_eq(log_batch_new(&batch), 0);
	ck_assert_int_eq(log_batch_write(batch), 0);
	while (log_write(LOG_INFO, filler, 1) == 0)
		fillers++;
	for (unsigned i = 1; i <= LOG_BATCH; i++)
		ck_assert_int_eq(add_number(batch, i), 0);
	ck_assert_int_eq(log_batch_write(batch), -EAGAIN);
	ck_assert_uint_eq(log_batch_waiting(batch), LOG_BATCH);

	for (unsigned i = 0; i < fillers + LOG_BATCH; i++) {
		unsigned long number = i < fillers ? 0 : i - fillers + 1;
		int r = log_batch_write(batch);

		ck_assert(r == 0 || r == -EAGAIN);
		ck_assert(fake_journal_next(&journal, &e, SOON));
		ck_assert_uint_eq(strtoul(fake_entry_get(&e, "MESSAGE"), NULL, 10), number);
	}
	ck_assert_uint_eq(log_batch_waiting(batch), 0);
	ck_assert(!fake_journal_next(&journal, &e, 0));
	ck_assert_int_eq(add_number(batch, 7), 0); /* it can be used again */
	ck_assert_int_eq(log_batch_write(batch), 0);
	ck_assert(fake_journal_next(&journal, &e, SOON));
	ck_assert_str_eq(fake_entry_get(&e, "MESSAGE"), "7");
}
END_TEST

START_TEST(a_batch_leaves_out_what_is_too_large_or_dropped)
{
	_cleanup_(log_batch_freep) struct log_batch *batch = NULL;
	static char message[PIPE_BUF + 1] = "MESSAGE=";
	struct fake_entry e;

	use_journal();
	ck_assert_int_eq(log_batch_new(&batch), 0);
	memset(message + 8, 'x', PIPE_BUF - 8);
	ck_assert_int_eq(add_number(batch, 1), 0);
	ck_assert_int_eq(add_field(batch, message), -EMSGSIZE);
	message[20] = '\n'; /* written the long way */
	ck_assert_int_eq(add_field(batch, message), -EMSGSIZE);
	ck_assert_int_eq(add_number(batch, 2), 0);
	ck_assert_uint_eq(log_batch_waiting(batch), 2);
	log_batch_drop(batch);
	ck_assert_int_eq(log_batch_write(batch), 0);
	ck_assert(fake_journal_next(&journal, &e, SOON));
	ck_assert_str_eq(fake_entry_get(&e, "MESSAGE"), "2");
	ck_assert(!fake_journal_next(&journal, &e, 0));
}
END_TEST

/* Fields one after the other in a text. */
static const struct {
	const char *text;
	size_t n;
	const char *line;
} texts[] = {
#define TEXT(text, line)                                                                       \
	{                                                                                      \
		text, sizeof(text), line                                                       \
	}
	TEXT("MESSAGE=x", "info: x\n"),
	TEXT("MESSAGE=x\0A=1\0B=two words\0C=", "info: x A=1 B=\"two words\" C=\"\"\n"),
	TEXT("A=1\0MESSAGE=x\0MESSAGE_ID=00", "info: x A=1\n"),
	TEXT("MESSAGE=x\0A=1\nVERDICT=allow\0B=2", "info: x A=1\\x0aVERDICT=allow B=2\n"),
	TEXT("MESSAGE=x\nPRIORITY=0\0B=2", "info: x\\x0aPRIORITY=0 B=2\n"),
	TEXT("MESSAGE=x\0A=\n\0B=\n", "info: x A=\\x0a B=\\x0a\n"),
#undef TEXT
};

static size_t split(const char *text, size_t n, const char **fields)
{
	size_t n_fields = 0;

	for (const char *p = text; p < text + n; p += strlen(p) + 1)
		fields[n_fields++] = p;
	return n_fields;
}

/* In a batch they say the same as alone, whatever is in them. */
START_TEST(fields_in_a_text_are_fields)
{
	_cleanup_(log_batch_freep) struct log_batch *batch = NULL;
	struct slice text = {texts[_i].text, texts[_i].n};
	const char *fields[8];
	size_t n = split(text.p, text.n, fields);
	struct fake_entry e[2];

	ck_assert_int_eq(log_batch_new(&batch), 0);
	use_journal();
	ck_assert_int_eq(log_write(LOG_INFO, fields, n), 0);
	ck_assert_int_eq(log_batch_add(batch, LOG_INFO, text, fields, n), 0);
	ck_assert_int_eq(log_batch_write(batch), 0);
	for (size_t i = 0; i < ELEMENTSOF(e); i++) {
		ck_assert(fake_journal_next(&journal, &e[i], SOON));
		ck_assert_uint_eq(e[i].n, n + 2);
	}
	for (size_t i = 0; i < e[0].n; i++) {
		ck_assert_str_eq(e[0].fields[i].name, e[1].fields[i].name);
		ck_assert_str_eq(e[0].fields[i].value, e[1].fields[i].value);
	}
	ck_assert_str_eq(fake_entry_get(&e[1], "PRIORITY"), "6");
	ck_assert_ptr_null(fake_entry_get(&e[1], "VERDICT"));

	use_pipe();
	ck_assert_int_eq(log_open_journal(NULL), 0);
	ck_assert_int_eq(log_batch_add(batch, LOG_INFO, text, fields, n), 0);
	ck_assert_int_eq(log_batch_write(batch), 0);
	ck_assert_str_eq(read_pipe(), texts[_i].line);
}
END_TEST

/* The longest, and one byte more; after another, so that it doesn't begin the batch. */
START_TEST(a_text_too_large_is_refused)
{
	_cleanup_(log_batch_freep) struct log_batch *batch = NULL;
	static char message[PIPE_BUF + 1] = "MESSAGE=";
	size_t n = PIPE_BUF - strlen("PRIORITY=6\nSYSLOG_IDENTIFIER=kms-vsock-proxyd\n");
	const char *const fields[] = {message};
	struct fake_entry e;

	use_journal();
	ck_assert_int_eq(log_batch_new(&batch), 0);
	memset(message + 8, 'x', n - 8 - 1);
	ck_assert_int_eq(add_number(batch, 1), 0);
	ck_assert_int_eq(log_batch_add(batch, LOG_INFO, (struct slice){message, n}, fields, 1),
			 0);
	message[n - 1] = 'x';
	ck_assert_int_eq(
		log_batch_add(batch, LOG_INFO, (struct slice){message, n + 1}, fields, 1),
		-EMSGSIZE);
	ck_assert_int_eq(add_number(batch, 2), 0);
	ck_assert_uint_eq(log_batch_waiting(batch), 3);
	ck_assert_int_eq(log_batch_write(batch), 0);
	ck_assert(fake_journal_next(&journal, &e, SOON));
	ck_assert(fake_journal_next(&journal, &e, SOON));
	ck_assert_uint_eq(strlen(fake_entry_get(&e, "MESSAGE")), n - 8 - 1);
	ck_assert(fake_journal_next(&journal, &e, SOON));
	ck_assert_str_eq(fake_entry_get(&e, "MESSAGE"), "2");
	ck_assert(!fake_journal_next(&journal, &e, 0));
}
END_TEST

START_TEST(a_batch_is_lines_of_text_too)
{
	_cleanup_(log_batch_freep) struct log_batch *batch = NULL;

	use_pipe();
	ck_assert_int_eq(log_batch_new(&batch), 0);
	ck_assert_int_eq(add_number(batch, 1), 0);
	ck_assert_int_eq(add_number(batch, 2), 0);
	ck_assert_int_eq(log_batch_write(batch), 0);
	ck_assert_str_eq(read_pipe(), "info: 1\ninfo: 2\n");
}
END_TEST

/* A full batch of lines of `size` bytes each, with their newlines; what they read like. */
static const char *add_lines(struct log_batch *batch, size_t size)
{
	static char expected[LOG_BATCH * PIPE_BUF + 1];
	static char message[PIPE_BUF + 16] = "MESSAGE=";
	size_t n = size - strlen("info: \n");

	for (size_t i = 0; i < LOG_BATCH; i++) {
		memset(message + 8, 'a' + (int)i, n);
		message[8 + n] = '\0';
		ck_assert_int_eq(add_field(batch, message), 0);
		snprintf(expected + i * size, size + 1, "info: %s\n", message + 8);
	}
	return expected;
}

/* How many lines a write takes: none is split, and it is never more than a pipe takes whole. */
static const struct {
	size_t line, together;
} writes[] = {
	{100, 16},           {256, 16},         {257, 15},
	{1000, 4},           {PIPE_BUF / 2, 2}, {PIPE_BUF / 2 + 1, 1},
	{PIPE_BUF - 100, 1}, {PIPE_BUF - 1, 1},
};

START_TEST(lines_go_out_together)
{
	_cleanup_(log_batch_freep) struct log_batch *batch = NULL;
	size_t line = writes[_i].line, left = LOG_BATCH;
	const char *expected;

	use_pipe_with(O_DIRECT);
	ck_assert_int_eq(log_batch_new(&batch), 0);
	expected = add_lines(batch, line);
	ck_assert_int_eq(log_batch_write(batch), 0);
	while (left > 0) {
		size_t n = MIN(left, writes[_i].together) * line;
		const char *text = read_pipe();

		ck_assert_uint_eq(strlen(text), n);
		ck_assert(strncmp(text, expected, n) == 0);
		expected += n;
		left -= n / line;
	}
	ck_assert_str_eq(read_pipe(), "");
}
END_TEST

/* Reads what the pipe holds: the same batch over and over, `at` bytes of it so far. */
static size_t read_batches(const char *batch, size_t size, size_t at)
{
	for (const char *text = read_pipe(); *text; text++, at++)
		ck_assert_int_eq(*text, batch[at % size]);
	return at;
}

/* What a full pipe didn't take waits, and comes when there is room. */
START_TEST(a_full_pipe_takes_the_rest_of_a_batch_later)
{
	enum { LINE = 1000, ALL = LOG_BATCH * LINE, BATCHES = 100 };
	_cleanup_(log_batch_freep) struct log_batch *batch = NULL;
	unsigned refused = 0;
	size_t got = 0;

	use_pipe();
	ck_assert_int_eq(log_batch_new(&batch), 0);
	for (int i = 0; i < BATCHES; i++) {
		const char *expected = add_lines(batch, LINE);
		int r;

		while ((r = log_batch_write(batch)) == -EAGAIN) {
			ck_assert_uint_gt(log_batch_waiting(batch), 0);
			got = read_batches(expected, ALL, got);
			refused++;
		}
		ck_assert_int_eq(r, 0);
		ck_assert_uint_eq(log_batch_waiting(batch), 0);
		if (i == BATCHES - 1)
			while (got < (size_t)BATCHES * ALL)
				got = read_batches(expected, ALL, got);
	}
	ck_assert_uint_eq(got, (size_t)BATCHES * ALL);
	ck_assert_str_eq(read_pipe(), "");
	ck_assert_uint_gt(refused, 0);
}
END_TEST

/* A file may take a part of the lines, and of a line: each is there once, whole. */
START_TEST(a_line_that_was_written_in_part_goes_on)
{
	static const rlim_t ends[] = {1, 999, 1000, 1001, 3999, 4000, 9500, 15999};
	enum { LINE = 1000 };
	_cleanup_(log_batch_freep) struct log_batch *batch = NULL;
	static char text[LOG_BATCH * LINE + 2];
	const char *expected;
	struct rlimit limit;
	FILE *file = tmpfile();
	size_t waiting[ELEMENTSOF(ends)];
	int results[ELEMENTSOF(ends)];

	ck_assert_ptr_nonnull(file);
	ck_assert_int_eq(dup2(fileno(file), STDERR_FILENO), STDERR_FILENO);
	ck_assert_int_eq(log_batch_new(&batch), 0);
	expected = add_lines(batch, LINE);

	ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
	signal(SIGXFSZ, SIG_IGN);
	for (size_t i = 0; i < ELEMENTSOF(ends);
	     i++) { /* check has a file of its own: asks later */
		setrlimit(RLIMIT_FSIZE, &(struct rlimit){ends[i], limit.rlim_max});
		results[i] = log_batch_write(batch);
		waiting[i] = log_batch_waiting(batch);
	}
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	for (size_t i = 0; i < ELEMENTSOF(ends); i++) {
		ck_assert_int_eq(results[i], -EFBIG);
		ck_assert_uint_eq(waiting[i], LOG_BATCH - ends[i] / LINE);
	}
	ck_assert_int_eq(log_batch_write(batch), 0);
	ck_assert_uint_eq(log_batch_waiting(batch), 0);

	ck_assert_int_eq(pread(fileno(file), text, sizeof(text) - 1, 0), LOG_BATCH * LINE);
	ck_assert_str_eq(text, expected);
	fclose(file);
}
END_TEST

START_TEST(a_batch_for_a_pipe_without_reader_waits)
{
	_cleanup_(log_batch_freep) struct log_batch *batch = NULL;

	use_pipe();
	signal(SIGPIPE, SIG_DFL);
	close(reader);
	reader = -1;
	ck_assert_int_eq(log_batch_new(&batch), 0);
	add_lines(batch, 100);
	ck_assert_int_eq(log_batch_write(batch), -EPIPE);
	ck_assert_uint_eq(log_batch_waiting(batch), LOG_BATCH);
	log_batch_drop(batch);
	ck_assert_uint_eq(log_batch_waiting(batch), LOG_BATCH - 1);
}
END_TEST

START_TEST(a_path_too_long_changes_nothing)
{
	static char path[200];

	use_journal();
	memset(path, 'x', sizeof(path) - 1);
	ck_assert_int_eq(log_open_journal(path), -ENAMETOOLONG);
	ck_assert(log_to_journal());
}
END_TEST

static const struct {
	const char *format; /* of JOURNAL_STREAM, with stderr's device and inode */
	bool journal;
} streams[] = {
	{"%ju:%ju", true},   {"%ju:%ju1", false}, {"1%ju:%ju", false}, {"%ju:%ju ", false},
	{" %ju:%ju", false}, {"%ju:", false},     {"%ju", false},      {"", false},
	{"0%ju:%ju", false}, {":", false},        {"0:0", false},      {NULL, false},
};

START_TEST(the_target_follows_journal_stream)
{
	char value[100];
	struct stat st;

	use_pipe();
	ck_assert_int_eq(fstat(STDERR_FILENO, &st), 0);
	if (streams[_i].format) {
		snprintf(value, sizeof(value), streams[_i].format, (uintmax_t)st.st_dev,
			 (uintmax_t)st.st_ino);
		setenv("JOURNAL_STREAM", value, 1);
	}
	log_open();
	ck_assert_int_eq(log_to_journal(), streams[_i].journal);
}
END_TEST

static const struct {
	int priority;
	const char *fields[5];
	const char *line;
} lines[] = {
	{LOG_INFO, {"MESSAGE=a b"}, "info: a b\n"},
	{LOG_CRIT, {"MESSAGE=x", "RULE=r"}, "critical: x RULE=r\n"},
	{LOG_ERR, {"RULE=r", "MESSAGE=x"}, "error: x RULE=r\n"},
	{LOG_WARNING, {"MESSAGE=x", "MESSAGE_ID=00", "A=1", "B=2"}, "warning: x A=1 B=2\n"},
	{LOG_NOTICE, {"MESSAGE=x", "A=", "B=2 3", "C=="}, "notice: x A=\"\" B=\"2 3\" C==\n"},
	{LOG_INFO,
	 {"MESSAGE=a\nb\r\t\x7f\x1b\xc3"},
	 "info: a\\x0ab\\x0d\\x09\\x7f\\x1b\\xc3\n"},
	{LOG_INFO, {"MESSAGE=x", "A=1\nVERDICT=allow"}, "info: x A=1\\x0aVERDICT=allow\n"},
	{LOG_INFO, {"MESSAGE=x", "A=1\" B=2"}, "info: x A=\"1\\x22 B=2\"\n"},
	{LOG_INFO, {"MESSAGE=x", "A=\""}, "info: x A=\\x22\n"},
	{LOG_INFO, {"MESSAGE=\"x\" \\x00"}, "info: \"x\" \\x00\n"},
};

START_TEST(text_is_one_line)
{
	size_t n = 0;

	use_pipe();
	while (lines[_i].fields[n])
		n++;
	ck_assert_int_eq(log_write(lines[_i].priority, lines[_i].fields, n), 0);
	ck_assert_str_eq(read_pipe(), lines[_i].line);
}
END_TEST

/* The loop's parameter is the length of the value. */
START_TEST(each_byte_is_escaped_wherever_it_stands)
{
	char field[] = "V=xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", want[128];
	const char *const fields[] = {"MESSAGE=m", field};
	size_t n = (size_t)_i + 1;

	use_pipe();
	field[2 + n] = '\0';
	for (size_t at = 0; at < n; at++) {
		for (int c = 1; c < 256; c++) {
			bool plain = c >= 0x20 && c < 0x7f && c != '"';
			const char *quote = c == ' ' ? "\"" : "";
			char text[8];

			snprintf(text, sizeof(text), plain ? "%c" : "\\x%02x", c);
			field[2 + at] = (char)c;
			ck_assert_int_eq(log_write(LOG_INFO, fields, 2), 0);
			snprintf(want, sizeof(want), "info: m V=%s%.*s%s%s%s\n", quote, (int)at,
				 field + 2, text, field + 3 + at, quote);
			ck_assert_str_eq(read_pipe(), want);
		}
		field[2 + at] = 'x';
	}
}
END_TEST

START_TEST(an_event_is_text_too)
{
	const char *const fields[] = {"ENDPOINT=kms-eu", NULL};

	use_pipe();
	log_event(EVENT_ENDPOINT_UP, fields, "%d", 42);
	ck_assert_str_eq(read_pipe(), "notice: 42 ENDPOINT=kms-eu\n");
}
END_TEST

/* "info: " and the newline take 7 bytes of the longest line. */
START_TEST(a_long_line_is_cut)
{
	static char message[PIPE_BUF + 20] = "MESSAGE=";
	const char *const fields[] = {message};
	const char *line;

	use_pipe();
	memset(message + 8, 'x', PIPE_BUF - 7);
	ck_assert_int_eq(log_write(LOG_INFO, fields, 1), 0);
	line = read_pipe();
	ck_assert_uint_eq(strlen(line), PIPE_BUF);
	ck_assert_str_eq(line + PIPE_BUF - 4, "xxx\n");

	message[8 + PIPE_BUF - 7] = 'x';
	ck_assert_int_eq(log_write(LOG_INFO, fields, 1), 0);
	line = read_pipe();
	ck_assert_uint_eq(strlen(line), PIPE_BUF);
	ck_assert_str_eq(line + PIPE_BUF - 5, "x...\n");
}
END_TEST

START_TEST(a_full_pipe_never_blocks)
{
	const char *const fields[] = {"MESSAGE=x"};
	int r = 0;

	use_pipe();
	for (int i = 0; i < 1000000 && r == 0; i++)
		r = log_write(LOG_INFO, fields, 1);
	ck_assert_int_eq(r, -EAGAIN);
	while (*read_pipe())
		;
	ck_assert_int_eq(log_write(LOG_INFO, fields, 1), 0);
}
END_TEST

START_TEST(a_pipe_without_reader_raises_no_signal)
{
	const char *const fields[] = {"MESSAGE=x"};

	use_pipe();
	signal(SIGPIPE, SIG_DFL);
	close(reader);
	reader = -1;
	ck_assert_int_eq(log_write(LOG_INFO, fields, 1), -EPIPE);
	log_event(EVENT_START, NULL, "x");
	ck_assert_uint_eq(log_take_lost(), 1);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("log");
	TCase *tcase = tcase_create("log");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_set_timeout(tcase, 30);
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, every_event_has_its_own_id);
	tcase_add_test(tcase, an_event_has_these_fields);
	tcase_add_test(tcase, a_newline_makes_no_new_field);
	tcase_add_test(tcase, a_long_sentence_is_cut);
	tcase_add_test(tcase, an_absent_journal_is_noticed);
	tcase_add_test(tcase, a_full_journal_is_noticed_and_never_blocks);
	tcase_add_test(tcase, the_journals_socket_has_room);
	tcase_add_test(tcase, an_entry_too_large_is_refused);
	tcase_add_test(tcase, a_batch_goes_out_in_order);
	tcase_add_test(tcase, a_batch_leaves_out_what_is_too_large_or_dropped);
	tcase_add_loop_test(tcase, fields_in_a_text_are_fields, 0, ELEMENTSOF(texts));
	tcase_add_test(tcase, a_text_too_large_is_refused);
	tcase_add_test(tcase, a_batch_is_lines_of_text_too);
	tcase_add_loop_test(tcase, lines_go_out_together, 0, ELEMENTSOF(writes));
	tcase_add_test(tcase, a_full_pipe_takes_the_rest_of_a_batch_later);
	tcase_add_test(tcase, a_line_that_was_written_in_part_goes_on);
	tcase_add_test(tcase, a_batch_for_a_pipe_without_reader_waits);
	tcase_add_test(tcase, a_path_too_long_changes_nothing);
	tcase_add_loop_test(tcase, the_target_follows_journal_stream, 0, ELEMENTSOF(streams));
	tcase_add_loop_test(tcase, text_is_one_line, 0, ELEMENTSOF(lines));
	tcase_add_loop_test(tcase, each_byte_is_escaped_wherever_it_stands, 0, 36);
	tcase_add_test(tcase, an_event_is_text_too);
	tcase_add_test(tcase, a_long_line_is_cut);
	tcase_add_test(tcase, a_full_pipe_never_blocks);
	tcase_add_test(tcase, a_pipe_without_reader_raises_no_signal);
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
