//! A rotation in which something else sets the account's password: it chooses the value, so that can only be sealed once it is set.
//!
//! The old value is what the setter says at `create`. What it has set is sealed before the step counts as done; a value that was not sealed, because the
//! answer was lost, is replaced by another one: somebody may have read it.

use super::Rotation;
use super::chain::{Chain, Turned};
use crate::engine::{Halt, Run};
use crate::model::{DoorId, Phase, Which};
use secrecy::{ExposeSecret, SecretString};

impl Rotation {
    /// The setter's number, where there is one.
    fn setter_number(&self) -> Option<usize> {
        self.setter.as_ref().map(|_| self.consumers.len() + 1)
    }

    /// Whether nothing goes on without that participant: the source, and its setter.
    pub(super) fn needs(&self, index: usize) -> bool {
        index == self.consumers.len() || Some(index) == self.setter_number()
    }
}

impl Run<'_> {
    /// `create` of the setter: the value that it says now, which has to be that of the consumers where there are any. Nothing if it failed or was given up.
    pub(super) async fn setters_value(
        &self,
        chain: &Chain<'_>,
        of_consumers: Option<&SecretString>,
    ) -> Result<Option<SecretString>, Halt> {
        let Some(number) = chain.rotation.setter_number() else { return Ok(None) };
        match self.turn(chain, number, Phase::Create, of_consumers).await? {
            Turned::Done(value) => Ok(value),
            Turned::Failed | Turned::Waived => Ok(None),
        }
    }

    /// Seals one of the two values as somebody else has chosen it, unless that very value is sealed already.
    pub(super) async fn seal_known(&self, door: &DoorId, which: Which, value: SecretString) -> Result<(), Halt> {
        let (old, new) = self.recorder.unseal_secret(door).await?;
        let known = match which {
            Which::Old => &old,
            Which::New => &new,
        };
        if known.as_ref().is_none_or(|known| known.expose_secret() != value.expose_secret()) {
            self.recorder.seal_secret(door, vec![(which, value.clone())]).await?;
        }
        match which {
            Which::Old => self.know(door, Some(value), new),
            Which::New => self.know(door, old, Some(value)),
        }
        Ok(())
    }
}
