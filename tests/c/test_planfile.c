/* Plan files: what is in them, SHA-256, memory that cannot be had. The rest is tested from Python.
 */
#include "check.h"
#include "core/planfile.h"

#define HASH "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static const char BODY[] = "migrate_ext plan 1\n# a comment\nkey a b\nrevision " HASH " id\n"
                           "upgrade\nsql 12\n\tCREATE\n\t\n\tx\nautocommit\nsql 3\n\ty\n"
                           "transaction\ndowngrade\n";

/* BODY and its end; the caller frees. */
static char *sealed(size_t *length)
{
    char hex[MIG_SHA256_HEX + 1];
    mig_sha256 hash;
    char *text = malloc(sizeof BODY + MIG_SHA256_HEX + 8);
    if (text == NULL)
        return NULL;
    mig_sha256_init(&hash);
    mig_sha256_add(&hash, BODY, sizeof BODY - 1);
    mig_sha256_hex(&hash, hex);
    *length = (size_t)sprintf(text, "%send %s\n", BODY, hex);
    return text;
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
    mig_planfile plan;
    mig_error error;
    mig_arena_init(&arena, &mig_alloc_system);
    if (CHECK(text != NULL) &&
        CHECK_INT(mig_planfile_read(text, length, &arena, &plan, &error), MIG_OK)) {
        CHECK_INT(plan.key_count, 1);
        CHECK_INT(plan.function_count, 2);
        CHECK_INT(plan.functions[0].count, 4);
        CHECK_INT(plan.functions[1].count, 0);
        CHECK(plan.functions[0].is_upgrade && !plan.functions[1].is_upgrade);
        CHECK(mig_name_is(plan.functions[1].revision, "id"));
        CHECK_INT(plan.items[0].line, 12);
        CHECK_STR(plan.items[0].sql.text, "CREATE\n\nx");
        CHECK_INT(plan.items[1].kind, MIG_PLANNED_AUTOCOMMIT);
        CHECK_INT(plan.items[3].kind, MIG_PLANNED_TRANSACTION);
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
        mig_planfile plan;
        mig_error error;
        check_alloc_init(&alloc, n);
        mig_arena_init(&arena, &alloc.alloc);
        status = mig_planfile_read(text, length, &arena, &plan, &error);
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
    test_memory_that_cannot_be_had();
    return check_report();
}
