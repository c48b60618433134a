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

# The README's C++ and C programs ask the same; they must print the same.
for language in cpp c; do
  configure "$root/examples/$language" "example_$language" -Dfuseq_ROOT="$package"
  (cd "$root" && "$build/example_$language/generate_ids") > "$build/example_$language.txt"
done
test -s "$build/example_c.txt"
cmp <(xargs < "$build/example_cpp.txt") <(xargs < "$build/example_c.txt")
echo "embed: examples: C++ and C print the same ids"

# The documentation's page on C++ and C, followed step by step.
PATH="$(dirname "$python"):$PATH" CMAKE_GENERATOR=Ninja \
  "$python" "$here/docs_programs.py" "$root/docs/cpp.md" "$build/docs_cpp"
