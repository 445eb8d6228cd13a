//! The source of a shared secret: a user whose password programs log in with. A Redis user may have several passwords, so the new one is
//! added first, and the old one is taken away when every program has logged in anew: there is no moment at which a program is refused.
//!
//! Users are not replicated, so every turn is taken on every server of the system that has the user. A server is given the digest of a
//! password, never the password.
//!
//! Passwords are added and taken away one by one, by single commands, so two rotations of one user cannot undo each other; and nothing is
//! added where somebody else has changed the passwords since `create`.

use super::apply::keep;
use super::clients::Client;
use super::link::{self, RedisLink};
use super::look::{Attempt, attempt, open, shown, shut};
use super::user::{ACL_SETUSER, User, digest};
use crate::connector::{Cx, KnownSecret, Taken, Turn};
use crate::model::{
    Door, Fault, FaultKind, Finding, FindingKind, Look, Outcome, Part, Phase, PlaceId, Proof, Seen,
};
use crate::wire::resp::{Failure, Session};
use crate::wire::sql::presentable;
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

/// One server that has the user.
struct Node {
    address: String,
    session: Session,
    sentinel: bool,
    /// Changes when the server is started anew; its connections are numbered from the beginning then.
    run: String,
    user: User,
}

/// The user, as one turn finds it.
struct Source<'a> {
    name: &'a str,
    nodes: Vec<Node>,
    cannot: String,
}

/// How far a server had come when the value was set: connections with a greater number are newer.
#[derive(Serialize, Deserialize)]
struct Mark {
    run: String,
    client: u64,
}

/// By server.
type Marks = BTreeMap<String, Mark>;

/// See [`crate::connector::Link::rotate`].
pub async fn rotate(link: &mut RedisLink, turn: &Turn<'_>, cx: &Cx) -> Result<Taken, Fault> {
    let Part::Source { account } = turn.part else {
        return Err(Fault::new(FaultKind::Misconfigured, link.what(format!("{} a consumer", turn.phase)))
            .because("a Redis user can be the source of a secret, not a consumer"));
    };
    let cannot = format!("{} the password of user {account:?}", turn.phase);
    if link.is_ours(account) {
        return Err(Fault::new(FaultKind::Protected, link.what(&cannot))
            .because("it is offboard's own user, or its control")
            .hint("another administrator has to change this password by hand"));
    }
    let nodes = nodes(link, account).await.map_err(|(at, failure)| {
        link.fault(failure, format!("{cannot} at {at}"), "acl|getuser")
    })?;
    if !nodes.iter().any(|node| node.address == link.place.address) {
        return Err(Fault::new(FaultKind::Misconfigured, link.what(&cannot))
            .because(format!("there is no such user at {}", link.place.address))
            .hint("correct `source` in offboard.yaml, then: offboard resume"));
    }
    let source = Source { name: account, nodes, cannot };
    match turn.phase {
        Phase::Create => create(link, source, turn, cx).await,
        Phase::Set => set(link, source, turn, cx).await,
        Phase::Test => test(link, source, turn).await,
        Phase::Finish => finish(link, source, turn, cx).await,
    }
}

/// Every server that has the user, over a connection each.
async fn nodes(link: &RedisLink, name: &str) -> Result<Vec<Node>, (String, Failure)> {
    let mut nodes = Vec::new();
    for (address, server) in &link.hosts {
        let at = |failure| (address.clone(), failure);
        let mut session = link.session.at(server.clone());
        let Some(user) = link::user(&mut session, name).await.map_err(at)? else { continue };
        let facts = link::facts(&mut session).await.map_err(at)?;
        let (sentinel, run) = (facts.is_sentinel(), facts.field("run_id").to_string());
        nodes.push(Node { address: address.clone(), session, sentinel, run, user });
    }
    Ok(nodes)
}

/// What `create` remembers, as [`Seen::before`]: keyed digests, since those that a server keeps are unsalted.
#[derive(Serialize, Deserialize)]
struct Before {
    /// Of everything that was stored.
    stored: String,
    /// Of the old password alone.
    old: String,
    /// Of each password that was stored anywhere: all of them go, since nobody knows who knows them. What somebody adds later is not ours to
    /// take away.
    #[serde(default)]
    each: BTreeSet<String>,
}

impl Before {
    fn read(text: Option<&String>) -> Option<Self> {
        serde_json::from_str(text?).ok()
    }
}

/// A keyed digest.
fn marked(link: &RedisLink, name: &str, text: &str, cx: &Cx) -> String {
    let key = cx.secret_salt("digest", &PlaceId(link.system.0.clone()), name);
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("HMAC takes a key of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A keyed digest of what is stored on all servers, but for the new password.
fn stored(link: &RedisLink, source: &Source<'_>, new: Option<&str>, cx: &Cx) -> String {
    let of_node = |node: &Node| {
        let mut others: Vec<&str> = node.user.digests.iter().map(String::as_str).filter(|d| Some(*d) != new).collect();
        others.sort_unstable();
        format!("{} {} {};", node.address, node.user.nopass, others.join(" "))
    };
    marked(link, source.name, &source.nodes.iter().map(of_node).collect::<String>(), cx)
}

async fn create(link: &mut RedisLink, mut source: Source<'_>, turn: &Turn<'_>, cx: &Cx) -> Result<Taken, Fault> {
    let us = link.session.user().to_string();
    let cannot = source.cannot.clone();
    let fault = |kind, because: String, hint: String| {
        Err(Fault::new(kind, link.what(&cannot)).because(because).hint(hint))
    };
    let before = Before {
        stored: stored(link, &source, None, cx),
        old: turn.old.map(|old| marked(link, source.name, &digest(old), cx)).unwrap_or_default(),
        each: source.nodes.iter().flat_map(|n| &n.user.digests).map(|d| marked(link, source.name, d, cx)).collect(),
    };
    let mut taken = Taken::new(Outcome::Done { note: format!("may be changed, on servers: {}", source.nodes.len()) });
    taken.seen.before = serde_json::to_string(&before).ok();
    let ours: BTreeSet<&str> = addresses(turn);
    for node in &mut source.nodes {
        let at = &node.address.clone();
        let of_server = |failure: Failure| link.fault(failure, format!("{cannot} at {at}"), "acl|list");
        let users = link::users(&mut node.session).await.map_err(of_server)?;
        let may = users.iter().any(|user| user.name == us && user.may(&ACL_SETUSER));
        if !may {
            return fault(
                FaultKind::Forbidden,
                format!("our user may not change it at {at}"),
                format!("{}; then: offboard resume", link.grant("acl|setuser")),
            );
        }
        let wrong = match &node.user {
            user if !user.enabled => Some("the user is off, so no program uses it"),
            user if user.nopass => Some("the user needs no password (nopass), so any value gets in"),
            user if user.passwords == 0 => Some("the user has no password"),
            _ => None,
        };
        if let Some(wrong) = wrong {
            let hint = "take the secret out of offboard.yaml, or give the user a password of its own first";
            return fault(FaultKind::Misconfigured, format!("{wrong} (at {at})"), hint.into());
        }
        let clients = clients(node).await.map_err(of_server)?;
        let served = |client: &&Client| client.user == source.name && !ours.contains(client.address.as_str());
        let server = clients.iter().filter(served).find(|client| client.is_replica() || client.is_sentinel());
        if let Some(client) = server {
            return fault(
                FaultKind::Misconfigured,
                format!("a server of yours at {} logs in with it at {at}, and no consumer stands for it", presentable(&client.address)),
                "give replicas and Sentinels a user of their own (masteruser, sentinel auth-user), then: offboard resume".into(),
            );
        }
        if let Some(old) = turn.old {
            match attempt(&node.session, source.name, old).await.map_err(of_server)? {
                Attempt::LetIn => {}
                Attempt::Refused(reply) => {
                    return fault(
                        FaultKind::Misconfigured,
                        format!("the value in the consumers' files is not the user's password at {at}: {reply}"),
                        "somebody has changed one and not the other: mend that first, then: offboard resume".into(),
                    );
                }
            }
        }
        if node.user.passwords > 1 {
            taken.findings.push(Finding {
                kind: FindingKind::Configuration,
                place: Some(link.place.id.clone()),
                account: Some(source.name.to_string()),
                what: format!(
                    "user {:?} has {} passwords at {at}: all of them are taken away, since nobody knows who knows them",
                    source.name, node.user.passwords
                ),
                hint: "a program that logs in with another one than the consumers' files have is locked out: name it as a consumer".into(),
            });
        }
    }
    Ok(taken)
}

async fn set(link: &mut RedisLink, mut source: Source<'_>, turn: &Turn<'_>, cx: &Cx) -> Result<Taken, Fault> {
    let new = digest(value(link, &source, turn)?);
    let everywhere = source.nodes.iter().all(|node| node.user.digests.contains(&new));
    let unchanged = Before::read(turn.seen.before.as_ref())
        .is_some_and(|before| before.stored == stored(link, &source, Some(&new), cx));
    if !everywhere && !unchanged {
        return Err(Fault::new(FaultKind::Protected, link.what(&source.cannot))
            .because("somebody else has changed its passwords since this run looked: they are left as they are")
            .hint("if the leaver cannot know the new one, waive this step; if they can, change it by hand, or waive it and start a new run with --anew"));
    }
    let password = format!("#{new}");
    let (mut kept, mut marks) = ("", Marks::new());
    for node in &mut source.nodes {
        let at = format!("{} at {}", source.cannot, node.address);
        if !node.user.digests.contains(&new) {
            let done = node.session.call(&["ACL", "SETUSER", source.name, &password]).await;
            done.map_err(|failure| link.fault(failure, &at, "acl|setuser"))?;
        }
        kept = keep(&mut node.session, node.sentinel)
            .await
            .map_err(|(failure, command)| link.fault(failure, format!("{at}: it is not kept over a restart"), command))?;
        // Connections are numbered in order: what is newer than this one of ours was opened after the change.
        let client = fresh_number(node).await.map_err(|failure| link.fault(failure, &at, "client|id"))?;
        marks.insert(node.address.clone(), Mark { run: node.run.clone(), client });
    }
    let note = format!("a second password, on servers: {}; {kept}", source.nodes.len());
    let mut taken = Taken::new(if everywhere { Outcome::AlreadyDone } else { Outcome::Done { note } });
    if turn.seen.mark.is_none() || !everywhere {
        taken.seen = Seen { mark: serde_json::to_string(&marks).ok(), ..Seen::default() };
    }
    Ok(taken)
}

async fn test(link: &mut RedisLink, mut source: Source<'_>, turn: &Turn<'_>) -> Result<Taken, Fault> {
    let new = value(link, &source, turn)?;
    let failed = |because: String, hint: &str| {
        Fault::new(FaultKind::Busy, link.what(&source.cannot)).because(because).hint(hint)
    };
    let stored = digest(new);
    if !source.nodes.iter().all(|node| node.user.digests.contains(&stored)) {
        return Err(changed_since(link, &source));
    }
    let marks = marks(link, &source, turn)?;
    let until = Instant::now() + FRESH.0;
    // Whose addresses are not known cannot be told from others.
    let mut waiting: Vec<&(String, Vec<String>)> = turn.consumers.iter().filter(|(_, from)| !from.is_empty()).collect();
    let consumers = addresses(turn);
    loop {
        // A login says nothing of which password it used, and both are good: only when a program has left its old connections does it
        // work with the new one.
        let mut old = BTreeSet::new();
        for node in &mut source.nodes {
            let live = clients(node).await.map_err(|failure| link.fault(failure, &source.cannot, "client|list"))?;
            let mark = mark_of(&marks, node);
            let (fresh, older): (Vec<&Client>, Vec<&Client>) =
                live.iter().filter(|client| client.user == source.name).partition(|client| client.id > mark);
            waiting.retain(|(_, from)| !from.iter().any(|address| fresh.iter().any(|client| client.address == *address)));
            let theirs = older.iter().filter(|client| consumers.contains(client.address.as_str()));
            old.extend(theirs.map(|client| client.address.clone()));
        }
        if waiting.is_empty() && old.is_empty() {
            break;
        }
        if Instant::now() > until {
            let seconds = FRESH.0.as_secs();
            let because = if waiting.is_empty() {
                let old = presentable(&old.into_iter().collect::<Vec<_>>().join(", "));
                format!("after {seconds} s connections from before the new value was set are still in use, from {old}")
            } else {
                let names: Vec<&str> = waiting.iter().map(|(name, _)| name.as_str()).collect();
                let from: Vec<&str> = waiting.iter().flat_map(|(_, from)| from.iter().map(String::as_str)).collect();
                let (names, from) = (names.join(", "), from.join(", "));
                format!("no login since the new value was set has come from {names} ({from}) within {seconds} s")
            };
            return Err(failed(
                because,
                "see that its reload command makes it read the file, log in anew and drop its old connections (a restart does); if it comes from another address, name that under `from`; then: offboard resume",
            ));
        }
        sleep(FRESH.1).await;
    }
    // Only now: our own login must not pass for a consumer's.
    for node in &source.nodes {
        match attempt(&node.session, source.name, new).await {
            Ok(Attempt::LetIn) => {}
            Ok(Attempt::Refused(_)) => return Err(changed_since(link, &source)),
            Err(failure) => return Err(failure.into_fault(link.what(&source.cannot))),
        }
    }
    let seen = turn.consumers.iter().filter(|(_, from)| !from.is_empty()).count();
    let note = format!("the new value gets in; consumers that have logged in anew: {seen}");
    Ok(Taken::new(Outcome::Done { note }))
}

async fn finish(link: &mut RedisLink, mut source: Source<'_>, turn: &Turn<'_>, cx: &Cx) -> Result<Taken, Fault> {
    let new = digest(value(link, &source, turn)?);
    if !source.nodes.iter().all(|node| node.user.digests.contains(&new)) {
        return Err(changed_since(link, &source));
    }
    let before = Before::read(turn.seen.before.as_ref()).ok_or_else(|| {
        Fault::new(FaultKind::Unexpected, link.what(&source.cannot)).because("what was stored before is not on record")
    })?;
    // What the leaver may know is what was stored when the run began; whatever else is there now, somebody has added since.
    let known = |digest: &String| {
        let marked = marked(link, source.name, digest, cx);
        marked == before.old || before.each.contains(&marked)
    };
    let strange = |node: &Node| node.user.nopass || node.user.digests.iter().any(|d| *d != new && !known(d));
    if source.nodes.iter().any(strange) {
        return Err(changed_since(link, &source));
    }
    let leaving: Vec<Vec<String>> = source
        .nodes
        .iter()
        .map(|node| node.user.digests.iter().filter(|d| **d != new).map(|d| format!("!{d}")).collect())
        .collect();
    let marks = marks(link, &source, turn)?;
    let consumers = addresses(turn);
    let all_known = turn.consumers.iter().all(|(_, from)| !from.is_empty());
    let (mut changed, mut ended, mut kept_open) = (false, 0, 0);
    for (node, leaving) in source.nodes.iter_mut().zip(&leaving) {
        let at = format!("{} at {}", source.cannot, node.address);
        if !leaving.is_empty() {
            let mut command = vec!["ACL", "SETUSER", source.name];
            command.extend(leaving.iter().map(String::as_str));
            let done = node.session.call(&command).await;
            done.map_err(|failure| link.fault(failure, &at, "acl|setuser"))?;
            changed = true;
        }
        keep(&mut node.session, node.sentinel)
            .await
            .map_err(|(failure, command)| link.fault(failure, format!("{at}: it is not kept over a restart"), command))?;
        let mark = mark_of(&marks, node);
        let (gone, left) = end(link, node, source.name, &at, cx, |client| {
            client.id <= mark || (all_known && !consumers.contains(client.address.as_str()))
        })
        .await?;
        ended += gone;
        kept_open += left;
    }
    let note = format!(
        "the old password is taken away; connections from before the change, or from elsewhere, ended: {ended}; consumers' newer ones, kept: {kept_open}"
    );
    let mut taken = Taken::new(if changed || ended > 0 { Outcome::Done { note } } else { Outcome::AlreadyDone });
    if kept_open > 0 {
        taken.findings.push(Finding {
            // Of programs whose addresses are not known, anybody's may be among them.
            kind: if all_known { FindingKind::NotCovered } else { FindingKind::Unknown },
            place: Some(link.place.id.clone()),
            account: Some(source.name.to_string()),
            what: format!(
                "{kept_open} connections of user {:?} were opened while the old and the new value were good: Redis does not say with which",
                source.name
            ),
            hint: format!("to be sure, end them when the programs can bear it: CLIENT KILL USER {}", presentable(source.name)),
        });
    }
    Ok(taken)
}

/// The addresses that consumers' logins come from.
fn addresses<'a>(turn: &Turn<'a>) -> BTreeSet<&'a str> {
    turn.consumers.iter().flat_map(|(_, from)| from.iter().map(String::as_str)).collect()
}

fn value<'a>(link: &RedisLink, source: &Source<'_>, turn: &Turn<'a>) -> Result<&'a SecretString, Fault> {
    turn.new.ok_or_else(|| {
        Fault::new(FaultKind::Unexpected, link.what(&source.cannot)).because("the new value is not sealed any more")
    })
}

fn changed_since(link: &RedisLink, source: &Source<'_>) -> Fault {
    Fault::new(FaultKind::Protected, link.what(&source.cannot))
        .because("somebody else has changed its passwords since this run set the new one: they are left as they are")
        .hint("find out who; if the leaver cannot know the new one, waive this step")
}

fn marks(link: &RedisLink, source: &Source<'_>, turn: &Turn<'_>) -> Result<Marks, Fault> {
    turn.seen.mark.as_deref().and_then(|marks| serde_json::from_str(marks).ok()).ok_or_else(|| {
        Fault::new(FaultKind::Unexpected, link.what(&source.cannot)).because("it is not on record when the value was set")
    })
}

/// The mark of one server; nothing is older than a server that was started since.
fn mark_of(marks: &Marks, node: &Node) -> u64 {
    marks.get(&node.address).filter(|mark| mark.run == node.run).map_or(0, |mark| mark.client)
}

/// The number of a connection that is made now.
async fn fresh_number(node: &Node) -> Result<u64, Failure> {
    let number = node.session.another().call(&["CLIENT", "ID"]).await?.text().parse();
    number.map_err(|_| Failure::new(FaultKind::Unexpected, "CLIENT ID gave no number"))
}

async fn clients(node: &mut Node) -> Result<Vec<Client>, Failure> {
    super::clients::others(&mut node.session).await
}

/// Ends the connections that `which` picks, until none is left; says how many, and how many others of the user there are. A login that was
/// under way may show up a moment later, so "none" counts only the second time.
async fn end(
    link: &RedisLink,
    node: &mut Node,
    name: &str,
    cannot: &str,
    cx: &Cx,
    which: impl Fn(&Client) -> bool,
) -> Result<(usize, usize), Fault> {
    let until = Instant::now() + cx.timeout;
    let mut asked = BTreeSet::new();
    let mut quiet = 0;
    loop {
        let live = clients(node).await.map_err(|failure| link.fault(failure, cannot, "client|list"))?;
        let (old, others): (Vec<&Client>, Vec<&Client>) =
            live.iter().filter(|client| client.user == name).partition(|client| which(client));
        if old.is_empty() {
            quiet += 1;
            if quiet == 2 {
                return Ok((asked.len(), others.len()));
            }
        } else {
            quiet = 0;
            if Instant::now() > until {
                return Err(Fault::new(FaultKind::Busy, link.what(cannot))
                    .because(format!("{} connections are still there after CLIENT KILL", old.len())));
            }
        }
        for client in old {
            let killed = node.session.call(&["CLIENT", "KILL", "ID", &client.id.to_string()]).await;
            killed.map_err(|failure| link.fault(failure, cannot, "client|kill"))?;
            asked.insert(client.id);
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// A look at the door that the old value is, on every server that has the user.
pub async fn look(
    link: &mut RedisLink,
    door: &Door,
    control: Option<&Result<String, String>>,
    cx: &Cx,
) -> Result<Look, Failure> {
    let name = door.account.as_str();
    let known = link.secrets.iter().find(|known| known.door == door.id).cloned();
    let users = link::users(&mut link.session).await?;
    let Some(shown) = shown(link, &users) else {
        return Ok(Look::unproven("the listing of users does not show our own control, so it is not complete"));
    };
    let nodes = match nodes(link, name).await {
        Ok(nodes) => nodes,
        Err((at, failure)) => return Ok(Look::unproven(format!("{at} did not say: {failure}"))),
    };
    if nodes.is_empty() {
        return Ok(shut(Proof::ReadBack, format!("there is no user {name:?}"), shown));
    }
    if nodes.iter().all(|node| !node.user.enabled) {
        return Ok(shut(Proof::ReadBack, format!("user {name:?} is off"), shown));
    }
    if let Some(Err(why)) = control {
        return Ok(Look::unproven(why.clone()));
    }
    let Some(KnownSecret { old, new, before, .. }) = known else {
        return Ok(Look::unproven("the value that the leaver may know is not known here, and was not replaced"));
    };
    let (mut refused, mut new_gets_in) = (None, new.is_some());
    for node in &nodes {
        if let Some(old) = &old {
            match attempt(&node.session, name, old).await? {
                Attempt::LetIn => {
                    let at = &node.address;
                    return Ok(open(format!("user {name:?} logged in at {at} with the value that the leaver may know")));
                }
                Attempt::Refused(reply) => refused = Some(reply),
            }
        }
        if let Some(new) = &new {
            new_gets_in &= matches!(attempt(&node.session, name, new).await?, Attempt::LetIn);
        }
    }
    // A password beside the new one: whoever knows it gets in, and we do not. Where the new one is stored no more, nobody here can say whose the
    // others are: a later rotation's, or one that a session of the leaver's has set.
    let others = new.as_ref().map(digest).map(|new| {
        nodes.iter().flat_map(|node| &node.user.digests).filter(|digest| **digest != new).collect::<BTreeSet<_>>().len()
    });
    if let Some(others @ 1..) = others {
        return Ok(Look::unproven(format!("user {name:?} has {others} passwords besides the new one, and nobody knows who knows them")));
    }
    if let (Some(reply), true) = (&refused, new_gets_in) {
        return Ok(shut(Proof::Refused, reply.clone(), format!("user {name:?} logged in with the new value")));
    }
    // Rotated again since, or the values are gone: what is stored says whether the old one is still among it.
    let nopass = nodes.iter().any(|node| node.user.nopass);
    let gone = Before::read(before.as_ref()).is_some_and(|before| {
        let mut all = nodes.iter().flat_map(|node| &node.user.digests);
        !before.old.is_empty() && !nopass && all.all(|digest| {
            let marked = marked(link, name, digest, cx);
            marked != before.old && !before.each.contains(&marked)
        })
    });
    Ok(match (refused, gone) {
        (reply, true) => {
            let tried = reply.map_or("the old value is not kept any more".into(), |reply| format!("the old value is refused: {reply}"));
            shut(Proof::ReadBack, format!("the password that the leaver may know is none of those that user {name:?} has; {tried}"), shown)
        }
        (Some(reply), false) => Look::unproven(format!("the old value is refused ({reply}), but nothing shows that the new one gets in")),
        (None, false) => Look::unproven("the value that the leaver may know has not been replaced, or nothing shows that it was"),
    })
}
