/*
 * libFuzzer target for the revision graph: bytes are a history and questions about it.
 *
 * Up to the first empty line, a line is a revision: `id down,down label,label
 * dependency,dependency`, each field may be empty or missing. After it, a line is a question:
 * `upper lower`, each with commas for a sequence. Every question is asked in every form, and with
 * allocations that fail.
 */
#include <stdlib.h>
#include <string.h>

#include "core/graph_build.h"
#include "core/resolve.h"
#include "core/steps.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MOST_RECORDS = 64, MOST_NAMES = 8, MOST_QUESTIONS = 8 };

static void *allocate_until(void *ctx, size_t size)
{
    size_t *left = ctx;
    if (*left == 0)
        return NULL;
    --*left;
    return malloc(size);
}

static void release(void *ctx, void *pointer)
{
    (void)ctx;
    free(pointer);
}

typedef struct field {
    mig_text items[MOST_NAMES];
    size_t count;
} field;

/* The text of `*rest` up to `end`, which is taken with it. */
static mig_text cut(mig_text *rest, char end)
{
    const char *at = rest->length > 0 ? memchr(rest->text, end, rest->length) : NULL;
    size_t length = at != NULL ? (size_t)(at - rest->text) : rest->length;
    mig_text text = {rest->text, length};
    length += at != NULL;
    *rest = (mig_text){rest->text + length, rest->length - length};
    return text;
}

static field split(mig_text text)
{
    field made = {.count = 0};
    while (text.length > 0 && made.count < MOST_NAMES) {
        mig_text item = cut(&text, ',');
        if (item.length > 0)
            made.items[made.count++] = item;
    }
    return made;
}

static mig_ids as_ids(const field *names)
{
    static const mig_text none;
    return names->count == 0 ? (mig_ids){&none, 1, false}
                             : (mig_ids){names->items, names->count, names->count > 1};
}

static size_t sum;

/* Read the whole answer, and check that each node exists. */
static void check(const mig_graph *graph, mig_status status, const mig_graph_error *error,
                  const mig_nodes *found)
{
    if (status != MIG_OK && status != MIG_EREVISION && status != MIG_ENOMEM)
        abort();
    if (status == MIG_EREVISION && error->kind == MIG_GRAPH_NONE)
        abort();
    for (size_t i = 0; status == MIG_EREVISION && i < error->message.length; i++)
        sum += (unsigned char)error->message.text[i];
    for (uint32_t i = 0; status == MIG_OK && i < found->count; i++) {
        if (found->items[i] >= graph->count && found->items[i] < MIG_NODE_BASE)
            abort();
    }
}

static void ask(const mig_graph *graph, const mig_alloc *alloc, mig_ids upper, mig_ids lower)
{
    for (unsigned form = 0; form < 20; form++) {
        mig_graph_error error;
        mig_query query;
        mig_nodes found = {NULL, 0, 0};
        mig_version_ops operations = {NULL, 0, 0};
        mig_status status;
        mig_graph_error_init(&error, alloc);
        mig_query_init(&query, graph, &error);
        const mig_range range = {upper,           lower,           (form & 1) != 0,
                                 (form & 2) != 0, (form & 4) != 0, (form & 8) != 0};
        mig_step *steps = NULL;
        size_t count = 0;
        if (form < 16)
            status = mig_iterate(&query, &range, &found);
        else if (form == 16)
            status = mig_get_revisions(&query, upper, &found);
        else if (form == 17)
            status = mig_all_current(&query, upper, &found);
        else
            status = mig_stamp_steps(&query, upper, lower, &steps, &count);
        check(graph, status, &error, &found);
        if (status == MIG_OK && form < 16 && found.count > 0) {
            count = found.count;
            steps = mig_arena_get_array(&query.arena, count, sizeof *steps);
            for (size_t i = 0; steps != NULL && i < count; i++)
                steps[i] = form & 8
                               ? (mig_step){.node = found.items[i]}
                               : (mig_step){.is_upgrade = true, .node = found.items[count - 1 - i]};
        }
        if (status == MIG_OK && steps != NULL) {
            mig_ids rows = form < 16 && (form & 8) ? upper : lower;
            status = mig_steps_version_ops(&query, rows, steps, count, &operations);
            found.count = 0;
            check(graph, status, &error, &found);
        }
        mig_query_release(&query);
        mig_graph_error_release(&error);
    }
}

static void run(const uint8_t *data, size_t size, const mig_alloc *alloc)
{
    static field fields[MOST_RECORDS][3];
    mig_record records[MOST_RECORDS];
    size_t count = 0;
    mig_text rest = {(const char *)data, size}, line;
    while (rest.length > 0 && (line = cut(&rest, '\n')).length > 0 && count < MOST_RECORDS) {
        mig_text id = cut(&line, ' ');
        field *f = fields[count];
        for (size_t i = 0; i < 3; i++)
            f[i] = split(cut(&line, ' '));
        records[count++] = (mig_record){id,         f[0].items, f[0].count, f[1].items,
                                        f[1].count, f[2].items, f[2].count};
    }
    mig_graph_error error;
    mig_graph_error_init(&error, alloc);
    mig_graph *graph = mig_graph_new(alloc);
    mig_status status = graph == NULL ? MIG_ENOMEM : mig_graph_build(graph, records, count, &error);
    check(graph, status, &error, &(mig_nodes){NULL, 0, 0});
    for (int i = 0; status == MIG_OK && i < MOST_QUESTIONS && rest.length > 0; i++) {
        line = cut(&rest, '\n');
        field upper = split(cut(&line, ' ')), lower = split(line);
        ask(graph, alloc, as_ids(&upper), as_ids(&lower));
    }
    mig_graph_free(graph);
    mig_graph_error_release(&error);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (size_t allocations = 0; allocations < 7; allocations++) {
        size_t left = allocations < 6 ? allocations * 2 : SIZE_MAX;
        const mig_alloc alloc = {allocate_until, release, &left};
        run(data, size, &alloc);
    }
    return 0;
}
