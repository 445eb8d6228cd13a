#!/bin/sh
#
# A file with a key in it: read, replaced, and the program told. What is secret comes in over standard input and goes out in the answer; it is in
# no argument and in no environment. Errors: E, how it went, a sentence.

# key_file PATH: goes into the file's directory and opens the file as 3. Sets base, and opened: what stat(1) says of it. No symbolic link is followed
# but those that root made where only root may write.
key_file() {
    settle "$1"
    # shellcheck disable=SC2154 # change.sh sets it
    path=$settled
    directory=${path%/*} base=${path##*/}
    if [ ! -e "$path" ] && [ ! -L "$path" ]; then
        printf 'E\tmissing\t%s does not exist\n' "$path"
        return 1
    fi
    if ! cd -P -- "${directory:-/}" 2>/dev/null || [ "$PWD" != "${directory:-/}" ] || [ -L "$base" ]; then
        printf 'E\trefused\t%s leads through a symbolic link that others may change: name the real file\n' "$path"
        return 1
    fi
    if [ ! -f "$base" ]; then
        printf 'E\trefused\t%s is no regular file\n' "$path"
        return 1
    fi
    exec 3<"./$base" || {
        printf 'E\trefused\t%s cannot be opened\n' "$path"
        return 1
    }
    facts "./$base" . <&3
    if [ -z "$one" ] || [ "$one" != "$two" ]; then
        printf 'E\tbusy\t%s is being replaced by somebody else\n' "$path"
        return 1
    fi
    opened=$one
    # shellcheck disable=SC2086 # splitting is the point
    set -- $one $three
    if [ "$3" != 1 ]; then
        printf 'E\trefused\t%s has %s names (hard links): the others would keep the old value\n' "$path" "$3"
    elif [ "$4" -gt 1048576 ]; then
        printf 'E\trefused\t%s is larger than 1 MiB\n' "$path"
    elif [ "$7" != 0 ] && [ "$7" != "$2" ]; then
        printf 'E\trefused\tthe directory of %s belongs to user id %s, neither to root nor to the owner of the file\n' "$path" "$7"
    else
        case ${10} in
        *[2367])
            printf 'E\trefused\teverybody may write in the directory of %s\n' "$path"
            ;;
        *) return 0 ;;
        esac
    fi
    return 1
}

# facts TWO THREE: of the file on standard input and of these two, which file each is, its owner, names, size and mode, five words. One program for
# all: a host is asked this for every file. A link is itself and not what it leads to: whoever swaps one in is seen.
facts() {
    one='' two='' three=''
    { read -r one && read -r two && read -r three; } <<END
$(stat -c '%d:%i %u %h %s %a' -- - "$@" 2>/dev/null)
END
    [ -n "$three" ] || one=''
}

# secret_read PATH [addresses]: this host's addresses (A), if they are asked for, and the file in base64 (lines between F and Z), if it can be replaced.
secret_read() (
    key_file "$1" || exit 0
    fixed=
    for place in . "./$base"; do
        [ -w "$place" ] || fixed=$place
    done
    while read -r flags place; do
        case $flags in
        *[ia]*) fixed=$place ;;
        esac
    done <<END
$(lsattr -d -- . "./$base" 2>/dev/null)
END
    if [ -n "$fixed" ]; then
        printf 'E\trefused\t%s cannot be replaced: %s\n' "$path" "$(why "$fixed")"
        exit 0
    fi
    if [ -n "${2-}" ]; then
        addresses=$(hostname -I 2>/dev/null || ip -o addr show scope global 2>/dev/null | awk '{ sub(/\/.*/, "", $4); print $4 }')
        printf 'A\t%s\n' "$(one_line "$addresses")"
    fi
    echo F
    base64 <&3 && printf 'Z\t%s\n' "$path"
)

# secret_put PATH TAG NONCE OLD NEW: standard input, base64, takes the place of the file, if that still has the SHA-256 OLD and what takes its place
# has NEW: a shell takes the end of a connection for the end of what it was sent. Mode, owner, access lists, labels and other attributes are those of
# the old one. What an earlier put left behind is cleared away first. Nobody may guess NONCE: it is part of the new file's name.
#
# The directory may be somebody else's: the new file is worked on as the open file 4, not by its name, behind which they could put a link.
secret_put() (
    key_file "$1" || exit 0
    clear_away "$2"
    keep=mode,ownership,xattr
    [ ! -e /sys/fs/selinux/enforce ] || keep=$keep,context
    fresh=".offboard.$2.$3"
    set -C
    if ! { command exec 4>"./$fresh"; } 2>/dev/null; then
        printf 'E\tfailed\t%s could not be written anew, and is as it was: %s\n' "$path" "$(why .)"
        exit 0
    fi
    if ! said=$({ base64 -d >&4 &&
        { cp --attributes-only --preserve="$keep" /proc/self/fd/3 /proc/self/fd/4 2>/dev/null ||
            { chown --reference=/proc/self/fd/3 /proc/self/fd/4 && chmod --reference=/proc/self/fd/3 /proc/self/fd/4; }; }; } 2>&1); then
        rm -f -- "./$fresh"
        printf 'E\tfailed\t%s could not be written anew, and is as it was: %s\n' "$path" "$(one_line "$said")"
        exit 0
    fi
    sync -d /proc/self/fd/4 2>/dev/null
    was='' whole=''
    { read -r was && read -r whole; } <<END
$(sha256sum <"./$base"; sha256sum </proc/self/fd/4)
END
    facts "./$fresh" "./$base" <&4
    if [ "${whole%% *}" != "$5" ] || [ -z "$one" ] || [ "$one" != "$two" ]; then
        rm -f -- "./$fresh"
        printf 'E\tbusy\twhat was to take the place of %s did not arrive whole, or was changed: the file is as it was\n' "$path"
    elif [ "$three" != "$opened" ] || [ "${was%% *}" != "$4" ]; then
        rm -f -- "./$fresh"
        printf 'E\tbusy\t%s was changed by somebody else in the meantime\n' "$path"
    elif said=$(mv -fT -- "./$fresh" "./$base" 2>&1); then
        sync . 2>/dev/null
        printf 'D\t%s\n' "$path"
    else
        rm -f -- "./$fresh"
        printf 'E\tfailed\t%s could not be replaced: %s (%s)\n' "$path" "$(why "./$base")" "$(one_line "$said")"
    fi
)

# clear_away TAG: what a put that was cut off left behind, if it did.
clear_away() {
    set -- "./.offboard.$1."*
    if [ -e "$1" ] || [ -L "$1" ]; then rm -f -- "$@"; fi
}

# secret_clean PATH TAG: clears away what a put that was cut off left behind.
secret_clean() (
    key_file "$1" || exit 0
    clear_away "$2"
    printf 'D\t%s\n' "$path"
)

# secret_beside PATH: of a private key, what ssh(1) reads beside it: P, the line of its public half; Q, there is a certificate.
secret_beside() (
    key_file "$1" || exit 0
    if [ "$path" != "$1" ]; then
        printf 'E\trefused\t%s is a symbolic link: ssh looks beside it for what belongs to the key; name the real file\n' "$1"
        exit 0
    fi
    if [ -e "./$base-cert.pub" ] || [ -L "./$base-cert.pub" ]; then printf 'Q\t\n'; fi
    if [ -f "./$base.pub" ] && [ ! -L "./$base.pub" ]; then
        printf 'P\t%s\n' "$(one_line "$(head -c 4096 "./$base.pub" | tr -d '\000')")"
    fi
    printf 'D\t%s\n' "$path"
)

# public_away PATH KEY: takes the public half away if it is that of KEY (type and base64). Says nothing.
public_away() (
    key_file "$1" >/dev/null || exit 0
    [ -f "./$base.pub" ] && [ ! -L "./$base.pub" ] || exit 0
    case "$(head -c 4096 "./$base.pub" | tr -d '\000') " in
    "$2 "* | "$2$NL"*) rm -f -- "./$base.pub" ;;
    esac
)

# public_back PATH LINE: the public half, unless there is one.
public_back() (
    key_file "$1" || exit 0
    set -C
    umask 022
    if [ ! -e "./$base.pub" ] && [ ! -L "./$base.pub" ] && { command exec 4>"./$base.pub"; } 2>/dev/null; then
        printf '%s\n' "$2" >&4 && chown --reference=/proc/self/fd/3 /proc/self/fd/4
    fi
    printf 'D\t%s\n' "$path"
)

# secret_run SECONDS COMMAND…: runs a command that is given nothing to read.
secret_run() { ran "$@" 5</dev/null; }

# secret_probe SECONDS COMMAND…: runs a command that reads a value as one line: our standard input, in base64.
secret_probe() (
    value=$(base64 -d)
    printf '%s\n' "$value" | { ran "$@" 5<&0; }
)

# ran SECONDS COMMAND…: runs a command that reads from 5, and says something every second so that we are not taken for dead. Prints its status (X)
# and the beginning of what it said (O).
ran() (
    most=$1 waited=0
    shift
    said=$(mktemp /tmp/offboard.XXXXXX) || said=/dev/null
    # shellcheck disable=SC2094 # it is read when the command has ended
    exec 6>"$said" 7<"$said"
    [ "$said" = /dev/null ] || rm -f -- "$said"
    (
        umask 022
        cd / && exec "$@" >&6 2>&1 <&5 5<&- 6>&- 7<&-
    ) &
    worker=$!
    # Most end at once; a child that has ended is noticed when the next one has.
    for pause in 0.001 0.004 0.01 0.03; do
        kill -0 $worker 2>/dev/null || break
        sleep $pause 2>/dev/null || break
    done
    while kill -0 $worker 2>/dev/null; do
        if [ $waited -ge $((most * 20)) ]; then
            kill -s KILL $worker 2>/dev/null
            printf 'O\tit did not end within %s s\n' "$most"
        fi
        sleep 0.05 2>/dev/null || { sleep 1; waited=$((waited + 19)); }
        waited=$((waited + 1))
        [ $((waited % 20)) != 0 ] || printf '.\n'
    done
    wait $worker
    printf 'X\t%s\n' $?
    [ -s /proc/self/fd/7 ] || exit 0
    said=$(head -c 4000 <&7 | tr -d '\000')
    printf 'O\t%s\n' "$(one_line "$said")"
)
