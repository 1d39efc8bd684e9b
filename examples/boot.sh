#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Usage: examples/boot.sh [own|seabios] [OPTION]...
#
# Builds kvmas-vmm and boots firmware with SMM: SeaBIOS (the default), or the project's own
# (examples/firmware). On /dev/kvm if it has two address spaces and SMM, else in the lab of
# tests/lab, a small VM whose KVM has both. Says which, and why; prints every slot operation, the
# final spaces, views and slots, and the counters; and checks from the host's side that SMM did what
# it must. SeaBIOS's slots are then compared with QEMU's (tests/slots). What is missing on a fresh
# Debian 12 is installed, as root or with sudo.
#
# OPTIONs go to kvmas-vmm, behind those given here; see kvmas-vmm --help. With --no-smm or another
# --memory there is no comparison with QEMU.
#
# The build is in build/, or in $KVMAS_BUILD_DIR; what was printed is there too, as boot-own.txt or
# boot-seabios.txt.
#
# Status: 0 if all went as it must.

set -u -o pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd) || exit 1
build=${KVMAS_BUILD_DIR:-$root/build}
packages=(meson ninja-build gcc libc6-dev binutils pkg-config libcmocka-dev)
rom=/usr/share/seabios/bios-256k.bin
seconds=90
stats=(commits slot_creates slot_deletes slot_moves slot_flags)
stats+=(bytes_torn_live vcpu_stops exits exits_in_smm smis)

fail() {
    echo "boot.sh: $*" >&2
    exit 1
}

help() {
    sed -n '4,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
}

has_option() {
    local option wanted=$1
    for option in "${options[@]}"; do
        [[ $option != "$wanted" && $option != "$wanted="* ]] || return 0
    done
    return 1
}

build_all() {
    [[ -e $build/build.ninja ]] || meson setup "$build" "$root" || return
    ninja -C "$build" examples/vmm/kvmas-vmm examples/firmware/own.bin tests/slots/compare
}

# Without SMM any KVM that works will do; a line that begins with "kvm:" says that it does.
choose_kvm() {
    local can
    if can=$("$vmm" --probe 2>&1); then
        echo "boot.sh: on /dev/kvm: $can"
    elif has_option --no-smm && [[ $can = kvm:* ]]; then
        echo "boot.sh: on /dev/kvm: $can; --no-smm needs no more"
    else
        echo "boot.sh: in the lab: two address spaces and SMM are needed, and /dev/kvm gives: $can"
        launcher=("$root/tests/lab/run" --timeout $((seconds + 30)) --file "$firmware_file")
    fi
}

boot() {
    "${launcher[@]}" "$vmm" "${arguments[@]}" | tee "$output"
}

check_stats() {
    local name
    for name in "${stats[@]}"; do
        grep -aq "^$name [0-9]*\$" "$output" || fail "the counter $name is missing in the output"
    done
}

firmware=seabios
case ${1-} in
own | seabios) firmware=$1; shift ;;
--help) help; exit 0 ;;
'' | --*) ;;
*) fail "$1: give own or seabios, or options of kvmas-vmm; see --help" ;;
esac
options=("$@")

[[ $firmware = own ]] || packages+=(seabios)
"$root/tests/setup.sh" "${packages[@]}" || exit 1
build_all || fail "the build failed, see above"

vmm=$build/examples/vmm/kvmas-vmm
output=$build/boot-$firmware.txt
firmware_file=$rom
[[ $firmware = seabios ]] || firmware_file=$build/examples/firmware/own.bin
arguments=(--firmware "$firmware" --check "$firmware" --timeout "$seconds")
arguments+=(--trace-slots --stats --dump)
[[ $firmware = own ]] || arguments+=(--until "No bootable device")
arguments+=("${options[@]}")

launcher=()
choose_kvm
boot || fail "the boot of $firmware failed, status $?; see above"
check_stats

if [[ $firmware = own ]]; then
    echo "boot.sh: own: ok"
    exit 0
fi
if has_option --no-smm || has_option --memory; then
    echo "boot.sh: seabios: ok; not compared with QEMU, whose trace is of 64 MiB with SMM"
    exit 0
fi
echo "boot.sh: the slots beside those of QEMU for the same firmware, 64 MiB, -nodefaults:"
"$build/tests/slots/compare" "$output" "$root/tests/slots/seabios-pc-nodefaults-slots.txt" ||
    fail "the slots are not as expected, see above"
echo "boot.sh: seabios: ok"
