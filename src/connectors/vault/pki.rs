//! Certificates that a PKI engine has issued: listed, read one by one, revoked by their serial numbers.
//!
//! Whose one is, its subject says (CN) and the mail addresses among its other names. It is revoked by the engine, which puts it on its CRL and tells so when it is asked; whoever
//! takes certificates without looking at CRL or OCSP takes it until it is over. Source: the API of the PKI secrets engine.

use super::api::{join, text};
use super::link::VaultLink;
use crate::model::{
    Account, Door, DoorKind, Fault, FaultKind, Identity as Says, Look, Outcome, Owner, Proof, Residual, Verdict,
};
use futures::stream::{self, StreamExt, TryStreamExt};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use x509_parser::extensions::GeneralName;

/// How many certificates are read at the same time, and how many of one engine at most.
const AT_ONCE: usize = 16;
pub const MOST: usize = 5000;

/// A certificate that is good.
struct Good {
    serial: String,
    /// The subject's name and its mail addresses.
    names: Vec<String>,
    until: Timestamp,
}

/// The accounts that an engine's certificates are to us: those of the same names are one. The second says how many there are beyond [`MOST`].
///
/// # Errors
/// As [`super::api::Api::list`].
pub async fn accounts(link: &VaultLink, mount: &str, cannot: &str) -> Result<(Vec<Account>, usize), Fault> {
    let serials = link.api.list(&join(&[], mount, &["certs"]), cannot).await?;
    let beyond = serials.len().saturating_sub(MOST);
    // The newest are last in no list, so none is better than another.
    let read = |serial: String| async move { good(link, mount, serial, cannot).await };
    let found: Vec<Option<Good>> =
        stream::iter(serials.into_iter().take(MOST)).map(read).buffered(AT_ONCE).try_collect().await?;
    let mut by_names: BTreeMap<Vec<String>, Vec<Good>> = BTreeMap::new();
    for one in found.into_iter().flatten() {
        by_names.entry(one.names.clone()).or_default().push(one);
    }
    Ok((by_names.into_iter().map(|(names, certificates)| account(link, mount, &names, &certificates)).collect(), beyond))
}

fn account(link: &VaultLink, mount: &str, names: &[String], certificates: &[Good]) -> Account {
    let native_id = format!("{mount}{}", names.join(","));
    let door = |one: &Good| {
        let detail = format!("certificate of {}, good until {}", names.join(", "), one.until);
        Door::new(&link.place.id, &native_id, DoorKind::Certificate, &object(mount, &one.serial), detail)
    };
    let (mails, users): (Vec<String>, Vec<String>) = names.iter().cloned().partition(|name| name.contains('@'));
    Account {
        system: link.system.clone(),
        place: link.place.id.clone(),
        name: native_id.clone(),
        doors: certificates.iter().map(door).collect(),
        native_id,
        enabled: true,
        identity: Says { employee_number: None, mails, user_name: users.into_iter().next(), declared_keys: Vec::new() },
        owner: Owner::Nobody,
        privileged: false,
        last_used: None,
        facts: Value::Null,
    }
}

/// A certificate that is neither over nor revoked.
async fn good(link: &VaultLink, mount: &str, serial: String, cannot: &str) -> Result<Option<Good>, Fault> {
    let Some(said) = read(link, mount, &serial, cannot).await? else { return Ok(None) };
    if said.revoked.is_some() {
        return Ok(None);
    }
    let unclear = |why: &str| Fault::new(FaultKind::Unexpected, cannot).because(format!("{mount}cert/{serial} {why}"));
    let (_, pem) = x509_parser::pem::parse_x509_pem(said.pem.as_bytes()).map_err(|_| unclear("is no PEM"))?;
    let certificate = pem.parse_x509().map_err(|_| unclear("is no certificate"))?;
    let until = Timestamp::from_second(certificate.validity().not_after.timestamp()).unwrap_or(Timestamp::MAX);
    if until <= (link.now)() || certificate.is_ca() {
        return Ok(None);
    }
    let mut names: Vec<String> =
        certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok()).map(str::to_string).collect();
    let other = certificate.subject_alternative_name().ok().flatten();
    let mails = other.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
        GeneralName::RFC822Name(mail) => Some(mail.to_string()),
        _ => None,
    });
    for mail in mails.chain(certificate.subject().iter_email().filter_map(|mail| mail.as_str().ok()).map(str::to_string)) {
        if !names.contains(&mail) {
            names.push(mail);
        }
    }
    Ok(Some(Good { serial, names, until }))
}

/// What an engine says of one certificate.
struct Said {
    pem: String,
    /// When it was revoked.
    revoked: Option<String>,
}

async fn read(link: &VaultLink, mount: &str, serial: &str, cannot: &str) -> Result<Option<Said>, Fault> {
    let found = link.api.get(&join(&[], mount, &["cert", serial]), cannot).await?;
    Ok(found.map(|data| Said {
        pem: text(&data["certificate"]).unwrap_or_default(),
        revoked: data["revocation_time"]
            .as_i64()
            .filter(|at| *at > 0)
            .map(|at| Timestamp::from_second(at).map_or_else(|_| at.to_string(), |at| at.to_string())),
    }))
}

/// What a step and a door call a certificate.
fn object(mount: &str, serial: &str) -> String {
    format!("serial {serial} of {mount}")
}

/// The mount and the serial number.
pub fn of_object(object: &str) -> Option<(&str, &str)> {
    let (serial, mount) = object.strip_prefix("serial ")?.split_once(" of ")?;
    Some((mount, serial))
}

/// Revokes one.
///
/// # Errors
/// As [`super::api::Api::post`].
pub async fn revoke(link: &VaultLink, mount: &str, serial: &str, cannot: &str) -> Result<Outcome, Fault> {
    match read(link, mount, serial, cannot).await? {
        None => Ok(Outcome::Absent),
        Some(Said { revoked: Some(_), .. }) => Ok(Outcome::AlreadyDone),
        Some(_) => {
            link.api.post(&join(&[], mount, &["revoke"]), &json!({ "serial_number": serial }), cannot).await?;
            Ok(Outcome::Done { note: format!("{mount} has revoked it, and puts it on its CRL") })
        }
    }
}

/// Whether the engine says that it is revoked.
///
/// # Errors
/// As [`super::api::Api::get`].
pub async fn look(link: &VaultLink, door: &Door, control: &str, cannot: &str) -> Result<Look, Fault> {
    let Some((mount, serial)) = of_object(&door.object) else { return Ok(Look::unproven("it names no certificate")) };
    let residual = Residual { what: "servers that look at neither CRL nor OCSP take it until it is over".into(), until: None };
    Ok(match read(link, mount, serial, cannot).await? {
        Some(Said { revoked: Some(at), .. }) => Look {
            verdict: Verdict::Shut { proof: Proof::ReadBack, reply: format!("{mount} says that it was revoked at {at}") },
            control: Some(control.to_string()),
            residual: Some(residual),
        },
        Some(_) => Look {
            verdict: Verdict::Open { reply: format!("{mount} says that it is not revoked") },
            control: None,
            residual: None,
        },
        // Tidied away: a good one is only when it is over, and a revoked one not before.
        None => Look::unproven(format!("{mount} does not know it any more: see whether it is over")),
    })
}
