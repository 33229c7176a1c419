/* Session.version_*: the version table. */
#include "py/session_object.h"

#include <string.h>

#include "pq/version_table.h"
#include "py/version_operations.h"

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
    mig_status status = mig_version_table_read(&self->session, &table, &arena, &rows, &error);
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
    mig_status status = mig_version_table_create(&self->session, &table, primary_key != 0, &error);
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
    const char *sql = mig_version_table_create_sql(&table, primary_key != 0, &arena);
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
    mig_status status = mig_version_table_purge(&self->session, &table, &error);
    (void)mig_py_session_leave(self);
    if (status != MIG_OK)
        return mig_py_session_raise(self, &error);
    Py_RETURN_NONE;
}

PyObject *mig_py_session_version_sql(mig_py_session *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"operation", "table", "schema", NULL};
    mig_version_table table = {NULL, NULL};
    mig_version_op op;
    PyObject *given;
    const char *sql;
    mig_arena arena;
    mig_error error;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "Os|z:version_sql", names, &given, &table.table,
                                     &table.schema) ||
        mig_py_version_op_read(given, &op) < 0 || mig_py_session_look(self) < 0)
        return NULL;
    mig_arena_init(&arena, &mig_alloc_system);
    mig_status status = mig_version_op_sql(&self->session, &table, &op, &arena, &sql, &error);
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
    mig_py_version_ops_argument ops = {0};
    PyObject *given, *result = NULL;
    size_t statements = 0;
    mig_error error;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "Os|z:version_apply", names, &given,
                                     &table.table, &table.schema))
        return NULL;
    if (mig_py_version_ops_read(mig_py_state_of_type(Py_TYPE(self)), given, &ops) < 0 ||
        mig_py_session_enter(self) < 0)
        goto done;
    mig_status status =
        mig_version_table_apply(&self->session, &table, ops.items, ops.count, &statements, &error);
    mig_py_counters *counters = mig_py_session_leave(self);
    counters->batches += statements > 0;
    counters->statements += statements;
    result = status == MIG_OK ? Py_NewRef(Py_None) : mig_py_session_raise(self, &error);
done:
    mig_py_version_ops_release(&ops);
    return result;
}
