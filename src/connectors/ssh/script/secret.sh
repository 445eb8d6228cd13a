#!/bin/sh
#
# A file with a key in it: read, replaced, and the program told. What is secret comes in over standard input and goes out in the answer; it is in
# no argument and in no environment. Errors: E, how it went, a sentence.

# key_file PATH: goes into the file's directory and opens the file as 3. Sets base. No symbolic link is followed but those that root made where
# only root may write.
key_file() {
    path=$(settled "$1")
    directory=${path%/*} base=${path##*/}
    if [ ! -e "$path" ] && [ ! -L "$path" ]; then
        printf 'E\tmissing\t%s does not exist\n' "$path"
        return 1
    fi
    if ! cd -P -- "${directory:-/}" 2>/dev/null || [ "$(pwd -P)" != "${directory:-/}" ] || [ -L "$base" ]; then
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
    opened=$(stat -L -c '%d:%i %u %h %s' /proc/self/fd/3) named=$(stat -c '%d:%i %u %h %s' "./$base")
    if [ "$opened" != "$named" ]; then
        printf 'E\tbusy\t%s is being replaced by somebody else\n' "$path"
        return 1
    fi
    # shellcheck disable=SC2086 # splitting is the point
    set -- $opened
    holder=$(stat -c %u .) mode=$(stat -c %a .)
    if [ "$3" != 1 ]; then
        printf 'E\trefused\t%s has %s names (hard links): the others would keep the old value\n' "$path" "$3"
    elif [ "$4" -gt 1048576 ]; then
        printf 'E\trefused\t%s is larger than 1 MiB\n' "$path"
    elif [ "$holder" != 0 ] && [ "$holder" != "$2" ]; then
        printf 'E\trefused\tthe directory of %s belongs to user id %s, neither to root nor to the owner of the file\n' "$path" "$holder"
    else
        case $mode in
        *[2367])
            printf 'E\trefused\teverybody may write in the directory of %s\n' "$path"
            ;;
        *) return 0 ;;
        esac
    fi
    return 1
}

# secret_read PATH: the file in base64 (B) and this host's addresses (A), if the file can be replaced.
secret_read() (
    key_file "$1" || exit 0
    for place in . "./$base"; do
        flags=$(lsattr -d -- "$place" 2>/dev/null | cut -d' ' -f1)
        case $flags in
        *[ia]*) ;;
        *) [ ! -w "$place" ] || continue ;;
        esac
        printf 'E\trefused\t%s cannot be replaced: %s\n' "$path" "$(why "$place")"
        exit 0
    done
    addresses=$(hostname -I 2>/dev/null || ip -o addr show scope global 2>/dev/null | awk '{ sub(/\/.*/, "", $4); print $4 }')
    printf 'A\t%s\n' "$(one_line "$addresses")"
    base64 <&3 | sed "s/^/B$TAB/"
)

# secret_put PATH TAG OLD NEW: standard input, base64, takes the place of the file, if that still has the SHA-256 OLD and what takes its place has
# NEW: a shell takes the end of a connection for the end of what it was sent. Mode, owner, access lists, labels and other attributes are those of the
# old one. What an earlier put left behind is cleared away first.
#
# The directory may be somebody else's: the new file is worked on as the open file 4, not by its name, behind which they could put a link.
secret_put() (
    content=$(cat)
    key_file "$1" || exit 0
    rm -f -- "./.offboard.$2."*
    keep=mode,ownership,xattr
    [ ! -e /sys/fs/selinux/enforce ] || keep=$keep,context
    fresh=".offboard.$2.$(od -An -N12 -tx1 /dev/urandom | tr -d ' \n')"
    set -C
    if ! { command exec 4>"./$fresh"; } 2>/dev/null; then
        printf 'E\tfailed\t%s could not be written anew, and is as it was: %s\n' "$path" "$(why .)"
        exit 0
    fi
    if ! said=$({ printf '%s\n' "$content" | base64 -d >&4 &&
        { cp --attributes-only --preserve="$keep" /proc/self/fd/3 /proc/self/fd/4 2>/dev/null ||
            { chown --reference=/proc/self/fd/3 /proc/self/fd/4 && chmod --reference=/proc/self/fd/3 /proc/self/fd/4; }; }; } 2>&1); then
        rm -f -- "./$fresh"
        printf 'E\tfailed\t%s could not be written anew, and is as it was: %s\n' "$path" "$(one_line "$said")"
        exit 0
    fi
    sync -d /proc/self/fd/4 2>/dev/null
    now=$(stat -c '%d:%i %u %h %s' "./$base" 2>/dev/null)
    sum=$(sha256sum <"./$base" 2>/dev/null)
    whole=$(sha256sum </proc/self/fd/4 2>/dev/null)
    if [ "${whole%% *}" != "$4" ] || [ "$(stat -L -c %d:%i /proc/self/fd/4)" != "$(stat -c %d:%i "./$fresh" 2>/dev/null)" ]; then
        rm -f -- "./$fresh"
        printf 'E\tbusy\twhat was to take the place of %s did not arrive whole, or was changed: the file is as it was\n' "$path"
    elif [ "$now" != "$opened" ] || [ "${sum%% *}" != "$3" ]; then
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

# secret_clean PATH TAG: clears away what a put that was cut off left behind.
secret_clean() (
    key_file "$1" || exit 0
    rm -f -- "./.offboard.$2."*
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
    said=$(head -c 4000 <&7 | tr -d '\000')
    printf 'O\t%s\n' "$(one_line "$said")"
)
