/* SPDX-License-Identifier: Apache-2.0 */
#include "here.h"

#include "credentials_file.h"
#include "findings.h"
#include "generation.h"
#include "limit.h"
#include "proxy_authorization.h"
#include "region.h"
#include "secret.h"
#include "small_file.h"
#include "texts.h"

#include <curl/curl.h>
#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A file may be given to a group by root, and by its owner who is in the group. */
static bool may_give_to(gid_t group)
{
	gid_t groups[1024];
	int n = getgroups(ELEMENTSOF(groups), groups);

	for (int i = 0; i < n; i++)
		if (groups[i] == group)
			return true;
	return geteuid() == 0 || getegid() == group;
}

static int look_at_group(const char *name, struct error *error)
{
	const struct group *group = getgrnam(name);

	if (!group)
		return error_set(error, "there is no group %s", name);
	if (!may_give_to(group->gr_gid))
		return error_set(error,
				 "this user (%u) is not in group %s, so it can't give it the "
				 "socket (SupplementaryGroups= in the unit)",
				 (unsigned)geteuid(), name);
	return 0;
}

/* The daemon makes the socket, and removes one that a dead one left. */
static int look_at_socket(const char *path, struct error *error)
{
	_cleanup_(freep) char *folder = strndup(path, (size_t)(config_base_name(path) - path));
	struct stat st;

	if (!folder)
		return error_set_errno(error, -ENOMEM, "%s", path);
	if (access(folder, W_OK | X_OK) < 0)
		return error_set_errno(error, -errno, "no socket can be made in the folder %s",
				       folder);
	if (lstat(path, &st) == 0 && !S_ISSOCK(st.st_mode))
		return error_set(error, "%s is there and is no socket", path);
	return 0;
}

static int look_at_token(const char *path, struct error *error)
{
	_cleanup_(buf_done) struct buf text = BUF_INIT(LIMIT_CREDENTIALS_TEXT);
	struct stat st;

	return small_file_read(path, &text, &st, error);
}

static int look_at_proxy(const char *file, struct error *error)
{
	struct proxy_authorization *authorization;
	_cleanup_(freep) char *path = NULL;
	int r = small_file_find(file, &path, error);

	if (r < 0)
		return r == -EINVAL ? 1 : r;
	r = proxy_authorization_load(file, &authorization, error);
	if (r == 0)
		proxy_authorization_unref(authorization);
	return r;
}

int here_look(enum config_thing thing, const char *value, struct error *error)
{
	switch (thing) {
	case CONFIG_CA_FILE:
		return generation_check_ca(value, error);
	case CONFIG_GROUP:
		return look_at_group(value, error);
	case CONFIG_SOCKET:
		return look_at_socket(value, error);
	case CONFIG_CREDENTIALS:
		return credentials_file_check(value, error);
	case CONFIG_TOKEN_FILE:
		return look_at_token(value, error);
	case CONFIG_PROXY_CREDENTIALS:
		return look_at_proxy(value, error);
	}
	return -EINVAL;
}

/* As the daemon asks: what passes through is wiped. */
static int ask_region(const struct config *config, char *ret_region, struct error *error)
{
	int r;

	if (curl_global_init_mem(CURL_GLOBAL_DEFAULT, wipe_malloc, wipe_free, wipe_realloc,
				 wipe_strdup, wipe_calloc) != CURLE_OK)
		return error_set(error, "libcurl can't be initialised");
	r = region_ask(&config->credentials, ret_region, error);
	curl_global_cleanup();
	return r;
}

int here_load(const char *path, struct config_facts *facts, struct config **ret_config,
	      struct findings *findings)
{
	static const struct config_facts none = {0};
	_cleanup_(config_unrefp) struct config *first = NULL;
	_cleanup_(findings_done) struct findings unused = {0};
	_cleanup_(texts_done) struct config_texts texts = {0};
	char region[REGION_SIZE] = "", text[sizeof(struct error) + 128];
	struct error error = {0};
	int r = secret_init();

	if (r < 0) {
		findings_add(findings, false, (struct place){0},
			     "memory for secrets can't be locked: %s; raise LimitMEMLOCK "
			     "(ulimit -l)",
			     strerrordesc_np(-r));
		return r;
	}
	/* Once: a pipe has it only once. */
	r = texts_read(path, &texts, findings);
	if (r < 0)
		return r;
	if (config_load_texts(&texts, path, &none, &first, &unused) == 0 &&
	    config_needs_region(first)) {
		r = ask_region(first, region, &error);
		snprintf(
			text, sizeof(text),
			"instance isn't known, and nothing that follows from it is checked: %s",
			error.text);
		facts->no_region = text;
		facts->instance_region = r == 0 ? region : NULL;
	}
	r = config_load_texts(&texts, path, facts, ret_config, findings);
	facts->no_region = facts->instance_region = NULL; /* they were ours */
	return r;
}
