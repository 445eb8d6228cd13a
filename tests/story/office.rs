//! An office: a folder with a configuration, keys and a journal of its own, and the binary to run in it.

use crate::lab::{Lab, LabPerson};
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

const BOOKS: [&str; 2] = ["involuntary-termination", "voluntary-departure"];

/// A playbook without its last stage, the one that asks people.
fn without_work_by_hand(book: String) -> String {
    let mut asking = false;
    let lines = book.lines().filter(|line| {
        if line.starts_with("  - stage: ") {
            asking = line.ends_with("by-hand");
        } else if !line.starts_with(' ') {
            asking = false;
        }
        !asking
    });
    lines.map(|line| format!("{line}\n")).collect()
}

/// A folder to run `offboard` in.
pub struct Office {
    folder: tempfile::TempDir,
}

/// What a command did.
pub struct Done {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Done {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("no JSON ({e}): {}\n{}", self.out, self.err))
    }

    /// Asserts the exit status; shows everything if it is another.
    pub fn expect(self, code: i32) -> Self {
        let Self { out, err, .. } = &self;
        let why = self.not_done();
        assert_eq!(self.code, Some(code), "exit status\n--- stdout\n{out}\n--- stderr\n{err}\n--- not done\n{why}");
        self
    }

    /// What a JSON report says was not done; a report is too long to find it when a test fails.
    pub fn not_done(&self) -> String {
        let Ok(report) = serde_json::from_str::<Value>(&self.out) else { return String::new() };
        let rows = |name: &str| report[name].as_array().cloned().unwrap_or_default();
        let mut told = rows("unreached");
        told.extend(
            rows("steps")
                .into_iter()
                .filter(|s| !["done", "already-done", "absent"].contains(&s["outcome"].as_str().unwrap_or_default())),
        );
        told.extend(rows("doors").into_iter().filter(|door| door["after"] != "shut"));
        told.extend(rows("findings"));
        told.iter().map(|row| format!("{row}\n")).collect()
    }
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Office {
    /// A copy of the lab's configuration with new keys, an empty journal, and playbooks that do not wait for many minutes, nor for people;
    /// but long enough for a machine that is slow and busy.
    pub fn new(lab: &Lab) -> Self {
        Self::with_work_by_hand(lab).without_work_by_hand()
    }

    /// One for runs that cannot end shut, and so last until their deadline.
    pub fn hasty(lab: &Lab) -> Self {
        let office = Self::new(lab);
        office.hurry();
        office
    }

    /// Its runs last no longer than this.
    pub fn hurry(&self) {
        self.deadline("20s");
    }

    /// As [`Office::new`], with the manual steps that stand in the playbooks.
    pub fn with_work_by_hand(lab: &Lab) -> Self {
        let office = Self { folder: lab.office() };
        office.deadline("2m");
        office.offboard(&["init", "."]).expect(0);
        office
    }

    fn without_work_by_hand(self) -> Self {
        for book in BOOKS {
            self.edit(&format!("playbooks/{book}.yaml"), without_work_by_hand);
        }
        self
    }

    fn deadline(&self, deadline: &str) {
        for book in BOOKS {
            self.edit(&format!("playbooks/{book}.yaml"), |text| {
                let lines = text.lines().map(|line| match line.split(':').next().unwrap() {
                    "deadline" => format!("deadline: {deadline}\n"),
                    "verify" => format!("verify: {{ until: {deadline} }}\n"),
                    _ => format!("{line}\n"),
                });
                lines.collect()
            });
        }
    }

    pub fn path(&self, inside: &str) -> PathBuf {
        self.folder.path().join(inside)
    }

    /// Edits a file of the office.
    pub fn edit(&self, inside: &str, change: impl FnOnce(String) -> String) {
        let path = self.path(inside);
        let text = change(std::fs::read_to_string(&path).unwrap());
        std::fs::write(path, text).unwrap();
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_offboard"));
        command.current_dir(self.folder.path()).args(args).stdin(Stdio::null()).env_remove("OFFBOARD_CONFIG");
        command
    }

    pub fn offboard(&self, args: &[&str]) -> Done {
        self.command(args).output().unwrap().into()
    }

    /// Runs the involuntary termination of `person`; its JSON report.
    pub fn run(&self, person: &LabPerson) -> Done {
        self.offboard(&["--json", "run", &person.id, "-p", "involuntary-termination", "--yes"])
    }
}

/// Every door of a report, as (kind, after).
pub fn doors(report: &Value) -> Vec<(String, String)> {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_string();
    report["doors"].as_array().unwrap().iter().map(|d| (text(&d["kind"]), text(&d["after"]))).collect()
}

pub fn all_shut(report: &Value) {
    assert_eq!(report["verdict"], "shut", "{report:#}");
    for door in report["doors"].as_array().unwrap() {
        assert_eq!(door["after"], "shut", "{door:#}");
    }
}
