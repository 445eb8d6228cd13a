# shellcheck shell=bash
# What every script of the lab agrees on: names, addresses, paths. Sourced, never run.
# shellcheck disable=SC2034  # the scripts that source this file use the variables

LAB=/run/offboard-lab
LAB_SRC=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
BASE=dc=sunrise,dc=test
BRIDGE=sunrise0
HOSTS=(web1 web2 db1 bastion backup)
# A host that only the operator logs in to; people reach it by VPN.
GATEWAY=vpn
SERVERS=(ldap1 ldap2 pg mail vault maria cache1 cache2 "${HOSTS[@]}" "$GATEWAY")
declare -A ADDRESS=(
  [ldap1]=127.66.0.2 [ldap2]=127.66.0.3 [pg]=127.66.0.4 [mail]=127.66.0.5 [vault]=127.66.0.6 [maria]=127.66.0.7
  [cache1]=127.66.0.8 [cache2]=127.66.0.9
  [web1]=127.66.0.11 [web2]=127.66.0.12 [db1]=127.66.0.13 [bastion]=127.66.0.14 [backup]=127.66.0.15
  [vpn]=127.66.0.16
)
BAO=$("$LAB_SRC/bao" --check 2>/dev/null)
PG_BIN=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -n 1)

die() { printf 'lab: %s\n' "$*" >&2; exit 1; }

is_host() { local h; for h in "${HOSTS[@]}" "$GATEWAY"; do [[ $h == "$1" ]] && return; done; return 1; }

in_lab() { [[ -e $LAB/ready || -e $LAB/starting ]] || die "this works only inside the lab: lab/enter ${0##*/} …"; }

# The process that is PID 1 of a host, as the lab numbers it.
host_pid() { local pid; read -r pid <"$LAB/hosts/$1/pid" && printf '%s' "$pid"; }

# on HOST CMD… : run as root in every namespace of the host.
on() {
  local host=$1; shift
  nsenter --target "$(host_pid "$host")" --all -- \
    env -i HOME=/root USER=root LOGNAME=root SHELL=/bin/bash TERM="${TERM:-dumb}" LANG=C.UTF-8 \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
}

# until_true SECONDS CMD… : try again until CMD succeeds.
until_true() {
  local end=$((SECONDS + $1)); shift
  until "$@" >/dev/null 2>&1; do ((SECONDS < end)) || return 1; sleep 0.05; done
}
