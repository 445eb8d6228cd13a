//! Looks at doors. A key counts as shut only if sshd refuses it, takes our own key at the same time by the same kind of
//! connection, and the files do not have it any more. The rest is read back from the host, with an entry that is known to be there.

use super::link::SshLink;
use super::survey::Survey;
use crate::model::{Door, DoorKind, Fault, Fingerprint, Look, Proof, Verdict};
use crate::wire::shell::{Kept, Login, Probe, printable, probe, probe_and_keep};
use futures::stream::StreamExt;
use russh::keys::PublicKey;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// How the detail of a door begins whose key signs certificates: sshd does not take such a key itself, so it is not asked.
pub(super) const AUTHORITY: &str = "certificate authority: ";

/// The most keys that are asked for at one host at one time; sshd and fail2ban count each as a failed login.
const MOST_PROBES: usize = 40;

/// Accounts asked for at the same time at one host.
const AT_ONCE: usize = 3;

/// One look a door, in order.
pub(super) async fn look(link: &mut SshLink, doors: &[Door], after: bool) -> Vec<Look> {
    let mut questions: BTreeMap<&str, Vec<(Fingerprint, PublicKey)>> = BTreeMap::new();
    for (fingerprint, account, key) in doors.iter().filter_map(public_key).take(MOST_PROBES) {
        questions.entry(account).or_default().push((fingerprint, key));
    }
    let accounts: BTreeSet<&str> = doors.iter().map(|d| d.account.as_str()).collect();
    // One after the other: a probe that is under way would be listed as a session.
    let listing = listing(link, &accounts, doors, after).await;
    let mut asked = Vec::with_capacity(questions.len());
    for (account, keys) in questions {
        let mut login = link.login.clone();
        login.target.user = account.to_string();
        let colleague = listing.as_ref().ok().and_then(|survey| colleague(survey, account, doors));
        // Not in the leaver's own accounts: what is live there is ended.
        let keeping = (!after && !link.own.contains(account)).then(|| link.host.keeping.clone());
        asked.push(ask(login, keys, colleague, link.kept.remove(account), keeping));
    }
    let mut answered = Vec::with_capacity(asked.len());
    let mut asking = futures::stream::iter(asked).buffered(AT_ONCE);
    while let Some((account, keys, control, kept)) = asking.next().await {
        link.kept.extend(kept.map(|kept| (account.clone(), kept)));
        answered.push((account, keys, control));
    }
    // A refusal means something only if sshd takes keys at all just then: another one for the same account, or else our own.
    let refused = |answers: &[(Fingerprint, Probe)]| answers.iter().any(|(_, answer)| *answer == Probe::Refused);
    let mut ours = None;
    if answered.iter().any(|(_, answers, control)| control.is_none() && refused(answers)) {
        let key = link.login.key.public_key().clone();
        let user = &link.login.target.user;
        ours =
            probe(&link.login, &[key]).await.pop().map(|answer| (answer, format!("PK_OK for our own key as {user}")));
    }
    let (mut answers, mut controls) = (HashMap::new(), HashMap::new());
    for (account, keys, control) in answered {
        answers.extend(keys.into_iter().map(|(key, answer)| ((account.clone(), key), answer)));
        controls.extend(control.or_else(|| ours.clone()).map(|control| (account, control)));
    }
    let seen =
        Seen { answers, controls, listing, ourselves: link.host.target.user.clone(), own_key: link.fleet.own.clone() };
    doors.iter().map(|door| seen.look(door)).collect()
}

/// A key that sshd is asked about.
type Question = (Fingerprint, PublicKey);

/// What it says to one.
type Answer = (Fingerprint, Probe);

/// Asks sshd for the leaver's keys in one account, and for a colleague's on the same connection. One that was kept since an earlier look
/// serves as well if it shows what proves a key gone, the leaver's refused and the colleague's taken: sshd reads the key files anew for
/// every key. Whatever else is said there is asked for on a new one, which also knows what has become of the account since.
async fn ask(
    login: Login,
    keys: Vec<Question>,
    colleague: Option<Question>,
    kept: Option<Kept>,
    keeping: Option<Arc<Semaphore>>,
) -> (String, Vec<Answer>, Option<Control>, Option<Kept>) {
    let (mut fingerprints, mut all): (Vec<_>, Vec<_>) = keys.into_iter().unzip();
    if let Some((fingerprint, key)) = &colleague {
        fingerprints.push(fingerprint.clone());
        all.push(key.clone());
    }
    let proves = |answers: &Vec<Probe>| match answers.split_last() {
        Some((control, keys)) => *control == Probe::Accepted && keys.iter().all(|key| *key == Probe::Refused),
        None => false,
    };
    let again = match kept.filter(|_| colleague.is_some()) {
        Some(kept) => kept.ask(&login, &all).await.filter(proves),
        None => None,
    };
    let (answers, kept) = match again {
        Some(answers) => (answers, None),
        None => match keeping.filter(|_| colleague.is_some()).and_then(|room| room.try_acquire_owned().ok()) {
            Some(room) => probe_and_keep(&login, &all, room).await,
            None => (probe(&login, &all).await, None),
        },
    };
    let mut answers: Vec<Answer> = fingerprints.into_iter().zip(answers).collect();
    let control = colleague.and_then(|_| answers.pop()).filter(|(_, answer)| *answer == Probe::Accepted);
    let control = control.map(|(key, answer)| {
        (answer, format!("PK_OK for {key}, which stands in the same account of {}", login.target.user))
    });
    (login.target.user, answers, control, kept)
}

/// What sshd says to a key that it should take, and that in words.
type Control = (Probe, String);

/// A key of somebody else's in the account, without options, that is none of `doors`: sshd should take it on the very connection
/// on which it refuses the leaver's. Its public half is all that is needed, and nobody logs in with it.
fn colleague(survey: &Survey, account: &str, doors: &[Door]) -> Option<(Fingerprint, PublicKey)> {
    survey.plain.get(account)?.iter().filter_map(|line| PublicKey::from_openssh(line).ok()).find_map(|key| {
        let fingerprint = crate::wire::shell::fingerprint(&key);
        let sought = doors.iter().any(|d| d.kind == DoorKind::SshKey && d.object == fingerprint.0);
        // sshd has not taken DSA keys for long.
        (!sought && !matches!(key.algorithm(), russh::keys::Algorithm::Dsa)).then_some((fingerprint, key))
    })
}

/// The accounts' files and states; and by which key the live sessions in other people's accounts were opened.
async fn listing(
    link: &mut SshLink,
    accounts: &BTreeSet<&str>,
    doors: &[Door],
    after: bool,
) -> Result<Survey, Fault> {
    let survey = link.current(accounts, after).await?;
    let shared: BTreeSet<&str> = doors
        .iter()
        .filter(|d| d.kind == DoorKind::Session && !keys_of_session(&d.detail).is_empty())
        .map(|d| d.account.as_str())
        .collect();
    let pids: Vec<String> =
        survey.sessions.iter().filter(|s| shared.contains(s.account.as_str())).map(|s| s.pid.to_string()).collect();
    if pids.is_empty() { Ok(survey) } else { link.call(&format!("trace {}", pids.join(" ")), survey).await }
}

/// The public key of a key door, from its detail; none for an authority or where only the fingerprint is known.
fn public_key(door: &Door) -> Option<(Fingerprint, &str, PublicKey)> {
    if door.kind != DoorKind::SshKey || door.detail.starts_with(AUTHORITY) {
        return None;
    }
    let (_, key) = door.detail.rsplit_once("; ")?;
    let key = PublicKey::from_openssh(key).ok()?;
    let fingerprint = crate::wire::shell::fingerprint(&key);
    (fingerprint.0 == door.object).then_some((fingerprint, door.account.as_str(), key))
}

/// The keys by which sessions in somebody else's account are told; none for an account of the leaver's own.
pub(super) fn keys_of_session(detail: &str) -> Vec<&str> {
    match detail.rsplit_once("opened with ") {
        Some((_, keys)) => keys.split(' ').filter(|word| word.starts_with("SHA256:")).collect(),
        None => Vec::new(),
    }
}

/// An account's state in words.
pub(super) fn login_words(survey: &Survey, name: &str) -> String {
    let shell = survey.accounts.get(name).map(|a| a.shell.as_str()).unwrap_or("none");
    let (expires, password) = match survey.shadow.get(name) {
        None => ("no entry in shadow".to_string(), "unknown"),
        Some(shadow) => (
            match shadow.expires {
                None => "does not expire".to_string(),
                Some(day) if survey.is_expired(name) => format!("expired on day {day}"),
                Some(day) => format!("expires on day {day}"),
            },
            shadow.password.as_str(),
        ),
    };
    format!("{expires}, password {password}, shell {}", printable(shell, 80))
}

struct Seen {
    answers: HashMap<(String, Fingerprint), Probe>,
    controls: HashMap<String, Control>,
    listing: Result<Survey, Fault>,
    ourselves: String,
    own_key: Fingerprint,
}

fn open(reply: String, control: Option<String>) -> Look {
    Look { verdict: Verdict::Open { reply }, control, residual: None }
}

fn shut(proof: Proof, reply: String, control: String) -> Look {
    Look { verdict: Verdict::Shut { proof, reply }, control: Some(control), residual: None }
}

impl Seen {
    fn look(&self, door: &Door) -> Look {
        let survey = match &self.listing {
            Ok(survey) => survey,
            Err(fault) => {
                // That sshd takes a key is so whatever the listing says.
                let accepted = self.answers.get(&(door.account.clone(), Fingerprint(door.object.clone())));
                return match accepted {
                    Some(Probe::Accepted) if door.kind == DoorKind::SshKey => open(accepts(door), None),
                    _ => Look::unproven(format!("the host could not be read: {fault}")),
                };
            }
        };
        match door.kind {
            DoorKind::SshKey => self.key(survey, door),
            DoorKind::Login => self.login(survey, door),
            DoorKind::Session => self.session(survey, door),
            DoorKind::Job => self.job(survey, door),
            DoorKind::Membership => self.membership(survey, door),
            DoorKind::Password | DoorKind::Token | DoorKind::SharedSecret | DoorKind::Certificate | DoorKind::Peer => {
                Look::unproven("this kind of door is not looked at here")
            }
        }
    }

    fn key(&self, survey: &Survey, door: &Door) -> Look {
        let key = Fingerprint(door.object.clone());
        let standing = survey
            .standing
            .iter()
            .find(|s| s.fingerprint == key && survey.file_of(s).account == door.account)
            .map(|s| format!("{} line {}", printable(&survey.file_of(s).path, 200), s.line));
        let unread = survey.unread.iter().find(|(file, _)| file.account == door.account);
        match (self.answers.get(&(door.account.clone(), key)), standing) {
            (Some(Probe::Accepted), _) => open(accepts(door), None),
            (Some(Probe::Refused), None) => match self.controls.get(&door.account) {
                Some((Probe::Accepted, control)) => match unread {
                    Some((file, why)) => Look::unproven(format!("{} of the same account: {why}", file.path)),
                    None => shut(
                        Proof::Refused,
                        format!(
                            "sshd answers FAILURE to {} as {}, and its files do not have it",
                            door.object, door.account
                        ),
                        control.clone(),
                    ),
                },
                Some((Probe::Refused, _)) => {
                    Look::unproven("sshd refuses our own key too: it refuses every key just now")
                }
                Some((Probe::Unknown(why), _)) => {
                    Look::unproven(format!("refused, but our own key got no answer: {why}"))
                }
                None => Look::unproven("refused, but our own key was not tried"),
            },
            (Some(Probe::Refused), Some(place)) => Look::unproven(format!(
                "sshd refuses it just now, yet it stands in {place}: account state, permissions or options keep it out"
            )),
            (Some(Probe::Unknown(why)), standing) => Look::unproven(match standing {
                Some(place) => format!("sshd gave no answer ({why}); it stands in {place}"),
                None => format!("sshd gave no answer ({why}); its files do not have it"),
            }),
            (None, Some(place)) => open(format!("it stands in {place}"), None),
            (None, None) => match (unread, self.own_key_line(survey)) {
                (Some((file, why)), _) => Look::unproven(format!("{}: {why}", file.path)),
                (None, Some(control)) => shut(
                    Proof::ReadBack,
                    format!("none of the files that sshd reads for {} has it", door.account),
                    control,
                ),
                (None, None) => Look::unproven("no file has it, but ours does not have our own key either"),
            },
        }
    }

    /// Our own key in our own file: the entry that shows that the listing works.
    fn own_key_line(&self, survey: &Survey) -> Option<String> {
        let ours = survey
            .standing
            .iter()
            .find(|s| s.fingerprint == self.own_key && survey.file_of(s).account == self.ourselves)?;
        Some(format!("our own key is listed in {}", survey.file_of(ours).path))
    }

    /// Our own account in the same listing, not expired.
    fn own_account(&self, survey: &Survey) -> Option<String> {
        let known = survey.accounts.contains_key(&self.ourselves) && survey.shadow.contains_key(&self.ourselves);
        (known && !survey.is_expired(&self.ourselves)).then(|| format!("{} is listed and not expired", self.ourselves))
    }

    fn login(&self, survey: &Survey, door: &Door) -> Look {
        let Some(control) = self.own_account(survey) else {
            return Look::unproven(format!(
                "the listing does not show our own account {} as it should be",
                self.ourselves
            ));
        };
        let words = login_words(survey, &door.account);
        if !survey.accounts.contains_key(&door.account) {
            return shut(Proof::ReadBack, format!("there is no account {}", door.account), control);
        }
        if survey.is_expired(&door.account) {
            return shut(Proof::ReadBack, words, control);
        }
        open(words, Some(control))
    }

    fn session(&self, survey: &Survey, door: &Door) -> Look {
        let mine: Vec<u32> = survey.sessions.iter().filter(|s| s.account == door.account).map(|s| s.pid).collect();
        let Some((roots, _)) = survey.processes.get(&0) else {
            return Look::unproven("the listing of processes does not even show root's");
        };
        let control = format!("{roots} processes of root are listed");
        let keys = keys_of_session(&door.detail);
        if keys.is_empty() {
            let Some(unix) = survey.accounts.get(&door.account) else {
                return shut(Proof::ReadBack, format!("there is no account {}", door.account), control);
            };
            return match survey.processes.get(&unix.uid) {
                Some((many, names)) => open(format!("{many} processes: {}", printable(names, 120)), Some(control)),
                None if !mine.is_empty() => open(format!("{} ssh sessions", mine.len()), Some(control)),
                None => shut(Proof::ReadBack, "no process and no session".into(), control),
            };
        }
        let ours: Option<u32> = survey.said("self").and_then(|pid| pid.parse().ok());
        let mut untold = Vec::new();
        for pid in mine.into_iter().filter(|pid| Some(*pid) != ours) {
            match survey.traces.get(&pid).filter(|t| t.account == door.account) {
                Some(trace) if keys.contains(&trace.fingerprint.0.as_str()) => {
                    let from = printable(&trace.from, 60);
                    return open(
                        format!("session {pid} from {from} was opened with {}", trace.fingerprint),
                        Some(control),
                    );
                }
                Some(_) => {}
                None => untold.push(pid),
            }
        }
        if untold.is_empty() {
            return shut(
                Proof::ReadBack,
                format!("no session of {} was opened with the leaver's keys", door.account),
                control,
            );
        }
        Look::unproven(format!("sshd's log does not say which key opened the sessions {untold:?} of {}", door.account))
    }

    fn job(&self, survey: &Survey, door: &Door) -> Look {
        let Some(control) = self.own_account(survey) else {
            return Look::unproven("the listing does not show our own account as it should be");
        };
        match survey.jobs.iter().find(|j| j.account == door.account) {
            Some(job) => open(format!("{}: {}", job.kind, printable(&job.what, 120)), Some(control)),
            None => shut(Proof::ReadBack, "no crontab, no at job, no lingering".into(), control),
        }
    }

    fn membership(&self, survey: &Survey, door: &Door) -> Look {
        let Some(root) = survey.groups.iter().find(|g| g.gid == 0) else {
            return Look::unproven("the listing of groups does not even show root's");
        };
        let control = format!("group {} is listed", root.name);
        match survey.groups_of(&door.account).find(|(group, _)| group.name == door.object) {
            Some((_, true)) => open(format!("{} is its primary group", door.object), Some(control)),
            Some((_, false)) => open(format!("{} is a member of {}", door.account, door.object), Some(control)),
            None => shut(Proof::ReadBack, format!("{} is no member of {}", door.account, door.object), control),
        }
    }
}

fn accepts(door: &Door) -> String {
    format!("sshd answers PK_OK to {} as {}", door.object, door.account)
}
