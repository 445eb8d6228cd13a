//! Rules for `offboard.yaml` that no type can express.

use super::file::File;
use crate::model::{Fingerprint, PersonId, WorkerStatus};
use crate::roster::{KeyOf, Roster};
use crate::source::{Mistake, choices, did_you_mean, yaml};
use russh::keys::ssh_key::{HashAlg, PublicKey};
use std::collections::HashMap;

/// Where fewer work, half of them is nobody in particular.
const FEW: usize = 3;

/// Every mistake of `file`, which was read from `document`, as far as it can be seen without any other file; and the declared keys.
pub fn check(file: &File, document: &yaml::Document) -> (Vec<KeyOf>, Vec<Mistake>) {
    let mut mistakes = Vec::new();
    if file.company.trim().is_empty() {
        mistakes.push(document.error(&["company".into()], "the company has no name", "it heads every report"));
    }
    if file.preset.is_some_and(super::limits::Preset::needs_limits) && file.limits.is_empty() {
        mistakes.push(
            document
                .error(&["preset".into()], "this standard leaves the time to you", "add `limits`")
                .help("for example: limits: { access-disabled: 24h }"),
        );
    }
    if let Some(zone) = &file.roster.zone
        && let Err(help) = crate::roster::zone(zone)
    {
        let path = ["roster".into(), "zone".into()];
        mistakes.push(document.error(&path, format!("unknown zone `{zone}`"), "").help(help));
    }
    if file.serve.leavers_at_once == 0 {
        let path = ["serve".into(), "leavers-at-once".into()];
        mistakes.push(
            document
                .error(&path, "a limit of 0 picks up nobody", "at least 1")
                .help("to pick up nobody, write: leavers: false"),
        );
    }
    if !file.serve.health.ip().is_loopback() {
        let path = ["serve".into(), "health".into()];
        mistakes.push(
            document
                .error(&path, "health is told on this machine only", "an address of 127.0.0.0/8, or [::1]")
                .help("it has no log-in; put a proxy of your own before it if others must ask"),
        );
    }
    systems(file, document, &mut mistakes);
    mail(file, document, &mut mistakes);
    accounts(file, document, &mut mistakes);
    super::secrets::check(file, document, &mut mistakes);
    let keys = keys(file, document, &mut mistakes);
    (keys, mistakes)
}

fn systems(file: &File, document: &yaml::Document, mistakes: &mut Vec<Mistake>) {
    if file.systems.is_empty() {
        mistakes.push(
            document
                .error(&["systems".into()], "no system is configured", "at least one belongs here")
                .help(format!("the kinds of system: {}", choices(crate::connectors::NAMES))),
        );
    }
    for name in file.systems.keys().map(|name| name.0.as_str()) {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.len() > 64 || !name.chars().all(plain) || name.starts_with('-') {
            let spot = document.key_spot(&["systems".into(), name.into()], "the name");
            mistakes.push(
                Mistake::error("config", format!("a system's name must be plain: `{name}`"))
                    .spot(spot)
                    .help("valid here: letters, digits, `-`, `_` and `.`, at most 64"),
            );
        }
    }
}

fn mail(file: &File, document: &yaml::Document, mistakes: &mut Vec<Mistake>) {
    let Some(mail) = &file.mail else { return };
    let at = |key: &'static str| ["mail".into(), key.into()];
    if let Err(why) = mail.server() {
        let help = "write `smtp.example.com` or `smtp.example.com:587`";
        mistakes.push(document.error(&at("smtp"), "this is no mail server", why).help(help));
    } else if mail.tls == crate::notify::Tls::None && !mail.is_local() {
        mistakes.push(
            document
                .error(
                    &at("tls"),
                    "mail names people, and a password would go with it in the clear",
                    "only to this machine",
                )
                .help("valid here: `starttls` or `tls`; `none` with an address such as `127.0.0.1`"),
        );
    }
    if mail.tls == crate::notify::Tls::None && mail.ca.is_some() {
        mistakes.push(document.error(&at("ca"), "without TLS no certificate is looked at", "leave it out"));
    }
    if let Err(why) = mail.sender() {
        mistakes.push(document.error(&at("from"), why, "the sender"));
    }
    if mail.to.is_empty() {
        let title = "nobody is told";
        mistakes.push(document.error(&at("to"), title, "such as [security@example.com]"));
    }
    match (&mail.user, &mail.password) {
        (Some(user), None) if !user.is_empty() => mistakes.push(
            document.error(&at("user"), "a user without a password", "").help("add `password`, or leave `user` out"),
        ),
        (None, Some(_)) => mistakes.push(
            document
                .error(&at("password"), "a password without a user", "")
                .help("add `user`, or leave `password` out"),
        ),
        (Some(user), _) if user.is_empty() || user.chars().any(char::is_control) => {
            mistakes.push(document.error(&at("user"), "this is no user name", ""));
        }
        _ => {}
    }
}

/// The rules for `accounts` and `protected`.
fn accounts(file: &File, document: &yaml::Document, mistakes: &mut Vec<Mistake>) {
    // (system, account) → where it was said first, and of whom.
    let mut said: HashMap<(String, String), (Vec<yaml::Node>, String)> = HashMap::new();
    let mapped = file.accounts.iter().map(|m| (&m.system, &m.account, m.person.to_ascii_lowercase()));
    let protected = file.protected.iter().map(|p| (&p.system, &p.account, String::new()));
    let all = mapped
        .enumerate()
        .map(|(item, entry)| ("accounts", item, entry))
        .chain(protected.enumerate().map(|(item, entry)| ("protected", item, entry)));
    for (list, item, (system, account, person)) in all {
        if !file.systems.contains_key(system) {
            let names: Vec<&str> = file.systems.keys().map(|name| name.0.as_str()).collect();
            let label = did_you_mean(&system.0, &names).map(|meant| format!("did you mean `{meant}`?"));
            mistakes.push(
                document
                    .error(
                        &[list.into(), item.into(), "system".into()],
                        format!("unknown system `{system}`"),
                        label.unwrap_or_default(),
                    )
                    .help(format!("valid here: {}", choices(&names))),
            );
            continue;
        }
        let path = vec![list.into(), item.into(), "account".into()];
        if account.trim().is_empty() {
            mistakes.push(document.error(&path, "an account without a name", "as the system calls it"));
            continue;
        }
        let place = (system.0.clone(), account.to_ascii_lowercase());
        let Some((first, who)) = said.get(&place) else {
            said.insert(place, (path, person));
            continue;
        };
        let title = match (who.is_empty(), person.is_empty()) {
            (false, false) if *who == person => "an account is mapped twice".to_string(),
            (false, false) => "an account is mapped to two people".to_string(),
            (true, true) => "an account is protected twice".to_string(),
            _ => "an account is mapped to a person and protected as well".to_string(),
        };
        let mistake = document.error(&path, title, "here").spot(document.spot(first, "and here"));
        mistakes.push(mistake.help("decide for one of them: a protected account is never disabled, a person's is"));
    }
}

fn keys(file: &File, document: &yaml::Document, mistakes: &mut Vec<Mistake>) -> Vec<KeyOf> {
    let mut keys: Vec<KeyOf> = Vec::new();
    for (item, declared) in file.keys_of.iter().enumerate() {
        let path = ["keys-of".into(), item.into(), "key".into()];
        if declared.key.contains("PRIVATE KEY") {
            // The line itself is not shown.
            let path = ["keys-of".into(), item.into(), "person".into()];
            mistakes.push(
                document
                    .error(&path, "a private key where a public key belongs", "of this person")
                    .help("remove it, and have the person make a new pair: a private key in a file is known to others"),
            );
            continue;
        }
        match PublicKey::from_openssh(declared.key.trim()) {
            Ok(key) => {
                let key = Fingerprint(key.fingerprint(HashAlg::Sha256).to_string());
                if let Some(first) = keys.iter().position(|known| known.key == key) {
                    let first = document.spot(&["keys-of".into(), first.into(), "key".into()], "the first time");
                    mistakes.push(
                        document
                            .error(&path, format!("the key {key} is declared twice"), "the second time")
                            .spot(first),
                    );
                }
                keys.push(KeyOf { person: PersonId(declared.person.clone()), key });
            }
            Err(error) => mistakes.push(
                document
                    .error(&path, "this is not an OpenSSH public key", error.to_string())
                    .help("write it as the `.pub` file has it, without options: `ssh-ed25519 AAAA… comment`"),
            ),
        }
    }
    keys
}

/// Every person of `accounts`, `keys-of`, `secrets` and the systems' own blocks who is not in the roster.
pub fn people(file: &File, document: &yaml::Document, roster: &Roster) -> Vec<Mistake> {
    let blocks: Vec<_> = file.systems.iter().map(|(name, settings)| (name, settings, settings.mapped())).collect();
    let in_blocks = blocks.iter().flat_map(|(name, settings, mapped)| {
        let block: [yaml::Node; 3] = ["systems".into(), name.0.as_str().into(), settings.manifest().name.into()];
        mapped.iter().map(move |one| {
            let path = block.iter().cloned().chain(["peers".into(), one.written.as_str().into()]).collect();
            (path, &one.person)
        })
    });
    let mapped = file.accounts.iter().enumerate().map(|(item, mapping)| ("accounts", item, &mapping.person));
    let declared = file.keys_of.iter().enumerate().map(|(item, key)| ("keys-of", item, &key.person));
    let mapped =
        mapped.chain(declared).map(|(list, item, person)| (vec![list.into(), item.into(), "person".into()], person));
    let knowing = file.secrets.iter().flat_map(|(name, secret)| {
        let path = |item: usize| {
            vec!["secrets".into(), name.0.as_str().into(), "known-to".into(), "people".into(), yaml::Node::Item(item)]
        };
        secret.known_to.people.iter().flatten().enumerate().map(move |(item, person)| (path(item), person))
    });
    let unknown = mapped.chain(knowing).chain(in_blocks).filter(|(_, person)| roster.get(person).is_none());
    unknown
        .map(|(path, person)| {
            let ids: Vec<&str> = roster.people().iter().map(|person| person.id.0.as_str()).collect();
            let meant =
                roster.find(person).map(|found| found.id.0.as_str()).ok().or_else(|| did_you_mean(person, &ids));
            let label = meant.map(|meant| format!("did you mean `{meant}`?")).unwrap_or_default();
            document
                .error(&path, format!("nobody in the roster has the id `{person}`"), label)
                .help(format!("write the `id` of a row of {}", roster.input().file))
        })
        .collect()
}

/// Secrets that more than half of those who work here may know: whoever leaves, they are rotated.
pub fn widely_known(file: &File, document: &yaml::Document, roster: &Roster) -> Vec<Mistake> {
    let active: Vec<_> = roster.people().iter().filter(|person| person.status == WorkerStatus::Active).collect();
    let mut warnings = Vec::new();
    for (name, secret) in &file.secrets {
        let knowing = active.iter().filter(|person| !secret.known_to.reasons(person, []).is_empty()).count();
        if active.len() >= FEW && knowing * 2 > active.len() {
            let path = ["secrets".into(), name.0.as_str().into(), "known-to".into()];
            let title = format!("{knowing} of the {} people who work here may know the secret {name}", active.len());
            warnings.push(
                Mistake::warning("config", title)
                    .spot(document.spot(&path, "more than half"))
                    .help("give it to fewer: it is rotated whenever one of them leaves"),
            );
        }
    }
    warnings
}

/// Departments that may know a secret and that nobody in the roster is in: a word that is written wrong would rotate nothing. But the last one
/// of a department may have left, so it is a warning.
pub fn departments(file: &File, document: &yaml::Document, roster: &Roster) -> Vec<Mistake> {
    let known: std::collections::BTreeSet<&str> =
        roster.people().iter().filter_map(|person| person.department.as_deref()).map(str::trim).collect();
    let known: Vec<&str> = known.into_iter().collect();
    let mut warnings = Vec::new();
    for (name, secret) in &file.secrets {
        for (item, department) in secret.known_to.departments.iter().flatten().enumerate() {
            if known.iter().any(|k| k.to_lowercase() == department.trim().to_lowercase()) {
                continue;
            }
            let path = ["secrets".into(), name.0.as_str().into(), "known-to".into(), "departments".into(), item.into()];
            let label = did_you_mean(department, &known).map(|meant| format!("did you mean `{meant}`?"));
            warnings.push(
                Mistake::warning("config", format!("nobody in the roster is in the department `{department}`"))
                    .spot(document.spot(&path, label.unwrap_or_default())),
            );
        }
    }
    warnings
}
