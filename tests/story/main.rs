//! Whole runs of the real binary against the real servers of the lab, as an operator would start them and as a leaver would attack them.
//!
//! Run with `make test`, or `lab/enter cargo test --features failpoints --test story`.

#[path = "../lab/mod.rs"]
mod lab;

mod attack;
mod by_hand;
mod crash;
mod main_job;
mod mistakes;
mod office;
