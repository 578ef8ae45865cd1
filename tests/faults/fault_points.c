/* SPDX-License-Identifier: Apache-2.0 */
/* Preloaded into the real daemon by the tests of this folder. It counts every allocation and
 * the system calls of enum fault_kind, and makes one of them fail when the test says so. The
 * memory hooks of libcurl, OpenSSL and libevent all end in malloc(), and so does glibc's own
 * strdup(): what stands before malloc() sees them all. */
#undef _FILE_OFFSET_BITS /* open() and open64() are two, */
#undef _FORTIFY_SOURCE   /* and none of them is inline */

#include "fault_points.h"

#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define NEAR                                                                                   \
	__thread __attribute__((tls_model("initial-exec"))) /* its access allocates nothing */
#define WATCHED 4096 /* descriptors whose registration with epoll is remembered */
#define EARLY 16384  /* bytes for what is allocated before the next malloc() is found */

static struct fault_page unshared, *page = &unshared;
static NEAR bool inside; /* what we call ourselves neither counts nor fails */

/* ---- what comes after us ---- */

#define FIND(name) ((__typeof__(&name))find(#name, &next_##name))
#define NEXT(name)                                                                             \
	({                                                                                     \
		static void *next_##name;                                                      \
		FIND(name);                                                                    \
	})

static void *find(const char *name, void **at)
{
	if (!*at) {
		bool before = inside;

		inside = true;
		*at = dlsym(RTLD_NEXT, name);
		inside = before;
	}
	return *at;
}

/* ---- which thread calls ---- */

static NEAR int known; /* 0: not yet */

static enum fault_thread this_thread(void)
{
	char name[16] = "";

	if (known)
		return (enum fault_thread)(known - 1);
	if (gettid() == getpid()) {
		known = 1 + FAULT_CONTROL;
		return FAULT_CONTROL;
	}
	prctl(PR_GET_NAME, name); /* its maker names a thread soon after it has begun */
	if (strncmp(name, "worker-", 7) == 0)
		known = 1 + FAULT_WORKER;
	else if (strcmp(name, "audit") == 0)
		known = 1 + FAULT_AUDIT;
	return known ? (enum fault_thread)(known - 1) : FAULT_RESOLVER;
}

/* ---- whether a call fails ---- */

static struct code {
	uintptr_t from, to;
} program, libevent;

/* The first is the program. */
static int find_code(struct dl_phdr_info *info, size_t size, void *userdata)
{
	struct code *code = program.to == 0 ? &program : &libevent;

	(void)size;
	(void)userdata;
	if (code == &libevent && !strstr(info->dlpi_name, "libevent"))
		return 0;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];
		uintptr_t from = info->dlpi_addr + p->p_vaddr;

		if (p->p_type == PT_LOAD && (p->p_flags & PF_X)) {
			code->from = from;
			code->to = from + p->p_memsz;
		}
	}
	return 0;
}

static bool is_in(const struct code *code, const void *caller)
{
	return (uintptr_t)caller >= code->from && (uintptr_t)caller < code->to;
}

/* "path+0xoffset" each, as addr2line takes it. */
static void keep_frames(void)
{
	void *frames[FAULT_FRAMES];
	int n = backtrace(frames, FAULT_FRAMES);
	Dl_info info;

	for (int i = 0; i < n; i++) {
		const char *path =
			dladdr(frames[i], &info) && info.dli_fname ? info.dli_fname : "?";
		uintptr_t base = path[0] != '?' ? (uintptr_t)info.dli_fbase : 0;

		snprintf(page->frames[i], FAULT_FRAME_SIZE, "%s+0x%zx", path,
			 (size_t)((uintptr_t)frames[i] - base));
	}
	atomic_store(&page->n_frames, (uint32_t)n);
}

/* Counts a call. True: it is the one to fail. */
static bool fails(enum fault_kind kind)
{
	enum fault_thread thread;
	int64_t left;

	if (inside)
		return false;
	thread = this_thread();
	atomic_fetch_add_explicit(&page->calls[thread][kind], 1, memory_order_relaxed);
	if (!atomic_load(&page->armed) || page->kind != kind || !(page->threads & 1u << thread))
		return false;
	left = atomic_fetch_sub(&page->left, 1);
	if (left > 1 || left + (int64_t)page->times <= 1)
		return false;
	if (atomic_fetch_add(&page->fired, 1) == 0) {
		inside = true;
		keep_frames();
		inside = false;
	}
	return true;
}

/* The same for a call that has nothing but an error to give. */
static bool fails_with_errno(enum fault_kind kind)
{
	if (!fails(kind))
		return false;
	errno = page->error;
	return true;
}

/* ---- edges ---- */

static struct {
	int epoll;
	struct epoll_event event;
} watched[WATCHED];

/* A kernel that says EAGAIN tells by epoll when that is over; ours was none of the kernel's. To
 * OpenSSL and libcurl EINTR is the same (and no kernel says it of a socket that doesn't block).
 */
static void tell_again(int fd, const void *caller)
{
	if (page->error != EAGAIN && (page->error != EINTR || is_in(&program, caller)))
		return;
	if (fd >= 0 && fd < WATCHED && watched[fd].epoll)
		NEXT(epoll_ctl)(watched[fd].epoll, EPOLL_CTL_MOD, fd, &watched[fd].event);
	errno = page->error;
}

int epoll_ctl(int epoll, int what, int fd, struct epoll_event *event)
{
	int r;

	if (what != EPOLL_CTL_DEL && fails_with_errno(FAULT_EPOLL_CTL))
		return -1;
	r = NEXT(epoll_ctl)(epoll, what, fd, event);
	if (r == 0 && fd < WATCHED) {
		watched[fd].epoll = what == EPOLL_CTL_DEL ? 0 : epoll;
		if (event)
			watched[fd].event = *event;
	}
	return r;
}

int epoll_wait(int epoll, struct epoll_event *events, int n, int timeout)
{
	if (fails_with_errno(FAULT_EPOLL_WAIT))
		return -1;
	return NEXT(epoll_wait)(epoll, events, n, timeout);
}

/* ---- memory ---- */

#ifndef CALLS_ONLY /* AddressSanitizer's malloc() suffers nothing before itself */

static struct {
	_Alignas(16) char bytes[EARLY];
	size_t used;
} early;

static bool is_early(const void *p)
{
	return (const char *)p >= early.bytes && (const char *)p < early.bytes + EARLY;
}

/* Only while dlsym() looks for the next malloc(), before there is a second thread. */
static void *early_alloc(size_t n)
{
	char *p = early.bytes + early.used;

	n = (n + 15) / 16 * 16;
	if (n > EARLY - early.used)
		abort();
	early.used += n;
	return p;
}

static void count_live(void *p, int sign)
{
	if (!p || is_early(p))
		return;
	atomic_fetch_add_explicit(&page->live, sign, memory_order_relaxed);
	atomic_fetch_add_explicit(&page->live_bytes, sign * (int64_t)malloc_usable_size(p),
				  memory_order_relaxed);
}

static void *(*next_malloc)(size_t);
static void *(*next_calloc)(size_t, size_t);
static void *(*next_realloc)(void *, size_t);
static void (*next_free)(void *);

/* False: we are called while we look. */
static bool find_memory(void)
{
	static bool looking;

	if (next_free)
		return true;
	if (looking)
		return false;
	looking = true;
	next_malloc = (void *(*)(size_t))dlsym(RTLD_NEXT, "malloc");
	next_calloc = (void *(*)(size_t, size_t))dlsym(RTLD_NEXT, "calloc");
	next_realloc = (void *(*)(void *, size_t))dlsym(RTLD_NEXT, "realloc");
	next_free = (void (*)(void *))dlsym(RTLD_NEXT, "free");
	return true;
}

static bool allocation_fails(void)
{
	if (!fails(FAULT_ALLOCATION))
		return false;
	errno = ENOMEM;
	return true;
}

void *malloc(size_t n)
{
	void *p;

	if (!find_memory())
		return early_alloc(n);
	if (allocation_fails())
		return NULL;
	p = next_malloc(n);
	count_live(p, 1);
	return p;
}

void *calloc(size_t n, size_t size)
{
	void *p;

	if (!find_memory())
		return early_alloc(n * size);
	if (allocation_fails())
		return NULL;
	p = next_calloc(n, size);
	count_live(p, 1);
	return p;
}

void *realloc(void *p, size_t n)
{
	void *moved;

	if (!find_memory() || is_early(p))
		return early_alloc(n);
	if (n && allocation_fails())
		return NULL;
	count_live(p, -1);
	moved = next_realloc(p, n);
	count_live(moved || n == 0 ? moved : p, 1);
	return moved;
}

void *reallocarray(void *p, size_t n, size_t size)
{
	size_t bytes;

	if (__builtin_mul_overflow(n, size, &bytes)) {
		errno = ENOMEM;
		return NULL;
	}
	return realloc(p, bytes);
}

void free(void *p)
{
	if (!p || is_early(p) || !find_memory())
		return;
	count_live(p, -1);
	next_free(p);
}

int posix_memalign(void **ret, size_t align, size_t n)
{
	int r = allocation_fails() ? ENOMEM : NEXT(posix_memalign)(ret, align, n);

	if (r == 0)
		count_live(*ret, 1);
	return r;
}

void *aligned_alloc(size_t align, size_t n)
{
	void *p = allocation_fails() ? NULL : NEXT(aligned_alloc)(align, n);

	count_live(p, 1);
	return p;
}

void *memalign(size_t align, size_t n)
{
	void *p = allocation_fails() ? NULL : NEXT(memalign)(align, n);

	count_live(p, 1);
	return p;
}

#endif

/* OpenSSL's names; it is not asked for its header here, since only the daemon's calls come by.
 */
void *CRYPTO_secure_malloc(size_t n, const char *file, int line);
void *CRYPTO_secure_zalloc(size_t n, const char *file, int line);

void *CRYPTO_secure_malloc(size_t n, const char *file, int line)
{
	return fails(FAULT_SECURE) ? NULL : NEXT(CRYPTO_secure_malloc)(n, file, line);
}

void *CRYPTO_secure_zalloc(size_t n, const char *file, int line)
{
	return fails(FAULT_SECURE) ? NULL : NEXT(CRYPTO_secure_zalloc)(n, file, line);
}

/* ---- sockets ---- */

int accept4(int fd, struct sockaddr *address, socklen_t *n, int flags)
{
	int s;

	if (!fails(FAULT_ACCEPT))
		return NEXT(accept4)(fd, address, n, flags);
	if (page->error == ECONNABORTED) { /* that peer has gone */
		s = NEXT(accept4)(fd, address, n, flags);
		if (s < 0)
			return -1;
		close(s);
	}
	errno = page->error;
	return -1;
}

int socket(int family, int type, int protocol)
{
	return fails_with_errno(FAULT_SOCKET) ? -1 : NEXT(socket)(family, type, protocol);
}

int connect(int fd, const struct sockaddr *address, socklen_t n)
{
	return fails_with_errno(FAULT_CONNECT) ? -1 : NEXT(connect)(fd, address, n);
}

int getsockopt(int fd, int level, int name, void *value, socklen_t *n)
{
	if (fails_with_errno(FAULT_SOCKET_OPTION))
		return -1;
	return NEXT(getsockopt)(fd, level, name, value, n);
}

int setsockopt(int fd, int level, int name, const void *value, socklen_t n)
{
	if (fails_with_errno(FAULT_SOCKET_OPTION))
		return -1;
	return NEXT(setsockopt)(fd, level, name, value, n);
}

int getsockname(int fd, struct sockaddr *address, socklen_t *n)
{
	return fails_with_errno(FAULT_SOCKET_NAME) ? -1 : NEXT(getsockname)(fd, address, n);
}

int getpeername(int fd, struct sockaddr *address, socklen_t *n)
{
	return fails_with_errno(FAULT_SOCKET_NAME) ? -1 : NEXT(getpeername)(fd, address, n);
}

/* Whether a transfer fails; else *n is how much of it may be done. */
static bool transfer_fails(enum fault_kind kind, int fd, size_t *n, const void *caller)
{
	/* Its pair of sockets, by which it hears of signals, has no errors. */
	if (is_in(&libevent, caller) || !fails(kind))
		return false;
	if (page->error == FAULT_SHORT) {
		*n = *n ? 1 : 0;
		return false;
	}
	errno = page->error;
	tell_again(fd, caller);
	return true;
}

#define CALLER __builtin_return_address(0)

ssize_t send(int fd, const void *p, size_t n, int flags)
{
	return transfer_fails(FAULT_SEND, fd, &n, CALLER) ? -1 : NEXT(send)(fd, p, n, flags);
}

ssize_t sendto(int fd, const void *p, size_t n, int flags, const struct sockaddr *to,
	       socklen_t to_n)
{
	if (transfer_fails(FAULT_SEND, fd, &n, CALLER))
		return -1;
	return NEXT(sendto)(fd, p, n, flags, to, to_n);
}

ssize_t write(int fd, const void *p, size_t n)
{
	return transfer_fails(FAULT_SEND, fd, &n, CALLER) ? -1 : NEXT(write)(fd, p, n);
}

ssize_t recv(int fd, void *p, size_t n, int flags)
{
	return transfer_fails(FAULT_RECV, fd, &n, CALLER) ? -1 : NEXT(recv)(fd, p, n, flags);
}

ssize_t recvfrom(int fd, void *p, size_t n, int flags, struct sockaddr *from, socklen_t *from_n)
{
	if (transfer_fails(FAULT_RECV, fd, &n, CALLER))
		return -1;
	return NEXT(recvfrom)(fd, p, n, flags, from, from_n);
}

ssize_t read(int fd, void *p, size_t n)
{
	return transfer_fails(FAULT_RECV, fd, &n, CALLER) ? -1 : NEXT(read)(fd, p, n);
}

/* A short count of a message is one byte of its first part that has any. */
static const struct iovec *shorten(const struct iovec *iov, size_t *n, size_t whole,
				   struct iovec *one)
{
	if (whole)
		return iov;
	while (*n && iov->iov_len == 0) {
		iov++;
		--*n;
	}
	*one = (struct iovec){*n ? iov->iov_base : NULL, *n ? 1 : 0};
	*n = 1;
	return one;
}

/* True: it fails. *message is changed to `short_one` where it is cut. */
static bool message_fails(enum fault_kind kind, int fd, struct msghdr *m, struct iovec *one,
			  const void *caller)
{
	size_t n = 2; /* 1 after the call: a short one */

	if (transfer_fails(kind, fd, &n, caller))
		return true;
	m->msg_iov = (struct iovec *)shorten(m->msg_iov, &m->msg_iovlen, n - 1, one);
	return false;
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	struct msghdr m = *message;
	struct iovec one;

	return message_fails(FAULT_SEND, fd, &m, &one, CALLER) ? -1
							       : NEXT(sendmsg)(fd, &m, flags);
}

int sendmmsg(int fd, struct mmsghdr *messages, unsigned n, int flags)
{
	size_t count = n; /* a short one is one message */

	if (transfer_fails(FAULT_SEND, fd, &count, CALLER))
		return -1;
	return NEXT(sendmmsg)(fd, messages, (unsigned)count, flags);
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
	struct msghdr m = *message;
	struct iovec one;
	ssize_t n;

	if (message_fails(FAULT_RECV, fd, &m, &one, CALLER))
		return -1;
	n = NEXT(recvmsg)(fd, &m, flags);
	message->msg_namelen = m.msg_namelen;
	message->msg_controllen = m.msg_controllen;
	message->msg_flags = m.msg_flags;
	return n;
}

ssize_t writev(int fd, const struct iovec *iov, int n)
{
	struct msghdr m = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)n};
	struct iovec one;

	if (message_fails(FAULT_SEND, fd, &m, &one, CALLER))
		return -1;
	return NEXT(writev)(fd, m.msg_iov, (int)m.msg_iovlen);
}

ssize_t readv(int fd, const struct iovec *iov, int n)
{
	struct msghdr m = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)n};
	struct iovec one;

	if (message_fails(FAULT_RECV, fd, &m, &one, CALLER))
		return -1;
	return NEXT(readv)(fd, m.msg_iov, (int)m.msg_iovlen);
}

/* What a fortified program calls in place of them. */
ssize_t __recv_chk(int fd, void *p, size_t n, size_t room, int flags);
ssize_t __recvfrom_chk(int fd, void *p, size_t n, size_t room, int flags, struct sockaddr *from,
		       socklen_t *from_n);
ssize_t __read_chk(int fd, void *p, size_t n, size_t room);
int __poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t room);

ssize_t __recv_chk(int fd, void *p, size_t n, size_t room, int flags)
{
	(void)room;
	return transfer_fails(FAULT_RECV, fd, &n, CALLER) ? -1 : NEXT(recv)(fd, p, n, flags);
}

ssize_t __recvfrom_chk(int fd, void *p, size_t n, size_t room, int flags, struct sockaddr *from,
		       socklen_t *from_n)
{
	(void)room;
	if (transfer_fails(FAULT_RECV, fd, &n, CALLER))
		return -1;
	return NEXT(recvfrom)(fd, p, n, flags, from, from_n);
}

ssize_t __read_chk(int fd, void *p, size_t n, size_t room)
{
	(void)room;
	return transfer_fails(FAULT_RECV, fd, &n, CALLER) ? -1 : NEXT(read)(fd, p, n);
}

int __poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t room)
{
	(void)room;
	return fails_with_errno(FAULT_POLL) ? -1 : NEXT(poll)(fds, n, timeout);
}

int poll(struct pollfd *fds, nfds_t n, int timeout)
{
	return fails_with_errno(FAULT_POLL) ? -1 : NEXT(poll)(fds, n, timeout);
}

/* ---- other descriptors, threads, randomness ---- */

/* The real reason for EAGAIN is a counter that is full: then it must be full. */
int eventfd_write(int fd, eventfd_t n)
{
	if (!fails(FAULT_EVENTFD_WRITE))
		return NEXT(eventfd_write)(fd, n);
	if (page->error == EAGAIN)
		(void)NEXT(eventfd_write)(fd, UINT64_MAX - 1);
	errno = page->error;
	return -1;
}

int eventfd_read(int fd, eventfd_t *ret)
{
	return fails_with_errno(FAULT_EVENTFD_READ) ? -1 : NEXT(eventfd_read)(fd, ret);
}

int eventfd(unsigned n, int flags)
{
	return fails_with_errno(FAULT_DESCRIPTOR) ? -1 : NEXT(eventfd)(n, flags);
}

int socketpair(int family, int type, int protocol, int fds[2])
{
	if (fails_with_errno(FAULT_DESCRIPTOR))
		return -1;
	return NEXT(socketpair)(family, type, protocol, fds);
}

int pipe2(int fds[2], int flags)
{
	return fails_with_errno(FAULT_DESCRIPTOR) ? -1 : NEXT(pipe2)(fds, flags);
}

int open(const char *path, int flags, ...)
{
	va_list args;
	mode_t mode;

	va_start(args, flags);
	mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(args, mode_t) : 0;
	va_end(args);
	return fails_with_errno(FAULT_OPEN) ? -1 : NEXT(open)(path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
	va_list args;
	mode_t mode;

	va_start(args, flags);
	mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(args, mode_t) : 0;
	va_end(args);
	return fails_with_errno(FAULT_OPEN) ? -1 : NEXT(open64)(path, flags, mode);
}

FILE *fopen(const char *path, const char *mode)
{
	return fails_with_errno(FAULT_OPEN) ? NULL : NEXT(fopen)(path, mode);
}

FILE *fopen64(const char *path, const char *mode)
{
	return fails_with_errno(FAULT_OPEN) ? NULL : NEXT(fopen64)(path, mode);
}

ssize_t getrandom(void *p, size_t n, unsigned flags)
{
	return fails_with_errno(FAULT_RANDOM) ? -1 : NEXT(getrandom)(p, n, flags);
}

int getentropy(void *p, size_t n)
{
	return fails_with_errno(FAULT_RANDOM) ? -1 : NEXT(getentropy)(p, n);
}

struct beginning {
	void *(*run)(void *);
	void *arg;
};

/* Of a thread that a worker makes, for a lookup: it inherits the worker's name. */
static void *begin(void *userdata)
{
	struct beginning b = *(struct beginning *)userdata;

	known = 1 + FAULT_RESOLVER;
	free(userdata);
	return b.run(b.arg);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *),
		   void *arg)
{
	struct beginning *b;
	int e;

	if (fails(FAULT_THREAD))
		return page->error;
	if (this_thread() != FAULT_WORKER)
		return NEXT(pthread_create)(thread, attr, run, arg);
	inside = true;
	b = malloc(sizeof(*b));
	inside = false;
	if (!b)
		return EAGAIN;
	*b = (struct beginning){run, arg};
	e = NEXT(pthread_create)(thread, attr, begin, b);
	if (e)
		free(b);
	return e;
}

/* ---- the beginning ---- */

__attribute__((constructor)) static void map_page(void)
{
	const char *path = getenv(FAULT_PAGE_VARIABLE);
	int fd = path ? NEXT(open)(path, O_RDWR | O_CLOEXEC, 0) : -1;
	void *frames[1], *p;

	if (fd < 0)
		return;
	p = mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (p == MAP_FAILED)
		return;
	(void)backtrace(frames, 1); /* it allocates at its first call */
	dl_iterate_phdr(find_code, NULL);
	page = p;
	atomic_store(&page->ready, 1);
}
