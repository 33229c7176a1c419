/* URLs without Python: a table, what fuzzers found worth keeping, and every allocation that can
 * fail. */
#include "check.h"
#include "pq/conninfo.h"
#include "pq/url.h"

typedef struct url_case {
    const char *url;
    const char *expected; /* key=value lines, or NULL: refused */
    mig_status status;
} url_case;

static const url_case CASES[] = {
    {"postgresql://", "", MIG_OK},
    {"postgres://h", "host=h\n", MIG_OK},
    {"postgresql+asyncpg://u:p@h:1/d?ssl=require",
     "host=h\ndbname=d\nuser=u\npassword=p\nport=1\nsslmode=require\n", MIG_OK},
    {"postgresql://u%40x:p%3A%2F@[::1]:05/a b",
     "host=::1\ndbname=a b\nuser=u@x\npassword=p:/\nport=5\n", MIG_OK},
    {"postgresql://h/a%20b", NULL, MIG_EDECLINED},
    {"postgresql:///d?host=/tmp&port=5433", "dbname=d\nhost=/tmp\nport=5433\n", MIG_OK},
    {"postgresql:///d?host=a:1&host=b:2", "dbname=d\nhost=a,b\nport=1,2\n", MIG_OK},
    {"postgresql:///d?host=a,b", "dbname=d\nhost=a,b\nport=,\n", MIG_OK},
    {"postgresql://u:%ff%c3@h", "host=h\nuser=u\npassword=\xEF\xBF\xBD\xEF\xBF\xBD\n", MIG_OK},
    {"postgresql://h:x", NULL, MIG_EINVAL},
    {"postgresql://h:", NULL, MIG_EINVAL},
    {"postgresql://h/?host=a&host=b&port=1", NULL, MIG_EINVAL},
    {"postgresql://h/?host=a,b&port=1", NULL, MIG_EINVAL},
    {"postgresql://%00@h", NULL, MIG_EINVAL},
    {"postgresql://h/?x=1&x=2", NULL, MIG_EINVAL},
    {"postgresql+asyncpg://h/?command_timeout=1", NULL, MIG_EDECLINED},
    {"postgresql+asyncpg://h/?ssl=true", NULL, MIG_EDECLINED},
    {"mysql://h", NULL, MIG_EINVAL},
    {"://h", NULL, MIG_EINVAL},
    {"postgresql:/", NULL, MIG_EINVAL},
    {"", NULL, MIG_EINVAL},
};

static void print_url(const mig_conninfo *url, char *to, size_t room)
{
    *to = '\0';
    for (size_t i = 0; i < url->count; i++) {
        int n = snprintf(to, room, "%s=%s\n", url->keywords[i], url->values[i]);
        to += n;
        room -= (size_t)n;
    }
}

/* On the heap without a NUL behind it, so that the sanitizers see a read too far. */
static char *exactly(const char *text)
{
    size_t length = strlen(text);
    char *copy = malloc(length > 0 ? length : 1);
    memcpy(copy, text, length);
    return copy;
}

static void test_each_form_means_what_sqlalchemy_says(void)
{
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        char *text = exactly(CASES[i].url), printed[512];
        mig_arena arena;
        mig_error error = {.code = MIG_OK};
        mig_conninfo url;
        mig_arena_init(&arena, &mig_alloc_system);
        mig_status status = mig_conninfo_from_url(text, strlen(CASES[i].url), &arena, &url, &error);
        CHECK_MSG(status == CASES[i].status, "%s: status %d", CASES[i].url, (int)status);
        if (status == MIG_OK) {
            print_url(&url, printed, sizeof printed);
            CHECK_STR(printed, CASES[i].expected != NULL ? CASES[i].expected : "(refused)");
            CHECK(url.keywords[url.count] == NULL && url.values[url.count] == NULL);
        } else {
            CHECK(error.code == status && error.msg[0] != '\0');
        }
        mig_arena_release(&arena);
        free(text);
    }
}

static void test_the_password_is_hidden(void)
{
    static const char *const PAIRS[][2] = {
        {"postgresql://u:secret@h:5/d?sslmode=x%20y&a=1",
         "postgresql://u:***@h:5/d?a=***&sslmode=x+y"},
        {"mysql+pymysql://u:secret@[::1]/", "mysql+pymysql://u:***@[::1]/"},
        {"sqlite://", "sqlite://"},
        {"postgresql://:@", "postgresql://:***@"},
        {"postgresql:///?sslpassword=secret", "postgresql:///?sslpassword=***"},
    };
    for (size_t i = 0; i < sizeof PAIRS / sizeof PAIRS[0]; i++) {
        mig_arena arena;
        mig_error error;
        const char *redacted = "";
        char *text = exactly(PAIRS[i][0]);
        mig_arena_init(&arena, &mig_alloc_system);
        CHECK_INT(mig_url_redact(text, strlen(PAIRS[i][0]), &arena, &redacted, &error), MIG_OK);
        CHECK_STR(redacted, PAIRS[i][1]);
        mig_arena_release(&arena);
        free(text);
    }
}

static void test_no_allocation_may_fail_unseen(void)
{
    char url[40000] =
        "postgresql+asyncpg://u:p@h/d?host=a:1&host=b:2&ssl=verify_full&application_name=";
    memset(url + strlen(url), 'x', sizeof url - strlen(url) - 1);
    for (size_t n = 1;; n++) {
        check_alloc allocator;
        mig_arena arena;
        mig_error error;
        mig_conninfo parsed;
        const char *redacted;
        check_alloc_init(&allocator, n);
        mig_arena_init(&arena, &allocator.alloc);
        mig_status status = mig_conninfo_from_url(url, sizeof url - 1, &arena, &parsed, &error);
        if (status == MIG_OK)
            status = mig_url_redact(url, sizeof url - 1, &arena, &redacted, &error);
        mig_arena_release(&arena);
        CHECK_INT(allocator.live, 0);
        if (status == MIG_OK) {
            CHECK(n > 3);
            break;
        }
        CHECK_INT(status, MIG_ENOMEM);
    }
}

int main(void)
{
    test_each_form_means_what_sqlalchemy_says();
    test_the_password_is_hidden();
    test_no_allocation_may_fail_unseen();
    return check_report();
}
