/*
 * migrate_ext._core.Graph: the revision graph. A revision is the index of its record.
 *
 * Immutable after __new__, but for tuples of labels and the rows of a run, which the GIL guards.
 * Questions keep their memory in a mig_query; `ask` releases it in every case. Errors are raised as
 * classes of the namespace `errors`.
 */
#include "py/graph_object.h"

typedef mig_py_graph graph_object;

static int traverse(PyObject *self, visitproc visit, void *arg)
{
    graph_object *g = (graph_object *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(g->names);
    Py_VISIT(g->errors);
    return 0;
}

/* There is no tp_clear, as a tuple has none: what it refers to is fixed, so a cycle through it
 * passes through something else that clears itself, and a graph that can be reached is whole. */
static void dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    graph_object *g = (graph_object *)self;
    Py_XDECREF(g->names);
    Py_XDECREF(g->errors);
    for (uint32_t i = 0; g->labels != NULL && i < g->graph->label_set_count; i++)
        Py_XDECREF(g->labels[i]);
    PyMem_Free(g->labels);
    mig_version_rows_free(g->rows);
    mig_graph_free(g->graph);
    type->tp_free(self);
    Py_DECREF(type);
}

/* Python to C -------------------------------------------------------------------------------- */

/* A name borrowed from `text`, a str, or Python's None. One with lone surrogates (an argument that
 * was no UTF-8) is Declined: no name that was read is like it. */
static int as_name(PyObject *text, mig_name *name)
{
    *name = MIG_NO_NAME;
    if (text == Py_None)
        return 0;
    if (!PyUnicode_Check(text)) {
        PyErr_Format(PyExc_TypeError, "expected a str, not %R", text);
        return -1;
    }
    Py_ssize_t length;
    name->text = PyUnicode_AsUTF8AndSize(text, &length);
    name->length = (size_t)length;
    if (name->text != NULL)
        return 0;
    if (PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) {
        mig_error error;
        PyErr_Clear();
        (void)mig_fail(&error, MIG_EDECLINED, "a name that is not UTF-8");
        (void)mig_py_raise(&error);
    }
    return -1;
}

static int is_sequence(PyObject *value)
{
    return PyTuple_Check(value) || PyList_Check(value) || PyAnySet_Check(value);
}

/*
 * The names in `value`: None, a str, or a tuple, list or set of those. `*keep` gets a reference
 * that the names are borrowed from; both it and `*items` (PyMem) are the caller's, on failure too.
 */
static int as_names(PyObject *value, PyObject **keep, mig_name **items, size_t *count)
{
    *keep = is_sequence(value) ? mig_py_tuple(value) : PyTuple_Pack(1, value);
    if (*keep == NULL)
        return -1;
    *count = (size_t)PyTuple_GET_SIZE(*keep);
    *items = PyMem_New(mig_name, *count > 0 ? *count : 1);
    if (*items == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < *count; i++) {
        if (as_name(PyTuple_GET_ITEM(*keep, (Py_ssize_t)i), &(*items)[i]) < 0)
            return -1;
    }
    return 0;
}

/*
 * Raise Declined where Python's re and int() see digits and spaces in `text` that are none to the
 * core, which knows ASCII's only: in what may be a number of steps.
 */
static int check_digits(PyObject *text)
{
    if (!PyUnicode_Check(text) || PyUnicode_IS_ASCII(text))
        return 0;
    int has_sign = 0, is_odd = 0;
    for (Py_ssize_t i = 0; i < PyUnicode_GET_LENGTH(text); i++) {
        Py_UCS4 c = PyUnicode_READ_CHAR(text, i);
        has_sign |= c == '+' || c == '-';
        is_odd |= c >= 0x80 && (!Py_UNICODE_ISALNUM(c) || Py_UNICODE_ISDECIMAL(c));
    }
    if (!has_sign || !is_odd)
        return 0;
    mig_graph_error error;
    mig_graph_error_init(&error, &mig_alloc_system);
    mig_status status = MIG_GRAPH_FAIL(&error, MIG_GRAPH_DECLINED, MIG_NAME("unusual digits"));
    mig_py_raise_graph(Py_None, status, &error, Py_None, Py_None);
    mig_graph_error_release(&error);
    return -1;
}

/* An argument of a question. */
typedef struct ids {
    PyObject *keep;
    mig_name *items;
    mig_ids ids;
} ids;

static void release_ids(ids *argument)
{
    Py_CLEAR(argument->keep);
    PyMem_Free(argument->items);
    argument->items = NULL;
}

static int as_ids(graph_object *self, PyObject *value, ids *argument)
{
    PyObject *odd = NULL;
    if (value != Py_None && !PyUnicode_Check(value) && !is_sequence(value))
        odd = value;
    else if (as_names(value, &argument->keep, &argument->items, &argument->ids.count) < 0) {
        if (!PyErr_ExceptionMatches(PyExc_TypeError))
            return -1;
        PyErr_Clear();
        odd = value;
    }
    if (odd != NULL) {
        mig_py_raise_named(self->errors, "RevisionError",
                           PyUnicode_FromFormat("revision identifier %R is not a string; ensure "
                                                "database driver settings are correct",
                                                odd));
        return -1;
    }
    for (size_t i = 0; i < argument->ids.count; i++) {
        if (check_digits(PyTuple_GET_ITEM(argument->keep, (Py_ssize_t)i)) < 0)
            return -1;
    }
    argument->ids.items = argument->items;
    argument->ids.is_sequence = is_sequence(value);
    return 0;
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

/* C to Python -------------------------------------------------------------------------------- */

static PyObject *new_name(mig_name name)
{
    if (name.text == NULL)
        Py_RETURN_NONE;
    return PyUnicode_FromStringAndSize(name.text, (Py_ssize_t)name.length);
}

static PyObject *new_names(mig_ids names)
{
    PyObject *tuple = PyTuple_New((Py_ssize_t)names.count);
    for (size_t i = 0; tuple != NULL && i < names.count; i++) {
        PyObject *name = new_name(names.items[i]);
        if (name == NULL)
            Py_CLEAR(tuple);
        else
            PyTuple_SET_ITEM(tuple, (Py_ssize_t)i, name);
    }
    return tuple;
}

PyObject *mig_py_graph_names(mig_py_graph *self, mig_span span)
{
    PyObject *tuple = PyTuple_New((Py_ssize_t)span.count);
    for (uint32_t i = 0; tuple != NULL && i < span.count; i++)
        PyTuple_SET_ITEM(tuple, (Py_ssize_t)i,
                         Py_NewRef(PyTuple_GET_ITEM(self->names, (Py_ssize_t)span.items[i])));
    return tuple;
}

static PyObject *new_node(uint32_t node)
{
    if (node == MIG_NODE_NONE)
        Py_RETURN_NONE;
    if (node == MIG_NODE_BASE)
        return PyUnicode_FromString("base");
    return PyLong_FromUnsignedLong(node);
}

static PyObject *new_nodes(mig_nodes nodes, int as_tuple)
{
    Py_ssize_t count = (Py_ssize_t)nodes.count;
    PyObject *made = as_tuple ? PyTuple_New(count) : PyList_New(count);
    for (Py_ssize_t i = 0; made != NULL && i < count; i++) {
        PyObject *node = new_node(nodes.items[i]);
        if (node == NULL)
            Py_CLEAR(made);
        else if (as_tuple)
            PyTuple_SET_ITEM(made, i, node);
        else
            PyList_SET_ITEM(made, i, node);
    }
    return made;
}

/* A question, its arguments and its end ------------------------------------------------------- */

typedef struct question {
    graph_object *self;
    mig_query query;
    mig_graph_error error;
    PyObject *lower, *upper; /* borrowed: what a RangeNotAncestorError tells */
} question;

static void begin(question *q, PyObject *self)
{
    q->self = (graph_object *)self;
    q->lower = q->upper = Py_None;
    mig_graph_error_init(&q->error, &mig_alloc_system);
    mig_query_init(&q->query, q->self->graph, &q->error);
}

/* 0, or -1 with the exception for `status` set. */
static int settle(question *q, mig_status status)
{
    if (q->error.ambiguous_downgrade) {
        /* Its warning names the place that it comes from: only Alembic can give it. */
        PyObject *declined = mig_py_error_class("Declined");
        if (declined != NULL)
            PyErr_SetString(declined, "downgrade -1 from multiple heads");
        Py_XDECREF(declined);
        return -1;
    }
    if (status == MIG_OK)
        return 0;
    mig_py_raise_graph(q->self->errors, status, &q->error, q->lower, q->upper);
    return -1;
}

static PyObject *end(question *q, PyObject *answer)
{
    mig_query_release(&q->query);
    mig_graph_error_release(&q->error);
    return answer;
}

/* Building ----------------------------------------------------------------------------------- */

typedef struct builder {
    mig_record *records;
    PyObject **keep; /* four a record: what the names are borrowed from */
    mig_name **items;
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
    if (as_name(PyTuple_GET_ITEM(tuple, 0), &r->revision) < 0)
        return -1;
    if (r->revision.text == NULL) {
        PyErr_SetString(PyExc_ValueError, "a record without a revision");
        return -1;
    }
    const mig_name **lists[3] = {&r->down, &r->labels, &r->depends};
    size_t *counts[3] = {&r->down_count, &r->label_count, &r->depend_count};
    for (size_t k = 0; k < 3; k++) {
        size_t at = i * 4 + k + 1;
        PyObject *value = PyTuple_GET_ITEM(tuple, (Py_ssize_t)k + 1);
        if (value == Py_None)
            continue;
        if (as_names(value, &b->keep[at], &b->items[at], counts[k]) < 0)
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

static int build(graph_object *self, PyObject *records)
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
    graph_object *self = (graph_object *)mig_py_hide(type->tp_alloc(type, 0));
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
    return (Py_ssize_t)((graph_object *)self)->graph->count;
}

static PyObject *get_heads(PyObject *self, void *which)
{
    const mig_graph *graph = ((graph_object *)self)->graph;
    const mig_span spans[] = {graph->heads, graph->real_heads, graph->bases, graph->real_bases};
    return mig_py_graph_names((graph_object *)self, spans[*(const int *)which]);
}

static PyObject *revision(PyObject *self, PyObject *index)
{
    uint32_t node;
    if (mig_py_graph_index((graph_object *)self, index, &node) < 0)
        return NULL;
    return Py_NewRef(PyTuple_GET_ITEM(((graph_object *)self)->names, (Py_ssize_t)node));
}

static PyObject *edges(PyObject *self, PyObject *index, const mig_edges *which)
{
    uint32_t node;
    if (mig_py_graph_index((graph_object *)self, index, &node) < 0)
        return NULL;
    return mig_py_graph_names((graph_object *)self, mig_edges_of(which, node));
}

#define EDGES(method, member)                                                                      \
    static PyObject *method(PyObject *self, PyObject *index)                                       \
    {                                                                                              \
        return edges(self, index, &((graph_object *)self)->graph->member);                         \
    }

EDGES(nextrev, next)
EDGES(all_nextrev, all_next)
EDGES(down_revisions, down)
EDGES(resolved_dependencies, resolved)
EDGES(normalized_dependencies, normalized)

static PyObject *lookup(PyObject *self, PyObject *key)
{
    mig_name name;
    if (as_name(key, &name) < 0)
        return NULL;
    uint32_t node = mig_graph_lookup(((graph_object *)self)->graph, name);
    if (node == MIG_NODE_NONE) {
        PyErr_SetObject(PyExc_KeyError, key);
        return NULL;
    }
    return PyLong_FromUnsignedLong(node);
}

/* Questions ---------------------------------------------------------------------------------- */

static PyObject *new_labels(graph_object *self, uint32_t set)
{
    question q;
    mig_nodes found = {NULL, 0, 0};
    PyObject *tuple = NULL;
    begin(&q, (PyObject *)self);
    if (settle(&q, mig_labels(&q.query, set, &found)) == 0)
        tuple = PyTuple_New((Py_ssize_t)found.count);
    for (uint32_t i = 0; tuple != NULL && i < found.count; i++) {
        PyObject *label = new_name(self->graph->keys[self->graph->count + found.items[i]]);
        if (label == NULL)
            Py_CLEAR(tuple);
        else
            PyTuple_SET_ITEM(tuple, (Py_ssize_t)i, label);
    }
    return end(&q, tuple);
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
        else /* another call was faster: a callback of the collector, say */
            Py_XDECREF(made);
    }
    return Py_XNewRef(g->labels[set]);
}

static PyObject *labelled(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    const mig_graph *graph = ((graph_object *)self)->graph;
    PyObject *list = PyList_New(0);
    for (uint32_t i = 0; list != NULL && i < graph->count; i++) {
        if (graph->label_set[i] == MIG_NODE_NONE)
            continue;
        PyObject *node = new_node(i);
        if (node == NULL || PyList_Append(list, node) < 0)
            Py_CLEAR(list);
        Py_XDECREF(node);
    }
    return list;
}

static PyObject *labels(PyObject *self, PyObject *index)
{
    uint32_t node;
    if (mig_py_graph_index((graph_object *)self, index, &node) < 0)
        return NULL;
    return mig_py_graph_labels((graph_object *)self, node);
}

typedef mig_status (*ids_question)(mig_query *query, mig_ids ids, mig_nodes *found);

static PyObject *ask_ids(PyObject *self, PyObject *value, ids_question ask, int as_tuple)
{
    question q;
    ids argument = {0};
    mig_nodes found = {NULL, 0, 0};
    PyObject *answer = NULL;
    begin(&q, self);
    if (as_ids(q.self, value, &argument) == 0 &&
        settle(&q, ask(&q.query, argument.ids, &found)) == 0)
        answer = new_nodes(found, as_tuple);
    release_ids(&argument);
    return end(&q, answer);
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
    question q;
    mig_name name;
    uint32_t found;
    PyObject *answer = NULL;
    begin(&q, self);
    if (as_name(value, &name) == 0 && check_digits(value) == 0 &&
        settle(&q, mig_get_revision(&q.query, name, &found)) == 0)
        answer = new_node(found);
    return end(&q, answer);
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
    question q;
    ids from = {0}, to = {0};
    mig_nodes found = {NULL, 0, 0};
    PyObject *answer = NULL;
    begin(&q, self);
    q.lower = lower;
    q.upper = upper;
    if (as_ids(q.self, upper, &from) == 0 && as_ids(q.self, lower, &to) == 0) {
        const mig_range range = {from.ids,           to.ids,
                                 implicit_base != 0, inclusive != 0,
                                 assert_length != 0, downgrade != 0};
        if (settle(&q, mig_iterate(&q.query, &range, &found)) == 0)
            answer = new_nodes(found, 0);
    }
    release_ids(&from);
    release_ids(&to);
    return end(&q, answer);
}

static PyObject *stamp(PyObject *self, PyObject *args)
{
    PyObject *to, *from;
    if (!PyArg_ParseTuple(args, "OO:stamp", &to, &from))
        return NULL;
    question q;
    ids destinations = {0}, heads = {0};
    mig_step *steps;
    size_t count;
    PyObject *answer = NULL;
    begin(&q, self);
    if (as_ids(q.self, to, &destinations) == 0 && as_ids(q.self, from, &heads) == 0 &&
        settle(&q, mig_stamp_steps(&q.query, destinations.ids, heads.ids, &steps, &count)) == 0) {
        answer = mig_py_hide(PyList_New((Py_ssize_t)count));
        for (size_t i = 0; answer != NULL && i < count; i++) {
            PyObject *step =
                Py_BuildValue("(NNOO)", new_names(steps[i].from), new_names(steps[i].to),
                              steps[i].is_upgrade ? Py_True : Py_False,
                              steps[i].branch_move ? Py_True : Py_False);
            if (step == NULL)
                Py_CLEAR(answer);
            else
                PyList_SET_ITEM(answer, (Py_ssize_t)i, step);
        }
    }
    release_ids(&destinations);
    release_ids(&heads);
    return end(&q, mig_py_show(answer));
}

/* A migration is (index, is_upgrade), a stamp (from, to, is_upgrade, branch_move). */
static int read_step(graph_object *self, PyObject *value, mig_step *step, ids *from, ids *to)
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
        as_ids(self, a, from) < 0 || as_ids(self, b, to) < 0)
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
        return Py_BuildValue("(sN)", "insert", new_name(operation->to));
    case MIG_VERSION_DELETE:
        return Py_BuildValue("(sN)", "delete", new_name(operation->from));
    case MIG_VERSION_UPDATE:
        break;
    }
    return Py_BuildValue("(sNN)", "update", new_name(operation->from), new_name(operation->to));
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

static PyObject *version_operations(PyObject *self, PyObject *args)
{
    PyObject *rows, *given;
    if (!PyArg_ParseTuple(args, "OO:version_operations", &rows, &given))
        return NULL;
    PyObject *list = mig_py_tuple(given); /* as in build */
    if (list == NULL)
        return NULL;
    question q;
    size_t count = (size_t)PyTuple_GET_SIZE(list), read = 0;
    ids heads = {0};
    ids *names = PyMem_Calloc(count + 1, 2 * sizeof *names);
    mig_step *steps = PyMem_Calloc(count + 1, sizeof *steps);
    mig_operations operations = {NULL, 0, 0};
    PyObject *answer = NULL;
    begin(&q, self);
    if (names == NULL || steps == NULL)
        PyErr_NoMemory();
    else if (as_ids(q.self, rows, &heads) == 0) {
        while (read < count && read_step(q.self, PyTuple_GET_ITEM(list, (Py_ssize_t)read),
                                         &steps[read], &names[read * 2], &names[read * 2 + 1]) == 0)
            read++;
        if (read == count &&
            settle(&q, mig_version_operations(&q.query, heads.ids, steps, count, &operations)) == 0)
            answer = new_operations(&operations, count);
    }
    for (size_t i = 0; names != NULL && i < count * 2; i++)
        release_ids(&names[i]);
    release_ids(&heads);
    PyMem_Free(names);
    PyMem_Free(steps);
    Py_DECREF(list);
    return end(&q, answer);
}

static PyObject *version_step(PyObject *self, PyObject *args)
{
    graph_object *g = (graph_object *)self;
    PyObject *rows, *index, *answer = NULL;
    int is_upgrade;
    if (!PyArg_ParseTuple(args, "OOp:version_step", &rows, &index, &is_upgrade))
        return NULL;
    mig_step step = {.is_upgrade = is_upgrade != 0};
    mig_operations operations = {NULL, 0, 0};
    ids heads = {0};
    question q;
    begin(&q, self);
    if (mig_py_graph_index(g, index, &step.node) == 0 && as_ids(g, rows, &heads) == 0) {
        /* Ours alone until they are put back: another call, from a callback of the collector or
         * from another thread, makes rows of its own. */
        mig_version_rows *now = g->rows;
        g->rows = NULL;
        if (now == NULL && (now = mig_version_rows_new(g->graph)) == NULL)
            PyErr_NoMemory();
        else if (settle(&q, mig_version_rows_step(now, heads.ids, &step, &operations,
                                                  q.query.error)) == 0)
            answer = new_operations(&operations, 1);
        mig_version_rows *others = g->rows;
        g->rows = now;
        mig_version_rows_free(others);
    }
    if (answer != NULL)
        Py_SETREF(answer, Py_NewRef(PyList_GET_ITEM(answer, 0)));
    release_ids(&heads);
    return end(&q, answer);
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
    {"stamp", stamp, METH_VARARGS,
     "stamp(destinations, heads) -> steps (from, to, is_upgrade, branch_move)"},
    {"version_operations", version_operations, METH_VARARGS,
     "version_operations(heads, steps) -> for each step, what it writes to the version table"},
    {"version_step", version_step, METH_VARARGS,
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
    .basicsize = sizeof(graph_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

int mig_py_add_graph(PyObject *module)
{
    mig_py_state *state = mig_py_state_of(module);
    state->graph_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);
    return state->graph_type == NULL ? -1 : PyModule_AddType(module, state->graph_type);
}
