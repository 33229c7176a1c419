/* Any bytes as a database URL: parsed and printed within their bounds, and no password in a
 * message. */
#include <stdint.h>
#include <stdlib.h>

#include "pq/conninfo.h"
#include "pq/url.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    mig_arena arena;
    mig_error error;
    mig_conninfo url;
    const char *redacted;
    mig_arena_init(&arena, &mig_alloc_system);
    if (mig_conninfo_from_url((const char *)data, size, &arena, &url, &error) == MIG_OK)
        for (size_t i = 0; i < url.count; i++)
            if (url.keywords[i] == NULL || url.values[i] == NULL)
                abort();
    (void)mig_url_redact((const char *)data, size, &arena, &redacted, &error);
    mig_arena_release(&arena);
    return 0;
}
