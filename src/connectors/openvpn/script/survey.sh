#!/bin/sh
# shellcheck disable=SC2015,SC2034,SC2154 # see common.sh
#
# What is read. Nothing here changes anything.

# hello: who we are, and what is missing.
hello() {
    say uid "$(id -u)"
    [ -n "$TMP" ] || say missing "a folder to work in under /tmp"
    for program in awk openssl flock stat readlink mktemp; do
        command -v "$program" >/dev/null 2>&1 || say missing "$program"
    done
    command -v perl >/dev/null 2>&1 || command -v python3 >/dev/null 2>&1 || say missing 'perl or python3'
    [ -r "$CONFIG" ] || say unreadable "$CONFIG"
}

# Speaks with the management interface: commands in, lines out, each until END, SUCCESS or ERROR. The password goes from its file to
# the socket, through no argument.
# shellcheck disable=SC2016
TALK_PERL='
use strict; use Socket qw(:all); $| = 1;
my ($kind, $host, $port, $pw) = splice @ARGV, 0, 4;
$SIG{ALRM} = sub { print "!\tno answer in time: another client may be connected to it\n"; exit 3 }; alarm 4;
sub fail { print "!\t$_[0]\n"; exit 3 }
my $s;
if ($kind eq "unix") { socket($s, AF_UNIX, SOCK_STREAM, 0) && connect($s, sockaddr_un($host)) or fail("$host: $!") }
else {
  my ($e, @a) = getaddrinfo($host, $port, { socktype => SOCK_STREAM }); my $why = "$e";
  for (@a) { my $t; if (socket($t, $_->{family}, SOCK_STREAM, 0) && connect($t, $_->{addr})) { $s = $t; last } $why = "$!" }
  $s or fail("$host $port: $why");
}
my $buffer = "";
sub line { my $prompts = shift;
  while (1) {
    if ($buffer =~ s/^(.*?)\r?\n//) { return $1 }
    if ($prompts && $buffer =~ s/^ENTER PASSWORD://) { return "ENTER PASSWORD:" }
    my $n = sysread $s, $buffer, 65536, length $buffer; fail("it closed the connection: another client may be connected to it") unless $n;
  } }
sub put { my $text = "$_[0]\n"; while (length $text) { my $n = syswrite $s, $text; fail("$!") unless $n; substr $text, 0, $n, "" } }
if ($pw ne "") {
  my $l = line(1);
  if ($l eq "ENTER PASSWORD:") {
    open my $f, "<", $pw or fail("its password file: $!"); my $word = <$f>; $word =~ s/[\r\n]+$//; put($word);
    $l = line(1); $l =~ /^SUCCESS/ or fail("it refuses the password of $pw");
  }
}
for my $command (@ARGV) {
  put($command);
  while (1) { my $l = line(0); next if $l =~ /^>/; print ":\t$l\n"; last if $l eq "END" || $l =~ /^(SUCCESS|ERROR):/ }
}
put("quit");'
TALK_PYTHON='
import signal, socket, sys
kind, host, port, pw = sys.argv[1:5]
def fail(why):
    sys.stdout.write("!\t%s\n" % why); sys.stdout.flush(); sys.exit(3)
signal.signal(signal.SIGALRM, lambda *_: fail("no answer in time: another client may be connected to it")); signal.alarm(4)
try:
    if kind == "unix":
        s = socket.socket(socket.AF_UNIX); s.connect(host)
    else:
        s = socket.create_connection((host, int(port)))
except OSError as e:
    fail("%s: %s" % (host, e.strerror))
buffer = b""
def line(prompts):
    global buffer
    while True:
        if b"\n" in buffer:
            one, buffer = buffer.split(b"\n", 1); return one.rstrip(b"\r")
        if prompts and buffer.startswith(b"ENTER PASSWORD:"):
            buffer = buffer[15:]; return b"ENTER PASSWORD:"
        more = s.recv(65536)
        if not more: fail("it closed the connection: another client may be connected to it")
        buffer += more
if pw and line(True) == b"ENTER PASSWORD:":
    try: word = open(pw, "rb").readline().rstrip(b"\r\n")
    except OSError as e: fail("its password file: %s" % e.strerror)
    s.sendall(word + b"\n")
    if not line(True).startswith(b"SUCCESS"): fail("it refuses the password of %s" % pw)
for command in sys.argv[5:]:
    s.sendall(command.encode() + b"\n")
    while True:
        one = line(False)
        if one.startswith(b">"): continue
        sys.stdout.buffer.write(b":\t" + one + b"\n")
        if one == b"END" or one.startswith((b"SUCCESS:", b"ERROR:")): break
s.sendall(b"quit\n")'

# talk COMMAND…: `:`, a tab and a line for everything that the management interface says; `!`, a tab and why, if it says nothing.
talk() {
    where=$(option management)
    if [ -z "$where" ] || has_option management-client; then
        printf '!\tno management interface is configured\n'
        return
    fi
    kind=tcp at=$(option management 2) word=$(option management 3)
    case $at in unix) kind=unix where=$(real "$where") ;; esac
    [ -z "$word" ] || word=$(real "$word")
    if command -v perl >/dev/null 2>&1; then
        perl -e "$TALK_PERL" "$kind" "$where" "$at" "$word" "$@" 2>/dev/null </dev/null || printf '!\tit could not be asked\n'
    elif command -v python3 >/dev/null 2>&1; then
        python3 -c "$TALK_PYTHON" "$kind" "$where" "$at" "$word" "$@" 2>/dev/null </dev/null || printf '!\tit could not be asked\n'
    else
        printf '!\tneither perl nor python3 is there to talk to it\n'
    fi
}

# Certificates as `openssl pkcs7 -print_certs -text` shows them: F, serial, end of validity, subject.
# shellcheck disable=SC2016
CERTIFICATES='
function flush() { if (serial != "") print "F\t" serial "\t" until "\t" subject; serial = "" }
/^Certificate:/ { flush(); want = 0 }
/^ *Serial Number:/ {
    value = $0; sub(/^ *Serial Number: */, "", value)
    if (value == "") { want = 1; next }
    if (match(value, /\(0x[0-9a-f]+\)/)) value = substr(value, RSTART + 3, RLENGTH - 4)
    serial = toupper(value); if (length(serial) % 2) serial = "0" serial
    next
}
want { value = $0; gsub(/[ :]/, "", value); serial = toupper(value); want = 0; next }
/^ *Not After *: / { until = $0; sub(/^ *Not After *: /, "", until) }
/^ *Subject: / { subject = $0; sub(/^ *Subject: /, "", subject) }
END { flush() }'

# certificates: every certificate that lies in the CA's folders.
certificates() {
    printf '%s\n' "$CA_DIRS" | while read -r dir; do
        [ -n "$dir" ] && [ -d "$dir" ] || continue
        find "$dir" -maxdepth 1 -type f \( -name '*.crt' -o -name '*.pem' \) -size -64k -exec cat {} + 2>/dev/null
    done | awk '/^-----BEGIN CERTIFICATE-----/ { on = 1 } on { print } /^-----END CERTIFICATE-----/ { on = 0 }' >"$TMP/all"
    [ -s "$TMP/all" ] || return 0
    openssl crl2pkcs7 -nocrl -certfile "$TMP/all" 2>/dev/null |
        openssl pkcs7 -print_certs -text -noout 2>/dev/null | awk "$CERTIFICATES" | sort -u
}

# A list of revoked certificates as `openssl crl -text` shows it: L, issued, next, number; then S, serial, date, reason, a line each.
# shellcheck disable=SC2016
LISTED='
function flush() { if (serial != "") print "S\t" serial "\t" date "\t" reason; serial = date = reason = "" }
/^ *Last Update: / { last = $0; sub(/^ *Last Update: /, "", last) }
/^ *Next Update: / { next_one = $0; sub(/^ *Next Update: /, "", next_one) }
/X509v3 CRL Number:/ { getline; number = $1 }
/^ *Serial Number: / { flush(); serial = toupper($3); next }
/^ *Revocation Date: / { date = $0; sub(/^ *Revocation Date: /, "", date) }
/X509v3 CRL Reason Code:/ { getline; reason = $0; sub(/^ */, "", reason) }
END { flush(); print "L\t" last "\t" next_one "\t" number }'

# signed_by LIST FILE: whether one of the CAs in FILE signed the list. Each by itself: of two with one name openssl would try the first.
signed_by() {
    rm -f "$TMP"/authority.*
    awk -v to="$TMP/authority." '/^-----BEGIN .*CERTIFICATE-----/ { n++; on = 1 } on { print >(to n) } /^-----END .*CERTIFICATE-----/ { on = 0; close(to n) }' "$2" || return 1
    for authority in "$TMP"/authority.*; do
        [ -e "$authority" ] || return 1
        case $(openssl crl -in "$1" -noout -verify -CAfile "$authority" 2>&1) in *'verify OK'*) return 0 ;; esac
    done
    return 1
}

# our_crl FILE OUT REST: writes our CA's list to OUT and every other to REST. Ours is what our CA's key signed: two CAs may have one name.
# Fails if there is no list of our CA that can be read, or more than one.
our_crl() {
    : >"$2"
    : >"$3"
    if [ -n "$CA_CERT" ] && [ -r "$CA_CERT" ]; then issuer=$CA_CERT; else openssl x509 -in "$SERVER_CA" -out "$TMP/issuer" 2>/dev/null && issuer=$TMP/issuer || return 1; fi
    rm -f "$TMP"/list.*
    awk -v to="$TMP/list." '/^-----BEGIN X509 CRL-----/ { n++; on = 1 } on { print >(to n) } /^-----END X509 CRL-----/ { on = 0; close(to n) }' "$1" || return 1
    for one in "$TMP"/list.*; do
        [ -e "$one" ] || return 1
        openssl crl -in "$one" -noout 2>/dev/null || return 1
        if ! signed_by "$one" "$issuer"; then
            cat "$one" >>"$3" || return 1
        elif [ -s "$2" ]; then
            return 1
        else
            cat "$one" >"$2" || return 1
        fi
    done
    [ -s "$2" ]
}

# crl: the list that the running server reads.
crl() {
    say crl-kind "${CRL_KIND:-file}"
    say crl "$CRL"
    [ -n "$CRL" ] && [ "$CRL_KIND" != dir ] || return 0
    if ! readable "$CRL"; then say crl-unreadable "user id $SERVER_UID"; fi
    [ -e "$CRL" ] || {
        say crl-broken 'there is no such file'
        return 0
    }
    if our_crl "$CRL" "$TMP/ours" "$TMP/rest"; then
        openssl crl -in "$TMP/ours" -noout -text 2>/dev/null | awk "$LISTED"
        signed_by "$TMP/ours" "$SERVER_CA" || say crl-broken 'its signature is not of the CA that the server trusts'
        openssl crl -in "$TMP/ours" -noout -nextupdate 2>/dev/null | sed 's/^nextUpdate=/I	crl-next	/'
    else
        say crl-broken 'no list that our CA signed, or more than one, can be read from it'
    fi
}

# ccd: the files of the client-config-dir, each with whether it has a `disable` that the server can read.
ccd() {
    say ccd "$CCD"
    [ -n "$CCD" ] && [ -d "$CCD" ] || return 0
    say ccd-there yes
    find "$CCD" -mindepth 1 -maxdepth 1 \( -type f -o -type l \) ! -name '.*' -print 2>/dev/null | while read -r file; do
        state=enabled
        if grep -qE '^[[:space:]]*disable[[:space:]]*([#;].*)?$' "$file" 2>/dev/null; then
            state=disabled
            readable "$file" || state=unreadable
        fi
        printf 'D\t%s\t%s\n' "$state" "${file##*/}"
    done
}

# last_seen: when each name was last let in, by the server's log: G, date and time with the zone, name.
last_seen() {
    log=$(option log-append)
    [ -n "$log" ] || log=$(option log)
    [ -n "$log" ] || return 0
    case $log in /*) ;; *) log=$AT_CWD/$log ;; esac
    [ -r "$log" ] || return 0
    tail -c 20000000 -- "$log" | awk -v zone="$(date +%z)" '
        / Peer Connection Initiated with / && $1 ~ /^[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]$/ {
            at = index($0, "["); end = index($0, "] Peer Connection Initiated with ")
            if (at && end > at) seen[substr($0, at + 1, end - at - 1)] = $1 "T" $2 zone
        }
        END { for (name in seen) print "G\t" seen[name] "\t" name }'
}

# gather [all]: everything at once; with all also what lies in folders and logs.
gather() {
    load
    say pid "$PID"
    say several "$SEVERAL"
    if changed_since_start; then say changed-since-start "$CONFIG"; fi
    [ -z "$PID" ] || say uid-server "$SERVER_UID"
    [ -r "$CONFIG" ] || say unreadable "$CONFIG"
    printf '%s' "$OTHERS" | while read -r other; do say other "$other"; done
    printf '%s\n' "$OPTIONS" | awk -F '\t' '$1 ~ /^(crl-verify|management|management-client|client-config-dir|ccd-exclusive|ca|capath|cert|pkcs12|status|log|log-append|auth-user-pass-verify|auth-user-pass-optional|auth-gen-token|plugin|verify-client-cert|client-cert-not-required|username-as-common-name|duplicate-cn|reneg-sec|chroot|x509-username-field|tls-verify|disable-occ)$/ { print "O\t" $0 }'
    if [ -n "$CA_INDEX" ]; then
        if has_database; then
            sed "s/^/X$TAB/" "$CA_INDEX"
        else
            say ca-unreadable "$CA_INDEX"
        fi
    fi
    serial=$(openssl x509 -in "$SERVER_CERT" -noout -serial 2>/dev/null)
    say server-serial "${serial#serial=}"
    if [ -n "$CA_KEY" ] && [ -r "$CA_KEY" ]; then say ca-key yes; fi
    crl
    ccd
    if [ -n "$PID" ]; then
        talk 'status 3' version pid | awk '{ print "M" $0 }'
    fi
    if [ "$1" = all ]; then
        certificates
        last_seen
    fi
    say gathered yes
}

# certificate_of SERIAL NAME: sets PEM to a file with this very certificate; nothing if there is none.
certificate_of() {
    PEM=
    while read -r dir; do
        [ -n "$dir" ] || continue
        for file in "$dir/$1.pem" "$dir/$1.crt" "$dir/$2.crt" "$dir/$2.pem"; do
            [ -f "$file" ] || continue
            has=$(openssl x509 -in "$file" -noout -serial 2>/dev/null) || continue
            has=${has#serial=}
            [ "$has" = "$1" ] || [ "$has" = "${1#0}" ] || [ "0$has" = "$1" ] || continue
            PEM=$file
            return
        done
    done <<END
$CA_DIRS
END
}

# verify [SERIAL NAME]…: what the server's own check says to each certificate, by the CA and the list that it reads: V, serial, the
# numbers of the errors (0: none, -: no such certificate here), the words. `server` stands for the server's own certificate.
verify() {
    while [ $# -gt 1 ]; do
        if [ "$1" = server ]; then PEM=$SERVER_CERT; else certificate_of "$1" "$2"; fi
        if [ -z "$PEM" ]; then
            printf 'V\t%s\t-\tno copy of it lies in the folders of the CA\n' "$1"
        elif [ "$CRL_KIND" = dir ] && [ "$1" != server ] && [ -e "$CRL/$(decimal_of "$1")" ] && readable "$CRL/$(decimal_of "$1")"; then
            printf 'V\t%s\t23\t%s\n' "$1" "$CRL/$(decimal_of "$1") stands for it"
        elif [ "$CRL_KIND" = dir ] || [ "$CRL_KIND" = none ] || [ "$CRL_KIND" = inline ]; then
            said=$(openssl verify -CAfile "$SERVER_CA" "$PEM" 2>&1)
            codes=$(printf '%s\n' "$said" | sed -n 's/^error \([0-9]*\) at .*/\1/p' | tr '\n' ' ')
            case $said in *': OK'*) codes="0 $codes" ;; esac
            printf 'V\t%s\t%s\t%s\n' "$1" "${codes:-?}" "$(one_line "$said")"
        else
            said=$(openssl verify -CAfile "$SERVER_CA" -crl_check -CRLfile "$CRL" "$PEM" 2>&1)
            codes=$(printf '%s\n' "$said" | sed -n 's/^error \([0-9]*\) at .*/\1/p' | tr '\n' ' ')
            case $said in *': OK'*) codes="0 $codes" ;; esac
            words=$(printf '%s\n' "$said" | sed -n 's/^error /error /p')
            printf 'V\t%s\t%s\t%s\n' "$1" "${codes:-?}" "$(one_line "${words:-$said}")"
        fi
        shift 2
    done
}

# Signs with nonsense whatever the client asks to be signed.
# shellcheck disable=SC2016
LIE='
use Socket; $| = 1; $SIG{PIPE} = "IGNORE"; my $s;
for (1 .. 60) { socket($s, AF_UNIX, SOCK_STREAM, 0); last if connect($s, sockaddr_un($ARGV[0])); select undef, undef, undef, 0.05 }
syswrite $s, "version 3\n";
while (<$s>) { /^>(PK|RSA)_SIGN:/ or next; my $kind = lc $1; syswrite $s, "$kind-sig\n" . "MEUCIQ" . "D" x 86 . "ADBE\nEND\n" }'

# said_to PEER SINCE SERIAL: what the log on standard input says of the certificate of that client (address:port), with whom each line about a client
# begins. What else stands in a line may be of anybody's choice, but for the serial (in decimal) of what was refused, which ends it.
said_to() {
    PEER=$1 awk -v since="$2" -v serial="$3" '
        !match($0, /^:\t[0-9]+,[A-Z]*,/) { next }
        {
            text = substr($0, RLENGTH + 1); at = substr($0, 3) + 0
            if (at < since - 1 || index(text, ENVIRON["PEER"] " VERIFY ") != 1 && index(text, ENVIRON["PEER"] " OpenSSL: ") != 1) next
            said = substr(text, length(ENVIRON["PEER"]) + 2)
        }
        said ~ /^VERIFY ERROR: depth=0, error=certificate revoked/ && said ~ (", serial=" serial "$") { print "revoked\t" text }
        said ~ /^VERIFY OK: depth=0|^OpenSSL: error:.*bad signature/ { print "passed\t" text }'
}

# probe [SERIAL NAME]…: asks the running server itself. A handshake begins with the certificate alone, which is public; the proof that its
# key is ours comes after it, and is nonsense here. So the server says of each certificate whether it passes, and lets nobody in:
# H, serial, revoked or passed, its own words from its log. Nothing where it cannot be asked.
probe() {
    command -v perl >/dev/null 2>&1 && command -v openvpn >/dev/null 2>&1 && [ -n "$PID" ] && [ -n "$TMP" ] || return 0
    set -f
    wrap=''
    for kind in tls-auth tls-crypt; do
        has_option "$kind" || continue
        wrap=$(option "$kind")
        # A key that stands in the configuration is not written anywhere else.
        [ "$wrap" != '[inline]' ] || return 0
        wrap="--$kind $(real "$wrap")"
        if [ "$kind" = tls-auth ]; then
            direction=$(option tls-auth 2)
            [ -n "$direction" ] || direction=$(option key-direction)
            case $direction in 0) wrap="$wrap 1" ;; 1) wrap="$wrap 0" ;; esac
            [ -z "$(option auth)" ] || wrap="$wrap --auth $(option auth)"
        fi
    done
    if has_option tls-crypt-v2; then return 0; fi
    proto=$(option proto) port=$(option port) address=$(option local)
    [ -n "$port" ] || port=$(option lport)
    case $proto in *6*) here=::1 ;; *) here=127.0.0.1 ;; esac
    case $address in '' | '*' | 0.0.0.0 | ::) address=$here ;; esac
    case $proto in '') proto=udp ;; tcp6*) proto=tcp6-client ;; tcp4*) proto=tcp4-client ;; tcp*) proto=tcp-client ;; esac
    # Other ports than those of a look a moment ago, or of somebody else's: the log tells clients apart by nothing else.
    from=$((20000 + 0x$(od -An -N2 -tx1 /dev/urandom | tr -d ' \n') % 40000))
    began=$(date +%s) asked='' clients=''
    while [ $# -gt 1 ]; do
        certificate_of "$1" "$2"
        if [ -n "$PEM" ]; then
            from=$((from + 1))
            # From the server's own address, so that it is known whom the log speaks of.
            # shellcheck disable=SC2086 # a list; paths with blanks end in no answer
            limited 6 openvpn --tls-client --dev null --ifconfig-noexec --route-noexec --proto "$proto" --remote "$address" "${port:-1194}" \
                --bind --local "$address" --lport "$from" --ca "$SERVER_CA" --cert "$PEM" $wrap --management "$TMP/lie.$from" unix \
                --management-external-key pkcs1 pss digest --connect-retry-max 1 --hand-window 5 --tls-exit --verb 0 </dev/null >/dev/null 2>&1 &
            clients="$clients $!"
            limited 6 perl -e "$LIE" "$TMP/lie.$from" </dev/null >/dev/null 2>&1 &
            clients="$clients $!"
            asked="$asked $from=$1"
        fi
        shift 2
    done
    set +f
    tries=0 told=' '
    while [ -n "$asked" ] && [ "$tries" -lt 20 ]; do
        tries=$((tries + 1))
        nap
        printf 'P\t\n'
        talk 'log 250' >"$TMP/log"
        left=
        for pair in $asked; do
            said=$(said_to "$address:${pair%%=*}" "$began" "$(decimal_of "${pair#*=}")" <"$TMP/log" | head -n 1)
            if [ -n "$said" ]; then printf 'H\t%s\t%s\n' "${pair#*=}" "$said"; else left="$left $pair"; fi
        done
        asked=$left
    done
    # shellcheck disable=SC2086 # numbers of our own processes
    [ -z "$clients" ] || kill $clients 2>/dev/null
    # shellcheck disable=SC2086
    [ -z "$clients" ] || wait $clients 2>/dev/null
    rm -f "$TMP"/lie.*
}
