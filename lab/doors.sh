# shellcheck shell=bash
# The doors of the demo's two people, and how each is tried with its real client. Sourced by lab/demo.sh.
# shellcheck disable=SC2034  # demo.sh reads verdict, words, sessions, held_at

export BAO_ADDR=https://vault.sunrise.test:8200 BAO_CACERT=$LAB/ca.pem BAO_MAX_RETRIES=0
export LDAPTLS_CACERT=$LAB/ca.pem PGSSLROOTCERT=$LAB/ca.pem PGSSLMODE=verify-full PGCONNECT_TIMEOUT=5
# What he knows: the password of the patient portal.
portal_password=$(<"$LAB/secrets/portal")
SSH=(ssh -F none -o BatchMode=yes -o IdentitiesOnly=yes -o StrictHostKeyChecking=yes -o UserKnownHostsFile="$LAB/known_hosts" -o ConnectTimeout=5)

# doors_of USER : what and where, tab separated. The look-alike has every door that the leaver has declared.
doors_of() {
  local host
  printf 'ldapwhoami\tldaps://ldap1.sunrise.test:636\nldapwhoami\tldap://ldap2.sunrise.test:389\n'
  printf 'psql\t%s@pg.sunrise.test\npsql\t%s_dba@pg.sunrise.test\n' "$1" "$1"
  for host in "${HOSTS[@]}"; do printf 'ssh id_ed25519\t%s@%s.sunrise.test\n' "$1" "$host"; done
  for host in root@web2 deploy@web1 deploy@db1; do printf 'ssh id_ed25519\t%s.sunrise.test\n' "$host"; done
  printf 'mariadb\t%s@maria.sunrise.test\nredis-cli\t%s@cache1.sunrise.test\nredis-cli\t%s@cache2.sunrise.test\n' "$1" "$1" "$1"
  printf 'openvpn vpn\tvpn.sunrise.test\n'
  printf 'bao login\tvault.sunrise.test:8200\nbao secret-id\tvault.sunrise.test:8200\n'
  [[ $1 == rmehta ]] || return 0
  printf 'openvpn vpn_new\tvpn.sunrise.test\npsql portal\tportal_app@pg.sunrise.test\n'
  printf 'ssh id_ed25519\tagokhale@bastion.sunrise.test\n'
  for host in rmehta@bastion rmehta@db1 deploy@web2 deploy@backup; do printf 'ssh id_second\t%s.sunrise.test\n' "$host"; done
}

# try_door USER WHAT WHERE : sets verdict to open, refused (the server itself said no) or unclear, and words to the client's last line.
try_door() {
  local own=$LAB/people/$1 refusal
  case $2 in
    ldapwhoami)
      refusal='Invalid credentials (49)'
      local tls=(); [[ $3 == ldaps:* ]] || tls=(-ZZ)
      words=$(ldapwhoami -x "${tls[@]}" -H "$3" -D "uid=$1,ou=people,$BASE" -y "$own/password" -e ppolicy 2>&1) ;;
    psql\ portal)
      refusal='FATAL:  password authentication failed'
      words=$(PGPASSWORD=$portal_password psql -X -h "${3#*@}" -U "${3%@*}" -d hospital -Atc "select 'logged in as ' || current_user" 2>&1) ;;
    bao\ login)
      refusal='Code: 40'
      words=$(HOME=$LAB/tmp "$BAO" write -field=token_policies "auth/userpass/login/$1" password=- <"$own/password" 2>&1) ;;
    bao\ secret-id)
      refusal='invalid role or secret ID'
      words=$(HOME=$LAB/tmp "$BAO" write -field=token_policies auth/approle/login role_id=ci secret_id=- <"$own/vault-secret-id" 2>&1) ;;
    openvpn*)
      refusal='certificate revoked'
      words=$(try_vpn "$1" "$own/${2#openvpn }.ovpn") ;;
    mariadb)
      refusal='ERROR 1045 (28000): Access denied'
      words=$(mysql_as maria "$1" "$own/password" <<<"select concat('logged in as ', current_user())" 2>&1) ;;
    redis-cli)
      refusal='WRONGPASS'
      local server=${3#*@}; words=$(redis_cli "${server%%.*}" "$1" "$own/password" acl whoami 2>&1) || { words=${words%%$'\n'*}; false; } ;;
    psql)
      refusal='FATAL: '
      words=$(PGPASSWORD=$(<"$own/password") psql -X -h "${3#*@}" -U "${3%@*}" -d hospital -Atc "select 'logged in as ' || current_user" 2>&1) ;;
    ssh*)
      refusal='Permission denied (publickey)'
      words=$("${SSH[@]}" -n -i "$own/${2#ssh }" "$3" 'echo "logged in as $(id -un)"' 2>&1) ;;
  esac && { verdict=open words=${words##*$'\n'}; return; }
  if [[ $words == *"$refusal"* ]]; then verdict=refused; else verdict=unclear; fi
  words=${words##*$'\n'} words=${words##*FATAL:  }
}

# try_vpn USER PROFILE : over UDP a client is not told why it is refused: the reason stands in the server's log.
try_vpn() {
  local log=/etc/openvpn/main/server.log seen said
  seen=$(on vpn stat -c %s "$log")
  said=$(PROFILE=$2 VPN_WAIT=4 "$LAB_SRC/vpn-client" "$1" ping -n -c 1 -W 5 10.66.0.1 2>&1) && { echo 'the gateway answers a ping'; return; }
  echo "$said"
  on vpn tail -c "+$((seen + 1))" "$log" | sed -n "s/.*VERIFY ERROR: \(depth=0, .*CN=$1,.*\)/\1/p" | tail -n 1
  return 1
}

# hold USER : sessions that stay: a tunnel with pings through it, SQL, a subscriber of Redis, a shell of one's own, a shell in deploy by a key that stands there.
held_at=('VPN tunnel' 'psql session' 'mariadb session' 'redis-cli subscribed' 'ssh session on web1' 'ssh session in deploy@web1' 'ssh session in root@web2')
hold() {
  local own=$LAB/people/$1
  sessions=()
  "$LAB_SRC/vpn-client" "$1" >"$LAB/log/tunnel-$1" 2>&1 & sessions+=($!)
  PGPASSWORD=$(<"$own/password") psql -X -h pg.sunrise.test -U "$1" -d hospital -c 'select pg_sleep(1000)' </dev/null >/dev/null 2>&1 & sessions+=($!)
  mysql_as maria "$1" "$own/password" <<<'select sleep(1000)' >/dev/null 2>&1 & sessions+=($!)
  redis_cli cache1 "$1" "$own/password" subscribe wards >/dev/null 2>&1 & sessions+=($!)
  local where; for where in "$1@web1" deploy@web1 root@web2; do
    "${SSH[@]}" -n -i "$own/id_ed25519" "$where.sunrise.test" 'sleep 1000' >/dev/null 2>&1 & sessions+=($!)
  done
}
