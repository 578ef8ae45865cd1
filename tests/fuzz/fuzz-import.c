/* SPDX-License-Identifier: Apache-2.0 */

/* Any bytes as an allow-list of vsock-proxy. What is printed for it is, once its comments are
 * taken off as the text at its top says, a configuration with every host that was carried over.
 */

#include "import_vsock_proxy.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* assert() would go with -DNDEBUG. */
static void must(bool condition, const char *what)
{
	if (!condition) {
		fprintf(stderr, "fuzz-import: %s\n", what);
		abort();
	}
}

/* *ret_out is the caller's to free. */
static int import(struct slice text, struct findings *findings, char **ret_out)
{
	static const struct import_question question = {"fuzz.yaml", {8000, 8141}, 2};
	_cleanup_(freep) char *copy = malloc(text.n ? text.n : 1); /* exact */
	size_t n;
	FILE *f = open_memstream(ret_out, &n);
	int r;

	must(copy && f, "no memory");
	if (text.n)
		memcpy(copy, text.p, text.n);
	r = import_vsock_proxy((struct slice){copy, text.n}, &question, f, findings);
	must(fclose(f) == 0, "no memory");
	return r;
}

static size_t count_hosts(const char *lines)
{
	static const char host[] = "\n#        - ";
	size_t n = 0;

	for (const char *p = lines; (p = strstr(p, host)); p += strlen(host))
		n++;
	return n;
}

/* Takes the "#" off the lines below `enclaves`, in place. */
static void fill_in(char *lines)
{
	for (char *p = lines; p[1]; p = strchr(p + 1, '\n')) {
		must(p[0] == '\n' && p[1] == '#', "a line that is no comment");
		p[1] = ' ';
	}
}

static void check_printed(char *printed)
{
	_cleanup_(findings_done) struct findings findings = {0};
	_cleanup_(config_unrefp) struct config *config = NULL;
	char *enclaves = strstr(printed, "\nenclaves:\n");
	size_t hosts;

	for (const char *p = printed; *p; p++)
		must(*p == '\n' || (*p >= 0x20 && *p <= 0x7e), "a byte that can't be printed");
	must(enclaves != NULL, "no enclaves");
	enclaves += strlen("\nenclaves:");
	hosts = count_hosts(enclaves);
	if (hosts == 0)
		return; /* there is nothing to serve */
	fill_in(enclaves);
	must(config_parse(printed, strlen(printed), "printed", &config, &findings) == 0,
	     "what is printed is refused");
	must(config->n_enclaves == 1 && config->enclaves[0].tunnel.n_hosts == hosts,
	     "a host is lost");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(findings_done) struct findings findings = {0};
	_cleanup_(freep) char *printed = NULL;
	int r = import((struct slice){(const char *)data, size}, &findings, &printed);

	for (size_t i = 0; i < findings.n; i++) {
		must(findings.list[i].line > 0 && findings.list[i].text[0],
		     "a finding in part");
		for (const char *p = findings.list[i].text; *p; p++)
			must(*p >= 0x20 && *p <= 0x7e, "a finding that can't be printed");
	}
	must(r == (findings.n_errors ? -EINVAL : 0), "another result than what was found");
	if (r == 0)
		check_printed(printed);
	else
		must(*printed == '\0', "a refusal that prints");
	return 0;
}
