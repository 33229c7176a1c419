/*
 * Input records and errors of the graph.
 *
 * Names are UTF-8; one without text stands for Python's None. Those in a mig_record are borrowed
 * for the call of mig_graph_build.
 *
 * A mig_graph_error carries what Alembic's exception of the same kind is constructed with, so that
 * the binding can raise that class. It owns its texts (they outlive the graph): call
 * mig_graph_error_init before, mig_graph_error_release after. Texts are those of
 * alembic/script/revision.py (read in 1.20.1). Not thread-safe. Layer: above text.h and arena.h.
 */
#ifndef MIG_CORE_REVISION_H
#define MIG_CORE_REVISION_H

#include <stdbool.h>

#include "core/arena.h"
#include "core/status.h"
#include "core/text.h"

/* Whether it stands for revisions and cannot be one: head, heads, base. */
bool mig_is_symbol(mig_text name);

/* One revision file. */
typedef struct mig_record {
    mig_text revision;
    const mig_text *down;
    size_t down_count;
    const mig_text *labels;
    size_t label_count;
    const mig_text *depends;
    size_t depend_count;
} mig_record;

typedef enum mig_graph_error_kind {
    MIG_GRAPH_NONE,
    MIG_GRAPH_REVISION,         /* RevisionError(message) */
    MIG_GRAPH_LOOP,             /* LoopDetected(names[0]) */
    MIG_GRAPH_DEPENDENCY_LOOP,  /* DependencyLoopDetected(names[0]) */
    MIG_GRAPH_CYCLE,            /* CycleDetected(names) */
    MIG_GRAPH_DEPENDENCY_CYCLE, /* DependencyCycleDetected(names) */
    MIG_GRAPH_MULTIPLE_HEADS,   /* MultipleHeads(names, argument) */
    MIG_GRAPH_RESOLUTION,       /* ResolutionError(message, argument) */
    MIG_GRAPH_RANGE,            /* RangeNotAncestorError(argument or lower as given, upper) */
    MIG_GRAPH_MISSING,          /* names[0] is not in the map; record refers to it */
    MIG_GRAPH_ASSERTION,        /* AssertionError(message) */
    MIG_GRAPH_DECLINED,         /* not an error: Alembic's own graph must answer */
    MIG_GRAPH_KEY               /* KeyError(names[0]) */
} mig_graph_error_kind;

typedef struct mig_graph_error {
    mig_graph_error_kind kind; /* MIG_GRAPH_NONE: out of memory */
    mig_text message;
    mig_text argument;
    mig_text *names;
    size_t name_count;
    uint32_t record;          /* MIG_GRAPH_MISSING: index of the record */
    bool warns;               /* MIG_GRAPH_MISSING: Alembic warns before its KeyError */
    bool ambiguous_downgrade; /* Alembic's warning: whatever the answer is */
    mig_arena arena;
} mig_graph_error;

/* Make an error of kind MIG_GRAPH_NONE; takes no memory. `alloc` must outlive it. */
void mig_graph_error_init(mig_graph_error *error, const mig_alloc *alloc);

/* Free the texts; leaves an error as after mig_graph_error_init. */
void mig_graph_error_release(mig_graph_error *error);

/* Fill `error` with a kind and a message: `count` pieces, one after the other. Returns
 * MIG_EREVISION; or MIG_ENOMEM, and the kind is MIG_GRAPH_NONE. */
mig_status mig_graph_fail_pieces(mig_graph_error *error, mig_graph_error_kind kind,
                                 const mig_text *pieces, size_t count);

/* The same, with copies of `count` names instead of a message. */
mig_status mig_graph_fail_names(mig_graph_error *error, mig_graph_error_kind kind,
                                const mig_text *names, size_t count);

/* Set `argument` of an error that was just filled with `status`; no text: leave it. Returns
 * `status`, or MIG_ENOMEM. */
mig_status mig_graph_error_argument(mig_graph_error *error, mig_status status, mig_text argument);

/* mig_graph_fail_pieces with the pieces as arguments. */
#define MIG_GRAPH_FAIL(error, kind, ...)                                                           \
    mig_graph_fail_pieces((error), (kind), (const mig_text[]){__VA_ARGS__},                        \
                          sizeof((const mig_text[]){__VA_ARGS__}) / sizeof(mig_text))

#endif
