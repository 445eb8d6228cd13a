//! What the catalogues say of a role, and the account that it is to us.

use super::comment::{self, Said};
use super::link::{BOOTSTRAP, PgLink};
use crate::model::{Account, Door, DoorKind, Identity, Owner};
use crate::wire::sql::{Failure, Value};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A role, and its before-image: all of it goes into the account's `facts`, except what changes by itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Role {
    pub oid: i64,
    pub name: String,
    pub can_login: bool,
    pub superuser: bool,
    pub create_role: bool,
    pub create_db: bool,
    pub inherit: bool,
    pub replication: bool,
    pub bypass_rls: bool,
    /// -1: no limit.
    pub connection_limit: i64,
    /// As PostgreSQL writes it; `infinity` is possible.
    pub valid_until: Option<String>,
    /// Nothing where we may not see it. Whether there is one, never what it is.
    pub has_password: Option<bool>,
    /// Whether the stored verifier is exactly the one that was asked for.
    #[serde(default, skip_serializing)]
    pub has_witness: Option<bool>,
    pub comment: Option<String>,
    /// What it is a member of, directly.
    pub member_of: Vec<Membership>,
    /// The roles with special powers that it is a member of, directly or not.
    pub powers: Vec<String>,
    #[serde(default, skip_serializing)]
    pub sessions: Sessions,
}

/// One row of `pg_auth_members`, seen from the member. From PostgreSQL 16 on there is one for each grantor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Membership {
    pub role: String,
    /// May pass the membership on.
    pub admin: bool,
    pub grantor: Option<String>,
    /// From PostgreSQL 16 on.
    pub inherit: Option<bool>,
    /// From PostgreSQL 16 on.
    pub set: Option<bool>,
}

/// The live sessions that logged in as the role, whatever role they have SET since.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Sessions {
    pub count: i64,
    /// Only those that we may see.
    pub addresses: Vec<String>,
    pub since: Option<Timestamp>,
    pub last: Option<Timestamp>,
}

/// The built-in roles that reach beyond the database's own privileges (PostgreSQL manual, 22.5 "Predefined Roles").
pub const POWERFUL: &[&str] = &[
    "pg_read_all_data",
    "pg_write_all_data",
    "pg_read_server_files",
    "pg_write_server_files",
    "pg_execute_server_program",
    "pg_signal_backend",
    "pg_monitor",
    "pg_read_all_settings",
    "pg_read_all_stats",
    "pg_create_subscription",
    "pg_maintain",
    "pg_checkpoint",
    "pg_use_reserved_connections",
];

/// The query for roles that `condition` picks. `$1` is the verifier to compare with, or NULL; `$2` are the names in [`POWERFUL`].
/// `to_jsonb` reads columns that only newer servers have.
pub fn query(sees_passwords: bool, condition: &str) -> String {
    let (has_password, has_witness) = if sees_passwords {
        (
            "(SELECT a.rolpassword IS NOT NULL FROM pg_authid a WHERE a.oid = r.oid)",
            "(SELECT a.rolpassword = $1::text FROM pg_authid a WHERE a.oid = r.oid)",
        )
    } else {
        ("NULL::boolean", "nullif($1::text, $1::text)::boolean")
    };
    format!(
        "WITH activity AS MATERIALIZED (
    SELECT usesysid, host(client_addr) AS address, backend_start FROM pg_stat_activity WHERE usesysid IS NOT NULL
), special AS MATERIALIZED (
    SELECT oid, rolname FROM pg_roles WHERE rolsuper OR rolname = ANY ($2)
)
SELECT json_build_object(
    'oid', r.oid::bigint, 'name', r.rolname, 'can_login', r.rolcanlogin, 'superuser', r.rolsuper,
    'create_role', r.rolcreaterole, 'create_db', r.rolcreatedb, 'inherit', r.rolinherit,
    'replication', r.rolreplication, 'bypass_rls', r.rolbypassrls, 'connection_limit', r.rolconnlimit,
    'valid_until', r.rolvaliduntil::text, 'has_password', {has_password}, 'has_witness', {has_witness},
    'comment', shobj_description(r.oid, 'pg_authid'),
    'member_of', (SELECT coalesce(json_agg(json_build_object(
            'role', g.rolname, 'admin', m.admin_option,
            'grantor', (SELECT rolname FROM pg_roles WHERE oid = m.grantor),
            'inherit', to_jsonb(m) -> 'inherit_option', 'set', to_jsonb(m) -> 'set_option') ORDER BY g.rolname), '[]')
        FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid WHERE m.member = r.oid),
    'powers', (SELECT coalesce(json_agg(s.rolname ORDER BY s.rolname), '[]')
        FROM special s WHERE NOT r.rolsuper AND s.oid <> r.oid AND pg_has_role(r.oid, s.oid, 'MEMBER')),
    'sessions', (SELECT json_build_object('count', count(*),
            'addresses', coalesce(json_agg(DISTINCT a.address) FILTER (WHERE a.address IS NOT NULL), '[]'),
            'since', min(a.backend_start), 'last', max(a.backend_start))
        FROM activity a WHERE a.usesysid = r.oid)
)::text
FROM pg_roles r WHERE {condition}"
    )
}

/// The values that every [`query`] begins with.
pub fn values(verifier: Option<&str>) -> Vec<Value> {
    vec![
        // An empty text is no verifier that a server could have stored.
        Value::Text(verifier.unwrap_or_default().to_string()),
        Value::Texts(POWERFUL.iter().map(|name| (*name).to_string()).collect()),
    ]
}

/// The role of exactly that name, if there is one.
pub async fn by_name(link: &mut PgLink, name: &str, verifier: Option<&str>) -> Result<Option<Role>, Failure> {
    let mut values = values(verifier);
    values.push(name.into());
    let sql = query(link.us.sees_passwords, "r.rolname = $3");
    Ok(link.session.rows(sql, &values).await?.pop())
}

impl Role {
    /// Whether it can do more than what it was granted on objects.
    pub fn is_privileged(&self) -> bool {
        self.superuser || self.create_role || self.replication || self.bypass_rls || !self.powers.is_empty()
    }

    /// Until when the password counts, if it does not count for ever.
    pub fn password_expires(&self) -> Option<&str> {
        self.valid_until.as_deref().filter(|until| *until != "infinity")
    }

    /// What its comment says of its holder; `ids` as for [`comment::read`].
    pub fn said(&self, ids: &[&str]) -> Said {
        comment::read(self.comment.as_deref().unwrap_or_default(), ids)
    }

    /// The account, with every door. `name_before` is what the role was called when the run first saw it; `said` what counts of its
    /// comment.
    pub fn account(&self, link: &PgLink, name_before: Option<&str>, said: Said) -> Account {
        let place = &link.place.id;
        let mut mails = said.mails;
        if comment::is_mail(&self.name) {
            mails.push(self.name.clone());
        }
        let mut doors = vec![
            Door::new(place, &self.name, self.login_kind(), "", self.login_detail()),
            Door::new(place, &self.name, DoorKind::Session, "", self.session_detail()),
        ];
        for membership in &self.member_of {
            // One door for a role, however many grantors there are.
            if doors.iter().any(|d| d.kind == DoorKind::Membership && d.object == membership.role) {
                continue;
            }
            let special =
                if POWERFUL.contains(&membership.role.as_str()) { "; a built-in role with special powers" } else { "" };
            let admin = if membership.admin { "; may pass it on" } else { "" };
            let by =
                membership.grantor.as_ref().map(|g| format!("granted by {g:?}")).unwrap_or_else(|| "granted".into());
            doors.push(Door::new(
                place,
                &self.name,
                DoorKind::Membership,
                &membership.role,
                format!("{by}{admin}{special}"),
            ));
        }
        let ours = link.is_ours(&self.name) || self.oid == BOOTSTRAP;
        Account {
            system: link.system.clone(),
            place: place.clone(),
            native_id: self.name.clone(),
            name: self.name.clone(),
            enabled: self.can_login,
            identity: Identity {
                employee_number: said.employee_number,
                mails,
                user_name: Some(name_before.unwrap_or(&self.name).to_string()),
                declared_keys: Vec::new(),
            },
            owner: if ours { Owner::Ourselves } else { Owner::Nobody },
            privileged: self.is_privileged(),
            last_used: self.sessions.last,
            doors,
            facts: serde_json::to_value(self).unwrap_or_default(),
        }
    }

    /// A local password can be tried; any other way in (certificate, peer, LDAP, GSSAPI) can only be read back.
    fn login_kind(&self) -> DoorKind {
        if self.has_password == Some(true) { DoorKind::Password } else { DoorKind::Login }
    }

    fn login_detail(&self) -> String {
        let mut detail = vec![match self.can_login {
            true => "may log in".to_string(),
            false => "may not log in".to_string(),
        }];
        detail.push(match self.has_password {
            Some(true) => "has a local password".into(),
            Some(false) => "has no local password".into(),
            None => "whether it has a local password is not ours to see".into(),
        });
        if let Some(until) = self.password_expires() {
            detail.push(format!("its password is valid until {until}"));
        }
        let attributes = [
            (self.superuser, "SUPERUSER"),
            (self.create_role, "CREATEROLE"),
            (self.replication, "REPLICATION"),
            (self.bypass_rls, "BYPASSRLS"),
        ];
        detail.extend(attributes.iter().filter(|(set, _)| *set).map(|(_, name)| (*name).to_string()));
        if !self.powers.is_empty() {
            detail.push(format!("has the powers of {}", self.powers.join(", ")));
        }
        detail.join(", ")
    }

    fn session_detail(&self) -> String {
        if self.sessions.count == 0 {
            return "no live session".into();
        }
        let from = if self.sessions.addresses.is_empty() {
            String::new()
        } else {
            format!(" from {}", self.sessions.addresses.join(", "))
        };
        let since = self.sessions.since.map(|at| format!(" since {at}")).unwrap_or_default();
        format!("{} live{from}{since}", self.sessions.count)
    }
}
