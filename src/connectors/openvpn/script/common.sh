#!/bin/sh
# shellcheck disable=SC2015,SC2034,SC2154 # CONFIG, CA_INDEX and the like are set by the caller; parts use each other's variables
#
# Sent to the gateway once, after src/wire/shell/common.sh. Besides what that needs: flock and openssl; perl or python3 to talk to the
# management interface.
#
# The caller sets: CONFIG (the server's configuration file), CA_INDEX, CA_KEY, CA_CERT, CA_PASS, CA_CRL (files of the CA, or nothing),
# CA_DIRS (folders with certificates, a line each), CRL_DAYS (a number, or nothing).

# same FILE FILE: whether both are one file, links followed.
same() {
    one=$(stat -Lc %d:%i -- "$1" 2>/dev/null) && other=$(stat -Lc %d:%i -- "$2" 2>/dev/null) && [ "$one" = "$other" ]
}

# argument NAME PID: what stands after --NAME in the command line of a process. `openvpn FILE` is short for --config FILE.
argument() {
    tr '\000\n' '\n?' <"/proc/$2/cmdline" | awk -v name="--$1" '
        NR == 2 && name == "--config" && !/^--/ { print; exit }
        hit { print; exit }
        $0 == name { hit = 1 }'
}

# uid_of PID: the real user of a process.
uid_of() { awk '$1 == "Uid:" { print $2; exit }' "/proc/$1/status" 2>/dev/null; }

# listens PID: whether a process holds a socket of the network. Plugins of the server run beside it under its very command line, but
# hold none.
listens() {
    find "/proc/$1/fd" -type l -printf '%l\n' 2>/dev/null | sed -n 's/^socket:\[\([0-9]*\)\]$/\1/p' >"$TMP/sockets"
    cat "/proc/$1"/net/udp "/proc/$1"/net/udp6 "/proc/$1"/net/tcp "/proc/$1"/net/tcp6 2>/dev/null |
        awk -v sockets="$TMP/sockets" 'BEGIN { while ((getline inode <sockets) > 0) mine[inode] = 1 } $10 in mine { found = 1 } END { exit !found }'
}

# find_server: sets PID to the openvpn that runs with CONFIG, OTHERS to the configurations of any others, and AT_ROOT and AT_CWD to
# where absolute and relative paths begin for it. Anybody may call a process openvpn: the server is root's, or runs as the user that
# CONFIG, which is root's, names. Where several could be it, PID is empty and SEVERAL has them.
find_server() {
    PID='' OTHERS='' SEVERAL=''
    owner=$(awk "$DIRECTIVES" "$CONFIG" 2>/dev/null | awk -F '\t' '$1 == "user" { v = $2 } END { print v }')
    [ -z "$owner" ] || owner=$(id -u -- "$owner" 2>/dev/null)
    servers=
    for dir in /proc/[0-9]*; do
        comm=
        { read -r comm <"$dir/comm"; } 2>/dev/null || continue
        [ "$comm" = openvpn ] || continue
        pid=${dir#/proc/}
        name=$(argument config "$pid") 2>/dev/null
        [ -n "$name" ] || continue
        hit=
        case $name in
        /*)
            if same "$dir/root$name" "$CONFIG" || [ "$name" = "$CONFIG" ]; then hit=1; fi
            ;;
        *)
            if same "$dir/cwd/$name" "$CONFIG" || same "$dir/cwd/${name##*/}" "$CONFIG"; then hit=1; fi
            ;;
        esac
        uid=$(uid_of "$pid")
        if [ -z "$hit" ]; then
            OTHERS="$OTHERS$name$NL"
        elif [ "$uid" = 0 ] || [ "$uid" = "${owner:-0}" ]; then
            servers="$servers $pid"
        else
            OTHERS="$OTHERS$name, as user id $uid, which is neither root nor the user that the configuration names$NL"
        fi
    done
    # shellcheck disable=SC2086 # numbers
    set -- $servers
    if [ $# -gt 1 ]; then
        servers=
        for pid in "$@"; do if listens "$pid"; then servers="$servers $pid"; fi; done
        SEVERAL="$*"
        # shellcheck disable=SC2086
        set -- $servers
    fi
    if [ $# = 1 ]; then
        PID=$1 SEVERAL=''
        AT_ROOT=/proc/$PID/root AT_CWD=/proc/$PID/cwd
    else
        AT_ROOT='' AT_CWD=$(dirname -- "$CONFIG")
    fi
}

# changed_since_start: whether CONFIG was changed after the server had started, so that nobody knows what it runs with. A fifth of a
# second is for the clocks: the start is counted in hundredths.
changed_since_start() {
    [ -n "$PID" ] || return 1
    { read -r up _ </proc/uptime && read -r line <"/proc/$PID/stat"; } 2>/dev/null || return 0
    # After the name, which may hold anything, the start is the twentieth field.
    printf '%s %s %s %s %s\n' "$(date +%s.%N)" "$up" "$(getconf CLK_TCK 2>/dev/null || echo 100)" "$(stat -Lc %.Z -- "$CONFIG" 2>/dev/null)" "${line##*) }" |
        awk '{ exit !($4 > $1 - $2 + $24 / $3 + 0.2) }'
}

# real PATH: where a path of the configuration is, seen from here, as the running server sees it.
real() {
    case $1 in
    /*) printf '%s%s' "$AT_ROOT" "$1" ;;
    *) printf '%s/%s' "$AT_CWD" "$1" ;;
    esac
}

# final PATH: the same file by a path of ours without links in it, so that another user of ours can be tried on it; as it is where
# that would be another file (a server in another root).
final() {
    path=$(readlink -f -- "$1" 2>/dev/null)
    if [ -n "$path" ] && same "$path" "$1"; then printf '%s' "$path"; else printf '%s' "$1"; fi
}

# Splits lines of openvpn's configuration into fields, as its parser does: quotes, backslashes, comments, inline blocks.
# shellcheck disable=SC2016 # awk's own dollars
DIRECTIVES='
function field(text) { out = out (out == "" ? "" : "\t") text; any = 1 }
inside != "" { if (index($0, "</" inside ">")) inside = ""; next }
{
    sub(/\r$/, ""); gsub(/\t/, " ")
    line = $0; sub(/^ +/, "", line)
    if (line ~ /^<[a-z0-9-]+>/) { inside = substr(line, 2, index(line, ">") - 2); print inside "\t[inline]"; next }
    out = ""; any = 0; word = ""; started = 0; quote = ""
    for (i = 1; i <= length(line); i++) {
        c = substr(line, i, 1)
        if (quote == "\047") { if (c == quote) quote = ""; else word = word c; continue }
        if (c == "\\") { i++; word = word substr(line, i, 1); started = 1; continue }
        if (quote == "\"") { if (c == quote) quote = ""; else word = word c; continue }
        if (c == "\"" || c == "\047") { quote = c; started = 1; continue }
        if (c == " ") { if (started) field(word); word = ""; started = 0; continue }
        if ((c == "#" || c == ";") && !started) break
        word = word c; started = 1
    }
    if (started) field(word)
    if (any) { sub(/^--/, "", out); print out }
}'

# load_config: sets OPTIONS to what the server was started with, its command line first. Never what stands in inline blocks.
load_config() {
    OPTIONS=$({
        if [ -n "$PID" ]; then
            tr '\000\n\t' '\n  ' <"/proc/$PID/cmdline" | awk 'NR == 1 { next }
                /^--/ { if (line != "") print line; line = substr($0, 3); next }
                line != "" { line = line "\t" $0 }
                END { if (line != "") print line }'
        fi
        awk "$DIRECTIVES" "$CONFIG" 2>/dev/null
    })
}

# option NAME [N]: the N-th argument of the last such directive; nothing if there is none.
option() { printf '%s\n' "$OPTIONS" | awk -F '\t' -v name="$1" -v n="${2:-1}" '$1 == name { v = $(n + 1) } END { print v }'; }
has_option() { printf '%s\n' "$OPTIONS" | awk -F '\t' -v name="$1" '$1 == name { found = 1 } END { exit !found }'; }

# inline NAME FILE: writes the inline block of the configuration to a file.
inline() { awk -v name="$1" '$0 ~ "^[ \t]*</" name ">" { exit } hit { print } $0 ~ "^[ \t]*<" name ">" { hit = 1 }' "$CONFIG" >"$2"; }

# located NAME: sets LOCATED to a file that a directive names; a copy of it where it stands inline; nothing if there is none.
located() {
    LOCATED=$(option "$1")
    case $LOCATED in
    '') ;;
    '[inline]') inline "$1" "$TMP/$1" && LOCATED=$TMP/$1 ;;
    *) LOCATED=$(real "$LOCATED") ;;
    esac
}

# load: everything above, anew.
load() {
    find_server
    tries=0
    # A server that runs a program is two processes for a moment.
    while [ -n "$SEVERAL" ] && [ $tries -lt 5 ]; do
        tries=$((tries + 1))
        nap
        find_server
    done
    load_config
    located ca
    SERVER_CA=$LOCATED
    located cert
    SERVER_CERT=$LOCATED
    CRL=$(option crl-verify)
    CRL_KIND=$(option crl-verify 2)
    case $CRL in
    '') CRL_KIND=none ;;
    '[inline]') CRL_KIND=inline CRL= ;;
    *) CRL=$(final "$(real "$CRL")") ;;
    esac
    CCD=$(option client-config-dir)
    [ -z "$CCD" ] || CCD=$(final "$(real "$CCD")")
    SERVER_UID='' SERVER_GID='' SERVER_GROUPS=''
    [ -z "$PID" ] || while read -r key _ value rest; do
        case $key in
        Uid:) SERVER_UID=$value ;;
        Gid:) SERVER_GID=$value ;;
        esac
    done <"/proc/$PID/status"
}

# has_database: whether the database of the CA can be read. openssl puts it aside for a moment when it writes it anew.
has_database() {
    tries=0
    until [ -e "$CA_INDEX" ] || [ $tries -ge 5 ]; do
        tries=$((tries + 1))
        nap
    done
    [ -r "$CA_INDEX" ]
}

# readable FILE: whether the running server's user can read it: it gave its privileges up after it had started.
readable() {
    [ -n "$SERVER_UID" ] && [ "$SERVER_UID" != 0 ] || {
        [ -r "$1" ]
        return
    }
    case $1 in /proc/*) [ -r "$1" ] && return ;; esac
    command -v setpriv >/dev/null 2>&1 || return 0
    setpriv --reuid "$SERVER_UID" --regid "$SERVER_GID" --clear-groups test -r "$1" 2>/dev/null
}

# what_reads FILE: certificates and lists carry text around their PEM blocks; only the blocks.
blocks() { awk -v name="$2" '$0 ~ "^-----BEGIN " name "-----" { on = 1 } on { print } $0 ~ "^-----END " name "-----" { on = 0 }' "$1"; }

# NAMED: for awk, whether a subject is of exactly the name NAME of the environment. `row`: as `openssl ca` writes it into its database;
# `printed`: as openssl prints it. It escapes bytes that are no ASCII (\xC3), and no others that a name may have.
# shellcheck disable=SC2016
NAMED='
function plain(text,    out, digits) {
    digits = "0123456789ABCDEF"
    while (match(text, /\\x[89A-F][0-9A-F]/)) {
        out = out substr(text, 1, RSTART - 1) sprintf("%c", (index(digits, substr(text, RSTART + 2, 1)) - 1) * 16 + index(digits, substr(text, RSTART + 3, 1)) - 1)
        text = substr(text, RSTART + 4)
    }
    return out text
}
function has(subject, before, after,    at) {
    before = before ENVIRON["NAME"]
    while (at = index(subject, before)) {
        subject = substr(subject, at + length(before))
        if (subject == "" || subject ~ after) return 1
    }
    return 0
}
function row(subject) { return has(plain(subject), "/CN=", "^/[A-Za-z0-9.]+=") }
function printed(subject) {
    subject = "," plain(subject)
    return has(subject, ",CN=", "^[,/]") || has(subject, ", CN=", "^[,/]") || has(subject, ",CN = ", "^[,/]") || has(subject, ", CN = ", "^[,/]")
}
'
