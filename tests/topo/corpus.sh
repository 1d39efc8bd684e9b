#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Usage: tests/topo/corpus.sh KVMAS-TOPO CORPUS [PREFIX]
#
# Compares the views of each machine of a corpus with those that QEMU printed, byte for byte: each
# file by itself (flat), and each series as one machine that runs (replay). The corpus's INDEX says
# what must be there. One line for each comparison, and a count.

set -u

topo=$(realpath "$1") || exit 1
cd "$2" || exit 1
prefix=${3:-topo}
place=$(mktemp -d) || exit 1
trap 'rm -rf "$place"' EXIT
passed=0
failed=0

result() {
    if [[ -z $2 ]]; then
        echo "ok $prefix/$1"
        passed=$((passed + 1))
    else
        echo "FAILED $prefix/$1: $2"
        failed=$((failed + 1))
    fi
}

# compare NAME STATUS: what the tool printed with what it should have.
compare() {
    local why=''
    cmp -s "$place/out" "$place/expected" ||
        why="differs: $(diff "$place/expected" "$place/out" | sed -n 2p)"
    [[ $2 = 0 ]] || why="status $2: $(head -n 1 "$place/err")"
    result "$1" "$why"
}

# single CASE: a file by itself. A missing .flat is not an empty one: every .flat has a last line.
single() {
    local case=$1 status
    "$topo" flat "$case.topo" >"$place/out" 2>"$place/err"
    status=$?
    cat "$case.flat" >"$place/expected" 2>/dev/null || echo "no $case.flat" >"$place/expected"
    compare "flat/$case" "$status"
}

# steps SERIES COUNT: the names of its files, by INDEX and not by what is there.
steps() {
    local i
    for ((i = 0; i < $2; i++)); do
        printf '%s/%02d\n' "$1" "$i"
    done
}

series() {
    local cases case status
    mapfile -t cases < <(steps "$1" "$2")
    for case in "${cases[@]}"; do
        single "$case"
    done
    "$topo" replay "${cases[@]/%/.topo}" >"$place/out" 2>"$place/err"
    status=$?
    cat "${cases[@]/%/.flat}" >"$place/expected" 2>/dev/null
    compare "replay/$1" "$status"
}

# Files that INDEX does not know would never be compared.
check_listed() {
    local listed
    listed=$(sed '/^#/d' INDEX | while IFS='| ' read -r case count _; do
        case $case in
        series/*) steps "$case" "$count" ;;
        *) echo "$case" ;;
        esac
    done | sed 's/.*/&.flat\n&.topo/' | sort)
    result INDEX "$(diff <(find static series -type f | sort) <(echo "$listed") | sed -n 2p)"
}

[[ -r INDEX ]] || { echo "FAILED $prefix/INDEX: missing"; exit 1; }
check_listed
while IFS='| ' read -r case count _; do
    case $case in
    '#'*) ;;
    series/*) series "$case" "$count" ;;
    *) single "$case" ;;
    esac
done <INDEX
echo "corpus: $passed passed, $failed failed"
((failed == 0 && passed > 0))
