#!/bin/bash
# benches/rotate.sh setup|floor COUNT : run by benches/rotate.rs inside the lab. setup makes COUNT service accounts bench_I in the directory, whose
# passwords stand in /etc/bench/I.env on each of the five hosts. floor gives each a new one, with nothing of what makes it safe: COUNT modifications by one
# ldapmodify, and one login a host that rewrites COUNT files.
set -eu
what=$1 count=$2
. "$(dirname "${BASH_SOURCE[0]}")/../lab/lib.sh"
. "$LAB_SRC/seed.sh"; . "$LAB_SRC/ldap.sh"
in_lab
fresh() { head -c 24 /dev/urandom | base64 | tr -d '+/='; }

# entries PASSWORD : number and verifier of each, tab separated.
entries() { seq "$count" | paste - <(seq "$count" | sed "s|^|$1-|" | ssha); }

case $what in
  setup)
    old=$(fresh)
    entries "$old" | while IFS=$'\t' read -r i verifier; do
      printf 'dn: cn=bench_%d,ou=services,%s\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\ncn: bench_%d\nuserPassword: {SSHA}%s\n\n' \
        "$i" "$BASE" "$i" "$verifier"
    done | ldap_admin ldap1 ldapadd >/dev/null
    for host in "${HOSTS[@]}"; do
      on "$host" bash -c 'mkdir -p /etc/bench && cd /etc/bench && umask 077 && for ((i = 1; i <= $2; i++)); do
        printf "# A program that logs in.\nHOST=ldap1.sunrise.test\nUSER=bench_%d\nPASSWORD=%s-%d\n" "$i" "$1" "$i" >"$i.env"; done' _ "$old" "$count"
    done
    ;;
  floor)
    new=$(fresh)
    entries "$new" | while IFS=$'\t' read -r i verifier; do
      printf 'dn: cn=bench_%d,ou=services,%s\nchangetype: modify\nreplace: userPassword\nuserPassword: {SSHA}%s\n\n' "$i" "$BASE" "$verifier"
    done | ldap_admin ldap1 ldapmodify >/dev/null & jobs=($!)
    for host in "${HOSTS[@]}"; do
      user=offboard become='sudo -n'; [[ $host != backup ]] || user=root become=
      ssh -F none -i "$LAB/secrets/fleet_ed25519" -o BatchMode=yes -o IdentitiesOnly=yes -o UserKnownHostsFile="$LAB/known_hosts" \
        "$user@$host.sunrise.test" "$become /bin/sh -s" <<END & jobs+=($!)
set -e
cd /etc/bench
umask 077
i=0
while [ \$((i += 1)) -le $count ]; do
  sed "s|^PASSWORD=.*|PASSWORD=$new-\$i|" \$i.env >\$i.new
  chown --reference=\$i.env \$i.new && chmod --reference=\$i.env \$i.new && sync -d \$i.new && mv \$i.new \$i.env
done
END
    done
    for job in "${jobs[@]}"; do wait "$job"; done
    ;;
esac
