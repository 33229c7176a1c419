/* Session.version_*: the version table. */
#include "py/session_object.h"

#include <string.h>

#include "pq/version_table.h"

PyObject *mig_py_session_version_heads(mig_py_session *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"table", "schema", NULL};
    mig_version_table table = {NULL, NULL};
    mig_version_rows rows;
    mig_arena arena;
    mig_error error;
    PyObject *result = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "s|z:version_heads", names, &table.table,
                                     &table.schema) ||
        mig_py_session_enter(self) < 0)
        return NULL;
    mig_arena_init(&arena, &mig_alloc_system);
    mig_status status = mig_version_read(&self->session, &table, &arena, &rows, &error);
    (void)mig_py_session_leave(self);
    if (status != MIG_OK)
        result = mig_py_session_raise(self, &error);
    else if (!rows.exists)
        result = Py_NewRef(Py_None);
    else
        result = PyTuple_New((Py_ssize_t)rows.count);
    for (size_t i = 0; status == MIG_OK && result != NULL && i < rows.count; i++) {
        PyObject *version = mig_py_text_or_none(rows.versions[i]);
        if (version == NULL)
            Py_CLEAR(result);
        else
            PyTuple_SET_ITEM(result, (Py_ssize_t)i, version);
    }
    mig_arena_release(&arena);
    return result;
}

PyObject *mig_py_session_version_create(mig_py_session *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"table", "schema", "primary_key", NULL};
    mig_version_table table = {NULL, NULL};
    int primary_key = 1;
    mig_error error;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "s|zp:version_create", names, &table.table,
                                     &table.schema, &primary_key) ||
        mig_py_session_enter(self) < 0)
        return NULL;
    mig_status status = mig_version_create(&self->session, &table, primary_key != 0, &error);
    (void)mig_py_session_leave(self);
    if (status != MIG_OK)
        return mig_py_session_raise(self, &error);
    Py_RETURN_NONE;
}

PyObject *mig_py_session_version_create_sql(PyObject *Py_UNUSED(cls), PyObject *args,
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
    PyObject *text = sql != NULL ? mig_py_text_or_none(sql) : PyErr_NoMemory();
    mig_arena_release(&arena);
    return text;
}

PyObject *mig_py_session_version_purge(mig_py_session *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"table", "schema", NULL};
    mig_version_table table = {NULL, NULL};
    mig_error error;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "s|z:version_purge", names, &table.table,
                                     &table.schema) ||
        mig_py_session_enter(self) < 0)
        return NULL;
    mig_status status = mig_version_purge(&self->session, &table, &error);
    (void)mig_py_session_leave(self);
    if (status != MIG_OK)
        return mig_py_session_raise(self, &error);
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

PyObject *mig_py_session_version_sql(mig_py_session *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"operation", "table", "schema", NULL};
    mig_version_table table = {NULL, NULL};
    mig_version_operation operation;
    PyObject *given;
    const char *sql;
    mig_arena arena;
    mig_error error;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "Os|z:version_sql", names, &given, &table.table,
                                     &table.schema) ||
        read_operation(given, &operation) < 0 || mig_py_session_look(self) < 0)
        return NULL;
    mig_arena_init(&arena, &mig_alloc_system);
    mig_status status = mig_version_sql(&self->session, &table, &operation, &arena, &sql, &error);
    mig_py_session_end_look(self);
    PyObject *result =
        status == MIG_OK ? mig_py_text_or_none(sql) : mig_py_session_raise(self, &error);
    mig_arena_release(&arena);
    return result;
}

PyObject *mig_py_session_version_apply(mig_py_session *self, PyObject *args, PyObject *kwargs)
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
    if (mig_py_session_enter(self) < 0)
        goto done;
    mig_status status =
        mig_version_apply(&self->session, &table, operations, count, &statements, &error);
    mig_py_counters *counters = mig_py_session_leave(self);
    counters->batches += statements > 0;
    counters->statements += statements;
    result = status == MIG_OK ? Py_NewRef(Py_None) : mig_py_session_raise(self, &error);
done:
    PyMem_Free(operations);
    Py_DECREF(items);
    return result;
}
