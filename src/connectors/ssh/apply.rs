//! Steps and their undoing: what is sent to the script, and what its answers mean.

use super::link::{SshLink, quoted};
use super::settings::is_plain;
use super::survey::Survey;
use crate::model::{Action, Fault, FaultKind, Fingerprint, Outcome, Restored, Step, Undo};
use std::collections::BTreeSet;

/// Applies steps in order, in one call; keys of one account that follow each other are taken out together.
pub(super) async fn apply(link: &mut SshLink, steps: &[Step]) -> Vec<Result<Outcome, Fault>> {
    let mut results: Vec<Option<Result<Outcome, Fault>>> =
        steps.iter().map(|step| refusal(link, step).map(Err)).collect();
    if let Err(fault) = learn_keys(link, steps, &results).await {
        return steps.iter().map(|_| Err(fault.clone())).collect();
    }
    let mut text = String::new();
    // Account, then a line a key.
    let mut pending: Option<(&str, String)> = None;
    for (index, step) in steps.iter().enumerate() {
        if results[index].is_some() {
            continue;
        }
        let same_account = pending.as_ref().is_some_and(|(account, _)| *account == step.account);
        if step.action != Action::Revoke || !same_account {
            flush(link, &mut pending, &mut text);
        }
        let account = quoted(&step.account);
        match step.action {
            Action::Disable => text.push_str(&format!("disable {index} {account} </dev/null\n")),
            Action::EndSessions if step.object.is_empty() => {
                text.push_str(&format!("end_sessions {index} {account} </dev/null\n"));
            }
            Action::EndSessions => {
                let keys: Vec<String> = step.object.split(' ').map(quoted).collect();
                text.push_str(&format!("end_keyed {index} {account} {} </dev/null\n", keys.join(" ")));
            }
            Action::Remove => {
                text.push_str(&format!("leave {index} {account} {} </dev/null\n", quoted(&step.object)));
            }
            Action::Revoke => match link.blobs.get(&Fingerprint(step.object.clone())) {
                // It stands in none of the account's files, or we would have learned it.
                None => results[index] = Some(Ok(Outcome::AlreadyDone)),
                Some((algorithm, base64)) => {
                    let (_, keys) = pending.get_or_insert_with(|| (&step.account, String::new()));
                    keys.push_str(&format!("{index} {algorithm} {base64}\n"));
                }
            },
            // Refused above: its object is none of ours.
            Action::Ask | Action::Rotate => results[index] = refusal(link, step).map(Err),
        }
    }
    flush(link, &mut pending, &mut text);
    let answers = if text.is_empty() { Ok(Survey::default()) } else { link.call(&text, Survey::default()).await };
    let mut finished = Vec::with_capacity(steps.len());
    for (index, (step, result)) in steps.iter().zip(results).enumerate() {
        finished.push(match (result, &answers) {
            (Some(result), _) => result,
            (None, Err(fault)) => Err(fault.clone()),
            (None, Ok(survey)) => outcome(link, step, survey.answers.get(&index)),
        });
    }
    finished
}

fn flush(link: &SshLink, pending: &mut Option<(&str, String)>, text: &mut String) {
    if let Some((account, keys)) = pending.take() {
        let own = if link.own.contains(account) { "own" } else { "other" };
        text.push_str(&format!("revoke {} {own} {} </dev/null\n", quoted(account), quoted(keys.trim_end())));
    }
}

/// What must never be done, whoever planned it.
fn refusal(link: &SshLink, step: &Step) -> Option<Fault> {
    let protected = |why: &str| link.fault(FaultKind::Protected, &what(step)).because(why.to_string());
    if !is_plain(&step.account) {
        return Some(link.fault(FaultKind::Unexpected, &what(step)).because("that is no name of a Unix account"));
    }
    let whole = match step.action {
        Action::Disable | Action::Remove => true,
        Action::EndSessions => step.object.is_empty(),
        Action::Revoke | Action::Ask | Action::Rotate => false,
    };
    if whole && step.account == link.host.target.user {
        return Some(protected("it is the account that offboard itself uses here"));
    }
    if step.object.split(' ').any(|object| object == link.fleet.own.0) {
        return Some(
            protected("it is the key that offboard itself logs in with")
                .hint("if the leaver knows it, give offboard another key, then run again"),
        );
    }
    let sound = match step.action {
        Action::Disable => step.object.is_empty(),
        Action::EndSessions => step.object.is_empty() || step.object.split(' ').all(is_fingerprint),
        Action::Revoke => is_fingerprint(&step.object),
        Action::Remove => is_plain(&step.object),
        // No step of ours: a person does it, or it goes over several systems.
        Action::Ask | Action::Rotate => false,
    };
    (!sound).then(|| link.fault(FaultKind::Unexpected, &what(step)).because("the step's object is not understood"))
}

fn is_fingerprint(text: &str) -> bool {
    text.strip_prefix("SHA256:")
        .is_some_and(|hash| hash.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '/')))
}

/// Reads the key files of accounts whose keys are to go and are not known yet: after a resume.
async fn learn_keys(
    link: &mut SshLink,
    steps: &[Step],
    results: &[Option<Result<Outcome, Fault>>],
) -> Result<(), Fault> {
    let unknown: BTreeSet<&str> = steps
        .iter()
        .zip(results)
        .filter(|(step, result)| {
            let known = || link.blobs.contains_key(&Fingerprint(step.object.clone()));
            result.is_none() && step.action == Action::Revoke && !known()
        })
        .map(|(step, _)| step.account.as_str())
        .collect();
    if !unknown.is_empty() {
        let survey = link.listing(&unknown).await?;
        link.blobs.extend(survey.blobs);
    }
    Ok(())
}

fn what(step: &Step) -> String {
    match step.action {
        Action::Disable => format!("cannot disable {}", step.account),
        Action::EndSessions => format!("cannot end the sessions of {}", step.account),
        Action::Revoke => format!("cannot take {} out of {}", step.object, step.account),
        Action::Remove => format!("cannot take {} out of group {}", step.account, step.object),
        Action::Ask => format!("cannot ask {} for anything", step.account),
        Action::Rotate => format!("cannot rotate {}", step.account),
    }
}

fn outcome(link: &SshLink, step: &Step, answer: Option<&(String, String)>) -> Result<Outcome, Fault> {
    let Some((how, text)) = answer else {
        return Err(link.fault(FaultKind::Unexpected, &what(step)).because("the host gave no answer to this step"));
    };
    let text = crate::wire::shell::printable(text, 1000);
    let kind = match how.as_str() {
        "changed" => return Ok(Outcome::Done { note: text }),
        "already" => return Ok(Outcome::AlreadyDone),
        "absent" => return Ok(Outcome::Absent),
        "protected" => FaultKind::Protected,
        "busy" => FaultKind::Busy,
        _ => FaultKind::Unexpected,
    };
    let hint = if text.contains("chattr -") {
        "as root there: lsattr FILE; chattr -ia FILE; then resume the run"
    } else if text.contains("symbolic link") {
        "as root there: look at the link and at what it points to; take the key out by hand, then verify the run"
    } else if text.contains("file system") {
        "as root there: df and mount, then resume the run"
    } else {
        "as root there: mend what the host says, then resume the run"
    };
    Err(link.fault(kind, &what(step)).because(text).hint(hint))
}

/// Whether the account was a member of the group when the run found it.
fn had_group(facts: &serde_json::Value, group: &str) -> bool {
    facts["groups"].as_array().is_some_and(|groups| groups.iter().any(|g| g.as_str() == Some(group)))
}

/// Gives back what can be given back. Keys, passwords, crontabs and sessions are not: the person gets new ones.
pub(super) async fn restore(link: &mut SshLink, undo: &[Undo]) -> Vec<Result<Restored, Fault>> {
    let mut results = Vec::with_capacity(undo.len());
    for one in undo {
        results.push(take_back(link, one).await);
    }
    results
}

async fn take_back(link: &mut SshLink, undo: &Undo) -> Result<Restored, Fault> {
    let step = &undo.step;
    let restored = |note: String| Ok(Restored { note, one_time_password: None });
    if let Some(fault) = refusal(link, step) {
        return Err(fault);
    }
    let facts = &undo.account.facts;
    let account = quoted(&step.account);
    let call = match step.action {
        Action::Revoke => {
            return restored(format!("{} is not put back: {} needs a new key", step.object, step.account));
        }
        Action::Ask => return restored("what was done by hand is not taken back".into()),
        Action::Rotate => return restored("old values of a secret are not revived".into()),
        Action::EndSessions => {
            return restored(format!(
                "sessions do not come back, and the jobs of {} are not revived: what its crontab was is sealed in the journal",
                step.account
            ));
        }
        Action::Disable => {
            let expires = facts["expires"].as_i64().filter(|days| *days > 0).map(|d| d.to_string()).unwrap_or_default();
            let shell = facts["shell"].as_str().unwrap_or("/bin/sh");
            format!("enable 0 {account} {} {} </dev/null", quoted(&expires), quoted(shell))
        }
        // One that the leaver gave themselves during the run is not given back.
        Action::Remove if !had_group(facts, &step.object) => {
            return restored(format!("{} was no member of {} when the run began", step.account, step.object));
        }
        Action::Remove => format!("join 0 {account} {} </dev/null", quoted(&step.object)),
    };
    let survey = link.call(&call, Survey::default()).await?;
    match outcome(link, step, survey.answers.get(&0)) {
        Ok(Outcome::Done { note }) if step.action == Action::Disable => {
            restored(format!("{note}; old keys and the old password stay dead: a new key is needed"))
        }
        Ok(Outcome::Done { note }) => restored(note),
        Ok(Outcome::AlreadyDone) => restored("nothing to give back: it is as it was".into()),
        Ok(Outcome::Absent) => restored(format!("{} does not exist any more", step.account)),
        Err(mut fault) => {
            fault.what = fault.what.replacen("cannot ", "cannot give back what was taken: ", 1);
            Err(fault)
        }
    }
}
