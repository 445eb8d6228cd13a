//! Our own standing: who we are, and which privilege is missing. Changes nothing.

use super::link::PgLink;
use crate::connector::Health;
use crate::model::{Fault, Finding, FindingKind};
use crate::wire::sql::identifier;

/// See [`crate::connector::Link::check`].
pub async fn check(link: &mut PgLink) -> Result<Health, Fault> {
    let us = link.session.row(super::link::ABOUT_US, &[]).await;
    link.us = us.map_err(|failure| failure.into_fault(link.what("read the catalogue")))?;
    let us = &link.us;
    let user = identifier(&us.user);
    let version = us.version_name.split_whitespace().next().unwrap_or_default();
    let mut missing: Vec<(String, String)> = Vec::new();
    if us.standby {
        missing.push((
            "this server is a standby: it takes no changes itself, only the sessions on it can be ended".into(),
            "nothing to do if hosts also names its primary".into(),
        ));
    }
    if !us.superuser {
        if !us.create_role {
            missing.push((format!("{user} cannot disable roles"), format!("ALTER ROLE {user} CREATEROLE;")));
        } else if us.version >= 160_000 {
            missing.push((
                format!("{user} can only disable roles that it has ADMIN OPTION on, and none that is SUPERUSER, REPLICATION or BYPASSRLS"),
                format!("for each role: GRANT \"the role\" TO {user} WITH ADMIN OPTION, INHERIT FALSE, SET FALSE; or: ALTER ROLE {user} SUPERUSER;"),
            ));
        } else {
            missing.push((
                format!("{user} can disable no role that is SUPERUSER, REPLICATION or BYPASSRLS"),
                format!("if such roles have holders who may leave: ALTER ROLE {user} SUPERUSER;"),
            ));
        }
        let memberships = [
            (us.signal_backend, "pg_signal_backend", "end other roles' sessions"),
            (us.read_all_stats, "pg_read_all_stats", "see where sessions come from, nor which came in by SET ROLE"),
        ];
        for (has, role, what) in memberships {
            if !has {
                missing.push((format!("{user} cannot {what}"), format!("GRANT {role} TO {user};")));
            }
        }
    }
    if !us.sees_passwords {
        missing.push((
            format!("{user} cannot see whether a role has a local password, so no witness password is set and proof is by read-back only"),
            format!("in the database that offboard connects to: GRANT SELECT (oid, rolpassword) ON pg_authid TO {user}; offboard asks whether there is one, never what it is"),
        ));
    }
    let place = &link.place.id;
    let finding = |(what, hint)| Finding {
        kind: FindingKind::Configuration,
        place: Some(place.clone()),
        account: None,
        what,
        hint,
    };
    let mut findings: Vec<Finding> = missing.into_iter().map(finding).collect();
    let mut control = link.control();
    if let Err(failure) = control.connect().await {
        findings.push(Finding {
            kind: FindingKind::Configuration,
            place: Some(link.place.id.clone()),
            account: None,
            what: format!("the control role {:?} does not get in: {failure}", control.user()),
            hint: "without a control that gets in, no refused login proves anything".into(),
        });
    }
    Ok(Health { identity: format!("{} on PostgreSQL {version}", link.us.user), findings })
}
