#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Usage: tests/run.sh [STEP]...
#
# Builds everything and runs all tests, the live ones included; the last line says how many passed
# and failed. What is missing on a fresh Debian 12 is installed, as root or with sudo. STEPs choose:
#
#   gcc clang        build with that compiler, without a warning, and run the unit tests
#   asan tsan        the same with AddressSanitizer and UndefinedBehaviorSanitizer, ThreadSanitizer
#   planted          faults planted in the library, which the random steps must notice
#   arm64            build the library for arm64
#   lint             formatting, static analysis, spelling (tests/lint.sh)
#   bench            the benches, in short (limits are not looked at: see doc/testing.md)
#   install          install, and build a program with pkg-config (tests/install.sh)
#   lab              the lab itself, and the double of KVM beside the real ones, of two kernels
#   live             guests that look at their memory while it changes, on /dev/kvm and in the lab
#   vmm              the mini-VMM: bad input, firmware booted with SMM and without
#   topo             kvmas-topo: QEMU's machines, series of changes, bad input; with sanitizers too
#
# Builds are in build/ and build-*/; what each test printed is in build/log/. The first two lines use
# all processors, and bench has them for itself; of the others, which mostly keep one busy, as many
# run side by side, those first that take longest.
#
# Status: 0 if nothing failed.

set -u -o pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd) || exit 1
cd "$root" || exit 1
logs=$root/build/log
results=$logs/results

packages=(git procps meson ninja-build gcc g++ clang libclang-rt-14-dev libc6-dev binutils)
packages+=(pkg-config libcmocka-dev)
packages+=(gcc-aarch64-linux-gnu libc6-dev-arm64-cross)
packages+=(clang-format clang-tidy cppcheck codespell shellcheck)
packages+=(seabios qemu-system-x86 cpio)
packages+=(cargo librust-vm-memory-dev) # what kvmas-bench compares lookups with

# Note the lines `ok NAME` and `FAILED NAME...` of standard input, and show them. Several may do so at
# once.
note() {
    grep -a -E '^(ok|FAILED) ' | tee -a "$results"
}

# fail NAME LOG TEXT: shown with the end of the log.
fail() {
    printf '%s\n' "$(tail -n 40 "$2")"
    note <<<"FAILED $1: $3"
}

# A command that is one test.
check() {
    local name=$1 log=$logs/$1.log start=$SECONDS
    shift
    mkdir -p "$(dirname "$log")"
    if "$@" >"$log" 2>&1 </dev/null; then
        note <<<"ok $name ($((SECONDS - start)) s)"
    else
        fail "$name" "$log" "see build/log/$name.log"
        return 1
    fi
}

# A script that is several, each a line `ok NAME` or `FAILED NAME: why`.
check_each() {
    local name=$1 log=$logs/$1.log status
    shift
    mkdir -p "$(dirname "$log")"
    "$@" 2>&1 </dev/null | tee "$log" | note
    status=${PIPESTATUS[0]}
    if ! grep -q -a -E '^(ok|FAILED) ' "$log" ||
        { ((status)) && ! grep -q -a '^FAILED ' "$log"; }; then
        fail "$name" "$log" "status $status, see build/log/$name.log"
    fi
}

# meson's results, a JSON object a line. What was skipped did not pass.
meson_results() {
    sed -n 's/^{"name": "\([^"]*\)".*"result": "\([^"]*\)".*/\2 \1/p' "$2" |
        sed "s|^OK |ok $1/|; /^ok /!s|^[A-Z]* |FAILED $1/|"
}

# build DIR OPTION...: an existing folder is taken as it is.
build() {
    local dir=$1
    shift
    [[ -e $dir/build.ninja ]] || meson setup "$dir" "$root" -Dwerror=true "$@" || return
    ninja -C "$dir"
}

# unit NAME DIR OPTION...: all tests but those of the suites in $but
unit() {
    local name=$1 dir=$2 log=$logs/$1/tests.log list=$2/meson-logs/testlog.json
    shift
    check "$name/build" build "$@" || return
    rm -f "$list"
    meson test -C "$dir" --no-rebuild --print-errorlogs --timeout-multiplier 3 "${but[@]}" \
        >"$log" 2>&1 || tail -n 60 "$log"
    if [[ -s $list ]]; then
        meson_results "$name" "$list" | note
    else
        fail "$name" "$log" "no test was run"
    fi
}

but=()
# What is only run, and not debugged, is built in a third of the time with lines in place of all that
# a debugger wants, and, with sanitizers, with fewer optimizations.
quick=(-Doptimization=1)
asan=("${quick[@]}" '-Db_sanitize=address,undefined' '-Dc_args=-fno-sanitize-recover=all -g1')
step_gcc() { unit gcc build; }
step_clang() { CC=clang unit clang build-clang -Dc_args=-g1; }
step_asan() { unit asan build-asan "${asan[@]}"; }
step_tsan() {
    local but=(--no-suite one-thread)
    unit tsan build-tsan "${quick[@]}" -Db_sanitize=thread -Dc_args=-g1 -Dexamples=false
    check_each tsan/planted tests/fuzz/planted.sh build-tsan
}
step_planted() { check_each planted tests/fuzz/planted.sh build; }
step_arm64() { check arm64/build build build-arm64 --cross-file tests/arm64.ini -Dtests=false; }
step_lint() { check_each lint tests/lint.sh; }
step_bench() {
    check gcc/build build build || return
    check bench/commit build/tests/bench/kvmas-bench commit --quick --check-memory
    local launcher=()
    [[ -w /dev/kvm ]] || launcher=(tests/lab/run --timeout 300)
    check bench/slots "${launcher[@]}" build/tests/bench/kvmas-bench slots --quick
    check bench/exit "${launcher[@]}" build/tests/bench/kvmas-bench exit --quick
    check bench/lookup build/tests/bench/kvmas-bench lookup --quick
    check bench/dirty "${launcher[@]}" build/tests/bench/kvmas-bench dirty --quick
    check bench/dirty-in-the-lab tests/lab/run --timeout 300 build/tests/bench/kvmas-bench dirty \
        --quick --spaces
}
step_install() { check_each install tests/install.sh; }
step_lab() {
    local kernel
    check_each lab tests/lab/test.sh
    for kernel in release backports; do
        check "lab/double-against-kvm-of-$kernel" tests/lab/run --kernel "$kernel" --timeout 900 \
            --env KVMAS_REQUIRE_KVM=1 --env KVMAS_STEPS=100000 build/tests/test-real-kvm
    done
    [[ ! -w /dev/kvm ]] || check lab/double-against-dev-kvm env KVMAS_REQUIRE_KVM=1 \
        KVMAS_STEPS=100000 build/tests/test-real-kvm
    check_each lab/planted tests/fake-kvm-planted.sh build
    check lab/discard-under-kvm tests/lab/run --env KVMAS_REQUIRE_KVM=1 \
        build/tests/test-real-discard
    check lab/gate-under-kvm tests/lab/run --env KVMAS_REQUIRE_KVM=1 build/tests/test-real-gate
    check lab/discard-of-huge-pages tests/lab/run --file "$root/build/tests/test-discard" \
        /bin/busybox sh -c "echo 2 >/proc/sys/vm/nr_hugepages &&
            '$root/build/tests/test-discard'"
}
step_live() {
    # One processor for the lab: with two its kernel, old or new, has panicked under the soak
    # ("corrupted stack end"), as a real one does not. The vCPUs take turns on it.
    local name lab=(tests/lab/run --cpus 1 --timeout 900 --env KVMAS_REQUIRE_KVM=1)
    local dirty=(dirty dirty-controls dirty-ram dirty-ring) exits=(exits exits-hostile flash)
    local channels=(channels channels-moving channels-full channels-refused channels-forged)
    lab+=(--env KVMAS_SECONDS --env KVMAS_SEED)
    for name in bad-input "${exits[@]}" "${channels[@]}" flip hostile private soak \
        "${dirty[@]}"; do
        [[ ! -w /dev/kvm ]] || check "live/$name-on-dev-kvm" env KVMAS_REQUIRE_KVM=1 \
            "build/tests/live/test-$name"
    done
    for name in bad-input "${exits[@]}" exits-smm "${channels[@]}" channels-smm flip hostile \
        private soak spaces "${dirty[@]}" dirty-spaces; do
        check "live/$name-in-the-lab" "${lab[@]}" "build/tests/live/test-$name"
    done
    for name in bad-input exits exits-smm channels channels-moving channels-smm flash private soak \
        dirty dirty-ring dirty-spaces; do
        check "live/$name-on-backports" "${lab[@]}" --kernel backports \
            "build/tests/live/test-$name"
    done
}
step_vmm() {
    check_each vmm/bad-input tests/vmm/bad-input.sh build
    check_each vmm/boot tests/vmm/boot.sh build
    check_each vmm/track-dirty tests/vmm/track-dirty.sh build
}
step_topo() {
    local dir tool
    check_each topo/checker tests/topo/test-corpus.sh build/examples/topo/kvmas-topo tests/corpus
    for dir in build build-asan; do
        tool=$dir/examples/topo/kvmas-topo
        check_each "topo/$dir/corpus" tests/topo/corpus.sh "$tool" tests/corpus "topo/$dir"
        check_each "topo/$dir/series" tests/topo/series.sh "$tool" "topo/$dir"
        check_each "topo/$dir/bad-input" tests/topo/bad-input.sh "$tool" "topo/$dir"
    done
}

# As many steps as there are processors, side by side.
run_beside() {
    while (($(jobs -rp | wc -l) >= $(nproc))); do
        wait -n
    done
    run_step "$1" &
}

run_step() {
    local start=$SECONDS
    mkdir -p "$logs/$1"
    "step_$1"
    echo "step $1: $((SECONDS - start)) s"
}

# What the steps that are run side by side need, and none of them can build beside another.
build_for() {
    check gcc/build build build
    [[ " $* " != *' topo '* ]] || check asan/build build build-asan "${asan[@]}"
}

steps=("$@")
((${#steps[@]})) || steps=(gcc clang asan tsan bench lab live lint planted vmm topo arm64 install)
for step in "${steps[@]}"; do
    declare -F "step_$step" >/dev/null || { echo "run.sh: no step $step; see its head" >&2; exit 1; }
done
tests/setup.sh "${packages[@]}" || exit 1
mkdir -p "$logs"
: >"$results"
others=()
for step in "${steps[@]}"; do
    case $step in
    gcc | clang | asan | tsan | bench) run_step "$step" ;;
    *) others+=("$step") ;;
    esac
done
((${#others[@]} == 0)) || build_for "${others[@]}"
for step in "${others[@]}"; do
    run_beside "$step"
done
wait
passed=$(grep -c '^ok ' "$results")
failed=$(grep -c '^FAILED ' "$results")
echo "$passed passed, $failed failed"
((failed == 0 && passed > 0))
