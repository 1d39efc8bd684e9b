#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Usage: tests/fuzz/run.sh [TARGET] [SECONDS] [FOLDER]
#
# Runs a fuzz target, tree (the default), slots or dispatch, under AddressSanitizer and
# UndefinedBehaviorSanitizer for so many seconds (default: 300), beginning with its seeds and with
# what FOLDER (default: build-fuzz/corpus-TARGET) has from before; what it finds is added to FOLDER.
# A finding is left in build-fuzz/, for
#
#     KVMAS_VERBOSE=1 build/tests/fuzz/replay-TARGET build-fuzz/crash-...
#
# Status: 0 if nothing was found.

set -eu

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
target=${1-tree}
seconds=${2-300}
folder=${3-build-fuzz/corpus-$target}

[[ -e build-fuzz/build.ninja ]] ||
    CC=clang meson setup build-fuzz -Dexamples=false -Db_lundef=false \
        -Db_sanitize=address,undefined \
        -Dc_args='-fsanitize=fuzzer-no-link -fno-sanitize-recover=all'
ninja -C build-fuzz "tests/fuzz/fuzz-$target"
mkdir -p "$folder"
"build-fuzz/tests/fuzz/fuzz-$target" -max_total_time="$seconds" -max_len=4096 -len_control=20 \
    -timeout=20 -print_final_stats=1 -artifact_prefix=build-fuzz/ "$folder" \
    "tests/fuzz/seeds-$target"
