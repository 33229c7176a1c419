/*
 * From tokens to statements: which of them bind the five names, and with what. Anything else than
 * one plain assignment of a literal, at column 0, is declined.
 */
#include "core/scan_internal.h"

#include <stddef.h>
#include <string.h>

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
        token t = mig_scan_next(s);
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
    mig_scan_decline(s, "an annotation that is not plain");
    return false;
}

/* `name = literal` or `name: annotation = literal`, from behind the name. */
static token parse_assignment(scanner *s, mig_scan_value *value)
{
    if (value->kind != MIG_SCAN_ABSENT)
        return mig_scan_decline(s, "a second assignment to a revision identifier");
    token t = mig_scan_next(s);
    if (t == TOKEN_FAILED)
        return t;
    bool plain = t == TOKEN_OPERATOR && s->op == '=' && s->at - s->token == 1 &&
                 (s->at >= s->end || *s->at != '=');
    if (t == TOKEN_OPERATOR && s->op == ':')
        plain = skip_annotation(s);
    if (s->status != MIG_OK)
        return TOKEN_FAILED;
    if (!plain)
        return mig_scan_decline(s, "a revision identifier that is not plainly assigned");
    t = mig_scan_literal(s, mig_scan_next(s), value);
    if (t == TOKEN_FAILED)
        return t;
    if (t != TOKEN_NEWLINE)
        return mig_scan_decline(s, "not a plain literal");
    for (size_t i = 0; i < value->count; i++)
        if (value->items[i].length == 0)
            return mig_scan_decline(s, "an empty identifier");
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
    for (; t > TOKEN_NEWLINE; t = mig_scan_next(s)) {
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
    /* The first token may be one of the five names, which mig_scan_next would decline. */
    if (is_name_start(*s->at)) {
        const byte *p = s->at;
        while (p < s->end && is_name_char(*p))
            p++;
        word name = mig_scan_word(s->at, (size_t)(p - s->at));
        mig_scan_value *value = value_of(result, name);
        if (value != NULL) {
            s->at = p;
            parse_assignment(s, value);
            s->block_due = false;
            return;
        }
    }
    token t = mig_scan_next(s);
    if (first && (t == TOKEN_STRING || (t == TOKEN_OPERATOR && s->op == '(')))
        t = mig_scan_docstring(s, t, clean_doc, &result->doc);
    bool header = t == TOKEN_NAME && (s->name == WORD_DEF || s->name == WORD_CLASS);
    if (t == TOKEN_NAME && s->name == WORD_ASYNC) {
        t = mig_scan_next(s);
        header = t == TOKEN_NAME && s->name == WORD_DEF;
    }
    finish_line(s, t, header);
}

static void scan_module(scanner *s, bool clean_doc, mig_scan_result *result)
{
    bool first = true;
    while (s->status == MIG_OK && mig_scan_begin_line(s)) {
        if (s->indents == 0)
            scan_statement(s, first, clean_doc, result);
        else
            finish_line(s, mig_scan_next(s), false);
        first = false;
    }
    if (s->status == MIG_OK && result->revision.kind != MIG_SCAN_ABSENT &&
        result->revision.kind != MIG_SCAN_STRING)
        mig_scan_decline(s, "revision is not a string");
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
    if (mig_scan_prepare(&s))
        scan_module(&s, clean_doc, result);
    if (s.status != MIG_OK)
        *result = nothing;
    return s.status;
}
