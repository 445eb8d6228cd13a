//! Who has read a path, by the Vault's own audit logs: the files of its `file` devices, as far as offboard can read them.
//!
//! A log tells of each request which entity made it; it hides values, not paths. Only requests that were answered count, and only those that give a value away: whoever
//! wrote one knows it, too. Source: the documentation of OpenBao's audit devices, and what `bao server` 2.7 wrote.

use super::link::VaultLink;
use crate::model::{CouldRead, Fault, FaultKind, FindingKind};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// The longest line that is looked at, in bytes. A longer one is counted, not read.
const MAX_LINE: u64 = 4 * 1024 * 1024;

/// What the logs say of the paths that were asked for.
#[derive(Debug, Default)]
struct Log {
    /// By entity and path: what was done there last, and when.
    by: BTreeMap<(String, String), (String, &'static str)>,
    /// Lines of one of those paths that cannot be understood.
    odd: u64,
}

/// One line, as far as it matters.
#[derive(Deserialize)]
struct Line {
    time: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    auth: Option<Auth>,
    request: Request,
    #[serde(default)]
    error: Option<String>,
}

#[derive(Deserialize)]
struct Auth {
    #[serde(default)]
    entity_id: String,
}

#[derive(Deserialize)]
struct Request {
    #[serde(default)]
    operation: String,
    #[serde(default)]
    path: String,
    #[serde(default)]
    namespace: Option<Namespace>,
}

#[derive(Deserialize)]
struct Namespace {
    #[serde(default)]
    path: String,
}

/// A path in which a secret is kept.
#[derive(Clone)]
struct Wanted {
    /// As the configuration writes it.
    path: String,
    /// As requests name it: in version 2 of the engine with `data`.
    asked: [String; 2],
}

/// Which of `link`'s watched paths the accounts could read, since they did: `entities` are the entity and the `native_id` of each.
///
/// # Errors
/// None: a log that cannot be read is a finding, since then it is not known who did.
pub async fn could_read(link: &mut VaultLink, engines: &[(String, String)], entities: &[(String, String)]) -> Vec<CouldRead> {
    let (files, namespace) = (link.audit_logs.clone(), link.namespace.clone());
    let wanted: Vec<Wanted> = link.watched.iter().map(|path| wanted(path, engines)).collect();
    if files.is_empty() || wanted.is_empty() {
        return Vec::new();
    }
    let read = tokio::task::spawn_blocking(move || read(&files, &namespace, &wanted)).await;
    let log = match read.map_err(|e| Fault::new(FaultKind::Unexpected, "reading failed").because(e)).and_then(|log| log) {
        Ok(log) => log,
        Err(fault) => {
            let what = format!("who has read the paths of shared secrets is not known: {fault}");
            let hint = "let offboard read the file, or correct `audit-logs` in offboard.yaml, then: offboard resume";
            let finding = link.finding(FindingKind::Unknown, None, what, hint);
            link.findings.push(finding);
            return Vec::new();
        }
    };
    if log.odd > 0 {
        let what = format!("lines of the audit logs that tell of paths of shared secrets and cannot be understood: {}", log.odd);
        let finding = link.finding(FindingKind::Unknown, None, what, "see who it was, and name them under `known-to`");
        link.findings.push(finding);
    }
    let of = |((entity, path), (at, how)): ((String, String), (String, &str))| {
        let (_, account) = entities.iter().find(|(id, _)| *id == entity)?;
        let how = format!("{how} it, last at {at}, by the audit log");
        Some(CouldRead { place: link.place.id.clone(), account: account.clone(), own: false, file: path, how, root: false })
    };
    log.by.into_iter().filter_map(of).collect()
}

fn wanted(path: &str, engines: &[(String, String)]) -> Wanted {
    let mounts = engines.iter().map(|(mount, _)| mount).filter(|mount| path.starts_with(mount.as_str()));
    let mount = mounts.max_by_key(|mount| mount.len()).map_or("", String::as_str);
    Wanted { path: path.to_string(), asked: [path.to_string(), format!("{mount}data/{}", &path[mount.len()..])] }
}

fn read(files: &[PathBuf], namespace: &str, wanted: &[Wanted]) -> Result<Log, Fault> {
    let mut log = Log::default();
    for file in files {
        let fault = |e: std::io::Error| Fault::new(FaultKind::Misconfigured, format!("{} cannot be read", file.display())).because(e);
        lines(file, &mut |line| log.line(line, namespace, wanted)).map_err(fault)?;
    }
    Ok(log)
}

fn lines(file: &Path, each: &mut dyn FnMut(&[u8])) -> std::io::Result<()> {
    // A FIFO would never end.
    if !std::fs::metadata(file)?.is_file() {
        return Err(std::io::Error::other("it is no regular file"));
    }
    let mut reader = BufReader::with_capacity(256 * 1024, File::open(file)?);
    let mut line = Vec::new();
    loop {
        line.clear();
        if (&mut reader).take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        each(&line);
    }
}

impl Log {
    fn line(&mut self, line: &[u8], namespace: &str, wanted: &[Wanted]) {
        let Ok(text) = std::str::from_utf8(line) else { return };
        // Most lines are of other paths; JSON is read of those that name one. A quote or the like in a path is escaped there: its beginning will do.
        let plain = |path: &String| path.split(['"', '\\', '<', '>', '&']).next().is_some_and(|begin| text.contains(begin));
        if !wanted.iter().any(|one| one.asked.iter().any(plain)) {
            return;
        }
        let Ok(line) = serde_json::from_str::<Line>(text) else {
            self.odd += 1;
            return;
        };
        let how = match line.request.operation.as_str() {
            "read" => "read",
            "create" | "update" | "patch" => "wrote",
            _ => return,
        };
        let here = line.request.namespace.map_or(String::new(), |namespace| namespace.path);
        let entity = line.auth.map(|auth| auth.entity_id).unwrap_or_default();
        let answered = line.kind == "response" && line.error.is_none_or(|error| error.is_empty());
        if !answered || entity.is_empty() || here.trim_matches('/') != namespace.trim_matches('/') {
            return;
        }
        let path = line.request.path;
        for one in wanted.iter().filter(|one| one.asked.contains(&path)) {
            let last = self.by.entry((entity.clone(), one.path.clone())).or_default();
            if line.time >= last.0 {
                *last = (line.time.clone(), how);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(kind: &str, operation: &str, path: &str, more: &str) -> String {
        format!(
            r#"{{"time":"2026-11-20T08:0{}:00Z","type":"{kind}","auth":{{"entity_id":"e-jane","display_name":"userpass-jane"}},"request":{{"operation":"{operation}","path":"{path}"{more}}}"#,
            kind.len() % 10
        ) + "}\n"
    }

    fn logged(lines: &[String], namespace: &str) -> (Vec<(String, String, &'static str)>, u64) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("audit.log");
        std::fs::write(&file, lines.concat()).unwrap();
        let engines = [("kv/".to_string(), "kv".to_string()), ("kv/old/".to_string(), "kv".to_string())];
        let wanted = ["kv/billing/app", "kv/old/app"].map(|path| wanted(path, &engines));
        let log = read(&[file], namespace, &wanted).unwrap();
        (log.by.into_iter().map(|((entity, path), (_, how))| (entity, path, how)).collect(), log.odd)
    }

    #[test]
    fn who_was_given_a_value_is_told_and_nobody_else() {
        let found = |how| (vec![("e-jane".to_string(), "kv/billing/app".to_string(), how)], 0);
        assert_eq!(logged(&[line("response", "read", "kv/data/billing/app", "")], ""), found("read"));
        assert_eq!(logged(&[line("response", "update", "kv/data/billing/app", "")], ""), found("wrote"));
        assert_eq!(logged(&[line("response", "read", "kv/billing/app", "")], ""), found("read"));
        let old = logged(&[line("response", "read", "kv/old/app", "")], "");
        assert_eq!(old.0[0].1, "kv/old/app");
        for other in [
            line("request", "read", "kv/data/billing/app", ""),
            line("response", "list", "kv/data/billing/app", ""),
            line("response", "delete", "kv/data/billing/app", ""),
            line("response", "read", "kv/data/billing/app2", ""),
            line("response", "read", "kv/metadata/billing/app", ""),
            line("response", "read", "kv/data/billing/app", r#","namespace":{"path":"payments/"}"#),
            line("response", "read", "kv/data/billing/app", "").replace("e-jane", ""),
            line("response", "read", "kv/data/billing/app", "").replace(r#""request""#, r#""error":"permission denied","request""#),
            "\n".into(),
        ] {
            assert_eq!(logged(std::slice::from_ref(&other), ""), (Vec::new(), 0), "{other}");
        }
        let elsewhere = line("response", "read", "kv/data/billing/app", r#","namespace":{"path":"payments/"}"#);
        assert_eq!(logged(&[elsewhere], "payments"), found("read"));
    }

    #[test]
    fn what_cannot_be_understood_is_counted() {
        let good = line("response", "read", "kv/data/billing/app", "");
        assert_eq!(logged(&[good.replace("\"time\":", "\"tim\":"), good[..good.len() - 3].to_string()], "").1, 2);
        assert_eq!(logged(&["kv/data/other: garbage\n".into(), "\u{0}\u{1}\n".into()], ""), (Vec::new(), 0));
        let fault = read(&[PathBuf::from("/does/not/exist")], "", &[]).unwrap_err();
        assert!(fault.to_string().contains("/does/not/exist"), "{fault}");
        assert!(read(&[PathBuf::from("/dev/zero")], "", &[]).is_err());
    }
}
