#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Usage: tests/topo/bad-input.sh KVMAS-TOPO [PREFIX]
#
# What is wrong with a file, a series or a command line is said in one line on stderr; nothing is
# printed but the steps before the one at fault. The bad files stand in bad/, and what is said of
# each in bad/EXPECTED; large ones are made here.

set -u

topo=$(realpath "$1") || exit 1
prefix=${2:-topo}
cd "$(dirname "$0")" || exit 1
place=$(mktemp -d) || exit 1
trap 'rm -rf "$place"' EXIT
failed=0
good=series/attributes/00.topo
message_too_large='too large or too deep to render; see --max-ranges, --max-nodes'

result() {
    if [[ -z $2 ]]; then
        echo "ok $prefix/bad-input/$1"
    else
        echo "FAILED $prefix/bad-input/$1: $2"
        failed=1
    fi
}

# run ARGUMENT...: what was printed is then in out and err. More memory than any file here is worth
# is refused, but AddressSanitizer reserves terabytes of addresses.
run() {
    (
        "$sanitized" || ulimit -v 2000000
        exec timeout 60 "$topo" "$@"
    ) >"$place/out" 2>"$place/err"
    status=$?
}

# refused NAME STATUS MESSAGE ARGUMENT...: MESSAGE is the whole of stderr; stdout is what is in the
# file `before`.
refused() {
    local name=$1 expected=$2 message=$3 why=''
    shift 3
    run "$@"
    [[ $status = "$expected" ]] || why="status $status"
    [[ $(cat "$place/err") = "$message" ]] || why="says: $(head -n 1 "$place/err")"
    cmp -s "$place/out" "$place/before" || why="${why:+$why, }prints: $(head -n 1 "$place/out")"
    result "$name" "$why"
}

# prints NAME PATTERN ARGUMENT...: succeeds, and a line of stdout is PATTERN.
prints() {
    local name=$1 pattern=$2 why=''
    shift 2
    run "$@"
    grep -qxE "$pattern" "$place/out" || why="prints: $(head -n 3 "$place/out" | tr '\n' ';')"
    [[ $status = 0 && ! -s $place/err ]] || why="status $status: $(head -n 1 "$place/err")"
    result "$name" "$why"
}

# chain DEPTH: containers in containers, an mmio in the last; from the top down or, with `up`, from
# the bottom up.
chain() {
    echo 'topo 1'
    seq 1 "$1" | sed 's/.*/region & container 1000 1 0 0 - 0 level &/'
    echo "region 0 mmio 1000 1 0 0 - 0 leaf"
    { seq 2 "$1" | awk '{print "sub", $1 - 1, $1, 0, 0}'; echo "sub $1 0 0 0"; } |
        if [[ ${2-} = up ]]; then tac; else cat; fi
    echo 'as 0 1 memory'
    echo 'end'
}

# aliases DEPTH: aliases of aliases, the last of an mmio.
aliases() {
    echo 'topo 1'
    echo 'region 0 mmio 1000 1 0 0 - 0 leaf'
    seq 1 "$1" | awk '{print "region", $1, "alias 1000 1 0 0", $1 - 1, "0 level", $1}'
    echo "as 0 $1 memory"
    echo 'end'
}

# self WINDOW: a container with an alias of itself at 1000 that shows WINDOW, a size and an offset.
self() {
    cat <<END
topo 1
region 1 container 4000 1 0 0 - 0 system
region 2 alias ${1% *} 1 0 0 1 ${1#* } self
region 3 mmio 4000 1 0 0 - 0 device
sub 1 3 0 0
sub 1 2 1000 1
as 0 1 memory
end
END
}

sanitized=false
grep -qa __asan_init "$topo" && sanitized=true
: >"$place/before"

while read -r name line message; do
    [[ $name = '#' ]] && continue
    refused "file/$name" 1 "bad/$name.topo:$line: $message" flat "bad/$name.topo"
done <bad/EXPECTED
result all-files-have-a-line "$(diff <(sed '/^#/d; s/ .*/.topo/' bad/EXPECTED | sort) \
    <(cd bad && printf '%s\n' *.topo | sort))"

for command in flat tree json replay; do
    refused "$command-of-bad-file" 1 'bad/garbage.topo:2: hello there is no record' \
        "$command" bad/garbage.topo
    refused "$command-of-loop" 1 'bad/sub-in-itself.topo:5: a region would be inside itself' \
        "$command" bad/sub-in-itself.topo
done
refused missing-file 1 'bad/none: No such file or directory' flat bad/none
refused folder 1 'bad: Is a directory' flat bad
refused zeros 1 '/dev/zero:1: byte 0x00 is not printable ASCII' flat /dev/zero
refused standard-input 1 '-:1: the first line is not `topo 1`' flat - </dev/null
prints standard-input-good 'as 0 0' flat - <"$good"
prints last-id-and-largest-offset 'range 0 fff ram 0 4294967295 0 ram' flat - <<'END'
topo 1
region 4294967295 ram 1000 1 0 0 - 0 ram
region 0 container 1 1 0 0 - 0 zero
sub 4294967295 0 ffffffffffffffff -2147483648
as 4294967295 4294967295 memory
end
END

# Series: all files are read before anything is printed; a step that the library refuses is not.
refused replay-bad-third-file 1 'bad/truncated.topo:3: no `end`: the file was cut' \
    replay "$good" "$good" bad/truncated.topo
"$topo" replay "$good" "$good" >"$place/before"
refused replay-loop-in-the-middle 1 'bad/sub-in-itself.topo:5: a region would be inside itself' \
    replay "$good" "$good" bad/sub-in-itself.topo "$good"
refused replay-loop-through-alias-in-the-middle 1 \
    'bad/loop-through-alias.topo:4: a region would be inside itself' \
    replay "$good" "$good" bad/loop-through-alias.topo "$good"
refused replay-block-too-large-in-the-middle 1 \
    'bad/region-ram-larger-than-a-block.topo:5: more memory than a RAM block can have' \
    replay "$good" "$good" bad/region-ram-larger-than-a-block.topo "$good"
line=$(wc -l <bad/doubling-40-deep.topo)
refused replay-doubling-in-the-middle 1 "bad/doubling-40-deep.topo:$line: $message_too_large" \
    replay "$good" "$good" bad/doubling-40-deep.topo "$good"
: >"$place/before"

# Caps.
three=series/lower-of-equals-moves/00.topo # views of three ranges
line=$(wc -l <"$three")
refused max-ranges 1 "$three:$line: $message_too_large" --max-ranges 2 flat "$three"
refused max-nodes 1 "$three:$line: $message_too_large" --max-nodes 2 flat "$three"
refused max-regions 1 "$three:5: more than 3 regions; see --max-regions" \
    --max-regions 3 flat "$three"
two=series/spaces-change/01.topo # two spaces
refused max-spaces 1 "$two:9: more than 1 address spaces; see --max-spaces" --max-spaces=1 flat "$two"
prints caps-just-enough 'view 0 3' \
    --max-ranges 3 --max-regions 4 --max-nodes 100 --max-spaces 1 flat "$three"

# A step has the regions of two files: here none stays, and each file has as many as it may.
sed -E 's/^(region|as 0) /&1/; s/^sub ([0-9]+) /sub 1\1 1/' "$three" >"$place/others"
prints max-regions-of-each 'view 0 3' \
    --max-regions 4 replay "$three" "$place/others" "$three" "$place/others"
# Containers that show one part of themselves in another: legal while no window meets the alias.
self '1000 0' >"$place/self"
prints self-below 'range 1000 1fff mmio 0 3 0 device' flat "$place/self"
self '1000 2000' >"$place/self"
prints self-above 'range 1000 1fff mmio 0 3 2000 device' flat "$place/self"
self '3000 4000' >"$place/self"
prints self-beyond 'range 0 3fff mmio 0 3 0 device' flat "$place/self"
self '1001 0' >"$place/self"
refused self-below-meets 1 "$place/self:6: a region would be inside itself" flat "$place/self"
self '1000 1fff' >"$place/self"
refused self-above-meets 1 "$place/self:6: a region would be inside itself" flat "$place/self"

# Large files.
chain 500 >"$place/deep"
prints depth-500 'range 0 fff mmio 0 0 0 leaf' flat "$place/deep"
prints depth-500-tree ' {64}\[depth 501\] 0+-0+fff mmio 0 leaf \(prio 0\)' tree "$place/deep"
for order in down up; do
    chain 1000 "$order" >"$place/deep"
    prints "depth-1000-$order" 'range 0 fff mmio 0 0 0 leaf' flat "$place/deep"
done
for depth in 1000 20000; do
    aliases "$depth" >"$place/deep"
    prints "aliases-$depth" 'range 0 fff mmio 0 0 0 leaf' flat "$place/deep"
done
# Deeper still, it says that it is too deep, or gets it right.
for order in down up; do
    depth=$([[ $order = down ]] && echo 20000 || echo 5000)
    chain "$depth" "$order" >"$place/deep"
    if "$topo" flat "$place/deep" >/dev/null 2>&1; then
        prints "depth-$depth-$order" 'range 0 fff mmio 0 0 0 leaf' flat "$place/deep"
    else
        refused "depth-$depth-$order" 1 "$place/deep:$((2 * depth + 4)): $message_too_large" \
            flat "$place/deep"
    fi
done
{ sed '/^end/d' bad/doubling-40-deep.topo; seq 1 100000 | sed 's/.*/as & 40 memory/'; echo end; } \
    >"$place/spaces"
refused spaces-100000 1 "$place/spaces:1227: more than 1024 address spaces; see --max-spaces" \
    flat "$place/spaces"

# The command line.
usage() {
    local name=$1 message=$2
    shift 2
    refused "usage/$name" 2 "kvmas-topo: $message; see --help" "$@"
}
usage no-command 'say what to do: flat, tree, json or replay'
usage unknown-command 'draw: no such command' draw "$good"
usage no-file 'flat: which file?' flat
usage two-files 'tree takes one file' tree "$good" "$good"
usage unknown-option '--frobnicate: no such option' --frobnicate flat "$good"
usage unknown-letter '-x: no such option' -x flat "$good"
usage no-value '--max-nodes needs a value' --max-nodes
for value in 0 -1 '' 5x 18446744073709551616 ' 1'; do
    usage "value-'$value'" "$value: give a number from 1 to 2^64 - 1" \
        --max-ranges "$value" flat "$good"
done
usage standard-input-twice 'the standard input can be read once only' replay - -
prints help 'Usage: kvmas-topo .*' --help
if [[ -w /dev/full ]]; then
    "$topo" flat "$good" 2>"$place/err" >/dev/full
    result full-disk "$([[ $? = 1 && $(cat "$place/err") = *'No space left on device' ]] ||
        echo "says: $(cat "$place/err")")"
fi

# JSON that a reader of JSON takes, where one is at hand.
if command -v python3 >/dev/null; then
    printf 'topo 1\nregion 1 mmio 10 1 0 0 - 0 a "name" \\ of <all> {sorts}\nas 0 1 "\\\nend\n' \
        >"$place/names"
    mkdir "$place/json"
    for file in "$place/names" series/*/*.topo; do
        "$topo" json "$file" >"$place/json/${file//\//_}" || echo "no JSON for $file"
    done >"$place/refused" 2>&1
    python3 - "$place"/json/* >>"$place/refused" 2>&1 <<'END'
import json, sys

for path in sys.argv[1:]:
    with open(path) as file:
        topo = json.load(file)
    assert sorted(topo) == ["regions", "spaces", "views"], path
    for region in topo["regions"]:
        for number in (region["size"], region["offset"], region["target_offset"]):
            assert number is None or number == hex(int(number, 16)), path
    if path.endswith("names"):
        assert topo["regions"][0]["name"] == 'a "name" \\ of <all> {sorts}'
        assert topo["spaces"][0]["name"] == '"\\'
END
    result json "$(tail -n 1 "$place/refused")"
fi
exit "$failed"
