/*
 * The lease of a driver's connection: whether its PGconn may be used at this moment.
 *
 * A driver frees the PGconn when its connection is closed, also by a signal handler that runs
 * during a wait, or by another thread. So libpq is given a borrowed PGconn only while the lease is
 * taken, and the owner is asked for it anew each time that others may have run:
 *
 *   psycopg   closes with the GIL held (its build in C), or forgets the pointer first (its Python
 *             build): as long as we hold the GIL, its answer stays true.
 *   psycopg2  closes without the GIL, under a mutex of its own, which the lease holds, too. That is
 * what psycopg2 itself does while it waits for the server: a close() from another thread waits
 * until the call ends or signal handlers run.
 *
 * psycopg2 does not publish that mutex: it is found in its connection object (read in 2.8 and 2.9:
 * PyObject_HEAD, lock, dsn, error, encoding, closed), and only where the offsets of the members
 * that psycopg2 does publish (dsn, closed) leave room for exactly that. Otherwise there is no
 * lease.
 *
 * Ownership: a lease holds a strong reference to the owner. GIL: held in all functions.
 */
#ifndef MIG_PY_LEASE_H
#define MIG_PY_LEASE_H

#include "py/module.h"

#include <pthread.h>
#include <stdbool.h>

#include <libpq-fe.h>

typedef struct mig_py_lease {
    PyObject *owner; /* NULL: the connection is our own */
    const PGconn *conn;
    pthread_mutex_t *lock; /* of a psycopg2 connection; NULL elsewhere */
} mig_py_lease;

/* owner: the driver's object that has `conn` as the attribute `pgconn_ptr`. 0, or -1 with an
 * exception set: ValueError where it has another one, Declined for a psycopg2 whose lock is not
 * found. */
int mig_py_lease_init(mig_py_lease *lease, PyObject *owner, const PGconn *conn);

/* Drop the reference to the owner. The lock must not be held. Accepts an empty lease. */
void mig_py_lease_clear(mig_py_lease *lease);

/* Take the driver's lock, waiting for it without the GIL. No lock: does nothing. */
void mig_py_lease_lock(const mig_py_lease *lease);

/* The same without waiting; false if it is held by another. */
bool mig_py_lease_try_lock(const mig_py_lease *lease);

/* Give the driver's lock back. */
void mig_py_lease_unlock(const mig_py_lease *lease);

/* 1 if the owner still has the connection, 0 if not; -1 with an exception set. Runs the owner's
 * code; an exception that was set before stays set. */
int mig_py_lease_is_good(const mig_py_lease *lease);

#endif
