#include "py/module.h"

int mig_py_add_sql(PyObject *module)
{
    (void)module;
    return 0;
}
