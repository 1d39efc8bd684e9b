#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Usage: tests/topo/test-corpus.sh KVMAS-TOPO CORPUS [PREFIX]
#
# Tests of the checker: corpus.sh accepts a small corpus as it is, and finds each thing that is
# planted in it, with a FAILED line for just the case that has it.

set -u

here=$(realpath "$(dirname "$0")") || exit 1
topo=$1
corpus=$2
prefix=${3:-topo}
place=$(mktemp -d) || exit 1
trap 'rm -rf "$place"' EXIT
small=$place/small
failed=0

result() {
    if [[ -z $2 ]]; then
        echo "ok $prefix/checker/$1"
    else
        echo "FAILED $prefix/checker/$1: $2"
        failed=1
    fi
}

# Three machines, one of which has an alias of its own container, and a series of three steps.
make_small() {
    rm -rf "$small"
    mkdir -p "$small/static" "$small/series"
    cp "$corpus"/static/{aarch64_z2,aarch64_musca-b1,alpha_clipper}.* "$small/static" &&
        cp -r "$corpus/series/fw_clipper" "$small/series" &&
        chmod -R u+w "$small" &&
        grep -E '^(static/(aarch64_z2|aarch64_musca-b1|alpha_clipper)|series/fw_clipper) ' \
            "$corpus/INDEX" >"$small/INDEX"
}

# finds NAME CASES COMMAND: after the command, exactly these cases fail.
finds() {
    local output status failures
    make_small || { result "$1" "cannot copy"; return; }
    (cd "$small" && eval "$3") || { result "$1" "cannot plant"; return; }
    output=$("$here/corpus.sh" "$topo" "$small" t 2>/dev/null)
    status=$?
    failures=$(sed -n 's|^FAILED t/\([^:]*\):.*|\1|p' <<<"$output" | tr '\n' ' ')
    if [[ $failures != "$2" ]]; then
        result "$1" "fails: ${failures:-nothing}"
    elif [[ $status != $((${#2} > 0)) ]]; then
        result "$1" "status $status"
    else
        result "$1" ''
    fi
}

finds nothing-planted '' true
finds wrong-address 'flat/static/aarch64_z2 ' 'sed -i "s/^range 20000000/range 20000001/" static/aarch64_z2.flat'
finds wrong-kind 'flat/static/aarch64_z2 ' 'sed -i "s/ romd / rom /" static/aarch64_z2.flat'
finds wrong-view 'flat/static/aarch64_z2 ' 'sed -i "s/^as 2 1/as 2 0/" static/aarch64_z2.flat'
finds range-missing 'flat/static/aarch64_z2 ' 'sed -i "/^range 20000000/d" static/aarch64_z2.flat'
finds end-missing 'flat/static/aarch64_z2 ' 'sed -i "\$d" static/aarch64_z2.flat'
finds other-machine 'flat/static/aarch64_z2 ' 'cp static/alpha_clipper.topo static/aarch64_z2.topo'
finds topo-damaged 'flat/static/aarch64_z2 ' 'echo >>static/aarch64_z2.topo'
finds loop-planted 'flat/static/aarch64_musca-b1 ' \
    'sed -i "0,/^sub 21 /s//sub 21 21 0 0\\n&/" static/aarch64_musca-b1.topo'
finds topo-missing 'INDEX flat/static/aarch64_z2 ' 'rm static/aarch64_z2.topo'
finds flat-missing 'INDEX flat/static/aarch64_z2 ' 'rm static/aarch64_z2.flat'
finds both-missing 'INDEX flat/static/aarch64_z2 ' 'rm static/aarch64_z2.*'
finds not-listed 'INDEX ' 'sed -i "/aarch64_z2/d" INDEX'
finds index-missing 'INDEX ' 'rm INDEX'
finds step-wrong 'flat/series/fw_clipper/01 replay/series/fw_clipper ' \
    'sed -i "0,/^range /s/^range [0-9a-f]*/range 1/" series/fw_clipper/01.flat'
finds step-missing 'INDEX flat/series/fw_clipper/01 replay/series/fw_clipper ' \
    'rm series/fw_clipper/01.*'
exit "$failed"
