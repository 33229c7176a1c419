/* Arguments, answers and errors of a question to a graph. */
#include "py/graph_object.h"

int mig_py_as_name(PyObject *text, mig_text *name)
{
    *name = MIG_NO_TEXT;
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

int mig_py_as_names(PyObject *value, PyObject **keep, mig_text **items, size_t *count)
{
    *keep = is_sequence(value) ? mig_py_tuple(value) : PyTuple_Pack(1, value);
    if (*keep == NULL)
        return -1;
    *count = (size_t)PyTuple_GET_SIZE(*keep);
    *items = PyMem_New(mig_text, *count > 0 ? *count : 1);
    if (*items == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < *count; i++) {
        if (mig_py_as_name(PyTuple_GET_ITEM(*keep, (Py_ssize_t)i), &(*items)[i]) < 0)
            return -1;
    }
    return 0;
}

int mig_py_check_digits(PyObject *text)
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
    mig_status status = MIG_GRAPH_FAIL(&error, MIG_GRAPH_DECLINED, MIG_TEXT("unusual digits"));
    mig_py_raise_graph(Py_None, status, &error, Py_None, Py_None);
    mig_graph_error_release(&error);
    return -1;
}

void mig_py_ids_release(mig_py_ids *argument)
{
    Py_CLEAR(argument->keep);
    PyMem_Free(argument->items);
    argument->items = NULL;
}

int mig_py_ids_read(mig_py_graph *self, PyObject *value, mig_py_ids *argument)
{
    PyObject *odd = NULL;
    if (value != Py_None && !PyUnicode_Check(value) && !is_sequence(value))
        odd = value;
    else if (mig_py_as_names(value, &argument->keep, &argument->items, &argument->ids.count) < 0) {
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
        if (mig_py_check_digits(PyTuple_GET_ITEM(argument->keep, (Py_ssize_t)i)) < 0)
            return -1;
    }
    argument->ids.items = argument->items;
    argument->ids.is_sequence = is_sequence(value);
    return 0;
}

PyObject *mig_py_new_name(mig_text name)
{
    if (name.text == NULL)
        Py_RETURN_NONE;
    return PyUnicode_FromStringAndSize(name.text, (Py_ssize_t)name.length);
}

PyObject *mig_py_new_names(mig_ids names)
{
    PyObject *tuple = PyTuple_New((Py_ssize_t)names.count);
    for (size_t i = 0; tuple != NULL && i < names.count; i++) {
        PyObject *name = mig_py_new_name(names.items[i]);
        if (name == NULL)
            Py_CLEAR(tuple);
        else
            PyTuple_SET_ITEM(tuple, (Py_ssize_t)i, name);
    }
    return tuple;
}

PyObject *mig_py_new_node(uint32_t node)
{
    if (node == MIG_NODE_NONE)
        Py_RETURN_NONE;
    if (node == MIG_NODE_BASE)
        return PyUnicode_FromString("base");
    return PyLong_FromUnsignedLong(node);
}

PyObject *mig_py_new_nodes(mig_nodes nodes, int as_tuple)
{
    Py_ssize_t count = (Py_ssize_t)nodes.count;
    PyObject *made = as_tuple ? PyTuple_New(count) : PyList_New(count);
    for (Py_ssize_t i = 0; made != NULL && i < count; i++) {
        PyObject *node = mig_py_new_node(nodes.items[i]);
        if (node == NULL)
            Py_CLEAR(made);
        else if (as_tuple)
            PyTuple_SET_ITEM(made, i, node);
        else
            PyList_SET_ITEM(made, i, node);
    }
    return made;
}

void mig_py_question_begin(mig_py_question *q, PyObject *self)
{
    q->self = (mig_py_graph *)self;
    q->lower = q->upper = Py_None;
    mig_graph_error_init(&q->error, &mig_alloc_system);
    mig_query_init(&q->query, q->self->graph, &q->error);
}

int mig_py_question_check(mig_py_question *q, mig_status status)
{
    if (q->error.ambiguous_downgrade) {
        /* Alembic warns here, with the caller's location: only Alembic itself can do that. */
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

PyObject *mig_py_question_end(mig_py_question *q, PyObject *answer)
{
    mig_query_release(&q->query);
    mig_graph_error_release(&q->error);
    return answer;
}
