//! The keys that seal the journal, in words.

use super::{Style, fault, line};
use crate::journal::{KeyFile, KeyId, Noted, SealStatus, SealedWith};
use crate::model::Fault;
use jiff::Timestamp;

/// What is known of the keys that seal a journal.
pub struct Sealing<'a> {
    /// What the journal says.
    pub status: &'a SealStatus,
    /// The key at hand that seals.
    pub current: Option<&'a KeyId>,
    /// The key at hand that is being replaced.
    pub former: Option<&'a KeyId>,
    /// Keys that are needed and not at hand.
    pub missing: &'a [&'a KeyId],
    /// Keys in use that the recovery key does not open.
    pub unopened: &'a [&'a KeyId],
    /// A key that the recovery key opens.
    pub opener: Option<&'a SealedWith>,
    /// Why the keys cannot be read.
    pub unread: Option<&'a Fault>,
}

/// How the sealing key stands in its file; nothing is said of a plain one that is to be one.
pub fn key_files(files: &[KeyFile], keeper: Option<&str>) -> String {
    let one = |found: &KeyFile| match (found.wrapped, keeper) {
        (Some(version), Some(keeper)) => {
            format!("{}: transit, wrapped by {} (version {version})\n", found.file, line(keeper))
        }
        (Some(version), None) => {
            format!("{}: transit, version {version} of a key that offboard.yaml does not name\n", found.file)
        }
        (None, Some(keeper)) => {
            format!("{}: file, a plain key. {} keeps it after: offboard seal wrap\n", found.file, line(keeper))
        }
        (None, None) => format!("{}: file\n", found.file),
    };
    files.iter().map(one).collect()
}

/// What came of trying who keeps the sealing key.
pub fn keeper(name: &str, tried: &Result<Vec<KeyFile>, Fault>, style: &Style) -> String {
    match tried {
        Ok(files) => format!("{} wraps and unwraps keys\n{}", line(name), key_files(files, Some(name))),
        Err(why) => fault(why, style),
    }
}

/// Every sealing key, and what would happen if it were lost.
pub fn seal(found: &Sealing, style: &Style) -> String {
    let Sealing { status, current, former, missing, unopened, opener, unread } = *found;
    let mut text = String::new();
    for key in &status.keys {
        let standing = match &key.key {
            id if missing.contains(&id) => "missing",
            id if Some(id) == current => "in use",
            id if Some(id) == former => "being replaced",
            _ => "gone",
        };
        let noted = match &key.noted {
            Some(noted) => format!(", noted {} by {}", when(noted.at, style), line(&noted.by)),
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
    match opener.and_then(|key| Some((key.recovery.as_ref()?, key.recovery_set.as_ref()))) {
        Some((recipient, by)) => {
            text.push_str(&format!("recovery key {recipient}{}: opens them if the folder keys is lost\n", set(by, style)));
        }
        None => text.push_str(
            "recovery key: none. If the folder keys is lost, so is every sealed value. One is made by: offboard seal recovery\n",
        ),
    }
    for key in unopened {
        text.push_str(&format!(
            "sealing key {key}: the recovery key does not open it. One that does: offboard seal recovery\n"
        ));
    }
    if let Some(unread) = unread {
        text.push_str(&fault(unread, style));
    }
    text
}

/// When a recovery key was set, and by whom, as far as it is known.
pub fn set(noted: Option<&Noted>, style: &Style) -> String {
    noted.map_or_else(String::new, |noted| format!(" (set {} by {})", when(noted.at, style), line(&noted.by)))
}

fn when(at: Timestamp, style: &Style) -> String {
    at.to_zoned(style.zone.clone()).strftime("%-d %b %Y, %H:%M %Z").to_string()
}

/// So many sealed values.
pub fn values(count: u64) -> String {
    match count {
        0 => "no values".into(),
        1 => "1 value".into(),
        more => format!("{more} values"),
    }
}
