/*
 * The bytes of a file before it is scanned: byte order mark and coding cookie (PEP 263, and
 * CPython's Parser/tokenizer.c), line ends, UTF-8.
 */
#include "core/scan_internal.h"

#include <string.h>

typedef enum encoding { ENCODING_UTF8, ENCODING_ASCII_SUPERSET, ENCODING_OTHER } encoding;

/* The codec that a cookie names. CPython recognises names that begin with utf-8 itself, and asks
 * `codecs` for the rest. */
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

/* Give the scanner a copy with LF for CRLF. A lone CR, which also ends a line, is declined. */
static bool translate_newlines(scanner *s)
{
    byte *copy = mig_arena_get(s->arena, (size_t)(s->end - s->start));
    if (copy == NULL) {
        mig_scan_out_of_memory(s);
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
                mig_scan_decline(s, "a carriage return without a line feed");
                return false;
            }
            s->at++;
        }
    }
    s->start = copy;
    s->end = w;
    return true;
}

bool mig_scan_prepare(scanner *s)
{
    size_t length = (size_t)(s->end - s->start);
    if (length == 0)
        return true;
    s->at = memchr(s->start, '\0', length);
    if (s->at != NULL) {
        mig_scan_decline(s, "a NUL byte");
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
        mig_scan_decline(s, "an encoding that is not known");
        return false;
    }
    size_t size = (size_t)(s->end - text);
    if (mig_is_ascii((const char *)text, size))
        return true;
    if (declared == ENCODING_ASCII_SUPERSET) {
        mig_scan_decline(s, "characters in an encoding other than UTF-8");
        return false;
    }
    s->at = text + mig_utf8_valid((const char *)text, size);
    if (s->at < s->end) {
        mig_scan_decline(s, "bytes that are not UTF-8");
        return false;
    }
    s->at = text;
    return true;
}
