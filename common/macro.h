/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Attributes and the few macros that the whole tree uses. */

#include <stddef.h>
#include <stdlib.h>

#define _cleanup_(f) __attribute__((cleanup(f)))
#define _must_check_ __attribute__((warn_unused_result))
#define _printf_(fmt, args) __attribute__((format(printf, fmt, args)))

/* A large buffer that is written before it is read: -ftrivial-auto-var-init leaves it alone. */
#if __has_attribute(uninitialized)
#define _uninitialized_ __attribute__((uninitialized))
#else
#define _uninitialized_
#endif

/* A build with AddressSanitizer: gcc tells by a macro, clang by a feature. */
#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN
#endif
#endif

#define ELEMENTSOF(a) (sizeof(a) / sizeof((a)[0]))

/* The object that `member` of type `type` is embedded in. */
#define CONTAINER_OF(pointer, type, member)                                                    \
	((type *)(void *)((char *)(pointer)-offsetof(type, member)))

/* Hands a pointer over: the variable is NULL afterwards, so its cleanup frees nothing. */
#define TAKE_PTR(p)                                                                            \
	({                                                                                     \
		__typeof__(p) *_pp = &(p);                                                     \
		__typeof__(p) _taken = *_pp;                                                   \
		*_pp = NULL;                                                                   \
		_taken;                                                                        \
	})

/* Hands a descriptor over. */
#define TAKE_FD(fd)                                                                            \
	({                                                                                     \
		int *_fdp = &(fd);                                                             \
		int _taken = *_fdp;                                                            \
		*_fdp = -1;                                                                    \
		_taken;                                                                        \
	})

/* Makes the cleanup helper `NAMEp` of a destructor that returns NULL: _cleanup_(x_freep). */
#define DEFINE_CLEANUP(type, destroy)                                                          \
	static inline void destroy##p(type *p)                                                 \
	{                                                                                      \
		if (*p)                                                                        \
			*p = destroy(*p);                                                      \
	}

static inline void freep(void *p)
{
	free(*(void **)p);
}

#define MIN(a, b)                                                                              \
	({                                                                                     \
		__typeof__(a) _a = (a);                                                        \
		__typeof__(b) _b = (b);                                                        \
		_a < _b ? _a : _b;                                                             \
	})

#define MAX(a, b)                                                                              \
	({                                                                                     \
		__typeof__(a) _a = (a);                                                        \
		__typeof__(b) _b = (b);                                                        \
		_a > _b ? _a : _b;                                                             \
	})
