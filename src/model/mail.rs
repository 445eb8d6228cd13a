//! Mail addresses as they are used to send to: plain ones, that no header and no server can read in two ways.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

/// A mail address without a display name: `it@example.com`. ASCII, no quotes, no comments (RFC 5321, `Dot-string@Domain`), at most 254
/// characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(extend("examples" = ["it@example.com"]))]
pub struct MailAddress(String);

impl MailAddress {
    /// The address.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for MailAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for MailAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // RFC 5322, 3.2.3: what an atom is made of.
        let atom = |part: &str| {
            !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c))
        };
        let label = |part: &str| {
            !part.is_empty()
                && part.len() <= 63
                && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
                && !part.starts_with('-')
                && !part.ends_with('-')
        };
        let sound = text.len() <= 254
            && text.split_once('@').is_some_and(|(local, domain)| {
                local.len() <= 64 && local.split('.').all(atom) && domain.contains('.') && domain.split('.').all(label)
            });
        if sound {
            Ok(Self(text.to_string()))
        } else {
            Err("this is not a mail address; write one such as `it@example.com`".into())
        }
    }
}

impl<'de> Deserialize<'de> for MailAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = MailAddress;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a mail address such as `it@example.com`")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<MailAddress, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_addresses_are_addresses() {
        for good in ["it@example.com", "a.b+c@mail.example.com", "o'brien@example.com", "x@1.example.test"] {
            assert_eq!(good.parse::<MailAddress>().map(|a| a.to_string()), Ok(good.to_string()));
        }
        let long = format!("{}@example.com", "x".repeat(65));
        for bad in [
            "",
            "it",
            "it@",
            "@example.com",
            "it@example",
            "it@@example.com",
            "it@example..com",
            ".it@example.com",
            "i t@example.com",
            "it@example.com\r\nBcc: eve@example.com",
            "IT <it@example.com>",
            "\"it\"@example.com",
            "it@example.com,eve@example.com",
            "it@-example.com",
            "it@exämple.com",
            "íт@example.com",
            long.as_str(),
        ] {
            assert!(bad.parse::<MailAddress>().is_err(), "{bad:?}");
        }
    }
}
