/*
 * _core.Session: its layout, and what the files share that its methods are in.
 *
 *   session_enter.c    calls into a session: busy, GIL, lease
 *   session_batch.c    batches
 *   session_version.c  the version table
 *   session.c          everything else; the type
 *
 * GIL: held in all functions, apart from what is between mig_py_session_enter and
 * mig_py_session_leave.
 */
#ifndef MIG_PY_SESSION_OBJECT_H
#define MIG_PY_SESSION_OBJECT_H

#include "py/module.h"

#include <stdbool.h>

#include "pq/batch.h"
#include "pq/session.h"
#include "py/lease.h"
#include "py/server_error.h"

/*
 *                 RAW
 *                  | connect, borrow
 *        +-----> IDLE <------------------+
 *        |         | enter, look         |
 *        |         v                     | leave, end_look
 *        +------ BUSY --> LEASED --------+
 *                    take_lease
 *
 * Our own session is BUSY in a call, and so is a driver's whose connection is gone.
 */
typedef enum mig_py_session_state {
    MIG_PY_SESSION_RAW, /* `session` and `batch` are not initialised; nobody else sees it */
    MIG_PY_SESSION_IDLE,
    MIG_PY_SESSION_BUSY,  /* a call is under way, or its memory is being read */
    MIG_PY_SESSION_LEASED /* a call is under way and has the lease of a driver's connection */
} mig_py_session_state;

typedef struct mig_py_session {
    PyObject_HEAD mig_session session;
    mig_py_session_state state;
    mig_batch batch;       /* what submit() has queued and sent */
    PyThreadState *thread; /* of that call, while it runs without the GIL */
    mig_py_lease lease;    /* of a driver's connection */
    int server_version;    /* of a driver's connection, as it was borrowed */
    int backend_pid;
} mig_py_session;

/* The hook of a session's waits: it lets Python see signals, and asks a driver's connection's owner
 * for it again. `self` must live as long as the session. */
mig_hook mig_py_session_hook(mig_py_session *self);

static inline bool mig_py_session_is_busy(const mig_py_session *self)
{
    return self->state > MIG_PY_SESSION_IDLE;
}

/* 0, or -1 with RuntimeError set: another call is under way. */
int mig_py_session_refuse_if_busy(const mig_py_session *self);

/*
 * Begin a call that talks to the server: until mig_py_session_leave the session is this call's, our
 * own without the GIL, a driver's with its lease taken. 0, or -1 with an exception set. If the
 * driver's connection was closed, self->session.conn is NULL then.
 */
int mig_py_session_enter(mig_py_session *self);

/* End that call, and count its waits and segments. Returns the module's counters. */
mig_py_counters *mig_py_session_leave(mig_py_session *self);

/*
 * Begin a look at the connection that does not wait: until mig_py_session_end_look it may be
 * touched, with the GIL held. 0, or -1 with an exception set.
 */
int mig_py_session_look(mig_py_session *self);

/* End that look: the session is IDLE, and the lease is given back. */
void mig_py_session_end_look(mig_py_session *self);

/*
 * While the memory of a session is read into Python objects, no callback of the collector may have
 * it changed: an IDLE session becomes BUSY. Returns what self->state was, which the caller puts
 * back.
 */
mig_py_session_state mig_py_session_keep_out(mig_py_session *self);

/* The error handler for texts of the server. On our own session they are UTF-8; on a driver's they
 * are in its client_encoding, and stay as they are for the driver's classes to decode. */
const char *mig_py_session_decoding(const mig_py_session *self);

/* Raise the exception for `error`; returns NULL. */
PyObject *mig_py_session_raise(mig_py_session *self, const mig_error *error);

/* A new str, or None for NULL; NULL with an exception set. */
PyObject *mig_py_text_or_none(const char *text);

/*
 * Break the connection if results are in flight, which cannot be drained here. What the owner's
 * code raises is reported as for a __del__; an exception that is set stays set.
 */
void mig_py_session_break_flight(mig_py_session *self);

/* 1 or 0; -1 with an exception set. */
int mig_py_session_is_closed(mig_py_session *self);

/* Methods: new references, or NULL with an exception set; what each does is in its docstring,
 * in session.c. */

PyObject *mig_py_session_run_batch(mig_py_session *self, PyObject *argument);
PyObject *mig_py_session_submit(mig_py_session *self, PyObject *args, PyObject *kwargs);
PyObject *mig_py_session_poll(mig_py_session *self, PyObject *ignored);
PyObject *mig_py_session_send_rest(mig_py_session *self, PyObject *ignored);
PyObject *mig_py_session_wait(mig_py_session *self, PyObject *ignored);
PyObject *mig_py_session_make_room(mig_py_session *self, PyObject *ignored);
PyObject *mig_py_session_abandon(mig_py_session *self, PyObject *ignored);
PyObject *mig_py_session_cancel(mig_py_session *self, PyObject *ignored);
PyObject *mig_py_session_drain(mig_py_session *self, PyObject *args);
PyObject *mig_py_session_version_heads(mig_py_session *self, PyObject *args, PyObject *kwargs);
PyObject *mig_py_session_version_create(mig_py_session *self, PyObject *args, PyObject *kwargs);
PyObject *mig_py_session_version_create_sql(PyObject *cls, PyObject *args, PyObject *kwargs);
PyObject *mig_py_session_version_purge(mig_py_session *self, PyObject *args, PyObject *kwargs);
PyObject *mig_py_session_version_sql(mig_py_session *self, PyObject *args, PyObject *kwargs);
PyObject *mig_py_session_version_apply(mig_py_session *self, PyObject *args, PyObject *kwargs);

#endif
