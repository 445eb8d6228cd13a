#!/bin/sh
# shellcheck disable=SC2034,SC2154,SC2016 # TAB and limited come from common.sh; awk's own dollars
#
# When accounts were last logged in to. Sent with the one call that asks, by a sweep; everything else of the script is there already.

# uses UID:NAME…: W, how, when, account. `terminal` is a login on a terminal, in seconds since 1970 (lastlog and wtmp know no others);
# `login` any login over SSH, with the time as the log writes it; `since` the log's first line; `changed` the day since 1970 on which the
# password was last changed: the account was there then. Ends with Z.
uses() {
    echo "W${TAB}zone$TAB$(date +%z)$TAB"
    getent shadow | awk -F: '$3 > 0 { print "W\tchanged\t" $3 "\t" $1 }'
    # Where time_t grew to 64 bits, these files did too.
    case $(uname -m) in
    aarch64* | riscv64 | loongarch64) width=8 entry=296 record=400 at_user=44 at_time=344 ;;
    *) width=4 entry=292 record=384 at_user=44 at_time=340 ;;
    esac
    # A sparse file, an entry a uid: it is never read as a whole.
    if [ -f /var/log/lastlog ]; then
        size=$(stat -c %s /var/log/lastlog)
        for who in "$@"; do
            at=$((${who%%:*} * entry))
            [ $((at + entry)) -le "$size" ] || continue
            echo "=${who#*:}"
            od -An -v -tu$width -j "$at" -N "$width" /var/log/lastlog
        done | awk '/^=/ { name = substr($0, 2); next } $1 > 0 { print "W\tterminal\t" $1 "\t" name }'
    fi
    for file in /var/log/wtmp.1 /var/log/wtmp; do
        [ -f "$file" ] || continue
        # Whole records from the end, some twenty thousand.
        size=$(($(stat -c %s "$file") / record))
        skip=$((size > 20000 ? size - 20000 : 0))
        limited 20 od -An -v -tu1 -w$record -j $((skip * record)) -N $(((size - skip) * record)) "$file"
    done | awk -v user="$at_user" -v time="$at_time" '
        $1 == 7 {
            name = ""
            for (i = user + 1; i <= user + 32 && $i > 0; i++) name = name sprintf("%c", $i + 0)
            at = $(time + 1) + 256 * ($(time + 2) + 256 * ($(time + 3) + 256 * $(time + 4)))
            if (at > last[name]) last[name] = at
        }
        END { for (name in last) if (name !~ /[\t\n]/) printf "W\tterminal\t%d\t%s\n", last[name], name }'
    [ -n "$SSHD" ] || find_listener
    for file in "$SSHD_LOG" /var/log/auth.log.1 /var/log/auth.log /var/log/secure /var/log/messages; do
        [ -s "$file" ] || continue
        head -n 1 "$file" | awk '{ print "W\tsince\t" substr($0, 1, 40) "\t" }'
        tail -c 33554432 "$file" | grep -aF 'Accepted '
    done | awk "$LAST"
    if [ -d /run/systemd/system ] && command -v journalctl >/dev/null 2>&1; then
        {
            limited 10 journalctl -q --no-pager -o short-iso -n +1 2>/dev/null | awk '{ print "W\tsince\t" substr($0, 1, 40) "\t" }'
            limited 20 journalctl -q --no-pager -o short-iso -g 'Accepted ' _COMM=sshd + _COMM=sshd-session 2>/dev/null
        } | awk "$LAST"
    fi
    echo "Z${TAB}uses"
}

# Keeps the last line of each account: TIME HOST sshd[PID]: Accepted METHOD for USER from …
LAST='
/^W\tsince\t/ { print; next }
{
    at = index($0, ": Accepted ")
    if (!at || substr($0, 1, at) !~ /sshd(-session)?(\[[0-9]+\])?:$/) next
    n = split(substr($0, at + 2), w, " ")
    if (n < 5 || w[3] != "for" || w[5] != "from") next
    last[w[4]] = substr($0, 1, 40)
}
END { for (name in last) { gsub(/\t/, " ", last[name]); print "W\tlogin\t" last[name] "\t" name } }'
