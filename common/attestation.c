/* SPDX-License-Identifier: Apache-2.0 */
#include "attestation.h"

#include "cbor.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdio.h>

#define COSE_SIGN1 18       /* the tag, which may be left out; AWS's documents have none */
#define LIMIT_PAYLOAD 16384 /* these are of the NSM API's specification */
#define LIMIT_BYTES 1024    /* a certificate, a key; user_data and nonce, as seen */
#define LIMIT_MODULE 128

struct member {
	const char *name;
	bool (*read)(struct cbor *c, struct attestation *a, struct slice *field);
	size_t field; /* the slice in struct attestation; 0: several */
	bool required;
};

static bool read_bytes(struct cbor *c, struct attestation *a, struct slice *field)
{
	struct cbor_item item;

	(void)a;
	if (!cbor_expect(c, CBOR_BYTES, 1, LIMIT_BYTES, &item))
		return false;
	*field = item.bytes;
	return true;
}

/* Members that an enclave doesn't fill in are null. */
static bool read_optional(struct cbor *c, struct attestation *a, struct slice *field)
{
	enum cbor_type next;
	struct cbor_item item;

	(void)a;
	if (cbor_peek(c, &next) && next == CBOR_SIMPLE)
		return cbor_expect(c, CBOR_SIMPLE, CBOR_NULL, CBOR_NULL, &item);
	if (!cbor_expect(c, CBOR_BYTES, 0, LIMIT_BYTES, &item))
		return false;
	*field = item.bytes;
	return true;
}

static bool read_module(struct cbor *c, struct attestation *a, struct slice *field)
{
	struct cbor_item item;

	(void)a;
	if (!cbor_expect(c, CBOR_TEXT, 1, LIMIT_MODULE, &item))
		return false;
	for (size_t i = 0; i < item.bytes.n; i++)
		if (item.bytes.p[i] < 0x20 || item.bytes.p[i] > 0x7e)
			return cbor_fail(c, item.bytes.p, "a module_id that can't be printed");
	*field = item.bytes;
	return true;
}

static bool read_digest(struct cbor *c, struct attestation *a, struct slice *field)
{
	struct cbor_item item;

	(void)a;
	(void)field;
	if (!cbor_expect(c, CBOR_TEXT, 1, LIMIT_MODULE, &item))
		return false;
	return slice_eq_str(item.bytes, "SHA384") ||
	       cbor_fail(c, item.bytes.p, "a digest other than SHA384");
}

static bool read_timestamp(struct cbor *c, struct attestation *a, struct slice *field)
{
	struct cbor_item item;

	(void)field;
	if (!cbor_expect(c, CBOR_UNSIGNED, 1, INT64_MAX, &item))
		return false;
	a->timestamp = item.number;
	return true;
}

static bool read_pcr(struct cbor *c, struct attestation *a)
{
	const char *at = c->rest.p;
	struct cbor_item index, value;

	if (!cbor_expect(c, CBOR_UNSIGNED, 0, ATTESTATION_PCRS - 1, &index))
		return false;
	if (a->pcr[index.number].p)
		return cbor_fail(c, at, "a PCR that is there already");
	if (!cbor_expect(c, CBOR_BYTES, 32, 64, &value))
		return false;
	if (value.bytes.n % 16 != 0) /* SHA-256, 384, 512 */
		return cbor_fail(c, value.bytes.p, "a PCR that is no digest");
	a->pcr[index.number] = value.bytes;
	return true;
}

static bool read_pcrs(struct cbor *c, struct attestation *a, struct slice *field)
{
	struct cbor_item map;
	bool good;

	(void)field;
	good = cbor_expect(c, CBOR_MAP, 1, ATTESTATION_PCRS, &map);
	for (uint64_t i = 0; good && i < map.number; i++)
		good = read_pcr(c, a);
	return good;
}

static bool read_tpm_pcrs(struct cbor *c, struct attestation *a, struct slice *field)
{
	a->is_tpm = true;
	return read_pcrs(c, a, field);
}

static bool read_bundle(struct cbor *c, struct attestation *a, struct slice *field)
{
	struct cbor_item list;
	bool good;

	(void)field;
	good = cbor_expect(c, CBOR_ARRAY, 1, ATTESTATION_BUNDLE, &list);
	for (; good && a->n_bundle < list.number; a->n_bundle++)
		good = read_bytes(c, a, &a->bundle[a->n_bundle]);
	return good;
}

#define FIELD(name) offsetof(struct attestation, name)

static const struct member members[] = {
	{"module_id", read_module, FIELD(module_id), true},
	{"digest", read_digest, 0, true},
	{"timestamp", read_timestamp, 0, true},
	{"pcrs", read_pcrs, 0, false}, /* one of these two */
	{"nitrotpm_pcrs", read_tpm_pcrs, 0, false},
	{"certificate", read_bytes, FIELD(certificate), true},
	{"cabundle", read_bundle, 0, true},
	{"public_key", read_optional, FIELD(public_key), false},
	{"user_data", read_optional, FIELD(user_data), false},
	{"nonce", read_optional, FIELD(nonce), false},
};

enum { PCRS = 3, TPM_PCRS };

/* Of a name the row, or -1. */
static int find_member(struct slice name)
{
	for (unsigned i = 0; i < ELEMENTSOF(members); i++)
		if (slice_eq_str(name, members[i].name))
			return (int)i;
	return -1;
}

static bool read_member(struct cbor *c, struct attestation *a, unsigned *seen)
{
	const char *at = c->rest.p;
	struct cbor_item name;
	int i;

	if (!cbor_expect(c, CBOR_TEXT, 1, LIMIT_MODULE, &name))
		return false;
	i = find_member(name.bytes);
	if (i < 0)
		return cbor_fail(c, at, "an unknown member");
	if (*seen >> i & 1)
		return cbor_fail(c, at, "a member that is there already");
	*seen |= 1u << i;
	return members[i].read(c, a, (struct slice *)(void *)((char *)a + members[i].field));
}

static bool read_payload(struct cbor *c, struct attestation *a)
{
	unsigned seen = 0;
	struct cbor_item map;
	bool good = cbor_expect(c, CBOR_MAP, 1, ELEMENTSOF(members), &map);

	for (uint64_t i = 0; good && i < map.number; i++)
		good = read_member(c, a, &seen);
	if (!good || !cbor_end(c))
		return false;
	for (unsigned i = 0; i < ELEMENTSOF(members); i++)
		if (members[i].required && !(seen >> i & 1))
			return cbor_fail(c, c->start, "a payload that lacks a member");
	return !(seen >> PCRS & 1) != !(seen >> TPM_PCRS & 1) ||
	       cbor_fail(c, c->start, "a payload without pcrs, or with both kinds");
}

static bool read_frame(struct cbor *c, struct attestation *a)
{
	/* {1: -35}: the algorithm is ES384. */
	static const char es384[] = {(char)0xa1, 0x01, 0x38, 0x22};
	enum cbor_type next;
	struct cbor_item protected, payload, signature, skipped;

	if (cbor_peek(c, &next) && next == CBOR_TAG &&
	    !cbor_expect(c, CBOR_TAG, COSE_SIGN1, COSE_SIGN1, &skipped))
		return false;
	if (!cbor_expect(c, CBOR_ARRAY, 4, 4, &skipped) ||
	    !cbor_expect(c, CBOR_BYTES, 0, LIMIT_BYTES, &protected))
		return false;
	if (!slice_eq(protected.bytes, (struct slice){es384, sizeof(es384)}))
		return cbor_fail(c, protected.bytes.p, "an algorithm other than ES384");
	if (!cbor_expect(c, CBOR_MAP, 0, 0, &skipped) ||
	    !cbor_expect(c, CBOR_BYTES, 1, LIMIT_PAYLOAD, &payload) ||
	    !cbor_expect(c, CBOR_BYTES, 96, 96, &signature))
		return false;
	a->protected = protected.bytes;
	a->payload = payload.bytes;
	a->signature = signature.bytes;
	return cbor_end(c);
}

enum attestation_result attestation_read(struct slice bytes, struct attestation *ret_document,
					 struct error *error)
{
	struct cbor frame = cbor_begin(bytes), payload;
	struct attestation a = {0};

	if (!read_frame(&frame, &a)) {
		error_set(error, "byte %zu: %s", frame.fault_at, frame.fault);
		return ATTESTATION_BAD;
	}
	payload = cbor_begin(a.payload);
	if (!read_payload(&payload, &a)) {
		error_set(error, "byte %zu: %s",
			  (size_t)(a.payload.p - bytes.p) + payload.fault_at, payload.fault);
		return ATTESTATION_BAD;
	}
	*ret_document = a;
	return ATTESTATION_OK;
}

bool attestation_pcr_is_zero(const struct attestation *document, unsigned pcr)
{
	struct slice value = document->pcr[pcr];

	for (size_t i = 0; i < value.n; i++)
		if (value.p[i] != 0)
			return false;
	return value.n > 0;
}

const char *attestation_key_kind(const struct attestation *document, char *out)
{
	const unsigned char *p = (const unsigned char *)document->public_key.p;
	EVP_PKEY *key;

	if (!p) {
		snprintf(out, ATTESTATION_KEY_SIZE, "none");
		return out;
	}
	key = d2i_PUBKEY(NULL, &p, (long)document->public_key.n);
	if (!key || p != (const unsigned char *)document->public_key.p + document->public_key.n)
		snprintf(out, ATTESTATION_KEY_SIZE, "there, but no SubjectPublicKeyInfo");
	else
		snprintf(out, ATTESTATION_KEY_SIZE, "%.32s, %d bits",
			 EVP_PKEY_get0_type_name(key), EVP_PKEY_get_bits(key));
	EVP_PKEY_free(key);
	ERR_clear_error();
	return out;
}
