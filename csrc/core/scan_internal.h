/*
 * What the files of the scanner share; nobody else includes this.
 *
 *   scan_encoding.c  bytes: the coding cookie, line ends, what is UTF-8
 *   scan_words.c     classes of bytes, and the names that matter to the scanner
 *   scan_tokens.c    bytes to tokens, strings and indentation included
 *   scan_literals.c  tokens to values: strings, sequences of strings, the docstring
 *   scan_module.c    tokens to statements: mig_scan
 *
 * Each of them uses those above it in this list. The first function that meets something to decline
 * records it with mig_scan_decline; each caller then returns at once. `status` of the scanner tells
 * whether that has happened.
 */
#ifndef MIG_CORE_SCAN_INTERNAL_H
#define MIG_CORE_SCAN_INTERNAL_H

#include "core/scan.h"

/* CPython allows 200 brackets and 100 levels of indentation. */
#define MIG_SCAN_BRACKETS 100
#define MIG_SCAN_INDENTS 99

typedef unsigned char byte;

/* Bytes and words ---------------------------------------------------------------------------- */

enum {
    CLASS_NAME = 1,  /* may stand in an identifier */
    CLASS_DIGIT = 2, /* with CLASS_NAME: may not begin one */
    CLASS_OPERATOR = 4,
    CLASS_OPEN = 8,
    CLASS_CLOSE = 16,
    CLASS_QUOTE = 32,
    CLASS_SPACE = 64
};

/* 0: newline, '#', backslash, '!', which have their own branches, and what no token begins with. */
extern const byte mig_scan_classes[256];

static inline bool is_name_char(byte c)
{
    return (mig_scan_classes[c] & CLASS_NAME) != 0;
}

static inline bool is_name_start(byte c)
{
    return (mig_scan_classes[c] & (CLASS_NAME | CLASS_DIGIT)) == CLASS_NAME;
}

typedef enum word {
    WORD_OTHER = 0,
    WORD_REVISION,
    WORD_DOWN_REVISION,
    WORD_BRANCH_LABELS,
    WORD_DEPENDS_ON,
    WORD_DOC,
    WORD_DEF,
    WORD_CLASS,
    WORD_ASYNC,
    WORD_IMPORT,
    WORD_GLOBAL,
    WORD_NONE,
    WORD_SYS,     /* with `modules`: a way to the module object */
    WORD_MODULES, /* harmless alone, and a likely name of a table */
    WORD_BUILTIN, /* may reach the module's namespace; as an attribute it is another's method */
    WORD_REFLECTION
} word;

#define MIG_SCAN_WORD_SIZE 16 /* of the longest word */
#define MIG_SCAN_LETTER(c) ((uint32_t)1 << ((c) & 31))

/* The first letters of the words of each length, as MIG_SCAN_LETTER bits. */
extern const uint32_t mig_scan_first_letters[MIG_SCAN_WORD_SIZE + 1];

/* False for most identifiers, after one look. `length` is at least 1. */
static inline bool may_be_word(const byte *text, size_t length)
{
    return length <= MIG_SCAN_WORD_SIZE &&
           (mig_scan_first_letters[length] & MIG_SCAN_LETTER(text[0])) != 0;
}

/* The word that the identifier of `length` >= 1 bytes is, or WORD_OTHER. */
word mig_scan_word(const byte *text, size_t length);

/* Tokens ------------------------------------------------------------------------------------- */

typedef enum token {
    TOKEN_FAILED,  /* declined or out of memory: scanner.status says which */
    TOKEN_NEWLINE, /* the end of a logical line, or of the file within one */
    TOKEN_NAME,
    TOKEN_STRING,
    TOKEN_NUMBER,
    TOKEN_OPERATOR
} token;

typedef struct scanner {
    const byte *start;
    const byte *at;
    const byte *end;
    mig_arena *arena;
    mig_error *error;
    mig_status status;

    /* The token that mig_scan_next has returned. */
    const byte *token;
    byte op;          /* TOKEN_OPERATOR: its first byte, and '=' for ":=" */
    word name;        /* TOKEN_NAME */
    const byte *text; /* TOKEN_STRING: what is between the quotes */
    size_t length;    /* of text */
    bool raw;         /* TOKEN_STRING: backslashes stand for themselves */
    bool plain;       /* TOKEN_STRING: neither bytes nor an f-string */

    byte previous; /* the operator before the token at `at`, 'i' for `import`, 0 for others */
    bool body;     /* inside a def or class that begins at column 0 */
    bool global;   /* inside a `global` statement */
    bool saw_sys;
    bool saw_modules;
    bool block_due; /* the last line ended with a colon */
    bool skimming;  /* see mig_scan_next */

    size_t depth; /* of brackets */
    char closers[MIG_SCAN_BRACKETS];
    size_t indents; /* indentation levels open */
    struct {
        size_t column;  /* tabs to multiples of 8 */
        size_t columns; /* tabs as 1: where both orders differ, CPython raises TabError */
    } indent[MIG_SCAN_INDENTS + 1];
} scanner;

/*
 * Record that the file is declined at s->at, for `reason` (a static text), in s->status and
 * s->error. Returns TOKEN_FAILED, so that a caller can return it.
 */
token mig_scan_decline(scanner *s, const char *reason);

/* Record MIG_ENOMEM, as mig_scan_decline. */
void mig_scan_out_of_memory(scanner *s);

/*
 * Go to the first token of the next logical line: indentation is checked, s->indents is its depth.
 * False at the end of the file, or when declined.
 */
bool mig_scan_begin_line(scanner *s);

/*
 * The next token of that line, described by the members of `s`. While s->skimming, only those that
 * the end of a statement is found by: the others are most of a file. TOKEN_FAILED when declined.
 */
token mig_scan_next(scanner *s);

/* Literals ----------------------------------------------------------------------------------- */

/*
 * A literal, from its first token `t` to the token behind it, which is returned: a string, None, or
 * a sequence of strings, with parentheses around any of these, at s->depth 0 before and after.
 * `value` gets its texts in s->arena. TOKEN_FAILED when declined or out of memory.
 */
token mig_scan_literal(scanner *s, token t, mig_scan_value *value);

/*
 * The first statement of the module, whose first token `t` is a string or an open parenthesis; else
 * as mig_scan_literal. clean: see mig_scan.
 */
token mig_scan_docstring(scanner *s, token t, bool clean, mig_scan_value *doc);

/* Encoding ----------------------------------------------------------------------------------- */

/*
 * Check the bytes from s->start to s->end, and set s->at to the first one after a byte order mark.
 * A source with CRLF is replaced by a copy with LF. False when declined or out of memory.
 */
bool mig_scan_prepare(scanner *s);

#endif
