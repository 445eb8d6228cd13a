//! What the server has stored of a role's password, and whether that is the verifier of a value that we know.
//!
//! A verifier says its own salt and iterations (RFC 5803), so it can be made again from the value, whoever has set it.

use super::link::PgLink;
use crate::connector::Cx;
use crate::model::PlaceId;
use crate::wire::sql::{Failure, Value, scram_verifier, scram_verifier_like};
use base64::{Engine, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

/// A role may give itself a verifier with any number of iterations: one that takes long to compare would hold everything else up.
const MAX_ITERATIONS: u32 = 100_000;
/// The longest salt that is taken for one, in bytes.
const MAX_SALT: usize = 256;

/// What the server has stored of a role's password; never the verifier itself.
#[derive(Deserialize)]
pub struct Stored {
    pub oid: i64,
    pub can_login: bool,
    /// Nothing, `scram`, or another kind.
    pub kind: Option<String>,
    /// It is the verifier of the new value.
    pub is_new: bool,
    /// SHA-256 over a key of the run's and the verifier.
    pub digest: Option<String>,
    /// Whether our login may alter it.
    pub may_alter: bool,
}

impl Stored {
    /// Whether [`Stored::is_new`] could have said yes: SASLprep (RFC 4013) leaves ASCII alone, and of other kinds nothing is made again here.
    pub fn can_be_compared(&self, value: &SecretString) -> bool {
        self.kind.as_deref() == Some("scram") && value.expose_secret().is_ascii()
    }
}

/// Roles are the same on every server of a cluster, so what is derived belongs to the system.
fn at(link: &PgLink) -> PlaceId {
    PlaceId(link.system.0.clone())
}

/// The verifier that we set: its salt is the run's, so that a second apply sets the very same.
pub fn verifier(link: &PgLink, name: &str, new: &SecretString, cx: &Cx) -> String {
    scram_verifier(new, &cx.secret_salt("verifier", &at(link), name))
}

fn digest_key(link: &PgLink, name: &str, cx: &Cx) -> String {
    cx.secret_salt("digest", &at(link), name).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is stored of the role's password; nothing if there is no such role.
///
/// # Errors
/// As a statement's.
pub async fn stored(
    link: &mut PgLink,
    name: &str,
    new: Option<&SecretString>,
    cx: &Cx,
) -> Result<Option<Stored>, Failure> {
    let expected = match new {
        Some(new) => same_way(link, name, new).await?.unwrap_or_default(),
        None => String::new(),
    };
    let sql = "
SELECT json_build_object('oid', r.oid::bigint, 'can_login', r.rolcanlogin,
    'kind', CASE WHEN a.rolpassword LIKE 'SCRAM-SHA-256$%' THEN 'scram' WHEN a.rolpassword IS NOT NULL THEN 'other' END,
    'is_new', coalesce(a.rolpassword = $2::text, false),
    'digest', encode(sha256(convert_to($3::text || a.rolpassword, 'UTF8')), 'hex'),
    'may_alter', u.rolsuper OR (u.rolcreaterole AND NOT r.rolsuper AND NOT r.rolreplication AND NOT r.rolbypassrls
        AND ($4::bigint < 160000 OR pg_has_role(r.oid, 'MEMBER WITH ADMIN OPTION'))))::text
FROM pg_roles r JOIN pg_authid a ON a.oid = r.oid, pg_roles u
WHERE r.rolname = $1::text AND u.rolname = session_user";
    let (key, version) = (digest_key(link, name, cx), Value::Int(link.us.version.into()));
    Ok(link.session.rows(sql, &[name.into(), Value::Text(expected), Value::Text(key), version]).await?.pop())
}

/// The verifier of `value` with the salt and the iterations of what is stored; nothing where no SCRAM verifier is.
async fn same_way(link: &mut PgLink, name: &str, value: &SecretString) -> Result<Option<String>, Failure> {
    let sql = "
SELECT to_json(split_part(a.rolpassword, '$', 2))::text FROM pg_authid a
WHERE a.rolname = $1::text AND a.rolpassword LIKE 'SCRAM-SHA-256$%'";
    let stored: Option<String> = link.session.rows(sql, &[name.into()]).await?.pop();
    Ok(stored.and_then(|stored| again(&stored, value)))
}

/// The verifier of `value`, made as `ITERATIONS:SALT` says; nothing if that says nothing sensible.
fn again(stored: &str, value: &SecretString) -> Option<String> {
    let (iterations, salt) = stored.split_once(':')?;
    let iterations = iterations.parse().ok().filter(|n| (1..=MAX_ITERATIONS).contains(n))?;
    let salt = STANDARD.decode(salt).ok().filter(|salt| salt.len() <= MAX_SALT)?;
    Some(scram_verifier_like(value, &salt, iterations))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_is_made_again_from_its_own_salt() {
        // What PostgreSQL stored for `pencil`, with the salt of RFC 7677's example.
        let stored = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
        let parameters = stored.split('$').nth(1).unwrap();
        assert_eq!(again(parameters, &SecretString::from("pencil")).as_deref(), Some(stored));
        assert_ne!(again(parameters, &SecretString::from("pencils")).as_deref(), Some(stored));
        // Other iterations make another verifier.
        assert_ne!(again("4097:W22ZaJ0SNY7soEsUEjb6gQ==", &SecretString::from("pencil")).as_deref(), Some(stored));
    }

    #[test]
    fn a_verifier_that_somebody_made_up_costs_nothing() {
        let value = SecretString::from("pencil");
        let long = format!("4096:{}", STANDARD.encode([0; MAX_SALT + 1]));
        for odd in ["", "4096", "x:AAAA", "-1:AAAA", "0:AAAA", "2147483647:AAAA", "99999999999:AAAA", "4096:?", &long] {
            assert_eq!(again(odd, &value), None, "{odd}");
        }
    }
}
