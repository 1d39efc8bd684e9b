#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Usage: tests/fake-kvm-planted.sh BUILD [NAME]...
#
# Is the double of KVM held against the real one well enough? One fault after the other is planted
# in the double (fake-kvm-planted.txt), and each must be found by those that it names: the table
# (test-kvm-table), the double's own tests (test-fake-kvm-*), and random steps beside the real KVM in
# the lab, with the kernel that knows more (test-real-kvm). Prints a line `ok double/NAME` or `FAILED double/NAME: why` for each,
# or for the NAMEs given. BUILD is a folder in which meson has built everything without sanitizers;
# nothing in it, or in the sources, is changed.
#
# Status: 0 if all were found.

set -u

build=$(cd "${1?usage: fake-kvm-planted.sh BUILD [NAME]...}" && pwd) || exit 1
shift
names=" $* "
cd "$(dirname "${BASH_SOURCE[0]}")" || exit 1
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
failed=0
declare -A why finders

# plant FILE EXPRESSION OBJECT; an empty expression plants nothing.
plant() {
    sed -e "$2" "$1" >"$folder/planted.c" || return
    if [[ -n $2 ]] && cmp -s "$1" "$folder/planted.c"; then
        return 1
    fi
    cc -std=gnu11 -O1 -D_GNU_SOURCE -w -I. -I../include -I../src -c "$folder/planted.c" -o "$3"
}

# link_with OBJECT TEST PROGRAM: the object comes first, so that its like in the archive, with the
# same symbols, is left there.
link_with() {
    cc -o "$3" "$build/tests/$2.p"/*.o "$1" "$build/tests/libcommon.a" "$build/src/libkvmas.a" \
        -lcmocka -lpthread
}

# Which program it is that finds, and what that is to do.
declare -A programs=([table]=test-kvm-table [unit]=test-fake-kvm-ring [random]=test-real-kvm)
programs[dirty]=test-real-kvm
programs[channels]=test-real-kvm
programs[bus]=test-fake-kvm-bus
programs[gmem]=test-fake-kvm-gmem

# make_each NAME FILE EXPRESSION FINDER...: NAME.FINDER
make_each() {
    local name=$1 file=$2 object=$folder/$1.o finder
    plant "$file" "$3" "$object" || return
    shift 3
    for finder; do
        link_with "$object" "${programs[$finder]}" "$folder/$name.$finder" || return
    done
}

make_all() {
    local name file finder expression
    finders[sound]='table unit bus gmem random dirty channels'
    # shellcheck disable=SC2086 # they are words
    make_each sound fake-kvm.c '' ${finders[sound]} || exit 1
    while IFS='|' read -r name file finder expression; do
        [[ -z $name || $name = '#'* || ($names != '  ' && $names != *" $name "*) ]] && continue
        finders[$name]=$finder
        # shellcheck disable=SC2086 # they are words
        make_each "$name" "$file" "$expression" $finder 2>"$folder/log" ||
            why[$name]="cannot be planted: $(head -n 1 "$folder/log")"
    done <fake-kvm-planted.txt
}

run_here() {
    local name kind
    for name in "${!finders[@]}"; do
        for kind in table unit bus gmem; do
            [[ -x $folder/$name.$kind ]] || continue
            # Some faults make it crash, of which the shell would tell.
            { KVMAS_STEPS=100 timeout 60 "$folder/$name.$kind" >"$folder/$name.log" 2>&1; } \
                2>/dev/null
            echo "$name $kind $?"
        done
    done
}

# All in one lab. What fails there ends at the first difference.
run_in_lab() {
    local name kind files=()
    {
        echo '#!/bin/sh'
        for name in "${!finders[@]}"; do
            for kind in random dirty channels; do
                [[ -x $folder/$name.$kind ]] || continue
                files+=(--file "$folder/$name.$kind")
                # In more steps the bus of the last would be filled first, which takes its time.
                [[ $kind = channels ]] && echo 'export KVMAS_STEPS=2000' ||
                    echo 'export KVMAS_STEPS=20000'
                echo "'$folder/$name.$kind' $kind >/dev/null 2>&1; echo $name $kind \$?"
            done
        done
    } >"$folder/all"
    chmod +x "$folder/all"
    lab/run --kernel backports --timeout 1800 --env KVMAS_REQUIRE_KVM=1 "${files[@]}" "$folder/all"
}

judge() {
    local name kind status
    declare -A seen
    while read -r name kind status; do
        seen[$name]+=" $kind"
        case $name:$status in
        sound:0) ;;
        sound:* | *:126 | *:127) why[$name]+="status $status of $kind; " ;;
        *:0) why[$name]+="not found by $kind; " ;;
        esac
    done
    for name in "${!finders[@]}"; do
        for kind in ${finders[$name]}; do
            [[ -n ${why[$name]-} || " ${seen[$name]-} " = *" $kind "* ]] ||
                why[$name]="not tried by $kind"
        done
        if [[ -n ${why[$name]-} ]]; then
            echo "FAILED double/$name: ${why[$name]}"
            failed=1
        else
            echo "ok double/$name"
        fi
    done
}

make_all
run_here >"$folder/results"
run_in_lab >>"$folder/results"
judge <"$folder/results"
exit "$failed"
