/* SPDX-License-Identifier: Apache-2.0 */
#include "syntax.h"

#include "authority.h"
#include "limit.h"

#include <arpa/inet.h>
#include <limits.h>
#include <sys/un.h>

#define LOWER "abcdefghijklmnopqrstuvwxyz"
#define UPPER "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS "0123456789"
#define HEX DIGITS "abcdef"

/* Not empty, and of these characters only. */
static bool only(struct slice s, const char *characters)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] == '\0' || !strchr(characters, s.p[i]))
			return false;
	return s.n > 0;
}

static bool has_controls(struct slice s)
{
	for (size_t i = 0; i < s.n; i++)
		if ((unsigned char)s.p[i] < 0x20 || s.p[i] == 0x7f)
			return true;
	return false;
}

/* Cuts the part before the first `mark` off *rest; all of it, when there is none. */
static struct slice cut(struct slice *rest, char mark)
{
	const char *end = rest->n ? memchr(rest->p, mark, rest->n) : NULL;
	struct slice part = *rest;

	if (!end) {
		*rest = (struct slice){rest->p + rest->n, 0};
		return part;
	}
	part.n = (size_t)(end - rest->p);
	*rest = (struct slice){end + 1, rest->n - part.n - 1};
	return part;
}

static bool skip(struct slice *s, const char *prefix)
{
	struct slice p = slice_from(prefix);

	if (!slice_starts(*s, p))
		return false;
	*s = (struct slice){s->p + p.n, s->n - p.n};
	return true;
}

bool syntax_name(struct slice s)
{
	return s.n <= LIMIT_NAME && only(s, LOWER UPPER DIGITS "._-");
}

static bool is_label(struct slice s)
{
	return s.n <= 63 && only(s, LOWER DIGITS "-") && s.p[0] != '-' && s.p[s.n - 1] != '-';
}

/* No top-level domain is a number; to inet_aton(3), which a lookup asks first, that is an IPv4
 * address, also in hexadecimal. */
static bool is_number(struct slice label)
{
	return only(label, DIGITS) ||
	       (skip(&label, "0x") && (label.n == 0 || only(label, HEX)));
}

bool syntax_host(struct slice s)
{
	struct slice label = {0};

	if (s.n == 0 || s.n > 253 || s.p[s.n - 1] == '.')
		return false;
	while (s.n > 0) {
		label = cut(&s, '.');
		if (!is_label(label))
			return false;
	}
	return !is_number(label);
}

bool syntax_region(struct slice s)
{
	return s.n <= 32 && is_label(s) && memchr(s.p, '-', s.n) &&
	       strchr(DIGITS, s.p[s.n - 1]);
}

bool syntax_region_or_instance(struct slice s)
{
	return slice_eq_str(s, "instance") || syntax_region(s);
}

bool syntax_path(struct slice s)
{
	return s.n > 1 && s.n < PATH_MAX && s.p[0] == '/' && !has_controls(s);
}

bool syntax_unix_path(struct slice s)
{
	return syntax_path(s) && s.n < sizeof(((struct sockaddr_un *)NULL)->sun_path);
}

bool syntax_fd_name(struct slice s)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] < 0x20 || s.p[i] > 0x7e || s.p[i] == ':')
			return false;
	return s.n > 0 && s.n <= 255;
}

bool syntax_group(struct slice s)
{
	return s.n <= 32 && only(s, LOWER UPPER DIGITS "._-") && s.p[0] != '-';
}

bool syntax_role(struct slice s)
{
	return s.n <= 64 && only(s, LOWER UPPER DIGITS "_+=,.@-");
}

bool syntax_kms_name(struct slice s)
{
	return s.n > 0 && s.n <= LIMIT_NAME && s.p[0] >= 'A' && s.p[0] <= 'Z' &&
	       only(s, LOWER UPPER DIGITS);
}

bool syntax_credentials_file(struct slice s)
{
	if (s.n > 0 && s.p[0] == '/')
		return syntax_path(s);
	return s.n <= 255 && only(s, LOWER UPPER DIGITS "._-") && !slice_eq_str(s, ".") &&
	       !slice_eq_str(s, "..");
}

static bool pton(int family, struct slice s)
{
	char text[INET6_ADDRSTRLEN], address[sizeof(struct in6_addr)];

	if (s.n == 0 || s.n >= sizeof(text) || memchr(s.p, '\0', s.n))
		return false;
	memcpy(text, s.p, s.n);
	text[s.n] = '\0';
	return inet_pton(family, text, address) == 1;
}

bool syntax_is_ip(struct slice s)
{
	return pton(AF_INET, s) || pton(AF_INET6, s);
}

static bool is_authority(struct slice s, struct authority *ret_authority)
{
	return !authority_parse(s, ret_authority) &&
	       (ret_authority->is_address || syntax_host(ret_authority->host));
}

bool syntax_host_port(struct slice s, struct slice *ret_host, unsigned *ret_port)
{
	struct authority a;

	if (!is_authority(s, &a) || a.port == 0)
		return false;
	*ret_host = a.host;
	*ret_port = a.port;
	return true;
}

bool syntax_proxy(struct slice s, struct slice *ret_host, unsigned *ret_port)
{
	return skip(&s, "http://") && syntax_host_port(s, ret_host, ret_port);
}

bool syntax_may_hold_password(struct slice s)
{
	struct slice rest = s;
	const char *scheme;

	if (!s.p || s.n == 0)
		return false;
	if (memchr(s.p, '@', s.n) || memchr(s.p, '%', s.n))
		return true;
	scheme = memmem(s.p, s.n, "://", 3);
	if (scheme)
		rest = (struct slice){scheme + 3, s.n - (size_t)(scheme + 3 - s.p)};
	if (slice_starts(rest, SLICE("[")))
		(void)cut(&rest, ']');
	(void)cut(&rest, ':');
	return rest.n > 0 && !only(rest, DIGITS "/");
}

bool syntax_imds_endpoint(struct slice s)
{
	struct authority a;

	return skip(&s, "http://") && is_authority(s, &a);
}

/* Where the SDKs send a token without TLS: nowhere beyond this host and its own services. */
static bool is_local(struct slice host)
{
	static const char *const local[] = {"localhost", "169.254.170.2", "169.254.170.23",
					    "fd00:ec2::23", "::1"};

	for (size_t i = 0; i < ELEMENTSOF(local); i++)
		if (slice_eq_str(host, local[i]))
			return true;
	return slice_starts(host, SLICE("127.")) && pton(AF_INET, host);
}

bool syntax_container_uri(struct slice s)
{
	bool tls = skip(&s, "https://");
	struct authority a;

	if (!tls && !skip(&s, "http://"))
		return false;
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] <= 0x20 || s.p[i] > 0x7e || s.p[i] == '#')
			return false;
	return is_authority(cut(&s, '/'), &a) && (tls || is_local(a.host));
}

static bool is_uuid(struct slice s)
{
	static const size_t groups[] = {8, 4, 4, 4, 12};

	if (s.n != 36)
		return false;
	for (size_t i = 0; i < ELEMENTSOF(groups); i++) {
		struct slice group = cut(&s, '-');

		if (group.n != groups[i] || !only(group, HEX))
			return false;
	}
	return true;
}

static bool is_key_id(struct slice s)
{
	return is_uuid(s) || (skip(&s, "mrk-") && s.n == 32 && only(s, HEX));
}

static bool is_alias(struct slice s)
{
	return s.n <= 256 && skip(&s, "alias/") && only(s, LOWER UPPER DIGITS ":/_-");
}

enum key_form syntax_key(struct slice s, struct slice *ret_partition, struct slice *ret_region)
{
	struct slice partition, service, region, account;

	if (is_key_id(s))
		return KEY_ID;
	if (is_alias(s))
		return KEY_ALIAS;
	if (!skip(&s, "arn:"))
		return KEY_BAD;
	partition = cut(&s, ':');
	service = cut(&s, ':');
	region = cut(&s, ':');
	account = cut(&s, ':');
	if (!only(partition, LOWER DIGITS "-") || !slice_eq_str(service, "kms") ||
	    !syntax_region(region) || account.n != 12 || !only(account, DIGITS))
		return KEY_BAD;
	*ret_partition = partition;
	*ret_region = region;
	if (is_alias(s))
		return KEY_ALIAS_ARN;
	return skip(&s, "key/") && is_key_id(s) ? KEY_ARN : KEY_BAD;
}
