/* SPDX-License-Identifier: Apache-2.0 */
#include "address.h"

#include "macro.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>

struct prefix {
	uint8_t bytes[16];
	unsigned bits;
};

/* IPv4 prefixes are compared in their mapped form, so that one table serves both. */
#define V4(a, b, bits4)                                                                        \
	{                                                                                      \
		{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, (a), (b), 0, 0}, 96 + (bits4)       \
	}

static const struct prefix refused[] = {
	V4(0, 0, 8),        /* this host */
	V4(127, 0, 8),      /* loopback */
	V4(169, 254, 16),   /* link-local: IMDS, the resolver, container credentials */
	V4(224, 0, 4),      /* multicast */
	V4(240, 0, 4),      /* reserved, broadcast */
	{{0}, 96},          /* ::, ::1 and the IPv4-compatible forms */
	{{0xfe, 0x80}, 10}, /* link-local */
	{{0xfd, 0x00, 0x0e, 0xc2}, 32}, /* IMDS and the other services of an instance */
	{{0xff}, 8},                    /* multicast */
};

/* An address behind a NAT64 gateway holds an IPv4 address in its last bytes (RFC 6052). */
static const struct prefix nat64 = {{0x00, 0x64, 0xff, 0x9b}, 96};

static bool prefix_has(const struct prefix *p, const uint8_t *address)
{
	unsigned whole = p->bits / 8, rest = p->bits % 8;

	if (memcmp(p->bytes, address, whole) != 0)
		return false;
	return rest == 0 || (p->bytes[whole] ^ address[whole]) >> (8 - rest) == 0;
}

bool address_is_refused(const struct sockaddr *address, socklen_t n)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	uint8_t bytes[16];

	memcpy(bytes, mapped, sizeof(mapped));
	if (address->sa_family == AF_INET && n >= sizeof(struct sockaddr_in))
		memcpy(bytes + 12, &((const struct sockaddr_in *)address)->sin_addr, 4);
	else if (address->sa_family == AF_INET6 && n >= sizeof(struct sockaddr_in6))
		memcpy(bytes, &((const struct sockaddr_in6 *)address)->sin6_addr, 16);
	else
		return true;
	if (prefix_has(&nat64, bytes))
		memcpy(bytes, mapped, sizeof(mapped));

	for (size_t i = 0; i < ELEMENTSOF(refused); i++)
		if (prefix_has(&refused[i], bytes))
			return true;
	return false;
}

bool address_is_literal(const char *host)
{
	unsigned char bytes[16];

	return inet_pton(AF_INET, host, bytes) == 1 || inet_pton(AF_INET6, host, bytes) == 1;
}
