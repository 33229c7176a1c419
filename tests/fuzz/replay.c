/*
 * Runs a fuzz target over files, without libFuzzer: `replay FILE-OR-FOLDER...`. With `-m N` each
 * file is also tried in N mutations of a fixed sequence, for machines that have no libFuzzer.
 */
#define _POSIX_C_SOURCE 200809L
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t state = 1;

static size_t pick(size_t below)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return below == 0 ? 0 : (size_t)(state >> 33) % below;
}

/* A copy of exactly its size each time, so that the sanitizers see a read behind it. */
static void run(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size > 0 ? size : 1);
    if (copy == NULL)
        abort();
    memcpy(copy, data, size);
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

static size_t mutate(uint8_t *data, size_t size)
{
    static const char bytes[] = "'\"\\\n#()[]{}:=,.; \tfrbu\r\0\xC3\xFF"
                                "a1";
    size_t at = pick(size + 1);
    size_t length = pick(8) + 1;
    if (length > size - at)
        length = size - at;
    switch (pick(4)) {
    case 0: /* delete */
        memmove(data + at, data + at + length, size - at - length);
        return size - length;
    case 1: /* double */
        memmove(data + at + length, data + at, size - at);
        return size + length;
    case 2: /* overwrite */
        if (at < size)
            data[at] = (uint8_t)bytes[pick(sizeof bytes - 1)];
        return size;
    default: /* insert */
        memmove(data + at + 1, data + at, size - at);
        data[at] = (uint8_t)bytes[pick(sizeof bytes - 1)];
        return size + 1;
    }
}

static int replay_file(const char *path, size_t mutations)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        return 1;
    }
    enum { LIMIT = 1 << 20, STEPS = 6, ROOM = 8 * STEPS };
    uint8_t *data = malloc(LIMIT);
    uint8_t *work = malloc(LIMIT + ROOM);
    if (data == NULL || work == NULL)
        abort();
    size_t size = fread(data, 1, LIMIT, file);
    fclose(file);
    run(data, size);
    for (size_t i = 0; i < mutations; i++) {
        size_t length = size;
        memcpy(work, data, size);
        for (size_t steps = pick(STEPS) + 1; steps > 0; steps--)
            length = mutate(work, length);
        run(work, length);
    }
    free(work);
    free(data);
    return 0;
}

int main(int argc, char **argv)
{
    size_t mutations = 0;
    size_t files = 0;
    int failed = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "-m") == 0 && i + 1 < argc) {
            mutations = (size_t)strtoul(argv[++i], NULL, 10);
            continue;
        }
        DIR *folder = opendir(argv[i]);
        if (folder == NULL) {
            failed |= replay_file(argv[i], mutations);
            files++;
            continue;
        }
        for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
            char path[4096];
            if (entry->d_name[0] == '.')
                continue;
            int length = snprintf(path, sizeof path, "%s/%s", argv[i], entry->d_name);
            if (length < 0 || (size_t)length >= sizeof path)
                abort();
            failed |= replay_file(path, mutations);
            files++;
        }
        closedir(folder);
    }
    printf("%zu files replayed\n", files);
    return failed != 0 || files == 0;
}
