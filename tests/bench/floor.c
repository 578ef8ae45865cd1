/* SPDX-License-Identifier: Apache-2.0 */
/* The floor of what a proxy costs that signs and records: it receives, hashes, seals, opens,
 * sends and records, and parses nothing. What we cost beyond it is our own.
 *
 *   bench-floor FRONT PORT CA_FILE JOURNAL BODY_SIZE [close | keep]
 *
 * It takes requests with a body of BODY_SIZE on the Unix socket FRONT and sends them to
 * 127.0.0.1:PORT over TLS, verified as ours is, on connections that it keeps. It knows
 * beforehand what a proxy would have to read: how long a body is, that an answer is one TLS
 * record, and whether clients want their connection closed after it. */
#include "macro.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#define HOST "kms.eu-central-1.amazonaws.com"
#define TOKEN_SIZE 1024 /* of a role's session */
#define HASH_SIZE 32    /* SHA-256 */
#define HEX_SIZE ((size_t)2 * HASH_SIZE)
#define BLOCK_SIZE 64
#define HEAD_MAX 2048 /* ours stands before the body, where theirs was */
#define ROOM_MAX ((size_t)64 * 1024)
#define EVENTS 64

/* A record is as long as ours of a request, and goes as ours do: sixteen with one system call,
 * or what there is once there was nothing else to do for 5 ms. Only the thread of its own is
 * left out: a batch is cheapest where it is made. */
#define RECORD_SIZE 540
#define BATCH 16
#define NAP_MSEC 5

#define SCOPE "20260101/eu-central-1/kms/aws4_request"
#define SIGNED "content-type;host;x-amz-date;x-amz-security-token;x-amz-target"

enum kind { FRONT, CLIENT, GONE, UPSTREAM };

struct client {
	enum kind kind; /* first in each */
	int fd;
	struct upstream *upstream; /* that has its request; NULL: none */
	char *held;                /* the beginning of a request */
	size_t held_n;
	struct client *next; /* of those that are gone */
};

struct upstream {
	enum kind kind;
	int fd;
	SSL *ssl;
	struct client *client; /* NULL: idle, or it went away */
	struct upstream *next; /* of the idle ones */
};

struct records {
	int fd;
	unsigned n;
	char text[BATCH][RECORD_SIZE];
	struct iovec bytes[BATCH];
	struct mmsghdr messages[BATCH];
};

struct floor {
	enum kind kind;
	int front, epoll;
	in_port_t port;
	SSL_CTX *ctx;
	SSL_SESSION *session; /* the newest */
	struct upstream *idle;
	struct client *gone; /* freed after the turn: it may still have an event */
	EVP_MD *sha256;
	EVP_MD_CTX *hash, *kept; /* `kept`: of the canonical request's beginning, or NULL */
	size_t kept_n;
	char canonical[HEAD_MAX]; /* ends with the body's hash */
	size_t canonical_n;
	char string[512]; /* to sign; ends with the canonical request's hash */
	size_t string_n;
	char head[HEAD_MAX]; /* of the request to the upstream */
	size_t head_n, signature_at;
	size_t body_size;
	bool close;
	struct records records;
	char room[HEAD_MAX + ROOM_MAX];
};

static void die(const char *what)
{
	fprintf(stderr, "bench-floor: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void require(bool condition, const char *what)
{
	if (!condition)
		die(what);
}

static struct sockaddr_un unix_address(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	require(strlen(path) < sizeof(address.sun_path), path);
	memcpy(address.sun_path, path, strlen(path));
	return address;
}

static void watch(struct floor *f, int fd, void *object)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET,
				    .data.ptr = object};

	require(epoll_ctl(f->epoll, EPOLL_CTL_ADD, fd, &event) == 0, "epoll_ctl");
}

/* ---- records ---- */

static void records_open(struct records *r, const char *path)
{
	struct sockaddr_un address = unix_address(path);

	r->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	require(r->fd >= 0 && connect(r->fd, (struct sockaddr *)&address, sizeof(address)) == 0,
		path);
	for (size_t i = 0; i < BATCH; i++) {
		r->bytes[i] = (struct iovec){r->text[i], RECORD_SIZE};
		r->messages[i].msg_hdr.msg_iov = &r->bytes[i];
		r->messages[i].msg_hdr.msg_iovlen = 1;
	}
}

/* Waits for a journal that is full: none is lost, and waiting costs no CPU. */
static void records_send(struct records *r)
{
	unsigned sent = 0;

	while (sent < r->n) {
		int n = sendmmsg(r->fd, r->messages + sent, r->n - sent, MSG_NOSIGNAL);

		require(n > 0, "the journal");
		sent += (unsigned)n;
	}
	r->n = 0;
}

static void records_add(struct records *r, char digit)
{
	memset(r->text[r->n], digit, RECORD_SIZE);
	if (++r->n == BATCH)
		records_send(r);
}

/* ---- what a signer hashes ---- */

static void hash(struct floor *f, const void *first, size_t first_n, const void *second,
		 size_t second_n, unsigned char *ret_digest)
{
	require(EVP_DigestInit_ex2(f->hash, f->sha256, NULL) &&
			EVP_DigestUpdate(f->hash, first, first_n) &&
			EVP_DigestUpdate(f->hash, second, second_n) &&
			EVP_DigestFinal_ex(f->hash, ret_digest, NULL),
		"SHA-256");
}

static void put_hex(const unsigned char *digest, char *out)
{
	static const char hex[] = "0123456789abcdef";

	for (size_t i = 0; i < HASH_SIZE; i++) {
		out[2 * i] = hex[digest[i] >> 4];
		out[2 * i + 1] = hex[digest[i] & 15];
	}
}

/* The body's hash, the canonical request's, and the HMAC by a derived key that is at hand. */
static void sign(struct floor *f, const char *body, char *ret_signature)
{
	static const unsigned char inner[BLOCK_SIZE] = {0x36}, outer[BLOCK_SIZE] = {0x5c};
	unsigned char digest[HASH_SIZE];

	hash(f, body, f->body_size, NULL, 0, digest);
	put_hex(digest, f->canonical + f->canonical_n - HEX_SIZE);
	if (f->kept)
		require(EVP_MD_CTX_copy_ex(f->hash, f->kept) &&
				EVP_DigestUpdate(f->hash, f->canonical + f->kept_n,
						 f->canonical_n - f->kept_n) &&
				EVP_DigestFinal_ex(f->hash, digest, NULL),
			"SHA-256");
	else
		hash(f, f->canonical, f->canonical_n, NULL, 0, digest);
	put_hex(digest, f->string + f->string_n - HEX_SIZE);
	hash(f, inner, sizeof(inner), f->string, f->string_n, digest);
	hash(f, outer, sizeof(outer), digest, sizeof(digest), digest);
	put_hex(digest, ret_signature);
}

/* What is the same for a second's requests, up to the token's last whole block, as ours. */
static void keep_beginning(struct floor *f)
{
	const char *end = strstr(f->canonical, "\nx-amz-target:");

	require(end, "the token's end");
	f->kept_n = (size_t)(end - f->canonical) / BLOCK_SIZE * BLOCK_SIZE;
	f->kept = EVP_MD_CTX_new();
	require(f->kept && EVP_DigestInit_ex2(f->kept, f->sha256, NULL) &&
			EVP_DigestUpdate(f->kept, f->canonical, f->kept_n),
		"SHA-256");
}

/* The three texts, with room for the hashes; as long as ours of an Encrypt. */
static void texts_init(struct floor *f)
{
	char token[TOKEN_SIZE + 1], zeros[HEX_SIZE + 1];

	memset(token, 'A', TOKEN_SIZE);
	token[TOKEN_SIZE] = '\0';
	memset(zeros, '0', HEX_SIZE);
	zeros[HEX_SIZE] = '\0';
	f->canonical_n = (size_t)snprintf(
		f->canonical, sizeof(f->canonical),
		"POST\n/\n\ncontent-type:application/x-amz-json-1.1\nhost:" HOST
		"\nx-amz-date:20260101T000000Z\nx-amz-security-token:%s"
		"\nx-amz-target:TrentService.Encrypt\n\n" SIGNED "\n%s",
		token, zeros);
	f->string_n =
		(size_t)snprintf(f->string, sizeof(f->string),
				 "AWS4-HMAC-SHA256\n20260101T000000Z\n" SCOPE "\n%s", zeros);
	f->signature_at = (size_t)snprintf(
		f->head, sizeof(f->head),
		"POST / HTTP/1.1\r\nHost: " HOST
		"\r\nContent-Type: application/x-amz-json-1.1\r\n"
		"Content-Length: %zu\r\nX-Amz-Target: TrentService.Encrypt\r\n"
		"X-Amz-Date: 20260101T000000Z\r\nX-Amz-Security-Token: %s\r\n"
		"Authorization: AWS4-HMAC-SHA256 Credential=ASIAEXAMPLEEXAMPLE77/" SCOPE
		", SignedHeaders=" SIGNED ", Signature=",
		f->body_size, token);
	f->head_n = f->signature_at + (size_t)snprintf(f->head + f->signature_at,
						       sizeof(f->head) - f->signature_at,
						       "%s\r\n\r\n", zeros);
	require(f->head_n < sizeof(f->head), "the head");
}

/* ---- upstream ---- */

static int on_session(SSL *ssl, SSL_SESSION *session)
{
	struct floor *f = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));

	SSL_SESSION_free(f->session);
	f->session = session;
	return 1; /* it is ours now */
}

static void tls_init(struct floor *f, const char *ca_file)
{
	f->ctx = SSL_CTX_new(TLS_client_method());
	require(f->ctx && SSL_CTX_load_verify_locations(f->ctx, ca_file, NULL) == 1, ca_file);
	SSL_CTX_set_app_data(f->ctx, f);
	SSL_CTX_set_min_proto_version(f->ctx, TLS1_3_VERSION);
	SSL_CTX_set_verify(f->ctx, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_read_ahead(f->ctx, 1);
	SSL_CTX_set_session_cache_mode(f->ctx,
				       SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(f->ctx, on_session);
}

/* A copy, since OpenSSL resumes a session of TLS 1.3 once. */
static bool resume(struct floor *f, SSL *ssl)
{
	SSL_SESSION *session = f->session ? SSL_SESSION_dup(f->session) : NULL;
	bool set = !session || SSL_set_session(ssl, session);

	SSL_SESSION_free(session);
	return set;
}

/* Connects and shakes hands while all else waits: only the first requests meet it. */
static struct upstream *upstream_new(struct floor *f)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_port = f->port,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct upstream *u = calloc(1, sizeof(*u));
	int one = 1;

	require(u != NULL, "an upstream connection");
	u->kind = UPSTREAM;
	u->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	require(u->fd >= 0 && connect(u->fd, (struct sockaddr *)&address, sizeof(address)) == 0,
		"the upstream");
	setsockopt(u->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	u->ssl = SSL_new(f->ctx);
	require(u->ssl && SSL_set1_host(u->ssl, HOST) &&
			SSL_set_tlsext_host_name(u->ssl, HOST) && SSL_set_fd(u->ssl, u->fd) &&
			resume(f, u->ssl) && SSL_connect(u->ssl) == 1,
		"the handshake");
	require(fcntl(u->fd, F_SETFL, O_NONBLOCK) == 0, "fcntl");
	watch(f, u->fd, u);
	return u;
}

static void forward(struct floor *f, struct client *c, char *body)
{
	size_t n = f->head_n + f->body_size;
	struct upstream *u = f->idle;
	char *request = body - f->head_n;

	if (u)
		f->idle = u->next;
	else
		u = upstream_new(f);
	memcpy(request, f->head, f->head_n);
	sign(f, body, request + f->signature_at);
	u->client = c;
	c->upstream = u;
	require(SSL_write(u->ssl, request, (int)n) == (int)n, "sending to the upstream");
}

/* ---- clients ---- */

static void client_close(struct floor *f, struct client *c)
{
	if (c->upstream)
		c->upstream->client = NULL;
	close(c->fd);
	c->kind = GONE;
	c->next = f->gone;
	f->gone = c;
}

static void clients_free(struct floor *f)
{
	struct client *c;

	while ((c = f->gone) != NULL) {
		f->gone = c->next;
		free(c->held);
		free(c);
	}
}

static void client_hold(struct client *c, const char *p, size_t n)
{
	free(c->held);
	c->held = malloc(n);
	require(c->held != NULL, "a request");
	memcpy(c->held, p, n);
	c->held_n = n;
}

static void on_client(struct floor *f, struct client *c)
{
	char *p = f->room + HEAD_MAX, *body;
	ssize_t n;

	if (c->held_n)
		memcpy(p, c->held, c->held_n);
	n = recv(c->fd, p + c->held_n, ROOM_MAX - c->held_n, 0);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		client_close(f, c);
		return;
	}
	n += (ssize_t)c->held_n;
	body = memmem(p, (size_t)n, "\r\n\r\n", 4);
	if (!body || p + n < body + 4 + f->body_size) {
		client_hold(c, p, (size_t)n);
		return;
	}
	c->held_n = 0;
	forward(f, c, body + 4);
}

/* With `Connection: close` after the status line, where it is asked for. */
static void answer(struct floor *f, struct client *c, char *p, size_t n)
{
	static char closes[] = "Connection: close\r\n";
	char *head = memmem(p, n, "\r\n", 2);
	struct iovec parts[] = {{p, n}, {closes, sizeof(closes) - 1}, {NULL, 0}};
	struct msghdr message = {.msg_iov = parts, .msg_iovlen = 1};

	if (f->close && head) {
		parts[0].iov_len = (size_t)(head + 2 - p);
		parts[2] = (struct iovec){head + 2, n - parts[0].iov_len};
		message.msg_iovlen = ELEMENTSOF(parts);
	}
	if (sendmsg(c->fd, &message, MSG_NOSIGNAL) < 0 || f->close)
		client_close(f, c);
}

static void on_upstream(struct floor *f, struct upstream *u)
{
	int n = SSL_read(u->ssl, f->room, (int)ROOM_MAX);
	struct client *c = u->client;

	if (n <= 0) {
		require(SSL_get_error(u->ssl, n) == SSL_ERROR_WANT_READ,
			"receiving from the upstream");
		return; /* a ticket */
	}
	u->client = NULL;
	u->next = f->idle;
	f->idle = u;
	if (!c)
		return;
	c->upstream = NULL;
	answer(f, c, f->room, (size_t)n);
	records_add(&f->records, f->room[0]);
}

static void on_front(struct floor *f)
{
	int fd;

	while ((fd = accept4(f->front, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		struct client *c = calloc(1, sizeof(*c));

		require(c != NULL, "a client");
		c->kind = CLIENT;
		c->fd = fd;
		watch(f, fd, c);
	}
}

/* ---- all of it ---- */

static void front_open(struct floor *f, const char *path)
{
	struct sockaddr_un address = unix_address(path);

	f->kind = FRONT;
	f->front = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	require(f->front >= 0 &&
			bind(f->front, (struct sockaddr *)&address, sizeof(address)) == 0 &&
			listen(f->front, SOMAXCONN) == 0,
		path);
	watch(f, f->front, f);
}

static void serve(struct floor *f)
{
	struct epoll_event events[EVENTS];

	for (;;) {
		int n = epoll_wait(f->epoll, events, EVENTS, f->records.n ? NAP_MSEC : -1);

		if (n == 0)
			records_send(&f->records);
		for (int i = 0; i < n; i++) {
			void *object = events[i].data.ptr;

			switch (*(enum kind *)object) {
			case FRONT:
				on_front(f);
				break;
			case CLIENT:
				on_client(f, object);
				break;
			case GONE:
				break;
			case UPSTREAM:
				on_upstream(f, object);
				break;
			}
		}
		clients_free(f);
	}
}

static unsigned long number(const char *text, unsigned long most)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	require(*text && !*end && n > 0 && n <= most, text);
	return n;
}

int main(int argc, char **argv)
{
	static struct floor floor;
	struct floor *f = &floor;

	bool close = argc == 7 && strcmp(argv[6], "close") == 0;
	bool keep = argc == 7 && strcmp(argv[6], "keep") == 0;

	if (argc != 6 && !close && !keep) {
		fputs("usage: bench-floor FRONT PORT CA_FILE JOURNAL BODY_SIZE [close | "
		      "keep]\n",
		      stderr);
		return 2;
	}
	f->port = htons((uint16_t)number(argv[2], UINT16_MAX));
	f->body_size = number(argv[5], ROOM_MAX - HEAD_MAX);
	f->close = close;
	f->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
	f->hash = EVP_MD_CTX_new();
	f->epoll = epoll_create1(EPOLL_CLOEXEC);
	require(f->sha256 && f->hash && f->epoll >= 0, "starting");
	texts_init(f);
	if (keep)
		keep_beginning(f);
	tls_init(f, argv[3]);
	records_open(&f->records, argv[4]);
	front_open(f, argv[1]);
	serve(f);
}
