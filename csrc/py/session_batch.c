/* Session.run_batch, and the batch that is sent while it is filled: .submit to .drain. */
#include "py/session_object.h"

#include <limits.h>
#include <string.h>

enum { MOST_PARAMS = 65535 }; /* the protocol counts them in two bytes */

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

/* Raise the failure of a batch. MIG_EINTR has its exception already. */
static PyObject *raise_of_batch(mig_py_session *self, const mig_batch *batch, mig_status status,
                                const mig_error *error)
{
    if (status != MIG_ESERVER || batch->failed == MIG_BATCH_NONE)
        return mig_py_session_raise(self, error);
    mig_py_session_state busy = mig_py_session_keep_out(self);
    PyObject *before = results_of(batch, batch->failed);
    PyObject *partial = before != NULL ? mig_py_tuple(before) : NULL;
    if (partial != NULL)
        (void)mig_py_raise_server(error, &self->session.diagnostics,
                                  (Py_ssize_t)(batch->failed - batch->head), partial,
                                  mig_py_session_decoding(self));
    Py_XDECREF(partial);
    Py_XDECREF(before);
    self->state = busy;
    return NULL;
}

PyObject *mig_py_session_run_batch(mig_py_session *self, PyObject *argument)
{
    mig_batch batch;
    mig_error error;
    PyObject *result = NULL;
    PyObject *statements = PySequence_Fast(argument, "statements must be a sequence of str");
    if (statements == NULL)
        return NULL;
    mig_batch_init(&batch, &mig_alloc_system);
    if (add_statements(&batch, statements) < 0 || mig_py_session_enter(self) < 0)
        goto done;
    mig_status status = mig_batch_run(&batch, &self->session, &error);
    mig_py_counters *counters = mig_py_session_leave(self);
    counters->batches += batch.count > 0;
    counters->statements += batch.count;
    result = status == MIG_OK ? results_of(&batch, batch.count)
                              : raise_of_batch(self, &batch, status, &error);
done:
    mig_batch_release(&batch);
    Py_DECREF(statements);
    return result;
}

/* The results that have come since the last call. After a failure the batch is empty. */
static PyObject *collect_results(mig_py_session *self, mig_status status, const mig_error *error)
{
    mig_batch *batch = &self->batch;
    mig_py_session_state before = mig_py_session_keep_out(self);
    if (status != MIG_OK) {
        raise_of_batch(self, batch, status, error);
        if (!mig_batch_in_flight(batch))
            mig_batch_release(batch);
        self->state = before;
        return NULL;
    }
    size_t end = mig_batch_good(batch);
    PyObject *results = results_of(batch, end);
    if (results != NULL)
        mig_batch_drop(batch, end - batch->head);
    self->state = before;
    return results;
}

static PyObject *advance_batch(mig_py_session *self,
                               mig_status (*function)(mig_batch *, mig_session *, mig_error *))
{
    mig_error error;
    if (mig_py_session_enter(self) < 0)
        return NULL;
    mig_status status = function(&self->batch, &self->session, &error);
    (void)mig_py_session_leave(self);
    return collect_results(self, status, &error);
}

/* Fills `params` from a tuple (types, values, formats) of tuples: ints, bytes or None, ints; from
 * an empty one or NULL, with none. It points into these, and into the arena. -1: an exception is
 * set. */
static int params_from(PyObject *given, mig_arena *arena, mig_batch_params *params)
{
    PyObject *of[3];
    memset(params, 0, sizeof *params);
    if (given == NULL || PyTuple_GET_SIZE(given) == 0)
        return 0;
    if (!PyArg_ParseTuple(given, "O!O!O!;params must be (types, values, formats)", &PyTuple_Type,
                          &of[0], &PyTuple_Type, &of[1], &PyTuple_Type, &of[2]))
        return -1;
    Py_ssize_t count = PyTuple_GET_SIZE(of[1]);
    if (PyTuple_GET_SIZE(of[0]) != count || PyTuple_GET_SIZE(of[2]) != count ||
        count > MOST_PARAMS) {
        PyErr_SetString(PyExc_ValueError, "params must be three tuples of one length");
        return -1;
    }
    Oid *types = mig_arena_get_array(arena, (size_t)count, sizeof *types);
    const char **values = mig_arena_get_array(arena, (size_t)count, sizeof *values);
    int *numbers = mig_arena_get_array(arena, (size_t)count * 2, sizeof *numbers);
    if (types == NULL || values == NULL || numbers == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *value = PyTuple_GET_ITEM(of[1], i);
        unsigned long type = PyLong_AsUnsignedLong(PyTuple_GET_ITEM(of[0], i));
        long format = PyErr_Occurred() ? -1 : PyLong_AsLong(PyTuple_GET_ITEM(of[2], i));
        if (PyErr_Occurred())
            return -1;
        bool is_bytes = PyBytes_CheckExact(value);
        if (type > UINT32_MAX || (format != 0 && format != 1) || (!is_bytes && value != Py_None) ||
            (is_bytes && PyBytes_GET_SIZE(value) > INT_MAX)) {
            PyErr_SetString(PyExc_ValueError, "a parameter of another type");
            return -1;
        }
        types[i] = (Oid)type;
        values[i] = is_bytes ? PyBytes_AS_STRING(value) : NULL;
        numbers[i] = is_bytes ? (int)PyBytes_GET_SIZE(value) : 0;
        numbers[count + i] = (int)format;
    }
    *params = (mig_batch_params){(int)count, types, values, numbers, numbers + count};
    return 0;
}

/* Returns a list of results; or, with nothing queued, a text that says why the statement does not
 * fit, or None if it may fit once everything is confirmed.
 */
PyObject *mig_py_session_submit(mig_py_session *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"sql", "begin", "send", "prompt", "changes_nothing", "params", NULL};
    PyObject *text, *given = NULL;
    const char *begin = NULL;
    int send = 1, prompt = 0, changes_nothing = 0;
    char why[MIG_BATCH_REASON_SIZE];
    Py_ssize_t length;
    mig_error error;
    mig_batch *batch = &self->batch;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "U|zpppO!:submit", names, &text, &begin, &send,
                                     &prompt, &changes_nothing, &PyTuple_Type, &given))
        return NULL;
    const char *sql = PyUnicode_AsUTF8AndSize(text, &length);
    if (sql == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_UnicodeEncodeError))
            return NULL;
        PyErr_Clear(); /* the driver raises its own error */
        return PyUnicode_FromString("not UTF-8");
    }
    mig_arena arena;
    mig_batch_params params;
    mig_arena_init(&arena, &mig_alloc_system);
    if (params_from(given, &arena, &params) < 0 || mig_py_session_enter(self) < 0) {
        mig_arena_release(&arena);
        return NULL;
    }
    mig_status status = MIG_OK;
    size_t count = batch->count;
    mig_batch_fit fit = mig_batch_judge_params(batch, &self->session, sql, (size_t)length, &params,
                                               begin != NULL, why);
    if (fit == MIG_BATCH_FITS) {
        if (begin != NULL)
            status = mig_batch_add_begin(batch, begin, &error);
        if (status == MIG_OK)
            status = mig_batch_add_params(batch, sql, (size_t)length, &params, changes_nothing != 0,
                                          &error);
        if (status != MIG_OK) {
            mig_batch_pop(batch, batch->count - count);
        } else {
            batch->statements[batch->count - 1].prompt = prompt != 0;
            count = batch->count - count;
            if (send)
                status = mig_batch_poll(batch, &self->session, &error);
        }
    }
    mig_arena_release(&arena);
    mig_py_counters *counters = mig_py_session_leave(self);
    if (fit == MIG_BATCH_FITS_LATER)
        Py_RETURN_NONE;
    if (fit == MIG_BATCH_FITS_NOT)
        return PyUnicode_DecodeUTF8(why, (Py_ssize_t)strlen(why), "replace");
    counters->statements += status == MIG_OK ? count : 0;
    return collect_results(self, status, &error);
}

PyObject *mig_py_session_poll(mig_py_session *self, PyObject *Py_UNUSED(ignored))
{
    return advance_batch(self, mig_batch_poll);
}

PyObject *mig_py_session_send_rest(mig_py_session *self, PyObject *Py_UNUSED(ignored))
{
    return advance_batch(self, mig_batch_send_rest);
}

PyObject *mig_py_session_wait(mig_py_session *self, PyObject *Py_UNUSED(ignored))
{
    return advance_batch(self, mig_batch_wait);
}

PyObject *mig_py_session_make_room(mig_py_session *self, PyObject *Py_UNUSED(ignored))
{
    return advance_batch(self, mig_batch_make_room);
}

PyObject *mig_py_session_abandon(mig_py_session *self, PyObject *Py_UNUSED(ignored))
{
    if (mig_py_session_enter(self) < 0)
        return NULL;
    mig_batch_abandon(&self->batch, &self->session);
    (void)mig_py_session_leave(self);
    if (!mig_batch_in_flight(&self->batch))
        mig_batch_release(&self->batch);
    Py_RETURN_NONE;
}

PyObject *mig_py_session_cancel(mig_py_session *self, PyObject *Py_UNUSED(ignored))
{
    if (mig_py_session_enter(self) < 0)
        return NULL;
    if (mig_batch_in_flight(&self->batch))
        mig_session_stop(&self->session);
    (void)mig_py_session_leave(self);
    Py_RETURN_NONE;
}

PyObject *mig_py_session_drain(mig_py_session *self, PyObject *args)
{
    int give_up = 0;
    if (!PyArg_ParseTuple(args, "|p:drain", &give_up) || mig_py_session_enter(self) < 0)
        return NULL;
    bool in_flight = mig_batch_drain(&self->batch, &self->session, give_up != 0);
    (void)mig_py_session_leave(self);
    if (!in_flight)
        mig_batch_release(&self->batch);
    return PyBool_FromLong(in_flight);
}
