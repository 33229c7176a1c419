/*
 * _core.Session: one connection, our own or a driver's. GIL: over our own connection it is released
 * for the whole of a call that talks to the server, and the hook takes it back for a moment to let
 * Python see signals; over a driver's it is released only where we wait (see lease.h). A session
 * that is waiting refuses calls from other threads and from signal handlers.
 */
#include "py/module.h"

#include <stdbool.h>
#include <unistd.h>

#include "pq/batch.h"
#include "pq/connect.h"
#include "pq/session.h"
#include "pq/version_table.h"
#include "py/lease.h"
#include "py/server_error.h"

typedef struct session_object {
    PyObject_HEAD mig_session session;
    bool ready;            /* `session` was initialised */
    bool busy;             /* a call is under way */
    int taken;             /* by that call: what take() gave */
    mig_batch batch;       /* what submit() has queued and sent */
    PyThreadState *thread; /* of that call, while it runs without the GIL */
    mig_py_lease lease;    /* of a driver's connection */
    int server_version;    /* of a driver's connection, as it was borrowed */
    int backend_pid;
} session_object;

/* After others may have run: from now on a closed connection points nowhere. What the owner's code
 * raises interrupts the call; what it does not answer twice is taken for closed. */
static void ask_owner(session_object *self)
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
    session_object *self = ctx;
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
    session_object *self = ctx;
    if (self->lease.owner != NULL)
        self->thread = PyEval_SaveThread();
}

static void wait_ends(void *ctx)
{
    session_object *self = ctx;
    if (self->lease.owner != NULL) {
        PyEval_RestoreThread(self->thread);
        self->thread = NULL;
        ask_owner(self);
    }
}

/* A driver's connection is ours until give_back, unless it was closed: then `conn` is NULL. -1 with
 * an exception set; else what give_back wants. The session must be marked busy: asking the owner
 * may let other threads run. */
static int take(session_object *self)
{
    if (self->lease.owner == NULL || self->session.conn == NULL ||
        self->session.pid != getpid()) /* the lock may be held for ever in a fork */
        return 0;
    mig_py_lease_lock(&self->lease);
    int good = mig_py_lease_is_good(&self->lease);
    if (good < 0) {
        mig_py_lease_unlock(&self->lease);
        return -1;
    }
    if (good == 0)
        self->session.conn = NULL;
    return 1;
}

static void give_back(session_object *self, int taken)
{
    if (taken > 0)
        mig_py_lease_unlock(&self->lease);
}

static int refuse_if_busy(const session_object *self)
{
    if (!self->busy)
        return 0;
    PyErr_SetString(PyExc_RuntimeError, "the session is waiting for the server in another call");
    return -1;
}

/* For a look at the connection that does not wait: until end_look() it may be touched, with the
 * GIL. 0, or -1 with an exception set. */
static int look(session_object *self, int *taken)
{
    if (refuse_if_busy(self) < 0)
        return -1;
    self->busy = true;
    *taken = take(self);
    if (*taken < 0)
        self->busy = false;
    return *taken < 0 ? -1 : 0;
}

static void end_look(session_object *self, int taken)
{
    give_back(self, taken);
    self->busy = false;
}

/* Until leave() the session is ours: our own without the GIL, a driver's with its lease taken. */
static int enter(session_object *self)
{
    if (refuse_if_busy(self) < 0)
        return -1;
    self->busy = true;
    if (self->lease.owner == NULL) {
        self->thread = PyEval_SaveThread();
        return 0;
    }
    self->taken = take(self);
    if (self->taken < 0)
        self->busy = false;
    return self->taken < 0 ? -1 : 0;
}

static mig_py_counters *leave(session_object *self)
{
    if (self->lease.owner == NULL)
        PyEval_RestoreThread(self->thread);
    else
        give_back(self, self->taken);
    self->thread = NULL;
    self->busy = false;
    mig_py_counters *counters = &mig_py_state_of_type(Py_TYPE(self))->counters;
    counters->waits += self->session.waits;
    self->session.waits = 0;
    counters->batches += self->batch.segments;
    self->batch.segments = 0;
    return counters;
}

/* What the server says on our own session is UTF-8. On a driver's it is in that connection's
 * client_encoding: the bytes stay as they are, for drivers.py. */
static const char *decoding(const session_object *self)
{
    return self->lease.owner == NULL ? "replace" : "surrogateescape";
}

/* While the memory of a session is read into Python objects, no callback of the collector may have
 * it changed. What it was before is to be put back. */
static bool keep_others_out(session_object *self)
{
    bool before = self->busy;
    self->busy = true;
    return before;
}

static PyObject *raise(session_object *self, const mig_error *error)
{
    bool before = keep_others_out(self);
    (void)mig_py_raise_server(error, &self->session.diagnostics, -1, NULL, decoding(self));
    self->busy = before;
    return NULL;
}

static PyObject *text_or_none(const char *text)
{
    if (text == NULL)
        Py_RETURN_NONE;
    return PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "surrogateescape");
}

/* Hidden: the caller shows it when it is connected. */
static session_object *new_session(PyTypeObject *type, mig_libpq *pq)
{
    session_object *self = (session_object *)mig_py_hide(type->tp_alloc(type, 0));
    if (self == NULL) {
        mig_libpq_release(pq);
        return NULL;
    }
    mig_hook hook = {let_python_see_signals, wait_begins, wait_ends, self};
    mig_session_init(&self->session, pq, &mig_alloc_system, hook);
    mig_batch_init(&self->batch, &mig_alloc_system);
    self->ready = true;
    return self;
}

/* {keyword: value} as two arrays over the dict's own strings. */
static int read_params(PyObject *params, const char ***keywords, const char ***values)
{
    size_t count = (size_t)PyDict_GET_SIZE(params), i = 0;
    *keywords = PyMem_Calloc(count + 1, sizeof **keywords);
    *values = PyMem_Calloc(count + 1, sizeof **values);
    if (*keywords == NULL || *values == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    Py_ssize_t at = 0;
    PyObject *key, *value;
    while (PyDict_Next(params, &at, &key, &value)) {
        Py_ssize_t key_length, value_length;
        const char *k = PyUnicode_AsUTF8AndSize(key, &key_length);
        const char *v = k != NULL ? PyUnicode_AsUTF8AndSize(value, &value_length) : NULL;
        if (v == NULL)
            return -1;
        if (strlen(k) != (size_t)key_length || strlen(v) != (size_t)value_length) {
            PyErr_SetString(PyExc_ValueError, "a connection parameter holds a zero byte");
            return -1;
        }
        (*keywords)[i] = k;
        (*values)[i++] = v;
    }
    return 0;
}

static PyObject *session_connect(PyObject *cls, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"params", "library", NULL};
    PyObject *given, *params, *library = NULL, *result = NULL;
    const char **keywords = NULL, **values = NULL;
    session_object *self = NULL;
    mig_libpq pq;
    mig_error error;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!|O:connect", names, &PyDict_Type, &given,
                                     &library))
        return NULL;
    if (library == Py_None)
        library = NULL;
    if (library != NULL && !PyUnicode_FSConverter(library, &library))
        return NULL;
    /* A copy that is hidden: another thread could change the dict while we wait. */
    params = mig_py_hide(PyDict_Copy(given));
    if (params == NULL || read_params(params, &keywords, &values) < 0)
        goto done;
    mig_status status;
    const char *file = library != NULL ? PyBytes_AS_STRING(library) : NULL;
    Py_BEGIN_ALLOW_THREADS status = mig_libpq_load(&pq, file, &error);
    Py_END_ALLOW_THREADS if (status != MIG_OK)
    {
        (void)mig_py_raise(&error);
        goto done;
    }
    self = new_session((PyTypeObject *)cls, &pq);
    if (self == NULL || enter(self) < 0)
        goto done;
    status = mig_session_connect(&self->session, keywords, values, (size_t)PyDict_GET_SIZE(params),
                                 &error);
    (void)leave(self);
    if (status == MIG_OK)
        result = Py_NewRef(mig_py_show((PyObject *)self));
    else
        (void)mig_py_raise(&error);
done:
    PyMem_Free(keywords);
    PyMem_Free(values);
    Py_XDECREF(params);
    Py_XDECREF(library);
    Py_XDECREF(self);
    return result;
}

static PyObject *session_borrow(PyObject *cls, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"pgconn_ptr", "library", "owner", NULL};
    PyObject *pointer, *library, *owner;
    mig_libpq pq;
    mig_error error;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!O&O:borrow", names, &PyLong_Type, &pointer,
                                     PyUnicode_FSConverter, &library, &owner))
        return NULL;
    PGconn *conn = PyLong_AsVoidPtr(pointer);
    if (conn == NULL) {
        Py_DECREF(library);
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "the driver's connection is closed");
        return NULL;
    }
    mig_status status = mig_libpq_borrow(&pq, PyBytes_AS_STRING(library), &error);
    Py_DECREF(library);
    if (status != MIG_OK)
        return mig_py_raise(&error);
    session_object *self = new_session((PyTypeObject *)cls, &pq);
    if (self == NULL)
        return NULL;
    self->session.conn = conn;
    if (mig_py_lease_init(&self->lease, owner, conn) < 0 || enter(self) < 0)
        goto failed;
    status = self->session.conn != NULL
                 ? mig_session_borrow(&self->session, conn, &error)
                 : mig_fail(&error, MIG_ECONNECT, "the driver's connection is closed");
    self->server_version = self->session.pq.PQserverVersion(self->session.conn);
    self->backend_pid = self->session.pq.PQbackendPID(self->session.conn);
    (void)leave(self);
    if (status == MIG_OK)
        return mig_py_show((PyObject *)self);
    (void)mig_py_raise(&error);
failed:
    self->session.conn = NULL; /* it is not ours to close */
    Py_DECREF(self);
    return NULL;
}

static int session_traverse(session_object *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->lease.owner);
    return 0;
}

/* Results in flight cannot be drained here: breaks the connection. What the owner's code raises is
 * reported, as what a __del__ raises is; an exception that is set stays set. */
static void break_flight(session_object *self)
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

static int session_clear(session_object *self)
{
    if (self->ready) {
        bool before = keep_others_out(self); /* the owner's code, in a cycle that is collected */
        break_flight(self);
        self->busy = before;
        mig_batch_release(&self->batch);
        mig_session_release(&self->session);
    }
    mig_py_lease_clear(&self->lease);
    return 0;
}

static void session_dealloc(session_object *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)session_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *session_close(session_object *self, PyObject *Py_UNUSED(ignored))
{
    if (enter(self) < 0)
        return NULL;
    mig_batch_abandon(&self->batch, &self->session);
    (void)leave(self);
    (void)session_clear(self);
    Py_RETURN_NONE;
}

static PyObject *rows_as_list(const mig_rows *rows)
{
    PyObject *list = mig_py_hide(PyList_New((Py_ssize_t)rows->rows));
    for (size_t y = 0; list != NULL && y < rows->rows; y++) {
        PyObject *row = mig_py_hide(PyTuple_New((Py_ssize_t)rows->columns)); /* texts only */
        if (row != NULL)
            PyList_SET_ITEM(list, (Py_ssize_t)y, row);
        for (size_t x = 0; row != NULL && x < rows->columns; x++) {
            PyObject *text = text_or_none(rows->values[y * rows->columns + x]);
            if (text == NULL)
                row = NULL;
            else
                PyTuple_SET_ITEM(row, (Py_ssize_t)x, text);
        }
        if (row == NULL)
            Py_CLEAR(list);
    }
    return mig_py_show(list);
}

static PyObject *session_query(session_object *self, PyObject *args)
{
    const char *sql;
    mig_arena arena;
    mig_rows rows;
    mig_error error;
    if (!PyArg_ParseTuple(args, "s:query", &sql) || enter(self) < 0)
        return NULL;
    mig_arena_init(&arena, &mig_alloc_system);
    mig_status status = mig_session_query(&self->session, sql, &arena, &rows, &error);
    (void)leave(self);
    PyObject *result = status == MIG_OK ? rows_as_list(&rows) : raise(self, &error);
    mig_arena_release(&arena);
    return result;
}

static PyObject *without_answer(session_object *self,
                                mig_status (*function)(mig_session *, mig_error *))
{
    mig_error error;
    if (enter(self) < 0)
        return NULL;
    mig_status status = function(&self->session, &error);
    (void)leave(self);
    if (status != MIG_OK)
        return raise(self, &error);
    Py_RETURN_NONE;
}

static PyObject *session_begin(session_object *self, PyObject *Py_UNUSED(ignored))
{
    return without_answer(self, mig_session_begin);
}

static PyObject *session_commit(session_object *self, PyObject *Py_UNUSED(ignored))
{
    return without_answer(self, mig_session_commit);
}

static PyObject *session_rollback(session_object *self, PyObject *Py_UNUSED(ignored))
{
    return without_answer(self, mig_session_rollback);
}

/* (tag, rows) of the statements from `head` up to `end`. */
static PyObject *results_of(const mig_batch *batch, size_t end)
{
    size_t count = end - batch->head;
    PyObject *list = mig_py_hide(PyList_New((Py_ssize_t)count));
    for (size_t i = 0; list != NULL && i < count; i++) {
        const mig_statement *statement = &batch->statements[batch->head + i];
        PyObject *item = Py_BuildValue("sL", statement->tag, statement->rows);
        if (item == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, (Py_ssize_t)i, item);
    }
    return mig_py_show(list);
}

static int add_statements(mig_batch *batch, PyObject *statements)
{
    mig_error error;
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(statements); i++) {
        Py_ssize_t length;
        const char *sql = PyUnicode_AsUTF8AndSize(PySequence_Fast_GET_ITEM(statements, i), &length);
        if (sql == NULL)
            return -1;
        if (mig_batch_add(batch, sql, (size_t)length, &error) != MIG_OK) {
            (void)mig_py_raise(&error);
            return -1;
        }
    }
    return 0;
}

/* What a batch ended with: MIG_EINTR has its exception already. */
static PyObject *raise_of_batch(session_object *self, const mig_batch *batch, mig_status status,
                                const mig_error *error)
{
    if (status != MIG_ESERVER || batch->failed == MIG_BATCH_NONE)
        return raise(self, error);
    bool busy = keep_others_out(self);
    PyObject *before = results_of(batch, batch->failed);
    PyObject *partial = before != NULL ? mig_py_tuple(before) : NULL;
    if (partial != NULL)
        (void)mig_py_raise_server(error, &self->session.diagnostics,
                                  (Py_ssize_t)(batch->failed - batch->head), partial,
                                  decoding(self));
    Py_XDECREF(partial);
    Py_XDECREF(before);
    self->busy = busy;
    return NULL;
}

static PyObject *session_run_batch(session_object *self, PyObject *argument)
{
    mig_batch batch;
    mig_error error;
    PyObject *result = NULL;
    PyObject *statements = PySequence_Fast(argument, "statements must be a sequence of str");
    if (statements == NULL)
        return NULL;
    mig_batch_init(&batch, &mig_alloc_system);
    if (add_statements(&batch, statements) < 0 || enter(self) < 0)
        goto done;
    mig_status status = mig_batch_run(&batch, &self->session, &error);
    mig_py_counters *counters = leave(self);
    counters->batches += batch.count > 0;
    counters->statements += batch.count;
    result = status == MIG_OK ? results_of(&batch, batch.count)
                              : raise_of_batch(self, &batch, status, &error);
done:
    mig_batch_release(&batch);
    Py_DECREF(statements);
    return result;
}

/* The results that have come since the last time. After a failure the batch is empty. */
static PyObject *collect_results(session_object *self, mig_status status, const mig_error *error)
{
    mig_batch *batch = &self->batch;
    bool before = keep_others_out(self);
    if (status != MIG_OK) {
        raise_of_batch(self, batch, status, error);
        if (!mig_batch_in_flight(batch))
            mig_batch_release(batch);
        self->busy = before;
        return NULL;
    }
    size_t end = mig_batch_good(batch);
    PyObject *results = results_of(batch, end);
    if (results != NULL)
        mig_batch_drop(batch, end - batch->head);
    self->busy = before;
    return results;
}

static PyObject *advance_batch(session_object *self,
                               mig_status (*function)(mig_batch *, mig_session *, mig_error *))
{
    mig_error error;
    if (enter(self) < 0)
        return NULL;
    mig_status status = function(&self->batch, &self->session, &error);
    (void)leave(self);
    return collect_results(self, status, &error);
}

/* What may be sent on is a list; what not, a text that says why; None: not before all is confirmed.
 */
static PyObject *session_submit(session_object *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"sql", "begin", "send", "prompt", "changes_nothing", NULL};
    PyObject *text;
    const char *begin = NULL;
    int send = 1, prompt = 0, changes_nothing = 0;
    char why[MIG_BATCH_REASON_SIZE];
    Py_ssize_t length;
    mig_error error;
    mig_batch *batch = &self->batch;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "U|zppp:submit", names, &text, &begin, &send,
                                     &prompt, &changes_nothing))
        return NULL;
    const char *sql = PyUnicode_AsUTF8AndSize(text, &length);
    if (sql == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_UnicodeEncodeError))
            return NULL;
        PyErr_Clear(); /* the driver says it in its own way */
        return PyUnicode_FromString("not UTF-8");
    }
    if (enter(self) < 0)
        return NULL;
    mig_status status = MIG_OK;
    size_t count = batch->count;
    mig_batch_fit fit =
        mig_batch_judge(batch, &self->session, sql, (size_t)length, begin != NULL, why);
    if (fit == MIG_BATCH_FITS) {
        if (begin != NULL)
            status = mig_batch_add_begin(batch, begin, &error);
        if (status == MIG_OK)
            status = mig_batch_add_judged(batch, sql, (size_t)length, changes_nothing != 0, &error);
        if (status != MIG_OK) {
            mig_batch_pop(batch, batch->count - count);
        } else {
            batch->statements[batch->count - 1].prompt = prompt != 0;
            count = batch->count - count;
            if (send)
                status = mig_batch_poll(batch, &self->session, &error);
        }
    }
    mig_py_counters *counters = leave(self);
    if (fit == MIG_BATCH_FITS_LATER)
        Py_RETURN_NONE;
    if (fit == MIG_BATCH_FITS_NOT)
        return PyUnicode_DecodeUTF8(why, (Py_ssize_t)strlen(why), "replace");
    counters->statements += status == MIG_OK ? count : 0;
    return collect_results(self, status, &error);
}

static PyObject *session_poll(session_object *self, PyObject *Py_UNUSED(ignored))
{
    return advance_batch(self, mig_batch_poll);
}

static PyObject *session_wait(session_object *self, PyObject *Py_UNUSED(ignored))
{
    return advance_batch(self, mig_batch_wait);
}

static PyObject *session_make_room(session_object *self, PyObject *Py_UNUSED(ignored))
{
    return advance_batch(self, mig_batch_make_room);
}

static PyObject *session_abandon(session_object *self, PyObject *Py_UNUSED(ignored))
{
    if (enter(self) < 0)
        return NULL;
    mig_batch_abandon(&self->batch, &self->session);
    (void)leave(self);
    if (!mig_batch_in_flight(&self->batch))
        mig_batch_release(&self->batch);
    Py_RETURN_NONE;
}

static PyObject *session_cancel(session_object *self, PyObject *Py_UNUSED(ignored))
{
    if (enter(self) < 0)
        return NULL;
    if (mig_batch_in_flight(&self->batch))
        mig_session_stop(&self->session);
    (void)leave(self);
    Py_RETURN_NONE;
}

static PyObject *session_drain(session_object *self, PyObject *args)
{
    int give_up = 0;
    if (!PyArg_ParseTuple(args, "|p:drain", &give_up) || enter(self) < 0)
        return NULL;
    bool in_flight = mig_batch_drain(&self->batch, &self->session, give_up != 0);
    (void)leave(self);
    if (!in_flight)
        mig_batch_release(&self->batch);
    return PyBool_FromLong(in_flight);
}

static PyObject *session_notices(session_object *self, PyObject *Py_UNUSED(ignored))
{
    if (refuse_if_busy(self) < 0)
        return NULL;
    (void)keep_others_out(self);
    PyObject *list = PyList_New(0);
    for (const mig_diagnostics *n = self->session.notices; list != NULL && n != NULL; n = n->next) {
        PyObject *fields = mig_py_fields(n, decoding(self));
        if (fields == NULL || PyList_Append(list, fields) < 0)
            Py_CLEAR(list);
        Py_XDECREF(fields);
    }
    if (list != NULL)
        mig_session_forget(&self->session);
    self->busy = false;
    return list;
}

static PyObject *session_parameter(session_object *self, PyObject *args)
{
    const char *name;
    int taken;
    if (!PyArg_ParseTuple(args, "s:parameter", &name) || look(self, &taken) < 0)
        return NULL;
    const char *value = self->session.conn != NULL
                            ? self->session.pq.PQparameterStatus(self->session.conn, name)
                            : NULL;
    PyObject *text = text_or_none(value);
    end_look(self, taken);
    return text;
}

static PyObject *session_version_heads(session_object *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"table", "schema", NULL};
    mig_version_table table = {NULL, NULL};
    mig_version_rows rows;
    mig_arena arena;
    mig_error error;
    PyObject *result = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "s|z:version_heads", names, &table.table,
                                     &table.schema) ||
        enter(self) < 0)
        return NULL;
    mig_arena_init(&arena, &mig_alloc_system);
    mig_status status = mig_version_read(&self->session, &table, &arena, &rows, &error);
    (void)leave(self);
    if (status != MIG_OK)
        result = raise(self, &error);
    else if (!rows.exists)
        result = Py_NewRef(Py_None);
    else
        result = PyTuple_New((Py_ssize_t)rows.count);
    for (size_t i = 0; status == MIG_OK && result != NULL && i < rows.count; i++) {
        PyObject *version = text_or_none(rows.versions[i]);
        if (version == NULL)
            Py_CLEAR(result);
        else
            PyTuple_SET_ITEM(result, (Py_ssize_t)i, version);
    }
    mig_arena_release(&arena);
    return result;
}

static PyObject *session_version_create(session_object *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"table", "schema", "primary_key", NULL};
    mig_version_table table = {NULL, NULL};
    int primary_key = 1;
    mig_error error;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "s|zp:version_create", names, &table.table,
                                     &table.schema, &primary_key) ||
        enter(self) < 0)
        return NULL;
    mig_status status = mig_version_create(&self->session, &table, primary_key != 0, &error);
    (void)leave(self);
    if (status != MIG_OK)
        return raise(self, &error);
    Py_RETURN_NONE;
}

static PyObject *session_version_create_sql(PyObject *Py_UNUSED(cls), PyObject *args,
                                            PyObject *kwargs)
{
    static char *names[] = {"table", "schema", "primary_key", NULL};
    mig_version_table table = {NULL, NULL};
    int primary_key = 1;
    mig_arena arena;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "s|zp:version_create_sql", names, &table.table,
                                     &table.schema, &primary_key))
        return NULL;
    mig_arena_init(&arena, &mig_alloc_system);
    const char *sql = mig_version_create_sql(&table, primary_key != 0, &arena);
    PyObject *text = sql != NULL ? text_or_none(sql) : PyErr_NoMemory();
    mig_arena_release(&arena);
    return text;
}

static PyObject *session_version_purge(session_object *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"table", "schema", NULL};
    mig_version_table table = {NULL, NULL};
    mig_error error;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "s|z:version_purge", names, &table.table,
                                     &table.schema) ||
        enter(self) < 0)
        return NULL;
    mig_status status = mig_version_purge(&self->session, &table, &error);
    (void)leave(self);
    if (status != MIG_OK)
        return raise(self, &error);
    Py_RETURN_NONE;
}

/* ('insert', to) | ('delete', from) | ('update', from, to); the strings stay the tuple's. */
static int read_operation(PyObject *item, mig_version_operation *operation)
{
    const char *action, *first, *second = NULL;
    if (!PyTuple_Check(item)) {
        PyErr_SetString(PyExc_TypeError, "an operation must be a tuple");
        return -1;
    }
    if (!PyArg_ParseTuple(item, "ss|s:operation", &action, &first, &second))
        return -1;
    if (strcmp(action, "insert") == 0 && second == NULL) {
        *operation = (mig_version_operation){MIG_VERSION_INSERT, NULL, first};
    } else if (strcmp(action, "delete") == 0 && second == NULL) {
        *operation = (mig_version_operation){MIG_VERSION_DELETE, first, NULL};
    } else if (strcmp(action, "update") == 0 && second != NULL) {
        *operation = (mig_version_operation){MIG_VERSION_UPDATE, first, second};
    } else {
        PyErr_Format(PyExc_ValueError, "no operation on the version table: %R", item);
        return -1;
    }
    return 0;
}

static PyObject *session_version_sql(session_object *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"operation", "table", "schema", NULL};
    mig_version_table table = {NULL, NULL};
    mig_version_operation operation;
    PyObject *given;
    const char *sql;
    int taken;
    mig_arena arena;
    mig_error error;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "Os|z:version_sql", names, &given, &table.table,
                                     &table.schema) ||
        read_operation(given, &operation) < 0 || look(self, &taken) < 0)
        return NULL;
    mig_arena_init(&arena, &mig_alloc_system);
    mig_status status = mig_version_sql(&self->session, &table, &operation, &arena, &sql, &error);
    end_look(self, taken);
    PyObject *result = status == MIG_OK ? text_or_none(sql) : raise(self, &error);
    mig_arena_release(&arena);
    return result;
}

static PyObject *session_version_apply(session_object *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"operations", "table", "schema", NULL};
    mig_version_table table = {NULL, NULL};
    mig_version_operation *operations = NULL;
    PyObject *given, *items = NULL, *result = NULL;
    size_t statements = 0;
    mig_error error;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "Os|z:version_apply", names, &given,
                                     &table.table, &table.schema))
        return NULL;
    /* A tuple: nobody can change it while we wait. */
    items = mig_py_tuple(given);
    if (items == NULL)
        return NULL;
    size_t count = (size_t)PyTuple_GET_SIZE(items);
    operations = PyMem_Calloc(count + 1, sizeof *operations);
    if (operations == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    for (size_t i = 0; i < count; i++)
        if (read_operation(PyTuple_GET_ITEM(items, (Py_ssize_t)i), &operations[i]) < 0)
            goto done;
    if (enter(self) < 0)
        goto done;
    mig_status status =
        mig_version_apply(&self->session, &table, operations, count, &statements, &error);
    mig_py_counters *counters = leave(self);
    counters->batches += statements > 0;
    counters->statements += statements;
    result = status == MIG_OK ? Py_NewRef(Py_None) : raise(self, &error);
done:
    PyMem_Free(operations);
    Py_DECREF(items);
    return result;
}

static PyObject *get_in_transaction(session_object *self, void *Py_UNUSED(closure))
{
    int taken;
    if (look(self, &taken) < 0)
        return NULL;
    bool open = mig_session_in_transaction(&self->session);
    end_look(self, taken);
    return PyBool_FromLong(open);
}

static PyObject *get_unsettled(session_object *self, void *Py_UNUSED(closure))
{
    return PyLong_FromSize_t(self->batch.count - self->batch.head);
}

static PyObject *get_full(session_object *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(mig_batch_is_full(&self->batch));
}

static PyObject *get_sent(session_object *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(self->session.sent);
}

static PyObject *get_confirmed(session_object *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(self->session.confirmed);
}

static PyObject *get_socket(session_object *self, void *Py_UNUSED(closure))
{
    int taken;
    if (look(self, &taken) < 0)
        return NULL;
    long socket = self->session.conn != NULL ? self->session.pq.PQsocket(self->session.conn) : -1;
    end_look(self, taken);
    return PyLong_FromLong(socket);
}

static PyObject *get_writing(session_object *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(mig_batch_in_flight(&self->batch) && self->batch.socket_is_full);
}

/* -1 with an exception set. A closed connection is closed for good, so no lock is needed. */
static int is_closed(session_object *self)
{
    if (self->session.conn == NULL || self->lease.owner == NULL || self->busy)
        return self->session.conn == NULL;
    self->busy = true; /* the owner's code may come back here */
    int good = mig_py_lease_is_good(&self->lease);
    self->busy = false;
    return good < 0 ? -1 : good == 0;
}

static PyObject *get_closed(session_object *self, void *Py_UNUSED(closure))
{
    int closed = is_closed(self);
    return closed < 0 ? NULL : PyBool_FromLong(closed);
}

static PyObject *get_server_version(session_object *self, void *Py_UNUSED(closure))
{
    int closed = is_closed(self);
    if (closed < 0)
        return NULL;
    if (closed == 0 && self->lease.owner == NULL)
        return PyLong_FromLong(self->session.pq.PQserverVersion(self->session.conn));
    return PyLong_FromLong(closed ? 0 : self->server_version);
}

static PyObject *get_backend_pid(session_object *self, void *Py_UNUSED(closure))
{
    int closed = is_closed(self);
    if (closed < 0)
        return NULL;
    if (closed == 0 && self->lease.owner == NULL)
        return PyLong_FromLong(self->session.pq.PQbackendPID(self->session.conn));
    return PyLong_FromLong(closed ? 0 : self->backend_pid);
}

static PyObject *get_library_version(session_object *self, void *Py_UNUSED(closure))
{
    return PyLong_FromLong(self->session.pq.version);
}

MIG_PY_KEYWORDS(session_connect)
MIG_PY_KEYWORDS(session_borrow)
MIG_PY_KEYWORDS(session_submit)
MIG_PY_KEYWORDS(session_version_heads)
MIG_PY_KEYWORDS(session_version_create)
MIG_PY_KEYWORDS(session_version_create_sql)
MIG_PY_KEYWORDS(session_version_purge)
MIG_PY_KEYWORDS(session_version_sql)
MIG_PY_KEYWORDS(session_version_apply)

#define PLAIN(function) ((PyCFunction)(void (*)(void))(function))

static PyMethodDef session_methods[] = {
    {"connect", MIG_PY_HELD(session_connect) | METH_CLASS,
     "connect(params: dict[str, str], library: str | None = None) -> Session"},
    {"borrow", MIG_PY_HELD(session_borrow) | METH_CLASS,
     "borrow(pgconn_ptr: int, library: str, owner: object) -> Session\n\n"
     "owner: the driver's object that has the attribute pgconn_ptr."},
    {"close", PLAIN(session_close), METH_NOARGS, "close() -> None"},
    {"query", PLAIN(session_query), METH_VARARGS,
     "query(sql: str) -> list[tuple[str | None, ...]]"},
    {"begin", PLAIN(session_begin), METH_NOARGS, "begin() -> None"},
    {"commit", PLAIN(session_commit), METH_NOARGS, "commit() -> None"},
    {"rollback", PLAIN(session_rollback), METH_NOARGS, "rollback() -> None"},
    {"run_batch", PLAIN(session_run_batch), METH_O,
     "run_batch(statements: Sequence[str]) -> list[tuple[str, int]]\n\n"
     "Command tag and affected rows (-1: none) of each. Raises ServerError with index and "
     "partial."},
    {"submit", MIG_PY_HELD(session_submit),
     "submit(sql: str, begin: str | None = None, send: bool = True, prompt: bool = False, "
     "changes_nothing: bool = False) -> list[tuple[str, int]] | str | None\n\n"
     "Queue a statement, after `begin` (the driver's BEGIN), and go on as poll() does, unless "
     "`send` is False. prompt: the server gives the result at once, not when more has gathered. "
     "changes_nothing: it changes no setting by which later texts are read. A text: it does not "
     "fit "
     "into a batch, and why; None: not before all is confirmed. In both cases nothing was done."},
    {"poll", PLAIN(session_poll), METH_NOARGS,
     "poll() -> list[tuple[str, int]]\n\nSend what waits if the server is idle. Gives the results "
     "that have come, in order; never waits. Raises as run_batch; then nothing is left."},
    {"wait", PLAIN(session_wait), METH_NOARGS,
     "wait() -> list[tuple[str, int]]\n\nWait until there are results, or nothing is unsettled."},
    {"make_room", PLAIN(session_make_room), METH_NOARGS,
     "make_room() -> list[tuple[str, int]]\n\nIf `full`, wait until it is not."},
    {"abandon", PLAIN(session_abandon), METH_NOARGS,
     "abandon() -> None\n\nCancel what runs on the server, and forget what waits."},
    {"cancel", PLAIN(session_cancel), METH_NOARGS,
     "cancel() -> None\n\nAsk the server to stop what is in flight: then drain()."},
    {"drain", PLAIN(session_drain), METH_VARARGS,
     "drain(give_up: bool = False) -> bool\n\nRead what is there, and forget it. True: something "
     "is still in flight. give_up: cut the line."},
    {"notices", PLAIN(session_notices), METH_NOARGS,
     "notices() -> list[dict[int, str]]\n\nThose since the last call, by PG_DIAG_* code."},
    {"parameter", PLAIN(session_parameter), METH_VARARGS, "parameter(name: str) -> str | None"},
    {"version_heads", MIG_PY_HELD(session_version_heads),
     "version_heads(table: str, schema: str | None = None) -> tuple[str | None, ...] | None\n\n"
     "None: there is no such table."},
    {"version_create", MIG_PY_HELD(session_version_create),
     "version_create(table: str, schema: str | None = None, primary_key: bool = True) -> None"},
    {"version_create_sql", MIG_PY_HELD(session_version_create_sql) | METH_STATIC,
     "version_create_sql(table: str, schema: str | None = None, primary_key: bool = True) -> str"
     "\n\nWhat version_create sends."},
    {"version_purge", MIG_PY_HELD(session_version_purge),
     "version_purge(table: str, schema: str | None = None) -> None"},
    {"version_sql", MIG_PY_HELD(session_version_sql),
     "version_sql(operation: tuple[str, ...], table: str, schema: str | None = None) -> str\n\n"
     "The statement of one operation of version_apply, unsent."},
    {"version_apply", MIG_PY_HELD(session_version_apply),
     "version_apply(operations: Sequence[tuple[str, ...]], table: str, schema: str | None = None) "
     "-> None\n\nRaises CommandError, with Alembic's text, when a row is missing or doubled."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef session_getset[] = {
    {"in_transaction", (getter)get_in_transaction, NULL, NULL, NULL},
    {"unsettled", (getter)get_unsettled, NULL,
     "How many submitted statements have not given their results.", NULL},
    {"full", (getter)get_full, NULL, "More waits to be sent than should: make_room().", NULL},
    {"sent", (getter)get_sent, NULL, "Statements of batches that were handed to libpq.", NULL},
    {"confirmed", (getter)get_confirmed, NULL, "Those of them whose good result has come.", NULL},
    {"socket", (getter)get_socket, NULL, "To wait for in an event loop; -1 when closed.", NULL},
    {"writing", (getter)get_writing, NULL, "Wait until it can be written, too.", NULL},
    {"server_version", (getter)get_server_version, NULL, NULL, NULL},
    {"backend_pid", (getter)get_backend_pid, NULL, NULL, NULL},
    {"library_version", (getter)get_library_version, NULL, NULL, NULL},
    {"closed", (getter)get_closed, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot session_slots[] = {
    {Py_tp_doc, "One connection to PostgreSQL: our own, or one that a driver lends us."},
    {Py_tp_methods, session_methods},
    {Py_tp_getset, session_getset},
    {Py_tp_traverse, (void *)session_traverse},
    {Py_tp_clear, (void *)session_clear},
    {Py_tp_dealloc, (void *)session_dealloc},
    {0, NULL},
};

static PyType_Spec session_spec = {
    .name = "migrate_ext._core.Session",
    .basicsize = sizeof(session_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION |
             Py_TPFLAGS_IMMUTABLETYPE,
    .slots = session_slots,
};

int mig_py_add_session(PyObject *module)
{
    mig_py_state *state = mig_py_state_of(module);
    state->session_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &session_spec, NULL);
    if (state->session_type == NULL)
        return -1;
    return PyModule_AddType(module, state->session_type);
}
