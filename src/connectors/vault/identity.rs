//! Who somebody is to a Vault: an entity, and the logins that lead to it.
//!
//! An entity is made at the first login, so a user who never logged in has none; and whoever logs in by a login whose entity was deleted gets a
//! new one, which is not disabled. That is why an account is called by its login (`userpass/jane`), and not by its entity.

use super::api::{Api, join, text};
use crate::model::{Fault, FaultKind};
use crate::wire::http::is_segment;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Where an auth method is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Its path below `auth/`, without a slash at the end.
    pub path: String,
    /// `userpass`, `approle`, `ldap`, …
    pub kind: String,
    /// What aliases call it by.
    pub accessor: String,
}

/// One login: a user of an auth method, or a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    pub mount: Mount,
    /// The user's or the role's name.
    pub name: String,
    /// The alias's name: for a role its RoleID, else the same.
    pub alias: String,
    /// Whether the auth method still knows the name; yes where it has no list of its own.
    pub exists: bool,
}

impl Way {
    /// `userpass/jane`: what people call the login.
    pub fn id(&self) -> String {
        format!("{}/{}", self.mount.path, self.name)
    }

    /// Whether the Vault itself keeps its password.
    pub fn has_password(&self) -> bool {
        self.mount.kind == "userpass" && self.exists
    }

    /// People first, machines last, so that an account keeps its name.
    fn rank(&self) -> (u8, String) {
        let rank = match self.mount.kind.as_str() {
            "userpass" => 0,
            "approle" => 2,
            _ => 1,
        };
        (rank, self.id())
    }
}

/// An entity as the Vault shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entity {
    pub id: String,
    pub name: String,
    pub disabled: bool,
    #[serde(default)]
    pub metadata: Option<BTreeMap<String, String>>,
    #[serde(default)]
    pub policies: Option<Vec<String>>,
    #[serde(default)]
    pub aliases: Option<Vec<Alias>>,
}

impl Entity {
    fn of(data: Value, cannot: &str) -> Result<Self, Fault> {
        serde_json::from_value(data).map_err(|e| {
            Fault::new(FaultKind::Unexpected, cannot).because(format!("an entity is not what the API's description says: {e}"))
        })
    }
}

/// One login of an entity, as the entity shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alias {
    pub name: String,
    pub mount_accessor: String,
    #[serde(default)]
    pub mount_path: String,
    #[serde(default)]
    pub mount_type: String,
}

/// An entity and its logins; or logins that have no entity yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    pub entity: Option<Entity>,
    /// Sorted: the first one gives the account its name.
    pub ways: Vec<Way>,
}

impl Identity {
    /// The account's name at this place.
    pub fn native_id(&self) -> String {
        match (self.ways.first(), &self.entity) {
            (Some(way), _) => way.id(),
            (None, Some(entity)) => format!("{ENTITY}{}", entity.name),
            (None, None) => String::new(),
        }
    }

    /// Whether it can log in now.
    pub fn is_enabled(&self) -> bool {
        self.ways.iter().any(|way| way.exists) && !self.is_disabled()
    }

    pub fn is_disabled(&self) -> bool {
        self.entity.as_ref().is_some_and(|entity| entity.disabled)
    }

    pub fn sort(&mut self) {
        self.ways.sort_by_key(Way::rank);
    }
}

/// What an account is called that has an entity and no login.
pub const ENTITY: &str = "entity:";

/// Every auth method of the namespace.
///
/// # Errors
/// As [`Api::get`].
pub async fn mounts(api: &Api, cannot: &str) -> Result<Vec<Mount>, Fault> {
    let data = api.get(&["sys", "auth"], cannot).await?.unwrap_or(Value::Null);
    let of = |(path, said): (&String, &Value)| {
        Some(Mount {
            path: path.trim_end_matches('/').to_string(),
            kind: text(&said["type"])?,
            accessor: text(&said["accessor"])?,
        })
    };
    Ok(data.as_object().into_iter().flatten().filter_map(of).collect())
}

/// The entity called `id`.
///
/// # Errors
/// As [`Api::get`].
pub async fn entity(api: &Api, id: &str, cannot: &str) -> Result<Option<Entity>, Fault> {
    let data = api.get(&["identity", "entity", "id", id], cannot).await?;
    data.filter(|data| !data.is_null()).map(|data| Entity::of(data, cannot)).transpose()
}

/// The RoleID of every role, by mount and role.
///
/// # Errors
/// As [`Api::get`].
pub async fn role_ids(api: &Api, mounts: &[Mount], cannot: &str) -> Result<Vec<(Mount, String, String)>, Fault> {
    let mut found = Vec::new();
    for mount in mounts.iter().filter(|m| m.kind == "approle") {
        for role in api.list(&join(&["auth"], &mount.path, &["role"]), cannot).await? {
            let path = join(&["auth"], &mount.path, &["role", &role, "role-id"]);
            if let Some(id) = api.get(&path, cannot).await?.and_then(|data| text(&data["role_id"])) {
                found.push((mount.clone(), role, id));
            }
        }
    }
    Ok(found)
}

/// Who `native_id` is now; nothing if neither its entity nor its login is there any more.
///
/// # Errors
/// As [`Api::get`].
pub async fn resolve(api: &Api, native_id: &str, cannot: &str) -> Result<Option<Identity>, Fault> {
    let mounts = mounts(api, cannot).await?;
    let mut asked = None;
    let entity = match native_id.strip_prefix(ENTITY) {
        Some(name) if is_segment(name) => api.get(&["identity", "entity", "name", name], cannot).await?,
        Some(_) => None,
        None => {
            let Some(mut way) = named(&mounts, native_id) else { return Ok(None) };
            look_up(api, &mut way, cannot).await?;
            let body = json!({ "alias_name": way.alias, "alias_mount_accessor": way.mount.accessor });
            let found = api.post(&["identity", "lookup", "entity"], &body, cannot).await?;
            asked = Some(way);
            found
        }
    };
    let entity = entity.filter(|data| !data.is_null()).map(|data| Entity::of(data, cannot)).transpose()?;
    let mut identity = Identity { ways: Vec::new(), entity };
    let aliases = identity.entity.as_ref().and_then(|e| e.aliases.clone()).unwrap_or_default();
    let roles = match aliases.iter().any(|alias| alias.mount_type == "approle") {
        true => role_ids(api, &mounts, cannot).await?,
        false => Vec::new(),
    };
    for alias in aliases {
        let mut way = of_alias(&alias, &mounts, &roles);
        if asked.as_ref().is_some_and(|asked| asked.id() == way.id()) {
            continue;
        }
        look_up(api, &mut way, cannot).await?;
        identity.ways.push(way);
    }
    // What has neither an entity nor a user of its own is nobody any more.
    identity.ways.extend(asked.filter(|way| way.exists || identity.entity.is_some()));
    identity.sort();
    Ok((identity.entity.is_some() || !identity.ways.is_empty()).then_some(identity))
}

/// The login that an alias is.
pub fn of_alias(alias: &Alias, mounts: &[Mount], roles: &[(Mount, String, String)]) -> Way {
    let mount = mounts.iter().find(|m| m.accessor == alias.mount_accessor).cloned();
    let gone = mount.is_none();
    let mount = mount.unwrap_or_else(|| Mount {
        path: alias.mount_path.trim_start_matches("auth/").trim_end_matches('/').to_string(),
        kind: alias.mount_type.clone(),
        accessor: alias.mount_accessor.clone(),
    });
    let role = roles.iter().find(|(m, _, id)| m.accessor == alias.mount_accessor && *id == alias.name);
    let name = role.map_or_else(|| alias.name.clone(), |(_, role, _)| role.clone());
    // Through an auth method that is gone, and by a role that is gone, nobody comes in any more.
    let exists = !gone && (mount.kind != "approle" || role.is_some());
    Way { mount, name, alias: alias.name.clone(), exists }
}

/// The login that a name such as `corp/userpass/jane` means; the longest mount wins.
pub fn named(mounts: &[Mount], native_id: &str) -> Option<Way> {
    let of = |mount: &Mount| {
        let name = native_id.strip_prefix(&mount.path)?.strip_prefix('/')?;
        Some(Way { mount: mount.clone(), name: name.to_string(), alias: name.to_string(), exists: true })
    };
    mounts.iter().filter_map(of).max_by_key(|way| way.mount.path.len())
}

/// Whether the auth method knows the login, where it has a list.
async fn look_up(api: &Api, way: &mut Way, cannot: &str) -> Result<(), Fault> {
    match way.mount.kind.as_str() {
        "userpass" if is_segment(&way.name) => {
            let path = join(&["auth"], &way.mount.path, &["users", &way.name]);
            way.exists &= api.get(&path, cannot).await?.is_some();
        }
        "approle" if is_segment(&way.name) => {
            let path = join(&["auth"], &way.mount.path, &["role", &way.name, "role-id"]);
            match api.get(&path, cannot).await?.and_then(|data| text(&data["role_id"])) {
                Some(id) => way.alias = id,
                None => way.exists = false,
            }
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(path: &str, kind: &str) -> Mount {
        Mount { path: path.into(), kind: kind.into(), accessor: format!("acc_{path}") }
    }

    #[test]
    fn a_name_means_the_longest_mount() {
        let mounts = [mount("corp", "ldap"), mount("corp/userpass", "userpass")];
        let way = named(&mounts, "corp/userpass/jane").unwrap();
        assert_eq!((way.mount.path.as_str(), way.name.as_str()), ("corp/userpass", "jane"));
        assert_eq!(named(&mounts, "corp/jane").unwrap().mount.kind, "ldap");
        assert_eq!(named(&mounts, "corporate/jane"), None);
        assert_eq!(named(&mounts, "corp"), None);
    }

    #[test]
    fn an_account_is_called_by_its_first_login() {
        let way = |path: &str, kind: &str, name: &str| Way {
            mount: mount(path, kind),
            name: name.into(),
            alias: name.into(),
            exists: true,
        };
        let mut identity = Identity { entity: None, ways: vec![way("approle", "approle", "ci"), way("userpass", "userpass", "jane"), way("ldap", "ldap", "jane")] };
        identity.sort();
        assert_eq!(identity.native_id(), "userpass/jane");
        let role = of_alias(
            &Alias { name: "r-1".into(), mount_accessor: "acc_approle".into(), mount_type: "approle".into(), ..Alias::default() },
            &[mount("approle", "approle")],
            &[],
        );
        assert!(!role.exists, "a role that is gone");
    }
}
