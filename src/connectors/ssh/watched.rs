//! Who could read the files in which shared secrets are kept: by owner, group, mode and access list (acl(5)) of the file and of every folder
//! above it, by sudo, or as root. Pure: the host has been asked before, by `watch` in `script/survey.sh`.

use super::discover::Discovery;
use super::survey::{Group, Survey};
use crate::model::{Account, CouldRead, Finding, FindingKind, Place};
use crate::wire::shell::printable;
use std::collections::HashMap;

/// Groups whose members can become root, or read every disk.
const ROOT_BY: [&str; 8] = ["sudo", "wheel", "admin", "docker", "lxd", "incus-admin", "libvirt", "disk"];

const READ: u8 = 4;
const SEARCH: u8 = 1;

/// A rule of sudo's, as far as it is understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SudoRule {
    /// An account, or `%` and a group.
    pub who: String,
    /// As whom it lets them run commands, separated by commas; empty for root.
    pub run_as: String,
    /// Where it stands.
    pub file: String,
}

impl SudoRule {
    fn is_of(&self, account: &Reader) -> bool {
        match self.who.strip_prefix('%') {
            Some(group) => account.groups.iter().any(|g| g.name == group),
            None => self.who == account.name,
        }
    }

    /// The accounts as which commands may be run; `(user : group)` names a group after the colon.
    fn accounts(&self) -> impl Iterator<Item = &str> {
        let named = self.run_as.split(',').map(|one| one.split(':').next().unwrap_or_default().trim());
        named.filter(|name| !name.is_empty())
    }

    fn makes_root(&self) -> bool {
        self.run_as.trim().is_empty() || self.accounts().any(|name| matches!(name, "ALL" | "root" | "#0"))
    }
}

/// What is known of the files, and of the folders above them.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    /// Each file as it is declared, and where it is once links among its folders are followed.
    pub files: Vec<(String, String)>,
    /// Whether the listing is being read.
    pub listing: bool,
    /// By path.
    nodes: HashMap<String, Node>,
    /// Of getfacl: the path whose lines are being read.
    current: String,
}

/// Rights on a file or folder: read 4, search 1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Node {
    uid: u32,
    gid: u32,
    group: u8,
    other: u8,
    users: Vec<(u32, u8)>,
    groups: Vec<(u32, u8)>,
    mask: Option<u8>,
    /// There is an access list, and what it says is not known.
    untold: bool,
}

/// By what somebody has a right.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Way {
    Owner,
    Listed,
    Group(u32),
    Everybody,
    /// Nobody can say whether they have it.
    Untold,
}

/// An account, with all its groups.
struct Reader<'a> {
    name: &'a str,
    uid: u32,
    groups: Vec<&'a Group>,
    gids: Vec<u32>,
}

impl Watched {
    /// Takes in a line of getfacl(1) or ls(1).
    pub fn line(&mut self, line: &str) {
        // What an entry comes to under the mask stands behind it.
        let entry = line.split('\t').next().unwrap_or(line);
        if let Some(rest) = line.strip_prefix("# ") {
            let (key, value) = rest.split_once(": ").unwrap_or((rest, ""));
            if key == "file" {
                self.current = unescaped(value);
                self.nodes.insert(self.current.clone(), Node::default());
            } else if let (Some(node), Ok(id)) = (self.nodes.get_mut(&self.current), value.parse()) {
                match key {
                    "owner" => node.uid = id,
                    "group" => node.gid = id,
                    _ => {}
                }
            }
        } else if let [kind @ ("user" | "group" | "mask" | "other"), name, rights] = entry.split(':').collect::<Vec<_>>()[..] {
            if let Some(node) = self.nodes.get_mut(&self.current) {
                node.entry(kind, name, bits(rights));
            }
        } else if let Some((path, node)) = listed(line) {
            self.nodes.insert(path.to_string(), node);
        }
    }

    /// Where a declared file is, and what is known of it and the folders above; nothing if the host did not tell all of it.
    fn way_to(&self, file: &str) -> Option<Vec<&Node>> {
        let (_, real) = self.files.iter().find(|(declared, _)| declared == file)?;
        let folders = real.match_indices('/').map(|(at, _)| if at == 0 { "/" } else { &real[..at] });
        std::iter::once(real.as_str()).chain(folders).map(|path| self.nodes.get(path)).collect()
    }

    /// By what an account could read a file; nothing if it could not.
    fn way(&self, file: &str, uid: Option<u32>, gids: &[u32]) -> Option<Way> {
        let nodes = self.way_to(file)?;
        let way = nodes[0].way(uid, gids, READ)?;
        let mut untold = way == Way::Untold;
        for folder in &nodes[1..] {
            untold |= folder.way(uid, gids, SEARCH)? == Way::Untold;
        }
        Some(if untold { Way::Untold } else { way })
    }

    /// Groups that have rights on any of it.
    fn gids(&self) -> impl Iterator<Item = u32> {
        self.nodes.values().flat_map(|node| std::iter::once(node.gid).chain(node.groups.iter().map(|(gid, _)| *gid)))
    }

    /// Of the files, those that everybody on the host can read, with what to do.
    pub fn open_to_all(&self, place: &Place) -> Vec<Finding> {
        let open = self.files.iter().filter(|(file, _)| self.way(file, None, &[]) == Some(Way::Everybody));
        open.map(|(file, _)| {
            let shown = printable(file, 200);
            Finding {
                kind: FindingKind::Configuration,
                place: Some(place.id.clone()),
                account: None,
                what: format!("everybody on {} can read {shown}, which holds a shared secret", place.address),
                hint: format!("give it a group of the program's own and take others' rights: chgrp GROUP {shown}; chmod o= {shown}"),
            }
        })
        .collect()
    }
}

impl Node {
    /// An entry as getfacl prints it.
    fn entry(&mut self, kind: &str, name: &str, rights: u8) {
        match (kind, name.parse()) {
            ("user", Ok(uid)) => self.users.push((uid, rights)),
            ("group", Ok(gid)) => self.groups.push((gid, rights)),
            ("group", Err(_)) if name.is_empty() => self.group = rights,
            ("mask", _) => self.mask = Some(rights),
            ("other", _) => self.other = rights,
            _ => {}
        }
    }

    /// By what somebody has the right, as the kernel decides it: acl(5), "access check algorithm". The owner can give it to themselves.
    fn way(&self, uid: Option<u32>, gids: &[u32], right: u8) -> Option<Way> {
        if uid == Some(self.uid) {
            return Some(Way::Owner);
        }
        let mask = self.mask.unwrap_or(READ | SEARCH);
        let grants = |rights: u8| rights & mask & right != 0;
        if let Some((_, rights)) = self.users.iter().find(|(user, _)| Some(*user) == uid) {
            return grants(*rights).then_some(Way::Listed);
        }
        let owning = (self.gid, self.group);
        let entries = std::iter::once(&owning).chain(&self.groups).filter(|(gid, _)| gids.contains(gid));
        let mut entries = entries.peekable();
        if entries.peek().is_some() {
            return entries.find(|(_, rights)| grants(*rights)).map(|(gid, _)| Way::Group(*gid));
        }
        // Without its entries, ls shows the mask for the group: where that grants nothing, no entry does.
        if self.untold && uid.is_some() && self.group & right != 0 {
            return Some(Way::Untold);
        }
        (self.other & right != 0).then_some(Way::Everybody)
    }
}

/// Rights as `rwx` writes them.
fn bits(rights: &str) -> u8 {
    let mut letters = rights.chars();
    let read = letters.next() == Some('r');
    // S and T stand for a bit without the right to search.
    let search = letters.nth(1).is_some_and(|c| matches!(c, 'x' | 's' | 't'));
    u8::from(read) * READ + u8::from(search) * SEARCH
}

/// A line of `ls -ldn`: `-rw-r-----+ 1 0 1600 …  /path`.
fn listed(line: &str) -> Option<(&str, Node)> {
    let (mut words, path) = (line.split_ascii_whitespace(), &line[line.find(" /")? + 1..]);
    let mode = words.next().filter(|mode| mode.is_ascii() && mode.len() >= 10)?;
    let (uid, gid) = (words.nth(1)?.parse().ok()?, words.next()?.parse().ok()?);
    let node = Node {
        uid,
        gid,
        group: bits(&mode[4..7]),
        other: bits(&mode[7..10]),
        untold: mode.ends_with('+'),
        ..Node::default()
    };
    Some((path, node))
}

/// A name as getfacl quotes it: two backslashes for one, and a backslash and three octal digits for what would end the line.
fn unescaped(name: &str) -> String {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail.get(..3).and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match (first, octal) {
            (b'\\', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            (b'\\', None) if tail.first() == Some(&b'\\') => {
                bytes.push(b'\\');
                rest = &tail[1..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Numbers of groups that have rights there and that the host did not list.
pub(super) fn unlisted_groups(survey: &Survey) -> Vec<u32> {
    let known = |gid: &u32| survey.groups.iter().chain(&survey.other_groups).any(|group| group.gid == *gid);
    let mut gids: Vec<u32> = survey.watched.gids().filter(|gid| !known(gid)).collect();
    gids.sort_unstable();
    gids.dedup();
    gids
}

impl Discovery<'_> {
    /// Which of the watched files each of these accounts could read, and by what.
    pub(super) fn could_read(&self, accounts: &[Account], findings: &mut Vec<Finding>) -> Vec<CouldRead> {
        let watched = &self.survey.watched;
        let readers = Readers { survey: self.survey, watched };
        let mut found = Vec::new();
        for account in accounts {
            for file in self.watching {
                let (read, untold) = readers.could_read(&account.native_id, file);
                if untold {
                    findings.push(self.untold(file, &account.native_id));
                }
                if let Some((how, root)) = read {
                    found.push(CouldRead {
                        place: self.place.id.clone(),
                        account: account.native_id.clone(),
                        own: false,
                        file: file.clone(),
                        how,
                        root,
                    });
                }
            }
        }
        let unseen = |file: &&String| watched.way_to(file).is_none();
        for file in self.watching.iter().filter(unseen) {
            findings.push(self.finding(
                FindingKind::NotCovered,
                None,
                format!("who could read {} cannot be told: it is not there, or was not described", printable(file, 200)),
                "correct `file` in offboard.yaml, or look with: namei -l",
            ));
        }
        found
    }

    fn untold(&self, file: &str, account: &str) -> Finding {
        self.finding(
            FindingKind::NotCovered,
            Some(account),
            format!("whether {} could read {} cannot be told: its access list is not known", printable(account, 80), printable(file, 200)),
            "install getfacl there (the package acl); or name who may know the secret under known-to in offboard.yaml",
        )
    }
}

/// Who could read what: accounts, groups and sudo's rules as a survey has them, and files that were described.
pub(super) struct Readers<'a> {
    pub survey: &'a Survey,
    pub watched: &'a Watched,
}

impl Readers<'_> {
    fn reader<'s>(&'s self, name: &'s str) -> Option<Reader<'s>> {
        let (name, unix) = self.survey.accounts.get_key_value(name)?;
        let is_in = |group: &&Group| group.gid == unix.gid || group.members.iter().any(|member| member == name);
        let groups: Vec<&Group> = self.survey.groups.iter().chain(&self.survey.other_groups).filter(is_in).collect();
        let gids = groups.iter().map(|group| group.gid).chain([unix.gid]).collect();
        Some(Reader { name, uid: unix.uid, groups, gids })
    }

    /// By what this account could read the file, and whether that is by becoming root; nothing if it could not. Also whether there is an access list of
    /// which nobody can tell.
    pub fn could_read(&self, account: &str, file: &str) -> (Option<(String, bool)>, bool) {
        let Some(reader) = self.reader(account) else { return (None, false) };
        let root = self.root_by(&reader);
        let read = if reader.uid == 0 { Ok(None) } else { self.read_by(&reader, file) };
        let untold = read.is_err() && root.is_none();
        (read.unwrap_or_default().map(|how| (how, false)).or(root.map(|how| (how, true))), untold)
    }

    /// By what the account could read the file without being root; an error if nobody can say.
    fn read_by(&self, reader: &Reader, file: &str) -> Result<Option<String>, ()> {
        let watched = self.watched;
        let words = |way: Way| match way {
            Way::Owner => Ok("its owner".to_string()),
            Way::Listed => Ok("its access list".to_string()),
            Way::Group(gid) => Ok(format!("group {}", self.group_name(gid))),
            Way::Everybody => Ok(CouldRead::EVERYBODY.to_string()),
            Way::Untold => Err(()),
        };
        match watched.way(file, Some(reader.uid), &reader.gids).map(words) {
            Some(Ok(how)) => return Ok(Some(how)),
            Some(Err(())) => return Err(()),
            None => {}
        }
        for rule in self.survey.sudo.iter().filter(|rule| rule.is_of(reader)) {
            for name in rule.accounts() {
                let other = self.reader(name);
                let way = other.and_then(|other| watched.way(file, Some(other.uid), &other.gids));
                if way.is_some_and(|way| way != Way::Untold) {
                    return Ok(Some(format!("sudo as {}", printable(name, 80))));
                }
            }
        }
        Ok(None)
    }

    /// By what the account could become root, if it could.
    fn root_by(&self, reader: &Reader) -> Option<String> {
        if reader.uid == 0 {
            return Some("user id 0".into());
        }
        if let Some(group) = reader.groups.iter().find(|group| ROOT_BY.contains(&group.name.as_str())) {
            return Some(format!("group {}", group.name));
        }
        let rule = self.survey.sudo.iter().find(|rule| rule.makes_root() && rule.is_of(reader))?;
        Some(format!("sudo, by {}", printable(&rule.file, 200)))
    }

    fn group_name(&self, gid: u32) -> String {
        let known = self.survey.groups.iter().chain(&self.survey.other_groups).find(|group| group.gid == gid);
        known.map_or_else(|| gid.to_string(), |group| printable(&group.name, 80))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(files: &[(&str, &str)], listing: &str) -> Watched {
        let files = files.iter().map(|(file, real)| (file.to_string(), real.to_string())).collect();
        let mut watched = Watched { files, ..Watched::default() };
        listing.lines().for_each(|line| watched.line(line));
        watched
    }

    const LS: &str = "drwxr-xr-x 1 0 0 4096 Nov 22 20:00 /
drwxr-xr-x 9 0 0 4096 Nov 22  2025 /etc
drwxr-x--x 2 0 7 40 Nov 22 20:00 /etc/my app
-rw-r----- 1 1500 1600 200 Nov 22 20:00 /etc/my app/a b.env
-rw-r--r-- 1 0 0 200 Nov 22 20:00 /etc/open.env
-rw----r-- 1 0 1600 200 Nov 22 20:00 /etc/odd.env
-rw-r-----+ 1 0 1600 200 Nov 22 20:00 /etc/listed.env
-rw-------+ 1 0 1600 200 Nov 22 20:00 /etc/masked.env";

    #[test]
    fn modes_are_read_as_the_kernel_reads_them() {
        let names = ["/etc/my app/a b.env", "/etc/open.env", "/etc/odd.env", "/etc/listed.env", "/etc/masked.env"];
        let files: Vec<(&str, &str)> = names.iter().map(|name| (*name, *name)).collect();
        let watched = watched(&files, LS);
        let way = |file: &str, uid: u32, gids: &[u32]| watched.way(file, Some(uid), gids);
        assert_eq!(way(names[0], 9, &[1600, 5]), Some(Way::Group(1600)));
        assert_eq!(way(names[0], 1500, &[5]), Some(Way::Owner));
        assert_eq!(way(names[0], 9, &[1601]), None);
        // Group 7 of the folder may search it, everybody else too; but a member of 7 does not get others' rights.
        assert_eq!(way(names[0], 9, &[7, 1600]), Some(Way::Group(1600)));
        assert_eq!(way(names[1], 9, &[5]), Some(Way::Everybody));
        // Others may read it, the group may not.
        assert_eq!(way(names[2], 9, &[5]), Some(Way::Everybody));
        assert_eq!(way(names[2], 9, &[1600]), None);
        assert_eq!(way(names[3], 9, &[1600]), Some(Way::Group(1600)));
        assert_eq!(way(names[3], 9, &[5]), Some(Way::Untold));
        assert_eq!(way(names[4], 9, &[5]), None);
        assert_eq!(way("/etc/unknown", 0, &[]), None);
        let place = Place::new(&crate::model::SystemName("fleet".into()), "web1");
        let open: Vec<String> = watched.open_to_all(&place).into_iter().map(|finding| finding.what).collect();
        assert_eq!(open.len(), 2, "{open:?}");
        assert!(open[0].contains("/etc/open.env") && open[1].contains("/etc/odd.env"), "{open:?}");
    }

    #[test]
    fn access_lists_are_read_as_the_kernel_reads_them() {
        let acl = "# file: /
# owner: 0
# group: 0
user::rwx
group::r-x
other::r-x

# file: /srv
# owner: 0
# group: 0
# flags: -s-
user::rwx
user:1007:--x
group::r-x
mask::r-x
other::---
default:other::r-x

# file: /srv/a b\\\\c\\012.env
# owner: 0
# group: 1600
user::rw-
user:1007:r--
user:1008:rw-\t\t\t#effective:r--
user:1009:---
group::---
group:1700:r--
mask::r--
other::r--";
        let watched = watched(&[("/etc/a b.env", "/srv/a b\\c\n.env")], acl);
        let way = |uid: u32, gids: &[u32]| watched.way("/etc/a b.env", Some(uid), gids);
        assert_eq!(way(1007, &[5]), Some(Way::Listed));
        assert_eq!(way(1008, &[5]), None, "cannot search the folder");
        assert_eq!(way(1008, &[0]), Some(Way::Listed));
        assert_eq!(way(1009, &[0]), None, "named, and given nothing");
        assert_eq!(way(1010, &[0, 1700]), Some(Way::Group(1700)));
        assert_eq!(way(1010, &[0, 1600]), None);
        assert_eq!(way(1010, &[0]), Some(Way::Everybody));
        assert_eq!(way(1010, &[5]), None);
    }
}
