/*
 * _core.VersionOperations: what a step writes to the version table, as the core has it.
 *
 * From Python it is an immutable sequence of tuples: ('insert', to), ('delete', from), ('update',
 * from, to). Passed on to Session.version_apply it is never made into these. GIL: held in all
 * functions.
 */
#ifndef MIG_PY_VERSION_OPERATIONS_H
#define MIG_PY_VERSION_OPERATIONS_H

#include "py/module.h"

#include "core/version_ops.h"

/* A new object with copies of `count` operations and of their texts; NULL with an exception set. */
PyObject *mig_py_new_version_ops(mig_py_state *state, const mig_version_op *ops, size_t count);

/* Operations given by Python. All zero: none. */
typedef struct mig_py_version_ops_argument {
    const mig_version_op *items;
    size_t count;
    PyObject *keep;      /* what `items`, or its texts, are borrowed from */
    mig_version_op *own; /* `items`, where it is not `keep`'s; PyMem */
} mig_py_version_ops_argument;

/*
 * Read `value`, a VersionOperations or any iterable of tuples, into an empty argument, which nobody
 * can change then, also without the GIL. 0, or -1 with TypeError or ValueError set. Release it in
 * both cases.
 */
int mig_py_version_ops_read(mig_py_state *state, PyObject *value,
                            mig_py_version_ops_argument *argument);

/* Leaves an empty argument. */
void mig_py_version_ops_release(mig_py_version_ops_argument *argument);

/* Read one tuple; texts are borrowed from it. 0, or -1 with TypeError or ValueError set. */
int mig_py_version_op_read(PyObject *item, mig_version_op *op);

#endif
