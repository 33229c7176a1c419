/*
 * libpq through a function table: the code is compiled against its headers and linked with nothing,
 * so that the module can be imported without a libpq, and a driver's connection is served by that
 * driver's own copy.
 *
 * A table is filled from a library file or the system's libpq (mig_libpq_load), or from the
 * extension file of a driver that is already in the process (mig_libpq_borrow): dlsym on that
 * file's handle searches its dependencies, and so finds the libpq that the driver itself uses,
 * whatever the wheel named it.
 *
 * Members have the names of the functions. Pipelines came with libpq 14: their members are NULL
 * before, and has_pipeline says so. Every other member is there in a table that was filled.
 *
 * Ownership: a table is a plain struct and may be copied; the library stays in the process for good
 * (unloading OpenSSL is not safe), release only gives back the handle. Threads: a filled table is
 * read-only.
 */
#ifndef MIG_PQ_LIBPQ_H
#define MIG_PQ_LIBPQ_H

#include <libpq-fe.h>

#include "core/status.h"

#define MIG_LIBPQ_FUNCTIONS(X)                                                                     \
    X(PQlibVersion)                                                                                \
    X(PQconnectStartParams)                                                                        \
    X(PQconnectPoll)                                                                               \
    X(PQconninfo)                                                                                  \
    X(PQconninfoFree)                                                                              \
    X(PQfinish)                                                                                    \
    X(PQstatus)                                                                                    \
    X(PQtransactionStatus)                                                                         \
    X(PQparameterStatus)                                                                           \
    X(PQserverVersion)                                                                             \
    X(PQbackendPID)                                                                                \
    X(PQerrorMessage)                                                                              \
    X(PQsslInUse)                                                                                  \
    X(PQsocket)                                                                                    \
    X(PQsetnonblocking)                                                                            \
    X(PQisnonblocking)                                                                             \
    X(PQsetNoticeReceiver)                                                                         \
    X(PQsendQuery)                                                                                 \
    X(PQsendQueryParams)                                                                           \
    X(PQflush)                                                                                     \
    X(PQconsumeInput)                                                                              \
    X(PQisBusy)                                                                                    \
    X(PQgetResult)                                                                                 \
    X(PQputCopyEnd)                                                                                \
    X(PQgetCopyData)                                                                               \
    X(PQresultStatus)                                                                              \
    X(PQresultErrorMessage)                                                                        \
    X(PQresultErrorField)                                                                          \
    X(PQcmdStatus)                                                                                 \
    X(PQcmdTuples)                                                                                 \
    X(PQntuples)                                                                                   \
    X(PQnfields)                                                                                   \
    X(PQgetisnull)                                                                                 \
    X(PQgetvalue)                                                                                  \
    X(PQgetlength)                                                                                 \
    X(PQclear)                                                                                     \
    X(PQfreemem)                                                                                   \
    X(PQescapeLiteral)                                                                             \
    X(PQgetCancel)                                                                                 \
    X(PQcancel)                                                                                    \
    X(PQfreeCancel)

/* The results of a pipeline, for headers older than libpq 14. */
#define MIG_PGRES_PIPELINE_SYNC 10
#define MIG_PGRES_PIPELINE_ABORTED 11

typedef struct mig_libpq {
    void *handle;
    int version;      /* PQlibVersion: 150004 for 15.4 */
    int has_pipeline; /* the four members at the end are not NULL */
#define MIG_LIBPQ_MEMBER(name) __typeof__(&name) name;
    MIG_LIBPQ_FUNCTIONS(MIG_LIBPQ_MEMBER)
#undef MIG_LIBPQ_MEMBER
    int (*PQenterPipelineMode)(PGconn *);
    int (*PQexitPipelineMode)(PGconn *);
    int (*PQpipelineSync)(PGconn *);
    int (*PQsendFlushRequest)(PGconn *);
    int (*PQpipelineStatus)(const PGconn *); /* 0: not in a pipeline */
} mig_libpq;

/* Fill `table` from the library file `path`, or from the system's libpq for NULL. MIG_OK; MIG_EIO:
 * there is none that can be used, and the table is zeros. Blocks while the file is loaded. */
mig_status mig_libpq_load(mig_libpq *table, const char *path, mig_error *error);

/* Fill `table` from the libpq that `driver_file` uses: the file of an extension that is loaded in
 * this process and depends on a libpq (or a libpq that is loaded itself). MIG_OK; MIG_EDECLINED: it
 * is not loaded, or has no libpq that can be used, and the table is zeros. */
mig_status mig_libpq_borrow(mig_libpq *table, const char *driver_file, mig_error *error);

/* Give the handle of the library back. Accepts a table of zeros; leaves one. */
void mig_libpq_release(mig_libpq *table);

#endif
