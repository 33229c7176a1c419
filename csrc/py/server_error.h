/*
 * Exceptions from the server's diagnostics (errors.c). Separate from module.h, so that files that
 * do not need a server do not include libpq's headers. GIL: held.
 */
#ifndef MIG_PY_SERVER_ERROR_H
#define MIG_PY_SERVER_ERROR_H

#include "py/module.h"

#include "pq/session.h"

/* {PG_DIAG_* code: text}, or NULL with an exception set. errors: as for bytes.decode("UTF-8", ...).
 */
PyObject *mig_py_fields(const mig_diagnostics *diagnostics, const char *errors);

/* As mig_py_raise; a MIG_ESERVER carries sqlstate, fields, index (-1: no batch) and partial (may be
 * NULL). */
PyObject *mig_py_raise_server(const mig_error *error, const mig_diagnostics *diagnostics,
                              Py_ssize_t index, PyObject *partial, const char *errors);

#endif
