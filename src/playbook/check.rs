//! Rules for playbooks that no type can express.

use super::{Playbook, Rule, Stage, Target};
use crate::model::Action;
use crate::source::{Mistake, yaml};
use std::collections::HashMap;

/// More looks after a run say nothing new.
const MOST_LOOKS: usize = 20;

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
                .help("later looks belong in `again`"),
        );
    }
    again(playbook, document, &mut mistakes);
    if playbook.report.formats.is_empty() {
        let path = ["report".into(), "formats".into()];
        mistakes.push(document.error(&path, "a run without a report proves nothing", "valid here: `html`, `json`"));
    }
    stages(playbook, document, &mut mistakes);
    mistakes
}

/// The looks again, which must go up.
fn again(playbook: &Playbook, document: &yaml::Document, mistakes: &mut Vec<Mistake>) {
    let again = &playbook.verify.again;
    let path = |item: usize| ["verify".into(), "again".into(), item.into()];
    for (item, pair) in again.windows(2).enumerate().filter(|(_, pair)| pair[0] >= pair[1]) {
        let title = format!("`{}` comes after `{}`", pair[1], pair[0]);
        mistakes.push(document.error(&path(item + 1), title, "the looks go from soon to late"));
    }
    if again.len() > MOST_LOOKS {
        let title = format!("{} looks again", again.len());
        mistakes.push(document.error(&path(MOST_LOOKS), title, format!("at most {MOST_LOOKS} are made")));
    }
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
            let step = ["stages".into(), number.into(), "steps".into(), item.into()];
            match (rule.to, target_of(rule.action)) {
                (None, None) => asked(stage, item, &step, document, mistakes),
                (Some(_), None) => mistakes.push(
                    document
                        .error(&at("to".into()), format!("`{}` acts on no account", rule.action), "leave it out")
                        .help("whom to ask stands under `of`"),
                ),
                (None, Some(_)) => mistakes.push(missing(document, &step, "to")),
                (Some(to), Some(target)) if to != target => {
                    let (target, title) =
                        (word(target), format!("`{}` acts on {}, not on {}", rule.action, word(target), word(to)));
                    mistakes.push(document.error(&at("to".into()), title, format!("did you mean `{target}`?")).help(
                        "valid here: `disable` and `end-sessions` to `accounts`, `revoke` to `credentials`, \
                         `remove` to `entitlements`, `rotate` to `shared-secrets`",
                    ));
                }
                (Some(_), Some(_)) => {}
            }
            let only_of_ask =
                [("of", rule.of.is_some()), ("what", rule.what.is_some()), ("within", rule.within.is_some())];
            for (key, _) in only_of_ask.iter().filter(|(_, is_there)| *is_there && rule.action != Action::Ask) {
                let title = format!("`{key}` belongs to `ask`, not to `{}`", rule.action);
                mistakes.push(document.error(&at((*key).into()), title, "leave it out"));
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

/// The longest sentence that a person is asked to read, in characters.
const LONGEST_TASK: usize = 300;

/// The rules of `ask`, the step `item` of `stage`, which stands at `path`.
fn asked(stage: &Stage, item: usize, path: &[yaml::Node], document: &yaml::Document, mistakes: &mut Vec<Mistake>) {
    let rule = &stage.steps[item];
    let at = |key: &'static str| [path, &[key.into()]].concat();
    for (key, is_there) in [("of", rule.of.is_some()), ("what", rule.what.is_some()), ("within", rule.within.is_some())]
    {
        if !is_there {
            mistakes.push(
                missing(document, path, key)
                    .help("such as: { do: ask, of: it@example.com, what: \"Collect the laptop\", within: 2d }"),
            );
        }
    }
    if rule.families.is_some() {
        mistakes.push(document.error(&at("in"), "a person is asked, not a system", "leave it out"));
    }
    let Some(what) = &rule.what else { return };
    if what.trim().is_empty() || what.trim().contains('\n') || what.chars().count() > LONGEST_TASK {
        mistakes.push(
            document
                .error(&at("what"), "this is not one sentence", "what is to be done")
                .help(format!("say it in one line of at most {LONGEST_TASK} characters")),
        );
    }
    let same = |other: &&Rule| other.action == Action::Ask && other.of == rule.of && other.what == rule.what;
    if stage.steps[..item].iter().any(|other| same(&other)) {
        mistakes.push(document.error(&at("what"), "this is asked twice of the same person", "the second time"));
    }
}

fn missing(document: &yaml::Document, path: &[yaml::Node], key: &str) -> Mistake {
    document.error(path, format!("the key `{key}` is missing"), format!("`{key}` belongs here"))
}

/// What an action acts on; nothing for what a person does.
fn target_of(action: Action) -> Option<Target> {
    match action {
        Action::Disable | Action::EndSessions => Some(Target::Accounts),
        Action::Revoke => Some(Target::Credentials),
        Action::Remove => Some(Target::Entitlements),
        Action::Rotate => Some(Target::SharedSecrets),
        Action::Ask => None,
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
