/* Text without Python: each class of characters, and every code point there and back. */
#include "check.h"
#include "core/text.h"

static void test_a_text_that_is_none_is_not_an_empty_one(void)
{
    CHECK(mig_text_equal(MIG_NO_TEXT, MIG_NO_TEXT));
    CHECK(!mig_text_equal(MIG_NO_TEXT, MIG_TEXT("")));
    CHECK(mig_text_equal(MIG_TEXT("a\0b"), (mig_text){"a\0b", 3}));
    CHECK(!mig_text_equal(MIG_TEXT("a\0b"), MIG_TEXT("a\0c")));
    CHECK(mig_text_is(MIG_TEXT(""), ""));
    CHECK(!mig_text_is(MIG_NO_TEXT, ""));
    CHECK(!mig_text_is(MIG_TEXT("ab"), "a"));
    CHECK(mig_text_of(NULL).text == NULL);
    CHECK_INT(mig_text_of("abc").length, 3);
    CHECK(mig_text_has(MIG_TEXT("a@b"), '@'));
    CHECK(!mig_text_has(MIG_NO_TEXT, '@'));
}

static void test_texts_sort_by_code_points(void)
{
    static const mig_text SORTED[] = {MIG_TEXT(""),
                                      MIG_TEXT("a"),
                                      MIG_TEXT("a\0"),
                                      MIG_TEXT("aa"),
                                      MIG_TEXT("\xC3\xA9"),
                                      MIG_TEXT("\xE2\x82\xAC"),
                                      MIG_TEXT("\xF0\x9F\x98\x80")};
    for (size_t i = 0; i < sizeof SORTED / sizeof SORTED[0]; i++)
        for (size_t j = 0; j < sizeof SORTED / sizeof SORTED[0]; j++) {
            int order = mig_text_compare(SORTED[i], SORTED[j]);
            CHECK_MSG((order > 0) - (order < 0) == (i > j) - (i < j), "%zu and %zu: %d", i, j,
                      order);
        }
    CHECK_INT(mig_text_characters(SORTED[6]), 1);
    CHECK_INT(mig_text_characters(MIG_TEXT("a\xC3\xA9z")), 3);
}

static void test_each_byte_is_in_its_classes(void)
{
    for (int i = 0; i < 256; i++) {
        char c = (char)i;
        bool digit = i > 0 && i < 128 && strchr("0123456789", i) != NULL;
        bool letter = i > 0 && strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", i);
        bool space = i > 0 && strchr(" \t\n\v\f\r", i) != NULL;
        const char *hex = i > 0 ? strchr("0123456789abcdef0123456789ABCDEF", i) : NULL;
        int value = hex != NULL ? (int)(hex - "0123456789abcdef0123456789ABCDEF") % 16 : -1;
        CHECK_MSG(mig_is_digit(c) == digit, "byte %d", i);
        CHECK_MSG(mig_is_letter(c) == letter, "byte %d", i);
        CHECK_MSG(mig_is_high(c) == (i >= 128), "byte %d", i);
        CHECK_MSG(mig_is_sql_space(c) == space, "byte %d", i);
        CHECK_MSG(mig_is_python_space(c) == (space || (i >= 0x1C && i <= 0x1F)), "byte %d", i);
        CHECK_MSG(mig_hex_value(c) == value, "byte %d: %d", i, mig_hex_value(c));
    }
}

static void test_ascii_is_seen_at_every_place(void)
{
    char text[100];
    memset(text, 'a', sizeof text);
    for (size_t length = 0; length <= sizeof text; length++)
        CHECK(mig_is_ascii(text, length));
    for (size_t at = 0; at < sizeof text; at++) {
        text[at] = (char)0x80;
        CHECK(!mig_is_ascii(text, sizeof text));
        CHECK(mig_is_ascii(text, at));
        text[at] = 'a';
    }
}

static void test_every_code_point_goes_there_and_back(void)
{
    for (uint32_t point = 0; point <= 0x10FFFF; point++) {
        char bytes[MIG_UTF8_SIZE];
        uint32_t decoded;
        bool surrogate = point >= 0xD800 && point <= 0xDFFF;
        size_t size = mig_utf8_encode(bytes, point);
        size_t read = mig_utf8_decode(bytes, size, &decoded);
        if (surrogate ? decoded == MIG_UTF8_INVALID && read == 1 : decoded == point && read == size)
            continue;
        CHECK_MSG(false, "U+%04lX: U+%04lX", (unsigned long)point, (unsigned long)decoded);
    }
    CHECK(1);
}

static void test_what_is_not_utf8_is_cut_where_python_cuts_it(void)
{
    static const struct {
        const char *bytes;
        size_t length; /* of what one U+FFFD stands for */
    } CASES[] = {
        {"\x80", 1},          {"\xBF", 1},         {"\xC0\x80", 1},     {"\xC1\xBF", 1},
        {"\xC2", 1},          {"\xC2z", 1},        {"\xE0\x9F\xBF", 1}, {"\xE2\x82", 2},
        {"\xE2\x82z", 2},     {"\xED\xA0\x80", 1}, {"\xF0\x8F\xBF", 1}, {"\xF0\x9F\x98", 3},
        {"\xF0\x9F\x98z", 3}, {"\xF4\x90\x80", 1}, {"\xF5\x80\x80", 1}, {"\xFF", 1},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        uint32_t point;
        size_t length = strlen(CASES[i].bytes);
        char *exact = malloc(length); /* so that the sanitizers see a read too far */
        if (exact == NULL)
            abort();
        memcpy(exact, CASES[i].bytes, length);
        CHECK_MSG(mig_utf8_decode(exact, length, &point) == CASES[i].length, "case %zu", i);
        CHECK_INT(point, MIG_UTF8_INVALID);
        CHECK_INT(mig_utf8_valid(exact, length), 0);
        free(exact);
    }
    CHECK_INT(mig_utf8_valid("a\xC3\xA9\xE2\x82", 5), 3);
    CHECK_INT(mig_utf8_valid("a\xC3\xA9\xF0\x9F\x98\x80", 7), 7);
    CHECK_INT(mig_utf8_valid("", 0), 0);
}

int main(void)
{
    test_a_text_that_is_none_is_not_an_empty_one();
    test_texts_sort_by_code_points();
    test_each_byte_is_in_its_classes();
    test_ascii_is_seen_at_every_place();
    test_every_code_point_goes_there_and_back();
    test_what_is_not_utf8_is_cut_where_python_cuts_it();
    return check_report();
}
