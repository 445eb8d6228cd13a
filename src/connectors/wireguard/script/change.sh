#!/bin/sh
# shellcheck disable=SC2154 # see survey.sh
#
# What is changed. Every function prints, for each step: R, the step's number, how it went, a sentence. How it went is one of changed,
# already, forbidden, misconfigured, busy, failed. Done twice or too late, none of them opens anything.

# locked FUNCTION ARGUMENTS…: with the folder for itself. Two workers wait for each other; so does whoever locks the same folder.
locked() {
    [ -d "$FOLDER" ] || {
        "$@"
        return
    }
    (
        exec 9<"$FOLDER" || exit 1
        limited 60 flock 9 || exit 75
        "$@"
    )
}

# revoke NUMBER INTERFACE KEY
revoke() {
    locked revoke_locked "$@" </dev/null
    case $? in
    0) ;;
    75) answer "$1" busy "somebody else works on $FOLDER" ;;
    *) answer "$1" failed 'the shell ended' ;;
    esac
}

# runs INTERFACE KEY: whether the running interface has the peer: 0 yes, 1 no, 2 it is not up, 3 it does not say.
runs() {
    up=$(limited 5 wg show interfaces 2>&1) || return 3
    case " $up " in *" $1 "*) ;; *) return 2 ;; esac
    up=$(limited 5 wg show "$1" peers 2>&1) || return 3
    case "$NL$up$NL" in *"$NL$2$NL"*) return 0 ;; *) return 1 ;; esac
}

# parsed FILE INTERFACE: what PEERS says of one file.
parsed() {
    { printf 'F\t%s\t%s\n' "$1" "$2" && lines L "$1"; } | awk "$PEERS"
}

# keys_of: of what `parsed` says, the keys, sorted.
keys_of() { awk -F '\t' '$1 == "K" { print $4 }' | sort; }

# cut_out FILE INTERFACE KEY: takes every peer of this key out of one file, whole, and leaves every other byte. Sets CUT to yes if there was one.
# Fails with HOW and WHY.
cut_out() {
    CUT=''
    [ -e "$1" ] || [ -L "$1" ] || return 0
    # wg-quick follows links, too.
    file=$(readlink -f -- "$1") || file=$1
    HOW=misconfigured
    if WHY=$(unreadable "$file"); then
        WHY="$1: $WHY"
        return 1
    fi
    rm -f -- "${file%/*}"/.offboard-??????????
    tries=0
    while :; do
        tries=$((tries + 1))
        was=$(cksum <"$file")
        read_now=$(parsed "$file" "$2")
        script=$(printf '%s\n' "$read_now" | KEY=$3 awk -F '\t' '$1 == "K" && $4 == ENVIRON["KEY"] "" { print $6 "," $7 "d" }')
        wrong=$(printf '%s\n' "$read_now" | awk -F '\t' '$1 == "C" && $5 { print "line " $5 ": " $6 }')
        if [ -n "$wrong" ]; then
            HOW=misconfigured WHY="$1, $wrong, so that nobody can say what wg would read, and the file is as it was"
            return 1
        fi
        [ -n "$script" ] || return 0
        HOW=failed
        # Beside the old one, with its private keys, as wg-quick does it; nobody but root can read it.
        new=$(mktemp "${file%/*}/.offboard-XXXXXXXXXX" 2>&1) || {
            WHY="$1 cannot be written anew: $new"
            return 1
        }
        sed "$script" "$file" >"$new" 2>/dev/null
        # What is not whole, as on a full disk, does not go into place.
        want=$(printf '%s\n' "$read_now" | keys_of | grep -vxF -e "$3")
        has=$(parsed "$new" "$2")
        gone=$(printf '%s\n' "$script" | awk -F '[,d]' '{ n += $2 - $1 + 1 } END { print n }')
        if [ "$(printf '%s\n' "$has" | keys_of)" != "$want" ] ||
            [ "$(($(wc -l <"$new") + gone))" -lt "$(wc -l <"$file")" ]; then
            rm -f -- "$new"
            WHY="$1 could not be written beside it, and is as it was"
            return 1
        fi
        cp --attributes-only --preserve=mode,ownership,xattr -- "$file" "$new" 2>/dev/null
        if [ "$(cksum <"$file")" != "$was" ]; then
            rm -f -- "$new"
            [ "$tries" -lt 10 ] && continue
            HOW=busy WHY="$1 is being changed all the time"
            return 1
        fi
        replace "$file" "$new" || {
            rm -f -- "$new"
            WHY="$1: $WHY"
            return 1
        }
        CUT=yes
        return 0
    done
}

# left INTERFACE KEY: where else the key stands, in words: commands of a configuration file, files of other programs.
left() {
    WANT=$2
    export WANT
    { files; others; } | awk "$PEERS" | KEY=$2 awk -F '\t' '
        $1 == "M" && $4 == ENVIRON["KEY"] "" { print "a command in " $2 ", line " $3 }
        $1 == "E" && $2 != "copy" && $5 == ENVIRON["KEY"] "" { print $3 " (" $2 ")" }' | sort -u | head -n 3
}

# revoke_locked NUMBER INTERFACE KEY: out of the runtime first, since what runs is what lets people in, and since SaveConfig makes the file
# from it; then out of the file; then both are looked at again, since somebody may have made one of the other in between.
revoke_locked() {
    conf=$FOLDER/$2.conf did='' round=0 WHY=''
    while :; do
        round=$((round + 1)) again=''
        runs "$2" "$3"
        case $? in
        0)
            said=$(limited 10 wg set "$2" peer "$3" remove 2>&1)
            runs "$2" "$3"
            case $? in
            1 | 2) did="$did${did:+, }out of $2" again=yes ;;
            *)
                how=failed
                case $said in *ermitted*) how=forbidden ;; esac
                answer "$1" "$how" "wg set $2 peer … remove: ${said:-the peer is still there}"
                return 0
                ;;
            esac
            ;;
        3)
            answer "$1" failed "$2 does not say which peers it has: $up"
            return 0
            ;;
        esac
        if ! cut_out "$conf" "$2" "$3"; then
            answer "$1" "$HOW" "${did:+taken $did; but }$WHY"
            return 0
        fi
        if [ -n "$CUT" ]; then did="$did${did:+, }out of $conf" again=yes; fi
        [ -n "$again" ] || break
        [ "$round" -lt 6 ] || {
            answer "$1" busy "somebody puts the peer back all the time, into $2 or $conf"
            return 0
        }
    done
    elsewhere=$(left "$2" "$3")
    if [ -n "$elsewhere" ]; then
        answer "$1" misconfigured "${did:+taken $did; but }it also stands where offboard changes nothing: $elsewhere"
    elif [ -z "$did" ]; then
        answer "$1" already ''
    else
        answer "$1" changed "taken $did"
    fi
}
