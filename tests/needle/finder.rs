//! Finds known values in bytes, however they are written.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use std::collections::BTreeMap;

/// Values to look for. Every one has a name, for it is never shown itself.
#[derive(Default)]
pub struct Needles {
    /// Name of the value and of its encoding, and the bytes.
    written: Vec<(String, Vec<u8>)>,
    /// Which of them begin with these two bytes.
    begin: BTreeMap<[u8; 2], Vec<usize>>,
    /// The same as a table: most places in a file begin none.
    any: Vec<bool>,
}

impl Needles {
    pub fn add(&mut self, name: &str, value: &[u8]) {
        assert!(value.len() >= 12, "{name} is too short to be told from chance");
        for (encoding, bytes) in written(value) {
            let begin = [bytes[0], bytes[1]];
            self.any.resize(1 << 16, false);
            self.any[usize::from(u16::from_be_bytes(begin))] = true;
            self.begin.entry(begin).or_default().push(self.written.len());
            self.written.push((format!("{name}, {encoding}"), bytes));
        }
    }

    /// How often each of them stands in `bytes`.
    pub fn count(&self, bytes: &[u8]) -> BTreeMap<&str, usize> {
        let mut found = BTreeMap::new();
        for (at, pair) in bytes.windows(2).enumerate() {
            let begin = [pair[0], pair[1]];
            if !self.any[usize::from(u16::from_be_bytes(begin))] {
                continue;
            }
            for needle in &self.begin[&begin] {
                let (name, value) = &self.written[*needle];
                if bytes[at..].starts_with(value) {
                    *found.entry(name.as_str()).or_insert(0) += 1;
                }
            }
        }
        found
    }
}

/// All the ways in which somebody may have written it down.
fn written(value: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut all = vec![("as it is".to_string(), value.to_vec())];
    let mut add = |name: &str, text: String| all.push((name.to_string(), text.into_bytes()));
    // Within a longer text that is encoded, it begins at one of three places; what its neighbours decide is left out.
    for shift in 0..3 {
        let moved = [&vec![0; shift][..], value].concat();
        let whole = moved.len() * 8 / 6;
        let from = (shift * 8).div_ceil(6);
        for (name, text) in [("base64", STANDARD_NO_PAD.encode(&moved)), ("base64url", URL_SAFE_NO_PAD.encode(&moved))]
        {
            add(&format!("{name} from byte {shift}"), text[from..whole].to_string());
        }
    }
    let each = |form: &dyn Fn(&u8) -> String| value.iter().map(form).collect::<String>();
    add("hex", each(&|b| format!("{b:02x}")));
    add("HEX", each(&|b| format!("{b:02X}")));
    add("percent", each(&|b| format!("%{b:02x}")));
    add("PERCENT", each(&|b| format!("%{b:02X}")));
    add("escaped", each(&|b| format!("\\x{b:02x}")));
    add("list", value.iter().map(|b| b.to_string()).collect::<Vec<_>>().join(", "));
    add("compact list", value.iter().map(|b| b.to_string()).collect::<Vec<_>>().join(","));
    all.push(("UTF-16".into(), value.iter().flat_map(|b| [*b, 0]).collect()));
    all.push(("backwards".into(), value.iter().rev().copied().collect()));
    all.sort_by(|a, b| a.1.cmp(&b.1));
    all.dedup_by(|a, b| a.1 == b.1);
    all
}

#[test]
fn a_value_is_found_however_it_is_written() {
    let value = b"q7RzW-kP3_xV9mNc";
    let mut needles = Needles::default();
    needles.add("the password", value);
    let text = std::str::from_utf8(value).unwrap();
    let mut hiding: Vec<Vec<u8>> = vec![
        format!("could not log in with {text}: no").into_bytes(),
        format!("{:?}", value).into_bytes(),
        serde_json::to_vec(&value.to_vec()).unwrap(),
        text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
    ];
    for before in ["", "u", "us", "user:"] {
        let line = format!("{before}{text}:more");
        hiding.push(STANDARD_NO_PAD.encode(&line).into_bytes());
        hiding.push(URL_SAFE_NO_PAD.encode(&line).into_bytes());
    }
    for bytes in &hiding {
        assert!(!needles.count(bytes).is_empty(), "{:?}", String::from_utf8_lossy(bytes));
    }
    assert!(needles.count(b"q7RzW-kP3_xV9mN, and much else").is_empty());
}
