//! Rules for the `secrets` of `offboard.yaml`.

mod shape;

use super::file::File;
use crate::connector::Connector;
use crate::model::{HealthChecks, PartKind, Period, SecretName, SharedSecret, SystemName};
use crate::source::{Mistake, choices, did_you_mean, yaml};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
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
    let mut sources: HashMap<(String, String, String, String), Path> = HashMap::new();
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
        let kind = match (&source.account, &source.file, &source.setter) {
            (None, None, _) if source.authorizes.is_some() => PartKind::Authorized,
            (None, Some(_), _) => PartKind::SourceFile,
            (_, _, Some(_)) => PartKind::Checked,
            _ => PartKind::Source,
        };
        participant(file, document, &source.system, kind, &at(name, &["source", "system"]), mistakes);
        shape::source(document, source, &|key| at(name, &["source", key]), mistakes);
        if let Some(setter) = &source.setter {
            participant(
                file,
                document,
                &setter.system,
                PartKind::Setter,
                &at(name, &["source", "setter", "system"]),
                mistakes,
            );
            shape::setter(document, source, setter, &|key| at(name, &["source", "setter", key]), mistakes);
        }
        // What the source is there: an account, or the file of a program.
        let (object, path) = match (&source.account, &source.authorizes, &source.file) {
            (Some(account), ..) => (account.clone(), "account"),
            (None, Some(account), _) => (account.clone(), "authorizes"),
            (None, None, file) => (file.clone().unwrap_or_default(), "file"),
        };
        let path = at(name, &["source", path]);
        let alternate = at(name, &["source", "alternate"]);
        if let Some(other) = &source.alternate {
            if other.trim().is_empty() || other.contains(char::is_control) || source.account.as_ref() == Some(other) {
                mistakes.push(document.error(
                    &alternate,
                    "an alternate needs an account of its own",
                    "another one than `account`",
                ));
            }
            if source.account.is_some() {
                participant(file, document, &source.system, PartKind::Former, &alternate, mistakes);
            }
            if secret.overlap.is_some() {
                mistakes.push(
                    document
                        .error(&at(name, &["overlap"]), "accounts that alternate have no overlap", "leave it out")
                        .note("the password of the account that programs leave would be good for so long, also to the leaver"),
                );
            }
            let is_other = source.account.as_ref() != Some(other);
            let other = (source.system.0.clone(), String::new(), other.clone(), String::new());
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
                (Some(_), Some(user_key)) if Some(user_key) == consumer.key.as_ref() => mistakes.push(document.error(
                    &of_consumer(name, item, "user-key"),
                    "the account's name and the value cannot have the same key",
                    "the key of the name",
                )),
                (None, Some(_)) => mistakes.push(document.error(
                    &of_consumer(name, item, "user-key"),
                    "the account does not change",
                    "only where the source has an `alternate`",
                )),
                _ => {}
            }
        }
        let also = source.also.iter().filter_map(|other| other.authorizes.as_ref());
        let accounts = source.account.iter().chain(&source.alternate).chain(&source.authorizes).chain(also);
        let accounts: Vec<&String> = accounts.collect();
        let own = |account: &String| accounts.contains(&account);
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
                && accounts.iter().any(|account| p.account.eq_ignore_ascii_case(account))
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
        let place = source.place.as_ref().filter(|_| source.file.is_some()).cloned().unwrap_or_default();
        let key = source.key.as_ref().map(ToString::to_string).unwrap_or_default();
        let account = (source.system.0.clone(), place.to_ascii_lowercase(), object, key);
        if source.authorizes.is_some() {
            // Any number of keys may open one account.
        } else if let Some(first) = sources.get(&account) {
            let first = document.spot(first, "and here");
            let title = match source.file {
                Some(_) => "two secrets have the same key of the same file as their source",
                None => "two secrets are the password of one account",
            };
            mistakes
                .push(document.error(&path, title, "here").spot(first).help("name all its consumers in one secret"));
        } else {
            sources.insert(account.clone(), path.clone());
        }
        if source.file.is_some() {
            keys.insert(account, path);
        }
        // What a setter sets can be read where it is set.
        if secret.consumers.is_empty() && source.setter.is_none() {
            mistakes.push(
                document
                    .error(&at(name, &["consumers"]), "a secret without a consumer", "at least one belongs here")
                    .note("the old value is read where it is used: without that it could not be proved dead"),
            );
        }
        for (item, consumer) in secret.consumers.iter().enumerate() {
            let spot = |key| of_consumer(name, item, key);
            let kind = if consumer.path.is_some() { PartKind::ConsumerPath } else { PartKind::Consumer };
            participant(file, document, &consumer.system, kind, &spot("system"), mistakes);
            shape::consumer(document, consumer, source.format_of_consumers(), &spot, mistakes);
            let Some(object) = consumer.file.as_ref().or(consumer.path.as_ref()) else { continue };
            let key = if consumer.key.is_some() { "key" } else { "file" };
            let place = (
                consumer.system.0.clone(),
                consumer.place.clone().unwrap_or_default().to_ascii_lowercase(),
                object.clone(),
                consumer.key.as_ref().map(ToString::to_string).unwrap_or_default(),
            );
            if let Some(first) = keys.get(&place) {
                let first = document.spot(first, "and here");
                let title = match consumer.file {
                    Some(_) => "the same key of the same file is there twice",
                    None => "the same key of the same path is there twice",
                };
                mistakes.push(document.error(&spot(key), title, "here").spot(first));
            } else {
                keys.insert(place, spot(key));
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
        PartKind::Former => ("the source with an `alternate`", "such a source"),
        PartKind::Checked => ("the source with a `setter`", "such a source"),
        PartKind::Authorized => ("the source with `authorizes`", "such a source"),
        PartKind::Setter => ("the setter", "setters"),
        PartKind::SourceFile => ("the source", "a source that is a file"),
        PartKind::Consumer => ("a consumer", "consumers"),
        PartKind::ConsumerPath => ("a consumer with a path", "consumers with a path"),
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
        let mistake = document.error(path, title, format!("it is of the kind `{}`", settings.manifest().name));
        let mistake = match kind {
            PartKind::Source if settings.manifest().rotates.contains(&PartKind::SourceFile) => {
                mistake.help("a host can: name the `file` and the `key` that the program which checks the value reads")
            }
            PartKind::Consumer if settings.manifest().rotates.contains(&PartKind::ConsumerPath) => {
                mistake.help("it keeps secrets under paths: say `path` instead of `file`")
            }
            _ => mistake,
        };
        mistakes.push(match able.as_slice() {
            [] => mistake,
            able => mistake.help(format!("kinds of system that can be {rotates}: {}", choices(able))),
        });
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
    let which = |place: Option<&String>, system: &SystemName, at_place: &[yaml::Node], at_system: &[yaml::Node]| {
        let known = of(system);
        match place {
            Some(place) if !known.contains(place) => Some(unknown(at_place, place, &known)),
            None if known.len() > 1 => {
                let known: Vec<&str> = known.iter().map(String::as_str).collect();
                Some(
                    document
                        .error(at_system, "which of its servers takes the change?", "it has more than one")
                        .help(format!("add `place` with one of {}", choices(&known))),
                )
            }
            _ => None,
        }
    };
    for (name, secret) in &file.secrets {
        let source = &secret.source;
        let spot = |key| at(&name.0, &["source", key]);
        if source.file.is_none() || source.place.is_some() {
            mistakes.extend(which(source.place.as_ref(), &source.system, &spot("place"), &spot("system")));
        }
        for (item, other) in source.also.iter().enumerate() {
            let mut path = at(&name.0, &["source", "also"]);
            path.extend([yaml::Node::from(item), "place".into()]);
            mistakes.extend(which(Some(&other.place), &source.system, &path, &path));
        }
        if let Some(setter) = &source.setter {
            let spot = |key| at(&name.0, &["source", "setter", key]);
            mistakes.extend(which(setter.place.as_ref(), &setter.system, &spot("place"), &spot("system")));
        }
        let tells = connectors.iter().any(|c| c.shows_logins() && c.places().iter().any(|p| p.system == source.system));
        for (item, consumer) in secret.consumers.iter().enumerate() {
            let spot = |key| of_consumer(&name.0, item, key);
            mistakes.extend(which(consumer.place.as_ref(), &consumer.system, &spot("place"), &spot("system")));
            if consumer.health.as_ref().is_some_and(|health| health.login) && !tells {
                let title = "the source cannot show a login of this consumer's";
                mistakes.push(
                    document
                        .error(&spot("health"), title, format!("`{}` does not tell who has logged in", source.system))
                        .help("valid here: `command`, `http`, `tcp`"),
                );
            }
        }
    }
    mistakes
}

/// Where a check of a secret names a CA, and the file.
pub fn files(file: &File) -> Vec<(Path<'_>, PathBuf)> {
    let mut files = Vec::new();
    for (name, secret) in &file.secrets {
        let ca = |health: &Option<HealthChecks>| health.as_ref()?.http.as_ref()?.ca.clone();
        files.extend(ca(&secret.source.health).map(|ca| (at(&name.0, &["source", "health", "http", "ca"]), ca)));
        for (item, consumer) in secret.consumers.iter().enumerate() {
            let mut path = of_consumer(&name.0, item, "health");
            path.extend([yaml::Node::Key("http"), yaml::Node::Key("ca")]);
            files.extend(ca(&consumer.health).map(|ca| (path, ca)));
        }
    }
    files
}

/// The secrets, with the files of their checks where they are seen from anywhere: relative ones start at `base`.
pub fn with_files_at(base: &std::path::Path, file: &File) -> BTreeMap<SecretName, SharedSecret> {
    let mut secrets = file.secrets.clone();
    for secret in secrets.values_mut() {
        let healths = secret.consumers.iter_mut().map(|consumer| &mut consumer.health);
        for health in healths.chain([&mut secret.source.health]).flatten() {
            if let Some(ca) = health.http.as_mut().and_then(|http| http.ca.as_mut()) {
                *ca = base.join(&*ca);
            }
        }
    }
    secrets
}
