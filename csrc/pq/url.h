/*
 * A database URL as SQLAlchemy reads it -> the keywords and values of PQconnectStartParams.
 *
 * The rules are SQLAlchemy's, not libpq's own URI rules (read in 2.1.9: engine/url.py `_parse_url`,
 * `render_as_string`; dialects/postgresql: `create_connect_args`, `_split_multihost_from_url`): a
 * host is never percent-decoded, a user name may hold '@', a query key without a value is dropped,
 * what follows a part that cannot continue is ignored, and options in the query win over the parts
 * before it. Two things are ours: `postgres://` is accepted, and a password given in the query is
 * hidden like any other.
 *
 * Nothing here looks at the environment or opens a connection. No error text holds any byte of the
 * URL apart from a driver's or an option's name.
 *
 * Ownership: all strings live in the caller's arena. Input need not end in NUL. Cost: O(length).
 */
#ifndef MIG_PQ_URL_H
#define MIG_PQ_URL_H

#include <stdbool.h>

#include "core/arena.h"
#include "core/status.h"

typedef struct mig_url {
    const char **keywords; /* `count` of them, then NULL: as PQconnectStartParams wants it */
    const char **values;
    size_t count;
    const char *driver; /* what stands after '+', or "" */
} mig_url;

/* MIG_EINVAL: no URL, or not PostgreSQL's. MIG_EDECLINED: an option that only the named driver
 * knows, or a database's name that SQLAlchemy 2.0 and 2.1 read differently. */
mig_status mig_url_parse(const char *text, size_t length, mig_arena *arena, mig_url *url,
                         mig_error *error);

/* Whether an option of a URL or a connection string may be printed with this value. */
bool mig_url_is_harmless(const char *key, const char *value);

/* The URL of any database as SQLAlchemy prints it, `***` for the password. */
mig_status mig_url_redact(const char *text, size_t length, mig_arena *arena, const char **redacted,
                          mig_error *error);

#endif
