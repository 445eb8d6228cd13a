# shellcheck shell=bash
# PostgreSQL with TLS; over TCP a password by SCRAM is the only way in. Sourced by lab/server.

as_postgres() { setpriv --reuid=postgres --regid=postgres --init-groups --reset-env "$@"; }

# sql [DATABASE [OPTION…]] : statements on standard input, as the database's own administrator over the local socket.
sql() { as_postgres "$PG_BIN/psql" -qX -v ON_ERROR_STOP=1 -h "$LAB/pg" -U postgres -d "${1:-postgres}" "${@:2}"; }

prepare_postgres() {
  local dir=$LAB/pg
  install -d -o postgres -g postgres -m 700 "$dir" "$dir/data"
  as_postgres "$PG_BIN/initdb" -D "$dir/data" -U postgres --auth-local=peer --auth-host=scram-sha-256 --no-sync --locale=C.UTF-8 -E UTF8 || return
  install -o postgres -g postgres -m 600 "$LAB/pki/pg.key" "$dir/tls.key"; install -o postgres -g postgres "$LAB/pki/pg.pem" "$dir/tls.pem"
  cat >>"$dir/data/postgresql.conf" <<END
listen_addresses = '${ADDRESS[pg]}'
unix_socket_directories = '$dir'
ssl = on
ssl_cert_file = '$dir/tls.pem'
ssl_key_file = '$dir/tls.key'
password_encryption = scram-sha-256
log_connections = on
fsync = off
full_page_writes = off
max_connections = 200
END
  printf 'local all postgres peer map=root\nhostssl all all all scram-sha-256\n' >"$dir/data/pg_hba.conf"
  printf 'root postgres postgres\n' >"$dir/data/pg_ident.conf"
}

start_postgres() {
  setsid setpriv --reuid=postgres --regid=postgres --init-groups "$PG_BIN/postgres" -D "$LAB/pg/data" >>"$LAB/log/pg" 2>&1 </dev/null &
  echo $! >"$LAB/pids/pg"
  until_true 60 postgres_local || { tail -n 20 "$LAB/log/pg"; return 1; }
  if [[ ! -e $LAB/pg/seeded ]]; then postgres_seed && touch "$LAB/pg/seeded" || return; fi
  until_true 60 postgres_answers
}

postgres_local() { sql <<<'select 1'; }

postgres_answers() {
  PGPASSWORD=$(<"$LAB/secrets/postgres") PGSSLROOTCERT=$LAB/ca.pem \
    psql -X "host=pg.sunrise.test dbname=postgres user=offboard sslmode=verify-full" -c 'select 1'
}

# The people with a role: engineers get the clinic's tables to read, billing writes bills, the look-alike has what the leaver has.
postgres_roles() {
  local name user file rights department
  cat <<'END'
create role billing_rw nologin; create role clinic_ro nologin;
END
  for name in offboard:postgres:superuser offboard_limited:postgres-limited:nosuperuser monitor:postgres-control:nosuperuser; do
    IFS=: read -r user file rights <<<"$name"
    printf "create role %s login %s password '%s';\n" "$user" "$rights" "$(<"$LAB/secrets/$file")"
  done
  while IFS=$'\t' read -r _ user _ _ _ _ department; do
    case $department in Engineering) name=clinic_ro ;; Billing) name=billing_rw ;; *) continue ;; esac
    printf "create role %s login password '%s' in role %s;\n" "$user" "$(<"$LAB/people/$user/password")" "$name"
  done <"$LAB/seed/people.tsv"
  printf "create role %s login createrole password '%s' in role clinic_ro;\n" rmehta_dba "$(<"$LAB/people/rmehta/password")" \
    rmehtaa_dba "$(<"$LAB/people/rmehtaa/password")"
  echo 'grant billing_rw to rmehta, rmehtaa;'
}

postgres_seed() {
  { postgres_roles; echo 'create database hospital;'; } | sql && sql hospital <"$LAB_SRC/seed/hospital.sql"
}
