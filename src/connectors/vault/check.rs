//! Our own standing: who we are, and which capability is missing. Changes nothing.

use super::api::texts;
use super::identity;
use super::link::VaultLink;
use crate::connector::Health;
use crate::model::{Fault, FindingKind};
use serde_json::{Value, json};

/// What our policies must allow, by the kind of auth method that it is for (none: always), with `MOUNT` for where that is mounted.
const NEEDED: &[(Option<&str>, &str, &[&str])] = &[
    (None, "sys/auth", &["read"]),
    (None, "identity/entity/id", &["list"]),
    (None, "identity/entity/id/any", &["read", "update"]),
    (None, "identity/entity", &["update"]),
    (None, "identity/entity-alias", &["update"]),
    (None, "identity/lookup/entity", &["update"]),
    (None, "auth/token/accessors", &["list", "sudo"]),
    (None, "auth/token/lookup-accessor", &["update"]),
    (None, "auth/token/revoke-accessor", &["update"]),
    (None, "sys/leases/lookup", &["list", "sudo"]),
    (None, "sys/mounts", &["read"]),
    (Some("userpass"), "auth/MOUNT/users", &["list"]),
    (Some("userpass"), "auth/MOUNT/users/any", &["read"]),
    (Some("userpass"), "auth/MOUNT/users/any/password", &["update"]),
    (Some("approle"), "auth/MOUNT/role", &["list"]),
    (Some("approle"), "auth/MOUNT/role/any/role-id", &["read"]),
    (Some("approle"), "auth/MOUNT/role/any/secret-id", &["list"]),
    (Some("approle"), "auth/MOUNT/role/any/secret-id-accessor/lookup", &["update"]),
    (Some("approle"), "auth/MOUNT/role/any/secret-id-accessor/destroy", &["update"]),
];

/// See [`crate::connector::Link::check`].
pub async fn check(link: &mut VaultLink) -> Result<Health, Fault> {
    let cannot = link.what("ask for our own standing");
    let own = link.api.get(&["auth", "token", "lookup-self"], &cannot).await?.unwrap_or(Value::Null);
    let health = link.api.call("GET", &["sys", "seal-status"], None).await?;
    let version = health.body["version"].as_str().unwrap_or("of an unknown version").to_string();
    let mut findings = Vec::new();
    let mut wanted: Vec<(String, &[&str])> = Vec::new();
    match identity::mounts(&link.api, &cannot).await {
        Ok(mounts) => {
            for (kind, path, capabilities) in NEEDED {
                match kind {
                    None => wanted.push((path.to_string(), capabilities)),
                    Some(kind) => {
                        let of_kind = mounts.iter().filter(|m| m.kind == **kind);
                        wanted.extend(of_kind.map(|m| (path.replace("MOUNT", &m.path), *capabilities)));
                    }
                }
            }
        }
        Err(fault) => {
            let hint = fault.hint.clone().unwrap_or_default();
            findings.push(link.finding(FindingKind::Configuration, None, fault.to_string(), &hint));
        }
    }
    let paths: Vec<&String> = wanted.iter().map(|(path, _)| path).collect();
    let has = link.api.post(&["sys", "capabilities-self"], &json!({ "paths": paths }), &cannot).await?.unwrap_or(Value::Null);
    for (path, capabilities) in &wanted {
        let ours = texts(&has[path]);
        let missing: Vec<&str> = capabilities
            .iter()
            // Writing what is not there yet is called create by some paths, update by others.
            .filter(|c| !ours.iter().any(|o| o == *c || o == "root" || (**c == "update" && o == "create")))
            .copied()
            .collect();
        if !missing.is_empty() {
            let what = format!("we may not {} {path}", missing.join(" and "));
            let list = capabilities.iter().map(|c| format!("\"{c}\"")).collect::<Vec<_>>().join(", ");
            let hint = format!("write into a policy of offboard's: path \"{}\" {{ capabilities = [{list}] }}", path.replace("any", "+"));
            findings.push(link.finding(FindingKind::Configuration, None, what, &hint));
        }
    }
    if let Some(why) = &link.control_failed {
        let hint = "without a control that gets in, no refused login proves anything";
        findings.push(link.finding(FindingKind::Configuration, None, why.clone(), hint));
    }
    if texts(&own["policies"]).iter().any(|policy| policy == "root") {
        let hint = "give offboard a login of its own, with the policy in docs/connectors/vault.md";
        findings.push(link.finding(FindingKind::Configuration, None, "offboard uses a root token".into(), hint));
    }
    Ok(Health { identity: format!("{} on {version}", link.us.who()), findings })
}
