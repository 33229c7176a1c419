/* The module object: its state, its counters, and the files that add to it. */
#include "py/module.h"

mig_py_state *mig_py_state_of(PyObject *module)
{
    return (mig_py_state *)PyModule_GetState(module);
}

mig_py_state *mig_py_state_of_type(PyTypeObject *type)
{
    return (mig_py_state *)PyType_GetModuleState(type);
}

PyObject *mig_py_tuple(PyObject *value)
{
    if (PyTuple_CheckExact(value))
        return Py_NewRef(value);
    PyObject *list =
        PyList_CheckExact(value) ? Py_NewRef(value) : mig_py_hide(PySequence_List(value));
    PyObject *tuple = NULL;
    while (list != NULL && tuple == NULL) {
        Py_ssize_t count = PyList_GET_SIZE(list);
        tuple = PyTuple_New(count);
        if (tuple == NULL)
            break;
        if (PyList_GET_SIZE(list) != count) /* a callback of the collector has changed it */
            Py_CLEAR(tuple);
        for (Py_ssize_t i = 0; tuple != NULL && i < count; i++)
            PyTuple_SET_ITEM(tuple, i, Py_NewRef(PyList_GET_ITEM(list, i)));
    }
    Py_XDECREF(list);
    return tuple;
}

PyObject *mig_py_call_held(PyCFunctionWithKeywords function, PyObject *self, PyObject *args,
                           PyObject *kwargs)
{
    PyObject *held = NULL;
    if (kwargs != NULL && (held = mig_py_hide(PyDict_Copy(kwargs))) == NULL)
        return NULL;
    PyObject *result = function(self, args, held);
    Py_XDECREF(held);
    return result;
}

static PyObject *counters(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    const mig_py_counters *c = &mig_py_state_of(module)->counters;
    return Py_BuildValue("{s:K,s:K,s:K,s:K,s:K}", "files_scanned",
                         (unsigned long long)c->files_scanned, "graph_builds",
                         (unsigned long long)c->graph_builds, "batches",
                         (unsigned long long)c->batches, "statements",
                         (unsigned long long)c->statements, "waits", (unsigned long long)c->waits);
}

static PyMethodDef methods[] = {
    {"counters", counters, METH_NOARGS,
     "counters() -> dict[str, int]\n\nWhat the C core has counted in this interpreter."},
    {NULL, NULL, 0, NULL},
};

static int exec_module(PyObject *module)
{
    if (mig_py_add_scan(module) < 0 || mig_py_add_scripts(module) < 0 ||
        mig_py_add_graph(module) < 0 || mig_py_add_session(module) < 0 ||
        mig_py_add_version_operations(module) < 0 || mig_py_add_sql(module) < 0 ||
        mig_py_add_plan_file(module) < 0)
        return -1;
    return 0;
}

static int traverse_module(PyObject *module, visitproc visit, void *arg)
{
    mig_py_state *state = mig_py_state_of(module);
    Py_VISIT(state->graph_type);
    Py_VISIT(state->session_type);
    Py_VISIT(state->version_operations_type);
    return 0;
}

static int clear_module(PyObject *module)
{
    mig_py_state *state = mig_py_state_of(module);
    Py_CLEAR(state->graph_type);
    Py_CLEAR(state->session_type);
    Py_CLEAR(state->version_operations_type);
    return 0;
}

/* State is in the module, so each interpreter has its own. The code relies on the GIL, for the
 * drivers' connections (lease.h) and for what a graph caches: the module loads where interpreters
 * share one GIL, and a free-threaded build turns its GIL on.
 */
static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, (void *)exec_module},
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_SUPPORTED},
#endif
#if PY_VERSION_HEX >= 0x030D0000
    {Py_mod_gil, Py_MOD_GIL_USED},
#endif
    {0, NULL},
};

struct PyModuleDef mig_py_module = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "migrate_ext._core",
    .m_doc = "The C core of migrate_ext: scanner, revision graph, libpq session, batches.",
    .m_size = sizeof(mig_py_state),
    .m_methods = methods,
    .m_slots = slots,
    .m_traverse = traverse_module,
    .m_clear = clear_module,
};

PyMODINIT_FUNC PyInit__core(void)
{
    return PyModuleDef_Init(&mig_py_module);
}
