#include "py/module.h"

int mig_py_add_scan(PyObject *module)
{
    (void)module;
    return 0;
}
