/*
 * What a run writes to the version table: Graph.stamp, .version_operations and .version_step.
 */
#include "py/graph_object.h"

PyObject *mig_py_graph_stamp(PyObject *self, PyObject *args)
{
    PyObject *to, *from;
    if (!PyArg_ParseTuple(args, "OO:stamp", &to, &from))
        return NULL;
    mig_py_question q;
    mig_py_ids destinations = {0}, heads = {0};
    mig_step *steps;
    size_t count;
    PyObject *answer = NULL;
    mig_py_question_begin(&q, self);
    if (mig_py_ids_read(q.self, to, &destinations) == 0 &&
        mig_py_ids_read(q.self, from, &heads) == 0 &&
        mig_py_question_check(
            &q, mig_stamp_steps(&q.query, destinations.ids, heads.ids, &steps, &count)) == 0) {
        answer = mig_py_hide(PyList_New((Py_ssize_t)count));
        for (size_t i = 0; answer != NULL && i < count; i++) {
            PyObject *step = Py_BuildValue("(NNOO)", mig_py_new_names(steps[i].from),
                                           mig_py_new_names(steps[i].to),
                                           steps[i].is_upgrade ? Py_True : Py_False,
                                           steps[i].branch_move ? Py_True : Py_False);
            if (step == NULL)
                Py_CLEAR(answer);
            else
                PyList_SET_ITEM(answer, (Py_ssize_t)i, step);
        }
    }
    mig_py_ids_release(&destinations);
    mig_py_ids_release(&heads);
    return mig_py_question_end(&q, mig_py_show(answer));
}

/* A migration is (index, is_upgrade), a stamp (from, to, is_upgrade, branch_move). */
static int read_step(mig_py_graph *self, PyObject *value, mig_step *step, mig_py_ids *from,
                     mig_py_ids *to)
{
    PyObject *a, *b;
    int is_upgrade, branch_move;
    if (!PyTuple_Check(value)) {
        PyErr_SetString(PyExc_TypeError, "a step is a tuple");
        return -1;
    }
    if (PyTuple_GET_SIZE(value) == 2) {
        if (!PyArg_ParseTuple(value, "Op", &a, &is_upgrade))
            return -1;
        step->is_upgrade = is_upgrade != 0;
        return mig_py_graph_index(self, a, &step->node);
    }
    if (!PyArg_ParseTuple(value, "OOpp", &a, &b, &is_upgrade, &branch_move) ||
        mig_py_ids_read(self, a, from) < 0 || mig_py_ids_read(self, b, to) < 0)
        return -1;
    step->is_stamp = true;
    step->is_upgrade = is_upgrade != 0;
    step->branch_move = branch_move != 0;
    step->from = from->ids;
    step->to = to->ids;
    return 0;
}

static PyObject *new_operation(const mig_operation *operation)
{
    switch (operation->kind) {
    case MIG_VERSION_INSERT:
        return Py_BuildValue("(sN)", "insert", mig_py_new_name(operation->to));
    case MIG_VERSION_DELETE:
        return Py_BuildValue("(sN)", "delete", mig_py_new_name(operation->from));
    case MIG_VERSION_UPDATE:
        break;
    }
    return Py_BuildValue("(sNN)", "update", mig_py_new_name(operation->from),
                         mig_py_new_name(operation->to));
}

/* One list of operations a step. */
static PyObject *new_operations(const mig_operations *operations, size_t steps)
{
    PyObject *answer = mig_py_hide(PyList_New((Py_ssize_t)steps));
    for (size_t i = 0; answer != NULL && i < steps; i++) {
        PyObject *list = PyList_New(0);
        if (list == NULL)
            Py_CLEAR(answer);
        else
            PyList_SET_ITEM(answer, (Py_ssize_t)i, list);
    }
    for (uint32_t i = 0; answer != NULL && i < operations->count; i++) {
        PyObject *operation = new_operation(&operations->items[i]);
        PyObject *list = PyList_GET_ITEM(answer, (Py_ssize_t)operations->items[i].step);
        if (operation == NULL || PyList_Append(list, operation) < 0)
            Py_CLEAR(answer);
        Py_XDECREF(operation);
    }
    return mig_py_show(answer);
}

PyObject *mig_py_graph_version_operations(PyObject *self, PyObject *args)
{
    PyObject *rows, *given;
    if (!PyArg_ParseTuple(args, "OO:version_operations", &rows, &given))
        return NULL;
    PyObject *list = mig_py_tuple(given); /* as in build */
    if (list == NULL)
        return NULL;
    mig_py_question q;
    size_t count = (size_t)PyTuple_GET_SIZE(list), read = 0;
    mig_py_ids heads = {0};
    mig_py_ids *names = PyMem_Calloc(count + 1, 2 * sizeof *names);
    mig_step *steps = PyMem_Calloc(count + 1, sizeof *steps);
    mig_operations operations = {NULL, 0, 0};
    PyObject *answer = NULL;
    mig_py_question_begin(&q, self);
    if (names == NULL || steps == NULL)
        PyErr_NoMemory();
    else if (mig_py_ids_read(q.self, rows, &heads) == 0) {
        while (read < count && read_step(q.self, PyTuple_GET_ITEM(list, (Py_ssize_t)read),
                                         &steps[read], &names[read * 2], &names[read * 2 + 1]) == 0)
            read++;
        if (read == count &&
            mig_py_question_check(
                &q, mig_version_operations(&q.query, heads.ids, steps, count, &operations)) == 0)
            answer = new_operations(&operations, count);
    }
    for (size_t i = 0; names != NULL && i < count * 2; i++)
        mig_py_ids_release(&names[i]);
    mig_py_ids_release(&heads);
    PyMem_Free(names);
    PyMem_Free(steps);
    Py_DECREF(list);
    return mig_py_question_end(&q, answer);
}

PyObject *mig_py_graph_version_step(PyObject *self, PyObject *args)
{
    mig_py_graph *g = (mig_py_graph *)self;
    PyObject *rows, *index, *answer = NULL;
    int is_upgrade;
    if (!PyArg_ParseTuple(args, "OOp:version_step", &rows, &index, &is_upgrade))
        return NULL;
    mig_step step = {.is_upgrade = is_upgrade != 0};
    mig_operations operations = {NULL, 0, 0};
    mig_py_ids heads = {0};
    mig_py_question q;
    mig_py_question_begin(&q, self);
    if (mig_py_graph_index(g, index, &step.node) == 0 && mig_py_ids_read(g, rows, &heads) == 0) {
        /* Ours alone until they are put back: another call, from a callback of the collector or
         * from another thread, makes rows of its own. */
        mig_version_rows *now = g->rows;
        g->rows = NULL;
        if (now == NULL && (now = mig_version_rows_new(g->graph)) == NULL)
            PyErr_NoMemory();
        else if (mig_py_question_check(&q, mig_version_rows_step(now, heads.ids, &step, &operations,
                                                                 q.query.error)) == 0)
            answer = new_operations(&operations, 1);
        mig_version_rows *others = g->rows;
        g->rows = now;
        mig_version_rows_free(others);
    }
    if (answer != NULL)
        Py_SETREF(answer, Py_NewRef(PyList_GET_ITEM(answer, 0)));
    mig_py_ids_release(&heads);
    return mig_py_question_end(&q, answer);
}
