#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Usage: build.sh CARGO REGISTRY OUTPUT
#
# Builds OUTPUT, a static library, of lib.rs and of the crates in the folder REGISTRY, where Debian's
# librust-*-dev put them. Nothing is fetched. cargo writes beside its Cargo.toml, so that it is
# given a copy, beside OUTPUT.

set -eu

cargo=$1
registry=$2
output=$(realpath -m "$3")
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$output.d

rm -rf "$work" # another cargo may have been here
mkdir -p "$work/.cargo"
cp "$here/Cargo.toml" "$here/lib.rs" "$work"
cat >"$work/.cargo/config.toml" <<END
[source.crates-io]
replace-with = "debian"

[source.debian]
directory = "$registry"
END
cd "$work"
PATH=$(dirname "$cargo"):$PATH CARGO_HOME=$work/home CARGO_TARGET_DIR=$work/target "$cargo" build --quiet --release --offline
cp "$work/target/release/libbench_vm_memory.a" "$output"
