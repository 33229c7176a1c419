/*
 * Any bytes as SQL, under both settings. A statement put behind a text that is known to be one
 * makes it several: what the lexer holds for complete must not swallow what follows.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/sql_lexer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char MORE[] = "\n;select 1";
    const char *sql = (const char *)data;
    (void)mig_sql_classify(sql, size, false);
    mig_sql_info info = mig_sql_classify(sql, size, true);
    char *longer = malloc(size + sizeof MORE - 1);
    if (longer == NULL)
        return 0;
    if (size > 0)
        memcpy(longer, sql, size);
    memcpy(longer + size, MORE, sizeof MORE - 1);
    mig_sql_kind kind = mig_sql_classify(longer, size + sizeof MORE - 1, true).kind;
    free(longer);
    if ((info.kind == MIG_SQL_ONE && kind != MIG_SQL_SEVERAL) ||
        (info.kind == MIG_SQL_NONE && kind != MIG_SQL_ONE))
        abort();
    return 0;
}
