/*
 * Alembic's objects, many at once: `new_scripts` makes a Script of each file that was scanned, and
 * Graph.attach sets what a revision map sets on them.
 *
 * Mirrors `Revision.__init__` and `Script.__init__`, and what `RevisionMap._revision_map` leaves on
 * each revision (alembic/script/revision.py and base.py, read in 1.13 and 1.20.1). The caller has
 * checked that those are Alembic's own. Linear; holds the GIL. Neither runs code of a project, so
 * the garbage collector, which would visit all objects of SQLAlchemy, is off meanwhile.
 */
#include "py/graph_object.h"

#include <stdbool.h>
#include <string.h>

/* Attributes of a script, in the order in which Alembic sets them. */
enum { PATH, DOCSTRING, REVISION, DOWN, DEPENDENCIES, ORIGINAL_LABELS, LABELS, ATTRIBUTES };
static const char *const attribute_names[ATTRIBUTES] = {
    "path",         "_docstring",          "revision",     "down_revision",
    "dependencies", "_orig_branch_labels", "branch_labels"};

/* 1, 0, or -1 with an exception: whether `id` is `value`, a str, or in it, a tuple. */
static int holds(PyObject *value, PyObject *id)
{
    return PyTuple_Check(value) ? PySequence_Contains(value, id)
                                : PyObject_RichCompareBool(value, id, Py_EQ);
}

/* `tuple_rev_as_scalar(to_tuple(value))`: a new reference. */
static PyObject *as_scalar(PyObject *value)
{
    if (PyTuple_Check(value) && PyTuple_GET_SIZE(value) == 0)
        Py_RETURN_NONE;
    if (PyTuple_Check(value) && PyTuple_GET_SIZE(value) == 1)
        return Py_NewRef(PyTuple_GET_ITEM(value, 0));
    return Py_NewRef(value);
}

/* `to_tuple(value, default=())`: a new reference. */
static PyObject *as_tuple(PyObject *value)
{
    if (value == Py_None)
        return PyTuple_New(0);
    return PyTuple_Check(value) ? Py_NewRef(value) : PyTuple_Pack(1, value);
}

/*
 * 1, 0, or -1 with an exception: whether `answer` is of scan_files' kind, and `Revision.__init__`
 * would take it. illegal: the characters that no id may have.
 */
static int is_welcome(PyObject *answer, PyObject *illegal)
{
    if (!PyTuple_Check(answer) || PyTuple_GET_SIZE(answer) != 5)
        return 0;
    PyObject *id = PyTuple_GET_ITEM(answer, 0);
    if (!PyUnicode_Check(id))
        return 0;
    for (Py_ssize_t i = 0; i < PyUnicode_GET_LENGTH(illegal); i++) {
        Py_ssize_t at =
            PyUnicode_FindChar(id, PyUnicode_READ_CHAR(illegal, i), 0, PyUnicode_GET_LENGTH(id), 1);
        if (at != -1)
            return at < -1 ? -1 : 0;
    }
    int loops = holds(PyTuple_GET_ITEM(answer, 1), id);
    if (loops == 0)
        loops = holds(PyTuple_GET_ITEM(answer, 3), id);
    return loops < 0 ? -1 : !loops;
}

static PyObject *new_script(PyTypeObject *cls, PyObject *const *names, PyObject *nothing,
                            PyObject *path, PyObject *answer)
{
    PyObject *script = cls->tp_new(cls, nothing, NULL);
    PyObject *values[ATTRIBUTES] = {
        [PATH] = Py_NewRef(path),
        [DOCSTRING] = Py_NewRef(PyTuple_GET_ITEM(answer, 4)),
        [REVISION] = Py_NewRef(PyTuple_GET_ITEM(answer, 0)),
        [DOWN] = as_scalar(PyTuple_GET_ITEM(answer, 1)),
        [DEPENDENCIES] = as_scalar(PyTuple_GET_ITEM(answer, 3)),
        [ORIGINAL_LABELS] = as_tuple(PyTuple_GET_ITEM(answer, 2)),
    };
    values[LABELS] = values[ORIGINAL_LABELS] != NULL ? PySet_New(values[ORIGINAL_LABELS]) : NULL;
    for (size_t i = 0; i < ATTRIBUTES; i++) {
        if (script != NULL &&
            (values[i] == NULL || PyObject_SetAttr(script, names[i], values[i]) < 0))
            Py_CLEAR(script);
        Py_XDECREF(values[i]);
    }
    return script;
}

/* Interned names, so that instances share their keys; false with an exception. */
static bool intern(const char *const *texts, PyObject **names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if ((names[i] = PyUnicode_InternFromString(texts[i])) == NULL)
            return false;
    return true;
}

static void release_names(PyObject **names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        Py_XDECREF(names[i]);
}

static PyObject *new_scripts(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *cls, *folder, *files, *answers, *illegal, *names[ATTRIBUTES] = {NULL};
    if (!PyArg_ParseTuple(args, "O!UO!OU:new_scripts", &PyType_Type, &cls, &folder, &PyTuple_Type,
                          &files, &answers, &illegal))
        return NULL;
    if (((PyTypeObject *)cls)->tp_new == NULL) {
        PyErr_Format(PyExc_TypeError, "cannot create instances of %R", cls);
        return NULL;
    }
    PyObject *answers_now = mig_py_tuple(answers); /* a list could be changed by other code */
    PyObject *nothing = PyTuple_New(0), *scripts = NULL;
    Py_ssize_t count = PyTuple_GET_SIZE(files);
    bool collects = PyGC_Disable() != 0;
    if (answers_now == NULL || nothing == NULL || !intern(attribute_names, names, ATTRIBUTES))
        goto done;
    if (PyTuple_GET_SIZE(answers_now) != count) {
        PyErr_SetString(PyExc_ValueError, "an answer for each name is expected");
        goto done;
    }
    scripts = mig_py_hide(PyList_New(count));
    for (Py_ssize_t i = 0; scripts != NULL && i < count; i++) {
        PyObject *answer = PyTuple_GET_ITEM(answers_now, i), *script = NULL;
        int welcome = is_welcome(answer, illegal);
        if (welcome == 0) {
            script = Py_NewRef(Py_None);
        } else if (welcome > 0) {
            PyObject *path = PyUnicode_Concat(folder, PyTuple_GET_ITEM(files, i));
            if (path != NULL)
                script = new_script((PyTypeObject *)cls, names, nothing, path, answer);
            Py_XDECREF(path);
        }
        if (script == NULL)
            Py_CLEAR(scripts);
        else
            PyList_SET_ITEM(scripts, i, script);
    }
    (void)mig_py_show(scripts);
done:
    if (collects)
        (void)PyGC_Enable();
    release_names(names, ATTRIBUTES);
    Py_XDECREF(nothing);
    Py_XDECREF(answers_now);
    return scripts;
}

/* Graph.attach ------------------------------------------------------------------------------- */

enum { NEXT, ALL_NEXT, RESOLVED, NORMALIZED, PLACES };
static const char *const place_names[PLACES] = {"nextrev", "_all_nextrev", "_resolved_dependencies",
                                                "_normalized_resolved_dependencies"};

/* A new reference to the frozenset of the names in `span`. */
static PyObject *set_of(mig_py_graph *self, mig_span span)
{
    PyObject *tuple = mig_py_graph_names(self, span);
    PyObject *set = tuple != NULL ? PyFrozenSet_New(tuple) : NULL;
    Py_XDECREF(tuple);
    return set;
}

static bool is_same(mig_span a, mig_span b)
{
    return a.count == b.count &&
           (a.count == 0 || memcmp(a.items, b.items, a.count * sizeof *a.items) == 0);
}

static int attach_one(mig_py_graph *self, uint32_t i, PyObject *node, PyObject *const *names)
{
    const mig_graph *graph = self->graph;
    mig_span next = mig_edges_of(&graph->next, i), all = mig_edges_of(&graph->all_next, i);
    PyObject *values[PLACES] = {
        [NEXT] = set_of(self, next),
        [RESOLVED] = mig_py_graph_names(self, mig_edges_of(&graph->resolved, i)),
        [NORMALIZED] = mig_py_graph_names(self, mig_edges_of(&graph->normalized, i)),
    };
    values[ALL_NEXT] = is_same(next, all) ? Py_XNewRef(values[NEXT]) : set_of(self, all);
    int status = 0;
    for (size_t k = 0; k < PLACES; k++) {
        if (status == 0 && (values[k] == NULL || PyObject_SetAttr(node, names[k], values[k]) < 0))
            status = -1;
        Py_XDECREF(values[k]);
    }
    return status;
}

PyObject *mig_py_graph_attach(PyObject *object, PyObject *given)
{
    mig_py_graph *self = (mig_py_graph *)object;
    PyObject *nodes = mig_py_tuple(given), *map = NULL, *names[PLACES] = {NULL};
    bool collects = PyGC_Disable() != 0;
    if (nodes == NULL || !intern(place_names, names, PLACES))
        goto done;
    if ((size_t)PyTuple_GET_SIZE(nodes) != self->graph->count) {
        PyErr_SetString(PyExc_ValueError, "these are not the revisions of the graph");
        goto done;
    }
    map = PyDict_New();
    for (uint32_t i = 0; map != NULL && i < self->graph->count; i++) {
        PyObject *node = PyTuple_GET_ITEM(nodes, (Py_ssize_t)i);
        if (attach_one(self, i, node, names) < 0 ||
            PyDict_SetItem(map, PyTuple_GET_ITEM(self->names, (Py_ssize_t)i), node) < 0)
            Py_CLEAR(map);
    }
done:
    if (collects)
        (void)PyGC_Enable();
    release_names(names, PLACES);
    Py_XDECREF(nodes);
    return map;
}

static PyMethodDef functions[] = {
    {"new_scripts", new_scripts, METH_VARARGS,
     "new_scripts(cls: type, folder: str, names: tuple, answers: Sequence, illegal: str) -> "
     "list\n\n"
     "A `cls` for each answer of scan_files about the files `names` in `folder` (with a separator\n"
     "at its end), as its __init__ would make it; None where it would object, or the answer is a\n"
     "reason. illegal: characters that no revision id may have."},
    {NULL, NULL, 0, NULL},
};

int mig_py_add_scripts(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
