/* SPDX-License-Identifier: Apache-2.0 */
#include "enclave.h"

#include "identity.h"

#include <check.h>
#include <string.h>

#define NOW (1000 * USEC_PER_SEC)
#define SHARE 1000

static struct enclave_table *table;
static struct enclave *e;

static void setup(void)
{
	ck_assert_int_eq(enclave_table_new(&table), 0);
	e = enclave_table_get(table, "payments", 16);
	ck_assert_ptr_nonnull(e);
}

static void teardown(void)
{
	table = enclave_table_free(table);
}

START_TEST(the_table_keeps_each_under_its_name)
{
	struct enclave *other = enclave_table_get(table, "billing", 17);

	ck_assert_ptr_ne(other, e);
	ck_assert_ptr_eq(enclave_table_get(table, "payments", 16), e);
	ck_assert_uint_eq(e->named.id, 0);
	ck_assert_uint_eq(other->named.id, 1);
	ck_assert_str_eq(other->named.name, "billing");
	ck_assert_ptr_eq(enclave_table_at(table, 0), e);
	ck_assert_ptr_eq(enclave_table_at(table, 1), other);
	ck_assert_ptr_null(enclave_table_at(table, 2));
}
END_TEST

/* What one CID of an enclave uses up is not the other's, nor that of a listener's peers. */
START_TEST(each_cid_has_limits_of_its_own)
{
	const struct enclave_config config = {
		.limits.requests = {.interval = USEC_PER_SEC, .burst = 1}};
	struct enclave *others[] = {enclave_table_get(table, "payments", 17),
				    enclave_table_get(table, "payments", 0),
				    enclave_table_get(table, "billing", 16)};
	size_t charged = 0;

	ck_assert(enclave_take_token(e, &config, NOW, NULL));
	ck_assert(!enclave_take_token(e, &config, NOW, NULL));
	ck_assert(enclave_charge(e, SHARE, &charged, SHARE));
	enclave_count(e, COUNTER_REQUESTS, 1);
	for (unsigned i = 0; i < ELEMENTSOF(others); i++) {
		size_t other = 0;

		ck_assert_ptr_ne(others[i], e);
		ck_assert(enclave_take_token(others[i], &config, NOW, NULL));
		ck_assert(enclave_charge(others[i], SHARE, &other, SHARE));
		ck_assert_uint_eq(others[i]->counters[COUNTER_REQUESTS], 0);
		enclave_uncharge(others[i], &other);
	}
	ck_assert_str_eq(others[0]->named.name, "payments");
	ck_assert_uint_eq(others[0]->named.number, 17);
	ck_assert_uint_eq(others[1]->named.number, 0);
	enclave_uncharge(e, &charged);
}
END_TEST

START_TEST(tokens_are_of_the_configured_rate)
{
	const struct enclave_config config = {
		.limits.requests = {.interval = USEC_PER_SEC, .burst = 2}};
	usec_t wait = 0;

	ck_assert(enclave_take_token(e, &config, NOW, &wait));
	ck_assert(enclave_take_token(e, &config, NOW, NULL));
	ck_assert(!enclave_take_token(e, &config, NOW, &wait));
	ck_assert_int_gt(wait, 0);
	ck_assert_int_le(wait, USEC_PER_SEC);
	ck_assert(!enclave_take_token(e, &config, NOW + wait - 1, NULL));
	ck_assert(enclave_take_token(e, &config, NOW + wait, NULL));
}
END_TEST

/* One that was charged 300 before becomes `n`, beside 500 of another. */
static const struct {
	size_t n;
	bool fits;
} charges[] = {
	{300, true}, {0, true},    {299, true},       {301, true},
	{500, true}, {501, false}, {SIZE_MAX, false},
};

START_TEST(memory_is_charged_up_to_the_share)
{
	size_t other = 0, charged = 0;

	ck_assert(enclave_charge(e, SHARE, &other, 500));
	ck_assert(enclave_charge(e, SHARE, &charged, 300));
	ck_assert(enclave_charge(e, SHARE, &charged, charges[_i].n) == charges[_i].fits);
	ck_assert_uint_eq(charged, charges[_i].fits ? charges[_i].n : 300);
	ck_assert_uint_eq(gauge_read(&e->memory), 500 + charged);
	enclave_uncharge(e, &charged);
	enclave_uncharge(e, &charged);
	ck_assert_uint_eq(charged, 0);
	enclave_uncharge(e, &other);
	ck_assert_uint_eq(gauge_read(&e->memory), 0);
}
END_TEST

/* A reload makes the shares smaller: what is held stays, and may become less. */
START_TEST(less_is_always_possible)
{
	size_t charged = 0;

	ck_assert(enclave_charge(e, SHARE, &charged, 900));
	ck_assert(!enclave_charge(e, 100, &charged, 901));
	ck_assert(enclave_charge(e, 100, &charged, 800));
	ck_assert_uint_eq(gauge_read(&e->memory), 800);
	enclave_uncharge(e, &charged);
}
END_TEST

START_TEST(a_record_begins_with_who_it_was)
{
	const struct identity known = {true, 16, e}, unknown = {true, 99, NULL},
			      unix_peer = {false, 0, e};
	struct audit_record r;

	memset(&r, 'x', sizeof(r));
	identity_record(&known, EVENT_REQUEST, &r);
	ck_assert_str_eq(r.enclave, "payments");
	ck_assert(r.has_cid);
	ck_assert_uint_eq(r.cid, 16);
	ck_assert_int_eq(r.event, EVENT_REQUEST);
	ck_assert_int_eq(r.reason, REASON_NONE);
	ck_assert(!r.allowed);
	identity_record(&unknown, EVENT_CONNECTION, &r);
	ck_assert_str_eq(r.enclave, "");
	ck_assert_uint_eq(r.cid, 99);
	identity_record(&unix_peer, EVENT_CONNECTION, &r);
	ck_assert_str_eq(r.enclave, "payments");
	ck_assert(!r.has_cid);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("enclave");
	TCase *tcase = tcase_create("enclave");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, the_table_keeps_each_under_its_name);
	tcase_add_test(tcase, each_cid_has_limits_of_its_own);
	tcase_add_test(tcase, tokens_are_of_the_configured_rate);
	tcase_add_loop_test(tcase, memory_is_charged_up_to_the_share, 0, ELEMENTSOF(charges));
	tcase_add_test(tcase, less_is_always_possible);
	tcase_add_test(tcase, a_record_begins_with_who_it_was);
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
