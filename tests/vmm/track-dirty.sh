#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Usage: tests/vmm/track-dirty.sh BUILD
#
# Runs examples/track_dirty on /dev/kvm, if there is one, and in the lab: each round tells of the
# four pages that the guest wrote in it, and the copy comes out whole. One line for each.

set -u -o pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd) || exit 1
build=$(cd "$1" && pwd) || exit 1
program=$build/examples/track_dirty
logs=$build/log/vmm
failed=0

mkdir -p "$logs"

# What the guest wrote, by round. A KVM with two-dimensional paging also tells of what was only read
# or run, as the code at 0x1000 (arch/x86/kvm/mmu/spte.c, make_spte): that is left out.
rounds() {
    awk '/^written in round/ { round = $4 + 0 } /^  0x/ && $1 !~ /^0x1000-/ { print round, $1 }' "$1"
}

expected='1 0x20000-0x23fff
2 0x24000-0x27fff
3 0x28000-0x2bfff
4 0x2c000-0x2ffff'

# run NAME [COMMAND...]
run() {
    local name=track-dirty-$1 why=''
    shift
    "$@" "$program" >"$logs/$name.log" 2>&1 || why="status $?"
    [[ $(rounds "$logs/$name.log") = "$expected" ]] || why="not the pages that were written"
    grep -qx 'the copy is complete' "$logs/$name.log" || why="no complete copy"
    if [[ -z $why ]]; then
        echo "ok vmm/$name"
    else
        cat "$logs/$name.log"
        echo "FAILED vmm/$name: $why"
        failed=1
    fi
}

[[ ! -w /dev/kvm ]] || run on-dev-kvm
run in-the-lab "$root/tests/lab/run"
exit "$failed"
