#!/bin/sh
# fuzz/run.sh SECONDS TARGET LIBPQ-FLAGS SOURCE...: one fuzz target with libFuzzer, where a clang that has it is found, else in
# mutations of a fixed sequence, which find less. New inputs are kept under build/fuzz; the corpus in the repository is only read.
set -eu
seconds=$1 target=$2 flags=$3
shift 3
corpus=tests/fuzz/corpus/${target#fuzz_} out=build/fuzz/$target
mkdir -p "$out"
clang=
for name in clang clang-19 clang-18 clang-17 clang-16 clang-15 clang-14; do
    if command -v "$name" >/dev/null && echo 'int LLVMFuzzerTestOneInput(void); int LLVMFuzzerTestOneInput(void) { return 0; }' |
        "$name" -fsanitize=fuzzer,address -x c - -o "$out.probe" 2>/dev/null; then
        clang=$name
        break
    fi
done
log=$out.log
if [ -n "$clang" ]; then
    "$clang" -std=c11 -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -Icsrc "@$flags" \
        "tests/fuzz/$target.c" "$@" -ldl -o "$out.run"
    "$out.run" -max_total_time="$seconds" -timeout=10 -print_final_stats=1 "-artifact_prefix=$out-" "$out" "$corpus" >"$log" 2>&1 ||
        { tail -40 "$log"; echo "  FAILED  $target"; exit 1; }
    echo "  ok      $target ($clang): $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") executions in $seconds s"
else
    "build/c/asan/$target" -m 20000 "$corpus" >"$log" 2>&1 || { cat "$log"; echo "  FAILED  $target"; exit 1; }
    echo "  ok      $target (no libFuzzer here: 20000 mutations of each file)"
fi
