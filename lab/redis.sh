# shellcheck shell=bash
# Redis over TLS with users in an ACL file: a primary and a replica, each with users of its own. Sourced by lab/server and lab/person.

# cache_user NAME PASSWORD_FILE RULE… : the words that make an ACL user. The server is told the password's digest.
cache_user() { local sum; sum=$(sha256sum <"$2"); printf '%s on #%s' "$1" "${sum%% *}"; printf ' %s' "${@:3}"; echo; }

# redis_cli SERVER USER PASSWORD_FILE WORD… : the real client.
redis_cli() {
  REDISCLI_AUTH=$(<"$3") redis-cli --tls --cacert "$LAB/ca.pem" -h "$1.sunrise.test" --user "$2" --no-auth-warning -e "${@:4}"
}

# What people may do: everything with keys, channels and functions; nothing with the server.
CACHE_RIGHTS=('~*' '&*' +@all -@admin -@dangerous)

# A user each for the people with a role in the database, as they have it there; programs and offboard itself.
redis_users() {
  local user department
  echo 'default off nopass'
  cache_user offboard "$LAB/secrets/redis" -@all '+acl|list' '+acl|getuser' '+acl|setuser' '+acl|save' '+client|list' '+client|kill' '+client|id' +info +role '+config|get'
  cache_user offboard_limited "$LAB/secrets/redis-limited" -@all '+acl|list' '+acl|getuser' '+client|list' '+client|id' +info +role
  cache_user monitor "$LAB/secrets/redis-control" -@all +ping
  cache_user admin "$LAB/secrets/redis-admin" '~*' '&*' +@all
  cache_user replica "$LAB/secrets/redis-replica" -@all +psync +replconf +ping
  while IFS=$'\t' read -r _ user _ _ _ _ department; do
    [[ $department == Engineering ]] && cache_user "$user" "$LAB/people/$user/password" "${CACHE_RIGHTS[@]}"
  done <"$LAB/seed/people.tsv"
  return 0
}

prepare_redis() {
  local dir=$LAB/$1
  install -d -o redis -g redis -m 700 "$dir"
  install -o redis -g redis -m 600 "$LAB/pki/$1.key" "$dir/tls.key"; install -o redis -g redis "$LAB/pki/$1.pem" "$dir/tls.pem"
  redis_users | sed 's/^/user /' | install -o redis -g redis -m 600 /dev/stdin "$dir/users.acl"
  {
    cat <<END
bind ${ADDRESS[$1]}
protected-mode no
port 0
tls-port 6379
tls-cert-file $dir/tls.pem
tls-key-file $dir/tls.key
tls-ca-cert-file $LAB/ca.pem
tls-auth-clients no
tls-replication yes
aclfile $dir/users.acl
dir $dir
save ""
appendonly no
repl-diskless-sync-delay 0
replica-announce-ip ${ADDRESS[$1]}
masteruser replica
masterauth $(<"$LAB/secrets/redis-replica")
END
    [[ $1 == cache1 ]] || echo "replicaof ${ADDRESS[cache1]} 6379"
  } | install -o redis -g redis -m 600 /dev/stdin "$dir/redis.conf"
}

start_redis() {
  setsid setpriv --reuid=redis --regid=redis --init-groups --reset-env redis-server "$LAB/$1/redis.conf" >>"$LAB/log/$1" 2>&1 </dev/null &
  echo $! >"$LAB/pids/$1"
  until_true 20 redis_cli "$1" offboard "$LAB/secrets/redis" acl list || { tail -n 20 "$LAB/log/$1"; return 1; }
}

# redis_person USER : a user on every server, each saved.
redis_person() {
  local -a words; local server
  read -ra words < <(cache_user "$1" "$LAB/people/$1/password" "${CACHE_RIGHTS[@]}")
  for server in cache1 cache2; do
    redis_cli "$server" admin "$LAB/secrets/redis-admin" ACL SETUSER "${words[@]}" && redis_cli "$server" admin "$LAB/secrets/redis-admin" ACL SAVE || return
  done >/dev/null
}
