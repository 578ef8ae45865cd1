/* SPDX-License-Identifier: Apache-2.0 */
#include "texts.h"

#include "document.h"
#include "findings.h"
#include "sha256.h"
#include "syntax.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Whom a user namespace doesn't map (PrivateUsers=) shows as this one: it may be anybody. */
#define OVERFLOW_UID 65534u

struct folder {
	struct config_texts *texts;
	struct findings *findings;
	const char *main_name; /* of the main file, for messages */
	uid_t owner;           /* of the main file */
	char name[2 * CLIP];   /* as messages call it */
	DIR *stream;
	char **names;
	size_t n, left; /* bytes that may still be read */
	bool is_full;   /* and more are there: nothing is read any more */
	bool told;      /* of a name that looks like a drop-in's and is none */
};

static void close_fd(const int *fd)
{
	if (*fd > STDERR_FILENO)
		close(*fd);
}

/* ---- the texts ---- */

void texts_done(struct config_texts *texts)
{
	for (size_t i = 0; i < texts->n; i++) {
		free(texts->list[i].name);
		buf_done(&texts->list[i].bytes);
	}
	free(texts->list);
	*texts = (struct config_texts){0};
}

/* Room for one more, which holds nothing but its name yet. */
static int add_name(struct config_texts *texts, const char *name, size_t max,
		    struct buf **ret_bytes)
{
	struct config_text *list =
		reallocarray(texts->list, texts->n + 1, sizeof(*texts->list));
	char *copy = strdup(name);

	if (list)
		texts->list = list;
	if (!list || !copy) {
		free(copy);
		return -ENOMEM;
	}
	list[texts->n] = (struct config_text){copy, BUF_INIT(max)};
	*ret_bytes = &list[texts->n++].bytes;
	return 0;
}

int texts_add(struct config_texts *texts, const char *name, struct slice bytes)
{
	struct buf *b;
	int r = add_name(texts, name, bytes.n, &b);

	return r < 0 ? r : buf_append(b, bytes);
}

static int append_line(struct sha256 *h, const struct config_text *text, struct buf *lines)
{
	unsigned char digest[SHA256_SIZE];
	int r = sha256_of(h, buf_slice(&text->bytes), (struct slice){"", 0}, digest);

	r = r < 0 ? r : sha256_append_hex(digest, lines);
	return r < 0 ? r : buf_printf(lines, "  %s\n", text->name);
}

int texts_hash(const struct config_texts *texts, char *ret_hex)
{
	_cleanup_(buf_done) struct buf lines = BUF_INIT((TEXTS_DROPINS + 1) * (size_t)1024);
	_cleanup_(sha256_done) struct sha256 h = {0};
	unsigned char digest[SHA256_SIZE];
	int r = sha256_init(&h);

	for (size_t i = 0; i < texts->n && r == 0; i++)
		r = append_line(&h, &texts->list[i], &lines);
	r = r < 0 ? r : sha256_of(&h, buf_slice(&lines), (struct slice){"", 0}, digest);
	if (r < 0)
		return r;
	sha256_to_hex(digest, ret_hex);
	ret_hex[2 * SHA256_SIZE] = '\0';
	return 0;
}

/* ---- files ---- */

/* One byte above what is allowed is enough to see that it is too large. */
static int read_fd(int fd, struct buf *ret_text)
{
	for (;;) {
		ssize_t k;
		int r = buf_reserve(ret_text, MIN((size_t)65536, ret_text->max - ret_text->n));

		if (r < 0)
			return r;
		k = read(fd, ret_text->p + ret_text->n,
			 MIN((size_t)65536, ret_text->max - ret_text->n));
		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return -errno;
		ret_text->n += (size_t)k;
		if (k == 0 || ret_text->n == ret_text->max)
			return 0;
	}
}

static int read_main(const char *path, const char *name, struct config_texts *texts,
		     uid_t *ret_owner)
{
	bool is_stdin = strcmp(path, "-") == 0;
	_cleanup_(close_fd) int fd =
		is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	struct stat st;
	struct buf *b;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	*ret_owner = st.st_uid;
	r = add_name(texts, name, DOCUMENT_BYTES + 1, &b);
	return r < 0 ? r : read_fd(fd, b);
}

/* ---- drop-ins: what another user could have put there is no part of the policy ---- */

/* Why somebody else could have written it, as a phrase; NULL: nobody could. An access list that
 * lets others write shows in the group's bits. */
static const char *fault_of(const struct stat *st, const struct folder *f, char *out,
			    size_t size)
{
	const char *who = st->st_mode & S_IWOTH ? "every user" : "its group";

	bool written = st->st_mode & (S_IWGRP | S_IWOTH);

	if (!written &&
	    (st->st_uid == 0 || (st->st_uid == f->owner && st->st_uid != OVERFLOW_UID)))
		return NULL;
	if (written)
		snprintf(out, size,
			 "%s may write it (mode %04o); expected that its owner alone may", who,
			 (unsigned)st->st_mode & 07777);
	else if (st->st_uid == OVERFLOW_UID)
		snprintf(out, size, "its owner can't be told (user %u); expected root",
			 OVERFLOW_UID);
	else
		snprintf(out, size,
			 "user %u owns it; expected root or the owner of %s, user %u",
			 (unsigned)st->st_uid, f->main_name, (unsigned)f->owner);
	return out;
}

static void refuse_folder(const struct folder *f, const char *why)
{
	findings_add(f->findings, false, (struct place){0}, "%s: %s", f->name, why);
}

static int refuse_file(const struct folder *f, const char *why)
{
	findings_add(f->findings, false, (struct place){0}, "%s", why);
	return -EINVAL;
}

/* O_NOFOLLOW: who may write where a link leads to could put anything there. O_NONBLOCK: a FIFO
 * must not hold up the daemon. */
static int read_dropin(struct folder *f, const char *name, struct buf *b)
{
	_cleanup_(close_fd) int fd =
		openat(dirfd(f->stream), name,
		       O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW | O_NONBLOCK);
	char text[CLIP * 2];
	const char *fault;
	struct stat st = {0};
	int r = fd < 0 || fstat(fd, &st) < 0 ? -errno : 0;

	if (r == -ELOOP)
		return refuse_file(f, "is a symbolic link; a drop-in must be a file itself");
	if (r == -ENXIO || (r == 0 && !S_ISREG(st.st_mode)))
		return refuse_file(f, "is not a regular file; a drop-in must be one");
	fault = r == 0 ? fault_of(&st, f, text, sizeof(text)) : NULL;
	if (fault)
		return refuse_file(f, fault);
	r = r < 0 ? r : read_fd(fd, b);
	if (r == -ENOMEM)
		return r;
	if (r < 0) {
		snprintf(text, sizeof(text), "can't be read: %s", strerrordesc_np(-r));
		return refuse_file(f, text);
	}
	if (b->n > f->left) {
		f->is_full = true;
		return refuse_file(f, "the files together are larger than 4MiB");
	}
	f->left -= b->n;
	return 0;
}

/* 0, with errors among the findings, or -ENOMEM. */
static int add_dropin(struct folder *f, const char *name)
{
	char path[sizeof(f->name) + 2 * CLIP];
	struct buf *b;
	int r;

	snprintf(path, sizeof(path), "%s/%s", f->name, CLIPPED(slice_from(name)));
	r = findings_begin_file(f->findings, path);
	r = r < 0 ? r : add_name(f->texts, path, f->left + 1, &b);
	if (r < 0)
		return r;
	if (!syntax_name(slice_from(name)))
		r = refuse_file(f,
				"is no name for a drop-in; expected 1 to 64 letters, digits, "
				"dots, dashes and underscores");
	else
		r = read_dropin(f, name, b);
	return r == -ENOMEM ? r : 0;
}

static bool ends_in(const char *name, const char *suffix)
{
	size_t n = strlen(name), k = strlen(suffix);

	return n > k && strcmp(name + n - k, suffix) == 0;
}

/* Of what is beside the drop-ins: saved copies and the like are passed over in silence. */
static void look_at_other(struct folder *f, const char *name)
{
	const char *dot = strrchr(name, '.');

	if (f->told || !dot || (strcasecmp(dot, ".yml") != 0 && strcasecmp(dot, ".yaml") != 0))
		return;
	f->told = true;
	findings_add(f->findings, true, (struct place){0},
		     "%s: %s is not read: the names of drop-ins end in .yaml", f->name,
		     CLIPPED(slice_from(name)));
}

static int add_entry(struct folder *f, const char *name)
{
	char **names;

	if (name[0] == '.')
		return 0;
	if (!ends_in(name, ".yaml")) {
		look_at_other(f, name);
		return 0;
	}
	if (f->n == TEXTS_DROPINS) {
		refuse_folder(f, "more than 1024 drop-ins");
		return -EINVAL;
	}
	names = reallocarray(f->names, f->n + 1, sizeof(*names));
	if (!names)
		return -ENOMEM;
	f->names = names;
	if (asprintf(&names[f->n], "%s", name) < 0)
		return -ENOMEM;
	f->n++;
	return 0;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int list_entries(struct folder *f)
{
	const struct dirent *entry;
	int r = 0;

	while (r == 0 && (errno = 0, entry = readdir(f->stream)))
		r = add_entry(f, entry->d_name);
	if (r == 0 && errno) {
		r = -errno;
		refuse_folder(f, strerrordesc_np(-r));
	}
	if (r == 0 && f->n > 0)
		qsort(f->names, f->n, sizeof(*f->names), compare_names);
	return r == 0 || r == -ENOMEM ? r : -EINVAL;
}

/* 0: there is none; 1: it is open. */
static int open_folder(struct folder *f, const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	char text[CLIP * 2];
	const char *fault;
	struct stat st;

	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0) {
		refuse_folder(f, errno == ENOTDIR || errno == ELOOP
					 ? "is not a folder, or a symbolic link to one"
					 : strerrordesc_np(errno));
		return -EINVAL;
	}
	f->stream = fdopendir(fd);
	if (!f->stream) {
		close(fd);
		return -ENOMEM;
	}
	if (fstat(fd, &st) < 0)
		return -errno;
	fault = fault_of(&st, f, text, sizeof(text));
	if (!fault)
		return 1;
	refuse_folder(f, fault);
	return -EINVAL;
}

static int read_folder(struct folder *f, const char *path)
{
	int r = open_folder(f, path);

	if (r <= 0)
		return r;
	r = list_entries(f);
	for (size_t i = 0; i < f->n && r == 0 && !f->is_full; i++)
		r = add_dropin(f, f->names[i]);
	f->findings->file = 0;
	return r < 0 ? r : f->findings->n_errors > 0 ? -EINVAL : 0;
}

static void folder_done(struct folder *f)
{
	if (f->stream)
		closedir(f->stream);
	for (size_t i = 0; i < f->n; i++)
		free(f->names[i]);
	free(f->names);
}

/* How long `name` is without its .yaml or .yml. */
static size_t stem(const char *name)
{
	return strlen(name) - (ends_in(name, ".yaml") ? 5 : ends_in(name, ".yml") ? 4 : 0);
}

/* systemd's way to name it, X.yaml.d, is not ours. */
static int look_for_other_folder(const char *path, const struct folder *f)
{
	const char *base = config_base_name(path);
	_cleanup_(freep) char *other = NULL;
	struct stat st;

	if (stem(base) == strlen(base))
		return 0;
	if (asprintf(&other, "%s.d", path) < 0) {
		other = NULL;
		return -ENOMEM;
	}
	if (stat(other, &st) == 0 && S_ISDIR(st.st_mode))
		findings_add(f->findings, true, (struct place){0},
			     "the folder %s.d is not read: drop-ins stand in %s", f->main_name,
			     f->name);
	return 0;
}

static int read_dropins(const char *path, uid_t owner, struct config_texts *texts,
			struct findings *findings)
{
	_cleanup_(folder_done) struct folder f = {.texts = texts,
						  .findings = findings,
						  .main_name = texts->list[0].name,
						  .owner = owner,
						  .left = DOCUMENT_BYTES};
	const char *base = config_base_name(path);
	size_t n = (size_t)(base - path) + stem(base);
	_cleanup_(freep) char *folder = NULL;

	f.left -= MIN(f.left, texts->list[0].bytes.n);
	snprintf(f.name, sizeof(f.name), "%s.d", CLIPPED(((struct slice){base, stem(base)})));
	if (asprintf(&folder, "%.*s.d", (int)n, path) < 0) {
		folder = NULL;
		return -ENOMEM;
	}
	return look_for_other_folder(path, &f) ?: read_folder(&f, folder);
}

int texts_read(const char *path, struct config_texts *texts, struct findings *findings)
{
	const char *name = CLIPPED(slice_from(config_base_name(path)));
	uid_t owner = 0;
	int r = read_main(path, name, texts, &owner);

	if (r < 0 && r != -ENOMEM)
		findings_add(findings, false, (struct place){0}, "can't be read: %s",
			     strerrordesc_np(-r));
	if (r < 0 || strcmp(path, "-") == 0)
		return r;
	return read_dropins(path, owner, texts, findings);
}
