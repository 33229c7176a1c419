#include "pq/libpq.h"

#include <dlfcn.h>
#include <string.h>

#if defined(__APPLE__)
static const char *const SYSTEM_NAMES[] = {"libpq.5.dylib", "libpq.dylib"};
#else
static const char *const SYSTEM_NAMES[] = {"libpq.so.5"};
#endif

/* ISO C has no cast from an object pointer to a function pointer; POSIX makes the copy meaningful.
 */
static int find(void *handle, const char *name, void *member, size_t size)
{
    void *symbol = dlsym(handle, name);
    memcpy(member, &symbol, size);
    return symbol != NULL;
}

/* The name of the first function that is missing, or NULL. */
static const char *fill(mig_libpq *table, void *handle)
{
    memset(table, 0, sizeof *table);
#define MIG_LIBPQ_FIND(name)                                                                       \
    if (!find(handle, #name, &table->name, sizeof table->name))                                    \
        return #name;
    MIG_LIBPQ_FUNCTIONS(MIG_LIBPQ_FIND)
#undef MIG_LIBPQ_FIND
    table->has_pipeline =
        find(handle, "PQenterPipelineMode", &table->PQenterPipelineMode,
             sizeof table->PQenterPipelineMode) &&
        find(handle, "PQexitPipelineMode", &table->PQexitPipelineMode,
             sizeof table->PQexitPipelineMode) &&
        find(handle, "PQpipelineSync", &table->PQpipelineSync, sizeof table->PQpipelineSync) &&
        find(handle, "PQsendFlushRequest", &table->PQsendFlushRequest,
             sizeof table->PQsendFlushRequest) &&
        find(handle, "PQpipelineStatus", &table->PQpipelineStatus, sizeof table->PQpipelineStatus);
    table->version = table->PQlibVersion();
    table->handle = handle;
    return NULL;
}

static mig_status fill_or_close(mig_libpq *table, void *handle, const char *path, mig_status code,
                                mig_error *error)
{
    const char *missing = fill(table, handle);
    if (missing == NULL)
        return MIG_OK;
    memset(table, 0, sizeof *table);
    (void)dlclose(handle);
    return mig_fail(error, code, "%s is no libpq that can be used: it has no %s", path, missing);
}

mig_status mig_libpq_load(mig_libpq *table, const char *path, mig_error *error)
{
    const int flags = RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE;
    memset(table, 0, sizeof *table);
    if (path != NULL) {
        void *handle = dlopen(path, flags);
        if (handle == NULL)
            return mig_fail(error, MIG_EIO, "cannot load libpq: %s", dlerror());
        return fill_or_close(table, handle, path, MIG_EIO, error);
    }
    for (size_t i = 0; i < sizeof SYSTEM_NAMES / sizeof SYSTEM_NAMES[0]; i++) {
        void *handle = dlopen(SYSTEM_NAMES[i], flags);
        if (handle != NULL)
            return fill_or_close(table, handle, SYSTEM_NAMES[i], MIG_EIO, error);
    }
    return mig_fail(error, MIG_EIO, "cannot load libpq: %s", dlerror());
}

mig_status mig_libpq_borrow(mig_libpq *table, const char *driver_file, mig_error *error)
{
    memset(table, 0, sizeof *table);
    void *handle = dlopen(driver_file, RTLD_LAZY | RTLD_LOCAL | RTLD_NOLOAD);
    if (handle == NULL)
        return mig_fail(error, MIG_EDECLINED, "%s is not loaded in this process", driver_file);
    return fill_or_close(table, handle, driver_file, MIG_EDECLINED, error);
}

void mig_libpq_release(mig_libpq *table)
{
    if (table->handle != NULL)
        (void)dlclose(table->handle);
    memset(table, 0, sizeof *table);
}
