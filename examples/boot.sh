#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Usage: examples/boot.sh [own|seabios] [OPTION]...
#
# Builds kvmas-vmm and boots firmware with SMM: SeaBIOS (the default), or the project's own
# (examples/firmware). On /dev/kvm if it has two address spaces and SMM, else in the lab of
# tests/lab, a small VM whose KVM has both. Says which, and why; prints every slot operation, the
# final spaces, views and slots, and the counters; and checks from the host's side that SMM did what
# it must. QEMU then boots the same SeaBIOS on the same KVM, and the slots of both are compared and
# counted (tests/slots). What is missing on a fresh Debian 12 is installed, as root or with sudo.
#
# OPTIONs go to kvmas-vmm, behind those given here; see kvmas-vmm --help. With --no-smm or another
# --memory there is no comparison with QEMU. How much may be done to the slots at most is checked
# where neither --merge nor --boundary is given, and with
#
#   --boundary 0xe8000 --boundary 0xf0000      what SeaBIOS will switch is known beforehand
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
qemu_files=(/usr/bin/qemu-system-x86_64 /usr/share/qemu/kvmvapic.bin)
seconds=90
stats=(commits slot_creates slot_deletes slot_moves slot_flags zap_events)
stats+=(bytes_torn_live vcpu_stops vcpu_stop_ns log_reads log_clears)
stats+=(ring_entries ring_strays ring_resets ring_full mmio_exits pio_exits coalesced_writes)
stats+=(post_codes exits exits_in_smm smis)

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
        launcher=("$root/tests/lab/run" --timeout $((2 * seconds + 60)) --file "$firmware_file")
    fi
}

with_qemu() {
    [[ $firmware = seabios ]] && ! has_option --no-smm && ! has_option --memory
}

# In the lab one machine runs both, so that they have the same KVM.
add_qemu() {
    local file
    if ((${#launcher[@]})); then
        for file in "$vmm" "${qemu_files[@]}"; do
            launcher+=(--file "$file")
        done
    fi
    launcher+=("$root/tests/slots/both.sh" "$rom")
}

# The options that say how slots are merged, in order.
merging() {
    grep -oE -- '--(merge|boundary)[= ][^ ]+' <<<"${options[*]}" | tr '=' ' ' | sort | xargs
}

# Zap events, slot calls, bytes torn.
limits() {
    case $(merging) in
    '') echo 12 40 262144 ;;
    '--boundary 0xe8000 --boundary 0xf0000') echo 13 41 0 ;;
    esac
}

boot() {
    "${launcher[@]}" "$vmm" "${arguments[@]}" | tee "$output"
}

check_stats() {
    local name
    for name in "${stats[@]}"; do
        grep -aq "^$name [0-9]*\$" "$output" || fail "the counter $name is missing in the output"
    done
    # The one vCPU's own thread is the one that commits.
    grep -aq '^vcpu_stops 0$' "$output" || fail "commits have held vCPUs out, of which there are none"
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
! with_qemu || packages+=(qemu-system-x86)
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
! with_qemu || add_qemu
boot || fail "the boot of $firmware failed, status $?; see above"
check_stats

if ! with_qemu; then
    [[ $firmware = own ]] || echo "boot.sh: not compared with QEMU: that is for 64 MiB with SMM"
    echo "boot.sh: $firmware: ok"
    exit 0
fi
echo "boot.sh: the slots beside those of QEMU for the same firmware, 64 MiB, -nodefaults:"
read -r -a most <<<"$(limits)"
"$build/tests/slots/compare" "$output" "$output" "${most[@]}" ||
    fail "the slots are not as expected, see above"
echo "boot.sh: seabios: ok"
