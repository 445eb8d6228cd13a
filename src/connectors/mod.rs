//! The registry: every system that can be closed, one line each. To add one, write its folder and its line here, a rig in
//! `tests/contract/` and a page in `docs/connectors/`.

mod database;

use crate::connector::{Connector, Manifest};
use crate::model::{Fault, SystemName};
use crate::wire::guarded::Access;
use schemars::JsonSchema;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;

macro_rules! registry {
    ($($(#[$doc:meta])* $module:ident => $variant:ident,)*) => {
        $(pub mod $module;)*

        /// The names of all kinds of system, as `offboard.yaml` writes them.
        pub const NAMES: &[&str] = &[$(stringify!($module)),*];

        /// What `offboard.yaml` says of one system: its kind, and the settings of that kind.
        #[derive(Clone, Debug, Serialize, JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum SystemSettings {
            $($(#[$doc])* $variant($module::Settings),)*
        }

        impl SystemSettings {
            /// What is known of this kind of system.
            pub fn manifest(&self) -> &'static Manifest {
                match self {
                    $(Self::$variant(_) => &$module::MANIFEST,)*
                }
            }

            /// The files that the settings name, relative to the folder of `offboard.yaml`, and who may have what on them.
            pub fn files(&self) -> Vec<(PathBuf, Access)> {
                match self {
                    $(Self::$variant(settings) => settings.files(),)*
                }
            }

            /// Accounts that the block itself maps to people, under `peers`.
            pub fn mapped(&self) -> Vec<Mapped> {
                match self {
                    $(Self::$variant(settings) => settings.mapped(),)*
                }
            }

            /// The connector of the system `name`. Relative files start at `base`. Opens no connection.
            ///
            /// # Errors
            /// `Misconfigured`: settings that contradict each other, or a file that cannot be used.
            pub fn build(&self, name: &SystemName, base: &Path) -> Result<Arc<dyn Connector>, Fault> {
                match self {
                    $(Self::$variant(settings) => $module::build(name, settings.clone(), base),)*
                }
            }
        }

        /// What is known of every kind of system.
        pub fn manifests() -> Vec<&'static Manifest> {
            vec![$(&$module::MANIFEST),*]
        }

        impl<'de> Visitor<'de> for Settings {
            type Value = SystemSettings;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a kind of system, and below it its settings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<SystemSettings, A::Error> {
                let Some(kind) = entries.next_key_seed(Kind { first: None })? else {
                    return Err(A::Error::custom(format!("a system needs a kind: {}", NAMES.join(", "))));
                };
                let settings = match kind {
                    $(stringify!($module) => SystemSettings::$variant(entries.next_value()?),)*
                    _ => return Err(A::Error::unknown_field(kind, NAMES)),
                };
                entries.next_key_seed(Kind { first: Some(kind) })?;
                Ok(settings)
            }
        }
    };
}

registry! {
    /// Any system that commands of your own close.
    command => Command,
    /// OpenLDAP or 389 Directory Server.
    ldap => Ldap,
    /// MariaDB or MySQL servers.
    mysql => Mysql,
    /// OpenVPN servers.
    openvpn => Openvpn,
    /// A PostgreSQL cluster.
    postgres => Postgres,
    /// Redis or Valkey servers.
    redis => Redis,
    /// Unix hosts over SSH.
    ssh => Ssh,
    /// OpenBao or HashiCorp Vault.
    vault => Vault,
    /// WireGuard gateways.
    wireguard => Wireguard,
}

/// An account that the block of its system maps to a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// As it is written there.
    pub written: String,
    /// As the system calls it.
    pub account: String,
    /// The roster's identifier of the person.
    pub person: String,
}

/// Most kinds map no accounts to people; the block of one that does has a `mapped` of its own, which counts instead of this one.
trait MapsNobody {
    fn mapped(&self) -> Vec<Mapped> {
        Vec::new()
    }
}

impl<T> MapsNobody for T {}

impl<'de> Deserialize<'de> for SystemSettings {
    // By hand, since an error of a derived implementation points at the system and not at the wrong word.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Settings)
    }
}

struct Settings;

/// Reads the kind of a system; where there is a `first` kind already, any key is one too many.
struct Kind {
    first: Option<&'static str>,
}

impl<'de> DeserializeSeed<'de> for Kind {
    type Value = &'static str;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<&'static str, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Kind {
    type Value = &'static str;
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a kind of system")
    }
    fn visit_str<E: Error>(self, written: &str) -> Result<&'static str, E> {
        if let Some(first) = self.first {
            return Err(E::custom(format!(
                "this system is of the kind `{first}`; check the indentation of what follows"
            )));
        }
        NAMES.iter().find(|name| **name == written).copied().ok_or_else(|| E::unknown_field(written, NAMES))
    }
}
