//! From an account and its doors to steps, and what the script's answers to them mean.

use super::link::GatewayLink;
use super::names;
use super::survey::Survey;
use crate::model::{
    Account, Action, Chain, DoorKind, Fault, FaultKind, Outcome, Owner, PersonId, Restored, Step, Undo,
};
use crate::wire::shell::{printable, quoted};

/// The chains that carry `action` out on what `leaver` holds of `account`. Pure.
pub(super) fn chains(account: &Account, leaver: &PersonId, action: Action) -> Vec<Chain> {
    if action != Action::Revoke || account.owner == Owner::Ourselves {
        return Vec::new();
    }
    let theirs = account.owner.person() == Some(leaver);
    let held = account.doors.iter().filter(|door| theirs || door.holder.person() == Some(leaver));
    let peers = held.filter(|door| door.kind == DoorKind::Peer);
    peers.map(|door| vec![Step::new(action, account, &door.object, vec![door.id.clone()], false)]).collect()
}

/// Applies steps in order, in one call.
pub(super) async fn apply(link: &mut GatewayLink, steps: &[Step]) -> Vec<Result<Outcome, Fault>> {
    let refused: Vec<Option<Fault>> = steps.iter().map(|step| refusal(link, step)).collect();
    let mut text = String::new();
    for (index, step) in steps.iter().enumerate().filter(|(index, _)| refused[*index].is_none()) {
        text.push_str(&format!("steadily revoke {index} {} {} </dev/null\n", quoted(&step.object), quoted(&step.account)));
    }
    let answers = if text.is_empty() { Ok(Survey::default()) } else { link.call(&text).await };
    let mut results = Vec::with_capacity(steps.len());
    for (index, (step, refused)) in steps.iter().zip(refused).enumerate() {
        results.push(match (refused, &answers) {
            (Some(fault), _) => Err(fault),
            (None, Err(fault)) => Err(fault.clone()),
            (None, Ok(survey)) => outcome(link, step, survey.answers.get(&index)),
        });
    }
    results
}

fn what(step: &Step) -> String {
    format!("cannot take the peer {} out of {}", printable(&step.account, 60), printable(&step.object, 40))
}

/// What must never be done, whoever planned it.
fn refusal(link: &GatewayLink, step: &Step) -> Option<Fault> {
    let unsound = |why: &str| Some(link.fault(FaultKind::Unexpected, &what(step)).because(why));
    if link.kept.control.as_deref() == Some(step.account.as_str()) {
        return Some(link.fault(FaultKind::Protected, &what(step)).because("it is the control"));
    }
    if step.action != Action::Revoke {
        return unsound("the step is not understood");
    }
    // A key in another spelling would be another one for everything that runs there.
    if names::canonical(&step.account).as_deref() != Some(step.account.as_str()) {
        return unsound("that is no public key as wg writes it");
    }
    if !names::is_interface(&step.object) {
        return Some(
            link.fault(FaultKind::Misconfigured, &what(step))
                .because("that is no interface of wg-quick")
                .hint("take the peer out of the file that its door names, by hand; then waive this step"),
        );
    }
    None
}

fn outcome(link: &GatewayLink, step: &Step, answer: Option<&(String, String)>) -> Result<Outcome, Fault> {
    let Some((how, text)) = answer else {
        return Err(link.fault(FaultKind::Unexpected, &what(step)).because("the gateway gave no answer to this step"));
    };
    let text = printable(text, 1000);
    let kind = match how.as_str() {
        "changed" => return Ok(Outcome::Done { note: text }),
        "already" => return Ok(Outcome::AlreadyDone),
        "busy" => FaultKind::Busy,
        "forbidden" => FaultKind::Forbidden,
        "misconfigured" => FaultKind::Misconfigured,
        _ => FaultKind::Unexpected,
    };
    let hint = if text.contains("changes nothing") {
        "take the key out there by hand and have that program read it again (networkctl reload, nmcli connection reload), then resume the run"
    } else if text.contains("what wg would read") {
        "mend that line (wg-quick strip INTERFACE says what wg thinks of it), then resume the run"
    } else if text.contains("puts the peer back") {
        "stop what writes the configuration (wg-easy, a configuration manager), take the peer out there, then resume the run"
    } else if kind == FaultKind::Forbidden {
        "root there may not change the interface (a container without CAP_NET_ADMIN?): give it that, then resume the run"
    } else {
        "as root there: mend what the gateway says, then resume the run"
    };
    Err(link.fault(kind, &what(step)).because(text).hint(hint))
}

/// A peer does not come back: the old key may be in other hands.
pub(super) fn restored(undo: &Undo) -> Restored {
    let step = &undo.step;
    let allowed = undo.account.facts["interfaces"][&step.object]["allowed"].as_str().unwrap_or("…");
    let note = format!(
        "the peer {} stays out of {}: have a new key made on the device (wg genkey), and give the new peer AllowedIPs = {}",
        printable(&step.account, 60),
        printable(&step.object, 40),
        printable(allowed, 200)
    );
    Restored { note, one_time_password: None }
}
