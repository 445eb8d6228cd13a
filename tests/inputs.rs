//! What people write: playbooks, rosters, configuration. The messages are snapshots, so that people can read them.

#[path = "inputs/config.rs"]
mod config;
#[path = "inputs/matching.rs"]
mod matching;
#[path = "inputs/playbooks.rs"]
mod playbooks;
#[path = "inputs/roster.rs"]
mod roster;
