/* Revision files: `scan_source` for bytes in memory, `scan_files` for a folder of them. */
#include "py/module.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/scan.h"

/* Files read and scanned between two looks at signals, with the GIL released. */
#define CHUNK 256
#define BUFFER_SIZE ((size_t)64 * 1024)
#define MAX_FILE_SIZE ((size_t)64 * 1024 * 1024)

/* From 3.13 on the compiler takes the common indentation out of docstrings. */
#define CLEAN_DOC (PY_VERSION_HEX >= 0x030D0000)

typedef struct answer {
    mig_status status;
    mig_scan_result result; /* MIG_OK */
    const char *reason;     /* MIG_EDECLINED; in the arena, or static */
    uint32_t line;
} answer;

/* One buffer for all files of a call; it grows to the longest. */
typedef struct buffer {
    char *bytes;
    size_t size;
} buffer;

/* Python -OO drops docstrings: -1 with an exception, or whether it is on. */
static int docstrings_dropped(void)
{
    PyObject *flags = PySys_GetObject("flags");
    PyObject *optimize = flags != NULL ? PyObject_GetAttrString(flags, "optimize") : NULL;
    if (optimize == NULL)
        return PyErr_Occurred() ? -1 : 0;
    long level = PyLong_AsLong(optimize);
    Py_DECREF(optimize);
    if (level == -1 && PyErr_Occurred())
        return -1;
    return level >= 2;
}

/* No Python here: runs without the GIL. */
static void scan_bytes(const char *source, size_t length, mig_arena *arena, answer *a)
{
    mig_error error;
    a->status = mig_scan(source, length, CLEAN_DOC, arena, &a->result, &error);
    if (a->status == MIG_OK && a->result.revision.kind != MIG_SCAN_ABSENT &&
        a->result.down_revision.kind == MIG_SCAN_ABSENT) {
        a->status = MIG_EDECLINED;
        a->reason = "revision without down_revision";
        a->line = 0;
    } else if (a->status != MIG_OK) {
        a->reason = mig_arena_copy(arena, error.msg, strlen(error.msg));
        a->line = error.line;
        if (a->reason == NULL)
            a->status = MIG_ENOMEM;
    }
}

/* MIG_OK with *length, MIG_EDECLINED with *reason, or MIG_ENOMEM. No Python here. */
static mig_status read_file(int directory, const char *name, buffer *b, size_t *length,
                            const char **reason)
{
    mig_status status = MIG_OK;
    *length = 0;
    /* O_NONBLOCK: opening a FIFO must not wait for its writer. */
    int fd = openat(directory, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        *reason = "the file cannot be opened";
        return MIG_EDECLINED;
    }
    for (;;) {
        ssize_t got = read(fd, b->bytes + *length, b->size - *length);
        if (got == 0)
            break;
        if (got < 0) {
            if (errno == EINTR)
                continue;
            *reason = "the file cannot be read";
            status = MIG_EDECLINED;
            break;
        }
        *length += (size_t)got;
        if (*length < b->size)
            continue;
        if (b->size >= MAX_FILE_SIZE) {
            *reason = "the file is too long";
            status = MIG_EDECLINED;
            break;
        }
        char *bytes = realloc(b->bytes, b->size * 2);
        if (bytes == NULL) {
            status = MIG_ENOMEM;
            break;
        }
        b->bytes = bytes;
        b->size *= 2;
    }
    (void)close(fd);
    return status;
}

static PyObject *text_object(const mig_scan_text *text)
{
    return PyUnicode_DecodeUTF8(text->text, (Py_ssize_t)text->length, NULL);
}

static PyObject *value_object(const mig_scan_value *value)
{
    if (value->kind == MIG_SCAN_STRING)
        return text_object(&value->items[0]);
    if (value->kind != MIG_SCAN_TUPLE && value->kind != MIG_SCAN_LIST)
        Py_RETURN_NONE;
    PyObject *tuple = PyTuple_New((Py_ssize_t)value->count);
    for (size_t i = 0; tuple != NULL && i < value->count; i++) {
        PyObject *item = text_object(&value->items[i]);
        if (item == NULL)
            Py_CLEAR(tuple);
        else
            PyTuple_SET_ITEM(tuple, (Py_ssize_t)i, item);
    }
    return tuple;
}

static PyObject *answer_object(mig_py_state *state, const answer *a, bool drop_doc)
{
    if (a->status == MIG_ENOMEM)
        return PyErr_NoMemory();
    if (a->status != MIG_OK) {
        if (a->line == 0)
            return PyUnicode_FromString(a->reason);
        return PyUnicode_FromFormat("%s (line %lu)", a->reason, (unsigned long)a->line);
    }
    static const mig_scan_value no_doc;
    const mig_scan_value *const values[] = {&a->result.revision, &a->result.down_revision,
                                            &a->result.branch_labels, &a->result.depends_on,
                                            drop_doc ? &no_doc : &a->result.doc};
    PyObject *tuple = PyTuple_New(5);
    for (Py_ssize_t i = 0; tuple != NULL && i < 5; i++) {
        PyObject *value = value_object(values[i]);
        if (value == NULL)
            Py_CLEAR(tuple);
        else
            PyTuple_SET_ITEM(tuple, i, value);
    }
    /* Without a revision the caller executes the file, and counts it there. */
    if (tuple != NULL && a->result.revision.kind != MIG_SCAN_ABSENT)
        state->counters.files_scanned++;
    return tuple;
}

static PyObject *scan_source(PyObject *module, PyObject *argument)
{
    char *source;
    Py_ssize_t length;
    if (PyBytes_AsStringAndSize(argument, &source, &length) < 0)
        return NULL;
    int drop_doc = docstrings_dropped();
    if (drop_doc < 0)
        return NULL;
    answer a;
    mig_arena arena;
    mig_arena_init(&arena, &mig_alloc_system);
    scan_bytes(source, (size_t)length, &arena, &a);
    PyObject *found = answer_object(mig_py_state_of(module), &a, drop_doc > 0);
    mig_arena_release(&arena);
    return found;
}

/* Names as the file system takes them: `names` holds the bytes objects that `paths` points into. */
static int encode_names(PyObject *files, Py_ssize_t first, Py_ssize_t count, PyObject **names,
                        const char **paths)
{
    for (Py_ssize_t i = 0; i < count; i++) {
        if (!PyUnicode_FSConverter(PyTuple_GET_ITEM(files, first + i), &names[i]))
            return -1;
        paths[i] = PyBytes_AS_STRING(names[i]);
    }
    return 0;
}

static PyObject *scan_files(PyObject *module, PyObject *args)
{
    PyObject *directory_name = NULL;
    PyObject *sequence;
    PyObject *files = NULL;
    PyObject *found = NULL;
    PyObject *answers = NULL;
    PyObject *names[CHUNK] = {NULL};
    const char *paths[CHUNK];
    answer *chunk = NULL;
    buffer b = {NULL, BUFFER_SIZE};
    int directory = -1;
    mig_arena arena;
    mig_arena_init(&arena, &mig_alloc_system);

    if (!PyArg_ParseTuple(args, "O&O:scan_files", PyUnicode_FSConverter, &directory_name,
                          &sequence))
        return NULL;
    int drop_doc = docstrings_dropped();
    /* A tuple of our own: the caller's list may change while the GIL is released. */
    files = drop_doc < 0 ? NULL : PySequence_Tuple(sequence);
    if (files == NULL)
        goto done;
    Py_ssize_t total = PyTuple_GET_SIZE(files);
    answers = PyList_New(total);
    chunk = malloc(CHUNK * sizeof *chunk);
    b.bytes = malloc(b.size);
    if (answers == NULL || chunk == NULL || b.bytes == NULL) {
        if (!PyErr_Occurred())
            PyErr_NoMemory();
        goto done;
    }
    /* If it can't be opened, neither can its files: each is declined below. */
    directory = open(PyBytes_AS_STRING(directory_name), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    for (Py_ssize_t first = 0; first < total; first += CHUNK) {
        Py_ssize_t count = total - first < CHUNK ? total - first : CHUNK;
        if (encode_names(files, first, count, names, paths) < 0)
            goto done;
        Py_BEGIN_ALLOW_THREADS for (Py_ssize_t i = 0; i < count; i++)
        {
            answer *a = &chunk[i];
            size_t length = 0;
            a->line = 0;
            a->reason = "the folder cannot be opened";
            a->status = MIG_EDECLINED;
            if (directory >= 0)
                a->status = read_file(directory, paths[i], &b, &length, &a->reason);
            if (a->status == MIG_OK)
                scan_bytes(b.bytes, length, &arena, a);
        }
        Py_END_ALLOW_THREADS for (Py_ssize_t i = 0; i < count; i++)
        {
            PyObject *one = answer_object(mig_py_state_of(module), &chunk[i], drop_doc > 0);
            if (one == NULL)
                goto done;
            PyList_SET_ITEM(answers, first + i, one);
            Py_CLEAR(names[i]);
        }
        mig_arena_release(&arena);
        if (PyErr_CheckSignals() < 0)
            goto done;
    }
    found = answers;
    answers = NULL;

done:
    for (size_t i = 0; i < CHUNK; i++)
        Py_XDECREF(names[i]);
    if (directory >= 0)
        (void)close(directory);
    mig_arena_release(&arena);
    free(b.bytes);
    free(chunk);
    Py_XDECREF(answers);
    Py_XDECREF(files);
    Py_XDECREF(directory_name);
    return found;
}

static PyMethodDef functions[] = {
    {"scan_source", scan_source, METH_O,
     "scan_source(source: bytes) -> tuple | str\n\n"
     "(revision, down_revision, branch_labels, depends_on, doc) of a revision file's source,\n"
     "as executing it would leave them, or the reason why it must be executed. A revision of\n"
     "None: the file has none."},
    {"scan_files", scan_files, METH_VARARGS,
     "scan_files(directory: str, names: Sequence[str]) -> list[tuple | str]\n\n"
     "scan_source for each file of a folder; a file that cannot be read gets a reason."},
    {NULL, NULL, 0, NULL},
};

int mig_py_add_scan(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
