//! Our own standing on a host, and how its sshd is set up.

use super::HostAt;
use super::survey::Survey;
use crate::connector::Health;
use crate::model::{Finding, FindingKind, Place};
use crate::wire::shell::printable;

/// What `health` told.
pub(super) fn health(host: &HostAt, survey: &Survey) -> Health {
    let version = survey.said("version").map(|v| printable(v, 80)).unwrap_or_else(|| "sshd of unknown version".into());
    let root = if survey.said("uid") == Some("0") { " as root" } else { "" };
    let mut findings = config_findings(&host.place, survey);
    let mut add = |what: String, hint: String| {
        findings.push(Finding {
            kind: FindingKind::Configuration,
            place: Some(host.place.id.clone()),
            account: None,
            what,
            hint,
        });
    };
    if let Some(error) = &survey.config_error {
        add(format!("sshd -T complains: {}", printable(error, 300)), "run sshd -T there as root and mend it".into());
    }
    for (key, value) in &survey.info {
        let value = printable(value, 200);
        match key.as_str() {
            "missing" => add(format!("{value} is missing"), format!("install {value} there")),
            "unreadable" => add(
                format!("{value} cannot be read: we are not root"),
                format!("{} ALL=(root) NOPASSWD: /bin/sh -s, in /etc/sudoers.d/offboard; and sudo: true", host.target.user),
            ),
            "nolog" => add(
                "sshd's log was not found".into(),
                "let it go to the journal or to /var/log/auth.log: it tells which key opened a session in a shared account".into(),
            ),
            "free" => {
                let kilobytes: u64 = value.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(u64::MAX);
                if kilobytes < 20 * 1024 {
                    let at = value.split(' ').nth(1).unwrap_or("/");
                    add(format!("only {kilobytes} kB are free on {at}"), "key files cannot be written anew on a full disk".into());
                }
            }
            _ => {}
        }
    }
    if let Some(penalties) = survey.config.get("persourcepenalties").filter(|p| *p != "no") {
        let exempt =
            survey.config.get("persourcepenaltyexemptlist").is_some_and(|list| !list.is_empty() && list != "none");
        if !exempt {
            add(
                format!("sshd penalises sources that fail to log in ({})", printable(penalties, 200)),
                "PersourcePenaltyExemptList with our address: proving a key gone is a login that fails".into(),
            );
        }
    }
    let tries: u32 = survey.config.get("maxauthtries").and_then(|t| t.parse().ok()).unwrap_or(6);
    if tries < 5 {
        add(
            format!("MaxAuthTries is {tries}"),
            "proving keys gone takes more connections, and may be cut off: 6 is usual".into(),
        );
    }
    Health { identity: format!("{}{root} on {version}", host.target.user), findings }
}

/// What sshd's settings mean for finding and shutting doors.
pub(super) fn config_findings(place: &Place, survey: &Survey) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |kind, what: String, hint: &str| {
        findings.push(Finding { kind, place: Some(place.id.clone()), account: None, what, hint: hint.into() });
    };
    let set = |key: &str| survey.config.get(key).filter(|v| !v.is_empty() && *v != "none").map(|v| printable(v, 200));
    if let Some(command) = set("authorizedkeyscommand") {
        add(
            FindingKind::NotCovered,
            format!("sshd also asks {command} for keys"),
            "keys that it serves are revoked where it gets them from, such as the directory",
        );
    }
    if let Some(authority) = set("trustedusercakeys") {
        add(
            FindingKind::NotCovered,
            format!("sshd accepts user certificates of {authority}"),
            "a certificate of the leaver's is valid until it expires or is in RevokedKeys (ssh-keygen -k)",
        );
    }
    if survey.config.get("loglevel").is_some_and(|level| matches!(level.as_str(), "QUIET" | "FATAL" | "ERROR")) {
        add(
            FindingKind::Configuration,
            "sshd's LogLevel is below INFO".into(),
            "which key opened a session in a shared account is not logged: LogLevel INFO or VERBOSE",
        );
    }
    for (_, condition) in survey.info.iter().filter(|(key, _)| key == "condition") {
        let lower = condition.to_lowercase();
        let simple =
            lower.split_ascii_whitespace().skip(1).step_by(2).all(|word| matches!(word, "user" | "group" | "all"));
        if !simple {
            add(
                FindingKind::Configuration,
                format!("sshd reads other key files under a condition: {}", printable(condition, 200)),
                "only what it reads for connections from the host itself was looked at: look at the others by hand",
            );
        }
    }
    findings
}
