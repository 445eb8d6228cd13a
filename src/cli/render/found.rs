//! What was found, and what would be done about it: a plan, a person's accounts, a system's inventory.

use super::house::{fault, finding};
use super::{Style, name, wrapped};
use crate::engine::{DraftAsk, DraftPlace};
use crate::model::{Account, Action, Door, MatchRule, Owner, Person, Step};
use crate::report::{Tone, text};
use std::collections::HashSet;

/// Every step of a run, place by place; places where the very same is done stand together.
pub fn plan(person: &Person, playbook: &str, places: &[DraftPlace], style: &Style) -> String {
    let user = person.user_name.as_deref().map(|user| format!(", {}", name(user))).unwrap_or_default();
    let title = format!("Plan for {} ({}{user}) by {}", name(&person.name), name(&person.id.0), name(playbook));
    let mut out = format!("{}\nNothing was changed.\n", style.bold(&title));
    out.push_str(&by_place(places, style, |place| {
        let accounts = place.found.as_deref().unwrap_or_default();
        let told: String = accounts.iter().map(|account| planned(account, &place.steps, person, style)).collect();
        told + &elsewhere(accounts, &place.steps, style)
    }));
    out.push_str(&uncovered(places, style));
    out.push_str(&findings(places, style));
    out.push_str(&unreached(places, style));
    let all: Vec<_> = places.iter().flat_map(|p| distinct(&p.steps)).map(|(_, step)| step).collect();
    let acting = places.iter().filter(|p| !p.steps.is_empty()).count();
    // Nobody takes the end of a session or an old password back; that of a key is worth a word.
    let kept = |step: &Step| step.reversible || matches!(step.action, Action::EndSessions | Action::Rotate);
    let gone = all.iter().filter(|step| !kept(step)).count();
    let gone = if gone > 0 { format!(" ({} cannot be taken back)", text::number(gone)) } else { String::new() };
    let steps = text::count(all.len(), "step", "steps") + &gone;
    out.push('\n');
    out + &wrapped(&format!("{steps} at {}; {}", text::count(acting, "place", "places"), totals(places)), 0)
}

/// What people will be asked to do by hand; nothing if nobody is.
pub fn by_hand(asks: &[DraftAsk], style: &Style) -> String {
    let mut out = String::new();
    for ask in asks {
        out.push_str(&wrapped(&text::cut(&ask.what, text::WORDS), 2));
        let within = text::span(i64::try_from(ask.within.as_secs()).unwrap_or(i64::MAX));
        let whom = match &ask.owner {
            Some(owner) if *owner == ask.of => name(owner),
            Some(owner) => format!("{}, {}", name(&ask.of), name(owner)),
            None => format!("{}: nobody is known who can be asked by mail", name(&ask.of)),
        };
        out.push_str(&wrapped(&format!("asked of {whom}; within {within} of the start"), 4));
    }
    section("By hand", out, Tone::Waiting, style)
}

/// Everything that was found, place by place, each account with its owner and the rule that says so.
pub fn accounts(title: &str, places: &[DraftPlace], style: &Style) -> String {
    let mut out = format!("{}\n", style.bold(&name(title)));
    out.push_str(&by_place(places, style, |place| {
        let accounts = place.found.as_deref().unwrap_or_default();
        accounts.iter().map(|account| inventoried(account, style)).collect()
    }));
    out.push_str(&findings(places, style));
    out.push_str(&unreached(places, style));
    out.push('\n');
    out + &wrapped(&totals(places), 0)
}

/// An account for JSON. The before-image is for the journal's seal only.
pub fn without_facts(account: &Account) -> serde_json::Value {
    let mut value = serde_json::to_value(account).unwrap_or_default();
    if let Some(object) = value.as_object_mut() {
        object.remove("facts");
    }
    value
}

/// System by system: what `tell` says of each place, under the names of all places of which it says the same.
fn by_place(places: &[DraftPlace], style: &Style, tell: impl Fn(&DraftPlace) -> String) -> String {
    let mut groups: Vec<(String, String, Vec<String>)> = Vec::new();
    for place in places.iter().filter(|p| p.found.is_ok()) {
        let (system, told) = (name(&place.place.system.0), tell(place));
        let address = name(&place.place.address);
        match groups.iter_mut().find(|(s, t, _)| *s == system && *t == told) {
            Some((.., addresses)) => addresses.push(address),
            None => groups.push((system, told, vec![address])),
        }
    }
    let mut out = String::new();
    for (system, told, addresses) in groups {
        let title = wrapped(&format!("{system}: {}", addresses.join(", ")), 0).trim_end().replace('\n', "\n  ");
        out.push_str(&format!("\n{}\n", style.bold(&title)));
        out.push_str(if told.is_empty() { "  nothing found\n" } else { &told });
    }
    out
}

/// Each step once: two actions may need the very same one.
fn distinct(steps: &[(String, Step)]) -> Vec<&(String, Step)> {
    let mut seen = HashSet::new();
    steps.iter().filter(|(_, step)| seen.insert(&step.id)).collect()
}

/// One account and the steps on it.
fn planned(account: &Account, steps: &[(String, Step)], person: &Person, style: &Style) -> String {
    let mine: Vec<_> = distinct(steps).into_iter().filter(|(_, step)| step.account == account.native_id).collect();
    let whose = match account.owner.person() {
        Some(id) if *id == person.id => owner(&account.owner).replacen(&name(&id.0), "theirs", 1),
        _ => format!("{}; only what is theirs in it", owner(&account.owner)),
    };
    let mut out = heading(account, &whose, style);
    if mine.is_empty() {
        let why = match account.owner {
            Owner::BreakGlass | Owner::Ourselves | Owner::Service | Owner::Ambiguous { .. } => "left alone",
            _ => "no step in this playbook",
        };
        out.push_str(&format!("    {}\n", style.toned(Tone::Unproven, why)));
    }
    // Most playbooks have one stage only; it goes without saying.
    let several = mine.iter().any(|(stage, _)| *stage != mine[0].0);
    let mut last = None;
    for (stage, step) in mine {
        if last.replace(stage).is_none_or(|last| last != stage) && several {
            out.push_str(&format!("    {}\n", style.dim(&format!("stage {}", name(stage)))));
        }
        let begin = format!("    {:<12}", step.action.to_string());
        let doors: Vec<_> = account.doors.iter().filter(|d| step.shuts.contains(&d.id)).collect();
        let column = begin.chars().count() + 1;
        let what: Vec<String> = match doors.is_empty() || step.action == Action::Rotate {
            true => vec![name(&step.object)],
            false => doors.iter().map(|d| door(d, account, step.object.is_empty(), column)).collect(),
        };
        // Several short doors fit on one line; long ones stand under each other.
        let joined = what.join(", ");
        let told = if what.len() == 1 || column + joined.chars().count() <= super::WIDTH {
            joined
        } else {
            what.join(&format!("\n{}", " ".repeat(column)))
        };
        out.push_str(format!("{begin} {told}").trim_end());
        out.push('\n');
    }
    out
}

/// The steps of rotations on what is no account: a file on a host.
fn elsewhere(accounts: &[Account], steps: &[(String, Step)], style: &Style) -> String {
    let mut out = String::new();
    let mut last = None;
    for (_, step) in distinct(steps).into_iter().filter(|(_, s)| accounts.iter().all(|a| a.native_id != s.account)) {
        if last.replace(&step.account) != Some(&step.account) {
            out.push_str(&format!("  {}\n", style.bold(&name(&step.account))));
        }
        out.push_str(&format!("    {:<12} {}\n", step.action.to_string(), name(&step.object)));
    }
    out
}

/// One account and its doors.
fn inventoried(account: &Account, style: &Style) -> String {
    let mut out = heading(account, &owner(&account.owner), style);
    for d in &account.doors {
        let (kind, detail) = (d.kind.to_string(), name(&d.detail));
        let only = matches!(d.object.as_str(), "" | "sessions");
        let rule = rule(d, account);
        let told = if only { format!("{}{rule}", style.dim(&detail)) } else { format!("{}{rule}", name(&d.object)) };
        out.push_str(format!("    {kind:<10} {told}").trim_end());
        out.push('\n');
        if !only && !detail.is_empty() {
            out.push_str(&format!("    {:<10} {}\n", "", style.dim(&detail)));
        }
    }
    out
}

fn heading(account: &Account, whose: &str, style: &Style) -> String {
    let id = name(&account.native_id);
    let shown = name(&account.name);
    let called = if shown.is_empty() || id.contains(&shown) { String::new() } else { format!(" ({shown})") };
    let mut marks = vec![whose.to_string()];
    marks.extend(account.privileged.then(|| "privileged".to_string()));
    marks.extend((!account.enabled).then(|| "disabled".to_string()));
    marks.extend(account.last_used.map(|at| format!("last used {}", text::moment(at, &style.zone))));
    let marks = marks.join(", ");
    if 2 + id.chars().count() + called.chars().count() + 2 + marks.chars().count() <= super::WIDTH {
        format!("  {}{called}  {}\n", style.bold(&id), style.dim(&marks))
    } else {
        format!("  {}{called}\n    {}\n", style.bold(&id), style.dim(&marks))
    }
}

fn owner(owner: &Owner) -> String {
    match owner {
        Owner::Person { id, rule } => format!("{}, {}", name(&id.0), text::matched(rule)),
        Owner::Ambiguous { people } => {
            let people: Vec<_> = people.iter().map(|p| name(&p.0)).collect();
            format!("matches more than one person: {}", people.join(", "))
        }
        Owner::Shared => "shared".into(),
        Owner::Service => "of a program".into(),
        Owner::BreakGlass => "break-glass, never touched".into(),
        Owner::Ourselves => "offboard's own, never touched".into(),
        Owner::Nobody => "matches nobody".into(),
    }
}

/// `ssh-key SHA256:… (E1042, declared key)`, the rule on a line of its own where both do not fit behind `column`; without the
/// rule where the step names the whole account.
fn door(d: &Door, account: &Account, whole: bool, column: usize) -> String {
    let what = match d.object.as_str() {
        "" | "sessions" => d.kind.to_string(),
        object => format!("{} {}", d.kind, name(object)),
    };
    let rule = if whole { String::new() } else { rule(d, account) };
    if !rule.is_empty() && column + what.chars().count() + rule.chars().count() > super::WIDTH {
        format!("{what}\n{:column$}{}", "", rule.trim_start())
    } else {
        what + &rule
    }
}

/// Why a door is its holder's, where that does not follow from the account's owner.
fn rule(d: &Door, account: &Account) -> String {
    match &d.holder {
        Owner::Person { rule: MatchRule::OwnAccount, .. } => String::new(),
        Owner::Person { id, .. } if account.owner.person() == Some(id) => String::new(),
        Owner::Person { id, rule } => format!(" ({}, {rule})", name(&id.0)),
        Owner::Ambiguous { .. } => " (ambiguous)".into(),
        Owner::Ourselves if account.owner != Owner::Ourselves => " (offboard's own)".into(),
        _ => String::new(),
    }
}

/// Doors that no step shuts: a playbook that leaves one out says so before it is run.
fn uncovered(places: &[DraftPlace], style: &Style) -> String {
    let mut out = String::new();
    for place in places {
        let shuts = |d: &&Door| place.steps.iter().any(|(_, step)| step.shuts.contains(&d.id));
        for account in place.found.as_deref().unwrap_or_default() {
            for d in account.doors.iter().filter(|d| !shuts(d)) {
                let what = door(d, account, true, 0);
                out.push_str(&format!("  {}: {what} of {}\n", name(&place.place.id.0), name(&account.native_id)));
            }
        }
    }
    section("No step shuts", out, Tone::Unproven, style)
}

fn findings(places: &[DraftPlace], style: &Style) -> String {
    let mut out = String::new();
    for place in places.iter().filter(|p| !p.findings.is_empty()) {
        out.push_str(&format!("  {}\n", name(&place.place.id.0)));
        place.findings.iter().for_each(|f| out.push_str(&finding(f, 4, style)));
    }
    section("To look at", out, Tone::Unproven, style)
}

fn unreached(places: &[DraftPlace], style: &Style) -> String {
    let mut out = String::new();
    for place in places {
        if let Err(problem) = &place.found {
            let told = fault(problem, style).trim_end().replace('\n', "\n    ");
            out.push_str(&format!("  {}\n    {told}\n", name(&place.place.id.0)));
        }
    }
    section("Not reached: nobody can say what is there", out, Tone::Unproven, style)
}

fn section(title: &str, body: String, tone: Tone, style: &Style) -> String {
    if body.is_empty() { body } else { format!("\n{}\n{body}", style.toned(tone, title)) }
}

fn totals(places: &[DraftPlace]) -> String {
    let found = || places.iter().filter_map(|p| p.found.as_ref().ok());
    let accounts: usize = found().map(Vec::len).sum();
    let doors: usize = found().flatten().map(|account| account.doors.len()).sum();
    let unreached = places.len() - found().count();
    let mut out = format!(
        "{} with {} found at {}.",
        text::count(accounts, "account", "accounts"),
        text::count(doors, "way in", "ways in"),
        text::count(found().count(), "place", "places")
    );
    if unreached > 0 {
        let was = if unreached == 1 { "was" } else { "were" };
        out.push_str(&format!(" {} {was} not reached.", text::count(unreached, "place", "places")));
    }
    out
}
