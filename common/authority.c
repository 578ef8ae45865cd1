/* SPDX-License-Identifier: Apache-2.0 */
#include "authority.h"

#include <arpa/inet.h>

#define NAME_MAX_BYTES 253
#define LABEL_MAX_BYTES 63

static const char bad_host[] = "host is neither a name nor an address";
static const char bad_port[] = "port is not a number from 1 to 65535";

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_letter_or_digit(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c);
}

static bool is_address(int family, struct slice s)
{
	char text[INET6_ADDRSTRLEN];
	struct in6_addr address; /* has room for either */

	/* inet_pton() stops at a NUL. */
	if (s.n >= sizeof(text) || memchr(s.p, '\0', s.n))
		return false;
	memcpy(text, s.p, s.n);
	text[s.n] = '\0';
	return inet_pton(family, text, &address) == 1;
}

/* *ret_numeric: its last label is a number, so it can only be an IPv4 address. */
static bool is_name(struct slice s, bool *ret_numeric)
{
	size_t label = 0, digits = 0; /* of the label being read */

	if (s.n > NAME_MAX_BYTES)
		return false;
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] == '.') {
			if (label == 0)
				return false;
			label = digits = 0;
			continue;
		}
		if (!is_letter_or_digit(s.p[i]) && s.p[i] != '-')
			return false;
		if (++label > LABEL_MAX_BYTES)
			return false;
		digits += is_digit(s.p[i]);
	}
	*ret_numeric = label == digits;
	return label > 0;
}

/* Cuts the host off the front of `s`; what is left is empty or begins with the port's colon. */
static const char *take_host(struct slice *s, struct authority *a)
{
	bool bracket = s->n && s->p[0] == '[', numeric;
	const char *end = s->n ? memchr(s->p, bracket ? ']' : ':', s->n) : NULL;
	size_t n = end ? (size_t)(end - s->p) : s->n;

	if (n == 0)
		return "empty host";
	if (bracket) {
		a->host = (struct slice){s->p + 1, n - 1};
		a->is_address = end && is_address(AF_INET6, a->host);
		if (!a->is_address)
			return bad_host;
		n++;
	} else {
		a->host = (struct slice){s->p, n};
		if (!is_name(a->host, &numeric))
			return bad_host;
		a->is_address = numeric && is_address(AF_INET, a->host);
		if (numeric && !a->is_address)
			return bad_host;
	}
	*s = (struct slice){s->p + n, s->n - n};
	return NULL;
}

const char *authority_parse(struct slice s, struct authority *ret_authority)
{
	struct authority a = {0};
	const char *fault = take_host(&s, &a);
	unsigned long long port;

	if (fault)
		return fault;
	if (s.n) {
		if (s.p[0] != ':')
			return bad_host;
		if (!slice_to_u64((struct slice){s.p + 1, s.n - 1}, 65535, &port) || port == 0)
			return bad_port;
		a.port = (unsigned)port;
	}
	*ret_authority = a;
	return NULL;
}
