//! Who is asked to do something by hand.

use crate::model::MailAddress;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Whom a manual step is asked of: a mail address, or `manager` for the leaver's manager as the roster has them.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String", extend("examples" = ["it@example.com", "manager"]))]
pub enum Asked {
    /// The leaver's manager.
    Manager,
    /// Whoever reads the mail of this address.
    Mail(MailAddress),
}

const MANAGER: &str = "manager";

impl std::fmt::Display for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Manager => f.write_str(MANAGER),
            Self::Mail(address) => address.fmt(f),
        }
    }
}

impl Serialize for Asked {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Asked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Asked;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a mail address such as `it@example.com`, or `manager`")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Asked, E> {
                if text == MANAGER {
                    return Ok(Asked::Manager);
                }
                let wrong = |_| E::custom(format!("this is neither a mail address nor `{MANAGER}`"));
                text.parse().map(Asked::Mail).map_err(wrong)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}
