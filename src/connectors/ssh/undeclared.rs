//! Passwords in files of a host that `offboard.yaml` does not declare, and who could read them: a leaver knew them, and nobody will rotate them.
//!
//! Who could read is told by the survey that came first, before groups and rules were taken away; where they stand, by a search of its own.

use super::link::{SshLink, watch};
use super::survey::Survey;
use super::watched::Readers;
use crate::model::{CouldRead, Fault, Undeclared};
use crate::wire::shell::printable;
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// So many files are described at most: whoever fills a folder with decoys does not hold a run up.
const MOST: usize = 200;

/// What a first survey knew of who could read what.
pub(super) struct Before {
    survey: Survey,
    /// Accounts that the survey found to be in scope.
    accounts: Vec<String>,
}

impl Before {
    /// Of a survey, what is needed later.
    pub(super) fn of(survey: &Survey, accounts: Vec<String>) -> Self {
        let survey = Survey {
            accounts: survey.accounts.clone(),
            groups: survey.groups.clone(),
            other_groups: survey.other_groups.clone(),
            sudo: survey.sudo.clone(),
            watched: survey.watched.clone(),
            ..Survey::default()
        };
        Self { survey, accounts }
    }

    /// Whether the file is one of those that are declared, perhaps by another name.
    fn is_declared(&self, file: &str) -> bool {
        self.survey.watched.files.iter().any(|(declared, real)| declared == file || real == file)
    }
}

/// The script without comments; sent along with the call.
fn script() -> &'static str {
    static SCRIPT: OnceLock<String> = OnceLock::new();
    SCRIPT.get_or_init(|| super::link::without_comments(&[include_str!("script/undeclared.sh")]))
}

/// See [`crate::connector::Link::undeclared`].
pub(super) async fn undeclared(link: &mut SshLink) -> Result<Vec<Undeclared>, Fault> {
    let Some(before) = link.before.take() else { return Ok(Vec::new()) };
    let mut holds: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let call = format!("{}undeclared", script());
    link.ask(&call, &mut |line| {
        if let Some((file, what)) = found(&String::from_utf8_lossy(line))
            && !before.is_declared(&file)
            && (holds.len() < MOST || holds.contains_key(&file))
        {
            holds.entry(file).or_default().push(what);
        }
    })
    .await?;
    let files: Vec<String> = holds.keys().cloned().collect();
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let described = link.call(&format!("{}WATCHING=", watch(&files)), Survey::default()).await?;
    let readers = Readers { survey: &before.survey, watched: &described.watched };
    let mut all = Vec::new();
    for account in &before.accounts {
        for (file, what) in &holds {
            if let (Some((how, root)), _) = readers.could_read(account, file) {
                let (place, account, file) = (link.host.place.id.clone(), account.clone(), printable(file, 200));
                let read = CouldRead { place, account, own: false, file, how, root };
                all.push(Undeclared { read, holds: what.join(", ") });
            }
        }
    }
    Ok(all)
}

/// A line of the search: the file, and what stands there. Somebody may have written the file for us to read.
fn found(line: &str) -> Option<(String, String)> {
    let ["P", key, name, file] = line.splitn(4, '\t').collect::<Vec<_>>()[..] else { return None };
    let is_plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if key.is_empty() || !is_plain(key) || !is_plain(name) || !file.starts_with('/') {
        return None;
    }
    let what = if name.is_empty() { key.to_string() } else { format!("{key} of {name}") };
    Some((file.to_string(), what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// What the search says of a file with this text.
    fn says(name: &str, text: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        let mut all = Vec::new();
        for awk in ["awk", "mawk", "busybox awk"] {
            let mut words = awk.split(' ');
            if Command::new("which").arg(words.clone().next().unwrap()).output().unwrap().stdout.is_empty() {
                continue;
            }
            let script = format!("{}\n{} \"$PASSWORDS_AWK\" \"$1\"", script(), words.by_ref().collect::<Vec<_>>().join(" "));
            let output = Command::new("sh").args(["-c", &script, "sh"]).arg(&file).output().unwrap();
            assert!(output.stderr.is_empty(), "{awk}: {}", String::from_utf8_lossy(&output.stderr));
            let text = String::from_utf8(output.stdout).unwrap();
            all.push(text.lines().filter_map(found).map(|(_, what)| what).collect::<Vec<_>>());
        }
        let first = all.first().cloned().unwrap();
        assert!(all.iter().all(|other| *other == first), "{all:?}");
        first
    }

    #[test]
    fn passwords_are_found_and_never_told() {
        let known: [(&str, &str, &[&str]); 12] = [
            ("a.env", "PGUSER=portal\nPGPASSWORD='hunter2-hunter2'\n", &["PGPASSWORD of portal"]),
            ("b.yaml", "db:\n  password: \"hunter2-hunter2\"\n  username: app\n", &["password of app"]),
            ("c.json", "{ \"apiKey\": \"hunter2-hunter2\",\n \"user\": \"app\" }", &["apiKey of app"]),
            ("d.env", "DATABASE_URL=postgres://portal:hunter2-hunter2@db/x\n", &["DATABASE_URL of portal"]),
            (".pgpass", "db:5432:*:portal:hunter2-hunter2\n", &["password of portal"]),
            ("e.conf", "url https://hunter2token:x-oauth@git.example.com/\n", &["address"]),
            ("e.toml", "dep = \"git+https://hunter2token:x-oauth@git.example.com/\"\n", &["dep"]),
            ("e.ini", "url = Https://hunter2token:x-oauth@git.example.com/\n", &["url"]),
            ("e.cfg", "url = Xmysql://hunter2token:x-oauth@git.example.com/\n", &["url"]),
            ("f.properties", "spring.datasource.password = hunter2-hunter2\r\n", &["spring.datasource.password"]),
            ("g.env", "# PASSWORD=hunter2-hunter2\nPASSWORD=${FROM_VAULT}\nTOKEN=/run/secrets/token\nSECRET=\nPASSWORD=false\n", &[]),
            ("nsswitch.conf", "passwd: files systemd\nshadow: files\n", &[]),
        ];
        for (name, text, expected) in known {
            let said = says(name, text);
            assert!(!said.iter().any(|one| one.contains("hunter2")), "{name}: {said:?}");
            assert_eq!(said, expected, "{name}");
        }
    }

    #[test]
    fn a_line_that_somebody_made_up_is_no_answer() {
        for line in ["P\tkey\tname", "P\tke y\t\t/etc/x", "P\t\t\t/etc/x", "P\tkey\t$(id)\t/etc/x", "P\tkey\t\tetc/x", "Z\tundeclared"] {
            assert_eq!(found(line), None, "{line}");
        }
    }
}
