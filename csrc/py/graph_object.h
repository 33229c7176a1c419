/*
 * _core.Graph: its layout, and what the files share that its methods are in. GIL: held in all
 * functions.
 *
 *   graph_question.c      arguments, answers and errors of a question to a graph
 *   graph.c               building a graph, and most of its methods; the type
 *   describe.c            Graph.describe
 *   scripts.c             Graph.attach
 *   graph_steps.c         Graph.stamp, .version_operations, .version_step
 */
#ifndef MIG_PY_GRAPH_OBJECT_H
#define MIG_PY_GRAPH_OBJECT_H

#include "py/module.h"

#include "core/resolve.h"
#include "core/steps.h"

typedef struct mig_py_graph {
    PyObject_HEAD mig_graph *graph;
    PyObject *names;           /* tuple of str: revision ids */
    PyObject *errors;          /* the namespace of the exceptions */
    PyObject **labels;         /* set of labels -> tuple of str, or NULL: made when asked for */
    mig_step_tracker *tracker; /* of the last version_step, or NULL */
} mig_py_graph;

/* *node = the index `value` of a revision. 0, or -1 with an exception set: there is none. */
int mig_py_graph_index(mig_py_graph *self, PyObject *value, uint32_t *node);

/* The ids of nodes, as a new tuple of the strings that exist already; NULL with an exception set.
 */
PyObject *mig_py_graph_names(mig_py_graph *self, mig_span span);

/* A new reference to the tuple of a revision's labels; NULL with an exception set. */
PyObject *mig_py_graph_labels(mig_py_graph *self, uint32_t node);

/* Arguments ---------------------------------------------------------------------------------- */

/*
 * *name = a name borrowed from `text`, a str, or MIG_NO_TEXT for None. 0, or -1 with an exception
 * set: TypeError, or Declined for lone surrogates (an argument that was no UTF-8), which no name
 * that was read can have.
 */
int mig_py_as_name(PyObject *text, mig_text *name);

/*
 * The names in `value`: None, a str, or a tuple, list or set of those. *keep gets a reference that
 * the names are borrowed from. 0, or -1 with an exception set; both *keep and *items (PyMem) are
 * the caller's, also then.
 */
int mig_py_as_names(PyObject *value, PyObject **keep, mig_text **items, size_t *count);

/*
 * Whether Python's re and int() see no other digits and spaces in `text` than the core does, which
 * knows those of ASCII only. 0, or -1 with Declined set.
 */
int mig_py_check_digits(PyObject *text);

/* An argument that stands for revisions. All zero: empty. */
typedef struct mig_py_ids {
    PyObject *keep;
    mig_text *items;
    mig_ids ids; /* borrows from both */
} mig_py_ids;

/* Read `value` into an empty `argument`. 0, or -1 with an exception set. Release it in both cases.
 */
int mig_py_ids_read(mig_py_graph *self, PyObject *value, mig_py_ids *argument);

/* Leaves an empty argument. */
void mig_py_ids_release(mig_py_ids *argument);

/* Answers: new references, or NULL with an exception set -------------------------------------- */

/* A str, or None for a name without text. */
PyObject *mig_py_new_name(mig_text name);

/* A tuple of those. */
PyObject *mig_py_new_names(mig_ids names);

/* An index, None, or 'base'. */
PyObject *mig_py_new_node(uint32_t node);

/* A tuple or a list of those. */
PyObject *mig_py_new_nodes(mig_nodes nodes, int as_tuple);

/* Questions ---------------------------------------------------------------------------------- */

typedef struct mig_py_question {
    mig_py_graph *self;
    mig_query query;
    mig_graph_error error;
    PyObject *lower, *upper; /* borrowed: arguments of a RangeNotAncestorError */
} mig_py_question;

/* `self`: a Graph, borrowed until mig_py_question_end, which must follow. */
void mig_py_question_begin(mig_py_question *q, PyObject *self);

/* 0, or -1 with the exception for `status` set. */
int mig_py_question_check(mig_py_question *q, mig_status status);

/* Frees what the question holds; returns `answer`. */
PyObject *mig_py_question_end(mig_py_question *q, PyObject *answer);

/* Methods: new references, or NULL with an exception set; what each does is in its docstring, in
 * graph.c. */

PyObject *mig_py_graph_describe(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *mig_py_graph_attach(PyObject *self, PyObject *nodes);
PyObject *mig_py_graph_stamp(PyObject *self, PyObject *args);
PyObject *mig_py_graph_version_operations(PyObject *self, PyObject *args);
PyObject *mig_py_graph_version_step(PyObject *self, PyObject *args);

#endif
