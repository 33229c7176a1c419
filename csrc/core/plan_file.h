/*
 * The file of compiled migrations: text that a person reads and git merges, checked before it is
 * used.
 *
 *     migrate_ext plan 1
 *     # a comment
 *     key <text>                      what must hold for the plan to be used; its reader compares
 *     revision <sha256 of its file> <id>
 *     upgrade                         or downgrade; one that is not here is rendered
 *     sql <line of the directive>
 *     <TAB>a line of the statement    one or more
 *     autocommit                      what follows runs outside a transaction, until
 *     transaction
 *     end <sha256 of all bytes before this line>
 *
 * Any other file is refused with MIG_EINVAL, and so is one of which a byte was changed. Nothing in
 * it is executed here, and nothing but SQL is in it: it can do what a revision file can do, no
 * more.
 *
 * Ownership: texts are copies in the caller's arena. Cost: O(length). Knows no Python, no files.
 */
#ifndef MIG_CORE_PLAN_FILE_H
#define MIG_CORE_PLAN_FILE_H

#include <stdbool.h>

#include "core/arena.h"
#include "core/revision.h"
#include "core/sha256.h"
#include "core/status.h"

typedef enum mig_planned_kind {
    MIG_PLANNED_SQL,
    MIG_PLANNED_AUTOCOMMIT,
    MIG_PLANNED_TRANSACTION
} mig_planned_kind;

typedef struct mig_planned {
    mig_planned_kind kind;
    uint32_t line; /* MIG_PLANNED_SQL: of the directive in the revision file; 0: not known */
    mig_text sql;
} mig_planned;

/* One function of one revision: items[first] up to, not including, items[first + count]. */
typedef struct mig_planned_function {
    mig_text revision, hash;
    bool is_upgrade;
    size_t first, count;
} mig_planned_function;

typedef struct mig_plan_file {
    mig_text *keys;
    size_t key_count;
    mig_planned_function *functions;
    size_t function_count;
    mig_planned *items;
    size_t item_count;
} mig_plan_file;

/*
 * Read a whole file, which need not end in NUL. MIG_OK. MIG_EINVAL: it is damaged, was changed, or
 * is of another format; error->line says where, and nothing in *plan may be used. MIG_ENOMEM.
 */
mig_status mig_plan_file_read(const char *text, size_t length, mig_arena *arena,
                              mig_plan_file *plan, mig_error *error);

#endif
