#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Usage: tests/topo/series.sh KVMAS-TOPO [PREFIX]
#
# Changes that no machine of the corpus makes: each folder of series/ is one machine in successive
# states, and a live tree that is brought from one to the next (replay) must show just what each
# state shows when it is built from nothing (flat). What flat says is another test's matter.

set -u

topo=$(realpath "$1") || exit 1
prefix=${2:-topo}
cd "$(dirname "$0")/series" || exit 1
place=$(mktemp -d) || exit 1
trap 'rm -rf "$place"' EXIT
failed=0

for series in */; do
    series=${series%/}
    why=''
    for file in "$series"/*.topo; do
        "$topo" flat "$file" || echo "flat $file: status $?"
    done >"$place/expected" 2>&1
    "$topo" replay "$series"/*.topo >"$place/out" 2>&1 || why="status $?: $(tail -n 1 "$place/out")"
    cmp -s "$place/out" "$place/expected" ||
        why="${why:-differs}: $(diff "$place/expected" "$place/out" | sed -n 2p)"
    grep -q '^range ' "$place/expected" || why='shows nothing'
    if [[ -z $why ]]; then
        echo "ok $prefix/series/$series"
    else
        echo "FAILED $prefix/series/$series: $why"
        failed=1
    fi
done
exit "$failed"
