# shellcheck shell=bash
# OpenBao with TLS and a store on disk (raft, one node), so that it keeps what it knows over a restart. Sourced by lab/server and lab/person.

# vault_api METHOD PATH [BODY] : one call as root. No secret stands among its arguments.
vault_api() {
  local body=(); [[ ! ${3-} ]] || body=(-d @-)
  curl -sS -f -X "$1" --cacert "$LAB/ca.pem" -H "@$LAB/vault/header" "${body[@]}" "https://vault.sunrise.test:8200/v1/$2" <<<"${3-}"
}

prepare_vault() {
  local dir=$LAB/vault
  mkdir -p "$dir/data" && chmod 700 "$dir" && : >"$dir/header" || return
  cat >"$dir/config.hcl" <<END
storage "raft" {
  path = "$dir/data"
  node_id = "vault"
  performance_multiplier = 1
}
cluster_addr = "https://${ADDRESS[vault]}:8201"
listener "tcp" {
  address = "${ADDRESS[vault]}:8200"
  tls_cert_file = "$LAB/pki/vault.pem"
  tls_key_file = "$LAB/pki/vault.key"
}
api_addr = "https://vault.sunrise.test:8200"
audit "file" "file" {
  options {
    file_path = "$dir/audit.log"
  }
}
END
}

start_vault() {
  HOME=$LAB/vault setsid "$BAO" server -config="$LAB/vault/config.hcl" >>"$LAB/log/vault" 2>&1 </dev/null &
  echo $! >"$LAB/pids/vault"
  until_true 60 vault_speaks || { tail -n 20 "$LAB/log/vault"; return 1; }
  if [[ ! -e $LAB/vault/key ]]; then
    local said; said=$(vault_api PUT sys/init '{"secret_shares":1,"secret_threshold":1}') || return
    (umask 077; field keys "$said" >"$LAB/vault/key"; echo "X-Vault-Token: $(field root_token "$said")" >"$LAB/vault/header")
  fi
  vault_api PUT sys/unseal "{\"key\":\"$(<"$LAB/vault/key")\"}" >/dev/null && until_true 60 vault_api GET sys/health || return
  if [[ ! -e $LAB/vault/seeded ]]; then vault_seed && touch "$LAB/vault/seeded" || return; fi
}

# Sealed or not, it answers.
vault_speaks() { vault_api GET sys/seal-status; }

# field NAME JSON : the first text of that name, or the first of a list of texts.
field() { local rest=${2#*\""$1"\":}; rest=${rest#[}; rest=${rest#\"}; printf %s "${rest%%\"*}"; }

# vault_user NAME PASSWORD POLICY
vault_user() { vault_api POST "auth/userpass/users/$1" "{\"password\":\"$2\",\"token_policies\":\"$3\"}"; }

# vault_secret_id USER MAIL : a SecretID of the shared role, which says whose it is; into the person's folder.
vault_secret_id() {
  local said; said=$(vault_api POST auth/approle/role/ci/secret-id "{\"metadata\":\"{\\\"mail\\\":\\\"$2\\\"}\"}") || return
  (umask 077; field secret_id "$said" >"$LAB/people/$1/vault-secret-id")
}

# vault_person USER MAIL
vault_person() { vault_user "$1" "$(<"$LAB/people/$1/password")" staff && vault_secret_id "$1" "$2"; }

# vault_policy NAME : its text on standard input.
vault_policy() { vault_api PUT "sys/policies/acl/$1" "{\"policy\":\"$(sed 's/"/\\"/g' | awk '{ printf "%s\\n", $0 }')\"}"; }

vault_seed() {
  vault_api POST sys/auth/userpass '{"type":"userpass"}' && vault_api POST sys/auth/approle '{"type":"approle"}' &&
    vault_api POST sys/mounts/kv '{"type":"kv","options":{"version":"2"}}' &&
    vault_api POST sys/mounts/old/kv '{"type":"kv","options":{"version":"1"}}' && vault_api POST sys/mounts/database '{"type":"database"}' &&
    vault_api POST sys/mounts/transit '{"type":"transit"}' || return
  vault_policy old-kv <<<'path "old/kv/apps/*" { capabilities = ["read", "update"] }' || return
  vault_policy static-roles <<'END' || return
path "database/static-roles/+" { capabilities = ["read"] }
path "database/static-creds/+" { capabilities = ["read"] }
path "database/rotate-role/+" { capabilities = ["update"] }
END
  vault_policy sealing-key <<'END' || return
path "transit/keys/offboard*" { capabilities = ["read"] }
path "transit/encrypt/offboard*" { capabilities = ["update"] }
path "transit/decrypt/offboard*" { capabilities = ["update"] }
END
  vault_policy staff <<<'path "kv/data/billing/*" { capabilities = ["read"] }' || return
  sed -n '/^```hcl$/,/^```$/ { /^```/d; p }' "$LAB_SRC/../docs/connectors/vault.md" | vault_policy offboard || return
  vault_policy offboard-limited <<'END' || return
path "sys/auth" { capabilities = ["read"] }
path "sys/mounts" { capabilities = ["read"] }
path "identity/entity/id" { capabilities = ["list"] }
path "identity/entity/id/+" { capabilities = ["read"] }
path "identity/lookup/entity" { capabilities = ["update"] }
path "auth/token/accessors" { capabilities = ["list", "sudo"] }
path "auth/token/lookup-accessor" { capabilities = ["update"] }
path "auth/userpass/users" { capabilities = ["list"] }
path "auth/userpass/users/+" { capabilities = ["read"] }
END
  vault_api POST auth/approle/role/offboard '{"token_policies":"offboard,old-kv,static-roles,sealing-key","token_ttl":"1h"}' &&
    vault_api POST auth/approle/role/offboard/role-id '{"role_id":"offboard"}' &&
    vault_api POST auth/approle/role/offboard/custom-secret-id "{\"secret_id\":\"$(<"$LAB/secrets/vault")\"}" >/dev/null &&
    vault_user monitor "$(<"$LAB/secrets/vault-control")" default &&
    vault_user offboard_limited "$(<"$LAB/secrets/vault-limited")" offboard-limited &&
    vault_api POST auth/approle/role/ci '{"token_policies":"staff"}' && vault_api POST auth/approle/role/ci/role-id '{"role_id":"ci"}' || return
  vault_api POST kv/data/billing/portal '{"data":{"note":"for tests"}}' >/dev/null || return
  local user
  for user in rmehta rmehtaa; do
    vault_person "$user" "$(awk -F'\t' -v u="$user" '$2 == u { print $6 }' "$LAB/seed/people.tsv")" || return
  done
}
