#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Usage: tests/lab/test.sh
#
# Proves the lab: one line "ok NAME" or "FAILED NAME: why" per check; status 1 if any failed.
#
# shellcheck disable=SC2317 # check calls the conditions

set -u

here=$(CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")" && pwd) || exit 1
failures=0

# check NAME CONDITION...: the condition is a command; what fails is shown with what the last run
# said.
check() {
    local name=$1
    shift
    if "$@"; then
        echo "ok $name"
    else
        echo "FAILED $name: not true: $* (status $status)"
        sed 's/^/    /' "$scratch/out" "$scratch/err"
        failures=$((failures + 1))
    fi
}

# in_lab ARG...: a run of the lab to its end; leaves $status and the files out and err.
in_lab() {
    local start=$SECONDS
    "$here/run" "$@" >"$scratch/out" 2>"$scratch/err"
    status=$?
    took=$((SECONDS - start))
}

# script NAME: makes a program of its stdin.
script() {
    { echo '#!/bin/sh'; cat; } >"$1"
    chmod +x "$1"
}

says() {
    grep -q -e "$2" "$scratch/$1"
}

# By the program: a busy host may need a second try.
nothing_said() {
    ! grep -q -v '^lab: .*second try$' "$scratch/err"
}

has_lines() {
    (($(wc -l <"$scratch/$1") == $2))
}

# The lab's machines work in folders below TMPDIR and name files in them.
no_machine_left() {
    local file
    for file in /proc/[0-9]*/cwd; do
        [[ $(readlink "$file" 2>/dev/null) != "$scratch"/* ]] || return
    done
    [[ -z $(find "$scratch" -mindepth 1 -maxdepth 1 -name 'tmp.*') ]]
}

machine_left() {
    ! no_machine_left
}

output_status_and_environment() {
    script echoes <<'END'
printf 'a\r\nb\tc\n\nto stderr, no newline: '
printf '\001\377' >&2
cat data/one "$PWD/data/sub/two" -
echo "$LAB $GIVEN $TAKEN ${ABSENT-unset}"
exit 7
END
    mkdir -p data/sub
    echo one >data/one
    echo two >data/sub/two
    printf 'a\r\nb\tc\n\nto stderr, no newline: \001\377one\ntwo\n1 a=b c taken unset\n' >expected
    TAKEN=taken in_lab --file data --env GIVEN='a=b c' --env TAKEN --env ABSENT echoes
    check output_is_exact cmp -s out expected
    check nothing_on_stderr nothing_said
    check status_is_the_programs test "$status" = 7
}

arguments() {
    # shellcheck disable=SC2016 # nothing in them is to be expanded
    local words=('two words' '' "it's" '"' $'line\nbreak' '$HOME `id` \n' '*' -x $'\351\201\377' '')
    # shellcheck disable=SC2016 # for the lab's shell
    script words <<<'printf "<%s>" "$#" "$@"'
    in_lab -- "$scratch/words" "${words[@]}"
    printf '<%s>' "${#words[@]}" "${words[@]}" >expected
    check arguments_are_exact cmp -s out expected
    check status_0 test "$status" = 0
}

crash() {
    # shellcheck disable=SC2016 # for the lab's shell
    script crash <<<'echo before; kill -SEGV $$'
    in_lab ./crash
    check crash_is_128_plus_signal test "$status" = 139
    check crash_keeps_output says out '^before$'
    check crash_is_said says err '^lab: ./crash was killed by signal 11 (SIGSEGV)$'
}

hang() {
    script hang <<<'echo first; while :; do :; done'
    in_lab --timeout 6 hang
    check hang_is_124 test "$status" = 124
    check hang_is_said says err '^lab: no end within 6 seconds'
    check hang_ends_in_time test "$took" -le 9
    check hang_leaves_nothing no_machine_left
}

interrupt() {
    local line='' run start
    # Not through in_lab: this is about a run that has not ended.
    mkfifo pipe
    "$here/run" hang >pipe 2>err &
    run=$!
    read -r -t 60 line <pipe
    check output_comes_at_once test "$line" = first
    check run_goes_on kill -0 "$run"
    check machine_is_seen machine_left
    start=$SECONDS
    kill -TERM "$run"
    wait "$run" 2>/dev/null
    status=$?
    check interrupt_ends_the_run test "$status" = 143
    check interrupt_is_quick test $((SECONDS - start)) -le 3
    check interrupt_leaves_nothing no_machine_left
}

panic() {
    script panic <<<'echo before; echo c >/proc/sysrq-trigger'
    in_lab panic
    check panic_is_125 test "$status" = 125
    check panic_keeps_output says out '^before$'
    check panic_gets_no_second_try has_lines out 1
    check panic_is_said says err '^lab: Kernel panic - not syncing'
    check panic_shows_console says err 'Call Trace'
}

# fake_qemu COMMANDS: from now on QEMU is a script: the commands, then the real one with "$@".
fake_qemu() {
    PATH=${PATH#"$scratch/bin:"}
    mkdir -p bin
    script bin/qemu-system-x86_64 <<END
$1
exec $(type -P qemu-system-x86_64) "\$@"
END
    PATH=$scratch/bin:$PATH
}

# More than one machine for a program, and more time for a machine, only where the program has no
# part in it.
second_try() {
    local PATH=$PATH
    script echoes <<<'echo once; exit 7'
    fake_qemu "mkdir $scratch/tried 2>/dev/null && exit 3"
    in_lab echoes
    check machine_that_dies_at_once_gets_a_second_try test "$status" = 7
    check output_of_the_second_try_is_exact test "$(cat out)" = once
    check second_try_is_said says err '^lab: .*second try$'
    rm -r tried
    fake_qemu "mkdir $scratch/tried 2>/dev/null && exec sleep 1000"
    KVMAS_LAB_START=3 in_lab --timeout 100 echoes
    check machine_that_hangs_at_first_gets_a_second_try test "$status" = 7
    fake_qemu 'exit 3'
    in_lab echoes
    check second_try_is_the_last test "$status" = 125
    # shellcheck disable=SC2016 # for the script
    fake_qemu 'set -- "$@" -no-shutdown'
    in_lab --timeout 100 echoes
    check machine_that_does_not_power_off_is_ended test "$status" = 7
    check it_is_ended_in_time test "$took" -le 60
    rm -r bin
}

early_end() {
    script off <<<'poweroff -f'
    in_lab off
    check early_power_off_is_125 test "$status" = 125
    check early_power_off_is_said says err '^lab: the machine went down before'
    # More than QEMU can have.
    in_lab --memory 99999999 off
    check qemu_failure_is_125 test "$status" = 125
    check qemu_failure_is_said says err '^lab: QEMU ended with status'
}

wrong_usage() {
    in_lab ./no-such-program
    check missing_program_is_125 test "$status" = 125
    check missing_program_is_one_line has_lines err 1
    in_lab --no-such-option hang
    check unknown_option_is_125 test "$status" = 125
    check unknown_option_is_one_line has_lines err 1
    in_lab --file no-such-file hang
    check missing_file_is_125 test "$status" = 125
}

# What apt would do differently if the lab had changed its configuration.
state_of_apt() {
    find /etc/apt /var/lib/apt/lists -maxdepth 2 -printf '%p %s %T@\n' 2>/dev/null | sort
}

other_kernel() {
    local other
    script release <<<'uname -r; insmod /lab/kvm.ko 2>/dev/null; test -c /dev/kvm'
    in_lab release
    check kernel_of_the_release_runs test "$status" = 0
    mv out first
    state_of_apt >before
    other=$("$here/build" --dir "$scratch/fresh" --kernel backports) || status=$?
    check backports_build_in_a_fresh_folder test -s "$other/vmlinuz"
    state_of_apt >after
    check backports_leave_the_machines_apt_alone cmp -s before after
    check kernels_have_labs_apart test "$lab" != "$("$here/build" --kernel backports)"
    check lab_of_the_release_is_still_the_same test "$lab" = "$("$here/build")"
    in_lab --kernel backports release
    check kernel_of_the_backports_runs test "$status" = 0
    check kernel_of_the_backports_is_newer test "$(sort -V first out | tail -n 1)" = "$(cat out)"
    check kernel_of_the_backports_is_another test "$(cat first)" != "$(cat out)"
    in_lab --kernel backports "$lab/caps"
    check kvm_of_the_backports_has_two_spaces says out '^KVM_CAP_MULTI_ADDRESS_SPACE 2$'
    check capabilities_of_the_backports_suffice test "$status" = 0
    in_lab --kernel no-such-kernel release
    check unknown_kernel_is_125 test "$status" = 125
    check unknown_kernel_is_said says err 'release or backports'
}

capabilities() {
    type -P cc >/dev/null || "$here/../setup.sh" gcc libc6-dev || exit 1
    cc -O -static -o "$lab/caps.$$" "$here/caps.c" && mv "$lab/caps.$$" "$lab/caps" || exit 1
    in_lab "$lab/caps"
    check kvm_has_smm says out '^KVM_CAP_X86_SMM 1$'
    check kvm_has_two_spaces says out '^KVM_CAP_MULTI_ADDRESS_SPACE 2$'
    check capabilities_suffice test "$status" = 0
}

shared_libraries() {
    cc -O -o dynamic "$here/caps.c" || exit 1
    in_lab --cpus 2 --memory 512 dynamic
    check shared_libraries_come_along test "$status" = 0
}

lab=$("$here/build") || exit 1
scratch=$(mktemp -d) && cd "$scratch" || exit 1
trap 'rm -rf "$scratch"' EXIT
export TMPDIR=$scratch

output_status_and_environment
arguments
crash
hang
interrupt
panic
early_end
second_try
wrong_usage
capabilities
other_kernel
shared_libraries
exit $((failures != 0))
