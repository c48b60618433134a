#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Counts instructions by function: of a product (bench_linear) and of a token (fuseq-bench), which do not depend on what
# else the machine does. valgrind knows no AVX-512, so the AVX2 twins are counted.
# Usage: bench/callgrind.sh BUILD_FOLDER [DTYPE...]
set -euo pipefail

if [[ $# == 0 || $1 == -* ]]; then
  sed -n 's/^# //p' "$0" | tail -n +2
  exit 2
fi
if ! command -v valgrind > /dev/null; then
  echo "callgrind.sh: valgrind must be installed, got none. On Debian: apt-get install valgrind" >&2
  exit 3
fi
build=$1
shift
dtypes=("$@")
[[ $# != 0 ]] || dtypes=(float32 bfloat16 int8)
export FUSEQ_CPU_ISA=avx2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

count() { # count FUNCTION COMMAND...: runs the command and collects what happens inside the function
  rm -f "$folder"/profile*
  valgrind --tool=callgrind --callgrind-out-file="$folder/profile" --toggle-collect="$1" "${@:2}" \
    > "$folder/output" 2> "$folder/errors" || { cat "$folder/output" "$folder/errors" >&2; exit 1; }
}

report() { # report TITLE NUMBER UNIT: instructions of each function over the number
  printf '\n%s: instructions per %s\n\n' "$1" "$3"
  callgrind_annotate --threshold=99 "$folder/profile" | awk -v number="$2" '
    /^ *[0-9,]+ \([ 0-9.]+%\)/ {
      ir = $1; gsub(",", "", ir)
      text = $0; sub(/^ *[0-9,]+ \([ 0-9.]+%\) */, "", text)
      if (text ~ /PROGRAM TOTALS/) text = "all"
      sub(/^[^ :]*:/, "", text); sub(/ \[[^]]*\]$/, "", text)
      gsub(/\(anonymous namespace\)::|fuseq::v0::|cpu::avx2::/, "", text)
      if (length(text) > 110) text = substr(text, 1, 107) "..."
      printf "%14.0f  %s\n", ir / number, text
    }'
}

for dtype in "${dtypes[@]}"; do
  for rows in 1 8 128; do
    name="linear/avx2/1/$dtype/base_out/$rows/"
    # A first iteration that takes longer than this is the only one.
    count 'fuseq::v0::linear(*' "$build/bench/bench_linear" --benchmark_filter="^$name" \
      --benchmark_min_time=0.000001 --benchmark_format=json
    grep -q '"iterations": 1,' "$folder/output" || { echo "callgrind.sh: $name must run once" >&2; exit 1; }
    report "${name%/}" 1 product
  done
  tokens=4
  count 'fuseq::v0::Session::step(*' "$build/bench/fuseq-bench" --models gpt2 --dtypes "$dtype" --threads 1 \
    --prompt-lengths 1 --new-tokens $tokens --warm-ups 0 --repetitions 1
  report "gpt2 $dtype, one row" $tokens token
done
