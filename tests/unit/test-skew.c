/* SPDX-License-Identifier: Apache-2.0 */
#include "skew.h"

#include <check.h>

/* The ten test vectors of the AWS SDKs' clock skew correction (aws-sdk-go-v2,
 * aws/middleware/testdata/ clock-skew-test-cases.json), in seconds of 2026-01-01. A step is one
 * attempt: sent and received by our clock, the Date of the reply, and what must be known and
 * decided after it. */
#define DAY ((usec_t)1767225600 * USEC_PER_SEC) /* 2026-01-01T00:00:00Z */
#define AT(minutes, seconds) ((minutes)*60 + (seconds))
#define NO_DATE -1
#define MINUTES_AGO_288 (-288 * 60)

struct step {
	int sent;
	int signed_at; /* the moment the signature must name */
	int received;
	int date;
	const char *code; /* NULL: 200 */
	bool age;
	bool retry; /* expected */
	int skew;   /* expected */
};

static const struct {
	const char *what;
	int initial;
	struct step steps[3];
	size_t n;
} vectors[] = {
	{"1: no skew", 0, {{0, 0, 2, 1, NULL, false, false, 0}}, 1},
	{"2: five minutes, healed by a retry and kept for the next operation",
	 0,
	 {{0, 0, 2, AT(5, 1), "RequestTimeTooSkewed", false, true, 300},
	  {2, AT(5, 2), 4, AT(5, 3), NULL, false, false, 300},
	  {AT(1, 0), AT(6, 0), AT(1, 2), AT(6, 1), NULL, false, false, 300}},
	 3},
	{"3: the same with one attempt: the skew is learned all the same",
	 0,
	 {{0, 0, 2, AT(5, 1), "RequestTimeTooSkewed", false, true, 300}},
	 1},
	{"4: a round trip of 16 minutes says nothing",
	 0,
	 {{0, 0, AT(16, 0), AT(10, 0), NULL, false, false, 0},
	  {AT(17, 0), AT(17, 0), AT(17, 2), AT(22, 1), NULL, false, false, 300}},
	 2},
	{"5: healed without an error", 300, {{0, AT(5, 0), 2, 1, NULL, false, false, 0}}, 1},
	{"6: two minutes are not the reason",
	 0,
	 {{0, 0, 2, AT(2, 1), "InvalidSignatureException", false, false, 120}},
	 1},
	{"7: five minutes are",
	 0,
	 {{0, 0, 2, AT(5, 1), "InvalidSignatureException", false, true, 300},
	  {2, AT(5, 2), 4, AT(5, 3), NULL, false, false, 300}},
	 2},
	{"8: no Date", 0, {{0, 0, 2, NO_DATE, "RequestTimeTooSkewed", false, false, 0}}, 1},
	{"9: a cached reply says nothing",
	 0,
	 {{0, 0, 2, MINUTES_AGO_288, NULL, true, false, 0},
	  {AT(1, 0), AT(1, 0), AT(1, 2), AT(6, 1), NULL, false, false, 300}},
	 2},
	{"10: a cached reply, then one without skew",
	 0,
	 {{0, 0, 2, MINUTES_AGO_288, NULL, true, false, 0},
	  {AT(1, 0), AT(1, 0), AT(1, 2), AT(1, 1), NULL, false, false, 0}},
	 2},
};

static usec_t at(int seconds)
{
	return DAY + seconds * USEC_PER_SEC;
}

static void learn(struct skew *skew, usec_t sent, usec_t received, usec_t date, bool age)
{
	char text[CLOCK_HTTP_DATE_SIZE];
	struct skew_sample sample = {.sent = sent, .received = received, .has_age = age};

	sample.date = slice_from(clock_format_http_date(date, text));
	skew_learn(skew, &sample);
}

static void take_step(struct skew *skew, const struct step *step, const char *what)
{
	usec_t correction = skew_correction(skew);
	usec_t signed_at = at(step->sent) + correction;
	const struct skew_sample no_date = {.sent = at(step->sent),
					    .received = at(step->received)};
	bool retry;

	ck_assert_msg(signed_at == at(step->signed_at), "%s: signed %+lld us off", what,
		      (long long)(signed_at - at(step->signed_at)));
	if (step->date == NO_DATE)
		skew_learn(skew, &no_date);
	else
		learn(skew, at(step->sent), at(step->received), at(step->date), step->age);
	retry = step->code && skew_explains(skew, correction, slice_from(step->code));
	ck_assert_msg(retry == step->retry, "%s: retry is %d", what, retry);
	ck_assert_msg(skew_seen(skew) == step->skew * USEC_PER_SEC, "%s: skew %lld us", what,
		      (long long)skew_seen(skew));
}

START_TEST(test_vector)
{
	struct skew skew = {vectors[_i].initial * USEC_PER_SEC};

	for (size_t i = 0; i < vectors[_i].n; i++)
		take_step(&skew, &vectors[_i].steps[i], vectors[_i].what);
}
END_TEST

/* What one reply with these times teaches a clock that knew a skew of 7 s. */
static const struct {
	const char *what;
	usec_t sent, received, date, want;
} samples[] = {
	{"midpoint of the round trip", 0, 10 * USEC_PER_SEC, 5 * USEC_PER_SEC, 0},
	{"behind", 0, 0, 100 * USEC_PER_SEC, 100 * USEC_PER_SEC},
	{"ahead", 100 * USEC_PER_SEC, 100 * USEC_PER_SEC, 0, -100 * USEC_PER_SEC},
	{"round trip of 15 minutes", 0, 900 * USEC_PER_SEC, 450 * USEC_PER_SEC, 0},
	{"longer", 0, 900 * USEC_PER_SEC + 1, 450 * USEC_PER_SEC, 7 * USEC_PER_SEC},
	{"clock set back meanwhile", 10, 9, 0, 7 * USEC_PER_SEC},
	{"a day", 0, 0, 86400 * USEC_PER_SEC, 86400 * USEC_PER_SEC},
	{"more than a day", 0, 0, 86401 * USEC_PER_SEC, 7 * USEC_PER_SEC},
	{"a day ahead", 86400 * USEC_PER_SEC, 86400 * USEC_PER_SEC, 0, -86400 * USEC_PER_SEC},
	{"more than a day ahead", 86401 * USEC_PER_SEC, 86401 * USEC_PER_SEC, 0,
	 7 * USEC_PER_SEC},
};

START_TEST(test_sample)
{
	struct skew skew = {7 * USEC_PER_SEC};

	learn(&skew, DAY + samples[_i].sent, DAY + samples[_i].received, DAY + samples[_i].date,
	      false);
	ck_assert_msg(skew_seen(&skew) == samples[_i].want, "%s: %lld", samples[_i].what,
		      (long long)skew_seen(&skew));
}
END_TEST

START_TEST(test_date)
{
	static const char *const bad[] = {"", "0", "yesterday",
					  "Thursday, 01-Jan-26 00:05:00 GMT",
					  "2026-01-01T00:05:00Z"};
	struct skew skew = {7};

	for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
		struct skew_sample sample = {DAY, DAY, slice_from(bad[i]), false};

		skew_learn(&skew, &sample);
		ck_assert_msg(skew_seen(&skew) == 7, "%s", bad[i]);
	}
}
END_TEST

/* Corrected only above 30 s: below, signatures keep the machine's own time. */
START_TEST(test_correction)
{
	static const struct {
		usec_t seen, want;
	} cases[] = {
		{0, 0},
		{USEC_PER_SEC, 0},
		{30 * USEC_PER_SEC, 0},
		{30 * USEC_PER_SEC + 1, 30 * USEC_PER_SEC + 1},
		{-30 * USEC_PER_SEC, 0},
		{-30 * USEC_PER_SEC - 1, -30 * USEC_PER_SEC - 1},
		{300 * USEC_PER_SEC, 300 * USEC_PER_SEC},
	};

	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		struct skew skew = {cases[i].seen};

		ck_assert_int_eq(skew_correction(&skew), cases[i].want);
	}
}
END_TEST

START_TEST(test_explains)
{
	static const struct {
		int seen, correction;
		const char *code;
		bool want;
	} cases[] = {
		{241, 0, "InvalidSignatureException", true},
		{241, 0, "SignatureDoesNotMatch", true},
		{241, 0, "AuthFailure", true},
		{241, 0, "RequestTimeTooSkewed", true},
		{241, 0, "AccessDeniedException", true},
		{241, 0, "RequestExpired", true},
		{241, 0, "RequestInTheFuture", true},
		{-241, 0, "InvalidSignatureException", true},
		{0, 300, "InvalidSignatureException", true},
		{240, 0, "InvalidSignatureException", false},
		{-240, 0, "InvalidSignatureException", false},
		{0, 0, "InvalidSignatureException", false},
		{600, 600, "InvalidSignatureException", false}, /* had the right time already */
		{600, 600, "AccessDeniedException", false},
		{600, 0, "ThrottlingException", false},
		{600, 0, "ExpiredTokenException", false},
		{600, 0, "invalidsignatureexception", false},
		{600, 0, "", false},
	};

	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		struct skew skew = {cases[i].seen * USEC_PER_SEC};

		ck_assert_msg(skew_explains(&skew, cases[i].correction * USEC_PER_SEC,
					    slice_from(cases[i].code)) == cases[i].want,
			      "row %zu", i);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("skew");
	TCase *tcase = tcase_create("skew");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_loop_test(tcase, test_vector, 0, ELEMENTSOF(vectors));
	tcase_add_loop_test(tcase, test_sample, 0, ELEMENTSOF(samples));
	tcase_add_test(tcase, test_date);
	tcase_add_test(tcase, test_correction);
	tcase_add_test(tcase, test_explains);
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
