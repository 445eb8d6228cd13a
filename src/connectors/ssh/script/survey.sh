#!/bin/sh
#
# What there is: accounts, key files, sessions, jobs. Changes nothing.

# regular: of the lines in TOLD, tells what each path is, without opening it: opening a FIFO would hang. F: a file that can be read; X:
# something there that sshd does not read either, or that cannot be read. The other lines stay as they are.
regular() {
    out=
    IFS=$NL
    set -f
    for line in $TOLD; do
        case $line in
        P"$TAB"*)
            rest=${line#P"$TAB"}
            path=${rest#*"$TAB"}
            if [ -f "$path" ]; then
                link=
                [ -L "$path" ] && link='link'
                out="${out}F$TAB${rest%%"$TAB"*}$TAB$link$TAB$path$NL"
            elif [ -e "$path" ] || [ -L "$path" ]; then
                out="${out}X$TAB${rest%%"$TAB"*}$TAB$path$NL"
            fi
            ;;
        *) out="$out$line$NL" ;;
        esac
        # Many at once, but not all: every addition copies them.
        [ ${#out} -lt 4096 ] || { printf '%s' "$out" && out=; }
    done
    unset IFS
    set +f
    printf '%s' "$out"
}

# Prints the lines of each file that F names, after its F line: K, line number, the line as it is. Then M, account, file: where sudo
# or cron names one of NAMES.
# shellcheck disable=SC2016
LINES='
function has_word(text, word,    at, before) {
    before = " "
    while ((at = index(text, word)) > 0) {
        if (at > 1) before = substr(text, at - 1, 1)
        text = substr(text, at + length(word))
        if (before !~ /[A-Za-z0-9_]/ && text !~ /^[A-Za-z0-9_]/) return 1
        before = substr(word, length(word))
    }
    return 0
}
function mentions(file,    text, i) {
    while ((getline text < file) > 0) for (i = 1; i <= people; i++) if (!((file, i) in told) && has_word(text, person[i])) {
        told[file, i] = 1
        print "M\t" person[i] "\t" file
    }
    close(file)
}
/^F\t/ {
    print
    path = $0
    for (i = 0; i < 3; i++) path = substr(path, index(path, "\t") + 1)
    number = 0
    while ((got = (getline text < path)) > 0) {
        number++
        if (length(text) > 1000000) print "L\t" number "\t" length(text)
        else if (text !~ /^[ \t]*(#|$)/) print "K\t" number "\t" text
    }
    if (got < 0) print "U\tcannot be read"
    close(path)
    next
}
{ print }
END {
    print "Z\tfiles"
    people = split(ENVIRON["NAMES"], person, " ")
    n = split(ENVIRON["RULES"], rule, "\n")
    for (i = 1; i <= n; i++) mentions(rule[i])
}'

# at_jobs: sets JOBS to the files of at(1), a line each: of every queue, a to z and A to Z, and = for one that runs.
at_jobs() {
    JOBS=
    for job in /var/spool/cron/atjobs/[a-zA-Z=]* /var/spool/at/[a-zA-Z=]*; do
        [ ! -f "$job" ] || [ -L "$job" ] || JOBS="$JOBS$job$NL"
    done
}

# Reads B lines, and prints those of the names that are asked for, each with lines of the file: b, line number, the line. Of a crontab
# the first hundred; of the rest, and of every at job, those that could let somebody in.
# shellcheck disable=SC2016
OTHERS='
BEGIN { FS = "\t"; n = split(ENVIRON["NAMES"], list, " "); for (i = 1; i <= n; i++) want[list[i]] = 1 }
!($2 in want) { next }
{
    print
    if ($3 == "linger") next
    path = $4; number = shown = 0
    while ((got = (getline text < path)) > 0) {
        number++
        if (text ~ /^[ \t]*(#|$)/) continue
        if (text ~ /authorized_keys|usermod|useradd|passwd|AAAA/ || ($3 == "cron" && shown++ < 100)) print "b\t" number "\t" substr(text, 1, 65536)
    }
    if (got < 0) unread = 1
    close(path)
}
END { if (!unread) print "Z\tothers" }'

# others NAME…: the jobs of accounts that somebody else could write to: B, account, kind, file.
others() {
    found=
    for name in "$@"; do
        for spool in /var/spool/cron/crontabs /var/spool/cron/tabs /var/spool/cron /etc/crontabs; do
            [ ! -f "$spool/$name" ] || [ -L "$spool/$name" ] || found="${found}B$TAB$name${TAB}cron$TAB$spool/$name$NL"
        done
        [ ! -e "/var/lib/systemd/linger/$name" ] || found="${found}B$TAB$name${TAB}linger$TAB/var/lib/systemd/linger/$name$NL"
    done
    at_jobs
    if [ -z "$found$JOBS" ]; then
        echo "Z${TAB}others"
        return
    fi
    {
        printf '%s' "$found"
        IFS=$NL
        set -f
        # shellcheck disable=SC2086 # a file a line
        [ -z "$JOBS" ] || stat -c "B$TAB%U${TAB}at$TAB%n" $JOBS 2>/dev/null
    } | {
        NAMES=$*
        export NAMES
        limited 10 awk "$OTHERS"
    }
}

# jobs_of NAME: J, kind, what it is. Looked for in the spools themselves: crontab(1) and atq(1) are asked only where there is one.
jobs_of() {
    for spool in /var/spool/cron/crontabs /var/spool/cron/tabs /var/spool/cron /etc/crontabs; do
        if [ -f "$spool/$1" ] && [ ! -L "$spool/$1" ]; then
            echo "J$TAB$1${TAB}cron$TAB$spool/$1"
            head -c 65536 "$spool/$1" | awk '{ print "j\t" $0 }'
        fi
    done
    [ -z "$JOBS" ] || atq 2>/dev/null | NAME=$1 awk '$NF == ENVIRON["NAME"] "" { gsub(/\t/, " "); print "J\t" ENVIRON["NAME"] "\tat\t" $0 }'
    [ ! -e "/var/lib/systemd/linger/$1" ] || echo "J$TAB$1${TAB}linger${TAB}/var/lib/systemd/linger/$1"
}

# rules: sets RULES to the files of sudo's and cron's that may name an account, a line each.
rules() {
    RULES=
    for file in /etc/sudoers /etc/sudoers.d/* /etc/crontab /etc/cron.d/*; do
        [ ! -f "$file" ] || RULES="$RULES$file$NL"
    done
}

# host all|only NAME…: the tables of accounts, key files and processes; and the jobs of the names. I today, the host's own day; I self,
# the sshd that serves us; I match, see load_config.
host() {
    which=$1
    shift
    tables "$which" 1 "$@"
    TOLD="I${TAB}today$TAB$TODAY${NL}I${TAB}self$TAB$MONITOR${NL}I${TAB}match$TAB$MATCHED$NL$TOLD"
    RULES=
    [ "$which" = only ] || rules
    regular | {
        NAMES=$*
        export NAMES RULES
        limited 20 "$AWK" "$LINES"
    }
    at_jobs
    for name in "$@"; do
        jobs_of "$name"
    done
}

# watch FILE…: of each file, w, the file, and where it is once links among its folders are followed; then owner, group, mode and access list of it
# and of every folder above it, as getfacl(1) tells them, or ls(1) where there is none: one program for all. The next survey tells all groups, and
# whom sudo lets run what. The folders of what a file that is a link itself leads to are not asked: then it may be told once too often.
watch() {
    paths='' was=$PWD
    for file in "$@"; do
        cd -P -- "${file%/*}/" 2>/dev/null || continue
        at=${PWD%/}/${file##*/}
        printf 'w\t%s\t%s\n' "$file" "$at"
        while :; do
            case $NL$paths in
            *"$NL$at$NL"*) break ;;
            esac
            paths="$paths$at$NL"
            [ "$at" != / ] || break
            at=${at%/*}
            at=${at:-/}
        done
    done
    cd -- "$was" 2>/dev/null || cd /
    IFS=$NL
    set -f
    # shellcheck disable=SC2086 # a path a line
    set -- $paths
    unset IFS
    set +f
    echo w
    if [ $# = 0 ]; then
        :
    elif command -v getfacl >/dev/null 2>&1; then
        getfacl -np -- "$@" 2>/dev/null
    else
        ls -dlnL -- "$@" 2>/dev/null
    fi
    echo "Z${TAB}watched"
    WATCHING=1
}

# groups_called NUMBER…: V, a line of group(5): what a name service knows and does not list.
groups_called() {
    lines=$(getent group "$@")
    IFS=$NL
    set -f
    for line in $lines; do
        printf 'V\t%s\n' "$line"
    done
    unset IFS
    set +f
}

# survey NAME…: everything; the names are accounts of particular interest.
survey() {
    host all "$@"
    # shellcheck disable=SC2034 # read in tables.sh
    WATCHING=
    [ "$MATCHED" = no ] || printf '%s\n' "$CONDITIONS" | awk 'tolower($1) == "match" { print "I\tcondition\t" $0 }'
    echo "Z${TAB}survey"
}

# listing NAME…: the key files of these accounts, and what /proc, shadow and the spools say: what a look needs.
listing() {
    host only "$@"
    echo "Z${TAB}survey"
}

# sources: where sshd's log may stand.
sources() {
    for file in "$SSHD_LOG" /var/log/auth.log.1 /var/log/auth.log /var/log/secure /var/log/messages; do
        [ -n "$file" ] && [ -f "$file" ] && tail -c 33554432 "$file" | grep -aF 'Accepted publickey for '
    done
    if [ -d /run/systemd/system ] && command -v journalctl >/dev/null 2>&1; then
        limited 10 journalctl -q --no-pager -o short -g 'Accepted publickey for ' _COMM=sshd + _COMM=sshd-session 2>/dev/null
    fi
}

# trace PID…: T, pid, fingerprint, address, port: which key opened a live session, by sshd's log. The session's own socket tells
# its port, so that an old line for the same pid is not taken for it; lines that contradict each other tell nothing.
trace() {
    [ $# -gt 0 ] || return 0
    [ -n "$SSHD" ] || find_listener
    {
        for pid in "$@"; do
            echo "=pid $pid"
            ls -l "/proc/$pid/fd" 2>/dev/null
        done
        echo '=tcp'
        cat /proc/net/tcp /proc/net/tcp6 2>/dev/null
        echo '=log'
        sources
    } | awk '
        function hex(text,    i, n) {
            for (i = 1; i <= length(text); i++) n = n * 16 + index("0123456789ABCDEF", substr(text, i, 1)) - 1
            return n
        }
        /^=pid / { section = "pid"; pid = $2; next }
        /^=/ { section = substr($0, 2); next }
        section == "pid" {
            if (match($0, /socket:\[[0-9]+\]/)) owner[substr($0, RSTART + 8, RLENGTH - 9)] = pid
            next
        }
        section == "tcp" {
            if ($4 == "01" && $10 in owner) { split($3, f, ":"); port[owner[$10]] = hex(f[2]) }
            next
        }
        {
            tag = $0
            at = index($0, "Accepted publickey for ")
            logged = 0
            if (match(substr(tag, 1, at), /sshd(-session)?\[[0-9]+\]/)) {
                logged = substr(tag, RSTART, RLENGTH); gsub(/[^0-9]/, "", logged)
            }
            n = split(substr($0, at), w, " ")
            # Accepted publickey for USER from ADDRESS port PORT ssh2: TYPE SHA256:…
            if (n < 11 || w[5] != "from" || w[7] != "port" || w[11] !~ /^SHA256:[A-Za-z0-9+\/]+$/) next
            for (p in port) if (port[p] == w[8] + 0 && (!logged || logged == p)) {
                if (logged && p in found && found[p] != w[11]) torn[p] = 1
                found[p] = w[11]; from[p] = w[6]; user[p] = w[4]
            }
        }
        END {
            for (p in found) if (!(p in torn)) print "T\t" p "\t" found[p] "\t" user[p] "\t" from[p] "\t" port[p]
            print "Z\ttrace"
        }'
}

# health: what check() wants to know of the host and of our standing there.
health() {
    load_config
    echo "I${TAB}uid$TAB$(id -u)"
    echo "I${TAB}version$TAB$(one_line "$("$SSHD" -V 2>&1 | grep -a OpenSSH)")"
    echo "I${TAB}match$TAB$MATCHED"
    printf '=config\n%s\n' "$CONFIG" | FILES='' NAMES='' "$AWK" "$SOURCES_AWK$TABLES"
    for tool in awk sed getent usermod gpasswd timeout stat mv cp; do
        command -v "$tool" >/dev/null 2>&1 || echo "I${TAB}missing$TAB$tool"
    done
    df -Pk / /home /etc 2>/dev/null | awk 'NR > 1 { print "I\tfree\t" $4 " " $6 }' | sort -u
    [ -r /etc/shadow ] || echo "I${TAB}unreadable$TAB/etc/shadow"
    [ -d /run/systemd/system ] || [ -f /var/log/auth.log ] || [ -f /var/log/secure ] || [ -n "$SSHD_LOG" ] ||
        echo "I${TAB}nolog$TAB/var/log/auth.log"
    echo "Z${TAB}health"
}

# hello: that the script is there and may read what it must.
hello() {
    echo "I${TAB}hello"
    [ -r /etc/shadow ] || echo "I${TAB}unreadable$TAB/etc/shadow"
}
