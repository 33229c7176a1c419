/*
 * Graph.describe: revisions as the commands print them, one line each.
 *
 * Mirrors `Script._head_only`, `_format_down_revision` and `doc` of alembic/script/base.py (read in
 * 1.20.1). The text is put together as UTF-8 in one buffer; O(its length). Holds the GIL.
 */
#include "py/graph_object.h"

#include <stdlib.h>
#include <string.h>

typedef struct text {
    char *bytes;
    size_t length, size;
} text;

static int add(text *t, const char *bytes, size_t length)
{
    if (length > t->size - t->length) {
        size_t size = t->size + length < 4096 ? 4096 : (t->size + length) * 2;
        char *grown = size > t->size ? PyMem_Realloc(t->bytes, size) : NULL;
        if (grown == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        t->bytes = grown;
        t->size = size;
    }
    memcpy(t->bytes + t->length, bytes, length);
    t->length += length;
    return 0;
}

#define ADD(t, literal) add((t), "" literal, sizeof(literal) - 1)

static int add_name(text *t, mig_text name)
{
    return add(t, name.text, name.length);
}

/* A string from the scanner, or from an executed file, which may hold lone surrogates. */
static int add_object(text *t, PyObject *string)
{
    Py_ssize_t length;
    const char *bytes = PyUnicode_AsUTF8AndSize(string, &length);
    if (bytes != NULL)
        return add(t, bytes, (size_t)length);
    if (!PyErr_ExceptionMatches(PyExc_UnicodeEncodeError))
        return -1;
    PyErr_Clear();
    PyObject *encoded = PyUnicode_AsEncodedString(string, "utf-8", "surrogatepass");
    int status = encoded == NULL
                     ? -1
                     : add(t, PyBytes_AS_STRING(encoded), (size_t)PyBytes_GET_SIZE(encoded));
    Py_XDECREF(encoded);
    return status;
}

/* A string, or a tuple of strings with commas between. */
static int add_objects(text *t, PyObject *value)
{
    if (!PyTuple_Check(value))
        return add_object(t, value);
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(value); i++)
        if ((i > 0 && ADD(t, ", ") < 0) || add_object(t, PyTuple_GET_ITEM(value, i)) < 0)
            return -1;
    return 0;
}

static int add_span(text *t, const mig_graph *graph, mig_span span)
{
    if (span.count == 0)
        return ADD(t, "<base>");
    for (uint32_t i = 0; i < span.count; i++)
        if ((i > 0 && ADD(t, ", ") < 0) || add_name(t, graph->names[span.items[i]]) < 0)
            return -1;
    return 0;
}

static int add_labels(text *t, mig_py_graph *self, uint32_t node)
{
    PyObject *labels = mig_py_graph_labels(self, node);
    if (labels == NULL)
        return -1;
    int status = 0;
    if (PyTuple_GET_SIZE(labels) > 0 &&
        (ADD(t, " (") < 0 || add_objects(t, labels) < 0 || ADD(t, ")") < 0))
        status = -1;
    Py_DECREF(labels);
    return status;
}

/* `doc.strip().split("\n\n", 1)[0]`; doc: a str or None. */
static int add_doc(text *t, PyObject *doc)
{
    if (doc == Py_None)
        return 0;
    PyObject *stripped = PyObject_CallMethod(doc, "strip", NULL);
    size_t start = t->length;
    int status = stripped == NULL ? -1 : add_object(t, stripped);
    Py_XDECREF(stripped);
    for (size_t i = start; status == 0 && i + 1 < t->length; i++)
        if (t->bytes[i] == '\n' && t->bytes[i + 1] == '\n')
            t->length = i;
    return status;
}

typedef struct options {
    PyObject *current; /* tuple of str: to be marked */
    int branches, doc, parents, indicators;
} options;

static int add_line(text *t, mig_py_graph *self, uint32_t node, PyObject *record, const options *o)
{
    const mig_graph *graph = self->graph;
    mig_span down = mig_edges_of(&graph->down, node), next = mig_edges_of(&graph->next, node);
    PyObject *depends = PyTuple_GET_ITEM(record, 3);
    if (o->parents) {
        int depended = PyObject_IsTrue(depends);
        if (depended < 0 || add_span(t, graph, down) < 0 ||
            (depended > 0 &&
             (ADD(t, " (") < 0 || add_objects(t, depends) < 0 || ADD(t, ")") < 0)) ||
            ADD(t, " -> ") < 0)
            return -1;
    }
    if (add_name(t, graph->names[node]) < 0 || (o->branches && add_labels(t, self, node) < 0))
        return -1;
    if (mig_edges_of(&graph->all_next, node).count == 0) {
        if (ADD(t, " (head)") < 0)
            return -1;
    } else if (next.count == 0 && ADD(t, " (effective head)") < 0) {
        return -1;
    }
    int is_current =
        PyTuple_GET_SIZE(o->current) == 0
            ? 0
            : PySequence_Contains(o->current, PyTuple_GET_ITEM(self->names, (Py_ssize_t)node));
    if (is_current < 0 || (is_current > 0 && ADD(t, " (current)") < 0) ||
        (o->indicators && next.count > 1 && ADD(t, " (branchpoint)") < 0) ||
        (o->indicators && down.count > 1 && ADD(t, " (mergepoint)") < 0) ||
        (o->doc && (ADD(t, ", ") < 0 || add_doc(t, PyTuple_GET_ITEM(record, 4)) < 0)))
        return -1;
    return ADD(t, "\n");
}

/* 1 where `record` is what scan_files gives, or 0 with an exception. */
static int is_record(PyObject *record)
{
    if (PyTuple_Check(record) && PyTuple_GET_SIZE(record) == 5) {
        PyObject *doc = PyTuple_GET_ITEM(record, 4);
        if (doc == Py_None || PyUnicode_Check(doc))
            return 1;
    }
    PyErr_SetString(PyExc_TypeError, "a record is a tuple of five items, the last of them a str");
    return 0;
}

PyObject *mig_py_graph_describe(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"indexes", "records", "current",    "branches",
                            "doc",     "parents", "indicators", NULL};
    mig_py_graph *self = (mig_py_graph *)object;
    options o = {.indicators = 1};
    text t = {NULL, 0, 0};
    PyObject *indexes, *given, *list = NULL, *records = NULL, *answer = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|O!$pppp:describe", names, &indexes, &given,
                                     &PyTuple_Type, &o.current, &o.branches, &o.doc, &o.parents,
                                     &o.indicators))
        return NULL;
    o.current = o.current == NULL ? PyTuple_New(0) : Py_NewRef(o.current);
    /* New tuples: comparing and stripping may run Python code, which could change a list. */
    list = mig_py_tuple(indexes);
    records = list != NULL ? mig_py_tuple(given) : NULL;
    if (o.current == NULL || records == NULL)
        goto done;
    if ((size_t)PyTuple_GET_SIZE(records) != self->graph->count) {
        PyErr_SetString(PyExc_ValueError, "these are not the records of the graph");
        goto done;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(list); i++) {
        uint32_t node;
        if (mig_py_graph_index(self, PyTuple_GET_ITEM(list, i), &node) < 0)
            goto done;
        PyObject *record = PyTuple_GET_ITEM(records, (Py_ssize_t)node);
        if (!is_record(record) || add_line(&t, self, node, record, &o) < 0)
            goto done;
    }
    answer =
        PyUnicode_DecodeUTF8(t.bytes != NULL ? t.bytes : "", (Py_ssize_t)t.length, "surrogatepass");
done:
    PyMem_Free(t.bytes);
    Py_XDECREF(o.current);
    Py_XDECREF(records);
    Py_XDECREF(list);
    return answer;
}
