//! The LDAP connector against a real slapd in every state of its password policy, and against hostile entries.
//!
//! Each test starts a server of its own on the loopback, with ports of its own, and stops it again. The servers need
//! nothing but the packages slapd and ldap-utils.

#[path = "server/mod.rs"]
mod server;

#[path = "ldap_variants/slapd.rs"]
mod slapd;

#[path = "ldap_variants/lock.rs"]
mod lock;

#[path = "ldap_variants/find.rs"]
mod find;

#[path = "ldap_variants/reach.rs"]
mod reach;

#[path = "ldap_variants/rotate.rs"]
mod rotate;
