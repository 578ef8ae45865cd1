/* SPDX-License-Identifier: Apache-2.0 */

/* Drop-ins: which files are read, which are refused, what becomes of their enclaves, and what
 * the hash covers. Each test has a folder of its own. */

#include "texts.h"

#include "document.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAIN                                                                                   \
	"listen: [{vsock: 8000}]\n"                                                            \
	"endpoints: {kms: {region: eu-central-1}}\n"
#define ENCLAVE(cid, tail)                                                                     \
	"{cid: " cid                                                                           \
	", endpoints: [kms], allow: [{name: r, actions: [Decrypt], keys: any}" tail "]}\n"
#define ONE(name, cid) "enclaves:\n  " name ": " ENCLAVE(cid, "")

static char folder[64];

static void enter(void)
{
	snprintf(folder, sizeof(folder), "/tmp/test-texts-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(folder));
	ck_assert_int_eq(chdir(folder), 0);
	umask(0022);
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
	(void)st;
	(void)kind;
	(void)at;
	return remove(path);
}

static void leave(void)
{
	ck_assert_int_eq(chdir("/"), 0);
	ck_assert_int_eq(nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
}

static void put(const char *path, const char *text)
{
	FILE *f = fopen(path, "wbe");

	ck_assert_msg(f != NULL, "%s", path);
	ck_assert_int_ge(fputs(text, f), 0);
	ck_assert_int_eq(fclose(f), 0);
}

/* The main file without enclaves, and the folder beside it. */
static void put_folder(void)
{
	put("x.yaml", MAIN);
	ck_assert_int_eq(mkdir("x.d", 0755), 0);
}

static char *list_findings(const struct findings *findings, const char *path)
{
	char *text = NULL;
	size_t n;
	FILE *f = open_memstream(&text, &n);

	findings_print(findings, path, f);
	ck_assert_int_eq(fclose(f), 0);
	return text;
}

static struct config *load(const char *path)
{
	_cleanup_(findings_done) struct findings findings = {0};
	_cleanup_(freep) char *list = NULL;
	struct config *config = NULL;
	int r = config_load(path, &(struct config_facts){0}, &config, &findings);

	list = list_findings(&findings, path);
	ck_assert_msg(r == 0, "%s", list);
	ck_assert_str_eq(list, "");
	return config;
}

/* Refused, and that is all that is found. */
static void refused(const char *path, const char *expected)
{
	_cleanup_(findings_done) struct findings findings = {0};
	_cleanup_(freep) char *list = NULL;
	struct config *config = NULL;

	ck_assert_int_eq(config_load(path, &(struct config_facts){0}, &config, &findings),
			 -EINVAL);
	ck_assert_ptr_null(config);
	list = list_findings(&findings, path);
	ck_assert_str_eq(list, expected);
}

START_TEST(enclaves_of_all_files_in_byte_order)
{
	static const char *const order[] = {"main", "ten", "nine", "big", "small"};
	static const char *const places[] = {"x.yaml:4", "x.d/10.yaml:2", "x.d/9.yaml:3",
					     "x.d/B.yaml:2", "x.d/a.yaml:2"};
	_cleanup_(config_unrefp) struct config *c = NULL;
	_cleanup_(freep) char *path = NULL;

	put_folder();
	put("x.yaml", MAIN ONE("main", "4"));
	put("x.d/a.yaml", ONE("small", "5"));
	put("x.d/B.yaml", ONE("big", "6"));
	put("x.d/9.yaml", "# a comment\n" ONE("nine", "7"));
	put("x.d/10.yaml", ONE("ten", "8"));
	put("x.d/.hidden.yaml", "no: yaml: at all\n");
	put("x.d/README", "neither\n");
	put("x.d/10.yaml.rpmsave", "nor this\n");
	ck_assert_int_ge(asprintf(&path, "%s/x.yaml", folder), 0);
	c = load(path);
	ck_assert_uint_eq(c->n_enclaves, ELEMENTSOF(order));
	for (size_t i = 0; i < ELEMENTSOF(order); i++) {
		const struct enclave_config *e = &c->enclaves[i];
		char at[64];

		snprintf(at, sizeof(at), "%s:%u", e->file, e->line);
		ck_assert_str_eq(e->name, order[i]);
		ck_assert_str_eq(at, places[i]);
		ck_assert_str_eq(e->policy.rules[0].file, e->file);
		ck_assert_uint_eq(e->policy.rules[0].line, e->line);
	}
}
END_TEST

/* The main file may leave its enclaves to the drop-ins. */
START_TEST(a_main_file_without_enclaves)
{
	static const char *const rows[] = {MAIN, MAIN "enclaves:\n", MAIN "enclaves: {}\n",
					   "enclaves: ~\n" MAIN};

	put_folder();
	put("x.d/a.yaml", ONE("a", "5"));
	put("x.d/b.yaml", ONE("b", "6"));
	for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
		_cleanup_(config_unrefp) struct config *c = NULL;

		put("x.yaml", rows[i]);
		c = load("x.yaml");
		ck_assert_uint_eq(c->n_enclaves, 2);
	}
}
END_TEST

static const struct {
	const char *path, *folder;
} beside[] = {
	{"x.yaml", "x.d"},           {"x.yml", "x.d"},     {"x", "x.d"}, {"x.conf", "x.conf.d"},
	{"x.yaml.yaml", "x.yaml.d"}, {".yaml", ".yaml.d"},
};

START_TEST(folder_beside)
{
	_cleanup_(config_unrefp) struct config *c = NULL;
	char path[64];

	ck_assert_int_eq(mkdir("sub", 0755), 0);
	ck_assert_int_eq(chdir("sub"), 0);
	put(beside[_i].path, MAIN);
	ck_assert_int_eq(mkdir(beside[_i].folder, 0755), 0);
	snprintf(path, sizeof(path), "%s/a.yaml", beside[_i].folder);
	put(path, ONE("a", "5"));
	ck_assert_int_eq(chdir(".."), 0);
	snprintf(path, sizeof(path), "sub/%s", beside[_i].path);
	c = load(path);
	ck_assert_uint_eq(c->n_enclaves, 1);
	snprintf(path, sizeof(path), "%s/a.yaml", beside[_i].folder);
	ck_assert_str_eq(c->enclaves[0].file, path);
}
END_TEST

START_TEST(neither_folder_nor_files)
{
	_cleanup_(config_unrefp) struct config *c = NULL, *d = NULL;

	put("x.yaml", MAIN ONE("a", "5"));
	c = load("x.yaml");
	ck_assert_int_eq(mkdir("x.d", 0755), 0);
	d = load("x.yaml");
	ck_assert_str_eq(c->hash, d->hash);
}
END_TEST

/* What a drop-in says. */
static const struct {
	const char *text, *expected;
} contents[] = {
	{"", "x.d/a.yaml:1:1: error: the file is empty\n"},
	{"# nothing\n", "x.d/a.yaml:1:1: error: the file is empty\n"},
	{"{}\n",
	 "x.d/a.yaml:1:1: error: a drop-in lacks \"enclaves\": the enclaves, by name\n"},
	{"[a]\n", "x.d/a.yaml:1:1: error: found a list; expected a mapping with enclaves\n"},
	{"enclaves:\n",
	 "x.d/a.yaml:1:10: error: enclaves: found nothing; expected a mapping from names to "
	 "options\n"},
	{"enclaves: {}\n",
	 "x.d/a.yaml:1:11: error: enclaves: found nothing; expected a mapping from names to "
	 "options\n"},
	{"workers: 2\n" ONE("a", "5"),
	 "x.d/a.yaml:1:1: error: \"workers\" can't stand in a drop-in: only enclaves can; the "
	 "rest belongs into x.yaml\n"},
	{"listen: [{vsock: 1}]\nfoo: 2\n" ONE("a", "5"),
	 "x.d/a.yaml:1:1: error: \"listen\" can't stand in a drop-in: only enclaves can; the "
	 "rest "
	 "belongs into x.yaml\n"
	 "x.d/a.yaml:2:1: error: \"foo\" can't stand in a drop-in: only enclaves can; the rest "
	 "belongs into x.yaml\n"},
	{ONE("main", "5"),
	 "x.d/a.yaml:2:3: error: \"main\" is given twice; the first is at x.yaml:4\n"},
	{ONE("a", "4"),
	 "x.d/a.yaml:2:12: error: cid: 4 is the CID of enclave \"main\" at x.yaml:4 already\n"},
	{ONE("a", "3"),
	 "x.d/a.yaml:2:12: error: cid: 3 is out of range; expected a whole number from 4 to "
	 "4294967294: 3 is the parent itself; enclaves begin at 4\n"},
	{ONE("b", "6") "  b: 1\n",
	 "x.d/a.yaml:3:3: error: \"b\" is given twice; the first is on line 2\n"},
	{"enclaves: {a: {cid: 5, endpoints: [&x kms]}}\n",
	 "x.d/a.yaml:1:36: error: YAML anchors are not supported; write the value where it is "
	 "used\n"},
	{ONE("a", "5") "---\n" ONE("b", "6"),
	 "x.d/a.yaml:3:1: error: a second YAML document; the file must hold one\n"},
	{"enclaves: [a]\n",
	 "x.d/a.yaml:1:11: error: enclaves: found a list; expected a mapping from names to "
	 "options\n"},
};

START_TEST(contents_refused)
{
	put_folder();
	put("x.yaml", MAIN ONE("main", "4"));
	put("x.d/a.yaml", contents[_i].text);
	refused("x.yaml", contents[_i].expected);
}
END_TEST

/* Two drop-ins against each other, and errors of all files in their order. */
START_TEST(errors_name_each_file)
{
	put_folder();
	put("x.yaml", "foo: 1\n" MAIN);
	put("x.d/10-a.yaml", ONE("a", "5"));
	put("x.d/20-b.yaml", "# b\n" ONE("a", "6"));
	put("x.d/30-c.yaml", "enclaves:\n  c: {cid: 5, endpoints: [kms], bar: 1}\n");
	refused("x.yaml", "x.yaml:1:1: error: the file has no option \"foo\"\n"
			  "x.d/20-b.yaml:3:3: error: \"a\" is given twice; the first is at "
			  "x.d/10-a.yaml:2\n"
			  "x.d/30-c.yaml:2:12: error: cid: 5 is the CID of enclave \"a\" at "
			  "x.d/10-a.yaml:2 "
			  "already\n"
			  "x.d/30-c.yaml:2:33: error: an enclave has no option \"bar\"\n");
}
END_TEST

/* Who could have put it there. */
static const struct {
	mode_t folder, file;
	const char *expected;
} modes[] = {
	{0700, 0600, NULL},
	{0755, 0644, NULL},
	{0555, 0444, NULL},
	{0775, 0644,
	 "x.yaml: error: x.d: its group may write it (mode 0775); expected that its owner "
	 "alone "
	 "may\n"},
	{0757, 0644,
	 "x.yaml: error: x.d: every user may write it (mode 0757); expected that its owner "
	 "alone "
	 "may\n"},
	{01777, 0644,
	 "x.yaml: error: x.d: every user may write it (mode 1777); expected that its owner "
	 "alone "
	 "may\n"},
	{0755, 0664,
	 "x.d/a.yaml: error: its group may write it (mode 0664); expected that its owner alone "
	 "may\n"},
	{0755, 0646,
	 "x.d/a.yaml: error: every user may write it (mode 0646); expected that its owner "
	 "alone "
	 "may\n"},
};

START_TEST(written_by_others)
{
	put_folder();
	put("x.d/a.yaml", ONE("a", "5"));
	ck_assert_int_eq(chmod("x.d/a.yaml", modes[_i].file), 0);
	ck_assert_int_eq(chmod("x.d", modes[_i].folder), 0);
	if (modes[_i].expected)
		refused("x.yaml", modes[_i].expected);
	else
		config_unref(load("x.yaml"));
	ck_assert_int_eq(chmod("x.d", 0755), 0);
}
END_TEST

/* Only root can make these. */
static const struct {
	uid_t of_main, of_folder, of_file;
	const char *expected;
} owners[] = {
	{0, 0, 0, NULL},
	{77, 77, 77, NULL},
	{77, 0, 0, NULL},
	{77, 0, 77, NULL},
	{0, 0, 77,
	 "x.d/a.yaml: error: user 77 owns it; expected root or the owner of x.yaml, user 0\n"},
	{77, 78, 77,
	 "x.yaml: error: x.d: user 78 owns it; expected root or the owner of x.yaml, user "
	 "77\n"},
	{77, 77, 78,
	 "x.d/a.yaml: error: user 78 owns it; expected root or the owner of x.yaml, user 77\n"},
	{65534, 0, 65534,
	 "x.d/a.yaml: error: its owner can't be told (user 65534); expected root\n"},
	{65534, 65534, 0,
	 "x.yaml: error: x.d: its owner can't be told (user 65534); expected root\n"},
};

START_TEST(owned_by_others)
{
	if (geteuid() != 0)
		return;
	put_folder();
	put("x.d/a.yaml", ONE("a", "5"));
	ck_assert_int_eq(chown("x.yaml", owners[_i].of_main, (gid_t)-1), 0);
	ck_assert_int_eq(chown("x.d", owners[_i].of_folder, (gid_t)-1), 0);
	ck_assert_int_eq(chown("x.d/a.yaml", owners[_i].of_file, (gid_t)-1), 0);
	if (owners[_i].expected)
		refused("x.yaml", owners[_i].expected);
	else
		config_unref(load("x.yaml"));
}
END_TEST

#define NOT_REGULAR "x.d/a.yaml: error: is not a regular file; a drop-in must be one\n"

static void make_link(void)
{
	put("elsewhere.yaml", ONE("a", "5"));
	ck_assert_int_eq(symlink("../elsewhere.yaml", "x.d/a.yaml"), 0);
}

static void make_dangling(void)
{
	ck_assert_int_eq(symlink("/absent/file", "x.d/a.yaml"), 0);
}

static void make_fifo(void)
{
	ck_assert_int_eq(mkfifo("x.d/a.yaml", 0600), 0);
}

static void make_folder(void)
{
	ck_assert_int_eq(mkdir("x.d/a.yaml", 0700), 0);
}

/* Whoever may write where it leads to could change the policy. */
static void make_linked_folder(void)
{
	ck_assert_int_eq(rename("x.d", "y.d"), 0);
	ck_assert_int_eq(symlink("y.d", "x.d"), 0);
}

static void make_file_of_folder(void)
{
	ck_assert_int_eq(rmdir("x.d"), 0);
	put("x.d", "");
}

static void make_bad_name(void)
{
	put("x.d/a b\n.yaml", "");
}

static const struct {
	void (*make)(void);
	const char *expected;
} kinds[] = {
	{make_link, NOT_REGULAR},
	{make_dangling, NOT_REGULAR},
	{make_fifo, NOT_REGULAR},
	{make_folder, NOT_REGULAR},
	{make_linked_folder, "x.yaml: error: x.d: is not a folder\n"},
	{make_file_of_folder, "x.yaml: error: x.d: is not a folder\n"},
	{make_bad_name, "x.d/a b\\x0a.yaml: error: is no name for a drop-in; expected 1 to 64 "
			"letters, digits, dots, dashes and underscores\n"},
};

START_TEST(no_regular_files)
{
	put_folder();
	kinds[_i].make();
	refused("x.yaml", kinds[_i].expected);
}
END_TEST

START_TEST(every_faulty_file_is_told)
{
	put_folder();
	put("x.d/a.yaml", ONE("a", "5"));
	put("x.d/b.yaml", "not: [yaml\n");
	ck_assert_int_eq(chmod("x.d/a.yaml", 0666), 0);
	ck_assert_int_eq(mkfifo("x.d/c.yaml", 0600), 0);
	refused("x.yaml",
		"x.d/a.yaml: error: every user may write it (mode 0666); expected that "
		"its owner alone may\n"
		"x.d/c.yaml: error: is not a regular file; a drop-in must be one\n");
}
END_TEST

/* A file is as large as the main file may be, all together no larger. */
START_TEST(too_large_together)
{
	_cleanup_(config_unrefp) struct config *c = NULL;
	_cleanup_(freep) char *text = malloc(DOCUMENT_BYTES + 2);
	size_t room = DOCUMENT_BYTES - strlen(MAIN), n = strlen(ONE("a", "5"));

	put_folder();
	memcpy(text, ONE("a", "5"), n);
	memset(text + n, '#', room + 1 - n);
	text[room] = '\0';
	put("x.d/a.yaml", text);
	c = load("x.yaml");
	put("x.d/b.yaml", "#");
	refused("x.yaml", "x.d/b.yaml: error: the files together are larger than 4MiB\n");
	ck_assert_int_eq(unlink("x.d/b.yaml"), 0);
	text[room] = '#';
	text[room + 1] = '\0';
	put("x.d/a.yaml", text);
	refused("x.yaml", "x.d/a.yaml: error: the files together are larger than 4MiB\n");
}
END_TEST

/* 100 rules, each with the keys of all others in another order and one more. */
START_TEST(a_large_file_is_not_compared_for_ever)
{
	FILE *f;

	put_folder();
	f = fopen("x.d/a.yaml", "wbe");
	ck_assert_ptr_nonnull(f);
	fputs("enclaves:\n  a:\n    cid: 5\n    endpoints: [kms]\n    allow:\n", f);
	for (unsigned r = 0; r < 100; r++) {
		fprintf(f, "      - {name: r%u, actions: [Decrypt], keys: [", r);
		for (unsigned k = 0; k < 1000; k++)
			fprintf(f, "alias/k%u,", r % 2 ? k : 999 - k);
		fprintf(f, "alias/own%u]}\n", r);
	}
	ck_assert_int_eq(fclose(f), 0);
	config_unref(load("x.yaml")); /* before the time of a test is over */
}
END_TEST

/* As many values as a file may have, in two files. */
static void put_values(const char *path, const char *name, unsigned n)
{
	FILE *f = fopen(path, "wbe");

	ck_assert_ptr_nonnull(f);
	fprintf(f, "enclaves: {%s: [", name);
	for (unsigned i = 0; i < n / 1000; i++) {
		fputs("[", f);
		for (unsigned k = 0; k < 999; k++)
			fputs("a,", f);
		fputs("],", f);
	}
	fputs("]}\n", f);
	ck_assert_int_eq(fclose(f), 0);
}

START_TEST(too_many_values_together)
{
	put_folder();
	put_values("x.d/a.yaml", "a", 65000);
	put_values("x.d/b.yaml", "b", 66000);
	refused("x.yaml", "x.d/a.yaml:1:15: error: an enclave: found a list; expected a "
			  "mapping of options\n"
			  "x.d/b.yaml:1:15: error: an enclave: found a list; expected a "
			  "mapping of options\n");
	put_values("x.d/b.yaml", "b", 67000);
	refused("x.yaml",
		"x.d/b.yaml:1:11: error: the files together have more than 131072 names, "
		"values, lists and mappings\n");
}
END_TEST

START_TEST(too_many_enclaves_together)
{
	_cleanup_(freep) char *text = NULL;
	size_t n;
	FILE *f;

	put_folder();
	for (unsigned file = 0; file < 2; file++) {
		f = open_memstream(&text, &n);
		fputs("enclaves:\n", f);
		for (unsigned i = 0; i < 513 - file; i++)
			fprintf(f, "  e%u-%u: 1\n", file, i);
		fclose(f);
		put(file ? "x.d/b.yaml" : "x.d/a.yaml", text);
		free(TAKE_PTR(text));
	}
	refused("x.yaml", "x.d/b.yaml:513:3: error: the files together have more than 1024 "
			  "enclaves\n");
}
END_TEST

/* Standard input has none, whatever lies beside. */
START_TEST(standard_input)
{
	_cleanup_(findings_done) struct findings findings = {0};
	struct config *config = NULL;

	put("x.yaml", MAIN ONE("a", "5"));
	ck_assert_int_eq(mkdir("-.d", 0777), 0);
	put("-.d/b.yaml", "nonsense");
	ck_assert_ptr_nonnull(freopen("x.yaml", "rbe", stdin));
	ck_assert_int_eq(config_load("-", &(struct config_facts){0}, &config, &findings), 0);
	ck_assert_str_eq(config->enclaves[0].file, "-");
	config_unref(config);
}
END_TEST

static void hash_of(const char *a, const char *x, const char *b, const char *y, char *ret_hash)
{
	struct config_texts texts = {0};

	ck_assert_int_eq(texts_add(&texts, a, slice_from(x)), 0);
	if (b)
		ck_assert_int_eq(texts_add(&texts, b, slice_from(y)), 0);
	ck_assert_int_eq(texts_hash(&texts, ret_hash), 0);
	texts_done(&texts);
}

/* As `sha256sum x.yaml x.d/a.yaml | sha256sum` tells it of two files with these two letters. */
START_TEST(hash_is_that_of_sha256sum)
{
	char hash[CONFIG_HASH_SIZE];

	hash_of("x.yaml", "ab", "x.d/a.yaml", "cd", hash);
	ck_assert_str_eq(hash,
			 "567eb5a2e99c609ed80235ff967eb8c69c14881f895bce4ac3597653307a5395");
}
END_TEST

/* A byte that moves to another file, or into a name, makes another hash. */
START_TEST(hash_tells_files_apart)
{
	static const char *const rows[][4] = {
		{"x.yaml", "ab", "x.d/a.yaml", "cd"},     {"x.yaml", "abc", "x.d/a.yaml", "d"},
		{"x.yaml", "abcd", "x.d/a.yaml", ""},     {"x.yaml", "abcd", NULL, NULL},
		{"x.yaml", "ab", "x.d/b.yaml", "cd"},     {"y.yaml", "ab", "x.d/a.yaml", "cd"},
		{"x.yaml", "abx.d/a.yamlcd", NULL, NULL},
	};
	char hashes[ELEMENTSOF(rows)][CONFIG_HASH_SIZE];

	for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
		hash_of(rows[i][0], rows[i][1], rows[i][2], rows[i][3], hashes[i]);
		for (size_t k = 0; k < i; k++)
			ck_assert_str_ne(hashes[i], hashes[k]);
	}
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("texts");
	Suite *suite = suite_create("texts");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tests, enter, leave);
	tcase_add_test(tests, enclaves_of_all_files_in_byte_order);
	tcase_add_test(tests, a_main_file_without_enclaves);
	tcase_add_loop_test(tests, folder_beside, 0, ELEMENTSOF(beside));
	tcase_add_test(tests, neither_folder_nor_files);
	tcase_add_loop_test(tests, contents_refused, 0, ELEMENTSOF(contents));
	tcase_add_test(tests, errors_name_each_file);
	tcase_add_loop_test(tests, written_by_others, 0, ELEMENTSOF(modes));
	tcase_add_loop_test(tests, owned_by_others, 0, ELEMENTSOF(owners));
	tcase_add_loop_test(tests, no_regular_files, 0, ELEMENTSOF(kinds));
	tcase_add_test(tests, every_faulty_file_is_told);
	tcase_add_test(tests, too_large_together);
	tcase_add_test(tests, a_large_file_is_not_compared_for_ever);
	tcase_add_test(tests, too_many_values_together);
	tcase_add_test(tests, too_many_enclaves_together);
	tcase_add_test(tests, standard_input);
	tcase_add_test(tests, hash_is_that_of_sha256sum);
	tcase_add_test(tests, hash_tells_files_apart);
	suite_add_tcase(suite, tests);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
