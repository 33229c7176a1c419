/*
 * The harness of the C tests: checks that count, and an allocator whose N-th allocation fails.
 *
 *     int main(void) { test_this(); test_that(); return check_report(); }
 *
 * A failed check prints its location and the test goes on; check_report returns non-zero then. Each
 * test program is one file, so everything here is static.
 */
#ifndef MIG_TESTS_CHECK_H
#define MIG_TESTS_CHECK_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "core/status.h"

static int check_count;
static int check_failures;

static inline int check_at(int ok, const char *file, int line, const char *format, ...)
    MIG_PRINTF(4, 5);

static inline int check_at(int ok, const char *file, int line, const char *format, ...)
{
    check_count++;
    if (!ok) {
        va_list args;
        check_failures++;
        fprintf(stderr, "%s:%d: ", file, line);
        va_start(args, format);
        vfprintf(stderr, format, args);
        va_end(args);
        fputc('\n', stderr);
    }
    return ok;
}

/* Each returns whether it holds, so that a test can leave: `if (!CHECK(p != NULL)) return;`. */
#define CHECK(condition) check_at((condition) ? 1 : 0, __FILE__, __LINE__, "%s", #condition)
#define CHECK_MSG(condition, ...) check_at((condition) ? 1 : 0, __FILE__, __LINE__, __VA_ARGS__)
#define CHECK_INT(actual, expected)                                                                \
    check_at((long long)(actual) == (long long)(expected), __FILE__, __LINE__,                     \
             "%s is %lld, not %lld", #actual, (long long)(actual), (long long)(expected))
#define CHECK_STR(actual, expected)                                                                \
    check_at(strcmp((actual), (expected)) == 0, __FILE__, __LINE__, "%s is \"%s\", not \"%s\"",    \
             #actual, (actual), (expected))

static inline int check_report(void)
{
    printf("%d checks, %d failed\n", check_count, check_failures);
    return check_failures == 0 ? 0 : 1;
}

/* `alloc` fails at allocation number `fail_at` (from 1) and after it; 0: never. */
typedef struct check_alloc {
    mig_alloc alloc;
    size_t fail_at;
    size_t allocations;
    size_t live;  /* not released yet */
    size_t bytes; /* of all that were made */
} check_alloc;

static inline void *check_allocate(void *ctx, size_t size)
{
    check_alloc *c = ctx;
    c->allocations++;
    if (c->fail_at != 0 && c->allocations >= c->fail_at)
        return NULL;
    void *pointer = malloc(size);
    c->live += pointer != NULL;
    c->bytes += pointer != NULL ? size : 0;
    return pointer;
}

static inline void check_release(void *ctx, void *pointer)
{
    check_alloc *c = ctx;
    c->live -= pointer != NULL;
    free(pointer);
}

static inline void check_alloc_init(check_alloc *c, size_t fail_at)
{
    c->alloc.allocate = check_allocate;
    c->alloc.release = check_release;
    c->alloc.ctx = c;
    c->fail_at = fail_at;
    c->allocations = 0;
    c->live = 0;
    c->bytes = 0;
}

#endif
