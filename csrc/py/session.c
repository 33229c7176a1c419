#include "py/module.h"

int mig_py_add_session(PyObject *module)
{
    (void)module;
    return 0;
}
