/*
 * Statuses and errors of the core, and how they are passed on.
 *
 * Every function of csrc/core and csrc/pq that can fail returns a mig_status: 0, or a negative
 * code. It never prints, aborts, or looks at errno on its caller's behalf; it fills a mig_error
 * that the caller owns (a plain struct, nothing to free).
 *
 * One convention for passing a status on. A function that has nothing to release uses
 * `MIG_TRY(call);`. One that has jumps to the single label at its end, which releases:
 *
 *     status = call;
 *     if (status != MIG_OK)
 *         goto done;
 *
 * Threads: no global state anywhere in the core. GIL: the core knows no Python. Layer: the lowest.
 */
#ifndef MIG_CORE_STATUS_H
#define MIG_CORE_STATUS_H

#include <stddef.h>
#include <stdint.h>

typedef enum mig_status {
    MIG_OK = 0,
    MIG_ENOMEM = -1,    /* an allocation failed, or a size would overflow */
    MIG_EDECLINED = -2, /* not an error: the caller must fall back, msg says why */
    MIG_EINVAL = -3,    /* the input cannot be used, msg says why */
    MIG_EIO = -4,       /* a file or a socket failed */
    MIG_ECONNECT = -5,  /* no session: refused, unreachable, authentication, no such database */
    MIG_ESERVER = -6,   /* the server answered a statement with an error */
    MIG_EINTR = -7,     /* the caller's interrupt hook said stop */
    MIG_EREVISION = -8, /* the revision graph: see mig_graph_error */
    MIG_EVERSION = -9,  /* the version table does not hold the rows that it should */
    MIG_EINTERNAL = -10 /* an invariant was broken: the run fails, and is rolled back */
} mig_status;

#define MIG_ERROR_SIZE 1024

typedef struct mig_error {
    mig_status code;
    size_t offset; /* byte offset in the input, where that has a meaning */
    uint32_t line; /* 1-based line in the input, 0 where that has no meaning */
    char msg[MIG_ERROR_SIZE];
} mig_error;

#if defined(__GNUC__)
#define MIG_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define MIG_PRINTF(fmt, args)
#endif

/*
 * Fill `error` (may be NULL) with `code` and a text, which is cut if it is too long; offset and
 * line are 0. Returns `code`, so that a caller can `return mig_fail(...)`.
 */
mig_status mig_fail(mig_error *error, mig_status code, const char *format, ...) MIG_PRINTF(3, 4);

/* mig_fail with MIG_ENOMEM. */
mig_status mig_fail_memory(mig_error *error);

/* Return from the function with the status of `call`, unless that is MIG_OK. */
#define MIG_TRY(call)                                                                              \
    do {                                                                                           \
        mig_status mig_try_status = (call);                                                        \
        if (mig_try_status != MIG_OK)                                                              \
            return mig_try_status;                                                                 \
    } while (0)

#endif
