#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Usage: tests/fuzz/planted.sh BUILD [NAME]...
#
# Are the random steps of test-model good for anything? The library is built with one fault after
# the other planted in it (planted.txt), and each must be noticed: the driver fails, or does not
# come to an end. Prints a line `ok planted/NAME` or `FAILED planted/NAME: why` for each, or for the
# NAMEs given. BUILD is a folder in which meson has built everything without sanitizers; nothing in
# it, or in the sources, is changed.
#
# Status: 0 if all were noticed.

set -u

build=$(cd "${1?usage: planted.sh BUILD [NAME]...}" && pwd) || exit 1
shift
names=" $* "
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
table=tests/fuzz/planted.txt
steps=50000
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
failed=0

# Too short for the driver to judge by shares (test-model.c): what it notices is a difference.
drive() {
    { KVMAS_SEED=1 KVMAS_STEPS=$steps timeout 60 "$1" >"$folder/log" 2>&1; } 2>/dev/null
}

# The planted object comes first: the one in the archive, with the same symbols, is left there.
plant() {
    local file=$1 expression=$2
    sed -e "$expression" "src/$file" >"$folder/planted.c" || return
    if cmp -s "src/$file" "$folder/planted.c"; then
        echo 'the expression does not apply'
        return 1
    fi
    cc -std=gnu11 -O1 -D_GNU_SOURCE -w -Iinclude -Isrc -I"src/$(dirname "$file")" \
        -c "$folder/planted.c" -o "$folder/planted.o" 2>"$folder/log" &&
        cc -o "$folder/driver" "$build"/tests/test-model.p/*.o "$folder/planted.o" \
            "$build/src/libkvmas.a" -lcmocka -lpthread 2>"$folder/log" && return
    echo 'the planted library does not build'
    return 1
}

judge() {
    local why
    if ! why=$(plant "$2" "$3"); then
        echo "FAILED planted/$1: $why"
    elif drive "$folder/driver"; then
        echo "FAILED planted/$1: not noticed in $steps steps"
    else
        echo "ok planted/$1"
        return
    fi
    failed=1
}

if ! drive "$build/tests/test-model"; then
    echo 'FAILED planted: without any fault the driver fails already'
    exit 1
fi
while IFS='|' read -r name file expression; do
    [[ -z $name || $name = '#'* || ($names != '  ' && $names != *" $name "*) ]] ||
        judge "$name" "$file" "$expression"
done <"$table"
exit "$failed"
