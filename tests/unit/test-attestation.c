/* SPDX-License-Identifier: Apache-2.0 */

/* The genuine documents of tests/data/attestation, cut and changed everywhere; and made-up
 * ones, each with one thing that no genuine one has. */

#include "attestation.h"

#include "buf.h"

#include <check.h>
#include <stdio.h>

/* ---- genuine ---- */

static const struct {
	const char *file, *module_id, *key, *pcr0;
	uint64_t timestamp;
	size_t user_data, nonce;
} genuine[] = {
	{"prod.cbor", "i-078824548edcf6519-enc01784234ec227b58", "none", "\x2d\x15\x15\x86",
	 1616018515685, 0, 0},
	{"prod-2.cbor", "i-07ceff4b3ab54305f-enc018aba0189375080", "none", "\x0f\x0b\x6b\x3e",
	 1695337797673, 13, 0},
	{"prod-3.cbor", "i-04fd167167daacf3b-enc01845e97d0b3eb4e", "none", "\x22\xf9\xe1\xc9",
	 1668034320696, 32, 32},
	{"prod-3-bad-signature.cbor", "i-04fd167167daacf3b-enc01845e97d0b3eb4e", "none",
	 "\x22\xf9\xe1\xc9", 1668034320696, 32, 32},
	{"prod-with-public-key.cbor", "i-0a6d65e7122308898-enc017846bcd2f820da",
	 "RSA, 2048 bits", "\x67\x2c\xd3\xc9", 1616602241734, 0, 0},
	{"debug-with-public-key.cbor", "i-0e4fe5de7ee5abe78-enc018d3cadd7d66279",
	 "RSA, 2048 bits", "\0\0\0\0", 1706120065635, 13, 6},
};

static struct buf read_file(const char *name)
{
	struct buf bytes = BUF_INIT(65536);
	const char *data = getenv("TEST_DATA");
	char path[4096];
	FILE *f;

	ck_assert_ptr_nonnull(data);
	snprintf(path, sizeof(path), "%s/attestation/%s", data, name);
	f = fopen(path, "rbe");
	ck_assert_msg(f != NULL, "%s", path);
	ck_assert_int_eq(buf_reserve_exact(&bytes, 65536), 0);
	bytes.n = fread(bytes.p, 1, bytes.cap, f);
	fclose(f);
	return bytes;
}

/* In an allocation of its own size, so that the sanitizer sees an overread; what it points to
 * is freed, and only lengths and numbers are of use. */
static enum attestation_result
read_exactly(struct slice bytes, struct attestation *ret_document, struct error *error)
{
	_cleanup_(freep) char *copy = malloc(MAX(bytes.n, (size_t)1));

	if (bytes.n)
		memcpy(copy, bytes.p, bytes.n);
	return attestation_read((struct slice){copy, bytes.n}, ret_document, error);
}

START_TEST(a_genuine_document)
{
	_cleanup_(buf_done) struct buf bytes = read_file(genuine[_i].file);
	bool debug = genuine[_i].pcr0[0] == 0;
	char kind[ATTESTATION_KEY_SIZE];
	struct error error = {0};
	struct attestation a;

	ck_assert_msg(attestation_read(buf_slice(&bytes), &a, &error) == ATTESTATION_OK, "%s",
		      error.text);
	ck_assert(slice_eq_str(a.module_id, genuine[_i].module_id));
	ck_assert_uint_eq(a.timestamp, genuine[_i].timestamp);
	ck_assert(!a.is_tpm);
	for (unsigned i = 0; i < ATTESTATION_PCRS; i++) {
		ck_assert_uint_eq(a.pcr[i].n, i < 16 ? 48 : 0);
		if (i < 3)
			ck_assert_int_eq(attestation_pcr_is_zero(&a, i), debug);
	}
	ck_assert(!attestation_pcr_is_zero(&a, 4));
	ck_assert(!attestation_pcr_is_zero(&a, 31)); /* not there */
	ck_assert_mem_eq(a.pcr[0].p, genuine[_i].pcr0, 4);
	ck_assert_uint_eq(a.n_bundle, 4);
	ck_assert_uint_eq(a.bundle[0].n, 533);
	ck_assert_uint_ge(a.certificate.n, 638);
	ck_assert_uint_eq(a.user_data.n, genuine[_i].user_data);
	ck_assert_uint_eq(a.nonce.n, genuine[_i].nonce);
	ck_assert_uint_eq(a.signature.n, 96);
	ck_assert(slice_eq(a.protected, SLICE("\xa1\x01\x38\x22")));
	ck_assert_str_eq(attestation_key_kind(&a, kind), genuine[_i].key);
}
END_TEST

/* The root of each is the one that AWS publishes. */
START_TEST(the_root)
{
	_cleanup_(buf_done) struct buf bytes = read_file(genuine[_i].file);
	_cleanup_(buf_done) struct buf root = read_file("root-g1.der");
	struct attestation a;

	ck_assert_int_eq(attestation_read(buf_slice(&bytes), &a, NULL), ATTESTATION_OK);
	ck_assert(slice_eq(a.bundle[0], buf_slice(&root)));
}
END_TEST

START_TEST(a_part_of_a_document)
{
	_cleanup_(buf_done) struct buf bytes = read_file(genuine[_i].file);

	for (size_t n = 0; n < bytes.n; n++) {
		struct attestation a = {.timestamp = 77};
		struct error error = {0};

		ck_assert_int_eq(read_exactly((struct slice){bytes.p, n}, &a, &error),
				 ATTESTATION_BAD);
		ck_assert_str_ne(error.text, "");
		ck_assert_uint_eq(a.timestamp, 77);
	}
}
END_TEST

/* Each byte changed in eight ways: it is read or refused, and what is read lies in the text. */
START_TEST(a_changed_byte)
{
	_cleanup_(buf_done) struct buf bytes = read_file(genuine[_i].file);
	unsigned taken = 0, refused = 0;

	for (size_t i = 0; i < bytes.n; i++)
		for (unsigned bit = 0; bit < 8; bit++) {
			struct attestation a = {0};

			bytes.p[i] = (char)(bytes.p[i] ^ (1 << bit));
			if (read_exactly(buf_slice(&bytes), &a, NULL) == ATTESTATION_OK)
				taken++;
			else
				refused++;
			ck_assert_uint_le(a.n_bundle, ATTESTATION_BUNDLE);
			bytes.p[i] = (char)(bytes.p[i] ^ (1 << bit));
		}
	ck_assert_uint_gt(taken, 0);      /* certificates and digests are bytes to it */
	ck_assert_uint_gt(refused, 1000); /* names and heads are not */
}
END_TEST

/* ---- made up ---- */

/* Members of the payload in their order, as CBOR. */
enum part { MODULE, DIGEST, TIME, PCRS, CERTIFICATE, BUNDLE, KEY, DATA, NONCE, EXTRA, PARTS };

/* SLICE() for the initializer of a constant. */
#define LIT(s) (s), sizeof(s) - 1

#define X16 "xxxxxxxxxxxxxxxx"
#define X48 X16 X16 X16
#define ZEROS48                                                                                \
	"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0" \
	"\0\0\0\0"                                                                             \
	"\0\0"

static const struct slice usual[PARTS] = {
	[MODULE] = {LIT("\x69module_id\x63i-0")},
	[DIGEST] = {LIT("\x66"
			"digest\x66SHA384")},
	[TIME] = {LIT("\x69timestamp\x01")},
	[PCRS] = {LIT("\x64pcrs\xa1\x00\x58\x30" X48)},
	[CERTIFICATE] = {LIT("\x6b"
			     "certificate\x41z")},
	[BUNDLE] = {LIT("\x68"
			"cabundle\x81\x41z")},
	[KEY] = {LIT("\x6apublic_key\xf6")},
	[DATA] = {LIT("\x69user_data\xf6")},
	[NONCE] = {LIT("\x65nonce\xf6")},
	[EXTRA] = {NULL, 0},
};

#define GONE                                                                                   \
	{                                                                                      \
		NULL, 0                                                                        \
	}

static void add(struct buf *b, struct slice s)
{
	ck_assert_int_eq(buf_append(b, s), 0);
}

static void add_head(struct buf *b, unsigned major, size_t n)
{
	char head[3] = {(char)(major << 5 | 25), (char)(n >> 8), (char)n};

	if (n < 24)
		add(b, (struct slice){(char[]){(char)(major << 5 | n)}, 1});
	else if (n < 256)
		add(b, (struct slice){(char[]){(char)(major << 5 | 24), (char)n}, 2});
	else
		add(b, (struct slice){head, 3});
}

/* The usual document with one part of it replaced. */
static struct buf made_up(enum part part, struct slice by)
{
	_cleanup_(buf_done) struct buf payload = BUF_INIT(65536);
	struct buf b = BUF_INIT(65536);
	size_t n = 0;

	for (unsigned i = 0; i < PARTS; i++)
		n += (i == part ? by : usual[i]).n > 0;
	add_head(&payload, 5, n);
	for (unsigned i = 0; i < PARTS; i++)
		add(&payload, i == part ? by : usual[i]);
	add(&b, SLICE("\x84\x44\xa1\x01\x38\x22\xa0"));
	add_head(&b, 2, payload.n);
	add(&b, buf_slice(&payload));
	add_head(&b, 2, 96);
	add(&b, SLICE(X48 X48));
	return b;
}

static const struct {
	enum part part;
	struct slice by;
	const char *fault; /* NULL: taken */
} parts[] = {
	{EXTRA, {NULL, 0}, NULL},
	{MODULE, GONE, "a payload that lacks a member"},
	{DIGEST, GONE, "a payload that lacks a member"},
	{TIME, GONE, "a payload that lacks a member"},
	{PCRS, GONE, "a payload without pcrs, or with both kinds"},
	{CERTIFICATE, GONE, "a payload that lacks a member"},
	{BUNDLE, GONE, "a payload that lacks a member"},
	{KEY, GONE, NULL},
	{DATA, GONE, NULL},
	{NONCE, GONE, NULL},
	{EXTRA,
	 {LIT("\x65"
	      "extra\xf6")},
	 "an unknown member"},
	{EXTRA, {LIT("\x65nonce\xf6")}, "a member that is there already"},
	{EXTRA,
	 {LIT("\x66"
	      "digest\x66SHA384")},
	 "a member that is there already"},
	{EXTRA,
	 {LIT("\x6dnitrotpm_pcrs\xa1\x01\x58\x30" X48)},
	 "a payload without pcrs, or with both kinds"},
	{EXTRA, {LIT("\x01\xf6")}, "not a text"},
	{PCRS, {LIT("\x6dnitrotpm_pcrs\xa1\x00\x58\x30" X48)}, NULL},
	{MODULE, {LIT("\x69module_id\x60")}, "a text of a wrong length"},
	{MODULE, {LIT("\x69module_id\x43i-0")}, "not a text"},
	{MODULE, {LIT("\x69module_id\x63i\n0")}, "a module_id that can't be printed"},
	{MODULE, {LIT("\x69module_id\x63i\xc3\xa4")}, "a module_id that can't be printed"},
	{MODULE,
	 {LIT("\x69module_id\x78\x81" X48 X48 X16 X16 "x")},
	 "a text of a wrong length"},
	{DIGEST,
	 {LIT("\x66"
	      "digest\x66SHA512")},
	 "a digest other than SHA384"},
	{TIME, {LIT("\x69timestamp\x00")}, "a number out of range"},
	{TIME, {LIT("\x69timestamp\x20")}, "not an unsigned number"},
	{TIME, {LIT("\x69timestamp\x1b\x80\0\0\0\0\0\0\0")}, "a number out of range"},
	{TIME, {LIT("\x69timestamp\x1b\x7f\xff\xff\xff\xff\xff\xff\xff")}, NULL},
	{TIME, {LIT("\x69timestamp\xf6")}, "not an unsigned number"},
	{PCRS, {LIT("\x64pcrs\xa0")}, "a map of a wrong length"},
	{PCRS, {LIT("\x64pcrs\xf6")}, "not a map"},
	{PCRS, {LIT("\x64pcrs\xa1\x18\x20\x58\x30" X48)}, "a number out of range"},
	{PCRS, {LIT("\x64pcrs\xa1\x18\x1f\x58\x30" X48)}, NULL},
	{PCRS, {LIT("\x64pcrs\xa2\x01\x58\x30" X48 "\x00\x58\x30" X48)}, NULL},
	{PCRS,
	 {LIT("\x64pcrs\xa2\x01\x58\x30" X48 "\x01\x58\x30" X48)},
	 "a PCR that is there already"},
	{PCRS, {LIT("\x64pcrs\xa1\x00\x58\x20" X16 X16)}, NULL},
	{PCRS, {LIT("\x64pcrs\xa1\x00\x58\x40" X48 X16)}, NULL},
	{PCRS,
	 {LIT("\x64pcrs\xa1\x00\x58\x1f"
	      "xxxxxxxxxxxxxxx" X16)},
	 "a string of a wrong length"},
	{PCRS, {LIT("\x64pcrs\xa1\x00\x58\x21" X16 X16 "x")}, "a PCR that is no digest"},
	{PCRS, {LIT("\x64pcrs\xa1\x00\x58\x41" X48 X16 "x")}, "a string of a wrong length"},
	{PCRS, {LIT("\x64pcrs\xbf\x00\x58\x30" X48 "\xff")}, "a length that is not definite"},
	{CERTIFICATE,
	 {LIT("\x6b"
	      "certificate\x40")},
	 "a string of a wrong length"},
	{CERTIFICATE,
	 {LIT("\x6b"
	      "certificate\xf6")},
	 "not a byte string"},
	{BUNDLE,
	 {LIT("\x68"
	      "cabundle\x80")},
	 "an array of a wrong length"},
	{BUNDLE,
	 {LIT("\x68"
	      "cabundle\x88\x41z\x41z\x41z\x41z\x41z\x41z\x41z\x41z")},
	 NULL},
	{BUNDLE,
	 {LIT("\x68"
	      "cabundle\x89\x41z\x41z\x41z\x41z\x41z\x41z\x41z\x41z\x41z")},
	 "an array of a wrong length"},
	{BUNDLE,
	 {LIT("\x68"
	      "cabundle\x81\xf6")},
	 "not a byte string"},
	{KEY, {LIT("\x6apublic_key\x40")}, NULL},
	{KEY, {LIT("\x6apublic_key\xf5")}, "another of false, true and null"},
	{KEY, {LIT("\x6apublic_key\x60")}, "not a byte string"},
	{NONCE, {LIT("\x65nonce\x5a\x00\x00\x00\x01z")}, "a head that is not the shortest"},
};

START_TEST(a_made_up_document)
{
	_cleanup_(buf_done) struct buf bytes = made_up(parts[_i].part, parts[_i].by);
	struct error error = {0};
	struct attestation a;
	int r = read_exactly(buf_slice(&bytes), &a, &error);
	const char *fault = strstr(error.text, ": ");

	ck_assert_msg(r == (parts[_i].fault ? ATTESTATION_BAD : ATTESTATION_OK), "row %d: %s",
		      _i, error.text);
	if (parts[_i].fault) {
		ck_assert_ptr_nonnull(fault);
		ck_assert_str_eq(fault + 2, parts[_i].fault);
	}
}
END_TEST

/* user_data and nonce have at most 1,024 bytes. */
START_TEST(long_members)
{
	static char text[2048];

	for (size_t n = 1024; n <= 1025; n++) {
		_cleanup_(buf_done) struct buf member = BUF_INIT(4096), bytes = {0};
		struct attestation a;

		add(&member, SLICE("\x65nonce"));
		add_head(&member, 2, n);
		add(&member, (struct slice){text, n});
		bytes = made_up(NONCE, buf_slice(&member));
		ck_assert_int_eq(read_exactly(buf_slice(&bytes), &a, NULL),
				 n == 1024 ? ATTESTATION_OK : ATTESTATION_BAD);
	}
}
END_TEST

START_TEST(zeros)
{
	_cleanup_(buf_done) struct buf bytes =
		made_up(PCRS, SLICE("\x64pcrs\xa2\x00\x58\x30" ZEROS48 "\x01\x58\x30" X48));
	struct attestation a;

	ck_assert_int_eq(attestation_read(buf_slice(&bytes), &a, NULL), ATTESTATION_OK);
	ck_assert(attestation_pcr_is_zero(&a, 0));
	ck_assert(!attestation_pcr_is_zero(&a, 1));
	ck_assert(!attestation_pcr_is_zero(&a, 2));
}
END_TEST

START_TEST(no_key)
{
	_cleanup_(buf_done) struct buf bytes = made_up(KEY, SLICE("\x6apublic_key\x43xyz"));
	char kind[ATTESTATION_KEY_SIZE];
	struct attestation a;

	ck_assert_int_eq(attestation_read(buf_slice(&bytes), &a, NULL), ATTESTATION_OK);
	ck_assert_str_eq(attestation_key_kind(&a, kind), "there, but no SubjectPublicKeyInfo");
}
END_TEST

/* The frame: bytes of the usual document replaced by others. */
static const struct {
	struct slice from, to;
	const char *fault; /* NULL: taken */
} frames[] = {
	{{LIT("\x84\x44")}, {LIT("\xd2\x84\x44")}, NULL},
	{{LIT("\x84\x44")}, {LIT("\xd1\x84\x44")}, "byte 0: another tag"},
	{{LIT("\x84\x44")}, {LIT("\xd2\xd2\x84\x44")}, "byte 1: not an array"},
	{{LIT("\x84\x44")}, {LIT("\x85\x44")}, "byte 0: an array of a wrong length"},
	{{LIT("\x84\x44")}, {LIT("\xa4\x44")}, "byte 0: not an array"},
	{{LIT("\x44\xa1\x01\x38\x22")},
	 {LIT("\x43\xa1\x01\x26")},
	 "byte 2: an algorithm other than ES384"},
	{{LIT("\x44\xa1\x01\x38\x22")}, {LIT("\x40")}, "byte 2: an algorithm other than ES384"},
	{{LIT("\x22\xa0")}, {LIT("\x22\xa1\x01\x38\x22")}, "byte 6: a map of a wrong length"},
	{{LIT("\x22\xa0")}, {LIT("\x22\xf6")}, "byte 6: not a map"},
	{{LIT("\x58\x60" X48 X48)}, {LIT("\x58\x5f" X48 X16 X16 "xxxxxxxxxxxxxxx")}, NULL},
	{{LIT("\x58\x60" X48 X48)}, {LIT("\x58\x60" X48 X48 "\x00")}, NULL},
	{{LIT("\x58\x60" X48 X48)}, {LIT("\xf6")}, NULL},
};

START_TEST(a_frame)
{
	_cleanup_(buf_done) struct buf bytes = made_up(EXTRA, (struct slice)GONE),
				       other = BUF_INIT(65536);
	struct slice from = frames[_i].from;
	struct error error = {0};
	struct attestation a;
	char *at = memmem(bytes.p, bytes.n, from.p, from.n);
	bool is_tail =
		from.n > 90; /* the signature: always refused, at a byte of no interest */

	ck_assert_ptr_nonnull(at);
	add(&other, (struct slice){bytes.p, (size_t)(at - bytes.p)});
	add(&other, frames[_i].to);
	at += from.n;
	add(&other, (struct slice){at, (size_t)(bytes.p + bytes.n - at)});
	ck_assert_int_eq(read_exactly(buf_slice(&other), &a, &error),
			 frames[_i].fault || is_tail ? ATTESTATION_BAD : ATTESTATION_OK);
	if (frames[_i].fault)
		ck_assert_str_eq(error.text, frames[_i].fault);
}
END_TEST

START_TEST(no_document)
{
	static const struct slice texts[] = {
		GONE,
		{LIT("\x9a\x10\x00\x00\x00")},
		{LIT("hello")},
		{LIT("{}")},
		{LIT("\x84")},
		{LIT("\xd2")},
		{LIT("\xd2\xd2\xd2\xd2")},
	};
	struct attestation a;

	for (size_t i = 0; i < ELEMENTSOF(texts); i++)
		ck_assert_int_eq(read_exactly(texts[i], &a, NULL), ATTESTATION_BAD);
}
END_TEST

int main(void)
{
	TCase *tcase = tcase_create("attestation");
	Suite *suite = suite_create("attestation");
	SRunner *runner;
	int failed;

	tcase_add_loop_test(tcase, a_genuine_document, 0, ELEMENTSOF(genuine));
	tcase_add_loop_test(tcase, the_root, 0, ELEMENTSOF(genuine));
	tcase_add_loop_test(tcase, a_part_of_a_document, 0, ELEMENTSOF(genuine));
	tcase_add_loop_test(tcase, a_changed_byte, 0, ELEMENTSOF(genuine));
	tcase_add_loop_test(tcase, a_made_up_document, 0, ELEMENTSOF(parts));
	tcase_add_test(tcase, long_members);
	tcase_add_test(tcase, zeros);
	tcase_add_test(tcase, no_key);
	tcase_add_loop_test(tcase, a_frame, 0, ELEMENTSOF(frames));
	tcase_add_test(tcase, no_document);
	suite_add_tcase(suite, tcase);

	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
