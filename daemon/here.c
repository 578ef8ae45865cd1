/* SPDX-License-Identifier: Apache-2.0 */
#include "here.h"

#include "credentials_file.h"
#include "generation.h"
#include "limit.h"
#include "secret.h"
#include "small_file.h"

#include <errno.h>
#include <grp.h>
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

/* The secrets it holds are read into memory that is wiped and is on no disk. */
static int look_at_credentials(const char *path, struct error *error)
{
	int r = secret_init();

	if (r < 0)
		return error_set_errno(error, r, "can't lock memory for secrets");
	return credentials_file_check(path, error);
}

static int look_at_token(const char *path, struct error *error)
{
	_cleanup_(buf_done) struct buf text = BUF_INIT(LIMIT_CREDENTIALS_TEXT);
	struct stat st;

	return small_file_read(path, &text, &st, error);
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
		return look_at_credentials(value, error);
	case CONFIG_TOKEN_FILE:
		return look_at_token(value, error);
	}
	return -EINVAL;
}
