#include "core/revision.h"

#include <string.h>

bool mig_is_symbol(mig_text name)
{
    return mig_text_is(name, "head") || mig_text_is(name, "heads") || mig_text_is(name, "base");
}

void mig_graph_error_init(mig_graph_error *error, const mig_alloc *alloc)
{
    memset(error, 0, sizeof *error);
    mig_arena_init(&error->arena, alloc);
}

void mig_graph_error_release(mig_graph_error *error)
{
    const mig_alloc *alloc = error->arena.alloc;
    mig_arena_release(&error->arena);
    mig_graph_error_init(error, alloc);
}

static mig_status out_of_memory(mig_graph_error *error)
{
    error->kind = MIG_GRAPH_NONE;
    return MIG_ENOMEM;
}

mig_status mig_graph_fail_pieces(mig_graph_error *error, mig_graph_error_kind kind,
                                 const mig_text *pieces, size_t count)
{
    size_t length = 0;
    for (size_t i = 0; i < count; i++)
        length += pieces[i].length;
    char *text = mig_arena_get(&error->arena, length + 1);
    if (text == NULL)
        return out_of_memory(error);
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        if (pieces[i].length > 0)
            memcpy(text + at, pieces[i].text, pieces[i].length);
        at += pieces[i].length;
    }
    text[length] = '\0';
    error->kind = kind;
    error->message = (mig_text){text, length};
    return MIG_EREVISION;
}

mig_status mig_graph_fail_names(mig_graph_error *error, mig_graph_error_kind kind,
                                const mig_text *names, size_t count)
{
    mig_text *copies = mig_arena_get_array(&error->arena, count, sizeof *copies);
    if (copies == NULL)
        return out_of_memory(error);
    for (size_t i = 0; i < count; i++) {
        copies[i].length = names[i].length;
        copies[i].text = mig_arena_copy(&error->arena, names[i].text, names[i].length);
        if (copies[i].text == NULL)
            return out_of_memory(error);
    }
    error->kind = kind;
    error->names = copies;
    error->name_count = count;
    return MIG_EREVISION;
}

mig_status mig_graph_error_argument(mig_graph_error *error, mig_status status, mig_text argument)
{
    if (status != MIG_EREVISION || argument.text == NULL)
        return status;
    const char *copy = mig_arena_copy(&error->arena, argument.text, argument.length);
    if (copy == NULL)
        return out_of_memory(error);
    error->argument = (mig_text){copy, argument.length};
    return status;
}
