/*
 * The scanner of revision files. Upstream rules kept in step with:
 *   CPython Parser/tokenizer.c (3.12 on: Parser/lexer, Parser/tokenizer): lines, indentation,
 * strings, the coding cookie; Parser/string_parser.c: escapes; Python/compile.c:
 * _PyCompile_CleanDoc.
 *
 * Three layers: bytes (whole-file checks), tokens (`next_token`), statements (`scan_module`). A
 * function that meets something to decline records it with `decline` and every caller leaves.
 */
#include "core/scan.h"

#include <stddef.h>
#include <string.h>

/* CPython allows 200 brackets and 100 levels of indentation. */
#define MAX_BRACKETS 100
#define MAX_INDENTS 99

typedef unsigned char byte;

/* ---- bytes ---- */

enum {
    CLASS_NAME = 1,  /* may stand in an identifier */
    CLASS_DIGIT = 2, /* with CLASS_NAME: may not begin one */
    CLASS_OPERATOR = 4,
    CLASS_OPEN = 8,
    CLASS_CLOSE = 16,
    CLASS_QUOTE = 32,
    CLASS_SPACE = 64
};

#define N CLASS_NAME
#define D (CLASS_NAME | CLASS_DIGIT)
#define O CLASS_OPERATOR
#define L CLASS_OPEN
#define R CLASS_CLOSE
#define Q CLASS_QUOTE
#define S CLASS_SPACE

/* 0: newline, '#', backslash, '!', which have their own branches, and what no token begins with. */
static const byte classes[256] = {
    0, 0, 0, 0, 0, 0, 0, 0, 0, S, 0, 0, 0, 0, 0, 0, /* 00 */
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, /* 10 */
    S, 0, Q, 0, 0, O, O, Q, L, R, O, O, O, O, O, O, /* 20 */
    D, D, D, D, D, D, D, D, D, D, O, O, O, O, O, 0, /* 30 */
    O, N, N, N, N, N, N, N, N, N, N, N, N, N, N, N, /* 40 */
    N, N, N, N, N, N, N, N, N, N, N, L, 0, R, O, N, /* 50 */
    0, N, N, N, N, N, N, N, N, N, N, N, N, N, N, N, /* 60 */
    N, N, N, N, N, N, N, N, N, N, N, L, O, R, O, 0, /* 70 */
};

#undef N
#undef D
#undef O
#undef L
#undef R
#undef Q
#undef S

static bool is_name_char(byte c)
{
    return (classes[c] & CLASS_NAME) != 0;
}

static bool is_name_start(byte c)
{
    return (classes[c] & (CLASS_NAME | CLASS_DIGIT)) == CLASS_NAME;
}

/* ---- words ---- */

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

/* The five names whose binding the scanner must see. */
static bool is_ours(word w)
{
    return w >= WORD_REVISION && w <= WORD_DOC;
}

#define MAX_WORD 16
#define WORDS_PER_LENGTH 6

/* By length, so that most identifiers are told from all of these by a few first letters. */
static const struct {
    char text[MAX_WORD + 1];
    byte word;
} words[MAX_WORD + 1][WORDS_PER_LENGTH] = {
    [3] = {{"def", WORD_DEF}, {"sys", WORD_SYS}},
    [4] = {{"None", WORD_NONE},
           {"exec", WORD_BUILTIN},
           {"eval", WORD_BUILTIN},
           {"vars", WORD_BUILTIN}},
    [5] = {{"class", WORD_CLASS}, {"async", WORD_ASYNC}},
    [6] = {{"import", WORD_IMPORT}, {"global", WORD_GLOBAL}, {"locals", WORD_BUILTIN}},
    [7] = {{"__doc__", WORD_DOC},
           {"modules", WORD_MODULES},
           {"globals", WORD_BUILTIN},
           {"setattr", WORD_BUILTIN},
           {"delattr", WORD_BUILTIN}},
    [8] = {{"revision", WORD_REVISION},
           {"builtins", WORD_REFLECTION},
           {"__dict__", WORD_REFLECTION},
           {"f_locals", WORD_REFLECTION}},
    [9] = {{"importlib", WORD_SYS}, {"f_globals", WORD_REFLECTION}, {"_getframe", WORD_REFLECTION}},
    [10] = {{"depends_on", WORD_DEPENDS_ON}, {"__import__", WORD_REFLECTION}},
    [11] = {{"__globals__", WORD_REFLECTION},
            {"__getattr__", WORD_REFLECTION},
            {"__setattr__", WORD_REFLECTION},
            {"__delattr__", WORD_REFLECTION}},
    [12] = {{"__builtins__", WORD_REFLECTION}, {"currentframe", WORD_REFLECTION}},
    [13] = {{"down_revision", WORD_DOWN_REVISION},
            {"branch_labels", WORD_BRANCH_LABELS},
            {"import_module", WORD_SYS}},
    [16] = {{"__getattribute__", WORD_REFLECTION}},
};

#define BIT(c) ((uint32_t)1 << ((c) & 31))

/* The first letters of `words`, by length and letter: most identifiers are told from them by one
 * look. */
static const uint32_t first_letters[MAX_WORD + 1] = {
    [3] = BIT('d') | BIT('s'),
    [4] = BIT('N') | BIT('e') | BIT('v'),
    [5] = BIT('c') | BIT('a'),
    [6] = BIT('i') | BIT('g') | BIT('l'),
    [7] = BIT('_') | BIT('m') | BIT('g') | BIT('s') | BIT('d'),
    [8] = BIT('r') | BIT('b') | BIT('_') | BIT('f'),
    [9] = BIT('i') | BIT('f') | BIT('_'),
    [10] = BIT('d') | BIT('_'),
    [11] = BIT('_'),
    [12] = BIT('_') | BIT('c'),
    [13] = BIT('d') | BIT('b') | BIT('i'),
    [16] = BIT('_'),
};

static bool may_be_word(const byte *text, size_t length)
{
    return length <= MAX_WORD && (first_letters[length] & BIT(text[0])) != 0;
}

static word word_of(const byte *text, size_t length)
{
    if (!may_be_word(text, length))
        return WORD_OTHER;
    for (size_t i = 0; i < WORDS_PER_LENGTH && words[length][i].word != WORD_OTHER; i++)
        if (words[length][i].text[0] == (char)text[0] &&
            words[length][i].text[1] == (char)text[1] &&
            memcmp(words[length][i].text, text, length) == 0)
            return (word)words[length][i].word;
    return WORD_OTHER;
}

/* ---- tokens ---- */

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

    /* The token that next_token has returned. */
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
    bool skimming;  /* see next_token */

    size_t depth; /* of brackets */
    char closers[MAX_BRACKETS];
    size_t indents; /* indentation levels open */
    struct {
        size_t column;  /* tabs to multiples of 8 */
        size_t columns; /* tabs as 1: where both orders differ, CPython raises TabError */
    } indent[MAX_INDENTS + 1];
} scanner;

static void fail_at(scanner *s, mig_status status, const byte *where, const char *reason)
{
    uint32_t line = 1;
    for (const byte *p = s->start; p < where; p++)
        line += *p == '\n';
    s->status = mig_fail(s->error, status, "%s", reason);
    if (s->error != NULL) {
        s->error->offset = (size_t)(where - s->start);
        s->error->line = line;
    }
}

static token decline(scanner *s, const char *reason)
{
    fail_at(s, MIG_EDECLINED, s->at < s->end ? s->at : s->end, reason);
    return TOKEN_FAILED;
}

static void out_of_memory(scanner *s)
{
    fail_at(s, MIG_ENOMEM, s->start, "out of memory");
}

/* What a name means wherever it stands. `after_dot`: it is an attribute. */
static bool check_name(scanner *s, word name, bool after_dot)
{
    if (name == WORD_OTHER)
        return true;
    if (is_ours(name) && !after_dot && (!s->body || s->global)) {
        decline(s, "a use of a revision identifier other than its plain assignment");
        return false;
    }
    if (name == WORD_REFLECTION || (name == WORD_BUILTIN && !after_dot)) {
        decline(s, "a name that can reach the module's namespace");
        return false;
    }
    s->saw_sys |= name == WORD_SYS;
    s->saw_modules |= name == WORD_MODULES;
    if (s->saw_sys && s->saw_modules) {
        decline(s, "sys.modules can reach the module's namespace");
        return false;
    }
    s->global |= name == WORD_GLOBAL && !after_dot;
    return true;
}

/*
 * Move s->at behind a string whose body begins there; false when declined. `text` and `length` are
 * set. An f-string's fields are not looked at here.
 */
static bool skip_string(scanner *s, byte quote, bool triple)
{
    const byte *p = s->at;
    s->text = p;
    if (!triple) {
        while (p < s->end && *p != quote && *p != '\n')
            p += *p == '\\' ? 2 : 1;
        if (p >= s->end || *p != quote) {
            decline(s, "an unterminated string");
            return false;
        }
        s->length = (size_t)(p - s->text);
        s->at = p + 1;
        return true;
    }
    for (;;) {
        p = memchr(p, quote, (size_t)(s->end - p));
        if (p == NULL) {
            decline(s, "an unterminated string");
            return false;
        }
        const byte *slash = p;
        while (slash > s->text && slash[-1] == '\\')
            slash--;
        if ((p - slash) % 2 == 0 && s->end - p >= 3 && p[1] == quote && p[2] == quote)
            break;
        p++;
    }
    s->length = (size_t)(p - s->text);
    s->at = p + 3;
    return true;
}

/* A string inside a field of an f-string: from its quote at `p` to behind it, or NULL. */
static const byte *skip_field_string(scanner *s, const byte *p, byte outer, bool triple)
{
    byte quote = *p;
    bool formatted = p > s->text && (p[-1] == 'f' || p[-1] == 'F') && !is_name_char(p[-2]);
    if (is_name_char(p[-1]) && !formatted)
        return NULL;
    if (quote == outer && !triple)
        return NULL;
    const byte *from = ++p;
    size_t fields = 0;
    for (; p < s->end && *p != quote; p++) {
        if (*p == '\n' || *p == '\\' || *p == outer)
            return NULL;
        if (formatted && *p == '{')
            fields++;
        if (formatted && *p == '}' && fields-- == 0)
            return NULL;
        if (formatted && is_name_start(*p) && !is_name_char(p[-1])) {
            const byte *name = p;
            while (p + 1 < s->end && is_name_char(p[1]))
                p++;
            if (!check_name(s, word_of(name, (size_t)(p + 1 - name)), false))
                return NULL;
        }
    }
    if (p >= s->end || fields != 0)
        return NULL;
    p++;
    /* Three in a row begin or end a string elsewhere than two do. */
    if (p < s->end && *p == quote)
        return NULL;
    if (quote == outer && p - from == 1)
        return NULL;
    return p;
}

/*
 * As skip_string, for an f-string. Up to CPython 3.11 it ends at the first closing quotes;
 * from 3.12 on its fields are source code, in which any quotes may stand. It is declined where the
 * two differ.
 */
static bool skip_format_string(scanner *s, byte quote, bool triple, bool raw)
{
    char open[32]; /* 'f' a field, ':' its format, or a closing bracket */
    size_t depth = 0;
    const byte *p = s->at;
    s->text = p;
    while (p < s->end) {
        byte c = *p;
        char top = depth > 0 ? open[depth - 1] : '\0';
        bool code = depth > 0 && top != ':';
        if (c == quote && (!triple || (s->end - p >= 3 && p[1] == quote && p[2] == quote))) {
            if (depth > 0)
                break;
            s->length = (size_t)(p - s->text);
            s->at = p + (triple ? 3 : 1);
            return true;
        }
        if (c == '\n' && (!triple || top == ':'))
            break;
        if (depth == 0) {
            if (c == '\\') {
                if (s->end - p < 2 || (!raw && (p[1] == '{' || p[1] == '}' || p[1] == 'N')))
                    break;
                /* In a raw one the backslash guards a quote, but not a brace. */
                p += raw && (p[1] == '{' || p[1] == '}') ? 1 : 2;
            } else if ((c == '{' || c == '}') && s->end - p >= 2 && p[1] == c) {
                p += 2;
            } else if (c == '}') {
                break;
            } else {
                if (c == '{')
                    open[depth++] = 'f';
                p++;
            }
            continue;
        }
        if (c == '\\' || c == '#' || c >= 128 || depth == sizeof open)
            break;
        if (classes[c] & CLASS_QUOTE) {
            p = code ? skip_field_string(s, p, quote, triple) : NULL;
            if (p == NULL)
                break;
        } else if (is_name_start(c) && !is_name_char(p[-1])) {
            const byte *name = p;
            while (p < s->end && is_name_char(*p))
                p++;
            if (!check_name(s, word_of(name, (size_t)(p - name)), name[-1] == '.'))
                break;
        } else if (c == '{') {
            open[depth] = top == ':' ? 'f' : '}';
            depth++;
            p++;
        } else if (code && (c == '(' || c == '[')) {
            open[depth++] = c == '(' ? ')' : ']';
            p++;
        } else if (code && (c == ')' || c == ']')) {
            if (top != (char)c)
                break;
            depth--;
            p++;
        } else if (c == '}') {
            if (code && top != 'f' && top != '}')
                break;
            depth--;
            p++;
        } else {
            if (c == ':' && top == 'f')
                open[depth - 1] = ':';
            p++;
        }
    }
    if (s->status == MIG_OK) {
        if (p != NULL)
            s->at = p < s->end ? p : s->end;
        decline(s, "an f-string that is not understood");
    }
    return false;
}

/* A string whose prefix is the `prefix_length` bytes before s->at, where its quote stands. */
static token take_string(scanner *s, size_t prefix_length)
{
    bool bytes = false;
    bool format = false;
    s->raw = false;
    for (size_t i = 1; i <= prefix_length; i++) {
        byte c = s->at[-(ptrdiff_t)i] | 0x20;
        s->raw |= c == 'r';
        bytes |= c == 'b';
        format |= c == 'f';
    }
    s->plain = !bytes && !format;
    byte quote = *s->at;
    bool triple = s->end - s->at >= 3 && s->at[1] == quote && s->at[2] == quote;
    s->at += triple ? 3 : 1;
    if (format ? !skip_format_string(s, quote, triple, s->raw) : !skip_string(s, quote, triple))
        return TOKEN_FAILED;
    s->previous = 0;
    return TOKEN_STRING;
}

/* Is it one of CPython's string prefixes? A `t` (3.14) is left to the caller to decline. */
static bool is_prefix(const byte *text, size_t length)
{
    byte a = text[0] | 0x20;
    byte b = length > 1 ? text[1] | 0x20 : 0;
    if (length == 1)
        return a == 'r' || a == 'u' || a == 'b' || a == 'f' || a == 't';
    if (length == 2)
        return (a == 'r' && (b == 'b' || b == 'f' || b == 't')) ||
               (b == 'r' && (a == 'b' || a == 'f' || a == 't'));
    return false;
}

static token take_name(scanner *s)
{
    const byte *p = s->at;
    while (p < s->end && is_name_char(*p))
        p++;
    size_t length = (size_t)(p - s->at);
    if (length <= 2 && p < s->end && (classes[*p] & CLASS_QUOTE) && is_prefix(s->at, length)) {
        if ((s->at[0] | 0x20) == 't' || (s->at[length - 1] | 0x20) == 't')
            return decline(s, "a template string");
        s->at = p;
        return take_string(s, length);
    }
    s->name = word_of(s->at, length);
    if (s->name != WORD_OTHER && !check_name(s, s->name, s->previous == '.'))
        return TOKEN_FAILED;
    s->at = p;
    s->previous = s->name == WORD_IMPORT ? 'i' : 0;
    return TOKEN_NAME;
}

static token take_operator(scanner *s)
{
    byte c = *s->at++;
    if (classes[c] & CLASS_OPEN) {
        if (s->depth == MAX_BRACKETS)
            return decline(s, "brackets nested too deep");
        s->closers[s->depth++] = c == '(' ? ')' : c == '[' ? ']' : '}';
    } else if (classes[c] & CLASS_CLOSE) {
        if (s->depth == 0 || s->closers[s->depth - 1] != (char)c)
            return decline(s, "a bracket without its partner");
        s->depth--;
    } else if (c == '*' && s->previous == 'i') {
        return decline(s, "import *");
    } else if (c == ':' && s->at < s->end && *s->at == '=') {
        s->at++;
        c = '=';
    }
    s->op = c;
    s->previous = c;
    return TOKEN_OPERATOR;
}

/*
 * The next token of the logical line that begin_line has begun. While skimming, only those that
 * finish_line looks at: the others are most of a file.
 */
static token next_token(scanner *s)
{
    const byte *p = s->at;
    const byte *const end = s->end;
    for (;; p++) {
        while (p < end && classes[*p] == CLASS_SPACE)
            p++;
        s->at = s->token = p;
        if (p >= end)
            return s->depth > 0 ? decline(s, "an open bracket at the end") : TOKEN_NEWLINE;
        byte kind = classes[*p];
        if (s->skimming && kind == CLASS_NAME) {
            const byte *name = p;
            do
                p++;
            while (p < end && is_name_char(*p));
            if (may_be_word(name, (size_t)(p - name)) || (p < end && (classes[*p] & CLASS_QUOTE)))
                return take_name(s);
            s->previous = 0;
            p--;
            continue;
        }
        if (s->skimming && kind == CLASS_OPERATOR && *p != ':' && *p != ';' && *p != '*') {
            s->previous = *p;
            continue;
        }
        if (kind == CLASS_NAME)
            return take_name(s);
        if (kind & CLASS_DIGIT) {
            /* As far as letters and dots go: a keyword glued to it (`1if`) binds nothing. */
            while (p < end && (is_name_char(*p) || *p == '.'))
                p++;
            s->at = p;
            s->previous = 0;
            return TOKEN_NUMBER;
        }
        if (kind == CLASS_QUOTE)
            return take_string(s, 0);
        if (kind != 0)
            return take_operator(s);
        if (*p == '#') {
            p = memchr(p, '\n', (size_t)(end - p));
            p = p != NULL ? p - 1 : end - 1;
        } else if (*p == '\n') {
            if (s->depth == 0) {
                s->at = p + 1;
                return TOKEN_NEWLINE;
            }
        } else if (*p == '\\' && end - p > 2 && p[1] == '\n') {
            p++;
        } else if (*p == '!' && end - p > 1 && p[1] == '=') {
            s->at = p + 2;
            s->op = s->previous = '!';
            return TOKEN_OPERATOR;
        } else {
            return decline(s, "a character that is no part of plain Python");
        }
    }
}

/* Go to the first token of the next logical line; false at the end of the file or when declined. */
static bool begin_line(scanner *s)
{
    const byte *p = s->at;
    const byte *const end = s->end;
    size_t column;
    size_t columns;
    for (;; p++) {
        const byte *line = p;
        while (p < end && *p == ' ')
            p++;
        column = (size_t)(p - line);
        for (; p < end && classes[*p] == CLASS_SPACE; p++)
            column = *p == '\t' ? (column / 8 + 1) * 8 : column + 1;
        columns = (size_t)(p - line);
        if (p < end && *p == '#') {
            p = memchr(p, '\n', (size_t)(end - p));
            p = p != NULL ? p : end;
        }
        if (p >= end || *p != '\n')
            break;
    }
    s->at = p;
    if (s->at >= s->end) {
        if (s->block_due)
            decline(s, "a block is missing at the end");
        return false;
    }
    if (*s->at == '\\') {
        decline(s, "a line that begins with a continuation");
        return false;
    }
    bool deeper = column > s->indent[s->indents].column;
    if (deeper != s->block_due) {
        decline(s, "an indentation that does not fit");
        return false;
    }
    if (deeper) {
        if (s->indents == MAX_INDENTS || columns <= s->indent[s->indents].columns) {
            decline(s, "an indentation that does not fit");
            return false;
        }
        s->indents++;
        s->indent[s->indents].column = column;
        s->indent[s->indents].columns = columns;
    } else {
        while (column < s->indent[s->indents].column)
            s->indents--;
        if (column != s->indent[s->indents].column || columns != s->indent[s->indents].columns) {
            decline(s, "an indentation that does not fit");
            return false;
        }
    }
    s->previous = 0;
    s->global = false;
    if (s->indents == 0)
        s->body = false;
    return true;
}

/* ---- literals ---- */

/* A string that grows in the arena by doubling. */
typedef struct builder {
    char *text;
    size_t length;
    size_t capacity;
} builder;

static bool reserve(scanner *s, builder *b, size_t more)
{
    if (b->text != NULL && b->capacity - b->length >= more)
        return true;
    /* Both are lengths within one source: their sum cannot overflow. */
    size_t capacity = (b->length + more) * 2;
    char *text = mig_arena_get(s->arena, b->text == NULL ? more + 1 : capacity);
    if (text == NULL) {
        out_of_memory(s);
        return false;
    }
    if (b->length > 0)
        memcpy(text, b->text, b->length);
    b->capacity = b->text == NULL ? more : capacity;
    b->text = text;
    return true;
}

static void put_character(builder *b, uint32_t c)
{
    char *w = b->text + b->length;
    if (c < 0x80) {
        *w++ = (char)c;
    } else if (c < 0x800) {
        *w++ = (char)(0xC0 | (c >> 6));
        *w++ = (char)(0x80 | (c & 0x3F));
    } else if (c < 0x10000) {
        *w++ = (char)(0xE0 | (c >> 12));
        *w++ = (char)(0x80 | ((c >> 6) & 0x3F));
        *w++ = (char)(0x80 | (c & 0x3F));
    } else {
        *w++ = (char)(0xF0 | (c >> 18));
        *w++ = (char)(0x80 | ((c >> 12) & 0x3F));
        *w++ = (char)(0x80 | ((c >> 6) & 0x3F));
        *w++ = (char)(0x80 | (c & 0x3F));
    }
    b->length = (size_t)(w - b->text);
}

static int hex_value(byte c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The escape whose backslash is before `p`: what follows it, or NULL when it is to be declined. */
static const byte *decode_escape(builder *b, const byte *p, const byte *end)
{
    static const char simple[] = "\\\\''\"\"a\ab\bf\fn\nr\rt\tv\v";
    byte c = *p++;
    if (c == '\n')
        return p;
    if (c >= '0' && c <= '7') {
        uint32_t value = c - (uint32_t)'0';
        for (int i = 0; i < 2 && p < end && *p >= '0' && *p <= '7'; i++)
            value = value * 8 + (*p++ - (uint32_t)'0');
        if (value > 0xFF)
            return NULL;
        put_character(b, value);
        return p;
    }
    if (c == 'x' || c == 'u' || c == 'U') {
        ptrdiff_t digits = c == 'x' ? 2 : c == 'u' ? 4 : 8;
        uint32_t value = 0;
        if (end - p < digits)
            return NULL;
        for (; digits > 0; digits--) {
            int digit = hex_value(*p++);
            if (digit < 0 || value > 0x10FFFF)
                return NULL;
            value = value * 16 + (uint32_t)digit;
        }
        if (value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF))
            return NULL;
        put_character(b, value);
        return p;
    }
    for (const char *pair = simple; *pair != '\0'; pair += 2) {
        if (*pair == (char)c) {
            put_character(b, (uint32_t)(byte)pair[1]);
            return p;
        }
    }
    return NULL;
}

/* Append the value of the string token. An escape never takes more bytes than its value in UTF-8.
 */
static bool append_string(scanner *s, builder *b)
{
    if (!s->plain) {
        decline(s, "bytes or an f-string");
        return false;
    }
    if (!reserve(s, b, s->length))
        return false;
    const byte *p = s->text;
    const byte *end = p + s->length;
    while (p < end) {
        const byte *slash = s->raw ? NULL : memchr(p, '\\', (size_t)(end - p));
        const byte *stop = slash != NULL ? slash : end;
        memcpy(b->text + b->length, p, (size_t)(stop - p));
        b->length += (size_t)(stop - p);
        p = stop;
        if (slash != NULL) {
            p = decode_escape(b, slash + 1, end);
            if (p == NULL) {
                decline(s, "an escape that is not understood");
                return false;
            }
        }
    }
    return true;
}

typedef struct item_list {
    mig_scan_text *items;
    size_t count;
    size_t capacity;
} item_list;

static bool append_item(scanner *s, item_list *list, const builder *b)
{
    if (list->count == list->capacity) {
        size_t capacity = list->capacity == 0 ? 2 : list->capacity * 2;
        mig_scan_text *items = mig_arena_get_array(s->arena, capacity, sizeof *items);
        if (items == NULL) {
            out_of_memory(s);
            return false;
        }
        if (list->count > 0)
            memcpy(items, list->items, list->count * sizeof *items);
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->count].text = b->text;
    list->items[list->count].length = b->length;
    list->count++;
    return true;
}

/*
 * A literal, from its first token `t` to the token behind it, which is returned: a string, None, or
 * a sequence of strings, with parentheses around any of these, at s->depth 0 before and after.
 */
static token parse_literal(scanner *s, token t, mig_scan_value *value)
{
    item_list list = {NULL, 0, 0};
    mig_scan_kind kind = MIG_SCAN_ABSENT; /* of the value; a sequence once its comma was seen */
    size_t level = 0;                     /* the bracket depth of the sequence's elements */
    bool closed = false;                  /* the sequence's bracket */
    bool operand = true;                  /* an element may follow */
    bool comma = false;                   /* the token before was a comma */
    for (;;) {
        bool sequence = kind == MIG_SCAN_TUPLE || kind == MIG_SCAN_LIST;
        byte op = t == TOKEN_OPERATOR ? s->op : 0;
        if (t == TOKEN_FAILED)
            return t;
        if (operand && t == TOKEN_STRING) {
            builder b = {NULL, 0, 0};
            for (; t == TOKEN_STRING; t = next_token(s))
                if (!append_string(s, &b))
                    return TOKEN_FAILED;
            if (!append_item(s, &list, &b))
                return TOKEN_FAILED;
            if (!sequence)
                kind = MIG_SCAN_STRING;
            operand = comma = false;
            continue;
        }
        if (operand && t == TOKEN_NAME && s->name == WORD_NONE && kind == MIG_SCAN_ABSENT) {
            kind = MIG_SCAN_NONE;
            operand = false;
        } else if (operand && op == '(') {
            comma = false;
        } else if (operand && op == '[' && kind == MIG_SCAN_ABSENT && s->depth == 1) {
            kind = MIG_SCAN_LIST;
            level = 1;
        } else if (!operand && op == ',' && kind != MIG_SCAN_NONE && !closed &&
                   (!sequence || s->depth == level)) {
            if (!sequence) {
                kind = MIG_SCAN_TUPLE;
                level = s->depth;
            }
            operand = comma = true;
        } else if (op == ')' || op == ']') {
            /* take_operator has seen to it that the bracket is the right one. */
            if (operand && kind == MIG_SCAN_ABSENT && !comma) {
                kind = MIG_SCAN_TUPLE; /* () */
                closed = true;
            } else if (sequence && !closed && s->depth + 1 == level) {
                if (operand && !comma && !(kind == MIG_SCAN_LIST && list.count == 0))
                    break;
                closed = true;
            } else if (operand) {
                break;
            }
            operand = false;
        } else if (s->depth == 0 && (!operand || (sequence && level == 0 && comma)) &&
                   (t == TOKEN_NEWLINE || op == ';')) {
            value->kind = kind;
            value->count = list.count;
            value->items = list.items;
            return t;
        } else {
            break;
        }
        t = next_token(s);
    }
    return decline(s, "not a plain literal");
}

/* ---- the docstring ---- */

/*
 * What the compiler of CPython 3.13 and later makes of a docstring: tabs expanded, the margin of
 * all lines but the first taken away, the first line's leading spaces too; blank lines stay.
 */
static bool clean_docstring(scanner *s, mig_scan_text *doc)
{
    size_t tabs = 0;
    for (size_t i = 0; i < doc->length; i++)
        tabs += doc->text[i] == '\t';
    if (doc->length > (SIZE_MAX - 1) / 8) {
        out_of_memory(s);
        return false;
    }
    char *text = mig_arena_get(s->arena, doc->length + tabs * 7 + 1);
    if (text == NULL) {
        out_of_memory(s);
        return false;
    }
    char *end = text;
    size_t column = 0;
    for (size_t i = 0; i < doc->length; i++) {
        char c = doc->text[i];
        if (c == '\t') {
            do
                *end++ = ' ';
            while (++column % 8 != 0);
            continue;
        }
        *end++ = c;
        if (c == '\n' || c == '\r')
            column = 0;
        else if (((byte)c & 0xC0) != 0x80) /* columns are characters */
            column++;
    }
    size_t margin = SIZE_MAX;
    char *p = memchr(text, '\n', (size_t)(end - text));
    while (p != NULL) {
        char *line = ++p;
        while (p < end && *p == ' ')
            p++;
        if (p < end && *p != '\n' && (size_t)(p - line) < margin)
            margin = (size_t)(p - line);
        p = memchr(p, '\n', (size_t)(end - p));
    }
    if (margin == SIZE_MAX)
        margin = 0;
    char *w = text;
    bool first = true;
    for (p = text; p < end; first = false) {
        for (size_t i = 0; (first || i < margin) && p < end && *p == ' '; i++)
            p++;
        char *newline = memchr(p, '\n', (size_t)(end - p));
        size_t length = (size_t)((newline != NULL ? newline + 1 : end) - p);
        memmove(w, p, length);
        w += length;
        p += length;
    }
    doc->text = text;
    doc->length = (size_t)(w - text);
    return true;
}

/* The first statement of the module, whose first token `t` is a string or an open parenthesis. */
static token parse_docstring(scanner *s, token t, bool clean, mig_scan_value *doc)
{
    t = parse_literal(s, t, doc);
    if (t == TOKEN_FAILED)
        return t;
    if (doc->kind != MIG_SCAN_STRING)
        return decline(s, "a first statement that is not a plain docstring");
    mig_scan_text *text = mig_arena_get(s->arena, sizeof *text);
    if (text == NULL) {
        out_of_memory(s);
        return TOKEN_FAILED;
    }
    *text = doc->items[0];
    doc->items = text;
    if (clean && !clean_docstring(s, text))
        return TOKEN_FAILED;
    return t;
}

/* ---- statements ---- */

static bool is_keyword(const byte *text, size_t length)
{
    static const char keywords[][8][9] = {
        [2] = {"as", "if", "in", "is", "or"},
        [3] = {"and", "def", "del", "for", "not", "try"},
        [4] = {"True", "elif", "else", "from", "pass", "with"},
        [5] = {"False", "async", "await", "break", "class", "raise", "while", "yield"},
        [6] = {"assert", "except", "global", "import", "lambda", "return"},
        [7] = {"finally"},
        [8] = {"continue", "nonlocal"},
    };
    if (length >= sizeof keywords / sizeof keywords[0])
        return false;
    for (size_t i = 0; i < sizeof keywords[0] / sizeof keywords[0][0]; i++)
        if (keywords[length][i][0] == (char)text[0] &&
            memcmp(keywords[length][i], text, length) == 0)
            return true;
    return false;
}

/*
 * An annotation, from behind its colon to the `=` behind it: names with dots, strings, `...`,
 * subscripts and `|`. It is evaluated, so it may not do more than name types.
 */
static bool skip_annotation(scanner *s)
{
    bool operand = true;
    bool dotted = false; /* an attribute's name must follow */
    for (;;) {
        token t = next_token(s);
        byte op = t == TOKEN_OPERATOR ? s->op : 0;
        if (t == TOKEN_FAILED)
            return false;
        if (t == TOKEN_NAME && operand && !is_keyword(s->token, (size_t)(s->at - s->token))) {
            operand = dotted = false;
        } else if (t == TOKEN_STRING && operand && !dotted && s->plain &&
                   memchr(s->text, '\\', s->length) == NULL) {
            operand = false;
        } else if (op == '.' && operand && !dotted && s->end - s->at > 2 && s->at[0] == '.' &&
                   s->at[1] == '.') {
            s->at += 2;
            s->previous = 0;
            operand = false;
        } else if (op == '.' && !operand) {
            operand = dotted = true;
        } else if ((op == '|' || op == '[' || (op == ',' && s->depth > 0)) && !operand) {
            operand = true;
        } else if (op == ']' && !operand) {
            operand = false;
        } else if (op == '=' && !operand && s->depth == 0) {
            if (s->at - s->token == 1 && (s->at >= s->end || *s->at != '='))
                return true;
            break;
        } else {
            break;
        }
    }
    decline(s, "an annotation that is not plain");
    return false;
}

/* `name = literal` or `name: annotation = literal`, from behind the name. */
static token parse_assignment(scanner *s, mig_scan_value *value)
{
    if (value->kind != MIG_SCAN_ABSENT)
        return decline(s, "a second assignment to a revision identifier");
    token t = next_token(s);
    if (t == TOKEN_FAILED)
        return t;
    bool plain = t == TOKEN_OPERATOR && s->op == '=' && s->at - s->token == 1 &&
                 (s->at >= s->end || *s->at != '=');
    if (t == TOKEN_OPERATOR && s->op == ':')
        plain = skip_annotation(s);
    if (s->status != MIG_OK)
        return TOKEN_FAILED;
    if (!plain)
        return decline(s, "a revision identifier that is not plainly assigned");
    t = parse_literal(s, next_token(s), value);
    if (t == TOKEN_FAILED)
        return t;
    if (t != TOKEN_NEWLINE)
        return decline(s, "not a plain literal");
    for (size_t i = 0; i < value->count; i++)
        if (value->items[i].length == 0)
            return decline(s, "an empty identifier");
    return t;
}

static mig_scan_value *value_of(mig_scan_result *result, word name)
{
    switch (name) {
    case WORD_REVISION:
        return &result->revision;
    case WORD_DOWN_REVISION:
        return &result->down_revision;
    case WORD_BRANCH_LABELS:
        return &result->branch_labels;
    case WORD_DEPENDS_ON:
        return &result->depends_on;
    default:
        return NULL;
    }
}

/* From the token `t` to the end of its line. `header`: a colon of this line begins a body. */
static void finish_line(scanner *s, token t, bool header)
{
    s->skimming = true;
    for (; t > TOKEN_NEWLINE; t = next_token(s)) {
        if (t != TOKEN_OPERATOR)
            continue;
        if (header && s->op == ':' && s->depth == 0)
            s->body = true;
        if (s->op == ';')
            s->global = false;
    }
    s->skimming = false;
    s->block_due = s->previous == ':';
}

/* A statement at column 0. */
static void scan_statement(scanner *s, bool first, bool clean_doc, mig_scan_result *result)
{
    /* Its first token may be one of our names, which check_name would decline. */
    if (is_name_start(*s->at)) {
        const byte *p = s->at;
        while (p < s->end && is_name_char(*p))
            p++;
        word name = word_of(s->at, (size_t)(p - s->at));
        mig_scan_value *value = value_of(result, name);
        if (value != NULL) {
            s->at = p;
            parse_assignment(s, value);
            s->block_due = false;
            return;
        }
    }
    token t = next_token(s);
    if (first && (t == TOKEN_STRING || (t == TOKEN_OPERATOR && s->op == '(')))
        t = parse_docstring(s, t, clean_doc, &result->doc);
    bool header = t == TOKEN_NAME && (s->name == WORD_DEF || s->name == WORD_CLASS);
    if (t == TOKEN_NAME && s->name == WORD_ASYNC) {
        t = next_token(s);
        header = t == TOKEN_NAME && s->name == WORD_DEF;
    }
    finish_line(s, t, header);
}

static void scan_module(scanner *s, bool clean_doc, mig_scan_result *result)
{
    bool first = true;
    while (s->status == MIG_OK && begin_line(s)) {
        if (s->indents == 0)
            scan_statement(s, first, clean_doc, result);
        else
            finish_line(s, next_token(s), false);
        first = false;
    }
    if (s->status == MIG_OK && result->revision.kind != MIG_SCAN_ABSENT &&
        result->revision.kind != MIG_SCAN_STRING)
        decline(s, "revision is not a string");
}

/* ---- encodings ---- */

static bool is_ascii(const byte *p, const byte *end)
{
    uint64_t high = 0;
    for (; end - p >= 32; p += 32) {
        uint64_t eight[4];
        memcpy(eight, p, sizeof eight);
        high |= eight[0] | eight[1] | eight[2] | eight[3];
    }
    for (; p < end; p++)
        high |= *p;
    return (high & UINT64_C(0x8080808080808080)) == 0;
}

/* The first byte of what is not UTF-8 (no overlong forms, no surrogates), or `end`. */
static const byte *skip_utf8(const byte *p, const byte *end)
{
    while (p < end) {
        byte c = *p;
        ptrdiff_t more = c < 0x80   ? 0
                         : c < 0xC2 ? -1
                         : c < 0xE0 ? 1
                         : c < 0xF0 ? 2
                         : c < 0xF5 ? 3
                                    : -1;
        if (more < 0 || end - p <= more)
            return p;
        if ((c == 0xE0 && p[1] < 0xA0) || (c == 0xED && p[1] > 0x9F) ||
            (c == 0xF0 && p[1] < 0x90) || (c == 0xF4 && p[1] > 0x8F))
            return p;
        for (ptrdiff_t i = 1; i <= more; i++)
            if ((p[i] & 0xC0) != 0x80)
                return p;
        p += more + 1;
    }
    return end;
}

typedef enum encoding { ENCODING_UTF8, ENCODING_ASCII_SUPERSET, ENCODING_OTHER } encoding;

/* The codec that a cookie names. CPython knows by sight what begins with utf-8, and asks codecs for
 * others. */
static encoding encoding_of(const byte *text, size_t length, bool bom)
{
    static const char *const supersets[] = {
        "ascii",        "us-ascii",     "latin-1",      "latin1",       "iso-latin-1",
        "iso-8859-1",   "iso-8859-2",   "iso-8859-3",   "iso-8859-4",   "iso-8859-5",
        "iso-8859-6",   "iso-8859-7",   "iso-8859-8",   "iso-8859-9",   "iso-8859-10",
        "iso-8859-13",  "iso-8859-14",  "iso-8859-15",  "iso8859-1",    "iso8859-15",
        "cp1250",       "cp1251",       "cp1252",       "cp1253",       "cp1254",
        "cp1255",       "cp1256",       "cp1257",       "cp1258",       "windows-1250",
        "windows-1251", "windows-1252", "windows-1253", "windows-1254", "koi8-r",
        "koi8-u"};
    char name[16];
    if (length >= sizeof name)
        return ENCODING_OTHER;
    for (size_t i = 0; i < length; i++) {
        byte c = text[i];
        name[i] = (char)(c == '_' ? '-' : c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
    }
    name[length] = '\0';
    if (strcmp(name, "utf-8") == 0 || strncmp(name, "utf-8-", 6) == 0)
        return ENCODING_UTF8;
    if (bom) /* CPython compares the cookie with "utf-8" then */
        return ENCODING_OTHER;
    if (strcmp(name, "utf8") == 0)
        return ENCODING_UTF8;
    for (size_t i = 0; i < sizeof supersets / sizeof supersets[0]; i++)
        if (strcmp(name, supersets[i]) == 0)
            return ENCODING_ASCII_SUPERSET;
    return ENCODING_OTHER;
}

/* The name in the coding cookie of one line (PEP 263): its length, 0 without a cookie. */
static size_t find_cookie(const byte *line, const byte *end, const byte **name)
{
    for (const byte *p = line; end - p > 6; p++) {
        if (memcmp(p, "coding", 6) != 0 || (p[6] != ':' && p[6] != '='))
            continue;
        const byte *from = p + 7;
        while (from < end && (*from == ' ' || *from == '\t'))
            from++;
        const byte *to = from;
        while (to < end && (is_name_char(*to) || *to == '-' || *to == '.'))
            to++;
        if (to > from) {
            *name = from;
            return (size_t)(to - from);
        }
    }
    return 0;
}

static encoding declared_encoding(const byte *p, const byte *end, bool bom)
{
    for (int line = 0; line < 2; line++) {
        const byte *newline = memchr(p, '\n', (size_t)(end - p));
        const byte *stop = newline != NULL ? newline : end;
        while (p < stop && (*p == ' ' || *p == '\t' || *p == '\f'))
            p++;
        if (p < stop && *p != '#')
            break;
        const byte *name = NULL;
        size_t length = find_cookie(p, stop, &name);
        if (length > 0)
            return encoding_of(name, length, bom);
        if (newline == NULL)
            break;
        p = newline + 1;
    }
    return ENCODING_UTF8;
}

/* ---- the whole file ---- */

/* Give the scanner a copy with LF for CRLF. A lone CR ends a line too, but nobody writes that. */
static bool translate_newlines(scanner *s)
{
    byte *copy = mig_arena_get(s->arena, (size_t)(s->end - s->start));
    if (copy == NULL) {
        out_of_memory(s);
        return false;
    }
    byte *w = copy;
    for (s->at = s->start; s->at < s->end;) {
        const byte *cr = memchr(s->at, '\r', (size_t)(s->end - s->at));
        const byte *stop = cr != NULL ? cr : s->end;
        memcpy(w, s->at, (size_t)(stop - s->at));
        w += stop - s->at;
        s->at = stop;
        if (cr != NULL) {
            if (s->end - cr < 2 || cr[1] != '\n') {
                decline(s, "a carriage return without a line feed");
                return false;
            }
            s->at++;
        }
    }
    s->start = copy;
    s->end = w;
    return true;
}

static bool prepare(scanner *s)
{
    size_t length = (size_t)(s->end - s->start);
    if (length == 0)
        return true;
    s->at = memchr(s->start, '\0', length);
    if (s->at != NULL) {
        decline(s, "a NUL byte");
        return false;
    }
    if (memchr(s->start, '\r', length) != NULL && !translate_newlines(s))
        return false;
    s->at = s->start;
    bool bom = s->end - s->at >= 3 && memcmp(s->at, "\xEF\xBB\xBF", 3) == 0;
    if (bom)
        s->at += 3;
    const byte *text = s->at;
    encoding declared = declared_encoding(text, s->end, bom);
    if (declared == ENCODING_OTHER) {
        decline(s, "an encoding that is not known");
        return false;
    }
    if (is_ascii(text, s->end))
        return true;
    if (declared == ENCODING_ASCII_SUPERSET) {
        decline(s, "characters in an encoding other than UTF-8");
        return false;
    }
    s->at = skip_utf8(text, s->end);
    if (s->at < s->end) {
        decline(s, "bytes that are not UTF-8");
        return false;
    }
    s->at = text;
    return true;
}

mig_status mig_scan(const char *source, size_t length, bool clean_doc, mig_arena *arena,
                    mig_scan_result *result, mig_error *error)
{
    static const mig_scan_result nothing;
    scanner s;
    memset(&s, 0, offsetof(scanner, closers));
    s.start = (const byte *)(length > 0 ? source : "");
    s.at = s.start;
    s.end = s.start + length;
    s.arena = arena;
    s.error = error;
    s.indents = 0;
    s.indent[0].column = 0;
    s.indent[0].columns = 0;
    *result = nothing;
    if (prepare(&s))
        scan_module(&s, clean_doc, result);
    if (s.status != MIG_OK)
        *result = nothing;
    return s.status;
}
