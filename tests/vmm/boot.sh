#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Usage: tests/vmm/boot.sh BUILD
#
# Boots real firmware, as examples/boot.sh does for a user, and shows that its checks can fail: with
# a fault planted each run must end with just the checks failing that see it. One line for each.

set -u -o pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd) || exit 1
build=$(cd "$1" && pwd) || exit 1
vmm=$build/examples/vmm/kvmas-vmm
rom=/usr/share/seabios/bios-256k.bin
logs=$build/log/vmm
failed=0

mkdir -p "$logs"

report() {
    local name=$1 why=${2-}
    if [[ -z $why ]]; then
        echo "ok vmm/$name"
        return
    fi
    tail -n 40 "$logs/$name.log"
    echo "FAILED vmm/$name: $why"
    failed=1
}

boot() {
    local name=$1 why=''
    shift
    KVMAS_BUILD_DIR=$build "$root/examples/boot.sh" "$@" >"$logs/$name.log" 2>&1 ||
        why="status $?"
    report "$name" "$why"
}

# Three limits on what is done to slots must have been looked at: zap events, calls, bytes torn.
boot_within_limits() {
    boot "$@"
    [[ $(grep -ac ', at most [0-9]*: holds$' "$logs/$1.log") = 3 ]] ||
        report "$1-limits" "not all limits were looked at"
}

# The firmware runs to its end, and exactly these checks see the fault.
plant() {
    local fault=$1 name=plant-$1 why='' seen
    shift
    "$root/tests/lab/run" --file "$build/examples/firmware/own.bin" "$vmm" --firmware own \
        --check own --timeout 60 --plant "$fault" >"$logs/$name.log" 2>&1
    [[ $? = 1 ]] || why="status $? instead of 1"
    grep -aq '^check guest-ended: ok' "$logs/$name.log" || why="the guest did not end by itself"
    seen=$(sed -n 's/^check \(.*\): FAILED.*/\1/p' "$logs/$name.log" | sort | xargs)
    [[ $seen = "$*" ]] || why="these checks failed: $seen; these should: $*"
    report "$name" "$why"
}

# The number behind KEY at the end of the line that begins with WORDS.
figure() {
    sed -n "s/^$2 .*$1=\([0-9]*\).*/\1/p" "$3" | tail -n 1
}

# Pages written through each space are told at the end: the save areas of the first SMI and of the
# others, and the word at A0000, through space 1 alone.
watch_dirty() {
    local mode=$1 name=watch-dirty-$1 log=$logs/watch-dirty-$1.log why='' all system smm last
    "$root/tests/lab/run" --file "$build/examples/firmware/own.bin" "$vmm" --firmware own \
        --check own --timeout 60 --stats --dirty-log "$mode" --watch-dirty 1 >"$log" 2>&1 ||
        why="status $?"
    all=$(figure pages 'dirty total client watch' "$log")
    system=$(figure pages 'dirty total space system' "$log")
    smm=$(figure pages 'dirty total space smm' "$log")
    last=$(figure pages 'dirty total client smm' "$log")
    ((${all:-0} >= 4)) || why="${all:-no} pages in all"
    case $mode in
    ring)
        [[ -z $system$smm ]] || why="one ring tells spaces apart"
        grep -aq '^ring_entries [1-9]' "$log" || why="nothing in the ring"
        grep -aq '^ring_strays 0$' "$log" || why="entries of no slot"
        ;;
    *)
        ((${system:-0} >= 1)) || why="${system:-no} pages through space 0"
        ((${smm:-0} >= 3)) || why="${smm:-no} pages through space 1"
        # It takes just before the one that takes all.
        ((${all:-0} <= ${last:-0})) || why="a client was told of ${last:-no} pages of ${all:-0}"
        case $mode in
        auto) grep -aq '^log_clears 0$' "$log" || why="pages were cleared that reading had" ;;
        *) grep -aq '^log_clears [1-9]' "$log" || why="no page was cleared" ;;
        esac
        ;;
    esac
    report "$name" "$why"
}

# It takes seconds, so that lines come meanwhile.
watch_seabios() {
    local name=seabios-watched-by-$1 log=$logs/seabios-watched-by-$1.log why=''
    "$root/tests/lab/run" --timeout 180 --file "$rom" "$vmm" --firmware seabios --check seabios \
        --timeout 150 --stats --until 'No bootable device' --dirty-log "$1" --watch-dirty 2 \
        >"$log" 2>&1 || why="status $?"
    grep -aq '^check no-bootable-device: ok' "$log" || why="it did not boot to its end"
    grep -aqE '^dirty at=[0-9.]+ client watch pages=[1-9]' "$log" || why="no line meanwhile"
    report "$name" "$why"
}

# A counter of --stats.
counter() {
    sed -n "s/^$1 \([0-9]*\)\$/\1/p" "$2"
}

# What the guest printed, up to what SeaBIOS is stopped at; numbers may be times.
text() {
    grep -aE '^(own|smm|screen): ' "$1" ||
        sed -n '/^SeaBIOS (version/,/No bootable device/p' "$1" | grep -av '^slot ' |
        sed 's/\(No bootable device\).*/\1/; s/[0-9]//g'
}

# The same guest with event channels, as it has run already, and now without: NAME COMMAND... It
# must say the same, and make less than half of the exits. own.S does nothing twice: there just
# those writes are missing that channels took.
channels_save_exits() {
    local run=$1 name=$1-without-channels log=$logs/$1.log bare why='' with without taken
    shift
    bare=$logs/$name.log
    "$@" --stats --no-channels >"$bare" 2>&1 || why="status $?"
    with=$(counter exits "$log") without=$(counter exits "$bare")
    taken=$(($(counter coalesced_writes "$log") + $(counter post_codes "$log")))
    ((2 * with < without)) || why="$with exits with channels, $without without"
    [[ $run != own* ]] || ((with + taken == without)) || why="$taken of $with + $without exits"
    [[ $(counter channels_in_kvm "$log") = 3 ]] || why="not all channels were in KVM"
    [[ $(counter events_by_hand "$log") = 0 ]] || why="dispatch signalled what KVM should"
    [[ $(counter coalesced_strays "$log") = 0 ]] || why="strays in the ring"
    [[ $(counter post_codes "$log") = "$(counter post_codes "$bare")" ]] || why="other POST codes"
    [[ $(counter coalesced_writes "$bare") = 0 ]] || why="writes were coalesced without zones"
    [[ -n $(text "$log") && $(text "$log") = "$(text "$bare")" ]] || why="another output"
    report "$name" "$why"
}

# A KVM with one address space: /dev/kvm as it mostly is; where there is none, the lab's, of whose
# two spaces one is used then.
no_smm() {
    local name=seabios-no-smm-on-dev-kvm launcher=()
    if [[ $("$vmm" --probe 2>/dev/null) != kvm:* ]]; then
        name=seabios-no-smm-in-the-lab
        launcher=("$root/tests/lab/run" --timeout 120 --file "$rom"
            --file "$build/examples/firmware/own.bin")
    fi
    launcher+=("$vmm" --no-smm --firmware)
    run_no_smm "$name" "${launcher[@]}" seabios --check seabios --until 'No bootable device'
    run_no_smm "own-${name#*-}" "${launcher[@]}" own --check own
}

run_no_smm() {
    local name=$1 why=''
    shift
    "$@" --timeout 90 --stats >"$logs/$name.log" 2>&1 || why="status $?"
    grep -aqE '^check (no-bootable-device|guest-ended): ok' "$logs/$name.log" ||
        why="it did not come to its end"
    report "$name" "$why"
    channels_save_exits "$name" "$@" --timeout 90
}

in_lab=("$root/tests/lab/run" --timeout 180 --file "$rom"
    --file "$build/examples/firmware/own.bin" "$vmm" --timeout 90 --firmware)
boot own own
channels_save_exits own "${in_lab[@]}" own --check own
boot_within_limits seabios seabios
channels_save_exits seabios "${in_lab[@]}" seabios --check seabios --until 'No bootable device'
boot_within_limits seabios-boundaries seabios --boundary 0xe8000 --boundary 0xf0000
boot seabios-eager seabios --merge eager
boot seabios-none seabios --merge none
boot seabios-3g seabios --memory 3G
plant no-smram smbase space-1-shows-smram word-at-a0000 word-seen-in-smm
plant open-smram closed-after-lock closed-before-opening space-0-hides-smram
plant no-lock closed-after-lock smram-locked space-0-hides-smram
no_smm
for mode in auto manual manual-set ring; do
    watch_dirty "$mode"
done
watch_seabios auto
watch_seabios ring
exit "$failed"
