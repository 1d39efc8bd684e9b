#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Usage: tests/slots/test.sh COMPARE QEMU-TRACE
#
# Tests of the checker: compare accepts a trace whose final slots are as expected, counts QEMU's
# trace as it was counted by hand, and rejects a trace with any one thing planted.

set -u

compare=$1
qemu=$2
failed=0

fail() {
    echo "FAILED: $*"
    failed=1
}

# What a kvmas-vmm would print that makes each final slot at once.
good_trace() {
    local as
    for as in 0 1; do
        echo "slot create as=$as id=0 gpa=0x0 size=0x$((as ? 12 : 10))0000 ram=ram+0x0 flags=0x0"
        echo "slot create as=$as id=1 gpa=0xc0000 size=0x28000 ram=ram+0xc0000 flags=0x2"
        echo "slot create as=$as id=2 gpa=0xe8000 size=0x8000 ram=ram+0xe8000 flags=0x0"
        echo "slot create as=$as id=3 gpa=0xf0000 size=0x10000 ram=ram+0xf0000 flags=0x2"
        echo "slot create as=$as id=4 gpa=0x100000 size=0x3f00000 ram=ram+0x100000 flags=0x0"
        echo "slot create as=$as id=5 gpa=0xfffc0000 size=0x40000 ram=rom+0x0 flags=0x2"
    done | sed 's/size=0x120000/size=0xc0000/; s/size=0x100000/size=0xa0000/'
    echo "bytes_torn_live 0"
}

accepts() {
    local output
    output=$("$compare" <(sed "$2" <<<"$good"; [[ -z ${3-} ]] || echo "$3") "$qemu") || fail "$1: $output"
}

rejects() {
    local output
    ! output=$("$compare" <(sed "$2" <<<"$good"; [[ -z ${3-} ]] || echo "$3") "$qemu") || fail "$1: $output"
}

# limits NAME STATUS ZAPS CALLS TORN: of the good trace and one delete and create more.
limits() {
    local name=$1 status=$2 output
    shift 2
    output=$("$compare" <(echo "${good/torn_live 0/torn_live 66060288}"; echo "$two") \
        "$qemu" "$@")
    [[ $? = "$status" ]] || fail "$name: status not $status: $output"
}

counts() {
    "$compare" <(echo "$good") "$qemu" | grep -Eq "^ *$1 .* $2\$" || fail "QEMU's $1 are not $2"
}

good=$(good_trace)
two='slot delete as=0 id=4 gpa=0x100000 size=0x3f00000 ram=ram+0x100000 flags=0x0
slot create as=0 id=4 gpa=0x100000 size=0x3f00000 ram=ram+0x100000 flags=0x0'

accepts "as expected" ''
accepts "guest output between the lines" '3i SeaBIOS (version 1)'
accepts "a slot in two halves" \
    's/size=0x3f00000/size=0x1000000/' "$(
        for as in 0 1; do
            echo "slot create as=$as id=6 gpa=0x1100000 size=0x2f00000 ram=ram+0x1100000 flags=0x0"
        done)"
accepts "an operation that KVM refused" '' \
    'slot create as=0 id=9 gpa=0xa0000 size=0x20000 ram=ram+0xa0000 flags=0x0 error=-12'
accepts "torn bytes that were said" 's/^bytes_torn_live 0/bytes_torn_live 66060288/' "$two"

rejects "torn bytes that were not said" '' "$two"
rejects "closed SMRAM has a slot in space 0" '' \
    'slot create as=0 id=9 gpa=0xa0000 size=0x20000 ram=ram+0xa0000 flags=0x0'
rejects "SMRAM has no slot in space 1" '/as=1 id=0/s/0xc0000/0xa0000/'
rejects "shadow RAM is writable in space 0" '/as=0 id=1/s/flags=0x2/flags=0x0/'
rejects "shadow RAM is writable in space 1" '/as=1 id=3/s/flags=0x2/flags=0x0/'
rejects "more RAM is read-only" '/as=1 id=2/s/flags=0x0/flags=0x2/'
rejects "other bytes of RAM" 's/ram=ram+0x100000/ram=ram+0x200000/'
rejects "another block" 's/ram=rom+/ram=ram+/'
rejects "the ROM is writable" '/as=0 id=5/s/flags=0x2/flags=0x0/'
rejects "RAM is short" '/as=0 id=4/s/0x3f00000/0x3e00000/'
rejects "a slot too many" '' \
    'slot create as=1 id=9 gpa=0x4000000 size=0x1000 ram=ram+0x0 flags=0x0'
rejects "space 1 has no slots" '/as=1/d'
rejects "a line that makes no sense" '2s/gpa=/gpu=/'
rejects "a delete of no slot" '' 'slot delete as=0 id=9 gpa=0x0 size=0x1000 ram=ram+0x0 flags=0x0'
rejects "no slots at all" '/^slot/d'

limits "limits that hold exactly" 0 1 14 66060288
limits "a zap event too many" 1 0 14 66060288
limits "a slot call too many" 1 1 13 66060288
limits "a torn byte too many" 1 1 14 66060287
limits "a limit that is no number" 1 1 14 few
limits "a limit is missing" 1 1 14

accepts "both traces in one file" '' "$(cat "$qemu")"
counts "zap events" 23
counts "slot calls" 58
counts "deletes" 23
counts "creates" 35
counts "in MiB, rounded" 448

((!failed)) && echo "compare finds what it must find"
exit "$failed"
