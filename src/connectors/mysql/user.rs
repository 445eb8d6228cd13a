//! What a server says of a user, and the account that it is to us: one person's name, with every `user@host` row of it.
//!
//! User names are compared exactly, hosts without regard to case, as the server does (MariaDB manual, "CREATE USER", "Account Names").

use super::link::MysqlLink;
use super::sessions::Connected;
use crate::model::{Account, Door, DoorKind, Identity, Owner};
use crate::wire::mysql::Record;
use crate::wire::sql::presentable;
use serde::{Deserialize, Serialize};

/// Ways to log in that check a password which the server keeps itself.
const LOCAL: &[&str] = &[
    "",
    "mysql_native_password",
    "mysql_old_password",
    "ed25519",
    "parsec",
    "caching_sha2_password",
    "sha256_password",
];

/// Rights on everything, as bits of `access` in `mysql.global_priv` (MariaDB's `privilege.h`).
const INSERT_UPDATE: u64 = 1 << 1 | 1 << 2;
const SUPER: u64 = 1 << 15;
const CREATE_USER: u64 = 1 << 25;

/// One way to log in to a row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    /// The authentication plugin.
    pub plugin: String,
    /// What the server keeps for it: a hash. Not kept by us.
    #[serde(default, skip)]
    pub stored: String,
}

impl Way {
    /// Whether it takes a password that the server keeps; one that nothing hashes to is none.
    pub fn is_password(&self) -> bool {
        LOCAL.contains(&self.plugin.as_str()) && self.stored != "invalid"
    }
}

/// One `user@host`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    pub host: String,
    pub locked: bool,
    /// Whether any of its ways takes a password; kept beside them, because what is stored is not.
    pub has_password: bool,
    pub ways: Vec<Way>,
    /// MySQL: a second password, kept by RETAIN CURRENT PASSWORD.
    pub second_password: bool,
    /// Whether it could let others in: CREATE USER, SUPER, or writing to every table.
    pub makes_users: bool,
}

impl Row {
    /// A row of `mysql.global_priv` (MariaDB).
    fn of_mariadb(host: String, json: &str) -> Option<Self> {
        let all: serde_json::Value = serde_json::from_str(json).ok()?;
        let way = |of: &serde_json::Value| {
            let text = |key: &str| of.get(key).and_then(serde_json::Value::as_str).unwrap_or_default().to_string();
            Way { plugin: text("plugin"), stored: text("authentication_string") }
        };
        // In the list of alternatives an empty object stands for the way of the row itself.
        let alternatives = all.get("auth_or").and_then(serde_json::Value::as_array);
        let ways = match alternatives {
            Some(ways) => ways
                .iter()
                .map(|of| if of.as_object().is_some_and(serde_json::Map::is_empty) { way(&all) } else { way(of) })
                .collect(),
            None => vec![way(&all)],
        };
        let access = all.get("access").and_then(serde_json::Value::as_u64).unwrap_or_default();
        let locked = all.get("account_locked").and_then(serde_json::Value::as_bool).unwrap_or_default();
        Some(Self::of(host, locked, ways, access & (INSERT_UPDATE | SUPER | CREATE_USER) != 0))
    }

    fn of(host: String, locked: bool, ways: Vec<Way>, makes_users: bool) -> Self {
        let has_password = ways.iter().any(Way::is_password);
        Self { host, locked, has_password, ways, second_password: false, makes_users }
    }

    /// Reads a row of either product; with the user's name.
    pub fn read(mut record: Record) -> Option<(String, Self)> {
        let mut take = |column: &str| record.remove(column).flatten();
        let (user, host) = (take("user")?, take("host")?);
        if let Some(json) = take("priv") {
            return Some((user, Self::of_mariadb(host, &json)?));
        }
        let locked = take("account_locked")?;
        let way = Way { plugin: take("plugin")?, stored: take("authentication_string").unwrap_or_default() };
        let yes = |value: Option<String>| value.is_some_and(|value| value.eq_ignore_ascii_case("y"));
        let makes = [take("super_priv"), take("create_user_priv"), take("update_priv"), take("insert_priv")];
        let mut row = Self::of(host, yes(Some(locked)), vec![way], makes.into_iter().any(yes));
        row.second_password = take("user_attributes").is_some_and(|json| json.contains("additional_password"));
        Some((user, row))
    }

    /// The one way of the row, if it is a password stored as `hash`, and nothing besides opens it.
    pub fn is_only(&self, hash: &str) -> bool {
        let one = matches!(self.ways.as_slice(), [way] if way.plugin == "mysql_native_password" && way.stored.eq_ignore_ascii_case(hash));
        one && !self.second_password
    }

    /// Whether a password is stored as `hash`.
    pub fn stores(&self, hash: &str) -> bool {
        self.ways.iter().any(|way| way.plugin == "mysql_native_password" && way.stored.eq_ignore_ascii_case(hash))
    }

    /// Whether it takes a password of which what is stored cannot be compared with a known one.
    pub fn keeps_unknown(&self) -> bool {
        self.second_password || self.ways.iter().any(|way| way.is_password() && way.plugin != "mysql_native_password")
    }

    fn detail(&self) -> String {
        let ways: Vec<&str> = self.ways.iter().map(|way| way.plugin.as_str()).collect();
        let second = if self.second_password { ", with a second password" } else { "" };
        presentable(&format!("{}{}{second}", if self.locked { "locked, by " } else { "by " }, ways.join(" or ")))
    }
}

/// A role that a row has been given.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Membership {
    /// The row's host.
    pub host: String,
    pub role: String,
    /// MySQL: a role has a host, too.
    pub role_host: Option<String>,
    pub admin: bool,
}

impl Membership {
    /// As a door's object: `clinic_ro`, on MySQL `clinic_ro@%`.
    pub fn object(&self) -> String {
        match &self.role_host {
            Some(host) => format!("{}@{host}", self.role),
            None => self.role.clone(),
        }
    }
}

/// An event: a statement that the server runs by the clock with the rights of its definer, locked or not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Event {
    pub database: String,
    pub name: String,
    /// The definer's host.
    pub host: String,
    pub enabled: bool,
}

/// A user, and its before-image: all of it goes into the account's `facts`, but for what the server stores of passwords.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    pub name: String,
    pub rows: Vec<Row>,
    pub roles: Vec<Membership>,
    pub events: Vec<Event>,
}

impl User {
    pub fn is_enabled(&self) -> bool {
        self.rows.iter().any(|row| !row.locked)
    }

    pub fn makes_users(&self) -> bool {
        self.rows.iter().any(|row| row.makes_users)
    }

    pub fn row(&self, host: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.host.eq_ignore_ascii_case(host))
    }

    /// The account, with every door.
    pub fn account(&self, link: &MysqlLink, connected: Option<&Connected>) -> Account {
        let place = &link.place.id;
        let door = |kind, object: &str, detail: String| Door::new(place, &self.name, kind, object, detail);
        let mut doors: Vec<Door> = self
            .rows
            .iter()
            .map(|row| {
                let kind = if row.has_password { DoorKind::Password } else { DoorKind::Login };
                door(kind, &row.host, row.detail())
            })
            .collect();
        doors.push(door(
            DoorKind::Session,
            "",
            connected.map_or_else(|| "no live connection".into(), Connected::to_string),
        ));
        let mut roles: Vec<String> = self.roles.iter().map(Membership::object).collect();
        roles.sort();
        roles.dedup();
        doors.extend(roles.iter().map(|role| door(DoorKind::Membership, role, String::new())));
        let events: Vec<String> =
            self.events.iter().filter(|e| e.enabled).map(|e| format!("{}.{}", e.database, e.name)).collect();
        if !events.is_empty() {
            doors.push(door(DoorKind::Job, "", presentable(&format!("events: {}", events.join(", ")))));
        }
        let mails = if is_mail(&self.name) { vec![self.name.clone()] } else { Vec::new() };
        Account {
            system: link.system.clone(),
            place: place.clone(),
            native_id: self.name.clone(),
            name: self.name.clone(),
            enabled: self.is_enabled(),
            identity: Identity { mails, user_name: Some(self.name.clone()), ..Identity::default() },
            owner: if link.is_ours(&self.name) { Owner::Ourselves } else { Owner::Nobody },
            privileged: self.makes_users(),
            last_used: None,
            doors,
            facts: serde_json::to_value(self).unwrap_or_default(),
        }
    }
}

/// Whether a name is one mail address and nothing else, as far as matching needs it.
fn is_mail(name: &str) -> bool {
    name.split_once('@')
        .is_some_and(|(local, domain)| !local.is_empty() && domain.contains('.') && !domain.contains('@'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(fields: &[(&str, &str)]) -> Record {
        fields.iter().map(|(name, value)| ((*name).to_string(), Some((*value).to_string()))).collect()
    }

    #[test]
    fn a_row_of_mariadb_is_read() {
        let json = r#"{"access":1073741823,"plugin":"mysql_native_password","authentication_string":"*AB",
            "auth_or":[{"plugin":"unix_socket"},{}],"account_locked":true}"#;
        let (user, row) = Row::read(record(&[("user", "jane"), ("host", "%"), ("priv", json)])).unwrap();
        assert_eq!((user.as_str(), row.host.as_str()), ("jane", "%"));
        assert!(row.locked && row.has_password && row.makes_users && row.stores("*ab") && !row.is_only("*AB"));
        assert!(!row.keeps_unknown(), "a native hash can be compared");
        let json = r#"{"plugin":"mysql_native_password","authentication_string":"*AB","auth_or":[{"plugin":"ed25519","authentication_string":"x"},{}]}"#;
        let (_, row) = Row::read(record(&[("user", "jane"), ("host", "10.%"), ("priv", json)])).unwrap();
        assert!(row.keeps_unknown(), "another way cannot");
        assert!(!serde_json::to_string(&row).unwrap().contains("*AB"), "no hash in the before-image");
        let json = r#"{"access":0,"plugin":"mysql_native_password","authentication_string":"invalid","auth_or":[{},{"plugin":"unix_socket"}]}"#;
        let (_, row) = Row::read(record(&[("user", "root"), ("host", "localhost"), ("priv", json)])).unwrap();
        assert!(!row.locked && !row.has_password);
        assert_eq!(Row::read(record(&[("user", "x"), ("host", "%"), ("priv", "no JSON")])), None);
    }

    /// Columns as the MySQL 8.0 manual has them ("Grant Tables").
    #[test]
    fn a_row_of_mysql_is_read() {
        let fields = [
            ("user", "jane"),
            ("host", "%"),
            ("plugin", "caching_sha2_password"),
            ("authentication_string", "$A$005$x"),
            ("account_locked", "N"),
            ("create_user_priv", "Y"),
            ("user_attributes", r#"{"additional_password": "$A$005$y"}"#),
        ];
        let (_, row) = Row::read(record(&fields)).unwrap();
        assert!(!row.locked && row.has_password && row.second_password && row.makes_users && row.keeps_unknown());
    }
}
