/*
 * Does a string hold one SQL statement, several, or none? Decides what may go into a pipeline (one
 * statement a message) and what needs a simple query.
 *
 * Mirrors PostgreSQL's scan.l and, for what a semicolon inside a statement means, psqlscan.l (read
 * in 15 to 18): quotes with their continuations, E'' U&'' B'' N'' X'', dollar quotes, nested
 * comments, CREATE RULE ... DO (a; b), and BEGIN ATOMIC ... END. It tokenizes, it does not parse:
 * text that the server would refuse may get any answer. Where it cannot tell it answers
 * MIG_SQL_UNSURE, and the plain path is taken.
 *
 * A pure function over pointer and length: no allocation, no state, no recursion. Cost: O(length).
 */
#ifndef MIG_CORE_SQL_LEXER_H
#define MIG_CORE_SQL_LEXER_H

#include <stdbool.h>
#include <stddef.h>

typedef enum mig_sql_kind {
    MIG_SQL_NONE, /* nothing but white space, comments and semicolons */
    MIG_SQL_ONE,
    MIG_SQL_SEVERAL,
    MIG_SQL_UNSURE
} mig_sql_kind;

/* What becomes of the transaction that a text is sent in. */
typedef enum mig_sql_ending {
    MIG_SQL_GOES_ON,
    MIG_SQL_COMMITS,   /* COMMIT, END, PREPARE TRANSACTION */
    MIG_SQL_ROLLS_BACK /* ROLLBACK, but not TO a savepoint; ABORT */
} mig_sql_ending;

/* Long enough for every command; a longer word is cut. */
#define MIG_SQL_KEYWORD_SIZE 16

/* Long enough for every parameter of the server; a longer name is none. */
#define MIG_SQL_PARAMETER_SIZE 64

typedef struct mig_sql_info {
    mig_sql_kind kind;
    char keyword[MIG_SQL_KEYWORD_SIZE]; /* the first word, in upper case; "" if there is none */
    char second[MIG_SQL_KEYWORD_SIZE];  /* the word that follows it directly */
    mig_sql_ending ending; /* of the first of its statements that ends the transaction */
    /* What the first statement sets, if it is SET [SESSION | LOCAL] name TO ..., or resets, if it
     * is RESET name: in lower case, with its dots, as the server names it (timezone for TIME ZONE).
     * "" for all else, for a name in quotes, too. */
    char parameter[MIG_SQL_PARAMETER_SIZE];
} mig_sql_info;

/* What `length` bytes of SQL, which may be of any encoding that is a superset of ASCII and need not
 * end in NUL, hold under that setting. Cannot fail. */
mig_sql_info mig_sql_classify(const char *sql, size_t length, bool standard_conforming_strings);

/* Whether the first statement would change the caller's transaction: BEGIN, START, COMMIT, END,
 * ROLLBACK, ABORT, PREPARE TRANSACTION. */
bool mig_sql_changes_transaction(const mig_sql_info *info);

#endif
