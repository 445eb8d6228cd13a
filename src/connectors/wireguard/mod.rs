//! WireGuard: the peers of gateways that `wg` runs and `wg-quick` configures.
//!
//! The gateway is reached over SSH, as Unix hosts are: one connection, and on it one script (`script/*.sh`, POSIX sh), as root or through
//! `sudo -n`. A peer is a public key and nothing else: whose it is, says `offboard.yaml` or a comment beside it. It counts as gone only when
//! neither what runs nor what is brought up next has it. Private and preshared keys never leave the gateway.
//!
//! | part | does |
//! |---|---|
//! | `settings` | the block in `offboard.yaml` |
//! | `link` | one connection: what each call sends and reads |
//! | `survey`, `names` | what the gateway says; keys, and comments that name somebody |
//! | `discover` | accounts, doors and findings |
//! | `apply` | steps, and what the script is told |
//! | `look` | verdicts |

mod apply;
mod discover;
mod findings;
mod link;
mod look;
mod names;
#[cfg(test)]
mod script_tests;
mod settings;
mod survey;

pub use settings::{Control, Settings, build};

use crate::connector::{Connector, Cx, Link, Manifest};
use crate::model::{Account, Action, Chain, DoorKind, Family, Fault, Fingerprint, PersonId, Place, Proof};
use crate::wire::gateway;
use async_trait::async_trait;
use std::sync::Arc;

/// What this connector is.
pub static MANIFEST: Manifest = Manifest {
    name: "wireguard",
    family: Family::Vpn,
    doors: &[(DoorKind::Peer, Proof::ReadBack)],
    privileges: &[
        "an SSH login by key on every gateway",
        "root there, or sudo without a password: offboard ALL=(root) NOPASSWD: /bin/sh -s",
    ],
    not_covered: &[
        "a refused handshake as proof: WireGuard answers a stranger as it answers a wrong key, with silence, and the leaver's private key is not ours",
        "peers that systemd-networkd, NetworkManager or netplan keep: taken out of the runtime, told, and left to a person in their files",
        "programs that write the configuration from a database of their own (wg-easy, Firezone): take the peer out there as well",
        "interfaces in other network namespaces than the one that SSH leads into, such as those of containers",
        "preshared keys that several peers share: told, not changed",
    ],
    rotates: &[],
};

/// What the settings say of every gateway.
struct Kept {
    /// The control's key, in canonical form.
    control: Option<String>,
    /// The interfaces that are meant; all of them if there is none.
    interfaces: Vec<String>,
    folder: String,
}

/// Gateways that are set up alike.
struct Gateways {
    reach: gateway::Gateways,
    kept: Arc<Kept>,
    /// Assignments of the shell, and the script.
    script: String,
}

#[async_trait]
impl Connector for Gateways {
    fn manifest(&self) -> &'static Manifest {
        &MANIFEST
    }

    fn places(&self) -> Vec<Place> {
        self.reach.places()
    }

    fn own_keys(&self) -> Vec<Fingerprint> {
        vec![self.reach.own_key()]
    }

    fn plan(&self, account: &Account, leaver: &PersonId, action: Action) -> Vec<Chain> {
        apply::chains(account, leaver, action)
    }

    async fn open(&self, place: &Place, cx: &Cx) -> Result<Box<dyn Link>, Fault> {
        let script = self.reach.open(place, cx.timeout, (cx.now)(), &self.script).await?;
        Ok(Box::new(link::GatewayLink::new(script, self.kept.clone(), cx.baseline.as_ref())))
    }
}
