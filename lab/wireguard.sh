# shellcheck shell=bash
# WireGuard on the host vpn: wg0, in userspace (lab/seed/wireguard.sh). Sourced by lab/server and lab/person.

wireguard() { on vpn /etc/sunrise/wireguard "$@"; }

wireguard_files() { install -D -m 755 "$LAB_SRC/seed/wireguard.sh" "$LAB/hosts/vpn/upper/etc/sunrise/wireguard"; }

# start_wireguard : wg0 is up, and the control's tunnel with it.
start_wireguard() {
  if ! on vpn test -e /etc/wireguard/wg0.conf; then
    wireguard make wg0 0 && wireguard_people || return
  fi
  wireguard up wg0 2>>"$LAB/log/wireguard" && wireguard_control
}

# The leaver of the demo has two devices, the look-alike one; nobody else's key is the control's. As an administrator would note it.
wireguard_people() {
  wireguard_profile rmehta wg 'rmehta (laptop)' && wireguard_profile rmehta wg_phone 'Rohan Mehta <rmehta@sunrise.test>, phone' &&
    wireguard_profile rmehtaa wg rmehtaa && wireguard_profile monitor wg 'the monitoring' &&
    sed -n 's/^# PublicKey = //p' "$LAB/people/monitor/wg.conf" >"$LAB/seed/wireguard-control" &&
    sed -i "s|@WIREGUARD_CONTROL@|$(<"$LAB/seed/wireguard-control")|" "$LAB/offboard.yaml"
}

# wireguard_profile USER FILE COMMENT : one more device.
wireguard_profile() { (umask 077; mkdir -p "$LAB/people/$1" && wireguard add wg0 "$3" >"$LAB/people/$1/$2.conf"); }

# A client that is always there. It starts anew with the gateway: by itself it would notice only after 15 seconds.
wireguard_control() {
  local pid
  { read -r pid <"$LAB/pids/wireguard-control" && kill "$pid"; } 2>/dev/null
  setsid "$LAB_SRC/wg-client" "$LAB/people/monitor/wg.conf" >/dev/null 2>>"$LAB/log/wireguard" </dev/null &
  echo $! >"$LAB/pids/wireguard-control"
  until_true 60 eval 'on vpn wg show wg0 latest-handshakes | awk -v key="$(<"$LAB/seed/wireguard-control")" '\''$1 == key && $2 > 0 { found = 1 } END { exit !found }'\'
}
