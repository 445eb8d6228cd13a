//! The source of a shared secret that is a file: a program on the host reads the value from it and checks it itself. What a consumer's file goes
//! through, this goes through as well (`rotate.rs`); here is what a source has besides: whether the program takes a value, by a command that
//! tries one, and the look at the old one.

use super::link::SshLink;
use super::rotate::{RECOVERY, Work};
use crate::connector::{Cx, KnownSecret, Turn};
use crate::model::{Digest, Door, Fault, FaultKind, Look, Part, Phase, PlaceId, Proof, SecretName, Seen, Verdict};
use secrecy::{ExposeSecret, SecretString};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// What no program takes for its password.
const NOBODYS: &str = "offboard-asks-with-a-wrong-value";

/// What the command that tries a value said.
enum Tried {
    Taken,
    Refused(String),
    Unknown(String),
}

impl Work<'_, '_> {
    /// The source's part of `create`: the consumers have the value that stands there, and the probe tells values apart. With a keyed digest of it.
    pub(super) async fn try_source(&mut self, stands: &SecretString) -> Result<String, Fault> {
        if let Some(old) = self.turn.old {
            if old.expose_secret() != stands.expose_secret() {
                return Err(self
                    .fault(
                        FaultKind::Misconfigured,
                        "the value that the consumers have is another one than stands there",
                    )
                    .hint("somebody has changed one and not the other: mend that first, then: offboard resume"));
            }
            let hint = "correct `probe` in offboard.yaml (status 0: taken, 1: refused), or make the program well; then: offboard resume";
            match self.try_value(old).await? {
                Some(Tried::Taken) | None => {}
                Some(Tried::Refused(said)) | Some(Tried::Unknown(said)) => {
                    return Err(self
                        .fault(
                            FaultKind::Misconfigured,
                            format!(
                                "the probe does not say that the program takes the value that stands there: {said}"
                            ),
                        )
                        .hint(hint));
                }
            }
            if let Some(Tried::Taken | Tried::Unknown(_)) = self.try_value(&SecretString::from(NOBODYS)).await? {
                return Err(self
                    .fault(
                        FaultKind::Misconfigured,
                        "the probe does not say of a wrong value that it is refused, so it would prove nothing",
                    )
                    .hint(hint));
            }
        }
        Ok(self.digest(stands))
    }

    /// Tries the new value until the program takes it, for so long at most; a consumer's file has nothing to try.
    pub(super) async fn takes_new(&mut self, new: &SecretString, patience: Duration) -> Result<(), Fault> {
        let until = Instant::now() + patience;
        loop {
            let said = match self.try_value(new).await? {
                Some(Tried::Taken) | None => return Ok(()),
                Some(Tried::Refused(said) | Tried::Unknown(said)) => said,
            };
            if Instant::now() >= until {
                return Err(self
                    .fault(FaultKind::Busy, format!("the probe does not say that the program takes the new value: {said}"))
                    .hint("the file has the new value: see that the reload command makes the program read it, then: offboard resume"));
            }
            sleep(RECOVERY.1).await;
        }
    }

    async fn try_value(&mut self, value: &SecretString) -> Result<Option<Tried>, Fault> {
        let kept = self.kept;
        if kept.probe.is_empty() {
            return Ok(None);
        }
        let ran = self.run_with(&kept.probe, value).await?;
        Ok(Some(match ran.status {
            Some(0) => Tried::Taken,
            Some(1) => Tried::Refused(ran.words()),
            _ => Tried::Unknown(ran.words()),
        }))
    }

    fn digest(&self, value: &SecretString) -> String {
        let place = PlaceId(self.link.host.place.id.0.clone());
        let mut keyed = self.cx.secret_salt("digest", &place, &self.kept.file).to_vec();
        keyed.extend(value.expose_secret().as_bytes());
        let digest = Digest::of(&keyed).to_string();
        zeroize::Zeroize::zeroize(&mut keyed);
        digest
    }
}

/// A look at the door that the old value is.
pub(super) async fn look(link: &mut SshLink, door: &Door, cx: &Cx) -> Look {
    let Some(known) = link.secrets.iter().find(|known| known.door == door.id).cloned() else {
        return Look::unproven("the value that the leaver may know is not known here, and was not replaced");
    };
    match look_at(link, door, &known, cx).await {
        Ok(look) => look,
        Err(fault) => Look::unproven(fault.to_string()),
    }
}

async fn look_at(link: &mut SshLink, door: &Door, known: &KnownSecret, cx: &Cx) -> Result<Look, Fault> {
    let (part, kept) = match &known.source {
        Some(part @ Part::SourceFile(kept)) => (part, kept),
        Some(Part::Authorized { .. }) => return super::service_key::look(link, door, known).await,
        _ => {
            return Ok(Look::unproven(
                "the secret is not in offboard.yaml any more as it was, so nobody can tell where its value stands",
            ));
        }
    };
    let (name, seen) = (SecretName(door.object.clone()), Seen::default());
    let (old, new) = (known.old.as_ref(), known.new.as_ref());
    let turn = Turn { phase: Phase::Test, secret: &name, part, old, new, user: None, seen: &seen, consumers: &[] };
    let mut work = Work { link, kept, turn: &turn, cx, read: Vec::new() };
    let stands = work.read().await?.value;
    let same = |value: Option<&SecretString>| value.is_some_and(|v| v.expose_secret() == stands.expose_secret());
    let open = |reply: String| Ok(Look { verdict: Verdict::Open { reply }, control: None, residual: None });
    let shut = |proof, reply: String, control: String| {
        Ok(Look { verdict: Verdict::Shut { proof, reply }, control: Some(control), residual: None })
    };
    if same(old) {
        return open(format!("the value that the leaver may know stands in {}", kept.file));
    }
    let mut refused = None;
    if let Some(old) = old {
        match work.try_value(old).await? {
            Some(Tried::Taken) => return open("the program takes the value that the leaver may know".into()),
            Some(Tried::Unknown(said)) => {
                return Ok(Look::unproven(format!("the probe says neither yes nor no: {said}")));
            }
            Some(Tried::Refused(said)) => refused = Some(said),
            None => {}
        }
    }
    if let (Some(said), Some(new)) = (&refused, new)
        && matches!(work.try_value(new).await?, Some(Tried::Taken))
    {
        return shut(
            Proof::Refused,
            format!("the probe says that the old value is refused: {said}"),
            "the program takes the new value".into(),
        );
    }
    let changed = known.before.as_ref().is_some_and(|before| *before != work.digest(&stands));
    if !changed {
        return Ok(Look::unproven("nothing shows that the value in the file is another one"));
    }
    if let Some(why) = work.is_unwell().await? {
        return Ok(Look::unproven(format!(
            "another value stands there, but the program is not well: the health check {why}"
        )));
    }
    let reply = format!("another value stands in {}, which the program was told to read", kept.file);
    shut(Proof::ReadBack, reply, format!("{} has its value, and the program is healthy", kept.key))
}
