#!/bin/bash
# A VPN gateway, on the host vpn: gateway VERB SERVER …. Each SERVER has a CA, a configuration and a port of its own; `main` is the company's.
#   make SERVER PORT [LINE…]   a CA in the folders that easy-rsa makes, and a configuration with more lines in it
#   start|stop SERVER
#   issue SERVER NAME [DAYS]   a certificate, one that is over where DAYS is `over`; prints the client's profile
#   profiles SERVER NAME…      the same for many, each after a line `# for NAME`
#   crl SERVER                 signs the list of revoked certificates anew and puts it where the server reads it
#   revoke SERVER NAME         as an administrator would do it
set -eu
umask 022
verb=$1 server=$2 base=/etc/openvpn/$2; shift 2
pki=$base/pki here=127.66.0.16

# The same folder that whoever revokes locks.
locked() { exec 9<"$pki"; flock 9; }

ca() { openssl ca -batch -config "$pki/openssl.cnf" "$@" 2>"$pki/said" || { cat "$pki/said" >&2; return 1; }; }

# certificate NAME USAGE DAYS : key and certificate, in the CA's database. A name may have several.
certificate() {
  local key=$pki/private/$1.key serial subject
  serial=$(<"$pki/serial")
  if [[ $3 == over ]]; then
    openssl req -utf8 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/O=Sunrise Hospital IT/CN=$1" -config "$pki/openssl.cnf" -keyout "$key" -out "$pki/request" 2>/dev/null
    ca -notext -in "$pki/request" -out "$pki/issued/$1.crt" -extensions client -startdate 20250101000000Z -enddate 20260101000000Z
    return
  fi
  openssl req -x509 -utf8 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days "$3" -subj "/O=Sunrise Hospital IT/CN=$1" -config "$pki/openssl.cnf" \
    -extensions "$2" -CA "$pki/ca.crt" -CAkey "$pki/private/ca.key" -set_serial "0x$serial" -keyout "$key" -out "$pki/issued/$1.crt" 2>/dev/null
  cp "$pki/issued/$1.crt" "$pki/certs_by_serial/$serial.pem"
  # As openssl writes it there: other bytes than ASCII as \xC3.
  subject=$(openssl x509 -in "$pki/issued/$1.crt" -noout -subject -nameopt compat)
  printf 'V\t%s\t\t%s\tunknown\t%s\n' "$(date -u -d "$3 days" +%y%m%d%H%M%SZ)" "$serial" "${subject#subject=}" >>"$pki/index.txt"
  printf '%04X\n' $((0x$serial + 1)) >"$pki/serial"
}

publish() { ca -gencrl -out "$pki/crl.pem" && install -m 644 "$pki/crl.pem" "$base/crl.pem"; }

profile() {
  cat <<END
client
dev tun
proto udp
remote $here $(awk '$1 == "port" { print $2 }' "$base/server.conf")
nobind
remote-cert-tls server
verb 3
<ca>
$(<"$pki/ca.crt")
</ca>
<cert>
$(<"$pki/issued/$1.crt")
</cert>
<key>
$(<"$pki/private/$1.key")
</key>
<tls-crypt>
$(<"$base/tls-crypt.key")
</tls-crypt>
END
}

case $verb in
  make)
    port=$1; shift
    mkdir -p "$base" "$base/ccd" && install -d -m 700 "$pki" "$pki/private" && mkdir -p "$pki"/{issued,certs_by_serial}
    : >"$pki/index.txt"; echo 1000 >"$pki/serial"; echo 01 >"$pki/crlnumber"
    cat >"$pki/openssl.cnf" <<END
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[client]
basicConstraints = CA:false
keyUsage = digitalSignature
extendedKeyUsage = clientAuth
[server]
basicConstraints = CA:false
keyUsage = digitalSignature
extendedKeyUsage = serverAuth
[ca]
default_ca = this
[this]
database = $pki/index.txt
crlnumber = $pki/crlnumber
certificate = $pki/ca.crt
private_key = $pki/private/ca.key
default_md = sha256
default_crl_days = 180
serial = $pki/serial
new_certs_dir = $pki/certs_by_serial
policy = any
unique_subject = no
[any]
organizationName = optional
commonName = supplied
END
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj "/O=Sunrise Hospital IT/CN=Sunrise VPN CA $server" \
      -config "$pki/openssl.cnf" -extensions authority -keyout "$pki/private/ca.key" -out "$pki/ca.crt" 2>/dev/null
    certificate gateway server 30
    publish
    openvpn --genkey tls-crypt "$base/tls-crypt.key"
    number=$((port - 1194))
    {
      cat <<END
cd $base
proto udp
local $here
port $port
dev tun$number
topology subnet
server 10.$((66 + number)).0.0 255.255.0.0
ca pki/ca.crt
cert pki/issued/gateway.crt
key pki/private/gateway.key
dh none
tls-crypt tls-crypt.key
crl-verify crl.pem
client-config-dir ccd
remote-cert-tls client
keepalive 5 30
user nobody
group nogroup
persist-key
persist-tun
log-append server.log
status status.log 10
verb 3
END
      printf '%s\n' "$@"
    } >"$base/server.conf"
    grep -q '^management ' "$base/server.conf" || echo "management $base/management.sock unix" >>"$base/server.conf"
    # A test may ask for a server without one of these lines.
    sed -n "s/^without //p" "$base/server.conf" | while read -r word; do sed -i "/^$word /d; /^without $word\$/d" "$base/server.conf"; done
    ;;
  start)
    : >"$base/server.log"
    openvpn --config "$base/server.conf" --writepid "$base/pid" --daemon
    for _ in {1..200}; do grep -q 'Initialization Sequence Completed' "$base/server.log" && exit; sleep 0.05; done
    tail -n 5 "$base/server.log" >&2; exit 1
    ;;
  stop)
    read -r pid <"$base/pid"; kill -KILL "$pid" 2>/dev/null || true
    while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
    ;;
  issue) locked; certificate "$1" client "${2-30}"; profile "$1" ;;
  profiles) locked; for name in "$@"; do echo "# for $name"; certificate "$name" client 30; profile "$name"; done ;;
  crl) locked; publish ;;
  revoke)
    locked
    awk -F'\t' -v name="$1" '$1 == "V" && $6 ~ "/CN=" name "$" { print $4 }' "$pki/index.txt" | while read -r serial; do
      ca -revoke "$pki/certs_by_serial/$serial.pem"
    done
    publish
    ;;
  *) echo "gateway: no such verb: $verb" >&2; exit 2 ;;
esac
