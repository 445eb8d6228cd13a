//! Steps and their undoing: what is sent to the script, and what its answers mean.

use super::discover::{UNKNOWN, is_file_name};
use super::link::GatewayLink;
use super::survey::Survey;
use crate::model::{Action, Fault, FaultKind, Outcome, Restored, Step, Undo};
use crate::wire::shell::{printable, quoted};

/// Applies steps in order, in one call; certificates of one name that follow each other are revoked together, with one new list.
pub(super) async fn apply(link: &mut GatewayLink, steps: &[Step]) -> Vec<Result<Outcome, Fault>> {
    let refused: Vec<Option<Fault>> = steps.iter().map(|step| refusal(link, step)).collect();
    let mut text = String::new();
    let mut revoking: Option<&str> = None;
    for (index, step) in steps.iter().enumerate().filter(|(index, _)| refused[*index].is_none()) {
        let name = quoted(&step.account);
        if step.action == Action::Revoke {
            if revoking != Some(&step.account) {
                end_call(&mut text, &mut revoking);
                text.push_str(&format!("steadily revoke {name}"));
                revoking = Some(&step.account);
            }
            text.push_str(&format!(" {index} {}", quoted(&step.object)));
            continue;
        }
        end_call(&mut text, &mut revoking);
        match step.action {
            Action::Disable => text.push_str(&format!("steadily disable {index} {name} </dev/null\n")),
            _ => text.push_str(&format!("steadily end_sessions {index} {name} </dev/null\n")),
        }
    }
    end_call(&mut text, &mut revoking);
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

fn end_call(text: &mut String, revoking: &mut Option<&str>) {
    if revoking.take().is_some() {
        text.push_str(" </dev/null\n");
    }
}

/// What must never be done, whoever planned it.
fn refusal(link: &GatewayLink, step: &Step) -> Option<Fault> {
    let unsound = |why: &str| Some(link.fault(FaultKind::Unexpected, &what(step)).because(why));
    if step.account.is_empty() || step.account.chars().any(char::is_control) {
        return unsound("that is no common name");
    }
    match step.action {
        Action::Disable if !is_file_name(&step.account) => Some(
            link.fault(FaultKind::Misconfigured, &what(step))
                .because("the name cannot be that of a file in the client-config-dir, or would mean everybody")
                .hint("revoke the certificate instead"),
        ),
        Action::Disable | Action::EndSessions if step.object.is_empty() => None,
        Action::Revoke if step.object == UNKNOWN => Some(
            link.fault(FaultKind::Misconfigured, &what(step))
                .because("its certificate is not known here")
                .hint("find its serial where the CA is, revoke it there, put the new list into place, then waive this step"),
        ),
        Action::Revoke if !step.object.is_empty() && step.object.bytes().all(|b| b.is_ascii_hexdigit()) => None,
        _ => unsound("the step is not understood"),
    }
}

fn what(step: &Step) -> String {
    let name = printable(&step.account, 120);
    match step.action {
        Action::Disable => format!("cannot disable {name}"),
        Action::EndSessions => format!("cannot end the sessions of {name}"),
        Action::Remove | Action::Rotate | Action::Ask => format!("cannot {} {name}", step.action),
        Action::Revoke => format!("cannot revoke certificate {} of {name}", step.object),
    }
}

fn outcome(link: &GatewayLink, step: &Step, answer: Option<&(String, String)>) -> Result<Outcome, Fault> {
    let Some((how, text)) = answer else {
        return Err(link.fault(FaultKind::Unexpected, &what(step)).because("the gateway gave no answer to this step"));
    };
    let text = printable(text, 1000);
    let kind = match how.as_str() {
        "changed" => return Ok(Outcome::Done { note: text }),
        "already" => return Ok(Outcome::AlreadyDone),
        "absent" => return Ok(Outcome::Absent),
        "protected" => FaultKind::Protected,
        "busy" => FaultKind::Busy,
        "forbidden" => FaultKind::Forbidden,
        "misconfigured" => FaultKind::Misconfigured,
        _ => FaultKind::Unexpected,
    };
    let serial = &step.object;
    let hint = if text.contains("crl-verify is missing") {
        "make a list (easyrsa gen-crl), name it in the server's configuration (crl-verify /etc/openvpn/crl.pem), or set up a \
         client-config-dir; restart the server either way, then resume the run"
            .to_string()
    } else if text.contains("no key of the CA") || text.contains("cannot read the CA") {
        format!(
            "where the CA is: openssl ca -revoke certs_by_serial/{serial}.pem; openssl ca -gencrl -out crl.pem; move that over the file that \
             crl-verify names; then: offboard resume. Or name the CA's files on the gateway under ca in offboard.yaml; or set up a \
             client-config-dir, in which a disable line needs no key, and restart the server"
        )
    } else if text.contains("did not sign") {
        "the CA's key has a passphrase? Name a file with it, on the gateway, as passphrase-file under ca in offboard.yaml".into()
    } else if text.contains("cannot be read:") {
        "put the last good list back (the CA's own copy is crl.pem in its folder), then resume the run".into()
    } else if text.contains("several processes") {
        "look whose they are (ps -f -p NUMBER), end those that are not the server, then resume the run".into()
    } else if text.contains("no client-config-dir") {
        "name one in the server's configuration (client-config-dir /etc/openvpn/ccd), restart the server, then resume the run".into()
    } else if text.contains("inside the configuration") {
        "put the list into a file of its own (crl-verify FILE), restart the server, then resume the run".into()
    } else if text.contains("cannot reach") || text.contains("cannot read") {
        "let the server's user read the file and search its folders (chmod o+x), or restart the server; then resume the run".into()
    } else if text.contains("is also that of") {
        "give the other one a new certificate first, or use the client-config-dir (restart the server once it is set up); then resume the run".into()
    } else if text.contains("management interface") {
        "in the server's configuration: management /run/openvpn/management.sock unix; restart it, then resume the run".into()
    } else {
        "as root there: mend what the gateway says, then resume the run".into()
    };
    Err(link.fault(kind, &what(step)).because(text).hint(hint))
}

/// Takes `disable` lines out again. A revoked certificate stays revoked: the person gets a new one.
pub(super) async fn restore(link: &mut GatewayLink, undo: &[Undo]) -> Vec<Result<Restored, Fault>> {
    let mut results = Vec::with_capacity(undo.len());
    for one in undo {
        results.push(take_back(link, one).await);
    }
    results
}

async fn take_back(link: &mut GatewayLink, undo: &Undo) -> Result<Restored, Fault> {
    let step = &undo.step;
    let restored = |note: String| Ok(Restored { note, one_time_password: None });
    if let Some(fault) = refusal(link, step) {
        return Err(fault);
    }
    let name = printable(&step.account, 120);
    match step.action {
        Action::Disable => {}
        Action::EndSessions => return restored("sessions do not come back".into()),
        Action::Remove | Action::Rotate | Action::Ask => return restored("this is no step for a gateway".into()),
        Action::Revoke => {
            return restored(format!(
                "certificate {} stays revoked: give {name} a new one (easyrsa build-client-full {name})",
                step.object
            ));
        }
    }
    let before = undo.account.facts["ccd"].as_str().unwrap_or("enabled");
    if before == "disabled" {
        return restored(format!("{name} was disabled before the run began, and stays so"));
    }
    let survey = link.call(&format!("enable 0 {} {} </dev/null", quoted(&step.account), quoted(before))).await?;
    match outcome(link, step, survey.answers.get(&0)) {
        Ok(Outcome::Done { note }) => {
            restored(format!("{note}; certificates that were revoked stay so: {name} needs a new one"))
        }
        Ok(_) => restored("nothing to give back: it is as it was".into()),
        Err(mut fault) => {
            fault.what = fault.what.replacen("cannot disable", "cannot take back the disabling of", 1);
            Err(fault)
        }
    }
}
