/* The scanner's classes of bytes, and the names that it has to see. */
#include "core/scan_internal.h"

#include <string.h>

#define N CLASS_NAME
#define D (CLASS_NAME | CLASS_DIGIT)
#define O CLASS_OPERATOR
#define L CLASS_OPEN
#define R CLASS_CLOSE
#define Q CLASS_QUOTE
#define S CLASS_SPACE

const byte mig_scan_classes[256] = {
    0, 0, 0, 0, 0, 0, 0, 0, 0, S, 0, 0, 0, 0, 0, 0, /* 00 */
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, /* 10 */
    S, 0, Q, 0, 0, O, O, Q, L, R, O, O, O, O, O, O, /* 20 */
    D, D, D, D, D, D, D, D, D, D, O, O, O, O, O, 0, /* 30 */
    O, N, N, N, N, N, N, N, N, N, N, N, N, N, N, N, /* 40 */
    N, N, N, N, N, N, N, N, N, N, N, L, 0, R, O, N, /* 50 */
    0, N, N, N, N, N, N, N, N, N, N, N, N, N, N, N, /* 60 */
    N, N, N, N, N, N, N, N, N, N, N, L, O, R, O, 0, /* 70 */
};

#undef N
#undef D
#undef O
#undef L
#undef R
#undef Q
#undef S

#define WORDS_PER_LENGTH 6

/* By length, so that most identifiers differ from all of these in a few first letters. */
static const struct {
    char text[MIG_SCAN_WORD_SIZE + 1];
    byte word;
} words[MIG_SCAN_WORD_SIZE + 1][WORDS_PER_LENGTH] = {
    [3] = {{"def", WORD_DEF}, {"sys", WORD_SYS}},
    [4] = {{"None", WORD_NONE},
           {"exec", WORD_BUILTIN},
           {"eval", WORD_BUILTIN},
           {"vars", WORD_BUILTIN}},
    [5] = {{"class", WORD_CLASS}, {"async", WORD_ASYNC}},
    [6] = {{"import", WORD_IMPORT}, {"global", WORD_GLOBAL}, {"locals", WORD_BUILTIN}},
    [7] = {{"__doc__", WORD_DOC},
           {"modules", WORD_MODULES},
           {"globals", WORD_BUILTIN},
           {"setattr", WORD_BUILTIN},
           {"delattr", WORD_BUILTIN}},
    [8] = {{"revision", WORD_REVISION},
           {"builtins", WORD_REFLECTION},
           {"__dict__", WORD_REFLECTION},
           {"f_locals", WORD_REFLECTION}},
    [9] = {{"importlib", WORD_SYS}, {"f_globals", WORD_REFLECTION}, {"_getframe", WORD_REFLECTION}},
    [10] = {{"depends_on", WORD_DEPENDS_ON}, {"__import__", WORD_REFLECTION}},
    [11] = {{"__globals__", WORD_REFLECTION},
            {"__getattr__", WORD_REFLECTION},
            {"__setattr__", WORD_REFLECTION},
            {"__delattr__", WORD_REFLECTION}},
    [12] = {{"__builtins__", WORD_REFLECTION}, {"currentframe", WORD_REFLECTION}},
    [13] = {{"down_revision", WORD_DOWN_REVISION},
            {"branch_labels", WORD_BRANCH_LABELS},
            {"import_module", WORD_SYS}},
    [16] = {{"__getattribute__", WORD_REFLECTION}},
};

const uint32_t mig_scan_first_letters[MIG_SCAN_WORD_SIZE + 1] = {
    [3] = MIG_SCAN_LETTER('d') | MIG_SCAN_LETTER('s'),
    [4] = MIG_SCAN_LETTER('N') | MIG_SCAN_LETTER('e') | MIG_SCAN_LETTER('v'),
    [5] = MIG_SCAN_LETTER('c') | MIG_SCAN_LETTER('a'),
    [6] = MIG_SCAN_LETTER('i') | MIG_SCAN_LETTER('g') | MIG_SCAN_LETTER('l'),
    [7] = MIG_SCAN_LETTER('_') | MIG_SCAN_LETTER('m') | MIG_SCAN_LETTER('g') |
          MIG_SCAN_LETTER('s') | MIG_SCAN_LETTER('d'),
    [8] = MIG_SCAN_LETTER('r') | MIG_SCAN_LETTER('b') | MIG_SCAN_LETTER('_') | MIG_SCAN_LETTER('f'),
    [9] = MIG_SCAN_LETTER('i') | MIG_SCAN_LETTER('f') | MIG_SCAN_LETTER('_'),
    [10] = MIG_SCAN_LETTER('d') | MIG_SCAN_LETTER('_'),
    [11] = MIG_SCAN_LETTER('_'),
    [12] = MIG_SCAN_LETTER('_') | MIG_SCAN_LETTER('c'),
    [13] = MIG_SCAN_LETTER('d') | MIG_SCAN_LETTER('b') | MIG_SCAN_LETTER('i'),
    [16] = MIG_SCAN_LETTER('_'),
};

word mig_scan_word(const byte *text, size_t length)
{
    if (!may_be_word(text, length))
        return WORD_OTHER;
    for (size_t i = 0; i < WORDS_PER_LENGTH && words[length][i].word != WORD_OTHER; i++)
        if (words[length][i].text[0] == (char)text[0] &&
            words[length][i].text[1] == (char)text[1] &&
            memcmp(words[length][i].text, text, length) == 0)
            return (word)words[length][i].word;
    return WORD_OTHER;
}
