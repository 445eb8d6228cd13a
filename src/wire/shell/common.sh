#!/bin/sh
# shellcheck disable=SC2034 # the parts that follow use the variables
#
# What scripts on gateways have in common. It comes first, over standard input of `sh -s`; afterwards functions are called, one line a
# call. POSIX sh, awk and coreutils. Every answer is one line, its first field says what it is, fields are separated by tabs, and what
# others may have written stands last.

PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL
umask 077
unset IFS CDPATH ENV
TAB=$(printf '\t')
NL='
'
# The mode stays private to us; no secret is ever written into it.
TMP=$(mktemp -d /tmp/.offboard-XXXXXXXXXX) || TMP=
trap 'rm -rf "$TMP"' EXIT
trap 'exit 1' HUP INT TERM

# one_line TEXT: without newlines and tabs, for an answer's last field.
one_line() {
    set -f
    # shellcheck disable=SC2086 # splitting is the point
    set -- $1
    set +f
    printf '%s' "$*"
}

say() { printf 'I\t%s\t%s\n' "$1" "$(one_line "$2")"; }
answer() { printf 'R\t%s\t%s\t%s\n' "$1" "$2" "$(one_line "$3")"; }

if command -v timeout >/dev/null 2>&1; then
    limited() { timeout -k 1 "$@"; }
else
    limited() { shift; "$@"; }
fi
nap() { sleep 0.1 2>/dev/null || sleep 1; }

# steadily FUNCTION ARGUMENTS…: with a sign of life each second, so that nobody takes waiting for a broken connection.
steadily() {
    (
        n=0
        while [ "$n" -lt 120 ]; do
            n=$((n + 1))
            sleep 1
            # Of a shell that was killed there is none.
            kill -0 $$ 2>/dev/null || exit
            printf 'P\t\n'
        done
    ) </dev/null &
    alive=$!
    "$@"
    kill "$alive" 2>/dev/null
    wait "$alive" 2>/dev/null
}

# replace FILE NEW: moves NEW over FILE, with FILE's owner and mode. Whole or not at all. Fails with a sentence in WHY.
replace() {
    if [ -e "$1" ]; then
        WHY=$(chown --reference="$1" -- "$2" 2>&1 && chmod --reference="$1" -- "$2" 2>&1) || return 1
    else
        chmod 644 -- "$2"
    fi
    WHY=$(sync -- "$2" 2>&1; mv -f -- "$2" "$1" 2>&1)
}
