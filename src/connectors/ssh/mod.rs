//! Unix hosts over SSH: accounts, authorized keys, sessions and processes, jobs, memberships that grant something.
//!
//! One connection a host serves for everything; on it one script runs (`script/*.sh`, POSIX sh), as root or through `sudo -n`.
//! What the host says comes back as lines ([`survey`]); what is changed there is changed by the script alone. Keys are proved gone
//! by asking sshd itself, over connections of their own, whether it would still take them ([`crate::wire::shell::probe`]).
//!
//! | part | does |
//! |---|---|
//! | `settings` | the block in `offboard.yaml` |
//! | `link` | one connection: what each call sends and reads |
//! | `survey`, `keys` | what the host says; lines of authorized_keys as sshd reads them |
//! | `discover`, `baseline` | accounts, doors and findings; what stood there first, and who could have planted what did not |
//! | `watched` | who could read the files in which shared secrets are kept |
//! | `held` | findings about what a leaver may have left behind where they could write |
//! | `plan`, `apply` | steps, and what the script is told |
//! | `rotate`, `keyfile` | a consumer of a shared secret: one key of a file (env, INI, YAML, JSON, properties), reload, health; no value in what they say |
//! | `source`, `service_key` | its source: a program that checks the value, an account that a private key opens |
//! | `look` | verdicts |
//! | `uses` | for a sweep: when accounts were last used, and which can be entered at all |
//! | `check` | our own standing, and how sshd is set up |

mod apply;
mod baseline;
mod check;
mod discover;
mod held;
mod keyfile;
mod keys;
mod link;
mod look;
mod plan;
mod rotate;
#[cfg(test)]
mod script_tests;
mod service_key;
mod settings;
mod source;
mod survey;
mod undeclared;
mod uses;
mod watched;

pub use settings::{Settings, build};

use crate::connector::{Connector, Cx, Entry, Link, Manifest};
use crate::model::{
    Account, Action, Chain, DoorKind, Family, Fault, FaultKind, Fingerprint, KeyFormat, Part, PartKind, PersonId, Place, PlaceId,
    Proof,
};
use crate::wire::shell::{self, KnownHosts, Login, Target};
use async_trait::async_trait;
use russh::keys::PrivateKey;
use secrecy::SecretString;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// What this connector is.
pub static MANIFEST: Manifest = Manifest {
    name: "ssh",
    family: Family::Host,
    doors: &[
        (DoorKind::Login, Proof::ReadBack),
        (DoorKind::SshKey, Proof::Refused),
        (DoorKind::Session, Proof::ReadBack),
        (DoorKind::Job, Proof::ReadBack),
        (DoorKind::Membership, Proof::ReadBack),
    ],
    rotates: &[PartKind::Consumer, PartKind::SourceFile, PartKind::Authorized],
    privileges: &[
        "an SSH login by key on every host",
        "root there, or sudo without a password: offboard ALL=(root) NOPASSWD: /bin/sh -s",
    ],
    not_covered: &[
        "user certificates: TrustedUserCAKeys is reported, a certificate is not revoked",
        "keys that AuthorizedKeysCommand serves: they are revoked in the directory it asks",
        "setuid copies, changed programs and the like that a leaver with root may have left: no tool can vouch for such a host",
        "system-wide jobs (/etc/cron.d, systemd units) that run as the leaver: reported where they name the account",
    ],
};

/// One host, and who we are there.
#[derive(Clone, Debug)]
struct HostAt {
    place: Place,
    target: Target,
    /// Room for connections on which nobody logs in and that are kept all the same, over all runs: one. sshd lets only so many be open at
    /// a time (MaxStartups, sshd_config(5)), and one that it refuses may be a colleague's.
    keeping: Arc<Semaphore>,
}

/// A fleet of hosts.
struct Fleet {
    hosts: BTreeMap<PlaceId, HostAt>,
    /// The hosts' order in the configuration.
    order: Vec<PlaceId>,
    key: Arc<PrivateKey>,
    own: Fingerprint,
    known: Arc<KnownHosts>,
    sudo: bool,
    parallel: usize,
    /// Groups that grant something, separated by blanks.
    groups: String,
}

#[async_trait]
impl Connector for Arc<Fleet> {
    fn manifest(&self) -> &'static Manifest {
        &MANIFEST
    }

    fn places(&self) -> Vec<Place> {
        self.order.iter().map(|id| self.hosts[id].place.clone()).collect()
    }

    fn parallel(&self) -> usize {
        self.parallel
    }

    fn own_keys(&self) -> Vec<Fingerprint> {
        vec![self.own.clone()]
    }

    fn plan(&self, account: &Account, leaver: &PersonId, action: Action) -> Vec<Chain> {
        plan::chains(account, leaver, action, &self.own)
    }

    fn entry(&self, account: &Account) -> Entry {
        uses::entry(account)
    }

    fn made(&self, account: &Account) -> Option<jiff::Timestamp> {
        // Whoever changed its password, or made it, on that day found it there.
        let day = account.facts.get("changed")?.as_i64()?;
        jiff::Timestamp::from_second(day.checked_mul(86_400)?).ok()
    }

    fn new_value(&self, source: &Part) -> Result<Option<SecretString>, Fault> {
        let made = match source {
            Part::Authorized { .. } => keyfile::PrivateKeyFile::new().and_then(|key| key.text()),
            Part::SourceFile(kept) if kept.format == KeyFormat::WireGuard => keyfile::preshared_key(),
            _ => return Ok(None),
        };
        let text = made.map_err(|why| Fault::new(FaultKind::Unexpected, "cannot make a new key").because(why))?;
        Ok(Some(SecretString::from(text.as_str())))
    }

    async fn open(&self, place: &Place, cx: &Cx) -> Result<Box<dyn Link>, Fault> {
        let host = self.hosts.get(&place.id).ok_or_else(|| {
            Fault::new(FaultKind::Misconfigured, format!("ssh {}: no such host in offboard.yaml", place.address))
        })?;
        let login = Login {
            target: host.target.clone(),
            key: self.key.clone(),
            known: self.known.clone(),
            timeout: cx.timeout,
            now: (cx.now)().as_second().max(0) as u64,
        };
        let shell = shell::Shell::connect(&login).await?;
        let link = link::SshLink::start(self.clone(), host.clone(), login, shell, cx).await?;
        Ok(Box::new(link))
    }
}
