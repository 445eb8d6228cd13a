//! Looks at doors. A certificate counts as shut only if the very check that the running server makes at a handshake refuses it for our
//! reason, by the files that this server reads, and lets another one pass at the same time. Live clients are the server's own listing.

use super::discover::UNKNOWN;
use super::link::GatewayLink;
use super::survey::{Checked, Survey};
use crate::model::{Door, DoorKind, Look, Proof, Verdict};
use crate::wire::shell::{printable, quoted};
use std::collections::BTreeSet;

/// X509_V_ERR numbers (openssl-verify(1)).
const OK: u32 = 0;
const NO_LIST: u32 = 3;
const EXPIRED: u32 = 10;
const LIST_EXPIRED: u32 = 12;
const REVOKED: u32 = 23;

/// The most certificates that the running server is asked about in one look: each is a handshake that fails.
const MOST_HANDSHAKES: usize = 8;

/// One look a door, in order.
pub(super) async fn look(link: &mut GatewayLink, doors: &[Door], after: bool) -> Vec<Look> {
    let survey = match checked(link, doors, after).await {
        Ok(survey) => survey,
        Err(fault) => return doors.iter().map(|_| Look::unproven(fault.to_string())).collect(),
    };
    doors
        .iter()
        .map(|door| match door.kind {
            DoorKind::Certificate => certificate(&survey, door),
            DoorKind::Session => session(&survey, door),
            _ => Look::unproven("this kind of door is not known here"),
        })
        .collect()
}

/// Everything that the gateway says now, with the server's check of the doors' certificates and of controls.
async fn checked(link: &mut GatewayLink, doors: &[Door], after: bool) -> Result<Survey, crate::model::Fault> {
    let recent = link.recent().filter(|_| !after);
    let mut survey = match recent {
        Some(survey) => survey,
        None => link.survey(false).await?,
    };
    let names: BTreeSet<&str> = doors.iter().map(|d| d.account.as_str()).collect();
    let wanted = doors.iter().filter(|d| d.kind == DoorKind::Certificate);
    let mut pairs: Vec<(&str, &str)> = wanted.map(|d| (d.object.as_str(), d.account.as_str())).collect();
    if pairs.is_empty() {
        return Ok(survey);
    }
    // Somebody else's certificate that should pass, a few of them: one may have no copy here.
    let others = survey.certificates.iter().filter(|c| {
        c.revoked.is_none()
            && !survey.listed.contains(&c.serial)
            && c.until.is_some_and(|until| until > link.now)
            && !names.contains(c.name.as_str())
            && survey.ccd.get(&c.name).is_none_or(|state| state == "enabled")
    });
    pairs.extend(others.rev().take(3).map(|c| (c.serial.as_str(), c.name.as_str())));
    let words: Vec<String> = pairs.iter().map(|(serial, name)| format!("{} {}", quoted(serial), quoted(name))).collect();
    let answer = link.call(&format!("load; verify {} server server </dev/null", words.join(" "))).await?;
    survey.checked = answer.checked;
    // Containment does not wait for it.
    if after {
        let passes = |serial: &str| survey.checked.get(serial).is_some_and(|c| c.codes.contains(&OK));
        let theirs = |name: &str| names.contains(name);
        let asked: Vec<(&str, &str)> = (pairs.iter().filter(|(_, name)| theirs(name)).take(MOST_HANDSHAKES))
            .chain(pairs.iter().filter(|(serial, name)| !theirs(name) && passes(serial)).take(1))
            .copied()
            .collect();
        let words: Vec<String> =
            asked.iter().map(|(serial, name)| format!("{} {}", quoted(serial), quoted(name))).collect();
        survey.handshakes = link.call(&format!("load; probe {} </dev/null", words.join(" "))).await?.handshakes;
    }
    Ok(survey)
}

/// Who passes the same check.
fn control(survey: &Survey, doors_name: &str) -> Option<String> {
    let passes = |(serial, checked): &(&String, &Checked)| {
        if !checked.codes.contains(&OK) {
            return None;
        }
        if *serial == "server" {
            return Some("the server's own certificate passes the same check".to_string());
        }
        let other = survey.certificates.iter().find(|c| &c.serial == *serial && c.name != doors_name)?;
        Some(format!("certificate {serial} of {} passes the same check", printable(&other.name, 60)))
    };
    // Hex digits sort before `server`.
    survey.checked.iter().find_map(|entry| passes(&entry))
}

fn certificate(survey: &Survey, door: &Door) -> Look {
    if let Some(why) = no_server(survey) {
        return Look::unproven(why);
    }
    let handshake = survey.handshakes.get(&door.object);
    let passed = survey.handshakes.iter().find_map(|(serial, (how, words))| {
        let of = survey.certificates.iter().find(|c| &c.serial == serial && c.name != door.account)?;
        (how == "passed").then(|| format!("certificate {serial} of {}: {}", printable(&of.name, 60), printable(words, 200)))
    });
    // The server itself says so, of this serial, and lets another one pass at the same time.
    if let (Some((how, words)), Some(control)) = (handshake, &passed)
        && how == "revoked"
    {
        let verdict = Verdict::Shut { proof: Proof::Refused, reply: printable(words, 300) };
        return Look { verdict, control: Some(control.clone()), residual: None };
    }
    let file = survey.fact("crl").unwrap_or_default();
    let control = control(survey, &door.account);
    let shut = |reply: String| {
        let verdict = match &control {
            Some(_) => Verdict::Shut { proof: Proof::ReadBack, reply },
            None => Verdict::Unproven { why: format!("{reply}; but no other certificate passes that check, either") },
        };
        Look { verdict, control: control.clone(), residual: None }
    };
    let open = |reply: String| Look { verdict: Verdict::Open { reply }, control: control.clone(), residual: None };
    if let Some(file) = survey.fact("changed-since-start") {
        if let Some((_, words)) = handshake.filter(|(how, _)| how == "passed") {
            return open(printable(words, 300));
        }
        return Look::unproven(changed(file));
    }
    // The server reads it at each connection, after the handshake.
    if survey.ccd.get(&door.account).is_some_and(|state| state == "disabled") {
        let folder = survey.fact("ccd").unwrap_or_default();
        return shut(format!("{folder}/{} says disable", door.account));
    }
    if let Some((_, words)) = handshake.filter(|(how, _)| how == "passed") {
        return open(printable(words, 300));
    }
    let Some(checked) = survey.checked.get(&door.object) else {
        return Look::unproven("the gateway did not say whether the certificate passes");
    };
    let words = printable(&checked.words, 300);
    let over = survey.next_update().map(|next| format!("the list is over since {next}"));
    if let Some(who) = survey.complaint("crl-unreadable") {
        return Look::unproven(format!("the running server ({who}) cannot read {file} any more: it goes by what it read before"));
    }
    if let Some(why) = survey.complaint("crl-broken") {
        return Look::unproven(format!("the list in place ({file}) cannot be used: {why}"));
    }
    let has = |code| checked.codes.contains(&code);
    if has(LIST_EXPIRED) {
        let over = over.unwrap_or_else(|| "the list is over".into());
        return Look::unproven(format!("{over}: nobody gets in, which proves nothing"));
    }
    if has(REVOKED) {
        return shut(format!("by {file}, which the running server reads at each handshake: {words}"));
    }
    if has(EXPIRED) {
        return shut(words);
    }
    if has(OK) {
        return open(format!("openssl verify, by the files of the running server: {}", words.replace(&door.object, "OK")));
    }
    if has(NO_LIST) {
        return open(format!("the server lets certificates pass of whose CA there is no list: {words}"));
    }
    if !checked.codes.is_empty() {
        return Look::unproven(format!("refused, but for another reason: {words}"));
    }
    // No copy of it lies here: what the list and the CA say of the serial has to do.
    let known = survey.certificates.iter().find(|c| c.serial == door.object && c.name == door.account);
    if survey.listed.contains(&door.object) {
        return shut(format!("{file}, signed by the CA and read at each handshake, lists {}", door.object));
    }
    match known {
        Some(_) => open(format!("{file} does not list {}, and {words}", door.object)),
        None if door.object == UNKNOWN => Look::unproven("its certificate is not known here, and nothing disables the name"),
        None => Look::unproven(format!("neither the CA nor {file} knows {}", door.object)),
    }
}

/// Why nobody can say which process is the server.
fn no_server(survey: &Survey) -> Option<String> {
    if survey.fact("pid").is_some() {
        return None;
    }
    Some(match survey.fact("several") {
        Some(several) => format!(
            "several processes could be the server with this configuration ({}): nobody can say which files it reads",
            printable(several, 100)
        ),
        None => "no openvpn runs with this configuration: nobody can say what it would read".into(),
    })
}

/// What stands in the file may be what the server never read.
fn changed(file: &str) -> String {
    format!("the configuration ({}) was changed after the server read it: restart the server", printable(file, 200))
}

fn session(survey: &Survey, door: &Door) -> Look {
    if let Some(why) = no_server(survey) {
        return Look::unproven(why);
    }
    if let Some(why) = &survey.silent {
        return Look::unproven(format!("who is connected cannot be seen: {}", printable(why, 200)));
    }
    // Another server may listen where the file now says; this one tells its number.
    if let Some(file) = survey.fact("changed-since-start")
        && survey.manager.as_deref() != survey.fact("pid")
    {
        return Look::unproven(changed(file));
    }
    let Some(title) = survey.title.as_deref().filter(|_| survey.clients_complete) else {
        return Look::unproven("the management interface's list of clients broke off");
    };
    let title = printable(title.split(" [").next().unwrap_or(title), 60);
    let (theirs, others): (Vec<_>, Vec<_>) = survey.clients.iter().partition(|c| c.name == door.account);
    let control = Some(format!("{title}, process {}, lists {} others", survey.fact("pid").unwrap_or("?"), others.len()));
    let verdict = if theirs.is_empty() {
        let reply = format!("{title} lists {} clients, none of them {}", others.len(), printable(&door.account, 60));
        Verdict::Shut { proof: Proof::ReadBack, reply }
    } else {
        let from: Vec<String> =
            theirs.iter().map(|c| format!("client {} from {} since {}", c.id, c.from, c.since)).collect();
        Verdict::Open { reply: printable(&from.join("; "), 300) }
    };
    Look { verdict, control, residual: None }
}
