# shellcheck shell=bash
# A VPN's client in a network of its own, which has only a leg on the company's bridge. Sourced by lab/vpn-client and lab/wg-client.

# own_network SCRIPT ARGUMENTS… : runs SCRIPT anew, as `SCRIPT --inside NUMBER ARGUMENTS…`, in a new network.
own_network() {
  local last lock
  exec {lock}>>"$LAB/seed/vpn-lock"; flock "$lock"
  last=$(cat "$LAB/seed/vpn-last" 2>/dev/null || echo 0); echo $((last + 1)) >"$LAB/seed/vpn-last"
  exec {lock}>&-
  # The kernel takes network and processes away when unshare ends, however it ends.
  exec unshare --net --pid --fork --kill-child "$1" --inside $((last + 1)) "${@:2}"
}

# on_the_bridge NUMBER : the leg. /proc is still the lab's, and its number 1 lives in the network with the bridge.
on_the_bridge() {
  local address=127.66.$(($1 / 250 + 1)).$(($1 % 250 + 1))
  outside() { nsenter --net=/proc/1/ns/net ip link "$@"; }
  outside add "b$1" type veth peer name "c$1" netns 1 && outside set "b$1" master "$BRIDGE" up &&
    ip link set lo up && ip link set "c$1" up || return
  echo 1 >/proc/sys/net/ipv4/conf/all/route_localnet
  ip address add "$address/32" dev "c$1" && ip route add 127.66.0.0/24 dev "c$1" src "$address" table local
}
