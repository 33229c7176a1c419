/* The steps of a run and what they write: Graph.stamp, .version_operations and .version_step. */
#include "py/graph_object.h"

#include "py/version_operations.h"

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

/* A list of one VersionOperations a step. */
static PyObject *new_operations(mig_py_graph *self, const mig_version_ops *ops, size_t steps)
{
    mig_py_state *state = mig_py_state_of_type(Py_TYPE(self));
    PyObject *answer = mig_py_hide(PyList_New((Py_ssize_t)steps));
    uint32_t first = 0, end = 0;
    for (size_t i = 0; answer != NULL && i < steps; i++, first = end) {
        while (end < ops->count && ops->items[end].step == i)
            end++;
        PyObject *one =
            mig_py_new_version_ops(state, first < end ? &ops->items[first] : NULL, end - first);
        if (one == NULL)
            Py_CLEAR(answer);
        else
            PyList_SET_ITEM(answer, (Py_ssize_t)i, one);
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
    mig_version_ops ops = {NULL, 0, 0};
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
                &q, mig_steps_version_ops(&q.query, heads.ids, steps, count, &ops)) == 0)
            answer = new_operations(q.self, &ops, count);
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
    mig_version_ops ops = {NULL, 0, 0};
    mig_py_ids heads = {0};
    mig_py_question q;
    mig_py_question_begin(&q, self);
    if (mig_py_graph_index(g, index, &step.node) == 0 && mig_py_ids_read(g, rows, &heads) == 0) {
        /* This call's alone until it is put back: another call, from a callback of the collector or
         * from another thread, makes a tracker of its own. */
        mig_step_tracker *tracker = g->tracker;
        g->tracker = NULL;
        if (tracker == NULL && (tracker = mig_step_tracker_new(g->graph)) == NULL)
            PyErr_NoMemory();
        else if (mig_py_question_check(&q, mig_step_tracker_step(tracker, heads.ids, &step, &ops,
                                                                 q.query.error)) == 0)
            answer =
                mig_py_new_version_ops(mig_py_state_of_type(Py_TYPE(self)), ops.items, ops.count);
        mig_step_tracker *others = g->tracker;
        g->tracker = tracker;
        mig_step_tracker_free(others);
    }
    mig_py_ids_release(&heads);
    return mig_py_question_end(&q, answer);
}
