#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Usage: tests/fuzz/run.sh [SECONDS] [FOLDER]
#
# Runs the fuzz target under AddressSanitizer and UndefinedBehaviorSanitizer for so many seconds
# (default: 300), beginning with the seeds and with what FOLDER (default: build-fuzz/corpus) has
# from before; what it finds is added to FOLDER. A finding is left in build-fuzz/, for
#
#     KVMAS_VERBOSE=1 build/tests/fuzz/replay-tree build-fuzz/crash-...
#
# Status: 0 if nothing was found.

set -eu

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
seconds=${1-300}
folder=${2-build-fuzz/corpus}

[[ -e build-fuzz/build.ninja ]] ||
    CC=clang meson setup build-fuzz -Dexamples=false -Db_lundef=false \
        -Db_sanitize=address,undefined \
        -Dc_args='-fsanitize=fuzzer-no-link -fno-sanitize-recover=all'
ninja -C build-fuzz tests/fuzz/fuzz-tree
mkdir -p "$folder"
build-fuzz/tests/fuzz/fuzz-tree -max_total_time="$seconds" -max_len=4096 -len_control=20 \
    -timeout=20 -print_final_stats=1 -artifact_prefix=build-fuzz/ "$folder" tests/fuzz/seeds
