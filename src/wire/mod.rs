//! Clients that rooms share. Each speaks one protocol and knows nothing of people, accounts or runs.

pub mod address;
pub mod fleet;
pub mod guarded;
pub mod http;
pub mod ldap;
pub mod reach;
pub mod resp;
pub mod secret;
pub mod shell;
pub mod sql;
pub mod tls;
