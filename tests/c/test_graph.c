/* The revision graph without Python: tables, every allocation failing in turn, and very large
 * graphs. */
#include <time.h>

#include "check.h"
#include "core/graph_build.h"
#include "core/resolve.h"
#include "core/steps.h"

#define NO_NAMES NULL, 0

static mig_text name_of(const char *text)
{
    return text == NULL ? MIG_NO_TEXT : (mig_text){text, strlen(text)};
}

/* a - b - c - e - f, b - d - e; x apart, labelled, needed by d. In an order that is not theirs. */
static const mig_text A = MIG_TEXT("aaaa"), AB = MIG_TEXT("aaab"), X = MIG_TEXT("xxxx"),
                      LABEL = MIG_TEXT("label"), E_DOWN[] = {MIG_TEXT("cccc"), MIG_TEXT("dddd")},
                      E = MIG_TEXT("eeee");
static const mig_record SAMPLE[] = {
    {MIG_TEXT("eeee"), E_DOWN, 2, NO_NAMES, NO_NAMES},
    {MIG_TEXT("aaaa"), NO_NAMES, NO_NAMES, NO_NAMES},
    {MIG_TEXT("aaab"), &A, 1, NO_NAMES, NO_NAMES},
    {MIG_TEXT("cccc"), &AB, 1, NO_NAMES, NO_NAMES},
    {MIG_TEXT("dddd"), &AB, 1, NO_NAMES, &LABEL, 1},
    {MIG_TEXT("ffff"), &E, 1, NO_NAMES, NO_NAMES},
    {MIG_TEXT("xxxx"), NO_NAMES, &LABEL, 1, NO_NAMES},
    {MIG_TEXT("yyyy"), &X, 1, NO_NAMES, NO_NAMES},
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
        mig_text id = name_of(IDS[i].id);
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
    mig_text upper = name_of(c->upper), lower = name_of(c->lower);
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
    mig_record records[4];
    size_t count;
    mig_graph_error_kind kind;
} damage_case;

static const mig_text GONE = MIG_TEXT("gone"), BBBB = MIG_TEXT("bbbb"),
                      BOTH[] = {MIG_TEXT("aaaa"), MIG_TEXT("cccc")};
static const damage_case DAMAGE[] = {
    {{{MIG_TEXT("aaaa"), &A, 1, NO_NAMES, NO_NAMES}}, 1, MIG_GRAPH_LOOP},
    {{{MIG_TEXT("aaaa"), NO_NAMES, NO_NAMES, &A, 1}}, 1, MIG_GRAPH_DEPENDENCY_LOOP},
    {{{MIG_TEXT("aaaa"), &GONE, 1, NO_NAMES, NO_NAMES}}, 1, MIG_GRAPH_MISSING},
    {{{MIG_TEXT("a@b"), NO_NAMES, NO_NAMES, NO_NAMES}}, 1, MIG_GRAPH_REVISION},
    {{{MIG_TEXT("aaaa"), NO_NAMES, NO_NAMES, NO_NAMES},
      {MIG_TEXT("aaaa"), NO_NAMES, NO_NAMES, NO_NAMES}},
     2,
     MIG_GRAPH_DECLINED},
    {{{MIG_TEXT("aaaa"), NO_NAMES, &BBBB, 1, NO_NAMES},
      {MIG_TEXT("bbbb"), NO_NAMES, NO_NAMES, NO_NAMES}},
     2,
     MIG_GRAPH_REVISION},
    {{{MIG_TEXT("aaaa"), &BBBB, 1, NO_NAMES, NO_NAMES},
      {MIG_TEXT("bbbb"), &A, 1, NO_NAMES, NO_NAMES}},
     2,
     MIG_GRAPH_CYCLE},
    {{{MIG_TEXT("aaaa"), NO_NAMES, NO_NAMES, &BBBB, 1},
      {MIG_TEXT("bbbb"), &A, 1, NO_NAMES, NO_NAMES}},
     2,
     MIG_GRAPH_DEPENDENCY_CYCLE},
    /* a way in and a way out: overlooked by Alembic, which walks it */
    {{{MIG_TEXT("aaaa"), NO_NAMES, NO_NAMES, NO_NAMES},
      {MIG_TEXT("bbbb"), BOTH, 2, NO_NAMES, NO_NAMES},
      {MIG_TEXT("cccc"), &BBBB, 1, NO_NAMES, NO_NAMES},
      {MIG_TEXT("dddd"), &BOTH[1], 1, NO_NAMES, NO_NAMES}},
     4,
     MIG_GRAPH_DECLINED},
    {{{MIG_TEXT("heads"), NO_NAMES, NO_NAMES, NO_NAMES}}, 1, MIG_GRAPH_DECLINED},
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
    mig_version_ops operations = {NULL, 0, 0};
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
    status = mig_steps_version_ops(query, (mig_ids){NULL, 0, true}, steps, 2 * (size_t)up.count,
                                   &operations);
    *written = operations.count;
    return status;
}

/* The same, one step at a time. */
static mig_status ask_steps(mig_query *query, uint32_t *written)
{
    mig_nodes up = {NULL, 0, 0};
    const range_case all = {"heads", NULL, false, NULL};
    mig_text heads[SAMPLE_COUNT];
    uint32_t head_count = 0;
    mig_step_tracker *rows = mig_step_tracker_new(query->graph);
    mig_status status = rows == NULL ? MIG_ENOMEM : ask_range(query, &all, &up);
    *written = 0;
    for (uint32_t i = 0; i < 2 * up.count && status == MIG_OK; i++) {
        bool is_upgrade = i < up.count;
        uint32_t node = up.items[is_upgrade ? up.count - 1 - i : i - up.count];
        mig_step step = {.is_upgrade = is_upgrade, .node = node};
        mig_version_ops operations = {NULL, 0, 0};
        status = mig_step_tracker_step(rows, (mig_ids){heads, head_count, true}, &step, &operations,
                                       query->error);
        for (uint32_t j = 0; j < operations.count && status == MIG_OK; j++, ++*written) {
            const mig_version_op *one = &operations.items[j];
            uint32_t at = 0;
            while (at < head_count && !mig_text_equal(heads[at], one->from))
                at++;
            if (one->kind != MIG_VERSION_INSERT)
                heads[at] = heads[--head_count];
            if (one->kind != MIG_VERSION_DELETE)
                heads[head_count++] = query->graph->names[mig_graph_lookup(query->graph, one->to)];
        }
    }
    mig_step_tracker_free(rows);
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
    uint32_t written_in_steps = 0;
    status = ask_steps(&query, &written_in_steps);
    CHECK_INT(status, MIG_OK);
    CHECK_INT(written_in_steps, written);
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
    for (size_t i = 0; worst == MIG_OK && i < sizeof RANGES / sizeof RANGES[0] + 4; i++) {
        mig_query query;
        mig_nodes found = {NULL, 0, 0};
        mig_step *steps;
        uint32_t written;
        size_t count;
        mig_text label = MIG_TEXT("label@heads"), row = MIG_TEXT("ffff");
        mig_query_init(&query, graph, &error);
        if (i == 0)
            status = ask_rows(&query, &written);
        else if (i == 1)
            status = mig_stamp_steps(&query, (mig_ids){&label, 1, false}, (mig_ids){&row, 1, true},
                                     &steps, &count);
        else if (i == 2)
            status = mig_all_current(&query, (mig_ids){&row, 1, true}, &found);
        else
            status =
                i == 3 ? ask_steps(&query, &written) : ask_range(&query, &RANGES[i - 4], &found);
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

/* Large histories of many shapes ------------------------------------------------------------- */

typedef struct large {
    mig_record *records;
    char (*texts)[10];
    mig_text *names, *downs, *depends, *labels;
    size_t count;
} large;

typedef enum shape {
    CHAIN,
    MERGES,
    STAR,
    FAR_DEPENDENCIES, /* each on a far ancestor */
    RANDOM_DEPENDENCIES,
    TWO_LINES,           /* every third revision depends on a far ancestor */
    FIVE_LINES,          /* dependencies anywhere on the others */
    SIDES,               /* two long ones, merged at the end, one depends on the other */
    LABELS,              /* on every twentieth */
    SHARED_DEPENDENCIES, /* over merges */
    SHAPES
} shape;

static const char *const SHAPE_NAMES[SHAPES] = {
    "chain",     "merges",     "star",  "far dependencies", "random dependencies",
    "two lines", "five lines", "sides", "labels",           "shared dependencies"};
enum { NO_ONE = -1 };

static size_t random_below(uint64_t *state, size_t end)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (size_t)(*state >> 33) % end;
}

/* What is below revision `i` of `count`: two down revisions and a dependency. */
static void edges_of(shape kind, size_t i, size_t count, uint64_t *state, long down[2],
                     long *depends)
{
    size_t lines = kind == TWO_LINES || kind == SIDES ? 2
                   : kind == FIVE_LINES               ? 5
                                                      : 1,
           far = count / 20;
    down[0] = (long)i - (long)lines;
    down[1] = *depends = NO_ONE;
    if (i < lines)
        down[0] = NO_ONE;
    switch (kind) {
    case STAR:
        down[0] = i > 0 ? 0 : NO_ONE;
        break;
    case SHARED_DEPENDENCIES:
    case MERGES: /* 0; 1 and 2 on 0; 3 on both; 4 and 5 on 3; ... */
        if (i > 0)
            down[0] = i % 3 == 2 ? (long)i - 2 : (long)i - 1;
        if (i > 2 && i % 3 == 0)
            down[1] = (long)i - 2;
        if (kind == MERGES)
            break;
        /* after a tenth of bases, each of which is needed by several */
        if (i < count / 10)
            down[0] = down[1] = NO_ONE;
        else
            *depends = (long)random_below(state, count / 10);
        break;
    case FAR_DEPENDENCIES:
        *depends = i > far ? (long)(i - far) : NO_ONE;
        break;
    case RANDOM_DEPENDENCIES:
        *depends = i > 1 && i % 7 == 0 ? (long)random_below(state, i) : NO_ONE;
        break;
    case TWO_LINES:
        *depends = i % 6 < 2 && i > 2 * far ? (long)(i - 2 * far) : NO_ONE;
        break;
    case FIVE_LINES:
        *depends = i % 7 == 0 && i > 5 ? (long)random_below(state, i - i % 5) : NO_ONE;
        break;
    case SIDES:
        *depends = i % 4 == 1 && i > 2 * far ? (long)(i - 2 * far - 1) : NO_ONE;
        down[1] = i + 1 == count && i > 2 ? (long)i - 1 : NO_ONE;
        break;
    default:
        break;
    }
}

static void make_large(large *made, shape kind, size_t count)
{
    uint64_t state = 1;
    made->count = count;
    made->records = calloc(count, sizeof *made->records);
    made->texts = calloc(count, sizeof *made->texts);
    made->names = calloc(count, sizeof *made->names);
    made->downs = calloc(2 * count, sizeof *made->downs);
    made->depends = calloc(count, sizeof *made->depends);
    made->labels = calloc(count, sizeof *made->labels);
    if (made->records == NULL || made->texts == NULL || made->names == NULL ||
        made->downs == NULL || made->depends == NULL || made->labels == NULL)
        abort();
    for (size_t i = 0; i < count; i++) {
        (void)snprintf(made->texts[i], sizeof made->texts[i], "x%08zx", i & 0xffffffffu);
        made->names[i] = (mig_text){made->texts[i] + 1, 8};
        made->labels[i] = (mig_text){made->texts[i], 9};
    }
    for (size_t i = 0; i < count; i++) {
        long down[2], depends;
        mig_record *record = &made->records[i];
        edges_of(kind, i, count, &state, down, &depends);
        *record = (mig_record){.revision = made->names[i],
                               .down = &made->downs[2 * i],
                               .labels = &made->labels[i],
                               .label_count = kind == LABELS && i % 20 == 0,
                               .depends = &made->depends[i]};
        for (int k = 0; k < 2; k++) {
            if (down[k] >= 0)
                made->downs[2 * i + record->down_count++] = made->names[down[k]];
        }
        if (depends >= 0)
            made->depends[record->depend_count++ + i] = made->names[depends];
    }
}

static void free_large(large *made)
{
    free(made->records);
    free(made->texts);
    free(made->names);
    free(made->downs);
    free(made->depends);
    free(made->labels);
}

typedef struct cost {
    uint64_t work;
    size_t bytes;
} cost;

/* What building, a full walk and the rows of a run up and down take. */
static cost walk_large(shape kind, size_t count)
{
    large made;
    check_alloc alloc;
    mig_graph_error error;
    mig_status status;
    mig_query query;
    mig_nodes found = {NULL, 0, 0};
    uint32_t written = 0;
    const range_case all = {"heads", NULL, false, NULL};
    make_large(&made, kind, count);
    check_alloc_init(&alloc, 0);
    mig_graph_error_init(&error, &alloc.alloc);
    clock_t begin = clock();
    mig_graph *graph = build(&alloc.alloc, made.records, count, &error, &status);
    CHECK_INT(status, MIG_OK);
    mig_query_init(&query, graph, &error);
    status = ask_range(&query, &all, &found);
    CHECK_INT(status, MIG_OK);
    CHECK_INT(found.count, count);
    status = ask_rows(&query, &written);
    /* there are histories whose downgrade takes a row twice, with Alembic, too */
    bool is_alembics = kind == SHARED_DEPENDENCIES && error.kind == MIG_GRAPH_KEY;
    CHECK(status == MIG_OK || is_alembics);
    CHECK(written >= 2 * count || is_alembics);
    const cost sum = {graph->work + query.work, alloc.bytes};
    printf("%s, %zu revisions: %.2f s, %llu steps, %zu MB\n", SHAPE_NAMES[kind], count,
           (double)(clock() - begin) / CLOCKS_PER_SEC, (unsigned long long)sum.work,
           sum.bytes / 1000000);
    mig_query_release(&query);
    mig_graph_free(graph);
    mig_graph_error_release(&error);
    CHECK_INT(alloc.live, 0);
    free_large(&made);
    return sum;
}

/* Twice as much for twice as many revisions, and what a logarithm adds. */
static void test_work_and_memory_grow_as_the_history_does(shape kind, size_t count)
{
    const cost once = walk_large(kind, count), twice = walk_large(kind, 2 * count);
    if (count < 10000)
        return; /* what is there once, and does not grow, would count */
    CHECK_MSG(twice.work < once.work * 5 / 2, "%s: %llu steps, then %llu", SHAPE_NAMES[kind],
              (unsigned long long)once.work, (unsigned long long)twice.work);
    CHECK_MSG(twice.bytes < once.bytes * 5 / 2, "%s: %zu bytes, then %zu", SHAPE_NAMES[kind],
              once.bytes, twice.bytes);
}

/* valgrind, which is thirty times slower, can be recognised by its environment */
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
    for (shape kind = 0; kind < SHAPES; kind++)
        test_work_and_memory_grow_as_the_history_does(kind, of_size(20000));
    (void)walk_large(CHAIN, of_size(1000000));
    (void)walk_large(MERGES, of_size(1000000));
    return check_report();
}
