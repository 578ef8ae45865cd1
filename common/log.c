/* SPDX-License-Identifier: Apache-2.0 */
#include "log.h"

#include "block.h"
#include "macro.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define JOURNAL_SOCKET "/run/systemd/journal/socket"
#define FIELDS_MAX 32

/* Ids never change: operators match on them. A new one comes from `systemd-id128 new`. */
static const struct event_info events[_EVENT_MAX] = {
	[EVENT_START] = {"ad547b671bbd4a459dad650b3c2b682c", LOG_NOTICE},
	[EVENT_STOP] = {"0cd319a40aa9466b96bd162f83cd5bb4", LOG_NOTICE},
	[EVENT_CONFIG_LOADED] = {"0b918a561a4f48588c0e860128bb9d2b", LOG_NOTICE},
	[EVENT_CONFIG_REFUSED] = {"aa6cdc3b47f644abbe10cdd5f05adb43", LOG_ERR},
	[EVENT_CONFIG_WARNING] = {"3bce3007a94445a4bf3fb4f1f714bc88", LOG_WARNING},
	[EVENT_REGION] = {"3a39f2a78d7740e8a7ce3634b4226153", LOG_NOTICE},
	[EVENT_REGION_FAIL] = {"047d17e0335c46e186bd7b2dcc3160f2", LOG_ERR},
	[EVENT_CREDENTIALS] = {"a3e37a7478b540cba3d869268520e857", LOG_INFO},
	[EVENT_CREDENTIALS_FAIL] = {"d3a7b2a109a1455a882dc0e608a1a346", LOG_ERR},
	[EVENT_CREDENTIALS_BAD] = {"77ad697fd5744c62965256307570b014", LOG_ERR},
	[EVENT_CREDENTIALS_OK] = {"9f7d1cab57ec4f22a9af5d01c28a4e91", LOG_NOTICE},
	[EVENT_ENDPOINT_DOWN] = {"835c8674c8f549dc81655d7448740e02", LOG_ERR},
	[EVENT_ENDPOINT_UP] = {"a03c72bb3eb64a9187ffcdebdb2883f7", LOG_NOTICE},
	[EVENT_SANDBOX] = {"96042283036f495fb01d7480158c9d0f", LOG_WARNING},
	[EVENT_ACCEPT_FAIL] = {"b73275df1240456ba7c7e044bebe8cd2", LOG_ERR},
	[EVENT_MACHINE] = {"88b9e941dbc341938a73f5eaf4b3a21b", LOG_ERR},
	[EVENT_REQUEST] = {"27769046b2184e479d092aacb1351696", LOG_INFO},
	[EVENT_REFUSED] = {"7645fc018e594db19404fbf0e195c0b7", LOG_WARNING},
	[EVENT_UNANSWERED] = {"3f0a6c1e9d5b4c7f8a2e61d4b7905c38", LOG_WARNING},
	[EVENT_LEAK] = {"dff3d746b94d470297d4e3a844694865", LOG_CRIT},
	[EVENT_CONNECTION] = {"c094fd9d2dd8445fa41eb2c65ed1e683", LOG_NOTICE},
	[EVENT_TUNNEL_OPEN] = {"c529ffb0ef484f20bf44cdfb8e6666c9", LOG_INFO},
	[EVENT_TUNNEL_REFUSED] = {"fc66aae0cf9d44a9a58e18cf9ba6883f", LOG_WARNING},
	[EVENT_TUNNEL_END] = {"250f360a56854d1ca3bc16fa691d5595", LOG_INFO},
	[EVENT_COUNTERS] = {"e84fc531189442059566acd35cb0d111", LOG_INFO},
	[EVENT_SUPPRESSED] = {"7b52ff79c8f94b7f97fa4ed3abfa8153", LOG_WARNING},
	[EVENT_LOST] = {"491649e5cac145ce86e525b03d0c218e", LOG_ERR},
};

const struct event_info *event_info(enum event_kind event)
{
	assert(event < _EVENT_MAX);
	return &events[event];
}

/* Where entries go. sd_journal_sendv() is no use here: it blocks, and it reports success when
 * there is no journal. */
static struct {
	int journal; /* socket, or -1: text on stderr */
	struct sockaddr_un address;
	_Atomic uint64_t lost;
} target = {.journal = -1};

/* A line of so many bytes reaches a pipe whole or not at all. */
#define ENTRY_MAX PIPE_BUF

/* One entry while it is made: in p[ENTRY_MAX], somebody else's. */
struct entry {
	char *p;
	size_t n;
	bool cut;
};

/* The entries stand one after the other in `text`, so that lines go out together, and what is
 * written over and over is as small as it can be: it stays in the processor's cache. */
struct log_batch {
	size_t n, written;
	struct slice entries[LOG_BATCH]; /* of the first not written: what is left of it */
	size_t used;
	char text[LOG_BATCH * ENTRY_MAX];
};

static void put(struct entry *e, const void *p, size_t n)
{
	if (n > ENTRY_MAX - e->n) {
		n = ENTRY_MAX - e->n;
		e->cut = true;
	}
	memcpy(e->p + e->n, p, n);
	e->n += n;
}

static void put_string(struct entry *e, const char *s)
{
	put(e, s, strlen(s));
}

static const char *field_value(const char *field)
{
	const char *equals = strchr(field, '=');

	assert(equals);
	return equals + 1;
}

static void target_set(int fd, const struct sockaddr_un *address)
{
	if (target.journal >= 0)
		close(target.journal);
	target.journal = fd;
	target.address = *address;
}

int log_open_journal(const char *path)
{
	static const int send_buffer = 8 * 1024 * 1024;
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = -1;

	if (path) {
		if (strlen(path) >= sizeof(address.sun_path))
			return -ENAMETOOLONG;
		memcpy(address.sun_path, path, strlen(path));
		fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		if (fd < 0)
			return -errno;
		/* As much as the machine allows (net.core.wmem_max): the default holds fewer
		 * records than the queue of journald. */
		(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &send_buffer, sizeof(send_buffer));
	}
	target_set(fd, &address);
	return 0;
}

void log_open(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	char own[64];
	struct stat st;

	if (!stream || fstat(STDERR_FILENO, &st) < 0)
		return;
	snprintf(own, sizeof(own), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
	if (strcmp(stream, own) != 0)
		return;
	if (log_open_journal(JOURNAL_SOCKET) < 0)
		return; /* stderr leads to the journal as well, only without fields */
}

bool log_to_journal(void)
{
	return target.journal >= 0;
}

/* The journal's native protocol: NAME=value and a newline; a value that holds a newline itself
 * is framed by its length (systemd.io/JOURNAL_NATIVE_PROTOCOL). */
static void put_journal_field(struct entry *e, const char *field)
{
	size_t n = strlen(field);

	if (memchr(field, '\n', n)) {
		const char *value = field_value(field);
		uint64_t value_n = htole64(strlen(value));

		put(e, field, (size_t)(value - field) - 1);
		put(e, "\n", 1);
		put(e, &value_n, sizeof(value_n));
		put_string(e, value);
	} else {
		put(e, field, n);
	}
	put(e, "\n", 1);
}

/* What every entry begins with. */
static void put_journal_head(struct entry *e, int priority)
{
	char head[] = "PRIORITY=0\n"
		      "SYSLOG_IDENTIFIER=kms-vsock-proxyd\n";

	head[strlen("PRIORITY=")] = (char)('0' + priority);
	put(e, head, sizeof(head) - 1);
}

static void put_journal(struct entry *e, int priority, const char *const *fields,
			size_t n_fields)
{
	put_journal_head(e, priority);
	for (size_t i = 0; i < n_fields; i++)
		put_journal_field(e, fields[i]);
}

/* Writes as many of the entries, LOG_BATCH or fewer, as the journal takes now: the bytes of
 * those, never a part of one. */
static ssize_t write_journal(const struct slice *entries, size_t n)
{
	struct mmsghdr messages[LOG_BATCH] = {0};
	struct iovec bytes[LOG_BATCH];
	ssize_t sum = 0;
	int written;

	for (size_t i = 0; i < n; i++) {
		bytes[i] = (struct iovec){(char *)entries[i].p, entries[i].n};
		messages[i].msg_hdr.msg_iov = &bytes[i];
		messages[i].msg_hdr.msg_iovlen = 1;
	}
	written = sendmmsg(target.journal, messages, (unsigned)n, MSG_DONTWAIT | MSG_NOSIGNAL);
	/* A journal that was restarted, or has only now been started, is found by its path. */
	if (written < 0 && (errno == ENOTCONN || errno == ECONNREFUSED)) {
		if (connect(target.journal, (struct sockaddr *)&target.address,
			    sizeof(target.address)) < 0)
			return -errno;
		written = sendmmsg(target.journal, messages, (unsigned)n,
				   MSG_DONTWAIT | MSG_NOSIGNAL);
	}
	if (written < 0)
		return -errno;
	for (size_t i = 0; i < MIN((size_t)written, n); i++)
		sum += (ssize_t)entries[i].n;
	return sum;
}

/* Values from a wire were escaped when they were copied; what is escaped here is what a
 * terminal or a reader of lines would trip over, and the `also` byte. */
static void put_text(struct entry *e, const char *s, char also)
{
	const char *end = s + strlen(s);
	char hex[5];

	for (;;) {
		size_t run = block_text_run(s, (size_t)(end - s), ' ', also);

		put(e, s, run);
		s += run;
		if (s == end)
			return;
		snprintf(hex, sizeof(hex), "\\x%02x", (unsigned char)*s++);
		put_string(e, hex);
	}
}

/* NAME=value, or NAME="value" where it would else end too early; it can't end its own quotes.
 */
static void put_text_field(struct entry *e, const char *field)
{
	const char *value = field_value(field);
	bool quote = *value == '\0' || strchr(value, ' ');

	put(e, " ", 1);
	put(e, field, (size_t)(value - field));
	put_string(e, quote ? "\"" : "");
	put_text(e, value, '"');
	put_string(e, quote ? "\"" : "");
}

static bool is_field(const char *field, const char *name)
{
	/* The first byte alone tells most apart, without a call. */
	return *field == *name && strncmp(field, name, strlen(name)) == 0;
}

/* Writes as many lines as a pipe takes whole, and returns the bytes that were written: a file
 * or a socket may take a part. */
static ssize_t write_stderr(const struct slice *lines, size_t n_lines)
{
	struct pollfd poller = {.fd = STDERR_FILENO, .events = POLLOUT};
	size_t size = 0;
	ssize_t n;

	/* A pipe is writable while PIPE_BUF bytes fit, so the write below doesn't block (unless
	 * another thread takes the last of them in between). */
	n = poll(&poller, 1, 0);
	if (n <= 0)
		return n < 0 ? -errno : -EAGAIN;
	if (poller.revents & (POLLERR | POLLHUP | POLLNVAL))
		return -EPIPE;
	for (size_t i = 0; i < n_lines && lines[i].n <= PIPE_BUF - size; i++)
		size += lines[i].n;
	n = write(STDERR_FILENO, lines[0].p, size);
	if (n < 0)
		return -errno;
	return n > 0 ? n : -EIO; /* never says "nothing", so that a loop ends */
}

/* `level: sentence NAME=value ...`, without the id: it is of no use to a reader. */
static void put_line(struct entry *e, int priority, const char *const *fields, size_t n_fields)
{
	static const char *const levels[] = {"emergency", "alert",  "critical", "error",
					     "warning",   "notice", "info",     "debug"};

	put_string(e, levels[priority]);
	put(e, ": ", 2);
	for (size_t i = 0; i < n_fields; i++)
		if (is_field(fields[i], "MESSAGE="))
			put_text(e, field_value(fields[i]), '\0');
	for (size_t i = 0; i < n_fields; i++)
		if (!is_field(fields[i], "MESSAGE=") && !is_field(fields[i], "MESSAGE_ID="))
			put_text_field(e, fields[i]);
	put(e, "\n", 1);
	if (e->cut)
		memcpy(e->p + ENTRY_MAX - 4, "...\n", 4);
}

/* Makes the entry in p[ENTRY_MAX]. -EMSGSIZE: the journal would get a part of it. */
static int entry_make(char *p, int priority, const char *const *fields, size_t n_fields,
		      struct slice *ret_entry)
{
	struct entry e = {.p = p};

	assert(priority >= LOG_EMERG && priority <= LOG_DEBUG);
	if (log_to_journal()) {
		put_journal(&e, priority, fields, n_fields);
		if (e.cut)
			return -EMSGSIZE;
	} else {
		put_line(&e, priority, fields, n_fields);
	}
	*ret_entry = (struct slice){e.p, e.n};
	return 0;
}

/* Entries that stand one after the other. Returns how many bytes of them were written. */
static ssize_t entries_write(const struct slice *entries, size_t n)
{
	return log_to_journal() ? write_journal(entries, n) : write_stderr(entries, n);
}

int log_write(int priority, const char *const *fields, size_t n_fields)
{
	_uninitialized_ char p[ENTRY_MAX];
	struct slice entry;
	int r = entry_make(p, priority, fields, n_fields, &entry);
	ssize_t n;

	if (r < 0)
		return r;
	n = entries_write(&entry, 1);
	if (n < 0)
		return (int)n;
	return (size_t)n == entry.n ? 0 : -EIO;
}

int log_batch_new(struct log_batch **ret_batch)
{
	struct log_batch *b = calloc(1, sizeof(*b));

	if (!b)
		return -ENOMEM;
	*ret_batch = b;
	return 0;
}

struct log_batch *log_batch_free(struct log_batch *b)
{
	free(b);
	return NULL;
}

size_t log_batch_waiting(const struct log_batch *b)
{
	return b->n - b->written;
}

/* Where the next entry is made. */
static char *batch_room(struct log_batch *b)
{
	if (b->written == b->n)
		b->n = b->written = b->used = 0;
	assert(b->n < LOG_BATCH); /* each has used ENTRY_MAX bytes or fewer */
	return b->text + b->used;
}

static void batch_take(struct log_batch *b, struct slice entry)
{
	b->entries[b->n++] = entry;
	b->used += entry.n;
}

static int batch_add_fields(struct log_batch *b, int priority, const char *const *fields,
			    size_t n_fields)
{
	struct slice entry;
	int r = entry_make(batch_room(b), priority, fields, n_fields, &entry);

	if (r == 0)
		batch_take(b, entry);
	return r;
}

int log_batch_add(struct log_batch *b, int priority, struct slice text,
		  const char *const *fields, size_t n_fields)
{
	struct entry e = {.p = batch_room(b)};
	char *own;

	assert(text.n > 0 && fields[0] == text.p && text.p[text.n - 1] == '\0');
	/* A newline would end its field too early: then each needs to be looked at. */
	if (!log_to_journal() || memchr(text.p, '\n', text.n))
		return batch_add_fields(b, priority, fields, n_fields);
	put_journal_head(&e, priority);
	own = e.p + e.n;
	put(&e, text.p, text.n);
	if (e.cut)
		return -EMSGSIZE;
	for (size_t i = 1; i < n_fields; i++)
		own[fields[i] - text.p - 1] = '\n';
	own[text.n - 1] = '\n';
	batch_take(b, (struct slice){e.p, e.n});
	return 0;
}

/* What a reader of lines got a part of, it gets the rest of. */
static void batch_written(struct log_batch *b, size_t n)
{
	for (; n > 0 && n >= b->entries[b->written].n; b->written++)
		n -= b->entries[b->written].n;
	if (n > 0) {
		b->entries[b->written].p += n;
		b->entries[b->written].n -= n;
	}
}

int log_batch_write(struct log_batch *b)
{
	while (b->written < b->n) {
		ssize_t n = entries_write(b->entries + b->written, b->n - b->written);

		if (n < 0)
			return (int)n;
		batch_written(b, (size_t)n);
	}
	return 0;
}

void log_batch_drop(struct log_batch *b)
{
	assert(b->written < b->n);
	b->written++;
}

void log_event(enum event_kind event, const char *const *fields, const char *format, ...)
{
	const struct event_info *info = event_info(event);
	const char *all[2 + FIELDS_MAX];
	char message[2048] = "MESSAGE=", id[64];
	size_t n = 0, start = strlen(message);
	va_list args;

	va_start(args, format);
	vsnprintf(message + start, sizeof(message) - start, format, args);
	va_end(args);
	snprintf(id, sizeof(id), "MESSAGE_ID=%s", info->message_id);

	all[n++] = message;
	all[n++] = id;
	while (fields && *fields) {
		assert(n < ELEMENTSOF(all));
		all[n++] = *fields++;
	}
	if (log_write(info->priority, all, n) < 0)
		atomic_fetch_add_explicit(&target.lost, 1, memory_order_relaxed);
}

uint64_t log_take_lost(void)
{
	return atomic_exchange_explicit(&target.lost, 0, memory_order_relaxed);
}
