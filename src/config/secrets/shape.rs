//! What stands in the source or in a consumer of a secret by itself.

use super::Path;
use crate::model::{
    Asker, HealthChecks, KeptFile, KeyFormat, KeyPath, Part, SecretConsumer, SecretSetter, SecretSource,
};
use crate::source::{Mistake, yaml};
use crate::wire::reach::{HostPort, Url};

/// Where a key of the participant stands.
type Spot<'a, 's> = &'s dyn Fn(&'static str) -> Path<'a>;

/// Every mistake in a source.
pub fn source(document: &yaml::Document, source: &SecretSource, spot: Spot, mistakes: &mut Vec<Mistake>) {
    if let Some(account) = &source.authorizes {
        authorized(document, source, account, spot, mistakes);
        return;
    }
    if !source.also.is_empty() {
        mistakes.push(document.error(
            &spot("also"),
            "only a private key opens further accounts",
            "with `authorizes`; leave it out",
        ));
    }
    if source.file.is_some() && source.format == Some(KeyFormat::SshKey) {
        let title = "a private key is checked by the account that it opens";
        mistakes.push(document.error(&spot("format"), title, "`authorizes` belongs here instead of `file`"));
    }
    match (&source.account, &source.file) {
        (Some(_), Some(_)) => {
            let title = "a source is an account or a file, not both";
            mistakes.push(document.error(&spot("file"), title, "leave one of them out"));
        }
        (Some(account), None) => {
            if account.trim().is_empty() || account.contains(char::is_control) {
                let title = "a source without an account";
                mistakes.push(document.error(&spot("account"), title, "as the system calls it"));
            }
            let odd = [
                ("format", source.format.is_some()),
                ("key", source.key.is_some()),
                ("reload", !source.reload.is_empty()),
                ("health", source.health.is_some()),
                ("probe", !source.probe.is_empty()),
            ];
            for key in odd.into_iter().filter(|(_, there)| *there).map(|(key, _)| key) {
                let title = format!("an account has no `{key}`: that belongs to a file");
                mistakes.push(document.error(&spot(key), title, "leave it out"));
            }
        }
        (None, None) => mistakes.push(
            document
                .error(
                    &spot("account"),
                    "a source without an account",
                    "`account`, as the system calls it, belongs here",
                )
                .help("for a program on a host that reads the value from a file: `file` and `key`"),
        ),
        (None, Some(_)) => match source.part() {
            Some(Part::SourceFile(kept)) => {
                if source.alternate.is_some() {
                    let title = "a file has no `alternate`: that belongs to an account";
                    mistakes.push(document.error(&spot("alternate"), title, "leave it out"));
                }
                if source.place.is_none() {
                    let title = "a file without its host";
                    mistakes.push(document.error(&spot("place"), title, "`place` belongs here"));
                }
                file(document, &kept, spot, mistakes);
                if !kept.probe.is_empty() {
                    command(document, &kept.probe, spot, "probe", mistakes);
                }
                if kept.health.login {
                    let title = "a login is a consumer's";
                    mistakes.push(document.error(&spot("health"), title, "valid here: `command`, `http`, `tcp`"));
                }
            }
            _ => mistakes.push(document.error(&spot("key"), "a file without a key", "`key` belongs here")),
        },
    }
}

/// Every mistake in a source that is an account which a private key opens.
fn authorized(
    document: &yaml::Document,
    source: &SecretSource,
    account: &str,
    spot: Spot,
    mistakes: &mut Vec<Mistake>,
) {
    if account.trim().is_empty() || account.contains(char::is_control) {
        mistakes.push(document.error(
            &spot("authorizes"),
            "a source without an account",
            "the account's name on the host",
        ));
    }
    for (item, other) in source.also.iter().enumerate() {
        let name = other.authorizes.as_deref().unwrap_or(account);
        let at = |key| [spot("also"), vec![item.into(), yaml::Node::Key(key)]].concat();
        if name.trim().is_empty() || name.contains(char::is_control) {
            mistakes.push(document.error(
                &at("authorizes"),
                "an account without a name",
                "the account's name on the host",
            ));
        }
        let same = |place: Option<&String>, account: &str| {
            place.is_some_and(|p| p.eq_ignore_ascii_case(&other.place)) && account == name
        };
        let earlier =
            source.also[..item].iter().any(|o| same(Some(&o.place), o.authorizes.as_deref().unwrap_or(account)));
        if earlier || same(source.place.as_ref(), account) {
            mistakes.push(document.error(&at("place"), "the same account is there twice", "leave one of them out"));
        }
    }
    let odd = [
        ("account", source.account.is_some()),
        ("alternate", source.alternate.is_some()),
        ("setter", source.setter.is_some()),
        ("file", source.file.is_some()),
        ("format", source.format.is_some()),
        ("key", source.key.is_some()),
        ("reload", !source.reload.is_empty()),
        ("health", source.health.is_some()),
        ("probe", !source.probe.is_empty()),
    ];
    for key in odd.into_iter().filter(|(_, there)| *there).map(|(key, _)| key) {
        mistakes.push(document.error(&spot(key), format!("`authorizes` goes without `{key}`"), "leave it out"));
    }
}

/// Every mistake in what sets the source's password.
pub fn setter(
    document: &yaml::Document,
    source: &SecretSource,
    setter: &SecretSetter,
    spot: Spot,
    mistakes: &mut Vec<Mistake>,
) {
    if source.account.is_none() {
        let title = "a setter sets the password of an account";
        mistakes.push(document.error(&spot("system"), title, "`account` belongs beside it, without `file`"));
    }
    if source.alternate.is_some() {
        let title = "a setter sets the password of one account";
        mistakes.push(document.error(&spot("system"), title, "not with an `alternate`"));
    }
    if setter.static_role(source.account.as_deref().unwrap_or_default()).is_none() {
        let title = "that is no static role";
        mistakes.push(document.error(&spot("static-role"), title, "such as `database/static-roles/portal`"));
    }
}

/// Every mistake in a consumer.
pub fn consumer(
    document: &yaml::Document,
    consumer: &SecretConsumer,
    own_format: Option<KeyFormat>,
    spot: Spot,
    mistakes: &mut Vec<Mistake>,
) {
    let whole = consumer.format == Some(KeyFormat::SshKey);
    let format = consumer.format.filter(|format| format.is_of_its_own());
    if own_format != format {
        let (title, label) = match own_format {
            Some(KeyFormat::SshKey) => {
                ("the value is a private key: its file has nothing else in it", "`format: ssh-key` belongs here")
            }
            Some(_) => ("the value is a preshared key", "`format: wireguard` belongs here"),
            None => ("the value is a password", "not with this source"),
        };
        mistakes.push(document.error(&spot("format"), title, label).help(
            "a private key's source has `authorizes: ACCOUNT`, and its consumers `format: ssh-key`; a preshared key's source and consumers are files with \
             `format: wireguard`",
        ));
    }
    let odd =
        [("key", consumer.key.is_some()), ("user-key", consumer.user_key.is_some()), ("path", consumer.path.is_some())];
    for key in odd.into_iter().filter(|(_, there)| whole && *there).map(|(key, _)| key) {
        mistakes.push(document.error(&spot(key), "a private key is a whole file", "leave it out"));
    }
    if consumer.key.is_none() && !whole {
        mistakes.push(document.error(&spot("key"), "a consumer without a key", "`key` belongs here"));
        return;
    }
    match consumer.part() {
        Some(Part::Consumer(kept)) => {
            if consumer.place.is_none() {
                let title = "a file without its host";
                mistakes.push(document.error(&spot("place"), title, "`place` belongs here"));
            }
            file(document, &kept, spot, mistakes);
        }
        Some(Part::ConsumerPath(kept)) => {
            let path = kept.path.as_str();
            if path.is_empty()
                || path.contains(char::is_control)
                || path.split('/').any(|part| part.is_empty() || part == "." || part == "..")
            {
                let title = "a consumer's path needs to be plain";
                mistakes.push(document.error(&spot("path"), title, "such as `kv/billing/app`"));
            }
            let parts = kept_key(&kept.key);
            if parts.iter().any(|part| part.is_empty() || part.contains(char::is_control)) || parts.is_empty() {
                let title = "a key with an empty part, or with control characters";
                mistakes.push(document.error(&spot("key"), title, "a key, or a list of keys"));
            }
            let odd = [("format", consumer.format.is_some()), ("reload", !consumer.reload.is_empty())];
            for key in odd.into_iter().filter(|(_, there)| *there).map(|(key, _)| key) {
                let title = format!("a path has no `{key}`: that belongs to a file");
                mistakes.push(document.error(&spot(key), title, "leave it out"));
            }
            health(document, &kept.health, false, spot, mistakes);
            if kept.health.login && kept.from.is_empty() {
                mistakes.push(
                    document
                        .error(&spot("health"), "nobody knows where this consumer logs in from", "`login` needs `from`")
                        .help("for example: from: [192.0.2.7]"),
                );
            }
        }
        _ if consumer.file.is_some() => {
            let title = "a consumer is a file or a path, not both";
            mistakes.push(document.error(&spot("path"), title, "leave one of them out"));
        }
        _ => mistakes.push(
            document
                .error(&spot("file"), "a consumer without a file", "`file` belongs here")
                .help("for a system that keeps secrets: `path`"),
        ),
    }
}

fn kept_key(key: &KeyPath) -> Vec<String> {
    key.parts(KeyFormat::Env)
}

/// A key of a file, and the program that reads it.
fn file(document: &yaml::Document, kept: &KeptFile, spot: Spot, mistakes: &mut Vec<Mistake>) {
    let file = kept.file.as_str();
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
    if let Some((title, label)) = odd_key(kept) {
        let mistake = document.error(&spot("key"), title, label);
        let meant =
            [(".ini", "ini"), (".yaml", "yaml"), (".yml", "yaml"), (".json", "json"), (".properties", "properties")]
                .iter()
                .find(|(ending, _)| kept.format == KeyFormat::Env && file.ends_with(ending));
        mistakes.push(match meant {
            Some((_, format)) => mistake.help(format!("for such a file, say `format: {format}`")),
            None => mistake,
        });
    }
    // ssh reads its key each time.
    if kept.format != KeyFormat::SshKey || !kept.reload.is_empty() {
        command(document, &kept.reload, spot, "reload", mistakes);
    }
    if kept.health.is_empty() {
        command(document, &[], spot, "health", mistakes);
    }
    health(document, &kept.health, true, spot, mistakes);
}

fn command(document: &yaml::Document, words: &[String], spot: Spot, name: &'static str, mistakes: &mut Vec<Mistake>) {
    if words.first().is_none_or(|program| program.trim().is_empty()) {
        mistakes.push(
            document
                .error(&spot(name), "a command without a program", "a list: the program and its arguments")
                .help("for example: [systemctl, reload, portal]"),
        );
    } else if words.iter().any(|word| word.contains(char::is_control)) {
        mistakes.push(document.error(&spot(name), "a command with control characters", ""));
    }
}

/// The checks of a program. `has_host`: it runs on a host that we can ask from.
fn health(document: &yaml::Document, health: &HealthChecks, has_host: bool, spot: Spot, mistakes: &mut Vec<Mistake>) {
    let at = |keys: [&'static str; 2]| {
        let mut path = spot("health");
        path.extend(keys.map(yaml::Node::Key));
        path
    };
    if !health.command.is_empty() {
        command(document, &health.command, spot, "health", mistakes);
        if !has_host {
            let title = "there is no host on which the command could run";
            mistakes.push(document.error(&spot("health"), title, "valid here: `http`, `tcp`, `login`"));
        }
    }
    if let Some(http) = &health.http {
        match Url::parse(&http.url) {
            Err(why) => mistakes.push(document.error(&at(["http", "url"]), "that is no address to ask", why)),
            Ok(url) if url.tls && http.ca.is_none() => mistakes.push(
                document
                    .error(&at(["http", "url"]), "whose certificate is accepted?", "add `ca`")
                    .note("no CA is trusted unless it is named, not the system's either"),
            ),
            Ok(_) => {}
        }
        if !(100..600).contains(&http.status) {
            mistakes.push(document.error(&at(["http", "status"]), "that is no status code", "from 100 to 599"));
        }
    }
    if let Some(tcp) = &health.tcp
        && let Err(why) = HostPort::parse(&tcp.to)
    {
        mistakes.push(document.error(&at(["tcp", "to"]), "that is no address to ask", why));
    }
    let askers = [("http", health.http.as_ref().and_then(|c| c.by)), ("tcp", health.tcp.as_ref().and_then(|c| c.by))];
    for (check, _) in askers.into_iter().filter(|(_, by)| !has_host && *by == Some(Asker::Host)) {
        let title = "there is no host that could ask";
        mistakes.push(document.error(&at([check, "by"]), title, "valid here: `here`"));
    }
}

/// What is wrong with the key, and what belongs there instead.
fn odd_key(kept: &KeptFile) -> Option<(&'static str, &'static str)> {
    let path = kept.path();
    if path.is_empty() || path.iter().any(|part| part.is_empty() || part.contains(char::is_control)) {
        return Some(("a key with an empty part, or with control characters", "a key, or a list of keys"));
    }
    match kept.format {
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
        KeyFormat::SshKey => None,
        KeyFormat::WireGuard => {
            let plain = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);
            (path.len() != 1 || path[0].len() != 44 || !path[0].chars().all(plain))
                .then_some(("that is no public key", "of the peer, as `wg show` writes it"))
        }
        KeyFormat::Yaml | KeyFormat::Json => {
            (path.len() > 32).then_some(("that key is too deep in its file", "at most 32 parts"))
        }
    }
}
