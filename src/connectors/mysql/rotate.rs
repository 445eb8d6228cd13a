//! The source of a shared secret: a user whose password programs log in with.
//!
//! A user has one password, so the new one takes the old one's place in every `user@host` row that stores it, at one moment for each row. It is set
//! only where exactly what `create` read is still stored. A row with another password is left as it is, and told.

use super::apply::{ALTER_USER, READ_TABLES, SEE_SESSIONS, identified_by, kill};
use super::link::MysqlLink;
use super::look::{Attempt, attempt, open, shown, shut};
use super::sessions::{self, Thread};
use super::user::{Row, User};
use crate::connector::{Cx, KnownSecret, Taken, Turn};
use crate::model::{Door, Fault, FaultKind, Finding, FindingKind, Look, Outcome, Part, Phase, PlaceId, Proof, Seen};
use crate::wire::mysql::{Failure, account, native_hash};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Between two looks at connections.
const LOOK_AGAIN: Duration = Duration::from_millis(60);
/// For how long a consumer's first login with the new value is waited for, and how often it is looked for.
const FRESH: (Duration, Duration) = (Duration::from_secs(10), Duration::from_millis(25));

/// What `create` remembers, as [`Seen::before`]: keyed digests, since the hashes that a server keeps are unsalted.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Before {
    /// By host in lower case, of every row that stores the old password.
    rows: BTreeMap<String, String>,
}

impl Before {
    fn read(text: Option<&String>) -> Option<Self> {
        serde_json::from_str(text?).ok()
    }
}

/// A keyed digest of everything by which a row lets somebody in.
fn marked(link: &MysqlLink, name: &str, row: &Row, cx: &Cx) -> String {
    let key = cx.secret_salt("digest", &PlaceId(link.system.0.clone()), name);
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("HMAC takes a key of any length");
    for way in &row.ways {
        for part in [way.plugin.as_bytes(), way.stored.to_ascii_uppercase().as_bytes()] {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
    }
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The user, as one turn finds it.
struct Source<'a> {
    name: &'a str,
    user: User,
    cannot: String,
}

/// See [`crate::connector::Link::rotate`].
pub async fn rotate(link: &mut MysqlLink, turn: &Turn<'_>, cx: &Cx) -> Result<Taken, Fault> {
    let Part::Source { account } = turn.part else {
        return Err(Fault::new(FaultKind::Misconfigured, link.what(format!("{} a consumer", turn.phase)))
            .because("a user can be the source of a secret here, not a consumer, and accounts cannot alternate"));
    };
    let cannot = format!("{} the password of user {account:?}", turn.phase);
    if link.is_protected(account) {
        return Err(Fault::new(FaultKind::Protected, link.what(&cannot))
            .because("it is offboard's own user, its control, or the server's")
            .hint("another administrator has to change this password by hand"));
    }
    let user = read(link, account, &cannot).await?.ok_or_else(|| {
        Fault::new(FaultKind::Misconfigured, link.what(&cannot))
            .because(format!("there is no such user at {}", link.place.address))
            .hint("correct `source` in offboard.yaml, then: offboard resume")
    })?;
    let source = Source { name: account, user, cannot };
    match turn.phase {
        Phase::Create => create(link, &source, turn, cx).await,
        Phase::Set => set(link, source, turn, cx).await,
        Phase::Test => test(link, &source, turn).await,
        Phase::Finish => finish(link, &source, turn, cx).await,
    }
}

async fn read(link: &mut MysqlLink, name: &str, cannot: &str) -> Result<Option<User>, Fault> {
    let user = link.user(name).await;
    user.map_err(|failure| link.fault(failure, cannot, READ_TABLES))
}

async fn create(link: &mut MysqlLink, source: &Source<'_>, turn: &Turn<'_>, cx: &Cx) -> Result<Taken, Fault> {
    let wrong = |because: &str, hint: &str| {
        Err(Fault::new(FaultKind::Misconfigured, link.what(&source.cannot)).because(because).hint(hint))
    };
    if link.facts.read_only {
        return wrong("this server is read-only", "name the primary as the secret's place, then: offboard resume");
    }
    if !source.user.is_enabled() {
        return wrong(
            "the user is locked, so no program uses it",
            "take the secret out of offboard.yaml, or correct its `source`",
        );
    }
    let old = turn.old.map(native_hash);
    let mut before = Before::default();
    let mut others = Vec::new();
    for row in source.user.rows.iter().filter(|row| row.has_password) {
        match &old {
            Some(old) if row.is_only(old) => {
                before.rows.insert(row.host.to_ascii_lowercase(), marked(link, source.name, row, cx));
            }
            Some(_) => others.push(row),
            None => {
                before.rows.insert(row.host.to_ascii_lowercase(), marked(link, source.name, row, cx));
            }
        }
    }
    if before.rows.is_empty() {
        return wrong(
            "no row of the user stores the value in the consumers' files as mysql_native_password",
            "somebody has changed one and not the other, or the user logs in by another plugin: mend that first, then: offboard resume",
        );
    }
    if let Some(old) = turn.old
        && let Attempt::Denied(reply) | Attempt::Locked(reply) =
            attempt(link, source.name, old).await.map_err(|failure| failure.into_fault(link.what(&source.cannot)))?
    {
        let because = format!(
            "a login with the value in the consumers' files is refused from here, so it could not be proved dead: {reply}"
        );
        return wrong(
            &because,
            "let the user in from offboard's own address, too (a row user@host with the same password), then: offboard resume",
        );
    }
    let count = before.rows.len();
    let mut taken =
        Taken::new(Outcome::Done { note: format!("may be changed, rows: {count}; the consumers' value gets in") });
    taken.seen.before = serde_json::to_string(&before).ok();
    if !others.is_empty() {
        let hosts: Vec<&str> = others.iter().map(|row| row.host.as_str()).collect();
        taken.findings.push(Finding {
            kind: FindingKind::Suspicious,
            place: Some(link.place.id.clone()),
            account: Some(source.name.to_string()),
            what: format!("user {:?} has another password from {}: it is left as it is", source.name, hosts.join(", ")),
            hint: "if the leaver may know it, declare it as a secret of its own, or change it by hand".into(),
        });
    }
    Ok(taken)
}

/// The rows whose password is to be replaced, and whether each has the new one already.
///
/// # Errors
/// `Protected` where a row stores neither what `create` read nor the new value.
fn targets<'a>(
    link: &MysqlLink,
    source: &'a Source<'_>,
    turn: &Turn<'_>,
    new: &str,
    cx: &Cx,
) -> Result<Vec<(&'a Row, bool)>, Fault> {
    let before = Before::read(turn.seen.before.as_ref()).ok_or_else(|| {
        Fault::new(FaultKind::Unexpected, link.what(&source.cannot)).because("what was stored before is not on record")
    })?;
    let mut targets = Vec::new();
    for (host, stored) in &before.rows {
        // A row that is gone lets nobody in.
        let Some(row) = source.user.row(host) else { continue };
        let is_new = row.is_only(new);
        if !is_new && marked(link, source.name, row, cx) != *stored {
            return Err(Fault::new(FaultKind::Protected, link.what(&source.cannot))
                .because("somebody else has changed it since this run looked: it is left as they set it")
                .hint("if the leaver cannot know the new one, waive this step; if they can, change it by hand, or waive it and start a new run with --anew"));
        }
        targets.push((row, is_new));
    }
    if targets.is_empty() {
        return Err(Fault::new(FaultKind::Protected, link.what(&source.cannot))
            .because("every row that had the old password is gone"));
    }
    Ok(targets)
}

async fn put(link: &mut MysqlLink, source: &Source<'_>, hosts: &[String], new: &str) -> Result<(), Fault> {
    for host in hosts {
        let with = identified_by(link, new);
        let done = link.session.execute(format!("ALTER USER {} {with}", account(source.name, host))).await;
        done.map_err(|failure| link.fault(failure, format!("{} from {host:?}", source.cannot), ALTER_USER))?;
    }
    Ok(())
}

async fn set(link: &mut MysqlLink, mut source: Source<'_>, turn: &Turn<'_>, cx: &Cx) -> Result<Taken, Fault> {
    let new = native_hash(value(link, &source, turn)?);
    let rows: Vec<String> = targets(link, &source, turn, &new, cx)?
        .into_iter()
        .filter(|(_, is_new)| !is_new)
        .map(|(row, _)| row.host.clone())
        .collect();
    let all: Vec<String> =
        targets(link, &source, turn, &new, cx)?.into_iter().map(|(row, _)| row.host.clone()).collect();
    put(link, &source, &rows, &new).await?;
    let mut mark = fresh_number(link, &source).await?;
    let ours = addresses(turn);
    let until = Instant::now() + cx.timeout;
    let mut ended = 0;
    // Whoever is not a consumer is out at once. A session that is still alive may change its own password: then ours is put back.
    loop {
        ended += end(link, &source, cx, |thread| thread.id <= mark && !ours.contains(thread.address.as_str())).await?;
        let Some(user) = read(link, source.name, &source.cannot).await? else { break };
        source.user = user;
        let undone: Vec<String> =
            all.iter().filter(|host| source.user.row(host).is_some_and(|row| !row.is_only(&new))).cloned().collect();
        if undone.is_empty() {
            break;
        }
        if Instant::now() > until {
            return Err(Fault::new(FaultKind::Busy, link.what(&source.cannot))
                .because("a session of the user changes it all the time"));
        }
        put(link, &source, &undone, &new).await?;
        mark = fresh_number(link, &source).await?;
    }
    let note = format!("a new password, rows: {}; connections that are no consumer's, ended: {ended}", all.len());
    let mut taken =
        Taken::new(if rows.is_empty() && ended == 0 { Outcome::AlreadyDone } else { Outcome::Done { note } });
    taken.seen = Seen { mark: Some(mark.to_string()), ..Seen::default() };
    Ok(taken)
}

async fn test(link: &mut MysqlLink, source: &Source<'_>, turn: &Turn<'_>) -> Result<Taken, Fault> {
    let new = value(link, source, turn)?;
    let busy = |link: &MysqlLink, because: String, hint: &str| {
        Fault::new(FaultKind::Busy, link.what(&source.cannot)).because(because).hint(hint)
    };
    if !holds_new(source, turn, &native_hash(new)) {
        return Err(changed_since(link, source));
    }
    match attempt(link, source.name, new).await.map_err(|failure| failure.into_fault(link.what(&source.cannot)))? {
        Attempt::LetIn => {}
        Attempt::Locked(reply) | Attempt::Denied(reply) => {
            let hint = "what is stored is the new one: see the server's log, and whether another row of the user now matches this address";
            return Err(busy(link, format!("the server does not take the new value: {reply}"), hint));
        }
    }
    let mark = mark_of(link, source, turn)?;
    let until = Instant::now() + FRESH.0;
    // Of a consumer that only keeps the value for others nobody knows where they log in from.
    let mut waiting: Vec<&(String, Vec<String>)> = turn.consumers.iter().filter(|(_, from)| !from.is_empty()).collect();
    let count = waiting.len();
    loop {
        let live = live(link, source).await?;
        waiting.retain(|(_, from)| {
            !from.iter().any(|address| live.iter().any(|thread| thread.id > mark && thread.address == *address))
        });
        if waiting.is_empty() {
            break;
        }
        if Instant::now() > until {
            let names: Vec<&str> = waiting.iter().map(|(name, _)| name.as_str()).collect();
            let from: Vec<&str> = waiting.iter().flat_map(|(_, from)| from.iter().map(String::as_str)).collect();
            let (names, from, seconds) = (names.join(", "), from.join(", "), FRESH.0.as_secs());
            return Err(busy(
                link,
                format!("no login with the new value has come from {names} ({from}) within {seconds} s"),
                "see that its reload command makes it read the file and log in anew; if it comes from another address, name that under `from` (the server shows names instead of addresses without skip-name-resolve); then: offboard resume",
            ));
        }
        sleep(FRESH.1).await;
    }
    Ok(Taken::new(Outcome::Done {
        note: format!("the new value gets in; consumers that have logged in anew: {count}"),
    }))
}

async fn finish(link: &mut MysqlLink, source: &Source<'_>, turn: &Turn<'_>, cx: &Cx) -> Result<Taken, Fault> {
    let new = native_hash(value(link, source, turn)?);
    let mark = mark_of(link, source, turn)?;
    let ended = end(link, source, cx, |thread| thread.id <= mark).await?;
    if !holds_new(source, turn, &new) {
        return Err(changed_since(link, source));
    }
    let note = format!("connections from before the change, ended: {ended}");
    Ok(Taken::new(if ended > 0 { Outcome::Done { note } } else { Outcome::AlreadyDone }))
}

/// Whether every row that had the old value, and is still there, has the new one.
fn holds_new(source: &Source<'_>, turn: &Turn<'_>, new: &str) -> bool {
    let before = Before::read(turn.seen.before.as_ref()).unwrap_or_default();
    let mut rows = before.rows.keys().filter_map(|host| source.user.row(host)).peekable();
    rows.peek().is_some() && rows.all(|row| row.is_only(new))
}

fn value<'a>(link: &MysqlLink, source: &Source<'_>, turn: &Turn<'a>) -> Result<&'a SecretString, Fault> {
    turn.new.ok_or_else(|| {
        Fault::new(FaultKind::Unexpected, link.what(&source.cannot)).because("the new value is not sealed any more")
    })
}

fn changed_since(link: &MysqlLink, source: &Source<'_>) -> Fault {
    Fault::new(FaultKind::Protected, link.what(&source.cannot))
        .because("somebody else has changed it since this run set it: it is left as they set it")
        .hint("find out who; if the leaver cannot know the new one, waive this step")
}

/// The addresses that consumers' logins come from.
fn addresses<'a>(turn: &Turn<'a>) -> BTreeSet<&'a str> {
    turn.consumers.iter().flat_map(|(_, from)| from.iter().map(String::as_str)).collect()
}

/// The number of a connection that is made now: whatever is newer was opened after the change.
async fn fresh_number(link: &MysqlLink, source: &Source<'_>) -> Result<u64, Fault> {
    let fault = |failure: Failure| failure.into_fault(link.what(&source.cannot));
    let row = link.session.another().rows("SELECT CONNECTION_ID() AS id").await.map_err(fault)?.pop();
    let number = row.and_then(|mut row| row.remove("id").flatten()).and_then(|id| id.parse().ok());
    number.ok_or_else(|| fault(Failure::new(FaultKind::Unexpected, "CONNECTION_ID() gave no number")))
}

fn mark_of(link: &MysqlLink, source: &Source<'_>, turn: &Turn<'_>) -> Result<u64, Fault> {
    turn.seen.mark.as_deref().and_then(|mark| mark.parse().ok()).ok_or_else(|| {
        Fault::new(FaultKind::Unexpected, link.what(&source.cannot))
            .because("it is not on record when the value was set")
    })
}

async fn live(link: &mut MysqlLink, source: &Source<'_>) -> Result<Vec<Thread>, Fault> {
    let live = sessions::threads(link).await;
    let mut live = live.map_err(|failure| link.fault(failure, &source.cannot, SEE_SESSIONS))?;
    live.retain(|thread| thread.user == source.name);
    Ok(live)
}

/// Ends the connections that `which` picks, until none is left; says how many. A login that was under way may show up a moment later, so
/// "none" counts only the second time.
async fn end(
    link: &mut MysqlLink,
    source: &Source<'_>,
    cx: &Cx,
    which: impl Fn(&Thread) -> bool,
) -> Result<usize, Fault> {
    let until = Instant::now() + cx.timeout;
    let (mut ended, mut quiet) = (0, 0);
    loop {
        let mut live = live(link, source).await?;
        live.retain(&which);
        if live.is_empty() {
            quiet += 1;
            if quiet == 2 {
                return Ok(ended);
            }
        } else {
            quiet = 0;
            if Instant::now() > until {
                return Err(Fault::new(FaultKind::Busy, link.what(&source.cannot))
                    .because(format!("{} connections are still there after KILL", live.len())));
            }
            for thread in live {
                let done = kill(link, thread.id).await;
                ended += usize::from(
                    done.map_err(|failure| link.fault(failure, &source.cannot, "CONNECTION ADMIN ON *.*"))?,
                );
            }
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// The secret's door: the old value is refused while the new one gets in, before and after.
pub async fn look(
    link: &mut MysqlLink,
    door: &Door,
    control: Option<&Result<String, String>>,
    cx: &Cx,
) -> Result<Look, Failure> {
    let name = door.account.as_str();
    let known = link.secrets.iter().find(|known| known.door == door.id).cloned();
    let users = link.users().await?;
    let Some(shown) = shown(link, &users) else {
        return Ok(Look::unproven("the listing of users does not show our own control, so it is not complete"));
    };
    let Some(user) = users.iter().find(|user| user.name == name) else {
        return Ok(shut(Proof::ReadBack, format!("there is no user {name:?}"), shown));
    };
    if !user.is_enabled() {
        return Ok(shut(Proof::ReadBack, format!("user {name:?} is locked"), shown));
    }
    if let Some(Err(why)) = control {
        return Ok(Look::unproven(why.clone()));
    }
    let Some(KnownSecret { old, new, before, .. }) = known else {
        return Ok(Look::unproven("the value that the leaver may know is not known here, and was not replaced"));
    };
    // What is stored says it of every row, also of those that no login from here comes to.
    let old_hash = old.as_ref().map(native_hash);
    if let Some(hash) = &old_hash
        && let Some(row) = user.rows.iter().find(|row| !row.locked && row.stores(hash))
    {
        return Ok(open(format!("user {name:?} from {:?} still has the password that the leaver may know", row.host)));
    }
    if let (Some(old), Some(new)) = (&old, &new) {
        let gets_in = matches!(attempt(link, name, new).await?, Attempt::LetIn);
        let reply = match attempt(link, name, old).await? {
            Attempt::LetIn => {
                return Ok(open(format!("user {name:?} logged in with the value that the leaver may know")));
            }
            Attempt::Denied(reply) | Attempt::Locked(reply) => reply,
        };
        let still = matches!(attempt(link, name, new).await?, Attempt::LetIn);
        // What is stored in another way cannot be compared, and a row for other addresses is not tried from here.
        if let Some(row) = user.rows.iter().find(|row| !row.locked && row.keeps_unknown()) {
            return Ok(Look::unproven(format!(
                "{reply}; but user {name:?} from {:?} has a password that is stored in another way, which may be the old one",
                row.host
            )));
        }
        if gets_in && still {
            return Ok(shut(
                Proof::Refused,
                reply,
                format!("user {name:?} logged in with the new value, before and after"),
            ));
        }
    }
    // Rotated again since, or the values are gone: what is stored says whether the old one is still among it.
    let before = Before::read(before.as_ref());
    let gone = before.is_some_and(|before| {
        !before.rows.is_empty()
            && before.rows.iter().all(|(host, stored)| {
                user.row(host).is_none_or(|row| row.locked || marked(link, name, row, cx) != *stored)
            })
    });
    Ok(match gone {
        true => shut(Proof::ReadBack, format!("no row of user {name:?} stores what it stored before the run"), shown),
        false => {
            Look::unproven("the value that the leaver may know has not been replaced, or nothing shows that it was")
        }
    })
}
