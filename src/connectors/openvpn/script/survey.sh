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
$SIG{ALRM} = sub { print "!\tno answer in time: another client may be connected to it\n"; exit 3 }; alarm 8;
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
signal.signal(signal.SIGALRM, lambda *_: fail("no answer in time: another client may be connected to it")); signal.alarm(8)
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

# our_crl FILE OUT REST: writes our CA's list to OUT and every other to REST. Fails if there is no list of our CA that can be read.
our_crl() {
    : >"$2"
    : >"$3"
    if [ -n "$CA_CERT" ] && [ -r "$CA_CERT" ]; then issuer=$CA_CERT; else issuer=$SERVER_CA; fi
    issuer=$(openssl x509 -in "$issuer" -noout -subject_hash 2>/dev/null)
    rm -f "$TMP"/list.*
    awk -v to="$TMP/list." '/^-----BEGIN X509 CRL-----/ { n++; on = 1 } on { print >(to n) } /^-----END X509 CRL-----/ { on = 0; close(to n) }' "$1" || return 1
    for one in "$TMP"/list.*; do
        [ -e "$one" ] || return 1
        hash=$(openssl crl -in "$one" -noout -hash 2>/dev/null) || return 1
        if [ "$hash" = "$issuer" ]; then cat "$one" >"$2"; else cat "$one" >>"$3"; fi
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
        said=$(openssl crl -in "$TMP/ours" -noout -verify -CAfile "$SERVER_CA" 2>&1)
        case $said in *'verify OK'*) ;; *) say crl-broken "its signature is not of the CA that the server trusts: $said" ;; esac
        openssl crl -in "$TMP/ours" -noout -nextupdate 2>/dev/null | sed 's/^nextUpdate=/I	crl-next	/'
    else
        say crl-broken 'no list of our CA can be read from it'
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
    [ -z "$PID" ] || say uid-server "$SERVER_UID"
    [ -r "$CONFIG" ] || say unreadable "$CONFIG"
    printf '%s' "$OTHERS" | while read -r other; do say other "$other"; done
    printf '%s\n' "$OPTIONS" | awk -F '\t' '$1 ~ /^(crl-verify|management|management-client|client-config-dir|ccd-exclusive|ca|capath|cert|pkcs12|status|log|log-append|auth-user-pass-verify|auth-user-pass-optional|auth-gen-token|plugin|verify-client-cert|client-cert-not-required|username-as-common-name|duplicate-cn|reneg-sec|chroot|x509-username-field|tls-verify|disable-occ)$/ { print "O\t" $0 }'
    if [ -n "$CA_INDEX" ]; then
        if [ -r "$CA_INDEX" ]; then
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
        talk 'status 3' version | awk '{ print "M" $0 }'
    fi
    certificates
    [ "$1" != all ] || last_seen
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
        elif [ "$CRL_KIND" = dir ] && [ "$1" != server ] && [ -e "$CRL/$(decimal_of "$1")" ]; then
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
