//! From what a gateway says to accounts, doors and findings. An account is a common name: every certificate of exactly that name, and
//! every client that is connected by one of them.

use super::survey::{Certificate, Survey};
use crate::model::{Account, Door, DoorKind, Finding, FindingKind, Identity, Owner, Place};
use crate::wire::shell::printable;
use jiff::Timestamp;
use serde_json::json;
use std::collections::BTreeSet;

/// A list of revoked certificates that is over this soon deserves a word.
const SOON: i64 = 7 * 24 * 3600;

/// The object of a certificate of which nothing is known but its name.
pub(super) const UNKNOWN: &str = "unknown";

/// Whether it may be the name of a file in the client-config-dir that the server finds by this name, and means nobody else.
pub(super) fn is_file_name(name: &str) -> bool {
    // OpenVPN reads DEFAULT for everybody without a file of their own.
    name != "DEFAULT"
        && !name.is_empty()
        && name.len() <= 200
        && !name.starts_with(['.', '-', ' '])
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '@' | '+' | '=' | ' '))
}

/// What a certificate is worth.
fn state(certificate: &Certificate, survey: &Survey, now: Timestamp) -> &'static str {
    if certificate.until.is_some_and(|until| until <= now) {
        "expired"
    } else if survey.listed.contains(&certificate.serial) {
        "revoked"
    } else if certificate.revoked.is_some() {
        // A step that broke off, or an administrator who forgot half of it.
        "unpublished"
    } else {
        "valid"
    }
}

/// Every name that holds or held a certificate, or is connected.
pub(super) fn accounts(place: &Place, survey: &Survey, now: Timestamp) -> Vec<Account> {
    let certificates = survey.by_name();
    let gateway = survey.certificates.iter().find(|c| survey.fact("server-serial") == Some(&c.serial)).map(|c| &c.name);
    let connected = survey.clients.iter().map(|c| c.name.as_str()).filter(|name| !name.is_empty() && *name != "UNDEF");
    // A client-config-dir has files of routes and the like, too, but no certificate without a name.
    let known = survey.ccd.keys().chain(survey.last_seen.keys()).map(String::as_str).filter(|name| *name != "DEFAULT");
    let names: BTreeSet<&str> = certificates.keys().copied().chain(connected).chain(known).collect();
    let can_disable = survey.fact("ccd-there").is_some();
    let mut accounts = Vec::with_capacity(names.len());
    for name in names {
        let held = certificates.get(name).map(Vec::as_slice).unwrap_or_default();
        let mut doors = Vec::new();
        let mut states = serde_json::Map::new();
        for certificate in held {
            let state = state(certificate, survey, now);
            let until = certificate.until.map_or_else(|| "no end known".to_string(), |until| format!("until {until}"));
            let origin = if certificate.in_database { "" } else { ", not in the CA's database" };
            let detail = format!("{state}, {until}{origin}");
            doors.push(Door::new(&place.id, name, DoorKind::Certificate, &certificate.serial, detail));
            states.insert(certificate.serial.clone(), json!(state));
        }
        if held.is_empty() {
            let detail = "its certificate is not known here: another CA's, or one without a trace";
            doors.push(Door::new(&place.id, name, DoorKind::Certificate, UNKNOWN, detail));
        }
        let clients: Vec<_> = survey.clients.iter().filter(|c| c.name == name).collect();
        let from: Vec<String> = clients.iter().map(|c| format!("{} since {}", c.from, c.since)).collect();
        let detail = if from.is_empty() { "not connected".into() } else { printable(&from.join(", "), 300) };
        doors.push(Door::new(&place.id, name, DoorKind::Session, "sessions", detail));
        let ccd = survey.ccd.get(name).map_or("none", String::as_str);
        let usable = states.values().any(|state| state == "valid" || state == "unpublished");
        let online = clients.iter().filter_map(|c| c.since_seconds).max().and_then(|s| Timestamp::from_second(s).ok());
        let mails = held.iter().filter_map(|c| c.mail.clone()).chain(name.contains('@').then(|| name.to_string()));
        let mails: BTreeSet<String> = mails.collect();
        accounts.push(Account {
            system: place.system.clone(),
            place: place.id.clone(),
            native_id: name.to_string(),
            name: printable(name, 120),
            enabled: (usable || held.is_empty()) && ccd != "disabled",
            identity: Identity {
                mails: mails.into_iter().collect(),
                user_name: (!name.contains('@')).then(|| name.to_string()),
                ..Identity::default()
            },
            // The gateway's own certificate is not a person's.
            owner: if gateway.is_some_and(|own| own == name) { Owner::Ourselves } else { Owner::Nobody },
            privileged: false,
            last_used: online.max(survey.last_seen.get(name).copied()),
            doors,
            facts: json!({
                "ccd": ccd,
                "disable": can_disable && is_file_name(name),
                "revoke": survey.fact("ca-key").is_some() || survey.fact("crl-kind") == Some("dir"),
                "certificates": states,
            }),
        });
    }
    accounts
}

/// What a person should know of how this server is set up.
pub(super) fn findings(place: &Place, survey: &Survey, now: Timestamp) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |kind, what: String, hint: &str| {
        let what = printable(&what, 400);
        findings.push(Finding { kind, place: Some(place.id.clone()), account: None, what, hint: hint.into() });
    };
    use FindingKind::{Configuration, NotCovered, Suspicious, Unknown};
    if let Some(several) = survey.fact("several") {
        add(
            Unknown,
            format!("several processes could be the server with this configuration ({several}): nothing is changed, and nothing proved"),
            "look whose they are (ps -f -p NUMBER), end those that are not the server, then resume the run",
        );
    } else if survey.fact("pid").is_none() {
        add(
            Unknown,
            "no openvpn runs with this configuration: nobody can say what it would read when it starts".into(),
            "start the server, then resume the run; or name in offboard.yaml the configuration that it was started with",
        );
    }
    if let Some(file) = survey.fact("changed-since-start") {
        add(
            Configuration,
            format!("the configuration ({file}) was changed after the server read it: nobody can say what it runs with"),
            "restart the server, then resume the run",
        );
    }
    for (_, other) in survey.complaints.iter().filter(|(kind, _)| kind == "other") {
        add(
            NotCovered,
            format!("another openvpn runs here, with {other}"),
            "if it lets people in, it is a system of its own in offboard.yaml; a client's tunnel to elsewhere is none",
        );
    }
    match survey.fact("crl-kind").unwrap_or("file") {
        "none" => add(
            Configuration,
            "the server checks no list of revoked certificates: revoking has no effect".into(),
            "make a list (easyrsa gen-crl), name it in the configuration (crl-verify /etc/openvpn/crl.pem), and restart the server",
        ),
        "inline" => add(
            Configuration,
            "the list of revoked certificates stands inside the configuration: the server reads it at its start only".into(),
            "put it into a file of its own: crl-verify /etc/openvpn/crl.pem, and restart the server",
        ),
        _ => {}
    }
    let crl = survey.fact("crl").unwrap_or_default();
    if let Some(why) = survey.complaint("crl-broken") {
        add(
            Configuration,
            format!("the list of revoked certificates ({crl}) cannot be used: {why}"),
            "put the last good one back; with one that it cannot read the server refuses everybody, or goes on with what it read before",
        );
    }
    if let Some(who) = survey.complaint("crl-unreadable") {
        add(
            Configuration,
            format!("the running server ({who}) cannot read its list of revoked certificates ({crl}) any more"),
            "let that user read the file and search its folders: otherwise the server goes on with the list that it read at its start",
        );
    }
    match survey.next_update() {
        Some(next) if next <= now => add(
            Configuration,
            format!("the list of revoked certificates is over since {next}: the server refuses everybody"),
            "sign a new one (easyrsa gen-crl); a run that revokes a certificate does so, too",
        ),
        Some(next) if next.as_second() - now.as_second() < SOON => add(
            Configuration,
            format!("the list of revoked certificates is over on {next}: from then on the server refuses everybody"),
            "sign a new one in time: easyrsa gen-crl",
        ),
        _ => {}
    }
    if survey.fact("crl-kind") == Some("file") && survey.fact("ca-key").is_none() {
        add(
            Configuration,
            "the CA's key is not here: certificates are not revoked".into(),
            "name the CA under ca in offboard.yaml, or revoke where the CA is and put the new list into place there",
        );
    }
    if let Some(why) = &survey.silent {
        add(
            Configuration,
            format!("the management interface says nothing: {why}"),
            "in the server's configuration: management /run/openvpn/management.sock unix; without it no session is seen or cut",
        );
    }
    if survey.certificates.is_empty() {
        add(
            NotCovered,
            "no database of the CA is here: only names that are connected, in the log or in the client-config-dir are found".into(),
            "name it under ca in offboard.yaml (a copy without the key will do), or add a file for everybody to the client-config-dir",
        );
    }
    let passwords: Vec<String> =
        survey.every("auth-user-pass-verify").chain(survey.every("plugin")).filter(|text| !text.is_empty()).collect();
    for back_end in &passwords {
        let program = back_end.split(' ').take(2).collect::<Vec<_>>().join(" ");
        add(
            NotCovered,
            format!("the server also asks for a password, and {program} says whether it is right"),
            "close the account where that back end keeps it",
        );
    }
    if matches!(survey.option("verify-client-cert"), Some("none" | "optional"))
        || survey.option("client-cert-not-required").is_some()
    {
        add(
            Unknown,
            "the server lets people in without a certificate: a password is enough".into(),
            "verify-client-cert require; or close the account in the back end of the passwords, then waive this",
        );
    }
    if survey.option("auth-gen-token").is_some() {
        add(
            NotCovered,
            "the server gives out auth-tokens: they stand for the password when a session is renewed".into(),
            "a token does not replace the certificate, and ends with the session; where no certificate is asked for it outlives the password",
        );
    }
    if survey.option("username-as-common-name").is_some() {
        add(
            Unknown,
            "clients are listed by the user name that they gave, not by their certificate".into(),
            "sessions and disable lines are matched by that name; remove username-as-common-name, or look at the sessions by hand",
        );
    }
    if survey.option("x509-username-field").is_some_and(|field| field != "CN") {
        add(
            Unknown,
            "clients are named by another field than the common name (x509-username-field)".into(),
            "sessions are matched by common name: look at them by hand",
        );
    }
    for subject in &survey.odd {
        add(
            Suspicious,
            format!("a certificate's subject has no single common name: {subject}"),
            "nobody's account: look whose it is, and revoke it by its serial",
        );
    }
    let mut serials: Vec<(&str, &str)> =
        survey.certificates.iter().map(|c| (c.serial.as_str(), c.name.as_str())).collect();
    serials.sort_unstable();
    for pair in serials.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
        add(
            Configuration,
            format!("the serial {} was given to {} and to {}", pair[0].0, pair[0].1, pair[1].1),
            "a list of revoked certificates knows serials alone: give one of them a new certificate before the other is revoked",
        );
    }
    let known: BTreeSet<&str> =
        survey.certificates.iter().filter(|c| c.revoked.is_some()).map(|c| c.serial.as_str()).collect();
    let foreign = survey.listed.iter().filter(|serial| !known.contains(serial.as_str())).count();
    if foreign > 0 && survey.fact("ca-key").is_some() {
        add(
            Configuration,
            format!("{foreign} revoked certificates stand in the list and not in the CA's database: openssl's next list would lose them"),
            "lists that offboard signs carry them forward; enter them into index.txt, or sign lists with offboard alone",
        );
    }
    findings
}

/// Programs that the script needs.
pub(super) fn missing(place: &Place, hello: &Survey) -> Vec<Finding> {
    let missing = hello.complaints.iter().filter(|(kind, _)| kind == "missing");
    missing
        .map(|(_, what)| Finding {
            kind: FindingKind::Configuration,
            place: Some(place.id.clone()),
            account: None,
            what: format!("{what} is missing"),
            hint: format!("install {what} there"),
        })
        .collect()
}
