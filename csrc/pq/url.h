/*
 * Database URLs, split and printed as SQLAlchemy does it.
 *
 * The rules are SQLAlchemy's (read in 2.1.9: engine/url.py `_parse_url`, `render_as_string`), not
 * those of libpq's own URIs: a host is never percent-decoded, a user name may hold '@', a query key
 * without a value is dropped, and what follows a part that cannot continue is ignored. One thing is
 * added: a password given in the query is hidden like any other.
 *
 * No error text holds any byte of the URL.
 *
 * Ownership: all strings live in the caller's arena. No state; any thread. Cost: O(length).
 */
#ifndef MIG_PQ_URL_H
#define MIG_PQ_URL_H

#include <stdbool.h>

#include "core/arena.h"
#include "core/status.h"

/* Whether an option of a URL or a connection string may be printed with this value: it is on the
 * list of options that hold no secret. Both end in NUL. */
bool mig_url_is_harmless(const char *key, const char *value);

/*
 * *redacted = the URL of any database as SQLAlchemy prints it, with `***` for the password and for
 * options that are not harmless. The URL need not end in NUL.
 *
 * MIG_OK, MIG_EINVAL (no URL), MIG_ENOMEM.
 */
mig_status mig_url_redact(const char *text, size_t length, mig_arena *arena, const char **redacted,
                          mig_error *error);

#endif
