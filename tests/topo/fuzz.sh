#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Usage: tests/topo/fuzz.sh BUILD [SECONDS]
#
# Builds the library and the fuzzer with Clang, libFuzzer and sanitizers in the folder BUILD, and
# runs it (default 300 seconds) from the seeds and bad files here. What it finds new stays in
# BUILD/found, and an input that breaks a promise in BUILD/crash-*: to see it again, run
# BUILD/fuzz-topo on that file. Status 0 if nothing was broken.

set -eu

here=$(realpath "$(dirname "$0")")
root=$here/../..
topo=$root/examples/topo
build=$1
seconds=${2:-300}
flags=(-g -O1 -fno-sanitize-recover=all)

[[ -e $build/build.ninja ]] ||
    CC=clang meson setup "$build" "$root" -Dtests=false -Dexamples=false -Db_lundef=false \
        '-Db_sanitize=address,undefined' \
        '-Dc_args=-fsanitize=fuzzer-no-link -fno-sanitize-recover=all' >/dev/null
ninja -C "$build" src/libkvmas.a >/dev/null
build=$(realpath "$build")
clang "${flags[@]}" '-fsanitize=fuzzer,address,undefined' -D_GNU_SOURCE -std=gnu11 \
    -I "$root/include" -I "$topo" -o "$build/fuzz-topo" "$here/fuzz-topo.c" "$here/check.c" \
    "$here/paint.c" "$topo"/{fault,line,topo,parse,live,flat}.c "$build/src/libkvmas.a" -lpthread
mkdir -p "$build/found" "$build/seeds"

# Each file is a seed, and so is each series.
cp "$here"/seeds/* "$here"/bad/*.topo "$build/seeds"
for series in "$here"/series/* "$root"/tests/corpus/series/{fw_isapc,qt_q35_vga}; do
    cat "$series"/*.topo >"$build/seeds/${series##*/}"
done
"$build/fuzz-topo" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2000 -max_len=65536 \
    -len_control=200 -print_final_stats=1 -artifact_prefix="$build/" "$build/found" "$build/seeds"
