//! A rotation that is a run of its own: nobody leaves, but a secret is old, or may be known to somebody whom it should not be known to.

use super::Rotation;
use super::health::SecretHealth;
use crate::connector::Connector;
use crate::engine::{Engine, Run};
use crate::model::{Fault, FaultKind, Place, SecretName, Step};
use crate::playbook::Playbook;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use tokio::sync::OwnedMutexGuard;

/// What a rotation would do, drawn without changing anything.
pub struct DraftRotation {
    /// Whether everybody who takes part is well.
    pub health: SecretHealth,
    /// Every turn, in order.
    pub steps: Vec<Step>,
}

impl Engine {
    /// The rotation of the secret of that name.
    ///
    /// # Errors
    /// `offboard.yaml` has none, or names a place that is not there.
    pub(super) fn rotation_of(&self, name: &SecretName, why: Vec<String>) -> Result<Rotation, Fault> {
        let secret = self.secrets.get(name).ok_or_else(|| self.no_secret(name))?;
        self.rotation(name, secret, why)
    }

    /// That there is no such secret, and which there are.
    pub fn no_secret(&self, name: &SecretName) -> Fault {
        let names: Vec<&str> = self.secrets.keys().map(|name| name.0.as_str()).collect();
        let hint = match names.as_slice() {
            [] => "declare it under `secrets` in offboard.yaml".to_string(),
            names => format!("the secrets in offboard.yaml are: {}", names.join(", ")),
        };
        Fault::new(FaultKind::Misconfigured, format!("there is no secret {:?}", name.0)).hint(hint)
    }

    /// The places that take part in the rotation of a secret.
    ///
    /// # Errors
    /// As in [`Engine::rotation_of`].
    pub fn places_of_secret(&self, name: &SecretName) -> Result<Vec<Place>, Fault> {
        Ok(self.rotation_of(name, Vec::new())?.places().into_iter().map(|(_, place)| place).collect())
    }

    /// What the rotation of a secret would do now. Everybody is asked as `create` asks; nothing is changed.
    ///
    /// # Errors
    /// As in [`Engine::rotation_of`].
    pub async fn draft_rotation(&self, name: &SecretName) -> Result<DraftRotation, Fault> {
        let secret = self.secrets.get(name).ok_or_else(|| self.no_secret(name))?;
        let rotation = self.rotation_of(name, Vec::new())?;
        let steps = rotation.steps();
        Ok(DraftRotation { health: self.secret_health(name, secret).await, steps })
    }

    /// The right to rotate the secret, when nobody else does.
    pub(super) async fn turn_of(&self, name: &SecretName) -> OwnedMutexGuard<()> {
        let gate = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(turns.entry(name.clone()).or_default())
        };
        gate.lock_owned().await
    }
}

impl Run<'_> {
    /// The places that take part, if the run is about a secret that the configuration still has.
    pub(in crate::engine) fn places_of_the_secret(&self) -> Vec<(Arc<dyn Connector>, Place)> {
        self.rotations().into_iter().flatten().flat_map(|rotation| rotation.places()).collect()
    }
}

impl Rotation {
    /// Every place that takes part, once.
    fn places(&self) -> Vec<(Arc<dyn Connector>, Place)> {
        let all = self.everybody().map(|p| (p.place.id.clone(), (Arc::clone(&p.connector), p.place.clone())));
        all.collect::<BTreeMap<_, _>>().into_values().collect()
    }
}

/// The playbook of a run that rotates a secret: there is none to write.
///
/// # Errors
/// Never, unless this program was built wrong.
pub fn rotation_playbook() -> Result<Playbook, Fault> {
    Playbook::from_yaml("rotation.yaml", include_bytes!("rotation.yaml")).map_err(|mistakes| {
        Fault::new(FaultKind::Unexpected, "the playbook of a rotation cannot be read").because(mistakes)
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn its_playbook_can_be_read() {
        let book = super::rotation_playbook().unwrap();
        assert_eq!((book.stages.len(), book.verify.again.len()), (1, 2));
    }
}
