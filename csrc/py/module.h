/*
 * The binding: the only folder that includes Python.h. One file a type or family of functions; each
 * has one `mig_py_add_*` that puts its names into the module `migrate_ext._core`.
 *
 * State: everything the module keeps is in mig_py_state, reached by mig_py_state_of; nothing is
 * static, so that subinterpreters do not share. GIL: functions here hold it, except between
 * Py_BEGIN_ALLOW_THREADS and Py_END_ALLOW_THREADS around files and sockets.
 * Errors: csrc/py/errors.c alone turns a mig_status into an exception.
 */
#ifndef MIG_PY_MODULE_H
#define MIG_PY_MODULE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>

#include "core/revision.h"
#include "core/status.h"

/* What migrate_ext.stats() reports; Python adds its own to these. */
typedef struct mig_py_counters {
    uint64_t files_scanned;
    uint64_t graph_builds;
    uint64_t batches;
    uint64_t statements;
    uint64_t waits;
} mig_py_counters;

typedef struct mig_py_state {
    mig_py_counters counters;
    PyTypeObject *graph_type;
    PyTypeObject *session_type;
    PyTypeObject *version_operations_type;
} mig_py_state;

extern struct PyModuleDef mig_py_module;

/* The state of the module that defines `type` (a heap type of ours); never NULL for our types. */
mig_py_state *mig_py_state_of_type(PyTypeObject *type);
/* The state behind a module function's `module` argument. */
mig_py_state *mig_py_state_of(PyObject *module);

/*
 * No object is visible before it is complete. From mig_py_hide to mig_py_show, a container that is
 * being filled is not tracked by the collector, so neither gc.get_objects() nor Python code that
 * runs meanwhile (a callback of the collector, which an allocation may start before Python 3.12)
 * can find it. NULL stays NULL.
 */
static inline PyObject *mig_py_hide(PyObject *object)
{
    if (object != NULL && PyObject_GC_IsTracked(object))
        PyObject_GC_UnTrack(object);
    return object;
}

static inline PyObject *mig_py_show(PyObject *object)
{
    bool is_shared = object != NULL && PyTuple_CheckExact(object) && PyTuple_GET_SIZE(object) == 0;
    if (object != NULL && !is_shared && !PyObject_GC_IsTracked(object))
        PyObject_GC_Track(object);
    return object;
}

/*
 * module.c: a new reference to a tuple of the items of `value`, or NULL with an exception set.
 * Unlike a list, it cannot be changed by other code. (PySequence_Tuple tracks its tuple while it
 * fills it; PyList_AsTuple reads past the end if a callback of the collector empties the list.)
 */
PyObject *mig_py_tuple(PyObject *value);

/*
 * Functions with keyword arguments borrow them from a dict that the collector knows. `name_held` is
 * `name` with the arguments in a dict that it does not know, so that Python code which runs before
 * their last use cannot remove them. MIG_PY_KEYWORDS defines it, MIG_PY_HELD is its entry in a
 * PyMethodDef.
 */
PyObject *mig_py_call_held(PyCFunctionWithKeywords function, PyObject *self, PyObject *args,
                           PyObject *kwargs);
#define MIG_PY_KEYWORDS(name)                                                                      \
    static PyObject *name##_held(PyObject *self, PyObject *args, PyObject *kwargs)                 \
    {                                                                                              \
        return mig_py_call_held((PyCFunctionWithKeywords)(void (*)(void))name, self, args,         \
                                kwargs);                                                           \
    }
#define MIG_PY_HELD(name) (PyCFunction)(void (*)(void)) name##_held, METH_VARARGS | METH_KEYWORDS

/* errors.c: raises the exception for `error` (a class of migrate_ext.errors); returns NULL. */
PyObject *mig_py_raise(const mig_error *error);
/* errors.c: a new reference to migrate_ext.errors.<name>, or NULL with an exception set. */
PyObject *mig_py_error_class(const char *name);

/*
 * errors.c: raises the class `name` of the namespace `errors`, called with `argument` (a tuple:
 * with its items). Steals `argument`; NULL there means that an exception is set already. Returns
 * NULL.
 */
PyObject *mig_py_raise_named(PyObject *errors, const char *name, PyObject *argument);
/* errors.c: raises what a question to the graph failed with; lower, upper: those of a range. */
PyObject *mig_py_raise_graph(PyObject *errors, mig_status status, const mig_graph_error *error,
                             PyObject *lower, PyObject *upper);

/* Each adds the functions or the type of one file to the module that is being made: 0, or -1 with
 * an exception set. */
int mig_py_add_scan(PyObject *module);
int mig_py_add_scripts(PyObject *module);
int mig_py_add_graph(PyObject *module);
int mig_py_add_session(PyObject *module);
int mig_py_add_version_operations(PyObject *module);
int mig_py_add_sql(PyObject *module);
int mig_py_add_plan_file(PyObject *module);

#endif
