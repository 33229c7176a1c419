/*
 * _core.Session: one connection, our own or a driver's. A session that is waiting refuses calls
 * from other threads and from signal handlers.
 */
#include "py/session_object.h"

#include <stdbool.h>
#include <string.h>

#include "pq/connect.h"

/* Hidden: the caller shows it when it is connected. */
static mig_py_session *new_session(PyTypeObject *type, mig_libpq *pq)
{
    mig_py_session *self = (mig_py_session *)mig_py_hide(type->tp_alloc(type, 0));
    if (self == NULL) {
        mig_libpq_release(pq);
        return NULL;
    }
    mig_session_init(&self->session, pq, &mig_alloc_system, mig_py_session_hook(self));
    mig_batch_init(&self->batch, &mig_alloc_system);
    self->state = MIG_PY_SESSION_IDLE;
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
    mig_py_session *self = NULL;
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
    Py_BEGIN_ALLOW_THREADS
    status = mig_libpq_load(&pq, file, &error);
    Py_END_ALLOW_THREADS
    if (status != MIG_OK) {
        (void)mig_py_raise(&error);
        goto done;
    }
    self = new_session((PyTypeObject *)cls, &pq);
    if (self == NULL || mig_py_session_enter(self) < 0)
        goto done;
    status = mig_session_connect(&self->session, keywords, values, (size_t)PyDict_GET_SIZE(params),
                                 &error);
    (void)mig_py_session_leave(self);
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
    mig_py_session *self = new_session((PyTypeObject *)cls, &pq);
    if (self == NULL)
        return NULL;
    self->session.conn = conn;
    if (mig_py_lease_init(&self->lease, owner, conn) < 0 || mig_py_session_enter(self) < 0)
        goto failed;
    status = self->session.conn != NULL
                 ? mig_session_borrow(&self->session, conn, &error)
                 : mig_fail(&error, MIG_ECONNECT, "the driver's connection is closed");
    self->server_version = self->session.pq.PQserverVersion(self->session.conn);
    self->backend_pid = self->session.pq.PQbackendPID(self->session.conn);
    (void)mig_py_session_leave(self);
    if (status == MIG_OK)
        return mig_py_show((PyObject *)self);
    (void)mig_py_raise(&error);
failed:
    self->session.conn = NULL; /* it is not ours to close */
    Py_DECREF(self);
    return NULL;
}

static int session_traverse(mig_py_session *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->lease.owner);
    return 0;
}

static int session_clear(mig_py_session *self)
{
    if (self->state != MIG_PY_SESSION_RAW) {
        mig_py_session_state before =
            mig_py_session_keep_out(self); /* the owner's code, in a cycle that is collected */
        mig_py_session_break_flight(self);
        self->state = before;
        mig_batch_release(&self->batch);
        mig_session_release(&self->session);
    }
    mig_py_lease_clear(&self->lease);
    return 0;
}

static void session_dealloc(mig_py_session *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)session_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *session_close(mig_py_session *self, PyObject *Py_UNUSED(ignored))
{
    if (mig_py_session_enter(self) < 0)
        return NULL;
    mig_batch_abandon(&self->batch, &self->session);
    (void)mig_py_session_leave(self);
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
            PyObject *text = mig_py_text_or_none(rows->values[y * rows->columns + x]);
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

static PyObject *session_query(mig_py_session *self, PyObject *args)
{
    const char *sql;
    mig_arena arena;
    mig_rows rows;
    mig_error error;
    if (!PyArg_ParseTuple(args, "s:query", &sql) || mig_py_session_enter(self) < 0)
        return NULL;
    mig_arena_init(&arena, &mig_alloc_system);
    mig_status status = mig_session_query(&self->session, sql, &arena, &rows, &error);
    (void)mig_py_session_leave(self);
    PyObject *result = status == MIG_OK ? rows_as_list(&rows) : mig_py_session_raise(self, &error);
    mig_arena_release(&arena);
    return result;
}

static PyObject *without_answer(mig_py_session *self,
                                mig_status (*function)(mig_session *, mig_error *))
{
    mig_error error;
    if (mig_py_session_enter(self) < 0)
        return NULL;
    mig_status status = function(&self->session, &error);
    (void)mig_py_session_leave(self);
    if (status != MIG_OK)
        return mig_py_session_raise(self, &error);
    Py_RETURN_NONE;
}

static PyObject *session_begin(mig_py_session *self, PyObject *Py_UNUSED(ignored))
{
    return without_answer(self, mig_session_begin);
}

static PyObject *session_commit(mig_py_session *self, PyObject *Py_UNUSED(ignored))
{
    return without_answer(self, mig_session_commit);
}

static PyObject *session_rollback(mig_py_session *self, PyObject *Py_UNUSED(ignored))
{
    return without_answer(self, mig_session_rollback);
}

static PyObject *session_notices(mig_py_session *self, PyObject *Py_UNUSED(ignored))
{
    if (mig_py_session_refuse_if_busy(self) < 0)
        return NULL;
    (void)mig_py_session_keep_out(self);
    PyObject *list = PyList_New(0);
    for (const mig_diagnostics *n = self->session.notices; list != NULL && n != NULL; n = n->next) {
        PyObject *fields = mig_py_fields(n, mig_py_session_decoding(self));
        if (fields == NULL || PyList_Append(list, fields) < 0)
            Py_CLEAR(list);
        Py_XDECREF(fields);
    }
    if (list != NULL)
        mig_session_forget(&self->session);
    self->state = MIG_PY_SESSION_IDLE;
    return list;
}

static PyObject *session_parameter(mig_py_session *self, PyObject *args)
{
    const char *name;
    if (!PyArg_ParseTuple(args, "s:parameter", &name) || mig_py_session_look(self) < 0)
        return NULL;
    const char *value = self->session.conn != NULL
                            ? self->session.pq.PQparameterStatus(self->session.conn, name)
                            : NULL;
    PyObject *text = mig_py_text_or_none(value);
    mig_py_session_end_look(self);
    return text;
}

static PyObject *get_in_transaction(mig_py_session *self, void *Py_UNUSED(closure))
{
    if (mig_py_session_look(self) < 0)
        return NULL;
    bool open = mig_session_in_transaction(&self->session);
    mig_py_session_end_look(self);
    return PyBool_FromLong(open);
}

static PyObject *get_pending(mig_py_session *self, void *Py_UNUSED(closure))
{
    return PyLong_FromSize_t(self->batch.count - self->batch.head);
}

static PyObject *get_full(mig_py_session *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(mig_batch_is_full(&self->batch));
}

static PyObject *get_sent(mig_py_session *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(self->session.sent);
}

static PyObject *get_confirmed(mig_py_session *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(self->session.confirmed);
}

static PyObject *get_socket(mig_py_session *self, void *Py_UNUSED(closure))
{
    if (mig_py_session_look(self) < 0)
        return NULL;
    long socket = self->session.conn != NULL ? self->session.pq.PQsocket(self->session.conn) : -1;
    mig_py_session_end_look(self);
    return PyLong_FromLong(socket);
}

static PyObject *get_writing(mig_py_session *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(mig_batch_in_flight(&self->batch) && self->batch.socket_is_full);
}

static PyObject *get_closed(mig_py_session *self, void *Py_UNUSED(closure))
{
    int closed = mig_py_session_is_closed(self);
    return closed < 0 ? NULL : PyBool_FromLong(closed);
}

/* 0 when closed; of a driver's connection, what `ask` said when it was borrowed. */
static PyObject *server_fact(mig_py_session *self, int (*ask)(const PGconn *), int as_borrowed)
{
    int closed = mig_py_session_is_closed(self);
    if (closed < 0)
        return NULL;
    if (closed > 0)
        return PyLong_FromLong(0);
    return PyLong_FromLong(self->lease.owner == NULL ? ask(self->session.conn) : as_borrowed);
}

static PyObject *get_server_version(mig_py_session *self, void *Py_UNUSED(closure))
{
    return server_fact(self, self->session.pq.PQserverVersion, self->server_version);
}

static PyObject *get_backend_pid(mig_py_session *self, void *Py_UNUSED(closure))
{
    return server_fact(self, self->session.pq.PQbackendPID, self->backend_pid);
}

static PyObject *get_library_version(mig_py_session *self, void *Py_UNUSED(closure))
{
    return PyLong_FromLong(self->session.pq.version);
}

MIG_PY_KEYWORDS(session_connect)
MIG_PY_KEYWORDS(session_borrow)
MIG_PY_KEYWORDS(mig_py_session_submit)
MIG_PY_KEYWORDS(mig_py_session_version_heads)
MIG_PY_KEYWORDS(mig_py_session_version_create)
MIG_PY_KEYWORDS(mig_py_session_version_create_sql)
MIG_PY_KEYWORDS(mig_py_session_version_purge)
MIG_PY_KEYWORDS(mig_py_session_version_sql)
MIG_PY_KEYWORDS(mig_py_session_version_apply)

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
    {"run_batch", PLAIN(mig_py_session_run_batch), METH_O,
     "run_batch(statements: Sequence[str]) -> list[tuple[str, int]]\n\n"
     "Command tag and affected rows (-1: none) of each. Raises ServerError with index and "
     "partial."},
    {"submit", MIG_PY_HELD(mig_py_session_submit),
     "submit(sql: str, begin: str | None = None, send: bool = True, prompt: bool = False, "
     "changes_nothing: bool = False, params: tuple = ()) -> list[tuple[str, int]] | str | None\n\n"
     "Queue a statement, after `begin` (the driver's BEGIN), and go on as poll() does, unless "
     "`send` is False. prompt: the server gives the result at once, not when more has gathered. "
     "changes_nothing: it changes no setting by which later texts are read. params: its "
     "parameters as "
     "(types, values, formats) for libpq's PQsendQueryParams. A text: it does not "
     "fit "
     "into a batch, and why; None: not before all is confirmed. In both cases nothing was done."},
    {"poll", PLAIN(mig_py_session_poll), METH_NOARGS,
     "poll() -> list[tuple[str, int]]\n\nSend what waits if the server is idle. Gives the results "
     "that have come, in order; never waits. Raises as run_batch; then nothing is left."},
    {"send_rest", PLAIN(mig_py_session_send_rest), METH_NOARGS,
     "send_rest() -> list[tuple[str, int]]\n\nAs poll(), before a wait for everything: send what "
     "waits at once, behind what is in flight."},
    {"wait", PLAIN(mig_py_session_wait), METH_NOARGS,
     "wait() -> list[tuple[str, int]]\n\nWait until there are results, or none is missing."},
    {"make_room", PLAIN(mig_py_session_make_room), METH_NOARGS,
     "make_room() -> list[tuple[str, int]]\n\nIf `full`, wait until it is not."},
    {"abandon", PLAIN(mig_py_session_abandon), METH_NOARGS,
     "abandon() -> None\n\nCancel what runs on the server, and forget what waits."},
    {"cancel", PLAIN(mig_py_session_cancel), METH_NOARGS,
     "cancel() -> None\n\nAsk the server to stop what is in flight: then drain()."},
    {"drain", PLAIN(mig_py_session_drain), METH_VARARGS,
     "drain(give_up: bool = False) -> bool\n\nRead what is there, and forget it. True: something "
     "is still in flight. give_up: break the connection."},
    {"notices", PLAIN(session_notices), METH_NOARGS,
     "notices() -> list[dict[int, str]]\n\nThose since the last call, by PG_DIAG_* code."},
    {"parameter", PLAIN(session_parameter), METH_VARARGS, "parameter(name: str) -> str | None"},
    {"version_heads", MIG_PY_HELD(mig_py_session_version_heads),
     "version_heads(table: str, schema: str | None = None) -> tuple[str | None, ...] | None\n\n"
     "None: there is no such table."},
    {"version_create", MIG_PY_HELD(mig_py_session_version_create),
     "version_create(table: str, schema: str | None = None, primary_key: bool = True) -> None"},
    {"version_create_sql", MIG_PY_HELD(mig_py_session_version_create_sql) | METH_STATIC,
     "version_create_sql(table: str, schema: str | None = None, primary_key: bool = True) -> str"
     "\n\nWhat version_create sends."},
    {"version_purge", MIG_PY_HELD(mig_py_session_version_purge),
     "version_purge(table: str, schema: str | None = None) -> None"},
    {"version_sql", MIG_PY_HELD(mig_py_session_version_sql),
     "version_sql(operation: tuple[str, ...], table: str, schema: str | None = None) -> str\n\n"
     "The statement of one operation of version_apply, unsent."},
    {"version_apply", MIG_PY_HELD(mig_py_session_version_apply),
     "version_apply(operations: Sequence[tuple[str, ...]], table: str, schema: str | None = None) "
     "-> None\n\nRaises CommandError, with Alembic's text, when a row is missing or doubled."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef session_getset[] = {
    {"in_transaction", (getter)get_in_transaction, NULL, NULL, NULL},
    {"pending", (getter)get_pending, NULL,
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
    {Py_tp_doc, "One connection to PostgreSQL: our own, or one borrowed from a driver."},
    {Py_tp_methods, session_methods},
    {Py_tp_getset, session_getset},
    {Py_tp_traverse, (void *)session_traverse},
    {Py_tp_clear, (void *)session_clear},
    {Py_tp_dealloc, (void *)session_dealloc},
    {0, NULL},
};

static PyType_Spec session_spec = {
    .name = "migrate_ext._core.Session",
    .basicsize = sizeof(mig_py_session),
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
