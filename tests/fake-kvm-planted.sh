#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Usage: tests/fake-kvm-planted.sh BUILD [NAME]...
#
# Is the double of KVM held against the real one well enough? One fault after the other is planted
# in the double (fake-kvm-planted.txt), and each must be found: by the table (test-kvm-table), and,
# but for those that say so, by random steps beside the real KVM in the lab, with the kernel that
# knows more (test-real-kvm). Prints a line `ok double/NAME` or `FAILED double/NAME: why` for each,
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

# link_with FILE OBJECT TEST PROGRAM: the test, with the object in the place of that of FILE.
link_with() {
    local object objects=("$2")
    for object in "$build/tests/$3.p"/*.o; do
        [[ ${object##*/} = "$1.o" ]] || objects+=("$object")
    done
    cc -o "$4" "${objects[@]}" "$build/src/libkvmas.a" -lcmocka -lpthread
}

# make_both NAME FILE EXPRESSION: NAME.table and NAME.random
make_both() {
    local object=$folder/$1.o
    plant "$2" "$3" "$object" && link_with "$2" "$object" test-kvm-table "$folder/$1.table" &&
        link_with "$2" "$object" test-real-kvm "$folder/$1.random"
}

make_all() {
    local name file finder expression
    make_both sound fake-kvm.c '' || exit 1
    finders[sound]=both
    while IFS='|' read -r name file finder expression; do
        [[ -z $name || $name = '#'* || ($names != '  ' && $names != *" $name "*) ]] && continue
        finders[$name]=$finder
        make_both "$name" "$file" "$expression" 2>"$folder/log" ||
            why[$name]="cannot be planted: $(head -n 1 "$folder/log")"
    done <fake-kvm-planted.txt
}

run_tables() {
    local name
    for name in "${!finders[@]}"; do
        [[ -x $folder/$name.table ]] || continue
        # Some faults make it crash, of which the shell would tell.
        { KVMAS_STEPS=100 timeout 60 "$folder/$name.table" >"$folder/$name.log" 2>&1; } 2>/dev/null
        echo "$name table $?"
    done
}

# All in one lab. What fails there ends at the first difference.
run_random() {
    local name files=()
    {
        echo '#!/bin/sh'
        for name in "${!finders[@]}"; do
            [[ -x $folder/$name.random && ${finders[$name]} = both ]] || continue
            files+=(--file "$folder/$name.random")
            echo "'$folder/$name.random' random >/dev/null 2>&1; echo $name random \$?"
        done
    } >"$folder/all"
    chmod +x "$folder/all"
    lab/run --kernel backports --timeout 600 --env KVMAS_REQUIRE_KVM=1 --env KVMAS_STEPS=20000 \
        "${files[@]}" "$folder/all"
}

judge() {
    local name kind status
    while read -r name kind status; do
        finders[$name]+=" $kind"
        case $name:$status in
        sound:0) ;;
        sound:* | *:126 | *:127) why[$name]+="status $status of $kind; " ;;
        *:0) why[$name]+="not found by $kind; " ;;
        esac
    done
    for name in "${!finders[@]}"; do
        [[ -n ${why[$name]-} || ${finders[$name]} =~ ^(both .* .*|table .*)$ ]] ||
            why[$name]="not tried:${finders[$name]}"
        if [[ -n ${why[$name]-} ]]; then
            echo "FAILED double/$name: ${why[$name]}"
            failed=1
        else
            echo "ok double/$name"
        fi
    done
}

make_all
run_tables >"$folder/results"
run_random >>"$folder/results"
judge <"$folder/results"
exit "$failed"
