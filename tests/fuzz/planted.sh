#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Usage: tests/fuzz/planted.sh BUILD [NAME]...
#
# Are the random steps of test-model and test-kvm-model, and the tests beside them, good for
# anything? The library is built with one fault after the other planted in it (planted.txt), and
# each must be noticed: one of the tests for its file fails, or does not come to an end. Prints a
# line `ok planted/NAME` or `FAILED planted/NAME: why` for each, or for the NAMEs given. BUILD is a
# folder in which meson has built everything without sanitizers; nothing in it, or in the sources,
# is changed.
#
# Status: 0 if all were noticed.

set -u

build=$(cd "${1?usage: planted.sh BUILD [NAME]...}" && pwd) || exit 1
shift
names=" $* "
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
table=tests/fuzz/planted.txt
tree_drivers=(test-model test-circle)
kvm_drivers=(test-mapping test-plan test-moves test-reserve test-slots test-undo test-kvm
    test-kvm-new test-log test-log-ways test-ring test-ring-forged test-hostile test-policy
    test-boundary test-budget test-gate test-gate-commit test-kvm-model test-log-faults
    test-log-apply test-apply test-log-cost)
dirty_drivers=(test-dirty test-sources test-client test-taking test-sync test-ring test-log-ways
    test-log-faults test-kvm-model)
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
failed=0

# Runs a driver: with seeds, where it takes them. test-model's are too short for it to judge by
# shares: what it notices is a difference.
drive() {
    # A fault may have it ask for memory without end; the planner's map much, and fill little.
    local seed steps=90000 seeds=(1) memory=4000000
    case $1 in
    test-plan | test-moves) memory=unlimited ;;
    test-model) seeds=(1 1001 2001 3001) ;;
    test-kvm-model) steps=30000 ;;
    esac
    for seed in "${seeds[@]}"; do
        { (ulimit -v "$memory" && KVMAS_SEED=$seed KVMAS_STEPS=$steps exec timeout 60 \
            "$folder/driver" >"$folder/log" 2>&1); } 2>/dev/null || return
    done
}

# Whether the drivers for a file come to their end, without a fault, on what is given to the linker
# first.
drive_all() {
    local driver drivers=("${tree_drivers[@]}")
    case $1 in
    kvm/*) drivers=("${kvm_drivers[@]}") ;;
    bitmap.c | dirty.c | sources.c | taking.c | sync.c | exit.c) drivers=("${dirty_drivers[@]}") ;;
    esac
    shift
    for driver in "${drivers[@]}"; do
        cc -o "$folder/driver" "$build/tests/$driver.p"/*.o "$@" "$build/tests/libcommon.a" \
            "$build/src/libkvmas.a" -lcmocka -lpthread 2>"$folder/log" || return 2
        drive "$driver" || return 1
    done
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
        -c "$folder/planted.c" -o "$folder/planted.o" 2>"$folder/log" && return
    echo 'the planted library does not build'
    return 1
}

judge() {
    local why
    if why=$(plant "$2" "$3"); then
        drive_all "$2" "$folder/planted.o"
        case $? in
        0) why='not noticed' ;;
        1) why= ;;
        *) why='the planted library does not link' ;;
        esac
    fi
    if [[ -z $why ]]; then
        echo "ok planted/$1"
        return
    fi
    echo "FAILED planted/$1: $why"
    failed=1
}

if ! drive_all tree || ! drive_all kvm/ || ! drive_all dirty.c; then
    echo 'FAILED planted: without any fault a driver fails already'
    exit 1
fi
while IFS='|' read -r name file expression; do
    [[ -z $name || $name = '#'* || ($names != '  ' && $names != *" $name "*) ]] ||
        judge "$name" "$file" "$expression"
done <"$table"
exit "$failed"
