#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Usage: tests/setup.sh PACKAGE...
#
# Makes sure that the named Debian packages are installed. Silent if they all are. Missing ones are
# installed on Debian 12, as root or with sudo; anywhere else one line on stderr says what is
# missing, and the status is 1. Names must be those of real packages, without an architecture.

set -u

missing_of() {
    local installed package
    installed=$'\n'$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "$@" 2>/dev/null)$'\n'
    for package; do
        [[ $installed == *$'\n'"installed $package"$'\n'* ]] || echo "$package"
    done
}

is_debian_12() {
    [[ -r /etc/os-release ]] || return
    # shellcheck source=/dev/null
    (. /etc/os-release && [[ ${ID-} = debian && ${VERSION_ID-} = 12 ]])
}

give_up() {
    echo "setup.sh: missing Debian packages: ${missing[*]}; $1" >&2
    exit 1
}

# Networks flake, and a package list may be a day too old: one more try, with new lists, before it
# counts as a failure.
install_missing() {
    local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive
        apt-get -q -o DPkg::Lock::Timeout=600)
    local try
    for try in 1 2; do
        echo "== try $try"
        "${apt[@]}" update &&
            "${apt[@]}" install -y --no-install-recommends "${missing[@]}" && return
        sleep 3
    done
    return 1
}

(($#)) || { echo "usage: setup.sh PACKAGE..." >&2; exit 1; }

mapfile -t missing < <(missing_of "$@")
((${#missing[@]})) || exit 0

is_debian_12 || give_up "install them, or what your system calls them"
as_root=()
if ((EUID != 0)); then
    as_root=(sudo)
    # Without a terminal nobody can be asked for a password.
    [[ -t 0 ]] || as_root+=(-n)
    "${as_root[@]}" true 2>/dev/null ||
        give_up "as root, run: apt-get install --no-install-recommends ${missing[*]}"
fi

# Tests that run side by side may need the same packages: one of them installs, the others wait and
# look again.
exec 9<"${BASH_SOURCE[0]}"
flock 9
mapfile -t missing < <(missing_of "$@")
((${#missing[@]})) || exit 0

log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
install_missing >"$log" 2>&1 </dev/null || {
    cat "$log" >&2
    give_up "apt-get failed, see above"
}
