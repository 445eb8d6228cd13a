//! What a gateway says of itself, read line by line from what `script/survey.sh` prints.

use std::collections::{BTreeMap, BTreeSet};

/// A peer of a running interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    pub interface: String,
    pub key: String,
    /// Peers with the same preshared key have the same number; nothing without one.
    pub secret: Option<u32>,
    /// Seconds since 1970, by the gateway's clock; 0 if there was none since the interface came up.
    pub handshake: i64,
    pub allowed: String,
    pub endpoint: String,
}

/// A peer in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    pub file: String,
    pub interface: String,
    pub key: String,
    pub secret: Option<u32>,
    /// Its first line.
    pub line: u32,
    pub allowed: String,
    pub comments: Vec<String>,
}

/// A configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    pub file: String,
    pub interface: String,
    /// wg-quick writes it anew from what runs.
    pub saved: bool,
    /// The line that is not understood, and why.
    pub wrong: Option<(u32, String)>,
}

/// A file of another program, and a key in it; or nothing, for the file itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other {
    /// `systemd-networkd`, `NetworkManager`, `netplan`, or `copy`.
    pub program: String,
    pub file: String,
    pub interface: String,
    pub key: Option<String>,
}

impl Other {
    /// Whether nothing reads it by itself.
    pub fn is_copy(&self) -> bool {
        self.program == "copy"
    }
}

/// Everything that was told.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// Facts by name; the last one counts.
    pub facts: BTreeMap<String, String>,
    /// Programs that are missing.
    pub missing: Vec<String>,
    /// Interfaces that do not answer.
    pub silent: BTreeSet<String>,
    /// Interfaces that are up.
    pub up: BTreeSet<String>,
    pub running: Vec<Running>,
    pub written: Vec<Written>,
    pub files: Vec<File>,
    /// Comments of no peer: file, line, text.
    pub comments: Vec<(String, u32, String)>,
    /// Commands of configuration files that call wg: file, line.
    pub calls: Vec<(String, u32)>,
    /// Commands of configuration files with a peer's key in them: file, line, key.
    pub commands: Vec<(String, u32, String)>,
    pub others: Vec<Other>,
    /// Step number to how it went, and a sentence.
    pub answers: BTreeMap<usize, (String, String)>,
}

impl Survey {
    /// Takes one line.
    pub fn line(&mut self, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        let fields: Vec<&str> = line.split('\t').collect();
        let number = |text: &str| text.parse().unwrap_or(0);
        let secret = |text: &str| text.parse().ok();
        match fields[..] {
            ["I", "missing", what] => self.missing.push(what.into()),
            ["I", "silent", interface] => drop(self.silent.insert(interface.into())),
            ["I", key, ref value @ ..] => drop(self.facts.insert(key.into(), value.join(" "))),
            ["U", interface, ..] => drop(self.up.insert(interface.into())),
            ["P", interface, key, group, handshake, allowed, endpoint] => self.running.push(Running {
                interface: interface.into(),
                key: key.into(),
                secret: secret(group),
                handshake: handshake.parse().unwrap_or(0),
                allowed: allowed.into(),
                endpoint: endpoint.into(),
            }),
            ["K", file, interface, key, group, from, _, allowed] => self.written.push(Written {
                file: file.into(),
                interface: interface.into(),
                key: key.into(),
                secret: secret(group),
                line: number(from),
                allowed: allowed.into(),
                comments: Vec::new(),
            }),
            // Right after the peer.
            ["N", file, _, key, comment] => {
                if let Some(peer) = self.written.last_mut().filter(|peer| peer.file == file && peer.key == key) {
                    peer.comments.push(comment.into());
                }
            }
            ["C", file, interface, saved, line, why] => self.files.push(File {
                file: file.into(),
                interface: interface.into(),
                saved: saved == "yes",
                wrong: Some((number(line), why.to_string())).filter(|(line, _)| *line > 0),
            }),
            ["O", file, line, comment] => self.comments.push((file.into(), number(line), comment.into())),
            ["W", file, line] => self.calls.push((file.into(), number(line))),
            ["M", file, line, key] => self.commands.push((file.into(), number(line), key.into())),
            ["E", program, file, interface, key] => self.others.push(Other {
                program: program.into(),
                file: file.into(),
                interface: interface.into(),
                key: Some(key.to_string()).filter(|key| !key.is_empty()),
            }),
            ["R", step, how, text] => {
                if let Ok(step) = step.parse() {
                    self.answers.insert(step, (how.into(), text.into()));
                }
            }
            _ => {}
        }
    }

    /// A fact that is not empty.
    pub fn fact(&self, name: &str) -> Option<&str> {
        self.facts.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The gateway's clock.
    pub fn now(&self) -> i64 {
        self.fact("now").and_then(|now| now.parse().ok()).unwrap_or(0)
    }

    /// The running peer, if there is one.
    pub fn runs(&self, interface: &str, key: &str) -> Option<&Running> {
        self.running.iter().find(|peer| peer.interface == interface && peer.key == key)
    }

    /// The peer in the file of an interface.
    pub fn written_for(&self, interface: &str, key: &str) -> Option<&Written> {
        self.written.iter().find(|peer| peer.interface == interface && peer.key == key)
    }

    /// The configuration file of an interface.
    pub fn file_of(&self, interface: &str) -> Option<&File> {
        self.files.iter().find(|file| file.interface == interface)
    }

    /// Where another program keeps an interface.
    pub fn other_of(&self, interface: &str) -> Option<&Other> {
        self.others.iter().find(|other| !other.is_copy() && other.interface == interface)
    }

    /// Leaves only what is about the interfaces that are `meant`; all of them if none is named. Returns the names of the others.
    pub fn keep(&mut self, meant: &[String]) -> BTreeSet<String> {
        if meant.is_empty() {
            return BTreeSet::new();
        }
        let mut left_out = BTreeSet::new();
        let mut is_meant = |name: &String| {
            meant.contains(name) || {
                left_out.insert(name.clone());
                false
            }
        };
        self.up.retain(&mut is_meant);
        self.silent.retain(&mut is_meant);
        self.files.retain(|file| is_meant(&file.interface));
        self.others.retain(|other| other.is_copy() || is_meant(&other.interface));
        self.running.retain(|peer| meant.contains(&peer.interface));
        self.written.retain(|peer| meant.contains(&peer.interface));
        let files: BTreeSet<&String> = self.files.iter().map(|file| &file.file).collect();
        self.comments.retain(|(file, ..)| files.contains(file));
        self.calls.retain(|(file, _)| files.contains(file));
        self.commands.retain(|(file, ..)| files.contains(file));
        left_out
    }
}
