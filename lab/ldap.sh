# shellcheck shell=bash
# Two OpenLDAP servers that replicate each other, with password policy, last-bind times and TLS. Sourced by lab/server.

ldap_config() {
  local me=$1 other id
  if [[ $me == ldap1 ]]; then other=ldap2 id=1; else other=ldap1 id=2; fi
  cat <<END
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
include /etc/ldap/schema/nis.schema
include $LAB_SRC/seed/openssh-lpk.schema
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload back_monitor
moduleload syncprov
moduleload ppolicy
moduleload lastbind
moduleload sssvlv
loglevel none
serverID $id
threads 4
TLSCACertificateFile $LAB/ca.pem
TLSCertificateFile $LAB/$me/tls.pem
TLSCertificateKeyFile $LAB/$me/tls.key
localSSF 256
security simple_bind=128
authz-regexp gidNumber=0[+]uidNumber=0,cn=peercred,cn=external,cn=auth cn=admin,$BASE

database config
rootdn cn=admin,$BASE
access to attrs=olcRootPW,olcSyncrepl
  by * none
access to *
  by dn.exact="cn=offboard,ou=services,$BASE" read
  by * none

database monitor
rootdn cn=admin,$BASE
access to *
  by dn.exact="cn=offboard,ou=services,$BASE" read
  by * none

database mdb
suffix $BASE
rootdn cn=admin,$BASE
rootpw {SSHA}$(ssha <"$LAB/secrets/ldap-admin")
directory $LAB/$me/db
maxsize 1073741824
dbnosync
index objectClass,uid,mail,employeeNumber,member,uniqueMember,memberUid,entryCSN,entryUUID eq
index cn,sn eq,sub
lastbind on
limits dn.exact="cn=replicator,ou=services,$BASE" size=unlimited time=unlimited
limits dn.exact="cn=offboard,ou=services,$BASE" size.soft=100 size.hard=500 size.pr=100 size.prtotal=unlimited
syncrepl rid=00$id provider=ldaps://$other.sunrise.test type=refreshAndPersist retry="1 +" searchbase=$BASE
  bindmethod=simple binddn=cn=replicator,ou=services,$BASE credentials=$(<"$LAB/secrets/ldap-replicator") tls_cacert=$LAB/ca.pem
multiprovider on

access to attrs=userPassword
  by dn.exact="cn=offboard,ou=services,$BASE" write
  by dn.exact="cn=replicator,ou=services,$BASE" read
  by self write
  by anonymous auth
access to dn.subtree="ou=people,$BASE" attrs=pwdAccountLockedTime,pwdReset,sshPublicKey,userCertificate,loginShell,shadowExpire,objectClass
  by dn.exact="cn=offboard,ou=services,$BASE" write
  by users read
access to dn.subtree="ou=groups,$BASE" attrs=member,uniqueMember,memberUid
  by dn.exact="cn=offboard,ou=services,$BASE" write
  by users read
access to *
  by users read

overlay syncprov
syncprov-checkpoint 100 10
overlay ppolicy
ppolicy_default cn=default,ou=policies,$BASE
ppolicy_hash_cleartext
$([[ $me == ldap1 ]] && echo ppolicy_use_lockout)
overlay lastbind
lastbind-precision 1
overlay sssvlv
END
}

# ssha : a salted SHA-1 in base64 for each password, one a line.
ssha() {
  perl -MDigest::SHA=sha1 -MMIME::Base64 -ne 'chomp; $s = pack "N2", rand 2**32, rand 2**32; print encode_base64(sha1($_ . $s) . $s, ""), "\n"'
}

# attribute NAME VALUE : one LDIF line (RFC 2849), base64 where the value is not plain.
attribute() {
  if [[ $2 =~ ^[^\ \<:[:cntrl:]][[:print:]]*[^\ ]$ && $2 != *[^\ -~]* ]]; then printf '%s: %s\n' "$1" "$2"
  else printf '%s:: %s\n' "$1" "$(printf %s "$2" | base64 -w0)"; fi
}

# ldap_person ID USER UID FIRST LAST MAIL HASH [KEY] : one entry.
ldap_person() {
  attribute dn "uid=$2,ou=people,$BASE"
  printf 'objectClass: inetOrgPerson\nobjectClass: posixAccount\nobjectClass: ldapPublicKey\n'
  attribute uid "$2"; attribute employeeNumber "$1"; attribute mail "$6"
  attribute cn "$4 $5"; attribute givenName "$4"; attribute sn "$5"
  printf 'uidNumber: %s\ngidNumber: %s\nhomeDirectory: /home/%s\nloginShell: /bin/bash\n' "$3" "$3" "$2"
  printf 'userPassword: {SSHA}%s\n' "$7"
  if [[ ${8-} ]]; then printf "sshPublicKey: %s\n" "$8"; fi; echo
}

ldap_tree() {
  local name
  printf 'dn: %s\nobjectClass: dcObject\nobjectClass: organization\ndc: sunrise\no: Sunrise Hospital IT\n\n' "$BASE"
  for name in people groups services policies; do printf 'dn: ou=%s,%s\nobjectClass: organizationalUnit\nou: %s\n\n' "$name" "$BASE" "$name"; done
  cat <<END
dn: cn=default,ou=policies,$BASE
objectClass: device
objectClass: pwdPolicy
cn: default
pwdAttribute: userPassword
pwdLockout: TRUE
pwdMaxFailure: 20
pwdLockoutDuration: 300
pwdFailureCountInterval: 300
pwdMinLength: 8

END
  for name in offboard:ldap replicator:ldap-replicator; do
    printf 'dn: cn=%s,ou=services,%s\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\ncn: %s\nuserPassword: {SSHA}%s\n\n' \
      "${name%:*}" "$BASE" "${name%:*}" "$(ssha <"$LAB/secrets/${name#*:}")"
  done
  printf 'dn: uid=monitor,ou=services,%s\nobjectClass: account\nobjectClass: simpleSecurityObject\nuid: monitor\nuserPassword: {SSHA}%s\n\n' \
    "$BASE" "$(ssha <"$LAB/secrets/ldap-control")"
}

# Groups of all three kinds; the leaver and the look-alike are in the same ones.
ldap_groups() {
  local d
  while read -r d; do
    printf 'dn: cn=%s,ou=groups,%s\nobjectClass: groupOfNames\ncn: %s\n' "${d,,}" "$BASE" "${d,,}"
    awk -F'\t' -v d="$d" -v base="$BASE" '$7 == d { printf "member: uid=%s,ou=people,%s\n", $2, base } END { print "" }' "$LAB/seed/people.tsv"
  done < <(cut -f7 "$LAB/seed/people.tsv" | sort -u)
  printf 'dn: cn=oncall,ou=groups,%s\nobjectClass: groupOfUniqueNames\ncn: oncall\n' "$BASE"
  awk -F'\t' -v base="$BASE" '$7 == "Engineering" { printf "uniqueMember: uid=%s,ou=people,%s\n", $2, base } END { print "" }' "$LAB/seed/people.tsv"
  local gid=20000 name
  for name in developers deployers; do
    printf 'dn: cn=%s,ou=groups,%s\nobjectClass: posixGroup\ncn: %s\ngidNumber: %s\n' "$name" "$BASE" "$name" "$((gid++))"
    awk -F'\t' '$7 == "Engineering" { print "memberUid: " $2 } END { print "" }' "$LAB/seed/people.tsv"
  done
}

ldap_seed() {
  ldap_tree
  local id user uid first last mail hash key
  while IFS=$'\t' read -r id user uid first last mail _ hash; do
    key=; [[ ! -e $LAB/people/$user/id_ed25519.pub ]] || read -r key <"$LAB/people/$user/id_ed25519.pub"
    ldap_person "$id" "$user" "$uid" "$first" "$last" "$mail" "$hash" "$key"
  done < <(paste "$LAB/seed/people.tsv" <(cut -f2 "$LAB/seed/people.tsv" | sed "s|.*|$LAB/people/&/password|" | xargs awk 1 | ssha))
  ldap_groups
}

# ldap2 is a copy of ldap1's database, so that both begin with the same entryUUIDs and change numbers.
prepare_ldap() {
  local me=$1
  mkdir -p "$LAB/$me/db"
  cp "$LAB/pki/$me.pem" "$LAB/$me/tls.pem"; cp "$LAB/pki/$me.key" "$LAB/$me/tls.key"
  (umask 077 && ldap_config "$me" >"$LAB/$me/slapd.conf")
  if [[ $me == ldap1 ]]; then
    ldap_seed >"$LAB/$me/seed.ldif" && slapadd -q -w -S 1 -f "$LAB/$me/slapd.conf" -b "$BASE" -l "$LAB/$me/seed.ldif" || return
    touch "$LAB/$me/seeded"
  else
    until_true 60 test -e "$LAB/ldap1/seeded" && slapcat -f "$LAB/ldap1/slapd.conf" -b "$BASE" -l "$LAB/$me/seed.ldif" &&
      slapadd -q -f "$LAB/$me/slapd.conf" -b "$BASE" -l "$LAB/$me/seed.ldif" || return
  fi
  chown -R openldap:openldap "$LAB/$me"
}

start_ldap() {
  local a=${ADDRESS[$1]} socket=$LAB/$1/ldapi
  setsid slapd -d none -n "$1" -u openldap -g openldap -f "$LAB/$1/slapd.conf" -h "ldap://$a:389 ldaps://$a:636 ldapi://${socket//\//%2F}" \
    >>"$LAB/log/$1" 2>&1 </dev/null &
  echo $! >"$LAB/pids/$1"
  until_true 60 ldap_answers "$1" || { tail "$LAB/log/$1"; ldap_answers "$1"; return 1; }
}

ldap_answers() {
  LDAPTLS_CACERT=$LAB/ca.pem ldapwhoami -x -H "ldaps://${ADDRESS[$1]}" -D "cn=offboard,ou=services,$BASE" -y "$LAB/secrets/ldap"
}

# ldap_admin SERVER TOOL ARGUMENT… : run an LDAP client as the directory's own administrator.
ldap_admin() {
  local socket=$LAB/$1/ldapi tool=$2; shift 2
  "$tool" -Q -Y EXTERNAL -H "ldapi://${socket//\//%2F}" "$@"
}
