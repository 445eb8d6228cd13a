# shellcheck shell=bash
# One SSH host: its own network, mounts, processes and name over an overlay of the machine's root. Sourced by lab/server.

prepare_host() {
  local name=$1 dir=$LAB/hosts/$1
  . "$LAB_SRC/accounts.sh"
  mkdir -p "$dir"/{work,root} && host_files "$name" || return
  [[ $name != "$GATEWAY" ]] || { vpn_files && wireguard_files; } || return
  ip link add "v-$name" type veth peer name "p-$name" && ip link set "v-$name" master "$BRIDGE" up || return
  setsid unshare --net --mount --pid --ipc --uts --fork --kill-child "$LAB_SRC/host-init" "$name" >>"$LAB/log/$name" 2>&1 </dev/null &
  # host-init sees itself as number 1; for us it is unshare's only child.
  local unshare=$! pid
  until_true 60 pgrep -P "$unshare" && pid=$(pgrep -P "$unshare") && echo "$pid" >"$dir/pid" || return
  ip link set "p-$name" netns "$pid" || return
  until_true 60 test -e "$dir/own/run/up" || { tail "$LAB/log/$name"; return 1; }
  [[ $name != db1 ]] || plant_at_job "$name"
}

start_host() {
  on "$1" /bin/bash -c '
    mkdir -p /run/sshd && rm -f /run/crond.pid /run/atd.pid
    setsid perl /etc/lab-syslog >/dev/null 2>&1 </dev/null & until [ -S /dev/log ]; do sleep 0.02; done
    /usr/sbin/sshd && cron && atd
    for file in /etc/sunrise/*.env; do [ ! -e "$file" ] || { name=${file##*/}; /etc/sunrise/portal-start "${name%.env}"; }; done' && until_true 60 host_answers "$1"
}

host_answers() {
  local user=offboard; [[ $1 == backup ]] && user=root
  ssh -F none -i "$LAB/secrets/fleet_ed25519" -o BatchMode=yes -o IdentitiesOnly=yes -o UserKnownHostsFile="$LAB/known_hosts" "$user@$1.sunrise.test" true
}
