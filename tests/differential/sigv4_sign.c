/* SPDX-License-Identifier: Apache-2.0 */

/* Signs the requests that come on stdin and writes for each its X-Amz-Date and Authorization, a
 * line each. A request is its fields in the order of enum field, each after its length (32
 * bits in the machine's order). sigv4_requests.py compares with botocore. */

#include "sigv4.h"

#include <stdint.h>
#include <stdio.h>

#define FIELD_MAX (1 << 20)

enum field {
	ACCESS_KEY_ID,
	SECRET_ACCESS_KEY,
	SESSION_TOKEN, /* empty: none */
	REGION,
	SERVICE,
	HOST,
	CONTENT_TYPE,
	TARGET, /* empty: none */
	BODY,
	SECONDS, /* since the epoch, decimal */
	_FIELD_MAX,
};

static void die(const char *what)
{
	fprintf(stderr, "sigv4-sign: %s\n", what);
	exit(1);
}

/* A copy with a NUL after it; NULL at the end of the input. */
static char *read_field(size_t *ret_n)
{
	uint32_t n;
	char *p;

	if (fread(&n, sizeof(n), 1, stdin) != 1)
		return NULL;
	if (n > FIELD_MAX)
		die("a field is too long");
	p = calloc(1, (size_t)n + 1);
	if (!p || fread(p, 1, n, stdin) != n)
		die("the input ends in a field");
	*ret_n = n;
	return p;
}

static bool read_fields(struct slice *fields)
{
	for (size_t i = 0; i < _FIELD_MAX; i++) {
		fields[i].p = read_field(&fields[i].n);
		if (!fields[i].p && i > 0)
			die("the input ends in a request");
		if (!fields[i].p)
			return false;
	}
	return true;
}

static void free_fields(struct slice *fields)
{
	for (size_t i = 0; i < _FIELD_MAX; i++)
		free((char *)fields[i].p);
}

/* As in the daemon, the same credentials keep their serial, so that kept keys are used. */
static uint64_t serial_of(const struct slice *fields)
{
	static char last[3][4096];
	static uint64_t serial;
	bool same = serial > 0;

	for (size_t i = 0; i < ELEMENTSOF(last); i++) {
		if (fields[i].n >= sizeof(last[i]))
			die("a credential is too long");
		same = same && slice_eq_str(fields[i], last[i]);
		memcpy(last[i], fields[i].p, fields[i].n + 1);
	}
	serial += !same;
	return serial;
}

static void sign(struct signer *signer, const struct slice *fields)
{
	const struct credentials credentials = {
		.serial = serial_of(fields),
		.access_key_id = (char *)fields[ACCESS_KEY_ID].p,
		.secret_access_key = (char *)fields[SECRET_ACCESS_KEY].p,
		.session_token =
			fields[SESSION_TOKEN].n ? (char *)fields[SESSION_TOKEN].p : NULL,
	};
	const struct sigv4_request request = {
		.host = fields[HOST],
		.region = fields[REGION],
		.service = fields[SERVICE],
		.content_type = fields[CONTENT_TYPE],
		.target = fields[TARGET],
		.body = fields[BODY],
	};
	struct sigv4_signature signature;
	unsigned long long seconds;

	if (!slice_to_u64(fields[SECONDS], UINT32_MAX, &seconds))
		die("not a time");
	if (sigv4_sign(signer, &credentials, &request, (usec_t)seconds * USEC_PER_SEC,
		       &signature) < 0)
		die("signing failed");
	puts(signature.amz_date);
	puts(signature.authorization);
}

int main(void)
{
	_cleanup_(signer_freep) struct signer *signer = NULL;
	struct slice fields[_FIELD_MAX];

	if (signer_new(&signer) < 0)
		die("no signer");
	while (read_fields(fields)) {
		sign(signer, fields);
		free_fields(fields);
	}
	return 0;
}
