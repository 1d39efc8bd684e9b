#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Usage: tests/install.sh
#
# Installs build/ into a folder of its own, and builds examples/minimal.c as a user would: against
# what is installed, with the flags of pkg-config, shared and static; examples/track_dirty.c shared.
# One line for each check.

set -u

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
place=$PWD/build/installed
failed=0

check() {
    local name=$1
    shift
    if "$@" >"$place.log" 2>&1; then
        echo "ok install/$name"
    else
        cat "$place.log"
        echo "FAILED install/$name"
        failed=1
    fi
}

install_all() {
    rm -rf "$place"
    meson install -C build --no-rebuild --destdir "$place"
}

flags() {
    PKG_CONFIG_SYSROOT_DIR=$place PKG_CONFIG_PATH=$(dirname "$(find "$place" -name kvmas.pc)") \
        pkg-config "$@" kvmas
}

libdir() {
    dirname "$(find "$place" -name libkvmas.a)"
}

compile_shared() {
    # shellcheck disable=SC2046 # the flags are words
    cc -Wall -Wextra -Werror examples/minimal.c -o "$place/minimal" $(flags --cflags --libs) &&
        LD_LIBRARY_PATH=$(libdir) ldd "$place/minimal" | grep -q "libkvmas.so.0 => $place"
}

# Its guest is one for x86.
compile_track_dirty() {
    # shellcheck disable=SC2046
    cc -Wall -Wextra -Werror examples/track_dirty.c -o "$place/track_dirty" \
        $(flags --cflags --libs)
}

compile_static() {
    # shellcheck disable=SC2046
    cc -static -Wall -Wextra -Werror examples/minimal.c -o "$place/minimal-static" \
        $(flags --cflags --libs --static)
}

# A user's compiler is stricter than ours, or is one of C++.
compile_header() {
    echo '#include <kvmas.h>' | cc -x c -std=c11 -pedantic -Wall -Wextra -Werror -I include \
        -fsyntax-only - && echo '#include <kvmas.h>' | c++ -x c++ -std=c++17 -pedantic -Wall \
        -Wextra -Werror -I include -fsyntax-only -
}

# A static library brings no names but its own into a VMM.
static_names() {
    ! nm --defined-only --extern-only "$(libdir)/libkvmas.a" | awk 'NF == 3 { print $3 }' |
        grep -vE '^(kvmas|kas)_'
}

exports_nothing_else() {
    ! nm -D --defined-only "$(libdir)/libkvmas.so" | awk '{ print $3 }' |
        grep -vE '^(kvmas_|LIBKVMAS_)'
}

# Those of its pieces that are whole functions.
readme_functions_compile() {
    {
        printf '#include <%s>\n' kvmas.h unistd.h
        sed -n '/^```c$/,/^```$/p' README.md | awk '
            /^```c$/ { block = ""; next }
            /^```$/ { if (block ~ /^int [a-z_]*\(struct/) { printf "%s", block } next }
            { block = block $0 "\n" }'
    } >"$place.c"
    grep -q '^int ' "$place.c" && cc -Wall -Wextra -Werror -I include -fsyntax-only "$place.c"
}

# The first of its blocks of C; what follows are pieces.
readme_has_program() {
    diff <(sed -n '/^```c$/,/^```$/p' README.md | sed '1d; /^```$/,$d') <(sed 1,2d examples/minimal.c)
}

check install install_all
check shared compile_shared
[[ $(uname -m) != x86_64 ]] || check track-dirty compile_track_dirty
check static compile_static
check header compile_header
check static-names static_names
check exported-names exports_nothing_else
check readme-program readme_has_program
check readme-functions readme_functions_compile
exit "$failed"
