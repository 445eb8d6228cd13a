# shellcheck shell=bash
# MariaDB over TLS; over TCP a password is the only way in. Sourced by lab/server and lab/person.

as_mysql() { setpriv --reuid=mysql --regid=mysql --init-groups --reset-env "$@"; }

# mysql_root : statements on standard input, as the database's own administrator over the local socket.
mysql_root() { mariadb --no-defaults -S "$LAB/maria/socket" -u root; }
mysql_local() { mysql_root <<<"select 1"; }

# With --skip-name-resolve addresses stay addresses: else 127.66.0.1 becomes a name. A server that starts removes every #sql-* of its
# tmpdir, also those of another lab's server, so each has a folder of its own.
prepare_mysql() {
  local dir=$LAB/$1
  install -d -o mysql -g mysql -m 711 "$dir"; install -d -o mysql -g mysql -m 700 "$dir/data" "$dir/tmp"
  as_mysql env TMPDIR="$dir/tmp" mariadb-install-db --no-defaults --datadir="$dir/data" --auth-root-authentication-method=socket --auth-root-socket-user=root \
    --skip-test-db >/dev/null || return
  install -o mysql -g mysql -m 600 "$LAB/pki/$1.key" "$dir/tls.key"; install -o mysql -g mysql "$LAB/pki/$1.pem" "$dir/tls.pem"
  cat >"$dir/my.cnf" <<END
[mariadbd]
datadir=$dir/data
tmpdir=$dir/tmp
socket=$dir/socket
pid-file=$dir/pid
bind-address=${ADDRESS[$1]}
port=3306
skip-name-resolve
ssl-cert=$dir/tls.pem
ssl-key=$dir/tls.key
ssl-ca=$LAB/ca.pem
require-secure-transport=ON
event-scheduler=ON
general-log
general-log-file=$dir/data/general.log
log-bin=$dir/data/bin
innodb-flush-log-at-trx-commit=0
innodb-buffer-pool-size=32M
performance-schema=OFF
END
}

start_mysql() {
  setsid setpriv --reuid=mysql --regid=mysql --init-groups --reset-env /usr/sbin/mariadbd --defaults-file="$LAB/$1/my.cnf" >>"$LAB/log/$1" 2>&1 </dev/null &
  echo $! >"$LAB/pids/$1"
  until_true 60 mysql_local || { tail -n 20 "$LAB/log/$1"; return 1; }
  if [[ ! -e $LAB/$1/seeded ]]; then mysql_seed | mysql_root && touch "$LAB/$1/seeded" || return; fi
  until_true 60 mysql_answers "$1"
}

# mysql_as SERVER USER PASSWORD_FILE : the real client; statements on standard input.
mysql_as() {
  MYSQL_PWD=$(<"$3") mariadb --no-defaults -NBn --skip-reconnect --ssl-ca="$LAB/ca.pem" --ssl-verify-server-cert -h "$1.sunrise.test" -u "$2"
}
mysql_answers() { mysql_as "$1" offboard "$LAB/secrets/mysql" <<<'select 1'; }

# mysql_user USER PASSWORD_FILE HOST… : a row for each host, all with the same password.
mysql_user() {
  local host
  for host in "${@:3}"; do printf "create user \`%s\`@\`%s\` identified by '%s';\n" "$1" "$host" "$(<"$2")"; done
}

# mysql_rows USER PASSWORD_FILE : a person has a row for everywhere, one for loopback and one for the server itself.
mysql_rows() {
  local host
  mysql_user "$1" "$2" % 127.% localhost
  for host in % 127.% localhost; do printf 'grant clinic_ro to `%s`@`%s`; grant event on clinic.* to `%s`@`%s`;\n' "$1" "$host" "$1" "$host"; done
}

# Engineers have users; `reports` is a program's, with a password that people share.
mysql_seed() {
  local user department
  mysql_user offboard "$LAB/secrets/mysql" %
  mysql_user offboard_limited "$LAB/secrets/mysql-limited" %
  mysql_user monitor "$LAB/secrets/mysql-control" %
  mysql_user reports "$LAB/secrets/reports" % 127.%
  cat <<'END'
grant create user, process, connection admin, event, set user, show view, trigger on *.* to offboard;
grant select on mysql.* to offboard;
grant process on *.* to offboard_limited; grant select on mysql.* to offboard_limited;
create database clinic;
create table clinic.visits (id int auto_increment primary key, noted timestamp not null default now());
create role clinic_ro; grant clinic_ro to offboard with admin option; grant select on clinic.* to clinic_ro;
grant select, insert on clinic.* to reports;
END
  while IFS=$'\t' read -r _ user _ _ _ _ department; do
    [[ $department == Engineering ]] && mysql_rows "$user" "$LAB/people/$user/password"
  done <"$LAB/seed/people.tsv"
  return 0
}

mysql_person() { mysql_rows "$1" "$LAB/people/$1/password" | mysql_root; }
