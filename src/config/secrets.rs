//! Rules for the `secrets` of `offboard.yaml`.

use super::file::File;
use crate::connector::Connector;
use crate::model::{KeyFormat, PartKind, Period, SecretConsumer, SystemName};
use crate::source::{Mistake, choices, did_you_mean, yaml};
use std::collections::HashMap;
use std::sync::Arc;

/// The longest that sessions of the old value may go on after `set`.
const LONGEST_OVERLAP: Period = Period::seconds(3600);

/// A place in the document.
type Path<'a> = Vec<yaml::Node<'a>>;

fn at<'a>(secret: &'a str, more: &[&'a str]) -> Path<'a> {
    ["secrets", secret].into_iter().chain(more.iter().copied()).map(Into::into).collect()
}

fn of_consumer<'a>(secret: &'a str, item: usize, key: &'a str) -> Path<'a> {
    vec!["secrets".into(), secret.into(), "consumers".into(), item.into(), key.into()]
}

/// Every mistake that can be seen in the file alone.
pub fn check(file: &File, document: &yaml::Document, mistakes: &mut Vec<Mistake>) {
    let mut sources: HashMap<(String, String), Path> = HashMap::new();
    let mut keys: HashMap<(String, String, String, String), Path> = HashMap::new();
    for (name, secret) in &file.secrets {
        let name = name.0.as_str();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.len() > 64 || !name.chars().all(plain) || name.starts_with('-') {
            mistakes.push(
                Mistake::error("config", format!("a secret's name must be plain: `{name}`"))
                    .spot(document.key_spot(&["secrets".into(), name.into()], "the name"))
                    .help("valid here: letters, digits, `-`, `_` and `.`, at most 64"),
            );
        }
        let source = &secret.source;
        participant(file, document, &source.system, PartKind::Source, &at(name, &["source", "system"]), mistakes);
        let path = at(name, &["source", "account"]);
        if source.account.trim().is_empty() || source.account.contains(char::is_control) {
            mistakes.push(document.error(&path, "a source without an account", "as the system calls it"));
        }
        let alternate = at(name, &["source", "alternate"]);
        if let Some(other) = &source.alternate {
            if other.trim().is_empty() || other.contains(char::is_control) || *other == source.account {
                mistakes.push(document.error(
                    &alternate,
                    "an alternate needs an account of its own",
                    "another one than `account`",
                ));
            }
            let is_other = *other != source.account;
            let other = (source.system.0.clone(), other.clone());
            if let Some(first) = sources.get(&other) {
                let first = document.spot(first, "and here");
                mistakes.push(
                    document.error(&alternate, "two secrets are the password of one account", "here").spot(first),
                );
            } else if is_other {
                sources.insert(other, alternate);
            }
        }
        for (item, consumer) in secret.consumers.iter().enumerate() {
            match (&source.alternate, &consumer.user_key) {
                (Some(_), None) => mistakes.push(
                    document
                        .error(
                            &of_consumer(name, item, "key"),
                            "which key of the file names the account?",
                            "beside this one",
                        )
                        .help("where the source has an `alternate`, add `user-key`, such as `user-key: PGUSER`"),
                ),
                (None, Some(_)) => mistakes.push(document.error(
                    &of_consumer(name, item, "user-key"),
                    "the account does not change",
                    "only where the source has an `alternate`",
                )),
                _ => {}
            }
        }
        let own = |account: &str| account == source.account || source.alternate.as_deref() == Some(account);
        let mapped = |m: &crate::roster::Mapping| m.system == source.system && own(&m.account);
        if let Some(item) = file.accounts.iter().position(mapped) {
            let first = document.spot(&["accounts".into(), item.into(), "account".into()], "a person's account");
            mistakes.push(
                document
                    .error(&path, "the account of a shared secret is mapped to a person", "here")
                    .spot(first)
                    .help("decide for one of them: a person's account is disabled, a program's password is rotated"),
            );
        }
        let protects = |p: &crate::roster::Protected| {
            p.kind == crate::roster::Protection::BreakGlass
                && p.system == source.system
                && (p.account.eq_ignore_ascii_case(&source.account)
                    || source.alternate.as_ref().is_some_and(|other| p.account.eq_ignore_ascii_case(other)))
        };
        if let Some(item) = file.protected.iter().position(protects) {
            let first = document.spot(&["protected".into(), item.into(), "account".into()], "never touched");
            mistakes.push(
                document
                    .error(&path, "the account of a shared secret is protected as break-glass", "here")
                    .spot(first)
                    .help("decide for one of them: the password of a break-glass account is never changed by a run; `service` protects a program's account"),
            );
        }
        let account = (source.system.0.clone(), source.account.clone());
        if let Some(first) = sources.get(&account) {
            let first = document.spot(first, "and here");
            mistakes.push(
                document
                    .error(&path, "two secrets are the password of one account", "here")
                    .spot(first)
                    .help("name all its consumers in one secret"),
            );
        } else {
            sources.insert(account, path);
        }
        if secret.consumers.is_empty() {
            mistakes.push(
                document
                    .error(&at(name, &["consumers"]), "a secret without a consumer", "at least one belongs here")
                    .note("the old value is read where it is used: without that it could not be proved dead"),
            );
        }
        for (item, consumer) in secret.consumers.iter().enumerate() {
            let spot = |key| of_consumer(name, item, key);
            participant(file, document, &consumer.system, PartKind::Consumer, &spot("system"), mistakes);
            shape(document, consumer, &spot, mistakes);
            let place = (
                consumer.system.0.clone(),
                consumer.place.to_ascii_lowercase(),
                consumer.file.clone(),
                consumer.key.to_string(),
            );
            if let Some(first) = keys.get(&place) {
                let first = document.spot(first, "and here");
                let title = "the same key of the same file is there twice";
                mistakes.push(document.error(&spot("key"), title, "here").spot(first));
            } else {
                keys.insert(place, spot("key"));
            }
        }
        if secret.overlap.is_some_and(|overlap| overlap > LONGEST_OVERLAP) {
            let path = at(name, &["overlap"]);
            let title = "the old value may not be in use for so long";
            mistakes.push(
                document
                    .error(&path, title, format!("at most `{LONGEST_OVERLAP}`"))
                    .note("the run goes on until it is over, and sessions that the old value opened go on with it"),
            );
        }
        let known = &secret.known_to;
        let lists = [("people", &known.people), ("departments", &known.departments), ("members-of", &known.members_of)];
        for (key, list) in lists {
            if list.as_ref().is_some_and(|list| list.iter().all(|word| word.trim().is_empty())) {
                let path = at(name, &["known-to", key]);
                mistakes.push(document.error(&path, "an empty list names nobody", "leave it out, or fill it"));
            }
        }
        if lists.iter().all(|(_, list)| list.is_none()) {
            let path = at(name, &["known-to"]);
            mistakes.push(
                document
                    .error(&path, "nobody may know this secret, so it is never rotated", "at least one belongs here")
                    .help("valid here: `people`, `departments`, `members-of`"),
            );
        }
    }
}

/// The system is there, and can be what it is to be.
fn participant(
    file: &File,
    document: &yaml::Document,
    system: &SystemName,
    kind: PartKind,
    path: &[yaml::Node],
    mistakes: &mut Vec<Mistake>,
) {
    let (word, rotates) = match kind {
        PartKind::Source => ("the source", "a source"),
        PartKind::Consumer => ("a consumer", "consumers"),
    };
    let Some(settings) = file.systems.get(system) else {
        let names: Vec<&str> = file.systems.keys().map(|name| name.0.as_str()).collect();
        let label = did_you_mean(&system.0, &names).map(|meant| format!("did you mean `{meant}`?"));
        mistakes.push(
            document
                .error(path, format!("unknown system `{system}`"), label.unwrap_or_default())
                .help(format!("valid here: {}", choices(&names))),
        );
        return;
    };
    if !settings.manifest().rotates.contains(&kind) {
        let able: Vec<&str> = crate::connectors::manifests()
            .into_iter()
            .filter(|manifest| manifest.rotates.contains(&kind))
            .map(|manifest| manifest.name)
            .collect();
        let title = format!("`{system}` cannot be {word} of a secret");
        mistakes.push(
            document
                .error(path, title, format!("it is of the kind `{}`", settings.manifest().name))
                .help(format!("kinds of system that can be {rotates}: {}", choices(&able))),
        );
    }
}

/// What stands in a consumer by itself.
fn shape<'a>(
    document: &yaml::Document,
    consumer: &SecretConsumer,
    spot: &dyn Fn(&'static str) -> Path<'a>,
    mistakes: &mut Vec<Mistake>,
) {
    let file = consumer.file.as_str();
    if !file.starts_with('/') {
        mistakes.push(document.error(&spot("file"), "a consumer's file needs a whole path", "begins with `/`"));
    } else if file.contains(char::is_control)
        || file[1..].split('/').any(|part| part.is_empty() || part == "." || part == "..")
    {
        mistakes.push(document.error(
            &spot("file"),
            "a consumer's file needs a plain path",
            "no `.`, `..`, `//` or control characters",
        ));
    }
    if let Some((title, label)) = odd_key(consumer) {
        let mistake = document.error(&spot("key"), title, label);
        let meant =
            [(".ini", "ini"), (".yaml", "yaml"), (".yml", "yaml"), (".json", "json"), (".properties", "properties")]
                .iter()
                .find(|(ending, _)| consumer.format == KeyFormat::Env && file.ends_with(ending));
        mistakes.push(match meant {
            Some((_, format)) => mistake.help(format!("for such a file, say `format: {format}`")),
            None => mistake,
        });
    }
    for (name, command) in [("reload", &consumer.reload), ("health", &consumer.health)] {
        if command.first().is_none_or(|program| program.trim().is_empty()) {
            mistakes.push(
                document
                    .error(&spot(name), "a command without a program", "a list: the program and its arguments")
                    .help("for example: [systemctl, reload, portal]"),
            );
        } else if command.iter().any(|word| word.contains(char::is_control)) {
            mistakes.push(document.error(&spot(name), "a command with control characters", ""));
        }
    }
}

/// What is wrong with the key, and what belongs there instead.
fn odd_key(consumer: &SecretConsumer) -> Option<(&'static str, &'static str)> {
    let path = consumer.path();
    if path.is_empty() || path.iter().any(|part| part.is_empty() || part.contains(char::is_control)) {
        return Some(("a key with an empty part, or with control characters", "a key, or a list of keys"));
    }
    match consumer.format {
        KeyFormat::Env => {
            let mut key = path[0].chars();
            let begins = key.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
            let plain = path.len() == 1 && begins && key.all(|c| c.is_ascii_alphanumeric() || c == '_');
            (!plain).then_some(("that is no key of an env file", "letters, digits and `_`"))
        }
        KeyFormat::Properties => (path.len() != 1)
            .then_some(("that is no key of a properties file", "one key, dots and all: there is nothing below it")),
        KeyFormat::Ini => {
            let odd = |part: &String| {
                part.trim() != part || part.contains([']', '=', ':']) || part.starts_with(['[', ';', '#'])
            };
            let wanted = "`section.key`, a list of section and key, or a key alone";
            (path.len() > 2 || path.last().is_some_and(odd) || (path.len() == 2 && path[0].contains(']')))
                .then_some(("that is no key of an INI file", wanted))
        }
        KeyFormat::Yaml | KeyFormat::Json => {
            (path.len() > 32).then_some(("that key is too deep in its file", "at most 32 parts"))
        }
    }
}

/// Every mistake that needs the places of the systems.
pub fn places(file: &File, document: &yaml::Document, connectors: &[Arc<dyn Connector>]) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    let of = |system: &SystemName| -> Vec<String> {
        let all = connectors.iter().flat_map(|connector| connector.places());
        all.filter(|place| place.system == *system).map(|place| place.address).collect()
    };
    let unknown = |path: &[yaml::Node], place: &str, known: &[String]| {
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let label = did_you_mean(place, &known).map(|meant| format!("did you mean `{meant}`?"));
        let few = choices(&known[..known.len().min(20)]);
        document
            .error(path, format!("the system has no place `{place}`"), label.unwrap_or_default())
            .help(format!("valid here: {few}"))
    };
    for (name, secret) in &file.secrets {
        let known = of(&secret.source.system);
        match &secret.source.place {
            Some(place) if !known.contains(place) => {
                mistakes.push(unknown(&at(&name.0, &["source", "place"]), place, &known));
            }
            None if known.len() > 1 => {
                let known: Vec<&str> = known.iter().map(String::as_str).collect();
                let path = at(&name.0, &["source", "system"]);
                mistakes.push(
                    document
                        .error(&path, "which of its servers takes the change?", "it has more than one")
                        .help(format!("add `place` with one of {}", choices(&known))),
                );
            }
            _ => {}
        }
        for (item, consumer) in secret.consumers.iter().enumerate() {
            let known = of(&consumer.system);
            if !known.contains(&consumer.place) {
                mistakes.push(unknown(&of_consumer(&name.0, item, "place"), &consumer.place, &known));
            }
        }
    }
    mistakes
}
