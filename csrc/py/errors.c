/* The one place where a mig_status becomes an exception. */
#include "py/module.h"

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
    case MIG_EREVISION:
        name = "RevisionError";
        break;
    case MIG_OK:
    case MIG_EINVAL:
        PyErr_SetString(PyExc_ValueError, error->msg);
        return NULL;
    }
    PyObject *cls = mig_py_error_class(name);
    if (cls != NULL) {
        PyErr_SetString(cls, error->msg);
        Py_DECREF(cls);
    }
    return NULL;
}
