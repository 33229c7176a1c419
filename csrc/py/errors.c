/* The one place where a mig_status becomes an exception. */
#include "py/module.h"

#include "py/server_error.h"

PyObject *mig_py_error_class(const char *name)
{
    PyObject *errors = PyImport_ImportModule("migrate_ext.errors");
    if (errors == NULL)
        return NULL;
    PyObject *found = PyObject_GetAttrString(errors, name);
    Py_DECREF(errors);
    return found;
}

/* Not PyErr_SetString: what a server or the file system calls a name need not be UTF-8. */
static PyObject *raise_text(PyObject *cls, const char *message)
{
    PyObject *text = PyUnicode_DecodeUTF8(message, (Py_ssize_t)strlen(message), "replace");
    if (text != NULL)
        PyErr_SetObject(cls, text);
    Py_XDECREF(text);
    return NULL;
}

PyObject *mig_py_raise(const mig_error *error)
{
    const char *name = NULL;
    switch (error->code) {
    case MIG_ENOMEM:
        return PyErr_NoMemory();
    case MIG_EINTR:
        if (!PyErr_Occurred())
            PyErr_SetNone(PyExc_KeyboardInterrupt);
        return NULL;
    case MIG_EIO:
        return raise_text(PyExc_OSError, error->msg);
    case MIG_ECONNECT:
        name = "ConnectError";
        break;
    case MIG_ESERVER:
        name = "ServerError";
        break;
    case MIG_EDECLINED:
        name = "Declined";
        break;
    case MIG_EVERSION:
        name = "CommandError";
        break;
    case MIG_EREVISION:
        name = "RevisionError";
        break;
    case MIG_EINTERNAL:
        name = "InternalError";
        break;
    case MIG_OK:
    case MIG_EINVAL:
        return raise_text(PyExc_ValueError, error->msg);
    }
    PyObject *cls = mig_py_error_class(name);
    if (cls != NULL)
        raise_text(cls, error->msg);
    Py_XDECREF(cls);
    return NULL;
}

PyObject *mig_py_raise_named(PyObject *errors, const char *name, PyObject *argument)
{
    if (argument == NULL)
        return NULL;
    PyObject *cls = PyObject_GetAttrString(errors, name);
    PyObject *exception = NULL;
    if (cls != NULL)
        exception = PyTuple_Check(argument) ? PyObject_CallObject(cls, argument)
                                            : PyObject_CallOneArg(cls, argument);
    if (exception != NULL)
        PyErr_SetObject(cls, exception);
    Py_XDECREF(exception);
    Py_XDECREF(cls);
    Py_DECREF(argument);
    return NULL;
}

static PyObject *text_of(mig_text name)
{
    return PyUnicode_DecodeUTF8(name.text, (Py_ssize_t)name.length, "replace");
}

static PyObject *texts_of(const mig_graph_error *error)
{
    PyObject *list = PyList_New((Py_ssize_t)error->name_count);
    for (size_t i = 0; list != NULL && i < error->name_count; i++) {
        PyObject *text = text_of(error->names[i]);
        if (text == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, (Py_ssize_t)i, text);
    }
    return list;
}

PyObject *mig_py_raise_graph(PyObject *errors, mig_status status, const mig_graph_error *error,
                             PyObject *lower, PyObject *upper)
{
    PyObject *names;
    if (status == MIG_ENOMEM)
        return PyErr_NoMemory();
    switch (error->kind) {
    case MIG_GRAPH_NONE:
        return PyErr_NoMemory();
    case MIG_GRAPH_REVISION:
        return mig_py_raise_named(errors, "RevisionError", text_of(error->message));
    case MIG_GRAPH_LOOP:
        return mig_py_raise_named(errors, "LoopDetected", text_of(error->names[0]));
    case MIG_GRAPH_DEPENDENCY_LOOP:
        return mig_py_raise_named(errors, "DependencyLoopDetected", text_of(error->names[0]));
    case MIG_GRAPH_CYCLE:
        return mig_py_raise_named(errors, "CycleDetected", texts_of(error));
    case MIG_GRAPH_DEPENDENCY_CYCLE:
        return mig_py_raise_named(errors, "DependencyCycleDetected", texts_of(error));
    case MIG_GRAPH_MULTIPLE_HEADS:
        names = texts_of(error);
        if (names != NULL)
            Py_SETREF(names, mig_py_tuple(names));
        if (names == NULL)
            return NULL;
        return mig_py_raise_named(errors, "MultipleHeads",
                                  Py_BuildValue("(NN)", names, text_of(error->argument)));
    case MIG_GRAPH_RESOLUTION:
        return mig_py_raise_named(
            errors, "ResolutionError",
            Py_BuildValue("(NN)", text_of(error->message), text_of(error->argument)));
    case MIG_GRAPH_RANGE:
        if (error->argument.text == NULL)
            return mig_py_raise_named(errors, "RangeNotAncestorError",
                                      PyTuple_Pack(2, lower, upper));
        return mig_py_raise_named(errors, "RangeNotAncestorError",
                                  Py_BuildValue("(NO)", text_of(error->argument), upper));
    case MIG_GRAPH_MISSING:
    case MIG_GRAPH_DECLINED: {
        /* Alembic has no class for these. */
        PyObject *own = PyImport_ImportModule("migrate_ext.errors");
        if (own == NULL)
            return NULL;
        if (error->kind == MIG_GRAPH_DECLINED)
            mig_py_raise_named(own, "Declined", text_of(error->message));
        else
            mig_py_raise_named(own, "MissingRevision",
                               Py_BuildValue("(NIO)", text_of(error->names[0]),
                                             (unsigned int)error->record,
                                             error->warns ? Py_True : Py_False));
        Py_DECREF(own);
        return NULL;
    }
    case MIG_GRAPH_ASSERTION:
        names = text_of(error->message);
        if (names != NULL)
            PyErr_SetObject(PyExc_AssertionError, names);
        Py_XDECREF(names);
        return NULL;
    case MIG_GRAPH_KEY:
        names = text_of(error->names[0]);
        if (names != NULL)
            PyErr_SetObject(PyExc_KeyError, names);
        Py_XDECREF(names);
        return NULL;
    }
    return NULL;
}

/* {code: text} */
PyObject *mig_py_fields(const mig_diagnostics *diagnostics, const char *errors)
{
    PyObject *fields = PyDict_New();
    for (size_t i = 0; fields != NULL && i < diagnostics->count; i++) {
        PyObject *code = PyLong_FromLong(diagnostics->codes[i]);
        PyObject *text = PyUnicode_DecodeUTF8(diagnostics->texts[i],
                                              (Py_ssize_t)strlen(diagnostics->texts[i]), errors);
        if (code == NULL || text == NULL || PyDict_SetItem(fields, code, text) < 0)
            Py_CLEAR(fields);
        Py_XDECREF(code);
        Py_XDECREF(text);
    }
    return fields;
}

static int set_attribute(PyObject *object, const char *name, PyObject *value)
{
    int status = value != NULL ? PyObject_SetAttrString(object, name, value) : -1;
    Py_XDECREF(value);
    return status;
}

PyObject *mig_py_raise_server(const mig_error *error, const mig_diagnostics *diagnostics,
                              Py_ssize_t index, PyObject *partial, const char *errors)
{
    if (error->code != MIG_ESERVER)
        return mig_py_raise(error);
    PyObject *cls = mig_py_error_class("ServerError"), *text = NULL, *exception = NULL;
    if (cls == NULL)
        goto done;
    const char *message = diagnostics->message != NULL ? diagnostics->message : error->msg;
    text = PyUnicode_DecodeUTF8(message, (Py_ssize_t)strlen(message), errors);
    if (text == NULL)
        goto done;
    exception = PyObject_CallOneArg(cls, text);
    if (exception == NULL)
        goto done;
    PyObject *sqlstate = diagnostics->sqlstate[0] != '\0'
                             ? PyUnicode_FromString(diagnostics->sqlstate)
                             : Py_NewRef(Py_None);
    if (set_attribute(exception, "sqlstate", sqlstate) == 0 &&
        set_attribute(exception, "fields", mig_py_fields(diagnostics, errors)) == 0 &&
        set_attribute(exception, "index", PyLong_FromSsize_t(index)) == 0 &&
        set_attribute(exception, "partial",
                      partial != NULL ? Py_NewRef(partial) : PyTuple_New(0)) == 0)
        PyErr_SetObject(cls, exception);
done:
    Py_XDECREF(exception);
    Py_XDECREF(text);
    Py_XDECREF(cls);
    return NULL;
}
