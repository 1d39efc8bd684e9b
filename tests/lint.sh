#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Usage: tests/lint.sh [fix]
#
# What the compilers do not say: one line, ok or FAILED, for each tool. With `fix`, formats the C
# files in place. clang-tidy reads build/compile_commands.json, so build/ must be set up.

set -u

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
failed=0

check() {
    local name=$1 output
    shift
    if output=$("$@" 2>&1); then
        echo "ok lint/$name"
    else
        printf '%s\n' "$output"
        echo "FAILED lint/$name"
        failed=1
    fi
}

list() {
    git ls-files --cached --others --exclude-standard -- "$@"
}

mapfile -t c_files < <(list '*.c' '*.h')
mapfile -t tidied < <(list 'src/*.c' 'examples/*.c')
mapfile -t scripts < <(list | while IFS= read -r file; do
    head -c 64 "$file" | grep -aqE '^#!/bin/(ba)?sh' && printf '%s\n' "$file"
done)
mapfile -t texts < <(list '*.md' '*.c' '*.h' '*.S' '*.sh' '*.build')

tidy() {
    [[ -e build/compile_commands.json ]] || meson setup build >/dev/null || return
    printf '%s\0' "${tidied[@]}" | xargs -0 -n 4 -P "$(nproc)" clang-tidy -p build --quiet
}

# It does not look for the system's headers, and needs the lists of this one.
cppcheck_all() {
    local queue
    queue=$(echo '#include <sys/queue.h>' | cc -M -x c - | grep -o '/[^ ]*/sys/queue\.h')
    cppcheck --quiet --error-exitcode=1 --std=c11 --enable=warning,portability,performance \
        --include="$queue" --suppress=missingIncludeSystem --inline-suppr -I include -I src src
}

# Every function of the header is exported, and nothing else. Types of functions are none.
symbols() {
    diff <(grep -v '^typedef' include/kvmas.h | grep -oE '\bkvmas_[a-z_0-9]+\(' | tr -d '(' |
        sort -u) \
        <(grep -oE '\bkvmas_[a-z_0-9]+;' src/libkvmas.map | tr -d ';' | sort -u)
}

if [[ ${1-} = fix ]]; then
    clang-format -i "${c_files[@]}"
    exit
fi
check format clang-format --dry-run --Werror "${c_files[@]}"
check symbols symbols
check scripts shellcheck "${scripts[@]}"
check spelling codespell --ignore-words-list=fo,te "${texts[@]}"
check cppcheck cppcheck_all
check tidy tidy
exit "$failed"
