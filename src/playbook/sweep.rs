//! The second kind of playbook: a sweep. Which accounts are looked for, what is excepted, when it is made, and how much may be found
//! before the roster is more likely wrong than the accounts.

use super::Report;
use crate::model::{Family, SweepKind, SystemName};
use crate::source::{Mistake, Mistakes, Period, yaml};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// What a later version will know of sweeps: acting on what is found.
const LATER: &[&str] =
    &["stages", "approval", "verify", "deadline", "ask", "disable", "delete", "attest", "notify", "csv", "event"];

/// A sweep: what nobody owns, nobody uses, or outlived its owner is found and reported. Nothing is changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Sweep {
    /// Its name, as it is given on the command line: lower-case letters, digits, `-`.
    pub playbook: String,
    /// One sentence: what it is for.
    pub summary: String,
    /// When `offboard serve` makes it by itself. Without it, it is made only when somebody asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<Schedule>,
    /// More findings than this are a sign of a wrong roster or a wrong rule: the report says so on top, and nothing may act on them.
    pub limits: SweepLimits,
    /// What is looked for, and where.
    pub find: Vec<Find>,
    /// What is listed with its reason, and does not count.
    #[serde(default)]
    pub except: Except,
    /// What is written at the end.
    #[serde(default)]
    pub report: Report,
}

/// When a sweep is made by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Schedule {
    /// Five fields as cron has them: minute, hour, day of the month, month, day of the week.
    #[schemars(extend("examples" = ["0 6 1 1,4,7,10 *"]))]
    pub schedule: String,
    /// The time zone in which these are meant, an IANA name such as `Asia/Kolkata`.
    pub zone: String,
}

/// Above these the findings are not to be believed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SweepLimits {
    /// Accounts found, each place counting.
    #[schemars(range(min = 1))]
    pub accounts: u32,
    /// Accounts found, of all that were seen: a percentage such as `5%`.
    pub share: Share,
}

/// A percentage, from `0.1%` to `100%`, in tenths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
#[schemars(with = "String", extend("examples" = ["5%", "0.5%"]))]
pub struct Share(u32);

impl Share {
    /// Whether `part` of `whole` is more than this. More than nothing is more than any share of nothing.
    pub fn is_passed(self, part: u64, whole: u64) -> bool {
        u128::from(part) * 1_000 > u128::from(whole) * u128::from(self.0)
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a share; write a percentage from `0.1%` to `100%`, such as `5%`");
        let number = text.trim().strip_suffix('%').ok_or_else(wrong)?.trim_end();
        let (whole, tenth) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |part: &str, most: usize| {
            part.len() <= most && !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit())
        };
        if !digits(whole, 3) || !digits(tenth, 1) {
            return Err(wrong());
        }
        let tenths = whole.parse::<u32>().map_err(|_| wrong())? * 10 + tenth.parse::<u32>().map_err(|_| wrong())?;
        if (1..=1_000).contains(&tenths) { Ok(Self(tenths)) } else { Err(wrong()) }
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.0 / 10, self.0 % 10) {
            (whole, 0) => write!(f, "{whole}%"),
            (whole, tenth) => write!(f, "{whole}.{tenth}%"),
        }
    }
}

impl Serialize for Share {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Share;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a percentage such as `5%`")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Share, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// One sort of account that is looked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Find {
    /// Which.
    pub finding: Wanted,
    /// With `dormant`: how long an account may be unused, such as `90d`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unused_for: Option<Period>,
    /// Only on systems of these families; on all if it is left out.
    #[serde(default, rename = "in", skip_serializing_if = "Option::is_none")]
    pub families: Option<Vec<Family>>,
}

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Wanted {
    /// No person matches, or more than one.
    Orphan,
    /// Owned by somebody who works here, and unused for longer than `unused-for`.
    Dormant,
    /// Its owner has left.
    Lingering,
}

/// What is listed with its reason, and does not count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Except {
    /// Accounts that stand under `protected` in offboard.yaml as one of these; all three if it is left out.
    #[serde(default = "every_tag")]
    pub tags: Vec<Tag>,
    /// Whole systems, by their names in offboard.yaml.
    #[serde(default)]
    pub systems: Vec<SystemName>,
    /// Single accounts.
    #[serde(default)]
    pub accounts: Vec<ExceptAccount>,
}

impl Default for Except {
    fn default() -> Self {
        Self { tags: every_tag(), systems: Vec::new(), accounts: Vec::new() }
    }
}

fn every_tag() -> Vec<Tag> {
    vec![Tag::BreakGlass, Tag::Service, Tag::Shared]
}

/// What an account stands under `protected` in offboard.yaml as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Tag {
    /// For emergencies.
    BreakGlass,
    /// Used by a program.
    Service,
    /// Used by several people.
    Shared,
}

impl std::fmt::Display for Tag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::BreakGlass => "break-glass",
            Self::Service => "service",
            Self::Shared => "shared",
        })
    }
}

/// An account that is excepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ExceptAccount {
    /// The system, by its name in offboard.yaml.
    pub system: SystemName,
    /// The account as the system calls it: a DN, a role, a login.
    pub account: String,
    /// Why it is excepted: for whoever reads the report.
    pub why: String,
    /// The last day on which it is, such as `2027-03-31`; for ever if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub until: Option<Date>,
}

impl Sweep {
    /// Makes a sweep of a document that [`super::Book::from_yaml`] has read.
    pub(super) fn from_document(document: &yaml::Document) -> Result<Self, Mistakes> {
        let sweep: Self = document.parse(LATER)?;
        Mistakes::unless_usable(check(&sweep, document))?;
        Ok(sweep)
    }

    /// Whether `kind` is looked for on systems of `family`, and for dormant accounts how long they may be unused. Whoever looks for
    /// orphans wants to know what matches several people, too.
    pub fn looks_for(&self, kind: SweepKind, family: Family) -> Option<Option<Period>> {
        let wanted = match kind {
            SweepKind::Orphan | SweepKind::Ambiguous => Wanted::Orphan,
            SweepKind::Dormant => Wanted::Dormant,
            SweepKind::Lingering => Wanted::Lingering,
        };
        let rules = self.find.iter().filter(|rule| rule.finding == wanted && rule.covers(family));
        rules.map(|rule| rule.unused_for).min()
    }

    /// Whether systems of `family` are looked at at all.
    pub fn covers(&self, family: Family) -> bool {
        self.find.iter().any(|rule| rule.covers(family))
    }

    /// The zone in which its dates are meant: that of its schedule, or UTC.
    pub fn zone(&self) -> TimeZone {
        let named = self.trigger.as_ref().and_then(|trigger| TimeZone::get(&trigger.zone).ok());
        named.unwrap_or(TimeZone::UTC)
    }
}

impl Find {
    fn covers(&self, family: Family) -> bool {
        self.families.as_ref().is_none_or(|families| families.contains(&family))
    }
}

/// Every mistake that no type can tell.
fn check(sweep: &Sweep, document: &yaml::Document) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    if !super::check::is_plain(&sweep.playbook) {
        mistakes.push(super::check::not_plain(document));
    }
    if sweep.limits.accounts == 0 {
        let path = ["limits".into(), "accounts".into()];
        mistakes.push(document.error(&path, "a limit of 0 makes every finding one too many", "at least 1"));
    }
    if sweep.report.formats.is_empty() {
        let path = ["report".into(), "formats".into()];
        mistakes.push(document.error(&path, "a sweep without a report shows nothing", "valid here: `html`, `json`"));
    }
    if let Some(trigger) = &sweep.trigger {
        mistakes.extend(schedule(trigger, document));
    }
    if sweep.find.is_empty() {
        mistakes.push(document.error(&["find".into()], "a sweep looks for something", "at least one belongs here"));
    }
    for (number, rule) in sweep.find.iter().enumerate() {
        let at = |key: &'static str| ["find".into(), number.into(), key.into()];
        match (rule.finding, rule.unused_for) {
            (Wanted::Dormant, None) => mistakes.push(
                document
                    .error(&["find".into(), number.into()], "`dormant` needs `unused-for`", "how long?")
                    .help("such as `unused-for: 90d`"),
            ),
            (Wanted::Orphan | Wanted::Lingering, Some(_)) => mistakes.push(document.error(
                &at("unused-for"),
                "only `dormant` asks how long an account is unused",
                "leave it out",
            )),
            _ => {}
        }
        if rule.families.as_ref().is_some_and(Vec::is_empty) {
            mistakes.push(document.error(&at("in"), "an empty list covers no system", "leave it out for all"));
        }
    }
    for (number, account) in sweep.except.accounts.iter().enumerate() {
        if account.why.trim().is_empty() {
            let path = ["except".into(), "accounts".into(), number.into(), "why".into()];
            mistakes.push(document.error(&path, "an exception needs a reason", "for whoever reads the report"));
        }
    }
    mistakes
}

fn schedule(trigger: &Schedule, document: &yaml::Document) -> Vec<Mistake> {
    let at = |key: &'static str| ["trigger".into(), key.into()];
    let mut mistakes = Vec::new();
    // Without seconds and years, as crontab(5) has it.
    let five = trigger.schedule.split_whitespace().count() == 5;
    let cron =
        if five { croner::Cron::from_str(&trigger.schedule).map_err(|e| e.to_string()) } else { Err(String::new()) };
    if let Err(error) = cron {
        let mut mistake = document.error(&at("schedule"), "this is no schedule", "five fields, as in a crontab");
        if !error.is_empty() {
            mistake = mistake.note(error);
        }
        mistakes.push(mistake.help(
            "minute, hour, day of the month, month, day of the week: `0 6 1 1,4,7,10 *` is 06:00 on the first day of each quarter",
        ));
    }
    if trigger.zone.is_empty() || TimeZone::get(&trigger.zone).is_err() {
        mistakes.push(
            document
                .error(&at("zone"), "there is no such time zone", "an IANA name")
                .help("such as `Asia/Kolkata`, `Europe/Berlin` or `UTC`"),
        );
    }
    mistakes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_percentages() {
        for (text, shown) in [("5%", "5%"), ("0.5%", "0.5%"), (" 12.0 %", "12%"), ("100%", "100%")] {
            assert_eq!(text.parse::<Share>().map(|s| s.to_string()).as_deref(), Ok(shown), "{text}");
        }
        for text in ["", "5", "0%", "100.1%", "-5%", "1e1%", "5.55%", "%", "５%", "999999999999%"] {
            assert!(text.parse::<Share>().is_err(), "{text}");
        }
        let five: Share = "5%".parse().unwrap();
        assert!(!five.is_passed(5, 100) && five.is_passed(6, 100) && five.is_passed(1, 0) && !five.is_passed(0, 0));
    }
}
