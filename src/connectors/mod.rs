//! The registry: every system that can be closed, one line each.

pub mod ldap;
pub mod postgres;
pub mod ssh;
