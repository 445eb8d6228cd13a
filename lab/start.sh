# shellcheck shell=bash
# Builds the company, in parallel, and waits until each server really answers. Sourced by lab/inside.

. "$LAB_SRC/seed.sh"; . "$LAB_SRC/accounts.sh"

say() { printf '  %-9s %s\n' "$1" "$2" >&2; }
elapsed() { local now=${EPOCHREALTIME/./}; printf '%d.%d s' $(((now - BEGUN) / 1000000)) $(((now - BEGUN) / 100000 % 10)); }

private_mounts() {
  mount --make-rprivate / && mount -t proc proc /proc &&
    mount -t tmpfs -o mode=755,size=75% lab /run || return
  mkdir -p "$LAB"/{tmp,log,seed,secrets,people,pki,hosts,pids} /run/lock
  chmod 1777 "$LAB/tmp" /run/lock; chmod 700 "$LAB"/{secrets,pki,people}
  touch "$LAB/starting"
  {
    echo "127.0.0.1 localhost"; echo "::1 localhost ip6-localhost"; echo "127.66.0.1 lab.sunrise.test $(hostname)"
    local s; for s in "${SERVERS[@]}"; do echo "${ADDRESS[$s]} $s.sunrise.test $s"; done
  } >"$LAB/seed/hosts"
  mount --bind "$LAB/seed/hosts" /etc/hosts
}

# The bridge has an address of its own: without one it takes the lowest of its members, and whenever a VPN client comes or goes nobody
# would find it for half a minute.
# Addresses stay inside 127/8: the bridge carries them because route_localnet is on at both ends.
network() {
  ip link set lo up && ip link add "$BRIDGE" address 02:66:00:00:00:01 type bridge && ip link set "$BRIDGE" up &&
    ip address add 127.66.0.1/32 dev "$BRIDGE" || return
  echo 1 >/proc/sys/net/ipv4/conf/all/route_localnet
  local h; for h in "${HOSTS[@]}" "$GATEWAY"; do
    ip route add "${ADDRESS[$h]}/32" dev "$BRIDGE" src 127.66.0.1 table local || return
  done
}

# up NAME PID : one line for each server, or its last words.
up() {
  if wait "$2"; then say "$1" "$(<"$LAB/pids/$1.took")"; return; fi
  say "$1" "did not start:"; tail -n 20 "$LAB/log/$1.start" >&2; return 1
}

start_one() {
  if "$LAB_SRC/server" prepare "$1" && "$LAB_SRC/server" start "$1"; then elapsed >"$LAB/pids/$1.took"; else return 1; fi
} >"$LAB/log/$1.start" 2>&1

start_lab() {
  local BEGUN=${EPOCHREALTIME/./} name failed=0
  local -A job
  private_mounts && network || die "no namespaces, bridge or mounts to be had here: is this root, with CAP_SYS_ADMIN and CAP_NET_ADMIN?"
  echo "Starting Sunrise Hospital IT" >&2
  seed_company || die "could not make keys and people"
  for name in "${SERVERS[@]}"; do start_one "$name" & job[$name]=$!; done
  for name in "${SERVERS[@]}"; do up "$name" "${job[$name]}" || failed=1; done
  ((failed == 0)) || return 1
  "$LAB_SRC/portal" web1 portal 8080 || return 1
  mv "$LAB/starting" "$LAB/ready"
  say ready "$(elapsed)"
}
