/* The layout of _core.Graph, for the files that its methods are in. */
#ifndef MIG_PY_GRAPH_OBJECT_H
#define MIG_PY_GRAPH_OBJECT_H

#include "py/module.h"

#include "core/steps.h"

typedef struct mig_py_graph {
    PyObject_HEAD mig_graph *graph;
    PyObject *names;        /* tuple of str: revision ids */
    PyObject *errors;       /* where the exceptions are taken from */
    PyObject **labels;      /* set of labels -> tuple of str, or NULL: made when asked for */
    mig_version_rows *rows; /* of the last version_step, or NULL */
} mig_py_graph;

/* 0 with *node, or -1 with an exception: `value` is no index of a revision. */
int mig_py_graph_index(mig_py_graph *self, PyObject *value, uint32_t *node);
/* The ids of nodes, as a new tuple of the strings that exist already; NULL with an exception. */
PyObject *mig_py_graph_names(mig_py_graph *self, mig_span span);
/* A new reference to the tuple of a revision's labels; NULL with an exception. */
PyObject *mig_py_graph_labels(mig_py_graph *self, uint32_t node);

/* describe.c: the method `describe`. */
PyObject *mig_py_graph_describe(PyObject *self, PyObject *args, PyObject *kwargs);
/* scripts.c: the method `attach`. */
PyObject *mig_py_graph_attach(PyObject *self, PyObject *nodes);

#endif
