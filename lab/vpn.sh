# shellcheck shell=bash
# The VPN: OpenVPN on the host vpn, with a CA of its own there (lab/seed/gateway.sh). Sourced by lab/server and lab/person.

gateway() { on vpn /etc/openvpn/gateway "$@"; }

# vpn_files : what the gateway has before it starts.
vpn_files() {
  local upper=$LAB/hosts/vpn/upper
  install -D -m 755 "$LAB_SRC/seed/gateway.sh" "$upper/etc/openvpn/gateway"
  # Nobody but the operator logs in here.
  echo 'AllowUsers offboard' >>"$LAB/hosts/vpn/own/etc/ssh/sshd_config"
}

start_vpn() {
  if ! on vpn test -e /etc/openvpn/main; then
    gateway make main 1194 && vpn_people || return
  fi
  gateway start main
}

# vpn_people : everybody with a key has a profile; the leaver of the demo has an old and a second certificate, too.
vpn_people() {
  local user users=()
  while IFS=$'\t' read -r _ user _; do [[ ! -e $LAB/people/$user/id_ed25519.pub ]] || users+=("$user"); done <"$LAB/seed/people.tsv"
  gateway profiles main "${users[@]}" | vpn_split &&
    gateway issue main rmehta 90 >"$LAB/people/rmehta/vpn_new.ovpn" && gateway issue main rmehta over >"$LAB/people/rmehta/vpn_old.ovpn"
}

# Profiles on standard input, each after a line `# for USER`.
vpn_split() { (cd "$LAB/people" && umask 077 && awk '/^# for / { file = $3 "/vpn.ovpn" } { print >file }'); }

# vpn_profile USER : one more certificate and profile.
vpn_profile() { (umask 077; gateway issue main "$1" >"$LAB/people/$1/vpn.ovpn"); }
