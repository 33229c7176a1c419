#include "core/sql_lexer.h"

#include <string.h>

#include "core/text.h"

/* Words at the beginning of a statement that decide what a semicolon in it means. */
#define LEADING_WORDS 4

typedef struct lexer {
    const char *p;
    const char *end;
    bool escapes; /* a backslash in '...' escapes: standard_conforming_strings is off */
    bool unsure;

    /* The statement that is being read. */
    size_t tokens;
    size_t words; /* words at its beginning, up to the first token that is none */
    char leading[LEADING_WORDS][MIG_SQL_KEYWORD_SIZE];
    char last_word[MIG_SQL_KEYWORD_SIZE]; /* the token before, if it was a word; "." for a dot */
    size_t parentheses;
    size_t blocks;     /* BEGIN ATOMIC and the CASEs inside it that are open */
    bool body_is_over; /* the END of BEGIN ATOMIC was read: nothing may follow */
} lexer;

static bool begins_word(char c)
{
    return mig_is_letter(c) || c == '_' || mig_is_high(c);
}

static bool continues_word(char c)
{
    return begins_word(c) || mig_is_digit(c) || c == '$';
}

static bool looking_at(const lexer *lex, char first, char second)
{
    return lex->end - lex->p >= 2 && lex->p[0] == first && lex->p[1] == second;
}

static void skip_line_comment(lexer *lex)
{
    while (lex->p < lex->end && *lex->p != '\n' && *lex->p != '\r')
        lex->p++;
}

static void skip_block_comment(lexer *lex)
{
    size_t depth = 0;
    do {
        if (looking_at(lex, '/', '*')) {
            depth++;
            lex->p += 2;
        } else if (looking_at(lex, '*', '/')) {
            depth--;
            lex->p += 2;
        } else if (lex->p < lex->end) {
            lex->p++;
        } else {
            lex->unsure = true;
            return;
        }
    } while (depth > 0);
}

/* A string continues after white space with a newline in it, which may contain line comments. Moves
 * to the next quote and returns true, or does not move. The backslash rule of the first segment
 * holds for the next. */
static bool continue_string(lexer *lex)
{
    const char *start = lex->p;
    bool newline = false;
    for (;;) {
        if (lex->p < lex->end && mig_is_sql_space(*lex->p)) {
            newline = newline || *lex->p == '\n' || *lex->p == '\r';
            lex->p++;
        } else if (looking_at(lex, '-', '-')) {
            skip_line_comment(lex);
        } else {
            break;
        }
    }
    if (newline && lex->p < lex->end && *lex->p == '\'')
        return true;
    lex->p = start;
    return false;
}

/* At the opening quote. */
static void skip_string(lexer *lex, bool escapes)
{
    do {
        lex->p++;
        for (;;) {
            if (lex->p >= lex->end) {
                lex->unsure = true;
                return;
            }
            if (escapes && *lex->p == '\\' && lex->end - lex->p >= 2) {
                lex->p += 2;
            } else if (looking_at(lex, '\'', '\'')) {
                lex->p += 2;
            } else if (*lex->p++ == '\'') {
                break;
            }
        }
    } while (continue_string(lex));
}

static void skip_quoted_identifier(lexer *lex)
{
    const char *open = lex->p++;
    for (;;) {
        if (lex->p >= lex->end) {
            lex->unsure = true;
            return;
        }
        if (looking_at(lex, '"', '"')) {
            lex->p += 2;
        } else if (*lex->p++ == '"') {
            break;
        }
    }
    if (lex->p - open == 2)
        lex->unsure = true; /* zero-length: the server refuses it */
}

/* At a '$' that begins no word: a dollar-quoted string, or a parameter, or nothing. */
static void skip_dollar(lexer *lex)
{
    const char *open = lex->p, *tag = open + 1;
    if (tag < lex->end && begins_word(*tag))
        while (tag < lex->end && (begins_word(*tag) || mig_is_digit(*tag)))
            tag++;
    if (tag >= lex->end || *tag != '$') {
        lex->p++;
        if (lex->p >= lex->end || !mig_is_digit(*lex->p))
            lex->unsure = true;
        return;
    }
    size_t length = (size_t)(tag + 1 - open);
    for (lex->p = tag + 1; (size_t)(lex->end - lex->p) >= length; lex->p++) {
        lex->p = memchr(lex->p, '$', (size_t)(lex->end - lex->p));
        if (lex->p == NULL || (size_t)(lex->end - lex->p) < length)
            break;
        if (memcmp(lex->p, open, length) == 0) {
            lex->p += length;
            return;
        }
    }
    lex->p = lex->end;
    lex->unsure = true;
}

/* Numbers differ between versions where a letter follows; only what a letter could open matters
 * here. */
static void skip_number(lexer *lex)
{
    bool letters = false;
    while (lex->p < lex->end && (mig_is_digit(*lex->p) || *lex->p == '.' || begins_word(*lex->p))) {
        letters = letters || begins_word(*lex->p);
        lex->p++;
    }
    if (letters && lex->p < lex->end &&
        (*lex->p == '\'' || *lex->p == '"' || *lex->p == '&' || *lex->p == '$'))
        lex->unsure = true;
}

static void copy_word(char *to, const char *word, size_t length)
{
    size_t n = 0;
    for (; n < length && n < MIG_SQL_KEYWORD_SIZE - 1; n++)
        to[n] = (char)(word[n] >= 'a' && word[n] <= 'z' ? word[n] - 'a' + 'A' : word[n]);
    to[n] = '\0';
}

static bool leads(const lexer *lex, size_t i, const char *word)
{
    return i < lex->words && strcmp(lex->leading[i], word) == 0;
}

/* CREATE [OR REPLACE] <what> */
static bool creates(const lexer *lex, const char *what)
{
    if (!leads(lex, 0, "CREATE"))
        return false;
    return leads(lex, 1, what) ||
           (leads(lex, 1, "OR") && leads(lex, 2, "REPLACE") && leads(lex, 3, what));
}

/* BEGIN ATOMIC ... END, where it may stand. */
static void follow_body(lexer *lex, const char *word)
{
    if (lex->parentheses > 0 || !(creates(lex, "FUNCTION") || creates(lex, "PROCEDURE")))
        return;
    bool label = strcmp(lex->last_word, "AS") == 0 || strcmp(lex->last_word, ".") == 0;
    if (lex->blocks == 0) {
        if (strcmp(lex->last_word, "BEGIN") == 0 && strcmp(word, "ATOMIC") == 0)
            lex->blocks = 1;
    } else if (strcmp(word, "CASE") == 0 || strcmp(word, "END") == 0) {
        if (label)
            lex->unsure = true; /* it may be a column of that name, which only a parser can tell */
        else if (*word == 'C')
            lex->blocks++;
        else if (--lex->blocks == 0)
            lex->body_is_over = true;
    }
}

static void take_word(lexer *lex)
{
    const char *from = lex->p;
    while (lex->p < lex->end && continues_word(*lex->p))
        lex->p++;
    char word[MIG_SQL_KEYWORD_SIZE];
    copy_word(word, from, (size_t)(lex->p - from));
    if (lex->body_is_over)
        lex->unsure = true;
    if (lex->words == lex->tokens && lex->words < LEADING_WORDS) {
        memcpy(lex->leading[lex->words], word, sizeof word);
        lex->words++;
    }
    follow_body(lex, word);
    memcpy(lex->last_word, word, sizeof word);
    lex->tokens++;
}

static void take_other(lexer *lex, char c)
{
    if (lex->body_is_over)
        lex->unsure = true;
    lex->last_word[0] = c == '.' ? '.' : '\0';
    lex->last_word[1] = '\0';
    lex->tokens++;
}

/* A word that is the prefix of a quote: E'' B'' X'' N'' U&'' U&"". */
static bool take_prefixed(lexer *lex)
{
    ptrdiff_t left = lex->end - lex->p;
    char c = (char)(lex->p[0] | 0x20);
    if (left >= 2 && lex->p[1] == '\'' && (c == 'e' || c == 'b' || c == 'x' || c == 'n')) {
        lex->p++;
        skip_string(lex, c == 'e' || (c == 'n' && lex->escapes));
        return true;
    }
    if (left >= 3 && c == 'u' && lex->p[1] == '&' && lex->p[2] == '\'') {
        lex->p += 2;
        lex->unsure = lex->unsure || lex->escapes; /* the server refuses it */
        skip_string(lex, false);
        return true;
    }
    if (left >= 3 && c == 'u' && lex->p[1] == '&' && lex->p[2] == '"') {
        lex->p += 2;
        skip_quoted_identifier(lex);
        return true;
    }
    return false;
}

static void take_punctuation(lexer *lex)
{
    char c = *lex->p++;
    if (c == '(') {
        lex->parentheses++;
    } else if (c == ')') {
        if (lex->parentheses == 0)
            lex->unsure = true;
        else
            lex->parentheses--;
    } else if (c == '\\' || c == '\0') {
        lex->unsure = true;
    }
    take_other(lex, c);
}

/* True: a semicolon that ends the statement. */
static bool take_semicolon(lexer *lex)
{
    lex->p++;
    if (lex->parentheses > 0) {
        if (!creates(lex, "RULE"))
            lex->unsure = true;
        return false;
    }
    return lex->blocks == 0;
}

static void begin_statement(lexer *lex)
{
    lex->tokens = 0;
    lex->words = 0;
    lex->last_word[0] = '\0';
    lex->parentheses = 0;
    lex->blocks = 0;
    lex->body_is_over = false;
}

/* Reads up to the end of one statement; false at the end of the text. */
static bool read_statement(lexer *lex)
{
    begin_statement(lex);
    while (lex->p < lex->end) {
        char c = *lex->p;
        if (mig_is_sql_space(c)) {
            lex->p++;
        } else if (looking_at(lex, '-', '-')) {
            skip_line_comment(lex);
        } else if (looking_at(lex, '/', '*')) {
            skip_block_comment(lex);
        } else if (c == ';') {
            if (take_semicolon(lex))
                return true;
        } else if (begins_word(c)) {
            if (take_prefixed(lex))
                take_other(lex, c);
            else
                take_word(lex);
        } else if (c == '\'') {
            skip_string(lex, lex->escapes);
            take_other(lex, c);
        } else if (c == '"') {
            skip_quoted_identifier(lex);
            take_other(lex, c);
        } else if (c == '$') {
            skip_dollar(lex);
            take_other(lex, c);
        } else if (mig_is_digit(c)) {
            skip_number(lex);
            take_other(lex, c);
        } else {
            take_punctuation(lex);
        }
    }
    if (lex->parentheses > 0 || lex->blocks > 0)
        lex->unsure = true;
    return false;
}

/* Of the statement that was just read. What is PREPARED is another transaction. */
static mig_sql_ending ending(const lexer *lex)
{
    size_t next = leads(lex, 1, "WORK") || leads(lex, 1, "TRANSACTION") ? 2 : 1;
    if (leads(lex, 1, "PREPARED"))
        return MIG_SQL_GOES_ON;
    if (leads(lex, 0, "COMMIT") || leads(lex, 0, "END") ||
        (leads(lex, 0, "PREPARE") && leads(lex, 1, "TRANSACTION") && !leads(lex, 2, "AS")))
        return MIG_SQL_COMMITS;
    if (leads(lex, 0, "ABORT") || (leads(lex, 0, "ROLLBACK") && !leads(lex, next, "TO")))
        return MIG_SQL_ROLLS_BACK;
    return MIG_SQL_GOES_ON;
}

/* Moves to the next token, past empty statements, too. */
static void skip_blank(lexer *lex)
{
    for (;;) {
        if (lex->p < lex->end && (mig_is_sql_space(*lex->p) || *lex->p == ';'))
            lex->p++;
        else if (looking_at(lex, '-', '-'))
            skip_line_comment(lex);
        else if (looking_at(lex, '/', '*'))
            skip_block_comment(lex);
        else
            return;
    }
}

/* Appends the next token to a name, in lower case, if it is a word and there is room. */
static bool append_word(lexer *lex, char name[MIG_SQL_PARAMETER_SIZE], size_t *length)
{
    skip_blank(lex);
    if (lex->p >= lex->end || !begins_word(*lex->p))
        return false;
    for (; lex->p < lex->end && continues_word(*lex->p); lex->p++) {
        char c = *lex->p;
        if (*length >= MIG_SQL_PARAMETER_SIZE - 1 || mig_is_high(c))
            return false;
        name[(*length)++] = (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
    }
    name[*length] = '\0';
    return true;
}

/* Reads a word in the place of `word`. */
static bool read_word(lexer *lex, char word[MIG_SQL_PARAMETER_SIZE])
{
    size_t length = 0;
    return append_word(lex, word, &length);
}

static bool next_is(lexer *lex, char c)
{
    skip_blank(lex);
    if (lex->p >= lex->end || *lex->p != c)
        return false;
    lex->p++;
    return true;
}

/* The parameter of a statement that begins with SET or RESET; false: none that is told. */
static bool read_parameter(lexer lex, bool is_reset, char name[MIG_SQL_PARAMETER_SIZE])
{
    char word[MIG_SQL_PARAMETER_SIZE];
    if (!read_word(&lex, word) || !read_word(&lex, name))
        return false;
    if (!is_reset && (strcmp(name, "session") == 0 || strcmp(name, "local") == 0))
        if (!read_word(&lex, name))
            return false;
    size_t length = strlen(name);
    bool is_zone = strcmp(name, "time") == 0, is_schema = strcmp(name, "schema") == 0;
    if (is_zone) {
        if (!read_word(&lex, word) || strcmp(word, "zone") != 0)
            return false;
        memcpy(name, "timezone", sizeof "timezone");
        return true;
    }
    while (next_is(&lex, '.')) {
        if (length >= MIG_SQL_PARAMETER_SIZE - 1)
            return false;
        name[length++] = '.';
        if (!append_word(&lex, name, &length))
            return false;
    }
    if (is_reset)
        return true;
    if (is_schema && next_is(&lex, '\'')) {
        memcpy(name, "search_path", sizeof "search_path");
        return true;
    }
    return next_is(&lex, '=') || (read_word(&lex, word) && strcmp(word, "to") == 0);
}

mig_sql_info mig_sql_classify(const char *sql, size_t length, bool standard_conforming_strings)
{
    lexer lex = {.p = sql, .end = sql + length, .escapes = !standard_conforming_strings};
    mig_sql_info info = {.kind = MIG_SQL_NONE, .keyword = "", .second = "", .parameter = ""};
    size_t statements = 0;
    bool more;
    do {
        lexer first = lex;
        more = read_statement(&lex);
        if (lex.tokens == 0)
            continue;
        if (statements++ == 0) {
            if (lex.words > 0)
                memcpy(info.keyword, lex.leading[0], sizeof info.keyword);
            if (lex.words > 1)
                memcpy(info.second, lex.leading[1], sizeof info.second);
            if ((leads(&lex, 0, "SET") || leads(&lex, 0, "RESET")) &&
                !read_parameter(first, leads(&lex, 0, "RESET"), info.parameter))
                info.parameter[0] = '\0';
        }
        if (info.ending == MIG_SQL_GOES_ON)
            info.ending = ending(&lex);
    } while (more);
    if (lex.unsure)
        info.kind = MIG_SQL_UNSURE;
    else if (statements > 0)
        info.kind = statements == 1 ? MIG_SQL_ONE : MIG_SQL_SEVERAL;
    return info;
}

bool mig_sql_changes_transaction(const mig_sql_info *info)
{
    static const char *const WORDS[] = {"BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT"};
    for (size_t i = 0; i < sizeof WORDS / sizeof WORDS[0]; i++)
        if (strcmp(info->keyword, WORDS[i]) == 0)
            return true;
    return strcmp(info->keyword, "PREPARE") == 0 && strcmp(info->second, "TRANSACTION") == 0;
}
