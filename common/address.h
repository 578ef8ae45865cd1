/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <sys/socket.h>

/* What kind of place an address is, the harmless first. Those forms of IPv6 that hold an IPv4
 * address (mapped, compatible, translated, NAT64, 6to4, Teredo) are what that is. */
enum address_class {
	ADDRESS_OTHER = 0, /* private ones too: VPC endpoints have them */
	ADDRESS_LOOPBACK,  /* this host: 0/8, 127/8, ::, ::1 */
	ADDRESS_SPECIAL,   /* link-local (169.254/16, fe80::/10), metadata and container agents
			    * (there, and in fd00:ec2::/32), multicast, reserved; any family but
			    * IPv4 and IPv6 */
};

enum address_class address_classify(const struct sockaddr *address, socklen_t n);

/* The same of a place to connect to, where it says so itself: an IP address without brackets,
 * or `localhost` and the names below it (RFC 6761 6.3). What another name leads to isn't known:
 * ADDRESS_OTHER. */
enum address_class address_classify_host(const char *host);

/* Whether a place to connect to is an IP address, which needs no lookup. */
bool address_is_literal(const char *host);
