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
kvm_drivers=(test-claims test-private test-mapping test-plan test-moves test-reserve test-slots test-undo test-kvm
    test-kvm-new test-log test-log-ways test-ring test-ring-forged test-hostile test-policy
    test-boundary test-budget test-gate test-gate-commit test-kvm-model test-log-faults
    test-log-apply test-apply test-log-cost)
dirty_drivers=(test-dirty test-sources test-client test-taking test-sync test-ring test-log-ways
    test-log-faults test-kvm-model)
dma_drivers=(test-dma test-dma-exchange test-map test-map-life test-cache test-dma-random)
access_drivers=(test-access test-access-ends test-access-random test-copy test-dispatch
    test-exit)
channel_drivers=(test-channel test-channel-order test-channel-place test-channel-spaces
    test-channel-memory test-channel-limits test-channel-faults test-channel-hostile test-channel-random
    test-channel-race)
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
declare -A normal=()  # milliseconds that a driver takes without a fault
declare -A noticed=() # the quick driver that noticed the last fault in a file
quick=1000

# Runs a driver: with seeds, where it takes them. test-model's are too short for it to judge by
# shares: what it notices is a difference. One that waits for good is given up after several times
# what it takes without a fault.
drive() {
    # A fault may have it ask for memory without end; the planner's map much, and fill little.
    local seed steps=90000 seeds=(1) memory=4000000 seconds=60
    [[ ! -v normal[$1] ]] || seconds=$((5 + 4 * normal[$1] / 1000))
    case $1 in
    test-plan | test-moves | test-views-stress) memory=unlimited ;;
    test-model) seeds=(1 1001 2001 3001) ;;
    test-kvm-model) steps=30000 ;;
    test-channel-random) steps=40000 ;;
    test-channel-race) steps=8000 ;;
    esac
    for seed in "${seeds[@]}"; do
        { (ulimit -v "$memory" && KVMAS_SEED=$seed KVMAS_STEPS=$steps KVMAS_SECONDS=3 \
            KVMAS_COMMITS=20000 exec timeout "$seconds" "$folder/driver" >"$folder/log" 2>&1); } 2>/dev/null || return
    done
}

# Those for a file: the one that noticed the last fault there, if it is quick, then the quickest.
drivers_for() {
    local driver drivers=("${tree_drivers[@]}")
    case $1 in
    channel.c | channel-edit.c | answering.c) drivers=("${channel_drivers[@]}") ;;
    kvm/placement.c | kvm/channels.c | kvm/coalesced.c) drivers=("${channel_drivers[@]}") ;;
    kvm/mapping.c) drivers=("${kvm_drivers[@]}" test-channel-spaces test-channel-random) ;;
    kvm/tie.c | kvm/log.c) drivers=("${kvm_drivers[@]}" test-channel-faults test-channel-memory) ;;
    kvm/*) drivers=("${kvm_drivers[@]}") ;;
    pins.? | reader.c) drivers=("${reader_drivers[@]}") ;;
    object.c) drivers+=("${reader_drivers[@]}") ;;
    root.c) drivers+=(test-views-stress) ;;
    bitmap.c | dirty.c | sources.c | taking.c | sync.c) drivers=("${dirty_drivers[@]}") ;;
    ops.c | copy.c) drivers=("${access_drivers[@]}") ;;
    dispatch.c) drivers=("${access_drivers[@]}" "${channel_drivers[@]}") ;;
    exit.c) drivers=("${access_drivers[@]}" test-ring) ;;
    ram.c | guest_memfd.c) drivers=(test-guest-memfd) ;;
    memory.c | dma.c | map.c | cache.c) drivers=("${dma_drivers[@]}") ;;
    esac
    for driver in "${drivers[@]}"; do
        if [[ $driver = "${noticed[$1]-}" ]]; then
            echo "0 $driver"
        else
            echo "$((1 + ${normal[$driver]-0})) $driver"
        fi
    done | sort -n | cut -d ' ' -f 2
}

# link_driver DRIVER [OBJECT]...: with these before the library.
link_driver() {
    local driver=$1 objects=("$build/tests/$1.p"/*.o)
    shift
    [[ ! -e $folder/planted/$driver.o ]] || objects=("$folder/planted/$driver.o")
    cc "${flags[@]}" -Wl,--strip-debug -o "$folder/driver" "${objects[@]}" "$@" \
        "$build/tests/libcommon.a" "$build/src/libkvmas.a" -lcmocka -lpthread 2>"$folder/log"
}

# Whether the drivers for a file notice nothing on what is given to the linker first: 0; 1 if one
# does; 2 if it does not link.
drive_all() {
    local file=$1 driver
    shift
    for driver in $(drivers_for "$file"); do
        link_driver "$driver" "$@" || return 2
        drive "$driver" && continue
        ((normal[$driver] >= quick)) || noticed[$file]=$driver
        return 1
    done
}

# Without a fault each must come to its end; and how long does that take?
measure() {
    local driver start
    for driver in $(drivers_for "$1"); do
        [[ ! -v normal[$driver] ]] || continue
        start=${EPOCHREALTIME/./}
        link_driver "$driver" && drive "$driver" || return
        normal[$driver]=$(((${EPOCHREALTIME/./} - start) / 1000))
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
    if ! measure "$2"; then
        echo "FAILED planted: without any fault a driver for $2 fails already"
        exit 1
    fi
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

while IFS='|' read -r name file expression; do
    [[ -z $name || $name = '#'* || ($names != '  ' && $names != *" $name "*) ]] ||
        judge "$name" "$file" "$expression"
done <"$table"
exit "$failed"
