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
        PyErr_SetString(PyExc_OSError, error->msg);
        return NULL;
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
    case MIG_OK:
    case MIG_EINVAL:
        PyErr_SetString(PyExc_ValueError, error->msg);
        return NULL;
    }
    PyObject *cls = mig_py_error_class(name);
    /* Not PyErr_SetString: a server's text need not be UTF-8. */
    PyObject *text = PyUnicode_DecodeUTF8(error->msg, (Py_ssize_t)strlen(error->msg), "replace");
    if (cls != NULL && text != NULL)
        PyErr_SetObject(cls, text);
    Py_XDECREF(text);
    Py_XDECREF(cls);
    return NULL;
}

/* {code: text} */
PyObject *mig_py_fields(const mig_diagnostics *diagnostics)
{
    PyObject *fields = PyDict_New();
    for (size_t i = 0; fields != NULL && i < diagnostics->count; i++) {
        PyObject *code = PyLong_FromLong(diagnostics->codes[i]);
        PyObject *text = PyUnicode_DecodeUTF8(diagnostics->texts[i],
                                              (Py_ssize_t)strlen(diagnostics->texts[i]), "replace");
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
                              Py_ssize_t index, PyObject *partial)
{
    if (error->code != MIG_ESERVER)
        return mig_py_raise(error);
    PyObject *cls = mig_py_error_class("ServerError"), *text = NULL, *exception = NULL;
    if (cls == NULL)
        goto done;
    text = PyUnicode_DecodeUTF8(error->msg, (Py_ssize_t)strlen(error->msg), "replace");
    if (text == NULL)
        goto done;
    exception = PyObject_CallOneArg(cls, text);
    if (exception == NULL)
        goto done;
    PyObject *sqlstate = diagnostics->sqlstate[0] != '\0'
                             ? PyUnicode_FromString(diagnostics->sqlstate)
                             : Py_NewRef(Py_None);
    if (set_attribute(exception, "sqlstate", sqlstate) == 0 &&
        set_attribute(exception, "fields", mig_py_fields(diagnostics)) == 0 &&
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
