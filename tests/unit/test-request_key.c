/* SPDX-License-Identifier: Apache-2.0 */

/* A request that leaves its key to KMS, under a rule that adds it: what is sent, what is
 * charged, what is recorded. */

#include "credentials.h"
#include "request_world.h"

#include <check.h>
#include <string.h>

#define ATTESTED                                                                               \
	"\"EncryptionContext\":{\"app\":\"payments\"},"                                        \
	"\"Recipient\":{\"AttestationDocument\":\"AAAA\","                                     \
	"\"KeyEncryptionAlgorithm\":\"RSAES_OAEP_SHA_256\"}"
#define BARE "{" ATTESTED "}"
#define WITH_KEY "{" ATTESTED ",\"KeyId\":\"" WORLD_KEY "\"}"
#define SEALED "{\"CiphertextForRecipient\":\"AAAA\"}"
#define RULE "        encryption_context: {app: payments}\n"
#define ADDS RULE "        missing_key: add\n"
#define MEMBER_SIZE strlen(",\"KeyId\":\"" WORLD_KEY "\"")

static void add_keys(void)
{
	world_load(RULE, ADDS);
}

static uint64_t memory(void)
{
	return gauge_read(&world_enclave("app")->memory);
}

static const char *sent_body(void)
{
	return strstr(world.sent, "\r\n\r\n") + 4;
}

static const struct audit_record *last_record(void)
{
	ck_assert_uint_gt(world.n_records, 0);
	return &world.records[world.n_records - 1];
}

static void assert_recorded(bool added)
{
	ck_assert_str_eq(last_record()->key, WORLD_KEY);
	ck_assert(last_record()->key_added == added);
}

static void finish(struct world_client *c)
{
	world_answer(c->request, world_reply("200 OK", WORLD_REPLY_HEAD, SEALED));
	world_written(c);
	ck_assert_int_eq(last_record()->event, EVENT_REQUEST);
}

START_TEST(it_is_sent_with_its_key)
{
	struct world_client *c;

	add_keys();
	c = world_ask("app", WORLD_HOST, "Decrypt", BARE);
	world_send(c->request, SENT_ALL);
	ck_assert_str_eq(sent_body(), WITH_KEY);
	finish(c);
	assert_recorded(true);
}
END_TEST

START_TEST(one_that_names_its_key_is_sent_as_it_is)
{
	struct world_client *c;

	add_keys();
	c = world_ask("app", WORLD_HOST, "Decrypt", WITH_KEY);
	world_send(c->request, SENT_ALL);
	ck_assert_str_eq(sent_body(), WITH_KEY);
	finish(c);
	assert_recorded(false);
}
END_TEST

/* The reader makes the body shorter; what is added stands right behind it. */
START_TEST(a_body_with_spaces)
{
	struct world_client *c;

	add_keys();
	c = world_ask("app", WORLD_HOST, "Decrypt", " { " ATTESTED " } \r\n");
	world_send(c->request, SENT_ALL);
	ck_assert_str_eq(sent_body(), WITH_KEY);
	finish(c);
}
END_TEST

/* What is sent once more is the same, and so is its record. */
START_TEST(it_is_repeated_with_its_key)
{
	struct world_client *c;

	add_keys();
	c = world_ask("app", WORLD_HOST, "Decrypt", BARE);
	ck_assert(c->request->call.repeatable);
	world_send(c->request, SENT_ALL);
	c->request->call.connection = NULL; /* it died, and another one is there */
	world_send(c->request, SENT_ALL);
	ck_assert_uint_eq(world.n_sent, 2);
	ck_assert_str_eq(sent_body(), WITH_KEY);
	finish(c);
	assert_recorded(true);
}
END_TEST

/* The head grows in between, and the body moves. */
START_TEST(other_credentials_sign_it_with_its_key)
{
	struct world_client *c;
	struct credentials *longer;
	char token[2001];

	add_keys();
	memset(token, 't', sizeof(token));
	token[sizeof(token) - 1] = '\0';
	ck_assert_int_eq(credentials_new(SLICE("ASIAEXAMPLEEXAMPLE03"), SLICE("s3cret"),
					 slice_from(token), 0, &longer),
			 0);
	longer->serial = 1000;
	c = world_ask("app", WORLD_HOST, "Decrypt", BARE);
	world_take_credentials(longer);
	credentials_unref(longer);
	world_send(c->request, SENT_ALL);
	ck_assert_ptr_nonnull(strstr(world.sent, token));
	ck_assert_str_eq(sent_body(), WITH_KEY);
	finish(c);
	assert_recorded(true);
}
END_TEST

/* The room is taken with the body's, for the actions that may need it. */
START_TEST(the_room_is_charged_beforehand)
{
	struct world_client *c = world_new("app", WORLD_HOST, "Decrypt", BARE);
	uint64_t without = memory(), encrypt;

	request_end(c->request, REASON_CUT_OFF, 0, world.now);
	c = world_new("app", WORLD_HOST, "Encrypt", BARE);
	encrypt = memory();
	request_end(c->request, REASON_CUT_OFF, 0, world.now);
	add_keys();
	c = world_new("app", WORLD_HOST, "Decrypt", BARE);
	ck_assert_uint_eq(memory(), without + MEMBER_SIZE);
	world_run(c, BARE);
	ck_assert_uint_eq(memory(), without + MEMBER_SIZE);
	world_send(c->request, SENT_ALL);
	finish(c);
	c = world_new("app", WORLD_HOST, "Encrypt", BARE);
	ck_assert_uint_eq(memory(), encrypt);
	request_end(c->request, REASON_CUT_OFF, 0, world.now);
}
END_TEST

START_TEST(the_share_has_no_room_for_it)
{
	size_t share = world.context.generation->memory_share, other = 0;
	struct enclave *e = world_enclave("app");
	struct world_client *c = world_new("app", WORLD_HOST, "Decrypt", BARE);
	uint64_t without = memory();

	request_end(c->request, REASON_CUT_OFF, 0, world.now);
	add_keys();
	ck_assert(enclave_charge(e, share, &other, share - without - MEMBER_SIZE + 1));
	c = world_new("app", WORLD_HOST, "Decrypt", BARE);
	ck_assert_int_eq(c->request->refusal, REFUSAL_MEMORY);
	request_end(c->request, REASON_CUT_OFF, 0, world.now);
	enclave_uncharge(e, &other);
}
END_TEST

/* The rule came while the body was read: room is made then, if there is any. */
START_TEST(a_reload_that_adds_keys)
{
	size_t share = world.context.generation->memory_share, other = 0;
	struct enclave *e = world_enclave("app");
	struct world_client *c = world_new("app", WORLD_HOST, "Decrypt", BARE);
	uint64_t without = memory();

	add_keys();
	ck_assert_int_eq(request_renew(c->request, world.context.generation), REFUSAL_NONE);
	if (_i == 1)
		ck_assert(enclave_charge(e, share, &other, share - without - MEMBER_SIZE + 1));
	world_run(c, BARE);
	if (_i == 1) {
		world_written(c);
		world_assert_refused(c, REFUSAL_MEMORY, NULL, false);
		enclave_uncharge(e, &other);
		return;
	}
	ck_assert_uint_eq(memory(), without + MEMBER_SIZE);
	world_send(c->request, SENT_ALL);
	ck_assert_str_eq(sent_body(), WITH_KEY);
	finish(c);
	assert_recorded(true);
}
END_TEST

static const struct {
	const char *action, *body;
	enum reason reason;
} refused[] = {
	{"Decrypt", "{\"KeyId\":null," ATTESTED "}", REASON_JSON},
	{"Decrypt", "{\"KeyId\":\"\"," ATTESTED "}", REASON_JSON},
	{"Decrypt", "{}", REASON_ENCRYPTION_CONTEXT},
	{"Encrypt", "{}", REASON_KEY},
};

START_TEST(what_is_refused_gets_no_key)
{
	struct world_client *c;

	add_keys();
	c = world_ask("app", WORLD_HOST, refused[_i].action, refused[_i].body);
	world_written(c);
	ck_assert_int_eq(last_record()->reason, refused[_i].reason);
	ck_assert(!last_record()->key_added);
	ck_assert_str_eq(last_record()->key, "");
}
END_TEST

int main(void)
{
	TCase *tcase = tcase_create("request_key");
	Suite *suite = suite_create("request_key");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tcase, world_begin, world_end);
	tcase_add_test(tcase, it_is_sent_with_its_key);
	tcase_add_test(tcase, one_that_names_its_key_is_sent_as_it_is);
	tcase_add_test(tcase, a_body_with_spaces);
	tcase_add_test(tcase, it_is_repeated_with_its_key);
	tcase_add_test(tcase, other_credentials_sign_it_with_its_key);
	tcase_add_test(tcase, the_room_is_charged_beforehand);
	tcase_add_test(tcase, the_share_has_no_room_for_it);
	tcase_add_loop_test(tcase, a_reload_that_adds_keys, 0, 2);
	tcase_add_loop_test(tcase, what_is_refused_gets_no_key, 0, ELEMENTSOF(refused));
	suite_add_tcase(suite, tcase);

	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
