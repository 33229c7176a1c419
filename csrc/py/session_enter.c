/*
 * Calls into a session: one at a time, with the GIL or without it, and with the lease of a driver's
 * connection.
 *
 * Over our own connection the GIL is released for the whole of a call that talks to the server, and
 * the hook takes it back for a moment to let Python see signals; over a driver's it is released
 * only where the call waits (see lease.h).
 */
#include "py/session_object.h"

#include <stdbool.h>
#include <string.h>
#include <unistd.h>

/* After other code may have run: set `conn` to NULL if the owner no longer has it. An exception in
 * the owner's code interrupts the call; after a second one the connection counts as closed. */
static void ask_owner(mig_py_session *self)
{
    int good = mig_py_lease_is_good(&self->lease);
    if (good < 0) {
        self->session.interrupted = true;
        good = mig_py_lease_is_good(&self->lease);
    }
    if (good <= 0)
        self->session.conn = NULL;
}

static bool let_python_see_signals(void *ctx)
{
    mig_py_session *self = ctx;
    int status;
    if (self->lease.owner == NULL) {
        PyEval_RestoreThread(self->thread);
        status = PyErr_CheckSignals();
        self->thread = PyEval_SaveThread();
    } else {
        mig_py_lease_unlock(&self->lease);
        status = PyErr_CheckSignals();
        mig_py_lease_lock(&self->lease);
        ask_owner(self);
    }
    return status < 0;
}

static void wait_begins(void *ctx)
{
    mig_py_session *self = ctx;
    if (self->lease.owner != NULL)
        self->thread = PyEval_SaveThread();
}

static void wait_ends(void *ctx)
{
    mig_py_session *self = ctx;
    if (self->lease.owner != NULL) {
        PyEval_RestoreThread(self->thread);
        self->thread = NULL;
        ask_owner(self);
    }
}

mig_hook mig_py_session_hook(mig_py_session *self)
{
    return (mig_hook){let_python_see_signals, wait_begins, wait_ends, self};
}

/*
 * Take the lease of a driver's connection, for a session that is BUSY: asking the owner may let
 * other threads run. If the connection was closed, `conn` is NULL then. 0; or -1 with an exception
 * set, and the session is IDLE.
 */
static int take_lease(mig_py_session *self)
{
    if (self->lease.owner == NULL || self->session.conn == NULL ||
        self->session.pid != getpid()) /* in a fork, the lock may be held forever */
        return 0;
    mig_py_lease_lock(&self->lease);
    int good = mig_py_lease_is_good(&self->lease);
    if (good < 0) {
        mig_py_lease_unlock(&self->lease);
        self->state = MIG_PY_SESSION_IDLE;
        return -1;
    }
    if (good == 0)
        self->session.conn = NULL;
    self->state = MIG_PY_SESSION_LEASED;
    return 0;
}

static void become_idle(mig_py_session *self)
{
    if (self->state == MIG_PY_SESSION_LEASED)
        mig_py_lease_unlock(&self->lease);
    self->state = MIG_PY_SESSION_IDLE;
}

int mig_py_session_refuse_if_busy(const mig_py_session *self)
{
    if (!mig_py_session_is_busy(self))
        return 0;
    PyErr_SetString(PyExc_RuntimeError, "the session is waiting for the server in another call");
    return -1;
}

int mig_py_session_look(mig_py_session *self)
{
    if (mig_py_session_refuse_if_busy(self) < 0)
        return -1;
    self->state = MIG_PY_SESSION_BUSY;
    return take_lease(self);
}

void mig_py_session_end_look(mig_py_session *self)
{
    become_idle(self);
}

int mig_py_session_enter(mig_py_session *self)
{
    if (mig_py_session_look(self) < 0)
        return -1;
    if (self->lease.owner == NULL)
        self->thread = PyEval_SaveThread();
    return 0;
}

mig_py_counters *mig_py_session_leave(mig_py_session *self)
{
    if (self->lease.owner == NULL)
        PyEval_RestoreThread(self->thread);
    self->thread = NULL;
    become_idle(self);
    mig_py_counters *counters = &mig_py_state_of_type(Py_TYPE(self))->counters;
    counters->waits += self->session.waits;
    self->session.waits = 0;
    counters->batches += self->batch.segments;
    self->batch.segments = 0;
    return counters;
}

const char *mig_py_session_decoding(const mig_py_session *self)
{
    return self->lease.owner == NULL ? "replace" : "surrogateescape";
}

mig_py_session_state mig_py_session_keep_out(mig_py_session *self)
{
    mig_py_session_state before = self->state;
    if (before == MIG_PY_SESSION_IDLE)
        self->state = MIG_PY_SESSION_BUSY;
    return before;
}

PyObject *mig_py_session_raise(mig_py_session *self, const mig_error *error)
{
    mig_py_session_state before = mig_py_session_keep_out(self);
    (void)mig_py_raise_server(error, &self->session.diagnostics, -1, NULL,
                              mig_py_session_decoding(self));
    self->state = before;
    return NULL;
}

PyObject *mig_py_text_or_none(const char *text)
{
    if (text == NULL)
        Py_RETURN_NONE;
    return PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "surrogateescape");
}

void mig_py_session_break_flight(mig_py_session *self)
{
    mig_session *session = &self->session;
    if (!mig_batch_in_flight(&self->batch) || session->conn == NULL || session->pid != getpid())
        return;
    if (self->lease.owner == NULL) {
        mig_session_break(session);
    } else if (mig_py_lease_try_lock(&self->lease)) { /* else it is being closed */
        PyObject *kind, *value, *traceback;
        PyErr_Fetch(&kind, &value, &traceback);
        int good = mig_py_lease_is_good(&self->lease);
        if (good > 0)
            mig_session_break(session);
        mig_py_lease_unlock(&self->lease);
        if (good < 0)
            PyErr_WriteUnraisable(self->lease.owner);
        PyErr_Restore(kind, value, traceback);
    }
}

/* A closed connection is closed for good, so no lock is needed. */
int mig_py_session_is_closed(mig_py_session *self)
{
    if (self->session.conn == NULL || self->lease.owner == NULL || mig_py_session_is_busy(self))
        return self->session.conn == NULL;
    self->state = MIG_PY_SESSION_BUSY; /* the owner's code may come back here */
    int good = mig_py_lease_is_good(&self->lease);
    self->state = MIG_PY_SESSION_IDLE;
    return good < 0 ? -1 : good == 0;
}
