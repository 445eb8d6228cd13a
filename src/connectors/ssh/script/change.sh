#!/bin/sh
# shellcheck disable=SC2030,SC2031 # strip is a subshell on purpose, and calls through_link from within
#
# What is changed. Every function prints one line: R, the step's number, how it went, a sentence. How it went is one of changed,
# already, absent, forbidden, protected, busy, failed. Done twice or too late, none of them opens anything.

answer() { printf 'R\t%s\t%s\t%s\n' "$1" "$2" "$(one_line "$3")"; }

# login_state NAME: SHELL, EXPIRE and PASSWORD (set, locked, none, empty, missing) of a local account.
login_state() {
    SHELL_NOW=$(NAME=$1 awk -F: '$1 == ENVIRON["NAME"] "" { print $7; exit }' /etc/passwd)
    PASSWORD=missing EXPIRE=
    state=$(NAME=$1 awk -F: '$1 == ENVIRON["NAME"] "" {
        s = "set"; if ($2 == "") s = "empty"; else if ($2 ~ /^!/) s = "locked"; else if ($2 ~ /^\*/) s = "none"
        print s ":" $8; exit }' /etc/shadow)
    [ -z "$state" ] || { PASSWORD=${state%%:*} EXPIRE=${state#*:}; }
}

is_shut() {
    case $SHELL_NOW in */nologin | */false) ;; *) return 1 ;; esac
    case $PASSWORD in locked | none) ;; *) return 1 ;; esac
    [ -n "$EXPIRE" ] && [ "$EXPIRE" -gt 0 ] && [ "$EXPIRE" -lt $(($(date +%s) / 86400)) ]
}

# locked TEXT STATUS: busy if somebody else was changing the same file all the time, failed if it is something else. usermod and gpasswd
# take the lock that everybody takes, and wait for it 15 seconds.
locked() {
    case $1$2 in
    *'try again later'* | *124) echo busy ;;
    *) echo failed ;;
    esac
}

# guarded STEP NAME: refuses our own account.
guarded() {
    [ "$2" != "$WE" ] || {
        answer "$1" protected "$2 is the account that offboard itself uses here"
        return 1
    }
}

# disable STEP NAME: expired (which sshd and PAM both heed), password locked, no shell.
disable() {
    guarded "$1" "$2" || return 0
    if ! is_local "$2"; then
        if [ -n "$(entry "$2")" ]; then
            answer "$1" protected "$2 comes from a name service: the directory has to disable it"
        else
            answer "$1" absent "no account $2"
        fi
        return 0
    fi
    login_state "$2"
    if is_shut; then
        answer "$1" already ''
        return 0
    fi
    before="shell was $SHELL_NOW, expiry was ${EXPIRE:-none}"
    nologin=/bin/false
    for shell in /usr/sbin/nologin /sbin/nologin; do
        [ -x "$shell" ] && nologin=$shell && break
    done
    said=$(limited 20 usermod -L -e 1970-01-02 -s "$nologin" -- "$2" 2>&1)
    status=$?
    login_state "$2"
    if is_shut; then
        answer "$1" changed "expired on 1970-01-02, password locked, shell $SHELL_NOW; $before"
    else
        answer "$1" "$(locked "$said" $status)" "usermod: ${said:-status $status}"
    fi
}

# enable STEP NAME EXPIRY SHELL: the account lives again; its old password does not.
enable() {
    if ! is_local "$2"; then
        answer "$1" absent "no account $2"
        return 0
    fi
    shell=$4
    [ -x "$shell" ] || shell=/bin/sh
    # '*' is no password that anybody can type, and unlike a lock it does not keep sshd without PAM from taking keys.
    if said=$(limited 20 usermod -e "$3" -s "$shell" -p '*' -- "$2" 2>&1); then
        answer "$1" changed "expiry ${3:-none}, shell $shell, no password"
    else
        answer "$1" failed "usermod: $said"
    fi
}

# member NAME GROUP
member() {
    NAME=$1 GROUP=$2 awk -F: '$1 == ENVIRON["GROUP"] "" { n = split($4, m, ","); for (i = 1; i <= n; i++) if (m[i] == ENVIRON["NAME"] "") found = 1 }
        END { exit !found }' /etc/group
}

# leave STEP NAME GROUP
leave() {
    guarded "$1" "$2" || return 0
    if member "$2" "$3"; then
        said=$(limited 20 gpasswd -d "$2" "$3" 2>&1)
        status=$?
        if member "$2" "$3"; then
            answer "$1" "$(locked "$said" $status)" "gpasswd: $said"
        else
            answer "$1" changed "$2 is no member of $3 any more"
        fi
        return 0
    fi
    gid=$(GROUP=$3 awk -F: '$1 == ENVIRON["GROUP"] "" { print $3; exit }' /etc/group)
    line=$(entry "$2")
    if [ -z "$line" ]; then
        answer "$1" absent "no account $2"
    elif [ -n "$gid" ] && [ "$(printf '%s' "$line" | cut -d: -f4)" = "$gid" ]; then
        answer "$1" protected "$3 is the primary group of $2"
    elif [ -z "$gid" ] && id -Gn -- "$2" 2>/dev/null | tr ' ' '\n' | grep -qxF -e "$3"; then
        answer "$1" protected "$3 comes from a name service: the directory has to take $2 out of it"
    else
        answer "$1" already ''
    fi
}

# join STEP NAME GROUP
join() {
    if member "$2" "$3"; then
        answer "$1" already ''
    elif said=$(limited 20 gpasswd -a "$2" "$3" 2>&1); then
        answer "$1" changed "$2 is a member of $3 again"
    else
        answer "$1" failed "gpasswd: $said"
    fi
}

# A title ends in NUL bytes, which awks treat differently: it is compared by how it begins.
#
# Prints the pids that belong to a person's login: K, processes of the user id; T, the sshd that root runs for the name, with
# everything below it (a root shell from sudo). With roots given, only what is below those. Processes of containers, which may
# use the same number for somebody else, are left out.
# shellcheck disable=SC2016
BELONGS='
BEGIN {
    n = split(roots, r, " "); for (i = 1; i <= n; i++) top[r[i]] = 1
    for (i = 1; i < ARGC; i++) {
        file = ARGV[i]
        split(file, part, "/")
        pid = part[3]; name = ""; state = ""; uids = ""; nested = 0
        while ((getline text < file) > 0) {
            m = split(text, f, /[ \t]+/)
            if (f[1] == "Name:") name = f[2]
            else if (f[1] == "State:") state = f[2]
            else if (f[1] == "PPid:") parent[pid] = f[2]
            else if (f[1] == "Uid:") { real = f[2]; uids = " " f[2] " " f[3] " " f[4] " " f[5] " " }
            else if (f[1] == "NSpid:") { nested = (m > 2 && f[3] != ""); break }
        }
        close(file)
        if (uids == "" || state == "Z" || state == "X") continue
        if (nested) {
            boxed = 0
            while ((getline text < ("/proc/" pid "/cgroup")) > 0) if (text ~ /docker|kubepods|containerd|libpod|lxc|crio|machine\.slice/) boxed = 1
            close("/proc/" pid "/cgroup")
            if (boxed) continue
        }
        alive[pid] = 1
        if (roots == "" && index(uids, " " uid " ")) mine[pid] = 1
        if (real == 0 && (name == "sshd" || name == "sshd-session")) {
            title = ""
            getline title < ("/proc/" pid "/cmdline")
            close("/proc/" pid "/cmdline")
            sub(/^sshd(-session)?: /, "", title)
            if (index(title, ENVIRON["NAME"] " [priv]") == 1 || index(title, ENVIRON["NAME"] "@") == 1) { if (roots == "" || pid in top) monitor[pid] = 1 }
        }
    }
    for (pid in alive) {
        for (up = pid; up > 1 && !(up in monitor); up = parent[up]) if (!(up in alive)) break
        if (pid in monitor) print "T " pid
        else if (up in monitor || pid in mine) print "K " pid
    }
}'

# belongs NAME UID [MONITORS]
belongs() { NAME=$1 awk -v uid="$2" -v roots="$3" "$BELONGS" /proc/[0-9]*/status; }

# end_all NAME UID [MONITORS]: ends what belongs, and looks again until nothing does. LEFT is what would not end.
end_all() {
    ENDED=0 round=0
    while :; do
        LEFT=$(belongs "$1" "$2" "$3")
        [ -n "$LEFT" ] || break
        [ $round -lt 40 ] || break
        set -f
        # shellcheck disable=SC2086
        set -- "$1" "$2" "$3" $LEFT
        set +f
        kept_1=$1 kept_2=$2 kept_3=$3
        shift 3
        while [ $# -gt 1 ]; do
            # sshd's own process tidies up on TERM; everything else gets no chance to do anything any more.
            signal=KILL
            [ "$1" = T ] && [ $round -lt 5 ] && signal=TERM
            kill -s "$signal" "$2" 2>/dev/null && [ $round = 0 ] && ENDED=$((ENDED + 1))
            shift 2
        done
        set -- "$kept_1" "$kept_2" "$kept_3"
        round=$((round + 1))
        [ $round -lt 2 ] || nap
    done
}

# end_sessions STEP NAME: every session, process and job of an account that is the leaver's own.
end_sessions() {
    guarded "$1" "$2" || return 0
    line=$(entry "$2")
    if [ -z "$line" ]; then
        answer "$1" absent "no account $2"
        return 0
    fi
    uid=$(printf '%s' "$line" | cut -d: -f3)
    sharers=$(getent passwd | NAME=$2 awk -F: -v uid="$uid" '$3 == uid && $1 != ENVIRON["NAME"] "" { print $1 }')
    if [ "$uid" = 0 ] || [ -n "$sharers" ]; then
        answer "$1" protected "user id $uid is shared with $sharers: whose processes are whose cannot be told"
        return 0
    fi
    did=
    for spool in /var/spool/cron/crontabs /var/spool/cron/tabs /var/spool/cron /etc/crontabs; do
        if [ -f "$spool/$2" ] && [ ! -L "$spool/$2" ]; then
            limited 10 crontab -u "$2" -r 2>/dev/null
            rm -f -- "$spool/$2"
            [ -e "$spool/$2" ] || did="$did, crontab removed"
        fi
    done
    at_jobs
    if [ -n "$JOBS" ]; then
        for number in $(atq 2>/dev/null | NAME=$2 awk '$NF == ENVIRON["NAME"] "" { print $1 }'); do
            limited 10 atrm "$number" >/dev/null 2>&1 && did="$did, at job $number removed"
        done
    fi
    if [ -e "/var/lib/systemd/linger/$2" ]; then
        limited 10 loginctl disable-linger "$2" 2>/dev/null
        rm -f -- "/var/lib/systemd/linger/$2"
        did="$did, linger ended"
    fi
    if [ -d /run/systemd/system ] && command -v loginctl >/dev/null 2>&1; then
        limited 5 loginctl terminate-user "$2" 2>/dev/null
    fi
    end_all "$2" "$uid" ''
    [ "$ENDED" = 0 ] || did="$did, $ENDED processes ended"
    if [ -n "$LEFT" ]; then
        answer "$1" failed "processes would not end: $LEFT"
    elif [ -z "$did" ]; then
        answer "$1" already ''
    else
        answer "$1" changed "${did#, }"
    fi
}

# end_keyed STEP NAME FINGERPRINT…: in an account that others use too, the sessions that these keys opened, and no other.
end_keyed() {
    step=$1 name=$2
    shift 2
    tables only 1
    monitors=$(printf '%s\n' "$TOLD" | NAME=$name awk -F "$TAB" '$1 == "S" {
        name = ENVIRON["NAME"]
        title = $4; sub(/^sshd(-session)?: /, "", title)
        if (index(title, name " [priv]") == 1 || index(title, name "@") == 1) print $2 }')
    # shellcheck disable=SC2086
    found=$(trace $monitors | NAME=$name awk -F "$TAB" -v keys=" $* " \
        '$1 == "T" && $4 == ENVIRON["NAME"] "" && index(keys, " " $3 " ") { print $2 " " $5 " " $6 }')
    if [ -z "$found" ]; then
        answer "$step" already ''
        return 0
    fi
    roots=$(printf '%s\n' "$found" | awk '{ printf "%s ", $1 }')
    uid=$(entry "$name" | cut -d: -f3)
    # What was started in such a session and has left its process tree still has the session's address in its environment.
    strays=
    IFS=$NL
    for line in $found; do
        unset IFS
        set -f
        # shellcheck disable=SC2086
        set -- $line
        set +f
        strays="$strays $(grep -laF -e "SSH_CONNECTION=$2 $3 " /proc/[0-9]*/environ 2>/dev/null)"
        IFS=$NL
    done
    unset IFS
    end_all "$name" "$uid" "$roots"
    for file in $strays; do
        pid=${file#/proc/}
        pid=${pid%/environ}
        [ "$(awk '$1 == "Uid:" { print $2 }' "/proc/$pid/status" 2>/dev/null)" = "$uid" ] && kill -s KILL "$pid" 2>/dev/null && ENDED=$((ENDED + 1))
    done
    if [ -n "$LEFT" ]; then
        answer "$step" failed "processes would not end: $LEFT"
    else
        answer "$step" changed "$(printf '%s\n' "$found" | wc -l) sessions ended, $ENDED processes"
    fi
}

# Looks for the lines whose key is a wanted one, where sshd looks for the key: at the start, or after the options. Prints a line each what
# sed is to do, and after them an equals sign and the steps that want it, each once, with commas. KEYS holds a line each: step, type, key; or these
# and the type and key of another one, which is to stand beside it with the same options and comment, in every file in which it stands.
# Input has its NUL bytes turned into tabs, since sshd reads lines as C strings.
# shellcheck disable=SC2016
MATCHES='
BEGIN {
    n = split(ENVIRON["KEYS"], rows, "\n")
    for (i = 1; i <= n; i++) {
        m = split(rows[i], f, " ")
        if (m != 3 && m != 5) continue
        wanted[f[2] " " f[3]] = f[1]; types[f[2]] = 1
        if (m == 5) { beside[f[1]] = f[4] " " f[5]; is_beside[f[4] " " f[5]] = f[1]; types[f[4]] = 1 }
    }
}
function trimmed(text) { sub(/^[ \t]+/, "", text); return text }
# Sets after: what follows the key.
function step_of(text,    type, rest, key) {
    type = text; sub(/[ \t].*/, "", type)
    rest = trimmed(substr(text, length(type) + 1))
    # sshd knows a type by the names of its signatures, too.
    if (type == "rsa-sha2-256" || type == "rsa-sha2-512") type = "ssh-rsa"
    sub(/^webauthn-sk-ecdsa/, "sk-ecdsa", type)
    if (!(type in types)) return ""
    key = rest; sub(/[ \t].*/, "", key)
    after = substr(rest, length(key) + 1)
    gsub(/[\r\v\f]/, "", key)
    if ((type " " key) in is_beside) there[is_beside[type " " key]] = 1
    return (type " " key) in wanted ? wanted[type " " key] : ""
}
{
    text = trimmed($0); before = ""
    if (text ~ /^(#|$)/) next
    step = step_of(text)
    if (step == "") {
        quoted = 0; n = length(text)
        for (i = 1; i <= n; i++) {
            c = substr(text, i, 1)
            if (!quoted && (c == " " || c == "\t")) break
            if (c == "\\" && substr(text, i + 1, 1) == "\"") i++
            else if (c == "\"") quoted = !quoted
        }
        if (!(quoted && i > n)) { before = substr(text, 1, i - 1) " "; step = step_of(trimmed(substr(text, i))) }
    }
    if (step == "") next
    if (step in beside) {
        line = before beside[step] after
        gsub(/\\/, "&&", line)
        added[step] = added[step] NR "a\\\n" line "\n"
        next
    }
    print NR "d"
    if (!seen[step]++) steps = steps (steps == "" ? "=" : ",") step
}
END {
    for (step in added) if (!(step in there)) { printf "%s", added[step]; steps = steps (steps == "" ? "=" : ",") step }
    if (steps != "") print steps
}'

# strip PATH NAME UID OWN KEYS: takes keys out of one file. Prints one line: gone, protected or failed, the steps whose keys stood
# there, and a sentence; or none. The file is opened once and known by its inode from then on; its directory is held as the working
# directory; the new file is made under a name that nobody can guess, never through a link, and moved into place whole.
#
# Others may write to the file at the same moment. What changed before the move is seen right before it, and all begins again, unless
# something was only appended: then the move goes on, so that nobody keeps a key in place by appending for ever. What was appended up
# to the move, and by those who had the old file open then, is carried over from the old file, which is still open here; then the new
# file is looked through too. What remains: a file put in its place by a rename between our last look and our own (1 ms) is gone with
# its changes, as the rename it replaced; and so is what somebody writes into the old file later, who had it open all the time.
strip() (
    path=$1 name=$2 uid=$3 own=$4 keys=$5 steps='*' taken=
    directory=${path%/*} base=${path##*/}
    [ -e "$path" ] || [ -L "$path" ] || nothing
    cd -P -- "${directory:-/}" 2>/dev/null || nothing
    set -C
    try=0
    while [ $try -lt 20 ]; do
        try=$((try + 1))
        if [ "$PWD" != "${directory:-/}" ] || [ -L "$base" ]; then
            settle "$path"
            to=$settled
            if [ "$to" = "$path" ]; then
                through_link
                exit
            fi
            path=$to directory=${to%/*} base=${to##*/}
            cd -P -- "${directory:-/}" 2>/dev/null || nothing
            continue
        fi
        [ -f "$base" ] || nothing
        # What is open is what is read, copied and compared; a FIFO that has just been put there makes this hang until the limit.
        exec 3<"./$base" || { echo "failed $steps cannot open $path"; exit; }
        # What is open, what is called so, and its directory.
        seen=$(stat -c "$FILE_NOW" - "./$base" . <&3 2>/dev/null)
        opened=${seen%%"$NL"*} holder=${seen##*"$NL"}
        named=${seen#"$opened$NL"}
        case $opened in "${named%%|*}|"*) ;; *) continue ;; esac
        case $opened in *' regular '*) ;; *) nothing ;; esac
        owner=${opened#* } holder=${holder#* }
        owner=${owner%% *} holder=${holder%% *}
        was=$(cksum </proc/self/fd/3)
        size=${was#* }
        lines=$(head -c "$size" /proc/self/fd/3 | tr '\000' '\t' | KEYS=$keys "$AWK" "$MATCHES")
        [ -n "$lines" ] || nothing
        both "$taken" "${lines##*=}"
        if [ "$owner" != "$uid" ] && [ "$owner" != 0 ]; then
            echo "protected $steps $path belongs to user id $owner, neither to $name nor to root"
            exit
        fi
        if [ "$holder" != "$uid" ] && [ "$holder" != 0 ]; then
            echo "protected $steps the directory of $path belongs to user id $holder, neither to $name nor to root"
            exit
        fi
        read -r fresh </proc/sys/kernel/random/uuid || { echo "failed $steps no random number to be had"; exit; }
        fresh=.offboard.$fresh
        if ! { exec 4>"./$fresh"; } 2>/dev/null; then
            echo "failed $steps cannot write in $directory: $(why "$directory")"
            exit
        fi
        said=$(
            {
                copy_without "${lines%=*}" &&
                    { cp --attributes-only --preserve=mode,ownership,xattr /proc/self/fd/3 /proc/self/fd/4 2>/dev/null ||
                        { chown --reference=/proc/self/fd/3 /proc/self/fd/4 && chmod --reference=/proc/self/fd/3 /proc/self/fd/4; }; }
            } 2>&1
        ) || {
            rm -f -- "./$fresh"
            echo "failed $steps $path could not be written anew, and is as it was: $said"
            exit
        }
        sync -d /proc/self/fd/4 2>/dev/null
        now=$(stat -c "$FILE_NOW" "./$base" 2>/dev/null)
        if [ "$now" != "$opened" ]; then
            if [ "${now%%|*}" != "${opened%%|*}" ] || [ "$(start)" != "$was" ]; then
                rm -f -- "./$fresh"
                continue
            fi
        fi
        if ! said=$(mv -fT -- "./$fresh" "./$base" 2>&1); then
            rm -f -- "./$fresh"
            echo "failed $steps $path could not be replaced: $(why "./$base") ($said)"
            exit
        fi
        taken=$steps
        case $(carry_over) in
        none)
            echo "gone $steps $path"
            exit
            ;;
        torn)
            echo "failed $steps $path was written anew by somebody else at the same moment: what they wrote is not in it"
            exit
            ;;
        esac
    done
    echo "failed $steps $path is being changed all the time"
)

# What tells that a file is still the one that was opened, and after the bar that nobody has written to it since.
FILE_NOW='%d:%i %u %F %g %a| %y %s'

# nothing: ends strip. What was taken out in an earlier round is gone.
nothing() {
    if [ -n "$taken" ]; then echo "gone $steps $path"; else echo none; fi
    exit
}

# both STEPS STEPS: sets steps to all of them, each once.
both() {
    steps=$1
    IFS=,
    for step in $2; do
        case ,$steps, in
        *,"$step",*) ;;
        *) steps=$steps${steps:+,}$step ;;
        esac
    done
    unset IFS
}

# start: a sum of what was read of the file, and its size, as it is now.
start() { head -c "$size" /proc/self/fd/3 | cksum; }

# copy_without SCRIPT: what was read of the file, edited by sed, into the new one.
copy_without() {
    head -c "$size" /proc/self/fd/3 | {
        sed -f /proc/self/fd/5 >&4
    } 5<<END
$1
END
}

# carry_over: after the move, adds to the new file what was appended to the old one. Prints none, some, or torn if somebody did more
# to it than append.
carry_over() {
    last=${opened#*|} some=none round=0
    while [ $round -lt 20 ]; do
        round=$((round + 1))
        now=$(stat -L -c "$FILE_NOW" /proc/self/fd/3)
        now=${now#*|}
        [ "$now" != "$last" ] || break
        [ "$(start)" = "$was" ] || { some=torn && break; }
        more=$((${now##* } - size))
        tail -c "+$((size + 1))" /proc/self/fd/3 | head -c "$more" >>/proc/self/fd/4
        [ "$more" = 0 ] || some=some
        size=$((size + more)) last=$now
        was=$(start)
    done
    echo $some
}

# why PATH: what keeps it from being changed.
why() {
    flags=$(lsattr -d -- "$1" 2>/dev/null | cut -d' ' -f1)
    case $flags in
    *i*) echo "it is immutable; chattr -i" ;;
    *a*) echo "it is append-only; chattr -a" ;;
    *) echo "permission, a read-only or a full file system" ;;
    esac
}

# settle PATH: sets settled to the path with those symbolic links followed that root made in directories which only root may write.
settle() {
    at=
    IFS=/
    set -f
    for part in ${1#/}; do
        at="$at/$part"
        [ -L "$at" ] || continue
        case "$(stat -c %u -- "$at") $(stat -c '%u %a' -- "${at%/*}/")" in
        '0 0 '*[2367] | '0 0 '*[2367]?) ;;
        '0 0 '*) at=$(readlink -f -- "$at") ;;
        esac
    done
    unset IFS
    set +f
    settled=$at
}

# through_link: a symbolic link stands on the way to a key file. It is never followed. In the leaver's own account the link is set
# aside, with what it points to untouched; in an account that others use too, that is for a person to decide.
through_link() {
    real=$(readlink -f -- "$path" 2>/dev/null)
    lines=
    [ -z "$real" ] || [ ! -f "$real" ] || lines=$(tr '\000' '\t' <"$real" | KEYS=$keys "$AWK" "$MATCHES")
    if [ -z "$lines" ]; then
        echo none
        return
    fi
    steps=${lines##*=}
    at=
    IFS=/
    set -f
    for part in ${path#/}; do
        at="$at/$part"
        [ -L "$at" ] && break
    done
    unset IFS
    set +f
    if [ "$own" = own ] && [ -L "$at" ] && [ "$(stat -c %u -- "$at")" = "$uid" ]; then
        parent=${at%/*}
        if cd -P -- "$parent" 2>/dev/null && [ "$(pwd -P)" = "$parent" ] && [ -L "${at##*/}" ] &&
            mv -nT -- "${at##*/}" "${at##*/}.offboard-aside" 2>/dev/null && [ ! -L "${at##*/}" ]; then
            echo "gone $steps $at was a symbolic link to ${real}: it is set aside as ${at##*/}.offboard-aside"
            return
        fi
    fi
    echo "protected $steps $path leads through the symbolic link $at to ${real}, which is not followed: take the key out of $real by hand, or replace the link by a file"
}

# revoke NAME OWN KEYS: takes keys out of every file that sshd reads for the account. KEYS: a line each, step, type, key. OWN: own if
# the account is the leaver's, other if not.
revoke() { edit "$1" "$2" "$3" 'taken out of'; }

# authorize NAME KEYS: sets a key beside another one, wherever that stands. KEYS: a line each, step, type, key, and type and key of the new one.
authorize() { edit "$1" other "$2" 'set beside the old one in'; }

# edit NAME OWN KEYS DONE: what strip does, in every file that sshd reads for the account.
edit() {
    account_files "$1" && certain=yes || certain=''
    uid=${ENTRY#*:*:}
    uid=${uid%%:*}
    results=
    IFS=$NL
    set -f
    for file in $KEY_FILES; do
        unset IFS
        set +f
        # Under a limit, so that a file which hangs holds up nothing but itself.
        if [ -e "$file" ] || [ -L "$file" ]; then
            result=$(bounded strip "$file" "$1" "$uid" "$2" "$3")
            results="$results${result:-failed * $file did not answer in time}$NL"
        fi
        IFS=$NL
        set -f
    done
    for key in $3; do
        step=${key%% *} how=already right='' wrong=''
        for result in $results; do
            rest=${result#* }
            case ",${rest%% *}," in
            *",$step,"* | ',*,') ;;
            *) continue ;;
            esac
            case $result in
            none) ;;
            gone*) right="$right, ${rest#* }" ;;
            *) wrong="$wrong, ${rest#* }" how=${result%% *} ;;
            esac
        done
        if [ -z "$certain" ]; then
            how=failed wrong=', the accounts there could not be read'
        elif [ -z "$ENTRY" ]; then
            how=absent wrong=", no account $1"
        elif [ -z "$KEY_FILES" ]; then
            how=failed wrong=", sshd -T does not say which files it reads: ${CONFIG%%"$NL"*}"
        elif [ -z "$wrong" ] && [ -n "$right" ]; then
            how=changed wrong=", $4 ${right#, }" right=
        fi
        printf 'R\t%s\t%s\t%s\n' "$step" "$how" "${wrong#, }${right:+; $4 ${right#, }}"
    done
    unset IFS
    set +f
}

# bounded FUNCTION ARGUMENTS…: a function of this script under a limit of ten seconds.
bounded() {
    "$@" </dev/null &
    worker=$!
    (
        trap 'kill $alarm; exit' TERM
        sleep 10 &
        alarm=$!
        wait $alarm
        kill -s KILL $worker
    ) >/dev/null 2>&1 </dev/null &
    watcher=$!
    wait $worker 2>/dev/null
    kill $watcher 2>/dev/null
    wait $watcher 2>/dev/null
}
