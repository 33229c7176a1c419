/* The scanner: tables of (source, what it says). Python itself is the oracle in tests/unit. */
#include "check.h"

#include "core/scan.h"

/* A value as text: "-" absent, "None", "'a'", "('a','b')", "['a']". */
static void show_value(const mig_scan_value *value, char *out, size_t size)
{
    size_t used = 0;
    const char *open = value->kind == MIG_SCAN_TUPLE  ? "("
                       : value->kind == MIG_SCAN_LIST ? "["
                                                      : "";
    const char *close = value->kind == MIG_SCAN_TUPLE  ? ")"
                        : value->kind == MIG_SCAN_LIST ? "]"
                                                       : "";
    if (value->kind == MIG_SCAN_ABSENT || value->kind == MIG_SCAN_NONE) {
        snprintf(out, size, "%s", value->kind == MIG_SCAN_NONE ? "None" : "-");
        return;
    }
    used += (size_t)snprintf(out, size, "%s", open);
    for (size_t i = 0; i < value->count && used < size; i++)
        used += (size_t)snprintf(out + used, size - used, "%s'%.*s'", i > 0 ? "," : "",
                                 (int)value->items[i].length, value->items[i].text);
    if (used < size)
        snprintf(out + used, size - used, "%s", close);
}

/* The four values and the docstring, or "! reason (line)". */
static const char *scan_text(const char *source, size_t length, bool clean)
{
    static char out[4096];
    char part[5][512];
    mig_arena arena;
    mig_scan_result result;
    mig_error error;
    /* A copy of exactly this length, so that the sanitizers see a read behind it. */
    char *copy = malloc(length > 0 ? length : 1);
    if (copy == NULL)
        abort();
    memcpy(copy, source, length);
    mig_arena_init(&arena, &mig_alloc_system);
    mig_status status = mig_scan(copy, length, clean, &arena, &result, &error);
    free(copy); /* the answers are copies */
    if (status == MIG_OK) {
        show_value(&result.revision, part[0], sizeof part[0]);
        show_value(&result.down_revision, part[1], sizeof part[1]);
        show_value(&result.branch_labels, part[2], sizeof part[2]);
        show_value(&result.depends_on, part[3], sizeof part[3]);
        show_value(&result.doc, part[4], sizeof part[4]);
        snprintf(out, sizeof out, "%s %s %s %s %s", part[0], part[1], part[2], part[3], part[4]);
    } else {
        snprintf(out, sizeof out, "! %.200s (%u)", error.msg, (unsigned)error.line);
    }
    mig_arena_release(&arena);
    return out;
}

static const struct {
    const char *source;
    const char *expected;
} answers[] = {
    {"", "- - - - -"},
    {"\n\n# only a comment", "- - - - -"},
    {"revision = 'a'", "'a' - - - -"},
    {"'''m\n'''\nrevision = \"a\"\ndown_revision = None\n", "'a' None - - 'm\n'"},
    {"\xEF\xBB\xBF'm'\r\nrevision: str = u'a'\r\n", "'a' - - - 'm'"},
    {"down_revision = ('b', 'c')\n", "- ('b','c') - - -"},
    {"down_revision = [\n 'b', # x\n 'c',\n]\n", "- ['b','c'] - - -"},
    {"down_revision = 'b', 'c'\n", "- ('b','c') - - -"},
    {"down_revision = (('b'\n 'c'))\n", "- 'bc' - - -"},
    {"down_revision = ((('b'),))\n", "- ('b') - - -"},
    {"branch_labels = ()\ndepends_on = []\n", "- - () [] -"},
    {"depends_on: Union[str, t.Tuple[str, ...], None] = 'b'\n", "- - - 'b' -"},
    {"depends_on: 'str' | None = 'b' 'c' \\\n  'd'\n", "- - - 'bcd' -"},
    {"depends_on = 'a\\x62\\143\\u0064\\U00000065\\\n'\n", "- - - 'abcde' -"},
    {"depends_on = r'\\d' '''\\'' '''\n", "- - - '\\d'' ' -"},
    {"depends_on = '\\u20ac\\U0001F600\\xe9'\n", "- - - '\xE2\x82\xAC\xF0\x9F\x98\x80\xC3\xA9' -"},
    {"import x\n'no doc'\n", "- - - - -"},
    {"('d' \"oc\"); x = 1\n", "- - - - 'doc'"},
    {"def f():\n    revision = depends_on\n", "- - - - -"},
    {"def f(a=1) -> x: revision = 1\n", "- - - - -"},
    {"async def f():\n\n    async with revision: pass\n", "- - - - -"},
    {"class C:\n  revision = 1\n  def f(): x.__doc__\n", "- - - - -"},
    {"x.revision = y.down_revision\n", "- - - - -"},
    {"x = f'{a[\"b\"]:>{c}}' rf'\\{d}' f'''{e['f']}'''\n", "- - - - -"},
    {"x.exec(y.eval)\nmodules = 1\n", "- - - - -"},
    {"if x:\n\ty = [\n1]\n\tif z:\n\t\tpass\nelse: pass\n", "- - - - -"},
    {"# coding: utf8\n# \xC3\xA9\n", "- - - - -"},
    {"# coding: latin-1\n", "- - - - -"},
};

static const struct {
    const char *source;
    const char *reason;
} declined[] = {
    {"revision = 1\n", "not a plain literal (1)"},
    {"revision = None\n", "revision is not a string (2)"},
    {"revision = ''\n", "an empty identifier (2)"},
    {"revision = f'a'\n", "bytes or an f-string (1)"},
    {"revision = 'a';\n", "not a plain literal (1)"},
    {"revision = 'a'\n\nrevision = 'b'\n", "a second assignment to a revision identifier (3)"},
    {"revision == 'a'\n", "a revision identifier that is not plainly assigned (1)"},
    {"revision: str == 'a'\n", "an annotation that is not plain (1)"},
    {"revision: if = 'a'\n", "an annotation that is not plain (1)"},
    {"x = revision\n", "a use of a revision identifier other than its plain assignment (1)"},
    {"def f():\n    global revision\n",
     "a use of a revision identifier other than its plain assignment (2)"},
    {"from x import *\n", "import * (1)"},
    {"import sys\nx = sys.modules\n", "sys.modules can reach the module's namespace (2)"},
    {"'a' + 'b'\n", "not a plain literal (1)"},
    {"'a',\n", "a first statement that is not a plain docstring (2)"},
    {"x = (\n", "an open bracket at the end (2)"},
    {"x = )\n", "a bracket without its partner (1)"},
    {"x = '\n", "an unterminated string (1)"},
    {"x = '\\", "an unterminated string (1)"},
    {"x = '''a\n", "an unterminated string (1)"},
    {"x = f'{a\n'", "an f-string that is not understood (1)"},
    {"x = f'{'a'}'\n", "an f-string that is not understood (1)"},
    {"x = f'{", "an f-string that is not understood (1)"},
    {"x = f'\\", "an f-string that is not understood (1)"},
    {"x = f'''", "an f-string that is not understood (1)"},
    {"if x:\n", "a block is missing at the end (2)"},
    {"if x:\n        a\n\tb\n", "an indentation that does not fit (3)"},
    {" x\n", "an indentation that does not fit (1)"},
    {"x = t''\n", "a template string (1)"},
    {"x = ?\n", "a character that is no part of plain Python (1)"},
    {"x = 1 \\", "a character that is no part of plain Python (1)"},
    {"\\\nx\n", "a line that begins with a continuation (1)"},
    {"x\ry\n", "a carriage return without a line feed (1)"},
    {"x\r", "a carriage return without a line feed (1)"},
    {"# \xC3", "bytes that are not UTF-8 (1)"},
    {"# coding: x\n", "an encoding that is not known (1)"},
    {"#\n# coding: latin-1\n# \xC3\xA9\n", "characters in an encoding other than UTF-8 (1)"},
};

static void test_answers(void)
{
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        const char *source = answers[i].source;
        const char *actual = scan_text(source, strlen(source), false);
        CHECK_MSG(strcmp(actual, answers[i].expected) == 0, "%s\n  gives    %s\n  expected %s",
                  source, actual, answers[i].expected);
    }
}

static void test_reasons(void)
{
    for (size_t i = 0; i < sizeof declined / sizeof declined[0]; i++) {
        const char *source = declined[i].source;
        const char *actual = scan_text(source, strlen(source), false);
        CHECK_MSG(actual[0] == '!' && strcmp(actual + 2, declined[i].reason) == 0,
                  "%s\n  gives    %s\n  expected ! %s", source, actual, declined[i].reason);
    }
    CHECK_STR(scan_text("x\0y", 3, false), "! a NUL byte (1)");
}

static void test_every_name_that_reaches_the_namespace_is_seen(void)
{
    static const char *const names[] = {
        "exec",      "eval",        "vars",        "locals",       "globals",
        "setattr",   "delattr",     "builtins",    "__builtins__", "__import__",
        "__dict__",  "__globals__", "__getattr__", "__setattr__",  "__delattr__",
        "f_globals", "f_locals",    "_getframe",   "currentframe", "__getattribute__"};
    char source[100];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        int length = snprintf(source, sizeof source, "def f():\n    if x: %s\n", names[i]);
        CHECK_MSG(scan_text(source, (size_t)length, false)[0] == '!', "%s", names[i]);
        length = snprintf(source, sizeof source, "def f():\n    f'{%s}'\n", names[i]);
        CHECK_MSG(scan_text(source, (size_t)length, false)[0] == '!', "f'{%s}'", names[i]);
    }
}

static void test_clean_docstring(void)
{
    static const struct {
        const char *source;
        const char *expected;
    } table[] = {
        {"'''a'''", "'a'"},
        {"'''  a'''", "'a'"},
        {"'''a\n    b\n      c\n    '''", "'a\nb\n  c\n'"},
        {"'''a\n\n\tb\n        c'''", "'a\n\nb\nc'"},
        {"'''a\n  b\n      \n'''", "'a\nb\n    \n'"},
        {"'''a\tb\xC3\xA9\tc'''", "'a       b\xC3\xA9      c'"},
        {"'''   '''", "''"},
        {"''", "''"},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        const char *source = table[i].source;
        const char *actual = scan_text(source, strlen(source), true) + strlen("- - - - ");
        CHECK_MSG(strcmp(actual, table[i].expected) == 0, "%s\n  gives    %s\n  expected %s",
                  source, actual, table[i].expected);
    }
}

/* Depth and length are bounded by memory and limits, never by the stack. */
static void test_long_and_deep_input(void)
{
    size_t length = 2 * 1000 * 1000;
    char *source = malloc(length + 20);
    if (source == NULL)
        abort();
    static const char fill[] = "([{\\'\"#f\n ";
    for (const char *c = fill; *c != '\0'; c++) {
        memset(source, *c, length);
        CHECK(scan_text(source, length, true) != NULL);
    }
    for (size_t i = 0; i + 16 < length; i += 3)
        memcpy(source + i, "'' ", 3);
    memcpy(source + length - 3, "\nx\n", 3);
    CHECK_STR(scan_text(source, length, false), "- - - - ''");
    memcpy(source, "depends_on=", 11);
    for (size_t i = 11; i + 4 <= length; i += 4)
        memcpy(source + i, "'a',", 4);
    CHECK(scan_text(source, 11 + (length - 11) / 4 * 4, false)[0] != '!');
    free(source);
}

static void test_every_allocation_may_fail(void)
{
    char source[8000] = "'''m\n\td'''\r\nrevision = 'a' 'b'\r\ndown_revision = ['x', 'y', 'z'";
    static const char more[] = ", 'abcdefghijkl' 'mnopqrstuvwxyz' 'abcdefghijklmnopqrstuvwxyz'";
    size_t length = strlen(source);
    for (; length + sizeof more + 4 < sizeof source; length += sizeof more - 1)
        memcpy(source + length, more, sizeof more);
    memcpy(source + length, "]\r\n", 4);
    length += 3;
    size_t total = 0;
    for (size_t n = 1;; n++) {
        check_alloc failing;
        mig_arena arena;
        mig_scan_result result;
        mig_error error;
        check_alloc_init(&failing, n);
        mig_arena_init(&arena, &failing.alloc);
        mig_status status = mig_scan(source, length, true, &arena, &result, &error);
        bool done = status == MIG_OK;
        if (!done) {
            CHECK_INT(status, MIG_ENOMEM);
            CHECK_INT(result.revision.kind, MIG_SCAN_ABSENT);
        }
        mig_arena_release(&arena);
        CHECK_INT(failing.live, 0);
        total = n;
        if (done || n > 1000)
            break;
    }
    CHECK_MSG(total > 2 && total < 1000, "%zu allocations", total);
}

int main(void)
{
    test_answers();
    test_reasons();
    test_every_name_that_reaches_the_namespace_is_seen();
    test_clean_docstring();
    test_long_and_deep_input();
    test_every_allocation_may_fail();
    return check_report();
}
