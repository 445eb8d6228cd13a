//! Looks at doors: by read-back, of what runs and of what is brought up next, while others still get in.
//!
//! A handshake of the leaver's cannot be tried: it needs the private key, which only the leaver has, and WireGuard answers an unknown peer as it
//! answers a wrong signature, with silence. So what is proved is that the key is in no place from which it could let anybody in.

use super::discover::time;
use super::link::GatewayLink;
use super::survey::Survey;
use crate::model::{Door, DoorKind, Look, Proof, Verdict};
use crate::wire::shell::printable;
use std::collections::BTreeSet;

/// The age in seconds at which a tunnel's keys are over (REJECT_AFTER_TIME of the protocol), and something for slow clocks: a handshake that is
/// younger shows a tunnel that works.
const FRESH: i64 = 190;

/// One look a door, in order.
pub(super) async fn look(link: &mut GatewayLink, doors: &[Door]) -> Vec<Look> {
    let keys: BTreeSet<&str> =
        doors.iter().map(|door| door.account.as_str()).filter(|key| super::names::canonical(key).is_some()).collect();
    let keys: Vec<&str> = keys.into_iter().collect();
    let survey = match link.survey(&keys).await {
        Ok((survey, _)) => survey,
        Err(fault) => return doors.iter().map(|_| Look::unproven(fault.to_string())).collect(),
    };
    doors
        .iter()
        .map(|door| match door.kind {
            DoorKind::Peer => peer(link, &survey, door, &keys),
            _ => Look::unproven("this kind of door is not known here"),
        })
        .collect()
}

fn peer(link: &GatewayLink, survey: &Survey, door: &Door, keys: &[&str]) -> Look {
    let (interface, key) = (door.object.as_str(), door.account.as_str());
    let control = control(link, survey, interface, keys);
    let open = |reply: String| Look {
        verdict: Verdict::Open { reply: printable(&reply, 400) },
        control: control.clone().ok(),
        residual: None,
    };
    if let Some(peer) = survey.runs(interface, key) {
        let handshake = match peer.handshake {
            0 => "no handshake yet".to_string(),
            at => format!("last handshake {}", time(at)),
        };
        return open(format!("wg show {interface}: the peer is there, allowed {}, {handshake}", peer.allowed));
    }
    if let Some(peer) = survey.written_for(interface, key) {
        return open(format!("{}, line {}, has the peer: it is let in when {interface} is brought up", peer.file, peer.line));
    }
    let stands = survey.others.iter().find(|other| !other.is_copy() && other.key.as_deref() == Some(key));
    if let Some(other) = stands {
        return Look::unproven(format!("{} still has the key, and {} may bring it back", other.file, other.program));
    }
    if let Some((file, line, _)) = survey.commands.iter().find(|(.., named)| named == key) {
        return Look::unproven(format!("a command in {file}, line {line}, names the key, and may bring it back"));
    }
    if survey.silent.contains(interface) {
        return Look::unproven(format!("{interface} does not say which peers it has"));
    }
    let file = survey.file_of(interface);
    if let Some((line, why)) = file.and_then(|file| file.wrong.as_ref()) {
        return Look::unproven(format!(
            "the file of {interface}, line {line}: {why}; nobody can say what it would let in"
        ));
    }
    let next = match (file, survey.other_of(interface)) {
        (Some(file), _) => file.file.clone(),
        (None, Some(other)) => other.file.clone(),
        (None, None) => {
            return Look::unproven(format!(
                "{interface} has no file in {}: whatever set it up may bring the peer back",
                link.kept.folder
            ));
        }
    };
    let shut = |reply: String, control: String| Look {
        verdict: Verdict::Shut { proof: Proof::ReadBack, reply: printable(&reply, 400) },
        control: Some(control),
        residual: None,
    };
    if !survey.up.contains(interface) {
        // One that went down in the meantime may be anywhere; one that never was up lets nobody in by what runs.
        if link.was_up(interface) {
            return Look::unproven(format!("{interface} is not up: nobody gets in, which proves nothing; bring it up, then verify"));
        }
        let others = survey.written.iter().filter(|peer| peer.interface == interface).count();
        return shut(
            format!("{interface} is not up, as before, and {next} has no such peer"),
            format!("{next} was read to its end, and has {others} other peers"),
        );
    }
    match control {
        Ok(control) => shut(format!("wg show {interface} has no such peer, nor has {next}"), control),
        Err(why) => Look::unproven(format!("neither {interface} nor {next} has such a peer; but {why}")),
    }
}

/// Who has a tunnel through the interface now.
fn control(link: &GatewayLink, survey: &Survey, interface: &str, keys: &[&str]) -> Result<String, String> {
    let declared = link.kept.control.as_deref();
    let others = survey.running.iter().filter(|peer| peer.interface == interface && !keys.contains(&peer.key.as_str()));
    let fresh = others.filter(|peer| peer.handshake > 0 && survey.now() - peer.handshake <= FRESH);
    let is_declared = declared.is_some_and(|key| survey.runs(interface, key).is_some());
    // Where the declared one is a peer, it alone counts.
    let mut fresh = fresh.filter(|peer| !is_declared || Some(peer.key.as_str()) == declared);
    match fresh.next() {
        Some(peer) => Ok(format!(
            "{interface} has the peer {}, whose last handshake was {} s ago",
            peer.key,
            (survey.now() - peer.handshake).max(0)
        )),
        None if is_declared => Err("the control, which is its peer, had no handshake in the last three minutes".into()),
        None => Err("no other peer had a handshake in the last three minutes: nothing shows that anybody gets in; declare a control".into()),
    }
}
