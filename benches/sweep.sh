#!/bin/bash
# benches/sweep.sh FOLDER COUNT PEOPLE : a slapd with COUNT entries on ldaps://127.0.2.1 until standard input ends, which belong to PEOPLE people in
# FOLDER/roster.csv. Run by benches/sweep.rs inside the lab. One in a thousand has not logged in for years; the others did today.
set -eu
folder=$1 count=$2 people=$3 base=dc=sunrise,dc=test
mkdir -p "$folder/db"
ec=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2)
openssl req -x509 "${ec[@]}" -subj /CN=bench -keyout "$folder/ca.key" -out "$folder/ca.pem" 2>/dev/null
openssl req -x509 "${ec[@]}" -subj /CN=127.0.2.1 -addext subjectAltName=IP:127.0.2.1 -addext basicConstraints=CA:FALSE \
  -CA "$folder/ca.pem" -CAkey "$folder/ca.key" -keyout "$folder/tls.key" -out "$folder/tls.pem" 2>/dev/null
cat >"$folder/slapd.conf" <<END
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload lastbind
TLSCertificateFile $folder/tls.pem
TLSCertificateKeyFile $folder/tls.key
database mdb
suffix $base
rootdn cn=offboard,$base
rootpw bench
directory $folder/db
maxsize 2147483648
dbnosync
index objectClass eq
sizelimit unlimited
overlay lastbind
END
now=$(date -u +%Y%m%d%H%M%SZ)
{
  printf 'dn: %s\nobjectClass: dcObject\nobjectClass: organization\ndc: sunrise\no: Sunrise\n\ndn: ou=people,%s\nobjectClass: organizationalUnit\nou: people\n\n' "$base" "$base"
  awk -v count="$count" -v people="$people" -v now="$now" -v base="$base" 'BEGIN { for (i = 1; i <= count; i++) printf \
    "dn: uid=u%06d,ou=people,%s\nobjectClass: inetOrgPerson\nuid: u%06d\ncn: Person %d\nsn: %d\nemployeeNumber: E%06d\nmail: u%06d@sunrise.test\nuserPassword: {SSHA}AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\nauthTimestamp: %s\n\n",
    i, base, i, i, i, i % people + 1, i, i % 1000 ? now : "20240105083000Z" }'
} | slapadd -q -f "$folder/slapd.conf" -b "$base"
awk -v count="$people" 'BEGIN {
  print "id,name,e-mail,user name,manager,department,worker type,status,reason,end date,zone"
  for (i = 1; i <= count; i++) printf "E%06d,Person %d,p%06d@example.test,p%06d,,Clinical,employee,active,,,Asia/Kolkata\n", i, i, i, i
}' >"$folder/roster.csv"
slapd -d none -f "$folder/slapd.conf" -h ldaps://127.0.2.1:636 >/dev/null 2>&1 </dev/null &
trap 'kill $!' EXIT
until LDAPTLS_CACERT=$folder/ca.pem ldapwhoami -x -H ldaps://127.0.2.1 -D "cn=offboard,$base" -w bench >/dev/null 2>&1; do sleep 0.1; done
echo ready
read -r _ || true
