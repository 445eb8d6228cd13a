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
WATCHING=
unset IFS CDPATH ENV
TAB='	'
NL='
'

# What reads much is read by mawk where there is one (Debian's own): gawk takes three times as long to begin.
AWK='awk'
if command -v mawk >/dev/null 2>&1; then AWK=mawk; fi

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

# Names are compared as text, with an empty string after one of the two: awk takes what looks like a number for one, and 007 is not 7.
# They come in through the environment: awk -v would take a backslash in them for its own.

# named NAME…: the lines of passwd(5) of these accounts, perhaps among others. getent takes digits alone for a user id; id(1) asks for a
# name first.
named() {
    getent passwd "$@"
    for name in "$@"; do
        case $name in
        *[!0-9]*) ;;
        *)
            getent passwd
            getent passwd "$(id -u -- "$name" 2>/dev/null)"
            ;;
        esac
    done
}

# entry NAME: the account's line of passwd(5), wherever it comes from.
entry() { named "$1" 2>/dev/null | NAME=$1 awk -F: '$1 == ENVIRON["NAME"] "" { print; exit }'; }

# is_local NAME: whether it stands in /etc/passwd.
is_local() { NAME=$1 awk -F: '$1 == ENVIRON["NAME"] "" { found = 1; exit } END { exit !found }' /etc/passwd; }

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
# shellcheck disable=SC2120 # most callers have no arguments
effective() {
    # shellcheck disable=SC2086 # SSHD_OPTIONS is a list
    limited 10 "$SSHD" -T -f "$SSHD_FILE" $SSHD_OPTIONS "$@" 2>&1
}

# What the answers hang on besides the tables of accounts: how sshd is set up, and where accounts come from. Every line has before it
# what it is: m Match, k AuthorizedKeysFile, i the usual Include, e an Include from elsewhere; of nsswitch.conf(5) f the host's own files
# alone, s those and systemd, o more. A line that begins with a slash is the next file's name.
# shellcheck disable=SC2016 # awk's own dollars
SOURCES_AWK='
function kind(file, text) {
    text = tolower(text)
    sub(/^[ \t]+/, "", text)
    if (file == "/etc/nsswitch.conf") {
        sub(/[ \t]*(#.*)?$/, "", text)
        if (text !~ /^(passwd|group|shadow)[ \t]*:/) return "."
        return text ~ /:[ \t]*files$/ ? "f" : text ~ /:[ \t]*files[ \t]+systemd$/ ? "s" : "o"
    }
    if (text !~ /^(match|include|authorizedkeysfile)[ \t=]/) return "."
    if (text !~ /^include/) return text ~ /^match/ ? "m" : "k"
    return text ~ /^include[ \t]+\/etc\/ssh\/sshd_config\.d\/\*\.conf[ \t]*$/ ? "i" : "e"
}
function sources(    n, i, file, text, all) {
    n = split(ENVIRON["FILES"], file, "\n")
    for (i = 1; i <= n; i++) {
        all = all file[i] "\n"
        while ((getline text < file[i]) > 0) all = all kind(file[i], text) text "\n"
        close(file[i])
    }
    return all
}'

# load_config: reads the sources into SOURCES, and `sshd -T`, which costs more than everything else here, into CONFIG. Sets MATCHED to
# yes where an account may have key files of its own, CONDITIONS to the lines that say so, LOCAL to whether accounts come from the
# host's own files alone, and TODAY. Called again only if a source was changed: see tables.
load_config() {
    if [ -z "$SSHD" ]; then
        find_listener
        # Also after midnight: then an account that expires is taken for live a little longer.
        TODAY=$(($(date +%s) / 86400))
    fi
    FILES='' CONDITIONS='' MATCHED=no LOCAL='' ELSEWHERE=
    for file in "$SSHD_FILE" /etc/ssh/sshd_config.d/*.conf /etc/nsswitch.conf; do
        [ ! -f "$file" ] || FILES="$FILES${FILES:+$NL}$file"
    done
    SOURCES=$(FILES=$FILES "$AWK" "$SOURCES_AWK"'BEGIN { printf "%s", sources() }')
    # After the sources: what changes in between is seen as a change.
    # shellcheck disable=SC2119
    CONFIG=$(effective)
    keys=
    IFS=$NL
    set -f
    for line in $SOURCES; do
        case $line in
        [mkie]*) CONDITIONS="$CONDITIONS${line#?}$NL" ;;
        esac
        case $line in
        m*) MATCHED=maybe ;;
        [ki]*) keys=yes ;;
        e*) keys=yes ELSEWHERE=yes ;;
        f*) LOCAL="$LOCAL f" ;;
        s*) LOCAL="$LOCAL s" ;;
        o*) LOCAL="$LOCAL o" ;;
        esac
    done
    unset IFS
    set +f
    if [ "$MATCHED$keys" = maybeyes ]; then MATCHED=yes; else MATCHED=no; fi
}

# is_local_only: whether passwd, group and shadow are the host's own files, so that they can be read without getent. systemd's part
# (nss-systemd(8)) has nobody where none of the folders is there in which it looks.
is_local_only() {
    case $LOCAL in
    ' f f' | ' f f f') return 0 ;;
    *o* | '' | ' '?) return 1 ;;
    esac
    for folder in /run/systemd/userdb /run/userdb /run/host/userdb /etc/userdb /usr/lib/userdb /usr/local/lib/userdb; do
        [ ! -e "$folder" ] || return 1
    done
}
