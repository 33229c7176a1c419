#include "core/status.h"

#include <stdarg.h>
#include <stdio.h>

mig_status mig_fail(mig_error *error, mig_status code, const char *format, ...)
{
    if (error != NULL) {
        va_list args;
        error->code = code;
        error->offset = 0;
        error->line = 0;
        va_start(args, format);
        (void)vsnprintf(error->msg, sizeof error->msg, format, args);
        va_end(args);
    }
    return code;
}

mig_status mig_fail_memory(mig_error *error)
{
    return mig_fail(error, MIG_ENOMEM, "out of memory");
}
