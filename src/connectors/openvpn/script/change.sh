#!/bin/sh
# shellcheck disable=SC2015,SC2034,SC2086,SC2153,SC2154 # see common.sh; serials are hex digits
#
# What is changed. Every function prints, for each step: R, the step's number, how it went, a sentence. How it went is one of changed,
# already, absent, forbidden, misconfigured, protected, busy, failed. Done twice or too late, none of them opens anything.

# locked FUNCTION ARGUMENTS…: with the CA for itself. Two workers wait for each other; so does whoever locks the same folder.
locked() {
    (
        exec 9<"$(dirname -- "$CA_INDEX")" || exit 1
        limited 60 flock 9 || exit 75
        "$@"
    )
}

# all_of ANSWER TEXT NUMBER SERIAL…: one answer for all.
all_of() {
    how=$1 text=$2
    shift 2
    while [ $# -gt 1 ]; do
        answer "$1" "$how" "$text"
        shift 2
    done
}

# Changes rows of the CA's database: those of the serials in `these` become R, if they are of the name NAME. One that is not there is added.
# shellcheck disable=SC2016
REVOKE='
BEGIN { n = split(these, s, " "); for (i = 1; i <= n; i++) want[s[i]] = 1 }
$4 in want { have[$4] = 1 }
($4 in want) && $1 != "R" && row($6) { $1 = "R"; $3 = now ",cessationOfOperation" }
{ print }
END { for (i = 1; i <= n; i++) if (!(s[i] in have)) print "R", until, now ",cessationOfOperation", s[i], "unknown", "/CN=" ENVIRON["NAME"] }'

# several: why nothing is done where nobody knows which process is the server.
several() { printf '%s' "several processes could be the server ($SEVERAL): nobody can say which files it reads"; }

# revoke NAME [NUMBER SERIAL]…: certificates of one name become worthless: in the CA's database, then in the list that the server reads.
revoke() {
    load
    NAME=$1
    export NAME
    shift
    if [ -n "$SEVERAL" ]; then
        all_of misconfigured "$(several)" "$@"
    elif [ "$CRL_KIND" = none ]; then
        all_of misconfigured 'the server checks no list of revoked certificates: crl-verify is missing in its configuration' "$@"
    elif [ "$CRL_KIND" = inline ]; then
        all_of misconfigured 'its list stands inside the configuration and is read at the start only' "$@"
    elif [ "$CRL_KIND" = dir ]; then
        revoke_in_folder "$@"
    elif [ -z "$CA_KEY" ] || [ -z "$CA_INDEX" ]; then
        all_of forbidden 'no key of the CA is named' "$@"
    elif [ ! -r "$CA_KEY" ] || [ ! -r "$CA_CERT" ] || ! has_database; then
        all_of forbidden "cannot read the CA: $CA_KEY, $CA_INDEX, $CA_CERT" "$@"
    else
        locked revoke_locked "$@" </dev/null
        status=$?
        [ "$status" != 75 ] || all_of busy 'somebody else works on the CA' "$@"
        [ "$status" = 75 ] || [ "$status" = 0 ] || all_of failed 'the shell ended' "$@"
    fi
}

# revoke_in_folder [NUMBER SERIAL]…: crl-verify DIR dir: a file named by the serial in decimal is all that it takes, if the server can
# open it.
revoke_in_folder() {
    certificates >"$TMP/issued"
    while [ $# -gt 1 ]; do
        file=$CRL/$(decimal_of "$2") said=
        twin=$(twin_of "$2")
        if [ -n "$twin" ]; then
            answer "$1" protected "serial $2 is also that of $twin: the list knows serials alone, it would shut both out"
        elif [ -e "$file" ] && readable "$file"; then
            answer "$1" already ''
        elif said=$({ { [ -e "$file" ] || (umask 022 && : >"$file"); } && chmod 644 "$file"; } 2>&1) && readable "$file"; then
            answer "$1" changed "$file stands for it"
        elif [ -n "$said" ]; then
            answer "$1" failed "$file: $said"
        else
            answer "$1" misconfigured "the server's user (id $SERVER_UID) cannot read $file"
        fi
        shift 2
    done
}

# twin_of SERIAL: somebody else whose certificate has this serial. Compared as text: to awk 10E2 is a number, and the same as 1000. The name
# to leave out is in NAME, copies of certificates are in `issued`.
twin_of() {
    twin=
    [ -z "$CA_INDEX" ] || [ ! -r "$CA_INDEX" ] || twin=$(awk -F '\t' -v serial="$1" "$NAMED"' $4 == serial "" && $1 == "V" && !row($6) { print $6; exit }' "$CA_INDEX")
    [ -n "$twin" ] || twin=$(awk -F '\t' -v serial="$1" "$NAMED"' $2 == serial "" && !printed($4) { print $4; exit }' "$TMP/issued")
    printf '%s' "$twin"
}

# decimal_of HEX: any length.
decimal_of() {
    printf '%s\n' "$1" | awk '{
        n = 1; d[1] = 0
        for (i = 1; i <= length($0); i++) {
            carry = index("0123456789ABCDEF", substr($0, i, 1)) - 1
            for (j = 1; j <= n; j++) { v = d[j] * 16 + carry; d[j] = v % 10; carry = int(v / 10) }
            while (carry) { d[++n] = carry % 10; carry = int(carry / 10) }
        }
        for (j = n; j >= 1; j--) printf "%d", d[j]
        print ""
    }'
}

revoke_locked() {
    WANTED='' MINE=''
    certificates >"$TMP/issued"
    while [ $# -gt 1 ]; do
        # The list knows serials alone, it would shut somebody else out.
        twin=$(twin_of "$2")
        if [ -n "$twin" ]; then
            answer "$1" protected "serial $2 is also that of $twin: the list knows serials alone, it would shut both out"
        else
            WANTED="$WANTED $2" MINE="$MINE $1 $2"
        fi
        shift 2
    done
    [ -n "$MINE" ] || return 0
    # shellcheck disable=SC2086 # a list
    set -- $MINE
    listed=$(crl_serials) || {
        # Nobody can say what the broken one held; a new one could open what it shut.
        all_of misconfigured "the list in place cannot be read: $CRL" "$@"
        return 0
    }
    NEWS=''
    fresh=$(valid_list) || fresh=
    for serial in $WANTED; do
        case " $(printf '%s' "$listed" | tr '\n' ' ') " in *" $serial "*) [ -n "$fresh" ] || NEWS="$NEWS $serial" ;; *) NEWS="$NEWS $serial" ;; esac
    done
    awk -F '\t' -v OFS='\t' -v these="$WANTED" \
        -v now="$(date -u +%y%m%d%H%M%SZ)" -v until="$(date -u -d '+ 20 years' +%y%m%d%H%M%SZ 2>/dev/null || echo 491231235959Z)" \
        "$NAMED$REVOKE" "$CA_INDEX" >"$TMP/index" || {
        all_of failed 'awk failed on the database of the CA' "$@"
        return 0
    }
    if ! cmp -s "$TMP/index" "$CA_INDEX"; then
        rm -f "$CA_INDEX".offboard-*
        beside=$(mktemp "$CA_INDEX.offboard-XXXXXXXXXX") && cat "$TMP/index" >"$beside" && replace "$CA_INDEX" "$beside" || {
            rm -f "$beside"
            all_of failed "$CA_INDEX: $WHY" "$@"
            return 0
        }
    fi
    if [ -n "$NEWS" ]; then
        publish || {
            all_of "${HOW:-failed}" "$WHY" "$@"
            return 0
        }
    fi
    if ! readable "$CRL"; then
        all_of misconfigured "the server's user (id $SERVER_UID) cannot reach $CRL" "$@"
        return 0
    fi
    while [ $# -gt 1 ]; do
        case "$NEWS " in
        *" $2 "*) answer "$1" changed "revoked, and in the list that the server reads ($CRL, good until $NEXT)" ;;
        *) answer "$1" already '' ;;
        esac
        shift 2
    done
}

# crl_serials: the serials in the list in place, a line each. Fails if it cannot be read.
crl_serials() {
    our_crl "$CRL" "$TMP/ours" "$TMP/rest" || return 1
    openssl crl -in "$TMP/ours" -noout -text 2>/dev/null | awk "$LISTED" | awk -F '\t' '$1 == "S" { print $2 }'
}

# valid_list: succeeds if the list in place is signed by the CA and not over.
valid_list() {
    signed_by "$TMP/ours" "$CA_CERT" || return 1
    next=$(openssl crl -in "$TMP/ours" -noout -nextupdate 2>/dev/null)
    next=$(date -d "${next#nextUpdate=}" +%s 2>/dev/null) && [ "$next" -gt "$(date +%s)" ] && echo fresh
}

# Rows of a database that gives the old list's entries again: those that the CA's own database does not have.
# shellcheck disable=SC2016
CARRIED='
BEGIN {
    split("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec", m, " "); for (i in m) month[m[i]] = i
    code["Unspecified"] = "unspecified"; code["Key Compromise"] = "keyCompromise"; code["CA Compromise"] = "CACompromise"
    code["Affiliation Changed"] = "affiliationChanged"; code["Superseded"] = "superseded"
    code["Cessation Of Operation"] = "cessationOfOperation"
}
FILENAME == ARGV[1] { if ($1 == "R") have[$4] = 1; next }
$1 == "S" && !($2 in have) {
    split($3, d, /[ :]+/)
    when = sprintf("%02d%02d%02d%02d%02d%02dZ", d[6] % 100, month[d[1]], d[2], d[3], d[4], d[5])
    print "R\t491231235959Z\t" when (($4 in code) ? "," code[$4] : "") "\t" $2 "\tunknown\t/CN=carried forward"
}'

# publish: makes a new list from the CA's database and the old list, checks it, and moves it into place. Sets NEXT. Fails with HOW and WHY.
publish() {
    HOW=failed
    openssl crl -in "$TMP/ours" -noout -text 2>/dev/null | awk "$LISTED" >"$TMP/old"
    # Only what is revoked goes into a list; the rest of the database does not matter here.
    awk -F '\t' '$1 == "R"' "$CA_INDEX" >"$TMP/db"
    awk -F '\t' "$CARRIED" "$TMP/db" "$TMP/old" >"$TMP/more" && cat "$TMP/more" >>"$TMP/db"
    number=$(awk -F '\t' '$1 == "L" { print $4 }' "$TMP/old")
    case $number in 0x* | '') number=${number#0x} ;; *) number=$(printf '%X' "$number") ;; esac
    own=
    numbers=$(dirname -- "$CA_INDEX")/crlnumber
    [ ! -s "$numbers" ] || read -r own <"$numbers"
    # The higher of what the old list says plus one, and what the CA would give next. Longer is higher.
    number=$(printf '%s %s\n' "$number" "$own" | awk '
        function plain(h) { h = toupper(h); sub(/^0+/, "", h); return h }
        function plus(h,    i, c, v, out) {
            c = 1
            for (i = length(h); i >= 1; i--) { v = index("0123456789ABCDEF", substr(h, i, 1)) - 1 + c; c = v > 15; out = substr("0123456789ABCDEF", v % 16 + 1, 1) out }
            return (c ? "1" : "") out
        }
        { old = plus(plain($1)); own = plain($2)
          n = (length(own) > length(old) || (length(own) == length(old) && own "x" > old "x")) ? own : old
          print (length(n) % 2 ? "0" : "") n }')
    printf '%s\n' "$number" >"$TMP/number"
    days=$CRL_DAYS
    if [ -z "$days" ]; then
        # As long as the old one was good for, but a month at least: one that is over shuts everybody out.
        last=$(openssl crl -in "$TMP/ours" -noout -lastupdate) next=$(openssl crl -in "$TMP/ours" -noout -nextupdate)
        last=$(date -d "${last#lastUpdate=}" +%s 2>/dev/null) next=$(date -d "${next#nextUpdate=}" +%s 2>/dev/null)
        days=$(((${next:-0} - ${last:-0} + 86399) / 86400))
        [ "$days" -ge 30 ] || days=30
    fi
    cat >"$TMP/ca.cnf" <<END
[ca]
default_ca = this
[this]
database = $TMP/db
crlnumber = $TMP/number
default_md = sha256
default_crl_days = $days
crl_extensions = extensions
[extensions]
authorityKeyIdentifier = keyid,issuer
END
    echo 'unique_subject = no' >"$TMP/db.attr"
    set -- -passin "file:$CA_PASS"
    [ -n "$CA_PASS" ] || set --
    WHY=$(openssl ca -config "$TMP/ca.cnf" -gencrl -keyfile "$CA_KEY" -cert "$CA_CERT" -out "$TMP/new" "$@" 2>&1 </dev/null) || {
        HOW=forbidden WHY="the CA's key did not sign: $(printf '%s' "$WHY" | grep -v '^Using configuration' | tail -n 2)"
        return 1
    }
    check_list || return 1
    # Ours is the lock: what lies there is what a crash left.
    rm -f "$CRL".offboard-*
    beside=$(mktemp "$CRL.offboard-XXXXXXXXXX" 2>&1) || {
        WHY="beside the list in place: $beside"
        return 1
    }
    cat "$TMP/rest" "$TMP/new" >"$beside" && openssl crl -in "$TMP/new" -noout -text >/dev/null || {
        rm -f "$beside"
        WHY="$CRL: could not be written"
        return 1
    }
    # What a crash leaves here is a database that is ahead of the list: the next apply publishes.
    before=$(stat -c '%Y %s' "$CRL")
    replace "$CRL" "$beside" || {
        rm -f "$beside"
        WHY="$CRL: $WHY"
        return 1
    }
    # The server reads it again when its time in seconds or its size has changed.
    [ "$(stat -c '%Y %s' "$CRL")" != "$before" ] || touch -d "@$((${before% *} + 1))" "$CRL"
    # It holds nothing that is secret, and one that the server cannot read is no list.
    readable "$CRL" || chmod a+r "$CRL"
    [ -z "$own" ] || { cat "$TMP/number" >"$numbers"; } 2>/dev/null
    # The CA's own copy: whoever copies it to the server next must not bring the old one back.
    if [ -n "$CA_CRL" ] && [ -e "$CA_CRL" ] && ! same "$CA_CRL" "$CRL"; then
        copy=$(final "$CA_CRL")
        beside=$(mktemp "$copy.offboard-XXXXXXXXXX" 2>/dev/null) && cat "$TMP/new" >"$beside" && replace "$copy" "$beside" || rm -f "$beside"
    fi
    NEXT=$(openssl crl -in "$TMP/new" -noout -nextupdate)
    NEXT=${NEXT#nextUpdate=}
}

# check_list: whether the new list may go into place: signed by a CA that the server trusts, not over, with every serial that the old
# one had and every one that is wanted, and the server's own certificate still stands.
check_list() {
    HOW=failed
    for trusted in "$CA_CERT" "$SERVER_CA"; do
        signed_by "$TMP/new" "$trusted" || {
            HOW=misconfigured WHY="the new list is not signed by the CA in $trusted; the old one stays"
            return 1
        }
    done
    next=$(openssl crl -in "$TMP/new" -noout -nextupdate 2>/dev/null)
    next=$(date -d "${next#nextUpdate=}" +%s 2>/dev/null) || next=0
    [ "$next" -gt "$(($(date +%s) + 3600))" ] || {
        WHY='the new list would be over at once; the old one stays'
        return 1
    }
    openssl crl -in "$TMP/new" -noout -text 2>/dev/null | awk "$LISTED" | awk -F '\t' '$1 == "S" { print $2 }' | sort >"$TMP/has"
    { awk -F '\t' '$1 == "S" { print $2 }' "$TMP/old"; printf '%s\n' $WANTED; } | sort -u >"$TMP/must"
    lost=$(comm -23 "$TMP/must" "$TMP/has" | head -n 3)
    [ -z "$lost" ] || {
        WHY="the new list lacks $lost; the old one stays"
        return 1
    }
    if [ -s "$SERVER_CERT" ] && openssl verify -CAfile "$SERVER_CA" "$SERVER_CERT" >/dev/null 2>&1; then
        said=$(openssl verify -CAfile "$SERVER_CA" -crl_check -CRLfile "$TMP/new" "$SERVER_CERT" 2>&1)
        case $said in
        *': OK'*) ;;
        *'error 3 '*) ;; # the server's certificate comes from another CA
        *)
            WHY="with the new list the server's own certificate is refused ($said); the old one stays"
            return 1
            ;;
        esac
    fi
}

# is_live NAME: whether a certificate of that name may still open anything. Only one of which every trace is over or revoked does not;
# of a name without a trace, or without a database of the CA, nobody knows.
is_live() {
    [ -n "$CA_INDEX" ] && [ -r "$CA_INDEX" ] || return 0
    certificates >"$TMP/issued"
    # Copies that the database lost count as well.
    NAME=$1 awk -F '\t' "$NAMED"'
        FILENAME == ARGV[1] { if (row($6)) { known[$4] = 1; any = 1; if ($1 == "V") live = 1 } next }
        !($2 in known) && printed($4) { live = 1 }
        END { exit !(live || !any) }' "$CA_INDEX" "$TMP/issued" && return 0
    # Another CA's certificate, which is connected now.
    talk 'status 3' | WHO=$1 awk -F '\t' '$2 == "CLIENT_LIST" && $3 == ENVIRON["WHO"] "" { found = 1 } END { exit !found }'
}

# disable NUMBER NAME: a `disable` line in the client's own file. The server reads it at each connection.
disable() {
    load
    if [ -n "$SEVERAL" ]; then
        answer "$1" misconfigured "$(several)"
        return 0
    fi
    if [ -z "$CCD" ] || [ ! -d "$CCD" ]; then
        answer "$1" misconfigured 'the server has no client-config-dir'
        return 0
    fi
    file=$CCD/$2
    if [ -L "$file" ] || { [ -e "$file" ] && [ ! -f "$file" ]; }; then
        answer "$1" protected "$file is a symbolic link, or no file"
        return 0
    fi
    if [ -f "$file" ] && grep -qE '^[[:space:]]*disable[[:space:]]*([#;].*)?$' "$file"; then
        if readable "$file"; then answer "$1" already ''; else answer "$1" misconfigured "the server's user (id $SERVER_UID) cannot read $file"; fi
        return 0
    fi
    if [ ! -e "$file" ] && ! is_live "$2"; then
        answer "$1" absent "no certificate of $2 is valid"
        return 0
    fi
    # A dot in front: the server looks for exact names only, so it never reads one that is half written.
    beside=$(mktemp "$CCD/.offboard-XXXXXXXXXX" 2>&1) || {
        answer "$1" failed "$beside"
        return 0
    }
    # What is not whole, as on a full disk, does not go into place.
    if ! {
        {
            [ ! -f "$file" ] || {
                cat -- "$file" && { [ -z "$(tail -c 1 "$file" | tr -d '\n')" ] || echo; }
            }
        } && echo disable
    } >"$beside" 2>/dev/null || [ "$(tail -n 1 "$beside")" != disable ]; then
        rm -f "$beside"
        answer "$1" failed "$file: it could not be written beside it; it is as it was"
    elif ! replace "$file" "$beside"; then
        rm -f "$beside"
        answer "$1" failed "$file: $WHY"
    elif ! readable "$file" && ! { chmod a+r "$file" && readable "$file"; }; then
        answer "$1" misconfigured "the server's user (id $SERVER_UID) cannot read $file"
    else
        answer "$1" changed "$file says disable"
    fi
}

# enable NUMBER NAME WAS: takes that line out again; and the file, if it was not there (WAS is `none`).
enable() {
    load
    file=$CCD/$2
    if [ -z "$CCD" ] || [ ! -f "$file" ] || [ -L "$file" ] || ! grep -qE '^[[:space:]]*disable[[:space:]]*([#;].*)?$' "$file"; then
        answer "$1" already ''
        return 0
    fi
    beside=$(mktemp "$CCD/.offboard-XXXXXXXXXX" 2>&1) || {
        answer "$1" failed "$beside"
        return 0
    }
    # 1 is that no line is left; more, that it could not be read or written whole.
    grep -vE '^[[:space:]]*disable[[:space:]]*([#;].*)?$' "$file" >"$beside" 2>/dev/null
    if [ $? -gt 1 ] || [ "$(grep -cvE '^[[:space:]]*disable[[:space:]]*([#;].*)?$' "$file")" != "$(grep -c '' "$beside")" ]; then
        rm -f "$beside"
        answer "$1" failed "$file: it could not be written beside it; it is as it was"
    elif [ "$3" = none ] && [ ! -s "$beside" ]; then
        rm -f "$beside" "$file"
        answer "$1" changed "$file is gone"
    elif replace "$file" "$beside"; then
        answer "$1" changed "$file does not say disable any more"
    else
        rm -f "$beside"
        answer "$1" failed "$file: $WHY"
    fi
}

# end_sessions NUMBER NAME: every live client of exactly that name, told to stay away, until none is left.
end_sessions() {
    load
    if [ -n "$SEVERAL" ]; then
        answer "$1" misconfigured "$(several)"
        return 0
    fi
    if [ -z "$PID" ]; then
        answer "$1" failed 'no openvpn runs with this configuration'
        return 0
    fi
    cut=0 tries=0 clear=0
    killed=" "
    while [ "$tries" -lt 60 ]; do
        tries=$((tries + 1))
        said=$(talk 'status 3')
        why=$(printf '%s\n' "$said" | sed -n "s/^!$TAB//p" | head -n 1)
        if [ -n "$why" ]; then
            how=failed
            case $why in *'no management interface'*) how=misconfigured ;; *'another client'*) how=busy ;; esac
            answer "$1" "$how" "the management interface: $why"
            return 0
        fi
        case $said in
        *"$NL:${TAB}END"*) ;;
        *)
            answer "$1" busy 'the list of clients broke off'
            return 0
            ;;
        esac
        clients=$(printf '%s\n' "$said" | WHO=$2 awk -F '\t' '
            $2 == "HEADER" && $3 == "CLIENT_LIST" { for (i = 4; i <= NF; i++) { if ($i == "Common Name") name = i - 1; if ($i == "Client ID") id = i - 1 } }
            $2 == "CLIENT_LIST" && name && id && $name == ENVIRON["WHO"] "" && $id ~ /^[0-9]+$/ { print $id }')
        if [ -z "$clients" ]; then
            clear=$((clear + 1))
            [ "$clear" -lt 2 ] || break
            nap
            continue
        fi
        clear=0
        # Once each: being told again would start those seconds anew.
        for client in $clients; do
            case $killed in *" $client "*) continue ;; esac
            case $(talk "client-kill $client HALT") in
            *SUCCESS*) killed="$killed$client " cut=$((cut + 1)) ;;
            esac
        done
        nap
        # The server lets a client that was told go on for five seconds, if it likes to. By name it ends at once; a colon would make
        # the name an address.
        case $2 in
        *[!A-Za-z0-9_.@\ -]*) ;;
        *) talk "kill \"$2\"" >/dev/null ;;
        esac
    done
    if [ "$clear" -lt 2 ]; then
        answer "$1" busy "after $tries tries there is still a client of that name"
    elif [ "$cut" = 0 ]; then
        answer "$1" already ''
    else
        answer "$1" changed "cut $cut, and none is left"
    fi
}
