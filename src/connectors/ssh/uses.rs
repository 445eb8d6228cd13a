//! When the accounts of a host were last used, for a sweep: by lastlog and wtmp, which know logins on a terminal, and by sshd's log,
//! which knows all, for as long as it is kept.

use super::discover::is_login_shell;
use super::link::{SshLink, quoted};
use crate::connector::{Entry, LastUse};
use crate::model::{Account, DoorKind, Fault, FaultKind, Owner};
use jiff::civil::DateTime;
use jiff::fmt::strtime::BrokenDownTime;
use jiff::tz::{Offset, TimeZone};
use jiff::{Timestamp, ToSpan};
use std::collections::{HashMap, HashSet};

/// Sent along with the call, without comments.
const SCRIPT: &str = include_str!("script/uses.sh");

/// What a host says of when its accounts were used.
#[derive(Debug, Default)]
pub(super) struct Uses {
    terminal: HashMap<String, Timestamp>,
    login: HashMap<String, Timestamp>,
    changed: HashMap<String, i64>,
    since: Option<Timestamp>,
    zone: Option<Offset>,
    now: Timestamp,
    whole: bool,
}

impl Uses {
    fn new(now: Timestamp) -> Self {
        Self { now, ..Self::default() }
    }

    fn line(&mut self, line: &[u8]) {
        let text = String::from_utf8_lossy(line);
        if text == "Z\tuses" {
            self.whole = true;
        }
        let ["W", how, when, name] = text.splitn(4, '\t').collect::<Vec<_>>()[..] else { return };
        match how {
            "zone" => self.zone = offset(when),
            "terminal" => {
                let at = when.parse().ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
                note(&mut self.terminal, name, at.filter(|at| *at <= self.now));
            }
            "login" => {
                let at = self.logged(when);
                note(&mut self.login, name, at);
            }
            "changed" => {
                self.changed.extend(when.parse().ok().map(|day| (name.to_string(), day)));
            }
            "since" => self.since = [self.since, self.logged(when)].into_iter().flatten().min(),
            _ => {}
        }
    }

    /// The time that a line of a log begins with: RFC 3339, as newer systems write it, or RFC 3164, which knows no year: then the latest
    /// that is not in the future.
    fn logged(&self, line: &str) -> Option<Timestamp> {
        let first = line.split(' ').next()?;
        if let Some(at) = first.parse::<Timestamp>().ok().or_else(|| BrokenDownTime::parse("%Y-%m-%dT%H:%M:%S%z", first).ok()?.to_timestamp().ok()) {
            return (at <= self.now).then_some(at);
        }
        let zone = TimeZone::fixed(self.zone?);
        let today = self.now.to_zoned(zone.clone());
        let written: String = line.split_whitespace().take(3).collect::<Vec<_>>().join(" ");
        (0..2).find_map(|back| {
            let year = today.year() - back;
            let civil = DateTime::strptime("%Y %b %d %H:%M:%S", format!("{year} {written}")).ok()?;
            let at = civil.to_zoned(zone.clone()).ok()?.timestamp();
            (at <= self.now + 1.minute()).then_some(at)
        })
    }

    /// The last use of an account that is on record.
    fn of(&self, name: &str) -> Option<Timestamp> {
        self.terminal.get(name).max(self.login.get(name)).copied()
    }

    pub(super) fn last_use(&self) -> LastUse {
        match self.since {
            Some(since) => LastUse::Kept { since: Some(since) },
            None => LastUse::NotKept { why: "no log of sshd is kept there, and other records know logins on a terminal only".into() },
        }
    }
}

fn note(map: &mut HashMap<String, Timestamp>, name: &str, at: Option<Timestamp>) {
    if let Some(at) = at {
        let known = map.entry(name.to_string()).or_insert(at);
        *known = at.max(*known);
    }
}

/// `+0530`, as `date +%z` writes it.
fn offset(text: &str) -> Option<Offset> {
    let (sign, digits) = (text.get(..1)?, text.get(1..5)?);
    let minutes = digits[..2].parse::<i32>().ok()? * 60 + digits[2..].parse::<i32>().ok()?;
    Offset::from_seconds(if sign == "-" { -minutes } else { minutes } * 60).ok()
}

/// How an account can be entered: not at all if it has expired; by a key, whatever its shell, since a key still opens tunnels; by a
/// password where there is one and the shell lets somebody in. Root is the machine's, unless a password opens it.
pub(super) fn entry(account: &Account) -> Entry {
    let fact = |name: &str| account.facts.get(name);
    let text = |name: &str| fact(name).and_then(|v| v.as_str()).unwrap_or_default();
    let password = matches!(text("password"), "set" | "empty") && is_login_shell(text("shell"));
    let key = account.doors.iter().any(|door| door.kind == DoorKind::SshKey);
    match fact("uid").and_then(serde_json::Value::as_u64) {
        // Our own key is no door of a discovery's; it is here that we are.
        _ if account.owner == Owner::Ourselves => Entry::Open,
        _ if !account.enabled || !(password || key) => Entry::Shut,
        Some(0) if !password => Entry::Machine,
        _ => Entry::Open,
    }
}

impl SshLink {
    /// Fills in when these accounts were last used.
    pub(super) async fn fill_in_uses(&mut self, accounts: &mut [Account]) -> Result<(), Fault> {
        let now = Timestamp::from_second(i64::try_from(self.login.now).unwrap_or(0)).unwrap_or_default();
        let asked: Vec<String> = accounts
            .iter()
            .filter(|account| entry(account) != Entry::Shut)
            .filter_map(|account| Some(quoted(&format!("{}:{}", account.facts.get("uid")?, account.native_id))))
            .collect();
        let script: String = SCRIPT
            .lines()
            .map(str::trim_start)
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .flat_map(|line| [line, "\n"])
            .collect();
        let mut uses = Uses::new(now);
        let call = format!("{script}uses {} </dev/null", asked.join(" "));
        let live: HashSet<String> =
            accounts.iter().map(|a| a.native_id.clone()).filter(|name| self.is_in_use(name)).collect();
        self.ask(&call, &mut |line| uses.line(line)).await?;
        if !uses.whole {
            return Err(self
                .fault(FaultKind::Unexpected, "the host's list of last logins is incomplete")
                .hint("run the sweep again"));
        }
        for account in accounts {
            // Whoever is logged in uses it.
            let live = live.contains(&account.native_id).then_some(now);
            account.last_used = live.max(uses.of(&account.native_id));
            if let (Some(facts), Some(day)) = (account.facts.as_object_mut(), uses.changed.get(&account.native_id)) {
                facts.insert("changed".into(), (*day).into());
            }
        }
        self.uses = Some(uses);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uses() -> Uses {
        Uses { zone: Some(Offset::from_seconds(19_800).unwrap()), ..Uses::new("2026-01-10T00:00:00Z".parse().unwrap()) }
    }

    #[test]
    fn logs_write_times_in_many_ways() {
        for (line, at) in [
            ("2026-01-05T10:00:00.123456+00:00 web1 sshd[1]", Some("2026-01-05T10:00:00.123456Z")),
            ("2026-01-05T10:00:00+0530 web1 sshd[1]", Some("2026-01-05T04:30:00Z")),
            ("Jan  5 10:00:00 web1 sshd[1]", Some("2026-01-05T04:30:00Z")),
            ("Dec 31 10:00:00 web1 sshd[1]", Some("2025-12-31T04:30:00Z")),
            ("2031-01-05T10:00:00Z web1 sshd[1]", None),
            ("no time at all", None),
            ("", None),
        ] {
            assert_eq!(uses().logged(line).map(|t| t.to_string()).as_deref(), at, "{line}");
        }
    }

    #[test]
    fn the_latest_use_counts_and_the_future_does_not() {
        let mut uses = uses();
        for line in [
            "W\tterminal\t1700000000\tjane",
            "W\tterminal\t1600000000\tjane",
            "W\tterminal\t4000000000\tjane",
            "W\tlogin\tJan  5 10:00:00 web1 sshd\tjane",
            "W\tterminal\tnot a number\tjoe",
            "W\tsince\tJan  1 00:00:00 web1 x\t",
        ] {
            uses.line(line.as_bytes());
        }
        assert_eq!(uses.of("jane").map(|t| t.to_string()).as_deref(), Some("2026-01-05T04:30:00Z"));
        assert_eq!(uses.of("joe"), None);
        assert_eq!(uses.last_use(), LastUse::Kept { since: Some("2025-12-31T18:30:00Z".parse().unwrap()) });
        assert!(!uses.whole, "cut off");
    }
}
