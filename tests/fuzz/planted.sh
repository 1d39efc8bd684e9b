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
# is changed. Built with ThreadSanitizer, accesses are planted that are in the wrong order
# (planted-tsan.txt), which a processor may not show.
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
dma_drivers=(test-dma test-dma-exchange test-map test-map-life test-cache test-dma-random)
access_drivers=(test-access test-access-ends test-access-random test-copy test-dispatch
    test-exit)
reader_drivers=(test-pins test-pins-between test-reader-pins test-reader-wait test-pins-refused
    test-views-memory test-views-flash test-views-stress test-reader)
flags=()
if nm "$build/src/libkvmas.a" 2>/dev/null | grep -q __tsan_init; then
    flags=(-fsanitize=thread)
    table=tests/fuzz/planted-tsan.txt
    tree_drivers=(test-views-stress)
    reader_drivers=(test-views-stress)
fi
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
failed=0

# Runs a driver: with seeds, where it takes them. test-model's are too short for it to judge by
# shares: what it notices is a difference.
drive() {
    # A fault may have it ask for memory without end; the planner's map much, and fill little.
    local seed steps=90000 seeds=(1) memory=4000000
    case $1 in
    test-plan | test-moves | test-views-stress) memory=unlimited ;;
    test-model) seeds=(1 1001 2001 3001) ;;
    test-kvm-model) steps=30000 ;;
    esac
    for seed in "${seeds[@]}"; do
        { (ulimit -v "$memory" && KVMAS_SEED=$seed KVMAS_STEPS=$steps KVMAS_SECONDS=3 \
            KVMAS_COMMITS=20000 exec timeout 60 "$folder/driver" >"$folder/log" 2>&1); } 2>/dev/null || return
    done
}

# Whether the drivers for a file come to their end, without a fault, on what is given to the linker
# first.
drive_all() {
    local driver objects drivers=("${tree_drivers[@]}")
    case $1 in
    kvm/*) drivers=("${kvm_drivers[@]}") ;;
    pins.? | reader.c) drivers=("${reader_drivers[@]}") ;;
    object.c) drivers+=("${reader_drivers[@]}") ;;
    root.c) drivers+=(test-views-stress) ;;
    bitmap.c | dirty.c | sources.c | taking.c | sync.c) drivers=("${dirty_drivers[@]}") ;;
    ops.c | copy.c | dispatch.c) drivers=("${access_drivers[@]}") ;;
    exit.c) drivers=("${access_drivers[@]}" test-ring) ;;
    memory.c | dma.c | map.c | cache.c) drivers=("${dma_drivers[@]}") ;;
    esac
    shift
    for driver in "${drivers[@]}"; do
        objects=("$build/tests/$driver.p"/*.o)
        [[ ! -e $folder/planted/$driver.o ]] || objects=("$folder/planted/$driver.o")
        cc "${flags[@]}" -o "$folder/driver" "${objects[@]}" "$@" "$build/tests/libcommon.a" \
            "$build/src/libkvmas.a" -lcmocka -lpthread 2>"$folder/log" || return 2
        drive "$driver" || return 1
    done
}

# compile SOURCE OBJECT: with the planted header, if it is one.
compile() {
    cc "${flags[@]}" -std=gnu11 -O1 -D_GNU_SOURCE -w -Iinclude -I"$folder/src" \
        -I"$folder/src/$(dirname "$file")" -Itests -c "$1" -o "$folder/planted/$2.o" 2>"$folder/log"
}

# The planted objects come first: those in the archive, with the same symbols, are left there. For
# pins.h these are all that pin something, and the test that does.
plant() {
    local file=$1 expression=$2 source sources=("$1")
    rm -rf "$folder/src" "$folder/planted"
    mkdir "$folder/planted"
    cp -r src "$folder/src"
    sed -i -e "$expression" "$folder/src/$file" || return
    if cmp -s "src/$file" "$folder/src/$file"; then
        echo 'the expression does not apply'
        return 1
    fi
    if [[ $file = pins.h ]]; then
        mapfile -t sources < <(cd src && grep -lE 'kas_(un)?pin|kas_space_pin_view' ./*.c ./*/*.c)
        compile tests/test-pins.c test-pins && compile tests/test-pins-between.c test-pins-between ||
            sources=(none)
    fi
    for source in "${sources[@]}"; do
        compile "$folder/src/$source" "lib-${source//\//-}" && continue
        echo 'the planted library does not build'
        return 1
    done
}

judge() {
    local why
    if why=$(plant "$2" "$3"); then
        drive_all "$2" "$folder"/planted/lib-*.o
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

files=(pins.c tree)
((${#flags[@]})) || files+=(kvm/ dirty.c dispatch.c dma.c)
for file in "${files[@]}"; do
    drive_all "$file" && continue
    echo 'FAILED planted: without any fault a driver fails already'
    exit 1
done
while IFS='|' read -r name file expression; do
    [[ -z $name || $name = '#'* || ($names != '  ' && $names != *" $name "*) ]] ||
        judge "$name" "$file" "$expression"
done <"$table"
exit "$failed"
