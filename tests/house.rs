//! Who may import whom (docs/architecture.md), and the rules that no reviewer should have to remember.

use std::fs;
use std::path::{Path, PathBuf};

/// Room, and the rooms of ours that it may import.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("connector", &["model"]),
    ("source", &["model"]),
    ("playbook", &["source", "model"]),
    ("journal", &["model"]),
    ("wire", &["model"]),
    ("roster", &["source", "model"]),
    ("store", &["model"]),
    ("notify", &["store", "wire", "model"]),
    ("connectors", &["connector", "source", "wire", "model"]),
    ("letters", &["notify", "store", "report", "model"]),
    ("report", &["journal", "model"]),
    ("engine", &["connector", "playbook", "roster", "journal", "report", "model"]),
];

/// Rooms that stand at the edge: they may read the clock and print.
const EDGES: &[&str] = &["cli", "main"];

fn sources() -> Vec<(String, PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let inside = path.strip_prefix(&root).unwrap();
                let room = inside.components().next().unwrap().as_os_str().to_str().unwrap();
                let room = room.trim_end_matches(".rs").to_string();
                let text = fs::read_to_string(&path).unwrap();
                // Unit tests at the end of a file may do what tests do.
                let text = text.split("#[cfg(test)]").next().unwrap().to_string();
                found.push((room, path, text));
            }
        }
    }
    assert!(found.len() > 30, "the house was not found");
    found
}

/// Code without comments.
fn code(text: &str) -> String {
    text.lines().map(|l| l.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

#[test]
fn rooms_import_only_what_they_may() {
    for (room, path, text) in sources() {
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(r, _)| *r == room) else { continue };
        let code = code(&text);
        for (at, _) in code.match_indices("crate::") {
            let name: String = code[at + 7..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            assert!(
                name.is_empty() || name == room || allowed.contains(&name.as_str()),
                "{}: {room} imports {name}; it may import {allowed:?}",
                path.display()
            );
        }
    }
}

#[test]
fn nothing_reads_the_clock_or_prints_outside_the_edges() {
    for (room, path, text) in sources() {
        if EDGES.contains(&room.as_str()) {
            continue;
        }
        let code = code(&text);
        for forbidden in ["Timestamp::now", "Zoned::now", "SystemTime", "println!", "eprintln!", "print!(", "dbg!"] {
            assert!(
                !code.contains(forbidden),
                "{}: {forbidden} (time comes in through Cx; only cli prints)",
                path.display()
            );
        }
    }
}

#[test]
fn nothing_is_a_stub() {
    for (_, path, text) in sources() {
        for forbidden in ["todo!", "unimplemented!", "FIXME", "XXX"] {
            assert!(!text.contains(forbidden), "{}: {forbidden}", path.display());
        }
    }
}

#[test]
fn only_the_registry_names_a_connector() {
    let names = connector_names();
    for (room, path, text) in sources() {
        if room == "connectors" {
            continue;
        }
        for name in &names {
            let needle = format!("connectors::{name}");
            assert!(!code(&text).contains(&needle), "{}: {needle}", path.display());
        }
    }
}

fn connector_names() -> Vec<&'static str> {
    offboard::connectors::manifests().iter().map(|m| m.name).collect()
}

#[test]
fn every_connector_has_a_rig_and_a_page() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let names = connector_names();
    assert!(!names.is_empty());
    for name in names {
        let rig = fs::read_to_string(root.join(format!("tests/contract/{name}.rs"))).unwrap_or_default();
        assert!(rig.contains("contract!("), "{name} has no contract rig");
        let page = fs::read_to_string(root.join(format!("docs/connectors/{name}.md"))).unwrap_or_default();
        assert!(page.len() > 500, "{name} has no page in docs/connectors");
    }
}
