//! What a person should know of a gateway.

use super::discover::Found;
use super::names;
use super::survey::Survey;
use crate::connector::{Scope, Wanted};
use crate::model::{Finding, FindingKind, Place};
use crate::wire::shell::printable;
use FindingKind::{Configuration, NotCovered, Suspicious, Unknown};
use std::collections::{BTreeMap, BTreeSet};

/// Collects findings of one place.
struct List<'a> {
    place: &'a Place,
    all: Vec<Finding>,
}

impl List<'_> {
    fn add(&mut self, kind: FindingKind, account: Option<&str>, what: String, hint: &str) {
        self.all.push(Finding {
            kind,
            place: Some(self.place.id.clone()),
            account: account.map(str::to_string),
            what: printable(&what, 500),
            hint: hint.into(),
        });
    }
}

/// Everything that is worth a word.
pub(super) fn findings(found: &Found<'_>, scope: &Scope, left_out: &BTreeSet<String>) -> Vec<Finding> {
    let mut list = List { place: found.place, all: Vec::new() };
    setup(found, left_out, &mut list);
    let wanted: &[Wanted] = match scope {
        Scope::People(people) => people,
        Scope::Everything => &[],
    };
    spellings(found, wanted, &mut list);
    comments(found, wanted, &mut list);
    copies(found, wanted, &mut list);
    secrets(found, scope, wanted, &mut list);
    list.all
}

/// How the gateway is set up.
fn setup(found: &Found<'_>, left_out: &BTreeSet<String>, list: &mut List<'_>) {
    let survey = found.survey;
    for interface in &survey.silent {
        list.add(
            Unknown,
            None,
            format!("{interface} is up, and does not say which peers it has"),
            "as root there: wg show; then resume the run",
        );
    }
    for file in &survey.files {
        if let Some((line, why)) = &file.wrong {
            list.add(
                Unknown,
                None,
                format!("{}, line {line}: {why}; nobody can say what wg would read, and the file is left as it is", file.file),
                "mend the line, or move the file out of the folder, then resume the run",
            );
        }
        if file.saved {
            list.add(
                Configuration,
                None,
                format!("{} has SaveConfig = true: wg-quick writes it anew when the interface goes down, without its comments", file.file),
                "say under peers in offboard.yaml whose each key is: comments there do not last",
            );
        }
    }
    for interface in &survey.up {
        if survey.file_of(interface).is_none() && survey.other_of(interface).is_none() {
            list.add(
                Unknown,
                None,
                format!("{interface} is up, and no file in {} is its: whatever set it up may bring a peer back", found.kept.folder),
                "name the folder of its configuration in offboard.yaml (folder), or under interfaces those that are meant",
            );
        }
    }
    let programs: BTreeSet<(&str, &str, &str)> = (survey.others.iter().filter(|other| !other.is_copy()))
        .map(|other| (other.program.as_str(), other.interface.as_str(), other.file.as_str()))
        .collect();
    for (program, interface, file) in programs {
        list.add(
            NotCovered,
            None,
            format!("{interface} is set up by {program} ({file}): peers are taken out of what runs, and not out of that file"),
            "take the leaver's peer out of it by hand and have it read again (networkctl reload, nmcli connection reload, netplan apply)",
        );
    }
    for (file, line) in &survey.calls {
        list.add(
            Configuration,
            None,
            format!("{file}, line {line}: a command calls wg when the interface goes up or down: what it adds stands in no [Peer]"),
            "look whether it brings in a peer of the leaver's",
        );
    }
    if !left_out.is_empty() {
        let names: Vec<&str> = left_out.iter().map(String::as_str).collect();
        list.add(
            NotCovered,
            None,
            format!("other interfaces than those in offboard.yaml: {}", names.join(", ")),
            "if they let people in, name them under interfaces, or in a system of their own",
        );
    }
    if let Some(control) = &found.kept.control
        && !survey.running.iter().any(|peer| &peer.key == control)
    {
        list.add(
            Configuration,
            Some(control),
            "the control's key is no peer of a running interface: it shows nothing".into(),
            "give control in offboard.yaml the public key of a peer that always has a tunnel",
        );
    }
}

/// Keys that `accounts:` spells in another way than wg: nobody would be matched by them.
fn spellings(found: &Found<'_>, wanted: &[Wanted], list: &mut List<'_>) {
    let ours = wanted.iter().flat_map(|w| &w.accounts).filter(|(system, _)| *system == found.place.system);
    for (_, key) in ours {
        match names::canonical(key) {
            Some(canonical) if canonical != *key => list.add(
                Unknown,
                Some(&canonical),
                format!("accounts in offboard.yaml has a key of the leaver's in another spelling than wg: {canonical}"),
                "write it so, or under peers, where the spelling makes no difference; then run again",
            ),
            None => list.add(
                Unknown,
                None,
                "accounts in offboard.yaml names something of this system for the leaver that is no public key".into(),
                "write the key as `wg show INTERFACE peers` prints it; then run again",
            ),
            _ => {}
        }
    }
}

/// Everything that a person is called.
fn called(wanted: &Wanted) -> impl Iterator<Item = &str> {
    let person = &wanted.person;
    [Some(person.id.0.as_str()), person.user_name.as_deref(), person.email.as_deref()].into_iter().flatten()
}

/// Comments that speak of somebody in scope, and are more than a name.
fn comments(found: &Found<'_>, wanted: &[Wanted], list: &mut List<'_>) {
    let keys: BTreeSet<&str> = found.survey.written.iter().map(|peer| peer.key.as_str()).collect();
    for one in wanted {
        for key in &keys {
            let is_theirs = one.accounts.iter().any(|(system, account)| *system == found.place.system && account == key);
            let named = found.named(key);
            let Some(comment) = named.unclear.iter().find(|comment| names::mentions(comment, called(one))) else { continue };
            if !is_theirs {
                list.add(
                    Unknown,
                    Some(key),
                    format!("a comment of the peer {key} speaks of {}, and is more than a name: {comment}", one.person.name),
                    "say under peers in offboard.yaml whose it is, then run again",
                );
            }
        }
        for (file, line, comment) in &found.survey.comments {
            if names::mentions(comment, called(one)) {
                list.add(
                    Suspicious,
                    None,
                    format!("{file}, line {line}: a comment of no peer speaks of {}: {comment}", one.person.name),
                    "a comment counts for the [Peer] right below it; look whether one there is the leaver's",
                );
            }
        }
    }
}

/// Whether a peer is a person's, as far as this room can say; the roster's matching decides.
fn is_of(found: &Found<'_>, key: &str, wanted: &Wanted) -> bool {
    let identity = found.named(key).identity;
    let mapped = wanted.accounts.iter().any(|(system, account)| *system == found.place.system && account == key);
    let said = identity.user_name.iter().chain(&identity.mails);
    mapped || said.into_iter().any(|name| called(wanted).any(|called| called.eq_ignore_ascii_case(name)))
}

/// Copies of configuration files that have a key of somebody in scope.
fn copies(found: &Found<'_>, wanted: &[Wanted], list: &mut List<'_>) {
    let copies = found.survey.others.iter().filter(|other| other.is_copy());
    let told: BTreeSet<(&str, &str)> = copies
        .filter_map(|copy| Some((copy.file.as_str(), copy.key.as_deref()?)))
        .filter(|(_, key)| wanted.iter().any(|one| is_of(found, key, one)))
        .collect();
    for (file, key) in told {
        list.add(
            Suspicious,
            Some(key),
            format!("{file} has a peer of the leaver's: nothing reads it, but whoever copies it back lets them in"),
            "remove the copy, or the peer in it",
        );
    }
}

/// Preshared keys that stand at several peers: each of their holders knows it.
fn secrets(found: &Found<'_>, scope: &Scope, wanted: &[Wanted], list: &mut List<'_>) {
    let mut groups: BTreeMap<u32, BTreeSet<&str>> = BTreeMap::new();
    let running = found.survey.running.iter().map(|peer| (peer.secret, peer.key.as_str()));
    let written = found.survey.written.iter().map(|peer| (peer.secret, peer.key.as_str()));
    for (secret, key) in running.chain(written) {
        if let Some(secret) = secret {
            groups.entry(secret).or_default().insert(key);
        }
    }
    for keys in groups.values().filter(|keys| keys.len() > 1) {
        let theirs = keys.iter().any(|key| wanted.iter().any(|one| is_of(found, key, one)));
        if matches!(scope, Scope::Everything) || theirs {
            let titles: Vec<String> = keys.iter().take(8).map(|key| found.title(key)).collect();
            let more = if keys.len() > 8 { format!(" and {} more", keys.len() - 8) } else { String::new() };
            list.add(
                NotCovered,
                None,
                format!("one preshared key stands at {} peers: {}{more}; each of them knows it", keys.len(), titles.join(" · ")),
                "give every other one a new preshared key (wg genpsk), here and on the device; alone it opens nothing",
            );
        }
    }
}

/// Programs that the script needs.
pub(super) fn missing(place: &Place, hello: &Survey) -> Vec<Finding> {
    let mut list = List { place, all: Vec::new() };
    for what in &hello.missing {
        list.add(Configuration, None, format!("{what} is missing"), &format!("install {what} there"));
    }
    list.all
}
