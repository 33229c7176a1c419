/* The revision graph without Python: tables, every allocation failing in turn, and very large
 * graphs. */
#include <time.h>

#include "check.h"
#include "core/plan.h"

#define NO_NAMES NULL, 0

static mig_name name_of(const char *text)
{
    return text == NULL ? MIG_NO_NAME : (mig_name){text, strlen(text)};
}

/* a - b - c - e - f, b - d - e; x apart, labelled, needed by d. In an order that is not theirs. */
static const mig_name A = MIG_NAME("aaaa"), AB = MIG_NAME("aaab"), X = MIG_NAME("xxxx"),
                      LABEL = MIG_NAME("label"), E_DOWN[] = {MIG_NAME("cccc"), MIG_NAME("dddd")},
                      E = MIG_NAME("eeee");
static const mig_record SAMPLE[] = {
    {MIG_NAME("eeee"), E_DOWN, 2, NO_NAMES, NO_NAMES},
    {MIG_NAME("aaaa"), NO_NAMES, NO_NAMES, NO_NAMES},
    {MIG_NAME("aaab"), &A, 1, NO_NAMES, NO_NAMES},
    {MIG_NAME("cccc"), &AB, 1, NO_NAMES, NO_NAMES},
    {MIG_NAME("dddd"), &AB, 1, NO_NAMES, &LABEL, 1},
    {MIG_NAME("ffff"), &E, 1, NO_NAMES, NO_NAMES},
    {MIG_NAME("xxxx"), NO_NAMES, &LABEL, 1, NO_NAMES},
    {MIG_NAME("yyyy"), &X, 1, NO_NAMES, NO_NAMES},
};
enum { SAMPLE_COUNT = sizeof SAMPLE / sizeof SAMPLE[0] };

static mig_graph *build(const mig_alloc *alloc, const mig_record *records, size_t count,
                        mig_graph_error *error, mig_status *status)
{
    mig_graph *graph = mig_graph_new(alloc);
    *status = graph == NULL ? MIG_ENOMEM : mig_graph_build(graph, records, count, error);
    return graph;
}

/* The ids of `nodes`, one after the other; an error as its text. */
static void describe(const mig_query *query, mig_status status, const mig_nodes *nodes, char *text,
                     size_t size)
{
    size_t length = 0;
    text[0] = '\0';
    if (status != MIG_OK) {
        (void)snprintf(text, size, "%d: %.*s", (int)query->error->kind,
                       (int)query->error->message.length,
                       query->error->message.text != NULL ? query->error->message.text : "");
        return;
    }
    for (uint32_t i = 0; i < nodes->count; i++) {
        const char *id = nodes->items[i] == MIG_NODE_NONE ? "None"
                         : nodes->items[i] == MIG_NODE_BASE
                             ? "base"
                             : query->graph->names[nodes->items[i]].text;
        length += (size_t)snprintf(text + length, size - length, "%s%s", i > 0 ? " " : "", id);
    }
}

typedef struct id_case {
    const char *id;
    const char *answer;
} id_case;

static const id_case IDS[] = {
    {"head", "6: "},
    {"heads", "ffff yyyy"},
    {"base", ""},
    {NULL, ""},
    {"ffff", "ffff"},
    {"labe", "xxxx"},
    {"ee", "eeee"},
    {"aaa", "7: Multiple revisions start with 'aaa': 'aaaa', 'aaab'..."},
    {"aa@", "7: No such branch: 'aa'"},
    {"zz",
     "7: No such revision or branch 'zz'; please ensure at least four characters are present for "
     "partial revision identifier matches"},
    {"label@head", "yyyy"},
    {"label@ffff", "7: Revision ffff is not a member of branch 'label'"},
    {"label@-1", "xxxx"},
    {"-2", "1: Ambiguous walk"},
    {"label@-2", "base"},
    {"label@-3", "None"},
    {"eeee@heads", "ffff"},
    {"nono@head", "7: No such revision or branch 'nono'"},
};

static void test_an_identifier_is_resolved(void)
{
    mig_graph_error error;
    mig_status status;
    mig_graph_error_init(&error, &mig_alloc_system);
    mig_graph *graph = build(&mig_alloc_system, SAMPLE, SAMPLE_COUNT, &error, &status);
    CHECK_INT(status, MIG_OK);
    for (size_t i = 0; i < sizeof IDS / sizeof IDS[0]; i++) {
        char text[256];
        mig_query query;
        mig_nodes found = {NULL, 0, 0};
        mig_name id = name_of(IDS[i].id);
        mig_query_init(&query, graph, &error);
        status = mig_get_revisions(&query, (mig_ids){&id, 1, false}, &found);
        describe(&query, status, &found, text, sizeof text);
        CHECK_MSG(strncmp(text, IDS[i].answer, strlen(IDS[i].answer)) == 0 || IDS[i].id == NULL,
                  "%s: \"%s\", not \"%s\"", IDS[i].id, text, IDS[i].answer);
        mig_query_release(&query);
        mig_graph_error_release(&error);
    }
    mig_graph_free(graph);
    mig_graph_error_release(&error);
}

typedef struct range_case {
    const char *upper, *lower;
    bool downgrade;
    const char *answer;
} range_case;

static const range_case RANGES[] = {
    {"heads", "base", false, "ffff eeee cccc dddd yyyy aaab aaaa xxxx"},
    {"ffff", NULL, false, "ffff eeee cccc dddd xxxx aaab aaaa"},
    {"+2", "aaaa", false, "1: Ambiguous walk"},
    {"aaab+1", NULL, false, "1: Ambiguous walk"},
    {"label@+1", NULL, false, "xxxx"},
    {"ffff", "aaab", true, "ffff eeee cccc dddd"},
    {"ffff", "-1", true, "ffff"},
    {"ffff", "-9", true, "1: Ambiguous walk"},
    {"yyyy", "base", true, "yyyy xxxx"},
    {"aaaa", "ffff", true, "aaaa"},
};

static mig_status ask_range(mig_query *query, const range_case *c, mig_nodes *found)
{
    mig_name upper = name_of(c->upper), lower = name_of(c->lower);
    const mig_range range = {.upper = {&upper, 1, false},
                             .lower = {&lower, 1, false},
                             .implicit_base = true,
                             .assert_relative_length = true,
                             .select_for_downgrade = c->downgrade};
    return mig_iterate(query, &range, found);
}

static void test_a_range_is_walked_in_order(void)
{
    mig_graph_error error;
    mig_status status;
    mig_graph_error_init(&error, &mig_alloc_system);
    mig_graph *graph = build(&mig_alloc_system, SAMPLE, SAMPLE_COUNT, &error, &status);
    for (size_t i = 0; i < sizeof RANGES / sizeof RANGES[0]; i++) {
        char text[256];
        mig_query query;
        mig_nodes found = {NULL, 0, 0};
        mig_query_init(&query, graph, &error);
        status = ask_range(&query, &RANGES[i], &found);
        describe(&query, status, &found, text, sizeof text);
        CHECK_STR(text, RANGES[i].answer);
        mig_query_release(&query);
        mig_graph_error_release(&error);
    }
    mig_graph_free(graph);
    mig_graph_error_release(&error);
}

typedef struct damage_case {
    mig_record records[3];
    size_t count;
    mig_graph_error_kind kind;
} damage_case;

static const mig_name GONE = MIG_NAME("gone"), BBBB = MIG_NAME("bbbb"),
                      BOTH[] = {MIG_NAME("aaaa"), MIG_NAME("cccc")};
static const damage_case DAMAGE[] = {
    {{{MIG_NAME("aaaa"), &A, 1, NO_NAMES, NO_NAMES}}, 1, MIG_GRAPH_LOOP},
    {{{MIG_NAME("aaaa"), NO_NAMES, NO_NAMES, &A, 1}}, 1, MIG_GRAPH_DEPENDENCY_LOOP},
    {{{MIG_NAME("aaaa"), &GONE, 1, NO_NAMES, NO_NAMES}}, 1, MIG_GRAPH_MISSING},
    {{{MIG_NAME("a@b"), NO_NAMES, NO_NAMES, NO_NAMES}}, 1, MIG_GRAPH_REVISION},
    {{{MIG_NAME("aaaa"), NO_NAMES, NO_NAMES, NO_NAMES},
      {MIG_NAME("aaaa"), NO_NAMES, NO_NAMES, NO_NAMES}},
     2,
     MIG_GRAPH_DECLINED},
    {{{MIG_NAME("aaaa"), NO_NAMES, &BBBB, 1, NO_NAMES},
      {MIG_NAME("bbbb"), NO_NAMES, NO_NAMES, NO_NAMES}},
     2,
     MIG_GRAPH_REVISION},
    {{{MIG_NAME("aaaa"), &BBBB, 1, NO_NAMES, NO_NAMES},
      {MIG_NAME("bbbb"), &A, 1, NO_NAMES, NO_NAMES}},
     2,
     MIG_GRAPH_CYCLE},
    {{{MIG_NAME("aaaa"), NO_NAMES, NO_NAMES, &BBBB, 1},
      {MIG_NAME("bbbb"), &A, 1, NO_NAMES, NO_NAMES}},
     2,
     MIG_GRAPH_DEPENDENCY_CYCLE},
    /* a way in and a way out: overlooked by Alembic */
    {{{MIG_NAME("aaaa"), NO_NAMES, NO_NAMES, NO_NAMES},
      {MIG_NAME("bbbb"), BOTH, 2, NO_NAMES, NO_NAMES},
      {MIG_NAME("cccc"), &BBBB, 1, NO_NAMES, NO_NAMES}},
     3,
     MIG_GRAPH_CYCLE},
};

static void test_a_damaged_history_is_refused(void)
{
    for (size_t i = 0; i < sizeof DAMAGE / sizeof DAMAGE[0]; i++) {
        mig_graph_error error;
        mig_status status;
        mig_graph_error_init(&error, &mig_alloc_system);
        mig_graph *graph =
            build(&mig_alloc_system, DAMAGE[i].records, DAMAGE[i].count, &error, &status);
        CHECK_INT(status, MIG_EREVISION);
        CHECK_MSG(error.kind == DAMAGE[i].kind, "history %zu: %d, not %d", i, (int)error.kind,
                  (int)DAMAGE[i].kind);
        mig_graph_free(graph);
        mig_graph_error_release(&error);
    }
}

/* Up to the heads and down again: the rows at the end. */
static mig_status ask_rows(mig_query *query, uint32_t *written)
{
    mig_nodes up = {NULL, 0, 0};
    mig_operations operations = {NULL, 0, 0};
    const range_case all = {"heads", NULL, false, NULL};
    mig_status status = ask_range(query, &all, &up);
    if (status != MIG_OK)
        return status;
    mig_step *steps = mig_arena_get_array(&query->arena, 2 * (size_t)up.count, sizeof *steps);
    if (steps == NULL)
        return MIG_ENOMEM;
    for (uint32_t i = 0; i < up.count; i++) {
        steps[i] = (mig_step){.is_upgrade = true, .node = up.items[up.count - 1 - i]};
        steps[up.count + i] = (mig_step){.node = up.items[i]};
    }
    status = mig_version_operations(query, (mig_ids){NULL, 0, true}, steps, 2 * (size_t)up.count,
                                    &operations);
    *written = operations.count;
    return status;
}

static void test_a_run_up_and_down_leaves_no_row(void)
{
    mig_graph_error error;
    mig_status status;
    mig_query query;
    uint32_t written = 0;
    mig_graph_error_init(&error, &mig_alloc_system);
    mig_graph *graph = build(&mig_alloc_system, SAMPLE, SAMPLE_COUNT, &error, &status);
    mig_query_init(&query, graph, &error);
    status = ask_rows(&query, &written);
    CHECK_INT(status, MIG_OK);
    CHECK(written >= 2 * SAMPLE_COUNT);
    mig_query_release(&query);
    mig_graph_free(graph);
    mig_graph_error_release(&error);
}

/* Every question, with an allocator that fails. MIG_ENOMEM as soon as one does. */
static mig_status ask_everything(const mig_alloc *alloc)
{
    mig_graph_error error;
    mig_status status, worst;
    mig_graph_error_init(&error, alloc);
    mig_graph *graph = build(alloc, SAMPLE, SAMPLE_COUNT, &error, &worst);
    for (size_t i = 0; worst == MIG_OK && i < sizeof RANGES / sizeof RANGES[0] + 3; i++) {
        mig_query query;
        mig_nodes found = {NULL, 0, 0};
        mig_step *steps;
        uint32_t written;
        size_t count;
        mig_name label = MIG_NAME("label@heads"), row = MIG_NAME("ffff");
        mig_query_init(&query, graph, &error);
        if (i == 0)
            status = ask_rows(&query, &written);
        else if (i == 1)
            status = mig_stamp_steps(&query, (mig_ids){&label, 1, false}, (mig_ids){&row, 1, true},
                                     &steps, &count);
        else if (i == 2)
            status = mig_all_current(&query, (mig_ids){&row, 1, true}, &found);
        else
            status = ask_range(&query, &RANGES[i - 3], &found);
        if (status == MIG_ENOMEM)
            worst = status;
        mig_query_release(&query);
        mig_graph_error_release(&error);
    }
    for (size_t i = 0; worst == MIG_OK && i < sizeof DAMAGE / sizeof DAMAGE[0]; i++) {
        mig_graph *damaged = build(alloc, DAMAGE[i].records, DAMAGE[i].count, &error, &status);
        if (status == MIG_ENOMEM)
            worst = status;
        mig_graph_free(damaged);
        mig_graph_error_release(&error);
    }
    mig_graph_free(graph);
    mig_graph_error_release(&error);
    return worst;
}

static void test_no_failed_allocation_leaks_or_is_overlooked(void)
{
    check_alloc alloc;
    check_alloc_init(&alloc, 0);
    mig_status status = ask_everything(&alloc.alloc);
    CHECK_INT(status, MIG_OK);
    CHECK_INT(alloc.live, 0);
    size_t allocations = alloc.allocations;
    for (size_t fail_at = 1; fail_at <= allocations; fail_at++) {
        check_alloc_init(&alloc, fail_at);
        status = ask_everything(&alloc.alloc);
        CHECK_INT(status, MIG_ENOMEM);
        CHECK_INT(alloc.live, 0);
    }
}

/* Large graphs. What is linear takes about ten times as long for ten times as much; here it must
 * end. */
typedef struct large {
    mig_record *records;
    char (*texts)[10];
    mig_name *names, *downs;
    size_t count;
} large;

enum { CHAIN, MERGES, STAR };

static void make_large(large *made, int kind, size_t count)
{
    made->count = count;
    made->records = calloc(count, sizeof *made->records);
    made->texts = calloc(count, sizeof *made->texts);
    made->names = calloc(count, sizeof *made->names);
    made->downs = calloc(2 * count, sizeof *made->downs);
    if (made->records == NULL || made->texts == NULL || made->names == NULL || made->downs == NULL)
        abort();
    for (size_t i = 0; i < count; i++) {
        (void)snprintf(made->texts[i], sizeof made->texts[i], "%08zx", i & 0xffffffffu);
        made->names[i] = (mig_name){made->texts[i], 8};
        mig_record *record = &made->records[i];
        record->revision = made->names[i];
        record->down = &made->downs[2 * i];
        record->down_count = i == 0 ? 0 : kind == MERGES && i > 2 && i % 3 == 0 ? 2 : 1;
        size_t first = kind == CHAIN ? i - 1 : kind == STAR ? 0 : i % 3 == 2 ? i - 2 : i - 1;
        if (i > 0)
            made->downs[2 * i] = made->names[first];
        if (record->down_count == 2)
            made->downs[2 * i + 1] = made->names[i - 2];
    }
}

static void test_a_very_large_history_is_walked(int kind, size_t count)
{
    large made;
    mig_graph_error error;
    mig_status status;
    mig_query query;
    mig_nodes found = {NULL, 0, 0};
    uint32_t written = 0;
    const range_case all = {"heads", NULL, false, NULL};
    make_large(&made, kind, count);
    mig_graph_error_init(&error, &mig_alloc_system);
    clock_t begin = clock();
    mig_graph *graph = build(&mig_alloc_system, made.records, count, &error, &status);
    CHECK_INT(status, MIG_OK);
    mig_query_init(&query, graph, &error);
    status = ask_range(&query, &all, &found);
    CHECK_INT(status, MIG_OK);
    CHECK_INT(found.count, count);
    status = ask_rows(&query, &written);
    CHECK_INT(status, MIG_OK);
    CHECK(written >= 2 * count);
    printf("%zu revisions: %.2f s\n", count, (double)(clock() - begin) / CLOCKS_PER_SEC);
    mig_query_release(&query);
    mig_graph_free(graph);
    mig_graph_error_release(&error);
    free(made.records);
    free(made.texts);
    free(made.names);
    free(made.downs);
}

/* valgrind, which is thirty times slower, says so in its environment */
static size_t of_size(size_t count)
{
    const char *preloaded = getenv("LD_PRELOAD");
    return preloaded != NULL && strstr(preloaded, "valgrind") != NULL ? count / 100 : count;
}

int main(void)
{
    test_an_identifier_is_resolved();
    test_a_range_is_walked_in_order();
    test_a_damaged_history_is_refused();
    test_a_run_up_and_down_leaves_no_row();
    test_no_failed_allocation_leaks_or_is_overlooked();
    test_a_very_large_history_is_walked(CHAIN, of_size(1000000));
    test_a_very_large_history_is_walked(MERGES, of_size(1000000));
    test_a_very_large_history_is_walked(STAR, of_size(100000));
    return check_report();
}
