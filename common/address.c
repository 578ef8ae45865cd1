/* SPDX-License-Identifier: Apache-2.0 */
#include "address.h"

#include "macro.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

#define IP6_BYTES 16

struct prefix {
	uint8_t bytes[IP6_BYTES];
	unsigned bits;
};

/* IPv4 prefixes are compared in their mapped form, so that one table serves both. */
#define V4(a, b, bits4)                                                                        \
	{                                                                                      \
		{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, (a), (b), 0, 0}, 96 + (bits4)       \
	}

/* The first that fits counts. */
static const struct {
	struct prefix prefix;
	enum address_class class;
} classes[] = {
	{V4(0, 0, 8), ADDRESS_LOOPBACK}, /* Linux connects 0.0.0.0 to itself */
	{V4(127, 0, 8), ADDRESS_LOOPBACK},
	{V4(169, 254, 16), ADDRESS_SPECIAL}, /* link-local: IMDS, container agents */
	{V4(224, 0, 4), ADDRESS_SPECIAL},    /* multicast */
	{V4(240, 0, 4), ADDRESS_SPECIAL},    /* reserved, broadcast */
	{{{0}, 127}, ADDRESS_LOOPBACK},      /* ::, ::1 */
	{{{0xfe, 0x80}, 10}, ADDRESS_SPECIAL},
	{{{0xfd, 0x00, 0x0e, 0xc2}, 32}, ADDRESS_SPECIAL}, /* services of an instance */
	{{{0xff}, 8}, ADDRESS_SPECIAL},                    /* multicast */
};

/* Where an IPv6 address may hold an IPv4 address that a gateway or the kernel goes on to. */
static const struct {
	struct prefix prefix;
	unsigned at;     /* its first byte */
	uint8_t flipped; /* its bytes are XORed with this */
} embeddings[] = {
	{{{0x00, 0x64, 0xff, 0x9b}, 96}, 12, 0},       /* NAT64, RFC 6052 */
	{{{0x00, 0x64, 0xff, 0x9b, 0, 1}, 48}, 12, 0}, /* NAT64 of a site, RFC 8215 */
	{{{[8] = 0xff, [9] = 0xff}, 96}, 12, 0},       /* translated, RFC 2765 */
	{{{0}, 96}, 12, 0},                            /* compatible, RFC 4291 2.5.5.1 */
	{{{0x20, 0x02}, 16}, 2, 0},                    /* 6to4, RFC 3056 */
	{{{0x20, 0x01}, 32}, 12, 0xff},                /* Teredo, RFC 4380 */
};

static bool prefix_has(const struct prefix *p, const uint8_t *address)
{
	unsigned whole = p->bits / 8, rest = p->bits % 8;

	if (memcmp(p->bytes, address, whole) != 0)
		return false;
	return rest == 0 || (p->bytes[whole] ^ address[whole]) >> (8 - rest) == 0;
}

static enum address_class class_of(const uint8_t *bytes)
{
	for (size_t i = 0; i < ELEMENTSOF(classes); i++)
		if (prefix_has(&classes[i].prefix, bytes))
			return classes[i].class;
	return ADDRESS_OTHER;
}

static void map_v4(const uint8_t v4[4], uint8_t flipped, uint8_t out[IP6_BYTES])
{
	memset(out, 0, 10);
	out[10] = out[11] = 0xff;
	for (unsigned i = 0; i < 4; i++)
		out[12 + i] = v4[i] ^ flipped;
}

/* The worst of what it is itself and of what it may hold. */
static enum address_class classify(const uint8_t bytes[IP6_BYTES])
{
	enum address_class class = class_of(bytes);

	for (size_t i = 0; i < ELEMENTSOF(embeddings) && class == ADDRESS_OTHER; i++) {
		uint8_t inner[IP6_BYTES];

		if (!prefix_has(&embeddings[i].prefix, bytes))
			continue;
		map_v4(bytes + embeddings[i].at, embeddings[i].flipped, inner);
		class = class_of(inner);
	}
	return class;
}

enum address_class address_classify(const struct sockaddr *address, socklen_t n)
{
	uint8_t bytes[IP6_BYTES];

	if (address->sa_family == AF_INET && n >= sizeof(struct sockaddr_in))
		map_v4((const uint8_t *)&((const struct sockaddr_in *)address)->sin_addr, 0,
		       bytes);
	else if (address->sa_family == AF_INET6 && n >= sizeof(struct sockaddr_in6))
		memcpy(bytes, &((const struct sockaddr_in6 *)address)->sin6_addr, IP6_BYTES);
	else
		return ADDRESS_SPECIAL;
	return classify(bytes);
}

static bool is_localhost(const char *host)
{
	static const char name[] = "localhost";
	size_t n = strlen(host), suffix = sizeof(name) - 1;

	return n >= suffix && strcasecmp(host + n - suffix, name) == 0 &&
	       (n == suffix || host[n - suffix - 1] == '.');
}

enum address_class address_classify_host(const char *host)
{
	uint8_t bytes[IP6_BYTES], v4[4];

	if (inet_pton(AF_INET, host, v4) == 1)
		map_v4(v4, 0, bytes);
	else if (inet_pton(AF_INET6, host, bytes) != 1)
		return is_localhost(host) ? ADDRESS_LOOPBACK : ADDRESS_OTHER;
	return classify(bytes);
}

bool address_is_literal(const char *host)
{
	unsigned char bytes[IP6_BYTES];

	return inet_pton(AF_INET, host, bytes) == 1 || inet_pton(AF_INET6, host, bytes) == 1;
}
