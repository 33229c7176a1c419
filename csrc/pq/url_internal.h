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
#include "core/text.h"

typedef struct option {
    mig_text key;
    mig_text value;
} option;

typedef struct parts {
    mig_text name; /* dialect and driver: postgresql+psycopg */
    mig_text username;
    mig_text password;
    mig_text host;
    mig_text port; /* digits, as Python's int() would print them */
    mig_text database;
    bool database_is_plain; /* each version of SQLAlchemy reads it in the same way */
    option *options;
    size_t option_count;
} parts;

static inline mig_text text_between(const char *from, const char *to)
{
    mig_text s = {from, (size_t)(to - from)};
    return s;
}

static inline bool among(mig_text s, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (mig_text_is(s, names[i]))
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
mig_status mig_url_number(mig_text in, mig_arena *arena, mig_text *out, mig_error *error);

#endif
