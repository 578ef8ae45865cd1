/* SPDX-License-Identifier: Apache-2.0 */

/* The command line. Everything else is in libraries that the tests link too. */

#include "buf.h"
#include "clock.h"
#include "config.h"
#include "document.h"
#include "explain.h"
#include "explain_document.h"
#include "here.h"
#include "import_vsock_proxy.h"
#include "limit.h"
#include "log.h"
#include "secret.h"
#include "server.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define DEFAULT_CONFIG "/etc/nitro_enclaves/kms-vsock-proxy.yaml"

/* Exit codes: 0, 1 (refused, or the configuration has errors), 2 (the command line). */
enum { EXIT_USAGE = 2 };

enum mode {
	MODE_RUN = 0,
	MODE_CHECK,
	MODE_PRINT,
	MODE_EXPLAIN,
	MODE_IMPORT,
	_MODE_MAX,
};

struct arguments {
	enum mode mode;
	bool here; /* of --check-config */
	const char *config;
	struct explain_question question; /* of --explain, as far as options say it */
	const char *recipient;            /* of --explain: the file of its document */
	struct import_question import;    /* of --import-vsock-proxy */
	bool of_vsock_proxy;              /* an option that only AWS's vsock-proxy has */
	char **rest;
	int n_rest;
};

static void print_help(FILE *f)
{
	fputs("Usage: kms-vsock-proxyd [OPTION]...\n"
	      "Lets Nitro Enclaves use AWS KMS over vsock, each within its policy.\n"
	      "\n"
	      "  --config FILE      read FILE instead of " DEFAULT_CONFIG "\n"
	      "  --check-config [--here]\n"
	      "                     check the configuration, print all its errors, and exit; "
	      "with\n"
	      "                     --here also open what it names, as the daemon will on this "
	      "host\n"
	      "  --print-config     print the configuration in force, defaults included\n"
	      "  --explain ENCLAVE ACTION [--host HOST] [--here] FILE\n"
	      "                     tell what the policy says of the request body in FILE (- "
	      "is\n"
	      "                     standard input), and which rule decides\n"
	      "  --explain ENCLAVE ACTION [--host HOST] [--here] [--key KEY]...\n"
	      "            [--context NAME=VALUE]... [--recipient FILE]\n"
	      "                     the same of a request with this key, encryption context "
	      "and\n"
	      "                     attestation document, whose contents are printed\n"
	      "  --import-vsock-proxy FILE [--port PORT]...\n"
	      "                     print a configuration with the allow-list of AWS's "
	      "vsock-proxy\n"
	      "                     (vsock-proxy.yaml), listening on each PORT (8000), for "
	      "the\n"
	      "                     enclaves to be filled in\n"
	      "  -V, --version      print the version\n"
	      "  -h, --help         print this\n"
	      "\n"
	      "Signals: SIGHUP reloads the configuration, SIGTERM drains and ends, SIGUSR1 "
	      "writes\n"
	      "the counters to the journal. See kms-vsock-proxyd(8), "
	      "kms-vsock-proxy.yaml(5).\n",
	      f);
}

/* Whoever comes from AWS's vsock-proxy types what it took: `[OPTIONS] 8000 HOST 443`. */
static bool is_of_vsock_proxy(const struct arguments *a)
{
	unsigned long long port;

	return a->of_vsock_proxy || (a->mode == MODE_RUN && a->n_rest == 3 &&
				     slice_to_u64(slice_from(a->rest[0]), UINT32_MAX, &port) &&
				     slice_to_u64(slice_from(a->rest[2]), 65535, &port));
}

static int refuse_of_vsock_proxy(void)
{
	fputs("these are arguments of AWS's vsock-proxy; here one port serves all hosts, each "
	      "enclave's own.\n"
	      "kms-vsock-proxyd --import-vsock-proxy /etc/nitro_enclaves/vsock-proxy.yaml "
	      "--port 8000\n"
	      "prints a configuration with its allow-list\n",
	      stderr);
	return 1 + EXIT_USAGE;
}

static bool has_flags(const struct arguments *a)
{
	return a->question.n_keys || a->question.n_contexts || a->recipient;
}

/* How many arguments may follow the options, and which options go together. */
static int check_arguments(const struct arguments *a)
{
	int wanted = a->mode == MODE_EXPLAIN ? 3 : 0;

	if (is_of_vsock_proxy(a))
		return refuse_of_vsock_proxy();
	if (a->here && a->mode != MODE_CHECK && a->mode != MODE_EXPLAIN) {
		fputs("--here goes with --check-config and --explain\n", stderr);
		return 1 + EXIT_USAGE;
	}
	if (a->mode != MODE_EXPLAIN && (has_flags(a) || a->question.host)) {
		fputs("--host, --key, --context and --recipient are of --explain\n", stderr);
		return 1 + EXIT_USAGE;
	}
	if (a->mode != MODE_IMPORT && a->import.n_ports > 0) {
		fputs("--port is of --import-vsock-proxy\n", stderr);
		return 1 + EXIT_USAGE;
	}
	if (a->n_rest == wanted - has_flags(a))
		return 0;
	if (a->mode == MODE_EXPLAIN)
		fputs("--explain takes ENCLAVE, ACTION and either the body's FILE or one or "
		      "more of --key, --context and --recipient\n",
		      stderr);
	else if (a->mode == MODE_IMPORT)
		fprintf(stderr, "unexpected argument: %s\n", a->rest[0]);
	else
		fprintf(stderr,
			"unexpected argument: %s; a configuration is given as --config FILE\n",
			a->rest[0]);
	return 1 + EXIT_USAGE;
}

/* 0: go on; else the exit code plus 1. */
static int add_argument(const char **list, size_t *n, size_t max, const char *what)
{
	if (*n == max) {
		fprintf(stderr, "%s is given more than %zu times\n", what, max);
		return 1 + EXIT_USAGE;
	}
	list[(*n)++] = optarg;
	return 0;
}

static int add_port(struct import_question *import)
{
	unsigned long long port;

	if (import->n_ports == IMPORT_PORTS ||
	    !slice_to_u64(slice_from(optarg), UINT32_MAX - 1, &port) || port == 0) {
		fprintf(stderr, "--port %s: expected a vsock port, at most %d times\n", optarg,
			IMPORT_PORTS);
		return 1 + EXIT_USAGE;
	}
	for (size_t i = 0; i < import->n_ports; i++)
		if (import->ports[i] == port)
			return 0;
	import->ports[import->n_ports++] = (unsigned)port;
	return 0;
}

enum option_id {
	OPT_CONFIG = _MODE_MAX,
	OPT_HERE,
	OPT_HOST,
	OPT_KEY,
	OPT_CONTEXT,
	OPT_RECIPIENT,
	OPT_PORT,
};

/* 0: go on; else the exit code plus 1. */
static int take_option(int c, struct arguments *a)
{
	switch (c) {
	case OPT_CONFIG:
		a->config = optarg;
		return 0;
	case OPT_HERE:
		a->here = true;
		return 0;
	case OPT_HOST:
		a->question.host = optarg;
		return 0;
	case OPT_KEY:
		return add_argument(a->question.keys, &a->question.n_keys, EXPLAIN_KEYS,
				    "--key");
	case OPT_CONTEXT:
		return add_argument(a->question.contexts, &a->question.n_contexts,
				    EXPLAIN_CONTEXTS, "--context");
	case OPT_RECIPIENT:
		a->recipient = optarg;
		return 0;
	case OPT_PORT:
		return add_port(&a->import);
	case MODE_IMPORT:
		a->import.path = optarg;
		a->mode = MODE_IMPORT;
		return 0;
	case MODE_CHECK:
	case MODE_PRINT:
	case MODE_EXPLAIN:
		a->mode = (enum mode)c;
		return 0;
	case '4':
	case '6':
	case 'w':
		a->of_vsock_proxy = true;
		return 0;
	case 'V':
		puts("kms-vsock-proxyd " PROJECT_VERSION);
		return 1 + EXIT_SUCCESS;
	case 'h':
		print_help(stdout);
		return 1 + EXIT_SUCCESS;
	default:
		print_help(stderr);
		return 1 + EXIT_USAGE;
	}
}

/* 0: go on; else the exit code plus 1. */
static int parse_arguments(int argc, char **argv, struct arguments *a)
{
	static const struct option options[] = {
		{"config", required_argument, NULL, OPT_CONFIG},
		{"check-config", no_argument, NULL, MODE_CHECK},
		{"here", no_argument, NULL, OPT_HERE},
		{"print-config", no_argument, NULL, MODE_PRINT},
		{"explain", no_argument, NULL, MODE_EXPLAIN},
		{"import-vsock-proxy", required_argument, NULL, MODE_IMPORT},
		{"host", required_argument, NULL, OPT_HOST},
		{"key", required_argument, NULL, OPT_KEY},
		{"context", required_argument, NULL, OPT_CONTEXT},
		{"recipient", required_argument, NULL, OPT_RECIPIENT},
		{"port", required_argument, NULL, OPT_PORT},
		{"ipv4", no_argument, NULL, '4'},
		{"ipv6", no_argument, NULL, '6'},
		{"num_workers", required_argument, NULL, 'w'},
		{"version", no_argument, NULL, 'V'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	int c, r = 0;

	while (r == 0 && (c = getopt_long(argc, argv, "hV46w:", options, NULL)) >= 0)
		r = take_option(c, a);
	if (r > 0)
		return r;
	a->rest = argv + optind;
	a->n_rest = argc - optind;
	return check_arguments(a);
}

/* The whole of a file, "-" being standard input; at most `max` bytes. */
static int read_whole(const char *path, size_t max, struct buf *b)
{
	int fd = strcmp(path, "-") == 0 ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = -1;
	int r = 0;

	if (fd < 0)
		return -errno;
	*b = BUF_INIT(max + 1);
	while (r == 0) {
		r = buf_reserve(b, MIN(max + 1 - b->n, (size_t)4096));
		n = r == 0 ? read(fd, b->p + b->n, b->cap - b->n) : -1;
		if (n <= 0)
			break;
		b->n += (size_t)n;
		if (b->n > max)
			r = -EFBIG;
	}
	if (r == 0 && n < 0)
		r = -errno;
	if (fd != STDIN_FILENO)
		close(fd);
	return r;
}

/* Reads the file that the question is about: the body, or the document of its Recipient. */
static int read_subject(const char *path, size_t max, struct buf *b)
{
	int r = read_whole(path, max, b);

	if (r < 0)
		fprintf(stderr, "%s: %s\n", path, strerrordesc_np(-r));
	return r;
}

/* As an SDK takes it, or as a person pastes it: with line breaks. */
#define DOCUMENT_FILE_MAX (2 * LIMIT_ATTESTATION)

static int read_recipient(const char *path, struct buf *b, struct explain_question *question)
{
	struct error error = {0};
	int r = read_subject(path, DOCUMENT_FILE_MAX, b);

	if (r < 0)
		return r;
	r = explain_read_document(b, &error);
	if (r < 0)
		fprintf(stderr, "%s: %s\n", path, error.text);
	else
		question->document = buf_slice(b);
	return r;
}

static int run_explain(const struct config *config, const struct arguments *a)
{
	_cleanup_(buf_done) struct buf body = {0}, document = {0};
	struct explain_question question = a->question;
	struct error error = {0};
	char nothing[1];
	int r = 0;

	question.enclave = a->rest[0];
	question.action = a->rest[1];
	question.now = clock_wall();
	if (!has_flags(a))
		r = read_subject(a->rest[2], LIMIT_BODY_MAX, &body);
	else if (a->recipient)
		r = read_recipient(a->recipient, &document, &question);
	if (r < 0)
		return EXIT_USAGE;
	if (!has_flags(a)) {
		question.body = body.p ?: nothing;
		question.n = body.n;
	}
	r = config_explain(config, &question, stdout, &error);
	if (r >= 0)
		return r;
	fprintf(stderr, "%s\n", error.text);
	return EXIT_USAGE;
}

static int run_import(const struct import_question *import)
{
	const char *path = import->path;
	_cleanup_(findings_done) struct findings findings = {0};
	_cleanup_(buf_done) struct buf text = {0};
	int r;

	r = read_whole(path, DOCUMENT_BYTES, &text);
	if (r < 0) {
		fprintf(stderr, "%s: %s\n", path, strerrordesc_np(-r));
		return EXIT_FAILURE;
	}
	r = import_vsock_proxy(buf_slice(&text), import, stdout, &findings);
	findings_print(&findings, path, stderr);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* A login's soft limit is 1,024: fewer than one enclave may need. In the unit both are one. */
static void raise_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= limit.rlim_max)
		return;
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &limit); /* else it goes on with what it has */
}

static int run_daemon(const char *path, struct config *config, const struct findings *findings)
{
	int r = secret_init();

	raise_descriptors();
	log_open();
	if (r < 0) {
		log_event(EVENT_MACHINE, NULL,
			  "can't lock memory for secrets: %s; raise LimitMEMLOCK (ulimit -l)",
			  strerrordesc_np(-r));
		return EXIT_FAILURE;
	}
	if (curl_global_init_mem(CURL_GLOBAL_DEFAULT, wipe_malloc, wipe_free, wipe_realloc,
				 wipe_strdup, wipe_calloc) != CURLE_OK) {
		log_event(EVENT_MACHINE, NULL, "libcurl can't be initialised");
		return EXIT_FAILURE;
	}
	r = server_run(path, config, findings);
	curl_global_cleanup();
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* Only a check looks at the machine: the daemon does it when it takes over what it was given.
 */
static int load(const struct arguments *a, struct config **ret_config,
		struct findings *findings)
{
	struct config_facts facts = {.no_region_is_error = a->mode == MODE_EXPLAIN,
				     .look_is_error = a->here};

	if (a->mode == MODE_CHECK)
		facts.look = here_look;
	if (a->mode == MODE_CHECK || a->mode == MODE_EXPLAIN)
		facts.no_region = "instance isn't known here, and nothing that follows from it "
				  "is checked, such as the regions of keys; --here asks IMDS";
	if (a->here)
		return here_load(a->config, &facts, ret_config, findings);
	return config_load(a->config, &facts, ret_config, findings);
}

/* One of these that is closed would be the next file's: what we say would go to an enclave. */
static void open_standard_files(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

int main(int argc, char **argv)
{
	_cleanup_(config_unrefp) struct config *config = NULL;
	_cleanup_(findings_done) struct findings findings = {0};
	struct arguments a = {.config = DEFAULT_CONFIG};
	int r;

	open_standard_files();
	r = parse_arguments(argc, argv, &a);
	if (r > 0)
		return r - 1;
	if (a.mode == MODE_IMPORT)
		return run_import(&a.import);

	r = load(&a, &config, &findings);
	if (r < 0 || a.mode == MODE_CHECK)
		findings_print(&findings, a.config, stderr);
	if (r < 0)
		return EXIT_FAILURE;

	switch (a.mode) {
	case MODE_CHECK:
		return EXIT_SUCCESS;
	case MODE_PRINT:
		config_print(config, stdout);
		return EXIT_SUCCESS;
	case MODE_EXPLAIN:
		return run_explain(config, &a);
	case MODE_RUN:
		return run_daemon(a.config, config, &findings);
	case MODE_IMPORT: /* done without a configuration */
	case _MODE_MAX:
		break;
	}
	return EXIT_USAGE;
}
