//! One entry as a search returned it.

use ldap3::SearchEntry;
use std::collections::BTreeMap;

/// An entry: its name and the attributes that were asked for and that we may see.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name, as the server spells it.
    pub dn: String,
    attributes: BTreeMap<String, Vec<Vec<u8>>>,
}

// Values may be password verifiers; only the attributes' names are printed.
impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").field("dn", &self.dn).field("attributes", &self.attributes.keys()).finish()
    }
}

impl Entry {
    /// An entry made of attributes' names and values.
    pub fn new<'a>(dn: &str, attributes: impl IntoIterator<Item = (&'a str, Vec<Vec<u8>>)>) -> Self {
        let attributes = attributes.into_iter().map(|(name, values)| (name.to_lowercase(), values)).collect();
        Self { dn: dn.to_string(), attributes }
    }

    pub(super) fn from_search(entry: SearchEntry) -> Self {
        let mut attributes: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
        for (name, values) in entry.attrs {
            let values = values.into_iter().map(String::into_bytes);
            attributes.entry(name.to_lowercase()).or_default().extend(values);
        }
        for (name, values) in entry.bin_attrs {
            attributes.entry(name.to_lowercase()).or_default().extend(values);
        }
        Self { dn: entry.dn, attributes }
    }

    /// The values of exactly this attribute, in no particular order; of none of its options (`;lang-de`).
    pub fn values(&self, attribute: &str) -> &[Vec<u8>] {
        self.attributes.get(&attribute.to_lowercase()).map_or(&[], Vec::as_slice)
    }

    /// Its values that are UTF-8 and not empty.
    pub fn texts(&self, attribute: &str) -> Vec<String> {
        let texts = self.values(attribute).iter().filter_map(|v| String::from_utf8(v.clone()).ok());
        texts.filter(|text| !text.is_empty()).collect()
    }

    /// Its first value, if it is UTF-8.
    pub fn text(&self, attribute: &str) -> Option<String> {
        self.texts(attribute).into_iter().next()
    }

    /// Whether there is any value of it, also under an option: `userCertificate;binary`.
    pub fn has(&self, attribute: &str) -> bool {
        let wanted = attribute.to_lowercase();
        self.attributes.iter().any(|(name, values)| name.split(';').next() == Some(&wanted) && !values.is_empty())
    }

    /// Whether the entry is of that object class.
    pub fn is_a(&self, class: &str) -> bool {
        self.texts("objectClass").iter().any(|c| c.eq_ignore_ascii_case(class))
    }
}
