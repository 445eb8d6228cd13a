#!/bin/sh
# shellcheck disable=SC2015,SC2153,SC2154 # FOLDER is set by the caller: where the configuration files are
#
# Sent to the gateway once, after src/wire/shell/common.sh. Besides what that needs: wg and flock. Nothing in this part changes anything.
#
# Private and preshared keys never leave the gateway: awk reads them, and says of a preshared key only which others are the same.

# hello: what is missing.
hello() {
    [ -n "$TMP" ] || say missing "a folder to work in under /tmp"
    for program in wg awk sed flock stat readlink mktemp cksum; do
        command -v "$program" >/dev/null 2>&1 || say missing "$program"
    done
}

# Reads lines that begin with what they are, and a tab: I, an interface's name; D, its dump; F, a configuration file and its interface; L,
# its lines; B, why it cannot be read; X, a file of another program: which, file, interface; Y, its lines; S, a fact.
#
# Writes: U interface, its public key, its port. P interface, peer's key, group of its preshared key, last handshake, allowed, endpoint.
# K file, interface, key, group, first line, last line, allowed. N file, interface, key, a comment of this peer. O file, line, a comment of
# no peer. C file, interface, SaveConfig, first line that is not understood (0: none), why. W file, line of a command that calls wg.
# M file, line of a command that has a known peer's key in it, key. E program, file, interface, key.
#
# wg takes all white space out of a line, and what follows a #; it knows keys and sections in any case (config.c). wg-quick takes more keys
# in [Interface]. Anything else makes wg refuse the whole file.
# shellcheck disable=SC2016 # awk's own dollars
PEERS='
BEGIN {
    FS = "\t"; ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    n = split(ENVIRON["WANT"], want, " "); for (i = 1; i <= n; i++) known[want[i]] = 1
    n = split("privatekey listenport fwmark address dns mtu table preup postup predown postdown saveconfig", f, " ")
    for (i = 1; i <= n; i++) in_interface[f[i]] = 1
    n = split("publickey presharedkey allowedips endpoint persistentkeepalive", f, " ")
    for (i = 1; i <= n; i++) in_peer[f[i]] = 1
}
# Two spellings of one key differ in the last two bits, which mean nothing.
function canonical(text,    at) {
    gsub(/[ \t\r\v\f"\047]/, "", text); sub(/=+$/, "", text); gsub(/-/, "+", text); gsub(/_/, "/", text)
    if (length(text) != 43 || text !~ /^[A-Za-z0-9+\/]+$/) return ""
    at = index(ALPHABET, substr(text, 43)) - 1
    return substr(text, 1, 42) substr(ALPHABET, at - at % 4 + 1, 1) "="
}
function is_key(text) { return text != "" && canonical(text) == text "" }
function group(secret) {
    if (secret == "" || secret == "(none)") return "-"
    if (!(secret in same)) same[secret] = ++groups
    return same[secret]
}
# A comment, without anything that may be a key.
function told(text,    out) {
    sub(/^[ \t]*#+/, "", text); gsub(/[\t\r]/, " ", text); sub(/^ +/, "", text); sub(/ +$/, "", text)
    if (tolower(text) ~ /private|preshared|secret|psk/) return ""
    while (match(text, /[A-Za-z0-9+\/=_-]+/)) {
        out = out substr(text, 1, RSTART - 1) (RLENGTH >= 40 ? "..." : substr(text, RSTART, RLENGTH))
        text = substr(text, RSTART + RLENGTH)
    }
    return substr(out text, 1, 200)
}
function bad(why) { if (!wrong) { wrong = line; reason = why } }
function loose(    i) { for (i = 1; i <= held; i++) if (said[i] != "") print "O\t" file "\t" since + i - 1 "\t" said[i]; held = 0 }
# A peer goes from the comments right above it to its last line, and the empty lines after that.
function end_peer(    i) {
    if (section == "peer") {
        if (key == "") { if (!wrong) { wrong = from; reason = "a peer without a key" } }
        else {
            print "K\t" file "\t" name "\t" key "\t" psk "\t" from "\t" upto "\t" allowed
            for (i = 1; i <= notes; i++) if (note[i] != "") print "N\t" file "\t" name "\t" key "\t" note[i]
            known[key] = 1
        }
    }
    section = ""
}
function end_file() {
    if (file == "") return
    loose(); end_peer()
    print "C\t" file "\t" name "\t" save "\t" wrong + 0 "\t" reason
    file = ""
}
function keys_in(text, number,    token) {
    while (match(text, /[A-Za-z0-9+\/]+=/)) {
        token = substr(text, RSTART, RLENGTH)
        if (is_key(token)) { named[++names] = token; at_file[names] = file; at_line[names] = number }
        text = substr(text, RSTART + RLENGTH)
    }
}
$1 == "I" { interface = $2; first = 1; next }
$1 == "D" && first { print "U\t" interface "\t" $3 "\t" $4; first = 0; next }
$1 == "D" { known[$2] = 1; print "P\t" interface "\t" $2 "\t" group($3) "\t" $6 "\t" $5 "\t" $4; next }
$1 == "F" { end_file(); file = $2; name = $3; line = wrong = held = 0; section = reason = ""; save = "no"; next }
$1 == "B" { wrong = 1; reason = $2; next }
$1 == "S" { print "I\t" substr($0, 3); next }
$1 == "L" {
    line++
    raw = substr($0, 3); text = raw
    at = index(raw, "#"); comment = at ? substr(raw, at) : ""
    sub(/#.*/, "", text); gsub(/[ \t\r\v\f]/, "", text)
    if (text == "") {
        plain = comment; gsub(/[# \t\r]/, "", plain); plain = tolower(plain)
        if (comment == "") { loose(); if (upto == line - 1) upto = line }
        # A peer that is commented out, and what stands above it, is of no other peer.
        else if (plain ~ /^\[/ || plain ~ /^(publickey|allowedips|endpoint|persistentkeepalive)=/) loose()
        else if (plain ~ /^end_?peer/) { if (upto == line - 1) upto = line; loose() }
        else { if (!held) since = line; said[++held] = told(comment) }
        next
    }
    if (text ~ /^\[/) {
        end_peer()
        kind = tolower(text)
        if (kind == "[peer]") {
            section = "peer"; key = allowed = ""; psk = "-"; from = held ? since : line; upto = line
            for (notes = 0; notes < held;) { notes++; note[notes] = said[notes] }
            if (comment != "") note[++notes] = told(comment)
            held = 0
        } else if (kind == "[interface]") { section = "interface"; loose() }
        else { loose(); bad("a section that wg does not know") }
        next
    }
    at = index(text, "="); word = tolower(substr(text, 1, at - 1)); value = substr(text, at + 1)
    if (section == "peer" && word in in_peer) {
        for (i = 1; i <= held; i++) note[++notes] = said[i]
        held = 0; upto = line
        if (comment != "") note[++notes] = told(comment)
        if (word == "publickey") { if (key != "" || !is_key(value)) bad("no key, or a second one"); else key = value }
        else if (word == "presharedkey") { if (is_key(value)) psk = group(value); else bad("no key") }
        else if (word == "allowedips") allowed = allowed (allowed == "" ? "" : ",") value
    } else if (section == "interface" && word in in_interface) {
        loose()
        if (word == "saveconfig") { save = tolower(value) == "true" ? "yes" : "no" }
        else if (word ~ /^(pre|post)/) {
            keys_in(raw, line)
            if (raw ~ /wg +(set|setconf|addconf|syncconf)/) print "W\t" file "\t" line
        }
    } else { loose(); bad(section == "" ? "a line in no section" : "a line that wg does not know") }
    next
}
$1 == "X" { end_file(); program = $2; other = $3; name = $4; inside = 0; print "E\t" program "\t" other "\t" name "\t"; next }
$1 == "Y" {
    raw = substr($0, 3); value = ""
    if (raw ~ /^[ \t]*[#;]/) next
    if (raw ~ /^\[wireguard-peer\./) { value = raw; sub(/^\[wireguard-peer\./, "", value); sub(/\].*/, "", value) }
    else if (tolower(raw) ~ /^[ \t]*publickey[ \t]*=/) { value = raw; sub(/^[^=]*=/, "", value); sub(/#.*/, "", value) }
    else if (program == "netplan" && raw ~ /^[ \t-]*public:/) { value = raw; sub(/^[^:]*:/, "", value); sub(/ #.*/, "", value) }
    value = canonical(value)
    if (value != "") print "E\t" program "\t" other "\t" name "\t" value
    next
}
END {
    end_file()
    for (i = 1; i <= names; i++) if (named[i] in known) print "M\t" at_file[i] "\t" at_line[i] "\t" named[i]
}'

# lines TAG FILE: the file, for PEERS.
lines() { awk -v tag="$1" '{ print tag "\t" $0 }' "$2"; }

# unreadable FILE: why nobody can say what wg would read in it. Fails if it can be read.
unreadable() {
    if [ ! -f "$1" ]; then
        echo 'it is no regular file'
    elif [ ! -r "$1" ]; then
        echo 'it cannot be read'
    elif [ "$(wc -c <"$1")" -gt 16777216 ]; then
        echo 'it is larger than 16 MiB'
    # In one reading: somebody may add a peer meanwhile.
    elif [ "$(LC_ALL=C tr -cd '\000' <"$1" | wc -c)" -gt 0 ]; then
        echo 'it has NUL bytes'
    else
        return 1
    fi
}

# files: every configuration file of the folder that wg-quick takes.
files() {
    for file in "$FOLDER"/*.conf; do
        [ -e "$file" ] || [ -L "$file" ] || continue
        name=${file##*/}
        name=${name%.conf}
        case $name in *[!A-Za-z0-9_=+.-]* | ????????????????*) continue ;; esac
        why=$(unreadable "$file") || {
            printf 'F\t%s\t%s\n' "$file" "$name"
            lines L "$file"
            continue
        }
        printf 'F\t%s\t%s\nB\t%s\n' "$file" "$name" "$why"
    done
}

# other PROGRAM FILE INTERFACE: a file of another program, for PEERS.
other() {
    case $2 in *"$TAB"* | *"$NL"*) return ;; esac
    printf 'X\t%s\t%s\t%s\n' "$1" "$2" "$(one_line "$3")"
    lines Y "$2"
}

# valued FILE KEY: the value of the first KEY=value.
valued() { sed -n "s/^$2 *= *//p" "$1" 2>/dev/null | head -n 1; }

# others: where other programs than wg-quick keep peers, and copies of configuration files.
others() {
    for folder in /etc/systemd/network /run/systemd/network /usr/local/lib/systemd/network /usr/lib/systemd/network; do
        for file in "$folder"/*.netdev "$folder"/*.netdev.d/*.conf; do
            [ -f "$file" ] && grep -qi '^\[WireGuard' "$file" 2>/dev/null || continue
            whose=${file%.d/*}
            name=$(valued "$whose" Name)
            whose=${whose##*/}
            other systemd-networkd "$file" "${name:-${whose%.netdev}}"
        done
    done
    for folder in /etc/NetworkManager /run/NetworkManager /usr/lib/NetworkManager; do
        for file in "$folder"/system-connections/*; do
            [ -f "$file" ] && grep -qi '^type *= *wireguard' "$file" 2>/dev/null || continue
            name=$(valued "$file" interface-name)
            other NetworkManager "$file" "${name:-${file##*/}}"
        done
    done
    for file in /etc/netplan/*.yaml /run/netplan/*.yaml /lib/netplan/*.yaml; do
        [ -f "$file" ] && grep -q 'mode: *.*wireguard' "$file" 2>/dev/null || continue
        name=${file##*/}
        other netplan "$file" "${name%.yaml}"
    done
    for file in "$FOLDER"/* "$FOLDER"/.[!.]*; do
        [ -f "$file" ] || continue
        name=${file##*/}
        name=${name%.conf}
        # What wg-quick takes was read above.
        case $file in *.conf) case $name in *[!A-Za-z0-9_=+.-]* | ????????????????*) ;; *) continue ;; esac ;; esac
        ! grep -qiE '^[[:space:]]*PublicKey[[:space:]]*=' "$file" 2>/dev/null || other copy "$file" "$name"
    done
}

# interfaces: the interfaces that are up.
interfaces() { limited 5 wg show interfaces 2>/dev/null; }

# runtime: what runs, for PEERS. Private and preshared keys stand in it: it goes to awk through no file.
runtime() {
    set -f
    for interface in $(interfaces); do
        if dump=$(limited 5 wg show "$interface" dump 2>/dev/null); then
            printf 'I\t%s\n' "$interface"
            printf '%s\n' "$dump" | awk '{ print "D\t" $0 }'
        else
            printf 'S\tsilent\t%s\n' "$interface"
        fi
    done
    set +f
    dump=
}

# gather [KEY]…: everything; commands that name one of these keys are told, though no peer has it.
gather() {
    WANT=$*
    export WANT
    say now "$(date +%s)"
    say version "$(wg --version 2>/dev/null | cut -d' ' -f1,2)"
    [ -d "$FOLDER" ] || say no-folder "$FOLDER"
    if ! said=$(limited 5 wg show interfaces 2>&1); then say wg-failed "$said"; fi
    { runtime; files; others; } | awk "$PEERS" && say gathered yes
}
