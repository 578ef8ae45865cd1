/* SPDX-License-Identifier: Apache-2.0 */

/* Any bytes as CBOR and as an attestation document. What is read lies within the bytes, a part
 * of a document is none, and a document is CBOR throughout. */

#include "attestation.h"
#include "base64.h"
#include "cbor.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition, const char *what)
{
	if (!condition) {
		fprintf(stderr, "fuzz-attestation: %s\n", what);
		abort();
	}
}

static void check_within(struct slice part, struct slice whole)
{
	must(!part.p || (part.p >= whole.p && part.p + part.n <= whole.p + whole.n),
	     "a part that is outside");
}

/* Reads item after item, however they are nested; each costs a byte at least. */
static void check_items(struct slice bytes)
{
	struct cbor c = cbor_begin(bytes);
	struct cbor_item item;
	size_t n = 0;

	while (c.rest.n > 0 && cbor_read(&c, &item)) {
		check_within(item.bytes, bytes);
		check_within(c.rest, bytes);
		must(++n <= bytes.n, "more items than bytes");
	}
	must(cbor_end(&c) == !c.fault && (!c.fault || c.fault_at <= bytes.n),
	     "a fault that is nowhere");
}

static void check_document(const struct attestation *a, struct slice bytes)
{
	char kind[ATTESTATION_KEY_SIZE];
	struct attestation less;

	check_within(a->module_id, a->payload);
	check_within(a->certificate, a->payload);
	check_within(a->public_key, a->payload);
	check_within(a->user_data, a->payload);
	check_within(a->nonce, a->payload);
	check_within(a->payload, bytes);
	check_within(a->signature, bytes);
	for (unsigned i = 0; i < ATTESTATION_PCRS; i++) {
		check_within(a->pcr[i], a->payload);
		must(!attestation_pcr_is_zero(a, i) || a->pcr[i].p, "a zero that isn't there");
	}
	must(a->n_bundle >= 1 && a->n_bundle <= ATTESTATION_BUNDLE, "a wrong bundle");
	for (size_t i = 0; i < a->n_bundle; i++)
		check_within(a->bundle[i], a->payload);
	must(*attestation_key_kind(a, kind), "a key of no kind");
	must(attestation_read((struct slice){bytes.p, bytes.n - 1}, &less, NULL) ==
		     ATTESTATION_BAD,
	     "a part of a document is one");
}

static void check_base64(struct slice bytes)
{
	_cleanup_(freep) char *text = malloc(BASE64_SIZE(bytes.n) + 1);
	_cleanup_(freep) char *back = malloc(BASE64_SIZE(bytes.n) + 1);
	size_t n;

	must(text && back, "no memory");
	base64_encode(bytes, text);
	must(base64_decode((struct slice){text, BASE64_SIZE(bytes.n)}, back, &n) &&
		     slice_eq((struct slice){back, n}, bytes),
	     "another text after base64");
	if (!base64_decode(bytes, back, &n))
		return;
	base64_encode((struct slice){back, n}, text);
	must(slice_eq((struct slice){text, BASE64_SIZE(n)}, bytes), "two spellings");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice bytes = {(const char *)data, size};
	struct attestation a;
	struct error error = {0};

	check_items(bytes);
	check_base64(bytes);
	if (attestation_read(bytes, &a, &error) == ATTESTATION_OK)
		check_document(&a, bytes);
	else
		must(error.text[0], "a refusal without a reason");
	return 0;
}
