/* SPDX-License-Identifier: Apache-2.0 */
#include "explain_document.h"

#include "attestation.h"
#include "base64.h"
#include "limit.h"

#include <errno.h>
#include <inttypes.h>

/* ---- reading ---- */

/* The head of the frame's array, or its tag. */
static bool is_binary(const struct buf *bytes)
{
	return bytes->n > 0 && (bytes->p[0] == (char)0x84 || bytes->p[0] == (char)0xd2);
}

static void drop_blanks(struct buf *bytes)
{
	size_t n = 0;

	for (size_t i = 0; i < bytes->n; i++)
		if (!strchr(" \t\r\n", bytes->p[i]) || bytes->p[i] == '\0')
			bytes->p[n++] = bytes->p[i];
	bytes->n = n;
}

int explain_read_document(struct buf *bytes, struct error *error)
{
	if (!is_binary(bytes)) {
		drop_blanks(bytes);
		if (bytes->n == 0)
			return error_set(error, "there is nothing in it");
		if (!base64_decode(buf_slice(bytes), bytes->p, &bytes->n))
			return error_set(error,
					 "expected an attestation document: the bytes that "
					 "/dev/nsm gives out, or their base64");
	}
	if (bytes->n > LIMIT_ATTESTATION)
		return error_set(error, "larger than an attestation document may be (%zuKiB)",
				 LIMIT_ATTESTATION / KIB);
	return 0;
}

/* ---- printing ---- */

#define MSEC_PER_SEC 1000
#define LAST_MSEC UINT64_C(253402300799999) /* of the year 9999 */

/* In the largest unit of which there are at least two. */
static void print_span(uint64_t seconds, FILE *f)
{
	static const struct {
		const char *name;
		uint64_t seconds;
	} units[] = {{"days", 86400}, {"hours", 3600}, {"minutes", 60}};

	for (size_t i = 0; i < ELEMENTSOF(units); i++)
		if (seconds >= 2 * units[i].seconds) {
			fprintf(f, "%" PRIu64 " %s", seconds / units[i].seconds, units[i].name);
			return;
		}
	fprintf(f, "%" PRIu64 " s", seconds);
}

static void print_age(uint64_t timestamp, usec_t now, FILE *f)
{
	char date[CLOCK_HTTP_DATE_SIZE];
	uint64_t now_msec = (uint64_t)(now / USEC_PER_MSEC);
	bool is_ahead = timestamp > now_msec;

	if (timestamp > LAST_MSEC) {
		fputs("  made:     after the year 9999\n", f);
		return;
	}
	fputs("  age:      ", f);
	print_span((is_ahead ? timestamp - now_msec : now_msec - timestamp) / MSEC_PER_SEC, f);
	fprintf(f, "%s (made %s)\n", is_ahead ? " ahead of this host's clock" : "",
		clock_format_http_date((usec_t)timestamp * USEC_PER_MSEC, date));
}

static void print_pcr(const struct attestation *a, unsigned pcr, FILE *f)
{
	fprintf(f, "  PCR%u:     ", pcr);
	if (!a->pcr[pcr].p)
		fputs("is not there", f);
	for (size_t i = 0; a->pcr[pcr].p && i < a->pcr[pcr].n; i++)
		fprintf(f, "%02x", (unsigned char)a->pcr[pcr].p[i]);
	fputc('\n', f);
}

static void print_document(struct slice bytes, usec_t now, FILE *f)
{
	char kind[ATTESTATION_KEY_SIZE], module[256];
	struct attestation a;
	struct error why = {0};

	if (attestation_read(bytes, &a, &why) == ATTESTATION_BAD) {
		fprintf(f, "document:   no attestation document that KMS would take: %s\n",
			why.text);
		return;
	}
	fprintf(f, "document:   %s, signature not verified\n",
		a.is_tpm ? "of NitroTPM" : "of an enclave");
	fprintf(f, "  module:   %s\n", slice_escape(a.module_id, module, sizeof(module)));
	print_age(a.timestamp, now, f);
	for (unsigned i = 0; i < 3; i++)
		print_pcr(&a, i, f);
	fprintf(f, "  key:      %s%s\n", attestation_key_kind(&a, kind),
		a.public_key.p ? "" : ": KMS has nothing to seal an answer with");
	if (attestation_pcr_is_zero(&a, 0))
		fputs("  PCR0 is all zero: debug mode; a key policy with ImageSha384 refuses "
		      "this\n",
		      f);
}

int explain_print_document(const struct kms_request *request, usec_t now, FILE *f)
{
	const struct json_doc *doc = request->doc;
	int recipient = json_member(doc, 0, SLICE("Recipient")), i;
	_cleanup_(freep) char *bytes = NULL;
	struct slice text;
	size_t n;

	if (request->recipient != KMS_RECIPIENT_PRESENT || recipient < 0)
		return 0;
	i = json_member(doc, (unsigned)recipient, SLICE("AttestationDocument"));
	if (i < 0)
		return 0;
	text = doc->nodes[i].value;
	bytes = malloc(text.n);
	if (!bytes)
		return -ENOMEM;
	if (base64_decode(text, bytes, &n)) /* it is, where a Recipient is present */
		print_document((struct slice){bytes, n}, now, f);
	return 0;
}
