#include "core/plan_file.h"

#include <string.h>

static const char FIRST_LINE[] = "migrate_ext plan 1";

typedef struct reader {
    const char *at, *end;
    uint32_t line;    /* number of `current` */
    mig_text current; /* without its newline */
    mig_arena *arena;
    mig_plan_file *plan;
    mig_text revision, hash; /* of the revision we are in */
    mig_planned_function *function;
    bool in_autocommit;
    mig_error *error;
} reader;

static mig_status refuse(reader *r, const char *what)
{
    mig_status status =
        mig_fail(r->error, MIG_EINVAL, "line %lu: %s", (unsigned long)r->line, what);
    if (r->error != NULL)
        r->error->line = r->line;
    return status;
}

/* False at the end. A last line without a newline counts: the caller refuses it. */
static bool next_line(reader *r)
{
    if (r->at == r->end)
        return false;
    const char *newline = memchr(r->at, '\n', (size_t)(r->end - r->at));
    const char *stop = newline != NULL ? newline : r->end;
    r->current = (mig_text){r->at, (size_t)(stop - r->at)};
    r->at = newline != NULL ? newline + 1 : r->end;
    r->line++;
    return true;
}

/* Whether the line is `word` and a space; `rest` is what follows. */
static bool begins(const reader *r, const char *word, mig_text *rest)
{
    size_t length = strlen(word);
    if (r->current.length <= length || memcmp(r->current.text, word, length) != 0 ||
        r->current.text[length] != ' ')
        return false;
    *rest = (mig_text){r->current.text + length + 1, r->current.length - length - 1};
    return true;
}

/* An upper bound for what the arrays hold. */
static size_t count_lines(const char *text, size_t length)
{
    size_t count = 1;
    for (const char *p = text; (p = memchr(p, '\n', length - (size_t)(p - text))) != NULL; p++)
        count++;
    return count;
}

static mig_status copy(reader *r, mig_text from, mig_text *to)
{
    to->text = mig_arena_copy(r->arena, from.text, from.length);
    to->length = from.length;
    return to->text != NULL ? MIG_OK : mig_fail_memory(r->error);
}

static bool is_hash(mig_text name)
{
    for (size_t i = 0; i < name.length; i++)
        if (memchr("0123456789abcdef", name.text[i], 16) == NULL)
            return false;
    return name.length == MIG_SHA256_HEX;
}

/* The hash in the last line is that of all before it. */
static mig_status check_end(const char *text, size_t length, size_t *body, mig_error *error)
{
    static const char WORD[] = "end ";
    size_t tail = sizeof WORD - 1 + MIG_SHA256_HEX + 1;
    char hex[MIG_SHA256_HEX + 1];
    mig_sha256 hash;
    if (length < tail || text[length - 1] != '\n' ||
        memcmp(text + length - tail, WORD, sizeof WORD - 1) != 0 ||
        (length > tail && text[length - tail - 1] != '\n'))
        return mig_fail(error, MIG_EINVAL, "it has no end: it was cut off, or is no plan");
    *body = length - tail;
    mig_sha256_init(&hash);
    mig_sha256_add(&hash, text, *body);
    mig_sha256_hex(&hash, hex);
    if (memcmp(hex, text + *body + sizeof WORD - 1, MIG_SHA256_HEX) != 0)
        return mig_fail(error, MIG_EINVAL, "it was changed by hand or damaged");
    return MIG_OK;
}

/* The lines that begin with a tab, joined. */
static mig_status read_sql(reader *r, mig_text number)
{
    mig_planned *item = &r->plan->items[r->plan->item_count];
    uint32_t line = 0;
    for (size_t i = 0; i < number.length; i++) {
        if (!mig_is_digit(number.text[i]) || i > 8)
            return refuse(r, "a line number was expected");
        line = line * 10 + (uint32_t)(number.text[i] - '0');
    }
    if (r->function == NULL)
        return refuse(r, "a statement outside a function");
    const char *start = r->at;
    size_t length = 0, lines = 0;
    while (r->at < r->end && *r->at == '\t' && next_line(r)) {
        length += r->current.length - 1;
        lines++;
    }
    if (lines == 0)
        return refuse(r, "a statement was expected");
    char *sql = mig_arena_get(r->arena, length + lines), *to = sql;
    if (sql == NULL)
        return mig_fail_memory(r->error);
    for (const char *from = start; from < r->at; from++) {
        const char *newline = memchr(from, '\n', (size_t)(r->at - from));
        size_t size = (size_t)(newline - from) - 1;
        memcpy(to, from + 1, size);
        to[size] = '\n';
        to += size + 1;
        from = newline;
    }
    to[-1] = '\0';
    *item = (mig_planned){MIG_PLANNED_SQL, line, {sql, length + lines - 1}};
    if (memchr(sql, '\0', item->sql.length) != NULL)
        return refuse(r, "a statement holds a zero byte");
    r->plan->item_count++;
    r->function->count++;
    return MIG_OK;
}

static mig_status read_function(reader *r, bool is_upgrade)
{
    mig_plan_file *plan = r->plan;
    if (r->revision.text == NULL || r->in_autocommit)
        return refuse(r, "a function where none may be");
    r->function = &plan->functions[plan->function_count++];
    *r->function = (mig_planned_function){r->revision, r->hash, is_upgrade, plan->item_count, 0};
    return MIG_OK;
}

static mig_status read_boundary(reader *r, bool autocommit)
{
    if (r->function == NULL || r->in_autocommit == autocommit)
        return refuse(r, "a boundary where none may be");
    r->in_autocommit = autocommit;
    r->plan->items[r->plan->item_count++] = (mig_planned){
        autocommit ? MIG_PLANNED_AUTOCOMMIT : MIG_PLANNED_TRANSACTION, 0, MIG_NO_TEXT};
    r->function->count++;
    return MIG_OK;
}

static mig_status read_revision(reader *r, mig_text rest)
{
    mig_text hash = {rest.text, rest.length < MIG_SHA256_HEX ? rest.length : MIG_SHA256_HEX};
    if (!is_hash(hash) || rest.length < MIG_SHA256_HEX + 2 || rest.text[MIG_SHA256_HEX] != ' ' ||
        r->in_autocommit)
        return refuse(r, "a hash and a revision were expected");
    mig_text id = {rest.text + MIG_SHA256_HEX + 1, rest.length - MIG_SHA256_HEX - 1};
    r->function = NULL;
    MIG_TRY(copy(r, hash, &r->hash));
    return copy(r, id, &r->revision);
}

static mig_status read_line(reader *r)
{
    mig_text rest;
    if (r->current.length == 0)
        return MIG_OK;
    if (memchr(r->current.text, '\0', r->current.length) != NULL)
        return refuse(r, "a zero byte");
    if (r->current.text[0] == '#')
        return MIG_OK;
    if (begins(r, "sql", &rest))
        return read_sql(r, rest);
    if (begins(r, "key", &rest) && r->revision.text == NULL)
        return copy(r, rest, &r->plan->keys[r->plan->key_count++]);
    if (begins(r, "revision", &rest))
        return read_revision(r, rest);
    if (mig_text_is(r->current, "upgrade"))
        return read_function(r, true);
    if (mig_text_is(r->current, "downgrade"))
        return read_function(r, false);
    if (mig_text_is(r->current, "autocommit"))
        return read_boundary(r, true);
    if (mig_text_is(r->current, "transaction"))
        return read_boundary(r, false);
    return refuse(r, "it cannot be understood");
}

mig_status mig_plan_file_read(const char *text, size_t length, mig_arena *arena,
                              mig_plan_file *plan, mig_error *error)
{
    size_t body = 0;
    memset(plan, 0, sizeof *plan);
    MIG_TRY(check_end(text, length, &body, error));
    reader r = {.at = text, .end = text + body, .arena = arena, .plan = plan, .error = error};
    size_t lines = count_lines(text, body);
    plan->keys = mig_arena_get_array(arena, lines, sizeof *plan->keys);
    plan->functions = mig_arena_get_array(arena, lines, sizeof *plan->functions);
    plan->items = mig_arena_get_array(arena, lines, sizeof *plan->items);
    if (plan->keys == NULL || plan->functions == NULL || plan->items == NULL)
        return mig_fail_memory(error);
    if (!next_line(&r) || !mig_text_is(r.current, FIRST_LINE))
        return refuse(&r, "it is of another format");
    while (next_line(&r))
        MIG_TRY(read_line(&r));
    return r.in_autocommit ? refuse(&r, "an autocommit block that does not end") : MIG_OK;
}
