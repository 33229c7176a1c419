/* The type; reading operations from Python. Those of a graph are made in graph_steps.c. */
#include "py/version_operations.h"

#include <string.h>

typedef struct version_operations {
    PyObject_HEAD size_t count;
    mig_version_op *items; /* one block of PyMem with all texts behind it, which end in NUL */
} version_operations;

/* Making --------------------------------------------------------------------------------------- */

static mig_text copy_text(mig_text text, char **to)
{
    if (text.text == NULL)
        return MIG_NO_TEXT;
    mig_text copy = {*to, text.length};
    if (text.length > 0)
        memcpy(*to, text.text, text.length);
    (*to)[text.length] = '\0';
    *to += text.length + 1;
    return copy;
}

PyObject *mig_py_new_version_ops(mig_py_state *state, const mig_version_op *ops, size_t count)
{
    size_t size = (count + 1) * sizeof *ops;
    for (size_t i = 0; i < count; i++)
        size += ops[i].from.length + ops[i].to.length + 2;
    mig_version_op *items = PyMem_Malloc(size);
    if (items == NULL)
        return PyErr_NoMemory();
    char *texts = (char *)(items + count);
    for (size_t i = 0; i < count; i++) {
        items[i] = ops[i];
        items[i].from = copy_text(ops[i].from, &texts);
        items[i].to = copy_text(ops[i].to, &texts);
    }
    PyTypeObject *type = state->version_operations_type;
    version_operations *self = (version_operations *)type->tp_alloc(type, 0);
    if (self == NULL) {
        PyMem_Free(items);
        return NULL;
    }
    self->items = items;
    self->count = count;
    return (PyObject *)self;
}

/* The collector does not know these objects: they refer to texts only. */
static void dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyMem_Free(((version_operations *)self)->items);
    type->tp_free(self);
    Py_DECREF(type);
}

/* As a sequence of tuples ---------------------------------------------------------------------- */

static PyObject *text_object(mig_text text)
{
    if (text.text == NULL)
        Py_RETURN_NONE;
    return PyUnicode_FromStringAndSize(text.text, (Py_ssize_t)text.length);
}

static PyObject *new_tuple(const mig_version_op *op)
{
    switch (op->kind) {
    case MIG_VERSION_INSERT:
        return Py_BuildValue("(sN)", "insert", text_object(op->to));
    case MIG_VERSION_DELETE:
        return Py_BuildValue("(sN)", "delete", text_object(op->from));
    case MIG_VERSION_UPDATE:
        break;
    }
    return Py_BuildValue("(sNN)", "update", text_object(op->from), text_object(op->to));
}

static Py_ssize_t length(PyObject *self)
{
    return (Py_ssize_t)((version_operations *)self)->count;
}

static PyObject *item(PyObject *self, Py_ssize_t index)
{
    const version_operations *o = (version_operations *)self;
    if (index < 0 || (size_t)index >= o->count) {
        PyErr_SetString(PyExc_IndexError, "no operation has this index");
        return NULL;
    }
    return new_tuple(&o->items[index]);
}

static PyObject *iterate(PyObject *self)
{
    return PySeqIter_New(self);
}

/* Equal to another one, a list or a tuple that holds equal tuples. */
static PyObject *compare(PyObject *self, PyObject *other, int operator)
{
    bool is_list = PyList_Check(other) || Py_IS_TYPE(other, Py_TYPE(self));
    if ((operator != Py_EQ && operator != Py_NE) || !(is_list || PyTuple_Check(other)))
        Py_RETURN_NOTIMPLEMENTED;
    PyObject *own = is_list ? PySequence_List(self) : PySequence_Tuple(self), *theirs = NULL;
    if (own != NULL)
        theirs = Py_IS_TYPE(other, Py_TYPE(self)) ? PySequence_List(other) : Py_NewRef(other);
    PyObject *answer = theirs != NULL ? PyObject_RichCompare(own, theirs, operator) : NULL;
    Py_XDECREF(own);
    Py_XDECREF(theirs);
    return answer;
}

static PyObject *repr(PyObject *self)
{
    PyObject *list = PySequence_List(self);
    PyObject *text = list != NULL ? PyUnicode_FromFormat("VersionOperations(%R)", list) : NULL;
    Py_XDECREF(list);
    return text;
}

/* Reading -------------------------------------------------------------------------------------- */

int mig_py_version_op_read(PyObject *item, mig_version_op *op)
{
    const char *action, *first, *second = NULL;
    if (!PyTuple_Check(item)) {
        PyErr_SetString(PyExc_TypeError, "an operation must be a tuple");
        return -1;
    }
    if (!PyArg_ParseTuple(item, "ss|s:operation", &action, &first, &second))
        return -1;
    if (strcmp(action, "insert") == 0 && second == NULL) {
        *op = (mig_version_op){.kind = MIG_VERSION_INSERT, .to = mig_text_of(first)};
    } else if (strcmp(action, "delete") == 0 && second == NULL) {
        *op = (mig_version_op){.kind = MIG_VERSION_DELETE, .from = mig_text_of(first)};
    } else if (strcmp(action, "update") == 0 && second != NULL) {
        *op = (mig_version_op){
            .kind = MIG_VERSION_UPDATE, .from = mig_text_of(first), .to = mig_text_of(second)};
    } else {
        PyErr_Format(PyExc_ValueError, "no operation on the version table: %R", item);
        return -1;
    }
    return 0;
}

/* What reading a tuple of it would refuse. */
static int check_op(const mig_version_op *op)
{
    if ((op->kind != MIG_VERSION_INSERT && op->from.text == NULL) ||
        (op->kind != MIG_VERSION_DELETE && op->to.text == NULL)) {
        PyErr_SetString(PyExc_TypeError, "a version must be str, not None");
        return -1;
    }
    if (mig_text_has(op->from, '\0') || mig_text_has(op->to, '\0')) {
        PyErr_SetString(PyExc_ValueError, "embedded null character");
        return -1;
    }
    return 0;
}

int mig_py_version_ops_read(mig_py_state *state, PyObject *value,
                            mig_py_version_ops_argument *argument)
{
    if (Py_IS_TYPE(value, state->version_operations_type)) {
        argument->keep = Py_NewRef(value);
        argument->items = ((version_operations *)value)->items;
        argument->count = ((version_operations *)value)->count;
        for (size_t i = 0; i < argument->count; i++)
            if (check_op(&argument->items[i]) < 0)
                return -1;
        return 0;
    }
    argument->keep = mig_py_tuple(value);
    if (argument->keep == NULL)
        return -1;
    argument->count = (size_t)PyTuple_GET_SIZE(argument->keep);
    argument->own = PyMem_Calloc(argument->count + 1, sizeof *argument->own);
    argument->items = argument->own;
    if (argument->own == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < argument->count; i++) {
        PyObject *tuple = PyTuple_GET_ITEM(argument->keep, (Py_ssize_t)i);
        if (mig_py_version_op_read(tuple, &argument->own[i]) < 0)
            return -1;
    }
    return 0;
}

void mig_py_version_ops_release(mig_py_version_ops_argument *argument)
{
    PyMem_Free(argument->own);
    Py_XDECREF(argument->keep);
    *argument = (mig_py_version_ops_argument){0};
}

/* The type ------------------------------------------------------------------------------------- */

static PyType_Slot slots[] = {
    {Py_tp_doc, "What a step writes to the version table: a sequence of tuples ('insert', to), "
                "('delete', from) or ('update', from, to)."},
    {Py_tp_dealloc, (void *)dealloc},
    {Py_tp_iter, (void *)iterate},
    {Py_tp_repr, (void *)repr},
    {Py_tp_richcompare, (void *)compare},
    {Py_tp_hash, (void *)PyObject_HashNotImplemented},
    {Py_sq_length, (void *)length},
    {Py_sq_item, (void *)item},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "migrate_ext._core.VersionOperations",
    .basicsize = sizeof(version_operations),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

int mig_py_add_version_operations(PyObject *module)
{
    mig_py_state *state = mig_py_state_of(module);
    state->version_operations_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);
    return state->version_operations_type == NULL
               ? -1
               : PyModule_AddType(module, state->version_operations_type);
}
