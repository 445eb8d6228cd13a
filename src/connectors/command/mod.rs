//! Any system that commands of one's own can close: discover, disable, end sessions, look, and the rest, each a declared command line that is asked with
//! JSON and answers with JSON.
//!
//! What a command says is its word alone: it is told as that, and it counts only if it names a control that still gets in. What it does is its author's duty, as
//! [`crate::connector`] is ours: done twice, or landing late, it must never open anything.
//!
//! - [`settings`]: what `offboard.yaml` says; [`talk`]: one question and its answer
//! - [`link`]: inventory, steps, proof, and the way back; [`rotate`]: the source of a shared secret

mod link;
mod rotate;
mod settings;
mod talk;

use crate::connector::{Connector, Cx, Link, Manifest};
use crate::model::{
    Account, Action, Chain, DoorKind, Family, Fault, FaultKind, PartKind, PersonId, Place, Proof, Step, SystemName,
};
use async_trait::async_trait;
use link::CommandLink;
pub use settings::{Command, Commands, Settings};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use talk::Talk;

/// What this connector is.
pub static MANIFEST: Manifest = Manifest {
    name: "command",
    family: Family::Saas,
    doors: &[
        (DoorKind::Password, Proof::Refused),
        (DoorKind::Login, Proof::Refused),
        (DoorKind::Session, Proof::Refused),
        (DoorKind::Token, Proof::Refused),
        (DoorKind::Certificate, Proof::Refused),
        (DoorKind::SshKey, Proof::Refused),
        (DoorKind::Job, Proof::ReadBack),
        (DoorKind::Membership, Proof::ReadBack),
        (DoorKind::SharedSecret, Proof::Refused),
    ],
    rotates: &[PartKind::Source],
    privileges: &["whatever the commands need: `check` says what is missing"],
    not_covered: &[
        "what the commands do not look for: their word is all that there is",
        "ways in for which no command is declared: they are looked at, and stay open",
    ],
};

/// Ways in that `revoke` makes worthless, one by one.
const CREDENTIALS: [DoorKind; 3] = [DoorKind::Token, DoorKind::Certificate, DoorKind::SshKey];

/// The connector of one system. Relative files are looked up in `base`.
///
/// # Errors
/// `Misconfigured`: no `check`; a place twice; accounts that can be closed and not be found or looked at; half of a source; a program by a bare name.
pub fn build(system: &SystemName, settings: Settings, base: &Path) -> Result<Arc<dyn Connector>, Fault> {
    let fault = |what: String| Fault::new(FaultKind::Misconfigured, format!("command {system}: {what}"));
    let commands = &settings.commands;
    if commands.check.is_empty() {
        return Err(fault("`check` is missing".into()).hint("a command that says who it is there, such as [bin/archive, check]"));
    }
    for (key, command) in commands.all() {
        if let Some(program) = command.first()
            && !program.contains('/')
        {
            return Err(fault(format!("{key}: {program:?} is not looked for in PATH")).hint("write its path: /usr/local/bin/… or bin/…"));
        }
    }
    let closes = [&commands.disable, &commands.end_sessions, &commands.revoke, &commands.remove, &commands.restore];
    if closes.into_iter().any(|command| !command.is_empty()) && (commands.discover.is_empty() || commands.look.is_empty()) {
        return Err(fault("accounts are closed, but not found and looked at".into()).hint("declare `discover` and `look`, too"));
    }
    if commands.discover.is_empty() != commands.look.is_empty() {
        return Err(fault("`discover` and `look` belong together".into()).hint("declare both, or neither"));
    }
    if commands.set_secret.is_empty() != commands.try_secret.is_empty()
        || (commands.set_secret.is_empty() && !commands.end_secret.is_empty())
    {
        return Err(fault("`set-secret` and `try-secret` belong together".into()).hint("declare both, or neither"));
    }
    let mut places = settings.places.clone();
    if places.is_empty() {
        places.push(system.0.clone());
    }
    let (count, mut seen) = (places.len(), places.clone());
    seen.sort();
    seen.dedup();
    if seen.len() < count || places.iter().any(|place| place.trim().is_empty() || place.chars().any(char::is_control)) {
        return Err(fault("places need to be plain, and each there once".into()));
    }
    Ok(Arc::new(ByCommand { system: system.clone(), settings: Arc::new(settings), base: base.to_path_buf(), places }))
}

struct ByCommand {
    system: SystemName,
    settings: Arc<Settings>,
    base: PathBuf,
    places: Vec<String>,
}

#[async_trait]
impl Connector for ByCommand {
    fn manifest(&self) -> &'static Manifest {
        &MANIFEST
    }

    fn places(&self) -> Vec<Place> {
        self.places.iter().map(|place| Place::new(&self.system, place)).collect()
    }

    fn parallel(&self) -> usize {
        4
    }

    fn patience(&self) -> Duration {
        self.settings.timeout.duration()
    }

    fn plan(&self, account: &Account, leaver: &PersonId, action: Action) -> Vec<Chain> {
        // Whose a way into somebody else's account is, no command is asked.
        if account.owner.person() != Some(leaver) || self.settings.own_accounts.contains(&account.native_id) {
            return Vec::new();
        }
        let commands = &self.settings.commands;
        let doors = |kinds: &[DoorKind]| {
            account.doors.iter().filter(|d| kinds.contains(&d.kind)).map(|d| d.id.clone()).collect::<Vec<_>>()
        };
        let end_sessions = || Step::new(Action::EndSessions, account, "", doors(&[DoorKind::Session, DoorKind::Job]), false);
        let each = |kinds: &[DoorKind]| -> Vec<Chain> {
            let found = account.doors.iter().filter(|d| kinds.contains(&d.kind));
            found.map(|d| vec![Step::new(action, account, &talk::object(d), vec![d.id.clone()], false)]).collect()
        };
        match action {
            Action::Disable if !commands.disable.is_empty() => {
                let shuts = doors(&[DoorKind::Password, DoorKind::Login]);
                let disable = Step::new(Action::Disable, account, "", shuts, !commands.restore.is_empty());
                // A disable without a cut leaves the leaver inside, so it always brings the cut with it.
                let cut = (!commands.end_sessions.is_empty()).then(end_sessions);
                vec![std::iter::once(disable).chain(cut).collect()]
            }
            Action::EndSessions if !commands.end_sessions.is_empty() => vec![vec![end_sessions()]],
            Action::Revoke if !commands.revoke.is_empty() => each(&CREDENTIALS),
            Action::Remove if !commands.remove.is_empty() => each(&[DoorKind::Membership]),
            _ => Vec::new(),
        }
    }

    async fn open(&self, place: &Place, _cx: &Cx) -> Result<Box<dyn Link>, Fault> {
        let talk = Talk::new(&self.system, place, self.settings.clone(), &self.base).await?;
        Ok(Box::new(CommandLink::open(talk).await?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_be_honoured_are_refused() {
        let build_of = |yaml: &str| {
            let settings: Settings = serde_yaml::from_str(yaml).unwrap();
            build(&SystemName("archive".into()), settings, Path::new(".")).map(|_| ()).map_err(|fault| fault.to_string())
        };
        let says = |yaml: &str, what: &str| {
            let said = build_of(yaml).unwrap_err();
            assert!(said.contains(what), "{yaml}: {said}");
        };
        says("commands: { check: [] }", "`check` is missing");
        says("commands: { check: [archive] }", "not looked for in PATH");
        says("commands: { check: [./a], disable: [./a] }", "not found and looked at");
        says("commands: { check: [./a], look: [./a] }", "belong together");
        says("commands: { check: [./a], set-secret: [./a] }", "belong together");
        says("{ commands: { check: [./a] }, places: [b, b] }", "each there once");
        assert!(build_of("commands: { check: [./a], set-secret: [./a], try-secret: [./a] }").is_ok());
        assert!(serde_yaml::from_str::<Settings>("{ commands: { check: [./a], shell: [./a] } }").is_err());
    }
}
