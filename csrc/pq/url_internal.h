/*
 * What url.c and conninfo.c share; nobody else includes this. url.c defines what is declared here.
 * All texts are in the caller's arena or are borrowed from the URL.
 */
#ifndef MIG_PQ_URL_INTERNAL_H
#define MIG_PQ_URL_INTERNAL_H

#include <stdbool.h>
#include <string.h>

#include "core/arena.h"
#include "core/status.h"

/* A piece of text; `text` is NULL where SQLAlchemy has None. */
typedef struct slice {
    const char *text;
    size_t length;
} slice;

typedef struct option {
    slice key;
    slice value;
} option;

typedef struct parts {
    slice name; /* dialect and driver: postgresql+psycopg */
    slice username;
    slice password;
    slice host;
    slice port; /* digits, as Python's int() would print them */
    slice database;
    bool database_is_plain; /* as it stands, the same to each SQLAlchemy */
    option *options;
    size_t option_count;
} parts;

static inline slice slice_of(const char *from, const char *to)
{
    slice s = {from, (size_t)(to - from)};
    return s;
}

static inline slice constant(const char *text)
{
    return slice_of(text, text + strlen(text));
}

static inline bool equals(slice s, const char *text)
{
    return s.length == strlen(text) && memcmp(s.text, text, s.length) == 0;
}

static inline bool same(slice a, slice b)
{
    return a.length == b.length && memcmp(a.text, b.text, a.length) == 0;
}

static inline bool among(slice s, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (equals(s, names[i]))
            return true;
    return false;
}

static inline const char *find_byte(const char *from, const char *to, char byte)
{
    const char *found = from < to ? memchr(from, byte, (size_t)(to - from)) : NULL;
    return found != NULL ? found : to;
}

/* The first of two bytes, or `to`. */
static inline const char *find_either(const char *from, const char *to, char one, char other)
{
    const char *found = find_byte(from, to, one);
    return find_byte(from, found, other);
}

/* Split a URL into its parts, decoded. MIG_EINVAL, MIG_ENOMEM: *url holds nothing of use. */
mig_status mig_url_split(const char *text, size_t length, mig_arena *arena, parts *url,
                         mig_error *error);

/* Python's int() over ASCII, printed again. MIG_EINVAL: it is no number. */
mig_status mig_url_number(slice in, mig_arena *arena, slice *out, mig_error *error);

#endif
