/* SPDX-License-Identifier: Apache-2.0 */

/* The ClientHello reader on any bytes: however they arrive and into whatever records the
 * message is cut, the answer is the same, and a name that is found stands in the bytes. */

#include "client_hello.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct answer {
	enum client_hello_result result;
	struct client_hello hello;
	struct client_hello_fault fault;
};

static void must(bool condition, const char *what)
{
	if (!condition) {
		fprintf(stderr, "fuzz-client_hello: %s\n", what);
		abort();
	}
}

/* Of a copy of exactly this size: the sanitizer sees an overread. */
static struct answer ask(struct slice bytes)
{
	_cleanup_(freep) char *copy = malloc(bytes.n ? bytes.n : 1);
	struct answer a = {.hello = {"untouched"}};
	char record[TLS_ALERT_SIZE];

	must(copy != NULL, "no memory");
	if (bytes.n)
		memcpy(copy, bytes.p, bytes.n);
	a.result = client_hello_read((struct slice){copy, bytes.n}, &a.hello, &a.fault);
	must(a.result == CLIENT_HELLO_DONE || strcmp(a.hello.server_name, "untouched") == 0,
	     "a name without a hello");
	must((a.result == CLIENT_HELLO_BAD) == (a.fault.text != NULL), "BAD has a fault");
	if (a.result == CLIENT_HELLO_BAD) {
		struct slice alert = tls_alert_write(a.fault.alert, record);

		must(alert.n == sizeof(record) && alert.p[0] == 21 &&
			     alert.p[6] == (char)a.fault.alert,
		     "no alert for it");
	}
	return a;
}

static bool same(const struct answer *a, const struct answer *b)
{
	return a->result == b->result && a->fault.text == b->fault.text &&
	       a->fault.alert == b->fault.alert &&
	       strcmp(a->hello.server_name, b->hello.server_name) == 0;
}

static void check_pieces(const struct answer *whole, struct slice bytes)
{
	size_t step = bytes.n / 16 + 1;

	for (size_t n = 0; n < bytes.n; n += step) {
		struct answer a = ask((struct slice){bytes.p, n});

		must(a.result == CLIENT_HELLO_NEED_MORE || same(&a, whole),
		     "another answer for less");
	}
}

static void check_name(const char *name)
{
	size_t n = strlen(name);

	must(n == 0 || (name[0] != '.' && name[n - 1] != '.' && !strstr(name, "..")),
	     "a name with empty labels");
	must(strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.") == n,
	     "a name of other characters");
}

/* The payload of the records, as far as they are handshake records. */
static size_t join(struct slice bytes, char *out)
{
	size_t n = 0;

	while (bytes.n >= 5 && bytes.p[0] == 22) {
		size_t length =
			(size_t)(unsigned char)bytes.p[3] << 8 | (unsigned char)bytes.p[4];

		length = MIN(length, bytes.n - 5);
		memcpy(out + n, bytes.p + 5, length);
		n += length;
		bytes.p += 5 + length;
		bytes.n -= 5 + length;
	}
	return n;
}

static size_t cut(struct slice message, size_t size, char *out)
{
	size_t n = 0;

	while (message.n > 0) {
		size_t here = MIN(message.n, size);
		char header[5] = {22, 3, 1, (char)(here >> 8), (char)here};

		memcpy(out + n, header, 5);
		memcpy(out + n + 5, message.p, here);
		n += 5 + here;
		message.p += here;
		message.n -= here;
	}
	return n;
}

/* In whatever case. */
static bool stands_in(const char *name, struct slice message)
{
	size_t n = strlen(name);

	for (size_t i = 0; i + n <= message.n; i++)
		if (strncasecmp(message.p + i, name, n) == 0)
			return true;
	return false;
}

/* A hello in other records. */
static void check_records(const struct answer *whole, struct slice bytes, size_t size)
{
	_cleanup_(freep) char *joined = malloc(bytes.n + 1);
	_cleanup_(freep) char *other = malloc(6 * bytes.n + 1);
	struct slice message = {joined, 0};
	struct answer a;
	size_t n;

	must(joined && other, "no memory");
	message.n = join(bytes, joined);
	must(message.n >= 4, "a hello without a head");
	n = 4 + ((size_t)(unsigned char)joined[1] << 16 |
		 (size_t)(unsigned char)joined[2] << 8 | (unsigned char)joined[3]);
	must(n <= message.n, "a hello that isn't whole");
	message.n = n;
	must(stands_in(whole->hello.server_name, message), "a name that isn't in the hello");

	n = cut(message, size, other);
	a = ask((struct slice){other, n});
	if (n > LIMIT_HELLO)
		must(a.result == CLIENT_HELLO_BAD, "longer than the limit");
	else
		must(same(&a, whole), "another answer for other records");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice bytes = {(const char *)data, size};
	struct answer whole = ask(bytes);

	must(whole.result != CLIENT_HELLO_NEED_MORE || size < LIMIT_HELLO,
	     "more than the limit is asked for");
	check_pieces(&whole, bytes);
	if (whole.result == CLIENT_HELLO_DONE) {
		check_name(whole.hello.server_name);
		check_records(&whole, bytes, 1 + data[size - 1]);
		check_records(&whole, bytes, LIMIT_HELLO);
	}
	return 0;
}
