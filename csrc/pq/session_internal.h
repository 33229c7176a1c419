/*
 * What connect.c uses of session.c; nobody else includes this.
 */
#ifndef MIG_PQ_SESSION_INTERNAL_H
#define MIG_PQ_SESSION_INTERNAL_H

#include "pq/session.h"

/* Milliseconds of a clock that only goes forward. */
int64_t mig_now_ms(void);

/*
 * Wait until `socket` can be read or written, `timeout` ms at most. 1: ready; 0: not within that
 * time; -1: a signal or an error, errno says which.
 */
int mig_poll_socket(int socket, bool reading, bool writing, int timeout);

/* Ask the caller's hook whether to stop, unless it has said so before; session->interrupted. */
bool mig_session_asks_to_stop(mig_session *session);

/* mig_fail with a text of libpq's, without the newlines at its end. */
mig_status mig_fail_with_libpq_text(mig_error *error, mig_status code, const char *text);

/* Collect the notices of our own, new connection in session->notices. */
void mig_session_collect_notices(mig_session *session);

#endif
