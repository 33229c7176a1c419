/*
 * From bytes to tokens: lines, indentation, brackets, names and strings, as CPython's tokenizer
 * (Parser/tokenizer.c; from 3.12 on Parser/lexer and Parser/tokenizer) has them.
 */
#include "core/scan_internal.h"

#include <stddef.h>
#include <string.h>

/* The five names whose binding the scanner must see. */
static bool is_ours(word w)
{
    return w >= WORD_REVISION && w <= WORD_DOC;
}

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

token mig_scan_decline(scanner *s, const char *reason)
{
    fail_at(s, MIG_EDECLINED, s->at < s->end ? s->at : s->end, reason);
    return TOKEN_FAILED;
}

void mig_scan_out_of_memory(scanner *s)
{
    fail_at(s, MIG_ENOMEM, s->start, "out of memory");
}

/* Check a name that may have a meaning in any position. after_dot: it is an attribute. */
static bool check_name(scanner *s, word name, bool after_dot)
{
    if (name == WORD_OTHER)
        return true;
    if (is_ours(name) && !after_dot && (!s->body || s->global)) {
        mig_scan_decline(s, "a use of a revision identifier other than its plain assignment");
        return false;
    }
    if (name == WORD_REFLECTION || (name == WORD_BUILTIN && !after_dot)) {
        mig_scan_decline(s, "a name that can reach the module's namespace");
        return false;
    }
    s->saw_sys |= name == WORD_SYS;
    s->saw_modules |= name == WORD_MODULES;
    if (s->saw_sys && s->saw_modules) {
        mig_scan_decline(s, "sys.modules can reach the module's namespace");
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
            mig_scan_decline(s, "an unterminated string");
            return false;
        }
        s->length = (size_t)(p - s->text);
        s->at = p + 1;
        return true;
    }
    for (;;) {
        p = memchr(p, quote, (size_t)(s->end - p));
        if (p == NULL) {
            mig_scan_decline(s, "an unterminated string");
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
            if (!check_name(s, mig_scan_word(name, (size_t)(p + 1 - name)), false))
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
 * from 3.12 on its fields are source code, which may contain any quotes. It is declined where the
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
        if (mig_scan_classes[c] & CLASS_QUOTE) {
            p = code ? skip_field_string(s, p, quote, triple) : NULL;
            if (p == NULL)
                break;
        } else if (is_name_start(c) && !is_name_char(p[-1])) {
            const byte *name = p;
            while (p < s->end && is_name_char(*p))
                p++;
            if (!check_name(s, mig_scan_word(name, (size_t)(p - name)), name[-1] == '.'))
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
        mig_scan_decline(s, "an f-string that is not understood");
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
    if (length <= 2 && p < s->end && (mig_scan_classes[*p] & CLASS_QUOTE) &&
        is_prefix(s->at, length)) {
        if ((s->at[0] | 0x20) == 't' || (s->at[length - 1] | 0x20) == 't')
            return mig_scan_decline(s, "a template string");
        s->at = p;
        return take_string(s, length);
    }
    s->name = mig_scan_word(s->at, length);
    if (s->name != WORD_OTHER && !check_name(s, s->name, s->previous == '.'))
        return TOKEN_FAILED;
    s->at = p;
    s->previous = s->name == WORD_IMPORT ? 'i' : 0;
    return TOKEN_NAME;
}

static token take_operator(scanner *s)
{
    byte c = *s->at++;
    if (mig_scan_classes[c] & CLASS_OPEN) {
        if (s->depth == MIG_SCAN_BRACKETS)
            return mig_scan_decline(s, "brackets nested too deep");
        s->closers[s->depth++] = c == '(' ? ')' : c == '[' ? ']' : '}';
    } else if (mig_scan_classes[c] & CLASS_CLOSE) {
        if (s->depth == 0 || s->closers[s->depth - 1] != (char)c)
            return mig_scan_decline(s, "a bracket without its partner");
        s->depth--;
    } else if (c == '*' && s->previous == 'i') {
        return mig_scan_decline(s, "import *");
    } else if (c == ':' && s->at < s->end && *s->at == '=') {
        s->at++;
        c = '=';
    }
    s->op = c;
    s->previous = c;
    return TOKEN_OPERATOR;
}

/*
 * While skimming, tokens that cannot end a statement or begin a body are passed over here: they are
 * most of a file.
 */
token mig_scan_next(scanner *s)
{
    const byte *p = s->at;
    const byte *const end = s->end;
    for (;; p++) {
        while (p < end && mig_scan_classes[*p] == CLASS_SPACE)
            p++;
        s->at = s->token = p;
        if (p >= end)
            return s->depth > 0 ? mig_scan_decline(s, "an open bracket at the end") : TOKEN_NEWLINE;
        byte kind = mig_scan_classes[*p];
        if (s->skimming && kind == CLASS_NAME) {
            const byte *name = p;
            do
                p++;
            while (p < end && is_name_char(*p));
            if (may_be_word(name, (size_t)(p - name)) ||
                (p < end && (mig_scan_classes[*p] & CLASS_QUOTE)))
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
            return mig_scan_decline(s, "a character that is no part of plain Python");
        }
    }
}

/* Blank lines and comments do not count for indentation, as in CPython. */
bool mig_scan_begin_line(scanner *s)
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
        for (; p < end && mig_scan_classes[*p] == CLASS_SPACE; p++)
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
            mig_scan_decline(s, "a block is missing at the end");
        return false;
    }
    if (*s->at == '\\') {
        mig_scan_decline(s, "a line that begins with a continuation");
        return false;
    }
    bool deeper = column > s->indent[s->indents].column;
    if (deeper != s->block_due) {
        mig_scan_decline(s, "an indentation that does not fit");
        return false;
    }
    if (deeper) {
        if (s->indents == MIG_SCAN_INDENTS || columns <= s->indent[s->indents].columns) {
            mig_scan_decline(s, "an indentation that does not fit");
            return false;
        }
        s->indents++;
        s->indent[s->indents].column = column;
        s->indent[s->indents].columns = columns;
    } else {
        while (column < s->indent[s->indents].column)
            s->indents--;
        if (column != s->indent[s->indents].column || columns != s->indent[s->indents].columns) {
            mig_scan_decline(s, "an indentation that does not fit");
            return false;
        }
    }
    s->previous = 0;
    s->global = false;
    if (s->indents == 0)
        s->body = false;
    return true;
}
