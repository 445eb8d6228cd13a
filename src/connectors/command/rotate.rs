//! The source of a shared secret that commands replace: `try-secret` logs in with a value, `set-secret` puts the new one in the place of the old one, and
//! `end-secret`, where there is one, ends what the old one had opened.
//!
//! Whose value stands there is found out by trying: a command is asked to set the new one only where the old one, and not the new one, is taken.

use super::link::{CommandLink, Did};
use crate::connector::{KnownSecret, Taken, Turn};
use crate::model::{Door, Fault, FaultKind, Finding, FindingKind, Look, Outcome, Part, Phase, Proof, Verdict};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;

/// What `try-secret` says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tried {
    taken: bool,
    reply: String,
}

/// See [`crate::connector::Link::rotate`].
pub(super) async fn rotate(link: &mut CommandLink, turn: &Turn<'_>) -> Result<Taken, Fault> {
    let cannot = format!("{} the secret of {:?}", turn.phase, turn.part.object().0);
    let fault = |kind, because: &str| Fault::new(kind, link.talk.what(&cannot)).because(because);
    let Part::Source { account } = turn.part else {
        return Err(fault(FaultKind::Misconfigured, "an account can be the source of a secret here, and nothing else"));
    };
    link.guard(account, &cannot)?;
    let new = || turn.new.ok_or_else(|| fault(FaultKind::Unexpected, "the new value is not sealed any more"));
    match turn.phase {
        Phase::Create => {
            for (name, command) in [("set-secret", &link.talk.settings.commands.set_secret), ("try-secret", &link.talk.settings.commands.try_secret)] {
                if command.is_empty() {
                    return Err(fault(FaultKind::Misconfigured, &format!("no command `{name}` is declared")));
                }
            }
            let Some(old) = turn.old else {
                return Ok(Taken::new(Outcome::Done { note: "can be set and tried; no value was tried".into() }));
            };
            let tried = attempt(link, account, old, &cannot).await?;
            if !tried.taken {
                let because = format!("the value that the consumers have is not taken: {}", tried.reply);
                return Err(fault(FaultKind::Misconfigured, &because)
                    .hint("somebody has changed one and not the other: mend that first, then: offboard resume"));
            }
            Ok(Taken::new(Outcome::Done { note: "the consumers' value is taken".into() }))
        }
        Phase::Set => {
            let new = new()?;
            if attempt(link, account, new, &cannot).await?.taken {
                return Ok(Taken::new(Outcome::AlreadyDone));
            }
            let old = turn.old.ok_or_else(|| fault(FaultKind::Unexpected, "the old value is not sealed any more"))?;
            let tried = attempt(link, account, old, &cannot).await?;
            if !tried.taken {
                return Err(fault(FaultKind::Protected, &format!("neither the old nor the new value is taken: {}", tried.reply))
                    .hint("somebody else has changed it; if the leaver cannot know the new one, waive this step"));
            }
            let question = json!({ "account": account, "old": old.expose_secret(), "new": new.expose_secret() });
            let set = ("set-secret", &link.talk.settings.commands.set_secret);
            let did: Did = link.talk.ask(set, question, &[old, new], &cannot).await?;
            // Before a program gets it: what the command says it has done is its word alone.
            let tried = attempt(link, account, new, &cannot).await?;
            match (tried.taken, link.outcome(&did, &[old, new])) {
                (true, Outcome::Done { note }) => Ok(Taken::new(Outcome::Done { note })),
                (true, _) => Ok(Taken::new(Outcome::Done { note: "the new value is taken".into() })),
                (false, _) => Err(fault(FaultKind::Busy, &format!("the new value is not taken after `set-secret`: {}", tried.reply))),
            }
        }
        Phase::Test => {
            let tried = attempt(link, account, new()?, &cannot).await?;
            match tried.taken {
                true => Ok(Taken::new(Outcome::Done { note: "the new value is taken".into() })),
                false => Err(fault(FaultKind::Busy, &format!("the new value is not taken: {}", tried.reply))),
            }
        }
        Phase::Finish => {
            let new = new()?;
            let commands = &link.talk.settings.commands;
            if commands.end_secret.is_empty() {
                let mut taken = Taken::new(Outcome::AlreadyDone);
                taken.findings.push(Finding {
                    kind: FindingKind::NotCovered,
                    place: Some(link.talk.place.id.clone()),
                    account: Some(account.clone()),
                    what: format!("what was opened with the old value of {} goes on until it is closed", turn.secret),
                    hint: "close it by hand, or declare a command `end-secret`".into(),
                });
                return Ok(taken);
            }
            let question = json!({ "account": account, "new": new.expose_secret() });
            let did: Did = link.talk.ask(("end-secret", &commands.end_secret), question, &[new], &cannot).await?;
            Ok(Taken::new(link.outcome(&did, &[new])))
        }
    }
}

async fn attempt(link: &CommandLink, account: &str, value: &SecretString, cannot: &str) -> Result<Tried, Fault> {
    let question = json!({ "account": account, "value": value.expose_secret() });
    let tried: Tried =
        link.talk.ask(("try-secret", &link.talk.settings.commands.try_secret), question, &[value], cannot).await?;
    Ok(Tried { reply: link.talk.clean(&tried.reply, &[value]), ..tried })
}

/// A look at the door that the old value is.
pub(super) async fn look(link: &CommandLink, door: &Door) -> Result<Look, Fault> {
    let account = door.account.as_str();
    let cannot = format!("look at the secret of {account:?}");
    let known = link.secrets.iter().find(|known| known.door == door.id);
    let Some(KnownSecret { old: Some(old), new, .. }) = known else {
        return Ok(Look::unproven("the value that the leaver may know is not known here any more, so it cannot be tried"));
    };
    let is_taken = async || match new {
        Some(new) => attempt(link, account, new, &cannot).await.map(|tried| tried.taken),
        None => Ok(false),
    };
    let before = is_taken().await?;
    let tried = attempt(link, account, old, &cannot).await?;
    let reply = format!("the command says: {}", tried.reply);
    if tried.taken {
        return Ok(Look { verdict: Verdict::Open { reply }, control: None, residual: None });
    }
    if !before || !is_taken().await? {
        return Ok(Look::unproven(format!("{reply}, but nothing shows that the new value gets in")));
    }
    let control = Some("the new value is taken, before and after".into());
    Ok(Look { verdict: Verdict::Shut { proof: Proof::Refused, reply }, control, residual: None })
}
