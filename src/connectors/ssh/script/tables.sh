#!/bin/sh
# shellcheck disable=SC2034 # ENTRY and the like are used in the other parts
#
# The tables of accounts and of processes, each read by one program.

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

# tailored PASSWD: for each account that may have key files of its own, its name, a colon and which they are.
tailored() {
    for name in $({
        printf '=conditions\n%s=group\n' "$CONDITIONS"
        getent group
        printf '=passwd\n%s\n' "$1"
    } | "$AWK" "$TAILORED"); do
        # The address is ours: what sshd reads may depend on it, which the caller reports.
        effective -C "user=$name,host=localhost,addr=127.0.0.1,laddr=127.0.0.1,lport=22" |
            NAME=$name awk '$1 == "authorizedkeysfile" { sub(/^[^ ]* */, ""); print ENVIRON["NAME"] ":" $0 }'
    done
}

# What /proc tells, of the folders in ARGV: S, every sshd that root runs for somebody (pid, parent, title); N, how many processes a user
# id has, and what some of them are called; O, what has outlived the session that started it and belongs to no service (user id, pid,
# start in seconds since 1970, name): its parent is number 1. Of root's, whose services are many, shells alone.
# shellcheck disable=SC2016
PROCESSES='
# A whole file at once. What a process calls itself may have the separator in it.
function whole(file,    part, text, between) {
    text = between = ""
    while ((getline part < file) > 0) { text = text between part; between = RS }
    close(file)
    return text
}
function field(text, name,    at) {
    at = index(text, "\n" name ":\t")
    return at ? substr(text, at + length(name) + 3, 80) : ""
}
function in_service(pid,    n, i, row) {
    n = split(whole("/proc/" pid "/cgroup"), row, "\n")
    for (i = 1; i <= n; i++) {
        if (row[i] ~ /\/system\.slice\/.*\.service/ && row[i] !~ /\/(sshd?|crond?|atd)(@[^\/]*)?\.service/) return 1
        if (row[i] ~ /\/user@[0-9]+\.service\/init\.scope/) return 1
    }
    return 0
}
# Ticks are hundredths of a second wherever Linux runs (USER_HZ).
function started(pid,    text, f) {
    if (boot == "") {
        boot = whole("/proc/stat")
        boot = substr(boot, index(boot, "\nbtime ") + 7, 20) + 0
    }
    text = whole("/proc/" pid "/stat")
    sub(/^.*\) /, "", text)
    split(text, f, " ")
    return boot + int(f[20] / 100)
}
function count(uid, name) {
    if (++many[uid] <= 5) names[uid] = names[uid] (many[uid] == 1 ? "" : ", ") name
}
function process(pid,    text, name, state, ppid, uid, title) {
    text = whole("/proc/" pid "/status")
    state = substr(field(text, "State"), 1, 1)
    if (split(field(text, "Uid"), uid, /[\t\n]/) < 4 || state == "Z") return
    name = substr(text, 7, index(text, "\n") - 7)
    ppid = field(text, "PPid") + 0
    count(uid[1], name)
    if (uid[2] != uid[1]) count(uid[2], name)
    if (uid[3] != uid[1] && uid[3] != uid[2]) count(uid[3], name)
    if (ppid == 1 && (uid[1] != 0 || name ~ /^(ba|da|k|z)?sh$/) && !in_service(pid))
        printf "O\t%s\t%s\t%d\t%s\n", uid[1], pid, started(pid), name
    if (name ~ /^sshd(-session|-auth)?$/) {
        title = whole("/proc/" pid "/cmdline")
        sub(/\n.*/, "", title)
        # Somebody who has not logged in yet, such as a probe of ours.
        serving[ppid] = 1
        if (title ~ /\[(net|accepted)\]/) waiting[ppid] = waiting[pid] = 1
        else if (uid[1] == 0 && title ~ /^sshd(-session)?: / && title !~ /\[listener\]/) served[pid] = pid "\t" ppid "\t" title
    }
}
# Half of an sshd without its other half has just let somebody in, or is at its end, as after a probe of ours: two seconds tell.
function at_its_end(pid,    i, title) {
    if (pid in serving || served[pid] !~ /\[priv\]/) return 0
    for (i = 0; i < 10; i++) {
        title = whole("/proc/" pid "/cmdline")
        if (title !~ /\[priv\]/) return title == ""
        system("sleep 0.2 2>/dev/null || sleep 1")
    }
    return 0
}
BEGIN {
    RS = "\001"
    for (i = 1; i < ARGC; i++) process(substr(ARGV[i], 7))
    for (pid in served) if (!(pid in waiting) && !at_its_end(pid)) print "S\t" served[pid]
    RS = "\n"
    ARGC = 1
    for (uid in many) print "N\t" uid "\t" many[uid] "\t" names[uid]
    print "Z\tprocesses"
}'

# Reads the tables of accounts, from name services in sections or from the host's own files, and prints
# A, whether it stands in /etc/passwd, its line of passwd(5); P, account, a file that sshd reads for it: AuthorizedKeysFile expanded as
# sshd_config(5) says, %h, %u, %U, %%, and relative to the home directory; C, what is known of the configuration; and with states=1
# H, account, expiry in days since 1970, state of the password (never the password); G, a line of group(5) with members or of note;
# Y, the group that is called as one of the names (name, number); while WATCHING also V, a line of group(5) that is none of those, and D, a name
# that a rule of sudo's begins with (%group for a group), as whom it lets them run commands, the file. With only=1, A and P are those of the names alone. Where a source was
# changed since SOURCES was read, it ends with status 3.
# shellcheck disable=SC2016
TABLES='
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
function passwd(text,    f) {
    if (split(text, f, ":") < 7 || f[1] in line || text ~ /^[-+]/ || (only && !(f[1] in wanted))) return
    line[f[1]] = text
    order[++accounts] = f[1]
}
function shadow(text,    f, state) {
    if (split(text, f, ":") < 2 || text ~ /^[-+]/) return
    state = "set"
    if (f[2] == "") state = "empty"
    else if (f[2] ~ /^!/) state = "locked"
    else if (f[2] ~ /^\*/) state = "none"
    print "H\t" f[1] "\t" f[8] "\t" state
}
function group(text,    f) {
    if (split(text, f, ":") < 4 || text ~ /^[-+]/) return
    if (f[1] in wanted) print "Y\t" f[1] "\t" f[3]
    if ((f[1] in noted) || f[3] == 0) print "G\t" text
    else if (watching) print "V\t" text
}
# The lines that something is decided by: no quoting, no continued lines. A member of a User_Alias is named, too.
function sudo_rules(file,    text, rest, as, who, n, i, w) {
    while ((getline text < file) > 0) {
        sub(/^[ \t]+/, "", text)
        if (text == "" || text ~ /^(#|@|Defaults|Host_Alias|Cmnd_Alias|Cmd_Alias|Runas_Alias)/) continue
        as = ""
        rest = text
        while (match(rest, /\([^)]*\)/)) {
            as = as (as == "" ? "" : ",") substr(rest, RSTART + 1, RLENGTH - 2)
            rest = substr(rest, RSTART + RLENGTH)
        }
        if (text ~ /^User_Alias[ \t]/) {
            who = substr(text, 12)
            gsub(/[:=]/, ",", who)
        } else {
            gsub(/[ \t]*,[ \t]*/, ",", text)
            who = text
            sub(/[ \t].*/, "", who)
        }
        gsub(/[ \t]/, "", who)
        n = split(who, w, ",")
        for (i = 1; i <= n; i++) if (w[i] != "" && w[i] != "ALL" && w[i] !~ /^!/) print "D\t" w[i] "\t" as "\t" file
    }
    close(file)
}
function config(text,    key) {
    key = text
    sub(/[ \t].*/, "", key)
    if (key == "authorizedkeysfile") { patterns = text; sub(/^[^ ]* */, "", patterns) }
    if (key ~ /^(authorizedkeysfile|authorizedkeyscommand|authorizedprincipalsfile|trustedusercakeys|revokedkeys|usepam|strictmodes|loglevel|syslogfacility|maxauthtries|persourcepenalties|persourcepenaltyexemptlist|pubkeyauthentication|authenticationmethods|maxstartups)$/) print "C\t" text
    if (key ~ /:$/) print "C\terror " text
}
function take(text) {
    if (section == "=passwd") passwd(text)
    else if (section == "=shadow") shadow(text)
    else if (section == "=group") group(text)
    else if (section == "=config") config(text)
    else if (section == "=seen") seen = seen text "\n"
    else if (section == "=matched") own[substr(text, 1, index(text, ":") - 1)] = substr(text, index(text, ":") + 1)
}
function take_file(name,    text) {
    section = "=" name
    while ((getline text < ("/etc/" name)) > 0) take(text)
    close("/etc/" name)
}
BEGIN {
    states = ENVIRON["STATES"] + 0; only = ENVIRON["ONLY"] + 0
    n = split(ENVIRON["NAMES"], w, " "); for (i = 1; i <= n; i++) wanted[w[i]] = 1
    watching = ENVIRON["WATCHING"] + 0
    if (watching) { n = split(ENVIRON["RULES"], w, "\n"); for (i = 1; i <= n; i++) if (w[i] ~ /sudoers/) sudo_rules(w[i]) }
    n = split(ENVIRON["NOTE"], w, " "); for (i = 1; i <= n; i++) noted[w[i]] = 1
}
/^=(seen|config|local|passwd|group|shadow|matched)$/ {
    if (section == "=seen" && seen != sources()) stale = 1
    section = $0
    if (section != "=local") next
    here = 1
    take_file("passwd")
    if (states) { take_file("group"); take_file("shadow") }
    next
}
!stale { take($0) }
END {
    if (stale) exit 3
    while (!here && (getline text < "/etc/passwd") > 0) local[substr(text, 1, index(text, ":") - 1)] = 1
    for (i = 1; i <= accounts; i++) {
        name = order[i]
        split(line[name], f, ":")
        print "A\t" (here || name in local ? 1 : 0) "\t" line[name]
        m = split(name in own ? own[name] : patterns, p, " ")
        for (j = 1; j <= m; j++) {
            if (p[j] == "none") continue
            path = expand(p[j], name, f[3], f[6])
            if (path != "") print "P\t" name "\t" path
        }
    }
    print "Z\ttables"
}'

# tables all|only STATES [NAME…]: see TABLES; with STATES=1 also PROCESSES. With all, names are asked for one by one too, since a name
# service need not list all that it knows. What there is to tell goes into TOLD. Where awk gives up (mawk does so if a process ends just
# as its file is read), all is read again: nothing of a first try is used.
tables() {
    # What sshd said once and it was an error is asked again.
    case $NL$CONFIG in *"${NL}authorizedkeysfile "*) ;; *) SOURCES= ;; esac
    if [ -n "$SOURCES" ] && [ -z "$ELSEWHERE" ]; then
        known=$SOURCES
    else
        load_config
        known=
    fi
    # shellcheck disable=SC2034 # so many times
    for try in 1 2 3 4 5 6 7 8 9; do
        TOLD=$(told "$@" 2>/dev/null)
        case $? in
        0) break ;;
        3) load_config && known= ;;
        esac
    done
}

told() {
    all=$1 states=$2 only=0
    shift 2
    [ "$all" = all ] || only=1
    {
        [ -z "$known" ] || printf '=seen\n%s\n' "$known"
        printf '=config\n%s\n' "$CONFIG"
        if [ "$MATCHED" = no ] && is_local_only; then
            echo '=local'
        else
            echo '=passwd'
            passwd=$(
                [ "$all" != all ] || getent passwd
                [ $# = 0 ] || named "$@"
            )
            printf '%s\n' "$passwd"
            if [ "$states" = 1 ]; then
                echo '=group'
                getent group
                echo '=shadow'
                getent shadow
            fi
            [ "$MATCHED" = no ] || { echo '=matched' && tailored "$passwd"; }
        fi
    } | {
        NAMES=$* STATES=$states ONLY=$only NOTE=$GROUPS_OF_NOTE
        [ -z "$WATCHING" ] || rules
        export FILES NAMES STATES ONLY NOTE WATCHING RULES
        if [ "$states" = 1 ]; then
            "$AWK" "$SOURCES_AWK$PROCESSES$TABLES" /proc/[0-9]*
        else
            "$AWK" "$SOURCES_AWK$TABLES"
        fi
    }
}

# account_files NAME: sets ENTRY to the account's line of passwd(5), and KEY_FILES to the files that sshd reads for it, a line each. Fails
# if nobody can say.
account_files() {
    ENTRY='' KEY_FILES=''
    tables only 0 "$1"
    case $TOLD in *"Z${TAB}tables"*) ;; *) return 1 ;; esac
    IFS=$NL
    set -f
    for line in $TOLD; do
        case $line in
        "A$TAB"*) ENTRY=${line#*"$TAB"?"$TAB"} ;;
        "P$TAB"*) KEY_FILES="$KEY_FILES${line#P"$TAB"*"$TAB"}$NL" ;;
        esac
    done
    unset IFS
    set +f
}
