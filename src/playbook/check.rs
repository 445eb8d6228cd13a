//! Rules for playbooks that no type can express.

use super::{Playbook, Rule, Target};
use crate::model::Action;
use crate::source::{Mistake, yaml};
use std::collections::HashMap;

/// Every mistake of `playbook`, which was read from `document`.
pub fn check(playbook: &Playbook, document: &yaml::Document) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    let name_is_plain = |name: &str| {
        !name.is_empty()
            && name.len() <= 64
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    };
    if !name_is_plain(&playbook.playbook) {
        mistakes.push(
            document
                .error(&["playbook".into()], "a playbook's name must be plain", "the name")
                .help("valid here: lower-case letters, digits and `-`, at most 64"),
        );
    }
    for (limit, key) in [(playbook.limits.people, "people"), (playbook.limits.accounts, "accounts")] {
        if limit == 0 {
            let path = ["limits".into(), key.into()];
            mistakes.push(document.error(&path, "a limit of 0 forbids every run", "at least 1"));
        }
    }
    if playbook.verify.until > playbook.deadline.max(crate::source::Period::seconds(86_400)) {
        mistakes.push(
            document
                .error(
                    &["verify".into(), "until".into()],
                    "a run cannot wait so long",
                    "at most the deadline, or a day",
                )
                .help("later looks are made with `offboard verify RUN`"),
        );
    }
    if playbook.report.formats.is_empty() {
        let path = ["report".into(), "formats".into()];
        mistakes.push(document.error(&path, "a run without a report proves nothing", "valid here: `html`, `json`"));
    }
    stages(playbook, document, &mut mistakes);
    mistakes
}

fn stages(playbook: &Playbook, document: &yaml::Document, mistakes: &mut Vec<Mistake>) {
    if playbook.stages.is_empty() {
        mistakes.push(document.error(&["stages".into()], "a playbook needs a stage", "at least one belongs here"));
    }
    let mut names = HashMap::new();
    for (number, stage) in playbook.stages.iter().enumerate() {
        let at = |key| ["stages".into(), number.into(), key];
        if stage.steps.is_empty() {
            mistakes.push(document.error(&at("steps".into()), "a stage needs a step", "at least one belongs here"));
        }
        if stage.stage.trim().is_empty() {
            mistakes.push(document.error(&at("stage".into()), "a stage needs a name", ""));
        }
        if let Some(first) = names.insert(stage.stage.as_str(), number) {
            let first = document.spot(&["stages".into(), first.into(), "stage".into()], "the first one");
            let mistake = document.error(&at("stage".into()), "two stages with one name", "the second one").spot(first);
            mistakes.push(mistake);
        }
        for (item, rule) in stage.steps.iter().enumerate() {
            let at = |key| ["stages".into(), number.into(), "steps".into(), item.into(), key];
            if rule.to != target_of(rule.action) {
                let target = word(target_of(rule.action));
                let title = format!("`{}` acts on {target}, not on {}", rule.action, word(rule.to));
                mistakes.push(document.error(&at("to".into()), title, format!("did you mean `{target}`?")).help(
                    "valid here: `disable` and `end-sessions` to `accounts`, `revoke` to `credentials`, \
                         `remove` to `entitlements`, `rotate` to `shared-secrets`",
                ));
            }
            if rule.families.as_ref().is_some_and(Vec::is_empty) {
                mistakes.push(document.error(
                    &at("in".into()),
                    "an empty list covers no system",
                    "leave it out for all",
                ));
            }
            rotation(playbook, document, number, item, mistakes);
            if rule.action == Action::EndSessions && !disabled_before(playbook, number, rule) {
                mistakes.push(
                    document
                        .error(&at("do".into()), "sessions are ended, but nothing is disabled before", "too early")
                        .note("a session that is cut before its account is disabled comes straight back")
                        .help(
                            "add `{ do: disable, to: accounts }` to this stage or to one before, for the same systems",
                        ),
                );
            }
        }
    }
}

/// A rotation says which secrets, and comes when the doors are shut: a leaver who is still inside would read the new value.
fn rotation(playbook: &Playbook, document: &yaml::Document, number: usize, item: usize, mistakes: &mut Vec<Mistake>) {
    let rule = &playbook.stages[number].steps[item];
    let at = |key| ["stages".into(), number.into(), "steps".into(), item.into(), key];
    if rule.action != Action::Rotate {
        if rule.secrets.is_some() {
            let title = format!("`{}` knows no `where`", rule.action);
            mistakes.push(document.error(&at("where".into()), title, "only `rotate` does").help("remove it"));
        }
        return;
    }
    if rule.secrets.is_none() {
        mistakes.push(
            document
                .error(&at("do".into()), "which secrets are rotated?", "`where` is missing")
                .help("write `{ do: rotate, to: shared-secrets, where: { known-to: leaver } }`"),
        );
    }
    let shuts =
        |other: &Rule| matches!(other.action, Action::Disable | Action::EndSessions | Action::Revoke | Action::Remove);
    if playbook.stages[number..].iter().flat_map(|stage| &stage.steps).any(shuts) {
        mistakes.push(
            document
                .error(&at("do".into()), "secrets are rotated before every door is shut", "too early")
                .note("a leaver who is still inside would read the new value")
                .help("put it into a stage of its own, after all that disable, end sessions, revoke or remove"),
        );
    }
}

/// Whether every system of `rule`, which stands in stage `number`, has its accounts disabled in that stage or before.
fn disabled_before(playbook: &Playbook, number: usize, rule: &Rule) -> bool {
    use crate::model::Family::{Database, Directory, Host, Saas, Vpn};
    let earlier = || playbook.stages[..=number].iter().flat_map(|stage| &stage.steps);
    [Directory, Database, Host, Vpn, Saas]
        .into_iter()
        .filter(|family| rule.covers(*family))
        .all(|family| earlier().any(|other| other.action == Action::Disable && other.covers(family)))
}

/// What an action acts on.
fn target_of(action: Action) -> Target {
    match action {
        Action::Disable | Action::EndSessions => Target::Accounts,
        Action::Revoke => Target::Credentials,
        Action::Remove => Target::Entitlements,
        Action::Rotate => Target::SharedSecrets,
    }
}

fn word(target: Target) -> &'static str {
    match target {
        Target::Accounts => "accounts",
        Target::Credentials => "credentials",
        Target::Entitlements => "entitlements",
        Target::SharedSecrets => "shared-secrets",
    }
}
