//! The keys that seal the journal, in words.

use super::{Style, fault, line};
use crate::journal::{KeyId, SealStatus};
use crate::model::Fault;
use jiff::Timestamp;

/// Every sealing key, and what would happen if it were lost.
pub fn seal(
    status: &SealStatus,
    current: Option<&KeyId>,
    former: Option<&KeyId>,
    missing: &[&KeyId],
    recovery: Option<&str>,
    unread: Option<&Fault>,
    style: &Style,
) -> String {
    let mut text = String::new();
    let when = |at: Timestamp| at.to_zoned(style.zone.clone()).strftime("%-d %b %Y, %H:%M %Z").to_string();
    for key in &status.keys {
        let standing = match &key.key {
            id if missing.contains(&id) => "missing",
            id if Some(id) == current => "in use",
            id if Some(id) == former => "being replaced",
            _ => "gone",
        };
        let noted = match &key.noted {
            Some(noted) => format!(", noted {} by {}", when(noted.at), line(&noted.by)),
            None => String::new(),
        };
        text.push_str(&format!("sealing key {}: {standing}, {}{noted}\n", key.key, values(key.values)));
    }
    if let Some(current) = current.filter(|current| status.keys.iter().all(|key| key.key != **current)) {
        text.push_str(&format!("sealing key {current}: in use, no values\n"));
    }
    if status.unnamed > 0 {
        text.push_str(&format!(
            "from before keys had names: {}; offboard seal rotate seals them anew\n",
            values(status.unnamed)
        ));
    }
    if former.is_some() {
        text.push_str("The change of the sealing key was not ended. It goes on with: offboard seal rotate\n");
    }
    if !missing.is_empty() {
        text.push_str(
            "A key is missing: restore the newest copy of the folder keys, or use the recovery key: offboard seal recover\n",
        );
    }
    match recovery {
        Some(recipient) => text.push_str(&format!("recovery key {recipient}: opens them if the folder keys is lost\n")),
        None => text.push_str(
            "recovery key: none. If the folder keys is lost, so is every sealed value. One is made by: offboard seal recovery\n",
        ),
    }
    if let Some(unread) = unread {
        text.push_str(&fault(unread, style));
    }
    text
}

/// So many sealed values.
pub fn values(count: u64) -> String {
    match count {
        0 => "no values".into(),
        1 => "1 value".into(),
        more => format!("{more} values"),
    }
}
