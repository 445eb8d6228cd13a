//! One contract for all connectors, run on the real servers of the lab (docs/DESIGN: "One contract for all").
//!
//! Run with `make test`, or `lab/enter cargo test --test contract`.

#[path = "../lab/mod.rs"]
mod lab;

mod command;
mod ldap;
mod mysql;
mod openvpn;
mod postgres;
mod redis;
mod ssh;
mod suite;
mod vault;
mod wireguard;
