#!/bin/bash
# A WireGuard gateway, on the host vpn: wireguard VERB INTERFACE …. Userspace: wg-quick starts wireguard-go. FOLDER says where the configuration
# files are, if not in /etc/wireguard.
#   make INTERFACE NUMBER [LINE…]  the file: port 51820 + NUMBER, network 10.(100 + NUMBER).0.0/16, with more lines in [Interface]
#   up|down INTERFACE              by wg-quick
#   add INTERFACE [COMMENT]        a key pair: a peer in the file and, if the interface is up, in the runtime; prints the client's configuration
#   delete INTERFACE KEY           as an administrator would do it
set -eu
umask 077
verb=$1 interface=$2 folder=${FOLDER:-/etc/wireguard}; shift 2
file=$folder/$interface.conf here=127.66.0.16

is_up() { wg show "$interface" >/dev/null 2>&1; }
port() { awk '$1 == "ListenPort" { print $3 }' "$file"; }
# The same folder that whoever removes peers locks.
lock() { exec 9<"$folder"; flock 9; }

case $verb in
  make)
    number=$1; shift
    mkdir -p "$folder"
    {
      printf '[Interface]\nPrivateKey = %s\nListenPort = %s\nAddress = 10.%s.0.1/16\n' "$(wg genkey)" $((51820 + number)) $((100 + number))
      (($# == 0)) || printf '%s\n' "$@"
    } >"$file"
    ;;
  up) wg-quick up "$file" ;;
  down) wg-quick down "$file" ;;
  add)
    lock
    private=$(wg genkey) key=$(wg pubkey <<<"$private")
    last=$(cat "$file.last" 2>/dev/null || echo 1)
    echo $((last + 1)) >"$file.last"
    address=10.$(($(port) - 51820 + 100)).$(((last + 1) / 250 + 1)).$(((last + 1) % 250 + 1))
    {
      echo
      [[ -z ${1-} ]] || printf '# %s\n' "$1"
      printf '[Peer]\nPublicKey = %s\nAllowedIPs = %s/32\n' "$key" "$address"
    } >>"$file"
    ! is_up || wg set "$interface" peer "$key" allowed-ips "$address/32"
    # The address of the client's interface is not for wg itself, and stands in a comment.
    cat <<END
[Interface]
PrivateKey = $private
# Address = $address
# PublicKey = $key
[Peer]
PublicKey = $(awk '$1 == "PrivateKey" { print $3 }' "$file" | wg pubkey)
Endpoint = $here:$(port)
AllowedIPs = 10.$(($(port) - 51820 + 100)).0.0/16
END
    ;;
  delete)
    lock
    ! is_up || wg set "$interface" peer "$1" remove
    new=$(mktemp "$folder/.XXXXXX")
    awk -v key="$1" '
      function flush() { if (!drop) printf "%s", block; block = ""; drop = 0 }
      /^$/ { flush() }
      { block = block $0 "\n" }
      $1 == "PublicKey" && $3 == key "" { drop = 1 }
      END { flush() }' "$file" >"$new"
    mv -f "$new" "$file"
    ;;
  *) echo "wireguard: no such verb: $verb" >&2; exit 2 ;;
esac
