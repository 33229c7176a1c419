/* read_plan and hash_files: what a command needs to use compiled migrations. */
#include "py/module.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "core/plan_file.h"

static PyObject *text_of(mig_text name)
{
    return PyUnicode_DecodeUTF8(name.text, (Py_ssize_t)name.length, NULL);
}

/* [(line, sql)]; a boundary is (-1, "autocommit") or (-1, "transaction"). */
static PyObject *items_of(const mig_plan_file *plan, const mig_planned_function *function)
{
    PyObject *list = mig_py_hide(PyList_New((Py_ssize_t)function->count));
    for (size_t i = 0; list != NULL && i < function->count; i++) {
        const mig_planned *item = &plan->items[function->first + i];
        PyObject *pair = item->kind == MIG_PLANNED_SQL
                             ? Py_BuildValue("(lN)", (long)item->line, text_of(item->sql))
                             : Py_BuildValue("(ls)", -1L,
                                             item->kind == MIG_PLANNED_AUTOCOMMIT ? "autocommit"
                                                                                  : "transaction");
        if (pair == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, (Py_ssize_t)i, pair);
    }
    return mig_py_show(list);
}

static int add_function(PyObject *functions, const mig_plan_file *plan,
                        const mig_planned_function *function)
{
    PyObject *key = Py_BuildValue("(NO)", text_of(function->revision),
                                  function->is_upgrade ? Py_True : Py_False);
    PyObject *value =
        key == NULL ? NULL
                    : Py_BuildValue("(NN)", text_of(function->hash), items_of(plan, function));
    int status = value == NULL ? -1 : PyDict_SetItem(functions, key, value);
    Py_XDECREF(key);
    Py_XDECREF(value);
    return status;
}

static PyObject *read_plan(PyObject *Py_UNUSED(module), PyObject *argument)
{
    char *text;
    Py_ssize_t length;
    mig_arena arena;
    mig_plan_file plan;
    mig_error error;
    PyObject *keys = NULL, *functions = NULL, *answer = NULL;
    if (PyBytes_AsStringAndSize(argument, &text, &length) < 0)
        return NULL;
    mig_arena_init(&arena, &mig_alloc_system);
    if (mig_plan_file_read(text, (size_t)length, &arena, &plan, &error) != MIG_OK) {
        (void)mig_py_raise(&error);
        goto done;
    }
    keys = PyList_New(0);
    functions = PyDict_New();
    if (keys == NULL || functions == NULL)
        goto done;
    for (size_t i = 0; i < plan.key_count; i++) {
        PyObject *key = text_of(plan.keys[i]);
        int status = key == NULL ? -1 : PyList_Append(keys, key);
        Py_XDECREF(key);
        if (status < 0)
            goto done;
    }
    for (size_t i = 0; i < plan.function_count; i++)
        if (add_function(functions, &plan, &plan.functions[i]) < 0)
            goto done;
    answer = PyTuple_Pack(2, keys, functions);
done:
    mig_arena_release(&arena);
    Py_XDECREF(keys);
    Py_XDECREF(functions);
    return answer;
}

/* False, with errno: the file cannot be read to its end. No Python. */
static bool hash_file(const char *path, char hex[MIG_SHA256_HEX + 1])
{
    char buffer[16384];
    mig_sha256 hash;
    ssize_t got;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return false;
    mig_sha256_init(&hash);
    while ((got = read(fd, buffer, sizeof buffer)) != 0) {
        if (got > 0)
            mig_sha256_add(&hash, buffer, (size_t)got);
        else if (errno != EINTR)
            break;
    }
    (void)close(fd);
    mig_sha256_hex(&hash, hex);
    return got == 0;
}

static PyObject *hash_files(PyObject *Py_UNUSED(module), PyObject *argument)
{
    PyObject *paths = mig_py_tuple(argument);
    PyObject *list = paths != NULL ? mig_py_hide(PyList_New(PyTuple_GET_SIZE(paths))) : NULL;
    for (Py_ssize_t i = 0; list != NULL && i < PyTuple_GET_SIZE(paths); i++) {
        char hex[MIG_SHA256_HEX + 1];
        PyObject *path = NULL, *one = NULL;
        bool read = false;
        if (PyUnicode_FSConverter(PyTuple_GET_ITEM(paths, i), &path)) {
            Py_BEGIN_ALLOW_THREADS
            read = hash_file(PyBytes_AS_STRING(path), hex);
            Py_END_ALLOW_THREADS
            one = read ? PyUnicode_FromString(hex) : Py_NewRef(Py_None);
            Py_DECREF(path);
        }
        if (one == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, i, one);
    }
    Py_XDECREF(paths);
    return mig_py_show(list);
}

static PyMethodDef methods[] = {
    {"read_plan", read_plan, METH_O,
     "read_plan(data: bytes) -> tuple[list[str], dict[tuple[str, bool], tuple[str, list]]]\n\n"
     "The keys of a plan file, and for (revision, is_upgrade) the hash of the revision's file and\n"
     "[(line, sql)], where line -1 is a boundary: 'autocommit' or 'transaction'. Raises "
     "ValueError\n"
     "for a file that is damaged, was changed by hand, or is of another format."},
    {"hash_files", hash_files, METH_O,
     "hash_files(paths: Sequence[str]) -> list[str | None]\n\n"
     "SHA-256 of each file, in hexadecimal digits; None where it cannot be read."},
    {NULL, NULL, 0, NULL},
};

int mig_py_add_plan_file(PyObject *module)
{
    return PyModule_AddFunctions(module, methods);
}
