/* Plan files: their content, SHA-256, allocations that fail. The rest is tested from Python.
 */
#include "check.h"
#include "core/plan_file.h"

#define HASH "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static const char BODY[] = "migrate_ext plan 1\n# a comment\nkey a b\nrevision " HASH " id\n"
                           "upgrade\nsql 12\n\tCREATE\n\t\n\tx\nautocommit\nsql 3\n\ty\n"
                           "transaction\ndowngrade\n";

/* A body and its end; the caller frees. */
static char *seal(const char *body, size_t size, size_t *length)
{
    char hex[MIG_SHA256_HEX + 1];
    mig_sha256 hash;
    char *text = malloc(size + MIG_SHA256_HEX + 8);
    if (text == NULL)
        return NULL;
    mig_sha256_init(&hash);
    mig_sha256_add(&hash, body, size);
    mig_sha256_hex(&hash, hex);
    memcpy(text, body, size);
    *length = size + (size_t)sprintf(text + size, "end %s\n", hex);
    return text;
}

static char *sealed(size_t *length)
{
    return seal(BODY, sizeof BODY - 1, length);
}

static void test_hashes_of_the_standard(void)
{
    static const struct {
        const char *text, *hex;
    } CASES[] = {
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        char hex[MIG_SHA256_HEX + 1];
        mig_sha256 hash;
        mig_sha256_init(&hash);
        for (const char *p = CASES[i].text; *p != '\0'; p++) /* byte by byte */
            mig_sha256_add(&hash, p, 1);
        mig_sha256_hex(&hash, hex);
        CHECK_STR(hex, CASES[i].hex);
    }
}

static void test_what_is_in_it(void)
{
    size_t length = 0;
    char *text = sealed(&length);
    mig_arena arena;
    mig_plan_file plan;
    mig_error error;
    mig_arena_init(&arena, &mig_alloc_system);
    if (CHECK(text != NULL) &&
        CHECK_INT(mig_plan_file_read(text, length, &arena, &plan, &error), MIG_OK)) {
        CHECK_INT(plan.key_count, 1);
        CHECK_INT(plan.function_count, 2);
        CHECK_INT(plan.functions[0].count, 4);
        CHECK_INT(plan.functions[1].count, 0);
        CHECK(plan.functions[0].is_upgrade && !plan.functions[1].is_upgrade);
        CHECK(mig_text_is(plan.functions[1].revision, "id"));
        CHECK_INT(plan.items[0].line, 12);
        CHECK_STR(plan.items[0].sql.text, "CREATE\n\nx");
        CHECK_INT(plan.items[1].kind, MIG_PLANNED_AUTOCOMMIT);
        CHECK_INT(plan.items[3].kind, MIG_PLANNED_TRANSACTION);
    }
    mig_arena_release(&arena);
    free(text);
}

static mig_status read_sealed(const char *body, size_t size, mig_error *error)
{
    size_t length = 0;
    char *text = seal(body, size, &length);
    mig_status status = MIG_ENOMEM;
    mig_arena arena;
    mig_plan_file plan;
    mig_arena_init(&arena, &mig_alloc_system);
    if (CHECK(text != NULL))
        status = mig_plan_file_read(text, length, &arena, &plan, error);
    mig_arena_release(&arena);
    free(text);
    return status;
}

/* In each field, before it and behind it, and in each word: instead of a byte, and beside it.
 * Python and libpq would read on to another place than we do. */
static void test_a_zero_byte_anywhere_is_refused(void)
{
    enum { SIZE = sizeof BODY - 1 };
    char body[SIZE + 1];
    mig_error error;
    CHECK_INT(read_sealed(BODY, SIZE, &error), MIG_OK);
    for (size_t at = 0; at < SIZE; at++) {
        memcpy(body, BODY, SIZE);
        body[at] = '\0';
        CHECK_MSG(read_sealed(body, SIZE, &error) == MIG_EINVAL, "instead of byte %zu", at);
        memcpy(body, BODY, at);
        memcpy(body + at + 1, BODY + at, SIZE - at);
        CHECK_MSG(read_sealed(body, SIZE + 1, &error) == MIG_EINVAL, "before byte %zu", at);
    }
}

static void test_a_zero_byte_in_the_end_is_refused(void)
{
    size_t length = 0;
    char *text = sealed(&length);
    mig_arena arena;
    mig_plan_file plan;
    mig_error error;
    mig_arena_init(&arena, &mig_alloc_system);
    for (size_t at = sizeof BODY - 1; CHECK(text != NULL) && at < length; at++) {
        char was = text[at];
        text[at] = '\0';
        CHECK_INT(mig_plan_file_read(text, length, &arena, &plan, &error), MIG_EINVAL);
        text[at] = was;
    }
    mig_arena_release(&arena);
    free(text);
}

static void test_memory_that_cannot_be_had(void)
{
    size_t length = 0;
    char *text = sealed(&length);
    mig_status status = MIG_ENOMEM;
    for (size_t n = 1; text != NULL && status == MIG_ENOMEM; n++) {
        check_alloc alloc;
        mig_arena arena;
        mig_plan_file plan;
        mig_error error;
        check_alloc_init(&alloc, n);
        mig_arena_init(&arena, &alloc.alloc);
        status = mig_plan_file_read(text, length, &arena, &plan, &error);
        CHECK(status == MIG_OK || status == MIG_ENOMEM);
        mig_arena_release(&arena);
        CHECK_INT(alloc.live, 0);
    }
    CHECK_INT(status, MIG_OK);
    free(text);
}

int main(void)
{
    test_hashes_of_the_standard();
    test_what_is_in_it();
    test_a_zero_byte_anywhere_is_refused();
    test_a_zero_byte_in_the_end_is_refused();
    test_memory_that_cannot_be_had();
    return check_report();
}
