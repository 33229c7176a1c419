/*
 * The identifiers of a revision file, read from its source text without running it.
 *
 * The rule (docs/design.md, "Files are read, not run"): the answer is what executing the file would
 * leave in `revision`, `down_revision`, `branch_labels`, `depends_on` and `__doc__`, or
 * MIG_EDECLINED. It is a scan over tokens: strings, comments, brackets, lines and indentation
 * follow CPython's tokenizer (3.10 to 3.14) and its rule for docstrings; expressions are not
 * parsed. What is not a plain literal in one plain assignment at column 0, whatever else might bind
 * one of the names, and whatever CPython's versions disagree about, is declined. So a file with a
 * syntax error in code that is skipped, or that would raise there, still gets an answer.
 *
 * Ownership: every text in the result is a copy in the caller's arena; the source may go.
 * Threads: no state. Cost: O(length) time, O(1) stack, memory for the five answers (and for one
 * copy of a source with CRLF line ends).
 */
#ifndef MIG_CORE_SCAN_H
#define MIG_CORE_SCAN_H

#include <stdbool.h>

#include "core/arena.h"
#include "core/status.h"
#include "core/text.h"

typedef enum mig_scan_kind {
    MIG_SCAN_ABSENT = 0, /* the file does not assign the name; for doc: there is no docstring */
    MIG_SCAN_NONE,
    MIG_SCAN_STRING, /* items[0] */
    MIG_SCAN_TUPLE,  /* items[0] to items[count - 1]; may be empty */
    MIG_SCAN_LIST
} mig_scan_kind;

typedef struct mig_scan_value {
    mig_scan_kind kind;
    size_t count;
    const mig_text *items; /* valid UTF-8 */
} mig_scan_value;

typedef struct mig_scan_result {
    mig_scan_value revision; /* MIG_SCAN_ABSENT or MIG_SCAN_STRING */
    mig_scan_value down_revision;
    mig_scan_value branch_labels;
    mig_scan_value depends_on;
    mig_scan_value doc; /* MIG_SCAN_ABSENT or MIG_SCAN_STRING */
} mig_scan_result;

/*
 * Scan the bytes of a whole file. `clean_doc`: take common indentation out of the docstring, as the
 * compiler of CPython 3.13 and later does.
 *
 * MIG_OK, MIG_ENOMEM, or MIG_EDECLINED with the reason and the line in `error`; `result` holds
 * nothing then.
 */
mig_status mig_scan(const char *source, size_t length, bool clean_doc, mig_arena *arena,
                    mig_scan_result *result, mig_error *error);

#endif
