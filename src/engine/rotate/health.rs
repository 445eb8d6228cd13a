//! Whether shared secrets could be rotated now: everybody is asked as `create` asks, and nothing is changed.

use super::Participant;
use super::chain::PATIENCE;
use crate::connector::{Taken, Turn};
use crate::engine::Engine;
use crate::model::{Fault, Finding, Part, PartKind, Phase, SecretName, Seen, SharedSecret};
use futures::future::join_all;
use secrecy::SecretString;

impl Engine {
    /// What each participant of each secret says of itself when asked as `create` asks: nothing is changed.
    pub async fn secrets_health(&self) -> Vec<SecretHealth> {
        join_all(self.secrets.iter().map(|(name, secret)| self.secret_health(name, secret))).await
    }

    /// [`Engine::secrets_health`] of one.
    pub(super) async fn secret_health(&self, name: &SecretName, secret: &SharedSecret) -> SecretHealth {
        let cx = &self.cx(vec![0; 32].into());
        let mut health = SecretHealth {
            name: name.clone(),
            secret: secret.clone(),
            parts: Vec::new(),
            fault: None,
            findings: Vec::new(),
        };
        let mut rotation = match self.rotation(name, secret, Vec::new()) {
            Ok(rotation) => rotation,
            Err(fault) => {
                health.fault = Some(fault);
                return health;
            }
        };
        let ask = async |participant: &Participant, old: Option<&SecretString>| -> Result<Taken, Fault> {
            let mut link = self.open(&*participant.connector, &participant.place, cx).await?;
            let (part, seen) = (&participant.part, &Seen::default());
            let turn =
                Turn { phase: Phase::Create, secret: name, part, old, new: None, user: None, seen, consumers: &[] };
            let what = format!("{}: asking {}", participant.place.id, participant.name());
            self.in_time(&what, PATIENCE, link.rotate(&turn, cx)).await?
        };
        let (mut old, mut user) = (None, None);
        for (participant, taken) in
            rotation.consumers.iter().zip(join_all(rotation.consumers.iter().map(|p| ask(p, None))).await)
        {
            let fault = match taken {
                Ok(taken) => {
                    old = taken.value.or(old);
                    user = taken.seen.user.or(user);
                    health.findings.extend(taken.findings);
                    None
                }
                Err(fault) => Some(fault),
            };
            health.parts.push(PartHealth { kind: participant.part.kind(), what: participant.name(), fault });
        }
        let mut checking = Vec::new();
        if let Some(setter) = &rotation.setter {
            let fault = match ask(setter, old.as_ref()).await {
                Ok(taken) => {
                    old = taken.value.or(old);
                    None
                }
                Err(fault) => Some(fault),
            };
            checking.push(PartHealth { kind: setter.part.kind(), what: setter.name(), fault });
        }
        if let Some(user) = user {
            rotation.turn_to(&user);
        }
        for participant in rotation.checking() {
            // Of two accounts that alternate, the consumers' value is that of the one that they leave.
            let is_theirs = rotation.former.is_none() || matches!(participant.part, Part::Former { .. });
            let fault = match ask(participant, old.as_ref().filter(|_| is_theirs)).await {
                Ok(taken) => {
                    health.findings.extend(taken.findings);
                    None
                }
                Err(fault) => Some(fault),
            };
            checking.push(PartHealth { kind: participant.part.kind(), what: participant.name(), fault });
        }
        health.parts.splice(0..0, checking);
        health
    }
}

/// How a shared secret stands.
pub struct SecretHealth {
    /// Its name.
    pub name: SecretName,
    /// As it is declared.
    pub secret: SharedSecret,
    /// The source, then the consumers.
    pub parts: Vec<PartHealth>,
    /// Why nobody could be asked.
    pub fault: Option<Fault>,
    /// What somebody should look at, though it can be rotated: who else can read it.
    pub findings: Vec<Finding>,
}

impl SecretHealth {
    /// Everything that is wrong with it.
    pub fn faults(&self) -> impl Iterator<Item = &Fault> {
        self.fault.iter().chain(self.parts.iter().filter_map(|part| part.fault.as_ref()))
    }
}

/// How one participant stands.
pub struct PartHealth {
    /// What it is.
    pub kind: PartKind,
    /// For people.
    pub what: String,
    /// What is wrong with it.
    pub fault: Option<Fault>,
}
