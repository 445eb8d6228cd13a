//! OpenVPN: certificates of a private CA, the list of revoked ones, `disable` lines in the client-config-dir, live clients.
//!
//! The gateway is reached over SSH, as Unix hosts are: one connection, and on it one script (`script/*.sh`, POSIX sh), as root or through
//! `sudo -n`. What counts is the server that runs: its command line, its configuration, its folder and its user decide which files
//! are read and changed. Live clients are listed and cut through its management interface, which the script speaks with on the gateway
//! itself.
//!
//! | part | does |
//! |---|---|
//! | `settings` | the block in `offboard.yaml` |
//! | `link` | one connection: what each call sends and reads |
//! | `survey`, `names` | what the gateway says; names and dates as openssl writes them |
//! | `discover` | accounts, doors and findings |
//! | `plan`, `apply` | steps, and what the script is told |
//! | `look` | verdicts |

mod apply;
mod discover;
mod link;
mod look;
mod names;
mod plan;
#[cfg(test)]
mod script_tests;
mod settings;
mod survey;

pub use settings::{Authority, Settings, build};

use crate::connector::{Connector, Cx, Link, Manifest};
use crate::model::{Account, Action, Chain, DoorKind, Family, Fault, Fingerprint, PersonId, Place, Proof};
use crate::wire::gateway;
use async_trait::async_trait;

/// What this connector is.
pub static MANIFEST: Manifest = Manifest {
    name: "openvpn",
    family: Family::Vpn,
    doors: &[(DoorKind::Certificate, Proof::Refused), (DoorKind::Session, Proof::ReadBack)],
    privileges: &[
        "an SSH login by key on every gateway",
        "root there, or sudo without a password: offboard ALL=(root) NOPASSWD: /bin/sh -s",
        "the server's management interface, on the gateway itself",
        "the CA's key on the gateway, or a client-config-dir",
    ],
    not_covered: &[
        "logins by password (auth-user-pass): the back end is named, and closed where it keeps its accounts",
        "the shared key of tls-auth or tls-crypt: the leaver has a copy; alone it opens nothing",
        "certificates that another CA than the configured one gave out: nothing lists them",
    ],
    rotates: &[],
};

/// Gateways that are set up alike.
struct Gateways {
    reach: gateway::Gateways,
    /// What the script is told of files, as assignments of the shell, and the script.
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
        plan::chains(account, leaver, action)
    }

    async fn open(&self, place: &Place, cx: &Cx) -> Result<Box<dyn Link>, Fault> {
        let now = (cx.now)();
        let script = self.reach.open(place, cx.timeout, now, &self.script).await?;
        Ok(Box::new(link::GatewayLink::new(script, now)))
    }
}
