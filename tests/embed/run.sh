#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds four embedding apps the way their authors would, runs each on the golden presets and compares the ids with
# the recorded ones. Usage: run.sh PYTHON BUILD_FOLDER, where PYTHON has fuseq installed.
set -euo pipefail

python=$1
build=$2
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
mkdir -p "$build"
build=$(cd "$build" && pwd)

# One line per recorded case: folder, longest row, beams, prompt ids; a bar; the ids to expect.
(cd "$root" && python3 tests/embed/golden_cases.py tests/golden) > "$build/cases.txt"
test -s "$build/cases.txt"

configure() { # configure SOURCE NAME [OPTION...]
  local source=$1 name=$2
  shift 2
  cmake -S "$source" -B "$build/$name" -G Ninja -DCMAKE_BUILD_TYPE=Release "$@" > "$build/$name.log" 2>&1 ||
    { cat "$build/$name.log"; exit 1; }
  cmake --build "$build/$name" >> "$build/$name.log" 2>&1 || { cat "$build/$name.log"; exit 1; }
}

check() { # check NAME: runs every case with one app
  local name=$1 cases=0 arguments expected got
  while IFS='|' read -r arguments expected; do
    # shellcheck disable=SC2086  # the arguments are words
    got=$(cd "$root" && "$build/$name/generate" $arguments | xargs)
    if [[ $got != "$(xargs <<< "$expected")" ]]; then
      echo "$name: generate $arguments: must print $expected, got $got" >&2
      exit 1
    fi
    cases=$((cases + 1))
  done < "$build/cases.txt"
  echo "embed: $name: $cases cases equal the recorded ids"
}

app() { # app SOURCE NAME [OPTION...]
  configure "$@"
  check "$2"
}

app "$here/add_subdirectory" add_subdirectory

for kind in shared static; do
  shared=$([[ $kind == shared ]] && echo ON || echo OFF)
  configure "$root" "library_$kind" -DBUILD_SHARED_LIBS="$shared" -DCMAKE_INSTALL_PREFIX="$build/prefix_$kind"
  cmake --install "$build/library_$kind" > /dev/null
  app "$here/find_package" "find_package_$kind" -Dfuseq_ROOT="$build/prefix_$kind"
done

package=$(cd / && "$(dirname "$python")/fuseq" info --cmake-dir)
app "$here/wheel" wheel -Dfuseq_ROOT="$package"
app "$here/plain_c" plain_c -Dfuseq_ROOT="$package"

# generate_ids in C++ and in C asks the same; both must print the same.
for language in cpp c; do
  configure "$root/examples/$language" "example_$language" -Dfuseq_ROOT="$package"
  (cd "$root" && "$build/example_$language/generate_ids") > "$build/example_$language.txt"
done
test -s "$build/example_c.txt"
cmp <(xargs < "$build/example_cpp.txt") <(xargs < "$build/example_c.txt")
echo "embed: examples: C++ and C print the same ids"

# The README's C++ program says what the command says and what the README shows, and refuses what has no letters of
# the preset.
mapfile -t words < <(grep -ohE '\b[a-z]{4,20}\b' "$root"/docs/*.md | sort -u | head -n 300)
paste -d '|' <(printf '%s\n' "${words[@]}") \
  <(cd / && "$(dirname "$python")/fuseq" generate --preset g2p_en "${words[@]}") |
  sed 's/|/  /' > "$build/pronounced.txt"
test "$(grep -c '  .' "$build/pronounced.txt")" == 300
pronounce() { (cd "$root" && "$build/example_cpp/pronounce" python/fuseq/shipped/g2p_en "$@"); }
diff "$build/pronounced.txt" <(pronounce "${words[@]}")
shown=$(sed -n '/^\$ build\/example\/pronounce/,/^```$/p' "$root/README.md" | grep -v '^```')
read -r -a words <<< "$(head -n 1 <<< "$shown" | cut -d ' ' -f 4-)"
diff <(tail -n +2 <<< "$shown") <(pronounce "${words[@]}")
if pronounce hello naïve > "$build/refused.txt" 2>&1; then
  echo "pronounce: must refuse naïve" >&2
  exit 1
fi
test "$(< "$build/refused.txt")" == 'a word must be of ASCII without spaces, got "naïve"'
echo "embed: examples: C++ pronounces 300 words as the command does"

# The documentation's page on C++ and C, followed step by step.
PATH="$(dirname "$python"):$PATH" CMAKE_GENERATOR=Ninja \
  "$python" "$here/docs_programs.py" "$root/docs/cpp.md" "$build/docs_cpp"
