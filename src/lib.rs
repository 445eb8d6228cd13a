//! `offboard` closes every door that a leaver had, and proves each one shut.
//!
//! The map of the house. Data walks one straight line, and the rooms stand along it:
//!
//! ```text
//! trigger → person → accounts and doors found → plan → guard → journal → steps applied → look again → report
//! ```
//!
//! Who may import whom stands in `docs/architecture.md`; `tests/house.rs` enforces it.

pub mod cli;
pub mod config;
pub mod connector;
pub mod connectors;
pub mod daemon;
pub mod engine;
pub mod journal;
pub mod letters;
pub mod model;
pub mod notify;
pub mod playbook;
pub mod report;
pub mod roster;
pub mod source;
pub mod store;
pub mod wire;
pub mod wiring;
