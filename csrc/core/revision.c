#include "core/revision.h"

#include <string.h>

bool mig_name_equal(mig_name a, mig_name b)
{
    if (a.text == NULL || b.text == NULL)
        return a.text == b.text;
    return a.length == b.length && memcmp(a.text, b.text, a.length) == 0;
}

bool mig_name_is(mig_name name, const char *text)
{
    size_t length = strlen(text);
    return name.text != NULL && name.length == length && memcmp(name.text, text, length) == 0;
}

bool mig_name_is_symbol(mig_name name)
{
    return mig_name_is(name, "head") || mig_name_is(name, "heads") || mig_name_is(name, "base");
}

bool mig_name_has(mig_name name, char character)
{
    return name.length > 0 && memchr(name.text, character, name.length) != NULL;
}

size_t mig_name_characters(mig_name name)
{
    size_t count = 0;
    for (size_t i = 0; i < name.length; i++)
        count += ((unsigned char)name.text[i] & 0xC0u) != 0x80u;
    return count;
}

/* UTF-8 bytes sort as their code points do, which is how Python sorts strings. */
int mig_name_compare(mig_name a, mig_name b)
{
    size_t shorter = a.length < b.length ? a.length : b.length;
    int order = shorter > 0 ? memcmp(a.text, b.text, shorter) : 0;
    if (order != 0)
        return order;
    return (a.length > b.length) - (a.length < b.length);
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
                                 const mig_name *pieces, size_t count)
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
    error->message = (mig_name){text, length};
    return MIG_EREVISION;
}

mig_status mig_graph_fail_names(mig_graph_error *error, mig_graph_error_kind kind,
                                const mig_name *names, size_t count)
{
    mig_name *copies = mig_arena_get_array(&error->arena, count, sizeof *copies);
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

mig_status mig_graph_error_argument(mig_graph_error *error, mig_status status, mig_name argument)
{
    if (status != MIG_EREVISION || argument.text == NULL)
        return status;
    const char *copy = mig_arena_copy(&error->arena, argument.text, argument.length);
    if (copy == NULL)
        return out_of_memory(error);
    error->argument = (mig_name){copy, argument.length};
    return status;
}
