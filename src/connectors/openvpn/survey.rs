//! What a gateway says of itself, read line by line from what `script/survey.sh` prints.

use super::names::{self, Subject};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A certificate that was given out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Upper-case hex digits, two a byte.
    pub serial: String,
    /// The common name.
    pub name: String,
    /// The mail address in its subject.
    pub mail: Option<String>,
    /// When it ends by itself.
    pub until: Option<Timestamp>,
    /// When the CA's database says that it was revoked.
    pub revoked: Option<Timestamp>,
    /// Whether it stands in the CA's database; otherwise a copy of it lies in a folder.
    pub in_database: bool,
}

/// A client that is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// The number by which the server knows it.
    pub id: String,
    /// What the server calls it: the common name.
    pub name: String,
    /// Where it comes from: address and port.
    pub from: String,
    /// Since when, in the server's own words.
    pub since: String,
    /// Seconds since 1970.
    pub since_seconds: Option<i64>,
}

/// What a certificate is by the server's own check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// X509_V_ERR numbers, 0 for none; empty if there is no copy of the certificate.
    pub codes: BTreeSet<u32>,
    /// openssl's words.
    pub words: String,
}

/// Everything that was told.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// Facts by name; the last one counts.
    pub facts: BTreeMap<String, String>,
    /// What is missing or wrong: kind, and what.
    pub complaints: Vec<(String, String)>,
    /// The server's options that matter here, each with its arguments.
    pub options: Vec<(String, Vec<String>)>,
    pub certificates: Vec<Certificate>,
    /// Subjects of which no name can be read.
    pub odd: BTreeSet<String>,
    /// Serials in the list that the server reads.
    pub listed: BTreeSet<String>,
    /// Names in the client-config-dir: `enabled`, `disabled`, `unreadable`.
    pub ccd: BTreeMap<String, String>,
    pub clients: Vec<Client>,
    /// What the management interface calls itself.
    pub title: Option<String>,
    /// The process that the management interface says it belongs to.
    pub manager: Option<String>,
    /// The list of clients was read to its end.
    pub clients_complete: bool,
    /// Why the management interface says nothing.
    pub silent: Option<String>,
    /// When each name was last let in.
    pub last_seen: HashMap<String, Timestamp>,
    /// Serial to what the server's own check says.
    pub checked: BTreeMap<String, Checked>,
    /// Serial to what the running server said at a handshake: `revoked` or `passed`, and its own words.
    pub handshakes: BTreeMap<String, (String, String)>,
    /// Step number to how it went, and a sentence.
    pub answers: BTreeMap<usize, (String, String)>,
    /// The columns of the list of clients.
    columns: Vec<String>,
}

impl Survey {
    /// Takes one line.
    pub fn line(&mut self, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        let Some((kind, rest)) = line.split_once('\t') else { return };
        let mut fields = rest.splitn(3, '\t');
        let mut next = || fields.next().unwrap_or_default();
        match kind {
            "I" => {
                let (key, value) = (next(), rest.split_once('\t').map_or("", |(_, value)| value));
                match key {
                    "missing" | "unreadable" | "other" | "crl-broken" | "crl-unreadable" | "ca-unreadable" => {
                        self.complaints.push((key.into(), value.into()));
                    }
                    _ => drop(self.facts.insert(key.into(), value.into())),
                }
            }
            "O" => {
                let mut words = rest.split('\t').map(str::to_string);
                if let Some(name) = words.next() {
                    self.options.push((name, words.collect()));
                }
            }
            "X" => self.row(rest),
            "F" => {
                let (serial, until, subject) = (next(), next(), next());
                self.add(serial, subject, names::printed_time(until), None, false);
            }
            "S" => drop(self.listed.insert(next().to_string())),
            "D" => {
                let (state, name) = (next(), rest.split_once('\t').map_or("", |(_, name)| name));
                self.ccd.insert(name.into(), state.into());
            }
            // The first reason is the true one.
            "M!" => drop(self.silent.get_or_insert_with(|| rest.to_string())),
            "M:" => self.client(rest),
            "G" => {
                let (at, name) = (next(), rest.split_once('\t').map_or("", |(_, name)| name));
                if let Some(at) = names::log_time(at) {
                    self.last_seen.insert(name.into(), at);
                }
            }
            "V" => {
                let (serial, codes, words) = (next(), next(), next());
                let codes = codes.split_ascii_whitespace().filter_map(|code| code.parse().ok()).collect();
                self.checked.insert(serial.into(), Checked { codes, words: words.into() });
            }
            "H" => {
                let (serial, how, words) = (next(), next(), next());
                self.handshakes.insert(serial.into(), (how.into(), words.into()));
            }
            "R" => {
                let (number, how, text) = (next(), next(), next());
                if let Ok(number) = number.parse() {
                    self.answers.insert(number, (how.into(), text.into()));
                }
            }
            _ => {}
        }
    }

    /// A row of the CA's database: state, end, revocation, serial, file, subject.
    fn row(&mut self, row: &str) {
        let fields: Vec<&str> = row.splitn(6, '\t').collect();
        let [state, until, revoked, serial, _, subject] = fields[..] else { return };
        let revoked = if state == "R" { names::database_time(revoked).or(Some(Timestamp::UNIX_EPOCH)) } else { None };
        self.add(serial, subject, names::database_time(until), revoked, true);
    }

    fn add(
        &mut self,
        serial: &str,
        text: &str,
        until: Option<Timestamp>,
        revoked: Option<Timestamp>,
        in_database: bool,
    ) {
        if serial.is_empty() || !serial.bytes().all(|b| b.is_ascii_hexdigit()) {
            return;
        }
        let Subject { name, mail } = names::subject(text);
        let Some(name) = name.filter(|name| !name.chars().any(char::is_control)) else {
            self.odd.insert(text.to_string());
            return;
        };
        let serial = serial.to_ascii_uppercase();
        if self.certificates.iter().any(|c| c.serial == serial && c.name == name) {
            return;
        }
        self.certificates.push(Certificate { serial, name, mail, until, revoked, in_database });
    }

    /// A line of `status 3`: HEADER names the columns, CLIENT_LIST has a client.
    fn client(&mut self, line: &str) {
        let fields: Vec<&str> = line.split('\t').collect();
        match fields[..] {
            ["TITLE", title] => self.title = Some(title.to_string()),
            ["HEADER", "CLIENT_LIST", ref columns @ ..] => {
                self.columns = columns.iter().map(ToString::to_string).collect();
            }
            ["CLIENT_LIST", ref values @ ..] => {
                let value = |column: &str| {
                    let at = self.columns.iter().position(|name| name == column)?;
                    values.get(at).map(ToString::to_string)
                };
                let client = Client {
                    id: value("Client ID").unwrap_or_default(),
                    name: value("Common Name").unwrap_or_default(),
                    from: value("Real Address").unwrap_or_default(),
                    since: value("Connected Since").unwrap_or_default(),
                    since_seconds: value("Connected Since (time_t)").and_then(|s| s.parse().ok()),
                };
                self.clients.push(client);
            }
            [answer] if answer.starts_with("SUCCESS: pid=") => {
                self.manager = answer.strip_prefix("SUCCESS: pid=").map(str::to_string);
            }
            ["END"] => self.clients_complete = true,
            _ => {}
        }
    }

    /// A fact that is not empty.
    pub fn fact(&self, name: &str) -> Option<&str> {
        self.facts.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The last complaint of a kind.
    pub fn complaint(&self, kind: &str) -> Option<&str> {
        self.complaints.iter().rev().find(|(k, _)| k == kind).map(|(_, what)| what.as_str())
    }

    /// The first argument of an option, empty if it has none.
    pub fn option(&self, name: &str) -> Option<&str> {
        let (_, arguments) = self.options.iter().rev().find(|(option, _)| option == name)?;
        Some(arguments.first().map_or("", String::as_str))
    }

    /// All arguments of every such option.
    pub fn every(&self, name: &str) -> impl Iterator<Item = String> {
        self.options.iter().filter(move |(option, _)| option == name).map(|(_, arguments)| arguments.join(" "))
    }

    /// When the list in place is over.
    pub fn next_update(&self) -> Option<Timestamp> {
        names::printed_time(self.fact("crl-next")?)
    }

    /// Certificates by name.
    pub fn by_name(&self) -> BTreeMap<&str, Vec<&Certificate>> {
        let mut names: BTreeMap<&str, Vec<&Certificate>> = BTreeMap::new();
        for certificate in &self.certificates {
            names.entry(&certificate.name).or_default().push(certificate);
        }
        names
    }
}
