/*
 * Whether a statement may wait in a batch, decided from its text and the connection before it is
 * queued. What is not on a list here goes the driver's way.
 */
#include "pq/batch_internal.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/text.h"

/* The commands that may go into a pipeline inside the driver's transaction. Commands that change
 * the session or the transaction are not among them, but for SET and RESET of the parameters below:
 * the driver must send those. */
typedef struct command {
    const char *keyword;
    bool may_change_facts; /* runs whatever functions it names */
} command;

static const command COMMANDS[] = {
    {"ALTER", false},  {"ANALYZE", false}, {"CALL", true},      {"COMMENT", false},
    {"CREATE", false}, {"DELETE", true},   {"DO", true},        {"DROP", false},
    {"EXPLAIN", true}, {"GRANT", false},   {"IMPORT", false},   {"INSERT", true},
    {"LOCK", false},   {"MERGE", true},    {"NOTIFY", false},   {"REASSIGN", false},
    {"REFRESH", true}, {"REINDEX", false}, {"REVOKE", false},   {"SECURITY", false},
    {"SELECT", true},  {"TABLE", true},    {"TRUNCATE", false}, {"UPDATE", true},
    {"VALUES", true},  {"WITH", true},
};

/* SET CONSTRAINTS runs the triggers that were deferred. A name with a dot is an extension's or the
 * project's own. */
static const command SET_CONSTRAINTS = {"SET", true}, SET_OTHER = {"SET", true},
                     SET_LISTED = {"SET", false};

/* Parameters that SET and RESET in a pipeline may change: for the server alone, which does so
 * between the statement before and the one behind, as it would without a pipeline. Not here is what
 * decides how a text is read, by us or by a driver (client_encoding, standard_conforming_strings,
 * backslash_quote), how a driver writes a parameter (IntervalStyle), who the session's user is
 * (role, session_authorization), what becomes of a transaction (transaction_*,
 * default_transaction_*), and what the lock sets for a run (client_connection_check_interval,
 * tcp_keepalives_*). DateStyle and TimeZone are read by drivers when they load results, from what
 * the server reported: a result comes when all before it is confirmed. The timeouts are for each
 * statement in a pipeline, too: see is_timed_alone. */
static const char *const PARAMETERS[] = {
    "application_name",
    "check_function_bodies",
    "client_min_messages",
    "constraint_exclusion",
    "datestyle",
    "default_statistics_target",
    "default_table_access_method",
    "default_tablespace",
    "default_toast_compression",
    "default_with_oids",
    "enable_hashjoin",
    "enable_indexscan",
    "enable_mergejoin",
    "enable_nestloop",
    "enable_seqscan",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "jit",
    "lock_timeout",
    "maintenance_work_mem",
    "max_parallel_maintenance_workers",
    "max_parallel_workers_per_gather",
    "row_security",
    "search_path",
    "session_replication_role",
    "statement_timeout",
    "synchronous_commit",
    "temp_tablespaces",
    "timezone",
    "work_mem",
    "xmloption",
};

/* Values of client_encoding beside UTF8 in which ASCII stands for itself, for the server and for
 * the drivers' codecs. */
static const char *const ASCII_ENCODINGS[] = {
    "SQL_ASCII",  "LATIN1",     "LATIN2",     "LATIN3",     "LATIN4",  "LATIN5",  "LATIN6",
    "LATIN7",     "LATIN8",     "LATIN9",     "LATIN10",    "WIN1250", "WIN1251", "WIN1252",
    "WIN1253",    "WIN1254",    "WIN1255",    "WIN1256",    "WIN1257", "WIN1258", "WIN866",
    "WIN874",     "KOI8R",      "KOI8U",      "ISO_8859_5", "EUC_CN",  "EUC_JP",  "EUC_KR",
    "ISO_8859_6", "ISO_8859_7", "ISO_8859_8",
};

#define COUNT(array) (sizeof(array) / sizeof *(array))

mig_batch_text mig_batch_read_text(const char *sql, size_t length, const mig_batch_params *params)
{
    mig_batch_text found = {.info = mig_sql_classify(sql, length, true),
                            .is_ascii = mig_is_ascii(sql, length),
                            .has_zero = length > 0 && memchr(sql, '\0', length) != NULL};
    found.depends_on_strings = length > 0 && memchr(sql, '\\', length) != NULL &&
                               mig_sql_classify(sql, length, false).kind != found.info.kind;
    for (int i = 0; params != NULL && i < params->count; i++)
        if (params->values[i] != NULL)
            found.is_ascii &= mig_is_ascii(params->values[i], (size_t)params->lengths[i]);
    return found;
}

static bool is_listed_parameter(const char *name)
{
    for (size_t i = 0; i < COUNT(PARAMETERS); i++)
        if (strcmp(name, PARAMETERS[i]) == 0)
            return true;
    return false;
}

/* Whether a pipeline runs as statements one by one would, under the timeout that one of them sets:
 * before version 11 the server measures the time from one Sync to the next. */
static bool is_timed_alone(const mig_session *session, const mig_sql_info *info)
{
    return strcmp(info->parameter, "statement_timeout") != 0 || session->conn == NULL ||
           session->pq.PQserverVersion(session->conn) >= 110000;
}

/* NULL: not on the list. */
static const command *find_command(const mig_sql_info *info)
{
    if (is_listed_parameter(info->parameter))
        return &SET_LISTED;
    if (strchr(info->parameter, '.') != NULL)
        return &SET_OTHER;
    if (strcmp(info->keyword, "SET") == 0 && strcmp(info->second, "CONSTRAINTS") == 0)
        return &SET_CONSTRAINTS;
    for (size_t i = 0; i < COUNT(COMMANDS); i++)
        if (strcmp(info->keyword, COMMANDS[i].keyword) == 0)
            return &COMMANDS[i];
    return NULL;
}

/* True also for several statements, and for what is not on the list. */
bool mig_batch_may_change_facts(const mig_sql_info *info)
{
    const command *found = find_command(info);
    if (info->kind != MIG_SQL_ONE)
        return info->kind != MIG_SQL_NONE;
    return found == NULL || found->may_change_facts;
}

mig_batch_facts mig_batch_facts_of(const mig_session *session)
{
    const mig_libpq *pq = &session->pq;
    mig_batch_facts facts = {.client_encoding = "", .standard_conforming_strings = false};
    if (session->conn == NULL) /* closed: the function table may be empty, too */
        return facts;
    const char *encoding = pq->PQparameterStatus(session->conn, "client_encoding");
    const char *strings = pq->PQparameterStatus(session->conn, "standard_conforming_strings");
    if (encoding != NULL && strlen(encoding) < sizeof facts.client_encoding)
        memcpy(facts.client_encoding, encoding, strlen(encoding) + 1);
    facts.standard_conforming_strings = strings != NULL && strcmp(strings, "on") == 0;
    return facts;
}

/* Whether our UTF-8 is what the server reads. */
bool mig_batch_is_readable(const mig_batch_facts *facts, bool ascii)
{
    if (strcmp(facts->client_encoding, "UTF8") == 0)
        return true;
    for (size_t i = 0; ascii && i < COUNT(ASCII_ENCODINGS); i++)
        if (strcmp(facts->client_encoding, ASCII_ENCODINGS[i]) == 0)
            return true;
    return false;
}

/* Why the first statement of a batch cannot be sent on the connection as it is; NULL if it can. */
static const char *reason_not_to_begin(const mig_session *session, bool begins)
{
    const mig_libpq *pq = &session->pq;
    if (session->conn != NULL && !pq->has_pipeline)
        return "a libpq without pipelines";
    if (session->conn == NULL || session->pid != getpid() ||
        pq->PQstatus(session->conn) != CONNECTION_OK)
        return "the connection is closed";
    if (pq->PQpipelineStatus(session->conn) != 0)
        return "the driver is in a pipeline";
    PGTransactionStatusType now = pq->PQtransactionStatus(session->conn);
    if (now == PQTRANS_ACTIVE)
        return "the connection is in use";
    return now == (begins ? PQTRANS_IDLE : PQTRANS_INTRANS) ? NULL : "not in a transaction";
}

mig_batch_fit mig_batch_judge(const mig_batch *batch, const mig_session *session, const char *sql,
                              size_t length, bool begins, char why[MIG_BATCH_REASON_SIZE])
{
    return mig_batch_judge_params(batch, session, sql, length, NULL, begins, why);
}

mig_batch_fit mig_batch_judge_params(const mig_batch *batch, const mig_session *session,
                                     const char *sql, size_t length, const mig_batch_params *params,
                                     bool begins, char why[MIG_BATCH_REASON_SIZE])
{
    static const char *const KINDS[] = {"none", "one", "several", "unsure"};
    const char *reason = NULL;
    mig_batch_text text = mig_batch_read_text(sql, length, params);
    mig_sql_info info = text.info;
    mig_batch_facts facts = mig_batch_facts_of(session);
    if (text.has_zero)
        reason = "a zero byte";
    else if (batch->state == MIG_BATCH_FAILED)
        reason = "the batch has failed";
    else if (batch->state == MIG_BATCH_IDLE && batch->head == batch->count)
        reason = reason_not_to_begin(session, begins);
    if (reason == NULL) {
        bool is_open =
            batch->last_changing > batch->ended; /* a statement in flight may change the facts */
        if ((text.depends_on_strings || !text.is_ascii) && is_open)
            return MIG_BATCH_FITS_LATER;
        if (text.depends_on_strings && !facts.standard_conforming_strings)
            info = mig_sql_classify(sql, length, false);
        if (info.kind != MIG_SQL_ONE)
            reason = KINDS[info.kind];
        else if (find_command(&info) == NULL || !is_timed_alone(session, &info))
            reason = *info.keyword != '\0' ? info.keyword : "no command";
        else if (!mig_batch_is_readable(&facts, text.is_ascii))
            reason = "client_encoding is not UTF8";
    }
    if (reason == NULL)
        return MIG_BATCH_FITS;
    (void)snprintf(why, MIG_BATCH_REASON_SIZE, "%s", reason);
    return MIG_BATCH_FITS_NOT;
}
