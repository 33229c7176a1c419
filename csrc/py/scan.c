/*
 * Revision files: `scan_source` for bytes in memory, `scan_files` and `scan_folder` for files.
 *
 * Many files are read by several threads, which run no Python code; all are joined before the call
 * returns.
 */
#include "py/module.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/scan.h"

/* Files that a thread takes at a time; between two chunks the caller's thread checks signals. */
#define CHUNK ((size_t)64)
/* Fewer files than this are read by the caller's thread alone. */
#define THREADED ((size_t)256)
#define WORKERS 4
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

typedef struct buffer {
    char *bytes;
    size_t size;
} buffer;

/* Python -OO drops docstrings: -1 with an exception, or whether it is on. */
static int docstrings_dropped(void)
{
    PyObject *sys = PyImport_ImportModule("sys"); /* PySys_GetObject keeps its errors to itself */
    PyObject *flags = sys != NULL ? PyObject_GetAttrString(sys, "flags") : NULL;
    PyObject *optimize = flags != NULL ? PyObject_GetAttrString(flags, "optimize") : NULL;
    Py_XDECREF(sys);
    Py_XDECREF(flags);
    if (optimize == NULL)
        return -1;
    long level = PyLong_AsLong(optimize);
    Py_DECREF(optimize);
    if (level == -1 && PyErr_Occurred())
        return -1;
    return level >= 2;
}

/*
 * Whether Alembic can load a file of this name: by its suffix, as pathlib has it. A `.py` is none,
 * and `..py` one for some versions of Python.
 */
static bool has_suffix(const char *name)
{
    const char *end = strrchr(name, '.');
    return end != NULL && strcmp(end, ".py") == 0 && name + strspn(name, ".") < end;
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

static PyObject *text_object(const mig_text *text)
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
    /* It stays hidden: it holds texts only, no cycle can pass through it, and a collection need not
     * visit it. */
    PyObject *tuple = mig_py_hide(PyTuple_New(5));
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

/* The files of one call, shared by the threads that read them. */
typedef struct job {
    int directory; /* -1: it cannot be opened, so neither can its files */
    const char **paths;
    answer *answers;
    size_t count;
    atomic_size_t next; /* the first file that no thread has taken */
    atomic_bool stop;
} job;

/* What one thread keeps: its buffer grows to its longest file, its arena holds its answers' texts.
 */
typedef struct worker {
    job *job;
    buffer buffer;
    mig_arena arena;
    pthread_t thread;
    bool started;
} worker;

/* Takes a chunk of files; false when none is left. No Python here. */
static bool work(worker *w)
{
    job *j = w->job;
    size_t first = atomic_fetch_add(&j->next, CHUNK);
    if (first >= j->count || atomic_load(&j->stop))
        return false;
    for (size_t i = first; i < j->count && i < first + CHUNK; i++) {
        answer *a = &j->answers[i];
        size_t length = 0;
        a->line = 0;
        a->reason = "the folder cannot be opened";
        a->status = MIG_EDECLINED;
        if (j->directory >= 0 && !has_suffix(j->paths[i]))
            a->reason = "not the name of a Python file";
        else if (j->directory >= 0)
            a->status = read_file(j->directory, j->paths[i], &w->buffer, &length, &a->reason);
        if (a->status == MIG_OK)
            scan_bytes(w->buffer.bytes, length, &w->arena, a);
    }
    return true;
}

static void *run_worker(void *argument)
{
    while (work(argument))
        ;
    return NULL;
}

static size_t worker_count(size_t files)
{
    long processors = files < THREADED ? 1 : sysconf(_SC_NPROCESSORS_ONLN);
    return processors < 1 ? 1 : processors > WORKERS ? WORKERS : (size_t)processors;
}

/* Read all files; this thread reads its share and checks signals. -1 with an exception set. */
static int run_job(job *j, worker *workers, size_t count)
{
    int status = 0;
    for (size_t i = 0; i < count; i++) {
        workers[i].job = j;
        workers[i].buffer.bytes = malloc(BUFFER_SIZE);
        workers[i].buffer.size = BUFFER_SIZE;
        if (workers[i].buffer.bytes == NULL) {
            PyErr_NoMemory();
            return -1;
        }
    }
    /* If a thread cannot be started, the others do its work. */
    for (size_t i = 1; i < count; i++)
        workers[i].started = pthread_create(&workers[i].thread, NULL, run_worker, &workers[i]) == 0;
    for (bool more = true; more && status == 0;) {
        Py_BEGIN_ALLOW_THREADS
        more = work(&workers[0]);
        Py_END_ALLOW_THREADS
        status = PyErr_CheckSignals();
    }
    atomic_store(&j->stop, status < 0);
    Py_BEGIN_ALLOW_THREADS
    for (size_t i = 1; i < count; i++)
        if (workers[i].started)
            (void)pthread_join(workers[i].thread, NULL);
    Py_END_ALLOW_THREADS
    return status;
}

/* Read the files `names`, a tuple, which other code cannot change while the GIL is released. */
static PyObject *scan_names(PyObject *module, int directory, PyObject *names)
{
    size_t total = (size_t)PyTuple_GET_SIZE(names), count = worker_count(total);
    worker workers[WORKERS] = {0};
    job j = {.directory = directory, .count = total};
    PyObject *answers = NULL;
    int drop_doc = docstrings_dropped();
    /* The bytes objects that `paths` points into. */
    PyObject **encoded = PyMem_Calloc(total + 1, sizeof *encoded);
    j.paths = PyMem_Calloc(total + 1, sizeof *j.paths);
    j.answers = PyMem_Calloc(total + 1, sizeof *j.answers);
    for (size_t i = 0; i < count; i++)
        mig_arena_init(&workers[i].arena, &mig_alloc_system);
    if (encoded == NULL || j.paths == NULL || j.answers == NULL)
        PyErr_NoMemory();
    if (drop_doc < 0 || PyErr_Occurred())
        goto done;
    for (size_t i = 0; i < total; i++) {
        if (!PyUnicode_FSConverter(PyTuple_GET_ITEM(names, (Py_ssize_t)i), &encoded[i]))
            goto done;
        j.paths[i] = PyBytes_AS_STRING(encoded[i]);
    }
    if (run_job(&j, workers, count) < 0)
        goto done;
    answers = mig_py_hide(PyList_New((Py_ssize_t)total));
    for (size_t i = 0; answers != NULL && i < total; i++) {
        PyObject *one = answer_object(mig_py_state_of(module), &j.answers[i], drop_doc > 0);
        if (one == NULL)
            Py_CLEAR(answers);
        else
            PyList_SET_ITEM(answers, (Py_ssize_t)i, one);
    }
    (void)mig_py_show(answers);
done:
    for (size_t i = 0; i < count; i++) {
        mig_arena_release(&workers[i].arena);
        free(workers[i].buffer.bytes);
    }
    for (size_t i = 0; encoded != NULL && i < total; i++)
        Py_XDECREF(encoded[i]);
    PyMem_Free(encoded);
    PyMem_Free(j.paths);
    PyMem_Free(j.answers);
    return answers;
}

static PyObject *scan_files(PyObject *module, PyObject *args)
{
    PyObject *directory_name = NULL;
    PyObject *sequence;
    if (!PyArg_ParseTuple(args, "O&O:scan_files", PyUnicode_FSConverter, &directory_name,
                          &sequence))
        return NULL;
    PyObject *names = mig_py_tuple(sequence), *answers = NULL;
    if (names != NULL) {
        int directory = open(PyBytes_AS_STRING(directory_name), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        answers = scan_names(module, directory, names);
        if (directory >= 0)
            (void)close(directory);
    }
    Py_XDECREF(names);
    Py_DECREF(directory_name);
    return answers;
}

/* Alembic's `(?!\.\#|__init__)(.*\.py)$`. */
static bool is_revision_file(const char *name)
{
    size_t length = strlen(name);
    if (length > 0 && name[length - 1] == '\n')
        length--;
    return length >= 3 && memchr(name, '\n', length) == NULL &&
           memcmp(name + length - 3, ".py", 3) == 0 && strncmp(name, ".#", 2) != 0 &&
           strncmp(name, "__init__", 8) != 0;
}

/* The kind of an entry: DT_LNK, DT_DIR, or another; -1: it no longer exists. */
static int kind_of(int directory, const struct dirent *entry)
{
    struct stat status;
    if (entry->d_type != DT_UNKNOWN)
        return entry->d_type;
    if (fstatat(directory, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0)
        return -1;
    return S_ISLNK(status.st_mode) ? DT_LNK : S_ISDIR(status.st_mode) ? DT_DIR : DT_REG;
}

/* The names of revision files in a folder, sorted as Python sorts; NULL with an exception. */
static PyObject *list_folder(DIR *folder)
{
    PyObject *list = PyList_New(0), *names = NULL;
    for (;;) {
        errno = 0;
        const struct dirent *entry = list != NULL ? readdir(folder) : NULL;
        if (entry == NULL)
            break;
        int kind = kind_of(dirfd(folder), entry);
        if (kind == DT_LNK || kind == -1) {
            mig_error error;
            (void)mig_fail(&error, MIG_EDECLINED, "revision files reached by links");
            (void)mig_py_raise(&error);
            Py_CLEAR(list);
            break;
        }
        if (kind == DT_DIR || !is_revision_file(entry->d_name))
            continue;
        PyObject *name = PyUnicode_DecodeFSDefault(entry->d_name);
        if (name == NULL || PyList_Append(list, name) < 0)
            Py_CLEAR(list);
        Py_XDECREF(name);
    }
    if (list != NULL && errno != 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        Py_CLEAR(list);
    }
    if (list != NULL && PyList_Sort(list) == 0)
        names = mig_py_tuple(list);
    Py_XDECREF(list);
    return names;
}

static PyObject *scan_folder(PyObject *module, PyObject *argument)
{
    PyObject *path = NULL, *names, *answers = NULL;
    if (!PyUnicode_FSConverter(argument, &path))
        return NULL;
    DIR *folder = opendir(PyBytes_AS_STRING(path));
    Py_DECREF(path);
    if (folder == NULL) /* as os.walk: there is nothing in it */
        return Py_BuildValue("(NN)", PyTuple_New(0), PyList_New(0));
    names = list_folder(folder);
    if (names != NULL)
        answers = scan_names(module, dirfd(folder), names);
    (void)closedir(folder);
    if (answers == NULL) {
        Py_XDECREF(names);
        return NULL;
    }
    return Py_BuildValue("(NN)", names, answers);
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
    {"scan_folder", scan_folder, METH_O,
     "scan_folder(directory: str) -> tuple[tuple[str, ...], list[tuple | str]]\n\n"
     "The sorted names of the revision files in a folder, by Alembic's rule for names, and\n"
     "scan_files of them; nothing for a folder that cannot be opened. Raises Declined where the\n"
     "folder has a symbolic link in it: two paths may be one file."},
    {NULL, NULL, 0, NULL},
};

int mig_py_add_scan(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
