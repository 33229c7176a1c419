/* Functions over text and libraries, without a session: parse_url, redact_url,
 * is_harmless_option, statement_kind,
 * transaction_end, lock_sql_try, lock_sql_holders, lock_sql_invalid, load_libpq. */
#include "py/module.h"

#include <stdbool.h>

#include "core/sql_lexer.h"
#include "pq/libpq.h"
#include "pq/lock.h"
#include "pq/conninfo.h"
#include "pq/url.h"

static PyObject *parse_url(PyObject *Py_UNUSED(module), PyObject *argument)
{
    Py_ssize_t length;
    const char *text = PyUnicode_AsUTF8AndSize(argument, &length);
    if (text == NULL)
        return NULL;
    mig_arena arena;
    mig_conninfo url;
    mig_error error;
    PyObject *params = NULL;
    mig_arena_init(&arena, &mig_alloc_system);
    if (mig_conninfo_from_url(text, (size_t)length, &arena, &url, &error) != MIG_OK) {
        (void)mig_py_raise(&error);
        goto done;
    }
    params = PyDict_New();
    for (size_t i = 0; params != NULL && i < url.count; i++) {
        PyObject *value = PyUnicode_FromString(url.values[i]);
        if (value == NULL || PyDict_SetItemString(params, url.keywords[i], value) < 0)
            Py_CLEAR(params);
        Py_XDECREF(value);
    }
done:
    mig_arena_release(&arena);
    return params;
}

static PyObject *is_harmless_option(PyObject *Py_UNUSED(module), PyObject *args)
{
    const char *option, *value;
    if (!PyArg_ParseTuple(args, "ss:is_harmless_option", &option, &value))
        return NULL;
    return PyBool_FromLong(mig_url_is_harmless(option, value));
}

static PyObject *redact_url(PyObject *Py_UNUSED(module), PyObject *argument)
{
    Py_ssize_t length;
    const char *text = PyUnicode_AsUTF8AndSize(argument, &length), *redacted;
    if (text == NULL)
        return NULL;
    mig_arena arena;
    mig_error error;
    PyObject *result;
    mig_arena_init(&arena, &mig_alloc_system);
    if (mig_url_redact(text, (size_t)length, &arena, &redacted, &error) == MIG_OK)
        result = PyUnicode_FromString(redacted);
    else
        result = mig_py_raise(&error);
    mig_arena_release(&arena);
    return result;
}

/* Reads a function's arguments, a str (also one that the driver will not encode) and a setting.
 * up_to_zero: as libpq sends it, which ends a text at a zero byte. 0, or -1 with an exception
 * set. */
static int classify(PyObject *args, PyObject *kwargs, const char *format, bool up_to_zero,
                    mig_sql_info *info)
{
    static char *names[] = {"sql", "standard_conforming_strings", NULL};
    PyObject *text;
    int standard = 1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, format, names, &text, &standard))
        return -1;
    PyObject *bytes = PyUnicode_AsEncodedString(text, "utf-8", "surrogatepass");
    if (bytes == NULL)
        return -1;
    const char *sql = PyBytes_AS_STRING(bytes);
    size_t length = up_to_zero ? strlen(sql) : (size_t)PyBytes_GET_SIZE(bytes);
    *info = mig_sql_classify(sql, length, standard != 0);
    Py_DECREF(bytes);
    return 0;
}

static PyObject *statement_kind(PyObject *Py_UNUSED(module), PyObject *args, PyObject *kwargs)
{
    static const char *const NAMES[] = {"none", "one", "several", "unsure"};
    mig_sql_info info;
    if (classify(args, kwargs, "U|p:statement_kind", false, &info) < 0)
        return NULL;
    PyObject *keyword =
        PyUnicode_DecodeUTF8(info.keyword, (Py_ssize_t)strlen(info.keyword), "replace");
    if (keyword == NULL)
        return NULL;
    return Py_BuildValue("sN", NAMES[info.kind], keyword);
}

static PyObject *transaction_end(PyObject *Py_UNUSED(module), PyObject *args, PyObject *kwargs)
{
    static const char *const NAMES[] = {"", "commit", "rollback"};
    mig_sql_info info;
    if (classify(args, kwargs, "U|p:transaction_end", true, &info) < 0)
        return NULL;
    return PyUnicode_FromString(NAMES[info.ending]);
}

static PyObject *lock_sql_try(PyObject *Py_UNUSED(module), PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"table", "schema", "for_session", "backend_pid", NULL};
    mig_version_table table;
    int for_session, backend_pid = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "szp|i:lock_sql_try", names, &table.table,
                                     &table.schema, &for_session, &backend_pid))
        return NULL;
    mig_arena arena;
    mig_error error;
    const char *sql;
    mig_arena_init(&arena, &mig_alloc_system);
    mig_status status =
        mig_lock_sql_try(&table, for_session != 0, backend_pid, &arena, &sql, &error);
    PyObject *result = status == MIG_OK ? PyUnicode_FromString(sql) : mig_py_raise(&error);
    mig_arena_release(&arena);
    return result;
}

static PyObject *lock_sql_holders(PyObject *Py_UNUSED(module), PyObject *argument)
{
    long long key = PyLong_AsLongLong(argument);
    if (key == -1 && PyErr_Occurred())
        return NULL;
    mig_arena arena;
    mig_error error;
    const char *sql;
    mig_arena_init(&arena, &mig_alloc_system);
    mig_status status = mig_lock_sql_holders(key, &arena, &sql, &error);
    PyObject *result = status == MIG_OK ? PyUnicode_FromString(sql) : mig_py_raise(&error);
    mig_arena_release(&arena);
    return result;
}

static PyObject *lock_sql_invalid(PyObject *Py_UNUSED(module), PyObject *argument)
{
    const char *words = PyUnicode_AsUTF8(argument);
    if (words == NULL)
        return NULL;
    mig_arena arena;
    mig_error error;
    const char *sql;
    mig_arena_init(&arena, &mig_alloc_system);
    mig_status status = mig_lock_sql_invalid(words, &arena, &sql, &error);
    PyObject *result = status == MIG_OK ? PyUnicode_FromString(sql) : mig_py_raise(&error);
    mig_arena_release(&arena);
    return result;
}

static PyObject *load_libpq(PyObject *Py_UNUSED(module), PyObject *argument)
{
    PyObject *path = NULL;
    if (argument != Py_None && !PyUnicode_FSConverter(argument, &path))
        return NULL;
    mig_libpq table;
    mig_error error;
    mig_status status;
    const char *file = path != NULL ? PyBytes_AS_STRING(path) : NULL;
    Py_BEGIN_ALLOW_THREADS
    status = mig_libpq_load(&table, file, &error);
    Py_END_ALLOW_THREADS
    Py_XDECREF(path);
    if (status != MIG_OK)
        return mig_py_raise(&error);
    int version = table.version;
    mig_libpq_release(&table);
    return PyLong_FromLong(version);
}

MIG_PY_KEYWORDS(statement_kind)
MIG_PY_KEYWORDS(transaction_end)
MIG_PY_KEYWORDS(lock_sql_try)

static PyMethodDef methods[] = {
    {"parse_url", parse_url, METH_O,
     "parse_url(url: str) -> dict[str, str]\n\nA SQLAlchemy URL as libpq's keywords and values. "
     "Raises ValueError, or Declined for an option that only a driver knows."},
    {"redact_url", redact_url, METH_O,
     "redact_url(url: str) -> str\n\nThe URL as SQLAlchemy prints it, without its password."},
    {"is_harmless_option", is_harmless_option, METH_VARARGS,
     "is_harmless_option(option: str, value: str) -> bool\n\nWhether an option of a URL or a "
     "connection string may be printed with this value."},
    {"statement_kind", MIG_PY_HELD(statement_kind),
     "statement_kind(sql: str, standard_conforming_strings: bool = True) -> tuple[str, str]\n\n"
     "'one', 'several', 'none' or 'unsure', and the first word in upper case."},
    {"transaction_end", MIG_PY_HELD(transaction_end),
     "transaction_end(sql: str, standard_conforming_strings: bool = True) -> str\n\n'commit' or "
     "'rollback': what the first statement that "
     "ends the transaction does; '' when there is none."},
    {"lock_sql_try", MIG_PY_HELD(lock_sql_try),
     "lock_sql_try(table: str, schema: str | None, for_session: bool, backend_pid: int = 0) -> "
     "str\n\nOne row: key, 't', 'f' or NULL, isolation level, what the version table is."},
    {"lock_sql_holders", lock_sql_holders, METH_O,
     "lock_sql_holders(key: int) -> str\n\nA row a holder: pid, application, since when."},
    {"lock_sql_invalid", lock_sql_invalid, METH_O,
     "lock_sql_invalid(words: str) -> str\n\nA row for each INVALID index named in `words`: its "
     "name, its table."},
    {"load_libpq", load_libpq, METH_O,
     "load_libpq(path: str | None) -> int\n\nThe version of the libpq at `path`, or of the "
     "system's. Raises OSError when there is none."},
    {NULL, NULL, 0, NULL},
};

int mig_py_add_sql(PyObject *module)
{
    return PyModule_AddFunctions(module, methods);
}
