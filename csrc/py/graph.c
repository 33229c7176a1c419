/*
 * migrate_ext._core.Graph: the revision graph. A revision is the index of its record.
 *
 * Immutable after __new__, but for tuples of labels and the tracker of a run, which the GIL guards.
 * Questions keep their memory in a mig_query; mig_py_question_end releases it. Errors are raised as
 * classes of the namespace `errors`.
 */
#include "py/graph_object.h"

#include "core/graph_build.h"
#include "core/graph_inherit.h"

static int traverse(PyObject *self, visitproc visit, void *arg)
{
    mig_py_graph *g = (mig_py_graph *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(g->names);
    Py_VISIT(g->errors);
    return 0;
}

/* There is no tp_clear, as for a tuple: references are set once, so each cycle has another object
 * that can be cleared, and a graph that can be reached is complete. */
static void dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    mig_py_graph *g = (mig_py_graph *)self;
    Py_XDECREF(g->names);
    Py_XDECREF(g->errors);
    for (uint32_t i = 0; g->labels != NULL && i < g->graph->label_set_count; i++)
        Py_XDECREF(g->labels[i]);
    PyMem_Free(g->labels);
    mig_step_tracker_free(g->tracker);
    mig_graph_free(g->graph);
    type->tp_free(self);
    Py_DECREF(type);
}

int mig_py_graph_index(mig_py_graph *self, PyObject *value, uint32_t *node)
{
    Py_ssize_t index = PyNumber_AsSsize_t(value, PyExc_IndexError);
    if (index == -1 && PyErr_Occurred())
        return -1;
    if (index < 0 || (size_t)index >= self->graph->count) {
        PyErr_SetString(PyExc_IndexError, "no revision has this index");
        return -1;
    }
    *node = (uint32_t)index;
    return 0;
}

PyObject *mig_py_graph_names(mig_py_graph *self, mig_span span)
{
    PyObject *tuple = PyTuple_New((Py_ssize_t)span.count);
    for (uint32_t i = 0; tuple != NULL && i < span.count; i++)
        PyTuple_SET_ITEM(tuple, (Py_ssize_t)i,
                         Py_NewRef(PyTuple_GET_ITEM(self->names, (Py_ssize_t)span.items[i])));
    return tuple;
}

/* Building ----------------------------------------------------------------------------------- */

typedef struct builder {
    mig_record *records;
    PyObject **keep; /* four a record: what the names are borrowed from */
    mig_text **items;
    size_t count;
} builder;

static void release_builder(builder *b)
{
    for (size_t i = 0; b->keep != NULL && i < b->count * 4; i++)
        Py_XDECREF(b->keep[i]);
    for (size_t i = 0; b->items != NULL && i < b->count * 4; i++)
        PyMem_Free(b->items[i]);
    PyMem_Free(b->records);
    PyMem_Free(b->keep);
    PyMem_Free(b->items);
}

/* (revision, down_revision, branch_labels, depends_on, ...) */
static int read_record(builder *b, size_t i, PyObject *record)
{
    PyObject *tuple = mig_py_tuple(record);
    if (tuple == NULL)
        return -1;
    b->keep[i * 4] = tuple;
    if (PyTuple_GET_SIZE(tuple) < 4) {
        PyErr_SetString(PyExc_ValueError, "a record has four items");
        return -1;
    }
    mig_record *r = &b->records[i];
    if (mig_py_as_name(PyTuple_GET_ITEM(tuple, 0), &r->revision) < 0)
        return -1;
    if (r->revision.text == NULL) {
        PyErr_SetString(PyExc_ValueError, "a record without a revision");
        return -1;
    }
    const mig_text **lists[3] = {&r->down, &r->labels, &r->depends};
    size_t *counts[3] = {&r->down_count, &r->label_count, &r->depend_count};
    for (size_t k = 0; k < 3; k++) {
        size_t at = i * 4 + k + 1;
        PyObject *value = PyTuple_GET_ITEM(tuple, (Py_ssize_t)k + 1);
        if (value == Py_None)
            continue;
        if (mig_py_as_names(value, &b->keep[at], &b->items[at], counts[k]) < 0)
            return -1;
        *lists[k] = b->items[at];
        for (size_t n = 0; n < *counts[k]; n++) {
            if (b->items[at][n].length == 0) {
                PyErr_SetString(PyExc_ValueError, "an empty revision identifier");
                return -1;
            }
        }
    }
    return 0;
}

static int build(mig_py_graph *self, PyObject *records)
{
    /* A tuple of our own: reading a record may run Python, which could change a list. */
    PyObject *list = mig_py_tuple(records);
    if (list == NULL)
        return -1;
    builder b = {.count = (size_t)PyTuple_GET_SIZE(list)};
    mig_graph_error error;
    mig_graph_error_init(&error, &mig_alloc_system);
    int result = -1;
    b.records = PyMem_Calloc(b.count + 1, sizeof *b.records);
    b.keep = PyMem_Calloc(b.count + 1, 4 * sizeof *b.keep);
    b.items = PyMem_Calloc(b.count + 1, 4 * sizeof *b.items);
    if (b.records == NULL || b.keep == NULL || b.items == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    self->names = mig_py_hide(PyTuple_New((Py_ssize_t)b.count));
    if (self->names == NULL)
        goto done;
    for (size_t i = 0; i < b.count; i++) {
        if (read_record(&b, i, PyTuple_GET_ITEM(list, (Py_ssize_t)i)) < 0)
            goto done;
        PyTuple_SET_ITEM(self->names, (Py_ssize_t)i, Py_NewRef(PyTuple_GET_ITEM(b.keep[i * 4], 0)));
    }
    (void)mig_py_show(self->names);
    mig_status status = mig_graph_build(self->graph, b.records, b.count, &error);
    if (status != MIG_OK)
        mig_py_raise_graph(self->errors, status, &error, Py_None, Py_None);
    else if ((self->labels = PyMem_Calloc((size_t)self->graph->label_set_count + 1,
                                          sizeof *self->labels)) == NULL)
        PyErr_NoMemory();
    else
        result = 0;
done:
    release_builder(&b);
    mig_graph_error_release(&error);
    Py_DECREF(list);
    return result;
}

static PyObject *new_graph(PyObject *cls, PyObject *args, PyObject *kwargs)
{
    PyTypeObject *type = (PyTypeObject *)cls;
    static char *names[] = {"records", "errors", NULL};
    PyObject *records, *errors = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:Graph", names, &records, &errors))
        return NULL;
    mig_py_graph *self = (mig_py_graph *)mig_py_hide(type->tp_alloc(type, 0));
    if (self == NULL)
        return NULL;
    self->errors =
        errors == Py_None ? PyImport_ImportModule("migrate_ext.errors") : Py_NewRef(errors);
    self->graph = mig_graph_new(&mig_alloc_system);
    if (self->graph == NULL)
        PyErr_NoMemory();
    if (self->errors == NULL || self->graph == NULL || build(self, records) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    mig_py_state_of_type(type)->counters.graph_builds++;
    return mig_py_show((PyObject *)self);
}

MIG_PY_KEYWORDS(new_graph)

/* Attributes of a revision ------------------------------------------------------------------- */

static Py_ssize_t length(PyObject *self)
{
    return (Py_ssize_t)((mig_py_graph *)self)->graph->count;
}

static PyObject *get_heads(PyObject *self, void *which)
{
    const mig_graph *graph = ((mig_py_graph *)self)->graph;
    const mig_span spans[] = {graph->heads, graph->real_heads, graph->bases, graph->real_bases};
    return mig_py_graph_names((mig_py_graph *)self, spans[*(const int *)which]);
}

static PyObject *revision(PyObject *self, PyObject *index)
{
    uint32_t node;
    if (mig_py_graph_index((mig_py_graph *)self, index, &node) < 0)
        return NULL;
    return Py_NewRef(PyTuple_GET_ITEM(((mig_py_graph *)self)->names, (Py_ssize_t)node));
}

static PyObject *edges(PyObject *self, PyObject *index, const mig_edges *which)
{
    uint32_t node;
    if (mig_py_graph_index((mig_py_graph *)self, index, &node) < 0)
        return NULL;
    return mig_py_graph_names((mig_py_graph *)self, mig_edges_of(which, node));
}

#define EDGES(method, member)                                                                      \
    static PyObject *method(PyObject *self, PyObject *index)                                       \
    {                                                                                              \
        return edges(self, index, &((mig_py_graph *)self)->graph->member);                         \
    }

EDGES(nextrev, next)
EDGES(all_nextrev, all_next)
EDGES(down_revisions, down)
EDGES(resolved_dependencies, resolved)
EDGES(normalized_dependencies, normalized)

static PyObject *lookup(PyObject *self, PyObject *key)
{
    mig_text name;
    if (mig_py_as_name(key, &name) < 0)
        return NULL;
    uint32_t node = mig_graph_lookup(((mig_py_graph *)self)->graph, name);
    if (node == MIG_NODE_NONE) {
        PyErr_SetObject(PyExc_KeyError, key);
        return NULL;
    }
    return PyLong_FromUnsignedLong(node);
}

/* Questions ---------------------------------------------------------------------------------- */

static PyObject *new_labels(mig_py_graph *self, uint32_t set)
{
    mig_py_question q;
    mig_nodes found = {NULL, 0, 0};
    PyObject *tuple = NULL;
    mig_py_question_begin(&q, (PyObject *)self);
    if (mig_py_question_check(&q, mig_graph_labels(&q.query, set, &found)) == 0)
        tuple = PyTuple_New((Py_ssize_t)found.count);
    for (uint32_t i = 0; tuple != NULL && i < found.count; i++) {
        PyObject *label = mig_py_new_name(self->graph->keys[self->graph->count + found.items[i]]);
        if (label == NULL)
            Py_CLEAR(tuple);
        else
            PyTuple_SET_ITEM(tuple, (Py_ssize_t)i, label);
    }
    return mig_py_question_end(&q, tuple);
}

/* One tuple for all revisions that have the same labels. */
PyObject *mig_py_graph_labels(mig_py_graph *g, uint32_t node)
{
    uint32_t set = g->graph->label_set[node];
    if (set == MIG_NODE_NONE)
        return PyTuple_New(0);
    if (g->labels[set] == NULL) {
        PyObject *made = new_labels(g, set);
        if (g->labels[set] == NULL)
            g->labels[set] = made;
        else /* another call has made it meanwhile: from a callback of the collector, say */
            Py_XDECREF(made);
    }
    return Py_XNewRef(g->labels[set]);
}

static PyObject *labelled(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    const mig_graph *graph = ((mig_py_graph *)self)->graph;
    PyObject *list = PyList_New(0);
    for (uint32_t i = 0; list != NULL && i < graph->count; i++) {
        if (graph->label_set[i] == MIG_NODE_NONE)
            continue;
        PyObject *node = mig_py_new_node(i);
        if (node == NULL || PyList_Append(list, node) < 0)
            Py_CLEAR(list);
        Py_XDECREF(node);
    }
    return list;
}

static PyObject *labels(PyObject *self, PyObject *index)
{
    uint32_t node;
    if (mig_py_graph_index((mig_py_graph *)self, index, &node) < 0)
        return NULL;
    return mig_py_graph_labels((mig_py_graph *)self, node);
}

typedef mig_status (*ids_question)(mig_query *query, mig_ids ids, mig_nodes *found);

static PyObject *ask_ids(PyObject *self, PyObject *value, ids_question ask, int as_tuple)
{
    mig_py_question q;
    mig_py_ids argument = {0};
    mig_nodes found = {NULL, 0, 0};
    PyObject *answer = NULL;
    mig_py_question_begin(&q, self);
    if (mig_py_ids_read(q.self, value, &argument) == 0 &&
        mig_py_question_check(&q, ask(&q.query, argument.ids, &found)) == 0)
        answer = mig_py_new_nodes(found, as_tuple);
    mig_py_ids_release(&argument);
    return mig_py_question_end(&q, answer);
}

static PyObject *get_revisions(PyObject *self, PyObject *value)
{
    return ask_ids(self, value, mig_get_revisions, 1);
}

static PyObject *all_current(PyObject *self, PyObject *value)
{
    return ask_ids(self, value, mig_all_current, 0);
}

static PyObject *get_revision(PyObject *self, PyObject *value)
{
    mig_py_question q;
    mig_text name;
    uint32_t found;
    PyObject *answer = NULL;
    mig_py_question_begin(&q, self);
    if (mig_py_as_name(value, &name) == 0 && mig_py_check_digits(value) == 0 &&
        mig_py_question_check(&q, mig_get_revision(&q.query, name, &found)) == 0)
        answer = mig_py_new_node(found);
    return mig_py_question_end(&q, answer);
}

static PyObject *iterate(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"upper",
                            "lower",
                            "implicit_base",
                            "inclusive",
                            "assert_relative_length",
                            "select_for_downgrade",
                            NULL};
    PyObject *upper, *lower;
    int implicit_base = 0, inclusive = 0, assert_length = 1, downgrade = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|pppp:iterate", names, &upper, &lower,
                                     &implicit_base, &inclusive, &assert_length, &downgrade))
        return NULL;
    mig_py_question q;
    mig_py_ids from = {0}, to = {0};
    mig_nodes found = {NULL, 0, 0};
    PyObject *answer = NULL;
    mig_py_question_begin(&q, self);
    q.lower = lower;
    q.upper = upper;
    if (mig_py_ids_read(q.self, upper, &from) == 0 && mig_py_ids_read(q.self, lower, &to) == 0) {
        const mig_range range = {from.ids,           to.ids,
                                 implicit_base != 0, inclusive != 0,
                                 assert_length != 0, downgrade != 0};
        if (mig_py_question_check(&q, mig_iterate(&q.query, &range, &found)) == 0)
            answer = mig_py_new_nodes(found, 0);
    }
    mig_py_ids_release(&from);
    mig_py_ids_release(&to);
    return mig_py_question_end(&q, answer);
}

/* The type ----------------------------------------------------------------------------------- */

static const int which[] = {0, 1, 2, 3};

static PyGetSetDef attributes[] = {
    {"heads", get_heads, NULL, "Ids of the heads.", (void *)&which[0]},
    {"real_heads", get_heads, NULL, "Heads that nothing depends on either.", (void *)&which[1]},
    {"bases", get_heads, NULL, "Ids of the bases.", (void *)&which[2]},
    {"real_bases", get_heads, NULL, "Bases that depend on nothing either.", (void *)&which[3]},
    {NULL, NULL, NULL, NULL, NULL},
};

MIG_PY_KEYWORDS(mig_py_graph_describe)
MIG_PY_KEYWORDS(iterate)

static PyMethodDef methods[] = {
    {"revision", revision, METH_O, "revision(index) -> str"},
    {"down_revisions", down_revisions, METH_O, "down_revisions(index) -> tuple[str, ...]"},
    {"nextrev", nextrev, METH_O, "nextrev(index) -> tuple[str, ...]"},
    {"all_nextrev", all_nextrev, METH_O, "all_nextrev(index) -> tuple[str, ...]"},
    {"resolved_dependencies", resolved_dependencies, METH_O,
     "resolved_dependencies(index) -> tuple[str, ...]"},
    {"normalized_dependencies", normalized_dependencies, METH_O,
     "normalized_dependencies(index) -> tuple[str, ...]"},
    {"labelled", labelled, METH_NOARGS, "labelled() -> list[int]: revisions that have labels"},
    {"labels", labels, METH_O, "labels(index) -> tuple[str, ...]"},
    {"describe", MIG_PY_HELD(mig_py_graph_describe),
     "describe(indexes, records, current=(), *, branches=False, doc=False, parents=False, "
     "indicators=True) -> str\n\nRevisions as the commands print them, a line each; records: what "
     "scan_files gave."},
    {"attach", mig_py_graph_attach, METH_O,
     "attach(nodes) -> dict[str, object]\n\nGive Alembic's revisions, in the order of the records, "
     "what a revision map gives them, but for their labels; returns them by their ids."},
    {"lookup", lookup, METH_O, "lookup(key) -> int\n\nThe revision of an id or a branch label."},
    {"get_revisions", get_revisions, METH_O, "RevisionMap.get_revisions, as indexes."},
    {"get_revision", get_revision, METH_O, "RevisionMap.get_revision, as an index."},
    {"all_current", all_current, METH_O, "RevisionMap._get_all_current, as indexes."},
    {"iterate", MIG_PY_HELD(iterate), "RevisionMap.iterate_revisions, as indexes."},
    {"stamp", mig_py_graph_stamp, METH_VARARGS,
     "stamp(destinations, heads) -> steps (from, to, is_upgrade, branch_move)"},
    {"version_operations", mig_py_graph_version_operations, METH_VARARGS,
     "version_operations(heads, steps) -> for each step, what it writes to the version table"},
    {"version_step", mig_py_graph_version_step, METH_VARARGS,
     "version_step(heads, index, is_upgrade) -> what the step writes\n\n"
     "As version_operations, for callers who learn of a run's steps one by one."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "Graph(records, errors=None)\n--\n\nThe revision graph of a sequence of records."},
    {Py_tp_new, (void *)new_graph_held},
    {Py_tp_dealloc, (void *)dealloc},
    {Py_tp_traverse, (void *)traverse},
    {Py_tp_getset, attributes},
    {Py_tp_methods, methods},
    {Py_sq_length, (void *)length},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "migrate_ext._core.Graph",
    .basicsize = sizeof(mig_py_graph),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

int mig_py_add_graph(PyObject *module)
{
    mig_py_state *state = mig_py_state_of(module);
    state->graph_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);
    return state->graph_type == NULL ? -1 : PyModule_AddType(module, state->graph_type);
}
