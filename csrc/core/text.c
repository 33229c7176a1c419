#include "core/text.h"

bool mig_text_equal(mig_text a, mig_text b)
{
    if (a.text == NULL || b.text == NULL)
        return a.text == b.text;
    return a.length == b.length && memcmp(a.text, b.text, a.length) == 0;
}

bool mig_text_is(mig_text text, const char *string)
{
    size_t length = strlen(string);
    return text.text != NULL && text.length == length && memcmp(text.text, string, length) == 0;
}

bool mig_text_has(mig_text text, char character)
{
    return text.length > 0 && memchr(text.text, character, text.length) != NULL;
}

size_t mig_text_characters(mig_text text)
{
    size_t count = 0;
    for (size_t i = 0; i < text.length; i++)
        count += ((unsigned char)text.text[i] & 0xC0u) != 0x80u;
    return count;
}

int mig_text_compare(mig_text a, mig_text b)
{
    size_t shorter = a.length < b.length ? a.length : b.length;
    int order = shorter > 0 ? memcmp(a.text, b.text, shorter) : 0;
    if (order != 0)
        return order;
    return (a.length > b.length) - (a.length < b.length);
}

bool mig_is_ascii(const char *text, size_t length)
{
    const char *end = text + length;
    uint64_t high = 0;
    for (; end - text >= 32; text += 32) {
        uint64_t eight[4];
        memcpy(eight, text, sizeof eight);
        high |= eight[0] | eight[1] | eight[2] | eight[3];
    }
    for (; text < end; text++)
        high |= (unsigned char)*text;
    return (high & UINT64_C(0x8080808080808080)) == 0;
}

size_t mig_utf8_decode(const char *text, size_t length, uint32_t *point)
{
    const unsigned char *p = (const unsigned char *)text;
    /* Of the second byte: it tells overlong forms, surrogates and what is too large. */
    unsigned char low = p[0] == 0xE0 ? 0xA0 : p[0] == 0xF0 ? 0x90 : 0x80;
    unsigned char high = p[0] == 0xED ? 0x9F : p[0] == 0xF4 ? 0x8F : 0xBF;
    size_t size = p[0] < 0x80 ? 1 : p[0] < 0xC2 ? 0 : p[0] < 0xE0 ? 2 : p[0] < 0xF0 ? 3 : 4;
    *point = p[0];
    if (size == 1)
        return 1;
    if (size == 0 || p[0] > 0xF4) {
        *point = MIG_UTF8_INVALID;
        return 1;
    }
    *point &= 0x7Fu >> size;
    for (size_t i = 1; i < size; i++) {
        if (i == length || p[i] < low || p[i] > high) {
            *point = MIG_UTF8_INVALID;
            return i;
        }
        *point = *point << 6 | (p[i] & 0x3Fu);
        low = 0x80;
        high = 0xBF;
    }
    return size;
}

size_t mig_utf8_valid(const char *text, size_t length)
{
    size_t at = 0;
    while (at < length) {
        uint32_t point;
        size_t size = mig_utf8_decode(text + at, length - at, &point);
        if (point == MIG_UTF8_INVALID)
            break;
        at += size;
    }
    return at;
}

size_t mig_utf8_encode(char *to, uint32_t point)
{
    if (point < 0x80) {
        to[0] = (char)point;
        return 1;
    }
    size_t size = point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
    for (size_t i = size - 1; i > 0; i--, point >>= 6)
        to[i] = (char)(0x80 | (point & 0x3F));
    to[0] = (char)((0xF00u >> size) | point);
    return size;
}
