//! A shell on another host, over SSH: one connection, logged in by key, on which one script is kept running and called as often
//! as needed. Also the probe of RFC 4252: whether a host would accept a public key, without having its private half.
//!
//! Host keys are always checked, against a known_hosts file and nothing else. What runs on the host travels over standard input,
//! so that nothing of it stands in process arguments there.

mod client;
mod known;
mod probe;
mod script;

pub use client::{Login, Shell};
pub use known::KnownHosts;
pub use probe::{Kept, Probe, probe, probe_and_keep};
pub use script::{CallError, Closed, Script};

use crate::model::{Fault, FaultKind, Fingerprint};
use crate::wire::guarded::{self, Access};
use russh::keys::{HashAlg, PrivateKey, PublicKey};
use std::path::Path;
use std::sync::Arc;

/// Where a host is, and who we are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The name that people use, which known_hosts is asked for first.
    pub name: String,
    /// Where to connect: an address or a name that resolves. known_hosts is asked for it second.
    pub address: String,
    /// The TCP port.
    pub port: u16,
    /// The account to log in to.
    pub user: String,
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.user, self.name)?;
        if self.address != self.name || self.port != 22 {
            write!(f, " ({}:{})", self.address, self.port)?;
        }
        Ok(())
    }
}

/// Reads an OpenSSH private key without a passphrase from a file that nobody else may read.
///
/// # Errors
/// `Misconfigured`: the file's owner or mode, or no such key in it.
pub fn read_key(path: &Path) -> Result<Arc<PrivateKey>, Fault> {
    let fault = |why: &str| {
        Fault::new(FaultKind::Misconfigured, format!("{}: is no private key that can be used", path.display()))
            .because(why)
            .hint("make one for this purpose alone: ssh-keygen -t ed25519 -N '' -f FILE")
    };
    let text = zeroize::Zeroizing::new(guarded::read(path, Access::OwnerReads)?);
    let text = std::str::from_utf8(&text).map_err(|_| fault("it is not text"))?;
    // The decoder's own error may quote what it read, so it is not passed on.
    let key = russh::keys::decode_secret_key(text, None).map_err(|e| match e {
        russh::keys::Error::KeyIsEncrypted => fault("it is protected by a passphrase"),
        _ => fault("its format is not understood"),
    })?;
    if key.is_encrypted() {
        return Err(fault("it is protected by a passphrase"));
    }
    Ok(Arc::new(key))
}

/// The fingerprint of a public key, as `ssh-keygen -lf` prints it.
pub fn fingerprint(key: &PublicKey) -> Fingerprint {
    Fingerprint(key.fingerprint(HashAlg::Sha256).to_string())
}

/// `text` as one word of the shell.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Replaces what could steer a terminal or break a line: control characters, and the Unicode ones that turn the direction of
/// text. Cut to `most` characters.
pub fn printable(text: &str, most: usize) -> String {
    let mut shown: String = text
        .chars()
        .take(most)
        .map(|c| match c {
            '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' => '\u{fffd}',
            c if c.is_control() => '\u{fffd}',
            c => c,
        })
        .collect();
    if text.chars().nth(most).is_some() {
        shown.push('…');
    }
    shown
}
