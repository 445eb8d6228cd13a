#!/bin/sh
#
# What there is: accounts, key files, sessions, jobs. Changes nothing.

# regular: reads EXPAND's lines and tells what each path is, without opening it: opening a FIFO would hang. F: a file that can be
# read; X: something there that sshd does not read either, or that cannot be read.
regular() {
    IFS=$NL
    set -f
    for line in $1; do
        case $line in
        P"$TAB"*)
            rest=${line#P"$TAB"}
            path=${rest#*"$TAB"}
            if [ -f "$path" ]; then
                link=
                [ -L "$path" ] && link='link'
                echo "F$TAB${rest%%"$TAB"*}$TAB$link$TAB$path"
            elif [ -e "$path" ] || [ -L "$path" ]; then
                echo "X$TAB${rest%%"$TAB"*}$TAB$path"
            fi
            ;;
        *) printf '%s\n' "$line" ;;
        esac
    done
    unset IFS
    set +f
}

# Prints the lines of each file that F names, after its F line: K, line number, the line as it is.
# shellcheck disable=SC2016
LINES='
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
END { print "Z\tfiles" }'

# What /proc tells: S, every sshd that root runs for somebody (pid, parent, title); N, how many processes a user id has, and
# what some of them are called; O, what has outlived the session that started it and belongs to no service (user id, pid, start in
# seconds since 1970, name): its parent is number 1. Of root's, whose services are many, shells alone.
# shellcheck disable=SC2016
PROCESSES='
function in_service(pid,    file, text, found) {
    file = "/proc/" pid "/cgroup"
    while ((getline text < file) > 0) {
        if (text ~ /\/system\.slice\/.*\.service/ && text !~ /\/(sshd?|crond?|atd)(@[^\/]*)?\.service/) found = 1
        if (text ~ /\/user@[0-9]+\.service\/init\.scope/) found = 1
    }
    close(file)
    return found
}
# Ticks are hundredths of a second wherever Linux runs (USER_HZ).
function started(pid,    file, text, f) {
    if (boot == "") {
        while ((getline text < "/proc/stat") > 0) if (split(text, f, " ") == 2 && f[1] == "btime") boot = f[2]
        close("/proc/stat")
    }
    file = "/proc/" pid "/stat"
    text = ""
    getline text < file
    close(file)
    sub(/^.*\) /, "", text)
    split(text, f, " ")
    return boot + int(f[20] / 100)
}
BEGIN {
    for (i = 1; i < ARGC; i++) {
        file = ARGV[i]
        split(file, part, "/")
        pid = part[3]; name = ""; ppid = 0; state = ""; uids = ""
        while ((getline text < file) > 0) {
            split(text, f, /[ \t]+/)
            if (f[1] == "Name:") name = f[2]
            else if (f[1] == "State:") state = f[2]
            else if (f[1] == "PPid:") ppid = f[2]
            else if (f[1] == "Uid:") { real = f[2]; uids = f[2] "\n" f[3] "\n" f[4]; break }
        }
        close(file)
        if (uids == "" || state == "Z") continue
        n = split(uids, u, "\n")
        for (j = 1; j <= n; j++) if (seen[pid, u[j]]++ == 0) {
            many[u[j]]++
            if (many[u[j]] <= 5) names[u[j]] = names[u[j]] (names[u[j]] == "" ? "" : ", ") name
        }
        if (ppid == 1 && (real != 0 || name ~ /^(ba|da|k|z)?sh$/) && !in_service(pid))
            printf "O\t%s\t%s\t%d\t%s\n", real, pid, started(pid), name
        if (name == "sshd" || name == "sshd-session") {
            title = ""
            getline title < ("/proc/" pid "/cmdline")
            close("/proc/" pid "/cmdline")
            # Somebody who has not logged in yet, such as a probe of ours.
            if (title ~ /\[(net|accepted)\]/) waiting[ppid] = waiting[pid] = 1
            else if (real == 0 && title ~ /^sshd(-session)?: / && title !~ /\[listener\]/) served[pid] = pid "\t" ppid "\t" title
        }
    }
    for (pid in served) if (!(pid in waiting)) print "S\t" served[pid]
    for (uid in many) print "N\t" uid "\t" many[uid] "\t" names[uid]
    print "Z\tprocesses"
}'

processes() { awk "$PROCESSES" /proc/[0-9]*/status; }

# at_files: the jobs of at(1): of every queue, a to z and A to Z, and = for one that runs.
at_files() {
    for job in /var/spool/cron/atjobs/[a-zA-Z=]* /var/spool/at/[a-zA-Z=]*; do
        [ -f "$job" ] && [ ! -L "$job" ] && printf '%s\n' "$job"
    done
}

# Reads B lines, and prints those of the names that are asked for, each with lines of the file: b, line number, the line. Of a crontab
# the first hundred; of the rest, and of every at job, those that could let somebody in.
# shellcheck disable=SC2016
OTHERS='
BEGIN { FS = "\t"; n = split(names, list, " "); for (i = 1; i <= n; i++) want[list[i]] = 1 }
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
    {
        for name in "$@"; do
            for spool in /var/spool/cron/crontabs /var/spool/cron/tabs /var/spool/cron /etc/crontabs; do
                [ -f "$spool/$name" ] && [ ! -L "$spool/$name" ] && echo "B$TAB$name${TAB}cron$TAB$spool/$name"
            done
            [ ! -e "/var/lib/systemd/linger/$name" ] || echo "B$TAB$name${TAB}linger$TAB/var/lib/systemd/linger/$name"
        done
        jobs=$(at_files)
        IFS=$NL
        set -f
        # shellcheck disable=SC2086 # a file a line
        [ -z "$jobs" ] || stat -c "B$TAB%U${TAB}at$TAB%n" $jobs 2>/dev/null
    } | limited 10 awk -v names="$*" "$OTHERS"
}

# jobs_of NAME: J, kind, what it is. Looked for in the spools themselves: crontab(1) and atq(1) are asked only where there is one.
jobs_of() {
    for spool in /var/spool/cron/crontabs /var/spool/cron/tabs /var/spool/cron /etc/crontabs; do
        if [ -f "$spool/$1" ] && [ ! -L "$spool/$1" ]; then
            echo "J$TAB$1${TAB}cron$TAB$spool/$1"
            head -c 65536 "$spool/$1" | awk '{ print "j\t" $0 }'
        fi
    done
    [ -z "$(at_files)" ] || atq 2>/dev/null | awk -v name="$1" '$NF == name { gsub(/\t/, " "); print "J\t" name "\tat\t" $0 }'
    [ ! -e "/var/lib/systemd/linger/$1" ] || echo "J$TAB$1${TAB}linger${TAB}/var/lib/systemd/linger/$1"
    grep -lswF -e "$1" /etc/sudoers /etc/sudoers.d/* /etc/crontab /etc/cron.d/* | awk -v name="$1" '{ print "M\t" name "\t" $0 }'
}

# survey NAME…: everything; the names are accounts of particular interest.
survey() {
    load_config
    echo "I${TAB}match$TAB$MATCHED"
    [ "$MATCHED" = no ] || printf '%s\n' "$CONDITIONS" | awk 'tolower($1) == "match" { print "I\tcondition\t" $0 }'
    regular "$(accounts all "$@" | awk -v all=1 "$EXPAND")" | limited 20 awk "$LINES"
    states "$@"
    processes
    for name in "$@"; do
        jobs_of "$name"
    done
    echo "Z${TAB}survey"
}

# states [NAME…]: H, account, expiry in days since 1970, state of the password (never the password); G, a line of group(5) with members
# or of note; Y, the group that is called as one of the names (name, number); I today, the host's own day; I self, the sshd that serves us.
states() {
    echo "I${TAB}today$TAB$(($(date +%s) / 86400))"
    echo "I${TAB}self$TAB$MONITOR"
    getent shadow | awk -F: '{
        state = "set"
        if ($2 == "") state = "empty"
        else if ($2 ~ /^!/) state = "locked"
        else if ($2 ~ /^\*/) state = "none"
        print "H\t" $1 "\t" $8 "\t" state
    } END { print "Z\tshadow" }'
    getent group | awk -F: -v note="$GROUPS_OF_NOTE" -v names="$*" 'BEGIN {
            n = split(note, g, " "); for (i = 1; i <= n; i++) want[g[i]] = 1
            n = split(names, g, " "); for (i = 1; i <= n; i++) namesake[g[i]] = 1
        }
        $1 in namesake { print "Y\t" $1 "\t" $3 }
        ($1 in want) || $3 == 0 { print "G\t" $0 } END { print "Z\tgroups" }'
}

# listing NAME…: the key files of these accounts, and what /proc, shadow and the spools say: what a look needs.
listing() {
    load_config
    regular "$(accounts only "$@" | awk -v all=1 "$EXPAND")" | limited 20 awk "$LINES"
    states
    processes
    for name in "$@"; do
        jobs_of "$name"
    done
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
    find_listener
    load_config
    echo "I${TAB}uid$TAB$(id -u)"
    echo "I${TAB}version$TAB$(one_line "$("$SSHD" -V 2>&1 | grep -a OpenSSH)")"
    echo "I${TAB}match$TAB$MATCHED"
    { printf '=config\n%s\n' "$CONFIG"; } | awk -v all=1 "$EXPAND"
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
