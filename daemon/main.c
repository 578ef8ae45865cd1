/* SPDX-License-Identifier: Apache-2.0 */

/* The command line. Everything else is in libraries that the tests link too. */

#include "buf.h"
#include "config.h"
#include "document.h"
#include "explain.h"
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
	const char *host;   /* of --explain */
	const char *import; /* of --import-vsock-proxy */
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
	      "  --import-vsock-proxy FILE\n"
	      "                     print a configuration with the allow-list of AWS's "
	      "vsock-proxy\n"
	      "                     (vsock-proxy.yaml) for the enclaves to be filled in\n"
	      "  --version          print the version\n"
	      "  --help             print this\n"
	      "\n"
	      "Signals: SIGHUP reloads the configuration, SIGTERM drains and ends, SIGUSR1 "
	      "writes\n"
	      "the counters to the journal. See kms-vsock-proxyd(8), "
	      "kms-vsock-proxy.yaml(5).\n",
	      f);
}

/* How many arguments may follow the options. */
static int check_rest(const struct arguments *a)
{
	int wanted = a->mode == MODE_EXPLAIN ? 3 : 0;

	if (a->here && a->mode != MODE_CHECK && a->mode != MODE_EXPLAIN) {
		fputs("--here goes with --check-config and --explain\n", stderr);
		return 1 + EXIT_USAGE;
	}
	if (a->n_rest == wanted)
		return 0;
	if (a->mode == MODE_EXPLAIN)
		fputs("--explain takes ENCLAVE, ACTION and the body's FILE\n", stderr);
	else
		fprintf(stderr, "unexpected argument: %s\n", a->rest[0]);
	return 1 + EXIT_USAGE;
}

/* 0: go on; else the exit code plus 1. */
static int parse_arguments(int argc, char **argv, struct arguments *a)
{
	enum { OPT_CONFIG = _MODE_MAX, OPT_HERE, OPT_HOST, OPT_VERSION, OPT_HELP };
	static const struct option options[] = {
		{"config", required_argument, NULL, OPT_CONFIG},
		{"check-config", no_argument, NULL, MODE_CHECK},
		{"here", no_argument, NULL, OPT_HERE},
		{"print-config", no_argument, NULL, MODE_PRINT},
		{"explain", no_argument, NULL, MODE_EXPLAIN},
		{"import-vsock-proxy", required_argument, NULL, MODE_IMPORT},
		{"host", required_argument, NULL, OPT_HOST},
		{"version", no_argument, NULL, OPT_VERSION},
		{"help", no_argument, NULL, OPT_HELP},
		{0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		switch (c) {
		case OPT_CONFIG:
			a->config = optarg;
			break;
		case OPT_HERE:
			a->here = true;
			break;
		case OPT_HOST:
			a->host = optarg;
			break;
		case MODE_IMPORT:
			a->import = optarg;
			a->mode = MODE_IMPORT;
			break;
		case MODE_CHECK:
		case MODE_PRINT:
		case MODE_EXPLAIN:
			a->mode = (enum mode)c;
			break;
		case OPT_VERSION:
			puts("kms-vsock-proxyd " PROJECT_VERSION);
			return 1 + EXIT_SUCCESS;
		case OPT_HELP:
			print_help(stdout);
			return 1 + EXIT_SUCCESS;
		default:
			print_help(stderr);
			return 1 + EXIT_USAGE;
		}
	}
	a->rest = argv + optind;
	a->n_rest = argc - optind;
	return check_rest(a);
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

static int run_explain(const struct config *config, const struct arguments *a)
{
	_cleanup_(buf_done) struct buf body = {0};
	struct error error = {0};
	int r;

	r = read_whole(a->rest[2], LIMIT_BODY_MAX, &body);
	if (r < 0) {
		fprintf(stderr, "%s: %s\n", a->rest[2], strerrordesc_np(-r));
		return EXIT_USAGE;
	}
	r = config_explain(config, a->rest[0], a->rest[1], a->host, body.p, body.n, stdout,
			   &error);
	if (r >= 0)
		return r;
	fprintf(stderr, "%s\n", error.text);
	return EXIT_USAGE;
}

static int run_import(const char *path)
{
	_cleanup_(findings_done) struct findings findings = {0};
	_cleanup_(buf_done) struct buf text = {0};
	int r;

	r = read_whole(path, DOCUMENT_BYTES, &text);
	if (r < 0) {
		fprintf(stderr, "%s: %s\n", path, strerrordesc_np(-r));
		return EXIT_FAILURE;
	}
	r = import_vsock_proxy(buf_slice(&text), path, stdout, &findings);
	findings_print(&findings, path, stderr);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int run_daemon(const char *path, struct config *config, const struct findings *findings)
{
	int r = secret_init();

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
		return run_import(a.import);

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
