/* Any bytes as the names of a version table: the question stays one statement, whatever a backslash
 * means to the server. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/sql_lexer.h"
#include "pq/lock.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    mig_arena arena;
    mig_error error;
    const char *sql;
    char *names = malloc(size + 2);
    if (names == NULL)
        return 0;
    if (size > 0)
        memcpy(names, data, size);
    memset(names + size, 0, 2);
    const mig_version_table table = {names, names + strlen(names) + 1};
    mig_arena_init(&arena, &mig_alloc_system);
    if (mig_lock_sql_try(&table, size % 2 == 0, (int)(size % 3), &arena, &sql, &error) != MIG_OK ||
        mig_sql_classify(sql, strlen(sql), true).kind != MIG_SQL_ONE ||
        mig_sql_classify(sql, strlen(sql), false).kind != MIG_SQL_ONE)
        abort();
    mig_arena_release(&arena);
    free(names);
    return 0;
}
