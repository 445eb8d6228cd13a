//! Clients that rooms share. Each speaks one protocol and knows nothing of people, accounts or runs.

pub mod address;
pub mod fleet;
pub mod gateway;
pub mod guarded;
pub mod http;
pub mod ldap;
pub mod mysql;
pub mod program;
pub mod reach;
pub mod resp;
pub mod secret;
pub mod shell;
pub mod spellings;
pub mod sql;
pub mod tls;
