//! `offboard serve` against the real servers of the lab: what is scheduled begins in time, whatever dies in between, and commands are carried
//! out by it as they are without it.
//!
//! Run with `make test`, or `lab/enter cargo test --features failpoints --test serve`.

#![allow(clippy::disallowed_methods, reason = "hours are set from the wall clock, as operators do")]

#[path = "../lab/mod.rs"]
mod lab;
#[path = "../story/office.rs"]
#[allow(dead_code, reason = "each test binary uses another part of it")]
mod office;

mod clock;
mod orders;
mod roster;
mod schedule;
mod server;
mod sweep;
