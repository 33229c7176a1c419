/*
 * Text as pointer and length, classes of ASCII characters, and UTF-8: each rule once.
 *
 * A mig_text borrows its bytes, need not end in NUL and may hold NUL bytes. `text == NULL` means
 * that there is none (Python's None), which differs from an empty text.
 *
 * The classes know ASCII only; a byte from 0x80 on is in none of them. UTF-8 is the strict form: no
 * overlong sequences, no surrogates, nothing above U+10FFFF.
 *
 * No state, no allocation; any thread. Layer: the lowest, above nothing.
 */
#ifndef MIG_CORE_TEXT_H
#define MIG_CORE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct mig_text {
    const char *text;
    size_t length;
} mig_text;

#define MIG_TEXT(literal) ((mig_text){"" literal, sizeof(literal) - 1})
#define MIG_NO_TEXT ((mig_text){NULL, 0})

/* A text that ends in NUL; none for NULL. */
static inline mig_text mig_text_of(const char *text)
{
    return (mig_text){text, text != NULL ? strlen(text) : 0};
}

/* Whether both are the same bytes, or both are none. */
bool mig_text_equal(mig_text a, mig_text b);

/* Whether `text` is the string `string`, which ends in NUL; false for none. */
bool mig_text_is(mig_text text, const char *string);

/* Whether `text` holds the byte `character`; false for none. */
bool mig_text_has(mig_text text, char character);

/* How many code points `text`, valid UTF-8, has. O(length). */
size_t mig_text_characters(mig_text text);

/* Negative, 0 or positive, by bytes: the order of code points, which is how Python sorts strings.
 */
int mig_text_compare(mig_text a, mig_text b);

/* Classes ------------------------------------------------------------------------------------ */

static inline bool mig_is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static inline bool mig_is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* A byte of a character that is not ASCII. */
static inline bool mig_is_high(char c)
{
    return (unsigned char)c >= 0x80;
}

/* White space of PostgreSQL's scan.l. */
static inline bool mig_is_sql_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* White space that Python's str.strip() and int() drop. */
static inline bool mig_is_python_space(char c)
{
    return mig_is_sql_space(c) || (c >= 0x1C && c <= 0x1F);
}

/* The value of a hexadecimal digit, or -1. */
static inline int mig_hex_value(char c)
{
    if (mig_is_digit(c))
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* UTF-8 -------------------------------------------------------------------------------------- */

/* Whether no byte is above 0x7F. O(length), 32 bytes at a time. */
bool mig_is_ascii(const char *text, size_t length);

/* What mig_utf8_decode gives for bytes that are not UTF-8. */
#define MIG_UTF8_INVALID UINT32_MAX
/* The replacement character. */
#define MIG_UTF8_REPLACEMENT 0xFFFDu

/*
 * Decode the character that `text` begins with; `length` is at least 1. Returns the number of its
 * bytes, with its code point in *point. If there is no valid one, *point is MIG_UTF8_INVALID, and
 * the result is the length of what Python's decoder replaces by one U+FFFD: the longest beginning
 * of a valid sequence, at least 1.
 */
size_t mig_utf8_decode(const char *text, size_t length, uint32_t *point);

/* How many bytes from the beginning of `text` are valid UTF-8, up to the first sequence that is
 * not. */
size_t mig_utf8_valid(const char *text, size_t length);

#define MIG_UTF8_SIZE 4 /* of the longest character */

/* Encode a code point, up to U+10FFFF, at `to`, which has room for MIG_UTF8_SIZE bytes. Returns the
 * number of bytes; no NUL is added. */
size_t mig_utf8_encode(char *to, uint32_t point);

#endif
