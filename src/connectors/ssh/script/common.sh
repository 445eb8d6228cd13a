#!/bin/sh
# shellcheck disable=SC2034 # WE, GROUPS_OF_NOTE and the like are set by the caller and used in the other parts
#
# Sent to a host once, over standard input of `sh -s`; afterwards its functions are called, one line a call.
# POSIX sh, awk and coreutils: nothing else is taken for granted. Every answer is one line, its first field says what it is, fields
# are separated by tabs, and whatever others may have written stands last, so that it cannot pass for another field.
#
# The caller sets: WE (the account that we log in to), GROUPS_OF_NOTE (names, separated by blanks).

PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL
umask 077
unset IFS CDPATH ENV
TAB=$(printf '\t')
NL='
'

# Everything below reads nothing from standard input: that is where the calls come from.

# one_line TEXT: without newlines and tabs, for an answer's last field.
one_line() {
    set -f
    # shellcheck disable=SC2086 # splitting is the point
    set -- $1
    set +f
    printf '%s' "$*"
}

# limited SECONDS COMMAND…: ends a command that hangs, where timeout(1) exists.
if command -v timeout >/dev/null 2>&1; then
    limited() { timeout -k 1 "$@"; }
else
    limited() { shift; "$@"; }
fi

nap() { sleep 0.1 2>/dev/null || sleep 1; }

# entry NAME: the account's line of passwd(5), wherever it comes from.
entry() { getent passwd "$1" 2>/dev/null | awk -F: -v name="$1" '$1 == name { print; exit }'; }

# is_local NAME: whether it stands in /etc/passwd.
is_local() { awk -F: -v name="$1" '$1 == name { found = 1; exit } END { exit !found }' /etc/passwd; }

# find_listener: sets SSHD and its options to those of the sshd that let us in. It writes its command line into its title.
find_listener() {
    SSHD='' SSHD_FILE='' SSHD_LOG='' SSHD_OPTIONS=''
    pid=$$ MONITOR=''
    while [ "${pid:-0}" -gt 1 ]; do
        title=
        read -r title <"/proc/$pid/cmdline" || :
        case $title in
        "sshd: "*"[listener]"*)
            set -f
            # shellcheck disable=SC2086 # a title keeps no quotes
            set -- $title
            set +f
            SSHD=$2
            while [ $# -gt 1 ]; do
                case $1 in
                -f) SSHD_FILE=$2 ;;
                -E) SSHD_LOG=$2 ;;
                -o) SSHD_OPTIONS="$SSHD_OPTIONS -o $2" ;;
                -f?*) SSHD_FILE=${1#-f} ;;
                esac
                shift
            done
            break
            ;;
        esac
        next=
        while read -r key value; do
            case $key in PPid:) next=$value && break ;; esac
        done <"/proc/$pid/status"
        MONITOR=$pid
        pid=$next
    done
    [ -x "$SSHD" ] || SSHD=$(command -v sshd) || SSHD=/usr/sbin/sshd
    SSHD_FILE=${SSHD_FILE:-/etc/ssh/sshd_config}
}

# effective [ARGUMENTS]: what sshd -T says, for nobody in particular or for `-C user=…`.
effective() {
    # shellcheck disable=SC2086 # SSHD_OPTIONS is a list
    limited 10 "$SSHD" -T -f "$SSHD_FILE" $SSHD_OPTIONS "$@" 2>&1
}

# load_config: sets CONFIG to `sshd -T`, and MATCHED to yes where an account may have key files of its own. Asked again only if
# a file of the configuration was changed since: sshd -T costs more than everything else here.
load_config() {
    [ -n "$SSHD" ] || find_listener
    stamp=$(stat -c '%n %i %Z %s' "$SSHD_FILE" /etc/ssh/sshd_config.d /etc/ssh/sshd_config.d/*.conf 2>/dev/null)
    [ -n "$CONFIG" ] && [ -n "$stamp" ] && [ "$stamp" = "$CONFIG_STAMP" ] && return
    CONFIG_STAMP=$stamp
    CONFIG=$(effective)
    MATCHED=no
    CONDITIONS=$(grep -hsiE '^[[:space:]]*(match|include|authorizedkeysfile)[[:space:]=]' "$SSHD_FILE" /etc/ssh/sshd_config.d/*.conf)
    case $CONDITIONS in
    *[Mm][Aa][Tt][Cc][Hh]*)
        case $CONDITIONS in
        *[Aa][Uu][Tt][Hh][Oo][Rr][Ii][Zz][Ee][Dd][Kk][Ee][Yy][Ss][Ff][Ii][Ll][Ee]* | *[Ii][Nn][Cc][Ll][Uu][Dd][Ee]*) MATCHED=yes ;;
        esac
        ;;
    esac
    case $CONDITIONS in
    # Files that are included from elsewhere are not in the stamp.
    *[Ii][Nn][Cc][Ll][Uu][Dd][Ee]*)
        [ "$(printf '%s\n' "$CONDITIONS" | grep -iE '^[[:space:]]*include' | grep -cv '/etc/ssh/sshd_config.d/\*.conf')" = 0 ] || CONFIG_STAMP=
        ;;
    esac
}

# Prints the accounts for which a Match block that sets AuthorizedKeysFile may hold: sshd -T -C costs 11 ms, so it is asked for
# those alone. A condition that is neither User nor Group may hold for everybody.
# shellcheck disable=SC2016
TAILORED='
function pattern(glob,    i, c, out) {
    out = "^"
    for (i = 1; i <= length(glob); i++) {
        c = substr(glob, i, 1)
        out = out (c == "*" ? ".*" : c == "?" ? "." : c ~ /[A-Za-z0-9_-]/ ? c : c == "^" || c == "\\" ? "\\" c : "[" c "]")
    }
    return out "$"
}
function list(text, into, count,    n, w, i) {
    n = split(text, w, ",")
    for (i = 1; i <= n; i++) { if (w[i] ~ /^!/) everybody = 1; else into[++count] = pattern(w[i]) }
    return count
}
function settle(    i, n, w) {
    if (block == "" || !sets) return
    n = split(block, w, " ")
    for (i = 2; i < n; i += 2) {
        if (tolower(w[i]) == "user") { users = list(w[i + 1], user, users); return }
        if (tolower(w[i]) == "group") { groups = list(w[i + 1], group, groups); return }
    }
    everybody = 1
}
/^=/ { if (section == "=conditions") settle(); section = $0; next }
section == "=conditions" {
    key = tolower($1)
    if (key == "match") { settle(); block = $0; sets = 0 }
    else if (key == "include") { if ($0 !~ /\/etc\/ssh\/sshd_config\.d\/\*\.conf[ \t]*$/) everybody = 1 }
    else sets = 1
    next
}
section == "=group" {
    split($0, f, ":")
    for (i = 1; i <= groups; i++) if (f[1] ~ group[i]) {
        gids[f[3]] = 1
        n = split(f[4], m, ",")
        for (j = 1; j <= n; j++) members[m[j]] = 1
    }
    next
}
{
    split($0, f, ":")
    if (f[1] == "" || seen[f[1]]++) next
    hit = everybody || (f[1] in members) || (f[4] in gids)
    for (i = 1; !hit && i <= users; i++) hit = f[1] ~ user[i]
    if (hit) print f[1]
}'

# accounts all|only [NAME…]: the sections from which everything about accounts is read. With all, the names are asked for one by
# one too, since a name service need not list all that it knows.
accounts() {
    echo '=config'
    printf '%s\n' "$CONFIG"
    echo '=local'
    cat /etc/passwd
    which=$1
    shift
    passwd=$({
        [ "$which" = only ] || getent passwd
        [ $# = 0 ] || getent passwd "$@"
    })
    echo '=passwd'
    printf '%s\n' "$passwd"
    if [ "$MATCHED" = yes ]; then
        echo '=matched'
        # The address is ours: what sshd reads may depend on it, which the caller reports.
        for name in $({ printf '=conditions\n%s\n=group\n' "$CONDITIONS"; getent group; printf '=passwd\n%s\n' "$passwd"; } | awk "$TAILORED"); do
            effective -C "user=$name,host=localhost,addr=127.0.0.1,laddr=127.0.0.1,lport=22" |
                awk -v name="$name" '$1 == "authorizedkeysfile" { print name ":" $0 }'
        done
    fi
}

# Expands AuthorizedKeysFile for every account, as sshd_config(5) says: %h, %u, %U, %%, and relative to the home directory.
# Prints P, the account, a tab, the path; with all=1 also what is known of the configuration and of the accounts.
# shellcheck disable=SC2016 # awk's own dollars
EXPAND='
function expand(pattern, name, uid, home,    out, at, token) {
    out = ""
    while ((at = index(pattern, "%")) > 0) {
        token = substr(pattern, at + 1, 1)
        out = out substr(pattern, 1, at - 1)
        if (token == "h") out = out home
        else if (token == "u") out = out name
        else if (token == "U") out = out uid
        else if (token == "%") out = out "%"
        else return ""
        pattern = substr(pattern, at + 2)
    }
    out = out pattern
    return substr(out, 1, 1) == "/" ? out : home "/" out
}
/^=/ { section = $0; next }
section == "=config" {
    key = $1
    if (key == "authorizedkeysfile") { sub(/^[^ ]* */, ""); patterns = $0; $0 = key " " $0 }
    if (all && key ~ /^(authorizedkeysfile|authorizedkeyscommand|authorizedprincipalsfile|trustedusercakeys|revokedkeys|usepam|strictmodes|loglevel|syslogfacility|maxauthtries|persourcepenalties|persourcepenaltyexemptlist|pubkeyauthentication|authenticationmethods|maxstartups)$/) print "C\t" $0
    if (all && key ~ /:$/) print "C\terror " $0
    next
}
section == "=local" { split($0, f, ":"); islocal[f[1]] = 1; next }
section == "=matched" {
    at = index($0, ":"); rest = substr($0, at + 1); sub(/^[^ ]* */, "", rest)
    own[substr($0, 1, at - 1)] = rest
    next
}
section == "=passwd" {
    n = split($0, f, ":")
    if (n < 7 || f[1] in line) next
    line[f[1]] = $0
    order[++count] = f[1]
}
END {
    for (i = 1; i <= count; i++) {
        name = order[i]
        split(line[name], f, ":")
        if (all) print "A\t" (name in islocal ? 1 : 0) "\t" line[name]
        m = split(name in own ? own[name] : patterns, p, " ")
        for (j = 1; j <= m; j++) {
            if (p[j] == "none") continue
            path = expand(p[j], name, f[3], f[6])
            if (path != "") print "P\t" name "\t" path
        }
    }
}'

# key_files NAME: the files that sshd reads for one account.
key_files() {
    load_config
    accounts only "$1" | awk -v all=0 "$EXPAND" | sed -n "s/^P${TAB}[^${TAB}]*${TAB}//p"
}
