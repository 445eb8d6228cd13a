# shellcheck shell=bash
# What the company owns before its servers start: people, passwords, keys, certificates, and offboard's own folder. Sourced.

# One row a person with a number, tab separated: id user uid first last mail department
people_table() {
  awk -F, -v OFS='\t' 'NR > 1 { n = split($2, name, " "); print $1, $4, 10000 + NR, name[1], name[n], $3, $6 }' "$LAB_SRC/seed/roster.csv"
}

# secrets FILE… : a random password in each, without a line end, as ldapwhoami -y wants it. The folders are their owner's only.
secrets() {
  local file word
  while read -r -u 3 file && read -r word; do printf %s "$word" >"$file"; chmod 600 "$file"; done \
    3< <(printf '%s\n' "$@") < <(head -c $((18 * $#)) /dev/urandom | base64 -w 24 | tr '+/' '-_')
}

certificate() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj "/O=Sunrise Hospital IT/CN=$1.sunrise.test" \
    -config "$LAB_SRC/seed/openssl.cnf" -extensions server -addext "subjectAltName=DNS:$1.sunrise.test,IP:${ADDRESS[$1]}" \
    -CA "$LAB/ca.pem" -CAkey "$LAB/pki/ca.key" -keyout "$LAB/pki/$1.key" -out "$LAB/pki/$1.pem"
}

certificates() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj "/O=Sunrise Hospital IT/CN=Sunrise Test CA" \
    -config "$LAB_SRC/seed/openssl.cnf" -extensions authority -keyout "$LAB/pki/ca.key" -out "$LAB/ca.pem" || return
  local s; for s in ldap1 ldap2 pg mail vault maria cache1 cache2; do certificate "$s" || return; done
} 2>>"$LAB/log/certificates"

# person_keys USER… : a key for each. Only engineers and operations people have one.
person_keys() {
  local user; for user in "$@"; do
    ssh-keygen -q -t ed25519 -N '' -C "$user@sunrise" -f "$LAB/people/$user/id_ed25519" </dev/null || return
  done
}

host_keys() {
  local h; for h in "${HOSTS[@]}" "$GATEWAY"; do
    mkdir -p "$LAB/hosts/$h" && ssh-keygen -q -t ed25519 -N '' -C "root@$h" -f "$LAB/hosts/$h/ssh_host_ed25519_key" </dev/null || return
    echo "$h.sunrise.test,${ADDRESS[$h]} $(cut -d' ' -f1,2 "$LAB/hosts/$h/ssh_host_ed25519_key.pub")" >>"$LAB/known_hosts"
  done
}

# offboard's own folder: what its administrator would have written.
offboard_folder() {
  secrets "$LAB"/secrets/{ldap,ldap-control,ldap-admin,ldap-replicator,postgres,postgres-control,postgres-limited,smtp,vault,vault-control,vault-limited,redis,redis-control,redis-limited,redis-admin,redis-replica,mysql,mysql-control,mysql-limited,reports} || return
  ssh-keygen -q -t ed25519 -N '' -C offboard@sunrise -f "$LAB/secrets/fleet_ed25519" </dev/null || return
  sed "s/@TODAY@/$(TZ=Asia/Kolkata date +%F)/" "$LAB_SRC/seed/roster.csv" >"$LAB/roster.csv"
  sed "s|@LAB@|$LAB|; s|@ROHAN_KEY@|$(<"$LAB/people/rmehta/id_ed25519.pub")|" "$LAB_SRC/seed/offboard.yaml" >"$LAB/offboard.yaml"
  mkdir -p "$LAB/playbooks"
  cp "$LAB_SRC"/../playbooks/*.yaml "$LAB/playbooks/" 2>/dev/null || true
}

seed_company() {
  people_table >"$LAB/seed/people.tsv"
  local -a user; mapfile -t user < <(cut -f2 "$LAB/seed/people.tsv")
  local -a folder=("${user[@]/#/$LAB/people/}")
  mkdir "${folder[@]}" && secrets "${folder[@]/%//password}" || return
  mapfile -t user < <(awk -F'\t' '$7 ~ /Engineering|Operations/ { print $2 }' "$LAB/seed/people.tsv")
  local half=$((${#user[@]} / 2)) jobs=() job
  person_keys "${user[@]:0:half}" & jobs+=($!)
  person_keys "${user[@]:half}" & jobs+=($!)
  certificates & jobs+=($!)
  host_keys & jobs+=($!)
  for job in "${jobs[@]}"; do wait "$job" || return; done
  # A second key that nobody has declared.
  ssh-keygen -q -t ed25519 -N '' -C 'laptop-home' -f "$LAB/people/rmehta/id_second" </dev/null
  offboard_folder && hosts_template
}
