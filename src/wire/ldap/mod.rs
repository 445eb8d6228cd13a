//! LDAP version 3 (RFC 4511), always over TLS: `ldaps://`, or `ldap://` with StartTLS (RFC 4513, section 3).
//!
//! It knows sessions, entries, names and result codes, and nothing of people or accounts. Referrals are never followed: a
//! referral would send our password to a host that the configuration does not name.

mod dn;
mod entry;
mod policy;
mod reply;
mod session;

pub use dn::{normal as normal_dn, parent as parent_dn};
pub use entry::Entry;
pub use ldap3::{Scope, dn_escape, ldap_escape, parse_filter};
pub use policy::{PolicyError, PolicyReply};
pub use reply::{Code, Reply};
pub use session::{Address, Change, Found, Search, Session};
