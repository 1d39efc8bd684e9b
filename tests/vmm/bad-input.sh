#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Usage: tests/vmm/bad-input.sh BUILD
#
# What a user can get wrong: each ends with status 1, one line on stderr that names the matter, and
# nothing left running. One line for each check.

set -u

build=$(cd "$1" && pwd) || exit 1
vmm=$build/examples/vmm/kvmas-vmm
place=$(mktemp -d) || exit 1
trap 'rm -rf "$place"' EXIT
failed=0

# expect NAME PATTERN COMMAND...
expect() {
    local name=$1 pattern=$2 status why=''
    shift 2
    timeout 20 "$@" >"$place/out" 2>"$place/err" </dev/null
    status=$?
    [[ $status = 1 ]] || why="status $status"
    [[ $(wc -l <"$place/err") = 1 ]] || why="not one line on stderr"
    grep -qE "$pattern" "$place/err" || why="stderr does not say /$pattern/"
    if [[ -z $why ]]; then
        echo "ok vmm/bad-input/$name"
    else
        cat "$place/err"
        echo "FAILED vmm/bad-input/$name: $why"
        failed=1
    fi
}

: >"$place/empty"
head -c 5000 /dev/zero >"$place/odd"
truncate -s 17M "$place/large"

expect firmware-missing 'missing|No such' "$vmm" --no-smm --firmware "$place/none"
expect firmware-empty 'empty' "$vmm" --no-smm --firmware "$place/empty"
expect firmware-odd '4 KiB' "$vmm" --no-smm --firmware "$place/odd"
expect firmware-large '16 MiB' "$vmm" --no-smm --firmware "$place/large"
expect memory-small 'size from 1M' "$vmm" --memory 1023K
expect memory-large 'to 3G' "$vmm" --memory 4G
expect memory-odd 'multiple of 4K' "$vmm" --memory 1048577
expect memory-no-number 'memory' "$vmm" --memory lots
expect merge-unknown 'sticky, eager or none' "$vmm" --merge lazy
expect merge-empty 'sticky, eager or none' "$vmm" --merge ''
expect merge-missing 'needs a value' "$vmm" --merge
expect boundary-odd 'multiple of 4K' "$vmm" --boundary 0xe8001
expect boundary-zero 'above 0' "$vmm" --boundary 0
expect boundary-high 'below 4G' "$vmm" --boundary 0x100000000
expect boundary-wraps 'below 4G' "$vmm" --boundary 0x1000000000000f000
expect boundary-no-number 'boundary hole' "$vmm" --boundary hole
expect boundary-bare-prefix 'as in 0xe8000' "$vmm" --boundary 0x
expect boundary-negative 'as in 0xe8000' "$vmm" --boundary=-4096
expect boundary-second-is-bad 'boundary 1:' "$vmm" --boundary 0xf0000 --boundary 1
many=()
for ((i = 1; i <= 65; i++)); do many+=(--boundary "${i}M"); done
expect boundaries-too-many 'no more than 64' "$vmm" "${many[@]}"
expect watch-zero 'whole seconds, 1 to 86400' "$vmm" --watch-dirty 0
expect watch-long 'whole seconds, 1 to 86400' "$vmm" --watch-dirty 86401
expect watch-fraction 'watch-dirty 0.5' "$vmm" --watch-dirty 0.5
expect watch-negative 'watch-dirty -1' "$vmm" --watch-dirty=-1
expect watch-no-number 'watch-dirty often' "$vmm" --watch-dirty often
expect watch-missing 'needs a value' "$vmm" --watch-dirty
expect dirty-log-unknown 'auto, manual, manual-set or ring' "$vmm" --dirty-log paper
expect dirty-log-empty 'auto, manual, manual-set or ring' "$vmm" --dirty-log ''
expect dirty-log-missing 'needs a value' "$vmm" --dirty-log
expect timeout-zero 'timeout 0: give whole seconds' "$vmm" --timeout 0
expect unknown-option 'help' "$vmm" --frobnicate

# The device is hidden, closed, or another one, in a mount namespace of the command's own.
if unshare --mount true 2>/dev/null; then
    expect kvm-missing '/dev/kvm' unshare --mount sh -c \
        'mount -t tmpfs tmpfs /dev && exec "$@"' sh "$vmm" --firmware seabios --no-smm
    expect kvm-no-permission '/dev/kvm' unshare --mount sh -c \
        'mount -t tmpfs tmpfs /dev && mknod -m 0 /dev/kvm c 10 232 &&
            exec setpriv --reuid 65534 --regid 65534 --clear-groups "$@"' sh \
        "$vmm" --firmware seabios --no-smm
    expect kvm-is-not-one '/dev/kvm|KVM' unshare --mount sh -c \
        'mount -t tmpfs tmpfs /dev && mknod /dev/kvm c 1 3 && exec "$@"' sh \
        "$vmm" --firmware seabios --no-smm
else
    echo "FAILED vmm/bad-input/kvm-missing: no mount namespaces here, run as root"
    failed=1
fi
if [[ -w /dev/kvm ]] && ! "$vmm" --probe >/dev/null 2>&1; then
    expect kvm-without-smm 'no-smm' "$vmm" --firmware seabios
fi
if pgrep -f "^$vmm" >/dev/null; then
    echo "FAILED vmm/bad-input/nothing-left: kvmas-vmm runs on"
    failed=1
else
    echo "ok vmm/bad-input/nothing-left"
fi
exit "$failed"
