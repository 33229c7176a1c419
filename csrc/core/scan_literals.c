/*
 * From tokens to values: strings with their escapes (Parser/string_parser.c of CPython), sequences
 * of strings, the docstring (Python/compile.c, _PyCompile_CleanDoc).
 */
#include "core/scan_internal.h"

#include <stddef.h>
#include <string.h>

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
        mig_scan_out_of_memory(s);
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
    b->length += mig_utf8_encode(b->text + b->length, c);
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
            int digit = mig_hex_value((char)*p++);
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
        mig_scan_decline(s, "bytes or an f-string");
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
                mig_scan_decline(s, "an escape that is not understood");
                return false;
            }
        }
    }
    return true;
}

typedef struct item_list {
    mig_text *items;
    size_t count;
    size_t capacity;
} item_list;

static bool append_item(scanner *s, item_list *list, const builder *b)
{
    if (list->count == list->capacity) {
        size_t capacity = list->capacity == 0 ? 2 : list->capacity * 2;
        mig_text *items = mig_arena_get_array(s->arena, capacity, sizeof *items);
        if (items == NULL) {
            mig_scan_out_of_memory(s);
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
token mig_scan_literal(scanner *s, token t, mig_scan_value *value)
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
            for (; t == TOKEN_STRING; t = mig_scan_next(s))
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
        t = mig_scan_next(s);
    }
    return mig_scan_decline(s, "not a plain literal");
}

/* ---- the docstring ---- */

/*
 * What the compiler of CPython 3.13 and later makes of a docstring: tabs expanded, the margin of
 * all lines but the first taken away, the first line's leading spaces too; blank lines stay.
 */
static bool clean_docstring(scanner *s, mig_text *doc)
{
    size_t tabs = 0;
    for (size_t i = 0; i < doc->length; i++)
        tabs += doc->text[i] == '\t';
    if (doc->length > (SIZE_MAX - 1) / 8) {
        mig_scan_out_of_memory(s);
        return false;
    }
    char *text = mig_arena_get(s->arena, doc->length + tabs * 7 + 1);
    if (text == NULL) {
        mig_scan_out_of_memory(s);
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
token mig_scan_docstring(scanner *s, token t, bool clean, mig_scan_value *doc)
{
    t = mig_scan_literal(s, t, doc);
    if (t == TOKEN_FAILED)
        return t;
    if (doc->kind != MIG_SCAN_STRING)
        return mig_scan_decline(s, "a first statement that is not a plain docstring");
    mig_text *text = mig_arena_get(s->arena, sizeof *text);
    if (text == NULL) {
        mig_scan_out_of_memory(s);
        return TOKEN_FAILED;
    }
    *text = doc->items[0];
    doc->items = text;
    if (clean && !clean_docstring(s, text))
        return TOKEN_FAILED;
    return t;
}
