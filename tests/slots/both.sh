#!/bin/sh
# SPDX-License-Identifier: MIT
# shellcheck shell=dash
#
# Usage: tests/slots/both.sh ROM VMM [ARG]...
#
# Runs VMM with its ARGs, then QEMU with the same ROM (SeaBIOS), a pc with SMM, 64 MiB and no
# devices, until it finds nothing to boot: on the same KVM, so that compare sees both side by side.
# Prints what VMM prints, then a line for each memory slot that QEMU set, from its trace event.
# For /dev/kvm, and for the lab, whose shell and tools are busybox's, in another folder than QEMU.
#
# Status: VMM's; 1 if QEMU did not get there.

set -u

PATH=$PATH:/usr/bin
rom=$1
seconds=90
shift
"$@" || exit

place=$(mktemp -d) || exit 1
trap 'rm -rf "$place"' EXIT
: >"$place/debug"
qemu-system-x86_64 -accel kvm -machine pc,smm=on -m 64 -bios "$rom" -no-user-config -nodefaults \
    -display none -debugcon "file:$place/debug" -global isa-debugcon.iobase=0x402 \
    -trace kvm_set_user_memory -D "$place/trace" >"$place/messages" 2>&1 &
qemu=$!
while [ "$seconds" -gt 0 ] && kill -0 "$qemu" 2>/dev/null &&
    ! grep -q 'No bootable device' "$place/debug"; do
    sleep 1
    seconds=$((seconds - 1))
done
kill "$qemu" 2>/dev/null
wait "$qemu"
if ! grep -q 'No bootable device' "$place/debug"; then
    echo "both.sh: QEMU did not come to \"No bootable device\":"
    cat "$place/messages" "$place/debug"
    exit 1
fi
grep '^kvm_set_user_memory ' "$place/trace"
