//! The source of a shared secret: a role whose password programs log in with. Its password is replaced, the sessions that the old one may
//! have opened are ended, and the server itself says that it takes the new one and refuses the old.
//!
//! The server is given a SCRAM verifier that is made here, so that no password reaches a statement, `pg_stat_activity` or its log. The
//! verifier's salt is derived from the run's seed: a second apply finds the very same one and changes nothing.
//!
//! Nothing here writes over a value that somebody else has set since `create`: what is stored is compared first, under an advisory lock
//! that two turns of one role cannot hold at once.
//!
//! Where a setter sets the password, such as a static role of a Vault, nothing here sets one: what is stored is compared with the value that the
//! setter says, and the rest is as ever.

use super::apply::{alter, grant_for_alter};
use super::link::PgLink;
use super::look::{can_be_sent, listed, open, shut};
use super::role::{self, Role};
use super::stored::{self, Stored};
use crate::connector::{Cx, KnownSecret, Taken, Turn};
use crate::model::{Door, Fault, FaultKind, Finding, FindingKind, Look, Outcome, Part, Phase, Proof, Seen};
use crate::wire::sql::{Failure, Session, Value, identifier};
use secrecy::SecretString;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The first half of the advisory lock's key: `offb` in ASCII. The second is the role's object identifier.
const LOCK: i64 = 0x6f66_6662;
/// Between two looks at sessions.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// For how long a consumer's first login with the new value is waited for, and how often it is looked for.
const FRESH: (Duration, Duration) = (Duration::from_secs(10), Duration::from_millis(25));

/// See [`crate::connector::Link::rotate`].
pub async fn rotate(link: &mut PgLink, turn: &Turn<'_>, cx: &Cx) -> Result<Taken, Fault> {
    let account = match turn.part {
        Part::Source { account } | Part::Former { account } | Part::Checked { account } => account,
        Part::Authorized { .. } | Part::Setter(_) | Part::SourceFile(_) | Part::Consumer(_) | Part::ConsumerPath(_) => {
            return Err(Fault::new(FaultKind::Misconfigured, link.what(format!("{} a file or a path", turn.phase)))
                .because("a PostgreSQL role can be the source of a secret, nothing else"));
        }
    };
    let cannot = format!("{} the password of role {account:?}", turn.phase);
    if link.us.standby {
        return Err(Fault::new(FaultKind::Misconfigured, link.what(&cannot))
            .because("this server is a standby")
            .hint("name the primary as the secret's `place` in offboard.yaml"));
    }
    if !link.us.sees_passwords {
        let us = identifier(&link.us.user);
        return Err(Fault::new(FaultKind::Forbidden, link.what(&cannot))
            .because("our role may not see whether a stored password was changed")
            .hint(format!("GRANT SELECT (oid, rolpassword) ON pg_authid TO {us}; then: offboard resume")));
    }
    let stored = stored::stored(link, account, None, cx).await.map_err(|f| f.into_fault(link.what(&cannot)))?;
    let Some(stored) = stored else {
        return Err(Fault::new(FaultKind::Misconfigured, link.what(&cannot))
            .because("there is no such role")
            .hint("correct `source` in offboard.yaml, then: offboard resume"));
    };
    if link.is_protected(account, stored.oid) {
        return Err(Fault::new(FaultKind::Protected, link.what(&cannot))
            .because("it is offboard's own role, its control, or the bootstrap superuser")
            .hint("another administrator has to change this password by hand"));
    }
    let oid = stored.oid;
    lock(link, oid, &cannot).await?;
    let taken = locked(link, account, oid, cannot, turn, cx).await;
    unlock(link, oid).await;
    taken
}

/// The turn itself, while the role is held: what is stored is read again, for another turn may have ended just before.
async fn locked(
    link: &mut PgLink,
    account: &str,
    oid: i64,
    cannot: String,
    turn: &Turn<'_>,
    cx: &Cx,
) -> Result<Taken, Fault> {
    let stored = stored_now(link, account, turn, cx).await.map_err(|f| f.into_fault(link.what(&cannot)))?;
    let Some(stored) = stored.filter(|stored| stored.oid == oid) else {
        return Err(Fault::new(FaultKind::Busy, link.what(&cannot))
            .because("somebody has just made this role anew")
            .hint("offboard resume"));
    };
    let source = Source { name: account, stored, cannot, checked: matches!(turn.part, Part::Checked { .. }) };
    let former = matches!(turn.part, Part::Former { .. });
    match turn.phase {
        Phase::Create => create(link, &source, turn).await,
        // Programs still log in with it.
        Phase::Set | Phase::Test if former => Ok(Taken::new(Outcome::AlreadyDone)),
        // Nobody is a consumer of it any more.
        Phase::Finish if former => set(link, source, &Turn { consumers: &[], ..*turn }, cx).await,
        Phase::Set => set(link, source, turn, cx).await,
        Phase::Test => test(link, &source, turn).await,
        Phase::Finish => finish(link, &source, turn).await,
    }
}

/// The role, as one turn finds it.
struct Source<'a> {
    name: &'a str,
    stored: Stored,
    cannot: String,
    /// Whether somebody else sets it.
    checked: bool,
}

/// What is stored now. A value that a setter has chosen may be stored in a way that cannot be made again here: then a login tells.
async fn stored_now(link: &mut PgLink, name: &str, turn: &Turn<'_>, cx: &Cx) -> Result<Option<Stored>, Failure> {
    let mut stored = stored::stored(link, name, turn.new, cx).await?;
    if let (Part::Checked { .. }, Some(new), Some(stored)) = (turn.part, turn.new, &mut stored)
        && !stored.is_new
        && !stored.can_be_compared(new)
    {
        stored.is_new = matches!(attempt(link, name, new).await?, Attempt::LetIn);
    }
    Ok(stored)
}

/// Holds the role for this turn: the next one may be taken over another connection. Anybody may take any advisory lock, so only one that our own login holds counts.
async fn lock(link: &mut PgLink, oid: i64, cannot: &str) -> Result<(), Fault> {
    let sql = "
SELECT to_json(pg_try_advisory_lock($1::bigint::int, ($2::bigint - 2147483648)::int) OR NOT EXISTS (
    SELECT FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 AND l.classid = $1::bigint::oid
      AND l.objid::bigint = (($2::bigint - 2147483648) & 4294967295) AND a.usename = session_user AND a.pid <> pg_backend_pid()))::text";
    let got = link.session.row::<bool>(sql, &[Value::Int(LOCK), Value::Int(oid)]).await;
    match got.map_err(|failure| failure.into_fault(link.what(cannot)))? {
        true => Ok(()),
        false => Err(Fault::new(FaultKind::Busy, link.what(cannot))
            .because("another rotation of the same role is at work")
            .hint("wait for it, then: offboard resume")),
    }
}

/// Lets go of the role. Where that fails the connection is broken, and the server has let go already.
async fn unlock(link: &mut PgLink, oid: i64) {
    let sql = "SELECT to_json(pg_advisory_unlock($1::bigint::int, ($2::bigint - 2147483648)::int))::text";
    let _ = link.session.row::<bool>(sql, &[Value::Int(LOCK), Value::Int(oid)]).await;
}

async fn role_of(link: &mut PgLink, source: &Source<'_>) -> Result<Role, Fault> {
    let found = role::by_name(link, source.name, None).await;
    let found = found.map_err(|failure| failure.into_fault(link.what(&source.cannot)))?;
    found.ok_or_else(|| Fault::new(FaultKind::Unexpected, link.what(&source.cannot)).because("the role is gone"))
}

async fn create(link: &mut PgLink, source: &Source<'_>, turn: &Turn<'_>) -> Result<Taken, Fault> {
    let fault = |kind, because: &str, hint: String| {
        Err(Fault::new(kind, link.what(&source.cannot)).because(because).hint(hint))
    };
    let (us, them) = (identifier(&link.us.user), identifier(source.name));
    if !source.checked && !source.stored.may_alter {
        let role = role_of(link, source).await?;
        let hint = grant_for_alter(link, &role);
        return Err(Fault::new(FaultKind::Forbidden, link.what(&source.cannot))
            .because("our role may not alter it")
            .hint(hint));
    }
    let sees_and_ends = link.us.signal_backend && link.us.read_all_stats;
    if !link.us.superuser && !sees_and_ends {
        return fault(
            FaultKind::Forbidden,
            "our role may not see where sessions come from, or may not end them",
            format!("GRANT pg_signal_backend, pg_read_all_stats TO {us}; then: offboard resume"),
        );
    }
    if !source.stored.can_login {
        return fault(
            FaultKind::Misconfigured,
            "the role may not log in (NOLOGIN), so no program uses it",
            "take the secret out of offboard.yaml, or correct its `source`".into(),
        );
    }
    match source.stored.kind.as_deref() {
        Some("scram") => {}
        None => {
            return fault(
                FaultKind::Misconfigured,
                "the role has no local password: the server checks it elsewhere, or lets it in without",
                "see pg_hba.conf; take the secret out of offboard.yaml if it has no password here".into(),
            );
        }
        Some(_) => {
            return fault(
                FaultKind::Misconfigured,
                "its password is not stored as SCRAM-SHA-256: its clients may not know SCRAM, and a new one would lock them out",
                format!(
                    "see that every client knows SCRAM (libpq 10 or newer), then once by hand: SET password_encryption = 'scram-sha-256'; \\password {them}"
                ),
            );
        }
    }
    let note = |tried: &str| match source.checked {
        true => Outcome::Done { note: format!("it is set elsewhere; {tried}") },
        false => Outcome::Done { note: format!("may be altered; {tried}") },
    };
    let mut taken = Taken::new(note("the consumers' value gets in"));
    taken.seen.before.clone_from(&source.stored.digest);
    let Some(old) = turn.old else { return Ok(taken) };
    match attempt(link, source.name, old).await.map_err(|f| f.into_fault(link.what(&source.cannot)))? {
        Attempt::LetIn => {}
        Attempt::WrongPassword(reply) if source.checked => {
            return Err(Fault::new(FaultKind::Misconfigured, link.what(&source.cannot))
                .because(format!("the value that its setter has is not the role's password here: {reply}"))
                .hint("see that the setter's connection leads to this server; if somebody has set another password by hand, let the setter set one (bao write -f …/rotate-role/…), then: offboard resume"));
        }
        Attempt::WrongPassword(reply) => {
            return Err(Fault::new(FaultKind::Misconfigured, link.what(&source.cannot))
                .because(format!("the value in the consumers' files is not the role's password: {reply}"))
                .hint("somebody has changed one and not the other: mend that first, then: offboard resume"));
        }
        Attempt::Unknown(why) => {
            let what = format!(
                "role {:?} cannot be tried from here, so its old password cannot be proved dead: {why}",
                source.name
            );
            taken.outcome = note("no login as the role can be tried from here");
            taken.findings.push(Finding {
                kind: FindingKind::Configuration,
                place: Some(link.place.id.clone()),
                account: Some(source.name.to_string()),
                what,
                hint: "let it in from offboard's own address by a hostssl line with scram-sha-256 in pg_hba.conf"
                    .into(),
            });
        }
    }
    Ok(taken)
}

async fn set(link: &mut PgLink, source: Source<'_>, turn: &Turn<'_>, cx: &Cx) -> Result<Taken, Fault> {
    let new = value(link, &source, turn)?;
    let mut changed = false;
    if !source.checked && !source.stored.is_new {
        if source.stored.digest != turn.seen.before {
            return Err(Fault::new(FaultKind::Protected, link.what(&source.cannot))
                .because("somebody else has changed it since this run looked: it is left as they set it")
                .hint("if the leaver cannot know the new one, waive this step; if they can, change it by hand, or waive it and start a new run with --anew"));
        }
        put(link, &source, new, cx).await?;
        changed = true;
    }
    let mut mark = now(link, &source).await?;
    // Whoever is not a consumer is out at once. A session that is still alive may change its own password: then ours is put back.
    let ours: BTreeSet<&str> = turn.consumers.iter().flat_map(|(_, from)| from.iter().map(String::as_str)).collect();
    let until = Instant::now() + cx.timeout;
    let mut ended = 0;
    loop {
        let strangers = |session: &Backend| session.address.as_deref().is_none_or(|a| !ours.contains(a));
        ended += end(link, &source, mark, strangers).await?;
        let again =
            stored_now(link, source.name, turn, cx).await.map_err(|f| f.into_fault(link.what(&source.cannot)))?;
        match again {
            Some(stored) if stored.is_new => break,
            // What is no consumer's has ended by now, so the next one that the setter sets stays.
            _ if source.checked && !source.stored.is_new => return Err(not_set(link, &source, turn)),
            _ if source.checked => return Err(changed_since(link, &source)),
            Some(_) if Instant::now() < until => {
                put(link, &source, new, cx).await?;
                mark = now(link, &source).await?;
            }
            _ => {
                return Err(Fault::new(FaultKind::Busy, link.what(&source.cannot))
                    .because("a session of the role changes it all the time"));
            }
        }
    }
    let how = if source.checked { "what the setter has set is stored here" } else { "a new SCRAM verifier" };
    let note = format!("{how}; sessions that are no consumer's, ended: {ended}");
    let mut taken =
        Taken::new(if changed || source.checked || ended > 0 { Outcome::Done { note } } else { Outcome::AlreadyDone });
    taken.seen = Seen { mark: Some(mark.to_string()), ..Seen::default() };
    Ok(taken)
}

async fn put(link: &mut PgLink, source: &Source<'_>, new: &SecretString, cx: &Cx) -> Result<(), Fault> {
    let role = role_of(link, source).await?;
    let verifier = stored::verifier(link, source.name, new, cx);
    let done =
        alter(link, &role, "format('ALTER ROLE %I PASSWORD %L', $1::text, $2::text)", &[source.name, &verifier]).await;
    done.map_err(|failure| link.fault(failure, &source.cannot, || grant_for_alter(link, &role)))
}

async fn test(link: &mut PgLink, source: &Source<'_>, turn: &Turn<'_>) -> Result<Taken, Fault> {
    let new = value(link, source, turn)?;
    let failed = |link: &PgLink, because: String, hint: &str| {
        Fault::new(FaultKind::Busy, link.what(&source.cannot)).because(because).hint(hint)
    };
    if !source.stored.is_new {
        return Err(changed_since(link, source));
    }
    let mut note = match attempt(link, source.name, new).await.map_err(|f| f.into_fault(link.what(&source.cannot)))? {
        Attempt::LetIn => String::from("the new value gets in"),
        Attempt::WrongPassword(reply) => {
            let hint = "the stored verifier is the new one: see pg_hba.conf and the server's log";
            return Err(failed(link, format!("the server does not take the new value: {reply}"), hint));
        }
        Attempt::Unknown(why) => format!("the new value could not be tried from here ({why})"),
    };
    let mark = mark_of(link, source, turn)?;
    let until = Instant::now() + FRESH.0;
    // Of a consumer that only keeps the value for others nobody knows where they log in from.
    let mut waiting: Vec<&(String, Vec<String>)> = turn.consumers.iter().filter(|(_, from)| !from.is_empty()).collect();
    let count = waiting.len();
    loop {
        let live = backends(&mut link.session, source.stored.oid).await;
        let live = live.map_err(|failure| failure.into_fault(link.what(&source.cannot)))?;
        let fresh: BTreeSet<&str> =
            live.iter().filter(|b| b.started > mark).filter_map(|b| b.address.as_deref()).collect();
        waiting.retain(|(_, from)| !from.iter().any(|address| fresh.contains(address.as_str())));
        if waiting.is_empty() {
            break;
        }
        if Instant::now() > until {
            let names: Vec<&str> = waiting.iter().map(|(name, _)| name.as_str()).collect();
            let addresses: Vec<&str> = waiting.iter().flat_map(|(_, from)| from.iter().map(String::as_str)).collect();
            return Err(failed(
                link,
                format!(
                    "no login with the new value has come from {} ({}) within {} s",
                    names.join(", "),
                    addresses.join(", "),
                    FRESH.0.as_secs()
                ),
                "see that its reload command makes it read the file and log in anew; if it comes from another address, name that under `from`; then: offboard resume",
            ));
        }
        sleep(FRESH.1).await;
    }
    note.push_str(&format!("; consumers that have logged in anew: {count}"));
    Ok(Taken::new(Outcome::Done { note }))
}

async fn finish(link: &mut PgLink, source: &Source<'_>, turn: &Turn<'_>) -> Result<Taken, Fault> {
    let mark = mark_of(link, source, turn)?;
    let ended = end(link, source, mark, |_| true).await?;
    if !source.stored.is_new {
        return Err(changed_since(link, source));
    }
    let note = format!("sessions from before the change, ended: {ended}");
    Ok(Taken::new(if ended > 0 { Outcome::Done { note } } else { Outcome::AlreadyDone }))
}

fn value<'a>(link: &PgLink, source: &Source<'_>, turn: &Turn<'a>) -> Result<&'a SecretString, Fault> {
    turn.new.ok_or_else(|| {
        Fault::new(FaultKind::Unexpected, link.what(&source.cannot)).because("the new value is not sealed any more")
    })
}

fn changed_since(link: &PgLink, source: &Source<'_>) -> Fault {
    let hint = match source.checked {
        true => {
            "if it was the setter, begin a new run with --anew; if it was not, let the setter set another one first (bao write -f …/rotate-role/…)"
        }
        false => "find out who; if the leaver cannot know the new one, waive this step",
    };
    Fault::new(FaultKind::Protected, link.what(&source.cannot))
        .because("somebody else has changed it since this run set it: it is left as they set it")
        .hint(hint)
}

/// Why what the setter says is not what this server has.
fn not_set(link: &PgLink, source: &Source<'_>, turn: &Turn<'_>) -> Fault {
    let fault =
        |kind, because: &str, hint: &str| Fault::new(kind, link.what(&source.cannot)).because(because).hint(hint);
    if source.stored.digest == turn.seen.before {
        let because = "the setter has set a new password, and this server still has the old one";
        return fault(
            FaultKind::Busy,
            because,
            "see that the setter's connection leads to this server, then: offboard resume",
        );
    }
    let because = "somebody has changed it behind the setter's back: it is left as they set it";
    fault(
        FaultKind::Protected,
        because,
        "let the setter set another one (bao write -f …/rotate-role/…), then begin a new run with --anew",
    )
}

/// Microseconds since 1970 by the server's clock.
async fn now(link: &mut PgLink, source: &Source<'_>) -> Result<i64, Fault> {
    let sql = "SELECT to_json((extract(epoch FROM clock_timestamp()) * 1000000)::bigint)::text";
    let now = link.session.row(sql, &[]).await;
    now.map_err(|failure: Failure| failure.into_fault(link.what(&source.cannot)))
}

fn mark_of(link: &PgLink, source: &Source<'_>, turn: &Turn<'_>) -> Result<i64, Fault> {
    turn.seen.mark.as_deref().and_then(|mark| mark.parse().ok()).ok_or_else(|| {
        Fault::new(FaultKind::Unexpected, link.what(&source.cannot))
            .because("it is not on record when the value was set")
    })
}

/// A live session of the role.
#[derive(Deserialize)]
struct Backend {
    pid: i64,
    /// Nothing over a Unix socket.
    address: Option<String>,
    /// As [`now`].
    started: i64,
}

async fn backends(session: &mut Session, oid: i64) -> Result<Vec<Backend>, Failure> {
    let sql = "
SELECT json_build_object('pid', pid, 'address', host(client_addr),
    'started', (extract(epoch FROM backend_start) * 1000000)::bigint)::text
FROM pg_stat_activity WHERE usesysid = $1::bigint::oid AND pid <> pg_backend_pid()";
    session.rows(sql, &[Value::Int(oid)]).await
}

/// Ends the sessions that `which` picks of those that were opened until `mark`, until none is left; says how many. A login that was under
/// way then may show up a moment later, so "none" counts only the second time.
async fn end(
    link: &mut PgLink,
    source: &Source<'_>,
    mark: i64,
    which: impl Fn(&Backend) -> bool,
) -> Result<usize, Fault> {
    let until = Instant::now() + Duration::from_secs(5);
    let mut asked = BTreeSet::new();
    let mut quiet = 0;
    loop {
        let live = backends(&mut link.session, source.stored.oid).await;
        let mut live = live.map_err(|failure| failure.into_fault(link.what(&source.cannot)))?;
        live.retain(|b| b.started <= mark && which(b));
        if live.is_empty() {
            quiet += 1;
            if quiet == 2 {
                return Ok(asked.len());
            }
        } else {
            quiet = 0;
            if Instant::now() > until {
                return Err(Fault::new(FaultKind::Busy, link.what(&source.cannot))
                    .because(format!("{} sessions are still there after pg_terminate_backend", live.len()))
                    .hint("a backend hangs in the system: see pg_stat_activity"));
            }
        }
        for backend in live {
            let sql = "SELECT to_json(pg_terminate_backend($1::bigint::int))::text";
            match link.session.row::<bool>(sql, &[Value::Int(backend.pid)]).await {
                Ok(_) => {
                    asked.insert(backend.pid);
                }
                Err(failure) => {
                    let us = identifier(&link.us.user);
                    return Err(link.fault(failure, &source.cannot, || {
                        format!("GRANT pg_signal_backend TO {us}; then: offboard resume")
                    }));
                }
            }
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// What came of a login as the role with some value.
enum Attempt {
    LetIn,
    /// The server's own words.
    WrongPassword(String),
    /// The server did not come as far as the password.
    Unknown(String),
}

/// Tries to log in; pg_hba.conf may let the role in to some databases only.
async fn attempt(link: &mut PgLink, name: &str, value: &SecretString) -> Result<Attempt, Failure> {
    const DATABASES: i64 = 16;
    if !can_be_sent(name) {
        return Ok(Attempt::Unknown("our client cannot send such a name".into()));
    }
    let sql = "SELECT to_json(datname)::text FROM pg_database
        WHERE datallowconn ORDER BY datname <> current_database(), datistemplate, datname LIMIT $1::bigint";
    let databases: Vec<String> = link.session.rows(sql, &[Value::Int(DATABASES)]).await?;
    let mut last = String::from("there is no database");
    for database in databases {
        let mut probe = link.session.as_role(name, value.clone()).to_database(&database);
        let failure = match probe.connect().await {
            Ok(()) => return Ok(Attempt::LetIn),
            Err(failure) => failure,
        };
        let routine = failure.routine.as_deref().unwrap_or("an unnamed routine");
        match failure.sqlstate.as_deref() {
            Some("28P01") if routine == "auth_failed" => {
                return Ok(Attempt::WrongPassword(format!("{failure} raised by {routine}")));
            }
            // No CONNECT on this database: the password was right.
            Some("42501") => return Ok(Attempt::LetIn),
            // No line in pg_hba.conf for this database.
            Some("28000") => last = failure.to_string(),
            _ => return Err(failure),
        }
    }
    Ok(Attempt::Unknown(last))
}

/// A look at the door that the old value is.
pub async fn look(
    link: &mut PgLink,
    door: &Door,
    control: Option<&Result<String, String>>,
    cx: &Cx,
) -> Result<Look, Failure> {
    let name = door.account.as_str();
    let known = link.secrets.iter().find(|known| known.door == door.id).cloned();
    let (role, Some(shown)) = listed(link, name).await? else {
        return Ok(Look::unproven("the listing of roles does not show our own control, so it is not complete"));
    };
    let Some(role) = role else {
        return Ok(shut(Proof::ReadBack, format!("there is no role {name:?}"), shown));
    };
    if !role.can_login {
        return Ok(shut(Proof::ReadBack, format!("role {name:?} is NOLOGIN (rolcanlogin is false)"), shown));
    }
    if let Some(Err(why)) = control {
        return Ok(Look::unproven(why.clone()));
    }
    let Some(KnownSecret { old, new, before, .. }) = known else {
        return Ok(Look::unproven("the value that the leaver may know is not known here, and was not replaced"));
    };
    let refused = match &old {
        None => None,
        Some(old) => match attempt(link, name, old).await? {
            Attempt::LetIn => {
                return Ok(open(format!("role {name:?} logged in with the value that the leaver may know")));
            }
            Attempt::WrongPassword(reply) => Some(reply),
            Attempt::Unknown(why) => {
                return Ok(Look::unproven(format!("the old value could not be tried from here: {why}")));
            }
        },
    };
    let new_gets_in = match &new {
        Some(new) => matches!(attempt(link, name, new).await?, Attempt::LetIn),
        None => false,
    };
    if let (Some(reply), true) = (&refused, new_gets_in) {
        return Ok(shut(Proof::Refused, reply.clone(), format!("role {name:?} logged in with the new value")));
    }
    // Rotated again since, or the values are gone: what is stored says whether it was changed.
    let now = if link.us.sees_passwords { stored::stored(link, name, None, cx).await? } else { None };
    let changed = match (&before, now.and_then(|stored| stored.digest)) {
        (Some(before), Some(now)) => *before != now,
        _ => false,
    };
    Ok(match (refused, changed) {
        (reply, true) => {
            let tried = reply.map_or("the old value is not kept any more".into(), |reply| {
                format!("the old value is refused: {reply}")
            });
            shut(
                Proof::ReadBack,
                format!("the stored verifier of role {name:?} is another one than the leaver's; {tried}"),
                shown,
            )
        }
        (Some(reply), false) => {
            Look::unproven(format!("the old value is refused ({reply}), but nothing shows that the new one gets in"))
        }
        (None, false) => {
            Look::unproven("the value that the leaver may know has not been replaced, or nothing shows that it was")
        }
    })
}
