#include "py/lease.h"

#include <stddef.h>

#include <structmember.h>

/* The beginning of psycopg2's connectionObject (psycopg/connection.h). */
typedef struct psycopg2_connection {
    PyObject_HEAD pthread_mutex_t lock;
    char *dsn;
    char *error;
    char *encoding;
    long int closed;
} psycopg2_connection;

/* The offset of a member that a type of C publishes; -1 if it is not such a type. */
static Py_ssize_t offset_of(PyTypeObject *type, const char *name)
{
    for (; type != NULL; type = type->tp_base)
        for (PyMemberDef *m = type->tp_members; m != NULL && m->name != NULL; m++)
            if (strcmp(m->name, name) == 0)
                return m->offset;
    return -1;
}

/* Whether a class of the owner's comes from the package `name`. */
static int comes_from(PyTypeObject *type, const char *name)
{
    size_t length = strlen(name);
    for (; type != NULL; type = type->tp_base)
        if (strncmp(type->tp_name, name, length) == 0 && type->tp_name[length] == '.')
            return 1;
    return 0;
}

int mig_py_lease_init(mig_py_lease *lease, PyObject *owner, const PGconn *conn)
{
    lease->owner = NULL;
    lease->conn = conn;
    lease->lock = NULL;
    PyTypeObject *type = Py_TYPE(owner);
    if (comes_from(type, "psycopg2")) {
        if (offset_of(type, "dsn") != (Py_ssize_t)offsetof(psycopg2_connection, dsn) ||
            offset_of(type, "closed") != (Py_ssize_t)offsetof(psycopg2_connection, closed)) {
            mig_error error;
            (void)mig_fail(&error, MIG_EDECLINED, "this psycopg2 keeps its lock elsewhere");
            (void)mig_py_raise(&error);
            return -1;
        }
        lease->lock = &((psycopg2_connection *)owner)->lock;
    }
    lease->owner = Py_NewRef(owner);
    int good = mig_py_lease_is_good(lease);
    if (good > 0)
        return 0;
    if (good == 0)
        PyErr_SetString(PyExc_ValueError, "the owner has no such connection, or closed it");
    mig_py_lease_clear(lease);
    return -1;
}

void mig_py_lease_clear(mig_py_lease *lease)
{
    lease->lock = NULL;
    Py_CLEAR(lease->owner);
}

void mig_py_lease_lock(const mig_py_lease *lease)
{
    if (mig_py_lease_try_lock(lease))
        return;
    Py_BEGIN_ALLOW_THREADS
    pthread_mutex_lock(lease->lock);
    Py_END_ALLOW_THREADS
}

bool mig_py_lease_try_lock(const mig_py_lease *lease)
{
    return lease->lock == NULL || pthread_mutex_trylock(lease->lock) == 0;
}

void mig_py_lease_unlock(const mig_py_lease *lease)
{
    if (lease->lock != NULL)
        (void)pthread_mutex_unlock(lease->lock);
}

int mig_py_lease_is_good(const mig_py_lease *lease)
{
    PyObject *kind, *value, *traceback;
    PyErr_Fetch(&kind, &value, &traceback);
    int good = -1;
    PyObject *owner = Py_NewRef(lease->owner); /* its code may drop the lease */
    PyObject *pointer = PyObject_GetAttrString(owner, "pgconn_ptr");
    Py_DECREF(owner);
    if (pointer == Py_None) {
        good = 0;
    } else if (pointer != NULL) {
        const void *now = PyLong_AsVoidPtr(pointer);
        good = now == NULL && PyErr_Occurred() ? -1 : now == (const void *)lease->conn;
    }
    Py_XDECREF(pointer);
    if (kind != NULL) /* the earlier one says more */
        PyErr_Restore(kind, value, traceback);
    return good;
}
